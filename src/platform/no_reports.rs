//! Systems that report no errors of datagrams to a socket that is not connected.

use socket2::Socket;
use std::io;
use std::net::SocketAddr;

/// Does nothing: no errors are reported of a socket that is not connected.
pub(crate) fn report_errors(_: &Socket, _: bool) -> io::Result<()> {
    Ok(())
}

/// There are no reports.
pub(crate) fn is_report(_: &io::Error) -> bool {
    false
}

/// There are no reports.
pub(crate) fn take_reports(_: &Socket) -> (Vec<SocketAddr>, bool) {
    (Vec::new(), false)
}
