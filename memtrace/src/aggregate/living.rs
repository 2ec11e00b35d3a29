//! Ages of live blocks, by stack.

use std::{ops::Range, time::Duration};

use memtrace_common::{BLOCK_UNIT, LIFETIME_CLASSES, Sample, TIME_SHIFT, lifetime_class};

use super::SeenClock;

/// Parts of the time since a stack first allocated.
pub const PARTS: usize = 16;

/// Blocks that were allocated in this last part of a stack's time may still be freed at the age at which others are.
const YOUNG: f64 = 0.1;

/// Live blocks of a stack that were allocated in one part of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Born {
    /// Blocks counted.
    pub counted: u32,
    /// What they stand for: blocks.
    pub blocks: f32,
    /// What they stand for: bytes.
    pub bytes: f32,
}

/// The live blocks of a stack, by age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Living {
    /// Blocks counted, by class of age, the classes being those of lifetimes.
    pub ages: [u32; LIFETIME_CLASSES],
    /// The same blocks by part of the stack's time in which they were allocated, the earliest first.
    pub born: [Born; PARTS],
    /// Parts that ended before the last [`YOUNG`] of its time: with gaps, the last parts of the time seen may be long.
    pub settled: usize,
    /// Its time, as far as it was seen: seconds.
    pub seconds: f64,
}

impl Living {
    /// Blocks counted.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.older(0)
    }

    /// The same of those in a class of ages or a later one.
    #[must_use]
    pub fn older(&self, class: usize) -> u64 {
        self.ages.iter().skip(class).map(|&blocks| u64::from(blocks)).sum()
    }
}

/// The live blocks of all stacks.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// By slot.
    places: Vec<Place>,
    stacks: Vec<Living>,
    /// Blocks that are not counted yet. Where each is counted is in no cache: in a short loop, the processor waits for many
    /// of these at once, which makes a report over a million blocks 15 ms faster.
    pending: Vec<Pending>,
    /// Parts of a stack's time are parts of the time seen.
    clock: SeenClock,
}

/// The most blocks that wait to be counted.
const PENDING: usize = 256;

/// A block, and where it counts.
#[derive(Clone, Copy, Debug)]
struct Pending {
    stack: u32,
    class: u8,
    part: u8,
    sample: Sample,
}

/// Where the blocks of a stack are counted, and its time.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The index of its blocks plus 1; 0: nobody asked for it.
    number: u32,
    begin: f32,
    parts_per_second: f32,
}

impl Census {
    /// Counts the blocks of stacks with these slots, each in its time: it held nothing before, and is looked at, or ended, at
    /// the end of it. Its time is divided by `clock`: with gaps, what is born in a part of it is seen in the same time for each.
    #[must_use]
    pub fn new(stacks: impl IntoIterator<Item = (u32, Range<Duration>)>, clock: SeenClock) -> Self {
        let mut census = Self { clock, ..Self::default() };
        for (slot, Range { start: begin, end }) in stacks {
            let young = end.saturating_sub(end.saturating_sub(begin).mul_f64(YOUNG));
            let (begin, end) = (census.clock.at(begin), census.clock.at(end));
            let seconds = (end - begin).max(1e-3);
            let index = slot as usize;
            if census.places.len() <= index {
                census.places.resize(index + 1, Place::default());
            }
            let settled = (census.clock.at(young) - begin) / seconds * PARTS as f32;
            census.stacks.push(Living {
                settled: settled as usize,
                seconds: seconds.into(),
                ..Living::default()
            });
            if let Some(place) = census.places.get_mut(index) {
                let number = census.stacks.len() as u32;
                *place = Place { number, begin, parts_per_second: PARTS as f32 / seconds };
            }
        }
        census
    }

    /// Whether no stack's blocks are counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// Adds a block of that age that was allocated at `time`. After the last one comes [`Census::finish`].
    pub fn add(&mut self, slot: u32, time: Duration, age: Duration, sample: Sample) {
        let place = self.places.get(slot as usize).copied().unwrap_or_default();
        let Some(stack) = place.number.checked_sub(1) else { return };
        let class = class_of(age) as u8;
        let part = ((self.clock.at(time) - place.begin) * place.parts_per_second) as usize;
        self.pending.push(Pending { stack, class, part: part.min(PARTS - 1) as u8, sample });
        if self.pending.len() >= PENDING {
            self.finish();
        }
    }

    /// Counts all blocks that were added.
    pub fn finish(&mut self) {
        for Pending { stack, class, part, sample } in self.pending.drain(..) {
            let Some(living) = self.stacks.get_mut(stack as usize) else { continue };
            if let Some(count) = living.ages.get_mut(usize::from(class)) {
                *count += 1;
            }
            if let Some(born) = living.born.get_mut(usize::from(part)) {
                born.counted += 1;
                born.blocks += sample.blocks() as f32 / BLOCK_UNIT as f32;
                born.bytes += sample.bytes() as f32;
            }
        }
    }

    /// The live blocks of a stack.
    #[must_use]
    pub fn of(&self, slot: u32) -> Option<&Living> {
        let place = self.places.get(slot as usize)?;
        self.stacks.get((place.number as usize).checked_sub(1)?)
    }
}

/// The class of an age, or of a lifetime.
pub(super) fn class_of(age: Duration) -> usize {
    lifetime_class(u32::try_from(age.as_nanos() as u64 >> TIME_SHIFT).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memtrace_common::Sample;

    use super::{Census, SeenClock, class_of};
    use crate::profile::lifetime_begin;

    #[test]
    fn blocks_are_counted_by_age_and_birth() {
        let seconds = Duration::from_secs;
        let stacks =
            [(3, seconds(8)..seconds(40)), (1, seconds(0)..seconds(40)), (4, seconds(0)..seconds(16))];
        let mut census = Census::new(stacks, SeenClock::default());
        for time in [9, 20, 39, 39] {
            census.add(3, seconds(time), seconds(40 - time), Sample::new(100, 0));
        }
        census.add(2, seconds(1), seconds(39), Sample::new(1, 0));
        // Its process ended long ago.
        census.add(4, seconds(15), seconds(1), Sample::new(1, 0));
        census.finish();
        let living = census.of(3).unwrap();
        assert_eq!((living.blocks(), [0, 6, 15].map(|part| living.born[part].counted)), (4, [1, 1, 2]));
        assert_eq!((living.born[15].bytes, living.born[15].blocks), (200.0, 2.0));
        assert_eq!((living.ages[class_of(seconds(20))], living.ages[class_of(seconds(1))]), (2, 2));
        assert_eq!((census.of(1).unwrap().blocks(), census.of(2)), (0, None));
        assert_eq!(census.of(4).unwrap().born[15].counted, 1);
    }

    #[test]
    fn with_gaps_each_part_is_seen_for_the_same_time() {
        let seconds = Duration::from_secs;
        // All is seen for 8 s, then one second of ten.
        let mut clock = SeenClock::default();
        clock.note(seconds(0), seconds(0));
        for turn in 0..8 {
            clock.note(seconds(8 + 10 * turn), seconds(8 + turn));
            clock.note(seconds(17 + 10 * turn), seconds(8 + turn));
        }
        clock.note(seconds(88), seconds(16));
        let mut census = Census::new([(1, seconds(0)..seconds(88))], clock);
        for time in (0..8).chain((0..8).map(|turn| 17 + 10 * turn)) {
            census.add(1, seconds(time), seconds(88 - time), Sample::new(100, 0));
        }
        census.finish();
        let living = census.of(1).unwrap();
        assert!(living.born.iter().all(|born| born.counted == 1), "{census:?}");
        // The last 8.8 s are a gap.
        assert_eq!((living.settled, living.seconds), (15, 16.0));
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
