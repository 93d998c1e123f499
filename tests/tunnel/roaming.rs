//! Connections outlive addresses: an end that moves, sleeps or is restarted, mixed with loss and with somebody who records
//! what passes and plays it from elsewhere. `KCPTUN_SEED=n cargo test --test tunnel roaming::` runs one random world alone.

use crate::sim::link::{Fate, Shape};
use crate::sim::{self, Options, Role, World};
use kcptun::crypto::{Method, Sealing};
use kcptun::message::{self, Control, Kind};
use kcptun::path::Local;
use kcptun::segment::{Header, cmd};
use kcptun::settings::Settings;
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Event, Transmit, Tunnel};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const METHOD: Method = Method::Chacha20Poly1305Ietf;

fn world(seed: u64, method: Option<Method>) -> World {
    World::new(Options {
        seed,
        method,
        shapes: [Shape::path(40, 2.0, 20.0, 50); 2],
        ..Options::default()
    })
}

fn send(bytes: u64) -> Role {
    Role::Send { bytes, fin: true }
}

/// Runs, with the name of the server resolved again when the client's tunnel asks for it.
fn run(world: &mut World, span: Duration) {
    let end = world.now.after(span);
    while world.now < end {
        world.run_for(100 * MS);
        world.resolve();
    }
}

/// The longest time without a byte for the reader at an end while the script runs.
fn stands(world: &mut World, end: usize, conv: u32, span: Duration) -> Duration {
    let (mut since, mut worst) = (world.now, Duration::ZERO);
    let received = |w: &World| w.tcp(end, conv).map_or(0, |t| t.received);
    let mut before = received(world);
    let until = world.now.after(span);
    while world.now < until {
        run(world, 100 * MS);
        let now = received(world);
        if now > before {
            (since, before) = (world.now, now);
        }
        worst = worst.max(world.now.since(since));
    }
    worst
}

#[test]
fn a_client_that_moves_keeps_its_connections() {
    for download in [true, false] {
        let mut world = world(1, Some(METHOD));
        let (role, service) = match download {
            true => (send(10), send(80_000_000)),
            false => (send(80_000_000), send(10)),
        };
        let (_, conv) = world.connect(role, service);
        let (_, idle) = world.connect(send(10), Role::Echo);
        world.run_for(2 * SEC);
        for port in 1001..1006 {
            world.move_to(0, &format!("198.51.100.1:{port}"));
            let reader = usize::from(!download);
            let worst = stands(&mut world, reader, conv, 3 * SEC);
            assert!(
                worst <= 2 * SEC,
                "{worst:?} without progress, download {download}"
            );
        }
        assert!(world.run_to_rest(300 * SEC));
        world.assert_clean(conv);
        world.assert_clean(idle);
        assert!(world.astray.is_empty());
        let held = world.ends[1].tunnel.holdings();
        assert!(held.paths <= 6, "{held:?}");
    }
}

/// A segment that claims more than its packet holds, up to what overflows where a length has 32 bits: nothing else in
/// its header is believed, so that its session still follows its owner.
#[test]
fn a_packet_whose_length_is_wrong_tells_nothing_of_its_sender() {
    let mut world = world(5, Some(METHOD));
    let (_, conv) = world.connect(send(10), send(8_000_000));
    world.run_for(SEC);
    let mut sealing = Sealing::new(METHOD, &sim::key());
    let lengths = [1, 1 << 31, u32::MAX - 24, u32::MAX - 23, u32::MAX];
    let (from, before) = (world.ends[0].addr, world.ends[1].tunnel.counters());
    for (len, quarter) in lengths
        .iter()
        .flat_map(|len| (0..4).map(move |q| (*len, q)))
    {
        let header = Header {
            conv,
            cmd: cmd::PUSH,
            ts: quarter << 30,
            sn: 1 << 20,
            una: 1 << 20,
            len,
            ..Header::default()
        };
        let mut datagram = header.to_wire().to_vec();
        datagram.resize(datagram.len() + METHOD.overhead(), 0);
        sealing.seal(&mut datagram, header.to_wire().len());
        world.inject(1, &from.to_string(), &datagram);
    }
    let counters = world.ends[1].tunnel.counters();
    assert_eq!(counters.malformed - before.malformed, 20);
    world.move_to(0, "198.51.100.1:1");
    let worst = stands(&mut world, 0, conv, 3 * SEC);
    assert!(worst <= 2 * SEC, "{worst:?} without progress");
    assert!(world.run_to_rest(60 * SEC));
    world.assert_clean(conv);
}

/// Where an answer takes next to no time, the other end's new address must not be asked as often as it answers.
#[test]
fn a_short_path_takes_no_more_pings_than_a_long_one() {
    let mut world = World::new(Options {
        method: Some(METHOD),
        shapes: [Shape {
            delay: MS / 10,
            ..Shape::default()
        }; 2],
        ..Options::default()
    });
    world.connect(send(10), send(80_000_000));
    world.run_for(SEC);
    world.move_to(1, "203.0.113.1:2000");
    let now = world.now;
    let before = world.ends[0].tunnel.counters().sent;
    let new = world.ends[1].addr;
    world.ends[0].tunnel.set_peer(now, new);
    world.ends[0].tunnel.network_changed(now);
    world.settle(0);
    while world.ends[0].tunnel.peer() != Some(new) {
        world.run_for(10 * MS);
        assert!(world.now.since(now) < 500 * MS, "it does not follow");
    }
    let sent = world.ends[0].tunnel.counters().sent - before;
    assert!(sent < 100, "{sent} for a move");
}

#[test]
fn without_a_key_nothing_moves() {
    let mut world = world(1, None);
    let (_, conv) = world.connect(send(10), send(80_000_000));
    world.run_for(2 * SEC);
    world.move_to(0, "198.51.100.1:1");
    let received = world.tcp(0, conv).unwrap().received;
    world.run_for(2 * SEC);
    assert!(world.tcp(0, conv).unwrap().received <= received + 1_000_000);
    assert!(world.tcp(0, conv).unwrap().received < 80_000_000);
}

#[test]
fn a_server_that_moves_is_found_again() {
    let mut world = world(2, Some(METHOD));
    let (_, conv) = world.connect(send(100_000_000), Role::Echo);
    world.run_for(2 * SEC);
    for n in 1..4 {
        world.move_to(1, &format!("203.0.113.{n}:2000"));
        let worst = stands(&mut world, 1, conv, 8 * SEC);
        assert!(worst <= 7 * SEC, "{worst:?}");
    }
    let (_, late) = world.connect(send(1000), Role::Echo);
    for _ in 0..600 {
        run(&mut world, SEC);
    }
    world.assert_clean(conv);
    world.assert_clean(late);
}

#[test]
fn a_new_socket_is_noticed_at_once_even_by_who_only_listens() {
    let mut world = world(3, Some(METHOD));
    let (_, conv) = world.connect(
        send(10),
        Role::Serve {
            request: 10,
            bytes: 10,
            fin: false,
        },
    );
    world.run_for(5 * SEC);
    world.move_to(0, "198.51.100.7:1");
    let now = world.now;
    world.ends[0].tunnel.network_changed(now);
    world.settle(0);
    world.run_for(SEC);
    let moved = "198.51.100.7:1".parse().unwrap();
    assert!(
        world.ends[1]
            .tunnel
            .path(moved)
            .is_some_and(|p| p.sessions == 1)
    );
    assert_eq!(world.tcp(0, conv).unwrap().received, 10);
}

#[test]
fn copies_from_elsewhere_move_nothing() {
    let mut world = world(4, Some(METHOD));
    world.sniffed = Some(Vec::new());
    let (_, conv) = world.connect(send(3_000_000), Role::Echo);
    world.run_for(SEC);
    // datagrams that the attacker holds back, and sends first, from elsewhere
    for link in 0..2 {
        world.links[link].shape.dead = true;
    }
    let before = world.sniffed.as_ref().unwrap().len();
    world.run_for(SEC);
    let held = world.sniffed.take().unwrap();
    for (by, datagram) in held.iter().rev() {
        world.inject(1 - by, "198.51.100.66:6", datagram);
    }
    assert!(held.len() > before);
    world.set_shape(Shape::path(40, 2.0, 50.0, 50));
    assert!(world.run_to_rest(300 * SEC));
    world.assert_clean(conv);
    // pings, and resets that say nothing, each far smaller than what asked for it
    assert!(
        world.astray.iter().all(|(_, len)| *len <= 10 + 15 + 28),
        "{:?}",
        world.astray
    );
    assert!(world.astray.len() < 90, "{}", world.astray.len());
}

/// What was sent to a server that slept is played when it is awake, from an address that its sender has left by then: its
/// clock was a minute behind, and the service is dialled once.
#[test]
fn a_beginning_that_was_held_back_does_not_begin_twice() {
    for seed in 0..10 {
        let mut world = world(seed, Some(METHOD));
        world.run_for(SEC);
        world.sleep(1, true);
        world.sniffed = Some(Vec::new());
        let (_, conv) = world.connect(send(500), send(50_000));
        world.run_for(SEC);
        let held = std::mem::take(world.sniffed.as_mut().unwrap());
        world.run_for(60 * SEC);
        let old = world.ends[0].addr.to_string();
        world.move_to(0, "198.51.100.7:7");
        world.sleep(1, false);
        for (_, datagram) in held.iter().filter(|(by, _)| *by == 0) {
            world.inject(1, &old, datagram);
        }
        assert!(world.run_to_rest(120 * SEC));
        world.assert_clean(conv);
        assert_eq!(world.ends[1].dials_seen, 1);
    }
}

/// A client in a few lines, whose clock and numbers are what a test wants.
struct Client {
    addr: &'static str,
    sealing: Sealing,
}

impl Client {
    fn new(addr: &'static str) -> Client {
        let sealing = Sealing::new(METHOD, &sim::key());
        Client { addr, sealing }
    }

    fn say(&mut self, server: &mut Tunnel, now: Instant, packet: &[u8]) {
        let mut datagram = packet.to_vec();
        datagram.resize(packet.len() + METHOD.overhead(), 0);
        let len = self.sealing.seal(&mut datagram, packet.len());
        server.receive(
            now,
            self.addr.parse().unwrap(),
            Local::default(),
            &mut datagram[..len],
        );
    }

    fn push(
        &mut self,
        server: &mut Tunnel,
        now: Instant,
        (conv, sn, ts): (u32, u32, u32),
        data: &[u8],
    ) {
        let header = Header {
            conv,
            cmd: cmd::PUSH,
            sn,
            ts,
            wnd: 128,
            len: data.len() as u32,
            ..Header::default()
        };
        self.say(server, now, &[&header.to_wire()[..], data].concat());
    }
}

fn server() -> Tunnel {
    let settings = Settings {
        sealing: Some(Sealing::new(METHOD, &sim::key())),
        accepts: true,
        ..Settings::default()
    };
    Tunnel::new(settings, Instant::from_millis(1))
}

/// What the tunnel sends now, opened: whereto, and the packet.
fn sent(tunnel: &mut Tunnel, now: Instant) -> Vec<(String, Vec<u8>)> {
    let mut opener = Sealing::new(METHOD, &sim::key());
    let (mut out, mut all) = ([0; DATAGRAM_MAX], Vec::new());
    while let Some(Transmit { len, addr: to, .. }) = tunnel.poll_transmit(now, &mut out) {
        let packet = opener.open(&mut out[..len]).unwrap().to_vec();
        all.push((to.to_string(), packet));
    }
    all
}

fn dials(tunnel: &mut Tunnel) -> usize {
    let events: Vec<Event> = std::iter::from_fn(|| tunnel.poll()).collect();
    events
        .iter()
        .filter(|e| matches!(e, Event::Dial(_)))
        .count()
}

fn dial(text: &[u8]) -> Vec<u8> {
    let push = message::header(Kind::Push, text.len());
    [&message::header(Kind::Dial, 0)[..], &push, text].concat()
}

#[test]
fn two_clients_with_the_same_number_are_two() {
    let (mut server, now) = (server(), Instant::from_millis(5_000));
    let (mut one, mut two) = (Client::new("192.0.2.1:1"), Client::new("192.0.2.2:2"));
    for addr in [one.addr, two.addr] {
        let sealing = Some(Sealing::new(METHOD, &sim::key()));
        sim::prove(&mut server, now, addr.parse().unwrap(), sealing);
    }
    one.push(&mut server, now, (77, 0, 1_000), &dial(b"one"));
    two.push(&mut server, now, (77, 0, 9_000_000), &dial(b"two"));
    assert_eq!(dials(&mut server), 2);
    assert_eq!(server.sessions(), 2);
    // the second moves: the first one's session stays where it is
    two.addr = "192.0.2.3:3";
    two.push(&mut server, now, (77, 1, 9_000_010), b"");
    let pings = sent(&mut server, now);
    assert!(pings.iter().any(|(to, _)| to == two.addr));
    let at = |addr: &str| server.path(addr.parse().unwrap()).map_or(0, |p| p.sessions);
    assert_eq!(
        (at("192.0.2.1:1"), at("192.0.2.2:2"), at("192.0.2.3:3")),
        (1, 1, 0)
    );
    for n in 0..2 {
        let later = now.after(SEC + n * 50 * MS);
        two.push(&mut server, later, (77, 1, 9_000_900), b"");
        for (to, packet) in sent(&mut server, later) {
            match Control::read(&packet) {
                Some(Control::Ping(ts)) if to == two.addr => {
                    two.say(&mut server, later, &Control::Pong(ts).to_wire());
                }
                _ => (),
            }
        }
    }
    let at = |addr: &str| server.path(addr.parse().unwrap()).map_or(0, |p| p.sessions);
    assert_eq!(
        (at("192.0.2.1:1"), at("192.0.2.2:2"), at("192.0.2.3:3")),
        (1, 0, 1)
    );
}

#[test]
fn who_does_not_answer_opens_nothing_and_gets_less_than_they_sent() {
    for method in [None, Some(METHOD)] {
        let settings = Settings {
            sealing: method.map(|m| Sealing::new(m, &sim::key())),
            accepts: true,
            ..Settings::default()
        };
        let mut server = Tunnel::new(settings, Instant::from_millis(1));
        let (mut came, mut went) = (0, 0);
        let mut sealing = method.map(|m| Sealing::new(m, &sim::key()));
        let mut out = [0; DATAGRAM_MAX];
        for n in 0..20_000u32 {
            let now = Instant::from_millis(u64::from(n / 10));
            let data = dial(b"x");
            let header = Header {
                conv: n + 1,
                cmd: cmd::PUSH,
                len: data.len() as u32,
                ..Header::default()
            };
            let mut datagram = [&header.to_wire()[..], &data].concat();
            let len = datagram.len();
            datagram.resize(len + 40, 0);
            let len = sealing.as_mut().map_or(len, |s| s.seal(&mut datagram, len));
            came += len;
            let from = format!("10.0.{}.{}:9", n / 200 % 200, n % 200);
            server.receive(
                now,
                from.parse().unwrap(),
                Local::default(),
                &mut datagram[..len],
            );
            if server.poll_timeout().is_some_and(|at| at <= now) {
                server.handle_timeout(now);
            }
            while let Some(Transmit { len, .. }) = server.poll_transmit(now, &mut out) {
                went += len;
            }
        }
        assert_eq!((dials(&mut server), server.sessions()), (0, 0));
        assert!(went <= came, "{went} for {came}");
        let held = server.holdings();
        assert!(held.waiting <= 512 && held.paths == 0, "{held:?}");
    }
}

#[test]
fn a_connection_recorded_before_a_restart_opens_nothing_after_it() {
    let mut world = world(5, Some(METHOD));
    world.sniffed = Some(Vec::new());
    world.connect(send(1_000), Role::Echo);
    assert!(world.run_to_rest(60 * SEC));
    let sniffed = world.sniffed.take().unwrap();
    world.restart(1);
    // the client is not there either: nobody answers
    world.sleep(0, true);
    for (_, datagram) in sniffed.iter().filter(|(by, _)| *by == 0) {
        for from in ["192.0.2.1:1000", "198.51.100.66:6"] {
            world.inject(1, from, datagram);
        }
        world.run_for(50 * MS);
    }
    assert_eq!(world.ends[1].tunnel.sessions(), 0);
    assert_eq!(world.ends[1].dials_seen, 1, "the first connection's");
}

/// Not even from the address of a client that is there and answers, which somebody on the path can send from.
#[test]
fn a_recorded_connection_of_a_client_that_is_there_opens_nothing_after_a_restart() {
    for method in [Method::Chacha20Poly1305Ietf, Method::Aes256Gcm] {
        let mut world = world(5, Some(method));
        world.sniffed = Some(Vec::new());
        world.connect(send(1_000), Role::Echo);
        assert!(world.run_to_rest(60 * SEC));
        let sniffed = world.sniffed.take().unwrap();
        // the client goes on: what was recorded is further behind than what the path may reorder
        world.connect(send(1_000_000), Role::Echo);
        assert!(world.run_to_rest(60 * SEC));
        world.restart(1);
        let from = world.ends[0].addr.to_string();
        for round in 0..2 {
            for (_, datagram) in sniffed.iter().filter(|(by, _)| *by == 0) {
                world.inject(1, &from, datagram);
                world.run_for(50 * MS);
            }
            assert_eq!(world.ends[1].dials_seen, 2 + round, "{method:?}");
            // an honest one goes through, with the proof that is there by now
            let (_, conv) = world.connect(send(1_000), Role::Echo);
            assert!(world.run_to_rest(60 * SEC));
            world.assert_clean(conv);
        }
    }
}

#[test]
fn a_restarted_server_resets_old_sessions_within_a_second_and_takes_new_ones() {
    for (role, service) in [
        (send(50_000_000), send(10)),
        (send(10), send(50_000_000)),
        // few segments, all acknowledged, and more to come
        (
            Role::Send {
                bytes: 3_000,
                fin: false,
            },
            send(10),
        ),
    ] {
        let mut world = world(6, Some(METHOD));
        world.allowed = 2_000;
        let (id, conv) = world.connect(role, service);
        world.run_for(SEC);
        world.restart(1);
        world.allowed = u64::MAX;
        world.at(world.now.after(MS), 0, id, u64::MAX);
        let (_, new) = world.connect(send(1_000), Role::Echo);
        world.run_for(1_200 * MS);
        if world.tcp(0, conv).unwrap().closed.is_none() {
            // its server was the one with something to say
            assert_eq!(role, send(10), "not reset");
        }
        assert!(world.tcp(0, new).unwrap().received > 0, "new ones work");
    }
}

#[test]
fn what_only_the_server_before_the_restart_had_is_missed_at_once() {
    for paced in [true, false] {
        let mut world = World::new(Options {
            seed: 6,
            method: Some(METHOD),
            tune: Some(Box::new(move |s| s.rate.control = paced)),
            ..Options::default()
        });
        // the first datagram is lost, the others are acknowledged before the server ends
        world.links[0].fates.push_back(Fate::Drop);
        let (_, conv) = world.connect(send(40_000), Role::Echo);
        world.run_for(21 * MS);
        assert_eq!(world.ends[1].dials_seen, 0);
        world.restart(1);
        world.run_for(2 * SEC);
        assert_eq!(world.tcp(0, conv).unwrap().closed, Some(true), "{paced}");
        assert!(world.run_to_rest(60 * SEC));
    }
}

#[test]
fn who_moves_before_hearing_of_a_reset_does_not_begin_again() {
    let mut world = world(7, Some(METHOD));
    world.links[1].shape.dead = true;
    let talk = Role::Send {
        bytes: 1_000,
        fin: false,
    };
    let (_, conv) = world.connect(talk, Role::Echo);
    world.run_for(100 * MS);
    let id = world.id(1, conv).unwrap();
    world.reset(1, id);
    world.move_to(0, "198.51.100.1:1");
    world.links[1].shape.dead = false;
    world.run_for(3 * SEC);
    assert_eq!(world.ends[1].dials_seen, 1);
    assert_eq!(world.tcp(0, conv).unwrap().closed, Some(true));
}

#[test]
fn what_was_held_back_does_not_make_two_of_a_session() {
    let (mut server, mut one) = (server(), Client::new("192.0.2.1:1"));
    let at = |ms: u64| Instant::from_millis(5_000 + ms);
    let sealing = Some(Sealing::new(METHOD, &sim::key()));
    sim::prove(&mut server, at(0), one.addr.parse().unwrap(), sealing);
    one.push(&mut server, at(0), (77, 0, 1_000), &dial(b"one"));
    // sent 20 s later, and held back for 15 s more
    one.push(&mut server, at(35_000), (77, 1, 21_000), b"");
    assert_eq!(dials(&mut server), 1);
    // it has heard nothing, has moved, and sends its first packet again
    one.addr = "192.0.2.3:3";
    for n in 0..4 {
        let ms = 46_000 + n * 1_000;
        let ts = 1_000 + ms as u32;
        one.push(&mut server, at(ms), (77, 0, ts), &dial(b"one"));
        for (to, packet) in sent(&mut server, at(ms)) {
            match Control::read(&packet) {
                Some(Control::Ping(value)) if to == one.addr => {
                    one.say(&mut server, at(ms), &Control::Pong(value).to_wire());
                }
                _ => (),
            }
        }
    }
    assert_eq!((dials(&mut server), server.sessions()), (0, 1));
    assert!(server.path(one.addr.parse().unwrap()).is_some());
}

#[test]
fn a_peer_with_the_key_that_never_dials_gets_little_memory() {
    let (mut server, mut one) = (server(), Client::new("192.0.2.1:1"));
    let now = Instant::from_millis(10);
    let sealing = Some(Sealing::new(METHOD, &sim::key()));
    sim::prove(&mut server, now, one.addr.parse().unwrap(), sealing);
    for conv in 1..=2_000 {
        for sn in 1..128 {
            one.push(&mut server, now, (conv, sn, 1), &[0; 1_300]);
        }
    }
    let held = server.holdings();
    assert!(held.half_open <= 1_024, "{held:?}");
    assert!(held.half_open_bytes <= 8 << 20, "{held:?}");
}

/// One random world.
fn roam(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let rng = &mut rng;
    let method = Method::ALL[rng.random_range(0..4)];
    let shape = Shape {
        delay: rng.random_range(1..120) * MS,
        jitter: rng.random_range(0..30) * MS,
        loss: if rng.random_bool(0.6) {
            rng.random_range(0.0..0.25)
        } else {
            0.0
        },
        rate: 10f64.powf(rng.random_range(6.0..7.7)),
        queue: rng.random_range(20..150) * MS,
        duplicate: if rng.random_bool(0.3) { 0.1 } else { 0.0 },
        reorder: if rng.random_bool(0.3) { 0.1 } else { 0.0 },
        reorder_by: rng.random_range(1..3_000) * MS,
        ..Shape::default()
    };
    let mut world = World::new(Options {
        seed,
        method: Some(method),
        shapes: [shape; 2],
        clock_offset: rng.random(),
        met: rng.random_bool(0.5),
        tune: Some(Box::new(|s| s.linger = 600 * SEC)),
        ..Options::default()
    });
    world.sniffed = Some(Vec::new());
    let mut convs = Vec::new();
    let (mut reset, mut played) = (false, 0);
    let [moves, server, outages, sleeps] = [0; 4].map(|_| rng.random_bool(0.5));
    let restarts = rng.random_bool(0.15);
    for step in 0..rng.random_range(4..10) {
        if convs.len() < 4 {
            let size = |rng: &mut SmallRng| send(10f64.powf(rng.random_range(0.0..5.5)) as u64);
            let (role, service) = (size(rng), size(rng));
            convs.push(world.connect(role, service).1);
        }
        match rng.random_range(0..6) {
            0 | 1 if moves => {
                world.move_to(0, &format!("198.51.100.{}:{}", step + 1, 1000 + step));
                if rng.random_bool(0.5) {
                    let now = world.now;
                    world.ends[0].tunnel.network_changed(now);
                    world.settle(0);
                }
            }
            2 if server => world.move_to(1, &format!("203.0.113.{}:2000", step + 1)),
            3 if outages => {
                world.links.iter_mut().for_each(|l| l.shape.dead = true);
                let span = [500 * MS, 5 * SEC, 60 * SEC][rng.random_range(0..3)];
                run(&mut world, span);
                world.links.iter_mut().for_each(|l| l.shape.dead = false);
            }
            4 if sleeps => {
                let end = rng.random_range(0..2);
                world.sleep(end, true);
                let span = rng.random_range(1..120);
                run(&mut world, span * SEC);
                world.sleep(end, false);
            }
            5 if restarts => {
                world.restart(rng.random_range(0..2));
                reset = true;
            }
            _ => {}
        }
        // the attacker plays some of what has passed from elsewhere, and from the other end's address
        let recorded = std::mem::take(world.sniffed.as_mut().unwrap());
        for _ in 0..recorded.len().min(20) {
            let (by, datagram) = &recorded[rng.random_range(0..recorded.len())];
            let from = match rng.random_bool(0.7) {
                true => "192.0.2.66:6".to_owned(),
                false => world.ends[*by].addr.to_string(),
            };
            if !world.ends[1 - by].asleep {
                played += datagram.len();
                world.inject(1 - by, &from, datagram);
            }
        }
        let span = rng.random_range(100..5_000) * MS;
        run(&mut world, span);
        world.check();
    }
    for _ in 0..3_000 {
        let over = |e: &sim::End| e.tunnel.is_quiet() && e.tcp.is_empty();
        if world.ends.iter().all(over) {
            break;
        }
        run(&mut world, SEC);
    }
    world.check();
    for end in &world.ends {
        assert!(
            end.tunnel.is_quiet() && end.tcp.is_empty(),
            "{:?}",
            end.tunnel.holdings()
        );
    }
    for conv in &convs {
        if !reset {
            world.assert_clean(*conv);
        }
    }
    // pings, resets and acks for copies of sessions that have ended in order
    let astray: usize = world.astray.iter().map(|(_, len)| len).sum();
    assert!(astray <= 3 * played, "{astray} for {played}");
    assert!(world.astray.iter().all(|(_, len)| *len < 300));
}

/// More with KCPTUN_SEEDS=n.
const SEEDS: u64 = 1_000;

fn roams(part: u64) {
    if let Ok(seed) = std::env::var("KCPTUN_SEED") {
        let _ = env_logger::builder().try_init();
        if part == 0 {
            roam(seed.parse().expect("a seed is a number"));
        }
        return;
    }
    let seeds = std::env::var("KCPTUN_SEEDS").map_or(SEEDS, |n| n.parse().expect("a number"));
    let fails = |seed: &u64| std::panic::catch_unwind(|| roam(*seed)).is_err();
    let failed: Vec<u64> = (part..seeds).step_by(2).filter(fails).collect();
    assert!(failed.is_empty(), "failed: KCPTUN_SEED={failed:?}");
}

#[test]
fn wherever_the_ends_are_what_arrives_is_right_1() {
    roams(0);
}

#[test]
fn wherever_the_ends_are_what_arrives_is_right_2() {
    roams(1);
}

/// Nobody is told that a dial has arrived because somebody else had its number.
#[test]
fn a_number_that_another_client_had_is_free_after_a_while() {
    let mut server = server();
    let (mut one, mut two) = (Client::new("192.0.2.1:1"), Client::new("192.0.2.2:2"));
    let at = |ms: u64| Instant::from_millis(5_000 + ms);
    for addr in [one.addr, two.addr] {
        let sealing = Some(Sealing::new(METHOD, &sim::key()));
        sim::prove(&mut server, at(0), addr.parse().unwrap(), sealing);
    }
    let whole = [
        message::header(Kind::Dial, 0),
        message::header(Kind::Eof, 0),
    ]
    .concat();
    one.push(&mut server, at(0), (77, 0, 1_000), &whole);
    let Some(Event::Dial(id)) = server.poll() else {
        panic!("no dial")
    };
    server.dialled(at(0), id);
    assert!(server.output_ended(at(0), id));
    server.finished(at(0), id);
    for ms in 1..100 {
        let ack = Header {
            conv: 77,
            cmd: cmd::ACK,
            una: 1,
            wnd: 128,
            ..Header::default()
        };
        one.say(&mut server, at(ms), &ack.to_wire());
        sent(&mut server, at(ms));
    }
    assert_eq!(server.sessions(), 0, "the first has ended in order");
    let late = |server: &mut Tunnel, two: &mut Client, ms: u64| {
        two.push(server, at(ms), (77, 0, 9_000_000), &dial(b"abc"));
        let answers = sent(server, at(ms));
        (dials(server), answers.len())
    };
    assert_eq!(late(&mut server, &mut two, 10_000), (0, 0));
    server.handle_timeout(at(121_000));
    assert_eq!(late(&mut server, &mut two, 121_000).0, 1);
}

/// After a move to an address of the other family a session's packets may be longer than the path's; in a batch of shorter
/// ones the system would cut them up. So it is behind a session that has just ended, too.
#[test]
fn nothing_longer_follows_a_session_that_is_over() {
    for seed in 1..10 {
        let mut world = World::new(Options {
            seed,
            method: Some(METHOD),
            shapes: [Shape::path(60, 5.0, 50.0, 50); 2],
            ..Options::default()
        });
        let send = |bytes| Role::Send { bytes, fin: false };
        for _ in 0..3 {
            world.connect(send(10), send(100_000_000));
        }
        world.run_for(SEC);
        world.move_to(0, "[2001:db8::1]:1000");
        world.run_for(5 * SEC);
        let short: Vec<u32> = (0..8)
            .map(|_| world.connect(send(10), send(100_000_000)).1)
            .collect();
        world.run_for(SEC + seed * 3 * MS);
        let ids: Vec<_> = short.iter().filter_map(|c| world.id(1, *c)).collect();
        let mut now = world.now;
        let (mut opener, mut out) = (Sealing::new(METHOD, &sim::key()), vec![0; 65_536]);
        for id in ids {
            // the service resets it, and the rate allows more
            let tunnel = &mut world.ends[1].tunnel;
            tunnel.broken(now, id);
            now = now.after(3 * MS);
            tunnel.handle_timeout(now);
            while let Some(transmit) = tunnel.poll_transmit(now, &mut out) {
                for datagram in out[..transmit.len].chunks_mut(transmit.segment) {
                    assert!(opener.open(datagram).is_ok(), "seed {seed}: {transmit:?}");
                }
            }
        }
    }
}

thread_local! {
    /// What the tunnels of this thread's world have warned of.
    static WARNINGS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let text = record.args().to_string();
        if record.level() <= log::Level::Warn && text.contains("was dropped") {
            WARNINGS.with_borrow_mut(|all| all.push(text));
        }
    }

    fn flush(&self) {}
}

/// Packets that were on their way when their sender moved are nothing to warn of.
#[test]
fn the_last_packets_from_an_old_port_look_like_no_attack() {
    log::set_logger(&Keeper)
        .expect("no other logger; with KCPTUN_SEED, run only the test that it is for");
    log::set_max_level(log::LevelFilter::Warn);
    log::warn!("a packet of nobody was dropped");
    let seen = WARNINGS.with_borrow_mut(std::mem::take);
    assert_eq!(seen.len(), 1, "what is logged is seen");
    let mut all = Vec::new();
    for seed in 0..24 {
        for method in [Method::Chacha20Poly1305Ietf, Method::Xsalsa20Poly1305] {
            let mut world = World::new(Options {
                seed,
                method: Some(method),
                shapes: [Shape {
                    jitter: 30 * MS,
                    reorder: 0.1,
                    reorder_by: 300 * MS,
                    ..Shape::path(60, 2.0, 20.0, 100)
                }; 2],
                ..Options::default()
            });
            world.connect(send(10), send(80_000_000));
            world.connect(send(80_000_000), send(10));
            for port in 1001..1009 {
                for _ in 0..3 {
                    world.connect(send(300), Role::Echo);
                    world.run_for(37 * MS);
                }
                world.run_for(seed % 7 * 100 * MS);
                let ip = ["192.0.2.1".into(), format!("198.51.100.{}", port - 1000)];
                world.move_to(0, &format!("{}:{port}", ip[seed as usize / 2 % 2]));
                if seed % 2 == 0 {
                    let now = world.now;
                    world.ends[0].tunnel.network_changed(now);
                    world.settle(0);
                }
            }
            world.run_for(3 * SEC);
            all.extend(WARNINGS.with_borrow_mut(std::mem::take));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}
