//! The messages inside a tunnel, apart from KCP: those that a session's byte stream consists of, and the
//! session-0 messages that stand alone in a packet. Only their form; what they mean is in `session` and `tunnel`.

/// Bytes of a session message's header: type and length, both u16.
pub const MESSAGE_HEADER: usize = 4;
/// The longest session message, its header included: the limit of kcptun-libev 2.
pub const MESSAGE_MAX: usize = 14_884;

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
    pub kind: u16,
    pub length: u16,
}

/// What `Parser::next` found at the front of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    Dial,
    /// A piece of a push message's data, never empty.
    Data(&'a [u8]),
    Eof,
    Keepalive,
}

/// Cuts a stream that arrives in pieces of any size into messages. Holds at most one header: data passes through.
#[derive(Default, Debug)]
pub struct Parser {
    header: [u8; MESSAGE_HEADER],
    filled: u8,
    /// Bytes of the present push message that are still to come.
    left: u16,
}

impl Parser {
    /// Takes the next item off the front of `bytes`; None when they are used up.
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

    /// Takes note of `n` bytes of data that were not shown to `next`: no more than `passes` has allowed.
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
    /// Sender's clock, ms. Answered with a pong.
    Ping(u32),
    /// The ping's timestamp.
    Pong(u32),
    /// The sender has no session of this number.
    Reset(u32),
}

/// Bytes of each of the messages in `Control`.
pub const CONTROL_LEN: usize = 10;

impl Control {
    /// Reads a packet whose first four bytes (the session number) are 0. None for types that are not known,
    /// and for what is cut short. Padding may follow.
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

#[cfg(test)]
mod tests {
    use super::*;

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
