//! Finds the largest packet that a path carries, in band as in RFC 8899 (DPLPMTUD): by pings that are padded to several
//! sizes. An answer confirms a size. The lack of one says nothing, since a ping may get lost. A size is refuted when several
//! rounds of pings were answered in their smallest size, and never in this one.
//!
//! Which path is worth the pings, and how they look, is decided in `tunnel::size`. Sizes here are bytes of whole IP packets.

use crate::time::{Duration, Instant};

/// The packet size that a path is assumed to carry before any is confirmed, bytes: that of any path with IPv6.
pub const BASE: usize = 1280;
/// The smallest packet size that is tried, bytes: every path carries it.
pub const LEAST: usize = 576;
/// The search ends when it is as exact as this, bytes.
const PRECISION: usize = 8;
/// How many sizes between two bounds are tried at once.
const SIZES_PER_ROUND: usize = 4;
/// The fewest rounds answered in their smallest size that refute a size which was never answered.
const REFUTING_ROUNDS: usize = 4;
/// The largest chance that such a size was lost each time, as often as the smallest one was, to refute it.
const REFUTING_CHANCE_MAX: f64 = 0.003;
/// The most rounds where nothing at all is answered.
const ROUNDS_MAX_SILENT: usize = 4;
/// The most rounds where something is answered.
const ROUNDS_MAX: usize = 16;
/// The shortest time between two rounds while a size that packets have is in doubt.
const ROUND_INTERVAL_IN_DOUBT: Duration = Duration::from_millis(150);
/// The shortest time between two rounds otherwise.
const ROUND_INTERVAL: Duration = Duration::from_millis(200);
/// How long answers are awaited at least after the last round.
const FINAL_WAIT: Duration = Duration::from_secs(1);
/// The shortest time from the end of one check to the next.
const CHECK_PAUSE: Duration = Duration::from_secs(1);
/// The pause after the first search that came to no end; it doubles each time.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// A path that carries less than it might is searched again after this time (RFC 8899).
const PMTU_RAISE_TIMER: Duration = Duration::from_secs(600);

/// A ping that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The size of its packet, bytes.
    pub size: usize,
    /// What the pong has to name.
    pub token: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing was asked yet.
    New,
    /// The size that packets have is in doubt.
    Check,
    /// A larger size may be possible.
    Rise,
    Rest,
}

/// What is known of one path.
#[derive(Debug)]
pub struct Search {
    most: usize,
    size: usize,
    /// `size` is not only assumed.
    confirmed: bool,
    phase: Phase,
    /// The largest size that was confirmed since the search began; 0: none.
    low: usize,
    /// The smallest size that is too large.
    high: usize,
    /// The sizes in question and their tokens.
    sizes: Vec<Probe>,
    /// The token of each round's smallest ping, and whether it was answered.
    rounds: Vec<(u32, bool)>,
    control: usize,
    /// Any of these was answered.
    heard: bool,
    next: Instant,
    /// When the size that packets have was last confirmed, or found to need no confirmation.
    checked_at: Instant,
    /// When a larger one is looked for again.
    raise_at: Instant,
    /// Searches in a row that came to no end.
    fruitless: u32,
}

impl Search {
    /// `most`: what the configuration allows.
    pub fn new(most: usize) -> Search {
        Search {
            most,
            size: most.min(BASE),
            confirmed: false,
            phase: Phase::New,
            low: 0,
            high: most + 1,
            sizes: Vec::new(),
            rounds: Vec::new(),
            control: most.min(LEAST),
            heard: false,
            next: Instant::ZERO,
            checked_at: Instant::ZERO,
            raise_at: Instant::ZERO,
            fruitless: 0,
        }
    }

    /// The largest size of packets now, bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The largest size that the configuration allows, bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether nothing is being searched for.
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Rest
    }

    /// Whether the last search is over and has found `size`.
    pub fn has_found(&self) -> bool {
        self.confirmed && self.is_at_rest()
    }

    /// Whether pings were sent that are still to be answered.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Check | Phase::Rise)
    }

    /// When `ask` has something to do; `NEVER` if it has not.
    pub fn due(&self) -> Instant {
        match self.most > LEAST {
            true => self.next,
            false => Instant::NEVER,
        }
    }

    /// Packets of the present size may no longer arrive, while smaller ones do: checks the size.
    pub fn suspect(&mut self, now: Instant) {
        let free = match self.phase {
            Phase::New | Phase::Check => false,
            // the first search looks at smaller ones as well
            Phase::Rise => self.confirmed,
            Phase::Rest => true,
        };
        let free = free && now.since(self.checked_at) >= CHECK_PAUSE;
        if free && self.size > LEAST {
            (self.low, self.high) = (0, self.size + 1);
            self.question(Phase::Check, vec![self.size], LEAST, now);
        }
    }

    /// Nothing of the present size was sent for a while, and the path may have become smaller since: returns to the size that
    /// most paths carry until an answer confirms the larger one again.
    pub fn resume(&mut self, now: Instant) {
        if self.is_at_rest() && self.size > BASE {
            (self.low, self.high) = (0, self.size + 1);
            self.question(Phase::Check, vec![self.size], LEAST, now);
            self.size = BASE;
        }
    }

    /// When the size was last confirmed.
    pub fn checked_at(&self) -> Instant {
        self.checked_at
    }

    /// The pings to send now. `rtt`: the path's round trip; `token` gives a new number each time.
    pub fn ask(
        &mut self,
        rtt: Duration,
        now: Instant,
        mut token: impl FnMut() -> u32,
    ) -> Vec<Probe> {
        if self.due() > now {
            return Vec::new();
        }
        match self.phase {
            Phase::New => self.search_all(now),
            Phase::Rest if self.confirmed => self.search_above(now),
            Phase::Rest => self.search_all(now),
            Phase::Check if self.rounds.len() == 1 => {
                // the smallest is not meant to be the answer
                let below = self.ladder(self.size - 1);
                self.sizes
                    .extend(below.map(|size| Probe { size, token: 0 }));
            }
            _ => {}
        }
        let most = match self.heard {
            true => ROUNDS_MAX,
            false => ROUNDS_MAX_SILENT,
        };
        if self.rounds.len() >= most {
            self.give_up(now);
            return Vec::new();
        }
        for probe in self.sizes.iter_mut().filter(|probe| probe.token == 0) {
            probe.token = token();
        }
        let control = Probe {
            size: self.control,
            token: token(),
        };
        self.rounds.push((control.token, false));
        let last = self.rounds.len() >= most;
        self.next = now.after(match self.phase {
            _ if last => FINAL_WAIT.max(2 * rtt),
            Phase::Check => ROUND_INTERVAL_IN_DOUBT.max(rtt / 2),
            _ => ROUND_INTERVAL.max(rtt * 5 / 4),
        });
        // the smallest goes last: those sent before it had a better chance to be answered by then
        let open = self.sizes.iter().filter(|probe| probe.size > self.low);
        open.copied().chain([control]).collect()
    }

    /// A pong has come. False if it answers none of these pings.
    pub fn on_pong(&mut self, token: u32, now: Instant) -> bool {
        // 0: not asked yet
        let asked = |probe: &&Probe| token != 0 && probe.token == token;
        if let Some(probe) = self.sizes.iter().find(asked) {
            let size = probe.size;
            self.low = self.low.max(size);
            self.size = self.size.max(size);
            self.heard = true;
            if size == self.size {
                (self.confirmed, self.checked_at) = (true, now);
            }
            let over = match self.phase {
                Phase::Check => size == self.size,
                Phase::Rise => self.confirmed && self.low + PRECISION >= self.high,
                Phase::New | Phase::Rest => false,
            };
            if over {
                self.rest(now);
            }
            return true;
        }
        let round = self.rounds.iter_mut().find(|(round, _)| *round == token);
        let Some((_, answered)) = round else {
            return false;
        };
        *answered = true;
        self.heard = true;
        if self.phase != Phase::Rest && self.is_evidence() {
            self.conclude(now);
        }
        true
    }

    /// Everything from `LEAST` to the most that is allowed is in question.
    fn search_all(&mut self, now: Instant) {
        (self.low, self.high) = (0, self.most + 1);
        let sizes = self.ladder(self.most).collect();
        self.question(Phase::Rise, sizes, LEAST, now);
    }

    /// Searches for a size larger than the one that is confirmed.
    fn search_above(&mut self, now: Instant) {
        (self.low, self.high) = (self.size, self.most + 1);
        let sizes = [self.most].into_iter().chain(self.between()).collect();
        self.question(Phase::Rise, sizes, self.size, now);
    }

    /// A size that was not answered when others were is too large.
    fn conclude(&mut self, now: Instant) {
        self.low = self.low.max(self.control);
        let refuted = self.sizes.iter().map(|probe| probe.size);
        let refuted = refuted.filter(|size| *size > self.low).min();
        self.high = refuted.unwrap_or(self.high);
        (self.size, self.confirmed, self.checked_at) = (self.low, true, now);
        match self.low + PRECISION < self.high {
            true => {
                let sizes = self.between().collect();
                self.question(Phase::Rise, sizes, self.low, now);
            }
            false => self.rest(now),
        }
    }

    fn question(&mut self, phase: Phase, sizes: Vec<usize>, control: usize, now: Instant) {
        let probe = |size| Probe { size, token: 0 };
        self.sizes = sizes.into_iter().map(probe).collect();
        (self.phase, self.control, self.next) = (phase, control, now);
        self.rounds.clear();
        self.heard = false;
    }

    /// `top`, and sizes below it that narrow the search well.
    fn ladder(&self, top: usize) -> impl Iterator<Item = usize> + use<> {
        let bottom = if top > BASE { BASE } else { LEAST };
        let parts = SIZES_PER_ROUND - 1;
        let sizes = (1..=parts).rev();
        let sizes = sizes.map(move |part| bottom + (top - bottom) * part / parts);
        sizes.chain((bottom > LEAST).then_some(bottom))
    }

    /// Sizes between the two bounds, the largest first.
    fn between(&self) -> impl Iterator<Item = usize> + use<> {
        let (low, span) = (self.low, self.high - self.low);
        let sizes = (1..=SIZES_PER_ROUND).rev();
        sizes.map(move |part| low + span * part / (SIZES_PER_ROUND + 1))
    }

    /// Whether loss no longer explains what was not answered.
    fn is_evidence(&self) -> bool {
        let last = self.rounds.iter().rposition(|(_, answered)| *answered);
        let rounds = last.map_or(0, |last| last + 1);
        let answered = self.rounds.iter().filter(|(_, answered)| *answered).count();
        // as if half a round more had been lost, and half a round more had not
        let loss = ((rounds - answered) as f64 + 0.5) / (rounds as f64 + 1.0);
        answered >= REFUTING_ROUNDS && loss.powi(rounds as i32) < REFUTING_CHANCE_MAX
    }

    /// Neither confirmed nor refuted: the path is silent, or loses too much.
    fn give_up(&mut self, now: Instant) {
        let again = RETRY_PAUSE << self.fruitless.min(7);
        let fruitless = self.fruitless + 1;
        self.rest(now);
        self.fruitless = fruitless;
        if self.size < self.most {
            self.next = now.after(again.min(PMTU_RAISE_TIMER));
        }
    }

    fn rest(&mut self, now: Instant) {
        self.fruitless = 0;
        if self.phase == Phase::Rise {
            self.raise_at = now.after(PMTU_RAISE_TIMER);
        }
        (self.phase, self.checked_at) = (Phase::Rest, now);
        self.next = match self.size < self.most {
            // a check may have come between
            true => self.raise_at.max(now.after(RETRY_PAUSE)),
            false => Instant::NEVER,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    /// A path that carries packets of `carries` bytes and loses one in `loses` pings.
    struct World {
        search: Search,
        carries: usize,
        loses: u32,
        rng: SmallRng,
        now: Instant,
        count: u32,
        sent: usize,
    }

    const RTT: Duration = Duration::from_millis(100);

    impl World {
        fn new(most: usize, carries: usize) -> World {
            World {
                search: Search::new(most),
                carries,
                loses: 0,
                rng: SmallRng::seed_from_u64(1),
                now: Instant::from_millis(1_000),
                count: 0,
                sent: 0,
            }
        }

        fn run(&mut self, ms: u64) {
            let end = self.now.after(ms * MS);
            let mut answers = Vec::new();
            while self.now < end {
                let count = &mut self.count;
                let probes = self.search.ask(RTT, self.now, || {
                    *count += 1;
                    *count
                });
                self.sent += probes.iter().map(|probe| probe.size).sum::<usize>();
                for probe in probes {
                    let lost = self.loses > 0 && self.rng.random_range(0..self.loses) == 0;
                    if probe.size <= self.carries && !lost {
                        answers.push((self.now.after(RTT), probe.token));
                    }
                }
                let due = |(at, _): &(Instant, u32)| *at <= self.now;
                let (due, later): (Vec<_>, Vec<_>) = answers.drain(..).partition(due);
                answers = later;
                for (_, token) in due {
                    self.search.on_pong(token, self.now);
                }
                self.now = self.now.after(MS);
            }
        }
    }

    #[test]
    fn the_largest_is_found_whatever_it_is() {
        for most in [300, 577, 600, 1000, 1280, 1281, 1400, 1500] {
            for carries in [576, 577, 1000, 1279, 1280, 1300, 1371, 1420, 1492, 1500] {
                let mut world = World::new(most, carries);
                world.run(15_000);
                let size = world.search.size();
                let right = carries.min(most);
                assert!(
                    size <= right && size + PRECISION > right,
                    "{most} {carries}: {size}"
                );
                assert!(world.search.is_at_rest() || most <= LEAST);
            }
        }
    }

    #[test]
    fn in_the_usual_case_one_round_is_enough() {
        let mut world = World::new(1500, 1500);
        world.run(60_000);
        assert_eq!(world.search.size(), 1500);
        assert!(world.sent < 8_000, "{} bytes", world.sent);
        assert_eq!(world.search.due(), Instant::NEVER);
    }

    #[test]
    fn a_path_that_carries_less_is_noticed_within_a_second() {
        for (before, carries) in [(1500, 1400), (1500, 1300), (1420, 1279), (1300, 600)] {
            let mut world = World::new(1500, before);
            world.run(15_000);
            world.carries = carries;
            world.search.suspect(world.now);
            world.run(1_000);
            let size = world.search.size();
            assert!(size <= carries, "{before} {carries}: {size}");
            world.run(10_000);
            let size = world.search.size();
            assert!(
                size <= carries && size + PRECISION > carries,
                "{carries}: {size}"
            );
            // and back, some time later
            world.carries = 1500;
            world.run(PMTU_RAISE_TIMER / MS + 10_000);
            assert_eq!(world.search.size(), 1500);
        }
    }

    /// What is refuted is a matter of chance (`REFUTING_CHANCE_MAX`): many searches and many doubts are counted.
    #[test]
    fn loss_alone_rarely_makes_anything_smaller() {
        for loses in [2, 3, 5] {
            let mut world = World::new(1500, 1500);
            let (mut searches, mut doubts) = (0, 0);
            for _ in 0..500 {
                world.search = Search::new(1500);
                world.loses = loses;
                world.run(60_000);
                searches += u32::from(world.search.size() < 1500);
                world.search = Search::new(1500);
                world.loses = 0;
                world.run(3_000);
                world.loses = loses;
                world.search.suspect(world.now);
                world.run(3_000);
                doubts += u32::from(world.search.size() < 1500);
            }
            println!("one in {loses} lost: {searches} of 500 searches err, {doubts} doubts");
            assert!(searches <= 15 && doubts <= 15, "one in {loses}");
        }
    }

    #[test]
    fn who_does_not_answer_is_sent_little() {
        let mut world = World::new(1500, 0);
        world.run(2_000);
        assert!(world.sent < 30_000, "{} bytes", world.sent);
        assert_eq!(world.search.size(), BASE);
        let first = world.sent;
        world.run(600_000);
        assert!(world.sent < 12 * first, "{} bytes", world.sent);
        // a doubt costs as little
        world.sent = 0;
        for _ in 0..10 {
            world.search.suspect(world.now);
            world.run(100);
        }
        assert!(world.sent < 30_000, "{} bytes", world.sent);
        assert_eq!(world.search.size(), BASE, "silence refutes nothing");
    }

    #[test]
    fn after_a_pause_the_size_is_confirmed_again() {
        let mut world = World::new(1500, 1500);
        world.run(15_000);
        world.sent = 0;
        world.search.resume(world.now);
        assert_eq!(world.search.size(), BASE);
        world.run(150);
        assert_eq!(world.search.size(), 1500);
        world.run(10_000);
        assert!(world.sent < 2_200, "{} bytes", world.sent);
        for carries in [1400, 600] {
            world.carries = carries;
            world.search.resume(world.now);
            world.run(10_000);
            let size = world.search.size();
            assert!(
                size <= carries && size + PRECISION > carries,
                "{carries}: {size}"
            );
        }
    }

    #[test]
    fn a_pong_that_nobody_asked_for_proves_nothing() {
        let mut world = World::new(1500, 0);
        world.run(100);
        assert!(!world.search.on_pong(0, world.now));
        assert!(!world.search.on_pong(4711, world.now));
        assert_eq!(world.search.size(), BASE);
    }
}
