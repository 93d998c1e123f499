//! `kcptun stats`: the statistics of a running daemon, from where its configuration says that it shows them. What they hold
//! is decided in `http`.

use crate::config::{Address, Config};
use crate::http::{self, tone};
use crate::terminal::{self, harmless};
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long the daemon has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time from one look to the next with --watch.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The longest answer that is read, bytes; `/stats` has some thousands.
const ANSWER_MAX: usize = 1 << 20;
/// Clears a terminal's window.
const CLEAR_WINDOW: &str = "\x1b[2J";

/// Why there is nothing to show: one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StatsError {
    /// The configuration is wrong, or says nowhere to look.
    Configuration(String),
    /// The daemon does not answer.
    Daemon(String),
}

impl fmt::Display for StatsError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            StatsError::Configuration(line) | StatsError::Daemon(line) => f.write_str(line),
        }
    }
}

/// Prints the statistics of the daemon that `file` configures; with `watch`, every second and until the reader has gone.
pub fn run(file: &Path, watch: bool) -> Result<(), StatsError> {
    let config =
        Config::load(file).map_err(|error| StatsError::Configuration(error.to_string()))?;
    let address = config.http_listen.clone().ok_or_else(|| {
        StatsError::Configuration(format!(
            "{}: http_listen is not set; with \"http_listen\": 27281 the daemon shows its statistics to this machine once it is restarted",
            file.display()
        ))
    })?;
    let role = config.role().name();
    let fetch = || fetch(&address).and_then(|text| of_role(text, role, &address, file));
    let coloured = terminal::is_coloured(&io::stdout());
    let in_window = watch && io::stdout().is_terminal();
    if in_window {
        shown(CLEAR_WINDOW)?;
    }
    loop {
        let text = match (fetch(), watch) {
            (Ok(text), _) => text,
            // it may be on its way back
            (Err(line), true) => format!("{line}\n"),
            (Err(line), false) => return Err(StatsError::Daemon(line)),
        };
        let goes_on = match terminal::window().filter(|_| in_window) {
            // the window may have another size by now
            Some(window) => shown(&terminal::redraw(&text, window, coloured, tone))?,
            None => shown(&painted(&text, coloured, if watch { "\n" } else { "" }))?,
        };
        if !watch || !goes_on {
            return Ok(());
        }
        thread::sleep(WATCH_INTERVAL);
    }
}

/// The text with its colours, and what follows it.
fn painted(text: &str, coloured: bool, after: &str) -> String {
    let lines = text.lines();
    let lines = lines.map(|line| tone(line).paint(line, coloured) + "\n");
    lines.collect::<String>() + after
}

/// Prints; false where the reader has gone.
fn shown(text: &str) -> Result<bool, StatsError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(StatsError::Daemon(format!("standard output: {e}"))),
    }
}

/// The text of `/stats`; the error says what to look at.
fn fetch(address: &Address) -> Result<String, String> {
    let answer = ask(address).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => format!(
            "nothing answers at http_listen, {address}: the daemon is not running, or was started before http_listen was set"
        ),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("{address} has not answered within {} s", ANSWER_TIMEOUT.as_secs())
        }
        _ => format!("cannot ask {address}: {error}"),
    })?;
    body(&answer).ok_or_else(|| {
        format!(
            "what answers at {address} is not kcptun: another program has the port of http_listen"
        )
    })
}

/// The text if it is that of a daemon with this role, or names none; the error says why there is another.
fn of_role(text: String, role: &str, address: &Address, file: &Path) -> Result<String, String> {
    match http::role(&text) {
        Some(other) if other != role => Err(format!(
            "what answers at {address} is a kcptun of another role ({other}) than that of {} ({role}): two have the same \
             http_listen, of which the second does not start, or that file was changed and the daemon not restarted",
            file.display()
        )),
        _ => Ok(text),
    }
}

fn ask(address: &Address) -> io::Result<Vec<u8>> {
    let mut failed = io::Error::from(ErrorKind::AddrNotAvailable);
    for place in places(address)? {
        let mut stream = match TcpStream::connect_timeout(&place, ANSWER_TIMEOUT) {
            Ok(stream) => stream,
            Err(e) => {
                failed = e;
                continue;
            }
        };
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        // the zone of an address is this machine's own affair (RFC 6874)
        let host = SocketAddr::new(place.ip(), place.port());
        let request = format!("GET /stats HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        return read_answer(stream);
    }
    Err(failed)
}

/// All that comes until the other side closes. As a whole it has the time that a part of it has.
fn read_answer(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    let end = Instant::now() + ANSWER_TIMEOUT;
    let mut answer = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        match stream.read(&mut part)? {
            0 => return Ok(answer),
            n => answer.extend_from_slice(&part[..n]),
        }
        if answer.len() >= ANSWER_MAX {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// Where the daemon can be reached from its own machine: every address includes the loopback interface's.
fn places(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let host = address.host.as_deref().unwrap_or("0.0.0.0");
    let found = (host, address.port).to_socket_addrs()?;
    let reachable = found.map(|place| match place.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, place.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, place.port()).into(),
        _ => place,
    });
    Ok(reachable.collect())
}

/// The body of a good answer of ours.
fn body(answer: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(answer) {
        Ok(httparse::Status::Complete(head)) if response.code == Some(200) => head,
        _ => return None,
    };
    let body = std::str::from_utf8(&answer[head..]).ok()?;
    // while the daemon is away, anybody on this machine may have its port, and a terminal obeys what it is sent
    let shown = |c| if c == '\n' { c } else { harmless(c) };
    let is_ours = body.starts_with("kcptun ");
    is_ours.then(|| body.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_ours_is_shown() {
        let ours = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nkcptun 1, peer\n";
        assert_eq!(body(ours).as_deref(), Some("kcptun 1, peer\n"));
        let odd = b"HTTP/1.1 200 OK\r\n\r\nkcptun \x1b]0;a\x07\xc2\x9b2J\n";
        let shown = body(odd).expect("it looks like ours");
        assert_eq!(shown, "kcptun \u{fffd}]0;a\u{fffd}\u{fffd}2J\n");
        for other in [
            "",
            "SSH-2.0-OpenSSH_9\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "HTTP/1.1 404 Not Found\r\n\r\nkcptun 1",
            "HTTP/1.1 200 OK\r\nA: b",
        ] {
            assert_eq!(body(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_daemon_of_another_role_is_told_apart() {
        let address = Address {
            host: None,
            port: 80,
        };
        let of = |text: &str| of_role(text.into(), "peer", &address, Path::new("a.json"));
        for right in ["kcptun 1, peer, up 1 s\n", "kcptun 1\n"] {
            assert_eq!(of(right).as_deref(), Ok(right));
        }
        let error = of("kcptun 1, server, up 1 s\n").expect_err("another's");
        assert!(
            error.contains("(server) than that of a.json (peer)"),
            "{error}"
        );
    }

    #[test]
    fn every_address_is_asked_at_the_loopback_one() {
        let address = |host: Option<&str>| Address {
            host: host.map(Into::into),
            port: 80,
        };
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        assert_eq!(places(&address(None)).expect("one"), [loopback]);
        assert_eq!(places(&address(Some("0.0.0.0"))).expect("one"), [loopback]);
        let other = SocketAddr::from(([192, 0, 2, 1], 80));
        assert_eq!(places(&address(Some("192.0.2.1"))).expect("one"), [other]);
    }
}
