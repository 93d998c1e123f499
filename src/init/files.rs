//! What the two files say. Their comments are the first sentences of the table of keys.

use super::plan::Plan;
use crate::config::{DEFAULT_METHOD, KEYS};
use crate::crypto::{Key, Method};
use zeroize::Zeroizing;

/// Room for a whole file: growing would leave a part of the key behind in memory.
const ROOM: usize = 8 * 1024;

/// The ports that are suggested for `http_listen` at each end.
const SERVER_STATISTICS: u16 = 27281;
const PEER_STATISTICS: u16 = 27282;

/// A file while it is written.
struct File {
    text: Zeroizing<String>,
}

impl File {
    /// `what`: what it is for; `name`: its own.
    fn new(what: &str, name: &str) -> File {
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        text.push_str("{\n");
        let mut file = File { text };
        file.comment("what", what);
        let run = format!("kcptun -c {name}, and what it would do: kcptun --check -c {name}");
        file.comment("use it", &run);
        let keys = "The keys and their meanings, and all others: kcptun help keys";
        file.comment("keys", keys);
        file
    }

    /// Addresses, names, base64 and our own words have nothing to escape.
    fn line(&mut self, name: &str, value: &str) {
        for part in ["    \"", name, "\": \"", value, "\",\n"] {
            self.text.push_str(part);
        }
    }

    fn comment(&mut self, name: &str, text: &str) {
        self.line(&format!("// {name}"), text);
    }

    /// A key with what the reference says of it.
    fn key(&mut self, name: &str, value: &str) {
        self.text.push('\n');
        let known = KEYS.iter().find(|key| key.name == name);
        if let Some(key) = known {
            self.comment(name, &key.summary());
        }
        self.line(name, value);
    }

    fn seal(&mut self, method: Method, key: &Key) {
        if method != DEFAULT_METHOD {
            self.key("method", method.name());
        }
        self.key("psk", &Zeroizing::new(key.to_base64()));
    }

    /// `port`: for statistics. Each end has its own, since both may be on one machine.
    fn finish(mut self, port: u16) -> Zeroizing<String> {
        let line = format!(
            "\n    \"// http_listen\": \"For kcptun stats, add the key http_listen with a free port, for instance {port}\"\n}}\n"
        );
        self.text.push_str(&line);
        self.text
    }
}

/// The server's file.
pub(super) fn server(plan: &Plan, name: &str, key: &Key) -> Zeroizing<String> {
    let what =
        "The server's end of a tunnel: what comes from the other end is carried to a TCP service";
    let mut file = File::new(what, name);
    file.key("udp_bind", &plan.udp_bind().to_string());
    file.key("connect", &plan.connect.to_string());
    file.seal(DEFAULT_METHOD, key);
    file.finish(SERVER_STATISTICS)
}

/// A peer's file.
pub(super) fn peer(plan: &Plan, name: &str, (method, key): (Method, &Key)) -> Zeroizing<String> {
    let what =
        "The near end of a tunnel: TCP connections are accepted here and carried to the server";
    let mut file = File::new(what, name);
    file.key("listen", &plan.listen.to_string());
    file.key("udp_connect", &plan.server.at.to_string());
    file.seal(method, key);
    file.finish(PEER_STATISTICS)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Server;
    use super::*;
    use crate::config::{Address, Config, Purpose, Role};

    fn plan(server: &str) -> Plan {
        Plan {
            server: Server::parse(server, None).expect("a server"),
            connect: Address::parse("127.0.0.1:22", Purpose::Target).expect("right"),
            listen: Address::parse("127.0.0.1:2222", Purpose::Bind).expect("right"),
        }
    }

    #[test]
    fn both_files_are_right_and_fit_each_other() {
        for at in ["192.0.2.1", "[2001:db8::1]:5-9", "vps:443,27290-27299"] {
            let (plan, key) = (plan(at), Key::generate());
            let read = |text: &str| {
                let config = Config::parse("t.json", text).expect("right");
                assert_eq!(config.warnings, [""; 0], "{at}");
                config
            };
            let one = read(&server(&plan, "server.json", &key));
            let other = read(&peer(&plan, "peer.json", (Method::Aes256Gcm, &key)));
            assert_eq!((one.role(), other.role()), (Role::Server, Role::Peer));
            let ports = |endpoint: &Option<crate::config::Endpoint>| {
                endpoint.as_ref().map(|endpoint| endpoint.ports.clone())
            };
            assert_eq!(ports(&one.udp_bind), ports(&other.udp_connect));
            let seals = [one, other].map(|config| config.seal.expect("a key"));
            assert!(seals.iter().all(|seal| seal.key == key));
            assert_eq!(
                seals.map(|seal| seal.method),
                [DEFAULT_METHOD, Method::Aes256Gcm]
            );
        }
    }

    #[test]
    fn each_key_is_explained_on_the_line_before_it() {
        let text = server(&plan("vps"), "server.json", &Key::generate());
        let lines: Vec<&str> = text.lines().collect();
        for name in ["udp_bind", "connect", "psk"] {
            let begins = format!("    \"{name}\": ");
            let at = lines.iter().position(|line| line.starts_with(&begins));
            let before = lines[at.expect(name) - 1];
            assert!(
                before.starts_with(&format!("    \"// {name}\": \"")),
                "{before}"
            );
            assert!(before.len() > 40 && !before.contains('`'), "{before}");
        }
        assert!(lines.len() < 30 && text.len() < ROOM / 2);
    }
}
