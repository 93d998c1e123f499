//! What the filter promises, measured: nothing old passes, nothing good is dropped, and in how
//! much memory.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Prints are compared by chance: of two million good packets one is dropped in a hundred runs or so, and more than two in
/// none.
const CHANCE: usize = 2;

/// Whether the nonce is new; records it.
fn take(filter: &mut ReplayFilter, nonce: &[u8]) -> bool {
    let spot = filter.spot(nonce);
    let new = !filter.seen(&spot);
    if new {
        filter.record(&spot);
    }
    new
}

fn counted(count: u128) -> [u8; 12] {
    *count.to_le_bytes().first_chunk().expect("12 of 16")
}

/// The `i`th nonce of a stream that looks random and can be made again from anywhere.
fn scattered(i: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    StdRng::seed_from_u64(i).fill_bytes(&mut nonce);
    nonce
}

/// Of three senders, the packets in the order of their coming: each one's next, but every
/// fourth packet up to 60 of its sender's later than it was sent.
fn arrivals(n: u128) -> impl Iterator<Item = [u8; 12]> {
    // The second sender's count wraps around 2^96, the third's carries beyond a block's `low`.
    let starts: [u128; 3] = [77, (1 << 96) - 500_000, (1 << 70) - 100_000];
    (0..n).map(move |i| {
        let (sender, turn) = ((i % 3) as usize, i / 3);
        let (round, at) = (turn / 64 * 64, turn % 64);
        let shuffled = if at % 4 == 0 { 60 - at } else { at };
        counted(starts[sender].wrapping_add(round + shuffled))
    })
}

#[test]
fn no_good_counted_nonce_is_dropped_and_no_old_one_passes() {
    const N: u128 = 2_100_000;
    let mut filter = ReplayFilter::counted();
    for (i, nonce) in arrivals(N).enumerate() {
        assert!(take(&mut filter, &nonce), "good packet {i} dropped");
        assert!(!take(&mut filter, &nonce), "packet {i} repeated at once");
    }
    for nonce in arrivals(N).skip(N as usize - REMEMBERED) {
        assert!(!take(&mut filter, &nonce), "{nonce:x?} passed again");
    }
    assert!(filter.segments.iter().all(|s| s.prints.is_empty()), "exact");
    assert!(filter.memory() < 1_000_000, "{} bytes", filter.memory());
}

#[test]
fn random_nonces_pass_once_and_take_bounded_memory() {
    const N: u64 = 2_100_000;
    let mut filter = ReplayFilter::random();
    let dropped = (0..N).filter(|i| !take(&mut filter, &scattered(*i)));
    assert!(dropped.count() <= CHANCE);
    // What was dropped by chance is not remembered: it may pass.
    let again = (N - REMEMBERED as u64..N).filter(|i| take(&mut filter, &scattered(*i)));
    assert!(again.count() <= CHANCE);
    assert!(filter.memory() < 11_000_000, "{} bytes", filter.memory());
    assert_eq!(filter.segments.len(), 5);
}

/// A probability of 3e-9 is too small to measure: of the marks' 32 bits this leaves 12 to differ,
/// which must make it 2^20 times that.
#[test]
fn false_positives_are_as_many_as_the_arithmetic_says() {
    let mut filter = ReplayFilter::random();
    let mut rng = StdRng::seed_from_u64(5);
    let mut spot = |filter: &ReplayFilter| {
        let mut spot = filter.spot(&[]);
        spot.print = rng.next_u64() & !0x000f_ffff;
        spot
    };
    for _ in 0..5 * SEGMENT_MAX {
        let new = spot(&filter);
        filter.record(&new);
    }
    let tried = 1_000_000;
    let hits = (0..tried).filter(|_| filter.seen(&spot(&filter))).count();
    let rate = hits as f64 / tried as f64 / f64::from(1 << 20);
    assert!((1e-10..4e-9).contains(&rate), "{rate:e}");
}

#[test]
fn scarce_counted_nonces_are_remembered_within_bounds() {
    const N: u128 = 1_500_000;
    let mut filter = ReplayFilter::counted();
    // Someone on the path lets every 50th packet through.
    let dropped = (0..N).filter(|i| !take(&mut filter, &counted(i * 50)));
    assert!(dropped.count() <= CHANCE);
    let again = (N - REMEMBERED as u128..N).filter(|i| take(&mut filter, &counted(i * 50)));
    assert!(again.count() <= CHANCE);
    assert!(filter.memory() < 12_000_000, "{} bytes", filter.memory());
}

#[test]
fn memory_follows_use() {
    for mut filter in [ReplayFilter::counted(), ReplayFilter::random()] {
        assert_eq!(filter.memory(), 0);
        take(&mut filter, &scattered(0)[..12]);
        assert!(filter.memory() < 4_096, "{} bytes", filter.memory());
        for i in 1..1_000 {
            take(&mut filter, &scattered(i)[..12]);
        }
        assert!(filter.memory() < 40_000, "{} bytes", filter.memory());
    }
}
