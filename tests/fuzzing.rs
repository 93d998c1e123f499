//! What the fuzz targets in tests/fuzz try, without a fuzzer: all of the corpus, and random bytes for a few seconds.

#[path = "fuzz/cases/mod.rs"]
mod cases;
mod sim;

use cases::{TARGETS, Target};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use std::fs;
use std::path::Path;

fn target(name: &str) -> Target {
    let mut all = TARGETS.into_iter();
    all.find(|(other, _)| *other == name).expect("a target")
}

/// Tells of the case that was at work when a test failed.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

/// Random bytes: some cases short, and some with many small numbers, which most choices are made by.
fn draw(seed: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let most = [16, 100, 800][rng.random_range(0..3)];
    let mut bytes = vec![0; rng.random_range(0..most)];
    rng.fill_bytes(&mut bytes);
    if rng.random_bool(0.5) {
        bytes
            .iter_mut()
            .for_each(|byte| *byte >>= 5 * u8::from(*byte % 3 > 0));
    }
    bytes
}

/// Runs what is drawn from seeds; `KCPTUN_SEED=n` one alone, `KCPTUN_SEEDS=n` so many.
fn random(name: &str, usual: u64) {
    let number = |key| std::env::var(key).map(|n: String| n.parse().expect("a number"));
    let (one, many) = (number("KCPTUN_SEED"), number("KCPTUN_SEEDS"));
    let seeds = match &one {
        Ok(seed) => *seed..seed + 1,
        Err(_) => 0..many.unwrap_or(usual),
    };
    for seed in seeds {
        let told = format!("{name}, KCPTUN_SEED={seed}");
        let _told = Told(&told);
        if one.is_ok() {
            let _ = env_logger::builder().try_init();
        }
        target(name).1(&draw(seed));
    }
}

#[test]
fn random_cases_of_datagrams() {
    random("datagram", 600);
}

#[test]
fn random_cases_of_session_messages() {
    random("session_message", 20_000);
}

#[test]
fn random_cases_of_session_0_messages() {
    random("control_message", 20_000);
}

#[test]
fn random_cases_of_configurations() {
    random("configuration", 3_000);
}

#[test]
fn random_cases_of_pairs() {
    random("pair", 150);
}

#[test]
fn the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, run) in TARGETS {
        let entries = fs::read_dir(corpus.join(name)).expect("a folder for each target");
        let mut count = 0;
        for entry in entries {
            let path = entry.expect("its entries").path();
            let told = path.display().to_string();
            let _told = Told(&told);
            run(&fs::read(&path).expect("a file"));
            count += 1;
        }
        assert!(count > 0, "nothing for {name}");
    }
}
