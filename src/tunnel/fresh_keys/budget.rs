//! How many greetings are answered, which is the costly part of a handshake.

use crate::throttle::PerSecond;
use crate::time::Instant;
use crate::tunnel::sources::source;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::SocketAddr;

/// How many handshakes are answered.
pub(super) struct Budget {
    hasher: RandomState,
    /// By source, for senders who have not shown that they receive at their address.
    unproven: Vec<PerSecond>,
    unproven_all: PerSecond,
    /// By address, for those who have.
    proven: Vec<PerSecond>,
    proven_all: PerSecond,
}

/// Answers a second for one source, whatever its ports.
const UNPROVEN_EACH: u32 = 4;
/// And for all sources: what recorded greetings can cost, about 1 % of a processor.
const UNPROVEN_ALL: u32 = 100;
/// Answers a second for one address that has answered a challenge, and for all.
const PROVEN_EACH: u32 = 2;
const PROVEN_ALL: u32 = 1000;
/// Sources share so many counts.
const COUNTS: usize = 256;

impl Budget {
    pub(super) fn new() -> Budget {
        let counts = || (0..COUNTS).map(|_| PerSecond::default()).collect();
        Budget {
            hasher: RandomState::new(),
            unproven: counts(),
            unproven_all: PerSecond::default(),
            proven: counts(),
            proven_all: PerSecond::default(),
        }
    }

    fn place(&self, of: impl Hash) -> usize {
        self.hasher.hash_one(of) as usize % COUNTS
    }

    /// Whether a greeting from an address is answered now; then it counts.
    pub(super) fn admits(&mut self, from: SocketAddr, proven: bool, now: Instant) -> bool {
        match proven {
            true => {
                let place = self.place(from);
                self.proven[place].admit(PROVEN_EACH, now) && self.proven_all.admit(PROVEN_ALL, now)
            }
            false => {
                let place = self.place(source(from));
                self.unproven[place].admit(UNPROVEN_EACH, now)
                    && self.unproven_all.admit(UNPROVEN_ALL, now)
            }
        }
    }
}
