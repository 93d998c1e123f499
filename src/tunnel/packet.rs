//! From a packet to a datagram and back: padding and seal.

use crate::crypto::{Rejected, Sealing};
use rand::{RngExt, rngs::SmallRng};

/// The most padding that the protocol has; less than a header of KCP, so that it is never taken for one.
const PADDING_MOST: usize = 15;
/// The longest datagram of the protocol.
pub const DATAGRAM_MAX: usize = 1500;

/// Seals and opens; without a key, passes through.
pub struct Packets {
    sealing: Option<Sealing>,
    rng: SmallRng,
}

impl Packets {
    pub fn new(sealing: Option<Sealing>, rng: SmallRng) -> Packets {
        Packets { sealing, rng }
    }

    /// What sealing adds to a packet, bytes.
    pub fn overhead(&self) -> usize {
        self.sealing.as_ref().map_or(0, Sealing::overhead)
    }

    pub fn sealed(&self) -> bool {
        self.sealing.is_some()
    }

    /// Makes a datagram of the packet in `buf[..len]`, in place; `most` is the size of the path's largest packet.
    /// Returns the datagram's length.
    pub fn close(&mut self, buf: &mut [u8], len: usize, most: usize) -> usize {
        let Some(sealing) = &mut self.sealing else {
            return len;
        };
        let room = most.saturating_sub(len).min(PADDING_MOST);
        // hides the exact size of short messages
        let padding = self.rng.random_range(0..=room);
        buf[len..len + padding].fill(padding as u8);
        sealing.seal(buf, len + padding)
    }

    /// The packet in a datagram.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], Rejected> {
        match &mut self.sealing {
            Some(sealing) => sealing.open(datagram),
            None => Ok(datagram),
        }
    }
}
