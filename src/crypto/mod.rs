//! Keys, the sealing of datagrams, and the rejection of replayed ones.
//!
//! `method`: the methods and their sizes. `key`: where a key comes from. `cipher`: what encrypts. `seal`: datagrams
//! and their nonces. `replay`: which nonces were seen. `handshake`: how two processes agree on fresh keys; `fresh`: datagrams
//! under these, and `window`: which of them were seen. What is inside a datagram, padding included, and from
//! which address it may come, is not decided here; nothing here reads files, sockets or a clock.

pub mod cipher;
mod fresh;
pub mod handshake;
mod key;
mod method;
mod replay;
mod seal;
mod window;

pub use fresh::{FreshSealing, index_of};
pub use key::{Key, KeyError};
pub use method::{Method, TAG_LEN};
pub(crate) use seal::number_after;
pub use seal::{Rejected, Sealing};
