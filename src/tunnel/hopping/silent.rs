//! Ports of the peer that answer nothing while another one does, and what the log says of them. Nothing is sent because of it.

use crate::throttle::Throttle;
use crate::time::Instant;
use std::net::IpAddr;

/// So many packets to a port without an answer since it last answered, if it ever did: loss alone hardly does that.
const IN_VAIN: u32 = 5;
/// The most ports that a line names.
const NAMED_MAX: usize = 10;

/// A port that has not answered since something was sent to it.
struct Port {
    number: u16,
    /// So many packets had no answer.
    packets: u32,
    /// A line has named it.
    told: bool,
}

impl Port {
    fn is_silent(&self) -> bool {
        self.packets >= IN_VAIN
    }
}

/// The ports that have not answered.
#[derive(Default)]
pub(super) struct SilentPorts {
    /// Whose they are.
    peer: Option<IpAddr>,
    /// Sorted by port.
    asked: Vec<Port>,
    lines: Throttle,
}

impl SilentPorts {
    /// So many packets to this port of the peer had no answer, while the pair in use had some. A port that is silent and was not
    /// named yet has a line, which names all. Lines come at growing intervals.
    pub(super) fn on_silence(&mut self, peer: IpAddr, port: u16, packets: u32, now: Instant) {
        self.count(peer, port, packets);
        if let Some(ports) = self.news(now) {
            log::warn!(
                "{peer}: no answer from UDP {ports}, while another port of udp_connect answers: do the firewalls let all of them \
                 through, and are all in udp_bind there?"
            );
        }
    }

    fn count(&mut self, peer: IpAddr, port: u16, packets: u32) {
        if self.peer != Some(peer) {
            self.asked.clear();
            self.peer = Some(peer);
        }
        let place = self.asked.binary_search_by_key(&port, |port| port.number);
        let place = place.unwrap_or_else(|place| {
            let new = Port {
                number: port,
                packets: 0,
                told: false,
            };
            self.asked.insert(place, new);
            place
        });
        let port = &mut self.asked[place];
        port.packets = port.packets.saturating_add(packets);
    }

    /// The silent ports, if a line is to name them.
    fn news(&mut self, now: Instant) -> Option<String> {
        let is_news = self.asked.iter().any(|port| port.is_silent() && !port.told);
        if !is_news {
            return None;
        }
        self.lines.admit(now)?;
        for port in &mut self.asked {
            port.told |= port.is_silent();
        }
        Some(self.named())
    }

    /// This port has answered.
    pub(super) fn on_answer(&mut self, port: u16) {
        self.asked.retain(|silent| silent.number != port);
    }

    /// Those that are silent.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        let silent = self.asked.iter().filter(|port| port.is_silent());
        silent.map(|port| port.number)
    }

    /// The same for people.
    fn named(&self) -> String {
        let all: Vec<String> = self.ports().map(|port| port.to_string()).collect();
        let word = if all.len() == 1 { "port" } else { "ports" };
        let named = all[..all.len().min(NAMED_MAX)].join(", ");
        match all.len().saturating_sub(NAMED_MAX) {
            0 => format!("{word} {named}"),
            more => format!("{word} {named} and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SEC;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const NOW: Instant = Instant::from_millis(1_000);

    /// What a line names when so many packets to this port had no answer at this time.
    fn line(silent: &mut SilentPorts, port: u16, packets: u32, now: Instant) -> Option<String> {
        silent.count(PEER, port, packets);
        silent.news(now)
    }

    #[test]
    fn a_port_is_silent_after_five_packets_in_vain_and_until_it_answers() {
        let mut silent = SilentPorts::default();
        assert_eq!(line(&mut silent, 7, 5, NOW).as_deref(), Some("port 7"));
        assert_eq!(line(&mut silent, 3, 3, NOW), None);
        assert_eq!(silent.named(), "port 7");
        // the line about it waits until one is due
        assert_eq!(line(&mut silent, 3, 2, NOW), None);
        assert_eq!(silent.named(), "ports 3, 7");
        let later = NOW.after(2 * SEC);
        let both = line(&mut silent, 3, 5, later);
        assert_eq!(both.as_deref(), Some("ports 3, 7"));
        silent.on_answer(7);
        assert_eq!(silent.named(), "port 3");
        (10..25).for_each(|port| silent.count(PEER, port, 5));
        assert!(
            silent.named().ends_with(", 17, 18 and 6 more"),
            "{}",
            silent.named()
        );
    }

    #[test]
    fn a_line_that_was_held_back_is_dropped_once_its_port_has_answered() {
        for answers in [&[3, 7][..], &[3]] {
            let mut silent = SilentPorts::default();
            assert!(line(&mut silent, 7, 5, NOW).is_some());
            assert_eq!(line(&mut silent, 3, 5, NOW), None);
            answers.iter().for_each(|port| silent.on_answer(*port));
            let later = NOW.after(10 * SEC);
            assert_eq!(line(&mut silent, 9, 2, later), None, "{answers:?}");
            // that it was silent before does not count
            assert_eq!(line(&mut silent, 3, 4, later), None);
            assert!(line(&mut silent, 3, 1, later).is_some());
        }
    }

    #[test]
    fn what_another_address_of_the_peer_did_not_answer_does_not_count() {
        let mut silent = SilentPorts::default();
        silent.count(PEER, 7, 4);
        silent.count(PEER, 9, 5);
        let other = [192, 0, 2, 1].into();
        silent.count(other, 7, 4);
        assert_eq!(silent.news(NOW), None);
        silent.count(other, 7, 1);
        assert_eq!(silent.news(NOW).as_deref(), Some("port 7"));
    }
}
