//! The sockets of `http_listen`: a listener and at most 16 connections. What is asked and answered is decided in `http`.
//!
//! None of this exists unless `http_listen` is set. It takes a bounded time in each turn of the loop, and nobody can keep
//! others out by holding connections: a new one takes the place of the oldest that has not sent its request, or does not
//! read its answer.

use super::listen::Listener;
use super::report::reason;
use super::tcp::reset;
use super::token::FIRST_HTTP;
use crate::config::Address;
use crate::http::exchange::Exchange;
use crate::http::{Monitor, Site, respond::respond};
use crate::time::{Duration, Instant};
use crate::tunnel::Tunnel;
use log::{debug, warn};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, event::Event};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

/// The most connections at once.
const CONNECTIONS_MAX: usize = 16;
/// The most connections accepted from a listener in one turn.
const ACCEPTS_PER_TURN: usize = 8;
/// The most listeners: as many addresses as a name like localhost has.
pub const LISTENERS_MAX: usize = 4;
/// How long an answer may take to leave before its connection gives way to a new one. Who reads has it
/// within a few round trips.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// The most bytes read from a connection in one turn.
const READ_PER_TURN: usize = 8 * 1024;
/// The most bytes written to a connection in one turn.
const WRITTEN_PER_TURN: usize = 64 * 1024;
/// The token of the first connection; those of the others follow.
const FIRST_CONNECTION: usize = FIRST_HTTP + LISTENERS_MAX;

/// What `http_listen` asks for.
pub struct Options {
    /// Where HTTP is answered.
    pub listen: Address,
    /// What the answers say of the configuration.
    pub site: Site,
}

/// The listeners, the connections, and what they are told.
pub struct Http {
    listeners: Vec<Listener>,
    connections: [Option<Connection>; CONNECTIONS_MAX],
    monitor: Monitor,
}

struct Connection {
    stream: TcpStream,
    exchange: Exchange,
    since: Instant,
    readable: bool,
    writable: bool,
}

impl Http {
    /// The configuration was read again.
    pub fn set_site(&mut self, site: Site) {
        self.monitor.set_site(site);
    }

    /// `listeners` are bound and not registered yet.
    pub fn new(listeners: Vec<Listener>, site: Site, now: Instant) -> Http {
        Http {
            listeners,
            connections: Default::default(),
            monitor: Monitor::new(site, now),
        }
    }

    /// Registers the listeners with the poll.
    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (number, listener) in self.listeners.iter_mut().enumerate() {
            listener.register(registry, Token(FIRST_HTTP + number))?;
        }
        Ok(())
    }

    /// Notes what the poll reported. False if it is about something else.
    pub fn note(&mut self, event: &Event) -> bool {
        let Token(number) = event.token();
        let connection = number
            .checked_sub(FIRST_CONNECTION)
            .filter(|place| *place < CONNECTIONS_MAX);
        if let Some(place) = connection {
            if let Some(connection) = &mut self.connections[place] {
                connection.readable |= event.is_readable() || event.is_read_closed();
                connection.writable |= event.is_writable() || event.is_error();
            }
            return true;
        }
        let Some(number) = number
            .checked_sub(FIRST_HTTP)
            .filter(|n| *n < LISTENERS_MAX)
        else {
            return false;
        };
        if let Some(listener) = self.listeners.get_mut(number) {
            listener.note();
        }
        true
    }

    /// When `work` has to be called again, whatever the poll says.
    pub fn due(&self) -> Instant {
        let listeners = self.listeners.iter().filter_map(Listener::due);
        let connections = self.connections.iter().flatten().map(Connection::due);
        let others = listeners.chain(connections).min();
        others.unwrap_or(Instant::NEVER).min(self.monitor.due())
    }

    /// A turn of the loop has taken `span`.
    pub fn record_turn(&mut self, span: Duration, now: Instant) {
        self.monitor.turns.record(span, now);
    }

    /// Does what there is to do, within bounds.
    pub fn work(&mut self, tunnel: &Tunnel, registry: &Registry, now: Instant) {
        self.monitor.look(tunnel, now);
        self.accept(registry, now);
        for slot in &mut self.connections {
            let Some(connection) = slot else { continue };
            connection.visit(&self.monitor, tunnel, now);
            if connection.exchange.is_over() {
                *slot = None;
            }
        }
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        for number in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some((stream, _)) = self.listeners[number].accept(now) else {
                    break;
                };
                let Some(place) = self.place(now) else {
                    reset(stream);
                    continue;
                };
                let mut connection = Connection::new(stream, now);
                let token = Token(FIRST_CONNECTION + place);
                let both = Interest::READABLE | Interest::WRITABLE;
                match registry.register(&mut connection.stream, token, both) {
                    // what was in this place is closed by this, and with it its registration
                    Ok(()) => self.connections[place] = Some(connection),
                    Err(e) => warn!("http_listen: a connection cannot be polled: {}", reason(&e)),
                }
            }
        }
    }

    /// A free place, or that of the connection that has waited longest without an answer on its way, or with one that
    /// it does not read.
    fn place(&self, now: Instant) -> Option<usize> {
        if let Some(free) = self.connections.iter().position(Option::is_none) {
            return Some(free);
        }
        let taken = self.connections.iter().enumerate();
        let idle = taken.filter_map(|(place, slot)| {
            let connection = slot.as_ref()?;
            let (reads, since) = (connection.exchange.reads(), connection.since);
            let gives_way = reads || now.since(since) >= ANSWER_GRACE;
            // those without an answer first
            gives_way.then_some((!reads, since, place))
        });
        idle.min().map(|(.., place)| place)
    }
}

impl Connection {
    fn new(stream: TcpStream, now: Instant) -> Connection {
        Connection {
            stream,
            exchange: Exchange::new(now),
            since: now,
            readable: true,
            writable: true,
        }
    }

    fn due(&self) -> Instant {
        let reads = self.readable && self.exchange.reads();
        let writes = self.writable && !self.exchange.unsent().is_empty();
        if reads || writes {
            Instant::ZERO
        } else {
            self.exchange.deadline()
        }
    }

    fn visit(&mut self, monitor: &Monitor, tunnel: &Tunnel, now: Instant) {
        self.exchange.expire(now);
        let moved = self
            .read(monitor, tunnel, now)
            .and_then(|()| self.write(now));
        if let Err(e) = moved {
            debug!("http_listen: a connection broke: {}", reason(&e));
            self.exchange.fail();
        }
    }

    fn read(&mut self, monitor: &Monitor, tunnel: &Tunnel, now: Instant) -> io::Result<()> {
        let mut bytes = [0; 1024];
        let mut left = READ_PER_TURN;
        while self.readable && self.exchange.reads() && left > 0 {
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    self.readable = false;
                    self.exchange.closed();
                }
                Ok(n) => {
                    left = left.saturating_sub(n);
                    let host = monitor.site().host.as_deref();
                    let answer = |request| respond(request, monitor, tunnel, now);
                    self.exchange.received(&bytes[..n], host, now, answer);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        let mut left = WRITTEN_PER_TURN;
        while self.writable && !self.exchange.unsent().is_empty() && left > 0 {
            let unsent = self.exchange.unsent();
            match self.stream.write(&unsent[..unsent.len().min(left)]) {
                Ok(n) => {
                    left -= n;
                    if self.exchange.wrote(n, now) {
                        self.stream.shutdown(Shutdown::Write)?;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
