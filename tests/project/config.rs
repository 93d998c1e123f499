//! The configuration from outside: what every key takes, and what each mistake is answered.

use kcptun::config::{Config, Role};
use kcptun::settings::Flush;
use kcptun::time::Duration;
use std::path::Path;

const PSK: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn parse(text: &str) -> Result<Config, String> {
    let first = |lines: Vec<&str>| lines[0].to_owned();
    Config::parse("t.json", text).map_err(|error| first(error.lines().collect()))
}

/// A server's configuration with one more key, nested as its dots say.
fn with(key: &str, value: &str) -> Result<Config, String> {
    let entry = match key.split_once('.') {
        Some((group, name)) => format!(r#""{group}": {{"{name}": {value}}}"#),
        None => format!(r#""{key}": {value}"#),
    };
    let addresses = r#""udp_bind": ":2900", "connect": "localhost:80""#;
    parse(&format!(
        r#"{{{addresses}, "password": "hunter2", {entry}}}"#
    ))
}

fn message(result: Result<Config, String>) -> String {
    let message = result.err().unwrap_or_else(|| "accepted".into());
    assert!(
        !message.contains(['\n', '\r']),
        "more than a line: {message}"
    );
    assert!(message.len() < 500, "too long: {message}");
    message
        .strip_prefix("t.json: ")
        .unwrap_or(&message)
        .to_owned()
}

/// An integer key: name, smallest, default, largest, how a message ends, where its value goes.
type Number = (
    &'static str,
    i64,
    i64,
    i64,
    &'static str,
    fn(&Config) -> i64,
);

const NUMBERS: [Number; 17] = [
    ("kcp.mtu", 300, 1500, 1500, " (bytes), or \"auto\"", |c| {
        c.kcp.mtu.into()
    }),
    ("kcp.sndwnd", 16, 32_768, 65535, " (packets)", |c| {
        c.kcp.sndwnd.into()
    }),
    ("kcp.rcvwnd", 16, 32_768, 65535, " (packets)", |c| {
        c.kcp.rcvwnd.into()
    }),
    ("kcp.nodelay", 0, 1, 2, "", |c| c.kcp.nodelay.into()),
    ("kcp.interval", 10, 10, 500, " (milliseconds)", |c| {
        c.kcp.interval.into()
    }),
    ("kcp.resend", 0, 2, 100, " (packets)", |c| {
        c.kcp.resend.into()
    }),
    ("kcp.nc", 0, 1, 1, "", |c| c.kcp.nc.into()),
    ("kcp.flush", 0, 1, 2, "", |c| match c.kcp.flush {
        Flush::Interval => 0,
        Flush::AfterSend => 1,
        Flush::AcksToo => 2,
    }),
    ("tcp.sndbuf", 0, 0, 1073741824, " (bytes)", |c| {
        c.tcp.sndbuf.into()
    }),
    ("tcp.rcvbuf", 0, 0, 1073741824, " (bytes)", |c| {
        c.tcp.rcvbuf.into()
    }),
    ("udp.sndbuf", 0, 1048576, 1073741824, " (bytes)", |c| {
        c.udp.sndbuf.into()
    }),
    ("udp.rcvbuf", 0, 4194304, 1073741824, " (bytes)", |c| {
        c.udp.rcvbuf.into()
    }),
    ("timeout", 60, 600, 86400, " (seconds)", |c| {
        c.timeout.into()
    }),
    ("linger", 5, 30, 600, " (seconds)", |c| c.linger.into()),
    ("keepalive", 0, 25, 600, " (seconds)", |c| {
        c.keepalive.into()
    }),
    ("time_wait", 5, 120, 3600, " (seconds)", |c| {
        c.time_wait.into()
    }),
    ("loglevel", 0, 2, 6, " (0 says most, 6 nothing)", |c| {
        c.loglevel.into()
    }),
];

#[test]
fn a_limit_that_nothing_keeps_to_is_not_promised() {
    for (rate, kcp, why) in [
        (r#", "control": "off""#, "", "rate.control is off"),
        ("", r#", "kcp": {"nc": 0}"#, "kcp.nc is 0"),
    ] {
        let config = parse(&format!(
            r#"{{"udp_bind": ":2900", "connect": "localhost:80", "psk": "{PSK}", "rate": {{"up": 5, "down": 7{rate}}}{kcp}}}"#
        ))
        .expect("allowed");
        let said = config.headline();
        let told = "control off, up no limit, down at most 7 Mbit/s";
        assert!(said.contains(told), "{said}");
        let right = format!("t.json: rate.up: has no effect without rate control, and {why}");
        assert_eq!(config.warnings, [right]);
    }
}

#[test]
fn every_number_has_its_default_and_its_limits() {
    for (key, min, default, max, unit, get) in NUMBERS {
        assert_eq!(with("//", "0").map(|c| get(&c)), Ok(default), "{key}");
        for good in [min, max] {
            assert_eq!(
                with(key, &good.to_string()).map(|c| get(&c)),
                Ok(good),
                "{key}"
            );
        }
        for bad in [min - 1, max + 1, i64::MIN, i64::MAX] {
            let right = format!("{key}: {bad} is out of range; it must be {min} to {max}{unit}");
            assert_eq!(message(with(key, &bad.to_string())), right);
        }
        for (bad, what) in [
            ("1.5", "an integer"),
            ("true", "a number"),
            ("[3]", "a number"),
        ] {
            let shown = if bad == "[3]" { "an array" } else { bad };
            let right = format!("{key}: {shown} is not {what}; it must be {min} to {max}{unit}");
            assert_eq!(message(with(key, bad)), right);
        }
    }
}

/// A switch: name, default, where its value goes.
type Switch = (&'static str, bool, fn(&Config) -> bool);

const SWITCHES: [Switch; 3] = [
    ("tcp.nodelay", true, |c| c.tcp.nodelay),
    ("tcp.reuseport", false, |c| c.tcp.reuseport),
    ("udp.reuseport", false, |c| c.udp.reuseport),
];

#[test]
fn every_switch_has_its_default_and_both_values() {
    for (key, default, get) in SWITCHES {
        assert_eq!(with("//", "0").map(|c| get(&c)), Ok(default), "{key}");
        for value in [true, false] {
            assert_eq!(
                with(key, &value.to_string()).map(|c| get(&c)),
                Ok(value),
                "{key}"
            );
        }
        let right = format!("{key}: 1 is not a switch; it must be true or false");
        assert_eq!(message(with(key, "1")), right);
    }
}

#[test]
fn keepalive_takes_seconds_or_a_switch() {
    let key = "tcp.keepalive";
    assert_eq!(with("//", "0").map(|c| c.tcp.keepalive), Ok(120));
    for (value, seconds) in [("true", 120), ("false", 0), ("10", 10), ("7200", 7200)] {
        assert_eq!(with(key, value).map(|c| c.tcp.keepalive), Ok(seconds));
    }
    for value in ["9", "0", "7201", "-1", "\"on\""] {
        let said = message(with(key, value));
        assert!(said.starts_with("tcp.keepalive: "), "{said}");
        let right = "it must be 10 to 7200 (seconds)";
        assert!(
            said.contains(right) && said.ends_with(", or true or false"),
            "{said}"
        );
    }
}

#[test]
fn rates_take_fractions_and_have_limits() {
    for key in ["rate.up", "rate.down"] {
        let get = |c: &Config| {
            if key == "rate.up" {
                c.rate.up
            } else {
                c.rate.down
            }
        };
        assert_eq!(with("//", "0").map(|c| get(&c)), Ok(None));
        for (text, value) in [("0.1", 0.1), ("100000", 1e5), ("1e5", 1e5), ("12.5", 12.5)] {
            assert_eq!(with(key, text).map(|c| get(&c)), Ok(Some(value)));
        }
        for bad in ["0", "0.09", "-1", "100000.5", "1e300"] {
            let right = format!("{key}: {bad} is out of range; it must be 0.1 to 100000 (Mbit/s)");
            assert_eq!(message(with(key, bad)), right);
        }
    }
    for (text, on) in [("\"on\"", true), ("\"off\"", false)] {
        assert_eq!(with("rate.control", text).map(|c| c.rate.control), Ok(on));
    }
    assert_eq!(with("//", "0").map(|c| c.rate.control), Ok(true));
}

#[test]
fn text_keys_reach_the_configuration() {
    let config = parse(
        r#"{"listen": ":1", "connect": "[::1]:2", "kcp_bind": "0.0.0.0:3", "kcp_connect": "a.lan:4",
            "user": "nobody:nogroup", "password": "hunter2", "method": "aes256gcm"}"#,
    )
    .unwrap();
    let tcp = [&config.listen, &config.connect].map(|at| at.as_ref().unwrap().to_string());
    let udp = [&config.udp_bind, &config.udp_connect];
    let udp = udp.map(|at| at.as_ref().unwrap().to_string());
    assert_eq!(
        [tcp, udp].concat(),
        [":1", "[::1]:2", "0.0.0.0:3", "a.lan:4"]
    );
    assert_eq!(config.user.as_ref().unwrap().to_string(), "nobody:nogroup");
    assert_eq!(config.seal.as_ref().unwrap().method.name(), "aes256gcm");
    assert_eq!(config.role(), Role::Both);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_tunnel_gets_what_was_configured() {
    let config = with("linger", "7").unwrap();
    let (one, two) = (config.settings(), config.settings());
    assert_eq!(
        (one.timeout, one.linger),
        (Duration::from_secs(600), Duration::from_secs(7))
    );
    assert_eq!(
        (one.keepalive, one.time_wait),
        (Duration::from_secs(25), Duration::from_secs(120))
    );
    assert_eq!(one.hop, Duration::ZERO);
    assert_eq!(
        with("hop", "90").unwrap().settings().hop,
        Duration::from_secs(90)
    );
    let dscp = |value| with("dscp", value).map(|config| config.udp.dscp);
    assert_eq!((dscp("46"), dscp("0")), (Ok(46), Ok(0)));
    let right = "dscp: 64 is out of range; it must be 0 to 63";
    assert_eq!(message(with("dscp", "64")), right);
    assert!(one.accepts && one.sealing.is_some());
    assert_ne!(one.seed, two.seed);
    let peer = parse(r#"{"listen": ":1", "udp_connect": "b:2"}"#)
        .unwrap()
        .settings();
    assert!(!peer.accepts && peer.sealing.is_none());
}

#[test]
fn the_three_roles_of_rendezvous_mode_reach_the_tunnel() {
    use kcptun::settings::Rendezvous;
    let there = r#""rendezvous_server": "r.lan:1", "service_id": "home ssh""#;
    for (text, expected, said) in [
        (
            r#""udp_bind": ":3""#.to_owned(),
            Rendezvous::Keeper,
            "rendezvous server: brings two other ends together",
        ),
        (
            format!(r#""connect": "a:2", {there}"#),
            Rendezvous::Service(b"home ssh".into()),
            "the other end finds this one as \"home ssh\" through r.lan:1",
        ),
        (
            format!(r#""listen": ":2", {there}"#),
            Rendezvous::Client(b"home ssh".into()),
            "the other end is found as \"home ssh\" through r.lan:1",
        ),
        (
            r#""listen": ":2", "udp_connect": "b:1""#.to_owned(),
            Rendezvous::None,
            "sends to b:1",
        ),
    ] {
        let config = parse(&format!(r#"{{"password": "hunter2", {text}}}"#)).unwrap();
        assert_eq!(config.settings().rendezvous, expected);
        let shown = config.describe().to_string();
        assert!(shown.contains(said), "{shown}");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}

/// What comes with kcptun-libev, 2.0 and 2.3.5: a server's and a client's file.
const OF_LIBEV: [(&str, &str, u8); 2] = [
    (
        r#"{"connect": "[::1]:5201", "udp_bind": ":5555", "#,
        r#""kcp": {"mtu": 1400, "sndwnd": 256, "rcvwnd": 256, "nodelay": 0, "interval": 10, "resend": 3, "nc": 1},
            "udp": {"sndbuf": 1048576, "rcvbuf": 1048576},
            "method": "xchacha20poly1305_ietf", "password": "k", "loglevel": 2}"#,
        2,
    ),
    (
        r#"{"kcp_bind": ":5555", "connect": "127.0.0.1:5201", "#,
        r#""kcp": {"mtu": 1492, "sndwnd": 256, "rcvwnd": 256, "nodelay": 1, "interval": 100, "resend": 0, "nc": 1},
            "udp": {"sndbuf": 1048576, "rcvbuf": 1048576},
            "method": "xchacha20poly1305_ietf", "password": "k", "loglevel": 6}"#,
        1,
    ),
];

#[test]
fn the_files_that_come_with_kcptun_libev_are_read_as_it_reads_them() {
    for (server, rest, loglevel) in OF_LIBEV {
        let client = match server.contains("kcp_bind") {
            true => r#"{"listen": ":5202", "kcp_connect": "127.0.0.1:5555", "#,
            false => r#"{"listen": ":5202", "udp_connect": "[::1]:5555", "#,
        };
        for (text, role) in [(server, Role::Server), (client, Role::Peer)] {
            let config = parse(&format!("{text}{rest}")).expect("it is right");
            assert_eq!((config.role(), config.loglevel), (role, loglevel), "{text}");
            assert_eq!(config.kcp.sndwnd, 256);
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        }
    }
}

#[test]
fn the_scale_of_the_log_is_that_of_the_names() {
    // silence, fatal, error, warning, notice, info, debug, verbose, very verbose
    let later = [6, 5, 4, 3, 2, 2, 1, 0, 0];
    for name in ["kcp_bind", "kcp_connect"] {
        let addresses = format!(r#""{name}": "b:1", "connect": "a:2", "password": "x""#);
        for (theirs, ours) in later.into_iter().enumerate() {
            let level = format!(r#""loglevel": {theirs}"#);
            // whichever comes first
            for text in [
                format!("{{{addresses}, {level}}}"),
                format!("{{{level}, {addresses}}}"),
            ] {
                let config = parse(&text).expect("it is right");
                assert_eq!(config.loglevel, ours, "{text}");
                let said = config.describe().to_string();
                let told =
                    format!("; loglevel {theirs} is on the scale of kcptun-libev 2.1 and later");
                assert!(said.contains(&told), "{said}");
            }
        }
        let wrong = parse(&format!(r#"{{{addresses}, "loglevel": 9}}"#));
        assert_eq!(
            message(wrong),
            "loglevel: 9 is out of range; it must be 0 to 8 (0 says nothing, 8 most, as in kcptun-libev 2.1 and later: the file has kcp_bind or kcp_connect)"
        );
        let config = parse(&format!("{{{addresses}}}")).expect("it is right");
        assert_eq!(config.loglevel, 2);
        assert!(!config.describe().to_string().contains("loglevel"));
        let windows = r#""kcp": {"sndwnd": 65536, "rcvwnd": 65536}"#;
        let config = parse(&format!("{{{addresses}, {windows}}}")).expect("it is right");
        assert_eq!((config.kcp.sndwnd, config.kcp.rcvwnd), (65535, 65535));
    }
    let config = with("loglevel", "4").expect("it is right");
    assert_eq!(config.loglevel, 4);
    assert!(!config.describe().to_string().contains("libev"));
}

/// Everything that is wrong with a file, without its name.
fn wrong(text: &str) -> Vec<String> {
    let error = Config::parse("t.json", text).expect_err("it is wrong");
    let lines: Vec<&str> = error.lines().collect();
    let first = error.to_string();
    match lines.len() {
        1 => assert_eq!(first, lines[0]),
        n => assert!(
            first.starts_with(lines[0]) && first.contains(&format!("({} more", n - 1)),
            "{first}"
        ),
    }
    let short = lines.iter().map(|line| line.strip_prefix("t.json: "));
    short.map(|line| line.expect("a name").to_owned()).collect()
}

#[test]
fn all_that_is_wrong_is_named() {
    let go = r#"{"localaddr": ":12948", "remoteaddr": "vps:29900", "key": "it's a secrect", "crypt": "aes",
        "mode": "fast3", "mtu": 1350, "datashard": 10, "quiet": false}"#;
    assert_eq!(
        wrong(go),
        [
            "localaddr: is a key of Go's kcptun; here it is listen",
            "remoteaddr: is a key of Go's kcptun; here it is udp_connect",
            "key: is a key of Go's kcptun; here it is psk or password",
            "crypt: is a key of Go's kcptun; here it is method",
            "mode: is a key of Go's kcptun, which kcptun does not have; remove it",
            "mtu: unknown key here; did you mean kcp.mtu? Write \"kcp\": {\"mtu\": ...}",
            "datashard: is a key of Go's kcptun, which kcptun does not have; remove it",
            "quiet: is a key of Go's kcptun; here it is loglevel",
        ]
    );
    // between keys, too
    assert_eq!(
        wrong(
            r#"{"listen": ":1", "http_listen": "x", "psk": "x", "timeout": 5, "timeout": 6, "kcp": {"mtu": 1, "nc": 2}, "tcp": 1}"#
        ),
        [
            "http_listen: \"x\" has no port; it must be host:port",
            "timeout: 5 is out of range; it must be 60 to 86400 (seconds)",
            "timeout: is given twice; keep one of them",
            "kcp.mtu: 1 is out of range; it must be 300 to 1500 (bytes), or \"auto\"",
            "kcp.nc: 2 is out of range; it must be 0 to 1",
            "tcp: 1 is not an object; write \"tcp\": {\"nodelay\": ...}",
            "listen: \":1\" needs udp_connect, too, the other end to carry to",
            "psk: has 1 characters instead of 44; it must be 32 bytes in base64, which is 44 characters; copy it again from the other end, or make one for both with kcptun --genpsk",
        ]
    );
    assert_eq!(
        wrong(r#"{"rendezvous_server": "r:1", "udp_connect": "b:1", "udp_bind": "r:1"}"#).len(),
        4
    );
    // what is missing is not known where an address may have been meant
    assert_eq!(wrong(r#"{"lisen": ":1", "udp_connect": "b:1"}"#).len(), 1);
    assert_eq!(wrong(r#"{"listen": "x", "udp_connect": "b:1"}"#).len(), 1);
    let many: String = (0..5000).map(|n| format!("\"k{n}\": 1,")).collect();
    assert_eq!(wrong(&format!("{{{many} \"z\": 1}}")).len(), 100);
}

#[test]
fn a_service_is_told_who_connects_where_that_is_asked_for() {
    use kcptun::proxy::Version;
    let get = |value| with("tcp.proxy_protocol", value).map(|c| c.tcp.proxy_protocol);
    assert_eq!(with("//", "0").map(|c| c.tcp.proxy_protocol), Ok(None));
    assert_eq!(get("\"off\""), Ok(None));
    assert_eq!(get("\"v1\""), Ok(Some(Version::V1)));
    assert_eq!(get("\"v2\""), Ok(Some(Version::V2)));
    let right = "it must be \"off\", \"v1\" or \"v2\"";
    for (wrong, what) in [
        ("\"v3\"", "a version"),
        ("1", "text in quotes"),
        ("true", "text in quotes"),
    ] {
        assert_eq!(
            message(with("tcp.proxy_protocol", wrong)),
            format!("tcp.proxy_protocol: {wrong} is not {what}; {right}")
        );
    }
    let config = with("tcp.proxy_protocol", "\"v2\"").expect("it is right");
    let said = config.describe().to_string();
    assert!(
        said.contains("tells localhost:80 first who connects, by the PROXY protocol v2"),
        "{said}"
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let peer = parse(
        r#"{"listen": ":1", "udp_connect": "b:2", "password": "x", "tcp": {"proxy_protocol": "v1"}}"#,
    )
    .expect("allowed");
    assert!(peer.warnings[0].contains("has no effect without connect"));
}

#[test]
fn comments_and_a_byte_order_mark_are_skipped() {
    let text = "\u{feff}{\"//\": 1, \"//\": [2], \"// x\": {\"y\": null}, \"listen\": \":1\",
        \"udp_connect\": \"b:2\", \"kcp\": {\"//mtu\": \"why\", \"mtu\": 500}}\n";
    assert_eq!(parse(text).map(|c| c.kcp.mtu), Ok(500));
}

#[test]
fn what_can_work_is_accepted() {
    for (text, role) in [
        (r#"{"udp_bind": ":1", "connect": "a:2"}"#, Role::Server),
        (r#"{"udp_connect": "b:1", "listen": ":2"}"#, Role::Peer),
        (
            r#"{"udp_bind": ":3", "udp_connect": "b:1", "listen": ":2"}"#,
            Role::Peer,
        ),
        (
            r#"{"udp_bind": ":3", "udp_connect": "b:1", "connect": "a:2"}"#,
            Role::Server,
        ),
        (r#"{"udp_connect": "b:1", "connect": "a:2"}"#, Role::Server),
        (
            r#"{"udp_connect": "b:1", "listen": ":2", "connect": "a:2"}"#,
            Role::Both,
        ),
        (
            r#"{"udp_bind": "[::]:3", "udp_connect": "192.0.2.1:1", "listen": ":2"}"#,
            Role::Peer,
        ),
        (
            r#"{"udp_bind": "0.0.0.0:3", "udp_connect": "[::ffff:192.0.2.1]:1", "listen": ":2"}"#,
            Role::Peer,
        ),
        (r#"{"udp_bind": ":3"}"#, Role::Rendezvous),
        (
            r#"{"connect": "a:2", "rendezvous_server": "r:1", "service_id": "s"}"#,
            Role::Server,
        ),
        (
            r#"{"udp_bind": ":3", "listen": ":2", "rendezvous_server": "r:1", "service_id": "s"}"#,
            Role::Peer,
        ),
    ] {
        assert_eq!(parse(text).map(|c| c.role()), Ok(role), "{text}");
    }
}

#[test]
fn what_is_perhaps_not_meant_is_warned_of() {
    let open = "packets are open, and anybody can read and forge them; kcptun --genpsk makes a psk";
    let port = "connect: without udp_bind the port changes with every start, \
                so that the other end can hardly open sessions to this one";
    let both = format!(r#""password": "hunter2", "psk": "{PSK}""#);
    for (keys, expected) in [
        (r#""listen": ":1", "password": "hunter2""#, vec![]),
        (
            r#""listen": ":1""#,
            vec![format!("neither psk nor password is given: {open}")],
        ),
        (
            r#""listen": ":1", "method": "aes256gcm""#,
            vec![format!(
                "neither psk nor password is given, so method has no effect: {open}"
            )],
        ),
        (
            &format!(r#""listen": ":1", {both}"#),
            vec!["password: is not used because psk is given, too; remove one of them".into()],
        ),
        (
            r#""connect": "a:1", "password": "hunter2""#,
            vec![port.into()],
        ),
        (
            r#""listen": ":1", "hop": 9"#,
            vec![
                format!("neither psk nor password is given: {open}"),
                "hop: has no effect without a key: nothing follows an address then".into(),
            ],
        ),
    ] {
        let config = parse(&format!(r#"{{"udp_connect": "b:2", {keys}}}"#)).unwrap();
        let expected: Vec<String> = expected
            .iter()
            .map(|line| format!("t.json: {line}"))
            .collect();
        assert_eq!(config.warnings, expected, "{keys}");
    }
}

#[test]
fn the_shipped_files_work_together_and_warn() {
    let load =
        |name: &str| Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (server, peer) = (load("server.json"), load("peer.json"));
    assert_eq!((server.role(), peer.role()), (Role::Server, Role::Peer));
    assert_eq!(server.udp_bind, peer.udp_connect);
    for config in [server, peer] {
        assert!(config.seal.is_some());
        let [warning] = &config.warnings[..] else {
            panic!("{:?}", config.warnings)
        };
        let right = "password: is the one that kcptun is shipped with, which everybody knows; change it at both ends";
        assert!(warning.ends_with(right), "{warning}");
    }
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("kcptun-mode-{}.json", std::process::id()));
    let warnings = |text: &str, mode| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        Config::load(&path).unwrap().warnings
    };
    let sealed = format!(r#"{{"listen": ":1", "udp_connect": "b:2", "psk": "{PSK}"}}"#);
    let name = path.display();
    let expected = format!(
        "{name}: everybody on this machine can read it, and so the key in it; chmod 600 {name}"
    );
    assert_eq!(warnings(&sealed, 0o644), [expected]);
    assert_eq!(warnings(&sealed, 0o640), [""; 0]);
    let open = warnings(r#"{"listen": ":1", "udp_connect": "b:2"}"#, 0o644);
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0].contains("packets are open"));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn no_message_shows_a_secret() {
    let secret = "hunter2";
    let config = with("//", "0").unwrap();
    for shown in [
        format!("{config:?}"),
        config.describe().to_string(),
        config.warnings.concat(),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for key in ["psk", "password"] {
        for value in [
            r#"["hunter2"]"#,
            r#"{"hunter2": 1}"#,
            r#"{"key": "hunter2"}"#,
        ] {
            let error = message(parse(&format!(
                r#"{{"listen": ":1", "udp_connect": "b:2", "{key}": {value}}}"#
            )));
            assert!(!error.contains(secret), "{error}");
        }
    }
    for key in ["pasword", "key", "psks", "kcp.password"] {
        let error = message(with(key, "\"hunter2\""));
        assert!(error.starts_with(key) && !error.contains(secret), "{error}");
    }
}

/// A wrong psk, and what the message says of it.
#[test]
fn a_psk_must_be_a_key() {
    let right = "it must be 32 bytes in base64, which is 44 characters; copy it again from the other end, or make one for both with kcptun --genpsk";
    for (psk, what) in [
        (&PSK[1..], "psk: has 43 characters instead of 44"),
        ("hunter2!", "psk: has 8 characters instead of 44"),
        ("aHVudGVyMg==", "psk: holds 7 bytes"),
        (" hunter2", "psk: has 8 characters instead of 44"),
    ] {
        let error = message(parse(&format!(
            r#"{{"listen": ":1", "udp_connect": "b:2", "psk": "{psk}"}}"#
        )));
        assert_eq!(error, format!("{what}; {right}"));
    }
    for (psk, expected) in [
        (
            "YOUR KEY".to_owned(),
            "psk: \"YOUR KEY\" is a placeholder; kcptun --genpsk makes a key to put there",
        ),
        (format!(" {PSK}"), SURROUNDED),
        (format!("{PSK}\\n"), SURROUNDED),
        (format!("{PSK} "), SURROUNDED),
    ] {
        let error = message(parse(&format!(
            r#"{{"listen": ":1", "udp_connect": "b:2", "psk": "{psk}"}}"#
        )));
        assert_eq!(error, expected, "{psk:?}");
    }
}

const SURROUNDED: &str = "psk: there is a space or a line break before or after the key; remove it";

#[test]
fn a_name_that_stands_for_another_is_warned_of() {
    let warnings = |key: &str, host: &str| {
        let other = match key {
            "udp_connect" => r#""listen": ":1""#,
            "connect" => r#""udp_bind": ":1""#,
            _ => r#""listen": ":1", "service_id": "s""#,
        };
        let text = format!(r#"{{"{key}": "{host}:2", {other}, "psk": "{PSK}"}}"#);
        parse(&text).expect("allowed").warnings
    };
    for host in [
        "vps.example.net",
        "example.com",
        "a.b.EXAMPLE.org.",
        "vps.example",
        "vps.invalid",
    ] {
        for key in ["udp_connect", "connect", "rendezvous_server"] {
            let expected = format!(
                "t.json: {key}: {host} is a placeholder; put the name or address of your own machine there"
            );
            assert_eq!(warnings(key, host), [expected]);
        }
    }
    for host in ["myexample.net", "example.net.de", "localhost", "192.0.2.1"] {
        assert_eq!(warnings("udp_connect", host), [""; 0]);
    }
}

/// A whole file, and the message that it gets.
#[rustfmt::skip]
const BAD_FILES: [(&str, &str); 64] = [
    ("", "is empty; it must hold a JSON object: {\"key\": value, ...}"),
    (" \n\t", "is empty; it must hold a JSON object: {\"key\": value, ...}"),
    ("[]", "holds an array; it must be an object: {\"key\": value, ...}"),
    ("null", "holds null; it must be an object: {\"key\": value, ...}"),
    ("\"hunter2\"", "holds text; it must be an object: {\"key\": value, ...}"),
    ("12", "holds a number; it must be an object: {\"key\": value, ...}"),
    ("{", "line 1, column 1: not valid JSON: EOF while parsing an object; the file ends too soon: a closing bracket is missing"),
    ("{\n  \"listen\": \":1\",\n}", "line 3, column 1: not valid JSON: trailing comma; remove the comma at the end of line 2"),
    ("{\"listen\" \":1\"}", "line 1, column 11: not valid JSON: expected `:`; a colon belongs between a key and its value"),
    ("{} {}", "line 1, column 4: not valid JSON: trailing characters"),
    ("{\"timeout\": 1e999}", "line 1, column 17: not valid JSON: number out of range"),
    ("{\n  // why\n}", "line 2, column 3: not valid JSON: key must be a string; write a comment as a key that begins with //: \"// why\": \"text\""),
    ("{\"timeout\": 60, \"linger\": 5,}", "line 1, column 29: not valid JSON: trailing comma; remove the comma before it"),
    ("{\n\"listen\": \":1\"\n\n\"timeout\": 60}", "line 4, column 1: not valid JSON: expected `,` or `}`; a comma is missing at the end of line 2"),
    ("{\"timeout\": 60 \"linger\": 5}", "line 1, column 16: not valid JSON: expected `,` or `}`; a comma is missing before it"),
    ("{\n\"listen: \":1\"}", "line 2, column 13: not valid JSON: expected `,` or `}`; there is a quote or a comma too few, or too many, on this line"),
    ("{\"timeout\": 60;}", "line 1, column 15: not valid JSON: expected `,` or `}`; entries are separated by commas"),
    ("{\n\"listen\": \":1,\n\"timeout\": 60}", "line 2, column 15: not valid JSON: control character (\\u0000-\\u001F) found while parsing a string; text ends on the line that it begins on: a closing quote is missing"),
    ("{\"listen\": \":1", "line 1, column 14: not valid JSON: EOF while parsing a string; a closing quote is missing"),
    ("{\n\"timeout\": 60\n", "line 2, column 14: not valid JSON: EOF while parsing an object; the file ends too soon: a closing bracket is missing"),
    ("{listen: \":1\"}", "line 1, column 2: not valid JSON: key must be a string; a key must be in quotes: \"key\""),
    ("{'listen': \":1\"}", "line 1, column 2: not valid JSON: key must be a string; quotes are plain double ones: \"text\""),
    ("{\"listen\": “:1”}", "line 1, column 12: not valid JSON: expected value; quotes are plain double ones: \"text\""),
    ("{\"timeout\": 60,, \"linger\": 5}", "line 1, column 16: not valid JSON: key must be a string; there is a comma too many"),
    ("{\"tcp\": {\"nodelay\": True}}", "line 1, column 21: not valid JSON: expected value; text must be in quotes, and true and false in lower case"),
    ("{\n\"timeout\": 60, // why\n\"linger\": 5}", "line 2, column 16: not valid JSON: key must be a string; write a comment as a key that begins with //: \"// why\": \"text\""),
    ("{}", "no address at all; a server needs udp_bind and connect, a peer needs udp_connect and listen"),
    (r#"{"password": "hunter2"}"#, "no address at all; a server needs udp_bind and connect, a peer needs udp_connect and listen"),
    (r#"{"listen": ":1"}"#, r#"listen: ":1" needs udp_connect, too, the other end to carry to"#),
    (r#"{"connect": "a:1"}"#, r#"connect: "a:1" needs udp_bind, too, to receive at"#),
    (r#"{"service_id": "s"}"#, "service_id: needs rendezvous_server, too, by which the other end is found"),
    (r#"{"udp_bind": ":1", "service_id": "s"}"#, "service_id: needs rendezvous_server, too, by which the other end is found"),
    (r#"{"listen": ":1", "rendezvous_server": "r:1"}"#, r#"rendezvous_server: "r:1" needs service_id, too, the same at both ends"#),
    (r#"{"rendezvous_server": "r:1", "service_id": "s"}"#, r#"rendezvous_server: "r:1" needs connect at a server, listen at a peer; the rendezvous server itself has udp_bind only"#),
    (r#"{"listen": ":1", "connect": "a:1", "rendezvous_server": "r:1", "service_id": "s"}"#, r#"listen: ":1" and connect cannot both be set with rendezvous_server; keep one of the two"#),
    (r#"{"listen": ":1", "udp_connect": "b:1", "rendezvous_server": "r:1", "service_id": "s"}"#, r#"udp_connect: "b:1" is the other end, which rendezvous_server is to find; keep one of the two"#),
    (r#"{"connect": "a:1", "udp_bind": "r:1", "rendezvous_server": "r:1", "service_id": "s"}"#, r#"rendezvous_server: "r:1" is the address of udp_bind, too; it must be another one"#),
    (r#"{"connect": "a:1", "udp_bind": "0.0.0.0:1", "rendezvous_server": "[::1]:1", "service_id": "s"}"#, "rendezvous_server: ::1 cannot be reached from udp_bind, 0.0.0.0; both must be IPv4"),
    (r#"{"udp_bind": 27290, "connect": "a:1"}"#, r#"udp_bind: 27290 is a number, and a port alone; write ":27290" for every address of this machine, or "host:27290""#),
    (r#"{"udp_bind": ":443,27290-27299", "connect": "a:1", "rendezvous_server": "r:1", "service_id": "s"}"#, r#"udp_bind: ":443,27290-27299" names several ports, and with rendezvous_server the other end is told of one; write ":443""#),
    (r#"{"udp_connect": "b:1"}"#, r#"udp_connect: "b:1" alone carries nothing; a peer needs listen, too"#),
    (r#"{"udp_bind": ":1", "udp_connect": "b:1"}"#, "neither listen nor connect is given; a server needs connect, a peer needs listen"),
    (r#"{"udp_bind": ":1", "listen": ":2"}"#, r#"listen: ":2" needs udp_connect, too, the other end to carry to"#),
    (r#"{"udp_bind": ":1", "listen": ":2", "connect": "a:3"}"#, r#"listen: ":2" needs udp_connect, too, the other end to carry to"#),
    (r#"{"listen": ":1", "connect": "a:3"}"#, r#"listen: ":1" needs udp_connect, too, the other end to carry to"#),
    (r#"{"listen": "127.0.0.1:1", "connect": "127.0.0.1:1", "udp_connect": "b:2"}"#, r#"connect: "127.0.0.1:1" is the address of listen, too; it must be another one"#),
    (r#"{"listen": ":1", "udp_bind": "[::1]:2", "udp_connect": "[::1]:2"}"#, r#"udp_connect: "[::1]:2" is the address of udp_bind, too; it must be another one"#),
    (r#"{"listen": ":1", "udp_bind": "0.0.0.0:2", "udp_connect": "[2001:db8::1]:2"}"#, "udp_connect: 2001:db8::1 cannot be reached from udp_bind, 0.0.0.0; both must be IPv4"),
    (r#"{"listen": ":1", "udp_bind": "[::1]:2", "udp_connect": "127.0.0.1:2"}"#, "udp_connect: 127.0.0.1 cannot be reached from udp_bind, ::1; both must be IPv6"),
    (r#"{"listen": ":1", "listen": ":1"}"#, "listen: is given twice; keep one of them"),
    (r#"{"kcp": {"mtu": 500, "mtu": 600}}"#, "kcp.mtu: is given twice; keep one of them"),
    (r#"{"kcp": {"mtu": 500}, "kcp": {}}"#, "kcp: is given twice; keep one of them"),
    (r#"{"udp_bind": ":1", "kcp_bind": ":1"}"#, "kcp_bind: is the same key as udp_bind, which is given, too; keep one of them"),
    (r#"{"kcp": 5}"#, r#"kcp: 5 is not an object; write "kcp": {"mtu": ...}"#),
    (r#"{"kcp": null}"#, r#"kcp: null is not an object; write "kcp": {"mtu": ...}"#),
    (r#"{"tcp": true}"#, r#"tcp: true is not an object; write "tcp": {"nodelay": ...}"#),
    (r#"{"udp": []}"#, r#"udp: an array is not an object; write "udp": {"reuseport": ...}"#),
    (r#"{"rate": 100}"#, r#"rate: 100 is not an object; write "rate": {"up": ...}"#),
    (r#"{"kcp.mtu": 1400}"#, r#"kcp.mtu: unknown key; write it as "kcp": {"mtu": ...}"#),
    (r#"{"": 1}"#, "\"\": unknown key; the keys here are listen, connect, udp_bind, udp_connect, rendezvous_server, service_id, psk, password, method, forward_secrecy, dscp, timeout, linger, keepalive, hop, time_wait, http_listen, user, log, pidfile, loglevel, kcp, tcp, udp, rate"),
    (r#"{"kcp": {"fruit": 1}}"#, "kcp.fruit: unknown key; the keys here are mtu, sndwnd, rcvwnd, nodelay, interval, resend, nc, flush"),
    (r#"{"rate": {"mtu": 1}}"#, r#"rate.mtu: unknown key here; did you mean kcp.mtu? Write "kcp": {"mtu": ...}"#),
    (r#"{"kcp": {"listen": ":1"}}"#, r#"kcp.listen: unknown key here; did you mean listen? Write "listen" outside of the object"#),
    (r#"{"kcp": {"kcp": {}}}"#, "kcp.kcp: unknown key; did you mean kcp?"),
];

/// A key and a value in a configuration that is good otherwise, and the message.
#[rustfmt::skip]
const BAD_VALUES: [(&str, &str, &str); 80] = [
    ("pasword", "\"x\"", "pasword: unknown key; did you mean password?"),
    ("Password", "\"x\"", "Password: unknown key; did you mean password?"),
    ("passwd", "\"x\"", "passwd: unknown key; did you mean password?"),
    ("log_level", "1", "log_level: unknown key; did you mean loglevel?"),
    ("udp-connect", "\"b:1\"", "udp-connect: unknown key; did you mean udp_connect?"),
    ("a\\nb", "1", "\"a\\nb\": unknown key; the keys here are listen, connect, udp_bind, udp_connect, rendezvous_server, service_id, psk, password, method, forward_secrecy, dscp, timeout, linger, keepalive, hop, time_wait, http_listen, user, log, pidfile, loglevel, kcp, tcp, udp, rate"),
    ("mtu", "1400", r#"mtu: unknown key here; did you mean kcp.mtu? Write "kcp": {"mtu": ...}"#),
    ("nodelay", "1", "nodelay: unknown key here; did you mean kcp.nodelay or tcp.nodelay?"),
    ("reuseport", "true", "reuseport: unknown key here; did you mean tcp.reuseport or udp.reuseport?"),
    ("kcp.mut", "1400", "kcp.mut: unknown key; did you mean kcp.mtu?"),
    ("kcp.snd_wnd", "64", "kcp.snd_wnd: unknown key; did you mean kcp.sndwnd?"),
    ("tcp.keep_alive", "true", "tcp.keep_alive: unknown key; did you mean tcp.keepalive?"),
    ("key", "\"x\"", "key: is a key of Go's kcptun; here it is psk or password"),
    ("crypt", "\"aes\"", "crypt: is a key of Go's kcptun; here it is method"),
    ("remoteaddr", "\"b:1\"", "remoteaddr: is a key of Go's kcptun; here it is udp_connect"),
    ("target", "\"a:1\"", "target: is a key of Go's kcptun; here it is connect"),
    ("datashard", "10", "datashard: is a key of Go's kcptun, which kcptun does not have; remove it"),
    ("http_listen", "0", "http_listen: 0 is not a port; it must be 1 to 65535, or host:port"),
    ("http_listen", "\"99999\"", "http_listen: \"99999\" has no valid port; it must be 1 to 65535"),
    ("http_listen", "true", "http_listen: true is not text in quotes; it must be host:port, or a port"),
    ("http_listen", "\"localhost\"", "http_listen: \"localhost\" has no port; it must be host:port"),
    ("obfs", "\"dpi\"", "obfs: is a key of kcptun-libev that kcptun does not support (yet); remove it"),
    ("netdev", "\"eth0\"", "netdev: is a key of kcptun-libev that kcptun does not support (yet); remove it"),
    ("service_id", "\"\"", "service_id: \"\" is not a service id; it must be text of 1 to 255 bytes"),
    ("service_id", "\"a\\nb\"", "service_id: \"a\\nb\" is not a service id; it must be text of 1 to 255 bytes"),
    ("service_id", "7", "service_id: 7 is not text in quotes; it must be text of 1 to 255 bytes"),
    ("service-id", "\"s\"", "service-id: unknown key; did you mean service_id?"),
    ("rendezvous", "\"r:1\"", "rendezvous: unknown key; the keys here are listen, connect, udp_bind, udp_connect, rendezvous_server, service_id, psk, password, method, forward_secrecy, dscp, timeout, linger, keepalive, hop, time_wait, http_listen, user, log, pidfile, loglevel, kcp, tcp, udp, rate"),
    ("rendezvous_server", "\":1\"", "rendezvous_server: \":1\" names no host to connect to; for this machine write \"127.0.0.1:1\""),
    ("kcp.mtu", "9000", r#"kcp.mtu: 9000 is out of range; it must be 300 to 1500 (bytes), or "auto""#),
    ("kcp.mtu", "\"1400\"", r#"kcp.mtu: "1400" is not a number; it must be 300 to 1500 (bytes), without quotes, or "auto""#),
    ("kcp.mtu", "null", r#"kcp.mtu: null is not a number; it must be 300 to 1500 (bytes), or leave the key out, or "auto""#),
    ("kcp.mtu", "{}", r#"kcp.mtu: an object is not a number; it must be 300 to 1500 (bytes), or "auto""#),
    ("kcp.mtu", "1400.0", r#"kcp.mtu: 1400.0 is not an integer; it must be 300 to 1500 (bytes), or "auto""#),
    ("kcp.mtu", "-1", r#"kcp.mtu: -1 is out of range; it must be 300 to 1500 (bytes), or "auto""#),
    ("kcp.mtu", "4294968696", r#"kcp.mtu: 4294968696 is out of range; it must be 300 to 1500 (bytes), or "auto""#),
    ("kcp.mtu", "99999999999999999999", r#"kcp.mtu: 1e20 is out of range; it must be 300 to 1500 (bytes), or "auto""#),
    ("kcp.mtu", "-1e300", r#"kcp.mtu: -1e300 is out of range; it must be 300 to 1500 (bytes), or "auto""#),
    ("loglevel", "\"debug\"", "loglevel: \"debug\" is not a number; it must be 0 to 6 (0 says most, 6 nothing), without quotes"),
    ("rate.up", "\"100M\"", "rate.up: \"100M\" is not a number; it must be 0.1 to 100000 (Mbit/s), without quotes"),
    ("rate.control", "true", "rate.control: true is not text in quotes; it must be \"on\" or \"off\""),
    ("rate.control", "\"auto\"", "rate.control: \"auto\" is not a switch; it must be \"on\" or \"off\""),
    ("tcp.nodelay", "\"yes\"", "tcp.nodelay: \"yes\" is not a switch; it must be true or false, without quotes"),
    ("tcp.nodelay", "null", "tcp.nodelay: null is not a switch; it must be true or false"),
    ("forward_secrecy", "\"on\"", "forward_secrecy: \"on\" is not one of its values; it must be \"auto\", \"require\" or \"off\""),
    ("method", "\"aes\"", "method: \"aes\" is not a method; it must be one of chacha20poly1305_ietf, xchacha20poly1305_ietf, xsalsa20poly1305, aes256gcm"),
    ("method", "1", "method: 1 is not text in quotes; it must be one of chacha20poly1305_ietf, xchacha20poly1305_ietf, xsalsa20poly1305, aes256gcm"),
    ("user", "\"\"", "user: \"\" is not a user; it must be USER or USER:GROUP"),
    ("user", "\"a:b:c\"", "user: \"a:b:c\" is not a user; it must be USER or USER:GROUP"),
    ("log", "\"sylog\"", "log: \"sylog\" is not a log; it must be \"stderr\", \"syslog\" or the path of a file, with a / in it"),
    ("log", "1", "log: 1 is not text in quotes; it must be \"stderr\", \"syslog\" or the path of a file"),
    ("pidfile", "\"/run/\"", "pidfile: \"/run/\" is not a file; it must be the path of a file"),
    ("pidfile", "true", "pidfile: true is not text in quotes; it must be the path of a file"),
    ("user", "1000", "user: 1000 is not text in quotes; it must be USER or USER:GROUP"),
    ("psk", "\"\"", "psk: is empty; kcptun --genpsk makes a key for psk, the same at both ends, and without this key packets are open"),
    ("psk", "7", "psk: holds a number; it must be text in quotes"),
    ("psk", "null", "psk: holds null; it must be text in quotes"),
    ("listen", "80", "listen: 80 is a number, and a port alone; write \"127.0.0.1:80\" for programs of this machine, or \":80\" for whoever reaches it"),
    ("listen", "80000", "listen: 80000 is not text in quotes; it must be host:port"),
    ("udp_connect", "27290", "udp_connect: 27290 is a number, and a port alone; write \"host:27290\""),
    ("udp_connect", "\"27290\"", "udp_connect: \"27290\" is a port alone; write \"host:27290\""),
    ("listen", "null", "listen: null is not text; it must be host:port, or leave the key out"),
    ("listen", "\"\"", "listen: \"\" has no port; it must be host:port"),
    ("listen", "\"80\"", "listen: \"80\" is a port alone; write \"127.0.0.1:80\" for programs of this machine, or \":80\" for whoever reaches it"),
    ("listen", "\"localhost\"", "listen: \"localhost\" has no port; it must be host:port"),
    ("listen", "\":0\"", "listen: \":0\" has no valid port; it must be a number from 1 to 65535"),
    ("listen", "\":65536\"", "listen: \":65536\" has no valid port; it must be a number from 1 to 65535"),
    ("listen", "\":+80\"", "listen: \":+80\" has no valid port; it must be a number from 1 to 65535"),
    ("listen", "\"a:ssh\"", "listen: \"a:ssh\" has no valid port; it must be a number from 1 to 65535"),
    ("listen", "\"::1\"", "listen: \"::1\" is an IPv6 address without brackets and port; write \"[::1]:port\""),
    ("listen", "\":::\\n\"", "listen: \":::\\n\" is an IPv6 address without brackets; write \"[::]:port\""),
    ("listen", "\"fe80::1:2:3:4:5:6:80\"", "listen: \"fe80::1:2:3:4:5:6:80\" is an IPv6 address without brackets; write \"[fe80:0:1:2:3:4:5:6]:80\""),
    ("listen", "\"a:b:80\"", "listen: \"a:b:80\" has more than one colon; it must be host:port or [IPv6]:port"),
    ("listen", "\"[::1]\"", "listen: \"[::1]\" has no port; it must be [IPv6]:port"),
    ("listen", "\"[::1:80\"", "listen: \"[::1:80\" has no closing bracket; it must be [IPv6]:port"),
    ("listen", "\"[localhost]:80\"", "listen: \"[localhost]:80\" has no IPv6 address in its brackets; it must be [IPv6]:port"),
    ("listen", "\"1.2.3.256:80\"", "listen: \"1.2.3.256:80\" begins with something that is not an IPv4 address; it must be like 192.0.2.1:port"),
    ("listen", "\"*:80\"", "listen: \"*:80\" begins with something that is neither a name nor an IP address; it must be host:port"),
    ("udp_connect", "\":2900\"", "udp_connect: \":2900\" names no host to connect to; for this machine write \"127.0.0.1:2900\""),
    ("udp_connect", "\"http://a:80/\"", "udp_connect: \"http://a:80/\" is a URL or a path; it must be host:port"),
];

#[test]
fn every_mistake_has_its_message() {
    let files = BAD_FILES.map(|(text, expected)| (message(parse(text)), expected));
    let values = BAD_VALUES.map(|(key, value, expected)| (message(with(key, value)), expected));
    let wrong: Vec<_> = files
        .iter()
        .chain(&values)
        .filter(|(got, expected)| got != expected)
        .collect();
    assert!(wrong.is_empty(), "got, expected: {wrong:#?}");
    let long = format!("\"{}\"", "a".repeat(5000));
    let shown = format!("\"{}\"...", "a".repeat(40));
    assert_eq!(
        message(with("listen", &long)),
        format!("listen: {shown} has no port; it must be host:port")
    );
    let key = "k".repeat(5000);
    assert!(
        message(with(&key, "1")).starts_with(&format!("\"{}\"...: unknown key", "k".repeat(40)))
    );
    assert_eq!(
        message(parse(
            r#"{"udp_bind": ":1", "connect": "a:1", "password": ""}"#
        )),
        "password: is empty; kcptun --genpsk makes a key for psk, the same at both ends, and without this key packets are open"
    );
}

#[test]
fn a_file_that_cannot_be_read_has_its_message() {
    let dir = std::env::temp_dir().join(format!("kcptun-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let cases = [
        (
            dir.join("missing"),
            "no such file; it must be a configuration in JSON",
        ),
        (dir.clone(), "is a directory; it must be a file"),
        (
            file("binary", b"{\n\"a\": \"\xff\"}"),
            "line 2: is not UTF-8; it must be text in UTF-8",
        ),
        (
            file("long", &[b' '; 70_000]),
            "is longer than 65536 bytes; it must be a configuration in JSON",
        ),
        (
            file("empty", b""),
            "is empty; it must hold a JSON object: {\"key\": value, ...}",
        ),
    ];
    for (path, expected) in cases {
        let error = Config::load(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", path.display()));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn statistics_are_for_this_machine_unless_it_is_said() {
    let read = |value: &str| {
        let text = format!(
            r#"{{"listen": ":1", "udp_connect": "a:2", "psk": "{PSK}", "http_listen": {value}}}"#
        );
        let config = Config::parse("t.json", &text).expect("right");
        let listen = config.http_listen.expect("an address").to_string();
        (listen, config.warnings.len())
    };
    for local in ["8080", "\"8080\"", "\":8080\"", "\"127.0.0.1:8080\""] {
        assert_eq!(read(local), ("127.0.0.1:8080".into(), 0), "{local}");
    }
    assert_eq!(read("\"localhost:8080\""), ("localhost:8080".into(), 0));
    assert_eq!(read("\"[::1]:8080\""), ("[::1]:8080".into(), 0));
    for wide in ["0.0.0.0:8080", "[::]:8080", "router.lan:8080"] {
        assert_eq!(read(&format!("\"{wide}\"")), (wide.into(), 1));
    }
}
