//! What follows from a datagram that has arrived: to whom it belongs, and who is told what when it belongs to nobody.

use super::{DATAGRAM_MAX, Tunnel, clock};
use crate::crypto::Rejected;
use crate::ended::Ending;
use crate::message::{self, Control};
use crate::segment::{self, Header, Segments, cmd};
use crate::session::{Cause, State};
use crate::time::{MS, SEC, Time};
use std::net::SocketAddr;

/// Late packets of a session that was reset are answered no oftener than this.
const RESET_PAUSE: u64 = 200 * MS;
/// Packets of sessions that are not known are answered so many times a second at most.
const RESETS_A_SECOND: u32 = 500;
/// Sessions begun by other ends that have not dialled yet, at most.
const HALFWAY_MOST: usize = 4096;
/// Datagrams that wait to leave and answer something, at most; more would be somebody's flood.
const CONTROL_MOST: usize = 4096;

/// Log lines about bad packets, at most one a second.
#[derive(Default)]
pub(super) struct Complaints {
    next: Time,
    held_back: u64,
}

impl Complaints {
    /// Whether a line may be written now.
    pub(super) fn may(&mut self, now: Time) -> bool {
        let may = now >= self.next;
        if may {
            self.next = now.after(SEC);
        }
        may
    }

    pub(super) fn say(&mut self, now: Time, from: SocketAddr, what: &str) {
        if !self.may(now) {
            self.held_back += 1;
            return;
        }
        match std::mem::take(&mut self.held_back) {
            0 => log::warn!("a datagram from {from} was dropped: {what}"),
            n => log::warn!(
                "a datagram from {from} was dropped: {what} ({n} more since the last such line)"
            ),
        }
    }
}

impl Tunnel {
    /// A datagram arrived. It is opened in place; what does not belong here is dropped and counted.
    pub fn receive(&mut self, now: Time, from: SocketAddr, datagram: &mut [u8]) {
        self.counters.received += 1;
        if datagram.len() > DATAGRAM_MAX {
            self.counters.malformed += 1;
            return self.complaints.say(now, from, "it is too long");
        }
        if !self.settings.accepts && self.peer.is_some_and(|peer| peer != from) {
            // before it is opened: a copy must not spend the nonce of the true one
            self.counters.unknown += 1;
            return self
                .complaints
                .say(now, from, "it is not from the other end");
        }
        let packet = match self.packets.open(datagram) {
            Ok(packet) => packet,
            Err(Rejected::Replay) => {
                self.counters.replayed += 1;
                return self.complaints.say(now, from, "its nonce was seen before");
            }
            Err(_) => {
                self.counters.bad_seal += 1;
                let what = "it does not open with this key and method";
                return self.complaints.say(now, from, what);
            }
        };
        let Some(conv) = packet.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            self.counters.malformed += 1;
            return self.complaints.say(now, from, "it is too short");
        };
        if conv == 0 {
            return self.on_control(from, packet, now);
        }
        if let Some(id) = self.numbers.get(&(from, conv)).copied() {
            return self.on_packet(id, packet, now);
        }
        self.on_stranger(from, conv, packet, now);
    }

    pub(super) fn on_control(&mut self, from: SocketAddr, packet: &[u8], now: Time) {
        match Control::read(packet) {
            Some(Control::Ping(ts)) => self.answer(from, &Control::Pong(ts).to_wire()),
            Some(Control::Pong(ts)) => {
                let clock = clock(&self.settings, now).clock;
                if let Some(lane) = self.addresses.get(&from) {
                    let path = &mut self.lanes[*lane as usize].path;
                    let rtt = clock.wrapping_sub(ts);
                    if rtt < 60_000 {
                        path.rate.on_rtt(u64::from(rtt) * MS, now);
                        let first = self.peer == Some(from)
                            && !std::mem::replace(&mut self.hello.heard, true);
                        let level = if first {
                            log::Level::Info
                        } else {
                            log::Level::Debug
                        };
                        log::log!(level, "{from} answers after {rtt} ms");
                    }
                }
            }
            Some(Control::Reset(conv)) => {
                if let Some(id) = self.numbers.get(&(from, conv)).copied() {
                    self.abort(id, Cause::ResetByPeer, now);
                }
            }
            None => {
                self.counters.malformed += 1;
                self.complaints
                    .say(now, from, "it is no message that is known");
            }
        }
    }

    /// A packet of a session that is in the table.
    pub(super) fn on_packet(&mut self, id: u32, packet: &mut [u8], now: Time) {
        let entry = &mut self.sessions[id as usize];
        let lane = &mut self.lanes[entry.session.path as usize];
        if let State::Reset { .. } = entry.session.state {
            return;
        }
        let both = clock(&self.settings, now);
        if let Err(malformed) = entry
            .session
            .conversation
            .input(packet, &mut lane.path, both)
        {
            self.counters.malformed += 1;
            return self.complaints.say(
                now,
                entry.addr,
                &format!("its segments are malformed ({malformed:?})"),
            );
        }
        entry.session.heard_at = now;
        self.hello.heard |= self.peer == Some(entry.addr);
        // before reading, which may end the session: what KCP put out must not leave as another's
        self.take_packets(id, now);
        self.read(id, now);
        self.touch(id, now);
        let lane = self.sessions.get(id as usize).map(|e| e.session.path);
        if let Some(lane) = lane {
            self.wake(lane);
        }
    }

    /// A packet of a session that is not (or no longer) in the table.
    pub(super) fn on_stranger(
        &mut self,
        from: SocketAddr,
        conv: u32,
        packet: &mut [u8],
        now: Time,
    ) {
        if segment::check(packet).is_err() {
            self.counters.malformed += 1;
            return self.complaints.say(now, from, "it is no packet of KCP");
        }
        match self.ended.answer(from, conv, RESET_PAUSE, now) {
            Some(Ending::Clean { una }) => {
                return self.acknowledge_again(from, una, packet);
            }
            Some(Ending::Reset) => return self.answer(from, &Control::Reset(conv).to_wire()),
            None if self.ended.contains(from, conv) => return,
            None => {}
        }
        let begins = self.settings.accepts && begins_session(packet);
        if begins && self.packets.sealed() && self.is_known(conv) {
            // a first packet that somebody has seen and sends again from elsewhere: its service is dialled already
            self.counters.replayed += 1;
            return self.complaints.say(
                now,
                from,
                "it begins a session that there is at another address",
            );
        }
        if begins {
            let room = self.halfway < HALFWAY_MOST || has_dial(packet);
            if self.sessions.len() < self.settings.max_sessions && room {
                let id = self.insert(from, conv, false, now);
                self.halfway += 1;
                return self.on_packet(id, packet, now);
            }
            self.complaints.say(now, from, "the session table is full");
        } else {
            self.counters.unknown += 1;
        }
        if self.may_reset(now) {
            log::debug!("{conv:08x}: {from} has a session that is not known here");
            self.answer(from, &Control::Reset(conv).to_wire());
        }
    }

    /// Whether a number belongs to a session, present or lately ended, whatever its address.
    fn is_known(&self, conv: u32) -> bool {
        self.live.contains_key(&conv) || self.ended.knows(conv)
    }

    pub(super) fn may_reset(&mut self, now: Time) -> bool {
        if now.since(self.resets.0) >= SEC {
            self.resets = (now, 0);
        }
        self.resets.1 += 1;
        self.resets.1 <= RESETS_A_SECOND
    }

    /// A session that ended in order gets packets that its other end still repeats: their acks were lost, or they are
    /// keepalives of an end whose TCP reader has not come to the end yet. Nothing else can follow an end of stream.
    pub(super) fn acknowledge_again(&mut self, from: SocketAddr, una: u32, packet: &[u8]) {
        let mut acks = Vec::new();
        for (header, _) in Segments::new(packet).flatten() {
            if header.cmd == cmd::PUSH {
                let ack = Header {
                    cmd: cmd::ACK,
                    una,
                    len: 0,
                    wnd: 128,
                    ..header
                };
                acks.extend(ack.to_wire());
            }
        }
        if !acks.is_empty() {
            self.answer(from, &acks);
        }
    }

    pub(super) fn answer(&mut self, to: SocketAddr, packet: &[u8]) {
        if self.control.len() < CONTROL_MOST {
            self.control.push_back((to, packet.to_vec()));
        }
    }
}

/// Whether a packet of an unknown number can be the first of a new session: it pushes, its sender has received nothing
/// yet, and it stays within the window that KCP assumes before it has heard of the receiver's. Most sessions that were
/// here before a restart are told by this; they are reset instead of being kept waiting.
fn begins_session(packet: &[u8]) -> bool {
    const FIRST_WINDOW: u32 = 128;
    Segments::new(packet)
        .flatten()
        .any(|(h, _)| h.cmd == cmd::PUSH && h.una == 0 && h.sn < FIRST_WINDOW)
}

/// Whether a packet holds the first segment of a session, and it dials.
fn has_dial(packet: &[u8]) -> bool {
    let dial = message::header(message::Kind::Dial, 0);
    Segments::new(packet)
        .flatten()
        .any(|(h, data)| h.cmd == cmd::PUSH && h.sn == 0 && data.starts_with(&dial))
}
