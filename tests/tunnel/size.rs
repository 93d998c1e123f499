//! Paths that carry no large packets, and say nothing of it: transfers go on all the same, and what is sent to find out how
//! large packets may be is bounded.

use crate::sim::link::Shape;
use crate::sim::{Options, Role, World, prove};
use kcptun::crypto::Method;
use kcptun::message::{CONTROL_LEN, Control};
use kcptun::path::Local;
use kcptun::settings::Settings;
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Transmit, Tunnel};

const METHODS: [Option<Method>; 2] = [None, Some(Method::Chacha20Poly1305Ietf)];

fn world(method: Option<Method>, adjust: fn(&mut Settings), loss: f64) -> World {
    World::new(Options {
        method,
        adjust,
        shapes: [Shape::path(40, loss, 20.0, 50); 2],
        ..Options::default()
    })
}

fn send(bytes: u64) -> Role {
    Role::Send { bytes, fin: true }
}

fn auto(settings: &mut Settings) {
    settings.kcp.mtu = 1500;
}

fn plain(settings: &mut Settings) {
    auto(settings);
    settings.rate.control = false;
    (settings.kcp.sndwnd, settings.kcp.rcvwnd) = (64, 64);
}

fn size_used(world: &World, end: usize) -> usize {
    let stats = world.ends[end].tunnel.snapshot(world.now);
    stats.paths[0].mtu
}

#[test]
fn a_path_that_carries_no_large_packets_carries_transfers() {
    for method in METHODS {
        for (name, adjust) in [("paced", auto as fn(&mut Settings)), ("plain", plain)] {
            for carries in [600, 1000, 1300, 1492] {
                let mut world = world(method, adjust, 1.0);
                world.carries = [carries; 2];
                let (_, conv) = world.connect(send(2_000_000), send(2_000_000));
                // keeps the path of interest
                world.connect(
                    Role::Send {
                        bytes: 9,
                        fin: false,
                    },
                    Role::Echo,
                );
                world.run_for(60 * SEC);
                world.assert_clean(conv);
                for end in 0..2 {
                    let used = size_used(&world, end);
                    assert!(
                        used <= carries && used + 8 > carries,
                        "{name} {carries}: {used}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_path_that_becomes_smaller_holds_a_transfer_up_for_two_seconds() {
    for method in METHODS {
        for (name, adjust) in [("paced", auto as fn(&mut Settings)), ("plain", plain)] {
            for (end, carries) in [(0, 1400), (1, 1300), (1, 1000)] {
                let mut world = world(method, adjust, 1.0);
                let (role, service) = match end {
                    0 => (send(60_000_000), send(10)),
                    _ => (send(10), send(60_000_000)),
                };
                let (_, conv) = world.connect(role, service);
                world.run_for(3 * SEC);
                assert_eq!(size_used(&world, end), 1500);
                world.carries[end] = carries;
                world.run_for(2 * SEC);
                assert!(size_used(&world, end) <= carries);
                let received = |w: &World| w.tcp(1 - end, conv).map_or(0, |tcp| tcp.received);
                let before = received(&world);
                world.run_for(SEC);
                let got = received(&world) - before;
                assert!(
                    got > 200_000,
                    "{name} {method:?} {end} {carries}: {got} {}",
                    size_used(&world, end)
                );
                // and those acks that are sent the other way fit as well
                world.carries[1 - end] = carries;
                world.run_for(3 * SEC);
                let before = received(&world);
                world.run_for(SEC);
                assert!(received(&world) > before + 200_000, "{carries}");
            }
        }
    }
}

#[test]
fn a_larger_path_is_used_for_what_it_carries() {
    let mut world = world(METHODS[1], auto, 0.0);
    world.carries = [1300; 2];
    let (_, conv) = world.connect(
        send(10),
        Role::Serve {
            request: 10,
            bytes: 100_000,
            fin: false,
        },
    );
    world.run_for(20 * SEC);
    assert!(size_used(&world, 1) <= 1300);
    world.carries = [1500; 2];
    world.run_for(700 * SEC);
    assert_eq!(size_used(&world, 1), 1500);
    // another network: nothing is known of it
    world.carries = [1280; 2];
    let now = world.now;
    world.ends[0].tunnel.network_changed(now);
    world.settle(0);
    world.run_for(3 * SEC);
    assert_eq!(size_used(&world, 0), 1280);
    assert_eq!(world.tcp(0, conv).map(|tcp| tcp.received), Some(100_000));
}

#[test]
fn what_cannot_go_on_ends_and_the_next_works() {
    let mut world = world(METHODS[1], auto, 0.0);
    let (_, conv) = world.connect(send(10), send(60_000_000));
    world.run_for(3 * SEC);
    world.carries = [1300; 2];
    world.fragments_pass = false;
    world.run_for(20 * SEC);
    assert_eq!(world.tcp(0, conv).and_then(|tcp| tcp.closed), None);
    world.run_for(25 * SEC);
    assert_eq!(world.tcp(0, conv).and_then(|tcp| tcp.closed), Some(true));
    let (_, next) = world.connect(send(10), send(1_000_000));
    assert!(world.run_to_rest(20 * SEC));
    world.assert_clean(next);
}

#[test]
fn a_path_that_became_smaller_while_nothing_was_sent_holds_nobody_up() {
    for (end, first, service) in [
        (1, send(10), send(1_000_000)),
        (0, send(1_000_000), send(10)),
    ] {
        let mut world = world(METHODS[1], auto, 0.0);
        // a connection that says little, and one before
        let (_, quiet) = world.connect(
            Role::Send {
                bytes: 9,
                fin: false,
            },
            Role::Echo,
        );
        let (_, before) = world.connect(send(1_000_000), send(1_000_000));
        world.run_for(10 * SEC);
        world.assert_clean(before);
        assert_eq!(size_used(&world, 0), 1500);
        world.carries = [1300; 2];
        world.fragments_pass = false;
        world.run_for(60 * SEC);
        let (_, conv) = world.connect(first, service);
        world.run_for(5 * SEC);
        world.assert_clean(conv);
        assert!(size_used(&world, end) <= 1300);
        assert_eq!(world.tcp(0, quiet).and_then(|tcp| tcp.closed), None);
    }
}

#[test]
fn what_is_in_use_is_not_doubted() {
    for carries in [1300, 1340, 1500] {
        let mut world = world(METHODS[1], auto, 0.0);
        world.carries = [carries; 2];
        world.connect(send(10), send(200_000_000));
        world.run_for(8 * SEC);
        let size = size_used(&world, 1);
        assert!(size > 1280 && size <= carries, "{carries}: {size}");
        for _ in 0..2_000 {
            world.run_for(10 * MS);
            assert_eq!(size_used(&world, 1), size, "{carries}");
        }
    }
}

#[test]
fn no_packet_is_larger_than_configured() {
    let mut world = world(None, |s| s.kcp.mtu = 1400, 0.0);
    world.sniffed = Some(Vec::new());
    let (_, conv) = world.connect(send(500_000), Role::Echo);
    assert!(world.run_to_rest(30 * SEC));
    world.assert_clean(conv);
    let longest = world
        .sniffed
        .iter()
        .flatten()
        .map(|(_, d)| d.len() + 28)
        .max();
    assert_eq!(longest, Some(1400));
}

/// What an end sends to an address within this time.
fn sent_to(tunnel: &mut Tunnel, from: Instant, span: Duration) -> usize {
    let (mut out, mut bytes, mut now) = ([0; DATAGRAM_MAX], 0, from);
    while now.since(from) < span {
        while let Some(Transmit { len, .. }) = tunnel.poll_transmit(now, &mut out) {
            bytes += len;
        }
        now = now.after(10 * MS);
        if tunnel.poll_timeout().is_some_and(|due| due <= now) {
            tunnel.handle_timeout(now);
        }
        while tunnel.poll().is_some() {}
    }
    bytes
}

#[test]
fn a_stranger_gets_little_for_a_ping_and_nobody_much_in_their_name() {
    let settings = |mtu| {
        let mut settings = Settings {
            accepts: true,
            ..Settings::default()
        };
        settings.kcp.mtu = mtu;
        settings
    };
    let start = Instant::from_millis(1_000);
    let stranger = "203.0.113.1:7".parse().unwrap();
    // a long ping is answered by a short pong, and by the ping that proves an address
    let mut tunnel = Tunnel::new(settings(1500), start);
    let mut ping = Control::Ping(1).to_wire().to_vec();
    ping.resize(1472, 0);
    tunnel.receive(start, stranger, Local::default(), &mut ping.clone());
    assert!(sent_to(&mut tunnel, start, 20 * SEC) <= 2 * CONTROL_LEN);
    // who has been there once, and in whose name sessions are begun, gets no more than where nothing is looked for
    let sent = [1500, 300].map(|mtu| {
        let mut tunnel = Tunnel::new(settings(mtu), start);
        prove(&mut tunnel, start, stranger, None);
        for conv in 1..=50u32 {
            let mut first = vec![0; 28];
            first[..4].copy_from_slice(&conv.to_be_bytes());
            (first[4], first[23], first[27]) = (81, 4, 4);
            tunnel.receive(start, stranger, Local::default(), &mut first);
        }
        sent_to(&mut tunnel, start, 100 * SEC)
    });
    assert!(sent[0] == sent[1] && sent[0] > 0, "{sent:?}");
}
