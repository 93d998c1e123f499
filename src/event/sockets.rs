//! The UDP sockets of this process: which there are, by which number the tunnel knows each, and which have something to
//! receive. What is sent and received is in `udp`.
//!
//! The sockets of `udp_bind` are there from the start to the end; the number of each is its place among the ports. What is
//! large they share (`batch::Shared`), and a turn of the loop looks only at those that the poll has named.

use super::batch::Batch;
use super::token::FIRST_UDP;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// All UDP sockets, at least one.
pub(super) struct Sockets {
    all: Vec<Entry>,
    /// Places of sockets that have something to receive, in the order of their turns.
    readable: VecDeque<usize>,
    /// Places of sockets for which the system has reports.
    told: Vec<usize>,
}

struct Entry {
    batch: Batch,
    /// It is among the `readable`; and among those that are `told`.
    readable: bool,
    told: bool,
}

impl Entry {
    fn new(batch: Batch) -> Entry {
        Entry {
            batch,
            readable: false,
            told: false,
        }
    }
}

impl Sockets {
    /// The first, and the others in the order of their numbers.
    pub(super) fn new(first: Batch, others: Vec<Batch>) -> Sockets {
        let all = std::iter::once(first).chain(others);
        Sockets {
            all: all.map(Entry::new).collect(),
            readable: VecDeque::new(),
            told: Vec::new(),
        }
    }

    /// The socket in a place.
    pub(super) fn at(&mut self, place: usize) -> &mut Batch {
        &mut self.all[place].batch
    }

    /// Every socket.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Batch> {
        self.all.iter_mut().map(|entry| &mut entry.batch)
    }

    /// The place of the socket that is sent from where the tunnel names this number.
    pub(super) fn place_of(&self, number: u16) -> usize {
        usize::from(number) % self.all.len()
    }

    /// The number of the socket in a place.
    pub(super) fn number_of(&self, place: usize) -> u16 {
        place as u16
    }

    /// The address that the socket of this number is bound to.
    pub(super) fn local(&self, number: u16) -> SocketAddr {
        self.all[self.place_of(number)].batch.local()
    }

    /// Registers all with the poll, which from then on reports what there is to receive.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (place, entry) in self.all.iter_mut().enumerate() {
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
        (place < self.all.len()).then_some(place)
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
    use socket2::{Protocol, Type};

    fn batch() -> Batch {
        let at = "127.0.0.1:0".parse().expect("address");
        let socket = socket::new(at, Type::DGRAM, Protocol::UDP).expect("socket");
        socket.bind(&at.into()).expect("bind");
        Batch::new(socket).expect("options")
    }

    #[test]
    fn sockets_take_turns_and_wait_once_each() {
        let mut sockets = Sockets::new(batch(), vec![batch(), batch()]);
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
    fn any_number_has_a_socket() {
        let sockets = Sockets::new(batch(), vec![batch()]);
        let places = [0, 1, 2, 65_535].map(|number| sockets.place_of(number));
        assert_eq!(places, [0, 1, 0, 1]);
        assert_ne!(sockets.local(0), sockets.local(1));
        let token = |number| sockets.place_by(Token(number));
        assert_eq!(token(FIRST_UDP + 1), Some(1));
        assert_eq!((token(FIRST_UDP + 2), token(0)), (None, None));
    }
}
