//! Tests of dials, with real sockets of the loopback interface and a resolver without a network.

use super::*;
use crate::config::UdpOptions;
use crate::settings::Settings;
use crate::time::SEC;
use mio::{Events, Poll, Token, Waker};
use socket2::SockRef;
use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

const ID: SessionId = SessionId(5);

/// A resolver without a network.
fn never(_: &Address) -> io::Result<Vec<SocketAddr>> {
    loop {
        std::thread::park();
    }
}

/// A dialler and all that it needs, for a service that is called `localhost`.
struct Bench {
    poll: Poll,
    tunnel: Tunnel,
    connections: Connections,
    resolver: Resolver,
    dialler: Dialler,
    udp: Udp,
}

impl Bench {
    fn new(port: u16, known: Vec<SocketAddr>) -> Bench {
        let poll = Poll::new().expect("poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("waker");
        let service = Address {
            host: Some("localhost".into()),
            port,
        };
        Bench {
            tunnel: Tunnel::new(Settings::default(), Instant::ZERO),
            connections: Connections::default(),
            resolver: Resolver::new(waker),
            dialler: Dialler::new(Some(service), known, TcpOptions::default()),
            udp: Udp::bind(([0; 4], 0).into(), &UdpOptions::default()).expect("a socket"),
            poll,
        }
    }

    fn with<T>(&mut self, now: Instant, call: impl FnOnce(&mut Dialler, &mut Around) -> T) -> T {
        let mut around = Around {
            tunnel: &mut self.tunnel,
            connections: &mut self.connections,
            resolver: &mut self.resolver,
            registry: self.poll.registry(),
            udp: &self.udp,
            now,
        };
        call(&mut self.dialler, &mut around)
    }

    /// Turns until the dial is over, and says whether it has led to a connection.
    fn outcome(&mut self, now: Instant) -> bool {
        let mut events = Events::with_capacity(8);
        while !self.dialler.dials.is_empty() {
            self.poll
                .poll(&mut events, Some(std::time::Duration::from_secs(20)))
                .expect("poll");
            assert!(!events.is_empty(), "nothing happens");
            self.dialler.note(ID);
            self.with(now, |dialler, around| {
                while let Some(answer) = around.resolver.answer() {
                    dialler.answer(around, answer);
                }
                dialler.work(around);
            });
        }
        self.connections.close(ID, false)
    }
}

fn service() -> (StdTcpListener, SocketAddr) {
    let listener = StdTcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    service().1
}

#[test]
fn an_address_that_refuses_is_followed_by_the_next() {
    let (_listener, address) = service();
    let mut bench = Bench::new(address.port(), vec![nobody(), address]);
    bench.with(Instant::ZERO, |dialler, around| dialler.start(around, ID));
    assert!(bench.outcome(Instant::ZERO));
}

#[test]
fn a_dial_fails_when_every_address_has() {
    let mut bench = Bench::new(1, vec![nobody(), nobody()]);
    bench.with(Instant::ZERO, |dialler, around| dialler.start(around, ID));
    assert!(!bench.outcome(Instant::ZERO));
}

#[test]
fn a_name_is_resolved_anew() {
    let (_listener, address) = service();
    let mut bench = Bench::new(address.port(), vec![nobody()]);
    let now = Instant::ZERO.after(QUERY_INTERVAL);
    bench.with(now, |dialler, around| dialler.start(around, ID));
    assert!(bench.dialler.service.asked.is_some());
    assert!(bench.outcome(now));
    assert_eq!(bench.dialler.service.known_since, Some(now));
}

/// An address that accepts nothing and does not say so, as a black hole: its queue of connections is full.
fn hole() -> (Vec<StdTcpStream>, StdTcpListener, SocketAddr) {
    let (listener, address) = service();
    SockRef::from(&listener).listen(0).expect("an option");
    let patience = std::time::Duration::from_millis(200);
    let connect = || StdTcpStream::connect_timeout(&address, patience);
    let held: Vec<_> = std::iter::from_fn(|| connect().ok()).take(100).collect();
    assert!(held.len() < 100, "its queue is never full");
    (held, listener, address)
}

#[test]
fn patience_ends() {
    let (_held, _listener, address) = hole();
    let mut bench = Bench::new(address.port(), vec![address]);
    bench.with(Instant::ZERO, |dialler, around| dialler.start(around, ID));
    let due = bench.dialler.due().expect("a time");
    assert_eq!(due, Instant::ZERO.after(CONNECT_TIMEOUT));
    bench.with(due, |dialler, around| dialler.work(around));
    assert!(bench.dialler.dials.is_empty());
    assert_eq!(bench.dialler.due(), None);
}

#[test]
fn a_black_hole_costs_one_dial_a_moment() {
    let (_held, _hole, silent) = hole();
    let (_listener, address) = service();
    let mut bench = Bench::new(address.port(), vec![silent, address]);
    bench.with(Instant::ZERO, |dialler, around| dialler.start(around, ID));
    let due = bench.dialler.due().expect("a time");
    assert_eq!(due, Instant::ZERO.after(ATTEMPT_DELAY));
    bench.with(due, |dialler, around| dialler.work(around));
    assert!(bench.outcome(due));
    // the next begins with the one that answers
    bench.with(due, |dialler, around| dialler.start(around, ID));
    assert!(bench.outcome(due));
    bench.with(due, |dialler, around| dialler.work(around));
    assert_eq!(bench.dialler.due(), None);
}

#[test]
fn what_is_known_is_used_while_the_resolver_is_asked() {
    let (_listener, address) = service();
    let mut bench = Bench::new(address.port(), vec![address]);
    bench.resolver = bench.resolver.by(never);
    let now = Instant::ZERO.after(QUERY_INTERVAL);
    bench.with(now, |dialler, around| dialler.start(around, ID));
    assert!(bench.dialler.dials[&ID].attempts.is_empty());
    let due = bench.dialler.due().expect("a time");
    assert_eq!(due, now.after(STALE_ANSWER_DELAY));
    bench.with(due, |dialler, around| dialler.work(around));
    assert!(bench.outcome(due) && bench.dialler.service.asked.is_some());
    // who comes later does not wait for it
    bench.with(due, |dialler, around| dialler.start(around, ID));
    assert!(bench.outcome(due));
}

#[test]
fn where_nothing_known_answers_the_resolver_is_awaited_for_a_moment() {
    let mut bench = Bench::new(1, vec![nobody()]);
    bench.resolver = bench.resolver.by(never);
    let now = Instant::ZERO.after(QUERY_INTERVAL);
    bench.with(now, |dialler, around| dialler.start(around, ID));
    let now = now.after(STALE_ANSWER_DELAY);
    bench.with(now, |dialler, around| dialler.work(around));
    let waits = |bench: &Bench| bench.dialler.dials[&ID].final_answer_by;
    let mut events = Events::with_capacity(8);
    while waits(&bench).is_none() {
        let patience = Some(std::time::Duration::from_secs(20));
        bench.poll.poll(&mut events, patience).expect("poll");
        assert!(!events.is_empty(), "nothing happens");
        bench.dialler.note(ID);
        bench.with(now, |dialler, around| dialler.work(around));
    }
    let until = now.after(FINAL_ANSWER_TIMEOUT);
    assert_eq!(waits(&bench), Some(until));
    bench.with(until, |dialler, around| dialler.work(around));
    assert!(bench.dialler.dials.is_empty());
}

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Knows the name at the fourth question.
fn later(address: &Address) -> io::Result<Vec<SocketAddr>> {
    match ASKED.fetch_add(1, Ordering::Relaxed) {
        ..3 => Err(ErrorKind::NotFound.into()),
        _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], address.port))]),
    }
}

fn nothing(_: &Address) -> io::Result<Vec<SocketAddr>> {
    Err(ErrorKind::NotFound.into())
}

/// Turns through the time until the only dial is over, and returns when that is.
fn end_of(bench: &mut Bench) -> Instant {
    let mut now = Instant::ZERO;
    let mut events = Events::with_capacity(8);
    bench.with(now, |dialler, around| dialler.start(around, ID));
    while !bench.dialler.dials.is_empty() {
        // real time for the resolver, or for the connection
        let patience = Some(std::time::Duration::from_millis(200));
        bench.poll.poll(&mut events, patience).expect("poll");
        if events.is_empty() {
            now = now.max(bench.dialler.due().expect("a time"));
        }
        bench.dialler.note(ID);
        bench.with(now, |dialler, around| {
            while let Some(answer) = around.resolver.answer() {
                dialler.answer(around, answer);
            }
            dialler.work(around);
        });
        assert!(bench.dialler.alarms.len() < 10);
    }
    now
}

#[test]
fn a_name_that_is_not_known_yet_is_waited_for() {
    let (_listener, address) = service();
    let mut bench = Bench::new(address.port(), Vec::new());
    bench.resolver = bench.resolver.by(later);
    let end = end_of(&mut bench);
    assert!(bench.connections.close(ID, false), "it is connected");
    assert_eq!(end, Instant::ZERO.after(3 * SEC), "one question a second");
}

#[test]
fn a_name_that_stays_unknown_is_not_waited_for_for_long() {
    for resolve in [nothing, never] {
        let mut bench = Bench::new(1, Vec::new());
        bench.resolver = bench.resolver.by(resolve);
        assert_eq!(end_of(&mut bench), Instant::ZERO.after(UNRESOLVED_TIMEOUT));
        assert!(!bench.connections.close(ID, false));
    }
}
