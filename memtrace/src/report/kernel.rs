//! Text of kernel mode: what it shows besides stacks.

use std::io::{self, Write};

use super::escape;
use super::text::share;
use crate::model::units::{format_bytes, format_count, format_number, format_rate};
use crate::model::{
    CacheRow, Frame, KERNEL_CODE, KernelReport, KernelRow, Snapshot, StackRow, TargetInfo, UNKNOWN_MEMORY,
};

/// Caches below the stacks; with `--by cache` as many as asked for.
const CACHES_SHOWN: usize = 5;

/// What is traced, for the header.
pub(super) fn target(target: &TargetInfo, report: &KernelReport) -> String {
    let tasks = match target.pids.as_slice() {
        [] => String::new(),
        pids => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            format!(" for pid {}", pids.join(", "))
        }
    };
    let cgroup =
        report.cgroup.as_ref().map(|path| format!(" for cgroup {}", escape(path))).unwrap_or_default();
    format!("the kernel{tasks}{cgroup} ({} memory)", report.kinds.join(", "))
}

/// What a row is of, after its amount.
pub(super) fn of(row: &KernelRow) -> String {
    match &row.cache {
        None if row.kind == UNKNOWN_MEMORY => " of a kind and size that are not known".to_owned(),
        Some(cache) => format!(" of {}", escape(cache)),
        None if row.kind == "slab" => " of slab memory".to_owned(),
        None => format!(" of {} memory", row.kind),
    }
}

/// What a row adds to its line.
pub(super) fn more(row: &StackRow, kernel: &KernelRow, snapshot: &Snapshot) -> String {
    let seconds = snapshot.elapsed.as_secs_f64().max(0.1);
    let (bytes, blocks) = (row.outstanding.bytes as f64 / seconds, row.outstanding.blocks as f64 / seconds);
    let unseen = match kernel.phantoms {
        0 => String::new(),
        phantoms => format!(", {} more tracked but freed unseen", format_number(phantoms)),
    };
    format!(", since the start {} and {blocks:+.1} objects/s{unseen}", format_rate(bytes))
}

/// Frames as the kernel itself writes them: `function+offset [module]`.
pub(super) fn frames(out: &mut dyn Write, frames: &[Frame]) -> io::Result<()> {
    for frame in frames {
        match &frame.function {
            Some(function) => write!(out, "    {}+{:#x}", escape(function), frame.function_offset)?,
            None => write!(out, "    {:#x}", frame.module_offset)?,
        }
        if frame.function.is_none() || &*frame.module != KERNEL_CODE {
            write!(out, "  [{}]", escape(frame.module.trim_matches(['[', ']'])))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The caches: instead of stacks, or a few below them.
pub(super) fn caches(out: &mut dyn Write, report: &KernelReport) -> io::Result<()> {
    if report.caches.is_empty() {
        return Ok(());
    }
    let shown = if report.by_cache { report.caches.len() } else { CACHES_SHOWN };
    let rows: Vec<&CacheRow> = report.caches.iter().take(shown).collect();
    let name = |row: &CacheRow| {
        row.cache.as_ref().map_or_else(|| format!("({})", row.kind), |name| escape(name).into_owned())
    };
    let width = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "\n{:width$}  {:>10} {:>10} {:>10} {:>10} {:>8}  rate",
        "cache", "bytes", "objects", "tracked", "grown", "phantom"
    )?;
    for row in rows {
        let grown = match (row.grown_blocks, row.grown_bytes) {
            (Some(blocks), _) => signed(blocks, format_number),
            (None, Some(bytes)) => signed(bytes, format_bytes),
            (None, None) => "-".to_owned(),
        };
        // Only of slab caches it is known which objects were freed unseen.
        let phantom = match &row.cache {
            None => "-".to_owned(),
            Some(_) => share(row.phantoms, row.tracked.blocks).unwrap_or_else(|| "0 %".to_owned()),
        };
        writeln!(
            out,
            "{:width$}  {:>10} {:>10} {:>10} {grown:>10} {phantom:>8}  {}, {:+.1} objects/s",
            name(row),
            format_bytes(row.outstanding.bytes),
            format_number(row.outstanding.blocks),
            format_number(row.tracked.blocks),
            format_rate(row.bytes_per_second),
            row.blocks_per_second,
        )?;
    }
    let hidden = report.caches_found.saturating_sub(shown.min(report.caches.len()));
    if hidden > 0 {
        writeln!(out, "… and {}", format_count(hidden as u64, "more cache"))?;
    }
    Ok(())
}

/// Memory that is in no row.
pub(super) fn left_out(out: &mut dyn Write, report: &KernelReport) -> io::Result<()> {
    if let Some(bytes) = report.user_page_bytes {
        writeln!(
            out,
            "\nNot counted: {} of pages handed out for user memory and page cache since the start, by whatever process; {} of pages \
             that other rows are made of.",
            format_bytes(bytes),
            format_bytes(report.counted_elsewhere.bytes)
        )?;
    }
    Ok(())
}

fn signed(number: i64, format: impl Fn(u64) -> String) -> String {
    format!("{}{}", if number < 0 { "-" } else { "+" }, format(number.unsigned_abs()))
}
