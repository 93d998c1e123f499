//! A session's byte stream, cut anywhere: the parser says of it what a simple reading of the whole says.

use super::Bytes;
use kcptun::message::{BadMessage, Item, MESSAGE_HEADER, MESSAGE_MAX, Parser};

/// What a stream tells: its messages, those with data joined, and whether it ended between two of them or where it broke.
#[derive(Default, PartialEq, Eq, Debug)]
struct Told {
    items: Vec<(u16, usize)>,
    data: Vec<u8>,
    whole: bool,
    broken: Option<(u16, u16)>,
}

pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let count = bytes.below(16);
    let cuts = bytes.take(count);
    let stream = bytes.0;
    assert_eq!(parsed(stream, cuts), read(stream), "cut by {cuts:?}");
}

fn parsed(stream: &[u8], cuts: &[u8]) -> Told {
    let (mut parser, mut told) = (Parser::default(), Told::default());
    let (mut rest, mut cut) = (stream, 0);
    while !rest.is_empty() {
        let size = cuts.get(cut % cuts.len().max(1)).copied();
        let size = size.map_or(rest.len(), |n| usize::from(n).clamp(1, rest.len()));
        cut += 1;
        let (mut piece, others) = rest.split_at(size);
        rest = others;
        if size % 2 == 1 && parser.passes(size) {
            told.data.extend(piece);
            parser.passed(size);
            continue;
        }
        loop {
            match parser.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(item)) => told.note(item),
                Err(BadMessage { kind, length }) => {
                    told.broken = Some((kind, length));
                    return told;
                }
            }
        }
        assert!(piece.is_empty(), "bytes are left over");
    }
    told.whole = parser.between_messages();
    told
}

impl Told {
    fn note(&mut self, item: Item) {
        let at = self.data.len();
        match item {
            Item::Dial => self.items.push((0, at)),
            Item::Eof => self.items.push((2, at)),
            Item::Keepalive => self.items.push((3, at)),
            Item::Data(data) => {
                assert!(!data.is_empty());
                self.data.extend(data);
            }
        }
    }
}

/// The whole stream at once, as the protocol has it.
fn read(stream: &[u8]) -> Told {
    let (mut told, mut rest) = (Told::default(), stream);
    told.whole = true;
    while let Some((head, after)) = rest.split_first_chunk::<MESSAGE_HEADER>() {
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = u16::from_be_bytes([head[2], head[3]]);
        let payload = usize::from(length).wrapping_sub(MESSAGE_HEADER);
        let sound = kind <= 3 && (kind == 1 || payload == 0);
        if !sound || payload > MESSAGE_MAX - MESSAGE_HEADER {
            (told.broken, told.whole) = (Some((kind, length)), false);
            return told;
        }
        if kind != 1 {
            told.items.push((kind, told.data.len()));
        }
        told.whole = after.len() >= payload;
        let (data, after) = after.split_at(payload.min(after.len()));
        told.data.extend(data);
        rest = after;
    }
    told.whole &= rest.is_empty();
    told
}
