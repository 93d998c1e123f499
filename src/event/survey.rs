//! The socket and the clock for what `ping::survey` decides: `kcptun ping` asks each of several ports first.

use super::batch::{Batch, Shared};
use super::report::reason;
use super::socket::{self, any_of};
use crate::path::Local;
use crate::ping::{DATAGRAM, Survey};
use crate::platform::{REARMS_ONLY_WHEN_DRAINED, Signal, Signals};
use crate::time::{Duration, Instant};
use crate::tunnel::{Fit, Transmit};
use log::debug;
use mio::{Events, Interest, Poll, Token};
use socket2::{Protocol, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

/// The most datagrams received before others are sent.
const DATAGRAMS_PER_TURN: usize = 64;

/// Asks the ports of a host until the survey is over or a signal to stop comes; then true. `from`: the
/// address to send from, if it matters, and the mark. Fails if there can be no socket.
pub(super) fn run(
    survey: &mut Survey,
    host: SocketAddr,
    (from, dscp): (Option<IpAddr>, u8),
    signals: &mut Signals,
    (poll, token): (&mut Poll, Token),
) -> io::Result<bool> {
    let local = SocketAddr::new(from.unwrap_or(any_of(&host)), 0);
    let socket = socket::new(local, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&local.into())?;
    let mut this = Surveying {
        batch: Batch::new(socket)?,
        shared: Shared::new(),
        host,
        epoch: std::time::Instant::now(),
    };
    this.batch.mark(dscp)?;
    if let Err(e) = this.batch.hear() {
        debug!("refusals are not heard of: {}", reason(&e));
    }
    let registry = poll.registry();
    registry.register(&mut this.batch.socket, token, Interest::READABLE)?;
    let mut events = Events::with_capacity(16);
    let mut stopped = false;
    while !stopped && !survey.is_over(this.now()) {
        this.send(survey);
        let more = this.receive(survey);
        let span = match more {
            true => Duration::ZERO,
            false => survey.deadline().since(this.now()),
        };
        match poll.poll(&mut events, Some(span.into())) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        if events.iter().any(|event| event.token() != token) {
            signals.note();
        }
        stopped = signals.take() == Some(Signal::Stop);
    }
    poll.registry().deregister(&mut this.batch.socket)?;
    Ok(stopped)
}

struct Surveying {
    batch: Batch,
    shared: Shared,
    host: SocketAddr,
    epoch: std::time::Instant,
}

impl Surveying {
    fn send(&mut self, survey: &mut Survey) {
        let mut buf = [0; DATAGRAM];
        while let Some((port, len)) = survey.transmit(self.now(), &mut buf) {
            let mut addr = self.host;
            addr.set_port(port);
            let transmit = Transmit {
                addr,
                local: Local::default(),
                len,
                segment: len,
                fit: Fit::Fits,
            };
            // what cannot be sent is asked again, as what is lost on the path
            let now = self.now();
            self.batch
                .send(&mut self.shared, now, &transmit, &buf[..len]);
        }
    }

    /// True if there may be more.
    fn receive(&mut self, survey: &mut Survey) -> bool {
        let host = self.host.ip();
        let mut more = true;
        for _ in 0..DATAGRAMS_PER_TURN {
            let received = self.batch.receive(&mut self.shared, |from, _, datagram| {
                if from.ip() == host {
                    survey.receive(from.port(), datagram);
                }
            });
            more = match received {
                Ok((_, more)) => more,
                Err(e) if e.kind() == ErrorKind::WouldBlock => false,
                Err(e) => {
                    self.batch.tells(&e)
                        || e.kind() == ErrorKind::Interrupted
                        || REARMS_ONLY_WHEN_DRAINED
                }
            };
            if !more {
                break;
            }
        }
        while self.batch.is_told() {
            for from in self.batch.refusals() {
                survey.on_refused(from.port());
            }
        }
        more
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.epoch.elapsed().as_micros() as u64)
    }
}
