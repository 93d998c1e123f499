//! Whether a path loses more than is by chance, which means that too much is sent: by a round's share where that is plain,
//! and by what adds up over rounds where it is little. Which share is by chance is told by `loss_probe`.

use super::loss::{Loss, REMEMBERED};

/// Packets from which a share that is lost is one.
const TELLING: u64 = 30;
/// A round has to lose so much more than is excused, as a share, and this many standard errors.
const PLAIN_LEAST: f64 = 0.02;
const ERRORS: f64 = 3.0;
/// So much more needs no second round to be believed.
const PLAIN: f64 = 0.08;
/// How much more than is excused may get lost for long, as a share.
const TOLERATED: f64 = 0.01;
/// Packets over which that is counted.
const LONG: f64 = 1000.0;
/// Losses come in bursts until they are known not to: the least correlation of neighbours that is reckoned with.
const CORRELATED: f64 = 0.3;
/// The least loss that is reckoned with for errors, as a share.
const LEAST: f64 = 0.005;

#[derive(Debug, Default)]
pub struct Overload {
    /// Packets that arrived and that were lost in rounds too short to tell a share.
    arrived: u64,
    lost: u64,
    /// Packets lost beyond what is tolerated, over the last rounds.
    adds_up: f64,
    rounds: u32,
}

/// What a round's losses say.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The share that was lost; if too few packets tell, the share that is excused.
    pub share: f64,
    /// More than is excused.
    pub excess: bool,
    /// And surely so.
    pub sure: bool,
    /// No round shows it, but the last many together do.
    pub lasts: bool,
}

impl Overload {
    /// A round is over in which so many packets arrived and were lost; `excused`: share that is by chance.
    pub fn end_round(&mut self, arrived: u64, lost: u64, excused: f64, loss: &Loss) -> Verdict {
        let (arrived, lost) = (self.arrived + arrived, self.lost + lost);
        let n = arrived + lost;
        let told = n >= TELLING;
        (self.arrived, self.lost) = if told { (0, 0) } else { (arrived, lost) };
        if !told {
            return Verdict {
                share: excused,
                excess: false,
                sure: false,
                lasts: false,
            };
        }
        let share = lost as f64 / n as f64;
        let variance = variance(excused, loss);
        let margin = |packets: f64| (ERRORS * (variance / packets).sqrt()).max(PLAIN_LEAST);
        let beyond = lost as f64 - n as f64 * (excused + TOLERATED);
        self.adds_up = (self.adds_up + beyond).clamp(0.0, 0.1 * LONG.max(n as f64));
        let long = ERRORS * (variance * LONG).sqrt().max(4.0);
        let adds_up = self.adds_up > long;
        let plain = share > excused + margin(n as f64);
        let excess = plain || adds_up;
        let sure = excess && (self.rounds > 0 || share > excused + PLAIN);
        if excess {
            self.adds_up = 0.0;
        }
        self.rounds = if excess { self.rounds + 1 } else { 0 };
        Verdict {
            share,
            excess,
            sure,
            lasts: adds_up && !plain && loss.share() > excused + margin(REMEMBERED),
        }
    }

    /// Rounds in a row that lost more than is excused.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// What was lost before counts no longer.
    pub fn reset(&mut self) {
        *self = Overload::default();
    }
}

/// The variance of a packet's fate, wider where losses come in bursts: by (1 + r) / (1 - r) for a chain in which neighbours
/// are correlated by r.
fn variance(excused: f64, loss: &Loss) -> f64 {
    let p = excused.max(LEAST);
    let r = ((loss.after_loss() - p) / (1.0 - p)).clamp(CORRELATED, 0.9);
    p * (1.0 - p) * (1.0 + r) / (1.0 - r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_by_chance_is_no_overload() {
        let mut overload = Overload::default();
        let loss = Loss::default();
        for lost in [40, 60, 55, 45, 50, 62, 38] {
            assert!(!overload.end_round(1000 - lost, lost, 0.05, &loss).excess);
        }
    }

    #[test]
    fn plain_loss_is_seen_in_a_round_and_little_in_some() {
        let mut overload = Overload::default();
        let loss = Loss::default();
        assert!(overload.end_round(800, 200, 0.05, &loss).sure);
        let mut overload = Overload::default();
        let first = (1..50).find(|_| overload.end_round(970, 30, 0.005, &loss).excess);
        assert!(first.is_some_and(|n| n < 5), "{first:?}");
    }

    #[test]
    fn few_packets_wait_for_more() {
        let mut overload = Overload::default();
        let loss = Loss::default();
        assert!(!overload.end_round(5, 15, 0.005, &loss).excess);
        assert!(overload.end_round(5, 15, 0.005, &loss).sure);
    }
}
