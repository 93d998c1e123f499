//! How macOS, FreeBSD and their relatives are administered, for instructions to people. launchd and rc.d are left to whoever
//! knows them.

use crate::platform::setup::{Firewall, Setup};

cfg_if::cfg_if! {
    if #[cfg(target_vendor = "apple")] {
        /// What is to be known of this machine.
        pub(crate) fn setup(_: &str) -> Setup {
            Setup {
                firewall: Firewall::Other(
                    "if macOS' firewall is switched on: it asks when kcptun starts, and later the system settings have it under \
                     Network, Firewall"
                        .into(),
                ),
                service: |_, _| None,
                // since macOS 10.14 at every address, which is what `init` writes
                users_ports: 0,
                scp_needs: Some(
                    "It takes Remote Login here, in the system settings under General, Sharing.",
                ),
            }
        }
    } else {
        use crate::platform::setup::{Opening, USERS_PORTS};

        /// What is to be known of this machine. `ports`: UDP ports as a configuration writes them.
        pub(crate) fn setup(ports: &str) -> Setup {
            let ports = ports.replace('-', ":").replace(',', ", ");
            Setup {
                firewall: Firewall::Known(Opening {
                    name: "pf",
                    command: format!(
                        "echo 'pass in proto udp to port {{ {ports} }}' >>/etc/pf.conf && pfctl -f /etc/pf.conf"
                    ),
                    hint: "As root, and only where pf is enabled (pfctl -s info). Another firewall wants a rule of its own.",
                }),
                service: |_, _| None,
                users_ports: USERS_PORTS,
                scp_needs: None,
            }
        }
    }
}
