//! Ages of live blocks, by stack.

use std::time::Duration;

use memtrace_common::{BLOCK_UNIT, LIFETIME_CLASSES, Sample, TIME_SHIFT, lifetime_class};

/// Parts of the time since a stack first allocated.
pub const PARTS: usize = 16;

/// The live blocks of a stack, by age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Living {
    /// Blocks counted.
    pub blocks: u32,
    /// The same by class of age, the classes being those of lifetimes.
    pub ages: [u32; LIFETIME_CLASSES],
    /// The same by part of the stack's time in which they were allocated, the earliest first.
    pub births: [u32; PARTS],
    /// What they stand for: blocks, by part.
    pub weights: [f32; PARTS],
    /// What they stand for: bytes, by part.
    pub bytes: [f32; PARTS],
}

/// The live blocks of all stacks.
#[derive(Clone, Debug, Default)]
pub struct Census {
    now: Duration,
    /// Places in `stacks` plus 1, by slot.
    places: Vec<u32>,
    stacks: Vec<(Living, Span)>,
}

/// The time of a stack.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    begin: f32,
    parts_per_second: f32,
}

impl Census {
    /// Counts at `now` the blocks of stacks with these slots, each of which held nothing before that time.
    #[must_use]
    pub fn new(now: Duration, stacks: impl IntoIterator<Item = (u32, Duration)>) -> Self {
        let mut census = Self { now, ..Self::default() };
        for (slot, begin) in stacks {
            let seconds = now.saturating_sub(begin).as_secs_f32().max(1e-3);
            let span = Span { begin: begin.as_secs_f32(), parts_per_second: PARTS as f32 / seconds };
            let index = slot as usize;
            if census.places.len() <= index {
                census.places.resize(index + 1, 0);
            }
            census.stacks.push((Living::default(), span));
            if let Some(place) = census.places.get_mut(index) {
                *place = census.stacks.len() as u32;
            }
        }
        census
    }

    /// Adds a block that was allocated at `time`.
    pub fn add(&mut self, slot: u32, time: Duration, sample: Sample) {
        let place = self.places.get(slot as usize).copied().unwrap_or_default();
        let stack = (place as usize).checked_sub(1).and_then(|place| self.stacks.get_mut(place));
        let Some((living, span)) = stack else { return };
        let age = self.now.saturating_sub(time);
        living.blocks += 1;
        if let Some(count) = living.ages.get_mut(class_of(age)) {
            *count += 1;
        }
        let part = ((time.as_secs_f32() - span.begin) * span.parts_per_second) as usize;
        let part = part.min(PARTS - 1);
        if let Some(count) = living.births.get_mut(part) {
            *count += 1;
        }
        if let Some(weight) = living.weights.get_mut(part) {
            *weight += sample.blocks() as f32 / BLOCK_UNIT as f32;
        }
        if let Some(bytes) = living.bytes.get_mut(part) {
            *bytes += sample.bytes() as f32;
        }
    }

    /// The live blocks of a stack.
    #[must_use]
    pub fn of(&self, slot: u32) -> Option<&Living> {
        let place = self.places.get(slot as usize).copied().unwrap_or_default();
        (place as usize).checked_sub(1).and_then(|place| self.stacks.get(place)).map(|(living, _)| living)
    }
}

fn class_of(age: Duration) -> usize {
    lifetime_class(u32::try_from(age.as_nanos() >> TIME_SHIFT).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memtrace_common::Sample;

    use super::{Census, class_of};
    use crate::profile::lifetime_begin;

    #[test]
    fn blocks_are_counted_by_age_and_birth() {
        let seconds = Duration::from_secs;
        let mut census = Census::new(seconds(40), [(3, seconds(8)), (1, seconds(0))]);
        for time in [9, 20, 39, 39] {
            census.add(3, seconds(time), Sample::new(100, 0));
        }
        census.add(2, seconds(1), Sample::new(1, 0));
        let living = census.of(3).unwrap();
        assert_eq!((living.blocks, living.births[0], living.births[6], living.births[15]), (4, 1, 1, 2));
        assert_eq!((living.bytes[15], living.weights[15]), (200.0, 2.0));
        assert_eq!((living.ages[class_of(seconds(20))], living.ages[class_of(seconds(1))]), (2, 2));
        assert_eq!((census.of(1).unwrap().blocks, census.of(2)), (0, None));
    }

    #[test]
    fn classes_of_ages_are_those_of_lifetimes() {
        for class in 1..16 {
            let begin = lifetime_begin(class);
            let before = begin - Duration::from_millis(5);
            assert_eq!((class_of(begin), class_of(before)), (class, class - 1));
        }
        assert!(
            lifetime_begin(1) > Duration::from_millis(33) && lifetime_begin(1) < Duration::from_millis(34)
        );
    }
}
