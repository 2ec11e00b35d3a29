//! The time in which allocations were seen, as a clock of its own: it stands still in gaps.

use std::time::Duration;

/// The most points that are kept. Then every second one is dropped, but for the first two.
const MOST: usize = 1024;

/// What a clock that stands still in gaps has shown at moments of the usual one.
#[derive(Clone, Debug, Default)]
pub struct SeenClock {
    /// The usual time and that seen, both in seconds and in order: lines lead from one point to the next.
    points: Vec<(f32, f32)>,
}

impl SeenClock {
    /// Notes that a gap begins or ends at `time`, when so much time was `seen`.
    pub fn note(&mut self, time: Duration, seen: Duration) {
        let last = self.points.last().map_or(f32::MIN, |(last, _)| *last);
        self.points.push((time.as_secs_f32().max(last), seen.as_secs_f32()));
        if self.points.len() > MOST {
            // The first two are kept always: until the first gap, all is seen.
            let mut place = 0;
            self.points.retain(|_| {
                place += 1;
                place <= 2 || place % 2 == 1
            });
        }
    }

    /// What it shows at `time`, in seconds. Without a point it is the usual clock.
    #[must_use]
    pub fn at(&self, time: Duration) -> f32 {
        let time = time.as_secs_f32();
        let next = self.points.partition_point(|(at, _)| *at <= time);
        let before = next.checked_sub(1).and_then(|before| self.points.get(before));
        match (before, self.points.get(next)) {
            (Some((begin, seen)), Some((end, more))) => {
                seen + (more - seen) * (time - begin) / (end - begin).max(1e-6)
            }
            (Some((begin, seen)), None) => seen + (time - begin),
            (None, Some((end, seen))) => seen - (end - time),
            (None, None) => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MOST, SeenClock};

    fn second(time: u64) -> Duration {
        Duration::from_secs(time)
    }

    #[test]
    fn it_stands_still_in_gaps() {
        let mut clock = SeenClock::default();
        assert_eq!(clock.at(second(7)), 7.0);
        for (time, seen) in [(10, 0), (14, 4), (20, 4), (22, 6)] {
            clock.note(second(time), second(seen));
        }
        let shown = [9, 10, 12, 14, 17, 20, 21, 25].map(|time| clock.at(second(time)));
        assert_eq!(shown, [-1.0, 0.0, 2.0, 4.0, 4.0, 4.0, 5.0, 9.0]);
    }

    #[test]
    fn it_stays_small_and_about_right() {
        let mut clock = SeenClock::default();
        // All of the first 100 s, then one second of ten.
        clock.note(second(0), second(0));
        clock.note(second(100), second(100));
        for turn in 0..5000 {
            clock.note(second(109 + 10 * turn), second(100 + turn));
            clock.note(second(110 + 10 * turn), second(101 + turn));
        }
        assert!(clock.points.len() <= MOST);
        for (time, about) in [(0, 0.0), (50, 50.0), (100, 100.0), (10_100, 1100.0), (40_100, 4100.0)] {
            let shown = clock.at(second(time));
            assert!((shown - about).abs() < 20.0, "{time}: {shown}");
        }
    }
}
