//! The peer's answers: pings until it has answered once, to keep its mapping alive, and when it owes something; what the log
//! says of an end that does not answer, has fallen silent or answers again. Only what answers something of ours is a sign of
//! life, a pong or an acknowledgement that is news: whatever else comes does not show that the way there is open. Where the
//! peer is, `migration` and `rendezvous` find out; what follows from a ping or pong that comes is in `inbound`.

use super::sessions::Entry;
use super::stats::{DEAF, PeerStats, SCARCE};
use super::{Tunnel, clock};
use crate::message::Control;
use crate::path::{Counts, Path, Unanswered};
use crate::settings::Settings;
use crate::throttle::Throttle;
use crate::time::{Duration, Instant, SEC};
use std::net::SocketAddr;

/// A peer that has not answered for so long is worth a line in the log.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// Nothing from the peer for so long after it was asked: its address may be another one by now.
const LOOK_ANEW: Duration = Duration::from_secs(3);
/// A peer that owes an answer is pinged after so long.
const DOUBT: Duration = Duration::from_secs(1);
/// Where somebody looks at how the tunnel is, the peer is asked so often: with the time until it counts as silent, less than
/// ten seconds.
const WATCH: Duration = Duration::from_secs(4);
/// So long after the last answer a peer that is heard all the time is asked whether it hears as well, unless what it sends
/// shows that.
const BUSY: Duration = Duration::from_secs(2);
/// A peer that is heard and does not answer is pinged again so often, so many times: packets get lost.
const DEAF_AGAIN: Duration = Duration::from_millis(250);
const DEAF_TIMES: u32 = 24;
/// Who gets no acks goes on for a moment, and then only repeats. So many segments of programs that say little may come in
/// their own time; more are a transfer, which has its acks.
const STOPS_WITHIN: Duration = Duration::from_secs(2);
const LITTLE: u64 = 256;
/// Segments that come while the peer owes answers: fewer are as many as would come if most got lost.
const FEW: u64 = 16;
/// Otherwise so many pings are a second apart, further ones ever more.
const QUICK_TIMES: u32 = 10;
/// On a new way the peer is shown where its sessions are after so long, after twice as long and so on, since packets get
/// lost; the last pause is no longer than the other.
const SHOW_AGAIN: Duration = Duration::from_millis(200);
const SHOW_LAST: Duration = Duration::from_secs(2);
/// The longest pause where `keepalive` sets none.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where the peer is, whether it answers, and what was done about it until then.
#[derive(Default)]
pub(super) struct Peer {
    /// None: it is not known, and nothing of the rest says anything.
    addr: Option<SocketAddr>,
    /// It has answered; and it has at the address where it is now.
    heard: bool,
    met: bool,
    /// Pings that were repeated since the last answer.
    asked: u32,
    /// The first ping since the last answer, the latest ping, and the last answer.
    unanswered: Option<Instant>,
    pinged_at: Instant,
    answered_at: Instant,
    /// When the way there became another one.
    since: Instant,
    /// When it is shown again where the sessions are, and the pause before that.
    show: Option<(Instant, Duration)>,
    /// What had come from there when it was asked: see `Counts`.
    news: u64,
    /// And segments in all.
    received: u64,
    /// It has said that it stops.
    stopped_at: Option<Instant>,
    /// Its machine, or a firewall in its name, has said since the last answer that nothing receives at its port.
    refused: bool,
    told: Told,
}

/// What the log has said of the peer.
#[derive(Default)]
struct Told {
    /// How often that nothing answers, and when it says so again.
    missed: u32,
    warn_at: Instant,
    /// That it has fallen silent, or stops.
    silence: bool,
    stops: Throttle,
}

impl Peer {
    /// Where it is taken to be.
    pub(super) fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    pub(super) fn is_at(&self, addr: SocketAddr) -> bool {
        self.addr == Some(addr)
    }

    /// It is at this address from now on, as the caller says.
    pub(super) fn set(&mut self, addr: SocketAddr, now: Instant) {
        if self.addr.replace(addr).is_some() {
            (self.met, self.stopped_at) = (false, None);
            return self.begin_anew(now);
        }
        (self.told.warn_at, self.answered_at, self.since) = (now.after(SILENCE), now, now);
    }

    /// It has moved to this address, where it has answered.
    pub(super) fn follow(&mut self, addr: SocketAddr) {
        self.addr = Some(addr);
    }

    /// The way to it is another one from now on. What was said of it stays true: since when it is silent, and whether it has
    /// ever answered.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        (self.asked, self.since, self.refused) = (0, now, false);
        self.show = Some((now.after(SHOW_AGAIN), SHOW_AGAIN));
    }

    /// The first ping that is not answered.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered
    }

    /// The first ping on the present way that is not answered.
    fn unanswered_here(&self) -> Option<Instant> {
        self.unanswered.map(|asked| asked.max(self.since))
    }

    /// Whether it has answered where it is, and owes no answer.
    fn answers(&self) -> bool {
        self.met && self.unanswered.is_none()
    }

    /// Whether it has ever answered where it is.
    pub(super) fn is_met(&self) -> bool {
        self.met
    }

    /// It is pinged. `counts`: of its path.
    fn on_ping(&mut self, counts: &Counts, now: Instant) {
        self.pinged_at = now;
        if self.unanswered.is_none() {
            (self.unanswered, self.news) = (Some(now), counts.news);
            self.received = counts.received;
        }
    }

    /// When it is pinged next; `path`: the one to it.
    fn ping_at(&self, path: &Path, settings: &Settings) -> Instant {
        match self.unanswered {
            Some(_) => self.pinged_at.after(self.ask_again_after(path, settings)),
            None => self.idle_at(path, settings).min(doubt_at(path)),
        }
    }

    /// When a peer that owes nothing is pinged, to keep its mapping alive.
    fn idle_at(&self, path: &Path, settings: &Settings) -> Instant {
        let watch = self.answered_at.max(self.pinged_at).after(WATCH);
        match settings.keepalive {
            Duration::ZERO => Instant::NEVER,
            span if settings.watched => path.sent_at.after(span).min(watch),
            span => path.sent_at.after(span),
        }
    }

    /// The pause after a ping that is not answered.
    fn ask_again_after(&self, path: &Path, settings: &Settings) -> Duration {
        let most = match settings.keepalive {
            // nobody waits, and the next session will ask
            Duration::ZERO if path.sessions == 0 => Duration::MAX,
            Duration::ZERO => LONGEST_PAUSE,
            span if settings.watched => span.min(WATCH),
            span => span,
        };
        let heard = self
            .unanswered_here()
            .is_some_and(|at| path.liveness.heard_at() > at);
        let quick = match (self.met, heard) {
            (false, _) => 0,
            (true, false) => QUICK_TIMES,
            (true, true) => QUICK_TIMES + DEAF_TIMES,
        };
        let doublings = self.asked.saturating_sub(quick);
        match heard && self.asked < DEAF_TIMES {
            true => DEAF_AGAIN.min(most),
            false => (SEC << doublings.min(5)).min(most),
        }
    }

    /// From when on it counts as one that does not hear us.
    fn deaf_at(&self, path: &Path) -> Option<Instant> {
        let asked = self.unanswered_here()?;
        if !is_heard_after(path, asked) {
            return None;
        }
        let patience = LOOK_ANEW.max(2 * path.congestion.srtt());
        let stopped = asked
            .after(patience)
            .max(path.liveness.news_at().after(STOPS_WITHIN));
        let news = path.counts.news;
        match news.saturating_sub(self.news) <= LITTLE {
            true => Some(stopped.min(asked.after(2 * patience))),
            false => Some(stopped),
        }
    }

    /// Whether so little has come from it since it owes an answer that the answers may have been lost among the rest.
    fn is_scarce(&self, path: &Path) -> bool {
        let counts = &path.counts;
        counts.received.saturating_sub(self.received) < FEW
    }

    /// Whether it is to be shown where the sessions are; then it counts as shown.
    fn takes_announcement(&mut self, now: Instant) -> bool {
        let Some((_, pause)) = self.show.filter(|(at, _)| *at <= now) else {
            return false;
        };
        let pause = 2 * pause;
        self.show = (pause <= SHOW_LAST).then_some((now.after(pause), pause));
        true
    }

    /// It has answered something of ours. `rtt`: how long it took if it answers a ping, ms.
    fn on_answer(&mut self, from: SocketAddr, rtt: Option<u32>, now: Instant) {
        (self.unanswered, self.asked) = (None, 0);
        (self.answered_at, self.heard) = (now, true);
        (self.stopped_at, self.refused) = (None, false);
        if std::mem::take(&mut self.told.silence) {
            log::info!("{from} answers again");
        }
        let first = !std::mem::replace(&mut self.met, true);
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

    /// An address says that whoever is there stops. Anybody could say so where there is no key: it changes what is said of the
    /// peer until it answers the next ping.
    pub(super) fn on_parting(&mut self, from: SocketAddr, now: Instant) {
        if !self.is_at(from) || self.stopped_at.is_some() {
            return;
        }
        self.stopped_at = Some(now);
        self.unanswered.get_or_insert(now);
        (self.asked, self.pinged_at) = (0, now);
        if self.told.stops.admit(now).is_some() {
            self.told.silence = true;
            log::info!("{from} says that it stops");
        }
    }

    /// Its machine says that nothing receives at its port.
    fn on_refused(&mut self) {
        self.refused |= self.unanswered.is_some();
    }

    /// How it is; `path`: the one to it.
    fn life(&self, path: &Path, settings: &Settings, now: Instant) -> PeerStats {
        let stopped = self.stopped_at.is_some();
        let asked = self.unanswered;
        let asked = asked.filter(|at| stopped || now.since(*at) >= SILENCE);
        let silent_for = asked.map(|asked| match self.heard {
            true => now.since(self.answered_at),
            false => now.since(asked),
        });
        PeerStats {
            addr: path.addr,
            heard: self.heard,
            asked: !settings.keepalive.is_zero() || self.unanswered.is_some(),
            silent_for,
            deaf: asked.is_some_and(|asked| {
                is_heard_after(path, asked) && now.since(path.liveness.heard_at()) < SILENCE
            }),
            scarce: self.is_scarce(path),
            stopped,
            refused: self.refused,
        }
    }

    /// How it is, if the log is to say now that it is silent; then it counts as said.
    fn take_silence(&mut self, life: PeerStats) -> Option<Duration> {
        let span = life.silent_for.filter(|_| life.heard && !self.told.silence);
        self.told.silence |= span.is_some();
        span
    }

    /// Whether the log is to say now that it has never answered; then it counts as said.
    fn takes_warning(&mut self, now: Instant) -> bool {
        let due = !self.heard && now >= self.told.warn_at && self.unanswered.is_some();
        if due {
            self.told.missed += 1;
            self.told.warn_at = now.after(SILENCE << self.told.missed.min(8));
        }
        due
    }
}

impl Tunnel {
    /// Pings an address; what the peer does not answer, it owes.
    pub(super) fn ping(&mut self, to: SocketAddr, now: Instant) {
        let clock = clock(&self.settings, now).clock;
        let mut ping = Control::Ping(clock).to_wire().to_vec();
        if self.peer.is_at(to) && !self.peer.is_met() && !self.packets.sealed() {
            // pays for the ping by which the other end has our address validated before the first session
            ping.resize(2 * ping.len(), ping.len() as u8);
        }
        let path = self.paths.to(to).filter(|_| self.peer.is_at(to));
        let doubt =
            path.is_some_and(|path| self.peer.unanswered.is_some() || doubt_at(path) <= now);
        self.send_ping(to, &ping, doubt, now);
        let Some(path) = self.paths.to_mut(to) else {
            return;
        };
        path.sent_at = now;
        if self.peer.is_at(to) {
            self.peer.on_ping(&path.counts, now);
        }
    }

    /// The path to the peer.
    fn peer_path(&self) -> Option<&Path> {
        self.paths.to(self.peer.addr()?)
    }

    /// When `ping_if_due` has something to do.
    pub(super) fn ping_at(&self) -> Option<Instant> {
        let at = self.peer.ping_at(self.peer_path()?, &self.settings);
        Some(at).filter(|at| *at < Instant::NEVER)
    }

    /// From when on the peer counts as silent: it was asked, and has not answered for some seconds. Worth a new look at its
    /// name, and at our own address. None: nothing was asked that is not answered.
    pub fn peer_silent_at(&self) -> Option<Instant> {
        Some(self.peer.unanswered_here()?.after(LOOK_ANEW))
    }

    /// From when on the peer counts as one that does not hear us: what it sends arrives, and nothing of ours is answered, be
    /// it because something on the way there has closed to our port. Worth another port at once. None: it answers, or is
    /// not heard, either.
    pub fn peer_deaf_at(&self) -> Option<Instant> {
        self.peer.deaf_at(self.peer_path()?)
    }

    /// Whether the peer has been heard where it is taken to be, and owes no answer.
    pub fn peer_answers(&self) -> bool {
        self.peer.answers()
    }

    /// The address where the peer is taken to be: not always what `set_peer` was told last.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.addr()
    }

    /// Pings the peer if it is time to, and shows it where the sessions are.
    pub(super) fn ping_if_due(&mut self, now: Instant) {
        let due = self.ping_at().is_some_and(|at| at <= now);
        if let Some(peer) = self.peer.addr().filter(|_| due) {
            self.peer.asked += 1;
            self.ping(peer, now);
            self.announce_address(peer, now);
        }
    }

    /// When `announce_if_due` has something to do.
    pub(super) fn announce_at(&self) -> Option<Instant> {
        self.peer.show.map(|(at, _)| at)
    }

    /// Shows the peer where the sessions are, if it is time to.
    pub(super) fn announce_if_due(&mut self, now: Instant) {
        if let Some(peer) = self.peer.addr() {
            if self.peer.takes_announcement(now) {
                self.announce_address(peer, now);
            }
        }
    }

    /// Something that has come from an address answers something of ours: the way there is open, and so is the way back.
    /// `rtt`: how long it took if it answers a ping, ms.
    pub(super) fn on_answer(&mut self, from: SocketAddr, rtt: Option<u32>, now: Instant) {
        if let Some(path) = self.paths.to_mut(from) {
            path.liveness.on_answer();
        }
        if self.peer.is_at(from) {
            self.peer.on_answer(from, rtt, now);
        }
    }

    /// The system has heard that nothing receives at an address ("port unreachable"). Anybody could say so who can guess our
    /// port: it tells why nobody answers, and no more.
    pub fn on_refused(&mut self, from: SocketAddr) {
        if self.peer.is_at(from) {
            self.peer.on_refused();
        }
        self.meeting.on_refused(from);
    }

    /// How the peer is. None: there is none.
    pub(super) fn life(&self, now: Instant) -> Option<PeerStats> {
        let path = self.peer_path()?;
        Some(self.peer.life(path, &self.settings, now))
    }

    /// Says so when a peer that was heard is silent now.
    pub(super) fn tell_silence(&mut self, now: Instant) {
        let (Some(life), Some(peer)) = (self.life(now), self.peer.addr()) else {
            return;
        };
        let Some(span) = self.peer.take_silence(life) else {
            return;
        };
        let seconds = span.as_secs();
        let mut sessions = self.sessions.iter();
        let lacks = |entry: &Entry| entry.addr() == peer && entry.session.conversation.has_gap();
        match life.deaf {
            _ if life.refused => log::warn!(
                "{peer} has been silent for {seconds} s: nothing receives at its UDP port (port unreachable)"
            ),
            // the other end repeats what is lost, and what it repeats is lost as well
            true if sessions.any(|(_, entry)| lacks(entry)) => log::warn!(
                "{peer} has answered nothing for {seconds} s: much of what it sends gets lost"
            ),
            true => {
                let how = if life.scarce { SCARCE } else { DEAF };
                log::warn!("{peer} has answered nothing for {seconds} s, {how}");
            }
            false => log::warn!("{peer} has been silent for {seconds} s"),
        }
    }

    /// Says so when the peer has never answered, after some seconds and then ever more rarely.
    pub(super) fn tell_no_answer(&mut self, now: Instant) {
        let Some(peer) = self.peer.addr() else {
            return;
        };
        if !self.peer.takes_warning(now) {
            return;
        }
        if self.peer.refused {
            return log::warn!(
                "{peer} does not answer: nothing receives at its UDP port (port unreachable); does the server run, not with a peer's file, and is the port that of its udp_bind?"
            );
        }
        log::warn!(
            "{peer} does not answer: is udp_connect right, does the server run, is its UDP port open, and are key and method the same at both ends? kcptun ping -c FILE says more, and so does the server's log"
        );
    }
}

/// Whether something has come since `asked` that was not on its way then.
fn is_heard_after(path: &Path, asked: Instant) -> bool {
    path.liveness.heard_at() >= asked.after(path.congestion.srtt().max(SEC))
}

/// When a peer that owes something is asked whether it is there; and one that is heard, whether it hears.
fn doubt_at(path: &Path) -> Instant {
    let Unanswered { sent, owed, news } = path.liveness.unanswered();
    let owed = owed.map(|since| since.max(path.liveness.heard_at()).after(DOUBT));
    let busy = sent.filter(|since| path.liveness.heard_at() >= since.after(BUSY / 2));
    // while a transfer goes on it has its acks
    let flows = path.counts.news.saturating_sub(news) > LITTLE;
    let stopped = match flows {
        true => path.liveness.news_at().after(DOUBT),
        false => Instant::ZERO,
    };
    let busy = busy.map(|since| since.after(BUSY).max(stopped));
    let never = |at: Option<Instant>| at.unwrap_or(Instant::NEVER);
    never(owed).min(never(busy))
}
