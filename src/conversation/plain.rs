//! Plain KCP alone, where the configuration wants no rate control: the `kcp` crate cuts, numbers, repeats, acknowledges and
//! puts in order. Here is when it is called and how much of the stream it is given; its packets wait here until they are
//! fetched, and leave as they come.

mod wrapper;

use super::Blocked;
use super::order::{Order, PeerWindow};
use super::size::PacketSize;
use crate::path::Path;
use crate::pool::BufferPool;
use crate::ring::Ring;
use crate::segment::{DEFAULT_WINDOW, Segments, ahead, cmd};
use crate::settings::{Flush, KcpSettings};
use crate::time::{Duration, Instant, MS, Now};
use wrapper::Wrapper;

/// KCP, which knows no path, begins with so many segments of a session, and doubles them each round trip: what it sends
/// again it sends all at once, and of many sessions that begin together only the first packets of each such flood would arrive.
const INITIAL_SEGMENTS: usize = 4;

/// The crate's shortest interval, ms.
const SHORTEST_INTERVAL: u32 = 10;

pub(super) struct Plain {
    kcp: Wrapper,
    size: PacketSize,
    flush: Flush,
    /// The windows as configured, segments.
    send_window: u16,
    receive_window: u16,
    /// Acks or a window tell may be waiting in KCP, and leave at this time at the latest.
    pending: Option<Instant>,
    /// The span between two flushes of KCP's own.
    interval: Duration,
    /// Segments that KCP is given at most, beside those that were acknowledged: it grows as these do.
    opened: usize,
    order: Order,
    peer_window: PeerWindow,
}

impl Plain {
    pub(super) fn new(conv: u32, settings: &KcpSettings, mtu: usize, now: Now) -> Plain {
        let mut kcp = Wrapper::new(conv, settings, mtu, now.clock);
        kcp.set_windows(settings.sndwnd, DEFAULT_WINDOW);
        Plain {
            kcp,
            size: PacketSize::new(mtu),
            flush: settings.flush,
            send_window: settings.sndwnd,
            receive_window: settings.rcvwnd,
            pending: None,
            interval: u64::from(settings.interval.max(SHORTEST_INTERVAL)) * MS,
            opened: INITIAL_SEGMENTS,
            order: Order::default(),
            peer_window: PeerWindow::default(),
        }
    }

    pub(super) fn widen(&mut self) {
        self.kcp.set_windows(self.send_window, self.receive_window);
    }

    pub(super) fn set_mtu(&mut self, mtu: usize) {
        // KCP may hold some that it has not sent
        let next = self.first().wrapping_add(self.kcp.waiting() as u32);
        if self.size.set(mtu, self.first(), next) {
            self.kcp.set_mtu(mtu);
        }
    }

    pub(super) fn longest(&self) -> usize {
        self.size.longest(self.first())
    }

    pub(super) fn first(&self) -> u32 {
        self.peer_window.una()
    }

    pub(super) fn input(
        &mut self,
        packet: Segments,
        path: &mut Path,
        pool: &mut BufferPool,
        now: Now,
    ) {
        let mut owes = false;
        let before = self.peer_window.una();
        for header in packet.headers() {
            owes |= matches!(header.cmd, cmd::PUSH | cmd::WASK);
            // what KCP has sent, it knows best
            self.peer_window.note(header, header.una);
            if header.cmd == cmd::PUSH {
                path.counts.on_received(header.len, false);
                self.order.note(header, path);
            }
        }
        // or it would measure the round trip by an old clock
        self.kcp.tick(now.clock, pool);
        self.kcp.input(packet);
        let arrived = self.peer_window.una().wrapping_sub(before) as usize;
        let most = usize::from(self.send_window);
        self.opened = self.opened.saturating_add(arrived).min(most);
        if owes && self.flush == Flush::AcksToo {
            self.kcp.flush(pool);
        } else if owes {
            self.owe(now.time);
        }
    }

    pub(super) fn peek(&self) -> Option<usize> {
        self.kcp.peek()
    }

    pub(super) fn recv(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        let n = self.kcp.recv(into)?;
        self.owe(now);
        Some(n)
    }

    /// KCP has something to say that it does not say by itself.
    fn owe(&mut self, now: Instant) {
        self.pending.get_or_insert(now.after(self.interval));
    }

    pub(super) fn feed(&mut self, stream: &mut Ring, pool: &mut BufferPool, now: Now) {
        let window = usize::from(self.send_window)
            .min(self.opened)
            .min(self.kcp.remote_window().max(1).into());
        let mut fed = false;
        while !stream.is_empty() && self.kcp.waiting() < window {
            let n = stream.front().len().min(self.kcp.mss());
            self.kcp.send(&stream.front()[..n]);
            stream.consume(n, pool);
            fed = true;
        }
        if fed {
            self.kcp.tick(now.clock, pool);
            if self.flush != Flush::Interval {
                self.kcp.flush(pool);
                self.pending = None;
            }
        }
    }

    pub(super) fn advance(&mut self, pool: &mut BufferPool, now: Now) {
        if self.pending.is_some() || self.kcp.waiting() > 0 {
            self.kcp.tick(now.clock, pool);
        }
        if self.pending.is_some_and(|at| at <= now.time) {
            // KCP's own interval may be a little later than ours, and nothing would remind us of it
            self.kcp.flush(pool);
            self.pending = None;
        }
    }

    pub(super) fn deadline(&self, now: Now) -> Instant {
        let busy = self.kcp.waiting() > 0;
        let tick = busy.then(|| {
            let wait = u64::from(self.kcp.check(now.clock)).max(1) * MS;
            now.time.after(wait)
        });
        let pending = self.pending.unwrap_or(Instant::NEVER);
        tick.unwrap_or(Instant::NEVER).min(pending)
    }

    pub(super) fn next_packet(&mut self) -> Option<Vec<u8>> {
        self.kcp.next_packet()
    }

    pub(super) fn has_packets(&self) -> bool {
        self.kcp.has_packets()
    }

    pub(super) fn unacked(&self) -> usize {
        self.kcp.waiting()
    }

    pub(super) fn unacked_bytes(&self) -> usize {
        self.kcp.waiting() * self.kcp.mss()
    }

    pub(super) fn waits_for(&self) -> Blocked {
        Blocked::Window
    }

    pub(super) fn is_settled(&self) -> bool {
        self.kcp.waiting() == 0
    }

    pub(super) fn is_contradicted(&self) -> bool {
        self.is_settled() && self.peer_window.lacks(self.kcp.sent())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.is_settled() && self.pending.is_none()
    }

    pub(super) fn una(&self) -> u32 {
        self.order.expected()
    }

    pub(super) fn has_gap(&self) -> bool {
        ahead(self.order.expected(), self.kcp.una()) > 0
    }

    pub(super) fn sent(&self) -> u32 {
        self.kcp.sent()
    }
}
