//! The table.

use std::fmt::Write as _;

use super::figures::{Amount, Row};

/// Markdown: what is equal once, what is not twice, valgrind's first.
pub(super) fn markdown(rows: &[Row], skipped: &[String], version: &str) -> String {
    let mut text = String::from(
        "| Program | Definitely lost | Indirectly lost | Possibly lost | Still reachable | Equal | Because |\n\
         |---|--:|--:|--:|--:|---|---|\n",
    );
    for row in rows {
        let _ = write!(text, "| {} |", row.program);
        for (theirs, ours) in row.valgrind.parts().into_iter().zip(row.memtrace.parts()) {
            let _ = match theirs == ours {
                true => write!(text, " {} |", amount(theirs)),
                false => write!(text, " {} : {} |", amount(theirs), amount(ours)),
            };
        }
        let equal = if row.is_equal() { "yes" } else { "**no**" };
        let _ = writeln!(text, " {equal} | {} |", because(row));
    }
    let equal = rows.iter().filter(|row| row.is_equal()).count();
    let _ = write!(
        text,
        "\nBlocks / bytes, of {version}; where memtrace's differ, {version} : memtrace. {equal} of {} are equal, \
         block for block.",
        rows.len()
    );
    if !skipped.is_empty() {
        let _ = write!(text, " Not installed: {}.", skipped.join(", "));
    }
    text
}

fn because(row: &Row) -> String {
    let mut text = row.explanation().map(str::to_owned).unwrap_or_default();
    if !row.is_explained() {
        text.push('?');
    }
    if let Some(heuristics) = row.heuristics.filter(|figures| *figures != row.valgrind) {
        let [_, _, possibly, reachable] = heuristics.parts().map(amount);
        let _ = write!(text, " With its heuristics, {possibly} possibly lost and {reachable} reachable.");
    }
    text.trim().to_owned()
}

fn amount(Amount { blocks, bytes }: Amount) -> String {
    if blocks == 0 { "0".to_owned() } else { format!("{blocks} / {bytes}") }
}
