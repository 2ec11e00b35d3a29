//! Memory that processes mapped themselves, in words.

use super::blame::culprit;
use super::escape;
use super::names::{path, shorten};
use crate::profile::units::{format_age, format_bytes, format_count};
use crate::profile::{Frame, MappingRow, MappingUse, Verdict, View};

/// The function that creates threads, as C libraries call it.
const CREATE: &str = "pthread_create";
/// Characters that the name of who created a thread may have.
const NAME: usize = 60;

/// The function that created a thread: who is to blame for the call of the C library's function that does it.
pub(super) fn creator(frames: &[Frame<'_>]) -> Option<String> {
    let is_create = |frame: &Frame<'_>| frame.function.is_some_and(|name| name.contains(CREATE));
    let callers = frames
        .iter()
        .rposition(is_create)
        .map_or(frames, |place| frames.get(place + 1..).unwrap_or_default());
    Some(shown(callers.get(culprit(callers)?)?.function?))
}

/// A function's name in a sentence.
pub(super) fn shown(name: &str) -> String {
    escape(&shorten(&path(name), NAME)).into_owned()
}

/// What a row holds, in words: `in 2 ranges, 3 MiB in memory, oldest 4.2 s`.
pub(super) fn amount(row: &MappingRow, frames: &[Frame<'_>]) -> String {
    let resident =
        row.resident.map(|bytes| format!(", {} in memory", format_bytes(bytes))).unwrap_or_default();
    let (what, threads) = match row.used_for {
        MappingUse::Program => (format!("in {}", format_count(row.mapped.blocks, "range")), String::new()),
        MappingUse::ThreadStacks { ended, unjoined } => {
            let by = creator(frames).map(|name| format!(" by {name}")).unwrap_or_default();
            let living = row.mapped.blocks.saturating_sub(ended);
            let live = match living {
                1 => "1 thread lives".to_owned(),
                living => format!("{living} threads live"),
            };
            let threads = match (living, ended, unjoined) {
                (_, 0, _) => "; all threads live".to_owned(),
                (0, _, true) => "; the threads have ended and were never joined".to_owned(),
                (_, _, true) => format!("; {live}, {ended} have ended and were never joined"),
                (_, _, false) => format!("; {live}, {ended} have ended"),
            };
            (format!("in {}{by}", format_count(row.mapped.blocks, "thread stack")), threads)
        }
    };
    format!("{what}{resident}, oldest {}{threads}", format_age(row.oldest))
}

/// Who maps what a process grows by, if mappings of a stack grow: by what is in memory of them.
pub(super) fn grower(view: &View<'_>, pid: u32) -> Option<String> {
    let rows = view.profile().processes().and_then(|of| of.mapped.as_deref()).unwrap_or_default();
    let growth = |row: &MappingRow| {
        let rate = row.verdict.as_deref().and_then(Verdict::leaking)?;
        Some(rate * row.resident_share())
    };
    let own = rows.iter().filter(|row| row.pid == pid && row.used_for == MappingUse::Program);
    let growing = own.filter_map(|row| Some((row, growth(row)?)));
    let (row, _) = growing.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let frames = view.frames(row.stack);
    let blamed = frames.get(culprit(&frames)?)?;
    Some(shown(blamed.function?))
}
