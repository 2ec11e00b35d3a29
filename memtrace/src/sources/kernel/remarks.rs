//! What this kernel does not show.

use std::path::Path;

use memtrace_common::KernelKind;

use crate::{
    bpf::{KernelConfig, KernelTracer},
    kernel::{self, Memory},
    profile::{CacheNumber, CacheRow, LeftOut, MemoryKind, Remark},
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

/// Growth that is worth a remark, bytes; for figures that CPUs count by themselves, as many times as there are CPUs.
const WORTH: u64 = 2 << 20;
const WORTH_PER_CPU: u64 = 512 << 10;

/// Remarks on memory of the machine that has grown and that these kinds leave out.
pub(super) fn of_memory(before: Option<&Memory>, kinds: &[KernelKind]) -> Vec<Remark> {
    let Some((before, now)) = before.copied().zip(Memory::read()) else { return Vec::new() };
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    left_out(&before, &now, kinds, WORTH.max(WORTH_PER_CPU.saturating_mul(cpus)))
}

/// The same of growth of at least `worth` bytes.
fn left_out(before: &Memory, now: &Memory, kinds: &[KernelKind], worth: u64) -> Vec<Remark> {
    let growth = |of: fn(&Memory) -> u64| of(now).saturating_sub(of(before));
    let kind = |what, kind, grown, option: &str| {
        (!kinds.contains(&kind)).then(|| (what, grown, None, Some(option.to_owned())))
    };
    let segments = growth(|memory| memory.segments);
    let found = [
        kind(LeftOut::Slab, KernelKind::Slab, growth(|memory| memory.slab), "--slab"),
        kind(LeftOut::Percpu, KernelKind::Percpu, growth(|memory| memory.percpu), "--percpu"),
        kind(LeftOut::Vmalloc, KernelKind::Vmalloc, growth(|memory| memory.vmalloc), "--vmalloc"),
        kind(LeftOut::PageTables, KernelKind::Page, growth(|memory| memory.page_tables), "--pages"),
        kind(LeftOut::Pages, KernelKind::Page, growth(|memory| memory.others), "--pages"),
        kind(LeftOut::Sockets, KernelKind::Page, growth(|memory| memory.sockets), "--pages"),
        Some((LeftOut::SharedMemory, growth(|memory| memory.shmem), None, None)),
        Some((LeftOut::Segments, growth(|memory| memory.segment_bytes), Some(segments), None)),
    ];
    found
        .into_iter()
        .flatten()
        .filter(|(_, grown, ..)| *grown >= worth)
        .map(|(what, grown, also, option)| Remark::LeftOut { what, grown, also, option })
        .collect()
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

#[cfg(test)]
mod tests {
    use memtrace_common::KernelKind;

    use super::left_out;
    use crate::{
        kernel::Memory,
        profile::{LeftOut, Remark},
    };

    #[test]
    fn growth_of_what_is_not_traced_is_said() {
        let before = Memory { shmem: 10, others: 500, ..Memory::default() };
        let now = Memory {
            slab: 1000,
            others: 1400,
            shmem: 5,
            vmalloc: 99,
            segment_bytes: 300,
            segments: 3,
            ..before
        };
        let said = |kinds: &[KernelKind]| {
            let remarks = left_out(&before, &now, kinds, 100);
            remarks
                .into_iter()
                .map(|remark| match remark {
                    Remark::LeftOut { what, grown, .. } => (what, grown),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(said(&[KernelKind::Slab]), [(LeftOut::Pages, 900), (LeftOut::Segments, 300)]);
        assert_eq!(said(&[KernelKind::Page]), [(LeftOut::Slab, 1000), (LeftOut::Segments, 300)]);
    }
}
