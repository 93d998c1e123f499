//! At which rate a path carries what we send, found from acknowledgements alone: the bottleneck's rate, the base
//! round trip, random loss told from loss by a full queue. One `Rate` a path; all its sessions share it.
//! No I/O and no clock. What is sent first, and again, is decided in `conversation` and `tunnel`.
//!
//! The model is that of BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016;
//! draft-cardwell-iccrg-bbr-congestion-control): a path is one bottleneck with a queue before it, and its state is known
//! from two numbers, the rate at which it delivers when it is busy and the round trip when its queue is empty.
//! What differs, because here random loss is the rule and the queue shall stay empty:
//!
//!  1. The rate is that of *service*: of all that was acknowledged or found lost, for a packet that is lost at random
//!     has used its share of the line. Thus random loss, at any share, neither slows us down nor blurs the measurement.
//!  2. A packet that a full queue threw away has not used the line. What the service rate says is therefore bounded by
//!     delivered / (1 − p), p being the share lost while the queue was empty, and what chance may add (`chance`).
//!  3. A queue slows us down in proportion, as in delay-based control (Brakmo, 1995; Kumar et al., "Swift", SIGCOMM 2020).
//!     It is the *least* round trip of the last moments above the base, which jitter does not reach (`queue_now`).
//!  4. The estimate is no maximum over some rounds: it rises to what was seen to be carried, and falls, by half of the
//!     difference each round, to what a busy bottleneck is seen to carry (`learn`).
//!  5. The queue is empty every few rounds, so that the base round trip needs no phase of its own to be measured in.
//!  6. Where packets get lost, a round now and then sends no more than was delivered: loss that is smaller then is the
//!     doing of a queue too short to be seen, and no chance (`doubt`).
//!
//! In Contest, where others keep the queue full, 3 to 5 do not hold: there the rules of BBRv1 do (`contest`).
//!
//! The phases: Startup, until a queue shows or the rate stops growing → Drain, until the queue is gone → Cruise, and from
//! there every `PROBE_ROUNDS` Probe and Look (where loss is in doubt Ease and Weigh first): more is asked for in one
//! round, and the next shows whether it was carried.
//! If so, still more is asked for, and in the end Startup begins again; if not, Cruise goes on. A queue that Cruise does
//! not get rid of leads to Drain, and one that Drain does not get rid of is not ours: Contest shares it, as bbr would, until
//! it is seen to be empty, or has been there for so long that its round trip is the path's.
//!
//! Where a constant names no source it was chosen on the simulated paths of `tests/rate.rs`, with real ones as a check.

mod contest;
mod doubt;
pub mod loss;
mod near;
pub mod pacer;
mod phase;
mod round;

use crate::conversation::DELAY_MOST;
use crate::time::{MS, SEC, Time};
use contest::Contest;
use doubt::Doubt;
use loss::Loss;
use near::Near;
use pacer::Pacer;
pub use phase::Phase;
use round::{Recent, Round};

/// A full packet, bytes; near enough whatever the mtu is.
const PACKET: f64 = 1400.0;
/// Segments that may leave on a path of which nothing is known, spread over a round trip, as a rate (RFC 6928 has 10;
/// a tunnel carries many connections at once and repeats what gets lost early).
const FIRST_WINDOW: f64 = 32.0 * PACKET;
/// Assumed round trip before the first sample.
const FIRST_RTT: u64 = 100 * MS;
/// The base round trip is the least of this span (BBR draft: 10 s).
const BASE_SPAN: u64 = 10 * SEC;
/// A pause up to this is the grain of the timers; a longer one means that the senders had nothing to send.
const GRAIN: u64 = 2 * MS;
/// A round with more idle time than this share of it says nothing of the path's limit.
const IDLE: f64 = 0.15;
/// Packets in a round from which it says that the path is slower than thought.
const TELLING: u32 = 16;
/// So little in flight, bytes, is a thin flow.
const ALONE: u64 = 10_000;
/// In flight at least, bytes, however slow the path seems.
const LEAST_WINDOW: u64 = 12 * PACKET as u64;
/// Nothing shorter than this is measured, microseconds: acks and timers come in clumps of some milliseconds.
const SHORTEST: u64 = 5 * MS;
/// From this rate on, bytes per second, a datagram of acks holds more than a few.
const MANY_ACKS: f64 = 4e6;
/// What goes ahead of bulk delays it by this at most, and bulk goes first when half of it is owed, microseconds.
const DEBT: u64 = 20 * MS;
/// The lowest rate, bytes per second: some packets a second must go, or nothing can be measured.
const LEAST_RATE: f64 = 8_000.0;

/// What is remembered with a transmission, to measure with it when it is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    pub sent_at: Time,
    delivered: u64,
    lost: u64,
    delivered_at: Time,
    first_sent_at: Time,
    /// Sent in Startup or Cruise while no queue stood: whether it gets lost is chance.
    calm: bool,
    /// Sent while next to nothing else was in flight.
    alone: bool,
    /// Sent at less than the capacity, to see whether as much of it gets lost.
    eased: bool,
}

/// Bounds that the operator set, bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub up: Option<f64>,
    pub down: Option<f64>,
}

/// The state of one path.
#[derive(Debug)]
pub struct Rate {
    pacer: Pacer,
    limits: Limits,
    phase: Phase,
    /// Bytes per second that the bottleneck serves, headers and seal included.
    capacity: f64,
    /// Bytes sent and neither acknowledged nor given up.
    in_flight: u64,
    delivered: u64,
    lost: u64,
    delivered_at: Time,
    first_sent_at: Time,
    /// Bulk had to wait for acknowledgements since it last left.
    full: bool,
    /// The youngest transmission that was acknowledged, and whether it is news.
    newest: Stamp,
    heard: bool,
    /// Transmissions `SHORTEST` apart: where a sample begins if the round trip is too short for one.
    anchors: [Stamp; 2],
    /// How far packets are taken to overtake each other: it grows when something was given up too early.
    overtaken: u64,
    base_rtt: Option<u64>,
    /// The least round trips of the present half of `BASE_SPAN` and of the one before it.
    base_now: u64,
    base_before: u64,
    base_at: Time,
    srtt: u64,
    rttvar: u64,
    recent: Recent,
    loss: Loss,
    doubt: Doubt,
    near: Near,
    round: Round,
    /// The last round had idle time.
    was_idle: bool,
    /// Bytes per second that were sent in the last round: they are acknowledged in this one.
    sent_before: f64,
    /// The queue at the end of the last round, microseconds of delay.
    queue: u64,
    /// Rounds since the last probe, and rounds in which startup did not grow.
    rounds: u32,
    stalled: u32,
    startup_best: f64,
    probed_at: Time,
    /// Rounds in a row in which a queue stood while cruising.
    stood: u32,
    /// The queue when it began to stand.
    stood_from: u64,
    /// The capacity at the end of the last round without a queue.
    capacity_calm: f64,
    /// The capacity before the present probe or drain, and the queue when the drain began.
    capacity_before: f64,
    drained_from: u64,
    /// What is known of a queue that others keep, since the last contest began.
    contest: Contest,
}

impl Rate {
    pub fn new(limits: Limits, now: Time) -> Rate {
        Rate {
            pacer: Pacer::new(DEBT, now),
            limits,
            phase: Phase::Startup,
            capacity: FIRST_WINDOW / (FIRST_RTT as f64 / SEC as f64),
            in_flight: 0,
            delivered: 0,
            lost: 0,
            delivered_at: now,
            first_sent_at: now,
            full: false,
            newest: Stamp::default(),
            heard: false,
            anchors: [Stamp::default(); 2],
            overtaken: 2 * MS,
            base_rtt: None,
            base_now: u64::MAX,
            base_before: u64::MAX,
            base_at: now,
            srtt: FIRST_RTT,
            rttvar: FIRST_RTT / 2,
            recent: Recent::default(),
            loss: Loss::default(),
            doubt: Doubt::new(now),
            near: Near::default(),
            round: Round {
                began_at: now,
                ..Round::default()
            },
            was_idle: true,
            sent_before: 0.0,
            queue: 0,
            rounds: 0,
            stalled: 0,
            startup_best: 0.0,
            probed_at: now,
            stood: 0,
            stood_from: 0,
            capacity_calm: 0.0,
            capacity_before: 0.0,
            drained_from: 0,
            contest: Contest::new(0.0, 0),
        }
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes per second at which bulk may leave now.
    pub fn pacing(&self) -> f64 {
        let rate = self.capacity * self.gain();
        rate.min(self.limits.up.unwrap_or(f64::MAX)).max(LEAST_RATE)
    }

    /// Whether the operator's limit is what keeps bulk back.
    pub fn is_capped(&self) -> bool {
        self.limits.up.is_some_and(|up| up <= self.pacing())
    }

    /// When something that is not acknowledged yet was sent, or later.
    pub fn waits_since(&self) -> Option<Time> {
        (self.in_flight > 0).then_some(self.first_sent_at)
    }

    /// The queue that noise can feign, microseconds: a share of the round trip, a tick of both ends' timers, and what an ack
    /// waits for where segments are far apart.
    fn tolerance(&self) -> u64 {
        let spacing = (2.0 * PACKET / self.capacity * SEC as f64) as u64;
        let share = (self.base() / 32).clamp(MS / 2, 5 * MS);
        // below some 10 ms it is the machines that set the pace, and they are away for milliseconds
        let nearby = SHORTEST.saturating_sub(self.base() / 4);
        (share + MS + spacing.min(DELAY_MOST)).max(nearby)
    }

    fn queue_now(&self) -> u64 {
        self.recent.least().saturating_sub(self.base())
    }

    fn base(&self) -> u64 {
        self.base_rtt.unwrap_or(FIRST_RTT).max(MS / 2)
    }

    /// The most bytes in flight before bulk has to wait: twice what the path holds, for acks that come late or bundled.
    pub fn in_flight_limit(&self) -> u64 {
        let (held, late) = match self.phase {
            // about as the others count, but for a path so short that acks come in clumps
            Phase::Contest => {
                let late = (10 * MS).saturating_sub(self.base() / 2);
                (self.contest.held(self.base()), late.max(self.base() / 20))
            }
            _ => (self.base(), 10 * MS),
        };
        let path = self.capacity * (held + late) as f64 / SEC as f64;
        let limit = (2.0 * path) as u64 + LEAST_WINDOW;
        limit.min(self.near.limit(self.base()))
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// When bulk may leave next: `NEVER` while too much is in flight (an acknowledgement has to come first).
    pub fn release(&mut self) -> Time {
        if self.in_flight >= self.in_flight_limit() {
            (self.full, self.round.full) = (true, true);
            return Time::NEVER;
        }
        self.pacer.release()
    }

    /// Whether a small message may go ahead of the bulk: while what went ahead is below 10 ms of the rate.
    pub fn may_go_ahead(&self, now: Time) -> bool {
        self.pacer.owes_less_than(DEBT / 2, now)
    }

    /// Whether anything sent there was ever acknowledged.
    pub fn has_delivered(&self) -> bool {
        self.delivered > 0
    }

    /// Smoothed round trip, microseconds.
    pub fn srtt(&self) -> u64 {
        self.srtt
    }

    /// How long to wait for an acknowledgement before asking again (RFC 6298's and RFC 9002's shape), microseconds.
    pub fn timeout(&self) -> u64 {
        self.srtt + (4 * self.rttvar).max(10 * MS) + 10 * MS
    }

    /// By how much a later packet may overtake an earlier one before that counts as lost, microseconds (RACK, RFC 8985, has
    /// a quarter of the round trip): long enough for a lost datagram of acks to be repeated. A `hole` is too small for one,
    /// where datagrams hold many acks; it only waits for what the path has been seen to reorder.
    pub fn reordering(&self, hole: bool) -> u64 {
        let repeated = (self.srtt / 8).clamp(4 * MS, 2 * DELAY_MOST + 2 * MS);
        if hole && self.capacity > MANY_ACKS {
            self.overtaken
        } else {
            repeated.max(self.overtaken)
        }
    }

    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Estimated rate of the bottleneck, bytes per second.
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    pub fn base_rtt(&self) -> Option<u64> {
        self.base_rtt
    }

    /// A segment leaves in `bytes` of datagram.
    pub fn on_sent(&mut self, bytes: usize, now: Time) -> Stamp {
        let pause = now.since(self.pacer.release());
        if !std::mem::take(&mut self.full) && pause > GRAIN {
            self.round.idle += pause;
        }
        let rate = self.pacing();
        self.pacer.charge(bytes, rate, now);
        if self.in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        self.in_flight += bytes as u64;
        self.round.sent += bytes as u64;
        Stamp {
            sent_at: now,
            delivered: self.delivered,
            lost: self.lost,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            alone: self.in_flight < ALONE,
            eased: self.phase == Phase::Ease,
            calm: matches!(self.phase, Phase::Startup | Phase::Cruise)
                && self.queue <= self.tolerance(),
        }
    }

    /// A round trip was measured.
    pub fn on_rtt(&mut self, rtt: u64, now: Time) {
        if self.base_rtt.is_none() {
            (self.srtt, self.rttvar) = (rtt, rtt / 2);
            self.capacity = FIRST_WINDOW / (rtt.max(MS) as f64 / SEC as f64);
        } else {
            self.rttvar = (3 * self.rttvar + self.srtt.abs_diff(rtt)) / 4;
            self.srtt = (7 * self.srtt + rtt) / 8;
        }
        if now.since(self.base_at) > BASE_SPAN / 2 {
            (self.base_at, self.base_before, self.base_now) = (now, self.base_now, rtt);
        }
        self.base_now = self.base_now.min(rtt);
        self.base_rtt = Some(self.base_now.min(self.base_before));
        self.recent
            .record(rtt, self.base() / 8, self.delivered, now);
        self.round.least_rtt = Some(self.round.least_rtt.map_or(rtt, |least| least.min(rtt)));
    }

    /// A transmission of `bytes` was acknowledged. Only one that its ack has `named` is measured: what is implied may have
    /// arrived in an earlier transmission.
    pub fn on_delivered(&mut self, bytes: usize, stamp: &Stamp, named: bool, now: Time) {
        self.in_flight = self.in_flight.saturating_sub(bytes as u64);
        self.delivered += bytes as u64;
        self.delivered_at = now;
        self.round.packets += 1;
        self.round.arrived += bytes as u64;
        if named && stamp.sent_at >= self.newest.sent_at {
            self.newest = *stamp;
            self.heard = true;
        }
        if named {
            self.first_sent_at = self.first_sent_at.max(stamp.sent_at);
        }
    }

    /// All that one datagram acknowledged was told: takes the measurement. Within a datagram it would be too early, since
    /// its acks all arrive at the same time.
    pub fn measure(&mut self, now: Time) {
        if !std::mem::take(&mut self.heard) {
            return;
        }
        let stamp = self.newest;
        let from = self.sample_begins(now);
        let by_acks = now.since(from.delivered_at);
        let span = by_acks.max(stamp.sent_at.since(from.first_sent_at));
        // shorter than the path itself: a clump of acks, not a rate
        if span >= (self.base() / 2).max(SHORTEST) {
            let delivered = (self.delivered - from.delivered) as f64;
            let served = delivered + (self.lost - from.lost) as f64;
            let per_second = SEC as f64 / span as f64;
            self.round.service = served * per_second;
            self.round.delivery = delivered * per_second;
            if self.phase == Phase::Startup {
                let sample = self.round.sample(self.chance());
                self.capacity = self.capacity.max(sample);
            }
            let per_second = SEC as f64 / by_acks.max(1) as f64;
            self.round.busy = [served * per_second, delivered * per_second];
        }
        if self.phase == Phase::Startup {
            self.look_for_the_end_of_startup(now);
        }
        let over = now.since(self.round.began_at) >= SHORTEST;
        if over && stamp.delivered >= self.round.ends_at {
            self.end_round(now);
        }
    }

    /// The transmission that the newest one is measured against: what it saw when it left or, on a short path, what an
    /// earlier one saw.
    fn sample_begins(&mut self, now: Time) -> Stamp {
        let newest = self.newest;
        if newest.sent_at.since(self.anchors[1].sent_at) >= SHORTEST {
            self.anchors = [self.anchors[1], newest];
        }
        if now.since(newest.delivered_at) < SHORTEST {
            self.anchors[0]
        } else {
            newest
        }
    }

    /// A transmission of `bytes` is given up.
    pub fn on_lost(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes as u64);
        self.lost += bytes as u64;
        self.round.lost += bytes as u64;
    }

    /// What became of a datagram; called in the order of sending. `rtt` is the least round trip of those sent just before it that
    /// arrived: where the queue was not empty, a loss may have been the queue's.
    pub fn record_fate(&mut self, lost: bool, stamp: &Stamp, rtt: u64) {
        // a thin flow's acks are all held back, and it fills no queue
        let slack = if stamp.alone { DELAY_MOST } else { 0 };
        if stamp.eased {
            self.doubt.record(lost);
        }
        if stamp.calm && rtt <= self.base() + self.tolerance() + slack {
            self.loss.record(lost);
        }
    }

    /// What was given up has arrived after all.
    pub fn on_late(&mut self) {
        self.loss.retract();
        self.overtaken = (self.overtaken + MS / 4).min(self.base() / 4).max(2 * MS);
    }

    /// A transmission of `bytes` will never be heard of: its session is gone.
    pub fn on_forgotten(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes as u64);
    }

    fn end_round(&mut self, now: Time) {
        let mut round = self.round;
        let span = now.since(round.began_at).max(1);
        self.near
            .end_round(self.base(), span, round.arrived, round.lost, round.full);
        let span = span as f64;
        let idle = round.idle as f64 > span * IDLE;
        round.limited = idle || self.was_idle;
        self.was_idle = idle;
        let sent = round.sent as f64 / span * SEC as f64;
        let sent_before = std::mem::replace(&mut self.sent_before, sent);
        self.round = Round {
            ends_at: self.delivered,
            began_at: now,
            ..Round::default()
        };
        self.queue = self.queue_now();
        let standing = self.queue > self.tolerance();
        let before = self.capacity;
        self.learn(&round);
        if !standing {
            self.capacity_calm = self.capacity;
        } else if self.capacity_calm == 0.0 {
            self.capacity_calm = before;
        }
        self.rounds += 1;
        self.next_phase(&round, sent_before, standing, now);
    }

    /// The share that may be lost by chance: loss above it was the queue's. Three standard errors and half a percent are
    /// added to what the calm path loses.
    fn chance(&self) -> f64 {
        let packets = self.capacity * self.base() as f64 / SEC as f64 / PACKET;
        (self.loss.share() + 3.0 * self.loss.deviation(packets) + 0.005).min(0.6)
    }

    /// Moves the estimate by one round's measurement.
    fn learn(&mut self, round: &Round) {
        let chance = self.chance();
        let sample = round.sample(chance);
        let never_empty = round
            .least_rtt
            .is_some_and(|rtt| rtt > self.base() + self.tolerance());
        let busy = round.busy[0].min(round.busy[1] / (1.0 - chance));
        if self.phase == Phase::Contest {
            self.capacity = self.contest.learn(sample, round.limited);
        } else if sample > self.capacity {
            self.capacity = sample;
        } else if never_empty && !round.limited && round.packets >= TELLING && busy > 0.0 {
            if self.phase == Phase::Drain {
                self.capacity = busy.max(self.capacity_before / 4.0);
            } else if busy < self.capacity {
                self.capacity += (busy - self.capacity) * 0.5;
            }
        }
    }
}
