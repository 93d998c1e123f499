//! When the next bulk datagram of a path may leave. Knows a rate and a clock; how the rate is found is not its affair.

use crate::time::{SEC, Time};

/// What may leave at once after a pause, as a span of the rate: poll timeouts have a grain of 1 ms,
/// and one that comes late must be made up for, or the rate is never reached.
const BURST_SPAN: u64 = 2_000;

/// A leaky bucket that counts in time: each byte moves the moment at which the line is free, up to a most.
#[derive(Debug)]
pub(crate) struct Pacer {
    free_at: Time,
    most_debt: u64,
}

impl Pacer {
    /// `most_debt`, microseconds: what goes without waiting makes others wait no longer than this and one datagram more.
    /// A debt is counted at the rate of its time, and the rate may turn out to be higher.
    pub(crate) fn new(most_debt: u64, now: Time) -> Pacer {
        Pacer {
            free_at: now,
            most_debt,
        }
    }

    /// When the next datagram may leave; at or before `now`: at once.
    pub(crate) fn release_time(&self) -> Time {
        self.free_at
    }

    /// Whether what may not wait would leave no later than `debt` microseconds of the rate from now.
    pub(crate) fn owes_less_than(&self, debt: u64, now: Time) -> bool {
        self.free_at <= now.after(debt)
    }

    /// Accounts for `bytes` that leave now, whether they had to wait or not, unless the debt is at its most. `rate` in bytes
    /// per second.
    pub(crate) fn charge(&mut self, bytes: usize, rate: f64, now: Time) {
        if self.free_at > now.after(self.most_debt) {
            return;
        }
        let earliest = Time::from_micros(now.micros().saturating_sub(BURST_SPAN));
        let span = bytes as f64 / rate.max(1.0) * SEC as f64;
        self.free_at = self.free_at.max(earliest).after(span as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_does_not_cost_rate() {
        let mut pacer = Pacer::new(20_000, Time::ZERO);
        let mut sent = 0;
        for ms in 0..1000u64 {
            // the loop wakes up once a millisecond, up to 0.9 ms late
            let now = Time::from_micros(ms * 1000 + ms * 7919 % 900);
            while pacer.release_time() <= now {
                pacer.charge(1000, 1e6, now);
                sent += 1000;
            }
        }
        assert!((990_000..=1_004_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_pause_earns_no_more_than_the_slack() {
        let mut pacer = Pacer::new(20_000, Time::ZERO);
        let now = Time::from_millis(5000);
        let mut burst = 0;
        while pacer.release_time() <= now {
            pacer.charge(100, 1e6, now);
            burst += 100;
        }
        assert!(burst <= 2_100, "{burst}");
    }

    #[test]
    fn what_does_not_wait_owes_no_more_than_the_most() {
        let mut pacer = Pacer::new(20_000, Time::ZERO);
        (0..1000).for_each(|_| pacer.charge(1000, 1e6, Time::ZERO));
        assert!(pacer.release_time() <= Time::from_millis(22));
        assert!(
            pacer.owes_less_than(30_000, Time::ZERO) && !pacer.owes_less_than(10_000, Time::ZERO)
        );
    }
}
