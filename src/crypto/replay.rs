//! The replay filter: which nonces were seen before, so that a copied datagram is dropped. Whether a datagram is authentic is
//! not checked here: `seal` records a nonce only once it is.
//!
//! The nonces are kept in segments, oldest first. A segment takes a fixed number of them; when the
//! newest is full, the oldest leave as long as the rest still hold a million. The first segments
//! are small, each twice the one before, so that memory follows use and nothing is ever rehashed.
//!
//! Within a segment, counted nonces go to a table of blocks: 64 neighbours share one bitmap, under
//! their whole upper 90 bits, so this part is exact. Random nonces have no neighbours, and counted
//! ones may have few if someone on the path drops most packets; those are kept as 32-bit prints.
//!
//! False positives: a print is compared with those in its run of a table that is at most half full,
//! 2.5 on average for a newcomer (Knuth, TAOCP vol. 3, 6.4, linear probing). With 5 full segments
//! a new nonce is taken for an old one with a probability of 5 * 2.5 / 2^32 = 3e-9; with the 14
//! segments of the growing phase, 8e-9. Every process has its own key for the hash, so that nobody
//! can choose nonces that collide, or fill one run.
//!
//! Memory: at most 5 segments' worth at full size. Blocks: 5 * 192 KiB, which is all that counted
//! nonces take while less than a third of the packets is lost. Prints: 5 * 2 MiB.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

/// The number of nonces, the latest ones, of which every repetition is noticed.
const REMEMBERED: usize = 1 << 20;
/// The nonces that the first segment takes.
const SEGMENT_MIN: usize = 1 << 8;
/// The nonces that a full-sized segment takes.
const SEGMENT_MAX: usize = REMEMBERED / 4;
/// 2^64 divided by the golden ratio: multiplying by it spreads neighbours (Knuth, TAOCP vol. 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The nonces that were seen.
pub(super) struct ReplayFilter {
    counted: bool,
    hasher: RandomState,
    segments: VecDeque<Segment>,
}

/// Where a nonce belongs in any segment.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    block: Block,
    /// Keyed hash of the block.
    hash: u64,
    /// Keyed hash of the nonce. Nonces of one block never have the same lower half.
    print: u64,
}

/// A row of the table of blocks; empty if it has no bits.
#[derive(Clone, Copy, Default)]
struct Block {
    low: u64,
    high: u32,
    bits: u64,
}

struct Segment {
    capacity: usize,
    len: usize,
    /// Open addressing; the number of rows is a power of two, or 0 for random nonces.
    blocks: Vec<Block>,
    blocks_used: usize,
    /// Open addressing, 0 is free; empty until the first print comes.
    prints: Vec<u32>,
}

impl ReplayFilter {
    /// A filter for nonces of 12 bytes that their senders count up from anywhere.
    pub(super) fn counted() -> ReplayFilter {
        ReplayFilter::new(true)
    }

    /// A filter for nonces without order.
    pub(super) fn random() -> ReplayFilter {
        ReplayFilter::new(false)
    }

    fn new(counted: bool) -> ReplayFilter {
        ReplayFilter {
            counted,
            hasher: RandomState::new(),
            segments: VecDeque::new(),
        }
    }

    /// The place of a nonce, for the two calls below.
    pub(super) fn spot(&self, nonce: &[u8]) -> Spot {
        if !self.counted {
            let hash = self.hasher.hash_one(nonce);
            let block = Block::default();
            let print = hash;
            return Spot { block, hash, print };
        }
        let count = count_of(nonce);
        let place = (count % 64) as u64;
        let block = Block {
            low: (count >> 6) as u64,
            high: (count >> 70) as u32,
            bits: 1 << place,
        };
        let hash = self.hasher.hash_one((block.low, block.high));
        let print = hash.wrapping_add(place).wrapping_mul(GOLDEN);
        Spot { block, hash, print }
    }

    /// Whether the nonce was recorded, for any of the last million recorded.
    pub(super) fn seen(&self, spot: &Spot) -> bool {
        self.segments.iter().rev().any(|s| s.contains(spot))
    }

    /// Records a nonce that was not seen yet.
    pub(super) fn record(&mut self, spot: &Spot) {
        if self.segments.back().is_none_or(Segment::is_full) {
            self.start_segment();
        }
        if let Some(newest) = self.segments.back_mut() {
            newest.insert(spot);
        }
    }

    /// Appends an empty segment, after dropping what need not be remembered any longer. Once all
    /// are of full size, the one that leaves is the one that comes.
    fn start_segment(&mut self) {
        let capacity = match self.segments.back() {
            Some(last) => (last.capacity * 2).min(SEGMENT_MAX),
            None => SEGMENT_MIN,
        };
        let mut held: usize = self.segments.iter().map(|s| s.len).sum();
        let mut spare = None;
        while let Some(oldest) = self.segments.front() {
            if held - oldest.len < REMEMBERED {
                break;
            }
            held -= oldest.len;
            spare = self.segments.pop_front();
        }
        let segment = match spare {
            Some(old) if old.capacity == capacity => old.cleared(),
            _ => Segment::new(capacity, self.counted),
        };
        self.segments.push_back(segment);
    }

    /// Bytes allocated for nonces.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let queue = self.segments.capacity() * size_of::<Segment>();
        queue + self.segments.iter().map(Segment::memory).sum::<usize>()
    }
}

impl Block {
    fn is_same(&self, other: &Block) -> bool {
        self.low == other.low && self.high == other.high
    }
}

impl Segment {
    /// With room for twice the blocks that `capacity` counted nonces fill if none is missing, and
    /// never less than what a few senders need.
    fn new(capacity: usize, counted: bool) -> Segment {
        let rows = if counted { (capacity / 32).max(64) } else { 0 };
        Segment {
            capacity,
            len: 0,
            blocks: vec![Block::default(); rows],
            blocks_used: 0,
            prints: Vec::new(),
        }
    }

    /// Itself without its nonces. Only tables that every segment has are kept.
    fn cleared(mut self) -> Segment {
        self.len = 0;
        self.blocks_used = 0;
        if self.blocks.is_empty() {
            self.prints.fill(0);
        } else {
            self.blocks.fill(Block::default());
            self.prints = Vec::new();
        }
        self
    }

    fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    fn contains(&self, spot: &Spot) -> bool {
        self.has_bit(spot) || self.has_print(spot.print)
    }

    fn has_bit(&self, spot: &Spot) -> bool {
        !self.blocks.is_empty() && self.blocks[self.row(spot)].bits & spot.block.bits != 0
    }

    fn has_print(&self, print: u64) -> bool {
        !self.prints.is_empty() && self.prints[self.place(print)] != 0
    }

    /// A block is taken up while the table is at most three quarters full, and from then on its
    /// nonces go nowhere else; those of all other blocks become prints.
    fn insert(&mut self, spot: &Spot) {
        if !self.insert_bit(spot) {
            self.insert_print(spot.print);
        }
        self.len += 1;
    }

    fn insert_bit(&mut self, spot: &Spot) -> bool {
        if self.blocks.is_empty() {
            return false;
        }
        let row = self.row(spot);
        if self.blocks[row].bits != 0 {
            self.blocks[row].bits |= spot.block.bits;
            return true;
        }
        if self.blocks_used >= self.blocks.len() / 4 * 3 {
            return false;
        }
        self.blocks[row] = spot.block;
        self.blocks_used += 1;
        true
    }

    fn insert_print(&mut self, print: u64) {
        if self.prints.is_empty() {
            let to_come = self.capacity - self.len;
            self.prints = vec![0; (2 * to_come).next_power_of_two()];
        }
        let place = self.place(print);
        self.prints[place] = mark_of(print);
    }

    /// The row of the block, or the free one where it would go. Needs a table with a free row.
    fn row(&self, spot: &Spot) -> usize {
        let mask = self.blocks.len() - 1;
        let mut row = spot.hash as usize & mask;
        while self.blocks[row].bits != 0 && !self.blocks[row].is_same(&spot.block) {
            row = (row + 1) & mask;
        }
        row
    }

    /// The place of the print, or the free one where it would go. Needs a table with a free place.
    fn place(&self, print: u64) -> usize {
        let mask = self.prints.len() - 1;
        let mark = mark_of(print);
        let mut place = (print >> 32) as usize & mask;
        while self.prints[place] != 0 && self.prints[place] != mark {
            place = (place + 1) & mask;
        }
        place
    }

    #[cfg(test)]
    fn memory(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.prints.capacity() * size_of::<u32>()
    }
}

/// What is stored of a print: the half that does not say where. 0 is taken: it means free.
fn mark_of(print: u64) -> u32 {
    (print as u32).max(1)
}

/// The number that a counted nonce is, little-endian; bytes beyond 16 are not looked at.
pub(super) fn count_of(nonce: &[u8]) -> u128 {
    let mut wide = [0; 16];
    for (to, from) in wide.iter_mut().zip(nonce) {
        *to = *from;
    }
    u128::from_le_bytes(wide)
}

#[cfg(test)]
mod tests;
