//! Rendezvous mode: two ends behind NAT find each other through a third that both can reach. Here is what each of the
//! three says, and when. A server behind NAT says `listen` every so often; a client says `connect` until it has an answer;
//! the rendezvous server (`registry` is its memory) tells each the other's addresses in a `punch`; then both ping these,
//! which opens both NATs. The form of the messages is in `message`.

use super::registry::{NotFound, Place, Registered, Registry};
use super::{Tunnel, since_ping};
use crate::message::{Control, Meeting, PADDING_MAX, PUNCH_MAX};
use crate::path::Local;
use crate::settings::Rendezvous;
use crate::time::{Duration, Instant, SEC};
use rand::RngExt;
use std::net::{IpAddr, SocketAddr};

/// A server behind NAT registers at least so often: most NATs keep a UDP mapping for 30 s or more.
const LISTEN_EVERY: Duration = Duration::from_secs(25);
/// And as at the start again, first after so long, when its address had to be validated.
const PROOF_AGAIN: Duration = Duration::from_secs(2);
/// A client that has no answer asks after 1, 2, 4 s and so on, and at last every so many seconds.
const CONNECT_EVERY: Duration = Duration::from_secs(8);
/// The pauses after each ping to an address of a punch; after the last one the address is given up.
const PINGS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_500),
    Duration::from_millis(3_000),
];
/// Addresses of punches that are pinged at the same time, at most.
const PROBES_MAX: usize = 32;
/// A server that has said nothing for so long, though something was sent to it, is pinged every second.
const QUIET: Duration = Duration::from_secs(2);
/// After so many of these pings the rendezvous server is asked where it is.
const MISSED: u64 = 3;

/// An address of a punch, while it is pinged.
struct Probe {
    addr: SocketAddr,
    sent: usize,
    next: Instant,
}

/// The rendezvous server, and this end's own address as it goes there.
#[derive(Clone, Copy)]
struct Through {
    server: SocketAddr,
    own: SocketAddr,
}

/// What an end in rendezvous mode remembers.
pub(super) struct Meetings {
    role: Rendezvous,
    registry: Option<Box<Registry>>,
    through: Option<Through>,
    /// When the next listen or connect is due.
    next: Instant,
    /// When the last was said.
    said_at: Option<Instant>,
    /// How often one was sent since there was last an answer.
    asked: u32,
    /// The rendezvous server has taken this service's registration.
    answered: bool,
    /// Its machine says that nothing receives at its port.
    refused: bool,
    probes: Vec<Probe>,
    /// When the client's server was last heard.
    heard_at: Instant,
    /// Since when the client's server owes an answer, and the pings since then.
    owing: Option<(Instant, u64)>,
}

impl Meetings {
    /// `lasts`: how long a registration holds.
    pub(super) fn new(role: Rendezvous, lasts: Duration, now: Instant) -> Meetings {
        let registry = match role {
            Rendezvous::Keeper => Some(Box::new(Registry::new(lasts))),
            _ => None,
        };
        Meetings {
            role,
            registry,
            through: None,
            next: Instant::NEVER,
            said_at: None,
            asked: 0,
            answered: false,
            refused: false,
            probes: Vec::new(),
            heard_at: now,
            owing: None,
        }
    }

    /// How long a registration holds from now on.
    pub(super) fn set_lasts(&mut self, lasts: Duration) {
        if let Some(registry) = &mut self.registry {
            registry.set_lasts(lasts);
        }
    }

    pub(super) fn registrations(&self) -> usize {
        self.registry.as_ref().map_or(0, |registry| registry.len())
    }

    /// Whether something may come from here besides what comes from the server.
    pub(super) fn expects(&self, from: SocketAddr) -> bool {
        self.through.is_some_and(|t| t.server == from)
            || self.probes.iter().any(|p| p.addr.ip() == from.ip())
    }

    pub(super) fn on_refused(&mut self, from: SocketAddr) {
        self.refused |= self.through.is_some_and(|t| t.server == from);
    }

    /// A good packet came from the client's server: it need not be looked for.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.owing = None;
        if self.is_seeking() {
            self.found();
        }
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.role, Rendezvous::Client(_))
    }

    fn is_seeking(&self) -> bool {
        self.is_client() && self.next != Instant::NEVER
    }

    fn found(&mut self) {
        self.next = Instant::NEVER;
        self.asked = 0;
        self.probes.clear();
    }

    fn seek(&mut self, now: Instant) {
        self.next = now;
        self.asked = 0;
        self.owing = None;
    }

    /// Has an address pinged a few times, the first time at once.
    fn add_candidate(&mut self, addr: SocketAddr, now: Instant) {
        let new = Probe {
            addr,
            sent: 0,
            next: now,
        };
        if let Some(probe) = self.probes.iter_mut().find(|p| p.addr == addr) {
            *probe = new;
        } else if self.probes.len() < PROBES_MAX {
            self.probes.push(new);
        }
    }

    /// Whether a punch may have this address pinged. Those of the machine itself make sense only where the rendezvous
    /// server is on it, too.
    fn may_ping(&self, addr: SocketAddr) -> bool {
        let here = self.through.is_some_and(|t| t.server.ip().is_loopback());
        addr.port() != 0 && (is_unicast(addr.ip()) || here && addr.ip().is_loopback())
    }
}

/// Whether an address is one of a single host on some network: site-local or global, not of this machine or this link.
fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            // 0 and 240 to 255: no host of this network, and reserved with the broadcast
            !(first == 0
                || first >= 240
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_link_local())
        }
        IpAddr::V6(ip) => {
            ip.to_ipv4_mapped().is_none()
                && !(ip.is_unspecified()
                    || ip.is_loopback()
                    || ip.is_multicast()
                    || ip.is_unicast_link_local())
        }
    }
}

impl Tunnel {
    /// Sets the rendezvous server (`rendezvous_server`, resolved) and `own`, the address of this end's socket as it is on
    /// the way there. To be called again when either changes. Nothing happens where the settings name no service.
    pub fn set_rendezvous(&mut self, now: Instant, server: SocketAddr, own: SocketAddr) {
        let meeting = &mut self.meeting;
        if let Rendezvous::Service(_) | Rendezvous::Client(_) = meeting.role {
            meeting.through = Some(Through { server, own });
            meeting.seek(now);
        }
    }

    /// A program waits for a peer that is not found yet: the rendezvous server is asked at once, at most once a second.
    pub fn seek_peer(&mut self, now: Instant) {
        let meeting = &mut self.meeting;
        if meeting.is_seeking() && meeting.through.is_some() {
            let earliest = meeting.said_at.map_or(now, |at| at.after(SEC));
            meeting.next = meeting.next.min(earliest);
        }
    }

    /// A session-0 packet came. True if it was one of rendezvous mode and needs nothing else.
    pub(super) fn on_meeting(
        &mut self,
        from: SocketAddr,
        here: Local,
        packet: &[u8],
        now: Instant,
    ) -> bool {
        if self.meeting.role == Rendezvous::None {
            return false;
        }
        match Control::read(packet) {
            Some(Control::Ping(_)) => {
                self.on_meeting_ping(from, now);
                return false;
            }
            Some(Control::Pong(value)) => return self.on_meeting_pong(from, value, now),
            Some(Control::Reset(_)) => return false,
            None => {}
        }
        let at = |own| Place {
            own,
            seen: from,
            here,
        };
        match Meeting::read(packet) {
            Some(Meeting::Listen { own, id }) if self.meeting.registry.is_some() => {
                self.on_listen(id, at(own), now);
            }
            Some(Meeting::Connect { own, id }) if self.meeting.registry.is_some() => {
                self.on_connect(id, at(own), packet.len(), now);
            }
            Some(Meeting::Punch(both)) if self.meeting.through.is_some() => {
                self.on_punch(from, both, now);
            }
            _ => return false,
        }
        true
    }

    /// A server wants to be found. Its address is pinged before it counts: it might be somebody else's.
    fn on_listen(&mut self, id: &[u8], place: Place, now: Instant) {
        let random = self.rng.random();
        let Some(registry) = &mut self.meeting.registry else {
            return;
        };
        match registry.register(id, place, random, now) {
            Registered::Refreshed => {}
            Registered::Challenge(token) => {
                self.queue_packet(
                    place.seen,
                    Some(place.here),
                    &Control::Ping(token).to_wire(),
                );
            }
            Registered::Full => {
                let what = "it registers a service, and there are too many";
                self.reports.complain(now, place.seen, what);
            }
        }
    }

    /// A client looks for a service: it and the server are told of each other.
    fn on_connect(&mut self, id: &[u8], client: Place, asked: usize, now: Instant) {
        let Some(registry) = &mut self.meeting.registry else {
            return;
        };
        let server = match registry.find(id, now) {
            Ok(server) => server,
            Err(why) => {
                let name = String::from_utf8_lossy(id);
                log::debug!("{} asks for the service {name:?}: {why:?}", client.seen);
                let what = match why {
                    NotFound::Unknown => "it asks for a service that is not registered",
                    NotFound::TooOften => "it asks for a service, whose server is told too often",
                };
                return self.reports.complain(now, client.seen, what);
            }
        };
        let punch = |place: Place| Meeting::Punch([place.own, place.seen]).to_wire();
        let (to_client, to_server) = (punch(server), punch(client));
        // without a key the sender may be forged, and what it gets must be no more than what was sent in its name
        if !self.packets.sealed() && asked < to_client.len().max(to_server.len()) {
            let what = "its service id is too short to be answered without a key";
            return self.reports.complain(now, client.seen, what);
        }
        log::debug!("{} looks for the server at {}", client.seen, server.seen);
        self.queue_packet(server.seen, Some(server.here), &to_server);
        self.queue_packet(client.seen, Some(client.here), &to_client);
    }

    /// The rendezvous server says where the other end may be.
    fn on_punch(&mut self, from: SocketAddr, both: [SocketAddr; 2], now: Instant) {
        let seeking = self.meeting.is_seeking() || !self.meeting.is_client();
        let right = self.meeting.through.is_some_and(|t| t.server == from);
        if !right || !seeking {
            self.counters.unknown += 1;
            return;
        }
        log::debug!("the other end may be at {} or {}", both[0], both[1]);
        for addr in both {
            if self.meeting.may_ping(addr) {
                self.meeting.add_candidate(addr, now);
            }
        }
        self.ping_probes(now);
    }

    /// A ping may tell something of who sends it. The rendezvous server's: that a registration does not count before the
    /// pong is there, so it is repeated in case that gets lost. The other end's: that a NAT gave it another port than the
    /// rendezvous server has seen.
    fn on_meeting_ping(&mut self, from: SocketAddr, now: Instant) {
        let meeting = &mut self.meeting;
        let challenges = meeting.through.is_some_and(|t| t.server == from);
        if challenges && matches!(meeting.role, Rendezvous::Service(_)) {
            meeting.next = meeting.next.min(now.after(PROOF_AGAIN));
            meeting.asked = 1;
            if !std::mem::replace(&mut meeting.answered, true) {
                log::info!("the rendezvous server {from} answers, and registers this end");
            }
        }
        let near = meeting.probes.iter().any(|p| p.addr.ip() == from.ip());
        let new = meeting.probes.iter().all(|p| p.addr != from);
        if meeting.is_seeking() && near && new {
            meeting.add_candidate(from, now);
            self.ping_probes(now);
        }
    }

    /// True if the pong is no answer to a ping for a round-trip time.
    fn on_meeting_pong(&mut self, from: SocketAddr, value: u32, now: Instant) -> bool {
        let meeting = &mut self.meeting;
        if let Some(registry) = &mut meeting.registry {
            if registry.confirm(from, value, now) {
                log::debug!("a server can be found at {from}");
            }
            return true;
        }
        let Some(place) = meeting.probes.iter().position(|p| p.addr == from) else {
            return false;
        };
        if since_ping(&self.settings, value, now).is_none() {
            return false;
        }
        meeting.probes.swap_remove(place);
        if meeting.is_client() {
            meeting.found();
            meeting.heard(now);
            if !self.peer.is_at(from) {
                log::info!("the server is at {from}");
                self.set_peer(now, from);
            }
        }
        false
    }

    /// Whether the rendezvous server has left some messages in a row without an answer. To a server it never answers once that
    /// is registered: its name is looked up now and then for that.
    pub fn rendezvous_is_silent(&self) -> bool {
        self.meeting.through.is_some() && self.meeting.asked >= MISSED as u32
    }

    /// When `advance_meeting` has something to do next.
    pub(super) fn meeting_at(&self) -> Option<Instant> {
        let meeting = &self.meeting;
        if meeting.role == Rendezvous::None {
            return None;
        }
        let probes = meeting.probes.iter().map(|p| p.next);
        let registry = meeting.registry.as_ref().and_then(|r| r.deadline());
        let next = (meeting.next != Instant::NEVER).then_some(meeting.next);
        probes
            .chain(registry)
            .chain(next)
            .chain(self.silent_at())
            .min()
    }

    /// When the client's server is pinged or looked for because it says nothing.
    fn silent_at(&self) -> Option<Instant> {
        let meeting = &self.meeting;
        if !meeting.is_client() || meeting.is_seeking() {
            return None;
        }
        if let Some((since, pings)) = meeting.owing {
            return Some(since.after(pings * SEC));
        }
        let sent_at = self.path(self.peer.addr()?)?.sent_at;
        (sent_at > meeting.heard_at).then(|| meeting.heard_at.after(QUIET).max(sent_at))
    }

    pub(super) fn advance_meeting(&mut self, now: Instant) {
        if self.meeting.role == Rendezvous::None {
            return;
        }
        if let Some(registry) = &mut self.meeting.registry {
            registry.expire(now);
        }
        if self.meeting.next <= now {
            self.introduce(now);
        }
        self.ping_probes(now);
        if self.silent_at().is_some_and(|at| at <= now) {
            self.miss_server(now);
        }
    }

    /// Says listen or connect to the rendezvous server.
    fn introduce(&mut self, now: Instant) {
        let meeting = &mut self.meeting;
        let Some(Through { server, own }) = meeting.through else {
            meeting.next = Instant::NEVER;
            return;
        };
        let (message, most) = match &meeting.role {
            Rendezvous::Service(id) => {
                let often = match self.settings.keepalive {
                    Duration::ZERO => LISTEN_EVERY,
                    span => span.min(LISTEN_EVERY),
                };
                (Meeting::Listen { own, id }, often)
            }
            Rendezvous::Client(id) => (Meeting::Connect { own, id }, CONNECT_EVERY),
            Rendezvous::None | Rendezvous::Keeper => return,
        };
        let mut packet = message.to_wire();
        if !self.packets.sealed() {
            // an answer is never longer than this
            let padding = PUNCH_MAX.saturating_sub(packet.len()).min(PADDING_MAX);
            packet.resize(packet.len() + padding, padding as u8);
        }
        meeting.next = now.after(most.min(SEC << meeting.asked.min(5)));
        meeting.said_at = Some(now);
        meeting.asked = meeting.asked.saturating_add(1);
        if meeting.is_client() && meeting.asked >= 4 && meeting.asked.is_power_of_two() {
            let why = match std::mem::take(&mut meeting.refused) {
                true => "nothing receives at its UDP port (port unreachable); ",
                false => "",
            };
            log::warn!(
                "no server was found through {server}: {why}is rendezvous_server right, do it and the server run, and are service_id, key and method the same at both ends?"
            );
        }
        self.queue_packet(server, None, &packet);
    }

    fn ping_probes(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(probe) = self.meeting.probes.get_mut(at) {
            if probe.next > now {
                at += 1;
                continue;
            }
            let Some(pause) = PINGS.get(probe.sent) else {
                self.meeting.probes.swap_remove(at);
                continue;
            };
            probe.sent += 1;
            probe.next = now.after(*pause);
            let addr = probe.addr;
            self.ping(addr, now);
        }
    }

    /// The client's server owes an answer: it is asked again, and after that looked for. Sessions stay where they are
    /// until `set_peer` has its new address.
    fn miss_server(&mut self, now: Instant) {
        let Some(peer) = self.peer.addr() else {
            return;
        };
        let (since, pings) = self.meeting.owing.unwrap_or((now, 0));
        if pings >= MISSED {
            log::info!("{peer} is silent, the rendezvous server is asked where the server is");
            return self.meeting.seek(now);
        }
        self.meeting.owing = Some((since, pings + 1));
        self.ping(peer, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_on_networks_are_pinged() {
        let good = [
            "192.0.2.1:1",
            "10.0.0.1:65535",
            "192.168.1.7:9",
            "172.16.0.1:9",
            "100.64.0.1:9",
            "[2001:db8::1]:9",
            "[fd00::1]:9",
            "[fec0::1]:9",
        ];
        let bad = [
            "192.0.2.1:0",
            "0.0.0.0:9",
            "0.1.2.3:9",
            "127.0.0.1:9",
            "169.254.1.1:9",
            "224.0.0.1:9",
            "239.1.1.1:9",
            "255.255.255.255:9",
            "240.0.0.1:9",
            "[::]:9",
            "[::1]:9",
            "[ff02::1]:9",
            "[fe80::1]:9",
            "[::ffff:127.0.0.1]:9",
            "[2001:db8::1]:0",
        ];
        let mut meeting = Meetings::new(Rendezvous::Client(vec![1]), SEC, Instant::ZERO);
        for (list, right) in [(&good[..], true), (&bad[..], false)] {
            for addr in list {
                assert_eq!(meeting.may_ping(addr.parse().unwrap()), right, "{addr}");
            }
        }
        // everything on one machine: the way out of it is no help
        meeting.through = Some(Through {
            server: "127.0.0.1:1".parse().unwrap(),
            own: "127.0.0.1:2".parse().unwrap(),
        });
        assert!(meeting.may_ping("127.0.0.1:9".parse().unwrap()));
        assert!(!meeting.may_ping("0.0.0.0:9".parse().unwrap()));
    }

    #[test]
    fn addresses_that_are_pinged_are_few() {
        let mut meeting = Meetings::new(Rendezvous::Service(vec![1]), SEC, Instant::ZERO);
        for i in 1..1000 {
            meeting.add_candidate(SocketAddr::from(([10, 0, 0, 1], i)), Instant::ZERO);
        }
        assert_eq!(meeting.probes.len(), PROBES_MAX);
    }
}
