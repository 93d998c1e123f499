//! What has arrived out of order: it waits here until KCP can have it, so that KCP is given every segment in its turn.
//! KCP would search and move its own list for each of them, which the other end can make as long as the window is wide;
//! here a segment costs the same wherever it belongs. Acks are not decided here.

use super::queue::Queue;
use crate::pool::BufferPool;
use crate::segment::{DEFAULT_WINDOW, HEADER, Header, ahead};
use std::collections::VecDeque;

pub(super) struct Inbound {
    queue: Queue,
    /// The number that KCP gets next: all before it have arrived.
    next: u32,
    /// By their distance from `next`, what has arrived: a segment as `Queue` takes it, or nothing. No longer than the
    /// window.
    waiting: VecDeque<Vec<u8>>,
    /// Segments that KCP has got and nobody has read.
    unread: u16,
    /// Segments that KCP keeps at most.
    window: u16,
    /// Places made, and segments kept and passed on: what all that has arrived has cost.
    #[cfg(test)]
    work: usize,
}

impl Inbound {
    /// Its window is `DEFAULT_WINDOW`.
    pub(super) fn new(conv: u32) -> Inbound {
        Inbound {
            queue: Queue::new(conv),
            next: 0,
            waiting: VecDeque::new(),
            unread: 0,
            window: DEFAULT_WINDOW,
            #[cfg(test)]
            work: 0,
        }
    }

    /// All before this number have arrived.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Whether a segment has arrived before.
    pub(super) fn has(&self, sn: u32) -> bool {
        let place = ahead(sn, self.next);
        place < 0
            || self
                .waiting
                .get(place as usize)
                .is_some_and(|s| !s.is_empty())
    }

    /// Segments that there is room for beyond `next`: the window that the other end is told.
    pub(super) fn free(&self) -> u16 {
        self.window.saturating_sub(self.unread)
    }

    /// The window is `window` segments wide from now on. It is never made narrower: segments beyond it are acknowledged.
    pub(super) fn widen(&mut self, window: u16) {
        self.window = self.window.max(window);
        self.queue.set_window(self.window);
    }

    /// A segment that pushes data has arrived; `segment` is all of it, and is changed. Tells whether it is to be
    /// acknowledged: all are but those beyond the window.
    pub(super) fn take(
        &mut self,
        header: &Header,
        segment: &mut [u8],
        pool: &mut BufferPool,
    ) -> bool {
        let place = ahead(header.sn, self.next);
        if place >= i32::from(self.window) {
            return false;
        }
        if place >= 0 {
            segment[..HEADER].copy_from_slice(&header.to_kcp());
        }
        if place == 0 && self.unread < self.window {
            self.queue.push(segment);
            if let Some(twin) = self.waiting.pop_front() {
                pool.give_packet(twin);
            }
            self.step();
            self.pass_on(pool);
        } else if place >= 0 {
            self.keep(place as usize, segment, pool);
        }
        true
    }

    /// Bytes of the next piece of the stream, if there is one.
    pub(super) fn peek(&self) -> Option<usize> {
        self.queue.peek()
    }

    /// Takes the next piece of the stream; `on_read` has to follow.
    pub(super) fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        self.queue.pop(into)
    }

    /// A piece was taken: there is room for another.
    pub(super) fn on_read(&mut self, pool: &mut BufferPool) {
        self.unread = self.unread.saturating_sub(1);
        self.pass_on(pool);
    }

    fn keep(&mut self, place: usize, segment: &[u8], pool: &mut BufferPool) {
        #[cfg(test)]
        {
            self.work += 1 + (place + 1).saturating_sub(self.waiting.len());
        }
        if self.waiting.len() <= place {
            self.waiting.resize_with(place + 1, Vec::new);
        }
        let slot = &mut self.waiting[place];
        if slot.is_empty() {
            *slot = pool.copy_of(segment);
        }
    }

    /// Gives KCP what has its turn.
    fn pass_on(&mut self, pool: &mut BufferPool) {
        while self.unread < self.window && self.waiting.front().is_some_and(|s| s.len() >= HEADER) {
            let Some(segment) = self.waiting.pop_front() else {
                break;
            };
            self.queue.push(&segment);
            pool.give_packet(segment);
            self.step();
        }
        if self.waiting.is_empty() {
            // at rest nothing is held
            self.waiting = VecDeque::new();
        }
    }

    fn step(&mut self) {
        #[cfg(test)]
        {
            self.work += 1;
        }
        self.next = self.next.wrapping_add(1);
        self.unread += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::cmd;
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

    const CONV: u32 = 7;

    struct End {
        inbound: Inbound,
        pool: BufferPool,
    }

    impl End {
        fn new(window: u16) -> End {
            let mut inbound = Inbound::new(CONV);
            inbound.widen(window);
            End {
                inbound,
                pool: BufferPool::default(),
            }
        }

        /// A segment whose data is its number arrives.
        fn take(&mut self, sn: u32) -> bool {
            let header = Header {
                conv: CONV,
                cmd: cmd::PUSH,
                sn,
                len: 4,
                ..Header::default()
            };
            let mut segment = [&header.to_wire()[..], &sn.to_be_bytes()].concat();
            self.inbound.take(&header, &mut segment, &mut self.pool)
        }

        /// Reads up to `most` segments; their numbers.
        fn read(&mut self, most: usize) -> Vec<u32> {
            let mut read = Vec::new();
            let mut data = [0; 4];
            while read.len() < most && self.inbound.pop(&mut data) == Some(4) {
                self.inbound.on_read(&mut self.pool);
                read.push(u32::from_be_bytes(data));
            }
            read
        }
    }

    #[test]
    fn any_order_costs_the_same() {
        const WINDOW: u32 = 60_000;
        let (mut shuffled, mut rng) = ((0..WINDOW).collect::<Vec<_>>(), StdRng::seed_from_u64(1));
        shuffled.shuffle(&mut rng);
        let evens_first = (0..WINDOW).step_by(2).chain((1..WINDOW).step_by(2));
        let orders = [
            (0..WINDOW).collect(),
            (0..WINDOW).rev().collect(),
            evens_first.rev().collect(),
            shuffled,
        ];
        for order in orders {
            let mut end = End::new(WINDOW as u16);
            assert!(order.iter().all(|sn| end.take(*sn)));
            assert_eq!(end.inbound.next(), WINDOW);
            assert_eq!(end.inbound.free(), 0);
            assert!(
                end.inbound.work <= 3 * WINDOW as usize,
                "{}",
                end.inbound.work
            );
            assert!(end.read(usize::MAX).into_iter().eq(0..WINDOW));
            assert_eq!(end.inbound.waiting.capacity(), 0, "at rest nothing is held");
        }
    }

    #[test]
    fn what_is_there_already_is_acknowledged_and_read_once() {
        let mut end = End::new(128);
        for sn in [2, 2, 0, 0, 1, 2, 1, 0] {
            assert!(end.take(sn));
        }
        assert_eq!(end.read(usize::MAX), [0, 1, 2]);
        assert_eq!((end.inbound.next(), end.inbound.free()), (3, 128));
    }

    #[test]
    fn nothing_beyond_the_window_is_taken() {
        let mut end = End::new(128);
        assert!(!end.take(128) && !end.take(u32::MAX / 2) && end.take(127));
        assert!(end.inbound.waiting.len() <= 128);
        // nobody reads: KCP is full after a window, and a window more waits here
        assert!((0..128).all(|sn| end.take(sn)));
        assert_eq!((end.inbound.next(), end.inbound.free()), (128, 0));
        assert!((128..256).rev().all(|sn| end.take(sn)));
        assert!(!end.take(256));
        assert_eq!((end.inbound.next(), end.inbound.free()), (128, 0));
        assert_eq!(end.read(1), [0]);
        assert_eq!((end.inbound.next(), end.inbound.free()), (129, 0));
        assert!(end.take(256) && !end.take(257));
        end.inbound.widen(200);
        assert!(end.read(usize::MAX).into_iter().eq(1..257));
        assert_eq!((end.inbound.next(), end.inbound.free()), (257, 200));
    }

    #[test]
    fn random_arrivals_are_read_in_order() {
        for seed in 0..20 {
            let (mut end, mut rng) = (End::new(128), StdRng::seed_from_u64(seed));
            let mut read = Vec::new();
            while read.len() < 5000 {
                let from = end.inbound.next().saturating_sub(5);
                end.take(from + rng.random_range(0..140));
                let most = rng.random_range(0..3);
                read.extend(end.read(most));
            }
            assert!(read.iter().copied().eq(0..read.len() as u32));
        }
    }

    // KCP's own numbers begin at 0 and cannot be set: it drops these segments, and only the order here is looked at.
    #[test]
    fn numbers_wrap() {
        let mut end = End::new(128);
        end.inbound.next = u32::MAX - 1;
        assert!(end.take(1) && end.take(u32::MAX) && !end.take(126 + 128));
        assert!(end.take(u32::MAX - 2), "an old one is acknowledged");
        assert!(end.take(0));
        assert_eq!(end.inbound.waiting.len(), 4);
        assert!(end.take(u32::MAX - 1));
        assert_eq!(end.inbound.next(), 2);
    }
}
