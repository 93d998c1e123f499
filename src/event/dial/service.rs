//! The service that `connect` names: what its addresses are, in which order they are tried, and when the resolver is asked
//! for them again.

use crate::config::Address;
use crate::event::report::{Throttle, reason};
use crate::event::resolve::{Answer, Resolver, literal};
use crate::time::{Duration, Instant};
use std::io;
use std::net::SocketAddr;

/// The least time between two queries for the name: a burst of dials is one query.
pub(super) const QUERY_INTERVAL: Duration = Duration::from_secs(1);

/// The service and what is known of it.
pub(super) struct Service {
    /// What is configured. None: there is no service.
    address: Option<Address>,
    /// What the name meant when it was last resolved.
    known: Vec<SocketAddr>,
    /// When that was.
    pub(super) known_since: Option<Instant>,
    /// Of several addresses, the one that was connected to last.
    best: Option<SocketAddr>,
    /// When the query was made whose answer is still to come.
    pub(super) asked: Option<Instant>,
    /// When the last query was made.
    pub(super) asked_last: Instant,
    unresolved: Throttle,
}

impl Service {
    /// `known`: the addresses of `address`, as resolved at the start.
    pub(super) fn new(address: Option<Address>, known: Vec<SocketAddr>) -> Service {
        Service {
            address,
            known_since: (!known.is_empty()).then_some(Instant::ZERO),
            known,
            best: None,
            asked: None,
            asked_last: Instant::ZERO,
            unresolved: Throttle::default(),
        }
    }

    /// What is configured, if anything is.
    pub(super) fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// From now on the service is another one, unless `address` is the same.
    pub(super) fn reload(&mut self, address: Option<Address>) {
        if address != self.address {
            self.known = address.as_ref().and_then(literal).unwrap_or_default();
            (self.known_since, self.best) = (None, None);
            self.address = address;
        }
    }

    /// This address was connected to, and is tried first from now on.
    pub(super) fn worked(&mut self, address: SocketAddr) {
        self.best = Some(address);
    }

    /// Has the name resolved again, unless what is known of it is fresh or the answer is still to come.
    pub(super) fn ask_if_stale(&mut self, resolver: &mut Resolver, now: Instant) {
        let Some(address) = &self.address else { return };
        let is_fresh = |since| now.since(since) < QUERY_INTERVAL;
        if self.asked.is_some()
            || self.known_since.is_some_and(is_fresh)
            || literal(address).is_some()
        {
            return;
        }
        self.asked_last = now;
        match resolver.ask(address.clone()) {
            Ok(()) => self.asked = Some(now),
            Err(e) => self.complain(now, &e),
        }
    }

    /// Takes over an answer of the resolver, or asks again if it is about a service that is configured no more.
    pub(super) fn answer(&mut self, resolver: &mut Resolver, now: Instant, answer: Answer) {
        self.asked = None;
        if self.address.as_ref() != Some(&answer.address) {
            return self.ask_if_stale(resolver, now);
        }
        match answer.found {
            Ok(found) => (self.known, self.known_since) = (found, Some(now)),
            Err(e) => self.complain(now, &e),
        }
    }

    /// The known addresses in the order of trying: what worked last, and then the others with the families in turns.
    pub(super) fn in_order(&self) -> Vec<SocketAddr> {
        let best = self.best.filter(|best| self.known.contains(best));
        let first = best.or(self.known.first().copied());
        let rest = || self.known.iter().copied().filter(|a| Some(*a) != first);
        let alike = |a: &SocketAddr| first.is_some_and(|first| first.is_ipv4() == a.is_ipv4());
        let mut others = rest().filter(|a| !alike(a));
        let mut same = rest().filter(alike);
        let mut order: Vec<SocketAddr> = first.into_iter().collect();
        loop {
            let pair = [others.next(), same.next()];
            if pair == [None, None] {
                return order;
            }
            order.extend(pair.into_iter().flatten());
        }
    }

    fn complain(&mut self, now: Instant, error: &io::Error) {
        let Some(name) = &self.address else { return };
        let why = reason(error);
        let then = match self.known.is_empty() {
            true => "sessions wait a few seconds for it",
            false => "using its last known addresses",
        };
        self.unresolved.warn(
            now,
            format_args!("connect: cannot resolve {name}: {why}; {then}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_behind_what_worked_last() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "0.0.0.4:1", "0.0.0.5:1"].map(at);
        let mut service = Service::new(None, all.into());
        let order = ["[::1]:1", "0.0.0.4:1", "[::2]:1", "0.0.0.5:1", "[::3]:1"].map(at);
        assert_eq!(service.in_order(), order);
        service.worked(at("0.0.0.5:1"));
        let order = ["0.0.0.5:1", "[::1]:1", "0.0.0.4:1", "[::2]:1", "[::3]:1"].map(at);
        assert_eq!(service.in_order(), order);
        service.worked(at("[::9]:1"));
        assert_eq!(
            service.in_order()[0],
            all[0],
            "it is none of the name's any more"
        );
    }
}
