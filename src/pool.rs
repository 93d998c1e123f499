//! Buffers that were given back, kept for whoever needs the next one. They come in two sizes: that of a `Ring`, and that of a
//! packet. What stands in them is nobody's business here.

/// Bytes of a ring's full buffer.
pub const RING_BUFFER: usize = 64 * 1024;
/// Bytes of a packet's buffer: the longest packet of the protocol.
const PACKET_BUFFER: usize = 1500;
/// Only what holds a full packet is kept, bytes: smaller ones are as quickly had from the allocator.
const PACKET_WORTH_KEEPING: usize = 1024;
/// Buffers of either size that are kept at rest. More would be memory that nobody uses.
const RING_BUFFERS_KEPT: usize = 16;
const PACKET_BUFFERS_KEPT: usize = 256;

/// The buffers of a whole tunnel that nobody uses at present.
#[derive(Default)]
pub struct BufferPool {
    rings: Vec<Box<[u8]>>,
    packets: Vec<Vec<u8>>,
}

impl BufferPool {
    /// A buffer of `RING_BUFFER` bytes with anything in them.
    pub fn take_ring(&mut self) -> Box<[u8]> {
        let kept = self.rings.pop();
        kept.unwrap_or_else(|| vec![0; RING_BUFFER].into_boxed_slice())
    }

    /// Takes a ring's buffer back. Those of other lengths are freed.
    pub fn give_ring(&mut self, buffer: Box<[u8]>) {
        if buffer.len() == RING_BUFFER && self.rings.len() < RING_BUFFERS_KEPT {
            self.rings.push(buffer);
        }
    }

    /// An empty buffer with room for `len` bytes.
    pub fn take_packet(&mut self, len: usize) -> Vec<u8> {
        if len < PACKET_WORTH_KEEPING {
            return Vec::with_capacity(len);
        }
        let kept = self.packets.pop();
        kept.unwrap_or_else(|| Vec::with_capacity(len.max(PACKET_BUFFER)))
    }

    /// A buffer that holds a copy of `bytes`.
    pub fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.take_packet(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Takes a packet's buffer back.
    pub fn give_packet(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= PACKET_WORTH_KEEPING && self.packets.len() < PACKET_BUFFERS_KEPT {
            buffer.clear();
            self.packets.push(buffer);
        }
    }
}
