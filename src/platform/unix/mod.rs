//! What Linux, macOS and the BSDs share: files, limits, errors, ports and the shell's quoting here; the background, privileges,
//! signals and the system log in files of their own. A system on top of this one also has what is named here by `system`.

mod background;
mod lock;
mod log_file;
mod privileges;
mod reload;
mod signal;
mod syslog;

pub use background::{PidFile, Starting, detach};
pub use reload::request_reload;
pub use signal::hear_reload;

pub(crate) use log_file::open_log;
pub(crate) use privileges::drop_privileges;
pub(crate) use signal::Signals;
pub(crate) use syslog::Syslog;

use super::setup::USERS_PORTS;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use socket2::Socket;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
#[cfg(test)]
use std::time::Duration;

/// The bit of a file's mode that lets everybody read it.
const READ_BY_OTHERS: u32 = 0o004;

/// The poll reports what is new of a socket even if no call has found nothing (`WouldBlock`) since it last did.
pub(crate) const REARMS_ONLY_WHEN_DRAINED: bool = false;

/// By what the configuration is read again, for the log.
pub(crate) const RELOAD: &str = "SIGHUP";

/// Numbers of errors that `io::ErrorKind` has no name for.
pub(crate) mod errno {
    pub(crate) use libc::{
        EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTDOWN, EMFILE, EMSGSIZE, ENFILE, EPROTO, EPROTONOSUPPORT,
    };
    /// What `connect` says of a socket that does not block, where it goes on.
    pub(crate) const CONNECTING: i32 = libc::EINPROGRESS;
}

/// What to use instead of what the system does not have; None: it has it.
pub(crate) mod instead {
    /// Of `user`.
    pub(crate) const OF_USER: Option<&str> = None;
    /// Of `log`: "syslog".
    pub(crate) const OF_SYSLOG: Option<&str> = None;
    /// Of `dscp`, as the end of a sentence.
    pub(crate) const OF_DSCP: Option<&str> = super::super::system::INSTEAD_OF_DSCP;
    /// Of `reuseport`.
    pub(crate) const OF_REUSEPORT: Option<&str> = None;
}

/// kcptun as a service: systemd and its like run any program as one.
pub mod service {
    use std::path::Path;

    /// Whether the system has services that a program makes itself.
    pub const IS_HERE: bool = false;
    const INSTEAD: &str = "service: that is for Windows; here systemd, OpenRC, rc.d or launchd runs kcptun -c FILE (see kcptun help deploy)";

    /// Fails: this is not how services are made here.
    pub fn manage(_: super::super::ServiceTask, _: &Path, _: &Path) -> Result<String, String> {
        Err(INSTEAD.into())
    }

    /// Fails likewise.
    pub fn run(_: &Path, _: fn(&Path) -> u8) -> Result<(), String> {
        Err(INSTEAD.into())
    }
}

/// Words for errors whose description by the system does not say what to do.
pub(crate) fn words(code: i32) -> Option<&'static str> {
    Some(match code {
        libc::EADDRINUSE => "the port is taken",
        libc::EADDRNOTAVAIL => {
            "this address, or a free port of it, is not available on this machine"
        }
        libc::EMFILE => super::system::TOO_MANY_FILES,
        libc::EMSGSIZE => "the packet is too large for the path (lower kcp.mtu)",
        libc::EAFNOSUPPORT => {
            "this machine does not have this kind of address (IPv6 or IPv4 is switched off)"
        }
        _ => return None,
    })
}

/// What may help where a port cannot be bound for lack of permission.
pub(crate) fn advice_on_port(port: u16) -> &'static str {
    match port {
        1..USERS_PORTS => super::system::LOW_PORT_NEEDS,
        _ => "",
    }
}

/// Whether an error says that nothing receives at the other end.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionRefused
}

/// Whether an error may be that of a device or a route that takes no batches of datagrams.
pub(crate) fn refuses_batches(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
    )
}

/// Raises the number of files that this process may open (RLIMIT_NOFILE) to its hard limit, and returns it; `u64::MAX` where
/// there is none.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(match most {
        RLIM_INFINITY => u64::MAX,
        #[allow(clippy::unnecessary_cast, reason = "some systems count in 32 bits")]
        most => most as u64,
    })
}

/// A file descriptor that is held back for when there is no other.
pub(crate) struct Reserve {
    _file: File,
}

impl Reserve {
    /// None: there is none left.
    pub(crate) fn hold() -> Option<Reserve> {
        let _file = File::open("/dev/null").ok()?;
        Some(Reserve { _file })
    }
}

/// Creates a file that only its owner can read. Fails if there is one already.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Creates a directory that only its owner can enter, and those above it, as far as they are not there.
pub(crate) fn create_directory_for_keys(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

/// Whether everybody on this machine can read a file that holds a secret.
pub(crate) fn is_open_to_all(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & READ_BY_OTHERS != 0)
}

/// The command that keeps others from reading the file of this name.
pub(crate) fn close_to_others(name: &str) -> String {
    format!("chmod 600 {}", shell_quoted(name))
}

/// A word of a command as the shell takes it (POSIX, 2.2): quoted if it has to be.
pub(crate) fn shell_quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A file as an operand of scp here, which is not to take it for an option or for a file of another machine.
pub(crate) fn scp_operand(file: &str) -> String {
    let directory = file.split('/').next().unwrap_or_default();
    match file.starts_with('-') || directory.contains(':') {
        true => shell_quoted(&format!("./{file}")),
        false => shell_quoted(file),
    }
}

/// A file of this machine as scp on another one names it.
pub(crate) fn scp_path(path: &Path) -> String {
    path.display().to_string()
}

/// Whether standard error is the journal's: systemd says in JOURNAL_STREAM which one it made, and a program that was
/// started further down may have another one (systemd.exec(5)).
pub(crate) fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let here = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    here.and_then(|file| file.metadata())
        .is_ok_and(|here| stream == format!("{}:{}", here.dev(), here.ino()))
}

/// Has a socket that is to listen take its port even where connections of the last process still linger.
pub(crate) fn claim_port(socket: &Socket, listens: bool) -> io::Result<()> {
    match listens {
        true => socket.set_reuse_address(true),
        false => Ok(()),
    }
}

/// Sets the traffic class of what a socket of IPv6 sends.
pub(crate) fn set_class_v6(socket: &Socket, class: u32) -> io::Result<()> {
    socket.set_tclass_v6(class)
}

/// Has a socket share its port with those of other processes.
pub(crate) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// The time until a silent connection is probed, and that from then until it is given up.
#[cfg(test)]
pub(crate) fn keepalive(socket: &Socket) -> Option<(Duration, Duration)> {
    let probes = socket.tcp_keepalive_retries().expect("option");
    let whole = socket.tcp_keepalive_interval().expect("option") * probes;
    Some((socket.tcp_keepalive_time().expect("option"), whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(shell_quoted("a/b-1.json"), "a/b-1.json");
        assert_eq!(shell_quoted("a b"), "'a b'");
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
        assert_eq!(shell_quoted("$HOME"), "'$HOME'");
        assert_eq!(shell_quoted("~x"), "'~x'");
    }

    #[test]
    fn scp_takes_no_file_for_an_option_or_another_machines() {
        for (file, word) in [
            ("t/peer.json", "t/peer.json"),
            ("-oX/peer.json", "./-oX/peer.json"),
            ("a:b/peer.json", "./a:b/peer.json"),
            ("a/b:c/peer.json", "a/b:c/peer.json"),
        ] {
            assert_eq!(scp_operand(file), word);
        }
    }

    #[test]
    fn a_descriptor_is_held_back() {
        assert!(Reserve::hold().is_some());
    }

    #[test]
    fn the_file_limit_is_raised() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        let lower = match most {
            RLIM_INFINITY => 1024,
            most => most - 1,
        };
        setrlimit(Resource::RLIMIT_NOFILE, lower, most).expect("lower");
        let limit = raise_file_limit().expect("limit");
        let (current, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        assert_eq!(current, most);
        assert_eq!(limit == u64::MAX, most == RLIM_INFINITY);
    }
}
