//! Ends with several UDP ports: the real binary, on the loopback interface.

use crate::harness::*;
use kcptun::config::PORTS_MAX;
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

const KB: usize = 1024;
/// Below the ports of the other tests.
const RANGES: std::ops::Range<u16> = 2_000..12_000;
/// Ports that this process has taken from there.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// So many free ports in a row, which no other test of this process has.
fn free_range(count: u16) -> u16 {
    let all = RANGES.end - RANGES.start;
    let offset = (std::process::id() * 1_031 % u32::from(all)) as u16;
    let free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..20 {
        let taken = TAKEN.fetch_add(count, Ordering::Relaxed);
        let first = RANGES.start + (offset + taken) % (all - count);
        if (first..first + count).all(free) {
            return first;
        }
    }
    panic!("there is no range of free ports");
}

/// The plan with so many ports at the server, and the first of them.
fn ranged(plan: &mut Plan, count: u16) -> u16 {
    let first = free_range(count);
    let range = format!("127.0.0.1:{first}-{}", first + count - 1);
    plan.server.insert("udp_bind".into(), json!(range));
    first
}

#[test]
fn one_process_serves_every_port_and_answers_from_the_one_that_was_asked() {
    let mut plan = Plan::to(serve(run_errands));
    let first = ranged(&mut plan, 4);
    let server = plan.start_server();
    server.wait_for_log(&format!("UDP bound to 127.0.0.1:{first}-{}", first + 3));
    let mut peers = Vec::new();
    for port in [first, first + 3, first + 1] {
        // a peer takes nothing from an address that it has not asked
        let there = json!(format!("127.0.0.1:{port}"));
        plan.peer.insert("udp_connect".into(), there);
        let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
        plan.peer.insert("listen".into(), json!(entry.to_string()));
        peers.push((plan.start_peer(), entry));
    }
    let errands: Vec<Errand> = (0..12)
        .map(|n| Errand::begin(peers[n as usize % 3].1, n, 200 * KB))
        .collect();
    errands.into_iter().for_each(Errand::finish);
}

#[test]
fn a_peer_takes_the_same_ports() {
    for fixed in [false, true] {
        let mut plan = Plan::to(serve(run_errands));
        let first = ranged(&mut plan, 4);
        let range = plan.server["udp_bind"].clone();
        plan.peer.insert("udp_connect".into(), range.clone());
        if fixed {
            let own = free_range(3);
            let own = json!(format!("127.0.0.1:{own},{}-{}", own + 1, own + 2));
            plan.peer.insert("udp_bind".into(), own);
        }
        let tunnel = plan.start();
        tunnel
            .peer
            .wait_for_log(&format!("peer {}\n", range.as_str().expect("text")));
        errand(tunnel.entry, 1, 200 * KB);
        // it is one of them by which it goes
        let answers = |port| format!("127.0.0.1:{port} answers after");
        let log = tunnel.peer.log();
        assert!(
            (first..first + 4).any(|port| log.contains(&answers(port))),
            "{log}"
        );
    }
}

#[test]
fn a_ping_says_which_ports_answer() {
    let mut plan = Plan::to(serve(run_errands));
    let first = ranged(&mut plan, 6);
    let (last, nobody) = (first + 5, first + 3);
    let bind = json!(format!(
        "127.0.0.1:{first}-{},{}-{last}",
        first + 2,
        first + 4
    ));
    plan.server.insert("udp_bind".into(), bind);
    let all = format!("127.0.0.1:{first}-{last}");
    plan.peer.insert("udp_connect".into(), json!(all));
    let ping = || {
        let file = File::new(&Value::Object(plan.peer.clone()).to_string());
        let out = Command::new(env!("CARGO_BIN_EXE_kcptun"))
            .args(["ping", "-n", "2", "-i", "0.2", "-c"])
            .arg(&file.path)
            .output()
            .expect("kcptun ping");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        let said = String::from_utf8(out.stdout).expect("text");
        (out.status.code(), said)
    };
    let server = plan.start_server();
    let (status, said) = ping();
    assert_eq!(status, Some(0), "{said}");
    let answer = format!(
        "answer:    5 of 6 ports, {first}-{},{}-{last}\n",
        first + 2,
        first + 4
    );
    let silent = match cfg!(target_os = "linux") {
        true => format!("refused:   1 of 6 ports, {nobody} (nothing receives there)\n"),
        false => format!("no answer: 1 of 6 ports, {nobody}\n"),
    };
    let then = format!("pings to 127.0.0.1:{first}, sealed");
    let heading = format!("the ports of {all} (127.0.0.1):\n");
    for part in [heading, answer, silent, then, "2 sent, 2 answered".into()] {
        assert!(said.contains(&part), "{part:?}: {said}");
    }
    drop(server);
    let (status, said) = ping();
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains(" 6 of 6 ports") && said.contains("likely: "),
        "{said}"
    );
}

#[test]
fn a_rendezvous_server_is_found_at_any_of_its_ports() {
    let mut plan = Plan::to(serve(run_errands)).both("service_id", json!("s"));
    let first = ranged(&mut plan, 2);
    let keeper = json!({"udp_bind": plan.server["udp_bind"], "psk": PSK});
    let _keeper = Daemon::start(&keeper);
    plan.server.remove("udp_bind");
    plan.peer.remove("udp_connect");
    for (port, end) in [(first, &mut plan.server), (first + 1, &mut plan.peer)] {
        let there = json!(format!("127.0.0.1:{port}"));
        end.insert("rendezvous_server".into(), there);
    }
    let server = plan.start_server();
    server.wait_for_log("registers this end");
    let _peer = plan.start_peer();
    errand(plan.entry(), 1, 200 * KB);
}

#[test]
fn a_port_of_the_range_that_is_taken_is_named() {
    let mut plan = Plan::to(serve(run_errands));
    let first = ranged(&mut plan, 5);
    let taken = SocketAddr::from(([127, 0, 0, 1], first + 2));
    let _taken = UdpSocket::bind(taken).expect("it was free");
    let config = Value::Object(plan.server.clone());
    let mut server = Daemon::spawn(&[env!("CARGO_BIN_EXE_kcptun")], &config, &[]);
    assert_eq!(server.wait().code(), Some(1));
    server.wait_for_log(&format!("udp_bind: cannot bind {taken}: the port is taken"));
}

/// Memory of its own that a process has, KiB.
fn memory(daemon: &Daemon) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_thousand_idle_ports_cost_little() {
    many_files();
    let one = Plan::to(serve(run_errands));
    let mut all = Plan::to(serve(run_errands));
    let count = PORTS_MAX as u16;
    let first = ranged(&mut all, count);
    let (small, large) = (one.start_server(), all.start_server());
    let last = first + count - 1;
    all.peer
        .insert("udp_connect".into(), json!(format!("127.0.0.1:{last}")));
    let peers = [one.start_peer(), all.start_peer()];
    for plan in [&one, &all] {
        errand(plan.entry(), 1, 10 * KB);
    }
    drop(peers);
    let (Some(one), Some(all)) = (memory(&small), memory(&large)) else {
        return skipped("the system does not say how much memory a process has");
    };
    let cost = all.saturating_sub(one);
    println!("{one} KiB with one port, {all} KiB with {count}");
    assert!(cost < 1_500, "{cost} KiB");
    // and no time
    let before = large.ticks();
    thread::sleep(Duration::from_secs(2));
    let ticks = large.ticks().zip(before).map(|(now, then)| now - then);
    assert!(ticks.is_none_or(|ticks| ticks <= 4), "{ticks:?}");
}
