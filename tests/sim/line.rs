//! A bottleneck whose rate changes: step by step, from a recording or from a seed. What it can carry in a step and does
//! not is lost, as on a radio link. A drop-tail queue, counted in bytes, stands before it.

use kcptun::time::{Duration, Instant, MS};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::collections::VecDeque;

/// How a made line wanders: a step's length, how long its rate is correlated (microseconds), the factor between its least
/// and its greatest rate, and after how long it repeats.
const STEP: Duration = Duration::from_millis(20);
const CORRELATED: f64 = 1e6;
const FACTOR: f64 = 10.0;
const LAP: Duration = Duration::from_secs(120);

/// Bits per second in each step; after the last the first follows again.
#[derive(Clone, Debug)]
pub struct Rates {
    pub step: Duration,
    pub rates: Vec<f64>,
}

impl Rates {
    /// A rate that wanders over a factor of ten, correlated over a second or so, `mean` bits per second on average. `gaps`:
    /// how many a minute in which nothing is carried, of 0.1 to 1.5 s.
    pub fn wandering(mean: f64, gaps: f64, seed: u64) -> Rates {
        let mut rng = SmallRng::seed_from_u64(seed);
        let keep = (-STEP.as_micros_f64() / CORRELATED).exp();
        let most = FACTOR.ln() / 2.0;
        // uniform noise of this width gives the logarithm a standard deviation of half of its range
        let width = most * (3.0 * (1.0 - keep * keep)).sqrt();
        let (mut x, mut gap) = (0.0f64, 0u64);
        let mut rates: Vec<f64> = (0..LAP / STEP)
            .map(|_| {
                x = (x * keep + rng.random_range(-width..=width)).clamp(-most, most);
                if gap == 0 && rng.random_bool((gaps * STEP.as_micros_f64() / 60e6).clamp(0.0, 1.0))
                {
                    gap = Duration::from_micros(rng.random_range(100_000..=1_500_000)) / STEP;
                }
                let carries = gap == 0;
                gap = gap.saturating_sub(1);
                f64::from(u8::from(carries)) * x.exp()
            })
            .collect();
        let is = rates.iter().sum::<f64>() / rates.len() as f64;
        rates.iter_mut().for_each(|r| *r *= mean / is);
        Rates { step: STEP, rates }
    }

    /// A rate that falls to half, and is itself again, each `every`.
    pub fn halving(rate: f64, every: Duration) -> Rates {
        Rates {
            step: every,
            rates: vec![rate, rate / 2.0],
        }
    }

    /// A recording in mahimahi's format, from its second `at` on: each line is a millisecond in which 1504 bytes may pass.
    pub fn recorded(text: &str, at: u64) -> Rates {
        let times: Vec<usize> = text
            .split_whitespace()
            .filter_map(|t| t.parse().ok())
            .collect();
        let mut rates = vec![0.0; times.last().map_or(1, |last| last + 1)];
        for t in times {
            rates[t] += 1500.0 * 8.0 * 1e3;
        }
        let len = rates.len();
        rates.rotate_left((at * 1000) as usize % len);
        Rates { step: MS, rates }
    }

    /// The same, with its first step at this time.
    pub fn beginning(mut self, at: Instant) -> Rates {
        let len = self.rates.len();
        self.rates
            .rotate_right((at.since(Instant::ZERO) / self.step) as usize % len);
        self
    }

    fn rate(&self, step: u64) -> f64 {
        self.rates[(step % self.rates.len() as u64) as usize]
    }

    /// Bits that can be carried between two times.
    pub fn bits(&self, from: Instant, to: Instant) -> f64 {
        let (mut at, mut bits) = (from.micros(), 0.0);
        while at < to.micros() {
            let step = at / self.step.as_micros();
            let end = ((step + 1) * self.step.as_micros()).min(to.micros());
            bits += self.rate(step) * (end - at) as f64 / 1e6;
            at = end;
        }
        bits
    }
}

/// The bottleneck and what waits before it.
#[derive(Debug)]
pub struct Line {
    rates: Rates,
    limit: usize,
    free_at: Instant,
    waiting: VecDeque<(Instant, usize)>,
    waiting_bytes: usize,
}

impl Line {
    /// `limit`: bytes that the queue holds.
    pub fn new(rates: Rates, limit: usize) -> Line {
        Line {
            rates,
            limit,
            free_at: Instant::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// A packet of `size` bytes arrives: when it has passed, or None where the queue is full.
    pub fn admit(&mut self, now: Instant, size: usize) -> Option<Instant> {
        while let Some((begins, bytes)) = self.waiting.front().copied() {
            if begins > now {
                break;
            }
            self.waiting.pop_front();
            self.waiting_bytes -= bytes;
        }
        if self.waiting_bytes + size > self.limit {
            return None;
        }
        let begins = self.free_at.max(now);
        let (mut at, mut bits) = (begins.micros(), size as f64 * 8.0);
        loop {
            let step = at / self.rates.step.as_micros();
            let end = (step + 1) * self.rates.step.as_micros();
            let carried = self.rates.rate(step) * (end - at) as f64 / 1e6;
            if carried >= bits {
                at += (bits / self.rates.rate(step) * 1e6) as u64;
                break;
            }
            bits -= carried;
            at = end;
        }
        self.free_at = Instant::from_micros(at);
        self.waiting.push_back((begins, size));
        self.waiting_bytes += size;
        Some(self.free_at)
    }
}
