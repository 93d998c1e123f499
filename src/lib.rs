//! kcptun: TCP connections over KCP, a reliable protocol on UDP.
//!
//! The logic has no I/O: `tunnel` takes bytes and a time and gives bytes and a next deadline. Only `event` (and the log) touches
//! sockets and the clock.

pub mod cli;
pub mod config;
pub mod congestion;
pub mod conversation;
pub mod crypto;
pub mod daemon;
pub mod ended;
pub mod event;
pub mod http;
pub mod logging;
pub mod message;
pub mod number;
pub mod path;
pub mod ping;
pub mod pmtu;
pub mod proxy;
pub mod ring;
pub mod segment;
pub mod session;
pub mod settings;
pub mod throttle;
pub mod time;
pub mod timer;
pub mod tunnel;
