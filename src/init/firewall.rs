//! Firewalls of Linux: how each is told to let UDP ports in. Whether one is there is asked of who calls.

use crate::config::Ports;

/// A firewall's tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Firewall {
    Ufw,
    Firewalld,
    Nftables,
    Iptables,
}

impl Firewall {
    /// All of them; those before others are made of them, and are to be used where both are there.
    pub(super) const ALL: [Firewall; 4] = [
        Firewall::Ufw,
        Firewall::Firewalld,
        Firewall::Nftables,
        Firewall::Iptables,
    ];

    /// The one to use. `has`: whether this machine has a program.
    pub(super) fn found(has: impl Fn(&str) -> bool) -> Option<Firewall> {
        let mut all = Firewall::ALL.into_iter();
        all.find(|firewall| has(firewall.program()))
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Firewall::Ufw => "ufw",
            Firewall::Firewalld => "firewalld",
            Firewall::Nftables => "nftables",
            Firewall::Iptables => "iptables",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Firewall::Ufw => "ufw",
            Firewall::Firewalld => "firewall-cmd",
            Firewall::Nftables => "nft",
            Firewall::Iptables => "iptables",
        }
    }

    /// The command that lets UDP to these ports in.
    pub(super) fn command(self, ports: &Ports) -> String {
        let text = ports.to_string();
        let ranges = text.replace('-', ":");
        match self {
            Firewall::Ufw => format!("sudo ufw allow {ranges}/udp"),
            Firewall::Firewalld => {
                let ports = text
                    .split(',')
                    .map(|part| format!(" --add-port={part}/udp"));
                let ports: String = ports.collect();
                format!("sudo firewall-cmd --permanent{ports} && sudo firewall-cmd --reload")
            }
            Firewall::Nftables => {
                let set = match text.contains(',') {
                    true => format!("'{{ {} }}'", text.replace(',', ", ")),
                    false => text,
                };
                format!("sudo nft insert rule inet filter input udp dport {set} accept")
            }
            Firewall::Iptables => {
                let ports = match ranges.contains(',') {
                    true => format!("-m multiport --dports {ranges}"),
                    false => format!("--dport {ranges}"),
                };
                format!("sudo iptables -I INPUT -p udp {ports} -j ACCEPT")
            }
        }
    }

    /// What else is to be known of it.
    pub(super) fn hint(self) -> Option<&'static str> {
        match self {
            Firewall::Ufw | Firewall::Firewalld => None,
            Firewall::Nftables => Some(
                "needed only if `sudo nft list ruleset` has a table that drops, whose name stands for `inet filter` (\"No such file or directory\": there is none of that name); write it into /etc/nftables.conf, too, or it is gone after a reboot",
            ),
            Firewall::Iptables => Some(
                "needed only if `sudo iptables -L INPUT` drops; the same with ip6tables for IPv6; both are gone after a reboot unless saved, as by netfilter-persistent save",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_on_top_is_found() {
        assert_eq!(Firewall::found(|_| false), None);
        assert_eq!(Firewall::found(|_| true), Some(Firewall::Ufw));
        let has = |program: &str| ["iptables", "nft"].contains(&program);
        assert_eq!(Firewall::found(has), Some(Firewall::Nftables));
        assert_eq!(
            Firewall::found(|p| p == "iptables"),
            Some(Firewall::Iptables)
        );
        assert_eq!(
            Firewall::found(|p| p == "firewall-cmd"),
            Some(Firewall::Firewalld)
        );
    }

    #[test]
    fn each_takes_ports_ranges_and_lists() {
        let commands = |ports: &str| {
            let ports = Ports::parse(ports).expect("ports");
            Firewall::ALL.map(|firewall| firewall.command(&ports))
        };
        assert_eq!(
            commands("27290"),
            [
                "sudo ufw allow 27290/udp",
                "sudo firewall-cmd --permanent --add-port=27290/udp && sudo firewall-cmd --reload",
                "sudo nft insert rule inet filter input udp dport 27290 accept",
                "sudo iptables -I INPUT -p udp --dport 27290 -j ACCEPT",
            ]
        );
        assert_eq!(
            commands("443,5-9"),
            [
                "sudo ufw allow 443,5:9/udp",
                "sudo firewall-cmd --permanent --add-port=443/udp --add-port=5-9/udp && sudo firewall-cmd --reload",
                "sudo nft insert rule inet filter input udp dport '{ 443, 5-9 }' accept",
                "sudo iptables -I INPUT -p udp -m multiport --dports 443,5:9 -j ACCEPT",
            ]
        );
        let [_, _, _, range] = commands("5-9");
        assert!(range.contains("--dport 5:9 "), "{range}");
    }
}
