//! Linux: how each of its firewalls is told to let UDP ports in, and how systemd runs kcptun. Every system knows them, since a
//! server elsewhere is taken for one of Linux. What this machine has of them is for `linux::setup` to find.

use super::{Opening, Steps};

/// A firewall's tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FirewallTool {
    Ufw,
    Firewalld,
    Nftables,
    Iptables,
}

impl FirewallTool {
    /// All of them, in the order to look for them: ufw and firewalld work by the other two.
    pub(crate) const ALL: [FirewallTool; 4] = [
        FirewallTool::Ufw,
        FirewallTool::Firewalld,
        FirewallTool::Nftables,
        FirewallTool::Iptables,
    ];

    /// Its name.
    fn name(self) -> &'static str {
        match self {
            FirewallTool::Ufw => "ufw",
            FirewallTool::Firewalld => "firewalld",
            FirewallTool::Nftables => "nftables",
            FirewallTool::Iptables => "iptables",
        }
    }

    /// The program that there is where it is.
    #[allow(dead_code, reason = "only Linux looks for it")]
    pub(crate) fn program(self) -> &'static str {
        match self {
            FirewallTool::Ufw => "ufw",
            FirewallTool::Firewalld => "firewall-cmd",
            FirewallTool::Nftables => "nft",
            FirewallTool::Iptables => "iptables",
        }
    }

    fn command(self, ports: &str) -> String {
        let text = ports;
        let ranges = text.replace('-', ":");
        match self {
            FirewallTool::Ufw => format!("sudo ufw allow {ranges}/udp"),
            FirewallTool::Firewalld => {
                let ports = text
                    .split(',')
                    .map(|part| format!(" --add-port={part}/udp"));
                let ports: String = ports.collect();
                format!("sudo firewall-cmd --permanent{ports} && sudo firewall-cmd --reload")
            }
            FirewallTool::Nftables => {
                let set = match text.contains(',') {
                    true => format!("'{{ {} }}'", text.replace(',', ", ")),
                    false => text.to_owned(),
                };
                format!("sudo nft insert rule inet filter input udp dport {set} accept")
            }
            FirewallTool::Iptables => {
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
                FirewallTool::Ufw | FirewallTool::Firewalld => {
                    "It does no harm where the firewall is switched off."
                }
                FirewallTool::Nftables => {
                    "Needed only where a table drops: `sudo nft list ruleset` names it, if not `inet filter`. Add the rule to /etc/nftables.conf to keep it."
                }
                FirewallTool::Iptables => {
                    "Needed only where `sudo iptables -L INPUT` drops; for IPv6 the same with ip6tables. netfilter-persistent save keeps them."
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
        let commands = |ports: &str| FirewallTool::ALL.map(|firewall| firewall.command(ports));
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
