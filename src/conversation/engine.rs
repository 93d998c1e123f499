//! The `kcp` crate's object and what it puts out. Everything that has to know the crate's quirks is here:
//! its byte order, its clock, its output by callback. What is sent when is not decided here.

use crate::segment::{self, HEADER, Header, cmd};
use crate::settings::KcpSettings;
use kcp::Kcp;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// What KCP put out and nobody has fetched yet. One for all the conversations of a tunnel: it is emptied after every
/// call that can fill it, and so belongs to the conversation at hand.
#[derive(Default)]
pub struct Tap {
    /// Whole packets in the wire's byte order (conversations that KCP itself drives).
    pub packets: Vec<Vec<u8>>,
    /// New segments, their number and data (conversations that we drive).
    pub segments: Vec<(u32, Vec<u8>)>,
    /// Acks, as (sn, ts).
    pub acks: Vec<(u32, u32)>,
    /// From the last header: all before this has arrived here, and the free receive window.
    pub una: u32,
    pub wnd: u16,
    /// The other end is to be told our window.
    pub tell_window: bool,
    pool: Vec<Vec<u8>>,
}

impl Tap {
    /// Buffers kept at rest; more would be memory that nobody uses.
    const POOL: usize = 256;

    fn buffer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut b = self.pool.pop().unwrap_or_default();
        b.extend_from_slice(bytes);
        b
    }

    /// Takes a buffer back that is no longer needed.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.pool.len() < Self::POOL {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// Everything was fetched.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.segments.is_empty() && self.acks.is_empty()
    }

    fn collect(&mut self, packet: &[u8]) {
        let mut rest = packet;
        while rest.len() >= HEADER {
            let mut head = [0; HEADER];
            head.copy_from_slice(&rest[..HEADER]);
            segment::swap_header(&mut head);
            let Some(h) = Header::read(&head) else { return };
            let end = (HEADER + h.len as usize).min(rest.len());
            (self.una, self.wnd) = (h.una, h.wnd);
            match h.cmd {
                cmd::PUSH => {
                    let data = self.buffer(&rest[HEADER..end]);
                    self.segments.push((h.sn, data));
                }
                cmd::ACK => self.acks.push((h.sn, h.ts)),
                cmd::WINS => self.tell_window = true,
                // we ask for the window ourselves
                _ => {}
            }
            rest = &rest[end..];
        }
    }
}

/// KCP's way out.
struct Output {
    tap: Rc<RefCell<Tap>>,
    whole: bool,
}

impl io::Write for Output {
    fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        let mut tap = self.tap.borrow_mut();
        if self.whole {
            let mut copy = tap.buffer(packet);
            segment::to_wire(&mut copy);
            tap.packets.push(copy);
        } else {
            tap.collect(packet);
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
}

impl Engine {
    /// `mtu` is the size of the largest KCP packet. `driven`: recovery and pacing are ours, and KCP cuts the stream
    /// into segments, acknowledges and puts in order; otherwise KCP does it all, as configured.
    pub fn new(
        conv: u32,
        settings: &KcpSettings,
        mtu: usize,
        driven: bool,
        tap: Rc<RefCell<Tap>>,
    ) -> Engine {
        let mut kcp = Kcp::new_stream(
            conv,
            Output {
                tap,
                whole: !driven,
            },
        );
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
        Engine { kcp }
    }

    /// Bounds of what is in flight each way, segments. The crate receives at least 128, whatever is asked for.
    pub fn set_windows(&mut self, send: u16, receive: u16) {
        self.kcp.set_wndsize(send, receive);
    }

    pub fn mss(&self) -> usize {
        self.kcp.mss()
    }

    /// Hands in a packet that `segment::check` accepted, in the wire's byte order and without padding; it is changed.
    /// The clock must have been set by `tick`.
    pub fn input(&mut self, packet: &mut [u8]) {
        segment::to_kcp(packet);
        if let Err(e) = self.kcp.input(packet) {
            log::debug!("{:08x}: KCP refuses a packet: {e}", self.kcp.conv());
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

    /// Tells KCP that all before `next` has arrived and that the window is wide open: recovery is ours, and KCP's
    /// loops over its send buffer, one for every ack and every flush, find it empty.
    pub fn disown(&mut self, conv: u32, next: u32) {
        let mut header = Header {
            conv,
            cmd: cmd::WINS,
            wnd: u16::MAX,
            una: next,
            ..Header::default()
        }
        .to_wire();
        self.input(&mut header);
    }

    /// Makes KCP put out its window with the next flush.
    pub fn ask_window(&mut self, conv: u32, next: u32) {
        let mut header = Header {
            conv,
            cmd: cmd::WASK,
            wnd: u16::MAX,
            una: next,
            ..Header::default()
        }
        .to_wire();
        self.input(&mut header);
    }
}
