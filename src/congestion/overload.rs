//! Whether a path loses more than by chance, which means that too much is sent. A large excess shows in one round, a small
//! one adds up over rounds. `loss_probe` finds which share is by chance.

use super::loss::{Loss, REMEMBERED};

/// The fewest packets of which the share that is lost says something.
const ROUND_PACKETS_MIN: u64 = 30;
/// How much more than is excused a round has to lose, as a share, to be one of overload.
const EXCESS_MIN: f64 = 0.02;
/// How much more than is excused it has to lose besides, in standard errors.
const EXCESS_STANDARD_ERRORS: f64 = 3.0;
/// An excess of this share needs no second round to be believed.
const EXCESS_PLAIN: f64 = 0.08;
/// How much more than is excused may get lost for long, as a share.
const LASTING_EXCESS_TOLERATED: f64 = 0.01;
/// The packets over which a lasting excess is counted.
const LASTING_PACKETS: f64 = 1000.0;
/// The least correlation of neighbours that is assumed: losses come in bursts until they are known not to.
const CORRELATION_MIN: f64 = 0.3;
/// The least loss that standard errors are computed from, as a share.
const LOSS_MIN: f64 = 0.005;

/// What a path loses beyond what is excused.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// Packets that arrived and that were lost in rounds with too few packets to judge.
    arrived: u64,
    lost: u64,
    /// Packets lost beyond what is tolerated, over the last rounds.
    adds_up: f64,
    rounds: u32,
}

/// What a round's losses say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// The share that was lost; if there are too few packets to judge, the share that is excused.
    pub share: f64,
    /// More than is excused.
    pub excess: bool,
    /// Far more than is excused.
    pub sure: bool,
    /// More than is excused, as only many rounds together show.
    pub lasts: bool,
}

impl Overload {
    /// A round is over in which this many packets arrived and were lost; `excused`: the share that is by chance.
    pub(super) fn end_round(
        &mut self,
        arrived: u64,
        lost: u64,
        excused: f64,
        loss: &Loss,
    ) -> Verdict {
        let (arrived, lost) = (self.arrived + arrived, self.lost + lost);
        let n = arrived + lost;
        let told = n >= ROUND_PACKETS_MIN;
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
        let margin =
            |packets: f64| (EXCESS_STANDARD_ERRORS * (variance / packets).sqrt()).max(EXCESS_MIN);
        let beyond = lost as f64 - n as f64 * (excused + LASTING_EXCESS_TOLERATED);
        self.adds_up = (self.adds_up + beyond).clamp(0.0, 0.1 * LASTING_PACKETS.max(n as f64));
        let long = EXCESS_STANDARD_ERRORS * (variance * LASTING_PACKETS).sqrt().max(4.0);
        let adds_up = self.adds_up > long;
        let plain = share > excused + margin(n as f64);
        let excess = plain || adds_up;
        let sure = excess && (self.rounds > 0 || share > excused + EXCESS_PLAIN);
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
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// What was lost before counts no longer.
    pub(super) fn reset(&mut self) {
        *self = Overload::default();
    }
}

/// The variance of a packet's fate, wider where losses come in bursts: by (1 + r) / (1 - r) for a chain in which neighbours
/// are correlated by r.
fn variance(excused: f64, loss: &Loss) -> f64 {
    let p = excused.max(LOSS_MIN);
    let r = ((loss.after_loss() - p) / (1.0 - p)).clamp(CORRELATION_MIN, 0.9);
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
