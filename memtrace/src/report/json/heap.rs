//! Heaps in the schema.

use std::{io, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Amount, Json, SCHEMA,
    leaks::LeakCheck,
    line,
    values::{optional_seconds, rfc3339},
};
use crate::{
    profile::{self, Finding, Hint},
    report::heap::HeapView,
};

impl Json {
    /// Writes the report of a heap.
    pub(in crate::report) fn heap(&self, out: &mut dyn io::Write, view: &HeapView<'_>) -> io::Result<()> {
        line(out, &Report::from(view))
    }
}

/// The report of a scan: of one process, on one line.
#[derive(Serialize)]
struct Report<'a> {
    /// Version of the schema: 1.
    schema: u32,
    /// Wall-clock time in UTC, RFC 3339, whole seconds.
    #[serde(serialize_with = "rfc3339")]
    time: Timestamp,
    /// Whether this is the last report of the process.
    last: bool,
    target: Target<'a>,
    heap: Heap<'a>,
}

/// What was scanned.
#[derive(Serialize)]
struct Target<'a> {
    /// `process`.
    kind: &'static str,
    pids: [u32; 1],
    /// Command name, at most 15 bytes.
    comm: &'a str,
}

/// What a census and scans found.
#[derive(Serialize)]
struct Heap<'a> {
    /// `glibc` or `jemalloc`.
    allocator: &'a str,
    /// Its releases that have such a heap: `2.35 to 2.41`.
    releases: &'a str,
    /// Other allocators, whose blocks are not counted: their memory is taken as roots.
    other_allocators: &'a [String],
    /// Blocks in use; the bytes are those that the program may use.
    in_use: Amount,
    /// The part that are mappings of their own.
    mapped: Amount,
    kept: Kept,
    arenas: Vec<Arena>,
    /// `decided`, `root_missing` (so much looks lost that something was overlooked) or `undecided` (memory is swapped out, or
    /// pointers move too fast).
    verdict: &'static str,
    /// Blocks that nothing leads to; null without a verdict.
    lost: Option<Amount>,
    /// Of those, the ones that no other lost block points to; null without a verdict.
    directly_lost: Option<Amount>,
    /// Whether all blocks were found, and all that may hold pointers to them was read.
    complete: bool,
    /// The scans.
    scan: LeakCheck,
    /// Seconds of tracing that told who allocates (`--duration`); null without.
    #[serde(serialize_with = "optional_seconds")]
    traced_s: Option<Duration>,
    /// How many classes there are; `classes` may list fewer.
    classes_found: usize,
    /// Blocks by size, lost ones by type too: what has lost most first, then what holds most.
    classes: Vec<Class<'a>>,
    /// What holds most: each block counts for the root from which it was reached first.
    held_by: Vec<HeldBy<'a>>,
    /// What has changed since the report before; null in the first.
    growth: Option<Growth<'a>>,
}

/// Free memory that the allocator keeps.
#[derive(Serialize)]
struct Kept {
    /// In memory.
    bytes: u64,
    /// Free too, but not in memory: never used, or given back.
    absent_bytes: u64,
    /// The part of `bytes` that `malloc_trim(0)` would give back, or a purge of jemalloc's arenas.
    trimmable_bytes: u64,
    /// At the ends of arenas (top); the rest of these are parts of `bytes` and `absent_bytes` together.
    top_bytes: u64,
    /// Between blocks (bins of glibc, slabs of jemalloc).
    bins_bytes: u64,
    /// In fast bins.
    fastbins_bytes: u64,
    /// In caches of threads (tcache).
    caches_bytes: u64,
    /// Whole extents of jemalloc that it gives back when they have aged (dirty).
    dirty_bytes: u64,
    /// The same that the kernel may take already (muzzy).
    muzzy_bytes: u64,
    /// Address space that jemalloc keeps without memory; in no other figure.
    retained_bytes: u64,
}

impl From<profile::Kept> for Kept {
    fn from(kept: profile::Kept) -> Self {
        let bytes = kept.bytes();
        let profile::Kept { top, bins, fastbins, caches, absent, trimmable, dirty, muzzy, retained } = kept;
        Self {
            bytes,
            absent_bytes: absent,
            trimmable_bytes: trimmable,
            top_bytes: top,
            bins_bytes: bins,
            fastbins_bytes: fastbins,
            caches_bytes: caches,
            dirty_bytes: dirty,
            muzzy_bytes: muzzy,
            retained_bytes: retained,
        }
    }
}

/// An arena of the allocator.
#[derive(Serialize)]
struct Arena {
    /// Whether it grows by `brk`; of jemalloc the first one.
    main: bool,
    in_use: Amount,
    kept: Kept,
}

/// Blocks of one size; where some are lost, of one type.
#[derive(Serialize)]
struct Class<'a> {
    /// Bytes that the program may use of each.
    size: u64,
    /// All blocks of this size in use, of whatever type.
    blocks: u64,
    /// Those of this type that are lost.
    lost_blocks: u64,
    /// Of these, those that no other lost block points to.
    directly_lost_blocks: u64,
    /// C++ type, by the vtable that they begin with, or null.
    r#type: Option<&'a str>,
    /// What one of them holds, or null: a text of at most 64 bytes, or the name of a variable.
    hint: Option<&'a str>,
    /// What `hint` is: `text`, or `symbol` for a variable that the block points to; null without one.
    hint_kind: Option<&'static str>,
    /// Who allocated blocks of this size while they were traced: those that lose blocks first, then the most blocks.
    allocated_by: Vec<AllocatedBy<'a>>,
}

/// A function that allocates blocks of a size.
#[derive(Serialize)]
struct AllocatedBy<'a> {
    /// Demangled, and unescaped.
    function: &'a str,
    /// Its source file, or null.
    file: Option<&'a str>,
    /// The line of the call, or null.
    line: Option<u32>,
    /// Blocks of this size from the time of tracing that were not freed in it.
    blocks: u64,
    /// Whether blocks of the same call are lost.
    loses: bool,
}

impl<'a> Class<'a> {
    fn new(class: &'a profile::SizeClass, view: &HeapView<'a>) -> Self {
        let of = |seen: &'a profile::Seen| seen.of(view.heap.process.pid, class.size, &view.heap.allocator);
        let allocated_by =
            view.heap.seen.as_deref().map(of).unwrap_or_default().into_iter().map(|(stack, blocks)| {
                let (file, line) = stack.place.as_ref().map(|(file, line)| (file.as_str(), *line)).unzip();
                AllocatedBy { function: &stack.function, file, line, blocks, loses: stack.lost > 0 }
            });
        let (hint, hint_kind) = match &class.hint {
            Some(Hint::Text(text)) => (Some(text.as_str()), Some("text")),
            Some(Hint::Symbol(name)) => (Some(name.as_str()), Some("symbol")),
            None => (None, None),
        };
        Self {
            size: class.size,
            blocks: class.blocks,
            lost_blocks: class.lost,
            directly_lost_blocks: class.directly,
            r#type: class.type_name.as_deref(),
            hint,
            hint_kind,
            allocated_by: allocated_by.collect(),
        }
    }
}

/// A root, and what it holds.
#[derive(Serialize)]
struct HeldBy<'a> {
    /// As in `held_by` of stacks.
    root: &'static str,
    /// The variable, section, thread or mapping; null for the others.
    name: Option<&'a str>,
    /// The file that has the variable.
    module: Option<&'a str>,
    /// The thread.
    tid: Option<u32>,
    bytes: u64,
    blocks: u64,
}

/// What has changed between two reports of a process.
#[derive(Serialize)]
struct Growth<'a> {
    in_use_bytes: i64,
    in_use_blocks: i64,
    kept_bytes: i64,
    lost_bytes: i64,
    lost_blocks: i64,
    /// What became lost, by size and type: the most bytes first.
    lost: Vec<Grown<'a>>,
    /// Which sizes grow: the most bytes first.
    sizes: Vec<Grown<'a>>,
}

/// By how much the blocks of a size have become more.
#[derive(Serialize)]
struct Grown<'a> {
    size: u64,
    r#type: Option<&'a str>,
    /// How many more.
    blocks: u64,
    /// How many now.
    now: u64,
}

impl<'a> From<&HeapView<'a>> for Report<'a> {
    fn from(view: &HeapView<'a>) -> Self {
        let profile::Heap { process, verdict, check, .. } = view.heap;
        let heap = view.heap;
        let decided = |amount: profile::Amount| (*verdict == Finding::Decided).then(|| amount.into());
        let held_by = heap.holders.iter().map(|profile::HeldBytes { root, held }| HeldBy {
            root: root.key(),
            name: root.name(),
            module: root.module(),
            tid: root.tid(),
            bytes: held.bytes,
            blocks: held.blocks,
        });
        let arenas = heap.arenas.iter().map(|arena| Arena {
            main: arena.is_main,
            in_use: arena.in_use.into(),
            kept: arena.kept.into(),
        });
        Self {
            schema: SCHEMA,
            time: view.time,
            last: view.last,
            target: Target { kind: "process", pids: [process.pid], comm: &process.comm },
            heap: Heap {
                allocator: &heap.allocator,
                releases: &heap.releases,
                other_allocators: &heap.others,
                in_use: heap.in_use.into(),
                mapped: heap.mapped.into(),
                kept: heap.kept().into(),
                arenas: arenas.collect(),
                verdict: match verdict {
                    Finding::Decided => "decided",
                    Finding::RootMissing { .. } => "root_missing",
                    Finding::Undecided => "undecided",
                },
                lost: decided(check.reached.lost()),
                directly_lost: decided(check.reached.directly),
                complete: heap.is_complete(),
                scan: check.into(),
                traced_s: heap.seen.as_ref().map(|seen| seen.traced),
                classes_found: heap.classes.len(),
                classes: heap
                    .classes
                    .iter()
                    .take(view.shown())
                    .map(|class| Class::new(class, view))
                    .collect(),
                held_by: held_by.collect(),
                growth: heap.growth.as_ref().map(|growth| self::growth(growth, view.shown())),
            },
        }
    }
}

fn growth(growth: &profile::HeapGrowth, shown: usize) -> Growth<'_> {
    Growth {
        in_use_bytes: growth.in_use.0,
        in_use_blocks: growth.in_use.1,
        kept_bytes: growth.kept,
        lost_bytes: growth.lost.0,
        lost_blocks: growth.lost.1,
        lost: grown(&growth.lost_classes, shown),
        sizes: grown(&growth.grown_classes, shown),
    }
}

fn grown(classes: &[profile::GrownClass], shown: usize) -> Vec<Grown<'_>> {
    let classes = classes.iter().take(shown).map(|class| Grown {
        size: class.size,
        r#type: class.type_name.as_deref(),
        blocks: class.blocks,
        now: class.now,
    });
    classes.collect()
}
