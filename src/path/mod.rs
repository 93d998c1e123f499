//! A path: what is known of the way to one address and of who is there, shared by all sessions that use it. Its rate is in
//! `congestion`; the parts here are whether the address is validated, where its end may have moved to, how much may be sent
//! there without a key, how large packets may be, and when it was heard. Which paths there are is in `tunnel::paths`, and
//! nothing is sent here.

mod amplification;
mod clock;
mod liveness;
mod migration;
mod numbers;
mod size;
mod validation;

pub(crate) use amplification::AmplificationLimit;
pub(crate) use clock::{CLOCK_SLACK, RemoteClock};
pub(crate) use liveness::{ALIVE, Liveness, Unanswered};
pub(crate) use migration::{Answered, Migration, PINGS_EACH};
pub(crate) use size::Size;
pub(crate) use validation::{Challenges, Validation};

use crate::congestion::loss::Loss;
use crate::congestion::pacer::Pacer;
use crate::congestion::{Controller, Limits};
use crate::segment::ahead;
use crate::time::{Duration, Instant, MS, SEC};
use std::net::{IpAddr, SocketAddr};

/// This end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Local {
    /// The address of this machine. None: it is not known, and the system knows best.
    pub ip: Option<IpAddr>,
    /// The number of the UDP socket.
    pub socket: u16,
}

/// Bytes of IP and UDP headers before a datagram's payload.
pub fn headers(addr: &SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(_) => 28,
        SocketAddr::V6(a) if a.ip().to_ipv4_mapped().is_some() => 28,
        SocketAddr::V6(_) => 48,
    }
}

/// Paths that lose less than this get no copies, of segments or of acks.
pub const LOSSY: f64 = 0.003;
/// The share of the path's rate that copies of small messages may take.
const COPIES: f64 = 0.03;
/// And the share that small segments may take which ride along in another's datagram.
const RIDES: f64 = 0.5;

/// Bytes of a piece that goes ahead of the operator's limit, and how far.
const SMALL: usize = 400;
const AHEAD: Duration = Duration::from_millis(50);

/// Who has an address validated to move there does it within this.
const MOVES_WITHIN: Duration = Duration::from_secs(1);

/// What has gone over a path, in segments of all its sessions.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Transmissions, those of the next two included.
    pub sent: u64,
    /// Sent again because they were taken for lost.
    pub repeated: u64,
    /// Sent again ahead of need.
    pub copied: u64,
    /// Segments that have arrived, those of the next two included.
    pub received: u64,
    /// Of these, as long as the longest: a sender that always has something to send sends no others.
    pub full: u64,
    /// Arrived again.
    pub duplicate: u64,
    /// Arrived ahead of all that their session had brought before.
    pub news: u64,
    /// Left out by these.
    pub missed: u64,
    /// Of these, came later all the same: others that were sent after them had overtaken them.
    pub overtaken: u64,
    /// Bytes of data of those that had not arrived before.
    pub bytes: u64,
    longest: u32,
}

impl Counts {
    /// A segment with so many bytes has arrived; `known`: not for the first time.
    pub fn on_received(&mut self, bytes: u32, known: bool) {
        self.received += 1;
        self.longest = self.longest.max(bytes);
        self.full += u64::from(bytes == self.longest);
        self.duplicate += u64::from(known);
        self.bytes += if known { 0 } else { u64::from(bytes) };
    }

    /// A segment leaves, for the `sends`th time.
    pub fn on_sent(&mut self, sends: u8, ahead_of_need: bool) {
        self.sent += 1;
        if ahead_of_need {
            self.copied += 1;
        } else if sends > 1 {
            self.repeated += 1;
        }
    }

    /// Adds what went over another path.
    pub fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.repeated += other.repeated;
        self.copied += other.copied;
        self.received += other.received;
        self.full += other.full;
        self.duplicate += other.duplicate;
        self.news += other.news;
        self.missed += other.missed;
        self.overtaken += other.overtaken;
        self.bytes += other.bytes;
    }
}

/// What may be sent or read beside the bulk that the rate is for.
struct Budgets {
    /// For copies of small messages.
    copies: Pacer,
    /// For segments that ride along in another's datagram.
    rides: Pacer,
    /// For what is read: the operator's limit, bytes per second.
    reads: Pacer,
    down: Option<f64>,
}

impl Budgets {
    fn new(down: Option<f64>, now: Instant) -> Budgets {
        Budgets {
            copies: Pacer::new(SEC, now),
            rides: Pacer::new(SEC, now),
            reads: Pacer::new(SEC, now),
            down,
        }
    }
}

/// The way to one address, and who is there.
pub struct Path {
    /// Where it leads to; for one without an address, where it did last.
    pub addr: SocketAddr,
    /// How much may be sent when.
    pub congestion: Controller,
    /// What gets lost on the way here, seen from gaps in the segments' numbers.
    inbound: Loss,
    budgets: Budgets,
    /// Bytes around a KCP packet: IP, UDP and seal.
    pub overhead: usize,
    /// When anything was last sent there.
    pub sent_at: Instant,
    /// What has gone over it.
    pub counts: Counts,
    /// Sessions on this path.
    pub sessions: usize,
    /// The other end has opened sessions on it.
    pub(crate) used: bool,
    pub(crate) validation: Validation,
    pub(crate) clock: RemoteClock,
    pub(crate) migration: Migration,
    pub(crate) limit: AmplificationLimit,
    pub(crate) size: Size,
    pub(crate) liveness: Liveness,
}

impl Path {
    /// `seal`: what sealing adds to a packet, bytes; `most`: the size of IP packets that the configuration allows.
    pub fn new(addr: SocketAddr, seal: usize, most: usize, limits: Limits, now: Instant) -> Path {
        Path {
            addr,
            congestion: Controller::new(limits, now),
            inbound: Loss::default(),
            budgets: Budgets::new(limits.down, now),
            overhead: headers(&addr) + seal,
            sent_at: now,
            counts: Counts::default(),
            sessions: 0,
            used: false,
            validation: Validation::default(),
            clock: RemoteClock::default(),
            migration: Migration::default(),
            limit: AmplificationLimit::default(),
            size: Size::new(most, now),
            liveness: Liveness::new(now),
        }
    }

    /// Forgets what was measured of the way, which leads to `addr` now. What was counted stays, the sessions do, and what is
    /// known of the other end. Returns what it was.
    /// `same_line`: only ports differ, and what was measured is where the search for the new rate begins (RFC 9000, section 9.4).
    pub fn renew(
        &mut self,
        addr: SocketAddr,
        seal: usize,
        limits: Limits,
        same_line: bool,
        now: Instant,
    ) -> Path {
        let mut old = Path::new(addr, seal, self.size.most(), limits, now);
        if same_line {
            old.congestion = self.congestion.resume(limits, now);
        }
        std::mem::swap(self, &mut old);
        (self.counts, self.sessions, self.used) = (old.counts, old.sessions, old.used);
        std::mem::swap(&mut self.validation, &mut old.validation);
        std::mem::swap(&mut self.clock, &mut old.clock);
        std::mem::swap(&mut self.migration, &mut old.migration);
        std::mem::swap(&mut self.limit, &mut old.limit);
        std::mem::swap(&mut self.size, &mut old.size);
        std::mem::swap(&mut self.liveness, &mut old.liveness);
        old
    }

    /// The size of the largest KCP packet on it, bytes.
    pub(crate) fn packet_size(&self) -> usize {
        self.size.size() - self.overhead
    }

    /// Whether somebody has just shown that they receive at its address, and has no session there: they are about to move to it.
    pub(crate) fn awaits_move(&self, now: Instant) -> bool {
        self.sessions == 0
            && self.validation.awaits_move(MOVES_WITHIN, now)
            && !self.limit.is_spent()
    }

    /// Whether sessions may send to its address.
    pub(crate) fn reaches(&self) -> bool {
        !self.migration.is_homeless() && !self.limit.is_spent()
    }

    /// The smoothed round trip of what was delivered, or of the validation; None: neither was.
    pub(crate) fn known_rtt(&self) -> Option<Duration> {
        let measured = self.congestion.has_delivered();
        let measured = measured.then(|| self.congestion.srtt());
        measured.or(self.validation.round_trip())
    }

    /// A packet of a session leaves. `owed`: it is owed an acknowledgement.
    pub(crate) fn note_unanswered(&mut self, owed: bool, now: Instant) {
        self.liveness.on_sent(owed, self.counts.news, now);
    }

    /// The operator's limits are others from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.congestion.set_limits(limits);
        self.budgets.down = limits.down;
    }

    /// Chance that a packet is lost: the worse of the two directions, since the acks of the one are at the mercy of the other.
    /// One of which too little was seen is taken to be as the other: somebody who only sends, or only reads, learns of it.
    pub fn loss(&self) -> f64 {
        self.worse(self.congestion.chance(), self.inbound.share())
    }

    /// What was seen to be lost on the way there and on the way here, 0 to 1; None: too little was seen.
    pub fn seen_loss(&self) -> [Option<f64>; 2] {
        [self.congestion.loss().seen(), self.inbound.seen()]
    }

    /// Chance that a packet is lost when the one before it was.
    pub fn loss_after_loss(&self) -> f64 {
        let there = self.congestion.loss();
        self.worse(there.after_loss(), self.inbound.after_loss())
    }

    /// The same two chances for acks of a transfer. What is not known of either way counts as well: acks that are said twice
    /// tell the sender sooner what became of what it has sent, which is worth it beside others (`tests/tunnel/sharing.rs`).
    pub fn ack_loss(&self) -> (f64, f64) {
        let [there, here] = [self.congestion.loss(), &self.inbound];
        let chance = self.congestion.chance().max(here.share());
        (chance, there.after_loss().max(here.after_loss()))
    }

    /// The worse of what is known; of the way there if nothing is.
    fn worse(&self, there: f64, here: f64) -> f64 {
        match self.seen_loss() {
            [_, None] => there,
            [None, Some(_)] => here,
            [Some(_), Some(_)] => there.max(here),
        }
    }

    /// A new segment `sn` arrived where `expected` was next: what is between was lost or overtaken.
    pub fn on_inbound(&mut self, sn: u32, expected: u32) {
        let missed = ahead(sn, expected).clamp(0, 64);
        self.counts.missed += missed as u64;
        for _ in 0..missed {
            self.inbound.record(true);
        }
        self.inbound.record(false);
    }

    /// Whether a copy may be sent ahead of need; `bytes` of datagram are charged if so.
    pub fn may_copy(&mut self, bytes: usize, now: Instant) -> bool {
        let may = self.budgets.copies.owes_less_than(500 * MS, now);
        if may {
            self.budgets
                .copies
                .charge(bytes, self.congestion.capacity() * COPIES, now);
        }
        may
    }

    /// Whether a copy may ride along in a datagram; `bytes` are charged if so.
    pub fn may_ride(&mut self, bytes: usize, now: Instant) -> bool {
        let may =
            !self.congestion.is_congested() && self.budgets.rides.owes_less_than(100 * MS, now);
        if may {
            self.budgets
                .rides
                .charge(bytes, self.congestion.capacity() * RIDES, now);
        }
        may
    }

    /// Whether `bytes` that have arrived may be handed on now, by the operator's limit; they are charged if so. Small pieces
    /// go ahead: they are what somebody waits for.
    pub fn may_read(&mut self, bytes: usize, now: Instant) -> bool {
        let Some(down) = self.budgets.down else {
            return true;
        };
        let small = bytes < SMALL && self.budgets.reads.owes_less_than(AHEAD, now);
        let may = small || self.budgets.reads.release_time() <= now;
        if may {
            self.budgets.reads.charge(bytes, down, now);
        }
        may
    }

    /// When the next may be handed on.
    pub fn reads_at(&self) -> Instant {
        self.budgets.reads.release_time()
    }
}
