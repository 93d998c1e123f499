//! Datagrams: sealing what is sent, opening what arrives, and the nonces of both. Keys are made in `key`, the nonces of others
//! remembered in `replay`; the ciphers are in `cipher`. Padding is part of the packet here: it is added and ignored elsewhere.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng, TryRng};

use super::cipher::Cipher;
use super::key::Key;
use super::method::{Method, TAG_LEN};
use super::replay::{ReplayFilter, count_of};

/// Counted nonces are numbers of 12 bytes.
const COUNT_MASK: u128 = (1 << 96) - 1;

/// Numbers that are further apart are of two processes: none sends so many datagrams in its life.
const ONE_PROCESS: u128 = 1 << 40;

/// By how much a datagram's number (`Sealing::number`) comes after another of the same process. None: it comes before that, or is
/// of another process.
pub(crate) fn number_after(number: u128, other: u128) -> Option<u128> {
    let ahead = number.wrapping_sub(other) & COUNT_MASK;
    (ahead < ONE_PROCESS).then_some(ahead)
}

/// Why a datagram is dropped. None of these is ever answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejected {
    /// It is shorter than a tag and a nonce.
    Short,
    /// It was not sealed with this key and method, or was changed since.
    Seal,
    /// Its nonce was seen before, or is one of our own that came back.
    Replay,
}

/// One end's sealing: the cipher with its key, the nonces to come and those that were seen.
///
/// Both directions share one key, so a datagram of ours that someone sends back is authentic.
/// It is recognized by its nonce (see [`Sealing::open`]), and so only by the `Sealing` that sealed it: an end has one for as
/// long as it runs, and never a copy, which would use nonces twice. What was sealed or opened in an earlier run is not known
/// in this one.
pub struct Sealing {
    method: Method,
    key: Key,
    cipher: Cipher,
    nonces: Nonces,
    filter: ReplayFilter,
}

/// Where our nonces come from, and how they are recognized.
enum Nonces {
    /// All from `start` up to `next`, modulo 2^96, were used.
    Counted { start: u128, next: u128 },
    /// 12 bytes that count from a random start, 4 random ones, and 8 that are the hash of these under a key that never leaves
    /// this struct. That no nonce repeats needs the 16 bytes only.
    Marked {
        next: u128,
        rng: Box<StdRng>,
        mark: RandomState,
    },
}

impl Sealing {
    /// Sealing with `method` under `key`, from a random nonce on.
    ///
    /// # Panics
    /// If the operating system gives no random numbers: repeated nonces would reveal what is sent.
    pub fn new(method: Method, key: &Key) -> Sealing {
        let (nonces, filter) = if method.counts() {
            (Nonces::counted(), ReplayFilter::counted())
        } else {
            (Nonces::marked(), ReplayFilter::random())
        };
        Sealing {
            method,
            key: key.clone(),
            cipher: Cipher::new(method, key),
            nonces,
            filter,
        }
    }

    /// The method that this was made with.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The key that this was made with.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the other has the same method and key.
    pub fn is_like(&self, other: &Sealing) -> bool {
        self.method == other.method && self.key == other.key
    }

    /// Bytes that sealing adds to a packet.
    pub fn overhead(&self) -> usize {
        self.method.overhead()
    }

    /// The number of a datagram among those of its sender, of 96 bits, where that counts them, and anything otherwise (as
    /// kcptun-libev's in the methods with long nonces); it is only worth something once the datagram has opened.
    pub fn number(&self, datagram: &[u8]) -> Option<u128> {
        let nonce = datagram.len().checked_sub(self.method.nonce_len())?;
        datagram[nonce..]
            .first_chunk::<12>()
            .map(|count| count_of(count))
    }

    /// Seals the packet `buf[..len]` in place, appends tag and nonce, and returns the datagram's
    /// length, `len` plus the overhead. Does not allocate.
    ///
    /// # Panics
    /// If `buf` is shorter than that.
    pub fn seal(&mut self, buf: &mut [u8], len: usize) -> usize {
        let mut nonce = [0; 24];
        let nonce = &mut nonce[..self.method.nonce_len()];
        self.nonces.next(nonce);
        self.seal_with(nonce, buf, len)
    }

    /// As [`Sealing::seal`], with a nonce of the caller's, which is not remembered as our own: for
    /// tests. A nonce that is used twice gives both packets away.
    ///
    /// # Panics
    /// Also if the nonce is not of the method's length.
    #[doc(hidden)]
    pub fn seal_with(&self, nonce: &[u8], buf: &mut [u8], len: usize) -> usize {
        assert_eq!(nonce.len(), self.method.nonce_len(), "nonce's length");
        let (packet, rest) = buf[..len + self.overhead()].split_at_mut(len);
        let (tag, nonce_to) = rest.split_at_mut(TAG_LEN);
        let sealed = self.cipher.encrypt(nonce, packet);
        tag.copy_from_slice(&sealed.expect("a packet within the cipher's limit of 2^36 bytes"));
        nonce_to.copy_from_slice(nonce);
        len + self.overhead()
    }

    /// Opens a datagram in place and returns its packet, padding included. Allocates only while
    /// the memory of nonces grows.
    ///
    /// Nonces that were seen and our own are rejected before the tag is looked at, which is many
    /// times the work; a nonce is recorded only after that, so that forgers cannot spend others'.
    ///
    /// # Errors
    /// [`Rejected`]; what `datagram` then holds is unspecified.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], Rejected> {
        let len = datagram.len().checked_sub(self.overhead());
        let (packet, rest) = datagram.split_at_mut(len.ok_or(Rejected::Short)?);
        let (tag, nonce) = rest.split_at(TAG_LEN);
        let spot = self.filter.spot(nonce);
        if self.nonces.is_own(nonce) || self.filter.seen(&spot) {
            return Err(Rejected::Replay);
        }
        self.cipher
            .decrypt(nonce, packet, tag)
            .ok_or(Rejected::Seal)?;
        self.filter.record(&spot);
        Ok(packet)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Nonces {
    fn start() -> u128 {
        let mut start = [0; 12];
        SysRng
            .try_fill_bytes(&mut start)
            .expect("no random numbers from the operating system");
        count_of(&start)
    }

    fn counted() -> Nonces {
        let start = Nonces::start();
        Nonces::Counted { start, next: start }
    }

    fn marked() -> Nonces {
        let rng =
            StdRng::try_from_rng(&mut SysRng).expect("no random numbers from the operating system");
        Nonces::Marked {
            next: Nonces::start(),
            rng: Box::new(rng),
            mark: RandomState::new(),
        }
    }

    /// Writes a nonce that was not used before.
    fn next(&mut self, nonce: &mut [u8]) {
        match self {
            Nonces::Counted { next, .. } => {
                nonce.copy_from_slice(&next.to_le_bytes()[..nonce.len()]);
                *next = (*next + 1) & COUNT_MASK;
            }
            Nonces::Marked { next, rng, mark } => {
                let (unique, own) = nonce.split_at_mut(16);
                unique[..12].copy_from_slice(&next.to_le_bytes()[..12]);
                *next = (*next + 1) & COUNT_MASK;
                rng.fill_bytes(&mut unique[12..]);
                own.copy_from_slice(&mark.hash_one(unique).to_le_bytes());
            }
        }
    }

    /// Whether the nonce is one that [`Nonces::next`] wrote. A nonce of someone else is taken for
    /// one with a probability of 2^-64, or for counted ones of 2^-96 a packet that we sent.
    fn is_own(&self, nonce: &[u8]) -> bool {
        match self {
            Nonces::Counted { start, next } => {
                let sent = next.wrapping_sub(*start) & COUNT_MASK;
                (count_of(nonce).wrapping_sub(*start) & COUNT_MASK) < sent
            }
            Nonces::Marked { mark, .. } => {
                let (unique, own) = nonce.split_at(16);
                *own == mark.hash_one(unique).to_le_bytes()
            }
        }
    }
}
