//! Competitive mode: holding one's own beside flows that keep a queue. A flow that gives way to a queue gets next to nothing
//! beside one that does not (CUBIC fills the queue until packets are lost, BBR keeps up to a round trip's worth in it).
//!
//! A queue is not ours if it stays longer than our headroom although the window had enough rounds to shrink. A queue that
//! does not respond to us counts as part of the path: the window is then made for a round trip that includes it, at the rate
//! from before it came. What becomes of that headroom later is decided in `headroom`.

use super::round::Seen;
use crate::time::{Duration, Instant};

/// Rounds in a row that a queue has to stand to count as not ours: twice what the delivery rate remembers and the window
/// needs to follow.
const STANDING_ROUNDS: u32 = 8;
/// A flow whose rate is below this share of what it was has lost to others.
const RATE_FELL: f64 = 0.85;
/// How long the headroom of competitive mode is kept: as long as the least round trip is remembered.
const MODE_LIFETIME: Duration = Duration::from_secs(10);

/// Whether others keep a queue on the path.
#[derive(Debug, Default)]
pub(super) struct Competition {
    rounds: u32,
    /// The smoothed delivery rate when the queue began to stand, bytes per second.
    rate_before: f64,
    until: Instant,
}

impl Competition {
    /// A round is over in which the queue had room for `headroom` of ours; `rate`: smoothed, bytes per second.
    /// If it finds a queue of others: the factor by which the window has to be wider than this queue alone asks for.
    pub(super) fn end_round(
        &mut self,
        seen: &Seen,
        headroom: Duration,
        rate: f64,
        now: Instant,
    ) -> Option<f64> {
        if !is_foreign(seen, headroom) {
            self.rounds = 0;
            return None;
        }
        if self.rounds == 0 {
            self.rate_before = rate;
        }
        self.rounds += 1;
        if self.rounds < STANDING_ROUNDS {
            return None;
        }
        self.rounds = 0;
        self.until = now.after(MODE_LIFETIME);
        let fell = rate < RATE_FELL * self.rate_before;
        Some(if fell {
            self.rate_before / rate.max(1.0)
        } else {
            1.0
        })
    }

    /// Whether a queue of others stands, or did lately.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.rounds > 0 || now < self.until
    }

    /// Forgets what was seen: the window has changed.
    pub(super) fn reset(&mut self) {
        self.rounds = 0;
    }
}

/// Whether the queue was longer all through the round than what we have in it.
pub(super) fn is_foreign(seen: &Seen, headroom: Duration) -> bool {
    seen.queue > headroom + 2 * seen.noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    fn seen(queue: Duration) -> Seen {
        Seen {
            rate: 1e6,
            queue,
            mean: queue,
            noise: MS,
            scatter: Duration::ZERO,
        }
    }

    #[test]
    fn a_queue_that_stays_is_shared() {
        let mut competition = Competition::default();
        let mut end = |rate| competition.end_round(&seen(50 * MS), 20 * MS, rate, Instant::ZERO);
        assert!((1..STANDING_ROUNDS).all(|_| end(1e6).is_none()));
        assert_eq!(end(0.5e6), Some(2.0), "at the rate from before");
        assert!((1..STANDING_ROUNDS).all(|_| end(1e6).is_none()));
        assert_eq!(end(1e6), Some(1.0));
        assert!(competition.is_on(Instant::ZERO.after(MODE_LIFETIME - Duration::MICROSECOND)));
    }

    #[test]
    fn a_queue_that_comes_and_goes_is_no_competition() {
        let mut competition = Competition::default();
        for round in 0..10 * STANDING_ROUNDS {
            let queue = if round % STANDING_ROUNDS == 0 {
                Duration::ZERO
            } else {
                50 * MS
            };
            assert_eq!(
                competition.end_round(&seen(queue), 20 * MS, 1e6, Instant::ZERO),
                None
            );
        }
    }
}
