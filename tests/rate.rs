//! Goodput, waste and latency over emulated paths, in virtual time.

mod sim;

use kcptun::crypto::Method;
use kcptun::time::{MS, SEC, Time};
use sim::link::Shape;
use sim::{Options, Role, World};

#[test]
#[ignore]
fn explore() {
    let env = |n: &str, d: f64| {
        std::env::var(n)
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(d)
    };
    let shape = Shape {
        burst: env("BURST", 1.0),
        ..Shape::path(
            env("RTT", 100.0) as u64,
            env("LOSS", 0.0),
            env("RATE", 100.0),
            env("QUEUE", 50.0) as u64,
        )
    };
    let mut world = World::new(Options {
        shapes: [shape; 2],
        method: Some(Method::Chacha20Poly1305Ietf),
        seed: env("SEED", 1.0) as u64,
        ..Options::default()
    });
    let (_, conv) = world.connect(
        Role::Send {
            bytes: 1,
            fin: false,
        },
        Role::Serve {
            request: 1,
            bytes: u64::MAX / 2,
            fin: false,
        },
    );
    let start = world.now;
    let mut last = 0;
    let step = env("STEP", 200.0) as u64;
    for _ in 0..(env("SECS", 8.0) * 1000.0) as u64 / step {
        world.run_for(step * MS);
        let got = world.tcp(0, conv).map_or(0, |t| t.received);
        let addr = world.ends[0].addr;
        let p = world.ends[1].tunnel.path(addr).unwrap();
        println!(
            "{:6.2}s {:7.2} Mbit/s  cap {:7.2} pace {:7.2} inflight {:5.0}k/{:5.0}k base {:?} srtt {} loss {:.3} after {:.2} {:?} over {} waste {:.3} back {:.3}",
            world.now.since(start) as f64 / 1e6,
            (got - last) as f64 * 8.0 / (step as f64 * 1000.0),
            p.rate.capacity() * 8e-6,
            p.rate.pacing() * 8e-6,
            p.rate.in_flight() as f64 / 1e3,
            p.rate.in_flight_limit() as f64 / 1e3,
            p.rate.base_rtt(),
            p.rate.srtt(),
            p.rate.loss().share(),
            p.loss_after_loss(),
            p.rate.phase(),
            world.links[1].counts.overflowed,
            world.links[1].counts.offered_bytes as f64 / got.max(1) as f64,
            world.links[0].counts.offered_bytes as f64 / world.links[1].counts.offered_bytes as f64
        );
        last = got;
    }
    let _ = (SEC, Time::ZERO);
}
