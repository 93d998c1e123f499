//! What a running program makes of a configuration that was read again: which keys have changed, and which of them can
//! take effect without ending sessions. What then has to be done is not here.

use super::{Config, KeySource, Seal, check};
use crate::proxy::Version;
use crate::settings::Flush;
use std::fmt::{self, Display};
use std::path::PathBuf;

/// A key whose value is another one in the new configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub key: &'static str,
    /// Both values, as a configuration would have them. A secret's are empty.
    pub old: String,
    pub new: String,
    /// Why the old value stays. None: the new one is in effect.
    pub refused: Option<&'static str>,
}

/// Displays as a line for the log.
impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Change { key, old, new, .. } = self;
        match (self.refused, old.is_empty() && new.is_empty()) {
            (None, true) => write!(f, "{key}: changed"),
            (None, false) => write!(f, "{key}: {new} instead of {old}"),
            (Some(why), true) => write!(f, "{key}: stays as it was: {why}"),
            (Some(why), false) => write!(f, "{key}: stays {old}, not {new}: {why}"),
        }
    }
}

/// The new configuration but for what cannot change, and every change.
#[derive(Debug)]
pub struct Outcome {
    pub config: Config,
    pub changes: Vec<Change>,
}

const RESTART: &str = "it takes a restart";
const PRESENCE: &str = "to add it or to take it out takes a restart";
const SYSTEMS: &str = "to have the system's own size again takes a restart";
const OVERHEAD: &str = "packets would get larger or smaller, which takes a restart";
const SEALED: &str = "from sealed to open packets or back takes a restart";

/// How a key may change.
struct Rule {
    key: &'static str,
    show: fn(&Config) -> String,
    /// The first takes the key's value of the second, or says why not.
    take: fn(&mut Config, &Config) -> Result<(), &'static str>,
}

/// A key that takes effect at once; `$field` is where it is, `$show` how it is written.
macro_rules! live {
    ($key:literal, $show:ident, $($field:ident).+) => {
        Rule {
            key: $key,
            show: |c| $show(&c.$($field).+),
            take: |old, new| {
                old.$($field).+ = new.$($field).+;
                Ok(())
            },
        }
    };
}

/// One that takes a restart.
macro_rules! fixed {
    ($key:literal, $show:ident, $($field:ident).+) => {
        Rule {
            key: $key,
            show: |c| $show(&c.$($field).+),
            take: |_, _| Err(RESTART),
        }
    };
}

/// A buffer of sockets: it can be set, and not given back.
macro_rules! buffer {
    ($key:literal, $($field:ident).+) => {
        Rule {
            key: $key,
            show: |c| plain(&c.$($field).+),
            take: |old, new| {
                if new.$($field).+ == 0 {
                    return Err(SYSTEMS);
                }
                old.$($field).+ = new.$($field).+;
                Ok(())
            },
        }
    };
}

/// Every key of `KEYS` but `psk` and `password`, which `take_key` does.
static RULES: &[Rule] = &[
    fixed!("listen", optional, listen),
    Rule {
        key: "connect",
        show: |c| optional(&c.connect),
        take: |old, new| {
            if old.connect.is_some() != new.connect.is_some() {
                return Err(PRESENCE);
            }
            old.connect.clone_from(&new.connect);
            Ok(())
        },
    },
    fixed!("udp_bind", optional, udp_bind),
    fixed!("udp_connect", optional, udp_connect),
    fixed!("rendezvous_server", optional, rendezvous_server),
    fixed!("service_id", optional, service_id),
    Rule {
        key: "method",
        show: |c| optional(&c.seal.as_ref().map(|seal| seal.method)),
        take: take_method,
    },
    fixed!("kcp.mtu", plain, kcp.mtu),
    fixed!("kcp.sndwnd", plain, kcp.sndwnd),
    fixed!("kcp.rcvwnd", plain, kcp.rcvwnd),
    fixed!("kcp.nodelay", plain, kcp.nodelay),
    fixed!("kcp.interval", plain, kcp.interval),
    fixed!("kcp.resend", plain, kcp.resend),
    fixed!("kcp.nc", number, kcp.nc),
    fixed!("kcp.flush", flush, kcp.flush),
    live!("tcp.nodelay", plain, tcp.nodelay),
    live!("tcp.keepalive", plain, tcp.keepalive),
    fixed!("tcp.reuseport", plain, tcp.reuseport),
    buffer!("tcp.sndbuf", tcp.sndbuf),
    buffer!("tcp.rcvbuf", tcp.rcvbuf),
    live!("tcp.proxy_protocol", version, tcp.proxy_protocol),
    fixed!("udp.reuseport", plain, udp.reuseport),
    fixed!("udp.sndbuf", plain, udp.sndbuf),
    fixed!("udp.rcvbuf", plain, udp.rcvbuf),
    live!("rate.up", optional, rate.up),
    live!("rate.down", optional, rate.down),
    fixed!("rate.control", on_off, rate.control),
    live!("timeout", plain, timeout),
    live!("linger", plain, linger),
    live!("keepalive", plain, keepalive),
    live!("time_wait", plain, time_wait),
    fixed!("http_listen", optional, http_listen),
    fixed!("user", optional, user),
    fixed!("log", optional, log),
    fixed!("pidfile", path, pidfile),
    Rule {
        key: "loglevel",
        show: |c| plain(&c.later_loglevel.unwrap_or(c.loglevel)),
        take: |old, new| {
            (old.loglevel, old.later_loglevel) = (new.loglevel, new.later_loglevel);
            Ok(())
        },
    },
];

fn plain(value: &impl Display) -> String {
    value.to_string()
}

fn optional(value: &Option<impl Display>) -> String {
    value.as_ref().map_or("none".into(), ToString::to_string)
}

fn version(version: &Option<Version>) -> String {
    version.map_or("off", Version::name).into()
}

fn path(path: &Option<PathBuf>) -> String {
    optional(&path.as_ref().map(|path| path.display()))
}

fn number(on: &bool) -> String {
    u8::from(*on).to_string()
}

fn on_off(on: &bool) -> String {
    if *on { "on" } else { "off" }.into()
}

fn flush(flush: &Flush) -> String {
    (*flush as u8).to_string()
}

fn take_method(old: &mut Config, new: &Config) -> Result<(), &'static str> {
    match (&mut old.seal, &new.seal) {
        (Some(old), Some(new)) if old.method.overhead() != new.method.overhead() => Err(OVERHEAD),
        (Some(old), Some(new)) => {
            old.method = new.method;
            Ok(())
        }
        _ => Err(SEALED),
    }
}

/// The key, whichever of `psk` and `password` it comes from.
fn take_key(old: &mut Config, new: &Config) -> Option<Change> {
    let source = |seal: &Seal| match seal.source {
        KeySource::Psk => "psk",
        KeySource::Password => "password",
    };
    let (key, refused) = match (&mut old.seal, &new.seal) {
        (Some(old), Some(new)) if old.key == new.key => {
            old.source = new.source;
            return None;
        }
        (Some(old), Some(new)) => {
            old.key = new.key.clone();
            old.source = new.source;
            (source(new), None)
        }
        (Some(old), None) => (source(old), Some(SEALED)),
        (None, Some(new)) => (source(new), Some(SEALED)),
        (None, None) => return None,
    };
    Some(Change {
        key,
        old: String::new(),
        new: String::new(),
        refused,
    })
}

impl Config {
    /// What becomes of this configuration while the program runs, when the file says `new`. Fails, and nothing is to
    /// change, if what can and what cannot change do not go together.
    pub fn changed_to(&self, new: &Config) -> Result<Outcome, String> {
        let mut config = self.clone();
        let mut changes: Vec<Change> = take_key(&mut config, new).into_iter().collect();
        for rule in RULES {
            let (before, wanted) = ((rule.show)(self), (rule.show)(new));
            if before == wanted {
                continue;
            }
            changes.push(Change {
                key: rule.key,
                old: before,
                new: wanted,
                refused: (rule.take)(&mut config, new).err(),
            });
        }
        check::check_addresses(&config)?;
        config.warnings.clone_from(&new.warnings);
        Ok(Outcome { config, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    const BASE: &str = r#""udp_bind": ":1", "connect": "a:2", "password": "x""#;

    fn config(text: &str) -> Config {
        Config::parse("t", &format!("{{{text}}}")).expect("a configuration")
    }

    /// The lines of what changes from one configuration to another.
    fn lines(old: &str, new: &str) -> Vec<String> {
        let outcome = config(old).changed_to(&config(new)).expect("an outcome");
        outcome.changes.iter().map(Change::to_string).collect()
    }

    fn with(more: &str) -> Vec<String> {
        lines(BASE, &format!("{BASE}, {more}"))
    }

    #[test]
    fn every_key_has_a_rule() {
        let secrets = ["psk", "password"];
        let ruled: Vec<&str> = RULES.iter().map(|rule| rule.key).collect();
        for key in KEYS {
            assert!(
                ruled.contains(&key.name) != secrets.contains(&key.name),
                "{}",
                key.name
            );
        }
        assert_eq!(ruled.len() + secrets.len(), KEYS.len());
    }

    #[test]
    fn what_can_change_does() {
        let new = config(
            r#""udp_bind": ":1", "connect": "b:2", "password": "y", "timeout": 90, "linger": 9, "keepalive": 9,
               "time_wait": 9, "loglevel": 1, "rate": {"up": 2.5, "down": 3}, "method": "aes256gcm",
               "tcp": {"nodelay": false, "keepalive": 999, "sndbuf": 9999, "rcvbuf": 8888}"#,
        );
        let outcome = config(BASE).changed_to(&new).expect("an outcome");
        assert!(outcome.changes.iter().all(|c| c.refused.is_none()));
        assert_eq!(outcome.changes.len(), 14);
        assert_eq!(format!("{:?}", outcome.config), format!("{new:?}"));
        let lines: Vec<String> = outcome.changes.iter().map(Change::to_string).collect();
        for line in [
            "password: changed",
            "connect: b:2 instead of a:2",
            "rate.up: 2.5 instead of none",
            "timeout: 90 instead of 600",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line}: {lines:?}");
        }
    }

    #[test]
    fn what_cannot_change_stays_and_is_named() {
        for (more, line) in [
            (
                r#""user": "nobody""#,
                "user: stays none, not nobody: it takes a restart",
            ),
            (
                r#""udp_connect": "c:3""#,
                "udp_connect: stays none, not c:3: it takes a restart",
            ),
            (
                r#""kcp": {"mtu": 1200}"#,
                "kcp.mtu: stays 1500, not 1200: it takes a restart",
            ),
            (
                r#""kcp": {"flush": 2}"#,
                "kcp.flush: stays 1, not 2: it takes a restart",
            ),
            (
                r#""rate": {"control": "off"}"#,
                "rate.control: stays on, not off: it takes a restart",
            ),
            (
                r#""method": "xsalsa20poly1305""#,
                "method: stays chacha20poly1305_ietf, not xsalsa20poly1305: packets would get larger or smaller, which takes a restart",
            ),
        ] {
            let old = config(BASE);
            let new = config(&format!("{BASE}, {more}"));
            let outcome = old.changed_to(&new).expect("an outcome");
            let lines: Vec<String> = outcome.changes.iter().map(Change::to_string).collect();
            assert_eq!(lines, [line]);
            assert_eq!(format!("{:?}", outcome.config), format!("{old:?}"));
        }
        let buffer =
            r#""udp_bind": ":1", "connect": "a:2", "password": "x", "tcp": {"sndbuf": 9999}"#;
        assert_eq!(
            lines(buffer, BASE),
            ["tcp.sndbuf: stays 9999, not 0: to have the system's own size again takes a restart"]
        );
        let peer = r#""udp_connect": "a:1", "listen": ":2", "password": "x""#;
        let both = r#""udp_connect": "a:1", "listen": ":2", "password": "x", "connect": "b:3", "udp_bind": ":4""#;
        assert!(lines(peer, both).contains(
            &"connect: stays none, not b:3: to add it or to take it out takes a restart".into()
        ));
        let open = r#""udp_bind": ":1", "connect": "a:2""#;
        let why = "from sealed to open packets or back takes a restart";
        assert!(lines(BASE, open).contains(&format!("password: stays as it was: {why}")));
        assert!(lines(open, BASE).contains(&format!("password: stays as it was: {why}")));
    }

    #[test]
    fn nothing_changes_where_nothing_does() {
        assert_eq!(with(r#""//": 1, "timeout": 600"#), Vec::<String>::new());
    }

    #[test]
    fn halves_that_do_not_go_together_are_refused() {
        let old =
            config(r#""udp_bind": ":1", "udp_connect": "x:1", "listen": "a:2", "connect": "b:2""#);
        let new =
            config(r#""udp_bind": ":1", "udp_connect": "x:1", "listen": "b:2", "connect": "a:2""#);
        let error = old.changed_to(&new).expect_err("a loop");
        assert!(error.starts_with("connect: "), "{error}");
    }
}
