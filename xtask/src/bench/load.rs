//! What a traced program does meanwhile, and what that costs.

use std::time::{Duration, Instant};

use anyhow::Result;

/// A part of a window, which determines how many operations the next part may have: the tracer may change its mode
/// in between.
const PART: Duration = Duration::from_millis(50);
/// The next part has at most so many times the operations.
const GROWTH: f64 = 8.0;

/// A program that does operations on request.
pub(super) trait Load {
    fn pid(&self) -> u32;

    /// Does so many operations; ns for each.
    fn cost(&mut self, operations: u64) -> Result<f64>;

    /// Operations without which there is no figure.
    fn least(&self) -> u64 {
        1
    }
}

/// Mean ns per operation over at least `time`.
pub(super) fn mean_over(load: &mut dyn Load, time: Duration) -> Result<f64> {
    let part = PART.min(time);
    let start = Instant::now();
    let mut operations = load.least();
    let (mut all, mut spent) = (0.0, 0.0);
    while start.elapsed() < time {
        let cost = load.cost(operations)?;
        all += operations as f64;
        spent += cost * operations as f64;
        operations = next_part(operations, cost, part).max(load.least());
    }
    Ok(spent / all)
}

/// How many operations fill a part, after so many have cost so much each.
fn next_part(operations: u64, cost: f64, part: Duration) -> u64 {
    let wanted = part.as_nanos() as f64 / cost.max(0.1);
    wanted.min(operations as f64 * GROWTH) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dearer from the second question on.
    struct Twice(u64);

    impl Load for Twice {
        fn pid(&self) -> u32 {
            0
        }

        fn cost(&mut self, operations: u64) -> Result<f64> {
            self.0 += 1;
            let cost = if self.0 == 1 { 100.0 } else { 1000.0 };
            std::thread::sleep(Duration::from_nanos((cost * operations as f64) as u64));
            Ok(cost)
        }

        fn least(&self) -> u64 {
            1000
        }
    }

    #[test]
    fn a_window_is_filled_and_weighed_by_operations() {
        let mean = mean_over(&mut Twice(0), Duration::from_millis(20)).unwrap();
        assert!((800.0..1000.0).contains(&mean), "{mean}");
    }

    #[test]
    fn parts_grow_step_by_step_and_shrink_at_once() {
        let part = Duration::from_micros(1);
        assert_eq!(next_part(10, 1.0, part), 80);
        assert_eq!(next_part(1000, 10.0, part), 100);
        assert_eq!(next_part(1, 0.0, part), 8);
    }
}
