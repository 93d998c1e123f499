//! Two processes agree on keys by hand, and the clock is turned.

use super::*;
use crate::crypto::Key;
use crate::path::Local;

const METHOD: Method = Method::Chacha20Poly1305Ietf;
const START: Instant = Instant::from_millis(1_000);
/// Less than any time that matters here.
const MOMENT: Duration = Duration::MICROSECOND;
/// The bytes of a sealed packet, which is one of 20.
const SEALED: usize = 48;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn keys() -> FreshKeys {
    FreshKeys::new(ForwardSecrecy::Auto)
}

fn arrival(from: SocketAddr) -> Arrival {
    Arrival {
        from,
        local: Local::default(),
        number: None,
        under: SealedBy::Psk(1),
    }
}

/// `client` makes a greeting under the psk of this serial number; what `server`, at port 2, answers to it at port 1.
fn answered(
    client: &mut FreshKeys,
    server: &mut FreshKeys,
    serial: u32,
    now: Instant,
) -> [u8; ANSWER_LEN] {
    let psk = Key::from_password("key");
    let (secret, index) = (client.draw_secret(), client.draw_index());
    let own = Hello {
        process: client.own,
        index,
    };
    let greeting = Greeting::new(&psk, METHOD, &secret, own);
    let greeted = Greeted::read(&psk, METHOD, greeting.wire()).expect("authentic");
    client.asking = Some(Asking {
        greeting,
        serial,
        to: addr(2),
        made_at: now,
        sends: 1,
        again_at: None,
        ignored: 0,
    });
    match server.respond(greeted, (METHOD, serial), &arrival(addr(1)), true, now) {
        Reply::Answer(answer) => answer,
        _ => panic!("it is answered"),
    }
}

/// Both agree on keys, and the server has not seen them in use.
fn agreed(client: &mut FreshKeys, server: &mut FreshKeys, serial: u32, now: Instant) {
    let answer = answered(client, server, serial, now);
    assert!(
        client
            .on_handshake_answer(addr(2), &answer, METHOD, now)
            .is_some()
    );
}

fn seal(by: &mut FreshKeys, to: SocketAddr) -> [u8; SEALED] {
    let mut datagram = [7; SEALED];
    let id = by.at(to).expect("an association");
    assert_eq!(by.seal(id, &mut datagram, 20), Some(SEALED));
    datagram
}

fn opens(by: &mut FreshKeys, from: SocketAddr, mut datagram: [u8; SEALED], now: Instant) -> bool {
    let place = by.find(METHOD, &datagram);
    place.is_some_and(|place| by.open(place, from, &mut datagram, now).is_ok())
}

/// Both have keys, and have used them.
fn pair(now: Instant) -> (FreshKeys, FreshKeys) {
    let (mut client, mut server) = (keys(), keys());
    agreed(&mut client, &mut server, 1, now);
    let datagram = seal(&mut client, addr(2));
    assert!(opens(&mut server, addr(1), datagram, now));
    let datagram = seal(&mut server, addr(1));
    assert!(opens(&mut client, addr(2), datagram, now));
    (client, server)
}

/// Drops what has had its time, whether it would have looked now or not.
fn advance(keys: &mut FreshKeys, now: Instant, in_use: impl Fn(SocketAddr) -> bool) {
    keys.wake = Instant::ZERO;
    keys.advance(now, in_use);
}

fn is_empty(keys: &FreshKeys) -> bool {
    let left = (keys.indices.len(), keys.processes.len());
    keys.table.is_empty() && keys.addresses.is_empty() && left == (0, 0)
}

#[test]
fn keys_that_have_carried_four_gigabytes_are_renewed_by_who_has_them_from_an_answer() {
    let (mut client, mut server) = pair(START);
    for (keys, to, renews) in [(&mut client, addr(2), true), (&mut server, addr(1), false)] {
        let id = keys.at(to).expect("an association") as usize;
        let current = |keys: &mut FreshKeys| keys.table[id].current.take().expect("keys");
        let mut worn = current(keys);
        assert_eq!(worn.bytes, 2 * SEALED as u64, "sealed and opened");
        worn.bytes = (4 << 30) - SEALED as u64 - 1;
        keys.table[id].current = Some(worn);
        seal(keys, to);
        assert_eq!(
            keys.current_at(to).map(|k| k.renew_at),
            Some(START.after(secs(120)))
        );
        seal(keys, to);
        let renewed = keys
            .current_at(to)
            .is_some_and(|k| k.renew_at == Instant::ZERO);
        assert_eq!(renewed, renews);
        assert_eq!(keys.asks_at(to).is_some(), renews);
    }
}

#[test]
fn keys_end_after_three_minutes_also_where_no_timer_has_run() {
    let (mut client, mut server) = pair(START);
    let end = START.after(secs(180));
    let late = [(); 2].map(|()| seal(&mut client, addr(2)));
    assert!(opens(&mut server, addr(1), late[0], end.before(MOMENT)));
    assert!(!opens(&mut server, addr(1), late[1], end));
    advance(&mut server, end.before(MOMENT), |_| true);
    assert!(server.has_keys(addr(1)));
    assert!(server.wake <= end);
    server.advance(end, |_| true);
    assert!(!server.has_keys(addr(1)) && server.indices.is_empty());
    assert!(server.at(addr(1)).is_some(), "there were keys");
}

#[test]
fn the_first_use_makes_keys_the_current_ones_and_late_datagrams_open_for_ten_seconds() {
    let (mut client, mut server) = pair(START);
    let late = [(); 3].map(|()| seal(&mut client, addr(2)));
    let now = START.after(secs(60));
    agreed(&mut client, &mut server, 1, now);
    let id = server.at(addr(1)).expect("an association");
    let index = |server: &FreshKeys| server.table[id as usize].current.as_ref().map(|k| k.index);
    let before = index(&server);
    assert!(server.table[id as usize].next.is_some());
    assert!(opens(&mut server, addr(1), late[0], now));
    assert_eq!(index(&server), before, "those are not the new ones");
    server.take_confirmed();
    let datagram = seal(&mut client, addr(2));
    assert!(opens(&mut server, addr(1), datagram, now));
    assert_ne!(index(&server), before);
    assert!(server.table[id as usize].next.is_none());
    let confirmed = server.take_confirmed().expect("the first use");
    assert!(confirmed.at == addr(1) && !confirmed.first);
    let until = now.after(secs(10));
    advance(&mut server, until.before(MOMENT), |_| true);
    assert!(opens(&mut server, addr(1), late[1], until.before(MOMENT)));
    assert!(server.wake <= until);
    server.advance(until, |_| true);
    assert!(!opens(&mut server, addr(1), late[2], until));
    assert_eq!(server.indices.len(), 1);
}

#[test]
fn of_three_sets_of_keys_the_oldest_is_dropped() {
    let (mut client, mut server) = pair(START);
    let late = seal(&mut client, addr(2));
    for n in 1..=2 {
        let now = START.after(secs(n));
        agreed(&mut client, &mut server, 1, now);
        let datagram = seal(&mut client, addr(2));
        assert!(opens(&mut server, addr(1), datagram, now));
    }
    assert!(!opens(&mut server, addr(1), late, START));
    assert_eq!((server.indices.len(), client.indices.len()), (2, 2));
}

#[test]
fn who_renews_accepts_the_previous_keys_until_the_new_ones_were_seen_in_use() {
    let (mut client, mut server) = pair(START);
    let late = [(); 3].map(|()| seal(&mut server, addr(1)));
    agreed(&mut client, &mut server, 1, START);
    let now = START.after(secs(119));
    client.advance(now, |_| true);
    assert!(opens(&mut client, addr(2), late[0], now));
    let datagram = seal(&mut client, addr(2));
    assert!(opens(&mut server, addr(1), datagram, now));
    let datagram = seal(&mut server, addr(1));
    assert!(opens(&mut client, addr(2), datagram, now));
    let until = now.after(secs(10));
    advance(&mut client, until.before(MOMENT), |_| true);
    assert!(opens(&mut client, addr(2), late[1], until.before(MOMENT)));
    client.advance(until, |_| true);
    assert!(!opens(&mut client, addr(2), late[2], until));
    // and where they are not, for two minutes
    let (mut client, mut server) = pair(START);
    agreed(&mut client, &mut server, 1, START);
    client.advance(START.after(secs(120)), |_| true);
    assert_eq!(client.indices.len(), 1);
}

#[test]
fn keys_that_nobody_uses_and_all_that_belongs_to_them_are_dropped() {
    let (mut client, mut server) = (keys(), keys());
    answered(&mut client, &mut server, 1, START);
    let until = START.after(secs(30));
    advance(&mut server, until.before(MOMENT), |_| false);
    assert_eq!(server.table.len(), 1);
    assert!(server.wake <= until);
    server.advance(until, |_| false);
    assert!(is_empty(&server));
}

#[test]
fn a_process_that_others_have_replaced_at_its_address_is_dropped() {
    let (_, mut server) = pair(START);
    let mut restarted = keys();
    agreed(&mut restarted, &mut server, 1, START);
    let datagram = seal(&mut restarted, addr(2));
    assert!(opens(&mut server, addr(1), datagram, START));
    advance(&mut server, START.after(secs(10)).before(MOMENT), |_| true);
    assert_eq!(server.table.len(), 2);
    server.advance(START.after(secs(10)), |_| true);
    assert_eq!((server.table.len(), server.processes.len()), (1, 1));
    assert_eq!(server.indices.len(), 1);
    assert!(server.has_keys(addr(1)));
    let datagram = seal(&mut restarted, addr(2));
    assert!(opens(&mut server, addr(1), datagram, START.after(secs(11))));
}

#[test]
fn a_process_that_is_silent_is_forgotten_after_ten_minutes_unless_its_address_is_in_use() {
    let (mut client, mut server) = pair(START);
    let gone = START.after(secs(600));
    for keys in [&mut client, &mut server] {
        advance(keys, gone.before(MOMENT), |_| false);
        assert_eq!(keys.addresses.len(), 1);
    }
    client.advance(gone, |addr| addr.port() == 2);
    assert_eq!((client.addresses.len(), client.table.len()), (1, 1));
    server.advance(gone, |_| false);
    assert!(is_empty(&server));
}

#[test]
fn an_address_is_forgotten_ten_seconds_after_its_process_was_heard_elsewhere() {
    let (mut client, mut server) = pair(START);
    let id = server.at(addr(1)).expect("an association");
    let datagram = seal(&mut client, addr(2));
    assert!(opens(&mut server, addr(9), datagram, START));
    assert!(server.claim_address(addr(9), id, false, START));
    let until = START.after(secs(10));
    advance(&mut server, until.before(MOMENT), |_| false);
    assert_eq!(server.at(addr(1)), Some(id));
    server.advance(until, |_| false);
    assert_eq!((server.at(addr(1)), server.at(addr(9))), (None, Some(id)));
}

#[test]
fn of_too_many_addresses_those_in_use_stay() {
    let (_, mut server) = pair(START);
    let id = server.at(addr(1)).expect("an association");
    let other = |n: u32| SocketAddr::from((n.to_be_bytes(), 7));
    for n in 1..65_536 {
        server.map_address(other(n), id, START);
    }
    advance(&mut server, START, |_| false);
    assert_eq!(server.addresses.len(), 65_536);
    assert!(server.wake > START);
    server.map_address(other(65_536), id, START);
    assert!(server.wake <= START, "at once");
    server.advance(START, |addr| addr.port() == 1 || addr == other(5));
    assert_eq!(server.addresses.len(), 2);
    assert!(server.has_keys(addr(1)) && server.has_keys(other(5)));
}

#[test]
fn keys_end_with_the_psk_that_they_come_from() {
    let (mut client, mut server) = pair(START);
    let late = seal(&mut client, addr(2));
    agreed(&mut client, &mut server, 1, START);
    let datagram = seal(&mut client, addr(2));
    assert!(opens(&mut server, addr(1), datagram, START));
    answered(&mut client, &mut server, 1, START.after(secs(1)));
    for keys in [&mut client, &mut server] {
        keys.keep_only(&[3, 1]);
    }
    assert!(client.has_keys(addr(2)) && server.has_keys(addr(1)));
    assert_eq!((server.indices.len(), client.indices.len()), (3, 2));
    assert!(client.asking.is_none(), "the next is made with another psk");
    for keys in [&mut client, &mut server] {
        keys.keep_only(&[2]);
        assert!(keys.indices.is_empty());
    }
    assert!(!client.has_keys(addr(2)) && !server.has_keys(addr(1)));
    assert!(server.at(addr(1)).is_some(), "there were keys");
    assert!(!opens(&mut server, addr(1), late, START));
}

#[test]
fn what_was_answered_under_another_psk_outlives_the_keys_in_use() {
    let (mut client, mut server) = pair(START);
    let answer = answered(&mut client, &mut server, 2, START);
    server.keep_only(&[2]);
    assert!(!server.has_keys(addr(1)));
    assert!(
        client
            .on_handshake_answer(addr(2), &answer, METHOD, START)
            .is_some()
    );
    client.keep_only(&[2]);
    let datagram = seal(&mut client, addr(2));
    assert!(opens(&mut server, addr(1), datagram, START));
    assert!(server.has_keys(addr(1)));
}

#[test]
fn the_third_ping_that_is_answered_without_the_greeting_tells_that_there_will_be_no_keys() {
    let (mut client, mut server) = (keys(), keys());
    answered(&mut client, &mut server, 1, START);
    let asking = client.asking.as_mut().expect("the greeting");
    let told = [(); 5].map(|()| asking.on_ignored());
    assert_eq!(told, [false, false, true, false, false]);
}
