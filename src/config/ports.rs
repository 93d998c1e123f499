//! Ports as `udp_bind` and `udp_connect` write them: one, a range, or a list of both, as in `443,27290-27299`.

use super::address::parse_port;
use super::endpoint::Endpoint;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The most ports of one key: each is a socket.
pub const PORTS_MAX: usize = 1024;
/// The longest proposal of how to write ports that is still of use, characters.
const PROPOSAL_MAX: usize = 60;

/// One port or several, each once. Displays as it is written in a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ports {
    /// At least one; none of them overlap.
    ranges: Vec<RangeInclusive<u16>>,
}

impl Ports {
    /// Reads ports; the error goes on after the text, and says how to write it where that can be known.
    pub(crate) fn parse(text: &str) -> Result<Ports, String> {
        let ranges: Vec<_> = text.split(',').map(parse_range).collect::<Result<_, _>>()?;
        let merged = merged(&ranges);
        if let Some(port) = doubled(&ranges) {
            let proposal = merged.to_string();
            return Err(match proposal.len() <= PROPOSAL_MAX {
                true => format!("names port {port} twice; write {proposal}"),
                false => format!("names port {port} twice; name it once"),
            });
        }
        match merged.len() {
            0..=PORTS_MAX => Ok(Ports { ranges }),
            count => Err(format!(
                "names {count} ports; it must be {PORTS_MAX} at most"
            )),
        }
    }

    /// How many there are, at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether there is a choice.
    pub fn are_many(&self) -> bool {
        self.len() > 1
    }

    /// The first.
    pub fn first(&self) -> u16 {
        self.ranges.first().map_or(0, |range| *range.start())
    }

    /// The one in this place, in the order in which they are written.
    pub fn get(&self, place: usize) -> Option<u16> {
        self.iter().nth(place)
    }

    /// All of them, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.ranges.iter().cloned().flatten()
    }

    /// Whether a port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&port))
    }

    /// Words for them: `port 443`, `ports 5-9`.
    pub(crate) fn named(&self) -> String {
        let word = if self.are_many() { "ports" } else { "port" };
        format!("{word} {self}")
    }

    /// All of a machine's address, as a configuration writes them.
    pub fn at(&self, ip: IpAddr) -> String {
        let host = Some(ip.to_string());
        let ports = self.clone();
        Endpoint { host, ports }.to_string()
    }

    /// These, in ascending order and as ranges where they are neighbours. None: there are none.
    pub fn of(ports: impl IntoIterator<Item = u16>) -> Option<Ports> {
        let each: Vec<_> = ports.into_iter().map(|port| port..=port).collect();
        Some(merged(&each)).filter(|ports| !ports.ranges.is_empty())
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Ports {
        let ranges = vec![port..=port];
        Ports { ranges }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (n, range) in self.ranges.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match range.len() {
                1 => write!(f, "{comma}{}", range.start())?,
                _ => write!(f, "{comma}{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let right = |_| {
        "has no valid port; it must be a number from 1 to 65535, a range like 27290-27299, or a list like 443,27290-27299"
            .to_owned()
    };
    let Some((first, last)) = text.split_once('-') else {
        return parse_port(text).map(|port| port..=port).map_err(right);
    };
    let (first, last) = (
        parse_port(first).map_err(right)?,
        parse_port(last).map_err(right)?,
    );
    match first <= last {
        true => Ok(first..=last),
        false => Err(format!(
            "has a range that runs backwards, {first}-{last}; write {last}-{first}"
        )),
    }
}

/// A port that is in more than one of the ranges.
fn doubled(ranges: &[RangeInclusive<u16>]) -> Option<u16> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| *range.start());
    let mut reached = 0;
    for range in sorted {
        if *range.start() <= reached {
            return Some(*range.start());
        }
        reached = *range.end();
    }
    None
}

/// The same ports in ascending order, neighbours and repetitions in one range.
fn merged(ranges: &[RangeInclusive<u16>]) -> Ports {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    Ports { ranges: merged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ports_display_as_written() {
        for (text, ports) in [
            ("443", vec![443]),
            ("5-7", vec![5, 6, 7]),
            ("443,5-7,1", vec![443, 5, 6, 7, 1]),
            ("65534-65535", vec![65534, 65535]),
        ] {
            let parsed = Ports::parse(text).expect(text);
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.iter().collect::<Vec<_>>(), ports);
            assert_eq!(parsed.len(), ports.len());
            assert_eq!(parsed.first(), ports[0]);
            for (place, port) in ports.iter().enumerate() {
                assert_eq!(parsed.get(place), Some(*port));
                assert!(parsed.contains(*port));
            }
            assert_eq!(parsed.get(ports.len()), None);
        }
        assert_eq!(Ports::parse("1-1024").map(|ports| ports.len()), Ok(1024));
    }

    #[test]
    fn a_mistake_is_named_with_the_right_way_to_write_it() {
        let right = "has no valid port; it must be a number from 1 to 65535, a range like 27290-27299, or a list like 443,27290-27299";
        for text in [
            "", "0", "1,", ",1", "1-", "-1", "1-2-3", "+1", "1, 2", "65536", "0-9",
        ] {
            assert_eq!(Ports::parse(text).expect_err(text), right);
        }
        for (text, error) in [
            ("9-5", "has a range that runs backwards, 9-5; write 5-9"),
            ("7,7", "names port 7 twice; write 7"),
            ("443,1-9,5-12", "names port 5 twice; write 1-12,443"),
            ("1-9,3,10", "names port 3 twice; write 1-10"),
            ("1-1025", "names 1025 ports; it must be 1024 at most"),
            ("1-65535", "names 65535 ports; it must be 1024 at most"),
        ] {
            assert_eq!(Ports::parse(text).expect_err(text), error);
        }
        let many: Vec<String> = (1..100).map(|port| (2 * port).to_string()).collect();
        let error = Ports::parse(&format!("{},2", many.join(","))).expect_err("twice");
        assert_eq!(error, "names port 2 twice; name it once");
    }

    #[test]
    fn single_ports_become_ranges() {
        let ports = Ports::of([9, 5, 6, 7, 1]).expect("some");
        assert_eq!(ports.to_string(), "1,5-7,9");
        assert_eq!(Ports::of([]), None);
    }
}
