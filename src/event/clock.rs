//! The clock that the tunnel sees: it goes on while the machine is suspended, as the other end's does. So sessions that
//! nothing was heard of for their `timeout` are ended on waking up, and the others go on.

use crate::platform::{Clocks, clocks};
use std::time::Duration;

/// Counts from when it was made.
pub(super) struct Clock {
    begun: Clocks,
    /// How long the machine had slept when it was asked last.
    slept: Duration,
}

/// How long the machine has slept, counted from an unknown time.
fn slept(now: Clocks) -> Duration {
    now.whole.saturating_sub(now.awake)
}

impl Clock {
    /// A clock that begins to count now.
    pub(super) fn start() -> Clock {
        let begun = clocks();
        Clock {
            begun,
            slept: slept(begun),
        }
    }

    /// How long it has run, the machine's sleep included.
    pub(super) fn elapsed(&self) -> Duration {
        clocks().whole.saturating_sub(self.begun.whole)
    }

    /// How long the machine has slept since this was last asked.
    pub(super) fn slept(&mut self) -> Duration {
        self.slept_by(clocks())
    }

    fn slept_by(&mut self, now: Clocks) -> Duration {
        let more = slept(now).saturating_sub(self.slept);
        self.slept += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_told_from_time_that_passes() {
        let running = Clock::start();
        let first = running.elapsed();
        assert!(running.elapsed() >= first);
        let at = |whole, awake| Clocks {
            whole: Duration::from_secs(whole),
            awake: Duration::from_secs(awake),
        };
        let begun = at(1000, 900);
        let mut clock = Clock {
            begun,
            slept: slept(begun),
        };
        let readings = [at(1005, 905), at(1100, 910), at(1101, 911)];
        let slept = readings.map(|reading| clock.slept_by(reading));
        assert_eq!(slept.map(|span| span.as_secs()), [0, 90, 0]);
    }
}
