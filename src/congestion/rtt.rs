//! The smoothed round trip of a path and how it varies, and how long a sender waits because of that. The round trip without a
//! queue is in `base_rtt`.

use super::{ACK_DELAY_MAX, base_rtt};
use crate::time::{Duration, MS};

/// How far packets are at least assumed to overtake each other.
const REORDERING_MIN: Duration = Duration::from_millis(2);

/// The round trip and how it varies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rtt {
    /// The smoothed round trip.
    smoothed: Duration,
    /// Its deviation.
    deviation: Duration,
    /// How much longer than the least the round trips of a round are on average.
    scatter: Duration,
    /// How far packets are assumed to overtake each other; it grows when something was given up too early.
    overtaken: Duration,
}

impl Rtt {
    /// Of a path of which nothing is known.
    pub(super) fn assumed() -> Rtt {
        Rtt {
            smoothed: base_rtt::ASSUMED,
            deviation: base_rtt::ASSUMED / 2,
            scatter: Duration::ZERO,
            overtaken: REORDERING_MIN,
        }
    }

    /// A round trip was measured (RFC 6298's shape); `first`: none was before.
    pub(super) fn record(&mut self, rtt: Duration, first: bool) {
        if first {
            (self.smoothed, self.deviation) = (rtt, rtt / 2);
        } else {
            self.deviation = (3 * self.deviation + self.smoothed.abs_diff(rtt)) / 4;
            self.smoothed = (7 * self.smoothed + rtt) / 8;
        }
    }

    /// A round is over, whose round trips were by so much longer than its least on average.
    pub(super) fn end_round(&mut self, scatter: Duration) {
        self.scatter = (7 * self.scatter + scatter) / 8;
    }

    /// A transmission that was given up has arrived after all.
    pub(super) fn on_late(&mut self) {
        let further = self.overtaken + self.overtaken / 8 + MS / 4;
        self.overtaken = further.min(self.smoothed.max(REORDERING_MIN));
    }

    /// The smoothed round trip.
    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// How much longer than the least the round trips of a round are on average.
    pub(super) fn scatter(&self) -> Duration {
        self.scatter
    }

    /// How long to wait for an acknowledgement before asking again (RFC 6298's and RFC 9002's shape).
    pub(super) fn timeout(&self) -> Duration {
        self.smoothed + (4 * self.deviation).max(10 * MS) + 10 * MS
    }

    /// How far a later packet may overtake an earlier one before that counts as lost: as far as it was seen to and, unless only
    /// that is asked for, long enough for a lost datagram of acks to be repeated.
    pub(super) fn reordering(&self, seen_only: bool) -> Duration {
        match seen_only {
            true => self.overtaken,
            false => {
                let repeated = (self.smoothed / 8).clamp(4 * MS, 2 * ACK_DELAY_MAX + 2 * MS);
                repeated.max(self.overtaken)
            }
        }
    }
}
