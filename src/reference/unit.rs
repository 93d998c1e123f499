//! The systemd units for those who have only the program: those of `examples/systemd/`, which `kcptun help` prints as they are.

/// The units, each after its name.
pub const UNITS: [(&str, &str); 2] = [
    (
        "kcptun-server.service",
        include_str!("../../examples/systemd/kcptun-server.service"),
    ),
    (
        "kcptun-peer.service",
        include_str!("../../examples/systemd/kcptun-peer.service"),
    ),
];

/// The unit of this name.
pub fn unit(name: &str) -> Option<&'static str> {
    let (_, text) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    Some(text)
}
