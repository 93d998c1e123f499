//! What `.ci` promises: nothing is skipped in silence. And what holds of the sources as a whole: no modules use each other in a
//! circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `.ci/skipped` says of a log.
fn skipped(log: &str) -> String {
    let mut child = Command::new(root().join(".ci/skipped"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(log.as_bytes()).expect("written");
    drop(stdin);
    let out = child.wait_with_output().expect("an end");
    assert!(out.status.success());
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn what_was_skipped_is_one_line() {
    let log = "test a ... ok\nskipped: there is no busybox\ntest b ... skipped: no IPv6\nskipped: there is no busybox\n";
    assert_eq!(skipped(log), "SKIPPED, 2: no IPv6; there is no busybox\n");
    assert_eq!(skipped("test a ... ok\ntest result: ok. 1 passed\n"), "");
}

/// The files of Rust in a directory, and in those in it but `fuzz`.
fn sources(directory: PathBuf) -> Vec<PathBuf> {
    let mut left = vec![directory];
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() && !path.ends_with("fuzz") {
            let entries = fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("a file").path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The capture of a test's output would hide it.
#[test]
fn what_tests_skip_is_said_past_the_capture() {
    let mut looked_at = 0;
    for path in ["src", "tests"]
        .map(|name| sources(root().join(name)))
        .concat()
    {
        if path.ends_with("tests/project/ci.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let hidden = text
            .lines()
            .find(|line| line.contains("println!(\"skipped"));
        assert_eq!(hidden, None, "{}", path.display());
        looked_at += 1;
    }
    assert!(looked_at > 100, "{looked_at}");
}

#[test]
fn what_tests_want_is_installed() {
    let run = fs::read_to_string(root().join(".ci/run")).expect("text");
    let wanted = run.lines().find_map(|line| line.strip_prefix("wanted="));
    let wanted = wanted.expect("a list");
    for package in [
        "chromium",
        "prometheus",
        "shellcheck",
        "busybox",
        "nftables",
        "iproute2",
    ] {
        assert!(wanted.contains(&format!(":{package}")), "{package}");
    }
}

/// The names that a path goes on with: one, or those at the beginning of a group's branches.
fn next_names(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        let part_of_name = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(part_of_name).collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut names, mut branch, mut depth) = (Vec::new(), String::new(), 0);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => names.push(name(&std::mem::take(&mut branch))),
            _ => branch.push(c),
        }
    }
    names.push(name(&branch));
    names.retain(|name| !name.is_empty());
    names
}

/// What a file's text names behind the crate's root: in paths from `crate`, or from as many `super` as lead there from a file
/// `depth` modules below it. Comments count for nothing.
fn named(text: &str, depth: usize) -> BTreeSet<String> {
    let code = text.lines().map(|line| line.split("//").next());
    let code: String = code.flatten().flat_map(|line| [line, "\n"]).collect();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("::") {
        let (mut before, mut supers) = (&code[..at], 0);
        let is_root = before.ends_with("crate");
        while let Some(shorter) = before.strip_suffix("super") {
            supers += 1;
            before = shorter.strip_suffix("::").unwrap_or(shorter);
        }
        if is_root || (supers > 0 && supers >= depth) {
            names.extend(next_names(&code[at + 2..]));
        }
    }
    // a longer chain goes on with it
    names.remove("super");
    names
}

/// Which top-level modules of the library each one uses, and the file that does.
type Uses = BTreeMap<String, BTreeMap<String, PathBuf>>;

fn uses() -> Uses {
    let src = root().join("src");
    let in_src = |path: PathBuf| path.strip_prefix(&src).expect("in src").to_owned();
    let files = sources(src.clone()).into_iter().map(in_src);
    let files: Vec<PathBuf> = files
        .filter(|file| !file.ends_with("lib.rs") && !file.ends_with("main.rs"))
        .collect();
    let place = |file: &Path| -> Vec<String> {
        let file = file.with_extension("");
        let parts = file.iter().map(|part| part.to_string_lossy().into_owned());
        parts.filter(|part| part != "mod").collect()
    };
    let modules: BTreeSet<String> = files.iter().map(|file| place(file)[0].clone()).collect();
    let mut uses = Uses::new();
    for file in files {
        let (text, place) = (fs::read_to_string(src.join(&file)), place(&file));
        for used in named(&text.expect("text"), place.len()) {
            if modules.contains(&used) && used != place[0] {
                let by = uses.entry(place[0].clone()).or_default();
                by.entry(used).or_insert_with(|| file.clone());
            }
        }
    }
    uses
}

/// A circle of modules, if there is one.
fn circle(uses: &Uses) -> Option<Vec<String>> {
    /// `way` leads from a module to another; what `done` holds is in no circle.
    fn follow(uses: &Uses, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let Some(here) = way.last().cloned().filter(|here| !done.contains(here)) else {
            return false;
        };
        if let Some(first) = way[..way.len() - 1].iter().position(|name| *name == here) {
            way.drain(..first);
            return true;
        }
        for next in uses.get(&here).into_iter().flat_map(BTreeMap::keys) {
            way.push(next.clone());
            if follow(uses, way, done) {
                return true;
            }
            way.pop();
        }
        done.insert(here);
        false
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|start| {
        let mut way = vec![start.clone()];
        follow(uses, &mut way, &mut done).then_some(way)
    })
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let uses = uses();
    // so that it cannot pass for having found nothing
    assert!(uses.len() > 10 && uses["event"].contains_key("tunnel"));
    assert!(uses["conversation"].contains_key("congestion"));
    let Some(circle) = circle(&uses) else { return };
    let steps = circle.windows(2).map(|step| {
        let file = uses[&step[0]][&step[1]].display();
        format!("{} uses {} (src/{file})", step[0], step[1])
    });
    panic!("{}", steps.collect::<Vec<_>>().join(", "));
}

#[test]
fn uses_and_their_circles_are_found() {
    let named = |text, depth| Vec::from_iter(named(text, depth));
    let text = "use crate::one::A;\nuse crate::{\n    two::{B, three::C},\n    four,\n};\nlet x = crate::five::f(); // crate::six";
    assert_eq!(named(text, 1), ["five", "four", "one", "two"]);
    let text = "use super::one::A; use super::super::two; use std::super_::three;";
    assert_eq!(named(text, 1), ["one", "two"]);
    assert_eq!(named(text, 2), ["two"]);
    let uses = |steps: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (from, to) in steps {
            let by = uses.entry((*from).into()).or_default();
            by.insert((*to).into(), PathBuf::new());
        }
        uses
    };
    let tree = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")];
    assert_eq!(circle(&uses(&tree)), None);
    let back = [&tree[..], &[("d", "c")]].concat();
    let found = circle(&uses(&back)).expect("a circle");
    assert_eq!(found, ["d", "c", "d"]);
}
