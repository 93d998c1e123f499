//! How Windows is administered, for instructions to people: its firewall, its services, and what its shells take.

use crate::platform::setup::{Firewall, Opening, Setup, Steps};
use std::path::Path;

/// What is to be known of this machine. `ports`: UDP ports as a configuration writes them.
pub(crate) fn setup(ports: &str) -> Setup {
    Setup {
        firewall: Firewall::Known(Opening {
            name: "that of Windows",
            // a comma parts words in PowerShell
            command: rule("kcptun", &format!("localport={}", shell_quoted(ports))),
            hint: "It takes a terminal of the administrator.",
        }),
        service: |file, _| {
            Some(Steps {
                what: "As a service of Windows instead, from a terminal of the administrator (kcptun.exe must stay where it is):",
                commands: ["install", "start"]
                    .map(|task| format!("kcptun service {task} -c {file}"))
                    .to_vec(),
            })
        },
        users_ports: 0,
        scp_needs: Some(
            "It takes OpenSSH's server here, one of Windows' optional features; or bring the file there as you would any other that is secret.",
        ),
    }
}

/// The command that lets UDP packets in. `what`: `localport=` or `program=`, with a value as the shell takes it.
pub(super) fn rule(name: &str, what: &str) -> String {
    let name = shell_quoted(name);
    format!(
        "netsh advfirewall firewall add rule name={name} dir=in action=allow protocol=UDP {what}"
    )
}

/// A word of a command as cmd and PowerShell take it: in quotation marks if it has to be. A path with the name of a variable in
/// it (%NAME%, $name) is beyond this.
pub(crate) fn shell_quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || r"-_./\:+=~@".contains(c);
    match !text.is_empty() && !text.starts_with('@') && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("\"{text}\""),
    }
}

/// A file as an operand of scp here, which is not to take it for an option. Only a drive has a colon.
pub(crate) fn scp_operand(file: &str) -> String {
    match file.starts_with('-') {
        true => shell_quoted(&format!(r".\{file}")),
        false => shell_quoted(file),
    }
}

/// A file of this machine as scp on another one names it: OpenSSH's server has /C:/ for a drive.
pub(crate) fn scp_path(path: &Path) -> String {
    let path = path.display().to_string().replace('\\', "/");
    match path.as_bytes() {
        [drive, b':', ..] if drive.is_ascii_alphabetic() => format!("/{path}"),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, shown) in [
            (r"C:\kcptun\peer-2.json", r"C:\kcptun\peer-2.json"),
            (
                r"C:\Users\my self\peer.json",
                r#""C:\Users\my self\peer.json""#,
            ),
            ("a(1).json", r#""a(1).json""#),
            ("443,5-9", r#""443,5-9""#),
            ("me@vps:", "me@vps:"),
            ("", r#""""#),
        ] {
            assert_eq!(shell_quoted(path), shown);
        }
        let path = scp_path(Path::new(r"C:\Users\me\peer.json"));
        assert_eq!(path, "/C:/Users/me/peer.json");
    }

    #[test]
    fn the_firewall_and_the_service_are_those_of_windows() {
        let setup = setup("443,5-9");
        let Firewall::Known(opening) = setup.firewall else {
            panic!("there is always one");
        };
        assert!(
            opening
                .command
                .ends_with("protocol=UDP localport=\"443,5-9\"")
        );
        let steps = (setup.service)("peer.json", "peer").expect("there are services");
        assert_eq!(
            steps.commands,
            [
                "kcptun service install -c peer.json",
                "kcptun service start -c peer.json"
            ]
        );
    }
}
