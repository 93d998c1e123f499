//! The methods of sealing: their names and sizes, and what they have in common.

use std::fmt;
use std::str::FromStr;

/// Bytes of the authentication tag, the same for every method (128 bits: Poly1305 and GCM).
pub const TAG_LEN: usize = 16;
/// Associated data of the AEAD methods, its final 0 included, as kcptun-libev 2.x has it.
pub(super) const ASSOCIATED_DATA: &[u8] = b"kcptun-libev\0";

/// How datagrams are sealed. Both ends of a tunnel must use the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// RFC 8439, with counted nonces.
    Chacha20Poly1305Ietf,
    /// draft-irtf-cfrg-xchacha, with random nonces.
    Xchacha20Poly1305Ietf,
    /// NaCl's secretbox, with random nonces; it has no associated data.
    Xsalsa20Poly1305,
    /// NIST SP 800-38D with a 256-bit key, with counted nonces.
    Aes256Gcm,
}

impl Method {
    /// Every method, the preferred one first.
    pub const ALL: [Method; 4] = [
        Method::Chacha20Poly1305Ietf,
        Method::Xchacha20Poly1305Ietf,
        Method::Xsalsa20Poly1305,
        Method::Aes256Gcm,
    ];

    /// The name in configuration files, which is libsodium's for the same construction.
    pub fn name(self) -> &'static str {
        match self {
            Method::Chacha20Poly1305Ietf => "chacha20poly1305_ietf",
            Method::Xchacha20Poly1305Ietf => "xchacha20poly1305_ietf",
            Method::Xsalsa20Poly1305 => "xsalsa20poly1305",
            Method::Aes256Gcm => "aes256gcm",
        }
    }

    /// Bytes that sealing adds to a packet: the tag and the nonce.
    pub fn overhead(self) -> usize {
        TAG_LEN + self.nonce_len()
    }

    /// Bytes of the nonce at a datagram's end.
    pub fn nonce_len(self) -> usize {
        if self.counts() { 12 } else { 24 }
    }

    /// Whether a sender's nonces count up. 12 bytes are too few to be drawn at random for every
    /// packet of a long-lived key; of 24 bytes no two will ever be alike.
    pub(super) fn counts(self) -> bool {
        matches!(self, Method::Chacha20Poly1305Ietf | Method::Aes256Gcm)
    }
}

/// Takes exactly the names of [`Method::name`]; anything else is an error.
impl FromStr for Method {
    type Err = ();

    fn from_str(name: &str) -> Result<Method, ()> {
        Method::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or(())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_only_they() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        for name in ["", "aes256gcm ", "AES256GCM", "none"] {
            assert_eq!(name.parse::<Method>(), Err(()));
        }
    }

    #[test]
    fn overheads_are_those_of_the_protocol() {
        assert_eq!(Method::ALL.map(Method::overhead), [28, 40, 40, 28]);
        assert_eq!(Method::ALL.map(Method::nonce_len), [12, 24, 24, 12]);
    }
}
