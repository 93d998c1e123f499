use super::*;

fn key(n: u8) -> Key {
    Key::from_bytes(&[n; 32])
}

fn secret(n: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([n; 32])
}

fn hello(n: u8) -> Hello {
    Hello {
        process: [n; PROCESS_LEN],
        index: u32::from(n) << 24 | 7,
    }
}

const METHOD: Method = Method::Chacha20Poly1305Ietf;

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The vector for NNpsk0 with BLAKE2s of cacophony, which other implementations of Noise are checked against, too.
#[test]
fn the_two_messages_are_those_of_noise() {
    let prologue = hex("4a6f686e2047616c74");
    let psk = hex("54686973206973206d7920417573747269616e20706572737065637469766521");
    let array = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes).expect("32 bytes");
    let psk = array(psk);
    let ends = [
        "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
    ];
    let secrets = ends.map(|end| StaticSecret::from(array(hex(end))));
    let publics = [0, 1].map(|i| PublicKey::from(&secrets[i]).to_bytes());

    let mut first = SymmetricState::new(&prologue, &psk);
    first.mix_ephemeral(&publics[0]);
    let mut payload = hex("4c756477696720766f6e204d69736573");
    let tag = first.encrypt(&mut payload);
    let sent = [&publics[0][..], &payload, &tag].concat();
    assert_eq!(
        sent,
        hex(
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944\
             fda936bec35a8adfdff198386f7d5475880897edaaf7495314c99095a2e4d66a"
        )
    );

    let mut second = SymmetricState::new(&prologue, &psk);
    second.mix_ephemeral(&publics[0]);
    second.decrypt(&mut payload, &tag).expect("authentic");
    assert_eq!(payload, b"Ludwig von Mises");
    second.mix_ephemeral(&publics[1]);
    second.mix_shared(&secrets[1], &publics[0]).expect("a key");
    let mut answer = hex("4d757272617920526f746862617264");
    let tag = second.encrypt(&mut answer);
    let sent = [&publics[1][..], &answer, &tag].concat();
    assert_eq!(
        sent,
        hex(
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843\
             4cd2a371993ba41ea11448024fca32766b169183c9e691a7a433279da7e729"
        )
    );

    first.mix_ephemeral(&publics[1]);
    first.mix_shared(&secrets[0], &publics[1]).expect("a key");
    first.decrypt(&mut answer, &tag).expect("authentic");
    let hash = "b3e9c846d264120a4211e18307da91157a21e92e69b639c50f027f101db3e1a6";
    assert_eq!(
        (first.hash().to_vec(), second.hash()),
        (hex(hash), first.hash())
    );

    assert_first_messages(first.split());
}

/// The first message of either direction under the keys.
fn assert_first_messages([there, back]: [Zeroizing<[u8; 32]>; 2]) {
    use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce};
    let transports = [
        (
            there,
            "462e20412e20486179656b",
            "bc44da303ae0beb08075fc4eb4e58235c67c2d1f53a4f2fff0bca7",
        ),
        (
            back,
            "4361726c204d656e676572",
            "416d1af83e9fa6966ce4e871156b131aa9bd7e9a1d6f8794f4872a",
        ),
    ];
    for (key, plain, sealed) in transports {
        let mut packet = hex(plain);
        let cipher = ChaCha20Poly1305::new((&*key).into());
        let tag = cipher.encrypt_inout_detached(&Nonce::default(), &[], (&mut packet[..]).into());
        packet.extend(tag.expect("a tag"));
        assert_eq!(packet, hex(sealed));
    }
}

#[test]
fn both_ends_have_the_same_keys_and_know_each_other() {
    for method in Method::ALL {
        let greeting = Greeting::new(&key(1), method, &secret(2), hello(3));
        let greeted = Greeted::read(&key(1), method, greeting.wire()).expect("authentic");
        assert_eq!(greeted.other(), hello(3));
        let (answer, there) = greeted.respond(&secret(4), hello(5)).expect("a key");
        let (other, here) = greeting.finish(&answer).expect("authentic");
        assert_eq!(other, hello(5));
        assert_eq!((&here.send, &here.receive), (&there.receive, &there.send));
        assert_ne!(here.send, here.receive);
    }
}

#[test]
fn a_bit_that_changed_anywhere_is_noticed() {
    let greeting = Greeting::new(&key(1), METHOD, &secret(2), hello(3));
    let read = |wire: &[u8; GREETING_LEN]| Greeted::read(&key(1), METHOD, wire);
    for bit in MARKER_LEN * 8..GREETING_LEN * 8 {
        let mut wire = *greeting.wire();
        wire[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&wire).is_none(), "bit {bit} of the greeting");
    }
    let greeted = read(greeting.wire()).expect("authentic");
    let (answer, _) = greeted.respond(&secret(4), hello(5)).expect("a key");
    for bit in MARKER_LEN * 8..ANSWER_LEN * 8 {
        let mut wire = answer;
        wire[bit / 8] ^= 1 << (bit % 8);
        assert!(greeting.finish(&wire).is_none(), "bit {bit} of the answer");
    }
    assert!(greeting.finish(&answer).is_some());
    for (psk, method) in [(key(2), METHOD), (key(1), Method::Aes256Gcm)] {
        assert!(Greeted::read(&psk, method, greeting.wire()).is_none());
    }
}

#[test]
fn keys_that_give_everybody_the_same_are_refused() {
    // a greeting of somebody with the psk, whose ephemeral key is 0
    let mut state = start(&key(1), METHOD);
    state.mix_ephemeral(&[0; 32]);
    let mut payload = [0; HELLO_LEN + SPARE_LEN];
    let tag = state.encrypt(&mut payload);
    let mut wire = [0; GREETING_LEN];
    fill(&mut wire, &[GREETING, &[0; 32], &payload, &tag]);
    let greeted = Greeted::read(&key(1), METHOD, &wire).expect("authentic");
    assert!(greeted.respond(&secret(4), hello(5)).is_none());
}

#[test]
fn a_trailer_is_told_from_padding_and_long_pings() {
    let greeting = Greeting::new(&key(1), METHOD, &secret(2), hello(3));
    let mut wire = greeting.wire().to_vec();
    assert_eq!(
        Extension::read(&wire),
        Some(Extension::Greeting(greeting.wire()))
    );
    wire.extend([15; 15]);
    assert_eq!(
        Extension::read(&wire),
        Some(Extension::Greeting(greeting.wire()))
    );
    for cut in 0..GREETING_LEN {
        assert_eq!(Extension::read(&wire[..cut]), None);
    }
    for n in 0..=15 {
        assert_eq!(Extension::read(&vec![n; n.into()]), None);
    }
    assert_eq!(Extension::read(&[0; 1400]), None);
    wire[3] = 2;
    assert!(matches!(Extension::read(&wire), Some(Extension::Answer(_))));
    wire[3] = 3;
    assert_eq!(Extension::read(&wire), None);
    const { assert!(ANSWER_LEN <= GREETING_LEN) };
}
