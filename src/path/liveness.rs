//! When a path was heard, and what it owes an answer to. What is done about silence is decided in `tunnel::peer`.

use super::Local;
use crate::time::{Duration, Instant};

/// A path that was heard from within this is not silent.
pub(crate) const ALIVE: Duration = Duration::from_secs(5);

/// When something came from a path's other end.
pub(crate) struct Liveness {
    /// The address of this machine that the last good datagram came to, and when that was.
    local: Local,
    /// The socket that is sent from, whichever is sent to.
    pinned: Option<u16>,
    heard_at: Instant,
    /// Something was ever heard.
    heard: bool,
    /// When a session last brought something new: see `Counts`.
    news_at: Instant,
    /// When it was heard again after silence.
    alive_since: Instant,
    unanswered: Unanswered,
}

/// What was sent since something was last answered.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unanswered {
    /// The first packet of a session, and the first with something that wants an acknowledgement.
    pub(crate) sent: Option<Instant>,
    pub(crate) owed: Option<Instant>,
    /// What had come from there by the first: see `Counts`.
    pub(crate) news: u64,
}

impl Liveness {
    pub(crate) fn new(now: Instant) -> Liveness {
        Liveness {
            local: Local::default(),
            pinned: None,
            heard_at: now,
            heard: false,
            news_at: now,
            alive_since: now,
            unanswered: Unanswered::default(),
        }
    }

    /// A good datagram came to this address of the machine.
    pub(crate) fn hear(&mut self, local: Local, now: Instant) {
        if self.is_silent(now) {
            self.alive_since = now;
        }
        self.set_local(local);
        (self.heard_at, self.heard) = (now, true);
    }

    /// A session has brought something new.
    pub(crate) fn on_news(&mut self, now: Instant) {
        self.news_at = now;
    }

    /// Something of ours was answered.
    pub(crate) fn on_answer(&mut self) {
        self.unanswered = Unanswered::default();
    }

    /// A packet of a session leaves. `owed`: it is owed an acknowledgement; `news`: what has come from there.
    pub(crate) fn on_sent(&mut self, owed: bool, news: u64, now: Instant) {
        let unanswered = &mut self.unanswered;
        if unanswered.sent.is_none() {
            (unanswered.sent, unanswered.news) = (Some(now), news);
        }
        if owed {
            unanswered.owed.get_or_insert(now);
        }
    }

    /// The way is another one: it ends at this address of the machine, if that is known.
    pub(crate) fn move_to(&mut self, local: Local) {
        self.set_local(local);
        self.on_answer();
    }

    /// From now on what is sent leaves by this socket: this end has chosen it, and late datagrams that come to another one
    /// change nothing.
    pub(crate) fn pin(&mut self, socket: u16) {
        self.pinned = Some(socket);
        self.local.socket = socket;
    }

    fn set_local(&mut self, local: Local) {
        self.local = Local {
            ip: local.ip,
            socket: self.pinned.unwrap_or(local.socket),
        };
    }

    /// The address of this machine that the other end sends to.
    pub(crate) fn local(&self) -> Local {
        self.local
    }

    pub(crate) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// How long ago something came; None: nothing ever did.
    pub(crate) fn heard_before(&self, now: Instant) -> Option<Duration> {
        self.heard.then(|| now.since(self.heard_at))
    }

    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.since(self.heard_at) >= ALIVE
    }

    pub(crate) fn alive_since(&self) -> Instant {
        self.alive_since
    }

    pub(crate) fn news_at(&self) -> Instant {
        self.news_at
    }

    pub(crate) fn unanswered(&self) -> Unanswered {
        self.unanswered
    }
}
