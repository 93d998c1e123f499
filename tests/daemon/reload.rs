//! The real binary while its configuration is read again (SIGHUP), and how it stops.

use crate::harness::{self, *};
use kcptun::crypto::{Key, Method, Sealing};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const MB: usize = 1024 * 1024;

/// A service that says `name` and then sends back what it gets.
fn named(name: &'static [u8; 1]) -> std::net::SocketAddr {
    serve(move |mut stream: TcpStream| {
        stream.write_all(name).expect("sent");
        echo(stream);
    })
}

/// A connection and what its service is called.
fn greeted(to: std::net::SocketAddr) -> (TcpStream, u8) {
    let mut stream = connect(to);
    let mut name = [0];
    std::io::Read::read_exact(&mut stream, &mut name).expect("a name");
    (stream, name[0])
}

fn with(config: &Map<String, Value>, key: &str, value: Value) -> String {
    let mut config = config.clone();
    config.insert(key.into(), value);
    Value::Object(config).to_string()
}

#[test]
fn the_service_the_times_and_the_level_change_and_sessions_go_on() {
    let mut plan = Plan::to(named(b"a"));
    let tunnel = plan.start();
    let (old, name) = greeted(tunnel.entry);
    assert_eq!(name, b'a');
    let second = named(b"b").to_string();
    plan.server.insert("connect".into(), json!(second));
    plan.server.insert("timeout".into(), json!(90));
    plan.server.insert("rate".into(), json!({"up": 50}));
    plan.server.insert("tcp".into(), json!({"keepalive": 30}));
    let text = with(&plan.server, "loglevel", json!(1));
    tunnel.server.reload(&text, "loglevel: 1 instead of 2");
    let log = tunnel.server.log();
    for line in [
        &format!("connect: {second} instead of "),
        "timeout: 90 instead of 600",
        "rate.up: 50 instead of none",
        "tcp.keepalive: 30 instead of 120",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("DEBUG"), "{log}");
    ask(&old, b"still there").expect("an answer");
    assert_eq!(greeted(tunnel.entry).1, b'b');
    tunnel.server.wait_for_log("DEBUG");
    // and back, with a peer that has nothing to change
    let text = with(&plan.server, "loglevel", json!(2));
    tunnel.server.reload(&text, "loglevel: 2 instead of 1");
    let text = Value::Object(plan.peer.clone()).to_string();
    tunnel.peer.reload(&text, "nothing has changed");
    ask(&old, b"still there").expect("an answer");
}

#[test]
fn what_cannot_change_is_named_and_stays() {
    let plan = Plan::to(serve(echo));
    let tunnel = plan.start();
    let client = connect(tunnel.entry);
    ask(&client, b"before").expect("an answer");
    let mut other = plan.peer.clone();
    let listen = format!("127.0.0.1:{}", free_port());
    other.insert("listen".into(), json!(listen));
    other.insert("linger".into(), json!(10));
    let text = with(&other, "kcp", json!({"mtu": 1200}));
    tunnel.peer.reload(&text, "linger: 10 instead of 30");
    let log = tunnel.peer.log();
    for line in [
        format!(
            "WARN  SIGHUP: listen: stays {}, not {listen}: ",
            tunnel.entry
        ),
        "WARN  SIGHUP: kcp.mtu: stays 1500, not 1200: ".into(),
    ] {
        assert!(log.contains(&line), "{line}: {log}");
    }
    ask(&client, b"after").expect("an answer");
    ask(&connect(tunnel.entry), b"new").expect("an answer");
    assert!(TcpStream::connect(&listen).is_err());
}

#[test]
fn a_broken_file_changes_nothing() {
    let plan = Plan::to(serve(echo));
    let tunnel = plan.start();
    let client = connect(tunnel.entry);
    ask(&client, b"before").expect("an answer");
    let wrong = with(&plan.server, "timeout", json!(1));
    for (text, why) in [
        ("{", "t.json: "),
        ("", "t.json: is empty"),
        (&wrong, "timeout: 1 is out of range"),
    ] {
        tunnel.server.reload(text, "nothing is changed");
        let log = tunnel.server.log();
        let mut lines = log.lines();
        let line = lines
            .rfind(|line| line.contains("SIGHUP"))
            .unwrap_or_default();
        assert!(
            line.contains(" ERROR SIGHUP: ") && line.contains(why),
            "{line}"
        );
        ask(&client, b"after").expect("an answer");
        ask(&connect(tunnel.entry), b"new").expect("an answer");
    }
    let text = with(&plan.server, "timeout", json!(90));
    tunnel.server.reload(&text, "timeout: 90 instead of 600");
}

/// Whether the last datagram of the peer is sealed with a key.
fn uses(relay: &Relay, key: &Key) -> bool {
    let mut datagram = relay.seen.lock().expect("the list").last().cloned();
    let mut sealing = Sealing::new(Method::Chacha20Poly1305Ietf, key);
    datagram
        .as_mut()
        .is_some_and(|datagram| sealing.open(datagram).is_ok())
}

#[test]
fn a_key_is_replaced_under_transfers() {
    for server_first in [true, false] {
        // slow enough to last
        let plan = Plan::to(serve(run_errands)).both("rate", json!({"up": 25}));
        let mut plan = plan.both("forward_secrecy", json!("off"));
        let relay = Relay::new(plan.udp(), 0.0, 7);
        let at = json!(relay.at.to_string());
        plan.peer.insert("udp_connect".into(), at);
        let tunnel = plan.start();
        let key = Key::generate();
        let psk = json!(key.to_base64());
        let errand = Errand::begin(tunnel.entry, 1, 4 * MB);
        let mut ends = [(&tunnel.server, &plan.server), (&tunnel.peer, &plan.peer)];
        if !server_first {
            ends.reverse();
        }
        for (daemon, config) in ends {
            thread::sleep(Duration::from_millis(300));
            assert!(!uses(&relay, &key));
            daemon.reload(&with(config, "psk", psk.clone()), "psk: changed");
        }
        // long before the old one ends
        assert!(eventually(|| uses(&relay, &key)), "{server_first}");
        errand.finish();
        harness::errand(tunnel.entry, 2, 100_000);
        assert!(uses(&relay, &key));
    }
}

#[test]
fn a_key_is_replaced_beside_fresh_keys() {
    let plan = Plan::to(serve(run_errands)).both("rate", json!({"up": 25}));
    let tunnel = plan.start();
    tunnel.peer.wait_for_log("has fresh keys");
    let psk = json!(Key::generate().to_base64());
    let errand = Errand::begin(tunnel.entry, 1, 2 * MB);
    for (daemon, config) in [(&tunnel.server, &plan.server), (&tunnel.peer, &plan.peer)] {
        daemon.reload(&with(config, "psk", psk.clone()), "psk: changed");
        harness::errand(tunnel.entry, 2, 10_000);
    }
    errand.finish();
    harness::errand(tunnel.entry, 3, 100_000);
}

#[test]
fn an_end_with_the_old_key_goes_on() {
    let plan = Plan::to(serve(run_errands));
    let tunnel = plan.start();
    errand(tunnel.entry, 1, 10_000);
    let psk = json!(Key::generate().to_base64());
    let text = with(&plan.server, "psk", psk);
    tunnel.server.reload(&text, "psk: changed");
    errand(tunnel.entry, 2, 100_000);
    // one that starts now, likewise
    let mut plan = plan;
    let listen = format!("127.0.0.1:{}", free_port());
    plan.peer.insert("listen".into(), json!(listen));
    let _late = plan.start_peer();
    errand(plan.entry(), 3, 100_000);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // the first one's farewell may be over before the second comes
    for attempt in 1.. {
        let mut plan = Plan::to(serve(echo));
        // nothing of what it says arrives
        let relay = Relay::new(plan.udp(), 0.0, 7);
        let at = json!(relay.at.to_string());
        plan.peer.insert("udp_connect".into(), at);
        let mut tunnel = plan.start();
        let client = connect(tunnel.entry);
        ask(&client, b"hello").expect("an answer");
        tunnel.peer.signal(libc::SIGTERM);
        tunnel.peer.wait_for_log("stopping, which ends 1 session");
        tunnel.peer.signal(libc::SIGTERM);
        let status = tunnel.peer.wait();
        if tunnel.peer.log().contains("stopping at once") {
            assert!(status.success());
            assert_eq!(read_all(&client).1, End::Reset);
            return;
        }
        assert!(attempt < 10, "{}", tunnel.peer.log());
    }
}
