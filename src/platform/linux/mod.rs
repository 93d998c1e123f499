//! Linux's own: the options of sockets that `socket2` has not, its clocks, its allocator, and what systemd is told. Which firewall
//! and service manager this machine has is in `setup`.

mod setup;

pub(crate) use super::no_news::NetworkNews;
pub use super::unix::*;
pub(crate) use setup::setup;

use super::{Clocks, Fragments, Limits, State};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::Socket;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::time::Duration;

/// The system counts its own overhead in what it reports of a buffer: twice what was asked (socket(7)).
pub(crate) const BUFFER_FACTOR: usize = 2;
/// What cuts the buffers of sockets.
pub(crate) const LIMITS: Limits = Limits {
    receive: "sysctl net.core.rmem_max is lower",
    send: "sysctl net.core.wmem_max is lower",
};
/// A call that receives takes all that there is.
pub(crate) const DRAINS: bool = true;
/// Datagrams can have a mark (DSCP), by `send_marked`.
pub(crate) const SENDS_MARKED: bool = true;
/// What to use instead of `dscp`, as the end of a sentence: it works.
pub(super) const INSTEAD_OF_DSCP: Option<&str> = None;
/// What may help where a port below `USERS_PORTS` cannot be bound.
pub(super) const LOW_PORT_NEEDS: &str = " (ports below 1024 need root or CAP_NET_BIND_SERVICE)";
/// What may help where there are too many open files.
pub(super) const TOO_MANY_FILES: &str =
    "too many open files (raise the limit, LimitNOFILE or ulimit -n)";
/// The IPv6 packet that every path carries, bytes (RFC 8200).
const IPV6_MINIMUM_MTU: libc::c_int = 1280;
/// The most reports taken from the error queue at once.
const REPORTS_PER_CALL: usize = 16;
/// The errors by which Linux reports what became of an earlier datagram (`icmp_err_convert`, `icmpv6_err_convert`).
const REPORTED_ERRORS: [libc::c_int; 8] = [
    libc::ECONNREFUSED,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::EMSGSIZE,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EHOSTDOWN,
    libc::EPROTO,
];

sockopt_impl!(
    /// How the size of a path is found, for datagrams of IPv4: one of IP_PMTUDISC_*.
    IpMtuDiscover, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::c_int
);
sockopt_impl!(
    /// How the size of a path is found, for datagrams of IPv6: one of IPV6_PMTUDISC_*.
    Ipv6MtuDiscover, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::c_int
);
sockopt_impl!(
    /// The longest IPv6 packet that is sent in one piece, bytes; 0: no limit.
    Ipv6Mtu, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU, libc::c_int
);

/// Every Linux has both clocks. They are read as std reads its own, by libc: with musl on 32-bit MIPS not every crate knows how
/// long a timespec is.
pub(crate) fn clocks() -> Clocks {
    let read = |id| clock_gettime(id).map_or(Duration::ZERO, Duration::from);
    // in this order, so that the difference never grows by what passes between the two
    Clocks {
        whole: read(ClockId::CLOCK_BOOTTIME),
        awake: read(ClockId::CLOCK_MONOTONIC),
    }
}

/// Gives freed memory back to the system, where the allocator would keep it: glibc's does.
pub(crate) fn give_memory_back() {
    // No crate but libc has this call. SAFETY: it takes no pointers and changes nothing but what is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Binds to an address that this machine does not have yet: the network may come up later.
pub(crate) fn bind_early(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())
}

/// Sets the size in bytes of the receive buffer, beyond the limit for everyone; takes CAP_NET_ADMIN.
pub(crate) fn force_receive_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::RcvBufForce, &size)?)
}

/// Sets the size in bytes of the send buffer, beyond the limit for everyone; takes CAP_NET_ADMIN.
pub(crate) fn force_send_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::SndBufForce, &size)?)
}

/// Has the system report by an error, and in the socket's error queue, what becomes of its datagrams on their way. `v6`:
/// the socket is one of IPv6.
pub(crate) fn report_errors(socket: &Socket, v6: bool) -> io::Result<()> {
    setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    if v6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(())
}

/// Whether an error of a call reports what became of an earlier datagram, if the socket is one with reports.
pub(crate) fn is_report(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| REPORTED_ERRORS.contains(&code))
}

/// Where the datagrams went that the system reports, and whether there may be more reports.
pub(crate) fn take_reports(socket: &Socket) -> (Vec<SocketAddr>, bool) {
    let mut all = Vec::new();
    for _ in 0..REPORTS_PER_CALL {
        let mut datagram = [std::mem::MaybeUninit::uninit(); 64];
        let Ok((_, to)) = socket.recv_from_with_flags(&mut datagram, libc::MSG_ERRQUEUE) else {
            break;
        };
        all.extend(to.as_socket());
    }
    let more = all.len() >= REPORTS_PER_CALL;
    (all, more)
}

/// Has the system not say when each datagram arrived.
pub(crate) fn omit_timestamps(socket: &Socket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &false)?)
}

/// Says whether IP may fragment the socket's datagrams (IP_PMTUDISC_PROBE). `v6`: the socket is one of IPv6.
pub(crate) fn set_fragments(socket: &Socket, v6: bool, fragments: Fragments) -> io::Result<()> {
    use libc::{IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE, IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_PROBE};
    let (v4_mode, v6_mode, dont_fragment, mtu) = match fragments {
        Fragments::Forbidden => (IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE, true, 0),
        Fragments::Allowed => (
            IP_PMTUDISC_DONT,
            IPV6_PMTUDISC_DONT,
            false,
            IPV6_MINIMUM_MTU,
        ),
    };
    // A socket of IPv6 takes the first for what it sends to addresses of IPv4.
    setsockopt(socket, IpMtuDiscover, &v4_mode)?;
    if v6 {
        setsockopt(socket, Ipv6MtuDiscover, &v6_mode)?;
        setsockopt(socket, sockopt::Ipv6DontFrag, &dont_fragment)?;
        setsockopt(socket, Ipv6Mtu, &mtu)?;
    }
    Ok(())
}

/// Sends what `quinn_udp` would send, with the mark of the socket.
pub(crate) fn send_marked(
    socket: &mio::net::UdpSocket,
    transmit: &quinn_udp::Transmit,
) -> io::Result<()> {
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

/// systemd, where it has started this process and wants to be told (sd_notify(3)).
pub(crate) struct Manager {
    socket: OsString,
}

impl Manager {
    /// As NOTIFY_SOCKET says. None: nobody listens.
    pub(crate) fn find() -> Option<Manager> {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        Some(Manager { socket })
    }

    /// How often it wants a sign of life at least (sd_watchdog_enabled(3)). None: it does not.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let own = u64::from(std::process::id());
        let meant =
            std::env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(own);
        let span = number("WATCHDOG_USEC").filter(|span| meant && *span > 0)?;
        Some(Duration::from_micros(span))
    }

    /// Tells it. A reload is told with the time, so that no older `READY` is taken for its end.
    pub(crate) fn tell(&self, state: State) -> io::Result<()> {
        let text = match state {
            State::Ready => "READY=1\n".into(),
            State::Reloading => {
                let now = clocks().awake.as_micros();
                format!("RELOADING=1\nMONOTONIC_USEC={now}\n")
            }
            State::Stopping => "STOPPING=1\n".into(),
            State::Status(status) => format!("STATUS={status}\n"),
            State::Watchdog => "WATCHDOG=1\n".into(),
        };
        let name = self.socket.as_bytes();
        let to = match name.strip_prefix(b"@") {
            Some(name) => UnixAddr::from_abstract_name(name)?,
            None => UnixAddr::from_pathname(&self.socket)?,
        };
        UnixDatagram::unbound()?
            .send_to_addr(text.as_bytes(), &to)
            .map(drop)
    }
}

/// What tests of other modules need of the system.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::super::unix::keepalive;

    use nix::cmsg_space;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
    use std::io::IoSliceMut;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    /// Has the system report the traffic class of what arrives.
    pub(crate) fn ask_traffic_class(socket: &UdpSocket) {
        let option = socket2::SockRef::from(socket);
        match socket.local_addr().expect("address").is_ipv4() {
            true => option.set_recv_tos_v4(true).expect("an option"),
            false => option.set_recv_tclass_v6(true).expect("an option"),
        }
    }

    /// The length and the traffic class of the next datagram.
    pub(crate) fn traffic_class(socket: &UdpSocket) -> (usize, Option<u8>) {
        let mut bytes = [0; 2000];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let mut space = cmsg_space!(i32);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut space), flags);
        let message = message.expect("a datagram");
        let mut messages = message.cmsgs().expect("messages");
        let class = messages.find_map(|message| match message {
            ControlMessageOwned::Ipv4Tos(class) => Some(class),
            ControlMessageOwned::Ipv6TClass(class) => u8::try_from(class).ok(),
            _ => None,
        });
        (message.bytes, class)
    }
}
