//! A TCP flow beside a tunnel, packet by packet, through the same bottleneck: as much of its congestion control as
//! decides who gets what. Its bytes are not looked at; every loss is found three packets later, and what was lost counts
//! as not delivered.
//!
//! bbr is BBRv1 as in Linux (Cardwell et al., ACM Queue 14(5), 2016), without its policer detection. cubic is RFC 9438
//! with plain slow start.

use super::World;
use super::link::Link;
use kcptun::time::{Duration, Instant, MS};
use std::collections::VecDeque;

const SIZE: usize = 1460;
/// What is out when nothing was acknowledged for so long is lost: a timeout.
const SILENCE: Duration = Duration::from_secs(1);
/// bbr: gains of its cycle, how long its filters remember, and how it looks for the least round trip.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const HIGH_GAIN: f64 = 2.885;
const ROUNDS: u64 = 10;
const LEAST_SPAN: Duration = Duration::from_secs(10);
const LEAST_HOLD: Duration = Duration::from_millis(200);
/// cubic: RFC 9438's C and beta.
const CUBIC_C: f64 = 0.4;
const CUBIC_BETA: f64 = 0.7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bbr,
    Cubic,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Startup,
    Drain,
    Cycle(usize),
    LeastRtt,
}

struct Packet {
    number: u64,
    sent_at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
}

/// What bbr knows.
struct Bbr {
    phase: Phase,
    since: Instant,
    /// Rate and round of the samples that are still the greatest of something.
    best: VecDeque<(f64, u64)>,
    full: f64,
    full_rounds: u32,
    least: Duration,
    least_at: Instant,
    lost: bool,
}

/// What cubic knows: windows in packets.
struct Cubic {
    window: f64,
    threshold: f64,
    most: f64,
    reduced_at: Instant,
    /// Losses of packets before this one belong to one event.
    recovered_at: u64,
}

pub struct Rival {
    link: Link,
    bbr: Option<Bbr>,
    cubic: Cubic,
    out: VecDeque<Packet>,
    acks: VecDeque<(Instant, u64)>,
    next_number: u64,
    pub delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    round: u64,
    round_ends_at: u64,
    srtt: Duration,
    free_at: Instant,
    pub now: Instant,
}

impl Rival {
    /// Sends from `now` on, in the direction of the world's link.
    pub fn new(kind: Kind, beside: &Link, seed: u64, now: Instant) -> Rival {
        let mut link = Link::new(beside.shape, seed);
        link.share_bottleneck(beside);
        Rival {
            link,
            bbr: (kind == Kind::Bbr).then(|| Bbr {
                phase: Phase::Startup,
                since: now,
                best: VecDeque::new(),
                full: 0.0,
                full_rounds: 0,
                least: Duration::MAX,
                least_at: now,
                lost: false,
            }),
            cubic: Cubic {
                window: 10.0,
                threshold: f64::MAX,
                most: 0.0,
                reduced_at: now,
                recovered_at: 0,
            },
            out: VecDeque::new(),
            acks: VecDeque::new(),
            next_number: 0,
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            round: 0,
            round_ends_at: 0,
            srtt: Duration::ZERO,
            free_at: now,
            now,
        }
    }

    /// Runs beside a world on one clock.
    pub fn run_beside(&mut self, world: &mut World, end: Instant) {
        while let Some(next) = self.next().filter(|at| *at <= end) {
            world.run_until(next);
            self.step(next);
        }
        world.run_until(end);
        self.now = end;
    }

    fn next(&self) -> Option<Instant> {
        let ack = self.acks.front().map(|ack| ack.0);
        let arrival = self.link.due();
        let send = (self.out.len() < self.window()).then_some(self.free_at.max(self.now));
        let timer = self.delivered_at.after(SILENCE).max(self.now.after(MS));
        let timer = (!self.out.is_empty()).then_some(timer);
        [ack, arrival, send, timer].into_iter().flatten().min()
    }

    fn step(&mut self, now: Instant) {
        self.now = now;
        while let Some(datagram) = self.link.arrived(now) {
            let number = u64::from_be_bytes(datagram[..8].try_into().unwrap());
            self.acks
                .push_back((now.after(self.link.shape.delay), number));
        }
        while self.acks.front().is_some_and(|ack| ack.0 <= now) {
            let (_, number) = self.acks.pop_front().unwrap();
            self.on_ack(number, now);
        }
        // the pacing of Linux has a grain: a millisecond of its rate, or two packets, leave at once
        while self.out.len() < self.window() && self.free_at <= now {
            let grain = self.pacing().unwrap_or(0.0) / 1024.0 / SIZE as f64;
            let room = self.window() - self.out.len();
            for _ in 0..(grain as usize).max(2).min(room) {
                self.send(now);
            }
        }
        if !self.out.is_empty() && now.since(self.delivered_at) >= SILENCE {
            self.out.clear();
            self.delivered_at = now;
            self.cubic.window = 2.0;
        }
    }

    fn send(&mut self, now: Instant) {
        if self.out.is_empty() {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        self.out.push_back(Packet {
            number: self.next_number,
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
        });
        let mut datagram = vec![0; SIZE];
        datagram[..8].copy_from_slice(&self.next_number.to_be_bytes());
        self.next_number += 1;
        self.link.offer(now, &datagram);
        if let Some(rate) = self.pacing() {
            let span = Duration::from_secs_f64(SIZE as f64 / rate);
            self.free_at = self.free_at.max(now).after(span);
        }
    }

    fn on_ack(&mut self, number: u64, now: Instant) {
        let Some(at) = self.out.iter().position(|p| p.number == number) else {
            return;
        };
        let packet = self.out.remove(at).unwrap();
        self.delivered += SIZE as u64;
        self.delivered_at = now;
        self.first_sent_at = packet.sent_at;
        let rtt = now.since(packet.sent_at);
        self.srtt = if self.srtt.is_zero() {
            rtt
        } else {
            (7 * self.srtt + rtt) / 8
        };
        let round_over = packet.delivered >= self.round_ends_at;
        if round_over {
            self.round += 1;
            self.round_ends_at = self.delivered;
        }
        let mut lost = None;
        while self.out.front().is_some_and(|p| p.number + 3 <= number) {
            lost = self.out.pop_front().map(|p| p.number);
        }
        let span = (now.since(packet.delivered_at)).max(packet.sent_at.since(packet.first_sent_at));
        let rate = (self.delivered - packet.delivered) as f64
            / span.max(Duration::MICROSECOND).as_micros_f64()
            * 1e6;
        match self.bbr {
            Some(_) => self.bbr_learns(rate, rtt, lost.is_some(), round_over, now),
            None => self.cubic_learns(lost, now),
        }
    }

    fn window(&self) -> usize {
        let Some(bbr) = &self.bbr else {
            return self.cubic.window as usize;
        };
        let gain = match bbr.phase {
            Phase::LeastRtt => return 4,
            Phase::Startup | Phase::Drain => HIGH_GAIN,
            Phase::Cycle(_) => 2.0,
        };
        match bbr.best.front() {
            Some(_) => (gain * self.held() + 3.0) as usize,
            None => 10,
        }
    }

    /// Packets that the path holds, as bbr sees it.
    fn held(&self) -> f64 {
        let Some(bbr) = &self.bbr else { return 0.0 };
        let best = bbr.best.front().map_or(0.0, |best| best.0);
        best * bbr.least.as_micros_f64() / 1e6 / SIZE as f64
    }

    fn pacing(&self) -> Option<f64> {
        let bbr = self.bbr.as_ref()?;
        let gain = match bbr.phase {
            Phase::Startup => HIGH_GAIN,
            Phase::Drain => 1.0 / HIGH_GAIN,
            Phase::Cycle(step) => CYCLE[step],
            Phase::LeastRtt => 1.0,
        };
        Some(gain * bbr.best.front()?.0)
    }

    fn bbr_learns(&mut self, rate: f64, rtt: Duration, lost: bool, round_over: bool, now: Instant) {
        let (round, held, out) = (self.round, self.held(), self.out.len() as f64);
        let Some(bbr) = &mut self.bbr else { return };
        while bbr.best.back().is_some_and(|best| best.0 <= rate) {
            bbr.best.pop_back();
        }
        bbr.best.push_back((rate, round));
        while bbr.best[0].1 + ROUNDS < round {
            bbr.best.pop_front();
        }
        bbr.lost |= lost;
        let expired = now.since(bbr.least_at) > LEAST_SPAN;
        if rtt <= bbr.least || expired {
            (bbr.least, bbr.least_at) = (rtt, now);
        }
        let long = now.since(bbr.since) > bbr.least;
        let next = match bbr.phase {
            Phase::LeastRtt => {
                let over = now.since(bbr.since) >= LEAST_HOLD + rtt;
                bbr.least_at = if over { now } else { bbr.least_at };
                over.then_some(Phase::Cycle(2))
            }
            _ if expired => Some(Phase::LeastRtt),
            Phase::Startup if round_over && bbr.best[0].0 >= bbr.full * 1.25 => {
                (bbr.full, bbr.full_rounds) = (bbr.best[0].0, 0);
                None
            }
            Phase::Startup => {
                bbr.full_rounds += u32::from(round_over);
                (bbr.full_rounds >= 3).then_some(Phase::Drain)
            }
            Phase::Drain => (out <= held).then_some(Phase::Cycle(2)),
            Phase::Cycle(step) => {
                let over = match step {
                    0 => long && (bbr.lost || out >= 1.25 * held),
                    1 => long || out <= held,
                    _ => long,
                };
                over.then_some(Phase::Cycle((step + 1) % CYCLE.len()))
            }
        };
        if let Some(phase) = next {
            (bbr.phase, bbr.since, bbr.lost) = (phase, now, false);
        }
    }

    fn cubic_learns(&mut self, lost: Option<u64>, now: Instant) {
        let cubic = &mut self.cubic;
        if let Some(lost) = lost {
            if lost >= cubic.recovered_at {
                // fast convergence, RFC 9438 4.7
                cubic.most = match cubic.window < cubic.most {
                    true => cubic.window * (1.0 + CUBIC_BETA) / 2.0,
                    false => cubic.window,
                };
                cubic.window = (cubic.window * CUBIC_BETA).max(2.0);
                cubic.threshold = cubic.window;
                cubic.reduced_at = now;
                cubic.recovered_at = self.next_number;
            }
        } else if cubic.window < cubic.threshold {
            cubic.window += 1.0;
        } else {
            let seconds = now.since(cubic.reduced_at).as_secs_f64();
            let rtt = self.srtt.as_secs_f64();
            let k = (cubic.most * (1.0 - CUBIC_BETA) / CUBIC_C).cbrt();
            let target = CUBIC_C * (seconds + rtt - k).powi(3) + cubic.most;
            let reno = cubic.most * CUBIC_BETA
                + 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA) * seconds / rtt.max(1e-4);
            let target = target.max(reno).min(1.5 * cubic.window);
            cubic.window += ((target - cubic.window) / cubic.window).max(0.01 / cubic.window);
        }
    }
}
