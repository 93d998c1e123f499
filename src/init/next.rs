//! What is to be done once the files are written, on each machine and in order: the text that `kcptun init` ends with.

use super::plan::{Plan, Server};
use crate::event::place::Place;
use crate::platform::{Elsewhere, Firewall, Opening, Setup, scp_operand, shell_quoted};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

/// Stands for a user or a machine whose name is not known here.
const USER: &str = "USER";

/// What is often written behind a host and a user.
const SSH_PORT: u16 = 22;

/// What is known of this machine and of the files in it.
pub(super) struct Here {
    /// Where the server is, as seen from here.
    pub server: Place,
    /// How this machine is administered.
    pub setup: Setup,
    /// How one is that is not this machine.
    pub elsewhere: Elsewhere,
    /// The server's file, as a command here names it.
    pub server_file: String,
    /// The peer's file, as a command here names it.
    pub peer_file: String,
    /// The peer's file with its whole path.
    pub peer_path: String,
    /// What the configurations are warned of.
    pub warnings: Vec<String>,
}

impl Here {
    fn is_server(&self) -> bool {
        self.server == Place::Here
    }

    /// The first port that any user may bind, on this machine or on another.
    fn users_ports(&self, is_here: bool) -> u16 {
        match is_here {
            true => self.setup.users_ports,
            false => self.elsewhere.users_ports,
        }
    }
}

/// Text with numbered steps.
#[derive(Default)]
struct Guide {
    text: String,
    steps: u32,
}

impl Guide {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn machine(&mut self, name: &str) {
        let _ = writeln!(self.text, "\n{name}:\n");
    }

    fn step(&mut self, what: &str) {
        self.steps += 1;
        let _ = writeln!(self.text, "{:>2}. {what}", self.steps);
    }

    fn more(&mut self, what: &str) {
        let _ = writeln!(self.text, "    {what}");
    }

    fn command(&mut self, command: &str) {
        let _ = writeln!(self.text, "        {command}");
    }
}

/// What to do after a new tunnel's files were written.
pub(super) fn new_tunnel(plan: &Plan, here: &Here) -> String {
    let mut guide = Guide::default();
    let (server, peer) = (&here.server_file, &here.peer_file);
    guide.line(&format!(
        "Wrote {server} and {peer}. Both hold the key: whoever has it can use the tunnel."
    ));
    troubles(&mut guide, plan, here);
    if plan.server.is_this_machine() {
        guide.machine("On this machine, to try it");
        guide.step("Start the server's end:");
        guide.command(&format!("kcptun -c {}", shell_quoted(server)));
        near_end(&mut guide, plan, here, true);
        return guide.text;
    }
    guide.machine(&format!("On the server, {}", plan.server.host()));
    bring(&mut guide, plan, here);
    open_ports(&mut guide, plan, here);
    let there = match here.is_server() {
        true => server,
        false => base(server),
    };
    guide.step("Start it there:");
    guide.command(&format!("kcptun -c {}", shell_quoted(there)));
    let users_ports = here.users_ports(here.is_server());
    let is_low = plan.server.at.ports.iter().any(|port| port < users_ports);
    if is_low {
        guide.more(&low_port(users_ports));
    }
    if service(&mut guide, here, here.is_server(), [there, "server"]) && is_low {
        guide.more("The unit says what it takes for such a port.");
    }
    guide.machine("On the other machine, where your programs are");
    if here.is_server() {
        guide.step(&fetch(peer));
        fetch_peer_file(&mut guide, plan, here);
    }
    near_end(&mut guide, plan, here, !here.is_server());
    guide.line(&format!(
        "\nDelete each file where it is not needed. A file for one more machine: kcptun init --peer {}",
        shell_quoted(server)
    ));
    guide.text
}

/// What to do after one more peer's file was written. `like`: the peer's file that says how it reaches the server.
pub(super) fn one_more_peer(plan: &Plan, here: &Here, like: Option<&str>) -> String {
    let mut guide = Guide::default();
    let (server, peer) = (&here.server_file, &here.peer_file);
    guide.line(&format!(
        "Wrote {peer}, with the key of {server}, for one more machine. The server stays as it is, and takes all of them at the same \
         port. All have one key: to lock one out, change the key of all."
    ));
    if let Some(like) = like {
        let at = &plan.server.at;
        guide.line(&format!("It reaches the server at {at}, as {like} does."));
    }
    troubles(&mut guide, plan, here);
    if plan.server.is_this_machine() {
        guide.machine("On this machine, which alone reaches such a server");
        near_end(&mut guide, plan, here, true);
        return guide.text;
    }
    guide.machine("On that machine");
    if here.is_server() {
        guide.step(&fetch(peer));
    } else {
        send(&mut guide, peer, &format!("{USER}@MACHINE:"));
        guide.more("If this is the server, fetch it instead:");
    }
    fetch_peer_file(&mut guide, plan, here);
    near_end(&mut guide, plan, here, false);
    guide.text
}

/// What is probably wrong already.
fn troubles(guide: &mut Guide, plan: &Plan, here: &Here) {
    let placeholder = |warning: &String| warning.contains("is a placeholder");
    let is_placeholder = here.warnings.iter().any(placeholder);
    if let (Place::Unknown(why), false) = (&here.server, is_placeholder) {
        guide.line(&format!(
            "warning: {} does not resolve here ({why}). If it is misspelt, write the right name into udp_connect in {}.",
            plan.server.host(),
            here.peer_file
        ));
    }
    if plan.server.at.ports.iter().eq([SSH_PORT]) {
        guide.line("warning: 22 is taken as kcptun's UDP port; it is not where ssh listens.");
    }
    for warning in &here.warnings {
        guide.line(&format!("warning: {warning}"));
    }
}

/// How the server gets its file.
fn bring(guide: &mut Guide, plan: &Plan, here: &Here) {
    let (server, file) = (&plan.server, &here.server_file);
    if here.is_server() {
        return guide.step(&format!("{file} is here already: this is the server."));
    }
    send(guide, file, &format!("{}:", remote(server)));
    guide.more(&format!(
        "If this is the server: it is here already, and the other machine fetches {}:",
        base(&here.peer_file)
    ));
    fetch_peer_file(guide, plan, here);
}

/// How a file of this machine gets to another one, which scp calls so.
fn send(guide: &mut Guide, file: &str, there: &str) {
    guide.step(&format!(
        "Bring {} there (kcptun must be there, too). From here:",
        base(file)
    ));
    let there = shell_quoted(there);
    guide.command(&format!("scp {} {there}", scp_operand(file)));
}

/// The step that `fetch_peer_file` follows.
fn fetch(peer: &str) -> String {
    format!("Fetch {} (kcptun must be there, too):", base(peer))
}

/// How another machine fetches the peer's file from this one, and what this one needs for that.
fn fetch_peer_file(guide: &mut Guide, plan: &Plan, here: &Here) {
    let (server, path) = (remote(&plan.server), &here.peer_path);
    // an scp before OpenSSH 9.0 hands the path to the shell there, whatever the one here makes of quotes
    match shell_quoted(path) == *path {
        true => guide.command(&format!(
            "scp {} .",
            shell_quoted(&format!("{server}:{path}"))
        )),
        false => guide.more(&format!("It is {path:?} at {server}.")),
    }
    if let Some(hint) = here.setup.scp_needs {
        guide.more(hint);
    }
}

fn open_ports(guide: &mut Guide, plan: &Plan, here: &Here) {
    let ports = plan.server.at.ports.named();
    match (&here.setup.firewall, here.is_server()) {
        (Firewall::Known(own), true) => {
            guide.step(&format!("Open UDP {ports} in its firewall, {}:", own.name));
            opening(guide, own);
        }
        (Firewall::Other(what), true) => guide.step(&format!("Open UDP {ports} {what}.")),
        (own, false) => {
            guide.step(&format!(
                "Open UDP {ports} in its firewall, by the line for the one it has:"
            ));
            for each in &here.elsewhere.firewalls {
                let found = match own {
                    Firewall::Known(own) if own.name == each.name => {
                        " (this machine has it, if it is the server)"
                    }
                    _ => "",
                };
                guide.more(&format!("{}{found}", each.name));
                opening(guide, each);
            }
        }
    }
    guide.more("Where the provider has a firewall of its own (\"security group\"), open it in its console, too.");
}

fn opening(guide: &mut Guide, opening: &Opening) {
    guide.command(&opening.command);
    guide.more(opening.hint);
}

/// What a port below the users' takes.
fn low_port(users_ports: u16) -> String {
    format!("A port below {users_ports} is root's: start it as root, with \"user\" in the file.")
}

/// Test, start and use, at the end where programs connect. `is_here`: this machine is that end.
fn near_end(guide: &mut Guide, plan: &Plan, here: &Here, is_here: bool) {
    let is_alone = plan.server.is_this_machine();
    let path = here.peer_file.as_str();
    let file = if is_here { path } else { base(path) };
    let peer = &shell_quoted(file);
    guide.step("Test it: does the server's end answer?");
    guide.command(&format!("kcptun ping -n 5 -c {peer}"));
    guide.more("If not, it says why, and what to try.");
    if !is_alone {
        let ports = plan.server.at.ports.named();
        guide.more(&format!(
            "Most often a firewall drops UDP {ports}: the server's, or its provider's."
        ));
    }
    guide.step("Start the near end:");
    guide.command(&format!("kcptun -c {peer}"));
    guide.more("It works when its log says that the server answers.");
    let users_ports = here.users_ports(is_here);
    if plan.listen.port < users_ports {
        guide.more(&low_port(users_ports));
    }
    if !is_alone {
        service(guide, here, is_here, [file, "peer"]);
    }
    guide.step("Use it:");
    guide.command(&use_it(plan));
}

/// How a file runs as a service, on this machine or on another. Whether that is known.
fn service(guide: &mut Guide, here: &Here, is_here: bool, [file, role]: [&str; 2]) -> bool {
    let file = shell_quoted(file);
    let steps = match is_here {
        true => (here.setup.service)(&file, role),
        false => Some((here.elsewhere.service)(&file, role)),
    };
    let Some(steps) = steps else {
        return false;
    };
    guide.more(steps.what);
    for command in &steps.commands {
        guide.command(command);
    }
    true
}

/// A command that goes through the tunnel, by the port that the service has.
fn use_it(plan: &Plan) -> String {
    let every = plan
        .listen
        .literal()
        .is_some_and(|at| at.ip().is_unspecified());
    let host = plan.listen.host.as_deref().filter(|_| !every);
    let host = host.unwrap_or("127.0.0.1");
    let port = plan.listen.port;
    let user = plan.server.user.as_deref().unwrap_or(USER);
    let shown = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    match plan.connect.port {
        22 => format!("ssh -p {port} {user}@{host}"),
        80 | 8000 | 8080 => format!("curl http://{shown}/"),
        443 | 8443 => format!("curl --connect-to ::{shown} https://NAME-OF-THE-SITE/"),
        _ => format!("let your program connect to {shown} instead of to the service"),
    }
}

/// The server for ssh and scp.
fn remote(server: &Server) -> String {
    let user = server.user.as_deref().unwrap_or(USER);
    match server.host() {
        host if host.contains(':') => format!("{user}@[{host}]"),
        host => format!("{user}@{host}"),
    }
}

/// A file's name without its directory: so it is called where it was copied to.
fn base(file: &str) -> &str {
    let name = Path::new(file).file_name();
    name.and_then(OsStr::to_str).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Purpose};
    use crate::platform::{Steps, elsewhere};

    fn plan(server: &str, connect: &str, listen: &str) -> Plan {
        Plan {
            server: Server::parse(server, None).expect("a server"),
            connect: Address::parse(connect, Purpose::Target).expect("right"),
            listen: Address::parse(listen, Purpose::Bind).expect("right"),
        }
    }

    fn ssh(server: &str) -> Plan {
        plan(server, "127.0.0.1:22", "127.0.0.1:2222")
    }

    fn here(server: Place) -> Here {
        Here {
            server,
            setup: Setup {
                firewall: Firewall::Known(elsewhere("27290").firewalls.remove(0)),
                service: |file, role| Some((elsewhere("").service)(file, role)),
                users_ports: 1024,
                scp_needs: None,
            },
            elsewhere: elsewhere("27290"),
            server_file: "t/server.json".into(),
            peer_file: "t/peer.json".into(),
            peer_path: "/home/me/t/peer.json".into(),
            warnings: Vec::new(),
        }
    }

    /// Each of `parts` is there, behind the one before it.
    fn in_order(text: &str, parts: &[&str]) {
        let mut rest = text;
        for part in parts {
            let at = rest.find(part);
            let at =
                at.unwrap_or_else(|| panic!("{part:?} is not there, or not in order:\n{text}"));
            rest = &rest[at + part.len()..];
        }
    }

    #[test]
    fn from_another_machine_each_step_is_there_in_order() {
        let mut many = here(Place::Elsewhere);
        many.elsewhere = elsewhere("27290-27299");
        let text = new_tunnel(&ssh("me@vps:27290-27299"), &many);
        in_order(
            &text,
            &[
                "Wrote t/server.json and t/peer.json",
                "On the server, vps:\n",
                " 1. Bring server.json there",
                "scp t/server.json me@vps:\n",
                "If this is the server",
                "scp me@vps:/home/me/t/peer.json .\n",
                " 2. Open UDP ports 27290-27299 in its firewall",
                "ufw (this machine has it, if it is the server)\n",
                "sudo ufw allow 27290:27299/udp\n",
                "firewalld\n",
                "provider",
                " 3. Start it there:\n        kcptun -c server.json\n",
                "kcptun help kcptun-server.service | sudo tee /etc/systemd/system/kcptun-server.service ",
                "enable --now kcptun-server\n",
                "On the other machine",
                " 4. Test it",
                "kcptun ping -n 5 -c t/peer.json\n",
                "UDP ports 27290-27299",
                " 5. Start the near end:\n        kcptun -c t/peer.json\n",
                "enable --now kcptun-peer\n",
                " 6. Use it:\n        ssh -p 2222 me@127.0.0.1\n",
                "kcptun init --peer t/server.json\n",
            ],
        );
        assert!(
            text.lines().all(|line| line.chars().count() < 160),
            "{text}"
        );
    }

    #[test]
    fn on_the_server_itself_its_own_firewall_is_opened_and_the_other_file_is_fetched() {
        let text = new_tunnel(&ssh("vps"), &here(Place::Here));
        in_order(
            &text,
            &[
                "this is the server.",
                "in its firewall, ufw:\n        sudo ufw allow 27290/udp\n",
                "Fetch peer.json",
                "scp USER@vps:/home/me/t/peer.json .\n",
                "ping -n 5 -c peer.json",
                "ssh -p 2222 USER@127.0.0.1",
            ],
        );
        assert!(!text.contains("firewall-cmd"), "{text}");
        let mut bare = here(Place::Here);
        bare.setup.firewall = Firewall::Other("if something blocks it: none was found here".into());
        bare.setup.service = |_, _| None;
        let text = new_tunnel(&ssh("vps"), &bare);
        assert!(
            text.contains("Open UDP port 27290 if something blocks it: none was found here.\n")
        );
        assert!(!text.contains("enable --now kcptun-server"), "{text}");
    }

    #[test]
    fn each_end_is_told_what_its_own_machine_takes() {
        let mut own = here(Place::Here);
        own.setup.firewall = Firewall::Other("by hand".into());
        own.setup.service = |file, role| {
            Some(Steps {
                what: "Its own service:",
                commands: vec![format!("own {role} {file}")],
            })
        };
        own.setup.users_ports = 0;
        own.setup.scp_needs = Some("It takes a server of scp.");
        let text = new_tunnel(&ssh("vps:443"), &own);
        in_order(
            &text,
            &[
                "Open UDP port 443 by hand.\n",
                "own server t/server.json\n",
                "scp USER@vps:/home/me/t/peer.json .\n    It takes a server of scp.\n",
                "enable --now kcptun-peer\n",
            ],
        );
        assert!(!text.contains("below "), "{text}");
        own.server = Place::Elsewhere;
        own.elsewhere = elsewhere("443");
        let text = new_tunnel(&ssh("vps:443"), &own);
        in_order(
            &text,
            &[
                "sudo ufw allow 443/udp\n",
                "below 1024",
                "enable --now kcptun-server\n",
                "The unit says",
                "own peer t/peer.json\n",
            ],
        );
        // the other machine is not this one, wherever the server is
        for place in [Place::Here, Place::Elsewhere] {
            own.server = place;
            let text = one_more_peer(&ssh("vps"), &own, None);
            in_order(&text, &["-c peer.json", "enable --now kcptun-peer\n"]);
            assert!(!text.contains("own peer"), "{text}");
        }
    }

    #[test]
    fn on_one_machine_nothing_is_copied_or_opened() {
        let text = new_tunnel(&ssh("127.0.0.1"), &here(Place::Here));
        in_order(
            &text,
            &["kcptun -c t/server.json\n", "-c t/peer.json\n", "2222"],
        );
        assert!(
            !text.contains("scp") && !text.contains("firewall"),
            "{text}"
        );
    }

    #[test]
    fn a_name_that_does_not_resolve_is_warned_of() {
        let mut here = here(Place::Unknown("no such name".into()));
        here.warnings.push("peer.json: odd".into());
        let text = new_tunnel(&ssh("vqs"), &here);
        in_order(
            &text,
            &[
                "warning: vqs does not resolve here (no such name)",
                "udp_connect",
                "warning: peer.json: odd\n",
                "On the server",
            ],
        );
    }

    #[test]
    fn one_more_peer_has_its_own_steps() {
        let text = one_more_peer(&ssh("vps"), &here(Place::Elsewhere), Some("peer-7.json"));
        in_order(
            &text,
            &[
                "Wrote t/peer.json",
                "reaches the server at vps:27290, as peer-7.json does.\n",
                "scp t/peer.json USER@MACHINE:\n",
                "scp USER@vps:/home/me/t/peer.json .\n",
                "ping",
                "Use it",
            ],
        );
        assert!(!text.contains("server.json there"), "{text}");
        let text = one_more_peer(&ssh("vps"), &here(Place::Here), None);
        in_order(
            &text,
            &["Fetch peer.json", "scp USER@vps:/home/me/t/peer.json .\n"],
        );
        assert!(!text.contains("MACHINE"), "{text}");
        let text = one_more_peer(&ssh("127.0.0.1"), &here(Place::Here), None);
        in_order(&text, &["On this machine", "-c t/peer.json\n", "Use it"]);
        assert!(!text.contains("scp"), "{text}");
    }

    #[test]
    fn a_path_is_one_word_of_a_command() {
        let mut odd = here(Place::Elsewhere);
        odd.server_file = "my tunnel/server.json".into();
        odd.peer_file = "my tunnel/peer.json".into();
        odd.peer_path = "/home/me/my tunnel/peer.json".into();
        let [server, peer] = [&odd.server_file, &odd.peer_file].map(|file| shell_quoted(file));
        let text = new_tunnel(&ssh("me@2001:db8::1"), &odd);
        in_order(
            &text,
            &[
                "Wrote my tunnel/server.json",
                &format!("scp {server} {}\n", shell_quoted("me@[2001:db8::1]:")),
                "It is \"/home/me/my tunnel/peer.json\" at me@[2001:db8::1].\n",
                &format!("kcptun init --peer {server}\n"),
            ],
        );
        let text = new_tunnel(&ssh("127.0.0.1"), &odd);
        in_order(
            &text,
            &[
                &format!("kcptun -c {server}\n"),
                &format!("-c {peer}\n"),
                &format!("-c {peer}\n"),
            ],
        );
    }

    #[test]
    fn what_goes_through_is_named_by_the_services_port() {
        for (connect, listen, said) in [
            ("127.0.0.1:22", ":2222", "ssh -p 2222 USER@127.0.0.1"),
            ("127.0.0.1:22", "[::1]:5", "ssh -p 5 USER@::1"),
            ("127.0.0.1:80", "[::1]:5", "curl http://[::1]:5/"),
            ("127.0.0.1:80", "0.0.0.0:5", "curl http://127.0.0.1:5/"),
            (
                "a:5432",
                "localhost:5",
                "let your program connect to localhost:5 instead of to the service",
            ),
        ] {
            assert_eq!(use_it(&plan("vps", connect, listen)), said);
        }
        let six = ssh("2001:db8::1").server;
        assert_eq!(remote(&six), "USER@[2001:db8::1]");
    }
}
