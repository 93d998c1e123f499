//! TCP listeners: binding them and accepting from them, also when there are no file descriptors left.
//!
//! What becomes of an accepted connection is `tcp`'s; which addresses are bound is decided in `start`.

use super::report::{Throttle, reason};
use super::socket::{self, Buffers};
use super::tcp::reset;
use crate::config::TcpOptions;
use crate::platform::{self, Reserve, errno};
use crate::time::{Duration, Instant};
use log::{info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The most connections that wait in the kernel to be accepted; the system may allow fewer (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// The probes without an answer after which a silent program is taken for gone.
const KEEPALIVE_PROBES: u32 = 4;
/// The time from one probe to the next.
const KEEPALIVE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(15);
/// How long a listener rests after an error that would otherwise repeat at once.
const REST_AFTER_ERROR: Duration = Duration::from_millis(100);
/// The most errors, or connections turned away, on the way to one that is accepted.
const ERRORS_PER_ACCEPT: usize = 64;

/// A socket that accepts TCP connections.
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    /// This machine does not have the address yet.
    early: bool,
    readable: bool,
    /// When to try to accept again.
    rests_until: Instant,
    /// What is held back, to accept and reset a connection when there is no other descriptor.
    reserve: Option<Reserve>,
    exhausted: Throttle,
    failed: Throttle,
}

impl Listener {
    /// Binds `address` and listens, with these options.
    pub fn bind(address: SocketAddr, options: &TcpOptions) -> io::Result<Listener> {
        let socket = socket::new(address, Type::STREAM, Protocol::TCP)?;
        platform::claim_port(&socket, true)?;
        if options.reuseport {
            platform::share_port(&socket)?;
        }
        // What it accepts inherits these.
        if let Err(line) = configure(&socket, options)? {
            warn!("tcp: {line}");
        }
        let early = socket::bind_or_wait(&socket, address)?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into());
        Ok(Listener {
            local: socket.local_addr()?,
            socket,
            early,
            readable: true,
            rests_until: Instant::ZERO,
            reserve: Reserve::hold(),
            exhausted: Throttle::default(),
            failed: Throttle::default(),
        })
    }

    /// The address that the socket is bound to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Says in the log where the socket listens, or that this machine does not have the address that the key names. `what`: the
    /// beginning of the line, up to the address; `end`: what follows it.
    pub(super) fn tell(&self, key: &str, what: &str, end: &str) {
        match self.early {
            true => socket::warn_of_early(key, self.local),
            false => info!("{what}{}{end}", self.local),
        }
    }

    /// Registers the socket with the poll.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Connections accepted from now on have these options. Options that cannot change are ignored.
    pub fn reload(&self, options: &TcpOptions) {
        let line = match configure(&SockRef::from(&self.socket), options) {
            Ok(Ok(())) => return,
            Ok(Err(line)) => line,
            Err(e) => reason(&e),
        };
        warn!("tcp: {line}");
    }

    /// Notes that the poll said something of this socket.
    pub fn note(&mut self) {
        self.readable = true;
    }

    /// When there may be a connection to accept. None: the poll will say.
    pub fn due(&self) -> Option<Instant> {
        self.readable.then_some(self.rests_until)
    }

    /// The next connection; None if there is none, or the listener rests.
    pub fn accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        for _ in 0..ERRORS_PER_ACCEPT {
            if !self.readable || self.rests_until > now {
                break;
            }
            match self.socket.accept() {
                Ok(accepted) => return Some(accepted),
                Err(e) => self.survive(now, &e),
            }
        }
        None
    }

    fn survive(&mut self, now: Instant, error: &io::Error) {
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::WouldBlock, _) => self.readable = false,
            // The connection was gone before it was accepted, see accept(2): on to the next.
            (
                ErrorKind::Interrupted
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::NetworkDown
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable,
                _,
            )
            | (_, Some(errno::EPROTO | errno::EHOSTDOWN)) => (),
            (_, Some(errno::EMFILE | errno::ENFILE)) => self.turn_away(now, error),
            _ => {
                self.rests_until = now.after(REST_AFTER_ERROR);
                self.failed.warn(
                    now,
                    format_args!("listen: cannot accept: {}", reason(error)),
                );
            }
        }
    }

    /// Resets the next connection, so that its client knows at once, with the descriptor held for this.
    fn turn_away(&mut self, now: Instant, error: &io::Error) {
        self.reserve = None;
        match self.socket.accept() {
            Ok((stream, _)) => {
                reset(stream);
                self.exhausted.warn(
                    now,
                    format_args!("listen: a connection was refused: {}", reason(error)),
                );
            }
            // Linux looks for a descriptor before it looks for a connection: there was none to refuse.
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(_) => self.rests_until = now.after(REST_AFTER_ERROR),
        }
        self.reserve = Reserve::hold();
    }
}

/// Sets the options of a TCP socket before it listens or connects. The inner error is a warning on its buffers.
pub(super) fn configure(socket: &Socket, options: &TcpOptions) -> io::Result<Result<(), String>> {
    socket.set_tcp_nodelay(options.nodelay)?;
    socket.set_keepalive(options.keepalive > 0)?;
    if options.keepalive > 0 {
        // TCP_USER_TIMEOUT has no part in it: it also ends connections whose reader has only paused
        let keepalive = TcpKeepalive::new()
            .with_time(std::time::Duration::from_secs(options.keepalive.into()))
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    let buffers = Buffers {
        send: options.sndbuf as usize,
        receive: options.rcvbuf as usize,
    };
    Ok(buffers.apply(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream as StdTcpStream;

    fn listener(options: &TcpOptions) -> Listener {
        let any = "127.0.0.1:0".parse().expect("address");
        Listener::bind(any, options).expect("bind")
    }

    #[test]
    fn accepted_connections_have_the_options() {
        let options = TcpOptions {
            nodelay: true,
            keepalive: 77,
            rcvbuf: 50_000,
            ..TcpOptions::default()
        };
        let mut listener = listener(&options);
        let _client = StdTcpStream::connect(listener.local()).expect("connect");
        let (stream, _) = listener.accept(Instant::ZERO).expect("accept");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("option"));
        assert!(socket.keepalive().expect("option"));
        // where the system tells: the time to the first probe, and that of all
        let times = platform::testing::keepalive(&socket);
        let seconds = std::time::Duration::from_secs;
        assert!(times.is_none_or(|times| times == (seconds(77), seconds(60))));
        assert_eq!(
            socket.recv_buffer_size().expect("option"),
            50_000 * platform::BUFFER_FACTOR
        );
    }

    #[test]
    fn it_waits_for_the_poll_when_there_is_nothing_more() {
        let mut listener = listener(&TcpOptions::default());
        assert_eq!(listener.due(), Some(Instant::ZERO));
        assert!(listener.accept(Instant::ZERO).is_none());
        assert_eq!(listener.due(), None);
        listener.note();
        assert_eq!(listener.due(), Some(Instant::ZERO));
    }

    #[test]
    fn without_descriptors_a_connection_is_reset() {
        let mut listener = listener(&TcpOptions::default());
        let mut client = StdTcpStream::connect(listener.local()).expect("connect");
        listener.survive(Instant::ZERO, &io::Error::from_raw_os_error(errno::EMFILE));
        let error = client.read(&mut [0; 8]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(listener.reserve.is_some(), Reserve::hold().is_some());
        assert!(listener.due().is_some_and(|due| due == Instant::ZERO));
    }

    #[test]
    fn an_error_that_would_repeat_makes_it_rest() {
        let mut listener = listener(&TcpOptions::default());
        let _client = StdTcpStream::connect(listener.local()).expect("connect");
        listener.survive(Instant::ZERO, &io::Error::other("no buffers"));
        assert!(listener.accept(Instant::ZERO).is_none());
        let later = listener.due().expect("a time");
        assert_eq!(later, Instant::from_millis(100));
        assert!(listener.accept(later).is_some());
    }
}
