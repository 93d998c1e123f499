//! The `kcp` crate's object and what it puts out. Everything that has to know the crate's quirks is here:
//! its byte order, its clock, its output by callback. What is sent when is not decided here.

use crate::segment;
use crate::settings::KcpSettings;
use kcp::Kcp;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// What plain KCP put out and nobody has fetched yet, and the buffers of segments. One for all the conversations of a
/// tunnel: it is emptied after every call that can fill it, and so belongs to the conversation at hand.
#[derive(Default)]
pub struct Tap {
    /// Whole packets in the wire's byte order (conversations that KCP itself drives).
    pub packets: Vec<Vec<u8>>,
    pool: Vec<Vec<u8>>,
}

impl Tap {
    /// Buffers kept at rest; more would be memory that nobody uses.
    const POOL: usize = 256;
    /// Only what holds a full packet is kept: smaller ones are as quickly had from the allocator.
    const WORTH_KEEPING: usize = 1024;
    /// The size of a kept buffer: the longest packet of the protocol.
    const FULL: usize = 1500;

    /// An empty buffer with room for `len` bytes.
    pub fn empty(&mut self, len: usize) -> Vec<u8> {
        if len < Self::WORTH_KEEPING {
            return Vec::with_capacity(len);
        }
        let kept = self.pool.pop();
        kept.unwrap_or_else(|| Vec::with_capacity(len.max(Self::FULL)))
    }

    /// A buffer that holds a copy of `bytes`.
    pub fn buffer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut b = self.empty(bytes.len());
        b.extend_from_slice(bytes);
        b
    }

    /// Takes a buffer back that is no longer needed.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= Self::WORTH_KEEPING && self.pool.len() < Self::POOL {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// Everything was fetched.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// KCP's way out. None: what it says is not wanted.
struct Output(Option<Rc<RefCell<Tap>>>);

impl io::Write for Output {
    fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        if let Some(tap) = &self.0 {
            let mut tap = tap.borrow_mut();
            let mut copy = tap.buffer(packet);
            segment::to_wire(&mut copy);
            tap.packets.push(copy);
        }
        Ok(packet.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One KCP object.
pub struct Engine {
    kcp: Kcp<Output>,
    driven: bool,
    /// Acks that KCP has noted and that are said by others.
    noted: u8,
}

impl Engine {
    /// How long KCP's list of acks may become when nobody wants them: it is memory of a session at rest.
    const NOTED_MOST: u8 = 32;

    /// `mtu` is the size of the largest KCP packet. `driven`: sending and acks are ours, and KCP keeps the inbound stream
    /// until it is read; otherwise KCP does it all, as configured.
    pub fn new(
        conv: u32,
        settings: &KcpSettings,
        mtu: usize,
        driven: bool,
        tap: Rc<RefCell<Tap>>,
    ) -> Engine {
        let mut kcp = Kcp::new_stream(conv, Output((!driven).then_some(tap)));
        // both are within the crate's bounds: the configuration's least mtu leaves over 200 bytes
        let _ = kcp.set_mtu(mtu);
        kcp.set_wndsize(settings.sndwnd, settings.rcvwnd);
        kcp.set_nodelay(
            settings.nodelay > 0,
            settings.interval as i32,
            settings.resend as i32,
            settings.nc || driven,
        );
        // a session ends by its own timeout, not by a count
        kcp.set_maximum_resend_times(u32::MAX);
        Engine {
            kcp,
            driven,
            noted: 0,
        }
    }

    /// Bounds of what is in flight each way, segments. The crate receives at least 128, whatever is asked for.
    pub fn set_windows(&mut self, send: u16, receive: u16) {
        self.kcp.set_wndsize(send, receive);
    }

    /// The size of the largest packet from now on, bytes; what was cut before stays as it is.
    pub fn set_mtu(&mut self, mtu: usize) {
        let _ = self.kcp.set_mtu(mtu);
    }

    pub fn mss(&self) -> usize {
        self.kcp.mss()
    }

    /// Hands in a packet that `segment::check` accepted, in the wire's byte order and without padding; it is changed.
    /// The clock must have been set by `tick`, at least once if driven.
    pub fn input(&mut self, packet: &mut [u8]) {
        segment::to_kcp(packet);
        if let Err(e) = self.kcp.input(packet) {
            log::debug!("{:08x}: KCP refuses a packet: {e}", self.kcp.conv());
        }
        if self.driven {
            self.noted += 1;
            if self.noted >= Self::NOTED_MOST {
                // its list of acks would grow for ever
                self.noted = 0;
                let _ = self.kcp.flush_ack();
            }
        }
    }

    /// The next piece of the stream; None if there is none. `into` must hold a segment of the other end's size.
    pub fn recv(&mut self, into: &mut [u8]) -> Option<usize> {
        self.kcp.recv(into).ok()
    }

    /// Bytes of the piece that `recv` would give.
    pub fn peek(&self) -> Option<usize> {
        self.kcp.peeksize().ok()
    }

    /// Appends to the stream; at most 100 segments at once.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(e) = self.kcp.send(bytes) {
            log::error!(
                "{:08x}: KCP does not take {} bytes: {e}",
                self.kcp.conv(),
                bytes.len()
            );
        }
    }

    /// Sets KCP's clock (ms), and does what its interval has made due.
    pub fn tick(&mut self, clock: u32) {
        let _ = self.kcp.update(clock);
    }

    /// Puts out what may leave now: acks, window tells, segments.
    pub fn flush(&mut self) {
        let _ = self.kcp.flush();
    }

    pub fn waiting(&self) -> usize {
        self.kcp.wait_snd()
    }

    pub fn remote_window(&self) -> u16 {
        self.kcp.rmt_wnd()
    }

    /// Milliseconds until `tick` has something to do, if anything is under way.
    pub fn check(&self, clock: u32) -> u32 {
        self.kcp.check(clock)
    }
}
