//! Heaps that were scanned as rows, so that every format can show them: a row for each size of blocks, and of lost ones for each
//! type too. What stands for a stack is the state, the type and the size.

use std::{
    collections::BTreeMap,
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHasher;

use super::{
    Age, Amount, Detail, Dictionary, Filter, Finding, Grounds, Heap, Leaked, Line, LocationId, Losses, Marks,
    ModuleId, Profile, Row, SizeClass, Subject, Verdict,
};

/// What the outermost frames say.
const LOST: &str = "lost";
const IN_USE: &str = "in use";

/// Makes the rows of a session's scans. The dictionary has to be the same each time.
#[derive(Debug, Default)]
pub struct HeapRows {
    /// By the names of allocators.
    modules: BTreeMap<String, ModuleId>,
}

impl HeapRows {
    /// A report of heaps. `elapsed`: time since the first scan began.
    pub fn profile(
        &mut self,
        dictionary: &mut Dictionary,
        heaps: Vec<Heap>,
        (time, elapsed, last): (jiff::Timestamp, Duration, bool),
    ) -> Profile {
        let mut rows = Vec::new();
        for heap in &heaps {
            let module = *self
                .modules
                .entry(heap.allocator.clone())
                .or_insert_with(|| dictionary.add_module(&Arc::from(heap.allocator.as_str()), None));
            self::rows(dictionary, module, heap, &mut rows);
        }
        Profile {
            time,
            elapsed,
            last,
            outstanding: rows.iter().fold(Amount::default(), |sum, row| sum.plus(row.outstanding)),
            subject: Subject::Heaps(heaps),
            filter: Filter::default(),
            bytes_per_second: 0.0,
            unknown_frees: 0,
            rows,
            losses: Losses::default(),
            remarks: Vec::new(),
            marks: Marks::default(),
        }
    }
}

/// The rows of one heap.
fn rows(dictionary: &mut Dictionary, module: ModuleId, heap: &Heap, rows: &mut Vec<Row>) {
    let mut used: BTreeMap<u64, u64> = BTreeMap::new();
    for class in &heap.classes {
        used.insert(class.size, class.blocks);
    }
    if heap.verdict == Finding::Decided {
        for class in heap.classes.iter().filter(|class| class.lost > 0) {
            if let Some(blocks) = used.get_mut(&class.size) {
                *blocks = blocks.saturating_sub(class.lost);
            }
            rows.push(lost(dictionary, module, heap, class));
        }
    }
    for (size, blocks) in used.into_iter().filter(|(_, blocks)| *blocks > 0) {
        let held = Amount { bytes: blocks.saturating_mul(size), blocks };
        rows.push(row(dictionary, module, heap, held, &[&format!("{size} B"), IN_USE]));
    }
}

/// The lost blocks of a size and type.
fn lost(dictionary: &mut Dictionary, module: ModuleId, heap: &Heap, class: &SizeClass) -> Row {
    let amount = |blocks: u64| Amount { bytes: blocks.saturating_mul(class.size), blocks };
    let lost = amount(class.lost);
    let size = format!("{} B", class.size);
    let type_name = class.type_name.as_ref().map(|name| format!("type {name}"));
    let names: Vec<&str> =
        [Some(size.as_str()), type_name.as_deref(), Some(LOST)].into_iter().flatten().collect();
    let grounds = Grounds::Unreachable { lost, checked: lost.blocks };
    Row {
        leaked: Some(Leaked {
            checked: lost.blocks,
            lost,
            indirectly: amount(class.lost.saturating_sub(class.directly)),
            ..Leaked::default()
        }),
        verdict: Some(Box::new(Verdict { grounds, trend: None, lifetimes: None })),
        ..row(dictionary, module, heap, lost, &names)
    }
}

/// Blocks with names instead of a stack, innermost first.
fn row(dictionary: &mut Dictionary, module: ModuleId, heap: &Heap, held: Amount, names: &[&str]) -> Row {
    let frames: Vec<LocationId> = names.iter().map(|name| place(dictionary, module, name)).collect();
    Row {
        id: number(&names.join(";")),
        stack: Some(dictionary.add_stack(&frames, None)),
        outstanding: held,
        allocated: held,
        freed: Amount::default(),
        bytes_per_second: 0.0,
        oldest: Age { age: Duration::ZERO, exact: false },
        incomplete: None,
        leaked: None,
        held_by: Vec::new(),
        blocks: Vec::new(),
        detail: Detail::Process { pid: heap.process.pid, uncertainty: None },
        verdict: None,
        merged: None,
    }
}

/// A place in no code, with a name.
fn place(dictionary: &mut Dictionary, module: ModuleId, name: &str) -> LocationId {
    let location = dictionary.add_location(module, number(name), false);
    let text = dictionary.add_text(name);
    let function = Some(dictionary.add_function(text, None));
    if dictionary.location(location).is_some_and(|known| known.lines.is_none()) {
        dictionary
            .name(location, Box::new([Line { function, file: None, line: None, offset: 0, inlined: false }]));
    }
    location
}

/// The same for the same text, in every session.
fn number(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Selection, View};

    fn heap(verdict: Finding) -> Heap {
        let class = |size, blocks, lost, type_name: Option<&str>| SizeClass {
            size,
            blocks,
            lost,
            directly: lost / 2,
            type_name: type_name.map(str::to_owned),
            hint: None,
        };
        Heap {
            allocator: "glibc".to_owned(),
            in_use: Amount { bytes: 56 * 100 + 24 * 7, blocks: 107 },
            verdict,
            classes: vec![class(56, 100, 10, Some("A")), class(56, 100, 4, None), class(24, 7, 0, None)],
            ..Heap::default()
        }
    }

    fn named(profile: &Profile, dictionary: &Dictionary) -> Vec<(String, u64)> {
        let selection = Selection::default();
        let view = View::new(dictionary, profile, &selection);
        let name = |row: &Row| {
            let frames = view.frames(row.stack);
            frames.iter().rev().filter_map(|frame| frame.function).collect::<Vec<_>>().join(";")
        };
        view.rows().map(|row| (name(row), row.outstanding.blocks)).collect()
    }

    #[test]
    fn every_block_is_in_one_row() {
        let (mut dictionary, mut rows) = (Dictionary::default(), HeapRows::default());
        let moment = (jiff::Timestamp::UNIX_EPOCH, Duration::ZERO, true);
        let profile = rows.profile(&mut dictionary, vec![heap(Finding::Decided)], moment);
        let expected = [("lost;type A;56 B", 10), ("lost;56 B", 4), ("in use;56 B", 86), ("in use;24 B", 7)];
        assert_eq!(named(&profile, &dictionary), expected.map(|(name, blocks)| (name.to_owned(), blocks)));
        let sum = profile.rows.iter().fold(Amount::default(), |sum, row| sum.plus(row.outstanding));
        assert_eq!(sum, profile.outstanding);
        assert_eq!(profile.rows[0].loss(), (5 * 56, 10 * 56));
        assert!(profile.check(&dictionary).is_ok());
    }

    #[test]
    fn nothing_is_lost_without_a_verdict() {
        let (mut dictionary, mut rows) = (Dictionary::default(), HeapRows::default());
        let moment = (jiff::Timestamp::UNIX_EPOCH, Duration::ZERO, true);
        let profile = rows.profile(&mut dictionary, vec![heap(Finding::Undecided)], moment);
        assert_eq!(
            named(&profile, &dictionary),
            [("in use;56 B".to_owned(), 100), ("in use;24 B".to_owned(), 7)]
        );
    }

    #[test]
    fn rows_of_later_scans_are_the_same() {
        let (mut dictionary, mut rows) = (Dictionary::default(), HeapRows::default());
        let mut ids = || {
            let moment = (jiff::Timestamp::UNIX_EPOCH, Duration::ZERO, true);
            let profile = rows.profile(&mut dictionary, vec![heap(Finding::Decided)], moment);
            profile.rows.iter().map(|row| (row.id, row.stack)).collect::<Vec<_>>()
        };
        assert_eq!(ids(), ids());
    }
}
