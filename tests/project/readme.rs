//! The README and the reference say what the program does: its keys, its options, its examples and its files; and their pages
//! and their picture are up to date.

use kcptun::config::{Config, KEYS};
use kcptun::crypto::Key;
use kcptun::reference::{Page, Topic};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[path = "../../examples/chart/draw.rs"]
mod draw;

const README: &str = include_str!("../../README.md");

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

const MAKE_ANEW: &str = "make it anew: cargo run --example manpage target/package && cp target/package/*.md examples/reference/";

fn page_on_disk(name: &str) -> String {
    let file = format!("examples/reference/{name}.md");
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}; {MAKE_ANEW}"))
}

/// The pages that the program makes.
fn pages() -> impl Iterator<Item = Page> {
    let command = kcptun::cli::command();
    Topic::all().iter().map(move |topic| topic.page(&command))
}

fn markdown() -> String {
    pages().map(|page| page.markdown()).collect()
}

#[test]
fn the_pages_of_the_reference_are_up_to_date() {
    for page in pages() {
        assert!(
            page_on_disk(page.name) == page.markdown(),
            "{}: {MAKE_ANEW}",
            page.name
        );
    }
}

#[test]
fn every_page_is_shown_in_a_terminal_and_in_the_readme() {
    for page in pages() {
        let help = kcptun(&["help", page.name]);
        assert_eq!(help, page.text());
        assert!(
            help.lines().all(|line| line.chars().count() <= 78),
            "{}",
            page.name
        );
        assert!(
            README.contains(&format!("`kcptun help {}`", page.name)),
            "{}",
            page.name
        );
    }
}

#[test]
fn the_picture_is_up_to_date() {
    let picture = std::fs::read_to_string("examples/measured.svg").expect("the picture");
    let drawn = draw::svg(&page_on_disk("measured"));
    assert!(picture == drawn, "draw it anew: cargo run --example chart");
    assert_eq!(drawn.matches("<rect").count(), 1 + 3 + 2 * 26);
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    assert!(README.lines().count() <= 250);
}

#[test]
fn every_key_that_is_named_exists() {
    let known: BTreeSet<&str> = KEYS
        .iter()
        .flat_map(|key| [Some(key.name), key.alias])
        .flatten()
        .collect();
    let groups = ["kcp.", "tcp.", "udp.", "rate."];
    let pages = markdown() + README;
    let named = quoted(&pages).filter(|name| groups.iter().any(|group| name.starts_with(group)));
    let named: BTreeSet<&str> = named.filter(|name| !name.ends_with('*')).collect();
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(named.difference(&known).next(), None);
}

fn kcptun(words: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_kcptun"))
        .args(words)
        .output();
    String::from_utf8(out.expect("kcptun").stdout).expect("text")
}

#[test]
fn every_option_in_a_command_exists() {
    let options = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with('-') && word.len() > 1)
            .map(str::to_owned)
            .collect()
    };
    let help = [
        &["--help"][..],
        &["init", "--help"],
        &["stats", "--help"],
        &["ping", "--help"],
    ]
    .map(kcptun);
    let known = options(&help.concat());
    let pages = markdown();
    let mut commands = 0;
    for line in README.lines().chain(pages.lines()).map(str::trim) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "kcptun" || words[0] == "target/release/kcptun" {
            commands += 1;
            for word in words.iter().filter(|w| w.starts_with('-')) {
                assert!(known.contains(*word), "{line}");
            }
        }
    }
    assert!(commands > 7, "{commands}");
}

#[test]
fn the_examples_of_configurations_are_right() {
    let mut count = 0;
    let nat = page_on_disk("nat");
    let all = [README, &nat].map(|text| text.split("```json\n").skip(1));
    for block in all.into_iter().flatten() {
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
    let pages = markdown() + README;
    let files: Vec<&str> = quoted(&pages).filter(ours).collect();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        assert!(root.join(file).exists(), "{file}");
    }
}
