//! A packet train: pings as long as data, faster than the transfer that the present pair of ports carries. If most arrive as fast as
//! they were sent, a pair carries more than that. On a line that is full they do not: they share it with the transfer, and no
//! more than all of it can be theirs. Some loss by chance and disorder change nothing. One train goes to a new pair and, if that
//! arrives fast, a control to the present one, which is much slower where that is throttled. What is done then is decided in
//! `hopping`.

use crate::message::{CONTROL_LEN, Control, ECHO};
use crate::time::{Duration, Instant};

/// How much faster than the transfer it is sent.
const SPEED: f64 = 4.0;
/// How much faster at least, where the operator's limits leave no more.
const SPEED_MIN: f64 = 2.0;
/// And how much faster it has to arrive. On a full line it gets at most SPEED / (SPEED + 1) of the transfer's rate.
const FAST: f64 = 1.5;
/// The control has to arrive at less than this share of the other's rate: a policer lets a burst through.
const SLOW: f64 = 0.6;
/// A train has as many bytes as the transfer brings within this.
const SPAN: Duration = Duration::from_millis(150);
/// The fewest pings of a train, and the most.
const LENGTH_MIN: f64 = 12.0;
const LENGTH_MAX: f64 = 256.0;
/// The slowest transfer that a train is sent beside, bytes per second; a slower line would be filled by it for longer than `SPAN`.
const RATE_MIN: f64 = 90_000.0;
/// After the last ping answers are awaited for so many round trips.
const ROUND_TRIPS: u64 = 2;
/// And for so long.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// A train that is under way.
pub(super) struct Train {
    /// The transfer's rate, bytes per second. It comes from the other end, so that answers are as long as pings.
    rate: f64,
    echoes: bool,
    /// What the first ping names; each following one names one more.
    first: u32,
    length: u32,
    /// Bytes of a ping's packet.
    size: usize,
    /// Between two pings, and after the last.
    spacing: Duration,
    wait: Duration,
    /// The shortest round trip of the present pair.
    base_rtt: Duration,
    began: Instant,
    sent: u32,
    answered: u32,
    answered_at: Instant,
    /// It goes to the pair in use, and the one to the new pair arrived at so many bytes per second.
    other: Option<f64>,
}

impl Train {
    /// Beside a transfer of `rate` bytes per second. `echoes`: it comes from the other end; `most`: what the operator's limits leave,
    /// bytes per second; `first`: a random number; `size`: bytes of the largest packet; `base_rtt`: the shortest round trip of the
    /// present pair. None: the transfer is too slow, or too little is left.
    pub(super) fn new(
        (rate, echoes): (f64, bool),
        most: f64,
        first: u32,
        size: usize,
        base_rtt: Duration,
        now: Instant,
    ) -> Option<Train> {
        let size = size.max(CONTROL_LEN + ECHO.len());
        let length = SPAN.as_secs_f64() * rate / size as f64;
        let pace = most.min(SPEED * rate);
        (rate >= RATE_MIN && pace >= SPEED_MIN * rate).then(|| Train {
            rate,
            echoes,
            first,
            length: length.clamp(LENGTH_MIN, LENGTH_MAX) as u32,
            size,
            spacing: Duration::from_secs_f64(size as f64 / pace),
            wait: WAIT_MIN.max(ROUND_TRIPS * base_rtt),
            base_rtt,
            began: now,
            sent: 0,
            answered: 0,
            answered_at: now,
            other: None,
        })
    }

    /// The packet of the next ping, if there is one, and when there is something to do again.
    pub(super) fn next(&mut self) -> Option<(Vec<u8>, Instant)> {
        if self.sent == self.length {
            return None;
        }
        let value = self.first.wrapping_add(self.sent);
        self.sent += 1;
        // from its beginning on, so that a late timer does not slow it down
        let span = self.spacing * u64::from(self.sent);
        let wait = if self.sent == self.length {
            self.wait
        } else {
            Duration::ZERO
        };
        let mut packet = Control::Ping(value).to_wire().to_vec();
        if self.echoes {
            packet.extend(ECHO);
        }
        packet.resize(self.size, 0);
        Some((packet, self.began.after(span + wait)))
    }

    /// A pong of so many bytes has come that names this. False: it answers no ping of this train.
    pub(super) fn on_pong(&mut self, value: u32, len: usize, now: Instant) -> bool {
        let own = value.wrapping_sub(self.first) < self.sent;
        if own && (!self.echoes || len >= self.size) {
            self.answered += 1;
            self.answered_at = now;
        }
        own
    }

    /// The same train, for the pair in use.
    pub(super) fn control(&self, first: u32, now: Instant) -> Train {
        Train {
            first,
            began: now,
            sent: 0,
            answered: 0,
            answered_at: now,
            other: Some(self.arrival_rate()),
            ..*self
        }
    }

    /// Whether it goes to the pair in use.
    pub(super) fn is_control(&self) -> bool {
        self.other.is_some()
    }

    /// Whether it shows that the new pair carries much more than the one in use: the first by being fast, the control by being
    /// slower than that.
    pub(super) fn speaks_for_new_pair(&self) -> bool {
        match self.other {
            None => self.arrival_rate() >= FAST * self.rate,
            Some(other) => self.arrival_rate() < SLOW * other,
        }
    }

    /// How fast it arrived, bytes per second.
    fn arrival_rate(&self) -> f64 {
        let span = self.answered_at.since(self.began);
        // whatever held an answer up counts against it
        let span = span
            .saturating_sub(self.base_rtt)
            .max(Duration::MICROSECOND);
        let sent_in = self.spacing * u64::from(self.length);
        let bytes = f64::from(self.answered) * self.size as f64;
        bytes / span.max(sent_in).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(60);
    const FIRST: u32 = u32::MAX - 3;

    fn train() -> Train {
        Train::new((250_000.0, true), f64::MAX, FIRST, 1400, RTT, Instant::ZERO)
            .expect("a fast transfer")
    }

    /// Answers each ping that `arrives` names, after the pings before it have passed at `rate`.
    fn passes(rate: f64, arrives: impl Fn(u32) -> bool) -> bool {
        let (mut train, mut now, mut free, mut n) = (train(), Instant::ZERO, Instant::ZERO, 0);
        let mut answers = Vec::new();
        while let Some((packet, next)) = train.next() {
            free = free
                .max(now)
                .after(Duration::from_secs_f64(packet.len() as f64 / rate));
            if arrives(n) {
                answers.push((FIRST.wrapping_add(n), free.after(RTT)));
            }
            (now, n) = (next, n + 1);
        }
        for (value, at) in answers {
            train.on_pong(value, 1400, at);
        }
        train.speaks_for_new_pair()
    }

    #[test]
    fn its_pings_are_apart_and_then_answers_are_awaited() {
        let (mut train, mut now, mut bytes) = (train(), Instant::ZERO, 0);
        while let Some((packet, next)) = train.next() {
            assert!(packet[CONTROL_LEN..].starts_with(ECHO));
            (now, bytes) = (next, bytes + packet.len());
        }
        assert_eq!(bytes, 26 * 1400);
        assert_eq!(
            now.since(Instant::ZERO),
            Duration::from_micros(26 * 1400 + 120_000)
        );
        assert!(Train::new((80_000.0, true), f64::MAX, 1, 1400, RTT, now).is_none());
        // what the limits leave
        let limited = |left| Train::new((250_000.0, false), left, 1, 1400, RTT, now);
        assert!(limited(499_000.0).is_none());
        let slower = limited(500_000.0).expect("twice the rate");
        assert_eq!(slower.spacing, Duration::from_secs_f64(1400.0 / 500_000.0));
        let mut fast = Train::new((1e8, false), f64::MAX, 1, 1400, RTT, now).expect("fast");
        assert_eq!(fast.length, 256);
        let (packet, _) = fast.next().expect("a ping");
        assert!(!packet[CONTROL_LEN..].starts_with(ECHO));
    }

    #[test]
    fn it_passes_where_it_arrives_as_fast_as_it_was_sent() {
        assert!(passes(1e9, |_| true));
        assert!(passes(1e6, |_| true));
        // a tenth is lost by chance, or half
        assert!(passes(1e9, |n| n % 10 != 0));
        assert!(!passes(1e9, |n| n % 3 == 0));
        // it has all of the line, or a policer lets a quarter through
        assert!(!passes(250_000.0, |_| true));
        assert!(!passes(1e9, |n| n % 4 == 0));
        assert!(!passes(1e9, |_| false));
    }

    #[test]
    fn the_pair_in_use_is_to_be_worse() {
        let answer = |train: &mut Train, n: u32| {
            while train.next().is_some() {}
            for n in 0..n {
                train.on_pong(train.first.wrapping_add(n), 1400, Instant::ZERO.after(RTT));
            }
        };
        for (arrived, passes) in [(26, false), (16, false), (15, true), (0, true)] {
            let mut train = train();
            answer(&mut train, 26);
            assert!(train.speaks_for_new_pair() && !train.is_control());
            let mut control = train.control(7, Instant::ZERO);
            answer(&mut control, arrived);
            assert!(control.is_control());
            assert_eq!(control.speaks_for_new_pair(), passes, "{arrived}");
        }
    }

    #[test]
    fn short_answers_do_not_count_for_a_download() {
        let mut train = train();
        while train.next().is_some() {}
        for n in 0..26 {
            train.on_pong(FIRST.wrapping_add(n), 40, Instant::ZERO.after(RTT));
        }
        assert!(!train.on_pong(7_777_777, 1400, Instant::ZERO.after(RTT)));
        assert!(!train.speaks_for_new_pair());
    }
}
