//! The local side of a session: what the caller of a `Tunnel` says of its TCP socket, gives and takes, and is told to do.
//! When each is called is in the first lines of `tunnel`; what follows for the other end is decided in `session`.

use super::sessions::Entry;
use super::{Event, Refused, SessionId, Tunnel, clock};
use crate::path::Local;
use crate::pool::BufferPool;
use crate::session::{Cause, Session, State};
use crate::time::Instant;
use std::net::SocketAddr;

impl Tunnel {
    /// A TCP connection was accepted: opens a session to the peer. Its dial leaves with its first data or, if none
    /// is there by then, with the next `poll_transmit`.
    pub fn open(&mut self, now: Instant) -> Result<SessionId, Refused> {
        let peer = self.peer.addr().ok_or(Refused::NoPeer)?;
        self.greet_peer(peer, now);
        if !self.takes_sessions() {
            return Err(Refused::NoFreshKeys);
        }
        if self.sessions.len() >= self.settings.max_sessions {
            return Err(Refused::Full);
        }
        let conv = self.free_number(peer);
        let id = self.insert(peer, conv, true, now);
        self.sessions[id].hold_tcp();
        log::debug!("{conv:08x}: opened to {peer}");
        self.drive(id, now);
        Ok(SessionId(id))
    }

    /// Notes where the TCP connection of a session that was opened here came from, for the log.
    pub fn set_client(&mut self, id: SessionId, client: SocketAddr) {
        if let Some(entry) = self.sessions.get_mut(id.0) {
            entry.session.client = Some(client);
        }
    }

    /// The session's number for logs, eight hex digits when shown with {:08x}.
    pub fn conv(&self, id: SessionId) -> Option<u32> {
        self.held(id).map(|e| e.session.conv())
    }

    /// The other end of a session: its address, and the address of this machine that it sends to, if that is known.
    pub fn other_end(&self, id: SessionId) -> Option<(SocketAddr, Local)> {
        let entry = self.held(id)?;
        let path = &self.paths[entry.session.path];
        Some((entry.addr(), path.liveness.local()))
    }

    fn held(&self, id: SessionId) -> Option<&Entry> {
        self.sessions.get(id.0).filter(|e| e.holds_tcp())
    }

    /// A session whose TCP socket the caller holds, and the buffers that it may take from.
    fn held_mut(&mut self, id: SessionId) -> Option<(&mut Session, &mut BufferPool)> {
        let entry = self.sessions.get_mut(id.0);
        let entry = entry.filter(|e| e.holds_tcp())?;
        Some((&mut entry.session, &mut self.buffers.pool))
    }

    /// The service is connected.
    pub fn dialled(&mut self, now: Instant, id: SessionId) {
        let Some((session, _)) = self.held_mut(id) else {
            return;
        };
        if session.state == State::Dialling {
            session.state = State::Connected;
            self.deliver(id.0);
            self.drive(id.0, now);
        }
    }

    /// The service could not be connected.
    pub fn dial_failed(&mut self, now: Instant, id: SessionId) {
        if self.held(id).is_some() {
            self.abort(id.0, Cause::DialFailed, now);
        }
    }

    /// Free room for bytes from TCP. Empty: do not read (backpressure, or the session is gone or past its end of stream);
    /// `Event::Writable` says when to go on.
    pub fn input(&mut self, id: SessionId) -> &mut [u8] {
        match self.held_mut(id) {
            Some((session, pool)) => session.input(pool),
            None => &mut [],
        }
    }

    /// The first `n` bytes of `input` were filled from TCP. To be called after every `input` that was not empty, with 0
    /// if nothing was read.
    pub fn filled(&mut self, now: Instant, id: SessionId, n: usize) {
        if let Some((session, pool)) = self.held_mut(id) {
            session.filled(n, pool);
            if n > 0 {
                self.counters.taken += n as u64;
                self.drive(id.0, now);
            }
        }
    }

    /// TCP's end of stream was read.
    pub fn finished(&mut self, now: Instant, id: SessionId) {
        if let Some((session, pool)) = self.held_mut(id) {
            session.finish(pool);
            self.drive(id.0, now);
        }
    }

    /// The TCP socket failed or was reset: the other end's TCP connection is reset, too. A `Close` follows.
    pub fn broken(&mut self, now: Instant, id: SessionId) {
        if self.held(id).is_some() {
            self.abort(id.0, Cause::TcpFailed, now);
        }
    }

    /// Bytes to write to TCP.
    pub fn output(&self, id: SessionId) -> &[u8] {
        self.held(id)
            .filter(|e| e.session.state == State::Connected)
            .map_or(&[], |e| e.session.output())
    }

    /// The first `n` bytes of `output` were written to TCP. May be called in a loop until `output` is empty: more may appear.
    pub fn consumed(&mut self, now: Instant, id: SessionId, n: usize) {
        let Some((session, pool)) = self.held_mut(id) else {
            return;
        };
        session.consumed(n, pool, now);
        self.counters.given += n as u64;
        self.read(id.0, now);
        self.drive(id.0, now);
    }

    /// True once, when the other end's stream is complete and all of it was consumed: shut down TCP's writing half.
    pub fn output_ended(&mut self, now: Instant, id: SessionId) -> bool {
        let Some((session, _)) = self.held_mut(id) else {
            return false;
        };
        let ended = session.state == State::Connected && session.take_end();
        if ended {
            self.drive(id.0, now);
        }
        ended
    }

    /// Moves what has arrived for a session towards its TCP connection.
    pub(super) fn read(&mut self, id: u32, now: Instant) {
        let entry = &mut self.sessions[id];
        let path = &mut self.paths[entry.session.path];
        let both = clock(&self.settings, now);
        let read = match entry.session.read(
            path,
            &mut self.buffers.pool,
            &mut self.buffers.scratch,
            both,
        ) {
            Ok(read) => read,
            Err(cause) => return self.abort(id, cause, now),
        };
        if read.dial {
            self.sessions.leave_half_open(id);
            let entry = &mut self.sessions[id];
            entry.session.state = State::Dialling;
            entry.hold_tcp();
            entry.session.conversation.widen();
            log::debug!(
                "{:08x}: accepted from {}",
                entry.session.conv(),
                entry.addr()
            );
            self.events.push_back(Event::Dial(SessionId(id)));
        }
        if read.deliver {
            self.deliver(id);
        }
    }

    pub(super) fn deliver(&mut self, id: u32) {
        let entry = &mut self.sessions[id];
        if entry.holds_tcp() && entry.session.must_deliver() {
            self.events.push_back(Event::Readable(SessionId(id)));
        }
    }

    /// What the caller has to do next.
    pub fn poll(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        match event {
            Event::Readable(id) => {
                if let Some(entry) = self.sessions.get_mut(id.0) {
                    entry.session.on_announced();
                }
            }
            Event::Close { id, .. } => {
                if let Some(entry) = self.sessions.get_mut(id.0) {
                    entry.let_go_of_tcp();
                }
                self.free_place(id.0);
            }
            Event::Dial(_) | Event::Writable(_) => {}
        }
        Some(event)
    }
}
