//! Addresses as the configuration writes them: `host:port`, `[v6]:port` and `:port`. Names are not resolved here: a
//! configuration is checked without a network.

use super::json::quoted;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// What an address is for, which decides the forms that make sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To receive or accept at; may leave the host out.
    Bind,
    /// To send or connect to; must be one host.
    Target,
}

/// An address that was checked but not resolved. Displays as it is written in a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// A name or a literal IP without brackets. None: every address of this machine, IPv6 and IPv4.
    pub host: Option<String>,
    /// 1 to 65535.
    pub port: u16,
}

impl Address {
    /// Reads an address; the error says what is wrong and, where it can, how to write it.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Address, String> {
        let fault = |what: String| format!("{} {what}", quoted(text));
        if parse_port(text).is_ok() {
            return Err(fault(port_alone(&example(text, purpose))));
        }
        let (host, port) = split(text).map_err(fault)?;
        let port = parse_port(port).map_err(fault)?;
        let address = Address { host, port };
        address.check_purpose(purpose).map_err(fault)?;
        Ok(address)
    }

    /// Fails, with the rest of a sentence, if the address does not make sense for that.
    pub(super) fn check_purpose(&self, purpose: Purpose) -> Result<(), String> {
        match purpose == Purpose::Target && self.is_every() {
            true => Err(format!(
                "names no host to connect to; for this machine write \"127.0.0.1:{}\"",
                self.port
            )),
            false => Ok(()),
        }
    }

    /// The address if its host is a literal IP; None for a name and for `:port`.
    pub fn literal(&self) -> Option<SocketAddr> {
        let host = self.host.as_deref()?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, self.port));
        }
        // An interface by name is left to the resolver, which knows the interfaces.
        let (ip, zone) = host.split_once('%')?;
        let (ip, scope) = (ip.parse::<Ipv6Addr>().ok()?, zone.parse().ok()?);
        Some(SocketAddrV6::new(ip, self.port, 0, scope).into())
    }

    /// Whether it stands for every address of this machine, of one family or both.
    fn is_every(&self) -> bool {
        self.host.is_none()
            || self
                .literal()
                .is_some_and(|literal| literal.ip().is_unspecified())
    }
}

/// How to write the address of a program or of a service, over TCP, if only its port was given.
pub(super) fn example(port: impl fmt::Display, purpose: Purpose) -> String {
    match purpose {
        // whoever reaches an address uses what it leads to: the one that lets nobody else in comes first
        Purpose::Bind => format!(
            "\"127.0.0.1:{port}\" for programs of this machine, or \":{port}\" for whoever reaches it"
        ),
        Purpose::Target => format!("\"host:{port}\""),
    }
}

/// Likewise the address of an end, over UDP: one that only this machine reaches would receive nothing.
pub(super) fn example_of_end(port: impl fmt::Display, purpose: Purpose) -> String {
    match purpose {
        Purpose::Bind => {
            format!("\":{port}\" for every address of this machine, or \"host:{port}\"")
        }
        Purpose::Target => example(port, purpose),
    }
}

/// The address of the loopback interface with this port, if `text` is a port alone.
pub(crate) fn loopback(text: &str) -> Option<Address> {
    let port = parse_port(text).ok()?;
    let host = Some(Ipv4Addr::LOCALHOST.to_string());
    Some(Address { host, port })
}

/// What is wrong with a port without a host and a colon; `right` is how to write it.
pub(super) fn port_alone(right: &str) -> String {
    format!("is a port alone; write {right}")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write_host(f, self.host.as_deref())?;
        write!(f, ":{}", self.port)
    }
}

/// Writes what stands before the colon of the port.
pub(super) fn write_host(f: &mut fmt::Formatter, host: Option<&str>) -> fmt::Result {
    match host {
        None => Ok(()),
        Some(host) if host.contains(':') => write!(f, "[{host}]"),
        Some(host) => f.write_str(host),
    }
}

/// The host, checked, and the text of the port.
pub(super) fn split(text: &str) -> Result<(Option<String>, &str), String> {
    if text.contains("://") || text.contains('/') {
        return Err("is a URL or a path; it must be host:port".into());
    }
    if let Some(rest) = text.strip_prefix('[') {
        return split_bracketed(rest);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "is an IPv6 address without brackets and port; write \"[{text}]:port\""
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("has no port; it must be host:port".into());
    };
    if host.contains(':') {
        return Err(match host.parse::<Ipv6Addr>() {
            Ok(ip) => {
                let port = parse_port(port).map_or("port".to_owned(), |port| port.to_string());
                format!("is an IPv6 address without brackets; write \"[{ip}]:{port}\"")
            }
            Err(_) => "has more than one colon; it must be host:port or [IPv6]:port".into(),
        });
    }
    if host.is_empty() {
        return Ok((None, port));
    }
    check_host(host)?;
    Ok((Some(host.to_owned()), port))
}

fn split_bracketed(rest: &str) -> Result<(Option<String>, &str), String> {
    let Some((host, after)) = rest.split_once(']') else {
        return Err("has no closing bracket; it must be [IPv6]:port".into());
    };
    let (ip, zone) = host.split_once('%').unwrap_or((host, "0"));
    if ip.parse::<Ipv6Addr>().is_err() || zone.is_empty() || !zone.chars().all(is_name_char) {
        return Err("has no IPv6 address in its brackets; it must be [IPv6]:port".into());
    }
    match after.strip_prefix(':') {
        Some(port) => Ok((Some(host.to_owned()), port)),
        None => Err("has no port; it must be [IPv6]:port".into()),
    }
}

/// Checks that a resolver could know the name. Digits and dots alone are no name, so that a mistyped IP address is found here
/// and not by a resolver that reads 127.1 in its own way.
fn check_host(host: &str) -> Result<(), String> {
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(
            "begins with something that is not an IPv4 address; it must be like 192.0.2.1:port"
                .into(),
        );
    }
    // 253 is what fits into a DNS name.
    if host.len() > 253 || !host.chars().all(is_name_char) {
        return Err(
            "begins with something that is neither a name nor an IP address; it must be host:port"
                .into(),
        );
    }
    Ok(())
}

/// Beyond ASCII is left to the resolver.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c) || (!c.is_ascii() && c.is_alphanumeric())
}

pub(super) fn parse_port(text: &str) -> Result<u16, String> {
    // from_str would take a sign.
    let number = text
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten();
    match number {
        Some(port) if port != 0 => Ok(port),
        _ => Err("has no valid port; it must be a number from 1 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_display_as_written() {
        for text in [
            "example.org:1",
            "localhost:65535",
            "my_host-1.lan:80",
            "1and1.com:80",
            "192.0.2.1:2900",
            "[::1]:2900",
            "[fe80::1%eth0]:5",
            "[fe80::1%3]:5",
            "bücher.example:443",
            "a.example.:80",
        ] {
            for purpose in [Purpose::Bind, Purpose::Target] {
                assert_eq!(
                    Address::parse(text, purpose).map(|a| a.to_string()),
                    Ok(text.into())
                );
            }
        }
        for text in [":2900", "0.0.0.0:2900", "[::]:2900"] {
            assert_eq!(
                Address::parse(text, Purpose::Bind).map(|a| a.to_string()),
                Ok(text.into())
            );
            assert!(Address::parse(text, Purpose::Target).is_err());
        }
    }

    #[test]
    fn literals_are_told_from_names() {
        let literal = |text| Address::parse(text, Purpose::Bind).unwrap().literal();
        assert_eq!(literal("127.0.0.1:9"), Some("127.0.0.1:9".parse().unwrap()));
        assert_eq!(literal("[::1]:9"), Some("[::1]:9".parse().unwrap()));
        assert_eq!(
            literal("[fe80::1%7]:9"),
            Some("[fe80::1%7]:9".parse().unwrap())
        );
        assert_eq!(literal("[fe80::1%eth0]:9"), None);
        assert_eq!(literal("localhost:9"), None);
        assert_eq!(literal(":9"), None);
    }
}
