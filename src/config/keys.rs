//! Every key of the configuration, in one table: its name, what it may hold, and where that goes.
//! Reading, error messages and suggestions all follow it. What holds between keys is in `check`.

use super::Draft;
use super::address::{Address, Purpose};
use crate::crypto::Method;
use crate::settings::Flush;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A key that can be given.
pub struct Key {
    /// Its full name; what stands before a dot is the object that it is in.
    pub name: &'static str,
    /// Another name: that of kcptun-libev 2.1 and later.
    pub alias: Option<&'static str>,
    pub(super) kind: Kind,
}

type Place<T> = fn(&mut Draft) -> &mut T;

/// What a key may hold, and where that goes.
pub(super) enum Kind {
    Address(Purpose, Place<Option<Address>>),
    Secret(Place<Option<Zeroizing<String>>>),
    Method,
    ServiceId,
    User,
    /// As an address to bind; a port alone is one of this machine for itself.
    Local(Place<Option<Address>>),
    Log,
    Path(Place<Option<PathBuf>>),
    Switch(Place<bool>),
    /// Seconds, or a switch.
    Keepalive,
    ProxyProtocol,
    /// Packets.
    Window(fn(&mut Draft, u16)),
    Loglevel,
    /// "on" or "off".
    OnOff(Place<bool>),
    Integer {
        min: u32,
        max: u32,
        unit: &'static str,
        set: fn(&mut Draft, u32),
    },
    /// An integer, or "auto", which stands for the largest.
    Auto {
        min: u32,
        max: u32,
        unit: &'static str,
        set: fn(&mut Draft, u32),
    },
    Decimal {
        min: f64,
        max: f64,
        unit: &'static str,
        place: Place<Option<f64>>,
    },
}

/// The most that a socket buffer may be: beyond it the kernel's own arithmetic cuts.
const BUFFER: u32 = 1 << 30;

/// The objects that hold keys.
pub const GROUPS: [&str; 4] = ["kcp", "tcp", "udp", "rate"];

pub static KEYS: &[Key] = &[
    address("listen", Purpose::Bind, |d| &mut d.config.listen),
    address("connect", Purpose::Target, |d| &mut d.config.connect),
    Key {
        alias: Some("kcp_bind"),
        ..address("udp_bind", Purpose::Bind, |d| &mut d.config.udp_bind)
    },
    Key {
        alias: Some("kcp_connect"),
        ..address("udp_connect", Purpose::Target, |d| {
            &mut d.config.udp_connect
        })
    },
    address("rendezvous_server", Purpose::Target, |d| {
        &mut d.config.rendezvous_server
    }),
    key("service_id", Kind::ServiceId),
    key("psk", Kind::Secret(|d| &mut d.psk)),
    key("password", Kind::Secret(|d| &mut d.password)),
    key("method", Kind::Method),
    key(
        "kcp.mtu",
        Kind::Auto {
            min: 300,
            max: 1500,
            unit: "bytes",
            set: |d, n| d.config.kcp.mtu = n as u16,
        },
    ),
    key("kcp.sndwnd", Kind::Window(|d, n| d.config.kcp.sndwnd = n)),
    key("kcp.rcvwnd", Kind::Window(|d, n| d.config.kcp.rcvwnd = n)),
    integer("kcp.nodelay", 0, 2, "", |d, n| {
        d.config.kcp.nodelay = n as u8
    }),
    integer("kcp.interval", 10, 500, "milliseconds", |d, n| {
        d.config.kcp.interval = n
    }),
    integer("kcp.resend", 0, 100, "packets", |d, n| {
        d.config.kcp.resend = n
    }),
    integer("kcp.nc", 0, 1, "", |d, n| d.config.kcp.nc = n == 1),
    integer("kcp.flush", 0, 2, "", |d, n| {
        d.config.kcp.flush = [Flush::Interval, Flush::AfterSend, Flush::AcksToo][n as usize]
    }),
    key("tcp.nodelay", Kind::Switch(|d| &mut d.config.tcp.nodelay)),
    key("tcp.keepalive", Kind::Keepalive),
    key(
        "tcp.reuseport",
        Kind::Switch(|d| &mut d.config.tcp.reuseport),
    ),
    integer("tcp.sndbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.tcp.sndbuf = n
    }),
    integer("tcp.rcvbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.tcp.rcvbuf = n
    }),
    key("tcp.proxy_protocol", Kind::ProxyProtocol),
    key(
        "udp.reuseport",
        Kind::Switch(|d| &mut d.config.udp.reuseport),
    ),
    integer("udp.sndbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.udp.sndbuf = n
    }),
    integer("udp.rcvbuf", 0, BUFFER, "bytes", |d, n| {
        d.config.udp.rcvbuf = n
    }),
    rate("rate.up", |d| &mut d.config.rate.up),
    rate("rate.down", |d| &mut d.config.rate.down),
    key("rate.control", Kind::OnOff(|d| &mut d.config.rate.control)),
    integer("timeout", 60, 86400, "seconds", |d, n| d.config.timeout = n),
    integer("linger", 5, 600, "seconds", |d, n| d.config.linger = n),
    integer("keepalive", 0, 600, "seconds", |d, n| {
        d.config.keepalive = n
    }),
    integer("time_wait", 5, 3600, "seconds", |d, n| {
        d.config.time_wait = n
    }),
    key("http_listen", Kind::Local(|d| &mut d.config.http_listen)),
    key("user", Kind::User),
    key("log", Kind::Log),
    key("pidfile", Kind::Path(|d| &mut d.config.pidfile)),
    key("loglevel", Kind::Loglevel),
];

const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        alias: None,
        kind,
    }
}

const fn address(name: &'static str, purpose: Purpose, place: Place<Option<Address>>) -> Key {
    key(name, Kind::Address(purpose, place))
}

const fn integer(
    name: &'static str,
    min: u32,
    max: u32,
    unit: &'static str,
    set: fn(&mut Draft, u32),
) -> Key {
    key(
        name,
        Kind::Integer {
            min,
            max,
            unit,
            set,
        },
    )
}

const fn rate(name: &'static str, place: Place<Option<f64>>) -> Key {
    key(
        name,
        Kind::Decimal {
            min: 0.1,
            max: 100_000.0,
            unit: "Mbit/s",
            place,
        },
    )
}

/// The names of all methods, for messages.
pub fn method_names() -> String {
    Method::ALL.map(Method::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

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
