//! Estimates of sums over blocks from samples, and their errors.

use memtrace_common::{BLOCK_UNIT, Sample};

use crate::profile::{Amount, Uncertainty};

/// Half the width of a normal distribution's middle 95 %, in standard deviations.
const Z_95: f64 = 1.96;

/// A sum over sampled blocks, with its uncertainty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Drawn {
    /// What they represent.
    sum: f64,
    /// Its variance.
    variance: f64,
    /// For the block with the heaviest weight: what similar blocks add, on average, before one of them is sampled, and
    /// the variance of that.
    unseen: (f64, f64),
}

impl Drawn {
    /// Adds a value (bytes, or one block) that represents `inverse` times itself.
    fn add(&mut self, value: f64, inverse: f64) {
        // Each sampled block adds (1 - p) / p^2 times the square of its value.
        let variance = inverse * (inverse - 1.0) * value.powi(2);
        self.sum += inverse * value;
        self.variance += variance;
        self.could_miss((inverse - 1.0) * value, variance);
    }

    /// There may be blocks that were not sampled, as many as are missed before one is sampled: that number has a geometric
    /// distribution with the mean (1 - p) / p and the variance (1 - p) / p^2.
    fn could_miss(&mut self, mean: f64, variance: f64) {
        if mean > self.unseen.0 {
            self.unseen = (mean, variance);
        }
    }

    fn plus(&mut self, other: &Self) {
        self.sum += other.sum;
        self.variance += other.variance;
        self.could_miss(other.unseen.0, other.unseen.1);
    }

    /// How far the true value may be above the sum.
    ///
    /// Sums of few, unequal weights are skewed: if a block that represents thousands happens not to be sampled, neither
    /// the sum nor its variance shows it. The upper limit is that of Fay and Feuer (Confidence intervals for directly
    /// standardized rates, Statistics in Medicine 16, 1997): the quantile of a gamma distribution with the mean and
    /// variance of the sum and of one more of the heaviest weight. It has at least the probability that is promised; the
    /// lower limit is nearer, and the same width is given on both sides.
    fn doubt(&self) -> f64 {
        let (mean, variance) = (self.sum + self.unseen.0, self.variance + self.unseen.1);
        if variance <= 0.0 {
            return 0.0;
        }
        // The gamma distribution's quantile by Wilson and Hilferty (1931), within 1 % where it is not very narrow.
        let spread = variance.sqrt() / (3.0 * mean);
        let gamma = mean * (1.0 - spread.powi(2) + Z_95 * spread).max(0.0).powi(3);
        let normal = mean + Z_95 * variance.sqrt();
        gamma.max(normal) - self.sum
    }
}

/// The Horvitz-Thompson estimate of a sum over blocks, from a Poisson sample of them
/// (Särndal, Swensson, Wretman: Model Assisted Survey Sampling, 2.8 and 3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    bytes: u64,
    /// In units of 1 / `BLOCK_UNIT`.
    blocks: u64,
    drawn_bytes: Drawn,
    drawn_blocks: Drawn,
    /// Blocks that were sampled for it.
    samples: u64,
}

impl Estimate {
    /// Adds a block.
    pub fn add(&mut self, sample: Sample) {
        self.bytes = self.bytes.saturating_add(sample.bytes());
        self.blocks = self.blocks.saturating_add(sample.blocks());
        self.samples += 1;
        if !sample.is_certain() {
            let mean = (1u64 << sample.shift()) as f64;
            let inverse = mean / sample.basis() as f64;
            self.drawn_blocks.add(1.0, inverse);
            self.drawn_bytes.add(sample.size() as f64, inverse);
        }
    }

    /// Adds another estimate.
    pub fn plus(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.drawn_bytes.plus(&other.drawn_bytes);
        self.drawn_blocks.plus(&other.drawn_blocks);
        self.samples += other.samples;
    }

    /// The sum.
    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount { bytes: self.bytes, blocks: (self.blocks + BLOCK_UNIT / 2) / BLOCK_UNIT }
    }

    /// Its error, if no block is much smaller than the sampled ones: the blocks of one stack are similar.
    #[must_use]
    pub fn uncertainty(&self) -> Uncertainty {
        self.uncertainty_at(None)
    }

    /// The error of the total, sampled with that mean: there may be unsampled blocks of any size.
    #[must_use]
    pub fn uncertainty_at(&self, mean: Option<u64>) -> Uncertainty {
        let (mut bytes, mut blocks) = (self.drawn_bytes, self.drawn_blocks);
        if let Some(mean) = mean {
            let mean = mean as f64;
            let inverse = (mean / Sample::new(0, 0).basis() as f64).max(1.0);
            blocks.could_miss(inverse - 1.0, inverse * (inverse - 1.0));
            bytes.could_miss(mean, mean.powi(2));
        }
        Uncertainty {
            bytes: bytes.doubt().round() as u64,
            blocks: blocks.doubt().round() as u64,
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

    /// SplitMix64 (Steele, Lea, Flood 2014): the same numbers every time.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// How many of 400 samples of some sizes and numbers, taken with that shift, have the true value within their error: of
    /// bytes, of blocks; and the mean estimate of bytes.
    fn covered(shift: u64, mixture: &[(u64, u64)]) -> ([u32; 2], f64) {
        let blocks: u64 = mixture.iter().map(|(_, number)| number).sum();
        let bytes: u64 = mixture.iter().map(|(size, number)| size * number).sum();
        let mut state = 1;
        let (mut inside, mut sum) = ([0, 0], 0.0);
        for _ in 0..400 {
            let mut estimate = Estimate::default();
            for &(size, number) in mixture {
                let sample = Sample::new(size, shift);
                for _ in 0..number {
                    if sample.is_certain() || random(&mut state) % (1 << shift) < sample.basis() {
                        estimate.add(sample);
                    }
                }
            }
            let (amount, doubt) = (estimate.amount(), estimate.uncertainty_at(Some(1 << shift)));
            inside[0] += u32::from(amount.bytes.abs_diff(bytes) <= doubt.bytes);
            inside[1] += u32::from(amount.blocks.abs_diff(blocks) <= doubt.blocks);
            sum += amount.bytes as f64;
        }
        (inside, sum / 400.0 / bytes as f64)
    }

    #[test]
    fn truth_lies_within_the_error_as_often_as_said() {
        let (inside, mean) = covered(12, &[1, 48, 200, 1000, 5000].map(|size| (size, 4000)));
        for inside in inside {
            assert!(inside >= 372, "{inside} of 400 within 95 %");
        }
        assert!((mean - 1.0).abs() < 0.005, "biased: {mean} of the truth");
    }

    /// Of few tiny blocks none may be sampled, and each sampled one represents thousands.
    #[test]
    fn tiny_blocks_that_were_not_drawn_are_within_the_error() {
        let mixtures: [(u64, &[(u64, u64)]); 6] = [
            (19, &[(8, 1000), (4096, 500), (1 << 20, 5)]),
            (19, &[(16, 9000), (100, 9000), (20_000, 300)]),
            (19, &[(1, 30_000), (400, 5000)]),
            (12, &[(8, 40), (48, 300), (1000, 1000)]),
            (12, &[(24, 400), (5000, 100)]),
            (6, &[(1, 3), (40, 50), (64, 100)]),
        ];
        for (shift, mixture) in mixtures {
            let (inside, _) = covered(shift, mixture);
            for inside in inside {
                assert!(inside >= 372, "{inside} of 400 within 95 %: {mixture:?} at {shift}");
            }
        }
    }
}
