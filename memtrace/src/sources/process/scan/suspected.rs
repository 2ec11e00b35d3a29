//! Blocks that no scan has reached, with what must not change about them.

use super::contents::Contents;
use crate::{
    heap::{Blocks, Marked},
    sources::process::leaks::{
        check::{self, Failure},
        recount::Recount,
        suspects::Suspects,
    },
};

/// Blocks whose contents are compared at most, about 1 s of reading; of further ones only the size is.
const COMPARED: usize = 1 << 20;

/// The suspects of one check.
pub(super) struct Suspected {
    suspects: Suspects,
    /// As they were at first, in order: where each begins, and its size.
    first: Vec<(u64, u64)>,
    /// What their contents were.
    hashes: Vec<u64>,
}

impl Suspected {
    /// After the first scan: all that is lost in it.
    pub(super) fn new(marked: &Marked, contents: &mut Contents) -> Self {
        let blocks = marked.blocks();
        let first: Vec<(u64, u64)> =
            marked.lost().map(|(start, block)| (start, blocks.size(block))).collect();
        let starts = first.iter().map(|&(start, _)| start).collect();
        let mut suspected = Self { suspects: Suspects::new(marked, starts), first, hashes: Vec::new() };
        suspected.hashes = suspected.hashes(contents);
        suspected
    }

    fn hashes(&self, contents: &mut Contents) -> Vec<u64> {
        let next = self.first.iter().skip(1).map(|&(start, _)| Some(start)).chain([None]);
        let blocks = self.first.iter().zip(next).take(COMPARED);
        blocks.map(|(&(start, size), next)| contents.hash(start, size, next)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.suspects.is_empty()
    }

    /// Just these, of the blocks of the first scan.
    ///
    /// # Errors
    /// The memory that a scan may use does not suffice.
    pub(super) fn only(&self, first: &Marked) -> Result<Blocks, Failure> {
        check::only(first, &self.suspects)
    }

    /// After a further scan, of just these, and what the allocator said then. Returns whether any has been cleared.
    pub(super) fn narrow(&mut self, marked: &Marked, recount: &Recount) -> bool {
        self.suspects.narrow(marked, recount.there())
    }

    /// After the last scan: those whose contents are as they were. Whoever writes to a block has a pointer to it.
    pub(super) fn finish(mut self, contents: &mut Contents) -> Vec<u64> {
        let hashes = self.hashes(contents);
        let (first, before) = (&self.first, &self.hashes);
        let is_changed = |start: &u64| {
            let place = first.binary_search_by_key(start, |&(start, _)| start).ok();
            place.is_some_and(|place| hashes.get(place) != before.get(place))
        };
        self.suspects.clear_those(is_changed);
        self.suspects.into_starts()
    }
}
