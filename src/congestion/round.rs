//! What is gathered during one round trip, and during the last fraction of one. Only sums and minima; what follows from
//! them is decided in `congestion`.

use crate::time::{Duration, Instant};

/// A round with more idle time than this share of it says nothing of the path's limit.
const IDLE_SHARE_MAX: f64 = 0.15;

/// One round trip's worth of measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// The round ends when something sent after this many bytes had been delivered is acknowledged.
    pub ends_at: u64,
    /// When it began.
    pub began_at: Instant,
    /// The last sample of the delivery rate, bytes per second.
    pub rate: f64,
    /// How long more could have been sent than there was.
    pub idle: Duration,
    /// At least half of the window was in flight.
    pub used: bool,
    /// Bulk had to wait for acknowledgements.
    pub full: bool,
    /// Bytes acknowledged, and given up.
    pub arrived: u64,
    /// Bytes lost.
    pub lost: u64,
    /// The same in packets.
    pub packets: u32,
    /// Packets lost.
    pub packets_lost: u64,
    /// The least round trip, the sum of all, and how many.
    least_rtt: Option<Duration>,
    rtts: Duration,
    samples: u64,
    /// What the round before it had.
    pub before: Before,
}

/// What is still to be known of the round before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    idle: bool,
    /// Whether at least half of the window was in flight.
    pub used: bool,
}

impl Round {
    /// The first of a path.
    pub(super) fn first(now: Instant) -> Round {
        Round {
            began_at: now,
            before: Before {
                idle: true,
                used: false,
            },
            ..Round::default()
        }
    }

    /// Takes the least round trip of a datagram of acks.
    pub(super) fn record(&mut self, rtt: Duration) {
        self.least_rtt = Some(self.least_rtt.map_or(rtt, |least| least.min(rtt)));
        self.rtts += rtt;
        self.samples += 1;
    }

    /// Returns the round and begins the next one; `delivered` bytes have arrived in all.
    pub(super) fn finish(&mut self, delivered: u64, now: Instant) -> Round {
        let done = *self;
        *self = Round {
            ends_at: delivered,
            began_at: now,
            rate: done.rate,
            before: Before {
                idle: done.is_idle(now.since(done.began_at).max(Duration::MICROSECOND)),
                used: done.used,
            },
            ..Round::default()
        };
        done
    }

    fn is_idle(&self, span: Duration) -> bool {
        self.idle.as_micros_f64() > span.as_micros_f64() * IDLE_SHARE_MAX
    }

    /// Whether the senders, and not the path, limited this round of `span` or the one in which its packets were
    /// sent: they were idle for much of it, or used little of the window.
    pub(super) fn is_limited(&self, span: Duration) -> bool {
        self.is_idle(span) || self.before.idle || !self.used
    }

    /// The least and the mean round trip above `base`.
    pub(super) fn delays(&self, base: Duration) -> (Duration, Duration) {
        let least = self
            .least_rtt
            .map_or(Duration::ZERO, |rtt| rtt.saturating_sub(base));
        let mean = self.rtts / self.samples.max(1);
        (least, mean.saturating_sub(base))
    }
}

/// What a round has shown. Its spans are those above the path's own round trip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Bytes per second that arrived.
    pub rate: f64,
    /// The least round trip.
    pub queue: Duration,
    /// The mean round trip.
    pub mean: Duration,
    /// What noise can feign of the queue.
    pub noise: Duration,
    /// By how much the mean is above the least, smoothed.
    pub scatter: Duration,
}

/// The last eighth to quarter of a round trip, or more where samples are few: its least round trip is the queue as it is now,
/// without jitter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    now: Bucket,
    before: Bucket,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    since: Instant,
    samples: u32,
    least: Duration,
}

impl Recent {
    /// Fewer samples than this say little about a minimum.
    const ENOUGH: u32 = 8;

    /// Takes a round trip; `span`: how long a bucket is filled at least.
    pub(super) fn record(&mut self, rtt: Duration, span: Duration, now: Instant) {
        let over = self.now.samples >= Self::ENOUGH && now.since(self.now.since) >= span;
        if self.now.samples == 0 || over {
            self.before = self.now;
            self.now = Bucket {
                since: now,
                samples: 1,
                least: rtt,
            };
        } else {
            self.now.least = self.now.least.min(rtt);
            self.now.samples += 1;
        }
    }

    /// Whether the least is one of enough samples to be without chance.
    pub(super) fn enough(&self) -> bool {
        self.before.samples >= Self::ENOUGH
    }

    /// The least round trip of both.
    pub(super) fn least(&self) -> Duration {
        match self.before.samples {
            0 => self.now.least,
            _ => self.now.least.min(self.before.least),
        }
    }
}
