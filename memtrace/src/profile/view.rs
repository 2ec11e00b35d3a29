//! A view of a profile: ordered, filtered and cut. The profile stays unchanged.

use std::{borrow::Cow, cmp::Reverse};

use super::{
    CacheRow, Dictionary, Entry, LocationId, MappingRow, Profile, Row, StackId,
    merge::merged_if,
    ranking::{Rank, Ranking},
};

/// What rows are ordered by, largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// The verdict; within one, what is lost or how fast it grows, then outstanding bytes.
    #[default]
    Verdict,
    /// Bytes that a stack has lost and that are lost through them, then its lost bytes, then outstanding bytes.
    Lost,
    /// Outstanding bytes.
    Bytes,
    /// Outstanding blocks.
    Blocks,
    /// Growth of the outstanding bytes.
    Rate,
    /// Age of the oldest block.
    Age,
}

/// What is shown of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Stacks.
    #[default]
    Stack,
    /// Slab caches and other kinds of memory.
    Cache,
}

/// Which rows are shown, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The order.
    pub sort: SortBy,
    /// Rows shown of each kind; 0 for all.
    pub top: usize,
    /// What is shown of the kernel.
    pub by: By,
    /// Only rows of this process.
    pub pid: Option<u32>,
    /// Only rows with a frame whose function, file or module contains this text.
    pub containing: Option<String>,
    /// Without the rows that need no attention: those whose verdict is steady or start-up. Only in the order of verdicts,
    /// in which they are the last.
    pub hide_settled: bool,
    /// Whether rows of several processes that run the same code become one.
    pub merge: bool,
}

impl Selection {
    /// The profile whose rows are selected: with the rows of several processes merged, if that is wanted.
    #[must_use]
    pub fn prepared<'a>(&self, dictionary: &Dictionary, profile: &'a Profile) -> Cow<'a, Profile> {
        merged_if(self.merge && profile.kernel().is_none(), dictionary, profile)
    }

    /// How many of this many rows are shown.
    fn cut(&self, rows: usize) -> usize {
        if self.top == 0 { rows } else { rows.min(self.top) }
    }

    /// Whether rows are filtered by a property, not only cut by number.
    #[must_use]
    pub fn filters(&self) -> bool {
        self.pid.is_some() || self.containing.is_some()
    }

    /// Whether what needs no attention is hidden.
    fn hides_settled(&self) -> bool {
        self.hide_settled && self.sort == SortBy::Verdict
    }

    /// Places of the rows that pass the filters, the rows shown first and in order; and the number of rows shown.
    fn places(&self, dictionary: &Dictionary, profile: &Profile) -> (Vec<usize>, usize) {
        let passes =
            |row: &Row| self.pid.is_none_or(|pid| row.is_of(pid)) && self.has_text(dictionary, row.stack);
        let ranking = Ranking::new(profile, self.sort);
        let found = profile.rows.iter().enumerate().filter(|(_, row)| passes(row));
        let mut rows: Vec<(Rank, usize)> =
            found.map(|(place, row)| (ranking.rank(Entry::Blocks(row)), place)).collect();
        let hidden = match self.hides_settled() {
            true => rows.iter().filter(|(rank, _)| rank.is_settled()).count(),
            false => 0,
        };
        let shown = self.cut(rows.len() - hidden);
        let order = |a: &(Rank, usize), b: &(Rank, usize)| ranking.order(&a.0, &b.0);
        if shown < rows.len() {
            // Only the rows shown need to be sorted.
            rows.select_nth_unstable_by(shown, order);
        }
        if let Some(shown) = rows.get_mut(..shown) {
            shown.sort_unstable_by(order);
        }
        (rows.into_iter().map(|(_, place)| place).collect(), shown)
    }

    /// Places of the rows that are shown in [`Profile::rows`], in order.
    #[must_use]
    pub fn shown(&self, dictionary: &Dictionary, profile: &Profile) -> Vec<usize> {
        let (mut places, shown) = self.places(dictionary, profile);
        places.truncate(shown);
        places
    }

    /// The stacks that mapped something, in the order of rows; as many as rows. `None` if mappings are unknown.
    #[must_use]
    pub fn mappings<'a>(&self, dictionary: &Dictionary, profile: &'a Profile) -> Option<Vec<&'a MappingRow>> {
        let mut rows = self.ranked_mappings(dictionary, profile)?;
        rows.truncate(self.cut(rows.len()));
        Some(rows)
    }

    /// The same, however many there are.
    fn ranked_mappings<'a>(
        &self,
        dictionary: &Dictionary,
        profile: &'a Profile,
    ) -> Option<Vec<&'a MappingRow>> {
        let mut rows = self.all_mappings(dictionary, profile)?;
        let ranking = Ranking::new(profile, self.sort);
        let rank = |row| ranking.rank(Entry::Mapping(row));
        rows.sort_by(|a, b| ranking.order(&rank(a), &rank(b)));
        Some(rows)
    }

    /// The same in any order.
    fn all_mappings<'a>(&self, dictionary: &Dictionary, profile: &'a Profile) -> Option<Vec<&'a MappingRow>> {
        let mapped = profile.processes()?.mapped.as_deref()?;
        let passes = |row: &&MappingRow| {
            self.pid.is_none_or(|pid| row.pid == pid) && self.has_text(dictionary, row.stack)
        };
        Some(mapped.iter().filter(passes).collect())
    }

    fn has_text(&self, dictionary: &Dictionary, stack: Option<StackId>) -> bool {
        let Some(text) = &self.containing else { return true };
        let frames = stack.map_or(&[][..], |stack| dictionary.frames(stack));
        frames.iter().flat_map(|&location| dictionary.frames_at(location)).any(|frame| {
            [frame.function, Some(frame.module), frame.file]
                .into_iter()
                .flatten()
                .any(|name| name.contains(text))
        })
    }
}

/// One frame of a stack. Several frames can be at one location: functions inlined there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The function, demangled; `None` where nothing names it.
    pub function: Option<&'a str>,
    /// Bytes from the function's start to the return address.
    pub function_offset: u64,
    /// The path of the file, as the target sees it, or `[anon]`, `[vdso]`, `[kernel]`.
    pub module: &'a str,
    /// The call site as an ELF virtual address in the module: what `addr2line -e module` takes.
    pub module_offset: u64,
    /// The source file.
    pub file: Option<&'a str>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether this frame was inlined into the next one.
    pub inlined: bool,
}

impl<'a> Frame<'a> {
    /// The name of its file, without directories.
    #[must_use]
    pub fn file_name(&self) -> &'a str {
        self.module.rsplit('/').next().unwrap_or_default()
    }
}

impl Dictionary {
    /// The frames at a location, inlined ones first. At least one, which has only module and offset if nothing
    /// more is known.
    pub fn frames_at(&self, location: LocationId) -> impl Iterator<Item = Frame<'_>> {
        let location = self.location(location);
        let bare = location.map(|location| Frame {
            module: self.module(location.module).map_or("", |module| self.text(module.name)),
            module_offset: location.call(),
            ..Frame::default()
        });
        let lines = location.and_then(|location| location.lines.as_deref()).unwrap_or_default();
        let named = lines.iter().filter_map(move |line| {
            let function = line.function.and_then(|id| self.function(id));
            Some(Frame {
                function: function.map(|function| self.text(function.name)),
                function_offset: line.offset,
                file: line.file.map(|id| self.text(id)),
                line: line.line,
                inlined: line.inlined,
                ..bare?
            })
        });
        named.chain(bare.filter(|_| lines.is_empty()))
    }

    /// The frames of a stack, innermost first.
    #[must_use]
    pub fn frames_of(&self, stack: Option<StackId>) -> Vec<Frame<'_>> {
        let locations = stack.map_or(&[][..], |stack| self.frames(stack));
        locations.iter().flat_map(|&location| self.frames_at(location)).collect()
    }
}

/// A profile as it is shown.
pub struct View<'a> {
    dictionary: &'a Dictionary,
    profile: &'a Profile,
    selection: &'a Selection,
    rows: Vec<&'a Row>,
    /// How many of the rows are shown: the first.
    shown: usize,
}

impl<'a> View<'a> {
    /// What a selection shows of a profile.
    #[must_use]
    pub fn new(dictionary: &'a Dictionary, profile: &'a Profile, selection: &'a Selection) -> Self {
        let (places, shown) = selection.places(dictionary, profile);
        let rows = places.into_iter().filter_map(|place| profile.rows.get(place)).collect();
        Self { dictionary, profile, selection, rows, shown }
    }

    /// Everything that the report knows.
    #[must_use]
    pub fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// The dictionary that the profile refers to.
    #[must_use]
    pub fn dictionary(&self) -> &'a Dictionary {
        self.dictionary
    }

    /// What the view selects.
    #[must_use]
    pub fn selection(&self) -> &'a Selection {
        self.selection
    }

    /// The rows that are shown, in order.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &'a Row> {
        self.rows.iter().take(self.shown).copied()
    }

    /// How many rows pass the filters, shown or not.
    #[must_use]
    pub fn rows_found(&self) -> usize {
        self.rows.len()
    }

    /// Rows that pass the filters and are not shown because there are too many: their number, and what they hold.
    #[must_use]
    pub fn hidden(&self) -> (usize, u64) {
        self.sum_hidden(|row| !self.hides(row))
    }

    /// Rows that pass the filters and are not shown because of their verdict: their number, and what they hold.
    #[must_use]
    pub fn settled(&self) -> (usize, u64) {
        self.sum_hidden(|row| self.hides(row))
    }

    fn hides(&self, row: &Row) -> bool {
        self.selection.hides_settled() && row.is_settled()
    }

    fn sum_hidden(&self, counts: impl Fn(&Row) -> bool) -> (usize, u64) {
        let hidden = self.rows.get(self.shown..).unwrap_or_default().iter().filter(|row| counts(row));
        hidden.fold((0, 0), |(rows, bytes): (usize, u64), row| {
            (rows + 1, bytes.saturating_add(row.outstanding.bytes))
        })
    }

    /// The stacks that mapped something, as [`Selection::mappings`].
    #[must_use]
    pub fn mappings(&self) -> Option<Vec<&'a MappingRow>> {
        self.selection.mappings(self.dictionary, self.profile)
    }

    /// Stacks that mapped something and are not shown because of their verdict: their number, and the address space.
    #[must_use]
    pub fn settled_mappings(&self) -> (usize, u64) {
        let rows = self.selection.all_mappings(self.dictionary, self.profile).unwrap_or_default();
        sum(rows.into_iter().filter(|row| self.selection.hides_settled() && row.is_settled()))
    }

    /// Stacks that map something and are not shown because there are too many: their number, and the address space.
    #[must_use]
    pub fn hidden_mappings(&self) -> (usize, u64) {
        let rows = self.selection.ranked_mappings(self.dictionary, self.profile).unwrap_or_default();
        let shown = self.selection.cut(rows.len());
        sum(rows.into_iter().skip(shown).filter(|row| self.is_open(row)))
    }

    /// Whether a stack has something mapped, and is shown if there is room.
    fn is_open(&self, row: &MappingRow) -> bool {
        row.mapped.blocks > 0 && !(self.selection.hides_settled() && row.is_settled())
    }

    /// Everything that is shown, in one order: as many rows as wanted, and as many stacks that mapped something.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry<'a>> {
        let ranking = Ranking::new(self.profile, self.selection.sort);
        let mappings = self.mappings().unwrap_or_default().into_iter();
        let mappings = mappings.filter(|row| self.is_open(row)).map(Entry::Mapping);
        let mut entries: Vec<(Rank, Entry<'a>)> = (self.rows().map(Entry::Blocks))
            .chain(mappings)
            .map(|entry| (ranking.rank(entry), entry))
            .collect();
        entries.sort_by(|a, b| ranking.order(&a.0, &b.0));
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The kernel's caches in order, and how many there are, shown or not.
    #[must_use]
    pub fn caches(&self) -> (Vec<&'a CacheRow>, usize) {
        let Some(kernel) = self.profile.kernel() else { return (Vec::new(), 0) };
        let mut rows: Vec<&CacheRow> = kernel.caches.iter().collect();
        let name = |row: &CacheRow| row.cache.map(|id| self.dictionary.text(id));
        rows.sort_by(|a, b| {
            (Reverse(a.outstanding.bytes), Reverse(a.tracked.bytes), name(a)).cmp(&(
                Reverse(b.outstanding.bytes),
                Reverse(b.tracked.bytes),
                name(b),
            ))
        });
        match self.selection.sort {
            SortBy::Blocks => rows.sort_by_key(|row| Reverse(row.outstanding.blocks)),
            SortBy::Rate => rows.sort_by(|a, b| b.bytes_per_second.total_cmp(&a.bytes_per_second)),
            SortBy::Verdict | SortBy::Lost | SortBy::Bytes | SortBy::Age => {}
        }
        let found = rows.len();
        rows.truncate(self.selection.cut(found));
        (rows, found)
    }

    /// The frames of a stack, innermost first.
    #[must_use]
    pub fn frames(&self, stack: Option<StackId>) -> Vec<Frame<'a>> {
        self.dictionary.frames_of(stack)
    }
}

/// The number of rows, and the address space of all together.
fn sum<'a>(rows: impl Iterator<Item = &'a MappingRow>) -> (usize, u64) {
    rows.fold((0, 0), |(rows, bytes), row| (rows + 1, bytes.saturating_add(row.mapped.bytes)))
}
