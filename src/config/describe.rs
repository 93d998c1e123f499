//! Describes in plain words what the program would do with a configuration: the answer to `--check`.

use super::check::is_loopback;
use super::{Config, KeySource, Ports, Role};
use crate::settings::Flush;
use crate::settings::ForwardSecrecy;
use std::fmt;

impl Config {
    /// A description for people, of several lines, without secrets and warnings.
    pub fn describe(&self) -> Description<'_> {
        Description(self)
    }

    /// What is starting, on one line for the log.
    pub fn headline(&self) -> String {
        let role = match self.role() {
            Role::Server => "server",
            Role::Peer => "peer",
            Role::Both => "server and peer",
            Role::Rendezvous => "rendezvous server",
        };
        let seal = match &self.seal {
            Some(seal) => format!("sealed with {}", seal.method),
            None => "not sealed".into(),
        };
        let version = env!("CARGO_PKG_VERSION");
        format!("kcptun {version}, {role}, {seal}, rate: {}", rate(self))
    }
}

/// Displays as the lines of `Config::describe`.
pub struct Description<'a>(&'a Config);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let config = self.0;
        writeln!(f, "role:      {}", role(config.role()))?;
        addresses(f, config)?;
        writeln!(f, "seal:      {}", seal(config))?;
        kcp(f, config)?;
        writeln!(f, "rate:      {}", rate(config))?;
        sockets(f, config)?;
        times(f, config)?;
        if let Some(listen) = &config.http_listen {
            writeln!(f, "http:      shows statistics at http://{listen}/")?;
        }
        if let Some(user) = &config.user {
            writeln!(f, "user:      becomes {user} once its sockets are bound")?;
        }
        if let Some(path) = &config.pidfile {
            writeln!(f, "pidfile:   {}", super::display_name(path))?;
        }
        write!(f, "log:       {}", log_level(config.loglevel))?;
        if let Some(log) = &config.log {
            write!(f, ", to {log}")?;
        }
        match config.later_loglevel {
            Some(n) => writeln!(
                f,
                "; loglevel {n} is on the scale of kcptun-libev 2.1 and later, since the file has kcp_bind or kcp_connect"
            ),
            None => writeln!(f),
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Server => "server: carries sessions from the other end to a TCP service",
        Role::Peer => "peer: carries the TCP connections that it accepts to the other end",
        Role::Rendezvous => "rendezvous server: brings two other ends together, carries nothing",
        Role::Both => "both: opens sessions to the other end and takes sessions from there",
    }
}

fn addresses(f: &mut fmt::Formatter, config: &Config) -> fmt::Result {
    let every = |host: &Option<String>| match host {
        None => " (every address, IPv6 and IPv4)",
        Some(_) => "",
    };
    let count = |ports: &Ports| match ports.len() {
        1 => String::new(),
        count => format!(", {count} ports"),
    };
    if let Some(listen) = &config.listen {
        let open = match is_loopback(listen) {
            true => "",
            false => "; whoever reaches it, in your network or beyond, can use the tunnel",
        };
        writeln!(
            f,
            "listen:    accepts TCP connections at {listen}{}{open}",
            every(&listen.host)
        )?;
    }
    if let Some(connect) = &config.connect {
        writeln!(
            f,
            "connect:   dials TCP {connect} for each session from the other end"
        )?;
    }
    match &config.udp_bind {
        Some(bind) => {
            let closed = match is_loopback(&bind.first()) {
                true => "; only this machine can reach it",
                false => "",
            };
            writeln!(
                f,
                "receive:   UDP at {bind}{}{}{closed}",
                every(&bind.host),
                count(&bind.ports)
            )?
        }
        None => writeln!(f, "receive:   UDP at a port that the system chooses")?,
    }
    if let (Some(server), Some(id)) = (&config.rendezvous_server, &config.service_id) {
        let does = match config.role() {
            Role::Peer => "is found",
            _ => "finds this one",
        };
        writeln!(
            f,
            "found:     the other end {does} as \"{id}\" through {server}"
        )?;
    }
    other(f, config)
}

/// Where the other end is.
fn other(f: &mut fmt::Formatter, config: &Config) -> fmt::Result {
    match &config.udp_connect {
        None if config.role() == Role::Peer => {
            writeln!(f, "other:     sends to where it is found")
        }
        Some(other) if other.ports.are_many() => {
            let count = other.ports.len();
            writeln!(
                f,
                "other:     sends to {other}, one of {count} ports at a time"
            )
        }
        Some(other) => writeln!(f, "other:     sends to {other}"),
        None => writeln!(
            f,
            "other:     answers whoever sends{}",
            if config.seal.is_some() {
                " with the right key"
            } else {
                ""
            }
        ),
    }
}

fn seal(config: &Config) -> String {
    match &config.seal {
        Some(seal) => {
            let source = match seal.source {
                KeySource::Psk => "the psk",
                KeySource::Password => "a key made from the password",
            };
            let fresh = match config.forward_secrecy {
                ForwardSecrecy::Off => "; whoever gets the key later can read what is recorded",
                ForwardSecrecy::Auto => "; fresh keys with every other end that agrees on some",
                ForwardSecrecy::Require => "; nothing is carried without fresh keys",
            };
            format!("{} with {source}{fresh}", seal.method.name())
        }
        None => "none: packets are open, anybody can read and forge them".into(),
    }
}

fn kcp(f: &mut fmt::Formatter, config: &Config) -> fmt::Result {
    let kcp = &config.kcp;
    writeln!(
        f,
        "packets:   what the path carries, at most {} bytes, headers of IP and UDP included",
        kcp.mtu
    )?;
    writeln!(
        f,
        "windows:   send {}, receive {} packets",
        kcp.sndwnd, kcp.rcvwnd
    )?;
    let resend = match kcp.resend {
        0 => "no fast retransmission".into(),
        skips => format!("fast retransmission after {skips} skips"),
    };
    let flush = match kcp.flush {
        Flush::Interval => "at the interval only",
        Flush::AfterSend => "after sending",
        Flush::AcksToo => "after sending, acks at once",
    };
    let congestion = if kcp.nc { "off" } else { "on" };
    writeln!(
        f,
        "kcp:       nodelay {}, interval {} ms, {resend}, congestion control {congestion}, flush {flush}",
        kcp.nodelay, kcp.interval
    )
}

/// How the rate is found, and its limits.
fn rate(config: &Config) -> String {
    let rate = &config.rate;
    let limit =
        |rate: Option<f64>| rate.map_or("no limit".into(), |rate| format!("at most {rate} Mbit/s"));
    let paced = config.is_paced();
    let control = if paced { "on" } else { "off" };
    // plain KCP does not keep to it
    let up = rate.up.filter(|_| paced);
    format!(
        "control {control}, up {}, down {}",
        limit(up),
        limit(rate.down)
    )
}

fn sockets(f: &mut fmt::Formatter, config: &Config) -> fmt::Result {
    let (tcp, udp) = (&config.tcp, &config.udp);
    let buffer = |bytes: u32| {
        if bytes == 0 {
            "the system's".into()
        } else {
            format!("{bytes} bytes")
        }
    };
    let options = [
        (tcp.nodelay, "nodelay".into()),
        (
            tcp.keepalive > 0,
            format!("keepalive after {} s", tcp.keepalive),
        ),
        (tcp.reuseport, "reuseport".into()),
    ];
    let mut on: Vec<String> = options
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect();
    if on.is_empty() {
        on.push("no options".into());
    }
    writeln!(
        f,
        "tcp:       {}; buffers: send {}, receive {}",
        on.join(", "),
        buffer(tcp.sndbuf),
        buffer(tcp.rcvbuf)
    )?;
    if let (Some(version), Some(connect)) = (tcp.proxy_protocol, &config.connect) {
        writeln!(
            f,
            "proxy:     tells {connect} first who connects, by the PROXY protocol {version}"
        )?;
    }
    let reuseport = if udp.reuseport { "reuseport; " } else { "" };
    let dscp = match udp.dscp {
        0 => String::new(),
        dscp => format!("DSCP {dscp}; "),
    };
    writeln!(
        f,
        "udp:       {reuseport}{dscp}buffers: send {}, receive {}",
        buffer(udp.sndbuf),
        buffer(udp.rcvbuf)
    )
}

fn times(f: &mut fmt::Formatter, config: &Config) -> fmt::Result {
    writeln!(
        f,
        "timeout:   a session ends after {} s without a sign of the other end",
        config.timeout
    )?;
    writeln!(
        f,
        "linger:    {} s at most for the last data of a closed session",
        config.linger
    )?;
    match config.keepalive {
        0 => writeln!(f, "keepalive: none")?,
        seconds if config.udp_connect.is_some() || config.role() == Role::Peer => {
            writeln!(f, "keepalive: a ping after {seconds} s of silence")?
        }
        _ => {}
    }
    if config.hop > 0 && config.udp_connect.is_some() {
        let seconds = config.hop;
        writeln!(f, "hop:       to another pair of ports every {seconds} s")?;
    }
    writeln!(
        f,
        "time_wait: the number of an ended session is forgotten after {} s",
        config.time_wait
    )
}

fn log_level(loglevel: u8) -> &'static str {
    match loglevel {
        0 => "everything (trace)",
        1 => "details (debug)",
        2 => "what happens (info)",
        3 => "warnings and errors",
        4 | 5 => "errors",
        _ => "nothing",
    }
}
