//! What a request asks for, and why it is refused. One request a connection; a body is not read.

use httparse::{EMPTY_HEADER, Error, Header, Status};
use std::net::{IpAddr, Ipv6Addr};

/// The longest head of a request, bytes.
pub const HEAD_MAX: usize = 8 * 1024;
/// The most header fields of a request.
const HEADERS_MAX: usize = 64;

/// What can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// `/`.
    Page,
    /// `/stats`.
    Text,
    /// `/stats.json`.
    Json {
        /// Whether with the last minutes.
        history: bool,
    },
    /// `/metrics`.
    Metrics,
    /// `/healthy`.
    Healthy,
}

/// A request that is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is asked for.
    pub resource: Resource,
    /// Whether it is HEAD, which asks for the head of the answer only.
    pub head: bool,
}

/// Why a request is not answered: a status, and a line that says what would be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The status code and its phrase.
    pub status: &'static str,
    /// What would be right.
    pub why: &'static str,
}

const fn refusal(status: &'static str, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// What arrived is not HTTP.
const MALFORMED: Refusal = refusal("400 Bad Request", "this is not a request of HTTP/1.1");
/// The head is too long, or has too many fields.
const TOO_LONG: Refusal = refusal(
    "431 Request Header Fields Too Large",
    "the request is too long",
);
/// The method is neither GET nor HEAD.
const METHOD: Refusal = refusal("405 Method Not Allowed", "only GET and HEAD are answered");
/// There is no Host, or more than one.
const NO_HOST: Refusal = refusal("400 Bad Request", "the request must name one Host");
/// The Host is not one by which this end is reached.
const WRONG_HOST: Refusal = refusal(
    "421 Misdirected Request",
    "the Host must be an IP address, localhost or the name in http_listen",
);
/// The path is none of those that exist.
const NOT_FOUND: Refusal = refusal(
    "404 Not Found",
    "the paths are /, /stats, /stats.json, /metrics and /healthy",
);

/// Reads a request's head. None: there is more to come. `host`: the name that http_listen has, if it has one.
///
/// The Host is checked because somebody else's page may have its own name resolve to an address of ours (DNS rebinding); the
/// browser would then let it read what is here.
pub fn parse(bytes: &[u8], host: Option<&str>) -> Option<Result<Request, Refusal>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if bytes.len() > HEAD_MAX => return Some(Err(TOO_LONG)),
        Ok(Status::Partial) => return None,
        Err(Error::TooManyHeaders) => return Some(Err(TOO_LONG)),
        Err(_) => return Some(Err(MALFORMED)),
    }
    Some(understand(&request, host))
}

fn understand(request: &httparse::Request, host: Option<&str>) -> Result<Request, Refusal> {
    let mut named = values(request.headers, "host");
    match (named.next(), named.next()) {
        (Some(name), None) if is_ours(name, host) => {}
        (Some(_), None) => return Err(WRONG_HOST),
        _ => return Err(NO_HOST),
    }
    let head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(METHOD),
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let resource = match path {
        "/" => Resource::Page,
        "/stats" => Resource::Text,
        "/stats.json" => Resource::Json {
            history: query == "history",
        },
        "/metrics" => Resource::Metrics,
        "/healthy" => Resource::Healthy,
        _ => return Err(NOT_FOUND),
    };
    Ok(Request { resource, head })
}

fn values<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = headers
        .iter()
        .filter(move |h| h.name.eq_ignore_ascii_case(name));
    named.filter_map(|h| std::str::from_utf8(h.value).ok().map(str::trim))
}

/// Whether a browser that names this Host can only have meant this end.
fn is_ours(named: &str, host: Option<&str>) -> bool {
    let (name, port) = match named.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or_default(),
        None => named.split_at(named.find(':').unwrap_or(named.len())),
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(digits);
    let is_name = is_address(name)
        || name.eq_ignore_ascii_case("localhost")
        || host.is_some_and(|host| name.eq_ignore_ascii_case(host));
    is_name && is_port
}

/// Whether it is an IP address, which no name server can redirect; a link-local one may have a zone.
fn is_address(name: &str) -> bool {
    let is_zone = |zone: &str| {
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !zone.is_empty() && zone.strip_prefix("25").unwrap_or(zone).chars().all(part)
    };
    match name.split_once('%') {
        Some((ip, zone)) => ip.parse::<Ipv6Addr>().is_ok() && is_zone(zone),
        None => name.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn ask(text: &str) -> Result<Request, Refusal> {
        parse(text.as_bytes(), Some("router.lan")).expect("a whole request")
    }

    fn get(path: &str, more: &str) -> Result<Resource, Refusal> {
        ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{more}\r\n"
        ))
        .map(|r| r.resource)
    }

    #[test]
    fn everything_that_there_is() {
        assert_eq!(get("/", ""), Ok(Resource::Page));
        assert_eq!(get("/stats", ""), Ok(Resource::Text));
        assert_eq!(
            get("/stats.json", ""),
            Ok(Resource::Json { history: false })
        );
        assert_eq!(
            get("/stats.json?history", ""),
            Ok(Resource::Json { history: true })
        );
        assert_eq!(get("/healthy?x=1", ""), Ok(Resource::Healthy));
        for path in ["/stats/", "/../etc/passwd", "//", "*", "http://127.0.0.1/"] {
            assert_eq!(get(path, ""), Err(NOT_FOUND), "{path}");
        }
        let head = ask("HEAD / HTTP/1.0\r\nhost: localhost\r\n\r\n").expect("right");
        assert!(head.head);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            let text = format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(ask(&text), Err(METHOD));
        }
    }

    #[test]
    fn only_hosts_that_are_ours() {
        let with = |hosts: &str| ask(&format!("GET / HTTP/1.1\r\n{hosts}\r\n"));
        for host in [
            "192.0.2.1",
            "192.0.2.1:80",
            "[::1]:8080",
            "[2001:db8::1]",
            "[::ffff:192.0.2.1]:65535",
            "[fe80::1%2]:27281",
            "[fe80::1%25eth0]",
            "LocalHost:1",
            "localhost:",
            "router.lan",
            "Router.LAN:8080",
        ] {
            assert!(with(&format!("Host: {host}\r\n")).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "",
            "router.lan.evil.example",
            "[::1]evil.example",
            "[::1]:8080.evil.example",
            "[::1]8080",
            "[evil.example]",
            "[evil.example%2]",
            "[fe80::1%evil.example/]",
            "[%2]",
            "[192.0.2.1%2]",
            "::1",
            "localhost:evil.example",
            "127.0.0.1:80@evil.example",
            "localhost:-1",
            ":8080",
        ] {
            assert_eq!(
                with(&format!("Host: {host}\r\n")),
                Err(WRONG_HOST),
                "{host}"
            );
        }
        assert_eq!(with(""), Err(NO_HOST));
        let two = "Host: localhost\r\nHost: evil.example\r\n";
        assert_eq!(with(two), Err(NO_HOST));
        let nameless = parse(b"GET / HTTP/1.1\r\nHost: router.lan\r\n\r\n", None);
        assert_eq!(nameless, Some(Err(WRONG_HOST)));
    }

    #[test]
    fn what_is_half_is_waited_for_and_what_is_endless_is_not() {
        let whole = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], None), None, "{end}");
        }
        let endless = [b"GET /".as_slice(), &vec![b'a'; HEAD_MAX]].concat();
        assert_eq!(parse(&endless, None), Some(Err(TOO_LONG)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(parse(many.as_bytes(), None), Some(Err(TOO_LONG)));
    }

    #[test]
    fn random_bytes_are_no_request() {
        let mut rng = StdRng::seed_from_u64(1);
        let whole = b"GET /stats HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
        let (mut refused, mut waited) = (0, 0);
        for round in 0..20_000 {
            let mut bytes = whole.to_vec();
            if round % 2 == 0 {
                bytes = (0..rng.random_range(0..200))
                    .map(|_| rng.random())
                    .collect();
            } else {
                for _ in 0..rng.random_range(1..6) {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] = rng.random();
                }
            }
            match parse(&bytes, None) {
                Some(Err(_)) => refused += 1,
                None => waited += 1,
                Some(Ok(_)) => {}
            }
        }
        assert!(refused > 10_000 && waited > 10, "{refused} {waited}");
    }
}
