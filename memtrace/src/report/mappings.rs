//! Memory that processes mapped themselves, in words.

use super::blame::culprit;
use super::escape;
use super::names::{path, shorten};
use crate::profile::units::{format_age, format_bytes, format_count};
use crate::profile::{Frame, MappingRow, MappingUse, Profile, Standing};

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

/// What a row holds, in words: `3 MiB in memory of 64 MiB in 2 ranges, oldest 4.2 s`.
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

/// Whether mappings are what a process grows by: then they come before blocks.
pub(super) fn come_first(profile: &Profile) -> bool {
    let balances = profile.processes().map_or(&[][..], |of| of.balances.as_slice());
    balances.iter().any(|of| matches!(of.standing, Standing::Mappings | Standing::Threads))
}
