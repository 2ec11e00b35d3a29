//! What a report of kernel mode shows besides stacks.

use super::snapshot::Amount;

/// The module of the kernel's own code; that of modules goes by their names.
pub const KERNEL_CODE: &str = "[kernel]";

/// The kind of objects whose stack could not be walked: kind and size are kept with the stack.
pub const UNKNOWN_MEMORY: &str = "unknown";

/// What a stack's row is about, in kernel mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelRow {
    /// Which of the kernel's allocators: `slab`, `page`, `percpu`, `vmalloc`; or [`UNKNOWN_MEMORY`].
    pub kind: &'static str,
    /// The slab cache; `None` for other kinds, and where it cannot be told.
    pub cache: Option<String>,
    /// What is tracked: outstanding, and what was freed unseen.
    pub tracked: Amount,
    /// Tracked objects that were freed unseen.
    pub phantoms: u64,
}

/// One cache, or one kind of memory that has none.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheRow {
    /// As in [`KernelRow`].
    pub kind: &'static str,
    /// As in [`KernelRow`].
    pub cache: Option<String>,
    /// Outstanding: what is tracked without phantoms, and old enough.
    pub outstanding: Amount,
    /// What is tracked.
    pub tracked: Amount,
    /// Tracked objects that were freed unseen.
    pub phantoms: u64,
    /// How many of them were not found to be free, but must be by the number of objects in use.
    pub by_number: u64,
    /// Of how many of the others it cannot be told one by one whether they are there.
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
    /// Which part of what is tracked was freed unseen.
    #[must_use]
    pub fn phantom_share(&self) -> f64 {
        if self.phantoms == 0 { 0.0 } else { self.phantoms as f64 / self.tracked.blocks as f64 }
    }
}

/// What a report of kernel mode shows besides stacks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelReport {
    /// Kinds of memory that are traced.
    pub kinds: Vec<&'static str>,
    /// The cgroup that tracing is limited to.
    pub cgroup: Option<String>,
    /// Whether the reader asked for caches instead of stacks.
    pub by_cache: bool,
    /// Caches with something tracked, in order of what is outstanding.
    pub caches: Vec<CacheRow>,
    /// How many of them there are, listed or not.
    pub caches_found: usize,
    /// Everything that is tracked and was freed unseen.
    pub phantoms: Amount,
    /// Bytes of pages handed out for user memory and page cache since tracing began, which are not tracked.
    pub user_page_bytes: Option<u64>,
    /// Pages that other rows count already: of slabs, of per-CPU and of vmalloc memory.
    pub counted_elsewhere: Amount,
    /// Allocations that memtrace caused itself, which are not tracked.
    pub own_allocations: u64,
}
