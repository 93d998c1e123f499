//! How a machine is administered, for instructions to people: its firewall, its service manager, who may bind which port. The
//! commands of this machine's own system are in that system's module, by `setup`.

mod linux;

pub(crate) use linux::{Firewall, systemd};

/// How a firewall lets UDP ports in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    /// The firewall's name.
    pub name: &'static str,
    /// The command that lets them in.
    pub command: String,
    /// What else is to be known, a sentence.
    pub hint: &'static str,
}

/// What has a system run kcptun by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Steps {
    /// What the commands do.
    pub what: &'static str,
    /// The commands, in order.
    pub commands: Vec<String>,
}

/// What instructions say of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Its firewall. Where none is known: what to say of that, as the end of a sentence.
    pub firewall: Result<Opening, String>,
    /// How it runs a configuration by itself: takes the file's name as a command here writes it, and server or peer.
    pub service: fn(&str, &str) -> Option<Steps>,
    /// The first port that any user may bind.
    pub users_ports: u16,
    /// What another machine needs here to fetch a file by scp, a sentence; None where that is usually there.
    pub fetching: Option<&'static str>,
}
