//! Where a host is, as seen from this machine, and by which address others may reach this machine: for `kcptun init`. Nothing
//! is sent but a question to the system's resolver.

use super::report::reason;
use super::resolve::resolve;
use crate::config::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Any address of the Internet (RFC 5737, RFC 3849): the route there has the source address of all routes there.
const ELSEWHERE: [(IpAddr, IpAddr); 2] = [
    (
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    ),
    (
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ),
];
/// Any port: nothing is sent there.
const DISCARD: u16 = 9;

/// Where a host is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is this machine.
    Here,
    /// It is another machine, or this one behind a NAT.
    Elsewhere,
    /// Its name does not resolve, for this reason.
    Unknown(String),
}

/// Where `host` is. May block for as long as the system's resolver does.
pub fn of(host: &Address) -> Place {
    match resolve(host) {
        // where a machine has its own name for an address of the loopback interface, binding works, too
        Ok(found) if found.iter().any(|at| is_here(at.ip())) => Place::Here,
        Ok(_) => Place::Elsewhere,
        Err(error) => Place::Unknown(reason(&error)),
    }
}

fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// An address of this machine that the Internet can reach, unless a firewall forbids it. None: it has none, as behind NAT.
pub fn own_address() -> Option<IpAddr> {
    let sources = ELSEWHERE.into_iter().filter_map(|(any, elsewhere)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((elsewhere, DISCARD)).ok()?;
        socket.local_addr().ok()
    });
    let mut ips = sources.map(|address| address.ip());
    ips.find(|ip| is_global(*ip))
}

/// Whether an address is one of the Internet, and not of a network behind a NAT (RFC 1918, 6598, 3927, 4193).
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_documentation()
                || is_shared)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[1] != 0xdb8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        let at = |host: &str| Address {
            host: Some(host.into()),
            port: 1,
        };
        assert_eq!(of(&at("127.0.0.1")), Place::Here);
        assert_eq!(of(&at("192.0.2.1")), Place::Elsewhere);
        assert!(matches!(of(&at("no-such-name.invalid")), Place::Unknown(_)));
    }

    #[test]
    fn addresses_behind_a_nat_are_not_of_the_internet() {
        for (ip, global) in [
            ("203.0.114.5", true),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("169.254.1.1", false),
            ("2a01:4f8::1", true),
            ("2001:db8::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_global(ip.parse().expect(ip)), global, "{ip}");
        }
    }
}
