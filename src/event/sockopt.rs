//! The options of sockets that Linux has and `socket2` has not: buffers beyond the system's limit, reports of what became of
//! datagrams, timestamps and fragmentation. Other systems have none of them, or not in this form. When each is set is
//! decided in `socket` and `batch`.

/// Whether IP may fragment datagrams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragments {
    /// Nowhere: a datagram that is longer than the path carries is lost, which is how the path's size is found. The system's
    /// own estimate of that size, which anybody can change by an ICMP message, does not count (IP_PMTUDISC_PROBE).
    Forbidden,
    /// Here, and with IPv4 by any router. With IPv6 only here, and so into pieces that every path carries.
    Allowed,
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use elsewhere::*;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::*;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use super::Fragments;
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::{setsockopt_impl, sockopt_impl};
    use socket2::Socket;
    use std::io;

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

    /// The IPv6 packet that every path carries, bytes (RFC 8200).
    const IPV6_MINIMUM_MTU: libc::c_int = 1280;

    /// Sets the size in bytes of the receive buffer, beyond the limit for everyone; takes CAP_NET_ADMIN.
    pub(in crate::event) fn force_receive_buffer(socket: &Socket, size: usize) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::RcvBufForce, &size)?)
    }

    /// Sets the size in bytes of the send buffer, beyond the limit for everyone; takes CAP_NET_ADMIN.
    pub(in crate::event) fn force_send_buffer(socket: &Socket, size: usize) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::SndBufForce, &size)?)
    }

    /// Has the system report by an error, and in the socket's error queue, what becomes of its datagrams on their way. `v6`:
    /// the socket is one of IPv6.
    pub(in crate::event) fn report_errors(socket: &Socket, v6: bool) -> io::Result<()> {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        if v6 {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        Ok(())
    }

    /// Has the system not say when each datagram arrived.
    pub(in crate::event) fn omit_timestamps(socket: &Socket) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &false)?)
    }

    /// Says whether IP may fragment the socket's datagrams. `v6`: the socket is one of IPv6.
    pub(in crate::event) fn set_fragments(
        socket: &Socket,
        v6: bool,
        fragments: Fragments,
    ) -> io::Result<()> {
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
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod elsewhere {
    use super::Fragments;
    use socket2::Socket;
    use std::io;

    /// Fails: there is no such option.
    pub(in crate::event) fn force_receive_buffer(_: &Socket, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails: there is no such option.
    pub(in crate::event) fn force_send_buffer(_: &Socket, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Does nothing: no errors are reported.
    pub(in crate::event) fn report_errors(_: &Socket, _: bool) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing: there are no timestamps.
    pub(in crate::event) fn omit_timestamps(_: &Socket) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing: the system decides.
    pub(in crate::event) fn set_fragments(_: &Socket, _: bool, _: Fragments) -> io::Result<()> {
        Ok(())
    }
}
