//! From the counts of a session of kernel mode to one report.

use std::time::Duration;

use anyhow::Context as _;
use memtrace_common::{KernelKind, object_address};
use rustc_hash::FxHashMap;

use super::super::followed::ages;
use super::{
    By, KernelSession,
    census::{Cache, Census, Stack},
    remarks,
};
use crate::{
    aggregate::Growth,
    analysis,
    bpf::KernelLosses,
    kernel,
    model::{
        Amount, Attachment, CacheRow, Filter, KernelReport, KernelRow, LiveBlock, Losses, Mode, Snapshot,
        StackMethod, StackRow, TargetInfo, TargetKind,
    },
};

/// Objects listed per stack with `--show-allocs`.
const MAX_LISTED: usize = 1000;

impl KernelSession {
    /// Everything one report shows.
    pub(super) fn report(&mut self, last: bool) -> anyhow::Result<Snapshot> {
        let now = self.tracer.elapsed();
        let census = self.census(now)?;
        let shown = census.stacks.iter().map(Stack::shown);
        let (mut stacks, bytes_per_second) = self.aggregate.advance(now, shown, None, false);
        let outstanding = stacks.iter().fold(Amount::default(), |sum, stack| sum.plus(stack.outstanding));
        analysis::rank(&mut stacks, self.options.sort);
        let stacks_found = stacks.len();
        if self.options.top != 0 {
            stacks.truncate(self.options.top);
        }
        let report = self.kernel_report(now, &census);
        let mut notes = self.notes.clone();
        notes.extend(remarks::of_caches(&report.caches));
        notes.extend(ages(now));
        notes.extend(remarks::of_tasks(&self.options.config.tasks));
        let report = self.shortened(report);
        let by_slot: FxHashMap<u32, &Stack> =
            census.stacks.iter().map(|stack| (stack.totals.slot, stack)).collect();
        let shown = stacks.iter().filter_map(|stack| by_slot.get(&stack.totals.slot).copied());
        let mut listed = self.listed(shown, now)?;
        let rows = stacks
            .iter()
            .filter_map(|stack| {
                let counted = by_slot.get(&stack.totals.slot)?;
                Some(self.row(stack, counted, census.caches.get(counted.cache)?, &mut listed))
            })
            .collect();
        let config = &self.options.config;
        let filter = Filter {
            min_size: Some(config.min_size).filter(|&size| size > 0),
            max_size: Some(config.max_size).filter(|&size| size < u64::MAX),
            older: self.options.older,
        };
        Ok(Snapshot {
            time: jiff::Timestamp::now(),
            elapsed: now.saturating_sub(self.started),
            last,
            target: TargetInfo {
                kind: TargetKind::Kernel,
                pids: config.tasks.clone(),
                comm: "kernel".to_owned(),
                allocators: Vec::new(),
            },
            mode: Mode {
                sample_bytes: None,
                sampling: false,
                exact: true,
                attached: Attachment { share: 1.0, gaps: 0, windows: None, open: false },
                stacks: StackMethod::Kernel,
                filter,
            },
            outstanding,
            uncertainty: None,
            bytes_per_second,
            unknown_frees: self.tracer.caches().iter().map(|cache| cache.untracked_freed).sum(),
            overhead: None,
            stacks_found,
            stacks: rows,
            mapped: Some(Amount::default()),
            mappings: Vec::new(),
            kernel: Some(report),
            losses: losses(&self.tracer.losses()),
            notes,
        })
    }

    fn row(
        &mut self,
        stack: &Growth,
        counted: &Stack,
        cache: &Cache,
        listed: &mut FxHashMap<u32, Vec<LiveBlock>>,
    ) -> StackRow {
        let slot = stack.totals.slot;
        StackRow {
            id: stack.totals.id,
            pid: 0,
            outstanding: stack.outstanding,
            uncertainty: None,
            allocated: counted.totals.allocated,
            freed: counted.totals.freed,
            bytes_per_second: stack.bytes_per_second,
            oldest: Some(stack.totals.oldest),
            incomplete: counted.nameless,
            frames: self.frames.of(slot),
            blocks: listed.remove(&slot).unwrap_or_default(),
            kernel: Some(KernelRow {
                kind: cache.kind,
                cache: cache.name.clone(),
                tracked: counted.tracked,
                phantoms: counted.phantoms.blocks,
            }),
        }
    }

    /// What there is besides stacks, with every cache.
    fn kernel_report(&mut self, now: Duration, census: &Census) -> KernelReport {
        let mut rows: Vec<CacheRow> = census.caches.iter().map(|cache| self.cache_row(cache)).collect();
        for stack in &census.stacks {
            if let Some(row) = rows.get_mut(stack.cache) {
                row.outstanding = row.outstanding.plus(stack.outstanding);
                row.tracked = row.tracked.plus(stack.tracked);
                row.phantoms += stack.phantoms.blocks;
                row.by_number += stack.by_number;
                row.unverified += stack.unknown;
            }
        }
        self.rates(now, &mut rows);
        let phantoms = census.stacks.iter().fold(Amount::default(), |sum, stack| sum.plus(stack.phantoms));
        rows.retain(|row| row.tracked.blocks > 0);
        let losses = self.tracer.losses();
        let kinds = &self.options.config.kinds;
        let pages = kinds.contains(&KernelKind::Page);
        KernelReport {
            kinds: kinds.iter().map(|kind| kind.name()).collect(),
            cgroup: self.options.cgroup.clone(),
            by_cache: self.options.by == By::Cache,
            caches_found: rows.len(),
            caches: rows,
            phantoms,
            user_page_bytes: pages.then_some(losses.user_pages.saturating_mul(4096)),
            counted_elsewhere: census.counted_elsewhere,
            own_allocations: losses.own,
        }
    }

    fn cache_row(&self, cache: &Cache) -> CacheRow {
        let difference = |now: u64, before: u64| i64::try_from(now).ok()?.checked_sub_unsigned(before);
        let (grown_blocks, grown_bytes) = match cache.kind {
            "percpu" => (
                None,
                kernel::meminfo("Percpu")
                    .zip(self.before.percpu)
                    .and_then(|(now, before)| difference(now, before)),
            ),
            "vmalloc" => {
                kernel::vmalloc_areas().ok().zip(self.before.vmalloc).map_or((None, None), |(now, before)| {
                    (difference(now.count, before.count), difference(now.bytes, before.bytes))
                })
            }
            _ => {
                let blocks = cache.is_counted.then(|| cache.evidence.grown());
                (
                    blocks,
                    blocks.map(|blocks| blocks.saturating_mul(cache.size.try_into().unwrap_or(i64::MAX))),
                )
            }
        };
        CacheRow {
            kind: cache.kind,
            cache: cache.name.clone(),
            outstanding: Amount::default(),
            tracked: Amount::default(),
            phantoms: 0,
            by_number: 0,
            unverified: 0,
            grown_blocks,
            grown_bytes,
            bytes_per_second: 0.0,
            blocks_per_second: 0.0,
        }
    }

    /// Growth of each cache since the previous report.
    fn rates(&mut self, now: Duration, rows: &mut [CacheRow]) {
        let held = rows.iter().map(|row| ((row.kind, row.cache.clone()), row.outstanding));
        let (rates, _) = self.caches.advance(now, held);
        for (row, rate) in rows.iter_mut().zip(rates) {
            row.bytes_per_second = rate.bytes;
            row.blocks_per_second = rate.blocks;
        }
    }

    /// Caches in the order asked for, as many as are shown.
    fn shortened(&self, mut report: KernelReport) -> KernelReport {
        use std::cmp::Reverse;
        report.caches.sort_by_key(|row| {
            (Reverse(row.outstanding.bytes), Reverse(row.tracked.bytes), row.cache.clone())
        });
        if self.options.sort == analysis::SortBy::Blocks {
            report.caches.sort_by_key(|row| Reverse(row.outstanding.blocks));
        }
        if self.options.sort == analysis::SortBy::Rate {
            report.caches.sort_by(|a, b| b.bytes_per_second.total_cmp(&a.bytes_per_second));
        }
        if self.options.top != 0 {
            report.caches.truncate(self.options.top);
        }
        report
    }

    /// The objects of stacks, by the first of each one's slots, oldest first (`--show-allocs`).
    fn listed<'a>(
        &self,
        stacks: impl Iterator<Item = &'a Stack>,
        now: Duration,
    ) -> anyhow::Result<FxHashMap<u32, Vec<LiveBlock>>> {
        let mut listed: FxHashMap<u32, Vec<LiveBlock>> = FxHashMap::default();
        if !self.options.show_allocs {
            return Ok(listed);
        }
        let mut first_of: FxHashMap<u32, u32> = FxHashMap::default();
        for stack in stacks {
            listed.insert(stack.totals.slot, Vec::new());
            first_of.extend(stack.slots.iter().map(|slot| (*slot, stack.totals.slot)));
        }
        let known: FxHashMap<u32, (u64, bool)> = self
            .tracer
            .stacks()
            .map(|slot| (slot.slot, (slot.size, slot.kind == Some(KernelKind::Percpu))))
            .collect();
        let older = self.options.older.unwrap_or_default();
        // The census has taken out what is gone.
        self.tracer
            .for_each_tracked(|object| {
                let age = now.saturating_sub(object.time(now));
                let first = first_of.get(&object.slot()).filter(|_| age >= older);
                if let Some(blocks) = first.and_then(|first| listed.get_mut(first)) {
                    let (size, percpu) = known.get(&object.slot()).copied().unwrap_or_default();
                    blocks.push(LiveBlock { address: object_address(object.key, percpu), size, age });
                    if blocks.len() >= 2 * MAX_LISTED {
                        oldest_first(blocks);
                    }
                }
            })
            .context("cannot read the table of live objects")?;
        listed.values_mut().for_each(oldest_first);
        Ok(listed)
    }
}

/// Sorts objects by age and keeps the oldest that are listed.
fn oldest_first(blocks: &mut Vec<LiveBlock>) {
    blocks.sort_by_key(|block| (std::cmp::Reverse(block.age), block.address));
    blocks.truncate(MAX_LISTED);
}

fn losses(losses: &KernelLosses) -> Losses {
    tracing::debug!("{} walks of stacks were needed", losses.walks);
    Losses {
        live_map_full: losses.live_map_full,
        live_map_full_bytes: losses.live_map_full_bytes,
        ring_full: losses.ring_full,
        no_walk_slot: losses.no_walk_slot,
        stack_table_full: losses.stack_table_full,
        missed_frees: losses.missed_frees,
        kernel_missed: losses.kernel_missed,
        ..Losses::default()
    }
}
