//! What the log says of datagrams that are dropped, of connections that have ended and of the size of packets, so that
//! strangers cannot fill it. What it says of the peer is in `peer`.

use super::summary::Summary;
use crate::session::Cause;
use crate::throttle::{PerSecond, Throttle};
use crate::time::Instant;
use std::net::SocketAddr;

/// Kinds of complaints that are told apart, at most.
const KINDS_MAX: usize = 32;
/// Lines on the size of packets, a second: without a key, a stranger has as many paths as he likes.
const SIZE_LINES: u32 = 4;

/// What was said lately.
#[derive(Default)]
pub(super) struct Reports {
    /// Why datagrams were dropped: of each kind there are ever fewer lines while it lasts.
    complaints: Vec<(Box<str>, Throttle)>,
    summary: Summary,
    sizes: PerSecond,
}

impl Reports {
    /// A datagram was dropped, and this is why.
    pub(super) fn complain(&mut self, now: Instant, from: SocketAddr, what: &str) {
        let known = self.complaints.iter().position(|(kind, _)| **kind == *what);
        let place = known.unwrap_or_else(|| {
            self.complaints.truncate(KINDS_MAX - 1);
            self.complaints.push((what.into(), Throttle::default()));
            self.complaints.len() - 1
        });
        match self.complaints[place].1.admit(now) {
            Some(0) => log::warn!("a datagram from {from} was dropped: {what}"),
            Some(n) => log::warn!(
                "a datagram from {from} was dropped: {what} ({n} more since the last such line)"
            ),
            None => {}
        }
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
        self.summary.due()
    }

    /// Writes the line about connections that have ended, if it is due or `all` is over.
    pub(super) fn sum_up(&mut self, all: bool, now: Instant) {
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
