//! The whole tunnel without I/O: bytes and a time go in, bytes, events and a next deadline come out.
//!
//! The caller (`event/`, or a simulator in the tests) owns the sockets and the clock. What it does:
//!  - a UDP datagram arrived                  -> `receive`
//!  - a TCP connection was accepted           -> `open`
//!  - a TCP socket is readable                -> read into `input(id)`, then `filled`; at end of stream `finished`
//!  - a TCP socket failed                     -> `broken`
//!  - a TCP socket is writable                -> write from `output(id)`, then `consumed`; when `output_ended(id)`
//!    says so, shut down the socket's writing half
//!  - the deadline is reached                 -> `advance`
//!
//! and after any of these: `event` until it is None, then `transmit` or `transmit_train` until it is None, then `deadline`.
//!
//! Here is who holds what, and what follows from a packet or a timer; in `transmit`, which datagram leaves next.

mod credit;
mod ending;
mod flood;
mod half_open;
mod hello;
mod holdings;
mod inbound;
mod local;
mod packet;
mod registry;
mod reload;
mod rendezvous;
mod roam;
mod scheduler;
mod sessions;
mod size;
mod sources;
pub mod stats;
mod summary;
mod transmit;
mod waiting;

use crate::conversation::Conversation;
use crate::conversation::engine::Tap;
use crate::ended::Ended;
use crate::path::{Counts, Path};
use crate::pmtu::{BASE, Search};
use crate::ring::Spares;
use crate::session::{Cause, Session, State};
use crate::settings::Settings;
use crate::throttle::PerSecond;
use crate::time::{MS, Now, SEC, Time};
use credit::Credit;
use flood::Flood;
use hello::{Hello, Unanswered};
use inbound::Complaints;
use packet::Packets;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rendezvous::Meetings;
use roam::{Cookies, Whereabouts};
use scheduler::{Scheduler, Timer};
use sessions::{Entry, Sessions};
use size::Tokens;
use slab::Slab;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use summary::Summary;
use waiting::Waiting;

pub use holdings::{Counters, Holdings};
pub use packet::DATAGRAM_MAX;
pub use transmit::{Fit, Train};

/// A session that is overdue and in a queue is looked at again after so long, microseconds.
const QUEUED_AGAIN: u64 = 2 * MS;
/// A pong that takes longer, milliseconds, answers nothing that was asked here.
const PING_LIVES: u32 = 60_000;
/// A path that was heard from within this is alive.
const ALIVE: u64 = 5 * SEC;
/// Paths whose knowledge is kept without a session, at most.
const IDLE_PATHS: usize = 1024;

/// A session's place in the table. It is free again after the `Event::Close` of its holder was taken from
/// `Tunnel::event`; the TCP socket must be closed then, before anything else is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u32);

/// What the caller has to do next for a session's TCP side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Connect a TCP socket to the configured service, then call `dialled` or `dial_failed`.
    Dial(SessionId),
    /// `output` has bytes that were not there before, or `output_ended` has become true: write what the socket takes.
    /// (Not said before `dialled` for a session that asked for a Dial.)
    Deliver(SessionId),
    /// `input` has room again after it had none: read what the socket has.
    Accept(SessionId),
    /// The session has nothing more to do with its TCP socket: close it; with `abort`, so that its other end
    /// gets a reset (SO_LINGER 0) instead of an end of stream. The id is free afterwards.
    Close { id: SessionId, abort: bool },
}

/// Why `open` did not open a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The session table is full.
    Full,
    /// The other end's address is not known (yet).
    NoPeer,
}

/// A path and the sessions on it that wait for its rate.
struct Lane {
    path: Path,
    /// Stands in `idle_lanes`.
    idle: bool,
    /// How large packets may be, and the size of the largest KCP packet that follows from it.
    search: Search,
    mtu: usize,
    /// When a packet was last sent that not every path carries.
    large_at: Time,
    /// What the log was last told of it; 0: nothing yet.
    size_told: usize,
    /// The address of this machine that the other end's last good datagram came to, and when that was.
    local: Option<IpAddr>,
    heard_at: Time,
    /// Something was ever heard from there, and when a session last brought something new: see `Counts`.
    heard: bool,
    news_at: Time,
    /// When it was heard again after silence.
    alive_since: Time,
    unanswered: Unanswered,
    at: Whereabouts,
    credit: Credit,
}

pub struct Tunnel {
    settings: Settings,
    packets: Packets,
    tap: Rc<RefCell<Tap>>,
    spares: Spares,
    scratch: Vec<u8>,
    sessions: Sessions,
    lanes: Slab<Lane>,
    addresses: HashMap<SocketAddr, u32>,
    idle_lanes: VecDeque<u32>,
    cookies: Cookies,
    tokens: Tokens,
    /// Lines of the log on the size of packets.
    size_lines: PerSecond,
    /// The number of the datagram that is being looked at.
    number: Option<u128>,
    /// Addresses that the other end of a path may have moved to.
    probing: HashMap<SocketAddr, u32>,
    waiting: Waiting,
    peer: Option<SocketAddr>,
    hello: Hello,
    meeting: Meetings,
    ended: Ended,
    scheduler: Scheduler,
    events: VecDeque<Event>,
    rng: SmallRng,
    counters: Counters,
    /// What has gone over paths that are forgotten.
    past: Counts,
    complaints: Complaints,
    flood: Flood,
    summary: Summary,
    resets: PerSecond,
    /// This end stops: it answers nobody any more.
    stops: bool,
    /// Likewise: when the others are told again, and how often they were.
    parting: Option<(Time, usize)>,
}

impl Tunnel {
    pub fn new(mut settings: Settings, now: Time) -> Tunnel {
        let mut rng = SmallRng::seed_from_u64(settings.seed);
        let packets = Packets::new(settings.sealing.take(), SmallRng::from_rng(&mut rng));
        Tunnel {
            meeting: Meetings::new(
                std::mem::take(&mut settings.rendezvous),
                settings.timeout,
                now,
            ),
            settings,
            packets,
            tap: Rc::default(),
            spares: Spares::default(),
            scratch: Vec::new(),
            sessions: Sessions::default(),
            lanes: Slab::new(),
            addresses: HashMap::new(),
            idle_lanes: VecDeque::new(),
            cookies: Cookies::default(),
            tokens: Tokens::default(),
            size_lines: PerSecond::default(),
            number: None,
            probing: HashMap::new(),
            waiting: Waiting::default(),
            peer: None,
            hello: Hello::default(),
            ended: Ended::default(),
            scheduler: Scheduler::new(now),
            events: VecDeque::new(),
            rng,
            counters: Counters::default(),
            past: Counts::default(),
            complaints: Complaints::default(),
            flood: Flood::default(),
            summary: Summary::default(),
            resets: PerSecond::default(),
            stops: false,
            parting: None,
        }
    }

    /// Sets the address that sessions opened from this side are carried to (`udp_connect`, resolved), and pings it. Where
    /// there are sessions with a peer at another address already, that is only a place where it may be: they and new ones
    /// go there as soon as it has answered, unless the old one is heard as well. May be called with several in a row: the
    /// first to answer is the one. Ends of another process reset the sessions.
    pub fn set_peer(&mut self, now: Time, peer: SocketAddr) {
        if let Some(old) = self.peer {
            if old == peer {
                return;
            }
            let lane = self.lane_of(old, now);
            if self.lanes[lane as usize].path.sessions > 0 {
                self.probe(lane, peer, u32::MAX, now);
                return self.ask_probes(lane, None, now);
            }
        }
        match self.peer.replace(peer) {
            Some(_) => self.hello.move_on(now),
            None => self.hello = Hello::new(now),
        }
        self.lane_of(peer, now);
        if self.settings.keepalive > 0 {
            self.ping(peer, now);
        }
    }

    fn free_number(&mut self, addr: SocketAddr) -> u32 {
        loop {
            let conv = self.rng.random();
            if conv != 0 && !self.sessions.contains(addr, conv) && !self.ended.contains(addr, conv)
            {
                return conv;
            }
        }
    }

    fn insert(&mut self, addr: SocketAddr, conv: u32, opener: bool, now: Time) -> u32 {
        if opener {
            self.counters.begun_here += 1;
        } else {
            self.counters.begun_there += 1;
        }
        let lane = self.lane_of(addr, now);
        let l = &mut self.lanes[lane as usize];
        if l.path.sessions == 0 {
            l.at.forget_clock();
            if !opener
                && !std::mem::replace(&mut l.at.used, true)
                && !l.path.congestion.has_delivered()
            {
                // it was proven a while ago, and that pause says nothing
                let limits = self.settings.rate.limits();
                l.path.renew(addr, self.packets.overhead(), limits, now);
            }
        }
        l.path.sessions += 1;
        let paced = self.settings.rate.control;
        let mut conversation = Conversation::new(
            conv,
            &self.settings.kcp,
            l.mtu,
            paced,
            self.tap.clone(),
            clock(&self.settings, now),
        );
        if opener {
            conversation.widen();
        } else if !self.packets.sealed() {
            conversation.be_wary();
        }
        let session = Session::new(conversation, lane, opener, &mut self.spares, now);
        self.sessions.insert(Entry::new(session, addr, now))
    }

    /// The lane to an address, if there is one.
    fn lane_to(&self, addr: SocketAddr) -> Option<&Lane> {
        let lane = self.addresses.get(&addr)?;
        self.lanes.get(*lane as usize)
    }

    /// The lane to an address; one that was idle keeps what it knows.
    fn lane_of(&mut self, addr: SocketAddr, now: Time) -> u32 {
        if let Some(lane) = self.addresses.get(&addr) {
            return *lane;
        }
        if self.idle_lanes.len() >= IDLE_PATHS {
            self.drop_idle_lane();
        }
        let overhead = self.packets.overhead();
        let path = Path::new(addr, overhead, self.settings.rate.limits(), now);
        let search = Search::new(usize::from(self.settings.kcp.mtu));
        let mtu = self.packet_size(&search, &addr);
        let lane = self.lanes.insert(Lane {
            path,
            idle: false,
            search,
            mtu,
            large_at: now,
            size_told: 0,
            local: None,
            heard_at: now,
            heard: false,
            news_at: now,
            alive_since: now,
            unanswered: Unanswered::default(),
            at: Whereabouts::default(),
            credit: Credit::default(),
        }) as u32;
        self.addresses.insert(addr, lane);
        lane
    }

    fn drop_idle_lane(&mut self) {
        let Some(lane) = self.idle_lanes.pop_front() else {
            return;
        };
        let Some(l) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        l.idle = false;
        let unused = l.path.sessions == 0 && !self.scheduler.holds_path(lane);
        if unused && (self.peer != Some(l.path.addr) || !l.reaches()) {
            if self.addresses.get(&l.path.addr) == Some(&lane) {
                self.addresses.remove(&l.path.addr);
            }
            self.probing.retain(|_, of| *of != lane);
            self.scheduler.clear(Timer::Path(lane));
            self.past.add(&l.path.counts);
            self.lanes.remove(lane as usize);
        }
    }

    /// Keeps what is known of a path without sessions, among a bounded number of such.
    fn rest_lane(&mut self, lane: u32) {
        let l = &mut self.lanes[lane as usize];
        if l.path.sessions > 0 {
            return;
        }
        if self.peer != Some(l.path.addr) {
            // how large its packets may be is of no interest now
            self.scheduler.clear(Timer::Path(lane));
        }
        if !l.idle {
            l.idle = true;
            self.idle_lanes.push_back(lane);
        }
    }

    /// Looks at what a session has to do next, after anything that may have changed it.
    fn touch(&mut self, id: u32, now: Time) {
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
        let lane = entry.session.path;
        if entry.session.unsent() >= BASE {
            self.resume_size(lane, now);
        }
        let entry = &mut self.sessions[id];
        let conversation = &mut entry.session.conversation;
        conversation.set_mtu(self.lanes[lane as usize].mtu);
        let both = clock(&self.settings, now);
        entry.session.feed(&mut self.spares, both);
        self.take_packets(id, now);
        let entry = &mut self.sessions[id];
        if entry.session.fed() && entry.holds_tcp() {
            self.events.push_back(Event::Accept(SessionId(id)));
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
    fn schedule(&mut self, id: u32, now: Time) {
        self.enqueue(id, now);
        let session = &self.sessions[id].session;
        let path = &self.lanes[session.path as usize].path;
        let both = clock(&self.settings, now);
        let mut deadline = session.deadline(path, &self.settings, both);
        if session.state == State::Halfway {
            deadline = deadline.min(now.after(ALIVE));
        }
        if !self.lanes[session.path as usize].reaches() {
            deadline = session.silent_at(&self.settings);
        }
        if self.scheduler.holds_session(id) {
            // it is overdue because it waits for its turn; the clock brings that no nearer
            deadline = deadline.max(now.after(QUEUED_AGAIN));
        }
        self.scheduler.set_by(Timer::Session(id), deadline);
    }

    /// When `advance` has to be called next. None: nothing is waiting for the clock.
    pub fn deadline(&self) -> Option<Time> {
        [
            self.scheduler.deadline(),
            self.ended.deadline(),
            self.ping_at(),
            self.meeting_at(),
            self.keys_at(),
            self.next_probe().map(|(at, _)| at),
            self.parting_at(),
            self.show_at(),
            self.summary.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what the clock has made due.
    pub fn advance(&mut self, now: Time) {
        self.scheduler.expire(now);
        while let Some(timer) = self.scheduler.next_due() {
            match timer {
                Timer::Session(id) => self.on_session_timer(id, now),
                Timer::Path(lane) => self.on_lane_timer(lane, now),
            }
        }
        self.ended.expire(now);
        self.advance_keys(now);
        self.waiting.expire(now);
        while let Some((_, lane)) = self.next_probe().filter(|(at, _)| *at <= now) {
            self.ask_probes(lane, None, now);
        }
        self.ping_if_due(now);
        self.show_if_due(now);
        self.advance_meeting(now);
        self.part_if_due(now);
        self.tell_silence(now);
        self.tell_no_answer(now);
        self.sum_up(false, now);
    }

    fn on_session_timer(&mut self, id: u32, now: Time) {
        let Some(entry) = self.sessions.get_mut(id) else {
            return;
        };
        let session = &mut entry.session;
        match session.state {
            State::Gone => return,
            State::Reset { .. } => return self.tell_reset(id, now),
            State::Halfway => {
                let lane = &self.lanes[session.path as usize];
                let silent = now.since(lane.heard_at) >= ALIVE;
                let lacks = entry.half_open.lacks_dial(silent, lane.alive_since, now);
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
            .advance(&mut self.lanes[session.path as usize].path, both);
        session.keep_alive(&self.settings, &mut self.spares, now);
        let lane = session.path;
        // what KCP has put out is this session's, even if reading ends it
        self.take_packets(id, now);
        self.doubt_size(id, now);
        self.read(id, now);
        self.touch(id, now);
        self.scheduler.activate(lane);
    }

    /// Many sessions are gone: what their places took is free.
    pub fn shrink(&mut self) {
        self.sessions.shrink();
        self.scheduler.shrink();
        self.events.shrink_to_fit();
    }

    /// What is known of the way to an address.
    pub fn path(&self, addr: SocketAddr) -> Option<&Path> {
        self.lane_to(addr).map(|lane| &lane.path)
    }
}

fn clock(settings: &Settings, now: Time) -> Now {
    Now {
        time: now,
        clock: (now.millis() as u32).wrapping_add(settings.clock_offset),
    }
}

/// Milliseconds since a ping with this timestamp was sent; none if that was no ping of the last minute.
fn since_ping(settings: &Settings, timestamp: u32, now: Time) -> Option<u32> {
    let age = clock(settings, now).clock.wrapping_sub(timestamp);
    (age < PING_LIVES).then_some(age)
}
