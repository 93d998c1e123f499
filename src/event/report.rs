//! What the loop says to people: why it cannot run, and warnings that are not repeated too often. Nothing here does I/O but
//! the log.

pub(super) use crate::platform::reason;

use crate::time::Instant;
use log::warn;
use std::fmt;

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
