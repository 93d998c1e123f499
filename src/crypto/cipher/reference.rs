//! Every method in portable Rust, by the crates of the RustCrypto project.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, XChaCha20Poly1305};
use crypto_secretbox::aead::{AeadInPlace, KeyInit as _};
use crypto_secretbox::{Nonce as BoxNonce, Tag as BoxTag, XSalsa20Poly1305};

use crate::crypto::key::Key;
use crate::crypto::method::{ASSOCIATED_DATA, Method, TAG_LEN};

/// A method with its key.
pub enum Cipher {
    /// RFC 8439.
    Chacha20(ChaCha20Poly1305),
    /// draft-irtf-cfrg-xchacha.
    Xchacha20(XChaCha20Poly1305),
    /// NaCl's secretbox.
    Xsalsa20(Secretbox),
    /// AES-256-GCM, boxed: its key schedule is many times the size of the other keys.
    Aes256(Box<Aes256Gcm>),
}

/// NaCl's secretbox. It has no associated data.
pub struct Secretbox(XSalsa20Poly1305);

impl Cipher {
    /// The cipher of `method` with this key.
    pub fn new(method: Method, key: &Key) -> Cipher {
        let bytes = key.bytes();
        match method {
            Method::Chacha20Poly1305Ietf => Cipher::Chacha20(KeyInit::new(bytes.into())),
            Method::Xchacha20Poly1305Ietf => Cipher::Xchacha20(KeyInit::new(bytes.into())),
            Method::Xsalsa20Poly1305 => Cipher::Xsalsa20(Secretbox::new(key)),
            Method::Aes256Gcm => Cipher::Aes256(Box::new(KeyInit::new(bytes.into()))),
        }
    }

    /// Encrypts in place and returns the tag. None if a length is not the method's.
    pub fn encrypt(&self, nonce: &[u8], packet: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        match self {
            Cipher::Chacha20(aead) => encrypt(aead, nonce, packet),
            Cipher::Xchacha20(aead) => encrypt(aead, nonce, packet),
            Cipher::Aes256(aead) => encrypt(aead.as_ref(), nonce, packet),
            Cipher::Xsalsa20(secretbox) => secretbox.encrypt(nonce, packet),
        }
    }

    /// Decrypts in place. None if the tag or a length is wrong; what `packet` then holds is unspecified.
    pub fn decrypt(&self, nonce: &[u8], packet: &mut [u8], tag: &[u8]) -> Option<()> {
        match self {
            Cipher::Chacha20(aead) => decrypt(aead, nonce, packet, tag),
            Cipher::Xchacha20(aead) => decrypt(aead, nonce, packet, tag),
            Cipher::Aes256(aead) => decrypt(aead.as_ref(), nonce, packet, tag),
            Cipher::Xsalsa20(secretbox) => secretbox.decrypt(nonce, packet, tag),
        }
    }
}

impl Secretbox {
    pub(super) fn new(key: &Key) -> Secretbox {
        Secretbox(XSalsa20Poly1305::new(key.bytes().into()))
    }

    pub(super) fn encrypt(&self, nonce: &[u8], packet: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let nonce = BoxNonce::from(<[u8; 24]>::try_from(nonce).ok()?);
        let tag = self.0.encrypt_in_place_detached(&nonce, b"", packet);
        tag.ok().map(Into::into)
    }

    pub(super) fn decrypt(&self, nonce: &[u8], packet: &mut [u8], tag: &[u8]) -> Option<()> {
        let nonce = BoxNonce::from(<[u8; 24]>::try_from(nonce).ok()?);
        let tag = BoxTag::from(<[u8; TAG_LEN]>::try_from(tag).ok()?);
        let opened = self.0.decrypt_in_place_detached(&nonce, b"", packet, &tag);
        opened.ok()
    }
}

fn encrypt<A: AeadInOut>(aead: &A, nonce: &[u8], packet: &mut [u8]) -> Option<[u8; TAG_LEN]> {
    let nonce = nonce.try_into().ok()?;
    let tag = aead.encrypt_inout_detached(nonce, ASSOCIATED_DATA, packet.into());
    tag.ok()?.as_slice().try_into().ok()
}

fn decrypt<A: AeadInOut>(aead: &A, nonce: &[u8], packet: &mut [u8], tag: &[u8]) -> Option<()> {
    let nonce = nonce.try_into().ok()?;
    let tag = tag.try_into().ok()?;
    let opened = aead.decrypt_inout_detached(nonce, ASSOCIATED_DATA, packet.into(), tag);
    opened.ok()
}
