//! What a tunnel has done and how it is, as plain data for whoever shows it. Nothing here changes the tunnel, and nothing
//! is shown here.

use super::{Counters, Moved, Tunnel};
use crate::conversation::Blocked;
use crate::path::{Counts, Path};
use crate::session::State;
use crate::time::{Duration, Instant};
use std::net::SocketAddr;

/// The most paths that a snapshot tells of one by one.
pub const PATHS: usize = 64;

/// The tunnel at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was done so far.
    pub counters: Counters,
    /// How many datagrams have not opened of which it is not clear yet whether their sender has the key nevertheless.
    pub doubtful: u64,
    /// Of all paths, those that are forgotten included.
    pub counts: Counts,
    /// Whether there is a key.
    pub sealed: bool,
    /// Sessions by state.
    pub sessions: States,
    /// The other end's path first if its address is configured, then those with the most sessions; at most `PATHS`.
    pub paths: Vec<PathStats>,
    /// How many paths `paths` leaves out.
    pub paths_left_out: usize,
    /// None: there is no configured other end.
    pub peer: Option<PeerStats>,
    /// The last move to another pair of ports. None: there was none.
    pub moved: Option<Moved>,
    /// What sessions wait for.
    pub load: Load,
}

/// How many sessions are in which state.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct States {
    /// Begun by the other end, without its dial.
    pub half_open: usize,
    /// Being connected to the service.
    pub dialling: usize,
    /// Carrying data.
    pub connected: usize,
    /// Closed at both ends, with data still on its way.
    pub lingering: usize,
    /// Being reset.
    pub reset: usize,
}

impl States {
    /// Those that are not over.
    pub fn live(&self) -> usize {
        self.half_open + self.dialling + self.connected + self.lingering
    }

    /// With their names.
    pub fn each(&self) -> [(&'static str, usize); 5] {
        [
            ("halfway", self.half_open),
            ("dialling", self.dialling),
            ("connected", self.connected),
            ("lingering", self.lingering),
            ("reset", self.reset),
        ]
    }
}

/// What is known of one path. Rates in bytes per second, shares from 0 to 1.
#[derive(Clone, Debug)]
pub struct PathStats {
    /// The other end.
    pub addr: SocketAddr,
    /// The bottleneck's rate. None, here and below: nothing was measured yet.
    pub rate: Option<f64>,
    /// What data may leave at now.
    pub pacing: f64,
    /// The round trip without a queue.
    pub base_rtt: Option<Duration>,
    /// The smoothed round trip.
    pub srtt: Option<Duration>,
    /// On the way there, and on the way here.
    pub loss: [Option<f64>; 2],
    /// Bytes.
    pub in_flight: u64,
    /// Sessions on the path.
    pub sessions: usize,
    /// The size of the largest IP packets that are sent there, bytes.
    pub mtu: usize,
    /// Since something came from there; None: nothing ever did.
    pub heard_before: Option<Duration>,
    /// Whether there are fresh keys with the process there.
    pub fresh_keys: bool,
}

/// What is said of an end that is heard but answers nothing.
pub const DEAF: &str = "though packets come from there: what is sent there gets lost";
/// The same where little is heard of it.
pub const SCARCE: &str =
    "though a few packets come from there: what is sent there gets lost, or most of what it sends";

/// The configured other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Where it is.
    pub addr: SocketAddr,
    /// It has ever answered.
    pub heard: bool,
    /// It was pinged, or will be.
    pub asked: bool,
    /// For how long it has answered nothing though it should have. None: it answers, or need not yet.
    pub silent_for: Option<Duration>,
    /// Nevertheless packets come from there: what is sent there gets lost.
    pub deaf: bool,
    /// But few: it may be that most of what comes gets lost, and the answers with it.
    pub scarce: bool,
    /// It has said that it stops.
    pub stopped: bool,
    /// Nothing receives at its port, as its machine says.
    pub refused: bool,
}

/// What the live sessions wait for.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sessions whose data waits for the path's rate.
    pub rate: usize,
    /// For `rate.up`.
    pub capped: usize,
    /// For the other end's reader.
    pub reader_there: usize,
    /// For a window.
    pub window: usize,
    /// Sessions whose data waits for TCP's reader here.
    pub reader_here: usize,
    /// For `rate.down`.
    pub held: usize,
    /// Of which something has arrived, and what was sent before it has not.
    pub gaps: usize,
}

/// One session.
#[derive(Clone, Debug)]
pub struct SessionStats {
    /// Its number.
    pub number: u32,
    /// The name of its state.
    pub state: &'static str,
    /// The other end.
    pub addr: SocketAddr,
    /// Whether it was opened here.
    pub begun_here: bool,
    /// How long it has existed.
    pub age: Duration,
    /// Bytes given to TCP.
    pub bytes_in: u64,
    /// Bytes taken from TCP.
    pub bytes_out: u64,
    /// Bytes that have arrived and that TCP's reader has not taken.
    pub waiting_in: usize,
    /// Bytes taken from TCP and not acknowledged.
    pub waiting_out: usize,
    /// The smoothed round trip of its path.
    pub srtt: Option<Duration>,
}

impl Tunnel {
    /// How the tunnel is. Takes time in proportion to the number of sessions and paths.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let (sessions, load) = self.look();
        let (paths, paths_left_out) = self.path_stats(now);
        Snapshot {
            counters: self.counters,
            doubtful: self.reports.doubtful(),
            counts: self.paths.counts(),
            sealed: self.packets.sealed(),
            sessions,
            paths,
            paths_left_out,
            moved: self.moved(),
            peer: self.life(now),
            load,
        }
    }

    /// Up to `most` sessions, those that carried the most first; and how many there are beside them.
    pub fn session_stats(&self, now: Instant, most: usize) -> (Vec<SessionStats>, usize) {
        let live = self
            .sessions
            .iter()
            .filter(|(_, e)| !e.session.state.is_over());
        let mut chosen: Vec<(u64, u32)> = live
            .map(|(id, e)| (e.session.bytes_in() + e.session.bytes_out(), id))
            .collect();
        let left_out = chosen.len().saturating_sub(most);
        keep_greatest(&mut chosen, most);
        let stats = chosen.iter().map(|(_, id)| self.session_stat(*id, now));
        (stats.collect(), left_out)
    }

    fn session_stat(&self, id: u32, now: Instant) -> SessionStats {
        let entry = &self.sessions[id];
        let session = &entry.session;
        let path = &self.paths[session.path];
        SessionStats {
            number: session.conv(),
            state: session.state.name(),
            addr: entry.addr(),
            begun_here: session.opener,
            age: now.since(session.opened_at),
            bytes_in: session.bytes_in(),
            bytes_out: session.bytes_out(),
            waiting_in: session.unread(),
            waiting_out: session.unsent(),
            srtt: path.congestion.base_rtt().map(|_| path.congestion.srtt()),
        }
    }

    fn look(&self) -> (States, Load) {
        let (mut states, mut load) = (States::default(), Load::default());
        for (_, entry) in self.sessions.iter() {
            let session = &entry.session;
            let count = match session.state {
                State::HalfOpen => &mut states.half_open,
                State::Dialling => &mut states.dialling,
                State::Connected => &mut states.connected,
                State::Lingering => &mut states.lingering,
                State::Reset { .. } | State::Gone => &mut states.reset,
            };
            *count += 1;
            if session.state.is_over() {
                continue;
            }
            let path = &self.paths[session.path];
            match session.waits_for() {
                Some(Blocked::Rate) if path.congestion.is_capped() => load.capped += 1,
                Some(Blocked::Rate) => load.rate += 1,
                Some(Blocked::Reader) => load.reader_there += 1,
                Some(Blocked::Window) => load.window += 1,
                None => {}
            }
            load.gaps += usize::from(session.conversation.has_gap());
            if session.is_held() {
                load.held += 1;
            } else if session.unread() > 0 {
                load.reader_here += 1;
            }
        }
        (states, load)
    }

    fn path_stats(&self, now: Instant) -> (Vec<PathStats>, usize) {
        let peer = self.peer.addr();
        // the other end first, then by sessions, then by when something was sent there last
        let mut chosen: Vec<((bool, usize, Instant), u32)> = self
            .paths
            .iter()
            .map(|(id, path)| {
                let first = peer == Some(path.addr);
                ((first, path.sessions, path.sent_at), id)
            })
            .collect();
        let left_out = chosen.len().saturating_sub(PATHS);
        keep_greatest(&mut chosen, PATHS);
        let paths = chosen
            .iter()
            .map(|(_, id)| self.path_stat(&self.paths[*id], now));
        (paths.collect(), left_out)
    }
}

impl Tunnel {
    fn path_stat(&self, path: &Path, now: Instant) -> PathStats {
        let base_rtt = path.congestion.base_rtt();
        PathStats {
            addr: path.addr,
            rate: path
                .congestion
                .has_delivered()
                .then(|| path.congestion.capacity()),
            pacing: path.congestion.pacing(),
            base_rtt,
            srtt: base_rtt.map(|_| path.congestion.srtt()),
            loss: path.seen_loss(),
            in_flight: path.congestion.in_flight(),
            sessions: path.sessions,
            mtu: path.size.size(),
            heard_before: path.liveness.heard_before(now),
            fresh_keys: self.packets.fresh.has_keys(path.addr),
        }
    }
}

/// Keeps the `most` greatest, the greatest first.
fn keep_greatest<T: Ord>(items: &mut Vec<T>, most: usize) {
    if items.len() > most && most > 0 {
        items.select_nth_unstable_by(most - 1, |a, b| b.cmp(a));
    }
    items.truncate(most);
    items.sort_unstable_by(|a, b| b.cmp(a));
}
