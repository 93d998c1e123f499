//! How much a pair of ports carries each way, and whether that has fallen so that a policer may be the cause. What follows is
//! decided in `hopping`.

use crate::congestion::Limits;
use crate::path::{Counts, Path};
use crate::time::{Duration, Instant};

/// How often a rate is taken, but not oftener than each round trip.
const TICK_MIN: Duration = Duration::from_millis(200);
/// After a silence of more ticks in which nothing got lost there was nothing to send.
const PAUSE_TICKS: u64 = 3;
/// A rate below this share of the best has fallen, if much more got lost than usual when it fell: a policer drops.
const FALLEN_BELOW: f64 = 0.4;
/// A policer is suspected if the share that arrives falls below this part of the usual share.
const ARRIVING_SHARE: f64 = 0.5;
/// Ticks with a transfer until it is known what is usual.
const USUAL_TICKS: u32 = 8;
/// For so many ticks in a row.
const FALLEN_TICKS: u32 = 2;
/// A rate below this share of the best has faded, whatever gets lost: a shaper delays. Lines of radio do so for seconds.
const FADED_BELOW: f64 = 0.25;
/// For so many ticks in a row.
const FADED_TICKS: u32 = 30;
/// A transfer that loses this share of its packets is lossy, and a policer may be the cause.
const LOSSY: f64 = 0.03;
/// If it has done so for so many ticks in a row.
const LOSSY_TICKS: u32 = 16;
/// How much more another pair has to carry to be better.
const BETTER_BY: f64 = 1.5;
/// Ticks after a move that say nothing yet.
const STARTING_TICKS: u32 = 2;
/// The tick after a move by which it is decided.
const DECIDED_TICKS: u32 = 8;
/// The least that is a transfer, bytes per second.
const TRANSFER_RATE_MIN: f64 = 50_000.0;
/// The fewest segments in a tick that tell how much gets lost.
const SEGMENTS_MIN: u64 = 10;
/// How much of an average a tick is.
const AVERAGE_WEIGHT: f64 = 0.125;
/// What is left of the best after a tick: half after two minutes.
const BEST_DECAY: f64 = 0.9988;

/// What a tick says of the pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing.
    Quiet,
    /// A transfer goes on.
    Busy,
    /// It carries much less than before.
    Fallen,
}

/// One way.
#[derive(Default)]
struct Flow {
    /// Bytes per second: in the last tick, on average, and at best.
    rate: f64,
    mean: f64,
    best: f64,
    /// What usually gets lost, 0 to 1.
    lost: f64,
    /// What gets lost whatever is sent, 0 to 1, as far as it is known.
    chance: f64,
    /// Segments that were lost in the last tick.
    lost_before: u64,
    /// Ticks with a transfer.
    busy: u32,
    /// Ticks in a row that it has fallen, and faded.
    fallen: u32,
    faded: u32,
    /// And that a transfer lost many of its packets.
    lossy: u32,
    /// Its rate before the last move.
    before: f64,
    /// The best rate since.
    after: f64,
}

impl Flow {
    /// A tick: bytes per second that have arrived, and of `segments` how many were lost. `wanted`: there was more to send.
    fn record(&mut self, rate: f64, segments: u64, lost: u64, wanted: bool) {
        self.rate = rate;
        self.mean += (rate - self.mean) * 2.0 * AVERAGE_WEIGHT;
        self.best = (self.best * BEST_DECAY).max(self.mean);
        self.after = self.after.max(rate);
        let enough = segments >= SEGMENTS_MIN;
        let share = lost as f64 / segments.max(1) as f64;
        self.busy += u32::from(rate >= TRANSFER_RATE_MIN);
        let known = self.best >= TRANSFER_RATE_MIN && self.busy >= USUAL_TICKS;
        let low = known && rate < FALLEN_BELOW * self.best;
        // what is lost as a policer sets in may be seen a tick before the rate falls
        let lost_then = lost + std::mem::replace(&mut self.lost_before, lost);
        let arrives = (segments - lost) as f64 / (segments - lost + lost_then).max(1) as f64;
        let dropped = enough && arrives < ARRIVING_SHARE * (1.0 - self.lost);
        // who sends less after it loses less again
        let fallen = low && (self.fallen > 0 || dropped);
        let faded = known && wanted && rate < FADED_BELOW * self.best;
        self.fallen = if fallen { self.fallen + 1 } else { 0 };
        self.faded = if faded { self.faded + 1 } else { 0 };
        if enough && !fallen {
            self.lost += (share - self.lost) * AVERAGE_WEIGHT;
        }
        let lossy = rate >= TRANSFER_RATE_MIN && self.lost - self.chance >= LOSSY;
        self.lossy = if lossy { self.lossy + 1 } else { 0 };
    }

    fn has_fallen(&self) -> bool {
        self.fallen >= FALLEN_TICKS || self.faded >= FADED_TICKS
    }

    fn is_lossy(&self) -> bool {
        self.lossy >= LOSSY_TICKS
    }

    fn forget_ticks(&mut self) {
        (self.fallen, self.faded, self.lossy) = (0, 0, 0);
    }

    fn on_move(&mut self) {
        (self.before, self.after) = (self.rate, 0.0);
        self.forget_ticks();
    }
}

/// Both ways.
#[derive(Default)]
pub(super) struct Throughput {
    outbound: Flow,
    inbound: Flow,
    next: Instant,
    at: Instant,
    counts: Counts,
    delivered: u64,
    /// Packets that arrived there, and that were lost.
    fates: (u64, u64),
    /// Ticks since the last move.
    ticks: u32,
    /// Since when it has fallen.
    fallen_at: Option<Instant>,
}

impl Throughput {
    /// Whether it is time for `record`.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Takes the rates since the last time.
    pub(super) fn record(&mut self, path: &Path, now: Instant) -> Verdict {
        let span = now.since(self.at);
        let (before, delivered) = (self.counts, self.delivered);
        let tick = TICK_MIN.max(path.congestion.srtt());
        (self.at, self.next) = (now, now.after(tick));
        (self.counts, self.delivered) = (path.counts, path.congestion.delivered());
        let seconds = span.as_secs_f64();
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let (arrived, lost) = path.congestion.fates();
        let fates = std::mem::replace(&mut self.fates, (arrived, lost));
        let (arrived, lost) = (since(arrived, fates.0), since(lost, fates.1));
        let received = since(path.counts.received, before.received);
        let full = since(path.counts.full, before.full);
        let missed = since(path.counts.missed, before.missed);
        let missed = missed.saturating_sub(since(path.counts.overtaken, before.overtaken));
        if span > PAUSE_TICKS * tick && lost + missed == 0 {
            self.outbound.forget_ticks();
            self.inbound.forget_ticks();
            return Verdict::Quiet;
        }
        self.ticks += 1;
        if self.ticks == STARTING_TICKS + 1 {
            // a policer lets a burst through
            (self.outbound.after, self.inbound.after) = (0.0, 0.0);
        }
        let rate = since(self.delivered, delivered) as f64 / seconds;
        self.outbound
            .record(rate, arrived + lost, lost, path.congestion.is_full());
        self.outbound.chance = path.congestion.chance();
        let rate = since(path.counts.bytes, before.bytes) as f64 / seconds;
        let wanted = received >= SEGMENTS_MIN && 10 * full >= 9 * received;
        self.inbound.record(rate, received + missed, missed, wanted);
        let fallen = self.outbound.has_fallen() || self.inbound.has_fallen();
        let doubted = self.outbound.fallen + self.inbound.fallen > 0;
        self.fallen_at = match doubted || fallen {
            true => self.fallen_at.or(Some(now)),
            false => None,
        };
        match fallen {
            true => Verdict::Fallen,
            false if self.outbound.rate.max(self.inbound.rate) >= TRANSFER_RATE_MIN => {
                Verdict::Busy
            }
            false => Verdict::Quiet,
        }
    }

    /// Whether the peer was sending at the last tick.
    pub(super) fn is_receiving(&self) -> bool {
        self.inbound.rate >= TRANSFER_RATE_MIN
    }

    /// What the operator's limits leave beside what is under way, each way, bytes per second.
    pub(super) fn left_of(&self, limits: Limits) -> (f64, f64) {
        let left =
            |limit: Option<f64>, flow: &Flow| limit.map_or(f64::MAX, |limit| limit - flow.rate);
        (
            left(limits.up, &self.outbound),
            left(limits.down, &self.inbound),
        )
    }

    /// The best rate of a transfer that loses many of its packets, bytes per second, if there is one, and whether it comes from
    /// the peer.
    pub(super) fn lossy(&self) -> Option<(f64, bool)> {
        let flows = [(&self.outbound, false), (&self.inbound, true)];
        let lossy = flows.into_iter().filter(|(flow, _)| flow.is_lossy());
        let most = lossy.max_by(|(a, _), (b, _)| a.rate.total_cmp(&b.rate));
        most.map(|(flow, inbound)| (flow.rate.max(flow.best), inbound))
    }

    /// How long ago it began to fall.
    pub(super) fn doubted_for(&self, now: Instant) -> Duration {
        let since = |at| now.since(at) + TICK_MIN;
        self.fallen_at.map_or(Duration::ZERO, since)
    }

    /// Another pair is in use.
    pub(super) fn on_move(&mut self, now: Instant) {
        self.outbound.on_move();
        self.inbound.on_move();
        (self.ticks, self.fallen_at) = (0, None);
        (self.delivered, self.fates) = (0, (0, 0));
        (self.at, self.next) = (now, now.after(TICK_MIN));
    }

    /// Whether the pair that was moved to carries more than the one before it. None: that is not known yet.
    pub(super) fn compared(&self) -> Option<bool> {
        let better =
            |flow: &Flow| flow.after >= TRANSFER_RATE_MIN && flow.after > BETTER_BY * flow.before;
        let better = better(&self.outbound) || better(&self.inbound);
        if self.ticks > STARTING_TICKS && better {
            return Some(true);
        }
        (self.ticks >= DECIDED_TICKS).then_some(better)
    }

    /// What is carried now is what the line carries.
    pub(super) fn accept(&mut self) {
        for flow in [&mut self.outbound, &mut self.inbound] {
            (flow.best, flow.mean) = (flow.after, flow.after);
            flow.forget_ticks();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Limits;
    use crate::path::headers;

    /// A flow that has carried 1 MB/s without loss for long enough to be known.
    fn steady() -> Flow {
        let mut flow = Flow::default();
        for _ in 0..100 {
            flow.record(1e6, 100, 0, true);
        }
        flow
    }

    /// After how many such ticks, of at most 100, it has fallen.
    fn falls_after(flow: &mut Flow, rate: f64, lost: u64, wanted: bool) -> Option<u32> {
        (1..=100).find(|_| {
            flow.record(rate, 100, lost, wanted);
            flow.has_fallen()
        })
    }

    #[test]
    fn a_rate_has_fallen_when_much_gets_lost_with_it() {
        assert_eq!(falls_after(&mut steady(), 0.39e6, 60, false), Some(2));
        assert_eq!(falls_after(&mut steady(), 0.41e6, 60, false), None);
        assert_eq!(falls_after(&mut steady(), 0.39e6, 20, false), None);
        // too few segments tell nothing
        let mut flow = steady();
        for _ in 0..9 {
            flow.record(0.2e6, 9, 8, false);
            assert!(!flow.has_fallen());
        }
        // nor do so few ticks
        let mut flow = Flow::default();
        for _ in 0..6 {
            flow.record(1e6, 100, 0, true);
        }
        flow.record(0.2e6, 100, 60, true);
        flow.record(0.2e6, 100, 60, true);
        assert!(!flow.has_fallen());
    }

    #[test]
    fn it_has_still_fallen_when_its_sender_sends_less_and_loses_nothing() {
        let mut flow = steady();
        flow.record(0.3e6, 100, 60, true);
        flow.record(0.3e6, 100, 0, true);
        assert!(flow.has_fallen());
        flow.record(1e6, 100, 0, true);
        assert!(!flow.has_fallen());
    }

    #[test]
    fn what_was_lost_a_tick_before_the_rate_falls_counts() {
        let mut flow = steady();
        flow.record(1e6, 100, 60, true);
        flow.record(0.3e6, 20, 0, true);
        flow.record(0.3e6, 20, 0, true);
        assert!(flow.has_fallen());
        // two ticks before, it does not
        let mut flow = steady();
        flow.record(1e6, 100, 60, true);
        flow.record(1e6, 100, 0, true);
        flow.record(0.3e6, 20, 0, true);
        flow.record(0.3e6, 20, 0, true);
        assert!(!flow.has_fallen());
    }

    #[test]
    fn where_much_gets_lost_anyway_more_has_to() {
        let lossy = || {
            let mut flow = Flow::default();
            for _ in 0..100 {
                flow.record(1e6, 100, 40, true);
            }
            flow
        };
        assert_eq!(falls_after(&mut lossy(), 0.3e6, 45, false), None);
        assert_eq!(falls_after(&mut lossy(), 0.3e6, 75, false), Some(2));
    }

    #[test]
    fn a_rate_has_faded_after_thirty_ticks_whatever_gets_lost() {
        assert_eq!(falls_after(&mut steady(), 0.23e6, 0, true), Some(30));
        assert_eq!(falls_after(&mut steady(), 0.26e6, 0, true), None);
        assert_eq!(falls_after(&mut steady(), 0.23e6, 0, false), None);
        // in a row
        let mut flow = steady();
        assert_eq!(
            (0..29).find(|_| {
                flow.record(0.2e6, 100, 0, true);
                flow.has_fallen()
            }),
            None
        );
        flow.record(0.5e6, 100, 0, true);
        flow.record(0.2e6, 100, 0, true);
        assert!(!flow.has_fallen());
    }

    #[test]
    fn a_transfer_is_lossy_after_sixteen_ticks_above_three_in_a_hundred() {
        let lossy_after = |rate: f64, lost: u64| {
            let mut flow = Flow::default();
            (1..=100).find(|_| {
                flow.record(rate, 100, lost, true);
                flow.is_lossy()
            })
        };
        // the average takes seven to get there
        assert_eq!(lossy_after(1e6, 5), Some(22));
        assert_eq!(lossy_after(1e6, 2), None);
        assert_eq!(lossy_after(49_000.0, 5), None);
    }

    /// A path that something comes from, tick by tick.
    struct Download {
        throughput: Throughput,
        path: Path,
        now: Instant,
    }

    impl Download {
        fn new() -> Download {
            let (addr, now) = ("192.0.2.1:1".parse().unwrap(), Instant::from_millis(1_000));
            let mut download = Download {
                throughput: Throughput::default(),
                path: Path::new(addr, 28, 1400 + headers(&addr), Limits::default(), now),
                now,
            };
            download.throughput.on_move(now);
            download
        }

        fn tick(&mut self, rate: f64, segments: u64, missed: u64) -> Verdict {
            self.now = self.now.after(TICK_MIN);
            let counts = &mut self.path.counts;
            counts.bytes += (rate * TICK_MIN.as_secs_f64()) as u64;
            counts.received += segments;
            counts.full += segments;
            counts.missed += missed;
            self.throughput.record(&self.path, self.now)
        }

        fn steady(rate: f64) -> Download {
            let mut download = Download::new();
            for _ in 0..100 {
                assert_eq!(download.tick(rate, 100, 0), Verdict::Busy);
            }
            download
        }
    }

    #[test]
    fn a_verdict_tells_a_transfer_a_fall_and_silence_apart() {
        let mut download = Download::steady(1e6);
        assert!(download.throughput.is_receiving());
        assert_eq!(download.tick(0.3e6, 40, 60), Verdict::Busy);
        assert_eq!(download.tick(0.3e6, 40, 60), Verdict::Fallen);
        assert_eq!(download.tick(1e6, 100, 0), Verdict::Busy);
        assert_eq!(download.tick(40_000.0, 100, 0), Verdict::Quiet);
        assert!(!download.throughput.is_receiving());
    }

    #[test]
    fn a_pause_is_no_fall() {
        let mut download = Download::steady(1e6);
        download.tick(0.3e6, 40, 60);
        download.now = download.now.after(Duration::from_secs(30));
        assert_eq!(download.tick(0.0, 0, 0), Verdict::Quiet);
        assert_eq!(download.tick(0.3e6, 100, 0), Verdict::Busy);
        assert!(!download.throughput.inbound.has_fallen());
    }

    #[test]
    fn doubt_lasts_since_the_first_tick_that_fell() {
        let ms = Duration::from_millis;
        let mut download = Download::steady(1e6);
        let doubted = |d: &Download| d.throughput.doubted_for(d.now);
        assert_eq!(doubted(&download), ms(0));
        download.tick(0.3e6, 40, 60);
        assert_eq!(doubted(&download), ms(200));
        download.tick(0.3e6, 40, 60);
        download.tick(0.3e6, 40, 60);
        assert_eq!(doubted(&download), ms(600));
        download.tick(1e6, 100, 0);
        assert_eq!(doubted(&download), ms(0));
        download.tick(0.3e6, 40, 60);
        download.throughput.on_move(download.now);
        assert_eq!(doubted(&download), ms(0));
    }

    /// What a pair that carries this is found to be beside one of 200 kB/s, and after how many ticks.
    fn compared(before: f64, after: f64) -> (u32, bool) {
        let mut download = Download::new();
        for _ in 0..20 {
            download.tick(before, 100, 0);
        }
        download.throughput.on_move(download.now);
        for tick in 1..=20 {
            download.tick(after, 100, 0);
            if let Some(better) = download.throughput.compared() {
                return (tick, better);
            }
        }
        panic!("not decided");
    }

    #[test]
    fn another_pair_is_better_if_it_carries_half_as_much_again() {
        assert_eq!(compared(200_000.0, 310_000.0), (3, true));
        assert_eq!(compared(200_000.0, 290_000.0), (8, false));
        // what is no transfer is not better than nothing
        assert_eq!(compared(0.0, 49_000.0), (8, false));
        assert_eq!(compared(0.0, 51_000.0), (3, true));
    }

    #[test]
    fn what_is_accepted_is_what_the_line_carries() {
        let mut download = Download::steady(1e6);
        let slower = |download: &mut Download| {
            download.throughput.on_move(download.now);
            let ticks = [(); 2].map(|()| download.tick(0.3e6, 40, 60));
            ticks[1]
        };
        assert_eq!(slower(&mut download), Verdict::Fallen);
        download.throughput.accept();
        assert_eq!(download.tick(0.3e6, 40, 60), Verdict::Busy);
        assert_eq!(slower(&mut download), Verdict::Busy);
        // and from there it may fall
        assert_eq!(download.tick(0.1e6, 10, 90), Verdict::Busy);
        assert_eq!(download.tick(0.1e6, 10, 90), Verdict::Fallen);
    }

    #[test]
    fn limits_leave_what_is_not_under_way() {
        let mut throughput = Throughput::default();
        for _ in 0..60 {
            throughput.outbound.record(1e6, 100, 0, true);
            throughput.inbound.record(2e6, 100, 0, true);
        }
        let left = |up, down| throughput.left_of(Limits { up, down });
        assert_eq!(left(Some(3e6), Some(1e6)), (2e6, -1e6));
        assert!(left(None, Some(9e6)).0 > 1e12 && left(Some(9e6), None).1 > 1e12);
    }

    #[test]
    fn of_two_lossy_ways_the_faster_counts() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.lossy(), None);
        for _ in 0..30 {
            throughput.outbound.record(1e6, 100, 5, true);
            throughput.inbound.record(2e6, 100, 0, true);
        }
        let (rate, inbound) = throughput.lossy().expect("the one");
        assert!((rate - 1e6).abs() < 1e4 && !inbound, "{rate}");
        for _ in 0..30 {
            throughput.outbound.record(1e6, 100, 5, true);
            throughput.inbound.record(2e6, 100, 5, true);
        }
        let (rate, inbound) = throughput.lossy().expect("both");
        assert!((rate - 2e6).abs() < 2e4 && inbound, "{rate}");
        // the best that it had, where a policer has set in
        throughput.inbound.record(1.5e6, 100, 5, true);
        assert!(throughput.lossy().expect("both").0 > 1.9e6);
    }
}
