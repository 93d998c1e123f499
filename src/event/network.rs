//! How the loop follows changes of the network: this machine's own address, the addresses of the other end's name, and the
//! machine's sleep. It makes a new UDP socket and tells the tunnel; what sessions do about it is decided in the tunnel.
//!
//! Not every system says when the network changes (`platform::NetworkNews`), so this process looks: which address does the route
//! to the peer give? Asking the system sends no packet.

use super::report::reason;
use super::socket::{any_of, canonical};
use super::target::{RENDEZVOUS, Target};
use super::udp::Udp;
use super::{Discovery, Loop};
use crate::config::Ports;
use crate::platform::NetworkNews;
use crate::time::{Duration, Instant};
use log::{Level, debug, info, log, warn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// How often the own address is looked at while packets arrive.
const LOOK_INTERVAL_BUSY: Duration = Duration::from_millis(500);
/// How often it is looked at while there is no route to the peer.
const LOOK_INTERVAL_NO_ROUTE: Duration = Duration::from_secs(1);
/// How often it is looked at while sessions rest.
const LOOK_INTERVAL_RESTING: Duration = Duration::from_secs(5);
/// How often it is looked at without sessions.
const LOOK_INTERVAL_EMPTY: Duration = Duration::from_secs(25);
/// How long after the last packet the network still counts as busy.
const BUSY_SPAN: Duration = Duration::from_secs(5);
/// From this many datagrams between two looks on there is a flow. When it stops, the peer is asked whether it has: an
/// end that only receives would not notice otherwise that a router has forgotten the way back.
const FLOW_DATAGRAMS: u64 = 8;
/// How often the peer is asked at most after a flow has stopped.
const FLOW_PINGS: u32 = 6;
/// How soon the own address is looked at after an error of the socket.
const LOOK_DELAY_AFTER_ERROR: Duration = Duration::from_millis(50);
/// How long a peer has to be silent before another port is tried: a router may have a wrong idea of ours.
/// The pause before the next port is twice as long, and doubles.
const SILENCE_BEFORE_PORT_CHANGE: Duration = Duration::from_secs(20);
/// The longest pause between two ports that are tried because of silence.
const PORT_CHANGE_PAUSE_MAX: Duration = Duration::from_secs(600);
/// A peer that is heard and hears nothing gets another port at once, and again after this pause.
const DEAF_PORT_CHANGE_PAUSE: Duration = Duration::from_secs(5);
/// Addresses of nobody (RFC 5737, RFC 3849): the way there is the way to anywhere.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// The shortest sleep of the machine that counts.
const SLEEP_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// What is known of this machine's own network.
#[derive(Default)]
pub(super) struct Network {
    /// The address that the route to the peer gave. None: there was no route.
    own: Option<IpAddr>,
    /// While there is no peer: the addresses that routes to anywhere gave.
    around: [Option<IpAddr>; 2],
    looked: bool,
    next: Instant,
    /// Datagrams received at the last look, and when the number was last seen to grow.
    received: u64,
    heard_at: Option<Instant>,
    /// A flow came at the last look; or how often the peer was asked since it stopped.
    flows: bool,
    asked: u32,
    /// When another port is tried, and the pause after that; when one was tried last.
    port_at: Option<(Instant, Duration)>,
    port_tried: Option<Instant>,
}

impl Network {
    /// Has the address looked at soon.
    fn look_soon(&mut self, now: Instant) {
        self.next = self.next.min(now.after(LOOK_DELAY_AFTER_ERROR));
    }

    /// A session begins: a change matters from now on.
    pub(super) fn watch(&mut self, now: Instant) {
        self.next = self.next.min(now.after(LOOK_INTERVAL_BUSY));
    }

    /// Forgets what is known: the next look finds a change.
    fn forget(&mut self) {
        (self.own, self.looked, self.next) = (None, true, Instant::ZERO);
    }

    /// Notes the address that the route gives now. True if it differs from the one before.
    fn look(&mut self, own: Option<IpAddr>) -> bool {
        let first = !std::mem::replace(&mut self.looked, true);
        let before = std::mem::replace(&mut self.own, own);
        if before.is_some() && own.is_none() {
            info!("there is no route to the other end now");
        }
        !first && own.is_some() && own != before
    }

    /// The same while the peer's address is not known.
    fn look_around(&mut self, around: [Option<IpAddr>; 2], now: Instant) -> bool {
        let before = std::mem::replace(&mut self.around, around);
        self.next = now.after(LOOK_INTERVAL_NO_ROUTE);
        let both = around.iter().zip(before);
        both.into_iter()
            .any(|(own, before)| own.is_some() && *own != before)
    }

    /// Sets when to look next. True if the peer is to be asked whether it is there: a flow has stopped.
    fn plan(&mut self, now: Instant, received: u64, sessions: usize) -> bool {
        let more = received - std::mem::replace(&mut self.received, received);
        if more > 0 {
            (self.heard_at, self.asked) = (Some(now), 0);
        }
        let stopped = more == 0 && (self.flows || self.asked > 0) && sessions > 0;
        let asks = stopped && self.asked < FLOW_PINGS;
        self.asked += u32::from(asks);
        self.flows = more >= FLOW_DATAGRAMS;
        let busy = self.heard_at.is_some_and(|at| now.since(at) < BUSY_SPAN);
        let pause = match self.own {
            None => LOOK_INTERVAL_NO_ROUTE,
            Some(_) if sessions == 0 => LOOK_INTERVAL_EMPTY,
            Some(_) if busy => LOOK_INTERVAL_BUSY,
            Some(_) => LOOK_INTERVAL_RESTING,
        };
        self.next = now.after(pause);
        asks
    }

    /// Whether to try another port. `silent`, `deaf`: since when the peer counts as such, if it does now.
    fn wants_port(&mut self, now: Instant, silent: Option<Instant>, deaf: Option<Instant>) -> bool {
        let Some(since) = silent else {
            (self.port_at, self.port_tried) = (None, None);
            return false;
        };
        let (at, pause) = *self.port_at.get_or_insert((
            since.after(SILENCE_BEFORE_PORT_CHANGE),
            2 * SILENCE_BEFORE_PORT_CHANGE,
        ));
        let tried = self.port_tried;
        let pauses = |deaf: Instant| {
            tried.map_or(deaf, |tried| deaf.max(tried.after(DEAF_PORT_CHANGE_PAUSE)))
        };
        if deaf.is_some_and(|deaf| pauses(deaf) <= now) {
            self.port_tried = Some(now);
            return true;
        }
        let due = at <= now;
        if due {
            self.port_tried = Some(now);
            self.port_at = Some((now.after(pause), (2 * pause).min(PORT_CHANGE_PAUSE_MAX)));
        }
        due
    }
}

impl Discovery {
    /// Whether the other end has more than one port.
    fn has_many_ports(&self) -> bool {
        self.ports.as_ref().is_some_and(Ports::are_many)
    }

    /// An address of the other end as the name gives it, which stands for all ports that are configured: with the first.
    fn as_resolved(&self, mut address: SocketAddr) -> SocketAddr {
        match &self.ports {
            Some(ports) if ports.are_many() && ports.contains(address.port()) => {
                address.set_port(ports.first());
            }
            _ => (),
        }
        address
    }

    /// Such an address for the log: all that it stands for.
    fn told(&self, address: SocketAddr) -> String {
        match &self.ports {
            Some(ports) if ports.are_many() && address.port() == ports.first() => {
                ports.at(address.ip())
            }
            _ => address.to_string(),
        }
    }
}

impl Loop {
    /// Looks at everything that may have changed, if it is time to.
    pub(super) fn follow(&mut self, now: Instant) {
        let slept = self.epoch.slept();
        if slept >= SLEEP_MIN {
            info!("the machine slept for {} s", slept.as_secs());
            self.discovery.network.forget();
            // before what waits in the socket is taken for a sign of life
            self.tunnel.handle_timeout(now);
        }
        self.follow_name(now);
        let Some(goal) = self.goal() else {
            return self.look_around(now);
        };
        let news = self.discovery.news.as_mut();
        if self.udp.take_trouble() || news.is_some_and(NetworkNews::take) {
            self.discovery.network.look_soon(now);
        }
        let mut toward = goal;
        let changed = self.discovery.network.next <= now && {
            let own;
            (toward, own) = self.way(goal);
            let changed = self.discovery.network.look(own);
            let sessions = self.tunnel.sessions();
            let received = self.tunnel.counters().received;
            if self.discovery.network.plan(now, received, sessions) && !changed {
                self.tunnel.ask_peer(now);
            }
            changed
        };
        let by_now = |at: Option<Instant>| at.filter(|at| *at <= now);
        let silent = by_now(self.tunnel.peer_silent_at());
        let deaf = by_now(self.tunnel.peer_deaf_at());
        if changed {
            self.resolve_now();
            if let Some(own) = self.discovery.network.own {
                info!("{toward} is now reached from {own}");
            }
            self.renew(now);
        } else if self.rebinding.sealed
            && self.rebinding.bind.is_none()
            && !self.discovery.has_many_ports()
            && self.discovery.network.wants_port(now, silent, deaf)
        {
            // without a key the other end would not know its sessions again, and with several ports the tunnel does it
            match deaf {
                Some(_) => {
                    info!("{goal} sends, but answers nothing: this end moves to another port")
                }
                None => debug!("{goal} is silent: trying another port"),
            }
            self.renew(now);
        }
        if toward != goal {
            self.turn_to(now, toward);
        }
    }

    /// The address to go to, and this machine's own on the route there: `goal` or, if there is no route to it, another
    /// address of the same name that has one. It may be of the other family.
    fn way(&self, goal: SocketAddr) -> (SocketAddr, Option<IpAddr>) {
        let way = |to: SocketAddr| Some((to, Some(own_address(self.udp.local(), to)?)));
        let known = self.discovery.target.iter().flat_map(Target::known);
        let others = known.map(|to| canonical(*to));
        let mut others = others.filter(|to| self.udp.reaches(*to));
        way(goal)
            .or_else(|| others.find_map(way))
            .unwrap_or((goal, None))
    }

    /// Goes to another address of the name from now on.
    fn turn_to(&mut self, now: Instant, address: SocketAddr) {
        match self.discovery.target.as_ref().map(Target::key) {
            Some(RENDEZVOUS) => self.meet_through(now, address),
            _ => self.carry_to(now, address),
        }
    }

    /// Has sessions carried to an address of the other end from now on. Of several ports one is chosen by chance.
    pub(super) fn carry_to(&mut self, now: Instant, address: SocketAddr) {
        let mut peer = address;
        if let Some(ports) = &self.discovery.ports {
            let fixed = self.rebinding.bind.is_some();
            self.tunnel.set_ports(ports.iter().collect(), fixed);
            if ports.are_many() {
                let place = rand::random_range(0..ports.len());
                peer.set_port(ports.get(place).unwrap_or(address.port()));
            }
        }
        self.tunnel.set_peer(now, peer);
    }

    /// The name is not known: another network may know it.
    fn look_around(&mut self, now: Instant) {
        if self.discovery.target.is_none() || self.discovery.network.next > now {
            return;
        }
        let local = self.udp.local();
        let around = ANYWHERE.map(|there| own_address(local, SocketAddr::new(there, 9)));
        if self.discovery.network.look_around(around, now) {
            self.resolve_now();
        }
    }

    /// Has the name asked for at once, if it is asked for at all.
    pub(super) fn resolve_now(&mut self) {
        if let Some(target) = &mut self.discovery.target {
            target.resolve_now();
        }
    }

    /// Where this end sends without being asked.
    fn goal(&self) -> Option<SocketAddr> {
        self.discovery.rendezvous.or(self.tunnel.peer())
    }

    /// Goes on with a new socket, if the port is free to change.
    fn renew(&mut self, now: Instant) {
        if self.rebinding.bind.is_none() {
            match self.new_socket() {
                Ok(udp) => self.udp = udp,
                Err(e) => warn!("udp: cannot make a new socket: {}", reason(&e)),
            }
        }
        self.tunnel.network_changed(now);
        if let Some(server) = self.discovery.rendezvous {
            self.meet_through(now, server);
        }
    }

    fn new_socket(&self) -> io::Result<Udp> {
        let any = SocketAddr::new(self.udp.local().ip(), 0);
        let mut udp = Udp::bind(any, &self.rebinding.options)?;
        udp.make_more(self.udp.latest(), self.rebinding.options.clone());
        udp.hear_refusals();
        udp.register(self.poll.registry())?;
        debug!("UDP bound to {}", udp.local());
        Ok(udp)
    }

    /// Goes through this rendezvous server from now on.
    pub(super) fn meet_through(&mut self, now: Instant, server: SocketAddr) {
        self.discovery.rendezvous = Some(server);
        let local = canonical(self.udp.local());
        let ip = own_address(local, server).unwrap_or(local.ip());
        let own = SocketAddr::new(ip, local.port());
        self.tunnel.set_rendezvous(now, server, own);
    }

    /// Resolves the name of the other end, or of the rendezvous server, if nobody answers at its last known address.
    fn follow_name(&mut self, now: Instant) {
        let silent = self.silent_at().is_some_and(|at| at <= now);
        let answers = self.tunnel.peer_answers();
        let present = self.goal().map(|goal| self.discovery.as_resolved(goal));
        let Some(target) = &mut self.discovery.target else {
            return;
        };
        if answers && !silent {
            target.answers();
        }
        if silent {
            target.ask(now, &mut self.discovery.names);
        } else {
            target.heard();
        }
        let (key, mut found) = (target.key(), Vec::new());
        while let Some(answer) = self.discovery.names.answer() {
            found = target.answer(now, answer);
        }
        let found = found.into_iter().map(canonical);
        let found: Vec<SocketAddr> = found.filter(|a| self.udp.reaches(*a)).collect();
        let local = self.udp.local();
        let has_way = |to: &SocketAddr| own_address(local, *to).is_some();
        if key == RENDEZVOUS && present.is_some_and(|at| found.contains(&at) && has_way(&at)) {
            // it does not answer every registration
            return;
        }
        let Some(address) = next_of(&found, present, has_way) else {
            return;
        };
        if present == Some(address) {
            return;
        }
        let level = match target.is_news(address) {
            true => Level::Info,
            false => Level::Debug,
        };
        let told = self.discovery.told(address);
        log!(level, "{key}: the name now stands for {told}");
        self.turn_to(now, address);
        self.discovery.network.next = Instant::ZERO;
    }

    /// Since when the one that is named does not answer.
    fn silent_at(&self) -> Option<Instant> {
        match (&self.discovery.target, self.goal()) {
            (_, None) => Some(Instant::ZERO),
            (Some(target), _) if target.key() == RENDEZVOUS => {
                self.tunnel.rendezvous_is_silent().then_some(Instant::ZERO)
            }
            _ => self.tunnel.peer_silent_at(),
        }
    }

    /// When `follow` has something to do. None: not before an event.
    pub(super) fn follow_at(&self) -> Option<Instant> {
        let target = self.discovery.target.as_ref();
        let name = target.and_then(|target| Some(self.silent_at()?.max(target.due())));
        let looks = self.goal().is_some() || self.discovery.target.is_some();
        let look = looks.then_some(self.discovery.network.next);
        look.into_iter().chain(name).min()
    }
}

/// The address of a name that comes after the present one. Addresses take turns; those that have a route come first.
fn next_of(
    found: &[SocketAddr],
    present: Option<SocketAddr>,
    has_way: impl Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr> {
    let within: Vec<SocketAddr> = found.iter().copied().filter(has_way).collect();
    let turns = if within.is_empty() { found } else { &within };
    let place = turns.iter().position(|at| Some(*at) == present);
    let next = place.map_or(0, |place| place + 1);
    turns.get(next).or(turns.first()).copied()
}

/// The address of this machine on the route to `goal`, for a socket that is bound to `local`. None: there is no route.
pub(super) fn own_address(local: SocketAddr, goal: SocketAddr) -> Option<IpAddr> {
    let local = canonical(local).ip();
    let from = match local.is_unspecified() {
        true => any_of(&goal),
        false => local,
    };
    let route = || {
        let socket = UdpSocket::bind((from, 0))?;
        // sends nothing, and chooses the address that the route has
        socket.connect(goal)?;
        socket.local_addr()
    };
    route().ok().map(|own| canonical(own).ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ports;
    use crate::event::Resolver;
    use crate::time::SEC;
    use mio::{Poll, Token, Waker};
    use std::sync::Arc;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn the_route_gives_the_address() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("address");
        let here = at("127.0.0.1:9");
        for local in ["0.0.0.0:7", "[::]:7", "127.0.0.1:7"] {
            assert_eq!(own_address(at(local), here), ip("127.0.0.1"), "{local}");
        }
        // an address that this machine does not have
        assert_eq!(own_address(at("192.0.2.1:7"), here), None);
    }

    #[test]
    fn another_address_is_a_change_and_none_is_not() {
        let mut network = Network::default();
        let looks = [
            (ip("192.0.2.1"), false),
            (ip("192.0.2.1"), false),
            (ip("192.0.2.2"), true),
            (None, false),
            (None, false),
            (ip("192.0.2.2"), true),
        ];
        for (own, changed) in looks {
            assert_eq!(network.look(own), changed, "{own:?}");
        }
        network.forget();
        assert!(network.look(ip("192.0.2.2")), "after a sleep");
        let mut late = Network::default();
        assert!(!late.look(None));
        assert!(late.look(ip("192.0.2.1")), "a network that comes up");
    }

    #[test]
    fn addresses_have_their_turns_and_those_with_a_way_go_first() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("address");
        let (one, two, six) = (at("192.0.2.1:9"), at("192.0.2.2:9"), at("[2001:db8::1]:9"));
        let all = [one, two, six];
        let next = |present, has_way: fn(&SocketAddr) -> bool| next_of(&all, present, has_way);
        assert_eq!(next(None, |_| true), Some(one));
        assert_eq!(next(Some(one), |_| true), Some(two));
        assert_eq!(next(Some(six), |_| true), Some(one));
        assert_eq!(next(Some(one), SocketAddr::is_ipv6), Some(six));
        assert_eq!(next(Some(six), SocketAddr::is_ipv6), Some(six));
        assert_eq!(next(Some(six), SocketAddr::is_ipv4), Some(one));
        // without a way, as if there were one to each
        assert_eq!(next(Some(one), |_| false), Some(two));
        assert_eq!(next_of(&[], Some(one), |_| true), None);
    }

    #[test]
    fn every_port_that_is_configured_is_the_address_of_the_name() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("address");
        let poll = Poll::new().expect("poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("waker"));
        let discovery = |ports: &str| {
            let names = Resolver::new(waker.clone());
            Discovery::new(names, None, Ports::parse(ports).ok())
        };
        let range = discovery("5-9,443");
        for port in [5, 7, 443] {
            let present = SocketAddr::new(ANYWHERE[0], port);
            assert_eq!(range.as_resolved(present), at("192.0.2.1:5"));
        }
        assert_eq!(range.as_resolved(at("192.0.2.1:10")), at("192.0.2.1:10"));
        assert_eq!(range.told(at("192.0.2.1:5")), "192.0.2.1:5-9,443");
        let found = [at("192.0.2.1:5"), at("192.0.2.2:5")];
        let present = Some(range.as_resolved(at("192.0.2.1:8")));
        assert_eq!(next_of(&found, present, |_| true), Some(found[1]));
        assert_eq!(next_of(&found[..1], present, |_| true), present);
        // one port means nothing: the name may have been resolved to another
        let one = discovery("7");
        assert_eq!(one.as_resolved(at("192.0.2.1:8")), at("192.0.2.1:8"));
        assert_eq!(one.told(at("192.0.2.1:7")), "192.0.2.1:7");
    }

    #[test]
    fn a_way_to_anywhere_that_comes_up_is_a_change() {
        let mut network = Network::default();
        let mut look = |four, six| network.look_around([ip(four), ip(six)], Instant::ZERO);
        assert!(!look("", ""));
        assert!(look("192.0.2.7", ""));
        assert!(!look("192.0.2.7", ""));
        assert!(look("192.0.2.7", "2001:db8::7"));
        assert!(!look("", "2001:db8::7"));
        assert!(look("192.0.2.8", "2001:db8::7"));
    }

    #[test]
    fn it_looks_often_where_that_matters() {
        let mut network = Network::default();
        let mut pause = |own, now, received, sessions| {
            let now = Instant::ZERO.after(now);
            network.look(own);
            network.plan(now, received, sessions);
            network.next.since(now)
        };
        let here = ip("192.0.2.1");
        assert_eq!(pause(here, Duration::ZERO, 0, 1), LOOK_INTERVAL_RESTING);
        assert_eq!(pause(here, SEC, 5, 1), LOOK_INTERVAL_BUSY);
        assert_eq!(pause(here, 3 * SEC, 5, 1), LOOK_INTERVAL_BUSY);
        assert_eq!(pause(here, 7 * SEC, 5, 1), LOOK_INTERVAL_RESTING);
        assert_eq!(pause(here, 8 * SEC, 9, 0), LOOK_INTERVAL_EMPTY);
        assert_eq!(pause(None, 9 * SEC, 9, 0), LOOK_INTERVAL_NO_ROUTE);
        let now = Instant::ZERO.after(9 * SEC);
        network.watch(now);
        assert_eq!(network.next.since(now), LOOK_INTERVAL_BUSY);
        network.look_soon(now);
        assert_eq!(network.next.since(now), LOOK_DELAY_AFTER_ERROR);
    }

    #[test]
    fn the_peer_is_asked_when_a_flow_stops() {
        let mut network = Network::default();
        network.look(ip("192.0.2.1"));
        // datagrams received by each look, and whether the peer is asked then
        let looks = [
            (0, false),
            (FLOW_DATAGRAMS - 1, false),
            (FLOW_DATAGRAMS - 1, false),
            (100, false),
            (100, true),
            (100, true),
            // its answer
            (101, false),
            (101, false),
            (200, false),
        ];
        for (i, (received, asks)) in looks.into_iter().enumerate() {
            let now = Instant::ZERO.after(i as u64 * LOOK_INTERVAL_BUSY);
            assert_eq!(network.plan(now, received, 1), asks, "{i}");
        }
        let asked = (0..20)
            .filter(|_| network.plan(Instant::ZERO, 200, 1))
            .count();
        assert_eq!(asked, FLOW_PINGS as usize);
    }

    #[test]
    fn another_port_is_tried_ever_more_rarely() {
        let mut network = Network::default();
        let at = |secs: u64| Instant::ZERO.after(secs * SEC);
        let mut tried = Vec::new();
        for second in 100..400 {
            if network.wants_port(at(second), Some(at(100)), None) {
                tried.push(second);
            }
        }
        assert_eq!(tried, [120, 160, 240]);
        assert!(!network.wants_port(at(400), None, None));
        assert!(!network.wants_port(at(500), Some(at(499)), None));
        // at once where it is heard
        let deaf = Some(at(501));
        let tried = (501..518).filter(|s| network.wants_port(at(*s), Some(at(499)), deaf));
        assert_eq!(tried.collect::<Vec<_>>(), [501, 506, 511, 516]);
    }
}
