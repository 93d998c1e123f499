//! Random worlds: whatever a path and the programs at its ends do, what arrives is right, or the end is abnormal, and
//! nothing stays behind. `KCPTUN_SEED=n cargo test --test tunnel chaos::` runs one seed alone (with `RUST_LOG=debug` and
//! `-- --nocapture` it tells what happens).

use crate::sim::link::Shape;
use crate::sim::{Options, Role, World};
use kcptun::crypto::Method;
use kcptun::settings::{Flush, KcpSettings, Settings};
use kcptun::time::{Duration, Instant, MS, SEC};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

#[derive(Clone, Copy, Debug)]
enum Act {
    Connect {
        end: usize,
        role: Role,
        service: Role,
    },
    /// The program of the n-th connection is gone.
    Reset {
        end: usize,
        n: usize,
    },
    Stall {
        end: usize,
        n: usize,
        stalled: bool,
    },
    Dead(bool),
    Shutdown {
        end: usize,
    },
}

/// One world, drawn from its seed.
#[derive(Debug)]
struct Plan {
    seed: u64,
    method: Option<Method>,
    shapes: [Shape; 2],
    kcp: KcpSettings,
    paced: bool,
    both: bool,
    dial_delay: Duration,
    clock_offset: u32,
    linger: Duration,
    timeout: Duration,
    /// Milliseconds from the start.
    acts: Vec<(u64, Act)>,
    /// Nothing happens that may end a connection before its time.
    gentle: bool,
}

/// Tells of the plan that was at work when a test failed.
struct Told<'a>(&'a Plan);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("KCPTUN_SEED={} failed: {:?}", self.0.seed, self.0);
        }
    }
}

fn chance(rng: &mut SmallRng, p: f64) -> bool {
    rng.random_bool(p)
}

/// From 0 to 10^most, as often of one magnitude as of another.
fn size(rng: &mut SmallRng, most: f64) -> u64 {
    if chance(rng, 0.1) {
        return 0;
    }
    10f64.powf(rng.random_range(0.0..most)) as u64
}

fn shape(rng: &mut SmallRng, sealed: bool) -> Shape {
    let lossy = chance(rng, 0.6);
    Shape {
        delay: rng.random_range(0..150) * MS,
        jitter: if chance(rng, 0.4) {
            rng.random_range(0..40) * MS
        } else {
            Duration::ZERO
        },
        loss: if lossy {
            rng.random_range(0.0..0.35)
        } else {
            0.0
        },
        burst: if chance(rng, 0.3) {
            rng.random_range(1.0..8.0)
        } else {
            1.0
        },
        rate: if chance(rng, 0.6) {
            10f64.powf(rng.random_range(5.0..8.0))
        } else {
            0.0
        },
        queue: rng.random_range(5..200) * MS,
        corrupt: if sealed && chance(rng, 0.3) {
            rng.random_range(0.0..0.1)
        } else {
            0.0
        },
        duplicate: if chance(rng, 0.3) {
            rng.random_range(0.0..0.3)
        } else {
            0.0
        },
        reorder: if chance(rng, 0.3) {
            rng.random_range(0.0..0.3)
        } else {
            0.0
        },
        reorder_by: rng.random_range(1..80) * MS,
        ..Shape::default()
    }
}

fn roles(rng: &mut SmallRng, gentle: bool, most: f64) -> (Role, Role) {
    let send = |rng: &mut SmallRng| Role::Send {
        bytes: size(rng, most),
        fin: true,
    };
    let serve = |rng: &mut SmallRng, known: u64| Role::Serve {
        request: rng.random_range(0..=known),
        bytes: size(rng, most),
        fin: true,
    };
    let first = send(rng);
    let Role::Send { bytes, .. } = first else {
        return (first, Role::Echo);
    };
    match rng.random_range(0..10) {
        0..3 => (first, Role::Echo),
        3..5 => (first, serve(rng, bytes)),
        5..7 => (serve(rng, bytes), first),
        7 if !gentle => (first, Role::Refuse),
        8 => (Role::Echo, first),
        _ => (first, send(rng)),
    }
}

/// Plain KCP sends its whole window at once, and waits longer and longer, without bound, for a segment that was lost many
/// times: a line that its window overflows by far, or that loses very much, it cannot use, and that is not ours to prove.
fn tame(kcp: &mut KcpSettings, shapes: &mut [Shape; 2]) {
    kcp.nodelay = kcp.nodelay.max(1);
    kcp.resend = kcp.resend.max(1);
    for shape in shapes {
        shape.loss = shape.loss.min(0.15);
        shape.corrupt = shape.corrupt.min(0.02);
        shape.burst = shape.burst.min(2.0);
        if shape.rate > 0.0 {
            shape.rate = shape.rate.max(2e7);
            shape.queue = shape.queue.max(50 * MS);
            kcp.sndwnd = kcp.sndwnd.min(128);
        }
    }
}

fn plan(seed: u64) -> Plan {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5EED);
    let rng = &mut rng;
    let gentle = chance(rng, 0.5);
    let method = chance(rng, 0.7).then(|| Method::ALL[rng.random_range(0..4)]);
    let first = shape(rng, method.is_some());
    let second = if chance(rng, 0.5) {
        first
    } else {
        shape(rng, method.is_some())
    };
    let window = |rng: &mut SmallRng| 2f64.powf(rng.random_range(4.0..10.0)) as u16;
    let kcp = KcpSettings {
        mtu: rng.random_range(300..=1500),
        sndwnd: window(rng),
        rcvwnd: window(rng),
        nodelay: rng.random_range(0..=2),
        interval: rng.random_range(10..=40),
        resend: rng.random_range(0..=3),
        nc: chance(rng, 0.9),
        flush: [Flush::Interval, Flush::AfterSend, Flush::AcksToo][rng.random_range(0..3)],
    };
    let many = chance(rng, 0.15);
    let count = if many {
        rng.random_range(20..80)
    } else {
        rng.random_range(1..5)
    };
    let most = if many { 4.5 } else { 6.7 };
    let both = chance(rng, 0.3);
    let mut acts = Vec::new();
    let spread = if chance(rng, 0.5) { 1 } else { 3_000 };
    for n in 0..count {
        let at = rng.random_range(0..spread);
        let end = if both { rng.random_range(0..2) } else { 0 };
        let (role, service) = roles(rng, gentle, most);
        acts.push((at, Act::Connect { end, role, service }));
        let end = rng.random_range(0..2);
        if chance(rng, 0.3) {
            let stop = rng.random_range(0..4_000);
            let resume = stop + rng.random_range(1..40_000);
            let stall = |stalled| Act::Stall { end, n, stalled };
            acts.extend([(stop, stall(true)), (resume, stall(false))]);
        }
        if !gentle && chance(rng, 0.2) {
            acts.push((rng.random_range(0..6_000), Act::Reset { end, n }));
        }
    }
    if chance(rng, 0.3) {
        let from = rng.random_range(0..4_000);
        let span = rng.random_range(100..if gentle { 8_000 } else { 30_000 });
        acts.extend([(from, Act::Dead(true)), (from + span, Act::Dead(false))]);
    }
    if !gentle && chance(rng, 0.1) {
        let end = rng.random_range(0..2);
        acts.push((rng.random_range(0..8_000), Act::Shutdown { end }));
    }
    acts.sort_by_key(|(at, _)| *at);
    let paced = chance(rng, 0.6);
    let mut kcp = kcp;
    let mut shapes = [first, second];
    if !paced || !kcp.nc {
        tame(&mut kcp, &mut shapes);
    }
    Plan {
        seed,
        method,
        shapes,
        kcp,
        paced,
        both,
        dial_delay: if chance(rng, 0.3) {
            rng.random_range(1..3_000) * MS
        } else {
            Duration::ZERO
        },
        clock_offset: match rng.random_range(0..4) {
            0 => 0x7FFF_F800,
            1 => 0xFFFF_F000,
            _ => rng.random(),
        },
        linger: if gentle { 600 } else { rng.random_range(5..60) } * SEC,
        timeout: if gentle {
            600
        } else {
            rng.random_range(60..600)
        } * SEC,
        acts,
        gentle,
    }
}

fn run(plan: &Plan) {
    let told = Told(plan);
    let (kcp, paced) = (plan.kcp.clone(), plan.paced);
    let (linger, timeout) = (plan.linger, plan.timeout);
    let mut world = World::new(Options {
        seed: plan.seed,
        method: plan.method,
        start: Instant::from_millis(1_000),
        clock_offset: plan.clock_offset,
        shapes: plan.shapes,
        both: plan.both,
        tune: Some(Box::new(move |s: &mut Settings| {
            s.kcp = kcp.clone();
            s.rate.control = paced && s.kcp.nc;
            (s.linger, s.timeout) = (linger, timeout);
        })),
        ..Options::default()
    });
    world.dial_delay = plan.dial_delay;
    let start = world.now;
    let mut convs = Vec::new();
    for (at, act) in &plan.acts {
        world.run_until(start.after(*at * MS));
        match *act {
            Act::Connect { end, role, service } => {
                convs.push(world.connect_at(end, role, service).1);
            }
            Act::Reset { end, n } => {
                if let Some(id) = convs.get(n).and_then(|conv| world.id(end, *conv)) {
                    world.reset(end, id);
                }
            }
            Act::Stall { end, n, stalled } => {
                if let Some(conv) = convs.get(n) {
                    world.stall(end, *conv, stalled);
                }
            }
            Act::Dead(dead) => {
                world.links[0].shape.dead = dead;
                world.links[1].shape.dead = dead;
            }
            Act::Shutdown { end } => world.shutdown(end),
        }
        world.check();
    }
    let rests = world.run_to_rest(5_000 * SEC);
    world.check();
    if !rests {
        for (i, end) in world.ends.iter().enumerate() {
            eprintln!("end {i}: {:?} {:?}", end.tunnel.holdings(), end.tcp);
        }
    }
    assert!(rests, "something is left");
    if plan.gentle {
        for conv in &convs {
            world.assert_clean(*conv);
        }
    }
    world.run_for(Settings::default().time_wait + SEC);
    for end in &world.ends {
        let held = end.tunnel.holdings();
        assert_eq!(held.ended, 0, "numbers are remembered for too long");
        // one for each pair of ports that was tried
        let pairs = world.ends.iter().map(|end| usize::from(end.sockets)).max();
        let pairs = pairs.unwrap_or(1);
        assert!(held.paths <= pairs && held.idle_paths <= pairs, "{held:?}");
    }
    drop(told);
}

/// More with KCPTUN_SEEDS=n.
const SEEDS: u64 = 600;

fn chaos(part: u64, parts: u64) {
    if let Ok(seed) = std::env::var("KCPTUN_SEED") {
        let _ = env_logger::builder().try_init();
        if part == 0 {
            run(&plan(seed.parse().expect("a seed is a number")));
        }
        return;
    }
    let seeds = std::env::var("KCPTUN_SEEDS").map_or(SEEDS, |n| n.parse().expect("a number"));
    let fails = |seed: &u64| {
        let began = std::time::Instant::now();
        let failed = std::panic::catch_unwind(|| run(&plan(*seed))).is_err();
        if began.elapsed().as_secs() >= 2 {
            eprintln!("KCPTUN_SEED={seed} took {:?}", began.elapsed());
        }
        failed
    };
    let failed: Vec<u64> = (part..seeds)
        .step_by(parts as usize)
        .filter(fails)
        .collect();
    assert!(failed.is_empty(), "failed: KCPTUN_SEED={failed:?}");
}

#[test]
fn whatever_happens_what_arrives_is_right_1() {
    chaos(0, 4);
}

#[test]
fn whatever_happens_what_arrives_is_right_2() {
    chaos(1, 4);
}

#[test]
fn whatever_happens_what_arrives_is_right_3() {
    chaos(2, 4);
}

#[test]
fn whatever_happens_what_arrives_is_right_4() {
    chaos(3, 4);
}
