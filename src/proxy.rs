//! HAProxy's PROXY protocol: the header by which a service learns whom a connection comes from, before its first byte.
//! Only its form is here; which addresses it names is said in `reference::keys`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The form of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a header of version 2 begins with; the last byte has the version and the command PROXY.
const SIGNATURE: [u8; 13] = *b"\r\n\r\n\0\r\nQUIT\n\x21";
/// The family and transport of a TCP connection over IPv4.
const STREAM_V4: u8 = 0x11;
/// The family and transport of a TCP connection over IPv6.
const STREAM_V6: u8 = 0x21;

/// The header of a connection from `from` to `to`. If `to` is of the other family, it becomes the unspecified address of the
/// family of `from`, since a header has one family only.
pub fn header(version: Version, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (source, target) = (from.ip().to_canonical(), to.ip().to_canonical());
    let target = match (source, target) {
        (IpAddr::V4(_), IpAddr::V6(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (IpAddr::V6(_), IpAddr::V4(_)) => Ipv6Addr::UNSPECIFIED.into(),
        (_, target) => target,
    };
    let ports = [from.port(), to.port()];
    match version {
        Version::V1 => text(source, target, ports),
        Version::V2 => binary(source, target, ports),
    }
}

fn text(source: IpAddr, target: IpAddr, [from, to]: [u16; 2]) -> Vec<u8> {
    let family = match source {
        IpAddr::V4(_) => "TCP4",
        IpAddr::V6(_) => "TCP6",
    };
    format!("PROXY {family} {source} {target} {from} {to}\r\n").into()
}

fn binary(source: IpAddr, target: IpAddr, ports: [u16; 2]) -> Vec<u8> {
    let mut body = Vec::new();
    for ip in [source, target] {
        match ip {
            IpAddr::V4(ip) => body.extend(ip.octets()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    body.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    let (family, len) = match source {
        IpAddr::V4(_) => (STREAM_V4, 12u16),
        IpAddr::V6(_) => (STREAM_V6, 36),
    };
    let [high, low] = len.to_be_bytes();
    [&SIGNATURE[..], &[family, high, low], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(version: Version, from: &str, to: &str) -> Vec<u8> {
        let at = |text: &str| text.parse().expect("an address");
        header(version, at(from), at(to))
    }

    #[test]
    fn headers_are_those_of_the_specification() {
        let line = |from, to| String::from_utf8(made(Version::V1, from, to)).expect("text");
        assert_eq!(
            line("255.255.255.255:65535", "255.255.255.255:65535"),
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"
        );
        assert_eq!(
            line("[2001:db8::1]:1", "[2001:db8::2]:443"),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n"
        );
        let mut four = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c".to_vec();
        four.extend([192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 3, 4]);
        assert_eq!(made(Version::V2, "192.0.2.1:258", "198.51.100.2:772"), four);
        let six = made(Version::V2, "[2001:db8::1]:258", "[::2]:772");
        assert_eq!(six[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(six[16..20], [0x20, 1, 0x0d, 0xb8]);
        assert_eq!((six[31], six[47], &six[48..]), (1, 2, &[1, 2, 3, 4][..]));
    }

    #[test]
    fn a_header_has_one_family() {
        for (from, to, line) in [
            (
                "[::ffff:192.0.2.1]:1",
                "[::ffff:192.0.2.2]:2",
                "TCP4 192.0.2.1 192.0.2.2 1 2",
            ),
            ("192.0.2.1:1", "[::]:2", "TCP4 192.0.2.1 0.0.0.0 1 2"),
            ("[2001:db8::1]:1", "0.0.0.0:2", "TCP6 2001:db8::1 :: 1 2"),
            ("[fe80::1%3]:1", "[fe80::2%3]:2", "TCP6 fe80::1 fe80::2 1 2"),
        ] {
            let right = format!("PROXY {line}\r\n");
            assert_eq!(made(Version::V1, from, to), right.as_bytes());
        }
    }
}
