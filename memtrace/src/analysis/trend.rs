//! Samples over time in bounded room, and robust slopes through them.

use std::time::Duration;

/// Samples kept; a power of two. A slope through all of them takes 8,128 pairs.
const KEPT: usize = 128;

/// Samples at regular intervals: when there are too many, every other one is dropped and the interval doubled.
#[derive(Clone, Debug)]
pub struct Series<T> {
    samples: Vec<(Duration, T)>,
    interval: Duration,
}

impl<T> Series<T> {
    /// An empty one, with `interval` between two samples at first.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { samples: Vec::new(), interval }
    }

    /// Whether a sample at `now` would be kept.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        // Timers are late or early by a little.
        self.samples.last().is_none_or(|(last, _)| now.saturating_sub(*last) >= self.interval.mul_f64(0.9))
    }

    /// Adds a sample.
    pub fn add(&mut self, now: Duration, sample: T) {
        self.samples.push((now, sample));
        if self.samples.len() > KEPT {
            // The first is kept always: growth counts from there.
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.interval *= 2;
        }
    }

    /// All, oldest first.
    #[must_use]
    pub fn samples(&self) -> &[(Duration, T)] {
        &self.samples
    }
}

/// A slope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// The median of the slopes of all pairs (Theil, 1950; Sen, 1968).
    pub median: f64,
    /// A quarter of the pairs have a smaller slope.
    pub low: f64,
}

/// The slope through points. `None` with less than two different abscissas.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, &(x, y)) in points.iter().enumerate() {
        for &(later, value) in points.iter().skip(index + 1) {
            if later > x {
                slopes.push((value - y) / (later - x));
            }
        }
    }
    let quantile = |slopes: &mut Vec<f64>, part: f64| {
        let place = ((slopes.len().checked_sub(1)?) as f64 * part) as usize;
        Some(*slopes.select_nth_unstable_by(place, f64::total_cmp).1)
    };
    Some(Slope { low: quantile(&mut slopes, 0.25)?, median: quantile(&mut slopes, 0.5)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{KEPT, Series, slope};

    #[test]
    fn a_long_series_is_bounded_and_keeps_its_first_sample() {
        let mut series = Series::new(Duration::from_secs(1));
        for second in 0..10_000 {
            let now = Duration::from_secs(second);
            if series.is_due(now) {
                series.add(now, second);
            }
        }
        let samples = series.samples();
        assert!(samples.len() <= KEPT && samples.len() >= KEPT / 2 - 1, "{}", samples.len());
        assert_eq!(samples.first(), Some(&(Duration::ZERO, 0)));
        let gaps: Vec<_> = samples.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(most * 8 <= least * 9, "{gaps:?}");
    }

    #[test]
    fn a_few_outliers_do_not_bend_a_slope() {
        let mut points: Vec<(f64, f64)> = (0..40).map(|x| (f64::from(x), 3.0 * f64::from(x))).collect();
        points[5].1 = 1e9;
        points[30].1 = -1e9;
        let found = slope(&points).unwrap();
        assert!((found.median - 3.0).abs() < 1e-9 && found.low > 0.0, "{found:?}");
    }

    #[test]
    fn noise_has_no_direction() {
        let points: Vec<(f64, f64)> = (0..40).map(|x| (f64::from(x), f64::from(x % 3))).collect();
        let found = slope(&points).unwrap();
        assert!(found.median.abs() < 0.05 && found.low < 0.0, "{found:?}");
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[]), None);
    }
}
