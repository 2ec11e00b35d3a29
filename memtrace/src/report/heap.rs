//! The heap of a process in words.

use std::io::{self, Write};

use jiff::Timestamp;

use super::escape::{escape, short};
use super::seen::allocated;
use super::{Text, leaks};
use crate::profile::units::{format_bytes, format_count, format_number, format_percent, format_signed};
use crate::profile::{
    Amount, Finding, GrownClass, Heap, HeapArena, HeapGrowth, HeldBytes, Hint, Kept, Root, SizeClass, View,
};

/// Arenas that are listed one by one; sizes of blocks in use, and holders.
const ARENAS: usize = 3;
const SIZES: usize = 4;
const HOLDERS: usize = 5;
/// A holder of a smaller part is not listed.
const LEAST_HELD: f64 = 0.01;
/// What is not worth a line: bytes that `malloc_trim` would give back.
const WORTH: u64 = 1 << 20;

/// A heap, and how to show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeapView<'a> {
    /// The heap.
    pub(super) heap: &'a Heap,
    /// Wall-clock time.
    pub(super) time: Timestamp,
    /// Whether there will be no other report.
    pub(super) last: bool,
    /// Classes of blocks that are shown at most; 0: all.
    pub(super) top: usize,
}

impl<'a> HeapView<'a> {
    /// The heaps of the process chosen, or of all, if a report is one of scans.
    pub(super) fn all(view: &View<'a>) -> Option<Vec<Self>> {
        let profile = view.profile();
        let (time, last, top) = (profile.time, profile.last, view.selection().top);
        let is_chosen = |heap: &&Heap| view.selection().pid.is_none_or(|pid| pid == heap.process.pid);
        Some(profile.heaps()?.iter().filter(is_chosen).map(|heap| Self { heap, time, last, top }).collect())
    }

    /// How many classes are shown.
    pub(super) fn shown(&self) -> usize {
        if self.top == 0 { usize::MAX } else { self.top }
    }
}

impl Text {
    /// Writes the report of a heap.
    pub(super) fn heap(&self, out: &mut dyn Write, view: &HeapView<'_>) -> io::Result<()> {
        let HeapView { heap, .. } = view;
        let time = view.time.to_zoned(self.zone().clone());
        writeln!(
            out,
            "[{}] {} (pid {}): heap of {} ({}); {}",
            time.strftime("%H:%M:%S"),
            escape(&heap.process.comm),
            heap.process.pid,
            heap.allocator,
            heap.releases,
            leaks::cost(&heap.check)
        )?;
        writeln!(
            out,
            "In use: {} in {}{}",
            self.emphasis(&format_bytes(heap.in_use.bytes)),
            format_count(heap.in_use.blocks, "block"),
            sizes(heap)
        )?;
        self.kept(out, heap)?;
        self.lost(out, view)?;
        if let Some(growth) = &heap.growth {
            self.growth(out, growth, view.shown())?;
        }
        holders(out, heap)?;
        notes(heap).iter().try_for_each(|note| writeln!(out, "Note: {note}"))?;
        writeln!(out)
    }

    /// What the allocator keeps free, and what would give it back.
    fn kept(&self, out: &mut dyn Write, heap: &Heap) -> io::Result<()> {
        let all = heap.kept();
        writeln!(
            out,
            "{} keeps {} free: not a leak{}",
            heap.allocator,
            self.emphasis(&format_bytes(all.bytes())),
            absent(all)
        )?;
        let is_glibc = is_glibc(heap);
        let mut arenas: Vec<&HeapArena> = heap.arenas.iter().collect();
        arenas.sort_by_key(|arena| (!arena.is_main, std::cmp::Reverse(arena.kept.bytes())));
        let (shown, rest) = arenas.split_at(arenas.len().min(ARENAS));
        for arena in shown {
            let name = match (arena.is_main, is_glibc) {
                (true, true) => "main arena",
                (true, false) => "first arena",
                (false, _) => "another arena",
            };
            writeln!(out, "  {name}: {}", parts(arena.kept, is_glibc))?;
        }
        if !rest.is_empty() {
            let sum = rest.iter().fold(Kept::default(), |sum, arena| sum.plus(arena.kept));
            writeln!(out, "  {}: {}", format_count(rest.len() as u64, "other arena"), parts(sum, is_glibc))?;
        }
        cures(heap, all).iter().try_for_each(|cure| writeln!(out, "  {cure}"))
    }

    /// What is lost.
    fn lost(&self, out: &mut dyn Write, view: &HeapView<'_>) -> io::Result<()> {
        let heap = view.heap;
        let reached = &heap.check.reached;
        let lost = reached.lost();
        match heap.verdict {
            Finding::RootMissing { lost, blocks } => {
                return writeln!(
                    out,
                    "No verdict on leaks: {} of {} look lost, of most sizes; something that leads to them was overlooked",
                    format_number(lost),
                    format_count(blocks, "block")
                );
            }
            Finding::Undecided if heap.check.skipped > 0 => {
                return writeln!(
                    out,
                    "No verdict on leaks: {} were not read (swapped out), which may hold the only pointers",
                    format_bytes(heap.check.skipped)
                );
            }
            Finding::Undecided => {
                return writeln!(
                    out,
                    "No verdict on leaks: pointers move faster than they can be read; --stop stops the process for one scan"
                );
            }
            Finding::Decided if lost.blocks == 0 => {
                return writeln!(
                    out,
                    "Lost: nothing; something points to each of {}",
                    format_count(heap.in_use.blocks, "block")
                );
            }
            Finding::Decided => {}
        }
        writeln!(
            out,
            "{} in {}: nothing points to them ({} directly, {} through them)",
            self.emphasis(&format!("LOST {}", format_bytes(lost.bytes))),
            format_count(lost.blocks, "block"),
            format_number(reached.directly.blocks),
            format_number(reached.indirectly.blocks)
        )?;
        let classes = || heap.classes.iter().filter(|class| class.lost > 0);
        for class in classes().take(view.shown()) {
            writeln!(out, "  {}", self::class(class, lost.bytes))?;
            if let Some(seen) = &heap.seen {
                allocated(out, seen, heap, class.size)?;
            }
        }
        let hidden = classes().count().saturating_sub(view.shown());
        if hidden > 0 {
            writeln!(out, "  … and {} more (--top 0 shows all)", format_number(hidden as u64))?;
        }
        Ok(())
    }

    /// What has changed.
    fn growth(&self, out: &mut dyn Write, growth: &HeapGrowth, shown: usize) -> io::Result<()> {
        let HeapGrowth { in_use, kept, lost, lost_classes, grown_classes } = growth;
        writeln!(
            out,
            "Since the previous scan: in use {} ({} blocks), kept free {}, lost {} ({} blocks)",
            self.emphasis(&format_signed(in_use.0, format_bytes)),
            format_signed(in_use.1, format_number),
            format_signed(*kept, format_bytes),
            self.emphasis(&format_signed(lost.0, format_bytes)),
            format_signed(lost.1, format_number)
        )?;
        for (what, classes) in [("lost since", lost_classes), ("grown", grown_classes)] {
            for class in classes.iter().take(shown) {
                writeln!(out, "  {what}: {}", grown(class))?;
            }
        }
        Ok(())
    }
}

fn grown(class: &GrownClass) -> String {
    let GrownClass { size, type_name, blocks, now } = class;
    format!(
        "{} x {} B ({}), now {}{}",
        format_number(*blocks),
        format_number(*size),
        format_bytes(blocks.saturating_mul(*size)),
        format_number(*now),
        type_name.as_deref().map(of_type).unwrap_or_default()
    )
}

fn of_type(name: &str) -> String {
    format!("  type {}", short(name))
}

/// The sizes that hold most.
fn sizes(heap: &Heap) -> String {
    let mut classes: Vec<&SizeClass> = Vec::new();
    for class in &heap.classes {
        if !classes.iter().any(|known| known.size == class.size) {
            classes.push(class);
        }
    }
    classes.sort_by_key(|class| std::cmp::Reverse(class.bytes()));
    let one = |class: &&SizeClass| {
        let share = class.bytes() as f64 / heap.in_use.bytes.max(1) as f64;
        format!(
            "{} x {} B ({})",
            format_number(class.blocks),
            format_number(class.size),
            format_percent(share)
        )
    };
    let shown: Vec<String> = classes.iter().take(SIZES).map(one).collect();
    if shown.is_empty() { String::new() } else { format!("; most in {}", shown.join(", ")) }
}

/// What is free and not in memory.
fn absent(kept: Kept) -> String {
    let not_in_memory = kept.absent.saturating_add(kept.retained);
    if not_in_memory == 0 {
        return String::new();
    }
    format!(" ({} more of it are not in memory: given back, or never used)", format_bytes(not_in_memory))
}

/// Whether the heap is the C library's; otherwise it is jemalloc's.
fn is_glibc(heap: &Heap) -> bool {
    heap.allocator == "glibc"
}

/// Where the free memory of arenas is.
fn parts(kept: Kept, is_glibc: bool) -> String {
    let Kept { top, bins, fastbins, caches, absent, dirty, muzzy, .. } = kept;
    let parts = [
        (bins, if is_glibc { "between blocks (bins)" } else { "between blocks (in slabs)" }),
        (fastbins, "in fast bins"),
        (caches, "in caches of threads (tcache)"),
        (top, "at its end (top)"),
        (dirty, "in whole extents (dirty)"),
        (muzzy, "that the kernel may take (muzzy)"),
    ];
    let parts = parts.into_iter().filter(|(bytes, _)| *bytes > 0);
    let parts: Vec<String> = parts.map(|(bytes, what)| format!("{} {what}", format_bytes(bytes))).collect();
    let of =
        if absent > 0 { format!("; of it {} not in memory", format_bytes(absent)) } else { String::new() };
    let parts = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
    format!("{} kept: {parts}{of}", format_bytes(kept.bytes()))
}

/// What would give free memory back.
fn cures(heap: &Heap, all: Kept) -> Vec<String> {
    if !is_glibc(heap) {
        return jemalloc_cures(all);
    }
    let mut cures = Vec::new();
    if all.trimmable >= WORTH {
        cures.push(format!("malloc_trim(0) would give back {}", format_bytes(all.trimmable)));
    }
    let main = heap.arenas.iter().filter(|arena| arena.is_main);
    let top: u64 = main.map(|arena| arena.kept.top.min(arena.kept.bytes())).sum();
    if top >= WORTH && top * 2 > all.bytes() {
        cures.push(
            "a lower M_TRIM_THRESHOLD gives the end of the main arena back when blocks are freed".to_owned(),
        );
    }
    let others = heap.arenas.iter().filter(|arena| !arena.is_main);
    let others = others.fold(Kept::default(), |sum, arena| sum.plus(arena.kept)).bytes();
    if heap.arenas.len() > 2 && others >= WORTH && others * 2 > all.bytes() {
        cures.push(format!(
            "MALLOC_ARENA_MAX=2 leaves fewer arenas than these {} to keep memory",
            format_number(heap.arenas.len() as u64)
        ));
    }
    if all.caches >= WORTH && all.caches * 2 > all.bytes() {
        cures.push("GLIBC_TUNABLES=glibc.malloc.tcache_count=0 leaves threads without caches".to_owned());
    }
    cures
}

/// What would give free memory of jemalloc's back (jemalloc(3)).
fn jemalloc_cures(all: Kept) -> Vec<String> {
    let mut cures = Vec::new();
    if all.trimmable >= WORTH {
        cures.push(format!(
            "mallctl(\"arena.4096.purge\") would give back {}; jemalloc does so itself after dirty_decay_ms and muzzy_decay_ms, \
             while the program is idle only with background_thread:true",
            format_bytes(all.trimmable)
        ));
    }
    if all.bins >= WORTH && all.bins * 2 > all.bytes() {
        cures.push(
            "memory in slabs is given back when all blocks of a slab are free: no call does so before"
                .to_owned(),
        );
    }
    if all.caches >= WORTH && all.caches * 2 > all.bytes() {
        cures.push("MALLOC_CONF=tcache:false leaves threads without caches; mallctl(\"thread.tcache.flush\") empties one".to_owned());
    }
    cures
}

/// Lost blocks of one size and type.
fn class(class: &SizeClass, all: u64) -> String {
    let SizeClass { size, blocks, lost, directly, type_name, hint } = class;
    let share = class.lost_bytes() as f64 / all.max(1) as f64;
    let hint = match hint {
        Some(Hint::Text(text)) => format!("  text \"{}\"", escape(text)),
        Some(Hint::Symbol(name)) => format!("  points to {}", short(name)),
        None => String::new(),
    };
    format!(
        "{} x {} B = {} ({}), {} directly; {} of this size in use{}{hint}",
        format_number(*lost),
        format_number(*size),
        format_bytes(class.lost_bytes()),
        format_percent(share),
        format_number(*directly),
        format_number(*blocks),
        type_name.as_deref().map(of_type).unwrap_or_default()
    )
}

/// What holds most of the rest.
fn holders(out: &mut dyn Write, heap: &Heap) -> io::Result<()> {
    let reached = heap.check.reached.reachable.plus(heap.check.reached.possibly);
    let share = |held: &Amount| held.bytes as f64 / reached.bytes.max(1) as f64;
    let listed = heap.holders.iter().take(HOLDERS).filter(|holder| share(&holder.held) >= LEAST_HELD);
    let listed: Vec<&HeldBytes> = listed.collect();
    if !listed.is_empty() {
        writeln!(out, "Held by, as each block was reached first:")?;
    } else if heap.holders.is_empty() && reached.blocks > 0 {
        writeln!(
            out,
            "Held by: not recorded, as there are too many pointers for the memory that a scan may use"
        )?;
    }
    listed.into_iter().try_for_each(|HeldBytes { root, held }| {
        let root = match root {
            // Every block of the heap is known.
            Root::Heap => "memory that the program mapped itself, or of another allocator".to_owned(),
            root => leaks::root(root),
        };
        writeln!(
            out,
            "  {} ({}) in {}: {}",
            format_bytes(held.bytes),
            format_percent(share(held)),
            format_count(held.blocks, "block"),
            root
        )
    })
}

/// What else to know.
fn notes(heap: &Heap) -> Vec<String> {
    let mut notes = Vec::new();
    if !heap.others.is_empty() {
        notes.push(format!(
            "blocks of {} are not counted: that heap is taken as roots",
            escape(&heap.others.join(", "))
        ));
    }
    if !heap.is_walked {
        notes.push(format!(
            "not all of the heap was understood ({} could not be walked): what is there is taken as roots",
            format_bytes(heap.unwalked_bytes)
        ));
    }
    if !heap.check.complete && heap.verdict == Finding::Decided {
        notes.push(
            "not every register and page was read: a block may look lost that something still points to"
                .to_owned(),
        );
    }
    notes
}
