//! One KCP conversation: a reliable byte stream each way in packets that may get lost.
//!
//! What it sends is ours (`flight`, `congestion`), and KCP keeps what has arrived, in order, until it is read; unless the
//! configuration wants plain KCP: then KCP does everything, and `Plain` only carries its packets.
//! What the bytes mean is in `session`; sealing and addresses are in `tunnel`.

mod acks;
pub mod engine;
mod flight;
mod heard;
mod inbound;
mod paced;
mod window;

use crate::path::{LOSSY, Path};
use crate::ring::{Ring, Spares};
use crate::segment::{FIRST_WINDOW, HEADER, Header, Segments, ahead, cmd};
use crate::settings::{Flush, KcpSettings};
use crate::time::{MS, Now, Time};
use engine::{Engine, Tap};
use heard::Heard;
use inbound::Inbound;
use paced::{Paced, Packet, TELL_AGAIN, TELLS, WINDOW_ASK, Why};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::rc::Rc;
use window::Window;

/// The largest packet that has acks in it, bytes: what any path carries that has IPv6, nearly.
const ACKS_MOST: usize = 1200;

/// Plain KCP, which knows no path, begins with so many segments of a session, and doubles them each round trip: what it sends
/// again it sends all at once, and of many sessions that begin together only the first packets of each such flood would arrive.
const OPENED: usize = 4;

/// Where new data comes from.
pub struct Source<'a> {
    pub stream: &'a mut Ring,
    pub spares: &'a mut Spares,
    /// More is known to follow what the stream holds.
    pub more: bool,
}

/// How soon something has to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// At once: acks, small messages, copies, probes.
    Urgent,
    /// When the path's rate allows.
    Bulk,
}

/// What data has to wait for before it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// The path's rate.
    Rate,
    /// The other end keeps so much that was not read there that it takes no more.
    Reader,
    /// A window is narrower than what is on its way.
    Window,
}

pub struct Conversation {
    conv: u32,
    engine: Engine,
    tap: Rc<RefCell<Tap>>,
    /// Size of the largest KCP packet.
    mtu: usize,
    /// Some that are not acknowledged may be larger: so large, and all of them before this number.
    larger: Option<(usize, u32)>,
    driver: Driver,
    order: Order,
    heard: Heard,
}

/// What the numbers of inbound segments tell.
#[derive(Default)]
struct Order {
    /// The next number that a new segment should have.
    expected: u32,
    /// A number was left out: the other end should hear of it soon.
    gap: bool,
}

impl Order {
    /// A segment has arrived. True if it is ahead of all that were seen.
    fn note(&mut self, sn: u32, path: &mut Path) -> bool {
        let new = ahead(sn, self.expected) >= 0;
        if new {
            path.counts.news += 1;
            self.gap |= sn != self.expected;
            path.on_inbound(sn, self.expected);
            self.expected = sn.wrapping_add(1);
        }
        new
    }
}

enum Driver {
    Plain(Plain),
    Paced(Box<Paced>),
}

/// KCP does it all; this only says when to call it.
struct Plain {
    flush: Flush,
    window: usize,
    receive_window: u16,
    /// Acks or a window tell may be waiting in KCP, and leave at this time at the latest.
    pending: Option<Time>,
    interval: u64,
    /// One more than the highest number that was sent.
    sent: u32,
    /// All before this number have arrived here, as KCP has said last.
    una: u32,
    /// Segments that KCP is given at most, beside those that were acknowledged: it grows as these do.
    opened: usize,
}

impl Conversation {
    /// `mtu`: size of the largest KCP packet, bytes. `paced`: recovery and rate are ours.
    pub fn new(
        conv: u32,
        settings: &KcpSettings,
        mtu: usize,
        paced: bool,
        tap: Rc<RefCell<Tap>>,
        now: Now,
    ) -> Conversation {
        let mut engine = Engine::new(conv, settings, mtu, paced, tap.clone());
        engine.tick(now.clock);
        engine.set_windows(settings.sndwnd, FIRST_WINDOW);
        let driver = if paced {
            let receive_window = Window::new(settings.rcvwnd, now.time);
            Driver::Paced(Box::new(Paced {
                remote_window: FIRST_WINDOW,
                window_limit: settings.sndwnd,
                wnd: FIRST_WINDOW,
                inbound: Inbound::new(FIRST_WINDOW),
                receive_window,
                ask_wait: WINDOW_ASK,
                ..Paced::default()
            }))
        } else {
            Driver::Plain(Plain {
                flush: settings.flush,
                window: settings.sndwnd as usize,
                receive_window: settings.rcvwnd,
                pending: None,
                interval: u64::from(settings.interval.max(10)) * MS,
                sent: 0,
                una: 0,
                opened: OPENED,
            })
        };
        Conversation {
            conv,
            engine,
            tap,
            mtu,
            larger: None,
            driver,
            order: Order::default(),
            heard: Heard::default(),
        }
    }

    /// The window is as wide as configured from now on; until then it is the least that KCP has. A session that nobody has
    /// dialled for gets no more memory.
    pub fn widen(&mut self) {
        let (send, receive) = match &mut self.driver {
            Driver::Paced(paced) => {
                let size = paced.receive_window.size();
                paced.inbound.widen(size);
                paced.wnd = paced.inbound.free();
                (paced.window_limit, size)
            }
            Driver::Plain(plain) => (plain.window as u16, plain.receive_window),
        };
        self.engine.set_windows(send, receive);
    }

    /// Anybody may have begun it in another's name: until something of ours has arrived, it is repeated ever more rarely.
    pub fn be_wary(&mut self) {
        if let Driver::Paced(paced) = &mut self.driver {
            paced.flight.be_wary();
        }
    }

    /// New segments are cut for packets of so many bytes from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        if mtu == self.mtu {
            return;
        }
        let longest = self.longest();
        self.larger = (longest > mtu).then(|| (longest, self.next()));
        self.mtu = mtu;
        self.engine.set_mtu(mtu);
    }

    /// The size of the largest packet that may have to be sent, bytes.
    pub fn longest(&self) -> usize {
        match self.larger {
            Some((size, before)) if ahead(before, self.first()) > 0 => size.max(self.mtu),
            _ => self.mtu,
        }
    }

    /// All that was sent before this number has been acknowledged.
    pub fn first(&self) -> u32 {
        match &self.driver {
            Driver::Paced(paced) => paced.flight.first(),
            Driver::Plain(_) => self.heard.una(),
        }
    }

    /// The number of the next segment.
    fn next(&self) -> u32 {
        match &self.driver {
            Driver::Paced(paced) => paced.flight.next(),
            // KCP may hold some that it has not sent
            Driver::Plain(_) => self.heard.una().wrapping_add(self.engine.waiting() as u32),
        }
    }

    pub fn conv(&self) -> u32 {
        self.conv
    }

    /// Takes a packet of this conversation that `segment::check` has accepted, cut to the length that it told.
    pub fn input(&mut self, packet: &mut [u8], path: &mut Path, now: Now) {
        if let Driver::Plain(_) = self.driver {
            self.input_plain(packet, path, now);
        } else {
            self.input_paced(packet, path, now);
        }
    }

    fn input_plain(&mut self, packet: &mut [u8], path: &mut Path, now: Now) {
        let mut owes = false;
        let before = self.heard.una();
        for (header, _) in Segments::new(packet).flatten() {
            owes |= matches!(header.cmd, cmd::PUSH | cmd::WASK);
            // KCP may have sent what was not taken from it yet
            self.heard.note(&header, header.una);
            if header.cmd == cmd::PUSH {
                path.counts.on_received(header.len, false);
                self.order.note(header.sn, path);
            }
        }
        self.engine.tick(now.clock);
        self.engine.input(packet);
        let Driver::Plain(plain) = &mut self.driver else {
            return;
        };
        let arrived = self.heard.una().wrapping_sub(before) as usize;
        plain.opened = plain.opened.saturating_add(arrived).min(plain.window);
        if owes && plain.flush == Flush::AcksToo {
            self.engine.flush();
        } else if owes {
            plain.owe(now.time);
        }
    }

    fn input_paced(&mut self, packet: &mut [u8], path: &mut Path, now: Now) {
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        let tap = &mut self.tap.borrow_mut();
        let (mut owes, mut asked) = (false, false);
        let mut last = Header::default();
        let mut rest = packet;
        while let Some(header) = Header::read(rest) {
            let (segment, more) = rest.split_at_mut(HEADER + header.len as usize);
            match header.cmd {
                cmd::PUSH => {
                    if self.order.note(header.sn, path) {
                        paced.tell_again = None;
                    }
                    let known = paced.inbound.has(header.sn);
                    path.counts.on_received(header.len, known);
                    let engine = &mut self.engine;
                    let is_next = header.sn == paced.inbound.next();
                    if paced.inbound.take(&header, segment, engine, tap) {
                        let in_order = is_next && paced.inbound.next() != header.sn;
                        paced.acks.add((header.sn, header.ts), in_order);
                        owes = true;
                    }
                }
                cmd::ACK => {
                    paced
                        .flight
                        .on_ack(header.sn, header.ts, &mut path.congestion, tap, now.time)
                }
                cmd::WASK => asked = true,
                _ => {}
            }
            (last, rest) = (header, more);
        }
        // after the acks, which say more: they name the transmission that has arrived
        self.heard.note(&last, paced.flight.next());
        paced.hear(&last, path, tap, now);
        paced.flight.detect(&mut path.congestion);
        path.congestion.measure(now.time);
        paced.tell_window |= asked;
        if owes || asked {
            paced.note_window();
            paced.read_since_told = 0;
        }
        if owes {
            let gap = std::mem::take(&mut self.order.gap);
            let delay = acks::delay_after(gap, path.congestion.srtt());
            paced.acks.schedule(delay, now.time);
        }
    }

    /// Bytes of the next piece of the inbound stream, if there is one.
    pub fn peek(&self) -> Option<usize> {
        self.engine.peek()
    }

    /// Reads the next piece of the inbound stream.
    pub fn recv(&mut self, into: &mut [u8], path: &Path, now: Time) -> Option<usize> {
        let n = self.engine.recv(into)?;
        match &mut self.driver {
            Driver::Plain(plain) => plain.owe(now),
            Driver::Paced(paced) => {
                paced.read_since_told += 1;
                if let Some(size) = paced.receive_window.on_read(path.congestion.srtt(), now) {
                    self.engine.set_windows(paced.window_limit, size);
                    paced.inbound.widen(size);
                }
                let tap = &mut self.tap.borrow_mut();
                paced.inbound.on_read(&mut self.engine, tap);
            }
        }
        Some(n)
    }

    /// After reading: tells the other end of a window that was closing and has opened again.
    pub fn after_reading(&mut self, now: Now) {
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        let quarter = u32::from(paced.receive_window.size() / 4);
        if u32::from(paced.wnd) < quarter * 2 && paced.read_since_told >= quarter {
            paced.tell_again = Some((now.time.after(TELL_AGAIN), TELLS));
            paced.tell_window = true;
            paced.read_since_told = 0;
            paced.note_window();
        }
    }

    /// Plain KCP: moves the stream into KCP as far as its window goes, and lets it send.
    pub fn feed(&mut self, stream: &mut Ring, spares: &mut Spares, now: Now) {
        let Driver::Plain(plain) = &mut self.driver else {
            return;
        };
        let window = plain
            .window
            .min(plain.opened)
            .min(self.engine.remote_window().max(1) as usize);
        let mut fed = false;
        while !stream.is_empty() && self.engine.waiting() < window {
            let n = stream.front().len().min(self.engine.mss());
            self.engine.send(&stream.front()[..n]);
            stream.consume(n, spares);
            fed = true;
        }
        if fed {
            self.engine.tick(now.clock);
            if plain.flush != Flush::Interval {
                self.engine.flush();
                plain.pending = None;
            }
        }
    }

    /// Whether something could be written by `build` now. `waiting`: bytes of the stream that were not taken yet.
    pub fn wants(&self, waiting: usize, path: &Path, now: Time) -> Option<Priority> {
        let Driver::Paced(paced) = &self.driver else {
            return None;
        };
        if paced.urgent(waiting, now) || paced.goes_ahead(waiting, self.engine.mss(), path, now) {
            return Some(Priority::Urgent);
        }
        (paced.flight.has_lost() || paced.may_send_new(waiting)).then_some(Priority::Bulk)
    }

    /// Whether all that is urgent now fits into a packet of `room` bytes: small messages and acks do. What concerns windows
    /// gets a packet of its own; copies and acks that are repeated wait for the next if there is no room.
    pub fn urgent_fits(&self, room: usize, waiting: usize, path: &Path, now: Time) -> bool {
        let Driver::Paced(paced) = &self.driver else {
            return false;
        };
        let new = paced.goes_ahead(waiting, self.engine.mss(), path, now);
        let data = if new { HEADER + waiting } else { 0 };
        let alone = paced.probe.is_some() || paced.speaks_of_windows(waiting, now);
        !alone && data + HEADER * paced.acks.waiting() <= room
    }

    /// Does what the clock has made due.
    pub fn advance(&mut self, path: &mut Path, now: Now) {
        match &mut self.driver {
            Driver::Plain(plain) => {
                if plain.pending.is_some() || self.engine.waiting() > 0 {
                    self.engine.tick(now.clock);
                }
                if plain.pending.is_some_and(|at| at <= now.time) {
                    // KCP's own interval may be a little later than ours, and nothing would remind us of it
                    self.engine.flush();
                    plain.pending = None;
                }
            }
            Driver::Paced(paced) => {
                paced.flight.detect(&mut path.congestion);
                if paced
                    .flight
                    .timeout_at(&path.congestion, path.sessions)
                    .is_some_and(|at| at <= now.time)
                {
                    paced.probe = paced.flight.on_timeout(&mut path.congestion);
                }
                if paced.flight.is_empty() {
                    paced.flight.rest();
                    paced.acks.rest();
                }
            }
        }
    }

    /// When `advance` or `build` has something to do next; `NEVER` if nothing waits for the clock.
    pub fn deadline(&self, waiting: usize, path: &Path, now: Now) -> Time {
        match &self.driver {
            Driver::Plain(plain) => {
                let busy = (self.engine.waiting() > 0).then(|| {
                    now.time
                        .after(u64::from(self.engine.check(now.clock)).max(1) * MS)
                });
                let pending = plain.pending.unwrap_or(Time::NEVER);
                busy.unwrap_or(Time::NEVER).min(pending)
            }
            Driver::Paced(paced) => {
                let copy = paced.copies.peek().map(|Reverse((at, _))| *at);
                let tell = paced.tell_again.map(|(at, _)| at);
                let ask = paced.ask_at.filter(|_| waiting > 0 && paced.closed());
                let timeout = paced.flight.timeout_at(&path.congestion, path.sessions);
                let or_never = |at: Option<Time>| at.unwrap_or(Time::NEVER);
                or_never(paced.acks.due())
                    .min(or_never(copy))
                    .min(or_never(tell))
                    .min(or_never(ask))
                    .min(or_never(timeout))
            }
        }
    }

    /// Bytes that were taken from the stream and are not acknowledged yet.
    pub fn unacked_bytes(&self) -> usize {
        match &self.driver {
            Driver::Paced(paced) => paced.flight.unacked_bytes(),
            Driver::Plain(_) => self.engine.waiting() * self.engine.mss(),
        }
    }

    /// What new data has to wait for. `waiting`: bytes of the stream that were not taken yet.
    pub fn waits_for(&self, waiting: usize) -> Option<Blocked> {
        match &self.driver {
            _ if waiting == 0 => None,
            Driver::Plain(_) => Some(Blocked::Window),
            Driver::Paced(paced) if !paced.closed() => Some(Blocked::Rate),
            Driver::Paced(paced) if paced.remote_window < paced.remote_most / 2 => {
                Some(Blocked::Reader)
            }
            Driver::Paced(_) => Some(Blocked::Window),
        }
    }

    /// Segments that were sent, or are about to be, and are not acknowledged.
    pub fn unacked(&self) -> usize {
        match &self.driver {
            Driver::Paced(paced) => paced.flight.unacked(),
            Driver::Plain(_) => self.engine.waiting(),
        }
    }

    /// Everything that was given to this conversation has been acknowledged.
    pub fn is_settled(&self) -> bool {
        match &self.driver {
            Driver::Plain(_) => self.engine.waiting() == 0,
            Driver::Paced(paced) => paced.flight.is_empty(),
        }
    }

    /// The other end lacks what was acknowledged: it is another process than the one that did.
    pub fn is_contradicted(&self) -> bool {
        match &self.driver {
            Driver::Plain(plain) => self.engine.waiting() == 0 && self.heard.lacks(plain.sent),
            Driver::Paced(paced) => self.heard.lacks(paced.flight.first()),
        }
    }

    /// Nothing is owed to the other end either.
    pub fn is_quiet(&self) -> bool {
        match &self.driver {
            Driver::Plain(plain) => self.engine.waiting() == 0 && plain.pending.is_none(),
            Driver::Paced(paced) => paced.flight.is_empty() && paced.acks.is_idle(),
        }
    }

    /// Once the inbound stream has ended: all before this number has arrived here.
    pub fn una(&self) -> u32 {
        self.order.expected
    }

    /// Something that was sent before what has arrived has not: it is lost, or was overtaken.
    pub fn has_gap(&self) -> bool {
        let next = match &self.driver {
            Driver::Paced(paced) => paced.inbound.next(),
            Driver::Plain(plain) => plain.una,
        };
        ahead(self.order.expected, next) > 0
    }

    /// The path is another one from now on: `old` forgets what is in flight on it.
    pub fn relocate(&mut self, old: &mut Path) {
        if let Driver::Paced(paced) = &mut self.driver {
            paced.flight.relocate(&mut old.congestion);
            paced.copies.clear();
            paced.probe = None;
        }
    }

    /// Has the next packet tell the window, though nobody has asked: the other end learns from it where this one is, and
    /// what has arrived.
    pub fn nudge(&mut self) {
        if let Driver::Paced(paced) = &mut self.driver {
            // not before the other end knows of the session: it would take it for one that is over
            paced.tell_window |= paced.una > 0 || paced.flight.has_arrived();
        }
    }

    /// One more than the highest number that was sent.
    pub fn sent(&self) -> u32 {
        match &self.driver {
            Driver::Paced(paced) => paced.flight.next(),
            Driver::Plain(plain) => plain.sent,
        }
    }

    /// The session is gone: takes back what it has in flight.
    pub fn forget(&mut self, path: &mut Path) {
        if let Driver::Paced(paced) = &mut self.driver {
            paced.flight.forget(&mut path.congestion);
        }
    }

    /// Takes the packets that plain KCP has put out.
    pub fn take_packets(&mut self) -> Vec<Vec<u8>> {
        if let Driver::Paced(_) = self.driver {
            return Vec::new();
        }
        let packets = std::mem::take(&mut self.tap.borrow_mut().packets);
        if let Driver::Plain(plain) = &mut self.driver {
            for packet in &packets {
                for (header, _) in Segments::new(packet).flatten() {
                    plain.una = header.una;
                    let next = header.sn.wrapping_add(1);
                    if header.cmd == cmd::PUSH && ahead(next, plain.sent) > 0 {
                        plain.sent = next;
                    }
                }
            }
        }
        packets
    }

    /// Writes the next packet into `out`; its length, or 0 if there is nothing to send at this priority.
    pub fn build(
        &mut self,
        priority: Priority,
        source: Source,
        path: &mut Path,
        now: Now,
        out: &mut [u8],
    ) -> usize {
        if let Driver::Plain(_) = self.driver {
            return 0;
        }
        let mut packet = Packet {
            out,
            len: 0,
            most: self.mtu,
        };
        if priority == Priority::Urgent {
            self.build_urgent(source, path, now, &mut packet);
        } else {
            self.build_bulk(source, path, now, &mut packet);
        }
        packet.len
    }

    fn build_urgent(&mut self, source: Source, path: &mut Path, now: Now, packet: &mut Packet) {
        let Source { stream, spares, .. } = source;
        let (mss, mtu, longest) = (self.engine.mss(), self.mtu, self.longest());
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        let fresh = paced.goes_ahead(stream.len(), mss, path, now.time);
        let new = if fresh {
            self.cut(stream, spares)
        } else {
            None
        };
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        if new.is_some() || paced.acks.must_gather(now.time) {
            let loss = match paced.acks.are_few() {
                true => (path.loss(), path.loss_after_loss()),
                false => path.ack_loss(),
            };
            paced.acks.gather(
                loss,
                paced.una,
                acks::delay(path.congestion.srtt()),
                now.time,
            );
        }
        if let Some(sn) = new {
            paced.write(sn, self.conv, Why::Needed, path, now, packet);
            paced.protect(sn, path, now.time);
        }
        // before the acks, which would leave no room for a whole segment
        packet.allow(longest);
        if let Some(sn) = paced.probe.take() {
            let known = paced.flight.data(sn).is_some();
            if known && !paced.write(sn, self.conv, Why::Needed, path, now, packet) {
                paced.probe = Some(sn);
            }
        }
        // an ack that does not arrive is missed by nobody here: what a path may not carry any more has none
        packet.most = packet.len.max(mtu.min(ACKS_MOST));
        paced.write_control(self.conv, stream.len(), path, now, packet);
        packet.most = packet.len.max(mtu);
        packet.allow(longest);
        paced.write_copies(self.conv, path, now, packet);
        if new.is_some() && path.loss() >= LOSSY {
            paced.write_along(self.conv, path, now, packet);
        }
    }

    fn build_bulk(&mut self, source: Source, path: &mut Path, now: Now, packet: &mut Packet) {
        let Source {
            stream,
            spares,
            more,
        } = source;
        let longest = self.longest();
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        if let Some(sn) = paced.flight.take_lost() {
            packet.allow(longest);
            paced.write(sn, self.conv, Why::Needed, path, now, packet);
            paced.protect_again(sn, stream.is_empty() && !more, path, now.time);
            return;
        }
        if !paced.may_send_new(stream.len()) {
            return;
        }
        let Some(sn) = self.cut(stream, spares) else {
            return;
        };
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        paced.write(sn, self.conv, Why::Needed, path, now, packet);
        if stream.is_empty() && !more {
            paced.protect(sn, path, now.time);
        }
    }

    /// Makes a segment of the front of the stream. None if there is nothing.
    fn cut(&mut self, stream: &mut Ring, spares: &mut Spares) -> Option<u32> {
        let Driver::Paced(paced) = &mut self.driver else {
            return None;
        };
        let mut left = stream.len().min(self.engine.mss());
        if left == 0 {
            return None;
        }
        let mut data = self.tap.borrow_mut().empty(left);
        while left > 0 {
            let n = stream.front().len().min(left);
            data.extend_from_slice(&stream.front()[..n]);
            stream.consume(n, spares);
            left -= n;
        }
        paced.note_window();
        Some(paced.flight.add(data))
    }
}

impl Packet<'_> {
    /// What goes into it first may be so large: a segment that cannot be made smaller.
    fn allow(&mut self, longest: usize) {
        if self.len == 0 {
            self.most = self.most.max(longest);
        }
    }
}

impl Plain {
    /// KCP has something to say that it does not say by itself.
    fn owe(&mut self, now: Time) {
        self.pending.get_or_insert(now.after(self.interval));
    }
}
