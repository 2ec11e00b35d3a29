//! The figures of a program, and the tables they make.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::check::Reasons;
use super::reports::Comparison;
use super::{Method, Row};

/// Sums over stacks, each of a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: u64,
    pub(super) complete: u64,
    pub(super) first_is_call: u64,
    pub(super) frames: u64,
    /// Frames whose code could be read.
    pub(super) checkable: u64,
    pub(super) after_call: u64,
    pub(super) junk_frames: u64,
    /// Stacks with a frame that is junk.
    pub(super) with_junk: u64,
}

/// What is known of a program's stacks.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Each stack once.
    pub(super) stacks: Counts,
    /// Each stack as often as it allocated.
    pub(super) events: Counts,
    pub(super) reasons: Reasons,
    pub(super) losses: Reasons,
    pub(super) notes: BTreeSet<String>,
}

/// What the columns mean.
pub(super) const LEGEND: &str = "\
The programs run as installed, under load. `cfi` follows call frame information, `fp` frame pointers. In
each cell, the first figure counts every distinct stack once, the second every allocation. node is traced from 4 s after
its start, when it has compiled most of its code.

- *Complete*: the walk ended at the first frame of the program or thread.
- *Depth*: mean number of frames, without inlined ones.
- *First caller*: the first frame follows a call instruction. The second table shows whether it is the return address on
  top of the stack.
- *After a call*: frames whose address follows a call instruction, of all frames whose code can be read. Excluded are
  frames that no call led to: the code that a signal handler returns to, the frame that the signal interrupted, and
  addresses that a program put on the stack itself (V8 does, to continue in its interpreter).
- *Junk*: stacks with at least one frame that follows no call.

With `fp`, memtrace drops the first frame that follows no call and everything after it, so *After a call* and *Junk* mean
nothing there. Nor does *Complete*: a frame pointer of 0 ends a stack, wherever that is.

The comparison with framehop covers as many walks as could be read in time. *Ours longer*: the copy of the stack ended,
or framehop could not continue (frames of more than 512 KiB).
";

/// The tables, and what there is to say besides.
pub(super) fn tables(rows: &[Row], skipped: &[String]) -> String {
    let mut text = String::from(
        "| Program | Stacks by | Stacks / events | Complete | Depth | First caller | After a call | Junk | Incomplete because |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for Row { program, method, figures } in rows {
        let (stacks, events) = (&figures.stacks, &figures.events);
        let both = |part: fn(&Counts) -> (u64, u64)| {
            let percent = |counts| {
                let (part, whole) = part(counts);
                percent(part, whole)
            };
            format!("{} / {}", percent(stacks), percent(events))
        };
        let _ = writeln!(
            text,
            "| {program} | {} | {} / {} | {} | {} / {} | {} | {} | {} | {} |",
            method.option(),
            stacks.all,
            events.all,
            both(|counts| (counts.complete, counts.all)),
            mean(stacks.frames, stacks.all),
            mean(events.frames, events.all),
            both(|counts| (counts.first_is_call, counts.all)),
            both(|counts| (counts.after_call, counts.checkable)),
            both(|counts| (counts.with_junk, counts.all)),
            list(&figures.reasons),
        );
    }
    for Row { program, method, figures } in rows {
        if !figures.losses.is_empty() {
            let _ = writeln!(text, "\n{program}, `{}`: lost {}.", method.option(), list(&figures.losses));
        }
        if *method == Method::Cfi {
            for note in &figures.notes {
                let _ = writeln!(text, "\n{program}: {note}");
            }
        }
    }
    for why in skipped {
        let _ = writeln!(text, "\nNot traced: {why}");
    }
    text
}

/// A table of how walks compare with those of another unwinder.
pub(super) fn comparisons(programs: &[(&str, Comparison)]) -> String {
    let mut text = String::from(
        "Compared with framehop, on a copy of the stack memory of each walk (64 KiB):\n\n\
         | Program | Stacks / events compared | Equal | Ours longer | Ours shorter | Different | First caller right |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    for (program, comparison) in programs {
        let (stacks, events) = (&comparison.stacks, &comparison.events);
        let _ = writeln!(
            text,
            "| {program} | {} / {} | {} / {} | {} / {} | {} / {} | {} / {} | {} |",
            stacks.all(),
            events.all(),
            percent(stacks.equal, stacks.all()),
            percent(events.equal, events.all()),
            stacks.ours_longer,
            events.ours_longer,
            stacks.reference_longer,
            events.reference_longer,
            stacks.differ,
            events.differ,
            percent(comparison.first_caller_right, events.all()),
        );
    }
    text
}

fn list(reasons: &Reasons) -> String {
    let words: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    words.join(", ")
}

/// Never 100 % or 0 % by rounding.
fn percent(part: u64, whole: u64) -> String {
    if part == whole {
        return if whole == 0 { "-".to_owned() } else { "100 %".to_owned() };
    }
    if part == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    format!("{:.2} %", percent.clamp(0.01, 99.99))
}

fn mean(sum: u64, count: u64) -> String {
    if count == 0 { "-".to_owned() } else { format!("{:.1}", sum as f64 / count as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_to_all_or_nothing() {
        assert_eq!(percent(999_999, 1_000_000), "99.99 %");
        assert_eq!(percent(1, 1_000_000), "0.01 %");
        assert_eq!([percent(7, 7), percent(0, 7), percent(0, 0)], ["100 %", "0 %", "-"]);
    }

    #[test]
    fn a_row_holds_both_counts() {
        let stacks = Counts { all: 2, complete: 1, frames: 5, ..Counts::default() };
        let events = Counts { all: 10, complete: 10, frames: 30, ..Counts::default() };
        let reasons = [("no_module".to_owned(), 1)].into();
        let figures = Figures { stacks, events, reasons, ..Figures::default() };
        let text = tables(&[Row { program: "p", method: Method::FramePointer, figures }], &[]);
        let expected =
            "| p | fp | 2 / 10 | 50.00 % / 100 % | 2.5 / 3.0 | 0 % / 0 % | - / - | 0 % / 0 % | no_module 1 |";
        assert_eq!(text.lines().nth(2), Some(expected));
    }
}
