//! Attacks on moves between pairs of ports by somebody who sees every datagram, is faster than the network and has no key. What
//! is thrown at a tunnel without regard to moves is in `hostile`, and attacks on fresh keys are in `fresh_keys`. And dials that are
//! held back until their session is forgotten.

use crate::sim::link::{Fate, Shape};
use crate::sim::{self, Options, Role, World};
use kcptun::crypto::{Method, Sealing};
use kcptun::message::Control;
use kcptun::path::Local;
use kcptun::settings::{ForwardSecrecy, Settings};
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Transmit, Tunnel};
use std::net::SocketAddr;

const METHOD: Method = Method::Chacha20Poly1305Ietf;

/// A peer of 20 ports that answers pings at all of them but its first, and never challenges. One turn of the client's loop is
/// late by `late`, `after` from the first ping to another port on.
fn late_turn(late: Duration, after: Duration) {
    let seal = || Sealing::new(METHOD, &sim::key());
    let (mut now, peer) = (
        Instant::from_millis(5_000),
        "192.0.2.2:2000".parse().unwrap(),
    );
    let settings = Settings {
        sealing: Some(seal()),
        ..Settings::default()
    };
    let (mut tunnel, mut theirs) = (Tunnel::new(settings, now), seal());
    tunnel.set_peer(now, peer);
    tunnel.set_ports((2000..2020).collect(), false);
    let session = tunnel.open(now).expect("a session");
    tunnel.input(session)[..10].fill(7);
    tunnel.filled(now, session, 10);
    let (mut late, mut tried_at) = (Some(late), None);
    let mut out = [0; DATAGRAM_MAX];
    for _ in 0..8_000 {
        now = now.after(MS);
        if tried_at.is_some_and(|at| now.since(at) >= after) {
            now = now.after(late.take().unwrap_or_default());
        }
        tunnel.handle_timeout(now);
        while let Some(transmit) = tunnel.poll_transmit(now, &mut out) {
            let Transmit {
                len, addr, local, ..
            } = transmit;
            if addr == peer {
                continue;
            }
            tried_at.get_or_insert(now);
            let mut datagram = out[..len].to_vec();
            let packet = theirs.open(&mut datagram).expect("our key");
            if let Some(Control::Ping(ts)) = Control::read(packet) {
                let mut pong = Control::Pong(ts).to_wire().to_vec();
                let n = pong.len();
                pong.resize(100, 0);
                let n = theirs.seal(&mut pong, n);
                tunnel.receive(now, addr, local, &mut pong[..n]);
            }
        }
    }
    assert_ne!(tunnel.peer(), Some(peer), "late by {late:?}");
}

#[test]
fn a_turn_that_comes_late_handles_what_is_due_together() {
    for late in [0, 50, 150, 200, 400, 1_000, 3_000] {
        for after in (0..4_000).step_by(160) {
            late_turn(late * MS, after * MS);
        }
    }
}

/// A second client comes, and `wait` later somebody sends one datagram of the first client in its name, faster than
/// the network. What the first client's reader has got after 8 s.
fn in_the_name_of_a_newcomer(wait: Duration) -> u64 {
    let mut world = World::new(Options {
        method: Some(METHOD),
        shapes: [Shape::path(40, 0.0, 20.0, 50); 2],
        ..Options::default()
    });
    let send = |bytes, fin| Role::Send { bytes, fin };
    let (_, conv) = world.connect(send(1_000, false), send(40_000_000, true));
    world.run_for(3 * SEC);
    world.tap = Some(Vec::new());
    let second: SocketAddr = "198.51.100.7:7".parse().unwrap();
    let settings = Settings {
        sealing: Some(Sealing::new(METHOD, &sim::key())),
        seed: 99,
        clock_offset: 1 << 30,
        ..Settings::default()
    };
    let server = world.ends[1].addr;
    let mut other = Tunnel::new(settings, world.now);
    other.set_peer(world.now, server);
    let (began, mut played) = (world.now, false);
    let mut out = [0; DATAGRAM_MAX];
    while world.now.since(began) < 8 * SEC {
        let now = world.now;
        other.handle_timeout(now);
        while let Some(Transmit { len, .. }) = other.poll_transmit(now, &mut out) {
            world.inject(1, &second.to_string(), &out[..len]);
        }
        for (end, to, mut datagram) in world.tap.replace(Vec::new()).unwrap_or_default() {
            if end == 1 && to == second {
                other.receive(now, server, Local::default(), &mut datagram);
            } else if end == 0 && !played && now.since(began) >= wait && datagram.len() > 52 {
                played = true;
                world.inject(1, &second.to_string(), &datagram);
            }
        }
        world.run_for(MS);
    }
    assert!(played);
    let tcp = world.tcp(0, conv).expect("the first client's connection");
    assert_eq!(tcp.closed, None);
    tcp.received
}

#[test]
fn nobody_moves_sessions_to_a_newcomers_address() {
    for wait in [100, 900, 2_500] {
        let received = in_the_name_of_a_newcomer(wait * MS);
        assert!(received > 20_000_000, "{received} after {wait} ms");
    }
}

fn world(forward_secrecy: ForwardSecrecy, kbit: f64) -> World {
    let mut world = World::new(Options {
        method: Some(METHOD),
        shapes: [Shape::path(40, 0.0, kbit, 50); 2],
        tune: Some(Box::new(move |s: &mut Settings| {
            s.forward_secrecy = forward_secrecy;
        })),
        met: false,
        ..Options::default()
    });
    world.run_for(3 * SEC);
    world
}

/// A client's dial is held back for `span`, and its repetition is answered. Half a second before it comes so many others with the
/// key have a ping sent in the client's name. How often the service is dialled again.
fn held_back(forward_secrecy: ForwardSecrecy, span: Duration, others: u32) -> u64 {
    let mut world = world(forward_secrecy, 20.0);
    world.links[0].fates = [Fate::Delay(span)].into();
    let send = Role::Send {
        bytes: 100,
        fin: true,
    };
    let (_, conv) = world.connect(send, Role::Echo);
    world.run_for(10 * SEC);
    world.assert_clean(conv);
    let before = world.ends[1].dials_seen;
    world.services.insert(conv, Role::Echo);
    world.run_for(span - 10 * SEC - 500 * MS);
    for _ in 0..others {
        let mut other = Sealing::new(METHOD, &sim::key());
        let mut ping = Control::Ping(7).to_wire().to_vec();
        ping.resize(100, 0);
        let n = other.seal(&mut ping, 10);
        let from = world.ends[0].addr.to_string();
        world.inject(1, &from, &ping[..n]);
    }
    world.run_for(10 * SEC + 500 * MS);
    world.ends[1].dials_seen - before
}

#[test]
fn a_dial_that_was_held_back_opens_nothing() {
    for forward_secrecy in [ForwardSecrecy::Off, ForwardSecrecy::Auto] {
        for span in [60, 119, 131, 150, 179, 200, 400, 900] {
            let dials = held_back(forward_secrecy, span * SEC, 0);
            assert_eq!(dials, 0, "{forward_secrecy:?}, {span} s");
        }
    }
}

/// What a client's reader has got of an answer of 600,000 bytes, and whether that seemed whole, where the service breaks off, its
/// end is kept from the client, and a dial that was held back for `span` comes to a service that answers otherwise. Whatever
/// else is longer than a ping is cut out.
fn spliced(forward_secrecy: ForwardSecrecy, span: Duration) -> (u64, bool) {
    let mut world = world(forward_secrecy, 8.0);
    world.links[0].fates = [Fate::Delay(span)].into();
    let serve = |bytes| Role::Serve {
        request: 100,
        bytes,
        fin: true,
    };
    let send = Role::Send {
        bytes: 100,
        fin: true,
    };
    let (_, conv) = world.connect(send, serve(600_000));
    while world.tcp(0, conv).is_none_or(|tcp| tcp.received < 20_000) {
        world.run_for(5 * MS);
    }
    world.carries = [28 + 51; 2];
    world.run_for(50 * MS);
    world.links[1].shape.dead = true;
    let id = world.id(1, conv).expect("a session");
    world.reset(1, id);
    world.run_for(5 * SEC);
    world.links[1].shape.dead = false;
    world.services.insert(conv, serve(900_000));
    world.run_for(span - 6 * SEC);
    world.carries = [28 + 51, usize::MAX];
    let dials = world.ends[1].dials_seen;
    for _ in 0..400 {
        world.run_for(10 * MS);
        if world.ends[1].dials_seen > dials {
            world.carries[0] = usize::MAX;
        }
    }
    world.run_for(20 * SEC);
    let tcp = world.tcp(0, conv).expect("the client's connection");
    (tcp.received, tcp.fin_received)
}

#[test]
fn two_answers_are_never_joined() {
    for forward_secrecy in [ForwardSecrecy::Off, ForwardSecrecy::Auto] {
        for span in [100, 130, 150, 170, 300, 500] {
            let (received, whole) = spliced(forward_secrecy, span * SEC);
            let cut = received < 600_000 && !whole;
            assert!(cut, "{forward_secrecy:?}, {span} s: {received}, {whole}");
        }
    }
}

#[test]
fn nor_after_a_datagram_of_another_user_in_its_clients_name() {
    for span in [119, 131, 150, 200, 900] {
        let dials = held_back(ForwardSecrecy::Off, span * SEC, 3);
        assert_eq!(dials, 0, "{span} s");
    }
}

/// Hands over what `passes` lets through (by whom, its length), for so long, while both links are dead. What is kept of end 0.
fn relay(
    world: &mut World,
    span: Duration,
    passes: &mut dyn FnMut(usize, usize) -> bool,
) -> Vec<Vec<u8>> {
    let (end, mut kept) = (world.now.after(span), Vec::new());
    while world.now < end {
        world.run_for(MS);
        loop {
            let all = world.tap.replace(Vec::new()).unwrap_or_default();
            if all.is_empty() {
                break;
            }
            for (from, _, datagram) in all {
                let addr = world.ends[from].addr.to_string();
                if passes(from, datagram.len()) {
                    world.inject(1 - from, &addr, &datagram);
                } else if from == 0 {
                    kept.push(datagram);
                }
            }
        }
    }
    kept
}

/// A client's first dial is under the psk, since its handshake is not over, and is held back. Its repetition is answered. Then the client is
/// silent or moves, and the dial comes.
fn psk_dial(moves: bool, wait: Duration) -> u64 {
    let mut world = World::new(Options {
        method: Some(METHOD),
        shapes: [Shape {
            dead: true,
            ..Shape::path(40, 0.0, 20.0, 50)
        }; 2],
        tune: Some(Box::new(move |s: &mut Settings| {
            s.forward_secrecy = ForwardSecrecy::Auto;
        })),
        met: false,
        ..Options::default()
    });
    world.tap = Some(Vec::new());
    let send = Role::Send {
        bytes: 20,
        fin: true,
    };
    let (_, conv) = world.connect(send, Role::Echo);
    let mut held = 0;
    let kept = relay(&mut world, 10 * SEC, &mut |from, len| {
        let dial = from == 0 && (75..110).contains(&len) && held < 1;
        held += u32::from(dial);
        !dial
    });
    world.assert_clean(conv);
    let before = world.ends[1].dials_seen;
    let from = world.ends[0].addr.to_string();
    if moves {
        world.move_to(0, "192.0.2.1:1500");
    } else {
        world.sleep(0, true);
    }
    relay(&mut world, wait, &mut |_, _| true);
    world.services.insert(conv, Role::Echo);
    for d in &kept {
        world.inject(1, &from, d);
    }
    relay(&mut world, 5 * SEC, &mut |_, _| true);
    assert_eq!(kept.len(), 1);
    world.ends[1].dials_seen - before
}

#[test]
fn nor_one_from_before_the_keys_of_a_client_that_has_gone() {
    for moves in [false, true] {
        for wait in [100, 300, 365, 590, 650, 2_000] {
            let dials = psk_dial(moves, wait * SEC);
            assert_eq!(dials, 0, "moves {moves}, {wait} s");
        }
    }
}
