//! TCP connections to the configured service (`connect`), from the tunnel's request until they are established or
//! have failed. From then on they are `tcp`'s. `service` knows the service's addresses, `attempt` what one dial has tried.
//!
//! A name is resolved again as it is used, on the resolver's thread, because its addresses may change. If the answer does
//! not come soon, the last known addresses are used: nobody waits long for a resolver unless there is nothing else to try.
//! If a name has several addresses, the next one is tried in parallel when the one before it has not answered soon (RFC
//! 8305); the one that answered is tried first by later dials.

mod attempt;
mod service;
#[cfg(test)]
mod tests;

use super::listen::configure;
use super::report::{Throttle, reason};
use super::resolve::{Answer, Resolver};
use super::socket;
use super::tcp::{Connections, register};
use super::udp::Udp;
use crate::config::{Address, TcpOptions};
use crate::platform::errno;
use crate::proxy;
use crate::time::{Duration, Instant};
use crate::tunnel::{SessionId, Tunnel};
use attempt::{Attempt, Dial};
use log::{debug, warn};
use mio::Registry;
use mio::net::TcpStream;
use service::{QUERY_INTERVAL, Service};
use socket2::{Protocol, Type};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

/// How long one address has to accept a connection: Linux sends four SYNs within it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When the next address is tried beside one that has not accepted yet: RFC 8305's delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long a dial waits for the resolver before it uses addresses that are known but not fresh.
const STALE_ANSWER_DELAY: Duration = Duration::from_millis(250);
/// How long an answer of the resolver that is still to come is awaited once every known address has failed.
const FINAL_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a dial waits for a name of which no address is known: at boot a tunnel may be up before its name
/// server is.
const UNRESOLVED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long such a dial waits for the answer to one query: another name server may answer by then.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// What a dial needs of the rest of the loop.
pub(super) struct Around<'a> {
    /// Is told what became of a dial.
    pub tunnel: &'a mut Tunnel,
    /// Take over what is established.
    pub connections: &'a mut Connections,
    /// Resolves the service's name.
    pub resolver: &'a mut Resolver,
    /// The poll's.
    pub registry: &'a Registry,
    /// Knows where the UDP sockets are bound.
    pub udp: &'a Udp,
    /// The present.
    pub now: Instant,
}

/// All dials that are under way.
pub(super) struct Dialler {
    service: Service,
    options: TcpOptions,
    dials: HashMap<SessionId, Dial>,
    /// Dials whose sockets the poll has reported.
    reported: Vec<SessionId>,
    /// When dials are to be looked at, the earliest first. Each has its dial's number, for the id may have a new meaning by
    /// then.
    alarms: BinaryHeap<Reverse<(Instant, SessionId, u64)>>,
    /// How many dials have begun.
    begun: u64,
    failed: Throttle,
    /// The log has said that the system cuts the sockets' buffers.
    buffers_cut: bool,
}

impl Dialler {
    /// `known`: the addresses of `service`, as resolved at the start.
    pub(super) fn new(
        service: Option<Address>,
        known: Vec<SocketAddr>,
        options: TcpOptions,
    ) -> Dialler {
        Dialler {
            service: Service::new(service, known),
            options,
            dials: HashMap::new(),
            reported: Vec::new(),
            alarms: BinaryHeap::new(),
            begun: 0,
            failed: Throttle::default(),
            buffers_cut: false,
        }
    }

    /// From now on, sessions are connected to this service and with these options.
    pub(super) fn reload(&mut self, service: Option<Address>, options: TcpOptions) {
        self.service.reload(service);
        self.options = options;
        self.buffers_cut = false;
    }

    /// Begins to dial for a session.
    pub(super) fn start(&mut self, around: &mut Around, id: SessionId) {
        if self.service.address().is_none() {
            around.tunnel.dial_failed(around.now, id);
            return;
        }
        self.begun += 1;
        let mut dial = Dial::new(self.begun, around.now);
        self.service.ask_if_stale(around.resolver, around.now);
        dial.learn(&self.service.in_order());
        if let Some(asked) = self.service.asked {
            dial.next = asked.after(STALE_ANSWER_DELAY);
            self.alarms.push(Reverse((dial.next, id, dial.number)));
        }
        self.dials.insert(id, dial);
        self.try_next(around, id);
    }

    /// Goes on with every dial by this answer of the resolver.
    pub(super) fn answer(&mut self, around: &mut Around, answer: Answer) {
        self.service.answer(around.resolver, around.now, answer);
        let known = self.service.in_order();
        let ids: Vec<SessionId> = self.dials.keys().copied().collect();
        for id in ids {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.learn(&known);
                match dial.attempts.is_empty() {
                    true => dial.next = around.now,
                    false => self.alarms.push(Reverse((dial.next, id, dial.number))),
                }
            }
            self.try_next(around, id);
        }
    }

    /// Tries the next address if it is time to, and as long as one fails at once; gives up where nothing is left.
    fn try_next(&mut self, around: &mut Around, id: SessionId) {
        while let Some(dial) = self.dials.get_mut(&id) {
            let waits = match dial.left.is_empty() {
                true => !dial.attempts.is_empty(),
                false => around.now < dial.next,
            };
            if waits {
                return;
            }
            let Some(address) = dial.left.pop() else {
                return self.conclude(around, id);
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

    /// Every known address has failed: a dial waits for the answer of the resolver, if one is to come, or has failed.
    fn conclude(&mut self, around: &mut Around, id: SessionId) {
        if self.waits_for_name(around, id) {
            return;
        }
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        if self.service.asked.is_some() && !dial.failures.is_empty() {
            let until = around.now.after(FINAL_ANSWER_TIMEOUT);
            let until = *dial.final_answer_by.get_or_insert(until);
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
        if let (true, Some(service)) = (each.is_empty(), self.service.address()) {
            each.push(format!("{service}: its address is not known"));
        }
        self.failed.warn(
            around.now,
            format_args!("{conv:08x} cannot connect to {}", each.join("; ")),
        );
        around.tunnel.dial_failed(around.now, id);
    }

    /// Whether a dial waits for the name, of which no address is known; the resolver is asked again if it is time to.
    fn waits_for_name(&mut self, around: &mut Around, id: SessionId) -> bool {
        let (now, service) = (around.now, &mut self.service);
        let (Some(_), Some(dial)) = (service.address(), self.dials.get_mut(&id)) else {
            return false;
        };
        let until = dial.begun_at.after(UNRESOLVED_TIMEOUT);
        if !dial.failures.is_empty() || until <= now {
            return false;
        }
        if service
            .asked
            .is_some_and(|at| at.after(QUERY_TIMEOUT) <= now)
        {
            service.asked = (!around.resolver.give_up()).then_some(now);
        }
        if service.asked_last.after(QUERY_INTERVAL) <= now {
            service.ask_if_stale(around.resolver, now);
        }
        let next = match service.asked {
            Some(at) => at.after(QUERY_TIMEOUT),
            None if service.asked_last.after(QUERY_INTERVAL) > now => {
                service.asked_last.after(QUERY_INTERVAL)
            }
            None => now.after(QUERY_INTERVAL),
        };
        let next = next.min(until);
        if dial.again <= now || next < dial.again {
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
        if let Err(line) = configure(&socket, &self.options)? {
            if !std::mem::replace(&mut self.buffers_cut, true) {
                warn!("tcp: {line}");
            }
        }
        match socket.connect(&address.into()) {
            Err(e) if e.raw_os_error() != Some(errno::CONNECTING) => return Err(e),
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
        now: Instant,
        id: SessionId,
        address: SocketAddr,
        stream: TcpStream,
    ) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let until = now.after(CONNECT_TIMEOUT);
        dial.next = now.after(ATTEMPT_DELAY);
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
    pub(super) fn note(&mut self, id: SessionId) {
        if self.dials.contains_key(&id) {
            self.reported.push(id);
        }
    }

    /// Completes what the poll has spoken of, and goes on with what has taken too long.
    pub(super) fn work(&mut self, around: &mut Around) {
        while let Some(id) = self.reported.pop() {
            self.look(around, id);
        }
        while let Some(&Reverse((when, id, number))) = self.alarms.peek() {
            let current = self.is_current(id, number);
            if current && when > around.now {
                break;
            }
            self.alarms.pop();
            if current {
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
            None => self.try_next(around, id),
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
        self.service.worked(address);
        if let Err(e) = self.introduce(around, id, &mut stream) {
            self.failed.warn(
                around.now,
                format_args!(
                    "{conv:08x} cannot send the PROXY header to {address}: {}",
                    reason(&e)
                ),
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
        let bound = around.udp.local_of(local.socket);
        let to = SocketAddr::new(local.ip.unwrap_or(bound.ip()), bound.port());
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
    pub(super) fn cancel(&mut self, id: SessionId) {
        self.dials.remove(&id);
    }

    /// When `work` is due, unless the poll says something before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((when, ..))| *when)
    }
}
