//! Networks that change, for real: routers that translate addresses (nftables), between network namespaces that the test
//! makes and that go with it. It takes root, `ip`, `nft`, `unshare` and `nsenter`; without one of them the tests are
//! skipped and say so.
//!
//!     client 192.168.1.10 ── router 1 ──┐
//!                                       ├── public 203.0.113.1
//!     server 192.168.2.10 ── router 2 ──┘

mod harness;

use harness::*;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time without progress that a user may see.
const GAP: Duration = Duration::from_secs(2);
/// Other work may hold up this one: so often a download is changed until one gap is short.
const ATTEMPTS: usize = 3;
/// The UDP port of servers.
const PORT: u16 = 27290;

fn say(line: &str) {
    // past the capture of the test's output, or nobody would see it
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A network namespace, and a mount namespace with a `hosts` file of its own, held by a process that does nothing else.
struct Space {
    holder: Child,
    hosts: File,
}

impl Space {
    fn new() -> Result<Space, String> {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sleep",
                "1000",
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let link = |id: u32| fs::read_link(format!("/proc/{id}/ns/mnt")).ok();
        let (own, other) = (link(std::process::id()), holder.id());
        let ready = eventually(|| {
            let gone = !matches!(holder.try_wait(), Ok(None));
            gone || link(other).is_some_and(|link| Some(link) != own)
        });
        if !ready || !matches!(holder.try_wait(), Ok(None)) {
            return Err("unshare does not make a namespace".into());
        }
        let space = Space {
            holder,
            hosts: File::new("127.0.0.1 localhost\n"),
        };
        let hosts = space.hosts.path.display();
        space.run(&format!("mount --bind {hosts} /etc/hosts"))?;
        space.run("ip link set lo up")?;
        Ok(space)
    }

    fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    fn enter(&self) -> [String; 5] {
        ["nsenter", "-t", &self.pid(), "-n", "-m"].map(String::from)
    }

    fn run(&self, line: &str) -> Result<(), String> {
        let words = line.split_whitespace();
        let [program, options @ ..] = self.enter();
        let output = Command::new(program).args(options).args(words).output();
        check(line, output)
    }

    fn must(&self, lines: &[&str]) {
        for line in lines {
            self.run(line).expect("a command");
        }
    }

    /// Sets nftables to these rules and no others.
    fn rules(&self, rules: &str) -> Result<(), String> {
        let file = File::new(&format!("flush ruleset\n{rules}\n"));
        self.run(&format!("nft -f {}", file.path.display()))
    }

    /// A daemon in here.
    fn start(&self, config: &Value) -> Daemon {
        let enter = self.enter();
        let mut by: Vec<&str> = enter.iter().map(String::as_str).collect();
        by.push(env!("CARGO_BIN_EXE_kcptun"));
        Daemon::start_by(&by, config, &[])
    }

    /// Does something, like opening a socket, in here.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        let file = fs::File::open(path).expect("a namespace");
        let work = || {
            // SAFETY: no memory is involved; only this thread is moved, and it ends with the work.
            let moved = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "in the namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(work).join().expect("the work"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn check(line: &str, output: std::io::Result<Output>) -> Result<(), String> {
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(format!("{line}: {}", error.trim()))
        }
        Err(e) => Err(format!("{line}: {e}")),
    }
}

/// The five namespaces of the picture above.
struct Net {
    public: Space,
    routers: [Space; 2],
    ends: [Space; 2],
}

impl Net {
    /// None: it cannot be made here, and the reason was said.
    fn new(test: &str) -> Option<Net> {
        // SAFETY: the call has no conditions.
        let made = match unsafe { libc::geteuid() } {
            0 => Net::make(),
            _ => Err("it takes root".into()),
        };
        made.map_err(|why| say(&format!("skipped: {test}: {why}")))
            .ok()
    }

    fn make() -> Result<Net, String> {
        let space = Space::new;
        let net = Net {
            public: space()?,
            routers: [space()?, space()?],
            ends: [space()?, space()?],
        };
        net.public.run("ip link add bridge type bridge")?;
        net.public.run("ip link set bridge up")?;
        net.public.run("ip addr add 203.0.113.1/24 dev bridge")?;
        for n in [1, 2] {
            let (router, end) = (&net.routers[n - 1], &net.ends[n - 1]);
            for line in [
                format!(
                    "ip link add r{n} type veth peer name out netns {}",
                    router.pid()
                ),
                format!("ip link set r{n} master bridge up"),
            ] {
                net.public.run(&line)?;
            }
            for line in [
                format!("ip addr add 203.0.113.{}/24 dev out", n + 1),
                "ip link set out up".into(),
                format!("ip link add in type veth peer name net netns {}", end.pid()),
                format!("ip addr add 192.168.{n}.1/24 dev in"),
                "ip link set in up".into(),
                "sysctl -q -w net.ipv4.ip_forward=1".into(),
            ] {
                router.run(&line)?;
            }
            net.translate(n, "")?;
            for line in [
                format!("ip addr add 192.168.{n}.10/24 dev net"),
                "ip link set net up".into(),
                format!("ip route add default via 192.168.{n}.1"),
            ] {
                end.run(&line)?;
            }
        }
        Ok(net)
    }

    /// Router `n` gives all that leaves its address and, where they are said (like ":30000-30099"), other ports. It lets
    /// nothing in that nobody has asked for.
    fn translate(&self, n: usize, ports: &str) -> Result<(), String> {
        let to = if ports.is_empty() { "" } else { "to" };
        self.routers[n - 1].rules(&format!(
            "table ip nat {{
                chain out {{
                    type nat hook postrouting priority 100
                    oifname out meta l4proto udp masquerade {to} {ports}
                }}
                chain in {{
                    type filter hook forward priority 0
                    iifname out ct state new drop
                }}
                chain here {{
                    type filter hook input priority 0
                    iifname out meta l4proto udp drop
                }}
            }}"
        ))
    }

    /// A server at a public address whose service sends without end, its client behind router 1, and a download by it.
    fn download(&self, udp_connect: &str, keepalive: u32) -> Download {
        let more = json!({ "keepalive": keepalive });
        self.download_at(&PORT.to_string(), udp_connect, more)
    }

    /// The same at these ports of the server; `more` is for the client.
    fn download_at(&self, ports: &str, udp_connect: &str, more: Value) -> Download {
        let service = self.public.inside(|| TcpListener::bind("127.0.0.1:0"));
        let service = service.expect("a listener");
        let at = service.local_addr().expect("its address");
        thread::spawn(move || {
            let bytes = pattern(1, 64 * 1024);
            while let Ok((mut stream, _)) = service.accept() {
                while stream.write_all(&bytes).is_ok() {}
            }
        });
        let server = json!({
            "udp_bind": format!(":{ports}"), "connect": at.to_string(), "psk": PSK,
            "rate": {"up": 50},
        });
        let mut peer = json!({
            "udp_connect": format!("{udp_connect}:{ports}"), "listen": "127.0.0.1:2222", "psk": PSK,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            peer[key] = value.clone();
        }
        let server = self.public.start(&server);
        let peer = self.ends[0].start(&peer);
        Download::begin(server, peer, &self.ends[0])
    }
}

/// Reads without end, and notes how long nothing came.
struct Download {
    server: Daemon,
    peer: Daemon,
    bytes: Arc<AtomicU64>,
    /// When something came last, and the longest time that nothing did.
    gap: Arc<Mutex<(Instant, Duration)>>,
}

impl Download {
    fn begin(server: Daemon, peer: Daemon, client: &Space) -> Download {
        let stream = client.inside(|| TcpStream::connect("127.0.0.1:2222"));
        let mut stream = stream.expect("a connection");
        let (bytes, gap) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(Mutex::new((Instant::now(), Duration::ZERO))),
        );
        let (count, longest) = (bytes.clone(), gap.clone());
        thread::spawn(move || {
            let (mut piece, expected) = ([0; 16 * 1024], pattern(1, 64 * 1024));
            let mut place = 0;
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                for (i, byte) in piece[..n].iter().enumerate() {
                    assert_eq!(*byte, expected[(place + i) % expected.len()]);
                }
                place += n;
                count.store(place as u64, Ordering::Relaxed);
                let (mut gap, now) = (longest.lock().expect("the gap"), Instant::now());
                *gap = (now, gap.1.max(now - gap.0));
            }
        });
        let download = Download {
            server,
            peer,
            bytes,
            gap,
        };
        assert!(eventually(|| download.bytes() > 1 << 20), "no start");
        download
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The longest time without progress around a change.
    fn gap_around(&self, change: impl FnOnce()) -> Duration {
        let before = Instant::now();
        *self.gap.lock().expect("the gap") = (before, Duration::ZERO);
        change();
        let bytes = self.bytes();
        let goes_on = eventually(|| self.bytes() > bytes + (2 << 20));
        assert!(
            goes_on,
            "no progress\nthe peer:\n{}\nthe server:\n{}",
            self.peer.log(),
            self.server.log()
        );
        self.gap.lock().expect("the gap").1
    }

    /// Makes a change until the gap around it is short.
    fn survives(&self, what: &str, mut change: impl FnMut(usize)) {
        let mut gaps = Vec::new();
        for attempt in 0..ATTEMPTS {
            gaps.push(self.gap_around(|| change(attempt)));
            if gaps[attempt] <= GAP {
                return say(&format!("{what}: without progress for {gaps:?}"));
            }
        }
        panic!("{what}: without progress for {gaps:?}\n{}", self.peer.log());
    }
}

#[test]
fn a_download_survives_a_router_that_forgets() {
    let Some(net) = Net::new("a_download_survives_a_router_that_forgets") else {
        return;
    };
    let download = net.download("203.0.113.1", 25);
    download.survives("a router that forgets", |attempt| {
        let first = 30_000 + 1_000 * attempt as u16;
        let ports = format!(":{first}-{}", first + 99);
        net.translate(1, &ports).expect("rules");
        // with its link a router of this kind forgets whom it had translated
        net.routers[0].must(&["ip link set out down", "ip link set out up"]);
    });
    download.server.wait_for_log("is at 203.0.113.2:30");
}

#[test]
fn a_download_survives_a_new_address_of_the_client() {
    let Some(net) = Net::new("a_download_survives_a_new_address_of_the_client") else {
        return;
    };
    let download = net.download("203.0.113.1", 25);
    download.survives("a new address of the client", |attempt| {
        let addr = format!("ip addr add 192.168.1.{}/24 dev net", 20 + attempt);
        let lines = [
            "ip addr flush dev net",
            &addr,
            "ip route add default via 192.168.1.1",
        ];
        net.ends[0].must(&lines);
    });
    download
        .peer
        .wait_for_log("is now reached from 192.168.1.20");
}

/// What comes from the client's port is dropped, what goes to it passes: only answers that are missing tell.
#[test]
fn a_download_survives_a_way_there_that_closes_for_its_port() {
    let Some(net) = Net::new("a_download_survives_a_way_there_that_closes_for_its_port") else {
        return;
    };
    let download = net.download("203.0.113.1", 25);
    let port = download.peer.udp_port();
    let gap = download.gap_around(|| {
        net.public
            .rules(&format!(
                "table inet closed {{
                    chain in {{
                        type filter hook input priority 0
                        udp sport {port} drop
                    }}
                }}"
            ))
            .expect("rules");
    });
    say(&format!("a way that closes: without progress for {gap:?}"));
    download.peer.wait_for_log("moves to another port");
}

#[test]
fn a_download_survives_moves_to_other_ports_every_second() {
    let Some(net) = Net::new("a_download_survives_moves_to_other_ports_every_second") else {
        return;
    };
    let more = json!({ "hop": 1 });
    let download = net.download_at("27290-27309", "203.0.113.1", more);
    let moves = || download.peer.log().matches("goes on at port").count();
    let gap = download.gap_around(|| assert!(eventually(|| moves() >= 8), "{} moves", moves()));
    say(&format!("moves every second: without progress for {gap:?}"));
    assert!(gap <= GAP, "{gap:?}");
}

#[test]
fn a_name_that_moves_is_followed() {
    let Some(net) = Net::new("a_name_that_moves_is_followed") else {
        return;
    };
    let name = |at: &str| {
        let hosts = format!("127.0.0.1 localhost\n{at} moves.example\n");
        fs::write(&net.ends[0].hosts.path, hosts).expect("a file");
    };
    name("203.0.113.1");
    let download = net.download("moves.example", 2);
    let gap = download.gap_around(|| {
        net.public.must(&[
            "ip addr add 203.0.113.9/24 dev bridge",
            "ip addr del 203.0.113.1/24 dev bridge",
            // the first address takes the second with it, where the system does not promote it
            "ip addr replace 203.0.113.9/24 dev bridge",
        ]);
        name("203.0.113.9");
    });
    say(&format!("a name that moves: without progress for {gap:?}"));
    download.peer.wait_for_log("stands for 203.0.113.9:");
}

/// From a network with IPv4 only to one with IPv6 only, and back.
#[test]
fn a_download_survives_a_network_of_the_other_family() {
    let test = "a_download_survives_a_network_of_the_other_family";
    let Some(net) = Net::new(test) else {
        return;
    };
    let client = &net.ends[0];
    // a client without a router, beside the public address
    let line = format!(
        "ip link add six type veth peer name six netns {}",
        client.pid()
    );
    if let Err(why) = net.public.run(&line) {
        return say(&format!("skipped: {test}: {why}"));
    }
    net.public.must(&[
        "ip addr add 198.51.100.1/24 dev six",
        "ip -6 addr add 2001:db8::1/64 dev six nodad",
        "ip link set six up",
    ]);
    let change = |lines: &[&str]| {
        client.must(&["ip addr flush dev six", "ip addr flush dev net"]);
        client.must(lines);
    };
    client.must(&["ip link set six up"]);
    let four = ["ip addr add 198.51.100.2/24 dev six"];
    let six = ["ip -6 addr add 2001:db8::2/64 dev six nodad"];
    change(&four);
    let hosts = "127.0.0.1 localhost\n198.51.100.1 both.example\n2001:db8::1 both.example\n";
    fs::write(&client.hosts.path, hosts).expect("a file");
    let download = net.download("both.example", 25);
    for (name, lines, from) in [
        ("from IPv4 to IPv6", six, "is now reached from 2001:db8::2"),
        (
            "from IPv6 to IPv4",
            four,
            "is now reached from 198.51.100.2",
        ),
    ] {
        let gap = download.gap_around(|| change(&lines));
        say(&format!("{name}: without progress for {gap:?}"));
        download.peer.wait_for_log(from);
    }
    download.server.wait_for_log("is at [2001:db8::2]:");
}

#[test]
fn ends_behind_routers_meet() {
    let Some(net) = Net::new("ends_behind_routers_meet") else {
        return;
    };
    let service = net.ends[1].inside(|| TcpListener::bind("127.0.0.1:0"));
    let service = service.expect("a listener");
    let at = service.local_addr().expect("its address");
    thread::spawn(move || {
        while let Ok((stream, _)) = service.accept() {
            thread::spawn(move || echo(stream));
        }
    });
    let through = format!("203.0.113.1:{PORT}");
    let keeper = json!({"udp_bind": format!(":{PORT}"), "psk": PSK});
    let server = json!({
        "connect": at.to_string(), "rendezvous_server": through, "service_id": "home", "psk": PSK,
    });
    let peer = json!({
        "listen": "127.0.0.1:2222", "rendezvous_server": through, "service_id": "home", "psk": PSK,
    });
    let _keeper = net.public.start(&keeper);
    let _server = net.ends[1].start(&server);
    let _peer = net.ends[0].start(&peer);
    let entry: SocketAddr = "127.0.0.1:2222".parse().expect("an address");
    let answered = || {
        let stream = net.ends[0].inside(|| TcpStream::connect(entry));
        stream.is_ok_and(|stream| {
            let patience = stream.set_read_timeout(Some(PATIENCE));
            patience.expect("an option");
            ask(&stream, b"hello").is_ok()
        })
    };
    assert!(eventually(answered), "{}", _peer.log());
}
