use super::*;
use crate::time::{MS, SEC};

fn settings(seal: Option<(Method, Key)>, count: Option<u64>) -> Settings {
    Settings {
        name: "example.org:7".into(),
        at: "192.0.2.1:7".parse().expect("an address"),
        meets: false,
        seal,
        fresh: None,
        count,
        interval: SEC,
        first: u32::MAX - 1,
        seed: 1,
        mtu: 1500,
    }
}

/// What the other end does with a datagram.
type Other<'a> = &'a mut dyn FnMut(&[u8]) -> Option<Vec<u8>>;

/// Pings against an `other` that answers after 20 ms, until all is over or `seconds` have passed.
fn run(settings: Settings, seconds: u64, other: Other) -> (Ping, Vec<String>, Instant) {
    let mut ping = Ping::new(settings, Instant::ZERO);
    let mut lines = Vec::new();
    let mut answers: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut now, end) = (Instant::ZERO, Instant::ZERO.after(seconds * SEC));
    loop {
        while answers.front().is_some_and(|(at, _)| *at <= now) {
            let (_, answer) = answers.pop_front().expect("the front");
            ping.receive(now, &answer);
        }
        ping.look(now);
        let mut buf = [0; DATAGRAM];
        while let Some(len) = ping.transmit(now, &mut buf) {
            answers.extend(other(&buf[..len]).map(|answer| (now.after(20 * MS), answer)));
        }
        ping.asks_host(now);
        lines.extend(std::iter::from_fn(|| ping.line()));
        if now >= end {
            ping.stop(now);
        }
        if ping.is_over(now) {
            return (ping, lines, now);
        }
        let next = answers.front().map_or(Instant::NEVER, |(at, _)| *at);
        let deadline = ping.deadline().min(next).min(end);
        assert!(deadline > now, "it waits for the past: {lines:?}");
        now = deadline;
    }
}

fn answer(sealing: &mut Option<Sealing>, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut copy = datagram.to_vec();
    let packet = match sealing {
        Some(sealing) => sealing.open(&mut copy).ok()?,
        None => &mut copy,
    };
    let Some(Control::Ping(ts)) = Control::read(packet) else {
        return None;
    };
    let mut pong = [0; 64];
    pong[..CONTROL_LEN].copy_from_slice(&Control::Pong(ts).to_wire());
    let len = match sealing {
        Some(sealing) => sealing.seal(&mut pong, CONTROL_LEN),
        None => CONTROL_LEN,
    };
    Some(pong[..len].to_vec())
}

const METHOD: Method = Method::Chacha20Poly1305Ietf;

fn verdict_of(here: &Key, there: Option<Sealing>) -> Verdict {
    let mut there = there;
    let settings = settings(Some((METHOD, here.clone())), Some(3));
    let (ping, _, now) = run(settings, 60, &mut |datagram| answer(&mut there, datagram));
    assert_eq!(ping.is_answered(), ping.verdict(now) == Verdict::Answers);
    ping.verdict(now)
}

#[test]
fn round_trips_are_told_and_summed_up() {
    let key = Key::generate();
    let mut there = Some(Sealing::new(METHOD, &key));
    // the timestamps pass 2^32
    let settings = settings(Some((METHOD, key)), Some(3));
    let (ping, lines, now) = run(settings, 60, &mut |d| answer(&mut there, d));
    let expected = [
        "pings to example.org:7 (192.0.2.1:7), sealed with chacha20poly1305_ietf",
        "seq=1 time=20.0 ms loss=0 %",
        "seq=2 time=20.0 ms loss=0 %",
        "seq=3 time=20.0 ms loss=0 %",
    ];
    assert_eq!(lines, expected);
    // the last answer ends it
    assert_eq!(now, Instant::ZERO.after(2 * SEC + 20 * MS));
    let expected = [
        "--- example.org:7: 3 sent, 3 answered, 0 % lost, 2.0 s",
        "round trip: least 20.0 ms, mean 20.0 ms, most 20.0 ms, deviation 0.00 ms",
        "packets: up to 1500 bytes arrive there",
    ];
    assert_eq!(ping.summary(now), expected);
}

#[test]
fn how_large_packets_may_be_is_told() {
    for (count, carries) in [(1, 1300), (9, 1300), (1, 600)] {
        let key = Key::generate();
        let mut there = Some(Sealing::new(METHOD, &key));
        let settings = settings(Some((METHOD, key)), Some(count));
        let (ping, _, now) = run(settings, 60, &mut |datagram| {
            let fits = datagram.len() + 28 <= carries;
            fits.then(|| answer(&mut there, datagram))?
        });
        let said = ping.summary(now).pop().expect("a line");
        let size = said.split(' ').nth(3).and_then(|size| size.parse().ok());
        let size: usize = size.unwrap_or_else(|| panic!("{said}"));
        assert!(size <= carries && size + 8 > carries, "{said}");
        assert!(
            said.ends_with("arrive there; kcp.mtu allows 1500"),
            "{said}"
        );
        assert!(now <= Instant::ZERO.after((count + 6) * SEC), "{now:?}");
    }
    // pings alone do not say it
    let (ping, ..) = run(settings(None, Some(2)), 60, &mut |datagram| {
        (datagram.len() < 100).then(|| answer(&mut None, datagram))?
    });
    let summary = ping.summary(Instant::ZERO.after(9 * SEC));
    assert!(
        summary[0].contains("2 sent, 2 answered, 0 % lost"),
        "{summary:?}"
    );
    assert_eq!(summary.len(), 2, "{summary:?}");
}

#[test]
fn what_is_lost_is_counted_and_what_is_late_is_not() {
    let mut count = 0;
    let (ping, lines, now) = run(settings(None, Some(4)), 60, &mut |datagram| {
        let small = datagram.len() < 100;
        count += u32::from(small);
        (!small || count != 2).then(|| answer(&mut None, datagram))?
    });
    assert_eq!(lines[2], "seq=2 no answer within 1 s, loss=50 %");
    assert_eq!(lines[3], "seq=3 time=20.0 ms loss=33 %");
    let summary = ping.summary(now);
    assert!(
        summary[0].contains("4 sent, 3 answered, 25 % lost"),
        "{summary:?}"
    );

    let mut ping = Ping::new(settings(None, Some(1)), Instant::ZERO);
    let mut buf = [0; DATAGRAM];
    let len = ping.transmit(Instant::ZERO, &mut buf).expect("a ping");
    let late = Instant::ZERO.after(1_500 * MS);
    ping.look(late);
    let pong = answer(&mut None, &buf[..len]).expect("a pong");
    for _ in 0..2 {
        ping.receive(late, &pong);
    }
    let lines: Vec<String> = std::iter::from_fn(|| ping.line()).collect();
    assert_eq!(
        lines[1..],
        [
            "seq=1 no answer within 1 s, loss=100 %",
            "seq=1 time=1500 ms loss=0 %"
        ]
    );
    // it asks for the size of packets for a while
    assert!(!ping.is_over(late) && ping.is_over(late.after(SIZE_SEARCH_TIMEOUT)));
}

#[test]
fn keys_and_methods_are_told_apart() {
    let (here, other) = (Key::generate(), Key::generate());
    let sealing = |method, key| Some(Sealing::new(method, key));
    assert_eq!(verdict_of(&here, sealing(METHOD, &here)), Verdict::Answers);
    for method in [Method::Aes256Gcm, Method::Xsalsa20Poly1305] {
        let expected = Verdict::OtherMethod(method);
        assert_eq!(verdict_of(&here, sealing(method, &here)), expected);
    }
    assert_eq!(verdict_of(&here, None), Verdict::NoKeyThere);
    let silent = Verdict::Silent { host_lives: false };
    assert_eq!(verdict_of(&here, sealing(METHOD, &other)), silent);
}

#[test]
fn other_protocols_are_known() {
    for seal in [None, Some((METHOD, Key::generate()))] {
        let copy = || settings(seal.clone(), Some(2));
        let (ping, _, now) = run(copy(), 60, &mut |datagram| Some(datagram.to_vec()));
        assert_eq!(ping.verdict(now), Verdict::Echo);
        let (ping, lines, now) = run(copy(), 60, &mut |_| Some(b"what do you want?".to_vec()));
        assert_eq!(ping.verdict(now), Verdict::Foreign);
        assert_eq!(lines[1], "seq=1 17 bytes arrived that are not an answer");
        let summary = ping.summary(now);
        assert!(
            summary[1].starts_with("likely: a wrong protocol"),
            "{summary:?}"
        );
    }
}

#[test]
fn a_pong_that_nobody_asked_for_is_no_answer() {
    let stranger = Control::Pong(7).to_wire();
    let (ping, _, now) = run(settings(None, Some(2)), 60, &mut |_| {
        Some(stranger.to_vec())
    });
    assert_eq!(ping.verdict(now), Verdict::Foreign);
}

#[test]
fn silence_is_judged_once_after_a_while_or_at_an_end_that_is_near() {
    let mut ways = 0;
    let settings = settings(Some((METHOD, Key::generate())), None);
    let (ping, lines, now) = run(settings, 10, &mut |_| {
        ways += 1;
        None
    });
    // a ping a second and, three times, one of each other way
    assert_eq!(ways, 11 + 3 * 4);
    let judged = lines
        .iter()
        .position(|line| line.starts_with("likely: a dead host"));
    assert_eq!(judged, Some(5), "{lines:?}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("likely"))
            .count(),
        1
    );
    assert_eq!(ping.summary(now).len(), 1);
    let (ping, lines, now) = run(self::settings(None, Some(5)), 20, &mut |_| None);
    assert!(
        !lines.iter().any(|line| line.starts_with("likely")),
        "{lines:?}"
    );
    assert!(ping.summary(now)[1].starts_with("likely: a dead host"));
}

#[test]
fn a_verdict_that_has_changed_is_told_again() {
    let key = Key::generate();
    let mut there = Some(Sealing::new(Method::Aes256Gcm, &key));
    let mut count = 0;
    let here = settings(Some((METHOD, key)), None);
    let (ping, lines, now) = run(here, 8, &mut |datagram| {
        count += 1;
        answer(&mut there, datagram).filter(|_| count > 11)
    });
    let likely: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("likely: "))
        .collect();
    assert!(likely[0].starts_with("a dead host") && likely[1].starts_with("a wrong method"));
    assert_eq!((likely.len(), ping.summary(now).len()), (2, 1), "{lines:?}");
}

#[test]
fn a_host_that_lives_is_no_dead_one() {
    let mut ping = Ping::new(
        settings(Some((METHOD, Key::generate())), None),
        Instant::ZERO,
    );
    let at = |ms| Instant::ZERO.after(ms * MS);
    assert!(!ping.asks_host(at(500)));
    assert!(ping.asks_host(at(1000)) && !ping.asks_host(at(1001)));
    ping.on_host_lives();
    assert_eq!(ping.verdict(at(3000)), Verdict::TooSoon);
    let verdict = ping.verdict(at(4000));
    assert_eq!(verdict, Verdict::Silent { host_lives: true });
    let lines = ping.summary(at(4000));
    assert!(
        lines[1].contains("a wrong key") && lines[1].contains("UDP port 7"),
        "{lines:?}"
    );
    assert!(lines[2].contains("\"does not open with this key and method\""));
}

#[test]
fn an_end_that_answers_no_more_is_explained() {
    let mut times = 0;
    let mut other = |datagram: &[u8]| {
        let small = datagram.len() < 100;
        times += u32::from(small);
        answer(&mut None, datagram).filter(|_| small && times < 3)
    };
    let (mut ping, _, now) = run(settings(None, Some(9)), 3, &mut other);
    let reason = "nothing receives at UDP port 7";
    let says = |ping: &Ping| ping.summary(now).iter().any(|line| line.contains(reason));
    assert!(!says(&ping), "it is only silent");
    ping.on_fault(now, Fault::Refused);
    assert!(ping.summary(now)[1].starts_with("round trip"));
    assert!(says(&ping));
}

#[test]
fn errors_end_the_wait_and_are_explained() {
    for (fault, part) in [
        (Fault::Refused, "nothing receives at UDP port 7"),
        (Fault::NoRoute, "a dead host"),
        (Fault::NoNetwork, "has no IPv4"),
        (Fault::Forbidden, "this machine"),
        (Fault::Other("out of luck".into()), "out of luck"),
    ] {
        let mut ping = Ping::new(settings(None, Some(1)), Instant::ZERO);
        let mut buf = [0; DATAGRAM];
        assert!(ping.transmit(Instant::ZERO, &mut buf).is_some());
        assert!(!ping.is_over(Instant::ZERO));
        ping.on_fault(Instant::ZERO, fault.clone());
        assert!(ping.is_over(Instant::ZERO));
        assert!(!ping.asks_host(Instant::ZERO.after(2 * SEC)));
        let lines = ping.summary(Instant::ZERO);
        assert!(
            lines[0].contains("1 sent, 0 answered, 100 % lost"),
            "{lines:?}"
        );
        assert!(lines[1].contains(part), "{lines:?}");
    }
}
