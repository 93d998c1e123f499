//! `/metrics`: every number, in the text form of Prometheus (exposition format 0.0.4). The names are listed in the README.
//! Labels are bounded: never a session, and at most `stats::PATHS` paths.

use super::limit::Limit;
use super::monitor::{CLASSES, View};
use crate::number::seconds;
use crate::session::Cause;

use std::fmt::{Display, Write};

/// What a family of metrics is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

struct Text {
    text: String,
    /// The family that samples belong to now, with its suffix.
    name: String,
}

impl Text {
    /// Begins a family.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name = format!("kcptun_{name}{suffix}");
        let kind_name = match kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Gauge | Kind::Info => "gauge",
        };
        let (text, name) = (&mut self.text, &self.name);
        // writing into a String does not fail
        let _ = writeln!(text, "# TYPE {name} {kind_name}\n# HELP {name} {help}");
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // writing into a String does not fail
        let _ = writeln!(self.text, "{line}");
    }

    fn sample(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.sample_of("", labels, value);
    }

    fn sample_of(&mut self, suffix: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            let value = value.to_string();
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{end} {value}"));
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }
}

/// All metrics as text.
pub fn render(view: &View) -> String {
    let mut text = Text {
        text: String::with_capacity(8192),
        name: String::new(),
    };
    daemon(&mut text, view);
    traffic(&mut text, view);
    sessions(&mut text, view);
    segments(&mut text, view);
    paths(&mut text, view);
    turns(&mut text, view);
    text.text
}

fn daemon(text: &mut Text, view: &View) {
    text.family(
        "build",
        Kind::Info,
        "What runs: version, role, and how packets are sealed.",
    );
    let labels: [(&str, &dyn Display); 3] = [
        ("version", &view.site.version),
        ("role", &view.site.role_name()),
        ("method", &view.site.method),
    ];
    text.sample(&labels, 1);
    text.single(
        "uptime_seconds",
        Kind::Gauge,
        "Time since the start.",
        seconds(view.uptime),
    );
    text.single(
        "healthy",
        Kind::Gauge,
        "1 if /healthy says 200; 0 where the configured other end is not found, or does not answer.",
        u8::from(view.health.good),
    );
    text.family(
        "limit",
        Kind::Gauge,
        "1 for what limits the tunnel now, in the direction that carries more.",
    );
    for limit in Limit::ALL {
        text.sample(&[("by", &limit.name())], u8::from(view.limit == limit));
    }
}

fn traffic(text: &mut Text, view: &View) {
    let c = &view.snapshot.counters;
    let both = |text: &mut Text, sent: u64, received: u64| {
        text.sample(&[("direction", &"sent")], sent);
        text.sample(&[("direction", &"received")], received);
    };
    text.family(
        "udp_packets",
        Kind::Counter,
        "UDP datagrams, dropped ones included.",
    );
    both(text, c.sent, c.received);
    text.family(
        "udp_bytes",
        Kind::Counter,
        "Bytes of UDP datagrams, without headers of IP and UDP.",
    );
    both(text, c.sent_bytes, c.received_bytes);
    text.family(
        "sealed_packets",
        Kind::Counter,
        "Datagrams that were sealed, and received ones that have opened; 0 without a key.",
    );
    let sealed = u64::from(view.snapshot.sealed);
    both(text, c.sent * sealed, c.opened * sealed);
    text.family(
        "udp_dropped_packets",
        Kind::Counter,
        "Received datagrams that were dropped. short: too short or otherwise malformed; unknown: of no session or from a strange address.",
    );
    for (reason, n) in [
        ("bad_seal", c.bad_seal),
        ("replay", c.replayed),
        ("unknown", c.unknown),
        ("short", c.malformed),
    ] {
        text.sample(&[("reason", &reason)], n);
    }
    text.family(
        "tcp_bytes",
        Kind::Counter,
        "Bytes of TCP connections: sent to the other end, and received from there.",
    );
    both(text, c.taken, c.given);
}

fn sessions(text: &mut Text, view: &View) {
    let c = &view.snapshot.counters;
    text.family("sessions", Kind::Gauge, "Sessions by state.");
    for (state, n) in view.snapshot.sessions.each() {
        text.sample(&[("state", &state)], n);
    }
    text.family(
        "sessions_opened",
        Kind::Counter,
        "Sessions that were opened, by the end that did it.",
    );
    text.sample(&[("by", &"here")], c.begun_here);
    text.sample(&[("by", &"other_end")], c.begun_there);
    text.family(
        "sessions_ended",
        Kind::Counter,
        "Sessions that have ended, in order or before their time.",
    );
    text.sample(&[("reason", &"in_order")], c.ended_in_order);
    for (cause, n) in Cause::ALL.into_iter().zip(c.ended) {
        text.sample(&[("reason", &cause.name())], n);
    }
}

fn segments(text: &mut Text, view: &View) {
    let c = &view.snapshot.counts;
    for (name, help, n) in [
        (
            "segments_sent",
            "Transmissions of segments, retransmissions and copies included.",
            c.sent,
        ),
        (
            "segments_retransmitted",
            "Segments that were sent again because they were taken for lost.",
            c.repeated,
        ),
        (
            "segments_copied",
            "Small or late segments that were sent again ahead of need.",
            c.copied,
        ),
        (
            "segments_received",
            "Segments that have arrived, duplicates included.",
            c.received,
        ),
        (
            "segments_duplicate",
            "Segments that have arrived again.",
            c.duplicate,
        ),
    ] {
        text.single(name, Kind::Counter, help, n);
    }
}

fn paths(text: &mut Text, view: &View) {
    let paths = &view.snapshot.paths;
    let left_out = view.snapshot.paths_left_out;
    text.single(
        "paths",
        Kind::Gauge,
        "Addresses at other ends that something is known of.",
        paths.len() + left_out,
    );
    text.single(
        "paths_left_out",
        Kind::Gauge,
        "Paths that the metrics by path leave out: those with the fewest sessions beyond 64.",
        left_out,
    );
    type Value = fn(&crate::tunnel::stats::PathStats) -> Option<f64>;
    let per_path: [(&str, &str, Value); 8] = [
        (
            "path_rate_bytes_per_second",
            "Estimated rate of the path there, headers included.",
            |p| p.rate,
        ),
        (
            "path_pacing_bytes_per_second",
            "Rate that data may leave at now.",
            |p| Some(p.pacing),
        ),
        (
            "path_base_rtt_seconds",
            "Round trip with an empty queue: the least of the last 10 s.",
            |p| p.base_rtt.map(seconds),
        ),
        ("path_smoothed_rtt_seconds", "Round trip, smoothed.", |p| {
            p.srtt.map(seconds)
        }),
        (
            "path_in_flight_bytes",
            "Bytes that were sent and are neither acknowledged nor given up.",
            |p| Some(p.in_flight as f64),
        ),
        (
            "path_mtu_bytes",
            "Size of the largest IP packets that are sent there.",
            |p| Some(p.mtu as f64),
        ),
        ("path_sessions", "Sessions on the path.", |p| {
            Some(p.sessions as f64)
        }),
        (
            "path_silence_seconds",
            "Time since something came from there.",
            |p| p.heard_before.map(seconds),
        ),
    ];
    for (name, help, value) in per_path {
        text.family(name, Kind::Gauge, help);
        for path in paths {
            if let Some(value) = value(path) {
                text.sample(&[("path", &path.addr)], value);
            }
        }
    }
    text.family(
        "path_loss_ratio",
        Kind::Gauge,
        "Share of packets lost on the way there (sent) and on the way here (received), once enough was seen.",
    );
    for path in paths {
        for (direction, loss) in ["sent", "received"].into_iter().zip(path.loss) {
            if let Some(loss) = loss {
                text.sample(&[("path", &path.addr), ("direction", &direction)], loss);
            }
        }
    }
}

fn turns(text: &mut Text, view: &View) {
    let turns = view.turns;
    text.family(
        "loop_turn_seconds",
        Kind::Histogram,
        "How long the event loop's turns take: everything else waits for so long.",
    );
    let mut sum = 0;
    for (most, n) in CLASSES.iter().zip(turns.counts) {
        sum += n;
        text.sample_of("_bucket", &[("le", most)], sum);
    }
    let all: u64 = turns.counts.iter().sum();
    text.sample_of("_bucket", &[("le", &"+Inf")], all);
    text.sample_of("_sum", &[], seconds(turns.sum));
    text.sample_of("_count", &[], all);
    text.single(
        "loop_turn_longest_seconds",
        Kind::Gauge,
        "The longest turn of the last half to whole minute.",
        seconds(turns.longest()),
    );
}
