//! Plain KCP, with `rate.control` off.

use crate::sim::link::Shape;
use crate::sim::{Options, Role, World};
use kcptun::time::SEC;

fn world(seed: u64, mbit: f64) -> World {
    World::new(Options {
        seed,
        adjust: |settings| settings.rate.control = false,
        shapes: [Shape::path(40, 2.0, mbit, 50); 2],
        ..Options::default()
    })
}

fn send(bytes: u64) -> Role {
    Role::Send { bytes, fin: true }
}

/// The seconds until all connections have ended in order.
fn seconds(world: &mut World, all: &[u32]) -> u64 {
    let start = world.now;
    assert!(world.run_to_rest(600 * SEC), "ten minutes");
    all.iter().for_each(|conv| world.assert_clean(*conv));
    world.now.since(start) / SEC
}

/// The line carries what they have in four seconds.
#[test]
fn many_sessions_that_begin_together_finish() {
    for (seed, sessions) in [(1, 50), (2, 50), (3, 100), (4, 200)] {
        let mut world = world(seed, 20.0);
        let all: Vec<u32> = (0..sessions)
            .map(|_| world.connect(send(10), send(10_000_000 / sessions)).1)
            .collect();
        let took = seconds(&mut world, &all);
        assert!(took < 60, "{sessions} took {took} s");
    }
}

/// KCP takes more than the line carries until `linger` is over.
#[test]
fn what_still_arrives_is_not_cut_off_by_linger() {
    let mut world = world(1, 4.0);
    let (_, conv) = world.connect(send(10), send(20_000_000));
    let took = seconds(&mut world, &[conv]);
    assert!(took > 40, "it took {took} s only");
}
