//! Every key of the configuration, in one table: a row is a key's name, what it may hold and where that goes, how its value
//! is written, what a reload does with it, and what people are told of it (`key`). Reading (`read`), suggestions, reload (`change`)
//! and the reference (`reference`) all follow it. A new key is one row, a field of `Config` with its default in `Draft`, and its
//! use.

use super::Config;
use super::address::Purpose;
use super::key::{Key, Kind, Section, address, integer, key, rate};
use crate::crypto::Method;
use crate::proxy::Version;
use crate::settings::Flush;
use std::fmt::Display;
use std::path::PathBuf;

pub(super) const RESTART: &str = "it takes a restart";
const PRESENCE: &str = "to add it or to take it out takes a restart";
const SYSTEMS: &str = "to have the system's own size again takes a restart";
const OVERHEAD: &str = "packets would get larger or smaller, which takes a restart";
pub(super) const SEALED: &str = "from sealed to open packets or back takes a restart";

/// The most that a socket buffer may be: beyond it the kernel's own arithmetic cuts.
const BUFFER: u32 = 1 << 30;

/// The objects that hold keys.
pub const GROUPS: [&str; 4] = ["kcp", "tcp", "udp", "rate"];

/// The table, in the order in which the reference has each section.
pub static KEYS: &[Key] = &[
    address("listen", Purpose::Bind, |d| &mut d.config.listen)
        .shown(|c| optional(&c.listen))
        .says(
            Section::Needed,
            "none",
            "address",
            "TCP: accept here, carry to the other end",
        ),
    address("connect", Purpose::Target, |d| &mut d.config.connect)
        .shown(|c| optional(&c.connect))
        .changes(take_connect)
        .says(
            Section::Needed,
            "none",
            "address",
            "TCP: sessions of the other end are carried to here. A name is resolved anew as \
             it is used; where that takes more than 250 ms its last known addresses are \
             used, and until there are any, sessions wait for up to 10 s. Of several \
             addresses the next is tried as well after 250 ms, and the one that worked is \
             the first from then on",
        ),
    address("udp_bind", Purpose::Bind, |d| &mut d.config.udp_bind)
        .also("kcp_bind")
        .shown(|c| optional(&c.udp_bind))
        .says(
            Section::Needed,
            "none",
            "address",
            "UDP: receive here. A peer without it uses any port",
        ),
    address("udp_connect", Purpose::Target, |d| {
        &mut d.config.udp_connect
    })
    .also("kcp_connect")
    .shown(|c| optional(&c.udp_connect))
    .says(
        Section::Needed,
        "none",
        "address",
        "UDP: the other end. A name is resolved at the start, and again while the other \
             end is silent",
    ),
    address("rendezvous_server", Purpose::Target, |d| {
        &mut d.config.rendezvous_server
    })
    .shown(|c| optional(&c.rendezvous_server))
    .says(
        Section::Needed,
        "none",
        "address",
        "UDP: where the other end is found, instead of `udp_connect`: see `kcptun help nat`. \
             A name is resolved at the start, and again while it is silent; at \
             a server, which it does not answer once that is known there, once a minute",
    ),
    key("service_id", Kind::ServiceId)
        .shown(|c| optional(&c.service_id))
        .says(
            Section::Needed,
            "none",
            "1 to 255 bytes of text",
            "with `rendezvous_server`: the name by which it is found, the same at both ends",
        ),
    key("psk", Kind::Secret(|d| &mut d.psk)).secret().says(
        Section::Needed,
        "none",
        "32 bytes, base64",
        "the key, from `kcptun --genpsk`; the same at both ends. Without it and `password` \
             packets are open, and anybody can use the tunnel",
    ),
    key("password", Kind::Secret(|d| &mut d.password))
        .secret()
        .says(
            Section::Needed,
            "none",
            "text",
            "instead of `psk`, for a kcptun-libev that has one. Where both are given `psk` \
             wins",
        ),
    key("method", Kind::Method)
        .shown(|c| optional(&c.seal.as_ref().map(|seal| seal.method)))
        .changes(take_method)
        .says(
            Section::Needed,
            "chacha20poly1305_ietf",
            "a name that `kcptun --list-methods` prints",
            "how packets are sealed; the same at both ends",
        ),
    key(
        "kcp.mtu",
        Kind::Auto {
            min: 300,
            max: 1500,
            unit: "bytes",
            set: |d, n| d.config.kcp.mtu = n as u16,
        },
    )
    .shown(|c| plain(&c.kcp.mtu))
    .says(
        Section::Kcp,
        "\"auto\"",
        "",
        "size of the whole IP packet at most. `\"auto\"` is 1500. How much of that the \
             path carries each end finds by itself",
    ),
    key("kcp.sndwnd", Kind::Window(|d, n| d.config.kcp.sndwnd = n))
        .shown(|c| plain(&c.kcp.sndwnd))
        .says(
            Section::Kcp,
            "32768",
            "16 to 65535 packets",
            "the most that is on its way and not acknowledged, for one connection. A bound: \
             the rate decides",
        ),
    key("kcp.rcvwnd", Kind::Window(|d, n| d.config.kcp.rcvwnd = n))
        .shown(|c| plain(&c.kcp.rcvwnd))
        .says(
            Section::Kcp,
            "32768",
            "16 to 65535 packets; below 128 as 128",
            "the most that is kept while an earlier packet is missing or a program does not \
             read. A bound: a connection begins with 1024 and gets more as it is read \
             faster. Smaller where memory is short",
        ),
    integer("kcp.nodelay", 0, 2, "", |d, n| {
        d.config.kcp.nodelay = n as u8
    })
    .shown(|c| plain(&c.kcp.nodelay))
    .says(
        Section::Kcp,
        "1",
        "",
        "as in KCP. Only without rate control",
    ),
    integer("kcp.interval", 10, 500, "milliseconds", |d, n| {
        d.config.kcp.interval = n
    })
    .shown(|c| plain(&c.kcp.interval))
    .says(
        Section::Kcp,
        "10",
        "",
        "as in KCP. Only without rate control",
    ),
    integer("kcp.resend", 0, 100, "packets", |d, n| {
        d.config.kcp.resend = n
    })
    .shown(|c| plain(&c.kcp.resend))
    .says(
        Section::Kcp,
        "2",
        "",
        "as in KCP: repeat after so many skips, 0 never. Only without rate control",
    ),
    integer("kcp.nc", 0, 1, "", |d, n| d.config.kcp.nc = n == 1)
        .shown(|c| number(&c.kcp.nc))
        .says(
            Section::Kcp,
            "1",
            "",
            "0: KCP's own congestion control, and no rate control",
        ),
    integer("kcp.flush", 0, 2, "", |d, n| {
        d.config.kcp.flush = [Flush::Interval, Flush::AfterSend, Flush::AcksToo][n as usize]
    })
    .shown(|c| flush(&c.kcp.flush))
    .says(
        Section::Kcp,
        "1",
        "",
        "0 at the interval, 1 after sending, too, 2 acks at once, too. Only without \
             rate control",
    ),
    key("tcp.nodelay", Kind::Switch(|d| &mut d.config.tcp.nodelay))
        .shown(|c| plain(&c.tcp.nodelay))
        .live(|old, new| old.tcp.nodelay = new.tcp.nodelay)
        .says(
            Section::Sockets,
            "true",
            "true, false",
            "send small messages at once. Leave it",
        ),
    key("tcp.keepalive", Kind::Keepalive)
        .shown(|c| plain(&c.tcp.keepalive))
        .live(|old, new| old.tcp.keepalive = new.tcp.keepalive)
        .says(
            Section::Sockets,
            "120",
            "10 to 7200 s; true, which is 120; false",
            "ask a TCP program that was silent for so long whether it lives: one that \
             vanished without a word is noticed a minute later. One that was just being \
             sent something: when the system gives up, some 15 minutes on Linux. false: an \
             idle connection whose program vanished stays",
        ),
    key(
        "tcp.reuseport",
        Kind::Switch(|d| &mut d.config.tcp.reuseport),
    )
    .shown(|c| plain(&c.tcp.reuseport))
    .says(
        Section::Sockets,
        "false",
        "true, false",
        "share the port with other processes",
    ),
    integer("tcp.sndbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.tcp.sndbuf = n
    })
    .shown(|c| plain(&c.tcp.sndbuf))
    .changes(|old, new| buffer(&mut old.tcp.sndbuf, new.tcp.sndbuf))
    .says(
        Section::Sockets,
        "0",
        "",
        "socket buffer; 0: the system's. Leave it",
    ),
    integer("tcp.rcvbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.tcp.rcvbuf = n
    })
    .shown(|c| plain(&c.tcp.rcvbuf))
    .changes(|old, new| buffer(&mut old.tcp.rcvbuf, new.tcp.rcvbuf))
    .says(Section::Sockets, "0", "", "likewise"),
    key("tcp.proxy_protocol", Kind::ProxyProtocol)
        .shown(|c| version(&c.tcp.proxy_protocol))
        .live(|old, new| old.tcp.proxy_protocol = new.tcp.proxy_protocol)
        .says(
            Section::Sockets,
            "\"off\"",
            "\"off\", \"v1\", \"v2\"",
            "at the end with `connect`: the service gets HAProxy's PROXY header first, with \
             the address at the other end of the UDP path. Only for a service that expects \
             it",
        ),
    key(
        "udp.reuseport",
        Kind::Switch(|d| &mut d.config.udp.reuseport),
    )
    .shown(|c| plain(&c.udp.reuseport))
    .says(
        Section::Sockets,
        "false",
        "true, false",
        "share the port with other processes",
    ),
    integer("udp.sndbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.udp.sndbuf = n
    })
    .shown(|c| plain(&c.udp.sndbuf))
    .says(
        Section::Sockets,
        "1048576",
        "",
        "socket buffer; 0: the system's. More on fast lines",
    ),
    integer("udp.rcvbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.udp.rcvbuf = n
    })
    .shown(|c| plain(&c.udp.rcvbuf))
    .says(
        Section::Sockets,
        "4194304",
        "",
        "likewise: room for a flood, or for a moment without the processor. A warning \
             names the sysctl where the system cuts it",
    ),
    rate("rate.up", |d| &mut d.config.rate.up)
        .shown(|c| optional(&c.rate.up))
        .live(|old, new| old.rate.up = new.rate.up)
        .says(
            Section::Rate,
            "none",
            "",
            "data goes to one address no faster than this; needs rate control. Where a \
             provider throttles or bills",
        ),
    rate("rate.down", |d| &mut d.config.rate.down)
        .shown(|c| optional(&c.rate.down))
        .live(|old, new| old.rate.down = new.rate.down)
        .says(
            Section::Rate,
            "none",
            "",
            "data from one address is handed on no faster than this, and the other end has \
             to wait",
        ),
    key("rate.control", Kind::OnOff(|d| &mut d.config.rate.control))
        .shown(|c| on_off(&c.rate.control))
        .says(
            Section::Rate,
            "\"on\"",
            "\"on\", \"off\"",
            "find the path's rate and keep to it. Off: plain KCP as `kcp.*` say, which \
             floods",
        ),
    integer("timeout", 60, 86400, "seconds", |d, n| d.config.timeout = n)
        .shown(|c| plain(&c.timeout))
        .live(|old, new| old.timeout = new.timeout)
        .says(
            Section::Times,
            "600",
            "",
            "a session without any sign of the other end is ended; a live one is asked in \
             time",
        ),
    integer("linger", 5, 600, "seconds", |d, n| d.config.linger = n)
        .shown(|c| plain(&c.linger))
        .live(|old, new| old.linger = new.linger)
        .says(
            Section::Times,
            "30",
            "",
            "the longest wait for more of the last data to arrive, of a session that both \
             ends have closed. With `rate.control` off `timeout` instead: KCP waits ever \
             longer between attempts",
        ),
    integer("keepalive", 0, 600, "seconds", |d, n| {
        d.config.keepalive = n
    })
    .shown(|c| plain(&c.keepalive))
    .live(|old, new| old.keepalive = new.keepalive)
    .says(
        Section::Times,
        "25",
        "",
        "a peer that has sent nothing for so long pings. 0: only when an answer is \
             missing or the network has changed. Less where a router forgets sooner. With \
             `http_listen` it asks every 4 s",
    ),
    integer("time_wait", 5, 3600, "seconds", |d, n| {
        d.config.time_wait = n
    })
    .shown(|c| plain(&c.time_wait))
    .live(|old, new| old.time_wait = new.time_wait)
    .says(
        Section::Times,
        "120",
        "",
        "how long the number of an ended session stays known, for late packets",
    ),
    key("http_listen", Kind::Local(|d| &mut d.config.http_listen))
        .shown(|c| optional(&c.http_listen))
        .says(
            Section::Program,
            "none",
            "port or address",
            "statistics are shown over HTTP, at a port of this machine (`27281`) or at an \
             address. Nothing is shown where it is not set",
        ),
    key("user", Kind::User).shown(|c| optional(&c.user)).says(
        Section::Program,
        "none",
        "USER[:GROUP]",
        "who to become once the ports are bound; set it where you start as root",
    ),
    key("log", Kind::Log).shown(|c| optional(&c.log)).says(
        Section::Program,
        "\"stderr\"; with -d \"syslog\"",
        "\"stderr\", \"syslog\", a path with a /",
        "where the log goes. A file is opened anew at SIGHUP",
    ),
    key("pidfile", Kind::Path(|d| &mut d.config.pidfile))
        .shown(|c| path(&c.pidfile))
        .says(
            Section::Program,
            "none",
            "a path",
            "holds the number of the process while it runs, and keeps a second one from \
             starting",
        ),
    key("loglevel", Kind::Loglevel)
        .shown(|c| plain(&c.later_loglevel.unwrap_or(c.loglevel)))
        .live(|old, new| {
            (old.loglevel, old.later_loglevel) = (new.loglevel, new.later_loglevel);
        })
        .says(
            Section::Program,
            "2",
            "0 to 6",
            "trace, debug, info, warnings, errors, errors, nothing. At info: what becomes \
             of the path, connections that failed (ten a minute at most) and, once a \
             minute, a line about all that have ended. At debug: each connection. In a file \
             with `kcp_bind` or `kcp_connect` the scale is another",
        ),
];

/// The names of all methods, for messages.
pub fn method_names() -> String {
    Method::ALL.map(Method::name).join(", ")
}

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

/// A buffer of sockets can be set, and not given back.
fn buffer(old: &mut u32, new: u32) -> Result<(), &'static str> {
    match new {
        0 => Err(SYSTEMS),
        _ => {
            *old = new;
            Ok(())
        }
    }
}

fn take_connect(old: &mut Config, new: &Config) -> Result<(), &'static str> {
    if old.connect.is_some() != new.connect.is_some() {
        return Err(PRESENCE);
    }
    old.connect.clone_from(&new.connect);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::Reload;

    /// A configuration with nothing but what it needs.
    fn least() -> Config {
        let text = r#"{"listen": ":1", "udp_connect": "a:2"}"#;
        Config::parse("", text).expect("right")
    }

    #[test]
    fn the_reference_has_every_default_as_it_is() {
        let given = ["listen", "udp_connect"];
        let config = least();
        for key in KEYS {
            assert!(
                !key.meaning.is_empty() && !key.range().is_empty(),
                "{}",
                key.name
            );
            let (said, is) = (key.default.trim_matches('"'), (key.shown)(&config));
            let known = match key.name {
                "kcp.mtu" => (said, is.as_str()) == ("auto", "1500"),
                // without a key nothing is sealed, and with -d the log is another
                "method" => said == crate::config::DEFAULT_METHOD.name(),
                "log" => said.starts_with("stderr") && config.log.is_none(),
                _ => given.contains(&key.name) || said == is,
            };
            let secret = matches!(key.reload, Reload::Secret);
            assert!(known || secret, "{}: {said}, but is {is}", key.name);
        }
    }

    #[test]
    fn names_are_unique_and_their_groups_known() {
        let mut names: Vec<&str> = KEYS
            .iter()
            .flat_map(|key| [Some(key.name), key.alias])
            .flatten()
            .collect();
        names.extend(GROUPS);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for (group, _) in names.iter().filter_map(|name| name.split_once('.')) {
            assert!(GROUPS.contains(&group), "{group}");
        }
    }
}
