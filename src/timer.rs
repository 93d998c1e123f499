//! A hierarchical timing wheel (Varghese and Lauck, 1987): setting, moving and ending a timer cost the same
//! however many there are. It knows keys and times; what a key means is its owner's affair.

use crate::time::Instant;

/// Slots of one level; also the factor between two levels.
const SLOTS: u64 = 64;
/// The levels of the wheel; 64^4 ms are 4.6 hours. What is due later waits in the last slot and is sorted in again from
/// there.
const LEVELS: usize = 4;

/// One timer for each key: a number from 0 up, as dense as the owner can make it.
/// Times are rounded up to whole milliseconds, so that nothing fires early.
pub(crate) struct Wheel {
    /// The millisecond up to which all timers have expired.
    now: u64,
    slots: Vec<Vec<Entry>>,
    /// For every level, a bit for every slot that holds something.
    used: [u64; LEVELS],
    /// The present deadline of each key in ms; `UNARMED` without one. An entry whose time differs is stale.
    armed: Vec<u64>,
    /// For each key and level, the millisecond at which its nearest entry there is looked at: one that is due
    /// later need not be put in, the earlier one brings it back.
    placed: Vec<[u64; LEVELS]>,
    count: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    at: u64,
}

/// The deadline of a key without a timer.
const UNARMED: u64 = u64::MAX;

impl Wheel {
    /// A wheel without timers.
    pub(crate) fn new(now: Instant) -> Wheel {
        Wheel {
            now: now.millis(),
            slots: vec![Vec::new(); SLOTS as usize * LEVELS],
            used: [0; LEVELS],
            armed: Vec::new(),
            placed: Vec::new(),
            count: 0,
        }
    }

    /// Sets the timer of `key`, replacing the one it had.
    pub(crate) fn set(&mut self, key: u32, at: Instant) {
        if at == Instant::NEVER {
            return self.clear(key);
        }
        let at = at.micros().div_ceil(1_000);
        if self.armed.len() <= key as usize {
            self.armed.resize(key as usize + 1, UNARMED);
            self.placed.resize(key as usize + 1, [UNARMED; LEVELS]);
        }
        let slot = &mut self.armed[key as usize];
        if *slot == at {
            return;
        }
        self.count += usize::from(*slot == UNARMED);
        *slot = at;
        self.insert(Entry { key, at });
    }

    /// Makes the timer of `key` fire at `at` or before. One that is set for an earlier time stays: its owner
    /// finds nothing to do then and sets it again, which is cheaper than moving it at every packet.
    pub(crate) fn set_by(&mut self, key: u32, at: Instant) {
        let earlier = self
            .armed
            .get(key as usize)
            .is_some_and(|t| *t != UNARMED && *t <= at.micros().div_ceil(1_000));
        if !earlier {
            self.set(key, at);
        }
    }

    /// Ends the timer of `key`, if it has one.
    pub(crate) fn clear(&mut self, key: u32) {
        let slot = self.armed.get_mut(key as usize);
        if let Some(slot) = slot.filter(|slot| **slot != UNARMED) {
            *slot = UNARMED;
            self.count -= 1;
        }
    }

    /// The number of timers.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A time at or before the earliest timer: the next one to call `expire` at. None without timers.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.count == 0 {
            return None;
        }
        let nearest = (0..LEVELS).filter_map(|level| self.next_in(level)).min();
        nearest.map(Instant::from_millis)
    }

    /// Ends every timer that is due, and adds their keys to `due`.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<u32>) {
        let target = now.millis();
        while self.now <= target {
            let Some(at) = (0..LEVELS).filter_map(|level| self.next_in(level)).min() else {
                self.now = target;
                return;
            };
            if at > target {
                self.now = target;
                return;
            }
            self.now = at;
            self.turn(due);
        }
    }

    /// Handles what the present millisecond holds: upper levels sort down, the lowest fires.
    fn turn(&mut self, due: &mut Vec<u32>) {
        for level in (0..LEVELS).rev() {
            let width = SLOTS.pow(level as u32);
            if self.now % width != 0 {
                continue;
            }
            let slot = (self.now / width % SLOTS) as usize;
            if self.used[level] & (1 << slot) == 0 {
                continue;
            }
            self.used[level] &= !(1 << slot);
            let mut entries = std::mem::take(&mut self.slots[level * SLOTS as usize + slot]);
            for Entry { key, .. } in entries.drain(..) {
                let placed = &mut self.placed[key as usize][level];
                if *placed <= self.now {
                    *placed = UNARMED;
                }
                let at = self.armed[key as usize];
                if at <= self.now {
                    self.clear(key);
                    due.push(key);
                } else if at != UNARMED {
                    self.insert(Entry { key, at });
                }
            }
            let place = &mut self.slots[level * SLOTS as usize + slot];
            if place.is_empty() && entries.capacity() <= 64 {
                *place = entries;
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        let at = entry.at.max(self.now);
        let ahead = at - self.now;
        let level = (0..LEVELS)
            .find(|l| ahead < SLOTS.pow(*l as u32 + 1))
            .unwrap_or(LEVELS - 1);
        let width = SLOTS.pow(level as u32);
        // a slot of an upper level is emptied at its beginning: the time is rounded down, and beyond the
        // wheel's horizon the last slot before the present one is as far as it goes
        let slot = if ahead < SLOTS.pow(LEVELS as u32) {
            at / width
        } else {
            self.now / width + SLOTS - 1
        };
        let placed = &mut self.placed[entry.key as usize][level];
        if *placed <= slot * width {
            return;
        }
        *placed = slot * width;
        let slot = slot % SLOTS;
        self.used[level] |= 1 << slot;
        self.slots[level * SLOTS as usize + slot as usize].push(entry);
    }

    /// The millisecond at which the next used slot of a level has to be looked at.
    fn next_in(&self, level: usize) -> Option<u64> {
        if self.used[level] == 0 {
            return None;
        }
        let width = SLOTS.pow(level as u32);
        // the first multiple of the width that is not before now
        let first = self.now.div_ceil(width);
        let turned = self.used[level].rotate_right((first % SLOTS) as u32);
        Some((first + u64::from(turned.trailing_zeros())) * width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::collections::BTreeMap;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..30 {
            let mut rng = StdRng::seed_from_u64(seed);
            let start = rng.random_range(0..100_000_000u64);
            let (mut wheel, mut model, mut now) = (Wheel::new(at(start)), BTreeMap::new(), start);
            for _ in 0..3000 {
                let key = rng.random_range(0..50u32);
                match rng.random_range(0..10) {
                    0 => {
                        wheel.clear(key);
                        model.remove(&key);
                    }
                    1..7 => {
                        let spans = [1u64, 10, 70, 5000, 300_000, 20_000_000];
                        let span = spans[rng.random_range(0..spans.len())];
                        let ahead = rng.random_range(0..span);
                        wheel.set(key, at(now + ahead));
                        model.insert(key, now + ahead);
                    }
                    _ => {
                        let spans = [2u64, 64, 4096, 300_000];
                        let span = spans[rng.random_range(0..spans.len())];
                        now += rng.random_range(0..span);
                        let mut due = Vec::new();
                        wheel.expire(at(now), &mut due);
                        due.sort_unstable();
                        let expected: Vec<u32> = model
                            .iter()
                            .filter(|(_, t)| **t <= now)
                            .map(|(k, _)| *k)
                            .collect();
                        assert_eq!(due, expected, "seed {seed} at {now}");
                        model.retain(|_, t| *t > now);
                    }
                }
                assert_eq!(wheel.len(), model.len());
                let earliest = model.values().min().map(|t| at(*t));
                assert_eq!(wheel.next().is_some(), earliest.is_some());
                assert!(
                    wheel.next() <= earliest.or(wheel.next()),
                    "the next look must not come late"
                );
            }
        }
    }

    #[test]
    fn sleeping_to_next_reaches_each_timer_in_few_steps() {
        for ahead in [
            1,
            63,
            64,
            65,
            4095,
            4096,
            4097,
            600_000,
            20_000_000,
            200_000_000,
        ] {
            let mut wheel = Wheel::new(at(12_345));
            wheel.set(3, at(12_345 + ahead));
            let (mut due, mut steps, mut now) = (Vec::new(), 0, 12_345);
            while due.is_empty() {
                now = wheel.next().unwrap().millis().max(now);
                wheel.expire(at(now), &mut due);
                steps += 1;
            }
            assert_eq!((now, &due[..]), (12_345 + ahead, &[3][..]));
            assert!(steps <= 30, "{steps} steps to {ahead} ms");
        }
    }

    #[test]
    fn nothing_fires_before_its_microsecond() {
        let mut wheel = Wheel::new(at(0));
        wheel.set(0, Instant::from_micros(10_001));
        let mut due = Vec::new();
        wheel.expire(at(10), &mut due);
        assert!(due.is_empty());
        wheel.expire(at(11), &mut due);
        assert_eq!(due, [0]);
        assert!(wheel.len() == 0 && wheel.next().is_none());
    }
}
