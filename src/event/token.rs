//! The tokens by which the loop's poll names what is ready: which number stands for what.

use crate::config::PORTS_MAX;
use mio::Token;

/// A signal has come.
pub(super) const SIGNALS: Token = Token(0);
/// A name has been resolved.
pub(super) const ANSWERS: Token = Token(1);
/// The first listener of `listen`; the others follow.
pub(super) const FIRST_LISTENER: usize = 2;
/// The most addresses of one name that are listened on.
pub(super) const MAX_LISTENERS: usize = 16;
/// The first listener of `http_listen`; the others and their connections follow.
pub(super) const FIRST_HTTP: usize = FIRST_LISTENER + MAX_LISTENERS;
/// The first of the tunnel's UDP sockets; the others follow.
pub(super) const FIRST_UDP: usize = 64;
/// Routes or addresses of this machine have changed.
pub(super) const NETWORK: Token = Token(FIRST_UDP - 1);
/// The TCP connection of session 0; those of the others follow.
pub(super) const FIRST_SESSION: usize = FIRST_UDP + PORTS_MAX;
