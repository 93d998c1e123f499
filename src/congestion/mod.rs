//! Congestion control: how much of what we send may be on a path at once, and how fast it leaves. One `Controller` a path;
//! all its sessions share it. No I/O and no clock. What is sent first, and again, is decided in `conversation` and `tunnel`.
//!
//! What it assumes about a path, and why:
//!
//!  1. A path is a bottleneck with a queue before it. Its rate may halve or double within a second, it may carry nothing
//!     for a second, and its round trip may wander by itself. So the data in flight is limited, not the rate: a window stops
//!     when the path stops, and the first acknowledgement starts it again. Pacing only spreads the window.
//!  2. The window is the bandwidth-delay product and a headroom: the delivery rate times the span for which a packet is in
//!     flight, which is the path's own round trip (`base_rtt`) and the headroom. The rate is the best of the last few round
//!     trips (`delivery`), so that it falls within those and rises within one.
//!  3. A queue of ours responds to us. A delay that does not shrink when less is in flight is not our queue but part of the
//!     path: its jitter, or a queue that others keep (`competitive`). A rate that grows with the window was held back by it. So
//!     the headroom is learned by trial (`headroom`): large on a path that wanders, next to nothing on a steady one, whose
//!     queue stays empty.
//!  4. Loss is assumed to be our doing until it proves not to depend on the rate: it stayed when less was sent (`loss_probe`),
//!     or while Startup sent more. Then that share is by chance, and the window makes up for it. Only packets that met no queue
//!     count for that: a full queue of others' packets drops ours whatever we send. Loss beyond that share (`overload`) comes
//!     from a policer, or from a queue that is too short to be seen.
//!  5. Below a round trip of some 10 ms the queue is in the sockets of the machines at both ends. A second limit holds there,
//!     which is learned from losses (`host`).
//!  6. A rate that the senders did not need says nothing: one that was measured while they had too little to send, or while a
//!     probe held them back, never lowers the estimate.
//!
//! The modes: Startup doubles the window each round trip until a queue shows, the delivery rate stops growing, or too much is
//! lost. Then Cruise keeps the window of point 2; there is no Drain, since a window that has become smaller drains by
//! itself. Two probes interrupt it: one for the base round trip, one for loss. Where the queue stays empty however fast the
//! rate grows, Startup begins again.
//!
//! Work that this one learned from: BBR (Cardwell et al., ACM Queue 14(5), 2016) for the two numbers that describe a
//! path and for delivery rate samples; Copa (Arun and Balakrishnan, NSDI 2018) and FAST TCP (Wei et al., 2006) for a window
//! that aims at a queue; C4 (draft-huitema-ccwg-c4-design) for a round trip that wanders without a queue; PCC Vivace (Dong et
//! al., NSDI 2018) for trials. A constant that names no source was chosen on the simulated paths of
//! `tests/tunnel/rate.rs` and `tests/tunnel/lines.rs`, with recorded ones as a check.

mod base_rtt;
mod competitive;
mod delivery;
mod headroom;
mod host;
pub(crate) mod loss;
mod loss_probe;
mod overload;
pub(crate) mod pacer;
mod round;
mod rtt;
mod startup;

use crate::time::{Duration, Instant, MS, SEC};
use base_rtt::BaseRtt;
use delivery::Delivery;
use headroom::Headroom;
use host::HostLimit;
use loss::Loss;
use loss_probe::{CHANCE_MAX, LossProbe};
use overload::{Overload, Verdict};
use pacer::Pacer;
use round::{Recent, Round, Seen};
use rtt::Rtt;
use startup::{Next, Startup};

/// A full packet, bytes; near enough whatever the mtu is.
const PACKET: f64 = 1400.0;
/// The window of a path of which nothing is known, bytes (RFC 6928 has 10 segments; a tunnel carries many connections at
/// once and retransmits early).
const FIRST_WINDOW: f64 = 32.0 * PACKET;
/// What may be in flight beyond the window, bytes: what is just being written and acknowledged.
const EXTRA_WINDOW: f64 = 2.0 * PACKET;
/// The longest pause that the granularity of timers explains; after a longer one the senders had nothing to
/// send.
const TIMER_GRANULARITY: Duration = Duration::from_millis(2);
/// The shortest span that a rate is measured over: acks and timers come in clumps of some milliseconds.
const MEASUREMENT_SPAN_MIN: Duration = Duration::from_millis(5);
/// The fewest packets that a rate is measured over.
const MEASUREMENT_PACKETS_MIN: f64 = 6.0;
/// The longest span that a rate is measured over.
const MEASUREMENT_SPAN_MAX: Duration = Duration::from_secs(1);
/// Pacing in Startup, in windows a round trip.
const STARTUP_PACING_GAIN: f64 = 2.0;
/// The most that Startup paces at, in measured delivery rates, which lag behind by a round trip.
const STARTUP_PACING_MAX: f64 = 2.5;
/// The most that Cruise paces at, in capacities; it spreads a window over a base round trip.
const CRUISE_PACING_MAX: f64 = 2.0;
/// Rounds of overload in a row after which loss is probed for.
const PROBE_OVERLOADED_ROUNDS: u32 = 2;
/// The shortest time from one probe for loss to the next.
const PROBE_PAUSE: Duration = Duration::from_secs(2);
/// The same in round trips.
const PROBE_PAUSE_ROUNDS: u64 = 10;
/// Round trips until what Startup sent too much is seen to be lost: until then loss is not probed for.
const DRAIN_ROUNDS: u64 = 3;
/// More rounds of overload in a row than this end Startup, even if the senders limited them.
const STARTUP_OVERLOADED_ROUNDS: u32 = 3;
/// A flow with no more than this in flight, bytes, is thin.
const THIN_FLOW: u64 = 10_000;
/// The loss that small messages are protected against before any was seen to be by chance.
const ASSUMED_LOSS: f64 = 0.02;
/// A queue above which nothing is sent ahead of need.
const CONGESTED_QUEUE: Duration = Duration::from_millis(60);
/// From this rate on, bytes per second, a datagram of acks holds many of them.
const MANY_ACKS: f64 = 4e6;
/// The most by which what goes ahead of bulk delays it. Once half of it is owed, bulk goes first.
const URGENT_DEBT_MAX: Duration = Duration::from_millis(20);
/// The lowest rate, bytes per second: a few packets a second have to go, or nothing can be measured.
const RATE_MIN: f64 = 8_000.0;

/// How long an ack waits for others at most; on a slow line the ack of a transfer waits several times as long.
/// Senders allow for it: see `Controller::reordering`, and the noise of a queue.
pub(crate) const ACK_DELAY_MAX: Duration = Duration::from_millis(6);

/// What is remembered with a transmission, to measure with it when it is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// When it left.
    pub sent_at: Instant,
    /// Bytes that had arrived by then.
    delivered: u64,
    /// Sent while next to nothing else was in flight.
    alone: bool,
    /// Sent at a lower rate for a round trip, to see whether as much of it gets lost.
    eased: bool,
}

/// Bounds that the operator set, bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// To the other end. None: no limit.
    pub up: Option<f64>,
    /// From the other end. None: no limit.
    pub down: Option<f64>,
}

#[derive(Debug)]
enum Mode {
    Startup(Startup),
    Cruise,
}

/// The state of one path.
#[derive(Debug)]
pub struct Controller {
    pacer: Pacer,
    limits: Limits,
    mode: Mode,
    /// Bytes per second that arrive while the path is full, headers and seal included.
    rate: f64,
    delivery: Delivery,
    base: BaseRtt,
    headroom: Headroom,
    loss: Loss,
    loss_probe: LossProbe,
    overload: Overload,
    host: HostLimit,
    traffic: Traffic,
    round: Round,
    recent: Recent,
    rtt: Rtt,
}

/// What is on its way and what has arrived.
#[derive(Debug, Default)]
struct Traffic {
    /// Bytes sent and neither acknowledged nor given up.
    in_flight: u64,
    delivered: u64,
    /// Packets that arrived, and that were lost.
    fates: (u64, u64),
    /// Bulk had to wait for acknowledgements since it last left.
    full: bool,
    /// The youngest transmission that was acknowledged, and whether it is news.
    newest: Stamp,
    is_news: bool,
    /// The least round trip since the last measurement.
    rtt: Option<Duration>,
}

impl Controller {
    /// A path of which nothing is known.
    pub fn new(limits: Limits, now: Instant) -> Controller {
        Controller {
            pacer: Pacer::new(URGENT_DEBT_MAX, now),
            limits,
            mode: Mode::Startup(Startup::new(FIRST_WINDOW)),
            rate: 0.0,
            delivery: Delivery::default(),
            base: BaseRtt::new(now),
            headroom: Headroom::new(now),
            loss: Loss::default(),
            loss_probe: LossProbe::default(),
            overload: Overload::default(),
            host: HostLimit::default(),
            traffic: Traffic::default(),
            round: Round::first(now),
            recent: Recent::default(),
            rtt: Rtt::assumed(),
        }
    }

    /// For a path that goes on over other ports: Startup from the present window on, with what is known of the round trip and of
    /// loss by chance. What the ports before carried is not believed, since some networks slow down a flow that lasts.
    pub fn resume(&self, limits: Limits, now: Instant) -> Controller {
        let mut next = Controller::new(limits, now);
        if let Some(base) = self.base.measured() {
            next.base.record(base, now);
            next.rtt = self.rtt;
            next.loss = self.loss.clone();
            next.loss_probe = self.loss_probe.known();
            // what arrived last, since the window may not have followed yet
            let last = match self.round.rate {
                0.0 => self.rate,
                rate => rate,
            };
            let window = held(last, base).max(EXTRA_WINDOW);
            let window = window.min(self.in_flight_limit() as f64);
            next.mode = Mode::Startup(Startup::new(window));
        }
        next
    }

    /// From now on, these bounds hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes per second at which bulk may leave now.
    pub fn pacing(&self) -> f64 {
        let base = self.base.get().max(MEASUREMENT_SPAN_MIN);
        let rate = match &self.mode {
            Mode::Startup(startup) => {
                let window = rate_of(STARTUP_PACING_GAIN * startup.window(), base);
                let first = rate_of(STARTUP_PACING_GAIN * FIRST_WINDOW, base);
                window.min((STARTUP_PACING_MAX * self.rate).max(first))
            }
            Mode::Cruise => {
                let gain =
                    || (self.span_held().div_duration_f64(base)).clamp(1.0, CRUISE_PACING_MAX);
                match self.loss_probe.sends() {
                    Some(share) => self.rate * share,
                    None => self.capacity() * gain(),
                }
            }
        };
        rate.min(self.limits.up.unwrap_or(f64::MAX)).max(RATE_MIN)
    }

    /// Whether the operator's limit is what keeps bulk back.
    pub fn is_capped(&self) -> bool {
        self.limits.up.is_some_and(|up| up <= self.pacing())
    }

    /// The most bytes in flight before bulk has to wait.
    pub fn in_flight_limit(&self) -> u64 {
        let base = self.base.get();
        let window = match &self.mode {
            Mode::Startup(startup) => startup.window(),
            Mode::Cruise => match (self.base.probe(), self.loss_probe.sends()) {
                (Some(share), _) => held(self.capacity(), base) * share,
                (None, Some(share)) => held(self.rate, base) * share,
                (None, None) => held(self.capacity(), self.span_held()),
            },
        };
        ((window + EXTRA_WINDOW) as u64).min(self.host.limit(base))
    }

    /// Bytes sent and neither acknowledged nor given up.
    pub fn in_flight(&self) -> u64 {
        self.traffic.in_flight
    }

    /// When bulk may leave next: `NEVER` while too much is in flight (an acknowledgement has to come first).
    pub fn release_time(&mut self) -> Instant {
        if self.traffic.in_flight >= self.in_flight_limit() {
            (self.traffic.full, self.round.full) = (true, true);
            return Instant::NEVER;
        }
        self.pacer.release_time()
    }

    /// Whether a small message may go ahead of the bulk: while what went ahead is below 10 ms of the rate.
    pub fn may_go_ahead(&self, now: Instant) -> bool {
        self.pacer.owes_less_than(URGENT_DEBT_MAX / 2, now)
    }

    /// Bytes that were ever acknowledged.
    pub fn delivered(&self) -> u64 {
        self.traffic.delivered
    }

    /// Packets that have arrived so far, and that were lost.
    pub fn fates(&self) -> (u64, u64) {
        self.traffic.fates
    }

    /// Whether bulk waits for acknowledgements.
    pub fn is_full(&self) -> bool {
        self.traffic.full
    }

    /// Whether anything sent there was ever acknowledged.
    pub fn has_delivered(&self) -> bool {
        self.traffic.delivered > 0
    }

    /// Smoothed round trip.
    pub fn srtt(&self) -> Duration {
        self.rtt.smoothed()
    }

    /// The path's round trip without a queue; None before the first sample.
    pub fn base_rtt(&self) -> Option<Duration> {
        self.base.measured()
    }

    /// Estimated rate of the bottleneck, bytes per second: what arrives, and what is lost by chance behind it.
    pub fn capacity(&self) -> f64 {
        let rate = match &self.mode {
            Mode::Startup(startup) => {
                let window = rate_of(startup.window(), self.base.get());
                self.rate.max(window)
            }
            Mode::Cruise => self.rate,
        };
        rate / (1.0 - self.excused())
    }

    /// What gets lost.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// The chance that a packet is lost whatever is sent, as far as it is known.
    pub fn chance(&self) -> f64 {
        self.loss.share().min(self.excused().max(ASSUMED_LOSS))
    }

    /// Whether the queue is so long that nothing should be sent that can be done without.
    pub fn is_congested(&self) -> bool {
        self.rtt.smoothed() > self.base.get() + (self.base.get() / 4).max(CONGESTED_QUEUE)
    }

    /// How long to wait for an acknowledgement before asking again (RFC 6298's and RFC 9002's shape).
    pub fn timeout(&self) -> Duration {
        self.rtt.timeout()
    }

    /// How far a later packet may overtake an earlier one before that counts as lost (RACK, RFC 8985, has a
    /// quarter of the round trip): long enough for a lost datagram of acks to be repeated. A `hole` is too small for a lost
    /// datagram of many acks; it only waits for the reordering that the path has shown.
    pub fn reordering(&self, hole: bool) -> Duration {
        self.rtt.reordering(hole && self.rate > MANY_ACKS)
    }

    /// The mode and the numbers that the window rests on, for a person to read.
    pub fn describe(&self) -> String {
        let mode = match &self.mode {
            Mode::Startup(_) => "startup",
            Mode::Cruise if self.base.probe().is_some() => "probe for the round trip",
            Mode::Cruise if self.loss_probe.is_on() => "probe for loss",
            Mode::Cruise => "cruise",
        };
        format!(
            "{mode}, headroom {:.1} ms, {:.1} % excused",
            self.headroom.span().as_millis_f64(),
            self.excused() * 100.0
        )
    }

    /// A segment leaves in `bytes` of datagram.
    pub fn on_sent(&mut self, bytes: usize, now: Instant) -> Stamp {
        let pause = now.since(self.pacer.release_time());
        // what is urgent leaves though the window is full, and says nothing of what waits
        let waited = self.traffic.full;
        self.traffic.full = waited && self.traffic.in_flight >= self.in_flight_limit();
        if !waited && pause > TIMER_GRANULARITY {
            self.round.idle += pause;
            self.delivery
                .limited(self.base.get().max(MEASUREMENT_SPAN_MIN));
        }
        let rate = self.pacing();
        self.pacer.charge(bytes, rate, now);
        self.traffic.in_flight += bytes as u64;
        self.round.used |= 2 * self.traffic.in_flight >= self.in_flight_limit();
        Stamp {
            sent_at: now,
            delivered: self.traffic.delivered,
            alone: self.traffic.in_flight < THIN_FLOW,
            eased: self.loss_probe.watches(),
        }
    }

    /// A round trip was measured.
    pub fn on_rtt(&mut self, rtt: Duration, now: Instant) {
        self.rtt.record(rtt, self.base.measured().is_none());
        self.base.record(rtt, now);
        self.recent.record(rtt, self.base.get() / 8, now);
        self.traffic.rtt = Some(self.traffic.rtt.map_or(rtt, |least| least.min(rtt)));
    }

    /// A transmission of `bytes` was acknowledged. It is measured only if the ack `named` it: if it was implied, it may have
    /// arrived in an earlier transmission.
    pub fn on_delivered(&mut self, bytes: usize, stamp: &Stamp, named: bool) {
        if let Mode::Startup(startup) = &mut self.mode {
            let held = held(self.rate, self.base.get());
            startup.on_delivered(bytes, self.traffic.in_flight, held);
        }
        let traffic = &mut self.traffic;
        traffic.in_flight = traffic.in_flight.saturating_sub(bytes as u64);
        traffic.delivered += bytes as u64;
        traffic.fates.0 += 1;
        self.round.packets += 1;
        self.round.arrived += bytes as u64;
        if named && stamp.sent_at >= traffic.newest.sent_at {
            traffic.newest = *stamp;
            traffic.is_news = true;
        }
    }

    /// Takes the measurement, after all acks of a datagram: they arrive at the same time, so within it would be too early.
    pub fn measure(&mut self, now: Instant) {
        // of the acks in a datagram, all but the youngest have waited for it
        if let Some(rtt) = self.traffic.rtt.take() {
            self.round.record(rtt);
        }
        if !std::mem::take(&mut self.traffic.is_news) {
            return;
        }
        let newest = self.traffic.newest;
        self.learn_rate(newest.sent_at, now);
        if matches!(self.mode, Mode::Startup(_)) && self.has_filled() {
            self.mode = Mode::Cruise;
        }
        let over = now.since(self.round.began_at) >= MEASUREMENT_SPAN_MIN;
        if over && newest.delivered >= self.round.ends_at {
            self.end_round(now);
        }
    }

    fn learn_rate(&mut self, sent_at: Instant, now: Instant) {
        let span = self.span_watched();
        let delivered = self.traffic.delivered;
        if let Some(sample) = self.delivery.record(delivered, sent_at, span, now) {
            self.round.rate = sample;
        }
        let best = self.delivery.best();
        let asked_for_less = self.loss_probe.is_on() || self.base.is_disturbed();
        let starting = matches!(self.mode, Mode::Startup(_));
        let unused = !self.round.used && !self.round.before.used;
        if starting || asked_for_less || unused || self.delivery.is_limited() {
            self.rate = self.rate.max(best);
        } else if best > 0.0 {
            self.rate = best;
        }
    }

    /// A transmission of `bytes` is given up.
    pub fn on_lost(&mut self, bytes: usize) {
        self.on_forgotten(bytes);
        self.round.lost += bytes as u64;
        self.round.packets_lost += 1;
        self.traffic.fates.1 += 1;
    }

    /// What became of a datagram; called in the order of sending. `rtt` is the least round trip of those sent just before it
    /// that arrived: where the queue was long, a loss may have been the queue's.
    pub fn record_fate(&mut self, lost: bool, stamp: &Stamp, rtt: Duration) {
        let slack = if stamp.alone {
            // a thin flow's acks are all held back, and it fills no queue
            ACK_DELAY_MAX
        } else {
            self.rtt.scatter() + self.headroom.span() / 2
        };
        let least = self.base.get() + self.noise();
        if rtt <= least + slack {
            self.loss.record(lost);
        }
        // a queue that stands although less is sent is full of others' packets, and what it drops proves nothing
        if stamp.eased && rtt <= least + 2 * self.rtt.scatter() {
            self.loss_probe.record(lost);
        }
    }

    /// A transmission that was given up has arrived after all.
    pub fn on_late(&mut self) {
        self.loss.retract();
        self.round.packets_lost = self.round.packets_lost.saturating_sub(1);
        self.traffic.fates.1 = self.traffic.fates.1.saturating_sub(1);
        self.rtt.on_late();
    }

    /// A transmission of `bytes` will never be acknowledged: its session is gone.
    pub fn on_forgotten(&mut self, bytes: usize) {
        let in_flight = &mut self.traffic.in_flight;
        *in_flight = in_flight.saturating_sub(bytes as u64);
    }

    /// The share of loss that is no reason to send less.
    fn excused(&self) -> f64 {
        self.loss_probe.excused(self.loss.share())
    }

    /// How long a packet is in flight at most: the span that the window is for. Lost packets are found later
    /// than others are acknowledged.
    fn span_held(&self) -> Duration {
        let found_late = self.reordering(false).mul_f64(self.excused());
        self.base.get() + self.headroom.span() + found_late
    }

    /// How long to watch to measure a rate.
    fn span_watched(&self) -> Duration {
        let packets = match self.mode {
            Mode::Startup(_) => Duration::ZERO,
            Mode::Cruise => {
                Duration::from_secs_f64(MEASUREMENT_PACKETS_MIN * PACKET / self.rate.max(1.0))
            }
        };
        self.base
            .get()
            .max(packets.min(MEASUREMENT_SPAN_MAX))
            .max(MEASUREMENT_SPAN_MIN)
    }

    /// The longest queue that may be mere noise: a share of the round trip, a tick of both ends' timers, and the
    /// wait of an ack where segments are far apart.
    fn noise(&self) -> Duration {
        let base = self.base.get();
        let spacing = Duration::from_secs_f64(2.0 * PACKET / self.capacity().max(1.0));
        let share = (base / 32).clamp(MS / 2, 5 * MS);
        // below some 10 ms it is the machines that set the pace, and they are away for milliseconds
        let nearby = MEASUREMENT_SPAN_MIN.saturating_sub(base / 4);
        (share + MS + spacing.min(ACK_DELAY_MAX)).max(nearby)
    }

    /// Whether startup has built a queue: the round trip has grown, and what arrives takes longer to arrive than to be sent.
    fn has_filled(&self) -> bool {
        self.round.used && self.queue_shows() && self.delivery.stretches()
    }

    fn queue_shows(&self) -> bool {
        let queue = self.recent.least().saturating_sub(self.base.get());
        self.recent.enough() && queue > self.wanders()
    }

    /// By how much the least of some round trips may be above the path's without a queue.
    fn wanders(&self) -> Duration {
        (self.base.get() / 8).max(self.noise()) + 2 * self.rtt.scatter()
    }

    fn end_round(&mut self, now: Instant) {
        let base = self.base.get();
        let round = self.round.finish(self.traffic.delivered, now);
        let span = now.since(round.began_at).max(Duration::MICROSECOND);
        self.host
            .end_round(base, span, round.arrived, round.lost, round.full);
        let limited = round.is_limited(span);
        let (queue, mean) = round.delays(base);
        self.rtt.end_round(mean.saturating_sub(queue));
        let told = self.overload.end_round(
            u64::from(round.packets),
            round.packets_lost,
            self.excused(),
            &self.loss,
        );
        let cruises = matches!(self.mode, Mode::Cruise);
        self.base.end_round(cruises && !limited, now);
        if let Some(stays) = self.loss_probe.end_round() {
            let pause = PROBE_PAUSE.max(PROBE_PAUSE_ROUNDS * base);
            self.judge_loss(stays, pause, now);
        } else if cruises {
            let seen = Seen {
                rate: round.rate,
                queue,
                mean,
                noise: self.noise() / 2 + MS / 2,
                scatter: self.rtt.scatter(),
            };
            self.cruise(seen, told, limited, now);
        } else {
            let stands = queue > self.wanders();
            self.start_up(&round, told, limited, stands, now);
        }
    }

    /// `limited`: the senders had too little to send in this round or the one before; `stands`: a queue stood all through it.
    fn start_up(
        &mut self,
        round: &Round,
        told: Verdict,
        limited: bool,
        stands: bool,
        now: Instant,
    ) {
        let span = now.since(round.began_at).max(Duration::MICROSECOND);
        let rate = round.arrived as f64 / span.as_micros_f64();
        let packets = f64::from(round.packets) + round.packets_lost as f64;
        let queued = self.queue_shows();
        let overflows = told.excess
            && (told.share > CHANCE_MAX
                || self.overload.rounds() > STARTUP_OVERLOADED_ROUNDS
                || queued);
        let Mode::Startup(startup) = &mut self.mode else {
            return;
        };
        let next = match limited {
            true if round.used && overflows => Next::Overflows,
            true => Next::GoOn,
            false => {
                // others' packets are in it, and what it drops is not by chance
                let by_chance = if stands { 0.0 } else { told.share };
                startup.end_round(rate, by_chance, told.excess)
            }
        };
        match next {
            Next::GoOn => {}
            Next::Chance(share) => self.loss_probe.prove(share, packets),
            Next::Full => self.mode = Mode::Cruise,
            // what is by chance is known, and the rest is what the queue had no room for
            Next::Overflows if queued && self.loss_probe.has_proof() => {
                self.mode = Mode::Cruise;
                self.judge_loss(false, DRAIN_ROUNDS * self.base.get(), now);
            }
            Next::Overflows => {
                self.loss_probe.interrupted = Some(startup.window());
                self.mode = Mode::Cruise;
                self.probe_for_loss(told.share, now);
            }
        }
    }

    /// If most is lost, no probe is needed: the delivery rate says how much less to send, and falls to that within the spans
    /// that it remembers.
    fn probe_for_loss(&mut self, share: f64, now: Instant) {
        if share < CHANCE_MAX {
            self.loss_probe.begin(share);
        } else {
            self.end_loss_probe(false, now);
        }
    }

    /// It is known whether loss depends on the rate. The next probe comes after `pause` at the earliest.
    fn judge_loss(&mut self, stays: bool, pause: Duration, now: Instant) {
        self.overload.reset();
        self.loss_probe.next_at = now.after(pause);
        self.end_loss_probe(stays, now);
    }

    /// A probe for loss is over. If the loss `stays`, it was no reason to give headroom back, nor to interrupt Startup.
    fn end_loss_probe(&mut self, stays: bool, now: Instant) {
        let interrupted = self.loss_probe.interrupted.take();
        match (stays, interrupted) {
            (true, Some(window)) => self.mode = Mode::Startup(Startup::new(window)),
            (true, None) => self.headroom.restore(),
            (false, _) => {
                let mean = self.rtt.smoothed().saturating_sub(self.base.get());
                self.headroom.on_overload(mean, now);
            }
        }
    }

    fn cruise(&mut self, seen: Seen, told: Verdict, limited: bool, now: Instant) {
        // what was sent during a probe says nothing of the headroom
        let probing = self.loss_probe.is_on() || self.base.is_disturbed();
        if probing || (limited && !told.excess) {
            return;
        }
        if told.sure {
            self.headroom.on_overload(seen.mean, now);
        } else if self.headroom.end_round(seen, self.base.get(), now) {
            let window = self.in_flight_limit() as f64;
            self.mode = Mode::Startup(Startup::new(window));
        }
        if now < self.loss_probe.next_at {
            return;
        }
        if self.overload.rounds() >= PROBE_OVERLOADED_ROUNDS {
            self.probe_for_loss(told.share, now);
        } else if told.lasts {
            self.probe_for_loss(self.loss.share(), now);
        }
    }
}

/// Bytes that a path of this rate (bytes per second) holds in this span.
fn held(rate: f64, span: Duration) -> f64 {
    rate * span.as_micros_f64() / SEC.as_micros_f64()
}

/// The rate, bytes per second, at which so many bytes come in this span.
fn rate_of(bytes: f64, span: Duration) -> f64 {
    bytes / span.as_micros_f64() * SEC.as_micros_f64()
}
