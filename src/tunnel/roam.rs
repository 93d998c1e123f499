//! Where other ends are: who has proven to receive at an address, and how sessions follow an end that has moved.
//!
//! A path (`Lane`) is one other end at one address. An address is proven when a ping that names something that only we
//! could know was answered from there. Until then nothing opens a session from it and nothing moves to it: its packets
//! wait in `Waiting`, and the ping is all it gets. Pings and pongs themselves are in `inbound`.

use super::hello::Unanswered;
use super::scheduler::Timer;
use super::sessions::Entry;
use super::sources::source;
use super::waiting::Packet;
use super::{Lane, Tunnel};
use crate::message::Control;
use crate::pmtu::Search;
use crate::segment::{FIRST_WINDOW, HEADER, Header, Segments, ahead, cmd};
use crate::session::State;
use crate::throttle::PerSecond;
use crate::time::{MS, SEC, Time};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// How far a clock may be off, milliseconds: what a packet may take on its way, and what the other end's clock is corrected by.
const CLOCK_SLACK: i32 = 10_000;
/// How long a session's beginning may have been held back, milliseconds: who has heard nothing for longer gives up.
const HELD_BACK: i32 = 600_000;
/// How far behind what was heard last a late packet's numbers may be.
const LATE: i32 = 4096;
/// An address that may be somebody's new one is pinged again after so long, then after twice as long, and so on.
const ASK_AGAIN: u64 = 100 * MS;
/// One that has answered too early is pinged again no sooner than this after the last time.
const ONCE_MORE: u64 = 20 * MS;
/// Pings for one packet from an address that is not proven, and the most that are saved up.
const PINGS_EACH: u32 = 3;
const PINGS_AHEAD: u32 = 6;
/// An address that has not answered for so long is asked no more.
const GIVE_UP: u64 = 30 * SEC;
/// The most addresses that one other end may seem to have moved to.
const PROBES_MOST: usize = 8;
/// A cookie is good for at least so long, and at most for twice.
const COOKIE_SPAN: u64 = 60 * SEC;
/// Pings to unproven addresses, a second.
const PROOFS_A_SECOND: u32 = 500;
/// How long late packets from an address that was left are still taken.
const LATE_SPAN: u64 = 10 * SEC;
/// The most addresses of which it is known that an end has left them.
const LEFT_MOST: usize = 8;

/// A datagram may be overtaken by so many of its sender: twice what KCP sends before it has heard of a window. One that is
/// further behind a proof of its sender, but for what no process sends in its life, is from before it.
const BEFORE: Range<u128> = 2 * FIRST_WINDOW as u128..1 << 40;

/// Makes the timestamps of pings that prove an address: nobody who does not receive there can name them.
#[derive(Default)]
pub(super) struct Cookies {
    secret: RandomState,
    asked: PerSecond,
}

impl Cookies {
    fn at(&self, addr: SocketAddr, span: u64) -> u32 {
        self.secret.hash_one((addr, span)) as u32
    }

    fn now(&self, addr: SocketAddr, now: Time) -> u32 {
        self.at(addr, now.micros() / COOKIE_SPAN)
    }

    /// Whether a pong from `addr` proves that our ping has arrived there.
    pub(super) fn proves(&self, addr: SocketAddr, cookie: u32, now: Time) -> bool {
        let span = now.micros() / COOKIE_SPAN;
        cookie == self.at(addr, span) || (span > 0 && cookie == self.at(addr, span - 1))
    }
}

/// An address that an end may have moved to.
#[derive(Clone, Copy)]
struct Probe {
    addr: SocketAddr,
    /// Since when nothing may have been heard from the old address, or the end has not moved.
    since: Time,
    began: Time,
    next: Time,
    asked: u32,
    asked_at: Time,
    /// Pings that may still go there: an address that was named to us gets them until it is given up, one that only packets
    /// have come from no more than so many for each.
    credit: u32,
}

/// What a path knows of the other end's whereabouts.
#[derive(Default)]
pub(super) struct Whereabouts {
    /// It has answered a ping from this address.
    pub(super) proven: bool,
    /// The other end has opened sessions on it.
    pub(super) used: bool,
    /// Somebody else is at its address now; where it is itself is not known.
    pub(super) homeless: bool,
    /// The newest timestamp that it has sent, and when that came.
    clock: Option<(u32, Time)>,
    /// How far its clock was ahead of ours at most: what it has sent may have been held back on the way here.
    lead: u32,
    probes: Vec<Probe>,
    /// The number of the datagram that last proved that it receives there.
    proof: Option<u128>,
    /// At most how long the proof took, microseconds.
    pub(super) round_trip: Option<u64>,
    /// The addresses that it has left lately, and when; the last of them last.
    before: Vec<(SocketAddr, Time)>,
}

impl Whereabouts {
    /// Whether a timestamp could be from the same clock: between what was heard last and now, a suspended clock being late.
    fn in_step(&self, ts: u32, now: Time) -> bool {
        self.is_within(ts, now, CLOCK_SLACK)
    }

    /// The same where all that was heard may have been held back: how far the clock is ahead is not known then.
    fn may_follow(&self, ts: u32, now: Time) -> bool {
        self.is_within(ts, now, HELD_BACK)
    }

    fn is_within(&self, ts: u32, now: Time, most: i32) -> bool {
        let Some((last, _)) = self.clock else {
            return true;
        };
        let lead = ahead(lead(ts, now), self.lead);
        ahead(ts, last) >= -CLOCK_SLACK && lead <= most
    }

    fn is_late(&self, ts: u32) -> bool {
        self.clock.is_some_and(|(last, _)| ahead(ts, last) < 0)
    }

    pub(super) fn note_clock(&mut self, ts: u32, now: Time) {
        // a copy that was held back is late: it must not turn the clock back
        if self.is_late(ts) {
            return;
        }
        let lead = lead(ts, now);
        if self.clock.is_none() || ahead(lead, self.lead) > 0 {
            self.lead = lead;
        }
        self.clock = Some((ts, now));
    }

    /// The first session of a path begins: its other end may be another process than the one before.
    pub(super) fn forget_clock(&mut self) {
        self.clock = None;
    }

    fn left(&self, addr: SocketAddr, now: Time) -> bool {
        let late = |at: Time| now.since(at) < LATE_SPAN;
        let mut all = self.before.iter();
        all.any(|(before, at)| *before == addr && late(*at))
    }

    /// Whether it came to its address a moment ago.
    fn moved(&self, now: Time) -> bool {
        let last = self.before.last();
        last.is_some_and(|(_, at)| now.since(*at) < LATE_SPAN)
    }

    fn leave(&mut self, addr: SocketAddr, now: Time) {
        let stale = |(_, at): &(SocketAddr, Time)| now.since(*at) >= LATE_SPAN;
        self.before.retain(|left| !stale(left));
        if self.before.len() >= LEFT_MOST {
            self.before.remove(0);
        }
        self.before.push((addr, now));
    }
}

/// How far a clock that shows `ts` is ahead of ours, milliseconds; both wrap.
fn lead(ts: u32, now: Time) -> u32 {
    ts.wrapping_sub(now.millis() as u32)
}

/// What a session's packets have told of the other end's state so far.
#[derive(Default)]
pub(super) struct Trace {
    /// The first timestamp, and the first that came after the other end had something of ours.
    first_ts: Option<u32>,
    heard_ts: Option<u32>,
    una: u32,
    /// One more than the highest number.
    next: u32,
}

/// What the headers of a packet tell, if it is one that `segment::check` has accepted.
pub(super) struct Glance {
    una: u32,
    /// The sender's clock; acks echo ours instead.
    pub(super) ts: Option<u32>,
    next: Option<u32>,
    /// The first segment of a session is in it, from an end that has heard nothing yet.
    has_first: bool,
}

impl Glance {
    pub(super) fn of(packet: &[u8]) -> Glance {
        let mut glance = Glance {
            una: 0,
            ts: None,
            next: None,
            has_first: false,
        };
        let mut rest = packet;
        while let Some(head) = rest.first_chunk::<HEADER>() {
            let len = u32::from_be_bytes([head[20], head[21], head[22], head[23]]) as usize;
            let more = rest[HEADER..].get(len..).unwrap_or_default();
            let last = more.len() < HEADER;
            if (head[4] != cmd::ACK || last)
                && let Some(header) = Header::read(rest)
            {
                glance.take(&header);
            }
            rest = more;
        }
        glance
    }

    fn take(&mut self, header: &Header) {
        self.una = header.una;
        if header.cmd != cmd::ACK {
            self.ts = Some(header.ts);
        }
        if header.cmd == cmd::PUSH {
            self.next = Some(header.sn.wrapping_add(1));
            self.has_first |= header.sn == 0 && header.una == 0;
        }
    }
}

impl Trace {
    pub(super) fn note(&mut self, glance: &Glance) {
        if ahead(glance.una, self.una) > 0 {
            self.una = glance.una;
        }
        if let Some(next) = glance.next
            && ahead(next, self.next) > 0
        {
            self.next = next;
        }
        if let Some(ts) = glance.ts {
            self.first_ts.get_or_insert(ts);
            if glance.una > 0 {
                self.heard_ts.get_or_insert(ts);
            }
        }
    }

    /// Whether the first packet of a session can be this session's own, or an old copy of it: once its sender had
    /// something of ours, and so knew that it had arrived, it was not sent again.
    fn may_have_begun_at(&self, ts: u32, at: &Whereabouts, now: Time) -> bool {
        let Some(first) = self.first_ts else {
            return true;
        };
        let not_before = ahead(ts, first) >= -CLOCK_SLACK;
        let not_after = match self.heard_ts {
            Some(heard) => ahead(ts, heard) <= 0,
            None => at.may_follow(ts, now) || at.is_late(ts),
        };
        not_before && not_after
    }

    /// Whether the numbers of a packet are such as the other end can send next, or has sent a moment ago. `sent`: one more
    /// than the highest number that we have sent; `window`: the widest that we receive.
    fn fits(&self, packet: &[u8], sent: u32, window: i32) -> bool {
        Segments::new(packet).flatten().all(|(header, _)| {
            let una = ahead(header.una, self.una) >= -LATE && ahead(header.una, sent) <= 0;
            una && match header.cmd {
                cmd::PUSH => {
                    let place = ahead(header.sn, self.next);
                    -window <= place && place <= window
                }
                cmd::ACK => ahead(header.sn, sent) < 0 && ahead(header.sn, self.una) >= -window,
                _ => true,
            }
        })
    }
}

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
    pub(super) fn owner(&self, from: SocketAddr, conv: u32, packet: &[u8], now: Time) -> Owner {
        let glance = Glance::of(packet);
        let (mut owner, mut copy) = (Owner::Nobody, false);
        let mut known = false;
        for (id, entry) in self.sessions.numbered(conv) {
            if entry.session.state.is_over() {
                continue;
            }
            known = true;
            let at = &self.lanes[entry.session.path as usize].at;
            let early = glance.has_first && entry.trace.heard_ts.is_none();
            let in_step = |ts| at.in_step(ts, now) || (early && at.may_follow(ts, now));
            if glance.has_first && entry.trace.next > 0 {
                let ts = glance.ts.unwrap_or_default();
                let own = entry.trace.may_have_begun_at(ts, at, now);
                copy |= own && !in_step(ts);
                if !own {
                    continue;
                }
            }
            let window = i32::from(self.settings.kcp.rcvwnd.max(FIRST_WINDOW)) * 2;
            let sent = entry.session.conversation.sent();
            if !glance.ts.is_none_or(in_step) || !entry.trace.fits(packet, sent, window) {
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
            Owner::Nobody if copy || (known && !glance.has_first) => Owner::Doubtful,
            owner => owner,
        }
    }

    /// What has come from an address is not taken: it may be a copy that somebody plays, which is worth a warning, or a late
    /// one of an end that has moved, which is not. `other`: where it would be expected from.
    pub(super) fn suspect(
        &mut self,
        now: Time,
        from: SocketAddr,
        other: Option<SocketAddr>,
        what: &str,
    ) {
        let moved = self.lane_to(from).is_some_and(|lane| lane.at.moved(now));
        // the same machine or NAT, at another port
        let near = other.is_some_and(|other| source(other) == source(from));
        let mut lanes = self.lanes.iter();
        let late = near || moved || lanes.any(|(_, lane)| lane.at.left(from, now));
        match late {
            true => log::debug!("a late datagram from {from} was dropped: {what}"),
            false => self.complaints.say(now, from, what),
        }
    }

    /// A packet of a session has come from an address that is not its other end's.
    pub(super) fn on_moved(
        &mut self,
        id: u32,
        from: SocketAddr,
        local: Option<IpAddr>,
        packet: &mut [u8],
        now: Time,
    ) {
        let lane = self.sessions[id].session.path;
        let at = &self.lanes[lane as usize].at;
        if at.left(from, now) {
            // it was on its way when its sender moved
            return self.on_packet(id, local, packet, now);
        }
        if Glance::of(packet).ts.is_some_and(|ts| at.is_late(ts)) {
            return;
        }
        let new = Packet::new(from, local, packet, self.number, now);
        self.waiting.put(new, now);
        self.probe(lane, from, PINGS_EACH, now);
        self.ask_probes(lane, Some((from, local)), now);
    }

    /// Notes an address that the other end may be at.
    pub(super) fn probe(&mut self, lane: u32, addr: SocketAddr, credit: u32, now: Time) {
        let probes = &mut self.lanes[lane as usize].at.probes;
        if let Some(probe) = probes.iter_mut().find(|p| p.addr == addr) {
            probe.credit = probe
                .credit
                .saturating_add(credit)
                .min(credit.max(PINGS_AHEAD));
            return;
        }
        if probes.len() >= PROBES_MOST {
            self.probing.remove(&probes.remove(0).addr);
        }
        log::debug!(
            "{addr} may be a new address of {}",
            self.lanes[lane as usize].path.addr
        );
        if let Some(other) = self.probing.insert(addr, lane)
            && other != lane
        {
            self.lanes[other as usize]
                .at
                .probes
                .retain(|p| p.addr != addr);
        }
        self.lanes[lane as usize].at.probes.push(Probe {
            addr,
            since: now,
            began: now,
            next: now,
            asked: 0,
            asked_at: now,
            credit,
        });
    }

    /// Pings the addresses that a path's other end may be at, as far as it is time. `heard`: only this one, from which a packet
    /// has just come; otherwise all.
    pub(super) fn ask_probes(
        &mut self,
        lane: u32,
        heard: Option<(SocketAddr, Option<IpAddr>)>,
        now: Time,
    ) {
        let at = &mut self.lanes[lane as usize].at;
        let mut due = Vec::new();
        for probe in &mut at.probes {
            let wanted = heard.is_none_or(|(addr, _)| probe.addr == addr);
            if wanted && probe.next <= now && probe.credit > 0 {
                probe.credit -= 1;
                probe.next = now.after(ASK_AGAIN << probe.asked.min(5));
                (probe.asked, probe.asked_at) = (probe.asked + 1, now);
                due.push(probe.addr);
            }
        }
        let stale = |p: &&Probe| now.since(p.began) >= GIVE_UP;
        let gone: Vec<SocketAddr> = at.probes.iter().filter(stale).map(|p| p.addr).collect();
        at.probes.retain(|p| !stale(&p));
        for addr in gone {
            self.probing.remove(&addr);
        }
        let old = self.lanes[lane as usize].path.addr;
        let homeless = self.lanes[lane as usize].at.homeless;
        for addr in &due {
            self.prove(*addr, heard.and_then(|(_, local)| local), now);
        }
        if !due.is_empty() && !homeless {
            // whoever is still there may say so
            self.prove(old, None, now);
        }
    }

    /// When a path's other end is to be looked for again, and which path that is.
    pub(super) fn next_probe(&self) -> Option<(Time, u32)> {
        let lanes = self.probing.values();
        let due = lanes.filter_map(|lane| {
            let probes = self.lanes[*lane as usize].at.probes.iter();
            let next = |p: &Probe| match p.credit {
                0 => p.began.after(GIVE_UP),
                _ => p.next,
            };
            Some((probes.map(next).min()?, *lane))
        });
        due.min()
    }

    /// Notes what a session sends to an address that others could speak for, and has its owner show anew that it is there.
    pub(super) fn charge(&mut self, lane: u32, bytes: usize, now: Time) {
        let l = &mut self.lanes[lane as usize];
        if self.packets.sealed() || self.peer == Some(l.path.addr) {
            return;
        }
        l.credit.charge(bytes);
        self.ask_for_credit(lane, now);
    }

    /// The clock has something for a path: the rate allows more, or its owner is to be asked again.
    pub(super) fn on_lane_timer(&mut self, lane: u32, now: Time) {
        if self.lanes.contains(lane as usize) {
            self.ask_for_credit(lane, now);
            self.search_size(lane, now);
            self.scheduler.activate(lane);
        }
    }

    /// Asks for a new proof, if it is time.
    pub(super) fn ask_for_credit(&mut self, lane: u32, now: Time) {
        let l = &mut self.lanes[lane as usize];
        if l.credit.asks(l.path.congestion.srtt(), now) {
            let addr = l.path.addr;
            self.send_cookie(addr, None, now);
        }
        let l = &self.lanes[lane as usize];
        if l.credit.is_spent() && l.path.sessions > 0 {
            // nothing else may remind of it
            let at = l.credit.asks_at(l.path.congestion.srtt());
            self.scheduler.set_by(Timer::Path(lane), at);
        }
    }

    /// The sessions of a path have waited for a proof.
    fn go_on(&mut self, lane: u32, now: Time) {
        for id in self.sessions.ids_of(|entry| entry.is_on(lane)) {
            self.touch(id, now);
        }
        self.scheduler.activate(lane);
    }

    /// Sends a ping that only who receives at this address can answer.
    pub(super) fn prove(&mut self, addr: SocketAddr, local: Option<IpAddr>, now: Time) {
        if self.cookies.asked.admit(PROOFS_A_SECOND, now) {
            self.send_cookie(addr, local, now);
        }
    }

    fn send_cookie(&mut self, addr: SocketAddr, local: Option<IpAddr>, now: Time) {
        let cookie = self.cookies.now(addr, now);
        self.answer(addr, local, &Control::Ping(cookie).to_wire());
    }

    pub(super) fn is_proven(&self, addr: SocketAddr) -> bool {
        self.lane_to(addr).is_some_and(|lane| lane.at.proven)
    }

    /// Whether it is, and sessions there do not wait for another proof.
    pub(super) fn is_proven_enough(&self, addr: SocketAddr) -> bool {
        self.lane_to(addr)
            .is_some_and(|lane| lane.at.proven && !lane.credit.is_spent())
    }

    /// Whether the datagram at hand was sent before the one that has proven its address: somebody has recorded it, even if it
    /// comes from there. (Where senders do not count, or have begun to count anew, that is not known.)
    pub(super) fn is_from_before(&self, addr: SocketAddr) -> bool {
        let proof = self.lane_to(addr).and_then(|lane| lane.at.proof);
        let (Some(proof), Some(number)) = (proof, self.number) else {
            return false;
        };
        BEFORE.contains(&(proof.wrapping_sub(number) % (1 << 96)))
    }

    /// A ping of `prove` was answered.
    pub(super) fn on_proof(&mut self, from: SocketAddr, local: Option<IpAddr>, now: Time) {
        if let Some(lane) = self.probing.get(&from).copied()
            && !self.arrived(lane, from, local, now)
        {
            return;
        }
        if self.settings.accepts || self.addresses.contains_key(&from) {
            let lane = self.lane_of(from, now);
            let at = &mut self.lanes[lane as usize].at;
            (at.proven, at.proof) = (true, self.number);
            self.lanes[lane as usize].hear(local, now);
            if self.lanes[lane as usize].credit.renew(now) {
                self.go_on(lane, now);
            }
            self.rest_lane(lane);
        }
        let packets = self.waiting.take(from);
        if let (Some(first), Some(lane)) = (packets.first(), self.addresses.get(&from)) {
            self.lanes[*lane as usize].at.round_trip = Some(now.since(first.came_at));
        }
        for mut packet in packets {
            self.number = packet.number;
            self.on_session(from, packet.local, &mut packet.bytes, now);
        }
    }

    /// The address that a path's other end may have moved to has answered. False if it has to answer once more: somebody
    /// has spoken from the old one meanwhile, or could not have yet.
    fn arrived(&mut self, lane: u32, from: SocketAddr, local: Option<IpAddr>, now: Time) -> bool {
        let l = &mut self.lanes[lane as usize];
        let patience = l.path.congestion.srtt().min(SEC) * 3 / 2;
        let Some(probe) = l.at.probes.iter_mut().find(|p| p.addr == from) else {
            self.probing.remove(&from);
            return true;
        };
        let spoken = l.heard_at >= probe.since;
        if !l.at.homeless && (spoken || now.since(probe.began) < patience) {
            let patient = probe.began.after(patience);
            probe.since = now;
            probe.next = patient.max(probe.asked_at.after(ONCE_MORE));
            (probe.asked, probe.credit) = (0, probe.credit.max(PINGS_EACH));
            self.ask_probes(lane, Some((from, local)), now);
            return false;
        }
        self.relocate(lane, from, local, now);
        true
    }

    /// Moves the sessions of a path to the address where their other end is now.
    fn relocate(&mut self, lane: u32, to: SocketAddr, local: Option<IpAddr>, now: Time) {
        for probe in std::mem::take(&mut self.lanes[lane as usize].at.probes) {
            self.probing.remove(&probe.addr);
        }
        let from = self.lanes[lane as usize].path.addr;
        let ids = self.sessions.ids_of(|entry| entry.is_on(lane));
        log::info!("{from} is at {to} now, with {} sessions", ids.len());
        let homeless = self.lanes[lane as usize].at.homeless;
        if !homeless {
            self.addresses.remove(&from);
        }
        for id in &ids {
            self.sessions.detach(*id);
        }
        if let Some(other) = self.addresses.get(&to).copied() {
            self.give_way(other, lane, now);
        }
        if self.peer == Some(from) && !homeless {
            self.peer = Some(to);
        }
        self.refresh_lane(lane, to, local, now);
        self.lanes[lane as usize].hear(local, now);
        self.addresses.insert(to, lane);
        let at = &mut self.lanes[lane as usize].at;
        if !homeless {
            at.leave(from, now);
        }
        (at.homeless, at.proven) = (false, true);
        for id in ids {
            self.sessions.attach(id, to);
            self.stir(id, now);
        }
    }

    /// Forgets what is known of the way; what was sent on it is sent again.
    fn refresh_lane(&mut self, lane: u32, to: SocketAddr, local: Option<IpAddr>, now: Time) {
        let limits = self.settings.rate.limits();
        let l = &mut self.lanes[lane as usize];
        let mut old = l.path.renew(to, self.packets.overhead(), limits, now);
        l.search = Search::new(usize::from(self.settings.kcp.mtu));
        l.size_told = 0;
        l.local = local;
        l.unanswered = Unanswered::default();
        let mtu = self.packet_size(&self.lanes[lane as usize].search, &to);
        self.lanes[lane as usize].mtu = mtu;
        self.scheduler.clear(Timer::Path(lane));
        for id in self.sessions.ids_of(|entry| entry.is_on(lane)) {
            let session = &mut self.sessions[id].session;
            session.conversation.relocate(&mut old);
        }
    }

    /// Has a session send what it can on its new path.
    fn stir(&mut self, id: u32, now: Time) {
        let session = &mut self.sessions[id].session;
        if !session.waits_for_reader() {
            session.conversation.nudge();
        }
        let lane = session.path;
        self.touch(id, now);
        self.scheduler.activate(lane);
    }

    /// Somebody comes to the address of a path. If that is the same other end, which has opened sessions there before its
    /// older ones were heard from there, these join; otherwise its sessions are left without an address until they are
    /// heard from another one.
    fn give_way(&mut self, other: u32, to: u32, now: Time) {
        let addr = self.lanes[other as usize].path.addr;
        let clock = self.lanes[other as usize].at.clock;
        let same = match clock {
            Some((ts, at)) => {
                let since = (now.since(at) / MS) as u32;
                let mine = &self.lanes[to as usize].at;
                mine.in_step(ts.wrapping_add(since), now)
            }
            None => true,
        };
        let ids = self.sessions.ids_of(|entry| entry.is_on(other));
        self.addresses.remove(&addr);
        for id in &ids {
            self.sessions.detach(*id);
            if same {
                let l = &mut self.lanes[other as usize];
                let session = &mut self.sessions[*id].session;
                session.conversation.relocate(&mut l.path);
                l.path.sessions -= 1;
                session.path = to;
                self.sessions.attach(*id, addr);
            }
        }
        let l = &mut self.lanes[other as usize];
        l.at.homeless = true;
        l.at.proven = false;
        if same {
            let left = std::mem::take(&mut l.at.before);
            let target = &mut self.lanes[to as usize];
            for (addr, at) in left {
                target.at.leave(addr, at);
            }
            self.scheduler.move_bulk(other, to);
            target.path.sessions += ids.len();
            for id in ids {
                self.stir(id, now);
            }
        }
        self.rest_lane(other);
    }

    /// Has the peer show whether it is there, and us to it: what came from it has stopped.
    pub fn ask_peer(&mut self, now: Time) {
        if let Some(peer) = self.peer {
            self.ping(peer, now);
            self.show_up(peer, now);
        }
    }

    /// This machine's own address has changed, or its socket was made anew: nothing that is known of any path holds, what
    /// was sent is sent again at once, and the other ends are shown where this one is.
    pub fn network_changed(&mut self, now: Time) {
        let lanes: Vec<u32> = self.lanes.iter().map(|(lane, _)| lane as u32).collect();
        for lane in lanes {
            let addr = self.lanes[lane as usize].path.addr;
            self.refresh_lane(lane, addr, None, now);
        }
        if let Some(peer) = self.peer {
            self.hello.begin_anew(now);
            self.ping(peer, now);
        }
        for id in self.sessions.ids_of(|entry| !entry.session.state.is_over()) {
            self.stir(id, now);
        }
    }

    /// Shows the peer, whose NAT may have given us a new address unknown to us, where its sessions are: by a packet of one.
    pub(super) fn show_up(&mut self, peer: SocketAddr, now: Time) {
        let alive = |e: &Entry| matches!(e.session.state, State::Connected | State::Dialling);
        let there = |(_, e): &(u32, &Entry)| e.addr() == peer && alive(e);
        let first = self.sessions.iter().find(there).map(|(id, _)| id);
        if let Some(id) = first {
            self.stir(id, now);
        }
    }
}

impl Lane {
    /// Whether sessions may send to its address.
    pub(super) fn reaches(&self) -> bool {
        !self.at.homeless && !self.credit.is_spent()
    }

    /// The round trip that the beginning of a session is waited for by, microseconds, as far as it is known.
    pub(super) fn begins_rtt(&self) -> Option<u64> {
        let congestion = &self.path.congestion;
        let measured = congestion.has_delivered().then(|| congestion.srtt());
        measured.or(self.at.round_trip)
    }
}
