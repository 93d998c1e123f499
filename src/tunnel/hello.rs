//! The peer's answers: pings until it has answered once, to keep its mapping alive, and when it owes something; what the log
//! says of an end that does not answer, has fallen silent or answers again. Where the peer is, `roam` and `rendezvous` find
//! out; what follows from a ping or pong that comes is in `inbound`.

use super::{Tunnel, clock};
use crate::message::Control;
use crate::time::{SEC, Time};
use std::net::SocketAddr;

/// A peer that has not answered for so long is worth a line in the log.
pub(super) const SILENCE: u64 = 5 * SEC;
/// Nothing from the peer for so long after it was asked: its address may be another one by now.
const LOOK_ANEW: u64 = 3 * SEC;
/// A peer that owes an answer is pinged after so long.
const DOUBT: u64 = SEC;

/// Whether the peer has ever answered, and what was done about it until then.
#[derive(Default)]
pub(super) struct Hello {
    heard: bool,
    pub(super) asked: u32,
    /// How often the log has said that nothing answers, and when it says so again.
    missed: u32,
    warn_at: Time,
    /// The first ping since it was heard last, and when that was.
    unanswered: Option<Time>,
    heard_at: Time,
    /// The log has said that it has fallen silent.
    silence_told: bool,
}

impl Hello {
    pub(super) fn new(now: Time) -> Hello {
        Hello {
            warn_at: now.after(SILENCE),
            heard_at: now,
            ..Hello::default()
        }
    }

    /// The peer may be somewhere else. That it has not answered yet is told of as if it had stayed: while addresses take
    /// turns, none has the time to be missed.
    pub(super) fn elsewhere(&self, now: Time) -> Hello {
        let fresh = Hello::new(now);
        match self.heard {
            true => fresh,
            false => Hello {
                missed: self.missed,
                warn_at: self.warn_at,
                ..fresh
            },
        }
    }
}

impl Tunnel {
    pub(super) fn ping(&mut self, to: SocketAddr, now: Time) {
        let clock = clock(&self.settings, now).clock;
        let mut ping = Control::Ping(clock).to_wire().to_vec();
        if self.peer == Some(to) && !self.hello.heard && !self.packets.sealed() {
            // pays for the ping by which the other end has our address proven before the first session
            ping.resize(2 * ping.len(), ping.len() as u8);
        }
        self.answer(to, None, &ping);
        if self.peer == Some(to) {
            self.hello.unanswered.get_or_insert(now);
        }
        if let Some(lane) = self.addresses.get(&to) {
            self.lanes[*lane as usize].path.sent_at = now;
        }
    }

    pub(super) fn ping_at(&self) -> Option<Time> {
        let lane = self.lane_to(self.peer?)?;
        // until it has answered once: after 1, 2, 4 s and so on
        let wait = match self.hello.heard {
            _ if self.settings.keepalive == 0 => u64::MAX,
            true => self.settings.keepalive,
            false => self.settings.keepalive.min(SEC << self.hello.asked.min(5)),
        };
        let idle = lane.path.sent_at.after(wait);
        // what is in flight should have been heard of
        let owes = lane.path.rate.waits_since();
        let owes = owes.filter(|_| self.hello.unanswered.is_none());
        let doubt = owes.map(|since| since.max(lane.heard_at).after(DOUBT));
        Some(idle.min(doubt.unwrap_or(Time::NEVER))).filter(|at| *at < Time::NEVER)
    }

    /// From when on the peer counts as silent: it was asked, and has not answered for some seconds. Worth a new look at its
    /// name, and at our own address. None: nothing was asked that is not answered.
    pub fn peer_silent_at(&self) -> Option<Time> {
        self.hello.unanswered.map(|asked| asked.after(LOOK_ANEW))
    }

    /// Whether the peer has been heard where it is taken to be, and owes no answer.
    pub fn peer_answers(&self) -> bool {
        self.hello.heard && self.hello.unanswered.is_none()
    }

    /// The address where the peer is taken to be: not always what `set_peer` was told last.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Pings the peer if it is time to, and shows it where the sessions are.
    pub(super) fn ping_if_due(&mut self, now: Time) {
        if self.ping_at().is_some_and(|at| at <= now)
            && let Some(peer) = self.peer
        {
            self.hello.asked += 1;
            self.ping(peer, now);
            self.show_up(peer, now);
        }
    }

    /// Something good came from an address. `rtt`: how long it took if it answers a ping, ms.
    pub(super) fn hear_peer(&mut self, from: SocketAddr, rtt: Option<u32>, now: Time) {
        if self.peer != Some(from) {
            return;
        }
        self.hello.unanswered = None;
        self.hello.heard_at = now;
        if std::mem::take(&mut self.hello.silence_told) {
            log::info!("{from} answers again");
        }
        let first = !std::mem::replace(&mut self.hello.heard, true);
        let level = match first {
            true => log::Level::Info,
            false => log::Level::Debug,
        };
        match rtt {
            Some(rtt) => log::log!(level, "{from} answers after {rtt} ms"),
            None if first => log::info!("{from} answers"),
            None => {}
        }
    }

    /// Says so when a peer that was heard is silent now.
    pub(super) fn tell_silence(&mut self, now: Time) {
        let asked = self.hello.unanswered.filter(|_| self.hello.heard);
        let silent = asked.is_some_and(|asked| now.since(asked) >= SILENCE);
        if let (true, false, Some(peer)) = (silent, self.hello.silence_told, self.peer) {
            self.hello.silence_told = true;
            let seconds = now.since(self.hello.heard_at) / SEC;
            log::warn!("{peer} has been silent for {seconds} s");
        }
    }

    /// Says so when the peer has never answered, after some seconds and then ever more rarely.
    pub(super) fn tell_no_answer(&mut self, now: Time) {
        let Some(peer) = self.peer.filter(|_| !self.hello.heard) else {
            return;
        };
        // pings wait while sessions send, and those go unanswered as well
        let lane = self.lane_to(peer);
        let owes = lane.is_some_and(|lane| lane.path.rate.waits_since().is_some());
        if now < self.hello.warn_at || !(owes || self.hello.unanswered.is_some()) {
            return;
        }
        self.hello.missed += 1;
        self.hello.warn_at = now.after(SILENCE << self.hello.missed.min(8));
        log::warn!(
            "{peer} does not answer: is udp_connect right, does the server run, is its UDP port open, and are key and method the same at both ends? kcptun ping -c FILE tells which"
        );
    }
}
