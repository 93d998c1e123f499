//! The configuration file: its keys are in `keys`, reading it in `read`, what must hold between keys in `check`, and what the
//! program would do with it in `describe`. Nothing here opens a socket or resolves a name.

mod address;
mod change;
mod check;
mod describe;
mod endpoint;
mod hint;
mod json;
mod key;
mod keys;
mod log;
mod ports;
mod read;
mod suggest;
mod user;

pub(crate) use address::loopback;
pub use address::{Address, Purpose};
pub use change::{Change, Outcome};
pub use endpoint::Endpoint;
pub use key::{Key as ConfigKey, Section};
pub use keys::{KEYS, method_names};
pub use log::Log;
pub use ports::{PORTS_MAX, Ports};
pub use suggest::GO_KEYS;
pub use user::User;

use crate::crypto::{Key, Method, Sealing};
use crate::platform::{close_to_others, is_open_to_all};
use crate::proxy::Version;
use crate::settings::{ForwardSecrecy, KcpSettings, RateSettings, Rendezvous, Settings};
use crate::terminal::harmless;
use crate::time::SEC;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The longest configuration file, bytes; a longer one is something else.
const FILE_MAX: usize = 64 * 1024;

/// How packets are sealed where the configuration does not say.
pub const DEFAULT_METHOD: Method = Method::Chacha20Poly1305Ietf;

/// The password in the configurations that come with kcptun; everybody knows it.
pub const SHIPPED_PASSWORD: &str = "change me at both ends";

/// A configuration that was read and checked. Printing it shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// TCP: accept here, carry to the other end.
    pub listen: Option<Address>,
    /// TCP: sessions from the other end are carried to here.
    pub connect: Option<Address>,
    /// UDP: receive here.
    pub udp_bind: Option<Endpoint>,
    /// UDP: the other end.
    pub udp_connect: Option<Endpoint>,
    /// UDP: where the other end is found, instead of `udp_connect`.
    pub rendezvous_server: Option<Address>,
    /// The name by which both ends find each other there.
    pub service_id: Option<String>,
    /// None: packets are open.
    pub seal: Option<Seal>,
    /// Whether the two ends agree on fresh keys.
    pub forward_secrecy: ForwardSecrecy,
    /// How KCP is driven: `kcp.*`.
    pub kcp: KcpSettings,
    /// Options of TCP sockets: `tcp.*`.
    pub tcp: TcpOptions,
    /// Options of the UDP sockets: `udp.*` and `dscp`.
    pub udp: UdpOptions,
    /// Limits of the rate: `rate.*`.
    pub rate: Rate,
    /// Seconds without any sign of the other end until a session is ended.
    pub timeout: u32,
    /// Seconds that a session that both ends have closed waits while none of its last data arrives.
    pub linger: u32,
    /// Seconds after which a peer that has sent nothing sends a ping; 0: only when an answer is missing or the network has
    /// changed.
    pub keepalive: u32,
    /// Seconds after which a peer moves to another pair of ports; 0: never by the clock.
    pub hop: u32,
    /// Seconds that an ended session's number stays known.
    pub time_wait: u32,
    /// Where statistics are shown over HTTP. None: nowhere.
    pub http_listen: Option<Address>,
    /// The user to become once the sockets are bound.
    pub user: Option<User>,
    /// None: standard error, or the system log where the program goes into the background.
    pub log: Option<Log>,
    /// Where the process's number is kept while it runs.
    pub pidfile: Option<PathBuf>,
    /// 0 to 6: trace, debug, info, warn, error, error, off.
    pub loglevel: u8,
    /// That number as the file has it, where it has the scale of kcptun-libev 2.1 and later.
    pub later_loglevel: Option<u8>,
    /// What is allowed but perhaps not meant, a line each. They are for the log, whose level is known only after reading.
    pub warnings: Vec<String>,
}

/// How packets are sealed.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The cipher.
    pub method: Method,
    /// The key that both ends share.
    pub key: Key,
    /// Where the key comes from.
    pub source: KeySource,
}

/// Which key of the configuration the sealing key came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// `psk`, as it is.
    Psk,
    /// `password`, from which it is derived.
    Password,
}

/// `tcp.keepalive` where it is true, or not given: seconds.
pub const KEEPALIVE: u32 = 120;

/// Options of TCP sockets.
#[derive(Clone, Debug, Default)]
pub struct TcpOptions {
    /// Whether small messages are sent at once.
    pub nodelay: bool,
    /// Seconds of silence after which the program is asked whether it lives; 0: never.
    pub keepalive: u32,
    /// Whether other processes may share the port.
    pub reuseport: bool,
    /// The size of the send buffer, bytes; 0: the system's.
    pub sndbuf: u32,
    /// The size of the receive buffer, bytes; 0: the system's.
    pub rcvbuf: u32,
    /// What a service is told first of a connection that is made for the other end. None: nothing.
    pub proxy_protocol: Option<Version>,
}

/// Options of the UDP sockets.
#[derive(Clone, Debug, Default)]
pub struct UdpOptions {
    /// The mark of what is sent (DSCP), 0 to 63.
    pub dscp: u8,
    /// Whether other processes may share the port.
    pub reuseport: bool,
    /// The size of the send buffer, bytes; 0: the system's.
    pub sndbuf: u32,
    /// The size of the receive buffer, bytes; 0: the system's.
    pub rcvbuf: u32,
}

/// An operator's limits of the rate.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Mbit/s to the other end at most.
    pub up: Option<f64>,
    /// Mbit/s from the other end at most.
    pub down: Option<f64>,
    /// Whether the rate is found and kept; otherwise plain KCP as configured.
    pub control: bool,
}

/// What an end does; its addresses decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Sessions come from the other end only.
    Server,
    /// Sessions go to the other end only.
    Peer,
    /// Both.
    Both,
    /// Brings two other ends together, and carries nothing.
    Rendezvous,
}

impl Role {
    /// One word for it, for statistics.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Peer => "peer",
            Role::Both => "both",
            Role::Rendezvous => "rendezvous",
        }
    }
}

/// Why a configuration cannot be used. Displays as one line, about the first mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    first: String,
    more: Vec<String>,
    warnings: Vec<String>,
}

impl ConfigError {
    /// What is allowed in that file but perhaps not meant, as far as it could be told: lines as `Config` has them.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All mistakes: each line names the file, the key, the value and what would be right.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let all = std::iter::once(&self.first).chain(&self.more);
        all.map(String::as_str)
    }

    fn of(name: &str, faults: Faults) -> ConfigError {
        let warnings = faults.warnings.iter();
        let warnings = warnings.map(|line| format!("{name}: {line}")).collect();
        let mut lines = faults.lines.into_iter();
        let mut line = || lines.next().map(|line| format!("{name}: {line}"));
        let first = line().unwrap_or_default();
        let more = std::iter::from_fn(line).collect();
        ConfigError {
            first,
            more,
            warnings,
        }
    }
}

impl From<String> for ConfigError {
    fn from(first: String) -> ConfigError {
        ConfigError {
            first,
            more: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.first)?;
        match self.more.len() {
            0 => Ok(()),
            1 => f.write_str(" (1 more mistake: --check names it)"),
            n => write!(f, " ({n} more mistakes: --check names them)"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The most mistakes of a file that are named; it is read no further then.
const FAULTS_MAX: usize = 100;

/// What is wrong with a file: lines without its name.
#[derive(Default)]
struct Faults {
    lines: Vec<String>,
    /// A line may be about an address or a name by which another end is found: which of them are missing is not known.
    doubtful: bool,
    /// What is allowed but perhaps not meant, as in `Config`.
    warnings: Vec<String>,
}

impl Faults {
    fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    fn are_many(&self) -> bool {
        self.lines.len() >= FAULTS_MAX
    }
}

impl From<String> for Faults {
    fn from(line: String) -> Faults {
        Faults {
            lines: vec![line],
            ..Faults::default()
        }
    }
}

/// A configuration while it is read.
struct Draft {
    config: Config,
    psk: Option<Zeroizing<String>>,
    password: Option<Zeroizing<String>>,
    method: Option<Method>,
    /// The file has names of keys that kcptun-libev has from 2.1 on.
    is_later: bool,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let name = display_name(path);
        let (text, open) =
            read_file(path).map_err(|error| ConfigError::from(format!("{name}: {error}")))?;
        let mut config = Config::parse(&name, &text)?;
        // that password is no secret, which is warned of already
        let known = text.contains(SHIPPED_PASSWORD);
        if open && config.seal.is_some() && !known {
            let everybody = "everybody on this machine can read it, and so the key in it";
            config
                .warnings
                .push(format!("{name}: {everybody}; {}", close_to_others(&name)));
        }
        Ok(config)
    }

    /// Checks the text of a file; `name` is the file's, for messages.
    pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
        let mut config = parse(text).map_err(|faults| ConfigError::of(name, faults))?;
        for warning in &mut config.warnings {
            warning.insert_str(0, &format!("{name}: "));
        }
        Ok(config)
    }

    /// What this end does.
    pub fn role(&self) -> Role {
        match (&self.listen, &self.connect) {
            (Some(_), Some(_)) => Role::Both,
            (Some(_), None) => Role::Peer,
            (None, Some(_)) => Role::Server,
            (None, None) => Role::Rendezvous,
        }
    }

    fn rendezvous(&self) -> Rendezvous {
        match (&self.service_id, self.role()) {
            (_, Role::Rendezvous) => Rendezvous::Keeper,
            (Some(id), Role::Peer) => Rendezvous::Client(id.clone().into()),
            (Some(id), _) => Rendezvous::Service(id.clone().into()),
            (None, _) => Rendezvous::None,
        }
    }

    /// Whether the rate is controlled: plain KCP, or KCP's own congestion control, is the other choice.
    pub fn is_paced(&self) -> bool {
        self.rate.control && self.kcp.nc
    }

    /// The tunnel's settings, with a clock offset and a seed that nobody can guess.
    pub fn settings(&self) -> Settings {
        let span = |seconds: u32| u64::from(seconds) * SEC;
        let bytes = |mbit: f64| mbit * 1e6 / 8.0;
        Settings {
            kcp: self.kcp.clone(),
            rate: RateSettings {
                control: self.is_paced(),
                up: self.rate.up.map(bytes),
                down: self.rate.down.map(bytes),
            },
            sealing: self
                .seal
                .as_ref()
                .map(|seal| Sealing::new(seal.method, &seal.key)),
            forward_secrecy: self.forward_secrecy,
            accepts: self.connect.is_some(),
            rendezvous: self.rendezvous(),
            timeout: span(self.timeout),
            linger: span(self.linger),
            keepalive: span(self.keepalive),
            hop: span(self.hop),
            time_wait: span(self.time_wait),
            watched: self.http_listen.is_some(),
            clock_offset: rand::random(),
            seed: rand::random(),
            ..Settings::default()
        }
    }
}

impl Default for Draft {
    fn default() -> Draft {
        let config = Config {
            listen: None,
            connect: None,
            udp_bind: None,
            udp_connect: None,
            rendezvous_server: None,
            service_id: None,
            seal: None,
            forward_secrecy: ForwardSecrecy::Auto,
            kcp: KcpSettings::default(),
            tcp: TcpOptions {
                nodelay: true,
                keepalive: KEEPALIVE,
                reuseport: false,
                sndbuf: 0,
                rcvbuf: 0,
                proxy_protocol: None,
            },
            udp: UdpOptions {
                dscp: 0,
                reuseport: false,
                sndbuf: 1 << 20,
                rcvbuf: 4 << 20,
            },
            rate: Rate {
                up: None,
                down: None,
                control: true,
            },
            timeout: 600,
            linger: 30,
            keepalive: 25,
            hop: 0,
            time_wait: 120,
            http_listen: None,
            user: None,
            log: None,
            pidfile: None,
            loglevel: 2,
            later_loglevel: None,
            warnings: Vec::new(),
        };
        Draft {
            config,
            psk: None,
            password: None,
            method: None,
            is_later: false,
        }
    }
}

/// The errors and the warnings lack the file's name only.
fn parse(text: &str) -> Result<Config, Faults> {
    // Some editors put a byte order mark before everything.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Faults::from(
            "is empty; it must hold a JSON object: {\"key\": value, ...}".to_owned(),
        ));
    }
    let (mut draft, mut faults) = (Draft::default(), Faults::default());
    read::read(&mut draft, json::parse(text)?, &mut faults);
    check::finish(draft, faults)
}

/// The file's text in a buffer that never moves and is wiped, since it may hold a key, and whether everybody on this
/// machine may read the file.
fn read_file(path: &Path) -> Result<(Zeroizing<String>, bool), String> {
    let file = File::open(path).map_err(|error| read_error(&error))?;
    let open = is_open_to_all(&file);
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * FILE_MAX));
    let mut limited = file.take(FILE_MAX as u64 + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| read_error(&error))?;
    if bytes.len() > FILE_MAX {
        return Err(format!(
            "is longer than {FILE_MAX} bytes; it must be a configuration in JSON"
        ));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok((Zeroizing::new(text), open)),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let bytes = Zeroizing::new(error.into_bytes());
            let line = 1 + bytes[..good].iter().filter(|byte| **byte == b'\n').count();
            Err(format!(
                "line {line}: is not UTF-8; it must be text in UTF-8"
            ))
        }
    }
}

fn read_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file; it must be a configuration in JSON".into(),
        ErrorKind::IsADirectory => "is a directory; it must be a file".into(),
        ErrorKind::PermissionDenied => {
            "permission denied; it must be readable for the user that kcptun runs as".into()
        }
        _ => format!("cannot be read: {error}"),
    }
}

/// A file's name can hold anything, but a message is one line.
fn display_name(path: &Path) -> String {
    path.to_string_lossy().chars().map(harmless).collect()
}
