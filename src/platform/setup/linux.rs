//! Linux: how each of its firewalls is told to let UDP ports in, and how systemd runs kcptun. Every system knows them, since a
//! server elsewhere is taken for one of Linux. What this machine has of them is for `platform::linux` to find.

use super::{Opening, Steps};

/// A firewall's tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Firewall {
    Ufw,
    Firewalld,
    Nftables,
    Iptables,
}

impl Firewall {
    /// All of them; those before others are made of them, and are to be used where both are there.
    pub(crate) const ALL: [Firewall; 4] = [
        Firewall::Ufw,
        Firewall::Firewalld,
        Firewall::Nftables,
        Firewall::Iptables,
    ];

    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Firewall::Ufw => "ufw",
            Firewall::Firewalld => "firewalld",
            Firewall::Nftables => "nftables",
            Firewall::Iptables => "iptables",
        }
    }

    fn command(self, ports: &str) -> String {
        let text = ports;
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
                    false => text.to_owned(),
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

    /// How it lets UDP to these ports in, which are written as in a configuration: 443,5-9.
    pub(crate) fn opening(self, ports: &str) -> Opening {
        Opening {
            name: self.name(),
            command: self.command(ports),
            hint: match self {
                Firewall::Ufw | Firewall::Firewalld => {
                    "It does no harm where the firewall is switched off."
                }
                Firewall::Nftables => {
                    "It is needed only if `sudo nft list ruleset` has a table that drops, whose name stands for `inet filter` (\"No such file or directory\": there is none of that name); write it into /etc/nftables.conf, too, or it is gone after a reboot."
                }
                Firewall::Iptables => {
                    "It is needed only if `sudo iptables -L INPUT` drops; the same with ip6tables for IPv6; both are gone after a reboot unless saved, as by netfilter-persistent save."
                }
            },
        }
    }
}

/// How systemd runs kcptun with a configuration. `file`: its name as the shell takes it; `role`: server or peer.
pub(crate) fn systemd(file: &str, role: &str) -> Steps {
    Steps {
        what: "As a service of systemd (250 or later) instead, with kcptun in /usr/local/bin; its Debian package has the unit in place:",
        commands: vec![
            format!("sudo install -D -m 600 {file} /etc/kcptun/{role}.json"),
            format!(
                "kcptun help kcptun-{role}.service | sudo tee /etc/systemd/system/kcptun-{role}.service > /dev/null"
            ),
            format!("sudo systemctl enable --now kcptun-{role}"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_ports_ranges_and_lists() {
        let commands = |ports: &str| Firewall::ALL.map(|firewall| firewall.command(ports));
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
