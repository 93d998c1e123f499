//! The table of what a user feels on each path, and what the rate control owes the path. Virtual time, repeatable.

use crate::sim::link::Shape;
use crate::sim::measure::{
    Bench, Bulk, Figures, Scenario, heading, line, line_rate, options, percentiles,
};
use crate::sim::{Options, Role, World};
use kcptun::time::{Duration, MS, SEC};

/// The limits of a row. One run in here is one seed and six to twelve seconds a transfer, so it is given a margin of 2 % of the
/// line, 0.02 of waste, and 5 % of a time.
#[derive(Clone, Copy)]
struct Row {
    /// Share of line rate × (1 − loss), down and up and by eight downloads together, at least.
    of: f64,
    /// The following are upper limits, times in ms: waste down and up, the way back as a share, ping p50 and p99,
    /// the same under load, opening a connection (median, worst), 1 MB on a new connection (median).
    waste: f64,
    back: f64,
    ping: [f64; 2],
    load: [f64; 2],
    open: [f64; 2],
    megabyte: f64,
}

const MARGIN_OF: f64 = 0.02;
const MARGIN_WASTE: f64 = 0.02;
const MARGIN_TIME: f64 = 1.05;
/// Jain's index over eight downloads.
const FAIR: f64 = 0.95;

const fn row(
    of: f64,
    waste: f64,
    back: f64,
    ping: [f64; 2],
    load: [f64; 2],
    open: [f64; 2],
    megabyte: f64,
) -> Row {
    Row {
        of,
        waste,
        back,
        ping,
        load,
        open,
        megabyte,
    }
}

/// The goal.
#[rustfmt::skip]
const WANTED: [(&str, Row); 10] = [
    //                 of    waste back   ping p50/p99    under load      open med/max    1 MB
    ("clean",    row(0.92, 1.08, 0.04, [101.0, 102.0], [115.0, 130.0], [101.0, 105.0], 240.0)),
    ("lossy-1",  row(0.91, 1.09, 0.04, [101.0, 110.0], [115.0, 140.0], [101.0, 125.0], 330.0)),
    ("lossy-5",  row(0.90, 1.14, 0.04, [101.0, 125.0], [120.0, 170.0], [101.0, 140.0], 370.0)),
    ("lossy-10", row(0.89, 1.22, 0.04, [101.0, 150.0], [125.0, 220.0], [101.0, 180.0], 430.0)),
    ("lossy-30", row(0.83, 1.62, 0.06, [110.0, 300.0], [160.0, 450.0], [120.0, 400.0], 850.0)),
    ("bursty-5", row(0.89, 1.16, 0.04, [101.0, 180.0], [125.0, 230.0], [101.0, 200.0], 370.0)),
    ("shallow",  row(0.88, 1.13, 0.042, [ 61.0,  70.0], [ 70.0,  90.0], [ 61.0,  80.0], 320.0)),
    ("bloated",  row(0.92, 1.09, 0.04, [ 41.0,  42.0], [ 55.0,  80.0], [ 41.0,  45.0], 510.0)),
    ("far-10",   row(0.84, 1.26, 0.04, [301.0, 360.0], [330.0, 480.0], [301.0, 420.0], 1250.0)),
    ("near-2",   row(0.90, 1.12, 0.04, [ 21.0,  30.0], [ 28.0,  50.0], [ 21.0,  35.0], 105.0)),
];

/// What these paths waste is asserted of transfers of a minute: what is in flight or waits for one last segment when
/// a transfer is cut off counts as waste too, and after four seconds that is up to a fifth.
const MEASURED_LONGER: [&str; 5] = ["lossy-5", "lossy-10", "lossy-30", "bursty-5", "far-10"];

/// Where one segment that is lost thrice, or the first round, moves the figures of some seconds: three worlds, and the median.
const MATTERS_OF_LUCK: [&str; 3] = ["lossy-30", "bursty-5", "far-10"];

fn measure(name: &str) {
    let scenario = Scenario::named(name).expect("a path of the table");
    // long enough that one segment that is lost again and again is not a tenth of it
    let secs = (scenario.rtt / 25).max(6);
    let figures = match MATTERS_OF_LUCK.contains(&name) {
        true => median([1, 2, 3].map(|seed| Bench::new(scenario, seed).all(secs))),
        false => Bench::new(scenario, 1).all(secs),
    };
    let missed = misses(name, &figures);
    println!("{}\n{}", heading(), line(name, &figures));
    assert!(
        missed.is_empty(),
        "{}\n{}\n{}",
        heading(),
        line(name, &figures),
        missed.join("\n")
    );
}

/// Each figure's median.
fn median(all: [Figures; 3]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let each = all.iter().map(figure);
        percentiles(each.collect(), 1.0)[0]
    };
    Figures {
        down: of(|f| f.down),
        down_waste: of(|f| f.down_waste),
        down_back: of(|f| f.down_back),
        down_overflow: of(|f| f.down_overflow),
        up: of(|f| f.up),
        up_waste: of(|f| f.up_waste),
        many: of(|f| f.many),
        fairness: of(|f| f.fairness),
        ping: [of(|f| f.ping[0]), of(|f| f.ping[1])],
        load: [of(|f| f.load[0]), of(|f| f.load[1])],
        open: [of(|f| f.open[0]), of(|f| f.open[1])],
        megabyte: [of(|f| f.megabyte[0]), of(|f| f.megabyte[1])],
    }
}

fn misses(name: &str, f: &Figures) -> Vec<String> {
    let wanted = WANTED.iter().find(|row| row.0 == name).expect("a row").1;
    let at_least = [
        ("down", f.down, wanted.of - MARGIN_OF),
        ("up", f.up, wanted.of - MARGIN_OF),
        ("eight down", f.many, wanted.of - MARGIN_OF),
        ("fairness", f.fairness, FAIR),
    ];
    let at_most = [
        ("waste down", f.down_waste, wanted.waste + MARGIN_WASTE),
        ("waste up", f.up_waste, wanted.waste + MARGIN_WASTE),
        ("back", f.down_back, wanted.back),
        ("ping p50", f.ping[0], wanted.ping[0] * MARGIN_TIME),
        ("ping p99", f.ping[1], wanted.ping[1] * MARGIN_TIME),
        ("load p50", f.load[0], wanted.load[0] * MARGIN_TIME),
        ("load p99", f.load[1], wanted.load[1] * MARGIN_TIME),
        ("open", f.open[0], wanted.open[0] * MARGIN_TIME),
        ("open worst", f.open[1], wanted.open[1] * MARGIN_TIME),
        ("1 MB", f.megabyte[0], wanted.megabyte * MARGIN_TIME),
    ];
    let lower = at_least.map(|(figure, is, limit)| (figure, is, limit, 1.0));
    let upper = at_most.map(|(figure, is, limit)| (figure, is, limit, -1.0));
    let mut missed = Vec::new();
    for (figure, is, limit, sign) in lower.into_iter().chain(upper) {
        let later = figure.starts_with("waste") && MEASURED_LONGER.contains(&name);
        if !later && (is.is_nan() || (is - limit) * sign < 0.0) {
            missed.push(format!("{figure}: {is:.3}, the limit is {limit:.3}"));
        }
    }
    missed
}

/// A queue too short for its delay to be seen throws away what is too much, as a policer does: its loss is not chance.
#[test]
fn a_queue_too_short_to_be_seen_is_not_flooded() {
    // round trip, loss, rate and queue (µs); the most that the queue may throw away, and the least share of the line
    let cases = [
        // wanted: 0.85 of the line in each. A queue of four packets overflows by what leaves in one millisecond
        (60, 0.0, 50.0, 1_000, 0.10, 0.55),
        (60, 0.0, 50.0, 3_000, 0.06, 0.80),
        (100, 5.0, 100.0, 1_500, 0.08, 0.77),
        (20, 1.0, 200.0, 2_000, 0.20, 0.85),
    ];
    for (rtt, loss, rate, queue, most, least) in cases {
        let shape = Shape {
            queue: Duration::from_micros(queue),
            ..Shape::path(rtt, loss, rate, 1)
        };
        let mut world = World::new(options(shape, 1));
        let bulk = Bulk::start(&mut world, 1, false);
        world.run_for(3 * SEC);
        let before = world.links[1].counts;
        let share = bulk.share(&mut world, 5 * SEC);
        let after = world.links[1].counts;
        let dropped = (after.overflowed - before.overflowed) as f64;
        let dropped = dropped / (after.offered - before.offered) as f64;
        println!("{rate} Mbit/s, {queue} us: {dropped:.3} thrown away, {share:.3} of the line");
        assert!(
            dropped <= most && share >= least,
            "{dropped:.3}, {share:.3}"
        );
    }
}

/// Each byte is sent once, but for what the path loses.
fn waste_over_a_minute(name: &str) {
    let scenario = Scenario::named(name).expect("a path of the table");
    let wanted = WANTED.iter().find(|row| row.0 == name).expect("a row").1;
    let mut world = World::new(options(scenario.shape(), 1));
    let bulk = Bulk::start(&mut world, 1, false);
    world.run_for(60 * SEC);
    let sent = world.links[1].counts.offered_bytes as f64;
    let waste = sent / bulk.received(&world) as f64;
    println!("{name}: waste {waste:.3}");
    assert!(waste <= wanted.waste, "{waste:.3} for {}", wanted.waste);
}

#[test]
fn the_table_clean() {
    measure("clean");
}

#[test]
fn the_table_lossy_1() {
    measure("lossy-1");
}

#[test]
fn the_table_lossy_5() {
    measure("lossy-5");
}

#[test]
fn the_table_lossy_10() {
    measure("lossy-10");
}

#[test]
fn the_table_lossy_30() {
    measure("lossy-30");
}

#[test]
fn the_table_bursty_5() {
    measure("bursty-5");
}

#[test]
fn the_table_shallow() {
    measure("shallow");
}

#[test]
fn the_table_bloated() {
    measure("bloated");
}

#[test]
fn the_table_far_10() {
    measure("far-10");
}

#[test]
fn the_table_near_2() {
    measure("near-2");
}

/// Share of the line that a transfer gets in 4 s after 3 s, and bytes on the line for each byte that arrived in them.
fn transfer(shape: Shape, up: bool) -> (f64, f64) {
    let mut world = World::new(options(shape, 1));
    let bulk = Bulk::start(&mut world, 1, up);
    world.run_for(3 * SEC);
    let sender = usize::from(!up);
    let sent = world.links[sender].counts.offered_bytes;
    let share = bulk.share(&mut world, 4 * SEC);
    let sent = world.links[sender].counts.offered_bytes - sent;
    let waste = sent as f64 / (share * line_rate(&shape) * 4.0);
    println!(
        "up: {up}, share {share:.3}, waste {waste:.3}, {shape:?} {:?}",
        world.ends[0].tunnel.moved()
    );
    (share, waste)
}

#[test]
fn random_loss_is_no_reason_to_slow_down() {
    // wanted: no less at 40 % than elsewhere
    for (loss, least) in [(20.0, 0.85), (40.0, 0.42)] {
        for up in [false, true] {
            let (share, _) = transfer(Shape::path(100, loss, 100.0, 50), up);
            assert!(share >= least, "{share:.3} at {loss} %, up: {up}");
        }
    }
}

#[test]
fn jitter_and_reordering_are_neither_queue_nor_loss() {
    let path = Shape::path(60, 0.0, 50.0, 50);
    let jitter = Shape {
        jitter: 5 * MS,
        ..path
    };
    let reordered = Shape {
        reorder: 0.01,
        reorder_by: 5 * MS,
        ..path
    };
    let both = Shape {
        jitter: 5 * MS,
        ..reordered
    };
    // wanted: 0.80 on each. Jitter in order looks like a queue of its size as soon as the path is busy
    for (shape, least) in [(jitter, 0.77), (reordered, 0.80), (both, 0.80)] {
        let (share, waste) = transfer(shape, false);
        assert!(share >= least, "{share:.3} {shape:?}");
        assert!(waste <= 1.3, "{waste:.3} {shape:?}");
    }
}

/// Of what is sent in ten seconds from the first byte on, the share that a queue of 5 ms throws away, at most.
/// Wanted: 0.02.
const DROPPED: f64 = 0.05;

#[test]
fn a_shallow_queue_is_not_flooded() {
    for up in [false, true] {
        let mut world = World::new(options(Shape::path(60, 0.0, 50.0, 5), 1));
        let bulk = Bulk::start(&mut world, 1, up);
        let share = bulk.share(&mut world, 10 * SEC);
        let counts = world.links[usize::from(!up)].counts;
        let dropped = counts.overflowed as f64 / counts.offered as f64;
        println!("up: {up}, dropped {dropped:.4}, share {share:.3}");
        assert!(
            dropped < DROPPED,
            "{dropped:.4} of it was dropped, up: {up}"
        );
        assert!(share > 0.8, "{share:.3} of the line, up: {up}");
    }
}

/// `rate.up` of the end that sends holds in every quarter of a second, and is used.
#[test]
fn a_cap_is_kept_and_used() {
    const CAP: f64 = 20e6 / 8.0;
    for (up, loss) in [(true, 0.0), (false, 0.0), (true, 5.0)] {
        let shape = Shape::path(60, loss, 100.0, 50);
        let mut world = World::new(Options {
            adjust: |settings| settings.rate.up = Some(CAP),
            ..options(shape, 1)
        });
        let bulk = Bulk::start(&mut world, 1, up);
        let sender = usize::from(!up);
        let mut most: f64 = 0.0;
        let mut goodput = 0.0;
        for quarter in 0..24 {
            let before = world.links[sender].counts.offered_bytes;
            let got = bulk.goodput(&mut world, SEC / 4);
            let sent = world.links[sender].counts.offered_bytes - before;
            most = most.max(sent as f64 * 4.0 / CAP);
            if quarter >= 8 {
                goodput += got / 16.0 / CAP;
            }
        }
        println!("up: {up}, {loss} %: at most {most:.3} of the cap, goodput {goodput:.3}");
        assert!(most < 1.05, "{most:.3} of the cap, up: {up}, {loss} %");
        let fair = 0.88 * (1.0 - loss / 100.0);
        assert!(goodput >= fair, "{goodput:.3} of the cap, up: {up}");
        assert!(goodput < 1.0, "{goodput:.3} of the cap, up: {up}");
    }
}

/// `rate.down` of the end that receives slows the other end down, and the queue on the path stays as it was.
#[test]
fn a_receivers_cap_is_kept_and_used() {
    const CAP: f64 = 20e6 / 8.0;
    for loss in [0.0, 5.0] {
        let mut world = World::new(Options {
            adjust: |settings| settings.rate.down = Some(CAP),
            ..options(Shape::path(60, loss, 100.0, 50), 1)
        });
        let bulk = Bulk::start(&mut world, 1, false);
        world.run_for(2 * SEC);
        let before = world.links[1].counts;
        let got = bulk.goodput(&mut world, 4 * SEC) / CAP;
        let wire = (world.links[1].counts.offered_bytes - before.offered_bytes) as f64 / 4.0 / CAP;
        println!("{loss} %: goodput {got:.3}, on the wire {wire:.3} of the cap");
        assert!((0.85..1.02).contains(&got), "{got:.3} of the cap, {loss} %");
        assert!(wire < 1.25, "{wire:.3} of the cap on the wire, {loss} %");
    }
}

/// Half a round trip of 0.1 ms: timers and acks are coarser than the path is long.
#[test]
fn a_path_next_door_is_filled() {
    for up in [false, true] {
        let next_door = Shape {
            delay: MS / 20,
            ..Shape::path(0, 0.0, 200.0, 20)
        };
        let mut world = World::new(options(next_door, 1));
        let bulk = Bulk::start(&mut world, 1, up);
        world.run_for(SEC);
        let share = bulk.share(&mut world, SEC);
        println!("up: {up}, next door {share:.3}");
        assert!(share >= 0.90, "{share:.3} of the line, up: {up}");
    }
}

/// Who only sends small messages learns from their acks that nothing gets lost, and who only reads them from what comes:
/// each is sent once and acknowledged once.
#[test]
fn small_messages_are_sent_once_where_nothing_gets_lost() {
    const SIZE: u64 = 100;
    let mut world = World::new(options(Shape::path(60, 0.0, 50.0, 50), 1));
    world.allowed = SIZE;
    let sender = Role::Send {
        bytes: u64::MAX / 2,
        fin: false,
    };
    let reader = Role::Serve {
        request: u64::MAX,
        bytes: 0,
        fin: false,
    };
    let (id, _) = world.connect(sender, reader);
    let start = world.now;
    for i in 1..1000 {
        world.at(start.after(i * 20 * MS), 0, id, SIZE * (i + 1));
    }
    // so many are needed to know that the path loses less than copies cost
    world.run_until(start.after(500 * 20 * MS));
    let sent = |world: &World| [0, 1].map(|i| world.links[i].counts.offered);
    let before = sent(&world);
    world.run_until(start.after(1000 * 20 * MS));
    let after = sent(&world);
    for i in 0..2 {
        let count = after[i] - before[i];
        println!("end {i} sent {count} datagrams");
        assert!((480..=515).contains(&count), "end {i} sent {count}");
    }
}

#[test]
fn waste_lossy_10() {
    waste_over_a_minute("lossy-10");
}

#[test]
fn waste_bursty_5() {
    waste_over_a_minute("bursty-5");
}

#[test]
fn waste_far_10() {
    waste_over_a_minute("far-10");
}

#[test]
fn waste_lossy_5() {
    waste_over_a_minute("lossy-5");
}

#[test]
fn waste_lossy_30() {
    waste_over_a_minute("lossy-30");
}
