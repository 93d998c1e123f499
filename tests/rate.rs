//! Goodput, waste and latency over emulated paths, in virtual time.

mod sim;

use kcptun::time::MS;
use sim::Role;
use sim::measure::{Bench, SCENARIOS};

#[test]
#[ignore]
fn explore() {
    let env = |n: &str, d: &str| std::env::var(n).unwrap_or(d.into());
    let scen = SCENARIOS
        .iter()
        .find(|s| s.name == env("SCEN", "clean"))
        .unwrap();
    let mut bench = Bench::new(*scen, env("SEED", "1").parse().unwrap());
    for step in env("PRE", "ping,open,mb").split(',') {
        match step {
            "ping" => println!("{:?}", bench.ping(400)),
            "open" => println!("{:?}", bench.gets(1, 20)),
            "mb" => {
                for _ in 0..6 {
                    println!("{:?}", bench.gets(1_000_000, 1));
                }
            }
            "down" => println!("{:?}", bench.bulk(1, 3, false)),
            "up" => println!("{:?}", bench.bulk(1, 3, true)),
            "load" => println!("{:?}", bench.under_load(4)),
            "many" => println!("{:?}", bench.bulk(8, 4, false)),
            _ => {}
        }
    }
    let mut world = bench.world;
    let n: usize = env("N", "1").parse().unwrap();
    let up = env("UP", "0") == "1";
    let all: Vec<_> = (0..n)
        .map(|_| {
            if up {
                world.connect(
                    Role::Send {
                        bytes: u64::MAX / 2,
                        fin: false,
                    },
                    Role::Serve {
                        request: u64::MAX,
                        bytes: 0,
                        fin: false,
                    },
                )
            } else {
                world.connect(
                    Role::Send {
                        bytes: 1,
                        fin: false,
                    },
                    Role::Serve {
                        request: 1,
                        bytes: u64::MAX / 2,
                        fin: false,
                    },
                )
            }
        })
        .collect();
    let (start, before) = (world.now, world.links[1 - usize::from(up)].counts);
    let (me, it) = if up { (0, 1) } else { (1, 0) };
    let mut last = vec![0; n];
    let step: u64 = env("STEP", "200").parse().unwrap();
    for _ in 0..(env("SECS", "4").parse::<f64>().unwrap() * 1000.0) as u64 / step {
        world.run_for(step * MS);
        let got: Vec<u64> = all
            .iter()
            .map(|(_, conv)| world.tcp(it, *conv).map_or(0, |t| t.received))
            .collect();
        let addr = world.ends[it].addr;
        let p = world.ends[me].tunnel.path(addr).unwrap();
        let rates: Vec<String> = got
            .iter()
            .zip(&last)
            .map(|(a, b)| format!("{:.1}", (a - b) as f64 * 8.0 / (step as f64 * 1000.0)))
            .collect();
        let c = world.links[me].counts;
        println!(
            "{:6.2}s {}  cap {:7.2} pace {:7.2} inflight {:5.0}k/{:5.0}k base {:?} srtt {} loss {:.3} after {:.2} {:?} over {} waste {:.3}",
            world.now.since(start) as f64 / 1e6,
            rates.join(" "),
            p.rate.capacity() * 8e-6,
            p.rate.pacing() * 8e-6,
            p.rate.in_flight() as f64 / 1e3,
            p.rate.in_flight_limit() as f64 / 1e3,
            p.rate.base_rtt().unwrap_or(0),
            p.rate.srtt(),
            p.rate.loss().share(),
            p.loss_after_loss(),
            p.rate.phase(),
            c.overflowed - before.overflowed,
            (c.offered_bytes - before.offered_bytes) as f64 / got.iter().sum::<u64>().max(1) as f64
        );
        if env("OTHER", "0") == "1" {
            let p = world.ends[it].tunnel.path(world.ends[me].addr).unwrap();
            println!(
                "      other: cap {:7.2} pace {:7.2} inflight {:5.0}k/{:5.0}k {:?}",
                p.rate.capacity() * 8e-6,
                p.rate.pacing() * 8e-6,
                p.rate.in_flight() as f64 / 1e3,
                p.rate.in_flight_limit() as f64 / 1e3,
                p.rate.phase()
            );
        }
        last = got;
    }
    let c = world.links[me].counts;
    let (n, l) = (
        (c.offered - before.offered) as f64,
        (c.lost - before.lost) as f64,
    );
    println!(
        "1s datagrams {n} lost {l} unique {} duplicates {:.4} of sent",
        last.iter().sum::<u64>() / 1316,
        (n - l - last.iter().sum::<u64>() as f64 / 1316.0) / n
    );
}
