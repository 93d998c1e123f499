//! Which ports of the other end answer, asked before it is pinged at one of them: what is sent when, what an answer or a
//! refusal means, and the lines that are printed. The sockets are in `event::survey`.

use super::write_ping;
use crate::config::Ports;
use crate::crypto::{Key, Method, Sealing};
use crate::message::Control;
use crate::time::{Duration, Instant};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// How often a port that says nothing is asked: packets get lost.
const ROUNDS: u32 = 3;
/// The time from the beginning of one round to that of the next, and for the last answers.
const ROUND: Duration = Duration::from_secs(1);
/// So many pings leave one after the other, and the next after this pause: more would fill a slow line.
const BURST: usize = 16;
const BURST_PAUSE: Duration = Duration::from_millis(5);

/// What is known of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Silent,
    Answers,
    Refused,
}

/// A question to each of several ports of one host.
pub(crate) struct Survey {
    ports: Vec<(u16, State)>,
    sealing: Option<Sealing>,
    /// The timestamp of the first port's ping; those of the others count up.
    first: u32,
    rng: SmallRng,
    /// The place of the port that is asked next, and when.
    place: usize,
    next_at: Instant,
    /// Rounds that have begun, and when the last one did.
    rounds: u32,
    round_at: Instant,
}

impl Survey {
    /// `seal`: as the ping's; `first` should not be easy to guess, `seed` is for the padding.
    pub(crate) fn new(
        ports: &Ports,
        seal: Option<&(Method, Key)>,
        first: u32,
        seed: u64,
        now: Instant,
    ) -> Survey {
        Survey {
            ports: ports.iter().map(|port| (port, State::Silent)).collect(),
            sealing: seal.map(|(method, key)| Sealing::new(*method, key)),
            first,
            rng: SmallRng::seed_from_u64(seed),
            place: 0,
            next_at: now,
            rounds: 1,
            round_at: now,
        }
    }

    /// The next datagram to send, built in `buf`: the port that it is for, and its length.
    pub(crate) fn transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<(u16, usize)> {
        if now < self.next_at || self.is_over(now) {
            return None;
        }
        if self.place == 0 {
            self.round_at = now;
        }
        let silent = |(_, state): &(u16, State)| *state == State::Silent;
        let Some(ahead) = self.ports[self.place..].iter().position(silent) else {
            (self.place, self.next_at) = (0, self.round_at.after(ROUND));
            self.rounds += 1;
            return None;
        };
        let place = self.place + ahead;
        self.place = place + 1;
        if self.place % BURST == 0 {
            self.next_at = now.after(BURST_PAUSE);
        }
        let value = self.first.wrapping_add(place as u32);
        let len = write_ping(value, self.sealing.as_mut(), &mut self.rng, buf);
        Some((self.ports[place].0, len))
    }

    /// A datagram has come from this port of the host.
    pub(crate) fn receive(&mut self, port: u16, datagram: &mut [u8]) {
        let packet = match &mut self.sealing {
            Some(sealing) => sealing.open(datagram).ok(),
            None => Some(datagram),
        };
        let Some(Control::Pong(ts)) = packet.and_then(|packet| Control::read(packet)) else {
            return;
        };
        let place = ts.wrapping_sub(self.first) as usize;
        match self.ports.get_mut(place) {
            Some((asked, state)) if *asked == port => *state = State::Answers,
            _ => (),
        }
    }

    /// The system has heard that nothing receives at this port.
    pub(crate) fn on_refused(&mut self, port: u16) {
        let all = self.ports.iter_mut();
        for (_, state) in all.filter(|(asked, state)| *asked == port && *state == State::Silent) {
            *state = State::Refused;
        }
    }

    /// When to call `transmit` again, or to look whether it is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.next_at
    }

    /// Whether all is known that can be.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let asked = self.rounds > ROUNDS && now >= self.next_at;
        asked || self.ports.iter().all(|(_, state)| *state != State::Silent)
    }

    /// The ports that answer. None: none does.
    pub(crate) fn answering(&self) -> Option<Ports> {
        self.which(State::Answers)
    }

    fn which(&self, wanted: State) -> Option<Ports> {
        let all = self.ports.iter().filter(|(_, state)| *state == wanted);
        Ports::of(all.map(|(port, _)| *port))
    }

    /// What is known of each port, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kinds = [
            ("answer:   ", State::Answers),
            ("refused:  ", State::Refused),
            ("no answer:", State::Silent),
        ];
        let lines = kinds.into_iter().filter_map(|(word, state)| {
            let ports = self.which(state)?;
            let hint = match state {
                State::Refused => " (nothing receives there)",
                _ => "",
            };
            Some(format!(
                "{word} {} of {} ports, {ports}{hint}",
                ports.len(),
                self.ports.len()
            ))
        });
        lines.chain(self.advice()).collect()
    }

    /// What to do about ports that do not answer while others do.
    fn advice(&self) -> Option<String> {
        let silent = self.which(State::Silent);
        let refused = self.which(State::Refused);
        self.answering()?;
        Some(match (silent, refused) {
            (None, None) => return None,
            (Some(silent), _) => format!(
                "try:    let UDP {silent} through, in the firewalls of the other end, of its provider and of this network, or leave them out of udp_connect"
            ),
            (None, Some(refused)) => format!(
                "try:    name {refused} in udp_bind at the other end, or leave them out of udp_connect"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CONTROL_LEN;
    use crate::time::SEC;

    const BUF: usize = 200;

    fn pong(key: Option<&(Method, Key)>, ping: &[u8]) -> Vec<u8> {
        let mut sealing = key.map(|(method, key)| Sealing::new(*method, key));
        let mut copy = ping.to_vec();
        let packet = match &mut sealing {
            Some(sealing) => sealing.open(&mut copy).expect("our key"),
            None => &mut copy,
        };
        let Some(Control::Ping(ts)) = Control::read(packet) else {
            panic!("no ping");
        };
        let mut pong = vec![0; BUF];
        pong[..CONTROL_LEN].copy_from_slice(&Control::Pong(ts).to_wire());
        let len = match &mut sealing {
            Some(sealing) => sealing.seal(&mut pong, CONTROL_LEN),
            None => CONTROL_LEN,
        };
        pong.truncate(len);
        pong
    }

    /// Asks until it is over. `other`: the port from which what has come to a port is answered, if it is.
    fn survey(
        ports: &str,
        key: Option<&(Method, Key)>,
        mut other: impl FnMut(u16) -> Option<u16>,
    ) -> (Survey, Instant, usize) {
        let ports = Ports::parse(ports).expect("ports");
        let mut survey = Survey::new(&ports, key, u32::MAX - 1, 1, Instant::ZERO);
        let (mut now, mut sent) = (Instant::ZERO, 0);
        while !survey.is_over(now) {
            let mut buf = [0; BUF];
            while let Some((port, len)) = survey.transmit(now, &mut buf) {
                sent += 1;
                if let Some(from) = other(port) {
                    survey.receive(from, &mut pong(key, &buf[..len]));
                }
            }
            assert!(
                survey.deadline() > now || survey.is_over(now),
                "it waits for the past"
            );
            now = now.max(survey.deadline());
        }
        (survey, now, sent)
    }

    #[test]
    fn each_port_is_told_of() {
        let key = (Method::Aes256Gcm, Key::generate());
        for key in [None, Some(&key)] {
            // 7 says nothing, and an answer of another port than the one that was asked is none
            let (survey, now, sent) = survey("443,5-9", key, |port| match port {
                7 => None,
                9 => Some(443),
                port => Some(port),
            });
            let lines = [
                "answer:    4 of 6 ports, 5-6,8,443",
                "no answer: 2 of 6 ports, 7,9",
                "try:    let UDP 7,9 through, in the firewalls of the other end, of its provider and of this network, or leave them out of udp_connect",
            ];
            assert_eq!(survey.lines(), lines);
            assert_eq!(survey.answering().map(|ports| ports.first()), Some(5));
            assert_eq!((now, sent), (Instant::ZERO.after(3 * SEC), 6 + 2 + 2));
        }
    }

    #[test]
    fn who_answers_late_or_never_is_asked_again() {
        let mut asked = 0;
        let (late, now, _) = survey("5-6", None, |port| {
            asked += 1;
            (asked > 3).then_some(port)
        });
        assert_eq!(late.lines(), ["answer:    2 of 2 ports, 5-6"]);
        assert!(now < Instant::ZERO.after(3 * SEC));
        let (mut silent, _, sent) = survey("5-6", None, |_| None);
        assert_eq!((silent.answering(), sent), (None, 6));
        silent.on_refused(6);
        assert_eq!(
            silent.lines(),
            [
                "refused:   1 of 2 ports, 6 (nothing receives there)",
                "no answer: 1 of 2 ports, 5"
            ]
        );
    }

    #[test]
    fn many_ports_are_not_asked_at_once() {
        let survey_of = |ports| {
            let ports = Ports::parse(ports).expect("ports");
            let mut survey = Survey::new(&ports, None, 7, 1, Instant::ZERO);
            let mut buf = [0; BUF];
            std::iter::from_fn(|| survey.transmit(Instant::ZERO, &mut buf)).count()
        };
        assert_eq!(survey_of("1-1024"), BURST);
        let (_, now, sent) = survey("1-1024", None, Some);
        assert_eq!(sent, 1024);
        assert!(now < Instant::ZERO.after(ROUND));
    }
}
