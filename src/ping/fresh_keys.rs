//! Whether the other end agrees on fresh keys, as a daemon would: the first pings are greetings, and what stands in their
//! answers tells. The keys themselves are never used.

use crate::crypto::handshake::{Extension, GREETING_LEN, Greeting, Hello};
use crate::crypto::{Key, Method};
use crate::settings::ForwardSecrecy;
use zeroize::Zeroizing;

/// So many pings are greetings.
const GREETINGS: u64 = 3;
/// So many of them answered as pings alone tell that the other end does not agree.
const IGNORED: u32 = 2;

/// What has become of the greetings.
pub(super) struct FreshKeys {
    wanted: ForwardSecrecy,
    greeting: Greeting,
    ignored: u32,
    agreed: bool,
}

impl FreshKeys {
    /// `wanted`: what this end's configuration says; `secret`: random bytes, for this alone.
    pub(super) fn new(
        (method, key): (Method, &Key),
        wanted: ForwardSecrecy,
        secret: &Zeroizing<[u8; 32]>,
        seed: u64,
    ) -> FreshKeys {
        let own = Hello {
            process: seed.to_le_bytes(),
            index: seed as u32,
        };
        FreshKeys {
            wanted,
            greeting: Greeting::new(key, method, secret, own),
            ignored: 0,
            agreed: false,
        }
    }

    /// What the ping of this number carries, counted from 0.
    pub(super) fn greeting(&self, number: u64) -> Option<&[u8; GREETING_LEN]> {
        (number < GREETINGS).then(|| self.greeting.wire())
    }

    /// The ping of this number was answered, with this behind the answer.
    pub(super) fn on_pong(&mut self, number: u64, behind: &[u8]) {
        match Extension::read(behind) {
            Some(Extension::Answer(answer)) if self.greeting.finish(answer).is_some() => {
                self.agreed = true;
            }
            _ if number < GREETINGS => self.ignored += 1,
            _ => {}
        }
    }

    /// What is known, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let ignored = self.ignored >= IGNORED;
        let lines: &[&str] = match (self.wanted, self.agreed) {
            (ForwardSecrecy::Require, false) if ignored => &[
                "likely: no connection will open: forward_secrecy is \"require\" here, and the other end does not agree on fresh keys",
                "try:    set forward_secrecy to \"auto\" at one end: there if it is \"off\" there, or here if kcptun-libev or an older kcptun runs there",
            ],
            (ForwardSecrecy::Off, true) => &[
                "keys: the other end offers fresh keys, and forward_secrecy is \"off\" here: if it is \"require\" there, no connection will open",
            ],
            (_, true) => &["keys: the other end agrees on fresh keys"],
            (ForwardSecrecy::Auto, false) if ignored => &[
                "keys: the other end does not agree on fresh keys: whoever gets the key later can read what is recorded",
            ],
            _ => &[],
        };
        lines.iter().map(|line| (*line).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::handshake::Greeted;

    /// What is said after `answered` of the greetings; those that agree have the answer of a kcptun.
    fn said(wanted: ForwardSecrecy, answered: u64, agrees: bool) -> Vec<String> {
        let (method, key) = (Method::Aes256Gcm, Key::generate());
        let secret = Zeroizing::new([7; 32]);
        let mut keys = FreshKeys::new((method, &key), wanted, &secret, 1);
        for number in 0..answered {
            let greeting = *keys.greeting(number).expect("a greeting");
            let greeted = Greeted::read(&key, method, &greeting).expect("authentic");
            let own = Hello {
                process: [9; 8],
                index: 5,
            };
            let answer = greeted.respond(&Zeroizing::new([8; 32]), own);
            let (answer, _) = answer.expect("an answer");
            keys.on_pong(number, if agrees { &answer } else { &[1, 1][..] });
        }
        keys.lines()
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        use ForwardSecrecy::{Auto, Off, Require};
        for (wanted, answered, agrees, part) in [
            (Require, 3, false, "likely: no connection will open"),
            (Require, 1, true, "keys: the other end agrees"),
            (Auto, 1, true, "keys: the other end agrees"),
            (Auto, 2, false, "keys: the other end does not agree"),
            (Off, 1, true, "if it is \"require\" there"),
        ] {
            let lines = said(wanted, answered, agrees);
            assert!(lines[0].contains(part), "{lines:?}");
        }
        // one answer without keys may have been to a copy, or too many were asked for at once
        for (wanted, answered) in [(Require, 1), (Auto, 1), (Off, 3)] {
            assert_eq!(said(wanted, answered, false), [""; 0]);
        }
    }

    #[test]
    fn only_the_first_pings_are_greetings() {
        let key = Key::generate();
        let secret = Zeroizing::new([7; 32]);
        let wanted = ForwardSecrecy::Auto;
        let mut keys = FreshKeys::new((Method::Aes256Gcm, &key), wanted, &secret, 1);
        assert!(keys.greeting(GREETINGS).is_none());
        for number in GREETINGS..10 {
            keys.on_pong(number, &[]);
        }
        assert_eq!(keys.lines(), [""; 0]);
    }
}
