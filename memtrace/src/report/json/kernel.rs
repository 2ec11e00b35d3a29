//! Kernel mode's part of the schema.

use serde::Serialize;

use super::{Amount, values::rate};
use crate::profile::{self, Dictionary, View};

/// Kernel mode's part of a stack.
#[derive(Serialize)]
pub(super) struct KernelStack<'a> {
    /// `slab`, `page`, `percpu` or `vmalloc`; `unknown` for what found no place in the table of stacks.
    kind: &'static str,
    /// The slab cache; null for other kinds, and where it cannot be determined.
    cache: Option<&'a str>,
    /// Tracked: `bytes`, and what was freed where no tracepoint is.
    tracked_bytes: u64,
    /// Tracked.
    tracked_blocks: u64,
}

/// Kernel mode's part of a report.
#[derive(Serialize)]
pub(super) struct Kernel<'a> {
    /// Kinds of memory that are traced.
    kinds: Vec<&'static str>,
    /// The cgroup that tracing is limited to; null: none.
    cgroup: Option<&'a str>,
    /// Caches with something tracked, in order of what is outstanding.
    caches: Vec<Cache<'a>>,
    /// How many there are; `caches` may list fewer.
    caches_found: usize,
    /// What is tracked and not outstanding, over all caches.
    phantoms: Amount,
    /// Bytes of pages for user memory and page cache since tracing began, not tracked; null when pages are not traced.
    user_page_bytes: Option<u64>,
    /// Pages that hold slabs, per-CPU and vmalloc memory: not counted as pages too.
    counted_elsewhere: Amount,
    /// memtrace's own allocations, not tracked.
    own_allocations: u64,
}

/// One cache.
#[derive(Serialize)]
struct Cache<'a> {
    /// As in a stack.
    kind: &'static str,
    /// As in a stack.
    cache: Option<&'a str>,
    /// Outstanding: tracked without phantoms.
    bytes: u64,
    /// Outstanding.
    blocks: u64,
    /// Tracked.
    tracked_bytes: u64,
    /// Tracked.
    tracked_blocks: u64,
    /// Growth in fact since tracing began, as the kernel counts (/proc/slabinfo, /proc/meminfo); null where it does not.
    grown_bytes: Option<i64>,
    /// The same in objects.
    grown_blocks: Option<i64>,
    /// Part of `tracked_blocks` that was freed where no tracepoint is.
    #[serde(serialize_with = "rate")]
    phantom_share: f64,
    unverified_blocks: u64,
    /// Growth of `bytes` since the previous report.
    #[serde(serialize_with = "rate")]
    bytes_per_second: f64,
    /// Growth of `blocks` since the previous report.
    #[serde(serialize_with = "rate")]
    blocks_per_second: f64,
}

impl<'a> KernelStack<'a> {
    pub(super) fn new(dictionary: &'a Dictionary, detail: &profile::KernelDetail) -> Self {
        Self {
            kind: detail.kind.name(),
            cache: detail.cache.map(|name| dictionary.text(name)),
            tracked_bytes: detail.tracked.bytes,
            tracked_blocks: detail.tracked.blocks,
        }
    }
}

impl<'a> Kernel<'a> {
    pub(super) fn new(view: &View<'a>, kernel: &'a profile::Kernel) -> Self {
        let (caches, caches_found) = view.caches();
        let dictionary = view.dictionary();
        Self {
            kinds: kernel.kinds.iter().map(|kind| kind.name()).collect(),
            cgroup: kernel.cgroup.as_deref(),
            caches: caches.into_iter().map(|row| Cache::new(dictionary, row)).collect(),
            caches_found,
            phantoms: Amount::from(kernel.phantoms),
            user_page_bytes: kernel.user_page_bytes,
            counted_elsewhere: Amount::from(kernel.counted_elsewhere),
            own_allocations: kernel.own_allocations,
        }
    }
}

impl<'a> Cache<'a> {
    fn new(dictionary: &'a Dictionary, row: &profile::CacheRow) -> Self {
        Self {
            kind: row.kind.name(),
            cache: row.cache.map(|name| dictionary.text(name)),
            bytes: row.outstanding.bytes,
            blocks: row.outstanding.blocks,
            tracked_bytes: row.tracked.bytes,
            tracked_blocks: row.tracked.blocks,
            grown_bytes: row.grown_bytes,
            grown_blocks: row.grown_blocks,
            phantom_share: row.phantom_share(),
            unverified_blocks: row.unverified,
            bytes_per_second: row.bytes_per_second,
            blocks_per_second: row.blocks_per_second,
        }
    }
}
