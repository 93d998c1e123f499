//! Shows what the sender's estimate of a path does while a bulk transfer runs on the simulated link, a line for each step:
//! `cargo run --release --example trace NAME [down|up [CONNECTIONS [SECONDS [STEP_MS [SEED]]]]]`.
//! NAME is a path of either table (`paths`). Rates are in Mbit/s, spans in ms.

#[path = "../tests/sim/mod.rs"]
mod sim;

use kcptun::time::MS;
use sim::lines::{Trial, Unsteady, lines, named};
use sim::measure::{SCENARIOS, Scenario};

fn path(name: &str) -> Option<Unsteady> {
    Scenario::named(name)
        .map(Unsteady::from)
        .or_else(|| named(name))
}

fn names() -> Vec<String> {
    let steady = SCENARIOS.iter().map(|s| s.name.to_string());
    steady
        .chain(lines().into_iter().map(|line| line.name))
        .collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let Some(line) = args.first().and_then(|name| path(name)) else {
        eprintln!("Which path? One of {}.", names().join(", "));
        std::process::exit(2);
    };
    let up = args.get(1).is_some_and(|way| way == "up");
    let mut trial = Trial::start(&line, number(2, 1) as usize, up, number(5, 1));
    let (start, step) = (trial.world.now, number(4, 200));
    let mut before = trial.bulk.each(&trial.world);
    for _ in 0..number(3, 4) * 1000 / step {
        let from = trial.world.now;
        trial.world.run_for(step * MS);
        let world = &trial.world;
        let received = trial.bulk.each(world);
        let rates = received.iter().zip(&before);
        let rates = rates.map(|(a, b)| format!("{:.1}", (a - b) as f64 * 8e-3 / step as f64));
        let tunnel = &world.ends[trial.sender].tunnel;
        let path = tunnel
            .path(world.ends[1 - trial.sender].addr)
            .expect("the path in use");
        let (congestion, counts) = (&path.congestion, world.links[trial.sender].counts);
        println!(
            "{:6.2} s  {} of {:.1}  capacity {:.2} pacing {:.2} in flight {}k of {}k  base {:.1} srtt {:.1}  loss {:.3}, after loss {:.2}  {}  overflowed {}  waste {:.3}",
            world.now.since(start).as_secs_f64(),
            rates.collect::<Vec<_>>().join(" "),
            trial.capacity(from, world.now) * 8e-3 / step as f64,
            congestion.capacity() * 8e-6,
            congestion.pacing() * 8e-6,
            congestion.in_flight() / 1000,
            congestion.in_flight_limit() / 1000,
            congestion.base_rtt().unwrap_or_default().as_millis_f64(),
            congestion.srtt().as_millis_f64(),
            congestion.loss().share(),
            path.loss_after_loss(),
            congestion.describe(),
            counts.overflowed,
            counts.offered_bytes as f64 / received.iter().sum::<u64>().max(1) as f64,
        );
        before = received;
    }
}
