//! Sealing as its users see it: the datagrams and keys of kcptun-libev 2.3.5, and what is rejected.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kcptun::crypto::handshake::{Greeted, Greeting, Hello};
use kcptun::crypto::{FreshSealing, Key, Method, Rejected, Sealing};
use serde_json::Value;
use zeroize::Zeroizing;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/crypto.json")).expect("valid JSON")
}

/// The bytes of a string of hex digits.
pub fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a string").as_bytes();
    let digit = |d: &u8| char::from(*d).to_digit(16).expect("a hex digit") as u8;
    text.chunks(2)
        .map(|pair| digit(&pair[0]) << 4 | digit(&pair[1]))
        .collect()
}

fn key_of(bytes: &[u8]) -> Key {
    Key::from_base64(&STANDARD.encode(bytes)).expect("32 bytes")
}

/// The two ends of a tunnel.
fn pair(method: Method) -> (Sealing, Sealing) {
    let key = Key::generate();
    (Sealing::new(method, &key), Sealing::new(method, &key))
}

fn sealed(sealing: &mut Sealing, packet: &[u8]) -> Vec<u8> {
    let mut buf = packet.to_vec();
    buf.resize(packet.len() + sealing.overhead(), 0);
    let len = sealing.seal(&mut buf, packet.len());
    assert_eq!(len, buf.len());
    buf
}

#[test]
fn passwords_give_the_recorded_keys() {
    let vectors = vectors();
    let list = vectors["passwords"].as_array().expect("an array");
    assert_eq!(list.len(), 4);
    for entry in list {
        let key = Key::from_password(entry["password"].as_str().expect("a string"));
        let expected = STANDARD.encode(hex(&entry["key"]));
        assert_eq!(key.to_base64(), expected, "{}", entry["password"]);
    }
}

#[test]
fn recorded_datagrams_are_sealed_and_opened() {
    let vectors = vectors();
    let key = key_of(&hex(&vectors["key"]));
    let list = vectors["sealed"].as_array().expect("an array");
    assert_eq!(list.len(), 20);
    for entry in list {
        let method = entry["method"].as_str().expect("a string").parse();
        let mut sealing = Sealing::new(method.expect("a method"), &key);
        let (plain, mut datagram) = (hex(&entry["plain"]), hex(&entry["datagram"]));

        let mut buf = plain.clone();
        buf.resize(plain.len() + sealing.overhead() + 3, 0xee);
        let len = sealing.seal_with(&hex(&entry["nonce"]), &mut buf, plain.len());
        assert_eq!(buf[..len], datagram);
        assert_eq!(buf[len..], [0xee; 3]);

        let mut copy = datagram.clone();
        assert_eq!(sealing.open(&mut datagram).expect("authentic"), plain);
        assert_eq!(sealing.open(&mut copy), Err(Rejected::Replay));
    }
}

#[test]
fn a_changed_datagram_is_rejected_and_spends_no_nonce() {
    for method in Method::ALL {
        for packet in [&[][..], &[9], &[7; 1300]] {
            // A new pair each: a changed counted nonce could be that of the packet before.
            let (mut here, mut there) = pair(method);
            let datagram = sealed(&mut here, packet);
            let last = datagram.len() - 1;
            let nonce_at = datagram.len() - method.nonce_len();
            for at in [
                0,
                packet.len() / 2,
                packet.len(),
                nonce_at - 1,
                nonce_at,
                last,
            ] {
                for bit in [0, 3, 7] {
                    let mut changed = datagram.clone();
                    changed[at] ^= 1 << bit;
                    let result = there.open(&mut changed);
                    assert_eq!(result, Err(Rejected::Seal), "{method}, bit {bit} at {at}");
                }
            }
            for other in [&datagram[1..], &datagram[..last]] {
                let expected = match packet {
                    [] => Rejected::Short,
                    _ => Rejected::Seal,
                };
                assert_eq!(there.open(&mut other.to_vec()), Err(expected));
            }
            assert_eq!(there.open(&mut datagram.clone()).expect("intact"), packet);
        }
    }
}

#[test]
fn what_is_no_datagram_of_this_tunnel_is_rejected() {
    for method in Method::ALL {
        let (mut here, _) = pair(method);
        let (mut stranger, _) = pair(method);
        for len in 0..here.overhead() {
            assert_eq!(here.open(&mut vec![0; len]), Err(Rejected::Short));
        }
        assert_eq!(here.open(&mut [0; 40]), Err(Rejected::Seal));
        let mut foreign = sealed(&mut stranger, b"other key");
        assert_eq!(here.open(&mut foreign), Err(Rejected::Seal));
    }
}

#[test]
fn our_own_datagrams_are_rejected_when_they_come_back() {
    for method in Method::ALL {
        let (mut here, mut there) = pair(method);
        for i in 0..2_000_u32 {
            let datagram = sealed(&mut here, &i.to_be_bytes());
            let back = here
                .open(&mut datagram.clone())
                .map(|packet| packet.to_vec());
            assert_eq!(back, Err(Rejected::Replay), "{method}, packet {i}");
            let opened = there.open(&mut datagram.clone()).map(|p| p.to_vec());
            assert_eq!(opened, Ok(i.to_be_bytes().to_vec()));
            let mut answer = sealed(&mut there, b"answer");
            assert!(here.open(&mut answer).is_ok(), "{method}, answer {i}");
        }
    }
}

#[test]
fn replays_are_rejected_while_several_senders_talk() {
    for method in Method::ALL {
        let key = Key::generate();
        let mut senders = [(); 3].map(|()| Sealing::new(method, &key));
        let mut receiver = Sealing::new(method, &key);
        let mut sent = Vec::new();
        for i in 0..6_000 {
            let datagram = sealed(&mut senders[i % 3], b"x");
            assert!(receiver.open(&mut datagram.clone()).is_ok());
            sent.push(datagram);
        }
        for mut datagram in sent {
            assert_eq!(receiver.open(&mut datagram), Err(Rejected::Replay));
        }
    }
}

#[test]
fn counted_nonces_go_up_by_one_and_others_do_not_repeat() {
    for method in [Method::Chacha20Poly1305Ietf, Method::Aes256Gcm] {
        let (mut here, _) = pair(method);
        let mut count = || {
            let mut wide = [0; 16];
            wide[..12].copy_from_slice(&sealed(&mut here, b"")[16..]);
            u128::from_le_bytes(wide)
        };
        let first = count();
        assert!((1..1_000).all(|i| count() == (first + i) % (1 << 96)));
    }
    let (mut here, _) = pair(Method::Xsalsa20Poly1305);
    let nonces: std::collections::HashSet<_> = (0..1_000)
        .map(|_| sealed(&mut here, b"")[16..].to_vec())
        .collect();
    assert_eq!(nonces.len(), 1_000);
}

#[test]
fn debug_output_names_the_method_only() {
    let sealing = Sealing::new(Method::Aes256Gcm, &key_of(&[0xab; 32]));
    assert_eq!(format!("{sealing:?}"), "Sealing { method: Aes256Gcm, .. }");
}

/// The handshake for fresh keys with given secrets, as another implementation of Noise has it (Python, with `cryptography`),
/// and the first datagram under the keys.
#[test]
fn recorded_handshakes_are_made_again() {
    let vectors: Value =
        serde_json::from_str(include_str!("../vectors/handshake.json")).expect("valid JSON");
    let list = vectors.as_array().expect("an array");
    assert_eq!(list.len(), Method::ALL.len());
    for v in list {
        let method: Method = v["method"].as_str().expect("a string").parse().unwrap();
        let psk = key_of(&hex(&v["psk"]));
        let secret = |name: &str| Zeroizing::new(hex(&v[name]).try_into().expect("32 bytes"));
        let hello = |end: &str| Hello {
            process: hex(&v[format!("{end}_process")]).try_into().expect("8"),
            index: u32::from_le_bytes(hex(&v[format!("{end}_index")]).try_into().expect("4")),
        };
        let [initiator, responder] = ["initiator", "responder"].map(hello);
        let greeting = Greeting::new(&psk, method, &secret("initiator_secret"), initiator);
        assert_eq!(greeting.wire()[..], hex(&v["greeting"]), "{method}");
        let greeted = Greeted::read(&psk, method, greeting.wire()).expect("authentic");
        let answered = greeted.respond(&secret("responder_secret"), responder);
        let (answer, there) = answered.expect("keys");
        assert_eq!(answer[..], hex(&v["answer"]), "{method}");
        let (other, here) = greeting.finish(&answer).expect("authentic");
        assert_eq!(other, responder);
        assert_eq!(here.send, key_of(&hex(&v["key_there"])), "{method}");
        assert_eq!(here.receive, key_of(&hex(&v["key_back"])), "{method}");
        if v["datagram"].is_null() {
            continue;
        }
        let (mut buf, expected) = (hex(&v["plain"]), hex(&v["datagram"]));
        let (len, start) = (buf.len(), hex(&v["start"]).try_into().expect("8 bytes"));
        let start = u64::from_le_bytes(start);
        buf.resize(expected.len(), 0);
        let mut sealing = FreshSealing::new(method, &here, other.index, start);
        sealing.seal(&mut rand::rng(), &mut buf, len);
        assert_eq!(buf, expected, "{method}");
        let mut sealing = FreshSealing::new(method, &there, initiator.index, 0);
        let opened = sealing.open(&mut buf).expect("authentic");
        assert_eq!(opened[..], hex(&v["plain"]), "{method}");
    }
}
