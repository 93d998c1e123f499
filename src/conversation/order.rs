//! What the headers of inbound segments tell of either end: which numbers have arrived here, and what the other end says that
//! it has, held against what it has acknowledged.

use crate::path::Path;
use crate::segment::{Header, ahead};

/// A segment that was sent so long before the newest, ms, has come late: what is sent again has a time of its own.
const LATE: i32 = 2;

/// Which numbers have arrived here.
#[derive(Default)]
pub(super) struct Order {
    /// The next number that a new segment should have.
    expected: u32,
    /// When the one before it was sent, by the other end's clock.
    ts: u32,
    /// A number was left out: the other end should hear of it soon.
    gap: bool,
}

impl Order {
    /// A segment has arrived; its path is told what that says of losses. True if it is ahead of all that were seen.
    pub(super) fn note(&mut self, header: &Header, path: &mut Path) -> bool {
        let sn = header.sn;
        let new = ahead(sn, self.expected) >= 0;
        if new {
            path.counts.news += 1;
            self.gap |= sn != self.expected;
            path.on_inbound(sn, self.expected);
            (self.expected, self.ts) = (sn.wrapping_add(1), header.ts);
        } else if ahead(self.ts, header.ts) >= LATE {
            path.counts.overtaken += 1;
        }
        new
    }

    /// One more than the highest number that was seen.
    pub(super) fn expected(&self) -> u32 {
        self.expected
    }

    /// True once: a number was left out.
    pub(super) fn take_gap(&mut self) -> bool {
        std::mem::take(&mut self.gap)
    }
}

/// What the other end says that it has. Who acknowledges the last segment that was missing has all before it, and says so in
/// the same packet; if not, those were acknowledged by another process, which is gone with them.
#[derive(Default)]
pub(super) struct PeerWindow {
    /// The furthest that everything was said to have arrived before, and the narrowest window that was told with it.
    una: u32,
    wnd: Option<u16>,
}

impl PeerWindow {
    /// Takes note of a header, the last of its packet or each. `next`: one more than the highest number that was sent.
    pub(super) fn note(&mut self, header: &Header, next: u32) {
        // who claims to have more than was sent has that, as `flight` takes it
        let una = if ahead(header.una, next) > 0 {
            next
        } else {
            header.una
        };
        let news = ahead(una, self.una);
        if news < 0 {
            return;
        }
        let before = self.wnd.filter(|_| news == 0).unwrap_or(u16::MAX);
        (self.una, self.wnd) = (una, Some(header.wnd.min(before)));
    }

    /// All before this number have arrived there.
    pub(super) fn una(&self) -> u32 {
        self.una
    }

    /// Whether it lacks what was acknowledged: all before `first`. With a closed window it may keep back that it has it.
    pub(super) fn lacks(&self, first: u32) -> bool {
        self.wnd.is_some_and(|wnd| wnd > 0) && ahead(first, self.una) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: &[(u32, u16)]) -> PeerWindow {
        let mut heard = PeerWindow::default();
        for (una, wnd) in all.iter().copied() {
            let header = Header {
                una,
                wnd,
                ..Header::default()
            };
            heard.note(&header, 10);
        }
        heard
    }

    #[test]
    fn who_says_to_have_less_than_was_acknowledged_lacks_it() {
        assert!(!told(&[]).lacks(0) && !told(&[]).lacks(9));
        assert!(!told(&[(5, 100)]).lacks(5) && told(&[(5, 100)]).lacks(6));
        // late packets, and numbers that were never sent
        assert!(!told(&[(5, 100), (3, 100)]).lacks(5));
        assert!(!told(&[(5, 100), (11, 100)]).lacks(10));
    }

    #[test]
    fn a_closed_window_says_nothing() {
        assert!(!told(&[(5, 0)]).lacks(6));
        assert!(!told(&[(3, 2), (5, 0)]).lacks(6));
        // it may have been narrowed since
        assert!(!told(&[(5, 7), (5, 0)]).lacks(6));
        assert!(told(&[(5, 0), (6, 7)]).lacks(7));
    }
}
