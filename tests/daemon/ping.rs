//! `kcptun ping`, the real binary, towards ends that answer, that are wrong and that are not there, on the loopback
//! interface.

use crate::harness::*;
use kcptun::config::Config;
use kcptun::crypto::Key;
use kcptun::event::ping;
use serde_json::{Map, Value, json};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// The exit status, and what is printed.
fn kcptun_ping(config: &Map<String, Value>, words: &[&str]) -> (i32, String) {
    let file = File::new(&Value::Object(config.clone()).to_string());
    let out = Command::new(env!("CARGO_BIN_EXE_kcptun"))
        .args(["ping", "-c"])
        .arg(&file.path)
        .args(words)
        .output()
        .expect("kcptun ping");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    assert_eq!(text(out.stderr), "");
    (out.status.code().expect("a status"), text(out.stdout))
}

fn plan() -> Plan {
    Plan::to("127.0.0.1:9".parse().expect("an address"))
}

/// What is printed about an end that does not answer.
fn failed(config: &Map<String, Value>) -> String {
    let (status, said) = kcptun_ping(config, &["-n", "2", "-i", "0.2"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("2 sent, 0 answered"), "{said}");
    said
}

fn has(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

/// The plan's peer, towards another place.
fn peer_to(udp: SocketAddr) -> Map<String, Value> {
    let mut peer = plan().peer;
    peer.insert("udp_connect".into(), json!(udp.to_string()));
    peer
}

#[test]
fn a_healthy_path_has_round_trips() {
    let sealed = plan();
    let mut open = plan();
    for end in [&mut open.server, &mut open.peer] {
        end.remove("psk");
    }
    let methods = ["aes256gcm", "xsalsa20poly1305"].map(|m| plan().both("method", json!(m)));
    for plan in [sealed, open].into_iter().chain(methods) {
        let _server = plan.start_server();
        let (status, said) = kcptun_ping(&plan.peer, &["-n", "3", "-i", "0.2"]);
        assert_eq!(status, 0, "{said}");
        has(
            &said,
            &[
                "seq=1 time=",
                "seq=3 time=",
                "loss=0 %",
                "3 sent, 3 answered, 0 % lost",
                "mean ",
            ],
        );
        assert!(!said.contains("likely"), "{said}");
    }
}

#[test]
fn a_wrong_key_is_the_likely_reason_where_the_host_lives() {
    let mut plan = plan();
    plan.peer
        .insert("psk".into(), json!(*Key::generate().to_base64()));
    let server = plan.start_server();
    let said = failed(&plan.peer);
    has(
        &said,
        &[
            "likely: the host is there",
            "a wrong key",
            "the log of the other end",
        ],
    );
    // which is what the advice says to look for
    server.wait_for_log("does not open with this key and method");
}

/// The other ways to seal that are tried while nothing comes back look like a wrong key, and are not taken for it.
#[test]
fn a_right_key_is_known_where_the_answers_are_lost() {
    let plan = plan();
    let server = plan.start_server();
    let way_there = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let relay = peer_to(way_there.local_addr().expect("an address"));
    let mut peer = plan.peer.clone();
    peer.insert("udp_connect".into(), relay["udp_connect"].clone());
    let target = plan.udp();
    thread::spawn(move || {
        let no_way_back = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut bytes = [0; 2048];
        while let Ok((n, _)) = way_there.recv_from(&mut bytes) {
            let _ = no_way_back.send_to(&bytes[..n], target);
        }
    });
    let said = failed(&peer);
    has(
        &said,
        &["if it says that packets from here open, the answers are lost"],
    );
    server.wait_for_log("open with this key and method; it does nothing but ping");
    assert!(!server.log().contains("dropped"), "{}", server.log());
}

#[test]
fn no_key_here_is_the_likely_reason_where_none_is_configured() {
    let mut plan = plan();
    plan.peer.remove("psk");
    let _server = plan.start_server();
    let said = failed(&plan.peer);
    has(&said, &["a key at the other end and none here"]);
}

#[test]
fn a_wrong_method_is_named() {
    let mut plan = plan();
    plan.server
        .insert("method".into(), json!("xchacha20poly1305_ietf"));
    let _server = plan.start_server();
    let said = failed(&plan.peer);
    has(
        &said,
        &[
            "likely: a wrong method",
            "write \"method\": \"xchacha20poly1305_ietf\" here",
        ],
    );
}

#[test]
fn an_end_without_a_key_is_known() {
    let mut plan = plan();
    plan.server.remove("psk");
    let _server = plan.start_server();
    let said = failed(&plan.peer);
    has(
        &said,
        &["likely: kcptun at the other end runs without a key"],
    );
}

#[test]
fn a_port_that_nobody_has_is_refused() {
    let plan = plan();
    let said = failed(&plan.peer);
    let port = plan.udp().port();
    has(
        &said,
        &[
            "seq=1 refused",
            &format!("nothing receives at UDP port {port}: kcptun is not running there"),
        ],
    );
}

#[test]
fn other_protocols_are_told_apart() {
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let places = [&echo, &other].map(|socket| socket.local_addr().expect("an address"));
    for (socket, answer) in [(echo, None), (other, Some(b"BAD REQUEST"))] {
        thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((n, from)) = socket.recv_from(&mut bytes) {
                let answer = answer.map_or(&bytes[..n], |answer| &answer[..]);
                let _ = socket.send_to(answer, from);
            }
        });
    }
    has(
        &failed(&peer_to(places[0])),
        &[
            "what was sent came back",
            "likely: a wrong protocol",
            "sends everything back",
        ],
    );
    has(
        &failed(&peer_to(places[1])),
        &[
            "11 bytes arrived",
            "likely: a wrong protocol",
            "is not kcptun with this key",
        ],
    );
}

#[test]
fn a_host_that_answers_nothing_at_all_is_dead() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = silent.local_addr().expect("an address");
    // a listener whose queue is full is silent, too
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&any.into()).expect("bound");
    listener.listen(0).expect("listens");
    let full = listener
        .local_addr()
        .expect("an address")
        .as_socket()
        .expect("of IP");
    let brief = Duration::from_millis(300);
    let connect = || TcpStream::connect_timeout(&full, brief);
    let queue: Vec<_> = (0..4).map_while(|_| connect().ok()).collect();
    if queue.len() == 4 {
        return skipped("a listener with a full queue answers on this system");
    }
    let file = File::new(&Value::Object(peer_to(at)).to_string());
    let config = Config::load(&file.path).expect("a configuration");
    let options = |port| {
        let interval = Duration::from_millis(200);
        let options = ping::Options::new(&config, Some(2), interval).expect("an address");
        ping::Options {
            tcp_ports: vec![port],
            ..options
        }
    };
    let mut said = Vec::new();
    assert!(!ping::run(options(full.port()), &mut said).expect("it ends"));
    let said = String::from_utf8(said).expect("text");
    has(&said, &["likely: a dead host", "ping 127.0.0.1"]);
    // the same socket where the host refuses what comes over TCP
    let mut said = Vec::new();
    assert!(!ping::run(options(free_port()), &mut said).expect("it ends"));
    let said = String::from_utf8(said).expect("text");
    has(
        &said,
        &["likely: the host is there", "a firewall that drops UDP"],
    );
}

#[test]
fn what_is_lost_on_the_way_is_counted() {
    let plan = plan();
    let _server = plan.start_server();
    let near = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let far = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    far.connect(plan.udp()).expect("a target");
    let at = near.local_addr().expect("an address");
    let back = (
        near.try_clone().expect("a copy"),
        far.try_clone().expect("a copy"),
    );
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        let mut number = 0;
        while let Ok((n, from)) = near.recv_from(&mut bytes) {
            // beside those that ask for the size of packets
            number += u32::from(n < 200);
            if number == 1 && n < 200 {
                let (near, far) = (
                    back.0.try_clone().expect("a copy"),
                    back.1.try_clone().expect("a copy"),
                );
                thread::spawn(move || {
                    let mut bytes = [0; 2048];
                    while let Ok(n) = far.recv(&mut bytes) {
                        let _ = near.send_to(&bytes[..n], from);
                    }
                });
            }
            if number != 2 || n >= 200 {
                let _ = far.send(&bytes[..n]);
            }
        }
    });
    let (status, said) = kcptun_ping(&peer_to(at), &["-n", "4", "-i", "0.4"]);
    assert_eq!(status, 0, "{said}");
    has(
        &said,
        &[
            "seq=1 time=",
            "seq=2 no answer within 1 s",
            "seq=3 time=",
            "4 sent, 3 answered, 25 % lost",
        ],
    );
}

#[test]
fn an_interrupt_ends_with_the_summary() {
    let plan = plan();
    let _server = plan.start_server();
    let file = File::new(&Value::Object(plan.peer.clone()).to_string());
    let mut child = Command::new(env!("CARGO_BIN_EXE_kcptun"))
        .args(["ping", "-i", "0.2", "-c"])
        .arg(&file.path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("kcptun ping");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("seq=2 ") {
        line.clear();
        assert_ne!(out.read_line(&mut line).expect("a line"), 0, "it has ended");
    }
    // SAFETY: no memory is involved; the child has not been waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(child.wait().expect("a status").code(), Some(0));
    has(&rest, &["--- ", " 0 % lost", "round trip: least"]);
}

#[test]
fn what_cannot_be_pinged_has_its_message() {
    for (config, status, part) in [
        (
            plan().server,
            2,
            "has no udp_connect or rendezvous_server to ping",
        ),
        (Map::new(), 2, "no address at all"),
        (
            {
                let mut peer = plan().peer;
                peer.insert("udp_connect".into(), json!("no-such-host.invalid:7"));
                peer
            },
            1,
            "udp_connect: cannot resolve no-such-host.invalid:7",
        ),
    ] {
        let file = File::new(&Value::Object(config).to_string());
        let out = Command::new(env!("CARGO_BIN_EXE_kcptun"))
            .args(["ping", "-n", "1", "-c"])
            .arg(&file.path)
            .output()
            .expect("kcptun ping");
        let error = String::from_utf8(out.stderr).expect("text");
        assert_eq!(
            (out.status.code(), out.stdout.len()),
            (Some(status), 0),
            "{error}"
        );
        assert!(
            error.contains(part) && error.lines().count() == 1,
            "{error}"
        );
    }
}

/// A daemon of the other end answers pings, whatever it does about fresh keys; no connection opens between "require" and "off".
#[test]
fn what_the_ends_do_about_fresh_keys_is_compared() {
    for (here, there, part) in [
        (
            "require",
            "off",
            "likely: no connection will open: forward_secrecy is \"require\" here",
        ),
        ("off", "require", "no connection will open"),
        ("auto", "off", "keys: the other end does not agree"),
        (
            "auto",
            "require",
            "keys: the other end agrees on fresh keys",
        ),
    ] {
        let mut plan = plan();
        plan.server.insert("forward_secrecy".into(), json!(there));
        plan.peer.insert("forward_secrecy".into(), json!(here));
        let _server = plan.start_server();
        let (status, said) = kcptun_ping(&plan.peer, &["-n", "3", "-i", "0.2"]);
        assert_eq!(status, 0, "{said}");
        has(&said, &["3 answered", part]);
    }
}
