//! What a tunnel has done and what it holds, in numbers: for its log and its statistics (`stats`), and to see in tests that
//! nothing stays behind.

use super::Tunnel;
use crate::path::Path;
use crate::session::Cause;

/// What a tunnel has done, in numbers that only grow.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub sent_bytes: u64,
    /// Received datagrams that were sealed and have opened.
    pub opened: u64,
    /// Bytes taken from TCP.
    pub taken: u64,
    /// Bytes given to TCP.
    pub given: u64,
    /// Sessions that began here.
    pub begun_here: u64,
    /// Sessions that the other end began.
    pub begun_there: u64,
    /// Sessions that have ended in order.
    pub ended_in_order: u64,
    /// Sessions that have ended early, by cause, in the order of `Cause::ALL`.
    pub ended: [u64; Cause::ALL.len()],
    /// Datagrams dropped because they did not open. Those of a flood that were not looked at count as the rest of it, here and
    /// below.
    pub bad_seal: u64,
    /// Datagrams dropped because they had been seen, or may have been: their nonce was; they were sent long before others of their
    /// sender; they begin a session whose number is in use or was; or they are under the psk alone, or of another process, where fresh
    /// keys were agreed on.
    pub replayed: u64,
    /// Datagrams dropped because they were too short, or malformed.
    pub malformed: u64,
    /// Datagrams dropped because they were of no session, or from an unknown address.
    pub unknown: u64,
}

/// How much of everything a tunnel holds: for its log, and to see that nothing stays behind.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Places in the table, those of sessions that are being reset or let go included.
    pub sessions: usize,
    /// Begun by other ends, not dialled yet.
    pub half_open: usize,
    /// Bytes of packets that were kept for these.
    pub half_open_bytes: usize,
    /// Numbers of ended sessions that are remembered.
    pub ended: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Packets of addresses that are not validated yet.
    pub waiting: usize,
    /// Packets that wait to leave.
    pub packets: usize,
    /// Sessions and paths in queues.
    pub queued: usize,
    /// Paths that something is known of.
    pub paths: usize,
    /// Entries in the list of paths without a session.
    pub idle_paths: usize,
    /// Servers that can be found here, if it is a rendezvous server.
    pub registrations: usize,
    /// Bytes sent and not heard of.
    pub in_flight: u64,
    /// Bytes of memory for what waits between TCP and KCP.
    pub buffers: usize,
}

impl Tunnel {
    /// Sessions in the table that are not yet over.
    pub fn sessions(&self) -> usize {
        let counters = &self.counters;
        let ended = counters.ended_in_order + counters.ended.iter().sum::<u64>();
        (counters.begun_here + counters.begun_there - ended) as usize
    }

    /// How much of everything is held.
    pub fn holdings(&self) -> Holdings {
        let in_flight = |(_, path): (u32, &Path)| path.congestion.in_flight();
        let (half_open, half_open_bytes) = self.sessions.half_open();
        Holdings {
            sessions: self.sessions.len(),
            half_open,
            half_open_bytes,
            ended: self.time_wait.len(),
            timers: self.scheduler.timers(),
            waiting: self.newcomers.waiting(),
            packets: self.scheduler.ready(),
            queued: self.scheduler.queued(),
            paths: self.paths.len(),
            idle_paths: self.paths.idle(),
            registrations: self.meeting.registrations(),
            buffers: self
                .sessions
                .iter()
                .map(|(_, entry)| entry.session.memory())
                .sum(),
            in_flight: self.paths.iter().map(in_flight).sum(),
        }
    }

    /// True when nothing is left of any session but the numbers that are remembered for `time_wait`.
    pub fn is_quiet(&self) -> bool {
        let held = self.holdings();
        let of_sessions = Holdings {
            ended: held.ended,
            waiting: held.waiting,
            paths: held.paths,
            idle_paths: held.idle_paths,
            registrations: held.registrations,
            ..Holdings::default()
        };
        held == of_sessions
            && self.farewell.deadline().is_none()
            && self.sessions.is_quiet()
            && self.events.is_empty()
            && self.paths.iter().all(|(_, path)| path.sessions == 0)
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
