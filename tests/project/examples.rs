//! The examples, used as they are: each configuration is started, and connections are carried through each pair. What
//! is for systemd and OpenWrt is looked at by their own tools, where they are installed.

use crate::harness::{PATIENCE, errand, eventually, log_of, run_errands, skipped};
use kcptun::config::Config;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A kcptun with a file of the examples. It is killed when this goes.
struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn start(file: &Path) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kcptun"))
            .arg("-c")
            .arg(file)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let log = log_of(&mut child);
        let running = Running { child, log };
        running.wait_for("UDP bound to");
        running
    }

    fn wait_for(&self, part: &str) {
        let log = || self.log.lock().expect("the log").clone();
        assert!(eventually(|| log().contains(part)), "{part}: {}", log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The examples have ports of their own, which two runs of this test cannot have at the same time.
fn alone() -> TcpListener {
    let end = Instant::now() + 12 * PATIENCE;
    loop {
        match TcpListener::bind("127.0.0.1:27399") {
            Ok(alone) => return alone,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A service at `at`, if the port is free and may be bound.
fn serve(at: SocketAddr) -> bool {
    let Ok(listener) = TcpListener::bind(at) else {
        return false;
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(|| run_errands(stream));
        }
    });
    true
}

/// The directories with a pair of configurations, and the files in them in the order of starting.
fn pairs() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("examples")).expect("examples");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut pairs: Vec<PathBuf> = paths.filter(|p| p.join("peer.json").exists()).collect();
    pairs.push(root().to_owned());
    pairs.sort();
    pairs
}

#[test]
fn every_pair_of_configurations_carries_connections_as_it_is() {
    let _alone = alone();
    let pairs = pairs();
    assert!(pairs.len() >= 6, "{pairs:?}");
    for pair in pairs {
        let load = |name: &str| Config::load(&pair.join(name)).expect("right");
        let (server, peer) = (load("server.json"), load("peer.json"));
        let service = server.connect.and_then(|address| address.literal());
        let service = service.expect("a service on this machine");
        let served = serve(service);
        let entry = peer.listen.and_then(|address| address.literal());

        let third = pair.join("rendezvous.json");
        let _third = third.exists().then(|| Running::start(&third));
        let _server = Running::start(&pair.join("server.json"));
        let peer = Running::start(&pair.join("peer.json"));
        peer.wait_for("answers after");
        if served {
            errand(entry.expect("an entry"), 1, 200 * 1024);
        } else {
            skipped(&format!(
                "{}: no data, {service} cannot be bound",
                pair.display()
            ));
        }
    }
}

/// Whether the tool is there and content; None, with a line that says so, where it is missing.
fn tool(words: &[&str]) -> Option<bool> {
    let result = Command::new(words[0])
        .args(&words[1..])
        .current_dir(root())
        .output();
    let Ok(output) = result else {
        skipped(&format!("there is no {}", words[0]));
        return None;
    };
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        if text.contains("unrecognized option") {
            skipped(&format!("this {} is too old: {text}", words[0]));
            return None;
        }
        println!("{text}");
    }
    Some(output.status.success())
}

#[test]
fn the_units_expose_little() {
    for unit in ["server", "peer"] {
        let unit = format!("examples/systemd/kcptun-{unit}.service");
        let words = [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=20",
        ];
        assert_ne!(tool(&[&words[..], &[&unit]].concat()), Some(false));
    }
}

#[test]
fn the_init_script_is_clean() {
    let script = "examples/openwrt/kcptun.init";
    assert_ne!(tool(&["shellcheck", "-s", "sh", script]), Some(false));
    assert_ne!(tool(&["sh", "-n", script]), Some(false));
    let mock = "tests/project/openwrt/mock.sh";
    assert_ne!(tool(&["shellcheck", "-s", "sh", mock]), Some(false));
}
