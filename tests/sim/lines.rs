//! Lines that are not steady, each under its name: rates that wander and halve, delays that scatter, a medium that others
//! use, providers that police, queues of a packet or a few. And what one transfer over such a line is worth.

use super::World;
use super::line::{Line, Rates};
use super::link::{Counts, Shape};
use super::measure::{Bulk, Pings, Scenario, difference, options, percentiles};
use kcptun::time::{Duration, Instant, MS, SEC};

/// What the queue before a line of changing rate holds, bytes.
const QUEUE: usize = 1_500_000;
/// Times a minute at which a wandering line carries nothing for a while.
const GAPS: f64 = 4.0;
/// How long a transfer is given to begin: its share of that is a figure of its own.
pub const BEGIN: Duration = Duration::from_secs(3);
/// How long the last pings are waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the bottleneck's rate does.
#[derive(Clone, Debug)]
pub enum Course {
    /// It is the shape's.
    Steady,
    /// Bits per second on average.
    Wandering(f64),
    /// Bits per second, and how long it is kept.
    Halving(f64, Duration),
    /// Up and down.
    Recorded([Rates; 2]),
}

impl Course {
    /// Of the line from end `from`.
    fn rates(&self, from: usize, seed: u64) -> Option<Rates> {
        match self {
            Course::Steady => None,
            Course::Wandering(mean) => {
                let seed = *mean as u64 + 2 * seed + from as u64;
                Some(Rates::wandering(*mean, GAPS, seed))
            }
            Course::Halving(rate, every) => Some(Rates::halving(*rate, *every)),
            Course::Recorded(rates) => Some(rates[from].clone()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Unsteady {
    pub name: String,
    pub shape: Shape,
    pub course: Course,
    /// So little that a ping each 20 ms would be a good part of what it carries.
    pub thin: bool,
}

impl From<Scenario> for Unsteady {
    fn from(scenario: Scenario) -> Unsteady {
        steady(scenario.name, scenario.shape())
    }
}

fn steady(name: impl Into<String>, shape: Shape) -> Unsteady {
    Unsteady {
        name: name.into(),
        shape,
        course: Course::Steady,
        thin: false,
    }
}

/// A line whose rate changes; round trip in ms.
fn changing(name: &str, rtt: u64, course: Course) -> Unsteady {
    Unsteady {
        course,
        ..steady(name, Shape::path(rtt, 0.0, 0.0, 0))
    }
}

/// 50 Mbit/s with jitter that keeps the order; round trip and jitter in ms, loss in percent.
fn jittery(name: &str, rtt: u64, jitter: u64, loss: f64) -> Unsteady {
    let shape = Shape {
        jitter: jitter * MS,
        ..Shape::path(rtt, loss, 50.0, 100)
    };
    steady(name, shape)
}

/// 100 Mbit/s of which a policer lets `mbit` pass; loss in percent.
pub fn policed(mbit: f64, loss: f64) -> Unsteady {
    let shape = Shape {
        policed: mbit * 1e6,
        ..Shape::path(60, loss, 100.0, 40)
    };
    let lossy = if loss > 0.0 { "-lossy" } else { "" };
    Unsteady {
        thin: true,
        ..steady(format!("policed-{mbit}{lossy}"), shape)
    }
}

/// The line before a policer is set up (`Trial::police`).
pub fn unpoliced(loss: f64) -> Unsteady {
    policed(0.0, loss)
}

/// A queue of a packet or a few; Mbit/s and ms.
pub fn short_queue(mbit: f64, queue: u64) -> Unsteady {
    Unsteady {
        thin: true,
        ..steady(
            format!("queue-{mbit}-{queue}"),
            Shape::path(60, 0.0, mbit, queue),
        )
    }
}

/// Mbit/s that policers let pass, and the rates and lengths (ms) of short queues.
pub const POLICED: [f64; 5] = [0.5, 1.0, 2.0, 10.0, 20.0];
pub const SHORT_QUEUES: [(f64, u64); 9] = [
    (2.0, 1),
    (2.0, 3),
    (2.0, 5),
    (5.0, 1),
    (5.0, 5),
    (10.0, 1),
    (10.0, 3),
    (20.0, 1),
    (20.0, 5),
];

/// All of them.
pub fn lines() -> Vec<Unsteady> {
    let mut lines = vec![
        changing("wandering", 60, Course::Wandering(20e6)),
        changing("wandering-fast", 40, Course::Wandering(100e6)),
        changing("wandering-slow", 60, Course::Wandering(4e6)),
        changing("halving", 60, Course::Halving(40e6, 2 * SEC)),
        changing("halving-fast", 60, Course::Halving(40e6, SEC / 2)),
        jittery("jitter-1", 100, 1, 0.0),
        jittery("jitter-5", 100, 5, 0.0),
        jittery("jitter-10", 100, 10, 0.0),
        jittery("jitter-20", 100, 20, 0.0),
        jittery("jitter-30", 100, 30, 0.0),
        jittery("jitter-30-near", 30, 30, 0.0),
        jittery("jitter-30-lossy", 100, 30, 1.0),
        steady("disorder", disorder()),
        steady("wifi", wifi()),
        steady(
            "reorder-50",
            late(Shape::path(100, 10.0, 10.0, 100), 0.5, 50),
        ),
        steady("late-40", late(Shape::path(60, 0.0, 20.0, 100), 0.2, 40)),
        steady("turns", turns()),
    ];
    lines.extend(POLICED.map(|mbit| policed(mbit, 0.0)));
    lines.extend(POLICED.map(|mbit| policed(mbit, 10.0)));
    lines.extend(SHORT_QUEUES.map(|(mbit, queue)| short_queue(mbit, queue)));
    lines
}

pub fn named(name: &str) -> Option<Unsteady> {
    lines().into_iter().find(|line| line.name == name)
}

fn disorder() -> Shape {
    Shape {
        jitter: 30 * MS,
        disorder: true,
        ..Shape::path(100, 1.0, 50.0, 100)
    }
}

fn wifi() -> Shape {
    Shape {
        jitter: 10 * MS,
        burst: 3.0,
        ..late(Shape::path(30, 1.0, 80.0, 100), 0.02, 10)
    }
}

fn turns() -> Shape {
    Shape {
        turns: 20 * MS,
        ..Shape::path(30, 0.0, 80.0, 100)
    }
}

/// This share of the packets is so many ms late.
fn late(shape: Shape, share: f64, ms: u64) -> Shape {
    Shape {
        reorder: share,
        reorder_by: ms * MS,
        ..shape
    }
}

/// A recorded line, both ways from the same second on; round trip in ms.
pub fn recorded(name: &str, down: &str, up: &str, second: u64, rtt: u64) -> Unsteady {
    let rates = [up, down].map(|text| Rates::recorded(text, second));
    changing(name, rtt, Course::Recorded(rates))
}

/// What went over the line while a transfer was watched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    /// Bytes that arrived, as a share of what the line could carry × (1 − loss).
    pub share: f64,
    /// Bytes that were put on the line, as a share of what it could carry.
    pub sent: f64,
    /// Bytes that were put on the line, and that went the other way, for each that arrived.
    pub waste: f64,
    pub back: f64,
    /// Share of the packets that the queue, or the policer, dropped.
    pub dropped: f64,
}

/// A transfer over such a line.
pub struct Trial {
    pub world: World,
    pub bulk: Bulk,
    /// The end that sends.
    pub sender: usize,
    began: Instant,
    rates: Option<Rates>,
    pings: Pings,
}

impl Trial {
    /// Begins a transfer when both ends know each other; a line of changing rate begins with it.
    pub fn start(line: &Unsteady, connections: usize, up: bool, seed: u64) -> Trial {
        let mut world = World::new(options(line.shape, seed));
        let pings = Pings::connect(&mut world);
        world.run_for(4 * line.shape.delay + 2 * SEC);
        let (began, sender) = (world.now, usize::from(!up));
        let rates = [0, 1].map(|from| {
            let rates = line.course.rates(from, seed);
            rates.map(|rates| rates.beginning(began))
        });
        for (link, rates) in world.links.iter_mut().zip(&rates) {
            if let Some(rates) = rates {
                link.set_line(Line::new(rates.clone(), QUEUE));
            }
        }
        Trial {
            bulk: Bulk::start(&mut world, connections, up),
            world,
            sender,
            began,
            rates: rates[sender].clone(),
            pings,
        }
    }

    /// From now on a policer lets so many Mbit/s pass; 0: all.
    pub fn police(&mut self, mbit: f64) {
        let mut shape = self.world.links[self.sender].shape;
        shape.policed = mbit * 1e6;
        self.world.set_shape(shape);
    }

    /// Bytes that could have arrived between two times, if none were lost.
    pub fn capacity(&self, from: Instant, to: Instant) -> f64 {
        let shape = self.world.links[self.sender].shape;
        let entered = |at: Instant| at.before(shape.delay).max(self.began);
        let (from, to) = (entered(from), entered(to));
        let bits = match &self.rates {
            Some(rates) => rates.bits(from, to),
            None if shape.policed > 0.0 => {
                shape.rate.min(shape.policed) * to.since(from).as_micros_f64() / 1e6
            }
            None => shape.rate * to.since(from).as_micros_f64() / 1e6,
        };
        bits / 8.0
    }

    /// Goes on for `span`.
    pub fn run(&mut self, span: Duration) -> Carried {
        let state = |trial: &Trial| {
            let counts = [0, 1].map(|i| trial.world.links[i].counts);
            (trial.world.now, counts, trial.bulk.received(&trial.world))
        };
        let (from, before, received) = state(self);
        self.world.run_for(span);
        let (to, after, now_received) = state(self);
        let wire = difference(after, before);
        let loss = self.world.links[self.sender].shape.loss;
        let got = (now_received - received) as f64;
        let capacity = self.capacity(from, to);
        let Counts {
            offered,
            offered_bytes,
            overflowed,
            ..
        } = wire[self.sender];
        Carried {
            share: got / capacity / (1.0 - loss),
            sent: offered_bytes as f64 / capacity,
            waste: offered_bytes as f64 / got,
            back: wire[1 - self.sender].offered_bytes as f64 / got,
            dropped: overflowed as f64 / offered.max(1) as f64,
        }
    }

    /// The same, with a ping each 20 ms beside it: their median and 95th percentile, ms.
    fn run_with_pings(&mut self, span: Duration) -> (Carried, [f64; 2]) {
        let from = self.world.now;
        self.pings.send(&mut self.world, from, span / Pings::EVERY);
        let carried = self.run(span);
        let end = self.world.now.after(PATIENCE);
        while !self.pings.are_back(&self.world) && self.world.now < end {
            self.world.run_for(50 * MS);
        }
        let spans = self.pings.round_trips(&self.world);
        (carried, percentiles(spans, 0.95))
    }
}

/// What one transfer was worth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// After it has begun.
    pub carried: Carried,
    /// Its share while it began.
    pub first: f64,
    /// Median and 95th percentile, ms; none on a thin line.
    pub ping: Option<[f64; 2]>,
}

/// One transfer, for `secs` after it has begun.
pub fn measure(line: &Unsteady, up: bool, seed: u64, secs: u64) -> Figures {
    let mut trial = Trial::start(line, 1, up, seed);
    let first = trial.run(BEGIN).share;
    if line.thin {
        return Figures {
            carried: trial.run(secs * SEC),
            first,
            ping: None,
        };
    }
    let (carried, ping) = trial.run_with_pings(secs * SEC);
    Figures {
        carried,
        first,
        ping: Some(ping),
    }
}

pub fn heading() -> String {
    "line             share  first   ping  p95    sent  waste  back  dropped".into()
}

pub fn row(name: &str, f: &Figures) -> String {
    let pct = |x: f64| format!("{:.1}%", x * 100.0);
    let ping = f.ping.map_or("    -    -".into(), |ping| {
        format!("{:>5.0}{:>5.0}", ping[0], ping[1])
    });
    format!(
        "{name:<16} {:>6} {:>6} {:>11} {:>6.2} {:>6.3} {:>5} {:>6}",
        pct(f.carried.share),
        pct(f.first),
        ping,
        f.carried.sent,
        f.carried.waste,
        pct(f.carried.back),
        pct(f.carried.dropped),
    )
}
