//! Repeats the table of the README on the simulated link: `cargo run --release --example paths [NAME [SEED [SECONDS]]]`.

#[path = "../tests/sim/mod.rs"]
mod sim;

use sim::measure::{Bench, SCENARIOS, heading, line};

const COLUMNS: &str = "\
One tunnel on a simulated line, times in ms:
down, up   one transfer, as a share of line rate x (1 - loss)
waste      bytes that the sender puts on the line for each byte that arrives, down and up
back       bytes that go the other way for each byte on the line
over       share of the packets that the line's queue drops
many fair  eight downloads at once: their share, and how evenly it is divided (1 evenly, 1/8 all to one)
ping load  round trip of 64 bytes each 20 ms, without and beside a download: median, 99th percentile
open 1MB   from connecting to the first byte, and to the last of 1 MB: median, worst
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let only = args.first().filter(|name| *name != "all");
    let number = |at: usize, default| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    println!("{COLUMNS}\n{}", heading());
    for scenario in SCENARIOS
        .iter()
        .filter(|s| only.is_none_or(|o| *o == s.name))
    {
        let figures = Bench::new(*scenario, number(1, 1)).all(number(2, 8));
        println!("{}", line(scenario.name, &figures));
    }
}
