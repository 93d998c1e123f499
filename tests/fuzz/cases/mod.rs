//! What fuzzing tries: a file for each target, whose `run` makes a case of any bytes, runs it, and panics if a promise is
//! broken. Used by the fuzz targets, whose bytes are the fuzzer's, and by tests/tunnel/fuzzing.rs, whose bytes are the
//! corpus's and random ones.

pub mod configuration;
pub mod control_message;
pub mod datagram;
pub mod pair;
pub mod session_message;

use kcptun::time::Duration;
use std::net::SocketAddr;

/// A target's name, which is that of its folder in the corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 5] = [
    ("datagram", datagram::run),
    ("session_message", session_message::run),
    ("control_message", control_message::run),
    ("configuration", configuration::run),
    ("pair", pair::run),
];

/// The bytes of a case, taken from the front; beyond their end there are zeros.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    pub fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to `n` bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As often a small number as a large one: 0 to 2^bits - 1, from two bytes.
    pub fn magnitude(&mut self, bits: u32) -> u64 {
        let shift = u32::from(self.byte()) % bits;
        (1 << shift) - 1 + (u64::from(self.byte()) << shift >> 8)
    }

    /// The same as a span of microseconds.
    pub fn span(&mut self, bits: u32) -> Duration {
        Duration::from_micros(self.magnitude(bits))
    }
}

/// A case that is played step by step.
trait Play {
    fn step(&mut self, bytes: &mut Bytes);
    /// Panics if a promise is broken already.
    fn check(&mut self);
    /// Goes on until nothing moves, and panics if a promise is broken then.
    fn end(self);
}

/// Plays up to so many steps, as far as the bytes go.
fn play(mut case: impl Play, bytes: &mut Bytes, steps: usize) {
    for _ in 0..steps {
        if bytes.is_empty() {
            break;
        }
        case.step(bytes);
        case.check();
    }
    case.end();
}

/// The address of one of a few other ends; some share a host.
pub fn address(n: usize) -> SocketAddr {
    let host = [1, 1, 2, 3][n % 4];
    match n % 5 {
        4 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 9)),
        _ => SocketAddr::from(([192, 0, 2, host as u8], 9 + n as u16)),
    }
}
