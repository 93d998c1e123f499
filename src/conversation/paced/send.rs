//! What goes into the next packet of a conversation, and which segments get copies. When a packet may leave is decided in
//! `congestion` and `tunnel::transmit`; what is lost, in `flight`.

use super::{Paced, Priority, acks, is_due};
use crate::conversation::Source;
use crate::path::{LOSSY, Path};
use crate::pool::BufferPool;
use crate::ring::Ring;
use crate::segment::{HEADER, Header, cmd};
use crate::time::{Instant, MS, Now};
use std::cmp::Reverse;

/// A flow is thin while no more than this is unacknowledged: it is waited for, and costs next to nothing.
const THIN_BYTES: usize = 4096;
const THIN_SEGMENTS: usize = 32;
/// The chance that all copies of a small message are lost is brought below this.
const ALL_LOST: f64 = 0.003;
/// The most copies of a small message.
const COPIES_MAX: usize = 8;
/// The chance of being lost so many times in a row below which a segment that was gets one copy.
const LOST_AGAIN: f64 = 0.03;
/// Small segments that ride along in a later datagram, together at most so many bytes, and each of them.
const ALONG_BYTES: usize = 600;
const ALONG_SEGMENT: usize = 300;
/// The largest packet that has acks in it, bytes: what any path carries that has IPv6, nearly.
const ACK_PACKET_MAX: usize = 1200;

/// Why a segment leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is new, or was lost.
    Needed,
    /// A copy ahead of need.
    Copy,
    /// Likewise, in another segment's datagram.
    Along,
}

/// A packet under construction.
struct Packet<'a> {
    out: &'a mut [u8],
    len: usize,
    /// Bytes that it may have.
    most: usize,
}

impl Packet<'_> {
    fn room(&self) -> usize {
        self.most.min(self.out.len()) - self.len
    }

    /// Appends a segment. False, and nothing has happened, if it does not fit.
    fn append(&mut self, header: &Header, data: &[u8]) -> bool {
        if self.room() < HEADER + data.len() {
            return false;
        }
        self.out[self.len..][..HEADER].copy_from_slice(&header.to_wire());
        self.out[self.len + HEADER..][..data.len()].copy_from_slice(data);
        self.len += HEADER + data.len();
        true
    }

    /// What goes into it first may be so large: a segment that cannot be made smaller.
    fn allow(&mut self, longest: usize) {
        if self.len == 0 {
            self.most = self.most.max(longest);
        }
    }
}

/// What there is to send.
impl Paced {
    pub(in crate::conversation) fn wants(
        &self,
        waiting: usize,
        path: &Path,
        now: Instant,
    ) -> Option<Priority> {
        if self.is_urgent(waiting, now) || self.goes_ahead(waiting, path, now) {
            return Some(Priority::Urgent);
        }
        let bulk = self.flight.has_lost() || self.may_send_new(waiting);
        bulk.then_some(Priority::Bulk)
    }

    pub(in crate::conversation) fn urgent_fits(
        &self,
        room: usize,
        waiting: usize,
        path: &Path,
        now: Instant,
    ) -> bool {
        let new = self.goes_ahead(waiting, path, now);
        let data = if new { HEADER + waiting } else { 0 };
        let alone = self.probe.is_some() || self.speaks_of_windows(waiting, now);
        !alone && data + HEADER * self.acks.waiting() <= room
    }

    fn may_send_new(&self, waiting: usize) -> bool {
        waiting > 0 && !self.is_closed()
    }

    /// Small messages of a thin flow (what waits fits into one segment, and little is under way) do not wait for the
    /// rate, unless too much has gone ahead already.
    fn goes_ahead(&self, waiting: usize, path: &Path, now: Instant) -> bool {
        self.may_send_new(waiting)
            && waiting <= self.size.mss()
            && self.flight.unacked() <= THIN_SEGMENTS
            && self.flight.unacked_bytes() <= THIN_BYTES
            && path.congestion.may_go_ahead(now)
    }

    fn is_urgent(&self, waiting: usize, now: Instant) -> bool {
        self.speaks_of_windows(waiting, now)
            || self.probe.is_some()
            || is_due(self.acks.due(), now)
            || is_due(self.copy_due(), now)
    }

    /// Whether a window is to be told, or asked for.
    fn speaks_of_windows(&self, waiting: usize, now: Instant) -> bool {
        self.advertised.is_due(now) || self.asks_for_window(waiting, now)
    }

    fn asks_for_window(&self, waiting: usize, now: Instant) -> bool {
        waiting > 0 && self.is_closed() && is_due(self.remote_window.asks_at(), now)
    }
}

/// The packets.
impl Paced {
    pub(in crate::conversation) fn build(
        &mut self,
        priority: Priority,
        source: Source,
        path: &mut Path,
        now: Now,
        out: &mut [u8],
    ) -> usize {
        let mut packet = Packet {
            out,
            len: 0,
            most: self.size.mtu(),
        };
        match priority {
            Priority::Urgent => self.build_urgent(source, path, now, &mut packet),
            Priority::Bulk => self.build_bulk(source, path, now, &mut packet),
        }
        packet.len
    }

    fn build_urgent(&mut self, source: Source, path: &mut Path, now: Now, packet: &mut Packet) {
        let Source { stream, pool, .. } = source;
        let (mtu, longest) = (self.size.mtu(), self.longest());
        let ahead = self.goes_ahead(stream.len(), path, now.time);
        let new = ahead.then(|| self.cut(stream, pool)).flatten();
        if new.is_some() || self.acks.must_gather(now.time) {
            self.gather_acks(path, now.time);
        }
        if let Some(sn) = new {
            self.write(sn, Why::Needed, path, now, packet);
            self.plan_copies(sn, path, now.time);
        }
        // before the acks, which would leave no room for a whole segment
        packet.allow(longest);
        if let Some(sn) = self.probe.take() {
            let known = self.flight.data(sn).is_some();
            if known && !self.write(sn, Why::Needed, path, now, packet) {
                self.probe = Some(sn);
            }
        }
        // an ack that does not arrive is missed by nobody here: what a path may not carry any more has none
        packet.most = packet.len.max(mtu.min(ACK_PACKET_MAX));
        self.write_control(stream.len(), path, now, packet);
        packet.most = packet.len.max(mtu);
        packet.allow(longest);
        self.write_copies(path, now, packet);
        if new.is_some() && path.loss() >= LOSSY {
            self.write_along(path, now, packet);
        }
    }

    fn build_bulk(&mut self, source: Source, path: &mut Path, now: Now, packet: &mut Packet) {
        let Source { stream, pool, more } = source;
        if let Some(sn) = self.flight.take_lost() {
            packet.allow(self.longest());
            self.write(sn, Why::Needed, path, now, packet);
            let tail = stream.is_empty() && !more;
            self.copy_again(sn, tail, path, now.time);
            return;
        }
        if !self.may_send_new(stream.len()) {
            return;
        }
        if let Some(sn) = self.cut(stream, pool) {
            self.write(sn, Why::Needed, path, now, packet);
            if stream.is_empty() && !more {
                self.plan_copies(sn, path, now.time);
            }
        }
    }

    /// Makes a segment of the front of the stream. None if there is nothing.
    fn cut(&mut self, stream: &mut Ring, pool: &mut BufferPool) -> Option<u32> {
        let mut left = stream.len().min(self.size.mss());
        if left == 0 {
            return None;
        }
        let mut data = pool.take_packet(left);
        while left > 0 {
            let n = stream.front().len().min(left);
            data.extend_from_slice(&stream.front()[..n]);
            stream.consume(n, pool);
            left -= n;
        }
        self.note_window();
        Some(self.flight.add(data))
    }

    /// Appends a segment to the packet if it fits.
    fn write(&mut self, sn: u32, why: Why, path: &mut Path, now: Now, packet: &mut Packet) -> bool {
        let Some(data) = self.flight.data(sn) else {
            return false;
        };
        let header = Header {
            cmd: cmd::PUSH,
            sn,
            len: data.len() as u32,
            ..self.header(now)
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

    /// A header that tells the window.
    fn header(&self, now: Now) -> Header {
        Header {
            conv: self.conv,
            cmd: cmd::WINS,
            frg: 0,
            wnd: self.advertised.wnd(),
            ts: now.clock,
            sn: 0,
            una: self.advertised.una(),
            len: 0,
        }
    }

    fn gather_acks(&mut self, path: &Path, now: Instant) {
        let loss = match self.acks.are_few() {
            true => (path.loss(), path.loss_after_loss()),
            false => path.ack_loss(),
        };
        let delay = acks::delay(path.congestion.srtt());
        self.acks.gather(loss, self.advertised.una(), delay, now);
    }

    /// Acks, and what concerns windows. `waiting`: bytes of the stream that were not taken yet.
    fn write_control(&mut self, waiting: usize, path: &Path, now: Now, packet: &mut Packet) {
        let wins = self.header(now);
        if self.advertised.take_due(path.congestion.srtt(), now.time) {
            packet.append(&wins, &[]);
        }
        if self.asks_for_window(waiting, now.time) {
            let wask = Header {
                cmd: cmd::WASK,
                ..wins
            };
            packet.append(&wask, &[]);
            self.remote_window.on_ask(now.time);
        }
        for (sn, ts) in self.acks.take(packet.room() / HEADER) {
            let ack = Header {
                cmd: cmd::ACK,
                sn,
                ts,
                ..wins
            };
            packet.append(&ack, &[]);
        }
    }

    /// The copies that are due.
    fn write_copies(&mut self, path: &mut Path, now: Now, packet: &mut Packet) {
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
                self.write(sn, Why::Copy, path, now, packet);
            }
        }
    }

    /// Fills the packet with small segments that are still unacknowledged: KCP drops what it already has.
    fn write_along(&mut self, path: &mut Path, now: Now, packet: &mut Packet) {
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
            self.write(sn, Why::Along, path, now, packet);
        }
    }

    /// Plans copies of a segment, so many that all are lost only a few times in a thousand, spaced ever further.
    fn plan_copies(&mut self, sn: u32, path: &Path, now: Instant) {
        let loss = path.loss();
        if loss < LOSSY {
            return;
        }
        let copies = (ALL_LOST / loss).ln() / path.loss_after_loss().ln();
        for i in 1..=(copies.ceil().max(1.0) as usize).min(COPIES_MAX) as u64 {
            self.copies
                .push(Reverse((now.after(2 * MS * i * (i + 1)), sn)));
        }
    }

    /// A segment goes again. It holds up everything behind it, the more the oftener it was lost; and where nothing new is
    /// to be sent the line is free for a copy.
    fn copy_again(&mut self, sn: u32, tail: bool, path: &Path, now: Instant) {
        let loss = path.loss();
        let again = i32::from(self.flight.sends(sn)) - 1;
        if loss >= LOSSY && tail {
            self.plan_copies(sn, path, now);
        } else if again >= 2 && loss.powi(again) < LOST_AGAIN {
            self.copies.push(Reverse((now.after(4 * MS), sn)));
        }
    }
}
