//! How large the packets of a path are: `pmtu` finds it, by padded pings that are sent and answered here.
//!
//! A session follows its path at once, up and down: new segments are cut to what the path carries now. One that was cut
//! before and is not acknowledged cannot be cut again, since the other end may have it already. Where the path has become
//! smaller such a segment goes alone, and may be cut up by IP (`Fit::Long`). That a session begins small, and only what was
//! confirmed is used, leaves few of them: those in flight when a path changes.

use super::scheduler::{Outgoing, Timer};
use super::sessions::Entry;
use super::{Tunnel, clock};
use crate::message::Control;
use crate::pmtu::{BASE, Probe};
use crate::session::Cause;
use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// Data that is not acknowledged for so long, and for so many round trips, makes the size of packets suspect.
const STANDS: Duration = Duration::from_millis(400);
const STANDS_TRIPS: u64 = 2;
/// A segment that is larger than the path carries, and has not arrived in fragments for so long, never will.
const HOPELESS: Duration = Duration::from_millis(30_000);
/// The path is silent if nothing has come from there for so long, and then it is not the size.
const SILENT: Duration = Duration::from_millis(2_000);
/// How far the other end has acknowledged what a session sent, and since when it is no further.
#[derive(Default)]
pub(super) struct Progress {
    first: u32,
    at: Instant,
}

impl Progress {
    /// Since when it is no further.
    pub(super) fn since(&self) -> Instant {
        self.at
    }
}

impl Entry {
    /// Notes what has been acknowledged.
    pub(super) fn note_progress(&mut self, now: Instant) {
        let conversation = &self.session.conversation;
        let first = conversation.first();
        if first != self.progress.first || conversation.unacked_bytes() == 0 {
            self.progress = Progress { first, at: now };
        }
    }
}

impl Tunnel {
    /// Goes on with the search for a path's size. Only where it matters is one begun: on paths with sessions, and to the
    /// configured other end, once something good has come from there.
    pub(super) fn search_size(&mut self, path_id: u32, now: Instant) {
        let path = &mut self.paths[path_id];
        let addr = path.addr;
        // without a key others can speak in its name: it has to have answered for more than that costs, where that is counted
        let free = self.packets.sealed() || !self.settings.rate.control;
        let trusted = free || path.limit.is_earned(now);
        let wanted = self.peer.is_at(addr) || (path.sessions > 0 && trusted);
        if !wanted || !path.reaches() {
            return;
        }
        if path.size.due() <= now {
            let clock = clock(&self.settings, now).clock;
            let newcomers = &mut self.newcomers;
            let probes = path
                .size
                .ask(path.congestion.srtt(), now, || newcomers.token(clock));
            for probe in probes {
                self.send_probe(path_id, probe, now);
            }
            self.note_size(path_id, now);
        }
        self.remind_of_size(path_id);
    }

    /// Something good has come from a path: its size is looked for, if that was not begun yet.
    pub(super) fn begin_search(&mut self, path_id: u32, now: Instant) {
        if self.paths[path_id].size.due() <= now {
            self.search_size(path_id, now);
        }
    }

    /// The clock has to come back to a path whose size is looked for. When it is found, a later search is begun by what comes.
    pub(super) fn remind_of_size(&mut self, path_id: u32) {
        if let Some(at) = self.paths[path_id].size.wakes_at() {
            self.scheduler.set_by(Timer::Path(path_id), at);
        }
    }

    fn send_probe(&mut self, path_id: u32, probe: Probe, now: Instant) {
        let addr = self.paths[path_id].addr;
        let around = self.paths[path_id].overhead;
        let mut packet = Control::Ping(probe.token).to_wire().to_vec();
        packet.resize(probe.size.saturating_sub(around).max(packet.len()), 0);
        // without a key it counts among what an address gets that has to answer again
        self.charge(path_id, packet.len(), now);
        self.scheduler.offer(Outgoing {
            probe: true,
            ..Outgoing::unasked(addr, packet)
        });
    }

    /// A pong has come. False if it answers no ping of a search.
    pub(super) fn on_size_answer(&mut self, from: SocketAddr, token: u32, now: Instant) -> bool {
        let Some(path_id) = self.paths.id_of(from) else {
            return false;
        };
        let ours = self.paths[path_id].size.on_pong(token, now);
        if ours {
            self.note_size(path_id, now);
            self.remind_of_size(path_id);
        }
        ours
    }

    /// Has the log tell of a size that a search has found.
    fn note_size(&mut self, path_id: u32, now: Instant) {
        let path = &mut self.paths[path_id];
        let (addr, size, most) = (path.addr, path.size.size(), path.size.most());
        let Some(before) = path.size.take_news() else {
            return;
        };
        self.reports.on_size(addr, before, size, most, now);
    }

    /// Large packets of a session may have stopped to arrive, while the path is there. A session that cannot go on for that
    /// ends.
    pub(super) fn detect_black_hole(&mut self, id: u32, now: Instant) {
        let entry = &self.sessions[id];
        let path_id = entry.session.path;
        let path = &self.paths[path_id];
        let stands = STANDS.max(STANDS_TRIPS * path.congestion.srtt());
        let stands = now.since(entry.progress.at) >= stands;
        let large = entry.session.conversation.unacked_bytes() >= BASE / 2;
        let heard = now.since(path.liveness.heard_at()) < SILENT + path.congestion.srtt();
        if stands && large && heard {
            let conversation = &entry.session.conversation;
            // not while the path was silent, or its size is not known
            let since = entry.progress.at.max(path.liveness.alive_since());
            let hopeless = now.since(since) >= HOPELESS && path.size.is_found();
            if hopeless && conversation.longest() > path.packet_size() {
                return self.abort(id, Cause::TooLarge, now);
            }
            self.suspect_size(path_id, now);
        }
    }

    /// The system takes no datagram of the size that packets for this address have.
    pub fn on_too_long(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(path_id) = self.paths.id_of(addr) {
            self.suspect_size(path_id, now);
        }
    }

    /// A path is to carry large packets, which it may not have for a while.
    pub(super) fn resume_size(&mut self, path_id: u32, now: Instant) {
        let path = &mut self.paths[path_id];
        if path.size.resume(now) {
            self.note_size(path_id, now);
            self.search_size(path_id, now);
        }
    }

    fn suspect_size(&mut self, path_id: u32, now: Instant) {
        self.paths[path_id].size.suspect(now);
        self.search_size(path_id, now);
    }
}
