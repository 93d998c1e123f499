//! A UDP socket that sends and receives datagrams in batches: GSO batches of equal ones in one call (UDP_SEGMENT and UDP_GRO of
//! Linux), several of these at once on the way in (recvmmsg), and each with the address of this machine that it came to or
//! leaves from. Also what is done where the system or a path refuses: nothing is lost by that.
//!
//! What is sent when, and what becomes of what has arrived, is decided in `udp`; which sockets there are, in `sockets`.

use super::marked;
use super::socket::canonical;
use crate::platform::{self, Fragments};
use crate::time::{Duration, Instant};
use crate::tunnel::{Fit, Transmit};
use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{SockRef, Socket};
use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

/// The largest datagram of UDP, bytes, and the largest batch that the system makes of what arrives: none is ever cut.
pub(super) const TRANSMIT_MAX: usize = 65_536;
/// The most batches received in one call. Their memory is not used before that many arrive.
const BATCHES_PER_CALL: usize = 16;
/// How long an address that refused a GSO batch is sent single datagrams: routes and devices change.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(600);
/// The most addresses that are remembered to refuse GSO batches.
const REFUSALS_MAX: usize = 1024;

/// A socket that does not block, in its batches.
pub(super) struct Batch {
    /// The socket, for the poll.
    pub socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// The system can send GSO batches.
    offers_gso: bool,
    /// Its datagrams have a mark.
    marked: bool,
    /// The system reports what becomes of datagrams on their way.
    hears: bool,
    /// There are reports that were not taken yet.
    told: bool,
    /// One of them is that nothing receives at a port.
    refusal: bool,
}

/// What all sockets of this process share: it is large, or true whichever of them sends.
pub(super) struct Shared {
    /// Addresses that GSO batches could not be sent to, and until when that is believed.
    refused: HashMap<IpAddr, Instant>,
    buffers: Box<[u8]>,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared {
            refused: HashMap::new(),
            buffers: vec![0; BATCHES_PER_CALL * TRANSMIT_MAX].into(),
        }
    }

    /// Whether GSO batches may be sent to an address, as far as is known.
    fn takes_gso(&self, to: SocketAddr, now: Instant) -> bool {
        self.refused.get(&to.ip()).is_none_or(|until| *until <= now)
    }

    /// A GSO batch was refused where a datagram is not: the device or the route cannot take it, or the path takes only smaller
    /// datagrams and the system fragments these.
    fn remember(&mut self, to: SocketAddr, now: Instant) {
        if self.refused.len() >= REFUSALS_MAX {
            self.refused.clear();
        }
        self.refused.insert(to.ip(), now.after(REFUSAL_LIFETIME));
        log::debug!("udp: datagrams for {to} are sent one by one: batches of them are refused");
    }
}

/// What became of a GSO batch.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Bytes of it that are dealt with: sent, or lost by an error.
    pub done: usize,
    /// The socket had no room for the rest.
    pub blocked: bool,
    /// Why datagrams were lost here, if any were.
    pub error: Option<io::Error>,
}

impl Batch {
    /// Takes over a bound socket that does not block. Fails if one of its options cannot be set.
    pub(super) fn new(socket: Socket) -> io::Result<Batch> {
        let state = UdpSocketState::new((&socket).into())?;
        // What that sets for QUIC costs something here: QUIC wants to know when each datagram arrived. A system without this
        // option has not set it.
        let _ = platform::omit_timestamps(&socket);
        forbid_fragments(&socket)?;
        let socket = UdpSocket::from_std(socket.into());
        Ok(Batch {
            local: socket.local_addr()?,
            offers_gso: state.max_gso_segments() > 1,
            marked: false,
            hears: false,
            told: false,
            refusal: false,
            socket,
            state,
        })
    }

    /// The address that the socket is bound to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Marks the datagrams that are sent from now on: 0 to 63 (RFC 2474).
    pub(super) fn mark(&mut self, dscp: u8) -> io::Result<()> {
        if dscp > 0 {
            marked::mark(&SockRef::from(&self.socket), dscp)?;
            self.marked = platform::SENDS_MARKED;
        }
        Ok(())
    }

    /// Has the system report datagrams that did not arrive. It does so by an error of the next call, whatever that is for.
    pub(super) fn hear(&mut self) -> io::Result<()> {
        platform::report_errors(&SockRef::from(&self.socket), self.local.is_ipv6())?;
        self.hears = true;
        Ok(())
    }

    /// Whether an error reports an earlier datagram.
    pub(super) fn tells(&mut self, error: &io::Error) -> bool {
        let tells = self.hears && platform::is_report(error);
        self.told |= tells;
        self.refusal |= tells && platform::is_refusal(error);
        tells
    }

    /// Whether there are reports to take.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// The addresses at which nothing receives at the port, as reported since the last call. Reports of other errors are
    /// taken as well, since the system keeps them in the room for what arrives; together with a refusal they count as one.
    pub(super) fn refusals(&mut self) -> Vec<SocketAddr> {
        if !self.told {
            return Vec::new();
        }
        let (all, more) = platform::take_reports(&SockRef::from(&self.socket));
        self.told = more;
        match std::mem::take(&mut self.refusal) {
            true => all.into_iter().map(canonical).collect(),
            false => Vec::new(),
        }
    }

    /// Hands `each` what has arrived: the sender, the address of this machine that received it, and the datagram. Returns how
    /// many there were, and whether there may be more; fails with `WouldBlock` if there were none.
    pub(super) fn receive(
        &mut self,
        shared: &mut Shared,
        mut each: impl FnMut(SocketAddr, Option<IpAddr>, &mut [u8]),
    ) -> io::Result<(usize, bool)> {
        let mut metas = [RecvMeta::default(); BATCHES_PER_CALL];
        let mut buffers = shared.buffers.chunks_exact_mut(TRANSMIT_MAX);
        let mut slices: [_; BATCHES_PER_CALL] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let transmits = self.socket.try_io(|| {
            let socket = (&self.socket).into();
            self.state.recv(socket, &mut slices, &mut metas)
        })?;
        let mut count = 0;
        for (meta, buffer) in metas.iter().zip(&mut slices).take(transmits) {
            let local = meta.dst_ip.map(|ip| ip.to_canonical());
            let from = canonical(meta.addr);
            let bytes = &mut buffer[..meta.len.min(TRANSMIT_MAX)];
            for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                each(from, local, datagram);
                count += 1;
            }
        }
        // elsewhere a call may receive one only, however many there are
        let drained = platform::DRAINS && transmits < BATCHES_PER_CALL;
        Ok((count, !drained))
    }

    /// Sends `bytes`, which are the last ones of the batch.
    pub(super) fn send(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        transmit: &Transmit,
        bytes: &[u8],
    ) -> Sent {
        if transmit.fit != Fit::Long {
            return self.send_whole(shared, now, transmit, bytes);
        }
        // an option of the socket, and rarely needed; where it cannot be set they leave whole, and may be refused
        let _ = self.set_fragments(Fragments::Allowed);
        let sent = self.send_whole(shared, now, transmit, bytes);
        let _ = self.set_fragments(Fragments::Forbidden);
        sent
    }

    fn set_fragments(&self, fragments: Fragments) -> io::Result<()> {
        platform::set_fragments(
            &SockRef::from(&self.socket),
            self.local.is_ipv6(),
            fragments,
        )
    }

    fn send_whole(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        transmit: &Transmit,
        bytes: &[u8],
    ) -> Sent {
        let mut refused = false;
        let many = bytes.len() > transmit.segment;
        if many && self.offers_gso && shared.takes_gso(transmit.addr, now) {
            match self.call(transmit, bytes) {
                Ok(()) => return Sent::all(bytes),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Sent::blocked(),
                // that of a datagram is told below
                Err(e) => refused = platform::refuses_batches(&e),
            }
        }
        let mut sent = Sent::default();
        for datagram in bytes.chunks(transmit.segment.max(1)) {
            match self.call(transmit, datagram) {
                Ok(()) if std::mem::take(&mut refused) => shared.remember(transmit.addr, now),
                Ok(()) => (),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    sent.blocked = true;
                    break;
                }
                Err(e) => sent.error = Some(e),
            }
            sent.done += datagram.len();
        }
        sent
    }

    /// Makes one call to the system, or a second one if this machine no longer has the address that was to be sent from.
    fn call(&mut self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        // where one address is bound there is no other
        let anywhere = self.local.ip().is_unspecified();
        let source = transmit.local.ip.filter(|_| anywhere);
        let transmit = quinn_udp::Transmit {
            destination: self.as_sent_from_here(transmit.addr),
            ecn: None,
            contents: bytes,
            segment_size: Some(transmit.segment),
            src_ip: source.map(|ip| self.as_sent_from_here(SocketAddr::new(ip, 0)).ip()),
        };
        match self.transmit(&transmit) {
            Err(e) if source.is_some() && is_of_the_source(&e) => {
                self.transmit(&quinn_udp::Transmit {
                    src_ip: None,
                    ..transmit
                })
            }
            result => result,
        }
    }

    fn transmit(&mut self, transmit: &quinn_udp::Transmit) -> io::Result<()> {
        match self.transmit_once(transmit) {
            // this one has not left
            Err(e) if self.tells(&e) => self.transmit_once(transmit),
            result => result,
        }
    }

    fn transmit_once(&self, transmit: &quinn_udp::Transmit) -> io::Result<()> {
        let socket = &self.socket;
        match self.marked {
            true => socket.try_io(|| platform::send_marked(socket, transmit)),
            false => socket.try_io(|| self.state.try_send(socket.into(), transmit)),
        }
    }

    /// The opposite of `canonical`, as this socket needs it.
    fn as_sent_from_here(&self, to: SocketAddr) -> SocketAddr {
        match (self.local, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        }
    }
}

impl Sent {
    fn all(bytes: &[u8]) -> Sent {
        Sent {
            done: bytes.len(),
            ..Sent::default()
        }
    }

    fn blocked() -> Sent {
        Sent {
            blocked: true,
            ..Sent::default()
        }
    }
}

/// Whether an error may be one of the address to send from.
fn is_of_the_source(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput
            | ErrorKind::AddrNotAvailable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
    )
}

/// From now on, datagrams of this socket, which is bound, arrive whole or not at all, if the system can do that.
pub(super) fn forbid_fragments(socket: &Socket) -> io::Result<()> {
    let v6 = socket.local_addr()?.is_ipv6();
    platform::set_fragments(socket, v6, Fragments::Forbidden)
}

#[cfg(test)]
mod tests;
