//! How wide the receive window of a conversation is. Wide windows are needed where a lost segment holds up round trips'
//! worth of others, and cost memory where a reader stalls: it grows with what the reader takes, as in dynamic right-sizing
//! (Fisk and Feng, LANL 2001).

use crate::time::{Duration, Instant};

/// Segments at first: a round trip of 100 ms at 100 Mbit/s.
const INITIAL_WINDOW: u16 = 1024;
/// Round trips' worth of data that a window holds. At 30 % loss a segment that is lost six times over holds up as many,
/// and the average lags behind while the rate grows.
const WINDOW_ROUND_TRIPS: u32 = 10;
/// The round trip is taken for no shorter than this.
const SHORTEST_RTT: Duration = Duration::from_millis(20);

pub(super) struct Window {
    size: u16,
    most: u16,
    /// Segments read since then.
    since: Instant,
    read: u32,
    /// Segments read in a round trip, on average.
    average: u32,
}

impl Window {
    /// `most`: segments, as configured.
    pub(super) fn new(most: u16, now: Instant) -> Window {
        Window {
            size: INITIAL_WINDOW.min(most),
            most,
            since: now,
            read: 0,
            average: 0,
        }
    }

    /// Segments.
    pub(super) fn size(&self) -> u16 {
        self.size
    }

    /// The reader has taken a segment. Tells the window's size if it has become wider.
    pub(super) fn on_read(&mut self, srtt: Duration, now: Instant) -> Option<u16> {
        self.read += 1;
        if now.since(self.since) < srtt.max(SHORTEST_RTT) {
            return None;
        }
        self.average = (self.average + self.read) / 2;
        (self.read, self.since) = (0, now);
        let wanted = (self.average * WINDOW_ROUND_TRIPS).min(u32::from(self.most)) as u16;
        (wanted > self.size).then(|| {
            self.size = wanted;
            wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    fn read(window: &mut Window, per_ms: u32, ms: std::ops::Range<u64>) {
        for at in ms {
            (0..per_ms).for_each(|_| {
                window.on_read(100 * MS, Instant::from_millis(at));
            });
        }
    }

    #[test]
    fn it_grows_with_what_is_read_and_no_further() {
        let mut window = Window::new(32_768, Instant::ZERO);
        assert_eq!(window.size(), 1024);
        read(&mut window, 1, 0..2000);
        assert_eq!(
            window.size(),
            1024,
            "100 segments a round trip need no more"
        );
        read(&mut window, 9, 2000..4000);
        assert!(
            (8_000..10_000).contains(&window.size()),
            "{}",
            window.size()
        );
        read(&mut window, 90, 4000..6000);
        assert_eq!(window.size(), 32_768);
        assert_eq!(Window::new(64, Instant::ZERO).size(), 64);
    }
}
