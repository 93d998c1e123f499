//! The systemd units for who has the program alone: those of `examples/systemd/`, which `kcptun help` prints as they are.

/// The names of the units.
pub const UNITS: [&str; 2] = ["kcptun-server.service", "kcptun-peer.service"];

/// The one for the server's end.
const SERVER: &str = include_str!("../../examples/systemd/kcptun-server.service");
/// What is said otherwise in the one for the near end. Both differ in names only, and the program holds one.
const AT_PEER: [(&str, &str); 3] = [
    ("beside a service", "near its users"),
    ("server end", "near end"),
    ("server", "peer"),
];

/// The unit of this name.
pub fn unit(name: &str) -> Option<String> {
    match UNITS.iter().position(|unit| *unit == name)? {
        0 => Some(SERVER.into()),
        _ => Some(at_peer()),
    }
}

fn at_peer() -> String {
    let begin = SERVER.to_owned();
    AT_PEER
        .iter()
        .fold(begin, |unit, (there, here)| unit.replace(there, here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_the_file_of_its_name() {
        for name in UNITS {
            let path = format!("examples/systemd/{name}");
            let file = std::fs::read_to_string(path).expect("a unit");
            assert_eq!(unit(name), Some(file), "{name}");
        }
        assert_eq!(unit("kcptun.service"), None);
    }
}
