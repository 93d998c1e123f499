//! Resolves names: at once where blocking does not matter (at the start), and on a thread of its own where it does.
//!
//! Which of the addresses is used, and what happens when there is none, is decided by who asks.

use crate::config::Address;
use mio::Waker;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{io, thread};

/// Every address that `address` stands for, without repetitions, best first. May block for as long as the system's
/// resolver does. Without a host it is this machine, as seen from itself.
pub(super) fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if let Some(found) = literal(address) {
        return Ok(found);
    }
    let host = address.host.as_deref().unwrap_or_default();
    let mut found: Vec<SocketAddr> = Vec::new();
    for one in (host, address.port).to_socket_addrs()? {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(found)
}

/// The addresses of what is not a name, without asking anyone. None: it is a name.
pub(super) fn literal(address: &Address) -> Option<Vec<SocketAddr>> {
    let at = |ip: IpAddr| SocketAddr::new(ip, address.port);
    match &address.host {
        None => Some(vec![
            at(Ipv4Addr::LOCALHOST.into()),
            at(Ipv6Addr::LOCALHOST.into()),
        ]),
        Some(_) => address.literal().map(|literal| vec![literal]),
    }
}

/// The most threads that may wait for the system's resolver at once.
const THREADS_MAX: usize = 4;

/// How names are resolved; may block.
pub type Lookup = fn(&Address) -> io::Result<Vec<SocketAddr>>;

/// What became of a request to a `Resolver`.
pub(super) struct Answer {
    /// What was asked for.
    pub address: Address,
    /// Its addresses, or why there are none.
    pub found: io::Result<Vec<SocketAddr>>,
}

/// The helper thread, started with the first request, and the two channels that lead to it and back.
pub(super) struct Resolver {
    waker: Arc<Waker>,
    lookup: Lookup,
    worker: Option<Worker>,
    /// One reference for each thread that runs, and one more.
    threads: Arc<()>,
}

struct Worker {
    requests: Sender<Address>,
    answers: Receiver<Answer>,
}

impl Resolver {
    /// `waker` wakes the loop when there is an answer.
    pub(super) fn new(waker: impl Into<Arc<Waker>>) -> Resolver {
        Resolver {
            waker: waker.into(),
            lookup: resolve,
            worker: None,
            threads: Arc::default(),
        }
    }

    /// With another way to resolve names than the system's.
    pub(super) fn by(self, lookup: Lookup) -> Resolver {
        Resolver { lookup, ..self }
    }

    /// Asks for the addresses of `address`; exactly one `answer` follows. Fails if there can be no thread.
    pub(super) fn ask(&mut self, address: Address) -> io::Result<()> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Worker::start(
                self.waker.clone(),
                self.lookup,
                self.threads.clone(),
            )?),
        };
        worker
            .requests
            .send(address)
            .map_err(|_| io::Error::other("the resolver's thread has ended"))
    }

    /// Gives up what was asked: its answers never come, and the next question does not wait behind it. False if too many
    /// threads hang already: the answer is still to come.
    pub(super) fn give_up(&mut self) -> bool {
        // a thread ends when it has the answer, and lets go of its share of this
        let hanging = Arc::strong_count(&self.threads) - 1;
        if hanging >= THREADS_MAX {
            return false;
        }
        self.worker = None;
        true
    }

    /// The next answer, if one is there.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        self.worker.as_ref()?.answers.try_recv().ok()
    }
}

impl Worker {
    fn start(waker: Arc<Waker>, lookup: Lookup, running: Arc<()>) -> io::Result<Worker> {
        let (requests, inbox) = channel::<Address>();
        let (outbox, answers) = channel();
        // It ends when the loop, and so the other end of a channel, is gone.
        let work = move || {
            let _running = running;
            for address in inbox {
                let found = lookup(&address);
                if outbox.send(Answer { address, found }).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("resolver".into()).spawn(work)?;
        Ok(Worker { requests, answers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    fn address(host: Option<&str>) -> Address {
        Address {
            host: host.map(Into::into),
            port: 7,
        }
    }

    #[test]
    fn literals_need_no_resolver() {
        let v6 = literal(&address(Some("2001:db8::1"))).expect("literal");
        assert_eq!(v6, ["[2001:db8::1]:7".parse().expect("address")]);
        assert_eq!(literal(&address(None)).expect("this machine").len(), 2);
        assert!(literal(&address(Some("localhost"))).is_none());
    }

    #[test]
    fn a_question_behind_one_that_was_given_up_is_answered() {
        fn slow(address: &Address) -> io::Result<Vec<SocketAddr>> {
            if address.port == 1 {
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(Vec::new())
        }
        let mut poll = Poll::new().expect("poll");
        let waker = Waker::new(poll.registry(), Token(9)).expect("waker");
        let mut resolver = Resolver::new(waker).by(slow);
        let at = |port| Address { host: None, port };
        resolver.ask(at(1)).expect("ask");
        assert!(resolver.give_up());
        resolver.ask(at(2)).expect("ask");
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(20)))
            .expect("poll");
        assert_eq!(resolver.answer().expect("an answer").address, at(2));
    }

    #[test]
    fn few_threads_hang_at_once() {
        fn hang(_: &Address) -> io::Result<Vec<SocketAddr>> {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(Vec::new())
        }
        let poll = Poll::new().expect("poll");
        let waker = Waker::new(poll.registry(), Token(9)).expect("waker");
        let mut resolver = Resolver::new(waker).by(hang);
        let given_up = (0..20).filter(|_| {
            resolver.ask(address(Some("x"))).expect("ask");
            resolver.give_up()
        });
        assert_eq!(given_up.count(), THREADS_MAX - 1);
    }

    #[test]
    fn the_thread_wakes_the_loop_with_an_answer() {
        let mut poll = Poll::new().expect("poll");
        let waker = Waker::new(poll.registry(), Token(9)).expect("waker");
        let mut resolver = Resolver::new(waker);
        assert!(resolver.answer().is_none());
        resolver.ask(address(Some("localhost"))).expect("ask");
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(20)))
            .expect("poll");
        assert!(events.iter().any(|event| event.token() == Token(9)));
        let answer = resolver.answer().expect("an answer");
        assert_eq!(answer.address, address(Some("localhost")));
        assert!(
            answer
                .found
                .expect("localhost")
                .iter()
                .all(|a| a.ip().is_loopback())
        );
    }
}
