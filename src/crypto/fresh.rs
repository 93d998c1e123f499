//! Datagrams under fresh keys, as a handshake gives them: sealing what is sent, opening what arrives. As with `seal`, a datagram
//! is ciphertext, tag and nonce, and of the same length. Who uses which keys when is decided in `tunnel::fresh_keys`.
//!
//! The nonce is the receiver's index (4 bytes), the sender's count of datagrams (8), and in the methods with nonces of 24 bytes
//! twelve random ones. Every direction has its own key, so that counts never meet. They begin anywhere: a nonce tells no
//! more than those of `seal` do.

use super::cipher::Cipher;
use super::handshake::TransportKeys;
use super::method::{Method, TAG_LEN};
use super::seal::Rejected;
use super::window::Window;
use rand::Rng;

const INDEX_LEN: usize = 4;
const COUNT_LEN: usize = 8;

/// The keys of both directions, the count of what is sent and what has come. All keys are wiped when it is dropped.
pub struct FreshSealing {
    method: Method,
    send: Cipher,
    receive: Cipher,
    /// What the other end finds these keys by.
    other: u32,
    next: u64,
    window: Window,
}

impl FreshSealing {
    /// `other`: the index that the other end has drawn; `start`: where the count begins, at random, and far from its end.
    pub fn new(method: Method, keys: &TransportKeys, other: u32, start: u64) -> FreshSealing {
        FreshSealing {
            method,
            send: Cipher::new(method, &keys.send),
            receive: Cipher::new(method, &keys.receive),
            other,
            next: start,
            window: Window::default(),
        }
    }

    /// Seals the packet `buf[..len]` in place, as `Sealing::seal` does. `filler`: gives random bytes that need not be secret.
    ///
    /// # Panics
    /// If `buf` has no room for what sealing adds.
    pub fn seal(&mut self, filler: &mut impl Rng, buf: &mut [u8], len: usize) -> usize {
        let whole = len + self.method.overhead();
        let (packet, rest) = buf[..whole].split_at_mut(len);
        let (tag, nonce) = rest.split_at_mut(TAG_LEN);
        nonce[..INDEX_LEN].copy_from_slice(&self.other.to_le_bytes());
        nonce[INDEX_LEN..INDEX_LEN + COUNT_LEN].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        if nonce.len() > INDEX_LEN + COUNT_LEN {
            filler.fill_bytes(&mut nonce[INDEX_LEN + COUNT_LEN..]);
        }
        let sealed = self.send.encrypt(nonce, packet);
        tag.copy_from_slice(&sealed.expect("a packet within the cipher's limit of 2^36 bytes"));
        whole
    }

    /// Opens a datagram in place, as `Sealing::open` does.
    ///
    /// # Errors
    /// [`Rejected`]; what `datagram` then holds is unspecified.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], Rejected> {
        let len = datagram.len().checked_sub(self.method.overhead());
        let (packet, rest) = datagram.split_at_mut(len.ok_or(Rejected::Short)?);
        let (tag, nonce) = rest.split_at(TAG_LEN);
        let mut count = [0; COUNT_LEN];
        count.copy_from_slice(&nonce[INDEX_LEN..INDEX_LEN + COUNT_LEN]);
        let number = u64::from_le_bytes(count);
        if self.window.contains(number) {
            return Err(Rejected::Replay);
        }
        self.receive
            .decrypt(nonce, packet, tag)
            .ok_or(Rejected::Seal)?;
        self.window.record(number);
        Ok(packet)
    }
}

/// The index in a datagram's nonce: whose keys open it, if any fresh ones do.
pub fn index_of(method: Method, datagram: &[u8]) -> Option<u32> {
    let at = datagram.len().checked_sub(method.nonce_len())?;
    datagram[at..]
        .first_chunk()
        .map(|index| u32::from_le_bytes(*index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Key;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn both(method: Method) -> [FreshSealing; 2] {
        let [send, receive] = [Key::generate(), Key::generate()];
        let here = TransportKeys { send, receive };
        let there = TransportKeys {
            send: here.receive.clone(),
            receive: here.send.clone(),
        };
        let start = u64::MAX / 4;
        [
            FreshSealing::new(method, &here, 7, start),
            FreshSealing::new(method, &there, 9, start),
        ]
    }

    fn sealed(by: &mut FreshSealing, n: u8) -> Vec<u8> {
        let mut datagram = vec![n; 100];
        let len = by.seal(&mut StdRng::seed_from_u64(n.into()), &mut datagram, 20);
        datagram.truncate(len);
        datagram
    }

    #[test]
    fn what_is_sealed_opens_once_and_only_there() {
        for method in Method::ALL {
            let [mut here, mut there] = both(method);
            for n in 0..9 {
                let datagram = sealed(&mut here, n);
                assert_eq!(index_of(method, &datagram), Some(7));
                assert_eq!(datagram.len(), 20 + method.overhead());
                for at in [0, 19, 20, 36, 47] {
                    let mut forged = datagram.clone();
                    forged[at] ^= 1;
                    assert!(there.open(&mut forged).is_err(), "{method}, byte {at}");
                }
                let opened = there
                    .open(&mut datagram.clone())
                    .map(|packet| packet.to_vec());
                assert_eq!(opened, Ok(vec![n; 20]), "{method}");
                let again = there.open(&mut datagram.clone()).err();
                assert_eq!(again, Some(Rejected::Replay));
                let back = here.open(&mut datagram.clone()).err();
                assert_eq!(back, Some(Rejected::Seal), "its own");
            }
        }
    }

    #[test]
    fn what_was_overtaken_opens_and_what_is_short_does_not() {
        let [mut here, mut there] = both(Method::Chacha20Poly1305Ietf);
        let mut datagrams: Vec<_> = (0..3).map(|n| sealed(&mut here, n)).collect();
        assert!(
            [0, 2, 1]
                .iter()
                .all(|n| there.open(&mut datagrams[*n]).is_ok())
        );
        assert_eq!(there.open(&mut [0; 27]).err(), Some(Rejected::Short));
    }
}
