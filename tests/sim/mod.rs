//! A world in a box: two whole tunnels (everything but `event/`) under one virtual clock, joined by two links, with
//! TCP connections and programs at both ends. Minutes pass in milliseconds, and a seed repeats them exactly.

// The tests and each of the examples use their part of it.
#![allow(dead_code)]

pub mod line;
pub mod lines;
pub mod link;
pub mod measure;
pub mod nat;
pub mod rival;

use kcptun::crypto::{Key, Method, Sealing};
use kcptun::message::Control;
use kcptun::path::{Local, headers};
use kcptun::settings::Settings;
use kcptun::time::{Duration, Instant, MS};
use kcptun::tunnel::{DATAGRAM_MAX, Event, Fit, SessionId, Transmit, Tunnel};
use link::{Link, Shape};
use nat::Nat;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::LazyLock;

/// What the program at one end of a TCP connection does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Sends so many bytes, then ends its stream if `fin`.
    Send { bytes: u64, fin: bool },
    /// Sends back what it gets, and ends its stream when that has ended.
    Echo,
    /// Once it has read `request` bytes, sends so many and ends its stream if `fin`.
    Serve { request: u64, bytes: u64, fin: bool },
    /// Answers the dial with a refusal.
    Refuse,
}

/// One TCP connection at one end, and its program.
#[derive(Debug)]
pub struct Tcp {
    pub role: Role,
    seed: u64,
    far_seed: u64,
    pub sent: u64,
    pub received: u64,
    pub fin_sent: bool,
    pub fin_received: bool,
    /// Some(true): ended by a reset.
    pub closed: Option<bool>,
    /// The program does not read.
    pub stalled: bool,
    /// Bytes a script has let go, for `Role::Send`: it sends no more than this.
    pub allowed: u64,
    pub closed_at: Option<Instant>,
    /// When `received` reached what, if asked for.
    pub arrivals: Option<Vec<(Instant, u64)>>,
    /// The program connected; it was not dialled.
    pub opener: bool,
}

impl Tcp {
    fn new(role: Role, seed: u64, far_seed: u64) -> Tcp {
        Tcp {
            role,
            seed,
            far_seed,
            sent: 0,
            received: 0,
            fin_sent: false,
            fin_received: false,
            closed: None,
            stalled: false,
            allowed: u64::MAX,
            closed_at: None,
            arrivals: None,
            opener: false,
        }
    }

    fn may_send(&self) -> u64 {
        let upto = match self.role {
            Role::Send { bytes, .. } => bytes.min(self.allowed),
            Role::Echo => self.received,
            Role::Serve { request, bytes, .. } if self.received >= request => bytes,
            Role::Serve { .. } | Role::Refuse => 0,
        };
        upto - self.sent.min(upto)
    }

    fn may_finish(&self) -> bool {
        match self.role {
            Role::Send { bytes, fin } => fin && self.sent >= bytes,
            Role::Serve {
                request,
                bytes,
                fin,
            } => fin && self.received >= request && self.sent >= bytes,
            Role::Echo => self.fin_received && self.sent >= self.received,
            Role::Refuse => false,
        }
    }
}

/// What programs write, over and over. The length is a prime, so that nothing that is sent in pieces of a size fits a lap later.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; 1_000_003];
    SmallRng::seed_from_u64(0).fill(&mut bytes[..]);
    bytes
});

/// What a program writes from a place in its stream on, `most` bytes or less: a byte out of place is noticed.
fn pattern(seed: u64, at: u64, most: usize) -> &'static [u8] {
    let bytes =
        &PATTERN[(at.wrapping_add(seed.wrapping_mul(997)) % PATTERN.len() as u64) as usize..];
    &bytes[..bytes.len().min(most)]
}

pub struct End {
    pub tunnel: Tunnel,
    pub addr: SocketAddr,
    pub tcp: HashMap<SessionId, Tcp>,
    /// Connections that are over, by session number.
    pub over: HashMap<u32, Tcp>,
    numbers: HashMap<SessionId, u32>,
    dirty: Vec<SessionId>,
    /// Dials that are answered later.
    dials: Vec<(Instant, SessionId)>,
    pub dials_seen: u64,
    /// How often the clock woke it.
    pub wakeups: u64,
    /// It is suspended: it sees neither datagrams nor the clock.
    pub asleep: bool,
    /// It has so many UDP sockets; the first is at the port of `addr`, and each of the others at the next.
    pub sockets: u16,
}

impl End {
    /// Where its socket of this number is.
    pub fn socket(&self, number: u16) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.addr.port() + number)
    }

    /// The number of its socket that is at an address.
    fn number_of(&self, addr: SocketAddr) -> Option<u16> {
        let number = addr.port().checked_sub(self.addr.port())?;
        (addr.ip() == self.addr.ip() && number < self.sockets).then_some(number)
    }
}

pub struct World {
    pub now: Instant,
    /// 0: the peer, where connections begin; 1: the server.
    pub ends: [End; 2],
    /// links[i] carries from ends[i].
    pub links: [Link; 2],
    /// carries[i]: the largest IP packets, bytes, that pass from ends[i]; what is longer vanishes without a word, unless it may
    /// be cut up, and fragments pass.
    pub carries: [usize; 2],
    pub fragments_pass: bool,
    /// What the service does with the connection of a session number.
    pub services: HashMap<u32, Role>,
    pub default_service: Role,
    pub record: bool,
    /// What `Role::Send` of the next connections may send before a script lets go of more.
    pub allowed: u64,
    pub dial_delay: Duration,
    /// `Tcp::allowed` of a connection that is dialled.
    pub service_allowed: u64,
    scripts: Vec<(Instant, usize, SessionId, u64)>,
    serial: u64,
    out: Vec<u8>,
    options: Options,
    /// Steps since the clock last moved: a tunnel that asks to be woken at once, for ever, is noticed.
    steps: u32,
    /// Every datagram that was sent, if asked for: by which end, and its bytes.
    pub sniffed: Option<Vec<(usize, Vec<u8>)>>,
    /// What was sent to addresses where neither end is, nor ever was: whereto, and how many bytes.
    pub astray: Vec<(SocketAddr, usize)>,
    /// Addresses that the ends had.
    left: Vec<SocketAddr>,
    /// What is sent from here gets lost.
    pub closed: Option<SocketAddr>,
    /// What the ends are behind.
    pub nats: [Option<Nat>; 2],
    /// Every datagram that was sent, if asked for, those to addresses where nobody is as well: by which end, where to, its bytes.
    pub tap: Option<Vec<(usize, SocketAddr, Vec<u8>)>>,
}

/// A change to the settings of both ends.
pub type Tune = Box<dyn Fn(&mut Settings)>;

pub struct Options {
    pub seed: u64,
    pub method: Option<Method>,
    /// None: the same key in every world.
    pub key: Option<Key>,
    pub start: Instant,
    pub clock_offset: u32,
    pub shapes: [Shape; 2],
    pub adjust: fn(&mut Settings),
    /// As `adjust`, for what a test has drawn.
    pub tune: Option<Tune>,
    /// Either end opens and accepts sessions.
    pub both: bool,
    /// The ends have pinged each other before the test begins.
    pub met: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 1,
            method: None,
            key: None,
            start: Instant::from_millis(1_000),
            clock_offset: 77,
            shapes: [Shape::default(); 2],
            adjust: |_| {},
            tune: None,
            both: false,
            met: true,
        }
    }
}

fn settings(options: &Options, server: bool, key: &Key) -> Settings {
    let mut settings = Settings {
        sealing: options.method.map(|m| Sealing::new(m, key)),
        accepts: server || options.both,
        clock_offset: options.clock_offset.wrapping_mul(1 + u32::from(server)),
        seed: options.seed * 2 + u64::from(server),
        ..Settings::default()
    };
    // as the limits of tests were measured with
    settings.kcp.mtu = 1400;
    (options.adjust)(&mut settings);
    if let Some(tune) = &options.tune {
        tune(&mut settings);
    }
    settings
}

pub fn key() -> Key {
    Key::from_password("of this world")
}

/// Plays somebody at `addr` who shows a tunnel that they receive there. What else it has to send is lost.
pub fn prove(tunnel: &mut Tunnel, now: Instant, addr: SocketAddr, mut sealing: Option<Sealing>) {
    let say = |sealing: &mut Option<Sealing>, tunnel: &mut Tunnel, message: Control| {
        let mut packet = message.to_wire().to_vec();
        // without a key, enough for a pong and a ping
        packet.resize(100, 0);
        let len = 20;
        let len = sealing.as_mut().map_or(len, |s| s.seal(&mut packet, len));
        tunnel.receive(now, addr, Local::default(), &mut packet[..len]);
    };
    say(&mut sealing, tunnel, Control::Ping(1));
    let (mut out, mut asked) = ([0; DATAGRAM_MAX], None);
    while let Some(Transmit { len, addr: to, .. }) = tunnel.poll_transmit(now, &mut out) {
        let mut datagram = out[..len].to_vec();
        let packet = match &mut sealing {
            Some(sealing) => sealing.open(&mut datagram).expect("our key"),
            None => &mut datagram[..],
        };
        match Control::read(packet) {
            Some(Control::Ping(cookie)) if to == addr => asked = Some(cookie),
            _ => {}
        }
    }
    say(&mut sealing, tunnel, Control::Pong(asked.expect("a ping")));
}

impl World {
    pub fn new(options: Options) -> World {
        let usual = key();
        let key = options.key.as_ref().unwrap_or(&usual);
        let addrs: [SocketAddr; 2] = [
            "192.0.2.1:1000".parse().unwrap(),
            "192.0.2.2:2000".parse().unwrap(),
        ];
        let end = |i: usize| End {
            tunnel: Tunnel::new(settings(&options, i == 1, key), options.start),
            addr: addrs[i],
            tcp: HashMap::new(),
            over: HashMap::new(),
            numbers: HashMap::new(),
            dirty: Vec::new(),
            dials: Vec::new(),
            dials_seen: 0,
            wakeups: 0,
            asleep: false,
            sockets: 1,
        };
        let link = |i: usize| {
            Link::new(
                options.shapes[i],
                options.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i as u64,
            )
        };
        let mut world = World {
            now: options.start,
            ends: [end(0), end(1)],
            links: [link(0), link(1)],
            carries: [usize::MAX; 2],
            fragments_pass: true,
            services: HashMap::new(),
            default_service: Role::Echo,
            record: false,
            allowed: u64::MAX,
            dial_delay: Duration::ZERO,
            service_allowed: u64::MAX,
            scripts: Vec::new(),
            serial: 0,
            out: vec![0; DATAGRAM_MAX],
            options,
            steps: 0,
            sniffed: None,
            astray: Vec::new(),
            left: Vec::new(),
            closed: None,
            nats: [None, None],
            tap: None,
        };
        if world.options.met {
            world.meet();
        }
        for i in 0..2 {
            world.find_peer(i);
        }
        world
    }

    /// The proof that either end receives at its address is there already.
    fn meet(&mut self) {
        let key = self.options.key.clone().unwrap_or_else(key);
        for i in 0..2 {
            let sealing = self.options.method.map(|m| Sealing::new(m, &key));
            let from = self.ends[1 - i].addr;
            if i == 1 || self.options.both {
                prove(&mut self.ends[i].tunnel, self.now, from, sealing);
            }
        }
    }

    /// An end is at another address from now on, and does not know.
    pub fn move_to(&mut self, i: usize, addr: &str) {
        let addr = addr.parse().unwrap();
        let end = &self.ends[i];
        self.left.extend((0..end.sockets).map(|n| end.socket(n)));
        self.ends[i].addr = addr;
    }

    /// The machine of an end sleeps, or wakes up.
    pub fn sleep(&mut self, i: usize, asleep: bool) {
        self.ends[i].asleep = asleep;
        if !asleep {
            self.settle(i);
        }
    }

    /// What the daemon does when the peer is silent: it resolves its name again.
    pub fn resolve(&mut self) {
        let (now, at) = (self.now, self.ends[1].addr);
        let tunnel = &mut self.ends[0].tunnel;
        let silent = tunnel.peer_silent_at().is_some_and(|since| since <= now);
        if silent && !self.ends[0].asleep && tunnel.peer() != Some(at) {
            tunnel.set_peer(now, at);
            self.settle(0);
        }
    }

    /// What the daemon does when the peer is heard and does not hear: it goes on from another port.
    pub fn change_port(&mut self) {
        let now = self.now;
        let deaf = self.ends[0].tunnel.peer_deaf_at();
        if deaf.is_some_and(|since| since <= now) {
            let SocketAddr::V4(at) = self.ends[0].addr else {
                return;
            };
            self.move_to(0, &format!("{}:{}", at.ip(), at.port() + 1));
            self.ends[0].tunnel.network_changed(now);
            self.settle(0);
        }
    }

    /// Somebody sends an end a datagram.
    pub fn inject(&mut self, end: usize, from: &str, datagram: &[u8]) {
        let tunnel = &mut self.ends[end].tunnel;
        tunnel.receive(
            self.now,
            from.parse().unwrap(),
            Local::default(),
            &mut datagram.to_vec(),
        );
        self.settle(end);
    }

    fn find_peer(&mut self, i: usize) {
        if i == 0 || self.options.both {
            let peer = self.ends[1 - i].addr;
            self.ends[i].tunnel.set_peer(self.now, peer);
            self.settle(i);
        }
    }

    /// The daemon at an end is killed and started again: it knows nothing, and its TCP connections are reset.
    pub fn restart(&mut self, i: usize) {
        self.options.seed += 1_000_003;
        let fresh = Tunnel::new(settings(&self.options, i == 1, &key()), self.now);
        let now = self.now;
        let end = &mut self.ends[i];
        end.tunnel = fresh;
        end.dials.clear();
        end.dirty.clear();
        for (id, mut tcp) in end.tcp.drain() {
            tcp.closed = Some(true);
            tcp.closed_at = Some(now);
            if let Some(conv) = end.numbers.remove(&id) {
                end.over.insert(conv, tcp);
            }
        }
        self.find_peer(i);
    }

    /// What seals the packets.
    pub fn method(&self) -> Option<Method> {
        self.options.method
    }

    /// Both ways of the path become this.
    pub fn set_shape(&mut self, shape: Shape) {
        self.links[0].shape = shape;
        self.links[1].shape = shape;
    }

    /// A program connects at the peer; what answers at the server is `service`.
    pub fn connect(&mut self, role: Role, service: Role) -> (SessionId, u32) {
        self.connect_at(0, role, service)
    }

    /// A program connects at an end.
    pub fn connect_at(&mut self, i: usize, role: Role, service: Role) -> (SessionId, u32) {
        let id = self.ends[i].tunnel.open(self.now).expect("a session");
        let conv = self.ends[i].tunnel.conv(id).expect("its number");
        self.serial += 1;
        let mut tcp = Tcp::new(role, u64::from(conv), u64::from(conv) + 1);
        tcp.arrivals = self.record.then(Vec::new);
        tcp.allowed = self.allowed;
        tcp.opener = true;
        self.ends[i].tcp.insert(id, tcp);
        self.ends[i].numbers.insert(id, conv);
        self.services.insert(conv, service);
        self.ends[i].dirty.push(id);
        self.settle(i);
        (id, conv)
    }

    /// The place of a connection at an end, while it is there.
    pub fn id(&self, end: usize, conv: u32) -> Option<SessionId> {
        let mut numbers = self.ends[end].numbers.iter();
        numbers.find(|(_, c)| **c == conv).map(|(id, _)| *id)
    }

    /// The program at an end stops reading, or goes on.
    pub fn stall(&mut self, end: usize, conv: u32, stalled: bool) {
        let Some(id) = self.id(end, conv) else { return };
        if let Some(tcp) = self.ends[end].tcp.get_mut(&id) {
            tcp.stalled = stalled;
        }
        self.poke(end, id);
    }

    /// The daemon at an end stops in order.
    pub fn shutdown(&mut self, end: usize) {
        self.ends[end].tunnel.shutdown(self.now);
        self.settle(end);
    }

    /// What holds for every connection at every time: no end of stream is told that was not written, and none before
    /// every byte that was. (That the bytes are the right ones is checked as they are read.)
    pub fn check(&self) {
        for i in 0..2 {
            let living = self.ends[i].tcp.iter();
            let living = living.map(|(id, tcp)| (self.ends[i].numbers[id], tcp));
            let over = self.ends[i].over.iter().map(|(conv, tcp)| (*conv, tcp));
            for (conv, tcp) in living.chain(over) {
                let Some(far) = self.tcp(1 - i, conv) else {
                    assert_eq!(tcp.received, 0, "{conv:08x}: bytes from nobody");
                    assert!(!tcp.fin_received, "{conv:08x}: an end from nobody");
                    assert_ne!(tcp.closed, Some(false), "{conv:08x}: closed by nobody");
                    continue;
                };
                assert!(tcp.received <= far.sent, "{conv:08x}: {tcp:?} {far:?}");
                if tcp.fin_received {
                    assert!(far.fin_sent, "{conv:08x}: {tcp:?} {far:?}");
                    assert_eq!(tcp.received, far.sent, "{conv:08x}: truncated");
                }
                if tcp.closed == Some(false) {
                    let both = tcp.fin_received && tcp.fin_sent;
                    assert!(both, "{conv:08x}: a clean end in the middle: {tcp:?}");
                }
            }
        }
    }

    /// Both sides have had everything and ended in order.
    pub fn assert_clean(&self, conv: u32) {
        for i in 0..2 {
            let tcp = self.tcp(i, conv).expect("a connection at both ends");
            assert_eq!(tcp.closed, Some(false), "{conv:08x} at {i}: {tcp:?}");
        }
        self.check();
    }

    /// Lets the program at an end send up to `allowed` bytes from a time on.
    pub fn at(&mut self, time: Instant, end: usize, id: SessionId, allowed: u64) {
        self.scripts.push((time, end, id, allowed));
        self.scripts.sort_by_key(|s| std::cmp::Reverse(s.0));
    }

    /// The program at an end is gone: its TCP connection is reset.
    pub fn reset(&mut self, end: usize, id: SessionId) {
        self.ends[end].tunnel.broken(self.now, id);
        self.settle(end);
    }

    /// Has an end look at a connection again after its fields were changed.
    pub fn poke(&mut self, end: usize, id: SessionId) {
        self.ends[end].dirty.push(id);
        self.settle(end);
    }

    pub fn tcp(&self, end: usize, conv: u32) -> Option<&Tcp> {
        let e = &self.ends[end];
        e.over.get(&conv).or_else(|| {
            let id = e.numbers.iter().find(|(_, c)| **c == conv)?.0;
            e.tcp.get(id)
        })
    }

    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now.after(span));
    }

    pub fn run_until(&mut self, end: Instant) {
        World::run_together(std::slice::from_mut(self), end);
    }

    /// Runs worlds on one clock: they may share a bottleneck (`Link::share_bottleneck`).
    pub fn run_together(worlds: &mut [World], end: Instant) {
        let first = |worlds: &[World]| {
            let dues = worlds.iter().enumerate();
            dues.filter_map(|(i, world)| Some((world.next()?, i))).min()
        };
        while let Some((next, i)) = first(worlds).filter(|(next, _)| *next <= end) {
            worlds[i].step_at(next);
        }
        for world in worlds {
            world.now = world.now.max(end);
        }
    }

    fn step_at(&mut self, next: Instant) {
        if next > self.now {
            (self.now, self.steps) = (next, 0);
        }
        self.steps += 1;
        assert!(self.steps < 20_000, "time stands still at {:?}", self.now);
        self.step();
    }

    /// Until nothing is waiting any more but the memory of ended sessions and pings; at most `span`.
    pub fn run_to_rest(&mut self, span: Duration) -> bool {
        let end = self.now.after(span);
        while self.now < end {
            self.run_for(200 * MS);
            if self
                .ends
                .iter()
                .all(|e| e.tunnel.is_quiet() && e.tcp.is_empty())
            {
                return true;
            }
        }
        false
    }

    fn next(&self) -> Option<Instant> {
        let links = self.links.iter().filter_map(Link::due);
        let awake = self.ends.iter().filter(|e| !e.asleep);
        let tunnels = awake.filter_map(|e| e.tunnel.poll_timeout());
        let dials = self.ends.iter().flat_map(|e| e.dials.iter().map(|d| d.0));
        links
            .chain(tunnels)
            .chain(dials)
            .chain(self.scripts.last().map(|s| s.0))
            .min()
    }

    fn step(&mut self) {
        for to in 0..2 {
            let mut busy = false;
            let here = self.ends[to].addr;
            while let Some((mut datagram, addressed)) = self.links[1 - to].arrived_to(self.now) {
                let (from, whereto) = addressed.unwrap_or((self.ends[1 - to].addr, here));
                let inside = match &self.nats[to] {
                    Some(nat) => nat.enter(from, whereto),
                    None => Some(whereto),
                };
                let number = inside.and_then(|inside| self.ends[to].number_of(inside));
                let Some(socket) = number else {
                    continue;
                };
                if self.ends[to].asleep {
                    continue;
                }
                let local = Local { ip: None, socket };
                self.ends[to]
                    .tunnel
                    .receive(self.now, from, local, &mut datagram);
                busy = true;
            }
            while let Some(at) = self.ends[to].dials.iter().position(|d| d.0 <= self.now) {
                let (_, id) = self.ends[to].dials.remove(at);
                self.answer_dial(to, id);
                busy = true;
            }
            while self
                .scripts
                .last()
                .is_some_and(|s| s.0 <= self.now && s.1 == to)
            {
                let (_, _, id, allowed) = self.scripts.pop().unwrap();
                if let Some(tcp) = self.ends[to].tcp.get_mut(&id) {
                    tcp.allowed = allowed;
                }
                self.ends[to].dirty.push(id);
                busy = true;
            }
            let due = self.ends[to].tunnel.poll_timeout();
            if due.is_some_and(|at| at <= self.now) && !self.ends[to].asleep {
                self.ends[to].wakeups += 1;
                self.ends[to].tunnel.handle_timeout(self.now);
                busy = true;
            }
            if busy {
                self.settle(to);
            }
        }
    }

    /// Does what an end's event loop would: TCP, events, datagrams out.
    pub fn settle(&mut self, i: usize) {
        if self.ends[i].asleep {
            return;
        }
        loop {
            while let Some(event) = self.ends[i].tunnel.poll() {
                self.on_event(i, event);
            }
            let Some(id) = self.ends[i].dirty.pop() else {
                break;
            };
            self.serve(i, id);
        }
        while let Some(transmit) = self.ends[i].tunnel.poll_transmit(self.now, &mut self.out) {
            let mut sent = 0;
            while sent < transmit.len {
                let end = transmit.len.min(sent + transmit.segment);
                self.send(i, transmit, sent..end);
                sent = end;
            }
        }
    }

    /// Puts a datagram of a batch on an end's line.
    fn send(&mut self, i: usize, transmit: Transmit, place: Range<usize>) {
        let (datagram, to) = (&self.out[place], transmit.addr);
        let len = datagram.len();
        assert!(len <= DATAGRAM_MAX);
        if let Some(tap) = &mut self.tap {
            tap.push((i, to, datagram.to_vec()));
        }
        let cut = transmit.fit == Fit::Long && self.fragments_pass;
        if len + headers(&to) > self.carries[i] && !cut {
            return;
        }
        let known = self.ends[1 - i].number_of(to).is_some() || self.left.contains(&to);
        if !known && self.nats[1 - i].is_none() {
            self.astray.push((to, len));
            return;
        }
        if let Some(sniffed) = &mut self.sniffed {
            sniffed.push((i, datagram.to_vec()));
        }
        let socket = transmit.local.socket;
        // an end makes the socket that it sends from
        self.ends[i].sockets = self.ends[i].sockets.max(socket + 1);
        let inside = self.ends[i].socket(socket);
        let from = match &mut self.nats[i] {
            Some(nat) => nat.leave(inside, to),
            None => inside,
        };
        if self.closed == Some(from) {
            return;
        }
        let addressed = Some((from, to));
        self.links[i].offer_to(self.now, addressed, datagram);
    }

    fn on_event(&mut self, i: usize, event: Event) {
        match event {
            Event::Dial(id) => {
                self.ends[i].dials_seen += 1;
                let at = self.now.after(self.dial_delay);
                if !self.dial_delay.is_zero() {
                    self.ends[i].dials.push((at, id))
                } else {
                    self.answer_dial(i, id)
                }
            }
            Event::Readable(id) | Event::Writable(id) => self.ends[i].dirty.push(id),
            Event::Close { id, abort } => {
                let end = &mut self.ends[i];
                end.dials.retain(|d| d.1 != id);
                if let (Some(mut tcp), Some(conv)) = (end.tcp.remove(&id), end.numbers.remove(&id))
                {
                    tcp.closed = Some(abort);
                    tcp.closed_at = Some(self.now);
                    end.over.insert(conv, tcp);
                }
            }
        }
    }

    fn answer_dial(&mut self, i: usize, id: SessionId) {
        let Some(conv) = self.ends[i].tunnel.conv(id) else {
            return;
        };
        let role = self
            .services
            .get(&conv)
            .copied()
            .unwrap_or(self.default_service);
        if role == Role::Refuse {
            return self.ends[i].tunnel.dial_failed(self.now, id);
        }
        let mut tcp = Tcp::new(role, u64::from(conv) + 1, u64::from(conv));
        tcp.arrivals = self.record.then(Vec::new);
        tcp.allowed = self.service_allowed;
        self.ends[i].tcp.insert(id, tcp);
        self.ends[i].numbers.insert(id, conv);
        self.ends[i].tunnel.dialled(self.now, id);
        self.ends[i].dirty.push(id);
    }

    /// The program of one connection reads and writes what it can.
    fn serve(&mut self, i: usize, id: SessionId) {
        let (now, end) = (self.now, &mut self.ends[i]);
        let Some(tcp) = end.tcp.get_mut(&id) else {
            return;
        };
        while !tcp.stalled {
            let bytes = end.tunnel.output(id);
            if bytes.is_empty() {
                break;
            }
            let expected = pattern(tcp.far_seed, tcp.received, bytes.len());
            let n = expected.len();
            let right = bytes[..n] == *expected;
            assert!(right, "a byte out of place after {}", tcp.received);
            tcp.received += n as u64;
            if let Some(arrivals) = &mut tcp.arrivals {
                arrivals.push((now, tcp.received));
            }
            end.tunnel.consumed(now, id, n);
        }
        if !tcp.stalled && end.tunnel.output_ended(now, id) {
            tcp.fin_received = true;
        }
        while tcp.may_send() > 0 {
            let room = end.tunnel.input(id);
            if room.is_empty() {
                return;
            }
            let most = (room.len() as u64).min(tcp.may_send()) as usize;
            let bytes = pattern(tcp.seed, tcp.sent, most);
            let n = bytes.len();
            room[..n].copy_from_slice(bytes);
            tcp.sent += n as u64;
            end.tunnel.filled(now, id, n);
        }
        if tcp.may_finish() && !tcp.fin_sent {
            tcp.fin_sent = true;
            // the end is found by reading
            let _ = end.tunnel.input(id);
            end.tunnel.finished(now, id);
        }
    }
}
