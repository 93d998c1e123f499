//! TCP connections to the configured service (`connect`), from the tunnel's request until they are established or
//! have failed. From then on they are `tcp`'s.
//!
//! A name is resolved anew for each, on the resolver's thread, because what it means may change; while one answer
//! is awaited all dials wait for the same one.

use super::listen::configure;
use super::report::{Throttle, reason};
use super::resolve::{Answer, Resolver, literal};
use super::socket;
use super::tcp::{Connections, is_connected, register};
use crate::config::Address;
use crate::config::TcpOptions;
use crate::time::{SEC, Time};
use crate::tunnel::{SessionId, Tunnel};
use log::{debug, warn};
use mio::Registry;
use mio::net::TcpStream;
use socket2::{Protocol, Type};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// How long one address has to accept, in microseconds: Linux asks it four times within it.
const PATIENCE: u64 = 10 * SEC;
/// How long an answer of the resolver is good for, in microseconds: a burst of dials is one question.
const FRESH: u64 = SEC;
/// The most addresses of a name that are tried, one after the other.
const MAX_ADDRESSES: usize = 3;

/// What a dial needs of the rest of the loop.
pub struct Around<'a> {
    pub tunnel: &'a mut Tunnel,
    pub connections: &'a mut Connections,
    pub resolver: &'a mut Resolver,
    pub registry: &'a Registry,
    pub now: Time,
}

/// All dials that are under way.
pub struct Dialler {
    service: Option<Address>,
    /// What `service` meant when it was last asked for: used if it cannot be found out now.
    known: Vec<SocketAddr>,
    known_since: Option<Time>,
    options: TcpOptions,
    dials: HashMap<SessionId, Dial>,
    /// Whether an answer of the resolver is to come.
    asked: bool,
    /// Dials whose socket the poll said something of.
    stirred: Vec<SessionId>,
    /// When attempts time out, in the order in which they were made. Each has its number, for the id may have a new
    /// meaning by then.
    patience: VecDeque<(Time, SessionId, u64)>,
    attempts: u64,
    failed: Throttle,
    unresolved: Throttle,
    buffers_cut: bool,
}

#[derive(Default)]
struct Dial {
    /// None: it waits for the resolver.
    stream: Option<TcpStream>,
    attempt: u64,
    address: Option<SocketAddr>,
    /// Addresses that are left to try, the next one last.
    left: Vec<SocketAddr>,
}

impl Dialler {
    /// `known`: the addresses of `service`, as resolved at the start.
    pub fn new(service: Option<Address>, known: Vec<SocketAddr>, options: TcpOptions) -> Dialler {
        Dialler {
            service,
            known_since: (!known.is_empty()).then_some(Time::ZERO),
            known,
            options,
            dials: HashMap::new(),
            asked: false,
            stirred: Vec::new(),
            patience: VecDeque::new(),
            attempts: 0,
            failed: Throttle::default(),
            unresolved: Throttle::default(),
            buffers_cut: false,
        }
    }

    /// From now on, sessions are connected to another service, or with other options.
    pub fn reload(&mut self, service: Option<Address>, options: TcpOptions) {
        if service != self.service {
            self.known = service.as_ref().and_then(literal).unwrap_or_default();
            self.known_since = None;
            self.service = service;
        }
        self.options = options;
        self.buffers_cut = false;
    }

    /// Begins to dial for a session.
    pub fn start(&mut self, around: &mut Around, id: SessionId) {
        let Some(service) = self.service.clone() else {
            around.tunnel.dial_failed(around.now, id);
            return;
        };
        self.dials.insert(id, Dial::default());
        if self.asked {
            return;
        }
        let is_fresh = |since| around.now.since(since) < FRESH;
        if self.known_since.is_some_and(is_fresh) || literal(&service).is_some() {
            return self.dial_with_known(around, id);
        }
        match around.resolver.ask(service.clone()) {
            Ok(()) => self.asked = true,
            Err(e) => {
                self.complain(around.now, &service, &e);
                self.dial_with_known(around, id);
            }
        }
    }

    /// Goes on with every dial that waits for this answer of the resolver.
    pub fn answer(&mut self, around: &mut Around, answer: Answer) {
        self.asked = false;
        let waits = |(id, dial): (&SessionId, &Dial)| dial.stream.is_none().then_some(*id);
        let waiting: Vec<SessionId> = self.dials.iter().filter_map(waits).collect();
        if self.service.as_ref() != Some(&answer.address) {
            // it was asked for what is no longer configured
            return waiting.iter().for_each(|id| self.start(around, *id));
        }
        match answer.found {
            Ok(found) => (self.known, self.known_since) = (found, Some(around.now)),
            Err(e) => self.complain(around.now, &answer.address, &e),
        }
        for id in waiting {
            self.dial_with_known(around, id);
        }
    }

    fn complain(&mut self, now: Time, name: &Address, error: &io::Error) {
        let why = reason(error);
        let then = match self.known.is_empty() {
            true => "sessions are refused until it can be resolved",
            false => "its last known addresses are used",
        };
        self.unresolved.warn(
            now,
            format_args!("connect: cannot resolve {name}: {why}; {then}"),
        );
    }

    fn dial_with_known(&mut self, around: &mut Around, id: SessionId) {
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.left = self
                .known
                .iter()
                .take(MAX_ADDRESSES)
                .rev()
                .copied()
                .collect();
        }
        self.next_address(around, id);
    }

    /// Tries the addresses that are left until one at least does not fail at once.
    fn next_address(&mut self, around: &mut Around, id: SessionId) {
        while let Some(dial) = self.dials.get_mut(&id) {
            dial.stream = None;
            let Some(address) = dial.left.pop() else {
                self.dials.remove(&id);
                around.tunnel.dial_failed(around.now, id);
                return;
            };
            dial.address = Some(address);
            match self.connect(around.registry, address, id) {
                Ok(stream) => return self.await_connection(around.now, id, stream),
                Err(e) => self.log_failure(around, id, &e),
            }
        }
    }

    fn connect(
        &mut self,
        registry: &Registry,
        address: SocketAddr,
        id: SessionId,
    ) -> io::Result<TcpStream> {
        let socket = socket::new(address, Type::STREAM, Protocol::TCP)?;
        if let Err(line) = configure(&socket, &self.options)?
            && !std::mem::replace(&mut self.buffers_cut, true)
        {
            warn!("tcp: {line}");
        }
        match socket.connect(&address.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => (),
        }
        let mut stream = TcpStream::from_std(socket.into());
        register(registry, &mut stream, id)?;
        Ok(stream)
    }

    /// The poll will say what becomes of the connection, even if it is established already.
    fn await_connection(&mut self, now: Time, id: SessionId, stream: TcpStream) {
        self.attempts += 1;
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.stream = Some(stream);
            dial.attempt = self.attempts;
            self.patience
                .push_back((now.after(PATIENCE), id, self.attempts));
        }
    }

    /// Notes that the poll said something of a socket that is being connected.
    pub fn note(&mut self, id: SessionId) {
        if self.dials.contains_key(&id) {
            self.stirred.push(id);
        }
    }

    /// Completes what the poll has spoken of, and gives up what has taken too long.
    pub fn work(&mut self, around: &mut Around) {
        while let Some(id) = self.stirred.pop() {
            let state = self
                .dials
                .get(&id)
                .and_then(|dial| dial.stream.as_ref())
                .map(is_connected);
            match state {
                Some(Ok(true)) => self.established(around, id),
                Some(Err(e)) => self.failed(around, id, &e),
                Some(Ok(false)) | None => (),
            }
        }
        while let Some(&(when, id, attempt)) = self.patience.front()
            && (when <= around.now || !self.is_current(id, attempt))
        {
            self.patience.pop_front();
            if self.is_current(id, attempt) {
                self.failed(around, id, &ErrorKind::TimedOut.into());
            }
        }
    }

    fn established(&mut self, around: &mut Around, id: SessionId) {
        let Some(dial) = self.dials.remove(&id) else {
            return;
        };
        if let (Some(stream), Some(address)) = (dial.stream, dial.address) {
            let conv = around.tunnel.conv(id).unwrap_or(0);
            debug!("{conv:08x} connected to {address}");
            around.connections.insert(id, conv, stream);
            around.tunnel.dialled(around.now, id);
        }
    }

    fn failed(&mut self, around: &mut Around, id: SessionId, error: &io::Error) {
        self.log_failure(around, id, error);
        self.next_address(around, id);
    }

    fn log_failure(&mut self, around: &Around, id: SessionId, error: &io::Error) {
        if let Some(address) = self.dials.get(&id).and_then(|dial| dial.address) {
            let conv = around.tunnel.conv(id).unwrap_or(0);
            self.failed.warn(
                around.now,
                format_args!("{conv:08x} cannot connect to {address}: {}", reason(error)),
            );
        }
    }

    fn is_current(&self, id: SessionId, attempt: u64) -> bool {
        self.dials
            .get(&id)
            .is_some_and(|dial| dial.stream.is_some() && dial.attempt == attempt)
    }

    /// Forgets a dial that the tunnel has no use for any more.
    pub fn cancel(&mut self, id: SessionId) {
        self.dials.remove(&id);
    }

    /// When `work` is due, unless the poll says something before.
    pub fn due(&self) -> Option<Time> {
        self.patience.front().map(|&(when, ..)| when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use mio::{Events, Poll, Token, Waker};
    use std::net::TcpListener as StdTcpListener;
    use std::time::Duration;

    const ID: SessionId = SessionId(5);

    /// A dialler and all that it needs, for a service that is called `localhost`.
    struct Bench {
        poll: Poll,
        tunnel: Tunnel,
        connections: Connections,
        resolver: Resolver,
        dialler: Dialler,
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
                tunnel: Tunnel::new(Settings::default(), Time::ZERO),
                connections: Connections::default(),
                resolver: Resolver::new(waker),
                dialler: Dialler::new(Some(service), known, TcpOptions::default()),
                poll,
            }
        }

        fn with<T>(&mut self, now: Time, call: impl FnOnce(&mut Dialler, &mut Around) -> T) -> T {
            let mut around = Around {
                tunnel: &mut self.tunnel,
                connections: &mut self.connections,
                resolver: &mut self.resolver,
                registry: self.poll.registry(),
                now,
            };
            call(&mut self.dialler, &mut around)
        }

        /// Turns until the dial is over, and says whether it has led to a connection.
        fn outcome(&mut self, now: Time) -> bool {
            let mut events = Events::with_capacity(8);
            while !self.dialler.dials.is_empty() {
                self.poll
                    .poll(&mut events, Some(Duration::from_secs(20)))
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
        bench.with(Time::ZERO, |dialler, around| dialler.start(around, ID));
        assert!(bench.outcome(Time::ZERO));
    }

    #[test]
    fn a_dial_fails_when_every_address_has() {
        let mut bench = Bench::new(1, vec![nobody(), nobody()]);
        bench.with(Time::ZERO, |dialler, around| dialler.start(around, ID));
        assert!(!bench.outcome(Time::ZERO));
    }

    #[test]
    fn a_name_is_resolved_anew() {
        let (_listener, address) = service();
        let mut bench = Bench::new(address.port(), vec![nobody()]);
        let now = Time::from_micros(FRESH);
        bench.with(now, |dialler, around| dialler.start(around, ID));
        assert!(bench.dialler.asked);
        assert!(bench.outcome(now));
        assert_eq!(bench.dialler.known_since, Some(now));
    }

    #[test]
    fn patience_ends() {
        let (_listener, address) = service();
        let mut bench = Bench::new(address.port(), vec![address]);
        bench.with(Time::ZERO, |dialler, around| dialler.start(around, ID));
        let due = bench.dialler.due().expect("a time");
        assert_eq!(due, Time::from_micros(PATIENCE));
        bench.with(due, |dialler, around| dialler.work(around));
        assert!(bench.dialler.dials.is_empty());
        assert_eq!(bench.dialler.due(), None);
    }
}
