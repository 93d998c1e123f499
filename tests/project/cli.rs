//! The real binary where it does not run a tunnel: what it prints, and its exit status.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn kcptun(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcptun"));
    command
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("RUST_LOG");
    command
}

fn output(words: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = kcptun(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn what_is_asked_for_is_printed_and_nothing_else() {
    for words in [&["--genpsk"][..], &["--genpsk", "aes256gcm"]] {
        let (status, key, error) = output(words);
        assert_eq!((status, error.as_str()), (0, ""));
        assert!(
            key.len() == 45 && key.ends_with("=\n"),
            "{} characters",
            key.len()
        );
        assert_ne!(key, output(words).1);
    }
    let methods = "chacha20poly1305_ietf\nxchacha20poly1305_ietf\nxsalsa20poly1305\naes256gcm\n";
    assert_eq!(output(&["--list-methods"]), (0, methods.into(), "".into()));
    assert_eq!(
        output(&["--version"]),
        (
            0,
            concat!("kcptun ", env!("CARGO_PKG_VERSION"), "\n").into(),
            "".into()
        )
    );
    let (status, help, _) = output(&["--help"]);
    assert!(
        status == 0 && help.contains("kcptun -c server.json"),
        "{help}"
    );
}

#[test]
fn check_says_what_the_program_would_do() {
    let (status, said, error) = output(&["--check", "-c", "server.json", "-u", "nobody", "-v"]);
    assert_eq!((status, error.as_str()), (0, ""));
    for part in [
        "server: ",
        "TCP 127.0.0.1:8080",
        "UDP at 127.0.0.1:27290",
        "chacha20poly1305_ietf",
        "becomes nobody",
        "rate:      control on, up no limit, down no limit",
        "details (debug)",
        "warning:   server.json: password: ",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn what_is_wrong_gives_status_2_and_one_line() {
    for (words, part) in [
        (&["-v"][..], "needs a configuration"),
        (&["-c"], "a value is required"),
        (&["help", "pong"], "statistics"),
        (&["server.json"], "kcptun -c server.json"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--genpsk", "rot13"], "aes256gcm"),
        (&["-c", "missing.json"], "missing.json: no such file"),
        (
            &["--check", "-c", "missing.json"],
            "missing.json: no such file",
        ),
        (&["-c", "src"], "src: is a directory"),
        (
            &["-c", "Cargo.toml"],
            "Cargo.toml: line 1, column 2: not valid JSON",
        ),
    ] {
        let (status, said, error) = output(words);
        assert_eq!((status, said.as_str()), (2, ""), "{words:?}");
        assert!(
            error.starts_with("kcptun: ") && error.contains(part),
            "{words:?}: {error}"
        );
        assert_eq!(error.matches('\n').count(), 1, "{words:?}: {error}");
    }
}

#[test]
fn warnings_stand_beside_mistakes() {
    let file = std::env::temp_dir().join(format!("kcptun-cli-w-{}.json", std::process::id()));
    let known =
        r#""udp_bind": ":1", "connect": "vps.example.net:2", "password": "change me at both ends""#;
    std::fs::write(&file, format!("{{{known}}}")).unwrap();
    let (status, said, error) = output(&["--check", "-c", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!((status, said.as_str()), (2, ""));
    let lines: Vec<&str> = error.lines().collect();
    assert!(
        lines[0]
            .contains("which everybody knows, and udp_bind, \":1\", receives from other machines"),
        "{error}"
    );
    assert!(
        lines[1].starts_with("kcptun: warning: ") && lines[1].contains("is a placeholder"),
        "{error}"
    );
    assert_eq!(lines.len(), 2, "{error}");
}

#[test]
fn check_says_who_can_reach_an_address() {
    let (_, said, _) = output(&["--check", "-c", "server.json"]);
    assert!(
        said.contains("UDP at 127.0.0.1:27290; only this machine can reach it"),
        "{said}"
    );
    let file = std::env::temp_dir().join(format!("kcptun-cli-l-{}.json", std::process::id()));
    let text = r#"{"listen": ":1", "udp_connect": "192.0.2.1:2", "password": "x"}"#;
    std::fs::write(&file, text).unwrap();
    let (_, said, _) = output(&["--check", "-c", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert!(
        said.contains("in your network or beyond, can use the tunnel"),
        "{said}"
    );
}

#[test]
fn without_arguments_it_says_what_there_is() {
    let (status, said, error) = output(&[]);
    assert_eq!((status, said.as_str()), (2, ""));
    assert!((8..=10).contains(&error.lines().count()), "{error}");
    for part in ["kcptun init", "kcptun -c server.json", "kcptun help"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn check_names_all_that_is_wrong_and_a_start_the_first_of_it() {
    let file = std::env::temp_dir().join(format!("kcptun-cli-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"localaddr": ":1", "key": "x", "loglevel": 9}"#).unwrap();
    let name = file.to_str().unwrap();
    let (status, said, error) = output(&["--check", "-c", name]);
    assert_eq!((status, said.as_str()), (2, ""));
    let lines: Vec<&str> = error.lines().collect();
    for (line, key) in lines.iter().zip(["localaddr", "key", "loglevel"]) {
        let begins = format!("kcptun: {name}: {key}: ");
        assert!(line.starts_with(&begins), "{error}");
    }
    assert_eq!(lines.len(), 3, "{error}");
    let (status, _, start) = output(&["-c", name]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status, 2);
    assert!(
        start.starts_with(lines[0]) && start.ends_with(" (2 more mistakes: --check names them)\n"),
        "{start}"
    );
    assert_eq!(start.matches('\n').count(), 1, "{start}");
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let child = kcptun(&["--help"])
        .stdout(OwnedFd::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), stderr.len()), (Some(1), 0));
    if Path::new("/dev/full").exists() {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let out = kcptun(&["--genpsk"]).stdout(full).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        assert!(out.stderr.starts_with(b"kcptun: standard output: "));
    }
}
