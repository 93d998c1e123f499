//! The path's round trip while its queue is empty: the least of the last five to ten seconds, or of ten round trips if those
//! are longer. If the minimum is not seen again for a while, it is probed for: less is in flight for a round, so that our own
//! queue is not taken for the path when the old minimum is forgotten. This is the ProbeRTT of BBR, but shallow: the minimum
//! is known, and only our queue has to drain.

use crate::time::{Duration, Instant, MS};

/// How long a minimum is remembered (BBR draft: 10 s).
const MINIMUM_LIFETIME: Duration = Duration::from_secs(10);
/// The round trip that is assumed before the first sample.
pub(super) const ASSUMED: Duration = Duration::from_millis(100);
/// A minimum that was not seen again for this long is probed for.
const PROBE_AFTER: Duration = Duration::from_secs(4);
/// It is probed for only if it was not seen again for this many round trips, too.
const PROBE_AFTER_ROUNDS: u64 = 10;
/// What is in flight during a probe, as a share of what the path holds.
const PROBE_SHARE: f64 = 0.93;
/// Rounds after a probe in which its effect can still be seen.
const PROBE_FELT_ROUNDS: u32 = 2;

/// The estimate, and whether it is probed for.
#[derive(Debug)]
pub(super) struct BaseRtt {
    least: Option<Duration>,
    /// The least of the present half of `MINIMUM_LIFETIME` and of the one before it.
    now: Duration,
    before: Duration,
    half_began: Instant,
    seen_at: Instant,
    probes: bool,
    felt: u32,
}

impl BaseRtt {
    /// Nothing is measured yet.
    pub(super) fn new(now: Instant) -> BaseRtt {
        BaseRtt {
            least: None,
            now: Duration::MAX,
            before: Duration::MAX,
            half_began: now,
            seen_at: now,
            probes: false,
            felt: 0,
        }
    }

    /// The measured minimum.
    pub(super) fn measured(&self) -> Option<Duration> {
        self.least
    }

    /// The measured minimum or, before there is one, the assumed one.
    pub(super) fn get(&self) -> Duration {
        self.least.unwrap_or(ASSUMED).max(MS / 2)
    }

    /// A round trip was measured.
    pub(super) fn record(&mut self, rtt: Duration, now: Instant) {
        let half = (MINIMUM_LIFETIME / 2)
            .max((PROBE_AFTER_ROUNDS + PROBE_FELT_ROUNDS as u64) * self.get());
        if now.since(self.half_began) > half {
            (self.half_began, self.before, self.now) = (now, self.now, rtt);
        }
        self.now = self.now.min(rtt);
        self.least = Some(self.now.min(self.before));
        if rtt <= self.get() + MS / 2 {
            self.seen_at = now;
        }
    }

    /// A round is over. `may`: a probe would be of use.
    pub(super) fn end_round(&mut self, may: bool, now: Instant) {
        self.felt = if self.probes {
            PROBE_FELT_ROUNDS
        } else {
            self.felt.saturating_sub(1)
        };
        let unseen = now.since(self.seen_at) > PROBE_AFTER.max(PROBE_AFTER_ROUNDS * self.get());
        self.probes = may && !self.probes && unseen;
        if self.probes {
            self.seen_at = now;
        }
    }

    /// What may be in flight during a probe, as a share of what the path holds. None: there is no probe.
    pub(super) fn probe(&self) -> Option<f64> {
        self.probes.then_some(PROBE_SHARE)
    }

    /// Whether a probe may have affected what is measured now.
    pub(super) fn is_disturbed(&self) -> bool {
        self.probes || self.felt > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_probed_for_before_it_is_forgotten() {
        let mut base = BaseRtt::new(Instant::ZERO);
        base.record(50 * MS, Instant::ZERO);
        let mut probes = 0;
        for ms in (100..9_000).step_by(100) {
            let now = Instant::from_millis(ms);
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
        let mut base = BaseRtt::new(Instant::ZERO);
        base.record(800 * MS, Instant::ZERO);
        for n in 1..60 {
            let now = Instant::from_millis(n * 800);
            let rtt = if base.probe().is_some() { 800 } else { 900 };
            base.record(rtt * MS, now);
            base.end_round(true, now);
            assert_eq!(base.get(), 800 * MS, "after {n} rounds");
        }
    }

    #[test]
    fn a_longer_path_is_believed_after_ten_seconds() {
        let mut base = BaseRtt::new(Instant::ZERO);
        base.record(50 * MS, Instant::ZERO);
        for ms in (100..11_000).step_by(100) {
            base.record(80 * MS, Instant::from_millis(ms));
        }
        assert_eq!(base.measured(), Some(80 * MS));
    }
}
