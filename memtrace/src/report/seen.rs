//! Who allocates blocks of which sizes: kept of the reports of a session, and in words.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Write},
    rc::Rc,
};

use super::{Reporter, blame::culprit, escape::short, mappings::shown};
use crate::profile::{
    Heap, Row, Seen, SeenStack, View,
    units::{format_age, format_number},
};

/// Functions that are named for one size.
const CALLERS: usize = 2;

/// A reporter that keeps what the last report has shown, and writes nothing.
#[derive(Clone, Debug, Default)]
pub struct Witness(Rc<RefCell<Seen>>);

impl Witness {
    /// What was seen.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.0.borrow().clone()
    }
}

impl Reporter for Witness {
    fn report(&mut self, _out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        let stacks = view.rows().filter_map(|row| stack(view, row)).collect();
        *self.0.borrow_mut() = Seen { traced: view.profile().elapsed, stacks };
        Ok(())
    }
}

fn stack(view: &View<'_>, row: &Row) -> Option<SeenStack> {
    let frames = view.frames(row.stack);
    let frame = frames.get(culprit(&frames)?)?;
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    for block in &row.blocks {
        *sizes.entry(block.size).or_default() += 1;
    }
    Some(SeenStack {
        pid: row.pid(),
        function: frame.function?.to_owned(),
        place: frame.file.map(|file| (file.to_owned(), frame.line.unwrap_or(0))),
        sizes: sizes.into_iter().collect(),
        lost: row.leaked.map_or(0, |leaked| leaked.lost.blocks),
    })
}

/// Who allocates blocks of a size that is lost.
pub(super) fn allocated(out: &mut dyn Write, seen: &Seen, heap: &Heap, size: u64) -> io::Result<()> {
    for (stack, blocks) in seen.of(heap.process.pid, size, &heap.allocator).into_iter().take(CALLERS) {
        let place = match &stack.place {
            Some((file, line)) => format!(" ({}:{line})", short(file.rsplit('/').next().unwrap_or(file))),
            None => String::new(),
        };
        let lost = if stack.lost > 0 { ", and loses them" } else { "" };
        writeln!(
            out,
            "    in {}, {}{place} was seen to allocate {} more{lost}",
            format_age(seen.traced),
            shown(&stack.function),
            format_number(blocks)
        )?;
    }
    Ok(())
}
