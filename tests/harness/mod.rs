//! Real daemons with real sockets on the loopback interface, and the programs at both ends of a tunnel.

// Each test program uses its part of it.
#![allow(dead_code)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use socket2::SockRef;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub const PSK: &str = "YSBrZXkgZm9yIHRoZSB0ZXN0cyBvZiBrY3B0dW4gISE=";
/// Whatever takes longer than this does not happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

static COUNTER: AtomicU16 = AtomicU16::new(0);

fn count() -> u16 {
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// A port that nobody has, TCP and UDP; below those that the system gives to connections.
pub fn free_port() -> u16 {
    let base = 12_000 + (std::process::id() * 101 % 18_000) as u16;
    loop {
        let port = base.wrapping_add(count() % 2_000);
        let free = |host: &str| {
            TcpListener::bind((host, port)).is_ok() && UdpSocket::bind((host, port)).is_ok()
        };
        if free("127.0.0.1") && (!has_ipv6() || free("::1")) {
            return port;
        }
    }
}

pub fn has_ipv6() -> bool {
    UdpSocket::bind(("::1", 0)).is_ok()
}

/// Says that something was not tried, past the capture of the test's output, or nobody would see it.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// Lets this process open as many files as the system allows it: some tests hold a thousand connections.
pub fn many_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a limit");
}

/// Tries until it holds, or patience has run out.
pub fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A file in a directory of its own, both of which go when this does.
pub struct File {
    directory: PathBuf,
    pub path: PathBuf,
}

impl File {
    pub fn new(text: &str) -> File {
        let name = format!("kcptun-e2e-{}-{}", std::process::id(), count());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("t.json");
        fs::write(&path, text).expect("a file");
        File { directory, path }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What a process writes to standard error, which is a pipe, as it comes.
pub fn log_of(child: &mut Child) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let (stderr, copy) = (child.stderr.take().expect("a pipe"), log.clone());
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = copy.lock().expect("the log");
            log.push_str(&line);
            log.push('\n');
        }
    });
    log
}

/// A running kcptun. It is killed when this goes.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    config: File,
}

impl Daemon {
    /// Starts it with this configuration, and waits until its sockets are bound.
    pub fn start(config: &Value) -> Daemon {
        Daemon::start_by(&[env!("CARGO_BIN_EXE_kcptun")], config, &[])
    }

    /// `by`: the program and what comes before `-c`; `more`: what comes after the configuration.
    pub fn start_by(by: &[&str], config: &Value, more: &[&str]) -> Daemon {
        let daemon = Daemon::spawn(by, config, more);
        daemon.wait_for_log("UDP bound to");
        daemon
    }

    pub fn spawn(by: &[&str], config: &Value, more: &[&str]) -> Daemon {
        let config = File::new(&config.to_string());
        let mut child = Command::new(by[0])
            .args(&by[1..])
            .arg("-c")
            .arg(&config.path)
            .args(more)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let log = log_of(&mut child);
        Daemon { child, log, config }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes its configuration anew, has it read, and waits until the log has `part` once more than before.
    pub fn reload(&self, config: &str, part: &str) {
        let lines = || self.log().matches(part).count();
        let before = lines();
        fs::write(&self.config.path, config).expect("a file");
        self.signal(libc::SIGHUP);
        let said = eventually(|| lines() > before);
        assert!(said, "{part:?} is not in the log:\n{}", self.log());
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    pub fn wait_for_log(&self, part: &str) {
        let found = eventually(|| self.log().contains(part));
        assert!(found, "{part:?} is not in the log:\n{}", self.log());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved; the child has not been waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Its exit status, which it has to have soon.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let over = eventually(|| {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(over, "it goes on:\n{}", self.log());
        status.expect("a status")
    }

    /// How many descriptors it has open, where the system says so.
    pub fn descriptors(&self) -> Option<usize> {
        let list = fs::read_dir(format!("/proc/{}/fd", self.id())).ok()?;
        Some(list.count())
    }

    /// Processor time that it has used, in hundredths of a second as a rule, where the system says so.
    pub fn ticks(&self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    /// The port of its UDP socket.
    pub fn udp_port(&self) -> u16 {
        let log = self.log();
        let (_, rest) = log.split_once("UDP bound to ").expect("the line");
        let address = rest.split([',', ';', '\n']).next().expect("an address");
        address.parse::<SocketAddr>().expect("an address").port()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("the last lines of a log, backwards:\n{}", tail.join("\n"));
        }
    }
}

/// What the two daemons of a tunnel are to be told.
pub struct Plan {
    pub server: Map<String, Value>,
    pub peer: Map<String, Value>,
}

impl Plan {
    /// A sealed tunnel from a free port to a service.
    pub fn to(service: SocketAddr) -> Plan {
        Plan::on("127.0.0.1", service)
    }

    /// As `to`, with every other address on `host`, which may be in brackets.
    pub fn on(host: &str, service: SocketAddr) -> Plan {
        let udp = format!("{host}:{}", free_port());
        let object = |value: Value| value.as_object().expect("an object").clone();
        Plan {
            server: object(json!({
                "udp_bind": udp, "connect": service.to_string(), "psk": PSK,
            })),
            peer: object(json!({
                "udp_connect": udp, "listen": format!("{host}:{}", free_port()), "psk": PSK,
            })),
        }
    }

    /// The same for both daemons.
    pub fn both(mut self, key: &str, value: Value) -> Plan {
        self.server.insert(key.into(), value.clone());
        self.peer.insert(key.into(), value);
        self
    }

    pub fn udp(&self) -> SocketAddr {
        address(&self.server["udp_bind"])
    }

    pub fn entry(&self) -> SocketAddr {
        address(&self.peer["listen"])
    }

    pub fn start_server(&self) -> Daemon {
        Daemon::start(&Value::Object(self.server.clone()))
    }

    pub fn start_peer(&self) -> Daemon {
        Daemon::start(&Value::Object(self.peer.clone()))
    }

    pub fn start(&self) -> Tunnel {
        Tunnel {
            server: self.start_server(),
            peer: self.start_peer(),
            entry: self.entry(),
        }
    }
}

fn address(value: &Value) -> SocketAddr {
    let text = value.as_str().expect("a string");
    let mut found = text.to_socket_addrs().expect("an address");
    found.next().expect("an address")
}

/// Both daemons, and where TCP goes in.
pub struct Tunnel {
    pub server: Daemon,
    pub peer: Daemon,
    pub entry: SocketAddr,
}

/// A service that runs `program` for each of its connections, in a thread of its own.
pub fn serve(program: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    serve_at("127.0.0.1", program)
}

pub fn serve_at(host: &str, program: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).expect("a listener");
    // hundreds may be dialled before this is scheduled
    let more = SockRef::from(&listener).listen(1024);
    more.expect("an option");
    let at = listener.local_addr().expect("its address");
    let program = Arc::new(program);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let program = program.clone();
            patient(&stream);
            thread::spawn(move || program(stream));
        }
    });
    at
}

/// A service that sends back what it gets.
pub fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..n]).is_err() {
            return;
        }
    }
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
}

pub fn connect(to: SocketAddr) -> TcpStream {
    try_connect(to).expect("a connection")
}

/// Likewise where the other side may reset it before it is made.
pub fn try_connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    patient(&stream);
    Ok(stream)
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    let linger = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("an option");
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Eof,
    Reset,
    /// It has not: nothing came any more.
    Silence,
}

/// Everything that comes, and how it ends.
pub fn read_all(mut stream: &TcpStream) -> (Vec<u8>, End) {
    let (mut all, mut piece) = (Vec::new(), [0; 64 * 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (all, End::Eof),
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return (all, End::Reset),
            Err(e) if is_silence(&e) => return (all, End::Silence),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("{e}"),
        }
    }
}

pub fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Bytes that differ from seed to seed and from place to place.
pub fn pattern(seed: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut rng = SmallRng::seed_from_u64(u64::from(seed));
    rng.fill(&mut bytes[..]);
    bytes
}

/// The service of `Errand`: reads what the client's header announces and writes as much at the same time; says whether
/// what it got was right, and ends.
pub fn run_errands(mut stream: TcpStream) {
    let mut header = [0; 8];
    if stream.read_exact(&mut header).is_err() {
        return;
    }
    let [a, b, c, d, rest @ ..] = header;
    let seed = u32::from_be_bytes([a, b, c, d]);
    let len = u32::from_be_bytes(rest) as usize;
    let writer = {
        let mut stream = stream.try_clone().expect("a copy");
        move || stream.write_all(&pattern(!seed, len))
    };
    let writer = thread::spawn(writer);
    let (bytes, end) = read_all(&stream);
    let right = bytes == pattern(seed, len) && end == End::Eof;
    if writer.join().expect("a writer").is_ok() {
        let _ = stream.write_all(if right { b"Y" } else { b"N" });
    }
}

/// A connection that carries the same number of bytes both ways, all of them checked.
pub struct Errand {
    stream: TcpStream,
    seed: u32,
    len: usize,
}

impl Errand {
    /// Connects and sends all; more than a socket's buffer in a thread of its own.
    pub fn begin(to: SocketAddr, seed: u32, len: usize) -> Errand {
        let mut stream = connect(to);
        let header = [seed.to_be_bytes(), (len as u32).to_be_bytes()].concat();
        let errand = Errand {
            stream: stream.try_clone().expect("a copy"),
            seed,
            len,
        };
        stream.write_all(&header).expect("the header is sent");
        let mut write = move || {
            stream.write_all(&pattern(seed, len)).expect("all is sent");
            stream.shutdown(Shutdown::Write).expect("the end is sent");
        };
        if len <= 64 * 1024 {
            write();
        } else {
            thread::spawn(write);
        }
        errand
    }

    pub fn finish(self) {
        let (bytes, end) = read_all(&self.stream);
        let (seed, len) = (self.seed, self.len);
        assert_eq!(end, End::Eof, "{seed}, after {} of {len}", bytes.len());
        assert_eq!(bytes.len(), len + 1, "{seed}");
        assert!(bytes[..len] == pattern(!seed, len), "{seed}: other bytes");
        assert_eq!(bytes[len], b'Y', "{seed}: the service got other bytes");
    }
}

pub fn errand(to: SocketAddr, seed: u32, len: usize) {
    Errand::begin(to, seed, len).finish();
}

/// Sends one message to an echo service and gets it back.
pub fn ask(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, message);
    Ok(())
}

/// Stands on the path between a peer and its server, and mistreats what passes.
pub struct Relay {
    pub at: SocketAddr,
    /// What came from the peer.
    pub seen: Arc<Mutex<Vec<Vec<u8>>>>,
    pub dropped: Arc<Mutex<usize>>,
    sockets: [UdpSocket; 2],
    peer: Arc<Mutex<Option<SocketAddr>>>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// `trouble`: the shares of datagrams that are dropped, doubled and delayed past later ones.
    pub fn new(server: SocketAddr, trouble: f64, seed: u64) -> Relay {
        let near = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let far = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for socket in [&near, &far] {
            // what is lost is to be lost by plan
            let large = SockRef::from(socket).set_recv_buffer_size(4 << 20);
            large.expect("an option");
        }
        far.connect(server).expect("a target");
        let relay = Relay {
            at: near.local_addr().expect("its address"),
            seen: Arc::default(),
            dropped: Arc::default(),
            sockets: [&near, &far].map(|socket| socket.try_clone().expect("a copy")),
            peer: Arc::default(),
            stop: Arc::default(),
        };
        let client = relay.peer.clone();
        let (to, back) = (far.try_clone().expect("a copy"), near.try_clone());
        let (known, seen) = (client.clone(), relay.seen.clone());
        relay.pass(near, trouble, seed, move |datagram, from| {
            if let Some(from) = from {
                *known.lock().expect("the address") = Some(from);
                seen.lock().expect("the list").push(datagram.to_vec());
            } else {
                let _ = to.send(datagram);
            }
        });
        let back = back.expect("a copy");
        relay.pass(far, trouble, seed + 1, move |datagram, from| {
            let client = *client.lock().expect("the address");
            if let (None, Some(client)) = (from, client) {
                let _ = back.send_to(datagram, client);
            }
        });
        relay
    }

    /// Sends something of its own in the name of the peer.
    pub fn to_server(&self, datagram: &[u8]) {
        self.sockets[1].send(datagram).expect("sent");
    }

    /// Sends something of its own in the name of the server.
    pub fn to_peer(&self, datagram: &[u8]) {
        let peer = self.peer.lock().expect("the address").expect("a peer");
        self.sockets[0].send_to(datagram, peer).expect("sent");
    }

    /// `sink` gets each datagram with its sender when it comes, and without when it is let go.
    fn pass(
        &self,
        source: UdpSocket,
        trouble: f64,
        seed: u64,
        mut sink: impl FnMut(&[u8], Option<SocketAddr>) + Send + 'static,
    ) {
        let (stop, dropped) = (self.stop.clone(), self.dropped.clone());
        let timeout = source.set_read_timeout(Some(Duration::from_millis(5)));
        timeout.expect("an option");
        thread::spawn(move || {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut held: Vec<(u32, Vec<u8>)> = Vec::new();
            let mut buffer = [0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((n, from)) = source.recv_from(&mut buffer) else {
                    for (_, datagram) in held.drain(..) {
                        sink(&datagram, None);
                    }
                    continue;
                };
                let datagram = &buffer[..n];
                sink(datagram, Some(from));
                if rng.random_bool(trouble) {
                    *dropped.lock().expect("the number") += 1;
                } else if rng.random_bool(trouble) {
                    held.push((rng.random_range(1..6), datagram.to_vec()));
                } else {
                    sink(datagram, None);
                    if rng.random_bool(trouble) {
                        sink(datagram, None);
                    }
                }
                for (left, _) in &mut held {
                    *left -= 1;
                }
                while let Some(at) = held.iter().position(|(left, _)| *left == 0) {
                    sink(&held.remove(at).1, None);
                }
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
