//! What must hold between the keys: addresses that make sense together, and the key that seals. The range of each key is in
//! `keys`.

use super::address::Address;
use super::{
    Config, DEFAULT_METHOD, Draft, Endpoint, Faults, KeySource, Log, SHIPPED_PASSWORD, Seal,
};
use crate::crypto::{Key, KeyError};
use crate::platform::instead;
use crate::settings::ForwardSecrecy;
use std::net::IpAddr;

/// Completes a draft, unless something is wrong; each of the faults begins with the key that is wrong.
pub(super) fn finish(draft: Draft, mut faults: Faults) -> Result<Config, Faults> {
    if !faults.doubtful {
        faults.lines.extend(address_errors(&draft.config));
        faults.lines.extend(check_families(&draft.config).err());
        faults.lines.extend(lacking_here(&draft.config));
    }
    let mut warnings = Vec::new();
    let seal = choose_key(&draft, &mut warnings);
    faults.lines.extend(seal.as_ref().err().cloned());
    // a key that is wrong is a key that was meant
    let is_sealed = !matches!(seal, Ok(None));
    let mut config = draft.config;
    config.seal = seal.ok().flatten();
    if !faults.doubtful {
        warn(&config, is_sealed, &mut warnings);
    }
    if faults.lines.is_empty() {
        config.warnings = warnings;
        return Ok(config);
    }
    if !faults.doubtful {
        faults.warnings = warnings;
    }
    Err(faults)
}

/// Adds what is allowed but perhaps not meant. `is_sealed`: there is a key, or was to be one.
fn warn(config: &Config, is_sealed: bool, warnings: &mut Vec<String>) {
    let found_there = config.rendezvous_server.is_some();
    if config.connect.is_some() && config.udp_bind.is_none() && !found_there {
        warnings.push(
            "connect: without udp_bind the port changes with every start, so that the other end can hardly open sessions to this one"
                .into(),
        );
    }
    if let Some(listen) = config.http_listen.as_ref().filter(|a| !is_loopback(a)) {
        warnings.push(format!(
            "http_listen: anybody who reaches {listen} sees addresses and sessions, without a password or encryption"
        ));
    }
    if config.rate.up.is_some() && !config.is_paced() {
        let off = match config.rate.control {
            true => "kcp.nc is 0",
            false => "rate.control is off",
        };
        warnings.push(format!(
            "rate.up: has no effect without rate control, and {off}"
        ));
    }
    if config.forward_secrecy == ForwardSecrecy::Require && !is_sealed {
        warnings.push(
            "forward_secrecy: has no effect without psk or password: packets are open".into(),
        );
    }
    if config.tcp.proxy_protocol.is_some() && config.connect.is_none() {
        warnings.push(
            "tcp.proxy_protocol: has no effect without connect: it belongs at the end of the service"
                .into(),
        );
    }
    if config.hop > 0 && config.udp_connect.is_none() {
        warnings.push(
            "hop: has no effect without udp_connect: it belongs at the end that sends first".into(),
        );
    } else if config.hop > 0 && !is_sealed {
        warnings.push("hop: has no effect without a key: nothing follows an address then".into());
    }
    if let Some(instead) = instead::OF_DSCP.filter(|_| config.udp.dscp > 0) {
        warnings.push(format!("dscp: has no effect on this system{instead}"));
    }
    warnings.extend(placeholders(config));
}

/// Keys that this system has nothing for, each with what to use instead.
fn lacking_here(config: &Config) -> Vec<String> {
    let syslog = config.log == Some(Log::Syslog);
    let keys = [
        ("user", config.user.is_some(), instead::OF_USER),
        ("log", syslog, instead::OF_SYSLOG),
        ("tcp.reuseport", config.tcp.reuseport, instead::OF_REUSEPORT),
        ("udp.reuseport", config.udp.reuseport, instead::OF_REUSEPORT),
    ];
    let lacking = keys.into_iter().filter_map(|(key, is_set, instead)| {
        let instead = instead.filter(|_| is_set)?;
        Some(format!("{key}: {instead}"))
    });
    lacking.collect()
}

/// Endings of names that are reserved for examples (RFC 2606) and never resolve to one's own server.
const PLACEHOLDERS: [&str; 5] = [
    "example.net",
    "example.com",
    "example.org",
    "example",
    "invalid",
];

/// Warnings about placeholders of names that nobody has replaced yet.
fn placeholders(config: &Config) -> Vec<String> {
    let host = |address: &Option<Address>| address.as_ref()?.host.clone();
    let other = config.udp_connect.as_ref();
    let places = [
        ("connect", host(&config.connect)),
        ("udp_connect", other.and_then(|other| other.host.clone())),
        ("rendezvous_server", host(&config.rendezvous_server)),
    ];
    let named = places.into_iter().filter_map(|(key, host)| {
        let host = &host?;
        is_placeholder(host).then(|| {
            format!(
                "{key}: {host} is a placeholder; put the name or address of your own machine there"
            )
        })
    });
    named.collect()
}

fn is_placeholder(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|ending| {
        host.strip_suffix(ending)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether only this machine reaches an address.
pub(super) fn is_loopback(address: &Address) -> bool {
    match address.literal() {
        Some(literal) => literal.ip().to_canonical().is_loopback(),
        None => address.host.as_deref() == Some("localhost"),
    }
}

/// Refuses addresses that can never carry a session.
pub(super) fn check_addresses(config: &Config) -> Result<(), String> {
    address_errors(config)
        .into_iter()
        .next()
        .map_or(Ok(()), Err)
}

fn address_errors(config: &Config) -> Vec<String> {
    let one = |address: &Option<Address>| address.clone().map(Endpoint::from);
    let (listen, bind) = (one(&config.listen), config.udp_bind.clone());
    let found = config.rendezvous_server.is_some() || config.service_id.is_some();
    let mut errors = match found {
        true => rendezvous_errors(config),
        false => missing(config).into_iter().collect(),
    };
    errors.extend(range_error(config));
    let rendezvous = one(&config.rendezvous_server);
    errors.extend(
        [
            same("listen", &listen, "connect", &one(&config.connect)),
            same("listen", &listen, "http_listen", &one(&config.http_listen)),
            same("udp_bind", &bind, "udp_connect", &config.udp_connect),
            same("udp_bind", &bind, "rendezvous_server", &rendezvous),
        ]
        .into_iter()
        .flatten(),
    );
    errors
}

/// What an end without a rendezvous server lacks.
fn missing(config: &Config) -> Option<String> {
    let (listen, connect) = (&config.listen, &config.connect);
    match (listen, connect, &config.udp_bind, &config.udp_connect) {
        (None, None, None, None) => Some("no address at all; a server needs udp_bind and connect, a peer needs udp_connect and listen".into()),
        // a rendezvous server
        (None, None, Some(_), None) => None,
        (None, None, None, Some(other)) => Some(format!(
            "udp_connect: \"{other}\" alone carries nothing; a peer needs listen, too"
        )),
        (None, None, Some(_), Some(_)) => Some(
            "neither listen nor connect is given; a server needs connect, a peer needs listen"
                .into(),
        ),
        (Some(listen), _, _, None) => Some(format!(
            "listen: \"{listen}\" needs udp_connect, too, the other end to carry to"
        )),
        (None, Some(connect), None, None) => Some(format!(
            "connect: \"{connect}\" needs udp_bind, too, to receive at"
        )),
        _ => None,
    }
}

/// Of an end that is found, or finds the other, by a rendezvous server.
fn rendezvous_errors(config: &Config) -> Vec<String> {
    let Some(server) = &config.rendezvous_server else {
        let right = "needs rendezvous_server, too, by which the other end is found";
        return vec![format!("service_id: {right}")];
    };
    let id = config.service_id.is_none().then(|| {
        format!("rendezvous_server: \"{server}\" needs service_id, too, the same at both ends")
    });
    let other = config.udp_connect.as_ref().map(|other| format!(
        "udp_connect: \"{other}\" is the other end, which rendezvous_server is to find; keep one of the two"
    ));
    let role = match (&config.listen, &config.connect) {
        (None, None) => Some(format!(
            "rendezvous_server: \"{server}\" needs connect at a server, listen at a peer; the rendezvous server itself has udp_bind only"
        )),
        (Some(listen), Some(_)) => Some(format!(
            "listen: \"{listen}\" and connect cannot both be set with rendezvous_server; keep one of the two"
        )),
        _ => None,
    };
    [id, other, role].into_iter().flatten().collect()
}

/// Refuses several ports where the rendezvous server can tell of one only. `udp_connect` does not go with it at all.
fn range_error(config: &Config) -> Option<String> {
    let bind = config.udp_bind.as_ref().filter(|it| it.ports.are_many())?;
    config.rendezvous_server.as_ref()?;
    Some(format!(
        "udp_bind: \"{bind}\" names several ports, and with rendezvous_server the other end is told of one; write \"{}\"",
        bind.first()
    ))
}

/// Refuses an address that is used twice: what is sent to one's own address would return for ever.
fn same(here: &str, a: &Option<Endpoint>, there: &str, b: &Option<Endpoint>) -> Option<String> {
    let (a, b) = (a.as_ref()?, b.as_ref()?);
    if !a.overlaps(b) {
        return None;
    }
    Some(format!(
        "{there}: \"{b}\" is the address of {here}, too; it must be another one"
    ))
}

/// Refuses addresses of different families, which cannot reach each other. Names are left to the resolver.
fn check_families(config: &Config) -> Result<(), String> {
    let ip = |endpoint: Option<&Endpoint>| Some(endpoint?.literal_ip()?.to_canonical());
    let rendezvous = config.rendezvous_server.clone().map(Endpoint::from);
    let (key, other) = match &rendezvous {
        Some(server) => ("rendezvous_server", Some(server)),
        None => ("udp_connect", config.udp_connect.as_ref()),
    };
    let (Some(bind), Some(other)) = (ip(config.udp_bind.as_ref()), ip(other)) else {
        return Ok(());
    };
    let fits = match bind {
        IpAddr::V4(_) => other.is_ipv4(),
        // Every address of IPv6 can include those of IPv4.
        IpAddr::V6(bind) => other.is_ipv6() || bind.is_unspecified(),
    };
    let family = if bind.is_ipv4() { "IPv4" } else { "IPv6" };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{key}: {other} cannot be reached from udp_bind, {bind}; both must be {family}"
        ))
    }
}

/// Refuses to receive from other machines under a password that everybody knows.
fn check_shipped(config: &Config) -> Result<(), String> {
    let bind = config.udp_bind.as_ref();
    let loopback = |endpoint: &&Endpoint| is_loopback(&endpoint.first());
    match bind.filter(|endpoint| !loopback(endpoint)) {
        None => Ok(()),
        Some(bind) => Err(format!(
            "password: is the one that kcptun is shipped with, which everybody knows, and udp_bind, \"{bind}\", receives from other \
             machines; write a psk in its place, which kcptun --genpsk makes"
        )),
    }
}

fn choose_key(draft: &Draft, warnings: &mut Vec<String>) -> Result<Option<Seal>, String> {
    let (key, source) = match (&draft.psk, &draft.password) {
        (Some(psk), password) => {
            if password.is_some() {
                warnings.push(
                    "password: is not used because psk is given, too; remove one of them".into(),
                );
            }
            let key = Key::from_base64(psk).map_err(|error| psk_error(psk, error))?;
            (key, KeySource::Psk)
        }
        (None, Some(password)) => {
            if password.as_str() == SHIPPED_PASSWORD {
                check_shipped(&draft.config)?;
                warnings.push(
                    "password: is the one that kcptun is shipped with, which everybody knows; change it at both ends".into(),
                );
            }
            (Key::from_password(password), KeySource::Password)
        }
        (None, None) => {
            let method = if draft.method.is_some() {
                ", so method has no effect"
            } else {
                ""
            };
            warnings.push(format!(
                "neither psk nor password is given{method}: packets are open, and anybody can read and forge them; \
                 kcptun --genpsk makes a psk"
            ));
            return Ok(None);
        }
    };
    Ok(Some(Seal {
        method: draft.method.unwrap_or(DEFAULT_METHOD),
        key,
        source,
    }))
}

/// Characters of 32 bytes in base64, padding included.
const KEY_CHARACTERS: usize = 44;

/// What stands for a psk in the README, the reference and the examples.
const PSK_PLACEHOLDER: &str = "YOUR KEY";

/// Says what is wrong with a psk, and repeats nothing of it.
fn psk_error(psk: &str, error: KeyError) -> String {
    let right = "it must be 32 bytes in base64, which is 44 characters; copy it again from the other end, or make one for both with kcptun --genpsk";
    if psk.trim() == PSK_PLACEHOLDER {
        return format!(
            "psk: \"{PSK_PLACEHOLDER}\" is a placeholder; kcptun --genpsk makes a key to put there"
        );
    }
    if psk.trim() != psk && Key::from_base64(psk.trim()).is_ok() {
        return "psk: there is a space or a line break before or after the key; remove it".into();
    }
    match error {
        KeyError::NotBase64 => match psk.chars().count() {
            KEY_CHARACTERS => {
                format!("psk: its {KEY_CHARACTERS} characters are not base64; {right}")
            }
            count => format!("psk: has {count} characters instead of {KEY_CHARACTERS}; {right}"),
        },
        KeyError::Length(length) => format!("psk: holds {length} bytes; {right}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_psk_is_not_repeated() {
        let right = "it must be 32 bytes in base64, which is 44 characters; copy it again from the other end, or make one for both with kcptun --genpsk";
        assert_eq!(
            psk_error("hünter2", KeyError::NotBase64),
            format!("psk: has 7 characters instead of 44; {right}")
        );
        assert_eq!(
            psk_error(&"!".repeat(44), KeyError::NotBase64),
            format!("psk: its 44 characters are not base64; {right}")
        );
        assert_eq!(
            psk_error("aHVudGVyMg==", KeyError::Length(7)),
            format!("psk: holds 7 bytes; {right}")
        );
    }
}
