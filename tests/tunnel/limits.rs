//! What is said to limit a tunnel, in situations of which it is known. Two whole tunnels in virtual time.

use crate::sim::link::Shape;
use crate::sim::measure::{Bulk, options};
use crate::sim::{self, Role, World};
use kcptun::config::{DEFAULT_METHOD, Role as End};
use kcptun::crypto::{Key, Sealing};
use kcptun::http::limit::{Direction, Limit};
use kcptun::http::{Monitor, Site};
use kcptun::path::Local;
use kcptun::settings::Settings;
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::Tunnel;

/// Both ends, each watched by a monitor of its own.
struct Watched {
    world: World,
    monitors: [Monitor; 2],
}

fn site(role: End) -> Site {
    Site {
        version: "0",
        role,
        method: "none",
        host: None,
        meets: false,
    }
}

impl Watched {
    fn new(shape: Shape, adjust: fn(&mut Settings)) -> Watched {
        Watched::with(shape, adjust, true)
    }

    /// `met`: the ends have pinged each other before.
    fn with(shape: Shape, adjust: fn(&mut Settings), met: bool) -> Watched {
        let mut options = options(shape, 1);
        (options.adjust, options.met) = (adjust, met);
        let world = World::new(options);
        let monitors = [End::Peer, End::Server].map(|role| Monitor::new(site(role), world.now));
        Watched { world, monitors }
    }

    fn run(&mut self, span: Duration) {
        let end = self.world.now.after(span);
        while self.world.now < end {
            self.world.run_for(10 * MS);
            for (monitor, end) in self.monitors.iter_mut().zip(&self.world.ends) {
                monitor.look(&end.tunnel, self.world.now);
            }
        }
    }

    /// What the end says now: of its main direction, of both, and in words.
    fn says(&self, end: usize) -> (Limit, Direction, String) {
        let view = self.monitors[end].view(&self.world.ends[end].tunnel, self.world.now);
        println!("{end}: {}", view.sentence);
        (view.limit, view.direction, view.sentence)
    }

    fn expect(&self, end: usize, limit: Limit, direction: Direction, words: &str) {
        let (l, d, sentence) = self.says(end);
        assert_eq!((l, d), (limit, direction), "end {end}: {sentence}");
        assert!(sentence.contains(words), "{sentence}");
    }
}

fn line() -> Shape {
    Shape::path(40, 0.0, 20.0, 50)
}

#[test]
fn a_line_that_is_full() {
    for up in [true, false] {
        let mut w = Watched::new(line(), |_| {});
        Bulk::start(&mut w.world, 2, up);
        let (sender, receiver) = if up { (0, 1) } else { (1, 0) };
        for _ in 0..5 {
            w.run(2 * SEC);
            w.expect(
                sender,
                Limit::Line,
                Direction::Sending,
                "the line limits it",
            );
            w.expect(receiver, Limit::Line, Direction::Receiving, "line");
        }
        let view = w.monitors[sender].view(&w.world.ends[sender].tunnel, w.world.now);
        let mbit = view.rates.taken * 8.0 / 1e6;
        assert!((17.0..20.0).contains(&mbit), "{mbit} of 20 Mbit/s");
    }
}

#[test]
fn a_line_that_loses_much() {
    let mut w = Watched::new(Shape::path(40, 20.0, 20.0, 50), |_| {});
    Bulk::start(&mut w.world, 1, false);
    for _ in 0..5 {
        w.run(2 * SEC);
        w.expect(1, Limit::Loss, Direction::Sending, "loss limits it");
        w.expect(0, Limit::Loss, Direction::Receiving, "loss limits it");
    }
    let (.., sentence) = w.says(1);
    let near = (16..=24).any(|share| sentence.contains(&format!("{share} %")));
    assert!(near, "{sentence}");
}

#[test]
fn a_download_of_which_next_to_nothing_arrives() {
    // on a short path next to nothing comes at all for a while, and the sentence says what may be
    let near = Shape::path(1, 0.0, 100.0, 20);
    for (shape, loss, least) in [(line(), 95.0, 20), (line(), 99.0, 1), (near, 99.0, 0)] {
        let mut w = Watched::new(shape, |_| {});
        Bulk::start(&mut w.world, 1, false);
        w.run(3 * SEC);
        w.world.links[1].shape.loss = loss / 100.0;
        w.run(10 * SEC);
        let mut told = 0;
        for _ in 0..20 {
            w.run(2 * SEC);
            let (limit, _, sentence) = w.says(0);
            // what is lost may be all that comes for some seconds
            assert!([Limit::Loss, Limit::Silent].contains(&limit), "{sentence}");
            let wrong = "what is sent there gets lost, for";
            assert!(!sentence.contains(wrong), "{sentence}");
            told += u32::from(limit == Limit::Loss);
        }
        assert!(told >= least, "{told} of 20 at {loss} %");
    }
}

#[test]
fn a_reader_that_stalls() {
    let mut w = Watched::new(line(), |_| {});
    let up = Role::Send {
        bytes: u64::MAX / 2,
        fin: false,
    };
    let (_, conv) = w.world.connect(up, Role::Echo);
    w.run(SEC);
    w.world.stall(1, conv, true);
    w.run(10 * SEC);
    w.expect(
        0,
        Limit::ReaderThere,
        Direction::Sending,
        "the service at the other end",
    );
    w.expect(1, Limit::ReaderHere, Direction::Receiving, "the service");
    w.world.stall(1, conv, false);
    w.run(6 * SEC);
    assert_eq!(w.says(0).0, Limit::Line);
}

#[test]
fn a_program_that_sends_little() {
    let mut w = Watched::new(line(), |_| {});
    w.world.allowed = 0;
    let up = Role::Send {
        bytes: u64::MAX / 2,
        fin: false,
    };
    let (id, _) = w.world.connect(
        up,
        Role::Serve {
            request: u64::MAX,
            bytes: 0,
            fin: false,
        },
    );
    w.run(3 * SEC);
    w.expect(0, Limit::Idle, Direction::Sending, "Nothing to carry");
    // 4 Mbit/s in pieces of 5,000 bytes
    for i in 0..1000 {
        let at = w.world.now.after(i * 10 * MS);
        w.world.at(at, 0, id, 5_000 * (i + 1));
    }
    for _ in 0..4 {
        w.run(2 * SEC);
        w.expect(0, Limit::Source, Direction::Sending, "the program here");
        w.expect(
            1,
            Limit::Source,
            Direction::Receiving,
            "the program at the other end",
        );
    }
    w.run(6 * SEC);
    w.expect(0, Limit::Idle, Direction::Sending, "Nothing to carry");
}

#[test]
fn the_operators_own_limit() {
    let mut w = Watched::new(line(), |s| s.rate.up = Some(500_000.0));
    Bulk::start(&mut w.world, 1, true);
    w.run(6 * SEC);
    w.expect(0, Limit::Cap, Direction::Sending, "rate.up");
    let mut w = Watched::new(line(), |s| s.rate.down = Some(500_000.0));
    Bulk::start(&mut w.world, 1, false);
    w.run(6 * SEC);
    w.expect(0, Limit::Cap, Direction::Receiving, "rate.down");
}

#[test]
fn a_window_that_is_too_small() {
    let far = Shape::path(300, 0.0, 100.0, 50);
    let mut w = Watched::new(far, |s| s.kcp.sndwnd = 128);
    Bulk::start(&mut w.world, 1, true);
    w.run(6 * SEC);
    w.expect(0, Limit::Window, Direction::Sending, "kcp.sndwnd");
}

#[test]
fn an_end_that_is_silent_and_back_again() {
    let health = |w: &Watched| {
        w.monitors[0]
            .view(&w.world.ends[0].tunnel, w.world.now)
            .health
    };
    let mut w = Watched::new(line(), |_| {});
    assert!(!health(&w).good, "nothing was heard yet");
    w.run(SEC);
    assert!(health(&w).good, "{}", health(&w).why);
    Bulk::start(&mut w.world, 1, true);
    w.run(2 * SEC);
    assert!(health(&w).good);
    let dead = Shape {
        dead: true,
        ..line()
    };
    w.world.set_shape(dead);
    w.run(9 * SEC);
    w.expect(0, Limit::Silent, Direction::Sending, "does not answer");
    assert!(!health(&w).good && health(&w).why.contains("silent for"));
    w.world.set_shape(line());
    w.run(4 * SEC);
    assert!(health(&w).good, "{}", health(&w).why);
    // and without any session: the pings tell
    let mut w = Watched::new(line(), |_| {});
    w.run(60 * SEC);
    assert!(health(&w).good);
    w.world.set_shape(dead);
    w.run(70 * SEC);
    assert!(!health(&w).good);
    // a server waits for others, and that is no fault of its
    let server = w.monitors[1].view(&w.world.ends[1].tunnel, w.world.now);
    assert!(server.health.good, "{}", server.health.why);
}

#[test]
fn an_end_that_never_answered_and_a_server_that_nobody_has_found() {
    let dead = Shape {
        dead: true,
        ..line()
    };
    let mut w = Watched::with(dead, |_| {}, false);
    w.run(SEC);
    w.expect(0, Limit::Silent, Direction::Sending, "has not answered yet");
    w.expect(1, Limit::Idle, Direction::Sending, "nobody has found this");
    w.run(9 * SEC);
    w.expect(0, Limit::Silent, Direction::Sending, "it never has, for 1");
    w.expect(1, Limit::Idle, Direction::Sending, "nobody has found this");
    w.world.set_shape(line());
    w.run(20 * SEC);
    let nothing = "Nothing to carry: no sessions.";
    w.expect(0, Limit::Idle, Direction::Sending, nothing);
    w.expect(1, Limit::Idle, Direction::Sending, nothing);
    // without pings nothing was asked yet, and so nothing is missing
    let mut w = Watched::with(dead, |settings| settings.keepalive = Duration::ZERO, false);
    w.run(9 * SEC);
    w.expect(0, Limit::Idle, Direction::Sending, nothing);
}

#[test]
fn datagrams_without_the_key_and_an_end_without_an_address_are_told_of() {
    let key = Key::generate();
    let said = |role, meets, datagrams: u8| {
        let keyed = Settings {
            sealing: Some(Sealing::new(DEFAULT_METHOD, &key)),
            accepts: true,
            ..Settings::default()
        };
        let mut tunnel = Tunnel::new(keyed, Instant::ZERO);
        for n in 0..datagrams {
            let from = ([192, 0, 2, 1], 9).into();
            tunnel.receive(Instant::ZERO, from, Local::default(), &mut [n; 100]);
        }
        let site = Site {
            meets,
            ..site(role)
        };
        let monitor = Monitor::new(site, Instant::ZERO);
        // until then it may be of somebody who has the key
        let now = Instant::ZERO.after(3 * SEC);
        tunnel.handle_timeout(now);
        let view = monitor.view(&tunnel, now);
        (view.limit, view.health.good, view.sentence)
    };
    for (role, meets, datagrams, limit, words) in [
        (
            End::Server,
            false,
            0,
            Limit::Idle,
            "nobody has found this end",
        ),
        (End::Server, false, 3, Limit::Idle, "do not open: 3"),
        (
            End::Server,
            true,
            0,
            Limit::Idle,
            "rendezvous server has not answered",
        ),
        (
            End::Peer,
            true,
            0,
            Limit::Silent,
            "the rendezvous server does not answer, or knows of none",
        ),
        (
            End::Peer,
            false,
            0,
            Limit::Silent,
            "its name cannot be resolved",
        ),
    ] {
        let (by, good, sentence) = said(role, meets, datagrams);
        assert_eq!((by, good), (limit, limit == Limit::Idle), "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[test]
fn counters_add_up_at_both_ends() {
    let mut w = Watched::new(Shape::path(40, 5.0, 20.0, 50), |_| {});
    let up = Role::Send {
        bytes: 2_000_000,
        fin: true,
    };
    let (_, conv) = w.world.connect(up, Role::Echo);
    let (_, refused) = w.world.connect(up, Role::Refuse);
    w.run(30 * SEC);
    w.world.assert_clean(conv);
    let [peer, server] = [0, 1].map(|i| w.world.ends[i].tunnel.snapshot(w.world.now));
    for end in [&peer, &server] {
        assert!(end.counters.taken >= 2_000_000 && end.counters.given == 2_000_000);
        assert_eq!(end.counters.ended_in_order, 1);
        assert_eq!(end.counters.ended.iter().sum::<u64>(), 1, "{refused:08x}");
        assert_eq!(end.sessions.live(), 0);
        assert_eq!(end.paths.len(), 1);
        let path = &end.paths[0];
        assert!(
            path.base_rtt
                .is_some_and(|rtt| (39..60).contains(&rtt.as_millis()))
        );
        assert!(
            path.loss
                .iter()
                .all(|loss| loss.is_some_and(|l| (0.02..0.1).contains(&l))),
            "{:?}",
            path.loss
        );
        assert!(end.counts.repeated > 20 && end.counts.copied > 0 && end.counts.duplicate > 0);
        assert!(end.counters.opened == end.counters.received && end.sealed);
    }
    assert_eq!(
        (peer.counters.begun_here, peer.counters.begun_there),
        (2, 0)
    );
    assert_eq!(
        (server.counters.begun_here, server.counters.begun_there),
        (0, 2)
    );
    assert!(peer.counters.sent_bytes > server.counters.received_bytes);
    assert!(server.counts.received <= peer.counts.sent && server.counts.received > 1400);
}

/// At an end that opens and accepts, the other end's first session comes when its own are over.
#[test]
fn counters_only_grow() {
    let mut world = World::new(sim::Options {
        both: true,
        ..sim::Options::default()
    });
    let all = |bytes| Role::Send { bytes, fin: true };
    world.connect_at(0, all(1_000_000), all(1_000_000));
    assert!(world.run_to_rest(100 * SEC));
    let before = world.ends[0].tunnel.snapshot(world.now).counts;
    world.connect_at(1, all(10), all(10));
    assert!(world.run_to_rest(100 * SEC));
    let after = world.ends[0].tunnel.snapshot(world.now).counts;
    assert!(after.received >= before.received && after.sent >= before.sent);
}
