//! TCP connections to the configured service (`connect`), from the tunnel's request until they are established or
//! have failed. From then on they are `tcp`'s.
//!
//! A name is resolved anew as it is used, on the resolver's thread, because what it means may change. What it was known
//! to mean is used where the answer does not come at once: nobody waits for a resolver for long unless there is nothing
//! else to try. Of several addresses the next is tried beside the one before it when that has not answered soon (RFC 8305);
//! the one that has is tried first by the dials after it.

use super::listen::configure;
use super::report::{Throttle, reason};
use super::resolve::{Answer, Resolver, literal};
use super::socket;
use super::tcp::{Connections, is_connected, register};
use crate::config::Address;
use crate::config::TcpOptions;
use crate::proxy;
use crate::time::{MS, SEC, Time};
use crate::tunnel::{SessionId, Tunnel};
use log::{debug, warn};
use mio::Registry;
use mio::net::TcpStream;
use socket2::{Protocol, Type};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

/// How long one address has to accept, in microseconds: Linux asks it four times within it.
const PATIENCE: u64 = 10 * SEC;
/// An address that has not accepted after so long has the next one tried beside it: RFC 8305's delay.
const HEAD_START: u64 = 250 * MS;
/// How long an answer of the resolver is good for, in microseconds: a burst of dials is one question.
const FRESH: u64 = SEC;
/// What is known for longer is used when the resolver, who may know better, has not answered for so long.
const OLD_AFTER: u64 = 250 * MS;
/// Where every known address has failed, an answer of the resolver that is still to come is awaited for so long.
const LAST_HOPE: u64 = 2 * SEC;
/// A name of which no address is known is waited for so long, and asked for once a second: at boot a tunnel may be there
/// before its name server.
const UNKNOWN: u64 = 10 * SEC;
/// Meanwhile a question that has no answer after so long is not waited for: another name server may answer by now.
const STUCK: u64 = 2 * SEC;
/// The most addresses of a name that are tried by one dial.
const MAX_ADDRESSES: usize = 4;

/// What a dial needs of the rest of the loop.
pub struct Around<'a> {
    pub tunnel: &'a mut Tunnel,
    pub connections: &'a mut Connections,
    pub resolver: &'a mut Resolver,
    pub registry: &'a Registry,
    /// Where the UDP socket is bound.
    pub udp: SocketAddr,
    pub now: Time,
}

/// All dials that are under way.
pub struct Dialler {
    service: Option<Address>,
    /// What `service` meant when it was last found out.
    known: Vec<SocketAddr>,
    known_since: Option<Time>,
    /// Of several addresses, the one that was connected to last.
    best: Option<SocketAddr>,
    options: TcpOptions,
    dials: HashMap<SessionId, Dial>,
    /// An answer of the resolver is to come that was asked for then; and when it was asked last.
    asked: Option<Time>,
    asked_last: Time,
    /// Dials whose sockets the poll said something of.
    stirred: Vec<SessionId>,
    /// When dials are to be looked at, the earliest first. Each has its number, for the id may have a new meaning by then.
    alarms: BinaryHeap<Reverse<(Time, SessionId, u64)>>,
    begun: u64,
    failed: Throttle,
    unresolved: Throttle,
    buffers_cut: bool,
}

struct Dial {
    number: u64,
    begun_at: Time,
    attempts: Vec<Attempt>,
    /// Addresses that are left to try, the next one last, and when that is tried.
    left: Vec<SocketAddr>,
    next: Time,
    /// What was tried and has failed, and why.
    failures: Vec<(SocketAddr, String)>,
    /// Nothing is left but an answer of the resolver: until when it is awaited.
    hope: Option<Time>,
    /// No address is known: when it is looked at again.
    again: Time,
}

/// A socket that is being connected.
struct Attempt {
    stream: TcpStream,
    address: SocketAddr,
    until: Time,
}

impl Dial {
    /// Adds addresses that were not tried yet.
    fn learn(&mut self, addresses: &[SocketAddr]) {
        let tried = |address: &SocketAddr| {
            self.attempts.iter().any(|a| a.address == *address)
                || self.failures.iter().any(|(failed, _)| failed == address)
        };
        let count = self.attempts.len() + self.failures.len();
        let new = addresses.iter().filter(|address| !tried(address));
        let new: Vec<_> = new
            .take(MAX_ADDRESSES.saturating_sub(count))
            .copied()
            .collect();
        self.left = new.into_iter().rev().collect();
    }

    /// Takes out the attempts that have failed by now, and notes why; and the first that is established, which is returned.
    fn sort_out(&mut self, now: Time) -> Option<Attempt> {
        let mut established = None;
        for attempt in std::mem::take(&mut self.attempts) {
            // an error is told once
            let error = match is_connected(&attempt.stream) {
                Ok(true) if established.is_none() => {
                    established = Some(attempt);
                    continue;
                }
                Ok(_) if attempt.until > now => {
                    self.attempts.push(attempt);
                    continue;
                }
                Ok(_) => ErrorKind::TimedOut.into(),
                Err(error) => error,
            };
            self.failures.push((attempt.address, reason(&error)));
            self.next = now;
        }
        established
    }
}

impl Dialler {
    /// `known`: the addresses of `service`, as resolved at the start.
    pub fn new(service: Option<Address>, known: Vec<SocketAddr>, options: TcpOptions) -> Dialler {
        Dialler {
            service,
            known_since: (!known.is_empty()).then_some(Time::ZERO),
            known,
            best: None,
            options,
            dials: HashMap::new(),
            asked: None,
            asked_last: Time::ZERO,
            stirred: Vec::new(),
            alarms: BinaryHeap::new(),
            begun: 0,
            failed: Throttle::default(),
            unresolved: Throttle::default(),
            buffers_cut: false,
        }
    }

    /// From now on, sessions are connected to another service, or with other options.
    pub fn reload(&mut self, service: Option<Address>, options: TcpOptions) {
        if service != self.service {
            self.known = service.as_ref().and_then(literal).unwrap_or_default();
            (self.known_since, self.best) = (None, None);
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
        self.begun += 1;
        let mut dial = Dial {
            number: self.begun,
            begun_at: around.now,
            attempts: Vec::new(),
            left: Vec::new(),
            next: around.now,
            failures: Vec::new(),
            hope: None,
            again: Time::ZERO,
        };
        self.ask_if_old(around, &service);
        dial.learn(&self.in_order());
        if let Some(asked) = self.asked {
            dial.next = asked.after(OLD_AFTER);
            self.alarms.push(Reverse((dial.next, id, dial.number)));
        }
        self.dials.insert(id, dial);
        self.go_on(around, id);
    }

    /// Has the name resolved again, unless what is known of it is fresh.
    fn ask_if_old(&mut self, around: &mut Around, service: &Address) {
        let is_fresh = |since| around.now.since(since) < FRESH;
        if self.asked.is_some()
            || self.known_since.is_some_and(is_fresh)
            || literal(service).is_some()
        {
            return;
        }
        self.asked_last = around.now;
        match around.resolver.ask(service.clone()) {
            Ok(()) => self.asked = Some(around.now),
            Err(e) => self.complain(around.now, service, &e),
        }
    }

    /// What is known, in the order of trying: what worked last, and then the others with the families in turns.
    fn in_order(&self) -> Vec<SocketAddr> {
        let best = self.best.filter(|best| self.known.contains(best));
        let first = best.or(self.known.first().copied());
        let rest = || self.known.iter().copied().filter(|a| Some(*a) != first);
        let alike = |a: &SocketAddr| first.is_some_and(|first| first.is_ipv4() == a.is_ipv4());
        let mut others = rest().filter(|a| !alike(a));
        let mut same = rest().filter(alike);
        let mut order: Vec<SocketAddr> = first.into_iter().collect();
        loop {
            let pair = [others.next(), same.next()];
            if pair == [None, None] {
                return order;
            }
            order.extend(pair.into_iter().flatten());
        }
    }

    /// Goes on with every dial by this answer of the resolver.
    pub fn answer(&mut self, around: &mut Around, answer: Answer) {
        self.asked = None;
        if self.service.as_ref() != Some(&answer.address) {
            // it was asked for what is no longer configured
            if let Some(service) = self.service.clone() {
                self.ask_if_old(around, &service);
            }
        } else {
            match answer.found {
                Ok(found) => (self.known, self.known_since) = (found, Some(around.now)),
                Err(e) => self.complain(around.now, &answer.address, &e),
            }
        }
        let known = self.in_order();
        let ids: Vec<SessionId> = self.dials.keys().copied().collect();
        for id in ids {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.learn(&known);
                match dial.attempts.is_empty() {
                    true => dial.next = around.now,
                    false => self.alarms.push(Reverse((dial.next, id, dial.number))),
                }
            }
            self.go_on(around, id);
        }
    }

    fn complain(&mut self, now: Time, name: &Address, error: &io::Error) {
        let why = reason(error);
        let then = match self.known.is_empty() {
            true => "sessions wait some seconds for it",
            false => "its last known addresses are used",
        };
        self.unresolved.warn(
            now,
            format_args!("connect: cannot resolve {name}: {why}; {then}"),
        );
    }

    /// Tries the next address if it is time to, and as long as one fails at once; gives up where nothing is left.
    fn go_on(&mut self, around: &mut Around, id: SessionId) {
        while let Some(dial) = self.dials.get_mut(&id) {
            let waits = match dial.left.is_empty() {
                true => !dial.attempts.is_empty(),
                false => around.now < dial.next,
            };
            if waits {
                return;
            }
            let Some(address) = dial.left.pop() else {
                return self.hope(around, id);
            };
            match self.connect(around.registry, address, id) {
                Ok(stream) => self.await_connection(around.now, id, address, stream),
                Err(e) => {
                    if let Some(dial) = self.dials.get_mut(&id) {
                        dial.failures.push((address, reason(&e)));
                    }
                }
            }
        }
    }

    /// Every known address has failed: what is left is an answer of the resolver that is to come, if one is.
    fn hope(&mut self, around: &mut Around, id: SessionId) {
        if self.waits_for_name(around, id) {
            return;
        }
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        if self.asked.is_some() && !dial.failures.is_empty() {
            let until = *dial.hope.get_or_insert(around.now.after(LAST_HOPE));
            if around.now < until {
                return self.alarms.push(Reverse((until, id, dial.number)));
            }
        }
        let failures = std::mem::take(&mut dial.failures);
        self.dials.remove(&id);
        let conv = around.tunnel.conv(id).unwrap_or(0);
        let each = failures
            .iter()
            .map(|(address, why)| format!("{address}: {why}"));
        let mut each: Vec<String> = each.collect();
        if let (true, Some(service)) = (each.is_empty(), &self.service) {
            each.push(format!("{service}: its address is not known"));
        }
        self.failed.warn(
            around.now,
            format_args!("{conv:08x} cannot connect to {}", each.join("; ")),
        );
        around.tunnel.dial_failed(around.now, id);
    }

    /// Whether a dial waits for the name, of which no address is known; it is asked for again if it is time to.
    fn waits_for_name(&mut self, around: &mut Around, id: SessionId) -> bool {
        let (Some(service), Some(dial)) = (self.service.clone(), self.dials.get(&id)) else {
            return false;
        };
        let until = dial.begun_at.after(UNKNOWN);
        if !dial.failures.is_empty() || until <= around.now {
            return false;
        }
        if self.asked.is_some_and(|at| at.after(STUCK) <= around.now) {
            self.asked = (!around.resolver.give_up()).then_some(around.now);
        }
        if self.asked_last.after(FRESH) <= around.now {
            self.ask_if_old(around, &service);
        }
        let next = match self.asked {
            Some(at) => at.after(STUCK),
            None if self.asked_last.after(FRESH) > around.now => self.asked_last.after(FRESH),
            None => around.now.after(FRESH),
        };
        let next = next.min(until);
        if let Some(dial) = self.dials.get_mut(&id)
            && (dial.again <= around.now || next < dial.again)
        {
            dial.again = next;
            self.alarms.push(Reverse((next, id, dial.number)));
        }
        true
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
        // all sockets of a dial have its token; those that lose are closed before the session reads
        register(registry, &mut stream, id)?;
        Ok(stream)
    }

    /// The poll will say what becomes of the connection, even if it is established already.
    fn await_connection(
        &mut self,
        now: Time,
        id: SessionId,
        address: SocketAddr,
        stream: TcpStream,
    ) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let until = now.after(PATIENCE);
        dial.next = now.after(HEAD_START);
        self.alarms.push(Reverse((until, id, dial.number)));
        if !dial.left.is_empty() {
            self.alarms.push(Reverse((dial.next, id, dial.number)));
        }
        dial.attempts.push(Attempt {
            stream,
            address,
            until,
        });
    }

    /// Notes that the poll said something of a socket that is being connected.
    pub fn note(&mut self, id: SessionId) {
        if self.dials.contains_key(&id) {
            self.stirred.push(id);
        }
    }

    /// Completes what the poll has spoken of, and goes on with what has taken too long.
    pub fn work(&mut self, around: &mut Around) {
        while let Some(id) = self.stirred.pop() {
            self.look(around, id);
        }
        while let Some(&Reverse((when, id, number))) = self.alarms.peek()
            && (when <= around.now || !self.is_current(id, number))
        {
            self.alarms.pop();
            if self.is_current(id, number) {
                self.look(around, id);
            }
        }
    }

    /// What has become of a dial's sockets.
    fn look(&mut self, around: &mut Around, id: SessionId) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        match dial.sort_out(around.now) {
            Some(attempt) => self.established(around, id, attempt),
            None => self.go_on(around, id),
        }
    }

    fn established(&mut self, around: &mut Around, id: SessionId, attempt: Attempt) {
        let Attempt {
            mut stream,
            address,
            ..
        } = attempt;
        let conv = around.tunnel.conv(id).unwrap_or(0);
        let dial = self.dials.remove(&id);
        for (address, why) in dial.iter().flat_map(|dial| &dial.failures) {
            debug!("{conv:08x} could not connect to {address}: {why}");
        }
        debug!("{conv:08x} connected to {address}");
        self.best = Some(address);
        if let Err(e) = self.introduce(around, id, &mut stream) {
            self.failed.warn(
                around.now,
                format_args!("{conv:08x} {address} took no PROXY header: {}", reason(&e)),
            );
            around.tunnel.dial_failed(around.now, id);
            return;
        }
        around.connections.insert(id, conv, stream);
        around.tunnel.dialled(around.now, id);
    }

    /// Tells the service whom the connection is made for, if it is to be told.
    fn introduce(&self, around: &Around, id: SessionId, stream: &mut TcpStream) -> io::Result<()> {
        let (Some(version), Some((from, local))) =
            (self.options.proxy_protocol, around.tunnel.other_end(id))
        else {
            return Ok(());
        };
        let to = SocketAddr::new(local.unwrap_or(around.udp.ip()), around.udp.port());
        let header = proxy::header(version, from, to);
        // the socket's buffer is empty, and has room for far more
        match stream.write(&header)? {
            n if n == header.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    fn is_current(&self, id: SessionId, number: u64) -> bool {
        self.dials
            .get(&id)
            .is_some_and(|dial| dial.number == number)
    }

    /// Forgets a dial that the tunnel has no use for any more.
    pub fn cancel(&mut self, id: SessionId) {
        self.dials.remove(&id);
    }

    /// When `work` is due, unless the poll says something before.
    pub fn due(&self) -> Option<Time> {
        self.alarms.peek().map(|Reverse((when, ..))| *when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use mio::{Events, Poll, Token, Waker};
    use socket2::SockRef;
    use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

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
                udp: SocketAddr::from(([0; 4], 7)),
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
        assert!(bench.dialler.asked.is_some());
        assert!(bench.outcome(now));
        assert_eq!(bench.dialler.known_since, Some(now));
    }

    /// An address that accepts nothing and does not say so, as a black hole: its queue of connections is full.
    fn hole() -> (Vec<StdTcpStream>, StdTcpListener, SocketAddr) {
        let (listener, address) = service();
        SockRef::from(&listener).listen(0).expect("an option");
        let patience = Duration::from_millis(200);
        let connect = || StdTcpStream::connect_timeout(&address, patience);
        let held: Vec<_> = std::iter::from_fn(|| connect().ok()).take(100).collect();
        assert!(held.len() < 100, "its queue is never full");
        (held, listener, address)
    }

    #[test]
    fn patience_ends() {
        let (_held, _listener, address) = hole();
        let mut bench = Bench::new(address.port(), vec![address]);
        bench.with(Time::ZERO, |dialler, around| dialler.start(around, ID));
        let due = bench.dialler.due().expect("a time");
        assert_eq!(due, Time::from_micros(PATIENCE));
        bench.with(due, |dialler, around| dialler.work(around));
        assert!(bench.dialler.dials.is_empty());
        assert_eq!(bench.dialler.due(), None);
    }

    #[test]
    fn a_black_hole_costs_one_dial_a_moment() {
        let (_held, _hole, silent) = hole();
        let (_listener, address) = service();
        let mut bench = Bench::new(address.port(), vec![silent, address]);
        bench.with(Time::ZERO, |dialler, around| dialler.start(around, ID));
        let due = bench.dialler.due().expect("a time");
        assert_eq!(due, Time::from_micros(HEAD_START));
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
        let now = Time::from_micros(FRESH);
        bench.with(now, |dialler, around| dialler.start(around, ID));
        assert!(bench.dialler.dials[&ID].attempts.is_empty());
        let due = bench.dialler.due().expect("a time");
        assert_eq!(due, now.after(OLD_AFTER));
        bench.with(due, |dialler, around| dialler.work(around));
        assert!(bench.outcome(due) && bench.dialler.asked.is_some());
        // who comes later does not wait for it
        bench.with(due, |dialler, around| dialler.start(around, ID));
        assert!(bench.outcome(due));
    }

    #[test]
    fn where_nothing_known_answers_the_resolver_is_awaited_for_a_moment() {
        let mut bench = Bench::new(1, vec![nobody()]);
        bench.resolver = bench.resolver.by(never);
        let now = Time::from_micros(FRESH);
        bench.with(now, |dialler, around| dialler.start(around, ID));
        let now = now.after(OLD_AFTER);
        bench.with(now, |dialler, around| dialler.work(around));
        let waits = |bench: &Bench| bench.dialler.dials[&ID].hope;
        let mut events = Events::with_capacity(8);
        while waits(&bench).is_none() {
            let patience = Some(Duration::from_secs(20));
            bench.poll.poll(&mut events, patience).expect("poll");
            assert!(!events.is_empty(), "nothing happens");
            bench.dialler.note(ID);
            bench.with(now, |dialler, around| dialler.work(around));
        }
        let until = now.after(LAST_HOPE);
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
    fn end_of(bench: &mut Bench) -> Time {
        let mut now = Time::ZERO;
        let mut events = Events::with_capacity(8);
        bench.with(now, |dialler, around| dialler.start(around, ID));
        while !bench.dialler.dials.is_empty() {
            // real time for the resolver, or for the connection
            let patience = Some(Duration::from_millis(200));
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
        assert_eq!(end, Time::from_micros(3 * SEC), "one question a second");
    }

    #[test]
    fn a_name_that_stays_unknown_is_not_waited_for_for_long() {
        for resolve in [nothing, never] {
            let mut bench = Bench::new(1, Vec::new());
            bench.resolver = bench.resolver.by(resolve);
            assert_eq!(end_of(&mut bench), Time::from_micros(UNKNOWN));
            assert!(!bench.connections.close(ID, false));
        }
    }

    #[test]
    fn families_take_turns_behind_what_worked_last() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "0.0.0.4:1", "0.0.0.5:1"].map(at);
        let mut dialler = Dialler::new(None, all.into(), TcpOptions::default());
        let order = ["[::1]:1", "0.0.0.4:1", "[::2]:1", "0.0.0.5:1", "[::3]:1"].map(at);
        assert_eq!(dialler.in_order(), order);
        dialler.best = Some(at("0.0.0.5:1"));
        let order = ["0.0.0.5:1", "[::1]:1", "0.0.0.4:1", "[::2]:1", "[::3]:1"].map(at);
        assert_eq!(dialler.in_order(), order);
        dialler.best = Some(at("[::9]:1"));
        assert_eq!(
            dialler.in_order()[0],
            all[0],
            "it is none of the name's any more"
        );
    }
}
