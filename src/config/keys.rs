//! Every key of the configuration, in one table. A row has the key's name, the values it may have and where they go, how a
//! value is written, what a reload does with it, and what the reference says of it (`key`). Reading (`read`), suggestions
//! (`suggest`), reloading (`change`) and the reference (`reference`) all follow the table. A new key is one row, a field of
//! `Config` with its default in `Draft`, and its use.

use super::Config;
use super::address::Purpose;
use super::key::{Key, Kind, Section, address, endpoint, integer, key, rate};
use crate::crypto::Method;
use crate::proxy::Version;
use crate::settings::Flush;
use std::fmt::Display;
use std::path::PathBuf;

/// Why a reload refuses a value: no value can change while the program runs.
pub(super) const RESTART: &str = "it takes a restart";
/// Why a reload refuses a value: the key is new, or gone.
const PRESENCE_TAKES_RESTART: &str = "adding or removing it takes a restart";
/// Why a reload refuses 0: the system does not tell the size that it would choose.
const SYSTEM_SIZE_TAKES_RESTART: &str = "returning to the system's own size takes a restart";
/// Why a reload refuses a method: the sizes of packets are fixed at the start.
const OVERHEAD_TAKES_RESTART: &str =
    "packets would become larger or smaller, which takes a restart";
/// Why a reload refuses a key where there was none, or none where there was one.
pub(super) const SEALING_TAKES_RESTART: &str =
    "changing between sealed and open packets takes a restart";

/// The largest size of a socket buffer, bytes: the kernel doubles it, in a signed 32-bit number.
const BUFFER_MAX: u32 = 1 << 30;

/// The objects that hold keys.
pub(super) const GROUPS: [&str; 4] = ["kcp", "tcp", "udp", "rate"];

/// The table, in the order in which the reference has each section.
pub static KEYS: &[Key] = &[
    address("listen", Purpose::Bind, |d| &mut d.config.listen)
        .shown(|c| optional(&c.listen))
        .says(
            Section::Needed,
            "none",
            "address",
            "TCP: accept connections here and carry them to the other end",
        ),
    address("connect", Purpose::Target, |d| &mut d.config.connect)
        .shown(|c| optional(&c.connect))
        .changes(take_connect)
        .says(
            Section::Needed,
            "none",
            "address",
            "TCP: connections from the other end are carried to this service. A name is \
             resolved again as it is used; if that takes more than 250 ms, its last known \
             addresses are used, and while none is known, connections wait for up to 10 \
             s. Of several addresses, the next one is tried in parallel after 250 ms, and \
             the one that worked is tried first from then on",
        ),
    endpoint("udp_bind", Purpose::Bind, |d| &mut d.config.udp_bind)
        .also("kcp_bind")
        .shown(|c| optional(&c.udp_bind))
        .says(
            Section::Needed,
            "none",
            "address, with up to 1024 ports",
            "UDP: receive here, at one port or several: `:27290-27299`, or \
             `:443,27290-27299`. Each answer leaves from the port that was asked. A peer \
             without it uses any free port. With `rendezvous_server` one port only; the \
             rendezvous server itself may have several",
        ),
    endpoint("udp_connect", Purpose::Target, |d| {
        &mut d.config.udp_connect
    })
    .also("kcp_connect")
    .shown(|c| optional(&c.udp_connect))
    .says(
        Section::Needed,
        "none",
        "address, with up to 1024 ports",
        "UDP: the address of the other end, with one port or several of its `udp_bind`. Of several, one is used \
             at a time, and another one when that does not answer, or as `hop` says. A name is resolved at the start, and \
             again while the other end is silent",
    ),
    address("rendezvous_server", Purpose::Target, |d| {
        &mut d.config.rendezvous_server
    })
    .shown(|c| optional(&c.rendezvous_server))
    .says(
        Section::Needed,
        "none",
        "address",
        "UDP: the rendezvous server, instead of `udp_connect`: see `kcptun help nat`. A name \
             is resolved at the start, and again while the rendezvous server is silent; \
             once a minute by an end with `connect`, which gets no answer once it is \
             registered",
    ),
    key("service_id", Kind::ServiceId)
        .shown(|c| optional(&c.service_id))
        .says(
            Section::Needed,
            "none",
            "1 to 255 bytes of text",
            "with `rendezvous_server`: the name by which the two ends find each other, \
             the same at both",
        ),
    key("psk", Kind::Secret(|d| &mut d.psk)).secret().says(
        Section::Needed,
        "none",
        "32 bytes, base64",
        "the key, as printed by `kcptun --genpsk`; the same at both ends. Without \
             `psk` and `password`, packets are neither encrypted nor authenticated, and \
             anybody can use the tunnel",
    ),
    key("password", Kind::Secret(|d| &mut d.password))
        .secret()
        .says(
            Section::Needed,
            "none",
            "text",
            "instead of `psk`, for a kcptun-libev that uses a password. If both are set, \
             `psk` is used",
        ),
    key("method", Kind::Method)
        .shown(|c| optional(&c.seal.as_ref().map(|seal| seal.method)))
        .changes(take_method)
        .says(
            Section::Needed,
            "chacha20poly1305_ietf",
            "a name that `kcptun --list-methods` prints",
            "the cipher that seals packets; the same at both ends",
        ),
    key("forward_secrecy", Kind::ForwardSecrecy)
        .shown(|c| c.forward_secrecy.name().into())
        .says(
            Section::Needed,
            "\"auto\"",
            "\"auto\", \"require\", \"off\"",
            "with a key: `\"auto\"` agrees on fresh keys with every other end that does, so that who gets the key later cannot \
             read what was recorded. `\"require\"` carries no connection without them: kcptun-libev and an older kcptun are \
             refused. `\"off\"`: the key alone seals, and the other end must not require more. See `kcptun help security`",
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
        "the size of the largest IP packet, headers included. `\"auto\"` is 1500. \
             Each end finds by itself how much of that the path carries",
    ),
    key("kcp.sndwnd", Kind::Window(|d, n| d.config.kcp.sndwnd = n))
        .shown(|c| plain(&c.kcp.sndwnd))
        .says(
            Section::Kcp,
            "32768",
            "16 to 65535 packets",
            "the most packets in flight, for one connection. This is a bound: the rate \
             decides how much is sent",
        ),
    key("kcp.rcvwnd", Kind::Window(|d, n| d.config.kcp.rcvwnd = n))
        .shown(|c| plain(&c.kcp.rcvwnd))
        .says(
            Section::Kcp,
            "32768",
            "16 to 65535 packets; less than 128 counts as 128",
            "the most packets kept for one connection while an earlier packet is missing \
             or the program does not read. This is a bound: a connection begins with 1024 \
             and gets more if it is read faster. Lower it where memory is short",
        ),
    integer("kcp.nodelay", 0, 2, "", |d, n| {
        d.config.kcp.nodelay = n as u8
    })
    .shown(|c| plain(&c.kcp.nodelay))
    .says(
        Section::Kcp,
        "1",
        "",
        "as in KCP. Only used without rate control",
    ),
    integer("kcp.interval", 10, 500, "milliseconds", |d, n| {
        d.config.kcp.interval = n
    })
    .shown(|c| plain(&c.kcp.interval))
    .says(
        Section::Kcp,
        "10",
        "",
        "as in KCP. Only used without rate control",
    ),
    integer("kcp.resend", 0, 100, "packets", |d, n| {
        d.config.kcp.resend = n
    })
    .shown(|c| plain(&c.kcp.resend))
    .says(
        Section::Kcp,
        "2",
        "",
        "as in KCP: retransmit a packet that was skipped by this many \
             acknowledgements; 0: never. Only used without rate control",
    ),
    integer("kcp.nc", 0, 1, "", |d, n| d.config.kcp.nc = n == 1)
        .shown(|c| number(&c.kcp.nc))
        .says(
            Section::Kcp,
            "1",
            "",
            "0: use KCP's own congestion control instead of rate control",
        ),
    integer("kcp.flush", 0, 2, "", |d, n| {
        d.config.kcp.flush = [Flush::Interval, Flush::AfterSend, Flush::AcksToo][n as usize]
    })
    .shown(|c| flush(&c.kcp.flush))
    .says(
        Section::Kcp,
        "1",
        "",
        "when KCP sends: 0 at the interval, 1 also after data is written, 2 \
             acknowledgements at once, too. Only used without rate control",
    ),
    key("tcp.nodelay", Kind::Switch(|d| &mut d.config.tcp.nodelay))
        .shown(|c| plain(&c.tcp.nodelay))
        .live(|old, new| old.tcp.nodelay = new.tcp.nodelay)
        .says(
            Section::Sockets,
            "true",
            "true, false",
            "send small messages at once. Leave it on",
        ),
    key("tcp.keepalive", Kind::Keepalive)
        .shown(|c| plain(&c.tcp.keepalive))
        .live(|old, new| old.tcp.keepalive = new.tcp.keepalive)
        .says(
            Section::Sockets,
            "120",
            "10 to 7200 s; true, which is 120; false",
            "probe a TCP program that has been silent for this long: a program that \
             vanished is noticed a minute later. If data was being sent to it, it is \
             noticed when the system gives up, after some 15 minutes on Linux. false: an \
             idle connection whose program vanished stays open",
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
    integer("tcp.sndbuf", 0, BUFFER_MAX, "bytes", |d, n| {
        d.config.tcp.sndbuf = n
    })
    .shown(|c| plain(&c.tcp.sndbuf))
    .changes(|old, new| buffer(&mut old.tcp.sndbuf, new.tcp.sndbuf))
    .says(
        Section::Sockets,
        "0",
        "",
        "the size of the send buffer; 0: the system's. Leave it",
    ),
    integer("tcp.rcvbuf", 0, BUFFER_MAX, "bytes", |d, n| {
        d.config.tcp.rcvbuf = n
    })
    .shown(|c| plain(&c.tcp.rcvbuf))
    .changes(|old, new| buffer(&mut old.tcp.rcvbuf, new.tcp.rcvbuf))
    .says(
        Section::Sockets,
        "0",
        "",
        "the size of the receive buffer; 0: the system's. Leave it",
    ),
    key("tcp.proxy_protocol", Kind::ProxyProtocol)
        .shown(|c| version(&c.tcp.proxy_protocol))
        .live(|old, new| old.tcp.proxy_protocol = new.tcp.proxy_protocol)
        .says(
            Section::Sockets,
            "\"off\"",
            "\"off\", \"v1\", \"v2\"",
            "at the end with `connect`: send HAProxy's PROXY header to the service first, \
             with the address at the other end of the UDP path. Only for a service that \
             expects it",
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
    integer("udp.sndbuf", 0, BUFFER_MAX, "bytes", |d, n| {
        d.config.udp.sndbuf = n
    })
    .shown(|c| plain(&c.udp.sndbuf))
    .says(
        Section::Sockets,
        "1048576",
        "",
        "the size of the send buffer; 0: the system's. Raise it on fast lines",
    ),
    integer("udp.rcvbuf", 0, BUFFER_MAX, "bytes", |d, n| {
        d.config.udp.rcvbuf = n
    })
    .shown(|c| plain(&c.udp.rcvbuf))
    .says(
        Section::Sockets,
        "4194304",
        "",
        "the size of the receive buffer; 0: the system's. It holds a burst, or what \
             arrives while the processor is busy. If the system allows less, a warning \
             names the sysctl",
    ),
    integer("dscp", 0, 63, "", |d, n| d.config.udp.dscp = n as u8)
        .shown(|c| plain(&c.udp.dscp))
        .says(
            Section::Sockets,
            "0",
            "",
            "mark the UDP packets that this end sends with this DSCP, IPv4 and IPv6, for \
             routers that treat some packets better: 46 is what voice has. Most providers \
             ignore or clear it. Only on Linux",
        ),
    rate("rate.up", |d| &mut d.config.rate.up)
        .shown(|c| optional(&c.rate.up))
        .live(|old, new| old.rate.up = new.rate.up)
        .says(
            Section::Rate,
            "none",
            "",
            "the highest rate at which data is sent to one address; needs rate control. \
             For a provider that throttles or bills",
        ),
    rate("rate.down", |d| &mut d.config.rate.down)
        .shown(|c| optional(&c.rate.down))
        .live(|old, new| old.rate.down = new.rate.down)
        .says(
            Section::Rate,
            "none",
            "",
            "the highest rate at which data from one address is delivered; the other end \
             has to wait",
        ),
    key("rate.control", Kind::OnOff(|d| &mut d.config.rate.control))
        .shown(|c| on_off(&c.rate.control))
        .says(
            Section::Rate,
            "\"on\"",
            "\"on\", \"off\"",
            "find the path's rate and keep to it. Off: plain KCP with the settings in \
             `kcp.*`, which floods the path",
        ),
    integer("timeout", 60, 86400, "seconds", |d, n| d.config.timeout = n)
        .shown(|c| plain(&c.timeout))
        .live(|old, new| old.timeout = new.timeout)
        .says(
            Section::Times,
            "600",
            "",
            "end a session when nothing has been heard of the other end for this long; an \
             end that is alive is asked before that",
        ),
    integer("linger", 5, 600, "seconds", |d, n| d.config.linger = n)
        .shown(|c| plain(&c.linger))
        .live(|old, new| old.linger = new.linger)
        .says(
            Section::Times,
            "30",
            "",
            "how long a session that both ends have closed waits while none of its last \
             data arrives. With `rate.control` off, `timeout` is used instead: KCP waits \
             ever longer between attempts",
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
        "a peer that has sent nothing for this long sends a ping. 0: only when an \
             answer is missing or the network has changed. Lower it where a router \
             forgets its mappings sooner. With `http_listen`, a ping is sent every 4 s",
    ),
    integer("hop", 0, 86400, "seconds", |d, n| d.config.hop = n)
        .shown(|c| plain(&c.hop))
        .says(
            Section::Times,
            "0",
            "",
            "at the end with `udp_connect`: move to another pair of ports after so long: one of this end's \
             ports, and one of those that `udp_connect` names. Connections go on. 0: only when the pair in use fails. \
             It takes a key. This end's ports are those of `udp_bind`, or any free ones without it",
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
        "how long the number of a session that has ended stays known, for late \
             packets; with fresh keys at least 360 s",
    ),
    key("http_listen", Kind::Local(|d| &mut d.config.http_listen))
        .shown(|c| optional(&c.http_listen))
        .says(
            Section::Program,
            "none",
            "port or address",
            "show statistics over HTTP, at a port of this machine (`27281`) or at an \
             address. If it is not set, nothing is shown",
        ),
    key("user", Kind::User).shown(|c| optional(&c.user)).says(
        Section::Program,
        "none",
        "USER[:GROUP]",
        "become this user once the ports are bound; set it if kcptun is started as \
             root",
    ),
    key("log", Kind::Log).shown(|c| optional(&c.log)).says(
        Section::Program,
        "\"stderr\"; with -d \"syslog\"",
        "\"stderr\", \"syslog\", a path with a /",
        "where the log goes. A file is opened again on SIGHUP or `kcptun reload`",
    ),
    key("pidfile", Kind::Path(|d| &mut d.config.pidfile))
        .shown(|c| path(&c.pidfile))
        .says(
            Section::Program,
            "none",
            "a path",
            "a file that holds the process number while kcptun runs, and keeps a second \
             one from starting",
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
            "trace, debug, info, warnings, errors, errors, nothing. At info, the log \
             tells of changes of the path and of connections that failed (ten a minute at \
             most) and, once a minute, sums up the connections that have ended. At debug, \
             it tells of each connection. A file with `kcp_bind` or `kcp_connect` uses \
             another scale",
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
        0 => Err(SYSTEM_SIZE_TAKES_RESTART),
        _ => {
            *old = new;
            Ok(())
        }
    }
}

fn take_connect(old: &mut Config, new: &Config) -> Result<(), &'static str> {
    if old.connect.is_some() != new.connect.is_some() {
        return Err(PRESENCE_TAKES_RESTART);
    }
    old.connect.clone_from(&new.connect);
    Ok(())
}

fn take_method(old: &mut Config, new: &Config) -> Result<(), &'static str> {
    match (&mut old.seal, &new.seal) {
        (Some(old), Some(new)) if old.method.overhead() != new.method.overhead() => {
            Err(OVERHEAD_TAKES_RESTART)
        }
        (Some(old), Some(new)) => {
            old.method = new.method;
            Ok(())
        }
        _ => Err(SEALING_TAKES_RESTART),
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
