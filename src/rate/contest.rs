//! Holding one's own at a bottleneck whose queue others keep full: what the path has carried for us lately, and how low
//! its round trip has been. When a contest begins, and what follows from its end, is decided in `rate`.
//!
//! Who slows down for a queue gets next to nothing beside somebody who does not: cubic fills it until packets are lost,
//! bbr keeps up to a round trip's worth in it beside others. So here the rules of BBRv1 hold, with which flows are known
//! to share: the greatest rate of ten rounds, a cycle of gains, twice the path in flight.

/// Gains of the rounds of a cycle: more is asked for, what it has queued is taken back, the rest is as carried (BBR, 2016).
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Rounds that are remembered (BBR, 2016).
const MEMORY: usize = 10;
/// Rounds in a row that ended without a queue: nobody keeps it any more. In fewer, cubic has only slowed down for a loss.
const EMPTY: u32 = 8;

#[derive(Clone, Copy, Debug)]
pub struct Contest {
    /// What the last rounds carried, bytes per second, and their least round trips, microseconds.
    carried: [f64; MEMORY],
    least: [u64; MEMORY],
    rounds: usize,
    /// Rounds in a row that ended without a queue.
    empty: u32,
}

impl Contest {
    /// `carried`: what the path was seen to carry for us before; `rtt`: the least round trip now.
    pub fn new(carried: f64, rtt: u64) -> Contest {
        Contest {
            carried: [carried; MEMORY],
            least: [rtt; MEMORY],
            // what is queued is taken back first
            rounds: 1,
            empty: 0,
        }
    }

    pub fn gain(&self) -> f64 {
        CYCLE[self.rounds % CYCLE.len()]
    }

    /// The round trip of which twice as much may be in flight. Beside bbr that is `base`: all its flows do the same, and the
    /// queue is no longer than that. Behind a longer one, which cubic keeps, it would be nearly nothing.
    pub fn held(&self, base: u64) -> u64 {
        let lately = self.least.iter().copied().min().unwrap_or(base);
        base.max(lately.saturating_sub(base))
    }

    /// Takes what a round has carried: bytes per second to go on with.
    pub fn learn(&mut self, sample: f64, limited: bool) -> f64 {
        let most = |carried: &[f64]| carried.iter().copied().fold(0.0, f64::max);
        // where the senders had too little to send, it says only what is carried at least
        let sample = match limited {
            true => sample.max(most(&self.carried)),
            false => sample,
        };
        self.carried[self.rounds % MEMORY] = sample;
        most(&self.carried)
    }

    /// A round is over, with this least round trip, and its queue was empty or not. True if nobody keeps it any more.
    pub fn end_round(&mut self, rtt: u64, empty: bool) -> bool {
        self.least[self.rounds % MEMORY] = rtt;
        self.rounds += 1;
        self.empty = if empty { self.empty + 1 } else { 0 };
        self.empty >= EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_carried_is_forgotten_after_ten_rounds() {
        let mut contest = Contest::new(9e6, 100);
        for _ in 0..MEMORY - 1 {
            assert_eq!(contest.learn(5e6, false), 9e6);
            contest.end_round(150, false);
        }
        assert_eq!(contest.learn(5e6, false), 5e6);
        // a round in which little was to be sent forgets nothing
        contest.end_round(150, false);
        assert_eq!(contest.learn(1e6, true), 5e6);
    }

    #[test]
    fn a_queue_longer_than_the_path_raises_what_is_in_flight() {
        assert_eq!(Contest::new(1e6, 150_000).held(100_000), 100_000);
        assert_eq!(Contest::new(1e6, 400_000).held(40_000), 360_000);
    }

    #[test]
    fn it_is_over_when_the_queue_stays_empty() {
        let mut contest = Contest::new(1e6, 100);
        for _ in 0..2 {
            assert!((1..EMPTY).all(|_| !contest.end_round(100, true)));
            assert!(!contest.end_round(110, false));
        }
        assert!((1..EMPTY).all(|_| !contest.end_round(100, true)));
        assert!(contest.end_round(100, true));
    }
}
