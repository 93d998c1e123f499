//! What a conversation has sent and the other end has not acknowledged: the data, every transmission of it, and which of
//! them are lost. Loss is found by time, as in RACK (RFC 8985): what was sent a while before something that has been
//! acknowledged, and is not, is lost; a lost retransmission is found in the same way, and a timer is only the last resort.
//! What is sent next, and when, is decided elsewhere.

use crate::congestion::{Controller, Stamp};
use crate::pool::BufferPool;
use crate::segment::ahead;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// The longest wait between two attempts on a path that is silent: how soon its return is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// To an end that may not be there: so many attempts as to any other, and the longest wait after these.
const WARY_AFTER: u32 = 12;
const WARY_WAIT: Duration = Duration::from_millis(10_000);

/// Datagrams that took longer were held back by somebody, or by a machine that slept: they say nothing of the path.
const LONGEST_RTT: Duration = Duration::from_millis(10_000);
/// The longest first wait, whatever round trips such datagrams have feigned.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(3_000);

/// So many transmissions in a row that were not acknowledged, between others that were, are holes; more may be a datagram
/// of acks that was lost, and is repeated.
const HOLE: usize = 3;

/// Transmissions that are remembered beyond twice the segments, once a timer had to ask.
const LOG_SPARE: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    InFlight,
    /// Waits for its next transmission.
    Lost,
    Acked,
}

struct Segment {
    data: Vec<u8>,
    /// Its latest transmission, counted from the conversation's first.
    latest: u64,
    sends: u8,
    state: State,
}

struct Transmission {
    sn: u32,
    /// The timestamp on the wire, which its ack echoes.
    ts: u32,
    bytes: u16,
    /// Went along in another segment's datagram: its fate says nothing new of the path.
    along: bool,
    acked: bool,
    /// Its round trip, microseconds, once an ack has named it.
    rtt: u32,
    stamp: Stamp,
}

#[derive(Default)]
pub(super) struct Flight {
    /// The number of `segments[0]`.
    first: u32,
    segments: VecDeque<Segment>,
    /// Transmissions in the order of their sending.
    log: VecDeque<Transmission>,
    /// How many transmissions came before `log[0]`.
    log_first: u64,
    /// Those in state `Lost`, in the order of sending again. Others may stand among them, but never in front.
    lost: VecDeque<u32>,
    unacked: usize,
    unacked_bytes: usize,
    /// When the youngest acknowledged transmission was sent.
    newest: Instant,
    last_sent: Instant,
    /// The round trips of the last ones in the log's order that arrived.
    neighbours: [u32; 4],
    /// Timeouts in a row without an ack.
    timeouts: u32,
    /// The other end may not be there at all: before anything of ours has arrived, attempts become ever rarer.
    backs_off: bool,
}

impl Flight {
    pub(super) fn back_off(&mut self) {
        self.backs_off = true;
    }

    /// The number that the next new segment gets.
    pub(super) fn next(&self) -> u32 {
        self.first.wrapping_add(self.segments.len() as u32)
    }

    /// All before this number were acknowledged.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Segments that the other end has not acknowledged.
    pub(super) fn unacked(&self) -> usize {
        self.unacked
    }

    pub(super) fn unacked_bytes(&self) -> usize {
        self.unacked_bytes
    }

    /// From the oldest unacknowledged segment to the newest: what counts against the other end's window.
    pub(super) fn span(&self) -> usize {
        self.segments.len()
    }

    /// Whether anything of ours was ever acknowledged.
    pub(super) fn has_arrived(&self) -> bool {
        self.first != 0 || self.newest != Instant::default()
    }

    /// Nothing is left of anything that was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Takes a new segment's data; it has to be reported by `sent` next.
    pub(super) fn add(&mut self, data: Vec<u8>) -> u32 {
        let sn = self.next();
        self.unacked += 1;
        self.unacked_bytes += data.len();
        self.segments.push_back(Segment {
            data,
            latest: 0,
            sends: 0,
            state: State::InFlight,
        });
        sn
    }

    /// The data of a segment that is not acknowledged yet.
    pub(super) fn data(&self, sn: u32) -> Option<&[u8]> {
        self.segment(sn)
            .filter(|s| s.state != State::Acked)
            .map(|s| &s.data[..])
    }

    /// How many times a segment was sent.
    pub(super) fn sends(&self, sn: u32) -> u8 {
        self.segment(sn).map_or(0, |s| s.sends)
    }

    /// A segment leaves, for the first time or again, in `bytes` of datagram.
    pub(super) fn sent(&mut self, sn: u32, ts: u32, bytes: usize, along: bool, stamp: Stamp) {
        let latest = self.log_first + self.log.len() as u64;
        let Some(segment) = self.segment_mut(sn) else {
            return;
        };
        segment.latest = latest;
        segment.sends = segment.sends.saturating_add(1);
        if segment.state == State::Lost {
            segment.state = State::InFlight;
            self.skip_found();
        }
        self.last_sent = stamp.sent_at;
        self.log.push_back(Transmission {
            sn,
            ts,
            bytes: bytes as u16,
            along,
            acked: false,
            rtt: 0,
            stamp,
        });
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The next segment to send again; it has to be reported by `sent` next.
    pub(super) fn take_lost(&mut self) -> Option<u32> {
        let sn = self.lost.pop_front();
        self.skip_found();
        sn
    }

    /// Keeps in front of `lost` one that is.
    fn skip_found(&mut self) {
        while let Some(sn) = self.lost.front() {
            if self.segment(*sn).is_some_and(|s| s.state == State::Lost) {
                break;
            }
            self.lost.pop_front();
        }
    }

    /// The small segments in flight that are at most `most` bytes, youngest first, of the youngest `among`.
    pub(super) fn small(&self, most: usize, among: usize) -> impl Iterator<Item = (u32, &[u8])> {
        let first = self.first;
        let numbered = self.segments.iter().enumerate().rev().take(among);
        numbered
            .filter(move |(_, s)| s.state == State::InFlight && s.data.len() <= most)
            .map(move |(i, s)| (first.wrapping_add(i as u32), &s.data[..]))
    }

    /// The other end has everything before `una`.
    pub(super) fn on_una(
        &mut self,
        una: u32,
        rate: &mut Controller,
        pool: &mut BufferPool,
        now: Instant,
    ) {
        if ahead(una, self.first) <= 0 || ahead(una, self.next()) > 0 {
            return;
        }
        while self.first != una {
            self.acknowledge(self.first, None, rate, pool, now);
            self.segments.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.drop_acked();
    }

    /// The other end has segment `sn`, in the transmission that carried `ts`.
    pub(super) fn on_ack(
        &mut self,
        sn: u32,
        ts: u32,
        rate: &mut Controller,
        pool: &mut BufferPool,
        now: Instant,
    ) {
        self.acknowledge(sn, Some(ts), rate, pool, now);
        self.drop_acked();
    }

    fn drop_acked(&mut self) {
        while self
            .segments
            .front()
            .is_some_and(|s| s.state == State::Acked)
        {
            self.segments.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    fn acknowledge(
        &mut self,
        sn: u32,
        ts: Option<u32>,
        rate: &mut Controller,
        pool: &mut BufferPool,
        now: Instant,
    ) {
        let latest = self.segment(sn).map(|s| s.latest);
        let at = match (ts, latest) {
            (None, Some(latest)) => self.place(latest),
            (None, None) => None,
            (Some(ts), Some(latest)) => self.sent_with(latest, ts).or_else(|| self.find(sn, ts)),
            (Some(ts), None) => self.find(sn, ts),
        };
        if let Some(at) = at {
            self.heard(at, ts.is_some(), rate, now);
        } else if ts.is_some()
            && self
                .segment(sn)
                .is_some_and(|s| s.state != State::Acked && s.sends > 0)
        {
            rate.on_late();
        }
        let Some(segment) = self.segment_mut(sn) else {
            return;
        };
        let state = std::mem::replace(&mut segment.state, State::Acked);
        if state != State::Acked {
            let data = std::mem::take(&mut segment.data);
            self.unacked -= 1;
            self.unacked_bytes -= data.len();
            pool.give_packet(data);
        }
        if state == State::Lost {
            self.skip_found();
        }
    }

    /// A transmission has arrived. An ack that names it also measures the round trip.
    fn heard(&mut self, at: usize, named: bool, rate: &mut Controller, now: Instant) {
        let t = &mut self.log[at];
        if t.acked {
            return;
        }
        t.acked = true;
        self.timeouts = 0;
        if named {
            self.newest = self.newest.max(t.stamp.sent_at);
            let rtt = now.since(t.stamp.sent_at);
            t.rtt = rtt.min(LONGEST_RTT).as_micros() as u32;
            if rtt < LONGEST_RTT {
                rate.on_rtt(rtt, now);
            }
        }
        let (bytes, stamp) = (t.bytes as usize, t.stamp);
        rate.on_delivered(bytes, &stamp, named);
    }

    /// Finds what is lost by what was acknowledged after it.
    pub(super) fn detect(&mut self, rate: &mut Controller) {
        while let Some(t) = self.log.front() {
            let old = t.stamp.sent_at.after(2 * rate.timeout()) <= self.last_sent;
            if !t.acked && old && ahead(t.sn, self.first) < 0 {
                // its segment has arrived in another transmission, and no ack will ever name this one
                self.forget_oldest(rate);
                continue;
            }
            let run = self.log.iter().take(HOLE + 1).take_while(|t| !t.acked);
            let reordering = rate.reordering(run.count() <= HOLE);
            if !t.acked && t.stamp.sent_at.after(reordering) > self.newest {
                return;
            }
            let (rtt, along, stamp) = (t.rtt, t.along, t.stamp);
            if !along {
                let least = self.neighbours.iter().copied().min().unwrap_or(0);
                rate.record_fate(!t.acked, &stamp, Duration::from_micros(u64::from(least)));
            }
            if rtt > 0 {
                self.neighbours.rotate_right(1);
                self.neighbours[0] = rtt;
            }
            let Some(t) = self.log.front() else { return };
            if !t.acked {
                rate.on_lost(t.bytes as usize);
                let (sn, number) = (t.sn, self.log_first);
                self.give_up(sn, number);
            }
            self.log.pop_front();
            self.log_first += 1;
        }
    }

    /// A transmission is lost: if it was its segment's latest, the segment has to go again.
    fn give_up(&mut self, sn: u32, number: u64) {
        let Some(segment) = self.segment_mut(sn) else {
            return;
        };
        if segment.state != State::InFlight || segment.latest != number {
            return;
        }
        segment.state = State::Lost;
        if self.lost.front().is_some_and(|front| ahead(*front, sn) > 0) {
            self.lost.push_front(sn);
        } else {
            self.lost.push_back(sn);
        }
    }

    /// When to ask again because nothing has been heard, or to forget what nobody waits for.
    /// `sessions`: how many share the path; the more they are, the less often each of them tries.
    pub(super) fn timeout_at(&self, rate: &Controller, sessions: usize) -> Option<Instant> {
        if self.unacked == 0 {
            return (!self.log.is_empty()).then(|| self.last_sent.after(rate.timeout()));
        }
        // a crowd that tried every 400 ms could fill a slow line with nothing but that
        let mut longest = LONGEST_WAIT * (1 + sessions as u64 / 8).min(25);
        if self.backs_off && !self.has_arrived() {
            let doublings = self.timeouts.saturating_sub(WARY_AFTER).min(8);
            longest = (longest << doublings).min(WARY_WAIT);
        }
        let timeout = rate.timeout().min(LONGEST_TIMEOUT);
        let wait = timeout << self.timeouts.min(8);
        Some(self.last_sent.after(wait.min(longest.max(timeout))))
    }

    /// Nothing was heard for too long: the oldest segment is worth a try; its ack tells what became of the others.
    /// Where all has arrived in other copies, those that are still out are forgotten.
    pub(super) fn on_timeout(&mut self, rate: &mut Controller) -> Option<u32> {
        if self.unacked == 0 {
            self.forget_log(rate);
            return None;
        }
        self.timeouts += 1;
        self.bound_log(rate);
        let at = self.segments.iter().position(|s| s.state != State::Acked)?;
        Some(self.first.wrapping_add(at as u32))
    }

    /// An end that lives and never acknowledges is asked again and again: of what was sent so often the oldest is forgotten.
    fn bound_log(&mut self, rate: &mut Controller) {
        while self.log.len() > 2 * self.segments.len() + LOG_SPARE {
            self.forget_oldest(rate);
        }
    }

    /// The first transmission of the log will never be heard of, if it has not been.
    fn forget_oldest(&mut self, rate: &mut Controller) {
        let Some(t) = self.log.pop_front() else {
            return;
        };
        self.log_first += 1;
        if !t.acked {
            rate.on_forgotten(t.bytes as usize);
        }
    }

    /// The session is gone: what is in flight does not count any more.
    pub(super) fn forget(&mut self, rate: &mut Controller) {
        self.forget_log(rate);
        *self = Flight::default();
    }

    /// The other end is at a new address: what is in flight is forgotten on the old path, whose rate this is, and has to
    /// go again.
    pub(super) fn relocate(&mut self, rate: &mut Controller) {
        self.forget_log(rate);
        self.timeouts = 0;
        self.lost.clear();
        for (i, segment) in self.segments.iter_mut().enumerate() {
            if segment.state != State::Acked {
                (segment.state, segment.sends) = (State::Lost, 0);
                self.lost.push_back(self.first.wrapping_add(i as u32));
            }
        }
    }

    fn forget_log(&mut self, rate: &mut Controller) {
        self.log_first += self.log.len() as u64;
        for t in self.log.drain(..).filter(|t| !t.acked) {
            rate.on_forgotten(t.bytes as usize);
        }
    }

    /// Gives back memory that a burst has taken.
    pub(super) fn rest(&mut self) {
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
            self.lost = VecDeque::new();
            if self.log.is_empty() {
                self.log = VecDeque::new();
            }
        }
    }

    fn segment(&self, sn: u32) -> Option<&Segment> {
        self.segments.get(sn.wrapping_sub(self.first) as usize)
    }

    fn segment_mut(&mut self, sn: u32) -> Option<&mut Segment> {
        self.segments.get_mut(sn.wrapping_sub(self.first) as usize)
    }

    fn place(&self, number: u64) -> Option<usize> {
        let at = number.checked_sub(self.log_first)? as usize;
        (at < self.log.len()).then_some(at)
    }

    /// A transmission's place, if it carried this timestamp.
    fn sent_with(&self, number: u64, ts: u32) -> Option<usize> {
        self.place(number).filter(|at| self.log[*at].ts == ts)
    }

    /// The transmission that an ack names; the log is in the order of the timestamps.
    fn find(&self, sn: u32, ts: u32) -> Option<usize> {
        let from = self.log.partition_point(|t| ahead(t.ts, ts) < 0);
        let same_time = self
            .log
            .iter()
            .enumerate()
            .skip(from)
            .take_while(|(_, t)| t.ts == ts);
        same_time
            .into_iter()
            .find(|(_, t)| t.sn == sn)
            .map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Limits;

    // The kcp crate always begins at 0, so that only this part can be tested at the wrap; with
    // wrapping arithmetic the crate's own comparisons are right there, too, but for the place of an ack.
    fn flight_at(first: u32) -> (Flight, Controller, BufferPool) {
        let flight = Flight {
            first,
            ..Flight::default()
        };
        let rate = Controller::new(Limits::default(), Instant::ZERO);
        (flight, rate, BufferPool::default())
    }

    #[test]
    fn numbers_and_timestamps_wrap() {
        for first in [u32::MAX - 2, 0x7FFF_FFFD] {
            let (mut flight, mut rate, mut pool) = flight_at(first);
            let at = |ms| Instant::from_millis(ms);
            for i in 0..6 {
                let sn = flight.add(vec![i as u8; 10]);
                assert_eq!(sn, first.wrapping_add(i));
                let stamp = rate.on_sent(38, at(1 + u64::from(i)));
                flight.sent(sn, first.wrapping_add(i), 38, false, stamp);
            }
            let (second, last) = (first.wrapping_add(1), first.wrapping_add(5));
            flight.on_ack(last, last, &mut rate, &mut pool, at(100));
            assert_eq!((flight.unacked(), flight.span()), (5, 6));
            // beyond what was sent, and long ago: neither says anything
            flight.on_una(first.wrapping_add(7), &mut rate, &mut pool, at(100));
            flight.on_una(first.wrapping_sub(1), &mut rate, &mut pool, at(100));
            assert_eq!(flight.unacked(), 5);
            flight.on_una(first.wrapping_add(4), &mut rate, &mut pool, at(101));
            assert_eq!((flight.unacked(), flight.span()), (1, 2));
            assert!(flight.data(second).is_none());
            let left = first.wrapping_add(4);
            assert_eq!(flight.on_timeout(&mut rate), Some(left));
            flight.on_ack(left, left, &mut rate, &mut pool, at(102));
            assert!(flight.is_empty());
            assert_eq!(flight.next(), first.wrapping_add(6));
        }
    }

    /// A flight of `count` segments, sent a millisecond apart.
    fn sent(count: u32) -> (Flight, Controller, BufferPool) {
        let (mut flight, mut rate, pool) = flight_at(0);
        for sn in 0..count {
            flight.add(vec![0; 10]);
            send(&mut flight, &mut rate, sn, 1 + sn);
        }
        (flight, rate, pool)
    }

    /// A segment leaves at this millisecond, which its timestamp tells.
    fn send(flight: &mut Flight, rate: &mut Controller, sn: u32, ms: u32) {
        let stamp = rate.on_sent(38, Instant::from_millis(u64::from(ms)));
        flight.sent(sn, ms, 38, false, stamp);
    }

    #[test]
    fn what_was_found_is_not_sent_again() {
        let (mut flight, mut rate, mut pool) = sent(400);
        let now = Instant::from_millis(500);
        for sn in (0..400).filter(|sn| ![3, 50, 51, 120, 121].contains(sn)) {
            flight.on_ack(sn, 1 + sn, &mut rate, &mut pool, now);
        }
        flight.detect(&mut rate);
        assert!(flight.has_lost());
        // late acks find two of them
        flight.on_ack(50, 51, &mut rate, &mut pool, now);
        flight.on_ack(3, 4, &mut rate, &mut pool, now);
        assert_eq!(flight.take_lost(), Some(51));
        send(&mut flight, &mut rate, 51, 501);
        // one goes as a copy, and the last is found
        send(&mut flight, &mut rate, 120, 502);
        assert!(flight.has_lost());
        flight.on_ack(121, 122, &mut rate, &mut pool, now);
        assert_eq!((flight.has_lost(), flight.take_lost()), (false, None));
        assert_eq!(flight.unacked(), 2);
        flight.on_una(52, &mut rate, &mut pool, now);
        assert_eq!(flight.span(), 400 - 120, "those before 120 had arrived");
    }

    #[test]
    fn an_ack_finds_the_transmission_that_it_names() {
        let (mut flight, mut rate, mut pool) = sent(4);
        send(&mut flight, &mut rate, 1, 9);
        let named = |flight: &Flight| {
            let acked = flight.log.iter().enumerate().filter(|(_, t)| t.acked);
            acked.map(|(at, _)| at).collect::<Vec<_>>()
        };
        flight.on_ack(1, 2, &mut rate, &mut pool, Instant::from_millis(20));
        assert_eq!(named(&flight), [1], "the first transmission");
        flight.on_ack(1, 9, &mut rate, &mut pool, Instant::from_millis(21));
        assert_eq!(named(&flight), [1, 4], "the second as well");
        flight.on_ack(2, 9, &mut rate, &mut pool, Instant::from_millis(22));
        assert_eq!(named(&flight), [1, 4], "no such transmission");
    }

    #[test]
    fn who_never_acknowledges_is_not_remembered_for_ever() {
        let (mut flight, mut rate, _) = sent(1);
        for ms in 0..10_000 {
            let sn = flight.on_timeout(&mut rate).expect("a segment");
            send(&mut flight, &mut rate, sn, 100 + ms);
        }
        assert!(flight.log.len() <= 3 + LOG_SPARE, "{}", flight.log.len());
        assert!(rate.in_flight() <= 38 * (3 + LOG_SPARE as u64));
    }

    #[test]
    fn only_the_youngest_are_searched_for_small_ones() {
        let (flight, ..) = sent(9);
        let numbers = |most, among| {
            flight
                .small(most, among)
                .map(|(sn, _)| sn)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(10, 3), [8, 7, 6]);
        assert!(numbers(9, 3).is_empty());
    }
}
