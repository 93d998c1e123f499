//! How much the other end takes: the window that it tells, and when it is asked for one that stays closed, as TCP's persist
//! timer does (RFC 9293, 3.8.6.1). How much is in flight is in `flight`.

use crate::segment::DEFAULT_WINDOW;
use crate::time::{Duration, Instant};

/// How long to wait before asking for a window that stays closed: at first, and at most.
const FIRST_ASK_WAIT: Duration = Duration::from_millis(200);
const LONGEST_ASK_WAIT: Duration = Duration::from_millis(5_000);

pub(super) struct RemoteWindow {
    /// As told last, and the widest that was told, segments.
    told: u16,
    widest: u16,
    /// As configured, segments: no more are on their way.
    limit: u16,
    /// When to ask for the closed window, and how long to wait after that.
    ask_at: Option<Instant>,
    ask_wait: Duration,
}

impl RemoteWindow {
    /// `limit`: segments.
    pub(super) fn new(limit: u16) -> RemoteWindow {
        RemoteWindow {
            told: DEFAULT_WINDOW,
            widest: 0,
            limit,
            ask_at: None,
            ask_wait: FIRST_ASK_WAIT,
        }
    }

    /// The other end tells its window.
    pub(super) fn set(&mut self, told: u16) {
        self.told = told;
        self.widest = self.widest.max(told);
    }

    /// Something was heard, and so many segments are on their way: a closed window is asked for from now on.
    pub(super) fn note(&mut self, span: usize, now: Instant) {
        if self.is_closed(span) {
            self.ask_at.get_or_insert(now.after(FIRST_ASK_WAIT));
        } else {
            (self.ask_at, self.ask_wait) = (None, FIRST_ASK_WAIT);
        }
    }

    /// There is no room for one more where so many segments are on their way.
    pub(super) fn is_closed(&self, span: usize) -> bool {
        span >= usize::from(self.told.min(self.limit))
    }

    /// It is so narrow that what has arrived there is not being read.
    pub(super) fn is_narrow(&self) -> bool {
        self.told < self.widest / 2
    }

    /// When to ask for it, if it stays closed.
    pub(super) fn asks_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// It is being asked for.
    pub(super) fn on_ask(&mut self, now: Instant) {
        self.ask_wait = (self.ask_wait * 2).min(LONGEST_ASK_WAIT);
        self.ask_at = Some(now.after(self.ask_wait));
    }
}
