//! Rows as flame graphs and folded stacks have them: a weight, and names from the outermost on.

use std::borrow::Cow;

use super::losses::reason_words;
use crate::profile::{Amount, Frame, Profile, Row, View};

/// What stacks are weighed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Outstanding bytes.
    #[default]
    Bytes,
    /// Outstanding blocks.
    Blocks,
}

impl Unit {
    /// That part of an amount.
    pub(super) fn of(self, amount: Amount) -> u64 {
        match self {
            Self::Bytes => amount.bytes,
            Self::Blocks => amount.blocks,
        }
    }
}

/// The names of a row's stack, the outermost first, not escaped. Before them stand the process, if there are several, and
/// what is missing of the stack, in brackets; after them, for the kernel, the cache or the kind of memory.
pub(super) fn path<'a>(view: &View<'a>, row: &Row) -> Vec<Cow<'a, str>> {
    let frames = view.frames(row.stack);
    let mut names = Vec::with_capacity(frames.len() + 2);
    names.extend(process(view.profile(), row).map(Cow::Owned));
    names.extend(missing(row, frames.is_empty()).map(Cow::Owned));
    names.extend(frames.iter().rev().map(name));
    if let Some(detail) = row.kernel() {
        let cache = detail.cache.map_or(detail.kind.name(), |cache| view.dictionary().text(cache));
        names.push(Cow::Owned(format!("[{cache}]")));
    }
    names
}

/// A frame's function; without one, its module and the offset there.
pub(super) fn name<'a>(frame: &Frame<'a>) -> Cow<'a, str> {
    match frame.function {
        Some(function) => Cow::Borrowed(function),
        None => Cow::Owned(format!("[{}+{:#x}]", frame.file_name(), frame.module_offset)),
    }
}

/// The process of a row, where there are several.
fn process(profile: &Profile, row: &Row) -> Option<String> {
    if let Some(merged) = &row.merged {
        return Some(format!("{} processes", merged.pids.len()));
    }
    let pid = row.pid();
    profile.targets().nth(1)?;
    let comm = profile.process(pid).map_or("", |process| &process.comm);
    Some(format!("{comm} ({pid})").trim_start().to_owned())
}

/// What is missing of a stack, in brackets. It stands where its outermost frame would.
pub(super) fn missing(row: &Row, everything: bool) -> Option<String> {
    match (row.incomplete, everything) {
        (Some(reason), false) => Some(format!("[callers missing: {}]", reason_words(reason))),
        (Some(reason), true) => Some(format!("[no stack: {}]", reason_words(reason))),
        (None, true) => Some("[stack not received]".to_owned()),
        (None, false) => None,
    }
}
