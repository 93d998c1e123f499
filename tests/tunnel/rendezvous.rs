//! Both ends behind NAT: they find each other through a rendezvous server, or punch through by themselves.

use crate::sim::nat::{Nat, Net};
use kcptun::crypto::Method;
use kcptun::message::{Control, Meeting, PUNCH_MAX, SERVICE_ID_MAX};
use kcptun::path::Local;
use kcptun::settings::{Rendezvous, Settings};
use kcptun::time::{Duration, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Transmit, Tunnel};
use std::net::SocketAddr;

const KEEPER: &str = "198.51.100.1:5000";
const SEALED: Option<Method> = Some(Method::Chacha20Poly1305Ietf);

fn settings(rendezvous: Rendezvous) -> Settings {
    Settings {
        accepts: matches!(rendezvous, Rendezvous::Service(_)),
        rendezvous,
        ..Settings::default()
    }
}

fn service(id: &[u8]) -> Settings {
    settings(Rendezvous::Service(id.into()))
}

fn client(id: &[u8]) -> Settings {
    settings(Rendezvous::Client(id.into()))
}

fn keeper() -> SocketAddr {
    KEEPER.parse().unwrap()
}

/// 0: the rendezvous server; 1: a server behind NAT 0; 2: a client behind NAT 1.
fn three(seed: u64, method: Option<Method>, ids: [&[u8]; 2]) -> Net {
    let mut net = Net::new(seed, method);
    net.nats.push(Nat::new("203.0.113.1", false));
    net.nats.push(Nat::new("203.0.113.2", false));
    net.add(KEEPER, None, settings(Rendezvous::Keeper));
    net.add("192.168.1.10:7000", Some(0), service(ids[0]));
    net.add("192.168.2.20:8000", Some(1), client(ids[1]));
    meet(&mut net, 1);
    meet(&mut net, 2);
    net
}

fn meet(net: &mut Net, node: usize) {
    let (now, own) = (net.now, net.nodes[node].addr);
    net.nodes[node].tunnel.set_rendezvous(now, keeper(), own);
}

/// A connection at the client whose bytes come back, within `span`.
fn works(net: &mut Net, span: Duration) -> bool {
    let mut id = None;
    net.until(span, |net| {
        id = id.or_else(|| net.connect(2, 5_000));
        id.is_some_and(|id| net.received(2, id) == 5_000)
    })
}

/// How long a registration holds is `timeout`, also where that has changed.
#[test]
fn a_shorter_timeout_holds_for_registrations() {
    for (timeout, left) in [(600, 1), (120, 0)] {
        let mut net = three(2, SEALED, [b"home"; 2]);
        assert!(works(&mut net, 2 * SEC));
        let now = net.now;
        let changed = Settings {
            timeout: timeout * SEC,
            ..settings(Rendezvous::Keeper)
        };
        net.nodes[0].tunnel.reload(now, changed);
        net.run_for(30 * SEC);
        // the server is gone
        net.dead.insert(0);
        net.run_for(250 * SEC);
        assert_eq!(net.nodes[0].tunnel.holdings().registrations, left);
    }
}

#[test]
fn two_ends_behind_nat_find_each_other() {
    for method in [SEALED, Some(Method::Xsalsa20Poly1305), None] {
        let mut net = three(1, method, [b"home"; 2]);
        // the server may be a little later
        assert!(works(&mut net, 2 * SEC), "{method:?}");
        // and nobody but the two and the rendezvous server was sent anything
        net.run_for(100 * SEC);
        assert!(works(&mut net, SEC), "keepalives hold the mapping");
        let outside: SocketAddr = "203.0.113.1:40000".parse().unwrap();
        let own: SocketAddr = "192.168.1.10:7000".parse().unwrap();
        for target in &net.nodes[2].targets {
            assert!([keeper(), outside, own].contains(target), "{target}");
        }
    }
}

#[test]
fn it_works_with_a_fifth_of_everything_lost() {
    for seed in 0..40 {
        let mut net = three(seed, SEALED, [b"home"; 2]);
        net.loss = 0.2;
        assert!(works(&mut net, 90 * SEC), "seed {seed}");
    }
}

#[test]
fn two_ends_behind_the_same_nat_meet_inside() {
    let mut net = three(1, SEALED, [b"home"; 2]);
    net.nodes[2].nat = Some(0);
    net.nodes[2].addr = "192.168.1.20:8000".parse().unwrap();
    meet(&mut net, 2);
    assert!(works(&mut net, 3 * SEC));
}

#[test]
fn a_symmetric_nat_at_one_end_is_no_obstacle_where_the_other_lets_it_in() {
    // the server is behind a symmetric NAT, the client reachable at its own address
    let mut net = three(1, SEALED, [b"home"; 2]);
    net.nats[0].symmetric = true;
    net.nodes[2].nat = None;
    net.nodes[2].addr = "198.51.100.77:8000".parse().unwrap();
    meet(&mut net, 2);
    assert!(works(&mut net, 5 * SEC));
}

#[test]
fn a_wrong_id_or_key_finds_nothing() {
    let mut net = three(1, SEALED, [b"home", b"office"]);
    assert!(!works(&mut net, 60 * SEC));
    assert!(!net.nodes[1].targets.iter().any(|t| *t != keeper()));

    let mut net = three(1, SEALED, [b"home"; 2]);
    net.method = Some(Method::Xsalsa20Poly1305);
    net.nodes[2].tunnel = net.tunnel(client(b"home"));
    meet(&mut net, 2);
    let before = net.nodes[0].sent;
    assert!(!works(&mut net, 60 * SEC));
    // but its proof of the server, which has the right key, and its answer to the server's
    let sent = net.nodes[0].sent - before;
    assert!(sent <= 2, "{sent}");
}

#[test]
fn a_server_whose_mapping_changed_is_found_again() {
    for (seed, loss) in [(1, 0.0), (2, 0.0), (3, 0.2), (4, 0.2)] {
        let mut net = three(seed, SEALED, [b"home"; 2]);
        assert!(works(&mut net, 30 * SEC));
        net.loss = loss;
        net.run_for(10 * SEC);
        let address = (seed % 2 == 0).then_some("203.0.113.99");
        net.nats[0].forget(address);
        // the server says where it is within 25 s, the client notices within 30 s, and asks every 8 s at least
        let limit = if loss > 0.0 { 200 } else { 75 };
        assert!(
            net.until(limit * SEC, |net| net.connect(2, 100).is_some_and(
                |id| net.until(2 * SEC, |net| net.received(2, id) == 100)
            ))
        );
        assert_eq!(net.nodes[0].tunnel.holdings().registrations, 1);
    }
}

#[test]
fn a_client_whose_mapping_changed_finds_the_server_again() {
    let mut net = three(1, SEALED, [b"home"; 2]);
    assert!(works(&mut net, 30 * SEC));
    net.nats[1].forget(Some("203.0.113.55"));
    assert!(
        net.until(60 * SEC, |net| net.connect(2, 100).is_some_and(
            |id| net.until(2 * SEC, |net| net.received(2, id) == 100)
        ))
    );
}

#[test]
fn a_rendezvous_server_may_be_restarted() {
    let mut net = three(1, SEALED, [b"home"; 2]);
    assert!(works(&mut net, 5 * SEC));
    net.nodes[0].tunnel = net.tunnel(settings(Rendezvous::Keeper));
    // those who have found each other do not need it
    assert!(works(&mut net, SEC));
    // and a client that starts now finds the server as soon as that has said again where it is
    net.run_for(26 * SEC);
    net.nodes[2].tunnel = net.tunnel(client(b"home"));
    meet(&mut net, 2);
    assert!(works(&mut net, 3 * SEC));
}

#[test]
fn a_client_that_comes_first_waits_for_the_server() {
    let mut net = three(1, SEALED, [b"home"; 2]);
    net.dead.insert(1);
    assert!(!works(&mut net, 30 * SEC));
    net.dead.clear();
    assert!(works(&mut net, 45 * SEC));
}

/// A program that waits has the rendezvous server asked at once, and no oftener than once a second.
#[test]
fn whoever_waits_for_the_server_has_it_asked_for() {
    let mut net = three(1, SEALED, [b"home"; 2]);
    net.dead.insert(1);
    // by now it asks every 8 s only
    net.run_for(60 * SEC);
    net.dead.clear();
    let now = net.now;
    let server = &mut net.nodes[1].tunnel;
    server.set_rendezvous(now, keeper(), "192.168.1.10:7000".parse().unwrap());
    net.run_for(500 * MS);
    let before = net.nodes[2].sent;
    let mut waited = 0;
    while net.nodes[2].tunnel.peer().is_none() {
        let now = net.now;
        net.nodes[2].tunnel.seek_peer(now);
        net.run_for(10 * MS);
        waited += 10;
        assert!(waited < 1_500, "it is not asked for");
    }
    let sent = net.nodes[2].sent - before;
    assert!(sent < 12, "{sent} in {waited} ms");
}

#[test]
fn a_lost_server_does_not_cost_the_session_if_it_answers_again() {
    let mut net = three(1, SEALED, [b"home"; 2]);
    let mut id = None;
    assert!(net.until(5 * SEC, |net| {
        id = id.or_else(|| net.connect(2, 5_000));
        id.is_some_and(|id| net.received(2, id) == 5_000)
    }));
    let id = id.unwrap();
    net.dead.insert(1);
    net.more(2, id, 200_000);
    net.run_for(20 * SEC);
    net.dead.clear();
    assert!(net.until(40 * SEC, |net| net.received(2, id) == 200_000));
}

#[test]
fn both_ends_with_each_others_address_punch_through() {
    for loss in [0.0, 0.2] {
        let mut net = Net::new(3, SEALED);
        net.loss = loss;
        net.nats.push(Nat::new("203.0.113.1", false));
        net.nats.push(Nat::new("203.0.113.2", false));
        let accepts = Settings {
            accepts: true,
            ..Settings::default()
        };
        net.add("192.168.9.9:1", None, Settings::default());
        net.add("192.168.1.10:7000", Some(0), accepts);
        net.add("192.168.2.20:8000", Some(1), Settings::default());
        for (node, port) in [(1, 7000), (2, 8000)] {
            let inside = net.nodes[node].addr;
            net.nats[node - 1].forward(inside, port);
        }
        let now = net.now;
        let server = "203.0.113.1:7000".parse().unwrap();
        net.nodes[2].tunnel.set_peer(now, server);
        net.run_for(3 * SEC);
        // alone it gets nowhere
        assert!(net.nodes[2].bytes.values().all(|b| b.0 == 0));
        let now = net.now;
        let client = "203.0.113.2:8000".parse().unwrap();
        net.nodes[1].tunnel.set_peer(now, client);
        assert!(works(&mut net, 30 * SEC));
        net.run_for(300 * SEC);
        assert!(works(&mut net, 20 * SEC));
    }
}

/// A tunnel that is a rendezvous server, and what it says to a packet.
struct Open {
    net: Net,
}

impl Open {
    fn new() -> Open {
        let mut net = Net::new(1, None);
        net.add(KEEPER, None, settings(Rendezvous::Keeper));
        Open { net }
    }

    fn tunnel(&mut self) -> &mut Tunnel {
        &mut self.net.nodes[0].tunnel
    }

    fn say(&mut self, from: SocketAddr, packet: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let now = self.net.now;
        self.tunnel()
            .receive(now, from, Local::default(), &mut packet.to_vec());
        let (mut said, mut out) = (Vec::new(), [0; DATAGRAM_MAX]);
        while let Some(Transmit { len, addr: to, .. }) = self.tunnel().poll_transmit(now, &mut out)
        {
            said.push((to, out[..len].to_vec()));
        }
        said
    }

    /// Registers, with the proof.
    fn enter(&mut self, id: &[u8], at: SocketAddr) {
        for (to, ping) in self.say(at, &Meeting::Listen { own: at, id }.to_wire()) {
            assert_eq!(to, at);
            let Some(Control::Ping(token)) = Control::read(&ping) else {
                panic!("{ping:?}");
            };
            assert_eq!(self.say(at, &Control::Pong(token).to_wire()), []);
        }
    }
}

fn addr(host: u32, port: u16) -> SocketAddr {
    SocketAddr::new(
        std::net::Ipv4Addr::from_bits(0x0B00_0000 + host).into(),
        port,
    )
}

#[test]
fn without_a_key_nobody_is_sent_more_than_was_sent_in_its_name() {
    let six: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
    for own in [addr(1, 1), six] {
        for seen in [addr(2, 2), six] {
            for len in [1, 2, 5, 17, SERVICE_ID_MAX] {
                let (mut open, id) = (Open::new(), vec![7; len]);
                open.enter(&id, seen);
                let request = Meeting::Connect { own, id: &id }.to_wire();
                let asker = addr(99, 99);
                let said = open.say(asker, &request);
                for (to, answer) in &said {
                    assert!(answer.len() <= request.len(), "{len} to {to}");
                    assert!([seen, asker].contains(to));
                }
                assert!(said.is_empty() || said.len() == 2 && said[0].0 != said[1].0);
                assert!(said.len() == 2 || request.len() < PUNCH_MAX, "{len}");
            }
        }
    }
    // what is no bigger than an answer is one of our own client's
    let mut open = Open::new();
    open.enter(b"xy", six);
    let mut request = Meeting::Connect {
        own: six,
        id: b"xy",
    }
    .to_wire();
    request.resize(PUNCH_MAX, 15);
    assert_eq!(open.say(six, &request).len(), 2);
}

#[test]
fn a_forged_registration_sends_nothing_but_one_ping_to_its_victim() {
    let mut open = Open::new();
    let victim = addr(66, 53);
    let listen = Meeting::Listen {
        own: victim,
        id: b"service",
    }
    .to_wire();
    let said = open.say(victim, &listen);
    assert_eq!(said.len(), 1);
    assert!(said[0].1.len() <= listen.len());
    let connect = Meeting::Connect {
        own: addr(1, 1),
        id: b"service",
    }
    .to_wire();
    for _ in 0..100 {
        assert_eq!(open.say(addr(1, 1), &connect), []);
    }
    // and a true server that everybody asks for is told a few times a second
    open.enter(b"service", addr(5, 5));
    let mut told = 0;
    for i in 0..1_000 {
        open.net.now = open.net.now.after(10 * MS);
        let said = open.say(addr(i, 1), &connect);
        told += said.iter().filter(|(to, _)| *to == addr(5, 5)).count();
    }
    assert!((40..=50).contains(&told), "{told} in 10 s");
}

#[test]
fn a_flood_of_registrations_leaves_those_that_are_there() {
    let mut open = Open::new();
    open.enter(b"service", addr(5, 5));
    let flood = |open: &mut Open, proven: bool| {
        for i in 0..30_000u32 {
            open.net.now = open.net.now.after(MS / 100);
            let (id, from) = (i.to_be_bytes(), addr(100 + i, 7));
            match proven {
                true => open.enter(&id, from),
                false => {
                    open.say(from, &Meeting::Listen { own: from, id: &id }.to_wire());
                }
            }
            assert!(open.tunnel().holdings().registrations <= 4096);
        }
    };
    flood(&mut open, false);
    assert_eq!(open.tunnel().holdings().registrations, 1);
    // one more finds its place in the middle of it
    open.enter(b"another", addr(6, 6));
    assert_eq!(open.tunnel().holdings().registrations, 2);
    flood(&mut open, true);
    assert_eq!(open.tunnel().holdings().registrations, 4096);
    assert_eq!(open.tunnel().holdings().paths, 0);
    for id in [&b"service"[..], b"another"] {
        let connect = Meeting::Connect {
            own: addr(1, 1),
            id,
        }
        .to_wire();
        assert_eq!(open.say(addr(1, 1), &connect).len(), 2);
    }
    // it is all gone when nobody repeats it
    open.net.run_for(1_400 * SEC);
    assert_eq!(open.tunnel().holdings().registrations, 0);
    assert_eq!(open.tunnel().poll_timeout(), None);
}

#[test]
fn a_punch_counts_only_from_the_rendezvous_server_and_for_hosts() {
    let mut net = three(1, None, [b"home"; 2]);
    net.run_for(3 * SEC);
    let good = addr(9, 9);
    let punch = Meeting::Punch([good, "192.168.1.1:0".parse().unwrap()]).to_wire();
    let bad = [
        "127.0.0.1:9",
        "0.0.0.0:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "169.254.1.1:9",
    ];
    let now = net.now;
    let server = &mut net.nodes[1].tunnel;
    server.receive(now, addr(8, 8), Local::default(), &mut punch.clone());
    for text in bad {
        let mut punch = Meeting::Punch([text.parse().unwrap(); 2]).to_wire();
        server.receive(now, keeper(), Local::default(), &mut punch);
    }
    net.run_for(10 * SEC);
    assert!(!net.nodes[1].targets.contains(&good));
    for text in bad {
        assert!(
            !net.nodes[1].targets.contains(&text.parse().unwrap()),
            "{text}"
        );
    }
    let now = net.now;
    net.nodes[1]
        .tunnel
        .receive(now, keeper(), Local::default(), &mut punch.clone());
    net.run_for(10 * SEC);
    assert!(net.nodes[1].targets.contains(&good));
    let sent = net.nodes[1].bytes[&good].1;
    assert!((20..=80).contains(&sent), "{sent} bytes of pings");
}
