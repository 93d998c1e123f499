//! Shows what the sender's estimate of a path does while a bulk transfer runs on the simulated link, a line for each step:
//! `cargo run --release --example trace NAME [down|up [CONNECTIONS [SECONDS [STEP_MS [SEED]]]]]`.
//! NAME is a path of the table (`paths`). Rates are in Mbit/s, spans in ms.

#[path = "../tests/sim/mod.rs"]
mod sim;

use kcptun::time::MS;
use sim::World;
use sim::measure::{Bulk, SCENARIOS, Scenario, options};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let Some(scenario) = args.first().and_then(|name| Scenario::named(name)) else {
        eprintln!("Which path? One of {:?}.", SCENARIOS.map(|s| s.name));
        std::process::exit(2);
    };
    let up = args.get(1).is_some_and(|way| way == "up");
    let mut world = World::new(options(scenario.shape(), number(5, 1)));
    let bulk = Bulk::start(&mut world, number(2, 1) as usize, up);
    let (start, step) = (world.now, number(4, 200));
    let sender = usize::from(!up);
    let mut before = bulk.each(&world);
    for _ in 0..number(3, 4) * 1000 / step {
        world.run_for(step * MS);
        let received = bulk.each(&world);
        let rates = received.iter().zip(&before);
        let rates = rates.map(|(a, b)| format!("{:.1}", (a - b) as f64 * 8e-3 / step as f64));
        let path = &world.ends[sender].tunnel;
        let path = path
            .path(world.ends[1 - sender].addr)
            .expect("the path in use");
        let (rate, counts) = (&path.rate, world.links[sender].counts);
        println!(
            "{:6.2} s  {}  capacity {:.2} pacing {:.2} in flight {}k of {}k  base {:.1} srtt {:.1}  loss {:.3}, after loss {:.2}  {:?}  overflowed {}  waste {:.3}",
            world.now.since(start) as f64 / 1e6,
            rates.collect::<Vec<_>>().join(" "),
            rate.capacity() * 8e-6,
            rate.pacing() * 8e-6,
            rate.in_flight() / 1000,
            rate.in_flight_limit() / 1000,
            rate.base_rtt().unwrap_or(0) as f64 / 1e3,
            rate.srtt() as f64 / 1e3,
            rate.loss().share(),
            path.loss_after_loss(),
            rate.phase(),
            counts.overflowed,
            counts.offered_bytes as f64 / received.iter().sum::<u64>().max(1) as f64,
        );
        before = received;
    }
}
