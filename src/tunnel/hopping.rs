//! When this end leaves a pair of ports for another one: its own and one of the peer's. It does if nothing comes back on the one
//! that is in use, if that seems to be throttled, or because the operator has set a time for it (`hop`).
//!
//! Some providers slow down a flow of UDP that lasts, and know it by its ports. Whether a path is throttled or the line itself
//! has become slower is found out by comparing: everything moves to a new pair, and if that carries no more, the question is
//! asked again ever more rarely. Where a transfer loses much from its beginning nothing falls; then a packet train (`train`) tells
//! first whether a new pair loses less, and only then everything moves. A pair is in use only once the peer has challenged this
//! end there and so validates the new address (`validation`): sessions then move without a pause. An end with one socket
//! (`fixed`) keeps its address, and a pong is enough. A peer that answers and never challenges cannot move sessions (kcptun-libev
//! cannot): new ones begin on the new pair, and the others stay where they are.
//!
//! How much a pair carries is measured in `throughput`; how sessions move is in `migration`, and which sockets there are is the
//! caller's business.

use super::throughput::{Throughput, Verdict};
use super::train::Train;
use super::{Tunnel, clock};
use crate::message::{Control, MOVES};
use crate::path::Local;
use crate::time::{Duration, Instant};
use rand::RngExt;
use std::fmt;
use std::net::SocketAddr;

/// Nothing has come back for so long: the pair may be dead.
const DEAD_AFTER: Duration = Duration::from_millis(450);
/// Nor for so many round trips.
const DEAD_ROUND_TRIPS: u64 = 4;
/// The pause before the next pair is tried while none answers; it doubles.
const NEXT_PAIR: Duration = Duration::from_millis(150);
/// The longest such pause.
const NEXT_PAIR_MAX: Duration = Duration::from_secs(10);
/// A new pair is pinged again after so long, then after twice as long and so on.
const PING_AGAIN: Duration = Duration::from_millis(100);
/// How often it is pinged.
const PINGS: u32 = 5;
/// The most new pairs at a time.
const CANDIDATES_MAX: usize = 6;
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
    /// It lost what a new pair did not lose.
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
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Reason::Dead => "nothing came back",
            Reason::Throttled => "it carried much less than before",
            Reason::Lossy => "it lost much, and another pair did not",
            Reason::Aged => "pairs before it were throttled at this age",
            Reason::Hop => "its time was over",
        })
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

/// A new pair that is tried.
struct Candidate {
    addr: SocketAddr,
    socket: u16,
    reason: Reason,
    pings: u32,
    next: Instant,
    answered: bool,
    /// The train that is to pass before it is used, and what the peer has challenged this end with there meanwhile. That is
    /// answered when everything moves.
    train: Option<Train>,
    challenge: Option<u32>,
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

    fn try_pair(&mut self, reason: Reason, now: Instant) {
        self.try_pair_by(None, reason, now);
    }

    /// Has a train show whether a new pair loses less, if the transfer loses much.
    fn send_train_if_lossy(&mut self, now: Instant) {
        let Some((rate, inbound)) = self.hopping.throughput.lossy() else {
            return;
        };
        let Some((path_id, _)) = self.hopping_path() else {
            return;
        };
        let path = &self.paths[path_id];
        if path.congestion.is_capped() {
            // the operator's limit holds for trains, too
            return;
        }
        let (most, rtt) = (path.packet_size(), path.congestion.base_rtt());
        let rtt = rtt.unwrap_or(path.congestion.srtt());
        let first = self.newcomers.token(clock(&self.settings, now).clock);
        let train = Train::new(rate, inbound, first, most, rtt, now);
        if train.is_some() {
            self.try_pair_by(train, Reason::Lossy, now);
        }
    }

    fn try_pair_by(&mut self, train: Option<Train>, reason: Reason, now: Instant) {
        let Some((path_id, peer)) = self.hopping_path() else {
            return;
        };
        // what the new pair brings is not where the present one is
        let present = self.hopping.socket();
        self.paths[path_id].liveness.pin(present);
        let (addr, socket) = self.hopping.choose_pair(peer, self.rng.random());
        // the same process, at another of its ports
        self.packets.fresh.map_if_free(addr, peer, now);
        if self.hopping.candidates.len() >= CANDIDATES_MAX {
            self.hopping.candidates.remove(0);
        }
        log::debug!(
            "tries the pair of port {} and socket {socket}: {reason}",
            addr.port()
        );
        self.hopping.candidates.push(Candidate {
            addr,
            socket,
            reason,
            pings: 0,
            next: now,
            answered: false,
            train,
            challenge: None,
        });
        self.go_on_with(self.hopping.candidates.len() - 1, now);
    }

    /// Pings a new pair again, gives it up, or takes it for new sessions if its end does not challenge.
    fn go_on_with(&mut self, place: usize, now: Instant) {
        let candidate = &mut self.hopping.candidates[place];
        let (addr, socket, reason) = (candidate.addr, candidate.socket, candidate.reason);
        if candidate.train.is_some() {
            return self.go_on_with_train(place, now);
        }
        if candidate.pings >= PINGS {
            if candidate.answered && !self.hopping.challenges {
                return self.begin_at(addr, socket, reason, now);
            }
            self.hopping.candidates.remove(place);
            return self.hopping.put_off(reason, now.after(DOUBT_PAUSE));
        }
        candidate.next = now.after(PING_AGAIN << candidate.pings);
        candidate.pings += 1;
        let ping = Control::Ping(clock(&self.settings, now).clock).to_wire();
        self.queue_packet(addr, Some(Local { ip: None, socket }), &ping);
    }

    /// Sends the next ping of a train. When all had time to be answered, what follows is known.
    fn go_on_with_train(&mut self, place: usize, now: Instant) {
        let present = self.peer.addr().map(|peer| (peer, self.hopping.socket()));
        let candidate = &mut self.hopping.candidates[place];
        let Some(train) = &mut candidate.train else {
            return;
        };
        let (addr, socket) = match present {
            Some(present) if train.is_control() => present,
            _ => (candidate.addr, candidate.socket),
        };
        match train.next() {
            Some((packet, next)) => {
                candidate.next = next;
                self.queue_packet(addr, Some(Local { ip: None, socket }), &packet);
            }
            None => self.on_train_over(place, now),
        }
    }

    /// A train that arrives fast at a new pair is followed by one to the present pair; if that is much slower, everything moves.
    fn on_train_over(&mut self, place: usize, now: Instant) {
        let first = self.newcomers.token(clock(&self.settings, now).clock);
        let candidate = &mut self.hopping.candidates[place];
        let Some(train) = candidate.train.take() else {
            return;
        };
        if !train.speaks_for_new_pair() {
            self.hopping.candidates.remove(place);
            return self.hopping.trains.on_failure(now);
        }
        if !train.is_control() {
            candidate.train = Some(train.control(first, now));
            return self.go_on_with_train(place, now);
        }
        let (addr, socket) = (candidate.addr, candidate.socket);
        if let Some(challenge) = candidate.challenge {
            let pong = Control::Pong(challenge).to_wire();
            let local = Local { ip: None, socket };
            self.queue_packet(addr, Some(local), &[&pong[..], MOVES].concat());
            self.hop_to(place, now);
        } else if self.hopping.fixed {
            self.hop_to(place, now);
        } else if !self.hopping.challenges {
            self.begin_at(addr, socket, Reason::Lossy, now);
        }
        // or its challenges got lost: they come again with the pings that follow
    }

    /// A pong that names `value`, in a packet of `len` bytes, has come from a new pair. False: it is none.
    pub(super) fn on_candidate_pong(
        &mut self,
        from: SocketAddr,
        local: Local,
        (value, len): (u32, usize),
        now: Instant,
    ) -> bool {
        let trains = self.hopping.candidates.iter_mut();
        let mut trains = trains.filter_map(|candidate| candidate.train.as_mut());
        if trains.any(|train| train.on_pong(value, len, now)) {
            return true;
        }
        let Some(place) = self.hopping.place_of(from, local) else {
            return false;
        };
        if self.hopping.candidates[place].train.is_some() {
            return true;
        }
        if self.hopping.fixed {
            // the other end knows this address already
            self.hop_to(place, now);
            return true;
        }
        // the challenge may have got lost, and comes again with the next ping
        self.hopping.candidates[place].answered = true;
        true
    }

    /// The peer has challenged this end at a new pair, and was answered: sessions move there.
    pub(super) fn on_challenged(&mut self, from: SocketAddr, local: Local, now: Instant) {
        self.hopping.challenges |= self.peer.is_at(from);
        if let Some(place) = self.hopping.place_of(from, local) {
            self.hopping.challenges = true;
            if self.hopping.candidates[place].train.is_none() {
                self.hop_to(place, now);
            }
        }
    }

    fn hop_to(&mut self, place: usize, now: Instant) {
        let Candidate {
            addr,
            socket,
            reason,
            ..
        } = self.hopping.candidates[place];
        let Some((path_id, peer)) = self.hopping_path() else {
            // there is nothing to move any more
            return self.hopping.candidates.clear();
        };
        self.log_move(peer, addr, reason);
        self.hopping.on_move(socket, reason, now);
        let local = Local { ip: None, socket };
        self.relocate(path_id, addr, local, now);
        self.paths[path_id].liveness.pin(socket);
    }

    /// The peer cannot move sessions: new ones begin at a new pair. With one port of the peer that would be the same address.
    fn begin_at(&mut self, addr: SocketAddr, socket: u16, reason: Reason, now: Instant) {
        let Some((_, peer)) = self.hopping_path() else {
            return self.hopping.candidates.clear();
        };
        if addr == peer {
            self.hopping.candidates.clear();
            let until = now.after(DOUBT_PAUSE << DOUBT_DOUBLINGS);
            return self.hopping.put_off(reason, until);
        }
        self.log_move(peer, addr, reason);
        log::info!(
            "{peer} does not move sessions: those that there are stay at its port {}",
            peer.port()
        );
        self.hopping.on_move(socket, reason, now);
        let id = self.path_to(addr, now);
        self.paths[id].liveness.pin(socket);
        self.peer.follow(addr);
        self.peer.begin_anew(now);
    }

    fn log_move(&self, from: SocketAddr, to: SocketAddr, reason: Reason) {
        let what = match from.port() == to.port() {
            true => "goes on from another port of its own".to_owned(),
            false => format!("goes on at port {}", to.port()),
        };
        log::info!("{from}: {what}: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Key, Method, Sealing};
    use crate::settings::Settings;

    const START: Instant = Instant::from_millis(1_000);

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// A pair was throttled at this age, and the next one carries more. Returns when that is known.
    fn throttled(hopping: &mut Hopping, age: Duration) -> Instant {
        let now = hopping.began.after(age);
        hopping.on_move(1, Reason::Throttled, now);
        hopping.on_compared(true, now);
        now
    }

    #[test]
    fn a_pair_ages_once_two_were_throttled_at_like_ages() {
        for (ages, lifetime) in [
            ([40, 53], Some(34_000)),
            ([53, 40], Some(34_000)),
            ([40, 54], None),
            ([100, 100], Some(85_000)),
        ] {
            let mut hopping = Hopping::default();
            throttled(&mut hopping, secs(ages[0]));
            assert!(!hopping.has_aged(hopping.began.after(secs(1_000))));
            let now = throttled(&mut hopping, secs(ages[1]));
            let Some(lifetime) = lifetime.map(Duration::from_millis) else {
                assert!(!hopping.has_aged(now.after(secs(1_000))), "{ages:?}");
                continue;
            };
            let early = now.after(lifetime.saturating_sub(Duration::MICROSECOND));
            assert!(!hopping.has_aged(early), "{ages:?}");
            assert!(hopping.has_aged(now.after(lifetime)), "{ages:?}");
        }
    }

    #[test]
    fn after_twenty_pairs_that_were_left_early_one_stays() {
        let mut hopping = Hopping::default();
        throttled(&mut hopping, secs(40));
        let mut now = throttled(&mut hopping, secs(40));
        for left in 0..20 {
            now = now.after(secs(34));
            assert!(hopping.has_aged(now), "{left}");
            hopping.on_move(1, Reason::Aged, now);
        }
        assert!(!hopping.has_aged(now.after(secs(1_000))));
        // it is throttled as well
        let now = throttled(&mut hopping, secs(40));
        assert!(hopping.has_aged(now.after(secs(34))));
        assert_eq!(hopping.moved().map(|moved| moved.count), Some(23));
    }

    #[test]
    fn a_pair_is_compared_with_the_one_before_if_that_was_throttled_or_lossy() {
        let mut hopping = Hopping::default();
        hopping.on_move(1, Reason::Throttled, START);
        assert_eq!(hopping.compared, Some(Some(START.since(Instant::ZERO))));
        hopping.on_move(2, Reason::Lossy, START.after(secs(10)));
        assert_eq!(hopping.compared, Some(None));
        for reason in [Reason::Dead, Reason::Aged, Reason::Hop] {
            hopping.on_move(3, reason, START.after(secs(20)));
            assert_eq!((hopping.compared, hopping.socket()), (None, 3));
        }
    }

    #[test]
    fn a_question_in_vain_is_asked_ever_more_rarely() {
        let mut backoff = Backoff::default();
        assert!(backoff.allows(Instant::ZERO));
        for pause in [10, 20, 40, 80, 160, 320, 640, 640, 640] {
            backoff.on_failure(START);
            let until = START.after(secs(pause));
            assert!(!backoff.allows(until.before(Duration::MICROSECOND)));
            assert!(backoff.allows(until), "{pause}");
        }
    }

    #[test]
    fn a_move_for_nothing_holds_back_moves_and_trains_and_one_that_helps_neither() {
        let mut hopping = Hopping::default();
        for _ in 0..3 {
            hopping.on_move(1, Reason::Throttled, START);
            hopping.on_compared(false, START);
        }
        for backoff in [&hopping.doubt, &hopping.trains] {
            assert_eq!(backoff.until, START.after(secs(40)));
        }
        assert_eq!(hopping.throttled_at, None);
        hopping.on_move(1, Reason::Lossy, START);
        hopping.on_compared(true, START);
        for backoff in [&hopping.doubt, &hopping.trains] {
            assert_eq!(backoff.in_vain, 0);
        }
        assert_eq!(hopping.throttled_at, None, "it began like this");
    }

    fn candidate(port: u16) -> Candidate {
        Candidate {
            addr: addr(port),
            socket: 1,
            reason: Reason::Dead,
            pings: 0,
            next: START,
            answered: false,
            train: None,
            challenge: None,
        }
    }

    #[test]
    fn another_port_is_chosen_and_one_that_is_not_tried_first() {
        let mut hopping = Hopping::default();
        hopping.set_ports(vec![1, 2, 3, 4], false);
        let chosen = |hopping: &mut Hopping| {
            let all = (0..30).map(|random| hopping.choose_pair(addr(1), random).0.port());
            let mut all: Vec<_> = all.collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        assert_eq!(chosen(&mut hopping), [2, 3, 4]);
        hopping.candidates.push(candidate(3));
        assert_eq!(chosen(&mut hopping), [2, 4]);
        hopping.candidates.extend([candidate(2), candidate(4)]);
        assert_eq!(chosen(&mut hopping), [2, 3, 4]);
        hopping.set_ports(Vec::new(), false);
        assert_eq!(chosen(&mut hopping), [1]);
    }

    #[test]
    fn each_pair_has_a_new_socket_unless_there_is_one_only() {
        let mut hopping = Hopping::default();
        assert_eq!(hopping.choose_pair(addr(1), 0).1, 1);
        assert_eq!(hopping.choose_pair(addr(1), 0).1, 2);
        hopping.newest = u16::MAX;
        assert_eq!(hopping.choose_pair(addr(1), 0).1, 1);
        hopping.set_ports(vec![1, 2], true);
        assert_eq!(hopping.choose_pair(addr(1), 0), (addr(2), 0));
    }

    /// A tunnel with a peer of so many ports that tries another pair, and pings it to the end. `answers`: the peer does there.
    fn tries(ports: u16, reason: Reason, answers: bool, challenges: bool) -> (Tunnel, Instant) {
        let key = Key::from_password("key");
        let settings = Settings {
            sealing: Some(Sealing::new(Method::Chacha20Poly1305Ietf, &key)),
            ..Settings::default()
        };
        let mut tunnel = Tunnel::new(settings, START);
        tunnel.set_peer(START, addr(1));
        tunnel.set_ports((1..=ports).collect(), false);
        tunnel.hopping.challenges = challenges;
        tunnel.try_pair(reason, START);
        let [tried] = &tunnel.hopping.candidates[..] else {
            panic!("one pair");
        };
        let (at, socket) = (tried.addr, tried.socket);
        assert!(tunnel.hopping.is_tried(at, Local { ip: None, socket }));
        let mut now = START;
        for pings in 1..=5 {
            assert_eq!(tunnel.hopping.candidates[0].pings, pings);
            if answers && pings == 1 {
                tunnel.on_candidate_pong(at, Local { ip: None, socket }, (0, 8), now);
            }
            let pause = tunnel.hopping.candidates[0].next.since(now);
            assert_eq!(pause, Duration::from_millis(100) << (pings - 1));
            now = now.after(pause);
            tunnel.hop_if_due(now);
        }
        assert!(tunnel.hopping.candidates.is_empty());
        (tunnel, now)
    }

    #[test]
    fn with_a_peer_that_never_challenges_new_sessions_begin_at_another_port() {
        let (tunnel, now) = tries(2, Reason::Throttled, true, false);
        assert_eq!(tunnel.peer.addr(), Some(addr(2)));
        let moved = Moved {
            at: now,
            reason: Reason::Throttled,
            count: 1,
        };
        assert_eq!(tunnel.moved(), Some(moved));
        assert!(tunnel.paths.id_of(addr(1)).is_some(), "sessions stay there");
        let local = tunnel.paths.to(addr(2)).map(|path| path.liveness.local());
        assert_eq!(local.map(|local| local.socket), Some(1));
    }

    #[test]
    fn with_one_port_there_is_no_such_place_and_it_is_not_looked_for_soon() {
        for reason in [Reason::Throttled, Reason::Lossy, Reason::Hop] {
            let (tunnel, now) = tries(1, reason, true, false);
            assert_eq!(tunnel.peer.addr(), Some(addr(1)));
            assert_eq!(tunnel.moved(), None);
            let hopping = &tunnel.hopping;
            let until = match reason {
                Reason::Hop => hopping.stays_until,
                Reason::Lossy => hopping.trains.until,
                _ => hopping.doubt.until,
            };
            assert_eq!(until, now.after(secs(640)), "{reason:?}");
        }
    }

    #[test]
    fn a_pair_is_given_up_that_does_not_answer_or_lacks_a_challenge() {
        for (answers, challenges) in [(false, false), (false, true), (true, true)] {
            let (tunnel, now) = tries(2, Reason::Throttled, answers, challenges);
            assert_eq!(tunnel.peer.addr(), Some(addr(1)));
            assert_eq!(tunnel.moved(), None);
            assert_eq!(tunnel.hopping.doubt.until, now.after(secs(10)));
        }
        let (tunnel, _) = tries(2, Reason::Dead, false, false);
        assert!(tunnel.hopping.doubt.allows(START));
    }
}
