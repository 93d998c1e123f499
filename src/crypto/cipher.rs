//! The ciphers: a packet is changed in place, and its tag is separate.
//!
//! `fast` is used where ring has assembler for the processor, and `reference` elsewhere; tests compare the two. Both have the
//! same `Cipher`. Nonces are made and remembered elsewhere: a caller never encrypts twice with the same one.

pub mod reference;

cfg_if::cfg_if! {
    // as in Cargo.toml
    if #[cfg(all(feature = "ring", any(
        target_arch = "x86_64",
        target_arch = "x86",
        all(target_arch = "aarch64", target_endian = "little"),
        all(target_arch = "arm", target_endian = "little"),
    )))] {
        mod fast;
        pub use fast::Cipher;
    } else {
        pub use reference::Cipher;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Key, Method, TAG_LEN};
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    type Sealed = (Vec<u8>, [u8; TAG_LEN]);

    fn by_both(method: Method, key: &Key, nonce: &[u8], packet: &[u8]) -> [Sealed; 2] {
        let (mut ours, mut theirs) = (packet.to_vec(), packet.to_vec());
        let tag = Cipher::new(method, key).encrypt(nonce, &mut ours);
        let reference = reference::Cipher::new(method, key).encrypt(nonce, &mut theirs);
        [(ours, tag.unwrap()), (theirs, reference.unwrap())]
    }

    #[test]
    fn packets_of_every_length_are_sealed_and_opened_as_by_the_reference() {
        let mut rng = StdRng::seed_from_u64(1);
        for method in Method::ALL {
            let lengths = (0..=300).chain([1343, 1344, 1499, 1500]);
            let drawn: Vec<usize> = (0..200).map(|_| rng.random_range(0..=1500)).collect();
            for len in lengths.chain(drawn) {
                let key = Key::generate();
                let mut nonce = vec![0; method.nonce_len()];
                let mut packet = vec![0; len];
                rng.fill_bytes(&mut nonce);
                rng.fill_bytes(&mut packet);
                let [(mut ours, tag), (mut theirs, reference)] =
                    by_both(method, &key, &nonce, &packet);
                assert_eq!((&ours, tag), (&theirs, reference), "{method}, {len} bytes");

                let cipher = Cipher::new(method, &key);
                cipher
                    .decrypt(&nonce, &mut theirs, &tag)
                    .expect("authentic");
                assert_eq!(theirs, packet, "{method}, {len} bytes");
                let cipher = reference::Cipher::new(method, &key);
                cipher.decrypt(&nonce, &mut ours, &tag).expect("authentic");
                assert_eq!(ours, packet, "{method}, {len} bytes");
            }
        }
    }

    #[test]
    fn a_bit_that_changed_anywhere_is_noticed() {
        let mut rng = StdRng::seed_from_u64(2);
        for method in Method::ALL {
            let cipher = Cipher::new(method, &Key::generate());
            for len in [0, 1, 15, 16, 17, 64, 65, 500, 1500] {
                let nonce = vec![rng.random(); method.nonce_len()];
                let mut sealed = vec![0; len];
                let tag = cipher.encrypt(&nonce, &mut sealed).unwrap();
                for _ in 0..50 {
                    let (mut packet, mut tag, mut nonce) = (sealed.clone(), tag, nonce.clone());
                    let at = rng.random_range(0..len + TAG_LEN + nonce.len());
                    let byte = packet.iter_mut().chain(&mut tag).chain(&mut nonce).nth(at);
                    *byte.unwrap() ^= 1 << rng.random_range(0..8);
                    let opened = cipher.decrypt(&nonce, &mut packet, &tag);
                    assert!(opened.is_none(), "{method}, byte {at} of {len}");
                }
                assert!(cipher.decrypt(&nonce, &mut sealed, &tag).is_some());
                assert_eq!(sealed, vec![0; len]);
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for method in Method::ALL {
            let cipher = Cipher::new(method, &Key::generate());
            let nonce = vec![0; method.nonce_len()];
            assert!(cipher.encrypt(&nonce[1..], &mut [0; 9]).is_none());
            assert!(cipher.decrypt(&nonce[1..], &mut [0; 9], &[0; 16]).is_none());
            assert!(cipher.decrypt(&nonce, &mut [0; 9], &[0; 15]).is_none());
        }
    }
}
