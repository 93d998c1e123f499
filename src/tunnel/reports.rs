//! What the log says of datagrams that are dropped, of connections that have ended and of the size of packets, so that
//! strangers cannot fill it. What it says of the peer is in `peer`.

use super::keyholders::{Keyholders, LATELY};
use super::summary::Summary;
use crate::session::Cause;
use crate::throttle::{PerSecond, Throttle};
use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// Kinds of complaints that are told apart, at most.
const KINDS_MAX: usize = 32;
/// Lines on the size of packets, a second: without a key, a stranger has as many paths as he likes.
const SIZE_LINES: u32 = 4;
/// Why a datagram was dropped that does not open.
const UNOPENED: &str = "it does not open with this key and method";

/// What was said lately.
#[derive(Default)]
pub(super) struct Reports {
    /// Why datagrams were dropped: of each kind there are ever fewer lines while it lasts.
    complaints: Vec<(Box<str>, Throttle)>,
    keyholders: Keyholders,
    pings: Throttle,
    summary: Summary,
    sizes: PerSecond,
}

impl Reports {
    /// A datagram was dropped, and this is why.
    pub(super) fn complain(&mut self, now: Instant, from: SocketAddr, what: &str) {
        self.complain_of(1, now, from, what);
    }

    /// So many datagrams were dropped, and this is why.
    fn complain_of(&mut self, count: u64, now: Instant, from: SocketAddr, what: &str) {
        let known = self.complaints.iter().position(|(kind, _)| **kind == *what);
        let place = known.unwrap_or_else(|| {
            self.complaints.truncate(KINDS_MAX - 1);
            self.complaints.push((what.into(), Throttle::default()));
            self.complaints.len() - 1
        });
        match self.complaints[place].1.admit_many(count, now) {
            Some(0) => log::warn!("a datagram from {from} was dropped: {what}"),
            Some(n) => log::warn!(
                "a datagram from {from} was dropped: {what} ({n} more since the last such line)"
            ),
            None => {}
        }
    }

    /// A datagram does not open. `heard_before`: since a packet from there was heard last, if one ever was. It is told at once, or
    /// after a while if nothing from there opens until then.
    pub(super) fn on_unopened(
        &mut self,
        from: SocketAddr,
        heard_before: Option<Duration>,
        now: Instant,
    ) {
        let lately = heard_before.is_some_and(|span| span < LATELY);
        if !lately && self.keyholders.on_unopened(from, now) {
            self.complain(now, from, UNOPENED);
        }
    }

    /// Something from there has opened with a key. `message`: it is of session 0.
    pub(super) fn on_opened(&mut self, from: SocketAddr, message: bool, now: Instant) {
        self.keyholders.on_opened(from, message, now);
    }

    /// A ping of somebody who is not known yet has opened with the psk.
    pub(super) fn on_ping(&mut self, from: SocketAddr, now: Instant) {
        self.keyholders.on_ping(from, now);
    }

    /// Something has come from there that only follows an answer of this end.
    pub(super) fn on_followed(&mut self, from: SocketAddr) {
        self.keyholders.on_followed(from);
    }

    /// How many datagrams have not opened that are not told yet: their sender may have the key nevertheless.
    pub(super) fn doubtful(&self) -> u64 {
        self.keyholders.doubtful()
    }

    /// A connection has ended, with so many bytes in and out. `cause`: none if in order. The level of its own line.
    pub(super) fn on_end(
        &mut self,
        cause: Option<Cause>,
        bytes: (u64, u64),
        now: Instant,
    ) -> log::Level {
        match self.summary.note(cause, bytes, now) {
            true => log::Level::Info,
            false => log::Level::Debug,
        }
    }

    /// When `sum_up` has a line to write.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let both = [self.summary.due(), self.keyholders.deadline()];
        both.into_iter().flatten().min()
    }

    /// Writes the lines about connections that have ended and about senders, if they are due or `all` is over.
    pub(super) fn sum_up(&mut self, all: bool, now: Instant) {
        while let Some(unopened) = self.keyholders.take_unopened(all, now) {
            self.complain_of(unopened.count, now, unopened.from, UNOPENED);
        }
        while let Some(pinging) = self.keyholders.take_pinging(now) {
            if self.pings.admit(now).is_some() {
                log::info!(
                    "packets from {} open with this key and method; it does nothing but ping: either it is kcptun ping, or what is sent \
                     there gets lost",
                    pinging.from
                );
            }
        }
        if all || self.summary.due().is_some_and(|due| due <= now) {
            if let Some(line) = self.summary.take(now) {
                log::info!("{line}");
            }
        }
    }

    /// A path has packets of up to `size` bytes, and had up to `before` (0: no size was found yet); `most` is what the
    /// configuration allows.
    pub(super) fn on_size(
        &mut self,
        addr: SocketAddr,
        before: usize,
        size: usize,
        most: usize,
        now: Instant,
    ) {
        if !self.sizes.admit(SIZE_LINES, now) {
            return;
        }
        if before > size {
            log::warn!("{addr}: packets of more than {size} bytes do not arrive any more");
        } else if size < most && before == 0 {
            log::info!(
                "{addr}: packets of more than {size} bytes do not arrive; kcp.mtu allows {most}"
            );
        } else {
            log::info!("{addr}: packets have up to {size} bytes");
        }
    }
}
