//! `/metrics`: every number, in the text form of Prometheus (exposition format 0.0.4). Each family is a row of `FAMILIES`, of
//! which the reference is made as well. Labels are bounded: never a session, and at most `stats::PATHS` paths.

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
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A family of metrics: samples with one name, which differ in the values of their labels.
pub struct Family {
    /// Its full name.
    pub name: &'static str,
    kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts or measures, in a sentence or two.
    pub help: &'static str,
}

impl Family {
    /// Its type, in Prometheus's words.
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
    }
}

/// Every family, in the order in which they are shown.
#[rustfmt::skip]
pub const FAMILIES: [Family; 32] = [
    family("kcptun_build_info", Kind::Gauge, &["version", "role", "method"], "Always 1. The labels say what runs and how packets are sealed."),
    family("kcptun_uptime_seconds", Kind::Gauge, &[], "Time since the start."),
    family("kcptun_healthy", Kind::Gauge, &[], "1 if /healthy says 200; 0 if the configured other end was not found or does not answer."),
    family("kcptun_limit", Kind::Gauge, &["by"], "1 for what limits the tunnel now, in the direction that carries more."),
    family("kcptun_udp_packets_total", Kind::Counter, &["direction"], "UDP datagrams, including those that were dropped."),
    family("kcptun_udp_bytes_total", Kind::Counter, &["direction"], "Bytes in UDP datagrams, without the headers of IP and UDP."),
    family("kcptun_sealed_packets_total", Kind::Counter, &["direction"], "Datagrams sealed, and received datagrams that opened. 0 without a key."),
    family("kcptun_udp_dropped_packets_total", Kind::Counter, &["reason"], "Received datagrams that were dropped. bad_seal: another key or method; replay: a nonce seen before; short: too short, or malformed; unknown: of no session, or from an unknown address."),
    family("kcptun_tcp_bytes_total", Kind::Counter, &["direction"], "Bytes of TCP connections, sent to the other end and received from it."),
    family("kcptun_sessions", Kind::Gauge, &["state"], "Sessions by state. halfway: the other end began it, and its dial has not come; dialling; connected; lingering: closed, with data still on its way; reset."),
    family("kcptun_sessions_opened_total", Kind::Counter, &["by"], "Sessions opened, by the end that opened them: here, other_end."),
    family("kcptun_sessions_ended_total", Kind::Counter, &["reason"], "Sessions ended: in_order, or why they ended early."),
    family("kcptun_segments_sent_total", Kind::Counter, &[], "KCP segments transmitted, including retransmissions and copies. Counted with rate control only."),
    family("kcptun_segments_retransmitted_total", Kind::Counter, &[], "Segments sent again because they were taken for lost. With rate control only."),
    family("kcptun_segments_copied_total", Kind::Counter, &[], "Small or late segments sent again ahead of need. With rate control only."),
    family("kcptun_segments_received_total", Kind::Counter, &[], "Segments received, including duplicates."),
    family("kcptun_segments_duplicate_total", Kind::Counter, &[], "Segments received again. With rate control only."),
    family("kcptun_paths", Kind::Gauge, &[], "Addresses of other ends that something is known of."),
    family("kcptun_paths_left_out", Kind::Gauge, &[], "Paths that the metrics by path leave out: beyond the 64 with the most sessions."),
    family("kcptun_port_moves_total", Kind::Counter, &[], "Moves of this end to another pair of ports."),
    family("kcptun_path_rate_bytes_per_second", Kind::Gauge, &["path"], "Estimated rate of the path there, headers included."),
    family("kcptun_path_pacing_bytes_per_second", Kind::Gauge, &["path"], "Rate at which data may leave now."),
    family("kcptun_path_base_rtt_seconds", Kind::Gauge, &["path"], "Round trip with an empty queue: the least of the last 10 s."),
    family("kcptun_path_smoothed_rtt_seconds", Kind::Gauge, &["path"], "Smoothed round trip."),
    family("kcptun_path_in_flight_bytes", Kind::Gauge, &["path"], "Bytes sent and neither acknowledged nor taken for lost."),
    family("kcptun_path_mtu_bytes", Kind::Gauge, &["path"], "Size of the largest IP packets that are sent there."),
    family("kcptun_path_sessions", Kind::Gauge, &["path"], "Sessions on the path."),
    family("kcptun_path_silence_seconds", Kind::Gauge, &["path"], "Time since something arrived from there."),
    family("kcptun_path_fresh_keys", Kind::Gauge, &["path"], "1 if there are fresh keys with the process there, so that who gets the key later cannot read what is recorded."),
    family("kcptun_path_loss_ratio", Kind::Gauge, &["path", "direction"], "Share of packets lost on the way there (sent) and on the way here (received), once enough were seen."),
    family("kcptun_loop_turn_seconds", Kind::Histogram, &[], "How long a turn of the event loop takes. Everything else waits that long."),
    family("kcptun_loop_turn_longest_seconds", Kind::Gauge, &[], "The longest turn of the last 30 to 60 s."),
];

struct Text {
    text: String,
    /// The family that samples belong to now.
    name: &'static str,
}

impl Text {
    /// Begins a family, which is a row of `FAMILIES`.
    fn family(&mut self, name: &'static str) {
        let family = FAMILIES.iter().find(|family| family.name == name);
        self.name = name;
        if let Some(Family { kind, help, .. }) = family {
            self.line(format_args!(
                "# TYPE {name} {}\n# HELP {name} {help}",
                kind.name()
            ));
        }
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
    fn single(&mut self, name: &'static str, value: impl Display) {
        self.family(name);
        self.sample(&[], value);
    }
}

/// All metrics as text.
pub(super) fn render(view: &View) -> String {
    let mut text = Text {
        text: String::with_capacity(8192),
        name: "",
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
    text.family("kcptun_build_info");
    let labels: [(&str, &dyn Display); 3] = [
        ("version", &view.site.version),
        ("role", &view.site.role.name()),
        ("method", &view.site.method),
    ];
    text.sample(&labels, 1);
    text.single("kcptun_uptime_seconds", seconds(view.uptime));
    text.single("kcptun_healthy", u8::from(view.health.good));
    text.family("kcptun_limit");
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
    text.family("kcptun_udp_packets_total");
    both(text, c.sent, c.received);
    text.family("kcptun_udp_bytes_total");
    both(text, c.sent_bytes, c.received_bytes);
    text.family("kcptun_sealed_packets_total");
    let sealed = u64::from(view.snapshot.sealed);
    both(text, c.sent * sealed, c.opened * sealed);
    text.family("kcptun_udp_dropped_packets_total");
    for (reason, n) in [
        ("bad_seal", c.bad_seal),
        ("replay", c.replayed),
        ("unknown", c.unknown),
        ("short", c.malformed),
    ] {
        text.sample(&[("reason", &reason)], n);
    }
    text.family("kcptun_tcp_bytes_total");
    both(text, c.taken, c.given);
}

fn sessions(text: &mut Text, view: &View) {
    let c = &view.snapshot.counters;
    text.family("kcptun_sessions");
    for (state, n) in view.snapshot.sessions.each() {
        text.sample(&[("state", &state)], n);
    }
    text.family("kcptun_sessions_opened_total");
    text.sample(&[("by", &"here")], c.begun_here);
    text.sample(&[("by", &"other_end")], c.begun_there);
    text.family("kcptun_sessions_ended_total");
    text.sample(&[("reason", &"in_order")], c.ended_in_order);
    for (cause, n) in Cause::ALL.into_iter().zip(c.ended) {
        text.sample(&[("reason", &cause.name())], n);
    }
}

fn segments(text: &mut Text, view: &View) {
    let c = &view.snapshot.counts;
    for (name, n) in [
        ("kcptun_segments_sent_total", c.sent),
        ("kcptun_segments_retransmitted_total", c.repeated),
        ("kcptun_segments_copied_total", c.copied),
        ("kcptun_segments_received_total", c.received),
        ("kcptun_segments_duplicate_total", c.duplicate),
    ] {
        text.single(name, n);
    }
}

fn paths(text: &mut Text, view: &View) {
    let paths = &view.snapshot.paths;
    let left_out = view.snapshot.paths_left_out;
    text.single("kcptun_paths", paths.len() + left_out);
    text.single("kcptun_paths_left_out", left_out);
    let moves = view.snapshot.moved.map_or(0, |moved| moved.count);
    text.single("kcptun_port_moves_total", moves);
    type Value = fn(&crate::tunnel::stats::PathStats) -> Option<f64>;
    let per_path: [(&'static str, Value); 9] = [
        ("kcptun_path_rate_bytes_per_second", |p| p.rate),
        ("kcptun_path_pacing_bytes_per_second", |p| Some(p.pacing)),
        ("kcptun_path_base_rtt_seconds", |p| p.base_rtt.map(seconds)),
        ("kcptun_path_smoothed_rtt_seconds", |p| p.srtt.map(seconds)),
        ("kcptun_path_in_flight_bytes", |p| Some(p.in_flight as f64)),
        ("kcptun_path_mtu_bytes", |p| Some(p.mtu as f64)),
        ("kcptun_path_sessions", |p| Some(p.sessions as f64)),
        ("kcptun_path_silence_seconds", |p| {
            p.heard_before.map(seconds)
        }),
        ("kcptun_path_fresh_keys", |p| {
            Some(f64::from(u8::from(p.fresh_keys)))
        }),
    ];
    for (name, value) in per_path {
        text.family(name);
        for path in paths {
            if let Some(value) = value(path) {
                text.sample(&[("path", &path.addr)], value);
            }
        }
    }
    text.family("kcptun_path_loss_ratio");
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
    text.family("kcptun_loop_turn_seconds");
    let mut sum = 0;
    for (most, n) in CLASSES.iter().zip(turns.counts) {
        sum += n;
        text.sample_of("_bucket", &[("le", most)], sum);
    }
    let all: u64 = turns.counts.iter().sum();
    text.sample_of("_bucket", &[("le", &"+Inf")], all);
    text.sample_of("_sum", &[], seconds(turns.sum));
    text.sample_of("_count", &[], all);
    text.single("kcptun_loop_turn_longest_seconds", seconds(turns.longest()));
}
