//! Remembers the last minutes of the tunnel, and derives what is said of it now: rates, the limit, health. It looks at the
//! tunnel's state several times a second; the answers are made in `respond`.

use super::limit::{self, Contact, Direction, Facts, Limit, Moment};
use crate::config::{Address, Config, Role};
use crate::number;
use crate::time::{Duration, Instant, SEC};
use crate::tunnel::Tunnel;
use crate::tunnel::stats::Snapshot;
use crate::tunnel::stats::{DEAF, SCARCE};
use std::collections::VecDeque;

/// The time from one look at the tunnel to the next with sessions.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The same without sessions.
const LOOK_INTERVAL_IDLE: Duration = Duration::from_secs(1);
/// The looks that rates and limits are computed from: those of about two seconds.
const LOOKS_KEPT: usize = 9;
/// The points of the history, one a second.
const HISTORY_POINTS: usize = 300;
/// The upper bounds of the histogram of the loop's turns, seconds.
pub const CLASSES: [f64; 8] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3];
/// The longest turn is that of the last one to two such spans.
const LONGEST_TURN_SPAN: Duration = Duration::from_secs(30);

/// What the configuration says of the daemon.
#[derive(Clone, Debug)]
pub struct Site {
    /// The program's version.
    pub version: &'static str,
    /// What this end does.
    pub role: Role,
    /// How packets are sealed; "none".
    pub method: &'static str,
    /// The name in http_listen, if it is a name.
    pub host: Option<String>,
    /// Whether the ends meet through a rendezvous server.
    pub meets: bool,
}

impl Site {
    /// Of the daemon that `config` configures. `listen`: where statistics are shown.
    pub fn new(config: &Config, listen: &Address) -> Site {
        let is_name = listen.literal().is_none();
        let seal = config.seal.as_ref();
        Site {
            version: env!("CARGO_PKG_VERSION"),
            role: config.role(),
            method: seal.map_or("none", |seal| seal.method.name()),
            host: listen.host.clone().filter(|_| is_name),
            meets: config.rendezvous_server.is_some(),
        }
    }
}

/// How long the turns of the event loop have taken.
#[derive(Clone, Copy, Default, Debug)]
pub struct Turns {
    /// The number of turns by `CLASSES`; the last is for longer ones.
    pub counts: [u64; CLASSES.len() + 1],
    /// The sum of all turns.
    pub sum: Duration,
    longest: [Duration; 2],
    since: Instant,
}

impl Turns {
    /// A turn has taken `span`.
    pub fn record(&mut self, span: Duration, now: Instant) {
        let seconds = span.as_secs_f64();
        let class = CLASSES.iter().position(|most| seconds <= *most);
        self.counts[class.unwrap_or(CLASSES.len())] += 1;
        self.sum += span;
        if now.since(self.since) >= LONGEST_TURN_SPAN {
            (self.longest, self.since) = ([self.longest[1], Duration::ZERO], now);
        }
        self.longest[1] = self.longest[1].max(span);
    }

    /// The longest of the last half to whole minute.
    pub fn longest(&self) -> Duration {
        self.longest[0].max(self.longest[1])
    }
}

/// A second of the past. Rates in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// When it ended.
    pub at: Instant,
    /// TCP's data sent to the other end.
    pub sending: f64,
    /// TCP's data received from there.
    pub receiving: f64,
    /// The first path's smoothed round trip.
    pub srtt: Option<Duration>,
    /// Its round trip with an empty queue.
    pub base_rtt: Option<Duration>,
    /// The share lost on the way there and on the way here, 0 to 1.
    pub loss: [Option<f64>; 2],
}

/// Numbers that only grow, at one look.
#[derive(Clone, Copy, Default)]
struct Totals {
    taken: u64,
    given: u64,
    sent: u64,
    received: u64,
    segments: u64,
    full: u64,
}

impl Totals {
    fn of(snapshot: &Snapshot) -> Totals {
        Totals {
            taken: snapshot.counters.taken,
            given: snapshot.counters.given,
            sent: snapshot.counters.sent_bytes,
            received: snapshot.counters.received_bytes,
            segments: snapshot.counts.received,
            full: snapshot.counts.full,
        }
    }
}

struct Look {
    at: Instant,
    totals: Totals,
    sending: Limit,
    receiving: Limit,
}

/// Bytes per second now: of TCP, and of UDP.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rates {
    /// From TCP.
    pub taken: f64,
    /// To TCP.
    pub given: f64,
    /// Sent over UDP.
    pub sent: f64,
    /// Received over UDP.
    pub received: f64,
}

/// Whether the daemon can do its work, and a line why.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether it can.
    pub good: bool,
    /// Why, for people.
    pub why: String,
}

/// All that an answer can show.
pub struct View<'a> {
    /// What the configuration says.
    pub site: &'a Site,
    /// The present.
    pub now: Instant,
    /// How long the daemon has run.
    pub uptime: Duration,
    /// The tunnel's state.
    pub snapshot: Snapshot,
    /// The rates of the last seconds.
    pub rates: Rates,
    /// What limits the direction that carries more.
    pub limit: Limit,
    /// The direction that carries more.
    pub direction: Direction,
    /// What limits the way there.
    pub sending: Limit,
    /// What limits the way here.
    pub receiving: Limit,
    /// `limit` in plain words.
    pub sentence: String,
    /// Whether the daemon can do its work.
    pub health: Health,
    /// How long the turns of the event loop take.
    pub turns: &'a Turns,
    /// The last minutes, the oldest first.
    pub history: &'a VecDeque<Point>,
}

/// What is remembered of the last minutes.
pub struct Monitor {
    site: Site,
    started: Instant,
    due: Instant,
    looks: VecDeque<Look>,
    history: VecDeque<Point>,
    /// How long the turns of the event loop take.
    pub turns: Turns,
}

impl Monitor {
    /// A monitor that has seen nothing yet.
    pub fn new(site: Site, now: Instant) -> Monitor {
        Monitor {
            site,
            started: now,
            due: now,
            looks: VecDeque::with_capacity(LOOKS_KEPT + 1),
            history: VecDeque::new(),
            turns: Turns::default(),
        }
    }

    /// The configuration was read again.
    pub fn set_site(&mut self, site: Site) {
        self.site = site;
    }

    /// What the configuration says.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// When `look` has to be called next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Looks at the tunnel, if it is time to.
    pub fn look(&mut self, tunnel: &Tunnel, now: Instant) {
        if now < self.due {
            return;
        }
        let snapshot = tunnel.snapshot(now);
        let busy = snapshot.sessions.live() > 0;
        self.due = now.after(if busy {
            LOOK_INTERVAL
        } else {
            LOOK_INTERVAL_IDLE
        });
        let totals = Totals::of(&snapshot);
        let moment = self.moment(&snapshot, totals, now);
        self.looks.push_back(Look {
            at: now,
            totals,
            sending: limit::at(&moment, Direction::Sending),
            receiving: limit::at(&moment, Direction::Receiving),
        });
        if self.looks.len() > LOOKS_KEPT {
            self.looks.pop_front();
        }
        if self
            .history
            .back()
            .is_none_or(|last| now.since(last.at) >= SEC)
        {
            self.remember(&snapshot, now);
        }
    }

    fn moment(&self, snapshot: &Snapshot, totals: Totals, now: Instant) -> Moment {
        let Some(before) = self.looks.back() else {
            return Moment::default();
        };
        let loss = snapshot.paths.first().map_or([None; 2], |path| path.loss);
        Moment {
            load: snapshot.load,
            span: now.since(before.at),
            taken: totals.taken.saturating_sub(before.totals.taken),
            given: totals.given.saturating_sub(before.totals.given),
            arrived: totals.segments.saturating_sub(before.totals.segments),
            full: totals.full.saturating_sub(before.totals.full),
            loss: loss.map(Option::unwrap_or_default),
        }
    }

    fn remember(&mut self, snapshot: &Snapshot, now: Instant) {
        let rates = self.rates();
        let path = snapshot.paths.first();
        self.history.push_back(Point {
            at: now,
            sending: rates.taken,
            receiving: rates.given,
            srtt: path.and_then(|p| p.srtt),
            base_rtt: path.and_then(|p| p.base_rtt),
            loss: path.map_or([None; 2], |p| p.loss),
        });
        if self.history.len() > HISTORY_POINTS {
            self.history.pop_front();
        }
    }

    fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else {
            return Rates::default();
        };
        let span = last.at.since(first.at).max(Duration::MICROSECOND);
        let seconds = span.as_secs_f64();
        let rate = |of: fn(&Totals) -> u64| {
            of(&last.totals).saturating_sub(of(&first.totals)) as f64 / seconds
        };
        Rates {
            taken: rate(|t| t.taken),
            given: rate(|t| t.given),
            sent: rate(|t| t.sent),
            received: rate(|t| t.received),
        }
    }

    /// Everything as it is now.
    pub fn view(&self, tunnel: &Tunnel, now: Instant) -> View<'_> {
        let snapshot = tunnel.snapshot(now);
        let rates = self.rates();
        let sending = limit::most_frequent(self.looks.iter().map(|look| look.sending));
        let receiving = limit::most_frequent(self.looks.iter().map(|look| look.receiving));
        let contact = match (contact(&self.site, &snapshot), receiving) {
            // it may well answer
            (Contact::DeafFor(span) | Contact::HardlyFor(span), Limit::Loss) => {
                Contact::LosesFor(span)
            }
            (contact, _) => contact,
        };
        let (limit, direction) = match (sending, receiving) {
            _ if matches!(contact, Contact::LosesFor(_)) => (Limit::Loss, Direction::Receiving),
            _ if contact.is_missed() => (Limit::Silent, Direction::Sending),
            (Limit::Idle, other) if other != Limit::Idle => (other, Direction::Receiving),
            (other, Limit::Idle) => (other, Direction::Sending),
            (_, other) if rates.given > rates.taken => (other, Direction::Receiving),
            (other, _) => (other, Direction::Sending),
        };
        let mut sentence =
            limit::sentence(limit, &self.facts(&snapshot, contact, direction, rates));
        if contact.is_missed() && snapshot.peer.is_some_and(|peer| peer.refused) {
            sentence.push_str(" Nothing receives at its UDP port.");
        }
        View {
            site: &self.site,
            now,
            uptime: now.since(self.started),
            health: health(&self.site, &snapshot, contact),
            rates,
            limit,
            direction,
            sending,
            receiving,
            sentence,
            turns: &self.turns,
            history: &self.history,
            snapshot,
        }
    }

    fn facts(
        &self,
        snapshot: &Snapshot,
        contact: Contact,
        direction: Direction,
        rates: Rates,
    ) -> Facts {
        let path = snapshot.paths.first();
        let (rate, way) = match direction {
            Direction::Sending => (rates.taken, 0),
            Direction::Receiving => (rates.given, 1),
        };
        Facts {
            role: self.site.role,
            direction,
            rate,
            line: path.and_then(|p| p.rate).unwrap_or_default(),
            loss: path.and_then(|p| p.loss[way]).unwrap_or_default(),
            contact,
            sessions: snapshot.sessions.live(),
        }
    }
}

fn contact(site: &Site, snapshot: &Snapshot) -> Contact {
    let counters = &snapshot.counters;
    let dropped = counters.bad_seal + counters.replayed + counters.malformed + counters.unknown;
    let good = match snapshot.sealed {
        true => counters.opened,
        false => counters.received.saturating_sub(dropped),
    };
    match (snapshot.peer, site.role) {
        (Some(peer), _) => match (peer.silent_for, peer.heard) {
            (Some(span), true) if peer.stopped => Contact::StoppedFor(span),
            (Some(span), true) if peer.deaf && peer.scarce => Contact::HardlyFor(span),
            (Some(span), true) if peer.deaf => Contact::DeafFor(span),
            (Some(span), true) => Contact::SilentFor(span),
            (Some(span), false) => Contact::Unanswered(Some(span)),
            (None, false) if peer.asked => Contact::Unanswered(None),
            (None, _) => Contact::Good,
        },
        (None, Role::Peer | Role::Both) if site.meets => Contact::NotFound,
        (None, Role::Peer | Role::Both) => Contact::Unresolved,
        (None, Role::Server) if good == 0 && site.meets => Contact::NoRendezvous,
        (None, Role::Server) if good == 0 => {
            Contact::Nobody(counters.bad_seal.saturating_sub(snapshot.doubtful))
        }
        (None, Role::Server | Role::Rendezvous) => Contact::Good,
    }
}

fn health(site: &Site, snapshot: &Snapshot, contact: Contact) -> Health {
    let sessions = number_of(snapshot.sessions.live(), "session");
    let why = match (contact, snapshot.peer) {
        (Contact::NotFound | Contact::Unresolved, _) => {
            format!("the other end {}", contact.why_not_found())
        }
        (_, Some(peer)) => {
            let does = match contact {
                Contact::SilentFor(span) => format!("silent for {}", number::span(span)),
                Contact::StoppedFor(span) => {
                    format!("was stopped, silent for {}", number::span(span))
                }
                Contact::DeafFor(span) => {
                    format!("has answered nothing for {}, {DEAF}", number::span(span))
                }
                Contact::HardlyFor(span) => {
                    format!("has answered nothing for {}, {SCARCE}", number::span(span))
                }
                Contact::LosesFor(span) => format!(
                    "has answered nothing for {}: next to nothing of what it sends arrives",
                    number::span(span)
                ),
                Contact::Unanswered(Some(span)) => {
                    format!("has never answered, for {}", number::span(span))
                }
                Contact::Unanswered(None) => "has not answered yet".into(),
                _ if peer.heard => format!("answers; {sessions}"),
                _ => "was not sent anything yet".into(),
            };
            let why = match contact.is_missed() && peer.refused {
                true => "; nothing receives at its UDP port",
                false => "",
            };
            format!("the other end, {}, {does}{why}", peer.addr)
        }
        (_, None) => waits(site, snapshot, &sessions),
    };
    Health {
        good: !contact.is_missed(),
        why,
    }
}

/// Of an end that others come to.
fn waits(site: &Site, snapshot: &Snapshot, sessions: &str) -> String {
    let paths = snapshot.paths.iter().filter(|p| p.sessions > 0).count();
    let others = number_of(paths + snapshot.paths_left_out, "address");
    match snapshot.sessions.live() {
        _ if site.role == Role::Rendezvous => "rendezvous: brings others together".into(),
        0 => format!("{}: waits for sessions", site.role.name()),
        _ => format!("{}: {sessions} from {others}", site.role.name()),
    }
}

fn number_of(n: usize, what: &str) -> String {
    match (n, what.ends_with('s')) {
        (1, _) => format!("1 {what}"),
        (n, true) => format!("{n} {what}es"),
        (n, false) => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_fall_into_classes_and_the_longest_is_forgotten_in_time() {
        let mut turns = Turns::default();
        let at = |s: u64| Instant::from_millis(s * 1000);
        for span in [50, 100, 101, 400_000] {
            turns.record(Duration::from_micros(span), at(1));
        }
        assert_eq!(turns.counts, [2, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            (turns.sum, turns.longest()),
            (Duration::from_micros(400_251), Duration::from_millis(400))
        );
        turns.record(Duration::from_micros(10), at(40));
        assert_eq!(turns.longest(), Duration::from_millis(400));
        turns.record(Duration::from_micros(10), at(80));
        assert_eq!(turns.longest(), Duration::from_micros(10));
    }
}
