//! What `.ci` promises: nothing is skipped in silence.

use std::fs;
use std::io::Write;
use std::path::Path;
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

/// The capture of a test's output would hide it.
#[test]
fn what_tests_skip_is_said_past_the_capture() {
    let mut files = vec![root().join("src"), root().join("tests")];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() && !path.ends_with("fuzz") {
            files.extend(
                fs::read_dir(&path)
                    .expect("a directory")
                    .map(|e| e.expect("a file").path()),
            );
        } else if path.extension().is_some_and(|e| e == "rs")
            && !path.ends_with("tests/project/ci.rs")
        {
            let text = fs::read_to_string(&path).expect("text");
            let hidden = text
                .lines()
                .find(|line| line.contains("println!(\"skipped"));
            assert_eq!(hidden, None, "{}", path.display());
            looked_at += 1;
        }
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
