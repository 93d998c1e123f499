//! Startup: the window doubles each round trip (slow start) until the path delivers no more for it.
//!
//! Each round is sent at twice the rate of the one before, so it is also a probe for loss: a share that is lost at both
//! rates, while what arrives doubles, is by chance.

/// How much the delivery rate has to grow for Startup to go on (BBR draft, 4.3.1.2).
const GROWTH: f64 = 1.25;
/// Rounds without that growth after which Startup is over (BBR draft, 4.3.1.2).
const FULL_PIPE_ROUNDS: u32 = 3;
/// The window as a multiple of the most that the path has been seen to hold: what arrives lags behind by a round trip.
const WINDOW_GAIN: f64 = 2.0;
/// The largest window before anything was measured, bytes.
const WINDOW_UNMEASURED: f64 = 200e3;
/// What arrives has followed what was sent when it grew by this factor.
const FOLLOWS_GROWTH: f64 = 1.5;

/// The state of Startup.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Startup {
    window: f64,
    best: f64,
    stalled: u32,
    /// What arrived in the last round, in bytes by its span, and the share that was lost.
    arrived: f64,
    lost: f64,
}

/// What follows from a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Startup goes on.
    GoOn,
    /// The loss of this share does not depend on the rate.
    Chance(f64),
    /// The path is full.
    Full,
    /// And loses what is too much.
    Overflows,
}

impl Startup {
    /// `window`: bytes in flight at first.
    pub(super) fn new(window: f64) -> Startup {
        Startup {
            window,
            ..Startup::default()
        }
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> f64 {
        self.window
    }

    /// `bytes` of what is in flight have arrived: the window grows by as much if it is used (RFC 9002, 7.8), up to some times
    /// the bytes that the path has been seen to hold.
    pub(super) fn on_delivered(&mut self, bytes: usize, in_flight: u64, held: f64) {
        let used = in_flight as f64 >= self.window / 2.0;
        if used && self.window < (WINDOW_GAIN * held).max(WINDOW_UNMEASURED) {
            self.window += bytes as f64;
        }
    }

    /// `arrived`: bytes by the round's span; `lost`: the share that may be by chance; `excess`: it is more than is excused.
    pub(super) fn end_round(&mut self, arrived: f64, lost: f64, excess: bool) -> Next {
        let grew = arrived >= self.best * GROWTH;
        let follows = self.arrived > 0.0 && arrived >= self.arrived * FOLLOWS_GROWTH;
        let lost_before = std::mem::replace(&mut self.lost, lost);
        self.arrived = arrived;
        self.best = self.best.max(arrived);
        self.stalled = if grew { 0 } else { self.stalled + 1 };
        if follows && lost > 0.0 && lost_before > 0.0 {
            Next::Chance(lost.min(lost_before))
        } else if !grew && excess {
            Next::Overflows
        } else if self.stalled >= FULL_PIPE_ROUNDS {
            Next::Full
        } else {
            Next::GoOn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_that_stays_while_what_arrives_doubles_is_by_chance() {
        let mut startup = Startup::new(10e3);
        assert_eq!(startup.end_round(1.0, 0.1, true), Next::GoOn);
        assert_eq!(startup.end_round(2.0, 0.12, true), Next::Chance(0.1));
        assert_eq!(startup.end_round(2.1, 0.5, true), Next::Overflows);
    }

    #[test]
    fn it_is_over_when_nothing_more_arrives() {
        let mut startup = Startup::new(10e3);
        assert_eq!(startup.end_round(1.0, 0.0, false), Next::GoOn);
        for _ in 1..FULL_PIPE_ROUNDS {
            assert_eq!(startup.end_round(1.1, 0.0, false), Next::GoOn);
        }
        assert_eq!(startup.end_round(1.1, 0.0, false), Next::Full);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut startup = Startup::new(10e3);
        startup.on_delivered(1000, 4_000, 1e6);
        assert_eq!(startup.window(), 10e3);
        startup.on_delivered(1000, 6_000, 1e6);
        assert_eq!(startup.window(), 11e3);
    }
}
