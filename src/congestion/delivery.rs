//! The delivery rate: what arrives per second over spans of about a round trip, and the best of the last few spans. That best
//! follows a line whose rate wanders: down within those spans, up within one.
//!
//! A sample is bounded by the sending rate (draft-cheng-iccrg-delivery-rate-estimation): acks that were held back somewhere
//! and arrive together do not make a rate.

use super::rate_of;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// The number of spans of which the best counts: one is too few where acks arrive in clumps, and with ten (BBR) a falling
/// rate is followed late.
const BEST_OF_SPANS: u64 = 3;
/// Entries of the history in one span.
const ENTRIES_PER_SPAN: u64 = 16;
/// What takes this many times longer to arrive than it took to be sent builds a queue.
const QUEUE_BUILDING_STRETCH: f64 = 1.25;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When, on the clock of `Delivery`.
    at: Duration,
    /// When the youngest transmission that was acknowledged by then was sent.
    sent_at: Instant,
    delivered: u64,
    /// Bytes per second over the span that ends here; 0: not known.
    rate: f64,
}

/// What has arrived when, and the rates that follow from it.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    entries: VecDeque<Entry>,
    /// The clock. It advances by at most a span from one ack to the next: while a line carries nothing, what it
    /// carried before is not forgotten.
    clock: Duration,
    heard_at: Instant,
    span: Duration,
    /// Until when the samples may be less than the line could carry.
    limited_until: Duration,
}

impl Delivery {
    /// `delivered` bytes have arrived by `now`, the youngest of them sent at `sent_at`; `span`: how long to watch.
    /// Returns the sample in bytes per second, once the history is long enough.
    pub(super) fn record(
        &mut self,
        delivered: u64,
        sent_at: Instant,
        span: Duration,
        now: Instant,
    ) -> Option<f64> {
        self.clock += now.since(self.heard_at).min(span);
        (self.heard_at, self.span) = (now, span);
        let from = self.clock.saturating_sub(BEST_OF_SPANS * span);
        while self.entries.len() > 1 && self.entries[1].at < from {
            self.entries.pop_front();
        }
        let rate = self.sample(delivered, sent_at);
        let entry = Entry {
            at: self.clock,
            sent_at,
            delivered,
            rate: rate.unwrap_or(0.0),
        };
        match self.entries.len() {
            n if n > 1 && self.clock - self.entries[n - 2].at < span / ENTRIES_PER_SPAN => {
                self.entries[n - 1] = entry;
            }
            _ => self.entries.push_back(entry),
        }
        rate
    }

    /// The entry that is a span old.
    fn span_ago(&self) -> Option<&Entry> {
        let ago = |e: &&Entry| self.clock - e.at >= self.span;
        self.entries.iter().rev().find(ago)
    }

    fn sample(&self, delivered: u64, sent_at: Instant) -> Option<f64> {
        let from = self.span_ago()?;
        let took = (self.clock - from.at).max(sent_at.since(from.sent_at));
        let bytes = (delivered - from.delivered) as f64;
        Some(rate_of(bytes, took.max(Duration::MICROSECOND)))
    }

    /// Whether a queue grows: what arrived in the last span took longer to arrive than to be sent.
    pub(super) fn stretches(&self) -> bool {
        let (Some(from), Some(last)) = (self.span_ago(), self.entries.back()) else {
            return false;
        };
        let sending = last.sent_at.since(from.sent_at).as_micros_f64();
        (last.at - from.at).as_micros_f64() > QUEUE_BUILDING_STRETCH * sending
    }

    /// The senders had nothing to send until now; `span`: a round trip.
    pub(super) fn limited(&mut self, span: Duration) {
        self.limited_until = self.clock + (BEST_OF_SPANS + 1) * span;
    }

    /// Whether the samples may say less than the line could carry.
    pub(super) fn is_limited(&self) -> bool {
        self.clock < self.limited_until
    }

    /// Bytes per second: the best of the last spans; 0 if there is none.
    pub(super) fn best(&self) -> f64 {
        self.entries.iter().map(|e| e.rate).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_millis(50);

    /// Acks of 1,000 bytes a millisecond from `from` to `to`, of packets that were sent 100 ms before.
    fn run(delivery: &mut Delivery, delivered: &mut u64, from: u64, to: u64, bytes: u64) {
        for ms in from..to {
            *delivered += bytes;
            let (sent_at, now) = (Instant::from_millis(ms - 100), Instant::from_millis(ms));
            delivery.record(*delivered, sent_at, SPAN, now);
        }
    }

    #[test]
    fn the_best_of_some_spans_counts() {
        let (mut delivery, mut delivered) = (Delivery::default(), 0);
        run(&mut delivery, &mut delivered, 200, 400, 1000);
        assert!((delivery.best() - 1e6).abs() < 2e4, "{}", delivery.best());
        run(&mut delivery, &mut delivered, 400, 500, 100);
        assert!(delivery.best() > 0.9e6, "{}", delivery.best());
        run(&mut delivery, &mut delivered, 500, 620, 100);
        assert!(delivery.best() < 0.2e6, "{}", delivery.best());
    }

    #[test]
    fn a_gap_makes_nothing_forgotten() {
        let (mut delivery, mut delivered) = (Delivery::default(), 0);
        run(&mut delivery, &mut delivered, 200, 400, 1000);
        run(&mut delivery, &mut delivered, 1400, 1410, 1000);
        assert!(delivery.best() > 0.9e6, "{}", delivery.best());
    }

    #[test]
    fn acks_that_come_together_are_no_rate() {
        let mut delivery = Delivery::default();
        let mut delivered = 0;
        run(&mut delivery, &mut delivered, 200, 400, 1000);
        // what was sent over 200 ms is acknowledged within 60
        for n in 0..60 {
            delivered += 3333;
            let sent_at = Instant::from_micros(300_000 + n * 3333);
            delivery.record(delivered, sent_at, SPAN, Instant::from_millis(400 + n));
        }
        assert!(delivery.best() < 1.1e6, "{}", delivery.best());
        assert!(!delivery.stretches());
    }
}
