//! How two processes with one psk agree on fresh keys: a greeting, and an answer to it. Bytes and randomness go in, bytes and
//! keys come out. When somebody greets, and what follows from a greeting, is decided in `tunnel::fresh_keys`; what is sealed
//! with the keys is in `fresh`.
//!
//! The two messages are those of Noise's NNpsk0 (`noise`):
//!
//! ```text
//! greeting = marker 1 (4) ‖ e (32) ‖ encrypted: process (8) ‖ index (4) ‖ 0 (4) ‖ tag (16)
//! answer   = marker 2 (4) ‖ index of the greeting (4) ‖ e (32) ‖ encrypted: process (8) ‖ index (4) ‖ tag (16)
//! ```
//!
//! They ride behind the value of a ping or pong, where kcptun-libev ignores them. Padding has no marker: each of its bytes is
//! its length, at most 15. A ping that looks for the size of packets has zeros there. And a marker is not believed: a greeting
//! is one only if it opens under the psk.
//!
//! A process is a number that it draws when it starts. An index is drawn by the end that receives: what is sealed for it
//! carries it, so that the key is found without trying any. The prologue has the name of the method, so that both ends seal
//! alike, and 0 is for later.
//!
//! What each step is good for, in Noise's terms (section 7.7): the greeting's payload is encrypted with the psk alone, and can be
//! repeated by others; the answer's is fresh for the end that greeted, and secret from who gets the psk later. The end that
//! answers knows that the other is alive when the first datagram under the keys comes.

mod noise;

use super::key::Key;
use super::method::Method;
use noise::{HASH_LEN, MAC_LEN, SymmetricState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// What is authenticated beside the messages, before the method's name.
const PROLOGUE: &[u8] = b"kcptun fresh keys 1 ";
const GREETING: &[u8; MARKER_LEN] = b"kfk\x01";
const ANSWER: &[u8; MARKER_LEN] = b"kfk\x02";
const MARKER_LEN: usize = 4;
const PROCESS_LEN: usize = 8;
const INDEX_LEN: usize = 4;
/// What is for later.
const SPARE_LEN: usize = 4;
const HELLO_LEN: usize = PROCESS_LEN + INDEX_LEN;
/// Bytes of a greeting.
pub const GREETING_LEN: usize = MARKER_LEN + HASH_LEN + HELLO_LEN + SPARE_LEN + MAC_LEN;
/// Bytes of an answer: no more than what it answers.
pub const ANSWER_LEN: usize = MARKER_LEN + INDEX_LEN + HASH_LEN + HELLO_LEN + MAC_LEN;

/// The number of a process.
pub type Process = [u8; PROCESS_LEN];

/// What an end says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Which process it is.
    pub process: Process,
    /// What datagrams for it carry that are sealed with the keys.
    pub index: u32,
}

/// The keys that a handshake gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportKeys {
    /// For what is sent.
    pub send: Key,
    /// For what is received.
    pub receive: Key,
}

/// What stands behind the value of a ping or pong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extension<'a> {
    /// Perhaps a greeting.
    Greeting(&'a [u8; GREETING_LEN]),
    /// Perhaps an answer.
    Answer(&'a [u8; ANSWER_LEN]),
}

impl<'a> Extension<'a> {
    /// Reads it; padding may follow. None: it is something else.
    pub fn read(bytes: &'a [u8]) -> Option<Extension<'a>> {
        match bytes.first_chunk()? {
            GREETING => bytes.first_chunk().map(Extension::Greeting),
            ANSWER => bytes.first_chunk().map(Extension::Answer),
            _ => None,
        }
    }
}

/// A greeting that waits for its answer.
pub struct Greeting {
    state: SymmetricState,
    secret: StaticSecret,
    own: Hello,
    wire: [u8; GREETING_LEN],
}

impl Greeting {
    /// Greets whoever has the psk. `secret`: 32 random bytes, for this greeting alone.
    pub fn new(psk: &Key, method: Method, secret: &Zeroizing<[u8; 32]>, own: Hello) -> Greeting {
        let secret = StaticSecret::from(**secret);
        let public = PublicKey::from(&secret).to_bytes();
        let mut state = start(psk, method);
        state.mix_ephemeral(&public);
        let mut payload = [0; HELLO_LEN + SPARE_LEN];
        payload[..HELLO_LEN].copy_from_slice(&own.to_wire());
        let tag = state.encrypt(&mut payload);
        let mut wire = [0; GREETING_LEN];
        fill(&mut wire, &[GREETING, &public, &payload, &tag]);
        Greeting {
            state,
            secret,
            own,
            wire,
        }
    }

    /// What is sent. It may be sent more than once.
    pub fn wire(&self) -> &[u8; GREETING_LEN] {
        &self.wire
    }

    /// What it says of this end.
    pub fn own(&self) -> Hello {
        self.own
    }

    /// Who has answered, and the keys. None if it answers another greeting, at the cost of nothing, or is not authentic.
    pub fn finish(&self, answer: &[u8; ANSWER_LEN]) -> Option<(Hello, TransportKeys)> {
        let (index, rest) = answer[MARKER_LEN..].split_first_chunk()?;
        let (public, rest) = rest.split_first_chunk::<HASH_LEN>()?;
        let (payload, rest) = rest.split_first_chunk::<HELLO_LEN>()?;
        if u32::from_le_bytes(*index) != self.own.index {
            return None;
        }
        let mut state = self.state.clone();
        state.mix_ephemeral(public);
        state.mix_shared(&self.secret, public)?;
        let mut payload = *payload;
        state.decrypt(&mut payload, rest.first_chunk()?)?;
        let [there, back] = state.split();
        let keys = TransportKeys {
            send: Key::from_bytes(&there),
            receive: Key::from_bytes(&back),
        };
        Some((Hello::of(&payload), keys))
    }
}

/// A greeting that has come, and is authentic. To find that out costs some hashes.
pub struct Greeted {
    state: SymmetricState,
    public: [u8; HASH_LEN],
    other: Hello,
}

impl Greeted {
    /// Reads a greeting. None if it is not of somebody with this psk and method. It may be a copy of an older one.
    pub fn read(psk: &Key, method: Method, greeting: &[u8; GREETING_LEN]) -> Option<Greeted> {
        let (public, rest) = greeting[MARKER_LEN..].split_first_chunk::<HASH_LEN>()?;
        let (payload, rest) = rest.split_first_chunk::<{ HELLO_LEN + SPARE_LEN }>()?;
        let mut state = start(psk, method);
        state.mix_ephemeral(public);
        let mut payload = *payload;
        state.decrypt(&mut payload, rest.first_chunk()?)?;
        Some(Greeted {
            state,
            public: *public,
            other: Hello::of(payload.first_chunk()?),
        })
    }

    /// What it says of its sender.
    pub fn other(&self) -> Hello {
        self.other
    }

    /// What makes it another than any other greeting.
    pub fn public(&self) -> &[u8; HASH_LEN] {
        &self.public
    }

    /// Answers, which is the costly part: two multiplications on the curve. `secret`: 32 random bytes, for this answer alone.
    /// None if the greeting's key is one of those that would give everybody the same keys.
    pub fn respond(
        mut self,
        secret: &Zeroizing<[u8; 32]>,
        own: Hello,
    ) -> Option<([u8; ANSWER_LEN], TransportKeys)> {
        let secret = StaticSecret::from(**secret);
        let public = PublicKey::from(&secret).to_bytes();
        self.state.mix_ephemeral(&public);
        self.state.mix_shared(&secret, &self.public)?;
        let mut payload = own.to_wire();
        let tag = self.state.encrypt(&mut payload);
        let index = self.other.index.to_le_bytes();
        let mut wire = [0; ANSWER_LEN];
        fill(&mut wire, &[ANSWER, &index, &public, &payload, &tag]);
        let [there, back] = self.state.split();
        let keys = TransportKeys {
            send: Key::from_bytes(&back),
            receive: Key::from_bytes(&there),
        };
        Some((wire, keys))
    }
}

impl Hello {
    fn to_wire(self) -> [u8; HELLO_LEN] {
        let mut wire = [0; HELLO_LEN];
        fill(&mut wire, &[&self.process, &self.index.to_le_bytes()]);
        wire
    }

    fn of(wire: &[u8; HELLO_LEN]) -> Hello {
        let (mut process, mut index) = ([0; PROCESS_LEN], [0; INDEX_LEN]);
        process.copy_from_slice(&wire[..PROCESS_LEN]);
        index.copy_from_slice(&wire[PROCESS_LEN..]);
        let index = u32::from_le_bytes(index);
        Hello { process, index }
    }
}

fn start(psk: &Key, method: Method) -> SymmetricState {
    let prologue = [PROLOGUE, method.name().as_bytes()].concat();
    SymmetricState::new(&prologue, psk.bytes())
}

/// Writes parts one behind the other; together they are as long as `to`.
fn fill(to: &mut [u8], parts: &[&[u8]]) {
    let mut at = 0;
    for part in parts {
        to[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, to.len());
}

#[cfg(test)]
mod tests;
