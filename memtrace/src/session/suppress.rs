//! Suppressions applied to a report: they need the names of functions, so it is the last thing before it is written.

use std::borrow::Cow;

use crate::{
    profile::{Amount, Dictionary, Leaked, Profile, Remark, Subject, Suppressions},
    report::{suppression, suppressions_used},
};

/// What is known to be lost, and what the last report says of the rest.
#[derive(Default)]
pub struct Suppressing {
    known: Suppressions,
    /// Whether lines are made for what is not known.
    generate: bool,
    lines: Vec<String>,
    lost: Amount,
    forks: u64,
}

impl Suppressing {
    /// `generate`: whether to make a suppression for each stack that has lost blocks.
    #[must_use]
    pub fn new(known: Suppressions, generate: bool) -> Self {
        Self { known, generate, ..Self::default() }
    }

    /// Lost, and not suppressed, by the last report.
    #[must_use]
    pub fn lost(&self) -> Amount {
        self.lost
    }

    /// Processes that the traced ones have started, by the last report: they were not checked.
    #[must_use]
    pub fn forks(&self) -> u64 {
        self.forks
    }

    /// Suppressions for what is lost and not suppressed, a line each, ready for a file.
    #[must_use]
    pub fn generated(&self) -> &[String] {
        &self.lines
    }

    /// The suppressions that the last report used, in words; empty if there were none.
    #[must_use]
    pub fn used(&self) -> String {
        suppressions_used(&self.known)
    }

    /// Whether frames must have names for it.
    pub(super) fn needs_names(&self) -> bool {
        self.generate || !self.known.is_empty()
    }

    /// The report without what is suppressed.
    pub(super) fn apply<'a>(&mut self, dictionary: &Dictionary, profile: &'a Profile) -> Cow<'a, Profile> {
        self.lines.clear();
        self.lost = Amount::default();
        self.forks = profile.losses.children_not_traced + profile.remarks.iter().map(followed).sum::<u64>();
        self.known.reset();
        let mut profile = Cow::Borrowed(profile);
        let has_lost = |row: &crate::profile::Row| row.leaked.is_some_and(|leaked| leaked.lost.blocks > 0);
        let places: Vec<usize> = profile
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| has_lost(row))
            .map(|(place, _)| place)
            .collect();
        for place in places {
            let Some((stack, leaked)) =
                profile.rows.get(place).and_then(|row| Some((row.stack, row.leaked?)))
            else {
                continue;
            };
            let frames = dictionary.frames_of(stack);
            if self.known.suppress(&frames, leaked.lost) {
                suppress(profile.to_mut(), place, leaked);
                continue;
            }
            self.lost = self.lost.plus(leaked.lost);
            let line = suppression(&frames).filter(|line| self.generate && !self.lines.contains(line));
            self.lines.extend(line);
        }
        profile
    }
}

/// Moves what a row has lost to what is suppressed.
fn suppress(profile: &mut Profile, place: usize, leaked: Leaked) {
    if let Some(row) = profile.rows.get_mut(place) {
        let Leaked { checked, possibly, .. } = leaked;
        row.leaked = Some(Leaked { checked, possibly, ..Leaked::default() });
    }
    let Subject::Processes(processes) = &mut profile.subject else { return };
    let Some(check) = &mut processes.leak_check else { return };
    let reached = &mut check.reached;
    reached.suppressed = reached.suppressed.plus(leaked.lost);
    reached.indirectly = reached.indirectly.minus(leaked.indirectly);
    reached.directly = reached.directly.minus(leaked.lost.minus(leaked.indirectly));
}
/// Processes that were traced because they descend from targets.
fn followed(remark: &Remark) -> u64 {
    if let Remark::Followed { followed, .. } = remark { *followed } else { 0 }
}
