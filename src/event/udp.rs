//! The UDP socket: datagrams from it into the tunnel, and from the tunnel into it.
//!
//! It is never connected, so that it takes datagrams from everywhere. No error of it ends anything: KCP repeats
//! what was lost. Which addresses are bound is decided in `start`.

use super::report::{Throttle, reason};
use super::socket::{self, Buffers, canonical};
use crate::config::UdpOptions;
use crate::time::Time;
use crate::tunnel::Tunnel;
use log::warn;
use mio::{Interest, Registry, Token, event::Event, net::UdpSocket};
use socket2::{Protocol, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

/// The most datagrams received, and the most sent, in one turn of the loop.
const BATCH: usize = 256;
/// The largest datagram of UDP: none is ever cut.
const LARGEST: usize = 65_536;
/// The most errors in one turn before the socket is left alone until something new happens to it.
const MAX_ERRORS: usize = 16;

/// The UDP socket and what is known of its state.
pub struct Udp {
    socket: UdpSocket,
    token: Token,
    local: SocketAddr,
    buffer: Box<[u8]>,
    readable: bool,
    /// A datagram of this length for this address, in `out`, that the socket had no room for.
    unsent: Option<(usize, SocketAddr)>,
    /// It has no room still.
    blocked: bool,
    out: Box<[u8]>,
    receive_failed: Throttle,
    send_failed: Throttle,
}

impl Udp {
    /// Binds `address`; see `socket::new` for what an unspecified one means.
    pub fn bind(address: SocketAddr, options: &UdpOptions) -> io::Result<Udp> {
        let socket = socket::new(address, Type::DGRAM, Protocol::UDP)?;
        if options.reuseport {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        let buffers = Buffers {
            send: options.sndbuf as usize,
            receive: options.rcvbuf as usize,
        };
        if let Err(line) = buffers.apply(&socket) {
            warn!("udp: {line}");
        }
        let socket = UdpSocket::from_std(socket.into());
        Ok(Udp {
            local: socket.local_addr()?,
            socket,
            token: Token(0),
            buffer: vec![0; LARGEST].into(),
            readable: true,
            unsent: None,
            blocked: false,
            out: vec![0; LARGEST].into(),
            receive_failed: Throttle::default(),
            send_failed: Throttle::default(),
        })
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether a datagram can go to `peer` from the address that is bound.
    pub fn reaches(&self, peer: SocketAddr) -> bool {
        reaches(self.local, peer)
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.token = token;
        // Only readable: Linux would report every datagram that leaves as room to write.
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Notes what the poll said of the socket.
    pub fn note(&mut self, event: &Event, registry: &Registry) {
        self.readable |= event.is_readable() || event.is_error();
        if self.blocked && event.is_writable() {
            self.blocked = false;
            self.watch(registry, Interest::READABLE);
        }
    }

    /// Whether there is more to receive without waiting.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether the socket has no room: nothing is sent until `note` sees some.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Hands the tunnel what has arrived, in a bounded batch.
    pub fn receive(&mut self, tunnel: &mut Tunnel, now: Time) {
        let mut errors = 0;
        for _ in 0..BATCH {
            if !self.readable {
                return;
            }
            match self.socket.recv_from(&mut self.buffer) {
                Ok((n, from)) => tunnel.receive(now, canonical(from), &mut self.buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) => {
                    errors += 1;
                    self.readable = errors < MAX_ERRORS;
                    self.receive_failed
                        .warn(now, format_args!("udp: cannot receive: {}", reason(&e)));
                }
            }
        }
    }

    /// Sends what the tunnel has, in a bounded batch. True if there may be more to send without waiting.
    pub fn send(&mut self, tunnel: &mut Tunnel, now: Time, registry: &Registry) -> bool {
        for _ in 0..BATCH {
            if self.blocked {
                return false;
            }
            let next = self.unsent.take();
            let Some((n, to)) = next.or_else(|| tunnel.transmit(now, &mut self.out)) else {
                return false;
            };
            if !self.send_one(now, n, to) {
                self.unsent = Some((n, to));
                self.blocked = true;
                // To register anew reports room that came since: none is missed.
                self.watch(registry, Interest::READABLE | Interest::WRITABLE);
            }
        }
        !self.blocked
    }

    fn watch(&mut self, registry: &Registry, interest: Interest) {
        if let Err(e) = registry.reregister(&mut self.socket, self.token, interest) {
            // Nobody would say when there is room: it is tried again with the next datagram.
            warn!("udp: cannot wait for the socket: {}", reason(&e));
            self.blocked = false;
        }
    }

    /// False if the socket has no room now. What fails otherwise is lost, as on the path.
    fn send_one(&mut self, now: Time, n: usize, to: SocketAddr) -> bool {
        let target = as_sent_from(self.local, to);
        loop {
            match self.socket.send_to(&self.out[..n], target) {
                Ok(_) => return true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) => {
                    self.send_failed.warn(
                        now,
                        format_args!("udp: cannot send to {to}: {}", reason(&e)),
                    );
                    return true;
                }
            }
        }
    }
}

/// The opposite of `canonical`, as a socket bound to `local` needs it.
fn as_sent_from(local: SocketAddr, to: SocketAddr) -> SocketAddr {
    match (local, to.ip()) {
        (SocketAddr::V6(_), IpAddr::V4(ip)) => {
            SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
        }
        _ => to,
    }
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
    use std::net::UdpSocket as StdUdpSocket;
    use std::time::Duration;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    #[test]
    fn ipv4_through_an_ipv6_socket_and_back() {
        let mapped = at("[::ffff:192.0.2.1]:9");
        assert_eq!(canonical(mapped), at("192.0.2.1:9"));
        assert_eq!(as_sent_from(at("[::]:1"), at("192.0.2.1:9")), mapped);
        assert_eq!(
            as_sent_from(at("0.0.0.0:1"), at("192.0.2.1:9")),
            at("192.0.2.1:9")
        );
        assert_eq!(canonical(at("[2001:db8::1]:9")), at("[2001:db8::1]:9"));
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
    fn one_socket_takes_both_families() {
        let options = UdpOptions::default();
        let Ok(udp) = Udp::bind(at("[::]:0"), &options) else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        for host in ["127.0.0.1", "::1"] {
            let here = SocketAddr::new(host.parse().expect("address"), 0);
            let client = StdUdpSocket::bind(here).expect("bind");
            let to = SocketAddr::new(here.ip(), udp.local().port());
            client.send_to(b"x", to).expect("send");
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            let mut buffer = [0; 16];
            let from = loop {
                match udp.socket.recv_from(&mut buffer) {
                    Ok((_, from)) => break canonical(from),
                    Err(e) => assert!(std::time::Instant::now() < deadline, "{e}"),
                }
            };
            assert_eq!(from, client.local_addr().expect("address"));
            let back = as_sent_from(udp.local(), from);
            udp.socket.send_to(b"y", back).expect("send back");
            assert_eq!(client.recv_from(&mut buffer).expect("receive"), (1, to));
        }
    }

    #[test]
    fn failed_sends_are_lost_and_do_not_block() {
        let mut udp = Udp::bind(at("127.0.0.1:0"), &UdpOptions::default()).expect("bind");
        // The family that this socket cannot reach, and a size that no packet has.
        assert!(udp.send_one(Time::ZERO, 10, at("[::1]:9")));
        assert!(udp.send_one(Time::ZERO, LARGEST, at("127.0.0.1:9")));
        // Nobody is there: the refusal that comes back must not be fatal, either.
        assert!(udp.send_one(Time::ZERO, 10, at("127.0.0.1:9")));
        assert!(udp.send_one(Time::ZERO, 10, at("127.0.0.1:9")));
    }
}
