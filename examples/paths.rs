//! Repeats kcptun's rows of `examples/reference/measured.md` on the simulated link, and shows lines that are not steady:
//! `cargo run --release --example paths [NAME [SEED [SECONDS]]]`. Or plays a recorded line, in mahimahi's format, from a
//! second of it on: `cargo run --release --example paths DOWN.trace UP.trace [SECOND [SEED [SECONDS]]]`.

#[path = "../tests/sim/mod.rs"]
mod sim;

use sim::lines::{self, Unsteady};
use sim::measure::{Bench, SCENARIOS, heading, line};
use std::path::Path;

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

const UNSTEADY: &str = "\
Lines that are not steady, one transfer down and one up, measured after 3 s:
share      what arrives, as a share of what the line could carry x (1 - loss); TCP reaches 96.5% at best
first      the same of the first 3 s
ping p95   round trip of 64 bytes each 20 ms beside it: median, 95th percentile (not where it would take much of the line)
sent       bytes on the line, as a share of what it could carry
waste back bytes on the line, and the other way, for each byte that arrives
dropped    share of the packets that the line's queue, or the policer, drops
";

/// Round trip of a recorded line without a queue, ms: a recording does not tell it.
const RECORDED_RTT: u64 = 40;

/// Where a number stands, and what it is if it does not.
fn number(args: &[String], at: usize, default: u64) -> u64 {
    args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default)
}

fn recorded(down: &str, up: &str, second: u64) -> Result<Unsteady, String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"));
    let (down, up) = (read(down)?, read(up)?);
    Ok(lines::recorded(
        "recorded",
        &down,
        &up,
        second,
        RECORDED_RTT,
    ))
}

fn show_steady(only: Option<&str>, seed: u64, secs: u64) {
    println!("{COLUMNS}\n{}", heading());
    for scenario in SCENARIOS {
        if only.is_none_or(|only| only == scenario.name) {
            let figures = Bench::new(scenario, seed).all(secs);
            println!("{}", line(scenario.name, &figures));
        }
    }
}

fn show_unsteady(shown: &[Unsteady], seed: u64, secs: u64) {
    println!("{UNSTEADY}\n{}", lines::heading());
    for line in shown {
        for (way, up) in [("down", false), ("up", true)] {
            let figures = lines::measure(line, up, seed, secs);
            println!("{}", lines::row(&format!("{} {way}", line.name), &figures));
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [down, up, ..] if Path::new(down).is_file() => {
            match recorded(down, up, number(&args, 2, 0)) {
                Ok(line) => show_unsteady(&[line], number(&args, 3, 1), number(&args, 4, 20)),
                Err(error) => return fail(&error),
            }
            return;
        }
        _ => (),
    }
    let only = args
        .first()
        .map(String::as_str)
        .filter(|name| *name != "all");
    let (seed, secs) = (number(&args, 1, 1), number(&args, 2, 8));
    let steady = only.is_none_or(|name| SCENARIOS.iter().any(|s| s.name == name));
    let unsteady: Vec<Unsteady> = match only {
        None => lines::lines(),
        Some(name) => lines::named(name).into_iter().collect(),
    };
    if !steady && unsteady.is_empty() {
        return fail("no such path, and no such file");
    }
    if steady {
        show_steady(only, seed, secs);
    }
    if !unsteady.is_empty() {
        println!();
        show_unsteady(&unsteady, seed, secs);
    }
}

fn fail(what: &str) {
    eprintln!("{what}");
    std::process::exit(2);
}
