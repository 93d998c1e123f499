//! What the log says of connections that have ended: those that failed one by one, as long as they are few, and a line about
//! all of them once a minute. Others can open and end connections as often as they like.

use crate::number::{bytes, span};
use crate::session::Cause;
use crate::time::{Duration, Instant, SEC};
use std::fmt::Write;

/// From the first end to the line.
const SPAN: Duration = Duration::from_secs(60);
/// Failed connections that have a line of their own, in that time.
const TOLD: u32 = 10;

/// What has ended since the last line.
#[derive(Debug, Default)]
pub(super) struct Summary {
    since: Instant,
    in_order: u64,
    failed: [u64; Cause::ALL.len()],
    bytes_in: u64,
    bytes_out: u64,
    told: u32,
}

impl Summary {
    /// A connection has ended. `cause`: none if in order. Returns whether it has a line of its own at `info`.
    pub(super) fn note(
        &mut self,
        cause: Option<Cause>,
        (bytes_in, bytes_out): (u64, u64),
        now: Instant,
    ) -> bool {
        if self.count() == 0 {
            self.since = now;
        }
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        let Some(cause) = cause else {
            self.in_order += 1;
            return false;
        };
        self.failed[cause as usize] += 1;
        self.told += 1;
        self.told <= TOLD
    }

    fn count(&self) -> u64 {
        self.in_order + self.failed.iter().sum::<u64>()
    }

    /// When there is a line to write.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.count() > 0).then(|| self.since.after(SPAN))
    }

    /// The line, if anything has ended; what it tells is forgotten.
    pub(super) fn take(&mut self, now: Instant) -> Option<String> {
        let Summary {
            since,
            in_order,
            failed,
            bytes_in,
            bytes_out,
            ..
        } = std::mem::take(self);
        let failures: u64 = failed.iter().sum();
        let count = in_order + failures;
        if count == 0 {
            return None;
        }
        let ended = match count {
            1 => "1 connection has ended".into(),
            _ => {
                let span = span(now.since(since).max(SEC));
                format!("{count} connections have ended in {span}")
            }
        };
        let mut line = format!("{ended}: {} in, {} out", bytes(bytes_in), bytes(bytes_out));
        let causes = Cause::ALL.iter().zip(failed).filter(|(_, n)| *n > 0);
        for (i, (cause, n)) in causes.enumerate() {
            let before = if i == 0 { "; not in order " } else { ", " };
            // writing into a String does not fail
            let _ = write!(line, "{before}{n} ({})", cause.text());
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_one_line() {
        let mut summary = Summary::default();
        let at = Instant::from_millis;
        assert!(summary.due().is_none() && summary.take(at(0)).is_none());
        for ms in 0..1000 {
            assert!(!summary.note(None, (1_000, 10), at(5_000 + ms)));
        }
        assert_eq!(summary.due(), Some(at(65_000)));
        let line = "1000 connections have ended in 1 min 0 s: 1.00 MB in, 10.0 kB out";
        assert_eq!(summary.take(at(65_000)).as_deref(), Some(line));
        assert!(summary.due().is_none() && summary.take(at(65_000)).is_none());
    }

    #[test]
    fn failures_are_told_and_counted() {
        let mut summary = Summary::default();
        let now = Instant::from_millis(5_000);
        let mut fail = |cause| summary.note(Some(cause), (0, 7), now);
        let own = (0..50).filter(|_| fail(Cause::ResetByPeer)).count();
        assert_eq!(own, TOLD as usize);
        assert!(!fail(Cause::Timeout));
        assert!(!summary.note(None, (0, 0), now));
        let line = summary.take(now.after(SPAN)).expect("a line");
        let right = "52 connections have ended in 1 min 0 s: 0 B in, 357 B out; not in order 50 (the other end reset it), 1 (the \
                     other end has been silent for too long)";
        assert_eq!(line, right);
        // the next minute has lines of its own
        assert!(summary.note(Some(Cause::Timeout), (0, 0), now));
        let line = summary.take(now).expect("a line");
        assert!(line.starts_with("1 connection has ended: "), "{line}");
    }
}
