//! Who is challenged to show that he receives at his address, and what follows when he has. Until then nothing opens a
//! session from it: its packets wait in `Waiting`, and the challenge is all it gets. Without a key he is challenged again and
//! again while much is sent to him. What is known of an address is in `path::validation` and `path::amplification`; pings and
//! pongs themselves are in `inbound`.

use super::Tunnel;
use super::inbound::Arrival;
use super::scheduler::Timer;
use super::waiting::{Packet, Waiting};
use crate::message::{CONTROL_LEN, Control};
use crate::path::{Challenges, Local};
use crate::time::Instant;
use std::net::SocketAddr;

/// What is challenged, and what waits for it.
#[derive(Default)]
pub(super) struct Newcomers {
    challenges: Challenges,
    waiting: Waiting,
}

impl Newcomers {
    /// Keeps a packet until its address is validated. True if that is to be challenged.
    pub(super) fn hold(&mut self, packet: Packet, now: Instant) -> bool {
        self.waiting.put(packet, now)
    }

    /// Packets that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Drops the packets that have waited for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.waiting.expire(now);
    }

    /// Whether a pong from `addr` answers a challenge.
    pub(super) fn is_answer(&self, addr: SocketAddr, value: u32, now: Instant) -> bool {
        self.challenges.is_answer(addr, value, now)
    }

    /// The ping that challenges an address.
    pub(super) fn ping_for(&self, addr: SocketAddr, now: Instant) -> [u8; CONTROL_LEN] {
        Control::Ping(self.challenges.challenge(addr, now)).to_wire()
    }

    /// What a ping that is padded to find the size of packets names: see `Challenges`.
    pub(super) fn token(&mut self, clock: u32) -> u32 {
        self.challenges.token(clock)
    }
}

impl Tunnel {
    /// Notes what a session sends to an address that others could speak for, and has its owner show anew that it is there.
    pub(super) fn charge(&mut self, path_id: u32, bytes: usize, now: Instant) {
        let path = &mut self.paths[path_id];
        if self.packets.sealed() || self.peer.is_at(path.addr) {
            return;
        }
        path.limit.charge(bytes);
        self.revalidate(path_id, now);
    }

    /// The clock has something for a path: the rate allows more, or its owner is to be asked again.
    pub(super) fn on_path_timer(&mut self, path_id: u32, now: Instant) {
        if self.paths.contains(path_id) {
            self.revalidate(path_id, now);
            self.search_size(path_id, now);
            self.scheduler.activate(path_id);
        }
    }

    /// Challenges the address of a path anew, if it is time to: see `path::amplification`.
    pub(super) fn revalidate(&mut self, path_id: u32, now: Instant) {
        let path = &mut self.paths[path_id];
        let (addr, rtt) = (path.addr, path.congestion.srtt());
        if path.limit.asks(rtt, now) {
            self.send_challenge(addr, None, now);
        }
        let path = &self.paths[path_id];
        if path.limit.is_spent() && path.sessions > 0 {
            // nothing else may remind of it
            let at = path.limit.asks_at(rtt);
            self.scheduler.set_by(Timer::Path(path_id), at);
        }
    }

    /// The sessions of a path have waited for their address to be validated.
    fn resume_path(&mut self, path_id: u32, now: Instant) {
        for id in self.sessions.ids_of(|entry| entry.is_on(path_id)) {
            self.drive(id, now);
        }
        self.scheduler.activate(path_id);
    }

    /// Sends a ping that only who receives at this address can answer.
    pub(super) fn challenge(&mut self, addr: SocketAddr, local: Option<Local>, now: Instant) {
        if self.limits.admits_challenge(now) {
            self.send_challenge(addr, local, now);
        }
    }

    fn send_challenge(&mut self, addr: SocketAddr, local: Option<Local>, now: Instant) {
        let ping = self.newcomers.ping_for(addr, now);
        self.greet_candidate(addr, &ping, now);
        self.queue_packet(addr, local, &ping);
    }

    pub(super) fn is_validated_at(&self, addr: SocketAddr) -> bool {
        let path = self.paths.to(addr);
        path.is_some_and(|path| path.validation.is_validated())
    }

    /// Whether it is, and sessions there do not wait for another challenge to be answered.
    pub(super) fn is_validated_for_now(&self, addr: SocketAddr) -> bool {
        let path = self.paths.to(addr);
        path.is_some_and(|path| path.validation.is_validated() && !path.limit.is_spent())
    }

    /// Whether a datagram was sent before the one that has validated its address, or was held back.
    pub(super) fn is_from_before(&self, arrival: Arrival, now: Instant) -> bool {
        let path = self.paths.to(arrival.from);
        let before = path.is_some_and(|path| path.validation.is_from_before(arrival.number, now));
        // its sender may have been at another address
        let late = |number| {
            let mut paths = self.paths.iter();
            paths.any(|(_, path)| path.validation.is_late(number, now))
        };
        before || arrival.number.is_some_and(late)
    }

    /// Whether what has come is of another process than the one at the end of a path. The peer may be another one.
    fn is_another_end(&self, arrival: &Arrival, path_id: u32) -> bool {
        let addr = self.paths[path_id].addr;
        !self.peer.is_at(addr) && self.is_another(arrival, addr)
    }

    /// A challenge was answered: the address is validated.
    /// `moves`: who has answered says that sessions follow.
    pub(super) fn on_validated(&mut self, arrival: Arrival, moves: bool, now: Instant) {
        let Arrival {
            from,
            local,
            number,
            ..
        } = arrival;
        if let Some(path) = self.paths.candidate(from) {
            if !self.is_another_end(&arrival, path)
                && !self.on_candidate_answer(path, from, local, now)
            {
                return;
            }
        }
        if self.settings.accepts || self.paths.id_of(from).is_some() {
            let id = self.path_to(from, now);
            let path = &mut self.paths[id];
            path.validation.validate(number, moves, now);
            path.liveness.hear(local, now);
            if path.limit.renew(now) {
                self.resume_path(id, now);
            }
            self.idle_path(id);
        }
        let packets = self.newcomers.waiting.take(from);
        if let (Some(first), Some(path)) = (packets.first(), self.paths.to_mut(from)) {
            path.validation.set_round_trip(now.since(first.came_at));
        }
        for mut packet in packets {
            if self.may_be_recorded(&packet.arrival) {
                self.counters.replayed += 1;
                continue;
            }
            self.on_session(packet.arrival, &mut packet.bytes, now);
        }
    }
}
