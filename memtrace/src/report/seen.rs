//! Keeps of a report who allocates blocks of which sizes, and writes nothing.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use super::{Reporter, blame::culprit};
use crate::profile::{Row, Seen, SeenStack, View};

/// A reporter that keeps what the last report has shown.
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
