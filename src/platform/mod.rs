//! What each system does in its own way, behind one interface: whoever uses it need not know on which one kcptun runs. Apart
//! from this folder only the choice of assembler (`crypto::cipher`) depends on what is compiled for.
//!
//! | in | is |
//! |---|---|
//! | `unix` | what Linux, macOS and the BSDs share: signals, users, the background, the system log, files, the shell |
//! | `linux` | Linux's own: options of sockets, its clocks, systemd, firewalls |
//! | `bsd` | the same of macOS, FreeBSD and their relatives |
//! | `windows` | everything of Windows |
//! | `no_news`, `no_reports` | what two of them lack alike |
//! | `reason` | what an error of the system means, in words |
//! | `setup` | how a machine is administered: what a system's `setup` returns, and what a machine elsewhere is taken for |
//!
//! Each system offers every item of the list below, with the same signature; where it has nothing of the kind, the item does
//! nothing, or is a sentence that says what to use instead (`instead`). A new system is one more folder, and one more branch below.
//!
//! | item | what it is for |
//! |---|---|
//! | `Starting`, `detach`, `PidFile` | going into the background; one process at a time |
//! | `Signals` | requests to stop and to read the configuration again, as events of a poll |
//! | `drop_privileges` | becoming another user for good |
//! | `Manager` | the service manager that is told how things are |
//! | `service` | kcptun as a service of the system |
//! | `hear_reload`, `request_reload`, `RELOAD` | having a process read its configuration again |
//! | `raise_file_limit`, `Reserve`, `give_memory_back` | what the process may use, and does not need |
//! | `clocks` | time with and without the machine's sleep |
//! | `open_log`, `Syslog`, `is_journal` | where the log goes |
//! | `create_private`, `create_directory_for_keys`, `is_open_to_all`, `close_to_others` | who can read a file, and how that is changed |
//! | `setup`, `shell_quoted`, `scp_operand`, `scp_path` | this machine's firewall, services and shell, for instructions to people |
//! | `errno` | numbers of errors that `io::ErrorKind` has no name for |
//! | `words`, `advice_on_port`, `LIMITS` | words for errors and for limits of buffers |
//! | `is_refusal`, `refuses_batches` | what an error of sending means |
//! | `claim_port`, `share_port`, `bind_early` | who may have an address and a port |
//! | `set_fragments`, `omit_timestamps`, `report_errors`, `take_reports`, `is_report` | options of UDP sockets, and what becomes of datagrams |
//! | `set_class_v6`, `send_marked`, `SENDS_MARKED`, `DRAINS`, `REARMS_ONLY_WHEN_DRAINED` | how datagrams leave and arrive |
//! | `force_receive_buffer`, `force_send_buffer`, `BUFFER_FACTOR` | sizes of buffers |
//! | `NetworkNews` | the system's word that routes or addresses have changed |

mod reason;
mod setup;

cfg_if::cfg_if! {
    if #[cfg(any(target_os = "linux", target_os = "android"))] {
        mod linux;
        mod no_news;
        mod unix;
        use linux as system;
    } else if #[cfg(unix)] {
        mod bsd;
        mod no_reports;
        mod unix;
        use bsd as system;
    } else if #[cfg(windows)] {
        mod no_news;
        mod no_reports;
        mod windows;
        use windows as system;
    } else {
        compile_error!("each system is a module here: see the table above");
    }
}

/// What is to be done with kcptun as a service of the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceTask {
    /// Have the system run it from now on, at every start.
    Install,
    /// Stop it, and have the system forget it.
    Uninstall,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
}

pub use system::{PidFile, Starting, detach, hear_reload, request_reload, service};

pub(crate) use reason::reason;
#[cfg(test)]
pub(crate) use setup::Steps;
pub(crate) use setup::{Elsewhere, Firewall, Opening, Setup, elsewhere};
#[cfg(test)]
pub(crate) use system::testing;
pub(crate) use system::{
    BUFFER_FACTOR, DRAINS, LIMITS, Manager, NetworkNews, REARMS_ONLY_WHEN_DRAINED, RELOAD, Reserve,
    SENDS_MARKED, Signals, Syslog, advice_on_port, bind_early, claim_port, clocks, close_to_others,
    create_directory_for_keys, create_private, drop_privileges, errno, force_receive_buffer,
    force_send_buffer, give_memory_back, instead, is_journal, is_open_to_all, is_refusal,
    is_report, omit_timestamps, open_log, raise_file_limit, refuses_batches, report_errors,
    scp_operand, scp_path, send_marked, set_class_v6, set_fragments, setup, share_port,
    shell_quoted, take_reports,
};

use std::path::{Path, PathBuf};
use std::time::Duration;

/// LOG_DAEMON of RFC 3164, section 4.1.1, in its place of the priority.
pub(crate) const FACILITY: u8 = 3 << 3;

/// The log of a service whose configuration names none: beside that.
pub fn log_of_service(config: &Path) -> PathBuf {
    config.with_extension("log")
}

/// What this process is asked for from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// To stop: SIGTERM or SIGINT, the end of a console or of a service.
    Stop,
    /// To read the configuration again: SIGHUP, or what stands for it.
    Reload,
}

/// What a service manager is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State<'a> {
    /// The service works, or a reload is over.
    Ready,
    /// The configuration is read again; `Ready` follows.
    Reloading,
    /// The service is about to end.
    Stopping,
    /// What the service is at, in words.
    #[allow(dead_code, reason = "only systemd takes it")]
    Status(&'a str),
    /// It is alive.
    Watchdog,
}

/// One reading of the system's clocks. Both count from the same unknown time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// With the time that the machine has slept.
    pub whole: Duration,
    /// Without it.
    pub awake: Duration,
}

/// Whether IP may fragment datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fragments {
    /// Nowhere: a datagram that is longer than the path carries is lost, which is how the path's size is found. The system's
    /// own estimate of that size, which anybody can change by an ICMP message, does not count where it can be told so.
    Forbidden,
    /// Here, and with IPv4 by any router. With IPv6 only here, and so into pieces that every path carries.
    Allowed,
}

/// Which limits cut the buffers of sockets, for a warning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// That of receive buffers, as the end of a sentence.
    pub receive: &'static str,
    /// That of send buffers.
    pub send: &'static str,
}
