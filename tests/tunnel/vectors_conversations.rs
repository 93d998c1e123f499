//! Dialogues between a client and a server of kcptun-libev 2.3.5, datagram by datagram: they are decoded, encoded
//! again, and played into a tunnel of ours that stands in for either end.

use super::vectors_crypto::hex;
use crate::sim;
use kcptun::crypto::{Key, Method, Sealing};
use kcptun::message::{self, CONTROL_LEN, Control, Item, Kind, Parser};
use kcptun::path::Local;
use kcptun::pmtu::BASE;
use kcptun::segment::{HEADER, Header, Headers, Malformed, Segments, ahead, cmd};
use kcptun::settings::{ForwardSecrecy, Settings};
use kcptun::time::Instant;
use kcptun::tunnel::{DATAGRAM_MAX, Event, Refused, SessionId, Transmit, Tunnel};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const OTHER_END: &str = "192.0.2.1:1000";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Client,
    Server,
}

struct Recorded {
    /// Microseconds since the recording began.
    at: u64,
    from: From,
    datagram: Vec<u8>,
    /// What was sealed, padding included.
    packet: Vec<u8>,
}

struct Conversation {
    method: Option<Method>,
    key: Option<Key>,
    packets: Vec<Recorded>,
}

impl Conversation {
    fn sealing(&self) -> Option<Sealing> {
        Some(Sealing::new(self.method?, self.key.as_ref()?))
    }

    fn from(&self, end: From) -> impl Iterator<Item = &Recorded> {
        self.packets.iter().filter(move |p| p.from == end)
    }

    /// The session's number.
    fn conv(&self) -> u32 {
        let packets = self.packets.iter().filter_map(|p| Header::read(&p.packet));
        let numbers: BTreeSet<u32> = packets.map(|h| h.conv).filter(|c| *c != 0).collect();
        assert_eq!(numbers.len(), 1);
        *numbers.first().expect("a session")
    }

    fn name(&self) -> String {
        self.method.map_or("open".into(), |m| m.to_string())
    }
}

/// All conversations; every datagram has been opened with one `Sealing`, as a third party would that has the key.
fn conversations() -> Vec<Conversation> {
    let vectors: Value =
        serde_json::from_str(include_str!("../vectors/conversations.json")).expect("valid JSON");
    let list = vectors["conversations"].as_array().expect("an array");
    assert_eq!(list.len(), 5);
    list.iter().map(conversation).collect()
}

fn conversation(value: &Value) -> Conversation {
    let method = value["method"].as_str().map(|m| m.parse().expect("method"));
    let key = value["psk"]
        .as_str()
        .map(|psk| Key::from_base64(psk).expect("a key"));
    let mut conversation = Conversation {
        method,
        key,
        packets: Vec::new(),
    };
    let mut sealing = conversation.sealing();
    for packet in value["packets"].as_array().expect("an array") {
        let datagram = hex(&packet["datagram"]);
        let mut copy = datagram.clone();
        let opened = match &mut sealing {
            Some(sealing) => sealing.open(&mut copy).expect("authentic").to_vec(),
            None => copy,
        };
        conversation.packets.push(Recorded {
            at: (packet["ms"].as_f64().expect("a number") * 1000.0) as u64,
            from: match packet["from"].as_str() {
                Some("client") => From::Client,
                Some("server") => From::Server,
                _ => panic!("from nobody"),
            },
            datagram,
            packet: opened,
        });
    }
    assert_eq!(conversation.packets.len(), 20);
    conversation
}

fn pattern() -> Vec<u8> {
    (0..6000_usize)
        .map(|i| ((i * 31 + (i >> 8)) & 255) as u8)
        .collect()
}

/// The segments of a packet, each with its data.
pub fn segments(packet: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, Malformed> {
    let (mut packet, mut headers) = (packet.to_vec(), Headers::default());
    let segments = Segments::parse(&mut packet, &mut headers)?;
    Ok(segments
        .iter()
        .map(|(h, data)| (*h, data.to_vec()))
        .collect())
}

/// Bytes of a packet without its padding.
fn whole(packet: &[u8]) -> usize {
    let segments = segments(packet).expect("a packet of KCP");
    segments.iter().map(|(_, data)| HEADER + data.len()).sum()
}

/// The segments of one end, as its receiver puts them together.
#[derive(Default)]
struct Stream {
    pieces: BTreeMap<u32, Vec<u8>>,
}

impl Stream {
    fn take(&mut self, packet: &[u8]) {
        for (header, data) in segments(packet).expect("a packet of KCP") {
            if header.cmd == cmd::PUSH {
                let before = self.pieces.insert(header.sn, data.clone());
                assert!(before.is_none_or(|before| before == data), "another text");
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let numbers: Vec<u32> = self.pieces.keys().copied().collect();
        let gapless: Vec<u32> = (0..numbers.len() as u32).collect();
        assert_eq!(numbers, gapless, "a segment is missing");
        self.pieces.values().flatten().copied().collect()
    }

    /// The messages, with data that belongs together in one piece.
    fn dialogue(&self) -> Vec<String> {
        let (mut parser, mut lines) = (Parser::default(), Vec::new());
        let mut data = Vec::new();
        let stream = self.bytes();
        let mut rest = &stream[..];
        while let Some(item) = parser.next(&mut rest).expect("messages") {
            let line = match item {
                Item::Data(piece) => {
                    data.extend_from_slice(piece);
                    continue;
                }
                Item::Dial => "dial",
                Item::Eof => "eof",
                Item::Keepalive => "keepalive",
            };
            lines.extend(spoken(&mut data));
            lines.push(line.into());
        }
        assert!(parser.between_messages());
        lines.extend(spoken(&mut data));
        lines
    }
}

/// What was said, and in which order.
fn spoken(data: &mut Vec<u8>) -> Vec<String> {
    let data = std::mem::take(data);
    for greeting in [&b"hello"[..], b"HELLO"] {
        if let Some(rest) = data.strip_prefix(greeting) {
            let mut said = vec![String::from_utf8_lossy(greeting).into_owned()];
            if !rest.is_empty() {
                assert_eq!(rest, pattern());
                said.push("6000 bytes".into());
            }
            return said;
        }
    }
    assert!(data.is_empty(), "{} bytes that nobody said", data.len());
    Vec::new()
}

const CLIENT_SAYS: [&str; 4] = ["dial", "hello", "6000 bytes", "eof"];
/// The server of 2.3.5 owes its eof: it does not carry the rest of an answer after the client's.
const SERVER_SAYS: [&str; 2] = ["HELLO", "6000 bytes"];

#[test]
fn recorded_datagrams_decode_into_the_dialogue() {
    for conversation in conversations() {
        conversation.conv();
        let mut streams = [Stream::default(), Stream::default()];
        let mut pings = Vec::new();
        for recorded in &conversation.packets {
            match Control::read(&recorded.packet) {
                Some(control) => pings.push((recorded.from, control)),
                None => streams[recorded.from as usize].take(&recorded.packet),
            }
        }
        let name = conversation.name();
        assert_eq!(
            streams[From::Client as usize].dialogue(),
            CLIENT_SAYS,
            "{name}"
        );
        assert_eq!(
            streams[From::Server as usize].dialogue(),
            SERVER_SAYS,
            "{name}"
        );
        assert_eq!(pings.len(), 4, "{name}");
        for pair in pings.chunks(2) {
            let (From::Client, Control::Ping(ts)) = pair[0] else {
                panic!("{name}: {pair:?}");
            };
            assert_eq!(pair[1], (From::Server, Control::Pong(ts)), "{name}");
        }
    }
}

/// What follows the last segment or field is padding: up to 15 bytes, each of them its length; but for pings that ask whether
/// a size arrives.
fn assert_padded(packet: &[u8]) {
    let whole = match Control::read(packet) {
        Some(control) => control.to_wire().len(),
        None => whole(packet),
    };
    let padding = &packet[whole..];
    if matches!(Control::read(packet), Some(Control::Ping(_))) && padding.len() >= 16 {
        return assert!(padding.iter().all(|b| *b == 0));
    }
    assert!(padding.len() < 16, "{} bytes of padding", padding.len());
    assert!(padding.iter().all(|b| usize::from(*b) == padding.len()));
}

#[test]
fn what_was_decoded_encodes_into_the_recorded_bytes() {
    for conversation in conversations() {
        let name = conversation.name();
        let mut streams = [Stream::default(), Stream::default()];
        for recorded in &conversation.packets {
            let (packet, mut again) = (&recorded.packet, Vec::new());
            match Control::read(packet) {
                Some(control) => again.extend(control.to_wire()),
                None => {
                    for (header, data) in segments(packet).expect("a packet of KCP") {
                        again.extend(header.to_wire());
                        again.extend(data);
                    }
                    assert_eq!(whole(packet), again.len(), "{name}");
                    streams[recorded.from as usize].take(packet);
                }
            }
            assert_padded(packet);
            let padding = packet.len() - again.len();
            again.resize(packet.len(), padding as u8);
            assert_eq!(&again, packet, "{name}");

            if let Some(sealing) = conversation.sealing() {
                let nonce_at = recorded.datagram.len() - sealing.method().nonce_len();
                again.resize(packet.len() + sealing.overhead(), 0);
                sealing.seal_with(&recorded.datagram[nonce_at..], &mut again, packet.len());
            }
            assert_eq!(again, recorded.datagram, "{name}");
        }
        let said = |kind, data: &[u8]| [&message::header(kind, data.len())[..], data].concat();
        let client = [
            said(Kind::Dial, b""),
            said(Kind::Push, b"hello"),
            said(Kind::Push, &pattern()),
            said(Kind::Eof, b""),
        ];
        let server = [said(Kind::Push, b"HELLO"), said(Kind::Push, &pattern())];
        assert!(
            streams[From::Client as usize].bytes() == client.concat(),
            "{name}"
        );
        assert!(
            streams[From::Server as usize].bytes() == server.concat(),
            "{name}"
        );
    }
}

/// Our tunnel in the place of one end, with a program at its TCP side.
struct Ours {
    tunnel: Tunnel,
    /// Opens what the tunnel sends, and seals what it has answered.
    sealing: Option<Sealing>,
    other: Option<Sealing>,
    id: Option<SessionId>,
    read: Vec<u8>,
    ended: bool,
    closed: Option<bool>,
    /// Every packet that was sent, without its seal.
    sent: Vec<Vec<u8>>,
    largest: usize,
}

impl Ours {
    /// A server that would agree on fresh keys, or a client that does not ask for any.
    fn new(conversation: &Conversation, accepts: bool) -> Ours {
        let forward_secrecy = match accepts {
            true => ForwardSecrecy::Auto,
            false => ForwardSecrecy::Off,
        };
        Ours::with(conversation, accepts, forward_secrecy)
    }

    fn with(conversation: &Conversation, accepts: bool, forward_secrecy: ForwardSecrecy) -> Ours {
        // its clock shows what the recorded one did, so that timestamps agree
        let (first, clock) = match Control::read(&conversation.packets[0].packet) {
            Some(Control::Ping(clock)) => (conversation.packets[0].at, clock),
            other => panic!("{other:?} comes first"),
        };
        let mut settings = Settings {
            sealing: conversation.sealing(),
            accepts,
            forward_secrecy,
            clock_offset: clock.wrapping_sub((first / 1000) as u32),
            seed: 7,
            ..Settings::default()
        };
        settings.kcp.rcvwnd = 256;
        settings.kcp.mtu = 1400;
        Ours {
            tunnel: Tunnel::new(settings, Instant::from_micros(first)),
            sealing: conversation.sealing(),
            other: conversation.sealing(),
            id: None,
            read: Vec::new(),
            ended: false,
            closed: None,
            sent: Vec::new(),
            largest: 0,
        }
    }

    /// The recorded client does not answer our ping, since it names what only this tunnel knows: its proof is given before.
    fn meet(&mut self, conversation: &Conversation) {
        let now = Instant::from_micros(conversation.packets[0].at);
        sim::prove(&mut self.tunnel, now, other_end(), conversation.sealing());
    }

    fn now_at(&mut self, at: u64) -> Instant {
        let now = Instant::from_micros(at);
        while let Some(due) = self.tunnel.poll_timeout().filter(|due| *due <= now) {
            self.tunnel.handle_timeout(due);
            self.settle(due);
        }
        now
    }

    fn receive(&mut self, at: u64, datagram: &[u8]) -> Instant {
        let now = self.now_at(at);
        self.tunnel
            .receive(now, other_end(), Local::default(), &mut datagram.to_vec());
        self.settle(now);
        now
    }

    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.tunnel.poll() {
            match event {
                Event::Dial(id) => {
                    assert!(self.id.replace(id).is_none(), "a second dial");
                    self.tunnel.dialled(now, id);
                }
                Event::Readable(id) => {
                    while !self.tunnel.output(id).is_empty() {
                        let n = self.tunnel.output(id).len();
                        self.read.extend_from_slice(self.tunnel.output(id));
                        self.tunnel.consumed(now, id, n);
                    }
                    self.ended |= self.tunnel.output_ended(now, id);
                }
                Event::Writable(_) => {}
                Event::Close { abort, .. } => self.closed = Some(abort),
            }
        }
        let mut out = [0; DATAGRAM_MAX];
        while let Some(Transmit { len, addr: to, .. }) = self.tunnel.poll_transmit(now, &mut out) {
            assert_eq!(to, other_end());
            self.largest = self.largest.max(len);
            let packet = match &mut self.sealing {
                Some(sealing) => sealing.open(&mut out[..len]).expect("ours"),
                None => &mut out[..len],
            };
            assert_padded(packet);
            self.sent.push(packet.to_vec());
            match Control::read(packet) {
                Some(Control::Ping(token)) if packet.len() >= 100 => self.answer(now, token),
                _ => (),
            }
        }
    }

    /// The recorded end would have answered: its packets are as long.
    fn answer(&mut self, now: Instant, token: u32) {
        let mut pong = Control::Pong(token).to_wire().to_vec();
        pong.resize(100, 0);
        let len = match &mut self.other {
            Some(sealing) => sealing.seal(&mut pong, CONTROL_LEN),
            None => CONTROL_LEN,
        };
        self.tunnel
            .receive(now, other_end(), Local::default(), &mut pong[..len]);
    }

    fn write(&mut self, now: Instant, bytes: &[u8]) {
        let id = self.id.expect("a session");
        self.tunnel.input(id)[..bytes.len()].copy_from_slice(bytes);
        self.tunnel.filled(now, id, bytes.len());
        self.settle(now);
    }

    fn finish(&mut self, now: Instant) {
        self.tunnel.finished(now, self.id.expect("a session"));
        self.settle(now);
    }

    fn stream(&self) -> Stream {
        let mut stream = Stream::default();
        for packet in self.sent.iter().filter(|p| Control::read(p).is_none()) {
            stream.take(packet);
        }
        stream
    }

    fn controls(&self) -> Vec<Control> {
        self.sent.iter().filter_map(|p| Control::read(p)).collect()
    }
}

fn other_end() -> SocketAddr {
    OTHER_END.parse().expect("an address")
}

/// Asserts that every segment pushed in `pushes` is acknowledged in `answers`, by number or by una.
fn assert_acknowledged<'a>(
    name: &str,
    pushes: impl Iterator<Item = &'a Recorded>,
    answers: &[Vec<u8>],
) {
    let (mut acked, mut una) = (BTreeSet::new(), 0);
    for packet in answers.iter().filter(|p| Control::read(p).is_none()) {
        for (header, _) in segments(packet).into_iter().flatten() {
            if ahead(header.una, una) > 0 {
                una = header.una;
            }
            if header.cmd == cmd::ACK {
                acked.insert((header.sn, header.ts));
            }
        }
    }
    let mut pushed = BTreeSet::new();
    for recorded in pushes {
        for (header, _) in segments(&recorded.packet).into_iter().flatten() {
            if header.conv != 0 && header.cmd == cmd::PUSH {
                pushed.insert((header.sn, header.ts));
            }
        }
    }
    assert!(!pushed.is_empty());
    assert_eq!(una as usize, pushed.len(), "{name}: una");
    // of segments in order the last is named, and una, which is all of them, tells of the others
    assert!(
        acked.is_subset(&pushed),
        "{name}: acks, each with its push's time"
    );
    assert!(
        acked.contains(pushed.last().expect("pushes")),
        "{name}: the last"
    );
}

/// A recorded client of kcptun-libev is refused in words where fresh keys are required: nothing is dialled, and its session is
/// reset.
#[test]
fn where_fresh_keys_are_required_recorded_clients_are_refused() {
    let all = conversations().into_iter();
    for conversation in all.filter(|conversation| conversation.sealing().is_some()) {
        let mut ours = Ours::with(&conversation, true, ForwardSecrecy::Require);
        ours.meet(&conversation);
        for recorded in conversation.from(From::Client) {
            ours.receive(recorded.at, &recorded.datagram);
        }
        let conv = conversation.conv();
        assert_eq!(ours.id, None, "{}", conversation.name());
        assert!(ours.controls().contains(&Control::Reset(conv)));
        assert!(ours.stream().bytes().is_empty());
    }
}

/// And our client opens nothing to a recorded server.
#[test]
fn where_fresh_keys_are_required_a_recorded_server_gets_no_session() {
    let all = conversations().into_iter();
    for conversation in all.filter(|conversation| conversation.sealing().is_some()) {
        let mut tunnel = Tunnel::new(
            Settings {
                sealing: conversation.sealing(),
                forward_secrecy: ForwardSecrecy::Require,
                ..Settings::default()
            },
            Instant::ZERO,
        );
        tunnel.set_peer(Instant::ZERO, other_end());
        for recorded in conversation.from(From::Server) {
            let now = Instant::from_micros(recorded.at);
            tunnel.receive(
                now,
                other_end(),
                Local::default(),
                &mut recorded.datagram.clone(),
            );
            assert_eq!(tunnel.open(now), Err(Refused::NoFreshKeys));
        }
    }
}

#[test]
fn a_recorded_client_gets_its_dialogue_from_our_server() {
    for conversation in conversations() {
        let name = conversation.name();
        let mut ours = Ours::new(&conversation, true);
        ours.meet(&conversation);
        let mut answered = 0;
        let mut last = 0;
        for recorded in conversation.from(From::Client) {
            last = recorded.at;
            let now = ours.receive(recorded.at, &recorded.datagram);
            if answered == 0 && ours.read == b"hello" {
                answered = 1;
                ours.write(now, b"HELLO");
            } else if answered == 1 && ours.read.len() == 6005 {
                answered = 2;
                ours.write(now, &pattern());
            } else if answered == 2 && ours.ended {
                answered = 3;
                ours.finish(now);
            }
        }
        assert_eq!(answered, 3, "{name}");
        assert!(
            ours.read == [&b"hello"[..], &pattern()].concat(),
            "{name}: other bytes"
        );
        ours.now_at(last + 100_000);
        assert_eq!(
            ours.closed,
            Some(false),
            "{name}: closed in order, acknowledged or not"
        );
        let dialogue = ours.stream().dialogue();
        assert_eq!(dialogue, ["HELLO", "6000 bytes", "eof"], "{name}");
        assert_acknowledged(&name, conversation.from(From::Client), &ours.sent);
        let recorded: Vec<Control> = conversation
            .from(From::Server)
            .filter_map(|p| Control::read(&p.packet))
            .collect();
        // the recorded client has not acknowledged the eof that its own server never said
        let gave_up = Control::Reset(conversation.conv());
        let mut answers = ours.controls();
        // without a key it is asked whether it is still there, and in a recording it does not answer
        let asks = |control: &Control| matches!(control, Control::Ping(_));
        let asked = answers.iter().filter(|control| asks(control)).count();
        assert!(asked < 100, "{name}: {asked}");
        answers.retain(|control| *control != gave_up && !asks(control));
        assert_eq!(answers, recorded, "{name}: pongs");
        let conv = conversation.conv();
        for packet in ours.sent.iter().filter(|p| Control::read(p).is_none()) {
            assert_eq!(Header::read(packet).expect("a header").conv, conv, "{name}");
        }
        // without a key whoever has had little is sent no long pings
        let full = match ours.sealing.is_some() {
            true => 1372,
            false => BASE - 28,
        };
        assert_eq!(
            ours.largest, full,
            "{name}: a full datagram is as long as the recorded ones"
        );
        let counters = ours.tunnel.counters();
        assert_eq!(
            (counters.bad_seal, counters.replayed, counters.malformed),
            (0, 0, 0),
            "{name}"
        );
    }
}

/// A recorded packet of the other session number, sealed again.
fn renumbered(conversation: &Conversation, recorded: &Recorded, conv: u32) -> Vec<u8> {
    let mut packet = recorded.packet.clone();
    if Control::read(&packet).is_none() {
        let whole = whole(&packet);
        let mut at = 0;
        while at < whole {
            let header = Header::read(&packet[at..]).expect("a header");
            packet[at..at + 4].copy_from_slice(&conv.to_be_bytes());
            at += HEADER + header.len as usize;
        }
    }
    if let Some(sealing) = conversation.sealing() {
        let len = packet.len();
        let nonce_at = recorded.datagram.len() - sealing.method().nonce_len();
        packet.resize(len + sealing.overhead(), 0);
        sealing.seal_with(&recorded.datagram[nonce_at..], &mut packet, len);
    }
    packet
}

#[test]
fn a_recorded_server_holds_its_dialogue_with_our_client() {
    for conversation in conversations() {
        let name = conversation.name();
        let mut ours = Ours::new(&conversation, false);
        let first = Instant::from_micros(conversation.packets[0].at);
        ours.tunnel.set_peer(first, other_end());
        ours.settle(first);
        let dialled_at = conversation.from(From::Client).nth(1).expect("the dial").at;
        let mut pongs = conversation.from(From::Server);
        let pong = pongs.next().expect("a pong");
        let now = ours.receive(pong.at, &pong.datagram);
        assert!(now < Instant::from_micros(dialled_at));

        let now = ours.now_at(dialled_at);
        let id = ours.tunnel.open(now).expect("a session");
        let conv = ours.tunnel.conv(id).expect("its number");
        ours.id = Some(id);
        ours.write(now, b"hello");
        let mut asked = 1;
        let (mut last, mut late) = (0, 0);
        for recorded in pongs.filter(|p| Control::read(&p.packet).is_none()) {
            last = recorded.at + late;
            let now = ours.receive(last, &renumbered(&conversation, recorded, conv));
            if asked == 1 && ours.read == b"HELLO" {
                asked = 2;
                ours.write(now, &pattern());
                // what ours paces has to leave before the recorded acks of it come
                late = 100_000;
            } else if asked == 2 && ours.read.len() == 6005 {
                asked = 3;
                ours.finish(now);
            }
        }
        assert_eq!(asked, 3, "{name}");
        assert!(
            ours.read == [&b"HELLO"[..], &pattern()].concat(),
            "{name}: other bytes"
        );
        let packets = ours.sent.len();
        ours.now_at(last + 5_000_000);
        let congestion = &ours.tunnel.path(other_end()).expect("the path").congestion;
        assert_eq!(
            congestion.in_flight(),
            0,
            "{name}: the recorded acks were heard"
        );
        assert_eq!(ours.stream().dialogue(), CLIENT_SAYS, "{name}");
        assert_acknowledged(&name, conversation.from(From::Server), &ours.sent);
        assert!(
            ours.sent.len() <= packets + 1,
            "{name}: what was acknowledged is not repeated"
        );
        assert_eq!(
            ours.closed, None,
            "{name}: the answer may go on after our end"
        );
        assert!(!ours.ended);
    }
}

/// The first datagrams leave nothing to choose but the session's number and, where it is hidden, the padding.
#[test]
fn our_client_begins_as_the_recorded_one() {
    let conversation = conversations().remove(0);
    let recorded: Vec<&Recorded> = conversation.from(From::Client).take(2).collect();
    let mut ours = Ours::new(&conversation, false);
    let now = Instant::from_micros(recorded[0].at);
    ours.tunnel.set_peer(now, other_end());
    ours.settle(now);
    // the recorded clock had gone on for a millisecond more
    let now = ours.now_at(recorded[1].at + 600);
    ours.id = Some(ours.tunnel.open(now).expect("a session"));
    ours.write(now, b"hello");
    assert_eq!(ours.sent.len(), 2);
    // more padding than the recorded one's, which had none without a key
    assert!(ours.sent[0].starts_with(&recorded[0].datagram));
    let conv = Header::read(&ours.sent[1]).expect("a header").conv;
    let mut expected = renumbered(&conversation, recorded[1], conv);
    let clock = |packet: &[u8]| Header::read(packet).expect("a header").ts;
    assert!(clock(&expected).abs_diff(clock(&ours.sent[1])) <= 2);
    expected[8..12].copy_from_slice(&clock(&ours.sent[1]).to_be_bytes());
    assert_eq!(ours.sent[1], expected);
}
