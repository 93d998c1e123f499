//! The probe for loss: which share is lost by chance. Loss is assumed to be caused by what we send until it stays while less
//! is sent; then that share is excused, and the window makes up for it. A queue that is too short to be seen, or a policer,
//! drops nothing while less is sent than it passed before.

use crate::time::Instant;

/// How many losses have to be expected, if loss is by chance, before it is judged.
const EXPECTED_LOSSES_MIN: f64 = 14.0;
/// What is sent during a probe, as a share of what was delivered: a policer drops nothing of that.
const PROBE_RATE: f64 = 0.85;
/// The share of the loss that has to stay to be by chance.
const STAYING_SHARE: f64 = 0.6;
/// The share that has to stay if there are few packets to judge by, since losses come in bursts.
const STAYING_SHARE_FEW: f64 = 0.25;
/// The largest standard error that counts: few packets do not prove that more is by chance.
const STANDARD_ERROR_MAX: f64 = 0.02;
/// The fewest rounds of a probe.
const PROBE_ROUNDS_MIN: u32 = 3;
/// The most rounds of a probe.
const PROBE_ROUNDS_MAX: u32 = 9;
/// How much more than what was proven is excused, as a share of it; or the standard error of what was seen, if that is
/// more.
const SLACK_OF_PROVEN: f64 = 0.05;
/// How much more than what was proven is excused besides, as a share of all packets.
const SLACK_OF_ALL: f64 = 0.005;
/// More loss than this is never taken for chance.
pub(super) const CHANCE_MAX: f64 = 0.65;

#[derive(Clone, Copy, Debug)]
struct Probe {
    /// The share that was lost before.
    before: f64,
    rounds: u32,
    /// Packets that were sent at the lower rate and whose fate is known, and those that were lost.
    packets: f64,
    lost: f64,
}

impl Probe {
    fn tells(&self) -> bool {
        self.packets * self.before >= EXPECTED_LOSSES_MIN
    }

    fn needs_more(&self) -> bool {
        self.rounds < PROBE_ROUNDS_MIN || (!self.tells() && self.rounds < PROBE_ROUNDS_MAX)
    }
}

/// The probe, and the share that is excused.
#[derive(Debug, Default)]
pub(super) struct LossProbe {
    /// The share that was seen to stay at a lower rate, and of how many packets.
    proven: f64,
    packets: f64,
    probe: Option<Probe>,
    /// When the next probe may begin.
    pub(super) next_at: Instant,
    /// The window with which the probe has interrupted Startup, bytes.
    pub(super) interrupted: Option<f64>,
}

impl LossProbe {
    /// What is excused, without the probe that may be under way.
    pub(super) fn known(&self) -> LossProbe {
        LossProbe {
            proven: self.proven,
            packets: self.packets,
            ..LossProbe::default()
        }
    }

    /// Whether a probe is under way.
    pub(super) fn is_on(&self) -> bool {
        self.probe.is_some()
    }

    /// What is sent during a probe, as a share of what was delivered. None: there is no probe.
    pub(super) fn sends(&self) -> Option<f64> {
        let probe = self.probe.as_ref()?;
        probe.needs_more().then_some(PROBE_RATE)
    }

    /// The share that is excused, of a `share` that is lost in the long run.
    pub(super) fn excused(&self, share: f64) -> f64 {
        let variance = self.proven * (1.0 - self.proven) / self.packets.max(1.0);
        let slack = (self.proven * SLACK_OF_PROVEN + SLACK_OF_ALL)
            .max(variance.sqrt().min(STANDARD_ERROR_MAX));
        share.min((self.proven + slack).min(CHANCE_MAX))
    }

    /// Loss of this share, of this many packets, was seen not to depend on the rate.
    pub(super) fn prove(&mut self, share: f64, packets: f64) {
        if share > self.proven {
            (self.proven, self.packets) = (share, packets);
        }
    }

    /// Some loss was seen to be by chance.
    pub(super) fn has_proof(&self) -> bool {
        self.proven > 0.0
    }

    /// From now on less is sent; `share`: what is lost of what was sent before, well below 1.
    pub(super) fn begin(&mut self, share: f64) {
        self.probe = Some(Probe {
            before: share,
            rounds: 0,
            packets: 0.0,
            lost: 0.0,
        });
    }

    /// Whether what is sent now counts: in the first round, the surplus from before is still in the queue.
    pub(super) fn watches(&self) -> bool {
        let watches = |probe: &Probe| probe.rounds > 0 && probe.needs_more();
        self.probe.as_ref().is_some_and(watches)
    }

    /// What became of a packet that counts.
    pub(super) fn record(&mut self, lost: bool) {
        if let Some(probe) = &mut self.probe {
            probe.packets += 1.0;
            probe.lost += f64::from(u8::from(lost));
        }
    }

    /// A round is over. Returns whether the loss has stayed, if a probe has ended with it.
    pub(super) fn end_round(&mut self) -> Option<bool> {
        let probe = self.probe.as_mut()?;
        // one more round, in which what was sent is acknowledged
        let more = probe.needs_more();
        probe.rounds += 1;
        if more {
            return None;
        }
        let share = probe.lost / probe.packets.max(1.0);
        let tells = probe.tells();
        let stays = share
            > probe.before
                * if tells {
                    STAYING_SHARE
                } else {
                    STAYING_SHARE_FEW
                };
        // nothing of what is sent now is too much: all that still gets lost is by chance
        if tells || stays || share < self.proven {
            (self.proven, self.packets) = (share, probe.packets);
        }
        self.probe = None;
        Some(stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the packets of each round this share is lost while less is sent.
    fn probe(before: f64, share: f64) -> f64 {
        let mut probe = LossProbe::default();
        probe.begin(before);
        for round in 0.. {
            assert!(round < 20);
            for n in 0..200 {
                probe.record(f64::from(n) < 200.0 * share);
            }
            if probe.end_round().is_some() {
                break;
            }
        }
        assert_eq!(probe.sends(), None);
        probe.excused(1.0)
    }

    #[test]
    fn loss_that_stays_is_excused() {
        assert!((0.1..0.12).contains(&probe(0.1, 0.1)));
        assert!((0.3..0.33).contains(&probe(0.35, 0.3)));
    }

    #[test]
    fn loss_that_shrinks_with_the_rate_is_not() {
        assert!(probe(0.5, 0.0) <= SLACK_OF_ALL);
        assert!(probe(0.2, 0.05) < 0.06, "but for what is still lost");
    }
}
