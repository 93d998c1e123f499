//! How sessions end: in order, or before their time with the other end being told; and when they leave the table.
//! What is remembered of them then is in `time_wait`; the timers that end one are in `mod`.

use super::fresh_keys::TIME_WAIT_MIN;
use super::scheduler::{Outgoing, Timer};
use super::{Event, SessionId, Tunnel};
use crate::message::{CONTROL_LEN, Control};
use crate::path::Path;
use crate::segment::HEADER;
use crate::session::{Cause, State};
use crate::time::{Duration, Instant};
use crate::time_wait::Ending;

/// When a reset is said again, from the last time on: it may get lost, and the other end's TCP waits for it.
/// Where 30 % are lost, one in 15,000 takes more than a second.
const RESET_AGAIN: [Duration; 7] = [
    Duration::from_millis(40),
    Duration::from_millis(60),
    Duration::from_millis(80),
    Duration::from_millis(120),
    Duration::from_millis(160),
    Duration::from_millis(200),
    Duration::from_millis(240),
];

/// When it is said again that this end stops, likewise.
const PARTING_AGAIN: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(120)];

/// That this end stops, and who is told so.
#[derive(Default)]
pub(super) struct Farewell {
    begun: bool,
    /// When it is said again, and how often it was.
    next: Option<(Instant, usize)>,
}

impl Farewell {
    fn begin(&mut self, now: Instant) {
        (self.begun, self.next) = (true, Some((now, 0)));
    }

    /// Whether this end stops: it answers nobody any more.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// When it is said again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// It was said, if there was `anybody` to say it to.
    fn on_said(&mut self, anybody: bool, now: Instant) {
        let said = self.next.map_or(0, |(_, said)| said);
        let again = PARTING_AGAIN.get(said).filter(|_| anybody);
        self.next = again.map(|pause| (now.after(*pause), said + 1));
    }
}

impl Tunnel {
    pub(super) fn close(&mut self, id: u32, abort: bool) {
        if self.sessions[id].close_tcp() {
            self.events.push_back(Event::Close {
                id: SessionId(id),
                abort,
            });
        }
    }

    /// Ends a session before its time. The other end is told, unless it was the one to say so.
    pub(super) fn abort(&mut self, id: u32, cause: Cause, now: Instant) {
        let entry = &self.sessions[id];
        if entry.session.state.is_over() {
            return;
        }
        let session = &entry.session;
        let bytes = (session.bytes_in(), session.bytes_out());
        let level = self.reports.on_end(Some(cause), bytes, now);
        self.counters.ended[cause as usize] += 1;
        let (addr, when) = (entry.addr(), session.when());
        session.log_end(level, addr, format_args!("{when}: {}", cause.text()), now);
        if session.state == State::HalfOpen {
            self.sessions.leave_half_open(id);
        }
        let session = &mut self.sessions[id].session;
        session.discard(&mut self.buffers.pool);
        session.conversation.forget(&mut self.paths[session.path]);
        session.state = State::Reset { told: 0 };
        let path_id = session.path;
        self.scheduler.activate(path_id);
        self.close(id, true);
        if cause == Cause::ResetByPeer {
            return self.retire(id, Ending::Reset, now);
        }
        self.tell_reset(id, now);
    }

    /// Ends every session, and tells the other ends that this one stops (the datagrams come from `poll_transmit`).
    pub fn shutdown(&mut self, now: Instant) {
        for id in self.sessions.ids_of(|_| true) {
            self.abort(id, Cause::Shutdown, now);
        }
        self.farewell.begin(now);
        self.part_if_due(now);
        self.reports.sum_up(true, now);
    }

    /// Tells those who have come here lately, with sessions or without, that this end stops, if it is time to.
    pub(super) fn part_if_due(&mut self, now: Instant) {
        if self.farewell.deadline().is_none_or(|at| at > now) {
            return;
        }
        let there = |path: &&Path| {
            let silence = path.liveness.heard_before(now);
            let lately = silence.is_some_and(|span| span < self.settings.timeout);
            lately && path.validation.is_validated() && !path.migration.is_homeless()
        };
        let paths = self.paths.iter().map(|(_, path)| path);
        let mut anybody = false;
        for path in paths.filter(there) {
            let packet = Control::Reset(0).to_wire().to_vec();
            self.scheduler.push(Outgoing::unasked(path.addr, packet));
            anybody = true;
        }
        self.farewell.on_said(anybody, now);
    }

    /// Says (again) that a session is no more; after the last time, forgets it.
    pub(super) fn tell_reset(&mut self, id: u32, now: Instant) {
        let entry = &mut self.sessions[id];
        let State::Reset { told } = entry.session.state else {
            return;
        };
        let (conv, addr) = (entry.session.conv(), entry.addr());
        entry.session.state = State::Reset { told: told + 1 };
        // not by `answer`: there are as many as sessions end, and each of them counts
        if self.paths[entry.session.path].reaches() {
            let packet = Control::Reset(conv).to_wire().to_vec();
            self.scheduler.push(Outgoing::unasked(addr, packet));
        }
        let again = RESET_AGAIN.get(told as usize);
        match again.filter(|_| self.is_worth(id, usize::from(told) + 2)) {
            Some(pause) => self.scheduler.set(Timer::Session(id), now.after(*pause)),
            None => self.retire(id, Ending::Reset, now),
        }
    }

    /// Whether a session is worth so many resets. Where there is no key, anybody can begin a session in the name of a source that
    /// is validated, and what is sent there for it must not be more than came: every session is worth one reset, and further
    /// ones if as many bytes of data have come for these and an ack that was said twice.
    fn is_worth(&self, id: u32, resets: usize) -> bool {
        let session = &self.sessions[id].session;
        let cost = HEADER + CONTROL_LEN * resets;
        session.opener || self.packets.sealed() || cost as u64 <= session.bytes_in()
    }

    pub(super) fn retire_cleanly(&mut self, id: u32, now: Instant) {
        let entry = &self.sessions[id];
        let session = &entry.session;
        let how = format_args!("in order");
        session.log_end(log::Level::Debug, entry.addr(), how, now);
        let bytes = (session.bytes_in(), session.bytes_out());
        self.reports.on_end(None, bytes, now);
        self.counters.ended_in_order += 1;
        let ending = Ending::Clean {
            una: session.conversation.una(),
        };
        self.retire(id, ending, now);
    }

    /// Takes a session out of the table; only its number stays known.
    pub(super) fn retire(&mut self, id: u32, ending: Ending, now: Instant) {
        let entry = &mut self.sessions[id];
        let (conv, addr, path_id) = (entry.session.conv(), entry.addr(), entry.session.path);
        entry.session.discard(&mut self.buffers.pool);
        entry.session.conversation.forget(&mut self.paths[path_id]);
        self.sessions.unlink(id);
        self.scheduler.clear(Timer::Session(id));
        let span = match self.packets.fresh.at(addr) {
            Some(_) => self.settings.time_wait.max(TIME_WAIT_MIN),
            None => self.settings.time_wait,
        };
        self.time_wait.insert(addr, conv, ending, now.after(span));
        self.paths[path_id].sessions -= 1;
        self.idle_path(path_id);
        // what it had in flight may have been what the others waited for
        self.scheduler.activate(path_id);
        self.free_place(id);
    }

    /// Frees a session's place once the caller has let go of it and no queue holds it.
    pub(super) fn free_place(&mut self, id: u32) {
        if !self.scheduler.holds_session(id) {
            self.sessions.remove_if_unused(id);
        }
    }
}
