//! The `kcp` crate as the queue of what has arrived and nobody has read. It is given segments in their order and sends
//! nothing, and what it says is thrown away. Which segments it gets when is decided in `inbound`.

use crate::segment::DEFAULT_WINDOW;
use kcp::Kcp;
use std::io::Sink;

/// How long KCP's list of acks, which others say, may become: it is memory of a session at rest.
const ACKS_NOTED: u8 = 32;
/// The crate's buffer for output is thrice as long, bytes: the least that it takes.
const OUTPUT_MTU: usize = 50;

pub(super) struct Queue {
    kcp: Kcp<Sink>,
    /// Acks that KCP has noted.
    noted: u8,
}

impl Queue {
    pub(super) fn new(conv: u32) -> Queue {
        // not `Kcp::new`: that takes 4 KB for output
        let mut kcp = Kcp::<Sink>::default();
        kcp.set_conv(conv);
        let _ = kcp.set_mtu(OUTPUT_MTU);
        kcp.set_wndsize(0, DEFAULT_WINDOW);
        // `flush_ack` does nothing before its clock was set once; what the clock shows matters to a sender only
        let _ = kcp.update(0);
        Queue { kcp, noted: 0 }
    }

    /// Keeps so many segments at most from now on; never fewer than `DEFAULT_WINDOW`.
    pub(super) fn set_window(&mut self, window: u16) {
        self.kcp.set_wndsize(0, window);
    }

    /// Takes the segment that is next, with its header as `Header::to_kcp` makes it: the crate takes bytes, which it parses.
    pub(super) fn push(&mut self, segment: &[u8]) {
        if let Err(e) = self.kcp.input(segment) {
            log::debug!("{:08x}: KCP refuses a packet: {e}", self.kcp.conv());
        }
        self.noted += 1;
        if self.noted >= ACKS_NOTED {
            self.noted = 0;
            let _ = self.kcp.flush_ack();
        }
    }

    /// The data of the oldest segment; None if there is none. `into` must hold a segment of the other end's size.
    pub(super) fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        self.kcp.recv(into).ok()
    }

    /// Bytes of the segment that `pop` would give.
    pub(super) fn peek(&self) -> Option<usize> {
        self.kcp.peeksize().ok()
    }
}
