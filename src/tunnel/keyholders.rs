//! Which addresses have shown lately that they have the key, for what the log says of them. Datagrams that do not open are told
//! if nothing from their address has opened shortly before and nothing does shortly after: `kcptun ping` tries other ways to
//! seal, and an end that does not know yet that this one has restarted uses keys that are gone. Somebody whose pings open and
//! who does nothing else is told as well.
//!
//! A few addresses are remembered, whoever sends; what finds no room is told at once. The lines themselves are in `reports`.

use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// What does not open waits so long for something from the same address that does; a ping, for something else.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who opened something so shortly ago has the key.
pub(super) const LATELY: Duration = Duration::from_secs(10);
/// The most addresses in each of the lists.
const ADDRESSES: usize = 8;

/// Datagrams of one address that wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    /// Where they came from.
    pub(super) from: SocketAddr,
    /// How many they are.
    pub(super) count: u64,
    due: Instant,
}

/// Those of a few addresses, in the order in which they are due.
#[derive(Default)]
struct Few(Vec<Waiting>);

/// What is known of them.
#[derive(Default)]
pub(super) struct Keyholders {
    /// From where a message has opened, and when last.
    opened: Vec<(SocketAddr, Instant)>,
    unopened: Few,
    pinging: Few,
}

impl Few {
    /// One more has come from there. False: there is no room for it.
    fn add(&mut self, from: SocketAddr, now: Instant) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.from == from) {
            known.count += 1;
            return true;
        }
        let has_room = self.0.len() < ADDRESSES;
        if has_room {
            self.0.push(Waiting {
                from,
                count: 1,
                due: now.after(PATIENCE),
            });
        }
        has_room
    }

    fn forget(&mut self, from: SocketAddr) {
        self.0.retain(|known| known.from != from);
    }

    fn due(&self) -> Option<Instant> {
        self.0.first().map(|first| first.due)
    }

    fn take(&mut self, all: bool, now: Instant) -> Option<Waiting> {
        let is_due = self.due().is_some_and(|due| all || due <= now);
        is_due.then(|| self.0.remove(0))
    }
}

impl Keyholders {
    /// Something from there has opened with a key. `message`: it is of session 0. What sessions send is noted by their paths.
    pub(super) fn on_opened(&mut self, from: SocketAddr, message: bool, now: Instant) {
        self.unopened.forget(from);
        if !message {
            return;
        }
        if let Some(known) = self.opened.iter_mut().find(|(at, _)| *at == from) {
            known.1 = now;
            return;
        }
        if self.opened.len() < ADDRESSES {
            return self.opened.push((from, now));
        }
        if let Some(oldest) = self.opened.iter_mut().min_by_key(|(_, at)| *at) {
            *oldest = (from, now);
        }
    }

    /// A datagram from there does not open. True if that is to be told now; otherwise it waits, or is nothing to tell.
    pub(super) fn on_unopened(&mut self, from: SocketAddr, now: Instant) -> bool {
        let lately = |(at, when): &(SocketAddr, Instant)| *at == from && now.since(*when) < LATELY;
        !self.opened.iter().any(lately) && !self.unopened.add(from, now)
    }

    /// Somebody who is not known yet has pinged, and the ping has opened.
    pub(super) fn on_ping(&mut self, from: SocketAddr, now: Instant) {
        // without room nothing is lost but a line
        self.pinging.add(from, now);
    }

    /// Something has come from there that only follows an answer of this end.
    pub(super) fn on_followed(&mut self, from: SocketAddr) {
        self.pinging.forget(from);
    }

    /// How many datagrams that do not open wait.
    pub(super) fn doubtful(&self) -> u64 {
        self.unopened.0.iter().map(|waiting| waiting.count).sum()
    }

    /// When there is something to take.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unopened
            .due()
            .into_iter()
            .chain(self.pinging.due())
            .min()
    }

    /// Takes an address that has sent what does not open and nothing else for long enough; or any, if `all` is over.
    pub(super) fn take_unopened(&mut self, all: bool, now: Instant) -> Option<Waiting> {
        self.unopened.take(all, now)
    }

    /// Takes an address that has pinged and done nothing else for long enough.
    pub(super) fn take_pinging(&mut self, now: Instant) -> Option<Waiting> {
        self.pinging.take(false, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 1000))
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1_000_000 + ms)
    }

    /// The hosts that are told until then, each with its number of datagrams.
    fn told(holders: &mut Keyholders, ms: u64) -> Vec<(u8, u64)> {
        let taken = std::iter::from_fn(|| holders.take_unopened(false, at(ms)));
        let host = |from: SocketAddr| match from.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => unreachable!("none of these"),
        };
        taken.map(|w| (host(w.from), w.count)).collect()
    }

    #[test]
    fn a_stranger_is_told_after_a_while_with_all_that_came_meanwhile() {
        let mut holders = Keyholders::default();
        assert_eq!(holders.deadline(), None, "nothing waits");
        for ms in [0, 500, 2_999] {
            assert!(!holders.on_unopened(addr(1), at(ms)));
        }
        assert!(!holders.on_unopened(addr(2), at(1_000)));
        assert_eq!(holders.doubtful(), 4);
        assert_eq!(holders.deadline(), Some(at(3_000)));
        assert_eq!(told(&mut holders, 2_999), []);
        assert_eq!(told(&mut holders, 3_000), [(1, 3)]);
        assert_eq!(holders.deadline(), Some(at(4_000)));
        // and again, as long as it goes on
        assert!(!holders.on_unopened(addr(1), at(3_500)));
        assert_eq!(told(&mut holders, 9_000), [(2, 1), (1, 1)]);
        assert_eq!((holders.deadline(), holders.doubtful()), (None, 0));
    }

    #[test]
    fn who_has_the_key_is_not_told_whether_it_shows_before_or_after() {
        let mut holders = Keyholders::default();
        assert!(!holders.on_unopened(addr(1), at(0)));
        assert!(!holders.on_unopened(addr(2), at(0)));
        // also what is no message clears it
        holders.on_opened(addr(1), false, at(2_900));
        holders.on_opened(addr(3), true, at(2_900));
        assert_eq!(holders.doubtful(), 1);
        assert!(!holders.on_unopened(addr(3), at(3_000)));
        assert_eq!(told(&mut holders, 60_000), [(2, 1)]);
        // it was long ago
        assert!(!holders.on_unopened(addr(3), at(12_900)));
        assert_eq!(told(&mut holders, 60_000), [(3, 1)]);
    }

    #[test]
    fn a_flood_of_strangers_has_no_memory_and_is_told() {
        let mut holders = Keyholders::default();
        holders.on_opened(addr(0), true, at(0));
        let at_once = (1..=200).filter(|host| holders.on_unopened(addr(*host), at(0)));
        assert_eq!(at_once.count(), 200 - ADDRESSES);
        assert_eq!(holders.unopened.0.len(), ADDRESSES);
        assert!(!holders.on_unopened(addr(0), at(10)), "it has the key");
        assert_eq!(told(&mut holders, 3_000).len(), ADDRESSES);
        // many that have the key: the last ones are remembered
        for host in 1..=200 {
            holders.on_opened(addr(host), true, at(3_000 + u64::from(host)));
        }
        assert_eq!(holders.opened.len(), ADDRESSES);
        assert!(!holders.on_unopened(addr(200), at(4_000)));
        assert_eq!(holders.doubtful(), 0);
    }

    #[test]
    fn what_waits_is_told_when_all_is_over() {
        let mut holders = Keyholders::default();
        holders.on_unopened(addr(1), at(0));
        assert_eq!(holders.take_unopened(false, at(1)), None);
        let taken = holders.take_unopened(true, at(1)).map(|w| w.from);
        assert_eq!(taken, Some(addr(1)));
    }

    #[test]
    fn who_only_pings_is_told_and_who_does_more_is_not() {
        let mut holders = Keyholders::default();
        for ms in [0, 1_000] {
            holders.on_ping(addr(1), at(ms));
            holders.on_ping(addr(2), at(ms));
        }
        holders.on_followed(addr(2));
        assert_eq!(holders.deadline(), Some(at(3_000)));
        assert_eq!(holders.take_pinging(at(2_999)), None);
        let taken = holders.take_pinging(at(3_000));
        assert_eq!(taken.map(|w| (w.from, w.count)), Some((addr(1), 2)));
        assert_eq!(holders.take_pinging(at(9_000)), None);
        assert_eq!(holders.deadline(), None);
    }
}
