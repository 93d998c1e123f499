//! Ends that are not there yet, and names that come to mean something, or something else, while the loop runs. The loop
//! of the peer runs in this process, for its names are the tests' own. It takes the process's log and signals as well: these
//! tests are a program of their own.

mod harness;

use harness::*;
use kcptun::config::{Address, Config};
use kcptun::event::{self, Options};
use kcptun::time::SEC;
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// What names mean. One that means nothing is asked for in vain, and for ever.
static HOSTS: Mutex<Option<HashMap<String, Vec<SocketAddr>>>> = Mutex::new(None);
/// What the loops of this process have logged, with its level.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let line = format!("{} {}", record.level(), record.args());
        LOG.lock().expect("the log").push(line);
    }

    fn flush(&self) {}
}

/// How many lines hold both of these.
fn logged(level: &str, part: &str) -> usize {
    let log = LOG.lock().expect("the log");
    let lines = log.iter().filter(|l| l.starts_with(level));
    lines.filter(|l| l.contains(part)).count()
}

fn lookup(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if let Some(literal) = address.literal() {
        return Ok(vec![literal]);
    }
    let host = address.host.as_deref().unwrap_or_default();
    let found = {
        let hosts = HOSTS.lock().expect("the names");
        hosts.as_ref().and_then(|hosts| hosts.get(host).cloned())
    };
    match found {
        Some(found) if found.is_empty() => loop {
            thread::park();
        },
        found => found.ok_or(ErrorKind::NotFound.into()),
    }
}

fn name(host: &str, at: SocketAddr) {
    names(host, &[at]);
}

fn names(host: &str, all: &[SocketAddr]) {
    let mut hosts = HOSTS.lock().expect("the names");
    hosts
        .get_or_insert_default()
        .insert(host.into(), all.into());
}

/// Runs an end in this process until that ends.
fn run(config: serde_json::Value, keepalive: u64) {
    // another test may have been first
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Debug);
    thread::spawn(move || {
        let config = Config::parse("t", &config.to_string()).expect("a configuration");
        let mut options = Options::from(&config);
        options.lookup = Some(lookup);
        options.settings.keepalive = keepalive * SEC;
        event::run(options, || Ok(())).expect("a loop");
    });
}

fn says(name: &'static [u8; 1]) -> SocketAddr {
    serve(move |mut stream: TcpStream| stream.write_all(name).expect("sent"))
}

/// What is said to a new connection, if anything is.
fn answer(entry: SocketAddr) -> Option<u8> {
    let mut byte = [0];
    let mut stream = TcpStream::connect(entry).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}

#[test]
fn a_server_may_come_after_its_peer() {
    let plan = Plan::to(serve(echo));
    let _peer = plan.start_peer();
    let early = connect(plan.entry());
    (&early).write_all(b"early").expect("sent");
    let _server = plan.start_server();
    let mut bytes = [0; 5];
    (&early).read_exact(&mut bytes).expect("an answer");
    assert_eq!(&bytes, b"early");
}

#[test]
fn a_server_whose_name_is_not_known_yet_is_waited_for() {
    let plan = Plan::to(says(b"a"));
    let _server = plan.start_server();
    let mut config = plan.peer.clone();
    config.insert("udp_connect".into(), json!("later.example:7"));
    run(config.into(), 25);
    let mut early = Vec::new();
    assert!(eventually(|| {
        early.extend(TcpStream::connect(plan.entry()));
        early.len() > 2
    }));
    name("later.example", plan.udp());
    // those that came before it was known are not refused
    for mut stream in early {
        let mut byte = [0];
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.read_exact(&mut byte).expect("an answer");
        assert_eq!(byte, *b"a");
    }
    assert_eq!(answer(plan.entry()), Some(b'a'));
}

#[test]
fn a_service_whose_name_is_not_known_yet_is_waited_for() {
    let mut plan = Plan::to(says(b"a"));
    let service = plan.server["connect"]
        .as_str()
        .expect("a string")
        .to_owned();
    plan.server
        .insert("connect".into(), json!("service.example:7"));
    run(plan.server.clone().into(), 25);
    let _peer = plan.start_peer();
    assert_eq!(answer(plan.entry()), None);
    name("service.example", service.parse().expect("an address"));
    assert!(eventually(|| answer(plan.entry()) == Some(b'a')));
}

#[test]
fn a_name_that_moves_is_followed() {
    let first = Plan::to(says(b"a"));
    let second = Plan::to(says(b"b"));
    name("moves.example", first.udp());
    let mut server = first.start_server();
    let _second = second.start_server();
    let mut config = first.peer.clone();
    config.insert("udp_connect".into(), json!("moves.example:7"));
    run(config.into(), 1);
    assert!(eventually(|| answer(first.entry()) == Some(b'a')));
    name("moves.example", second.udp());
    // it is not asked for while the old one answers
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(answer(first.entry()), Some(b'a'));
    server.signal(libc::SIGKILL);
    server.wait();
    assert!(eventually(|| probe(first.entry()) == Some(b'b')));
}

/// As `answer`, for an end that may be gone.
fn probe(entry: SocketAddr) -> Option<u8> {
    let mut byte = [0];
    let mut stream = TcpStream::connect(entry).ok()?;
    let patience = Duration::from_millis(500);
    stream.set_read_timeout(Some(patience)).expect("an option");
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}

/// An end in this process whose service is called so, and the way to it.
fn serves(host: &str) -> (Plan, Daemon) {
    let mut plan = Plan::to(([127, 0, 0, 1], free_port()).into());
    let service = json!(format!("{host}:7"));
    plan.server.insert("connect".into(), service);
    run(plan.server.clone().into(), 25);
    let peer = plan.start_peer();
    (plan, peer)
}

#[test]
fn a_service_is_reached_while_nobody_answers_for_its_name() {
    name("dead.example", says(b"a"));
    let (plan, _peer) = serves("dead.example");
    assert_eq!(answer(plan.entry()), Some(b'a'));
    names("dead.example", &[]);
    // what is known is not fresh any more: it is asked for, and no answer comes
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(answer(plan.entry()), Some(b'a'));
    }
}

#[test]
fn a_service_at_one_of_its_addresses_is_no_warning() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    names("half.example", &[nobody, says(b"a")]);
    let (plan, _peer) = serves("half.example");
    for _ in 0..3 {
        assert_eq!(answer(plan.entry()), Some(b'a'));
    }
    assert_eq!(logged("WARN", &nobody.to_string()), 0);
    // where it is at none, all of them are named
    let other = SocketAddr::from(([127, 0, 0, 1], free_port()));
    names("half.example", &[nobody, other]);
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(answer(plan.entry()), None);
    let all =
        format!("cannot connect to {nobody}: connection refused; {other}: connection refused");
    assert_eq!(logged("WARN", &all), 1);
}

#[test]
fn addresses_that_take_turns_are_told_of_once() {
    let bound = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (first, second) = (bound(), bound());
    let [a, b] = [&first, &second].map(|s| s.local_addr().expect("an address"));
    names("turns.example", &[a, b]);
    let mut plan = Plan::to(a);
    plan.peer
        .insert("udp_connect".into(), json!("turns.example:7"));
    run(plan.peer.clone().into(), 1);
    // nobody answers: the second, the first again, the second again
    for socket in [&first, &second, &first, &second] {
        let mut buffer = [0; 1500];
        socket.set_nonblocking(true).expect("an option");
        while socket.recv(&mut buffer).is_ok() {}
        socket.set_nonblocking(false).expect("an option");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        socket.recv(&mut buffer).expect("a ping");
    }
    for address in [a, b] {
        let line = format!("the name now stands for {address}");
        assert!(logged("INFO", &line) <= 1);
        assert!(logged("", &line) >= 1, "{address} had its turn");
    }
    let missed = |at: SocketAddr| logged("WARN", &format!("{at} does not answer"));
    assert!(missed(a) + missed(b) > 0);
}
