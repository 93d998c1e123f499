//! What a TCP connection may expect when an end stops, forgets, refuses or does not read, and what idleness costs.

use crate::sim::link::Shape;
use crate::sim::{Options, Role, World};
use kcptun::crypto::Method;
use kcptun::http::{Monitor, Site};
use kcptun::settings::Settings;
use kcptun::time::{MS, SEC};
use kcptun::tunnel::Refused;

const TALK: Role = Role::Send {
    bytes: 10,
    fin: false,
};

fn lossy(seed: u64, loss: f64) -> World {
    World::new(Options {
        seed,
        method: Some(Method::Chacha20Poly1305Ietf),
        shapes: [Shape::path(60, loss, 100.0, 50); 2],
        ..Options::default()
    })
}

#[test]
fn a_refused_dial_resets_the_other_side_within_a_second() {
    for seed in 0..100 {
        let mut world = lossy(seed, 30.0);
        let (_, conv) = world.connect(TALK, Role::Refuse);
        while world.ends[1].dials_seen == 0 {
            world.run_for(10 * MS);
        }
        let refused = world.now;
        world.run_for(20 * SEC);
        let tcp = world.tcp(0, conv).unwrap();
        assert_eq!(tcp.closed, Some(true), "seed {seed}");
        let took = tcp.closed_at.unwrap().since(refused);
        assert!(took < SEC, "seed {seed}: {took:?}");
    }
}

#[test]
fn a_reset_on_either_side_reaches_the_other_within_a_second() {
    for seed in 0..60 {
        let mut world = lossy(seed, 20.0);
        let bulk = Role::Send {
            bytes: 50_000_000,
            fin: true,
        };
        let (_, conv) = world.connect(bulk, bulk);
        world.run_for(2 * SEC);
        let end = seed as usize % 2;
        let id = world.id(end, conv).expect("still there");
        world.reset(end, id);
        world.run_for(SEC);
        assert_eq!(world.tcp(1 - end, conv).unwrap().closed, Some(true));
        world.check();
        assert!(world.run_to_rest(5 * SEC));
    }
}

#[test]
fn a_stop_resets_every_session_of_the_other_end() {
    for end in 0..2 {
        let mut world = lossy(3, 0.0);
        let convs: Vec<u32> = (0..5_000)
            .map(|_| world.connect(TALK, Role::Echo).1)
            .collect();
        world.run_for(10 * SEC);
        world.links[1 - end].shape.loss = 0.0;
        world.set_shape(Shape::default());
        world.shutdown(end);
        world.run_for(SEC);
        for conv in convs {
            assert_eq!(world.tcp(1 - end, conv).unwrap().closed, Some(true));
        }
    }
}

#[test]
fn an_end_that_has_forgotten_is_found_out() {
    for end in 0..2 {
        let mut world = lossy(4, 10.0);
        let (_, idle) = world.connect(TALK, Role::Echo);
        let (busy_id, busy) = world.connect(
            Role::Send {
                bytes: 100_000,
                fin: false,
            },
            Role::Echo,
        );
        let tcp = world.ends[0].tcp.get_mut(&busy_id).unwrap();
        tcp.allowed = 1_000;
        world.poke(0, busy_id);
        world.run_for(5 * SEC);
        world.restart(end);
        let (_, new) = world.connect(
            Role::Send {
                bytes: 5_000,
                fin: true,
            },
            Role::Echo,
        );
        if end == 1 {
            let now = world.now;
            world.at(now, 0, busy_id, 100_000);
        }
        world.run_for(2 * SEC);
        world.assert_clean(new);
        if end == 1 {
            assert_eq!(world.tcp(0, busy).unwrap().closed, Some(true), "touched");
        }
        world.run_for(Settings::default().timeout / 2 + 2 * SEC);
        assert_eq!(world.tcp(1 - end, idle).unwrap().closed, Some(true));
        world.run_for(10 * SEC);
        assert!(world.ends.iter().all(|e| e.tunnel.sessions() == 0));
    }
}

#[test]
fn a_dead_path_ends_a_session_by_its_timeout() {
    for paced in [false, true] {
        let mut world = World::new(Options {
            tune: Some(Box::new(move |s| s.rate.control = paced)),
            ..Options::default()
        });
        let (_, conv) = world.connect(TALK, Role::Echo);
        world.run_for(SEC);
        world.links[0].shape.dead = true;
        world.links[1].shape.dead = true;
        world.run_for(598 * SEC);
        assert_eq!(world.tcp(0, conv).unwrap().closed, None);
        world.run_for(4 * SEC);
        for end in 0..2 {
            assert_eq!(world.tcp(end, conv).unwrap().closed, Some(true));
        }
        assert!(world.run_to_rest(SEC));
    }
}

/// An end with all four addresses: its own sessions have failed at a peer that was not there, and the first that the peer
/// opens begins with what is known of the path, but for what was counted on it.
#[test]
fn what_was_counted_on_a_path_is_not_forgotten() {
    let mut world = World::new(Options {
        both: true,
        met: false,
        ..Options::default()
    });
    let site = Site {
        version: "1",
        role: kcptun::config::Role::Both,
        method: "none",
        host: None,
        meets: false,
    };
    let mut monitor = Monitor::new(site, world.now);
    for link in &mut world.links {
        link.shape.dead = true;
    }
    world.connect_at(0, TALK, Role::Echo);
    world.run_for(700 * SEC);
    for link in &mut world.links {
        link.shape.dead = false;
    }
    let before = world.ends[0].tunnel.snapshot(world.now).counts;
    assert!(before.sent > 0 && before.received == 0, "{before:?}");
    let (_, conv) = world.connect_at(1, TALK, Role::Echo);
    let mut last = before;
    for _ in 0..100 {
        world.run_for(100 * MS);
        monitor.look(&world.ends[0].tunnel, world.now);
        monitor.view(&world.ends[0].tunnel, world.now);
        let counts = world.ends[0].tunnel.snapshot(world.now).counts;
        let falls = counts.sent < last.sent
            || counts.repeated < last.repeated
            || counts.copied < last.copied
            || counts.received < last.received
            || counts.full < last.full
            || counts.duplicate < last.duplicate;
        assert!(!falls, "{last:?}, and then {counts:?}");
        last = counts;
    }
    assert!(last.received > 0);
    assert_eq!(world.tcp(1, conv).expect("it is open").received, 10);
}

#[test]
fn half_closed_connections_go_on_for_as_long_as_both_ends_want() {
    for (early, paced) in [(0, true), (1, true), (0, false), (1, false)] {
        let mut world = World::new(Options {
            shapes: [Shape::path(60, 10.0, 100.0, 50); 2],
            tune: Some(Box::new(move |s| s.rate.control = paced)),
            ..Options::default()
        });
        let done = Role::Send {
            bytes: 100,
            fin: true,
        };
        let slow = Role::Send {
            bytes: 200_000,
            fin: true,
        };
        world.service_allowed = if early == 0 { 0 } else { u64::MAX };
        let (id, conv) = if early == 0 {
            world.connect(done, slow)
        } else {
            world.connect(slow, done)
        };
        let far = 1 - early;
        let slow_id = if far == 0 {
            id
        } else {
            while world.id(1, conv).is_none() {
                world.run_for(MS);
            }
            world.id(1, conv).unwrap()
        };
        world.ends[far].tcp.get_mut(&slow_id).unwrap().allowed = 0;
        let sent = world.ends[far].tcp[&slow_id].sent;
        for minute in 1..=20 {
            let at = world.now.after(minute * 60 * SEC);
            world.at(at, far, slow_id, sent.max(minute * 10_000));
        }
        world.run_for(25 * 60 * SEC);
        world.assert_clean(conv);
    }
}

#[test]
fn a_reader_that_stops_stops_the_writer_and_resumes_at_once() {
    for seed in 0..20 {
        let mut world = lossy(seed, 30.0);
        let bulk = Role::Send {
            bytes: 30_000_000,
            fin: true,
        };
        let sink = Role::Send {
            bytes: 0,
            fin: true,
        };
        let (_, conv) = world.connect(bulk, sink);
        while world.tcp(1, conv).is_none_or(|t| t.received < 100_000) {
            world.run_for(10 * MS);
        }
        world.stall(1, conv, true);
        world.run_for(100 * SEC);
        let held = |w: &World| w.tcp(0, conv).unwrap().sent - w.tcp(1, conv).unwrap().received;
        let most = 2 * 1024 * 1400 + 2 * 64 * 1024;
        assert!(held(&world) <= most, "{} bytes", held(&world));
        let before = world.tcp(0, conv).unwrap().sent;
        world.stall(1, conv, false);
        // what was held is read at once; that the writer goes on shows that the window's news got through
        let mut waited = 0;
        while world.tcp(0, conv).unwrap().sent == before {
            world.run_for(10 * MS);
            waited += 10;
            assert!(waited <= 600, "seed {seed}: the writer waits");
        }
    }
}

#[test]
fn a_reader_that_comes_late_gets_all_that_was_written_before_an_orderly_end() {
    for paced in [false, true] {
        let mut world = World::new(Options {
            tune: Some(Box::new(move |s| s.rate.control = paced)),
            ..Options::default()
        });
        let (_, conv) = world.connect(
            Role::Send {
                bytes: 100,
                fin: true,
            },
            Role::Send {
                bytes: 300_000,
                fin: true,
            },
        );
        world.stall(0, conv, true);
        world.run_for(30 * 60 * SEC);
        assert_eq!(world.tcp(0, conv).unwrap().closed, None);
        world.stall(0, conv, false);
        assert!(world.run_to_rest(60 * SEC));
        world.assert_clean(conv);
    }
}

#[test]
fn idle_sessions_cost_their_keepalives_and_nothing_else() {
    for paced in [false, true] {
        let mut world = World::new(Options {
            tune: Some(Box::new(move |s| s.rate.control = paced)),
            ..Options::default()
        });
        for _ in 0..100 {
            world.connect(TALK, Role::Echo);
        }
        world.run_for(20 * SEC);
        let before: u64 = world.ends.iter().map(|e| e.wakeups).sum();
        world.run_for(600 * SEC);
        let wakeups = world.ends.iter().map(|e| e.wakeups).sum::<u64>() - before;
        // pings each 25 s; all the sessions opened together and so ask together
        assert!(wakeups < 600, "{wakeups} wakeups");
        assert_eq!(world.ends[0].tunnel.sessions(), 100);
    }
}

#[test]
fn a_full_table_refuses_and_carries_on() {
    let mut world = World::new(Options {
        adjust: |s| s.max_sessions = 10,
        ..Options::default()
    });
    let first = world.connect(TALK, Role::Echo).1;
    for _ in 0..9 {
        world.connect(TALK, Role::Echo);
    }
    let now = world.now;
    assert_eq!(world.ends[0].tunnel.open(now), Err(Refused::Full));
    world.run_for(SEC);
    assert_eq!(world.tcp(0, first).unwrap().received, 10);
}

/// Keepalives of an end whose operator's limit lets it read only slowly come to one that has long said and had everything.
#[test]
fn a_rest_that_waits_for_the_limit_of_what_is_received_is_read_to_its_end() {
    let all = |bytes| Role::Send { bytes, fin: true };
    let mut world = World::new(Options {
        method: Some(Method::Chacha20Poly1305Ietf),
        shapes: [Shape::path(40, 0.0, 20.0, 50); 2],
        adjust: |settings| {
            settings.timeout = 60 * SEC;
            settings.rate.down = Some(20_000.0);
        },
        ..Options::default()
    });
    let convs: Vec<u32> = (0..40)
        .map(|_| world.connect(all(10), all(20_000)).1)
        .collect();
    world.run_for(110 * SEC);
    for conv in convs {
        world.assert_clean(conv);
    }
}

/// The other end has said all and forgets the session after `time_wait`, while a limit lets this end read for longer.
#[test]
fn a_rest_that_takes_longer_than_the_other_end_remembers_is_read_to_its_end() {
    for paced in [false, true] {
        let mut world = World::new(Options {
            tune: Some(Box::new(move |settings| {
                settings.rate.control = paced;
                settings.rate.down = Some(5_000.0);
            })),
            ..Options::default()
        });
        let all = |bytes| Role::Send { bytes, fin: true };
        let (_, conv) = world.connect(all(10), all(1_000_000));
        world.run_for(190 * SEC);
        assert!(world.tcp(0, conv).unwrap().closed.is_none());
        world.run_for(30 * SEC);
        world.assert_clean(conv);
    }
}

/// Who is cut off has what came before, and then no end of stream; who does not read it is not waited for.
#[test]
fn a_rest_that_was_cut_off_is_read_and_ends_with_a_reset() {
    for reads in [true, false] {
        let mut world = World::new(Options {
            adjust: |settings| settings.timeout = 60 * SEC,
            ..Options::default()
        });
        let all = |bytes, fin| Role::Send { bytes, fin };
        let (_, conv) = world.connect(all(10, true), all(300_000, false));
        world.stall(0, conv, true);
        world.run_for(5 * SEC);
        let there = world.id(1, conv).unwrap();
        world.reset(1, there);
        world.run_for(50 * SEC);
        assert!(world.tcp(0, conv).unwrap().closed.is_none());
        world.stall(0, conv, !reads);
        world.run_for(20 * SEC);
        let tcp = world.tcp(0, conv).unwrap();
        assert_eq!(tcp.closed, Some(true), "{tcp:?}");
        assert_eq!(tcp.received, if reads { 300_000 } else { 0 });
        assert!(!tcp.fin_received);
    }
}

/// A keepalive in the middle of such a rest is read when the other end has long said more, and forgotten the session.
#[test]
fn a_keepalive_in_a_rest_does_not_cut_it_off() {
    for paced in [true, false] {
        let mut world = World::new(Options {
            method: Some(Method::Chacha20Poly1305Ietf),
            tune: Some(Box::new(move |settings| {
                settings.timeout = 60 * SEC;
                settings.time_wait = 5 * SEC;
                settings.rate.control = paced;
                settings.rate.down = Some(12_500.0);
            })),
            ..Options::default()
        });
        let all = |bytes| Role::Send { bytes, fin: true };
        world.allowed = 600_000;
        let (id, conv) = world.connect(all(700_000), all(10));
        world.at(world.now.after(25 * SEC), 0, id, u64::MAX);
        world.run_for(100 * SEC);
        world.assert_clean(conv);
    }
}
