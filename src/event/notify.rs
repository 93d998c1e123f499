//! What the service manager is told: that the service is ready, reloads, stops or works, and how many sessions it has. If none
//! has asked for it, nothing is done.

use crate::number::count;
use crate::platform::{Manager, State, reason};
use crate::time::{Duration, Instant};
use log::debug;

/// The least span between two reports of the number of sessions.
const STATUS_PAUSE: Duration = Duration::from_secs(5);

/// Tells the service manager, if there is one.
#[derive(Default)]
pub(super) struct Notify {
    manager: Option<Manager>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    /// When the next sign of life has to be there.
    sign: Option<Instant>,
    /// The number of sessions that it was told.
    said: Option<usize>,
    /// When it may be told another one.
    status: Instant,
    /// Whether it knows another number than the right one.
    outdated: bool,
}

impl Notify {
    /// For the manager that has started this process, if one has.
    pub(super) fn from_environment() -> Notify {
        let manager = Manager::find();
        let watchdog = manager.as_ref().and_then(Manager::watchdog);
        Notify {
            manager,
            // Twice as often as needed, as sd_watchdog_enabled(3) asks for.
            watchdog: watchdog.map(|span| Duration::from(span) / 2),
            sign: watchdog.map(|_| Instant::ZERO),
            ..Notify::default()
        }
    }

    /// The sockets are bound, or a reload is over.
    pub(super) fn ready(&self) {
        self.tell(State::Ready);
    }

    /// The configuration is read again; `ready` has to follow, whether that worked or not.
    pub(super) fn reloading(&self) {
        self.tell(State::Reloading);
    }

    /// The program is about to end.
    pub(super) fn stopping(&self) {
        self.tell(State::Stopping);
    }

    /// The loop turns: what is due is told.
    pub(super) fn turned(&mut self, now: Instant, sessions: usize) {
        if self.manager.is_none() {
            return;
        }
        match (self.watchdog, self.sign) {
            (Some(span), Some(due)) if due <= now => {
                self.tell(State::Watchdog);
                self.sign = Some(now.after(span));
            }
            _ => (),
        }
        self.outdated = self.said != Some(sessions);
        if self.outdated && self.status <= now {
            let status = count(sessions, "session");
            self.tell(State::Status(&status));
            self.said = Some(sessions);
            self.status = now.after(STATUS_PAUSE);
            self.outdated = false;
        }
    }

    /// When `turned` has to be called again at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        let status = self.outdated.then_some(self.status);
        self.sign.into_iter().chain(status).min()
    }

    fn tell(&self, state: State) {
        let told = self.manager.as_ref().map(|manager| manager.tell(state));
        if let Some(Err(error)) = told {
            debug!("the service manager cannot be told: {}", reason(&error));
        }
    }
}
