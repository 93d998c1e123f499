//! The key that both ends share: generated, read, derived from a password, and never printed. It is used in `seal`; where the
//! user keeps it is up to the configuration.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b128, Digest};
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a key; every method of the protocol takes 256 bits.
const KEY_LEN: usize = 32;

/// Argon2id's memory, KiB, as kcptun-libev 2.x has it: libsodium's minimum. A password has to be strong by itself.
const ARGON2_KIB: u32 = 8;
/// Argon2id's passes, as kcptun-libev 2.x has them.
const ARGON2_PASSES: u32 = 2;
/// Argon2id's lanes, as kcptun-libev 2.x has them.
const ARGON2_LANES: u32 = 1;

/// The salt is the 16-byte BLAKE2b hash of this name. Being the same for everyone, it does not
/// keep two tunnels with one password from having one key.
const SALT_NAME: &[u8] = b"kcptun-libev";

/// A secret key of 32 bytes. It is wiped from memory when dropped, and masked in debug output. Comparing two keys takes a time
/// that depends on them: this is for one's own keys only.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_LEN]);

/// Why a text is not a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// It is not standard base64 with its padding.
    NotBase64,
    /// It decodes to this many bytes, which are not 32.
    Length(usize),
}

impl Key {
    /// A new key from the operating system's random numbers.
    ///
    /// # Panics
    /// If the operating system has none to give: a guessable key is worse than none.
    pub fn generate() -> Key {
        let mut key = Key([0; KEY_LEN]);
        SysRng
            .try_fill_bytes(&mut key.0)
            .expect("no random numbers from the operating system");
        key
    }

    /// Reads a `psk`: standard base64, with padding, of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError`], which tells nothing of the text but its length.
    pub fn from_base64(text: &str) -> Result<Key, KeyError> {
        // With room for all of it at once, no part of the secret is left behind by growing.
        let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
        STANDARD
            .decode_vec(text, &mut decoded)
            .map_err(|_| KeyError::NotBase64)?;
        if decoded.len() != KEY_LEN {
            return Err(KeyError::Length(decoded.len()));
        }
        let mut key = Key([0; KEY_LEN]);
        key.0.copy_from_slice(&decoded);
        Ok(key)
    }

    /// The key that kcptun-libev derives from a password: Argon2id 1.3 with the costs above.
    ///
    /// # Panics
    /// If the password is longer than 4 GiB, Argon2's own limit.
    pub fn from_password(password: &str) -> Key {
        let params = Params::new(ARGON2_KIB, ARGON2_PASSES, ARGON2_LANES, Some(KEY_LEN))
            .expect("constants within Argon2's limits");
        let salt = Blake2b128::digest(SALT_NAME);
        let mut key = Key([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &salt, &mut key.0)
            .expect("a password of less than 4 GiB");
        key
    }

    /// The key as [`Key::from_base64`] reads it. The text is the secret: it is only for whoever asked for a new key.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub(super) fn from_bytes(bytes: &[u8; KEY_LEN]) -> Key {
        Key(*bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(MASKED)")
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::NotBase64 => f.write_str("not standard base64 with padding"),
            KeyError::Length(got) => write!(f, "{got} bytes where a key has {KEY_LEN}"),
        }
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_back() {
        let key = Key::generate();
        let again = Key::from_base64(&key.to_base64()).expect("own output");
        assert_eq!(key.bytes(), again.bytes());
        assert_ne!(key.bytes(), Key::generate().bytes());
        assert_eq!(key.to_base64().len(), 44);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = STANDARD.encode([7; 32]);
        let unpadded = good.trim_end_matches('=');
        let url_safe = good.replacen('B', "_", 1);
        for text in ["!", " ", "AA", unpadded, &url_safe, &format!("{good}\n")] {
            let error = Key::from_base64(text).expect_err(text);
            assert_eq!(error, KeyError::NotBase64, "{text:?}");
        }
        for len in [0, 1, 31, 33, 64] {
            let error = Key::from_base64(&STANDARD.encode(vec![7; len])).expect_err("length");
            assert_eq!(error, KeyError::Length(len));
        }
    }

    #[test]
    fn debug_output_is_masked() {
        assert_eq!(format!("{:?}", Key([0xab; KEY_LEN])), "Key(MASKED)");
        assert_eq!(format!("{:#?}", Key([0xab; KEY_LEN])), "Key(MASKED)");
    }
}
