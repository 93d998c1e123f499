//! The parts by themselves: sealing, the link, the `kcp` crate.

use crate::link::{Line, Shape};
use crate::{MTU, PATIENCE, cpu};
use kcptun::crypto::{Key, Method, Sealing};
use kcptun::time::{Instant, MS};
use kcptun::tunnel::DATAGRAM_MAX;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;

/// CPU seconds of sealing and of opening datagrams of these lengths.
pub fn sealing(method: Method, lengths: &[u16]) -> (f64, f64) {
    let key = Key::generate();
    let (mut here, mut there) = (Sealing::new(method, &key), Sealing::new(method, &key));
    let mut bufs = vec![[7; DATAGRAM_MAX]; 256];
    let mut spent = (0.0, 0.0);
    for lengths in lengths.chunks(bufs.len()) {
        let pairs = || lengths.iter().map(|len| usize::from(*len));
        let begin = cpu();
        for (buf, len) in bufs.iter_mut().zip(pairs()) {
            here.seal(buf, len - method.overhead());
        }
        let sealed = cpu();
        for (buf, len) in bufs.iter_mut().zip(pairs()) {
            there.open(&mut buf[..len]).expect("authentic");
        }
        spent = (spent.0 + sealed - begin, spent.1 + cpu() - sealed);
    }
    spent
}

/// CPU seconds of the link alone.
pub fn link(shape: Shape, lengths: &[u16]) -> f64 {
    let (mut line, data, begin) = (Line::new(shape), [7; DATAGRAM_MAX], cpu());
    let mut now = Instant::ZERO;
    for len in lengths {
        line.offer(now, &data[..usize::from(*len)]);
        now = Instant::from_micros(line.free_at as u64);
        while let Some(datagram) = line.arrived(now) {
            line.spare.push(black_box(datagram));
        }
    }
    cpu() - begin
}

/// The `kcp` crate's way out.
struct Tap(Rc<RefCell<Line>>, Rc<Cell<Instant>>);

impl std::io::Write for Tap {
    fn write(&mut self, packet: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().offer(self.1.get(), packet);
        Ok(packet.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// CPU microseconds that the crate and the link take for a packet.
pub fn crate_alone(shape: Shape, packets: f64) -> f64 {
    let clock = Rc::new(Cell::new(Instant::from_millis(1_000)));
    let lines = [(); 2].map(|()| Rc::new(RefCell::new(Line::new(shape))));
    let mut ends = [0, 1].map(|i: usize| {
        let mut kcp = kcp::Kcp::new_stream(1, Tap(lines[i].clone(), clock.clone()));
        kcp.set_mtu(MTU as usize - 28).expect("within its bounds");
        kcp.set_wndsize(shape.window, shape.window);
        kcp.set_nodelay(true, 10, 2, true);
        kcp
    });
    let (data, mut into, begin) = (vec![7; ends[0].mss()], vec![0; 2048], cpu());
    let mut received = 0.0;
    while received < packets && cpu() - begin < PATIENCE {
        let now = clock.get();
        for i in 0..2 {
            let arrived = || lines[1 - i].borrow_mut().arrived(now);
            while let Some(datagram) = arrived() {
                ends[i].input(&datagram).expect("a packet of KCP");
                lines[1 - i].borrow_mut().spare.push(datagram);
            }
            while ends[i].recv(&mut into).is_ok() {
                received += 1.0;
            }
            while i == 0 && ends[0].wait_snd() < 2 * usize::from(shape.window) {
                ends[0].send(&data).expect("a segment");
            }
            ends[i].update(now.millis() as u32).expect("a clock");
            ends[i].flush().expect("updated before");
        }
        clock.set(now.after(MS));
    }
    (cpu() - begin) / received * 1e6
}
