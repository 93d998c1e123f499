//! The amplification limit, where there is no key: how much is sent to an address whose owner has not shown anew that it
//! receives there. Whoever is there shows it again and again while a transfer lasts; somebody who was there once is not flooded
//! in answer to datagrams that others forge in that name. When to ask is said here, how is in `tunnel::validation`.

use crate::time::{Duration, Instant};

/// Bytes at least, and at most after a pause this long: six times what leaves in a first round trip.
const LEAST: u64 = 256 * 1024;
const PAUSE: Duration = Duration::from_secs(60);
/// A transfer at most doubles what it sends from one round trip to the next. Beyond that: where 30 % are lost each way, half
/// of the questions or their answers are, and eight in a row once in 250 times.
const GROWTH: u64 = 16;
/// Less is not worth a question.
const ASK_FROM: u64 = 16 * 1024;
/// From one question to the next: a round trip within these bounds, or less if twice as much has been sent
/// since. After so many without an answer twice as long from each to the next, so many times at most.
const ASK_PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
const OFTEN: u32 = 20;
const DOUBLINGS: u32 = 6;

/// Bytes that were sent since the last validation, and what it is good for.
#[derive(Debug, Default)]
pub(crate) struct AmplificationLimit {
    sent: u64,
    /// What had been sent when the last validation came, since the one before it.
    carried: u64,
    /// The last validation that came for a transfer is good until then.
    earned_until: Instant,
    validated_at: Instant,
    asked_at: Instant,
    /// Questions since the last validation, and what had been sent at the latest.
    asked: u32,
    asked_sent: u64,
}

impl AmplificationLimit {
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Nothing more may be sent before the next validation.
    pub(crate) fn is_spent(&self) -> bool {
        self.sent >= LEAST.max(GROWTH * self.carried)
    }

    /// Whether a validation has come lately for as much as is worth a question: a transfer's, and not that of a few packets.
    pub(crate) fn is_earned(&self, now: Instant) -> bool {
        self.earned_until > now
    }

    /// Whether a challenge is to be sent; then it counts as asked for. `rtt`: of the path.
    pub(crate) fn asks(&mut self, rtt: Duration, now: Instant) -> bool {
        let stale = now.since(self.validated_at) >= PAUSE;
        if stale {
            self.carried = 0;
        }
        let worth = self.sent >= ASK_FROM || (stale && self.sent > 0);
        let doubled = self.sent >= 2 * self.asked_sent.max(ASK_FROM);
        let asks = worth && (doubled || self.asks_at(rtt) <= now);
        if asks {
            (self.asked, self.asked_at) = (self.asked + 1, now);
            self.asked_sent = self.sent;
        }
        asks
    }

    /// When it is time for the next question.
    pub(crate) fn asks_at(&self, rtt: Duration) -> Instant {
        if self.asked == 0 {
            return Instant::ZERO;
        }
        let [least, most] = ASK_PAUSE;
        let doublings = self.asked.saturating_sub(OFTEN).min(DOUBLINGS);
        self.asked_at.after(rtt.clamp(least, most) << doublings)
    }

    /// The address was validated. True if something may have waited for that.
    pub(crate) fn renew(&mut self, now: Instant) -> bool {
        let spent = self.is_spent();
        let earns = self.sent >= ASK_FROM;
        *self = AmplificationLimit {
            earned_until: if earns {
                now.after(PAUSE)
            } else {
                self.earned_until
            },
            carried: self.sent,
            validated_at: now,
            ..AmplificationLimit::default()
        };
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    #[test]
    fn who_is_asked_and_answers_can_be_sent_ever_more() {
        let mut limit = AmplificationLimit::default();
        let mut now = Instant::from_millis(1_000);
        for round in 0..12 {
            let mut left = 44_000u64 << round;
            while left > 0 {
                limit.charge(1_400);
                left = left.saturating_sub(1_400);
                assert!(!limit.is_spent(), "round {round}");
            }
            assert!(limit.asks(Duration::ZERO, now));
            assert!(!limit.asks(Duration::ZERO, now));
            now = now.after(100 * MS);
            assert!(!limit.renew(now));
        }
    }

    #[test]
    fn who_does_not_answer_is_sent_little() {
        let mut limit = AmplificationLimit::default();
        let now = Instant::from_millis(1_000);
        limit.charge(100_000_000);
        assert!(limit.renew(now));
        // what a transfer had reached is forgotten after a while
        let late = now.after(PAUSE);
        limit.charge(20_000);
        assert!(limit.asks(Duration::ZERO, late) && !limit.is_spent());
        limit.charge(LEAST as usize);
        assert!(limit.is_spent());
        // and asked ever more rarely
        let asked = (0..10_000).filter(|ms| limit.asks(Duration::ZERO, late.after(*ms * MS)));
        assert_eq!(asked.count(), OFTEN as usize + 5);
        assert!(limit.renew(late));
    }
}
