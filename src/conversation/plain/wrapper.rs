//! The `kcp` crate's object of plain KCP and the queue of what it puts out. Everything that has to know the crate's quirks is
//! here: its byte order, its clock, its output by callback. When it is called is decided in `plain`.

use crate::pool::BufferPool;
use crate::segment::{HEADER, Header, Segments, ahead, cmd};
use crate::settings::KcpSettings;
use kcp::Kcp;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Places in the queue of packets that are kept while nothing is in it.
const QUEUE_AT_REST: usize = 4;

/// What KCP has put out, and what can be read off it: the crate tells neither what it has sent nor what has arrived.
#[derive(Default)]
struct Outbox {
    /// Whole packets in the wire's byte order, the oldest first.
    packets: VecDeque<Vec<u8>>,
    /// One more than the highest number that was sent.
    sent: u32,
    /// All before this number have arrived here, as KCP has said last.
    una: u32,
    /// The tunnel's, for as long as the crate is being called.
    pool: BufferPool,
}

impl Outbox {
    fn put(&mut self, packet: &[u8]) {
        let mut copy = self.pool.copy_of(packet);
        let mut rest = &mut copy[..];
        while let Some((head, body)) = rest.split_first_chunk_mut::<HEADER>() {
            let header = Header::from_kcp(head);
            *head = header.to_wire();
            rest = body.get_mut(header.len as usize..).unwrap_or_default();
            self.una = header.una;
            let next = header.sn.wrapping_add(1);
            if header.cmd == cmd::PUSH && ahead(next, self.sent) > 0 {
                self.sent = next;
            }
        }
        self.packets.push_back(copy);
    }
}

/// KCP's way out. The cell is shared with nobody but the `Wrapper` that has made it. There has to be one: the crate owns the
/// writer that it is given and has no way to reach it.
struct Output(Rc<RefCell<Outbox>>);

impl io::Write for Output {
    fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().put(packet);
        Ok(packet.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One KCP object, which does everything.
pub(super) struct Wrapper {
    kcp: Kcp<Output>,
    outbox: Rc<RefCell<Outbox>>,
}

impl Wrapper {
    /// `mtu`: size of the largest KCP packet, bytes. `clock`: KCP's, ms.
    pub(super) fn new(conv: u32, settings: &KcpSettings, mtu: usize, clock: u32) -> Wrapper {
        let outbox = Rc::<RefCell<Outbox>>::default();
        let mut kcp = Kcp::new_stream(conv, Output(outbox.clone()));
        // it is within the crate's bounds: the configuration's least mtu leaves over 200 bytes
        let _ = kcp.set_mtu(mtu);
        kcp.set_nodelay(
            settings.nodelay > 0,
            settings.interval as i32,
            settings.resend as i32,
            settings.nc,
        );
        // a session ends by its own timeout, not by a count
        kcp.set_maximum_resend_times(u32::MAX);
        // nothing leaves: there is nothing yet
        let _ = kcp.update(clock);
        Wrapper { kcp, outbox }
    }

    /// Bounds of what is in flight each way, segments. The crate receives at least 128, whatever is asked for.
    pub(super) fn set_windows(&mut self, send: u16, receive: u16) {
        self.kcp.set_wndsize(send, receive);
    }

    /// The size of the largest packet from now on, bytes; what was cut before stays as it is.
    pub(super) fn set_mtu(&mut self, mtu: usize) {
        let _ = self.kcp.set_mtu(mtu);
    }

    /// Bytes of data of the largest segment.
    pub(super) fn mss(&self) -> usize {
        self.kcp.mss()
    }

    /// Hands in a packet. The clock must have been set by `tick`.
    pub(super) fn input(&mut self, packet: Segments) {
        // it takes bytes, which it parses again
        if let Err(e) = self.kcp.input(packet.into_kcp()) {
            log::debug!("{:08x}: KCP refuses a packet: {e}", self.kcp.conv());
        }
    }

    /// The next piece of the stream; None if there is none. `into` must hold a segment of the other end's size.
    pub(super) fn recv(&mut self, into: &mut [u8]) -> Option<usize> {
        self.kcp.recv(into).ok()
    }

    /// Bytes of the piece that `recv` would give.
    pub(super) fn peek(&self) -> Option<usize> {
        self.kcp.peeksize().ok()
    }

    /// Appends to the stream; at most 100 segments at once.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if let Err(e) = self.kcp.send(bytes) {
            log::error!(
                "{:08x}: KCP does not take {} bytes: {e}",
                self.kcp.conv(),
                bytes.len()
            );
        }
    }

    /// Sets KCP's clock (ms), and does what its interval has made due.
    pub(super) fn tick(&mut self, clock: u32, pool: &mut BufferPool) {
        self.lend(pool, |kcp| {
            let _ = kcp.update(clock);
        });
    }

    /// Puts out what may leave now: acks, window tells, segments.
    pub(super) fn flush(&mut self, pool: &mut BufferPool) {
        self.lend(pool, |kcp| {
            let _ = kcp.flush();
        });
    }

    /// Lets KCP put out packets into the pool's buffers.
    fn lend(&mut self, pool: &mut BufferPool, call: impl FnOnce(&mut Kcp<Output>)) {
        std::mem::swap(&mut self.outbox.borrow_mut().pool, pool);
        call(&mut self.kcp);
        std::mem::swap(&mut self.outbox.borrow_mut().pool, pool);
    }

    /// Takes the oldest packet that KCP has put out.
    pub(super) fn next_packet(&mut self) -> Option<Vec<u8>> {
        let packets = &mut self.outbox.borrow_mut().packets;
        let packet = packets.pop_front();
        if packets.is_empty() && self.kcp.wait_snd() == 0 {
            packets.shrink_to(QUEUE_AT_REST);
        }
        packet
    }

    /// Whether `next_packet` has one.
    pub(super) fn has_packets(&self) -> bool {
        !self.outbox.borrow().packets.is_empty()
    }

    /// One more than the highest number that was sent.
    pub(super) fn sent(&self) -> u32 {
        self.outbox.borrow().sent
    }

    /// All before this number have arrived here, as the other end was told last.
    pub(super) fn una(&self) -> u32 {
        self.outbox.borrow().una
    }

    /// Segments that KCP was given and the other end has not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.kcp.wait_snd()
    }

    /// The other end's window as KCP has heard of it last, segments.
    pub(super) fn remote_window(&self) -> u16 {
        self.kcp.rmt_wnd()
    }

    /// Milliseconds until `tick` has something to do, if anything is under way.
    pub(super) fn check(&self, clock: u32) -> u32 {
        self.kcp.check(clock)
    }
}
