//! Which datagram leaves next: first what answers or is urgent, then bulk at its path's rate, the sessions of a path and
//! the paths in turn.

use super::{Lane, Tunnel, clock, lane_key};
use crate::conversation::Priority;
use crate::session::State;
use crate::time::Time;
use std::net::SocketAddr;

impl Tunnel {
    /// The next datagram to send, built in `out` (at least `DATAGRAM_MAX` bytes): its length and address.
    pub fn transmit(&mut self, now: Time, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (len, addr) = self.next_packet(now, out)?;
        let most = match self.addresses.get(&addr) {
            Some(lane) => {
                let lane = &mut self.lanes[*lane as usize];
                lane.path.sent_at = now;
                lane.mtu
            }
            // an answer to somebody unknown: padding must not make it longer than what it answers
            None => len,
        };
        self.counters.sent += 1;
        Some((self.packets.close(out, len, most), addr))
    }

    fn next_packet(&mut self, now: Time, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        if let Some((addr, packet)) = self.control.pop_front() {
            let len = packet.len().min(out.len());
            out[..len].copy_from_slice(&packet[..len]);
            self.tap.borrow_mut().recycle(packet);
            return Some((len, addr));
        }
        while let Some(id) = self.urgent.pop_front() {
            self.sessions[id as usize].session.in_urgent = false;
            if let Some(sent) = self.build(id, Priority::Urgent, now, out) {
                return Some(sent);
            }
        }
        while let Some(lane) = self.active.pop_front() {
            self.lanes[lane as usize].active = false;
            if let Some(sent) = self.build_from(lane, now, out) {
                return Some(sent);
            }
        }
        None
    }

    /// Has a session write a packet, and puts it back into the queues if it has more.
    fn build(
        &mut self,
        id: u32,
        priority: Priority,
        now: Time,
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        let entry = self.sessions.get_mut(id as usize)?;
        let session = &mut entry.session;
        if let State::Reset { .. } | State::Gone = session.state {
            self.release(id);
            return None;
        }
        let addr = entry.addr;
        let path = &mut self.lanes[session.path as usize].path;
        let len = session.build(
            priority,
            &mut self.spares,
            path,
            clock(&self.settings, now),
            out,
        );
        self.touch(id, now);
        self.release(id);
        (len > 0).then_some((len, addr))
    }

    /// The next bulk packet of a path, if its rate allows one.
    fn build_from(&mut self, lane: u32, now: Time, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            let l = &mut self.lanes[lane as usize];
            if l.ready.is_empty() {
                return None;
            }
            let release = l.path.rate.release();
            if release > now {
                // too much in flight: an acknowledgement will wake it
                self.wheel.set(lane_key(lane), release);
                return None;
            }
            let id = l.ready.pop_front()?;
            self.sessions[id as usize].session.in_ready = false;
            if let Some(sent) = self.build(id, Priority::Bulk, now, out) {
                self.wake(lane);
                return Some(sent);
            }
        }
    }

    /// Puts a session into the queue for what it wants to send.
    pub(super) fn enqueue(&mut self, id: u32, now: Time) {
        let session = &mut self.sessions[id as usize].session;
        let lane = &mut self.lanes[session.path as usize];
        match session.wants(&lane.path, now) {
            Some(Priority::Urgent) if !session.in_urgent => {
                session.in_urgent = true;
                self.urgent.push_back(id);
            }
            Some(Priority::Bulk) if !session.in_ready => {
                session.in_ready = true;
                lane.ready.push_back(id);
                let lane = session.path;
                self.wake(lane);
            }
            _ => {}
        }
    }

    /// Lets a path's sessions have a look at its rate again.
    pub(super) fn wake(&mut self, lane: u32) {
        let Some(l) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        if !l.active && !l.ready.is_empty() {
            l.active = true;
            self.active.push_back(lane);
        }
    }

    /// Moves what plain KCP has put out into the queue of what leaves.
    pub(super) fn take_packets(&mut self, id: u32, now: Time) {
        let entry = &mut self.sessions[id as usize];
        let packets = entry.session.conversation.take_packets();
        if packets.is_empty() {
            return;
        }
        let lane: &mut Lane = &mut self.lanes[entry.session.path as usize];
        lane.path.sent_at = now;
        self.control
            .extend(packets.into_iter().map(|p| (entry.addr, p)));
    }
}
