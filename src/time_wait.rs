//! TIME_WAIT: the numbers of sessions that have ended, kept for `time_wait`, so that a late packet of one neither opens a session
//! nor stays unanswered.

use crate::time::{Duration, Instant};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// The most sessions that are remembered; beyond that, the oldest is forgotten.
const REMEMBERED_MAX: usize = 131_072;

/// How a session ended, which decides how its late packets are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// In order. A segment that arrives again is acknowledged again: its ack was lost.
    Clean {
        /// Every segment before this one has arrived here.
        una: u32,
    },
    /// By a reset: the other end is told again.
    Reset,
}

struct Record {
    ending: Ending,
    until: Instant,
    answered_at: Instant,
}

/// The sessions that are remembered, by the other end's address and their number.
#[derive(Default)]
pub(crate) struct TimeWait {
    records: HashMap<(SocketAddr, u32), Record>,
    /// For each number, how many records it has, whatever the address, and the address of the latest.
    numbers: HashMap<u32, (u32, SocketAddr)>,
    /// The sessions in the order of their end. An earlier one that is remembered for longer keeps the later ones until it
    /// expires.
    order: VecDeque<(SocketAddr, u32, Instant)>,
}

impl TimeWait {
    /// Remembers that a session ended, until `until`.
    pub(crate) fn insert(&mut self, addr: SocketAddr, conv: u32, ending: Ending, until: Instant) {
        if self.order.len() >= REMEMBERED_MAX {
            self.drop_oldest();
        }
        let number = self.numbers.entry(conv).or_insert((0, addr));
        *number = (number.0 + 1, addr);
        self.records.insert(
            (addr, conv),
            Record {
                ending,
                until,
                answered_at: Instant::ZERO,
            },
        );
        self.order.push_back((addr, conv, until));
    }

    /// The address of a number's record: `addr` if it has one, or else that of the latest.
    pub(crate) fn address(&self, addr: SocketAddr, conv: u32) -> SocketAddr {
        match self.numbers.get(&conv) {
            Some((_, latest)) if !self.contains(addr, conv) => *latest,
            _ => addr,
        }
    }

    /// Whether the session is remembered.
    pub(crate) fn contains(&self, addr: SocketAddr, conv: u32) -> bool {
        self.records.contains_key(&(addr, conv))
    }

    /// How the session ended, if its late packets may be answered now. A reset is repeated at most once in `pause`.
    pub(crate) fn respond(
        &mut self,
        addr: SocketAddr,
        conv: u32,
        pause: Duration,
        now: Instant,
    ) -> Option<Ending> {
        let record = self.records.get_mut(&(addr, conv))?;
        let waits = record.answered_at != Instant::ZERO && now.since(record.answered_at) < pause;
        let reset = record.ending == Ending::Reset;
        if reset && waits {
            return None;
        }
        record.answered_at = now;
        Some(record.ending)
    }

    /// When `expire` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(_, _, until)| *until)
    }

    /// Forgets the sessions whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|at| at <= now) {
            self.drop_oldest();
        }
        if self.order.is_empty() {
            *self = TimeWait::default();
        }
    }

    /// How many sessions are remembered.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn drop_oldest(&mut self) {
        let Some((addr, conv, until)) = self.order.pop_front() else {
            return;
        };
        if let Some(count) = self.numbers.get_mut(&conv) {
            count.0 -= 1;
            if count.0 == 0 {
                self.numbers.remove(&conv);
            }
        }
        if self
            .records
            .get(&(addr, conv))
            .is_some_and(|r| r.until == until)
        {
            self.records.remove(&(addr, conv));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    #[test]
    fn numbers_are_forgotten_in_time_and_in_number() {
        let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut time_wait = TimeWait::default();
        for conv in 0..REMEMBERED_MAX as u32 + 10 {
            time_wait.insert(
                addr,
                conv,
                Ending::Reset,
                Instant::from_millis(u64::from(conv)),
            );
        }
        assert_eq!(time_wait.len(), REMEMBERED_MAX);
        assert!(!time_wait.contains(addr, 9) && time_wait.contains(addr, 10));
        time_wait.expire(Instant::from_millis(REMEMBERED_MAX as u64));
        assert_eq!(time_wait.len(), 9);
        time_wait.expire(Instant::from_millis(REMEMBERED_MAX as u64 + 9));
        assert!(time_wait.len() == 0 && time_wait.deadline().is_none());
    }

    #[test]
    fn a_reset_is_repeated_only_after_a_pause() {
        let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut time_wait = TimeWait::default();
        time_wait.insert(addr, 7, Ending::Reset, Instant::from_millis(9000));
        let at = Instant::from_millis;
        assert_eq!(
            time_wait.respond(addr, 7, 200 * MS, at(1000)),
            Some(Ending::Reset)
        );
        assert_eq!(time_wait.respond(addr, 7, 200 * MS, at(1199)), None);
        assert_eq!(
            time_wait.respond(addr, 7, 200 * MS, at(1200)),
            Some(Ending::Reset)
        );
        assert_eq!(time_wait.respond(addr, 8, Duration::ZERO, at(1)), None);
    }
}
