//! What a transfer is worth on lines that are not steady, and what it owes those that police, each over sixteen seeds: the
//! median and the worst of them. Odd seeds download, even ones upload. Virtual time, repeatable.

use crate::sim::lines::{
    Figures, Trial, Unsteady, measure, named, policed, short_queue, unpoliced,
};
use kcptun::time::{Duration, SEC};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const SEEDS: u64 = 16;
const THREADS: usize = 2;

/// What is measured with each seed, in the order of the seeds.
fn over_seeds<T: Send>(measure: impl Fn(bool, u64) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicU64::new(1), Mutex::new(Vec::new()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > SEEDS {
            return;
        }
        let figures = measure(seed % 2 == 0, seed);
        done.lock().expect("no seed failed").push((seed, figures));
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| _ = scope.spawn(work)));
    let mut done = done.into_inner().expect("no seed failed");
    done.sort_by_key(|(seed, _)| *seed);
    done.into_iter().map(|(_, figures)| figures).collect()
}

/// A figure and its limits: the median's and the worst seed's.
struct Limit {
    figure: &'static str,
    at_least: bool,
    limits: [f64; 2],
}

impl Limit {
    fn least(figure: &'static str, limits: [f64; 2]) -> Limit {
        Limit {
            figure,
            at_least: true,
            limits,
        }
    }

    fn most(figure: &'static str, limits: [f64; 2]) -> Limit {
        Limit {
            at_least: false,
            ..Limit::least(figure, limits)
        }
    }

    /// Prints the figure, and says by how much it missed. `values` are in the order of the seeds.
    fn check(&self, values: &[f64]) -> Option<String> {
        let sign = if self.at_least { 1.0 } else { -1.0 };
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| (values[*b] * sign).total_cmp(&(values[*a] * sign)));
        let (middle, last) = (order[order.len() / 2], order[order.len() - 1]);
        let is = [values[middle], values[last]];
        let text = format!(
            "{}: median {:.3} ({:.3}), worst {:.3} ({:.3}) with seed {}",
            self.figure,
            is[0],
            self.limits[0],
            is[1],
            self.limits[1],
            last + 1
        );
        println!("  {text}");
        let holds = |i: usize| (is[i] - self.limits[i]) * sign >= 0.0;
        (!holds(0) || !holds(1)).then_some(text)
    }
}

/// Shares at least, the others at most, and pings in ms; each the median's limit and the worst seed's.
struct Row {
    line: &'static str,
    share: [f64; 2],
    first: [f64; 2],
    ping: [f64; 2],
    p95: [f64; 2],
    waste: [f64; 2],
    back: [f64; 2],
    dropped: [f64; 2],
}

const fn row(line: &'static str, limits: [[f64; 2]; 7]) -> Row {
    let [share, first, ping, p95, waste, back, dropped] = limits;
    Row {
        line,
        share,
        first,
        ping,
        p95,
        waste,
        back,
        dropped,
    }
}

#[rustfmt::skip]
const ROWS: [Row; 17] = [
    //                          share         the first 3 s  ping            p95              waste          back          dropped
    // wanted: a share of 0.88 with every seed, but 0.75 on reorder-50; 0.04 back where 5 Mbit/s and more arrive.
    row("wandering",       [[0.86, 0.69], [0.84, 0.68], [ 136.0, 262.0], [ 611.0,1912.0], [1.10, 1.16], [0.019, 0.037], [0.003, 0.012]]),
    row("wandering-fast",  [[0.86, 0.70], [0.82, 0.42], [  90.0, 150.0], [ 315.0,1113.0], [1.11, 1.19], [0.015, 0.030], [0.023, 0.053]]),
    row("wandering-slow",  [[0.83, 0.64], [0.87, 0.60], [ 162.0, 237.0], [ 560.0,1589.0], [1.13, 1.23], [0.084, 0.146], [0.003, 0.012]]),
    row("halving",         [[0.88, 0.86], [0.82, 0.80], [  88.0, 105.0], [ 164.0, 179.0], [1.09, 1.12], [0.014, 0.027], [0.003, 0.012]]),
    row("halving-fast",    [[0.89, 0.87], [0.82, 0.78], [ 133.0, 145.0], [ 268.0, 292.0], [1.09, 1.12], [0.014, 0.023], [0.003, 0.012]]),
    row("jitter-1",        [[0.90, 0.88], [0.77, 0.75], [ 122.0, 140.0], [ 129.0, 149.0], [1.09, 1.12], [0.012, 0.023], [0.003, 0.012]]),
    row("jitter-5",        [[0.90, 0.88], [0.76, 0.74], [ 131.0, 147.0], [ 139.0, 154.0], [1.09, 1.12], [0.012, 0.022], [0.003, 0.012]]),
    row("jitter-10",       [[0.90, 0.88], [0.75, 0.72], [ 143.0, 173.0], [ 152.0, 183.0], [1.09, 1.12], [0.010, 0.022], [0.003, 0.012]]),
    row("jitter-20",       [[0.89, 0.84], [0.71, 0.67], [ 163.0, 180.0], [ 175.0, 193.0], [1.09, 1.13], [0.010, 0.023], [0.003, 0.012]]),
    row("jitter-30",       [[0.89, 0.80], [0.66, 0.27], [ 175.0, 196.0], [ 187.0, 213.0], [1.09, 1.13], [0.010, 0.022], [0.003, 0.012]]),
    row("jitter-30-near",  [[0.89, 0.58], [0.78, 0.56], [  99.0, 128.0], [ 118.0, 152.0], [1.09, 1.13], [0.010, 0.022], [0.003, 0.012]]),
    row("jitter-30-lossy", [[0.87, 0.53], [0.51, 0.10], [ 169.0, 197.0], [ 184.0, 215.0], [1.11, 1.25], [0.054, 0.068], [0.003, 0.012]]),
    row("disorder",        [[0.88, 0.78], [0.61, 0.10], [ 161.0, 175.0], [ 181.0, 295.0], [1.11, 1.25], [0.093, 0.100], [0.003, 0.012]]),
    row("wifi",            [[0.86, 0.78], [0.82, 0.76], [  57.0,  68.0], [  64.0,  79.0], [1.11, 1.16], [0.046, 0.056], [0.003, 0.012]]),
    row("reorder-50",      [[0.80, 0.66], [0.55, 0.44], [ 170.0, 203.0], [ 230.0, 700.0], [1.29, 1.45], [0.160, 0.235], [0.003, 0.014]]),
    row("late-40",         [[0.89, 0.84], [0.85, 0.78], [  93.0, 104.0], [ 128.0, 142.0], [1.11, 1.14], [0.082, 0.099], [0.003, 0.012]]),
    row("turns",           [[0.90, 0.87], [0.82, 0.65], [  82.0, 108.0], [ 104.0, 138.0], [1.09, 1.14], [0.006, 0.016], [0.003, 0.012]]),
];

/// Seconds that a transfer is measured for after its first three, and the lines of a kind.
fn hold(secs: u64, lines: &[&str]) {
    let missed: Vec<String> = lines.iter().flat_map(|line| misses(secs, line)).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn misses(secs: u64, name: &str) -> Vec<String> {
    let line = named(name).expect("a line of the table");
    let row = ROWS.iter().find(|row| row.line == name).expect("a row");
    println!("{name}");
    let figures = over_seeds(|up, seed| measure(&line, up, seed, secs));
    let ping = |f: &Figures, i: usize| f.ping.map_or(f64::NAN, |ping| ping[i]);
    let missed = |limit: Limit, of: &dyn Fn(&Figures) -> f64| {
        let missed = limit.check(&figures.iter().map(of).collect::<Vec<f64>>())?;
        Some(format!("{name}: {missed}"))
    };
    let all = [
        missed(Limit::least("share", row.share), &|f| f.carried.share),
        missed(Limit::least("first", row.first), &|f| f.first),
        missed(Limit::most("ping", row.ping), &|f| ping(f, 0)),
        missed(Limit::most("p95", row.p95), &|f| ping(f, 1)),
        missed(Limit::most("waste", row.waste), &|f| f.carried.waste),
        missed(Limit::most("back", row.back), &|f| f.carried.back),
        missed(Limit::most("dropped", row.dropped), &|f| f.carried.dropped),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn a_rate_that_wanders_is_followed() {
    hold(8, &["wandering", "wandering-fast", "wandering-slow"]);
}

#[test]
fn a_rate_that_halves_and_doubles_is_followed() {
    hold(8, &["halving", "halving-fast"]);
}

/// Up to 5 ms any sender manages, and this one has to go on to.
#[test]
fn jitter_in_order_is_no_queue() {
    hold(4, &["jitter-1", "jitter-5", "jitter-10", "jitter-20"]);
}

#[test]
fn much_jitter_in_order_is_no_queue() {
    hold(4, &["jitter-30", "jitter-30-near", "jitter-30-lossy"]);
}

#[test]
fn packets_that_are_overtaken_are_not_lost() {
    hold(4, &["disorder", "reorder-50", "late-40"]);
}

#[test]
fn air_time_is_no_queue() {
    hold(4, &["wifi", "turns"]);
}

/// What a line that throws away what is too much is owed, 5 s after it began to. Each the median's and the worst seed's.
struct Owed {
    line: Unsteady,
    /// Of what it lets through, at least so much arrives, and at most so much is sent.
    arrives: [f64; 2],
    sent: [f64; 2],
}

fn owed(line: Unsteady, arrives: [f64; 2], sent: [f64; 2]) -> Owed {
    Owed {
        line,
        arrives,
        sent,
    }
}

/// Time to find out, and to be measured for.
const FINDS_OUT: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(10);

impl Owed {
    fn misses(&self) -> Vec<String> {
        println!("{}", self.line.name);
        let carried = over_seeds(|up, seed| {
            let mut trial = Trial::start(&self.line, 1, up, seed);
            trial.run(FINDS_OUT);
            trial.run(MEASURED)
        });
        let arrives: Vec<f64> = carried.iter().map(|c| c.share).collect();
        let sent: Vec<f64> = carried.iter().map(|c| c.sent).collect();
        let missed = [
            Limit::least("arrives", self.arrives).check(&arrives),
            Limit::most("sent", self.sent).check(&sent),
        ];
        let name = &self.line.name;
        missed
            .into_iter()
            .flatten()
            .map(|m| format!("{name}: {m}"))
            .collect()
    }
}

fn pay(all: &[Owed]) {
    let missed: Vec<String> = all.iter().flat_map(Owed::misses).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_policer_is_not_flooded() {
    pay(&[
        // wanted: 0.85 arrives, 1.30 sent, with every seed.
        owed(policed(0.5, 0.0), [0.91, 0.86], [1.12, 1.29]),
        owed(policed(1.0, 0.0), [0.90, 0.87], [1.25, 1.59]),
        owed(policed(2.0, 0.0), [0.90, 0.87], [1.10, 1.16]),
        owed(policed(10.0, 0.0), [0.90, 0.87], [1.06, 1.13]),
        owed(policed(20.0, 0.0), [0.91, 0.86], [1.42, 1.52]),
    ]);
}

#[test]
fn a_policer_is_not_flooded_where_packets_get_lost() {
    pay(&[
        // wanted: 0.85 arrives, 1.45 sent, with every seed.
        owed(policed(0.5, 10.0), [0.88, 0.85], [1.41, 1.83]),
        owed(policed(1.0, 10.0), [0.89, 0.85], [1.33, 1.70]),
        owed(policed(2.0, 10.0), [0.89, 0.85], [1.26, 1.45]),
        owed(policed(10.0, 10.0), [0.88, 0.85], [1.15, 1.29]),
        owed(policed(20.0, 10.0), [0.88, 0.84], [1.11, 1.26]),
    ]);
}

#[test]
fn a_queue_of_a_few_packets_is_not_flooded() {
    pay(&[
        // wanted: 0.85 arrives, 1.30 sent, with every seed.
        owed(short_queue(2.0, 1), [0.80, 0.75], [1.00, 1.07]),
        owed(short_queue(2.0, 3), [0.86, 0.85], [1.05, 1.11]),
        owed(short_queue(2.0, 5), [0.87, 0.85], [1.07, 1.14]),
        owed(short_queue(5.0, 1), [0.85, 0.77], [1.04, 1.19]),
        owed(short_queue(5.0, 5), [0.88, 0.85], [1.05, 1.12]),
        owed(short_queue(10.0, 1), [0.78, 0.74], [1.01, 1.11]),
        owed(short_queue(10.0, 3), [0.88, 0.85], [1.04, 1.12]),
        owed(short_queue(20.0, 1), [0.78, 0.69], [0.98, 1.11]),
        owed(short_queue(20.0, 5), [0.89, 0.87], [1.04, 1.13]),
    ]);
}

/// What a policer is owed that sets in when a transfer has gone on for a while, and the transfer when it ends.
struct Midst {
    /// Mbit/s, loss in percent.
    mbit: f64,
    loss: f64,
    /// More than all may arrive: what had come before and waited for what was lost.
    arrives: [f64; 2],
    sent: [f64; 2],
    /// Seconds after its end until half a second carries `UP_AGAIN` of the line.
    up_again: [f64; 2],
}

/// Share of the line that is up again, how long that is waited for, and how long a transfer goes on before.
const UP_AGAIN: f64 = 0.8;
const LONGEST: Duration = Duration::from_secs(30);
const BEFORE: Duration = Duration::from_secs(4);

impl Midst {
    /// What arrives and is sent while it polices, and when the transfer has gone up again.
    fn trial(&self, up: bool, seed: u64) -> [f64; 3] {
        let mut trial = Trial::start(&unpoliced(self.loss), 1, up, seed);
        trial.run(BEFORE);
        trial.police(self.mbit);
        trial.run(FINDS_OUT);
        let carried = trial.run(MEASURED);
        trial.police(0.0);
        let mut waited = Duration::ZERO;
        while waited < LONGEST && trial.run(SEC / 2).share < UP_AGAIN {
            waited += SEC / 2;
        }
        [carried.share, carried.sent, waited.as_secs_f64()]
    }

    fn misses(&self) -> Vec<String> {
        let name = format!("{} Mbit/s, {} % loss", self.mbit, self.loss);
        println!("{name}");
        let figures = over_seeds(|up, seed| self.trial(up, seed));
        let each = |i: usize| figures.iter().map(|f| f[i]).collect::<Vec<f64>>();
        let missed = [
            Limit::least("arrives", self.arrives).check(&each(0)),
            Limit::most("sent", self.sent).check(&each(1)),
            Limit::most("up again", self.up_again).check(&each(2)),
        ];
        missed
            .into_iter()
            .flatten()
            .map(|m| format!("{name}: {m}"))
            .collect()
    }
}

fn midst(mbit: f64, loss: f64, limits: [[f64; 2]; 3]) -> Midst {
    let [arrives, sent, up_again] = limits;
    Midst {
        mbit,
        loss,
        arrives,
        sent,
        up_again,
    }
}

fn pay_midway(all: &[Midst]) {
    let missed: Vec<String> = all.iter().flat_map(Midst::misses).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_policer_that_sets_in_is_not_flooded() {
    pay_midway(&[
        // wanted: 0.85 arrives, 1.30 sent, and up again within 10 s, with every seed.
        midst(0.5, 0.0, [[0.85, 0.00], [1.42, 1.70], [5.5, 8.5]]),
        midst(1.0, 0.0, [[0.85, 0.85], [1.18, 1.35], [6.5, 8.5]]),
        midst(2.0, 0.0, [[0.85, 0.85], [1.10, 1.17], [6.0, 7.5]]),
        midst(10.0, 0.0, [[0.85, 0.85], [1.07, 1.13], [5.0, 6.5]]),
        midst(20.0, 0.0, [[0.85, 0.85], [1.06, 1.23], [4.5, 6.5]]),
    ]);
}

#[test]
fn a_policer_that_sets_in_is_not_flooded_where_packets_get_lost() {
    pay_midway(&[
        // wanted: 0.85 arrives, 1.45 sent, and up again within 10 s, with every seed.
        midst(2.0, 10.0, [[0.85, 0.85], [1.25, 1.45], [4.0, 32.0]]),
        midst(20.0, 10.0, [[0.85, 0.51], [1.09, 1.19], [4.0, 18.5]]),
    ]);
}
