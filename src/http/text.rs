//! `/stats`: everything on a screen of text, for terminals.

use super::monitor::View;
use crate::number::{bytes, millis, percent, rate, span};
use crate::session::Cause;
use crate::terminal::Tone;
use crate::tunnel::stats::SessionStats;
use std::fmt::Write;

/// Begins the line of the health where it is not good.
const NOT_HEALTHY: &str = "NOT HEALTHY";
/// The most paths that are listed; the rest is in `/stats.json`.
const PATHS_MAX: usize = 10;
/// The most sessions that are listed; the rest is in `/stats.json`.
pub(super) const SESSIONS_MAX: usize = 20;

/// All as text. `sessions` and how many there are beside them.
pub(super) fn render(view: &View, sessions: &(Vec<SessionStats>, usize)) -> String {
    let mut text = String::with_capacity(2048);
    // writing into a String does not fail
    let _ = overview(&mut text, view);
    let _ = traffic(&mut text, view);
    let _ = paths(&mut text, view);
    let _ = session_table(&mut text, view, sessions);
    text
}

/// What a line of it, or of why there is none, is to its reader.
pub(crate) fn tone(line: &str) -> Tone {
    let begins = |word: &str| line.starts_with(word);
    if begins("healthy:") {
        Tone::Good
    } else if begins(NOT_HEALTHY) {
        Tone::Bad
    } else if begins("kcptun ") || begins("path ") || begins("number ") || begins("sessions:") {
        Tone::Strong
    } else {
        Tone::Plain
    }
}

fn overview(text: &mut String, view: &View) -> std::fmt::Result {
    let site = view.site;
    writeln!(
        text,
        "kcptun {}, {}, up {}",
        site.version,
        site.role_name(),
        span(view.uptime)
    )?;
    let health = if view.health.good {
        "healthy"
    } else {
        NOT_HEALTHY
    };
    writeln!(text, "{health}: {}", view.health.why)?;
    writeln!(text, "\n{}\n", view.sentence)
}

fn traffic(text: &mut String, view: &View) -> std::fmt::Result {
    let (c, s, r) = (&view.snapshot.counters, &view.snapshot.counts, &view.rates);
    writeln!(text, "{:<14}{:>14}{:>14}", "", "sending", "receiving")?;
    let mut row = |name: &str, a: String, b: String| writeln!(text, "{name:<14}{a:>14}{b:>14}");
    row("TCP now", rate(r.taken), rate(r.given))?;
    row("TCP in all", bytes(c.taken), bytes(c.given))?;
    row("UDP now", rate(r.sent), rate(r.received))?;
    row("UDP in all", bytes(c.sent_bytes), bytes(c.received_bytes))?;
    row("UDP packets", c.sent.to_string(), c.received.to_string())?;
    row("segments", s.sent.to_string(), s.received.to_string())?;
    writeln!(
        text,
        "sent again {}, copies ahead of need {}, duplicates received {}",
        s.repeated, s.copied, s.duplicate
    )?;
    writeln!(
        text,
        "dropped: bad seal {}, replay {}, unknown {}, short {}",
        c.bad_seal, c.replayed, c.unknown, c.malformed
    )?;
    writeln!(
        text,
        "longest turn of the event loop in the last minute: {}",
        millis(Some(view.turns.longest()))
    )
}

fn paths(text: &mut String, view: &View) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<28}{:>13}{:>9}{:>9}{:>9}{:>9}{:>11}{:>6}{:>9}{:>7}",
        "path", "rate", "base", "RTT", "loss to", "from", "in flight", "MTU", "sessions", "keys"
    )?;
    for p in view.snapshot.paths.iter().take(PATHS_MAX) {
        writeln!(
            text,
            "{:<28}{:>13}{:>9}{:>9}{:>9}{:>9}{:>11}{:>6}{:>9}{:>7}",
            p.addr.to_string(),
            p.rate.map_or("-".into(), rate),
            millis(p.base_rtt),
            millis(p.srtt),
            percent(p.loss[0]),
            percent(p.loss[1]),
            bytes(p.in_flight),
            p.mtu,
            p.sessions,
            match (p.fresh_keys, view.snapshot.sealed) {
                (true, _) => "fresh",
                (false, true) => "psk",
                (false, false) => "none",
            }
        )?;
    }
    let shown = view.snapshot.paths.len().min(PATHS_MAX);
    more(
        text,
        view.snapshot.paths.len() - shown + view.snapshot.paths_left_out,
    )?;
    if let Some(moved) = view.snapshot.moved {
        writeln!(
            text,
            "this pair of ports since {} ago, after {} others; the last was left because {}",
            span(view.now.since(moved.at)),
            moved.count,
            moved.reason
        )?;
    }
    Ok(())
}

fn session_table(
    text: &mut String,
    view: &View,
    (sessions, left_out): &(Vec<SessionStats>, usize),
) -> std::fmt::Result {
    let c = &view.snapshot.counters;
    let states = view.snapshot.sessions.each();
    let states: Vec<String> = states
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    let now = match states.is_empty() {
        true => "none now".into(),
        false => states.join(", "),
    };
    let ended: Vec<String> = std::iter::once(("in order", c.ended_in_order))
        .chain(Cause::ALL.iter().map(|c| c.name()).zip(c.ended))
        .filter(|(_, n)| *n > 0)
        .map(|(reason, n)| format!("{n} {}", reason.replace('_', " ")))
        .collect();
    writeln!(
        text,
        "\nsessions: {now}; opened {} here, {} at the other end; ended: {}",
        c.begun_here,
        c.begun_there,
        match ended.is_empty() {
            true => "none".into(),
            false => ended.join(", "),
        }
    )?;
    if sessions.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "{:<10}{:<11}{:>13}{:>11}{:>11}{:>13}{:>13}  other end",
        "number", "state", "age", "sent", "received", "unsent", "unread"
    )?;
    for s in sessions {
        writeln!(
            text,
            "{:08x}  {:<11}{:>13}{:>11}{:>11}{:>13}{:>13}  {}",
            s.number,
            s.state,
            span(s.age),
            bytes(s.bytes_out),
            bytes(s.bytes_in),
            bytes(s.waiting_out as u64),
            bytes(s.waiting_in as u64),
            s.addr
        )?;
    }
    more(text, *left_out)
}

fn more(text: &mut String, n: usize) -> std::fmt::Result {
    match n {
        0 => Ok(()),
        n => writeln!(text, "and {n} more, see /stats.json"),
    }
}
