//! `kcptun init`: what it writes is a tunnel as it is, nobody else can read it, and nothing is ever overwritten.

use crate::harness::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A directory of its own, which goes when this does.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("kcptun-init-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn init(&self, words: &[&str]) -> (i32, String, String) {
        let out = Command::new(env!("CARGO_BIN_EXE_kcptun"))
            .arg("init")
            .args(words)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .output();
        let Output {
            status,
            stdout,
            stderr,
        } = out.expect("a process");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code().expect("a status"), text(stdout), text(stderr))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a directory");
        let names = entries.map(|entry| entry.expect("a file").file_name());
        let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A kcptun with a file that was written. It is killed when this goes.
struct Running(Child);

impl Running {
    fn start(file: &Path, until: &str) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kcptun"))
            .arg("-c")
            .arg(file)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let log = log_of(&mut child);
        let running = Running(child);
        let said = || log.lock().expect("the log").clone();
        assert!(eventually(|| said().contains(until)), "{until}: {}", said());
        assert!(!said().contains(" WARN "), "{}", said());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_init_writes_carries_bytes_as_it_is() {
    let directory = Directory::new("tunnel");
    let service = serve(run_errands);
    let [udp, entry, second] = [free_port(), free_port(), free_port()];
    let words = [
        &format!("127.0.0.1:{udp}"),
        "--connect",
        &service.port().to_string(),
        "--listen",
        &entry.to_string(),
    ];
    let (status, said, error) = directory.init(&words);
    assert_eq!((status, error.as_str()), (0, ""));
    assert!(said.contains("kcptun ping -n 5 -c peer.json"), "{said}");
    let at = format!("127.0.0.1:{second}");
    let words = ["--peer", "server.json", "--listen", &at];
    let (status, said, error) = directory.init(&words);
    assert_eq!((status, error.as_str()), (0, ""));
    assert!(said.starts_with("Wrote peer-2.json"), "{said}");
    let like = format!("reaches the server at 127.0.0.1:{udp}, as peer.json does");
    assert!(said.contains(&like), "{said}");
    assert_eq!(
        directory.files(),
        ["peer-2.json", "peer.json", "server.json"]
    );
    for name in directory.files() {
        let data = fs::metadata(directory.0.join(name)).expect("a file");
        assert_eq!(data.permissions().mode() & 0o777, 0o600);
    }

    let _server = Running::start(&directory.0.join("server.json"), "UDP bound to");
    for (name, port) in [("peer.json", entry), ("peer-2.json", second)] {
        let _peer = Running::start(&directory.0.join(name), "answers after");
        errand(([127, 0, 0, 1], port).into(), 1, 200 * 1024);
    }
}

#[test]
fn no_file_is_overwritten() {
    let directory = Directory::new("there");
    let words = [
        "192.0.2.1",
        "--connect",
        "127.0.0.1:22",
        "--listen",
        ":2222",
    ];
    for there in ["server.json", "peer.json"] {
        let file = directory.0.join(there);
        fs::write(&file, "mine").expect("a file");
        let (status, said, error) = directory.init(&words);
        assert_eq!((status, said.as_str()), (1, ""));
        let begins = format!("kcptun: {there} is there already");
        assert!(error.starts_with(&begins), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("text"), "mine");
        assert_eq!(directory.files(), [there]);
        fs::remove_file(file).expect("removed");
    }
    let elsewhere = [&words[..], &["--directory", "new/one"]].concat();
    let (status, said, _) = directory.init(&elsewhere);
    assert_eq!(status, 0);
    assert!(
        said.contains("scp new/one/server.json USER@192.0.2.1:"),
        "{said}"
    );
    assert_eq!(directory.files(), ["new"]);
    for made in ["new", "new/one"] {
        let data = fs::metadata(directory.0.join(made)).expect("a directory");
        assert_eq!(data.permissions().mode() & 0o777, 0o700, "{made}");
    }
}

#[test]
fn one_more_peer_is_like_another_of_the_same_key() {
    let directory = Directory::new("like");
    let (status, ..) = directory.init(&["vps:5-9", "--connect", "22", "--listen", "2222"]);
    assert_eq!(status, 0);
    let text = |name: &str| fs::read_to_string(directory.0.join(name)).expect("a file");
    let (status, said, _) = directory.init(&["--peer", "server.json"]);
    assert_eq!(status, 0);
    assert!(!said.contains("udp_bind"), "{said}");
    assert_eq!(
        text("peer-2.json"),
        text("peer.json").replace("peer.json", "peer-2.json")
    );
    let (status, said, _) = directory.init(&["nat:8,443", "--peer", "server.json"]);
    assert_eq!(status, 0);
    let warning =
        "warning: UDP port 443 of udp_connect: not in udp_bind of server.json, which has 5-9";
    assert!(said.contains(warning), "{said}");
    assert!(text("peer-3.json").contains("\"nat:8,443\""));
    // another tunnel's
    let other = text("peer.json").replace("\"psk\": \"", "\"psk\": \"AAAA");
    let key = other.find("\"psk\": \"AAAA").expect("a key") + 12;
    let other = [&other[..key], &other[key + 4..]].concat();
    for name in ["peer.json", "peer-2.json", "peer-3.json"] {
        fs::write(directory.0.join(name), &other).expect("a file");
    }
    let (status, _, error) = directory.init(&["--peer", "server.json"]);
    assert_eq!(status, 2);
    assert!(
        error.contains("missing: HOST[:PORT] (the server), --listen"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_or_missing_writes_nothing() {
    let directory = Directory::new("wrong");
    let file = |name: &str, text: &str| fs::write(directory.0.join(name), text).expect("a file");
    file(
        "peers.json",
        r#"{"listen": ":1", "udp_connect": "a:2", "password": "x"}"#,
    );
    file("open.json", r#"{"udp_bind": ":1", "connect": "a:2"}"#);
    file(
        "known.json",
        r#"{"udp_bind": ":1", "connect": "a:2", "password": "change me at both ends"}"#,
    );
    let before = directory.files();
    let whole = [
        "vps",
        "--connect",
        "127.0.0.1:22",
        "--listen",
        "127.0.0.1:2222",
    ];
    for (words, part) in [
        (
            &[][..],
            "missing: HOST[:PORT] (the server), --connect [HOST:]PORT",
        ),
        (&["vps"], "missing: --connect [HOST:]PORT"),
        (
            &["vps", "--connect", "sshd"],
            "--connect: \"sshd\" has no port",
        ),
        (&["vps:0", "--listen", ":1"], "no valid port"),
        (&["vps", "--peer", "none.json"], "none.json: no such file"),
        (&["vps", "--peer", "peers.json"], "is not a server's file"),
        (&["vps", "--peer", "open.json"], "has no key"),
        (&["vps", "--peer", "known.json"], "which everybody knows"),
        (
            &[&whole[..], &["--peer", "open.json"]].concat(),
            "--connect belongs to a new tunnel",
        ),
    ] {
        let (status, said, error) = directory.init(words);
        assert_eq!((status, said.as_str()), (2, ""), "{words:?}");
        assert!(error.contains(part), "{words:?}: {error}");
        assert_eq!(error.matches('\n').count(), 1, "{error}");
    }
    assert_eq!(directory.files(), before);
}
