//! One TCP connection and the conversation that carries it: message framing, dial, end of stream, keepalive.
//! Which datagrams leave when is decided in `tunnel`; recovery is in `conversation`.

use crate::conversation::{Blocked, Conversation, Priority, Source};
use crate::message::{self, Item, Kind, MESSAGE_HEADER, MESSAGE_MAX, Parser};
use crate::path::Path;
use crate::pool::BufferPool;
use crate::ring::{CAPACITY, Ring};
use crate::settings::Settings;
use crate::time::{Duration, Instant, Now};
use std::fmt;
use std::net::SocketAddr;

/// Room for TCP's bytes is offered again when this much is free: small pieces cost a call each.
const WORTH_READING: usize = 16 * 1024;
/// Always kept free of TCP's bytes: the session's own messages (dial, eof, keepalive) must fit.
const RESERVED: usize = 4 * MESSAGE_HEADER;
/// A session that the other end has begun must dial within this, of a path that is alive.
pub(crate) const DIAL_WITHIN: Duration = Duration::from_secs(30);
/// The largest segment that a `kcp` object of any configuration sends.
pub(crate) const SEGMENT_MAX: usize = 1500;

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Opened by the other end, whose dial has not arrived yet.
    HalfOpen,
    /// The service is being dialled.
    Dialling,
    /// TCP is connected.
    Connected,
    /// TCP is closed in both directions, in order; our last data is not acknowledged yet.
    Lingering,
    /// Ended before its time: the other end is being told.
    Reset {
        /// How often it was told.
        told: u8,
    },
    /// Out of the table; only the caller still holds it.
    Gone,
}

impl State {
    /// Whether it is over; at most, the other end is still being told.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, State::Reset { .. } | State::Gone)
    }

    fn when(self) -> &'static str {
        match self {
            State::HalfOpen => "before its dial",
            State::Dialling => "while its service was dialled",
            State::Connected => "while connected",
            State::Lingering => "before its last data was acknowledged",
            State::Reset { .. } | State::Gone => "after its end",
        }
    }

    /// Its name in statistics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::HalfOpen => "halfway",
            State::Dialling => "dialling",
            State::Connected => "connected",
            State::Lingering => "lingering",
            State::Reset { .. } | State::Gone => "reset",
        }
    }
}

/// Why a session ended before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The other end reset it.
    ResetByPeer,
    /// The TCP connection here failed.
    TcpFailed,
    /// The service could not be connected to.
    DialFailed,
    /// Nothing was heard for `timeout`.
    Timeout,
    /// What arrived is not a session's byte stream.
    Broken,
    /// One of the ends is another process by now.
    Restarted,
    /// The other end has begun it, and its dial did not arrive.
    NoDial,
    /// The path has become too small for data that was on its way.
    TooLarge,
    /// The daemon is stopping.
    Shutdown,
}

impl Cause {
    /// Every cause, in the order in which they are counted.
    pub(crate) const ALL: [Cause; 9] = [
        Cause::ResetByPeer,
        Cause::TcpFailed,
        Cause::DialFailed,
        Cause::Timeout,
        Cause::Broken,
        Cause::Restarted,
        Cause::NoDial,
        Cause::TooLarge,
        Cause::Shutdown,
    ];

    /// Its name in statistics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::ResetByPeer => "reset_by_peer",
            Cause::TcpFailed => "tcp_failed",
            Cause::DialFailed => "dial_failed",
            Cause::Timeout => "timeout",
            Cause::Broken => "broken",
            Cause::Restarted => "restarted",
            Cause::NoDial => "no_dial",
            Cause::TooLarge => "too_large",
            Cause::Shutdown => "shutdown",
        }
    }

    /// In words, for the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Cause::ResetByPeer => "the other end reset it",
            Cause::TcpFailed => "its TCP connection failed",
            Cause::DialFailed => "the service could not be dialled",
            Cause::Timeout => "the other end has been silent for too long",
            Cause::Broken => "the other end does not speak the protocol",
            Cause::Restarted => "one of its ends was restarted meanwhile",
            Cause::NoDial => "its dial did not arrive",
            Cause::TooLarge => "the path no longer carries its packets, not even in fragments",
            Cause::Shutdown => "the tunnel is stopping",
        }
    }
}

/// What was found by reading the inbound stream.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Read {
    /// The other end asks to connect to the service.
    pub dial: bool,
    /// `output` has more, or its end.
    pub deliver: bool,
    /// A keepalive wants an answer.
    asked: bool,
}

/// One session.
pub(crate) struct Session {
    /// Its KCP.
    pub conversation: Conversation,
    /// The number of its path.
    pub path: u32,
    /// How far it has come.
    pub state: State,
    /// Whether this end opened it (and accepted its TCP connection).
    pub opener: bool,
    /// When it was opened.
    pub opened_at: Instant,
    /// When lingering ends.
    pub until: Instant,
    /// Where its TCP connection came from, if it was accepted here.
    pub client: Option<SocketAddr>,
    outbound: Outbound,
    inbound: Inbound,
    activity: Activity,
}

/// From TCP to KCP.
#[derive(Default)]
struct Outbound {
    /// Framed messages.
    stream: Ring,
    /// TCP's end of stream was read and its eof queued.
    finished: bool,
    /// `input` had no room: the caller is told when it has.
    starved: bool,
    /// Bytes of data.
    bytes: u64,
}

/// From KCP to TCP.
struct Inbound {
    parser: Parser,
    /// Data for TCP.
    output: Ring,
    dialled: bool,
    /// The other end's eof has arrived.
    finished: bool,
    /// `take_end` has said so.
    end_told: bool,
    /// `Event::Readable` stands in the queue; one is enough.
    announced: bool,
    /// When what has arrived may be read, by the operator's limit.
    held_until: Instant,
    /// Bytes of data.
    bytes: u64,
}

/// When something of a session last happened.
struct Activity {
    /// A packet of it arrived.
    heard_at: Instant,
    /// The other end was asked whether it still knows it.
    asked_at: Instant,
    /// TCP's reader took something after having been waited for.
    read_at: Instant,
    /// Since when the other end is known to have forgotten it, while what has arrived is still being read.
    forgotten_at: Option<Instant>,
}

impl Session {
    /// Logs the line that sums up the session. `addr`: its other end; `how`: how it ended.
    pub(crate) fn log_end(
        &self,
        level: log::Level,
        addr: SocketAddr,
        how: fmt::Arguments,
        now: Instant,
    ) {
        let from = self.client.unwrap_or(addr);
        let seconds = now.since(self.opened_at).as_secs_f64();
        log::log!(
            level,
            "{:08x} from {from} ended after {seconds:.1} s, {} bytes in, {} bytes out, {how}",
            self.conv(),
            self.inbound.bytes,
            self.outbound.bytes
        );
    }

    /// A session on the path with this number; `opener`: this end has accepted its TCP connection, and asks for a dial.
    pub(crate) fn new(
        conversation: Conversation,
        path: u32,
        opener: bool,
        pool: &mut BufferPool,
        now: Instant,
    ) -> Session {
        let mut session = Session {
            conversation,
            path,
            state: if opener {
                State::Connected
            } else {
                State::HalfOpen
            },
            opener,
            opened_at: now,
            until: Instant::NEVER,
            client: None,
            outbound: Outbound::default(),
            inbound: Inbound {
                parser: Parser::default(),
                output: Ring::default(),
                dialled: opener,
                finished: false,
                end_told: false,
                announced: false,
                held_until: Instant::NEVER,
                bytes: 0,
            },
            activity: Activity {
                heard_at: now,
                asked_at: now,
                read_at: now,
                forgotten_at: None,
            },
        };
        if opener {
            session.say(Kind::Dial, pool);
        }
        session
    }

    /// Bytes of data received from the other end.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.inbound.bytes
    }

    /// Bytes of data sent to the other end.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.outbound.bytes
    }

    /// When something happens to it, in words for the log.
    pub(crate) fn when(&self) -> &'static str {
        let unheard = self.opener && self.heard_at() == self.opened_at;
        match self.state {
            State::Connected if unheard => "before anything was heard of the other end",
            state => state.when(),
        }
    }

    /// When a packet of it last arrived.
    pub(crate) fn heard_at(&self) -> Instant {
        self.activity.heard_at
    }

    /// A packet of it has arrived.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.activity.heard_at = now;
    }

    /// The caller takes `Event::Readable` from the queue.
    pub(crate) fn on_announced(&mut self) {
        self.inbound.announced = false;
    }

    /// Its number.
    pub(crate) fn conv(&self) -> u32 {
        self.conversation.conv()
    }

    /// Plain KCP: lets it have what waits.
    pub(crate) fn feed(&mut self, pool: &mut BufferPool, now: Now) {
        self.conversation.feed(&mut self.outbound.stream, pool, now);
    }

    /// Writes the next packet of this priority; its length, or 0.
    pub(crate) fn build(
        &mut self,
        priority: Priority,
        pool: &mut BufferPool,
        path: &mut Path,
        now: Now,
        out: &mut [u8],
    ) -> usize {
        let source = Source {
            stream: &mut self.outbound.stream,
            pool,
            more: self.outbound.starved,
        };
        self.conversation.build(priority, source, path, now, out)
    }

    /// The priority of what it has to send now. None: nothing.
    pub(crate) fn wants(&self, path: &Path, now: Instant) -> Option<Priority> {
        self.conversation
            .wants(self.outbound.stream.len(), path, now)
    }

    /// Whether all that is urgent now fits into a packet of `room` bytes.
    pub(crate) fn urgent_fits(&self, room: usize, path: &Path, now: Instant) -> bool {
        self.conversation
            .urgent_fits(room, self.outbound.stream.len(), path, now)
    }

    /// When this session has to be looked at again.
    pub(crate) fn deadline(&self, path: &Path, settings: &Settings, now: Now) -> Instant {
        let conversation = self
            .conversation
            .deadline(self.outbound.stream.len(), path, now);
        let silence = self.silent_at(settings);
        let ask = match self.state {
            State::HalfOpen => Instant::NEVER,
            State::Lingering => self.until,
            _ => self.ask_at(settings),
        };
        conversation
            .min(silence)
            .min(ask)
            .min(self.inbound.held_until)
    }

    /// Nothing is wanted of the other end for now: all of ours has arrived there, and what came from there waits for
    /// TCP's reader or the operator's limit. Its end of stream may be part of that, and then it has forgotten the session
    /// with good reason.
    pub(crate) fn waits_for_reader(&self) -> bool {
        self.outbound.finished && self.is_delivered() && self.has_rest()
    }

    /// Whether something has arrived that TCP has not taken.
    fn has_rest(&self) -> bool {
        !self.inbound.output.is_empty() || self.conversation.peek().is_some()
    }

    /// The other end says that it knows nothing of the session. True if that is no reason to end it: first the rest is read,
    /// which tells whether the stream is complete.
    pub(crate) fn outlives_reset(&mut self, now: Instant) -> bool {
        let waits = self.waits_for_reader();
        if waits {
            self.activity.forgotten_at.get_or_insert(now);
        }
        waits
    }

    /// The other end has forgotten it, and its stream stops before its end.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.activity.forgotten_at.is_some() && !self.has_rest() && !self.inbound.finished
    }

    /// When the other end has been silent for too long, or nobody reads what one has left that is gone.
    pub(crate) fn silent_at(&self, settings: &Settings) -> Instant {
        if let Some(at) = self.activity.forgotten_at {
            return at.max(self.activity.read_at).after(settings.timeout);
        }
        if self.waits_for_reader() {
            return Instant::NEVER;
        }
        self.activity
            .heard_at
            .max(self.activity.read_at)
            .after(settings.timeout)
    }

    /// When the other end is asked whether it still knows the session: several times before `timeout` has passed.
    fn ask_at(&self, settings: &Settings) -> Instant {
        if self.waits_for_reader() {
            return Instant::NEVER;
        }
        let parts = if self.opener { 4 } else { 2 };
        self.activity
            .heard_at
            .max(self.activity.asked_at)
            .max(self.activity.read_at)
            .after(settings.timeout / parts)
    }

    /// Asks whether the other end still knows the session, if it is time to.
    pub(crate) fn keep_alive(&mut self, settings: &Settings, pool: &mut BufferPool, now: Instant) {
        if self.ask_at(settings) <= now && matches!(self.state, State::Dialling | State::Connected)
        {
            self.activity.asked_at = now;
            self.keepalive(pool);
        }
    }

    /// Whether TCP's bytes are welcome.
    fn reads_tcp(&self) -> bool {
        self.state == State::Connected && !self.outbound.finished
    }

    /// Room for TCP's bytes; empty if none are welcome now. `filled` has to follow.
    pub(crate) fn input(&mut self, pool: &mut BufferPool) -> &mut [u8] {
        if !self.reads_tcp() {
            return &mut [];
        }
        if self.outbound.stream.free() < WORTH_READING {
            self.outbound.starved = true;
            return &mut [];
        }
        let most = (MESSAGE_MAX - MESSAGE_HEADER)
            .min(self.outbound.stream.free() - MESSAGE_HEADER - RESERVED);
        self.outbound.stream.room(MESSAGE_HEADER, most, pool)
    }

    /// The first `n` bytes of `input` hold data.
    pub(crate) fn filled(&mut self, n: usize, pool: &mut BufferPool) {
        if n > 0 && self.reads_tcp() {
            self.outbound
                .stream
                .commit(&message::header(Kind::Push, n), n, pool);
            self.outbound.bytes += n as u64;
        }
        self.outbound.stream.shrink(pool);
    }

    /// Whether room has come up that `input` did not have.
    pub(crate) fn fed(&mut self) -> bool {
        let roomy =
            self.outbound.stream.free() >= WORTH_READING * 2 || self.outbound.stream.is_empty();
        let tell = self.outbound.starved && roomy && self.reads_tcp();
        if tell {
            self.outbound.starved = false;
        }
        tell
    }

    /// TCP's end of stream was read.
    pub(crate) fn finish(&mut self, pool: &mut BufferPool) {
        if self.reads_tcp() {
            self.outbound.finished = true;
            self.say(Kind::Eof, pool);
            // the end was found by reading into a large one
            self.outbound.stream.shrink(pool);
        }
    }

    fn keepalive(&mut self, pool: &mut BufferPool) {
        // something that waits is as good as a keepalive
        if self.outbound.stream.is_empty() && self.conversation.is_settled() {
            self.say(Kind::Keepalive, pool);
        }
    }

    fn say(&mut self, kind: Kind, pool: &mut BufferPool) {
        self.outbound.stream.push(&message::header(kind, 0), pool);
    }

    /// Data for TCP, as much of it as lies together.
    pub(crate) fn output(&self) -> &[u8] {
        self.inbound.output.front()
    }

    /// The first `n` bytes of `output` were written.
    pub(crate) fn consumed(&mut self, n: usize, pool: &mut BufferPool, now: Instant) {
        if self.waits_for_reader() {
            self.activity.read_at = now;
        }
        self.inbound.output.consume(n, pool);
    }

    /// Whether the caller has to be told that there is output.
    pub(crate) fn must_deliver(&mut self) -> bool {
        let ended = self.inbound.finished && !self.inbound.end_told;
        let must = self.state == State::Connected
            && !self.inbound.announced
            && (!self.inbound.output.is_empty() || ended);
        self.inbound.announced |= must;
        must
    }

    /// True once: the other end's stream is complete and written to TCP.
    pub(crate) fn take_end(&mut self) -> bool {
        let ended =
            self.inbound.finished && self.inbound.output.is_empty() && !self.inbound.end_told;
        self.inbound.end_told |= ended;
        ended
    }

    /// Both directions of TCP are done: what is left is the conversation's own business.
    pub(crate) fn tcp_is_done(&self) -> bool {
        self.state == State::Connected && self.outbound.finished && self.inbound.end_told
    }

    /// All that both ends have said has arrived, as far as this end can know.
    pub(crate) fn is_delivered(&self) -> bool {
        self.outbound.stream.is_empty() && self.conversation.is_settled()
    }

    /// Bytes from TCP that the other end has not acknowledged yet.
    pub(crate) fn unsent(&self) -> usize {
        self.outbound.stream.len() + self.conversation.unacked_bytes()
    }

    /// Bytes that TCP has not taken yet.
    pub(crate) fn unread(&self) -> usize {
        self.inbound.output.len()
    }

    /// What data from TCP has to wait for.
    pub(crate) fn waits_for(&self) -> Option<Blocked> {
        self.conversation.waits_for(self.outbound.stream.len())
    }

    /// Whether what has arrived waits for the operator's limit.
    pub(crate) fn is_held(&self) -> bool {
        self.inbound.held_until != Instant::NEVER
    }

    /// Bytes of memory that its two queues take.
    pub(crate) fn memory(&self) -> usize {
        self.outbound.stream.memory() + self.inbound.output.memory()
    }

    /// Drops what is buffered.
    pub(crate) fn discard(&mut self, pool: &mut BufferPool) {
        self.outbound.stream.consume(CAPACITY, pool);
        self.inbound.output.consume(CAPACITY, pool);
    }

    /// Moves what has arrived from KCP to `output`, as far as there is room.
    pub(crate) fn read(
        &mut self,
        path: &mut Path,
        pool: &mut BufferPool,
        scratch: &mut Vec<u8>,
        now: Now,
    ) -> Result<Read, Cause> {
        let mut read = Read::default();
        self.inbound.held_until = Instant::NEVER;
        let mut any = false;
        while let Some(n) = self.conversation.peek() {
            if self.state == State::Lingering {
                // all was read up to eof; KCP may still hold what must not follow it
                return Ok(read);
            }
            if self.inbound.output.free() < n {
                break;
            }
            if !path.may_read(n, now.time) {
                // what is not read closes the other end's window
                self.inbound.held_until = path.reads_at();
                break;
            }
            any = true;
            if self.read_in_place(n, path, pool, now) {
                read.deliver = true;
                continue;
            }
            // the other end's segments may be larger than ours
            if scratch.len() < n {
                scratch.resize(n.max(SEGMENT_MAX), 0);
            }
            let Some(n) = self.conversation.recv(scratch, path, pool, now.time) else {
                break;
            };
            self.take(&scratch[..n], &mut read, pool)?;
        }
        // who has said more since does not wait for the answer, and may have forgotten the session by now
        if read.asked && !self.inbound.finished && self.conversation.peek().is_none() {
            self.keepalive(pool);
        }
        if any && self.activity.forgotten_at.is_none() {
            self.conversation.after_reading(now.time);
        }
        Ok(read)
    }

    /// Most pieces of a bulk transfer are nothing but data: KCP writes such a piece of `n` bytes to where TCP takes it from.
    /// False, and nothing has happened, if it is not one.
    fn read_in_place(&mut self, n: usize, path: &Path, pool: &mut BufferPool, now: Now) -> bool {
        let data = self.inbound.dialled
            && !self.inbound.finished
            && n > 0
            && self.inbound.parser.passes(n);
        if !data {
            return false;
        }
        let room = self.inbound.output.room(0, n, pool);
        let fits = room.len() == n && self.conversation.recv(room, path, pool, now.time) == Some(n);
        if fits {
            self.inbound.output.commit(&[], n, pool);
            self.inbound.parser.passed(n);
            self.inbound.bytes += n as u64;
        }
        fits
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        read: &mut Read,
        pool: &mut BufferPool,
    ) -> Result<(), Cause> {
        while let Some(item) = self
            .inbound
            .parser
            .next(&mut bytes)
            .map_err(|bad| self.complain(bad))?
        {
            match item {
                Item::Dial if self.inbound.dialled => return Err(self.unexpected("a second dial")),
                Item::Dial => {
                    self.inbound.dialled = true;
                    read.dial = true;
                }
                _ if !self.inbound.dialled => return Err(self.unexpected("data before the dial")),
                Item::Data(_) if self.inbound.finished => {
                    return Err(self.unexpected("data after the end"));
                }
                Item::Data(data) => {
                    self.inbound.output.push(data, pool);
                    self.inbound.bytes += data.len() as u64;
                    read.deliver = true;
                }
                Item::Eof => {
                    self.inbound.finished = true;
                    read.deliver = true;
                }
                Item::Keepalive => read.asked = !self.opener,
            }
        }
        Ok(())
    }

    fn complain(&self, bad: message::BadMessage) -> Cause {
        log::debug!(
            "{:08x}: a message of type {} and length {}",
            self.conv(),
            bad.kind,
            bad.length
        );
        Cause::Broken
    }

    fn unexpected(&self, what: &str) -> Cause {
        log::debug!("{:08x}: {what}", self.conv());
        Cause::Broken
    }
}
