//! A network of any number of tunnels, some of them behind NATs, under one virtual clock. The path is simple (a delay and a
//! chance of loss): what a path does to transfers is in `sim`.

use super::{Role, Tcp, key, pattern};
use kcptun::crypto::{Method, Sealing};
use kcptun::path::Local;
use kcptun::settings::Settings;
use kcptun::time::{Duration, Instant, MS};
use kcptun::tunnel::{DATAGRAM_MAX, Event, SessionId, Transmit, Tunnel};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// A NAT box: one inside host's addresses become ports of the outside address. Mapping does not depend on where a datagram
/// goes, unless `symmetric`; what comes in passes only from where something went out to.
pub struct Nat {
    pub outside: IpAddr,
    /// Another port for every place that is sent to.
    pub symmetric: bool,
    /// What comes in passes from anywhere.
    pub full_cone: bool,
    next_port: u16,
    /// Inside address (and target, if symmetric) to outside port.
    ports: HashMap<(SocketAddr, Option<SocketAddr>), u16>,
    /// Outside port to inside address.
    back: HashMap<u16, SocketAddr>,
    /// Who may send to an outside port.
    open: HashSet<(u16, SocketAddr)>,
}

impl Nat {
    pub fn new(outside: &str, symmetric: bool) -> Nat {
        Nat {
            outside: outside.parse().unwrap(),
            symmetric,
            full_cone: false,
            next_port: 40_000,
            ports: HashMap::new(),
            back: HashMap::new(),
            open: HashSet::new(),
        }
    }

    /// Forgets all mappings; new ones get other ports, and another address if one is given.
    pub fn forget(&mut self, outside: Option<&str>) {
        self.ports.clear();
        self.back.clear();
        self.open.clear();
        self.next_port += 1_000;
        if let Some(outside) = outside {
            self.outside = outside.parse().unwrap();
        }
    }

    /// Maps an inside address to a port for good, as an operator would.
    pub fn forward(&mut self, inside: SocketAddr, port: u16) {
        self.ports.insert((inside, None), port);
        self.back.insert(port, inside);
    }

    /// A datagram leaves: the address that it seems to come from outside.
    pub fn leave(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let next = self.next_port;
        let key = (from, self.symmetric.then_some(to));
        let port = *self.ports.entry(key).or_insert(next);
        if port == next {
            self.next_port += 1;
            self.back.insert(port, from);
        }
        self.open.insert((port, to));
        SocketAddr::new(self.outside, port)
    }

    /// A datagram comes in: whereto inside, if it may.
    pub fn enter(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if !self.full_cone {
            self.open.get(&(to.port(), from))?;
        }
        self.back.get(&to.port()).copied()
    }
}

pub struct Node {
    pub tunnel: Tunnel,
    pub addr: SocketAddr,
    pub nat: Option<usize>,
    pub tcp: HashMap<SessionId, Tcp>,
    pub sent: u64,
    /// Bytes of datagrams that it was sent by addresses, and that it sent there.
    pub bytes: HashMap<SocketAddr, (usize, usize)>,
    /// Where its datagrams went.
    pub targets: HashSet<SocketAddr>,
}

/// When it arrives, its number, from where, to where, and its bytes.
type OnTheWay = (Instant, u64, SocketAddr, SocketAddr, Vec<u8>);

pub struct Net {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub nats: Vec<Nat>,
    pub loss: f64,
    pub method: Option<Method>,
    /// Nodes that neither send nor receive.
    pub dead: HashSet<usize>,
    wire: BinaryHeap<Reverse<OnTheWay>>,
    serial: u64,
    rng: SmallRng,
    seed: u64,
}

const DELAY: Duration = Duration::from_millis(20);

impl Net {
    pub fn new(seed: u64, method: Option<Method>) -> Net {
        Net {
            now: Instant::from_millis(1_000),
            nodes: Vec::new(),
            nats: Vec::new(),
            loss: 0.0,
            method,
            dead: HashSet::new(),
            wire: BinaryHeap::new(),
            serial: 0,
            rng: SmallRng::seed_from_u64(seed),
            seed,
        }
    }

    pub fn tunnel(&mut self, mut settings: Settings) -> Tunnel {
        self.seed += 1;
        settings.sealing = self.method.map(|m| Sealing::new(m, &key()));
        settings.seed = self.seed;
        settings.clock_offset = self.rng.random();
        Tunnel::new(settings, self.now)
    }

    pub fn add(&mut self, addr: &str, nat: Option<usize>, settings: Settings) -> usize {
        let tunnel = self.tunnel(settings);
        self.nodes.push(Node {
            tunnel,
            addr: addr.parse().unwrap(),
            nat,
            tcp: HashMap::new(),
            sent: 0,
            bytes: HashMap::new(),
            targets: HashSet::new(),
        });
        self.nodes.len() - 1
    }

    /// A datagram enters the network in the name of `from`, whoever sent it.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.serial += 1;
        let item = (
            self.now.after(DELAY),
            self.serial,
            from,
            to,
            datagram.to_vec(),
        );
        self.wire.push(Reverse(item));
    }

    /// A program connects at a node, sends so many bytes and wants them back.
    pub fn connect(&mut self, node: usize, bytes: u64) -> Option<SessionId> {
        let n = &mut self.nodes[node];
        let id = n.tunnel.open(self.now).ok()?;
        let role = Role::Send { bytes, fin: false };
        n.tcp.insert(id, Tcp::new(role, 5, 5));
        self.serve(node, id);
        self.settle(node);
        Some(id)
    }

    /// Lets a program send more.
    pub fn more(&mut self, node: usize, id: SessionId, bytes: u64) {
        let tcp = self.nodes[node].tcp.get_mut(&id).expect("a connection");
        tcp.role = Role::Send { bytes, fin: false };
        self.serve(node, id);
        self.settle(node);
    }

    pub fn received(&self, node: usize, id: SessionId) -> u64 {
        self.nodes[node].tcp.get(&id).map_or(0, |tcp| tcp.received)
    }

    /// Runs until it holds; false if it does not within `span`.
    pub fn until(&mut self, span: Duration, mut holds: impl FnMut(&mut Net) -> bool) -> bool {
        let end = self.now.after(span);
        while self.now < end {
            if holds(self) {
                return true;
            }
            self.run_for(50 * MS);
        }
        holds(self)
    }

    pub fn run_for(&mut self, span: Duration) {
        let end = self.now.after(span);
        for i in 0..self.nodes.len() {
            self.settle(i);
        }
        let mut steps = 0;
        loop {
            let wire = self.wire.peek().map(|Reverse(item)| item.0);
            let dues = self.nodes.iter().filter_map(|n| n.tunnel.poll_timeout());
            let Some(next) = dues.chain(wire).min().filter(|t| *t <= end) else {
                break;
            };
            if next > self.now {
                (self.now, steps) = (next, 0);
            }
            steps += 1;
            assert!(steps < 100_000, "time stands still at {:?}", self.now);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        while self
            .wire
            .peek()
            .is_some_and(|Reverse(item)| item.0 <= self.now)
        {
            let Some(Reverse((_, _, from, to, mut datagram))) = self.wire.pop() else {
                break;
            };
            let Some(node) = self.route(from, to) else {
                continue;
            };
            let n = &mut self.nodes[node];
            n.bytes.entry(from).or_default().0 += datagram.len();
            n.tunnel
                .receive(self.now, from, Local::default(), &mut datagram);
            self.settle(node);
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node]
                .tunnel
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.nodes[node].tunnel.handle_timeout(self.now);
                self.settle(node);
            }
        }
    }

    /// Whom a datagram reaches that is in the network's middle, or behind the same NAT as its sender.
    fn route(&self, from: SocketAddr, to: SocketAddr) -> Option<usize> {
        let living = |i: &usize| !self.dead.contains(i);
        if let Some(nat) = self.nats.iter().position(|nat| nat.outside == to.ip()) {
            let inside = self.nats[nat].enter(from, to)?;
            let here = |n: &Node| n.nat == Some(nat) && n.addr == inside;
            return self.nodes.iter().position(here).filter(living);
        }
        let here = |n: &Node| n.nat.is_none() && n.addr == to;
        self.nodes.iter().position(here).filter(living)
    }

    pub fn settle(&mut self, i: usize) {
        while let Some(event) = self.nodes[i].tunnel.poll() {
            match event {
                Event::Dial(id) => {
                    let tcp = Tcp::new(Role::Echo, 5, 5);
                    self.nodes[i].tcp.insert(id, tcp);
                    self.nodes[i].tunnel.dialled(self.now, id);
                    self.serve(i, id);
                }
                Event::Readable(id) | Event::Writable(id) => self.serve(i, id),
                Event::Close { id, .. } => {
                    self.nodes[i].tcp.remove(&id);
                }
            }
        }
        let mut out = [0; DATAGRAM_MAX];
        while let Some(Transmit { len, addr: to, .. }) =
            self.nodes[i].tunnel.poll_transmit(self.now, &mut out)
        {
            let n = &mut self.nodes[i];
            n.sent += 1;
            n.bytes.entry(to).or_default().1 += len;
            n.targets.insert(to);
            if self.dead.contains(&i) {
                continue;
            }
            // behind the same NAT there is nothing between them
            let near = self.nodes.iter().any(|other| {
                self.nodes[i].nat.is_some() && other.nat == self.nodes[i].nat && other.addr == to
            });
            let from = match self.nodes[i].nat {
                Some(nat) if !near => self.nats[nat].leave(self.nodes[i].addr, to),
                _ => self.nodes[i].addr,
            };
            if self.rng.random_bool(self.loss) {
                continue;
            }
            if near {
                let j = self.nodes.iter().position(|n| n.addr == to).unwrap();
                let mut datagram = out[..len].to_vec();
                self.nodes[j]
                    .tunnel
                    .receive(self.now, from, Local::default(), &mut datagram);
                continue;
            }
            self.inject(from, to, &out[..len]);
        }
    }

    fn serve(&mut self, i: usize, id: SessionId) {
        let (now, n) = (self.now, &mut self.nodes[i]);
        let Some(tcp) = n.tcp.get_mut(&id) else {
            return;
        };
        while !n.tunnel.output(id).is_empty() {
            let bytes = n.tunnel.output(id);
            let expected = pattern(5, tcp.received, bytes.len());
            let len = expected.len();
            assert!(bytes[..len] == *expected, "a byte out of place");
            tcp.received += len as u64;
            n.tunnel.consumed(now, id, len);
        }
        while tcp.may_send() > 0 {
            let room = n.tunnel.input(id);
            if room.is_empty() {
                return;
            }
            let most = (room.len() as u64).min(tcp.may_send()) as usize;
            let bytes = pattern(5, tcp.sent, most);
            let len = bytes.len();
            room[..len].copy_from_slice(bytes);
            tcp.sent += len as u64;
            n.tunnel.filled(now, id, len);
        }
    }
}
