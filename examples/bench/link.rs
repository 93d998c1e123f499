//! The link in memory: bandwidth, delay, random loss.

use kcptun::time::{Duration, Instant};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::collections::VecDeque;

/// The link's two directions are alike.
#[derive(Clone, Copy)]
pub struct Shape {
    pub mbit: f64,
    pub rtt: Duration,
    pub loss: f64,
    pub window: u16,
}

/// One direction: a bottleneck with a queue of a round trip, random loss, delay. Buffers are used again.
pub struct Line {
    shape: Shape,
    wire: VecDeque<(Instant, Vec<u8>)>,
    pub spare: Vec<Vec<u8>>,
    pub free_at: f64,
    rng: SmallRng,
    pub lengths: Vec<u16>,
}

impl Line {
    pub fn new(shape: Shape) -> Line {
        Line {
            shape,
            wire: VecDeque::new(),
            spare: Vec::new(),
            free_at: 0.0,
            rng: SmallRng::seed_from_u64(1),
            lengths: Vec::new(),
        }
    }

    pub fn offer(&mut self, now: Instant, datagram: &[u8]) {
        self.lengths.push(datagram.len() as u16);
        let begin = self.free_at.max(now.micros() as f64);
        let queue_is_full = begin - now.micros() as f64 > self.shape.rtt.as_micros_f64();
        if queue_is_full || self.rng.random_bool(self.shape.loss) {
            return;
        }
        self.free_at = begin + (datagram.len() + 28) as f64 * 8.0 / self.shape.mbit;
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(datagram);
        let due = Instant::from_micros(self.free_at as u64).after(self.shape.rtt / 2);
        self.wire.push_back((due, copy));
    }

    pub fn due(&self) -> Option<Instant> {
        self.wire.front().map(|(due, _)| *due)
    }

    pub fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        let is_due = self.due().is_some_and(|due| due <= now);
        is_due.then(|| self.wire.pop_front())?.map(|(_, d)| d)
    }
}
