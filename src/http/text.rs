//! `/stats`: everything on a screen of text. Its tables fit a terminal of 80 columns, but for the last column of
//! sessions, which is there with several paths. A line in words may be longer.

use super::monitor::View;
use crate::number::{bytes, count, millis, percent, rate, span};
use crate::session::Cause;
use crate::terminal::Tone;
use crate::tunnel::stats::{PathStats, SessionStats};
use std::fmt::Write;

/// Begins the line of the health where it is not good.
const NOT_HEALTHY: &str = "NOT HEALTHY";
/// The most paths that are listed; the rest is in `/stats.json`.
const PATHS_MAX: usize = 10;
/// The most sessions that are listed; the rest is in `/stats.json`.
pub(super) const SESSIONS_MAX: usize = 20;

/// The columns of an address and a port of IPv4.
const ADDRESS: usize = 21;

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

/// What the end of a text does, by the first line of `overview`. None: that does not say.
pub(crate) fn role(text: &str) -> Option<&str> {
    text.lines().next()?.split(", ").nth(1)
}

fn overview(text: &mut String, view: &View) -> std::fmt::Result {
    let site = view.site;
    writeln!(
        text,
        "kcptun {}, {}, up {}",
        site.version,
        site.role.name(),
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
        "\n{:<ADDRESS$} {:>11} {:>8} {:>8} {:>7} {:>6} {:>9}",
        "path", "rate", "base", "RTT", "loss to", "from", "in flight"
    )?;
    for path in view.snapshot.paths.iter().take(PATHS_MAX) {
        text.push_str(&path_lines(path, view.snapshot.sealed));
    }
    let shown = view.snapshot.paths.len().min(PATHS_MAX);
    more(
        text,
        view.snapshot.paths.len() - shown + view.snapshot.paths_left_out,
    )?;
    if let Some(moved) = view.snapshot.moved {
        writeln!(
            text,
            "this pair of ports since {} ago, after {} others;\n  the last was left because {}",
            span(view.now.since(moved.at)),
            moved.count,
            moved.reason
        )?;
    }
    Ok(())
}

/// A path in the table, and on a second line what is rarely looked for.
fn path_lines(path: &PathStats, sealed: bool) -> String {
    let addr = path.addr.to_string();
    // a long one has a line of its own
    let addr = match addr.len() > ADDRESS {
        true => format!("{addr}\n{:ADDRESS$}", ""),
        false => format!("{addr:<ADDRESS$}"),
    };
    let keys = match (path.fresh_keys, sealed) {
        (true, _) => "fresh keys",
        (false, true) => "keyed by the psk",
        (false, false) => "no key",
    };
    format!(
        "{addr} {:>11} {:>8} {:>8} {:>7} {:>6} {:>9}\n  {}, MTU {}, {keys}\n",
        path.rate.map_or("-".into(), rate),
        millis(path.base_rtt),
        millis(path.srtt),
        percent(path.loss[0]),
        percent(path.loss[1]),
        bytes(path.in_flight),
        count(path.sessions, "session"),
        path.mtu,
    )
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
        "\nsessions: {now}\n  opened: {} here, {} at the other end\n  ended: {}",
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
    // where all have the same other end, the table of paths has it
    let many = view.snapshot.paths.len() + view.snapshot.paths_left_out > 1;
    writeln!(
        text,
        "{:<10}{:<10} {:>11} {:>8} {:>8} {:>8} {:>8}{}",
        "number",
        "state",
        "age",
        "sent",
        "received",
        "unsent",
        "unread",
        if many { "  other end" } else { "" }
    )?;
    for session in sessions {
        text.push_str(&session_line(session, many));
    }
    more(text, *left_out)
}

/// A session in the table. `with_end`: with the address of its other end.
fn session_line(session: &SessionStats, with_end: bool) -> String {
    let end = match with_end {
        true => format!("  {}", session.addr),
        false => String::new(),
    };
    format!(
        "{:08x}  {:<10} {:>11} {:>8} {:>8} {:>8} {:>8}{end}\n",
        session.number,
        session.state,
        span(session.age),
        bytes(session.bytes_out),
        bytes(session.bytes_in),
        bytes(session.waiting_out as u64),
        bytes(session.waiting_in as u64),
    )
}

fn more(text: &mut String, n: usize) -> std::fmt::Result {
    match n {
        0 => Ok(()),
        n => writeln!(text, "and {n} more, see /stats.json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::http::{Monitor, Site};
    use crate::settings::Settings;
    use crate::time::{Duration, Instant};
    use crate::tunnel::{Moved, Reason, Tunnel};

    /// What a window of 80 columns shows of a line, whose last column stays empty.
    const COLUMNS: usize = 79;

    /// What is said of a tunnel that has just begun, and of a server's end.
    fn with_view(said: impl FnOnce(View)) {
        let site = Site {
            version: "1.2.3",
            role: Role::Server,
            method: "none",
            host: None,
            meets: false,
        };
        let tunnel = Tunnel::new(Settings::default(), Instant::ZERO);
        said(Monitor::new(site, Instant::ZERO).view(&tunnel, Instant::ZERO));
    }

    #[test]
    fn the_role_is_in_the_first_line() {
        with_view(|view| {
            let mut text = String::new();
            overview(&mut text, &view).expect("a String");
            assert_eq!(role(&text), Some("server"), "{text}");
        });
        assert_eq!(role("kcptun 1\nhealthy, or not"), None);
        assert_eq!(role(""), None);
    }

    fn path(addr: &str) -> PathStats {
        let trip = Some(Duration::from_millis(9_999));
        PathStats {
            addr: addr.parse().expect("an address"),
            rate: Some(12.4e6),
            pacing: 0.0,
            base_rtt: trip,
            srtt: trip,
            loss: [Some(1.0); 2],
            in_flight: 100_000_000,
            sessions: 65_535,
            mtu: 1500,
            heard_before: None,
            fresh_keys: true,
        }
    }

    #[test]
    fn a_path_fits_eighty_columns() {
        let lines = path_lines(&path("192.168.100.100:65535"), true);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "192.168.100.100:65535 99.2 Mbit/s  9999 ms  9999 ms   100 %  100 %    100 MB",
                "  65535 sessions, MTU 1500, fresh keys",
            ]
        );
        let long = path_lines(
            &path("[2001:db8:1111:2222:3333:4444:5555:6666]:65535"),
            true,
        );
        let long: Vec<&str> = long.lines().collect();
        assert_eq!(long[0], "[2001:db8:1111:2222:3333:4444:5555:6666]:65535");
        assert_eq!(
            long[1].trim_start(),
            lines[0].split_once(' ').expect("a row").1
        );
    }

    #[test]
    fn each_column_keeps_a_blank_before_it() {
        let trip = Some(Duration::from_millis(12_000));
        let slow = PathStats {
            rate: Some(123_456e9),
            base_rtt: trip,
            srtt: trip,
            in_flight: 123_456_000_000_000_000,
            ..path("192.168.100.100:65535")
        };
        let lines = path_lines(&slow, true);
        let row = lines.lines().next().expect("a row");
        let fields: Vec<&str> = row.split_whitespace().collect();
        // each but the first is a number and its unit
        assert_eq!(fields.len(), 1 + 6 * 2, "{row}");
    }

    #[test]
    fn what_is_said_of_moves_and_sessions_fits_eighty_columns() {
        with_view(|mut view| {
            view.now = Instant::from_millis(3_600_000);
            view.snapshot.moved = Some(Moved {
                at: Instant::from_millis(1_000),
                reason: Reason::Lossy,
                count: 1_000_000,
            });
            view.snapshot.sessions.connected = 65_535;
            view.snapshot.sessions.half_open = 1_000;
            let counters = &mut view.snapshot.counters;
            (counters.begun_here, counters.begun_there) = (1_000_000, 1_000);
            (counters.ended_in_order, counters.ended[0]) = (1_000_000, 1_000);
            let mut text = String::new();
            paths(&mut text, &view).expect("a String");
            session_table(&mut text, &view, &(Vec::new(), 0)).expect("a String");
            assert!(text.contains("another pair carried more"), "{text}");
            assert!(text.contains("1000 reset by peer"), "{text}");
            assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        });
    }

    #[test]
    fn a_session_fits_eighty_columns_where_all_have_one_other_end() {
        let session = SessionStats {
            number: u32::MAX,
            state: "connected",
            addr: "192.0.2.1:5".parse().expect("an address"),
            begun_here: true,
            age: Duration::from_secs(3599),
            bytes_in: 12_300_000,
            bytes_out: 999,
            waiting_in: 100_000,
            waiting_out: 0,
            srtt: None,
        };
        let line = session_line(&session, false);
        let expected = "ffffffff  connected  59 min 59 s    999 B  12.3 MB      0 B   100 kB\n";
        assert_eq!(line, expected);
        let with_end = session_line(&session, true);
        assert_eq!(
            with_end.trim_end(),
            format!("{}  192.0.2.1:5", line.trim_end())
        );
    }
}
