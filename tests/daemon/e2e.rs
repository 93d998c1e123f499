//! The real binary, two of it as a rule, and real TCP connections through both, on the loopback interface.

use crate::harness::*;
use kcptun::crypto::{Key, Method, Sealing};
use kcptun::segment::{Header, cmd};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const KB: usize = 1024;
const MB: usize = 1024 * KB;
const BINARY: &str = env!("CARGO_BIN_EXE_kcptun");

/// A service whose connections send what `program` returns here.
fn observed<T: Send + 'static>(
    program: impl Fn(TcpStream) -> T + Send + Sync + 'static,
) -> (SocketAddr, Receiver<T>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let service = serve(move |stream| {
        let result = program(stream);
        let _ = sender.lock().expect("the sender").send(result);
    });
    (service, receiver)
}

#[test]
fn ipv4_on_the_whole_way() {
    let tunnel = Plan::to(serve(run_errands)).start();
    errand(tunnel.entry, 1, 100 * KB);
    errand(tunnel.entry, 2, 0);
    errand(tunnel.entry, 3, 1);
}

#[test]
fn ipv6_on_the_whole_way() {
    if !has_ipv6() {
        return skipped("this machine has no IPv6");
    }
    let tunnel = Plan::on("[::1]", serve_at("::1", run_errands)).start();
    errand(tunnel.entry, 1, 100 * KB);
}

/// What the service of a tunnel is told first, and the ports of the peer and of the server.
fn introduced(host: &str, version: &str) -> (Vec<u8>, u16, u16) {
    // nothing of the client's follows before it has been told
    let (service, told) = observed(|stream: TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut bytes = vec![0; 4 * KB];
        let n = (&stream).read(&mut bytes).expect("a header");
        bytes.truncate(n);
        bytes
    });
    let mut plan = Plan::on(host, service);
    plan.server
        .insert("tcp".into(), json!({"proxy_protocol": version}));
    let tunnel = plan.start();
    let _client = connect(tunnel.entry);
    let told = told.recv_timeout(PATIENCE).expect("a header");
    (told, tunnel.peer.udp_port(), tunnel.server.udp_port())
}

#[test]
fn a_service_is_told_who_connects() {
    let (told, from, to) = introduced("127.0.0.1", "v1");
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
    assert_eq!(String::from_utf8_lossy(&told), line);
    let (told, from, to) = introduced("127.0.0.1", "v2");
    let mut right = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
    right.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    assert_eq!(told, right);
    if !has_ipv6() {
        return skipped("this machine has no IPv6");
    }
    let (told, from, to) = introduced("[::1]", "v1");
    let line = format!("PROXY TCP6 ::1 ::1 {from} {to}\r\n");
    assert_eq!(String::from_utf8_lossy(&told), line);
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    if UdpSocket::bind("127.0.0.2:0").is_err() {
        return skipped("this machine is not 127.0.0.2");
    }
    let families: &[&str] = if has_ipv6() {
        &["0.0.0.0", "[::]"]
    } else {
        &["0.0.0.0"]
    };
    for everywhere in families {
        // a peer takes nothing from an address that it has not asked
        let mut plan = Plan::to(serve(run_errands));
        let port = plan.udp().port();
        plan.server
            .insert("udp_bind".into(), json!(format!("{everywhere}:{port}")));
        plan.peer
            .insert("udp_connect".into(), json!(format!("127.0.0.2:{port}")));
        let tunnel = plan.start();
        errand(tunnel.entry, 1, 100 * KB);
    }
}

#[test]
fn one_socket_takes_peers_and_one_port_clients_of_both_families() {
    if !has_ipv6() {
        return skipped("this machine has no IPv6");
    }
    let mut plan = Plan::to(serve(run_errands));
    let port = plan.udp().port();
    plan.server
        .insert("udp_bind".into(), json!(format!(":{port}")));
    let server = plan.start_server();
    let mut peers = Vec::new();
    for host in ["127.0.0.1", "[::1]"] {
        plan.peer
            .insert("udp_connect".into(), json!(format!("{host}:{port}")));
        let listen = free_port();
        plan.peer
            .insert("listen".into(), json!(format!(":{listen}")));
        let peer = Daemon::start(&Value::Object(plan.peer.clone()));
        let entry = |host: &str| SocketAddr::new(host.parse().expect("an address"), listen);
        peers.push((peer, ["127.0.0.1", "::1"].map(entry)));
    }
    let errands: Vec<Errand> = (0..20)
        .map(|i| Errand::begin(peers[i as usize % 2].1[i as usize / 2 % 2], i, 30 * KB))
        .collect();
    errands.into_iter().for_each(Errand::finish);
    drop(server);
}

#[test]
fn both_ends_may_open_sessions_over_one_socket() {
    let there = serve(|mut s: TcpStream| s.write_all(b"there").expect("sent"));
    let here = serve(|mut s: TcpStream| s.write_all(b"here").expect("sent"));
    let mut plan = Plan::to(there);
    let back = free_port();
    let ports = [plan.udp().port(), free_port()];
    plan.server
        .insert("listen".into(), json!(format!("127.0.0.1:{back}")));
    plan.server.insert(
        "udp_connect".into(),
        json!(format!("127.0.0.1:{}", ports[1])),
    );
    plan.peer.insert("connect".into(), json!(here.to_string()));
    plan.peer
        .insert("udp_bind".into(), json!(format!("127.0.0.1:{}", ports[1])));
    let tunnel = plan.start();
    for _ in 0..5 {
        assert_eq!(
            read_all(&connect(tunnel.entry)),
            (b"there".to_vec(), End::Eof)
        );
        let entry = SocketAddr::from(([127, 0, 0, 1], back));
        assert_eq!(read_all(&connect(entry)), (b"here".to_vec(), End::Eof));
    }
}

#[test]
fn names_in_the_configuration_are_resolved() {
    let mut plan = Plan::to(serve(run_errands));
    for config in [&mut plan.server, &mut plan.peer] {
        for key in ["udp_bind", "connect", "udp_connect", "listen"] {
            if let Some(Value::String(text)) = config.get_mut(key) {
                *text = text.replace("127.0.0.1", "localhost");
            }
        }
    }
    // the service is found at its IPv4 address, whatever localhost means first
    let tunnel = plan.start();
    let port = plan.entry().port();
    let log = tunnel.peer.log();
    let host = if log.contains("TCP on [::1]") {
        "::1"
    } else {
        "127.0.0.1"
    };
    errand(
        SocketAddr::new(host.parse().expect("an address"), port),
        1,
        KB,
    );
}

#[test]
fn three_hundred_connections_at_once() {
    let tunnel = Plan::to(serve(run_errands)).start();
    let before = [&tunnel.server, &tunnel.peer].map(Daemon::descriptors);
    // all of them are sent before the first is read to its end
    let errands: Vec<Errand> = (0..300)
        .map(|seed| Errand::begin(tunnel.entry, seed, 8 * KB + seed as usize))
        .collect();
    errands.into_iter().for_each(Errand::finish);
    let none_left = || [&tunnel.server, &tunnel.peer].map(Daemon::descriptors) == before;
    assert!(eventually(none_left), "descriptors are left open");
}

#[test]
fn idle_connections_cost_no_time() {
    let tunnel = Plan::to(serve(echo)).start();
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(tunnel.entry)).collect();
    for client in &clients {
        ask(client, b"hello").expect("an answer");
    }
    let daemons = [&tunnel.server, &tunnel.peer];
    let Some(_) = tunnel.peer.ticks() else {
        return skipped("this system does not say what a process uses");
    };
    // what is left to acknowledge has its time
    thread::sleep(Duration::from_millis(500));
    let before = daemons.map(Daemon::ticks);
    thread::sleep(Duration::from_millis(1500));
    for (daemon, before) in daemons.into_iter().zip(before) {
        let used = daemon.ticks().expect("a number") - before.expect("a number");
        assert!(used <= 5, "{used} hundredths of a second");
    }
    ask(&clients[50], b"still there").expect("an answer");
}

#[test]
fn megabytes_both_ways_at_once() {
    let tunnel = Plan::to(serve(run_errands)).start();
    let errands: Vec<Errand> = (0..2)
        .map(|seed| Errand::begin(tunnel.entry, seed, 4 * MB))
        .collect();
    errands.into_iter().for_each(Errand::finish);
}

#[test]
fn every_method_carries() {
    for method in Method::ALL {
        let plan = Plan::to(serve(run_errands)).both("method", json!(method.name()));
        errand(plan.start().entry, 1, 200 * KB);
    }
}

#[test]
fn plain_kcp_carries_in_every_mode() {
    for (key, value) in [
        ("rate", json!({"control": "off"})),
        ("kcp", json!({"nc": 0})),
        ("kcp", json!({"nc": 0, "flush": 0, "interval": 20})),
        ("kcp", json!({"nc": 0, "flush": 2, "nodelay": 0})),
    ] {
        let plan = Plan::to(serve(run_errands)).both(key, value);
        errand(plan.start().entry, 1, 300 * KB);
    }
}

#[test]
fn ends_of_unlike_configuration_understand_each_other() {
    let mut plan = Plan::to(serve(run_errands));
    plan.server.insert("rate".into(), json!({"control": "off"}));
    plan.server.insert(
        "kcp".into(),
        json!({"mtu": 600, "sndwnd": 64, "rcvwnd": 64}),
    );
    errand(plan.start().entry, 1, 300 * KB);
}

#[test]
fn no_key_carries_with_a_warning() {
    let mut plan = Plan::to(serve(run_errands));
    plan.server.remove("psk");
    plan.peer.remove("psk");
    let tunnel = plan.start();
    errand(tunnel.entry, 1, 100 * KB);
    for daemon in [&tunnel.server, &tunnel.peer] {
        assert!(daemon.log().contains(" WARN "), "{}", daemon.log());
    }
}

#[test]
fn a_service_may_speak_first() {
    let greet = |mut stream: TcpStream| {
        stream.write_all(b"220 hello\r\n").expect("sent");
        echo(stream);
    };
    let tunnel = Plan::to(serve(greet)).start();
    let mut client = connect(tunnel.entry);
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"220 hello\r\n");
    ask(&client, b"quit").expect("an answer");
}

#[test]
fn a_client_that_has_ended_its_stream_still_reads_everything() {
    let service = serve(|mut stream| {
        let (request, end) = read_all(&stream);
        assert_eq!((&request[..], end), (&b"request"[..], End::Eof));
        // longer than anything would wait that takes the one end for both
        thread::sleep(Duration::from_millis(1500));
        stream.write_all(&pattern(5, MB)).expect("sent");
    });
    let tunnel = Plan::to(service).start();
    let mut client = connect(tunnel.entry);
    client.write_all(b"request").expect("sent");
    client.shutdown(Shutdown::Write).expect("shut down");
    let (answer, end) = read_all(&client);
    assert!(answer == pattern(5, MB), "{} bytes", answer.len());
    assert_eq!(end, End::Eof);
}

#[test]
fn a_service_that_has_ended_its_stream_still_reads_everything() {
    let (service, results) = observed(|mut stream| {
        stream.write_all(&pattern(6, 100 * KB)).expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let (bytes, end) = read_all(&stream);
        (bytes == pattern(7, MB), end)
    });
    let tunnel = Plan::to(service).start();
    let mut client = connect(tunnel.entry);
    let (bytes, end) = read_all(&client);
    assert!(bytes == pattern(6, 100 * KB) && end == End::Eof);
    thread::sleep(Duration::from_millis(1500));
    client.write_all(&pattern(7, MB)).expect("sent");
    client.shutdown(Shutdown::Write).expect("shut down");
    let result = results.recv_timeout(PATIENCE).expect("a result");
    assert_eq!(result, (true, End::Eof));
}

#[test]
fn a_reset_by_the_client_is_a_reset_at_the_service() {
    let (service, results) = observed(|mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a byte");
        stream.write_all(&byte).expect("sent");
        read_all(&stream).1
    });
    let tunnel = Plan::to(service).start();
    let client = connect(tunnel.entry);
    ask(&client, b"x").expect("an answer");
    reset(client);
    assert_eq!(results.recv_timeout(PATIENCE), Ok(End::Reset));
}

#[test]
fn a_reset_by_the_service_is_a_reset_at_the_client() {
    let service = serve(|mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a byte");
        reset(stream);
    });
    let tunnel = Plan::to(service).start();
    let mut client = connect(tunnel.entry);
    client.write_all(b"x").expect("sent");
    assert_eq!(read_all(&client), (Vec::new(), End::Reset));
}

/// Both are stuck when one resets: the writer, and what reads from it.
#[test]
fn a_reset_is_seen_by_a_writer_that_is_stuck() {
    let (service, results) = observed(|mut stream| {
        let mut order = [0];
        stream.read_exact(&mut order).expect("an order");
        if order == *b"r" {
            thread::sleep(Duration::from_millis(1500));
            reset(stream);
            return End::Eof;
        }
        write_until_reset(&stream)
    });
    let tunnel = Plan::to(service).start();
    let mut reader = connect(tunnel.entry);
    reader.write_all(b"w").expect("sent");
    let mut writer = connect(tunnel.entry);
    writer.write_all(b"r").expect("sent");
    assert_eq!(write_until_reset(&writer), End::Reset);
    assert_eq!(results.recv_timeout(PATIENCE), Ok(End::Eof));
    reset(reader);
    assert_eq!(results.recv_timeout(PATIENCE), Ok(End::Reset));
}

fn write_until_reset(mut stream: &TcpStream) -> End {
    let piece = pattern(9, 64 * KB);
    loop {
        match stream.write_all(&piece).map_err(|e| e.kind()) {
            Ok(()) => {}
            Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return End::Reset,
            Err(_) => return End::Silence,
        }
    }
}

/// Nobody waits for the last bytes to arrive: not the client, which is gone, and not the service.
#[test]
fn what_was_written_before_a_close_arrives() {
    const LEN: usize = 20 * KB;
    for (control, trouble) in [("on", 0.0), ("on", 0.1), ("off", 0.1)] {
        let (service, results) = observed(|mut stream| {
            let (bytes, end) = read_all(&stream);
            if bytes.len() < LEN {
                stream.write_all(&pattern(4, LEN)).expect("sent");
            }
            (bytes, end)
        });
        let mut plan = Plan::to(service).both("rate", json!({"control": control}));
        let relay = Relay::new(plan.udp(), trouble, 7);
        plan.peer
            .insert("udp_connect".into(), json!(relay.at.to_string()));
        let tunnel = plan.start();
        for _ in 0..10 {
            connect(tunnel.entry)
                .write_all(&pattern(3, LEN))
                .expect("sent");
        }
        for i in 0..10 {
            let (bytes, end) = results.recv_timeout(PATIENCE).expect("a result");
            assert!(bytes == pattern(3, LEN), "{i}: {} bytes", bytes.len());
            assert_eq!(end, End::Eof);
        }
        let asked: Vec<TcpStream> = (0..10)
            .map(|_| {
                let mut client = connect(tunnel.entry);
                client.write_all(b"your turn").expect("sent");
                client.shutdown(Shutdown::Write).expect("shut down");
                client
            })
            .collect();
        for client in asked {
            let (bytes, end) = read_all(&client);
            assert!(bytes == pattern(4, LEN), "{} bytes", bytes.len());
            assert_eq!(end, End::Eof);
        }
    }
}

#[test]
fn a_refused_dial_resets_the_client() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut tunnel = Plan::to(nobody).start();
    for _ in 0..3 {
        assert_eq!(read_all(&connect(tunnel.entry)).1, End::Reset);
    }
    assert!(tunnel.server.is_running() && tunnel.peer.is_running());
    // the service comes up: nothing was remembered against it
    let listener = TcpListener::bind(nobody).expect("a listener");
    let late = thread::spawn(move || echo(listener.accept().expect("accepted").0));
    let client = connect(tunnel.entry);
    ask(&client, b"hello").expect("an answer");
    drop(client);
    late.join().expect("a service");
}

/// Stops one daemon while one connection is idle and one carries a stream that does not end by itself.
fn stop_resets_both_ends(signal: i32, stop_server: bool) {
    let (service, results) = observed(|mut stream| {
        let mut order = [0];
        stream.read_exact(&mut order).expect("an order");
        stream.write_all(&order).expect("sent");
        if order == *b"i" {
            return read_all(&stream).1;
        }
        write_until_reset(&stream)
    });
    let mut tunnel = Plan::to(service).start();
    let idle = connect(tunnel.entry);
    ask(&idle, b"i").expect("an answer");
    let mut busy = connect(tunnel.entry);
    busy.write_all(b"b").expect("sent");
    let mut first = vec![0; 300 * KB];
    busy.read_exact(&mut first).expect("the beginning");

    let stopped = if stop_server {
        &mut tunnel.server
    } else {
        &mut tunnel.peer
    };
    stopped.signal(signal);
    let before = Instant::now();
    assert_eq!(stopped.wait().code(), Some(0), "{}", stopped.log());
    assert_eq!(read_all(&busy).1, End::Reset, "the busy client");
    assert_eq!(read_all(&idle).1, End::Reset, "the idle client");
    for _ in 0..2 {
        assert_eq!(results.recv_timeout(PATIENCE), Ok(End::Reset));
    }
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_server_that_is_stopped_resets_the_connections_at_both_ends() {
    stop_resets_both_ends(libc::SIGTERM, true);
}

#[test]
fn a_peer_that_is_stopped_resets_the_connections_at_both_ends() {
    stop_resets_both_ends(libc::SIGTERM, false);
    stop_resets_both_ends(libc::SIGINT, false);
}

#[test]
fn with_a_wrong_key_nothing_passes_and_the_log_says_so_in_few_lines() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = dials.clone();
    let service = serve(move |mut stream: TcpStream| {
        counter.fetch_add(1, Ordering::Relaxed);
        let _ = stream.write_all(b"secret");
    });
    let mut plan = Plan::to(service);
    let other = Key::generate().to_base64();
    plan.peer.insert("psk".into(), json!(*other));
    let begin = Instant::now();
    let mut tunnel = plan.start();
    let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(tunnel.entry)).collect();
    for client in &mut clients {
        client.write_all(b"let me in").expect("sent");
        let brief = Some(Duration::from_millis(100));
        client.set_read_timeout(brief).expect("an option");
    }
    for client in &clients {
        let (bytes, end) = read_all(client);
        assert!(bytes.is_empty() && end != End::Eof, "{bytes:?}, {end:?}");
    }
    tunnel.server.wait_for_log("does not open");
    let lines = tunnel.server.log().matches("does not open").count();
    let seconds = begin.elapsed().as_secs() as usize;
    assert!(lines <= seconds + 2, "{lines} lines in {seconds} s");
    assert_eq!(dials.load(Ordering::Relaxed), 0);
    assert!(tunnel.server.is_running() && tunnel.peer.is_running());
    assert!(!tunnel.peer.log().contains("does not open"), "an answer");
}

#[test]
fn a_path_that_loses_doubles_and_reorders_delivers_exactly() {
    for control in ["on", "off"] {
        let mut plan = Plan::to(serve(run_errands)).both("rate", json!({"control": control}));
        let relay = Relay::new(plan.udp(), 0.1, 42);
        plan.peer
            .insert("udp_connect".into(), json!(relay.at.to_string()));
        let tunnel = plan.start();
        let errands: Vec<Errand> = (0..3)
            .map(|seed| Errand::begin(tunnel.entry, seed, 300 * KB))
            .collect();
        errands.into_iter().for_each(Errand::finish);
        assert!(*relay.dropped.lock().expect("a number") > 50);
    }
}

/// Sizes at which something changes: headers, overheads, the longest datagrams of the protocol and of UDP.
const SIZES: [usize; 22] = [
    0, 1, 3, 4, 9, 10, 23, 24, 25, 27, 28, 29, 39, 40, 41, 52, 53, 1400, 1500, 1501, 9000, 65_507,
];

/// Whether anything comes back to a socket that has sent.
fn is_answered(socket: &UdpSocket) -> bool {
    let brief = Some(Duration::from_millis(300));
    socket.set_read_timeout(brief).expect("an option");
    socket.recv_from(&mut [0; 2048]).is_ok()
}

#[test]
fn hostile_datagrams_get_no_answer_and_disturb_nobody() {
    let mut plan = Plan::to(serve(echo));
    let relay = Relay::new(plan.udp(), 0.0, 1);
    plan.peer
        .insert("udp_connect".into(), json!(relay.at.to_string()));
    let mut tunnel = plan.start();
    let client = connect(tunnel.entry);
    ask(&client, b"before").expect("an answer");

    let peer = SocketAddr::from(([127, 0, 0, 1], tunnel.peer.udp_port()));
    let mut rng = SmallRng::seed_from_u64(3);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for target in [plan.udp(), peer] {
        for round in 0..8 {
            for size in SIZES {
                let mut datagram = vec![0; size];
                rng.fill(&mut datagram[..]);
                if round % 2 == 1 {
                    // looks like session 0, or like a session without a seal
                    datagram.iter_mut().take(6).for_each(|b| *b = 0);
                }
                stranger.send_to(&datagram, target).expect("sent");
            }
            ask(&client, b"during").expect("an answer");
        }
        let genuine = relay.seen.lock().expect("the list").clone();
        assert!(genuine.len() > 5);
        for datagram in genuine.iter().rev().take(200) {
            stranger.send_to(datagram, target).expect("sent");
            for cut in [1, datagram.len() / 2, datagram.len() - 1] {
                stranger.send_to(&datagram[..cut], target).expect("sent");
            }
            let mut changed = datagram.clone();
            let at = rng.random_range(0..changed.len());
            changed[at] ^= 1 << rng.random_range(0..8);
            stranger.send_to(&changed, target).expect("sent");
        }
        ask(&client, b"during").expect("an answer");
    }
    assert!(!is_answered(&stranger), "a stranger gets an answer");
    ask(&client, b"after").expect("an answer");
    ask(&connect(tunnel.entry), b"new").expect("an answer");
    assert!(tunnel.server.is_running() && tunnel.peer.is_running());
    tunnel.server.wait_for_log("does not open");
    let log = tunnel.server.log();
    assert!(!log.contains("panic"), "{log}");
}

/// A session's packet of any content that its header leaves open.
fn session_packet(rng: &mut SmallRng, conv: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let len = rng.random_range(0..40);
        let mut header = Header {
            conv: conv + u32::from(rng.random_bool(0.05)),
            cmd: rng.random_range(cmd::PUSH - 1..=cmd::WINS + 1),
            frg: *[0, 0, 0, 1, 255].choose(rng).expect("one of them"),
            wnd: rng.random(),
            ts: rng.random(),
            sn: rng.random_range(0..6),
            una: rng.random_range(0..3),
            len: if rng.random_bool(0.9) {
                len
            } else {
                rng.random()
            },
        };
        if rng.random_bool(0.3) {
            header.sn = rng.random();
            header.una = rng.random();
        }
        packet.extend(header.to_wire());
        if rng.random_bool(0.5) {
            let kind = rng.random_range(0..5_u16);
            packet.extend(kind.to_be_bytes());
            packet.extend((len as u16).to_be_bytes());
        }
        packet.extend((0..len).map(|_| rng.random::<u8>()));
    }
    packet
}

#[test]
fn sealed_nonsense_and_replays_disturb_nobody() {
    for method in [Method::Chacha20Poly1305Ietf, Method::Xsalsa20Poly1305] {
        let plan = Plan::to(serve(echo)).both("method", json!(method.name()));
        let mut tunnel = plan.start();
        let client = connect(tunnel.entry);
        ask(&client, b"before").expect("an answer");
        let peer = SocketAddr::from(([127, 0, 0, 1], tunnel.peer.udp_port()));
        let mut rng = SmallRng::seed_from_u64(4);
        let key = Key::from_base64(PSK).expect("a key");
        let mut sealing = Some(Sealing::new(method, &key));
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for round in 0..1500 {
            let packet = match round % 4 {
                0 => {
                    let mut random = vec![0; rng.random_range(0..1460)];
                    rng.fill(&mut random[..]);
                    random
                }
                1 => {
                    let kind = rng.random_range(0..8);
                    let mut control = vec![0, 0, 0, 0, 0, kind];
                    control.resize(rng.random_range(4..40), 7);
                    control
                }
                _ => session_packet(&mut rng, 1 + round / 60),
            };
            let packet = sealed(&mut sealing, packet);
            for target in [plan.udp(), peer] {
                for _ in 0..1 + round % 2 {
                    stranger.send_to(&packet, target).expect("sent");
                }
            }
            if round % 100 == 0 {
                ask(&client, b"during").expect("an answer");
            }
        }
        ask(&client, b"after").expect("an answer");
        ask(&connect(tunnel.entry), b"new").expect("an answer");
        assert!(tunnel.server.is_running() && tunnel.peer.is_running());
        let (server, peer) = (tunnel.server.log(), tunnel.peer.log());
        assert!(!server.contains("panic") && !peer.contains("panic"));
    }
}

/// The packet as a datagram.
fn sealed(sealing: &mut Option<Sealing>, mut packet: Vec<u8>) -> Vec<u8> {
    if let Some(sealing) = sealing {
        let len = packet.len();
        packet.resize(len + sealing.overhead(), 0);
        sealing.seal(&mut packet, len);
    }
    packet
}

#[test]
fn nonsense_in_the_name_of_a_session_ends_at_most_that_session() {
    for control in ["on", "off"] {
        for method in [None, Some(Method::Aes256Gcm)] {
            // what is said here is sealed with the psk
            let plan = Plan::to(serve(echo)).both("forward_secrecy", json!("off"));
            let mut plan = plan.both("rate", json!({"control": control}));
            match method {
                Some(method) => plan = plan.both("method", json!(method.name())),
                None => [&mut plan.server, &mut plan.peer]
                    .into_iter()
                    .for_each(|c| {
                        c.remove("psk");
                    }),
            }
            let relay = Relay::new(plan.udp(), 0.0, 1);
            plan.peer
                .insert("udp_connect".into(), json!(relay.at.to_string()));
            let mut tunnel = plan.start();
            let bystander = connect(tunnel.entry);
            ask(&bystander, b"before").expect("an answer");
            let key = Key::from_base64(PSK).expect("a key");
            let mut sealing = method.map(|method| Sealing::new(method, &key));
            let mut rng = SmallRng::seed_from_u64(5);
            for _ in 0..10 {
                relay.seen.lock().expect("the list").clear();
                let victim = connect(tunnel.entry);
                ask(&victim, b"before").expect("an answer");
                let mut spy = method.map(|method| Sealing::new(method, &key));
                let dial = relay
                    .seen
                    .lock()
                    .expect("the list")
                    .iter()
                    .find_map(|seen| {
                        let mut datagram = seen.clone();
                        let packet = match &mut spy {
                            Some(spy) => spy.open(&mut datagram).expect("authentic"),
                            None => &mut datagram,
                        };
                        let header = Header::read(packet)?;
                        (header.cmd == cmd::PUSH && header.sn == 0).then_some(header.conv)
                    });
                let conv = dial.expect("the victim's dial");
                for _ in 0..40 {
                    let packet = session_packet(&mut rng, conv);
                    relay.to_server(&sealed(&mut sealing, packet));
                    let packet = session_packet(&mut rng, conv);
                    relay.to_peer(&sealed(&mut sealing, packet));
                }
                ask(&bystander, b"during").expect("an answer");
            }
            ask(&connect(tunnel.entry), b"new").expect("an answer");
            assert!(tunnel.server.is_running() && tunnel.peer.is_running());
            let (server, peer) = (tunnel.server.log(), tunnel.peer.log());
            assert!(!server.contains("panic") && !peer.contains("panic"));
            for log in [&server, &peer] {
                assert!(log.contains("segments are malformed"), "{log}");
            }
            assert!(server.contains("does not speak the protocol"), "{server}");
        }
    }
}

#[test]
fn a_port_that_is_taken_ends_the_program_with_one_line() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tcp = tcp.local_addr().map(|a| (tcp, a)).expect("an address");
    let udp_at = udp.local_addr().expect("an address").to_string();
    let nowhere = format!("127.0.0.1:{}", free_port());
    let listen = tcp.1.to_string();
    for (config, key, value) in [
        (
            json!({"listen": listen, "udp_connect": nowhere, "psk": PSK}),
            "listen",
            &listen,
        ),
        (
            json!({"udp_bind": udp_at, "connect": nowhere, "psk": PSK}),
            "udp_bind",
            &udp_at,
        ),
    ] {
        let mut daemon = Daemon::spawn(&[BINARY], &config, &["-s", "-s", "-s", "-s"]);
        assert_eq!(daemon.wait().code(), Some(1));
        daemon.wait_for_log("\n");
        let log = daemon.log();
        assert!(log.contains(key) && log.contains(value.as_str()), "{log}");
        assert!(
            log.starts_with("kcptun: ") && log.lines().count() == 1,
            "{log}"
        );
    }
}

#[test]
fn a_peer_outlives_a_target_that_refuses_and_finds_it_later() {
    let plan = Plan::to(serve(echo));
    let mut peer = plan.start_peer();
    let early: Vec<TcpStream> = (0..5).map(|_| connect(plan.entry())).collect();
    for mut client in &early {
        client.write_all(b"hello").expect("sent");
    }
    thread::sleep(Duration::from_millis(500));
    assert!(peer.is_running(), "{}", peer.log());
    let server = plan.start_server();
    ask(&connect(plan.entry()), b"late").expect("an answer");
    // the sessions that began before the server did are carried as well
    for mut client in &early {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"hello");
    }
    drop(server);
}

fn limited(config: &serde_json::Map<String, Value>) -> Daemon {
    let script = format!("ulimit -n 40; exec {BINARY} \"$@\"");
    let config = Value::Object(config.clone());
    Daemon::start_by(&["sh", "-c", &script, "sh"], &config, &[])
}

/// More connections than one of the daemons has descriptors: those that were first are carried, some others are
/// refused, and when there is room again new ones are carried.
fn check_few_descriptors(plan: &Plan, server: &mut Daemon, peer: &mut Daemon) {
    let entry = plan.entry();
    let clients: Vec<TcpStream> = (0..80).map(|_| connect(entry)).collect();
    let mut carried: Vec<&TcpStream> = Vec::new();
    for client in &clients {
        match ask(client, b"hello") {
            Ok(()) => carried.push(client),
            Err(e) => assert!(!is_silence(&e), "neither carried nor refused"),
        }
    }
    let n = carried.len();
    assert!((15..45).contains(&n), "{n} of 80 were carried");
    for client in &carried {
        ask(client, b"again").expect("an answer");
    }
    drop(clients);
    let works = eventually(|| ask(&connect(entry), b"room").is_ok());
    assert!(works, "nothing is carried any more");
    assert!(server.is_running() && peer.is_running());
}

#[test]
fn a_server_without_descriptors_refuses_some_and_carries_on() {
    let plan = Plan::to(serve(echo));
    let (mut server, mut peer) = (limited(&plan.server), plan.start_peer());
    check_few_descriptors(&plan, &mut server, &mut peer);
}

#[test]
fn a_peer_without_descriptors_refuses_some_and_carries_on() {
    let plan = Plan::to(serve(echo));
    let (mut server, mut peer) = (plan.start_server(), limited(&plan.peer));
    check_few_descriptors(&plan, &mut server, &mut peer);
}

#[test]
fn a_user_is_changed_to_for_good() {
    // SAFETY: the call takes no pointers and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return skipped("only root can become somebody else");
    }
    let plan = Plan::to(serve(run_errands));
    let config = Value::Object(plan.server.clone());
    let server = Daemon::start_by(&[BINARY], &config, &["-u", "65534:65534"]);
    let _peer = plan.start_peer();
    errand(plan.entry(), 1, KB);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()));
    let status = status.expect("its status");
    for key in ["Uid", "Gid"] {
        let line = format!("{key}:\t65534\t65534\t65534\t65534");
        assert!(status.contains(&line), "{status}");
    }
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
}

/// Writes until nothing is taken any more; what was taken.
fn write_until_stuck(mut stream: &TcpStream, seed: u32, most: usize) -> usize {
    let bytes = pattern(seed, most);
    let brief = Some(Duration::from_millis(500));
    stream.set_write_timeout(brief).expect("an option");
    let mut at = 0;
    while at < most {
        match stream.write(&bytes[at..(at + 16 * KB).min(most)]) {
            Ok(n) => at += n,
            Err(e) => {
                if e.kind() == ErrorKind::Interrupted {
                    continue;
                }
                assert!(is_silence(&e), "{e}");
                break;
            }
        }
    }
    at
}

fn small_buffers(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    socket.set_recv_buffer_size(32 * KB).expect("an option");
    socket.set_send_buffer_size(32 * KB).expect("an option");
}

#[test]
fn a_reader_that_does_not_read_stops_the_far_writer() {
    const MOST: usize = 32 * MB;
    let (service, written) = observed(|mut stream| {
        small_buffers(&stream);
        let mut order = [0];
        stream.read_exact(&mut order).expect("an order");
        if order == *b"w" {
            return write_until_stuck(&stream, 1, MOST);
        }
        // stands still until the far end is stuck, too
        thread::sleep(Duration::from_millis(2000));
        let (bytes, end) = read_all(&stream);
        assert!(end == End::Eof && bytes == pattern(2, MOST)[..bytes.len()]);
        bytes.len()
    });
    for control in ["on", "off"] {
        let tunnel = Plan::to(service)
            .both("kcp", json!({"sndwnd": 64, "rcvwnd": 64}))
            .both("tcp", json!({"sndbuf": 32 * KB, "rcvbuf": 32 * KB}))
            .both("rate", json!({"control": control}))
            .start();
        let mut client = connect(tunnel.entry);
        let mut writer = connect(tunnel.entry);
        for stream in [&client, &writer] {
            small_buffers(stream);
        }
        client.write_all(b"w").expect("sent");
        writer.write_all(b"r").expect("sent");
        let sent = write_until_stuck(&writer, 2, MOST);
        writer.shutdown(Shutdown::Write).expect("shut down");
        let stuck = written.recv_timeout(PATIENCE).expect("a number");
        // two windows of 64 packets, 64 KiB at each end, and six buffers of sockets of twice 32 KiB
        let bound = 2 * 64 * 1500 + 2 * 64 * KB + 6 * 64 * KB;
        assert!(stuck < 2 * bound, "rate {control}: {stuck} bytes to here");
        assert!(sent < 2 * bound, "rate {control}: {sent} bytes from here");
        assert!(stuck > 64 * KB && sent > 64 * KB);
        // what is read in the end is what was taken
        let (bytes, end) = read_all(&client);
        assert_eq!((bytes.len(), end), (stuck, End::Eof));
        assert!(bytes == pattern(1, MOST)[..stuck]);
        assert_eq!(written.recv_timeout(PATIENCE), Ok(sent));
    }
}

#[test]
fn a_server_that_was_killed_and_restarted_resets_the_old_and_carries_the_new() {
    let plan = Plan::to(serve(echo));
    let mut server = plan.start_server();
    let _peer = plan.start_peer();
    let mut old = connect(plan.entry());
    ask(&old, b"before").expect("an answer");
    server.signal(libc::SIGKILL);
    server.wait();
    let _server = plan.start_server();
    ask(&connect(plan.entry()), b"new").expect("an answer");
    // it may have been reset before there was anything to send
    match old.write_all(b"old") {
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        Ok(()) => assert_eq!(read_all(&old), (Vec::new(), End::Reset)),
    }
}

#[test]
fn a_peer_that_was_killed_and_restarted_carries_at_once() {
    let (service, ends) = observed(|mut stream| {
        let mut bytes = [0; 6];
        stream.read_exact(&mut bytes).expect("six bytes");
        stream.write_all(&bytes).expect("sent");
        if bytes == *b"second" {
            return End::Eof;
        }
        // whoever goes on talking to a peer that is gone finds out
        thread::sleep(Duration::from_millis(500));
        match stream.write_all(b"more") {
            Ok(()) => read_all(&stream).1,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(_) => End::Silence,
        }
    });
    let mut plan = Plan::to(service);
    let udp = format!("127.0.0.1:{}", free_port());
    plan.peer.insert("udp_bind".into(), json!(udp));
    let _server = plan.start_server();
    let mut peer = plan.start_peer();
    let old = connect(plan.entry());
    ask(&old, b"first!").expect("an answer");
    peer.signal(libc::SIGKILL);
    peer.wait();
    let _peer = plan.start_peer();
    ask(&connect(plan.entry()), b"second").expect("an answer");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(End::Eof));
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(End::Reset));
}

#[test]
fn a_wrong_configuration_gives_status_2_and_one_line() {
    let good = r#""udp_bind": ":2900", "connect": "localhost:80""#;
    let with = |more: &str| format!("{{{good}, {more}}}");
    for (text, part) in [
        (String::new(), "empty"),
        ("{".into(), "not valid JSON"),
        (with(r#""kcp": {"mtu": 100}"#), "kcp.mtu"),
        (with(r#""timeout": "600""#), "timeout"),
        (with(r#""psk": "YWJj""#), "psk"),
        (with(r#""passwort": "x""#), "password"),
        (with(r#""method": "rot13""#), "method"),
        ("{}".into(), "udp_bind"),
    ] {
        let file = File::new(&text);
        let mut command = Command::new(BINARY);
        let output = command
            .arg("-c")
            .arg(&file.path)
            .env_remove("RUST_LOG")
            .output();
        let output = output.expect("a process");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {error}");
        assert!(output.stdout.is_empty());
        assert!(
            error.contains("t.json") && error.contains(part),
            "{text}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{text}: {error}");
    }
    let directory = std::env::temp_dir();
    let output = Command::new(BINARY).arg("-c").arg(&directory).output();
    let output = output.expect("a process");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("directory") && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn three_daemons_meet_at_a_rendezvous_server() {
    for sealed in [true, false] {
        let port = free_port();
        let there = format!("127.0.0.1:{port}");
        let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let service = serve(run_errands).to_string();
        let with_key = |mut config: Value| {
            if sealed {
                config["psk"] = json!(PSK);
            }
            config
        };
        let keeper = with_key(json!({"udp_bind": there}));
        let server = with_key(json!({
            "rendezvous_server": there, "service_id": "s", "connect": service,
        }));
        let peer = with_key(json!({
            "rendezvous_server": there, "service_id": "s", "listen": entry.to_string(),
        }));
        let rendezvous = Daemon::start(&keeper);
        let server = Daemon::start(&server);
        let peer = Daemon::start(&peer);
        server.wait_for_log("answers, and registers this end");
        peer.wait_for_log(&format!("the server is at 127.0.0.1:{}", server.udp_port()));
        errand(entry, 1, 100 * KB);
        // the third is not needed any more
        drop(rendezvous);
        errand(entry, 2, 100 * KB);
    }
}
