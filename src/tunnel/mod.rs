//! The whole tunnel without I/O: bytes and a time go in, bytes, events and a next deadline come out.
//!
//! The caller (`event/`, or a simulator in the tests) owns the sockets and the clock. What it does:
//!  - a UDP datagram arrived                  -> `receive`
//!  - a TCP connection was accepted           -> `open`
//!  - a TCP socket is readable                -> read into `input(id)`, then `filled`; at end of stream `finished`
//!  - a TCP socket failed                     -> `broken`
//!  - a TCP socket is writable                -> write from `output(id)`, then `consumed`; when `output_ended(id)`
//!    says so, shut down the socket's writing half
//!  - the deadline is reached                 -> `handle_timeout`
//!
//! and after any of these: `poll` until it is None, then `poll_transmit` until it is None, then `poll_timeout`.
//!
//! Here is who holds what, and what follows from a packet or a timer; in `transmit.rs`, which datagram leaves next.

mod ending;
mod flood;
mod fresh_keys;
mod half_open;
mod holdings;
mod hopping;
mod inbound;
mod keyholders;
mod limits;
mod local;
mod migration;
mod packet;
mod paths;
mod peer;
mod registry;
mod reload;
mod rendezvous;
mod reports;
mod scheduler;
mod sessions;
mod size;
mod sources;
pub mod stats;
mod summary;
mod trace;
mod transmit;
mod validation;
mod waiting;

use crate::conversation::Conversation;
use crate::path::{ALIVE, Path};
use crate::pmtu::BASE;
use crate::pool::BufferPool;
use crate::segment::Headers;
use crate::session::{Cause, Session, State};
use crate::settings::Settings;
use crate::time::{Duration, Instant, Now};
use crate::time_wait::TimeWait;
use ending::Farewell;
use hopping::Hopping;
use limits::Limits;
use packet::Packets;
use paths::Paths;
use peer::Peer;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rendezvous::Meetings;
use reports::Reports;
use scheduler::{Scheduler, Timer};
use sessions::{Entry, Sessions};
use std::collections::VecDeque;
use std::net::SocketAddr;
use validation::Newcomers;

pub use holdings::{Counters, Holdings};
pub use hopping::{Moved, Reason};
pub use packet::DATAGRAM_MAX;
pub use transmit::{Fit, Transmit};

/// A session that is overdue and in a queue is looked at again after so long.
const QUEUED_AGAIN: Duration = Duration::from_millis(2);
/// A pong that takes longer, milliseconds, answers nothing that was asked here.
const PING_LIVES: u32 = 60_000;

/// A session's place in the table. It is free again after the `Event::Close` of its holder was taken from
/// `Tunnel::poll`; the TCP socket must be closed then, before anything else is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u32);

/// What the caller has to do next for a session's TCP side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Connect a TCP socket to the configured service, then call `dialled` or `dial_failed`.
    Dial(SessionId),
    /// `output` has bytes that were not there before, or `output_ended` has become true: write what the socket takes.
    /// (Not said before `dialled` for a session that asked for a Dial.)
    Readable(SessionId),
    /// `input` has room again after it had none: read what the socket has.
    Writable(SessionId),
    /// The session has nothing more to do with its TCP socket: close it; with `abort`, so that its other end
    /// gets a reset (SO_LINGER 0) instead of an end of stream. The id is free afterwards.
    Close {
        /// The session.
        id: SessionId,
        /// Whether the other end of the socket gets a reset.
        abort: bool,
    },
}

/// Why `open` did not open a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The session table is full.
    Full,
    /// The other end's address is not known (yet).
    NoPeer,
    /// There are no fresh keys with the other end (yet), and nothing else will do.
    NoFreshKeys,
}

/// One end of a tunnel: its sessions, its paths, and what is known of the other ends.
pub struct Tunnel {
    settings: Settings,
    packets: Packets,
    buffers: Buffers,
    sessions: Sessions,
    paths: Paths,
    newcomers: Newcomers,
    peer: Peer,
    hopping: Hopping,
    meeting: Meetings,
    time_wait: TimeWait,
    scheduler: Scheduler,
    events: VecDeque<Event>,
    rng: SmallRng,
    counters: Counters,
    reports: Reports,
    limits: Limits,
    farewell: Farewell,
}

/// Memory that is used again and again.
#[derive(Default)]
struct Buffers {
    pool: BufferPool,
    /// A segment on its way from KCP to a session.
    scratch: Vec<u8>,
    /// The headers of the packet that is looked at.
    headers: Headers,
}

impl Tunnel {
    /// A tunnel without sessions.
    pub fn new(mut settings: Settings, now: Instant) -> Tunnel {
        let mut rng = SmallRng::seed_from_u64(settings.seed);
        let packets = Packets::new(
            settings.sealing.take(),
            SmallRng::from_rng(&mut rng),
            settings.forward_secrecy,
        );
        Tunnel {
            meeting: Meetings::new(
                std::mem::take(&mut settings.rendezvous),
                settings.timeout,
                now,
            ),
            settings,
            packets,
            buffers: Buffers::default(),
            sessions: Sessions::default(),
            paths: Paths::default(),
            newcomers: Newcomers::default(),
            peer: Peer::default(),
            hopping: Hopping::default(),
            time_wait: TimeWait::default(),
            scheduler: Scheduler::new(now),
            events: VecDeque::new(),
            rng,
            counters: Counters::default(),
            reports: Reports::default(),
            limits: Limits::default(),
            farewell: Farewell::default(),
        }
    }

    /// Sets the address that sessions opened from this side are carried to (`udp_connect`, resolved), and pings it. Where
    /// there are sessions with a peer at another address already, that is only a place where it may be: they and new ones
    /// go there as soon as it has answered, unless the old one is heard as well. May be called with several in a row: the
    /// first to answer is the one. Ends of another process reset the sessions.
    pub fn set_peer(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(old) = self.peer.addr() {
            if old == peer {
                return;
            }
            let path = self.path_to(old, now);
            if self.paths[path].sessions > 0 {
                self.add_candidate(path, peer, u32::MAX, now);
                return self.ping_candidates(path, None, now);
            }
        }
        self.peer.set(peer, now);
        self.path_to(peer, now);
        if !self.settings.keepalive.is_zero() {
            self.ping(peer, now);
        }
    }

    fn free_number(&mut self, addr: SocketAddr) -> u32 {
        loop {
            let conv = self.rng.random();
            if conv != 0
                && !self.sessions.contains(addr, conv)
                && !self.time_wait.contains(addr, conv)
            {
                return conv;
            }
        }
    }

    fn insert(&mut self, addr: SocketAddr, conv: u32, opener: bool, now: Instant) -> u32 {
        if opener {
            self.counters.begun_here += 1;
        } else {
            self.counters.begun_there += 1;
        }
        let id = self.path_to(addr, now);
        let path = &mut self.paths[id];
        if path.sessions == 0 {
            path.clock.forget();
            if !opener
                && !std::mem::replace(&mut path.used, true)
                && !path.congestion.has_delivered()
            {
                // it was validated a while ago, and that pause says nothing
                let limits = self.settings.rate.limits();
                path.renew(addr, self.packets.overhead(), limits, false, now);
            }
        }
        path.sessions += 1;
        let paced = self.settings.rate.control;
        let mut conversation = Conversation::new(
            conv,
            &self.settings.kcp,
            path.packet_size(),
            paced,
            clock(&self.settings, now),
        );
        if opener {
            conversation.widen();
        } else if !self.packets.sealed() {
            conversation.back_off();
        }
        let session = Session::new(conversation, id, opener, &mut self.buffers.pool, now);
        self.sessions.insert(Entry::new(session, addr, now))
    }

    /// The path to an address; one that was idle keeps what it knows.
    fn path_to(&mut self, addr: SocketAddr, now: Instant) -> u32 {
        if let Some(path) = self.paths.id_of(addr) {
            return path;
        }
        if let Some(path) = self.paths.take_oldest_idle() {
            self.drop_unused(path);
        }
        let limits = self.settings.rate.limits();
        let most = usize::from(self.settings.kcp.mtu);
        let path = Path::new(addr, self.packets.overhead(), most, limits, now);
        self.paths.insert(path)
    }

    /// Forgets a path, unless something may still be sent on it.
    fn drop_unused(&mut self, id: u32) {
        let path = &self.paths[id];
        let unused = path.sessions == 0 && !self.scheduler.holds_path(id);
        if unused && (!self.peer.is_at(path.addr) || !path.reaches()) {
            self.scheduler.clear(Timer::Path(id));
            self.paths.remove(id);
        }
    }

    /// Keeps what is known of a path without sessions, among a bounded number of such.
    fn idle_path(&mut self, id: u32) {
        let path = &self.paths[id];
        if path.sessions > 0 {
            return;
        }
        if !self.peer.is_at(path.addr) {
            // how large its packets may be is of no interest now
            self.scheduler.clear(Timer::Path(id));
        }
        self.paths.set_idle(id);
    }

    /// Looks at what a session has to do next, after anything that may have changed it.
    fn drive(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.sessions.get_mut(id) else {
            return;
        };
        if entry.session.state.is_over() {
            return;
        }
        if entry.session.is_cut_off() {
            return self.abort(id, Cause::ResetByPeer, now);
        }
        entry.note_progress(now);
        let path_id = entry.session.path;
        if entry.session.unsent() >= BASE {
            self.resume_size(path_id, now);
        }
        let entry = &mut self.sessions[id];
        let conversation = &mut entry.session.conversation;
        conversation.set_mtu(self.paths[path_id].packet_size());
        let both = clock(&self.settings, now);
        entry.session.feed(&mut self.buffers.pool, both);
        self.take_packets(id, now);
        let entry = &mut self.sessions[id];
        if entry.session.fed() && entry.holds_tcp() {
            self.events.push_back(Event::Writable(SessionId(id)));
        }
        if entry.session.tcp_is_done() {
            entry.session.state = State::Lingering;
            entry.session.until = now.after(self.settings.linger);
            self.close(id, false);
        }
        let session = &self.sessions[id].session;
        if session.state == State::Lingering
            && session.is_delivered()
            && session.conversation.is_quiet()
        {
            return self.retire_cleanly(id, now);
        }
        self.schedule(id, now);
    }

    /// Puts a session into the queues that it has something for, and sets its timer.
    fn schedule(&mut self, id: u32, now: Instant) {
        self.enqueue(id, now);
        let session = &self.sessions[id].session;
        let path = &self.paths[session.path];
        let both = clock(&self.settings, now);
        let mut deadline = session.deadline(path, &self.settings, both);
        if session.state == State::HalfOpen {
            deadline = deadline.min(now.after(ALIVE));
        }
        if !path.reaches() {
            deadline = session.silent_at(&self.settings);
        }
        if self.scheduler.holds_session(id) {
            // it is overdue because it waits for its turn; the clock brings that no nearer
            deadline = deadline.max(now.after(QUEUED_AGAIN));
        }
        self.scheduler.set_by(Timer::Session(id), deadline);
    }

    /// When `handle_timeout` has to be called next. None: nothing is waiting for the clock.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.scheduler.deadline(),
            self.time_wait.deadline(),
            self.ping_at(),
            self.meeting_at(),
            self.keys_at(),
            self.fresh_keys_at(),
            self.paths.next_candidate().map(|(at, _)| at),
            self.farewell.deadline(),
            self.announce_at(),
            self.hopping_at(),
            self.reports.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what the clock has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.scheduler.expire(now);
        while let Some(timer) = self.scheduler.next_due() {
            match timer {
                Timer::Session(id) => self.on_session_timer(id, now),
                Timer::Path(path_id) => self.on_path_timer(path_id, now),
            }
        }
        self.time_wait.expire(now);
        self.advance_keys(now);
        self.advance_fresh_keys(now);
        self.newcomers.expire(now);
        while let Some((_, path_id)) = self.paths.next_candidate().filter(|(at, _)| *at <= now) {
            self.ping_candidates(path_id, None, now);
        }
        self.ping_if_due(now);
        self.announce_if_due(now);
        self.hop_if_due(now);
        self.advance_meeting(now);
        self.part_if_due(now);
        self.tell_silence(now);
        self.tell_no_answer(now);
        self.reports.sum_up(false, now);
    }

    fn on_session_timer(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.sessions.get_mut(id) else {
            return;
        };
        let session = &mut entry.session;
        match session.state {
            State::Gone => return,
            State::Reset { .. } => return self.tell_reset(id, now),
            State::HalfOpen => {
                let liveness = &self.paths[session.path].liveness;
                let (silent, alive_since) = (liveness.is_silent(now), liveness.alive_since());
                let lacks = entry.half_open.lacks_dial(silent, alive_since, now);
                if lacks || now.since(session.opened_at) >= self.settings.timeout {
                    return self.abort(id, Cause::NoDial, now);
                }
            }
            State::Lingering => {
                // plain KCP may wait a minute and longer from one attempt to the next
                let patience = match self.settings.rate.control {
                    true => self.settings.linger,
                    false => self.settings.timeout,
                };
                let moves = entry.progress.since().after(patience);
                session.until = session.until.max(moves);
                if now >= session.until {
                    return self.abort(id, Cause::Timeout, now);
                }
            }
            _ => {}
        }
        if now >= session.silent_at(&self.settings) {
            return self.abort(id, Cause::Timeout, now);
        }
        let both = clock(&self.settings, now);
        session
            .conversation
            .advance(&mut self.paths[session.path], &mut self.buffers.pool, both);
        session.keep_alive(&self.settings, &mut self.buffers.pool, now);
        let path_id = session.path;
        // what KCP has put out is this session's, even if reading ends it
        self.take_packets(id, now);
        self.detect_black_hole(id, now);
        self.read(id, now);
        self.drive(id, now);
        self.scheduler.activate(path_id);
    }

    /// Many sessions are gone: what their places took is free.
    pub fn shrink(&mut self) {
        self.sessions.shrink();
        self.scheduler.shrink();
        self.events.shrink_to_fit();
    }

    /// The last move of this end to another pair of ports. None: there was none.
    pub fn moved(&self) -> Option<Moved> {
        self.hopping.moved()
    }

    /// What is known of the way to an address.
    pub fn path(&self, addr: SocketAddr) -> Option<&Path> {
        self.paths.to(addr)
    }
}

fn clock(settings: &Settings, now: Instant) -> Now {
    Now {
        time: now,
        clock: (now.millis() as u32).wrapping_add(settings.clock_offset),
    }
}

/// Milliseconds since a ping with this timestamp was sent; none if that was no ping of the last minute.
fn since_ping(settings: &Settings, timestamp: u32, now: Instant) -> Option<u32> {
    let age = clock(settings, now).clock.wrapping_sub(timestamp);
    (age < PING_LIVES).then_some(age)
}
