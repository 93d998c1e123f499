//! Datagrams with a mark (DSCP, RFC 2474) in their IP header: `dscp` of the configuration. The mark is an option of the socket,
//! and each call of `quinn_udp` would clear it: that gives the whole traffic class with every datagram, for the two bits of
//! ECN. So a socket with a mark sends by `platform::send_marked`, which does without that.

use crate::platform::set_class_v6;
use socket2::Socket;
use std::io;

/// Has the datagrams of a socket that is bound marked. `dscp`: 0 to 63.
pub(super) fn mark(socket: &Socket, dscp: u8) -> io::Result<()> {
    let class = u32::from(dscp) << 2;
    let v6 = socket.local_addr()?.is_ipv6();
    if v6 {
        set_class_v6(socket, class)?;
    }
    // A socket of IPv6 takes it for what it sends to addresses of IPv4, on Linux.
    match socket.set_tos_v4(class) {
        Err(_) if v6 => Ok(()),
        set => set,
    }
}
