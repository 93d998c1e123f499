//! Every key of the configuration, in one table: its name, what it may hold, and where that goes.
//! Reading, error messages and suggestions all follow it. What holds between keys is in `check`.

use super::address::{self, Address, Purpose};
use super::json::{Value, quoted};
use super::suggest;
use super::{Draft, Faults, KEEPALIVE};
use crate::crypto::Method;
use crate::message::SERVICE_ID_MAX;
use crate::proxy::Version;
use crate::settings::Flush;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A key that can be given.
pub struct Key {
    /// Its full name; what stands before a dot is the object that it is in.
    pub name: &'static str,
    /// Another name: that of kcptun-libev 2.1 and later.
    pub alias: Option<&'static str>,
    kind: Kind,
}

type Place<T> = fn(&mut Draft) -> &mut T;

enum Kind {
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

/// What loglevel is here by its number in kcptun-libev 2.1 and later: silence, fatal, error, warning, notice, info, debug,
/// verbose, very verbose.
const LATER_LEVELS: [u8; 9] = [6, 5, 4, 3, 2, 2, 1, 0, 0];
/// The widest window of kcptun-libev, one more than KCP's header can tell of.
const LATER_WINDOW: i128 = 65_536;

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

/// Reads every key of the file into `draft`; each of the faults begins with the key that is wrong.
pub fn read(draft: &mut Draft, file: Value, faults: &mut Faults) {
    match file {
        Value::Object(entries) => {
            let is_later = |name: &str| KEYS.iter().any(|key| key.alias == Some(name));
            draft.is_later = entries.iter().any(|(name, _)| is_later(name));
            read_object(draft, "", entries, faults);
        }
        other => {
            faults.doubtful = true;
            faults.add(format!(
                "holds {}; it must be an object: {{\"key\": value, ...}}",
                other.kind()
            ));
        }
    }
}

/// `path` is what stands before the names of the keys: nothing, or the object's name and a dot.
fn read_object(draft: &mut Draft, path: &str, entries: Vec<(String, Value)>, faults: &mut Faults) {
    let mut given: Vec<(&str, String)> = Vec::new();
    for (name, value) in entries {
        if name.starts_with("//") {
            continue;
        }
        if faults.are_many() {
            return;
        }
        let full = format!("{path}{name}");
        // A dot in the name itself would look like an object in the full name.
        let known = |known: &str| known == full && !name.contains('.');
        let group = GROUPS.into_iter().find(|group| known(group));
        let key = KEYS
            .iter()
            .find(|key| known(key.name) || key.alias.is_some_and(known));
        let Some(meant) = group.or(key.map(|key| key.name)) else {
            faults.doubtful = true;
            faults.add(suggest::unknown(path, &name));
            continue;
        };
        if let Some((_, earlier)) = given.iter().find(|(earlier, _)| *earlier == meant) {
            faults.add(if *earlier == full {
                format!("{full}: is given twice; keep one of them")
            } else {
                format!(
                    "{full}: is the same key as {earlier}, which is given, too; keep one of them"
                )
            });
            continue;
        }
        given.push((meant, full.clone()));
        match key {
            Some(key) => {
                if let Err(error) = key.read(draft, value) {
                    faults.doubtful |= matches!(key.kind, Kind::Address(..) | Kind::ServiceId);
                    faults.add(format!("{full}: {error}"));
                }
            }
            None => read_group(draft, &full, value, faults),
        }
    }
}

fn read_group(draft: &mut Draft, name: &str, value: Value, faults: &mut Faults) {
    let Value::Object(entries) = value else {
        let path = format!("{name}.");
        let example = KEYS
            .iter()
            .find_map(|key| key.name.strip_prefix(&path))
            .unwrap_or_default();
        return faults.add(format!(
            "{name}: {value} is not an object; write \"{name}\": {{\"{example}\": ...}}"
        ));
    };
    read_object(draft, &format!("{name}."), entries, faults);
}

impl Key {
    fn read(&self, draft: &mut Draft, value: Value) -> Result<(), String> {
        match &self.kind {
            Kind::Address(purpose, place) => {
                if let Value::Integer(port @ 1..=65_535) = &value {
                    let right = address::example(port, *purpose);
                    return Err(format!(
                        "{port} is a number, and a port alone; write {right}"
                    ));
                }
                let text = text(&value, "it must be host:port")?;
                *place(draft) = Some(Address::parse(text, *purpose)?);
            }
            Kind::Local(place) => *place(draft) = Some(local(&value)?),
            Kind::Secret(place) => *place(draft) = Some(secret(value)?),
            Kind::Method => {
                let right = format!("it must be one of {}", method_names());
                let text = text(&value, &right)?;
                let method = text
                    .parse()
                    .map_err(|_| format!("{value} is not a method; {right}"))?;
                draft.method = Some(method);
            }
            Kind::ServiceId => {
                let right = format!("it must be text of 1 to {SERVICE_ID_MAX} bytes");
                let id = text(&value, &right)?;
                if !(1..=SERVICE_ID_MAX).contains(&id.len()) || id.contains(char::is_control) {
                    return Err(format!("{} is not a service id; {right}", quoted(id)));
                }
                draft.config.service_id = Some(id.to_owned());
            }
            Kind::User => {
                let text = text(&value, "it must be USER or USER:GROUP")?;
                let user = text
                    .parse()
                    .map_err(|right| format!("{} is not a user; {right}", quoted(text)))?;
                draft.config.user = Some(user);
            }
            Kind::Log => {
                let right = "it must be \"stderr\", \"syslog\" or the path of a file";
                let text = text(&value, right)?;
                let log = text
                    .parse()
                    .map_err(|right| format!("{} is no log; {right}", quoted(text)))?;
                draft.config.log = Some(log);
            }
            Kind::Path(place) => {
                let right = "it must be the path of a file";
                match text(&value, right)? {
                    path if path.is_empty() || path.ends_with('/') || path.contains('\0') => {
                        return Err(format!("{} is no file; {right}", quoted(path)));
                    }
                    path => *place(draft) = Some(path.into()),
                }
            }
            Kind::Switch(place) => match value {
                Value::Bool(on) => *place(draft) = on,
                other => {
                    return Err(format!(
                        "{other} is not a switch; it must be true or false{}",
                        no_quotes(&other)
                    ));
                }
            },
            Kind::ProxyProtocol => {
                let right = "it must be \"off\", \"v1\" or \"v2\"";
                draft.config.tcp.proxy_protocol = match text(&value, right)? {
                    "off" => None,
                    "v1" => Some(Version::V1),
                    "v2" => Some(Version::V2),
                    _ => return Err(format!("{value} is not a version; {right}")),
                };
            }
            Kind::Window(set) => {
                let most = u16::MAX;
                let n = match value {
                    Value::Integer(LATER_WINDOW) if draft.is_later => most.into(),
                    value => integer_of(&value, 16, most.into(), "packets")?,
                };
                set(draft, u16::try_from(n).unwrap_or(most));
            }
            Kind::Loglevel => read_loglevel(draft, &value)?,
            Kind::Keepalive => {
                let place = &mut draft.config.tcp.keepalive;
                *place = match value {
                    Value::Bool(on) => KEEPALIVE * u32::from(on),
                    other => integer_of(&other, 10, 7200, "seconds")
                        .map_err(|error| format!("{error}, or true or false"))?,
                };
            }
            Kind::OnOff(place) => {
                let right = "it must be \"on\" or \"off\"";
                *place(draft) = match text(&value, right)? {
                    "on" => true,
                    "off" => false,
                    _ => return Err(format!("{value} is not a switch; {right}")),
                };
            }
            Kind::Integer {
                min,
                max,
                unit,
                set,
            } => set(draft, integer_of(&value, *min, *max, unit)?),
            Kind::Auto { max, set, .. } if matches!(&value, Value::Text(t) if **t == "auto") => {
                set(draft, *max);
            }
            Kind::Auto {
                min,
                max,
                unit,
                set,
            } => {
                let or_auto = |error| format!("{error}, or \"auto\"");
                set(
                    draft,
                    integer_of(&value, *min, *max, unit).map_err(or_auto)?,
                );
            }
            Kind::Decimal {
                min,
                max,
                unit,
                place,
            } => {
                *place(draft) = Some(decimal_of(&value, *min, *max, unit)?);
            }
        }
        Ok(())
    }
}

/// kcptun-libev has turned its scale around when it called two of its keys otherwise.
fn read_loglevel(draft: &mut Draft, value: &Value) -> Result<(), String> {
    if !draft.is_later {
        let n = integer_of(value, 0, 6, "0 says most, 6 nothing")?;
        draft.config.loglevel = n as u8;
        return Ok(());
    }
    let unit = "0 says nothing, 8 most, as in kcptun-libev 2.1 and later: the file has kcp_bind or kcp_connect";
    let n = integer_of(value, 0, 8, unit)?;
    draft.config.loglevel = LATER_LEVELS[n as usize];
    draft.config.later_loglevel = Some(n as u8);
    Ok(())
}

/// Where statistics are shown is nobody else's affair unless that is said: a port alone is one of the loopback interface.
fn local(value: &Value) -> Result<Address, String> {
    let loopback = |port: &str| Address::parse(&format!("127.0.0.1:{port}"), Purpose::Bind);
    match value {
        Value::Integer(port) => loopback(&port.to_string())
            .map_err(|_| format!("{value} is no port; it must be 1 to 65535, or host:port")),
        other => {
            let text = text(other, "it must be host:port, or a port")?;
            match text.strip_prefix(':').unwrap_or(text) {
                port if port.bytes().all(|b| b.is_ascii_digit()) => loopback(port)
                    .map_err(|_| format!("{value} has no valid port; it must be 1 to 65535")),
                _ => Address::parse(text, Purpose::Bind),
            }
        }
    }
}

/// The names of all methods, for messages.
pub fn method_names() -> String {
    Method::ALL.map(Method::name).join(", ")
}

fn text<'a>(value: &'a Value, right: &str) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Null => Err(format!("null is not text; {right}, or leave the key out")),
        other => Err(format!("{other} is not text in quotes; {right}")),
    }
}

/// A secret is not repeated even where it is wrong: a message may end up in a log or a bug report.
fn secret(value: Value) -> Result<Zeroizing<String>, String> {
    match value {
        Value::Text(text) if text.is_empty() => {
            Err("is empty; it must have at least one character, or leave the key out".into())
        }
        Value::Text(text) => Ok(text),
        other => Err(format!("holds {}; it must be text in quotes", other.kind())),
    }
}

fn integer_of(value: &Value, min: u32, max: u32, unit: &str) -> Result<u32, String> {
    let right = range(min, max, unit);
    match value {
        Value::Integer(n) => match u32::try_from(*n) {
            Ok(n) if (min..=max).contains(&n) => Ok(n),
            _ => Err(format!("{n} is out of range; {right}")),
        },
        // JSON text with more digits than an integer has room for arrives as a float.
        Value::Float(x) if x.fract() == 0.0 && x.abs() >= 2f64.powi(63) => {
            Err(format!("{value} is out of range; {right}"))
        }
        Value::Float(_) => Err(format!("{value} is not an integer; {right}")),
        other => Err(not_a_number(other, &right)),
    }
}

fn decimal_of(value: &Value, min: f64, max: f64, unit: &str) -> Result<f64, String> {
    let right = range(min, max, unit);
    let number = match value {
        Value::Integer(n) => *n as f64,
        Value::Float(x) => *x,
        other => return Err(not_a_number(other, &right)),
    };
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{value} is out of range; {right}"))
    }
}

fn not_a_number(value: &Value, right: &str) -> String {
    match value {
        Value::Null => format!("null is not a number; {right}, or leave the key out"),
        other => format!("{other} is not a number; {right}{}", no_quotes(other)),
    }
}

fn no_quotes(value: &Value) -> &'static str {
    if matches!(value, Value::Text(_)) {
        ", without quotes"
    } else {
        ""
    }
}

fn range<T: std::fmt::Display>(min: T, max: T, unit: &str) -> String {
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" ({unit})")
    };
    format!("it must be {min} to {max}{unit}")
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
