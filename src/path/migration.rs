//! Where the other end of a path may have moved to, and which addresses it has left. Whether it has moved, and what follows
//! for its sessions, is decided in `tunnel::migration`.

use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// An address that may be somebody's new one is pinged again after so long, then after twice as long, and so on.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// One that has answered too early is pinged again no sooner than this after the last time.
const ONCE_MORE: Duration = Duration::from_millis(20);
/// Pings for one packet from an address that is not validated, and the most that are saved up.
pub(crate) const PINGS_EACH: u32 = 3;
const PINGS_AHEAD: u32 = 6;
/// An address that has not answered for so long is asked no more.
const GIVE_UP: Duration = Duration::from_secs(30);
/// The most addresses that one other end may seem to have moved to.
const PROBES_MAX: usize = 8;
/// How long late packets from an address that was left are still taken.
const LATE_SPAN: Duration = Duration::from_secs(10);
/// The most addresses of which it is known that an end has left them.
const LEFT_MAX: usize = 8;

/// An address that an end may have moved to.
#[derive(Clone, Copy)]
struct Probe {
    addr: SocketAddr,
    /// Since when nothing may have been heard from the old address, or the end has not moved.
    since: Instant,
    began: Instant,
    next: Instant,
    asked: u32,
    asked_at: Instant,
    /// Pings that may still go there: an address that was named to us gets them until it is given up, one that only packets
    /// have come from no more than so many for each.
    pings: u32,
}

/// What the answer of an address that an end may have moved to says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answered {
    /// Nothing: it was not asked for this path.
    Unknown,
    /// It has to answer once more.
    TooEarly,
    /// The other end is there.
    Moved,
}

/// What a path knows of the other end's moves.
#[derive(Default)]
pub(crate) struct Migration {
    /// Somebody else is at its address now; where it is itself is not known.
    homeless: bool,
    probes: Vec<Probe>,
    /// The addresses that it has left lately, and when; the last of them last.
    left: Vec<(SocketAddr, Instant)>,
}

impl Migration {
    /// Whether somebody else is at its address now.
    pub(crate) fn is_homeless(&self) -> bool {
        self.homeless
    }

    /// Somebody else is at its address.
    pub(crate) fn lose_address(&mut self) {
        self.homeless = true;
    }

    /// It is at another address than before.
    pub(crate) fn arrive(&mut self, from: SocketAddr, now: Instant) {
        if !std::mem::take(&mut self.homeless) {
            self.leave(from, now);
        }
    }

    /// Whether it was at an address a moment ago.
    pub(crate) fn has_left(&self, addr: SocketAddr, now: Instant) -> bool {
        let late = |at: Instant| now.since(at) < LATE_SPAN;
        let mut all = self.left.iter();
        all.any(|(left, at)| *left == addr && late(*at))
    }

    /// Whether it came to its address a moment ago.
    pub(crate) fn has_moved(&self, now: Instant) -> bool {
        let last = self.left.last();
        last.is_some_and(|(_, at)| now.since(*at) < LATE_SPAN)
    }

    fn leave(&mut self, addr: SocketAddr, now: Instant) {
        let stale = |(_, at): &(SocketAddr, Instant)| now.since(*at) >= LATE_SPAN;
        self.left.retain(|left| !stale(left));
        if self.left.len() >= LEFT_MAX {
            self.left.remove(0);
        }
        self.left.push((addr, now));
    }

    /// The addresses that it has left lately, which are another path's from now on.
    pub(crate) fn take_left(&mut self) -> Vec<(SocketAddr, Instant)> {
        std::mem::take(&mut self.left)
    }

    /// Takes over what another path's end, which is the same, has left.
    pub(crate) fn join(&mut self, left: Vec<(SocketAddr, Instant)>) {
        for (addr, at) in left {
            self.leave(addr, at);
        }
    }

    /// An address that the other end may be at already has brought one more packet, which is worth so many pings. False: it
    /// is not one yet.
    pub(crate) fn add_pings(&mut self, addr: SocketAddr, pings: u32) -> bool {
        let known = self.probes.iter_mut().find(|p| p.addr == addr);
        let Some(probe) = known else { return false };
        let most = pings.max(PINGS_AHEAD);
        probe.pings = probe.pings.saturating_add(pings).min(most);
        true
    }

    /// The other end may be at an address, which is worth so many pings. Returns the one that is given up for it, if there
    /// are too many.
    pub(crate) fn add(&mut self, addr: SocketAddr, pings: u32, now: Instant) -> Option<SocketAddr> {
        let full = self.probes.len() >= PROBES_MAX;
        let given_up = full.then(|| self.probes.remove(0).addr);
        self.probes.push(Probe {
            addr,
            since: now,
            began: now,
            next: now,
            asked: 0,
            asked_at: now,
            pings,
        });
        given_up
    }

    /// The other end is not at this address.
    pub(crate) fn remove(&mut self, addr: SocketAddr) {
        self.probes.retain(|p| p.addr != addr);
    }

    /// All addresses that it may be at, which are no more.
    pub(crate) fn take_all(&mut self) -> Vec<SocketAddr> {
        let all = std::mem::take(&mut self.probes);
        all.iter().map(|p| p.addr).collect()
    }

    /// The addresses that are to be pinged now; they count as pinged. `only`: no other than this one.
    pub(crate) fn ask(&mut self, only: Option<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let mut due = Vec::new();
        for probe in &mut self.probes {
            let wanted = only.is_none_or(|addr| probe.addr == addr);
            if wanted && probe.next <= now && probe.pings > 0 {
                probe.pings -= 1;
                probe.next = now.after(ASK_AGAIN << probe.asked.min(5));
                (probe.asked, probe.asked_at) = (probe.asked + 1, now);
                due.push(probe.addr);
            }
        }
        due
    }

    /// Forgets the addresses that have not answered for too long; which they were.
    pub(crate) fn give_up(&mut self, now: Instant) -> Vec<SocketAddr> {
        let stale = |p: &&Probe| now.since(p.began) >= GIVE_UP;
        let gone = self.probes.iter().filter(stale).map(|p| p.addr).collect();
        self.probes.retain(|p| !stale(&p));
        gone
    }

    /// When `ask` or `give_up` has something to do.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        let next = |p: &Probe| match p.pings {
            0 => p.began.after(GIVE_UP),
            _ => p.next,
        };
        self.probes.iter().map(next).min()
    }

    /// An address has answered. The old one was last heard at `heard_at`, and may need `patience` to be heard: if
    /// it was meanwhile, or could not be yet, the new one has to answer once more.
    pub(crate) fn on_pong(
        &mut self,
        addr: SocketAddr,
        heard_at: Instant,
        patience: Duration,
        now: Instant,
    ) -> Answered {
        let known = self.probes.iter_mut().find(|p| p.addr == addr);
        let Some(probe) = known else {
            return Answered::Unknown;
        };
        let spoken = heard_at >= probe.since;
        if self.homeless || !(spoken || now.since(probe.began) < patience) {
            return Answered::Moved;
        }
        let patient = probe.began.after(patience);
        probe.since = now;
        probe.next = patient.max(probe.asked_at.after(ONCE_MORE));
        (probe.asked, probe.pings) = (0, probe.pings.max(PINGS_EACH));
        Answered::TooEarly
    }
}
