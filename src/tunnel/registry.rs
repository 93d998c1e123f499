//! What a rendezvous server knows: which service is where. Bounded in all and for each source, since without a key
//! anybody can register. Messages and their meaning are in `rendezvous`.

use super::sources::source;
use crate::path::Local;
use crate::time::{Duration, Instant};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Services known at once, at most.
const SERVICES_MAX: usize = 4096;
/// Services of one source, at most: many servers may stand behind one address of a provider's NAT.
const SERVICES_OF_SOURCE: u32 = 64;
/// Places for servers whose address is not validated yet. A new one
/// takes the place of the oldest. A power of two: a token's low bits name the place.
const UNCONFIRMED_MAX: usize = 4096;
/// Punches to one source: one in this span, and some more at once.
const PUNCH_EVERY: Duration = Duration::from_millis(250);
const PUNCHES_AHEAD: u64 = 8;
/// How often what has expired is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Where a server is: as it says itself, and as it is seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub own: SocketAddr,
    pub seen: SocketAddr,
    /// The address of this machine that it sends to, if that is known: its NAT takes answers only from there.
    pub here: Local,
}

struct Service {
    place: Place,
    expires: Instant,
}

struct Unconfirmed {
    id: Box<[u8]>,
    place: Place,
    token: u32,
}

/// What one source has here.
#[derive(Default)]
struct Source {
    services: u32,
    /// When the punches that it was sent are paid for.
    paid_at: Instant,
}

/// What follows from a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Registered {
    /// It was known, and still is.
    Refreshed,
    /// It counts once a pong with this value comes from there.
    Challenge(u32),
    /// There is no room.
    Full,
}

/// Why a client is not told where a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotFound {
    Unknown,
    TooOften,
}

/// Services and their servers.
pub(super) struct Registry {
    services: HashMap<Box<[u8]>, Service>,
    sources: HashMap<IpAddr, Source>,
    /// By the low bits of its token.
    unconfirmed: Vec<Option<Unconfirmed>>,
    serial: usize,
    sweep_at: Instant,
    /// How long a registration holds.
    lasts: Duration,
}

impl Registry {
    pub(super) fn new(lasts: Duration) -> Registry {
        Registry {
            services: HashMap::new(),
            sources: HashMap::new(),
            unconfirmed: Vec::new(),
            serial: 0,
            sweep_at: Instant::NEVER,
            lasts,
        }
    }

    /// How long a registration holds from its next refresh on.
    pub(super) fn set_lasts(&mut self, lasts: Duration) {
        self.lasts = lasts;
    }

    pub(super) fn len(&self) -> usize {
        self.services.len()
    }

    /// A server says where it is. `random` makes the token that validates its address.
    pub(super) fn register(
        &mut self,
        id: &[u8],
        place: Place,
        random: u32,
        now: Instant,
    ) -> Registered {
        let service = self.services.get_mut(id);
        if let Some(service) = service.filter(|service| service.place.seen == place.seen) {
            service.place = place;
            service.expires = now.after(self.lasts);
            return Registered::Refreshed;
        }
        if !self.has_room(id, place) {
            return Registered::Full;
        }
        let slot = self.serial % UNCONFIRMED_MAX;
        self.serial = self.serial.wrapping_add(1);
        let token = random & !(UNCONFIRMED_MAX as u32 - 1) | slot as u32;
        if self.unconfirmed.len() <= slot {
            self.unconfirmed.resize_with(slot + 1, || None);
        }
        self.unconfirmed[slot] = Some(Unconfirmed {
            id: id.into(),
            place,
            token,
        });
        Registered::Challenge(token)
    }

    fn has_room(&self, id: &[u8], place: Place) -> bool {
        let source = self.sources.get(&source(place.seen));
        let of_source = source.map_or(0, |source| source.services);
        of_source < SERVICES_OF_SOURCE
            && (self.services.contains_key(id) || self.services.len() < SERVICES_MAX)
    }

    /// A pong came. True if it confirms a registration, which takes the place of an earlier one of its service.
    pub(super) fn confirm(&mut self, from: SocketAddr, token: u32, now: Instant) -> bool {
        let slot = token as usize % UNCONFIRMED_MAX;
        let Some(found) = self.unconfirmed.get_mut(slot) else {
            return false;
        };
        let right = |u: &mut Unconfirmed| u.token == token && u.place.seen == from;
        let Some(Unconfirmed { id, place, .. }) = found.take_if(right) else {
            return false;
        };
        if !self.has_room(&id, place) {
            return false;
        }
        let expires = now.after(self.lasts);
        if let Some(old) = self.services.insert(id, Service { place, expires }) {
            self.let_go(old.place.seen, now);
        }
        self.sources.entry(source(from)).or_default().services += 1;
        self.sweep_at = self.sweep_at.min(now.after(SWEEP_EVERY));
        true
    }

    /// Where the server of a service is, to be told of somebody who looks for it. None: it is not known, or its source
    /// was told too often lately.
    pub(super) fn find(&mut self, id: &[u8], now: Instant) -> Result<Place, NotFound> {
        let service = self.services.get(id).filter(|s| s.expires > now);
        let place = service.ok_or(NotFound::Unknown)?.place;
        let source = self.sources.get_mut(&source(place.seen));
        let source = source.ok_or(NotFound::Unknown)?;
        let paid = source.paid_at.max(now).after(PUNCH_EVERY);
        if paid.since(now) > PUNCHES_AHEAD * PUNCH_EVERY {
            return Err(NotFound::TooOften);
        }
        source.paid_at = paid;
        Ok(place)
    }

    /// When `expire` has to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.sweep_at != Instant::NEVER).then_some(self.sweep_at)
    }

    /// Forgets servers that have not been heard of for long.
    pub(super) fn expire(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        let mut gone = Vec::new();
        self.services.retain(|_, service| {
            let stays = service.expires > now;
            if !stays {
                gone.push(service.place.seen);
            }
            stays
        });
        for seen in gone {
            self.let_go(seen, now);
        }
        // a source without a service is kept until its punches are paid for, at most
        self.sources
            .retain(|_, s| s.services > 0 || s.paid_at > now);
        self.sweep_at = match self.services.is_empty() && self.sources.is_empty() {
            true => Instant::NEVER,
            false => now.after(SWEEP_EVERY),
        };
    }

    fn let_go(&mut self, seen: SocketAddr, now: Instant) {
        let key = source(seen);
        let many = self.sources.len() > 2 * SERVICES_MAX;
        let Some(source) = self.sources.get_mut(&key) else {
            return;
        };
        source.services -= 1;
        if source.services == 0 && (source.paid_at <= now || many) {
            self.sources.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SEC;

    const LASTS: Duration = Duration::from_secs(600);

    fn place(host: u32, port: u16) -> Place {
        let seen = SocketAddr::new(std::net::Ipv4Addr::from_bits(host).into(), port);
        Place {
            own: seen,
            seen,
            here: Local::default(),
        }
    }

    fn enter(registry: &mut Registry, id: &[u8], place: Place, now: Instant) -> bool {
        match registry.register(id, place, 0xABCD_EF01, now) {
            Registered::Challenge(token) => registry.confirm(place.seen, token, now),
            Registered::Refreshed => true,
            Registered::Full => false,
        }
    }

    #[test]
    fn only_who_receives_is_registered_and_the_newest_counts() {
        let (mut registry, now) = (Registry::new(LASTS), Instant::from_millis(5));
        let (one, two) = (place(1, 1), place(2, 2));
        assert!(enter(&mut registry, b"x", one, now));
        let Registered::Challenge(token) = registry.register(b"x", two, 77, now) else {
            panic!("known already");
        };
        // neither from elsewhere nor with another value
        assert!(!registry.confirm(one.seen, token, now));
        assert!(!registry.confirm(two.seen, token ^ 1 << 20, now));
        assert!(!registry.confirm(two.seen, token ^ 1, now));
        assert_eq!(registry.find(b"x", now), Ok(one));
        assert!(registry.confirm(two.seen, token, now));
        assert!(!registry.confirm(two.seen, token, now));
        assert_eq!(registry.find(b"x", now), Ok(two));
        assert_eq!(registry.find(b"y", now), Err(NotFound::Unknown));
        registry.expire(now.after(61 * SEC));
        assert_eq!((registry.len(), registry.sources.len()), (1, 1));
    }

    #[test]
    fn a_registration_ends_unless_it_is_repeated() {
        let (mut registry, start) = (Registry::new(LASTS), Instant::from_millis(5));
        assert!(enter(&mut registry, b"x", place(1, 1), start));
        let later = start.after(400 * SEC);
        assert_eq!(
            registry.register(b"x", place(1, 1), 0, later),
            Registered::Refreshed
        );
        registry.expire(start.after(700 * SEC));
        assert!(registry.find(b"x", start.after(700 * SEC)).is_ok());
        assert!(registry.find(b"x", start.after(1000 * SEC)).is_err());
        registry.expire(start.after(1010 * SEC));
        assert_eq!((registry.len(), registry.sources.len()), (0, 0));
        assert_eq!(registry.deadline(), None);
    }

    #[test]
    fn a_source_is_told_four_times_a_second() {
        let (mut registry, mut now) = (Registry::new(LASTS), Instant::from_millis(5));
        for id in 0..9 {
            assert!(enter(&mut registry, &[id], place(1, id.into()), now));
        }
        let told = |registry: &mut Registry, now| {
            (0..90)
                .filter(|i| registry.find(&[i % 9], now).is_ok())
                .count()
        };
        assert_eq!(told(&mut registry, now), 8);
        now = now.after(SEC);
        assert_eq!(told(&mut registry, now), 4);
    }

    #[test]
    fn it_holds_so_many_and_no_more() {
        let (mut registry, now) = (Registry::new(LASTS), Instant::from_millis(5));
        for i in 0..100_000u32 {
            let _ = registry.register(&i.to_be_bytes(), place(i, 9), i, now);
        }
        assert_eq!(
            (registry.len(), registry.unconfirmed.len()),
            (0, UNCONFIRMED_MAX)
        );
        for i in 0..100u32 {
            let right = enter(&mut registry, &i.to_be_bytes(), place(7, 9), now);
            assert_eq!(right, i < SERVICES_OF_SOURCE);
        }
        for i in 0..100_000u32 {
            enter(&mut registry, &i.to_be_bytes(), place(i, 9), now);
        }
        assert_eq!(registry.len(), SERVICES_MAX);
        // who is in can still move
        assert!(enter(
            &mut registry,
            &0u32.to_be_bytes(),
            place(200_000, 1),
            now
        ));
        assert_eq!(registry.len(), SERVICES_MAX);
        registry.expire(now.after(2 * LASTS));
        assert_eq!((registry.len(), registry.sources.len()), (0, 0));
    }
}
