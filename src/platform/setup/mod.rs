//! How a machine is administered, for instructions to people: its firewall, its service manager, who may bind which port. What
//! this machine has is in its system's module, by `setup`. Here is what a machine that is not this one is taken for: a Linux.

mod linux;

pub(super) use linux::{FirewallTool, systemd};

/// The first port that any user may bind, where that is not said otherwise.
pub(super) const USERS_PORTS: u16 = 1024;

/// How a firewall lets UDP ports in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    /// The firewall's name.
    pub name: &'static str,
    /// The command that lets them in.
    pub command: String,
    /// What else is to be known, as sentences.
    pub hint: &'static str,
}

/// A machine's firewall.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "not every system has both")]
pub(crate) enum Firewall {
    /// One that a command opens.
    Known(Opening),
    /// Another, or none: what to say of it, as the end of a sentence.
    Other(String),
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
    /// Its firewall.
    pub firewall: Firewall,
    /// How it runs a configuration by itself: takes the file's name as a command here writes it, and server or peer.
    pub service: fn(&str, &str) -> Option<Steps>,
    /// The first port that any user may bind.
    pub users_ports: u16,
    /// What another machine needs here to fetch a file by scp, a sentence; None where that is usually there.
    pub scp_needs: Option<&'static str>,
}

/// What instructions say of a machine that is not this one.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// The firewalls that it may have.
    pub firewalls: Vec<Opening>,
    /// How it runs a configuration by itself, as in [`Setup`].
    pub service: fn(&str, &str) -> Steps,
    /// The first port that any user may bind.
    pub users_ports: u16,
}

/// A Linux with systemd. `ports`: UDP ports as a configuration writes them.
pub(crate) fn elsewhere(ports: &str) -> Elsewhere {
    Elsewhere {
        firewalls: FirewallTool::ALL.map(|tool| tool.opening(ports)).to_vec(),
        service: systemd,
        users_ports: USERS_PORTS,
    }
}
