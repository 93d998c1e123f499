//! Fresh keys: which processes this end shares some with, who is greeted and answered when, and what is still taken under the
//! psk alone. What is known of each is in `associations`, how many are answered in `budget`. The handshake itself is in
//! `crypto::handshake`, the sealing in `crypto::fresh`; when pings leave, on which greetings ride, is in `peer`. Nothing here
//! touches sessions.
//!
//! An *association* is what is shared with one process: it belongs to the two processes, and addresses only lead to it. A
//! datagram under fresh keys names its association by the index in its nonce, so that it opens at the first try wherever it
//! comes from, and a free address leads to the association from then on. It holds up to three sets of keys, as in WireGuard
//! (J. Donenfeld, 2017): the current, the previous for what is late, and the next, which were answered and not seen in use.
//!
//! - **Who greets.** The end that has a peer: by its pings, until there are keys; once they are `RENEW_AFTER` old or have sealed
//!   `RENEW_BYTES`; and under the psk beside a ping that follows one without an answer, for the other process may be another.
//!   The same greeting is sent again for `GREETING_LIVES`.
//! - **Who answers.** Everybody, at once and by the pong. The keys wait in `next`, without a place among addresses, for
//!   `NEXT_LIVES`: a greeting by itself changes nothing. The first datagram under them shows that who greeted is alive and
//!   receives where the answer went, which is what a challenge shows: his address is validated, and the keys are current.
//! - **The answer is lost.** The same greeting comes again and gets the same answer, without arithmetic. **The first datagram
//!   under the new keys is lost**: the next one does the same. Until it has opened something under its new keys, the end that
//!   greeted accepts the previous ones.
//! - **Both greet at once.** The one whose process has the smaller number answers, the other ignores that greeting.
//! - **One end restarts.** The other has its pings unanswered, greets under the psk, and has an association with another
//!   process; the address leads there then. The old one ends.
//! - **An address changes.** The index tells. If the peer is looked for at another address, it is asked there under the present
//!   keys and greeted under the psk: it may be the same process or another.
//! - **Several behind one NAT** have an address each, and each its own process.
//! - **A greeting is played again.** In this process's life the replay filter knows it. After a restart it is answered; nobody
//!   can use that answer, and the keys are dropped. `Budget` bounds what that costs.
//! - **Greetings are cut out.** Then the psk is used, unless this process had fresh keys with its peer before, or they are
//!   required. An end that could greet never answers a challenge without a greeting: so nothing that was recorded can be begun
//!   in its name.
//!
//! Under the psk an end still takes: from an address that leads to an association, greetings and answers only; from one that
//! has been answered and has used no key yet, first packets of sessions, which wait until it has, and are taken then if they
//! were sent after the greeting, which counted nonces tell; from all others what it took before.

mod associations;
mod budget;

use super::inbound::Arrival;
use super::packet::Packets;
use super::scheduler::Outgoing;
use super::{Tunnel, clock};
use crate::crypto::Sealing;
use crate::crypto::handshake::{ANSWER_LEN, Extension, GREETING_LEN, Greeted, Greeting, Hello};
use crate::message::{CONTROL_LEN, Control, ECHO, MOVES};
use crate::time::{Duration, Instant, SEC};
use associations::{Asking, GREETING_LIVES, IGNORED, RENEW_AFTER, Reply};
use std::net::SocketAddr;

pub(super) use associations::{FreshKeys, TIME_WAIT_MIN};

/// A renewal that was not answered is tried again after so long.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// A greeting without an answer, though pings are answered, is repeated after a second, after two more and so on, so many
/// times. Then it rides on the pings that there are.
const GREETING_AGAIN: u32 = 3;
/// Psk alone from an address of a process that was heard under fresh keys so long ago is worth a line in the log.
const QUIET: Duration = Duration::from_secs(60);

/// What a datagram was sealed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SealedBy {
    /// Nothing.
    Nothing,
    /// The psk of this serial number, which everybody has.
    Psk(u32),
    /// The fresh keys of an association.
    Fresh(u32),
}

/// What follows from what stands behind the value of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Followup {
    /// Nothing: it is a message like any other.
    Nothing,
    /// All that there is to do.
    Done,
    /// There are new keys: the message counts, and then they are used for the first time.
    NewKeys,
}

impl Packets {
    /// A greeting for an address, if one is due, and the psk to seal it with; none: the present keys. `doubt`: the process there
    /// may be another than the one that there are keys with.
    fn greeting(
        &mut self,
        to: SocketAddr,
        doubt: bool,
        now: Instant,
    ) -> Option<([u8; GREETING_LEN], Option<u32>)> {
        if self.fresh.is_off() || !self.sealed() {
            return None;
        }
        let renew_at = self.fresh.current_at(to).map(|keys| keys.renew_at);
        let greets = self
            .fresh
            .at(to)
            .is_some_and(|id| self.fresh.table[id as usize].greets);
        let due = renew_at.is_some_and(|at| at <= now && greets);
        if renew_at.is_some() && !doubt && !due {
            return None;
        }
        if due {
            self.fresh.postpone(to, now.after(RENEW_AGAIN));
        }
        let recent = |asking: &Asking| now.since(asking.made_at) < GREETING_LIVES;
        if !self.fresh.asking.as_ref().is_some_and(recent) {
            self.begin_asking(to, now);
        }
        let asking = self.fresh.asking.as_mut()?;
        asking.to = to;
        let psk = (renew_at.is_none() || doubt).then_some(asking.serial);
        Some((*asking.greeting.wire(), psk))
    }

    /// A ping with the greeting leaves: when it is sent again.
    fn note_greeting(&mut self, now: Instant) {
        if let Some(asking) = &mut self.fresh.asking {
            asking.sends += 1;
            let pause = SEC << (asking.sends - 1).min(GREETING_AGAIN);
            asking.again_at = (asking.sends <= GREETING_AGAIN).then_some(now.after(pause));
        }
    }

    /// Makes a greeting. Where one psk replaces another, both are tried in turn.
    fn begin_asking(&mut self, to: SocketAddr, now: Instant) {
        let sends = self.fresh.asking.as_ref().map_or(0, |asking| asking.sends);
        let (secret, index) = (self.fresh.draw_secret(), self.fresh.draw_index());
        let own = Hello {
            process: self.fresh.own,
            index,
        };
        let ignored = self
            .fresh
            .asking
            .as_ref()
            .map_or(0, |asking| asking.ignored);
        let before = self.fresh.asking.as_ref().map(|asking| asking.serial);
        let Some((sealing, serial)) = self.psk_other_than(before) else {
            return;
        };
        self.fresh.asking = Some(Asking {
            greeting: Greeting::new(sealing.key(), sealing.method(), &secret, own),
            serial,
            to,
            made_at: now,
            sends,
            again_at: None,
            ignored,
        });
    }

    /// What a greeting gets.
    fn on_greeting(
        &mut self,
        greeting: &[u8; GREETING_LEN],
        arrival: &Arrival,
        proven: bool,
        now: Instant,
    ) -> Reply {
        if self.fresh.is_off() {
            return Reply::Nothing;
        }
        let read = |(sealing, serial): (&Sealing, u32)| {
            let greeted = Greeted::read(sealing.key(), sealing.method(), greeting)?;
            Some((greeted, (sealing.method(), serial)))
        };
        let read = self.psks().find_map(read);
        match read {
            Some((greeted, psk)) => self.fresh.respond(greeted, psk, arrival, proven, now),
            None => Reply::Nothing,
        }
    }

    fn on_handshake_answer(
        &mut self,
        answer: &[u8; ANSWER_LEN],
        from: SocketAddr,
        now: Instant,
    ) -> Option<bool> {
        let serial = self.fresh.asking.as_ref()?.serial;
        let method = self.psks().find(|psk| psk.1 == serial)?.0.method();
        self.fresh.on_handshake_answer(from, answer, method, now)
    }
}

impl Tunnel {
    /// Sends a ping, with a greeting if one is due. `doubt`: one before it has no answer.
    pub(super) fn send_ping(&mut self, to: SocketAddr, ping: &[u8], doubt: bool, now: Instant) {
        if !self.peer.is_at(to) {
            return self.queue_packet(to, None, ping);
        }
        let greeting = self.packets.greeting(to, doubt, now);
        if greeting.is_some() {
            self.packets.note_greeting(now);
        }
        match greeting {
            None => self.queue_packet(to, None, ping),
            Some((greeting, None)) => self.queue_packet(to, None, &[ping, &greeting].concat()),
            Some((greeting, psk)) => {
                if self.packets.fresh.has_keys(to) {
                    self.queue_packet(to, None, ping);
                }
                self.queue_packet_under(psk, to, None, &[&ping[..CONTROL_LEN], &greeting].concat());
            }
        }
    }

    /// Sends a packet soon, sealed with the psk of this serial number.
    fn queue_packet_under(
        &mut self,
        psk: Option<u32>,
        to: SocketAddr,
        arrival: Option<&Arrival>,
        packet: &[u8],
    ) {
        self.scheduler.offer(Outgoing {
            asked: arrival.map(|arrival| arrival.local),
            psk,
            ..Outgoing::unasked(to, packet.to_vec())
        });
    }

    /// Greets the peer before a session, if nothing else has: see `keepalive`.
    pub(super) fn greet_peer(&mut self, peer: SocketAddr, now: Instant) {
        let fresh = &self.packets.fresh;
        let wanted = !fresh.is_off() && self.packets.sealed() && !fresh.has_keys(peer);
        let asked = |asking: &Asking| {
            let in_vain = asking.ignored >= IGNORED && !fresh.is_required();
            in_vain || now.since(asking.made_at) < GREETING_LIVES
        };
        if wanted && !fresh.asking.as_ref().is_some_and(asked) {
            self.ping(peer, now);
        }
    }

    /// Greets a process that may be the peer at another address; the challenge beside it asks whether it is the one that there are
    /// keys with.
    pub(super) fn greet_candidate(&mut self, addr: SocketAddr, challenge: &[u8], now: Instant) {
        let Some(peer) = self.peer.addr() else {
            return;
        };
        let candidate = self.paths.candidate(addr);
        if candidate.is_none() || candidate != self.paths.id_of(peer) {
            return;
        }
        if let Some((greeting, psk @ Some(_))) = self.packets.greeting(addr, true, now) {
            self.packets.fresh.map_if_free(addr, peer, now);
            self.queue_packet_under(psk, addr, None, &[challenge, &greeting].concat());
        }
    }

    /// Whether of what comes from an address under the psk only greetings and answers are taken.
    pub(super) fn takes_greetings_only(&self, arrival: &Arrival) -> bool {
        self.packets.fresh.at(arrival.from).is_some()
    }

    /// A datagram under the psk has come from such an address.
    pub(super) fn on_psk_alone(&mut self, arrival: Arrival, packet: &[u8], now: Instant) {
        let message = Control::read(packet);
        if let Some((known, behind)) = message.zip(packet.get(CONTROL_LEN..)) {
            match self.on_extension(&arrival, known, behind, now) {
                Followup::Nothing => {}
                Followup::Done => return,
                Followup::NewKeys => {
                    // nobody has had this answer before
                    self.on_message(arrival, message, packet, now);
                    return self.use_keys(&arrival, now);
                }
            }
        }
        self.counters.replayed += 1;
        let fresh = &self.packets.fresh;
        let heard_at = fresh
            .at(arrival.from)
            .map(|id| fresh.table[id as usize].heard_at);
        match heard_at.is_some_and(|at| now.since(at) >= QUIET) {
            false => log::debug!(
                "a datagram from {} is sealed with the psk alone",
                arrival.from
            ),
            true => self.reports.complain(
                now,
                arrival.from,
                "it is sealed with the psk alone, and fresh keys were agreed on with its sender; if that was replaced by one without them, restart this end",
            ),
        }
    }

    /// A message has something behind its value.
    pub(super) fn on_extension(
        &mut self,
        arrival: &Arrival,
        message: Control,
        behind: &[u8],
        now: Instant,
    ) -> Followup {
        if arrival.under == SealedBy::Nothing || self.packets.fresh.is_off() {
            return Followup::Nothing;
        }
        match (Extension::read(behind), message) {
            (None, _) | (_, Control::Reset(_)) => Followup::Nothing,
            (Some(Extension::Greeting(_)), _) if self.farewell.has_begun() => Followup::Done,
            (Some(Extension::Greeting(greeting)), Control::Ping(value)) => {
                let reply = self.packets.on_greeting(greeting, arrival, false, now);
                self.reply(arrival, &Control::Pong(value).to_wire(), reply, now)
            }
            (Some(Extension::Greeting(greeting)), Control::Pong(value)) => {
                let proven = self.newcomers.is_answer(arrival.from, value, now);
                let reply = self.packets.on_greeting(greeting, arrival, proven, now);
                if let Reply::Answer(_) = reply {
                    let ping = self.newcomers.ping_for(arrival.from, now);
                    self.reply(arrival, &ping, reply, now);
                }
                // who could greet shows by the keys that he is there, and by nothing else
                Followup::Done
            }
            (Some(Extension::Answer(answer)), _) => {
                match self.packets.on_handshake_answer(answer, arrival.from, now) {
                    Some(first) => {
                        tell_keys(arrival.from, first);
                        Followup::NewKeys
                    }
                    None => Followup::Nothing,
                }
            }
        }
    }

    /// Shows who has answered a greeting that the keys are in use.
    pub(super) fn use_keys(&mut self, arrival: &Arrival, now: Instant) {
        self.on_answer(arrival.from, None, now);
        if self.peer.is_at(arrival.from) {
            return self.ping(arrival.from, now);
        }
        let ping = Control::Ping(clock(&self.settings, now).clock);
        self.queue_packet(arrival.from, Some(arrival.local), &ping.to_wire());
    }

    /// Sends a message with what a greeting gets.
    fn reply(&mut self, arrival: &Arrival, message: &[u8], reply: Reply, now: Instant) -> Followup {
        let psk = match arrival.under {
            SealedBy::Psk(serial) => Some(serial),
            _ => None,
        };
        match reply {
            Reply::Answer(answer) => {
                let packet = [message, &answer].concat();
                self.queue_packet_under(psk, arrival.from, Some(arrival), &packet);
                Followup::Done
            }
            Reply::Challenge if psk.is_some() => {
                self.queue_packet_under(psk, arrival.from, Some(arrival), message);
                if self.limits.admits_challenge(now) {
                    let ping = self.newcomers.ping_for(arrival.from, now);
                    self.queue_packet_under(psk, arrival.from, Some(arrival), &ping);
                }
                Followup::Done
            }
            _ => Followup::Nothing,
        }
    }

    /// Answers a ping that names `value`. Who could greet its sender does.
    pub(super) fn pong(&mut self, arrival: &Arrival, value: u32, ping: &[u8], now: Instant) {
        let (from, pong) = (arrival.from, Control::Pong(value).to_wire());
        if self.hopping.keep_challenge(from, arrival.local, value) {
            return;
        }
        if self.hopping.is_tried(from, arrival.local) {
            return self.queue_packet(from, Some(arrival.local), &[&pong[..], MOVES].concat());
        }
        if let (SealedBy::Psk(_), true) = (arrival.under, self.peer.is_at(from)) {
            if let Some((greeting, psk @ Some(_))) = self.packets.greeting(from, false, now) {
                let packet = [&pong[..], &greeting].concat();
                return self.queue_packet_under(psk, from, Some(arrival), &packet);
            }
        }
        // without a key nobody gets more than they have sent
        if self.packets.sealed() && ping[CONTROL_LEN..].starts_with(ECHO) {
            let mut long = pong.to_vec();
            long.resize(ping.len(), 0);
            return self.queue_packet(from, Some(arrival.local), &long);
        }
        self.queue_packet(from, Some(arrival.local), &pong);
    }

    /// A datagram under fresh keys has come. False if it is dropped: somebody else has its address.
    pub(super) fn accept_fresh(&mut self, arrival: Arrival, id: u32, now: Instant) -> bool {
        self.on_confirmed(arrival, now);
        let from = arrival.from;
        let taken = self.paths.to(from).is_some_and(|path| path.sessions > 0);
        let settled = self.packets.fresh.claim_address(from, id, taken, now);
        if !settled {
            self.counters.unknown += 1;
            log::debug!("a datagram from {from} is of another process than the one there");
        }
        settled
    }

    /// The first datagram under new keys has come, if it has.
    fn on_confirmed(&mut self, arrival: Arrival, now: Instant) {
        let Some(confirmed) = self.packets.fresh.take_confirmed() else {
            return;
        };
        tell_keys(arrival.from, confirmed.first);
        if confirmed.at == arrival.from {
            self.on_validated(arrival, false, now);
        }
    }

    /// Whether a first packet of a session, under the psk, has to wait for its sender's first use of fresh keys.
    pub(super) fn waits_for_keys(&self, arrival: &Arrival, now: Instant) -> bool {
        matches!(arrival.under, SealedBy::Psk(_))
            && self.packets.fresh.is_awaited(arrival.from, now)
    }

    /// Whether a packet that waited is under the psk and may have been recorded earlier, as far as one can tell.
    pub(super) fn may_be_recorded(&self, arrival: &Arrival) -> bool {
        let psk = matches!(arrival.under, SealedBy::Psk(_));
        let fresh = &self.packets.fresh;
        let known = fresh.at(arrival.from).filter(|_| psk);
        known.is_some_and(|id| !fresh.is_after_greeting(id, arrival.number))
    }

    /// Whether somebody else than the process at `addr`, as far as there are keys with it, has sent what has come.
    pub(super) fn is_another(&self, arrival: &Arrival, addr: SocketAddr) -> bool {
        let there = self.packets.fresh.at(addr);
        there.is_some_and(|id| arrival.under != SealedBy::Fresh(id))
    }

    /// Whether a packet for an address must not leave now: it would be sealed with the psk alone, where more was agreed on or is
    /// required. A session repeats it.
    pub(super) fn withholds(&self, to: SocketAddr, packet: &[u8]) -> bool {
        let fresh = &self.packets.fresh;
        if fresh.is_off() || !self.packets.sealed() {
            return false;
        }
        match fresh.at(to) {
            Some(_) => !fresh.has_keys(to),
            None => {
                let needs = fresh.is_required() || (fresh.had && self.peer.is_at(to));
                needs && !packet.starts_with(&[0; 4])
            }
        }
    }

    /// Whether sessions can be opened: the peer is known and, where nothing else will do, there are fresh keys.
    pub fn takes_sessions(&self) -> bool {
        self.peer
            .addr()
            .is_some_and(|peer| !self.withholds(peer, &[1; 4]))
    }

    /// When `advance_fresh_keys` has something to do.
    pub(super) fn fresh_keys_at(&self) -> Option<Instant> {
        let fresh = &self.packets.fresh;
        let asks = self.peer.addr().and_then(|peer| fresh.asks_at(peer));
        let wake = Some(fresh.wake).filter(|at| *at < Instant::NEVER);
        asks.into_iter().chain(wake).min()
    }

    pub(super) fn advance_fresh_keys(&mut self, now: Instant) {
        let (paths, peer) = (&self.paths, &self.peer);
        let has_sessions = |addr| paths.to(addr).is_some_and(|path| path.sessions > 0);
        let in_use = |addr| peer.is_at(addr) || has_sessions(addr);
        let addr = peer.addr();
        let had_keys = addr.is_some_and(|peer| self.packets.fresh.has_keys(peer));
        let forgotten = self.packets.fresh.advance(now, in_use);
        let is_silent = |peer| self.settings.keepalive.is_zero() && !has_sessions(peer);
        let silent = addr.is_some_and(is_silent);
        for addr in forgotten {
            // a packet under the psk from there may be from before
            if let Some(path) = self.paths.to_mut(addr) {
                path.validation.revoke();
            }
        }
        let Some(peer) = addr else {
            return;
        };
        let fresh = &self.packets.fresh;
        let ended = had_keys && !fresh.has_keys(peer) && !silent;
        if !ended && fresh.asks_at(peer).is_none_or(|at| at > now) {
            return;
        }
        if silent && self.packets.fresh.has_keys(peer) {
            return self.packets.fresh.postpone(peer, now.after(RENEW_AFTER));
        }
        self.ping(peer, now);
    }

    /// The peer's keys are renewed soon: there is another psk.
    pub(super) fn renew_keys(&mut self, now: Instant) {
        if let Some(peer) = self.peer.addr() {
            self.packets.fresh.asking = None;
            self.packets.fresh.postpone(peer, now);
        }
    }

    /// A ping was answered as kcptun-libev would.
    pub(super) fn on_plain_pong(&mut self, from: SocketAddr) {
        let without = self.peer.is_at(from) && !self.packets.fresh.has_keys(from);
        let asking = self.packets.fresh.asking.as_mut().filter(|_| without);
        if asking.is_some_and(Asking::on_ignored) {
            self.tell_no_keys(from);
        }
    }

    fn tell_no_keys(&self, peer: SocketAddr) {
        match self.packets.fresh.is_required() {
            true => log::warn!(
                "{peer} answers, but does not agree on fresh keys, which forward_secrecy \"require\" asks for: no connection is \
                 opened. kcptun-libev does not do it, nor does an older kcptun or one with forward_secrecy \"off\": update that end, or \
                 set forward_secrecy to \"auto\" here"
            ),
            false => log::info!(
                "{peer} does not agree on fresh keys: whoever gets the key later can read what is recorded"
            ),
        }
    }
}

fn tell_keys(addr: SocketAddr, first: bool) {
    match first {
        true => log::info!("{addr} has fresh keys"),
        false => log::debug!("{addr} has renewed its fresh keys"),
    }
}
