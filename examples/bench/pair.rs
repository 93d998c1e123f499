//! Two whole tunnels and a stream from one to the other.

use crate::link::{Line, Shape};
use crate::{MTU, PATIENCE, cpu};
use kcptun::crypto::{Key, Method, Sealing};
use kcptun::path::Local;
use kcptun::settings::Settings;
use kcptun::time::Instant;
use kcptun::tunnel::{DATAGRAM_MAX, Event, SessionId, Transmit, Tunnel};
use std::net::SocketAddr;

/// What a run took.
pub struct Cost {
    pub cpu: f64,
    pub received: f64,
    /// Datagrams' lengths, of both directions.
    pub lengths: Vec<u16>,
    /// Packets of full size.
    pub most_in_flight: f64,
}

/// Two tunnels; the first sends.
pub struct Pair {
    now: Instant,
    ends: [Tunnel; 2],
    lines: [Line; 2],
    addrs: [SocketAddr; 2],
    out: Vec<u8>,
    received: f64,
}

impl Pair {
    pub fn new(method: Option<Method>, shape: Shape) -> Pair {
        let (now, key) = (Instant::from_millis(1_000), Key::generate());
        let end = |accepts| {
            let mut settings = Settings {
                sealing: method.map(|m| Sealing::new(m, &key)),
                accepts,
                ..Settings::default()
            };
            (settings.kcp.sndwnd, settings.kcp.rcvwnd) = (shape.window, shape.window);
            Tunnel::new(settings, now)
        };
        Pair {
            now,
            ends: [end(false), end(true)],
            lines: [Line::new(shape), Line::new(shape)],
            addrs: [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port))),
            out: vec![0; DATAGRAM_MAX],
            received: 0.0,
        }
    }

    pub fn run(mut self, bytes: f64) -> Cost {
        let (began, mut most_in_flight) = (cpu(), 0);
        self.ends[0].set_peer(self.now, self.addrs[1]);
        let id = self.ends[0].open(self.now).expect("room for a session");
        self.fill(0, id);
        self.settle(0);
        for step in 1_u64.. {
            let dues = self.lines.iter().filter_map(Line::due);
            let deadlines = self.ends.iter().filter_map(Tunnel::poll_timeout);
            self.now = dues.chain(deadlines).min().expect("a timer").max(self.now);
            (0..2).for_each(|i| self.step(i));
            if step % 256 == 0 {
                most_in_flight = most_in_flight.max(self.ends[0].holdings().in_flight);
            }
            let given_up = step % 1024 == 0 && cpu() - began > PATIENCE;
            if self.received >= bytes || given_up {
                break;
            }
        }
        let [there, back] = self.lines;
        Cost {
            cpu: cpu() - began,
            received: self.received,
            lengths: [there.lengths, back.lengths].concat(),
            most_in_flight: most_in_flight as f64 / MTU,
        }
    }

    fn step(&mut self, i: usize) {
        let mut busy = false;
        while let Some(mut datagram) = self.lines[1 - i].arrived(self.now) {
            self.ends[i].receive(self.now, self.addrs[1 - i], Local::default(), &mut datagram);
            self.lines[1 - i].spare.push(datagram);
            busy = true;
        }
        if self.ends[i].poll_timeout().is_some_and(|at| at <= self.now) {
            self.ends[i].handle_timeout(self.now);
            busy = true;
        }
        if busy {
            self.settle(i);
        }
    }

    /// The only place that takes from a tunnel.
    fn settle(&mut self, i: usize) {
        while let Some(event) = self.ends[i].poll() {
            match event {
                Event::Dial(id) => self.ends[i].dialled(self.now, id),
                Event::Readable(id) => self.drain(i, id),
                Event::Writable(id) if i == 0 => self.fill(i, id),
                Event::Writable(_) => {}
                Event::Close { .. } => panic!("the session ended"),
            }
        }
        while let Some(Transmit { len, .. }) = self.ends[i].poll_transmit(self.now, &mut self.out) {
            self.lines[i].offer(self.now, &self.out[..len]);
        }
    }

    fn fill(&mut self, i: usize, id: SessionId) {
        loop {
            match self.ends[i].input(id).len() {
                0 => break,
                n => self.ends[i].filled(self.now, id, n),
            }
        }
    }

    fn drain(&mut self, i: usize, id: SessionId) {
        loop {
            let n = self.ends[i].output(id).len();
            if n == 0 {
                break;
            }
            self.received += n as f64;
            self.ends[i].consumed(self.now, id, n);
        }
    }
}
