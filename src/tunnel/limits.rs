//! What strangers may cost: how much of the processor what does not open takes, and how many answers a second they get.

use super::flood::Flood;
use crate::throttle::PerSecond;
use crate::time::Instant;

/// Packets of sessions that are not known are answered so many times a second at most.
const RESETS_A_SECOND: u32 = 500;
/// Challenges to addresses that are not validated, a second.
const CHALLENGES_A_SECOND: u32 = 500;

#[derive(Default)]
pub(super) struct Limits {
    flood: Flood,
    resets: PerSecond,
    challenges: PerSecond,
}

impl Limits {
    /// A datagram of so many bytes from an unknown address has not opened.
    pub(super) fn note_flood(&mut self, bytes: usize, now: Instant) {
        self.flood.note(bytes, now);
    }

    /// Whether what comes from unknown addresses is dropped unseen for now.
    pub(super) fn is_flooded(&self, now: Instant) -> bool {
        self.flood.is_high(now)
    }

    /// Whether somebody may be told now that a session is not known; then it counts.
    pub(super) fn admits_reset(&mut self, now: Instant) -> bool {
        self.resets.admit(RESETS_A_SECOND, now)
    }

    /// Whether an address may be challenged now; then it counts.
    pub(super) fn admits_challenge(&mut self, now: Instant) -> bool {
        self.challenges.admit(CHALLENGES_A_SECOND, now)
    }
}
