//! TCP connections: from their sockets into the tunnel's `input`, from its `output` into their sockets, and their end.
//!
//! No byte is kept here. The sockets are polled edge-triggered: what the poll said is remembered until a call says
//! `WouldBlock`, so the tunnel can take up either direction whenever it has room or data. How connections come
//! to be is in `listen` and `dial`.

use super::report::reason;
use super::token::FIRST_SESSION;
use crate::platform::errno;
use crate::time::Instant;
use crate::tunnel::{SessionId, Tunnel};
use log::debug;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, event::Event};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// The most bytes moved each way for one connection before the others have their turn.
const BYTES_PER_VISIT: usize = 128 * 1024;
/// What a visit to a connection costs of a turn's budget at least, bytes.
const VISIT_COST: usize = 4 * 1024;

/// Every connection that is established, by its session.
#[derive(Default)]
pub(super) struct Connections {
    /// The ids are places in the tunnel's table, so this is as dense as that.
    table: Vec<Option<Connection>>,
    /// Those to be looked at, in the order in which they became so; each once, see `Connection::listed`.
    ready: VecDeque<SessionId>,
}

struct Connection {
    /// The session's number, for the log.
    conv: u32,
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// The poll spoke of an error, or of both halves being closed.
    suspect: bool,
    /// The writing half was shut down.
    shut: bool,
    /// The tunnel was told that the socket failed; its `Close` is to come.
    broken: bool,
    /// It is in `ready`. An entry of `ready` without this is left from a connection that is gone.
    listed: bool,
}

impl Connections {
    /// Takes over an established connection and looks at it soon: its first data may be there already.
    pub(super) fn insert(&mut self, id: SessionId, conv: u32, stream: TcpStream) {
        let place = id.0 as usize;
        if self.table.len() <= place {
            self.table.resize_with(place + 1, || None);
        }
        self.table[place] = Some(Connection::new(conv, stream));
        self.mark(id);
    }

    /// Notes what the poll said of a connection's socket. False if there is no such connection.
    pub(super) fn note(&mut self, id: SessionId, event: &Event) -> bool {
        let Some(connection) = self.get(id) else {
            return false;
        };
        connection.readable |= event.is_readable() || event.is_read_closed();
        connection.writable |= event.is_writable();
        connection.suspect |=
            event.is_error() || (event.is_read_closed() && event.is_write_closed());
        self.mark(id);
        true
    }

    /// Has the connection looked at by `work`: the poll or the tunnel has something new for it.
    pub(super) fn mark(&mut self, id: SessionId) {
        if let Some(connection) = self.get(id).filter(|connection| !connection.listed) {
            connection.listed = true;
            self.ready.push_back(id);
        }
    }

    /// Whether connections are left to be looked at.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves what can be moved, one connection after the other, until nothing is left to do or the budget is spent.
    pub(super) fn work(&mut self, tunnel: &mut Tunnel, now: Instant, budget: &mut usize) {
        while *budget > 0 {
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(connection) = self.get(id).filter(|connection| connection.listed) else {
                continue;
            };
            connection.listed = false;
            let moved = connection.visit(tunnel, now, id);
            if connection.unfinished(moved) {
                self.mark(id);
            }
            *budget = budget.saturating_sub((moved.inward + moved.outward).max(VISIT_COST));
        }
    }

    /// Closes a connection, with a reset if `abort`. False if there is no such connection.
    pub(super) fn close(&mut self, id: SessionId, abort: bool) -> bool {
        let gone = self.table.get_mut(id.0 as usize).and_then(Option::take);
        let Some(connection) = gone else {
            return false;
        };
        debug!(
            "{:08x} {}",
            connection.conv,
            if abort { "reset" } else { "closed" }
        );
        if abort {
            reset(connection.stream);
        }
        true
    }

    fn get(&mut self, id: SessionId) -> Option<&mut Connection> {
        self.table.get_mut(id.0 as usize)?.as_mut()
    }
}

/// Bytes that a visit moved from the socket and to it.
#[derive(Clone, Copy, Default)]
struct Moved {
    inward: usize,
    outward: usize,
}

impl Connection {
    fn new(conv: u32, stream: TcpStream) -> Connection {
        // Both are assumed rather than waited for: to find out costs a call, to wait a turn.
        Connection {
            conv,
            stream,
            readable: true,
            writable: true,
            suspect: false,
            shut: false,
            broken: false,
            listed: false,
        }
    }

    fn visit(&mut self, tunnel: &mut Tunnel, now: Instant, id: SessionId) -> Moved {
        let mut moved = Moved::default();
        if self.broken {
            return moved;
        }
        let result = self
            .check()
            .and_then(|()| self.write(tunnel, now, id, &mut moved))
            .and_then(|()| self.read(tunnel, now, id, &mut moved));
        if let Err(e) = result {
            debug!("{:08x} TCP failed: {}", self.conv, reason(&e));
            self.broken = true;
            tunnel.broken(now, id);
        }
        moved
    }

    /// Whether a visit ended because its share was spent.
    fn unfinished(&self, moved: Moved) -> bool {
        !self.broken && (moved.inward >= BYTES_PER_VISIT || moved.outward >= BYTES_PER_VISIT)
    }

    /// The socket's pending error. It has to be taken before anything is read: the system reports it once, and
    /// what then looks like an end of stream is none.
    fn check(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.suspect) {
            return Ok(());
        }
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    fn read(
        &mut self,
        tunnel: &mut Tunnel,
        now: Instant,
        id: SessionId,
        moved: &mut Moved,
    ) -> io::Result<()> {
        while self.readable && moved.inward < BYTES_PER_VISIT {
            let room = tunnel.input(id);
            if room.is_empty() {
                break;
            }
            match self.stream.read(room) {
                Ok(0) => {
                    self.readable = false;
                    tunnel.finished(now, id);
                }
                Ok(n) => {
                    moved.inward += n;
                    tunnel.filled(now, id, n);
                }
                Err(e) => {
                    // the room that was not used is given back
                    tunnel.filled(now, id, 0);
                    self.readable = again(e)?;
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        tunnel: &mut Tunnel,
        now: Instant,
        id: SessionId,
        moved: &mut Moved,
    ) -> io::Result<()> {
        while self.writable && moved.outward < BYTES_PER_VISIT {
            let bytes = tunnel.output(id);
            if bytes.is_empty() {
                break;
            }
            match self.stream.write(bytes) {
                Ok(0) => self.writable = false,
                Ok(n) => {
                    moved.outward += n;
                    tunnel.consumed(now, id, n);
                }
                Err(e) => self.writable = again(e)?,
            }
        }
        if !self.shut && tunnel.output_ended(now, id) {
            self.shut = true;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

/// Whether a call that failed can be repeated at once; an error if it never can.
fn again(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}

/// Registers an established or connecting stream for everything that can be said of it, once and for all.
pub(super) fn register(
    registry: &Registry,
    stream: &mut TcpStream,
    id: SessionId,
) -> io::Result<()> {
    let token = Token(FIRST_SESSION + id.0 as usize);
    registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
}

/// Whether a connecting stream is established; an error if it will not be.
pub(super) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(e)
            if e.kind() == ErrorKind::NotConnected
                || e.raw_os_error() == Some(errno::CONNECTING) =>
        {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// Closes a connection so that its other end sees a reset and not an end of stream.
pub(super) fn reset(stream: TcpStream) {
    if let Err(e) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
        debug!("a connection was closed without a reset: {}", reason(&e));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};

    fn pair() -> (TcpStream, StdTcpStream) {
        let listener = StdTcpListener::bind("127.0.0.1:0").expect("bind");
        let here = StdTcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (there, _) = listener.accept().expect("accept");
        here.set_nonblocking(true).expect("option");
        (TcpStream::from_std(here), there)
    }

    #[test]
    fn a_close_is_an_end_of_stream_and_an_abort_a_reset() {
        for abort in [false, true] {
            let mut connections = Connections::default();
            let (here, mut there) = pair();
            connections.insert(SessionId(3), 1, here);
            assert!(connections.close(SessionId(3), abort));
            match there.read(&mut [0; 8]) {
                Ok(n) => assert!(n == 0 && !abort),
                Err(e) => assert!(abort && e.kind() == ErrorKind::ConnectionReset, "{e}"),
            }
            assert!(!connections.close(SessionId(3), abort));
        }
    }

    #[test]
    fn a_reset_that_nobody_reads_is_an_error_first() {
        let (here, there) = pair();
        let mut connection = Connection::new(1, here);
        reset(TcpStream::from_std(there));
        std::thread::sleep(Duration::from_millis(20));
        connection.suspect = true;
        let error = connection.check().expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(connection.check().is_ok());
    }

    #[test]
    fn a_connection_is_listed_once() {
        let mut connections = Connections::default();
        let (here, _there) = pair();
        connections.insert(SessionId(0), 1, here);
        connections.mark(SessionId(0));
        connections.mark(SessionId(7));
        assert_eq!(connections.ready.len(), 1);
    }
}
