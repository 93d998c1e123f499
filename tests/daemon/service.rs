//! The real binary as a service: in the background, with a pid file, with its log in a file or in the journal, and
//! with a service manager that is told what it does.

use crate::harness::*;
#[cfg(target_os = "linux")]
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::{Map, Value, json};
use std::fs;
#[cfg(target_os = "linux")]
use std::io::Write;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// A directory with a configuration, and what the program puts beside it.
struct Place {
    config: File,
    directory: PathBuf,
}

impl Place {
    fn new(more: &Value) -> Place {
        let mut keys = Plan::to(([127, 0, 0, 1], free_port()).into()).server;
        keys.append(&mut more.as_object().expect("an object").clone());
        let config = File::new("");
        let directory = config.path.parent().expect("a directory").to_owned();
        let place = Place { config, directory };
        place.write(&keys);
        place
    }

    fn write(&self, keys: &Map<String, Value>) {
        fs::write(&self.config.path, json!(keys).to_string()).expect("written");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The program in this directory, with the configuration by a relative path.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcptun"));
        command.args(["-c", "t.json"]).args(words);
        command.current_dir(&self.directory).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn background(&self) -> (i32, String) {
        Place::ends(&mut self.command(&["-d"]))
    }

    /// Asks the process of the pid file to read its configuration again.
    fn reload(&self) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcptun"));
        command.args(["reload", "-c", "t.json"]);
        Place::ends(command.current_dir(&self.directory).stdin(Stdio::null()))
    }

    /// The status of a command that ends, and its errors.
    fn ends(command: &mut Command) -> (i32, String) {
        let Output { status, stderr, .. } = command.output().expect("a process");
        let stderr = String::from_utf8(stderr).expect("text");
        (status.code().expect("a status"), stderr)
    }
}

/// A process that somebody else started. It is killed when this goes.
struct Background(i32);

impl Background {
    fn of(pidfile: &Path) -> Background {
        let text = fs::read_to_string(pidfile).expect("a pid file");
        Background(text.trim().parse().expect("a number"))
    }

    fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved; the process has just been started, and writes its number itself.
        assert_eq!(unsafe { libc::kill(self.0, signal) }, 0);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if thread::panicking() {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(self.0, libc::SIGKILL) };
        }
    }
}

#[test]
fn in_the_background_with_a_pid_file_and_a_log_that_can_be_moved() {
    let place = Place::new(&json!({"log": "./log", "pidfile": "pid"}));
    // `output` waits for the end of standard error, too: who goes into the background has to let go of it.
    assert_eq!(place.background(), (0, String::new()));
    let daemon = Background::of(&place.file("pid"));
    assert!(place.text("log").contains("INFO  UDP bound to"));

    let (status, error) = place.background();
    assert!(
        status == 1 && error.contains("pidfile: pid: process"),
        "{error}"
    );
    assert!(error.contains(&daemon.0.to_string()), "{error}");

    fs::rename(place.file("log"), place.file("log.1")).expect("moved");
    daemon.signal(libc::SIGHUP);
    assert!(eventually(|| place.file("log").exists()));
    daemon.signal(libc::SIGTERM);
    assert!(eventually(|| place.text("log").contains("stopping")));
    assert!(eventually(|| !place.file("pid").exists()));
    assert!(!place.text("log.1").contains("stopping"));
}

#[test]
fn the_lock_says_whose_the_pid_file_is_whatever_stands_in_it() {
    let place = Place::new(&json!({"log": "./log", "pidfile": "pid"}));
    let nobody = (
        1,
        "kcptun: reload: pidfile pid: no kcptun runs with it\n".into(),
    );
    fs::write(place.file("pid"), format!("{}\n", std::process::id())).expect("written");
    assert_eq!(place.reload(), nobody);
    assert_eq!(place.background(), (0, String::new()));
    let daemon = Background::of(&place.file("pid"));
    let mode = fs::metadata(place.file("pid")).expect("a file").mode();
    assert_eq!(mode & 0o777, 0o600);

    // neither sends the signal to this process, which it would end
    fs::write(place.file("pid"), format!("{}\n", std::process::id())).expect("written");
    let (status, error) = place.background();
    let whose = format!("pidfile: pid: process {} is running already", daemon.0);
    assert!(status == 1 && error.contains(&whose), "{error}");
    assert_eq!(place.reload(), (0, String::new()));
    assert!(eventually(|| place
        .text("log")
        .contains("SIGHUP: nothing has changed")));

    // another file in its place is not its own, and stays
    fs::rename(place.file("pid"), place.file("moved")).expect("moved");
    let planted = Command::new("mkfifo").arg(place.file("pid")).status();
    assert!(planted.expect("mkfifo").success());
    let error = (1, "kcptun: reload: pidfile pid: is not a file\n".into());
    assert_eq!(place.reload(), error);
    daemon.signal(libc::SIGTERM);
    assert!(eventually(|| place.text("log").contains("stopping")));
    assert!(eventually(|| place.text("moved").is_empty()));
    assert!(place.file("pid").exists());
}

#[test]
fn root_opens_no_log_that_the_user_to_become_has_led_elsewhere() {
    const USER: u32 = 65534;
    // SAFETY: the call takes no pointers and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return skipped("only root can become somebody else");
    }
    let place = Place::new(&json!({"log": "./log", "pidfile": "pid", "user": "65534:65534"}));
    let owner = |name: &str| fs::metadata(place.file(name)).expect("a file").uid();
    fs::write(place.file("precious"), "").expect("written");
    chown(&place.directory, Some(USER), Some(USER)).expect("given away");
    let refused = |why: &str| {
        let (status, error) = place.background();
        let part = "log: cannot write to ./log: 65534 is not allowed to, and root: ";
        assert!(status == 1 && error.contains(part), "{why}: {error}");
        assert_eq!(place.text("precious"), "", "{why}");
        fs::remove_file(place.file("log")).expect("removed");
    };
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.file("precious"), own).expect("a mode");
    symlink(place.file("precious"), place.file("log")).expect("a link");
    refused("a symbolic link");
    fs::hard_link(place.file("precious"), place.file("log")).expect("a link");
    refused("a hard link");

    let runs = |of: u32| {
        assert_eq!(place.background(), (0, String::new()));
        let daemon = Background::of(&place.file("pid"));
        assert_eq!(owner("log"), of);
        daemon.signal(libc::SIGTERM);
        assert!(eventually(|| place.text("log").contains("stopping")));
        // root alone may remove it
        assert!(eventually(|| place.text("pid").is_empty()));
        fs::remove_file(place.file("log")).expect("removed");
    };
    runs(USER);
    chown(&place.directory, Some(0), Some(0)).expect("taken back");
    runs(0);
}

#[test]
fn whoever_starts_it_in_the_background_sees_why_it_cannot_run() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = taken.local_addr().expect("its address").to_string();
    let place = Place::new(&json!({"log": "./log", "pidfile": "pid", "udp_bind": at}));
    let (status, error) = place.background();
    assert_eq!(
        (status, error.as_str()),
        (
            1,
            format!("kcptun: udp_bind: cannot bind {at}: the port is taken, by a kcptun that runs already or another program: stop that, or write another port, at the other end, too\n").as_str()
        )
    );
    assert!(place.text("log").contains("ERROR udp_bind: cannot bind"));
    assert!(!place.file("pid").exists());

    for (more, status, part) in [
        (
            json!({"log": "/no/such/directory"}),
            1,
            "log: cannot write to /no/such/directory: ",
        ),
        (
            json!({"log": "stderr"}),
            2,
            "log: \"stderr\" leads nowhere in the background",
        ),
        (json!({"timeout": 1}), 2, "timeout: 1 is out of range"),
        (
            json!({"log": "./log", "pidfile": "no/such/directory"}),
            1,
            "pidfile: no/such/directory: ",
        ),
    ] {
        let (is, error) = Place::new(&more).background();
        assert!(is == status && error.contains(part), "{is} {error}");
        assert_eq!(error.matches('\n').count(), 1, "{error}");
    }
}

/// The program in the foreground, held at the first line that it logs after it has written its pid file: standard error is a
/// pipe with room for `lines` bytes only. Returns it, and the end of the pipe to read.
#[cfg(target_os = "linux")]
fn held(place: &Place, lines: usize) -> (Killed, fs::File) {
    /// The least that a pipe holds.
    const PAGE: usize = 4096;
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let mut writer = fs::File::from(writer);
    let size = FcntlArg::F_SETPIPE_SZ(PAGE as i32);
    assert_eq!(fcntl(&writer, size).expect("a size"), PAGE as i32);
    writer
        .write_all(&vec![b'\n'; PAGE - lines])
        .expect("written");
    let child = place.command(&[]).stderr(writer).spawn();
    let child = Killed(child.expect("a process"));
    assert!(eventually(|| place.text("pid").ends_with('\n')));
    (child, reader.into())
}

/// What stands in the log before the pid file is written is one line.
#[cfg(target_os = "linux")]
#[test]
fn a_reload_during_the_start_is_done_after_it_and_a_stop_at_once() {
    let place = Place::new(&json!({"pidfile": "pid"}));
    // or the log warns of it
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&place.config.path, own).expect("a mode");
    let Output { stderr, .. } = place
        .command(&["-u", "no-such-user-here"])
        .output()
        .expect("a process");
    let first = stderr
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line")
        + 1;
    let _ = fs::remove_file(place.file("pid"));

    let (mut child, reader) = held(&place, first + 9);
    assert_eq!(place.reload(), (0, String::new()));
    thread::sleep(Duration::from_millis(100));
    let over = child.0.try_wait().expect("a child");
    assert!(over.is_none(), "{over:?}");
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(" INFO  UDP bound to ")));
    assert!(lines.any(|line| line.contains("SIGHUP: nothing has changed")));
    drop(child);

    let _ = fs::remove_file(place.file("pid"));
    let (mut child, _reader) = held(&place, first + 9);
    // SAFETY: no memory is involved; the child has not been waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(child.0.id() as i32, libc::SIGTERM) }, 0);
    assert!(eventually(|| child
        .0
        .try_wait()
        .expect("a child")
        .is_some()));
}

/// The program with its standard error in a socket of which systemd says that it is the journal's, or another one is.
fn journal(place: &Place, words: &[&str], is_ours: bool) -> (Killed, UnixStream) {
    let (reader, writer) = UnixStream::pair().expect("two sockets");
    let copy = writer.try_clone().expect("a copy");
    let stream = fs::File::from(OwnedFd::from(copy));
    let stream = stream.metadata().expect("what it is");
    let inode = stream.ino() + u64::from(!is_ours);
    let child = place
        .command(words)
        .env("JOURNAL_STREAM", format!("{}:{inode}", stream.dev()))
        .stderr(OwnedFd::from(writer))
        .spawn();
    (Killed(child.expect("a process")), reader)
}

#[test]
fn in_the_journal_an_error_has_its_priority() {
    let place = Place::new(&json!({"timeout": 1}));
    for (is_ours, prefix) in [(true, "<3>t.json: "), (false, "kcptun: t.json: ")] {
        let (_child, mut reader) = journal(&place, &[], is_ours);
        let mut error = String::new();
        reader.read_to_string(&mut error).expect("text");
        assert!(error.starts_with(prefix), "{error}");
    }
}

#[test]
fn in_the_journal_lines_have_a_priority_and_no_time() {
    for is_ours in [true, false] {
        let place = Place::new(&json!({}));
        let (_child, reader) = journal(&place, &["-v"], is_ours);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        let mut lines = std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok());
        if is_ours {
            assert!(lines.any(|line| line.starts_with("<7>[kcptun::event")));
            assert!(lines.any(|line| line.starts_with("<6>UDP bound to 127.0.0.1:")));
        } else {
            assert!(lines.any(|line| line.contains("Z INFO  UDP bound to 127.0.0.1:")));
        }
    }
}

/// A process that is killed when this goes.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_service_manager_is_told_what_happens() {
    let mut plan = Plan::to(serve(echo));
    let place = Place::new(&json!({}));
    place.write(&plan.server);
    let socket = UnixDatagram::bind(place.file("notify")).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    let child = place
        .command(&[])
        .env("NOTIFY_SOCKET", place.file("notify"))
        .env("WATCHDOG_USEC", "400000")
        .env_remove("WATCHDOG_PID")
        .stderr(Stdio::null())
        .spawn();
    let child = Killed(child.expect("a process"));
    let signal = |signal| {
        // SAFETY: no memory is involved; the child has not been waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(child.0.id() as i32, signal) }, 0);
    };
    let told = || {
        let mut bytes = [0; 1000];
        let n = socket.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..n].to_vec()).expect("text")
    };
    let until = |part: &str| {
        let mut all = String::new();
        while !all.contains(part) {
            all.push_str(&told());
        }
        all
    };

    assert_eq!(told(), "READY=1\n");
    until("STATUS=0 sessions\n");
    // An idle loop is awake often enough.
    let signs = [told(), told(), told()];
    assert_eq!(signs, ["WATCHDOG=1\n"; 3].map(String::from));

    plan.peer.insert("loglevel".into(), json!(6));
    let peer = Daemon::spawn(
        &[env!("CARGO_BIN_EXE_kcptun")],
        &Value::Object(plan.peer.clone()),
        &[],
    );
    let mut stream = None;
    assert!(eventually(|| {
        stream = std::net::TcpStream::connect(plan.entry()).ok();
        stream.is_some()
    }));
    let stream = stream.expect("a connection");
    ask(&stream, b"hello").expect("an answer");
    until("STATUS=1 session\n");

    signal(libc::SIGHUP);
    let reload = until("READY=1\n");
    let (_, after) = reload
        .split_once("RELOADING=1\nMONOTONIC_USEC=")
        .expect("both");
    assert!(after.starts_with(|c: char| c.is_ascii_digit()), "{after}");

    // Where the loop does not turn, there is no sign of life.
    signal(libc::SIGSTOP);
    thread::sleep(Duration::from_millis(500));
    socket.set_nonblocking(true).expect("an option");
    while socket.recv(&mut [0; 1000]).is_ok() {}
    thread::sleep(Duration::from_millis(1000));
    assert!(socket.recv(&mut [0; 1000]).is_err());
    socket.set_nonblocking(false).expect("an option");
    signal(libc::SIGCONT);
    until("WATCHDOG=1\n");

    signal(libc::SIGTERM);
    until("STOPPING=1\n");
    drop(peer);
}
