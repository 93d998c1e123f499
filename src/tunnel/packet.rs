//! From a packet to a datagram and back: padding and seal; and which key is used while one replaces another. Fresh keys, where
//! an address has some, come first: see `fresh_keys`.

use super::fresh_keys::{FreshKeys, SealedBy};
use crate::crypto::{Rejected, Sealing};
use crate::message::PADDING_MAX;
use crate::settings::ForwardSecrecy;
use crate::time::{Duration, Instant};
use rand::{RngExt, rngs::SmallRng};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// The longest datagram of the protocol.
pub const DATAGRAM_MAX: usize = 1500;
/// The most keys at once, the newest included.
const KEYS_MAX: usize = 4;
/// An address that has used a newer key, and only older ones for so long, has gone back: it was started anew.
const BACK_AFTER: Duration = Duration::from_secs(10);
/// Addresses of which is known which key they use, at most.
const USERS_MAX: usize = 65_536;
/// Other ends are shown a new key when it is there, and again so long after that.
const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// What a datagram is sealed with.
#[derive(Clone, Copy)]
enum Seal {
    /// The key at this place.
    Psk(usize),
    /// The fresh keys of this association.
    Fresh(u32),
}

/// A key that is accepted.
struct Accepted {
    sealing: Sealing,
    serial: u32,
    /// Until when; that of the newest is not looked at.
    until: Instant,
}

/// Seals and opens; without a key, passes through.
pub(super) struct Packets {
    /// The newest last. One of them, or none, unless a key is being replaced.
    keys: Vec<Accepted>,
    serial: u32,
    /// While a key is being replaced: the serial of the key that each address uses, and when it has.
    users: HashMap<SocketAddr, (u32, Instant)>,
    /// Who is to be shown the newest key, when that is done again, and how often it was.
    announce: VecDeque<SocketAddr>,
    announce_again: Option<(Instant, usize)>,
    /// A datagram, while keys are tried on it.
    copy: Vec<u8>,
    pub(super) fresh: FreshKeys,
    rng: SmallRng,
}

impl Packets {
    pub(super) fn new(
        sealing: Option<Sealing>,
        rng: SmallRng,
        forward_secrecy: ForwardSecrecy,
    ) -> Packets {
        let mut packets = Packets {
            keys: Vec::new(),
            serial: 0,
            users: HashMap::new(),
            announce: VecDeque::new(),
            announce_again: None,
            copy: Vec::new(),
            fresh: FreshKeys::new(forward_secrecy),
            rng,
        };
        if let Some(sealing) = sealing {
            packets.add(sealing);
        }
        packets
    }

    fn add(&mut self, sealing: Sealing) {
        self.serial += 1;
        self.keys.push(Accepted {
            sealing,
            serial: self.serial,
            until: Instant::NEVER,
        });
    }

    /// What sealing adds to a packet, bytes; the same for all keys.
    pub(super) fn overhead(&self) -> usize {
        self.keys.last().map_or(0, |key| key.sealing.overhead())
    }

    pub(super) fn sealed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// All keys with their serial numbers, the newest first.
    pub(super) fn psks(&self) -> impl Iterator<Item = (&Sealing, u32)> {
        let all = self.keys.iter().rev();
        all.map(|key| (&key.sealing, key.serial))
    }

    /// The newest key or, if that is the one of this serial number, the one before it, if there is one.
    pub(super) fn psk_other_than(&self, serial: Option<u32>) -> Option<(&Sealing, u32)> {
        let other = self.psks().take(2).find(|psk| Some(psk.1) != serial);
        other.or(self.psks().next())
    }

    /// From now on this key is accepted, too, and used to send to whoever has used it. The present ones go on being
    /// accepted until `until`, and one of them is used to send to all others. False, and nothing changes, if it is the
    /// newest one already. Its overhead must be that of the present one; without a key there is nothing to replace.
    pub(super) fn replace(&mut self, sealing: Sealing, until: Instant) -> bool {
        let same = |key: &Accepted| key.sealing.is_like(&sealing);
        let Some(newest) = self.keys.last_mut() else {
            return false;
        };
        if same(newest) || newest.sealing.overhead() != sealing.overhead() {
            return false;
        }
        newest.until = until;
        match self.keys.iter().position(same) {
            // its nonces must not be forgotten
            Some(place) => {
                let mut back = self.keys.remove(place);
                self.serial += 1;
                (back.serial, back.until) = (self.serial, Instant::NEVER);
                self.keys.push(back);
            }
            None => self.add(sealing),
        }
        if self.keys.len() > KEYS_MAX {
            self.keys.remove(0);
        }
        self.announce_again = None;
        true
    }

    /// Has the newest key be shown to these addresses.
    pub(super) fn announce(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        let newest = self.serial_of_newest();
        self.announce = addresses.into();
        self.announce.retain(|a| {
            self.users.get(a).map(|user| user.0) != newest && self.fresh.at(*a).is_none()
        });
        let done = self.announce_again.map_or(0, |(_, done)| done + 1);
        let pause = ANNOUNCE_AGAIN.get(done);
        self.announce_again = pause.map(|pause| (now.after(*pause), done));
    }

    /// The next address that is to be shown the newest key, by a datagram of `seal_newly`.
    pub(super) fn next_to_announce_to(&mut self) -> Option<SocketAddr> {
        self.announce.pop_front()
    }

    pub(super) fn announces_again_at(&self) -> Option<Instant> {
        self.announce_again.map(|(at, _)| at)
    }

    /// When a key ends that was replaced.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        let (_, older) = self.keys.split_last()?;
        older.iter().map(|key| key.until).min()
    }

    /// Drops the keys whose time has come. True if only the newest is left.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let newest = self.serial_of_newest();
        self.keys
            .retain(|key| key.until > now || Some(key.serial) == newest);
        let serials: Vec<u32> = self.psks().map(|psk| psk.1).collect();
        self.fresh.keep_only(&serials);
        let over = self.keys.len() == 1;
        if over {
            self.users = HashMap::new();
            self.copy = Vec::new();
            self.announce_again = None;
        }
        over
    }

    fn serial_of_newest(&self) -> Option<u32> {
        self.keys.last().map(|key| key.serial)
    }

    /// Makes a datagram for `to` of the packet in `buf[..len]`, in place; `most` is the size of the path's largest packet.
    /// Returns the datagram's length.
    pub(super) fn seal_for(
        &mut self,
        to: SocketAddr,
        buf: &mut [u8],
        len: usize,
        most: usize,
    ) -> usize {
        match self.place_for(to) {
            Some(place) => self.seal_with(place, buf, len, most),
            None => len,
        }
    }

    /// As `seal_for`, with the key of this serial number, or the newest.
    pub(super) fn seal_under(
        &mut self,
        serial: u32,
        buf: &mut [u8],
        len: usize,
        most: usize,
    ) -> usize {
        let place = self.keys.iter().position(|key| key.serial == serial);
        match place {
            Some(place) => self.seal_with(Seal::Psk(place), buf, len, most),
            None => self.seal_newly(buf, len, most),
        }
    }

    /// As `seal_for`, with the datagram as long as one of a packet of `most` bytes, if padding can make it so: one more for
    /// a GSO batch.
    pub(super) fn seal_padded_for(
        &mut self,
        to: SocketAddr,
        buf: &mut [u8],
        len: usize,
        most: usize,
    ) -> usize {
        let missing = most.saturating_sub(len);
        match self.place_for(to) {
            Some(place) if missing <= PADDING_MAX => self.seal(place, buf, len, missing),
            Some(place) => self.seal_with(place, buf, len, most),
            None => len,
        }
    }

    fn place_for(&self, to: SocketAddr) -> Option<Seal> {
        if let Some(id) = self.fresh.at(to) {
            return Some(Seal::Fresh(id));
        }
        match self.keys.len() {
            0 => None,
            1 => Some(Seal::Psk(0)),
            _ => Some(Seal::Psk(self.place_of(to))),
        }
    }

    /// As `seal_for`, always with the newest key.
    pub(super) fn seal_newly(&mut self, buf: &mut [u8], len: usize, most: usize) -> usize {
        match self.keys.len() {
            0 => len,
            n => self.seal_with(Seal::Psk(n - 1), buf, len, most),
        }
    }

    fn seal_with(&mut self, place: Seal, buf: &mut [u8], len: usize, most: usize) -> usize {
        let room = most.saturating_sub(len).min(PADDING_MAX);
        // hides the exact size of short messages
        let padding = self.rng.random_range(0..=room);
        self.seal(place, buf, len, padding)
    }

    fn seal(&mut self, place: Seal, buf: &mut [u8], len: usize, padding: usize) -> usize {
        buf[len..len + padding].fill(padding as u8);
        match place {
            Seal::Psk(place) => self.keys[place].sealing.seal(buf, len + padding),
            // there are keys: what there are none for is withheld
            Seal::Fresh(id) => self.fresh.seal(id, buf, len + padding).unwrap_or_default(),
        }
    }

    /// Where the key is that an address uses: the oldest if it is not known to have another.
    fn place_of(&self, addr: SocketAddr) -> usize {
        let serial = self.users.get(&addr).map(|user| user.0);
        let known = |serial| self.keys.iter().position(|key| key.serial == serial);
        serial.and_then(known).unwrap_or(0)
    }

    /// The number of a datagram among those of its sender, if they are numbered.
    pub(super) fn number(&self, datagram: &[u8]) -> Option<u128> {
        self.keys.last()?.sealing.number(datagram)
    }

    /// The packet in a datagram, and what it was sealed with.
    pub(super) fn open<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &'a mut [u8],
    ) -> Result<(&'a mut [u8], SealedBy), Rejected> {
        let Some(newest) = self.keys.last() else {
            return Ok((datagram, SealedBy::Nothing));
        };
        if let Some(place) = self.fresh.find(newest.sealing.method(), datagram) {
            let packet = self.fresh.open(place, from, datagram, now)?;
            return Ok((packet, SealedBy::Fresh(place.0)));
        }
        match &mut self.keys[..] {
            [only] => {
                let under = SealedBy::Psk(only.serial);
                Ok((only.sealing.open(datagram)?, under))
            }
            _ => self.open_with_any(now, from, datagram),
        }
    }

    fn open_with_any<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &'a mut [u8],
    ) -> Result<(&'a mut [u8], SealedBy), Rejected> {
        self.copy.clear();
        self.copy.extend_from_slice(datagram);
        let first = self.place_of(from);
        let others = (0..self.keys.len()).rev().filter(|place| *place != first);
        let mut why = None;
        for place in std::iter::once(first).chain(others) {
            if why.is_some() {
                // what a failed attempt leaves is not specified
                datagram.copy_from_slice(&self.copy);
            }
            let key = &mut self.keys[place];
            match key.sealing.open(datagram).map(|packet| packet.len()) {
                Ok(len) => {
                    let serial = key.serial;
                    self.note_user(now, from, serial);
                    return Ok((&mut datagram[..len], SealedBy::Psk(serial)));
                }
                // a copy is one whatever the other keys make of it
                Err(e) if why != Some(Rejected::Replay) => why = Some(e),
                Err(_) => {}
            }
        }
        Err(why.unwrap_or(Rejected::Seal))
    }

    fn note_user(&mut self, now: Instant, addr: SocketAddr, serial: u32) {
        if let Some((last, at)) = self.users.get_mut(&addr) {
            // what was sealed with an older key may just be late
            if serial >= *last || now.since(*at) >= BACK_AFTER {
                (*last, *at) = (serial, now);
            }
            return;
        }
        if self.users.len() >= USERS_MAX {
            // whoever is still there will be heard again
            self.users.clear();
        }
        self.users.insert(addr, (serial, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Key, Method};
    use rand::SeedableRng;

    const UNTIL: Instant = Instant::from_millis(600_000);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn sealing(password: &str) -> Sealing {
        Sealing::new(Method::Chacha20Poly1305Ietf, &Key::from_password(password))
    }

    fn packets(password: &str) -> Packets {
        Packets::new(
            Some(sealing(password)),
            SmallRng::seed_from_u64(1),
            ForwardSecrecy::Off,
        )
    }

    fn send(from: &mut Packets, to: SocketAddr) -> Vec<u8> {
        let mut buf = [7; 100];
        let len = from.seal_for(to, &mut buf, 20, 20);
        buf[..len].to_vec()
    }

    fn opens(by: &mut Packets, from: SocketAddr, mut datagram: Vec<u8>) -> Result<(), Rejected> {
        by.open(Instant::ZERO, from, &mut datagram)
            .map(|(packet, _)| assert_eq!(packet[..20], [7; 20]))
    }

    #[test]
    fn a_new_key_is_used_for_whoever_has_used_it() {
        let (mut here, mut there) = (packets("old"), packets("old"));
        let mut stranger = packets("new");
        assert!(here.replace(sealing("new"), UNTIL));
        // the other end knows the old one only
        assert_eq!(opens(&mut there, at(1), send(&mut here, at(2))), Ok(()));
        assert_eq!(opens(&mut here, at(2), send(&mut there, at(1))), Ok(()));
        // it gets the new one, and is shown that it may use it
        assert!(there.replace(sealing("new"), UNTIL));
        assert_eq!(opens(&mut here, at(2), send(&mut there, at(1))), Ok(()));
        let mut hello = [7; 100];
        let len = there.seal_newly(&mut hello, 20, 20);
        assert_eq!(opens(&mut here, at(2), hello[..len].to_vec()), Ok(()));
        let datagram = send(&mut here, at(2));
        assert_eq!(opens(&mut stranger, at(1), datagram.clone()), Ok(()));
        assert_eq!(opens(&mut there, at(1), datagram), Ok(()));
        // and another address still gets the old one
        let other = send(&mut here, at(3));
        assert_eq!(opens(&mut stranger, at(1), other), Err(Rejected::Seal));
        assert!(here.expire(UNTIL));
        let other = send(&mut here, at(3));
        assert_eq!(opens(&mut stranger, at(1), other), Ok(()));
    }

    #[test]
    fn late_datagrams_do_not_bring_the_old_key_back_and_a_restart_does() {
        let (mut here, mut there) = (packets("old"), packets("old"));
        let late = send(&mut there, at(1));
        here.replace(sealing("new"), UNTIL);
        there = packets("new");
        assert_eq!(opens(&mut here, at(2), send(&mut there, at(1))), Ok(()));
        assert_eq!(opens(&mut here, at(2), late), Ok(()));
        assert_eq!(opens(&mut there, at(1), send(&mut here, at(2))), Ok(()));
        let mut restarted = packets("old");
        let mut datagram = send(&mut restarted, at(1));
        let now = Instant::ZERO.after(BACK_AFTER);
        assert!(here.open(now, at(2), &mut datagram).is_ok());
        let datagram = send(&mut here, at(2));
        assert_eq!(opens(&mut restarted, at(1), datagram), Ok(()));
    }

    #[test]
    fn an_old_key_ends_in_time_and_copies_stay_copies() {
        let (mut here, mut there) = (packets("old"), packets("old"));
        let datagram = send(&mut there, at(1));
        assert_eq!(opens(&mut here, at(2), datagram.clone()), Ok(()));
        let late = send(&mut there, at(1));
        assert!(here.replace(sealing("new"), UNTIL));
        assert!(!here.replace(sealing("new"), UNTIL), "it is the same");
        assert_eq!(
            opens(&mut here, at(2), datagram.clone()),
            Err(Rejected::Replay)
        );
        // back again: what was seen is not forgotten
        assert!(here.replace(sealing("old"), UNTIL));
        assert_eq!(opens(&mut here, at(2), datagram), Err(Rejected::Replay));
        assert!(here.replace(sealing("new"), UNTIL));
        assert_eq!(here.expires_at(), Some(UNTIL));
        assert!(!here.expire(Instant::from_millis(1)));
        assert!(here.expire(UNTIL));
        assert_eq!(here.expires_at(), None);
        assert_eq!(opens(&mut here, at(2), late), Err(Rejected::Seal));
    }

    #[test]
    fn keys_are_few_and_of_one_overhead() {
        let mut here = packets("0");
        for password in ["1", "2", "3", "4", "5"] {
            assert!(here.replace(sealing(password), UNTIL));
        }
        assert_eq!(here.keys.len(), KEYS_MAX);
        let key = Key::from_password("6");
        let longer = Sealing::new(Method::Xchacha20Poly1305Ietf, &key);
        assert!(!here.replace(longer, UNTIL));
        let mut open = Packets::new(None, SmallRng::seed_from_u64(1), ForwardSecrecy::Off);
        assert!(!open.replace(sealing("1"), UNTIL) && !open.sealed());
    }
}
