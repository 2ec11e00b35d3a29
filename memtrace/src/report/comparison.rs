//! Two reports compared, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::escape::short;
use super::text::{Style, Text};
use crate::profile::units::{format_age, format_bytes, format_count, format_number};
use crate::profile::{Amount, Change, Dictionary, Diff, Frame, Profile, StackId};

/// The version of the JSON.
const SCHEMA: u32 = 1;

/// Two reports, and what changed from one to the other.
#[derive(Clone, Copy)]
pub struct Comparison<'a> {
    /// The earlier one, with its dictionary.
    pub before: (&'a Dictionary, &'a Profile),
    /// The later one.
    pub after: (&'a Dictionary, &'a Profile),
    /// What changed.
    pub diff: &'a Diff,
    /// Stacks shown of each kind; 0 for all.
    pub top: usize,
}

impl<'a> Comparison<'a> {
    /// Each kind of change with its heading.
    fn kinds(&self) -> [(&'static str, &'a [Change]); 4] {
        let Diff { new, grown, shrunk, gone, .. } = self.diff;
        [("Grew", grown), ("New", new), ("Shrank", shrunk), ("Gone", gone)]
    }

    fn shown(&self, changes: &'a [Change]) -> &'a [Change] {
        let most = if self.top == 0 { changes.len() } else { self.top };
        changes.get(..most).unwrap_or(changes)
    }

    fn frames(&self, change: &Change) -> Vec<Frame<'a>> {
        let of =
            |(dictionary, _): (&'a Dictionary, &Profile), stack: Option<StackId>| dictionary.frames_of(stack);
        if change.stack.is_some() { of(self.after, change.stack) } else { of(self.before, change.earlier) }
    }

    /// Whether both are scans of heaps: their rows are sizes.
    fn are_heaps(&self) -> bool {
        self.before.1.heaps().is_some() && self.after.1.heaps().is_some()
    }

    /// What a row is.
    fn noun(&self) -> &'static str {
        if self.are_heaps() { "size" } else { "stack" }
    }

    /// For people.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let (before, after) = (self.before.1, self.after.1);
        let _ = writeln!(out, "{} compared with {}", titled(after), titled(before));
        let (then, now) = (before.outstanding, after.outstanding);
        let _ = writeln!(
            out,
            "Outstanding: {} in {}, before {} in {} ({})",
            format_bytes(now.bytes),
            format_count(now.blocks, "block"),
            format_bytes(then.bytes),
            format_count(then.blocks, "block"),
            change_of(then, now)
        );
        let text = Text::new(style, jiff::tz::TimeZone::UTC);
        for (kind, changes) in self.kinds() {
            if changes.is_empty() {
                continue;
            }
            let noun = self.noun();
            let _ = writeln!(out, "\n{kind}: {}", format_count(changes.len() as u64, noun));
            for (index, change) in self.shown(changes).iter().enumerate() {
                self.change(&mut out, &text, index + 1, change);
            }
            let hidden = changes.len() - self.shown(changes).len();
            if hidden > 0 {
                let _ = writeln!(
                    out,
                    "\n… and {} (--top 0 shows all)",
                    format_count(hidden as u64, &format!("more {noun}"))
                );
            }
        }
        let same = self.diff.same;
        if same > 0 {
            let _ = writeln!(out, "\nUnchanged: {}", format_count(same as u64, self.noun()));
        }
        if self.kinds().iter().all(|(_, changes)| changes.is_empty()) && same == 0 {
            out.push_str("Nothing is outstanding in either report.\n");
        }
        out
    }

    fn change(&self, out: &mut String, text: &Text, rank: usize, change: &Change) {
        let Change { before, after, .. } = change;
        let _ = writeln!(
            out,
            "\n#{rank}  {}: {} in {}, before {} in {}",
            text.emphasis(&change_of(*before, *after)),
            format_bytes(after.bytes),
            format_count(after.blocks, "block"),
            format_bytes(before.bytes),
            format_count(before.blocks, "block")
        );
        let [lost_before, lost] = change.lost;
        if lost.blocks > 0 {
            let before = if change.earlier.is_some() {
                format!(" (before: {})", format_number(lost_before.blocks))
            } else {
                String::new()
            };
            let blocks = format_count(lost.blocks, "block");
            let _ = writeln!(
                out,
                "    lost: {} in {blocks}: nothing points to them{before}",
                format_bytes(lost.bytes)
            );
        }
        let frames = self.frames(change);
        if self.are_heaps() {
            let names = frames.iter().rev().filter_map(|frame| frame.function);
            let names: Vec<_> = names.map(short).collect();
            let _ = writeln!(out, "    {}", names.join(", "));
            return;
        }
        let mut lines = Vec::new();
        if text.frames(&mut lines, &frames).is_ok() {
            out.push_str(&String::from_utf8_lossy(&lines));
        }
        if frames.is_empty() {
            out.push_str("    (no frames)\n");
        }
    }

    /// For scripts: one object, one line.
    #[must_use]
    pub fn json(&self) -> String {
        let list = |changes: &'a [Change]| -> Vec<Entry<'a>> {
            self.shown(changes).iter().map(|change| Entry::new(change, self.frames(change))).collect()
        };
        let Diff { new, grown, shrunk, gone, same } = self.diff;
        let document = Document {
            schema: SCHEMA,
            before: Side::new(self.before.1),
            after: Side::new(self.after.1),
            grown: list(grown),
            new: list(new),
            shrunk: list(shrunk),
            gone: list(gone),
            found: [grown.len(), new.len(), shrunk.len(), gone.len(), *same],
        };
        super::json::to_line(&document)
    }
}

/// What was traced, and for how long; of a scan, when that was.
fn titled(profile: &Profile) -> String {
    match profile.heaps() {
        Some(_) => {
            let time = profile.time.strftime("%Y-%m-%d %H:%M:%S UTC");
            format!("{}, scanned at {time},", named(profile))
        }
        None => format!("{} after {}", named(profile), format_age(profile.elapsed)),
    }
}

/// What was traced.
fn named(profile: &Profile) -> String {
    if profile.kernel().is_some() {
        return "the kernel".to_owned();
    }
    profile
        .targets()
        .next()
        .map_or_else(String::new, |process| format!("{} (pid {})", short(&process.comm), process.pid))
}

/// `+1.5 MiB`.
fn change_of(before: Amount, after: Amount) -> String {
    let sign = if after.bytes < before.bytes { "-" } else { "+" };
    format!("{sign}{}", format_bytes(after.bytes.abs_diff(before.bytes)))
}

/// The comparison.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    before: Side,
    after: Side,
    /// Stacks that hold more, by growth.
    grown: Vec<Entry<'a>>,
    /// Stacks of the later report only.
    new: Vec<Entry<'a>>,
    /// Stacks that hold less.
    shrunk: Vec<Entry<'a>>,
    /// Stacks of the earlier report only.
    gone: Vec<Entry<'a>>,
    /// How many there are of each, in this order, and how many did not change.
    found: [usize; 5],
}

/// One of the reports.
#[derive(Serialize)]
struct Side {
    elapsed_s: f64,
    bytes: u64,
    blocks: u64,
}

impl Side {
    fn new(profile: &Profile) -> Self {
        let Amount { bytes, blocks } = profile.outstanding;
        Self { elapsed_s: profile.elapsed.as_millis() as f64 / 1e3, bytes, blocks }
    }
}

/// One stack.
#[derive(Serialize)]
struct Entry<'a> {
    before_bytes: u64,
    before_blocks: u64,
    bytes: u64,
    blocks: u64,
    before_lost_bytes: u64,
    before_lost_blocks: u64,
    lost_bytes: u64,
    lost_blocks: u64,
    frames: Vec<super::json::Frame<'a>>,
}

impl<'a> Entry<'a> {
    fn new(change: &Change, frames: Vec<Frame<'a>>) -> Self {
        let [lost_before, lost] = change.lost;
        Self {
            before_bytes: change.before.bytes,
            before_blocks: change.before.blocks,
            bytes: change.after.bytes,
            blocks: change.after.blocks,
            before_lost_bytes: lost_before.bytes,
            before_lost_blocks: lost_before.blocks,
            lost_bytes: lost.bytes,
            lost_blocks: lost.blocks,
            frames: frames.into_iter().map(Into::into).collect(),
        }
    }
}
