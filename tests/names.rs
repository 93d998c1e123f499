//! Ends that are not there yet, and names that come to mean something, or something else, while the loop runs. The loop
//! of the peer runs in this process, for its names are the tests' own.

#[path = "e2e/harness.rs"]
mod harness;

use harness::*;
use kcptun::config::{Address, Config};
use kcptun::event::{self, Options};
use kcptun::time::SEC;
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;

/// What names mean.
static HOSTS: Mutex<Option<HashMap<String, SocketAddr>>> = Mutex::new(None);

fn lookup(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if let Some(literal) = address.literal() {
        return Ok(vec![literal]);
    }
    let hosts = HOSTS.lock().expect("the names");
    let host = address.host.as_deref().unwrap_or_default();
    let found = hosts.as_ref().and_then(|hosts| hosts.get(host));
    found.map(|at| vec![*at]).ok_or(ErrorKind::NotFound.into())
}

fn name(host: &str, at: SocketAddr) {
    let mut hosts = HOSTS.lock().expect("the names");
    hosts.get_or_insert_default().insert(host.into(), at);
}

/// Runs an end in this process until that ends.
fn run(config: serde_json::Value, keepalive: u64) {
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
    thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(answer(first.entry()), Some(b'a'));
    server.signal(libc::SIGKILL);
    server.wait();
    assert!(eventually(|| probe(first.entry()) == Some(b'b')));
}

/// As `answer`, for an end that may be gone.
fn probe(entry: SocketAddr) -> Option<u8> {
    let mut byte = [0];
    let mut stream = TcpStream::connect(entry).ok()?;
    let patience = std::time::Duration::from_millis(500);
    stream.set_read_timeout(Some(patience)).expect("an option");
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}
