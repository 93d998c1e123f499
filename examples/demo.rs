//! kcptun on a long and lossy line, shown second by second. Nothing to set up and no root:
//!
//!     cargo run --release --example demo
//!     cargo run --release --example demo -- 200 10 100     # your line: round trip ms, loss %, Mbit/s
//!
//! Two whole tunnels with a fresh key, a service and its clients are in this one process, with an emulated path between
//! them (`tests/sim`). Its clock is virtual, so the run takes as long as the CPU needs and repeats exactly.

#[path = "../tests/sim/mod.rs"]
mod sim;

use kcptun::crypto::{Key, Method};
use kcptun::time::{Duration, Instant, SEC};
use kcptun::tunnel::SessionId;
use sim::link::{Counts, Shape};
use sim::{Options, Role, World};
use std::process::ExitCode;

/// What the line could carry in so many seconds is downloaded.
const SECONDS: f64 = 8.0;
/// When the demonstration gives up, in emulated seconds.
const PATIENCE: usize = 40;
/// A key is pressed so often.
const TYPING: Duration = Duration::from_millis(50);
/// How long the full bar of the table is.
const BAR: usize = 25;

struct Line {
    rtt: u64,
    loss: f64,
    mbit: f64,
    queue: u64,
}

impl Line {
    fn from_args() -> Result<Line, String> {
        let mut numbers = [100.0, 5.0, 50.0, 50.0];
        let names = ["round trip, ms", "loss, %", "rate, Mbit/s", "queue, ms"];
        let ranges = [(1, 2000), (0, 60), (1, 1000), (1, 2000)];
        for (i, word) in std::env::args().skip(1).enumerate() {
            let (Some(name), Some((min, max))) = (names.get(i), ranges.get(i)) else {
                return Err(format!("too many arguments; they are {}", names.join("; ")));
            };
            numbers[i] = match word.parse::<f64>() {
                Ok(n) if (f64::from(*min)..=f64::from(*max)).contains(&n) => n,
                _ => return Err(format!("{word}: {name}, must be {min} to {max}")),
            };
        }
        Ok(Line {
            rtt: numbers[0] as u64,
            loss: numbers[1],
            mbit: numbers[2],
            queue: numbers[3] as u64,
        })
    }

    /// Mbit/s that are left after loss.
    fn carries(&self) -> f64 {
        self.mbit * (1.0 - self.loss / 100.0)
    }

    /// The size of the download: 9/10 of what the line could carry, for headers take their part.
    fn download(&self) -> u64 {
        (0.9 * SECONDS * self.carries() / 8.0).ceil() as u64 * 1_000_000
    }
}

/// A world in which a download and somebody who types share one tunnel.
struct Demo {
    world: World,
    start: Instant,
    download: u32,
    typing: (SessionId, u32),
    presses: u64,
    echoed: usize,
}

impl Demo {
    fn new(line: &Line) -> Demo {
        let shape = Shape::path(line.rtt, line.loss, line.mbit, line.queue);
        let mut world = World::new(Options {
            method: Some(Method::Chacha20Poly1305Ietf),
            key: Some(Key::generate()),
            shapes: [shape; 2],
            ..Options::default()
        });
        world.record = true;
        let start = world.now;
        // one byte asks, as many as are wanted answer
        let (_, download) = world.connect(
            Role::Send {
                bytes: 1,
                fin: true,
            },
            Role::Serve {
                request: 1,
                bytes: line.download(),
                fin: true,
            },
        );
        let typing = world.connect(
            Role::Send {
                bytes: 0,
                fin: false,
            },
            Role::Echo,
        );
        Demo {
            world,
            start,
            download,
            typing,
            presses: 0,
            echoed: 0,
        }
    }

    /// Runs until `end` or the end of the download, whatever comes first.
    fn run_until(&mut self, end: Instant) {
        while self.world.now < end && !self.is_complete() {
            self.press();
            self.world.run_for(TYPING);
        }
    }

    fn is_complete(&self) -> bool {
        self.world
            .tcp(0, self.download)
            .is_none_or(|tcp| tcp.fin_received || tcp.closed.is_some())
    }

    /// One more key is pressed.
    fn press(&mut self) {
        self.presses += 1;
        self.let_type(false);
    }

    fn let_type(&mut self, fin: bool) {
        if let Some(tcp) = self.world.ends[0].tcp.get_mut(&self.typing.0) {
            tcp.role = Role::Send {
                bytes: self.presses,
                fin,
            };
        }
        self.world.poke(0, self.typing.0);
    }

    /// How long the keys took whose echo has come since the last call, in order of size.
    fn echoes(&mut self) -> Vec<Duration> {
        let arrivals = self.world.tcp(0, self.typing.1);
        let arrivals = arrivals.and_then(|tcp| tcp.arrivals.as_deref());
        let mut spans = Vec::new();
        for (at, count) in arrivals.unwrap_or_default() {
            while self.echoed < *count as usize {
                let pressed = self.start.after(self.echoed as u64 * TYPING);
                spans.push(at.since(pressed));
                self.echoed += 1;
            }
        }
        spans.sort_unstable();
        spans
    }

    fn received(&self) -> u64 {
        let tcp = self.world.tcp(0, self.download);
        tcp.map_or(0, |tcp| tcp.received)
    }

    fn seconds(&self) -> f64 {
        self.world.now.since(self.start).as_secs_f64()
    }

    /// The way of the download.
    fn counts(&self) -> Counts {
        self.world.links[1].counts
    }
}

fn main() -> ExitCode {
    let line = match Line::from_args() {
        Ok(line) => line,
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::from(2);
        }
    };
    introduce(&line);
    let began = std::time::Instant::now();
    let mut demo = Demo::new(&line);
    show(&mut demo, &line);
    conclude(demo, &line, began)
}

fn introduce(line: &Line) {
    println!(
        "\
A file of {} MB is downloaded through kcptun, and over the same tunnel
somebody types into a shell: {} keys a second, each of them echoed.

  client - kcptun peer ===== the line ===== kcptun server - service

The line is emulated: {} Mbit/s with a queue of {} ms, {} ms there and back,
{} % of all packets lost at random each way. All else is real: KCP, rate
control, and every packet sealed (chacha20poly1305_ietf, a fresh key).
After loss the line carries {:.1} Mbit/s, headers included. Time is emulated,
too, and may pass faster or slower than yours. More than 100 % in a second is
what had waited for a packet that was lost, and then came at once.

second  Mbit/s  share of {:<25}  key echo    lost    sent per
        of data what the line carries             median       %   byte of data",
        line.download() / 1_000_000,
        SEC / TYPING,
        line.mbit,
        line.queue,
        line.rtt,
        line.loss,
        line.carries(),
        "",
    );
}

/// The table, a line for each second.
fn show(demo: &mut Demo, line: &Line) {
    let (mut counts, mut received, mut seconds) = (demo.counts(), 0, 0.0);
    for second in 1..=PATIENCE {
        demo.run_until(demo.start.after(second as u64 * SEC));
        let span = demo.seconds() - seconds;
        let now = demo.counts();
        let data = (demo.received() - received).max(1) as f64;
        let mbit = data * 8e-6 / span;
        let offered = (now.offered - counts.offered).max(1) as f64;
        let lost = now.lost + now.overflowed - counts.lost - counts.overflowed;
        let sent = (now.offered_bytes - counts.offered_bytes) as f64;
        let share = mbit / line.carries();
        let echoes = demo.echoes();
        let median = echoes.get(echoes.len() / 2);
        println!(
            "{:>6} {mbit:>7.1}  {:>3.0} % {:<BAR$}  {:>8}  {:>6.1}    {:>8.2}",
            format!("{:.3}", demo.seconds())
                .trim_end_matches('0')
                .trim_end_matches('.'),
            share * 100.0,
            "#".repeat(((share * BAR as f64).round() as usize).min(BAR)),
            median.map_or("-".into(), |span| format!("{:.0} ms", span.as_millis_f64())),
            lost as f64 / offered * 100.0,
            sent / data,
        );
        (counts, received, seconds) = (now, demo.received(), demo.seconds());
        if demo.is_complete() {
            return;
        }
    }
}

/// Was every byte right, and is nothing left?
fn conclude(mut demo: Demo, line: &Line, began: std::time::Instant) -> ExitCode {
    let (received, seconds) = (demo.received(), demo.seconds());
    let (wanted, counts) = (line.download(), demo.counts());
    demo.let_type(true);
    let at_rest = demo.world.run_to_rest(60 * SEC);
    let typed = demo.world.tcp(0, demo.typing.1);
    let echoed = typed.map_or(0, |tcp| tcp.received);
    println!();
    // the simulator has compared every byte with what was written, and stops at the first that differs
    let fine = received == wanted && echoed == demo.presses && at_rest;
    if fine {
        println!(
            "All {wanted} bytes and {echoed} keys arrived, each byte compared: every one was right."
        );
    } else {
        println!(
            "NOT COMPLETE: {received} of {wanted} bytes, {echoed} of {} keys.",
            demo.presses
        );
    }
    println!(
        "\
{seconds:.1} s on the line, {:.1} s on your clock. Of {} packets of the download the
line lost {} and its queue {}; {:.2} bytes were sent for each that arrived.

Next: cargo test, then cargo build --release and the README's \"A tunnel to your
own server\". A line like yours (round trip ms, loss %, Mbit/s):
cargo run --release --example demo -- 200 10 100",
        began.elapsed().as_secs_f64(),
        counts.offered,
        counts.lost,
        counts.overflowed,
        counts.offered_bytes as f64 / received.max(1) as f64,
    );
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
