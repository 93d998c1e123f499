//! The table of paths: which there are, by the address that each leads to; which have no session, of which a bounded number
//! keeps what is known; and the addresses that an end may have moved to. What is known of a path is in `path`.

use crate::path::{Counts, Path};
use crate::time::Instant;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};

/// Paths whose knowledge is kept without a session, at most.
const IDLE_MAX: usize = 1024;

struct Place {
    path: Path,
    /// Stands in `idle`.
    idle: bool,
}

/// All paths, each at a place that stays its own until it is removed.
#[derive(Default)]
pub(super) struct Paths {
    places: Slab<Place>,
    /// By address. A path whose address somebody else has taken does not stand here.
    addresses: HashMap<SocketAddr, u32>,
    /// Paths that had no session when they came here, the oldest first.
    idle: VecDeque<u32>,
    /// Addresses that the other end of a path may have moved to.
    candidates: HashMap<SocketAddr, u32>,
    /// What has gone over paths that were removed.
    past: Counts,
}

impl Index<u32> for Paths {
    type Output = Path;

    fn index(&self, id: u32) -> &Path {
        &self.places[id as usize].path
    }
}

impl IndexMut<u32> for Paths {
    fn index_mut(&mut self, id: u32) -> &mut Path {
        &mut self.places[id as usize].path
    }
}

impl Paths {
    /// The place of the path to an address.
    pub(super) fn id_of(&self, addr: SocketAddr) -> Option<u32> {
        self.addresses.get(&addr).copied()
    }

    /// The path to an address.
    pub(super) fn to(&self, addr: SocketAddr) -> Option<&Path> {
        self.id_of(addr).map(|id| &self[id])
    }

    pub(super) fn to_mut(&mut self, addr: SocketAddr) -> Option<&mut Path> {
        self.id_of(addr).map(|id| &mut self[id])
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.places.contains(id as usize)
    }

    /// All, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Path)> {
        let all = self.places.iter();
        all.map(|(id, place)| (id as u32, &place.path))
    }

    /// The places of all.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Entries in the list of paths without a session.
    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// What has gone over all paths, those that were removed included.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.past;
        for (_, path) in self.iter() {
            counts.add(&path.counts);
        }
        counts
    }

    /// Puts a path in; its place.
    pub(super) fn insert(&mut self, path: Path) -> u32 {
        let addr = path.addr;
        let id = self.places.insert(Place { path, idle: false }) as u32;
        self.addresses.insert(addr, id);
        id
    }

    /// A path leads to this address from now on.
    pub(super) fn attach(&mut self, id: u32, addr: SocketAddr) {
        self.addresses.insert(addr, id);
    }

    /// No path leads to this address any more.
    pub(super) fn detach(&mut self, addr: SocketAddr) {
        self.addresses.remove(&addr);
    }

    /// A path has no session: it waits for one, or to be removed.
    pub(super) fn set_idle(&mut self, id: u32) {
        let place = &mut self.places[id as usize];
        if !place.idle {
            place.idle = true;
            self.idle.push_back(id);
        }
    }

    /// If there are too many paths without a session, the one that has been for longest; it may have one by now.
    pub(super) fn take_oldest_idle(&mut self) -> Option<u32> {
        if self.idle.len() < IDLE_MAX {
            return None;
        }
        let id = self.idle.pop_front()?;
        self.places.get_mut(id as usize)?.idle = false;
        Some(id)
    }

    pub(super) fn remove(&mut self, id: u32) {
        let Place { path, idle } = self.places.remove(id as usize);
        if idle {
            self.idle.retain(|other| *other != id);
        }
        if self.id_of(path.addr) == Some(id) {
            self.detach(path.addr);
        }
        self.candidates.retain(|_, of| *of != id);
        self.past.add(&path.counts);
    }

    /// The path whose other end may have moved to an address.
    pub(super) fn candidate(&self, addr: SocketAddr) -> Option<u32> {
        self.candidates.get(&addr).copied()
    }

    /// The other end of a path may have moved to an address; that of another, which is returned, has not then.
    pub(super) fn add_candidate(&mut self, addr: SocketAddr, id: u32) -> Option<u32> {
        self.candidates
            .insert(addr, id)
            .filter(|other| *other != id)
    }

    pub(super) fn remove_candidate(&mut self, addr: SocketAddr) {
        self.candidates.remove(&addr);
    }

    /// When an address that an end may have moved to is asked next, and of which path it is.
    pub(super) fn next_candidate(&self) -> Option<(Instant, u32)> {
        let paths = self.candidates.values();
        paths
            .filter_map(|id| Some((self[*id].migration.next_probe()?, *id)))
            .min()
    }
}
