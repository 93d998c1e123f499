//! How much may be in flight on a path so short that the queue is in the machines at its ends: in their sockets, while the
//! process that reads them is not running. Pacing cannot control that queue, since it empties in clumps; its size is learned
//! from losses. `congestion` says which rounds there are and what they carried.

use super::{PACKET, held};
use crate::time::{Duration, SEC};

/// From this round trip on a path holds more than the machines do, and its rate is limit enough.
const HOST_LIMITED_RTT: Duration = Duration::from_millis(10);
/// In flight at first, bytes. On a veth pair anything from 0.3 to 1.2 MB carries as much and loses nothing; with 4 MB
/// what is read has left the cache, and a sixth of it was lost before.
const FIRST_LIMIT: f64 = 1024.0 * 1024.0;
/// What may always be in flight beyond twice what the path holds, bytes: a GSO batch.
const GSO_ALLOWANCE: f64 = 48.0 * PACKET;
/// A round that loses a greater share than this had too much in flight.
const EXCESSIVE_LOSS: f64 = 0.01;
/// The factor of the limit after such a round (as in CUBIC, RFC 9438).
const DECREASE: f64 = 0.7;
/// The factor of the limit after a round without loss that it held back.
const INCREASE: f64 = 1.0 + 1.0 / 32.0;

/// The limit and what it rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostLimit {
    limit: f64,
    /// Bytes per second that arrived, smoothed.
    carried: f64,
}

impl Default for HostLimit {
    fn default() -> Self {
        HostLimit {
            limit: FIRST_LIMIT,
            carried: 0.0,
        }
    }
}

impl HostLimit {
    /// The most bytes in flight where the base round trip is `base`.
    pub(super) fn limit(&self, base: Duration) -> u64 {
        if base >= HOST_LIMITED_RTT {
            u64::MAX
        } else {
            self.limit as u64
        }
    }

    /// A round of `span` is over: how many bytes arrived and were lost, and whether the limit kept more from
    /// being sent.
    pub(super) fn end_round(
        &mut self,
        base: Duration,
        span: Duration,
        arrived: u64,
        lost: u64,
        full: bool,
    ) {
        let rate =
            arrived as f64 * SEC.as_micros_f64() / span.max(Duration::MICROSECOND).as_micros_f64();
        self.carried += (rate - self.carried) / 8.0;
        // Where nothing queues, this is twice what is in flight: loss by chance does not make the limit matter.
        let held = held(2.0 * self.carried, base);
        if lost as f64 > EXCESSIVE_LOSS * (arrived + lost) as f64 {
            self.limit *= DECREASE;
        } else if full && self.limit < FIRST_LIMIT.max(2.0 * held) {
            self.limit *= INCREASE;
        }
        self.limit = self.limit.max(held + GSO_ALLOWANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    /// Rounds of 5 ms over a path of 1 ms: `queue` bytes more than it holds are lost. Returns what was lost of all.
    fn run(host: &mut HostLimit, rate: f64, queue: f64, chance: f64, rounds: usize) -> f64 {
        let (mut arrived, mut lost) = (0.0, 0.0);
        for _ in 0..rounds {
            let room = rate * 0.001 + queue;
            let over = (host.limit - room).max(0.0);
            let carried = (host.limit / 0.001).min(rate) * 0.005 * (1.0 - chance);
            let gone = over + carried * chance;
            host.end_round(MS, 5 * MS, carried as u64, gone as u64, true);
            (arrived, lost) = (arrived + carried, lost + gone);
        }
        lost / (arrived + lost)
    }

    #[test]
    fn what_the_sockets_hold_is_learned_from_losses() {
        let mut host = HostLimit::default();
        run(&mut host, 100e6, 200e3, 0.0, 20);
        let lost = run(&mut host, 100e6, 200e3, 0.0, 1000);
        assert!(lost < EXCESSIVE_LOSS, "{lost}");
        assert!((200e3..320e3).contains(&host.limit), "{}", host.limit);
    }

    #[test]
    fn loss_by_chance_does_not_slow_a_path_down() {
        let mut host = HostLimit::default();
        run(&mut host, 1e9, 50e6, 0.1, 1000);
        assert!(host.limit > 1e9 * 0.001, "{}", host.limit);
    }

    #[test]
    fn a_path_that_holds_more_is_filled_within_rounds() {
        let mut host = HostLimit::default();
        run(&mut host, 5e9, 50e6, 0.0, 30);
        assert!(host.limit > 5e9 * 0.001, "{}", host.limit);
        assert_eq!(host.limit(HOST_LIMITED_RTT), u64::MAX);
    }
}
