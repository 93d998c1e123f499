//! One dial: the addresses that are tried for one session, and what becomes of each. When the next one is tried, and what a
//! dial leads to, is decided in the parent.

use crate::event::report::reason;
use crate::event::tcp::is_connected;
use crate::time::Instant;
use mio::net::TcpStream;
use std::io::ErrorKind;
use std::net::SocketAddr;

/// The most addresses of a name that one dial tries.
const MAX_ADDRESSES: usize = 4;

/// The connection that a session waits for.
pub(super) struct Dial {
    /// Tells dials apart: a session's id may come to mean another session.
    pub(super) number: u64,
    /// When it began.
    pub(super) begun_at: Instant,
    /// The sockets that are being connected.
    pub(super) attempts: Vec<Attempt>,
    /// Addresses that are left to try, the next one last.
    pub(super) left: Vec<SocketAddr>,
    /// When the next address is tried.
    pub(super) next: Instant,
    /// What was tried and has failed, and why.
    pub(super) failures: Vec<(SocketAddr, String)>,
    /// Until when an answer of the resolver is awaited, once every known address has failed.
    pub(super) final_answer_by: Option<Instant>,
    /// When the dial is looked at again while no address is known.
    pub(super) again: Instant,
}

/// A socket that is being connected.
pub(super) struct Attempt {
    /// The socket, registered with the poll.
    pub(super) stream: TcpStream,
    /// Where it connects to.
    pub(super) address: SocketAddr,
    /// When it is given up.
    pub(super) until: Instant,
}

impl Dial {
    /// A dial that has tried nothing and knows no address yet.
    pub(super) fn new(number: u64, now: Instant) -> Dial {
        Dial {
            number,
            begun_at: now,
            attempts: Vec::new(),
            left: Vec::new(),
            next: now,
            failures: Vec::new(),
            final_answer_by: None,
            again: Instant::ZERO,
        }
    }

    /// Takes over the addresses, in the order of trying, that were not tried yet.
    pub(super) fn learn(&mut self, addresses: &[SocketAddr]) {
        let tried = |address: &SocketAddr| {
            self.attempts.iter().any(|a| a.address == *address)
                || self.failures.iter().any(|(failed, _)| failed == address)
        };
        let count = self.attempts.len() + self.failures.len();
        let new = addresses.iter().filter(|address| !tried(address));
        let new: Vec<_> = new
            .take(MAX_ADDRESSES.saturating_sub(count))
            .copied()
            .collect();
        self.left = new.into_iter().rev().collect();
    }

    /// Removes the attempts that have failed by now, and notes why; and the first that is established, which is returned.
    pub(super) fn sort_out(&mut self, now: Instant) -> Option<Attempt> {
        let mut established = None;
        for attempt in std::mem::take(&mut self.attempts) {
            // The system reports an error once.
            let error = match is_connected(&attempt.stream) {
                Ok(true) if established.is_none() => {
                    established = Some(attempt);
                    continue;
                }
                Ok(_) if attempt.until > now => {
                    self.attempts.push(attempt);
                    continue;
                }
                Ok(_) => ErrorKind::TimedOut.into(),
                Err(error) => error,
            };
            self.failures.push((attempt.address, reason(&error)));
            self.next = now;
        }
        established
    }
}
