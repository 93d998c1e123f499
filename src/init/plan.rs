//! What a tunnel is made of, and the questions that lead to it: their words, their defaults, and what a good answer is. Who
//! asks them is in `run`.

use crate::config::{Address, Endpoint, Ports, Purpose, loopback};
use std::io::{self, BufRead, Write};
use std::net::Ipv6Addr;

/// The server's UDP port where none is given.
const UDP_PORT: u16 = 27290;
/// The service where none is given: the server's sshd.
const SERVICE: &str = "127.0.0.1:22";
/// Programs find the service at its own port and so many more: 2222 for ssh, 2280 for the web. Below 1024 is root's.
const LISTEN_ABOVE: u16 = 2200;

/// The server as its other machines name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    /// The user for ssh and scp there, if it was given.
    pub user: Option<String>,
    /// Its host and UDP ports.
    pub at: Endpoint,
}

impl Server {
    /// Reads `[USER@]HOST[:PORTS]`. `ports`: those of a host without any.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub(super) fn parse(text: &str, ports: Option<&Ports>) -> Result<Server, String> {
        let (user, host) = match text.split_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        let is_user = |user: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !user.is_empty() && !user.starts_with('-') && user.chars().all(known)
        };
        if !user.is_none_or(is_user) {
            return Err(format!(
                "{text:?} begins with something that is not a user; it must be HOST:PORT or USER@HOST:PORT"
            ));
        }
        let ports = ports.map_or_else(|| UDP_PORT.to_string(), Ports::to_string);
        let whole = if host.parse::<Ipv6Addr>().is_ok() {
            format!("[{host}]:{ports}")
        } else if host.contains(':') && !host.ends_with(']') || Ports::parse(host).is_ok() {
            host.to_owned()
        } else {
            format!("{host}:{ports}")
        };
        // a port that was added is not what is wrong
        let typed = |error: String| match error.strip_prefix(&format!("{whole:?}")) {
            Some(what) => format!("{text:?}{what}"),
            None => error,
        };
        let at = Endpoint::parse(&whole, Purpose::Target).map_err(typed)?;
        let user = user.map(str::to_owned);
        Ok(Server { user, at })
    }

    /// The host as a configuration writes it, without brackets.
    pub(super) fn host(&self) -> &str {
        self.at.host.as_deref().unwrap_or_default()
    }

    /// Whether it is an address of the loopback interface: both ends run on one machine.
    pub(super) fn is_this_machine(&self) -> bool {
        let loopback = self.at.literal_ip().map(|ip| ip.to_canonical());
        loopback.is_some_and(|ip| ip.is_loopback()) || self.host() == "localhost"
    }
}

/// Reads an address of TCP. A port alone is one of the machine itself, and lets nobody else in.
fn tcp_address(text: &str, purpose: Purpose) -> Result<Address, String> {
    loopback(text).map_or_else(|| Address::parse(text, purpose), Ok)
}

/// All that the two files say but the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// The server.
    pub server: Server,
    /// The TCP service, as the server reaches it.
    pub connect: Address,
    /// Where programs connect to.
    pub listen: Address,
}

/// What is to be known of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    Server,
    Connect,
    Listen,
}

impl Question {
    const ALL: [Question; 3] = [Question::Server, Question::Connect, Question::Listen];

    /// How the command line writes the answer.
    fn option(self) -> &'static str {
        match self {
            Question::Server => "HOST[:PORT] (the server)",
            Question::Connect => {
                "--connect [HOST:]PORT (the TCP service, as the server reaches it)"
            }
            Question::Listen => "--listen [HOST:]PORT (where your programs connect to)",
        }
    }

    /// How it is asked. `ports`: the server's where none are given.
    fn words(self, ports: Option<&Ports>) -> String {
        match self {
            Question::Server => format!(
                "The server's name or address, as the other machine reaches it, and its UDP port if not {}",
                ports.map_or_else(|| UDP_PORT.to_string(), Ports::to_string)
            ),
            Question::Connect => "The TCP service, as the server reaches it".into(),
            Question::Listen => {
                "Where your programs connect to instead, on the other machine".into()
            }
        }
    }
}

/// A plan while it is made.
#[derive(Default)]
pub(super) struct Draft {
    server: Option<Server>,
    connect: Option<Address>,
    listen: Option<Address>,
    /// The ports of a server that is there.
    ports: Option<Ports>,
    /// This machine's address, offered for the server.
    likely: Option<String>,
    /// Where programs connect to at another peer of that server.
    known: Option<Address>,
}

impl Draft {
    /// For the server with this configuration, whose peers exist or not: only its name and the other end are to be known.
    pub(super) fn of_server(ports: Ports, connect: Address) -> Draft {
        Draft {
            connect: Some(connect),
            ports: Some(ports),
            ..Draft::default()
        }
    }

    /// Offers what another peer of the server has for where programs connect to.
    pub(super) fn offer_listen(&mut self, listen: Option<Address>) {
        self.known = listen;
    }

    /// Takes how another peer reaches the server, unless that is given. Whether it was taken.
    pub(super) fn take_server(&mut self, at: Option<Endpoint>) -> bool {
        match at {
            Some(at) if self.server.is_none() => {
                self.server = Some(Server { user: None, at });
                true
            }
            _ => false,
        }
    }

    /// Takes what is known of another peer where nobody can be asked.
    pub(super) fn take_known(&mut self) {
        self.listen = self.listen.take().or(self.known.take());
    }

    /// The answer that is offered for the server.
    pub(super) fn offer(&mut self, likely: Option<String>) {
        self.likely = likely;
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing has changed then.
    pub(super) fn answer(&mut self, question: Question, text: &str) -> Result<(), String> {
        match question {
            Question::Server => self.server = Some(Server::parse(text, self.ports.as_ref())?),
            Question::Connect => self.connect = Some(tcp_address(text, Purpose::Target)?),
            Question::Listen => self.listen = Some(tcp_address(text, Purpose::Bind)?),
        }
        Ok(())
    }

    /// Takes what the command line gives: its errors name the option.
    pub(super) fn take(
        &mut self,
        server: Option<&str>,
        connect: Option<&str>,
        listen: Option<&str>,
    ) -> Result<(), String> {
        let given = [
            (Question::Server, "", server),
            (Question::Connect, "--connect: ", connect),
            (Question::Listen, "--listen: ", listen),
        ];
        for (question, option, text) in given {
            if let Some(text) = text {
                let answered = self.answer(question, text);
                answered.map_err(|error| format!("{option}{error}"))?;
            }
        }
        Ok(())
    }

    /// What is still to be known.
    pub(super) fn missing(&self) -> Vec<Question> {
        let is_missing = |question: &Question| match question {
            Question::Server => self.server.is_none(),
            Question::Connect => self.connect.is_none(),
            Question::Listen => self.listen.is_none(),
        };
        Question::ALL.into_iter().filter(is_missing).collect()
    }

    /// What is missing, for who cannot be asked.
    pub(super) fn missing_text(&self) -> String {
        let missing = self.missing();
        let names: Vec<&str> = missing.iter().map(|question| question.option()).collect();
        let example = match self.ports {
            None => {
                "kcptun init vps.example.net:27290 --connect 127.0.0.1:22 --listen 127.0.0.1:2222"
            }
            Some(_) => "kcptun init vps.example.net --peer server.json --listen 127.0.0.1:2222",
        };
        let names = names.join(", ");
        format!("missing: {names}; write {example}, or start it on a terminal, where it asks")
    }

    /// The answer that is offered, if there is a likely one.
    fn offered(&self, question: Question) -> Option<String> {
        match question {
            Question::Server => self.likely.clone(),
            Question::Connect => Some(SERVICE.into()),
            Question::Listen if self.known.is_some() => self.known.as_ref().map(Address::to_string),
            Question::Listen => {
                let service = self.connect.as_ref()?.port;
                let above = service.checked_add(LISTEN_ABOVE);
                let port = above.unwrap_or_else(|| service - LISTEN_ABOVE);
                Some(format!("127.0.0.1:{port}"))
            }
        }
    }

    /// Asks for what is missing until each answer is good.
    ///
    /// # Errors
    /// Those of the terminal; its end is `UnexpectedEof`.
    pub(super) fn ask(&mut self, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
        for question in self.missing() {
            loop {
                let default = self.offered(question);
                let offered = default.as_deref();
                let offered = offered.map_or(String::new(), |text| format!(" [{text}]"));
                let words = question.words(self.ports.as_ref());
                write!(out, "{words}{offered}: ")?;
                out.flush()?;
                let mut line = String::new();
                if input.read_line(&mut line)? == 0 {
                    writeln!(out)?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let text = match (line.trim(), default) {
                    ("", Some(default)) => default,
                    ("", None) => {
                        writeln!(out, "  it takes a name or an address")?;
                        continue;
                    }
                    (text, _) => text.to_owned(),
                };
                match self.answer(question, &text) {
                    Ok(()) => break,
                    Err(error) => writeln!(out, "  {error}")?,
                }
            }
        }
        Ok(())
    }

    /// The plan.
    ///
    /// # Errors
    /// Says what is missing.
    pub(super) fn plan(self) -> Result<Plan, String> {
        let missing = self.missing_text();
        match (self.server, self.connect, self.listen) {
            (Some(server), Some(connect), Some(listen)) => Ok(Plan {
                server,
                connect,
                listen,
            }),
            _ => Err(missing),
        }
    }
}

impl Plan {
    /// Where the server receives: at every address, or only at the address of the loopback interface that was given.
    pub(super) fn udp_bind(&self) -> Endpoint {
        let at = &self.server.at;
        Endpoint {
            host: at.host.clone().filter(|_| self.server.is_this_machine()),
            ports: at.ports.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Result<String, String> {
        let parsed = Server::parse(text, None)?;
        let user = parsed.user.map_or(String::new(), |user| user + "@");
        Ok(format!("{user}{}", parsed.at))
    }

    #[test]
    fn a_server_is_a_host_with_or_without_user_and_ports() {
        for (text, read) in [
            ("vps.example.net", "vps.example.net:27290"),
            ("vps.example.net:443", "vps.example.net:443"),
            ("vps:27290-27299", "vps:27290-27299"),
            ("vps:443,27290-27299", "vps:443,27290-27299"),
            ("root@vps", "root@vps:27290"),
            ("192.0.2.1", "192.0.2.1:27290"),
            ("2001:db8::1", "[2001:db8::1]:27290"),
            ("[2001:db8::1]", "[2001:db8::1]:27290"),
            ("me@[2001:db8::1]:5-9", "me@[2001:db8::1]:5-9"),
        ] {
            assert_eq!(server(text).as_deref(), Ok(read), "{text}");
        }
        for (text, part) in [
            ("", "names no host"),
            ("27290", "is a port alone"),
            (":27290", "names no host"),
            ("vps:0", "no valid port"),
            ("vps:9-5", "write 5-9"),
            ("https://vps/", "is a URL"),
            ("192.0.2", "not an IPv4 address"),
            ("@vps", "not a user"),
            ("-oProxyCommand=x@vps", "not a user"),
            ("a b@vps", "not a user"),
            ("0.0.0.0", "names no host"),
        ] {
            let error = server(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.starts_with(&format!("{text:?} ")), "{text}: {error}");
        }
        let ports = Ports::parse("5-9").expect("ports");
        let known = Server::parse("vps", Some(&ports)).expect("a host");
        assert_eq!(known.at.to_string(), "vps:5-9");
    }

    #[test]
    fn what_the_command_line_gives_is_checked_and_the_rest_is_missing() {
        let mut draft = Draft::default();
        for (server, connect, listen, part) in [
            (None, Some("sshd"), None, "--connect: \"sshd\" has no port"),
            (None, Some(":22"), None, "--connect: \":22\" names no host"),
            (
                None,
                None,
                Some("::1"),
                "--listen: \"::1\" is an IPv6 address",
            ),
            (Some("vps:x"), None, None, "\"vps:x\" has no valid port"),
        ] {
            let error = draft.take(server, connect, listen).expect_err(part);
            assert!(error.starts_with(part), "{error}");
        }
        draft.take(None, Some("localhost:80"), None).expect("right");
        assert!(tcp_address("0", Purpose::Bind).is_err());
        let error = draft.plan().expect_err("more is needed");
        assert!(
            error.starts_with("missing: HOST[:PORT] (the server), --listen"),
            "{error}"
        );
    }

    fn ask(draft: &mut Draft, answers: &str) -> (io::Result<()>, String) {
        let mut out = Vec::new();
        let asked = draft.ask(&mut answers.as_bytes(), &mut out);
        (asked, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn three_questions_make_a_tunnel() {
        let mut draft = Draft::default();
        let (asked, said) = ask(&mut draft, "\nvps\n\n\n");
        asked.expect("answers");
        // without a likely answer it asks again
        assert_eq!(said.matches("The server's name").count(), 2);
        let plan = draft.plan().expect("complete");
        assert_eq!(plan.server.at.to_string(), "vps:27290");
        assert_eq!(plan.udp_bind().to_string(), ":27290");
        assert_eq!(plan.connect.to_string(), "127.0.0.1:22");
        assert_eq!(plan.listen.to_string(), "127.0.0.1:2222");
        for default in ["[127.0.0.1:22]: ", "[127.0.0.1:2222]: "] {
            assert!(said.contains(default), "{said}");
        }
    }

    #[test]
    fn a_wrong_answer_is_explained_and_asked_again() {
        let mut draft = Draft::default();
        draft.offer(Some("192.0.2.1".into()));
        let (asked, said) = ask(&mut draft, "\nweb\n80\n[::1]:9\n");
        asked.expect("answers");
        assert!(said.contains("[192.0.2.1]: "), "{said}");
        assert!(
            said.contains("  \"web\" has no port; it must be host:port\n"),
            "{said}"
        );
        assert!(said.contains("[127.0.0.1:2280]: "), "{said}");
        let plan = draft.plan().expect("complete");
        assert_eq!(plan.connect.to_string(), "127.0.0.1:80");
        assert_eq!(plan.listen.to_string(), "[::1]:9");
        let (asked, _) = ask(&mut Draft::default(), "vps\n");
        assert_eq!(
            asked.expect_err("the end").kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn of_a_server_that_is_there_two_things_are_asked() {
        let connect = Address::parse("127.0.0.1:65000", Purpose::Target).expect("right");
        let mut draft = Draft::of_server(Ports::from(443), connect);
        assert_eq!(draft.missing(), [Question::Server, Question::Listen]);
        let (asked, said) = ask(&mut draft, "vps\n\n");
        asked.expect("answers");
        assert!(said.contains("UDP port if not 443: "), "{said}");
        let plan = draft.plan().expect("complete");
        assert_eq!(plan.server.at.to_string(), "vps:443");
        assert_eq!(plan.listen.to_string(), "127.0.0.1:62800");
    }

    #[test]
    fn who_names_a_loopback_address_stays_there() {
        for (text, bind) in [
            ("127.0.0.1", "127.0.0.1:27290"),
            ("[::1]:5", "[::1]:5"),
            ("localhost", "localhost:27290"),
        ] {
            let plan = Plan {
                server: Server::parse(text, None).expect(text),
                connect: Address::parse(SERVICE, Purpose::Target).expect("right"),
                listen: Address::parse(":1", Purpose::Bind).expect("right"),
            };
            assert!(plan.server.is_this_machine());
            assert_eq!(plan.udp_bind().to_string(), bind);
        }
    }
}
