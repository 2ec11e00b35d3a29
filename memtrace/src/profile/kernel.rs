//! What a profile of the kernel has besides amounts.

use memtrace_common::KernelKind;
use serde::{Deserialize, Serialize};

use super::{Amount, StringId};

/// The name of the kernel's own code as a module; other modules go by their names.
pub const KERNEL_CODE: &str = "[kernel]";

/// The kernel's allocators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemoryKind {
    /// kmalloc, and caches of objects.
    Slab,
    /// Pages.
    Page,
    /// Per-CPU memory.
    Percpu,
    /// Areas of virtually contiguous memory.
    Vmalloc,
    /// Objects whose stack could not be walked: kind and size are stored with the stack.
    Unknown,
}

impl MemoryKind {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slab => "slab",
            Self::Page => "page",
            Self::Percpu => "percpu",
            Self::Vmalloc => "vmalloc",
            Self::Unknown => "unknown",
        }
    }
}

impl From<KernelKind> for MemoryKind {
    fn from(kind: KernelKind) -> Self {
        match kind {
            KernelKind::Slab => Self::Slab,
            KernelKind::Page => Self::Page,
            KernelKind::Percpu => Self::Percpu,
            KernelKind::Vmalloc => Self::Vmalloc,
        }
    }
}

/// What a stack's row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDetail {
    /// Which of the kernel's allocators.
    pub kind: MemoryKind,
    /// The slab cache; `None` for other kinds, and where it cannot be determined.
    pub cache: Option<StringId>,
    /// What is tracked: outstanding, and what was freed unseen.
    pub tracked: Amount,
    /// Tracked objects that were freed unseen.
    pub phantoms: u64,
}

/// One cache, or one kind of memory that has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheRow {
    /// As in [`KernelDetail`].
    pub kind: MemoryKind,
    /// As in [`KernelDetail`].
    pub cache: Option<StringId>,
    /// Outstanding: what is tracked without phantoms, and old enough.
    pub outstanding: Amount,
    /// What is tracked.
    pub tracked: Amount,
    /// Tracked objects that were freed unseen.
    pub phantoms: u64,
    /// How many of them were not found free but must be, by the number of objects in use.
    pub by_number: u64,
    /// How many of the others could not be looked up one by one.
    pub unverified: u64,
    /// Objects by which the cache has grown since tracing began, as the kernel counts them; `None` where it does not.
    pub grown_blocks: Option<i64>,
    /// The same in bytes.
    pub grown_bytes: Option<i64>,
    /// Growth of the outstanding bytes since the previous report, in bytes per second.
    pub bytes_per_second: f64,
    /// The same of blocks.
    pub blocks_per_second: f64,
}

impl CacheRow {
    /// The share of tracked objects that was freed unseen.
    #[must_use]
    pub fn phantom_share(&self) -> f64 {
        if self.phantoms == 0 { 0.0 } else { self.phantoms as f64 / self.tracked.blocks as f64 }
    }
}

/// What is traced of the kernel, and the figures that only the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Kinds of memory that are traced.
    pub kinds: Vec<MemoryKind>,
    /// Processes that tracing is limited to; none: it is not.
    pub pids: Vec<u32>,
    /// The cgroup that tracing is limited to.
    pub cgroup: Option<String>,
    /// Caches with something tracked, in no order.
    pub caches: Vec<CacheRow>,
    /// Everything that is tracked and was freed unseen.
    pub phantoms: Amount,
    /// Bytes of pages allocated for user memory and page cache since tracing began, which are not tracked.
    pub user_page_bytes: Option<u64>,
    /// Pages that other rows already count: those of slabs, per-CPU and vmalloc memory.
    pub counted_elsewhere: Amount,
    /// Allocations that memtrace caused itself, which are not tracked.
    pub own_allocations: u64,
}
