//! The event loop: the only part of the program, but for its log, that touches sockets and the clock. It moves bytes
//! between sockets and the `Tunnel`, which decides everything; `Loop::turn` is the order in which that happens.
//!
//! Each source of events has a file: `listen` and `tcp` (the local side; `early` while there is no peer), `dial` (towards the
//! service), `udp`, `sockets` and `batch` (the other end), `http` (statistics) and `resolve` (names). `start` binds what is
//! configured, `reload` changes the configuration, `network` and `target` follow changes of the network. `clock`, `socket`,
//! `marked` and `report` help them; `notify` tells the service manager. Apart from the loop there are the commands `ping` (with
//! `survey`) and `stats`, and what `kcptun init` asks of the system (`place`). What a system does in its own way is in
//! `platform`.

mod batch;
mod clock;
mod dial;
mod early;
pub mod http;
mod listen;
mod marked;
mod network;
mod notify;
pub mod ping;
pub mod place;
mod reload;
mod report;
mod resolve;
mod socket;
mod sockets;
mod start;
pub mod stats;
mod survey;
mod target;
mod tcp;
mod token;
mod udp;

pub use reload::Reread;
pub use report::RunError;
pub use resolve::Lookup;

use crate::config::{Address, Config, Endpoint, Ports, TcpOptions, UdpOptions, User};
use crate::http::Site;
use crate::number::count;
use crate::platform::{self, NetworkNews, Signal, Signals};
use crate::settings::Settings;
use crate::time::{Duration, Instant};
use crate::tunnel::{Event, Refused, SessionId, Tunnel};
use clock::Clock;
use dial::{Around, Dialler};
use early::Early;
use http::Http;
use listen::Listener;
use log::{Level, debug, info, log, warn};
use mio::net::TcpStream;
use mio::{Events, Poll, Registry, Token, Waker};
use network::Network;
use notify::Notify;
use report::{Throttle, reason};
use resolve::Resolver;
use socket::canonical;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use target::Target;
use tcp::{Connections, register, reset};
use token::{ANSWERS, FIRST_LISTENER, FIRST_SESSION, FIRST_UDP, NETWORK, SIGNALS};
use udp::Udp;

/// What the loop works on.
#[derive(Default)]
pub struct Options {
    /// TCP is accepted here, and carried to the other end.
    pub listen: Option<Address>,
    /// TCP that the other end accepted is carried to here.
    pub connect: Option<Address>,
    /// UDP is received here; at least one of this, `udp_connect` and `rendezvous_server` is needed.
    pub udp_bind: Option<Endpoint>,
    /// The other end's UDP address.
    pub udp_connect: Option<Endpoint>,
    /// Where the other end is found, instead of `udp_connect`; by what, `settings` say.
    pub rendezvous_server: Option<Address>,
    /// Options of TCP sockets.
    pub tcp: TcpOptions,
    /// Options of the UDP sockets.
    pub udp: UdpOptions,
    /// The user to become after the sockets are bound.
    pub user: Option<User>,
    /// Where HTTP is answered, if it is.
    pub http: Option<http::Options>,
    /// What the tunnel works by.
    pub settings: Settings,
    /// How the configuration is read again after SIGHUP. None: it is not.
    pub reread: Option<Reread>,
    /// How names of others are resolved. None: as the system does.
    pub lookup: Option<Lookup>,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Options {
        Options {
            listen: config.listen.clone(),
            connect: config.connect.clone(),
            udp_bind: config.udp_bind.clone(),
            udp_connect: config.udp_connect.clone(),
            rendezvous_server: config.rendezvous_server.clone(),
            tcp: config.tcp.clone(),
            udp: config.udp.clone(),
            user: config.user.clone(),
            http: config.http_listen.as_ref().map(|listen| http::Options {
                listen: listen.clone(),
                site: Site::new(config, listen),
            }),
            settings: config.settings(),
            reread: None,
            lookup: None,
        }
    }
}

/// With fewer files than this a tunnel of many users may meet the limit: each session takes one.
const MANY_FILES: u64 = 8192;
/// The most events taken from one poll; the rest come with the next.
const EVENTS_PER_TURN: usize = 1024;
/// The most connections accepted from a listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// The most bytes moved between TCP and the tunnel in one turn: about as long as a full batch of UDP takes.
const TCP_BYTES_PER_TURN: usize = 1024 * 1024;
/// The shortest sleep while the UDP socket has no room: the tunnel's deadline may be one that only
/// sending moves. Room ends the sleep earlier.
const BLOCKED_SLEEP_MIN: Duration = Duration::from_millis(10);
/// The longest sleep before a deadline is looked at again: the poll's own limit is 24 days.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// The number of sessions whose memory is worth giving back when most of them are gone.
const CROWD: usize = 1000;
/// How long the last datagrams may take to leave after the tunnel was shut down.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(300);

/// Binds what is configured, drops privileges and carries connections until SIGTERM or SIGINT.
///
/// Fails if a name to bind does not resolve, an address cannot be bound, the user cannot be changed to, or the system has
/// nothing to poll with; the error is one line that names the key, the value and the reason. `ready` is called once,
/// when everything that can fail at the start is done.
pub fn run(options: Options, ready: impl FnOnce() -> io::Result<()>) -> Result<(), RunError> {
    let mut this = Loop::start(options)?;
    ready().map_err(|e| RunError::new(format!("cannot go into the background: {}", reason(&e))))?;
    this.notify.ready();
    while this.turn()? {}
    this.farewell()
}

/// What to say of the number of files that the system lets this process open.
fn open_files(limit: u64) -> (Level, String) {
    match limit < MANY_FILES {
        true => (
            Level::Info,
            format!(
                "the system allows {limit} open files, and so fewer sessions than that (LimitNOFILE or ulimit -n sets the limit)"
            ),
        ),
        false => (Level::Debug, format!("up to {limit} open files")),
    }
}

/// Raises the limit of open files, and says in the log what it is.
fn raise_file_limit() {
    match platform::raise_file_limit() {
        Ok(limit) => {
            let (level, line) = open_files(limit);
            log!(level, "{line}");
        }
        Err(e) => warn!("cannot raise the limit of open files: {}", reason(&e)),
    }
}

/// Becomes the configured user, if one is.
fn become_user(options: &Options) -> Result<(), RunError> {
    let Some(user) = &options.user else {
        return Ok(());
    };
    platform::drop_privileges(&user.user, user.group.as_deref())
        .map_err(|e| RunError::new(format!("user: {user}: {e}")))?;
    info!("running as {user}");
    Ok(())
}

/// Registers the sockets that are bound with the poll.
fn register_all(
    registry: &Registry,
    udp: &mut Udp,
    listeners: &mut [Listener],
    http: Option<&mut Http>,
) -> io::Result<()> {
    udp.register(registry)?;
    for (number, listener) in listeners.iter_mut().enumerate() {
        listener.register(registry, Token(FIRST_LISTENER + number))?;
    }
    http.map_or(Ok(()), |http| http.register(registry))
}

/// Everything that the process holds.
struct Loop {
    poll: Poll,
    events: Events,
    epoch: Clock,
    signals: Signals,
    resolver: Resolver,
    discovery: Discovery,
    reread: Option<Reread>,
    rebinding: Rebinding,
    tcp: Tcp,
    udp: Udp,
    tunnel: Tunnel,
    http: Option<Http>,
    /// Something is left to do that no event will announce.
    unfinished: bool,
    notify: Notify,
    /// The most sessions since memory was last given back.
    crowd: usize,
}

/// How the other end is found.
struct Discovery {
    /// Resolves the name in `target`; apart from the loop's, so that the service's name does not wait for it.
    names: Resolver,
    target: Option<Target>,
    /// The ports of `udp_connect`.
    ports: Option<Ports>,
    /// The rendezvous server's address.
    rendezvous: Option<SocketAddr>,
    network: Network,
    news: Option<NetworkNews>,
}

impl Discovery {
    fn new(names: Resolver, target: Option<Target>, ports: Option<Ports>) -> Discovery {
        Discovery {
            names,
            target,
            ports,
            rendezvous: None,
            network: Network::default(),
            news: NetworkNews::open(),
        }
    }
}

/// What new UDP sockets are made by, and whether packets are sealed.
struct Rebinding {
    bind: Option<Endpoint>,
    options: UdpOptions,
    sealed: bool,
}

/// The TCP sockets.
struct Tcp {
    listeners: Vec<Listener>,
    connections: Connections,
    early: Early<(TcpStream, SocketAddr)>,
    dialler: Dialler,
    /// Lines of the log on connections that were refused.
    refused: Throttle,
}

impl Tcp {
    fn new(listeners: Vec<Listener>, dialler: Dialler) -> Tcp {
        Tcp {
            listeners,
            connections: Connections::default(),
            early: Early::default(),
            dialler,
            refused: Throttle::default(),
        }
    }
}

impl Loop {
    fn start(options: Options) -> Result<Loop, RunError> {
        raise_file_limit();
        let known = start::service(&options);
        let mut listeners = start::listeners(&options)?;
        let (mut udp, peer, known_peers) = start::udp(&options)?;
        let (key, name) = start::target(&options);
        if options.udp_bind.is_none() {
            udp.make_more(0, options.udp.clone());
        }
        if name.is_some() {
            udp.hear_refusals();
        }
        let comes = options.connect.is_some() && name.is_none();
        let target = Target::new(key, name.as_ref(), known_peers);
        let http_listeners = start::http_listeners(&options)?;
        become_user(&options)?;

        let no_poll =
            |e: io::Error| RunError::new(format!("cannot set up the event loop: {}", reason(&e)));
        let poll = Poll::new().map_err(no_poll)?;
        let registry = poll.registry();
        let signals = Signals::new(registry, SIGNALS).map_err(no_poll)?;
        let waker = Arc::new(Waker::new(registry, ANSWERS).map_err(no_poll)?);
        let lookup = options.lookup.unwrap_or(resolve::resolve);
        let resolver = Resolver::new(waker.clone()).by(lookup);
        let names = Resolver::new(waker).by(lookup);
        let mut http = options
            .http
            .map(|http| Http::new(http_listeners, http.site, Instant::ZERO));
        register_all(registry, &mut udp, &mut listeners, http.as_mut()).map_err(no_poll)?;
        let meets = options.rendezvous_server.is_some();
        let ports = options.udp_connect.map(|other| other.ports);
        let mut this = Loop {
            events: Events::with_capacity(EVENTS_PER_TURN),
            epoch: Clock::start(),
            signals,
            resolver,
            discovery: Discovery::new(names, target, ports),
            reread: options.reread,
            rebinding: Rebinding {
                bind: options.udp_bind,
                options: options.udp,
                sealed: options.settings.sealing.is_some(),
            },
            tcp: Tcp::new(listeners, Dialler::new(options.connect, known, options.tcp)),
            udp,
            tunnel: Tunnel::new(options.settings, Instant::ZERO),
            http,
            unfinished: true,
            notify: Notify::from_environment(),
            crowd: 0,
            poll,
        };
        this.hear_of_network().map_err(no_poll)?;
        this.set_out(peer, meets);
        if comes {
            info!("waits for the other end, whose udp_connect must name this one");
        }
        Ok(this)
    }

    /// The system's word that routes have changed is an event of the poll.
    fn hear_of_network(&mut self) -> io::Result<()> {
        match &mut self.discovery.news {
            Some(news) => news.register(self.poll.registry(), NETWORK),
            None => Ok(()),
        }
    }

    /// Begins with the address of the other end, or of the rendezvous server if they `meet` there. None: it is not known yet.
    fn set_out(&mut self, address: Option<SocketAddr>, meet: bool) {
        match address {
            Some(server) if meet => self.meet_through(Instant::ZERO, server),
            Some(peer) => self.carry_to(Instant::ZERO, peer),
            None => {}
        }
    }

    /// One turn of the loop, in the order that a byte takes. False after a signal to stop.
    fn turn(&mut self) -> Result<bool, RunError> {
        self.wait(self.timeout())?;
        let began = self.now();
        let now = began;
        self.notify.turned(now, self.tunnel.sessions());
        while let Some(signal) = self.signals.take() {
            match signal {
                Signal::Stop => return Ok(false),
                Signal::Reload => {
                    self.notify.reloading();
                    self.reload(now);
                    self.notify.ready();
                }
            }
        }

        self.follow(now);
        // UDP socket → packet → session table → KCP → session
        self.udp.receive(&mut self.tunnel, now);
        if self.tunnel.poll_timeout().is_some_and(|due| due <= now) {
            self.tunnel.handle_timeout(now);
        }
        // session ↔ TCP socket
        self.dial(now);
        self.accept(now);
        self.carry(now);
        // KCP → rate → packet → UDP socket
        let now = self.now();
        let more = self.udp.send(&mut self.tunnel, now, self.poll.registry());

        self.handle_events(now);
        self.shrink_after_crowd();
        self.unfinished = more || self.udp.is_readable() || self.tcp.connections.has_work();
        self.show(began, now);
        Ok(true)
    }

    /// Gives back the memory of thousands of sessions once they are gone.
    fn shrink_after_crowd(&mut self) {
        let sessions = self.tunnel.sessions();
        self.crowd = self.crowd.max(sessions);
        if self.crowd >= CROWD && sessions < self.crowd / 8 {
            self.crowd = sessions;
            self.tunnel.shrink();
            platform::give_memory_back();
        }
    }

    /// Answers requests over HTTP, and notes how long the turn that `began` at this time has taken.
    fn show(&mut self, began: Instant, now: Instant) {
        let Some(http) = &mut self.http else { return };
        http.work(&self.tunnel, self.poll.registry(), now);
        let ended = Instant::from_micros(self.epoch.elapsed().as_micros() as u64);
        http.record_turn(ended.since(began), ended);
    }

    /// Does what the tunnel asks for, until it asks for nothing more.
    fn handle_events(&mut self, now: Instant) {
        while let Some(event) = self.tunnel.poll() {
            match event {
                Event::Dial(id) => {
                    let (dialler, mut around) = self.dialling(now);
                    dialler.start(&mut around, id);
                }
                Event::Readable(id) | Event::Writable(id) => self.tcp.connections.mark(id),
                Event::Close { id, abort } => {
                    if !self.tcp.connections.close(id, abort) {
                        self.tcp.dialler.cancel(id);
                    }
                }
            }
        }
    }

    /// Goes on with the connections to the service that are not established yet.
    fn dial(&mut self, now: Instant) {
        // What the tunnel has given up is not gone on with.
        self.handle_events(now);
        let (dialler, mut around) = self.dialling(now);
        while let Some(answer) = around.resolver.answer() {
            dialler.answer(&mut around, answer);
        }
        dialler.work(&mut around);
    }

    fn accept(&mut self, now: Instant) {
        for number in 0..self.tcp.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                match self.tcp.listeners[number].accept(now) {
                    Some((stream, from)) => self.open(now, stream, from),
                    None => break,
                }
            }
        }
        self.open_early(now);
    }

    /// Opens sessions for the connections that were accepted before the peer was known, or resets those that have waited too
    /// long.
    fn open_early(&mut self, now: Instant) {
        while self.tunnel.takes_sessions() {
            let Some((stream, from)) = self.tcp.early.take() else {
                break;
            };
            self.open(now, stream, from);
        }
        while let Some((stream, from)) = self.tcp.early.expire(now) {
            let why = match self.tunnel.peer() {
                Some(_) => {
                    "there are no fresh keys with the other end, and forward_secrecy asks for them"
                }
                None => "the other end's address is not known",
            };
            self.refuse(now, stream, from, why);
        }
    }

    fn refuse(&mut self, now: Instant, stream: TcpStream, from: SocketAddr, why: &str) {
        self.tcp.refused.warn(
            now,
            format_args!("a connection from {} was refused: {why}", canonical(from)),
        );
        reset(stream);
    }

    /// Opens a session for an accepted connection, or has it wait for the peer's address, or resets it.
    fn open(&mut self, now: Instant, mut stream: TcpStream, from: SocketAddr) {
        // Its id may be one that was closed: that connection has to go first.
        self.handle_events(now);
        match self.tunnel.open(now) {
            Ok(id) => {
                self.discovery.network.watch(now);
                let conv = self.tunnel.conv(id).unwrap_or(0);
                self.tunnel.set_client(id, canonical(from));
                debug!("{conv:08x} accepted from {}", canonical(from));
                if let Err(e) = register(self.poll.registry(), &mut stream, id) {
                    self.tcp.refused.warn(
                        now,
                        format_args!("{conv:08x} cannot be polled: {}", reason(&e)),
                    );
                    reset(stream);
                    self.tunnel.broken(now, id);
                    return;
                }
                self.tcp.connections.insert(id, conv, stream);
            }
            Err(Refused::Full) => self.refuse(now, stream, from, "there are too many already"),
            Err(Refused::NoFreshKeys) => {
                if let Err((stream, from)) = self.tcp.early.put(now, (stream, from)) {
                    let why =
                        "there are no fresh keys with the other end, and too many wait for them";
                    self.refuse(now, stream, from, why);
                }
            }
            Err(Refused::NoPeer) => {
                self.resolve_now();
                self.tunnel.seek_peer(now);
                if let Err((stream, from)) = self.tcp.early.put(now, (stream, from)) {
                    let why = "the other end's address is not known, and too many wait for it";
                    self.refuse(now, stream, from, why);
                }
            }
        }
    }

    /// Moves bytes between TCP and the tunnel, until there is nothing to move or the turn's budget is spent.
    fn carry(&mut self, now: Instant) {
        let mut budget = TCP_BYTES_PER_TURN;
        self.handle_events(now);
        while budget > 0 && self.tcp.connections.has_work() {
            self.tcp
                .connections
                .work(&mut self.tunnel, now, &mut budget);
            self.handle_events(now);
        }
    }

    fn dialling(&mut self, now: Instant) -> (&mut Dialler, Around<'_>) {
        let around = Around {
            tunnel: &mut self.tunnel,
            connections: &mut self.tcp.connections,
            resolver: &mut self.resolver,
            registry: self.poll.registry(),
            udp: &self.udp,
            now,
        };
        (&mut self.tcp.dialler, around)
    }

    /// Tells the other ends that this one stops, and gives the last datagrams a moment to leave.
    fn farewell(mut self) -> Result<(), RunError> {
        let mut now = self.now();
        let end = now.after(FAREWELL_TIMEOUT);
        match self.tunnel.sessions() {
            0 => info!("stopping"),
            sessions => info!("stopping, which ends {}", count(sessions, "session")),
        }
        self.notify.stopping();
        self.tcp.listeners.clear();
        self.tunnel.shutdown(now);
        self.handle_events(now);
        while now < end {
            let more = self.udp.send(&mut self.tunnel, now, self.poll.registry());
            self.handle_events(now);
            let until = match self.tunnel.poll_timeout() {
                _ if more => now,
                _ if self.udp.is_blocked() => end,
                Some(due) if due < end && !self.tunnel.is_quiet() => due,
                _ => break,
            };
            self.wait(Some(until.since(now).into()))?;
            if self.signals.take() == Some(Signal::Stop) {
                info!("stopping at once");
                break;
            }
            now = self.now();
            self.tunnel.handle_timeout(now);
        }
        Ok(())
    }

    /// Sleeps until something happens, and notes what it was. The caller acts on it.
    fn wait(&mut self, timeout: Option<std::time::Duration>) -> Result<(), RunError> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() != ErrorKind::Interrupted => {
                return Err(RunError::new(format!(
                    "cannot wait for events: {}",
                    reason(&e)
                )));
            }
            _ => (),
        }
        for event in &self.events {
            match event.token() {
                SIGNALS => self.signals.note(),
                // The channel they come through is looked at in every turn.
                ANSWERS => (),
                NETWORK => {
                    if let Some(news) = &mut self.discovery.news {
                        news.note();
                    }
                }
                _ if self.udp.note(event, self.poll.registry()) => (),
                _ if self.http.as_mut().is_some_and(|http| http.note(event)) => (),
                Token(number) if number < FIRST_UDP => {
                    if let Some(listener) = self.tcp.listeners.get_mut(number - FIRST_LISTENER) {
                        listener.note();
                    }
                }
                Token(number) => {
                    let id = SessionId((number - FIRST_SESSION) as u32);
                    if !self.tcp.connections.note(id, event) {
                        self.tcp.dialler.note(id);
                    }
                }
            }
        }
        Ok(())
    }

    /// How long there is nothing to do unless an event comes. None: forever.
    fn timeout(&self) -> Option<std::time::Duration> {
        if self.unfinished {
            return Some(std::time::Duration::ZERO);
        }
        let listeners = self.tcp.listeners.iter().filter_map(Listener::due);
        let others = self
            .tunnel
            .poll_timeout()
            .into_iter()
            .chain(self.tcp.dialler.due());
        let others = others.chain(self.http.as_ref().map(Http::due));
        let others = others.chain(self.follow_at()).chain(self.tcp.early.due());
        let others = others.chain(self.notify.due()).chain(self.udp.due());
        let span = listeners.chain(others).min()?.since(self.now());
        let least = if self.udp.is_blocked() {
            BLOCKED_SLEEP_MIN
        } else {
            Duration::ZERO
        };
        Some(span.clamp(least, SLEEP_MAX).into())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.epoch.elapsed().as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Says that something was not tried, past the capture of the test's output.
    pub(super) fn skipped(why: &str) {
        let _ = writeln!(io::stderr(), "skipped: {why}");
    }

    #[test]
    fn a_limit_of_open_files_is_worth_a_line_where_it_is_low() {
        for (limit, expected) in [
            (1024, Level::Info),
            (MANY_FILES - 1, Level::Info),
            (MANY_FILES, Level::Debug),
            (1 << 20, Level::Debug),
        ] {
            let (level, line) = open_files(limit);
            assert_eq!(level, expected, "{line}");
            assert!(line.contains(&limit.to_string()), "{line}");
        }
    }
}
