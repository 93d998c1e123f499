//! Repeats the table of the README on the simulated link: `cargo run --release --example paths [NAME [SEED [SECONDS]]]`.

#[path = "../tests/sim/mod.rs"]
mod sim;

use sim::measure::{Bench, SCENARIOS, heading, line};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let only = args.first().filter(|name| *name != "all");
    let number = |at: usize, default| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    println!("{}", heading());
    for scenario in SCENARIOS
        .iter()
        .filter(|s| only.is_none_or(|o| *o == s.name))
    {
        let figures = Bench::new(*scenario, number(1, 1)).all(number(2, 8));
        println!("{}", line(scenario.name, &figures));
    }
}
