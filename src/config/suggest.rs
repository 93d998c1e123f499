//! What to say about an unknown key: a mistyped `password` must not start an open tunnel, and users of another kcptun are
//! told what its keys are called here.

use super::json::quoted;
use super::keys::{GROUPS, KEYS};
use strsim::damerau_levenshtein;

/// Keys of kcptun-libev 2 that are not supported.
const UNSUPPORTED: [&str; 2] = ["netdev", "obfs"];

/// Keys of Go's kcptun, whose protocol is another one. For each group: what does the same here, if anything does, and what else
/// who comes from there should know.
pub const GO_KEYS: [(&[&str], &str, &str); 15] = [
    (&["localaddr"], "listen", ""),
    (&["target"], "connect", ""),
    (
        &["remoteaddr"],
        "udp_connect",
        "The server's `listen` is `udp_bind` here.",
    ),
    (
        &["key"],
        "psk or password",
        "The key that is derived from it differs.",
    ),
    (
        &["crypt"],
        "method",
        "Every method here authenticates, too. `aes256gcm` is nearest to `aes`.",
    ),
    (
        &["mode", "acknodelay"],
        "",
        "The rate is found. The same goes for `nodelay`, `interval`, `resend` and `nc`, and `sndwnd` and `rcvwnd` are only bounds.",
    ),
    (
        &["datashard", "parityshard"],
        "",
        "There is no forward error correction. A lost packet is sent again as soon as a later one is acknowledged; parity always costs its share.",
    ),
    (
        &["conn", "autoexpire", "scavengettl"],
        "",
        "One UDP port carries everything.",
    ),
    (
        &["smuxver", "smuxbuf", "streambuf", "framesize"],
        "",
        "Each connection is a session of its own, so none waits for another's loss.",
    ),
    (
        &["nocomp"],
        "",
        "Nothing is compressed. Compression would tell of the content, and most of it is compressed already.",
    ),
    (&["sockbuf"], "udp.sndbuf and udp.rcvbuf", ""),
    (&["ratelimit"], "rate.up", ""),
    (&["quiet"], "loglevel", "3 logs warnings and errors only."),
    (
        &["snmplog", "snmpperiod", "pprof"],
        "",
        "See `kcptun stats`.",
    ),
    (&["closewait"], "", "See `linger`."),
];

/// The message for a key `name` in the object `path` (empty, or its name and a dot) that `keys` does not have.
pub(super) fn unknown(path: &str, name: &str) -> String {
    let shown = shown(path, name);
    if let Some(hint) = elsewhere(path, name) {
        return format!("{shown}: {hint}");
    }
    let near = nearest(path, name);
    if near.is_empty() {
        return format!(
            "{shown}: unknown key; the keys here are {}",
            names_in(path).join(", ")
        );
    }
    format!("{shown}: unknown key; did you mean {}?", near.join(" or "))
}

/// A key as a message shows it: as it is if it can be printed, and else quoted and shortened.
fn shown(path: &str, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if !name.is_empty() && name.len() <= 40 && name.chars().all(plain) {
        format!("{path}{name}")
    } else {
        format!("{path}{}", quoted(name))
    }
}

/// What to say about names that mean something elsewhere.
fn elsewhere(path: &str, name: &str) -> Option<String> {
    if path.is_empty() && UNSUPPORTED.contains(&name) {
        return Some(
            "is a key of kcptun-libev that kcptun does not support (yet); remove it".into(),
        );
    }
    let is_key = path.is_empty() && KEYS.iter().any(|key| key.name == name);
    if let Some((group, rest)) = name.split_once('.').filter(|_| is_key) {
        return Some(format!(
            "unknown key; write it as \"{group}\": {{\"{rest}\": ...}}"
        ));
    }
    let homes: Vec<&str> = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|full| last(full) == name)
        .collect();
    match homes[..] {
        [] => go_hint(path, name),
        [home] => Some(format!(
            "unknown key here; did you mean {home}? {}",
            how_to_write(home)
        )),
        _ => Some(format!(
            "unknown key here; did you mean {}?",
            homes.join(" or ")
        )),
    }
}

fn how_to_write(full: &str) -> String {
    match full.split_once('.') {
        Some((group, name)) => format!("Write \"{group}\": {{\"{name}\": ...}}"),
        None => format!("Write \"{full}\" outside of the object"),
    }
}

fn go_hint(path: &str, name: &str) -> Option<String> {
    let known = |group: &&(&[&str], &str, &str)| group.0.contains(&name);
    let (_, here, _) = GO_KEYS.iter().find(known).filter(|_| path.is_empty())?;
    Some(match *here {
        "" => "is a key of Go's kcptun, which kcptun does not have; remove it".into(),
        here => format!("is a key of Go's kcptun; here it is {here}"),
    })
}

/// The known keys that differ least from what was written, if they differ little enough to be meant. They may belong to
/// another object: `mttu` at the top is `kcp.mtu`.
fn nearest(path: &str, name: &str) -> Vec<&'static str> {
    let written = plain(name);
    let full = plain(&format!("{path}{name}"));
    // A third of the letters wrong is still a slip; more is another word.
    let limit = (written.chars().count() / 3).max(1);
    let distances: Vec<(usize, &str)> = names()
        .map(|known| {
            let as_full = damerau_levenshtein(&full, &plain(known));
            let as_last = damerau_levenshtein(&written, &plain(last(known)));
            let same_place = known.strip_suffix(last(known)) == Some(path);
            // Twice the distance, and one for another place: among equals the one at this place wins.
            (2 * as_full.min(as_last) + usize::from(!same_place), known)
        })
        .collect();
    let least = distances
        .iter()
        .map(|(distance, _)| *distance)
        .min()
        .unwrap_or(usize::MAX);
    if least > 2 * limit + 1 {
        return Vec::new();
    }
    distances
        .into_iter()
        .filter(|(distance, _)| *distance == least)
        .map(|(_, known)| known)
        .collect()
}

/// A name without case and separators: `UdpBind`, `udp-bind` and `udp_bind` are equal.
fn plain(name: &str) -> String {
    // A key can be as long as the file; beyond this nothing is near any known one.
    name.chars()
        .take(64)
        .filter(|c| !"-_. ".contains(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

fn last(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}

/// Every name that can be written, objects and aliases included.
fn names() -> impl Iterator<Item = &'static str> {
    let keys = KEYS
        .iter()
        .flat_map(|key| [Some(key.name), key.alias])
        .flatten();
    keys.chain(GROUPS)
}

fn names_in(path: &str) -> Vec<&'static str> {
    let here = |full: &&str| full.strip_suffix(last(full)) == Some(path);
    let keys = KEYS.iter().map(|key| key.name).chain(GROUPS);
    keys.filter(here).map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        for (path, name, meant) in [
            ("", "pasword", "password"),
            ("", "Password", "password"),
            ("", "passwrod", "password"),
            ("", "psks", "psk"),
            ("", "udp-bind", "udp_bind"),
            ("", "udpConnect", "udp_connect"),
            ("", "upd_connect", "udp_connect"),
            ("", "kcpbind", "kcp_bind"),
            ("", "time-wait", "time_wait"),
            ("", "log_level", "loglevel"),
            ("", "kpc", "kcp"),
            ("", "mttu", "kcp.mtu"),
            ("kcp.", "snd_wnd", "kcp.sndwnd"),
            ("tcp.", "keep_alive", "tcp.keepalive"),
            ("udp.", "revbuf", "udp.rcvbuf"),
            ("rate.", "upp", "rate.up"),
        ] {
            assert_eq!(nearest(path, name), [meant], "{path}{name}");
        }
    }

    #[test]
    fn other_words_find_nothing() {
        for name in ["fruit", "zzzzzzzz", &"listen".repeat(1000)] {
            assert!(nearest("", name).is_empty(), "{name}");
        }
    }

    #[test]
    fn no_hint_names_a_key_that_is_known() {
        let go = GO_KEYS.iter().flat_map(|(names, ..)| names.iter().copied());
        for name in UNSUPPORTED.into_iter().chain(go) {
            assert!(names().all(|known| known != name), "{name}");
        }
    }
}
