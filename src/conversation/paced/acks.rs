//! Which acks a conversation owes, when they go, and how often they are said again. A lost datagram of
//! acks would look to the other end like as many lost segments. What is acknowledged is decided in `inbound`.

use crate::congestion::ACK_DELAY_MAX;
use crate::path::LOSSY;
use crate::segment::ahead;
use crate::time::{Duration, Instant, MS};
use std::collections::VecDeque;

/// A segment's number and the timestamp that its ack echoes.
pub(super) type Ack = (u32, u32);

/// The most acks that wait to be said.
const PENDING_MAX: usize = 65_536;
/// So many acks fill most of a datagram: they go at once.
const ENOUGH: usize = 48;

/// On a slow line a datagram of acks waits for so many, and so many times as long: else the way back would carry as
/// many datagrams as the way there.
const COMPANY: usize = 3;
const COMPANY_WAIT: u64 = 2;

/// So few belong to small messages now and then, and not to a transfer.
const FEW: usize = 2;

/// Loss from which acks are said twice, and three times. An ack is 24 bytes for a segment of 1,344: saying it costs 1.8 %
/// of the traffic. At 5 % loss said twice, 0.25 % are lost; at 30 % said three times, 2.7 %.
const TWICE: f64 = LOSSY;
const THRICE: f64 = 0.2;
/// ln 0.2.
const APART: f64 = -1.61;

/// Acks that were said, and are said again.
struct Repetition {
    acks: Vec<Ack>,
    left: u8,
    /// Datagrams that go before the next repetition, or a time after which it goes anyway: a burst of losses must not
    /// take all of them.
    wait: u32,
    at: Instant,
}

#[derive(Default)]
pub(super) struct Acks {
    /// Not said yet; how many segments they stand for, and whether the last came in order.
    unsent: Vec<Ack>,
    arrived: usize,
    in_order: bool,
    /// To go with the next datagram, new and repeated.
    out: VecDeque<Ack>,
    /// How many were new when acks were last said.
    lately: usize,
    /// Acks to be said again, and how many times still to say.
    repetitions: VecDeque<Repetition>,
    /// When the oldest unsaid ack has to go, or the next repetition.
    due: Option<Instant>,
    spare: Vec<Vec<Ack>>,
}

impl Acks {
    /// A segment has arrived. `in_order`: for the first time, with all before it, so that `una` tells of it, too: of several
    /// such in a row only the last is named, whose round trip is measured.
    pub(super) fn add(&mut self, ack: Ack, in_order: bool) {
        self.arrived += 1;
        let follows = std::mem::replace(&mut self.in_order, in_order) && in_order;
        if let Some(last) = self.unsent.last_mut().filter(|_| follows) {
            *last = ack;
            return;
        }
        if self.unsent.len() >= PENDING_MAX {
            // somebody repeats segments while nothing can leave: the latest acks are enough
            self.unsent.drain(..PENDING_MAX / 2);
        }
        self.unsent.push(ack);
    }

    /// Sets when the added acks leave: at once if they fill a datagram; after `COMPANY_WAIT` delays
    /// where fewer than `COMPANY` segments of a transfer have arrived; at the next multiple of the delay for small messages,
    /// so that the acks of many sessions leave together; otherwise after the delay.
    pub(super) fn schedule(&mut self, delay: Duration, now: Instant) {
        let at = if self.unsent.len() >= ENOUGH {
            now
        } else if self.arrived < COMPANY && !self.are_few() && delay > PROMPT {
            now.after(COMPANY_WAIT * delay)
        } else if self.are_few() {
            Instant::ZERO.after((now.since(Instant::ZERO) / delay + 1) * delay)
        } else {
            now.after(delay)
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether it is time to call `gather`.
    pub(super) fn must_gather(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// When something has to leave: at once if a datagram was too small for all that was gathered.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.out.is_empty() {
            self.due
        } else {
            Some(Instant::ZERO)
        }
    }

    /// Something leaves now: gathers what is to be said in it. `loss`: chance that a datagram is lost, and that one is
    /// after a lost one. `una`: acks before it need no repetition.
    pub(super) fn gather(&mut self, loss: (f64, f64), una: u32, delay: Duration, now: Instant) {
        let repeats = repeats(loss.0);
        let apart = apart(loss.1);
        for said in &mut self.repetitions {
            said.wait = said.wait.saturating_sub(1);
            if said.wait > 0 && said.at > now {
                continue;
            }
            said.left -= 1;
            (said.wait, said.at) = (apart, now.after(delay));
            let open = said.acks.iter().filter(|(sn, _)| ahead(*sn, una) >= 0);
            let before = self.out.len();
            self.out.extend(open);
            // `una` alone says the rest, but something has to carry it
            if self.out.len() == before && self.unsent.is_empty() {
                self.out.extend(said.acks.last());
            }
        }
        let spare = &mut self.spare;
        self.repetitions.retain_mut(|said| {
            if said.left == 0 {
                spare.push(std::mem::take(&mut said.acks));
            }
            said.left > 0
        });
        if !self.unsent.is_empty() {
            self.lately = self.arrived;
        }
        self.arrived = 0;
        self.out.extend(&self.unsent);
        if repeats > 0 && !self.unsent.is_empty() {
            let mut kept = self.spare.pop().unwrap_or_default();
            kept.clear();
            kept.append(&mut self.unsent);
            self.repetitions.push_back(Repetition {
                acks: kept,
                left: repeats,
                wait: apart,
                at: now.after(delay),
            });
        }
        self.unsent.clear();
        self.due = self.repetitions.iter().map(|said| said.at).min();
        if self.repetitions.is_empty() {
            // at rest nothing is held
            (self.unsent, self.spare) = (Vec::new(), Vec::new());
        }
    }

    /// Gives back memory that a burst has taken.
    pub(super) fn rest(&mut self) {
        if self.out.is_empty() {
            self.out = VecDeque::new();
        }
    }

    /// Takes up to `most` acks to write into the datagram at hand.
    pub(super) fn take(&mut self, most: usize) -> impl Iterator<Item = Ack> {
        let n = most.min(self.out.len());
        self.out.drain(..n)
    }

    /// Whether what is acknowledged is small messages, as far as the last acks tell.
    pub(super) fn are_few(&self) -> bool {
        self.lately <= FEW
    }

    /// How many acks the next datagram has, with those that are due.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() + self.unsent.len()
    }

    /// Nothing to say, now or later.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.unsent.is_empty() && self.repetitions.is_empty()
    }
}

fn repeats(loss: f64) -> u8 {
    if loss >= THRICE {
        2
    } else {
        u8::from(loss >= TWICE)
    }
}

/// How many datagrams on a repetition has to be to survive a burst that took the ack, but for one time in five.
fn apart(after_loss: f64) -> u32 {
    (APART / after_loss.clamp(0.01, 0.95).ln()).ceil().max(1.0) as u32
}

/// After a gap acks wait only this long: the sender learns of a loss from them.
const PROMPT: Duration = Duration::from_millis(1);

/// How long the acks of a packet may wait. `gap`: it came after a number was left out.
pub(super) fn delay_after(gap: bool, srtt: Duration) -> Duration {
    match gap {
        true => PROMPT.min(delay(srtt)),
        false => delay(srtt),
    }
}

/// How long an ack may wait for company on a path of this round trip, whole milliseconds: a fraction of
/// what recovery and the other end's measurement take anyway.
pub(super) fn delay(srtt: Duration) -> Duration {
    Duration::from_millis((srtt / 16).as_millis()).clamp(MS, ACK_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(acks: &mut Acks, list: &[Ack], ms: u64) {
        list.iter().for_each(|ack| acks.add(*ack, false));
        acks.schedule(5 * MS, Instant::from_millis(ms));
    }

    fn said(acks: &mut Acks, loss: f64, una: u32, ms: u64) -> Vec<u32> {
        acks.gather((loss, loss), una, 5 * MS, Instant::from_millis(ms));
        acks.take(usize::MAX).map(|(sn, _)| sn).collect()
    }

    #[test]
    fn a_clean_path_hears_each_ack_once() {
        let mut acks = Acks::default();
        add(&mut acks, &[(0, 1), (1, 1)], 0);
        assert_eq!(acks.due(), Some(Instant::from_millis(5)));
        assert_eq!(said(&mut acks, 0.0, 2, 5), [0, 1]);
        assert!(acks.due().is_none() && acks.is_idle());
    }

    #[test]
    fn of_segments_in_order_the_last_is_named() {
        let mut acks = Acks::default();
        for (sn, in_order) in [
            (0, true),
            (1, true),
            (2, true),
            (4, false),
            (3, false),
            (5, true),
        ] {
            acks.add((sn, 1), in_order);
        }
        acks.schedule(5 * MS, Instant::ZERO);
        assert_eq!(said(&mut acks, 0.0, 6, 5), [2, 4, 3, 5]);
        acks.add((6, 1), true);
        assert_eq!(said(&mut acks, 0.0, 7, 9), [6], "nothing is left to follow");
    }

    #[test]
    fn on_a_slow_line_acks_wait_for_company() {
        let mut acks = Acks::default();
        add(&mut acks, &[(0, 1), (1, 1), (2, 1)], 0);
        assert_eq!(said(&mut acks, 0.0, 3, 5).len(), 3, "a transfer");
        add(&mut acks, &[(3, 1)], 10);
        assert_eq!(
            acks.due(),
            Some(Instant::from_millis(10 + 5 * COMPANY_WAIT))
        );
        add(&mut acks, &[(4, 1), (5, 1)], 11);
        assert_eq!(acks.due(), Some(Instant::from_millis(16)));
    }

    #[test]
    fn a_lossy_path_hears_again_what_una_does_not_cover() {
        let mut acks = Acks::default();
        add(&mut acks, &[(0, 1), (5, 1)], 0);
        assert_eq!(said(&mut acks, 0.05, 1, 5), [0, 5]);
        assert_eq!(acks.due(), Some(Instant::from_millis(10)));
        add(&mut acks, &[(6, 2)], 6);
        assert_eq!(said(&mut acks, 0.05, 1, 10), [5, 6]);
        assert_eq!(
            said(&mut acks, 0.05, 7, 15),
            [6],
            "una must be carried by something"
        );
        assert!(acks.is_idle());
    }

    #[test]
    fn a_very_lossy_path_hears_three_times() {
        let mut acks = Acks::default();
        add(&mut acks, &[(9, 1)], 0);
        let times = (0..5)
            .map(|i| said(&mut acks, 0.3, 0, i * 5).len())
            .sum::<usize>();
        assert_eq!(times, 3);
    }

    #[test]
    fn a_full_datagram_goes_at_once() {
        let mut acks = Acks::default();
        add(&mut acks, &(0..48).map(|sn| (sn, 0)).collect::<Vec<_>>(), 3);
        assert_eq!(acks.due(), Some(Instant::from_millis(3)));
    }
}
