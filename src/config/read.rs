//! Reads a configuration by the table of `keys`, and says what would be right where a value is wrong. What must hold between
//! keys is in `check`.

use super::address::{self, Address, Purpose};
use super::json::{Value, quoted};
use super::key::{Key, Kind};
use super::keys::{GROUPS, KEYS, method_names};
use super::suggest;
use super::{Draft, Endpoint, Faults, KEEPALIVE, Log, User};
use crate::crypto::Method;
use crate::message::SERVICE_ID_MAX;
use crate::proxy::Version;
use crate::settings::ForwardSecrecy;
use std::path::{PathBuf, is_separator};
use zeroize::Zeroizing;

/// Our loglevel for each one of kcptun-libev 2.1 and later: silence, fatal, error, warning, notice, info, debug, verbose,
/// very verbose.
const LATER_LOGLEVELS: [u8; 9] = [6, 5, 4, 3, 2, 2, 1, 0, 0];
/// The largest window of kcptun-libev, one more than fits into KCP's header.
const LATER_WINDOW: i128 = 65_536;

/// Reads every key of the file into `draft`; each of the faults begins with the key that is wrong.
pub(super) fn read(draft: &mut Draft, file: Value, faults: &mut Faults) {
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

/// Reads an object. `path` is the prefix of its keys: empty, or the object's name and a dot.
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
                    faults.doubtful |= matches!(
                        key.kind,
                        Kind::Address(..) | Kind::Endpoint(..) | Kind::ServiceId
                    );
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
    /// Reads the key's value into the draft.
    fn read(&self, draft: &mut Draft, value: Value) -> Result<(), String> {
        match &self.kind {
            Kind::Address(purpose, place) => *place(draft) = Some(address_of(&value, *purpose)?),
            Kind::Endpoint(purpose, place) => *place(draft) = Some(endpoint_of(&value, *purpose)?),
            Kind::Local(place) => *place(draft) = Some(local(&value)?),
            Kind::Secret(place) => *place(draft) = Some(secret(value)?),
            Kind::Method => draft.method = Some(method_of(&value)?),
            Kind::ForwardSecrecy => draft.config.forward_secrecy = forward_secrecy_of(&value)?,
            Kind::ServiceId => draft.config.service_id = Some(service_id_of(&value)?),
            Kind::User => draft.config.user = Some(user_of(&value)?),
            Kind::Log => draft.config.log = Some(log_of(&value)?),
            Kind::Path(place) => *place(draft) = Some(path_of(&value)?),
            Kind::Switch(place) => *place(draft) = switch_of(&value)?,
            Kind::ProxyProtocol => draft.config.tcp.proxy_protocol = version_of(&value)?,
            Kind::Window(set) => {
                let window = window_of(&value, draft.is_later)?;
                set(draft, window);
            }
            Kind::Loglevel => read_loglevel(draft, &value)?,
            Kind::Keepalive => draft.config.tcp.keepalive = keepalive_of(&value)?,
            Kind::OnOff(place) => *place(draft) = on_off_of(&value)?,
            Kind::Integer {
                min,
                max,
                unit,
                set,
            } => set(draft, integer_of(&value, *min, *max, unit)?),
            Kind::Auto {
                min,
                max,
                unit,
                set,
            } => set(draft, auto_of(&value, *min, *max, unit)?),
            Kind::Decimal {
                min,
                max,
                unit,
                place,
            } => *place(draft) = Some(decimal_of(&value, *min, *max, unit)?),
        }
        Ok(())
    }
}

fn address_of(value: &Value, purpose: Purpose) -> Result<Address, String> {
    Address::parse(
        address_text(value, |port| address::example(port, purpose))?,
        purpose,
    )
}

fn endpoint_of(value: &Value, purpose: Purpose) -> Result<Endpoint, String> {
    Endpoint::parse(
        address_text(value, |port| address::example_of_end(port, purpose))?,
        purpose,
    )
}

/// `example`: how to write the address if only its port was given.
fn address_text(value: &Value, example: impl Fn(i128) -> String) -> Result<&str, String> {
    if let Value::Integer(port @ 1..=65_535) = value {
        let right = example(*port);
        return Err(format!(
            "{port} is a number, and a port alone; write {right}"
        ));
    }
    text(value, "it must be host:port")
}

fn method_of(value: &Value) -> Result<Method, String> {
    let right = format!("it must be one of {}", method_names());
    let method = text(value, &right)?.parse();
    method.map_err(|()| format!("{value} is not a method; {right}"))
}

fn forward_secrecy_of(value: &Value) -> Result<ForwardSecrecy, String> {
    let right = "it must be \"auto\", \"require\" or \"off\"";
    let name = text(value, right)?;
    let known = ForwardSecrecy::ALL
        .into_iter()
        .find(|known| known.name() == name);
    known.ok_or_else(|| format!("{value} is not one of its values; {right}"))
}

fn service_id_of(value: &Value) -> Result<String, String> {
    let right = format!("it must be text of 1 to {SERVICE_ID_MAX} bytes");
    let id = text(value, &right)?;
    match (1..=SERVICE_ID_MAX).contains(&id.len()) && !id.contains(char::is_control) {
        true => Ok(id.to_owned()),
        false => Err(format!("{} is not a service id; {right}", quoted(id))),
    }
}

fn user_of(value: &Value) -> Result<User, String> {
    let text = text(value, "it must be USER or USER:GROUP")?;
    let user = text.parse();
    user.map_err(|right| format!("{} is not a user; {right}", quoted(text)))
}

fn log_of(value: &Value) -> Result<Log, String> {
    let right = "it must be \"stderr\", \"syslog\" or the path of a file";
    let text = text(value, right)?;
    let log = text.parse();
    log.map_err(|right| format!("{} is not a log; {right}", quoted(text)))
}

fn path_of(value: &Value) -> Result<PathBuf, String> {
    let right = "it must be the path of a file";
    match text(value, right)? {
        path if path.is_empty() || path.ends_with(is_separator) || path.contains('\0') => {
            Err(format!("{} is not a file; {right}", quoted(path)))
        }
        path => Ok(path.into()),
    }
}

fn switch_of(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(on) => Ok(*on),
        other => Err(format!(
            "{other} is not a switch; it must be true or false{}",
            no_quotes(other)
        )),
    }
}

fn on_off_of(value: &Value) -> Result<bool, String> {
    let right = "it must be \"on\" or \"off\"";
    match text(value, right)? {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{value} is not a switch; {right}")),
    }
}

fn version_of(value: &Value) -> Result<Option<Version>, String> {
    let right = "it must be \"off\", \"v1\" or \"v2\"";
    match text(value, right)? {
        "off" => Ok(None),
        "v1" => Ok(Some(Version::V1)),
        "v2" => Ok(Some(Version::V2)),
        _ => Err(format!("{value} is not a version; {right}")),
    }
}

/// `is_later`: the file is one of kcptun-libev 2.1 or later.
fn window_of(value: &Value, is_later: bool) -> Result<u16, String> {
    let most = u16::MAX;
    let n = match value {
        Value::Integer(LATER_WINDOW) if is_later => most.into(),
        value => integer_of(value, 16, most.into(), "packets")?,
    };
    Ok(u16::try_from(n).unwrap_or(most))
}

/// Seconds; 0: never.
fn keepalive_of(value: &Value) -> Result<u32, String> {
    match value {
        Value::Bool(on) => Ok(KEEPALIVE * u32::from(*on)),
        other => integer_of(other, 10, 7200, "seconds")
            .map_err(|error| format!("{error}, or true or false")),
    }
}

fn auto_of(value: &Value, min: u32, max: u32, unit: &str) -> Result<u32, String> {
    match value {
        Value::Text(text) if **text == "auto" => Ok(max),
        value => integer_of(value, min, max, unit).map_err(|error| format!("{error}, or \"auto\"")),
    }
}

/// Reads `loglevel`. kcptun-libev reversed its scale when it renamed two of its keys.
fn read_loglevel(draft: &mut Draft, value: &Value) -> Result<(), String> {
    if !draft.is_later {
        let n = integer_of(value, 0, 6, "0 says most, 6 nothing")?;
        draft.config.loglevel = n as u8;
        return Ok(());
    }
    let unit = "0 says nothing, 8 most, as in kcptun-libev 2.1 and later: the file has kcp_bind or kcp_connect";
    let n = integer_of(value, 0, 8, unit)?;
    draft.config.loglevel = LATER_LOGLEVELS[n as usize];
    draft.config.later_loglevel = Some(n as u8);
    Ok(())
}

/// Reads `http_listen`. A port alone is one of the loopback interface: others see statistics only if an address says so.
fn local(value: &Value) -> Result<Address, String> {
    let loopback = |port: &str| Address::parse(&format!("127.0.0.1:{port}"), Purpose::Bind);
    match value {
        Value::Integer(port) => loopback(&port.to_string())
            .map_err(|_| format!("{value} is not a port; it must be 1 to 65535, or host:port")),
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

fn text<'a>(value: &'a Value, right: &str) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Null => Err(format!("null is not text; {right}, or leave the key out")),
        other => Err(format!("{other} is not text in quotes; {right}")),
    }
}

/// Reads a secret. It is not repeated even if it is wrong: a message may end up in a log or a bug report.
fn secret(value: Value) -> Result<Zeroizing<String>, String> {
    match value {
        Value::Text(text) if text.is_empty() => Err(
            "is empty; kcptun --genpsk makes a key for psk, the same at both ends, and without this key packets are open".into(),
        ),
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
