//! `kcptun ping`: the sockets, the clock and the signals for what `crate::ping` decides. It has a UDP socket of its own, so
//! that a daemon with the same configuration may run meanwhile.

use super::report::{RunError, reason};
use super::resolve::resolve;
use super::socket::{self, any_of, canonical};
use super::survey;
use super::target::RENDEZVOUS;
use super::{batch, marked};
use crate::config::{Config, Endpoint, Ports};
use crate::ping::{DATAGRAM, Fault, Ping, Settings, Survey, tone};
use crate::platform::{Signal, Signals, errno, is_refusal};
use crate::settings::ForwardSecrecy;
use crate::terminal::{self, Painter};
use crate::time::Instant;
use mio::net::{TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use socket2::{Protocol, Type};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};

/// Other TCP ports at which most machines on the Internet answer or refuse: remote login and the web.
const USUAL_PORTS: [u16; 2] = [22, 443];
/// The token of the signals.
const SIGNALS: Token = Token(0);
/// The token of the UDP socket.
const UDP: Token = Token(1);
/// The token of the first TCP connection; those of the others follow.
const FIRST_TCP: usize = 2;
/// The longest datagram that is looked at whole, bytes.
const DATAGRAM_MAX: usize = 2048;
/// The most datagrams received in one turn: a flood must not keep the pings from leaving.
const DATAGRAMS_PER_TURN: usize = 64;

/// What to ping.
pub struct Options {
    /// The key of the configuration that says where.
    pub key: &'static str,
    /// The value of that key.
    pub endpoint: Endpoint,
    /// The address of this machine to send from, if it matters.
    pub from: Option<IpAddr>,
    /// TCP ports by which the host shows that it lives.
    pub tcp_ports: Vec<u16>,
    /// How packets are sealed. None: they are not.
    pub seal: Option<(crate::crypto::Method, crate::crypto::Key)>,
    /// What this end does about fresh keys.
    pub forward_secrecy: ForwardSecrecy,
    /// The size of IP packets that the configuration allows, bytes.
    pub mtu: u16,
    /// The mark of what is sent, 0 to 63.
    pub dscp: u8,
    /// None: until SIGINT or SIGTERM.
    pub count: Option<u64>,
    /// The time from one ping to the next.
    pub interval: std::time::Duration,
}

impl Options {
    /// None: the configuration names no other end.
    pub fn new(
        config: &Config,
        count: Option<u64>,
        interval: std::time::Duration,
    ) -> Option<Options> {
        let (key, endpoint) = match (&config.udp_connect, &config.rendezvous_server) {
            (Some(other), _) => ("udp_connect", other.clone()),
            (None, Some(server)) => (RENDEZVOUS, server.clone().into()),
            (None, None) => return None,
        };
        let from = config.udp_bind.as_ref().and_then(Endpoint::literal_ip);
        let seal = config.seal.as_ref();
        Some(Options {
            key,
            tcp_ports: [endpoint.ports.first()]
                .into_iter()
                .chain(USUAL_PORTS)
                .collect(),
            endpoint,
            from: from.filter(|ip| !ip.is_unspecified()),
            seal: seal.map(|seal| (seal.method, seal.key.clone())),
            forward_secrecy: config.forward_secrecy,
            mtu: config.kcp.mtu,
            dscp: config.udp.dscp,
            count,
            interval,
        })
    }
}

/// Pings, and prints to `out`, standard output, what becomes of it, until the count is reached, a signal to stop comes or the reader of `out`
/// has gone. Of several ports it says first which of them answer. True if there was an answer. Fails, with one line, if the
/// name does not resolve or the system has no socket.
pub fn run(options: Options, out: &mut dyn Write) -> Result<bool, RunError> {
    match terminal::is_coloured(&io::stdout()) {
        true => ping(options, &mut Painter::new(out, tone)),
        false => ping(options, out),
    }
}

fn ping(options: Options, out: &mut dyn Write) -> Result<bool, RunError> {
    let (socket, mut at, fault) = connect(&options)?;
    let no_poll = |e: io::Error| RunError::new(format!("cannot wait for answers: {}", reason(&e)));
    let mut poll = Poll::new().map_err(no_poll)?;
    let mut signals = Signals::new(poll.registry(), SIGNALS).map_err(no_poll)?;
    let mut answered = None;
    if options.endpoint.ports.are_many() && fault.is_none() {
        let around = (&mut poll, UDP);
        let (ports, stopped) = survey_ports(&options, at, &mut signals, around, out)?;
        if stopped {
            return Ok(ports.is_some());
        }
        at.set_port(ports.as_ref().map_or(at.port(), Ports::first));
        socket.connect(at).map_err(no_poll)?;
        answered = ports;
    }
    let settings = Settings {
        name: options.endpoint.at(at.port()).to_string(),
        at,
        meets: options.key == RENDEZVOUS,
        seal: options.seal,
        fresh: Some((options.forward_secrecy, rand::random::<[u8; 32]>().into())),
        count: options.count,
        interval: options.interval.into(),
        first: rand::random(),
        seed: rand::random(),
        mtu: usize::from(options.mtu),
    };
    let mut socket = UdpSocket::from_std(socket);
    poll.registry()
        .register(&mut socket, UDP, Interest::READABLE)
        .map_err(no_poll)?;
    let tcp_places = options.tcp_ports.iter();
    let mut this = Pinging {
        ping: Ping::new(settings, Instant::ZERO),
        socket,
        no_way: fault,
        signals,
        poll,
        epoch: std::time::Instant::now(),
        tcp: Vec::new(),
        tcp_places: tcp_places
            .map(|port| SocketAddr::new(at.ip(), *port))
            .collect(),
    };
    let done = this.work(out).and_then(|()| this.summary(out));
    printed(done)?;
    Ok(this.ping.is_answered() || answered.is_some())
}

/// An output whose reader has gone is no error.
fn printed(done: io::Result<()>) -> Result<(), RunError> {
    match done {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(RunError::new(format!("ping: {}", reason(&e))))
        }
        _ => Ok(()),
    }
}

/// Finds out which of the configured ports answer at this host, and prints that. Returns them, if any do, and whether a
/// signal has come to stop.
fn survey_ports(
    options: &Options,
    host: SocketAddr,
    signals: &mut Signals,
    around: (&mut Poll, Token),
    out: &mut dyn Write,
) -> Result<(Option<Ports>, bool), RunError> {
    let (ports, seal) = (&options.endpoint.ports, options.seal.as_ref());
    let mut survey = Survey::new(ports, seal, rand::random(), rand::random(), Instant::ZERO);
    let from = options.from.filter(|ip| ip.is_ipv4() == host.is_ipv4());
    let stopped = survey::run(&mut survey, host, (from, options.dscp), signals, around)
        .map_err(|e| RunError::new(format!("ping: {}", reason(&e))))?;
    let mut lines = vec![format!(
        "the ports of {} ({}):",
        options.endpoint,
        host.ip()
    )];
    lines.extend(survey.lines());
    printed(writeln!(out, "{}", lines.join("\n")).and_then(|()| out.flush()))?;
    Ok((survey.answering(), stopped))
}

/// A socket for the first of the name's addresses to which there is a way; without any, for the first, and why.
fn connect(
    options: &Options,
) -> Result<(std::net::UdpSocket, SocketAddr, Option<Fault>), RunError> {
    let (key, address) = (options.key, options.endpoint.first());
    let places = resolve(&address)
        .map_err(|e| {
            RunError::new(format!(
                "{key}: cannot resolve {address}: {}; is the name in {key} right, and is this machine online?",
                reason(&e)
            ))
        })?;
    let mut without = None;
    for at in places.into_iter().map(canonical) {
        let from = options.from.filter(|ip| ip.is_ipv4() == at.is_ipv4());
        let local = SocketAddr::new(from.unwrap_or(any_of(&at)), 0);
        let bound = || {
            let socket = socket::new(local, Type::DGRAM, Protocol::UDP)?;
            socket.bind(&local.into())?;
            // without it large packets would arrive in pieces
            batch::forbid_fragments(&socket)?;
            if options.dscp > 0 {
                marked::mark(&socket, options.dscp)?;
            }
            Ok(socket)
        };
        let socket = match bound() {
            Ok(socket) => socket,
            Err(e) if socket::lacks_ipv6(&e) && at.is_ipv6() => continue,
            Err(e) => {
                let why = reason(&e);
                return Err(RunError::new(format!("ping: cannot bind {local}: {why}")));
            }
        };
        match socket.connect(&at.into()) {
            Ok(()) => return Ok((socket.into(), at, None)),
            Err(e) => {
                without.get_or_insert((socket.into(), at, Some(fault(&e))));
            }
        }
    }
    without.ok_or_else(|| {
        RunError::new(format!(
            "{key}: {address} has addresses of IPv6 only, and this machine has none"
        ))
    })
}

struct Pinging {
    ping: Ping,
    socket: UdpSocket,
    /// Why the socket could not be connected; nothing can be sent then.
    no_way: Option<Fault>,
    signals: Signals,
    poll: Poll,
    epoch: std::time::Instant,
    tcp: Vec<TcpStream>,
    tcp_places: Vec<SocketAddr>,
}

impl Pinging {
    fn work(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        loop {
            self.receive()?;
            let now = self.now();
            self.ping.look(now);
            self.send(now)?;
            if self.ping.asks_host(now) {
                self.ask_host();
            }
            while let Some(line) = self.ping.line() {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            if self.ping.is_over(now) {
                return Ok(());
            }
            let span = self.ping.deadline().since(self.now()).into();
            match self.poll.poll(&mut events, Some(span)) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    SIGNALS => self.signals.note(),
                    UDP => {}
                    Token(tcp) => self.hear_host(tcp - FIRST_TCP),
                }
            }
            if self.signals.take() == Some(Signal::Stop) {
                self.ping.stop(self.now());
            }
        }
    }

    fn summary(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in self.ping.summary(self.now()) {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buf = [0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.socket.recv(&mut buf) {
                Ok(n) => self.ping.receive(self.now(), &buf[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // nothing is connected, so nothing can come
                Err(_) if self.no_way.is_some() => return Ok(()),
                Err(e) => self.ping.on_fault(self.now(), fault(&e)),
            }
        }
        // the poll reports only what is new
        let registry = self.poll.registry();
        registry.reregister(&mut self.socket, UDP, Interest::READABLE)
    }

    fn send(&mut self, now: Instant) -> io::Result<()> {
        let mut buf = [0; DATAGRAM];
        while let Some(len) = self.ping.transmit(now, &mut buf) {
            if let Some(fault) = &self.no_way {
                self.ping.on_fault(now, fault.clone());
                continue;
            }
            let mut sent = self.socket.send(&buf[..len]);
            if sent.as_ref().is_err_and(|e| fault(e) == Fault::Refused) {
                // what came back for an earlier one; this one has not left
                sent = self.socket.send(&buf[..len]);
            }
            match sent {
                // one that asks whether its size is possible
                Err(e) if e.raw_os_error() == Some(errno::EMSGSIZE) => {}
                // without room it is lost, as on the path
                Err(e) if e.kind() != ErrorKind::WouldBlock => self.ping.on_fault(now, fault(&e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins a TCP connection to each of the places: it does not matter whether it is taken or refused.
    fn ask_host(&mut self) {
        for place in &self.tcp_places {
            match TcpStream::connect(*place) {
                Ok(mut stream) => {
                    let token = Token(FIRST_TCP + self.tcp.len());
                    let interest = Interest::WRITABLE;
                    if self
                        .poll
                        .registry()
                        .register(&mut stream, token, interest)
                        .is_ok()
                    {
                        self.tcp.push(stream);
                    }
                }
                Err(e) if fault(&e) == Fault::Refused => self.ping.on_host_lives(),
                Err(_) => {}
            }
        }
    }

    fn hear_host(&mut self, number: usize) {
        let Some(stream) = self.tcp.get(number) else {
            return;
        };
        let lives = match stream.take_error() {
            Ok(None) => stream.peer_addr().is_ok(),
            Ok(Some(e)) => fault(&e) == Fault::Refused,
            Err(_) => false,
        };
        if lives {
            self.ping.on_host_lives();
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.epoch.elapsed().as_micros() as u64)
    }
}

/// What an error of a connected socket says of the way.
fn fault(error: &io::Error) -> Fault {
    match error.kind() {
        _ if is_refusal(error) => Fault::Refused,
        _ if error.raw_os_error() == Some(errno::EHOSTDOWN) => Fault::NoRoute,
        ErrorKind::HostUnreachable => Fault::NoRoute,
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable => {
            Fault::NoNetwork
        }
        // what Linux says of packets that its own rules drop
        ErrorKind::PermissionDenied => Fault::Forbidden,
        _ => Fault::Other(reason(error)),
    }
}
