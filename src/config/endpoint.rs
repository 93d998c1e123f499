//! A UDP end as the configuration writes it: as an address, but with one port or several. Names are not resolved here.

use super::address::{self, Address, Purpose};
use super::json::quoted;
use super::ports::Ports;
use std::fmt;
use std::net::IpAddr;

/// A host and its ports, checked but not resolved. Displays as it is written in a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// A name or a literal IP without brackets. None: every address of this machine, IPv6 and IPv4.
    pub host: Option<String>,
    /// The ports, one at least.
    pub ports: Ports,
}

impl Endpoint {
    /// Reads an endpoint; the error says what is wrong and, where it can, how to write it.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Endpoint, String> {
        let fault = |what: String| format!("{} {what}", quoted(text));
        if Ports::parse(text).is_ok() {
            let right = address::example_of_end(text, purpose);
            return Err(fault(address::port_alone(&right)));
        }
        let (host, ports) = address::split(text).map_err(fault)?;
        let ports = Ports::parse(ports).map_err(fault)?;
        let endpoint = Endpoint { host, ports };
        endpoint.first().check_purpose(purpose).map_err(fault)?;
        Ok(endpoint)
    }

    /// The address of one of the ports.
    pub fn at(&self, port: u16) -> Address {
        let host = self.host.clone();
        Address { host, port }
    }

    /// The address of the first port.
    pub fn first(&self) -> Address {
        self.at(self.ports.first())
    }

    /// The host if it is a literal IP; None for a name and where there is none.
    pub fn literal_ip(&self) -> Option<IpAddr> {
        self.first().literal().map(|literal| literal.ip())
    }

    /// Whether some address is one of both.
    pub(super) fn overlaps(&self, other: &Endpoint) -> bool {
        self.host == other.host && self.ports.iter().any(|port| other.ports.contains(port))
    }
}

impl From<Address> for Endpoint {
    fn from(address: Address) -> Endpoint {
        Endpoint {
            host: address.host,
            ports: address.port.into(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        address::write_host(f, self.host.as_deref())?;
        write!(f, ":{}", self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_endpoints_display_as_written() {
        for text in [
            "example.org:1",
            "192.0.2.1:443,27290-27299",
            "[fe80::1%eth0]:5-9",
            "[::1]:5,7",
        ] {
            for purpose in [Purpose::Bind, Purpose::Target] {
                let endpoint = Endpoint::parse(text, purpose).expect(text);
                assert_eq!(endpoint.to_string(), text);
            }
        }
        for text in [":27290-27299", "0.0.0.0:443,27290-27299"] {
            let endpoint = Endpoint::parse(text, Purpose::Bind).expect(text);
            assert_eq!(endpoint.to_string(), text);
            assert!(Endpoint::parse(text, Purpose::Target).is_err());
        }
    }

    #[test]
    fn a_mistake_is_named() {
        let error = |text, purpose| Endpoint::parse(text, purpose).expect_err(text);
        assert_eq!(
            error("27290-27299", Purpose::Bind),
            "\"27290-27299\" is a port alone; write \":27290-27299\" for every address of this machine, or \"host:27290-27299\""
        );
        assert_eq!(
            error(":27299-27290", Purpose::Bind),
            "\":27299-27290\" has a range that runs backwards, 27299-27290; write 27290-27299"
        );
        assert_eq!(
            error(":5-9", Purpose::Target),
            "\":5-9\" names no host to connect to; for this machine write \"127.0.0.1:5\""
        );
    }

    #[test]
    fn endpoints_overlap_where_a_port_of_the_same_host_does() {
        let endpoint = |text| Endpoint::parse(text, Purpose::Bind).expect(text);
        assert!(endpoint("a:1-5").overlaps(&endpoint("a:9,5")));
        assert!(!endpoint("a:1-5").overlaps(&endpoint("a:6")));
        assert!(!endpoint("a:1-5").overlaps(&endpoint("b:1-5")));
    }
}
