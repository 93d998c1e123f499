//! A flood of datagrams that do not open: to find that out costs about as much as to open them. What comes from addresses
//! that are not known gets a bounded share of the processor for that; the rest of it is dropped unseen, a newcomer's with
//! it, who asks again. Known addresses do without.

use crate::time::{Duration, Instant};

/// How long a share lasts.
const SPAN: Duration = Duration::from_millis(10);
/// Bytes of datagrams that may fail to open in a span, each counted with `EACH` more for what it costs however short it is.
/// Open at 1 to 2 GB/s, they are a tenth of a processor.
const BYTES: usize = 1_000_000;
const EACH: usize = 200;

#[derive(Default)]
pub(super) struct Flood {
    began: Instant,
    failed: usize,
}

impl Flood {
    /// A datagram of so many bytes from an unknown address has not opened.
    pub(super) fn note(&mut self, bytes: usize, now: Instant) {
        if now.since(self.began) >= SPAN {
            (self.began, self.failed) = (now, 0);
        }
        self.failed += bytes + EACH;
    }

    /// Whether the share of this span is used up.
    pub(super) fn is_high(&self, now: Instant) -> bool {
        self.failed >= BYTES && now.since(self.began) < SPAN
    }
}
