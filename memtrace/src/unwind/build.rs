//! Builds a table: entries and the gaps between them, by ascending address.

use memtrace_common::Row;

use super::calls::Code;
use super::frames::{CLOCK_INTERVAL, Cfi, Entry, Sections};
use super::rules::Rule;
use super::{Error, Limits, Table};
use crate::elf::Image;

/// The most rows of a file; a 200 MB compiler has 110,000. A search takes at most 22 steps.
const MAX_ROWS: u64 = (4 << 20) - 1;

/// Bytes of code at a file's entry point that count as its first frame, if nothing describes them.
const ENTRY_CODE: u64 = 256;

/// The minimum size of code without calls that gets a row, in bytes.
const LEAF: u64 = 64;

/// Bytes: `call *disp32(base, index, scale)` with its prefix.
const LONGEST_CALL: u64 = 8;

pub(super) fn table(image: &Image, limits: Limits) -> Result<Table, Error> {
    let segments = segments(image);
    let (Some(&(base, _)), Some(&(_, end))) = (segments.first(), segments.last()) else {
        return Err(Error::NoCode);
    };
    let span = end.saturating_sub(base);
    if span > u64::from(u32::MAX) {
        return Err(Error::Span { span });
    }
    let sections = Sections::read(image)?;
    let mut cfi = Cfi::new(&sections, image.machine(), limits);
    let entries = cfi.entries()?;
    let (code, rows) = (Code::new(image, limits), vec![Rule::NO_FDE.at(0)]);
    let mut builder = Builder { code, limits, base, entry: image.entry(), rows, last: Rule::NO_FDE };
    let mut described = false;
    for (begin, end) in segments {
        let first = entries.partition_point(|entry| entry.begin < begin);
        let after = entries.partition_point(|entry| entry.begin < end);
        let inside = entries.get(first..after).unwrap_or_default();
        described |= !inside.is_empty();
        builder.segment(&mut cfi, begin, end, inside)?;
    }
    if described { Ok(Table { base, rows: builder.rows }) } else { Err(Error::NoFrames) }
}

/// Executable ranges by ascending address. If they overlap, the first one counts.
fn segments(image: &Image) -> Vec<(u64, u64)> {
    let range = |segment: &crate::elf::Segment| {
        (segment.address, segment.address.saturating_add(segment.memory_size))
    };
    let mut ranges: Vec<_> = image.segments().iter().map(range).collect();
    ranges.sort_unstable();
    let mut from = 0;
    for range in &mut ranges {
        range.0 = range.0.max(from);
        from = range.1.max(from);
    }
    ranges.retain(|(begin, end)| begin < end);
    ranges
}

struct Builder<'i> {
    code: Code<'i>,
    limits: Limits,
    base: u64,
    entry: u64,
    rows: Vec<Row>,
    last: Rule,
}

impl Builder<'_> {
    /// Code from `begin` to `end`, in which the entries begin.
    fn segment(&mut self, cfi: &mut Cfi<'_>, begin: u64, end: u64, entries: &[Entry]) -> Result<(), Error> {
        let mut described = begin;
        for (index, entry) in entries.iter().enumerate() {
            if index.is_multiple_of(CLOCK_INTERVAL) {
                self.limits.check()?;
            }
            // Entries that overlap: the nearest one counts, as in the search table that exceptions use.
            let next = entries.get(index + 1).map_or(end, |next| next.begin);
            let stop = entry.end.min(next);
            self.entry(cfi, described, *entry, stop)?;
            described = stop;
        }
        self.undescribed(described, end)
    }

    /// An entry's code up to `stop`, and the code between the previous one, which ends at `gap`, and this one.
    fn entry(&mut self, cfi: &mut Cfi<'_>, gap: u64, entry: Entry, stop: u64) -> Result<(), Error> {
        let ends = self.code.switches_stack(entry.begin)?;
        let mut rows = None;
        let mut longest = (0u64, 0u64, Rule::NO_FDE);
        cfi.rules(entry, stop, &mut |begin, end, rule| {
            let rule = if ends { Rule::END } else { rule };
            if begin == entry.begin {
                self.gap(gap, begin, rule)?;
                rows = Some(self.rows.len());
            }
            if end.saturating_sub(begin) > longest.1.saturating_sub(longest.0) {
                longest = (begin, end, rule);
            }
            self.range(begin, end, rule)
        })?;
        // A function that calls nothing is on a stack only if a signal interrupts it, most likely in its largest part.
        let (begin, end, rule) = longest;
        let leaf = rows == Some(self.rows.len()) && end.saturating_sub(begin) >= LEAF && rule != self.last;
        if leaf && !self.code.has_call(entry.begin, stop)? {
            self.put(begin, rule)?;
        }
        Ok(())
    }

    /// Code without a description, up to a function that begins with `rule`.
    fn gap(&mut self, begin: u64, end: u64, rule: Rule) -> Result<(), Error> {
        let last = end.saturating_sub(LONGEST_CALL).max(begin);
        // The code after a call that does not return has that call's return address.
        let early = begin < end && rule.is_entered_by_return() && !self.code.has_call(last, end)?;
        let before = if early { end.saturating_sub(1) } else { end };
        self.undescribed(begin, before)?;
        self.range(before, end, rule)
    }

    /// Code without a description. If the kernel starts the file there, it is the outermost frame: the dynamic
    /// loader runs constructors from such code.
    fn undescribed(&mut self, begin: u64, end: u64) -> Result<(), Error> {
        let entry = self.entry.clamp(begin, end);
        let after = self.entry.saturating_add(ENTRY_CODE).clamp(entry, end);
        self.range(begin, entry, Rule::NO_FDE)?;
        self.range(entry, after, Rule::END)?;
        self.range(after, end, Rule::NO_FDE)
    }

    /// Code with one rule. It needs a row unless it already has that rule or is never looked up.
    fn range(&mut self, begin: u64, end: u64, rule: Rule) -> Result<(), Error> {
        let needed = begin < end && rule != self.last;
        if needed && (rule.is_entered_by_return() || self.code.has_call(begin, end)?) {
            self.put(begin, rule)?;
        }
        Ok(())
    }

    fn put(&mut self, address: u64, rule: Rule) -> Result<(), Error> {
        let span = address.saturating_sub(self.base);
        let pc = u32::try_from(span).map_err(|_wide| Error::Span { span })?;
        // Only the row that every table begins with can be at the same address.
        self.rows.pop_if(|row| row.pc == pc);
        if self.rows.len() as u64 >= MAX_ROWS {
            let value = self.rows.len() as u64 + 1;
            return Err(Error::Limit { what: "unwind rows", value, limit: MAX_ROWS });
        }
        self.rows.push(rule.at(pc));
        self.last = rule;
        Ok(())
    }
}
