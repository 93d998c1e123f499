//! The methods with ring's assembler, which picks the best that the processor has when the program runs. What ring
//! has not, which is Salsa20, the reference does.
//!
//! ring does not wipe its keys. One that is kept is overwritten here when it is dropped; those made for a packet are of use
//! for that packet only.

use chacha20::{R20, hchacha};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::reference::Secretbox;
use crate::crypto::key::Key;
use crate::crypto::method::{ASSOCIATED_DATA, Method, TAG_LEN};

/// A method with its key.
pub enum Cipher {
    /// ChaCha20: ring's key is made for each packet, which takes no time, since it has room for AES's key schedule.
    Chacha20(Zeroizing<[u8; 32]>),
    /// AES.
    Aes256(Kept),
    /// XChaCha20: every nonce has its own key.
    Extended(Zeroizing<[u8; 32]>),
    /// NaCl's secretbox, by the reference.
    Xsalsa20(Secretbox),
}

/// A key that is overwritten when it is dropped.
pub struct Kept(Box<LessSafeKey>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(blank) = ring_key(self.0.algorithm(), &[0; 32]) {
            // of the same algorithm, so that nothing of the old one is left
            *self.0 = blank;
            std::hint::black_box(&self.0);
        }
    }
}

impl Cipher {
    /// The cipher of `method` with this key.
    pub fn new(method: Method, key: &Key) -> Cipher {
        match method {
            Method::Chacha20Poly1305Ietf => Cipher::Chacha20(Zeroizing::new(*key.bytes())),
            Method::Xchacha20Poly1305Ietf => Cipher::Extended(Zeroizing::new(*key.bytes())),
            Method::Xsalsa20Poly1305 => Cipher::Xsalsa20(Secretbox::new(key)),
            Method::Aes256Gcm => {
                let key = ring_key(&AES_256_GCM, key.bytes()).expect("it takes keys of 32 bytes");
                Cipher::Aes256(Kept(Box::new(key)))
            }
        }
    }

    /// Encrypts in place and returns the tag. None if a length is not the method's.
    pub fn encrypt(&self, nonce: &[u8], packet: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        match self {
            Cipher::Chacha20(key) => {
                encrypt(&ring_key(&CHACHA20_POLY1305, &key[..])?, nonce, packet)
            }
            Cipher::Aes256(key) => encrypt(&key.0, nonce, packet),
            Cipher::Extended(key) => {
                let (key, nonce) = extend(key, nonce)?;
                encrypt(&key, &nonce, packet)
            }
            Cipher::Xsalsa20(secretbox) => secretbox.encrypt(nonce, packet),
        }
    }

    /// Decrypts in place. None if the tag or a length is wrong; what `packet` then holds is unspecified.
    pub fn decrypt(&self, nonce: &[u8], packet: &mut [u8], tag: &[u8]) -> Option<()> {
        match self {
            Cipher::Chacha20(key) => {
                decrypt(&ring_key(&CHACHA20_POLY1305, &key[..])?, nonce, packet, tag)
            }
            Cipher::Aes256(key) => decrypt(&key.0, nonce, packet, tag),
            Cipher::Extended(key) => {
                let (key, nonce) = extend(key, nonce)?;
                decrypt(&key, &nonce, packet, tag)
            }
            Cipher::Xsalsa20(secretbox) => secretbox.decrypt(nonce, packet, tag),
        }
    }
}

/// The key and nonce of ChaCha20-Poly1305 that a nonce of 24 bytes stands for (draft-irtf-cfrg-xchacha, 2.3).
fn extend(key: &[u8; 32], nonce: &[u8]) -> Option<(LessSafeKey, [u8; 12])> {
    let nonce: &[u8; 24] = nonce.try_into().ok()?;
    let (of_key, of_nonce) = nonce.split_first_chunk::<16>()?;
    let key = hchacha::<R20>(key.into(), of_key.into());
    let mut short = [0; 12];
    short[4..].copy_from_slice(of_nonce);
    Some((ring_key(&CHACHA20_POLY1305, &key)?, short))
}

fn ring_key(algorithm: &'static Algorithm, key: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

fn encrypt(key: &LessSafeKey, nonce: &[u8], packet: &mut [u8]) -> Option<[u8; TAG_LEN]> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(ASSOCIATED_DATA), packet);
    tag.ok()?.as_ref().try_into().ok()
}

fn decrypt(key: &LessSafeKey, nonce: &[u8], packet: &mut [u8], tag: &[u8]) -> Option<()> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let tag = tag.try_into().ok()?;
    let opened =
        key.open_in_place_separate_tag(nonce, Aad::from(ASSOCIATED_DATA), tag, packet, 0..);
    opened.ok().map(|_| ())
}
