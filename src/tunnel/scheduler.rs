//! Who sends next, and what the clock brings: the queues of sessions and paths, the packets that are ready to leave, and
//! the timers. What a session or path has to send is not known here; what is built of it is in `transmit`.

use crate::path::Local;
use crate::time::Instant;
use crate::timer::Wheel;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Packets that are ready and answer something, at most; more would be somebody's flood.
const READY_MAX: usize = 4096;

/// A packet that is ready to leave: an answer, or what plain KCP puts out.
pub(super) struct Outgoing {
    pub(super) to: SocketAddr,
    /// The address of this machine that was asked, if it is an answer.
    pub(super) asked: Option<Local>,
    /// It asks whether packets of its size arrive.
    pub(super) probe: bool,
    /// The serial number of the psk that it is sealed with. None: what its address says.
    pub(super) psk: Option<u32>,
    pub(super) packet: Vec<u8>,
}

impl Outgoing {
    /// A packet that answers nothing.
    pub(super) fn unasked(to: SocketAddr, packet: Vec<u8>) -> Outgoing {
        Outgoing {
            to,
            asked: None,
            probe: false,
            psk: None,
            packet,
        }
    }
}

/// Whose timer it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    Session(u32),
    Path(u32),
}

impl Timer {
    fn key(self) -> u32 {
        match self {
            Timer::Session(id) => id * 2,
            Timer::Path(id) => id * 2 + 1,
        }
    }

    fn of(key: u32) -> Timer {
        match key % 2 == 0 {
            true => Timer::Session(key / 2),
            false => Timer::Path(key / 2),
        }
    }
}

/// In which queues a session stands.
#[derive(Clone, Copy, Default)]
struct Queued {
    urgent: bool,
    bulk: bool,
}

/// The sessions of a path that wait for its rate.
#[derive(Default)]
struct Bulk {
    sessions: VecDeque<u32>,
    /// Stands in `active`.
    active: bool,
}

/// Sessions and paths are told apart by their places, here as in their tables.
pub(super) struct Scheduler {
    wheel: Wheel,
    /// Timers that have gone off, the next to look at last.
    due: Vec<u32>,
    ready: VecDeque<Outgoing>,
    /// Sessions with something that does not wait for the rate.
    urgent: VecDeque<u32>,
    /// Paths whose sessions may be able to send.
    active: VecDeque<u32>,
    sessions: Vec<Queued>,
    paths: Vec<Bulk>,
}

impl Scheduler {
    pub(super) fn new(now: Instant) -> Scheduler {
        Scheduler {
            wheel: Wheel::new(now),
            due: Vec::new(),
            ready: VecDeque::new(),
            urgent: VecDeque::new(),
            active: VecDeque::new(),
            sessions: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Has a timer go off at `at` or before: one that is set for an earlier time stays.
    pub(super) fn set_by(&mut self, timer: Timer, at: Instant) {
        self.wheel.set_by(timer.key(), at);
    }

    /// Sets a timer, in place of the time that it had.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.wheel.set(timer.key(), at);
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.wheel.clear(timer.key());
    }

    /// A time at or before the earliest timer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// Has the timers go off whose time has come; `next_due` gives them.
    pub(super) fn expire(&mut self, now: Instant) {
        self.wheel.expire(now, &mut self.due);
        self.due.reverse();
    }

    /// The next timer that has gone off.
    pub(super) fn next_due(&mut self) -> Option<Timer> {
        self.due.pop().map(Timer::of)
    }

    /// A packet is ready to leave. It is returned if there are too many.
    pub(super) fn offer(&mut self, packet: Outgoing) -> Option<Vec<u8>> {
        if self.ready.len() >= READY_MAX {
            return Some(packet.packet);
        }
        self.ready.push_back(packet);
        None
    }

    /// Likewise, however many there are.
    pub(super) fn push(&mut self, packet: Outgoing) {
        self.ready.push_back(packet);
    }

    /// The packet that leaves next of those that are ready.
    pub(super) fn first_ready(&self) -> Option<&Outgoing> {
        self.ready.front()
    }

    pub(super) fn next_ready(&mut self) -> Option<Outgoing> {
        self.ready.pop_front()
    }

    /// A session has something that does not wait for the rate.
    pub(super) fn queue_urgent(&mut self, id: u32) {
        let queued = at(&mut self.sessions, id);
        if !queued.urgent {
            queued.urgent = true;
            self.urgent.push_back(id);
        }
    }

    pub(super) fn first_urgent(&self) -> Option<u32> {
        self.urgent.front().copied()
    }

    /// Takes the first session with something urgent.
    pub(super) fn next_urgent(&mut self) -> Option<u32> {
        let id = self.urgent.pop_front()?;
        self.sessions[id as usize].urgent = false;
        Some(id)
    }

    /// A session has something that waits for its path's rate.
    pub(super) fn queue_bulk(&mut self, id: u32, path: u32) {
        let queued = at(&mut self.sessions, id);
        if !queued.bulk {
            queued.bulk = true;
            at(&mut self.paths, path).sessions.push_back(id);
            self.activate(path);
        }
    }

    /// Has the sessions of a path look at its rate again.
    pub(super) fn activate(&mut self, path: u32) {
        match self.paths.get_mut(path as usize) {
            Some(bulk) if !bulk.active && !bulk.sessions.is_empty() => {
                bulk.active = true;
                self.active.push_back(path);
            }
            _ => (),
        }
    }

    /// Takes the first path whose sessions may be able to send.
    pub(super) fn next_path(&mut self) -> Option<u32> {
        let path = self.active.pop_front()?;
        self.paths[path as usize].active = false;
        Some(path)
    }

    /// The first session that waits for a path's rate.
    pub(super) fn first_bulk(&self, path: u32) -> Option<u32> {
        self.paths.get(path as usize)?.sessions.front().copied()
    }

    pub(super) fn next_bulk(&mut self, path: u32) -> Option<u32> {
        let id = self.paths.get_mut(path as usize)?.sessions.pop_front()?;
        self.sessions[id as usize].bulk = false;
        Some(id)
    }

    /// The sessions that wait for a path's rate wait for another's, behind those that do already.
    pub(super) fn move_bulk(&mut self, from: u32, to: u32) {
        let sessions = std::mem::take(&mut at(&mut self.paths, from).sessions);
        at(&mut self.paths, to).sessions.extend(sessions);
    }

    /// Whether a session stands in a queue.
    pub(super) fn holds_session(&self, id: u32) -> bool {
        let queued = self.sessions.get(id as usize);
        queued.is_some_and(|queued| queued.urgent || queued.bulk)
    }

    /// Whether a path or one of its sessions does.
    pub(super) fn holds_path(&self, path: u32) -> bool {
        let bulk = self.paths.get(path as usize);
        bulk.is_some_and(|bulk| bulk.active || !bulk.sessions.is_empty())
    }

    pub(super) fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// Packets that are ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Sessions and paths in queues.
    pub(super) fn queued(&self) -> usize {
        let bulk = self.paths.iter().map(|bulk| bulk.sessions.len());
        self.urgent.len() + self.active.len() + bulk.sum::<usize>()
    }

    /// What the queues do not need any more is given back.
    pub(super) fn shrink(&mut self) {
        self.urgent.shrink_to_fit();
        self.active.shrink_to_fit();
        self.ready.shrink_to_fit();
    }
}

/// The item at a place; those up to it are made if there are none.
fn at<T: Default>(items: &mut Vec<T>, place: u32) -> &mut T {
    let place = place as usize;
    if items.len() <= place {
        items.resize_with(place + 1, T::default);
    }
    &mut items[place]
}
