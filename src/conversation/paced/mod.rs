//! The engine with rate control: recovery, acks and windows of a conversation. Here is what an inbound packet and the clock
//! bring about, and what is known of the conversation's state; in `send`, what goes into the next packet. When a packet may
//! leave is decided in `congestion` and `tunnel::transmit`.

mod acks;
mod advertised;
mod flight;
mod inbound;
mod queue;
mod remote_window;
mod send;
mod window;

use super::order::{Order, PeerWindow};
use super::size::PacketSize;
use super::{Blocked, Priority};
use crate::path::Path;
use crate::pool::BufferPool;
use crate::segment::{Header, Segments, ahead, cmd};
use crate::settings::KcpSettings;
use crate::time::{Instant, Now};
use acks::Acks;
use advertised::Advertised;
use flight::Flight;
use inbound::Inbound;
use remote_window::RemoteWindow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use window::Window;

pub(super) struct Paced {
    conv: u32,
    size: PacketSize,
    flight: Flight,
    /// Copies to send ahead of need: when, and of which segment.
    copies: BinaryHeap<Reverse<(Instant, u32)>>,
    /// The oldest segment, to be sent because nothing was heard.
    probe: Option<u32>,
    remote_window: RemoteWindow,
    order: Order,
    peer_window: PeerWindow,
    inbound: Inbound,
    receive_window: Window,
    advertised: Advertised,
    acks: Acks,
}

impl Paced {
    pub(super) fn new(conv: u32, settings: &KcpSettings, mtu: usize, now: Instant) -> Paced {
        let inbound = Inbound::new(conv);
        Paced {
            conv,
            size: PacketSize::new(mtu),
            flight: Flight::default(),
            copies: BinaryHeap::new(),
            probe: None,
            remote_window: RemoteWindow::new(settings.sndwnd),
            order: Order::default(),
            peer_window: PeerWindow::default(),
            receive_window: Window::new(settings.rcvwnd, now),
            advertised: Advertised::new(inbound.free()),
            inbound,
            acks: Acks::default(),
        }
    }

    pub(super) fn widen(&mut self) {
        self.inbound.widen(self.receive_window.size());
        self.advertised.set_window(self.inbound.free());
    }

    pub(super) fn set_mtu(&mut self, mtu: usize) {
        self.size.set(mtu, self.flight.first(), self.flight.next());
    }

    pub(super) fn longest(&self) -> usize {
        self.size.longest(self.flight.first())
    }

    pub(super) fn back_off(&mut self) {
        self.flight.back_off();
    }

    pub(super) fn input(
        &mut self,
        mut packet: Segments,
        path: &mut Path,
        pool: &mut BufferPool,
        now: Now,
    ) {
        let (mut owes, mut asked) = (false, false);
        let mut last = Header::default();
        for (header, segment) in packet.iter_mut() {
            match header.cmd {
                cmd::PUSH => owes |= self.on_push(header, segment, path, pool),
                cmd::ACK => {
                    let rate = &mut path.congestion;
                    self.flight
                        .on_ack(header.sn, header.ts, rate, pool, now.time);
                }
                cmd::WASK => asked = true,
                _ => {}
            }
            last = *header;
        }
        // after the acks, which say more: they name the transmission that has arrived
        self.peer_window.note(&last, self.flight.next());
        self.hear(&last, path, pool, now.time);
        self.flight.detect(&mut path.congestion);
        path.congestion.measure(now.time);
        if asked {
            self.advertised.tell();
        }
        if owes || asked {
            self.note_window();
            self.advertised.restart();
        }
        if owes {
            let delay = acks::delay_after(self.order.take_gap(), path.congestion.srtt());
            self.acks.schedule(delay, now.time);
        }
    }

    /// A segment with data has arrived. True if it is to be acknowledged.
    fn on_push(
        &mut self,
        header: &Header,
        segment: &mut [u8],
        path: &mut Path,
        pool: &mut BufferPool,
    ) -> bool {
        if self.order.note(header, path) {
            self.advertised.stop_repeating();
        }
        path.counts
            .on_received(header.len, self.inbound.has(header.sn));
        let is_next = header.sn == self.inbound.next();
        let taken = self.inbound.take(header, segment, pool);
        if taken {
            let in_order = is_next && self.inbound.next() != header.sn;
            self.acks.add((header.sn, header.ts), in_order);
        }
        taken
    }

    /// What the last header of a packet tells of the other end.
    fn hear(&mut self, header: &Header, path: &mut Path, pool: &mut BufferPool, now: Instant) {
        let rate = &mut path.congestion;
        // an old packet that comes late must not close a window that has opened since
        if ahead(header.una, self.flight.first()) >= 0 {
            self.remote_window.set(header.wnd);
        }
        self.flight.on_una(header.una, rate, pool, now);
        self.remote_window.note(self.flight.span(), now);
    }

    /// What leaves from now on tells the present state of the receive window.
    fn note_window(&mut self) {
        self.advertised
            .set(self.inbound.next(), self.inbound.free());
    }

    pub(super) fn peek(&self) -> Option<usize> {
        self.inbound.peek()
    }

    pub(super) fn recv(
        &mut self,
        into: &mut [u8],
        path: &Path,
        pool: &mut BufferPool,
        now: Instant,
    ) -> Option<usize> {
        let n = self.inbound.pop(into)?;
        self.advertised.on_read();
        if let Some(size) = self.receive_window.on_read(path.congestion.srtt(), now) {
            self.inbound.widen(size);
        }
        self.inbound.on_read(pool);
        Some(n)
    }

    pub(super) fn after_reading(&mut self, now: Instant) {
        if self.advertised.has_opened(self.receive_window.size()) {
            self.advertised.tell_repeatedly(now);
            self.note_window();
        }
    }

    pub(super) fn advance(&mut self, path: &mut Path, now: Instant) {
        self.flight.detect(&mut path.congestion);
        let timeout = self.flight.timeout_at(&path.congestion, path.sessions);
        if is_due(timeout, now) {
            self.probe = self.flight.on_timeout(&mut path.congestion);
        }
        if self.flight.is_empty() {
            self.flight.rest();
            self.acks.rest();
        }
    }

    pub(super) fn deadline(&self, waiting: usize, path: &Path) -> Instant {
        let asks = waiting > 0 && self.is_closed();
        [
            self.acks.due(),
            self.copy_due(),
            self.advertised.repeats_at(),
            self.remote_window.asks_at().filter(|_| asks),
            self.flight.timeout_at(&path.congestion, path.sessions),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(Instant::NEVER)
    }

    /// When the next copy leaves.
    fn copy_due(&self) -> Option<Instant> {
        self.copies.peek().map(|Reverse((at, _))| *at)
    }

    /// The other end has no room for a new segment.
    fn is_closed(&self) -> bool {
        self.remote_window.is_closed(self.flight.span())
    }

    pub(super) fn waits_for(&self) -> Blocked {
        match self.is_closed() {
            false => Blocked::Rate,
            true if self.remote_window.is_narrow() => Blocked::Reader,
            true => Blocked::Window,
        }
    }

    pub(super) fn first(&self) -> u32 {
        self.flight.first()
    }

    pub(super) fn sent(&self) -> u32 {
        self.flight.next()
    }

    pub(super) fn unacked(&self) -> usize {
        self.flight.unacked()
    }

    pub(super) fn unacked_bytes(&self) -> usize {
        self.flight.unacked_bytes()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.flight.is_empty()
    }

    pub(super) fn is_contradicted(&self) -> bool {
        self.peer_window.lacks(self.flight.first())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.flight.is_empty() && self.acks.is_idle()
    }

    pub(super) fn una(&self) -> u32 {
        self.order.expected()
    }

    pub(super) fn has_gap(&self) -> bool {
        ahead(self.order.expected(), self.inbound.next()) > 0
    }

    pub(super) fn relocate(&mut self, old: &mut Path) {
        self.flight.relocate(&mut old.congestion);
        self.copies.clear();
        self.probe = None;
    }

    pub(super) fn send_window_update(&mut self) {
        // not before the other end knows of the session: it would take it for one that is over
        if self.advertised.una() > 0 || self.flight.has_arrived() {
            self.advertised.tell();
        }
    }

    pub(super) fn forget(&mut self, path: &mut Path) {
        self.flight.forget(&mut path.congestion);
    }
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}
