//! Datagrams with a mark (DSCP, RFC 2474) in their IP header: `dscp` of the configuration. The mark is an option of the socket,
//! and each call of `quinn_udp` would clear it: that gives the whole traffic class with every datagram, for the two bits of
//! ECN. So a socket with a mark sends by a call without that, which only Linux has here.

use socket2::Socket;
use std::io;

/// Has the datagrams of a socket that is bound marked. `dscp`: 0 to 63.
pub(super) fn mark(socket: &Socket, dscp: u8) -> io::Result<()> {
    let class = u32::from(dscp) << 2;
    let v6 = socket.local_addr()?.is_ipv6();
    if v6 {
        socket.set_tclass_v6(class)?;
    }
    // A socket of IPv6 takes it for what it sends to addresses of IPv4, on Linux.
    match socket.set_tos_v4(class) {
        Err(_) if v6 => Ok(()),
        set => set,
    }
}

/// Whether `send` works here.
pub(super) const SENDS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Sends what `quinn_udp` would send, with the mark of the socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn send(socket: &mio::net::UdpSocket, transmit: &quinn_udp::Transmit) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
    use std::io::{ErrorKind, IoSlice};
    use std::net::IpAddr;
    use std::os::fd::AsRawFd;

    let (v4, v6);
    let mut messages = Vec::with_capacity(2);
    let segment = transmit.segment_size.unwrap_or(usize::MAX);
    let many = transmit.contents.len() > segment;
    let segment = u16::try_from(segment).unwrap_or(u16::MAX);
    if many {
        messages.push(ControlMessage::UdpGsoSegments(&segment));
    }
    match transmit.src_ip {
        Some(IpAddr::V4(ip)) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            messages.push(ControlMessage::Ipv4PacketInfo(&v4));
        }
        Some(IpAddr::V6(ip)) => {
            v6 = libc::in6_pktinfo {
                ipi6_ifindex: 0,
                ipi6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
            };
            messages.push(ControlMessage::Ipv6PacketInfo(&v6));
        }
        None => {}
    }
    let to = SockaddrStorage::from(transmit.destination);
    let contents = [IoSlice::new(transmit.contents)];
    loop {
        let flags = MsgFlags::empty();
        match sendmsg(socket.as_raw_fd(), &contents, &messages, flags, Some(&to)) {
            Ok(_) => return Ok(()),
            Err(e) => match io::Error::from(e) {
                e if e.kind() == ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}

/// Never called.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn send(_: &mio::net::UdpSocket, _: &quinn_udp::Transmit) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
