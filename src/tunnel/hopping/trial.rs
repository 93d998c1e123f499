//! New pairs that are tried: they are pinged, by a train if that is to say first whether they carry more, and then everything
//! moves or nothing does. When a pair is to be left is decided in `hopping`.

use super::train::Train;
use super::{DOUBT_DOUBLINGS, DOUBT_PAUSE, Reason};
use crate::message::{Control, MOVES};
use crate::path::Local;
use crate::time::{Duration, Instant};
use crate::tunnel::{Tunnel, clock};
use rand::RngExt;
use std::net::SocketAddr;

/// A new pair is pinged again after so long, then after twice as long and so on.
const PING_AGAIN: Duration = Duration::from_millis(100);
/// How often it is pinged.
const PINGS: u32 = 5;
/// What an end sends at least before a port from which nothing ever came counts as dead.
const FIRST_PACKETS: u32 = 2;
/// The most new pairs at a time.
const CANDIDATES_MAX: usize = 6;

/// A new pair that is tried.
pub(super) struct Candidate {
    pub(super) addr: SocketAddr,
    pub(super) socket: u16,
    pub(super) reason: Reason,
    pub(super) pings: u32,
    pub(super) next: Instant,
    pub(super) answered: bool,
    /// The train that is to pass before it is used, and what the peer has challenged this end with there meanwhile. That is
    /// answered when everything moves.
    pub(super) train: Option<Train>,
    pub(super) challenge: Option<u32>,
}

impl Tunnel {
    /// Tries a new pair: everything moves there once its end answers and challenges.
    pub(super) fn try_pair(&mut self, reason: Reason, now: Instant) {
        self.try_pair_by(None, reason, now);
    }

    /// Has a train show whether a new pair carries more, if the transfer loses much.
    pub(super) fn send_train_if_lossy(&mut self, now: Instant) {
        let Some((rate, inbound)) = self.hopping.throughput.lossy() else {
            return;
        };
        let Some((path_id, _)) = self.hopping_path() else {
            return;
        };
        // the operator's limits hold for trains, too
        let (up, down) = self.hopping.throughput.left_of(self.settings.rate.limits());
        let left = match inbound {
            true => up.min(down),
            false => up,
        };
        let path = &self.paths[path_id];
        let (size, rtt) = (path.packet_size(), path.congestion.base_rtt());
        let rtt = rtt.unwrap_or(path.congestion.srtt());
        let first = self.newcomers.token(clock(&self.settings, now).clock);
        let train = Train::new((rate, inbound), left, first, size, rtt, now);
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
            "tries the pair of port {} and socket {socket}: {}",
            addr.port(),
            reason.doubt()
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
    pub(super) fn go_on_with(&mut self, place: usize, now: Instant) {
        let candidate = &mut self.hopping.candidates[place];
        let (addr, socket, reason) = (candidate.addr, candidate.socket, candidate.reason);
        if candidate.train.is_some() {
            return self.go_on_with_train(place, now);
        }
        if candidate.pings >= PINGS {
            if candidate.answered && !self.hopping.challenges {
                return self.begin_at(addr, socket, reason, now);
            }
            let given_up = self.hopping.candidates.remove(place);
            if !given_up.answered {
                self.note_silence(addr, now);
            }
            return match reason {
                // a train is not sent again and again, whatever was in vain after it
                Reason::Lossy => self.hopping.trains.on_failure(now),
                _ => self.hopping.put_off(reason, now.after(DOUBT_PAUSE)),
            };
        }
        candidate.next = now.after(PING_AGAIN << candidate.pings);
        candidate.pings += 1;
        let ping = Control::Ping(clock(&self.settings, now).clock).to_wire();
        self.queue_packet(addr, Some(Local { ip: None, socket }), &ping);
    }

    /// No ping of a new pair was answered: its port is silent if the one in use answered meanwhile.
    fn note_silence(&mut self, addr: SocketAddr, now: Instant) {
        let Some((path_id, peer)) = self.hopping_path() else {
            return;
        };
        let heard = self.paths[path_id].liveness.heard_before(now);
        let meanwhile = heard.is_some_and(|before| before < PING_AGAIN << (PINGS - 1));
        // the peer may have another address by now
        if meanwhile && addr.ip() == peer.ip() && addr.port() != peer.port() {
            let silent = &mut self.hopping.silent;
            silent.on_silence(addr.ip(), addr.port(), PINGS, now);
        }
    }

    /// This port is left because nothing came back. It may be silent if nothing ever did; of others that were tried
    /// nothing is known, since the line may have failed as a whole meanwhile.
    fn note_dead(&mut self, (path_id, left): (u32, SocketAddr), now: Instant) {
        if self.paths[path_id].liveness.heard_before(now).is_none() {
            let silent = &mut self.hopping.silent;
            silent.on_silence(left.ip(), left.port(), FIRST_PACKETS, now);
        }
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
        let candidate = &mut self.hopping.candidates[place];
        let Some(train) = candidate.train.take() else {
            return;
        };
        if !train.speaks_for_new_pair() {
            self.hopping.candidates.remove(place);
            return self.hopping.trains.on_failure(now);
        }
        if !train.is_control() {
            let first = self.newcomers.token(clock(&self.settings, now).clock);
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
    pub(in crate::tunnel) fn on_candidate_pong(
        &mut self,
        from: SocketAddr,
        local: Local,
        (value, len): (u32, usize),
        now: Instant,
    ) -> bool {
        let trains = self.hopping.candidates.iter_mut();
        let mut trains = trains.filter_map(|candidate| candidate.train.as_mut());
        if trains.any(|train| train.on_pong(value, len, now)) {
            self.hopping.silent.on_answer(from.port());
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
        self.hopping.silent.on_answer(from.port());
        true
    }

    /// The peer has challenged this end at a new pair, and was answered: sessions move there.
    pub(in crate::tunnel) fn on_challenged(
        &mut self,
        from: SocketAddr,
        local: Local,
        now: Instant,
    ) {
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
        self.note_move((path_id, peer), addr, reason, now);
        self.hopping.on_move(socket, reason, now);
        let local = Local { ip: None, socket };
        self.relocate(path_id, addr, local, now);
        self.paths[path_id].liveness.pin(socket);
    }

    /// The peer cannot move sessions: new ones begin at a new pair. With one port of the peer that would be the same address.
    fn begin_at(&mut self, addr: SocketAddr, socket: u16, reason: Reason, now: Instant) {
        let Some((path_id, peer)) = self.hopping_path() else {
            return self.hopping.candidates.clear();
        };
        if addr == peer {
            self.hopping.candidates.clear();
            let until = now.after(DOUBT_PAUSE << DOUBT_DOUBLINGS);
            return self.hopping.put_off(reason, until);
        }
        self.note_move((path_id, peer), addr, reason, now);
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

    /// Says of a move what it is, and notes what it shows of the ports.
    fn note_move(&mut self, left: (u32, SocketAddr), to: SocketAddr, reason: Reason, now: Instant) {
        self.log_move(left.1, to, reason);
        if reason == Reason::Dead {
            self.note_dead(left, now);
        }
        self.hopping.silent.on_answer(to.port());
    }

    fn log_move(&self, from: SocketAddr, to: SocketAddr, reason: Reason) {
        let what = match from.port() == to.port() {
            true => "goes on from another port of its own".to_owned(),
            false => format!("goes on at port {}", to.port()),
        };
        log::info!("{from}: {what}: {reason}");
    }
}
