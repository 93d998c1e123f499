//! Ports of the peer that answer nothing while another one does, and what the log says of them. Nothing is sent because of it.

use crate::throttle::Throttle;
use crate::time::Instant;
use std::net::IpAddr;

/// So many pings of a port without an answer, and none ever: loss alone hardly does that.
const IN_VAIN: u32 = 5;
/// The most ports that a line names.
const NAMED_MAX: usize = 10;

/// The ports that have not answered.
#[derive(Default)]
pub(super) struct SilentPorts {
    /// Each with the number of its pings, in its order.
    asked: Vec<(u16, u32)>,
    /// A port has come to these that no line has named.
    news: bool,
    lines: Throttle,
}

impl SilentPorts {
    /// So many pings of this port of the peer had no answer, while the pair in use had some. Says so once for each port, and
    /// with growing pauses.
    pub(super) fn on_silence(&mut self, peer: IpAddr, port: u16, pings: u32, now: Instant) {
        let place = self.asked.binary_search_by_key(&port, |(port, _)| *port);
        let place = place.unwrap_or_else(|place| {
            self.asked.insert(place, (port, 0));
            place
        });
        let before = self.asked[place].1;
        self.asked[place].1 = before.saturating_add(pings);
        self.news |= before < IN_VAIN && self.asked[place].1 >= IN_VAIN;
        if self.news && self.lines.admit(now).is_some() {
            self.news = false;
            let ports = self.named();
            log::warn!(
                "{peer}: no answer from UDP {ports}, while another port of udp_connect answers: do the firewalls let all of them \
                 through, and are all in udp_bind there?"
            );
        }
    }

    /// This port has answered.
    pub(super) fn on_answer(&mut self, port: u16) {
        self.asked.retain(|(silent, _)| *silent != port);
    }

    /// Those that are silent.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        let silent = self.asked.iter().filter(|(_, pings)| *pings >= IN_VAIN);
        silent.map(|(port, _)| *port)
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

    #[test]
    fn a_port_is_silent_after_five_pings_in_vain_and_until_it_answers() {
        let mut silent = SilentPorts::default();
        let now = Instant::ZERO.after(SEC);
        silent.on_silence(PEER, 7, 5, now);
        silent.on_silence(PEER, 3, 3, now);
        assert_eq!(silent.named(), "port 7");
        silent.on_silence(PEER, 3, 2, now);
        assert_eq!(silent.named(), "ports 3, 7");
        // the line about it waits until one is due
        assert!(silent.news);
        silent.on_silence(PEER, 3, 5, now.after(2 * SEC));
        assert!(!silent.news);
        silent.on_answer(7);
        assert_eq!(silent.named(), "port 3");
        (10..25).for_each(|port| silent.on_silence(PEER, port, 5, now));
        assert!(
            silent.named().ends_with(", 17, 18 and 6 more"),
            "{}",
            silent.named()
        );
    }
}
