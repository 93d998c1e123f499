//! Two tunnels and a schedule of faults: each datagram's fate, addresses that change, machines that sleep, and somebody who
//! records and plays again. Whatever it is, what arrives is right and nothing stays behind; and where neither end was
//! restarted, every connection ends in order. (The simulator looks at every byte that is read.)

use super::{Bytes, Play, play};
use crate::sim::link::{Fate, Shape};
use crate::sim::{Options, Role, World};
use kcptun::crypto::Method;
use kcptun::settings::{Flush, Settings};
use kcptun::time::{Duration, SEC};

/// What a case does at most.
const STEPS: usize = 60;
const CONNECTIONS: usize = 6;

struct Case {
    world: World,
    sealed: bool,
    both: bool,
    convs: Vec<u32>,
    moves: usize,
    /// Of both ends.
    slept: Duration,
    /// Nothing has happened that may end a connection before its time.
    gentle: bool,
    /// An end was started anew: it may take a datagram for new that was held back since before, and then a connection's
    /// number is there twice.
    restarted: bool,
}

pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let case = Case::new(&mut bytes);
    play(case, &mut bytes, STEPS);
}

impl Play for Case {
    fn step(&mut self, bytes: &mut Bytes) {
        let what = bytes.byte();
        log::debug!("{:?} step {}", self.world.now, what % 16);
        match what % 16 {
            0..3 => self.connect(bytes),
            3..7 => self.faults(bytes),
            7..10 => {
                let span = bytes.span(23);
                self.run(span);
            }
            10 if self.sealed && !self.both => {
                self.moves += 1;
                let addr = format!("198.51.100.{}:{}", self.moves, 1_000 + self.moves);
                self.world.move_to(0, &addr);
                if bytes.flag() {
                    let now = self.world.now;
                    self.world.ends[0].tunnel.network_changed(now);
                    self.world.settle(0);
                }
            }
            11 if self.sealed && !self.both => {
                self.moves += 1;
                let addr = format!("203.0.113.{}:2000", self.moves);
                self.world.move_to(1, &addr);
            }
            12 => {
                let end = bytes.below(2);
                let span = bytes.span(26);
                self.slept += span;
                self.gentle &= self.slept < Settings::default().timeout / 2;
                self.world.sleep(end, true);
                self.run(span);
                self.world.sleep(end, false);
            }
            13 if self.sealed => self.play(bytes),
            14 => {
                let (end, n, stalled) = (bytes.below(2), bytes.below(CONNECTIONS), bytes.flag());
                if let Some(conv) = self.convs.get(n) {
                    self.world.stall(end, *conv, stalled);
                }
            }
            15 => self.harm(bytes),
            _ => {}
        }
    }

    fn check(&mut self) {
        if !self.restarted {
            self.world.check();
        }
        for end in &self.world.ends {
            let held = end.tunnel.holdings();
            let most = 2 * (self.convs.len() + self.moves + 1);
            assert!(
                held.sessions <= self.convs.len() && held.paths <= most,
                "{held:?}"
            );
            assert!(
                held.timers <= 2 * most && held.waiting <= 32 * most,
                "{held:?}"
            );
            assert!(held.packets == 0 && held.queued <= 2 * most, "{held:?}");
        }
    }

    fn end(mut self) {
        for link in &mut self.world.links {
            link.fates.clear();
        }
        for conv in self.convs.clone() {
            (0..2).for_each(|end| self.world.stall(end, conv, false));
        }
        // what was held back the longest has arrived
        self.run(10 * SEC);
        let rests = |world: &World| {
            let mut ends = world.ends.iter();
            ends.all(|end| end.tunnel.is_quiet() && end.tcp.is_empty())
        };
        for _ in 0..3_000 {
            if rests(&self.world) {
                break;
            }
            self.run(SEC);
        }
        self.check();
        let left = |i: usize| {
            let end = &self.world.ends[i];
            format!("{i}: {:?} {:?}", end.tunnel.holdings(), end.tcp)
        };
        assert!(rests(&self.world), "{}\n{}", left(0), left(1));
        for conv in self.convs.iter().filter(|_| self.gentle) {
            self.world.assert_clean(*conv);
        }
        // and once more for a packet that had to wait for its sender's proof
        self.world.run_for(2 * Settings::default().time_wait);
        for end in &self.world.ends {
            assert_eq!(end.tunnel.holdings().ended, 0);
        }
    }
}

impl Case {
    fn new(bytes: &mut Bytes) -> Case {
        let method = bytes.pick(&[
            Some(Method::Chacha20Poly1305Ietf),
            Some(Method::Xchacha20Poly1305Ietf),
            None,
        ]);
        let flags = bytes.byte();
        let (paced, both) = (flags & 1 == 0, flags & 2 != 0);
        let flush = bytes.pick(&[Flush::AfterSend, Flush::AcksToo, Flush::Interval]);
        let mtu = 300 + 10 * u16::from(bytes.byte()) % 1_200;
        let mut world = World::new(Options {
            method,
            shapes: [Shape {
                delay: bytes.span(18),
                ..Shape::default()
            }; 2],
            clock_offset: bytes.pick(&[0, 77, 0x7FFF_F800, 0xFFFF_F000]),
            both,
            met: flags & 4 == 0,
            tune: Some(Box::new(move |settings: &mut Settings| {
                settings.kcp.flush = flush;
                settings.kcp.mtu = mtu;
                settings.rate.control = paced;
                settings.linger = 600 * SEC;
            })),
            ..Options::default()
        });
        world.sniffed = Some(Vec::new());
        world.dial_delay = bytes.span(21);
        Case {
            world,
            sealed: method.is_some(),
            both,
            convs: Vec::new(),
            moves: 0,
            slept: Duration::ZERO,
            gentle: true,
            restarted: false,
        }
    }

    fn connect(&mut self, bytes: &mut Bytes) {
        if self.convs.len() >= CONNECTIONS {
            return;
        }
        let mut send = || Role::Send {
            bytes: bytes.magnitude(18),
            fin: true,
        };
        let (role, service) = (send(), send());
        let service = match bytes.below(3) {
            0 => Role::Echo,
            _ => service,
        };
        let end = if self.both { bytes.below(2) } else { 0 };
        self.convs.push(self.world.connect_at(end, role, service).1);
    }

    /// The fates of the next datagrams of one direction.
    fn faults(&mut self, bytes: &mut Bytes) {
        let link = bytes.below(2);
        for _ in 0..=bytes.below(16) {
            let fate = match bytes.byte() {
                0..80 => Fate::Drop,
                80..130 => Fate::Delay(bytes.span(22)),
                130..160 => Fate::Repeat(bytes.span(22)),
                160..180 if self.sealed => Fate::Truncate(bytes.byte().into()),
                180..200 if self.sealed => Fate::Corrupt(bytes.byte().into(), bytes.byte().max(1)),
                _ => Fate::Pass,
            };
            self.world.links[link].fates.push_back(fate);
        }
    }

    /// Somebody plays what has passed, from its sender's address or from elsewhere.
    fn play(&mut self, bytes: &mut Bytes) {
        let sniffed = self.world.sniffed.take().unwrap_or_default();
        for _ in 0..=bytes.below(8) {
            let place = usize::from(bytes.short());
            let Some((by, datagram)) = sniffed.get(place % sniffed.len().max(1)) else {
                break;
            };
            let from = match bytes.flag() {
                true => "192.0.2.66:6".to_owned(),
                false => self.world.ends[*by].addr.to_string(),
            };
            self.world.inject(1 - by, &from, datagram);
        }
        self.world.sniffed = Some(sniffed);
    }

    /// What connections may not survive.
    fn harm(&mut self, bytes: &mut Bytes) {
        let (end, n) = (bytes.below(2), bytes.below(CONNECTIONS));
        self.gentle = false;
        match bytes.below(8) {
            0 => {
                self.restarted = true;
                self.world.restart(end);
            }
            1 => self.world.shutdown(end),
            _ => {
                let id = self.convs.get(n).and_then(|conv| self.world.id(end, *conv));
                if let Some(id) = id {
                    self.world.reset(end, id);
                }
            }
        }
    }

    /// Runs, with the name of the server resolved again when the client's tunnel asks for it.
    fn run(&mut self, span: Duration) {
        let end = self.world.now.after(span);
        while self.world.now < end {
            let step = self.world.now.after(SEC).min(end);
            self.world.run_until(step);
            self.world.resolve();
        }
    }
}
