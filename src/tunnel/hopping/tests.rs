use super::train::Train;
use super::*;
use crate::crypto::{Key, Method, Sealing};
use crate::settings::Settings;

const START: Instant = Instant::from_millis(1_000);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// A pair was throttled at this age, and the next one carries more. Returns when that is known.
fn throttled(hopping: &mut Hopping, age: Duration) -> Instant {
    let now = hopping.began.after(age);
    hopping.on_move(1, Reason::Throttled, now);
    hopping.on_compared(true, now);
    now
}

#[test]
fn a_pair_ages_once_two_were_throttled_at_like_ages() {
    for (ages, lifetime) in [
        ([40, 53], Some(34_000)),
        ([53, 40], Some(34_000)),
        ([40, 54], None),
        ([100, 100], Some(85_000)),
    ] {
        let mut hopping = Hopping::default();
        throttled(&mut hopping, secs(ages[0]));
        assert!(!hopping.has_aged(hopping.began.after(secs(1_000))));
        let now = throttled(&mut hopping, secs(ages[1]));
        let Some(lifetime) = lifetime.map(Duration::from_millis) else {
            assert!(!hopping.has_aged(now.after(secs(1_000))), "{ages:?}");
            continue;
        };
        let early = now.after(lifetime.saturating_sub(Duration::MICROSECOND));
        assert!(!hopping.has_aged(early), "{ages:?}");
        assert!(hopping.has_aged(now.after(lifetime)), "{ages:?}");
    }
}

#[test]
fn after_twenty_pairs_that_were_left_early_one_stays() {
    let mut hopping = Hopping::default();
    throttled(&mut hopping, secs(40));
    let mut now = throttled(&mut hopping, secs(40));
    for left in 0..20 {
        now = now.after(secs(34));
        assert!(hopping.has_aged(now), "{left}");
        hopping.on_move(1, Reason::Aged, now);
    }
    assert!(!hopping.has_aged(now.after(secs(1_000))));
    // it is throttled as well
    let now = throttled(&mut hopping, secs(40));
    assert!(hopping.has_aged(now.after(secs(34))));
    assert_eq!(hopping.moved().map(|moved| moved.count), Some(23));
}

#[test]
fn a_pair_is_compared_with_the_one_before_if_that_was_throttled_or_lossy() {
    let mut hopping = Hopping::default();
    hopping.on_move(1, Reason::Throttled, START);
    assert_eq!(hopping.compared, Some(Some(START.since(Instant::ZERO))));
    hopping.on_move(2, Reason::Lossy, START.after(secs(10)));
    assert_eq!(hopping.compared, Some(None));
    for reason in [Reason::Dead, Reason::Aged, Reason::Hop] {
        hopping.on_move(3, reason, START.after(secs(20)));
        assert_eq!((hopping.compared, hopping.socket()), (None, 3));
    }
}

#[test]
fn that_another_pair_carried_more_is_said_after_a_move_only() {
    assert_eq!(Reason::Lossy.doubt(), "it lost much");
    let after = "it lost much, and another pair carried more";
    assert_eq!(Reason::Lossy.to_string(), after);
    assert_eq!(Reason::Hop.to_string(), Reason::Hop.doubt());
}

#[test]
fn a_question_in_vain_is_asked_ever_more_rarely() {
    let mut backoff = Backoff::default();
    assert!(backoff.allows(Instant::ZERO));
    for pause in [10, 20, 40, 80, 160, 320, 640, 640, 640] {
        backoff.on_failure(START);
        let until = START.after(secs(pause));
        assert!(!backoff.allows(until.before(Duration::MICROSECOND)));
        assert!(backoff.allows(until), "{pause}");
    }
}

#[test]
fn a_move_for_nothing_holds_back_moves_and_trains_and_one_that_helps_neither() {
    let mut hopping = Hopping::default();
    for _ in 0..3 {
        hopping.on_move(1, Reason::Throttled, START);
        hopping.on_compared(false, START);
    }
    for backoff in [&hopping.doubt, &hopping.trains] {
        assert_eq!(backoff.until, START.after(secs(40)));
    }
    assert_eq!(hopping.throttled_at, None);
    hopping.on_move(1, Reason::Lossy, START);
    hopping.on_compared(true, START);
    for backoff in [&hopping.doubt, &hopping.trains] {
        assert_eq!(backoff.in_vain, 0);
    }
    assert_eq!(hopping.throttled_at, None, "it began like this");
}

fn candidate(port: u16) -> Candidate {
    Candidate {
        addr: addr(port),
        socket: 1,
        reason: Reason::Dead,
        pings: 0,
        next: START,
        answered: false,
        train: None,
        challenge: None,
    }
}

#[test]
fn another_port_is_chosen_and_one_that_is_not_tried_first() {
    let mut hopping = Hopping::default();
    hopping.set_ports(vec![1, 2, 3, 4], false);
    let chosen = |hopping: &mut Hopping| {
        let all = (0..30).map(|random| hopping.choose_pair(addr(1), random).0.port());
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    assert_eq!(chosen(&mut hopping), [2, 3, 4]);
    hopping.candidates.push(candidate(3));
    assert_eq!(chosen(&mut hopping), [2, 4]);
    hopping.candidates.extend([candidate(2), candidate(4)]);
    assert_eq!(chosen(&mut hopping), [2, 3, 4]);
    hopping.set_ports(Vec::new(), false);
    assert_eq!(chosen(&mut hopping), [1]);
}

#[test]
fn each_pair_has_a_new_socket_unless_there_is_one_only() {
    let mut hopping = Hopping::default();
    assert_eq!(hopping.choose_pair(addr(1), 0).1, 1);
    assert_eq!(hopping.choose_pair(addr(1), 0).1, 2);
    hopping.newest = u16::MAX;
    assert_eq!(hopping.choose_pair(addr(1), 0).1, 1);
    hopping.set_ports(vec![1, 2], true);
    assert_eq!(hopping.choose_pair(addr(1), 0), (addr(2), 0));
}

/// A tunnel with a peer of so many ports.
fn with_ports(ports: u16) -> Tunnel {
    let key = Key::from_password("key");
    let settings = Settings {
        sealing: Some(Sealing::new(Method::Chacha20Poly1305Ietf, &key)),
        ..Settings::default()
    };
    let mut tunnel = Tunnel::new(settings, START);
    tunnel.set_peer(START, addr(1));
    tunnel.set_ports((1..=ports).collect(), false);
    tunnel
}

/// A tunnel that tries another pair, and pings it to the end. `answers`: the peer does there.
fn tries(ports: u16, reason: Reason, answers: bool, challenges: bool) -> (Tunnel, Instant) {
    let mut tunnel = with_ports(ports);
    tunnel.hopping.challenges = challenges;
    tunnel.try_pair(reason, START);
    let [tried] = &tunnel.hopping.candidates[..] else {
        panic!("one pair");
    };
    let (at, socket) = (tried.addr, tried.socket);
    assert!(tunnel.hopping.is_tried(at, Local { ip: None, socket }));
    let mut now = START;
    for pings in 1..=5 {
        assert_eq!(tunnel.hopping.candidates[0].pings, pings);
        if answers && pings == 1 {
            tunnel.on_candidate_pong(at, Local { ip: None, socket }, (0, 8), now);
        }
        let pause = tunnel.hopping.candidates[0].next.since(now);
        assert_eq!(pause, Duration::from_millis(100) << (pings - 1));
        now = now.after(pause);
        tunnel.hop_if_due(now);
    }
    assert!(tunnel.hopping.candidates.is_empty());
    (tunnel, now)
}

#[test]
fn with_a_peer_that_never_challenges_new_sessions_begin_at_another_port() {
    let (tunnel, now) = tries(2, Reason::Throttled, true, false);
    assert_eq!(tunnel.peer.addr(), Some(addr(2)));
    let moved = Moved {
        at: now,
        reason: Reason::Throttled,
        count: 1,
    };
    assert_eq!(tunnel.moved(), Some(moved));
    assert!(tunnel.paths.id_of(addr(1)).is_some(), "sessions stay there");
    let local = tunnel.paths.to(addr(2)).map(|path| path.liveness.local());
    assert_eq!(local.map(|local| local.socket), Some(1));
}

#[test]
fn with_one_port_there_is_no_such_place_and_it_is_not_looked_for_soon() {
    for reason in [Reason::Throttled, Reason::Lossy, Reason::Hop] {
        let (tunnel, now) = tries(1, reason, true, false);
        assert_eq!(tunnel.peer.addr(), Some(addr(1)));
        assert_eq!(tunnel.moved(), None);
        let hopping = &tunnel.hopping;
        let until = match reason {
            Reason::Hop => hopping.stays_until,
            Reason::Lossy => hopping.trains.until,
            _ => hopping.doubt.until,
        };
        assert_eq!(until, now.after(secs(640)), "{reason:?}");
    }
}

#[test]
fn a_pair_is_given_up_that_does_not_answer_or_lacks_a_challenge() {
    for (answers, challenges) in [(false, false), (false, true), (true, true)] {
        let (tunnel, now) = tries(2, Reason::Throttled, answers, challenges);
        assert_eq!(tunnel.peer.addr(), Some(addr(1)));
        assert_eq!(tunnel.moved(), None);
        assert_eq!(tunnel.hopping.doubt.until, now.after(secs(10)));
    }
    let (tunnel, _) = tries(2, Reason::Dead, false, false);
    assert!(tunnel.hopping.doubt.allows(START));
}

/// The pair that is tried is pinged to the end, and something comes on this path meanwhile.
fn pinged_while_heard(tunnel: &mut Tunnel, path_id: u32, mut now: Instant) {
    while let Some(candidate) = tunnel.hopping.candidates.first() {
        let half = candidate.next.since(now) / 2;
        let liveness = &mut tunnel.paths[path_id].liveness;
        liveness.hear(Local::default(), now.after(half));
        now = candidate.next;
        tunnel.hop_if_due(now);
    }
}

#[test]
fn after_a_train_a_lost_challenge_is_a_failure_like_any_other() {
    let (mut tunnel, mut now) = tries(2, Reason::Lossy, true, true);
    for pause in [10, 20, 40] {
        assert_eq!(tunnel.moved(), None);
        assert_eq!(tunnel.hopping.trains.until, now.after(secs(pause)));
        tunnel.try_pair(Reason::Lossy, now);
        while let Some(candidate) = tunnel.hopping.candidates.first() {
            now = candidate.next;
            tunnel.hop_if_due(now);
        }
    }
    assert!(tunnel.hopping.doubt.allows(START));
}

#[test]
fn a_port_is_silent_if_it_does_not_answer_while_the_one_in_use_does() {
    for (ports, answers, silent) in [(2, false, &[2][..]), (2, true, &[]), (1, false, &[])] {
        let (mut tunnel, now) = tries(ports, Reason::Hop, answers, true);
        assert_eq!(
            tunnel.hopping.silent.ports().count(),
            0,
            "the line may have failed"
        );
        let id = tunnel.paths.id_of(addr(1)).expect("a path");
        tunnel.try_pair(Reason::Hop, now);
        let tried = &tunnel.hopping.candidates[0];
        let (at, socket) = (tried.addr, tried.socket);
        if answers {
            tunnel.on_candidate_pong(at, Local { ip: None, socket }, (0, 8), now);
        }
        pinged_while_heard(&mut tunnel, id, now);
        assert!(
            tunnel.hopping.silent.ports().eq(silent.iter().copied()),
            "{ports} {answers}"
        );
    }
}

#[test]
fn no_port_is_silent_because_that_of_an_address_before_is() {
    let (mut tunnel, now) = tries(2, Reason::Hop, false, true);
    tunnel.try_pair(Reason::Hop, now);
    let elsewhere = SocketAddr::from(([192, 0, 2, 2], 1));
    tunnel.set_peer(now, elsewhere);
    let id = tunnel.paths.id_of(elsewhere).expect("a path");
    pinged_while_heard(&mut tunnel, id, now);
    assert_eq!(tunnel.hopping.silent.ports().count(), 0);
}

#[test]
fn a_move_counts_against_a_dead_port_and_for_one_that_answers() {
    // with sessions that move, and with a peer that cannot move them
    for challenges in [true, false] {
        let mut tunnel = with_ports(2);
        let silent = &mut tunnel.hopping.silent;
        silent.on_silence(addr(1).ip(), 1, 4, START);
        silent.on_silence(addr(2).ip(), 2, 5, START);
        tunnel.try_pair(Reason::Dead, START);
        let tried = &tunnel.hopping.candidates[0];
        let (at, socket) = (tried.addr, tried.socket);
        let local = Local { ip: None, socket };
        match challenges {
            true => tunnel.on_challenged(at, local, START),
            false => assert!(tunnel.on_candidate_pong(at, local, (0, 8), START)),
        }
        // without a challenge after some pings
        while let Some(next) = tunnel.hopping_at() {
            tunnel.hop_if_due(next);
        }
        assert_eq!(tunnel.peer.addr(), Some(addr(2)), "{challenges}");
        let silent = &tunnel.hopping.silent;
        assert!(silent.ports().eq([1]), "{challenges}");
    }
}

#[test]
fn a_port_that_answers_a_train_is_not_silent() {
    let mut tunnel = with_ports(2);
    tunnel.hopping.silent.on_silence(addr(2).ip(), 2, 5, START);
    let rtt = Duration::from_millis(60);
    let train = Train::new((250_000.0, false), f64::MAX, 7, 1400, rtt, START);
    tunnel.hopping.candidates.push(Candidate {
        train,
        ..candidate(2)
    });
    tunnel.hop_if_due(START);
    let local = Local {
        ip: None,
        socket: 1,
    };
    assert!(tunnel.on_candidate_pong(addr(2), local, (7, 8), START));
    assert_eq!(tunnel.hopping.silent.ports().count(), 0);
}
