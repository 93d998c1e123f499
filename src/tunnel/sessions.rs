//! The session table: which sessions there are, and whose a packet is by its address and number. What a session does is
//! not decided here, nor which sessions are admitted; how much of the table one source takes is counted here, in `sources`.

use super::half_open::HalfOpen;
use super::size::Progress;
use super::sources::{Sources, source};
use super::trace::Trace;
use crate::session::{Session, State};
use crate::time::Instant;
use slab::Slab;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

/// Places for sessions that are found without hashing.
const RECENT: usize = 256;

/// A session and what the caller knows of it.
pub(super) struct Entry {
    pub(super) session: Session,
    addr: SocketAddr,
    tcp: Tcp,
    /// Who has begun it, if the other end has.
    begun_by: Option<IpAddr>,
    pub(super) trace: Trace,
    pub(super) progress: Progress,
    pub(super) half_open: HalfOpen,
}

/// Whether the caller has a TCP socket for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tcp {
    None,
    Held,
    /// `Event::Close` is on its way.
    Closing,
}

impl Entry {
    /// A session whose other end is at `addr`, without a TCP socket.
    pub(super) fn new(session: Session, addr: SocketAddr, now: Instant) -> Entry {
        Entry {
            begun_by: (!session.opener).then(|| source(addr)),
            session,
            addr,
            tcp: Tcp::None,
            trace: Trace::default(),
            progress: Progress::default(),
            half_open: HalfOpen::new(now),
        }
    }

    /// Where its other end is; for one without an address, where it was last.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it was begun by the other end, and from this source.
    pub(super) fn is_begun_by(&self, source: IpAddr) -> bool {
        self.begun_by == Some(source)
    }

    /// Whether it counts among the sessions of a path.
    pub(super) fn is_on(&self, path: u32) -> bool {
        self.session.path == path && self.session.state != State::Gone
    }

    /// Whether the caller holds its TCP socket, and was not told to close it.
    pub(super) fn holds_tcp(&self) -> bool {
        self.tcp == Tcp::Held
    }

    /// The caller has its TCP socket, or is told to make one.
    pub(super) fn hold_tcp(&mut self) {
        self.tcp = Tcp::Held;
    }

    /// The caller is to be told to close its TCP socket. False: it has none, or was told.
    pub(super) fn close_tcp(&mut self) -> bool {
        let held = self.holds_tcp();
        if held {
            self.tcp = Tcp::Closing;
        }
        held
    }

    /// The caller was told to close its TCP socket.
    pub(super) fn let_go_of_tcp(&mut self) {
        self.tcp = Tcp::None;
    }
}

/// All sessions, each at a place that stays its own until it is removed.
pub(super) struct Sessions {
    entries: Slab<Entry>,
    /// By address and number. Those that have no address do not stand here, nor those that are gone.
    keys: HashMap<(SocketAddr, u32), u32>,
    /// Sessions that had a packet lately, each at its number modulo `RECENT`; what stands there may be out of date.
    recent: [u32; RECENT],
    /// By number and place, those without an address as well.
    numbers: BTreeSet<(u32, u32)>,
    sources: Sources,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            entries: Slab::new(),
            keys: HashMap::new(),
            recent: [u32::MAX; RECENT],
            numbers: BTreeSet::new(),
            sources: Sources::default(),
        }
    }
}

impl Index<u32> for Sessions {
    type Output = Entry;

    fn index(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }
}

impl IndexMut<u32> for Sessions {
    fn index_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.entries[id as usize]
    }
}

impl Sessions {
    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)
    }

    /// Places that are taken, those of sessions that are over included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().map(|(id, entry)| (id as u32, entry))
    }

    /// The places of those sessions of which this holds.
    pub(super) fn ids_of(&self, which: impl Fn(&Entry) -> bool) -> Vec<u32> {
        let all = self.iter().filter(|(_, entry)| which(entry));
        all.map(|(id, _)| id).collect()
    }

    /// The session of a number at an address. One that had a packet lately is found without hashing, which takes keys
    /// that nobody can guess and is slow for that.
    pub(super) fn find(&mut self, from: SocketAddr, conv: u32) -> Option<u32> {
        let place = conv as usize % RECENT;
        let id = self.recent[place];
        let known = self.get(id).is_some_and(|entry| {
            let session = &entry.session;
            session.conv() == conv && entry.addr == from && session.state != State::Gone
        });
        if known {
            return Some(id);
        }
        let id = *self.keys.get(&(from, conv))?;
        self.recent[place] = id;
        Some(id)
    }

    /// Whether there is a session of this number at an address.
    pub(super) fn contains(&self, addr: SocketAddr, conv: u32) -> bool {
        self.keys.contains_key(&(addr, conv))
    }

    /// The sessions of a number, whatever their address, with their places.
    pub(super) fn numbered(&self, conv: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let all = self.numbers.range((conv, 0)..=(conv, u32::MAX));
        all.filter_map(|(_, id)| Some((*id, self.get(*id)?)))
    }

    /// Puts a session in; its place.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        if let Some(source) = entry.begun_by {
            self.sources.begin(source);
        }
        let (addr, conv) = (entry.addr, entry.session.conv());
        let id = self.entries.insert(entry) as u32;
        self.keys.insert((addr, conv), id);
        self.numbers.insert((conv, id));
        id
    }

    /// A session cannot be found at its address any more.
    pub(super) fn detach(&mut self, id: u32) {
        let entry = &self.entries[id as usize];
        let key = (entry.addr, entry.session.conv());
        if self.keys.get(&key) == Some(&id) {
            self.keys.remove(&key);
        }
        // one that stands there counts as found at the address that it had last
        self.recent[key.1 as usize % RECENT] = u32::MAX;
    }

    /// A session is found at this address from now on, and at no other.
    pub(super) fn attach(&mut self, id: u32, addr: SocketAddr) {
        self.detach(id);
        let entry = &mut self.entries[id as usize];
        entry.addr = addr;
        self.keys.insert((addr, entry.session.conv()), id);
    }

    /// A session is gone: it is not found any more, only its place is still taken.
    pub(super) fn unlink(&mut self, id: u32) {
        self.detach(id);
        let entry = &mut self.entries[id as usize];
        entry.session.state = State::Gone;
        self.numbers.remove(&(entry.session.conv(), id));
    }

    /// Frees the place of a session that is gone, if the caller has let go of its socket.
    pub(super) fn remove_if_unused(&mut self, id: u32) {
        let free = |e: &&Entry| e.session.state == State::Gone && e.tcp == Tcp::None;
        let Some(entry) = self.get(id).filter(free) else {
            return;
        };
        if let Some(source) = entry.begun_by {
            self.sources.end(source);
        }
        self.entries.remove(id as usize);
    }

    /// What has ended leaves room, which is given back.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.keys.shrink_to_fit();
    }

    /// Whether a source may begin a session without its dial.
    pub(super) fn admits_half_open(&self, source: IpAddr) -> bool {
        self.sources.admits(source)
    }

    /// Sessions that a source has begun.
    pub(super) fn count_of(&self, source: IpAddr) -> usize {
        self.sources.sessions(source)
    }

    /// Whether a packet of so many bytes is kept for a session that is half-open. The first that `begins` it always is.
    pub(super) fn keep(&mut self, id: u32, bytes: usize, begins: bool) -> bool {
        let entry = &mut self.entries[id as usize];
        if let Some(source) = entry.begun_by {
            if !self.sources.has_room(source, bytes) && !begins {
                return false;
            }
            self.sources.keep(source, bytes);
        }
        entry.half_open.keep(bytes, begins);
        true
    }

    /// A session is not half-open any more.
    pub(super) fn leave_half_open(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        if let Some(source) = entry.begun_by {
            self.sources
                .leave_half_open(source, entry.half_open.take_bytes());
        }
    }

    /// Sessions that are half-open, and the bytes of the packets that were kept for them.
    pub(super) fn half_open(&self) -> (usize, usize) {
        (self.sources.half_open(), self.sources.half_open_bytes())
    }

    /// Whether no session can be found, and none is counted.
    pub(super) fn is_quiet(&self) -> bool {
        self.keys.is_empty() && self.numbers.is_empty() && self.sources.is_empty()
    }
}
