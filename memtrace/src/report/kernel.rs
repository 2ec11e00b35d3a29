//! Text of kernel mode, apart from stacks.

use std::io::{self, Write};

use super::escape;
use super::estimates::share;
use crate::profile::units::{format_bytes, format_count, format_number, format_rate, format_signed};
use crate::profile::{
    By, CacheRow, Dictionary, Frame, KERNEL_CODE, Kernel, KernelDetail, LeftOut, MemoryKind, Profile, Row,
    View,
};

/// Caches below the stacks; with `--by cache` as many as asked for.
const CACHES_SHOWN: usize = 5;

/// What is traced, for the header.
pub(super) fn target(of: &Kernel) -> String {
    let pids: Vec<String> = of.pids.iter().map(u32::to_string).collect();
    let tasks = if pids.is_empty() { String::new() } else { format!(" for pid {}", pids.join(", ")) };
    let cgroup = of.cgroup.as_ref().map(|path| format!(" for cgroup {}", escape(path))).unwrap_or_default();
    let kinds: Vec<&str> = of.kinds.iter().map(|kind| kind.name()).collect();
    format!("the kernel{tasks}{cgroup} ({} memory)", kinds.join(", "))
}

/// How it is traced, for the header.
pub(super) fn method(sizes: Option<String>, older: String) -> String {
    let sizes = sizes.map(|sizes| format!(" {sizes}")).unwrap_or_default();
    format!("every allocation{sizes} counted{older}, stacks from the kernel's unwinder")
}

/// What a row is of, after its amount.
pub(super) fn of(dictionary: &Dictionary, detail: &KernelDetail) -> String {
    match (detail.cache, detail.kind) {
        (None, MemoryKind::Unknown) => " of unknown kind and size".to_owned(),
        (Some(cache), _) => format!(" of {}", escape(dictionary.text(cache))),
        (None, kind) => format!(" of {} memory", kind.name()),
    }
}

/// What a row adds to its line.
pub(super) fn more(row: &Row, detail: &KernelDetail, profile: &Profile) -> String {
    let seconds = profile.elapsed.as_secs_f64().max(0.1);
    let (bytes, blocks) = (row.outstanding.bytes as f64 / seconds, row.outstanding.blocks as f64 / seconds);
    let unseen = match detail.phantoms {
        0 => String::new(),
        phantoms => format!(", {} more tracked but freed unseen", format_number(phantoms)),
    };
    format!(", since the start {} and {blocks:+.1} objects/s{unseen}", format_rate(bytes))
}

/// Frames as the kernel writes them: `function+offset [module]`.
pub(super) fn frames(out: &mut dyn Write, frames: &[Frame<'_>]) -> io::Result<()> {
    for frame in frames {
        match frame.function {
            Some(function) => write!(out, "    {}+{:#x}", escape(function), frame.function_offset)?,
            None => write!(out, "    {:#x}", frame.module_offset)?,
        }
        if frame.function.is_none() || frame.module != KERNEL_CODE {
            write!(out, "  [{}]", escape(frame.module.trim_matches(['[', ']'])))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The caches: instead of stacks, or a few below them.
pub(super) fn caches(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let (all, found) = view.caches();
    if all.is_empty() {
        return Ok(());
    }
    let shown = if view.selection().by == By::Cache { all.len() } else { CACHES_SHOWN };
    let rows: Vec<&CacheRow> = all.into_iter().take(shown).collect();
    let name = |row: &CacheRow| match row.cache {
        Some(name) => escape(view.dictionary().text(name)).into_owned(),
        None => format!("({})", row.kind.name()),
    };
    let width = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "\n{:width$}  {:>10} {:>10} {:>10} {:>10} {:>8}  rate",
        "cache", "bytes", "objects", "tracked", "grown", "phantom"
    )?;
    for row in &rows {
        let grown = match (row.grown_blocks, row.grown_bytes) {
            (Some(blocks), _) => format_signed(blocks, format_number),
            (None, Some(bytes)) => format_signed(bytes, format_bytes),
            (None, None) => "-".to_owned(),
        };
        // Which objects were freed unseen is known for slab caches only.
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
    let hidden = found.saturating_sub(rows.len());
    if hidden > 0 {
        writeln!(out, "… and {}", format_count(hidden as u64, "more cache"))?;
    }
    Ok(())
}

/// Memory that is in no row.
pub(super) fn left_out(out: &mut dyn Write, profile: &Profile) -> io::Result<()> {
    let Some(of) = profile.kernel() else { return Ok(()) };
    if let Some(bytes) = of.user_page_bytes {
        writeln!(
            out,
            "\nNot counted: {} of pages for user memory and page cache since the start, by any process; {} of pages \
             that back other rows.",
            format_bytes(bytes),
            format_bytes(of.counted_elsewhere.bytes)
        )?;
    }
    Ok(())
}

/// Growth that the traced kinds leave out, in a sentence.
pub(super) fn grown(what: LeftOut, grown: u64, also: Option<u64>, option: Option<&str>) -> String {
    let bytes = format_bytes(grown);
    let by = option
        .map(|option| format!(", which the traced kinds leave out; {option} shows by whom"))
        .unwrap_or_default();
    match what {
        LeftOut::Slab => format!("slab memory of the whole machine grew by {bytes}{by}"),
        LeftOut::Percpu => format!("per-CPU memory of the whole machine grew by {bytes}{by}"),
        LeftOut::Vmalloc => format!("vmalloc memory of the whole machine grew by {bytes}{by}"),
        LeftOut::PageTables => format!("page tables of the whole machine grew by {bytes}{by}"),
        LeftOut::Pages => format!(
            "pages that drivers, sockets and pipes of the whole machine took grew by about {bytes}{by}"
        ),
        LeftOut::Sockets => {
            format!("what is queued in TCP and UDP sockets grew by {bytes}{by}; `ss -tuanm` shows queues")
        }
        LeftOut::SharedMemory => format!(
            "shared memory and tmpfs of the whole machine grew by {bytes}: they are user memory, which no kind shows; \
             `df -t tmpfs` and `ipcs -m` do"
        ),
        LeftOut::Segments => format!(
            "System V shared memory grew by {} of {bytes}: `ipcs -m -t` shows by whom, `ipcrm` removes them",
            format_count(also.unwrap_or(0), "segment")
        ),
    }
}
