//! The sender of a conversation whose recovery and pacing are ours: what goes into the next packet, which segments get
//! copies, and what is said of windows. When a packet may leave is decided in `congestion` and `tunnel::transmit`.

use super::acks::Acks;
use super::engine::Tap;
use super::flight::Flight;
use super::inbound::Inbound;
use super::window::Window;
use crate::path::{LOSSY, Path};
use crate::segment::{HEADER, Header, ahead, cmd};
use crate::time::{MS, Now, Time};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A flow is thin while no more than this is unacknowledged: it is waited for, and costs next to nothing.
const THIN_BYTES: usize = 4096;
const THIN_SEGMENTS: usize = 32;
/// The chance that all copies of a small message are lost is brought below this.
const ALL_LOST: f64 = 0.003;
const MOST_COPIES: usize = 8;
/// Small segments that ride along in a later datagram, together at most so many bytes.
const ALONG_BYTES: usize = 600;
const ALONG_SEGMENT: usize = 300;
/// How often to ask for a window that stays closed, at first and at most.
pub(super) const WINDOW_ASK: u64 = 200 * MS;
const WINDOW_ASK_MOST: u64 = 5_000 * MS;
/// How soon and how often a window that has opened is told again: the other end waits for it.
pub(super) const TELL_AGAIN: u64 = 20 * MS;
pub(super) const TELLS: u8 = 6;

/// Why a segment leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is new, or was lost.
    Needed,
    /// A copy ahead of need.
    Copy,
    /// Likewise, in another segment's datagram.
    Along,
}

#[derive(Default)]
pub(super) struct Paced {
    pub(super) flight: Flight,
    pub(super) acks: Acks,
    /// Copies to send ahead of need: when, and of which segment.
    pub(super) copies: BinaryHeap<Reverse<(Time, u32)>>,
    pub(super) remote_window: u16,
    /// The widest that it was.
    pub(super) remote_most: u16,
    pub(super) window_limit: u16,
    pub(super) inbound: Inbound,
    /// What the other end was last told: all before it have arrived, and so many more are welcome.
    pub(super) una: u32,
    pub(super) wnd: u16,
    pub(super) receive_window: Window,
    /// Segments that were read since the window was last told.
    pub(super) read_since_told: u32,
    pub(super) tell_window: bool,
    /// When an opened window is told again, and how many times at most: until something new comes.
    pub(super) tell_again: Option<(Time, u8)>,
    /// The oldest segment, to be sent because nothing was heard.
    pub(super) probe: Option<u32>,
    /// When to ask for the closed window, and how long to wait after that.
    pub(super) ask_at: Option<Time>,
    pub(super) ask_wait: u64,
}

impl Paced {
    pub(super) fn hear(&mut self, header: &Header, path: &mut Path, tap: &mut Tap, now: Now) {
        // an old packet that comes late must not close a window that has opened since
        if ahead(
            header.una,
            self.flight.next().wrapping_sub(self.flight.span() as u32),
        ) >= 0
        {
            self.remote_window = header.wnd;
            self.remote_most = self.remote_most.max(header.wnd);
        }
        self.flight
            .on_una(header.una, &mut path.congestion, tap, now.time);
        if self.closed() {
            self.ask_at.get_or_insert(now.time.after(WINDOW_ASK));
        } else {
            (self.ask_at, self.ask_wait) = (None, WINDOW_ASK);
        }
    }

    /// What leaves from now on tells the present state of the receive window.
    pub(super) fn note_window(&mut self) {
        (self.una, self.wnd) = (self.inbound.next(), self.inbound.free());
    }

    /// The other end has no room for a new segment.
    pub(super) fn closed(&self) -> bool {
        let window = self.remote_window.min(self.window_limit) as usize;
        self.flight.span() >= window
    }

    pub(super) fn may_send_new(&self, waiting: usize) -> bool {
        waiting > 0 && !self.closed()
    }

    /// Small messages of a thin flow (what waits fits into one segment, and little is under way) do not wait for the
    /// rate, unless too much has gone ahead already.
    pub(super) fn goes_ahead(&self, waiting: usize, mss: usize, path: &Path, now: Time) -> bool {
        self.may_send_new(waiting)
            && waiting <= mss
            && self.flight.unacked() <= THIN_SEGMENTS
            && self.flight.unacked_bytes() <= THIN_BYTES
            && path.congestion.may_go_ahead(now)
    }

    pub(super) fn urgent(&self, waiting: usize, now: Time) -> bool {
        self.speaks_of_windows(waiting, now)
            || self.probe.is_some()
            || is_due(self.acks.due(), now)
            || is_due(self.copies.peek().map(|Reverse((at, _))| *at), now)
    }

    /// Whether a window is to be told, or asked for.
    pub(super) fn speaks_of_windows(&self, waiting: usize, now: Time) -> bool {
        self.tell_window
            || is_due(self.tell_again.map(|(at, _)| at), now)
            || (waiting > 0 && self.closed() && is_due(self.ask_at, now))
    }

    /// Appends a segment to the packet if it fits.
    pub(super) fn write(
        &mut self,
        sn: u32,
        conv: u32,
        why: Why,
        path: &mut Path,
        now: Now,
        packet: &mut Packet,
    ) -> bool {
        let Some(data) = self.flight.data(sn) else {
            return false;
        };
        let header = Header {
            cmd: cmd::PUSH,
            sn,
            len: data.len() as u32,
            ..self.header(conv, now)
        };
        let first = packet.len == 0;
        if !packet.append(&header, data) {
            return false;
        }
        let bytes = HEADER + data.len() + if first { path.overhead } else { 0 };
        let stamp = path.congestion.on_sent(bytes, now.time);
        self.flight
            .sent(sn, now.clock, bytes, why == Why::Along, stamp);
        path.counts
            .on_sent(self.flight.sends(sn), why != Why::Needed);
        true
    }

    pub(super) fn header(&self, conv: u32, now: Now) -> Header {
        Header {
            conv,
            cmd: cmd::WINS,
            frg: 0,
            wnd: self.wnd,
            ts: now.clock,
            sn: 0,
            una: self.una,
            len: 0,
        }
    }

    /// Acks, and what concerns windows.
    pub(super) fn write_control(
        &mut self,
        conv: u32,
        waiting: usize,
        path: &Path,
        now: Now,
        packet: &mut Packet,
    ) {
        let header = self.header(conv, now);
        let again = self.tell_again.filter(|(at, _)| *at <= now.time);
        if let Some((_, left)) = again {
            let wait = TELL_AGAIN.max(path.congestion.srtt());
            self.tell_again = (left > 1).then(|| (now.time.after(wait), left - 1));
        }
        if std::mem::take(&mut self.tell_window) || again.is_some() {
            packet.append(&header, &[]);
        }
        if waiting > 0 && self.closed() && self.ask_at.is_some_and(|at| at <= now.time) {
            packet.append(
                &Header {
                    cmd: cmd::WASK,
                    ..header
                },
                &[],
            );
            self.ask_wait = (self.ask_wait * 2).min(WINDOW_ASK_MOST);
            self.ask_at = Some(now.time.after(self.ask_wait));
        }
        for (sn, ts) in self.acks.take(packet.room() / HEADER) {
            packet.append(
                &Header {
                    cmd: cmd::ACK,
                    sn,
                    ts,
                    ..header
                },
                &[],
            );
        }
    }

    /// The copies that are due.
    pub(super) fn write_copies(
        &mut self,
        conv: u32,
        path: &mut Path,
        now: Now,
        packet: &mut Packet,
    ) {
        while let Some(Reverse((at, sn))) = self.copies.peek().copied() {
            if at > now.time {
                return;
            }
            let size = self.flight.data(sn).map(<[u8]>::len);
            if size.is_some_and(|size| packet.room() < HEADER + size) {
                return;
            }
            self.copies.pop();
            if size.is_some_and(|size| path.may_copy(HEADER + size + path.overhead, now.time)) {
                self.write(sn, conv, Why::Copy, path, now, packet);
            }
        }
    }

    /// Fills the packet with small segments that are still unacknowledged: KCP drops what it already has.
    pub(super) fn write_along(
        &mut self,
        conv: u32,
        path: &mut Path,
        now: Now,
        packet: &mut Packet,
    ) {
        let mut left = ALONG_BYTES;
        let along: Vec<u32> = self
            .flight
            .small(ALONG_SEGMENT, 2 * THIN_SEGMENTS)
            .skip(1)
            .take_while(|(_, data)| {
                let fits = data.len() + HEADER <= left;
                left = left.saturating_sub(data.len() + HEADER);
                fits
            })
            .map(|(sn, _)| sn)
            .collect();
        for sn in along {
            let size = self.flight.data(sn).map_or(0, <[u8]>::len);
            if !path.may_ride(HEADER + size, now.time) {
                return;
            }
            self.write(sn, conv, Why::Along, path, now, packet);
        }
    }

    /// Plans copies of a segment, so many that all are lost only a few times in a thousand, spaced ever further.
    pub(super) fn protect(&mut self, sn: u32, path: &Path, now: Time) {
        let loss = path.loss();
        if loss < LOSSY {
            return;
        }
        let copies = (ALL_LOST / loss).ln() / path.loss_after_loss().ln();
        for i in 1..=(copies.ceil().max(1.0) as usize).min(MOST_COPIES) as u64 {
            self.copies
                .push(Reverse((now.after(2 * MS * i * (i + 1)), sn)));
        }
    }

    /// A segment goes again. It holds up everything behind it, the more the oftener it was lost; and where nothing new is
    /// to be sent the line is free for a copy.
    pub(super) fn protect_again(&mut self, sn: u32, tail: bool, path: &Path, now: Time) {
        let loss = path.loss();
        let again = i32::from(self.flight.sends(sn)) - 1;
        if loss >= LOSSY && tail {
            self.protect(sn, path, now);
        } else if again >= 2 && loss.powi(again) < 0.03 {
            self.copies.push(Reverse((now.after(4 * MS), sn)));
        }
    }
}

fn is_due(at: Option<Time>, now: Time) -> bool {
    at.is_some_and(|at| at <= now)
}

/// A packet under construction.
pub(super) struct Packet<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) len: usize,
    pub(super) most: usize,
}

impl Packet<'_> {
    pub(super) fn room(&self) -> usize {
        self.most.min(self.out.len()) - self.len
    }

    pub(super) fn append(&mut self, header: &Header, data: &[u8]) -> bool {
        if self.room() < HEADER + data.len() {
            return false;
        }
        self.out[self.len..][..HEADER].copy_from_slice(&header.to_wire());
        self.out[self.len + HEADER..][..data.len()].copy_from_slice(data);
        self.len += HEADER + data.len();
        true
    }
}
