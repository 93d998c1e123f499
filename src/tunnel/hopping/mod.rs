//! When this end leaves a pair of ports for another one: its own and one of the peer's. It does if nothing comes back on the one
//! that is in use, if that seems to be throttled, or because the operator has set a time for it (`hop`).
//!
//! Some providers slow down a flow of UDP that lasts, and know it by its ports. Whether a path is throttled or the line itself
//! has become slower is found out by comparing: everything moves to a new pair, and if that carries no more, the question is
//! asked again ever more rarely. Where a transfer loses much from its beginning nothing falls; then a packet train (`train`) tells
//! first whether a new pair carries more, and only then everything moves. A pair is in use only once the peer has challenged this
//! end there and so validates the new address (`validation`): sessions then move without a pause. An end with one socket
//! (`fixed`) keeps its address, and a pong is enough. A peer that answers and never challenges cannot move sessions (kcptun-libev
//! cannot): new ones begin on the new pair, and the others stay where they are.
//!
//! How a new pair is tried is in `trial`, and how much a pair carries is measured in `throughput`; how sessions move is in
//! `migration`, what the log says of ports that do not answer is in `silent`, and which sockets there are is the caller's business.

mod silent;
mod throughput;
mod train;
mod trial;

use super::Tunnel;
use crate::path::Local;
use crate::time::{Duration, Instant};
use silent::SilentPorts;
use std::fmt;
use std::net::SocketAddr;
use throughput::{Throughput, Verdict};
use trial::Candidate;

/// Nothing has come back for so long: the pair may be dead.
const DEAD_AFTER: Duration = Duration::from_millis(450);
/// Nor for so many round trips.
const DEAD_ROUND_TRIPS: u64 = 4;
/// The pause before the next pair is tried while none answers; it doubles.
const NEXT_PAIR: Duration = Duration::from_millis(150);
/// The longest such pause.
const NEXT_PAIR_MAX: Duration = Duration::from_secs(10);
/// After a move, or a train, for nothing the pair is not doubted for so long; each further one doubles it.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);
/// So many times at most.
const DOUBT_DOUBLINGS: u32 = 6;
/// Two pairs that were throttled at ages that differ by no more than this share: others will be at that age, too.
const LIFETIME_SPREAD: f64 = 0.25;
/// A pair is left at this share of that age.
const LIFETIME_SHARE: f64 = 0.85;
/// After so many pairs that were left early one stays, to see whether pairs are throttled still.
const EARLY_MOVES: u32 = 20;

/// Why a pair of ports was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nothing came back.
    Dead,
    /// It carried less than before.
    Throttled,
    /// It lost much, and a new pair carried more.
    Lossy,
    /// Pairs before it were throttled at its age.
    Aged,
    /// The operator's time was over.
    Hop,
}

impl Reason {
    /// Its name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Dead => "dead",
            Reason::Throttled => "throttled",
            Reason::Lossy => "lossy",
            Reason::Aged => "aged",
            Reason::Hop => "hop",
        }
    }

    /// What is known against the pair in use before another one has been tried.
    fn doubt(self) -> &'static str {
        match self {
            Reason::Dead => "nothing came back",
            Reason::Throttled => "it carried much less than before",
            Reason::Lossy => "it lost much",
            Reason::Aged => "pairs before it were throttled at this age",
            Reason::Hop => "its time was over",
        }
    }
}

/// Why a pair was left, after the move.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.doubt())?;
        match self {
            Reason::Lossy => f.write_str(", and another pair carried more"),
            _ => Ok(()),
        }
    }
}

/// The last move to another pair of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// When.
    pub at: Instant,
    /// Why the pair before it was left.
    pub reason: Reason,
    /// Moves so far.
    pub count: u64,
}

/// After a question in vain it is not asked for a while, and ever more rarely.
#[derive(Default)]
struct Backoff {
    until: Instant,
    in_vain: u32,
}

impl Backoff {
    fn allows(&self, now: Instant) -> bool {
        now >= self.until
    }

    fn on_failure(&mut self, now: Instant) {
        self.until = now.after(DOUBT_PAUSE << self.in_vain.min(DOUBT_DOUBLINGS));
        self.in_vain += 1;
    }
}

/// The pair of ports in use, and what is tried beside it.
#[derive(Default)]
pub(super) struct Hopping {
    /// The peer's ports. Empty: only that of its address.
    ports: Vec<u16>,
    /// Those of them that do not answer.
    silent: SilentPorts,
    /// This end has one socket whatever its number.
    fixed: bool,
    /// The sockets in use, and made last.
    socket: u16,
    newest: u16,
    /// Since when the pair is in use.
    began: Instant,
    candidates: Vec<Candidate>,
    /// The peer has challenged this end: it can move sessions.
    challenges: bool,
    /// When the next pair is tried because nothing comes back, and the pause after that.
    next_pair: Option<(Instant, Duration)>,
    throughput: Throughput,
    /// When the peer was last pinged because a download had stopped.
    asked_at: Instant,
    /// The pair is compared with the one before it: how old that was when it was throttled, if that is known.
    compared: Option<Option<Duration>>,
    /// When the pair is doubted next, and when a train is sent.
    doubt: Backoff,
    trains: Backoff,
    /// Until when the operator's time moves nothing, because that was in vain.
    stays_until: Instant,
    /// The age at which the last pair was throttled; at which pairs are left because two were; and how many were left so.
    throttled_at: Option<Duration>,
    lifetime: Option<Duration>,
    early: u32,
    moved: Option<Moved>,
}

impl Hopping {
    /// The peer has these ports. `fixed`: this end cannot change its own.
    fn set_ports(&mut self, ports: Vec<u16>, fixed: bool) {
        if ports != self.ports {
            self.silent = SilentPorts::default();
        }
        (self.ports, self.fixed) = (ports, fixed);
    }

    /// The socket in use.
    pub(super) fn socket(&self) -> u16 {
        self.socket
    }

    /// The last move. None: there was none.
    pub(super) fn moved(&self) -> Option<Moved> {
        self.moved
    }

    /// Whether a datagram from this address was asked for.
    pub(super) fn expects(&self, from: SocketAddr) -> bool {
        self.candidates.iter().any(|c| c.addr == from)
    }

    /// Whether the peer has another port than the one in use.
    fn has_many_ports(&self) -> bool {
        self.ports.len() > 1
    }

    /// Whether there is another pair than the one in use.
    fn has_others(&self) -> bool {
        self.has_many_ports() || !self.fixed
    }

    /// Whether this end tries a pair of ports, of which an address and a socket of its own are the two.
    pub(super) fn is_tried(&self, addr: SocketAddr, local: Local) -> bool {
        self.place_of(addr, local).is_some()
    }

    /// Keeps a challenge that has come there until the train on that pair has passed. False if there is none.
    pub(super) fn keep_challenge(&mut self, from: SocketAddr, local: Local, value: u32) -> bool {
        let place = self.place_of(from, local);
        let tried = place.map(|place| &mut self.candidates[place]);
        match tried.filter(|candidate| candidate.train.is_some()) {
            Some(candidate) => {
                candidate.challenge = Some(value);
                true
            }
            None => false,
        }
    }

    fn place_of(&self, addr: SocketAddr, local: Local) -> Option<usize> {
        let same = |c: &Candidate| c.addr == addr && c.socket == local.socket;
        self.candidates.iter().position(same)
    }

    /// Another pair than that with `peer`; `random` chooses the port.
    fn choose_pair(&mut self, peer: SocketAddr, random: u32) -> (SocketAddr, u16) {
        let tried = |port: u16| self.candidates.iter().any(|c| c.addr.port() == port);
        let others = self.ports.iter().filter(|port| **port != peer.port());
        let untried: Vec<u16> = others
            .clone()
            .filter(|port| !tried(**port))
            .copied()
            .collect();
        let others: Vec<u16> = match untried.is_empty() {
            true => others.copied().collect(),
            false => untried,
        };
        let port = match others.len() {
            0 => peer.port(),
            n => others[random as usize % n],
        };
        self.newest = match self.fixed {
            true => 0,
            // the number 0 is that of an end that has never moved
            false => self.newest.checked_add(1).unwrap_or(1),
        };
        (SocketAddr::new(peer.ip(), port), self.newest)
    }

    /// A pair is in use from now on.
    fn on_move(&mut self, socket: u16, reason: Reason, now: Instant) {
        let age = now.since(self.began);
        (self.socket, self.began, self.next_pair) = (socket, now, None);
        self.candidates.clear();
        let count = self.moved.map_or(0, |moved| moved.count) + 1;
        self.moved = Some(Moved {
            at: now,
            reason,
            count,
        });
        let age = age.saturating_sub(self.throughput.doubted_for(now));
        self.compared = match reason {
            Reason::Throttled => Some(Some(age)),
            Reason::Lossy => Some(None),
            _ => None,
        };
        self.early += u32::from(reason == Reason::Aged);
        self.throughput.on_move(now);
    }

    /// What a pair that was moved to carries is known.
    fn on_compared(&mut self, better: bool, now: Instant) {
        let Some(age) = self.compared.take() else {
            return;
        };
        if !better {
            self.doubt.on_failure(now);
            self.trains.on_failure(now);
            // the line is slower
            return self.throughput.accept();
        }
        (self.doubt.in_vain, self.trains.in_vain) = (0, 0);
        if let Some(age) = age {
            let spread = |last: Duration| {
                let longer = last.max(age).max(Duration::MICROSECOND);
                last.abs_diff(age).div_duration_f64(longer)
            };
            if let Some(last) = self
                .throttled_at
                .filter(|last| spread(*last) <= LIFETIME_SPREAD)
            {
                self.lifetime = Some(last.min(age).mul_f64(LIFETIME_SHARE));
                self.early = 0;
            }
            self.throttled_at = Some(age);
        }
    }

    /// Another pair was tried in vain: the same reason leads to none until then.
    fn put_off(&mut self, reason: Reason, until: Instant) {
        match reason {
            Reason::Dead => {}
            Reason::Throttled | Reason::Aged => self.doubt.until = until,
            Reason::Lossy => self.trains.until = until,
            Reason::Hop => self.stays_until = until,
        }
    }

    /// Whether pairs as old as this one were throttled. One in a while stays all the same.
    fn has_aged(&self, now: Instant) -> bool {
        let aged = |lifetime: Duration| now.since(self.began) >= lifetime;
        self.early < EARLY_MOVES && self.lifetime.is_some_and(aged)
    }
}

impl Tunnel {
    /// Names the ports of the peer, of which one is that of its address (`set_peer`). `fixed`: this end has one socket, whatever
    /// number a `Transmit` names.
    pub fn set_ports(&mut self, ports: Vec<u16>, fixed: bool) {
        self.hopping.set_ports(ports, fixed);
    }

    /// The path to the peer, if its ports may be changed.
    fn hopping_path(&self) -> Option<(u32, SocketAddr)> {
        let hops = self.packets.sealed() && self.settings.rate.control && self.hopping.has_others();
        let peer = self
            .peer
            .addr()
            .filter(|_| hops && !self.meeting.is_client())?;
        Some((self.paths.id_of(peer)?, peer))
    }

    /// When `hop_if_due` has something to do.
    pub(super) fn hopping_at(&self) -> Option<Instant> {
        let candidates = self.hopping.candidates.iter().map(|c| c.next).min();
        let hop = self.hop_by_clock_at();
        let all = [candidates, self.dead_at(), self.stopped_at(), hop];
        all.into_iter().flatten().min()
    }

    /// When the operator's time for the present pair is over.
    fn hop_by_clock_at(&self) -> Option<Instant> {
        let hop = Some(self.settings.hop).filter(|hop| !hop.is_zero())?;
        let (path_id, _) = self.hopping_path()?;
        let idle = self.paths[path_id].sessions == 0 || !self.hopping.candidates.is_empty();
        let due = self.hopping.began.after(hop);
        (!idle).then(|| due.max(self.hopping.stays_until))
    }

    /// When another pair is tried because nothing comes back. With one port of the peer that is the caller's business, who makes
    /// a new socket (`peer_silent_at`).
    fn dead_at(&self) -> Option<Instant> {
        if !self.hopping.has_many_ports() {
            return None;
        }
        let (path_id, _) = self.hopping_path()?;
        let path = &self.paths[path_id];
        // acks alone get no answer
        let asked = path.liveness.unanswered().owed.into_iter();
        let since = asked.chain(self.peer.unanswered_since()).min()?;
        if path.sessions == 0 {
            return None;
        }
        let patience = DEAD_AFTER.max(DEAD_ROUND_TRIPS * path.known_rtt().unwrap_or_default());
        let dead = since.max(path.liveness.heard_at()).after(patience);
        Some(dead.max(self.hopping.next_pair.map_or(Instant::ZERO, |(at, _)| at)))
    }

    /// When the peer is pinged because a download has stopped: only its answer tells whether that has ended or the pair is dead.
    fn stopped_at(&self) -> Option<Instant> {
        let asks = self.hopping.has_many_ports()
            && self.hopping.throughput.is_receiving()
            && self.peer.unanswered_since().is_none();
        if !asks {
            return None;
        }
        let (path_id, _) = self.hopping_path()?;
        let path = &self.paths[path_id];
        let news_at = path.liveness.news_at();
        (path.sessions > 0 && news_at > self.hopping.asked_at).then(|| news_at.after(DEAD_AFTER))
    }

    /// Tries new pairs, as far as it is time to.
    pub(super) fn hop_if_due(&mut self, now: Instant) {
        if self.dead_at().is_some_and(|at| at <= now) {
            let (_, pause) = self.hopping.next_pair.unwrap_or((now, NEXT_PAIR));
            let next = (2 * pause).min(NEXT_PAIR_MAX);
            self.hopping.next_pair = Some((now.after(pause), next));
            self.try_pair(Reason::Dead, now);
        }
        let stopped = self.stopped_at().is_some_and(|at| at <= now);
        if let Some(peer) = self.peer.addr().filter(|_| stopped) {
            self.hopping.asked_at = now;
            self.ping(peer, now);
        }
        if self.hop_by_clock_at().is_some_and(|at| at <= now) {
            self.try_pair(Reason::Hop, now);
        }
        // each call takes the candidate away or names a later time, and may clear all
        let due = |c: &Candidate| c.next <= now;
        while let Some(place) = self.hopping.candidates.iter().rposition(due) {
            self.go_on_with(place, now);
        }
    }

    /// Notes what has come and what was acknowledged; moves if the pair seems to be throttled, or will be.
    pub(super) fn watch_throughput(&mut self, now: Instant) {
        if !self.hopping.throughput.is_due(now) {
            return;
        }
        let Some((path_id, _)) = self.hopping_path() else {
            return;
        };
        let verdict = self.hopping.throughput.record(&self.paths[path_id], now);
        if self.hopping.compared.is_some() {
            if let Some(better) = self.hopping.throughput.compared() {
                self.hopping.on_compared(better, now);
            }
            return;
        }
        let tried = !self.hopping.candidates.is_empty();
        match verdict {
            _ if tried => {}
            Verdict::Fallen if self.hopping.doubt.allows(now) => {
                self.try_pair(Reason::Throttled, now);
            }
            Verdict::Busy if self.hopping.has_aged(now) && self.hopping.doubt.allows(now) => {
                self.try_pair(Reason::Aged, now);
            }
            Verdict::Busy if self.hopping.trains.allows(now) => self.send_train_if_lossy(now),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
