//! What TCP and UDP sockets have in common before they are used: creation, options and buffers.

use crate::platform::{self, BUFFER_FACTOR, LIMITS, errno};
use log::warn;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket that does not block, of the family of `address`. One for every IPv6 address accepts IPv4, too, whatever the
/// system's default is.
pub(super) fn new(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Warns that this machine does not have the address that the key names.
pub(super) fn warn_of_early(key: &str, address: SocketAddr) {
    let ip = address.ip();
    warn!("{key}: {ip} is not an address of this machine; is it right? Waits in case it comes");
}

/// Binds a socket; on Linux, even to an address that this machine does not have yet: the network may come up later. True if
/// the machine does not have it yet.
pub(super) fn bind_or_wait(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    match socket.bind(&address.into()) {
        Err(e) if e.raw_os_error() == Some(errno::EADDRNOTAVAIL) && !address.ip().is_loopback() => {
            platform::bind_early(socket, address)?;
            Ok(true)
        }
        bound => bound.map(|()| false),
    }
}

/// An address in its own family: an IPv4 address that an IPv6 socket reports as IPv4-mapped becomes IPv4 again.
pub(super) fn canonical(from: SocketAddr) -> SocketAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), from.port()),
        // As it is, with its scope.
        IpAddr::V6(_) => from,
    }
}

/// Whether binding an IPv6 address failed because the machine has no IPv6.
pub(super) fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(errno::EAFNOSUPPORT | errno::EPROTONOSUPPORT | errno::EADDRNOTAVAIL)
    )
}

/// The address that stands for every one of its family.
pub(super) fn any_of(family: &SocketAddr) -> IpAddr {
    match family {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A socket's buffers, in bytes; 0: the system's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffers {
    /// The send buffer.
    pub send: usize,
    /// The receive buffer.
    pub receive: usize,
}

impl Buffers {
    /// Sets them as large as the system allows. Fails with a line that names each size that was cut and the limit
    /// that cut it, for a warning: the socket works nevertheless.
    pub(super) fn apply(self, socket: &Socket) -> Result<(), String> {
        let receive = fit(
            self.receive,
            |size| socket.set_recv_buffer_size(size),
            || socket.recv_buffer_size(),
            |size| platform::force_receive_buffer(socket, size),
        );
        let send = fit(
            self.send,
            |size| socket.set_send_buffer_size(size),
            || socket.send_buffer_size(),
            |size| platform::force_send_buffer(socket, size),
        );
        let cut = |name, limit, asked: usize, got: Option<usize>| {
            got.map(|got| format!("{name} is {got} instead of {asked} bytes ({limit})"))
        };
        let lines: Vec<String> = [
            cut("rcvbuf", LIMITS.receive, self.receive, receive),
            cut("sndbuf", LIMITS.send, self.send, send),
        ]
        .into_iter()
        .flatten()
        .collect();
        match lines.is_empty() {
            true => Ok(()),
            false => Err(lines.join(", ")),
        }
    }
}

/// Sets a buffer's size; what it is instead, if it is less. Where the system counts its own overhead, it reports more than
/// was asked.
fn fit(
    asked: usize,
    set: impl Fn(usize) -> io::Result<()>,
    get: impl Fn() -> io::Result<usize>,
    force: impl Fn(usize) -> io::Result<()>,
) -> Option<usize> {
    // Beyond what an int can count twice, the system would take the size for a negative one.
    let asked = asked.min(i32::MAX as usize / 2);
    if asked == 0 {
        return None;
    }
    let enough = || get().map(|size| size / BUFFER_FACTOR).unwrap_or(0);
    // Both attempts may fail; what counts is the size at the end.
    let _ = set(asked);
    if enough() < asked {
        let _ = force(asked);
    }
    Some(enough()).filter(|&got| got < asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp() -> Socket {
        let any = "0.0.0.0:0".parse().expect("address");
        new(any, Type::DGRAM, Protocol::UDP).expect("socket")
    }

    #[test]
    fn a_size_that_the_system_allows_is_no_warning() {
        let buffers = Buffers {
            send: 65536,
            receive: 65536,
        };
        let socket = udp();
        assert_eq!(buffers.apply(&socket), Ok(()));
        assert!(socket.recv_buffer_size().expect("size") >= 65536);
    }

    #[test]
    fn an_address_that_may_come_is_waited_for() {
        let later = "192.0.2.1:0".parse().expect("address");
        let socket = udp();
        if bind_or_wait(&socket, later).is_err() {
            // not every system binds to what it does not have
            return;
        }
        let bound = socket.local_addr().ok().and_then(|a| a.as_socket());
        assert_eq!(bound.map(|a| a.ip()), Some(later.ip()));
    }

    #[test]
    fn a_size_that_was_cut_is_told() {
        let cut = fit(
            1000,
            |_| Ok(()),
            || Ok(600 * BUFFER_FACTOR),
            |_| Err(io::ErrorKind::PermissionDenied.into()),
        );
        assert_eq!(cut, Some(600));
        assert_eq!(fit(0, |_| Ok(()), || Ok(0), |_| Ok(())), None);
    }
}
