//! The other end's clock, as its packets show it: whether a timestamp can be of the same clock, and of now. Who a packet is
//! of is decided in `tunnel::migration`.

use crate::segment::ahead;
use crate::time::{Instant, MS};

/// How far a clock may be off, milliseconds: what a packet may take on its way, and what the other end's clock is corrected by.
pub(crate) const CLOCK_SLACK: i32 = 10_000;
/// How long a session's beginning may have been held back, milliseconds: who has heard nothing for longer gives up.
const HELD_BACK: i32 = 600_000;

/// The clock of a path's other end, milliseconds.
#[derive(Default)]
pub(crate) struct RemoteClock {
    /// The newest timestamp that it has sent, and when that came.
    newest: Option<(u32, Instant)>,
    /// How far it was ahead of ours at most: what it has sent may have been held back on the way here.
    lead: u32,
}

impl RemoteClock {
    /// Whether a timestamp could be from the same clock: between what was heard last and now, a suspended clock being late.
    pub(crate) fn in_step(&self, ts: u32, now: Instant) -> bool {
        self.is_within(ts, now, CLOCK_SLACK)
    }

    /// The same where all that was heard may have been held back: how far the clock is ahead is not known then.
    pub(crate) fn may_follow(&self, ts: u32, now: Instant) -> bool {
        self.is_within(ts, now, HELD_BACK)
    }

    fn is_within(&self, ts: u32, now: Instant, most: i32) -> bool {
        let Some((last, _)) = self.newest else {
            return true;
        };
        let lead = ahead(lead(ts, now), self.lead);
        ahead(ts, last) >= -CLOCK_SLACK && lead <= most
    }

    /// Whether a newer timestamp was seen.
    pub(crate) fn is_late(&self, ts: u32) -> bool {
        self.newest.is_some_and(|(last, _)| ahead(ts, last) < 0)
    }

    pub(crate) fn note(&mut self, ts: u32, now: Instant) {
        // a copy that was held back is late: it must not turn the clock back
        if self.is_late(ts) {
            return;
        }
        let lead = lead(ts, now);
        if self.newest.is_none() || ahead(lead, self.lead) > 0 {
            self.lead = lead;
        }
        self.newest = Some((ts, now));
    }

    /// The other end may be another process than the one before.
    pub(crate) fn forget(&mut self) {
        self.newest = None;
    }

    /// What it shows now, if it was seen.
    pub(crate) fn shows(&self, now: Instant) -> Option<u32> {
        let (ts, at) = self.newest?;
        Some(ts.wrapping_add((now.since(at) / MS) as u32))
    }
}

/// How far a clock that shows `ts` is ahead of ours, milliseconds; both wrap.
fn lead(ts: u32, now: Instant) -> u32 {
    ts.wrapping_sub(now.millis() as u32)
}
