//! Fresh keys between two tunnels: what a recording and the psk open, what an attacker on the way can do, and what becomes of
//! sessions when keys are renewed, an end restarts or an address changes.

use crate::sim::link::{Fate, Shape};
use crate::sim::{Options, Role, World, key, prove};
use kcptun::crypto::handshake::Extension;
use kcptun::crypto::{Method, Sealing};
use kcptun::message::{CONTROL_LEN, Control};
use kcptun::path::Local;
use kcptun::settings::{ForwardSecrecy, Settings};
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Event, Tunnel};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

const METHOD: Method = Method::Chacha20Poly1305Ietf;
const FIN: bool = true;

fn options(method: Method) -> Options {
    Options {
        method: Some(method),
        adjust: |s| s.forward_secrecy = ForwardSecrecy::Auto,
        met: false,
        ..Options::default()
    }
}

/// What each end does of it: the client and the server.
fn split(client: ForwardSecrecy, server: ForwardSecrecy) -> Options {
    Options {
        tune: Some(Box::new(move |s: &mut Settings| {
            s.forward_secrecy = if s.accepts { server } else { client };
        })),
        ..options(METHOD)
    }
}

fn has_keys(world: &World, end: usize) -> bool {
    let snapshot = world.ends[end].tunnel.snapshot(world.now);
    let other = world.ends[1 - end].addr;
    let mut paths = snapshot.paths.iter();
    paths.any(|path| path.addr == other && path.fresh_keys)
}

fn transfer(world: &mut World, bytes: u64) -> u32 {
    let send = Role::Send { bytes, fin: FIN };
    world.connect(send, Role::Echo).1
}

/// What is in a datagram, for somebody who has the psk.
fn under_psk(sealing: &mut Sealing, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut copy = datagram.to_vec();
    sealing.open(&mut copy).ok().map(|packet| packet.to_vec())
}

fn is_handshake(packet: &[u8]) -> bool {
    Control::read(packet).is_some() && Extension::read(&packet[CONTROL_LEN..]).is_some()
}

#[test]
fn a_recording_and_the_psk_open_nothing_but_what_was_sent_before_the_first_answer() {
    for method in Method::ALL {
        let mut world = World::new(Options {
            shapes: [Shape::path(100, 0.0, 20.0, 50); 2],
            ..options(method)
        });
        world.sniffed = Some(Vec::new());
        let early = transfer(&mut world, 100_000);
        world.run_for(101 * MS);
        assert!(has_keys(&world, 0), "{method}");
        let before = world.sniffed.replace(Vec::new()).expect("recorded");
        let late = transfer(&mut world, 1_000_000);
        assert!(world.run_to_rest(60 * SEC));
        world.run_for(60 * SEC);
        world.assert_clean(early);
        world.assert_clean(late);
        assert!(has_keys(&world, 1), "{method}");
        let mut sealing = Sealing::new(method, &key());
        let after = world.sniffed.take().expect("recorded");
        let opened: Vec<_> = before
            .iter()
            .filter_map(|(end, datagram)| Some((*end, under_psk(&mut sealing, datagram)?)))
            .collect();
        assert!(
            opened.iter().any(|(end, _)| *end == 0),
            "what was sent at once"
        );
        for (end, packet) in &opened {
            let answers = packet.starts_with(&[0; 4]);
            assert!(*end == 0 || answers, "{method}: {packet:?}");
        }
        assert!(after.len() > 1_000);
        for (end, datagram) in after {
            let packet = under_psk(&mut sealing, &datagram);
            assert_eq!(packet, None, "{method}: sent by {end}");
        }
        assert_eq!(world.ends[1].tunnel.counters().bad_seal, 0);
    }
}

/// When the first byte of an answer comes that was asked for at once.
fn first_byte(method: Method, forward_secrecy: ForwardSecrecy, wait: Duration) -> Duration {
    let mut world = World::new(Options {
        tune: Some(Box::new(move |s: &mut Settings| {
            s.forward_secrecy = forward_secrecy
        })),
        shapes: [Shape::path(100, 0.0, 20.0, 50); 2],
        ..options(method)
    });
    world.record = true;
    world.run_for(wait);
    let began = world.now;
    let conv = transfer(&mut world, 100);
    world.run_for(20 * SEC);
    let tcp = world.tcp(0, conv).expect("the connection");
    let arrivals = tcp.arrivals.as_ref().expect("recorded");
    arrivals.first().expect("an answer").0.since(began)
}

#[test]
fn no_round_trip_is_added() {
    for method in Method::ALL {
        for wait in [Duration::ZERO, 30 * MS, 120 * MS, SEC] {
            let without = first_byte(method, ForwardSecrecy::Off, wait);
            let with = first_byte(method, ForwardSecrecy::Auto, wait);
            assert!(
                with <= without + 2 * MS,
                "{method}, {wait:?}: {with:?}, {without:?}"
            );
        }
    }
}

#[test]
fn a_lost_greeting_answer_or_first_use_is_made_up_for() {
    for (end, lost) in [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (0, 3)] {
        let mut world = World::new(options(METHOD));
        // the first greeting has left
        world.links[end].fates = (0..lost).map(|_| Fate::Drop).collect();
        let conv = transfer(&mut world, 10_000);
        world.run_for(20 * SEC);
        assert!(has_keys(&world, 0) && has_keys(&world, 1), "{end}, {lost}");
        world.assert_clean(conv);
    }
}

#[test]
fn renewals_under_load_lose_nothing() {
    let mut world = World::new(Options {
        shapes: [Shape::path(50, 0.0, 4.0, 200); 2],
        ..options(METHOD)
    });
    world.run_for(SEC);
    let conv = transfer(&mut world, 4_000_000 / 8 * 420);
    for _ in 0..400 {
        world.run_for(SEC);
        assert!(has_keys(&world, 0) && has_keys(&world, 1));
    }
    for end in &world.ends {
        let counters = end.tunnel.counters();
        let dropped = (counters.bad_seal, counters.replayed, counters.malformed);
        assert_eq!(dropped, (0, 0, 0), "two renewals");
    }
    let received = world.tcp(1, conv).expect("it goes on").received;
    assert!(received > 90_000_000, "{received}");
}

#[test]
fn keys_end_where_nobody_renews_them_and_sessions_go_on_with_others() {
    let mut world = World::new(options(METHOD));
    world.run_for(SEC);
    let conv = transfer(&mut world, 1_000);
    world.run_for(2 * SEC);
    world.assert_clean(conv);
    let (_, open) = world.connect(
        Role::Send {
            bytes: 1_000,
            fin: false,
        },
        Role::Echo,
    );
    world.run_for(2 * SEC);
    for link in &mut world.links {
        link.shape.dead = true;
    }
    world.run_for(150 * SEC);
    assert!(has_keys(&world, 0) && has_keys(&world, 1));
    world.run_for(30 * SEC);
    assert!(!has_keys(&world, 0) && !has_keys(&world, 1));
    world.sniffed = Some(Vec::new());
    world.run_for(60 * SEC);
    let mut sealing = Sealing::new(METHOD, &key());
    for (end, datagram) in world.sniffed.take().expect("recorded") {
        let packet = under_psk(&mut sealing, &datagram).expect("not under keys that have ended");
        assert!(is_handshake(&packet), "sent by {end}");
    }
    for link in &mut world.links {
        link.shape.dead = false;
    }
    world.run_for(40 * SEC);
    assert!(has_keys(&world, 0) && has_keys(&world, 1));
    let id = world.id(0, open).expect("it is still open");
    let tcp = world.ends[0].tcp.get_mut(&id).expect("its connection");
    tcp.role = Role::Send {
        bytes: 2_000,
        fin: true,
    };
    world.poke(0, id);
    world.run_for(5 * SEC);
    world.assert_clean(open);
}

#[test]
fn whichever_end_restarts_there_are_other_keys_soon() {
    for end in [0, 1] {
        let mut world = World::new(options(METHOD));
        let conv = transfer(&mut world, 1_000);
        world.run_for(2 * SEC);
        world.assert_clean(conv);
        world.restart(end);
        let conv = transfer(&mut world, 1_000);
        world.run_for(4 * SEC);
        world.assert_clean(conv);
        assert!(has_keys(&world, 0) && has_keys(&world, 1), "{end}");
        // and the old ones are gone, the new ones renewed
        world.run_for(700 * SEC);
        let conv = transfer(&mut world, 1_000);
        world.run_for(SEC);
        world.assert_clean(conv);
        assert!(has_keys(&world, 0) && has_keys(&world, 1), "{end}");
    }
}

/// What a client sends under keys that are gone does not open; what it sends soon after does, so that nobody is told of a wrong key.
#[test]
fn a_server_that_has_restarted_does_not_take_its_client_for_a_stranger() {
    for (wait, busy) in (0..6).flat_map(|n| [(n, false), (n, true)]) {
        let mut world = World::new(options(METHOD));
        world.run_for(2 * SEC);
        if busy {
            transfer(&mut world, 50_000_000);
        }
        world.run_for(wait * 433 * MS);
        world.restart(1);
        let mut doubted = Duration::ZERO;
        let stats = |world: &World| world.ends[1].tunnel.snapshot(world.now);
        for _ in 0..4_000 {
            world.run_for(10 * MS);
            if stats(&world).doubtful > 0 {
                doubted += 10 * MS;
            }
        }
        let seen = stats(&world).counters;
        assert!(seen.opened > 0 && seen.bad_seal > 0, "{wait} {busy}");
        // it is told after 3 s
        assert!(doubted <= 2 * SEC, "{wait} {busy}: {doubted:?}");
    }
}

#[test]
fn keys_go_along_when_an_address_changes() {
    let mut world = World::new(options(METHOD));
    world.run_for(SEC);
    world.sniffed = Some(Vec::new());
    let conv = transfer(&mut world, 3_000_000);
    for n in 0..5 {
        world.run_for(300 * MS);
        world.move_to(0, &format!("198.51.100.{}:{}", n + 1, 3000 + n));
    }
    world.run_for(5 * SEC);
    world.move_to(1, "203.0.113.9:2000");
    let late = transfer(&mut world, 10_000);
    for _ in 0..20 {
        world.run_for(SEC);
        world.resolve();
    }
    world.assert_clean(conv);
    world.assert_clean(late);
    assert!(has_keys(&world, 0) && has_keys(&world, 1));
    let mut sealing = Sealing::new(METHOD, &key());
    for (end, datagram) in world.sniffed.take().expect("recorded") {
        let packet = under_psk(&mut sealing, &datagram);
        assert!(packet.is_none_or(|p| is_handshake(&p)), "sent by {end}");
    }
}

#[test]
fn both_may_greet_at_once() {
    for seed in 0..20 {
        let mut world = World::new(Options {
            both: true,
            seed,
            ..options(METHOD)
        });
        let there = transfer(&mut world, 10_000);
        let send = Role::Send {
            bytes: 10_000,
            fin: FIN,
        };
        let (_, back) = world.connect_at(1, send, Role::Echo);
        world.run_for(20 * SEC);
        world.assert_clean(there);
        world.assert_clean(back);
        assert!(has_keys(&world, 0) && has_keys(&world, 1));
        world.run_for(800 * SEC);
        let there = transfer(&mut world, 10_000);
        world.run_for(2 * SEC);
        world.assert_clean(there);
    }
}

#[test]
fn an_end_without_them_is_served_or_refused_as_configured() {
    use ForwardSecrecy::{Auto, Off, Require};
    for (client, server) in [(Off, Auto), (Auto, Off), (Off, Off)] {
        let mut world = World::new(split(client, server));
        let conv = transfer(&mut world, 10_000);
        world.run_for(30 * SEC);
        world.assert_clean(conv);
        assert!(!has_keys(&world, 0) && !has_keys(&world, 1));
    }
    for (client, server) in [(Require, Auto), (Auto, Require), (Require, Require)] {
        let mut world = World::new(split(client, server));
        world.run_for(SEC);
        let conv = transfer(&mut world, 10_000);
        world.run_for(30 * SEC);
        world.assert_clean(conv);
        assert!(has_keys(&world, 0) && has_keys(&world, 1));
    }
    let mut world = World::new(split(Off, Require));
    let conv = transfer(&mut world, 10_000);
    world.run_for(30 * SEC);
    assert_eq!(world.ends[1].dials_seen, 0);
    assert_eq!(world.tcp(0, conv).expect("opened").closed, Some(true));
    let mut world = World::new(split(Require, Off));
    world.run_for(30 * SEC);
    let now = world.now;
    assert!(!world.ends[0].tunnel.takes_sessions());
    assert!(world.ends[0].tunnel.open(now).is_err());
}

/// Does what an end's loop would, and returns what it sends.
fn sends(tunnel: &mut Tunnel, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    while let Some(event) = tunnel.poll() {
        assert!(!matches!(event, Event::Dial(_)), "a recorded dial");
    }
    let (mut out, mut all) = (vec![0; DATAGRAM_MAX], Vec::new());
    while let Some(transmit) = tunnel.poll_transmit(now, &mut out) {
        all.push((transmit.addr, out[..transmit.len].to_vec()));
    }
    all
}

#[test]
fn recorded_greetings_from_elsewhere_get_a_bounded_number_of_answers() {
    // each of another process, as if it had been recorded over years
    let (mut recorded, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..3_000 {
        let mut client = client_of(ForwardSecrecy::Auto);
        client.set_peer(
            Instant::from_millis(1_000),
            "192.0.2.2:2000".parse().unwrap(),
        );
        let first = sends(&mut client, Instant::from_millis(1_000)).swap_remove(0);
        recorded.push(first.1);
        clients.push(client);
    }
    let mut server = Tunnel::new(
        Settings {
            sealing: Some(Sealing::new(METHOD, &key())),
            forward_secrecy: ForwardSecrecy::Auto,
            accepts: true,
            ..Settings::default()
        },
        Instant::ZERO,
    );
    let mut opener = Sealing::new(METHOD, &key());
    let (mut answers, mut each) = (0, HashMap::<SocketAddr, u32>::new());
    // what the first two would send under their keys, did they live
    let mut uses = Vec::new();
    for (n, datagram) in recorded.iter().enumerate() {
        let now = Instant::from_millis(1_000 + n as u64 / 3);
        let host = if n % 3 == 0 { 1 } else { 1 + n / 100 };
        let from = SocketAddr::from(([198, 51, 100, host as u8], n as u16));
        server.receive(now, from, Local::default(), &mut datagram.clone());
        server.handle_timeout(now);
        for (to, answer) in sends(&mut server, now) {
            assert!(answer.len() <= datagram.len(), "no more than was sent");
            if n < 2 {
                let server = "192.0.2.2:2000".parse().unwrap();
                clients[n].receive(now, server, Local::default(), &mut answer.clone());
                let ping = sends(&mut clients[n], now).pop().expect("the first use");
                uses.push((from, ping.1));
            }
            let packet = under_psk(&mut opener, &answer).expect("under the psk");
            if is_handshake(&packet) {
                answers += 1;
                *each.entry(SocketAddr::new(to.ip(), 0)).or_default() += 1;
            }
        }
    }
    assert!((50..=200).contains(&answers), "{answers} in a second");
    assert!(each.values().all(|n| *n <= 8), "{each:?}");
    assert_eq!(uses.len(), 2);
    // who uses them within 30 s is let in, and after that nobody is
    for ((from, ping), (at, opens)) in uses.iter().zip([(29_000, true), (31_000, false)]) {
        let now = Instant::from_millis(1_000 + at);
        server.handle_timeout(now);
        let before = server.counters();
        server.receive(now, *from, Local::default(), &mut ping.clone());
        let after = server.counters();
        assert_eq!(after.opened - before.opened, u64::from(opens));
        assert_eq!(after.bad_seal - before.bad_seal, u64::from(!opens));
    }
}

fn client_of(forward_secrecy: ForwardSecrecy) -> Tunnel {
    Tunnel::new(
        Settings {
            sealing: Some(Sealing::new(METHOD, &key())),
            forward_secrecy,
            seed: rand::random(),
            ..Settings::default()
        },
        Instant::from_millis(1_000),
    )
}

/// A flood of greetings does not keep out who shows that he is there.
#[test]
fn under_a_flood_a_challenge_comes_first() {
    let mut world = World::new(options(METHOD));
    world.run_for(100 * MS);
    world.restart(1);
    for n in 0..400u16 {
        let mut client = client_of(ForwardSecrecy::Auto);
        client.set_peer(world.now, "192.0.2.2:2000".parse().unwrap());
        let first = sends(&mut client, world.now).swap_remove(0);
        world.inject(1, &format!("198.51.{}.{}:9", n / 200, n % 200), &first.1);
    }
    world.restart(0);
    let conv = transfer(&mut world, 1_000);
    world.run_for(800 * MS);
    assert!(has_keys(&world, 0) && has_keys(&world, 1));
    world.assert_clean(conv);
}

/// What was recorded of a client that opened a connection at once is played to a server that has restarted, from the client's
/// address: also where the client has restarted, and answers.
#[test]
fn a_recorded_dial_opens_nothing_after_a_restart_whatever_the_method() {
    for method in Method::ALL {
        for both in [false, true] {
            let mut world = World::new(options(method));
            world.sniffed = Some(Vec::new());
            let conv = transfer(&mut world, 1_000);
            world.run_for(5 * SEC);
            world.assert_clean(conv);
            let recorded = world.sniffed.take().expect("recorded");
            let dials = world.ends[1].dials_seen;
            world.restart(1);
            if both {
                world.restart(0);
            }
            for _ in 0..10 {
                for (_, datagram) in recorded.iter().filter(|(end, _)| *end == 0) {
                    let from = world.ends[0].addr.to_string();
                    world.inject(1, &from, datagram);
                    world.inject(1, "198.51.100.1:1", datagram);
                }
                world.run_for(300 * MS);
            }
            world.run_for(5 * SEC);
            assert_eq!(world.ends[1].dials_seen, dials, "{method}, {both}");
            let conv = transfer(&mut world, 1_000);
            world.run_for(5 * SEC);
            world.assert_clean(conv);
        }
    }
}

/// An attacker without the psk, who may drop, hold back, repeat, change and replay any datagram, and when either end restarts.
struct Attacker {
    world: World,
    rng: SmallRng,
    opener: Sealing,
    recorded: Vec<(usize, Vec<u8>)>,
    /// Whether each end's process has shown keys.
    had: [bool; 2],
    /// When a connection was gone at the client.
    gone: HashMap<u32, Instant>,
    dialled: HashMap<u32, u64>,
    life: u64,
    both: bool,
}

impl Attacker {
    fn new(seed: u64) -> Attacker {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mode = match rng.random_range(0..4) {
            0 => ForwardSecrecy::Require,
            _ => ForwardSecrecy::Auto,
        };
        let both = rng.random_range(0..8) == 0;
        let mut world = World::new(Options {
            seed,
            both,
            tune: Some(Box::new(move |s: &mut Settings| s.forward_secrecy = mode)),
            ..options(Method::ALL[rng.random_range(0..4)])
        });
        world.sniffed = Some(Vec::new());
        Attacker {
            opener: Sealing::new(world_method(&world), &key()),
            world,
            rng,
            recorded: Vec::new(),
            had: [false; 2],
            gone: HashMap::new(),
            dialled: HashMap::new(),
            life: 0,
            both,
        }
    }

    fn fate(&mut self) -> Fate {
        match self.rng.random_range(0..12) {
            0 | 1 => Fate::Drop,
            2 | 3 => Fate::Delay(self.rng.random_range(1..400) * MS),
            4 => Fate::Repeat(self.rng.random_range(1..400) * MS),
            5 => Fate::Corrupt(
                self.rng.random_range(0..1500),
                1 << self.rng.random_range(0..8),
            ),
            _ => Fate::Pass,
        }
    }

    /// Looks at what was sent since.
    fn look(&mut self) {
        let had = self.had;
        for end in 0..2 {
            self.had[end] |= has_keys(&self.world, end);
        }
        for (end, datagram) in self.world.sniffed.replace(Vec::new()).expect("recorded") {
            let packet = under_psk(&mut self.opener, &datagram);
            if let Some(packet) = packet.filter(|_| had[end]) {
                // a server answers whoever pings from an address that it knows nothing of
                let free = self.both || end == 1;
                let right = is_handshake(&packet) || (free && packet.starts_with(&[0; 4]));
                assert!(right, "back to the psk: {end} {packet:02x?}");
            }
            self.recorded.push((end, datagram));
        }
        self.look_at_dials();
        self.world.check();
    }

    fn look_at_dials(&mut self) {
        let (now, world) = (self.world.now, &self.world);
        for (conv, _) in world.services.iter() {
            let closed = world.tcp(0, *conv).and_then(|tcp| tcp.closed_at);
            if let Some(at) = closed {
                self.gone.entry(*conv).or_insert(at);
            }
            let there = world.id(1, *conv).is_some();
            if there && self.dialled.insert(*conv, self.life) != Some(self.life) {
                let gone = self.gone.get(conv);
                let late = gone.is_some_and(|at| now.since(*at) > 3 * SEC);
                assert!(!late, "{conv:08x} was opened again");
            }
        }
    }

    fn act(&mut self) {
        match self.rng.random_range(0..40) {
            0..8 if self.world.ends[0].tunnel.takes_sessions() => {
                let bytes = self.rng.random_range(1..3_000);
                transfer(&mut self.world, bytes);
            }
            8 => self.restart(0),
            9 => self.restart(1),
            10 => {
                let port = self.rng.random_range(1..60_000);
                self.world.move_to(0, &format!("198.51.100.7:{port}"));
            }
            11..25 if !self.recorded.is_empty() => self.replay(),
            _ => {
                let end = self.rng.random_range(0..2);
                let fates = (0..self.rng.random_range(0..6))
                    .map(|_| self.fate())
                    .collect();
                self.world.links[end].fates = fates;
            }
        }
    }

    fn restart(&mut self, end: usize) {
        self.world.restart(end);
        self.had[end] = false;
        self.life += u64::from(end == 1);
    }

    fn replay(&mut self) {
        for _ in 0..self.rng.random_range(1..10) {
            let (end, mut datagram) =
                self.recorded[self.rng.random_range(0..self.recorded.len())].clone();
            if self.rng.random_range(0..4) == 0 {
                let at = self.rng.random_range(0..datagram.len());
                datagram[at] ^= 1 << self.rng.random_range(0..8);
            }
            // to whom it was sent or back, from where it came or elsewhere
            let to = if self.rng.random_range(0..5) == 0 {
                end
            } else {
                1 - end
            };
            let from = match self.rng.random_range(0..3) {
                0 => "203.0.113.5:5".to_owned(),
                _ => self.world.ends[1 - to].addr.to_string(),
            };
            self.world.inject(to, &from, &datagram);
        }
    }

    /// He lets go: then the two have keys, and carry connections.
    fn rest(&mut self) {
        self.world
            .links
            .iter_mut()
            .for_each(|link| link.fates.clear());
        for _ in 0..20 {
            self.world.run_for(2 * SEC);
            self.world.resolve();
            self.look();
            if has_keys(&self.world, 0) && has_keys(&self.world, 1) {
                break;
            }
        }
        assert!(has_keys(&self.world, 0) && has_keys(&self.world, 1));
        let conv = transfer(&mut self.world, 2_000);
        self.world.run_for(8 * SEC);
        self.look();
        self.world.assert_clean(conv);
    }
}

fn world_method(world: &World) -> Method {
    world.method().expect("a method")
}

fn attack(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let whole = std::panic::catch_unwind(|| {
            let mut attacker = Attacker::new(seed);
            for _ in 0..attacker.rng.random_range(5..40) {
                attacker.act();
                let span = attacker.rng.random_range(1..300);
                attacker.world.run_for(span * MS);
                attacker.look();
            }
            attacker.rest();
        });
        assert!(whole.is_ok(), "in world {seed}");
    }
}

#[test]
fn an_attacker_on_the_way_gets_neither_a_downgrade_nor_a_mixed_up_session() {
    attack(0..1_000);
}

/// The same in ten thousand worlds.
#[test]
#[ignore = "takes minutes"]
fn an_attacker_gets_nowhere_in_ten_thousand_worlds() {
    attack(1_000..11_000);
}

/// Greetings are cut out: no keys, and the psk is used. Once there were keys, nothing else will do.
#[test]
fn who_cuts_out_greetings_gets_no_further_than_before_the_first_keys() {
    let mut world = World::new(options(METHOD));
    world.run_for(SEC);
    assert!(has_keys(&world, 0));
    world.restart(1);
    world.sniffed = Some(Vec::new());
    let conv = transfer(&mut world, 1_000);
    let mut opener = Sealing::new(METHOD, &key());
    let cut = Rc::new(Cell::new(0));
    let count = cut.clone();
    world.links[0].cuts = Some(Box::new(move |datagram| {
        let greets = under_psk(&mut opener, datagram).is_some_and(|packet| is_handshake(&packet));
        count.set(count.get() + u32::from(greets));
        greets
    }));
    world.run_for(20 * SEC);
    assert!(cut.get() > 3, "greetings");
    assert!(!has_keys(&world, 1));
    let others = world.ends[1].tunnel.counters().bad_seal;
    assert!(others > 3, "what was under the keys has come");
    let mut sealing = Sealing::new(METHOD, &key());
    for (end, datagram) in world.sniffed.take().expect("recorded") {
        let packet = under_psk(&mut sealing, &datagram);
        assert!(packet.is_none_or(|p| is_handshake(&p)), "sent by {end}");
    }
    world.links[0].cuts = None;
    world.run_for(60 * SEC);
    assert!(has_keys(&world, 0) && has_keys(&world, 1));
    // it began at a server that is gone
    assert_ne!(world.tcp(0, conv).expect("opened").closed, None);
}

#[test]
fn a_stranger_with_the_psk_is_served_beside() {
    // kcptun ping, or another client without fresh keys
    let mut world = World::new(options(METHOD));
    world.run_for(SEC);
    let from: SocketAddr = "198.51.100.1:1".parse().unwrap();
    let now = world.now;
    prove(
        &mut world.ends[1].tunnel,
        now,
        from,
        Some(Sealing::new(METHOD, &key())),
    );
    let conv = transfer(&mut world, 1_000);
    world.run_for(SEC);
    world.assert_clean(conv);
}
