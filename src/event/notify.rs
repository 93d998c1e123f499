//! What systemd is told (sd_notify(3)): that the service is ready, reloads, stops or works, and how many sessions it has.
//! If no service manager has asked for it, nothing is done.

use crate::number::count;
use crate::time::{Duration, Instant};
use log::debug;
use sd_notify::{NotifyState, notify, watchdog_enabled};

/// The least span between two reports of the number of sessions.
const STATUS_PAUSE: Duration = Duration::from_secs(5);

/// Tells the service manager, if there is one.
#[derive(Default)]
pub(super) struct Notify {
    listens: bool,
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
    /// As NOTIFY_SOCKET and WATCHDOG_USEC say.
    pub(super) fn from_environment() -> Notify {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = watchdog_enabled().filter(|_| listens);
        Notify {
            listens,
            // Twice as often as needed, as sd_watchdog_enabled(3) asks for.
            watchdog: watchdog.map(|span| Duration::from(span) / 2),
            sign: watchdog.map(|_| Instant::ZERO),
            ..Notify::default()
        }
    }

    /// The sockets are bound, or a reload is over.
    pub(super) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is read again; `ready` has to follow, whether that worked or not.
    pub(super) fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// The program is about to end.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// The loop turns: what is due is told.
    pub(super) fn turned(&mut self, now: Instant, sessions: usize) {
        if !self.listens {
            return;
        }
        if let (Some(span), Some(due)) = (self.watchdog, self.sign)
            && due <= now
        {
            self.tell(&[NotifyState::Watchdog]);
            self.sign = Some(now.after(span));
        }
        self.outdated = self.said != Some(sessions);
        if self.outdated && self.status <= now {
            let status = count(sessions, "session");
            self.tell(&[NotifyState::Status(&status)]);
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

    fn tell(&self, state: &[NotifyState]) {
        if self.listens
            && let Err(error) = notify(state)
        {
            debug!("the service manager cannot be told: {error}");
        }
    }
}
