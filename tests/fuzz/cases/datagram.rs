//! One tunnel, and any datagrams to it: random ones, packets that are nearly right, and the streams of sessions, from a few
//! addresses, sealed or not, while its TCP side does this and that. Nothing stops it or fills it; whoever has not shown that
//! they receive opens nothing and gets no more than they sent; without the key there is no answer at all.

use super::{Bytes, Play, address, play};
use crate::sim;
use kcptun::crypto::{Method, Sealing};
use kcptun::message::{Control, Meeting};
use kcptun::path::Local;
use kcptun::segment::{HEADER, Header, cmd};
use kcptun::settings::{Rendezvous, Settings};
use kcptun::time::{Duration, Instant, MS, SEC};
use kcptun::tunnel::{DATAGRAM_MAX, Event, SessionId, Transmit, Tunnel};
use std::collections::HashMap;
use std::net::SocketAddr;

const TIMEOUT: Duration = Duration::from_secs(5);
/// What a case does at most.
const STEPS: usize = 200;
/// Addresses that it comes from.
const ADDRESSES: usize = 8;

/// What one address has sent and been sent.
#[derive(Default)]
struct Source {
    asked: usize,
    answered: usize,
    /// The last ping that went there.
    ping: Option<u32>,
    /// It has shown that it receives.
    proven: bool,
}

struct Case {
    tunnel: Tunnel,
    now: Instant,
    method: Option<Method>,
    sealing: Option<Sealing>,
    sources: HashMap<SocketAddr, Source>,
    /// It asks nobody by itself.
    asked_only: bool,
    accepts: bool,
    /// Datagrams that have been taken, to be repeated.
    taken: Vec<(SocketAddr, Vec<u8>)>,
    dials: Vec<SessionId>,
    held: Vec<SessionId>,
    /// The next numbers of streams.
    numbers: HashMap<(SocketAddr, u32), u32>,
}

pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let case = Case::new(&mut bytes);
    play(case, &mut bytes, STEPS);
}

impl Play for Case {
    fn step(&mut self, bytes: &mut Bytes) {
        let from = address(bytes.below(ADDRESSES));
        match bytes.below(12) {
            0 => {
                let len = usize::from(bytes.short()) % 2_000;
                let garbage = bytes.take(len).to_vec();
                self.garbage(from, garbage);
            }
            1 => {
                let len = bytes.below(64);
                let packet = bytes.take(len).to_vec();
                self.say(from, packet);
            }
            2 | 3 => {
                let packet = odd(bytes);
                self.say(from, packet);
            }
            4 | 5 => self.stream(from, bytes),
            6 => self.control(from, bytes),
            7 => self.pong(from),
            8 => {
                self.now = self.now.after(bytes.span(23));
                self.advance();
            }
            9 => self.again(from, bytes),
            10 => self.program(bytes),
            _ => {
                if let Ok(id) = self.tunnel.open(self.now) {
                    self.held.push(id);
                }
                self.settle();
            }
        }
    }

    fn check(&mut self) {
        let held = self.tunnel.holdings();
        assert!(held.sessions <= 64 && held.paths <= ADDRESSES, "{held:?}");
        assert!(held.waiting <= 128 && held.packets == 0, "{held:?}");
        assert!(
            held.timers <= held.sessions + held.paths && held.registrations <= ADDRESSES,
            "{held:?}"
        );
        for (addr, source) in self.sources.iter().filter(|(_, s)| !s.proven) {
            if !self.asked_only {
                continue;
            }
            assert!(
                self.method.is_some() || source.answered <= source.asked,
                "{addr} was sent {} for {}",
                source.answered,
                source.asked
            );
            let sessions = self.tunnel.path(*addr).map_or(0, |path| path.sessions);
            assert!(!self.accepts || sessions == 0, "{addr} has not answered");
        }
    }

    /// All of it ends by itself when nothing more comes.
    fn end(mut self) {
        let end = self.now.after(120 * SEC);
        for steps in 0.. {
            let Some(at) = self.tunnel.poll_timeout().filter(|at| *at < end) else {
                break;
            };
            if self.tunnel.is_quiet() && self.tunnel.holdings().ended == 0 {
                break;
            }
            assert!(steps < 200_000, "it does not come to rest");
            self.now = self.now.max(at).after(MS / 10);
            self.advance();
        }
        let held = self.tunnel.holdings();
        assert!(self.tunnel.is_quiet() && held.ended == 0, "{held:?}");
        assert!(self.dials.is_empty() && self.held.is_empty());
    }
}

impl Case {
    fn new(bytes: &mut Bytes) -> Case {
        let method = bytes.pick(&[
            None,
            None,
            Some(Method::Chacha20Poly1305Ietf),
            Some(Method::Xsalsa20Poly1305),
        ]);
        let rendezvous = match bytes.below(6) {
            0 => Rendezvous::Keeper,
            1 => Rendezvous::Service(b"x".to_vec()),
            2 => Rendezvous::Client(b"x".to_vec()),
            _ => Rendezvous::None,
        };
        let flags = bytes.byte();
        let accepts = !matches!(rendezvous, Rendezvous::Keeper | Rendezvous::Client(_));
        let mut settings = Settings {
            sealing: method.map(|m| Sealing::new(m, &sim::key())),
            accepts: accepts && flags & 1 == 0,
            rendezvous,
            timeout: TIMEOUT,
            linger: SEC,
            time_wait: 2 * SEC,
            max_sessions: 64,
            seed: 1,
            ..Settings::default()
        };
        settings.rate.control = flags & 2 == 0;
        let now = Instant::from_millis(1_000);
        let (asks, accepts) = (flags & 4 != 0, settings.accepts);
        let meets = matches!(
            settings.rendezvous,
            Rendezvous::Service(_) | Rendezvous::Client(_)
        );
        let mut tunnel = Tunnel::new(settings, now);
        if asks {
            tunnel.set_peer(now, address(0));
        }
        if meets {
            tunnel.set_rendezvous(now, address(1), address(5));
        }
        let mut case = Case {
            tunnel,
            now,
            method,
            sealing: method.map(|m| Sealing::new(m, &sim::key())),
            sources: HashMap::new(),
            asked_only: !asks && !meets,
            accepts,
            taken: Vec::new(),
            dials: Vec::new(),
            held: Vec::new(),
            numbers: HashMap::new(),
        };
        case.settle();
        case
    }

    /// From somebody without the key, if there is one.
    fn garbage(&mut self, from: SocketAddr, mut datagram: Vec<u8>) {
        self.settle();
        let before = (self.tunnel.holdings(), self.tunnel.counters());
        self.sources.entry(from).or_default().asked += datagram.len();
        self.tunnel
            .receive(self.now, from, Local::default(), &mut datagram);
        if self.method.is_some() {
            let after = self.tunnel.counters();
            assert_eq!(self.tunnel.holdings(), before.0);
            assert_eq!(after.opened, before.1.opened);
            assert!(self.transmit().is_none() && self.tunnel.poll().is_none());
        }
        self.settle();
    }

    fn say(&mut self, from: SocketAddr, mut packet: Vec<u8>) {
        let len = packet.len();
        if let Some(sealing) = &mut self.sealing {
            packet.resize(len + sealing.overhead(), 0);
            sealing.seal(&mut packet, len);
        }
        if packet.len() <= DATAGRAM_MAX && self.taken.len() < 100 {
            self.taken.push((from, packet.clone()));
        }
        self.sources.entry(from).or_default().asked += packet.len();
        self.tunnel
            .receive(self.now, from, Local::default(), &mut packet);
        self.settle();
    }

    /// A datagram that was taken comes again, from its address or another.
    fn again(&mut self, from: SocketAddr, bytes: &mut Bytes) {
        if self.taken.is_empty() {
            return;
        }
        let (first, mut datagram) = self.taken[bytes.below(self.taken.len())].clone();
        let from = if bytes.flag() { from } else { first };
        if self.method.is_some() {
            return self.garbage(from, datagram);
        }
        self.sources.entry(from).or_default().asked += datagram.len();
        self.tunnel
            .receive(self.now, from, Local::default(), &mut datagram);
        self.settle();
    }

    /// The next bytes of a session's stream.
    fn stream(&mut self, from: SocketAddr, bytes: &mut Bytes) {
        let conv = 1 + bytes.below(3) as u32;
        let sn = self.numbers.entry((from, conv)).or_default();
        let text = match bytes.below(4) {
            0 => vec![0, 0, 0, 4],
            1 => vec![0, 0, 0, 4, 0, 1, 0, 6, 7, 7],
            2 => vec![0, 1, 0, 6, 7, 7, 0, 2, 0, 4],
            _ => {
                let len = bytes.below(48);
                bytes.take(len).to_vec()
            }
        };
        let header = Header {
            conv,
            cmd: cmd::PUSH,
            wnd: 128,
            ts: self.now.millis() as u32,
            sn: *sn,
            una: u32::from(bytes.byte() / 64),
            len: text.len() as u32,
            ..Header::default()
        };
        *sn += 1;
        self.say(from, [&header.to_wire()[..], &text].concat());
    }

    fn control(&mut self, from: SocketAddr, bytes: &mut Bytes) {
        let value = u32::from(bytes.byte());
        let own = address(bytes.below(ADDRESSES));
        let id = &b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"[..1 + bytes.below(32)];
        let mut packet = match bytes.below(6) {
            0 => Control::Ping(value).to_wire().to_vec(),
            1 => Control::Pong(value).to_wire().to_vec(),
            2 => Control::Reset(value % 4).to_wire().to_vec(),
            3 => Meeting::Listen { own, id }.to_wire(),
            4 => Meeting::Connect { own, id }.to_wire(),
            _ => Meeting::Punch([own, address(bytes.below(ADDRESSES))]).to_wire(),
        };
        let padding = bytes.below(16);
        packet.resize(packet.len() + padding, padding as u8);
        self.say(from, packet);
    }

    /// Whoever is at an address answers the last ping.
    fn pong(&mut self, from: SocketAddr) {
        let source = self.sources.entry(from).or_default();
        if let Some(ping) = source.ping.take() {
            source.proven = true;
            self.say(from, Control::Pong(ping).to_wire().to_vec());
        }
    }

    /// Something happens to a TCP connection.
    fn program(&mut self, bytes: &mut Bytes) {
        let (what, now) = (bytes.below(6), self.now);
        if what < 2 && !self.dials.is_empty() {
            let id = self.dials.remove(bytes.below(self.dials.len()));
            match what {
                0 => {
                    self.tunnel.dialled(now, id);
                    self.held.push(id);
                }
                _ => self.tunnel.dial_failed(now, id),
            }
        } else if !self.held.is_empty() {
            let id = self.held[bytes.below(self.held.len())];
            match what {
                2 => self.tunnel.broken(now, id),
                3 => self.tunnel.finished(now, id),
                _ => {
                    let room = self.tunnel.input(id).len();
                    if room > 0 {
                        let n = room.min(bytes.magnitude(15) as usize);
                        self.tunnel.filled(now, id, n);
                    }
                }
            }
        }
        self.settle();
    }

    fn advance(&mut self) {
        if self.tunnel.poll_timeout().is_some_and(|at| at <= self.now) {
            self.tunnel.handle_timeout(self.now);
        }
        self.settle();
    }

    /// Does what an event loop would.
    fn settle(&mut self) {
        while let Some(event) = self.tunnel.poll() {
            match event {
                Event::Dial(id) => {
                    let proven = self.sources.values().any(|source| source.proven);
                    assert!(proven, "dialled for nobody who receives");
                    self.dials.push(id);
                }
                Event::Readable(id) => {
                    while !self.tunnel.output(id).is_empty() {
                        let n = self.tunnel.output(id).len();
                        self.tunnel.consumed(self.now, id, n);
                    }
                    self.tunnel.output_ended(self.now, id);
                }
                Event::Writable(_) => {}
                Event::Close { id, .. } => {
                    self.dials.retain(|other| *other != id);
                    self.held.retain(|other| *other != id);
                }
            }
        }
        for sent in 0.. {
            assert!(sent < 20_000, "packets without end");
            if self.transmit().is_none() {
                break;
            }
        }
    }

    /// Takes a datagram that leaves, and notes what it was.
    fn transmit(&mut self) -> Option<()> {
        let mut out = [0; DATAGRAM_MAX];
        let Transmit { len, addr: to, .. } = self.tunnel.poll_transmit(self.now, &mut out)?;
        assert!(len <= DATAGRAM_MAX);
        let source = self.sources.entry(to).or_default();
        source.answered += len;
        let packet = match &mut self.sealing {
            Some(sealing) => sealing.open(&mut out[..len]).expect("it has the key"),
            None => &mut out[..len],
        };
        if let Some(Control::Ping(value)) = Control::read(packet) {
            source.ping = Some(value);
        } else if packet[..4] != [0; 4] {
            assert!(packet.len() >= HEADER, "{packet:?}");
        }
        Some(())
    }
}

/// A packet of a session that is nearly right.
fn odd(bytes: &mut Bytes) -> Vec<u8> {
    let number = |bytes: &mut Bytes| match bytes.below(8) {
        0 => u32::MAX - u32::from(bytes.byte()),
        1 => 0x7FFF_FFFF + u32::from(bytes.byte()),
        2 => bytes.word(),
        3 => bytes.short().into(),
        _ => bytes.below(8) as u32,
    };
    let mut packet = Vec::new();
    let conv = bytes.below(4) as u32;
    for _ in 0..=bytes.below(4) {
        let len = bytes.below(24);
        let mut data = bytes.take(len);
        let cmd = match bytes.byte() {
            n @ 0..16 => n + 75,
            n => bytes_cmd(n),
        };
        let honest = bytes.byte();
        if cmd != cmd::PUSH && honest < 250 {
            data = &[];
        }
        let header = Header {
            conv,
            cmd,
            frg: u8::from(honest == 1),
            wnd: bytes.pick(&[0, 1, 128, u16::MAX]),
            ts: number(bytes),
            sn: number(bytes),
            una: number(bytes),
            len: data.len() as u32 + u32::from(honest == 2),
        };
        packet.extend(header.to_wire());
        packet.extend(data);
    }
    packet
}

fn bytes_cmd(n: u8) -> u8 {
    [cmd::PUSH, cmd::PUSH, cmd::ACK, cmd::WASK, cmd::WINS][usize::from(n) % 5]
}
