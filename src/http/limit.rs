//! What holds the tunnel back: the line, loss, the operator's limit, a window, a reader, or the lack of data. It is judged by
//! what sessions wait for at some moments of the last seconds; `monitor` takes these moments.

use crate::config::Role;
use crate::number;
use crate::time::{Duration, SEC};
use crate::tunnel::stats::Load;

/// The loss from which on loss, and not the line, is called the limit: it costs this share of the line.
const LOSS_LIMIT: f64 = 0.1;
/// Below this rate, bytes per second, next to nothing is carried.
const IDLE_RATE: f64 = 10_000.0;
/// The share of segments that are full where a sender always has data; one that waits for its program sends shorter
/// ones in between.
const FULL_SEGMENTS: f64 = 0.97;
/// The fewest segments whose lengths say something.
const SEGMENTS_MIN: u64 = 10;

/// What holds the tunnel back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Nothing, or next to nothing, is to be carried.
    Idle,
    /// The program that sends gives no more.
    Source,
    /// The path's rate.
    Line,
    /// What the path loses.
    Loss,
    /// `rate.up` or `rate.down`.
    Cap,
    /// A window is smaller than what would have to be in flight.
    Window,
    /// The program here takes no more.
    ReaderHere,
    /// The program at the other end takes no more.
    ReaderThere,
    /// The other end does not answer, or is not even known.
    Silent,
}

impl Limit {
    /// Every limit, in the order in which they are listed.
    pub const ALL: [Limit; 9] = [
        Limit::Idle,
        Limit::Source,
        Limit::Line,
        Limit::Loss,
        Limit::Cap,
        Limit::Window,
        Limit::ReaderHere,
        Limit::ReaderThere,
        Limit::Silent,
    ];

    /// What it means and what helps, for the reference.
    pub fn explained(self) -> [&'static str; 2] {
        match self {
            Limit::Idle => [
                "Next to nothing is to be carried, or nobody has found this server yet.",
                "",
            ],
            Limit::Source => [
                "The program that sends has no more to send.",
                "look at the service, its disk and its own limits",
            ],
            Limit::Line => [
                "The path carries no more. At a receiver it may also be the other end's `rate.up`.",
                "a faster line",
            ],
            Limit::Loss => [
                "A tenth or more of the packets is lost and has to be sent again.",
                "a better line",
            ],
            Limit::Cap => ["`rate.up` or `rate.down` of this end.", "raise it"],
            Limit::Window => [
                "`kcp.sndwnd`, or the other end's `kcp.rcvwnd`, is too small for this path. Without rate control: whatever KCP waits for.",
                "raise them",
            ],
            Limit::ReaderHere => [
                "The program that receives at this end reads more slowly than data comes.",
                "look at that program",
            ],
            Limit::ReaderThere => [
                "The program that receives at the other end reads more slowly than data comes.",
                "look at that program",
            ],
            Limit::Silent => [
                "The other end does not answer, has not answered yet, or was not found.",
                "`kcptun ping`",
            ],
        }
    }

    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Idle => "idle",
            Limit::Source => "source",
            Limit::Line => "line",
            Limit::Loss => "loss",
            Limit::Cap => "cap",
            Limit::Window => "window",
            Limit::ReaderHere => "reader_here",
            Limit::ReaderThere => "reader_there",
            Limit::Silent => "silent",
        }
    }
}

/// The way that data takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From here to the other end.
    Sending,
    /// From the other end to here.
    Receiving,
}

/// One moment, and what happened since the one before it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Moment {
    /// What sessions wait for.
    pub load: Load,
    /// The span since the one before.
    pub span: Duration,
    /// Bytes from TCP.
    pub taken: u64,
    /// Bytes to TCP.
    pub given: u64,
    /// Segments that have arrived.
    pub arrived: u64,
    /// How many of them were as long as possible.
    pub full: u64,
    /// The share lost on the way there and on the way here, 0 to 1.
    pub loss: [f64; 2],
}

impl Moment {
    fn much(&self, bytes: u64) -> bool {
        let span = self.span.max(Duration::MICROSECOND);
        bytes as f64 * SEC.as_micros_f64() / span.as_micros_f64() >= IDLE_RATE
    }
}

/// What limits a direction at one moment.
pub fn at(moment: &Moment, direction: Direction) -> Limit {
    match direction {
        Direction::Sending => sending(moment),
        Direction::Receiving => receiving(moment),
    }
}

/// A session that waits for the rate uses what all the others leave: then the path is full, whatever they wait for.
fn sending(m: &Moment) -> Limit {
    let load = &m.load;
    if load.capped > 0 {
        Limit::Cap
    } else if load.rate > 0 || (load.window > 0 && m.loss[0] >= LOSS_LIMIT) {
        line_or_loss(m.loss[0])
    } else if load.window > 0 {
        Limit::Window
    } else if load.reader_there > 0 {
        Limit::ReaderThere
    } else if m.much(m.taken) {
        Limit::Source
    } else {
        Limit::Idle
    }
}

fn receiving(m: &Moment) -> Limit {
    if m.load.held > 0 {
        Limit::Cap
    } else if m.load.reader_here > 0 {
        Limit::ReaderHere
    } else if !m.much(m.given) {
        // what was lost is sent again, and that is lost as well
        match m.load.gaps > 0 {
            true => Limit::Loss,
            false => Limit::Idle,
        }
    } else if m.arrived >= SEGMENTS_MIN && m.full as f64 >= FULL_SEGMENTS * m.arrived as f64 {
        line_or_loss(m.loss[1])
    } else {
        Limit::Source
    }
}

fn line_or_loss(loss: f64) -> Limit {
    if loss >= LOSS_LIMIT {
        Limit::Loss
    } else {
        Limit::Line
    }
}

/// The limit that was seen most often; of several, the latest. `Idle` if none was seen.
pub fn most_frequent(seen: impl Iterator<Item = Limit> + Clone) -> Limit {
    let count = |limit| seen.clone().filter(|other| *other == limit).count();
    // max_by_key takes the last of equals
    seen.clone()
        .max_by_key(|limit| count(*limit))
        .unwrap_or(Limit::Idle)
}

/// Whether the other end is there, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contact {
    /// It answers, or was not asked anything yet. At an end that others come to: somebody has come.
    Good,
    /// It has answered before, and is silent for this long.
    SilentFor(Duration),
    /// It has answered before, and is heard, but what is sent there gets lost.
    DeafFor(Duration),
    /// It has answered before, and little is heard of it: what is sent there gets lost, or what it sends.
    HardlyFor(Duration),
    /// It has answered before, and next to nothing of what it sends arrives.
    LosesFor(Duration),
    /// It has said that it stops, and has not answered since; from its last answer on.
    StoppedFor(Duration),
    /// It was asked and never answered, for so long; None: for a few seconds at most.
    Unanswered(Option<Duration>),
    /// The rendezvous server has not said where it is.
    NotFound,
    /// Its name is not resolved.
    Unresolved,
    /// Others come to this end, and nobody has yet; the number of datagrams that did not open.
    Nobody(u64),
    /// Others find this one through a rendezvous server, which has not answered yet.
    NoRendezvous,
}

impl Contact {
    /// Why the address of an end is not known, to follow its name in a sentence.
    pub fn why_not_found(self) -> &'static str {
        match self {
            Contact::NotFound => {
                "was not found yet: the rendezvous server does not answer, or knows of none"
            }
            _ => "was not found yet: its name cannot be resolved",
        }
    }

    /// Whether this end wants an answer and gets none.
    pub fn is_missed(self) -> bool {
        match self {
            Contact::SilentFor(_) | Contact::DeafFor(_) | Contact::HardlyFor(_) => true,
            Contact::StoppedFor(_) | Contact::LosesFor(_) | Contact::Unanswered(_) => true,
            Contact::NotFound | Contact::Unresolved => true,
            Contact::Good | Contact::Nobody(_) | Contact::NoRendezvous => false,
        }
    }
}

/// What a sentence about a limit needs to know. Rates in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What this end does.
    pub role: Role,
    /// The direction that the limit is about.
    pub direction: Direction,
    /// What TCP gives or takes now.
    pub rate: f64,
    /// What the path carries, by our estimate.
    pub line: f64,
    /// The share lost in that direction, 0 to 1.
    pub loss: f64,
    /// Whether the other end is there.
    pub contact: Contact,
    /// The number of sessions.
    pub sessions: usize,
}

/// A limit in plain words.
pub fn sentence(limit: Limit, facts: &Facts) -> String {
    let up = facts.direction == Direction::Sending;
    let (here, there) = match facts.role {
        Role::Server => ("the service", "the program at the other end"),
        Role::Peer => ("the program here", "the service at the other end"),
        Role::Both | Role::Rendezvous => ("the program here", "the program at the other end"),
    };
    let from = if up { here } else { there };
    let does = if up { "Sending" } else { "Receiving" };
    let what = match limit {
        Limit::Silent => return missed(facts.contact),
        Limit::Idle if facts.sessions == 0 => return format!("Nothing to carry: {}.", alone(facts.contact)),
        Limit::Idle => {
            return "Nothing to carry: the programs at both ends have next to nothing to send.".into();
        }
        Limit::Source => format!("{from} limits it: the tunnel would carry more than it sends"),
        Limit::Line if up => format!(
            "the line limits it: it carries about {} and is full",
            number::rate(facts.line)
        ),
        Limit::Line => {
            "the line limits it, or the other end's rate.up: data comes without a pause".into()
        }
        Limit::Loss if !up && facts.rate < IDLE_RATE => {
            "loss limits it: what the other end sends gets lost on the way here, again and again".into()
        }
        Limit::Loss => format!(
            "loss limits it: {} of the packets are lost on the way, and their repetition takes that share of the line",
            number::percent(Some(facts.loss))
        ),
        Limit::Cap => format!(
            "your own limit holds it: rate.{}",
            if up { "up" } else { "down" }
        ),
        Limit::Window => {
            "a window limits it: kcp.sndwnd here or kcp.rcvwnd at the other end is too small for this path".into()
        }
        Limit::ReaderHere => format!("{here} limits it: it takes data more slowly than it comes"),
        Limit::ReaderThere => format!("{there} limits it: it takes data more slowly than it comes"),
    };
    format!("{does} {}; {what}.", number::rate(facts.rate))
}

/// Why nothing can be carried.
fn missed(contact: Contact) -> String {
    match contact {
        Contact::Unanswered(Some(span)) => format!(
            "The other end does not answer: it never has, for {}; kcptun ping says what is likely.",
            number::span(span)
        ),
        Contact::Unanswered(None) => "The other end has not answered yet.".into(),
        Contact::NotFound | Contact::Unresolved => {
            format!("The other end {}.", contact.why_not_found())
        }
        Contact::SilentFor(span) => format!(
            "The other end does not answer: silent for {}.",
            number::span(span)
        ),
        Contact::StoppedFor(span) => format!(
            "The other end does not answer: it was stopped, and is silent for {}.",
            number::span(span)
        ),
        Contact::DeafFor(span) => format!(
            "The other end does not answer: it is heard, but what is sent there gets lost, for {}.",
            number::span(span)
        ),
        Contact::HardlyFor(span) => format!(
            "The other end does not answer, and little of it is heard: what is sent there gets lost, or most of what it sends, for {}.",
            number::span(span)
        ),
        Contact::Good | Contact::LosesFor(_) | Contact::Nobody(_) | Contact::NoRendezvous => {
            "The other end does not answer.".into()
        }
    }
}

/// Why there are no sessions, where nothing is missed.
fn alone(contact: Contact) -> String {
    match contact {
        Contact::Nobody(0) => "nobody has found this end yet".into(),
        Contact::Nobody(strange) => format!(
            "nobody with its key has found this end yet; dropped datagrams that do not open: {strange}"
        ),
        Contact::NoRendezvous => "the rendezvous server has not answered yet".into(),
        _ => "no sessions".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(load: Load) -> Moment {
        Moment {
            load,
            span: SEC,
            ..Moment::default()
        }
    }

    #[test]
    fn who_waits_for_the_rate_decides() {
        let one = |change: fn(&mut Load)| {
            let mut load = Load::default();
            change(&mut load);
            moment(load)
        };
        let full = one(|l| (l.rate, l.reader_there, l.window) = (1, 9, 9));
        assert_eq!(sending(&full), Limit::Line);
        let lossy = Moment {
            loss: [0.2, 0.0],
            ..full
        };
        assert_eq!(sending(&lossy), Limit::Loss);
        assert_eq!(sending(&one(|l| (l.capped, l.rate) = (1, 1))), Limit::Cap);
        assert_eq!(
            sending(&one(|l| (l.reader_there, l.window) = (1, 1))),
            Limit::Window
        );
        assert_eq!(sending(&one(|l| l.reader_there = 1)), Limit::ReaderThere);
        assert_eq!(receiving(&one(|l| l.reader_here = 1)), Limit::ReaderHere);
        assert_eq!(
            receiving(&one(|l| (l.reader_here, l.held) = (1, 1))),
            Limit::Cap
        );
    }

    #[test]
    fn lengths_tell_a_sender_that_waits_for_its_program() {
        let arrived = |full| Moment {
            given: 1_000_000,
            arrived: 1000,
            full,
            ..moment(Load::default())
        };
        assert_eq!(receiving(&arrived(1000)), Limit::Line);
        assert_eq!(receiving(&arrived(900)), Limit::Source);
        let keys = Moment {
            given: 500,
            ..arrived(1000)
        };
        assert_eq!(receiving(&keys), Limit::Idle);
        let sent = Moment {
            taken: 1_000_000,
            ..moment(Load::default())
        };
        assert_eq!(sending(&sent), Limit::Source);
    }

    #[test]
    fn the_most_frequent_one_of_several_moments() {
        let judge = |seen: &[Limit]| most_frequent(seen.iter().copied());
        assert_eq!(judge(&[]), Limit::Idle);
        assert_eq!(judge(&[Limit::Line, Limit::Idle, Limit::Line]), Limit::Line);
        assert_eq!(judge(&[Limit::Line, Limit::Idle]), Limit::Idle);
    }

    #[test]
    fn names_are_unique() {
        let mut names = Limit::ALL.map(Limit::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Limit::ALL.len());
    }
}
