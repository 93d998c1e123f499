//! A line on the loopback interface, in real time: what passes it takes its turn at a rate, waits in a queue that is not
//! endless, is lost now and then, and arrives later. How exactly depends on what else the machine does.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// One way of the line; both are alike.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Bytes per second.
    pub rate: f64,
    pub delay: Duration,
    /// The longest wait for the rate; what would wait longer is dropped.
    pub queue: Duration,
    /// The share that is lost at random.
    pub loss: f64,
}

/// Stands between a peer and its server until it goes.
pub struct Line {
    /// Where the peer sends to.
    pub at: SocketAddr,
    shape: Arc<Mutex<Shape>>,
    stop: Arc<AtomicBool>,
}

impl Line {
    pub fn to(server: SocketAddr, shape: Shape) -> Line {
        let sockets = ["near", "far"].map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        for socket in &sockets {
            // what is lost is to be lost by plan
            let large = SockRef::from(socket).set_recv_buffer_size(4 << 20);
            large.expect("an option");
            socket.set_nonblocking(true).expect("an option");
        }
        let [near, far] = sockets;
        far.connect(server).expect("a target");
        let line = Line {
            at: near.local_addr().expect("its address"),
            shape: Arc::new(Mutex::new(shape)),
            stop: Arc::default(),
        };
        let (shape, stop) = (line.shape.clone(), line.stop.clone());
        thread::spawn(move || {
            let mut peer = None;
            let (mut there, mut here) = (Way::new(1), Way::new(2));
            let mut bytes = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let shape = *shape.lock().expect("the shape");
                while let Ok((n, from)) = near.recv_from(&mut bytes) {
                    peer = Some(from);
                    there.enter(&bytes[..n], &shape);
                }
                while let Ok(n) = far.recv(&mut bytes) {
                    here.enter(&bytes[..n], &shape);
                }
                while let Some(datagram) = there.leave() {
                    let _ = far.send(&datagram);
                }
                while let (Some(datagram), Some(peer)) = (here.leave(), peer) {
                    let _ = near.send_to(&datagram, peer);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        line
    }

    pub fn change(&self, change: impl FnOnce(&mut Shape)) {
        change(&mut self.shape.lock().expect("the shape"));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Way {
    /// With when each is there.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// When the rate has done with all that came.
    free_at: Instant,
    rng: SmallRng,
}

impl Way {
    fn new(seed: u64) -> Way {
        Way {
            under_way: VecDeque::new(),
            free_at: Instant::now(),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    fn enter(&mut self, datagram: &[u8], shape: &Shape) {
        let now = Instant::now();
        let begins = self.free_at.max(now);
        if begins - now > shape.queue {
            return;
        }
        self.free_at = begins + Duration::from_secs_f64(datagram.len() as f64 / shape.rate);
        if !self.rng.random_bool(shape.loss) {
            let there = self.free_at + shape.delay;
            self.under_way.push_back((there, datagram.to_vec()));
        }
    }

    fn leave(&mut self) -> Option<Vec<u8>> {
        let (at, _) = self.under_way.front()?;
        let due = *at <= Instant::now();
        due.then(|| self.under_way.pop_front())?
            .map(|(_, datagram)| datagram)
    }
}
