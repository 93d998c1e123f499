//! The phases of a path's rate: how much more or less than its estimate is asked for in each, and which follows. The estimate
//! itself is learned in `rate`, whose first lines tell how the phases go together.

use super::contest::Contest;
use super::round::Round;
use super::{PACKET, Rate, SHORTEST};
use crate::time::{SEC, Time};

/// 2/ln 2: doubles the rate each round trip (BBR as of 2016).
const STARTUP_GAIN: f64 = 2.885;
/// Startup ends when the rate has not grown by a quarter in so many rounds (BBR draft, 4.3.1.2, has three).
const STARTUP_GROWTH: f64 = 1.25;
const STARTUP_ROUNDS: u32 = 2;
/// A probe asks for so much more for one round, and looks in the next what became of it. The first step builds 4.8 ms of
/// queue at 60 ms, which a shallow buffer still holds; while no queue shows, the next asks for more.
const PROBE: [f64; 2] = [1.08, 1.4];
/// A queue that stands for so many rounds is drained for good, and one that so many rounds at half the rate do not drain
/// is not ours.
const STANDS: u32 = 2;
const DRAIN_ROUNDS: u32 = 3;
/// Round trips from one probe to the next, and the most time.
const PROBE_ROUNDS: u32 = 8;
const PROBE_EVERY: u64 = SEC;
/// Loss beyond chance, while there is a queue, from which startup has found the end of a short one.
const OVERFLOW: f64 = 0.05;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Doubling each round trip until the path shows its limit.
    Startup,
    /// Half the rate until the queue is gone.
    Drain,
    Cruise,
    /// Asking for more, in the n-th step.
    Probe(usize),
    /// What the n-th step has sent is being acknowledged.
    Look(usize),
    /// Asking for less, and what was sent then is being acknowledged: loss that shrinks with the rate is not chance.
    Ease,
    Weigh,
    /// Sharing a queue that others keep.
    Contest,
}

impl Rate {
    pub(super) fn gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => 0.5,
            Phase::Ease => self.doubt.gain(),
            Phase::Contest => self.contest.gain(),
            Phase::Probe(step) => self.asks_for(step),
            Phase::Cruise | Phase::Look(_) | Phase::Weigh if self.queue <= self.tolerance() => 1.0,
            // half of the queue drains in a round trip
            Phase::Cruise | Phase::Look(_) | Phase::Weigh => {
                let path = self.base().max(2 * SHORTEST) as f64;
                (1.0 - 0.5 * self.queue as f64 / path).max(0.5)
            }
        }
    }

    /// What the n-th step of a probe sends, as a share of the capacity: a few packets more at least, or nothing could be
    /// told of it on a slow path.
    fn asks_for(&self, step: usize) -> f64 {
        let round = self.capacity_before * self.base() as f64 / SEC as f64;
        let packets = 1.0 + 4.0 * PACKET / round.max(PACKET);
        PROBE[step.min(PROBE.len() - 1)].max(packets.min(1.5))
    }

    /// Startup ends at once where a queue has shown itself, by delay or, if it is a short one, by loss. (Where it never
    /// does, because the senders' machine or a policer is the limit, `next_phase` sees that the rate has stopped growing.)
    pub(super) fn look_for_the_end_of_startup(&mut self, now: Time) {
        let queue = self.queue_now();
        let deep = self.recent.enough() && queue > (self.base() / 8).max(self.tolerance());
        let lost = 1.0 - self.round.delivery / self.round.service.max(1.0);
        let short = queue > self.tolerance() && lost > self.chance() + OVERFLOW;
        if deep {
            // the bottleneck has been busy for that long: what came of it was its rate
            let busy = self.recent.delivery(self.delivered, now) / (1.0 - self.loss.share());
            self.capacity = self.capacity.max(busy.min(self.pacing()));
        }
        if deep || short {
            self.enter(Phase::Drain, now);
        }
    }

    pub(super) fn next_phase(
        &mut self,
        round: &Round,
        sent_before: f64,
        standing: bool,
        now: Time,
    ) {
        match self.phase {
            Phase::Startup => {
                if round.limited {
                    return;
                }
                let asked = sent_before >= self.startup_best * STARTUP_GROWTH;
                let grew = self.capacity >= self.startup_best * STARTUP_GROWTH;
                self.startup_best = self.startup_best.max(self.capacity);
                self.stalled = match (grew, asked) {
                    (true, _) => 0,
                    (false, true) => self.stalled + 1,
                    (false, false) => self.stalled,
                };
                if self.stalled >= STARTUP_ROUNDS {
                    self.enter(Phase::Drain, now);
                }
            }
            Phase::Drain => self.go_on_draining(standing, now),
            Phase::Cruise => {
                let due = self.rounds >= PROBE_ROUNDS || now.since(self.probed_at) >= PROBE_EVERY;
                let tells = !standing && !round.limited;
                if self.stays(standing) {
                    self.enter(Phase::Drain, now);
                } else if tells && self.doubt.is_due(&self.loss, now) {
                    self.doubt.begin(&self.loss, round.delivery, now);
                    self.enter(Phase::Ease, now);
                } else if tells && due {
                    self.enter(Phase::Probe(0), now);
                }
            }
            Phase::Probe(step) => self.enter(Phase::Look(step), now),
            Phase::Ease => self.enter(Phase::Weigh, now),
            Phase::Weigh => self.weigh(now),
            Phase::Contest => self.go_on_sharing(round, standing, now),
            Phase::Look(step) => {
                let asked = self.asks_for(step);
                let carried = self.capacity >= self.capacity_before * (1.0 + (asked - 1.0) / 2.0);
                let next = match carried && !standing && !round.limited {
                    true if step + 1 < PROBE.len() => Phase::Probe(step + 1),
                    // far more is there than we knew: as on a new path
                    true => Phase::Startup,
                    false => Phase::Cruise,
                };
                self.enter(next, now);
            }
        }
    }

    /// Loss that shrinks with the rate is a full queue's, however short that queue is: what is left of it is chance, and what
    /// was delivered says how fast the path is.
    fn weigh(&mut self, now: Time) {
        if let Some((chance, capacity)) = self.doubt.judge(&self.loss) {
            self.loss.believe(chance);
            self.capacity = self.capacity.min(capacity);
        }
        self.enter(Phase::Cruise, now);
    }

    /// Whether a queue has stood for some rounds and is not shrinking.
    fn stays(&mut self, standing: bool) -> bool {
        if !standing {
            self.stood = 0;
        } else if self.stood == 0 {
            (self.stood, self.stood_from) = (1, self.queue);
        } else if self.stood < STANDS {
            self.stood += 1;
        } else {
            self.stood = 0;
            return self.queue > self.stood_from / 10 * 7;
        }
        false
    }

    /// A queue of ours shrinks at half the rate by a round trip in two rounds. One that does not is not ours: others fill it,
    /// or the path has become longer. Our rate is what it was.
    fn go_on_draining(&mut self, standing: bool, now: Time) {
        if !standing || self.rounds > 2 * DRAIN_ROUNDS {
            return self.enter(Phase::Cruise, now);
        }
        if self.rounds >= DRAIN_ROUNDS && self.queue > self.drained_from / 2 {
            self.capacity = self.capacity.max(self.capacity_calm);
            self.contest = Contest::new(self.capacity, self.recent.least());
            self.enter(Phase::Contest, now);
        }
    }

    /// Until the queue is empty, or the path's new round trip, after `BASE_SPAN`, is the base.
    fn go_on_sharing(&mut self, round: &Round, standing: bool, now: Time) {
        let rtt = round.least_rtt.unwrap_or(self.recent.least());
        if self.contest.end_round(rtt, !standing) {
            self.enter(Phase::Cruise, now);
        }
    }

    fn enter(&mut self, phase: Phase, now: Time) {
        match phase {
            Phase::Probe(_) => (self.probed_at, self.capacity_before) = (now, self.capacity),
            Phase::Startup => (self.startup_best, self.stalled) = (0.0, 0),
            Phase::Drain => {
                (self.drained_from, self.capacity_before) = (self.queue_now(), self.capacity)
            }
            _ => {}
        }
        self.stood = 0;
        self.phase = phase;
        self.rounds = 0;
    }
}
