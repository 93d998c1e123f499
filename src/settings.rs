//! The part of the configuration that the tunnel's logic needs, checked and in the logic's units. Reading a configuration file
//! is in `config`; nothing here touches files or sockets.

use crate::congestion::Limits;
use crate::crypto::Sealing;
use crate::time::{Duration, SEC};

/// How a KCP session is driven. See `kcp.*` in `config::keys`.
#[derive(Clone, Debug)]
pub struct KcpSettings {
    /// The size of the largest IP packet, bytes; how much of it the path carries is found.
    pub mtu: u16,
    /// The bound of the send window, segments.
    pub sndwnd: u16,
    /// The bound of the receive window, segments.
    pub rcvwnd: u16,
    /// 0 to 2, as in KCP.
    pub nodelay: u8,
    /// Milliseconds from one flush to the next if nothing else asks for one.
    pub interval: u32,
    /// Acknowledgements that skip a segment before it is retransmitted; 0: never.
    pub resend: u32,
    /// Whether KCP's own congestion control is off.
    pub nc: bool,
    /// When it is flushed.
    pub flush: Flush,
}

/// When KCP is flushed besides its interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// At the interval only.
    Interval,
    /// After sending, too.
    AfterSend,
    /// And acks at once.
    AcksToo,
}

impl Default for KcpSettings {
    fn default() -> Self {
        KcpSettings {
            mtu: 1500,
            sndwnd: 32768,
            rcvwnd: 32768,
            nodelay: 1,
            interval: 10,
            resend: 2,
            nc: true,
            flush: Flush::AfterSend,
        }
    }
}

/// How fast a path may be used. See `rate.*` in `config::keys`.
#[derive(Clone, Copy, Debug)]
pub struct RateSettings {
    /// Whether the rate is found and kept; otherwise KCP sends as it is configured.
    pub control: bool,
    /// The cap of what is sent, bytes per second. None: no cap.
    pub up: Option<f64>,
    /// The cap of what is received, bytes per second. None: no cap.
    pub down: Option<f64>,
}

impl Default for RateSettings {
    fn default() -> Self {
        RateSettings {
            control: true,
            up: None,
            down: None,
        }
    }
}

impl RateSettings {
    /// The caps, as congestion control takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            up: self.up,
            down: self.down,
        }
    }
}

/// What an end does in rendezvous mode; see `rendezvous_server` and `service_id` in `config::keys`. Ids are 1 to 255 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rendezvous {
    /// Not in this mode.
    #[default]
    None,
    /// Is the rendezvous server: brings the two others together.
    Keeper,
    /// A server behind NAT: lets itself be found under this service id.
    Service(Vec<u8>),
    /// Looks for the server of this service id.
    Client(Vec<u8>),
}

/// Whether the two ends agree on keys that nobody can have later. See `forward_secrecy` in `config::keys`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardSecrecy {
    /// The psk does for all.
    #[default]
    Off,
    /// With every other end that does it.
    Auto,
    /// Nobody else carries a connection.
    Require,
}

impl ForwardSecrecy {
    /// Every value.
    pub const ALL: [ForwardSecrecy; 3] = [
        ForwardSecrecy::Auto,
        ForwardSecrecy::Require,
        ForwardSecrecy::Off,
    ];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            ForwardSecrecy::Off => "off",
            ForwardSecrecy::Auto => "auto",
            ForwardSecrecy::Require => "require",
        }
    }
}

/// Everything that a `Tunnel` is made from.
pub struct Settings {
    /// How KCP is driven.
    pub kcp: KcpSettings,
    /// How fast a path may be used.
    pub rate: RateSettings,
    /// None: packets are neither sealed nor authenticated.
    pub sealing: Option<Sealing>,
    /// Whether there are fresh keys beside that one.
    pub forward_secrecy: ForwardSecrecy,
    /// Whether sessions of the other end are accepted (the configuration has `connect`).
    pub accepts: bool,
    /// What this end does in rendezvous mode.
    pub rendezvous: Rendezvous,
    /// The silence after which a session is ended.
    pub timeout: Duration,
    /// How long a closed session waits for progress on its last data.
    pub linger: Duration,
    /// The silence after which a peer sends a ping; 0: never.
    pub keepalive: Duration,
    /// How long the number of an ended session stays known.
    pub time_wait: Duration,
    /// The time after which another pair of ports is used; 0: as long as the present one carries.
    pub hop: Duration,
    /// Whether statistics are shown (the configuration has `http_listen`): then a peer that is gone is to be noticed soon.
    pub watched: bool,
    /// The most sessions at once; a new one beyond is refused.
    pub max_sessions: usize,
    /// Added to the milliseconds of the clock to give KCP's timestamps, so that these tell nothing
    /// of the uptime and tests can cross 2^31 and 2^32.
    pub clock_offset: u32,
    /// Seeds the choice of session numbers and padding.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            kcp: KcpSettings::default(),
            rate: RateSettings::default(),
            sealing: None,
            forward_secrecy: ForwardSecrecy::Off,
            accepts: false,
            rendezvous: Rendezvous::None,
            timeout: 600 * SEC,
            linger: 30 * SEC,
            keepalive: 25 * SEC,
            time_wait: 120 * SEC,
            hop: Duration::ZERO,
            watched: false,
            max_sessions: 65_535,
            clock_offset: 0,
            seed: 0,
        }
    }
}
