//! A socket on loopback: what it sends and takes in batches, what it is told, and which marks datagrams have.

use super::*;
use crate::event::socket;
use crate::event::tests::skipped;
use crate::path::Local;
use socket2::{Protocol, Type};
use std::net::UdpSocket as StdUdpSocket;
use std::time::Duration;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

/// A socket with memory of its own.
struct Own {
    batch: Batch,
    shared: Shared,
}

impl Own {
    fn send(&mut self, now: Instant, transmit: &Transmit, bytes: &[u8]) -> Sent {
        self.batch.send(&mut self.shared, now, transmit, bytes)
    }

    fn receive(
        &mut self,
        each: impl FnMut(SocketAddr, Option<IpAddr>, &mut [u8]),
    ) -> io::Result<(usize, bool)> {
        self.batch.receive(&mut self.shared, each)
    }
}

impl std::ops::Deref for Own {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

impl std::ops::DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }
}

fn bound(address: &str) -> io::Result<Own> {
    let socket = socket::new(at(address), Type::DGRAM, Protocol::UDP)?;
    socket.bind(&at(address).into())?;
    Ok(Own {
        batch: Batch::new(socket)?,
        shared: Shared::new(),
    })
}

fn other(address: &str) -> (StdUdpSocket, SocketAddr) {
    let socket = StdUdpSocket::bind(address).expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("option");
    let at = socket.local_addr().expect("address");
    (socket, at)
}

/// Sends a batch and single datagrams with a mark; the traffic class of each as it arrives.
fn traffic_classes(everywhere: &str, asks: &str, dscp: u8) -> Option<Vec<u8>> {
    let mut here = bound(everywhere).ok()?;
    let there = StdUdpSocket::bind(asks).ok()?;
    there.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let to = there.local_addr().expect("address");
    platform::testing::ask_traffic_class(&there);
    here.mark(dscp).expect("an option");
    let local = Local {
        ip: Some(to.ip()),
        socket: 0,
    };
    for (segment, len) in [(1400, 4000), (50, 50)] {
        let transmit = Transmit {
            local,
            ..transmit(to, segment, len)
        };
        let sent = here.send(Instant::ZERO, &transmit, &vec![7; len]);
        assert!(sent.error.is_none() && sent.done == len, "{sent:?}");
    }
    assert!(here.shared.refused.is_empty());
    let class = |length: &usize| {
        let (received, class) = platform::testing::traffic_class(&there);
        assert_eq!(received, *length);
        class
    };
    [1400, 1400, 1200, 50].iter().map(class).collect()
}

#[test]
fn every_datagram_has_the_mark_in_both_families() {
    for (everywhere, asks) in [
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::]:0", "127.0.0.1:0"),
        ("[::]:0", "[::1]:0"),
    ] {
        if !platform::SENDS_MARKED {
            return skipped("this system marks no datagrams");
        }
        for dscp in [0, 46, 63] {
            match traffic_classes(everywhere, asks, dscp) {
                Some(classes) => assert_eq!(classes, [dscp << 2; 4], "{everywhere} {asks}"),
                None => skipped("this machine has no IPv6"),
            }
        }
    }
}

/// Has the system report errors of datagrams. False if it cannot.
fn reports(batch: &mut Own) -> bool {
    batch.hear().expect("an option");
    platform::is_report(&io::Error::from_raw_os_error(platform::errno::EHOSTDOWN))
}

/// Datagrams of these lengths, each with its own content, one behind the other.
fn datagrams(lengths: &[usize]) -> Vec<u8> {
    let each = lengths.iter().enumerate();
    each.flat_map(|(n, len)| vec![n as u8; *len]).collect()
}

fn transmit(addr: SocketAddr, segment: usize, len: usize) -> Transmit {
    Transmit {
        addr,
        local: Local::default(),
        len,
        segment,
        fit: Fit::Fits,
    }
}

fn expect(socket: &StdUdpSocket, lengths: &[usize]) {
    let mut buffer = [0; 2000];
    for (n, len) in lengths.iter().enumerate() {
        assert_eq!(socket.recv(&mut buffer).expect("a datagram"), *len);
        assert!(buffer[..*len].iter().all(|byte| *byte == n as u8));
    }
}

/// Takes what arrives until `count` datagrams have.
fn take(batch: &mut Own, count: usize) -> Vec<(SocketAddr, Option<IpAddr>, Vec<u8>)> {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let mut taken = Vec::new();
    while taken.len() < count {
        let result = batch.receive(|from, local, bytes| {
            taken.push((from, local, bytes.to_vec()));
        });
        if let Err(e) = result {
            assert_eq!(e.kind(), ErrorKind::WouldBlock);
            assert!(std::time::Instant::now() < deadline, "{} came", taken.len());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    taken
}

#[test]
fn a_batch_arrives_as_its_datagrams() {
    for lengths in [
        vec![1500; 40],
        vec![1400, 1400, 1],
        vec![1; 64],
        vec![1],
        vec![1500],
    ] {
        let mut here = bound("127.0.0.1:0").expect("bind");
        let (there, to) = other("127.0.0.1:0");
        let bytes = datagrams(&lengths);
        let sent = here.send(
            Instant::ZERO,
            &transmit(to, lengths[0], bytes.len()),
            &bytes,
        );
        assert!(!sent.blocked && sent.error.is_none());
        assert_eq!(sent.done, bytes.len());
        assert!(here.shared.refused.is_empty());
        expect(&there, &lengths);
    }
}

#[test]
fn batches_come_in_whole_and_in_order() {
    let mut here = bound("127.0.0.1:0").expect("bind");
    let mut there = bound("127.0.0.1:0").expect("bind");
    let lengths = [vec![1500; 10], vec![1200; 3], vec![700], vec![1]].concat();
    let bytes = datagrams(&lengths);
    let (to, mut rest) = (here.local(), &bytes[..]);
    for (segment, len) in [(1500, 15_000), (1200, 4_300), (1, 1)] {
        let (first, others) = rest.split_at(len);
        let sent = there.send(Instant::ZERO, &transmit(to, segment, len), first);
        assert_eq!(sent.done, len);
        rest = others;
    }
    let taken = take(&mut here, lengths.len());
    for (n, (from, local, datagram)) in taken.iter().enumerate() {
        assert_eq!(
            (*from, *local),
            (there.local(), Some(at("127.0.0.1:0").ip()))
        );
        assert_eq!(*datagram, vec![n as u8; lengths[n]]);
    }
    let drained = here.receive(|_, _, _| panic!("too many"));
    assert_eq!(drained.expect_err("nothing").kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_is_refused_as_a_batch_goes_one_by_one() {
    let mut here = bound("127.0.0.1:0").expect("bind");
    let (there, to) = other("127.0.0.1:0");
    // more segments than any system takes in one call
    let lengths = [vec![10; 1000], vec![9]].concat();
    let bytes = datagrams(&lengths);
    let transmit = transmit(to, 10, bytes.len());
    if here.call(&transmit, &bytes).is_ok() {
        panic!("a batch of {} was taken", lengths.len());
    }
    let sent = here.send(Instant::ZERO, &transmit, &bytes);
    assert!(sent.error.is_none() && !sent.blocked, "{sent:?}");
    assert_eq!(sent.done, bytes.len());
    // the receiver's buffer may be small: what it holds is in order, and nothing came twice
    expect(&there, &lengths[..100]);
    if here.offers_gso {
        assert!(!here.shared.takes_gso(to, Instant::ZERO));
        assert!(
            here.shared
                .takes_gso(to, Instant::ZERO.after(REFUSAL_LIFETIME))
        );
        assert!(here.shared.takes_gso(at("192.0.2.1:9"), Instant::ZERO));
    }
}

#[test]
fn a_system_without_gso_gets_datagrams() {
    let mut here = bound("127.0.0.1:0").expect("bind");
    here.offers_gso = false;
    let (there, to) = other("127.0.0.1:0");
    let lengths = [1500, 1500, 1500, 20];
    let bytes = datagrams(&lengths);
    let sent = here.send(Instant::ZERO, &transmit(to, 1500, bytes.len()), &bytes);
    assert!(sent.done == bytes.len() && sent.error.is_none());
    expect(&there, &lengths);
    assert!(here.shared.refused.is_empty());
}

#[test]
fn an_error_is_told_and_no_batch_is_blamed_for_it() {
    let mut here = bound("127.0.0.1:0").expect("bind");
    let bytes = datagrams(&[10, 10]);
    let sent = here.send(Instant::ZERO, &transmit(at("[::1]:9"), 10, 20), &bytes);
    assert!(sent.error.is_some() && !sent.blocked);
    assert_eq!(sent.done, 20);
    assert!(here.shared.refused.is_empty());
}

#[test]
fn answers_leave_from_where_the_question_came_to() {
    for (everywhere, asked, asks) in [
        ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
        ("[::]:0", "127.0.0.2", "127.0.0.1:0"),
        ("[::]:0", "::1", "[::1]:0"),
    ] {
        let Ok(mut here) = bound(everywhere) else {
            skipped("this machine has no IPv6");
            continue;
        };
        let Ok(there) = StdUdpSocket::bind(asks) else {
            skipped(&format!("this machine has no {asks}"));
            continue;
        };
        let asked: IpAddr = asked.parse().expect("address");
        let to = SocketAddr::new(asked, here.local().port());
        if there.send_to(b"?", to).is_err() {
            skipped(&format!("this machine is not {asked}"));
            continue;
        }
        let (from, local, _) = take(&mut here, 1).remove(0);
        assert_eq!(local, Some(asked));
        assert_eq!(from, there.local_addr().expect("address"));
        let answer = Transmit {
            local: Local {
                ip: local,
                socket: 0,
            },
            ..transmit(from, 1, 2)
        };
        let sent = here.send(Instant::ZERO, &answer, b"ab");
        assert!(sent.error.is_none(), "{sent:?}");
        let mut buffer = [0; 9];
        assert_eq!(there.recv_from(&mut buffer).expect("an answer"), (1, to));
        assert_eq!(there.recv_from(&mut buffer).expect("an answer"), (1, to));
    }
}

#[test]
fn an_address_that_this_machine_has_lost_is_not_insisted_on() {
    for (everywhere, gone) in [("0.0.0.0:0", "192.0.2.7"), ("[::]:0", "192.0.2.7")] {
        let Ok(mut here) = bound(everywhere) else {
            skipped("this machine has no IPv6");
            continue;
        };
        let (there, to) = other("127.0.0.1:0");
        let transmit = Transmit {
            local: Local {
                ip: gone.parse().ok(),
                socket: 0,
            },
            ..transmit(to, 50, 120)
        };
        let sent = here.send(Instant::ZERO, &transmit, &datagrams(&[50, 50, 20]));
        assert!(sent.error.is_none(), "{sent:?}");
        expect(&there, &[50, 50, 20]);
        assert!(here.shared.refused.is_empty());
    }
}

#[test]
fn a_port_that_nobody_has_is_told_of_and_costs_no_datagram() {
    for everywhere in ["0.0.0.0:0", "[::]:0"] {
        let Ok(mut here) = bound(everywhere) else {
            continue;
        };
        if !reports(&mut here) {
            return skipped("this system reports nothing");
        }
        let (gone, nobody) = other("127.0.0.1:0");
        drop(gone);
        let (there, to) = other("127.0.0.1:0");
        for _ in 0..3 {
            let sent = here.send(Instant::ZERO, &transmit(nobody, 2, 2), b"ab");
            assert!(sent.error.is_none(), "{sent:?}");
            // what the system was told by then is no error of the next
            let sent = here.send(
                Instant::ZERO,
                &transmit(to, 50, 120),
                &datagrams(&[50, 50, 20]),
            );
            assert!(sent.error.is_none(), "{sent:?}");
            expect(&there, &[50, 50, 20]);
            assert_eq!(here.refusals(), [nobody]);
            assert_eq!(here.refusals(), []);
        }
        assert!(here.shared.refused.is_empty());
    }
}

/// The system keeps what it tells until it is taken, and in the room for datagrams.
#[test]
fn what_is_told_takes_no_room_from_what_arrives() {
    let mut here = bound("127.0.0.1:0").expect("bind");
    if !reports(&mut here) {
        return skipped("this system reports nothing");
    }
    let (there, _) = other("127.0.0.1:0");
    let too_long = vec![0; 65_530];
    for _ in 0..2_000 {
        let sent = here.send(
            Instant::ZERO,
            &transmit(here.local(), 65_530, 65_530),
            &too_long,
        );
        let error = sent.error.and_then(|e| e.raw_os_error());
        assert_eq!(error, Some(platform::errno::EMSGSIZE));
        assert_eq!(here.refusals(), []);
    }
    for _ in 0..50 {
        there.send_to(&[1; 1_000], here.local()).expect("sent");
    }
    assert_eq!(take(&mut here, 50).len(), 50);
}

#[test]
fn ipv4_through_an_ipv6_socket_and_back() {
    let mapped = at("[::ffff:192.0.2.1]:9");
    assert_eq!(canonical(mapped), at("192.0.2.1:9"));
    assert_eq!(canonical(at("[2001:db8::1]:9")), at("[2001:db8::1]:9"));
    let here = bound("0.0.0.0:0").expect("bind");
    assert_eq!(here.as_sent_from_here(at("192.0.2.1:9")), at("192.0.2.1:9"));
    if let Ok(here) = bound("[::]:0") {
        assert_eq!(here.as_sent_from_here(at("192.0.2.1:9")), mapped);
    }
}
