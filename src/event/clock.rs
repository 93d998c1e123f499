//! The clock that the tunnel sees: it goes on while the machine is suspended, as the other end's does. So sessions that
//! nothing was heard of for their `timeout` are ended on waking up, and the others go on.

use std::time::Duration;

/// Counts from when it was made.
pub(super) struct Clock {
    begun: Reading,
    /// How long the machine had slept when it was asked last.
    slept: Duration,
}

#[derive(Clone, Copy)]
struct Reading {
    /// With the time that the machine has slept, and without.
    whole: Duration,
    awake: Duration,
}

impl Reading {
    #[cfg(target_os = "linux")]
    fn now() -> Reading {
        use nix::time::{ClockId, clock_gettime};
        // Every Linux has both clocks. They are read as std reads its own, by libc: rustix's reading is not reliable with musl
        // on 32-bit MIPS.
        let read = |id| clock_gettime(id).map_or(Duration::ZERO, Duration::from);
        // in this order, so that the difference never grows by what passes between the two
        Reading {
            whole: read(ClockId::CLOCK_BOOTTIME),
            awake: read(ClockId::CLOCK_MONOTONIC),
        }
    }

    /// Elsewhere a suspension is not seen: the time stands still with the machine.
    #[cfg(not(target_os = "linux"))]
    fn now() -> Reading {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        let awake = START.get_or_init(Instant::now).elapsed();
        Reading {
            whole: awake,
            awake,
        }
    }

    fn slept(self) -> Duration {
        self.whole.saturating_sub(self.awake)
    }
}

impl Clock {
    /// A clock that begins to count now.
    pub(super) fn start() -> Clock {
        let begun = Reading::now();
        Clock {
            begun,
            slept: begun.slept(),
        }
    }

    /// How long it has run, the machine's sleep included.
    pub(super) fn elapsed(&self) -> Duration {
        Reading::now().whole.saturating_sub(self.begun.whole)
    }

    /// How long the machine has slept since this was last asked.
    pub(super) fn slept(&mut self) -> Duration {
        self.slept_by(Reading::now())
    }

    fn slept_by(&mut self, now: Reading) -> Duration {
        let more = now.slept().saturating_sub(self.slept);
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
        let at = |whole, awake| Reading {
            whole: Duration::from_secs(whole),
            awake: Duration::from_secs(awake),
        };
        let begun = at(1000, 900);
        let mut clock = Clock {
            begun,
            slept: begun.slept(),
        };
        let readings = [at(1005, 905), at(1100, 910), at(1101, 911)];
        let slept = readings.map(|reading| clock.slept_by(reading));
        assert_eq!(slept.map(|span| span.as_secs()), [0, 90, 0]);
    }
}
