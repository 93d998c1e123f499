//! One KCP conversation: a reliable byte stream each way in packets that may get lost.
//!
//! KCP cuts the stream into segments, acknowledges, and puts in order. Recovery and pacing are ours (`flight`, `rate`),
//! unless the configuration wants plain KCP: then KCP does everything, and `Plain` only carries its packets.
//! What the bytes mean is in `session`; sealing and addresses are in `tunnel`.

mod acks;
pub mod engine;
mod flight;
mod paced;
mod window;

use crate::path::Path;
use crate::ring::{Ring, Spares};
use crate::segment::{self, Header, Malformed, Segments, ahead, cmd};
use crate::settings::{Flush, KcpSettings};
use crate::time::{MS, Time};
pub use acks::DELAY_MOST;
use engine::{Engine, Tap};
use paced::{FIRST_REMOTE_WINDOW, LOSSY, PROMPT, Paced, Packet, TELL_AGAIN, TELLS, WINDOW_ASK};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::rc::Rc;
use window::Window;

/// The present in both clocks.
#[derive(Clone, Copy)]
pub struct Now {
    pub time: Time,
    /// KCP's clock, ms; it wraps.
    pub clock: u32,
}

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

pub struct Conversation {
    conv: u32,
    engine: Engine,
    tap: Rc<RefCell<Tap>>,
    /// Size of the largest KCP packet.
    mtu: usize,
    driver: Driver,
    /// The next number that a new inbound segment should have.
    expected: u32,
    /// A number was left out: the other end should hear of it soon.
    gap: bool,
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
        engine.set_windows(settings.sndwnd, FIRST_REMOTE_WINDOW);
        let driver = if paced {
            let receive_window = Window::new(settings.rcvwnd, now.time);
            Driver::Paced(Box::new(Paced {
                remote_window: FIRST_REMOTE_WINDOW,
                window_limit: settings.sndwnd,
                wnd: FIRST_REMOTE_WINDOW,
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
            })
        };
        Conversation {
            conv,
            engine,
            tap,
            mtu,
            driver,
            expected: 0,
            gap: false,
        }
    }

    /// The other end is known to receive at the address that it sends from: it need not prove it again.
    pub fn trust(&mut self) {
        if let Driver::Paced(paced) = &mut self.driver {
            paced.proven = true;
        }
    }

    /// The window is as wide as configured from now on; until then it is the least that KCP has. A session that nobody has
    /// dialled for gets no more memory.
    pub fn widen(&mut self) {
        let (send, receive) = match &mut self.driver {
            Driver::Paced(paced) => {
                paced.wnd = paced.receive_window.size();
                (paced.window_limit, paced.wnd)
            }
            Driver::Plain(plain) => (plain.window as u16, plain.receive_window),
        };
        self.engine.set_windows(send, receive);
    }

    pub fn conv(&self) -> u32 {
        self.conv
    }

    /// Takes a packet of this conversation (padding may follow its segments).
    pub fn input(&mut self, packet: &mut [u8], path: &mut Path, now: Now) -> Result<(), Malformed> {
        let whole = segment::check(packet)?;
        let packet = &mut packet[..whole];
        let mut for_kcp = false;
        let mut last = Header::default();
        for (header, _) in Segments::new(packet).flatten() {
            for_kcp |= matches!(header.cmd, cmd::PUSH | cmd::WASK);
            if header.cmd == cmd::PUSH && ahead(header.sn, self.expected) >= 0 {
                self.gap |= header.sn != self.expected;
                path.on_inbound(header.sn, self.expected);
                self.expected = header.sn.wrapping_add(1);
                if let Driver::Paced(paced) = &mut self.driver {
                    paced.tell_again = None;
                }
            }
            if let (cmd::ACK, Driver::Paced(paced)) = (header.cmd, &mut self.driver) {
                let tap = &mut self.tap.borrow_mut();
                paced
                    .flight
                    .on_ack(header.sn, header.ts, &mut path.rate, tap, now.time);
            }
            last = header;
        }
        // after the acks, which say more: they name the transmission that has arrived
        if let Driver::Paced(paced) = &mut self.driver {
            paced.hear(&last, path, &mut self.tap.borrow_mut(), now);
        }
        match &mut self.driver {
            Driver::Paced(paced) => {
                paced.flight.detect(&mut path.rate);
                path.rate.measure(now.time);
                if for_kcp {
                    self.engine.tick(now.clock);
                    self.engine.input(packet);
                    self.acknowledge(path, now);
                }
            }
            Driver::Plain(plain) => {
                self.engine.tick(now.clock);
                self.engine.input(packet);
                if for_kcp && plain.flush == Flush::AcksToo {
                    self.engine.flush();
                } else if for_kcp {
                    plain.owe(now.time);
                }
            }
        }
        Ok(())
    }

    /// Fetches the acks that KCP owes, and its window.
    fn acknowledge(&mut self, path: &Path, now: Now) {
        self.engine.flush();
        let next = match &self.driver {
            Driver::Paced(paced) => paced.flight.next(),
            Driver::Plain(_) => return,
        };
        self.engine.disown(self.conv, next);
        self.collect(path, now);
    }

    /// Moves what KCP put out, except new segments, to where it waits for its datagram.
    fn collect(&mut self, path: &Path, now: Now) {
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        let usual = acks::delay(path.rate.srtt());
        let delay = if std::mem::take(&mut self.gap) {
            PROMPT.min(usual)
        } else {
            usual
        };
        let mut tap = self.tap.borrow_mut();
        if !tap.acks.is_empty() || tap.tell_window || !tap.segments.is_empty() {
            (paced.una, paced.wnd) = (tap.una, tap.wnd);
        }
        if !tap.acks.is_empty() || tap.tell_window {
            paced.read_since_told = 0;
        }
        paced.tell_window |= std::mem::take(&mut tap.tell_window);
        paced.acks.add(&mut tap.acks, delay, now.time);
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
                if let Some(size) = paced.receive_window.on_read(path.rate.srtt(), now) {
                    self.engine.set_windows(paced.window_limit, size);
                }
            }
        }
        Some(n)
    }

    /// After reading: tells the other end of a window that was closing and has opened again.
    pub fn after_reading(&mut self, path: &Path, now: Now) {
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        let quarter = u32::from(paced.receive_window.size() / 4);
        if u32::from(paced.wnd) < quarter * 2 && paced.read_since_told >= quarter {
            let next = paced.flight.next();
            self.engine.tick(now.clock);
            paced.tell_again = Some((now.time.after(TELL_AGAIN), TELLS));
            self.engine.ask_window(self.conv, next);
            self.acknowledge(path, now);
        }
    }

    /// Plain KCP: moves the stream into KCP as far as its window goes, and lets it send.
    pub fn feed(&mut self, stream: &mut Ring, spares: &mut Spares, now: Now) {
        let Driver::Plain(plain) = &mut self.driver else {
            return;
        };
        let window = plain
            .window
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
                paced.flight.detect(&mut path.rate);
                if paced
                    .flight
                    .timeout_at(&path.rate, path.sessions)
                    .is_some_and(|at| at <= now.time)
                {
                    paced.probe = paced.flight.on_timeout(&mut path.rate);
                }
                if paced.flight.is_empty() {
                    paced.flight.rest();
                }
            }
        }
    }

    /// When `advance` or `build` has something to do next.
    pub fn deadline(&self, waiting: usize, path: &Path, now: Now) -> Option<Time> {
        match &self.driver {
            Driver::Plain(plain) => {
                let busy = (self.engine.waiting() > 0).then(|| {
                    now.time
                        .after(u64::from(self.engine.check(now.clock)).max(1) * MS)
                });
                [busy, plain.pending].into_iter().flatten().min()
            }
            Driver::Paced(paced) => {
                let copy = paced.copies.peek().map(|Reverse((at, _))| *at);
                let tell = paced.tell_again.map(|(at, _)| at);
                let ask = paced.ask_at.filter(|_| waiting > 0 && paced.closed());
                [
                    paced.acks.due(),
                    copy,
                    tell,
                    ask,
                    paced.flight.timeout_at(&path.rate, path.sessions),
                ]
                .into_iter()
                .flatten()
                .min()
            }
        }
    }

    /// Everything that was given to this conversation has been acknowledged.
    pub fn is_settled(&self) -> bool {
        match &self.driver {
            Driver::Plain(_) => self.engine.waiting() == 0,
            Driver::Paced(paced) => paced.flight.is_empty(),
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
        self.expected
    }

    /// The session is gone: takes back what it has in flight.
    pub fn forget(&mut self, path: &mut Path) {
        if let Driver::Paced(paced) = &mut self.driver {
            paced.flight.forget(&mut path.rate);
        }
    }

    /// Takes the packets that plain KCP has put out.
    pub fn take_packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.tap.borrow_mut().packets)
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
        if !matches!(self.driver, Driver::Paced(_)) {
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
        let mss = self.engine.mss();
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        let fresh = paced.goes_ahead(stream.len(), mss, path, now.time);
        let new = if fresh {
            self.cut(stream, spares, path, now)
        } else {
            None
        };
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        if new.is_some() || paced.acks.must_gather(now.time) {
            paced.acks.gather(
                (path.loss(), path.loss_after_loss()),
                paced.una,
                acks::delay(path.rate.srtt()),
                now.time,
            );
        }
        if let Some(sn) = new {
            paced.write(sn, self.conv, false, path, now, packet);
            paced.protect(sn, path, now.time);
        }
        // before the acks, which would leave no room for a whole segment
        if let Some(sn) = paced.probe.take() {
            let known = paced.flight.data(sn).is_some();
            if known && !paced.write(sn, self.conv, false, path, now, packet) {
                paced.probe = Some(sn);
            }
        }
        paced.write_control(self.conv, stream.len(), path, now, packet);
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
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        if let Some(sn) = paced.flight.take_lost() {
            paced.write(sn, self.conv, false, path, now, packet);
            paced.protect_again(sn, stream.is_empty() && !more, path, now.time);
            return;
        }
        if !paced.may_send_new(stream.len()) {
            return;
        }
        let Some(sn) = self.cut(stream, spares, path, now) else {
            return;
        };
        let Driver::Paced(paced) = &mut self.driver else {
            return;
        };
        paced.write(sn, self.conv, false, path, now, packet);
        if stream.is_empty() && !more {
            paced.protect(sn, path, now.time);
        }
    }

    /// Has KCP make a segment of the front of the stream. None if it makes none.
    fn cut(
        &mut self,
        stream: &mut Ring,
        spares: &mut Spares,
        path: &Path,
        now: Now,
    ) -> Option<u32> {
        let mut left = stream.len().min(self.engine.mss());
        self.engine.tick(now.clock);
        while left > 0 {
            let n = stream.front().len().min(left);
            self.engine.send(&stream.front()[..n]);
            stream.consume(n, spares);
            left -= n;
        }
        self.engine.flush();
        self.collect(path, now);
        let Driver::Paced(paced) = &mut self.driver else {
            return None;
        };
        let mut new = None;
        for (sn, data) in self.tap.borrow_mut().segments.drain(..) {
            debug_assert_eq!(sn, paced.flight.next());
            new = Some(paced.flight.add(data));
        }
        let next = paced.flight.next();
        self.engine.disown(self.conv, next);
        new
    }
}

impl Plain {
    /// KCP has something to say that it does not say by itself.
    fn owe(&mut self, now: Time) {
        self.pending.get_or_insert(now.after(self.interval));
    }
}
