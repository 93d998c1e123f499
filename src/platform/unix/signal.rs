//! Signals as an event source: the handlers write into a socket pair whose other end the loop polls. A SIGHUP that comes before
//! there is a loop is kept for it, from `hear_reload` on.
//!
//! SIGPIPE is not here: Rust's runtime ignores it before `main`, and a write to a closed socket is an error.

use crate::platform::Signal;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};
use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The handler that keeps SIGHUP until `Signals` takes it over, and whether one has come.
static EARLY: Mutex<Option<Early>> = Mutex::new(None);

/// A handler, and the flag that it sets.
type Early = (SigId, Arc<AtomicBool>);

/// From now on SIGHUP is kept for `Signals` rather than ending the process. To be called before anybody can find this process
/// by its pid file. Fails where the system allows no handler.
pub fn hear_reload(_config: &Path) -> io::Result<()> {
    let flag = Arc::new(AtomicBool::new(false));
    let handler = flag::register(SIGHUP, flag.clone())?;
    *early() = Some((handler, flag));
    Ok(())
}

fn early() -> MutexGuard<'static, Option<Early>> {
    EARLY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals that the program handles, until this is dropped.
pub(crate) struct Signals {
    pipe: UnixStream,
    /// Whether there may be something to take: to ask the pipe costs a call.
    noted: bool,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    handlers: Vec<SigId>,
}

impl Signals {
    /// Takes the signals over, with a SIGHUP that came since `hear_reload`; `token` becomes readable when one comes from now on.
    /// What came before is there to be taken at once.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let (read, write) = StdUnixStream::pair()?;
        read.set_nonblocking(true)?;
        let mut signals = Signals {
            pipe: UnixStream::from_std(read),
            noted: true,
            stop: Arc::default(),
            reload: Arc::default(),
            handlers: Vec::new(),
        };
        registry.register(&mut signals.pipe, token, Interest::READABLE)?;
        for (number, flag) in [
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGHUP, &signals.reload),
        ] {
            // The flag first: whoever is woken finds it set.
            signals.handlers.push(flag::register(number, flag.clone())?);
            signals
                .handlers
                .push(low_level::pipe::register(number, write.try_clone()?)?);
        }
        // After the new handlers are there: one that comes between counts for both, and so once.
        if let Some((handler, flag)) = early().take() {
            low_level::unregister(handler);
            signals
                .reload
                .fetch_or(flag.load(Ordering::Acquire), Ordering::AcqRel);
        }
        Ok(signals)
    }

    /// Notes that the poll said something of the token.
    pub(crate) fn note(&mut self) {
        self.noted = true;
    }

    /// The next signal that has come and was noted. Repetitions of one before it is taken count once, as in the kernel.
    pub(crate) fn take(&mut self) -> Option<Signal> {
        if !self.noted {
            return None;
        }
        // The pipe first: a signal between the two steps wakes the loop once in vain, rather than not at all.
        while matches!(self.pipe.read(&mut [0; 64]), Ok(1..)) {}
        if self.stop.swap(false, Ordering::AcqRel) {
            return Some(Signal::Stop);
        }
        self.noted = self.reload.swap(false, Ordering::AcqRel);
        self.noted.then_some(Signal::Reload)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            low_level::unregister(handler);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    #[test]
    fn signals_wake_the_loop_and_say_what_they_want() {
        let mut poll = Poll::new().expect("poll");
        let mut signals = Signals::new(poll.registry(), Token(1)).expect("signals");
        assert_eq!(signals.take(), None);
        low_level::raise(SIGHUP).expect("raise");
        low_level::raise(SIGTERM).expect("raise");
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .expect("poll");
        assert!(!events.is_empty());
        assert_eq!(signals.take(), None);
        signals.note();
        assert_eq!(signals.take(), Some(Signal::Stop));
        assert_eq!(signals.take(), Some(Signal::Reload));
        assert_eq!(signals.take(), None);
    }
}
