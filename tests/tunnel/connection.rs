//! The tunnel in the simulator: what a TCP connection may expect of it, whatever the path does.

use crate::sim::link::Shape;
use crate::sim::{Options, Role, World};
use kcptun::time::{MS, SEC};

#[test]
fn a_connection_there_and_back_on_a_clean_path() {
    let mut world = World::new(Options::default());
    let (_, conv) = world.connect(
        Role::Send {
            bytes: 100_000,
            fin: true,
        },
        Role::Echo,
    );
    assert!(world.run_to_rest(60 * SEC), "something was left");
    let (near, far) = (world.tcp(0, conv).unwrap(), world.tcp(1, conv).unwrap());
    assert_eq!((near.received, far.received), (100_000, 100_000));
    assert_eq!((near.closed, far.closed), (Some(false), Some(false)));
}

#[test]
fn the_first_data_needs_no_round_trip() {
    let mut world = World::new(Options {
        shapes: [Shape::path(100, 0.0, 100.0, 50); 2],
        ..Options::default()
    });
    world.record = true;
    let start = world.now;
    let (_, conv) = world.connect(
        Role::Send {
            bytes: 5,
            fin: false,
        },
        Role::Echo,
    );
    world.run_for(2 * SEC);
    let arrived = world.tcp(1, conv).unwrap().arrivals.as_ref().unwrap()[0].0;
    assert!(arrived.since(start) < 51 * MS, "{:?}", arrived.since(start));
    let back = world.tcp(0, conv).unwrap().arrivals.as_ref().unwrap()[0].0;
    assert!(back.since(start) < 102 * MS, "{:?}", back.since(start));
}
