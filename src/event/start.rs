//! From the configured addresses to bound sockets: which families go together, what is tried in which order,
//! and the errors that name the key. Runs before the loop, so it may block.

use super::Options;
use super::http::LISTENERS_MAX;
use super::listen::Listener;
use super::network::own_address;
use super::report::{RunError, reason};
use super::resolve::{literal, resolve};
use super::socket::{any_of, canonical, lacks_ipv6};
use super::target::{RENDEZVOUS, unresolved};
use super::token::MAX_LISTENERS;
use super::udp::Udp;
use crate::config::{Address, Endpoint, TcpOptions};
use crate::platform::advice_on_port;
use log::{info, warn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// So many ports above one that is taken are tried for one that is free.
const NEIGHBOURS: u16 = 10;

/// The listeners that `listen` asks for: one for every address of a name, one for all addresses without a host.
pub(super) fn listeners(options: &Options) -> Result<Vec<Listener>, RunError> {
    let Some(address) = &options.listen else {
        return Ok(Vec::new());
    };
    let listeners = bind_all("listen", address, &options.tcp, MAX_LISTENERS)?;
    for listener in &listeners {
        listener.tell("listen", "listening for TCP on ", "");
    }
    Ok(listeners)
}

/// Likewise those that `http_listen` asks for.
pub(super) fn http_listeners(options: &Options) -> Result<Vec<Listener>, RunError> {
    let Some(http) = &options.http else {
        return Ok(Vec::new());
    };
    let tcp = TcpOptions::default();
    let listeners = bind_all("http_listen", &http.listen, &tcp, LISTENERS_MAX)?;
    for listener in &listeners {
        listener.tell("http_listen", "statistics at http://", "/");
    }
    Ok(listeners)
}

fn bind_all(
    key: &str,
    address: &Address,
    options: &TcpOptions,
    most: usize,
) -> Result<Vec<Listener>, RunError> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for place in places(key, address)?.into_iter().take(most) {
        // `:port` is one socket; its second place is for a machine without IPv6.
        if address.host.is_none() && !listeners.is_empty() {
            break;
        }
        match Listener::bind(place, options) {
            Ok(listener) => listeners.push(listener),
            Err(e) if place.is_ipv6() && lacks_ipv6(&e) => missing = Some(e),
            Err(e) => return Err(cannot_listen(key, address, place, &e)),
        }
    }
    if let (true, Some(e)) = (listeners.is_empty(), missing) {
        return Err(cannot_bind(key, address, &e));
    }
    Ok(listeners)
}

/// The address that this end sends to first, and the key that names it. None: others come to this end.
pub(super) fn target(options: &Options) -> (&'static str, Option<Address>) {
    match &options.rendezvous_server {
        Some(server) => (RENDEZVOUS, Some(server.clone())),
        None => (
            "udp_connect",
            options.udp_connect.as_ref().map(Endpoint::first),
        ),
    }
}

/// Where UDP sockets are to be bound, and the key that asks for it.
struct Wanted {
    key: &'static str,
    endpoint: Endpoint,
    /// The first ports of the addresses that are tried in turn.
    places: Vec<SocketAddr>,
}

impl Wanted {
    /// `peers`: the addresses of the target, if it has any yet.
    fn new(options: &Options, peers: &[SocketAddr]) -> Result<Wanted, RunError> {
        let (target_key, target) = target(options);
        let (key, endpoint, places) = match (&options.udp_bind, target) {
            (Some(endpoint), _) => {
                let places = places("udp_bind", &endpoint.first())?;
                ("udp_bind", endpoint.clone(), places)
            }
            (None, Some(address)) => {
                let fixed = literal(&address).and(peers.first());
                (target_key, address.into(), any_ports(fixed))
            }
            (None, None) => {
                return Err(RunError::new(
                    "none of udp_bind, udp_connect and rendezvous_server is set: nothing to carry",
                ));
            }
        };
        Ok(Wanted {
            key,
            endpoint,
            places,
        })
    }

    /// Binds every port at one of the places. Fails with the port that cannot be bound.
    fn bind(&self, place: SocketAddr, options: &Options) -> Result<Udp, (u16, io::Error)> {
        let others = self.endpoint.ports.iter().skip(1);
        let others: Vec<SocketAddr> = match options.udp_bind {
            Some(_) => others.map(|port| with_port(place, port)).collect(),
            None => Vec::new(),
        };
        Udp::bind_all(place, &others, &options.udp).map_err(|(at, e)| (at.port(), e))
    }

    /// What sockets are bound to, for the log.
    fn told(&self, udp: &Udp) -> String {
        let local = udp.local();
        match self.key == "udp_bind" && self.endpoint.ports.are_many() {
            true => self.endpoint.ports.at(local.ip()),
            false => local.to_string(),
        }
    }

    /// `port`: the one that could not be bound; 0 if the system was to choose.
    fn cannot_bind(&self, port: u16, error: &io::Error) -> RunError {
        let address = match self.endpoint.ports.contains(port) {
            true => self.endpoint.at(port),
            false => self.endpoint.first(),
        };
        cannot_bind(self.key, &address, error)
    }
}

/// The UDP sockets that `udp_bind` and `udp_connect` or `rendezvous_server` ask for, the address of the latter two if one is
/// known, and all their addresses. If names have several addresses, the first two that can reach each other are taken;
/// those that have a route come first.
pub(super) fn udp(
    options: &Options,
) -> Result<(Udp, Option<SocketAddr>, Vec<SocketAddr>), RunError> {
    let (target_key, target) = target(options);
    let peers = match &target {
        Some(address) => lookup_or_wait(options, target_key, address),
        None => Vec::new(),
    };
    let peers: Vec<SocketAddr> = peers.into_iter().map(canonical).collect();
    let wanted = Wanted::new(options, &peers)?;
    let mut missing = None;
    for place in &wanted.places {
        let udp = match wanted.bind(*place, options) {
            Ok(udp) => udp,
            Err((_, e)) if place.is_ipv6() && lacks_ipv6(&e) => {
                missing = Some(e);
                continue;
            }
            Err((port, e)) => return Err(wanted.cannot_bind(port, &e)),
        };
        let mut within = peers.iter().copied().filter(|peer| udp.reaches(*peer));
        let has_way = |peer: &SocketAddr| own_address(udp.local(), *peer).is_some();
        let peer = within.clone().find(has_way).or_else(|| within.next());
        if peer.is_some() || peers.is_empty() {
            let bound = wanted.told(&udp);
            match peer {
                Some(server) if options.rendezvous_server.is_some() => {
                    info!("UDP bound to {bound}, rendezvous server {server}");
                }
                Some(peer) => match options.udp_connect.as_ref().map(|other| &other.ports) {
                    Some(ports) if ports.are_many() => {
                        info!("UDP bound to {bound}, peer {}", ports.at(peer.ip()));
                    }
                    _ => info!("UDP bound to {bound}, peer {peer}"),
                },
                None if udp.local().ip().to_canonical().is_loopback() => {
                    info!("UDP bound to {bound}; only this machine can reach it");
                }
                None => info!("UDP bound to {bound}"),
            }
            if let Some(warning) = peer.and_then(|peer| own_address_warning(target_key, &udp, peer))
            {
                warn!("{warning}");
            }
            return Ok((udp, peer, peers));
        }
    }
    let first = wanted.endpoint.ports.first();
    Err(match (missing, target) {
        (None, Some(peer)) => RunError::new(format!(
            "{target_key}: {peer} cannot be reached from udp_bind {}: one is IPv4 and the other IPv6",
            wanted.endpoint
        )),
        (Some(e), _) => wanted.cannot_bind(first, &e),
        (None, None) => wanted.cannot_bind(first, &io::ErrorKind::AddrNotAvailable.into()),
    })
}

/// The warning of a peer that is this machine by an address that others have for it: the file may be on the wrong machine.
fn own_address_warning(key: &str, udp: &Udp, peer: SocketAddr) -> Option<String> {
    let is_own = own_address(udp.local(), peer) == Some(peer.ip());
    (is_own && !peer.ip().is_loopback() && key != RENDEZVOUS).then(|| {
        format!(
            "{key}: {} is an address of this machine: both ends would run here. If that is not meant, this file belongs on the other machine",
            peer.ip()
        )
    })
}

/// An address with another port.
fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// The addresses of the service that `connect` names; none if it is not set.
pub(super) fn service(options: &Options) -> Vec<SocketAddr> {
    let Some(address) = &options.connect else {
        if options.listen.is_none() {
            info!("neither listen nor connect is set: this is a rendezvous server");
        }
        return Vec::new();
    };
    let found = lookup_or_wait(options, "connect", address);
    info!("sessions of the other end are connected to {address}");
    found
}

/// Where to bind, in the order of trying. Without a host: every address, or every IPv4 address if there is no IPv6.
fn places(key: &str, address: &Address) -> Result<Vec<SocketAddr>, RunError> {
    if address.host.is_some() {
        return lookup(key, address);
    }
    let everywhere: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    Ok(everywhere
        .map(|ip| SocketAddr::new(ip, address.port))
        .into())
}

/// Where to bind if the port does not matter: for a peer whose address is configured, its family; else both, since a name
/// may come to have addresses of either, and this machine routes to either.
fn any_ports(fixed: Option<&SocketAddr>) -> Vec<SocketAddr> {
    let both: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    match fixed {
        Some(peer) => vec![SocketAddr::new(any_of(peer), 0)],
        None => both.map(|ip| SocketAddr::new(ip, 0)).into(),
    }
}

/// As `lookup`; no addresses for a name that does not resolve yet.
fn lookup_or_wait(options: &Options, key: &str, address: &Address) -> Vec<SocketAddr> {
    options.lookup.unwrap_or(resolve)(address).unwrap_or_else(|e| {
        unresolved(key, address, &e);
        Vec::new()
    })
}

fn lookup(key: &str, address: &Address) -> Result<Vec<SocketAddr>, RunError> {
    resolve(address)
        .map_err(|e| RunError::new(format!("{key}: cannot resolve {address}: {}", reason(&e))))
}

/// As `cannot_bind`, with a port that is free in the place of one that is taken.
fn cannot_listen(key: &str, address: &Address, place: SocketAddr, error: &io::Error) -> RunError {
    let line = cannot_bind(key, address, error);
    let others = (1..=NEIGHBOURS).filter_map(|above| place.port().checked_add(above));
    let free = |port: &u16| TcpListener::bind(with_port(place, *port)).is_ok();
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    match others.filter(|_| taken).find(free) {
        Some(port) => RunError::new(format!("{line}, such as {port}, which is free")),
        None => line,
    }
}

fn cannot_bind(key: &str, address: &Address, error: &io::Error) -> RunError {
    let taken = ", by a kcptun that runs already or another program: stop that, or write another port, at the other end, too";
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => advice_on_port(address.port),
        io::ErrorKind::AddrInUse if key == "udp_bind" => taken,
        io::ErrorKind::AddrInUse => {
            ", by a kcptun that runs already or another program: stop that, or write another port"
        }
        _ => "",
    };
    RunError::new(format!(
        "{key}: cannot bind {address}: {}{advice}",
        reason(error)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Purpose;
    use crate::event::tests::skipped;

    fn address(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':').expect("host:port");
        let host = host.trim_matches(['[', ']']);
        Some(Address {
            host: (!host.is_empty()).then(|| host.into()),
            port: port.parse().expect("port"),
        })
    }

    fn endpoint(text: &str) -> Option<Endpoint> {
        address(text).map(Endpoint::from)
    }

    fn line<T>(result: Result<T, RunError>) -> String {
        match result {
            Ok(_) => "no error".into(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_taken_port_is_named_with_its_key() {
        let first = listeners(&Options {
            listen: address("127.0.0.1:0"),
            ..Options::default()
        })
        .expect("bind");
        let taken = first[0].local();
        let again = Options {
            listen: address(&taken.to_string()),
            ..Options::default()
        };
        let expected = format!("listen: cannot bind {taken}: the port is taken");
        let said = line(listeners(&again));
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains("by a kcptun that runs already"), "{said}");
        // others may have all its neighbours, and the last port has none
        let free = said.strip_suffix(", which is free");
        let free: Option<u16> = free.and_then(|said| said.rsplit(' ').next()?.parse().ok());
        match free {
            Some(free) => assert!(free > taken.port() && free - taken.port() <= NEIGHBOURS),
            None => skipped("no port next to one that is taken is free"),
        }
    }

    #[test]
    fn a_port_without_host_is_one_socket_for_all() {
        let options = Options {
            listen: address(":0"),
            udp_bind: endpoint(":0"),
            ..Options::default()
        };
        let listeners = listeners(&options).expect("bind");
        assert_eq!(listeners.len(), 1);
        let port = listeners[0].local().port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4 is served");
        let (udp, peer, _) = udp(&options).expect("bind");
        assert!(udp.reaches(SocketAddr::from(([192, 0, 2, 1], 1))));
        assert_eq!(peer, None);
    }

    /// Free ports that are neighbours, most likely.
    fn free_range(count: u16) -> (String, u16) {
        let chosen = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let first = chosen.local_addr().expect("an address").port();
        let first = first.min(u16::MAX - count);
        (format!("127.0.0.1:{first}-{}", first + count - 1), first)
    }

    fn bound(text: &str) -> Result<Udp, RunError> {
        let options = Options {
            udp_bind: Endpoint::parse(text, Purpose::Bind).ok(),
            ..Options::default()
        };
        udp(&options).map(|(udp, ..)| udp)
    }

    #[test]
    fn every_port_of_a_range_is_bound_in_its_order_and_a_taken_one_is_named() {
        // others may take a port meanwhile
        let (text, first, udp) = (0..20)
            .find_map(|_| {
                let (text, first) = free_range(5);
                Some((bound(&text).ok()?, text, first))
            })
            .map(|(udp, text, first)| (text, first, udp))
            .expect("free ports");
        for place in 0..5 {
            assert_eq!(udp.local_of(place).port(), first + place);
        }
        let expected = format!("udp_bind: cannot bind 127.0.0.1:{first}: the port is taken");
        let said = line(bound(&text));
        assert!(said.starts_with(&expected), "{said}");
        drop(udp);
        let taken = SocketAddr::from((Ipv4Addr::LOCALHOST, first + 3));
        let _taken = std::net::UdpSocket::bind(taken).expect("it was free");
        let expected = format!("udp_bind: cannot bind {taken}: the port is taken");
        let said = line(bound(&text));
        assert!(
            said.starts_with(&expected) && said.contains("write another port"),
            "{said}"
        );
    }

    #[test]
    fn the_families_of_bind_and_peer_agree() {
        let agree = |bind: Option<&str>, connect| {
            let options = Options {
                udp_bind: bind.and_then(endpoint),
                udp_connect: endpoint(connect),
                ..Options::default()
            };
            udp(&options).map(|(udp, peer, _)| (udp.local().ip(), peer.expect("a peer").ip()))
        };
        let four: IpAddr = Ipv4Addr::LOCALHOST.into();
        let (_, peer) =
            agree(Some("127.0.0.1:0"), "localhost:9").expect("the name has an IPv4 address");
        assert_eq!(peer, four);
        let (local, peer) = agree(None, "127.0.0.1:9").expect("any address");
        assert_eq!((local, peer), (Ipv4Addr::UNSPECIFIED.into(), four));
        let error = line(agree(Some("127.0.0.1:0"), "[::1]:9"));
        let expected = "udp_connect: [::1]:9 cannot be reached from udp_bind 127.0.0.1:0: one is IPv4 and the other IPv6";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_peer_that_is_this_machine_is_warned_of_unless_by_the_loopback_interface() {
        let (udp, ..) = udp(&Options {
            udp_bind: endpoint("0.0.0.0:0"),
            ..Options::default()
        })
        .expect("bind");
        let warned = |ip: IpAddr| own_address_warning("udp_connect", &udp, SocketAddr::new(ip, 9));
        assert_eq!(warned(Ipv4Addr::LOCALHOST.into()), None);
        assert_eq!(warned(Ipv4Addr::new(192, 0, 2, 1).into()), None);
        let elsewhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
        let Some(own) = own_address(udp.local(), elsewhere) else {
            return skipped("this machine has no route to others");
        };
        let warning = warned(own).expect("it is this machine");
        assert!(warning.starts_with(&format!("udp_connect: {own} is an address of this machine")));
    }

    #[test]
    fn a_name_may_come_to_have_either_family() {
        let options = Options {
            udp_connect: endpoint("localhost:9"),
            ..Options::default()
        };
        let (udp, _, known) = udp(&options).expect("bind");
        assert!(known.iter().all(|at| at.ip().is_loopback()));
        let reaches = |at: &str| udp.reaches(at.parse().expect("address"));
        assert!(reaches("192.0.2.1:9"));
        assert!(reaches("[2001:db8::1]:9") || udp.local().is_ipv4());
    }

    #[test]
    fn a_rendezvous_server_takes_the_place_of_a_peer() {
        let options = |bind: &str, server: &str| Options {
            udp_bind: endpoint(bind),
            rendezvous_server: address(server),
            ..Options::default()
        };
        let (_, server, _) = udp(&options("127.0.0.1:0", "localhost:9")).expect("bind");
        assert_eq!(server, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))));
        let error = line(udp(&options("127.0.0.1:0", "[::1]:9")));
        assert!(error.starts_with("rendezvous_server: [::1]:9 cannot be reached"));
    }

    #[test]
    fn names_of_others_are_waited_for() {
        let options = Options {
            connect: address("no-such-host.invalid:22"),
            udp_connect: endpoint("no-such-host.invalid:23"),
            ..Options::default()
        };
        assert!(service(&options).is_empty());
        let (udp, peer, _) = udp(&options).expect("any address");
        assert_eq!(peer, None);
        assert!(udp.reaches(SocketAddr::from(([192, 0, 2, 1], 1))));
    }

    #[test]
    fn errors_name_key_and_value() {
        let options = Options {
            listen: address("no-such-host.invalid:22"),
            ..Options::default()
        };
        let error = line(listeners(&options));
        assert!(
            error.starts_with("listen: cannot resolve no-such-host.invalid:22: "),
            "{error}"
        );
        let denied = io::ErrorKind::PermissionDenied.into();
        let port = address("127.0.0.1:80").expect("address");
        assert_eq!(
            cannot_bind("listen", &port, &denied).to_string(),
            "listen: cannot bind 127.0.0.1:80: permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        );
        let nothing = line(udp(&Options::default()));
        assert!(nothing.contains("udp_bind") && nothing.contains("udp_connect"));
    }
}
