//! The UDP sockets: datagrams from them into the tunnel, and from the tunnel into them.
//!
//! They are never connected, so that they take datagrams from everywhere. No error of one ends anything: KCP repeats
//! what was lost. How many datagrams make one call of the system is `batch`'s, which sockets there are is `sockets`'; which
//! addresses are bound is decided in `start`.

use super::batch::{Batch, Shared, TRANSMIT_MAX};
use super::report::{Throttle, reason};
use super::socket::{self, Buffers, canonical};
use super::sockets::Sockets;
use super::token::{FIRST_SESSION, FIRST_UDP};
use crate::config::UdpOptions;
use crate::path::Local;
use crate::platform::{self, errno};
use crate::time::Instant;
use crate::tunnel::{Fit, Transmit, Tunnel};
use log::{debug, warn};
use mio::{Interest, Registry, event::Event};
use socket2::{Protocol, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

/// The most datagrams received, and sent, before others have their turn.
const DATAGRAMS_PER_TURN: usize = 256;
/// The most errors in one turn before the socket is left alone until something new happens to it.
const ERRORS_PER_TURN: usize = 16;

/// The UDP sockets and what is known of their state.
pub(super) struct Udp {
    sockets: Sockets,
    /// What further sockets are made by. None: there are none.
    making: Option<UdpOptions>,
    /// The system reports what becomes of datagrams on their way.
    hears: bool,
    shared: Shared,
    /// A batch in `out` that its socket had no room for, and how many bytes of it were sent nevertheless.
    unsent: Option<(Transmit, usize)>,
    /// The place of the socket that has no room still. The others wait with it: what they send leaves by the same device.
    blocked: Option<usize>,
    /// Datagrams for this address were longer than the system sends.
    too_long: Option<SocketAddr>,
    /// An error suggests that the network has changed.
    trouble: bool,
    out: Box<[u8]>,
    receive_failed: Throttle,
    send_failed: Throttle,
    make_failed: Throttle,
}

/// What is worth a line in the log of a socket that was made.
#[derive(Default)]
struct Remarks {
    /// The first address that this machine does not have yet.
    early: Option<SocketAddr>,
    /// Which of the buffers are smaller than configured.
    cut: Option<String>,
}

impl Remarks {
    fn warn(self) {
        if let Some(address) = self.early {
            socket::warn_of_early("udp_bind", address);
        }
        if let Some(line) = self.cut {
            warn!("udp: {line}");
        }
    }
}

/// A socket that is bound to `address`; see `socket::new` for what an unspecified one means.
fn bind(address: SocketAddr, options: &UdpOptions, remarks: &mut Remarks) -> io::Result<Batch> {
    let socket = socket::new(address, Type::DGRAM, Protocol::UDP)?;
    platform::claim_port(&socket, false)?;
    if options.reuseport {
        platform::share_port(&socket)?;
    }
    if socket::bind_or_wait(&socket, address)? {
        remarks.early.get_or_insert(address);
    }
    let buffers = Buffers {
        send: options.sndbuf as usize,
        receive: options.rcvbuf as usize,
    };
    if let Err(line) = buffers.apply(&socket) {
        remarks.cut.get_or_insert(line);
    }
    let mut batch = Batch::new(socket)?;
    batch.mark(options.dscp)?;
    Ok(batch)
}

impl Udp {
    /// Binds one address.
    pub(super) fn bind(address: SocketAddr, options: &UdpOptions) -> io::Result<Udp> {
        Udp::bind_all(address, &[], options).map_err(|(_, e)| e)
    }

    /// Binds the first address and the others, whose sockets are numbered in this order from 0. Fails with the address that
    /// cannot be bound.
    pub(super) fn bind_all(
        first: SocketAddr,
        others: &[SocketAddr],
        options: &UdpOptions,
    ) -> Result<Udp, (SocketAddr, io::Error)> {
        let mut remarks = Remarks::default();
        let mut bind = |at: SocketAddr| bind(at, options, &mut remarks).map_err(|e| (at, e));
        let first = bind(first)?;
        let others: Vec<Batch> = others
            .iter()
            .map(|at| bind(*at))
            .collect::<Result<_, _>>()?;
        remarks.warn();
        Ok(Udp {
            sockets: Sockets::fixed(first, others),
            making: None,
            hears: false,
            shared: Shared::new(),
            unsent: None,
            blocked: None,
            too_long: None,
            trouble: false,
            out: vec![0; TRANSMIT_MAX].into(),
            receive_failed: Throttle::default(),
            send_failed: Throttle::default(),
            make_failed: Throttle::default(),
        })
    }

    /// From now on further sockets, at ports that the system chooses, are made as the tunnel names them. The one that is there
    /// has this number.
    pub(super) fn make_more(&mut self, number: u16, options: UdpOptions) {
        self.sockets.set_free(number);
        self.making = Some(options);
    }

    /// The number of the socket that was made last; 0 if none was.
    pub(super) fn latest(&self) -> u16 {
        self.sockets.latest()
    }

    /// When a socket is to be closed that the tunnel does not use any more.
    pub(super) fn due(&self) -> Option<Instant> {
        // what there was no room for leaves first
        self.sockets.due().filter(|_| self.blocked.is_none())
    }

    /// Has the system report where nothing receives. This is for an end that sends to one address: reports about the clients
    /// of a server would only cost it time.
    pub(super) fn hear_refusals(&mut self) {
        self.hears = true;
        let failed = self.sockets.iter_mut().find_map(|batch| batch.hear().err());
        if let Some(e) = failed {
            debug!("udp: refusals are not heard of: {}", reason(&e));
        }
    }

    /// The address that the latest socket is bound to, or the first of those that are configured.
    pub(super) fn local(&self) -> SocketAddr {
        self.local_of(self.latest())
    }

    /// The address that the socket of this number is bound to.
    pub(super) fn local_of(&self, number: u16) -> SocketAddr {
        self.sockets.local(number)
    }

    /// Whether a datagram can go to `peer` from the address that is bound.
    pub(super) fn reaches(&self, peer: SocketAddr) -> bool {
        reaches(self.local(), peer)
    }

    /// Registers the sockets with the poll.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.sockets.register(registry)
    }

    /// Notes what the poll said of a socket, if the event is about one.
    pub(super) fn note(&mut self, event: &Event, registry: &Registry) -> bool {
        if !(FIRST_UDP..FIRST_SESSION).contains(&event.token().0) {
            return false;
        }
        let Some(place) = self.sockets.place_by(event.token()) else {
            return true;
        };
        if event.is_readable() || event.is_error() {
            self.sockets.mark_readable(place);
        }
        if self.blocked == Some(place) && event.is_writable() {
            self.blocked = None;
            self.watch(registry, place, Interest::READABLE);
        }
        true
    }

    /// Whether there is more to receive without waiting.
    pub(super) fn is_readable(&self) -> bool {
        self.sockets.are_readable()
    }

    /// Whether a socket has no room: nothing is sent until `note` sees some.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Whether there was an error since this was last asked that a change of the network may have caused.
    pub(super) fn take_trouble(&mut self) -> bool {
        std::mem::take(&mut self.trouble)
    }

    /// Hands the tunnel what has arrived, in a bounded batch. The sockets take turns.
    pub(super) fn receive(&mut self, tunnel: &mut Tunnel, now: Instant) {
        let (mut count, mut errors) = (0, 0);
        while count < DATAGRAMS_PER_TURN {
            let Some(place) = self.sockets.next_readable() else {
                break;
            };
            let socket = self.sockets.number_of(place);
            let batch = self.sockets.at(place);
            let received = batch.receive(&mut self.shared, |from, ip, datagram| {
                tunnel.receive(now, from, Local { ip, socket }, datagram);
            });
            let more = match received {
                Ok((received, more)) => {
                    count += received.max(1);
                    more
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => false,
                Err(e) if e.kind() == ErrorKind::Interrupted => true,
                Err(e) if batch.tells(&e) => {
                    count += 1;
                    true
                }
                Err(e) => {
                    (count, errors) = (count + 1, errors + 1);
                    self.receive_failed
                        .warn(now, format_args!("udp: cannot receive: {}", reason(&e)));
                    // a socket that is left alone too soon is never spoken of again
                    errors < ERRORS_PER_TURN || platform::REARMS_ONLY_WHEN_DRAINED
                }
            };
            self.sockets.note_told(place);
            if more {
                self.sockets.mark_readable(place);
            }
        }
        for from in self.sockets.refusals() {
            tunnel.on_refused(from);
        }
    }

    /// Sends what the tunnel has, in a bounded batch. True if there may be more to send without waiting.
    pub(super) fn send(&mut self, tunnel: &mut Tunnel, now: Instant, registry: &Registry) -> bool {
        let mut count = 0;
        if self.due().is_some_and(|due| due <= now) {
            self.sockets.expire(now);
        }
        while self.blocked.is_none() {
            if count >= DATAGRAMS_PER_TURN {
                return true;
            }
            let next = self.unsent.take();
            let next = next.or_else(|| Some((tunnel.poll_transmit(now, &mut self.out)?, 0)));
            let Some((transmit, before)) = next else {
                return false;
            };
            count += transmit.len.div_ceil(transmit.segment.max(1)).max(1);
            if self.sockets.lacks(transmit.local.socket) {
                self.make(transmit.local.socket, registry, now);
            }
            self.send_transmit(now, transmit, before);
            if let Some(addr) = self.too_long.take() {
                tunnel.on_too_long(addr, now);
            }
            if let Some(place) = self.blocked {
                // Registering again reports room that was made since: none is missed.
                self.watch(registry, place, Interest::READABLE | Interest::WRITABLE);
            }
        }
        false
    }

    /// Makes a socket of this number; where that fails, the latest one takes its place.
    fn make(&mut self, number: u16, registry: &Registry, now: Instant) {
        let any = SocketAddr::new(self.local().ip(), 0);
        let options = self.making.clone().unwrap_or_default();
        // the log has told of the first one's buffers
        let made = bind(any, &options, &mut Remarks::default()).and_then(|mut batch| {
            if self.hears {
                // as for the first
                let _ = batch.hear();
            }
            self.sockets.add(batch, number, registry, now)
        });
        match made {
            Ok(()) => debug!("UDP bound to {}, too", self.local()),
            Err(e) => {
                self.sockets.do_without(number);
                self.make_failed.warn(
                    now,
                    format_args!("udp: cannot make a new socket: {}", reason(&e)),
                );
            }
        }
    }

    /// Sends a GSO batch except the bytes that were sent `before`, from the socket that it names. What fails is lost, as on the
    /// path; what there is no room for is kept.
    fn send_transmit(&mut self, now: Instant, transmit: Transmit, before: usize) {
        let place = self.sockets.place_of(transmit.local.socket);
        self.sockets.note_used(place, now);
        let bytes = &self.out[before..transmit.len];
        let batch = self.sockets.at(place);
        let sent = batch.send(&mut self.shared, now, &transmit, bytes);
        self.sockets.note_told(place);
        let too_long = |e: &io::Error| e.raw_os_error() == Some(errno::EMSGSIZE);
        if sent.error.as_ref().is_some_and(too_long) && transmit.fit != Fit::Long {
            // smaller ones follow, and the log tells when it is known how small
            self.too_long = Some(transmit.addr).filter(|_| transmit.fit == Fit::Fits);
        } else if let Some(e) = sent.error {
            self.trouble |= tells_of_the_network(&e);
            let to = transmit.addr;
            let why = reason(&e);
            self.send_failed
                .warn(now, format_args!("udp: cannot send to {to}: {why}"));
        }
        if sent.blocked {
            self.unsent = Some((transmit, before + sent.done));
            self.blocked = Some(place);
        }
    }

    fn watch(&mut self, registry: &Registry, place: usize, interest: Interest) {
        if let Err(e) = self.sockets.watch(registry, place, interest) {
            // Nobody would say when there is room: it is tried again with the next datagram.
            warn!("udp: cannot wait for the socket: {}", reason(&e));
            self.blocked = None;
        }
    }
}

/// Whether sending failed as it does when an address or a route is gone.
fn tells_of_the_network(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::InvalidInput
    )
}

/// Whether a socket bound to `local` can send to `peer`: the families agree, or it is bound to every address of both.
fn reaches(local: SocketAddr, peer: SocketAddr) -> bool {
    match canonical(local).ip() {
        IpAddr::V4(_) => canonical(peer).is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified() || canonical(peer).is_ipv6(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Control;
    use crate::settings::Settings;
    use mio::Poll;
    use std::net::UdpSocket as StdUdpSocket;
    use std::time::Duration;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    #[test]
    fn families_that_reach_each_other() {
        for (local, peer, expected) in [
            ("[::]:1", "192.0.2.1:9", true),
            ("[::]:1", "[2001:db8::1]:9", true),
            ("0.0.0.0:1", "192.0.2.1:9", true),
            ("0.0.0.0:1", "[2001:db8::1]:9", false),
            ("[2001:db8::2]:1", "[2001:db8::1]:9", true),
            ("[2001:db8::2]:1", "192.0.2.1:9", false),
        ] {
            assert_eq!(reaches(at(local), at(peer)), expected, "{local} {peer}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_kept() {
        let mut udp = Udp::bind(at("127.0.0.1:0"), &UdpOptions::default()).expect("bind");
        let there = StdUdpSocket::bind("127.0.0.1:0").expect("bind");
        let transmit = Transmit {
            addr: there.local_addr().expect("address"),
            local: Local::default(),
            len: 300,
            segment: 100,
            fit: Fit::Fits,
        };
        let poll = Poll::new().expect("poll");
        udp.register(poll.registry()).expect("register");
        for n in 0..3 {
            udp.out[n * 100..][..100].fill(n as u8);
        }
        // the first of the three has left already
        udp.unsent = Some((transmit, 100));
        let mut tunnel = Tunnel::new(Settings::default(), Instant::ZERO);
        assert!(!udp.send(&mut tunnel, Instant::ZERO, poll.registry()));
        assert!(udp.unsent.is_none());
        there
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("option");
        let mut buffer = [0; 200];
        for n in 1..3 {
            assert_eq!(there.recv(&mut buffer).expect("receive"), 100);
            assert_eq!(buffer[0], n);
        }
    }

    #[test]
    fn failed_sends_are_lost_and_do_not_block() {
        let mut udp = Udp::bind(at("127.0.0.1:0"), &UdpOptions::default()).expect("bind");
        // The family that this socket cannot reach; then nobody is there, and the refusal must not be fatal, either.
        for to in ["[::1]:9", "127.0.0.1:9", "127.0.0.1:9"] {
            let transmit = Transmit {
                addr: at(to),
                local: Local::default(),
                len: 30,
                segment: 10,
                fit: Fit::Fits,
            };
            udp.send_transmit(Instant::ZERO, transmit, 0);
            assert!(!udp.is_blocked() && udp.unsent.is_none());
        }
    }

    #[test]
    fn a_socket_is_made_when_the_tunnel_names_it_and_answers_what_comes_to_it() {
        let options = UdpOptions::default();
        let mut udp = Udp::bind(at("127.0.0.1:0"), &options).expect("bind");
        udp.make_more(7, options);
        let poll = Poll::new().expect("poll");
        udp.register(poll.registry()).expect("register");
        let first = udp.local();
        let there = StdUdpSocket::bind("127.0.0.1:0").expect("bind");
        let patience = Some(Duration::from_secs(5));
        there.set_read_timeout(patience).expect("option");
        let transmit = Transmit {
            addr: there.local_addr().expect("address"),
            local: Local {
                ip: None,
                socket: 8,
            },
            len: 10,
            segment: 10,
            fit: Fit::Fits,
        };
        udp.unsent = Some((transmit, 0));
        let mut tunnel = Tunnel::new(Settings::default(), Instant::ZERO);
        assert!(!udp.send(&mut tunnel, Instant::ZERO, poll.registry()));
        let mut buffer = [0; 200];
        let (_, from) = there.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((udp.local(), udp.latest()), (from, 8));
        assert_ne!(from, first);
        // each answers for itself
        for asked in [from, first] {
            let ping = Control::Ping(9).to_wire();
            there.send_to(&ping, asked).expect("sent");
            for place in 0..2 {
                udp.sockets.mark_readable(place);
            }
            udp.receive(&mut tunnel, Instant::ZERO);
            assert!(!udp.send(&mut tunnel, Instant::ZERO, poll.registry()));
            let (len, from) = there.recv_from(&mut buffer).expect("an answer");
            assert_eq!(from, asked);
            assert_eq!(Control::read(&buffer[..len]), Some(Control::Pong(9)));
        }
    }
}
