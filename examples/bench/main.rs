//! What a byte costs, stage by stage:
//!
//!     cargo run --release --example bench                    # no key and every method, 200 MB each
//!     cargo run --release --example bench -- aes256gcm 500   # METHOD or none or all, MB
//!
//! Two tunnels in this process send a stream one way over a link in memory: no sockets, no system calls, virtual time
//! that jumps to the next deadline. Figures are CPU time of both ends together. Sealing, opening and the link are
//! measured alone, on datagrams of the lengths that the whole run sent; KCP, framing and rate are what is left of the
//! whole run without them. Then what a packet costs at wide windows: in the tunnel without a key, and in the `kcp`
//! crate alone, which flushes every millisecond.
//!
//! Times differ by some percent from run to run. Before and after a change, compare instructions, which do not:
//!
//!     valgrind --tool=callgrind target/release/examples/bench none 20

mod alone;
mod link;
mod pair;

use kcptun::crypto::Method;
use kcptun::time::MS;
use link::Shape;
use nix::time::{ClockId, clock_gettime};
use pair::Pair;
use std::time::Duration;

/// A measurement that has taken so many CPU seconds ends early.
const PATIENCE: f64 = 20.0;
/// Size of a full packet with its IP header.
const MTU: f64 = 1400.0;

/// CPU seconds of this process until now.
fn cpu() -> f64 {
    let spent = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    Duration::from(spent).as_secs_f64()
}

fn stages(wanted: &str, bytes: f64) {
    let shape = Shape {
        mbit: 1000.0,
        rtt: 20 * MS,
        loss: 0.0,
        window: 32_768,
    };
    println!(
        "MB of payload per CPU second, both ends together; {} Mbit/s, {} ms round trip, no loss\n{:<24}{:>8}{:>10}{:>10}{:>10}{:>8}",
        shape.mbit,
        shape.rtt.as_millis(),
        "method",
        "whole",
        "KCP etc.",
        "sealing",
        "opening",
        "link"
    );
    let methods = [None].into_iter().chain(Method::ALL.map(Some));
    for method in methods {
        let name = method.map_or("none", Method::name);
        if wanted != "all" && wanted != name {
            continue;
        }
        let cost = Pair::new(method, shape).run(bytes);
        let link = alone::link(shape, &cost.lengths);
        let (sealing, opening) = method.map_or((0.0, 0.0), |m| alone::sealing(m, &cost.lengths));
        let kcp = cost.cpu - link - sealing - opening;
        let [whole, kcp, sealing, opening, link] =
            [cost.cpu, kcp, sealing, opening, link].map(|spent| match spent {
                0.0 => "-".into(),
                _ => format!("{:.0}", cost.received / spent / 1e6),
            });
        println!("{name:<24}{whole:>8}{kcp:>10}{sealing:>10}{opening:>10}{link:>8}");
    }
}

fn windows() {
    println!(
        "\nCPU microseconds per packet of {MTU} bytes, both ends together; 100 ms round trip, no key\n{:>8}{:>8}{:>12}{:>11}{:>9}{:>12}",
        "window", "loss, %", "carried", "in flight", "tunnel", "crate alone"
    );
    for (window, loss) in [1_000, 10_000, 60_000]
        .map(|w| [(w, 0.0), (w, 0.01)])
        .concat()
    {
        let rtt = 100 * MS;
        let mbit = f64::from(window) * MTU * 8.0 / rtt.as_micros_f64();
        let shape = Shape {
            mbit,
            rtt,
            loss,
            window,
        };
        let packets = f64::from(window) * 20.0;
        let cost = Pair::new(None, shape).run(packets * MTU);
        let carried = cost.received / MTU;
        println!(
            "{window:>8}{:>8}{carried:>12.0}{:>11.0}{:>9.2}{:>12.2}",
            loss * 100.0,
            cost.most_in_flight,
            cost.cpu / carried * 1e6,
            alone::crate_alone(shape, packets),
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = args.first().map_or("all", String::as_str);
    let known = ["all", "none"].contains(&wanted) || wanted.parse::<Method>().is_ok();
    let megabytes = args.get(1).map_or(Ok(200.0), |word| word.parse::<f64>());
    let (true, Ok(megabytes)) = (known, megabytes) else {
        eprintln!("usage: bench [METHOD|none|all] [MB]");
        std::process::exit(2);
    };
    stages(wanted, megabytes * 1e6);
    if wanted == "all" {
        windows();
    }
}
