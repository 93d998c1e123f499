//! The system log: one datagram a line to the socket that syslogd and journald read. Nothing here waits: a line that there
//! is no room for is lost, and the next line says how many were.

use crate::platform::FACILITY;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where the system log listens: Linux and NetBSD, FreeBSD, macOS.
const SOCKETS: [&str; 3] = ["/dev/log", "/var/run/log", "/var/run/syslog"];

/// Sends lines to the system log. Each write has to be a whole line that begins with its priority.
pub(crate) struct Syslog {
    places: Vec<PathBuf>,
    socket: Option<UnixDatagram>,
    lost: u64,
}

impl Syslog {
    /// Fails if no system log listens; what is written before one does is lost.
    pub(crate) fn open() -> (Syslog, io::Result<()>) {
        Syslog::at(SOCKETS.map(PathBuf::from).into())
    }

    fn at(places: Vec<PathBuf>) -> (Syslog, io::Result<()>) {
        let mut syslog = Syslog {
            places,
            socket: None,
            lost: 0,
        };
        let connected = syslog.connect();
        (syslog, connected)
    }

    fn connect(&mut self) -> io::Result<()> {
        let mut error = io::Error::from(ErrorKind::NotFound);
        for place in &self.places {
            match connect(place) {
                Ok(socket) => {
                    self.socket = Some(socket);
                    return Ok(());
                }
                // What is not there says less than what refuses.
                Err(e) if e.kind() == ErrorKind::NotFound => (),
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// Sends, and after a restart of the other side sends again.
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket.send(line) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(e),
                Err(_) => self.socket = None,
            }
        }
        self.connect()?;
        match &self.socket {
            Some(socket) => socket.send(line).map(drop),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn report_lost(&mut self) -> io::Result<()> {
        let (warning, lost, pid) = (FACILITY | 4, self.lost, std::process::id());
        let line = format!("<{warning}>kcptun[{pid}]: {lost} lines of the log were lost");
        self.send(line.as_bytes())?;
        self.lost = 0;
        Ok(())
    }
}

fn connect(place: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(place)?;
    Ok(socket)
}

impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sent = match self.lost {
            0 => Ok(()),
            _ => self.report_lost(),
        };
        let sent = sent.and_then(|()| self.send(line.trim_ascii_end()));
        if sent.is_err() {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn receive(log: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let n = log.recv(&mut bytes).expect("a line");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    #[test]
    fn lines_arrive_without_waiting_and_losses_are_counted() {
        let dir = std::env::temp_dir().join(format!("kcptun-syslog-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let place = dir.join("log");
        let (mut syslog, connected) = Syslog::at(vec![dir.join("none"), place.clone()]);
        assert_eq!(
            connected.expect_err("nobody listens").kind(),
            ErrorKind::NotFound
        );
        syslog.write_all(b"<30>lost\n").expect("no error");

        let log = UnixDatagram::bind(&place).expect("a log");
        syslog.write_all(b"<30>found\n").expect("no error");
        assert!(receive(&log).ends_with(": 1 lines of the log were lost"));
        assert_eq!(receive(&log), "<30>found");

        // Nobody reads: more than any queue holds.
        for _ in 0..10_000 {
            syslog.write_all(b"<30>more\n").expect("no error");
        }
        assert!(syslog.lost > 0);

        drop(log);
        fs::remove_file(&place).expect("removed");
        let log = UnixDatagram::bind(&place).expect("a new log");
        syslog.lost = 0;
        syslog.write_all(b"<30>again\n").expect("no error");
        assert_eq!(receive(&log), "<30>again");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
