//! Moves to another pair of ports: away from one that is throttled or dead, or when its time is over.

use crate::sim::link::{Shape, Throttle};
use crate::sim::measure::{Bulk, line_rate, options};
use crate::sim::nat::Nat;
use crate::sim::{Options, Role, World};
use kcptun::settings::ForwardSecrecy;
use kcptun::time::{Duration, MS, SEC};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// 50 Mbit/s and 60 ms with a queue of 50 ms.
fn shape() -> Shape {
    Shape::path(60, 0.0, 50.0, 50)
}

/// Both ends, and the server with so many ports. `adjust` is for the client and the server.
fn world(options: Options, ports: u16) -> World {
    let mut world = World::new(options);
    let first = world.ends[1].addr.port();
    world.ends[1].sockets = ports;
    world.ends[0]
        .tunnel
        .set_ports((first..first + ports).collect(), false);
    world
}

fn throttle(world: &mut World, after: u64) {
    for link in &mut world.links {
        link.throttle = Some(Throttle {
            after: after * SEC,
            policed: 2e6,
        });
    }
}

/// What a transfer of 60 s gets of the line, and bytes on the line for each that arrives, where the two ends have been connected
/// for `idle` seconds when it begins.
fn throttled(ports: u16, up: bool, idle: u64, seed: u64) -> (f64, f64) {
    let options = Options {
        tune: Some(Box::new(move |settings| {
            if seed % 2 == 0 {
                settings.forward_secrecy = ForwardSecrecy::Auto;
            }
        })),
        ..options(shape(), seed)
    };
    let mut world = world(options, ports);
    throttle(&mut world, 6);
    world.run_for(idle * SEC);
    let sender = usize::from(!up);
    let bulk = Bulk::start(&mut world, 1, up);
    let before = world.links[sender].counts.offered_bytes;
    let share = bulk.goodput(&mut world, 60 * SEC) / line_rate(&shape());
    let sent = world.links[sender].counts.offered_bytes - before;
    world.check();
    (share, sent as f64 / bulk.received(&world) as f64)
}

/// With so many ports of the server.
fn leaves_throttled_pairs(ports: u16, idle: u64) {
    for up in [false, true] {
        for seed in 1..=4 {
            let (share, waste) = throttled(ports, up, idle, seed);
            let told = format!("up {up} seed {seed}: {share:.3}, waste {waste:.3}");
            println!("{told}");
            assert!(share >= 0.8 && waste <= 1.15, "{told}");
        }
    }
}

#[test]
fn a_throttled_pair_is_left() {
    leaves_throttled_pairs(20, 1);
}

#[test]
fn a_pair_that_was_throttled_before_the_transfer_is_left() {
    leaves_throttled_pairs(20, 30);
}

#[test]
fn with_one_port_a_new_source_port_will_do() {
    leaves_throttled_pairs(1, 1);
    leaves_throttled_pairs(1, 30);
}

#[test]
fn a_dead_pair_is_left_within_a_second_and_a_half() {
    for up in [false, true] {
        for seed in 1..=8 {
            let mut world = world(options(shape(), seed), 20);
            let bulk = Bulk::start(&mut world, 1, up);
            world.run_for(5 * SEC);
            let [client, server] = [0, 1].map(|i| world.ends[i].addr);
            world.links[0].blocked = Some((client, server));
            world.links[1].blocked = Some((server, client));
            world.run_for(100 * MS);
            let before = bulk.received(&world);
            let mut waited = 100;
            while bulk.received(&world) == before {
                world.run_for(10 * MS);
                waited += 10;
                assert!(waited <= 1_500, "up {up} seed {seed}");
            }
            println!("up {up} seed {seed}: {waited} ms");
        }
    }
}

/// A world of its own: what its line does, how many ports there are, and who is behind a NAT.
fn random_world(seed: u64) -> World {
    let mut rng = SmallRng::seed_from_u64(seed);
    let shape = Shape {
        loss: rng.random_range(0.0..0.05),
        burst: rng.random_range(1.0..4.0),
        jitter: rng.random_range(0..20) * MS,
        disorder: rng.random_bool(0.5),
        duplicate: rng.random_range(0.0..0.02),
        reorder: rng.random_range(0.0..0.05),
        reorder_by: rng.random_range(1..80) * MS,
        ..Shape::path(
            rng.random_range(10..200),
            0.0,
            1.5,
            rng.random_range(20..300),
        )
    };
    let options = Options {
        tune: Some(Box::new(move |settings| {
            settings.hop = 300 * MS;
            if seed % 2 == 0 {
                settings.forward_secrecy = ForwardSecrecy::Auto;
            }
        })),
        met: false,
        ..options(shape, seed)
    };
    let ports = rng.random_range(1..=20);
    let mut world = World::new(options);
    world.ends[1].sockets = ports;
    let first = world.ends[1].addr.port();
    let mut seen = world.ends[1].addr;
    if rng.random_bool(0.5) {
        world.nats[0] = Some(Nat::new("198.51.100.1", rng.random_bool(0.5)));
    }
    if rng.random_bool(0.5) {
        let mut nat = Nat::new("198.51.100.2", false);
        (0..ports).for_each(|n| nat.forward(world.ends[1].socket(n), first + n));
        nat.full_cone = true;
        seen.set_ip(nat.outside);
        world.nats[1] = Some(nat);
    }
    let tunnel = &mut world.ends[0].tunnel;
    tunnel.set_peer(world.now, seen);
    tunnel.set_ports((first..first + ports).collect(), false);
    world
}

/// A transfer both ways in the world of a seed; the moves that it made, and the seconds that it took.
fn moving_transfer(seed: u64) -> (u64, u64) {
    let mut world = random_world(seed);
    let began = world.now;
    let bytes = 3_000_000;
    let (_, conv) = world.connect(Role::Send { bytes, fin: true }, Role::Echo);
    world.run_for(20 * SEC);
    // this machine's own address changes, or its NAT forgets
    match &mut world.nats[0] {
        Some(nat) => nat.forget(Some("198.51.100.9")),
        None => world.move_to(0, "192.0.2.77:5000"),
    }
    for _ in 0..1_000 {
        world.run_for(200 * MS);
        if world.ends.iter().all(|end| end.tcp.is_empty()) {
            break;
        }
    }
    world.assert_clean(conv);
    let moves = world.ends[0].tunnel.moved().map_or(0, |moved| moved.count);
    (moves, world.now.since(began) / SEC)
}

/// More with KCPTUN_SEEDS=n, or one alone with KCPTUN_SEED=n.
#[test]
fn a_transfer_that_moves_a_hundred_times_in_a_minute_arrives_whole() {
    if let Ok(seed) = std::env::var("KCPTUN_SEED") {
        let _ = env_logger::builder().try_init();
        moving_transfer(seed.parse().expect("a seed is a number"));
        return;
    }
    let seeds: u64 = std::env::var("KCPTUN_SEEDS").map_or(40, |n| n.parse().expect("a number"));
    let (mut moves, mut seconds, mut failed) = (0, 0, Vec::new());
    for seed in 1..=seeds {
        match std::panic::catch_unwind(|| moving_transfer(seed)) {
            Ok(made) => (moves, seconds) = (moves + made.0, seconds + made.1),
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "failed: KCPTUN_SEED={failed:?}");
    assert!(60 * moves >= 100 * seconds, "{moves} moves in {seconds} s");
}

#[test]
fn who_has_nothing_to_answer_is_not_dead() {
    for pause in [500, 2_000, 5_000] {
        let near = Shape::path(1, 0.0, 100.0, 50);
        let mut world = world(options(near, 1), 10);
        for _ in 0..20 {
            let request = Role::Send {
                bytes: 100,
                fin: true,
            };
            let answer = Role::Serve {
                request: 100,
                bytes: 200_000,
                fin: true,
            };
            let (_, conv) = world.connect(request, answer);
            world.run_for(pause * MS);
            world.assert_clean(conv);
        }
        assert_eq!(world.ends[0].tunnel.moved(), None, "every {pause} ms");
    }
}

/// The operator's limits of the client, bytes per second.
fn limited(up: Option<f64>, down: Option<f64>, shape: Shape, seed: u64) -> Options {
    Options {
        tune: Some(Box::new(move |settings| {
            (settings.rate.up, settings.rate.down) = (up, down);
        })),
        ..options(shape, seed)
    }
}

/// The most that the client puts on the line within so long, bytes, in a minute.
fn most_within(world: &mut World, span: Duration) -> u64 {
    let mut most = 0;
    for _ in 0..60 * SEC / span {
        let before = world.links[0].counts.offered_bytes;
        world.run_for(span);
        most = most.max(world.links[0].counts.offered_bytes - before);
    }
    most
}

/// A train to find out whether another pair carries more counts as what it is: bytes that leave, and bytes that come back.
#[test]
fn no_train_goes_beyond_the_operators_limits() {
    let lossy = Shape::path(60, 6.0, 100.0, 50);
    for (up, down) in [(Some(2e6), None), (None, Some(1e6)), (Some(2e6), Some(1e6))] {
        let mut world = world(limited(up, down, lossy, 3), 20);
        world.run_for(SEC);
        let _bulk = Bulk::start(&mut world, 1, false);
        world.run_for(5 * SEC);
        let most = most_within(&mut world, 20 * MS);
        println!("up {up:?} down {down:?}: {most} bytes within 20 ms");
        // acks among them
        assert!(most <= 40_000, "up {up:?} down {down:?}: {most}");
    }
}

#[test]
fn within_the_operators_limits_a_throttled_pair_is_left() {
    for (limit, up) in [(1e6, true), (1e6, false)] {
        for seed in 1..=4 {
            let limits = if up {
                [Some(limit), None]
            } else {
                [None, Some(limit)]
            };
            let mut world = world(limited(limits[0], limits[1], shape(), seed), 20);
            throttle(&mut world, 6);
            world.run_for(30 * SEC);
            let bulk = Bulk::start(&mut world, 1, up);
            let most = most_within(&mut world, 100 * MS) as f64 * 10.0;
            let share = bulk.received(&world) as f64 / 60.0 / limit;
            let told = format!("up {up} seed {seed}: {share:.3} of it, at most {most:.0}");
            println!("{told}");
            assert!(share >= 0.8, "{told}");
            assert!(!up || most <= 1.15 * limit, "{told}");
        }
    }
}
