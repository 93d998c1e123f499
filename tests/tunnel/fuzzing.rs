//! What the fuzz targets in tests/fuzz try, without a fuzzer: all of the corpus, and random bytes for a few seconds.

use crate::cases::{TARGETS, Target};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use std::fs;
use std::path::{Path, PathBuf};

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

/// The files of the corpus for a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = fs::read_dir(folder.join(name)).expect("a folder for each target");
    let paths = entries.map(|entry| entry.expect("its entries").path());
    let mut files: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing for {name}");
    files
}

/// Random bytes: some cases short, and some with many small numbers, which most choices are made by; or a file of the
/// corpus with a few changes.
fn draw(seed: u64, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    if rng.random_bool(0.5) {
        let mut bytes = corpus[rng.random_range(0..corpus.len())].1.clone();
        for _ in 0..rng.random_range(1..6) {
            change(&mut bytes, &mut rng);
        }
        return bytes;
    }
    let most = [16, 100, 800][rng.random_range(0..3)];
    let mut bytes = vec![0; rng.random_range(0..most)];
    rng.fill_bytes(&mut bytes);
    if rng.random_bool(0.5) {
        let small = |byte: &mut u8| *byte >>= 5 * u8::from(*byte % 3 != 0);
        bytes.iter_mut().for_each(small);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, rng: &mut SmallRng) {
    let at = rng.random_range(0..=bytes.len());
    let upto = rng.random_range(at..=bytes.len());
    match rng.random_range(0..5) {
        0 => bytes.insert(at, rng.random()),
        1 => drop(bytes.drain(at..upto.min(at + 4))),
        2 => bytes.extend_from_within(at..upto),
        3 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        _ if at < bytes.len() => bytes[at] = rng.random_range(0..8),
        _ => {}
    }
}

/// Runs what is drawn from seeds; `KCPTUN_SEED=n` one alone, `KCPTUN_SEEDS=n` so many.
fn random(name: &str, usual: u64) {
    let number = |key| std::env::var(key).map(|n: String| n.parse().expect("a number"));
    let (one, many) = (number("KCPTUN_SEED"), number("KCPTUN_SEEDS"));
    let seeds = match &one {
        Ok(seed) => *seed..seed + 1,
        Err(_) => 0..many.unwrap_or(usual),
    };
    let corpus = corpus(name);
    for seed in seeds {
        let told = format!("{name}, KCPTUN_SEED={seed}");
        let _told = Told(&told);
        if one.is_ok() {
            let _ = env_logger::builder().try_init();
        }
        target(name).1(&draw(seed, &corpus));
    }
}

#[test]
fn random_cases_of_datagrams() {
    random("datagram", 4_000);
}

#[test]
fn random_cases_of_session_messages() {
    random("session_message", 50_000);
}

#[test]
fn random_cases_of_session_0_messages() {
    random("control_message", 50_000);
}

#[test]
fn random_cases_of_configurations() {
    random("configuration", 10_000);
}

#[test]
fn random_cases_of_pairs() {
    random("pair", 1_500);
}

#[test]
fn the_corpus() {
    for (name, run) in TARGETS {
        for (path, bytes) in corpus(name) {
            let told = path.display().to_string();
            let _told = Told(&told);
            run(&bytes);
        }
    }
}

/// A target is a file for the fuzzer, a program of its crate, a folder of the corpus, and a case here.
#[test]
fn targets_are_the_same_everywhere() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(here.join(folder)).expect(folder);
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let stem = |path: PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let mut names: Vec<_> = paths.filter_map(stem).collect();
        names.sort();
        names
    };
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    targets.sort();
    assert_eq!(targets, names("fuzz_targets"));
    assert_eq!(targets, names("corpus"));
    let manifest = fs::read_to_string(here.join("Cargo.toml")).expect("its manifest");
    for name in &targets {
        let path = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&path), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
}
