//! Whether the loss that is taken for chance shrinks with the rate. A queue that is too short to be seen in the round trip
//! (a policer, a switch, a socket's buffer) throws away what is too much without a sign of delay; only at another rate can
//! its loss be told from loss by chance. When less is sent for that, and what follows, is decided in `rate`.

use super::loss::Loss;
use crate::time::{SEC, Time};

/// A little less is sent than was delivered, so that a queue has time to empty; and never less than this share.
const MARGIN: f64 = 0.02;
const LEAST_GAIN: f64 = 0.4;
/// Loss that has grown so much is doubted at once.
const GREW: f64 = 1.25;
/// Less loss than this is not worth a doubt.
const LEAST: f64 = 0.02;
/// How long after the last try, microseconds, and how long at most once nothing was found several times; the cost is the
/// lost share of one round trip in so long.
const WAIT: u64 = 5 * SEC;
const WAIT_MOST: u64 = 40 * SEC;
/// Packets that say something.
const TELLING: f64 = 64.0;

#[derive(Debug)]
pub struct Doubt {
    packets: f64,
    lost: f64,
    /// The share that was lost before, and bytes per second that were delivered.
    before: f64,
    delivery: f64,
    at: Time,
    wait: u64,
    /// The share that the last try has confirmed.
    known: f64,
    /// The last try has found something: there may be more.
    found: bool,
}

impl Doubt {
    pub fn new(now: Time) -> Doubt {
        Doubt {
            packets: 0.0,
            lost: 0.0,
            before: 0.0,
            delivery: 0.0,
            at: now,
            wait: WAIT,
            known: 0.0,
            found: false,
        }
    }

    /// What is sent meanwhile, as a share of the capacity: what was delivered. Of that nothing would be lost if it were all
    /// the queue's doing.
    pub fn gain(&self) -> f64 {
        (1.0 - self.before - MARGIN).max(LEAST_GAIN)
    }

    pub fn is_due(&self, loss: &Loss, now: Time) -> bool {
        let grew = loss.share() > self.known * GREW + LEAST;
        self.found || grew || (loss.share() > LEAST && now.since(self.at) >= self.wait)
    }

    /// `delivery`: what is delivered at the full rate, bytes per second.
    pub fn begin(&mut self, loss: &Loss, delivery: f64, now: Time) {
        *self = Doubt {
            before: loss.share(),
            known: loss.share(),
            delivery,
            wait: (2 * self.wait).min(WAIT_MOST),
            ..Doubt::new(now)
        };
    }

    /// What became of a packet that was sent at the lower rate.
    pub fn record(&mut self, lost: bool) {
        self.packets += 1.0;
        self.lost += f64::from(u8::from(lost));
    }

    /// The share that gets lost by chance and the path's capacity, if that share is clearly less than what was taken for
    /// it. Three standard errors are clear; they are wider where losses come in bursts, by the square root of
    /// (1 + r) / (1 - r) for a chain in which neighbours are correlated by r.
    pub fn judge(&mut self, loss: &Loss) -> Option<(f64, f64)> {
        let share = self.lost / self.packets.max(1.0);
        let r = (loss.after_loss() - self.before) / (1.0 - self.before).max(0.05);
        let r = r.clamp(0.0, 0.9);
        let error = loss.deviation(self.packets) * ((1.0 + r) / (1.0 - r)).sqrt();
        if self.packets < TELLING || share + 3.0 * error >= self.before {
            return None;
        }
        (self.known, self.found, self.wait) = (share, true, WAIT);
        Some((share, self.delivery / (1.0 - share)))
    }
}
