//! What follows from a datagram that has arrived: to whom it belongs, and who is told what when it belongs to nobody.
//!
//! One from an unknown address goes through these steps, in this order, and ends at the first that does not let it pass:
//!
//! 1. `receive`: it is too long; without a key it comes from another than the peer of an end that accepts nothing; or so many
//!    of unknown addresses did not open lately that these are not tried (`limits`).
//! 2. It is opened: it does not open, or its nonce was seen before (`crypto`).
//! 3. What sealed it has to fit its address (`fresh_keys`). Under the psk, from an address that leads to fresh keys: only handshakes
//!    pass (`takes_greetings_only`). Under fresh keys: its process claims the address, unless another is there (`accept_fresh`).
//! 4. Number 0: `on_control`. A ping is answered by a pong, and by a challenge of ours (`validation`).
//! 5. Another number, parsed and checked: `on_stranger`. A session in TIME_WAIT is answered for; one that is at another address
//!    may have moved here, and its packet waits until the address is validated (`migration`).
//! 6. It begins a session: `on_beginning`. It was not sent long before others of its sender (`is_from_before`). Its address is
//!    challenged first, or its sender is to use fresh keys that were answered (`waits_for_keys`), and its packet waits (`waiting`);
//!    then its source must have room among the half-open ones (`sources`) and in the table (`refusal`).
//! 7. Anything else is answered by a reset, so many a second at most (`limits`).

use super::fresh_keys::{Followup, SealedBy};
use super::half_open::begins_within;
use super::migration::Owner;
use super::scheduler::Outgoing;
use super::sources::source;
use super::trace::HeaderSummary;
use super::waiting::Packet;
use super::{DATAGRAM_MAX, Tunnel, clock, since_ping};
use crate::crypto::Rejected;
use crate::message::{self, CONTROL_LEN, Control, MOVES};
use crate::path::Local;
use crate::segment::{DEFAULT_WINDOW, Header, Malformed, Segments, ahead, cmd};
use crate::session::{Cause, State};
use crate::time::{Duration, Instant, MS};
use crate::time_wait::Ending;
use std::net::SocketAddr;

/// Late packets of a session that was reset are answered no oftener than this.
const RESET_PAUSE: Duration = Duration::from_millis(200);
/// Where there is no key one source leaves a place in so many of the table to others.
const LEFT: usize = 4;
/// A datagram that has come, but for the packet in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) from: SocketAddr,
    /// Where it came to.
    pub(super) local: Local,
    /// Its number among those of its sender under the psk, if they are numbered.
    pub(super) number: Option<u128>,
    /// What it was sealed with.
    pub(super) under: SealedBy,
}

impl Tunnel {
    /// A datagram arrived. It is opened in place; what does not belong here is dropped and counted. `local`: where
    /// it came to; answers are sent from there.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, local: Local, datagram: &mut [u8]) {
        self.counters.received += 1;
        self.counters.received_bytes += datagram.len() as u64;
        if let Some(what) = self.refuses(from, datagram.len(), now) {
            return self.reports.complain(now, from, what);
        }
        let (number, len) = (self.packets.number(datagram), datagram.len());
        let (packet, under) = match self.packets.open(now, from, datagram) {
            Ok(opened) => opened,
            Err(why) => return self.on_rejected(from, len, why, now),
        };
        let arrival = Arrival {
            from,
            local,
            // fresh keys have no recorded datagrams
            number: number.filter(|_| !matches!(under, SealedBy::Fresh(_))),
            under,
        };
        self.counters.opened += 1;
        if under != SealedBy::Nothing {
            let message = packet.starts_with(&[0; 4]);
            self.reports.on_opened(from, message, now);
        }
        match under {
            SealedBy::Nothing => {}
            SealedBy::Psk(_) if self.takes_greetings_only(&arrival) => {
                return self.on_psk_alone(arrival, packet, now);
            }
            SealedBy::Psk(_) => {}
            SealedBy::Fresh(id) if !self.accept_fresh(arrival, id, now) => return,
            SealedBy::Fresh(_) => self.reports.on_followed(from),
        }
        let Some(conv) = packet.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            self.counters.malformed += 1;
            return self.reports.complain(now, from, "it is too short");
        };
        if self.peer.is_at(from) {
            self.meeting.heard(now);
        }
        match conv {
            0 => self.on_control(arrival, packet, now),
            _ => self.on_session(arrival, packet, now),
        }
    }

    /// Why a datagram is not worth opening, if it is not; then it is counted.
    fn refuses(&mut self, from: SocketAddr, len: usize, now: Instant) -> Option<&'static str> {
        if len > DATAGRAM_MAX {
            self.counters.malformed += 1;
            return Some("it is too long");
        }
        let expected =
            self.peer.addr().is_none_or(|peer| peer == from) || self.meeting.expects(from);
        let expected = expected || self.hopping.expects(from);
        if !self.packets.sealed() && !self.settings.accepts && !expected {
            self.counters.unknown += 1;
            return Some("it is not from the other end");
        }
        if self.limits.is_flooded(now) && !self.is_known(from) {
            self.counters.bad_seal += 1;
            return Some("too many of unknown addresses do not open with this key and method");
        }
        None
    }

    /// A datagram of `len` bytes does not open.
    fn on_rejected(&mut self, from: SocketAddr, len: usize, why: Rejected, now: Instant) {
        if why == Rejected::Replay {
            self.counters.replayed += 1;
            let what = "its nonce was seen before";
            return self.reports.complain(now, from, what);
        }
        self.counters.bad_seal += 1;
        if !self.is_known(from) {
            self.limits.note_flood(len, now);
        }
        let path = self.paths.to(from);
        let heard_before = path.and_then(|path| path.liveness.heard_before(now));
        self.reports.on_unopened(from, heard_before, now);
    }

    /// Whether it is the address of somebody who has the key, as far as one can tell before a datagram is opened.
    fn is_known(&self, from: SocketAddr) -> bool {
        self.peer.is_at(from) || self.paths.id_of(from).is_some() || self.meeting.expects(from)
    }

    /// A packet of a session, known or not.
    pub(super) fn on_session(&mut self, arrival: Arrival, packet: &mut [u8], now: Instant) {
        let Some(conv) = packet.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            return;
        };
        let known = self.sessions.find(arrival.from, conv);
        let state = known.map(|id| self.sessions[id].session.state);
        if let Some(State::Reset { .. }) = state {
            return;
        }
        // before anything is believed that it says
        let mut headers = std::mem::take(&mut self.buffers.headers);
        match Segments::parse(packet, &mut headers) {
            Ok(packet) => match known {
                Some(id) => self.on_packet(id, arrival, packet, now),
                None => self.on_stranger(arrival, conv, packet, now),
            },
            Err(malformed) => self.on_malformed(arrival.from, known.is_some(), malformed, now),
        }
        self.buffers.headers = headers;
    }

    fn on_malformed(&mut self, from: SocketAddr, known: bool, malformed: Malformed, now: Instant) {
        self.counters.malformed += 1;
        match known {
            true => {
                let what = format!("its segments are malformed ({malformed:?})");
                self.reports.complain(now, from, &what);
            }
            false => self.reports.complain(now, from, "it is no packet of KCP"),
        }
    }

    fn on_control(&mut self, arrival: Arrival, packet: &[u8], now: Instant) {
        let Arrival { from, local, .. } = arrival;
        if self.on_meeting(from, local, packet, now) {
            return;
        }
        let message = Control::read(packet);
        self.note_ping(&arrival, message.as_ref(), now);
        if let (Some(_), Some(path_id)) = (&message, self.paths.id_of(from)) {
            let path = &mut self.paths[path_id];
            path.validation.note(arrival.number, now);
            path.liveness.hear(local, now);
            self.begin_search(path_id, now);
        }
        let followup = match message.zip(packet.get(CONTROL_LEN..)) {
            Some((message, behind)) => self.on_extension(&arrival, message, behind, now),
            None => Followup::Nothing,
        };
        if followup != Followup::Done {
            self.on_message(arrival, message, packet, now);
        }
        if followup == Followup::NewKeys {
            self.use_keys(&arrival, now);
        }
    }

    /// Notes, for the log, who pings under the psk and is not known yet: an answer of his, or fresh keys, should follow.
    fn note_ping(&mut self, arrival: &Arrival, message: Option<&Control>, now: Instant) {
        let pings = matches!(
            (message, arrival.under),
            (Some(Control::Ping(_)), SealedBy::Psk(_))
        );
        if pings && self.settings.accepts && self.paths.id_of(arrival.from).is_none() {
            self.reports.on_ping(arrival.from, now);
        }
    }

    /// A message of session 0, which `packet` holds. None: it is none that is known.
    pub(super) fn on_message(
        &mut self,
        arrival: Arrival,
        message: Option<Control>,
        packet: &[u8],
        now: Instant,
    ) {
        let Arrival { from, local, .. } = arrival;
        match message {
            // it would take back that this end stops
            Some(Control::Ping(_)) if self.farewell.has_begun() => {}
            Some(Control::Ping(ts)) => {
                self.pong(&arrival, ts, packet, now);
                // whoever pings may dial soon: the address shall be validated by then. Nobody gets more than they sent
                let paid = self.packets.sealed() || packet.len() >= 2 * CONTROL_LEN;
                if self.settings.accepts && paid && !self.is_validated_for_now(from) {
                    self.challenge(from, Some(local), now);
                }
                self.on_challenged(from, local, now);
            }
            Some(Control::Pong(challenge)) if self.newcomers.is_answer(from, challenge, now) => {
                self.reports.on_followed(from);
                let behind = packet.get(CONTROL_LEN..);
                let moves = behind.is_some_and(|behind| behind.starts_with(MOVES));
                self.on_validated(arrival, moves, now);
                self.on_answer(from, None, now);
            }
            Some(Control::Pong(token)) if self.on_size_answer(from, token, now) => {
                self.on_answer(from, None, now);
            }
            Some(Control::Pong(value))
                if self.on_candidate_pong(from, local, (value, packet.len()), now) => {}
            Some(Control::Pong(ts)) => {
                let rtt = since_ping(&self.settings, ts, now);
                if let (Some(path_id), Some(rtt)) = (self.paths.id_of(from), rtt) {
                    let path = &mut self.paths[path_id];
                    // sessions that send measure it themselves, with packets of their own lengths and to the microsecond
                    let measured = path.congestion.has_delivered();
                    if !measured || path.liveness.unanswered().sent.is_none() {
                        path.congestion.on_rtt(u64::from(rtt) * MS, now);
                    }
                    self.on_answer(from, Some(rtt), now);
                    self.on_plain_pong(from);
                }
            }
            Some(Control::Reset(0)) => self.peer.on_parting(from, now),
            Some(Control::Reset(conv)) => {
                if let Some(id) = self.sessions.find(from, conv) {
                    self.on_reset(id, now);
                }
            }
            None => {
                self.counters.malformed += 1;
                self.reports
                    .complain(now, from, "it is no message that is known");
            }
        }
    }

    fn on_reset(&mut self, id: u32, now: Instant) {
        let session = &mut self.sessions[id].session;
        if session.outlives_reset(now) {
            return self.drive(id, now);
        }
        self.abort(id, Cause::ResetByPeer, now);
    }

    /// A packet of a session that is in the table.
    pub(super) fn on_packet(&mut self, id: u32, arrival: Arrival, packet: Segments, now: Instant) {
        let state = self.sessions[id].session.state;
        if state == State::HalfOpen && !self.keeps_early(id, &packet, now) {
            return;
        }
        let entry = &mut self.sessions[id];
        let path = &mut self.paths[entry.session.path];
        if self.packets.sealed() {
            let summary = HeaderSummary::of(packet.headers());
            entry.trace.note(&summary);
            if let Some(ts) = summary.ts {
                path.clock.note(ts, now);
            }
        }
        let both = clock(&self.settings, now);
        let conversation = &mut entry.session.conversation;
        let (unacked, news) = (conversation.unacked(), path.counts.news);
        conversation.input(packet, path, &mut self.buffers.pool, both);
        if entry.session.conversation.is_contradicted() {
            log::debug!(
                "{:08x}: the other end lacks what was acknowledged",
                entry.session.conv()
            );
            self.take_packets(id, now);
            return self.abort(id, Cause::Restarted, now);
        }
        entry.session.hear(now);
        path.validation.note(arrival.number, now);
        path.liveness.hear(arrival.local, now);
        if path.counts.news > news {
            path.liveness.on_news(now);
        }
        let answers = entry.session.conversation.unacked() < unacked;
        entry.note_progress(now);
        let (addr, path_id) = (entry.addr(), entry.session.path);
        if !self.packets.sealed() {
            self.revalidate(path_id, now);
        }
        if answers {
            self.on_answer(addr, None, now);
        }
        self.begin_search(path_id, now);
        // before reading, which may end the session
        self.take_packets(id, now);
        self.detect_black_hole(id, now);
        self.read(id, now);
        self.drive(id, now);
        let path_id = self.sessions.get(id).map(|e| e.session.path);
        if let Some(path_id) = path_id {
            self.scheduler.activate(path_id);
        }
        self.watch_throughput(now);
    }

    /// Whether a packet of a session that has not dialled yet is taken. One whose beginning should have come by now ends.
    fn keeps_early(&mut self, id: u32, packet: &Segments, now: Instant) -> bool {
        let entry = &mut self.sessions[id];
        let patience = begins_within(self.paths[entry.session.path].known_rtt());
        let silence = now.since(entry.session.heard_at());
        let missed = entry.half_open.note(packet, silence, patience, now);
        let begins = entry.half_open.is_begun_by(packet);
        if missed && !begins {
            self.abort(id, Cause::Restarted, now);
            return false;
        }
        self.sessions.keep(id, packet.bytes().len(), begins)
    }

    /// A packet of a session that is not (or no longer) in the table.
    fn on_stranger(&mut self, arrival: Arrival, conv: u32, packet: Segments, now: Instant) {
        let Arrival { from, local, .. } = arrival;
        let at = match self.packets.sealed() {
            true => self.time_wait.address(from, conv),
            false => from,
        };
        if at != from && has_dial(&packet) {
            // a late copy, which nobody waits for; or somebody has drawn the same number, and must not be told that it arrived
            self.counters.replayed += 1;
            let what = "it may be of a session that has ended at another address";
            return self.suspect(now, from, Some(at), what);
        }
        if at != from && self.is_another(&arrival, at) {
            self.counters.replayed += 1;
            let what = "it is of a session with another process";
            return self.suspect(now, from, Some(at), what);
        }
        match self.time_wait.respond(at, conv, RESET_PAUSE, now) {
            Some(Ending::Clean { una }) => {
                return self.acknowledge_again(from, local, una, &packet);
            }
            Some(Ending::Reset) => {
                return self.queue_packet(from, Some(local), &Control::Reset(conv).to_wire());
            }
            None if self.time_wait.contains(at, conv) => return,
            None => {}
        }
        if self.packets.sealed() {
            if self.is_being_reset(conv) {
                // its other end has moved before it was told, and would begin it again
                return self.reset(from, local, conv, now);
            }
            match self.owner(from, conv, packet.headers(), now) {
                Owner::Session(id) if self.is_another(&arrival, self.sessions[id].addr()) => {
                    self.counters.replayed += 1;
                    let what = "it is of a session with another process";
                    return self.suspect(now, from, Some(self.sessions[id].addr()), what);
                }
                Owner::Session(id) => return self.on_moved(id, arrival, packet, now),
                Owner::Doubtful => {
                    // perhaps a first packet that somebody has seen and sends again from elsewhere: its service is dialled already
                    self.counters.replayed += 1;
                    let what = "it may be of a session that there is at another address";
                    let other = self
                        .sessions
                        .numbered(conv)
                        .next()
                        .map(|(_, entry)| entry.addr());
                    return self.suspect(now, from, other, what);
                }
                Owner::Nobody => {}
            }
        }
        if self.settings.accepts && begins_session(&packet) {
            return self.on_beginning(arrival, conv, packet, now);
        }
        self.counters.unknown += 1;
        log::debug!("{conv:08x}: {from} has a session that is not known here");
        self.reset(from, local, conv, now);
    }

    /// A packet that another end may begin a session with: it does if its sender's address is validated and it has room.
    fn on_beginning(&mut self, arrival: Arrival, conv: u32, packet: Segments, now: Instant) {
        let Arrival { from, local, .. } = arrival;
        if !self.packets.sealed() && self.has_begun_elsewhere(from, conv) {
            // its sender's port is another one now: two of a number would become one stream there
            return self.reset(from, local, conv, now);
        }
        if self.is_from_before(arrival, now) {
            self.counters.replayed += 1;
            let what = "it was sent long before others of its sender that have come";
            return self.suspect(now, from, None, what);
        }
        let waits = self.waits_for_keys(&arrival, now);
        if matches!(arrival.under, SealedBy::Psk(_)) && self.packets.fresh.is_required() {
            return self.refuse_psk(arrival, conv, waits, now);
        }
        if waits || !self.is_validated_at(from) {
            let packet = Packet::new(arrival, packet.bytes(), now);
            if self.newcomers.hold(packet, now) && !waits {
                self.challenge(from, Some(local), now);
            }
            return;
        }
        if !has_dial(&packet) && !self.sessions.admits_half_open(source(from)) {
            // without a word, which would end it: its dial may still come
            self.counters.unknown += 1;
            let what = "too many sessions wait for their dial";
            return self.reports.complain(now, from, what);
        }
        if let Some(why) = self.refusal(from) {
            self.reports.complain(now, from, why);
            return self.reset(from, local, conv, now);
        }
        let id = self.insert(from, conv, false, now);
        self.on_packet(id, arrival, packet, now);
    }

    /// Somebody would begin a session under the psk, which is not enough. `waits`: he is about to have fresh keys, and repeats it.
    fn refuse_psk(&mut self, arrival: Arrival, conv: u32, waits: bool, now: Instant) {
        if waits {
            return;
        }
        self.counters.unknown += 1;
        let what = "forward_secrecy is \"require\", and its sender does not agree on fresh keys: update that end, or set \"auto\" here";
        self.reports.complain(now, arrival.from, what);
        self.reset(arrival.from, arrival.local, conv, now);
    }

    /// Whether a source has a session of this number at another of its ports.
    fn has_begun_elsewhere(&self, from: SocketAddr, conv: u32) -> bool {
        self.sessions
            .numbered(conv)
            .any(|(_, entry)| entry.is_begun_by(source(from)))
    }

    /// Why a source may not begin one more session.
    fn refusal(&self, from: SocketAddr) -> Option<&'static str> {
        let most = self.settings.max_sessions;
        let share = most - most / LEFT;
        if self.sessions.len() >= most {
            return Some("the session table is full");
        }
        let greedy = !self.packets.sealed() && self.sessions.count_of(source(from)) >= share;
        greedy.then_some("its source has as many sessions as one may have without a key")
    }

    /// Tells somebody that their session is not known, or over; not too often.
    fn reset(&mut self, to: SocketAddr, local: Local, conv: u32, now: Instant) {
        if self.limits.admits_reset(now) {
            self.queue_packet(to, Some(local), &Control::Reset(conv).to_wire());
        }
    }

    /// Whether the other end of a session of this number, whatever its address, is being told that it is over.
    fn is_being_reset(&self, conv: u32) -> bool {
        self.sessions
            .numbered(conv)
            .any(|(_, entry)| matches!(entry.session.state, State::Reset { .. }))
    }

    /// A session that ended in order gets packets that its other end still repeats: their acks were lost, or they are
    /// keepalives of an end whose TCP reader has not come to the end yet. Nothing else can follow an end of stream.
    fn acknowledge_again(&mut self, from: SocketAddr, local: Local, una: u32, packet: &Segments) {
        let mut acks = Vec::new();
        for header in packet.pushes() {
            // who acknowledges a keepalive has it
            let una = match ahead(header.sn, una) {
                0.. => header.sn.wrapping_add(1),
                _ => una,
            };
            let ack = Header {
                cmd: cmd::ACK,
                una,
                len: 0,
                wnd: DEFAULT_WINDOW,
                ..*header
            };
            acks.extend(ack.to_wire());
        }
        if !acks.is_empty() {
            self.queue_packet(from, Some(local), &acks);
        }
    }

    /// Sends a packet soon. `asked`: which address of this machine it answers for, if its path does not know.
    pub(super) fn queue_packet(&mut self, to: SocketAddr, asked: Option<Local>, packet: &[u8]) {
        self.scheduler.offer(Outgoing {
            to,
            asked,
            probe: false,
            psk: None,
            packet: packet.to_vec(),
        });
    }
}

/// Whether a packet of an unknown number can be the first of a new session: it pushes, its sender has received nothing
/// yet, and it stays within the window that KCP assumes before it has heard of the receiver's. Most sessions that were
/// here before a restart are told by this; they are reset instead of being kept waiting.
fn begins_session(packet: &Segments) -> bool {
    let first = |h: &Header| h.una == 0 && h.sn < DEFAULT_WINDOW.into();
    packet.pushes().any(first)
}

/// Whether a packet holds the first segment of a session, and it dials.
fn has_dial(packet: &Segments) -> bool {
    let dial = message::header(message::Kind::Dial, 0);
    // of several of that number it is the first that counts
    let first = packet.iter().find(|(h, _)| h.cmd == cmd::PUSH && h.sn == 0);
    first.is_some_and(|(_, data)| data.starts_with(&dial))
}
