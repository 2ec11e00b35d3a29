//! From the counts of a kernel session to the profile of one report.

use std::time::Duration;

use anyhow::Context as _;
use memtrace_common::{KernelKind, object_address};
use rustc_hash::FxHashMap;

use super::{
    KernelSession,
    census::{Cache, Census, Stack},
    remarks,
};
use crate::{
    aggregate::Growth,
    bpf::KernelLosses,
    kernel,
    profile::{
        Amount, CacheRow, Detail, Filter, Kernel, KernelDetail, LiveBlock, Losses, MemoryKind, Profile, Row,
        Subject,
    },
    session::Wanted,
    sources::{listed::Listed, process::ages},
};

impl KernelSession {
    /// Everything that one report knows. Frames are named where names are wanted.
    pub(super) fn profile(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Profile> {
        if let Some(begin) = self.marked.limit_to(wanted.since) {
            self.aggregate.begin(self.started + begin);
            self.caches.begin(self.started + begin);
        }
        let now = self.tracer.elapsed();
        let census = self.census(now)?;
        let shown = census.stacks.iter().map(Stack::shown);
        let (grown, bytes_per_second) = self.aggregate.advance(now, shown, None, false);
        let outstanding = grown.iter().fold(Amount::default(), |sum, stack| sum.plus(stack.outstanding));
        let kernel = self.kernel_figures(now, &census);
        let mut remarks = self.remarks.clone();
        remarks.extend(remarks::of_caches(&kernel.caches));
        remarks.extend(ages(now));
        remarks.extend(remarks::of_memory(self.before.memory.as_ref(), &self.options.config.kinds));
        remarks.extend(remarks::of_tasks(&self.options.config.tasks));
        let by_slot: FxHashMap<u32, &Stack> =
            census.stacks.iter().map(|stack| (stack.totals.slot, stack)).collect();
        // One row each, in the same order.
        let stacks: Vec<(&Growth, &Stack)> =
            grown.iter().filter_map(|grown| Some((grown, *by_slot.get(&grown.totals.slot)?))).collect();
        let rows = stacks.iter().filter_map(|(grown, stack)| self.row(grown, stack, &census)).collect();
        let config = &self.options.config;
        let mut profile = Profile {
            time: jiff::Timestamp::now(),
            elapsed: now.saturating_sub(self.started),
            last,
            subject: Subject::Kernel(kernel),
            filter: Filter::new(config.min_size, config.max_size, self.options.older),
            outstanding,
            bytes_per_second,
            unknown_frees: self.tracer.caches().iter().map(|cache| cache.untracked_freed).sum(),
            rows,
            losses: losses(&self.tracer.losses()),
            remarks,
            marks: self.marked.marks(now.saturating_sub(self.started), None),
        };
        let shown = wanted.selection.shown(self.names.dictionary(), &profile);
        let named: Vec<usize> =
            if wanted.everything { (0..profile.rows.len()).collect() } else { shown.clone() };
        for place in named {
            let Some((row, (grown, _))) = profile.rows.get_mut(place).zip(stacks.get(place)) else {
                continue;
            };
            row.stack = self.frames.named(self.names.dictionary_mut(), grown.totals.slot);
        }
        if self.options.show_allocs {
            let shown = shown.iter().filter_map(|place| Some((*place, stacks.get(*place)?.1)));
            self.list(&mut profile, shown, now)?;
        }
        Ok(profile)
    }

    /// Whether the time of an object is in the span that is shown.
    pub(super) fn is_in_span(&self, time: Duration) -> bool {
        self.marked.shows(time.saturating_sub(self.started))
    }

    fn row(&mut self, grown: &Growth, stack: &Stack, census: &Census) -> Option<Row> {
        let cache = census.caches.get(stack.cache)?;
        Some(Row {
            id: grown.totals.id,
            stack: self.frames.whole(grown.totals.slot),
            outstanding: grown.outstanding,
            allocated: stack.totals.allocated,
            freed: stack.totals.freed,
            bytes_per_second: grown.bytes_per_second,
            oldest: grown.totals.oldest,
            incomplete: stack.nameless,
            leaked: None,
            held_by: Vec::new(),
            blocks: Vec::new(),
            detail: Detail::Kernel(KernelDetail {
                kind: cache.kind,
                cache: cache.name.as_ref().map(|name| self.names.dictionary_mut().add_text(name)),
                tracked: stack.tracked,
                phantoms: stack.phantoms.blocks,
            }),
            verdict: None,
            merged: None,
        })
    }

    /// What the profile has besides stacks.
    fn kernel_figures(&mut self, now: Duration, census: &Census) -> Kernel {
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
        self.rates(now, &census.caches, &mut rows);
        let phantoms = census.stacks.iter().fold(Amount::default(), |sum, stack| sum.plus(stack.phantoms));
        rows.retain(|row| row.tracked.blocks > 0);
        let losses = self.tracer.losses();
        let kinds = &self.options.config.kinds;
        let pages = kinds.contains(&KernelKind::Page);
        Kernel {
            kinds: kinds.iter().copied().map(MemoryKind::from).collect(),
            pids: self.options.config.tasks.clone(),
            cgroup: self.options.cgroup.clone(),
            caches: rows,
            phantoms,
            user_page_bytes: pages.then_some(losses.user_pages.saturating_mul(4096)),
            counted_elsewhere: census.counted_elsewhere,
            own_allocations: losses.own,
        }
    }

    fn cache_row(&mut self, cache: &Cache) -> CacheRow {
        let difference = |now: u64, before: u64| i64::try_from(now).ok()?.checked_sub_unsigned(before);
        let (grown_blocks, grown_bytes) = match cache.kind {
            MemoryKind::Percpu => (
                None,
                kernel::meminfo("Percpu")
                    .zip(self.before.percpu)
                    .and_then(|(now, before)| difference(now, before)),
            ),
            MemoryKind::Vmalloc => {
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
            cache: cache.name.as_ref().map(|name| self.names.dictionary_mut().add_text(name)),
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
    fn rates(&mut self, now: Duration, caches: &[Cache], rows: &mut [CacheRow]) {
        let key = |cache: &Cache| (cache.kind, cache.name.clone());
        let held = caches.iter().zip(rows.iter()).map(|(cache, row)| (key(cache), row.outstanding));
        let (rates, _) = self.caches.advance(now, held);
        for (row, rate) in rows.iter_mut().zip(rates) {
            row.bytes_per_second = rate.bytes;
            row.blocks_per_second = rate.blocks;
        }
    }

    /// Lists the objects of the rows at these places (`--show-allocs`), by the slots of their stacks.
    fn list<'a>(
        &self,
        profile: &mut Profile,
        rows: impl Iterator<Item = (usize, &'a Stack)>,
        now: Duration,
    ) -> anyhow::Result<()> {
        let mut first_of: FxHashMap<u32, u32> = FxHashMap::default();
        let mut places = Vec::new();
        for (place, stack) in rows {
            places.push((stack.totals.slot, place));
            first_of.extend(stack.slots.iter().map(|slot| (*slot, stack.totals.slot)));
        }
        let mut listed = Listed::new(places);
        let known: FxHashMap<u32, (u64, bool)> = self
            .tracer
            .stacks()
            .map(|slot| (slot.slot, (slot.size, slot.kind == Some(KernelKind::Percpu))))
            .collect();
        let older = self.options.older.unwrap_or_default();
        // The census has removed what is gone.
        self.tracer
            .for_each_tracked(|object| {
                let age = now.saturating_sub(object.time(now));
                if let Some(first) =
                    first_of.get(&object.slot()).filter(|_| age >= older && self.is_in_span(object.time(now)))
                {
                    let (size, percpu) = known.get(&object.slot()).copied().unwrap_or_default();
                    let address = object_address(object.key, percpu);
                    listed.add(*first, || LiveBlock { address, size, age });
                }
            })
            .context("cannot read the table of live objects")?;
        listed.put(profile);
        Ok(())
    }
}

fn losses(losses: &KernelLosses) -> Losses {
    tracing::debug!("{} stacks were walked", losses.walks);
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
