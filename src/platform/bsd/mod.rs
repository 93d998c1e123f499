//! What macOS, FreeBSD and their relatives do otherwise than Linux: options of sockets, clocks, and the routing socket, which
//! says when the network changes. Their firewalls are in `setup`.

mod setup;

pub(crate) use super::no_reports::{is_report, report_errors, take_reports};
pub use super::unix::*;
pub(crate) use setup::setup;

use super::{Clocks, Fragments, Limits, State};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The system reports of a buffer what was asked.
pub(crate) const BUFFER_FACTOR: usize = 1;
/// What cuts the buffers of sockets.
pub(crate) const LIMITS: Limits = Limits {
    receive: "sysctl kern.ipc.maxsockbuf is lower",
    send: "sysctl kern.ipc.maxsockbuf is lower",
};
/// A call may receive one datagram only, however many there are.
pub(crate) const DRAINS: bool = false;
/// What `quinn_udp` sends has no mark: it gives the traffic class with every datagram.
pub(crate) const SENDS_MARKED: bool = false;
/// What to use instead of `dscp`, as the end of a sentence: nothing.
pub(super) const INSTEAD_OF_DSCP: Option<&str> = Some("");
/// What may help where a port below `USERS_PORTS` cannot be bound.
pub(super) const LOW_PORT_NEEDS: &str = " (ports below 1024 need root)";
/// What may help where there are too many open files.
pub(super) const TOO_MANY_FILES: &str = "too many open files (raise the limit: ulimit -n)";
/// The smallest buffer that is tried where the system refuses a larger one, bytes.
const BUFFER_MIN: usize = 16 * 1024;

cfg_if::cfg_if! {
    if #[cfg(target_vendor = "apple")] {
        const WHOLE: ClockId = ClockId::CLOCK_MONOTONIC;
        /// CLOCK_UPTIME_RAW, for which `nix` has no name.
        const AWAKE: ClockId = ClockId::from_raw(libc::CLOCK_UPTIME_RAW);
    } else if #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))] {
        // A FreeBSD that does not tell them apart sees no sleep: the time stands still with the machine.
        const WHOLE: ClockId = ClockId::CLOCK_MONOTONIC;
        const AWAKE: ClockId = ClockId::CLOCK_UPTIME;
    } else {
        const WHOLE: ClockId = ClockId::CLOCK_MONOTONIC;
        const AWAKE: ClockId = ClockId::CLOCK_MONOTONIC;
    }
}

/// Reads the clocks with the machine's sleep and without.
pub(crate) fn clocks() -> Clocks {
    let read = |id| clock_gettime(id).map_or(Duration::ZERO, Duration::from);
    let (whole, awake) = (read(WHOLE), read(AWAKE));
    Clocks { whole, awake }
}

/// The allocator gives freed memory back by itself.
pub(crate) fn give_memory_back() {}

/// Fails: an address has to be there before it is bound.
pub(crate) fn bind_early(_: &Socket, _: SocketAddr) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
}

/// Sets the receive buffer to the largest size up to this one that the system takes: it refuses a larger one as a whole.
pub(crate) fn force_receive_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    largest(size, |size| socket.set_recv_buffer_size(size))
}

/// Likewise the send buffer.
pub(crate) fn force_send_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    largest(size, |size| socket.set_send_buffer_size(size))
}

fn largest(asked: usize, set: impl Fn(usize) -> io::Result<()>) -> io::Result<()> {
    let mut size = asked;
    loop {
        match set(size) {
            Err(_) if size > BUFFER_MIN => size -= size / 8,
            done => return done,
        }
    }
}

/// Does nothing: `quinn_udp` asks for no timestamps here.
pub(crate) fn omit_timestamps(_: &Socket) -> io::Result<()> {
    Ok(())
}

cfg_if::cfg_if! {
    if #[cfg(any(target_vendor = "apple", target_os = "freebsd"))] {
        use nix::sys::socket::setsockopt;
        use nix::{setsockopt_impl, sockopt_impl};

        sockopt_impl!(
            /// Whether datagrams of IPv4 leave in one piece or not at all.
            IpDontFrag, SetOnly, libc::IPPROTO_IP, libc::IP_DONTFRAG, bool
        );
        sockopt_impl!(
            /// Likewise of IPv6.
            Ipv6DontFrag, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, bool
        );

        /// Says whether IP may fragment the socket's datagrams. `v6`: the socket is one of IPv6; not every system lets it say
        /// so for what it sends to addresses of IPv4.
        pub(crate) fn set_fragments(
            socket: &Socket,
            v6: bool,
            fragments: Fragments,
        ) -> io::Result<()> {
            let whole = fragments == Fragments::Forbidden;
            let v4 = setsockopt(socket, IpDontFrag, &whole);
            match v6 {
                true => Ok(setsockopt(socket, Ipv6DontFrag, &whole)?),
                false => Ok(v4?),
            }
        }
    } else {
        /// Does nothing: the system decides.
        pub(crate) fn set_fragments(_: &Socket, _: bool, _: Fragments) -> io::Result<()> {
            Ok(())
        }
    }
}

/// Never called: no socket has a mark.
pub(crate) fn send_marked(_: &mio::net::UdpSocket, _: &quinn_udp::Transmit) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// No service manager here wants to be told.
pub(crate) struct Manager;

impl Manager {
    /// None.
    pub(crate) fn find() -> Option<Manager> {
        None
    }

    /// Never called.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        None
    }

    /// Never called.
    pub(crate) fn tell(&self, _: State) -> io::Result<()> {
        Ok(())
    }
}

/// Messages that are read at once. What is left makes the poll speak again.
const MESSAGES_MAX: usize = 1024;

/// The routing socket (route(4)): it has a message for every route, address or interface that comes, goes or changes.
pub(crate) struct NetworkNews {
    socket: Socket,
    noted: bool,
}

impl NetworkNews {
    /// None: the system gives no such socket.
    pub(crate) fn open() -> Option<NetworkNews> {
        let socket = Socket::new(Domain::from(libc::PF_ROUTE), Type::RAW, None).ok()?;
        socket.set_nonblocking(true).ok()?;
        let noted = false;
        Some(NetworkNews { socket, noted })
    }

    /// Has the poll report messages.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Notes that the poll said something of it.
    pub(crate) fn note(&mut self) {
        self.noted = true;
    }

    /// Whether something has changed since this was last asked. What it was is not looked at: whoever asks looks at the route.
    pub(crate) fn take(&mut self) -> bool {
        if !std::mem::take(&mut self.noted) {
            return false;
        }
        let mut message = [0; 2048];
        // a message that there was no room for is an error, and news; an error that lasts is not read for ever
        for _ in 0..MESSAGES_MAX {
            match (&self.socket).read(&mut message) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        true
    }
}

/// What tests of other modules need of the system.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::super::unix::keepalive;

    use std::net::UdpSocket;

    /// Never called: no datagram has a mark.
    pub(crate) fn ask_traffic_class(_: &UdpSocket) {}

    /// Never called.
    pub(crate) fn traffic_class(_: &UdpSocket) -> (usize, Option<u8>) {
        (0, None)
    }
}
