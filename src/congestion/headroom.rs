//! The headroom: how much more may be in flight than the path holds with an empty queue, as a span of the rate. A path whose
//! rate or delay wanders needs it to stay busy; on a steady path it only stands in the queue.
//!
//! A path is assumed to wander until it proves steady. The headroom grows while the queue runs empty. It is reduced when the
//! rate is steady and the queue never runs empty, and a trial shows whether that was right: if the round trip does not shrink
//! with the window, the queue was not ours, and the headroom is restored. If the rate ebbs although a queue seems to stand,
//! another trial shows whether the window had become too narrow. Losses put a ceiling on the headroom, which rises again with
//! time.

use super::competitive::{Competition, is_foreign};
use super::round::Seen;
use crate::time::{Duration, Instant, MS};

/// The largest headroom on a path that has not shown to need more. On recorded cellular and Wi-Fi lines a
/// sender with perfect acknowledgements carries 99 % with 40 ms.
const HEADROOM_MAX: Duration = Duration::from_millis(40);
/// The same as a share of the round trip.
const HEADROOM_MAX_SHARE: f64 = 0.8;
/// The largest headroom is never limited to less than this.
const HEADROOM_MAX_FLOOR: Duration = Duration::from_millis(24);
/// The largest headroom that a trial for more leads to.
const HEADROOM_MAX_TRIED: Duration = Duration::from_millis(60);
/// The largest headroom in competitive mode.
const HEADROOM_MAX_COMPETITIVE: Duration = Duration::from_millis(80);
/// Rounds in a row in which a steady path has to show its queue.
const STEADY_ROUNDS: u32 = 3;
/// How far the rate of a steady path strays, as a share.
const STEADY_RATE_DEVIATION: f64 = 0.12;
/// How far the mean round trip of a steady path strays at least, microseconds.
const STEADY_RTT_DEVIATION: f64 = 2.0 * MS.as_micros_f64();
/// The share of the standing queue that is given up at once.
const QUEUE_RETURNED: f64 = 0.7;
/// A reduction has to be this many times what the mean round trip differs by from round to round, or a trial tells
/// nothing.
const SIGNIFICANT_REDUCTION: f64 = 2.5;
/// The rate has ebbed when it is below this share of what it was.
const RATE_EBBED: f64 = 0.9;
/// How much more window is tried then, as a share.
const TRIAL_GROWTH: f64 = 0.1;
/// Rounds in a row with an empty queue after which the path holds far more than is sent.
const EMPTY_ROUNDS: u32 = 4;
/// How much the rate has to grow over these rounds, as a factor.
const EMPTY_GROWTH: f64 = 1.15;
/// How long the next trial waits after the first in vain; each further one doubles it.
const TRIAL_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two trials.
const TRIAL_PAUSE_MAX: Duration = Duration::from_secs(32);
/// How soon a ceiling that losses have set is doubled.
const CEILING_LIFETIME: Duration = Duration::from_secs(1);
/// The lowest ceiling.
const CEILING_MIN: Duration = Duration::from_micros(250);

/// What is being tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Is the standing queue ours?
    Less,
    /// Has the rate ebbed because the window was too narrow?
    More,
}

impl Kind {
    /// The number of rounds that are averaged: a rate is noisier than a round trip.
    fn rounds(self) -> u32 {
        match self {
            Kind::Less => 2,
            Kind::More => 4,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    kind: Kind,
    /// The headroom before.
    before: Duration,
    /// Less: the mean round trip above the path's must be below this on average. More: the rate must be above.
    threshold: f64,
    rounds: u32,
    sum: f64,
}

/// When a kind of trial may be made again.
#[derive(Debug)]
struct Wait {
    span: Duration,
    until: Instant,
}

/// Rounds in a row in which a queue stood and the rate was steady.
#[derive(Debug, Default)]
struct Steady {
    rounds: u32,
    rate: f64,
    least_queue: Duration,
    means: f64,
}

impl Steady {
    fn note(&mut self, seen: &Seen) {
        let mean = self.means / f64::from(self.rounds.max(1));
        let strays = (seen.rate - self.rate).abs() > STEADY_RATE_DEVIATION * self.rate
            || (seen.mean.as_micros_f64() - mean).abs()
                > seen.scatter.as_micros_f64().max(STEADY_RTT_DEVIATION);
        if self.rounds == 0 || strays {
            *self = Steady {
                rate: seen.rate,
                least_queue: Duration::MAX,
                ..Steady::default()
            };
        }
        self.rounds += 1;
        self.means += seen.mean.as_micros_f64();
        self.least_queue = self.least_queue.min(seen.queue);
    }
}

/// Rounds in a row in which the queue was empty.
#[derive(Debug, Default)]
struct Empty {
    rounds: u32,
    rate_before: f64,
}

/// The headroom of one path, and what it was learned from.
#[derive(Debug)]
pub(super) struct Headroom {
    span: Duration,
    ceiling: Duration,
    ceiling_at: Instant,
    /// What it was before losses put a ceiling on it.
    before_overload: Duration,
    trial: Option<Trial>,
    less: Wait,
    more: Wait,
    steady: Steady,
    empty: Empty,
    competition: Competition,
    /// The smoothed rate, bytes per second.
    rate: f64,
    /// The highest smoothed rate since the headroom was last changed on purpose, bytes per second.
    rate_most: f64,
    /// The mean round trip of the last round above the path's, microseconds.
    mean: f64,
    /// How much that differs from round to round, smoothed, microseconds.
    unrest: f64,
}

impl Headroom {
    /// Nothing is learned yet.
    pub(super) fn new(now: Instant) -> Headroom {
        let wait = || Wait {
            span: TRIAL_PAUSE,
            until: now,
        };
        Headroom {
            span: HEADROOM_MAX,
            ceiling: HEADROOM_MAX_COMPETITIVE,
            ceiling_at: now,
            before_overload: HEADROOM_MAX,
            trial: None,
            less: wait(),
            more: wait(),
            steady: Steady::default(),
            empty: Empty::default(),
            competition: Competition::default(),
            rate: 0.0,
            rate_most: 0.0,
            mean: 0.0,
            unrest: MS.as_micros_f64(),
        }
    }

    /// The headroom.
    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// More was lost than by chance: gives up half, but keeps what the round trip is above the path's anyway (`mean`), so
    /// that as much is sent as was delivered.
    pub(super) fn on_overload(&mut self, mean: Duration, now: Instant) {
        if self.ceiling >= HEADROOM_MAX_COMPETITIVE {
            self.before_overload = self.span;
        }
        self.span = (self.span / 2).max(mean).min(self.span);
        (self.ceiling, self.ceiling_at) = (self.span, now);
        self.trial = None;
        self.competition.reset();
        (self.steady.rounds, self.empty.rounds) = (0, 0);
    }

    /// The loss was by chance: what was given up for it, and the ceiling, are restored.
    pub(super) fn restore(&mut self) {
        self.span = self.span.max(self.before_overload);
        self.ceiling = HEADROOM_MAX_COMPETITIVE;
    }

    /// A round without overload is over; `base`: the path's round trip. True if the queue stays empty however
    /// fast the rate grows.
    pub(super) fn end_round(&mut self, seen: Seen, base: Duration, now: Instant) -> bool {
        self.raise_ceiling(base, now);
        let most = base
            .mul_f64(HEADROOM_MAX_SHARE)
            .clamp(HEADROOM_MAX_FLOOR, HEADROOM_MAX);
        if self.trial.is_some() {
            self.go_on_trying(&seen, now);
            return false;
        }
        if self.span > most && !self.competition.is_on(now) {
            self.span -= (self.span - most) / 8;
        }
        self.note(&seen);
        let mut grows = false;
        if seen.queue < (self.span / 4).max(seen.noise / 2) {
            grows = self.on_empty(most);
        } else {
            self.empty.rounds = 0;
            self.steady.note(&seen);
            self.try_less(&seen, now);
            self.try_more(&seen, base, now);
        }
        self.compete(&seen, base, now);
        self.span = self.span.min(self.ceiling);
        grows
    }

    fn raise_ceiling(&mut self, base: Duration, now: Instant) {
        if now.since(self.ceiling_at) > CEILING_LIFETIME.max(4 * base) {
            self.ceiling = (2 * self.ceiling).clamp(MS, HEADROOM_MAX_COMPETITIVE);
            self.ceiling_at = now;
        }
        self.ceiling = self.ceiling.max(CEILING_MIN);
    }

    fn note(&mut self, seen: &Seen) {
        let mean = seen.mean.as_micros_f64();
        self.unrest += ((mean - self.mean).abs() - self.unrest) / 16.0;
        self.mean = mean;
        self.rate += (seen.rate - self.rate) / 4.0;
        self.rate_most = self.rate_most.max(self.rate);
    }

    /// The queue was empty for a moment. True if it has been for rounds, and the rate has grown all the while.
    fn on_empty(&mut self, most: Duration) -> bool {
        self.steady.rounds = 0;
        if self.empty.rounds == 0 {
            self.empty.rate_before = self.rate;
        }
        self.empty.rounds += 1;
        // a steady path may feign it once
        let step = if self.empty.rounds > 1 { 4 } else { 8 };
        self.span += most.saturating_sub(self.span) / step;
        if self.empty.rounds < EMPTY_ROUNDS || self.span < most * 3 / 4 {
            return false;
        }
        self.empty.rounds = 0;
        self.rate > EMPTY_GROWTH * self.empty.rate_before
    }

    /// Gives up what stands in the queue of a steady path.
    fn try_less(&mut self, seen: &Seen, now: Instant) {
        let steady = &self.steady;
        let wanted = seen.noise + seen.scatter;
        let others = steady.least_queue > self.span * 3 / 2 + 2 * seen.noise;
        if steady.rounds < STEADY_ROUNDS || others || now < self.less.until {
            return;
        }
        let stands = steady.least_queue.saturating_sub(wanted);
        let less = stands
            .mul_f64(QUEUE_RETURNED)
            .min(self.span.saturating_sub(wanted));
        if less.as_micros_f64()
            < (MS.as_micros_f64() / 2.0).max(SIGNIFICANT_REDUCTION * self.unrest)
        {
            return;
        }
        let mean = steady.means / f64::from(steady.rounds);
        self.begin(Kind::Less, mean - less.as_micros_f64() / 2.0);
        self.span -= less;
    }

    /// The rate ebbs although the queue does not run empty: there may be no queue, and the window may be too narrow.
    fn try_more(&mut self, seen: &Seen, base: Duration, now: Instant) {
        let ebbs = self.rate <= RATE_EBBED * self.rate_most;
        if self.trial.is_some() || !ebbs || is_foreign(seen, self.span) || now < self.more.until {
            return;
        }
        let more = (base + self.span).mul_f64(TRIAL_GROWTH);
        self.begin(Kind::More, self.rate * (1.0 + TRIAL_GROWTH / 2.0));
        self.span = (self.span + more).min(HEADROOM_MAX_TRIED).max(self.span);
    }

    fn begin(&mut self, kind: Kind, threshold: f64) {
        self.trial = Some(Trial {
            kind,
            before: self.span,
            threshold,
            rounds: 0,
            sum: 0.0,
        });
        self.steady.rounds = 0;
        self.competition.reset();
        self.rate_most = self.rate;
    }

    fn go_on_trying(&mut self, seen: &Seen, now: Instant) {
        let Some(trial) = &mut self.trial else { return };
        trial.rounds += 1;
        // what the change has done is not seen before a round trip
        if trial.rounds == 1 {
            return;
        }
        trial.sum += match trial.kind {
            Kind::Less => seen.mean.as_micros_f64(),
            Kind::More => seen.rate,
        };
        if trial.rounds > trial.kind.rounds() {
            self.end_trial(now);
        }
    }

    fn end_trial(&mut self, now: Instant) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        let average = trial.sum / f64::from(trial.kind.rounds());
        let (right, wait) = match trial.kind {
            Kind::Less => (average < trial.threshold, &mut self.less),
            Kind::More => (average >= trial.threshold, &mut self.more),
        };
        if right {
            wait.span = TRIAL_PAUSE;
        } else {
            wait.until = now.after(wait.span);
            wait.span = (2 * wait.span).min(TRIAL_PAUSE_MAX);
            self.span = trial.before;
        }
    }

    /// What others keep in the queue counts as part of the path.
    fn compete(&mut self, seen: &Seen, base: Duration, now: Instant) {
        if self.trial.is_some() {
            return;
        }
        let wider = self.competition.end_round(seen, self.span, self.rate, now);
        if let Some(factor) = wider {
            let held = (base + seen.mean).mul_f64(factor);
            self.span = held
                .saturating_sub(base)
                .min(HEADROOM_MAX_COMPETITIVE)
                .max(self.span);
            self.rate_most = self.rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);

    /// A line that carries `rate` and delays by `delay` more than the base whatever is sent: what a round shows of it.
    fn round(headroom: &Headroom, rate: f64, delay: Duration) -> Seen {
        let queue = headroom.span().max(delay);
        Seen {
            rate: rate * (BASE + headroom.span()).div_duration_f64(BASE + queue),
            queue,
            mean: queue,
            noise: 2 * MS,
            scatter: Duration::ZERO,
        }
    }

    fn run(headroom: &mut Headroom, rate: f64, delay: Duration, rounds: u64) {
        for n in 0..rounds {
            let seen = round(headroom, rate, delay);
            headroom.end_round(seen, BASE, Instant::ZERO.after(n * BASE));
        }
    }

    #[test]
    fn a_steady_path_needs_next_to_none() {
        let mut headroom = Headroom::new(Instant::ZERO);
        run(&mut headroom, 1e6, Duration::ZERO, 60);
        assert!(headroom.span() < 6 * MS, "{:?}", headroom.span());
    }

    #[test]
    fn a_delay_that_does_not_answer_is_no_queue() {
        let mut headroom = Headroom::new(Instant::ZERO);
        run(&mut headroom, 1e6, 38 * MS, 200);
        assert!(headroom.span() > 30 * MS, "{:?}", headroom.span());
    }

    #[test]
    fn an_empty_queue_lets_it_grow_up_to_the_ceiling() {
        let mut headroom = Headroom::new(Instant::ZERO);
        headroom.on_overload(MS, Instant::ZERO);
        headroom.on_overload(MS, Instant::ZERO);
        assert_eq!(headroom.span(), HEADROOM_MAX / 4);
        let empty = Seen {
            queue: Duration::ZERO,
            mean: MS,
            ..round(&headroom, 1e6, Duration::ZERO)
        };
        for n in 0..9 {
            headroom.end_round(empty, BASE, Instant::ZERO.after(n * BASE));
        }
        assert_eq!(
            headroom.span(),
            HEADROOM_MAX / 4,
            "losses have put a ceiling on it"
        );
        for n in 9..60 {
            headroom.end_round(empty, BASE, Instant::ZERO.after(n * BASE));
        }
        assert!(
            headroom.span() > HEADROOM_MAX / 4 * 3,
            "{:?}",
            headroom.span()
        );
    }
}
