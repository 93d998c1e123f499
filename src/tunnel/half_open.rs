//! What is known of a session that another end has begun and that has not dialled yet: whether its beginning may still
//! come. How many such there may be is said in `sources`, and what becomes of one that has waited in vain in `tunnel`.

use crate::segment::{Segments, ahead};
use crate::session::DIAL_WITHIN;
use crate::time::{Duration, Instant};

/// A session that another end goes on with, and that is not known here, has not begun here: its first segment never comes.
/// So many packets that come without it, this long after the first and so many round trips, say so.
const BEGINS_WITHIN: Duration = Duration::from_millis(700);
const BEGIN_ROUND_TRIPS: u64 = 10;
const BEGIN_PACKETS: usize = 4;
/// A round trip that nobody has measured, for this.
const UNKNOWN_RTT: Duration = Duration::from_millis(300);

/// How long the first segment of a session may take to come after others of it have. `rtt`: of its path.
pub(super) fn begins_within(rtt: Option<Duration>) -> Duration {
    BEGINS_WITHIN.max(BEGIN_ROUND_TRIPS * rtt.unwrap_or(UNKNOWN_RTT))
}

/// The beginning of a session, as far as it has come.
pub(super) struct HalfOpen {
    /// Packets that went on with a beginning that has not come, since when, and the highest number of these.
    early: usize,
    early_since: Instant,
    furthest: u32,
    /// Bytes of those that were kept.
    bytes: usize,
    /// Its first segment has come.
    first_came: bool,
    /// Since when it waits for its dial while the path is not silent.
    waits_since: Instant,
}

impl HalfOpen {
    pub(super) fn new(now: Instant) -> HalfOpen {
        HalfOpen {
            early: 0,
            early_since: now,
            furthest: 0,
            bytes: 0,
            first_came: false,
            waits_since: now,
        }
    }

    /// Whether a packet brings the first segment, for the first time.
    pub(super) fn is_begun_by(&self, packet: &Segments) -> bool {
        !self.first_came && has_first(packet)
    }

    /// Notes a packet that came `silence` after the one before it; the beginning may take `patience`. True if it
    /// should have come by now.
    pub(super) fn note(
        &mut self,
        packet: &Segments,
        silence: Duration,
        patience: Duration,
        now: Instant,
    ) -> bool {
        if silence >= patience {
            // the path was silent, and its other end begins again with the first
            (self.early, self.early_since) = (0, now);
        }
        // what is repeated may be a copy that somebody held back
        let tells = self.goes_on(packet) && now.since(self.early_since) >= patience;
        self.early += usize::from(tells);
        self.early >= BEGIN_PACKETS
    }

    /// Whether a packet brings data beyond all that came before.
    fn goes_on(&mut self, packet: &Segments) -> bool {
        let last = packet.pushes().next_back();
        let news = last.is_some_and(|h| ahead(h.sn, self.furthest) > 0);
        if let Some(header) = last.filter(|_| news) {
            self.furthest = header.sn;
        }
        news
    }

    /// A packet is kept. `begins`: it brings the first segment.
    pub(super) fn keep(&mut self, bytes: usize, begins: bool) {
        self.bytes += bytes;
        self.first_came |= begins;
    }

    /// The bytes that were kept, which are no more.
    pub(super) fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// Whether the dial has not come in the time that there was for it. A path that is `silent` stops the clock; it was heard
    /// again last at `alive_since`.
    pub(super) fn lacks_dial(&mut self, silent: bool, alive_since: Instant, now: Instant) -> bool {
        if silent {
            (self.early_since, self.waits_since) = (now, now);
        }
        self.waits_since = self.waits_since.max(alive_since);
        now.since(self.waits_since) >= DIAL_WITHIN
    }
}

/// Whether a packet holds the first segment of a session.
fn has_first(packet: &Segments) -> bool {
    packet.pushes().any(|h| h.sn == 0)
}
