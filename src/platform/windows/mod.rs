//! Everything of Windows: errors, files, limits, clocks and sockets here; the console and requests from outside, services, pid
//! files, the access to files and what people are told in files of their own.

mod access;
mod background;
pub mod service;
mod setup;
mod signal;

pub use background::{PidFile, Starting, detach};
pub use signal::{hear_reload, request_reload};

pub(crate) use super::no_news::NetworkNews;
pub(crate) use super::no_reports::{is_report, report_errors, take_reports};
use access::is_writable_by_all;
pub(crate) use access::{close_to_others, create_private, is_open_to_all};
pub(crate) use service::Manager;
pub(crate) use setup::{scp_operand, scp_path, setup, shell_quoted};
pub(crate) use signal::Signals;

use super::{Clocks, Fragments, Limits, reason};
use socket2::Socket;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::AsRawSocket;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use windows_sys::Win32::Networking::WinSock::{
    self, IP_DONTFRAGMENT, IPPROTO_IP, IPPROTO_IPV6, IPV6_DONTFRAG, SIO_UDP_CONNRESET,
    SO_EXCLUSIVEADDRUSE, SOL_SOCKET, WSAIoctl, setsockopt,
};
use windows_sys::Win32::System::SystemInformation::GetSystemDirectoryW;
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;

/// The system reports of a buffer what was asked, and cuts none.
pub(crate) const BUFFER_FACTOR: usize = 1;
/// What would cut the buffers of sockets.
pub(crate) const LIMITS: Limits = Limits {
    receive: "Windows gives no more",
    send: "Windows gives no more",
};
/// A call receives one datagram, however many there are.
pub(crate) const DRAINS: bool = false;
/// Datagrams have no mark: Windows ignores the option.
pub(crate) const SENDS_MARKED: bool = false;
/// The poll speaks of a socket again only after a call on it has found nothing (`WouldBlock`), or it is registered again.
pub(crate) const REARMS_ONLY_WHEN_DRAINED: bool = true;
/// By what the configuration is read again, for the log.
pub(crate) const RELOAD: &str = "reload";
/// SIO_UDP_NETRESET, which `windows_sys` does not have (mstcpip.h).
const SIO_UDP_NETRESET: u32 = 0x9800_000f;
/// What the time with the machine's sleep is ahead by at the start: it must never seem to be behind.
const AHEAD: Duration = Duration::from_secs(1 << 30);

/// Numbers of errors that `io::ErrorKind` has no name for: Winsock's, which are not those of the C library.
pub(crate) mod errno {
    use windows_sys::Win32::Networking::WinSock;

    pub(crate) const EADDRNOTAVAIL: i32 = WinSock::WSAEADDRNOTAVAIL;
    pub(crate) const EAFNOSUPPORT: i32 = WinSock::WSAEAFNOSUPPORT;
    pub(crate) const EHOSTDOWN: i32 = WinSock::WSAEHOSTDOWN;
    pub(crate) const EMFILE: i32 = WinSock::WSAEMFILE;
    pub(crate) const EMSGSIZE: i32 = WinSock::WSAEMSGSIZE;
    pub(crate) const EPROTONOSUPPORT: i32 = WinSock::WSAEPROTONOSUPPORT;
    /// There is no limit for all processes together.
    pub(crate) const ENFILE: i32 = i32::MIN;
    /// There is no such error.
    pub(crate) const EPROTO: i32 = i32::MIN + 1;
    /// What `connect` says of a socket that does not block, where it goes on.
    pub(crate) const CONNECTING: i32 = WinSock::WSAEWOULDBLOCK;
}

/// What to use instead of what Windows does not have.
pub(crate) mod instead {
    /// Of `user`.
    pub(crate) const OF_USER: Option<&str> = Some(
        "Windows has no such change of the user; kcptun service install runs it as an account of its own, with few rights",
    );
    /// Of `log`: "syslog".
    pub(crate) const OF_SYSLOG: Option<&str> =
        Some("Windows has no \"syslog\"; write the path of a file, as in \"./kcptun.log\"");
    /// Of `dscp`, as the end of a sentence.
    pub(crate) const OF_DSCP: Option<&str> = Some(
        "; a policy of Windows marks the packets: New-NetQosPolicy kcptun -AppPathNameMatchCondition kcptun.exe -DSCPAction 46",
    );
    /// Of `reuseport`.
    pub(crate) const OF_REUSEPORT: Option<&str> =
        Some("Windows cannot share a port among processes; leave the key out");
}

/// Where Windows has its own programs. Fails, with the reason.
fn system_directory() -> Result<PathBuf, String> {
    let mut name = [0_u16; 260];
    // SAFETY: the call writes at most as many units as it is told that there is room for.
    let len = unsafe { GetSystemDirectoryW(name.as_mut_ptr(), name.len() as u32) } as usize;
    match name.get(..len) {
        Some(name @ [_, ..]) => Ok(OsString::from_wide(name).into()),
        _ => Err(reason(&io::Error::last_os_error())),
    }
}

/// Words for errors: Windows's own are sentences, in the language of its user.
pub(crate) fn words(code: i32) -> Option<&'static str> {
    Some(match code {
        WinSock::WSAEACCES => "permission denied",
        WinSock::WSAEADDRINUSE => "the port is taken",
        WinSock::WSAEADDRNOTAVAIL => {
            "this address, or a free port of it, is not available on this machine"
        }
        WinSock::WSAEAFNOSUPPORT => {
            "this machine does not have this kind of address (IPv6 or IPv4 is switched off)"
        }
        WinSock::WSAECONNABORTED => "connection aborted",
        WinSock::WSAECONNREFUSED => "connection refused",
        WinSock::WSAECONNRESET => "connection reset by peer",
        WinSock::WSAEHOSTUNREACH => "no route to host",
        WinSock::WSAEMFILE => "too many open sockets",
        WinSock::WSAEMSGSIZE => "the packet is too large for the path (lower kcp.mtu)",
        WinSock::WSAENETDOWN => "network is down",
        WinSock::WSAENETUNREACH => "network is unreachable",
        WinSock::WSAENOBUFS => "the system has no memory for more sockets or packets",
        WinSock::WSAETIMEDOUT => "connection timed out",
        WinSock::WSAHOST_NOT_FOUND | WinSock::WSANO_DATA => "name or service not known",
        WinSock::WSATRY_AGAIN => "temporary failure in name resolution",
        _ => return None,
    })
}

/// What may help where a port cannot be bound for lack of permission.
pub(crate) fn advice_on_port(_: u16) -> &'static str {
    " (Windows may have reserved the port: netsh interface ipv4 show excludedportrange protocol=udp, or tcp)"
}

/// Whether an error says that nothing receives at the other end. To a socket of UDP Windows says so by a reset.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}

/// Whether an error may be that of a device or a route that takes no batches of datagrams.
pub(crate) fn refuses_batches(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            WinSock::WSAEINVAL
                | WinSock::WSAEMSGSIZE
                | WinSock::WSAEOPNOTSUPP
                | WinSock::WSAENOPROTOOPT
        )
    )
}

/// Fails: see `instead`.
pub(crate) fn drop_privileges(_: &str, _: Option<&str>) -> Result<(), String> {
    Err(instead::OF_USER.unwrap_or_default().into())
}

/// There is no limit.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Sockets have no limit, and so nothing is held back for them.
pub(crate) struct Reserve;

impl Reserve {
    /// None.
    pub(crate) fn hold() -> Option<Reserve> {
        None
    }
}

/// The allocator gives freed memory back by itself.
pub(crate) fn give_memory_back() {}

/// The time with the machine's sleep is `Instant`'s, that without is the system's unbiased interrupt time, whose step is some
/// milliseconds.
pub(crate) fn clocks() -> Clocks {
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (start, awake) = START.get_or_init(|| (Instant::now(), awake()));
    Clocks {
        whole: AHEAD + *awake + start.elapsed(),
        awake: self::awake(),
    }
}

fn awake() -> Duration {
    let mut tenths = 0;
    // SAFETY: it writes one u64, which lives during the call.
    unsafe { QueryUnbiasedInterruptTime(&mut tenths) };
    Duration::from_micros(tenths / 10)
}

/// Opens a file to append to, or creates it. Others may move it away meanwhile. There is no user to become.
pub(crate) fn open_log(path: &Path, _: Option<(&str, Option<&str>)>) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Creates a directory with the access that the one above it gives, and those above it, as far as they are not there.
pub(crate) fn create_directory_for_keys(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// There is no journal.
pub(crate) fn is_journal() -> bool {
    false
}

/// There is no system log.
pub(crate) struct Syslog;

impl Syslog {
    /// Fails.
    pub(crate) fn open() -> (Syslog, io::Result<()>) {
        (Syslog, Err(ErrorKind::Unsupported.into()))
    }
}

impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has a socket own its port: by default other programs could take it over. One of UDP, which is the one that does not listen,
/// is told nothing of what became of its datagrams: it would be told by errors of calls that have nothing to do with them.
pub(crate) fn claim_port(socket: &Socket, listens: bool) -> io::Result<()> {
    set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)?;
    if !listens {
        for code in [SIO_UDP_CONNRESET, SIO_UDP_NETRESET] {
            // where it cannot be switched off, the errors are outlived
            let _ = switch_off(socket, code);
        }
    }
    Ok(())
}

/// Fails: there is no such option.
pub(crate) fn share_port(_: &Socket) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Fails: an address has to be there before it is bound.
pub(crate) fn bind_early(_: &Socket, _: SocketAddr) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(errno::EADDRNOTAVAIL))
}

/// Fails: there is no such option.
pub(crate) fn force_receive_buffer(_: &Socket, _: usize) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Fails: there is no such option.
pub(crate) fn force_send_buffer(_: &Socket, _: usize) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Does nothing: there are no timestamps.
pub(crate) fn omit_timestamps(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Says whether IP may fragment the socket's datagrams. `v6`: the socket is one of IPv6, which takes the option of IPv4 for what
/// it sends there, unless it is for IPv6 only.
pub(crate) fn set_fragments(socket: &Socket, v6: bool, fragments: Fragments) -> io::Result<()> {
    let whole = (fragments == Fragments::Forbidden).into();
    let v4 = set(socket, IPPROTO_IP, IP_DONTFRAGMENT, whole);
    match v6 {
        true => set(socket, IPPROTO_IPV6, IPV6_DONTFRAG, whole),
        false => v4,
    }
}

/// Never called: no socket has a mark.
pub(crate) fn send_marked(_: &mio::net::UdpSocket, _: &quinn_udp::Transmit) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// The class of IPv6 is one more option that Windows ignores.
pub(crate) fn set_class_v6(_: &Socket, _: u32) -> io::Result<()> {
    Ok(())
}

fn set(socket: &Socket, level: i32, option: i32, value: u32) -> io::Result<()> {
    let socket = socket.as_raw_socket() as usize;
    let size = size_of_val(&value) as i32;
    // SAFETY: the socket is open, and the value lives during the call, which reads as much as its size says.
    match unsafe { setsockopt(socket, level, option, (&raw const value).cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn switch_off(socket: &Socket, code: u32) -> io::Result<()> {
    let socket = socket.as_raw_socket() as usize;
    let (off, mut returned) = (0_u32, 0);
    let size = size_of_val(&off) as u32;
    // SAFETY: the socket is open, and both numbers live during the call, which does not overlap with others.
    let done = unsafe {
        WSAIoctl(
            socket,
            code,
            (&raw const off).cast(),
            size,
            std::ptr::null_mut(),
            0,
            &mut returned,
            std::ptr::null_mut(),
            None,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What tests of other modules need of the system.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Duration, Socket};
    use std::net::UdpSocket;

    /// Never called: no datagram has a mark.
    pub(crate) fn ask_traffic_class(_: &UdpSocket) {}

    /// Never called.
    pub(crate) fn traffic_class(_: &UdpSocket) -> (usize, Option<u8>) {
        (0, None)
    }

    /// None: the system does not tell.
    pub(crate) fn keepalive(_: &Socket) -> Option<(Duration, Duration)> {
        None
    }
}
