//! How often a path loses packets, and whether it loses them in bursts. This only counts; what follows is decided elsewhere.

/// About how many packets the estimate covers. At 10 % loss its standard error is 0.5 %.
pub(crate) const REMEMBERED: f64 = 2048.0;
/// The weight of one more packet.
const PACKET_WEIGHT: f64 = 1.0 / REMEMBERED;
/// The loss that a path is taken to have before anything is known: thin flows are protected from their first packet on.
const PRIOR_LOSS: f64 = 0.02;
/// The packets that this assumption weighs: a clean path has outgrown it after a few hundred.
const PRIOR_PACKETS: f64 = 50.0;

/// Share of packets lost, and share lost right after a lost one.
#[derive(Clone, Debug)]
pub struct Loss {
    packets: f64,
    lost: f64,
    /// Packets whose predecessor was lost, and how many of these were lost too.
    after_loss: f64,
    lost_after_loss: f64,
    previous_lost: bool,
    /// How much of `packets` is still the first assumption.
    prior: f64,
}

impl Default for Loss {
    fn default() -> Self {
        Loss {
            packets: PRIOR_PACKETS,
            lost: PRIOR_PACKETS * PRIOR_LOSS,
            after_loss: 1.0,
            lost_after_loss: PRIOR_LOSS,
            previous_lost: false,
            prior: PRIOR_PACKETS,
        }
    }
}

impl Loss {
    /// Takes the fate of the next packet in the order of sending.
    pub fn record(&mut self, lost: bool) {
        let hit = f64::from(u8::from(lost));
        self.packets += 1.0 - self.packets * PACKET_WEIGHT;
        self.lost += hit - self.lost * PACKET_WEIGHT;
        self.prior -= self.prior * PACKET_WEIGHT;
        if self.previous_lost {
            // there are fewer of these, and a burst is worth remembering longer
            self.after_loss += 1.0 - self.after_loss * PACKET_WEIGHT * 8.0;
            self.lost_after_loss += hit - self.lost_after_loss * PACKET_WEIGHT * 8.0;
        }
        self.previous_lost = lost;
    }

    /// Takes back a loss that was none: the packet's acknowledgement came late.
    pub fn retract(&mut self) {
        self.lost = (self.lost - 1.0).max(0.0);
    }

    /// Chance that a packet is lost, 0 to 1.
    pub fn share(&self) -> f64 {
        (self.lost / self.packets).clamp(0.0, 1.0)
    }

    /// The share that was seen, without the first assumption, 0 to 1. None: fewer packets were seen than the assumption has.
    pub fn seen(&self) -> Option<f64> {
        let packets = self.packets - self.prior;
        let lost = self.lost - self.prior * PRIOR_LOSS;
        (packets >= PRIOR_PACKETS).then(|| (lost / packets).clamp(0.0, 1.0))
    }

    /// Chance that a packet is lost when the one before it was: the same as `share` when losses are independent.
    pub fn after_loss(&self) -> f64 {
        (self.lost_after_loss / self.after_loss)
            .clamp(0.0, 0.95)
            .max(self.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    #[test]
    fn tells_independent_losses_from_bursts() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut even, mut bursty, mut in_burst) = (Loss::default(), Loss::default(), false);
        for _ in 0..20_000 {
            even.record(rng.random_bool(0.05));
            in_burst = rng.random_bool(if in_burst { 0.75 } else { 0.25 * 0.05 / 0.95 });
            bursty.record(in_burst);
        }
        assert!((even.share() - 0.05).abs() < 0.015 && (bursty.share() - 0.05).abs() < 0.03);
        assert!(even.after_loss() < 0.15, "{}", even.after_loss());
        assert!(bursty.after_loss() > 0.6, "{}", bursty.after_loss());
    }

    #[test]
    fn a_clean_path_outgrows_the_first_assumption() {
        let mut loss = Loss::default();
        assert!(loss.share() > 0.01);
        (0..400).for_each(|_| loss.record(false));
        assert!(loss.share() < 0.003);
    }

    #[test]
    fn what_was_seen_is_told_without_the_assumption() {
        let mut loss = Loss::default();
        assert_eq!(loss.seen(), None);
        (0..100).for_each(|_| loss.record(false));
        assert!(loss.seen().is_some_and(|seen| seen < 1e-6) && loss.share() > 0.005);
        (0..1000).for_each(|i| loss.record(i % 4 == 0));
        assert!(loss.seen().is_some_and(|seen| seen > 0.2 && seen < 0.26));
    }
}
