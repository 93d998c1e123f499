//! A configuration file: any text is taken or refused with one line that shows no secret, and what is taken works.

use super::Bytes;
use kcptun::config::{Config, KEYS};
use kcptun::time::Instant;
use kcptun::tunnel::{DATAGRAM_MAX, Transmit, Tunnel};

/// In every secret of a case that is made from the table of keys, and nowhere else.
const SECRET: &str = "hunter2";
/// Values that are right for some key that takes an address.
const ADDRESSES: [&str; 7] = [
    "[::1]:9",
    "192.0.2.7:1",
    ":80",
    "a.example:9",
    "9",
    ":443,27290-27299",
    "192.0.2.9:1-1024",
];
/// The longest message.
const LINE: usize = 1_000;

pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        // no text begins with these
        Some((0..8, rest)) => check(&file(&mut Bytes(rest)), true),
        // what is not UTF-8 is refused where the file is read
        _ => check(&String::from_utf8_lossy(bytes), false),
    }
}

/// A file of some keys, each with a value that may be right.
fn file(bytes: &mut Bytes) -> String {
    let mut entries = vec![
        r#""udp_bind": ":2900""#.to_owned(),
        r#""connect": "192.0.2.1:80""#.to_owned(),
    ];
    entries.truncate(bytes.below(3));
    while !bytes.is_empty() && entries.len() < 40 {
        let key = &KEYS[bytes.below(KEYS.len())];
        let name = match key.alias {
            Some(alias) if bytes.flag() => alias,
            _ => key.name,
        };
        let value = value(name, bytes);
        entries.push(match name.split_once('.') {
            Some((group, name)) => format!(r#""{group}": {{"{name}": {value}}}"#),
            None => format!(r#""{name}": {value}"#),
        });
    }
    format!("{{{}}}", entries.join(", "))
}

fn value(name: &str, bytes: &mut Bytes) -> String {
    if ["psk", "password"].contains(&name) {
        let tail = String::from_utf8_lossy(bytes.take(4)).into_owned();
        return quoted(&format!("{SECRET}{tail}"));
    }
    match bytes.below(6) {
        0 => bytes.magnitude(33).to_string(),
        1 => ["null", "true", "false", "[1]", "{}", "1e300", "-1", "0.5"][bytes.below(8)].into(),
        2 => quoted(&String::from_utf8_lossy(bytes.take(12))),
        3 => quoted(["on", "off", "aes256gcm", "syslog", "/var/log/k"][bytes.below(5)]),
        4 => quoted(ADDRESSES[bytes.below(ADDRESSES.len())]),
        _ => u32::from(bytes.byte()).to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn check(text: &str, no_secret: bool) {
    let line = |line: &str| {
        assert!(!line.contains(['\n', '\r']), "more than a line: {line:?}");
        assert!(line.len() < LINE, "too long: {line}");
        assert!(!no_secret || !line.contains(SECRET), "{line}");
        assert!(line.starts_with("t.json: "), "{line}");
    };
    let config = match Config::parse("t.json", text) {
        Ok(config) => config,
        Err(error) => return line(&error.to_string()),
    };
    config.warnings.iter().for_each(|warning| line(warning));
    let shown = format!("{config:?}{}{}", config.describe(), config.headline());
    assert!(!no_secret || !shown.contains(SECRET), "{shown}");
    let again = config.changed_to(&config).expect("it was right before");
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    carries(&config);
}

/// A tunnel made from it sends what fits its packets.
fn carries(config: &Config) {
    let now = Instant::from_millis(1);
    let mut tunnel = Tunnel::new(config.settings(), now);
    tunnel.set_peer(now, "192.0.2.9:9".parse().expect("an address"));
    let id = tunnel.open(now).expect("room");
    let room = tunnel.input(id).len().min(5_000);
    tunnel.filled(now, id, room);
    let mut out = [0; DATAGRAM_MAX];
    let headers = 28;
    for _ in 0..100 {
        let Some(Transmit { len, .. }) = tunnel.poll_transmit(now, &mut out) else {
            break;
        };
        assert!(len + headers <= usize::from(config.kcp.mtu), "{len} bytes");
    }
}
