//! How sessions follow an end that has moved: whose a packet from an unknown address may be, when its end is taken to be
//! there, and what moves with it. Until the address is validated (`validation`) nothing moves to it: its packets wait in
//! `Waiting`. What a path knows of its end's moves is in `path::migration`.

use super::Tunnel;
use super::inbound::Arrival;
use super::scheduler::Timer;
use super::sessions::Entry;
use super::sources::source;
use super::trace::HeaderSummary;
use super::waiting::Packet;
use crate::number::count;
use crate::path::{Answered, Local, PINGS_EACH};
use crate::segment::{DEFAULT_WINDOW, Header, Segments};
use crate::session::State;
use crate::time::{Instant, SEC};
use std::net::SocketAddr;

/// Whose a packet is that has come from an unknown address.
pub(super) enum Owner {
    Nobody,
    /// A session's whose other end seems to have moved.
    Session(u32),
    /// Several sessions', or an old copy.
    Doubtful,
}

impl Tunnel {
    /// Finds the session that a packet belongs to by its number and by what its headers tell.
    pub(super) fn owner(
        &self,
        from: SocketAddr,
        conv: u32,
        headers: &[Header],
        now: Instant,
    ) -> Owner {
        let summary = HeaderSummary::of(headers);
        let (mut owner, mut copy) = (Owner::Nobody, false);
        let mut known = false;
        for (id, entry) in self.sessions.numbered(conv) {
            if entry.session.state.is_over() {
                continue;
            }
            known = true;
            let clock = &self.paths[entry.session.path].clock;
            let early = summary.has_first && !entry.trace.is_heard();
            let in_step = |ts| clock.in_step(ts, now) || (early && clock.may_follow(ts, now));
            if summary.has_first && entry.trace.has_begun() {
                let ts = summary.ts.unwrap_or_default();
                let near = source(from) == source(entry.addr());
                let own = entry.trace.may_have_begun_at(ts, near, clock, now);
                copy |= own && !in_step(ts);
                if !own {
                    continue;
                }
            }
            let window = i32::from(self.settings.kcp.rcvwnd.max(DEFAULT_WINDOW)) * 2;
            let sent = entry.session.conversation.sent();
            if !summary.ts.is_none_or(in_step) || !entry.trace.fits(headers, sent, window) {
                continue;
            }
            owner = match owner {
                Owner::Nobody => Owner::Session(id),
                _ => Owner::Doubtful,
            };
        }
        log::trace!("{conv:08x}: a packet from {from}, which has no such session");
        match owner {
            // a reset could end the session that there is
            Owner::Nobody if copy || (known && !summary.has_first) => Owner::Doubtful,
            owner => owner,
        }
    }

    /// What has come from an address is not taken: it may be a copy that somebody plays, which is worth a warning, or a late
    /// one of an end that has moved, which is not. `other`: where it would be expected from.
    pub(super) fn suspect(
        &mut self,
        now: Instant,
        from: SocketAddr,
        other: Option<SocketAddr>,
        what: &str,
    ) {
        let path = self.paths.to(from);
        let moved = path.is_some_and(|path| path.migration.has_moved(now));
        // the same machine or NAT, at another port
        let near = other.is_some_and(|other| source(other) == source(from));
        let mut paths = self.paths.iter();
        let late = near || moved || paths.any(|(_, path)| path.migration.has_left(from, now));
        match late {
            true => log::debug!("a late datagram from {from} was dropped: {what}"),
            false => self.reports.complain(now, from, what),
        }
    }

    /// A packet of a session has come from an address that is not its other end's.
    pub(super) fn on_moved(&mut self, id: u32, arrival: Arrival, packet: Segments, now: Instant) {
        let Arrival { from, local, .. } = arrival;
        let path_id = self.sessions[id].session.path;
        let path = &self.paths[path_id];
        if path.migration.has_left(from, now) {
            // it was on its way when its sender moved
            return self.on_packet(id, arrival, packet, now);
        }
        let late = |ts| path.clock.is_late(ts);
        if HeaderSummary::of(packet.headers()).ts.is_some_and(late) {
            return;
        }
        if self
            .paths
            .to(from)
            .is_some_and(|path| path.awaits_move(now))
        {
            // its end has shown before the move that it receives there
            self.relocate(path_id, from, local, now);
            return self.on_packet(id, arrival, packet, now);
        }
        let new = Packet::new(arrival, packet.bytes(), now);
        self.newcomers.hold(new, now);
        self.add_candidate(path_id, from, PINGS_EACH, now);
        self.ping_candidates(path_id, Some((from, local)), now);
    }

    /// Notes an address that the other end may be at, which is worth so many pings.
    pub(super) fn add_candidate(&mut self, path: u32, addr: SocketAddr, pings: u32, now: Instant) {
        if self.paths[path].migration.add_pings(addr, pings) {
            return;
        }
        log::debug!("{addr} may be a new address of {}", self.paths[path].addr);
        if let Some(other) = self.paths.add_candidate(addr, path) {
            self.paths[other].migration.remove(addr);
        }
        if let Some(given_up) = self.paths[path].migration.add(addr, pings, now) {
            self.paths.remove_candidate(given_up);
        }
    }

    /// Pings the addresses that a path's other end may be at, as far as it is time. `heard`: only this one, from which a packet
    /// has just come; otherwise all.
    pub(super) fn ping_candidates(
        &mut self,
        path: u32,
        heard: Option<(SocketAddr, Local)>,
        now: Instant,
    ) {
        let (old, migration) = {
            let path = &mut self.paths[path];
            (path.addr, &mut path.migration)
        };
        let due = migration.ask(heard.map(|(addr, _)| addr), now);
        let homeless = migration.is_homeless();
        for addr in migration.give_up(now) {
            self.paths.remove_candidate(addr);
        }
        for addr in &due {
            self.challenge(*addr, heard.map(|(_, local)| local), now);
        }
        if !due.is_empty() && !homeless {
            // whoever is still there may say so
            self.challenge(old, None, now);
        }
    }

    /// The address that a path's other end may have moved to has answered. False if it has to answer once more: somebody
    /// has spoken from the old one meanwhile, or could not have yet.
    pub(super) fn on_candidate_answer(
        &mut self,
        path_id: u32,
        from: SocketAddr,
        local: Local,
        now: Instant,
    ) -> bool {
        let path = &mut self.paths[path_id];
        let patience = path.congestion.srtt().min(SEC) * 3 / 2;
        let heard_at = path.liveness.heard_at();
        let answered = path.migration.on_pong(from, heard_at, patience, now);
        match answered {
            Answered::Unknown => self.paths.remove_candidate(from),
            Answered::TooEarly => self.ping_candidates(path_id, Some((from, local)), now),
            Answered::Moved => self.relocate(path_id, from, local, now),
        }
        answered != Answered::TooEarly
    }

    /// Moves the sessions of a path to the address where their other end is now.
    pub(super) fn relocate(&mut self, path_id: u32, to: SocketAddr, local: Local, now: Instant) {
        for addr in self.paths[path_id].migration.take_all() {
            self.paths.remove_candidate(addr);
        }
        let from = self.paths[path_id].addr;
        let ids = self.sessions.ids_of(|entry| entry.is_on(path_id));
        let moved = count(ids.len(), "session");
        log::info!("{from} is at {to} now, with {moved}");
        let homeless = self.paths[path_id].migration.is_homeless();
        if !homeless {
            self.paths.detach(from);
        }
        for id in &ids {
            self.sessions.detach(*id);
        }
        if let Some(other) = self.paths.id_of(to) {
            self.give_way(other, path_id, now);
        }
        if self.peer.is_at(from) && !homeless {
            self.peer.follow(to);
        }
        self.refresh_path(path_id, to, local, from.ip() == to.ip(), now);
        self.paths.attach(path_id, to);
        let path = &mut self.paths[path_id];
        path.liveness.hear(local, now);
        path.migration.arrive(from, now);
        path.validation.carry_over();
        for id in ids {
            self.sessions.attach(id, to);
            self.resume_session(id, now);
        }
    }

    /// Forgets what is known of the way; what was sent on it is sent again.
    fn refresh_path(
        &mut self,
        path_id: u32,
        to: SocketAddr,
        local: Local,
        same_line: bool,
        now: Instant,
    ) {
        let limits = self.settings.rate.limits();
        let path = &mut self.paths[path_id];
        let mut old = path.renew(to, self.packets.overhead(), limits, same_line, now);
        path.size.forget();
        path.liveness.move_to(local);
        self.scheduler.clear(Timer::Path(path_id));
        for id in self.sessions.ids_of(|entry| entry.is_on(path_id)) {
            let session = &mut self.sessions[id].session;
            session.conversation.relocate(&mut old);
        }
    }

    /// Has a session send what it can on its new path.
    fn resume_session(&mut self, id: u32, now: Instant) {
        let session = &mut self.sessions[id].session;
        if !session.waits_for_reader() {
            session.conversation.send_window_update();
        }
        let path_id = session.path;
        self.drive(id, now);
        self.scheduler.activate(path_id);
    }

    /// Somebody comes to the address of a path. If that is the same other end, which has opened sessions there before its
    /// older ones were heard from there, these join; otherwise its sessions are left without an address until they are
    /// heard from another one.
    fn give_way(&mut self, other: u32, to: u32, now: Instant) {
        let path = &self.paths[other];
        let (addr, shows) = (path.addr, path.clock.shows(now));
        let same = shows.is_none_or(|ts| self.paths[to].clock.in_step(ts, now));
        let ids = self.sessions.ids_of(|entry| entry.is_on(other));
        self.paths.detach(addr);
        for id in &ids {
            self.sessions.detach(*id);
            if same {
                let path = &mut self.paths[other];
                let session = &mut self.sessions[*id].session;
                session.conversation.relocate(path);
                path.sessions -= 1;
                session.path = to;
                self.sessions.attach(*id, addr);
            }
        }
        let path = &mut self.paths[other];
        path.migration.lose_address();
        path.validation.revoke();
        if same {
            let left = path.migration.take_left();
            self.paths[to].migration.join(left);
            self.scheduler.move_bulk(other, to);
            self.paths[to].sessions += ids.len();
            for id in ids {
                self.resume_session(id, now);
            }
        }
        match self.paths[other].sessions {
            // it leads nowhere, and there is nothing to remember
            0 => self.drop_unused(other),
            _ => self.idle_path(other),
        }
    }

    /// Has the peer show whether it is there, and us to it: what came from it has stopped.
    pub fn ask_peer(&mut self, now: Instant) {
        if let Some(peer) = self.peer.addr() {
            self.ping(peer, now);
            self.announce_address(peer, now);
        }
    }

    /// This machine's own address has changed, or its socket was made anew: nothing that is known of any path holds, what
    /// was sent is sent again at once, and the other ends are shown where this one is.
    pub fn network_changed(&mut self, now: Instant) {
        for path in self.paths.ids() {
            let addr = self.paths[path].addr;
            self.refresh_path(path, addr, Local::default(), false, now);
        }
        if let Some(peer) = self.peer.addr() {
            self.peer.begin_anew(now);
            self.ping(peer, now);
        }
        for id in self.sessions.ids_of(|entry| !entry.session.state.is_over()) {
            self.resume_session(id, now);
        }
    }

    /// Shows the peer, whose NAT may have given us a new address unknown to us, where its sessions are: by a packet of one.
    pub(super) fn announce_address(&mut self, peer: SocketAddr, now: Instant) {
        let alive = |e: &Entry| matches!(e.session.state, State::Connected | State::Dialling);
        let there = |(_, e): &(u32, &Entry)| e.addr() == peer && alive(e);
        let first = self.sessions.iter().find(there).map(|(id, _)| id);
        if let Some(id) = first {
            self.resume_session(id, now);
        }
    }
}
