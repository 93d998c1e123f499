//! The associations: with which processes there are keys, which addresses lead there, and what becomes of keys when others come
//! and when their time is over. What is told to whom is in `fresh_keys`.

use super::SealedBy;
use super::budget::Budget;
use crate::crypto::handshake::{ANSWER_LEN, Greeted, Greeting, Hello, Process, TransportKeys};
use crate::crypto::{FreshSealing, Method, Rejected, number_after};
use crate::settings::ForwardSecrecy;
use crate::time::{Duration, Instant};
use crate::tunnel::inbound::Arrival;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};
use slab::Slab;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// Keys are renewed when they are so old (WireGuard's Rekey-After-Time).
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(120);
/// And when they have sealed and opened so many bytes.
const RENEW_BYTES: u64 = 4 << 30;
/// Keys end when they are so old, whether there are others or not (WireGuard's Reject-After-Time): what they seal
/// can be held back for so long, and no longer.
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// For so long after its end a session's number is not to be used again. Within `REJECT_AFTER` of the end its client
/// may get what was held back of the answer; until then it repeats its dial, which is taken for as long again.
pub(in crate::tunnel) const TIME_WAIT_MIN: Duration =
    Duration::from_secs(2 * REJECT_AFTER.as_secs());
/// Keys that were replaced are accepted for so long: longer than any datagram is under way.
const PREVIOUS_LIVES: Duration = Duration::from_secs(10);
/// And at most for so long where the other end has not used the new ones.
const UNHEARD_LIVES: Duration = Duration::from_secs(120);
/// Keys that were answered wait so long to be used.
const NEXT_LIVES: Duration = Duration::from_secs(30);
/// How long after an answer first packets of sessions wait for the keys that it gives.
const AWAITED: Duration = Duration::from_secs(3);
/// An end that has answered so many pings and no greeting does not agree on fresh keys, as far as one can tell.
pub(super) const IGNORED: u32 = 3;
/// A greeting is sent again for so long; then another is made.
pub(super) const GREETING_LIVES: Duration = Duration::from_secs(10);
/// An address that leads to an association, and that nothing is sent to, is forgotten when nothing has been heard of the process
/// for so long.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// An address is forgotten so long after its process was heard at another; late datagrams come until then.
const LEFT_AFTER: Duration = Duration::from_secs(10);
/// Addresses that lead to associations, at most, but for those that are in use.
const ADDRESSES_MAX: usize = 65_536;

/// Keys that are in use, or may be.
pub(super) struct Keys {
    /// What the other end's datagrams carry.
    index: u32,
    sealing: FreshSealing,
    pub(super) renew_at: Instant,
    ends_at: Instant,
    /// Sealed and opened.
    bytes: u64,
    /// Something has opened.
    heard: bool,
}

/// Keys that were answered, and that nobody has used yet.
struct Next {
    keys: Keys,
    /// The greeting's key, to know it again, and the answer that it gets again.
    public: [u8; 32],
    answer: [u8; ANSWER_LEN],
    /// Where the answer went.
    at: SocketAddr,
    /// The greeting's number among the datagrams of its sender.
    number: Option<u128>,
    /// The psk that it has shown.
    serial: u32,
    /// The greeting was sealed with the keys in use.
    renews: bool,
    until: Instant,
}

/// What is shared with one process.
pub(super) struct Association {
    process: Process,
    /// The psk that the current keys come from.
    serial: u32,
    current: Option<Keys>,
    previous: Option<Box<(Keys, Instant)>>,
    next: Option<Box<Next>>,
    /// This end has greeted, and renews.
    pub(super) greets: bool,
    pub(super) heard_at: Instant,
    /// Where it was last heard, and since when it is there.
    home: Option<(SocketAddr, Instant)>,
}

/// A greeting of ours that waits for its answer.
pub(super) struct Asking {
    pub(super) greeting: Greeting,
    pub(super) serial: u32,
    pub(super) to: SocketAddr,
    pub(super) made_at: Instant,
    pub(super) sends: u32,
    pub(super) again_at: Option<Instant>,
    /// Pings that were answered without an answer to it.
    pub(super) ignored: u32,
}

/// The first datagram under new keys has come.
#[derive(Clone, Copy)]
pub(super) struct Confirmed {
    /// Where the answer to the greeting went.
    pub(super) at: SocketAddr,
    /// There were none before.
    pub(super) first: bool,
}

/// What a greeting gets.
pub(super) enum Reply {
    Answer([u8; ANSWER_LEN]),
    /// Its sender is to show first that he receives at his address.
    Challenge,
    /// As if it had no greeting.
    Nothing,
}

/// All associations, and this process's own part.
pub(in crate::tunnel) struct FreshKeys {
    pub(super) mode: ForwardSecrecy,
    pub(super) own: Process,
    rng: StdRng,
    pub(super) table: Slab<Association>,
    /// By what datagrams for this end carry.
    indices: HashMap<u32, u32>,
    processes: HashMap<Process, u32>,
    /// And since when each leads there.
    addresses: HashMap<SocketAddr, (u32, Instant)>,
    /// What was found last in `addresses` and in `indices`: most datagrams are for one.
    last_address: Cell<Option<(SocketAddr, u32)>>,
    last_index: Cell<Option<(u32, u32)>>,
    pub(super) asking: Option<Asking>,
    /// This process has had fresh keys with its peer.
    pub(super) had: bool,
    confirmed: Option<Confirmed>,
    /// Whose keys were confirmed last, and the number of the greeting that they come from.
    greeted: Option<(u32, Option<u128>)>,
    budget: Budget,
    /// When `advance` has something to do, or before.
    pub(super) wake: Instant,
}

impl Asking {
    /// A ping was answered, and the greeting was not. True if that is once too often: the other end does not agree on fresh keys, as
    /// far as one can tell.
    pub(super) fn on_ignored(&mut self) -> bool {
        self.ignored += 1;
        self.ignored == IGNORED
    }
}

impl FreshKeys {
    /// # Panics
    /// If the operating system gives no random numbers.
    pub(in crate::tunnel) fn new(mode: ForwardSecrecy) -> FreshKeys {
        let mut rng =
            StdRng::try_from_rng(&mut SysRng).expect("no random numbers from the operating system");
        let mut own = Process::default();
        rng.fill_bytes(&mut own);
        FreshKeys {
            mode,
            own,
            rng,
            table: Slab::new(),
            indices: HashMap::new(),
            processes: HashMap::new(),
            addresses: HashMap::new(),
            last_address: Cell::new(None),
            last_index: Cell::new(None),
            asking: None,
            had: false,
            confirmed: None,
            greeted: None,
            budget: Budget::new(),
            wake: Instant::NEVER,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.mode == ForwardSecrecy::Off
    }

    /// Whether nothing but fresh keys will do.
    pub(in crate::tunnel) fn is_required(&self) -> bool {
        self.mode == ForwardSecrecy::Require
    }

    /// The association that an address leads to.
    pub(in crate::tunnel) fn at(&self, addr: SocketAddr) -> Option<u32> {
        if self.addresses.is_empty() {
            return None;
        }
        match self.last_address.get() {
            Some((last, id)) if last == addr => return Some(id),
            _ => (),
        }
        let (id, _) = self.addresses.get(&addr).copied()?;
        self.last_address.set(Some((addr, id)));
        Some(id)
    }

    pub(super) fn current_at(&self, addr: SocketAddr) -> Option<&Keys> {
        self.table[self.at(addr)? as usize].current.as_ref()
    }

    /// Whether there are keys for an address.
    pub(in crate::tunnel) fn has_keys(&self, addr: SocketAddr) -> bool {
        self.current_at(addr).is_some()
    }

    /// The association whose keys open a datagram, if any do, and the index that it carries.
    pub(in crate::tunnel) fn find(&self, method: Method, datagram: &[u8]) -> Option<(u32, u32)> {
        if self.indices.is_empty() {
            return None;
        }
        let index = crate::crypto::index_of(method, datagram)?;
        match self.last_index.get() {
            Some((last, id)) if last == index => return Some((id, index)),
            _ => (),
        }
        let id = self.indices.get(&index).copied()?;
        self.last_index.set(Some((index, id)));
        Some((id, index))
    }

    /// Opens a datagram that carries an index of this association.
    pub(in crate::tunnel) fn open<'a>(
        &mut self,
        (id, index): (u32, u32),
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Result<&'a mut [u8], Rejected> {
        let association = &mut self.table[id as usize];
        let len = datagram.len() as u64;
        let keys = association.keys_of(index).ok_or(Rejected::Seal)?;
        if keys.ends_at <= now {
            // a machine that has slept reads before its timers run
            return Err(Rejected::Seal);
        }
        let packet = keys.sealing.open(datagram)?;
        keys.bytes += len;
        let first = !std::mem::replace(&mut keys.heard, true);
        association.heard_at = now;
        if association.home.is_none_or(|(home, _)| home != from) {
            association.home = Some((from, now));
            self.wake = self.wake.min(now.after(LEFT_AFTER));
        }
        let confirms = association.is_next(index);
        if confirms {
            self.promote(id, now);
        } else if let Some(previous) = association.previous.as_mut().filter(|_| first) {
            // who has sent this sends nothing under the previous ones any more
            previous.1 = now.after(PREVIOUS_LIVES);
            self.wake = self.wake.min(previous.1);
        }
        if confirms {
            self.map_address(from, id, now);
        }
        Ok(packet)
    }

    /// Whether an address leads to this association or, if it is free, does from now on: if no process that was heard lately has
    /// it, and no sessions without fresh keys (`taken`). Otherwise a greeting has to come from there.
    pub(super) fn claim_address(
        &mut self,
        addr: SocketAddr,
        id: u32,
        taken: bool,
        now: Instant,
    ) -> bool {
        let free = match self.at(addr) {
            Some(other) if other == id => return true,
            Some(other) => {
                !taken && now.since(self.table[other as usize].heard_at) >= PREVIOUS_LIVES
            }
            None => !taken,
        };
        if free {
            self.map_address(addr, id, now);
        }
        free
    }

    /// The next keys of an association are in use.
    fn promote(&mut self, id: u32, now: Instant) {
        let association = &mut self.table[id as usize];
        let Some(next) = association.next.take() else {
            return;
        };
        (association.serial, association.greets) = (next.serial, false);
        let first = association.current.is_none();
        self.greeted = Some((id, next.number));
        self.confirmed = Some(Confirmed { at: next.at, first });
        self.replace(id, next.keys, now.after(PREVIOUS_LIVES));
        self.wake = self.wake.min(now.after(FORGET_AFTER));
    }

    /// Other keys are the current ones; the present are accepted until `until`.
    fn replace(&mut self, id: u32, keys: Keys, until: Instant) {
        let association = &mut self.table[id as usize];
        let old = association.current.replace(keys);
        let older = match old {
            Some(old) => association.previous.replace(Box::new((old, until))),
            None => association.previous.take(),
        };
        if let Some(older) = older {
            self.last_index.set(None);
            self.indices.remove(&older.0.index);
        }
        self.wake = self.wake.min(until);
    }

    /// An address leads to an association from now on.
    fn map_address(&mut self, addr: SocketAddr, id: u32, now: Instant) {
        self.last_address.set(None);
        self.addresses.insert(addr, (id, now));
        if self.addresses.len() > ADDRESSES_MAX {
            self.wake = Instant::ZERO;
        }
    }

    /// The first datagram under new keys, if it has just come.
    pub(super) fn take_confirmed(&mut self) -> Option<Confirmed> {
        self.confirmed.take()
    }

    /// Seals a packet with the keys of an association.
    pub(in crate::tunnel) fn seal(&mut self, id: u32, buf: &mut [u8], len: usize) -> Option<usize> {
        let association = &mut self.table[id as usize];
        let keys = association.current.as_mut()?;
        let len = keys.sealing.seal(&mut self.rng, buf, len);
        keys.bytes += len as u64;
        if keys.bytes >= RENEW_BYTES && association.greets {
            keys.bytes = 0;
            keys.renew_at = Instant::ZERO;
        }
        Some(len)
    }

    /// Whether somebody at an address was answered and has used no key yet.
    pub(super) fn is_awaited(&self, addr: SocketAddr, now: Instant) -> bool {
        // anybody may have played the greeting in the name of who is there
        let lately = |next: &Next| next.until > now.after(NEXT_LIVES - AWAITED);
        let mut all = self.table.iter().filter_map(|(_, a)| a.next.as_ref());
        all.any(|next| next.at == addr && lately(next))
    }

    /// An index that is not in use, for an association.
    pub(super) fn draw_index(&mut self) -> u32 {
        loop {
            let index = self.rng.random();
            let asked = |asking: &Asking| asking.greeting.own().index == index;
            if !self.indices.contains_key(&index) && !self.asking.as_ref().is_some_and(asked) {
                return index;
            }
        }
    }

    pub(super) fn draw_secret(&mut self) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        self.rng.fill_bytes(&mut *secret);
        secret
    }

    fn keys(
        &mut self,
        method: Method,
        pair: &TransportKeys,
        index: u32,
        other: u32,
        now: Instant,
    ) -> Keys {
        // no count ever comes to its end
        let start = self.rng.random::<u64>() >> 2;
        Keys {
            index,
            sealing: FreshSealing::new(method, pair, other, start),
            renew_at: now.after(RENEW_AFTER),
            ends_at: now.after(REJECT_AFTER),
            bytes: 0,
            heard: false,
        }
    }

    /// The association with a process, made if there is none.
    fn find_or_insert(&mut self, process: Process, now: Instant) -> u32 {
        if let Some(id) = self.processes.get(&process) {
            return *id;
        }
        let id = self.table.insert(Association {
            process,
            serial: 0,
            current: None,
            previous: None,
            next: None,
            greets: false,
            heard_at: now,
            home: None,
        }) as u32;
        self.processes.insert(process, id);
        id
    }

    /// Whether a greeting of an authentic sender is to be ignored: it is our own, or we greet as well and he answers.
    fn ignores(&self, from: SocketAddr, other: Process, now: Instant) -> bool {
        let asking = self.asking.as_ref();
        let both = asking.is_some_and(|a| a.to == from && now.since(a.made_at) < GREETING_LIVES);
        other == self.own || (both && self.own > other)
    }

    /// Answers a greeting.
    pub(super) fn respond(
        &mut self,
        greeted: Greeted,
        (method, serial): (Method, u32),
        arrival: &Arrival,
        proven: bool,
        now: Instant,
    ) -> Reply {
        let (from, other) = (arrival.from, greeted.other());
        if self.ignores(from, other.process, now) {
            return Reply::Nothing;
        }
        let known = self.processes.get(&other.process);
        let next = known.and_then(|id| self.table[*id as usize].next.as_mut());
        if let Some(next) = next.filter(|next| next.public == *greeted.public()) {
            (next.at, next.until) = (from, now.after(NEXT_LIVES));
            return Reply::Answer(next.answer);
        }
        let renews = matches!(arrival.under, SealedBy::Fresh(_));
        let pending = known.and_then(|id| self.table[*id as usize].next.as_ref());
        if !renews && pending.is_some_and(|next| next.renews) {
            // one that was held back, or the renewal ends by itself
            return Reply::Nothing;
        }
        if !self.budget.admits(from, proven, now) {
            return Reply::Challenge;
        }
        let (secret, index) = (self.draw_secret(), self.draw_index());
        let public = *greeted.public();
        let own = Hello {
            process: self.own,
            index,
        };
        let Some((answer, pair)) = greeted.respond(&secret, own) else {
            return Reply::Nothing;
        };
        let keys = self.keys(method, &pair, index, other.index, now);
        let until = now.after(NEXT_LIVES);
        let next = Next {
            keys,
            public,
            answer,
            at: from,
            number: arrival.number,
            serial,
            renews,
            until,
        };
        let id = self.find_or_insert(other.process, now);
        if let Some(old) = self.table[id as usize].next.replace(Box::new(next)) {
            self.last_index.set(None);
            self.indices.remove(&old.keys.index);
        }
        self.indices.insert(index, id);
        self.wake = self.wake.min(until);
        Reply::Answer(answer)
    }

    /// An answer has come. Whether it is one to our greeting: then there are new keys, and the address leads to them. And whether
    /// there were none with that process before.
    pub(super) fn on_handshake_answer(
        &mut self,
        from: SocketAddr,
        answer: &[u8; ANSWER_LEN],
        method: Method,
        now: Instant,
    ) -> Option<bool> {
        let (other, pair) = self.asking.as_ref()?.greeting.finish(answer)?;
        let asking = self.asking.take()?;
        if other.process == self.own {
            return None;
        }
        let index = asking.greeting.own().index;
        let keys = self.keys(method, &pair, index, other.index, now);
        let id = self.find_or_insert(other.process, now);
        self.indices.insert(index, id);
        self.replace(id, keys, now.after(UNHEARD_LIVES));
        let association = &mut self.table[id as usize];
        let first = association.previous.is_none();
        (association.serial, association.greets) = (asking.serial, true);
        association.heard_at = now;
        self.had = true;
        self.map_address(from, id, now);
        self.wake = self.wake.min(now.after(PREVIOUS_LIVES));
        Some(first)
    }

    /// An address that the process at another one may have moved to leads to the same association, until it shows another.
    pub(in crate::tunnel) fn map_if_free(
        &mut self,
        addr: SocketAddr,
        like: SocketAddr,
        now: Instant,
    ) {
        if let (None, Some(id)) = (self.at(addr), self.at(like)) {
            self.map_address(addr, id, now);
        }
    }

    /// When the peer is to be pinged because of a greeting.
    pub(super) fn asks_at(&self, peer: SocketAddr) -> Option<Instant> {
        let association = self.at(peer).map(|id| &self.table[id as usize]);
        let keys = association.and_then(|a| a.current.as_ref().map(|keys| (keys, a.greets)));
        match keys {
            Some((keys, greets)) => Some(keys.renew_at).filter(|_| greets),
            None => self.asking.as_ref()?.again_at,
        }
    }

    /// The keys for an address are renewed no sooner than after so long.
    pub(super) fn postpone(&mut self, addr: SocketAddr, at: Instant) {
        let Some(id) = self.at(addr) else {
            return;
        };
        if let Some(keys) = &mut self.table[id as usize].current {
            keys.renew_at = at;
        }
    }

    /// Drops what has had its time. `in_use`: whether something may be sent to an address without being asked. The addresses that
    /// lead nowhere any more.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        in_use: impl Fn(SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        let mut forgotten = Vec::new();
        if now < self.wake {
            return forgotten;
        }
        self.wake = Instant::NEVER;
        self.last_address.set(None);
        self.last_index.set(None);
        for (_, association) in &mut self.table {
            if let Some(old) = association
                .previous
                .take_if(|p| p.1.min(p.0.ends_at) <= now)
            {
                self.indices.remove(&old.0.index);
            }
            if let Some(old) = association.current.take_if(|keys| keys.ends_at <= now) {
                self.indices.remove(&old.index);
            }
            if let Some(old) = association.next.take_if(|n| n.until <= now) {
                self.indices.remove(&old.keys.index);
            }
        }
        let many = self.addresses.len() > ADDRESSES_MAX;
        let table = &self.table;
        self.addresses.retain(|addr, (id, since)| {
            let association = &table[*id as usize];
            let gone = now.since(association.heard_at) >= FORGET_AFTER;
            // somebody else may have it by now
            let left = association
                .home
                .is_some_and(|(home, at)| home != *addr && now.since(at.max(*since)) >= LEFT_AFTER);
            let kept = !(gone || left || many) || in_use(*addr);
            if !kept {
                forgotten.push(*addr);
            }
            kept
        });
        self.drop_unreachable(now);
        for (_, association) in &self.table {
            self.wake = self.wake.min(association.wakes_at(now));
        }
        forgotten
    }

    /// Drops associations that no address leads to, and that wait for nothing.
    fn drop_unreachable(&mut self, now: Instant) {
        let mut reached = vec![false; self.table.capacity()];
        for (id, _) in self.addresses.values() {
            reached[*id as usize] = true;
        }
        let (indices, processes) = (&mut self.indices, &mut self.processes);
        self.table.retain(|id, a| {
            let waits = a.next.is_some() || now.since(a.heard_at) < PREVIOUS_LIVES;
            let kept = reached[id] || waits;
            if !kept {
                processes.remove(&a.process);
                let previous = a.previous.as_ref().map(|p| p.0.index);
                let current = a.current.as_ref().map(|k| k.index);
                for index in previous.into_iter().chain(current) {
                    indices.remove(&index);
                }
            }
            kept
        });
    }

    /// A psk is not accepted any more: keys that come from another than these end, and with whom there were some gets nothing
    /// until there are others.
    pub(in crate::tunnel) fn keep_only(&mut self, serials: &[u32]) {
        self.last_index.set(None);
        for (_, association) in &mut self.table {
            if !serials.contains(&association.serial) {
                let previous = association.previous.take().map(|p| p.0.index);
                let current = association.current.take().map(|k| k.index);
                for index in previous.into_iter().chain(current) {
                    self.indices.remove(&index);
                }
            }
            let withdrawn = |next: &mut Box<Next>| !serials.contains(&next.serial);
            if let Some(next) = association.next.take_if(withdrawn) {
                self.indices.remove(&next.keys.index);
            }
        }
        self.asking = None;
    }

    /// Whether a packet that waited under the psk was sent after the greeting of its sender.
    pub(super) fn is_after_greeting(&self, id: u32, number: Option<u128>) -> bool {
        let greeted = self.greeted.filter(|greeted| greeted.0 == id);
        let (Some((_, Some(greeting))), Some(number)) = (greeted, number) else {
            return false;
        };
        number_after(number, greeting).is_some_and(|by| by > 0)
    }
}

impl Association {
    fn keys_of(&mut self, index: u32) -> Option<&mut Keys> {
        let current = self.current.as_mut();
        let previous = self.previous.as_mut().map(|previous| &mut previous.0);
        let next = self.next.as_mut().map(|next| &mut next.keys);
        let mut all = current.into_iter().chain(previous).chain(next);
        all.find(|keys| keys.index == index)
    }

    fn is_next(&self, index: u32) -> bool {
        self.next.as_ref().is_some_and(|n| n.keys.index == index)
    }

    /// When `FreshKeys::advance` may have something to do with it.
    fn wakes_at(&self, now: Instant) -> Instant {
        let previous = self.previous.as_ref();
        let previous = previous.map(|previous| previous.1.min(previous.0.ends_at));
        let current = self.current.as_ref().map(|keys| keys.ends_at);
        let next = self.next.as_ref().map(|next| next.until);
        let heard = self.heard_at;
        let unreached = Some(heard.after(PREVIOUS_LIVES)).filter(|at| *at > now);
        let forgotten = heard.after(FORGET_AFTER);
        let forgotten = match forgotten > now {
            true => forgotten,
            // something is sent there
            false => now.after(FORGET_AFTER),
        };
        let times = [previous, current, next, unreached, Some(forgotten)];
        times.into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }
}

#[cfg(test)]
mod tests;
