//! The name of the other end, or of whoever leads there: resolved again while nothing is known of it or nothing comes from
//! it, ever more rarely. What is done with an address that was found is decided in `network`.

use super::report::reason;
use super::resolve::{Answer, Resolver, literal};
use crate::config::Address;
use crate::time::{SEC, Time};
use log::warn;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// The pause between two attempts, microseconds: it doubles from the first to the second of these.
const FIRST_PAUSE: u64 = SEC;
const LAST_PAUSE: u64 = 60 * SEC;
/// A question that has no answer after so long is not waited for where somebody is in a hurry: the system may wait for a
/// server that nobody reaches, while another one answers by now.
const STUCK: u64 = 2 * SEC;
/// The log says (again) that a name does not resolve after so long.
const REMIND: u64 = 600 * SEC;
/// Addresses of a name that take turns, at most.
const TOLD_MOST: usize = 16;

/// The key of a target that is not the other end itself.
pub const RENDEZVOUS: &str = "rendezvous_server";

/// A name that may come to mean another address.
pub struct Target {
    key: &'static str,
    name: Address,
    /// What it meant when it was last resolved.
    known: Vec<SocketAddr>,
    /// An answer is to come; and when it was asked for last.
    asked: bool,
    asked_at: Option<Time>,
    /// Somebody waits for it.
    hurried: bool,
    pause: u64,
    /// Not to be asked before.
    next: Time,
    /// Whether the last answer was none, and when the log says so again.
    failed: Option<Time>,
    /// What the log has told of since somebody answered; the last ones.
    told: VecDeque<SocketAddr>,
}

impl Target {
    /// None: what is configured is no name, and always means the same. `known`: its addresses
    /// if it was resolved at the start.
    pub fn new(
        key: &'static str,
        configured: Option<&Address>,
        known: Vec<SocketAddr>,
    ) -> Option<Target> {
        let name = configured.filter(|address| literal(address).is_none())?;
        let found = !known.is_empty();
        Some(Target {
            key,
            name: name.clone(),
            known,
            asked: false,
            asked_at: None,
            hurried: false,
            pause: FIRST_PAUSE,
            next: Time::from_micros(if found { 0 } else { FIRST_PAUSE }),
            failed: (!found).then_some(Time::from_micros(REMIND)),
            told: VecDeque::new(),
        })
    }

    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The name is good: when it is asked for again, it is at once.
    pub fn heard(&mut self) {
        (self.pause, self.next) = (FIRST_PAUSE, Time::ZERO);
    }

    /// Whoever is there has answered: wherever it is next is news.
    pub fn answers(&mut self) {
        self.told.clear();
    }

    /// Whether it is news that the name stands for this address: it is not while addresses take turns and none answers.
    pub fn is_news(&mut self, address: SocketAddr) -> bool {
        if self.told.contains(&address) {
            return false;
        }
        if self.told.len() >= TOLD_MOST {
            self.told.pop_front();
        }
        self.told.push_back(address);
        true
    }

    /// The addresses that it had when it was last resolved.
    pub fn known(&self) -> &[SocketAddr] {
        &self.known
    }

    /// There is a reason to ask at once: somebody waits for the answer, or another network may know it.
    pub fn hurry(&mut self) {
        self.hurried = true;
        self.pause = FIRST_PAUSE;
        let earliest = self.asked_at.map_or(Time::ZERO, |at| at.after(FIRST_PAUSE));
        self.next = self.next.min(earliest);
    }

    /// When it is to be asked for, if it is wanted.
    pub fn due(&self) -> Time {
        match (self.asked, self.asked_at) {
            (false, _) => self.next,
            (true, Some(at)) if self.hurried => at.after(STUCK),
            (true, _) => Time::NEVER,
        }
    }

    /// Asks for its addresses if it is time.
    pub fn ask(&mut self, now: Time, resolver: &mut Resolver) {
        if self.due() > now {
            return;
        }
        if self.asked && !resolver.give_up() {
            self.asked_at = Some(now);
            return;
        }
        self.asked = false;
        (self.asked_at, self.hurried) = (Some(now), false);
        self.next = now.after(self.pause);
        self.pause = (2 * self.pause).min(LAST_PAUSE);
        match resolver.ask(self.name.clone()) {
            Ok(()) => self.asked = true,
            Err(e) => self.complain(now, &e),
        }
    }

    /// The addresses that it has now; none if that cannot be found out.
    pub fn answer(&mut self, now: Time, answer: Answer) -> Vec<SocketAddr> {
        self.asked = false;
        match answer.found {
            Ok(found) => {
                self.failed = None;
                self.known.clone_from(&found);
                found
            }
            Err(e) => {
                self.complain(now, &e);
                Vec::new()
            }
        }
    }

    fn complain(&mut self, now: Time, error: &io::Error) {
        if self.failed.is_some_and(|remind| now < remind) {
            return;
        }
        self.failed = Some(now.after(REMIND));
        unresolved(self.key, &self.name, error);
    }
}

/// Says in the log that a name does not resolve, and that it is not given up.
pub fn unresolved(key: &str, name: &Address, error: &io::Error) {
    let why = reason(error);
    warn!("{key}: cannot resolve {name}: {why}; it is tried again");
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Poll, Token, Waker};

    fn name(host: &str) -> Address {
        Address {
            host: Some(host.into()),
            port: 7,
        }
    }

    fn found() -> Vec<SocketAddr> {
        vec![SocketAddr::from(([192, 0, 2, 1], 7))]
    }

    fn at(secs: u64) -> Time {
        Time::from_micros(secs * SEC)
    }

    #[test]
    fn whoever_is_in_a_hurry_asks_once_a_second() {
        let poll = Poll::new().expect("poll");
        let mut resolver = Resolver::new(Waker::new(poll.registry(), Token(0)).expect("waker"));
        let mut target = Target::new("k", Some(&name("a.invalid")), Vec::new()).expect("a name");
        let ms = Time::from_millis;
        let mut asks = |from: u64, to: u64, hurries: bool, answered: bool| {
            let mut times = Vec::new();
            for now in (from..to).step_by(100) {
                if hurries {
                    target.hurry();
                }
                let before = target.asked_at;
                target.ask(ms(now), &mut resolver);
                if target.asked_at != before {
                    times.push(now);
                }
                if answered && target.asked {
                    let found = Err(io::ErrorKind::NotFound.into());
                    let address = target.name.clone();
                    target.answer(ms(now), Answer { address, found });
                }
            }
            times
        };
        assert_eq!(asks(0, 90_000, false, true).last(), Some(&64_000));
        // a connection comes
        assert_eq!(asks(90_000, 90_100, true, true), [90_000]);
        let every_second: Vec<u64> = (91_000..95_000).step_by(1000).collect();
        assert_eq!(asks(90_100, 95_000, true, true), every_second);
        // and where nothing answers, not even that there is no such name
        assert_eq!(asks(95_000, 99_000, true, false), [95_000, 97_000]);
        // once more for the last that was in a hurry
        assert_eq!(asks(99_000, 200_000, false, false), [99_000]);
    }

    #[test]
    fn an_address_is_not_asked_for() {
        assert!(Target::new("udp_connect", Some(&name("192.0.2.1")), found()).is_none());
        assert!(Target::new("udp_connect", None, found()).is_none());
    }

    #[test]
    fn pauses_grow_until_something_is_heard() {
        let poll = Poll::new().expect("poll");
        let mut resolver = Resolver::new(Waker::new(poll.registry(), Token(0)).expect("waker"));
        let mut target = Target::new("k", Some(&name("a.invalid")), found()).expect("a name");
        let mut times = Vec::new();
        for second in 0..200 {
            target.ask(at(second), &mut resolver);
            if target.asked {
                assert_eq!(target.due(), Time::NEVER);
                times.push(second);
                let found = Err(io::ErrorKind::NotFound.into());
                let address = target.name.clone();
                assert!(
                    target
                        .answer(at(second), Answer { address, found })
                        .is_empty()
                );
                // only the first is worth a line
                assert_eq!(target.failed, Some(Time::from_micros(REMIND)));
            }
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        target.heard();
        assert_eq!(target.due(), Time::ZERO);
        target.ask(at(200), &mut resolver);
        assert_eq!(
            target.answer(
                at(200),
                Answer {
                    address: name("a"),
                    found: Ok(vec![])
                }
            ),
            []
        );
        assert_eq!(target.next, at(201));
        assert_eq!(target.failed, None);
    }
}
