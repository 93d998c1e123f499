//! `kcptun ping` without its sockets: which ping leaves when, what an answer, an error or silence means, and the lines that
//! are printed. The text of the last lines is in `verdict`, which of several ports answer in `survey`,
//! and the sockets are in `event::ping`.
//!
//! While nothing at all comes back, two more things are tried to find the reason: pings that are sealed in other ways (with
//! another method, or not at all), and whether the host answers over TCP.

mod fresh_keys;
mod survey;
mod verdict;

pub(crate) use survey::Survey;
pub(crate) use verdict::{Fault, Verdict, tone};

use crate::crypto::{Key, Method, Rejected, Sealing};
use crate::message::{CONTROL_LEN, Control, PADDING_MAX};
use crate::path::headers;
use crate::pmtu::{Probe, Search};
use crate::settings::ForwardSecrecy;
use crate::time::{Duration, Instant, MS};
use fresh_keys::FreshKeys;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// Bytes that the longest datagram of `transmit` takes: a ping that asks for the size of packets.
pub(crate) const DATAGRAM: usize = 1500;
/// A ping without an answer for this long is reported; a later answer still counts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a ping is remembered for a late answer.
const ANSWER_MEMORY: Duration = Duration::from_secs(60);
/// When the other ways to seal are tried, from the first ping on; more than once, since packets get lost.
const OTHER_SEALS_AT: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(6),
];
/// How long silence has to last before it is judged.
const VERDICT_AFTER: Duration = Duration::from_secs(4);
/// How long answers are awaited after the last ping.
const FINAL_WAIT: Duration = Duration::from_secs(2);
/// How long the size of packets is searched for at most after the first answer.
const SIZE_SEARCH_TIMEOUT: Duration = Duration::from_secs(6);
/// How many of our own datagrams are remembered, to know them when they come back.
const OWN_REMEMBERED: usize = 32;

/// What is to be pinged, and how.
pub(crate) struct Settings {
    /// The other end as the configuration writes it.
    pub name: String,
    /// Its address.
    pub at: SocketAddr,
    /// It is not the other end, but the rendezvous server.
    pub meets: bool,
    /// How packets are sealed. None: they are not.
    pub seal: Option<(Method, Key)>,
    /// What is asked about fresh keys: what this end does about them, and random bytes for a greeting. None: nothing.
    pub fresh: Option<(ForwardSecrecy, Zeroizing<[u8; 32]>)>,
    /// The number of pings. None: until `stop`.
    pub count: Option<u64>,
    /// The time from one ping to the next.
    pub interval: Duration,
    /// The first ping's timestamp; the others count up. It should not be easy to guess.
    pub first: u32,
    /// Seeds the padding.
    pub seed: u64,
    /// The size of IP packets that the configuration allows, bytes.
    pub mtu: usize,
}

/// A way to seal, ours or another one that is tried.
struct Way {
    method: Option<Method>,
    sealing: Option<Sealing>,
}

struct Waiting {
    number: u64,
    sent_at: Instant,
    /// It was said that there is no answer.
    missed: bool,
}

/// What has come back besides answers.
#[derive(Default)]
struct Signs {
    echo: bool,
    foreign: bool,
    /// Something else that was sealed by our key.
    heard: bool,
    other_way: Option<Option<Method>>,
    fault: Option<Fault>,
    host_lives: bool,
}

/// Round trips; their sums in microseconds.
#[derive(Default)]
struct Trips {
    count: u64,
    least: Duration,
    most: Duration,
    sum: f64,
    squares: f64,
}

/// Pings of one target.
pub(crate) struct Ping {
    settings: Settings,
    /// The first is the configured one.
    ways: Vec<Way>,
    began: Instant,
    stopped: Option<Instant>,
    pings: Pings,
    /// Indices into `ways`, to be sent now.
    queue: VecDeque<usize>,
    tried: usize,
    asked_host: bool,
    signs: Signs,
    trips: Trips,
    size: PacketSize,
    fresh: Option<FreshKeys>,
    own: VecDeque<Vec<u8>>,
    report: Report,
    rng: SmallRng,
}

/// The pings that were sent, and when the next is.
struct Pings {
    next_at: Instant,
    sent: u64,
    missed: u64,
    waiting: VecDeque<Waiting>,
}

/// How large packets may be on the way there, which is looked for once there was an answer.
struct PacketSize {
    /// When the first answer came.
    answered_at: Instant,
    search: Search,
    probes: VecDeque<Probe>,
    tokens: u32,
}

/// What is printed.
struct Report {
    lines: VecDeque<String>,
    /// Something odd was reported since the last ping left.
    odd_told: bool,
    /// The verdict that was told last.
    verdict: Option<Verdict>,
}

/// The ways to seal: the configured one first.
fn ways(settings: &Settings) -> Vec<Way> {
    let mut ways = vec![Way {
        method: settings.seal.as_ref().map(|(method, _)| *method),
        sealing: settings
            .seal
            .as_ref()
            .map(|(method, key)| Sealing::new(*method, key)),
    }];
    if let Some((ours, key)) = &settings.seal {
        let others = Method::ALL.into_iter().filter(|method| method != ours);
        ways.extend(others.map(|method| Way {
            method: Some(method),
            sealing: Some(Sealing::new(method, key)),
        }));
        ways.push(Way {
            method: None,
            sealing: None,
        });
    }
    ways
}

/// The greetings, where there is a key, and somebody who may have fresh ones.
fn fresh_keys(settings: &Settings) -> Option<FreshKeys> {
    let (method, key) = settings.seal.as_ref()?;
    let (wanted, secret) = settings.fresh.as_ref().filter(|_| !settings.meets)?;
    Some(FreshKeys::new(
        (*method, key),
        *wanted,
        secret,
        settings.seed,
    ))
}

/// The first line.
fn heading(settings: &Settings) -> String {
    let seal = match &settings.seal {
        Some((method, _)) => format!("sealed with {method}"),
        None => "not sealed".into(),
    };
    let place = settings.at.to_string();
    let place = match settings.name == place {
        true => place,
        false => format!("{} ({place})", settings.name),
    };
    match settings.meets {
        false => format!("pings to {place}, {seal}"),
        true => format!(
            "pings to the rendezvous server {place}, {seal}; they do not tell whether the other end is registered there"
        ),
    }
}

impl Ping {
    /// Nothing is sent yet.
    pub(crate) fn new(settings: Settings, now: Instant) -> Ping {
        let heading = heading(&settings);
        Ping {
            rng: SmallRng::seed_from_u64(settings.seed),
            report: Report {
                lines: VecDeque::from([heading]),
                odd_told: false,
                verdict: None,
            },
            size: PacketSize {
                answered_at: now,
                search: Search::new(settings.mtu),
                probes: VecDeque::new(),
                // far from the timestamps of pings
                tokens: settings.first.wrapping_add(1 << 31),
            },
            ways: ways(&settings),
            fresh: fresh_keys(&settings),
            settings,
            began: now,
            stopped: None,
            pings: Pings {
                next_at: now,
                sent: 0,
                missed: 0,
                waiting: VecDeque::new(),
            },
            queue: VecDeque::new(),
            tried: 0,
            asked_host: false,
            signs: Signs::default(),
            trips: Trips::default(),
            own: VecDeque::new(),
        }
    }

    /// Writes the next datagram to send now into `buf`, which has room for `DATAGRAM` bytes; returns its length.
    pub(crate) fn transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        if self.has_more() && now >= self.pings.next_at {
            self.pings.next_at = now.after(self.settings.interval);
            self.pings.waiting.push_back(Waiting {
                number: self.pings.sent,
                sent_at: now,
                missed: false,
            });
            self.pings.sent += 1;
            self.report.odd_told = false;
            self.queue.push_back(0);
        }
        if self.other_ways_at().is_some_and(|at| at <= now) {
            self.tried += 1;
            self.queue.extend(1..self.ways.len());
        }
        if let Some(way) = self.queue.pop_front() {
            return Some(self.close(way, buf));
        }
        if self.size.probes.is_empty() && self.size_at().is_some_and(|at| at <= now) {
            let mean = Duration::from_micros(self.trips.sum as u64) / self.trips.count.max(1);
            let tokens = &mut self.size.tokens;
            let probes = self.size.search.ask(mean, now, || {
                *tokens = tokens.wrapping_add(1);
                *tokens
            });
            self.size.probes.extend(probes);
        }
        let probe = self.size.probes.pop_front()?;
        Some(self.close_probe(probe, buf))
    }

    /// When the size of packets is to be asked for.
    fn size_at(&self) -> Option<Instant> {
        let asks = self.trips.count > 0 && self.stopped.is_none() && !self.size.search.is_at_rest();
        asks.then(|| self.size.search.due())
            .filter(|at| *at < Instant::NEVER)
    }

    /// Whether it is time to see if the host answers anything at all; true once.
    pub(crate) fn asks_host(&mut self, now: Instant) -> bool {
        let asks = !self.asked_host && self.is_silent() && now >= self.began.after(ANSWER_TIMEOUT);
        self.asked_host |= asks;
        asks
    }

    /// The host has accepted or refused a TCP connection.
    pub(crate) fn on_host_lives(&mut self) {
        self.signs.host_lives = true;
    }

    /// A datagram has come from the other end's address.
    pub(crate) fn receive(&mut self, now: Instant, datagram: &[u8]) {
        if self.own.iter().any(|own| own == datagram) {
            self.signs.echo = true;
            return self.tell_odd("what was sent came back".into());
        }
        for way in 0..self.ways.len() {
            let mut copy = datagram.to_vec();
            let packet = match &mut self.ways[way].sealing {
                Some(sealing) => match sealing.open(&mut copy) {
                    Ok(packet) => packet,
                    // the path has doubled it
                    Err(Rejected::Replay) => return,
                    Err(_) => continue,
                },
                None => copy.as_mut_slice(),
            };
            let sealed = self.ways[way].sealing.is_some();
            match Control::read(packet) {
                Some(Control::Pong(ts)) if way == 0 && self.size.search.on_pong(ts, now) => {
                    return self.signs.fault = None;
                }
                Some(Control::Pong(ts)) if self.is_ours(ts) => {
                    return self.on_pong(now, way, ts, &packet[CONTROL_LEN..]);
                }
                // the other end asks, too, whether this one is there
                Some(Control::Ping(_)) if way == 0 => return self.signs.heard = true,
                _ if sealed => return self.signs.heard = true,
                _ => {}
            }
        }
        self.signs.foreign = true;
        self.tell_odd(format!(
            "{} bytes arrived that are not an answer",
            datagram.len()
        ));
    }

    /// The system reports that the last datagram, or one before it, did not arrive.
    pub(crate) fn on_fault(&mut self, now: Instant, fault: Fault) {
        let told = format!(
            "seq={} {}",
            self.pings.sent,
            fault.text(self.settings.at.port())
        );
        if let Some(last) = self.pings.waiting.pop_back() {
            self.pings.missed += u64::from(!last.missed);
            self.report.lines.push_back(told);
        }
        self.signs.fault = Some(fault);
        self.look(now);
    }

    /// Does what the clock has made due.
    pub(crate) fn look(&mut self, now: Instant) {
        for waiting in &mut self.pings.waiting {
            if !waiting.missed && now.since(waiting.sent_at) >= ANSWER_TIMEOUT {
                waiting.missed = true;
                self.pings.missed += 1;
                let loss = share(self.pings.missed, self.trips.count);
                let seq = waiting.number + 1;
                let line = format!(
                    "seq={seq} no answer within {} s, loss={loss} %",
                    ANSWER_TIMEOUT.as_secs()
                );
                self.report.lines.push_back(line);
            }
        }
        let old = |w: &Waiting| now.since(w.sent_at) >= ANSWER_MEMORY;
        while self.pings.waiting.front().is_some_and(old) {
            self.pings.waiting.pop_front();
        }
        // An endless ping must not have to be ended to hear the verdict.
        if !self.ends_soon() && self.can_be_judged(now) {
            let verdict = self.verdict(now);
            if self.is_news(&verdict) {
                self.report.lines.extend(verdict.lines(&self.settings));
                self.report.verdict = Some(verdict);
            }
        }
    }

    /// Whether it differs from the verdict that was told.
    fn is_news(&self, verdict: &Verdict) -> bool {
        self.report.verdict.as_ref() != Some(verdict)
    }

    /// Whether the end, which has a verdict of its own, is as near as this one would have been.
    fn ends_soon(&self) -> bool {
        let left = |count: u64| count.saturating_sub(self.pings.sent);
        let soon = |count: u64| {
            u32::try_from(left(count))
                .is_ok_and(|left| self.settings.interval * u64::from(left) <= VERDICT_AFTER)
        };
        self.stopped.is_some() || self.settings.count.is_some_and(soon)
    }

    /// When to call again `transmit` or `look`.
    pub(crate) fn deadline(&self) -> Instant {
        let next = self.has_more().then_some(self.pings.next_at);
        let first = self.pings.waiting.iter().find(|waiting| !waiting.missed);
        let missed = first.map(|waiting| waiting.sent_at.after(ANSWER_TIMEOUT));
        let asks = (!self.asked_host && self.is_silent()).then(|| self.began.after(ANSWER_TIMEOUT));
        let judges = self.report.verdict.is_none() && !self.ends_soon() && self.trips.count == 0;
        let judged = judges.then(|| self.began.after(VERDICT_AFTER));
        let all = [
            next,
            missed,
            self.other_ways_at(),
            asks,
            judged,
            self.size_at(),
            self.ends_at(),
        ];
        all.into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    /// Sends no further pings, and waits for none.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stopped.get_or_insert(now);
    }

    /// Whether everything is sent and nothing more is waited for.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.stopped.is_some() || self.ends_at().is_some_and(|at| at <= now)
    }

    /// The next line to print.
    pub(crate) fn line(&mut self) -> Option<String> {
        self.report.lines.pop_front()
    }

    /// Whether there was an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.trips.count > 0
    }

    /// The lines at the end.
    pub(crate) fn summary(&self, now: Instant) -> Vec<String> {
        let (sent, answered) = (self.pings.sent, self.trips.count);
        // those that left a moment before the end are neither lost nor answered
        let pending = self.pings.waiting.iter().filter(|w| !w.missed).count();
        let seconds = now.since(self.began).as_secs_f64();
        let pending = match pending {
            0 => String::new(),
            n => format!("{n} under way, "),
        };
        let mut lines = vec![format!(
            "--- {}: {sent} sent, {answered} answered, {pending}{} % lost, {seconds:.1} s",
            self.settings.name,
            share(self.pings.missed, answered),
        )];
        if answered > 0 {
            lines.push(self.trips.line());
            lines.extend(self.size_line());
            lines.extend(self.fresh.iter().flat_map(FreshKeys::lines));
            // it answers no more
            let fault = self.signs.fault.clone().map(Verdict::Fault);
            lines.extend(fault.iter().flat_map(|fault| fault.lines(&self.settings)));
        } else {
            let verdict = self.verdict(now);
            if self.is_news(&verdict) {
                lines.extend(verdict.lines(&self.settings));
            }
        }
        lines
    }

    /// The verdict on the other end as of now.
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        let signs = &self.signs;
        match (&signs.other_way, &signs.fault) {
            _ if self.trips.count > 0 => Verdict::Answers,
            (Some(Some(method)), _) => Verdict::OtherMethod(*method),
            (Some(None), _) => Verdict::NoKeyThere,
            _ if signs.echo => Verdict::Echo,
            _ if signs.foreign => Verdict::Foreign,
            (None, Some(fault)) => Verdict::Fault(fault.clone()),
            _ if !self.can_be_judged(now) => Verdict::TooSoon,
            _ => Verdict::Silent {
                host_lives: signs.host_lives || signs.heard,
            },
        }
    }

    fn has_more(&self) -> bool {
        self.stopped.is_none()
            && self
                .settings
                .count
                .is_none_or(|count| self.pings.sent < count)
    }

    /// Nothing that says more has come back, not even an error.
    fn is_silent(&self) -> bool {
        let signs = &self.signs;
        let odd = signs.echo || signs.foreign || signs.other_way.is_some();
        self.trips.count == 0 && !odd && signs.fault.is_none()
    }

    /// Whether enough was seen, or enough time has passed, to say why nothing answers.
    fn can_be_judged(&self, now: Instant) -> bool {
        let signs = self.signs.other_way.is_some() || self.signs.echo;
        let silent = now.since(self.began) >= VERDICT_AFTER;
        let errors = self.signs.fault.is_some() && self.pings.missed > 2;
        self.trips.count == 0 && (signs || silent || errors)
    }

    fn other_ways_at(&self) -> Option<Instant> {
        let after = OTHER_SEALS_AT.get(self.tried)?;
        let tries = self.is_silent() && self.ways.len() > 1 && self.stopped.is_none();
        tries.then(|| self.began.after(*after))
    }

    /// When all is sent and nothing more is waited for.
    fn ends_at(&self) -> Option<Instant> {
        if self.has_more() {
            return None;
        }
        let size = self.size_at().map_or(Instant::ZERO, |_| {
            self.size.answered_at.after(SIZE_SEARCH_TIMEOUT)
        });
        let Some(last) = self.pings.waiting.back() else {
            return Some(size);
        };
        let wait = FINAL_WAIT.max(2 * self.trips.most);
        let end = last.sent_at.after(wait);
        Some(match self.is_silent() {
            true => end.max(self.began.after(VERDICT_AFTER)),
            false => end.max(size),
        })
    }

    /// Whether a timestamp is one that was sent.
    fn is_ours(&self, ts: u32) -> bool {
        u64::from(ts.wrapping_sub(self.settings.first)) < self.pings.sent
    }

    /// `behind`: what stands behind the timestamp.
    fn on_pong(&mut self, now: Instant, way: usize, ts: u32, behind: &[u8]) {
        if way != 0 {
            let method = self.ways[way].method;
            self.signs.other_way = Some(method);
            return self.tell_odd(match method {
                Some(method) => format!("an answer that is sealed with {method}"),
                None => "an answer that is not sealed".into(),
            });
        }
        // The number of a ping is a u64, its timestamp what is left of that.
        let stamp = |w: &Waiting| self.settings.first.wrapping_add(w.number as u32);
        let Some(place) = self.pings.waiting.iter().position(|w| stamp(w) == ts) else {
            return;
        };
        let Some(waiting) = self.pings.waiting.remove(place) else {
            return;
        };
        self.pings.missed -= u64::from(waiting.missed);
        if let Some(fresh) = &mut self.fresh {
            fresh.on_pong(waiting.number, behind);
        }
        if self.trips.count == 0 {
            self.size.answered_at = now;
        }
        let trip = now.since(waiting.sent_at);
        self.signs.fault = None;
        self.trips.record(trip);
        let loss = share(self.pings.missed, self.trips.count);
        let seq = waiting.number + 1;
        self.report.lines.push_back(format!(
            "seq={seq} time={} loss={loss} %",
            millis(trip.as_micros_f64())
        ));
    }

    /// What is known of the size of packets.
    fn size_line(&self) -> Option<String> {
        let (size, most) = (self.size.search.size(), self.settings.mtu);
        let told = match size < most {
            true => format!("packets: up to {size} bytes arrive there; kcp.mtu allows {most}"),
            false => format!("packets: up to {size} bytes arrive there"),
        };
        self.size.search.has_found().then_some(told)
    }

    fn close_probe(&mut self, probe: Probe, buf: &mut [u8]) -> usize {
        let sealing = &mut self.ways[0].sealing;
        let overhead = sealing.as_ref().map_or(0, Sealing::overhead);
        let around = headers(&self.settings.at) + overhead;
        let len = probe.size.saturating_sub(around).max(CONTROL_LEN);
        buf[..len].fill(0);
        buf[..CONTROL_LEN].copy_from_slice(&Control::Ping(probe.token).to_wire());
        match sealing {
            Some(sealing) => sealing.seal(buf, len),
            None => len,
        }
    }

    fn close(&mut self, way: usize, buf: &mut [u8]) -> usize {
        let last = self.pings.sent.saturating_sub(1);
        let value = self.settings.first.wrapping_add(last as u32);
        let greets = self.fresh.as_ref().filter(|_| way == 0);
        let greeting = greets.and_then(|fresh| fresh.greeting(last));
        let sealing = self.ways[way].sealing.as_mut();
        let len = match (greeting, sealing) {
            (Some(greeting), Some(sealing)) => {
                let ping = Control::Ping(value).to_wire();
                let len = CONTROL_LEN + greeting.len();
                buf[..CONTROL_LEN].copy_from_slice(&ping);
                buf[CONTROL_LEN..len].copy_from_slice(greeting);
                sealing.seal(buf, len)
            }
            (_, sealing) => write_ping(value, sealing, &mut self.rng, buf),
        };
        if self.own.len() == OWN_REMEMBERED {
            self.own.pop_front();
        }
        self.own.push_back(buf[..len].to_vec());
        len
    }

    /// Reports something odd, at most once a ping.
    fn tell_odd(&mut self, what: String) {
        if !std::mem::replace(&mut self.report.odd_told, true) {
            self.report
                .lines
                .push_back(format!("seq={} {what}", self.pings.sent));
        }
    }
}

/// Writes a ping of this value into `buf`, sealed if it is to be, with padding of a random length then. Returns the datagram's
/// length.
fn write_ping(
    value: u32,
    sealing: Option<&mut Sealing>,
    rng: &mut SmallRng,
    buf: &mut [u8],
) -> usize {
    buf[..CONTROL_LEN].copy_from_slice(&Control::Ping(value).to_wire());
    match sealing {
        Some(sealing) => {
            let padding = rng.random_range(0..=PADDING_MAX);
            buf[CONTROL_LEN..CONTROL_LEN + padding].fill(padding as u8);
            sealing.seal(buf, CONTROL_LEN + padding)
        }
        None => CONTROL_LEN,
    }
}

impl Trips {
    fn record(&mut self, trip: Duration) {
        self.least = match self.count {
            0 => trip,
            _ => self.least.min(trip),
        };
        self.most = self.most.max(trip);
        self.count += 1;
        self.sum += trip.as_micros_f64();
        self.squares += trip.as_micros_f64().powi(2);
    }

    fn line(&self) -> String {
        let mean = self.sum / self.count as f64;
        let variance = (self.squares / self.count as f64 - mean * mean).max(0.0);
        format!(
            "round trip: least {}, mean {}, most {}, deviation {}",
            millis(self.least.as_micros_f64()),
            millis(mean),
            millis(self.most.as_micros_f64()),
            millis(variance.sqrt())
        )
    }
}

/// Microseconds in milliseconds, with three significant digits.
fn millis(us: f64) -> String {
    let ms = us / MS.as_micros_f64();
    match ms {
        100.0.. => format!("{ms:.0} ms"),
        10.0.. => format!("{ms:.1} ms"),
        _ => format!("{ms:.2} ms"),
    }
}

/// The percentage that `lost` is of both.
fn share(lost: u64, answered: u64) -> u64 {
    match lost + answered {
        0 => 0,
        all => (100 * lost + all / 2) / all,
    }
}

#[cfg(test)]
mod tests;
