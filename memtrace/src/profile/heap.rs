//! The heap of a process, as its allocator's own records and scans of its memory show it: without a probe.

use serde::{Deserialize, Serialize};

use super::{Amount, LeakCheck, Process, Root, Seen};

/// The heap of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heap {
    /// The process.
    pub process: Process,
    /// The allocator whose records were read: `glibc`, `jemalloc`.
    pub allocator: String,
    /// Its releases that keep such records.
    pub releases: String,
    /// Other allocators in the process: their memory is taken as roots.
    pub others: Vec<String>,
    /// Blocks in use; the bytes are those that the program may use.
    pub in_use: Amount,
    /// Its arenas, the main one first.
    pub arenas: Vec<HeapArena>,
    /// Blocks that are mappings of their own, which are in use; the bytes are those of the mappings.
    pub mapped: Amount,
    /// The scans. Every block is in one of the states of `reached`.
    pub check: LeakCheck,
    /// What is lost, or why that cannot be said.
    pub verdict: Finding,
    /// Blocks by size, and lost ones by type too: what has lost most first, then what holds most.
    pub classes: Vec<SizeClass>,
    /// What holds most of the reachable blocks, the largest part first.
    pub holders: Vec<HeldBytes>,
    /// Bytes of the heap that make no sense, or could not be walked: their blocks are unknown.
    pub unwalked_bytes: u64,
    /// Whether all arenas were found and walked, without a gap.
    pub is_walked: bool,
    /// What has changed since an earlier look; `None`: this is the first.
    #[serde(default)]
    pub growth: Option<Box<HeapGrowth>>,
    /// Who allocates blocks of these sizes, by a time of tracing; `None`: nothing was traced.
    #[serde(default)]
    pub seen: Option<Box<Seen>>,
}

/// Whether scans decide which blocks are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// They do.
    #[default]
    Decided,
    /// So much looks lost that something which holds it must have been overlooked.
    RootMissing {
        /// Blocks that look lost.
        lost: u64,
        /// All blocks.
        blocks: u64,
    },
    /// Pointers moved faster than they could be read, or a part of the memory is swapped out.
    Undecided,
}

/// What an arena has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapArena {
    /// Whether it is the one that grows by `brk`; of jemalloc the first one.
    pub is_main: bool,
    /// Its blocks in use.
    pub in_use: Amount,
    /// What it keeps free.
    pub kept: Kept,
}

/// Free memory that an allocator keeps, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Behind all blocks (glibc's top chunk).
    pub top: u64,
    /// Between blocks, merged (bins of glibc), or as large as they (slabs of jemalloc).
    pub bins: u64,
    /// Between blocks, as they were freed (fast bins).
    pub fastbins: u64,
    /// In the caches of threads.
    pub caches: u64,
    /// The part of it that is not in memory: never used, or given back to the kernel.
    pub absent: u64,
    /// The part that `malloc_trim` would give back, or a purge of jemalloc's arenas.
    pub trimmable: u64,
    /// Whole free extents of jemalloc that are to be given back when they have aged.
    #[serde(default)]
    pub dirty: u64,
    /// The same that the kernel may take already.
    #[serde(default)]
    pub muzzy: u64,
    /// Address space that jemalloc keeps without memory: no part of the rest.
    #[serde(default)]
    pub retained: u64,
}

impl Kept {
    /// What is in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let parts = [self.top, self.bins, self.fastbins, self.caches, self.dirty, self.muzzy];
        parts.into_iter().fold(0, u64::saturating_add).saturating_sub(self.absent)
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            top: self.top.saturating_add(other.top),
            bins: self.bins.saturating_add(other.bins),
            fastbins: self.fastbins.saturating_add(other.fastbins),
            caches: self.caches.saturating_add(other.caches),
            absent: self.absent.saturating_add(other.absent),
            trimmable: self.trimmable.saturating_add(other.trimmable),
            dirty: self.dirty.saturating_add(other.dirty),
            muzzy: self.muzzy.saturating_add(other.muzzy),
            retained: self.retained.saturating_add(other.retained),
        }
    }
}

/// Blocks of one size; where some are lost, of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeClass {
    /// Bytes that the program may use of each.
    pub size: u64,
    /// All blocks of this size, whatever their type.
    pub blocks: u64,
    /// Those of this type that are lost.
    pub lost: u64,
    /// Of these, those that no other lost block points to.
    pub directly: u64,
    /// The C++ type of these blocks, or of most of those looked at if none is lost.
    pub type_name: Option<String>,
    /// What one of them holds.
    pub hint: Option<Hint>,
}

impl SizeClass {
    /// Bytes that are lost.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost.saturating_mul(self.size)
    }

    /// Bytes of all blocks of this size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.size)
    }
}

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hint {
    /// Text, at most 64 bytes of it. It is the target's, and unescaped.
    Text(String),
    /// A pointer to this variable.
    Symbol(String),
}

/// What the first way to them leads from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldBytes {
    /// The root.
    pub root: Root,
    /// The blocks that were reached from it first.
    pub held: Amount,
}

/// What has changed in a heap since an earlier look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapGrowth {
    /// Bytes in use, and blocks.
    pub in_use: (i64, i64),
    /// Bytes kept free.
    pub kept: i64,
    /// Bytes lost, and blocks.
    pub lost: (i64, i64),
    /// What became lost, by size and type: the most bytes first.
    pub lost_classes: Vec<GrownClass>,
    /// Which sizes grow: the most bytes first.
    pub grown_classes: Vec<GrownClass>,
}

/// By how much the blocks of one size have become more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrownClass {
    /// Bytes of each.
    pub size: u64,
    /// Their type, where it is known.
    pub type_name: Option<String>,
    /// How many more, at least 1.
    pub blocks: u64,
    /// How many there are now.
    pub now: u64,
}

fn difference(now: u64, before: u64) -> i64 {
    i64::try_from(i128::from(now) - i128::from(before)).unwrap_or(0)
}

impl Heap {
    /// Free memory that the allocator keeps in all arenas.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.arenas.iter().fold(Kept::default(), |sum, arena| sum.plus(arena.kept))
    }

    /// Whether all blocks were found, and everything that may hold a pointer to them was looked at.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.check.complete && self.is_walked && self.others.is_empty()
    }

    /// What has changed since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> HeapGrowth {
        let lost = |heap: &Self| heap.check.reached.lost();
        let amounts = |now: Amount, before: Amount| {
            (difference(now.bytes, before.bytes), difference(now.blocks, before.blocks))
        };
        let of = |now: u64, before: u64, class: &SizeClass| GrownClass {
            size: class.size,
            type_name: class.type_name.clone(),
            blocks: now.saturating_sub(before),
            now,
        };
        let sorted = |classes: Vec<GrownClass>| {
            let mut grown: Vec<_> = classes.into_iter().filter(|class| class.blocks > 0).collect();
            grown.sort_by_key(|class| std::cmp::Reverse(class.blocks.saturating_mul(class.size)));
            grown
        };
        let lost_before: std::collections::HashMap<_, u64> =
            before.classes.iter().map(|class| ((class.size, &class.type_name), class.lost)).collect();
        let blocks_before: std::collections::HashMap<u64, u64> =
            before.classes.iter().map(|class| (class.size, class.blocks)).collect();
        let lost_classes = self.classes.iter().map(|class| {
            of(class.lost, lost_before.get(&(class.size, &class.type_name)).copied().unwrap_or(0), class)
        });
        let mut grown: Vec<GrownClass> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for class in self.classes.iter().filter(|class| seen.insert(class.size)) {
            grown.push(of(class.blocks, blocks_before.get(&class.size).copied().unwrap_or(0), class));
        }
        HeapGrowth {
            in_use: amounts(self.in_use, before.in_use),
            kept: difference(self.kept().bytes(), before.kept().bytes()),
            lost: amounts(lost(self), lost(before)),
            lost_classes: sorted(lost_classes.collect()),
            grown_classes: sorted(grown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GrownClass, Heap, HeapArena, Kept, LeakCheck, SizeClass};
    use crate::profile::Amount;

    fn heap(classes: &[(u64, u64, u64, Option<&str>)], kept: u64) -> Heap {
        let classes = classes.iter().map(|&(size, blocks, lost, name)| SizeClass {
            size,
            blocks,
            lost,
            type_name: name.map(str::to_owned),
            ..SizeClass::default()
        });
        let classes: Vec<SizeClass> = classes.collect();
        let blocks = classes.iter().map(|class| class.blocks).sum();
        let mut check = LeakCheck::default();
        check.reached.directly.blocks = classes.iter().map(|class| class.lost).sum();
        Heap {
            in_use: Amount { bytes: 0, blocks },
            arenas: vec![HeapArena {
                kept: Kept { bins: kept, absent: 1, ..Kept::default() },
                ..HeapArena::default()
            }],
            check,
            classes,
            ..Heap::default()
        }
    }

    #[test]
    fn growth_is_by_size_and_loss_by_type_too() {
        let before = heap(&[(72, 100, 10, Some("A")), (24, 50, 0, None), (40, 7, 0, None)], 1000);
        let now = heap(
            &[(72, 130, 12, Some("A")), (72, 130, 5, Some("B")), (24, 60, 0, None), (40, 5, 0, None)],
            400,
        );
        let growth = now.since(&before);
        let class = |size, name: Option<&str>, blocks, now| GrownClass {
            size,
            type_name: name.map(str::to_owned),
            blocks,
            now,
        };
        assert_eq!(growth.lost, (0, 7));
        assert_eq!(growth.kept, -600);
        assert_eq!(growth.lost_classes, [class(72, Some("B"), 5, 5), class(72, Some("A"), 2, 12)]);
        assert_eq!(growth.grown_classes, [class(72, Some("A"), 30, 130), class(24, None, 10, 60)]);
    }
}
