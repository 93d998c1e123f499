//! Limits what others can cause as often as they like. A warning that repeats itself is logged at once, and then at growing
//! intervals while it lasts; other things are done at most some number of times a second.

use crate::time::{Duration, Instant, SEC};

/// The first pause after a line; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// What has not happened for this long begins anew.
const CALM_SPAN: Duration = Duration::from_secs(60);

/// For one kind of warning.
#[derive(Default)]
pub(crate) struct Throttle {
    next: Instant,
    last: Instant,
    pause: Duration,
    held_back: u64,
}

impl Throttle {
    /// It has happened. Whether a line may be written now and, if so, how many were held back since the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        self.admit_many(1, now)
    }

    /// The same for what has happened so many times, at least once.
    pub(crate) fn admit_many(&mut self, count: u64, now: Instant) -> Option<u64> {
        if self.pause.is_zero() || now.since(self.last) >= CALM_SPAN {
            (self.next, self.pause) = (now, PAUSE_MIN);
        }
        self.last = now;
        self.held_back += count.saturating_sub(1);
        if now < self.next {
            self.held_back += 1;
            return None;
        }
        self.next = now.after(self.pause);
        self.pause = PAUSE_MAX.min(2 * self.pause);
        Some(std::mem::take(&mut self.held_back))
    }
}

/// At most some number of times a second.
#[derive(Default)]
pub(crate) struct PerSecond {
    began: Instant,
    count: u32,
}

impl PerSecond {
    /// Whether one more is within the `most` of this second.
    pub(crate) fn admit(&mut self, most: u32, now: Instant) -> bool {
        if now.since(self.began) >= SEC {
            (self.began, self.count) = (now, 0);
        }
        self.count += 1;
        self.count <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds in which a line is written while it happens every 10 ms.
    fn lines(throttle: &mut Throttle, from: u64, to: u64) -> Vec<u64> {
        let each = (from * 100..to * 100).map(|n| Instant::from_millis(n * 10));
        let written = each.filter(|now| throttle.admit(*now).is_some());
        written.map(|now| now.millis() / 1_000).collect()
    }

    #[test]
    fn the_longer_it_lasts_the_rarer_it_is_told() {
        let mut throttle = Throttle::default();
        let expected = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111];
        assert_eq!(lines(&mut throttle, 0, 1200), expected);
        // it was over for a minute
        assert_eq!(lines(&mut throttle, 1260, 1264), [1260, 1261, 1263]);
    }

    #[test]
    fn so_many_a_second() {
        let mut limit = PerSecond::default();
        let mut admitted = |ms| {
            (0..9)
                .filter(|_| limit.admit(3, Instant::from_millis(ms)))
                .count()
        };
        assert_eq!(
            [0, 999, 1000, 1500, 2000].map(&mut admitted),
            [3, 0, 3, 0, 3]
        );
    }

    #[test]
    fn what_was_held_back_is_counted() {
        let mut throttle = Throttle::default();
        let at = Instant::from_millis;
        assert_eq!(throttle.admit(at(5)), Some(0));
        assert_eq!(throttle.admit(at(6)), None);
        assert_eq!(throttle.admit(at(7)), None);
        assert_eq!(throttle.admit(at(1005)), Some(2));
        // not often enough to be held back, and still the same trouble
        assert_eq!(throttle.admit(at(4000)), Some(0));
        assert_eq!(throttle.admit(at(6000)), None);
        assert_eq!(throttle.admit_many(5, at(6500)), None);
        assert_eq!(throttle.admit_many(3, at(9000)), Some(8));
    }
}
