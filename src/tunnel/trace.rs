//! What the headers of packets tell of who has sent them: of a session, all its packets so far; of a packet, in summary.
//! By this a session is known again at another address, which is decided in `migration`.

use crate::path::{CLOCK_SLACK, RemoteClock};
use crate::segment::{Header, ahead, cmd};
use crate::time::Instant;

/// How long before the first packet that came another first one may have been sent from a port that was left since: somebody may
/// have held it back, milliseconds.
const HELD_BACK: i32 = 600_000;
/// How far behind what was heard last a late packet's numbers may be.
const LATE: i32 = 4096;

/// What a session's packets have told of the other end's state so far.
#[derive(Default)]
pub(super) struct Trace {
    /// The first timestamp, and the first that came after the other end had something of ours.
    first_ts: Option<u32>,
    heard_ts: Option<u32>,
    una: u32,
    /// One more than the highest number.
    next: u32,
}

/// What the headers of a packet tell.
pub(super) struct HeaderSummary {
    una: u32,
    /// The sender's clock; acks echo ours instead.
    pub(super) ts: Option<u32>,
    next: Option<u32>,
    /// The first segment of a session is in it, from an end that has heard nothing yet.
    pub(super) has_first: bool,
}

impl HeaderSummary {
    pub(super) fn of(headers: &[Header]) -> HeaderSummary {
        let mut summary = HeaderSummary {
            una: 0,
            ts: None,
            next: None,
            has_first: false,
        };
        headers.iter().for_each(|header| summary.take(header));
        summary
    }

    fn take(&mut self, header: &Header) {
        self.una = header.una;
        if header.cmd != cmd::ACK {
            self.ts = Some(header.ts);
        }
        if header.cmd == cmd::PUSH {
            self.next = Some(header.sn.wrapping_add(1));
            self.has_first |= header.sn == 0 && header.una == 0;
        }
    }
}

impl Trace {
    /// Whether anything with data has come.
    pub(super) fn has_begun(&self) -> bool {
        self.next > 0
    }

    /// Whether the other end is known to have something of ours.
    pub(super) fn is_heard(&self) -> bool {
        self.heard_ts.is_some()
    }

    pub(super) fn note(&mut self, summary: &HeaderSummary) {
        if ahead(summary.una, self.una) > 0 {
            self.una = summary.una;
        }
        if let Some(next) = summary.next.filter(|next| ahead(*next, self.next) > 0) {
            self.next = next;
        }
        if let Some(ts) = summary.ts {
            self.first_ts.get_or_insert(ts);
            if summary.una > 0 {
                self.heard_ts.get_or_insert(ts);
            }
        }
    }

    /// Whether the first packet of a session can be this session's own, or an old copy of it: once its sender had
    /// something of ours, and so knew that it had arrived, it was not sent again. `near`: it comes from the same machine or NAT,
    /// at a port that may have been left since.
    pub(super) fn may_have_begun_at(
        &self,
        ts: u32,
        near: bool,
        clock: &RemoteClock,
        now: Instant,
    ) -> bool {
        let Some(first) = self.first_ts else {
            return true;
        };
        let slack = if near { HELD_BACK } else { CLOCK_SLACK };
        let not_before = ahead(ts, first) >= -slack;
        let not_after = match self.heard_ts {
            Some(heard) => ahead(ts, heard) <= 0,
            None => clock.may_follow(ts, now) || clock.is_late(ts),
        };
        not_before && not_after
    }

    /// Whether the numbers of a packet are such as the other end can send next, or has sent a moment ago. `sent`: one more
    /// than the highest number that we have sent; `window`: the widest that we receive.
    pub(super) fn fits(&self, headers: &[Header], sent: u32, window: i32) -> bool {
        headers.iter().all(|header| {
            let una = ahead(header.una, self.una) >= -LATE && ahead(header.una, sent) <= 0;
            una && match header.cmd {
                cmd::PUSH => {
                    let place = ahead(header.sn, self.next);
                    -window <= place && place <= window
                }
                cmd::ACK => ahead(header.sn, sent) < 0 && ahead(header.sn, self.una) >= -window,
                _ => true,
            }
        })
    }
}
