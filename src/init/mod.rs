//! `kcptun init`: from nothing to a tunnel. It makes a key and writes `server.json` and `peer.json`, or another peer's file for
//! a server that is there, and says what to do next on each machine.
//!
//! What is asked and what a good answer is stand in `plan`, what the files say in `files`, and what is printed next in `next`:
//! all of them functions of what is given to them. The disk and the terminal are in `run`, names and this machine's addresses in
//! `event::place`, its firewall and its services in `platform`.

mod files;
mod next;
mod plan;
mod run;

pub use run::{Failure, run};

use std::path::PathBuf;

/// What the command line asks for; what is None is asked for, on a terminal.
#[derive(Debug, Default)]
pub struct Request {
    /// The server: a host, with its user and its UDP ports if they were given.
    pub server: Option<String>,
    /// The TCP service, as the server reaches it.
    pub connect: Option<String>,
    /// Where programs connect to, at the other machine.
    pub listen: Option<String>,
    /// The configuration of a server that is to get another peer.
    pub peer: Option<PathBuf>,
    /// Where the files are written. None: the current directory.
    pub directory: Option<PathBuf>,
}
