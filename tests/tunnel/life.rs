//! What counts as a sign of life of the other end, and what is said of it: whether it answers, since when it does not, and
//! whether it ever has. Virtual time.

use crate::sim::link::Shape;
use crate::sim::measure::Bulk;
use crate::sim::{Options, Role, World};
use kcptun::config::Role as Site_role;
use kcptun::crypto::Method;
use kcptun::http::{Monitor, Site};
use kcptun::time::{Duration, MS, SEC};

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

/// Runs as the daemon would; the times at which the port changed after the beginning.
fn run(world: &mut World, span: Duration) -> Vec<Duration> {
    let (began, mut changes) = (world.now, Vec::new());
    while world.now < began.after(span) {
        world.run_for(50 * MS);
        let before = world.ends[0].addr;
        world.change_port();
        if world.ends[0].addr != before {
            println!("port at {:?}", world.now.since(began));
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

/// How long until it holds, which it has to within `span`.
fn until(
    world: &mut World,
    span: Duration,
    what: &str,
    holds: impl Fn(&World) -> bool,
) -> Duration {
    let began = world.now;
    while !holds(world) {
        assert!(world.now.since(began) < span, "{what}: {:?}", health(world));
        world.run_for(50 * MS);
    }
    world.now.since(began)
}

/// What is never said of an end that has answered.
fn says_never(world: &World) -> bool {
    let why = health(world).1;
    why.contains("never") || why.contains("yet")
}

/// The span in a line of health, in seconds.
fn seconds(world: &World) -> u64 {
    let why = health(world).1;
    let span = why.rsplit("for ").next().unwrap_or_default();
    let number = |text: &str, unit: &str| -> u64 {
        let found = text.split(' ').find_map(|word| word.strip_suffix(unit));
        found.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let parts = span
        .replace(" s", "s")
        .replace(" min", "m")
        .replace(" h", "h");
    3600 * number(&parts, "h") + 60 * number(&parts, "m") + number(&parts, "s")
}

fn watched() -> World {
    World::new(Options {
        method: Some(Method::Chacha20Poly1305Ietf),
        adjust: |s| s.watched = true,
        ..Options::default()
    })
}

#[test]
fn a_server_that_stops_says_so_to_those_without_sessions() {
    for method in [Some(Method::Aes256Gcm), None] {
        let mut world = World::new(Options {
            method,
            ..Options::default()
        });
        world.run_for(100 * SEC);
        assert!(health(&world).0);
        world.shutdown(1);
        world.run_for(300 * MS);
        // its process is gone
        world.sleep(1, true);
        let (good, why) = health(&world);
        assert!(!good && why.contains("was stopped"), "{why}");
        for _ in 0..30 {
            world.run_for(2 * SEC);
            assert!(!health(&world).0 && !says_never(&world));
        }
        world.sleep(1, false);
        world.restart(1);
        until(&mut world, 30 * SEC, "it is back", |w| health(w).0);
        assert!(health(&world).1.contains("answers"));
    }
}

#[test]
fn a_farewell_survives_loss_and_ends() {
    let mut missed = 0;
    for seed in 0..200 {
        let mut world = world(seed, 20.0);
        world.run_for(30 * SEC);
        world.shutdown(1);
        assert!(!world.ends[1].tunnel.is_quiet(), "there is more to say");
        world.run_for(280 * MS);
        assert!(world.ends[1].tunnel.is_quiet());
        world.sleep(1, true);
        missed += usize::from(health(&world).0);
    }
    assert!(missed <= 8, "{missed} of 200");
}

#[test]
fn a_server_that_dies_is_noticed_within_ten_seconds_where_somebody_looks() {
    let mut world = watched();
    for pause in [1_000, 3_333, 61_000, 10] {
        world.run_for(pause * MS);
        assert!(health(&world).0);
        world.sleep(1, true);
        until(&mut world, 10 * SEC, "it is dead", |w| !health(w).0);
        let mut last = seconds(&world);
        assert!((4..=10).contains(&last), "{:?}", health(&world));
        for n in 0..120 {
            // another port is tried, and the network changes
            if n % 10 == 9 {
                let now = world.now;
                world.ends[0].tunnel.network_changed(now);
                world.settle(0);
            }
            assert!(!health(&world).0 && !says_never(&world));
            assert!(seconds(&world) >= last, "{:?}", health(&world));
            last = seconds(&world);
            let paths = world.ends[0].tunnel.snapshot(world.now).paths;
            assert!(paths[0].heard_before.is_some_and(|span| span >= 4 * SEC));
            world.run_for(SEC);
        }
        assert!(last >= 120, "{:?}", health(&world));
        world.sleep(1, false);
        until(&mut world, 10 * SEC, "it is back", |w| health(w).0);
    }
}

#[test]
fn a_server_that_dies_is_noticed_within_ten_seconds_where_a_program_waits() {
    for paced in [true, false] {
        let mut world = World::new(Options {
            tune: Some(Box::new(move |s| s.rate.control = paced)),
            ..Options::default()
        });
        world.run_for(20 * SEC);
        world.sleep(1, true);
        world.run_for(SEC);
        let send = Role::Send {
            bytes: 10,
            fin: false,
        };
        world.connect(send, Role::Echo);
        until(&mut world, 10 * SEC, "it is dead", |w| !health(w).0);
        assert!(!says_never(&world));
    }
}

#[test]
fn who_never_answered_has_never_answered_whatever_is_tried() {
    let mut world = World::new(Options {
        met: false,
        adjust: |s| s.watched = true,
        ..Options::default()
    });
    world.sleep(1, true);
    let mut last = 0;
    for n in 1..100 {
        world.run_for(SEC);
        let (good, why) = health(&world);
        assert!(!good && says_never(&world), "{why}");
        let now = world.now;
        if n % 10 == 9 {
            world.ends[0].tunnel.network_changed(now);
        }
        if n % 20 == 15 {
            let other = format!("192.0.2.{n}:2000").parse().expect("address");
            world.ends[0].tunnel.set_peer(now, other);
        }
        world.settle(0);
        if n > 6 {
            assert!(seconds(&world) >= last, "{why}");
            last = seconds(&world);
        }
    }
    assert!(last >= 90, "{:?}", health(&world));
}

#[test]
fn a_change_of_network_brings_no_wrong_words() {
    let mut world = watched();
    world.run_for(10 * SEC);
    for n in 1..20 {
        world.move_to(0, &format!("198.51.100.{n}:1000"));
        let now = world.now;
        world.ends[0].tunnel.network_changed(now);
        world.settle(0);
        for _ in 0..20 {
            let (good, why) = health(&world);
            assert!(good && why.contains("answers"), "{why}");
            world.run_for(50 * MS);
        }
    }
}

/// Without a key anybody can say that the server stops: that costs four pings a second at most, and no more bytes than it took.
#[test]
fn a_forged_farewell_costs_little() {
    let mut world = World::new(Options::default());
    world.run_for(30 * SEC);
    let parting = kcptun::message::Control::Reset(0).to_wire();
    let from = world.ends[1].addr.to_string();
    let before = world.ends[0].tunnel.counters();
    for _ in 0..1000 {
        world.inject(0, &from, &parting);
        world.run_for(10 * MS);
    }
    let after = world.ends[0].tunnel.counters();
    let sent = after.sent - before.sent;
    assert!(sent <= 40, "{sent} in 10 s");
    until(&mut world, 2 * SEC, "it answers", |w| health(w).0);
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
