//! KCP's 24-byte segment header, as it stands on the wire (every integer big-endian) and as the `kcp` crate
//! wants it (little-endian), and the walk over the segments of a packet. No state lives here.

/// The window that KCP assumes before it has heard of the receiver's, and the narrowest that it receives with, segments.
pub const DEFAULT_WINDOW: u16 = 128;
/// Bytes of a segment's header.
pub const HEADER: usize = 24;

/// The commands of KCP that a header can carry.
pub mod cmd {
    /// Data.
    pub const PUSH: u8 = 81;
    /// Acknowledges one segment, told by `sn` and `ts`.
    pub const ACK: u8 = 82;
    /// Asks for the receiver's window.
    pub const WASK: u8 = 83;
    /// Tells the receiver's window.
    pub const WINS: u8 = 84;
}

/// One segment's header in the host's own byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// The number of its session.
    pub conv: u32,
    /// What it is: one of `cmd`.
    pub cmd: u8,
    /// How many fragments of its message follow; always 0 in stream mode.
    pub frg: u8,
    /// Free receive window of the sender of this segment, segments.
    pub wnd: u16,
    /// Sender's clock, ms; an ack echoes it.
    pub ts: u32,
    /// Its number; of an ack, the number that is acknowledged.
    pub sn: u32,
    /// All segments before this one have arrived.
    pub una: u32,
    /// Bytes of data that follow.
    pub len: u32,
}

impl Header {
    /// Reads the big-endian header at the start of `bytes`; None if it is shorter than a header.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let h: &[u8; HEADER] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        Some(Header {
            conv: u32_at(0),
            cmd: h[4],
            frg: h[5],
            wnd: u16::from_be_bytes([h[6], h[7]]),
            ts: u32_at(8),
            sn: u32_at(12),
            una: u32_at(16),
            len: u32_at(20),
        })
    }

    /// The header as it stands on the wire.
    pub fn to_wire(self) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        h[0..4].copy_from_slice(&self.conv.to_be_bytes());
        h[4] = self.cmd;
        h[5] = self.frg;
        h[6..8].copy_from_slice(&self.wnd.to_be_bytes());
        h[8..12].copy_from_slice(&self.ts.to_be_bytes());
        h[12..16].copy_from_slice(&self.sn.to_be_bytes());
        h[16..20].copy_from_slice(&self.una.to_be_bytes());
        h[20..24].copy_from_slice(&self.len.to_be_bytes());
        h
    }
}

/// Turns one header from big- to little-endian or back: the swap is its own inverse.
pub fn swap_header(header: &mut [u8; HEADER]) {
    header[0..4].reverse();
    header[6..8].reverse();
    header[8..12].reverse();
    header[12..16].reverse();
    header[16..20].reverse();
    header[20..24].reverse();
}

/// What is wrong with a packet that was opened but is not KCP of the conversation it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Shorter than one header.
    Short,
    /// A segment's data reaches beyond the packet.
    Length,
    /// No such command.
    Command,
    /// Segments of two conversations in one packet.
    Mixed,
    /// A fragment number: in stream mode it is always 0, and the `kcp` crate overflows at 255.
    Fragment,
    /// A window ask or tell, or an ack, that carries data.
    Data,
}

/// The segments of a packet, front to back, each with its data. What follows the last whole segment and is
/// shorter than a header is padding and ends the walk. An error ends it, too.
pub struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    /// The segments of a packet, in order.
    pub fn new(packet: &'a [u8]) -> Segments<'a> {
        Segments { rest: packet }
    }

    /// The bytes that were not walked over yet; after the last segment, the padding.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<(Header, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = Header::read(self.rest)?;
        let body = &self.rest[HEADER..];
        if header.len as usize > body.len() {
            self.rest = &[];
            return Some(Err(Malformed::Length));
        }
        let (data, rest) = body.split_at(header.len as usize);
        self.rest = rest;
        Some(Ok((header, data)))
    }
}

/// Checks everything about a packet that can be checked without its conversation.
/// Returns the bytes that its segments take (what follows is padding).
pub fn check(packet: &[u8]) -> Result<usize, Malformed> {
    let conv = Header::read(packet).ok_or(Malformed::Short)?.conv;
    let mut segments = Segments::new(packet);
    for segment in segments.by_ref() {
        let (header, _) = segment?;
        if header.conv != conv {
            return Err(Malformed::Mixed);
        }
        match header.cmd {
            cmd::PUSH if header.frg != 0 => return Err(Malformed::Fragment),
            cmd::PUSH => {}
            cmd::ACK | cmd::WASK | cmd::WINS if header.len != 0 => return Err(Malformed::Data),
            cmd::ACK | cmd::WASK | cmd::WINS => {}
            _ => return Err(Malformed::Command),
        }
    }
    Ok(packet.len() - segments.rest().len())
}

/// Turns a packet that `check` accepted (cut to the length it told) into the `kcp` crate's byte order.
pub fn to_kcp(packet: &mut [u8]) {
    swap_headers(packet, u32::from_be_bytes);
}

/// Turns what the `kcp` crate put out into the wire's byte order.
pub fn to_wire(packet: &mut [u8]) {
    swap_headers(packet, u32::from_le_bytes);
}

/// `length` reads a header's length as it stands before the swap.
fn swap_headers(packet: &mut [u8], length: fn([u8; 4]) -> u32) {
    let mut rest = packet;
    while let Some((header, body)) = rest.split_first_chunk_mut::<HEADER>() {
        let len = length([header[20], header[21], header[22], header[23]]) as usize;
        swap_header(header);
        rest = body.get_mut(len..).unwrap_or_default();
    }
}

/// The distance from `b` to `a` on the circle of 32-bit numbers: positive if `a` is ahead.
pub fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(conv: u32, sn: u32, data: &[u8]) -> Vec<u8> {
        let h = Header {
            conv,
            cmd: cmd::PUSH,
            sn,
            len: data.len() as u32,
            wnd: 0x1234,
            ts: 0x0102_0304,
            ..Default::default()
        };
        [&h.to_wire(), data].concat()
    }

    #[test]
    fn a_header_survives_the_wire() {
        let h = Header {
            conv: 1,
            cmd: 82,
            frg: 3,
            wnd: 4,
            ts: 5,
            sn: 6,
            una: 7,
            len: 8,
        };
        assert_eq!(Header::read(&h.to_wire()), Some(h));
        assert_eq!(Header::read(&h.to_wire()[1..]), None);
    }

    #[test]
    fn the_walk_stops_at_padding_and_tells_its_length() {
        let mut packet = [push(9, 0, b"hello"), push(9, 1, b"")].concat();
        let whole = packet.len();
        packet.extend([15; 15]);
        assert_eq!(check(&packet), Ok(whole));
        let seen: Vec<_> = Segments::new(&packet).map(|s| s.unwrap().1.len()).collect();
        assert_eq!(seen, [5, 0]);
    }

    #[test]
    fn what_kcp_would_choke_on_is_refused() {
        assert_eq!(check(&[0; 23]), Err(Malformed::Short));
        let mut long = push(9, 0, b"hello");
        long[23] = 6;
        assert_eq!(check(&long), Err(Malformed::Length));
        long[20..24].fill(0xff);
        assert_eq!(check(&long), Err(Malformed::Length));
        let mut odd = push(9, 0, b"");
        odd[5] = 255;
        assert_eq!(check(&odd), Err(Malformed::Fragment));
        odd[4] = 85;
        assert_eq!(check(&odd), Err(Malformed::Command));
        assert_eq!(
            check(&[push(9, 0, b"a"), push(8, 1, b"b")].concat()),
            Err(Malformed::Mixed)
        );
        let mut ack = push(9, 0, b"x");
        ack[4] = cmd::ACK;
        assert_eq!(check(&ack), Err(Malformed::Data));
    }

    #[test]
    fn the_byte_order_turns_and_turns_back() {
        let packet = [push(0x0a0b_0c0d, 0, b"hello"), push(0x0a0b_0c0d, 1, b"x")].concat();
        let mut turned = packet.clone();
        to_kcp(&mut turned);
        assert_eq!(&turned[..4], [0x0d, 0x0c, 0x0b, 0x0a]);
        assert_eq!(&turned[24..29], b"hello");
        to_wire(&mut turned);
        assert_eq!(turned, packet);
    }

    #[test]
    fn numbers_wrap() {
        assert_eq!(ahead(1, u32::MAX), 2);
        assert_eq!(ahead(u32::MAX, 1), -2);
        assert_eq!(ahead(0x8000_0000, 0x7fff_ffff), 1);
    }
}
