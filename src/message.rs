//! The messages inside a tunnel, apart from KCP: those that make up a session's byte stream, and the session-0 messages that
//! have a packet of their own. Only their form is here; their meaning is in `session` and `tunnel`.

use std::net::{IpAddr, SocketAddr};

/// The most bytes of padding at the end of a packet: fewer than a KCP header has, so that it is never taken for one.
pub const PADDING_MAX: usize = 15;
/// Bytes of a session message's header: type and length, both u16.
pub const MESSAGE_HEADER: usize = 4;
/// The longest session message, its header included: the limit of kcptun-libev 2.
pub const MESSAGE_MAX: usize = 14_884;

/// Stands behind the value of a pong that answers a challenge at an address which its sender means to move to: see
/// `tunnel::hopping`. No padding looks like it, and kcptun-libev, which does not challenge, never gets one.
pub const MOVES: &[u8; 4] = b"kmv\x01";

/// Stands behind the value of a ping that wants a pong as long as it is itself: see `tunnel::hopping::train`. No padding looks like it, and
/// kcptun-libev answers as ever.
pub const ECHO: &[u8; 4] = b"kme\x01";

/// Types of session messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Kind {
    /// First message of a session: connect to the service.
    Dial = 0,
    /// TCP data.
    Push = 1,
    /// No more data in this direction.
    Eof = 2,
    /// Asks whether the session is still known; the side that accepted it answers with the same.
    Keepalive = 3,
}

/// The header of a message with `payload` bytes.
pub fn header(kind: Kind, payload: usize) -> [u8; MESSAGE_HEADER] {
    debug_assert!(payload <= MESSAGE_MAX - MESSAGE_HEADER);
    let [t0, t1] = (kind as u16).to_be_bytes();
    let [l0, l1] = ((MESSAGE_HEADER + payload) as u16).to_be_bytes();
    [t0, t1, l0, l1]
}

/// A byte stream that is not a sequence of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadMessage {
    /// Its type.
    pub kind: u16,
    /// Its length, header included.
    pub length: u16,
}

/// What `Parser::next` found at the front of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// Connect to the service.
    Dial,
    /// A piece of a push message's data, never empty.
    Data(&'a [u8]),
    /// No more data in this direction.
    Eof,
    /// A keepalive, or the answer to one.
    Keepalive,
}

/// Splits a stream that arrives in pieces of any size into messages. It holds at most one header; data passes through.
#[derive(Default, Debug)]
pub struct Parser {
    header: [u8; MESSAGE_HEADER],
    filled: u8,
    /// Bytes of the present push message that are still to come.
    left: u16,
}

impl Parser {
    /// Takes the next item from the front of `bytes`; None when they are used up.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Item<'a>>, BadMessage> {
        loop {
            if bytes.is_empty() {
                return Ok(None);
            }
            if self.left > 0 {
                let (data, rest) = bytes.split_at(bytes.len().min(self.left as usize));
                self.left -= data.len() as u16;
                *bytes = rest;
                return Ok(Some(Item::Data(data)));
            }
            let want = MESSAGE_HEADER - self.filled as usize;
            let (part, rest) = bytes.split_at(bytes.len().min(want));
            self.header[self.filled as usize..][..part.len()].copy_from_slice(part);
            self.filled += part.len() as u8;
            *bytes = rest;
            if (self.filled as usize) < MESSAGE_HEADER {
                return Ok(None);
            }
            self.filled = 0;
            if let Some(item) = self.begin()? {
                return Ok(Some(item));
            }
        }
    }

    /// Whether the next `n` bytes are all data of the present push message.
    pub fn passes(&self, n: usize) -> bool {
        n <= self.left as usize
    }

    /// Accounts for `n` bytes of data that `next` was not shown; `passes` must have allowed them.
    pub fn passed(&mut self, n: usize) {
        debug_assert!(self.passes(n));
        self.left = self.left.saturating_sub(n as u16);
    }

    /// Whether the stream could end here without cutting a message in two.
    pub fn between_messages(&self) -> bool {
        self.filled == 0 && self.left == 0
    }

    fn begin(&mut self) -> Result<Option<Item<'static>>, BadMessage> {
        let [t0, t1, l0, l1] = self.header;
        let (kind, length) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([l0, l1]));
        let bad = BadMessage { kind, length };
        if !(MESSAGE_HEADER..=MESSAGE_MAX).contains(&(length as usize)) {
            return Err(bad);
        }
        let payload = length - MESSAGE_HEADER as u16;
        match kind {
            0 if payload == 0 => Ok(Some(Item::Dial)),
            1 => {
                self.left = payload;
                Ok(None)
            }
            2 if payload == 0 => Ok(Some(Item::Eof)),
            3 if payload == 0 => Ok(Some(Item::Keepalive)),
            _ => Err(bad),
        }
    }
}

/// A session-0 message that this version understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Any value, returned in the pong: the sender's clock in ms, or a challenge.
    Ping(u32),
    /// The ping's value.
    Pong(u32),
    /// The sender has no session of this number. 0, which no session has, says that the sender is about to stop.
    Reset(u32),
}

/// Bytes of each of the messages in `Control`.
pub const CONTROL_LEN: usize = 10;

impl Control {
    /// Reads a packet whose first four bytes (the session number) are 0. None for unknown types and for truncated packets.
    /// Padding may follow.
    pub fn read(packet: &[u8]) -> Option<Control> {
        let p: &[u8; CONTROL_LEN] = packet.first_chunk()?;
        let value = u32::from_be_bytes([p[6], p[7], p[8], p[9]]);
        match (&p[..4], u16::from_be_bytes([p[4], p[5]])) {
            ([0, 0, 0, 0], 0) => Some(Control::Ping(value)),
            ([0, 0, 0, 0], 1) => Some(Control::Pong(value)),
            ([0, 0, 0, 0], 2) => Some(Control::Reset(value)),
            _ => None,
        }
    }

    /// The message as a packet.
    pub fn to_wire(self) -> [u8; CONTROL_LEN] {
        let (kind, value) = match self {
            Control::Ping(ts) => (0u16, ts),
            Control::Pong(ts) => (1, ts),
            Control::Reset(conv) => (2, conv),
        };
        let mut p = [0; CONTROL_LEN];
        p[4..6].copy_from_slice(&kind.to_be_bytes());
        p[6..10].copy_from_slice(&value.to_be_bytes());
        p
    }
}

/// The longest service id, bytes.
pub const SERVICE_ID_MAX: usize = 255;
/// Bytes of the longest punch: two addresses of IPv6.
pub const PUNCH_MAX: usize = 44;

/// A session-0 message of rendezvous mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meeting<'a> {
    /// A server behind NAT can be found here. Not answered.
    Listen {
        /// The sender's address, as it sees it itself.
        own: SocketAddr,
        /// The service.
        id: &'a [u8],
    },
    /// Looks for the server of a service. Answered with a punch.
    Connect {
        /// The sender's address, as it sees it itself.
        own: SocketAddr,
        /// The service.
        id: &'a [u8],
    },
    /// From the rendezvous server: the other end may be at these addresses.
    Punch([SocketAddr; 2]),
}

impl<'a> Meeting<'a> {
    /// Reads a packet whose session number is 0. None for other types, for truncated packets, and for a service id that is
    /// empty or longer than `SERVICE_ID_MAX`. Padding may follow.
    pub fn read(packet: &'a [u8]) -> Option<Meeting<'a>> {
        let (head, mut rest) = packet.split_first_chunk::<6>()?;
        let [0, 0, 0, 0, 0, kind @ 3..=5] = *head else {
            return None;
        };
        let own = read_address(&mut rest)?;
        if kind == 5 {
            return Some(Meeting::Punch([own, read_address(&mut rest)?]));
        }
        let (len, rest) = rest.split_first_chunk()?;
        let len = u16::from_be_bytes(*len) as usize;
        let id = rest
            .get(..len)
            .filter(|_| (1..=SERVICE_ID_MAX).contains(&len))?;
        Some(match kind {
            3 => Meeting::Listen { own, id },
            _ => Meeting::Connect { own, id },
        })
    }

    /// The message as a packet.
    pub fn to_wire(self) -> Vec<u8> {
        let mut p = vec![0; 6];
        match self {
            Meeting::Listen { own, id } | Meeting::Connect { own, id } => {
                p[5] = if matches!(self, Meeting::Listen { .. }) {
                    3
                } else {
                    4
                };
                write_address(&mut p, own);
                p.extend((id.len() as u16).to_be_bytes());
                p.extend(id);
            }
            Meeting::Punch(both) => {
                p[5] = 5;
                both.into_iter().for_each(|a| write_address(&mut p, a));
            }
        }
        p
    }
}

/// Takes an address off the front of `bytes`.
fn read_address(bytes: &mut &[u8]) -> Option<SocketAddr> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (part, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*part)
    }
    let ip = match take(bytes)? {
        [0] => IpAddr::from(take::<4>(bytes)?),
        [1] => IpAddr::from(take::<16>(bytes)?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(take(bytes)?)))
}

fn write_address(p: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            p.push(0);
            p.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            p.push(1);
            p.extend(ip.octets());
        }
    }
    p.extend(address.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meetings_have_the_form_of_kcptun_libev() {
        let four: SocketAddr = "192.0.2.1:258".parse().unwrap();
        let six: SocketAddr = "[2001:db8::7]:65535".parse().unwrap();
        let listen = Meeting::Listen {
            own: four,
            id: b"ab",
        };
        assert_eq!(
            listen.to_wire(),
            [0, 0, 0, 0, 0, 3, 0, 192, 0, 2, 1, 1, 2, 0, 2, b'a', b'b']
        );
        let connect = Meeting::Connect { own: six, id: b"c" };
        let mut wire = vec![0, 0, 0, 0, 0, 4, 1, 0x20, 1, 0x0d, 0xb8];
        wire.extend([0; 11]);
        wire.extend([7, 255, 255, 0, 1, b'c']);
        assert_eq!(connect.to_wire(), wire);
        let punch = Meeting::Punch([six, six]);
        assert_eq!(punch.to_wire().len(), PUNCH_MAX);
        let long = [9; SERVICE_ID_MAX];
        let longest = Meeting::Listen {
            own: six,
            id: &long,
        };
        let mixed = Meeting::Punch([four, six]);
        for message in [listen, connect, punch, mixed, longest] {
            let mut wire = message.to_wire();
            for cut in 0..wire.len() {
                assert_eq!(
                    Meeting::read(&wire[..cut]),
                    None,
                    "{message:?} cut to {cut}"
                );
            }
            let whole = wire.len();
            wire.extend([7; 7]);
            assert_eq!(Meeting::read(&wire), Some(message));
            assert_eq!(Meeting::read(&wire[..whole]), Some(message));
            assert_eq!(Control::read(&wire), None);
            for (at, to) in [(0, 1), (3, 1), (4, 1), (5, 2), (5, 6), (6, 2), (6, 255)] {
                let mut odd = wire.clone();
                odd[at] = to;
                assert_eq!(Meeting::read(&odd), None, "{message:?}: {to} at {at}");
            }
        }
    }

    #[test]
    fn service_ids_of_no_length_and_too_much_are_refused() {
        let own: SocketAddr = "192.0.2.1:258".parse().unwrap();
        for len in [0, SERVICE_ID_MAX + 1, 1_400] {
            let id = vec![1; len];
            let wire = Meeting::Connect { own, id: &id }.to_wire();
            assert_eq!(Meeting::read(&wire), None, "{len}");
        }
        let mut wire = Meeting::Connect { own, id: b"abc" }.to_wire();
        wire[13..15].copy_from_slice(&[255, 255]);
        assert_eq!(Meeting::read(&wire), None);
    }

    fn items(stream: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<&'static str>), BadMessage> {
        let (mut parser, mut data, mut names) = (Parser::default(), Vec::new(), Vec::new());
        for mut bytes in stream.chunks(piece) {
            while let Some(item) = parser.next(&mut bytes)? {
                match item {
                    Item::Dial => names.push("dial"),
                    Item::Data(d) => data.extend(d),
                    Item::Eof => names.push("eof"),
                    Item::Keepalive => names.push("keepalive"),
                }
            }
        }
        assert!(parser.between_messages());
        Ok((data, names))
    }

    #[test]
    fn messages_survive_any_cut() {
        let stream = [
            &header(Kind::Dial, 0)[..],
            &header(Kind::Push, 3),
            b"abc",
            &header(Kind::Keepalive, 0),
            &header(Kind::Push, 0),
            &header(Kind::Push, 2),
            b"de",
            &header(Kind::Eof, 0),
        ]
        .concat();
        for piece in 1..=stream.len() {
            assert_eq!(
                items(&stream, piece),
                Ok((b"abcde".to_vec(), vec!["dial", "keepalive", "eof"])),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn data_may_pass_unseen() {
        let mut parser = Parser::default();
        let (first, second) = (header(Kind::Push, 5), header(Kind::Eof, 0));
        assert!(!parser.passes(1));
        assert_eq!(parser.next(&mut &first[..]), Ok(None));
        assert!(parser.passes(5) && !parser.passes(6));
        parser.passed(3);
        assert!(parser.passes(2) && !parser.passes(3));
        assert_eq!(parser.next(&mut &b"x"[..]), Ok(Some(Item::Data(b"x"))));
        parser.passed(1);
        assert!(parser.between_messages());
        assert_eq!(parser.next(&mut &second[..]), Ok(Some(Item::Eof)));
    }

    #[test]
    fn lengths_and_types_out_of_range_are_broken() {
        for (bytes, kind, length) in [
            ([0, 0, 0, 3], 0, 3),
            ([0, 1, 0, 0], 1, 0),
            ([0, 1, 0x3a, 0x25], 1, 14_885),
            ([0, 4, 0, 4], 4, 4),
            ([0, 2, 0, 5], 2, 5),
            ([0xff, 0xff, 0xff, 0xff], 0xffff, 0xffff),
        ] {
            assert_eq!(items(&bytes, 4), Err(BadMessage { kind, length }));
        }
        assert!(Parser::default().next(&mut &[0, 1, 0x3a, 0x24][..]).is_ok());
    }

    #[test]
    fn control_messages_survive_padding_and_nothing_else() {
        for c in [Control::Ping(7), Control::Pong(u32::MAX), Control::Reset(1)] {
            let mut p = c.to_wire().to_vec();
            assert_eq!(Control::read(&p[..9]), None);
            p.extend([3, 3, 3]);
            assert_eq!(Control::read(&p), Some(c));
            p[5] = 9;
            assert_eq!(Control::read(&p), None);
        }
        assert_eq!(Control::read(&[1; 10]), None);
    }
}
