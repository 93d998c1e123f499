//! The UDP sockets of this process: which there are, by which number the tunnel knows each, and which have something to
//! receive. What is sent and received is in `udp`.
//!
//! The sockets of `udp_bind` are there from the start to the end; the number of each is its place among the ports. An end
//! without `udp_bind` begins with one, and gets another, at a port that the system chooses, with each higher number that the
//! tunnel names; numbers wrap. What is large they share (`batch::Shared`), and a turn of the loop looks only at those that
//! the poll has named.

use super::batch::Batch;
use super::token::FIRST_UDP;
use crate::time::{Duration, Instant};
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// The most sockets whose ports the system chooses.
const FREE_MAX: usize = 16;
/// How long such a socket is kept that is not the latest and from which nothing is sent.
const UNUSED_LIFETIME: Duration = Duration::from_secs(15);

/// All UDP sockets, at least one.
pub(super) struct Sockets {
    /// By place.
    all: Slab<Entry>,
    /// None: the sockets are those of `udp_bind`. Otherwise the highest number, which has a socket.
    latest: Option<u16>,
    /// Places of sockets that have something to receive, in the order of their turns.
    readable: VecDeque<usize>,
    /// Places of sockets for which the system has reports.
    told: Vec<usize>,
}

struct Entry {
    batch: Batch,
    number: u16,
    /// When the tunnel last sent from it.
    used: Instant,
    /// It is among the `readable`; and among those that are `told`.
    readable: bool,
    told: bool,
}

impl Entry {
    fn new(batch: Batch, number: u16, now: Instant) -> Entry {
        Entry {
            batch,
            number,
            used: now,
            readable: false,
            told: false,
        }
    }
}

impl Sockets {
    /// Those of `udp_bind`: the first, and the others in the order of their numbers.
    pub(super) fn fixed(first: Batch, others: Vec<Batch>) -> Sockets {
        let all = std::iter::once(first).chain(others).zip(0..);
        let entry = |(batch, place)| {
            let number = place as u16;
            (place, Entry::new(batch, number, Instant::ZERO))
        };
        Sockets {
            all: all.map(entry).collect(),
            latest: None,
            readable: VecDeque::new(),
            told: Vec::new(),
        }
    }

    /// From now on there are as many as the tunnel names. The present one has this number.
    pub(super) fn set_free(&mut self, number: u16) {
        self.latest = Some(number);
        for (_, entry) in &mut self.all {
            entry.number = number;
        }
    }

    /// The highest number so far; 0 where it means nothing.
    pub(super) fn latest(&self) -> u16 {
        self.latest.unwrap_or(0)
    }

    /// The socket in a place.
    pub(super) fn at(&mut self, place: usize) -> &mut Batch {
        &mut self.all[place].batch
    }

    /// Every socket.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Batch> {
        self.all.iter_mut().map(|(_, entry)| &mut entry.batch)
    }

    /// Whether a socket is to be made before this number is sent from: it is higher than all before.
    pub(super) fn lacks(&self, number: u16) -> bool {
        let ahead = |latest: u16| (number.wrapping_sub(latest) as i16) > 0;
        self.latest.is_some_and(ahead)
    }

    /// Takes over a new socket as that of a number that was lacking, and has the poll report what there is to receive. The one
    /// that was sent from longest ago is closed where there would be too many.
    pub(super) fn add(
        &mut self,
        mut batch: Batch,
        number: u16,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<()> {
        while self.all.len() >= FREE_MAX {
            let Some(place) = self.oldest() else {
                break;
            };
            self.close(place);
        }
        let entry = self.all.vacant_entry();
        let token = Token(FIRST_UDP + entry.key());
        registry.register(&mut batch.socket, token, Interest::READABLE)?;
        entry.insert(Entry::new(batch, number, now));
        self.latest = Some(number);
        Ok(())
    }

    /// There can be no socket of its own for this number: the latest is that of this number, too, from now on.
    pub(super) fn do_without(&mut self, number: u16) {
        let place = self.place_of(self.latest());
        self.all[place].number = number;
        self.latest = Some(number);
    }

    /// The place of the socket that is sent from where the tunnel names this number: where it was closed, the latest.
    pub(super) fn place_of(&self, number: u16) -> usize {
        let Some(latest) = self.latest else {
            return usize::from(number) % self.all.len();
        };
        let place_by = |number| self.all.iter().find(|(_, entry)| entry.number == number);
        let found = place_by(number).or_else(|| place_by(latest));
        found.map_or(0, |(place, _)| place)
    }

    /// The tunnel sends from the socket in a place.
    pub(super) fn note_used(&mut self, place: usize, now: Instant) {
        self.all[place].used = now;
    }

    /// The number of the socket in a place.
    pub(super) fn number_of(&self, place: usize) -> u16 {
        self.all[place].number
    }

    /// The address that the socket of this number is bound to.
    pub(super) fn local(&self, number: u16) -> SocketAddr {
        self.all[self.place_of(number)].batch.local()
    }

    /// When the next socket is to be closed that is not used. None: there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        let latest = self.latest?;
        let unused = self.all.iter().filter(|(_, e)| e.number != latest);
        unused.map(|(_, e)| e.used.after(UNUSED_LIFETIME)).min()
    }

    /// Closes the sockets that are not used any more.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now) {
            let Some(place) = self.oldest() else {
                break;
            };
            self.close(place);
        }
    }

    /// The place of the one that was sent from longest ago, but for the latest.
    fn oldest(&self) -> Option<usize> {
        let latest = self.latest?;
        let others = self.all.iter().filter(|(_, e)| e.number != latest);
        others.min_by_key(|(_, e)| e.used).map(|(place, _)| place)
    }

    fn close(&mut self, place: usize) {
        self.all.remove(place);
        self.readable.retain(|other| *other != place);
        self.told.retain(|other| *other != place);
    }

    /// Registers all with the poll, which from then on reports what there is to receive.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (place, entry) in &mut self.all {
            let token = Token(FIRST_UDP + place);
            // Only readable: Linux would report every datagram that leaves as room to write.
            registry.register(&mut entry.batch.socket, token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Has the poll report that of the socket in a place from now on.
    pub(super) fn watch(
        &mut self,
        registry: &Registry,
        place: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let token = Token(FIRST_UDP + place);
        registry.reregister(&mut self.at(place).socket, token, interest)
    }

    /// The place of the socket that the poll names by a token. None: there is none.
    pub(super) fn place_by(&self, token: Token) -> Option<usize> {
        let place = token.0.checked_sub(FIRST_UDP)?;
        self.all.contains(place).then_some(place)
    }

    /// There may be something to receive: the socket has its turn after the others.
    pub(super) fn mark_readable(&mut self, place: usize) {
        if !std::mem::replace(&mut self.all[place].readable, true) {
            self.readable.push_back(place);
        }
    }

    /// The place of the next that has something to receive; it has to be marked again if that is still so.
    pub(super) fn next_readable(&mut self) -> Option<usize> {
        let place = self.readable.pop_front()?;
        self.all[place].readable = false;
        Some(place)
    }

    /// Whether any has something to receive.
    pub(super) fn are_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Notes it if the system has reports for a socket that was just used.
    pub(super) fn note_told(&mut self, place: usize) {
        let entry = &mut self.all[place];
        if entry.batch.is_told() && !std::mem::replace(&mut entry.told, true) {
            self.told.push(place);
        }
    }

    /// The addresses at which nothing receives at the port, as `Batch::refusals` has them.
    pub(super) fn refusals(&mut self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for place in std::mem::take(&mut self.told) {
            self.all[place].told = false;
            all.extend(self.at(place).refusals());
            self.note_told(place);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::socket;
    use crate::time::SEC;
    use mio::Poll;
    use socket2::{Protocol, Type};

    fn batch() -> Batch {
        let at = "127.0.0.1:0".parse().expect("address");
        let socket = socket::new(at, Type::DGRAM, Protocol::UDP).expect("socket");
        socket.bind(&at.into()).expect("bind");
        Batch::new(socket).expect("options")
    }

    #[test]
    fn sockets_take_turns_and_wait_once_each() {
        let mut sockets = Sockets::fixed(batch(), vec![batch(), batch()]);
        for place in [2, 0, 2, 1, 0] {
            sockets.mark_readable(place);
        }
        assert_eq!(sockets.next_readable(), Some(2));
        // there is more
        sockets.mark_readable(2);
        let rest: Vec<usize> = std::iter::from_fn(|| sockets.next_readable()).collect();
        assert_eq!(rest, [0, 1, 2]);
        assert!(!sockets.are_readable());
    }

    #[test]
    fn any_number_has_a_socket_of_those_that_are_configured() {
        let sockets = Sockets::fixed(batch(), vec![batch()]);
        let places = [0, 1, 2, 65_535].map(|number| sockets.place_of(number));
        assert_eq!(places, [0, 1, 0, 1]);
        assert_ne!(sockets.local(0), sockets.local(1));
        let token = |number| sockets.place_by(Token(number));
        assert_eq!(token(FIRST_UDP + 1), Some(1));
        assert_eq!((token(FIRST_UDP + 2), token(0)), (None, None));
        assert!(!sockets.lacks(1));
        assert_eq!(sockets.due(), None);
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO.after(secs * SEC)
    }

    /// Sockets as an end without `udp_bind` has them.
    struct Free {
        sockets: Sockets,
        poll: Poll,
    }

    impl Free {
        fn new(first: u16) -> Free {
            let mut sockets = Sockets::fixed(batch(), Vec::new());
            sockets.set_free(first);
            let poll = Poll::new().expect("poll");
            sockets.register(poll.registry()).expect("register");
            Free { sockets, poll }
        }

        fn send_from(&mut self, number: u16, now: Instant) -> SocketAddr {
            if self.sockets.lacks(number) {
                let registry = self.poll.registry();
                let added = self.sockets.add(batch(), number, registry, now);
                added.expect("register");
            }
            let place = self.sockets.place_of(number);
            self.sockets.note_used(place, now);
            self.sockets.local(number)
        }

        fn numbers(&self) -> Vec<u16> {
            let mut all: Vec<u16> = self.sockets.all.iter().map(|(_, e)| e.number).collect();
            all.sort_unstable();
            all
        }
    }

    #[test]
    fn a_higher_number_gets_a_socket_and_a_lower_one_that_was_closed_the_latest() {
        let mut free = Free::new(u16::MAX);
        let first = free.send_from(u16::MAX, at(0));
        // numbers wrap
        let second = free.send_from(0, at(1));
        assert_ne!(first, second);
        assert_eq!(free.send_from(u16::MAX, at(2)), first);
        free.sockets.expire(at(16));
        assert_eq!(free.numbers(), [0, u16::MAX]);
        // the latest stays, however long it is not used
        assert_eq!(free.sockets.due(), Some(at(17)));
        free.sockets.expire(at(17));
        assert_eq!(free.numbers(), [0]);
        assert_eq!(free.sockets.due(), None);
        assert_eq!(free.send_from(u16::MAX, at(18)), second);
        assert_eq!(free.send_from(65_000, at(18)), second);
        assert_eq!(free.numbers(), [0]);
    }

    #[test]
    fn the_one_that_was_used_longest_ago_makes_room() {
        let mut free = Free::new(0);
        for number in 1..16 {
            free.send_from(number, at(1));
        }
        free.send_from(0, at(2));
        free.send_from(5, at(0));
        free.send_from(100, at(3));
        assert_eq!(free.numbers().len(), FREE_MAX);
        assert!(!free.numbers().contains(&5) && free.numbers().contains(&0));
        // one that had something to receive is not asked for it
        let place = free.sockets.place_of(1);
        free.sockets.mark_readable(place);
        free.send_from(1, at(0));
        free.send_from(101, at(3));
        assert_eq!(free.sockets.next_readable(), None);
    }

    #[test]
    fn where_there_can_be_no_further_socket_the_latest_takes_the_number() {
        let mut free = Free::new(7);
        let only = free.send_from(7, at(0));
        free.sockets.do_without(8);
        assert!(!free.sockets.lacks(8) && free.sockets.lacks(9));
        assert_eq!(
            (free.send_from(8, at(0)), free.send_from(7, at(0))),
            (only, only)
        );
        assert_eq!(free.numbers(), [8]);
    }
}
