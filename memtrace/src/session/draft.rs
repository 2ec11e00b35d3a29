//! A report or a trace line before its functions are named.

use super::names::Names;
use crate::profile::{Allocation, Profile, Remark, Selection, Since, StackId};

/// What becomes of a report, as far as its source is to know.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The rows that are shown.
    pub selection: &'a Selection,
    /// Whether all functions are to be named, because the report is saved; else those of the rows shown.
    pub everything: bool,
    /// Whether it shows what stacks and processes held over the session. The last report has that in any case, since files
    /// keep it.
    pub curves: bool,
    /// Which allocations the report is limited to.
    pub since: Since,
    /// Whether there may be several reports a second for a long time: what is costly is done for some of them only.
    pub often: bool,
}

/// What will be written.
pub(super) enum Content {
    /// A report.
    Report(Box<Profile>),
    /// An allocation or a free (`--trace`).
    Allocation(Allocation),
}

/// What will be written, and the stacks in it that need names. It is a user of these until it is released: the target may
/// run another program meanwhile.
pub struct Draft {
    content: Content,
    stacks: Vec<StackId>,
}

impl Draft {
    /// A report. Of its functions, those that are wanted get names.
    #[must_use]
    pub fn report(profile: Profile, names: &mut Names, wanted: Wanted<'_>) -> Self {
        let stacks = if wanted.everything {
            profile.stacks().collect()
        } else {
            let dictionary = names.dictionary();
            let prepared = wanted.selection.prepared(dictionary, &profile);
            let rows = wanted.selection.shown(dictionary, &prepared);
            let rows = rows.into_iter().filter_map(|place| prepared.rows.get(place)?.stack);
            let mappings = wanted.selection.mappings(dictionary, &profile).unwrap_or_default();
            rows.chain(mappings.into_iter().filter_map(|row| row.stack)).collect()
        };
        Self::of(Content::Report(Box::new(profile)), stacks, names)
    }

    /// A trace line.
    #[must_use]
    pub fn allocation(allocation: Allocation, names: &mut Names) -> Self {
        let stacks = allocation.stack.into_iter().collect();
        Self::of(Content::Allocation(allocation), stacks, names)
    }

    fn of(content: Content, stacks: Vec<StackId>, names: &mut Names) -> Self {
        stacks.iter().for_each(|&stack| names.hold_stack(stack));
        Self { content, stacks }
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether it is a report.
    pub(super) fn is_report(&self) -> bool {
        matches!(self.content, Content::Report(_))
    }

    /// Requests the names of its functions. Returns whether any are pending.
    pub(super) fn ask(&self, names: &mut Names) -> bool {
        names.ask(&self.stacks)
    }

    /// The content, with the names known so far. `is_final`: those that are missing are given up, with a remark.
    pub(super) fn named(&mut self, names: &mut Names, is_final: bool) -> &Content {
        let unnamed = names.settle(&self.stacks);
        if unnamed > 0 && is_final {
            names.give_up();
        }
        if let Content::Report(profile) = &mut self.content {
            profile.remarks.extend_from_slice(names.remarks());
            profile.losses.names_given_up += names.given_up();
            if unnamed > 0 && is_final {
                profile.remarks.push(Remark::NamesLate { frames: unnamed });
            }
        }
        &self.content
    }

    /// Adds names that have come since it got its own.
    pub(super) fn settle(&self, names: &mut Names) {
        names.settle(&self.stacks);
    }

    /// Gives its stacks up.
    pub(super) fn release(self, names: &mut Names) {
        self.stacks.into_iter().for_each(|stack| names.release_stack(stack));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Allocation, Content, Draft};
    use crate::{
        session::Names,
        target::{FileStore, Modules},
    };

    #[test]
    fn a_draft_keeps_its_stacks_while_the_target_runs_another_program() {
        let store = FileStore::default().into();
        let modules = Modules::read(std::process::id(), &store).expect("this process's mappings");
        let mut names = Names::new(None);
        let stack = names.add_stack(&[modules.unknown(0x10, true)], None);
        let frames = names.dictionary().frames(stack).to_vec();
        let allocation = Allocation {
            elapsed: Duration::ZERO,
            pid: 1,
            tid: 1,
            freed: false,
            address: 0x10,
            size: 1,
            id: 1,
            stack: Some(stack),
        };
        let mut draft = Draft::allocation(allocation, &mut names);
        names.release_stack(stack);
        let other = names.add_stack(&[modules.unknown(0x20, true)], None);
        assert_ne!(other, stack, "its place is taken");
        assert_eq!(names.dictionary().frames(stack), frames);
        assert!(
            matches!(draft.named(&mut names, true), Content::Allocation(event) if event.stack == Some(stack))
        );
        draft.release(&mut names);
        assert_eq!(names.dictionary().frames(stack), []);
        assert_eq!(names.add_stack(&[modules.unknown(0x30, true)], None), stack, "its place is free again");
    }
}
