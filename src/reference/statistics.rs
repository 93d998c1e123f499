//! The page of statistics: where they are, what limits a tunnel, and the metrics. What limits are is in `http::limit`, and which
//! metrics there are in `http::metrics`.

use super::page::{Block, Page, Table};
use crate::http::{FAMILIES, Limit};

const PLACES: [(&str, &str); 5] = [
    (
        "`/`",
        "The page, with charts. It loads nothing from elsewhere.",
    ),
    ("`/stats`", "The same as text."),
    (
        "`/stats.json`",
        "The same for programs, with the 1,000 largest sessions; `sessions.left_out` says how many are missing. With `?history`: the \
         last five minutes.",
    ),
    ("`/metrics`", "The metrics below, for Prometheus."),
    (
        "`/healthy`",
        "200, or 503 and a line why: the other end is silent, has not answered yet, or was not found. A server that waits for \
         clients is healthy.",
    ),
];

pub(super) fn page() -> Page {
    let limits = Limit::ALL.map(|limit| {
        let [meaning, helps] = limit.explained().map(str::to_owned);
        vec![format!("`{}`", limit.name()), meaning, helps]
    });
    let metrics = FAMILIES.iter().map(|family| {
        let kind = match family.labels {
            [] => family.kind().to_owned(),
            labels => format!("{}; {}", family.kind(), labels.join(", ")),
        };
        vec![format!("`{}`", family.name), kind, family.help.to_owned()]
    });
    let blocks = vec![
        Block::text(
            "Is it the line, the tunnel, or the service behind it? With `\"http_listen\": 27281` in its configuration an end says what \
             limits it. Each kcptun on a machine needs a port of its own. In a terminal, once or each second:",
        ),
        Block::Code("kcptun stats -c peer.json\nkcptun stats -c peer.json --watch"),
        Block::text(
            "In a browser the same is at `http://127.0.0.1:27281/`. From another machine, use ssh: \
             `ssh -L 27282:127.0.0.1:27281 home`, then open `http://127.0.0.1:27282/`.",
        ),
        Block::pairs(&["path", "shows"], &PLACES),
        Block::text(
            "Whoever reaches `http_listen` sees the addresses of the other ends and how much is carried. There is no password; a warning \
             says so where it is not the loopback interface. A `Host` header that is neither an IP address, nor `localhost`, nor the \
             name in `http_listen` is refused, so that a web page elsewhere cannot read the statistics through your browser.",
        ),
        Block::Heading("What limits a tunnel"),
        Block::text(
            "A session is one TCP connection in the tunnel; a path is the way to one address of an other end. The limit is what sessions waited for in the last two seconds. Where data flows both ways, this is about the direction that carries \
             more. `/stats.json` and `kcptun_limit` use these names:",
        ),
        Block::Table(Table {
            head: &["limit", "meaning", "what helps"],
            main: 1,
            rows: limits.to_vec(),
        }),
        Block::Heading("Metrics"),
        Block::text(
            "In the text format of Prometheus. No label is a session. Paths are the addresses of other ends; at most 64 are shown, those \
             with the most sessions.",
        ),
        Block::Table(Table {
            head: &["metric", "type and labels", "meaning"],
            main: 2,
            rows: metrics.collect(),
        }),
    ];
    Page {
        name: "statistics",
        title: "Statistics, limits and metrics",
        blocks,
    }
}
