//! Points in time and spans, as the logic of the tunnel sees them.
//!
//! Nothing here reads a clock: `event/` (or a test) does, and hands the time in.

/// A span of a millisecond, in microseconds: the unit of every span in this crate that is a plain `u64`.
pub const MS: u64 = 1_000;
/// A span of a second, in microseconds.
pub const SEC: u64 = 1_000_000;

/// Microseconds since an arbitrary start, the same for everything in one process. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Time(u64);

impl Time {
    /// The start.
    pub const ZERO: Time = Time(0);
    /// Later than everything: the deadline of what has none.
    pub const NEVER: Time = Time(u64::MAX);

    /// The time `us` microseconds after the start.
    pub const fn from_micros(us: u64) -> Time {
        Time(us)
    }

    /// The time `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Time {
        Time(ms * MS)
    }

    /// Microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start.
    pub const fn millis(self) -> u64 {
        self.0 / MS
    }

    /// The microseconds from `earlier` to here; 0 if `earlier` is not earlier.
    pub const fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time and `us` microseconds; stays at `NEVER`.
    pub const fn after(self, us: u64) -> Time {
        Time(self.0.saturating_add(us))
    }
}

/// The present in both clocks.
#[derive(Clone, Copy)]
pub struct Now {
    /// Ours.
    pub time: Time,
    /// KCP's clock, ms; it wraps.
    pub clock: u32,
}
