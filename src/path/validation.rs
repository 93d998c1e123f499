//! Whether somebody receives at an address: it is validated when a ping that names something that only we could know, a
//! challenge, was answered from there (RFC 9000, section 8.2, has it so). Who is challenged when is decided in
//! `tunnel::validation`.

use super::numbers::Numbers;
use crate::crypto::number_after;
use crate::time::{Duration, Instant};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

/// A challenge is good for at least so long, and at most for twice.
const CHALLENGE_SPAN: Duration = Duration::from_secs(60);
/// What an address is validated for is overtaken by fewer datagrams of its sender than this: twice what KCP sends before it has
/// heard of a window. One that is so far behind is from before the challenge.
const OVERTAKEN_MAX: u128 = 2 * crate::segment::DEFAULT_WINDOW as u128;

/// Makes what pings name, so that nobody who does not receive them can.
#[derive(Default)]
pub(crate) struct Challenges {
    secret: RandomState,
    tokens: u64,
}

impl Challenges {
    fn at(&self, addr: SocketAddr, span: u64) -> u32 {
        self.secret.hash_one((addr, span)) as u32
    }

    /// What a ping that is padded to find the size of packets names: each another, and not to be taken for a timestamp.
    /// `clock`: what pings for the round trip name now. Those of the next twelve days differ.
    pub(crate) fn token(&mut self, clock: u32) -> u32 {
        self.tokens += 1;
        let random = self.secret.hash_one(self.tokens) as u32;
        let token = clock.wrapping_add((1 << 30) + (random >> 2));
        token.max(1)
    }

    /// What a ping names that validates `addr`.
    pub(crate) fn challenge(&self, addr: SocketAddr, now: Instant) -> u32 {
        self.at(addr, now.since(Instant::ZERO) / CHALLENGE_SPAN)
    }

    /// Whether a pong from `addr` shows that our ping has arrived there.
    pub(crate) fn is_answer(&self, addr: SocketAddr, value: u32, now: Instant) -> bool {
        let span = now.since(Instant::ZERO) / CHALLENGE_SPAN;
        value == self.at(addr, span) || (span > 0 && value == self.at(addr, span - 1))
    }
}

/// What is known of one path for that.
#[derive(Default)]
pub(crate) struct Validation {
    validated: bool,
    /// When somebody said there that sessions follow.
    moves_at: Option<Instant>,
    /// The number of the datagram that last validated it.
    proof: Option<u128>,
    /// Those of all that came from there under the psk: of the process that has last answered a challenge, and of the last other.
    /// Anybody may send a datagram of another process in this one's name.
    numbers: [Numbers; 2],
    /// At most how long that took.
    round_trip: Option<Duration>,
}

impl Validation {
    /// The other end has answered a challenge from this address.
    pub(crate) fn is_validated(&self) -> bool {
        self.validated
    }

    /// It has, by the datagram of this number.
    pub(crate) fn validate(&mut self, number: Option<u128>, moves: bool, now: Instant) {
        (self.validated, self.proof) = (true, number);
        if let Some(number) = number {
            // an answer to a challenge is new
            self.numbers[0].note(number, now);
        }
        self.moves_at = moves.then_some(now);
    }

    /// It has within `span`, and has said that sessions follow.
    pub(crate) fn awaits_move(&self, span: Duration, now: Instant) -> bool {
        let recent = |at| now.since(at) < span;
        self.validated && self.moves_at.is_some_and(recent)
    }

    /// It has moved here, and that was shown before.
    pub(crate) fn carry_over(&mut self) {
        self.validated = true;
    }

    /// Somebody else is at the address.
    pub(crate) fn revoke(&mut self) {
        self.validated = false;
    }

    /// A datagram of this number has come, if it has one.
    pub(crate) fn note(&mut self, number: Option<u128>, now: Instant) {
        if let Some(number) = number {
            let other = !self.numbers[0].is_of(number);
            self.numbers[usize::from(other)].note(number, now);
        }
    }

    /// Whether a datagram of this number was held back, as far as those say that came from here.
    pub(crate) fn is_late(&self, number: u128, now: Instant) -> bool {
        self.numbers.iter().any(|all| all.is_late(number, now))
    }

    /// Whether a datagram was sent well before another that has come: before the one that has validated its address, or some
    /// time before any. Somebody has recorded it or held it back, even if it comes from there. (Where senders do not count, or
    /// have begun to count anew, that is not known.)
    pub(crate) fn is_from_before(&self, number: Option<u128>, now: Instant) -> bool {
        let Some(number) = number else {
            return false;
        };
        let before = |proof| number_after(proof, number).is_some_and(|by| by >= OVERTAKEN_MAX);
        self.proof.is_some_and(before) || self.is_late(number, now)
    }

    /// The validation took so long, or less.
    pub(crate) fn set_round_trip(&mut self, span: Duration) {
        self.round_trip = Some(span);
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}
