//! What nobody well-meaning sends: it never stops the tunnel, costs bounded memory and, with a key, gets no answer.

use crate::sim::link::Shape;
use crate::sim::{self, Options, Role, World};
use crate::vectors_conversations::segments;
use kcptun::crypto::{Method, Sealing};
use kcptun::message::{self, CONTROL_LEN, Control, Kind, Meeting};
use kcptun::path::Local;
use kcptun::segment::{HEADER, Header, cmd};
use kcptun::settings::{Rendezvous, Settings};
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::{Counters, DATAGRAM_MAX, Event, SessionId, Transmit, Tunnel};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

const METHODS: [Option<Method>; 3] = [
    None,
    Some(Method::Chacha20Poly1305Ietf),
    Some(Method::Xsalsa20Poly1305),
];

/// A dial among a session's messages.
const DIAL: [u8; 4] = [0, 0, 0, 4];

fn tunnel(method: Option<Method>, paced: bool) -> Tunnel {
    let mut settings = Settings {
        sealing: method.map(|m| Sealing::new(m, &sim::key())),
        accepts: true,
        ..Settings::default()
    };
    settings.rate.control = paced;
    let now = Instant::from_millis(1);
    let mut tunnel = Tunnel::new(settings, now);
    for addr in ["192.0.2.9:9", "192.0.2.1:1000"] {
        let sealing = method.map(|m| Sealing::new(m, &sim::key()));
        sim::prove(&mut tunnel, now, addr.parse().unwrap(), sealing);
    }
    tunnel
}

/// Hands in a datagram and does what an event loop would; tells how many datagrams came back.
fn hand_in(tunnel: &mut Tunnel, now: Instant, from: &str, datagram: &[u8]) -> usize {
    let mut out = [0; DATAGRAM_MAX];
    tunnel.receive(
        now,
        from.parse().unwrap(),
        Local::default(),
        &mut datagram.to_vec(),
    );
    if tunnel.poll_timeout().is_some_and(|at| at <= now) {
        tunnel.handle_timeout(now);
    }
    while let Some(event) = tunnel.poll() {
        if let Event::Dial(id) = event {
            tunnel.dialled(now, id);
        }
        if let Event::Readable(id) = event {
            while !tunnel.output(id).is_empty() {
                let n = tunnel.output(id).len();
                tunnel.consumed(now, id, n);
            }
        }
    }
    let mut answers = 0;
    while tunnel.poll_transmit(now, &mut out).is_some() {
        answers += 1;
        assert!(answers < 1_000, "answers without end");
    }
    answers
}

fn random(rng: &mut SmallRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=most)];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn random_bytes_of_any_length_get_no_answer_from_a_tunnel_with_a_key() {
    let mut rng = SmallRng::seed_from_u64(1);
    for method in METHODS {
        let mut tunnel = tunnel(method, true);
        for i in 0..3_000 {
            let most = if i % 50 == 0 { 65_507 } else { 1_500 };
            let bytes = random(&mut rng, most);
            let now = Instant::from_millis(i);
            let answers = hand_in(&mut tunnel, now, "192.0.2.9:9", &bytes);
            assert!(method.is_none() || answers == 0);
        }
        assert_eq!(tunnel.holdings().sessions, 0);
        assert!(tunnel.holdings().paths == 2);
    }
}

/// A packet that is nearly right.
fn odd(rng: &mut SmallRng, conv: u32) -> Vec<u8> {
    let pick = |rng: &mut SmallRng| match rng.random_range(0..5) {
        0 => rng.random_range(0..4),
        1 => rng.random_range(100..2_000),
        2 => u32::MAX - rng.random_range(0..3),
        3 => 0x7FFF_FFFF + rng.random_range(0..3),
        _ => rng.random(),
    };
    let mut packet = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        let mut data = vec![0; rng.random_range(0..60)];
        match rng.random_range(0..4) {
            0 => data.clear(),
            1 => data = vec![0, 1, 0, 4],
            2 => rng.fill_bytes(&mut data),
            _ => data = vec![0, 0, 0, 4, 0, 1, 0, 6, 7, 7, 0, 3, 0, 4],
        }
        let cmd = match rng.random_range(0..8) {
            0..4 => cmd::PUSH,
            4 | 5 => cmd::ACK,
            6 => cmd::WASK,
            _ => rng.random_range(80..87),
        };
        if cmd != cmd::PUSH && rng.random_bool(0.9) {
            data.clear();
        }
        let beyond = u32::from(rng.random_bool(0.05));
        let header = Header {
            conv,
            cmd,
            frg: u8::from(rng.random_bool(0.05)) * 255,
            wnd: [0, 1, 128, u16::MAX][rng.random_range(0..4)],
            ts: pick(rng),
            sn: pick(rng),
            una: pick(rng),
            len: data.len() as u32 + beyond,
        };
        packet.extend(header.to_wire());
        packet.extend(data);
    }
    packet.truncate(1_400);
    packet
}

#[test]
fn odd_packets_with_the_right_seal_neither_stop_it_nor_fill_it() {
    for (seed, paced) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut rng = SmallRng::seed_from_u64(seed);
        let method = Method::Xchacha20Poly1305Ietf;
        let mut sender = Sealing::new(method, &sim::key());
        let mut tunnel = tunnel(Some(method), paced);
        let mut now = Instant::from_millis(5);
        for _ in 0..20_000 {
            now = now.after(rng.random_range(0..20) * MS);
            let mut packet = match rng.random_range(0..10) {
                0 => random(&mut rng, 1_400),
                1 => [&[0; 5][..], &[rng.random_range(0..6)], &[1; 4]].concat(),
                _ => {
                    let conv = rng.random_range(0..50);
                    odd(&mut rng, conv)
                }
            };
            let len = packet.len();
            packet.resize(len + method.overhead(), 0);
            sender.seal(&mut packet, len);
            hand_in(&mut tunnel, now, "192.0.2.9:9", &packet);
            let held = tunnel.holdings();
            assert!(held.sessions < 100 && held.paths <= 3, "{held:?}");
            assert!(held.packets == 0 && held.timers < 200, "{held:?}");
        }
        // all of it ends by itself, at the latest with the timeout
        let mut out = [0; DATAGRAM_MAX];
        let end = now.after(1_400 * SEC);
        while let Some(at) = tunnel.poll_timeout().filter(|at| *at < end) {
            now = now.max(at);
            tunnel.handle_timeout(now);
            while tunnel.poll().is_some() {}
            while tunnel.poll_transmit(now, &mut out).is_some() {}
        }
        assert!(tunnel.is_quiet(), "{:?}", tunnel.holdings());
        assert_eq!(tunnel.holdings().ended, 0);
    }
}

#[test]
fn the_other_end_may_say_anything_about_a_transfer() {
    for (seed, paced) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut world = World::new(Options {
            seed,
            shapes: [Shape::path(20, 5.0, 100.0, 50); 2],
            tune: Some(Box::new(move |s| {
                s.rate.control = paced;
                // false timestamps make plain KCP wait for up to a minute and more
                s.linger = 600 * SEC;
            })),
            ..Options::default()
        });
        let bulk = Role::Send {
            bytes: 3_000_000,
            fin: true,
        };
        let (_, conv) = world.connect(bulk, bulk);
        world.run_for(300 * MS);
        for _ in 0..2_000 {
            world.run_for(MS);
            // acks of numbers never sent, una beyond what was sent, windows of nothing
            let header = Header {
                conv,
                cmd: [cmd::ACK, cmd::WINS, cmd::WASK][rng.random_range(0..3)],
                wnd: rng.random_range(0..3),
                ts: rng.random(),
                sn: 0x1000_0000 + rng.random_range(0..0x6000_0000),
                una: if paced { 0x1000_0000 } else { 0 },
                ..Header::default()
            };
            let end = rng.random_range(0..2);
            let from = world.ends[1 - end].addr;
            let now = world.now;
            world.ends[end]
                .tunnel
                .receive(now, from, Local::default(), &mut header.to_wire());
            world.settle(end);
        }
        assert!(world.run_to_rest(2_000 * SEC), "paced {paced}");
        world.assert_clean(conv);
    }
}

/// A connection of so many bytes each way, from its beginning to its end: the world, its number, and every datagram with
/// the end that has sent it.
fn talked(method: Method, bytes: u64) -> (World, u32, Vec<(usize, Vec<u8>)>) {
    let mut world = World::new(Options {
        method: Some(method),
        ..Options::default()
    });
    world.sniffed = Some(Vec::new());
    let (_, conv) = world.connect(Role::Send { bytes, fin: true }, Role::Echo);
    assert!(world.run_to_rest(60 * SEC));
    let sniffed = world.sniffed.take().unwrap();
    (world, conv, sniffed)
}

#[test]
fn everything_that_was_recorded_and_comes_again_gets_no_answer() {
    for method in Method::ALL {
        let (mut world, conv, sniffed) = talked(method, 100_000);
        let now = world.now;
        for (by, datagram) in &sniffed {
            for end in 0..2 {
                let tunnel = &mut world.ends[end].tunnel;
                let before = tunnel.counters();
                // to its receiver again, and back to its sender, from the address of the other and from elsewhere
                let from = if end == *by {
                    "198.51.100.1:5"
                } else {
                    "192.0.2.1:1000"
                };
                assert_eq!(hand_in(tunnel, now, from, datagram), 0);
                // a peer does not even open what is not from its server
                let seen = |c: Counters| c.replayed + c.unknown;
                assert_eq!(seen(tunnel.counters()), seen(before) + 1);
            }
        }
        world.assert_clean(conv);
    }
}

#[test]
fn real_datagrams_that_were_cut_or_changed_get_no_answer_no_session_and_no_memory() {
    let mut rng = SmallRng::seed_from_u64(6);
    for method in Method::ALL {
        let (_, _, sniffed) = talked(method, 50_000);
        // as after a restart: not one of the nonces is known
        let mut tunnel = tunnel(Some(method), true);
        let before = tunnel.holdings();
        let now = Instant::from_millis(5_000);
        for (_, datagram) in &sniffed {
            let mut changed = datagram.clone();
            changed[rng.random_range(0..datagram.len())] ^= 1 << rng.random_range(0..8);
            let cut = &datagram[..rng.random_range(0..datagram.len())];
            let longer = [&datagram[..], &[0]].concat();
            for odd in [&changed[..], cut, &longer] {
                for from in ["192.0.2.1:1000", "198.51.100.1:5"] {
                    assert_eq!(hand_in(&mut tunnel, now, from, odd), 0);
                }
            }
        }
        assert_eq!(tunnel.holdings(), before);
        assert_eq!(tunnel.counters().bad_seal, 6 * sniffed.len() as u64);
    }
}

#[test]
fn a_flood_from_unknown_addresses_is_not_opened_for_long_and_known_ones_are() {
    let method = Method::Chacha20Poly1305Ietf;
    let mut sealing = Sealing::new(method, &sim::key());
    let mut server = tunnel(Some(method), true);
    let mut ping = |server: &mut Tunnel, now, from| {
        let mut packet = [&Control::Ping(7).to_wire()[..], &[0; 28]].concat();
        sealing.seal(&mut packet, 10);
        hand_in(server, now, from, &packet) > 0
    };
    let at = |us: u64| Instant::from_micros(1_000_000 + us);
    for us in 0..2_000 {
        let garbage = [us as u8; 1_400];
        assert_eq!(hand_in(&mut server, at(us), "198.51.100.1:5", &garbage), 0);
    }
    assert!(!ping(&mut server, at(2_000), "203.0.113.1:1"), "opened");
    assert!(ping(&mut server, at(2_000), "192.0.2.9:9"));
    assert_eq!(server.counters().bad_seal, 2_001);
    // a newcomer is heard a moment later
    assert!(ping(&mut server, at(10_000), "203.0.113.1:1"));
    // garbage in the name of one who is known costs others nothing
    for us in 20_000..22_000 {
        let garbage = [us as u8; 1_400];
        hand_in(&mut server, at(us), "192.0.2.9:9", &garbage);
    }
    assert!(ping(&mut server, at(22_000), "203.0.113.2:1"));
}

/// What does not open is told when nothing that opens has come from its address for 3 s. It needs the clock only then.
#[test]
fn what_does_not_open_is_in_doubt_until_its_sender_is_known_to_have_the_key_or_not() {
    let method = Method::Chacha20Poly1305Ietf;
    let mut sealing = Sealing::new(method, &sim::key());
    let mut server = tunnel(Some(method), true);
    let mut ping = |server: &mut Tunnel, now, from: &str| {
        let mut packet = [&Control::Ping(7).to_wire()[..], &[0; 28]].concat();
        sealing.seal(&mut packet, 10);
        hand_in(server, now, from, &packet);
    };
    let at = |ms: u64| Instant::from_millis(60_000 + ms);
    server.handle_timeout(at(0));
    let others = server.poll_timeout();
    let doubtful = |server: &Tunnel| server.snapshot(at(0)).doubtful;
    let (one, two) = ("203.0.113.1:1", "203.0.113.2:1");
    for from in [one, one, two] {
        hand_in(&mut server, at(0), from, &[7; 60]);
    }
    assert_eq!(doubtful(&server), 3);
    assert_eq!(server.poll_timeout(), Some(at(3_000)));
    ping(&mut server, at(1_000), one);
    assert_eq!(doubtful(&server), 1, "one of them has the key");
    for ms in [1_001, 8_000, 10_999] {
        hand_in(&mut server, at(ms), one, &[8; 60]);
    }
    server.handle_timeout(at(10_999));
    assert_eq!(doubtful(&server), 0, "the other one was told");
    assert_eq!(server.poll_timeout(), others);
    hand_in(&mut server, at(11_000), one, &[9; 60]);
    assert_eq!(doubtful(&server), 1, "it was long ago");
    // who has been validated is known by its path, however many others send
    ping(&mut server, at(12_000), "192.0.2.9:9");
    for n in 0..100 {
        let from = format!("198.51.100.{n}:5");
        ping(&mut server, at(12_000), &from);
    }
    hand_in(&mut server, at(12_001), "192.0.2.9:9", &[9; 60]);
    assert_eq!(doubtful(&server), 1);
    // a flood of strangers takes no memory
    for n in 0..100 {
        hand_in(
            &mut server,
            at(13_000),
            &format!("192.0.2.{}:7", 10 + n),
            &[9; 60],
        );
    }
    assert_eq!(doubtful(&server), 8);
    server.handle_timeout(at(16_000));
    assert_eq!(doubtful(&server), 0);
}

/// One packet of every kind that anybody can send without a key, as short as it may be.
fn kinds(n: u32) -> Vec<Vec<u8>> {
    let own = "192.0.2.200:9".parse().unwrap();
    let segment = |cmd, sn, una, data: &[u8]| {
        let header = Header {
            conv: 1_000 + n,
            cmd,
            sn,
            una,
            wnd: 128,
            len: data.len() as u32,
            ..Header::default()
        };
        [&header.to_wire()[..], data].concat()
    };
    vec![
        Control::Ping(n).to_wire().to_vec(),
        [&Control::Ping(n).to_wire()[..], &[10; 10]].concat(),
        [&Control::Ping(n).to_wire()[..], message::ECHO, &[0; 6]].concat(),
        Control::Pong(n).to_wire().to_vec(),
        Control::Reset(n).to_wire().to_vec(),
        Meeting::Listen { own, id: b"s" }.to_wire(),
        Meeting::Connect { own, id: b"s" }.to_wire(),
        Meeting::Connect {
            own,
            id: &[b's'; 60],
        }
        .to_wire(),
        Meeting::Punch([own; 2]).to_wire(),
        segment(cmd::PUSH, 0, 0, &DIAL),
        segment(cmd::PUSH, 0, 0, &[]),
        segment(cmd::PUSH, 1, 0, b"x"),
        segment(cmd::PUSH, 500, 0, b"x"),
        segment(cmd::PUSH, 0, 1, b"x"),
        segment(cmd::ACK, 0, 0, &[]),
        segment(cmd::WASK, 0, 0, &[]),
        segment(cmd::WINS, 0, 0, &[]),
        [
            segment(cmd::WASK, 0, 0, &[]),
            segment(cmd::PUSH, 0, 0, &DIAL),
        ]
        .concat(),
        vec![0; 6],
        vec![1; 3],
        Vec::new(),
    ]
}

#[test]
fn without_a_key_no_source_gets_more_than_it_has_sent_whatever_that_is() {
    for role in [Rendezvous::None, Rendezvous::Keeper] {
        let settings = Settings {
            accepts: role == Rendezvous::None,
            rendezvous: role.clone(),
            ..Settings::default()
        };
        let mut server = Tunnel::new(settings, Instant::from_millis(1));
        // what can be asked for is there
        let (home, mut out) = ("192.0.2.200:9".parse().unwrap(), [0; DATAGRAM_MAX]);
        for id in [&b"s"[..], &[b's'; 60]] {
            let now = Instant::from_millis(2);
            let listen = Meeting::Listen { own: home, id };
            server.receive(now, home, Local::default(), &mut listen.to_wire());
            while let Some(Transmit { len, .. }) = server.poll_transmit(now, &mut out) {
                if let Some(Control::Ping(token)) = Control::read(&out[..len]) {
                    let mut pong = Control::Pong(token).to_wire();
                    server.receive(now, home, Local::default(), &mut pong);
                }
            }
        }
        let registered = server.holdings().registrations;
        assert_eq!(registered, if role == Rendezvous::Keeper { 2 } else { 0 });
        let (mut asked, mut answered) = (HashMap::new(), HashMap::new());
        for n in 0..500u32 {
            let now = Instant::from_millis(u64::from(10 + 20 * n));
            for (kind, mut packet) in kinds(n).into_iter().enumerate() {
                // every kind from a source of its own, and all of them from one
                for host in [kind as u32 + 1, 100] {
                    let from = SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + host), 9));
                    *asked.entry(from).or_insert(0) += packet.len();
                    server.receive(now, from, Local::default(), &mut packet);
                }
            }
            if server.poll_timeout().is_some_and(|at| at <= now) {
                server.handle_timeout(now);
            }
            while let Some(event) = server.poll() {
                assert!(!matches!(event, Event::Dial(_)), "dialled without a proof");
            }
            while let Some(Transmit { len, addr: to, .. }) = server.poll_transmit(now, &mut out) {
                *answered.entry(to).or_insert(0) += len;
            }
        }
        assert!(answered.len() > 5, "{answered:?}");
        for (to, sent) in answered.iter().filter(|(to, _)| **to != home) {
            assert!(*sent <= asked[to], "{to}: {sent} for {}", asked[to]);
        }
        assert_eq!(server.sessions(), 0);
    }
}

/// What a datagram that dials, in the name of somebody who has just proven that address, makes the tunnel send there, if the
/// service fails after so long.
fn answered_to_a_dial(data: usize, dialled: bool, delay: Duration) -> usize {
    let mut forger = Forger::new(Instant::from_millis(10));
    let mut stream = DIAL.to_vec();
    if data > 0 {
        stream.extend(message::header(Kind::Push, data));
        stream.resize(stream.len() + data, 7);
    }
    forger.say(&pushed(1, 0, &stream));
    forger.run(forger.now.after(delay), None);
    let (now, id) = (forger.now, forger.services[0]);
    match dialled {
        true => forger.server.broken(now, id),
        false => forger.server.dial_failed(now, id),
    }
    // beyond the last time that a reset is said again, not as far as a ping of its own
    forger.run(now.after(10 * SEC), None);
    assert_eq!(forger.server.sessions(), 0);
    forger.went
}

#[test]
fn without_a_key_a_session_that_fails_costs_its_source_no_more_than_it_has_sent_but_for_an_ack() {
    for data in [0, 1, 2, 6, 50, 500] {
        for dialled in [true, false] {
            for delay in [Duration::ZERO, 300 * MS] {
                let asked = pushed(1, 0, &[0; 4]).len() + if data > 0 { 4 + data } else { 0 };
                let answered = answered_to_a_dial(data, dialled, delay);
                // a dial alone costs its ack, which is said twice where loss is not known yet, and the reset
                let most = asked.max(2 * HEADER + CONTROL_LEN);
                assert!(answered > 0 && answered <= most, "{answered} for {asked}");
            }
        }
    }
}

/// Sends to a server without a key in the name of somebody who has proven that address, at 1 ms, and is gone.
struct Forger {
    server: Tunnel,
    now: Instant,
    went: usize,
    /// Of the segments that were sent there.
    highest: u32,
    services: Vec<SessionId>,
}

/// Long after the proof.
const A_DAY: Instant = Instant::from_millis(86_400_000);

impl Forger {
    const VICTIM: &str = "192.0.2.9:9";

    fn new(now: Instant) -> Forger {
        Forger {
            server: tunnel(None, true),
            now,
            went: 0,
            highest: 0,
            services: Vec::new(),
        }
    }

    fn say(&mut self, packet: &[u8]) {
        let from = Forger::VICTIM.parse().unwrap();
        self.server
            .receive(self.now, from, Local::default(), &mut packet.to_vec());
    }

    /// Until `end`, with a service that has said so many bytes by then. None: its dial is not answered.
    fn run(&mut self, end: Instant, says: Option<usize>) {
        let (mut said, mut out) = (0, [0; DATAGRAM_MAX]);
        loop {
            while let Some(event) = self.server.poll() {
                if let Event::Dial(id) = event {
                    self.services.push(id);
                    if says.is_some() {
                        self.server.dialled(self.now, id);
                    }
                }
            }
            for id in &self.services {
                loop {
                    let left = says.unwrap_or_default() - said;
                    let n = self.server.input(*id).len().min(left);
                    self.server.filled(self.now, *id, n);
                    said += n;
                    if n == 0 {
                        break;
                    }
                }
            }
            while let Some(Transmit { len, .. }) = self.server.poll_transmit(self.now, &mut out) {
                self.went += len;
                let pushes = segments(&out[..len]).into_iter().flatten();
                let pushes = pushes.filter(|(h, _)| h.cmd == cmd::PUSH);
                self.highest = pushes.map(|(h, _)| h.sn).fold(self.highest, u32::max);
            }
            let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.server.handle_timeout(self.now);
        }
    }
}

#[test]
fn without_a_key_a_forged_connection_sends_its_source_a_banner_some_times() {
    for banner in [0, 40, 1_000] {
        let mut forger = Forger::new(A_DAY);
        forger.say(&pushed(1, 0, &DIAL));
        let end = forger.now.after(1_000 * SEC);
        forger.run(end, Some(banner));
        assert_eq!(forger.server.sessions(), 0);
        let (went, most) = (forger.went, 90 * (HEADER + 4 + banner));
        assert!(went <= most, "{banner}: {went} bytes");
    }
}

/// Nor does a transfer go on that somebody else acknowledges, who may see at the service how far it is.
#[test]
fn without_a_key_who_was_there_once_is_not_flooded() {
    let mut forger = Forger::new(A_DAY);
    forger.say(&pushed(1, 0, &DIAL));
    for _ in 0..500 {
        let end = forger.now.after(20 * MS);
        forger.run(end, Some(10_000_000));
        let header = Header {
            conv: 1,
            cmd: cmd::WINS,
            una: forger.highest.saturating_sub(20),
            wnd: u16::MAX,
            ..Header::default()
        };
        forger.say(&header.to_wire());
    }
    assert!(forger.went <= 300_000, "{} bytes", forger.went);
    // its owner is back, and it goes on
    let (now, before) = (forger.now, forger.went);
    let owner = Forger::VICTIM.parse().unwrap();
    sim::prove(&mut forger.server, now, owner, None);
    forger.run(now.after(SEC), Some(0));
    assert!(forger.went > before + 50_000, "{} bytes", forger.went);
}

/// Who is there is asked again and again, and answers: a transfer never waits for it for long, neither where half of that
/// gets lost nor where much is sent between a question and its answer.
#[test]
fn without_a_key_an_honest_client_does_not_wait() {
    let lossy = Shape::path(100, 30.0, 100.0, 50);
    let short = Shape::path(2, 0.0, 1000.0, 20);
    // down; Mbit/s at least, over each 2 s, or over the first 300 ms
    for (shape, seed, down, least) in [
        (lossy, 1, true, 20.0),
        (lossy, 2, true, 20.0),
        (lossy, 3, true, 20.0),
        (lossy, 1, false, 20.0),
        (short, 1, true, 500.0),
    ] {
        let send = |bytes| Role::Send { bytes, fin: false };
        let mut world = World::new(Options {
            seed,
            shapes: [shape; 2],
            ..Options::default()
        });
        let (role, service) = if down { (3, u64::MAX) } else { (u64::MAX, 3) };
        let (_, conv) = world.connect(send(role), send(service));
        let received = |w: &World| w.tcp(usize::from(!down), conv).map_or(0, |t| t.received);
        let (warm, span, spans) = match shape.delay == MS {
            true => (Duration::ZERO, 300 * MS, 1),
            false => (2 * SEC, 2 * SEC, 10),
        };
        world.run_for(warm);
        for _ in 0..spans {
            let before = received(&world);
            world.run_for(span);
            let mbit = (received(&world) - before) as f64 * 8.0 / span.as_micros_f64();
            assert!(mbit > least, "{down} {seed}: {mbit} at {:?}", world.now);
        }
    }
}

/// A NAT gives the client another port between its dial and a copy of that: two sessions of one number would be one stream
/// at the client.
#[test]
fn without_a_key_a_number_is_not_begun_from_two_ports_of_a_source() {
    let mut server = tunnel(None, true);
    let now = Instant::from_millis(10);
    sim::prove(&mut server, now, "192.0.2.9:10".parse().unwrap(), None);
    let dial = pushed(7, 0, &DIAL);
    hand_in(&mut server, now, "192.0.2.9:9", &dial);
    // told that it is not known
    assert_eq!(hand_in(&mut server, now, "192.0.2.9:10", &dial), 1);
    assert_eq!(server.counters().begun_there, 1);
    // another client may have that number
    hand_in(&mut server, now, "192.0.2.1:1000", &dial);
    assert_eq!(server.counters().begun_there, 2);
}

/// There is no room for what comes before a lost dial; the dial itself is repeated, and has its place.
#[test]
fn a_session_that_cannot_wait_for_its_dial_is_not_reset() {
    let mut server = tunnel(None, true);
    let (now, from) = (Instant::from_millis(10), "192.0.2.9:9");
    for conv in 1..=256 {
        hand_in(&mut server, now, from, &pushed(conv, 1, b"x"));
    }
    let before = server.counters();
    let late = hand_in(&mut server, now, from, &pushed(1_000, 1, b"x"));
    assert_eq!((late, server.counters().unknown), (0, before.unknown + 1));
    let dial = pushed(1_000, 0, &DIAL);
    hand_in(&mut server, now, from, &dial);
    assert_eq!(server.counters().begun_there, before.begun_there + 1);
}

#[test]
fn a_source_with_many_half_open_sessions_does_not_keep_others_from_theirs() {
    for method in [None, Some(Method::Chacha20Poly1305Ietf)] {
        let mut sealing = method.map(|m| Sealing::new(m, &sim::key()));
        let mut server = tunnel(method, true);
        let now = Instant::from_millis(10);
        let mut push = |server: &mut Tunnel, from: &str, conv, sn| {
            let header = Header {
                conv,
                cmd: cmd::PUSH,
                sn,
                wnd: 128,
                len: 1_300,
                ..Header::default()
            };
            let mut packet = [&header.to_wire()[..], &[0; 1_300], &[0; 40]].concat();
            let len = packet.len() - 40;
            let len = sealing.as_mut().map_or(len, |s| s.seal(&mut packet, len));
            hand_in(server, now, from, &packet[..len]);
        };
        // from two ports of one address
        sim::prove(
            &mut server,
            now,
            "192.0.2.9:10".parse().unwrap(),
            method.map(|m| Sealing::new(m, &sim::key())),
        );
        for conv in 1..=2_000 {
            let from = ["192.0.2.9:9", "192.0.2.9:10"][conv as usize % 2];
            (1..20).for_each(|sn| push(&mut server, from, conv, sn));
        }
        let held = server.holdings();
        assert!(
            held.half_open == 256 && held.half_open_bytes <= 2 << 20,
            "{held:?}"
        );
        // another one's first segment is late, and what came before it is kept
        push(&mut server, "192.0.2.1:1000", 9_999, 1);
        assert_eq!(server.holdings().half_open, 257);
        assert!(server.holdings().half_open_bytes > held.half_open_bytes);
    }
}

#[test]
fn a_source_without_a_key_leaves_a_quarter_of_the_table_to_others() {
    let settings = Settings {
        accepts: true,
        max_sessions: 100,
        ..Settings::default()
    };
    let now = Instant::from_millis(10);
    let mut server = Tunnel::new(settings, now);
    let dial = |server: &mut Tunnel, from: &str, conv| {
        let header = Header {
            conv,
            cmd: cmd::PUSH,
            wnd: 128,
            len: 4,
            ..Header::default()
        };
        let packet = [&header.to_wire()[..], &DIAL].concat();
        hand_in(server, now, from, &packet);
    };
    for port in 1..10 {
        let from = format!("192.0.2.9:{port}");
        sim::prove(&mut server, now, from.parse().unwrap(), None);
        (0..20).for_each(|n| dial(&mut server, &from, 100 * port + n));
    }
    assert_eq!(server.sessions(), 75);
    sim::prove(&mut server, now, "192.0.2.1:1".parse().unwrap(), None);
    (1..50).for_each(|conv| dial(&mut server, "192.0.2.1:1", conv));
    assert_eq!(server.sessions(), 100);
}

#[test]
fn real_datagrams_that_were_changed_and_sealed_again_break_nothing() {
    let method = Method::Xsalsa20Poly1305;
    let mut world = World::new(Options::default());
    world.sniffed = Some(Vec::new());
    let talk = Role::Send {
        bytes: 100_000,
        fin: true,
    };
    world.connect(talk, Role::Echo);
    assert!(world.run_to_rest(60 * SEC));
    let sniffed = world.sniffed.take().unwrap();
    let mut rng = SmallRng::seed_from_u64(5);
    let mut sealing = Sealing::new(method, &sim::key());
    for paced in [false, true] {
        let mut tunnel = tunnel(Some(method), paced);
        let mut now = Instant::from_millis(5);
        for round in 0..20 {
            for (_, datagram) in &sniffed {
                now = now.after(MS);
                let mut packet = datagram.clone();
                for _ in 0..rng.random_range(0..4) {
                    let at = rng.random_range(4..packet.len().min(60));
                    packet[at] ^= 1 << rng.random_range(0..8);
                }
                packet[3] ^= round;
                let len = packet.len();
                packet.resize(len + method.overhead(), 0);
                sealing.seal(&mut packet, len);
                let len = packet.len();
                if len <= DATAGRAM_MAX {
                    hand_in(&mut tunnel, now, "192.0.2.1:1000", &packet);
                }
            }
        }
        assert!(tunnel.holdings().sessions < 100);
    }
}

fn pushed(conv: u32, sn: u32, data: &[u8]) -> Vec<u8> {
    let header = Header {
        conv,
        cmd: cmd::PUSH,
        sn,
        wnd: 128,
        len: data.len() as u32,
        ..Header::default()
    };
    [&header.to_wire()[..], data].concat()
}

/// What looks like a dial, or like the first segment again, takes no more than what does not.
#[test]
fn sessions_that_only_seem_to_dial_are_bounded() {
    let (now, from) = (Instant::from_millis(10), "192.0.2.9:9");
    let mut tunnel = tunnel(None, true);
    for conv in 1..=600 {
        // of two segments of one number the first counts, and it is empty
        let seems = [pushed(conv, 0, b""), pushed(conv, 0, &DIAL)].concat();
        hand_in(&mut tunnel, now, from, &seems);
    }
    assert!(
        tunnel.holdings().half_open <= 256,
        "{:?}",
        tunnel.holdings()
    );
    for conv in 1..=256 {
        for sn in 2..20 {
            let again = [pushed(conv, 0, b""), pushed(conv, sn, &[7; 1300])].concat();
            hand_in(&mut tunnel, now, from, &again);
        }
    }
    let held = tunnel.holdings();
    assert!(held.half_open_bytes <= 2 << 20, "{held:?}");
}

/// Who sends something now and then, but no dial, is not waited for beyond half a minute; nor beyond `timeout` if the path
/// seems to be silent in between.
#[test]
fn a_session_that_never_dials_ends_however_it_pauses() {
    let from = "192.0.2.9:9";
    for (pause, most) in [
        (500, 60_000),
        (1_000, 60_000),
        (3_100, 60_000),
        (6_000, 620_000),
    ] {
        let mut tunnel = tunnel(None, true);
        for step in 0..most / pause {
            let now = Instant::from_millis(10 + step * pause);
            let packet = pushed(1, 1 + step as u32 % 2, b"x");
            hand_in(&mut tunnel, now, from, &packet);
        }
        let ended: u64 = tunnel.counters().ended.iter().sum();
        assert!(ended >= 1, "pause {pause}: {:?}", tunnel.holdings());
    }
}
