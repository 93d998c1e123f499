//! Which of the latest datagrams of one sender have come, where it counts them from anywhere: a sliding window (RFC 6479).
//! Other than `replay`, which is for any number of senders under one key, it has a fixed size, and what is older than it is
//! taken for a copy.

/// Words of the window. One is being filled.
const WORDS: usize = 24;
const WORD_BITS: u64 = 64;
/// What is so many behind the newest, or more, is taken for a copy: 64 fewer than the window has bits.
const REACH: u64 = (WORDS as u64 - 1) * WORD_BITS;

/// The window. Empty until the first datagram has come.
#[derive(Default)]
pub(super) struct Window(Option<Box<Seen>>);

struct Seen {
    newest: u64,
    words: [u64; WORDS],
}

impl Window {
    /// Whether a datagram of this number has come, or is so old that it may have.
    pub(super) fn contains(&self, number: u64) -> bool {
        let Some(seen) = &self.0 else {
            return false;
        };
        let (word, bit) = place_of(number);
        match seen.newest.checked_sub(number) {
            None => false,
            Some(behind) => behind >= REACH || seen.words[word] & bit != 0,
        }
    }

    /// Records a datagram that was not seen before.
    pub(super) fn record(&mut self, number: u64) {
        let seen = self.0.get_or_insert_with(|| {
            Box::new(Seen {
                newest: number,
                words: [0; WORDS],
            })
        });
        if number > seen.newest {
            let first = seen.newest / WORD_BITS + 1;
            let last = (number / WORD_BITS).min(seen.newest / WORD_BITS + WORDS as u64);
            for word in first..=last {
                seen.words[(word % WORDS as u64) as usize] = 0;
            }
            seen.newest = number;
        }
        let (word, bit) = place_of(number);
        seen.words[word] |= bit;
    }
}

fn place_of(number: u64) -> (usize, u64) {
    let word = (number / WORD_BITS % WORDS as u64) as usize;
    (word, 1 << (number % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::HashSet;

    #[test]
    fn it_says_what_a_set_of_all_says_as_far_as_it_reaches() {
        let mut rng = StdRng::seed_from_u64(1);
        for start in [0, 5_000, u64::MAX / 4] {
            let (mut window, mut all) = (Window::default(), HashSet::new());
            let mut newest = 0;
            for _ in 0..60_000 {
                let ahead = rng.random_range(0..10) == 0;
                let span = if ahead { 200 } else { 3 };
                let number = match rng.random_range(0..3) {
                    0 => newest - newest.min(rng.random_range(0..3_000)),
                    _ => newest + rng.random_range(1..=span),
                };
                let seen = window.contains(start + number);
                let old = !all.is_empty() && newest.saturating_sub(number) >= REACH;
                assert_eq!(
                    seen,
                    old || all.contains(&number),
                    "{number}, newest {newest}"
                );
                if !seen {
                    window.record(start + number);
                    all.insert(number);
                    newest = newest.max(number);
                }
            }
        }
    }
}
