//! One path, many users: tunnels beside each other, and one tunnel's connections among themselves. Virtual time.

use crate::sim::link::Shape;
use crate::sim::measure::{Bulk, line_rate, options};
use crate::sim::rival::{Kind, Rival};
use crate::sim::{Role, World};
use kcptun::time::{Duration, MS, SEC};

/// Two tunnels that do not know of each other download through one bottleneck; the second begins `later` than the first.
/// Measured over 15 s, 5 s after the second began: the smaller part of what both got, and both as a share of the line.
fn neighbours(shape: Shape, later: Duration, seed: u64) -> (f64, f64) {
    let mut worlds = [seed, seed + 100].map(|seed| World::new(options(shape, seed)));
    for way in 0..2 {
        let [first, second] = &mut worlds;
        second.links[way].share_bottleneck(&first.links[way]);
    }
    let start = worlds[0].now;
    let first = Bulk::start(&mut worlds[0], 1, false);
    World::run_together(&mut worlds, start.after(later));
    let second = Bulk::start(&mut worlds[1], 1, false);
    World::run_together(&mut worlds, start.after(later + 5 * SEC));
    let received = |worlds: &[World; 2]| [first.received(&worlds[0]), second.received(&worlds[1])];
    let before = received(&worlds);
    World::run_together(&mut worlds, start.after(later + 20 * SEC));
    let after = received(&worlds);
    let got = [0, 1].map(|i| (after[i] - before[i]) as f64);
    let sum = got[0] + got[1];
    println!(
        "{} % loss, {} s later, seed {seed}: {:.3} and {:.3} of the line",
        shape.loss * 100.0,
        later.as_secs(),
        got[0] / 15.0 / line_rate(&shape),
        got[1] / 15.0 / line_rate(&shape),
    );
    (got[0].min(got[1]) / sum, sum / 15.0 / line_rate(&shape))
}

/// Loss in percent, the queue in ms, and the least part of what both got that either may have: in the median of three worlds,
/// for who begins when decides for a while, and one world in a few is far from the others.
fn share_with_a_neighbour(later: Duration, cases: [(f64, u64, f64); 3]) {
    for (loss, queue, least) in cases {
        let case = format!("{loss} %, a queue of {queue} ms");
        let mut smaller = [1, 2, 3].map(|seed| {
            let (smaller, sum) = neighbours(Shape::path(60, loss, 50.0, queue), later, seed);
            assert!(sum >= 0.85, "{sum:.3} of the line at {case}");
            smaller
        });
        smaller.sort_by(f64::total_cmp);
        assert!(smaller[1] >= least, "{smaller:.3?} of it at {case}");
    }
}

#[test]
fn two_tunnels_that_begin_together_share_a_bottleneck() {
    share_with_a_neighbour(
        Duration::ZERO,
        [(0.0, 50, 0.40), (1.0, 50, 0.40), (0.0, 20, 0.33)],
    );
}

#[test]
fn a_second_tunnel_gets_its_share_of_a_bottleneck_in_use() {
    share_with_a_neighbour(5 * SEC, [(0.0, 50, 0.37), (1.0, 50, 0.37), (0.0, 20, 0.35)]);
}

/// A download beside a TCP flow that goes the same way, both from the start; over 20 s after 5 s: what each has of both.
fn beside(kind: Kind, shape: Shape, seed: u64) -> [f64; 2] {
    let mut world = World::new(options(shape, seed));
    let start = world.now;
    let mut rival = Rival::new(kind, &world.links[1], seed + 100, start);
    let bulk = Bulk::start(&mut world, 1, false);
    rival.run_beside(&mut world, start.after(5 * SEC));
    let before = [bulk.received(&world), rival.delivered];
    rival.run_beside(&mut world, start.after(25 * SEC));
    let after = [bulk.received(&world), rival.delivered];
    let got = [0, 1].map(|i| (after[i] - before[i]) as f64);
    let sum = got[0] + got[1];
    println!(
        "{kind:?} {} ms, {} Mbit/s, a queue of {} ms, {} %, seed {seed}: {:.3} ours, {:.3} theirs, of the line {:.3}",
        2 * shape.delay / MS,
        shape.rate / 1e6,
        shape.queue / MS,
        shape.loss * 100.0,
        got[0] / sum,
        got[1] / sum,
        sum / 20.0 / line_rate(&shape)
    );
    assert!(sum / 20.0 >= 0.85 * line_rate(&shape), "of the line");
    got.map(|bytes| bytes / sum)
}

/// Round trip, loss, Mbit/s, queue, and what each has at least.
fn share_with_tcp(kind: Kind, cases: &[(u64, f64, f64, u64, [f64; 2])]) {
    for &(rtt, loss, mbit, queue, least) in cases {
        for seed in [1, 2] {
            let got = beside(kind, Shape::path(rtt, loss, mbit, queue), seed);
            let kept = got[0] >= least[0] && got[1] >= least[1];
            assert!(kept, "{got:.3?} of it for {least:?}");
        }
    }
}

#[test]
fn bbr_and_a_tunnel_share_a_bottleneck() {
    // wanted: a third for either. Beside BBR on a queue of half a round trip a tunnel gets a seventh
    let cases = [
        (100, 0.0, 100.0, 50, [0.10, 0.33]),
        (100, 1.0, 100.0, 50, [0.10, 0.33]),
        (60, 0.0, 50.0, 5, [0.10, 0.33]),
        (60, 1.0, 50.0, 5, [0.10, 0.33]),
        (40, 0.0, 20.0, 400, [0.10, 0.33]),
        (20, 0.0, 200.0, 20, [0.15, 0.33]),
    ];
    share_with_tcp(Kind::Bbr, &cases);
}

/// What cubic gets on a path with random loss, or with next to no queue, it owes to itself.
#[test]
fn cubic_leaves_a_tunnel_its_share() {
    // wanted: a quarter for us
    let cases = [
        (100, 0.0, 100.0, 50, [0.20, 0.0]),
        (60, 0.0, 50.0, 100, [0.25, 0.0]),
        (40, 0.0, 20.0, 400, [0.25, 0.0]),
        (20, 0.0, 200.0, 20, [0.25, 0.0]),
    ];
    share_with_tcp(Kind::Cubic, &cases);
}

/// A download, somebody typing, and a hundred short connections at once.
#[test]
fn a_web_page_and_a_download_and_somebody_typing_get_along() {
    const KEY: u64 = 64;
    const PAGE: u64 = 10_000;
    let mut world = World::new(options(Shape::path(60, 1.0, 50.0, 50), 1));
    let bulk = Bulk::start(&mut world, 1, false);
    world.run_for(3 * SEC);
    (world.record, world.allowed) = (true, 0);
    let typing = Role::Send {
        bytes: 100 * KEY,
        fin: false,
    };
    let (id, typist) = world.connect(typing, Role::Echo);
    (world.record, world.allowed) = (false, u64::MAX);
    let start = world.now;
    let typed: Vec<_> = (0..100).map(|i| start.after(i * 100 * MS)).collect();
    for (i, at) in typed.iter().enumerate() {
        world.at(*at, 0, id, KEY * (i as u64 + 1));
    }
    world.run_for(2 * SEC);
    let asking = Role::Send {
        bytes: 200,
        fin: false,
    };
    let answering = Role::Serve {
        request: 200,
        bytes: PAGE,
        fin: true,
    };
    let at_once = world.now;
    let page: Vec<u32> = (0..100)
        .map(|_| world.connect(asking, answering).1)
        .collect();
    let whole = |world: &World, conv: &u32| world.tcp(0, *conv).is_some_and(|t| t.received == PAGE);
    let before = bulk.received(&world);
    while !page.iter().all(|conv| whole(&world, conv)) && world.now.since(at_once) < 20 * SEC {
        world.run_for(5 * MS);
    }
    let took = world.now.since(at_once) / MS;
    world.run_until(at_once.after(5 * SEC));
    let share = (bulk.received(&world) - before) as f64 / 5.0 / line_rate(&world.links[1].shape);
    world.run_until(start.after(12 * SEC));
    let tcp = world.tcp(0, typist).unwrap();
    assert_eq!(tcp.received, 100 * KEY, "keystrokes that never came back");
    let arrivals = tcp.arrivals.as_ref().unwrap();
    let echo = |(i, sent): (usize, &kcptun::time::Instant)| {
        let want = KEY * (i as u64 + 1);
        let seen = arrivals.iter().find(|(_, received)| *received >= want);
        seen.unwrap().0.since(*sent) / MS
    };
    let mut echoes: Vec<u64> = typed.iter().enumerate().map(echo).collect();
    echoes.sort();
    println!(
        "page {took} ms, download {share:.3}, typing {} ms, p99 {} ms",
        echoes[50], echoes[98]
    );
    assert!(took <= 2_000, "{took} ms until the page was there");
    assert!(
        echoes[98] < 200,
        "{} ms until a keystroke came back",
        echoes[98]
    );
    assert!(share >= 0.6, "{share:.3} of the line for the download");
}

/// How long until 300 connections that begin at once have their 8 KB back, in ms.
fn crowd(shape: Shape) -> u64 {
    const BYTES: u64 = 8_192;
    let mut world = World::new(options(shape, 1));
    let start = world.now;
    let all: Vec<u32> = (0..300)
        .map(|_| {
            let sending = Role::Send {
                bytes: BYTES,
                fin: true,
            };
            world.connect(sending, Role::Echo).1
        })
        .collect();
    let there = |w: &World, conv: &u32| w.tcp(0, *conv).is_some_and(|t| t.received == BYTES);
    while !all.iter().all(|conv| there(&world, conv)) && world.now.since(start) < 20 * SEC {
        world.run_for(MS);
    }
    let took = world.now.since(start) / MS;
    println!("300 connections: {took} ms");
    took
}

#[test]
fn three_hundred_connections_at_once_on_a_near_path() {
    let loopback = Shape {
        delay: MS / 10,
        ..Shape::default()
    };
    let took = crowd(loopback);
    assert!(took < 500, "{took} ms");
}

/// A queue of 75 KB, as a socket's buffer: what does not fit is lost, and many a connection loses its tail.
#[test]
fn three_hundred_connections_at_once_through_a_small_buffer() {
    let buffer = Shape {
        delay: MS / 10,
        rate: 200e6,
        queue: 3 * MS,
        ..Shape::default()
    };
    let took = crowd(buffer);
    assert!(took < 500, "{took} ms");
}
