//! What blocks add up to when each stands for others that were not drawn, and how sure that is.

use memtrace_common::{BLOCK_UNIT, Sample};

use crate::model::{Amount, Uncertainty};

/// Half the width of a normal distribution's middle 95 %, in standard deviations.
const Z_95: f64 = 1.96;

/// The Horvitz-Thompson estimate of a sum over blocks, from a Poisson sample of them
/// (Särndal, Swensson, Wretman: Model Assisted Survey Sampling, 2.8 and 3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    bytes: u64,
    /// In units of 1 / `BLOCK_UNIT`.
    blocks: u64,
    bytes_variance: f64,
    blocks_variance: f64,
    /// Blocks that it rests on.
    samples: u64,
}

impl Estimate {
    /// Adds a block.
    pub fn add(&mut self, sample: Sample) {
        self.bytes = self.bytes.saturating_add(sample.bytes());
        self.blocks = self.blocks.saturating_add(sample.blocks());
        self.samples += 1;
        if !sample.is_certain() {
            // Each block drawn adds (1 - p) / p^2 times the square of what it is.
            let mean = (1u64 << sample.shift()) as f64;
            let inverse = mean / sample.basis() as f64;
            let weight = inverse * (inverse - 1.0);
            self.blocks_variance += weight;
            self.bytes_variance += weight * (sample.size() as f64).powi(2);
        }
    }

    /// Adds what other blocks add up to.
    pub fn plus(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.bytes_variance += other.bytes_variance;
        self.blocks_variance += other.blocks_variance;
        self.samples += other.samples;
    }

    /// The sum.
    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount { bytes: self.bytes, blocks: (self.blocks + BLOCK_UNIT / 2) / BLOCK_UNIT }
    }

    /// How far off it may be.
    #[must_use]
    pub fn uncertainty(&self) -> Uncertainty {
        self.uncertainty_at(None)
    }

    /// The same of everything, which was drawn with that mean: where nothing was, something may have been there.
    #[must_use]
    pub fn uncertainty_at(&self, mean: Option<u64>) -> Uncertainty {
        if let Some(mean) = mean.filter(|_| self.samples == 0) {
            // The number drawn is about Poisson: with an expectation of 3 it is 0 in 5 % of cases.
            let blocks = 3 * mean / Sample::new(0, 0).basis();
            return Uncertainty { bytes: 3 * mean, blocks, samples: 0 };
        }
        let half = |variance: f64| (Z_95 * variance.sqrt()).round() as u64;
        Uncertainty {
            bytes: half(self.bytes_variance),
            blocks: half(self.blocks_variance),
            samples: self.samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::Sample;

    use super::Estimate;

    #[test]
    fn certain_blocks_add_no_doubt() {
        let mut estimate = Estimate::default();
        estimate.add(Sample::new(100, 0));
        estimate.add(Sample::new(1 << 20, 19));
        assert_eq!((estimate.amount().bytes, estimate.amount().blocks), ((1 << 20) + 100, 2));
        assert_eq!((estimate.uncertainty().bytes, estimate.uncertainty().samples), (0, 2));
    }

    /// A linear congruential generator (Knuth's MMIX): the same numbers every time.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn truth_lies_within_the_error_as_often_as_said() {
        const SHIFT: u64 = 12;
        let sizes = [1, 48, 200, 1000, 5000];
        let (blocks, bytes) = (5 * 4000, 4000 * sizes.iter().sum::<u64>());
        let mut state = 1;
        let (mut inside, mut sum) = ([0, 0], 0);
        for _ in 0..400 {
            let mut estimate = Estimate::default();
            for _ in 0..4000 {
                for size in sizes {
                    let sample = Sample::new(size, SHIFT);
                    if sample.is_certain() || random(&mut state) % (1 << SHIFT) < sample.basis() {
                        estimate.add(sample);
                    }
                }
            }
            let (amount, doubt) = (estimate.amount(), estimate.uncertainty());
            inside[0] += u32::from(amount.bytes.abs_diff(bytes) <= doubt.bytes);
            inside[1] += u32::from(amount.blocks.abs_diff(blocks) <= doubt.blocks);
            sum += amount.bytes;
        }
        for inside in inside {
            assert!((365..=395).contains(&inside), "{inside} of 400 within 95 %");
        }
        let mean = sum as f64 / 400.0;
        assert!((mean / bytes as f64 - 1.0).abs() < 0.005, "biased: {mean} instead of {bytes}");
    }
}
