//! A report or a line of a trace whose functions have no names yet.

use super::names::Names;
use crate::profile::{Allocation, Profile, Remark, Selection, StackId};

/// What becomes of a report, as far as its source is to know.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The rows that are shown.
    pub selection: &'a Selection,
    /// Whether all functions are to be named, because the report is saved; else those of the rows shown.
    pub everything: bool,
}

/// What is to be written.
pub(super) enum Content {
    /// A report.
    Report(Box<Profile>),
    /// An allocation or a free (`--trace`).
    Allocation(Allocation),
}

/// What is to be written, and the stacks on it that are to be named.
pub struct Draft {
    content: Content,
    stacks: Vec<StackId>,
}

impl Draft {
    /// A report. What is wanted of it is named.
    #[must_use]
    pub fn report(profile: Profile, names: &Names, wanted: Wanted<'_>) -> Self {
        let stacks = if wanted.everything {
            profile.stacks().collect()
        } else {
            let dictionary = names.dictionary();
            let rows = wanted.selection.shown(dictionary, &profile);
            let rows = rows.into_iter().filter_map(|place| profile.rows.get(place)?.stack);
            let mappings = wanted.selection.mappings(dictionary, &profile).unwrap_or_default();
            rows.chain(mappings.into_iter().filter_map(|row| row.stack)).collect()
        };
        Self { content: Content::Report(Box::new(profile)), stacks }
    }

    /// A line of a trace.
    #[must_use]
    pub fn allocation(allocation: Allocation) -> Self {
        Self { stacks: allocation.stack.into_iter().collect(), content: Content::Allocation(allocation) }
    }

    /// Whether it is a report.
    pub(super) fn is_report(&self) -> bool {
        matches!(self.content, Content::Report(_))
    }

    /// Has its functions looked up. Returns whether there is something to wait for.
    pub(super) fn ask(&self, names: &mut Names) -> bool {
        names.ask(&self.stacks)
    }

    /// With the names that are known now. What others are missing it says itself.
    pub(super) fn named(mut self, names: &mut Names) -> Content {
        let unnamed = names.settle(&self.stacks);
        if unnamed > 0 {
            names.give_up();
        }
        if let Content::Report(profile) = &mut self.content {
            profile.remarks.extend_from_slice(names.remarks());
            profile.losses.names_given_up += names.given_up();
            if unnamed > 0 {
                profile.remarks.push(Remark::NamesLate { frames: unnamed });
            }
        }
        self.content
    }
}
