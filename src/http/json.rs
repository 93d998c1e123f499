//! `/stats.json`: what the page shows, for programs. Spans in seconds, rates in bytes per second, shares from 0 to 1;
//! null: not known.

use super::limit::Direction;
use super::monitor::{Point, View};
use crate::number::seconds;
use crate::session::Cause;
use crate::tunnel::stats::{PathStats, SessionStats};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Map, Value, json};

/// Everything as JSON: `sessions`, and how many there are beside them; `history`: with the last minutes.
pub(super) fn render(view: &View, sessions: &(Vec<SessionStats>, usize), history: bool) -> String {
    let c = &view.snapshot.counters;
    let s = &view.snapshot.counts;
    let mut all = json!({
        "version": view.site.version,
        "role": view.site.role.name(),
        "method": view.site.method,
        "uptime": seconds(view.uptime),
        "healthy": view.health.good,
        "health": view.health.why,
        "limit": limits(view),
        "rates": {
            "sending": view.rates.taken,
            "receiving": view.rates.given,
            "udp_sent": view.rates.sent,
            "udp_received": view.rates.received,
        },
        "tcp": {"bytes_sent": c.taken, "bytes_received": c.given},
        "udp": {
            "packets_sent": c.sent,
            "packets_received": c.received,
            "bytes_sent": c.sent_bytes,
            "bytes_received": c.received_bytes,
            "dropped": {
                "bad_seal": c.bad_seal,
                "replay": c.replayed,
                "unknown": c.unknown,
                "short": c.malformed,
            },
        },
        "segments": {
            "sent": s.sent,
            "retransmitted": s.repeated,
            "copied": s.copied,
            "received": s.received,
            "duplicate": s.duplicate,
        },
        "sessions": session_counts(view, sessions.1),
        "paths": view.snapshot.paths.iter().map(path).collect::<Vec<_>>(),
        "paths_left_out": view.snapshot.paths_left_out,
        "moved": view.snapshot.moved.map(|moved| json!({
            "ago": seconds(view.now.since(moved.at)),
            "reason": moved.reason.name(),
            "count": moved.count,
        })),
        "loop": {"longest_turn": seconds(view.turns.longest())},
    });
    if history {
        let points = view.history.iter().map(|p| point(p, view));
        all["history"] = points.collect::<Vec<_>>().into();
    }
    let mut text = all.to_string();
    append_list(&mut text, &sessions.0);
    text
}

/// What limits each direction, and the one that carries more.
fn limits(view: &View) -> Value {
    json!({
        "by": view.limit.name(),
        "direction": if view.direction == Direction::Sending { "sending" } else { "receiving" },
        "text": view.sentence,
        "sending": view.sending.name(),
        "receiving": view.receiving.name(),
    })
}

/// How many sessions there are and were, and how many the list leaves out.
fn session_counts(view: &View, left_out: usize) -> Value {
    let c = &view.snapshot.counters;
    let ended: Map<String, Value> = std::iter::once(("in_order", c.ended_in_order))
        .chain(Cause::ALL.iter().map(|c| c.name()).zip(c.ended))
        .map(|(reason, n)| (reason.into(), n.into()))
        .collect();
    let states: Map<String, Value> = view
        .snapshot
        .sessions
        .each()
        .map(|(state, n)| (state.into(), n.into()))
        .into_iter()
        .collect();
    json!({
        "states": states,
        "opened_here": c.begun_here,
        "opened_at_other_end": c.begun_there,
        "ended": ended,
        "left_out": left_out,
    })
}

/// Adds the list of sessions to an object that is text already: they may be many, and are written without a tree of their
/// own.
fn append_list(object: &mut String, sessions: &[SessionStats]) {
    if let Ok(list) = serde_json::to_string(&List(sessions)) {
        object.truncate(object.len() - 1);
        object.push_str(",\"session_list\":");
        object.push_str(&list);
        object.push('}');
    }
}

fn path(path: &PathStats) -> Value {
    json!({
        "address": path.addr.to_string(),
        "rate": path.rate,
        "pacing": path.pacing,
        "base_rtt": path.base_rtt.map(seconds),
        "smoothed_rtt": path.srtt.map(seconds),
        "loss_sent": path.loss[0],
        "loss_received": path.loss[1],
        "in_flight": path.in_flight,
        "sessions": path.sessions,
        "mtu": path.mtu,
        "silence": path.heard_before.map(seconds),
        "fresh_keys": path.fresh_keys,
    })
}

/// `[uptime, sending, receiving, smoothed and base round trip, loss there and here]`.
fn point(p: &Point, view: &View) -> Value {
    let uptime = seconds(view.uptime.saturating_sub(view.now.since(p.at)));
    json!([
        uptime,
        p.sending,
        p.receiving,
        p.srtt.map(seconds),
        p.base_rtt.map(seconds),
        p.loss[0],
        p.loss[1],
    ])
}

struct List<'a>(&'a [SessionStats]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for session in self.0 {
            list.serialize_element(&One(session))?;
        }
        list.end()
    }
}

struct One<'a>(&'a SessionStats);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let s = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("number", &format_args!("{:08x}", s.number))?;
        map.serialize_entry("state", s.state)?;
        map.serialize_entry("address", &format_args!("{}", s.addr))?;
        map.serialize_entry("opened_here", &s.begun_here)?;
        map.serialize_entry("age", &seconds(s.age))?;
        map.serialize_entry("bytes_sent", &s.bytes_out)?;
        map.serialize_entry("bytes_received", &s.bytes_in)?;
        map.serialize_entry("waiting_to_send", &s.waiting_out)?;
        map.serialize_entry("waiting_for_reader", &s.waiting_in)?;
        map.serialize_entry("rtt", &s.srtt.map(seconds))?;
        map.end()
    }
}
