//! What the other end is told of the receive window, and when it is told though there is nothing else to say. How wide the
//! window is follows from `inbound` and `window`.

use crate::time::{Duration, Instant};

/// How soon a window that has opened is told again, and how often: the other end waits for it.
const REPEAT_WAIT: Duration = Duration::from_millis(20);
const REPEATS: u8 = 6;

pub(super) struct Advertised {
    /// All before it have arrived, and so many more segments are welcome.
    una: u32,
    wnd: u16,
    /// Segments that were read since the window was last told.
    read: u32,
    /// It is to be told by the next packet.
    due: bool,
    /// When an opened window is told again, and how many times at most: until something new comes.
    repeat: Option<(Instant, u8)>,
}

impl Advertised {
    /// `wnd`: segments.
    pub(super) fn new(wnd: u16) -> Advertised {
        Advertised {
            una: 0,
            wnd,
            read: 0,
            due: false,
            repeat: None,
        }
    }

    /// Every header tells this from now on.
    pub(super) fn set(&mut self, una: u32, wnd: u16) {
        (self.una, self.wnd) = (una, wnd);
    }

    pub(super) fn set_window(&mut self, wnd: u16) {
        self.wnd = wnd;
    }

    /// All before this number have arrived, as the other end is told.
    pub(super) fn una(&self) -> u32 {
        self.una
    }

    /// The window that the other end is told, segments.
    pub(super) fn wnd(&self) -> u16 {
        self.wnd
    }

    /// A segment was read.
    pub(super) fn on_read(&mut self) {
        self.read += 1;
    }

    /// The window is being told with something else.
    pub(super) fn restart(&mut self) {
        self.read = 0;
    }

    /// Whether a window that was closing has opened again, where it is `size` segments if all is read.
    pub(super) fn has_opened(&self, size: u16) -> bool {
        let quarter = u32::from(size / 4);
        u32::from(self.wnd) < quarter * 2 && self.read >= quarter
    }

    /// The next packet tells it.
    pub(super) fn tell(&mut self) {
        self.due = true;
    }

    /// Likewise, and it is told again: the other end waits for it.
    pub(super) fn tell_repeatedly(&mut self, now: Instant) {
        self.repeat = Some((now.after(REPEAT_WAIT), REPEATS));
        self.due = true;
        self.read = 0;
    }

    /// The other end goes on.
    pub(super) fn stop_repeating(&mut self) {
        self.repeat = None;
    }

    /// When an opened window is told again.
    pub(super) fn repeats_at(&self) -> Option<Instant> {
        self.repeat.map(|(at, _)| at)
    }

    /// Whether it is to be told now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due || super::is_due(self.repeats_at(), now)
    }

    /// A packet leaves. True if it is to tell the window. `srtt`: of its path.
    pub(super) fn take_due(&mut self, srtt: Duration, now: Instant) -> bool {
        let due = self.is_due(now);
        self.due = false;
        if let Some((_, left)) = self.repeat.filter(|(at, _)| *at <= now) {
            let wait = REPEAT_WAIT.max(srtt);
            self.repeat = (left > 1).then(|| (now.after(wait), left - 1));
        }
        due
    }
}
