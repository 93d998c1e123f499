//! The type of a row in the table of keys (`keys`), how rows are written, and what the reference says by them.

use super::address::{Address, Purpose};
use super::{Config, Draft, Endpoint};
use std::fmt::Display;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A key: a row of the table.
pub struct Key {
    /// Its full name; the part before a dot is the object that it is in.
    pub name: &'static str,
    /// Its name in kcptun-libev 2.1 and later, if that differs.
    pub alias: Option<&'static str>,
    pub(super) kind: Kind,
    /// Its value as a configuration would write it.
    pub(super) shown: fn(&Config) -> String,
    pub(super) reload: Reload,
    /// Where the reference has it.
    pub section: Section,
    /// Its default, as a configuration would write it.
    pub default: &'static str,
    range: &'static str,
    /// What it does, and when to touch it; names of keys and values stand in backquotes.
    pub meaning: &'static str,
}

/// Where the reference has a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// What a tunnel needs.
    Needed,
    /// The program itself.
    Program,
    /// Rate control.
    Rate,
    /// KCP's own settings.
    Kcp,
    /// TCP and UDP sockets.
    Sockets,
    /// How long things are kept.
    Times,
}

/// What a reload does with a value that has changed.
pub(super) enum Reload {
    /// It takes effect with the next start.
    Restart,
    /// The first configuration takes the value of the second.
    Live(fn(&mut Config, &Config)),
    /// The same, or an error that says why not.
    Depends(fn(&mut Config, &Config) -> Result<(), &'static str>),
    /// A secret, which is never shown. `change` decides on it together with the other secret.
    Secret,
}

pub(super) type Place<T> = fn(&mut Draft) -> &mut T;

/// What a key may hold, and where that goes.
pub(super) enum Kind {
    Address(Purpose, Place<Option<Address>>),
    /// As an address, with one port or several.
    Endpoint(Purpose, Place<Option<Endpoint>>),
    Secret(Place<Option<Zeroizing<String>>>),
    Method,
    ForwardSecrecy,
    ServiceId,
    User,
    /// As an address to bind; a port alone stands for the loopback interface.
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

pub(super) const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        alias: None,
        kind,
        shown: |_| String::new(),
        reload: Reload::Restart,
        section: Section::Needed,
        default: "",
        range: "",
        meaning: "",
    }
}

pub(super) const fn address(
    name: &'static str,
    purpose: Purpose,
    place: Place<Option<Address>>,
) -> Key {
    key(name, Kind::Address(purpose, place))
}

pub(super) const fn endpoint(
    name: &'static str,
    purpose: Purpose,
    place: Place<Option<Endpoint>>,
) -> Key {
    key(name, Kind::Endpoint(purpose, place))
}

pub(super) const fn integer(
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

pub(super) const fn rate(name: &'static str, place: Place<Option<f64>>) -> Key {
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

impl Key {
    pub(super) const fn also(self, alias: &'static str) -> Key {
        Key {
            alias: Some(alias),
            ..self
        }
    }

    pub(super) const fn shown(self, shown: fn(&Config) -> String) -> Key {
        Key { shown, ..self }
    }

    pub(super) const fn live(self, take: fn(&mut Config, &Config)) -> Key {
        Key {
            reload: Reload::Live(take),
            ..self
        }
    }

    pub(super) const fn changes(
        self,
        take: fn(&mut Config, &Config) -> Result<(), &'static str>,
    ) -> Key {
        Key {
            reload: Reload::Depends(take),
            ..self
        }
    }

    pub(super) const fn secret(self) -> Key {
        Key {
            reload: Reload::Secret,
            ..self
        }
    }

    /// What the reference says. `range` is empty for numbers, whose kind has it.
    pub(super) const fn says(
        self,
        section: Section,
        default: &'static str,
        range: &'static str,
        meaning: &'static str,
    ) -> Key {
        Key {
            section,
            default,
            range,
            meaning,
            ..self
        }
    }

    /// What it may hold, in words.
    pub fn range(&self) -> String {
        let span = |min: &dyn Display, max: &dyn Display, unit: &str| {
            format!("{min} to {max} {unit}").trim_end().to_owned()
        };
        match &self.kind {
            Kind::Integer { min, max, unit, .. } => span(min, max, unit),
            Kind::Decimal { min, max, unit, .. } => span(min, max, unit),
            Kind::Auto { min, max, unit, .. } => {
                format!("{}, or \"auto\"", span(min, max, unit))
            }
            _ => self.range.to_owned(),
        }
    }

    /// What it does, in a sentence without marks.
    pub fn summary(&self) -> String {
        let first = self.meaning.split(". ").next().unwrap_or_default();
        let plain = first.replace('`', "");
        let mut letters = plain.chars();
        let capital = letters.next().map(|first| first.to_uppercase().to_string());
        capital.unwrap_or_default() + letters.as_str()
    }

    /// Whether a reload takes any other value.
    pub fn is_live(&self) -> bool {
        matches!(self.reload, Reload::Live(_))
    }

    /// What a reload does with a value that has changed.
    pub fn on_reload(&self) -> &'static str {
        match self.reload {
            Reload::Restart => "takes a restart",
            Reload::Live(_) => "applied by a reload",
            Reload::Depends(_) | Reload::Secret => "applied by a reload, within limits",
        }
    }
}
