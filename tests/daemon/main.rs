//! Real daemons, and real connections through them, on the loopback interface. Their time is real: what only computes, and
//! would keep them waiting, is in programs of its own.

#[path = "../harness/mod.rs"]
mod harness;

mod e2e;
mod fresh_keys;
mod http;
mod init;
mod log;
mod ping;
mod ports;
mod reload;
mod service;
