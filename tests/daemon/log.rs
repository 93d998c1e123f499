//! The log at `info`: what an operator can read there of two real daemons.

use crate::harness::*;
use serde_json::json;
use std::io::{Read, Write};

#[test]
fn the_log_tells_the_story() {
    let mut plan = Plan::to(serve(run_errands));
    plan.server.insert("rate".into(), json!({"up": 50}));
    for end in [&mut plan.server, &mut plan.peer] {
        end.insert("loglevel".into(), json!(1));
    }
    let mut tunnel = plan.start();
    let about = concat!("kcptun ", env!("CARGO_PKG_VERSION"), ", ");
    let method = "sealed with chacha20poly1305_ietf, rate: control on, up";
    tunnel.server.wait_for_log(&format!(
        "{about}server, {method} at most 50 Mbit/s, down no limit"
    ));
    tunnel
        .peer
        .wait_for_log(&format!("{about}peer, {method} no limit"));
    tunnel.peer.wait_for_log(" answers after ");

    errand(tunnel.entry, 1, 1000);
    // 8 bytes of a header out; 1 byte of a verdict back
    tunnel
        .peer
        .wait_for_log(" 1001 bytes in, 1008 bytes out, in order");
    tunnel
        .server
        .wait_for_log(" 1008 bytes in, 1001 bytes out, in order");
    let ends = |log: String| -> Vec<String> {
        let lines = log.lines().filter(|line| line.contains(" ended after "));
        lines.map(str::to_owned).collect()
    };
    let (here, there) = (ends(tunnel.peer.log()), ends(tunnel.server.log()));
    assert_eq!((here.len(), there.len()), (1, 1), "{here:?} {there:?}");
    assert!(
        here[0].contains("DEBUG") && there[0].contains("DEBUG"),
        "what ends in order is no news: {here:?} {there:?}"
    );
    let number = |line: &str| {
        line.split(" from ")
            .next()
            .and_then(|l| l.split(' ').next_back().map(str::to_owned))
    };
    assert_eq!(number(&here[0]), number(&there[0]));
    let port = tunnel.peer.udp_port();
    assert!(
        there[0].contains(&format!(" from 127.0.0.1:{port} ")),
        "{there:?}"
    );

    let mut client = connect(tunnel.entry);
    let from = client.local_addr().expect("an address");
    client.write_all(&[0; 8]).expect("sent");
    // nothing tells from here when the server knows of it
    std::thread::sleep(std::time::Duration::from_millis(500));
    tunnel.server.signal(libc::SIGTERM);
    tunnel
        .server
        .wait_for_log(" INFO  2 connections have ended in ");
    tunnel
        .server
        .wait_for_log("; not in order 1 (the tunnel is stopping)");
    tunnel.server.wait();
    let why = "while connected: the other end reset it";
    tunnel.peer.wait_for_log(why);
    let last = ends(tunnel.peer.log()).pop().expect("a line");
    assert!(
        last.contains(" INFO ") && last.contains(&format!(" from {from} ")) && last.ends_with(why),
        "{last}"
    );
    // nothing but the two sessions' ends and what starts and stops
    let log = tunnel.peer.log();
    let lines = log.lines().filter(|line| !line.contains("DEBUG")).count();
    assert!(lines < 12, "{}", tunnel.peer.log());
}

#[test]
fn a_peer_that_falls_silent_is_told_of_and_so_is_its_return() {
    let tunnel = Plan::to(serve(echo)).start();
    let client = connect(tunnel.entry);
    ask(&client, b"hello").expect("an answer");
    tunnel.server.signal(libc::SIGSTOP);
    (&client).write_all(b"are you there?").expect("sent");
    tunnel.peer.wait_for_log(" has been silent for ");
    assert!(!tunnel.peer.log().contains("answers again"));
    tunnel.server.signal(libc::SIGCONT);
    tunnel.peer.wait_for_log(" answers again");
    assert_eq!(
        tunnel.peer.log().matches(" has been silent for ").count(),
        1
    );
}

/// Somebody who connects at once keeps the tunnel busy, and is the one who wants to know.
#[test]
fn a_server_that_never_answers_is_told_of_while_a_program_waits() {
    let mut plan = Plan::to(serve(echo));
    // nobody is there
    let nowhere = free_port();
    plan.peer
        .insert("udp_connect".into(), json!(format!("127.0.0.1:{nowhere}")));
    let tunnel = plan.start();
    let mut client = connect(tunnel.entry);
    client.write_all(b"hello?").expect("sent");
    tunnel.peer.wait_for_log(" does not answer: ");
    // it comes, and the first that is heard of it is the connection's own
    plan.server
        .insert("udp_bind".into(), json!(format!("127.0.0.1:{nowhere}")));
    let server = plan.start_server();
    tunnel.peer.wait_for_log(" answers");
    let mut answer = [0; 6];
    client.read_exact(&mut answer).expect("an answer");
    server.signal(libc::SIGSTOP);
    client.write_all(b"still there?").expect("sent");
    tunnel.peer.wait_for_log(" has been silent for ");
    let missed = tunnel.peer.log().matches(" does not answer: ").count();
    assert_eq!(missed, 1, "{}", tunnel.peer.log());
    server.signal(libc::SIGCONT);
}

#[test]
fn two_servers_wait_for_each_other_and_say_so() {
    let waits = "waits for the other end, whose udp_connect must name this one";
    let plan = Plan::to(serve(echo));
    let mut second = plan.server.clone();
    let at = format!("127.0.0.1:{}", free_port());
    second.insert("udp_bind".into(), at.into());
    for daemon in [plan.start_server(), Daemon::start(&second.into())] {
        daemon.wait_for_log(waits);
        assert_eq!(daemon.log().matches(waits).count(), 1);
    }
    let peer = plan.start_peer();
    let server = plan.start_server();
    server.wait_for_log(waits);
    peer.wait_for_log(" answers after ");
    assert!(!peer.log().contains("waits for"), "{}", peer.log());
}

#[test]
#[cfg(target_os = "linux")]
fn a_port_that_nobody_has_is_the_reason() {
    let plan = Plan::to(serve(echo));
    let mut peer = plan.start_peer();
    peer.wait_for_log(" does not answer: nothing receives at its UDP port");
    let mut server = plan.start_server();
    peer.wait_for_log(" answers");
    server.signal(libc::SIGKILL);
    server.wait();
    let waits = connect(plan.entry());
    (&waits).write_all(b"x").expect("sent");
    peer.wait_for_log(" s: nothing receives at its UDP port");
    assert!(peer.is_running());
}
