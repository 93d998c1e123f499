//! The README and the reference say what the program does: its keys, its options, its examples and its files.

use kcptun::config::{Config, KEYS};
use kcptun::crypto::Key;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// The text under a heading, up to the next of its level.
fn section(heading: &str) -> &'static str {
    let after = README.split_once(&format!("\n## {heading}\n"));
    let (_, text) = after.unwrap_or_else(|| panic!("no section {heading}"));
    text.split("\n## ").next().unwrap_or(text)
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cells of a section's tables.
fn first_cells(heading: &str) -> impl Iterator<Item = &'static str> {
    let rows = section(heading)
        .lines()
        .filter_map(|l| l.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next())
}

#[test]
fn the_reference_of_the_keys_is_up_to_date() {
    let page = std::fs::read_to_string("examples/reference/keys.md").expect("the page");
    let made = kcptun::config::reference::markdown();
    assert!(
        page == made,
        "make it anew: cargo run --example manpage target/package && cp target/package/keys.md examples/reference/"
    );
}

#[test]
fn every_key_that_is_named_exists() {
    let known: BTreeSet<&str> = KEYS
        .iter()
        .flat_map(|key| [Some(key.name), key.alias])
        .flatten()
        .collect();
    let groups = ["kcp.", "tcp.", "udp.", "rate."];
    let named = quoted(README).filter(|name| groups.iter().any(|group| name.starts_with(group)));
    let named: BTreeSet<&str> = named.filter(|name| !name.ends_with('*')).collect();
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(named.difference(&known).next(), None);
}

#[test]
fn every_option_is_in_the_table_and_exists() {
    let help = |words: &[&str]| {
        let help = Command::new(env!("CARGO_BIN_EXE_kcptun"))
            .args(words)
            .output()
            .expect("kcptun --help");
        String::from_utf8(help.stdout).expect("text")
    };
    let options = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with('-') && word.len() > 1)
            .map(str::to_owned)
            .collect()
    };
    let main = help(&["--help"]);
    let (_, listed) = main.split_once("Options:").expect("options");
    let (listed, _) = listed.split_once("Examples:").expect("examples");
    let mut listed = listed.to_owned();
    for task in ["stats", "ping"] {
        let help = help(&[task, "--help"]);
        let (_, of_task) = help.split_once("Options:").expect("options");
        listed.push_str(of_task);
    }
    let listed = &listed;
    let table: String = first_cells("Command line").collect();
    assert_eq!(options(&table), options(listed));
    // and so do those in the commands
    for line in README.lines().map(str::trim) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "kcptun" || words[0] == "target/release/kcptun" {
            for word in words.iter().filter(|w| w.starts_with('-')) {
                assert!(options(listed).contains(*word), "{line}");
            }
        }
    }
}

#[test]
fn the_examples_of_configurations_are_right() {
    let mut count = 0;
    for block in README.split("```json\n").skip(1) {
        let json = block.split("```").next().unwrap_or(block);
        // as it stands nobody can start with a key that everybody knows
        let error = Config::parse("README.md", json).expect_err("no key yet");
        assert!(error.to_string().contains("psk: "), "{error}");
        let json = json.replace("YOUR KEY", &Key::generate().to_base64());
        let named = Config::parse("README.md", &json).expect("allowed");
        let stands = json.contains("example.net");
        assert_eq!(named.warnings.len(), usize::from(stands), "{json}");
        let json = json.replace("vps.example.net", "192.0.2.1");
        let config = Config::parse("README.md", &json).expect("right");
        assert_eq!(config.warnings, [""; 0]);
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn every_file_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = |name: &&str| {
        ["src/", "tests/", "examples/"]
            .iter()
            .any(|dir| name.starts_with(dir))
            || ["LICENSE", "server.json", "peer.json"].contains(name)
    };
    let files: Vec<&str> = quoted(README).filter(ours).collect();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        assert!(root.join(file).exists(), "{file}");
    }
}
