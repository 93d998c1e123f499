//! Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s: the state of one end of a handshake (The Noise Protocol Framework, revision 34; the
//! sections that are named here are its sections). Which bytes are sent around the two messages is in `handshake`.
//!
//! `snow` would do this, too; it brings a second version of each primitive that is here already, and does not say what a
//! responder needs before it does the costly part, which is whether the first message is authentic.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use hmac::{Mac, SimpleHmac};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The protocol's name. It is longer than a hash, so that it is hashed (section 5.2, InitializeSymmetric).
const PROTOCOL: &[u8] = b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Bytes of a key, of a hash and of a public key of X25519.
pub(super) const HASH_LEN: usize = 32;
/// Bytes of ChaChaPoly's tag.
pub(super) const MAC_LEN: usize = 16;

type Secret = Zeroizing<[u8; HASH_LEN]>;

/// Section 5.2, SymmetricState with its CipherState. Every key here encrypts one payload, so that its nonce is 0.
#[derive(Clone)]
pub(super) struct SymmetricState {
    chaining_key: Secret,
    hash: [u8; HASH_LEN],
    key: Secret,
}

impl SymmetricState {
    /// Section 5.3, Initialize, and the token `psk` with which the first message begins (section 9.2).
    pub(super) fn new(prologue: &[u8], psk: &[u8; HASH_LEN]) -> SymmetricState {
        let hash: [u8; HASH_LEN] = Blake2s256::digest(PROTOCOL).into();
        let mut state = SymmetricState {
            chaining_key: Zeroizing::new(hash),
            hash,
            key: Secret::default(),
        };
        state.mix_hash(prologue);
        // MixKeyAndHash
        let [chaining_key, hash, key] = hkdf(&state.chaining_key, psk);
        state.mix_hash(&hash[..]);
        (state.chaining_key, state.key) = (chaining_key, key);
        state
    }

    /// The token `e`, of either end: where there is a psk the ephemeral key goes into the chaining key as well (section 9.2).
    pub(super) fn mix_ephemeral(&mut self, public: &[u8; HASH_LEN]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    /// The token `ee` (section 7.5). None if the other's key is one of the few that give everybody the same.
    pub(super) fn mix_shared(&mut self, own: &StaticSecret, other: &[u8; HASH_LEN]) -> Option<()> {
        let shared = own.diffie_hellman(&PublicKey::from(*other));
        if !shared.was_contributory() {
            return None;
        }
        self.mix_key(shared.as_bytes());
        Some(())
    }

    /// EncryptAndHash: the payload in place; its tag.
    pub(super) fn encrypt(&mut self, payload: &mut [u8]) -> [u8; MAC_LEN] {
        let cipher = ChaCha20Poly1305::new((&*self.key).into());
        let sealed =
            cipher.encrypt_inout_detached(&Nonce::default(), &self.hash, (&mut *payload).into());
        let tag: [u8; MAC_LEN] = sealed.expect("a payload of some bytes").into();
        self.mix_ciphertext(payload, &tag);
        tag
    }

    /// DecryptAndHash: the payload in place. None if it was not sent by somebody with the same psk and the same messages before it.
    pub(super) fn decrypt(&mut self, payload: &mut [u8], tag: &[u8; MAC_LEN]) -> Option<()> {
        let sealed = payload.to_vec();
        let cipher = ChaCha20Poly1305::new((&*self.key).into());
        let tag_of = Tag::from(*tag);
        let opened =
            cipher.decrypt_inout_detached(&Nonce::default(), &self.hash, payload.into(), &tag_of);
        opened.ok()?;
        self.mix_ciphertext(&sealed, tag);
        Some(())
    }

    /// Split: the keys from the initiator to the responder and back.
    pub(super) fn split(&self) -> [Secret; 2] {
        let [there, back, _] = hkdf(&self.chaining_key, &[]);
        [there, back]
    }

    /// What both ends have if all that was said is the same.
    #[cfg(test)]
    pub(super) fn hash(&self) -> [u8; HASH_LEN] {
        self.hash
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Blake2s256::new()
            .chain_update(self.hash)
            .chain_update(data)
            .finalize()
            .into();
    }

    fn mix_ciphertext(&mut self, payload: &[u8], tag: &[u8; MAC_LEN]) {
        self.hash = Blake2s256::new()
            .chain_update(self.hash)
            .chain_update(payload)
            .chain_update(tag)
            .finalize()
            .into();
    }

    fn mix_key(&mut self, material: &[u8]) {
        let [chaining_key, key, _] = hkdf(&self.chaining_key, material);
        (self.chaining_key, self.key) = (chaining_key, key);
    }
}

/// Section 4.3, HKDF with three outputs; who wants two leaves the last.
fn hkdf(chaining_key: &[u8; HASH_LEN], material: &[u8]) -> [Secret; 3] {
    let temp = hmac(chaining_key, &[material]);
    let first = hmac(&temp, &[&[1]]);
    let second = hmac(&temp, &[&first[..], &[2]]);
    let third = hmac(&temp, &[&second[..], &[3]]);
    [first, second, third]
}

fn hmac(key: &[u8; HASH_LEN], parts: &[&[u8]]) -> Secret {
    let mut mac = <SimpleHmac<Blake2s256> as KeyInit>::new_from_slice(key).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}
