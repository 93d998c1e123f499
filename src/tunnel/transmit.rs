//! Which datagram leaves next: first what answers or is urgent, then bulk at its path's rate, the sessions of a path and
//! the paths in turn.

use super::scheduler::{Outgoing, Timer};
use super::{DATAGRAM_MAX, Tunnel, clock};
use crate::conversation::Priority;
use crate::path::{Local, headers};
use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// The most datagrams of a GSO batch (Linux, udp(7): UDP_MAX_SEGMENTS was 64 until 6.8), and their bytes: what one datagram of
/// IP may hold, for the system cuts a GSO batch up as late as it can.
const GSO_DATAGRAMS_MAX: usize = 64;
const GSO_BYTES_MAX: usize = 65_000;
/// Where nothing was heard from the other end of `udp_connect` for so long, the system chooses the source
/// address anew: the way there may be another one by now.
const LOCAL_HOLDS: Duration = Duration::from_secs(10);

/// Datagrams that leave together: `len` bytes, of which every datagram has `segment`, and the last the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Where they go.
    pub addr: SocketAddr,
    /// Where to send from: the address and the socket that the other end has asked.
    pub local: Local,
    /// Bytes in all.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub segment: usize,
    /// Whether their path carries them.
    pub fit: Fit,
}

/// How the size of datagrams stands to what their path is known to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// The path carries it.
    Fits,
    /// It is there to find that out: it must not be cut up, and may be refused.
    Probe,
    /// It is too long, and cannot be made shorter: IP may cut it up.
    Long,
}

impl Transmit {
    fn of_one(addr: SocketAddr, local: Local, len: usize) -> Transmit {
        Transmit {
            addr,
            local,
            len,
            segment: len,
            fit: Fit::Fits,
        }
    }
}

/// What there is to send next, before it is sealed.
struct Next {
    addr: SocketAddr,
    /// Where what it answers has come to, if its path does not know better.
    asked: Option<Local>,
    len: usize,
    kind: Kind,
    /// See `Outgoing`.
    psk: Option<u32>,
}

impl Next {
    /// A packet of `len` bytes that answers nothing.
    fn unasked((len, addr): (usize, SocketAddr), kind: Kind) -> Next {
        Next {
            addr,
            asked: None,
            len,
            kind,
            psk: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing follows it in its batch.
    Alone,
    /// Likewise; it is as long as it is.
    Probe,
    Control,
    Urgent,
    /// Of this path.
    Bulk(u32),
}

impl Tunnel {
    /// The next datagrams to send, built in `out` one behind the other: as many for the same address as would leave one after
    /// the other now, and as fit into `out` and into one call of the system. `out` has room for `DATAGRAM_MAX` bytes at least;
    /// where it has no more, each leaves alone.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let (mut transmit, first) = self.first_datagram(now, out)?;
        if transmit.fit != Fit::Fits {
            return Some(transmit);
        }
        let most = out.len().min(GSO_BYTES_MAX);
        for _ in 1..GSO_DATAGRAMS_MAX {
            if transmit.len + DATAGRAM_MAX.max(transmit.segment) > most {
                break;
            }
            let Some(len) =
                self.further_datagram(now, &first, transmit.segment, &mut out[transmit.len..])
            else {
                break;
            };
            transmit.len += len;
            if len < transmit.segment {
                break;
            }
        }
        Some(transmit)
    }

    fn first_datagram(&mut self, now: Instant, out: &mut [u8]) -> Option<(Transmit, Next)> {
        if let Some((addr, len)) = self.show_new_key(now, out) {
            let next = Next::unasked((len, addr), Kind::Alone);
            let local = self.local_for(addr);
            return Some((Transmit::of_one(addr, local, len), next));
        }
        let next = self.next_unwithheld(now, out)?;
        let (most, local, size) = match self.paths.id_of(next.addr) {
            Some(path_id) => {
                let dialled = self.peer.is_at(next.addr);
                let path = &mut self.paths[path_id];
                path.sent_at = now;
                let lost = dialled && now.since(path.liveness.heard_at()) >= LOCAL_HOLDS;
                let most = match next.kind {
                    Kind::Probe => next.len,
                    _ => path.packet_size(),
                };
                let mut local = path.liveness.local();
                local.ip = local.ip.filter(|_| !lost);
                if let Some(asked) = next.asked {
                    local.socket = asked.socket;
                }
                (most, local, path.size.size())
            }
            // an answer to somebody unknown: padding must not make it longer than what it answers
            None => (next.len, next.asked.unwrap_or_default(), usize::MAX),
        };
        let len = match next.psk {
            Some(serial) => self.packets.seal_under(serial, out, next.len, most),
            None => self.packets.seal_for(next.addr, out, next.len, most),
        };
        self.count_sent(len);
        let mut transmit = Transmit::of_one(next.addr, local, len);
        transmit.fit = match next.kind {
            Kind::Probe => Fit::Probe,
            _ if len + headers(&next.addr) > size => Fit::Long,
            _ => Fit::Fits,
        };
        Some((transmit, next))
    }

    /// This end of the path to an address.
    fn local_for(&self, addr: SocketAddr) -> Local {
        let path = self.paths.to(addr);
        path.map_or(Local::default(), |path| path.liveness.local())
    }

    /// One more datagram for a GSO batch that began with `first`: none if the next one is for somebody else, or longer than
    /// those before it.
    fn further_datagram(
        &mut self,
        now: Instant,
        first: &Next,
        segment: usize,
        out: &mut [u8],
    ) -> Option<usize> {
        if first.psk.is_some() || self.withholds(first.addr, &[1; 4]) {
            return None;
        }
        let most = segment - self.packets.overhead();
        let len = match first.kind {
            Kind::Control => {
                let socket = |asked: Option<Local>| asked.map(|local| local.socket);
                let same =
                    |p: &Outgoing| p.to == first.addr && socket(p.asked) == socket(first.asked);
                let fits = |p: &&Outgoing| {
                    same(p) && p.packet.len() <= most && !p.probe && p.psk.is_none()
                };
                self.scheduler.first_ready().filter(fits)?;
                self.next_control(out)?.len
            }
            // the next may be as long as a packet of this path can be
            Kind::Bulk(path_id) if first.len == self.paths[path_id].packet_size() => {
                self.build_from(path_id, most, now, out)?.len
            }
            Kind::Urgent => self.build_urgent_for(first.addr, most, now, out)?,
            Kind::Bulk(_) | Kind::Alone | Kind::Probe => return None,
        };
        let len = self.packets.seal_padded_for(first.addr, out, len, most);
        self.count_sent(len);
        Some(len)
    }

    /// A datagram of `len` bytes leaves.
    pub(super) fn count_sent(&mut self, len: usize) {
        self.counters.sent += 1;
        self.counters.sent_bytes += len as u64;
    }

    /// The next packet that may leave under the key that there is.
    fn next_unwithheld(&mut self, now: Instant, out: &mut [u8]) -> Option<Next> {
        loop {
            let next = self.next_packet(now, out)?;
            if next.psk.is_some() || !self.withholds(next.addr, &out[..next.len]) {
                return Some(next);
            }
        }
    }

    fn next_packet(&mut self, now: Instant, out: &mut [u8]) -> Option<Next> {
        if let Some(next) = self.next_control(out) {
            return Some(next);
        }
        while let Some(id) = self.scheduler.next_urgent() {
            if let Some(built) = self.build(id, Priority::Urgent, now, out) {
                return Some(Next::unasked(built, Kind::Urgent));
            }
        }
        while let Some(path_id) = self.scheduler.next_path() {
            if let Some(next) = self.build_from(path_id, usize::MAX, now, out) {
                return Some(next);
            }
        }
        None
    }

    fn next_control(&mut self, out: &mut [u8]) -> Option<Next> {
        let Outgoing {
            to: addr,
            asked,
            probe,
            psk,
            packet,
        } = self.scheduler.next_ready()?;
        let len = packet.len().min(out.len());
        out[..len].copy_from_slice(&packet[..len]);
        self.buffers.pool.give_packet(packet);
        Some(Next {
            addr,
            asked,
            len,
            kind: if probe { Kind::Probe } else { Kind::Control },
            psk,
        })
    }

    /// Has a session write a packet, and puts it back into the queues if it has more.
    fn build(
        &mut self,
        id: u32,
        priority: Priority,
        now: Instant,
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        let entry = self.sessions.get_mut(id)?;
        let (addr, session) = (entry.addr(), &mut entry.session);
        if session.state.is_over() {
            self.free_place(id);
            return None;
        }
        let path = &mut self.paths[session.path];
        if !path.reaches() {
            return None;
        }
        session.conversation.set_mtu(path.packet_size());
        let len = session.build(
            priority,
            &mut self.buffers.pool,
            path,
            clock(&self.settings, now),
            out,
        );
        let path_id = session.path;
        if len > 0 {
            let owed = session.conversation.unacked() > 0;
            let path = &mut self.paths[path_id];
            path.size.on_sent(len + path.overhead, now);
            path.note_unanswered(owed, now);
        }
        self.charge(path_id, len, now);
        self.drive(id, now);
        self.free_place(id);
        (len > 0).then_some((len, addr))
    }

    /// The next urgent packet, if it is for `addr` and not longer than `most`.
    fn build_urgent_for(
        &mut self,
        addr: SocketAddr,
        most: usize,
        now: Instant,
        out: &mut [u8],
    ) -> Option<usize> {
        let id = self.scheduler.first_urgent()?;
        let entry = &self.sessions[id];
        let path = &self.paths[entry.session.path];
        if entry.addr() != addr || !entry.session.urgent_fits(most, path, now) {
            return None;
        }
        self.scheduler.next_urgent();
        let (len, _) = self.build(id, Priority::Urgent, now, &mut out[..most])?;
        Some(len)
    }

    /// The next bulk packet of a path, if its rate allows one and it is no longer than `most`: a session that was at an address
    /// of the other family may have longer ones.
    fn build_from(
        &mut self,
        path_id: u32,
        most: usize,
        now: Instant,
        out: &mut [u8],
    ) -> Option<Next> {
        loop {
            let path = &mut self.paths[path_id];
            if !path.reaches() {
                self.empty(path_id);
                return None;
            }
            let id = self.scheduler.first_bulk(path_id)?;
            let release = path.congestion.release_time();
            if release > now {
                // too much in flight: an acknowledgement will wake it
                self.scheduler.set_by(Timer::Path(path_id), release);
                return None;
            }
            let session = &self.sessions[id].session;
            if !session.state.is_over() && session.conversation.longest() > most {
                return None;
            }
            self.scheduler.next_bulk(path_id);
            if let Some(built) = self.build(id, Priority::Bulk, now, out) {
                self.scheduler.activate(path_id);
                return Some(Next::unasked(built, Kind::Bulk(path_id)));
            }
        }
    }

    /// Nothing can be sent to a path's address: its sessions leave the queue until something can.
    fn empty(&mut self, path_id: u32) {
        while let Some(id) = self.scheduler.next_bulk(path_id) {
            self.free_place(id);
        }
    }

    /// Puts a session into the queue for what it wants to send.
    pub(super) fn enqueue(&mut self, id: u32, now: Instant) {
        let session = &self.sessions[id].session;
        let path = &self.paths[session.path];
        if !path.reaches() {
            return;
        }
        match session.wants(path, now) {
            Some(Priority::Urgent) => self.scheduler.queue_urgent(id),
            Some(Priority::Bulk) => self.scheduler.queue_bulk(id, session.path),
            None => {}
        }
    }

    /// Moves what plain KCP has put out into the queue of what leaves.
    pub(super) fn take_packets(&mut self, id: u32, now: Instant) {
        let entry = &mut self.sessions[id];
        let to = entry.addr();
        let conversation = &mut entry.session.conversation;
        if !conversation.has_packets() {
            return;
        }
        let owed = conversation.unacked() > 0;
        let path = &mut self.paths[entry.session.path];
        path.sent_at = now;
        path.note_unanswered(owed, now);
        let reaches = path.reaches();
        while let Some(packet) = entry.session.conversation.next_packet() {
            let refused = match reaches {
                true => self.scheduler.offer(Outgoing::unasked(to, packet)),
                false => Some(packet),
            };
            // KCP repeats what finds no room
            if let Some(packet) = refused {
                self.buffers.pool.give_packet(packet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::HEADER;
    use crate::settings::Settings;

    const NOW: Instant = Instant::ZERO;

    fn tunnel() -> (Tunnel, SocketAddr) {
        let settings = Settings {
            keepalive: Duration::ZERO,
            ..Settings::default()
        };
        let peer = "192.0.2.1:9".parse().expect("address");
        let mut tunnel = Tunnel::new(settings, NOW);
        tunnel.set_peer(NOW, peer);
        (tunnel, peer)
    }

    #[test]
    fn nothing_longer_follows_in_a_batch() {
        let (mut tunnel, peer) = tunnel();
        for len in [20, 20, 10, 10, 30] {
            tunnel.queue_packet(peer, None, &vec![0; len]);
        }
        let mut out = [0; 10_000];
        let mut transmits = || tunnel.poll_transmit(NOW, &mut out);
        for expected in [(50, 20), (10, 10), (30, 30)] {
            let transmit = transmits().expect("a datagram");
            assert_eq!((transmit.len, transmit.segment), expected);
        }
        assert_eq!(transmits(), None);
    }

    #[test]
    fn small_messages_of_many_sessions_leave_together() {
        let (mut tunnel, peer) = tunnel();
        for len in [50, 50, 20, 50, 60] {
            let id = tunnel.open(NOW).expect("a session");
            tunnel.input(id)[..len].fill(7);
            tunnel.filled(NOW, id, len);
        }
        let mut out = [0; 10_000];
        let mut lengths = Vec::new();
        while let Some(transmit) = tunnel.poll_transmit(NOW, &mut out) {
            assert_eq!(transmit.addr, peer);
            lengths.push((transmit.len, transmit.segment));
        }
        // each with a header of KCP, its dial and a header of its message
        let [long, short, longest] = [50, 20, 60].map(|len| HEADER + 8 + len);
        assert_eq!(
            lengths,
            [(2 * long + short, long), (long, long), (longest, longest)]
        );
    }

    #[test]
    fn bulk_follows_full_packets_only() {
        let (mut tunnel, peer) = tunnel();
        let id = tunnel.open(NOW).expect("a session");
        let len = tunnel.input(id).len();
        tunnel.filled(NOW, id, len);
        let mut out = [0; 10_000];
        let mut first = tunnel.next_packet(NOW, &mut out).expect("bulk");
        assert!(first.addr == peer && matches!(first.kind, Kind::Bulk(_)));
        // when the path's rate allows the next
        let now = Instant::from_millis(100);
        let full = std::mem::replace(&mut first.len, 100);
        assert_eq!(tunnel.further_datagram(now, &first, 100, &mut out), None);
        first.len = full;
        let next = tunnel.further_datagram(now, &first, full, &mut out);
        assert_eq!(next, Some(full));
    }
}
