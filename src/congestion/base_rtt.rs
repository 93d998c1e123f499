//! The path's round trip while its queue is empty: the least of the last five to ten seconds, or longer where ten round trips
//! are. Where it was not seen again for some of them, it is probed for: less is in flight for a round, so that a queue of ours is not taken for the path when the old
//! minimum is forgotten (the ProbeRTT of BBR, but shallow: the minimum is known, and only our queue has to go).

use crate::time::{MS, SEC, Time};

/// How long a minimum is remembered, microseconds (BBR draft: 10 s).
const SPAN: u64 = 10 * SEC;
/// Assumed before the first sample, microseconds.
pub const ASSUMED: u64 = 100 * MS;
/// It is probed for when it was not seen for so long, microseconds, and so many round trips.
const UNSEEN: u64 = 4 * SEC;
const UNSEEN_ROUNDS: u64 = 10;
/// What is in flight meanwhile, as a share of what the path holds.
const PROBE: f64 = 0.93;
/// Rounds in which a probe can still be felt.
const FELT: u32 = 2;

#[derive(Debug)]
pub struct BaseRtt {
    least: Option<u64>,
    /// The least of the present half of `SPAN` and of the one before it.
    now: u64,
    before: u64,
    half_began: Time,
    seen_at: Time,
    probes: bool,
    felt: u32,
}

impl BaseRtt {
    pub fn new(now: Time) -> BaseRtt {
        BaseRtt {
            least: None,
            now: u64::MAX,
            before: u64::MAX,
            half_began: now,
            seen_at: now,
            probes: false,
            felt: 0,
        }
    }

    /// The measured minimum, microseconds.
    pub fn measured(&self) -> Option<u64> {
        self.least
    }

    /// The same, or what is assumed.
    pub fn get(&self) -> u64 {
        self.least.unwrap_or(ASSUMED).max(MS / 2)
    }

    /// A round trip was measured, microseconds.
    pub fn record(&mut self, rtt: u64, now: Time) {
        let half = (SPAN / 2).max((UNSEEN_ROUNDS + FELT as u64) * self.get());
        if now.since(self.half_began) > half {
            (self.half_began, self.before, self.now) = (now, self.now, rtt);
        }
        self.now = self.now.min(rtt);
        self.least = Some(self.now.min(self.before));
        if rtt <= self.get() + MS / 2 {
            self.seen_at = now;
        }
    }

    /// A round is over. `may`: a probe would tell something.
    pub fn end_round(&mut self, may: bool, now: Time) {
        self.felt = if self.probes {
            FELT
        } else {
            self.felt.saturating_sub(1)
        };
        let unseen = now.since(self.seen_at) > UNSEEN.max(UNSEEN_ROUNDS * self.get());
        self.probes = may && !self.probes && unseen;
        if self.probes {
            self.seen_at = now;
        }
    }

    /// While it is probed for: what may be in flight, as a share of what the path holds.
    pub fn probe(&self) -> Option<f64> {
        self.probes.then_some(PROBE)
    }

    /// Whether what is measured now may be a probe's doing.
    pub fn is_disturbed(&self) -> bool {
        self.probes || self.felt > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_probed_for_before_it_is_forgotten() {
        let mut base = BaseRtt::new(Time::ZERO);
        base.record(50 * MS, Time::ZERO);
        let mut probes = 0;
        for ms in (100..9_000).step_by(100) {
            let now = Time::from_millis(ms);
            // a queue of ours stands but while it is probed for
            let rtt = if base.probe().is_some() { 50 } else { 70 };
            base.record(rtt * MS, now);
            base.end_round(true, now);
            probes += u32::from(base.probe().is_some());
            assert_eq!(base.get(), 50 * MS);
        }
        assert_eq!(probes, 2);
    }

    #[test]
    fn a_long_path_is_probed_for_in_time() {
        let mut base = BaseRtt::new(Time::ZERO);
        base.record(800 * MS, Time::ZERO);
        for n in 1..60 {
            let now = Time::from_millis(n * 800);
            let rtt = if base.probe().is_some() { 800 } else { 900 };
            base.record(rtt * MS, now);
            base.end_round(true, now);
            assert_eq!(base.get(), 800 * MS, "after {n} rounds");
        }
    }

    #[test]
    fn a_longer_path_is_believed_after_ten_seconds() {
        let mut base = BaseRtt::new(Time::ZERO);
        base.record(50 * MS, Time::ZERO);
        for ms in (100..11_000).step_by(100) {
            base.record(80 * MS, Time::from_millis(ms));
        }
        assert_eq!(base.measured(), Some(80 * MS));
    }
}
