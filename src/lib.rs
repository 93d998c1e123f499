//! kcptun: TCP connections over KCP, a reliable protocol on UDP.
//!
//! The way of a byte:
//!
//! ```text
//! TCP socket -> session (messages) -> KCP -> congestion (when may it leave) -> packet (seal) -> UDP socket
//! UDP socket -> packet (open, replay filter) -> session table -> KCP -> session -> TCP socket
//! ```
//!
//! - A *session* is one TCP connection: a number and the other end's address. Its stream is a series of messages: dial, push
//!   (data), eof, keepalive. The dial travels with the first data, so opening a session costs no round trip.
//! - A *conversation* is a session's KCP: numbered segments that are acknowledged and put in order. A loss is found from what
//!   was acknowledged after it; a timer is the last resort. With rate control the `kcp` crate keeps what has arrived until it
//!   is read, and what is sent, repeated and acknowledged is decided here. Without it the crate does everything.
//! - A *path* is an address of the other end. All sessions on it share what is known of it: rate, round trip, loss.
//!   `congestion` begins with what it believes about a path, and why.
//! - Control packets (session number 0) are ping, pong, reset, and those by which two ends behind NAT find each other.
//!
//! The logic has no I/O: `tunnel` and all below it take bytes and a time, and give bytes and a next deadline. Only `event`
//! (and the log) touches sockets and the clock. So whole tunnels run in the tests under virtual time, over the simulated link
//! of `tests/sim`.
//!
//! | module | holds |
//! |---|---|
//! | `main`, `cli`, `logging`, `terminal` | the program, its options, the log, colour |
//! | `config` | the configuration; `config::keys` is the table of all keys |
//! | `reference` | what `kcptun help` and the man pages say, made from the tables of the program |
//! | `init` | `kcptun init`: the two files of a new tunnel, and what to do with them |
//! | `event` | the event loop: sockets, signals, names, the clock |
//! | `platform` | what each system does in its own way: a folder for each, behind one interface |
//! | `http` | statistics over HTTP: requests, answers, what limits a tunnel |
//! | `ping` | `kcptun ping`: what is sent, and what follows from the answers |
//! | `tunnel` | the session table, paths and their migration, rendezvous, and which datagram leaves next |
//! | `session`, `message`, `proxy` | one TCP connection: its messages and states |
//! | `conversation`, `segment` | KCP: recovery of losses, acks, windows |
//! | `path`, `congestion`, `pmtu` | what is known of a path; how much may be in flight; how large packets may be |
//! | `crypto` | keys, sealing, the replay filter, the handshake for fresh keys |
//! | `time_wait`, `ring`, `pool`, `throttle`, `time`, `timer`, `number` | TIME_WAIT, buffers, throttled log lines, time, the timer wheel, numbers as text |

#![warn(missing_docs, unreachable_pub)]

pub mod cli;
pub mod config;
mod congestion;
pub mod conversation;
pub mod crypto;
pub mod event;
pub mod http;
pub mod init;
pub mod logging;
pub mod message;
mod number;
pub mod path;
mod ping;
pub mod platform;
pub mod pmtu;
pub mod pool;
pub mod proxy;
pub mod reference;
pub mod ring;
pub mod segment;
mod session;
pub mod settings;
mod terminal;
mod throttle;
pub mod time;
mod time_wait;
mod timer;
pub mod tunnel;
