//! Packets that wait a moment, few and not for long: for the validation of their address, or for their sender's first use of fresh
//! keys. Which have to is decided in `inbound`.
//! They are opened already, so that a copy of them is a replay.

use super::inbound::Arrival;
use super::sources::source;
use crate::time::{Duration, Instant};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// The most packets that wait, and the most of one source, whatever its port: 0.7 MB in all.
const PACKETS_MAX: usize = 512;
const PACKETS_EACH_MAX: usize = 32;
/// How long they wait: the longest round trip that is worth it.
const PATIENCE: Duration = Duration::from_secs(3);
/// A source is pinged for its packets no oftener than this.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Packet {
    pub(super) arrival: Arrival,
    pub(super) came_at: Instant,
    pub(super) bytes: Vec<u8>,
}

impl Packet {
    pub(super) fn new(arrival: Arrival, packet: &[u8], now: Instant) -> Packet {
        Packet {
            arrival,
            came_at: now,
            bytes: packet.to_vec(),
        }
    }
}

#[derive(Default)]
pub(super) struct Waiting {
    packets: VecDeque<Packet>,
    /// How many there are of each source, and when one of its ports was last pinged.
    sources: HashMap<IpAddr, (usize, SocketAddr, Instant)>,
}

impl Waiting {
    /// Keeps a packet, unless there are too many of its source; the oldest makes room. True if its source is to be pinged.
    pub(super) fn put(&mut self, packet: Packet, now: Instant) -> bool {
        self.expire(now);
        let from = packet.arrival.from;
        let unused = (0, from, Instant::ZERO);
        let (count, asked, at) = self.sources.entry(source(from)).or_insert(unused);
        let ask = *count == 0 || *asked != from || now.since(*at) >= ASK_AGAIN;
        if ask {
            (*asked, *at) = (from, now);
        }
        if *count < PACKETS_EACH_MAX {
            *count += 1;
            self.packets.push_back(packet);
        }
        if self.packets.len() > PACKETS_MAX {
            self.drop_oldest();
        }
        ask
    }

    /// Takes what waits from an address, in the order of its coming.
    pub(super) fn take(&mut self, from: SocketAddr) -> Vec<Packet> {
        if !self.sources.contains_key(&source(from)) {
            return Vec::new();
        }
        let (taken, left) = std::mem::take(&mut self.packets)
            .into_iter()
            .partition::<Vec<_>, _>(|p| p.arrival.from == from);
        self.packets = left.into();
        taken.iter().for_each(|_| self.uncount(source(from)));
        taken
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let old = |p: &Packet| now.since(p.came_at) >= PATIENCE;
        while self.packets.front().is_some_and(old) {
            self.drop_oldest();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    fn drop_oldest(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.uncount(source(packet.arrival.from));
        }
    }

    fn uncount(&mut self, ip: IpAddr) {
        if let Some((count, ..)) = self.sources.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Local;

    fn packet(from: &str) -> Packet {
        let arrival = Arrival {
            from: from.parse().unwrap(),
            local: Local::default(),
            number: None,
            under: super::super::fresh_keys::SealedBy::Nothing,
        };
        Packet::new(arrival, &[0; 24], Instant::from_millis(5))
    }

    #[test]
    fn few_wait_and_not_for_long() {
        let mut waiting = Waiting::default();
        let at = Instant::from_millis;
        assert!(waiting.put(packet("192.0.2.1:1"), at(1)));
        assert!(!waiting.put(packet("192.0.2.1:1"), at(2)));
        assert!(waiting.put(packet("192.0.2.1:2"), at(3)), "another port");
        (0..100).for_each(|_| _ = waiting.put(packet("192.0.2.1:1"), at(4)));
        assert_eq!(waiting.len(), PACKETS_EACH_MAX);
        for host in 0..200 {
            (0..5).for_each(|_| _ = waiting.put(packet(&format!("192.0.2.{host}:1")), at(5)));
        }
        assert_eq!(waiting.len(), PACKETS_MAX);
        assert_eq!(waiting.take("192.0.2.199:1".parse().unwrap()).len(), 5);
        assert!(waiting.take("192.0.2.199:1".parse().unwrap()).is_empty());
        waiting.expire(at(4_000));
        assert!(waiting.len() == 0 && waiting.sources.is_empty());
    }
}
