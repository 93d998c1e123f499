//! A token bucket: when the next bulk datagram of a path may leave, and how much may be sent or read beside it. Knows a rate and a
//! clock; how the rate is found is not its affair.

use crate::time::{Duration, Instant};

/// What may leave at once after a pause, as a span of the rate: poll timeouts have a grain of 1 ms,
/// and one that comes late must be made up for, or the rate is never reached.
const BURST_SPAN: Duration = Duration::from_millis(2);

/// A token bucket that counts in time instead of tokens: each byte moves the moment at which the line is free, up to a most.
#[derive(Debug)]
pub(crate) struct Pacer {
    free_at: Instant,
    most_debt: Duration,
}

impl Pacer {
    /// `most_debt`: what goes without waiting makes others wait no longer than this and one datagram more.
    /// A debt is counted at the rate of its time, and the rate may turn out to be higher.
    pub(crate) fn new(most_debt: Duration, now: Instant) -> Pacer {
        Pacer {
            free_at: now,
            most_debt,
        }
    }

    /// When the next datagram may leave; at or before `now`: at once.
    pub(crate) fn release_time(&self) -> Instant {
        self.free_at
    }

    /// Whether what may not wait would leave no later than `debt` of the rate from now.
    pub(crate) fn owes_less_than(&self, debt: Duration, now: Instant) -> bool {
        self.free_at <= now.after(debt)
    }

    /// Accounts for `bytes` that leave now, whether they had to wait or not, unless the debt is at its most. `rate` in bytes
    /// per second.
    pub(crate) fn charge(&mut self, bytes: usize, rate: f64, now: Instant) {
        if self.free_at > now.after(self.most_debt) {
            return;
        }
        let earliest = now.before(BURST_SPAN);
        let span = Duration::from_secs_f64(bytes as f64 / rate.max(1.0));
        self.free_at = self.free_at.max(earliest).after(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    #[test]
    fn a_late_timer_does_not_cost_rate() {
        let mut pacer = Pacer::new(20 * MS, Instant::ZERO);
        let mut sent = 0;
        for ms in 0..1000u64 {
            // the loop wakes up once a millisecond, up to 0.9 ms late
            let now = Instant::from_micros(ms * 1000 + ms * 7919 % 900);
            while pacer.release_time() <= now {
                pacer.charge(1000, 1e6, now);
                sent += 1000;
            }
        }
        assert!((990_000..=1_004_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_pause_earns_no_more_than_the_slack() {
        let mut pacer = Pacer::new(20 * MS, Instant::ZERO);
        let now = Instant::from_millis(5000);
        let mut burst = 0;
        while pacer.release_time() <= now {
            pacer.charge(100, 1e6, now);
            burst += 100;
        }
        assert!(burst <= 2_100, "{burst}");
    }

    #[test]
    fn what_does_not_wait_owes_no_more_than_the_most() {
        let mut pacer = Pacer::new(20 * MS, Instant::ZERO);
        (0..1000).for_each(|_| pacer.charge(1000, 1e6, Instant::ZERO));
        assert!(pacer.release_time() <= Instant::from_millis(22));
        assert!(
            pacer.owes_less_than(30 * MS, Instant::ZERO)
                && !pacer.owes_less_than(10 * MS, Instant::ZERO)
        );
    }
}
