//! KCP's 24-byte segment header, as it stands on the wire (every integer big-endian) and as the `kcp` crate wants it
//! (little-endian), and the segments of a packet, which are parsed and checked once. What they bring about is not here.

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
        let header = bytes.first_chunk()?;
        Some(Header::parse(
            header,
            u32::from_be_bytes,
            u16::from_be_bytes,
        ))
    }

    /// The header as it stands on the wire.
    pub fn to_wire(self) -> [u8; HEADER] {
        self.write(u32::to_be_bytes, u16::to_be_bytes)
    }

    /// Reads a header that the `kcp` crate has written.
    pub(crate) fn from_kcp(header: &[u8; HEADER]) -> Header {
        Header::parse(header, u32::from_le_bytes, u16::from_le_bytes)
    }

    /// The header as the `kcp` crate reads it.
    pub(crate) fn to_kcp(self) -> [u8; HEADER] {
        self.write(u32::to_le_bytes, u16::to_le_bytes)
    }

    #[inline(always)]
    fn parse(h: &[u8; HEADER], long: fn([u8; 4]) -> u32, short: fn([u8; 2]) -> u16) -> Header {
        let long_at = |at: usize| long([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        Header {
            conv: long_at(0),
            cmd: h[4],
            frg: h[5],
            wnd: short([h[6], h[7]]),
            ts: long_at(8),
            sn: long_at(12),
            una: long_at(16),
            len: long_at(20),
        }
    }

    #[inline(always)]
    fn write(self, long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        h[0..4].copy_from_slice(&long(self.conv));
        h[4] = self.cmd;
        h[5] = self.frg;
        h[6..8].copy_from_slice(&short(self.wnd));
        h[8..12].copy_from_slice(&long(self.ts));
        h[12..16].copy_from_slice(&long(self.sn));
        h[16..20].copy_from_slice(&long(self.una));
        h[20..24].copy_from_slice(&long(self.len));
        h
    }

    /// Bytes of a segment that has this header.
    fn size(&self) -> usize {
        HEADER + self.len as usize
    }

    /// Whether a segment of the conversation may have this header.
    fn check(&self, conv: u32) -> Result<(), Malformed> {
        if self.conv != conv {
            return Err(Malformed::Mixed);
        }
        match self.cmd {
            cmd::PUSH if self.frg != 0 => Err(Malformed::Fragment),
            cmd::PUSH => Ok(()),
            cmd::ACK | cmd::WASK | cmd::WINS if self.len != 0 => Err(Malformed::Data),
            cmd::ACK | cmd::WASK | cmd::WINS => Ok(()),
            _ => Err(Malformed::Command),
        }
    }
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

/// Takes the headers of a packet, and is used again for the next one: none costs an allocation.
#[derive(Default)]
pub struct Headers(Vec<Header>);

/// The segments of a packet that is well-formed as far as can be told without its conversation: all of one conversation, each
/// whole and of a known kind.
pub struct Segments<'a> {
    headers: &'a [Header],
    /// The packet as it came, without padding.
    bytes: &'a mut [u8],
}

impl<'a> Segments<'a> {
    /// Parses and checks a packet, front to back. What follows the last whole segment and is shorter than a header is padding.
    pub fn parse(
        packet: &'a mut [u8],
        headers: &'a mut Headers,
    ) -> Result<Segments<'a>, Malformed> {
        let headers = &mut headers.0;
        headers.clear();
        let mut len = 0;
        while let Some(header) = Header::read(&packet[len..]) {
            let body = packet.len() - len - HEADER;
            if header.len as usize > body {
                return Err(Malformed::Length);
            }
            header.check(headers.first().unwrap_or(&header).conv)?;
            len += HEADER + header.len as usize;
            headers.push(header);
        }
        if headers.is_empty() {
            return Err(Malformed::Short);
        }
        let bytes = &mut packet[..len];
        Ok(Segments { headers, bytes })
    }

    /// The headers of the segments, of which there is at least one.
    pub fn headers(&self) -> &[Header] {
        self.headers
    }

    /// The headers of the segments that bring data.
    pub fn pushes(&self) -> impl DoubleEndedIterator<Item = &Header> {
        self.headers.iter().filter(|h| h.cmd == cmd::PUSH)
    }

    /// All bytes of the segments, as they came.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The segments, each with its header and its data.
    pub fn iter(&self) -> impl Iterator<Item = (&Header, &[u8])> {
        let mut rest = &*self.bytes;
        self.headers.iter().map(move |header| {
            let (segment, more) = rest.split_at(header.size());
            rest = more;
            (header, &segment[HEADER..])
        })
    }

    /// The segments, each with its header and all its bytes.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Header, &mut [u8])> {
        let mut rest = &mut *self.bytes;
        self.headers.iter().map(move |header| {
            let (segment, more) = std::mem::take(&mut rest).split_at_mut(header.size());
            rest = more;
            (header, segment)
        })
    }

    /// The packet as the `kcp` crate reads it.
    pub(crate) fn into_kcp(mut self) -> &'a mut [u8] {
        for (header, segment) in self.iter_mut() {
            segment[..HEADER].copy_from_slice(&header.to_kcp());
        }
        self.bytes
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

    /// The bytes that a packet's segments take.
    fn check(packet: &[u8]) -> Result<usize, Malformed> {
        let (mut packet, mut headers) = (packet.to_vec(), Headers::default());
        Segments::parse(&mut packet, &mut headers).map(|segments| segments.bytes().len())
    }

    #[test]
    fn segments_stop_at_padding() {
        let mut packet = [push(9, 0, b"hello"), push(9, 1, b"")].concat();
        let whole = packet.len();
        packet.extend([15; 15]);
        assert_eq!(check(&packet), Ok(whole));
        let mut headers = Headers::default();
        let segments = Segments::parse(&mut packet, &mut headers).expect("segments");
        let seen: Vec<_> = segments.iter().map(|(h, data)| (h.sn, data)).collect();
        assert_eq!(seen, [(0, &b"hello"[..]), (1, b"")]);
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
    fn the_crate_gets_its_byte_order() {
        let mut packet = [push(0x0a0b_0c0d, 0, b"hello"), push(0x0a0b_0c0d, 1, b"x")].concat();
        let mut headers = Headers::default();
        let segments = Segments::parse(&mut packet, &mut headers).expect("segments");
        let parsed = segments.headers().to_vec();
        let turned = segments.into_kcp();
        assert_eq!(&turned[..4], [0x0d, 0x0c, 0x0b, 0x0a]);
        assert_eq!(&turned[24..29], b"hello");
        for (at, header) in [0, 29].into_iter().zip(parsed) {
            let turned = turned[at..].first_chunk().expect("a header");
            assert_eq!(Header::from_kcp(turned), header);
        }
    }

    #[test]
    fn numbers_wrap() {
        assert_eq!(ahead(1, u32::MAX), 2);
        assert_eq!(ahead(u32::MAX, 1), -2);
        assert_eq!(ahead(0x8000_0000, 0x7fff_ffff), 1);
    }
}
