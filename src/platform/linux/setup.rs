//! How this Linux is administered, for instructions to people: the firewall and the service manager that it has. Their commands
//! are in `platform::setup`.

use crate::platform::setup::{Firewall, FirewallTool, Setup, USERS_PORTS, systemd};
use std::path::{Path, PathBuf};

/// Where programs for the administrator are, which may not be in a user's PATH.
const SYSTEM_PATHS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// This directory is there where systemd runs the machine (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// What this machine has: the firewall to use, and systemd where it runs the machine. `ports`: UDP ports
/// as a configuration writes them.
pub(crate) fn setup(ports: &str) -> Setup {
    Setup {
        firewall: match firewall(has_program) {
            Some(found) => Firewall::Known(found.opening(ports)),
            None => Firewall::Other(
                "if something blocks it: no ufw, firewalld, nftables or iptables was found here"
                    .into(),
            ),
        },
        service: |file, role| Path::new(SYSTEMD).exists().then(|| systemd(file, role)),
        users_ports: USERS_PORTS,
        scp_needs: None,
    }
}

/// The firewall to use. `has`: whether this machine has a program.
fn firewall(has: impl Fn(&str) -> bool) -> Option<FirewallTool> {
    let mut all = FirewallTool::ALL.into_iter();
    all.find(|tool| has(tool.program()))
}

/// Whether this machine has a program.
fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_PATHS.map(PathBuf::from);
    let mut directories = std::env::split_paths(&path).chain(system);
    directories.any(|directory| directory.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firewall_on_top_is_found() {
        assert_eq!(firewall(|_| false), None);
        assert_eq!(firewall(|_| true), Some(FirewallTool::Ufw));
        let has = |program: &str| ["iptables", "nft"].contains(&program);
        assert_eq!(firewall(has), Some(FirewallTool::Nftables));
        assert_eq!(firewall(|p| p == "iptables"), Some(FirewallTool::Iptables));
        let has = |program: &str| program == "firewall-cmd";
        assert_eq!(firewall(has), Some(FirewallTool::Firewalld));
    }
}
