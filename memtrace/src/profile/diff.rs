//! Compares two profiles: of one session, or of two builds of a program, whose addresses have nothing in common.
//!
//! Stacks are the same if their functions and files are: directories and addresses differ between builds, and lines move
//! when code above them changes. If several stacks differ in their lines only, those with the same lines belong
//! together, and the rest is compared as a whole.

use std::{cmp::Reverse, collections::BTreeMap};

use rustc_hash::FxHashMap;

use super::{Amount, Dictionary, Frame, Profile, Row, StackId};

/// A stack in one profile, the other, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// A stack of the second profile; `None` if it is in the first only.
    pub stack: Option<StackId>,
    /// A stack of the first profile; `None` if it is in the second only.
    pub earlier: Option<StackId>,
    /// Outstanding in the first profile.
    pub before: Amount,
    /// Outstanding in the second.
    pub after: Amount,
    /// What of it is lost in each of them.
    pub lost: [Amount; 2],
}

impl Change {
    /// Bytes by which it grew.
    #[must_use]
    pub fn grown(&self) -> i128 {
        i128::from(self.after.bytes) - i128::from(self.before.bytes)
    }
}

/// What became of all stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Stacks of the second profile only, largest first.
    pub new: Vec<Change>,
    /// Stacks that hold more than before, by growth.
    pub grown: Vec<Change>,
    /// Stacks that hold less than before, by what they lost.
    pub shrunk: Vec<Change>,
    /// Stacks of the first profile only, largest first.
    pub gone: Vec<Change>,
    /// Stacks that hold as much as before.
    pub same: usize,
}

/// What identifies a stack: for each frame the function and its file, or the module if no function is known.
type Code = Vec<(String, String)>;
/// What distinguishes stacks of the same code: lines, or offsets if no function is known.
type Lines = Vec<u64>;

/// Stacks of one profile that have the same lines.
#[derive(Clone, Copy, Default)]
struct Held {
    stack: Option<StackId>,
    amount: Amount,
    lost: Amount,
}

impl Held {
    fn add(&mut self, other: Self) {
        self.stack = self.stack.or(other.stack);
        self.amount = self.amount.plus(other.amount);
        self.lost = self.lost.plus(other.lost);
    }
}

/// Compares the outstanding memory of two profiles. Rows without frames count as one stack.
#[must_use]
pub fn diff(before: (&Dictionary, &Profile), after: (&Dictionary, &Profile)) -> Diff {
    let (mut old, new) = (by_code(before), by_code(after));
    let mut diff = Diff::default();
    for (code, lines) in new {
        for (before, after) in pairs(old.remove(&code).unwrap_or_default(), lines) {
            diff.add(before, after);
        }
    }
    for held in old.into_values().flat_map(BTreeMap::into_values) {
        diff.add(Some(held), None);
    }
    let grown = |change: &Change| (Reverse(change.grown()), change.stack.or(change.earlier));
    diff.new.sort_by_key(grown);
    diff.grown.sort_by_key(grown);
    let lost = |change: &Change| (change.grown(), change.earlier);
    diff.shrunk.sort_by_key(lost);
    diff.gone.sort_by_key(lost);
    diff
}

impl Diff {
    fn add(&mut self, before: Option<Held>, after: Option<Held>) {
        let amount = |held: Option<Held>| held.map_or(Amount::default(), |held| held.amount);
        let change = Change {
            stack: after.and_then(|held| held.stack),
            earlier: before.and_then(|held| held.stack),
            before: amount(before),
            after: amount(after),
            lost: [before, after].map(|held| held.unwrap_or_default().lost),
        };
        match (before, change.grown()) {
            (None, _) => self.new.push(change),
            (Some(_), _) if after.is_none() => self.gone.push(change),
            (Some(_), 1..) => self.grown.push(change),
            (Some(_), 0) => self.same += 1,
            (Some(_), _) => self.shrunk.push(change),
        }
    }
}

/// Pairs stacks of the same code: by lines if possible; what remains on both sides is combined.
fn pairs(mut old: BTreeMap<Lines, Held>, new: BTreeMap<Lines, Held>) -> Vec<(Option<Held>, Option<Held>)> {
    let mut pairs = Vec::new();
    let mut left = Vec::new();
    for (lines, held) in new {
        match old.remove(&lines) {
            Some(before) => pairs.push((Some(before), Some(held))),
            None => left.push(held),
        }
    }
    if old.is_empty() || left.is_empty() {
        pairs.extend(old.into_values().map(|held| (Some(held), None)));
        pairs.extend(left.into_iter().map(|held| (None, Some(held))));
    } else {
        let sum = |mut all: Held, held: Held| {
            all.add(held);
            all
        };
        let before = old.into_values().fold(Held::default(), sum);
        pairs.push((Some(before), Some(left.into_iter().fold(Held::default(), sum))));
    }
    pairs
}

fn by_code((dictionary, profile): (&Dictionary, &Profile)) -> FxHashMap<Code, BTreeMap<Lines, Held>> {
    let mut found: FxHashMap<Code, BTreeMap<Lines, Held>> = FxHashMap::default();
    for Row { stack, outstanding, leaked, .. } in &profile.rows {
        let locations = stack.map_or(&[][..], |stack| dictionary.frames(stack));
        let frames = || locations.iter().flat_map(|&location| dictionary.frames_at(location));
        let lost = leaked.map_or(Amount::default(), |leaked| leaked.within(*outstanding).lost);
        let held = Held { stack: *stack, amount: *outstanding, lost };
        let code = frames().map(code).collect();
        found.entry(code).or_default().entry(frames().map(line).collect()).or_default().add(held);
    }
    found
}

fn code(frame: Frame<'_>) -> (String, String) {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    match frame.function {
        Some(function) => (function.to_owned(), frame.file.map(last).unwrap_or_default()),
        None => (String::new(), last(frame.module)),
    }
}

fn line(frame: Frame<'_>) -> u64 {
    match (frame.function, frame.line) {
        (None, _) => frame.module_offset,
        (Some(_), line) => line.map_or(0, u64::from),
    }
}
