//! Losses in words, for the formats that people read.

use crate::profile::units::{format_bytes, format_count, format_number};
use crate::profile::{Losses, Profile, Reason, Subject};

/// The sentences of a report. If the kernel returns an address again, the free of the old block is certain: no loss.
pub(super) fn of(profile: &Profile) -> Vec<String> {
    match profile.subject {
        Subject::Processes(_) | Subject::Heaps(_) => sentences(&profile.losses),
        Subject::Kernel(_) => {
            let mut sentences = sentences(&Losses { missed_frees: 0, ..profile.losses.clone() });
            if profile.losses.no_walk_slot > 0 {
                sentences.push(WITHOUT_SIZE.to_owned());
            }
            sentences
        }
    }
}

/// For kernel objects without a walk slot: the size of a kernel object is stored with its stack.
const WITHOUT_SIZE: &str = "the sizes of objects without a walk slot; only their number is in the totals.";

/// One sentence for each loss: what happened, how it affects the figures, what to do about it.
///
/// None contains "byte": scripts that read memleak's text recognize stacks by that word.
pub(super) fn sentences(losses: &Losses) -> Vec<String> {
    let untracked = format!(
        "({}) not tracked: the table of live blocks was full, so the totals are too low by that much; raise --max-live",
        format_bytes(losses.live_map_full_bytes)
    );
    let unmapped = format!(
        "({}) left out: a process had too many, so what it mapped itself is too low by at most that much",
        format_bytes(losses.mappings_full_bytes)
    );
    let incomplete = format!(
        "incomplete ({}): their outer callers are missing",
        losses
            .stacks_incomplete
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{}: {}", reason_words(*reason), format_number(*count)))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let incomplete_stacks =
        losses.stacks_incomplete.iter().fold(0, |sum: u64, (_, n)| sum.saturating_add(*n));
    [
        (losses.live_map_full, "block", untracked.as_str()),
        (
            losses.no_thread_slot,
            "allocation",
            "not tracked: the table of threads was full, so the totals are too low",
        ),
        (
            losses.in_flight_lost,
            "allocation call",
            "never seen to return (longjmp, an exception, a cancelled thread; with gaps, detaching): what they returned is not in the totals",
        ),
        (
            losses.kernel_missed,
            "probe run",
            "skipped by the kernel: allocations and frees went unseen, so the figures may be too low or too high",
        ),
        (
            losses.missed_frees,
            "block",
            "still live here when the address was handed out again: a free was missed, and the old block no longer counts",
        ),
        (
            losses.no_walk_slot,
            "allocation",
            "without a stack: every walk slot of the CPU was in use, so the totals include them but no code is named",
        ),
        (
            losses.stack_table_full,
            "allocation",
            "without a stack: the table of stacks was full, so the totals and the rows without frames include them; raise --max-stacks",
        ),
        (
            losses.ring_full,
            "event",
            "did not fit into the ring buffer: trace lines are missing, mappings may be wrong, and stacks may appear one report late",
        ),
        (losses.mappings_full, "mapped range", unmapped.as_str()),
        (
            losses.names_given_up,
            "name lookup",
            "given up: functions may lack names or lines; the notes say why",
        ),
        (losses.children_not_traced, "fork", "of the target not traced: what child processes allocate is not in the figures (--follow), and their calls run into its probes until these are taken out, usually at once"),
        (incomplete_stacks, "stack", incomplete.as_str()),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, thing, rest)| format!("{} {rest}.", format_count(count, thing)))
    .collect()
}

/// A reason in words.
pub(super) fn reason_words(reason: Reason) -> String {
    reason.key().replace('_', " ")
}
