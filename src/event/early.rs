//! TCP connections that came before the other end's address was known: they wait some seconds for it, few of them.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// How long a connection waits: it takes a second or two to resolve a name again.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most connections that wait; each of them holds a file.
const WAITING_MAX: usize = 256;

/// What waits, the oldest first.
pub(super) struct Early<T> {
    waiting: VecDeque<(Instant, T)>,
}

impl<T> Default for Early<T> {
    fn default() -> Early<T> {
        Early {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Early<T> {
    /// Keeps one. Fails with it if there are too many.
    pub(super) fn put(&mut self, now: Instant, one: T) -> Result<(), T> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(one);
        }
        self.waiting.push_back((now.after(WAIT_TIMEOUT), one));
        Ok(())
    }

    /// The oldest, whether or not it has waited for long.
    pub(super) fn take(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, one)| one)
    }

    /// One that has waited for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Option<T> {
        self.due().filter(|due| *due <= now)?;
        self.take()
    }

    /// When `expire` gives the next one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SEC;

    #[test]
    fn they_wait_in_order_and_not_for_long() {
        let at = |secs| Instant::ZERO.after(secs * SEC);
        let mut early = Early::default();
        assert_eq!(early.due(), None);
        for n in 0..3 {
            assert_eq!(early.put(at(n), n), Ok(()));
        }
        assert_eq!((early.expire(at(9)), early.due()), (None, Some(at(10))));
        assert_eq!(
            (early.expire(at(10)), early.expire(at(10))),
            (Some(0), None)
        );
        assert_eq!((early.take(), early.take()), (Some(1), Some(2)));
        assert_eq!(early.take(), None);
        let kept = (0..1000).filter(|n| early.put(at(20), *n).is_ok()).count();
        assert_eq!(kept, WAITING_MAX);
    }
}
