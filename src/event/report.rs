//! What the loop says to people: why it cannot run, what an error of the system means, and warnings that are
//! not repeated too often. Nothing here does I/O but the log.

use crate::time::Instant;
use log::warn;
use std::{fmt, io};

/// Why the loop could not start or go on: one line that names the key, the value and the reason.
#[derive(Debug)]
pub struct RunError(String);

impl RunError {
    /// An error with this line.
    pub fn new(line: impl Into<String>) -> RunError {
        RunError(line.into())
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RunError {}

/// What `error` means, in words for the end of a sentence.
pub(super) fn reason(error: &io::Error) -> String {
    if let Some(text) = error.raw_os_error().and_then(known) {
        return text.into();
    }
    let mut text = error.to_string();
    if let Some(at) = text.find(" (os error") {
        text.truncate(at);
    }
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".into(),
    }
}

/// Words for errors whose description by the system does not say what to do.
fn known(code: i32) -> Option<&'static str> {
    Some(match code {
        libc::EADDRINUSE => "the port is taken",
        libc::EADDRNOTAVAIL => {
            "this address, or a free port of it, is not available on this machine"
        }
        libc::EMFILE => "too many open files (raise the limit, LimitNOFILE or ulimit -n)",
        libc::EMSGSIZE => "the packet is too large for the path (lower kcp.mtu)",
        libc::EAFNOSUPPORT => {
            "this machine does not have this kind of address (IPv6 or IPv4 is switched off)"
        }
        _ => return None,
    })
}

/// A kind of warning that is logged ever more rarely while it lasts, with the number of those that were not.
#[derive(Default)]
pub(super) struct Throttle(crate::throttle::Throttle);

impl Throttle {
    /// Logs `line` as a warning, unless others like it were logged too recently.
    pub(super) fn warn(&mut self, now: Instant, line: fmt::Arguments) {
        match self.0.admit(now) {
            Some(0) => warn!("{line}"),
            Some(more) => warn!("{line} ({more} more like this since the last such line)"),
            None => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_end_a_sentence() {
        let code = io::Error::from_raw_os_error;
        assert_eq!(reason(&code(libc::EACCES)), "permission denied");
        assert_eq!(reason(&code(libc::EADDRINUSE)), "the port is taken");
        let lookup =
            io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(reason(&lookup), "name or service not known");
    }
}
