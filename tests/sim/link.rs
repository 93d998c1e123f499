//! One direction of an emulated path: a policer, a bottleneck with a drop-tail queue, then random loss, then delay.
//! Repeatable from its seed; time is an argument. A bottleneck whose rate changes is in `line`.

use super::line::Line;
use kcptun::time::{Duration, Instant, MS, SEC};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

/// Bytes of IP and UDP headers that a datagram takes on the line.
const HEADERS: usize = 28;

/// The burst that a policer lets pass, as a span of its rate, and its least, bytes.
const BUCKET: Duration = Duration::from_millis(50);
const BUCKET_LEAST: f64 = 3000.0;

/// What the path does to datagrams. Chances are 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub delay: Duration,
    /// Each datagram is this much later at most, each by a span of its own; the order is kept.
    pub jitter: Duration,
    /// Jitter swaps datagrams.
    pub disorder: bool,
    /// What arrives waits for the next turn of a shared medium; turns are 1 ms to this span apart. 0: at once.
    pub turns: Duration,
    /// Bits per second that a policer lets pass, without a queue; 0: all.
    pub policed: f64,
    pub loss: f64,
    /// Mean number of datagrams lost in a row.
    pub burst: f64,
    /// Bits per second; 0 is unlimited.
    pub rate: f64,
    /// The longest wait at the bottleneck before datagrams are dropped.
    pub queue: Duration,
    pub corrupt: f64,
    pub duplicate: f64,
    /// Chance to be held back by `reorder_by`, and so overtaken.
    pub reorder: f64,
    pub reorder_by: Duration,
    /// Nothing passes.
    pub dead: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            delay: 10 * MS,
            jitter: Duration::ZERO,
            disorder: false,
            turns: Duration::ZERO,
            policed: 0.0,
            loss: 0.0,
            burst: 1.0,
            rate: 0.0,
            queue: 50 * MS,
            corrupt: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: 10 * MS,
            dead: false,
        }
    }
}

impl Shape {
    /// A path as one describes it: round trip in ms, loss in percent a way, Mbit/s, queue in ms.
    pub fn path(rtt: u64, loss: f64, mbit: f64, queue: u64) -> Shape {
        Shape {
            delay: rtt * MS / 2,
            loss: loss / 100.0,
            rate: mbit * 1e6,
            queue: queue * MS,
            ..Shape::default()
        }
    }
}

/// What becomes of one datagram that a test has chosen, besides what the shape does.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Pass,
    Drop,
    /// Held back by so long, so that others overtake it.
    Delay(Duration),
    /// Arrives, and so much later again.
    Repeat(Duration),
    /// Cut to at most so many bytes.
    Truncate(usize),
    /// This byte, counted round and round, is changed by these bits.
    Corrupt(usize, u8),
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub offered: u64,
    /// With IP and UDP headers.
    pub offered_bytes: u64,
    pub lost: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    pub delivered: u64,
}

/// A provider slows down each flow that has lasted: from `after` on, a pair of addresses gets `policed` bits per
/// second, without a queue.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    pub after: Duration,
    pub policed: f64,
}

/// A flow: when it began, and what its policer would let pass at a time, bytes.
type Flow = (Instant, Bucket);

/// From where, and whereto.
pub type Addressed = Option<(SocketAddr, SocketAddr)>;

/// When it arrives, its place among those of the same time, its bytes, and its addresses.
type OnTheWay = (Instant, u64, Vec<u8>, Addressed);

/// A token bucket: what it would let pass at a time, bytes.
#[derive(Default)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Whether so many bytes pass at this rate, bits per second; 0: all do.
    fn passes(&mut self, rate: f64, now: Instant, size: usize) -> bool {
        let rate = rate / 8.0 / SEC.as_micros_f64();
        if rate == 0.0 {
            return true;
        }
        let bucket = (rate * BUCKET.as_micros_f64()).max(BUCKET_LEAST);
        let tokens = (self.tokens + now.since(self.at).as_micros_f64() * rate).min(bucket);
        let passes = tokens >= size as f64;
        let used = if passes { size as f64 } else { 0.0 };
        (self.tokens, self.at) = (tokens - used, now);
        passes
    }
}

/// Whether a datagram is cut out.
pub type Cut = Box<dyn FnMut(&[u8]) -> bool>;

pub struct Link {
    pub shape: Shape,
    pub counts: Counts,
    /// Those of the next datagrams, one each.
    pub fates: VecDeque<Fate>,
    rng: SmallRng,
    in_burst: bool,
    /// When the bottleneck will have sent what it holds; links that share a bottleneck share this.
    line_free: Rc<Cell<Instant>>,
    /// A bottleneck whose rate changes takes the place of the shape's.
    line: Option<Rc<RefCell<Line>>>,
    policer: Bucket,
    /// Flows that last are slowed down.
    pub throttle: Option<Throttle>,
    flows: HashMap<(SocketAddr, SocketAddr), Flow>,
    /// The pair of addresses whose datagrams get lost.
    pub blocked: Option<(SocketAddr, SocketAddr)>,
    /// Which datagrams somebody on the way cuts out.
    pub cuts: Option<Cut>,
    /// The medium's next turn.
    turn: Instant,
    last_due: Instant,
    wire: BinaryHeap<Reverse<OnTheWay>>,
    serial: u64,
}

impl Link {
    pub fn new(shape: Shape, seed: u64) -> Link {
        Link {
            shape,
            counts: Counts::default(),
            fates: VecDeque::new(),
            rng: SmallRng::seed_from_u64(seed),
            in_burst: false,
            line_free: Rc::default(),
            line: None,
            policer: Bucket::default(),
            throttle: None,
            flows: HashMap::new(),
            blocked: None,
            cuts: None,
            turn: Instant::ZERO,
            last_due: Instant::ZERO,
            wire: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// From now on, what is offered here goes through the bottleneck of another link, behind what that link put there. Its
    /// loss and delay stay its own. Both shapes have to name the same rate and queue.
    pub fn share_bottleneck(&mut self, other: &Link) {
        self.line_free = other.line_free.clone();
        self.line = other.line.clone();
    }

    /// From now on this is the bottleneck, whatever rate and queue the shape has.
    pub fn set_line(&mut self, line: Line) {
        self.line = Some(Rc::new(RefCell::new(line)));
    }

    /// A datagram enters.
    pub fn offer(&mut self, now: Instant, datagram: &[u8]) {
        self.offer_to(now, None, datagram);
    }

    pub fn offer_to(&mut self, now: Instant, addressed: Addressed, datagram: &[u8]) {
        let size = datagram.len() + HEADERS;
        self.counts.offered += 1;
        self.counts.offered_bytes += size as u64;
        if self.shape.dead {
            self.counts.lost += 1;
            return;
        }
        let fate = self.fates.pop_front().unwrap_or(Fate::Pass);
        if let Fate::Drop = fate {
            self.counts.lost += 1;
            return;
        }
        if addressed.is_some() && addressed == self.blocked {
            self.counts.lost += 1;
            return;
        }
        if self.cuts.as_mut().is_some_and(|cuts| cuts(datagram)) {
            self.counts.lost += 1;
            return;
        }
        let passes = self.policer.passes(self.shape.policed, now, size)
            && self.passes_throttle(addressed, now, size);
        let Some(mut due) = passes.then(|| self.pass_bottleneck(now, size)).flatten() else {
            self.counts.overflowed += 1;
            return;
        };
        if self.loses() {
            self.counts.lost += 1;
            return;
        }
        due = due.after(self.shape.delay);
        if !self.shape.jitter.is_zero() {
            due = due.after(random(&mut self.rng, Duration::ZERO, self.shape.jitter));
        }
        if self.shape.reorder > 0.0 && self.rng.random_bool(self.shape.reorder) {
            due = due.after(self.shape.reorder_by);
        } else if !self.shape.disorder {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        if !self.shape.turns.is_zero() {
            due = self.wait_for_turn(due);
        }
        let mut datagram = datagram.to_vec();
        if self.shape.corrupt > 0.0
            && self.rng.random_bool(self.shape.corrupt)
            && !datagram.is_empty()
        {
            let at = self.rng.random_range(0..datagram.len());
            datagram[at] ^= self.rng.random_range(1..=255u8);
        }
        match fate {
            Fate::Delay(by) => due = due.after(by),
            Fate::Repeat(after) => self.put(due.after(after), datagram.clone(), addressed),
            Fate::Truncate(len) => datagram.truncate(len),
            Fate::Corrupt(at, bits) if !datagram.is_empty() => {
                let at = at % datagram.len();
                datagram[at] ^= bits;
            }
            Fate::Pass | Fate::Drop | Fate::Corrupt(..) => {}
        }
        if self.shape.duplicate > 0.0 && self.rng.random_bool(self.shape.duplicate) {
            self.put(due, datagram.clone(), addressed);
        }
        self.put(due, datagram, addressed);
    }

    fn passes_throttle(&mut self, addressed: Addressed, now: Instant, size: usize) -> bool {
        let (Some(throttle), Some(pair)) = (self.throttle, addressed) else {
            return true;
        };
        let (began, bucket) = self.flows.entry(pair).or_insert((now, Bucket::default()));
        now.since(*began) < throttle.after || bucket.passes(throttle.policed, now, size)
    }

    /// When the bottleneck has sent it; None: its queue is full.
    fn pass_bottleneck(&mut self, now: Instant, size: usize) -> Option<Instant> {
        if let Some(line) = &self.line {
            return line.borrow_mut().admit(now, size);
        }
        if self.shape.rate == 0.0 {
            return Some(now);
        }
        let start = self.line_free.get().max(now);
        if start.since(now) > self.shape.queue {
            return None;
        }
        let due = start.after(Duration::from_secs_f64(size as f64 * 8.0 / self.shape.rate));
        self.line_free.set(due);
        Some(due)
    }

    fn wait_for_turn(&mut self, due: Instant) -> Instant {
        while self.turn < due {
            let next = self.turn.max(due.before(self.shape.turns));
            self.turn = next.after(random(&mut self.rng, MS, self.shape.turns));
        }
        self.turn
    }

    fn put(&mut self, due: Instant, datagram: Vec<u8>, addressed: Addressed) {
        self.serial += 1;
        self.wire
            .push(Reverse((due, self.serial, datagram, addressed)));
    }

    /// A two-state chain: bursts begin so often that the share lost in the long run is `loss`.
    fn loses(&mut self) -> bool {
        let (loss, leave) = (self.shape.loss, 1.0 / self.shape.burst.max(1.0));
        let chance = match () {
            () if self.shape.burst <= 1.0 => loss,
            () if self.in_burst => 1.0 - leave,
            () => leave * loss / (1.0 - loss).max(1e-9),
        };
        self.in_burst = self.rng.random_bool(chance.clamp(0.0, 1.0));
        self.in_burst
    }

    /// When the next datagram arrives.
    pub fn due(&self) -> Option<Instant> {
        self.wire.peek().map(|Reverse((due, ..))| *due)
    }

    /// A datagram that has arrived by now.
    pub fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        Some(self.arrived_to(now)?.0)
    }

    pub fn arrived_to(&mut self, now: Instant) -> Option<(Vec<u8>, Addressed)> {
        if self.due()? > now {
            return None;
        }
        self.counts.delivered += 1;
        let Reverse((_, _, datagram, addressed)) = self.wire.pop()?;
        Some((datagram, addressed))
    }
}

/// A span between these, both included.
fn random(rng: &mut SmallRng, least: Duration, most: Duration) -> Duration {
    Duration::from_micros(rng.random_range(least.as_micros()..=most.as_micros()))
}
