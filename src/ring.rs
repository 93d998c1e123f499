//! A byte queue of fixed capacity between a TCP socket and a session. It holds memory only while it holds bytes, and little
//! while these are few: thousands of sessions say a word at the same time, when they end.

use crate::pool::{BufferPool, RING_BUFFER};

/// The most bytes that wait between TCP and KCP in one direction of a session.
pub const CAPACITY: usize = RING_BUFFER;

/// Room for a session's own messages, and for a program's last words.
const SMALL: usize = 256;

/// First in, first out; readers and writers get slices, so that a socket reads and writes in place.
#[derive(Default)]
pub struct Ring {
    /// Empty, or `SMALL` or `CAPACITY` bytes.
    buf: Box<[u8]>,
    head: usize,
    len: usize,
}

impl Ring {
    /// Bytes that are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that there is room for.
    pub fn free(&self) -> usize {
        CAPACITY - self.len
    }

    /// The longest slice at the front.
    pub fn front(&self) -> &[u8] {
        let end = (self.head + self.len).min(self.buf.len());
        &self.buf[self.head..end]
    }

    /// Drops `n` bytes off the front; the buffer goes back to the pool when nothing is left.
    pub fn consume(&mut self, n: usize, pool: &mut BufferPool) {
        let n = n.min(self.len);
        self.len -= n;
        self.head = (self.head + n) % self.buf.len().max(1);
        if self.len == 0 {
            self.head = 0;
            pool.give_ring(std::mem::take(&mut self.buf));
        }
    }

    /// Appends as many of `bytes` as there is room for; tells how many.
    pub fn push(&mut self, bytes: &[u8], pool: &mut BufferPool) -> usize {
        let n = bytes.len().min(self.free());
        if n == 0 {
            return 0;
        }
        self.allocate(self.len + n, pool);
        let tail = (self.head + self.len) % self.buf.len();
        let first = n.min(self.buf.len() - tail);
        self.buf[tail..tail + first].copy_from_slice(&bytes[..first]);
        self.buf[..n - first].copy_from_slice(&bytes[first..n]);
        self.len += n;
        n
    }

    /// Room for at most `most` bytes in one slice, `skip` bytes behind the last one. Empty if there is none.
    pub fn room(&mut self, skip: usize, most: usize, pool: &mut BufferPool) -> &mut [u8] {
        if self.free() <= skip {
            return &mut [];
        }
        self.allocate(CAPACITY, pool);
        let at = (self.head + self.len + skip) % CAPACITY;
        let n = (self.free() - skip).min(CAPACITY - at).min(most);
        &mut self.buf[at..at + n]
    }

    /// Makes `prefix` and the `n` bytes that were written into `room(prefix.len(), ..)` part of the queue.
    pub fn commit(&mut self, prefix: &[u8], n: usize, pool: &mut BufferPool) {
        let n = n.min(self.free().saturating_sub(prefix.len()));
        if self.push(prefix, pool) == prefix.len() {
            self.len += n;
        }
    }

    /// Gives the buffer back that `room` made if nothing or little came of it.
    pub fn shrink(&mut self, pool: &mut BufferPool) {
        if self.len > SMALL || self.buf.len() <= SMALL {
            return;
        }
        let small = match self.len {
            0 => Box::default(),
            _ => vec![0; SMALL].into_boxed_slice(),
        };
        pool.give_ring(self.move_to(small));
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.buf.len()
    }

    /// Has room for so many bytes in all.
    fn allocate(&mut self, bytes: usize, pool: &mut BufferPool) {
        if bytes <= self.buf.len() {
            return;
        }
        let buf = match bytes <= SMALL {
            true => vec![0; SMALL].into_boxed_slice(),
            false => pool.take_ring(),
        };
        self.move_to(buf);
    }

    /// Has its bytes in this buffer from now on; returns the one before.
    fn move_to(&mut self, mut buf: Box<[u8]>) -> Box<[u8]> {
        let first = self.len.min(self.buf.len() - self.head);
        buf[..first].copy_from_slice(&self.buf[self.head..][..first]);
        buf[first..self.len].copy_from_slice(&self.buf[..self.len - first]);
        self.head = 0;
        std::mem::replace(&mut self.buf, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_across_the_seam() {
        let (mut ring, mut pool) = (Ring::default(), BufferPool::default());
        let (mut wrote, mut read) = (0u32, 0u32);
        for round in 0..400usize {
            let size = 1 + round * 997 % 30_000;
            let piece: Vec<u8> = (0..size).map(|i| (wrote as usize + i) as u8).collect();
            wrote += ring.push(&piece, &mut pool) as u32;
            let n = ring.front().len().min(1 + round * 601 % 20_000);
            for (i, b) in ring.front()[..n].iter().enumerate() {
                assert_eq!(*b, (read as usize + i) as u8);
            }
            ring.consume(n, &mut pool);
            read += n as u32;
            assert_eq!(ring.len(), (wrote - read) as usize);
        }
        assert!(wrote > CAPACITY as u32 * 10);
    }

    #[test]
    fn a_read_in_place_lands_behind_its_prefix() {
        let (mut ring, mut pool) = (Ring::default(), BufferPool::default());
        for turn in 0..200u8 {
            let room = ring.room(4, 1000, &mut pool);
            let n = room.len().min(777);
            room[..n].fill(turn);
            ring.commit(&[9; 4], n, &mut pool);
            let mut all = Vec::new();
            while !ring.is_empty() {
                let n = ring.front().len();
                all.extend_from_slice(ring.front());
                ring.consume(n, &mut pool);
            }
            assert_eq!(all, [&[9; 4][..], &vec![turn; n]].concat());
            ring.push(&[0; 333], &mut pool);
            ring.consume(333, &mut pool);
        }
    }

    #[test]
    fn a_few_bytes_take_little_memory() {
        let (mut ring, mut pool) = (Ring::default(), BufferPool::default());
        ring.push(&[1; 100], &mut pool);
        assert_eq!(ring.memory(), SMALL);
        ring.consume(90, &mut pool);
        // across the seam, and grown
        ring.push(&[2; 200], &mut pool);
        assert_eq!((ring.memory(), ring.len()), (SMALL, 210));
        ring.room(4, 1000, &mut pool)[..30].fill(3);
        ring.commit(&[9; 4], 30, &mut pool);
        assert_eq!(ring.memory(), CAPACITY);
        ring.shrink(&mut pool);
        assert_eq!((ring.memory(), ring.len()), (SMALL, 244));
        let right = [&[1; 10][..], &[2; 200], &[9; 4], &[3; 30]].concat();
        assert_eq!(ring.front(), right);
        ring.push(&[4; 1000], &mut pool);
        assert_eq!((ring.memory(), ring.front().len()), (CAPACITY, 1244));
        ring.shrink(&mut pool);
        assert_eq!(ring.memory(), CAPACITY, "much stays where it is");
    }

    #[test]
    fn it_is_full_at_its_capacity_and_empty_without_memory() {
        let (mut ring, mut pool) = (Ring::default(), BufferPool::default());
        assert_eq!(ring.push(&vec![1; CAPACITY + 1], &mut pool), CAPACITY);
        assert_eq!(ring.push(&[1], &mut pool), 0);
        assert!(ring.room(0, 10, &mut pool).is_empty());
        ring.consume(CAPACITY, &mut pool);
        assert!(ring.buf.is_empty());
        ring.room(4, 10, &mut pool);
        ring.shrink(&mut pool);
        assert!(ring.buf.is_empty());
    }
}
