//! What counts as a sign of life of the other end, and what is said of it: whether it answers, since when it does not, and
//! whether it ever has. Virtual time.

mod sim;

use kcptun::config::Role as Site_role;
use kcptun::crypto::Method;
use kcptun::http::{Monitor, Site};
use kcptun::time::{MS, SEC};
use sim::link::Shape;
use sim::measure::Bulk;
use sim::{Options, Role, World};

fn world(seed: u64, loss: f64) -> World {
    World::new(Options {
        seed,
        method: Some(Method::Chacha20Poly1305Ietf),
        shapes: [Shape::path(40, loss, 20.0, 50); 2],
        ..Options::default()
    })
}

/// Whether the peer is healthy, and why.
fn health(world: &World) -> (bool, String) {
    let site = Site {
        version: "1",
        role: Site_role::Peer,
        method: "none",
        host: None,
        meets: false,
    };
    let health = Monitor::new(site, world.now)
        .view(&world.ends[0].tunnel, world.now)
        .health;
    (health.good, health.why)
}

/// Runs as the daemon would; the times at which the port changed, microseconds after the beginning.
fn run(world: &mut World, span: u64) -> Vec<u64> {
    let (began, mut changes) = (world.now, Vec::new());
    while world.now < began.after(span) {
        world.run_for(50 * MS);
        let before = world.ends[0].addr;
        world.change_port();
        if world.ends[0].addr != before {
            println!("port at {} us", world.now.since(began));
            changes.push(world.now.since(began));
        }
    }
    changes
}

#[test]
fn a_way_that_closes_in_the_middle_of_a_download_is_left_within_seconds() {
    for (seed, loss) in [(1, 0.0), (2, 2.0), (3, 10.0)] {
        for paced in [true, false] {
            let mut world = World::new(Options {
                seed,
                method: Some(Method::Chacha20Poly1305Ietf),
                shapes: [Shape::path(40, loss, 20.0, 50); 2],
                tune: Some(Box::new(move |s| {
                    s.rate.control = paced;
                    if !paced {
                        // no more than the path holds
                        (s.kcp.sndwnd, s.kcp.rcvwnd) = (64, 128);
                    }
                })),
                ..Options::default()
            });
            let bulk = Bulk::start(&mut world, 1, false);
            assert!(run(&mut world, 3 * SEC).is_empty());
            world.closed = Some(world.ends[0].addr);
            let changes = run(&mut world, 12 * SEC);
            assert_eq!(changes.len(), 1, "{loss} % {paced}: {changes:?}");
            // plain KCP repeats ever more rarely
            let most = if paced { 6 } else { 10 } * SEC;
            assert!(changes[0] <= most, "{loss} % {paced}: {changes:?}");
            let before = bulk.received(&world);
            let (_, new) = world.connect(
                Role::Send {
                    bytes: 1000,
                    fin: false,
                },
                Role::Echo,
            );
            run(&mut world, 3 * SEC);
            let more = bulk.received(&world) - before;
            println!("{loss} % {paced}: {changes:?}, then {more} bytes");
            // plain KCP's pauses are long by now
            assert!(more > 100_000 || !paced, "{loss} %: {more}");
            let echoed = world.tcp(0, new).map(|tcp| tcp.received);
            assert_eq!(echoed, Some(1000), "{loss} % {paced}");
            assert!(health(&world).0, "{:?}", health(&world));
        }
    }
}

#[test]
fn where_the_port_has_to_stay_health_tells_the_truth() {
    let mut world = world(1, 0.0);
    Bulk::start(&mut world, 1, false);
    world.run_for(3 * SEC);
    assert!(health(&world).0);
    world.closed = Some(world.ends[0].addr);
    world.run_for(9 * SEC);
    for seconds in [9, 60, 300] {
        let (good, why) = health(&world);
        assert!(!good, "{why}");
        assert!(why.contains("though packets come from there"), "{why}");
        let span = why.split("nothing for ").nth(1).expect("a span");
        println!("{seconds}: {why}");
        assert!(span.starts_with(|c: char| c.is_ascii_digit()), "{why}");
        world.run_for(60 * SEC);
    }
    world.closed = None;
    world.run_for(35 * SEC);
    assert!(health(&world).0, "{:?}", health(&world));
}

/// A path that loses much is not taken for one that has closed.
#[test]
fn loss_alone_changes_no_port() {
    for seed in 0..5 {
        let mut world = world(seed, 20.0);
        Bulk::start(&mut world, 2, false);
        assert!(run(&mut world, 120 * SEC).is_empty(), "seed {seed}");
    }
}

/// Whoever only receives asks now and then whether its acks arrive; an idle tunnel costs what it did.
#[test]
fn signs_of_life_cost_little() {
    let mut world = world(1, 0.0);
    world.run_for(60 * SEC);
    let before = world.ends[0].tunnel.counters().sent;
    world.run_for(500 * SEC);
    let idle = world.ends[0].tunnel.counters().sent - before;
    assert!(idle <= 20 + 2, "{idle} in 500 s of nothing");
    world.connect(
        Role::Send {
            bytes: 10,
            fin: false,
        },
        Role::Echo,
    );
    world.run_for(10 * SEC);
    let before = world.ends[0].tunnel.counters().sent;
    world.run_for(100 * SEC);
    let resting = world.ends[0].tunnel.counters().sent - before;
    assert!(resting <= 8 + 2, "{resting} in 100 s of an idle session");
}
