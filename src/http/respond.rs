//! The answer to a request, head and body.

use super::monitor::Monitor;
use super::request::{Refusal, Request, Resource};
use super::{json, metrics, text};
use crate::time::Instant;
use crate::tunnel::Tunnel;

/// The page, which needs nothing beside it but `/stats.json`.
pub const PAGE: &str = include_str!("page.html");
/// The most sessions in `/stats.json`.
pub const SESSIONS_MAX: usize = 1000;

/// Only the page's own script and style (by their SHA-256) and its own numbers; a test says what belongs here.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-7uA4Kn8TjEwpIApAFargT9GHlE36jSCamEgC6HlwZpc='; \
    style-src 'sha256-qhjvQ8AQmn2wc8Om1JWPqmdVJCzEEcHfEihVuJPMEpI='; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The content type of `/stats.json`.
const JSON: &str = "application/json";
/// The content type of text for people.
const PLAIN: &str = "text/plain; charset=utf-8";
/// The content type of the page.
const HTML: &str = "text/html; charset=utf-8";
/// The content type of `/metrics`.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The bytes of the answer.
pub fn respond(
    request: Result<Request, Refusal>,
    monitor: &Monitor,
    tunnel: &Tunnel,
    now: Instant,
) -> Vec<u8> {
    let request = match request {
        Ok(request) => request,
        Err(refusal) => {
            let body = format!("{}\n", refusal.why);
            return answer(refusal.status, PLAIN, &body, false);
        }
    };
    let ok = |kind, body: &str| answer("200 OK", kind, body, request.head);
    match request.resource {
        Resource::Page => ok(HTML, PAGE),
        Resource::Text => {
            let sessions = tunnel.session_stats(now, text::SESSIONS_MAX);
            ok(PLAIN, &text::render(&monitor.view(tunnel, now), &sessions))
        }
        Resource::Json { history } => {
            let sessions = tunnel.session_stats(now, SESSIONS_MAX);
            let view = monitor.view(tunnel, now);
            ok(JSON, &json::render(&view, &sessions, history))
        }
        Resource::Metrics => ok(PROMETHEUS, &metrics::render(&monitor.view(tunnel, now))),
        Resource::Healthy => {
            let health = monitor.view(tunnel, now).health;
            let status = match health.good {
                true => "200 OK",
                false => "503 Service Unavailable",
            };
            answer(status, PLAIN, &format!("{}\n", health.why), request.head)
        }
    }
}

fn answer(status: &str, kind: &str, body: &str, head: bool) -> Vec<u8> {
    let allow = match status.starts_with("405") {
        true => "Allow: GET, HEAD\r\n",
        false => "",
    };
    let policy = match kind {
        HTML => POLICY,
        _ => "default-src 'none'; frame-ancestors 'none'",
    };
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nContent-Security-Policy: {policy}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !head {
        text.push_str(body);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        let (_, rest) = text.split_once(begin).expect(begin);
        rest.split_once(end).expect(end).0
    }

    #[test]
    fn the_policy_has_the_hashes_of_the_page() {
        for (kind, tag) in [("script", "script"), ("style", "style")] {
            let inner = between(PAGE, &format!("<{tag}>"), &format!("</{tag}>"));
            let hash = STANDARD.encode(Sha256::digest(inner.as_bytes()));
            let said = format!("{kind}-src 'sha256-{hash}'");
            assert!(POLICY.contains(&said), "it must have: {said}");
        }
    }

    #[test]
    fn the_page_is_small_and_needs_nothing() {
        assert!(PAGE.len() < 30_000, "{} bytes", PAGE.len());
        for foreign in [
            "http:",
            "https:",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "eval(",
            " style=",
            " onclick=",
        ] {
            let name = "http://www.w3.org/2000/svg";
            assert!(!PAGE.replace(name, "").contains(foreign), "{foreign}");
        }
    }
}
