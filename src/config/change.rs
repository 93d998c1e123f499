//! What a running program makes of a configuration that was read again: which keys have changed, and which of them can
//! take effect without ending sessions. What then has to be done is not here.

use super::key::Reload;
use super::keys::{KEYS, RESTART, SEALING_TAKES_RESTART};
use super::{Config, KeySource, Seal, check};
use std::fmt::{self, Display};

/// A key whose value is another one in the new configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// The value in effect before, as a configuration would have it; empty for a secret.
    pub old: String,
    /// The value that the new configuration has, likewise.
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
    /// What is in effect from now on.
    pub config: Config,
    /// A key each.
    pub changes: Vec<Change>,
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
        (Some(old), None) => (source(old), Some(SEALING_TAKES_RESTART)),
        (None, Some(new)) => (source(new), Some(SEALING_TAKES_RESTART)),
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
        for key in KEYS {
            let (old, wanted) = ((key.shown)(self), (key.shown)(new));
            if old == wanted {
                continue;
            }
            let refused = match key.reload {
                Reload::Restart => Some(RESTART),
                Reload::Live(take) => {
                    take(&mut config, new);
                    None
                }
                Reload::Depends(take) => take(&mut config, new).err(),
                Reload::Secret => continue,
            };
            changes.push(Change {
                key: key.name,
                old,
                new: wanted,
                refused,
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
                "method: stays chacha20poly1305_ietf, not xsalsa20poly1305: packets would become larger or smaller, which takes a restart",
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
            ["tcp.sndbuf: stays 9999, not 0: returning to the system's own size takes a restart"]
        );
        assert_eq!(
            lines(BASE, &BASE.replace(":1", ":1-9,443")),
            ["udp_bind: stays :1, not :1-9,443: it takes a restart"]
        );
        let peer = r#""udp_connect": "a:1", "listen": ":2", "password": "x""#;
        let both = r#""udp_connect": "a:1", "listen": ":2", "password": "x", "connect": "b:3", "udp_bind": ":4""#;
        assert!(lines(peer, both).contains(
            &"connect: stays none, not b:3: adding or removing it takes a restart".into()
        ));
        let open = r#""udp_bind": ":1", "connect": "a:2""#;
        let why = "changing between sealed and open packets takes a restart";
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
