//! What this kernel does not show.

use std::path::Path;

use crate::{
    bpf::{KernelConfig, KernelTracer},
    kernel,
    profile::{CacheNumber, CacheRow, MemoryKind, Remark},
};

/// Caches listed in a remark; of further ones, only the number is given.
const NAMED: usize = 4;
/// Objects that cannot be looked up are mentioned if they are at least one in this many.
const UNVERIFIED_PART: u64 = 50;

/// What is known from the start.
pub(super) fn of_start(tracer: &KernelTracer, config: &KernelConfig) -> Vec<Remark> {
    let unseen = tracer.unseen_kinds(config).into_iter();
    let mut remarks: Vec<Remark> =
        unseen.map(|kind| Remark::KindUntraced { kind: MemoryKind::from(kind) }).collect();
    if !tracer.knows_caches() {
        remarks.push(Remark::CachesUnknown);
    } else if !tracer.examines_slabs() {
        remarks.push(Remark::SlabsUnreadable);
    }
    if !kernel::shows_addresses() {
        remarks.push(Remark::AddressesHidden);
    }
    if let Err(error) = kernel::slabs() {
        remarks.push(Remark::SlabinfoUnreadable { error: error.to_string() });
    }
    remarks
}

/// Remarks on the tasks that tracing is limited to.
pub(super) fn of_tasks(pids: &[u32]) -> Option<Remark> {
    let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
    let pids: Vec<u32> = pids.iter().copied().filter(is_gone).collect();
    (!pids.is_empty()).then_some(Remark::Exited { pids })
}

/// Remarks on frees without a tracepoint.
pub(super) fn of_caches(caches: &[CacheRow]) -> Vec<Remark> {
    let found = named(caches, |cache| cache.phantoms - cache.by_number, |cache| cache.tracked.blocks);
    let by_number = named(caches, |cache| cache.by_number, |cache| cache.tracked.blocks);
    let sum = |number: fn(&CacheRow) -> u64| caches.iter().map(number).sum::<u64>();
    let is_much = sum(|cache| cache.unverified).saturating_mul(UNVERIFIED_PART) >= sum(kept);
    let unverified = named(caches, |cache| cache.unverified, kept).filter(|_| is_much);
    [
        found.map(|(caches, more)| Remark::FreedUnseen { caches, more }),
        by_number.map(|(caches, more)| Remark::FreedByNumber { caches, more }),
        unverified.map(|(caches, more)| Remark::Unverified { caches, more }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Objects that count as outstanding, of any age.
fn kept(cache: &CacheRow) -> u64 {
    cache.tracked.blocks - cache.phantoms
}

/// Caches whose number is not 0, with that number and the total, largest first; and how many more there are.
fn named(
    caches: &[CacheRow],
    number: impl Fn(&CacheRow) -> u64,
    all: impl Fn(&CacheRow) -> u64,
) -> Option<(Vec<CacheNumber>, usize)> {
    let is_one = |cache: &&CacheRow| cache.kind == MemoryKind::Slab && number(cache) > 0;
    let mut found: Vec<&CacheRow> = caches.iter().filter(is_one).collect();
    found.sort_by_key(|cache| std::cmp::Reverse(number(cache)));
    let one = |cache: &&CacheRow| CacheNumber { cache: cache.cache, number: number(cache), all: all(cache) };
    let named = found.iter().take(NAMED).map(one).collect();
    (!found.is_empty()).then_some((named, found.len().saturating_sub(NAMED)))
}
