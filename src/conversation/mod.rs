//! One KCP conversation: a reliable byte stream each way in packets that may get lost.
//! What the bytes mean is in `session`; sealing and addresses are in `tunnel`.
//!
//! A conversation has one of two engines for its life, as `rate.control` says. They have nothing in common but what the
//! headers of segments tell (`order`) and the size of packets (`size`).
//!
//! - `plain`: plain KCP. The `kcp` crate does everything: it cuts, numbers, repeats and acknowledges segments, and keeps what
//!   has arrived. Ours is when it is called, and the queue of what it puts out.
//! - `paced`: with rate control. What is sent, repeated and acknowledged when is ours. The crate keeps what has arrived, in
//!   order, until it is read, and sends nothing.
//!
//! What the crate's interface leaves no other way than:
//!
//! - Its integers are little-endian and those of the wire big-endian: headers are turned on their way in and out.
//! - It takes packets as bytes alone, and so parses them once more.
//! - Plain: it puts packets out by a writer that it owns, so that the queue of these is in a cell that the writer shares; and it
//!   does not tell what it has sent and received, which is read off its packets (`plain::wrapper`).
//! - Paced: its ack list grows with each segment that it is given, and is emptied by nothing but `flush_ack`, which is called
//!   now and then and writes to nowhere (`paced::queue`).
//! - Paced: it searches and moves a list for each segment out of order, so that it is given every segment in its turn
//!   (`paced::inbound`). It does not tell how many it keeps, which is counted there.

mod order;
mod paced;
mod plain;
mod size;

use crate::path::Path;
use crate::pool::BufferPool;
use crate::ring::Ring;
use crate::segment::Segments;
use crate::settings::KcpSettings;
use crate::time::{Instant, Now};
use paced::Paced;
use plain::Plain;

/// Where new data comes from.
pub struct Source<'a> {
    /// The session's stream.
    pub stream: &'a mut Ring,
    /// Where buffers come from and go back to.
    pub pool: &'a mut BufferPool,
    /// More is known to follow what the stream holds.
    pub more: bool,
}

/// How soon something has to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// At once: acks, small messages, copies, probes.
    Urgent,
    /// When the path's rate allows.
    Bulk,
}

/// What data has to wait for before it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// The path's rate.
    Rate,
    /// The other end keeps so much that was not read there that it takes no more.
    Reader,
    /// A window is narrower than what is on its way.
    Window,
}

/// One end of a KCP conversation.
pub struct Conversation {
    conv: u32,
    engine: Engine,
}

enum Engine {
    Plain(Box<Plain>),
    Paced(Box<Paced>),
}

/// Asks whichever engine there is.
macro_rules! ask {
    ($conversation:expr, $engine:ident => $answer:expr) => {
        match &$conversation.engine {
            Engine::Plain($engine) => $answer,
            Engine::Paced($engine) => $answer,
        }
    };
    (mut $conversation:expr, $engine:ident => $answer:expr) => {
        match &mut $conversation.engine {
            Engine::Plain($engine) => $answer,
            Engine::Paced($engine) => $answer,
        }
    };
}

/// What both engines do.
impl Conversation {
    /// `mtu`: size of the largest KCP packet, bytes. `paced`: recovery and rate are ours.
    pub fn new(
        conv: u32,
        settings: &KcpSettings,
        mtu: usize,
        paced: bool,
        now: Now,
    ) -> Conversation {
        let engine = match paced {
            true => Engine::Paced(Box::new(Paced::new(conv, settings, mtu, now.time))),
            false => Engine::Plain(Box::new(Plain::new(conv, settings, mtu, now))),
        };
        Conversation { conv, engine }
    }

    /// Its number.
    pub fn conv(&self) -> u32 {
        self.conv
    }

    /// The windows are as wide as configured from now on; until then they are the narrowest that KCP has. A session that
    /// nobody has dialled for gets no more memory.
    pub fn widen(&mut self) {
        ask!(mut self, engine => engine.widen())
    }

    /// New segments are cut for packets of so many bytes from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        ask!(mut self, engine => engine.set_mtu(mtu))
    }

    /// The size of the largest packet that may have to be sent, bytes.
    pub fn longest(&self) -> usize {
        ask!(self, engine => engine.longest())
    }

    /// Takes a packet of this conversation.
    pub fn input(&mut self, packet: Segments, path: &mut Path, pool: &mut BufferPool, now: Now) {
        ask!(mut self, engine => engine.input(packet, path, pool, now))
    }

    /// Bytes of the next piece of the inbound stream, if there is one.
    pub fn peek(&self) -> Option<usize> {
        ask!(self, engine => engine.peek())
    }

    /// Reads the next piece of the inbound stream into `into`, which must hold what `peek` has told; its length, bytes.
    pub fn recv(
        &mut self,
        into: &mut [u8],
        path: &Path,
        pool: &mut BufferPool,
        now: Instant,
    ) -> Option<usize> {
        match &mut self.engine {
            Engine::Plain(plain) => plain.recv(into, now),
            Engine::Paced(paced) => paced.recv(into, path, pool, now),
        }
    }

    /// Does what the clock has made due.
    pub fn advance(&mut self, path: &mut Path, pool: &mut BufferPool, now: Now) {
        match &mut self.engine {
            Engine::Plain(plain) => plain.advance(pool, now),
            Engine::Paced(paced) => paced.advance(path, now.time),
        }
    }

    /// When `advance` or `build` has something to do next; `NEVER` if nothing waits for the clock. `waiting`: bytes of the
    /// stream that were not taken yet.
    pub fn deadline(&self, waiting: usize, path: &Path, now: Now) -> Instant {
        match &self.engine {
            Engine::Plain(plain) => plain.deadline(now),
            Engine::Paced(paced) => paced.deadline(waiting, path),
        }
    }

    /// What new data has to wait for. `waiting`: bytes of the stream that were not taken yet.
    pub fn waits_for(&self, waiting: usize) -> Option<Blocked> {
        (waiting > 0).then(|| ask!(self, engine => engine.waits_for()))
    }

    /// All that was sent before this number has been acknowledged.
    pub fn first(&self) -> u32 {
        ask!(self, engine => engine.first())
    }

    /// One more than the highest number that was sent.
    pub fn sent(&self) -> u32 {
        ask!(self, engine => engine.sent())
    }

    /// Segments that were sent, or are about to be, and are not acknowledged.
    pub fn unacked(&self) -> usize {
        ask!(self, engine => engine.unacked())
    }

    /// Bytes that were taken from the stream and are not acknowledged yet.
    pub fn unacked_bytes(&self) -> usize {
        ask!(self, engine => engine.unacked_bytes())
    }

    /// Everything that was given to this conversation has been acknowledged.
    pub fn is_settled(&self) -> bool {
        ask!(self, engine => engine.is_settled())
    }

    /// The other end lacks what was acknowledged: it is another process than the one that did.
    pub fn is_contradicted(&self) -> bool {
        ask!(self, engine => engine.is_contradicted())
    }

    /// Nothing is owed to the other end either.
    pub fn is_quiet(&self) -> bool {
        ask!(self, engine => engine.is_quiet())
    }

    /// Once the inbound stream has ended: all before this number have arrived here.
    pub fn una(&self) -> u32 {
        ask!(self, engine => engine.una())
    }

    /// Something that was sent before what has arrived has not: it is lost, or was overtaken.
    pub fn has_gap(&self) -> bool {
        ask!(self, engine => engine.has_gap())
    }
}

/// What only plain KCP does: it sends by itself.
impl Conversation {
    /// Moves the stream into KCP as far as its window goes, and lets it send.
    pub fn feed(&mut self, stream: &mut Ring, pool: &mut BufferPool, now: Now) {
        if let Engine::Plain(plain) = &mut self.engine {
            plain.feed(stream, pool, now);
        }
    }

    /// Takes the oldest packet that KCP has put out; its buffer is the pool's.
    pub fn next_packet(&mut self) -> Option<Vec<u8>> {
        match &mut self.engine {
            Engine::Plain(plain) => plain.next_packet(),
            Engine::Paced(_) => None,
        }
    }

    /// Whether `next_packet` has one.
    pub fn has_packets(&self) -> bool {
        match &self.engine {
            Engine::Plain(plain) => plain.has_packets(),
            Engine::Paced(_) => false,
        }
    }
}

/// What only the paced engine does: it is asked for each packet, and knows of its path.
impl Conversation {
    /// Whether something could be written by `build` now. `waiting`: bytes of the stream that were not taken yet.
    pub fn wants(&self, waiting: usize, path: &Path, now: Instant) -> Option<Priority> {
        match &self.engine {
            Engine::Plain(_) => None,
            Engine::Paced(paced) => paced.wants(waiting, path, now),
        }
    }

    /// Whether all that is urgent now fits into a packet of `room` bytes: small messages and acks do. What concerns windows
    /// gets a packet of its own; copies and acks that are repeated wait for the next if there is no room.
    pub fn urgent_fits(&self, room: usize, waiting: usize, path: &Path, now: Instant) -> bool {
        match &self.engine {
            Engine::Plain(_) => false,
            Engine::Paced(paced) => paced.urgent_fits(room, waiting, path, now),
        }
    }

    /// Writes the next packet into `out`; its length, or 0 if there is nothing to send at this priority.
    pub fn build(
        &mut self,
        priority: Priority,
        source: Source,
        path: &mut Path,
        now: Now,
        out: &mut [u8],
    ) -> usize {
        match &mut self.engine {
            Engine::Plain(_) => 0,
            Engine::Paced(paced) => paced.build(priority, source, path, now, out),
        }
    }

    /// After reading: tells the other end of a window that was closing and has opened again.
    pub fn after_reading(&mut self, now: Instant) {
        if let Engine::Paced(paced) = &mut self.engine {
            paced.after_reading(now);
        }
    }

    /// Anybody may have begun it in another's name: until something of ours has arrived, it is repeated ever more rarely.
    pub fn back_off(&mut self) {
        if let Engine::Paced(paced) = &mut self.engine {
            paced.back_off();
        }
    }

    /// The path is another one from now on: `old` forgets what is in flight on it.
    pub fn relocate(&mut self, old: &mut Path) {
        if let Engine::Paced(paced) = &mut self.engine {
            paced.relocate(old);
        }
    }

    /// Has the next packet tell the window, though nobody has asked: the other end learns from it where this one is, and
    /// what has arrived.
    pub fn send_window_update(&mut self) {
        if let Engine::Paced(paced) = &mut self.engine {
            paced.send_window_update();
        }
    }

    /// The session is gone: takes back what it has in flight.
    pub fn forget(&mut self, path: &mut Path) {
        if let Engine::Paced(paced) = &mut self.engine {
            paced.forget(path);
        }
    }
}
