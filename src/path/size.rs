//! How large the packets of a path are: what `pmtu` has found, when it is doubted, and what the log is told of it. The pings
//! that the search sends, and what follows for sessions, are in `tunnel::size`.

use crate::pmtu::{BASE, Probe, Search};
use crate::time::{Duration, Instant};

/// The size of a path that has carried no large packet for so long is confirmed again before one is sent.
const UNUSED: Duration = Duration::from_millis(10_000);

/// Sizes are bytes of whole IP packets.
pub(crate) struct Size {
    search: Search,
    /// When a packet was last sent that not every path carries.
    large_at: Instant,
    /// What the log was last told; 0: nothing yet.
    told: usize,
}

impl Size {
    /// `most`: what the configuration allows.
    pub(crate) fn new(most: usize, now: Instant) -> Size {
        Size {
            search: Search::new(most),
            large_at: now,
            told: 0,
        }
    }

    /// The way is another one.
    pub(crate) fn forget(&mut self) {
        (self.search, self.told) = (Search::new(self.search.most()), 0);
    }

    /// What packets may have now.
    pub(crate) fn size(&self) -> usize {
        self.search.size()
    }

    /// Whether that is what the last search has found, and none goes on.
    pub(crate) fn is_found(&self) -> bool {
        self.search.has_found()
    }

    /// When `ask` has something to do; `NEVER` if it has not.
    pub(crate) fn due(&self) -> Instant {
        self.search.due()
    }

    /// When the clock has to come back to the search. None: what comes begins the next one.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.search.is_active().then(|| self.search.due())
    }

    /// The pings to send now. `rtt`: of the path; `token`: gives another number each time.
    pub(crate) fn ask(
        &mut self,
        rtt: Duration,
        now: Instant,
        token: impl FnMut() -> u32,
    ) -> Vec<Probe> {
        self.search.ask(rtt, now, token)
    }

    /// A pong has come. False if it answers no ping of the search.
    pub(crate) fn on_pong(&mut self, token: u32, now: Instant) -> bool {
        self.search.on_pong(token, now)
    }

    /// Packets of the present size may not arrive any more.
    pub(crate) fn suspect(&mut self, now: Instant) {
        self.search.suspect(now);
    }

    /// A packet of so many bytes leaves.
    pub(crate) fn on_sent(&mut self, size: usize, now: Instant) {
        if size > BASE {
            self.large_at = now;
        }
    }

    /// The path is to carry large packets. True if it has carried none for a while, and is asked anew.
    pub(crate) fn resume(&mut self, now: Instant) -> bool {
        let unused = now.since(self.large_at.max(self.search.checked_at())) >= UNUSED;
        if unused {
            self.large_at = now;
            self.search.resume(now);
        }
        unused
    }

    /// What the log is to be told of: the size that it was told before (0: none), if a search has found another one.
    pub(crate) fn take_news(&mut self) -> Option<usize> {
        let size = self.size();
        let news = self.is_found() && self.told != size;
        news.then(|| std::mem::replace(&mut self.told, size))
    }

    /// What the configuration allows.
    pub(crate) fn most(&self) -> usize {
        self.search.most()
    }
}
