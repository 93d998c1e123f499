//! The figures that a user would feel, taken in the simulator as a bench would take them on real sockets.

use super::link::{Counts, Shape};
use super::{Options, Role, World};
use kcptun::crypto::Method;
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::SessionId;

/// A path to measure over: round trip ms, loss % a way, Mbit/s, queue ms, mean burst.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub rtt: u64,
    pub loss: f64,
    pub rate: f64,
    pub queue: u64,
    pub burst: f64,
}

pub const SCENARIOS: [Scenario; 10] = [
    scenario("clean", 100, 0.0, 100.0, 50, 1.0),
    scenario("lossy-1", 100, 1.0, 100.0, 50, 1.0),
    scenario("lossy-5", 100, 5.0, 100.0, 50, 1.0),
    scenario("lossy-10", 100, 10.0, 100.0, 50, 1.0),
    scenario("lossy-30", 100, 30.0, 100.0, 50, 1.0),
    scenario("bursty-5", 100, 5.0, 100.0, 50, 4.0),
    scenario("shallow", 60, 1.0, 50.0, 5, 1.0),
    scenario("bloated", 40, 0.0, 20.0, 400, 1.0),
    scenario("far-10", 300, 10.0, 50.0, 50, 1.0),
    scenario("near-2", 20, 2.0, 200.0, 20, 1.0),
];

const fn scenario(
    name: &'static str,
    rtt: u64,
    loss: f64,
    rate: f64,
    queue: u64,
    burst: f64,
) -> Scenario {
    Scenario {
        name,
        rtt,
        loss,
        rate,
        queue,
        burst,
    }
}

impl Scenario {
    pub fn named(name: &str) -> Option<Scenario> {
        SCENARIOS.into_iter().find(|s| s.name == name)
    }

    pub fn shape(&self) -> Shape {
        Shape {
            burst: self.burst,
            ..Shape::path(self.rtt, self.loss, self.rate, self.queue)
        }
    }
}

/// Line rate × (1 − loss) of a shape, bytes per second: what a share is a share of.
pub fn line_rate(shape: &Shape) -> f64 {
    shape.rate / 8.0 * (1.0 - shape.loss)
}

/// A tunnel as it is shipped, over this path both ways.
pub fn options(shape: Shape, seed: u64) -> Options {
    Options {
        seed,
        method: Some(Method::Chacha20Poly1305Ietf),
        shapes: [shape; 2],
        ..Options::default()
    }
}

/// Connections that carry as much as they can one way.
pub struct Bulk {
    connections: Vec<(SessionId, u32)>,
    /// The end where the bytes come out.
    sink: usize,
}

impl Bulk {
    pub fn start(world: &mut World, connections: usize, up: bool) -> Bulk {
        let endless = u64::MAX / 2;
        let (request, answer) = if up { (endless, 0) } else { (1, endless) };
        let client = Role::Send {
            bytes: request,
            fin: false,
        };
        let service = Role::Serve {
            request,
            bytes: answer,
            fin: false,
        };
        Bulk {
            connections: (0..connections)
                .map(|_| world.connect(client, service))
                .collect(),
            sink: usize::from(up),
        }
    }

    /// Bytes that each connection has brought to the other end.
    pub fn each(&self, world: &World) -> Vec<u64> {
        let received = |conv| world.tcp(self.sink, conv).map_or(0, |tcp| tcp.received);
        self.connections.iter().map(|c| received(c.1)).collect()
    }

    pub fn received(&self, world: &World) -> u64 {
        self.each(world).iter().sum()
    }

    /// Bytes per second that arrive while the world runs for `span`.
    pub fn goodput(&self, world: &mut World, span: Duration) -> f64 {
        let before = self.received(world);
        world.run_for(span);
        (self.received(world) - before) as f64 / span.as_secs_f64()
    }

    /// The same as a share of what the path could deliver.
    pub fn share(&self, world: &mut World, span: Duration) -> f64 {
        let line = line_rate(&world.links[1 - self.sink].shape);
        self.goodput(world, span) / line
    }

    pub fn stop(self, world: &mut World) {
        for (id, _) in self.connections {
            world.reset(0, id);
        }
        world.run_for(2 * SEC);
    }
}

/// Small messages on a connection of their own, which come back.
pub struct Pings {
    id: SessionId,
    conv: u32,
    /// When each was sent.
    sent: Vec<Instant>,
}

impl Pings {
    /// Bytes.
    const SIZE: u64 = 64;
    /// From one to the next.
    pub const EVERY: Duration = Duration::from_millis(20);

    /// The first opens the connection, and is not counted.
    pub fn connect(world: &mut World) -> Pings {
        (world.record, world.allowed) = (true, Pings::SIZE);
        let endless = Role::Send {
            bytes: u64::MAX / 2,
            fin: false,
        };
        let (id, conv) = world.connect(endless, Role::Echo);
        (world.record, world.allowed) = (false, u64::MAX);
        Pings {
            id,
            conv,
            sent: Vec::new(),
        }
    }

    /// Lets so many go, from a time on.
    pub fn send(&mut self, world: &mut World, from: Instant, count: u64) {
        for i in 0..count {
            let at = from.after(i * Pings::EVERY);
            self.sent.push(at);
            world.at(at, 0, self.id, Pings::wanted(self.sent.len() - 1));
        }
    }

    /// Bytes that have come back when the message at this place has.
    fn wanted(place: usize) -> u64 {
        Pings::SIZE * (place as u64 + 2)
    }

    pub fn are_back(&self, world: &World) -> bool {
        let received = world.tcp(0, self.conv).map_or(0, |tcp| tcp.received);
        received >= Pings::SIZE * (self.sent.len() as u64 + 1)
    }

    /// Each one's, ms; what is not back counts as if it came now.
    pub fn round_trips(&self, world: &World) -> Vec<f64> {
        let tcp = world.tcp(0, self.conv).expect("the connection");
        let mut arrivals = tcp.arrivals.iter().flatten().peekable();
        let messages = self.sent.iter().enumerate();
        messages
            .map(|(place, sent)| {
                while arrivals.next_if(|a| a.1 < Pings::wanted(place)).is_some() {}
                let back = arrivals.peek().map_or(world.now, |a| a.0);
                back.since(*sent).as_millis_f64()
            })
            .collect()
    }

    pub fn stop(self, world: &mut World) {
        world.reset(0, self.id);
        world.run_for(2 * SEC);
    }
}

/// Spans in ms, goodput as a share of line × (1 − loss).
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub down: f64,
    pub down_waste: f64,
    /// Bytes that go the other way for each byte on the line.
    pub down_back: f64,
    pub down_overflow: f64,
    pub up: f64,
    pub up_waste: f64,
    pub many: f64,
    pub fairness: f64,
    pub ping: [f64; 2],
    pub load: [f64; 2],
    pub open: [f64; 2],
    pub megabyte: [f64; 2],
}

pub struct Bench {
    pub world: World,
    scenario: Scenario,
}

impl Bench {
    pub fn new(scenario: Scenario, seed: u64) -> Bench {
        Bench {
            world: World::new(options(scenario.shape(), seed)),
            scenario,
        }
    }

    /// Everything, in the order that the figures are printed in; `secs` for each bulk transfer after 3 to warm up.
    pub fn all(&mut self, secs: u64) -> Figures {
        let ping = self.ping(secs * 50);
        let open = self.gets(1, 20);
        let megabyte = self.gets(1_000_000, 6);
        let mut f = Figures {
            ping,
            open,
            megabyte,
            ..Figures::default()
        };
        let counts = |w: &World| [w.links[0].counts, w.links[1].counts];
        let before = counts(&self.world);
        let (down, _, got) = self.bulk(1, secs, false);
        f.down = down;
        let wire = difference(counts(&self.world), before);
        f.down_waste = wire[1].offered_bytes as f64 / got as f64;
        f.down_back = wire[0].offered_bytes as f64 / wire[1].offered_bytes as f64;
        f.down_overflow = wire[1].overflowed as f64 / wire[1].offered as f64;
        let before = counts(&self.world);
        let (up, _, got) = self.bulk(1, secs, true);
        f.up = up;
        f.up_waste = difference(counts(&self.world), before)[0].offered_bytes as f64 / got as f64;
        f.load = self.under_load(secs);
        (f.many, f.fairness, _) = self.bulk(8, secs, false);
        f
    }

    /// Median and 99th percentile of the round trips of `count` pings.
    pub fn ping(&mut self, count: u64) -> [f64; 2] {
        let mut pings = Pings::connect(&mut self.world);
        let from = self.world.now.after(4 * self.scenario.rtt * MS + SEC);
        pings.send(&mut self.world, from, count);
        let last = from.after((count - 1) * Pings::EVERY);
        self.world.run_until(last.after(3 * SEC));
        assert!(pings.are_back(&self.world), "a message never came back");
        let spans = pings.round_trips(&self.world);
        pings.stop(&mut self.world);
        percentiles(spans, 0.99)
    }

    /// Median and worst time from connecting to the last of `bytes`, one connection after another.
    pub fn gets(&mut self, bytes: u64, count: usize) -> [f64; 2] {
        let mut spans = Vec::new();
        for _ in 0..count {
            let start = self.world.now;
            let (id, conv) = self.world.connect(
                Role::Send {
                    bytes: 5,
                    fin: false,
                },
                Role::Serve {
                    request: 5,
                    bytes,
                    fin: false,
                },
            );
            while self.world.tcp(0, conv).is_some_and(|t| t.received < bytes) {
                let next = self.world.now.after(MS / 5);
                self.world.run_until(next);
                assert!(
                    self.world.now.since(start) < 60 * SEC,
                    "{bytes} bytes did not arrive"
                );
            }
            spans.push(self.world.now.since(start).as_millis_f64());
            self.world.reset(0, id);
        }
        percentiles(spans, 1.0)
    }

    /// Share of what the line could deliver, fairness, and all bytes delivered.
    pub fn bulk(&mut self, conns: usize, secs: u64, up: bool) -> (f64, f64, u64) {
        let bulk = Bulk::start(&mut self.world, conns, up);
        self.world.run_for(3 * SEC);
        let before = bulk.each(&self.world);
        let share = bulk.share(&mut self.world, secs * SEC);
        let after = bulk.each(&self.world);
        bulk.stop(&mut self.world);
        let each = after.iter().zip(&before).map(|(a, b)| (a - b) as f64);
        (share, fairness(each), after.iter().sum())
    }

    /// `ping` while a download fills the tunnel.
    pub fn under_load(&mut self, secs: u64) -> [f64; 2] {
        let bulk = Bulk::start(&mut self.world, 1, false);
        self.world.run_for(3 * SEC);
        let spans = self.ping(secs * 50);
        bulk.stop(&mut self.world);
        spans
    }
}

/// Jain's index: 1 if all have the same, 1/n if one has all.
pub fn fairness(each: impl Iterator<Item = f64> + Clone) -> f64 {
    let squares: f64 = each.clone().map(|x| x * x).sum();
    let count = each.clone().count();
    each.sum::<f64>().powi(2) / (squares * count as f64)
}

pub fn difference(after: [Counts; 2], before: [Counts; 2]) -> [Counts; 2] {
    [0, 1].map(|i| Counts {
        offered: after[i].offered - before[i].offered,
        offered_bytes: after[i].offered_bytes - before[i].offered_bytes,
        lost: after[i].lost - before[i].lost,
        overflowed: after[i].overflowed - before[i].overflowed,
        delivered: after[i].delivered - before[i].delivered,
    })
}

/// The median and a high one, 1 being the greatest.
pub fn percentiles(mut spans: Vec<f64>, high: f64) -> [f64; 2] {
    spans.sort_by(f64::total_cmp);
    let at = |p: f64| spans[((spans.len() as f64 * p) as usize).min(spans.len() - 1)];
    [at(0.5), at(high)]
}

pub fn heading() -> String {
    "path       down   waste  back  over   up    waste  many  fair   ping  p99   load  p99   open  max   1MB   max".into()
}

pub fn line(name: &str, f: &Figures) -> String {
    let pct = |x: f64| format!("{:.1}%", x * 100.0);
    format!(
        "{name:<9} {:>6} {:>6.3} {:>5} {:>5} {:>6} {:>6.3} {:>6} {:>5.2} {:>6.0}{:>5.0} {:>6.0}{:>5.0} {:>6.0}{:>5.0} {:>6.0}{:>6.0}",
        pct(f.down),
        f.down_waste,
        pct(f.down_back),
        pct(f.down_overflow),
        pct(f.up),
        f.up_waste,
        pct(f.many),
        f.fairness,
        f.ping[0],
        f.ping[1],
        f.load[0],
        f.load[1],
        f.open[0],
        f.open[1],
        f.megabyte[0],
        f.megabyte[1]
    )
}
