//! The texts that say why nothing answers, as far as that can be known from here, and what to try.

use super::Settings;
use crate::crypto::Method;
use crate::terminal::Tone;

/// What is known of the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It answers.
    Answers,
    /// The key is right, but the other end uses this method.
    OtherMethod(Method),
    /// The other end answers packets that are not sealed.
    NoKeyThere,
    /// What was sent came back unchanged.
    Echo,
    /// What came back is not kcptun's.
    Foreign,
    /// The system or the network say why.
    Fault(Fault),
    /// Nothing came back, and there was time enough.
    Silent {
        /// The host answers otherwise.
        host_lives: bool,
    },
    /// Nothing came back so far.
    TooSoon,
}

/// What the system says of a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nobody has the port.
    Refused,
    /// A router, or the host's own network, cannot get to the host.
    NoRoute,
    /// This machine has no route.
    NoNetwork,
    /// This machine does not let the datagram out.
    Forbidden,
    /// Something else, in the system's words.
    Other(String),
}

/// What a printed line is to its reader.
pub(crate) fn tone(line: &str) -> Tone {
    let begins = |word: &str| line.starts_with(word);
    if begins("likely: all is well") || begins("answer: ") {
        Tone::Good
    } else if begins("likely:") || begins("refused: ") {
        Tone::Bad
    } else if begins("try:") || begins("---") || begins("pings to ") {
        Tone::Strong
    } else if begins("no answer:") || begins("seq=") && !line.contains(" time=") {
        Tone::Doubtful
    } else {
        Tone::Plain
    }
}

impl Fault {
    /// In a few words, for the line of one ping.
    pub(crate) fn text(&self, port: u16) -> String {
        match self {
            Fault::Refused => format!("refused: nothing receives at UDP port {port}"),
            Fault::NoRoute => "the host cannot be reached, or forbids it".into(),
            Fault::NoNetwork => "no route there from this machine".into(),
            Fault::Forbidden => "this machine forbids sending there".into(),
            Fault::Other(words) => words.clone(),
        }
    }
}

impl Verdict {
    /// What is likely, and what to try.
    pub(super) fn lines(&self, settings: &Settings) -> Vec<String> {
        let (likely, advice) = self.texts(settings);
        let mut lines = vec![format!("likely: {likely}")];
        if !advice.is_empty() {
            lines.push(format!("try:    {advice}"));
        }
        lines
    }

    fn texts(&self, settings: &Settings) -> (String, String) {
        let (ip, port) = (settings.at.ip(), settings.at.port());
        match self {
            Verdict::Answers => ("all is well".into(), String::new()),
            Verdict::OtherMethod(method) => (
                format!("a wrong method: the key is right, but the other end seals with {method}"),
                format!("write \"method\": \"{method}\" here, or this end's method there"),
            ),
            Verdict::NoKeyThere => (
                "kcptun at the other end runs without a key and does not understand what is sealed".into(),
                "write the same psk and method there as here; without a key, anybody can read and forge packets".into(),
            ),
            Verdict::Echo => (
                format!("a wrong protocol: what receives at UDP port {port} is not kcptun: it sends everything back"),
                "is this the port of udp_bind at the other end?".into(),
            ),
            Verdict::Foreign => (
                format!("a wrong protocol: what answers at UDP port {port} is not kcptun with this key"),
                "is this the port of udp_bind at the other end?".into(),
            ),
            Verdict::Fault(fault) => fault_texts(fault, settings),
            Verdict::Silent { host_lives: true } => silent_port(settings),
            Verdict::Silent { host_lives: false } => (
                "a dead host: it is down, has another address, or firewalls drop all that is sent to it".into(),
                format!(
                    "is {ip} its address, and does it answer to: ping {ip}? If it runs, let UDP port {port} through, in its firewall and in \
                     that of its provider, and compare keys"
                ),
            ),
            Verdict::TooSoon => ("nothing has come back so far; a few more seconds will tell why".into(), String::new()),
        }
    }
}

/// The host is there, the port is not refused, and nothing answers.
fn silent_port(settings: &Settings) -> (String, String) {
    let port = settings.at.port();
    let key = match settings.seal {
        Some(_) => "a wrong key (an end with a key is silent to all that does not open with it)",
        None => "a key at the other end and none here (with one, it is silent to open packets)",
    };
    (
        format!(
            "the host is there, so a firewall that drops UDP port {port}, or {key}, or no kcptun runs there and its host does not say so"
        ),
        format!(
            "compare UDP port {port} with udp_bind there; look at the log of the other end: if there is none, start it; if it says \
             \"does not open with this key and method\", make psk or password and method the same; if it says that packets from here \
             open, the answers are lost on the way back: the firewall for outgoing UDP there, or this network's; if it says nothing, \
             let UDP port {port} through, in the firewall of the host and in that of its provider"
        ),
    )
}

fn fault_texts(fault: &Fault, settings: &Settings) -> (String, String) {
    let (ip, port) = (settings.at.ip(), settings.at.port());
    match fault {
        Fault::Refused => (
            format!(
                "the host is there, but nothing receives at UDP port {port}: kcptun is not running there, or runs with a peer's file, or \
                 its udp_bind has another port or is 127.0.0.1"
            ),
            "start kcptun there, and compare UDP port {port} with its udp_bind".into(),
        ),
        Fault::NoRoute => (
            "a dead host, or a firewall that rejects: the network says that it cannot be reached"
                .into(),
            format!(
                "is {ip} its address, and does it answer to: ping {ip}? If it does, let UDP port {port} through in its firewall, such as \
                 firewalld"
            ),
        ),
        Fault::NoNetwork => {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            (
                format!("this machine is offline, or has no {family}"),
                format!("see that there is a route: ip route get {ip}"),
            )
        }
        Fault::Forbidden => (
            "a firewall or a rule of this machine forbids sending there".into(),
            format!("let UDP to port {port} out of this machine"),
        ),
        Fault::Other(words) => (words.clone(), String::new()),
    }
}
