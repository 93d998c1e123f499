//! `http_listen` of real daemons on the loopback interface: what they answer, to whom, and that nobody who asks disturbs
//! the tunnel. What the page looks like in a browser is in `tests/browser`.

use crate::harness::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        headers.find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value))
    }
}

fn send(to: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.into(),
        body: body.into(),
    }
}

fn get(to: SocketAddr, path: &str) -> Answer {
    get_with(to, path, "")
}

fn get_with(to: SocketAddr, path: &str, headers: &str) -> Answer {
    send(
        to,
        &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{headers}\r\n"),
    )
}

fn stats(of: SocketAddr) -> Value {
    serde_json::from_str(&get(of, "/stats.json").body).expect("JSON")
}

/// A tunnel both of whose ends show statistics: server's and peer's address.
fn plan(service: SocketAddr) -> (Plan, SocketAddr, SocketAddr) {
    let at = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (server, peer) = (at(), at());
    let mut plan = Plan::to(service);
    plan.server
        .insert("http_listen".into(), server.port().into());
    plan.peer
        .insert("http_listen".into(), peer.to_string().into());
    (plan, server, peer)
}

/// The names of the metrics, by the lines that say their types.
fn names(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    lines
        .filter_map(|l| l.split(' ').next().map(str::to_owned))
        .collect()
}

#[test]
fn what_there_is_and_who_gets_it() {
    let (plan, server, peer) = plan(serve(echo));
    let tunnel = plan.start();
    errand_of(tunnel.entry);
    assert!(eventually(|| get(peer, "/healthy")
        .body
        .contains("answers; 0")));
    for (path, kind, part) in [
        (
            "/",
            "text/html; charset=utf-8",
            "<h2>What limits it now</h2>",
        ),
        ("/stats", "text/plain; charset=utf-8", "TCP in all"),
        ("/stats.json", "application/json", "\"session_list\""),
        (
            "/metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            "kcptun_udp_bytes_total{direction=\"sent\"}",
        ),
        (
            "/healthy",
            "text/plain; charset=utf-8",
            "answers; 0 sessions",
        ),
    ] {
        let answer = get(peer, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.header("Content-Type"), Some(kind));
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        let policy = answer.header("Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let head = send(
            peer,
            &format!("HEAD {path} HTTP/1.1\r\nHost: {peer}\r\n\r\n"),
        );
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let length = head.header("Content-Length").expect("a length");
        assert!(length.parse::<usize>().is_ok_and(|n| n > 10));
    }
    let with_host = |host: &str| send(peer, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(with_host("localhost:1").status, 200);
    assert_eq!(with_host("[::1]:8080").status, 200);
    for host in ["evil.example", "evil.example:80", "[::1]evil.example"] {
        assert_eq!(with_host(host).status, 421, "{host}");
    }
    let long = "a".repeat(9000);
    assert_eq!(get_with(peer, "/", &format!("A: {long}\r\n")).status, 431);
    assert_eq!(get(peer, "/etc/passwd").status, 404);
    let post = send(
        peer,
        &format!("POST /stats HTTP/1.1\r\nHost: {peer}\r\nContent-Length: 3\r\n\r\nabc"),
    );
    assert_eq!(
        (post.status, post.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(send(peer, "\x16\x03\x01 hello\r\n\r\n").status, 400);
    let waiting = get(server, "/healthy");
    assert_eq!(
        (waiting.status, waiting.body.as_str()),
        (200, "server: waits for sessions\n")
    );
}

/// One connection through the tunnel that sends 20,000 bytes and has them back.
fn errand_of(entry: SocketAddr) {
    let mut stream = connect(entry);
    let bytes = pattern(1, 20_000);
    stream.write_all(&bytes).expect("sent");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(back, bytes);
}

#[test]
fn a_transfer_in_progress_and_after_it() {
    let (plan, server, peer) = plan(serve(echo));
    let tunnel = plan.start();
    let mut stream = connect(tunnel.entry);
    stream.write_all(&[7; 5000]).expect("sent");
    stream.read_exact(&mut [0; 5000]).expect("an echo");
    let [here, there] = [peer, server].map(stats);
    let session = |all: &Value| all["session_list"][0].clone();
    let (ours, theirs) = (session(&here), session(&there));
    assert_eq!(ours["number"], theirs["number"]);
    assert_eq!(ours["number"].as_str().map(str::len), Some(8));
    assert_eq!(
        (&ours["opened_here"], &theirs["opened_here"]),
        (&json!(true), &json!(false))
    );
    for (all, one) in [(&here, &ours), (&there, &theirs)] {
        assert_eq!(one["state"], "connected");
        assert_eq!(
            (&one["bytes_sent"], &one["bytes_received"]),
            (&json!(5000), &json!(5000))
        );
        assert_eq!(all["tcp"]["bytes_sent"], 5000);
        assert_eq!(all["sessions"]["states"]["connected"], 1);
    }
    assert_eq!(here["paths"][0]["address"], plan.udp().to_string());
    assert!(here["paths"][0]["smoothed_rtt"].is_f64(), "{here}");
    let text = get(server, "/stats").body;
    assert!(
        text.contains(ours["number"].as_str().expect("a number")),
        "{text}"
    );
    drop(stream);
    assert!(eventually(
        || stats(server)["sessions"]["ended"]["in_order"] == 1
    ));
    let past = serde_json::from_str::<Value>(&get(peer, "/stats.json?history").body).expect("JSON");
    let points = past["history"].as_array().expect("a history");
    assert!(
        !points.is_empty()
            && points
                .iter()
                .all(|p| p.as_array().is_some_and(|p| p.len() == 7))
    );
}

#[test]
fn a_method_that_has_changed_is_shown() {
    let (plan, server, _) = plan(serve(echo));
    let tunnel = plan.start();
    assert_eq!(stats(server)["method"], "chacha20poly1305_ietf");
    let mut config = plan.server.clone();
    config.insert("method".into(), json!("aes256gcm"));
    let text = Value::from(config).to_string();
    tunnel.server.reload(&text, "method: ");
    assert_eq!(stats(server)["method"], "aes256gcm");
}

#[test]
fn health_follows_the_other_end() {
    let (plan, _, peer) = plan(serve(echo));
    let _alone = plan.start_peer();
    let answer = get(peer, "/healthy");
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.body.contains("has not answered yet"),
        "{}",
        answer.body
    );
    let limit = &stats(peer)["limit"];
    assert_eq!(limit["by"], "silent", "{limit}");
    if cfg!(target_os = "linux") {
        let why = "nothing receives at its UDP port";
        assert!(eventually(|| get(peer, "/healthy").body.contains(why)));
    }
    let server = plan.start_server();
    assert!(eventually(|| get(peer, "/healthy").status == 200));
    drop(server);
    let _waits = TcpStream::connect(plan.entry())
        .expect("a connection")
        .write_all(b"x");
    assert!(eventually(|| get(peer, "/healthy").status == 503));
    assert!(get(peer, "/healthy").body.contains("silent for"));
    assert_eq!(stats(peer)["limit"]["by"], "silent");
}

#[test]
fn metrics_are_those_of_the_reference_and_right() {
    let (plan, server, peer) = plan(serve(echo));
    let tunnel = plan.start();
    errand_of(tunnel.entry);
    let said: BTreeSet<String> = kcptun::http::FAMILIES
        .iter()
        .map(|family| family.name.to_owned())
        .collect();
    for at in [server, peer] {
        let plain = get(at, "/metrics").body;
        assert_eq!(names(&plain), said);
        for name in &said {
            let samples = plain.lines().filter(|l| l.starts_with(name.as_str()));
            let values = samples.map(|l| l.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()));
            assert!(
                values.clone().all(|v| v.is_some_and(|v| v >= 0.0)),
                "{name}"
            );
            // a server has not measured its clients' losses after so little
            assert!(
                values.count() > 0 || name.contains("path_"),
                "{name} has no sample"
            );
            assert!(plain.contains(&format!("# HELP {name} ")), "{name}");
        }
        check_with_promtool(&plain);
    }
}

fn check_with_promtool(metrics: &str) {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        skipped("promtool is not installed (Debian: prometheus), /metrics is not checked by it");
        return;
    };
    let mut input = tool.stdin.take().expect("a pipe");
    input.write_all(metrics.as_bytes()).expect("written");
    drop(input);
    let said = tool.wait_with_output().expect("its output");
    let text = [said.stdout, said.stderr].concat();
    assert!(
        said.status.success() && text.is_empty(),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

#[test]
fn whatever_is_done_to_it_sessions_go_on() {
    many_files();
    let (plan, server, peer) = plan(serve(run_errands));
    let mut tunnel = plan.start();
    let errands = thread::spawn({
        let entry = tunnel.entry;
        move || (0..8).for_each(|seed| errand(entry, seed, 400_000))
    });
    // a thousand connections, most of which say nothing or a half of something
    let mut held = Vec::new();
    let mut rng = SmallRng::seed_from_u64(1);
    for i in 0..1000 {
        let mut stream = TcpStream::connect(peer).expect("a connection");
        let _ = match i % 4 {
            0 => stream.write_all(b"GET /stats HTTP/1.1\r\nHo"),
            1 => {
                let bytes: Vec<u8> = (0..rng.random_range(1..3000))
                    .map(|_| rng.random())
                    .collect();
                stream.write_all(&bytes)
            }
            2 => stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            _ => Ok(()),
        };
        held.push(stream);
        if i % 100 == 99 {
            assert_eq!(get(peer, "/healthy").status, 200, "after {i}");
        }
    }
    if let Some(descriptors) = tunnel.peer.descriptors() {
        assert!(descriptors < 60, "{descriptors} are open");
    }
    // those who ask for much and do not read
    let lazy: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(server).expect("a connection");
            let _ =
                stream.write_all(b"GET /stats.json?history HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
        })
        .collect();
    assert!(stats(server)["tcp"]["bytes_sent"].is_u64());
    errands.join().expect("every byte as it was sent");
    drop((held, lazy));
    assert!(tunnel.peer.is_running() && tunnel.server.is_running());
    let log = tunnel.peer.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(eventually(
        || stats(server)["sessions"]["ended"]["in_order"] == 8
    ));
}

#[test]
fn those_who_take_their_time_keep_nobody_out_for_long() {
    many_files();
    let (plan, server, _) = plan(serve(echo));
    let tunnel = plan.start();
    // so much to tell that it does not fit into a socket's buffers
    let sessions: Vec<TcpStream> = (0..300).map(|_| connect(tunnel.entry)).collect();
    for stream in &sessions {
        ask(stream, b"hello").expect("an echo");
    }
    assert!(get(server, "/stats.json").body.len() > 50_000);
    // as many as there are places
    let slow: Vec<_> = (0..16).map(|_| slow_reader(server)).collect();
    assert!(eventually(|| can_ask(server)));
    // and whoever does not finish his request is not waited for
    let mut half = connect(server);
    half.write_all(b"GET /stats HTTP/1.1\r\nHo").expect("sent");
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    assert!(began.elapsed() < PATIENCE, "it still waits");
    assert_eq!(rest, b"");
    drop(slow);
    for stream in &sessions {
        ask(stream, b"and again").expect("an echo");
    }
}

/// Asks for everything, and reads nothing of it.
fn slow_reader(at: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1).expect("an option");
    // by this the other end chooses the size of its own buffer
    socket.set_tcp_mss(536).expect("an option");
    socket.connect(&at.into()).expect("a connection");
    let request = b"GET /stats.json?history HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(socket.send(request).expect("sent"), request.len());
    socket
}

fn can_ask(at: SocketAddr) -> bool {
    // without a free place a connection is reset, maybe before it is made
    let Ok(mut stream) = try_connect(at) else {
        return false;
    };
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    asked
        .and_then(|()| stream.read_to_string(&mut answer))
        .is_ok_and(|_| answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn the_command_shows_the_same() {
    let (plan, _, peer) = plan(serve(echo));
    let _tunnel = plan.start();
    let kcptun = |words: &[&str], config: &Value| {
        let file = File::new(&config.to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcptun"));
        command.arg("stats").args(words).arg("-c").arg(&file.path);
        (command, file)
    };
    let output = |config: &Value| {
        let (mut command, _file) = kcptun(&[], config);
        let output = command.output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let config = Value::Object(plan.peer.clone());
    assert!(eventually(|| get(peer, "/healthy").status == 200));
    let (status, said, error) = output(&config);
    assert_eq!((status, error.as_str()), (Some(0), ""));
    assert!(
        said.starts_with("kcptun ") && said.contains("healthy: the other end"),
        "{said}"
    );

    let (mut watch, _file) = kcptun(&["--watch"], &config);
    let mut child = watch.stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut shown = lines
        .map_while(Result::ok)
        .filter(|l| l.starts_with("kcptun "));
    assert!(shown.next().is_some() && shown.next().is_some());
    child.kill().expect("it ran");
    child.wait().expect("it ended");

    if has_ipv6() {
        let mut zoned = plan.server.clone();
        let at = format!("[::1%1]:{}", free_port());
        zoned.insert("http_listen".into(), at.into());
        zoned.insert("udp_bind".into(), format!(":{}", free_port()).into());
        let config = Value::Object(zoned);
        let _server = Daemon::start(&config);
        let (status, said, error) = output(&config);
        assert_eq!((status, error.as_str()), (Some(0), ""));
        assert!(said.starts_with("kcptun "), "{said}");
    } else {
        skipped("no IPv6 here");
    }

    let mut server = plan.server.clone();
    server.insert("http_listen".into(), peer.port().into());
    let (status, said, error) = output(&Value::Object(server));
    assert_eq!((status, said.as_str()), (Some(1), ""));
    assert!(error.contains("a kcptun of another role (peer)"), "{error}");

    let mut other = plan.peer.clone();
    other.insert("http_listen".into(), free_port().into());
    let (status, said, error) = output(&Value::Object(other.clone()));
    assert_eq!((status, said.as_str()), (Some(1), ""));
    assert!(error.contains("the daemon is not running"), "{error}");
    other.remove("http_listen");
    let (status, _, error) = output(&Value::Object(other));
    assert_eq!(status, Some(2));
    assert!(
        error.contains("http_listen is not set")
            && error.contains("restarted")
            && error.matches('\n').count() == 1,
        "{error}"
    );
}
