//! The name of the other end, or of the rendezvous server: resolved again, at growing intervals, while it has no known
//! address or does not answer. What is done with an address that was found is decided in `network`.

use super::report::reason;
use super::resolve::{Answer, Resolver, literal};
use crate::config::Address;
use crate::time::{Duration, Instant};
use log::warn;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// The first pause between two queries; it doubles each time.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two queries.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long the answer to a query is awaited while somebody is in a hurry: the system may wait for a name
/// server that cannot be reached, while another one would answer by now.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the log says that a name does not resolve.
const REMINDER_INTERVAL: Duration = Duration::from_secs(600);
/// The most addresses of a name that take turns without being news.
const TOLD_MAX: usize = 16;

/// The key of a target that is not the other end itself.
pub(super) const RENDEZVOUS: &str = "rendezvous_server";

/// A name that may come to mean another address.
pub(super) struct Target {
    key: &'static str,
    name: Address,
    /// What it meant when it was last resolved.
    known: Vec<SocketAddr>,
    /// An answer is to come; and when it was asked for last.
    asked: bool,
    asked_at: Option<Instant>,
    /// Somebody waits for it.
    hurried: bool,
    pause: Duration,
    /// Not to be asked before.
    next: Instant,
    /// Whether the last answer was none, and when the log says so again.
    failed: Option<Instant>,
    /// The last addresses that the log has named since somebody answered.
    told: VecDeque<SocketAddr>,
}

impl Target {
    /// None: what is configured is no name, and always means the same. `known`: its addresses
    /// if it was resolved at the start.
    pub(super) fn new(
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
            pause: RETRY_PAUSE,
            next: Instant::ZERO.after(if found { Duration::ZERO } else { RETRY_PAUSE }),
            failed: (!found).then_some(Instant::ZERO.after(REMINDER_INTERVAL)),
            told: VecDeque::new(),
        })
    }

    /// The key of the configuration that has the name.
    pub(super) fn key(&self) -> &'static str {
        self.key
    }

    /// The address is right: if the name is needed again, it is resolved at once.
    pub(super) fn heard(&mut self) {
        (self.pause, self.next) = (RETRY_PAUSE, Instant::ZERO);
    }

    /// The other end has answered: its next address is news.
    pub(super) fn answers(&mut self) {
        self.told.clear();
    }

    /// Whether it is news that the name stands for this address: it is not while addresses take turns and none answers.
    pub(super) fn is_news(&mut self, address: SocketAddr) -> bool {
        if self.told.contains(&address) {
            return false;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(address);
        true
    }

    /// The addresses that it had when it was last resolved.
    pub(super) fn known(&self) -> &[SocketAddr] {
        &self.known
    }

    /// Asks as soon as possible: somebody waits for the answer, or another network may know it.
    pub(super) fn resolve_now(&mut self) {
        self.hurried = true;
        self.pause = RETRY_PAUSE;
        let earliest = self
            .asked_at
            .map_or(Instant::ZERO, |at| at.after(RETRY_PAUSE));
        self.next = self.next.min(earliest);
    }

    /// When to ask, if the answer is wanted.
    pub(super) fn due(&self) -> Instant {
        match (self.asked, self.asked_at) {
            (false, _) => self.next,
            (true, Some(at)) if self.hurried => at.after(QUERY_TIMEOUT),
            (true, _) => Instant::NEVER,
        }
    }

    /// Asks for its addresses if it is time.
    pub(super) fn ask(&mut self, now: Instant, resolver: &mut Resolver) {
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
        self.pause = (2 * self.pause).min(RETRY_PAUSE_MAX);
        match resolver.ask(self.name.clone()) {
            Ok(()) => self.asked = true,
            Err(e) => self.complain(now, &e),
        }
    }

    /// The addresses that it has now; none if that cannot be found out.
    pub(super) fn answer(&mut self, now: Instant, answer: Answer) -> Vec<SocketAddr> {
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

    fn complain(&mut self, now: Instant, error: &io::Error) {
        if self.failed.is_some_and(|remind| now < remind) {
            return;
        }
        self.failed = Some(now.after(REMINDER_INTERVAL));
        unresolved(self.key, &self.name, error);
    }
}

/// Logs that a name does not resolve and is tried again.
pub(super) fn unresolved(key: &str, name: &Address, error: &io::Error) {
    let why = reason(error);
    warn!(
        "{key}: cannot resolve {name}: {why}; is the name right, and is this machine online? Trying again"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SEC;
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

    fn at(secs: u64) -> Instant {
        Instant::ZERO.after(secs * SEC)
    }

    #[test]
    fn whoever_is_in_a_hurry_asks_once_a_second() {
        let poll = Poll::new().expect("poll");
        let mut resolver = Resolver::new(Waker::new(poll.registry(), Token(0)).expect("waker"));
        let mut target = Target::new("k", Some(&name("a.invalid")), Vec::new()).expect("a name");
        let ms = Instant::from_millis;
        let mut asks = |from: u64, to: u64, hurries: bool, answered: bool| {
            let mut times = Vec::new();
            for now in (from..to).step_by(100) {
                if hurries {
                    target.resolve_now();
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
                assert_eq!(target.due(), Instant::NEVER);
                times.push(second);
                let found = Err(io::ErrorKind::NotFound.into());
                let address = target.name.clone();
                assert!(
                    target
                        .answer(at(second), Answer { address, found })
                        .is_empty()
                );
                // only the first is worth a line
                assert_eq!(target.failed, Some(Instant::ZERO.after(REMINDER_INTERVAL)));
            }
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        target.heard();
        assert_eq!(target.due(), Instant::ZERO);
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
