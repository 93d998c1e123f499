//! Points in time and spans, as the logic of the tunnel sees them.
//!
//! Nothing here reads a clock: `event/` (or a test) does, and hands the time in.

use std::ops::{Add, AddAssign, Div, Mul, Shl, Sub, SubAssign};

/// A millisecond: `20 * MS` reads as it is said.
pub const MS: Duration = Duration::from_millis(1);
/// A second.
pub const SEC: Duration = Duration::from_secs(1);

/// A span of time in whole microseconds. What would leave its range stays at the bound: zero or `MAX`.
///
/// The standard library's takes 16 bytes, and a session holds many. Microseconds are exact enough here. `event/` converts between
/// the two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);
    /// The shortest that there is.
    pub const MICROSECOND: Duration = Duration(1);
    /// Longer than everything.
    pub const MAX: Duration = Duration(u64::MAX);

    /// So many microseconds.
    pub const fn from_micros(us: u64) -> Duration {
        Duration(us)
    }

    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Duration {
        Duration(ms.saturating_mul(1_000))
    }

    /// So many seconds.
    pub const fn from_secs(s: u64) -> Duration {
        Duration(s.saturating_mul(1_000_000))
    }

    /// So many seconds, rounded down to microseconds; what is negative is zero.
    pub const fn from_secs_f64(s: f64) -> Duration {
        Duration((s * 1e6) as u64)
    }

    /// Whole microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Microseconds.
    pub const fn as_micros_f64(self) -> f64 {
        self.0 as f64
    }

    /// Milliseconds.
    pub const fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// Seconds.
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// How many times `other` is in it.
    pub const fn div_duration_f64(self, other: Duration) -> f64 {
        self.0 as f64 / other.0 as f64
    }

    /// How far the two are apart.
    pub const fn abs_diff(self, other: Duration) -> Duration {
        Duration(self.0.abs_diff(other.0))
    }

    /// What is left of it without `other`.
    pub const fn saturating_sub(self, other: Duration) -> Duration {
        Duration(self.0.saturating_sub(other.0))
    }

    /// This many times as long, rounded down to microseconds.
    pub const fn mul_f64(self, factor: f64) -> Duration {
        Duration((self.0 as f64 * factor) as u64)
    }
}

impl Add for Duration {
    type Output = Duration;

    fn add(self, other: Duration) -> Duration {
        Duration(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Duration {
    fn add_assign(&mut self, other: Duration) {
        *self = *self + other;
    }
}

impl Sub for Duration {
    type Output = Duration;

    fn sub(self, other: Duration) -> Duration {
        self.saturating_sub(other)
    }
}

impl SubAssign for Duration {
    fn sub_assign(&mut self, other: Duration) {
        *self = *self - other;
    }
}

impl Mul<u64> for Duration {
    type Output = Duration;

    fn mul(self, factor: u64) -> Duration {
        Duration(self.0.saturating_mul(factor))
    }
}

impl Mul<Duration> for u64 {
    type Output = Duration;

    fn mul(self, span: Duration) -> Duration {
        span * self
    }
}

impl Div<u64> for Duration {
    type Output = Duration;

    fn div(self, divisor: u64) -> Duration {
        Duration(self.0 / divisor)
    }
}

/// How many times `other` is in it.
impl Div for Duration {
    type Output = u64;

    fn div(self, other: Duration) -> u64 {
        self.0 / other.0
    }
}

/// Doubled so many times.
impl Shl<u32> for Duration {
    type Output = Duration;

    fn shl(self, doublings: u32) -> Duration {
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        Duration(self.0.saturating_mul(factor))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(span: std::time::Duration) -> Duration {
        Duration(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for std::time::Duration {
    fn from(span: Duration) -> std::time::Duration {
        std::time::Duration::from_micros(span.0)
    }
}

/// A point in time: microseconds since an arbitrary start, the same for everything in one process. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start.
    pub const ZERO: Instant = Instant(0);
    /// Later than everything: the deadline of what has none.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The time `us` microseconds after the start.
    pub const fn from_micros(us: u64) -> Instant {
        Instant(us)
    }

    /// The time `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Instant {
        Instant(ms.saturating_mul(1_000))
    }

    /// Microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The span from `earlier` to here; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }

    /// This time and a span; stays at `NEVER`.
    pub const fn after(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(span.0))
    }

    /// This time without a span, and the start at the earliest.
    pub const fn before(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(span.0))
    }
}

/// The present in both clocks.
#[derive(Clone, Copy)]
pub struct Now {
    /// Ours.
    pub time: Instant,
    /// KCP's clock, ms; it wraps.
    pub clock: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_its_range_stays_at_the_bound() {
        assert_eq!(Duration::MAX + SEC, Duration::MAX);
        assert_eq!(Duration::from_secs(u64::MAX), Duration::MAX);
        assert_eq!(Duration::MAX * 2, Duration::MAX);
        assert_eq!(MS - SEC, Duration::ZERO);
        assert_eq!(MS << 3, 8 * MS);
        assert_eq!((MS << 63, MS << 64), (Duration::MAX, Duration::MAX));
        assert_eq!(Duration::ZERO << 64, Duration::ZERO);
        assert_eq!(Instant::NEVER.after(SEC), Instant::NEVER);
        assert_eq!(Instant::from_millis(u64::MAX), Instant::NEVER);
        assert_eq!(Instant::ZERO.since(Instant::NEVER), Duration::ZERO);
        assert_eq!(Duration::from_secs_f64(-1.0), Duration::ZERO);
    }
}
