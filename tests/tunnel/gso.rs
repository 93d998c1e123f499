//! What leaves together: GSO batches of datagrams, and the address of the machine that they leave from.

use kcptun::crypto::{Key, Method, Sealing};
use kcptun::message::Control;
use kcptun::path::Local;
use kcptun::pmtu::BASE;
use kcptun::settings::{Flush, Settings};
use kcptun::time::{Instant, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Event, SessionId, Transmit, Tunnel};
use std::net::SocketAddr;

const HERE: &str = "192.0.2.1:1000";
const THERE: &str = "192.0.2.9:2000";
const MTU: usize = 1500;
const HEADERS: usize = 28;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> Local {
    Local {
        ip: Some(text.parse().expect("an address")),
        socket: 0,
    }
}

fn tunnel(sealed: bool, accepts: bool, seed: u64, change: impl Fn(&mut Settings)) -> Tunnel {
    let key = Key::from_password("of these transmits");
    let mut settings = Settings {
        sealing: sealed.then(|| Sealing::new(Method::Chacha20Poly1305Ietf, &key)),
        accepts,
        seed,
        ..Settings::default()
    };
    change(&mut settings);
    Tunnel::new(settings, Instant::from_millis(1))
}

/// Two tunnels and nothing between them: what one gives is at the other in a millisecond.
struct Pair {
    now: Instant,
    near: Tunnel,
    far: Tunnel,
    id: SessionId,
    sent: u8,
    arrived: Vec<u8>,
    transmits: Vec<Transmit>,
    out: Vec<u8>,
}

impl Pair {
    fn new(sealed: bool, change: impl Fn(&mut Settings)) -> Pair {
        let now = Instant::from_millis(1);
        let mut near = tunnel(sealed, false, 1, &change);
        let far = tunnel(sealed, true, 2, &change);
        near.set_peer(now, at(THERE));
        Pair {
            now,
            id: near.open(now).expect("a session"),
            near,
            far,
            sent: 0,
            arrived: Vec::new(),
            transmits: Vec::new(),
            out: vec![0; 65_536],
        }
    }

    /// A millisecond in which as much is sent as may be.
    fn step(&mut self) {
        self.now = self.now.after(MS);
        let now = self.now;
        self.fill();
        self.near.handle_timeout(now);
        while let Some(transmit) = self.near.poll_transmit(now, &mut self.out) {
            assert_eq!(transmit.addr, at(THERE));
            let datagrams = self.out[..transmit.len].chunks_mut(transmit.segment);
            for datagram in datagrams {
                self.far.receive(now, at(HERE), ip("192.0.2.9"), datagram);
            }
            self.transmits.push(transmit);
        }
        self.far.handle_timeout(now);
        self.serve();
        while let Some(Transmit { len, addr: to, .. }) =
            self.far.poll_transmit(now, &mut self.out[..DATAGRAM_MAX])
        {
            assert_eq!(to, at(HERE));
            let datagram = &mut self.out[..len];
            self.near.receive(now, at(THERE), ip("192.0.2.1"), datagram);
        }
        while self.near.poll().is_some() {}
    }

    fn fill(&mut self) {
        loop {
            let room = self.near.input(self.id);
            if room.is_empty() {
                return;
            }
            for byte in room.iter_mut() {
                *byte = self.sent;
                self.sent = self.sent.wrapping_add(1);
            }
            let n = room.len();
            self.near.filled(self.now, self.id, n);
        }
    }

    fn serve(&mut self) {
        while let Some(event) = self.far.poll() {
            let id = match event {
                Event::Dial(id) => {
                    self.far.dialled(self.now, id);
                    id
                }
                Event::Readable(id) => id,
                _ => continue,
            };
            while !self.far.output(id).is_empty() {
                let n = self.far.output(id).len();
                self.arrived.extend(self.far.output(id));
                self.far.consumed(self.now, id, n);
            }
        }
    }

    /// What arrived is what was sent, and most of it came in GSO batches of `long` equal datagrams at least.
    fn check(&self, long: usize) {
        let full = MTU - HEADERS;
        let mut arrived = self.arrived.iter().enumerate();
        assert!(arrived.all(|(n, byte)| usize::from(*byte) == n % 256));
        for transmit in &self.transmits {
            assert!(
                transmit.len <= 65_000 && transmit.segment <= transmit.len,
                "{transmit:?}"
            );
            assert!(transmit.len <= 64 * transmit.segment, "{transmit:?}");
            // a pong and the ping that proves an address may go together
            let alone = transmit.segment == transmit.len || transmit.segment < 100;
            // and until larger packets have been answered
            let early = (0..16).contains(&transmit.segment.wrapping_sub(BASE - HEADERS));
            assert!(alone || early || transmit.segment == full, "{transmit:?}");
        }
        let bytes: usize = self.transmits.iter().map(|t| t.len).sum();
        let long = self.transmits.iter().filter(|t| t.len >= long * full);
        let in_long: usize = long.map(|t| t.len).sum();
        assert!(in_long > bytes / 2, "{in_long} of {bytes}");
    }
}

#[test]
fn bulk_leaves_in_batches_of_equal_datagrams() {
    for sealed in [false, true] {
        // 43 datagrams a millisecond
        let mut pair = Pair::new(sealed, |settings| settings.rate.up = Some(60e6));
        (0..400).for_each(|_| pair.step());
        assert!(pair.arrived.len() > 2_000_000, "{}", pair.arrived.len());
        pair.check(20);
    }
}

#[test]
fn plain_kcp_leaves_in_batches_too() {
    let mut pair = Pair::new(true, |settings| {
        settings.rate.control = false;
        settings.kcp.flush = Flush::AcksToo;
        (settings.kcp.sndwnd, settings.kcp.rcvwnd) = (1024, 1024);
    });
    (0..10).for_each(|_| pair.step());
    assert!(pair.arrived.len() > 1_000_000, "{}", pair.arrived.len());
    // each read of the TCP socket is sent as it comes
    pair.check(8);
}

#[test]
fn a_batch_ends_where_the_buffer_does() {
    let mut pair = Pair::new(true, |settings| settings.rate.up = Some(60e6));
    (0..200).for_each(|_| pair.step());
    pair.out.truncate(8000);
    (0..200).for_each(|_| pair.step());
    let longest = pair.transmits[pair.transmits.len() / 2..]
        .iter()
        .map(|t| t.len);
    assert!((4 * 1372..=8000).contains(&longest.max().unwrap_or(0)));
}

#[test]
fn batches_are_for_one_address() {
    let now = Instant::from_millis(5);
    let mut server = tunnel(true, true, 2, |_| ());
    for n in 1..=3 {
        let mut client = tunnel(true, false, 10 + n, |_| ());
        client.set_peer(now, at(THERE));
        let mut out = [0; 2000];
        let Transmit { len, .. } = client
            .poll_transmit(now, &mut out[..DATAGRAM_MAX])
            .expect("a ping");
        let from = SocketAddr::new(at(HERE).ip(), 1000 + n as u16);
        server.receive(now, from, Local::default(), &mut out[..len]);
    }
    let mut out = [0; 65_536];
    let mut ports = Vec::new();
    while let Some(transmit) = server.poll_transmit(now, &mut out) {
        // and the ping that proves the address
        assert!(transmit.len <= 2 * transmit.segment);
        ports.push(transmit.addr.port());
    }
    ports.dedup();
    assert_eq!(ports, [1001, 1002, 1003]);
}

#[test]
fn what_a_session_sends_leaves_from_where_the_other_end_last_sent_to() {
    let mut pair = Pair::new(true, |_| ());
    (0..10).for_each(|_| pair.step());
    let now = pair.now.after(30 * SEC);
    pair.far.handle_timeout(now);
    // whatever it has to say later: the other end, which has asked, knows no other address of it
    let mut seen = 0;
    pair.far.shutdown(now);
    while let Some(transmit) = pair.far.poll_transmit(now, &mut pair.out) {
        assert_eq!(transmit.local, ip("192.0.2.9"));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn the_end_that_dials_goes_back_to_the_systems_choice_when_nothing_is_heard() {
    let mut pair = Pair::new(true, |_| ());
    assert_eq!(pair.transmits.len(), 0);
    (0..10).for_each(|_| pair.step());
    assert_eq!(pair.transmits[0].local, Local::default());
    assert_eq!(
        pair.transmits.last().expect("a datagram").local,
        ip("192.0.2.1")
    );
    pair.near.shutdown(pair.now.after(10 * SEC));
    let last = pair
        .near
        .poll_transmit(pair.now.after(10 * SEC), &mut pair.out);
    assert_eq!(last.expect("a datagram").local, Local::default());
}

#[test]
fn strangers_are_answered_from_where_they_asked() {
    let now = Instant::from_millis(5);
    let mut server = tunnel(false, true, 2, |_| ());
    let mut out = [0; 2000];
    for asked in ["192.0.2.50", "192.0.2.51", "2001:db8::1"] {
        let mut ping = Control::Ping(7).to_wire().to_vec();
        server.receive(now, at(HERE), ip(asked), &mut ping);
        let pong = server.poll_transmit(now, &mut out).expect("a pong");
        assert_eq!((pong.addr, pong.local), (at(HERE), ip(asked)));
    }
}

#[test]
fn an_answer_leaves_by_the_socket_that_was_asked() {
    let now = Instant::from_millis(5);
    let mut server = tunnel(false, true, 2, |_| ());
    let local = |socket| Local { ip: None, socket };
    for socket in [3, 3, 9] {
        let mut ping = Control::Ping(7).to_wire().to_vec();
        server.receive(now, at(HERE), local(socket), &mut ping);
    }
    let mut out = [0; 10_000];
    let mut sockets = Vec::new();
    while let Some(transmit) = server.poll_transmit(now, &mut out) {
        sockets.extend(vec![
            transmit.local.socket;
            transmit.len.div_ceil(transmit.segment)
        ]);
    }
    assert_eq!(sockets, [3, 3, 9], "and not together with those of another");
}
