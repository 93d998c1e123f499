//! Sessions that other ends have begun, by their source: none gets all of what there is. An address is as good as its owner
//! where there is no key, and even with one an end may have gone mad. Only counts are kept here; the sessions
//! are in `sessions`, and what follows from a refusal in `inbound`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Sessions that have not dialled yet, at most, and the bytes of the packets that they were sent: what comes before a lost
/// first segment has to be kept.
struct HalfOpenLimit {
    sessions: usize,
    bytes: usize,
}

/// For all together, and for one source.
const ALL: HalfOpenLimit = HalfOpenLimit {
    sessions: 1024,
    bytes: 8 << 20,
};
const EACH: HalfOpenLimit = HalfOpenLimit {
    sessions: 256,
    bytes: 2 << 20,
};

/// Whom an address belongs to, as well as one can tell: a network of IPv6 is one source.
pub(super) fn source(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        four => four,
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    sessions: usize,
    half_open: usize,
    half_open_bytes: usize,
}

#[derive(Default)]
pub(super) struct Sources {
    all: Counts,
    each: HashMap<IpAddr, Counts>,
}

impl Sources {
    fn of(&self, source: IpAddr) -> Counts {
        self.each.get(&source).copied().unwrap_or_default()
    }

    /// Sessions that a source has in the table.
    pub(super) fn sessions(&self, source: IpAddr) -> usize {
        self.of(source).sessions
    }

    pub(super) fn half_open(&self) -> usize {
        self.all.half_open
    }

    pub(super) fn half_open_bytes(&self) -> usize {
        self.all.half_open_bytes
    }

    /// Whether a source may begin a session without its dial.
    pub(super) fn admits(&self, source: IpAddr) -> bool {
        self.all.half_open < ALL.sessions && self.of(source).half_open < EACH.sessions
    }

    /// Whether so many more bytes may be kept for the sessions of a source that have not dialled.
    pub(super) fn has_room(&self, source: IpAddr, bytes: usize) -> bool {
        let fits =
            |counts: Counts, most: HalfOpenLimit| counts.half_open_bytes + bytes <= most.bytes;
        fits(self.all, ALL) && fits(self.of(source), EACH)
    }

    fn change(&mut self, source: IpAddr, change: impl Fn(&mut Counts)) {
        change(&mut self.all);
        let counts = self.each.entry(source).or_default();
        change(counts);
        if counts.sessions == 0 {
            self.each.remove(&source);
        }
    }

    /// A session begins, half-open.
    pub(super) fn begin(&mut self, source: IpAddr) {
        self.change(source, |counts| {
            counts.sessions += 1;
            counts.half_open += 1;
        });
    }

    pub(super) fn keep(&mut self, source: IpAddr, bytes: usize) {
        self.change(source, |counts| counts.half_open_bytes += bytes);
    }

    /// A session is not half-open any more, for which so many bytes were kept.
    pub(super) fn leave_half_open(&mut self, source: IpAddr, bytes: usize) {
        self.change(source, |counts| {
            counts.half_open -= 1;
            counts.half_open_bytes -= bytes;
        });
    }

    /// A session has left the table.
    pub(super) fn end(&mut self, source: IpAddr) {
        self.change(source, |counts| counts.sessions -= 1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff:0:0:2]:9"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.1:9"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.2:1"));
    }

    #[test]
    fn one_source_leaves_room_for_others() {
        let mut sources = Sources::default();
        let at = |host: u32| IpAddr::from(host.to_be_bytes());
        for _ in 0..EACH.sessions {
            assert!(sources.admits(at(1)));
            sources.begin(at(1));
        }
        assert!(!sources.admits(at(1)) && sources.admits(at(2)));
        sources.keep(at(1), EACH.bytes);
        assert!(!sources.has_room(at(1), 1) && sources.has_room(at(2), 1));
        for host in 2..10 {
            while sources.admits(at(host)) {
                sources.begin(at(host));
            }
        }
        assert_eq!(sources.half_open(), ALL.sessions);
        sources.leave_half_open(at(1), EACH.bytes);
        assert!(sources.admits(at(1)) && sources.half_open_bytes() == 0);
        assert_eq!(sources.sessions(at(1)), EACH.sessions);
        for _ in 0..EACH.sessions {
            sources.end(at(1));
        }
        assert_eq!(sources.sessions(at(1)), 0);
        assert!(!sources.each.contains_key(&at(1)));
    }
}
