//! What a tunnel holds when thousands of connections do the same at once.

use crate::sim::link::Shape;
use crate::sim::{Options, Role, World};
use kcptun::time::{MS, SEC};

const SESSIONS: usize = 2_000;

#[test]
fn to_close_takes_little() {
    let mut world = World::new(Options {
        shapes: [Shape::path(100, 0.0, 20.0, 50); 2],
        ..Options::default()
    });
    world.allowed = 9;
    let send = Role::Send {
        bytes: 10,
        fin: true,
    };
    let all: Vec<_> = (0..SESSIONS)
        .map(|_| world.connect(send, Role::Echo))
        .collect();
    world.run_for(20 * SEC);
    let buffers = |world: &World| {
        world
            .ends
            .iter()
            .map(|end| end.tunnel.holdings().buffers)
            .max()
    };
    assert_eq!(buffers(&world), Some(0), "at rest");
    let mut most = 0;
    let now = world.now;
    for (id, _) in &all {
        world.at(now.after(MS), 0, *id, 10);
    }
    for _ in 0..2_000 {
        world.run_for(MS);
        most = most.max(buffers(&world).unwrap_or(0));
    }
    assert!(most < 600 * SESSIONS, "{most} bytes of {SESSIONS} sessions");
    assert!(most > 0);
    assert!(world.run_to_rest(60 * SEC));
    for (_, conv) in all {
        world.assert_clean(conv);
    }
}
