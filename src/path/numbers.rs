//! Finds datagrams that were held back, by their sender's numbering under the psk: one with a lower number than another that came a
//! while ago. Nothing is dropped here: `tunnel::inbound` decides what a late datagram may not do.

use crate::crypto::number_after;
use crate::time::{Duration, Instant};

/// A datagram that was overtaken so long ago is late; that is found after twice this at the latest. Shorter than TIME_WAIT, and
/// longer than packets are under way.
const LATE: Duration = Duration::from_secs(20);

/// The highest numbers that have come: ever, and by two times in the past.
#[derive(Clone, Copy, Default)]
pub(crate) struct Numbers {
    /// The highest of all, and when it came. None: nothing has come.
    newest: Option<(u128, Instant)>,
    /// The highest of some time ago, and since when that time is past.
    mark: Option<(u128, Instant)>,
    /// The highest of `LATE` ago, or longer.
    late: Option<u128>,
}

impl Numbers {
    /// Whether a number is of the process whose datagrams came last, if any came.
    pub(crate) fn is_of(&self, number: u128) -> bool {
        self.newest
            .is_none_or(|(newest, _)| is_from_one_process(newest, number))
    }

    /// A datagram of this number has come.
    pub(crate) fn note(&mut self, number: u128, now: Instant) {
        match self.newest {
            Some((newest, _)) if is_from_one_process(newest, number) => {
                self.advance(now);
                if is_ahead(number, newest) {
                    self.newest = Some((number, now));
                }
            }
            // another process is there: it counts from elsewhere
            _ => {
                *self = Numbers {
                    newest: Some((number, now)),
                    ..Numbers::default()
                }
            }
        }
    }

    /// Whether a datagram of this number is late: another of its sender, which was sent after it, came `LATE` ago or before.
    pub(crate) fn is_late(&self, number: u128, now: Instant) -> bool {
        let before = |late| number_after(late, number).is_some();
        self.late_at(now).is_some_and(before)
    }

    /// The highest number of those that came `LATE` before `now`, as far as it is known.
    fn late_at(&self, now: Instant) -> Option<u128> {
        let old = |(number, at): (u128, Instant)| (now.since(at) >= LATE).then_some(number);
        let newest = self.newest.and_then(old);
        newest.or_else(|| self.mark.and_then(old)).or(self.late)
    }

    fn advance(&mut self, now: Instant) {
        self.late = self.late_at(now);
        if self.mark.is_none_or(|(_, since)| now.since(since) >= LATE) {
            self.mark = self.newest.map(|(number, _)| (number, now));
        }
    }
}

fn is_from_one_process(one: u128, other: u128) -> bool {
    number_after(one, other).is_some() || number_after(other, one).is_some()
}

/// Whether a number comes after another of the same process.
fn is_ahead(number: u128, other: u128) -> bool {
    number_after(number, other).is_some_and(|by| by > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers have 96 bits.
    const MASK: u128 = (1 << 96) - 1;
    const START: u128 = MASK - 5;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_was_overtaken_for_long_is_late() {
        let mut numbers = Numbers::default();
        assert!(!numbers.is_late(START, at(0)));
        for n in 0..100 {
            numbers.note((START + n) & MASK, at(n as u64));
        }
        for (n, late) in [
            (50, true),
            (59, true),
            (80, false),
            (98, false),
            (200, false),
        ] {
            assert_eq!(numbers.is_late((START + n) & MASK, at(99)), late, "{n}");
        }
        assert!(!numbers.is_late((START + 100) & MASK, at(500)));
        assert!(numbers.is_late((START + 99) & MASK, at(500)), "its copy");
    }

    #[test]
    fn what_two_datagrams_far_apart_say_is_enough() {
        let mut numbers = Numbers::default();
        numbers.note(10, at(0));
        numbers.note(12, at(1));
        assert!(!numbers.is_late(11, at(20)));
        assert!(numbers.is_late(11, at(21)));
        numbers.note(14, at(22));
        assert!(numbers.is_late(11, at(22)) && !numbers.is_late(13, at(22)));
    }

    #[test]
    fn another_process_begins_anew() {
        let mut numbers = Numbers::default();
        numbers.note(10, at(0));
        assert!(numbers.is_late(9, at(100)));
        assert!(!numbers.is_late(1 << 80, at(100)));
        numbers.note(1 << 80, at(101));
        assert!(!numbers.is_late((1 << 80) - 1, at(102)));
        assert!(
            !numbers.is_late(9, at(200)),
            "nothing is known of it any more"
        );
    }
}
