//! What is gathered during one round trip, and during the last fraction of one. Only sums and minima; what follows from
//! them is decided in `rate`.

use crate::time::{SEC, Time};

/// One round trip's worth of measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// The round ends when something sent after this many bytes had been delivered is acknowledged.
    pub ends_at: u64,
    pub least_rtt: Option<u64>,
    /// The round's last samples, bytes per second.
    pub service: f64,
    pub delivery: f64,
    /// Service and delivery by the spacing of the acks alone: the bottleneck's rate, if its queue was never empty.
    pub busy: [f64; 2],
    pub began_at: Time,
    /// Microseconds in which more could have been sent than there was.
    pub idle: u64,
    /// The senders, not the path, limited this round or the one in which its packets were sent.
    pub limited: bool,
    /// Bytes sent, acknowledged, and given up.
    pub sent: u64,
    pub arrived: u64,
    pub lost: u64,
    /// Bulk had to wait for acknowledgements.
    pub full: bool,
    pub packets: u32,
}

impl Round {
    /// The rate that the path has been seen to carry; `chance` is the share that random loss may have taken.
    pub fn sample(&self, chance: f64) -> f64 {
        self.service.min(self.delivery / (1.0 - chance))
    }
}

/// The last eighth to quarter of a round trip, or more where samples are few: its least round trip is the queue as it is now, without jitter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    now: Bucket,
    before: Bucket,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    since: Time,
    samples: u32,
    least: u64,
    /// Bytes acknowledged before it began.
    delivered: u64,
}

impl Recent {
    /// Fewer samples than this say little about a minimum.
    const ENOUGH: u32 = 8;

    pub fn record(&mut self, rtt: u64, span: u64, delivered: u64, now: Time) {
        let over = self.now.samples >= Self::ENOUGH && now.since(self.now.since) >= span;
        if self.now.samples == 0 || over {
            self.before = self.now;
            self.now = Bucket {
                since: now,
                samples: 1,
                least: rtt,
                delivered,
            };
        } else {
            self.now.least = self.now.least.min(rtt);
            self.now.samples += 1;
        }
    }

    /// Whether the least is one of enough samples to be without chance.
    pub fn enough(&self) -> bool {
        self.before.samples >= Self::ENOUGH
    }

    pub fn least(&self) -> u64 {
        match self.before.samples {
            0 => self.now.least,
            _ => self.now.least.min(self.before.least),
        }
    }

    /// Bytes per second that were acknowledged.
    pub fn delivery(&self, delivered: u64, now: Time) -> f64 {
        let span = now.since(self.before.since).max(1) as f64;
        (delivered - self.before.delivered) as f64 / span * SEC as f64
    }
}
