//! What is outstanding, stack by stack and cache by cache, without phantoms.

use std::time::Duration;

use anyhow::Context as _;
use rustc_hash::{FxHashMap, FxHasher};

use super::KernelSession;
use crate::{
    aggregate::Totals,
    analysis::{CacheEvidence, StackEvidence, share_out},
    bpf::{CacheCounts, KernelStack, Presence},
    kernel,
    profile::{Age, Amount, MemoryKind, Reason},
};

/// A cache, or a kind of memory without one.
pub(super) struct Cache {
    pub(super) kind: MemoryKind,
    pub(super) name: Option<String>,
    pub(super) evidence: CacheEvidence,
    /// Bytes of an object.
    pub(super) size: u64,
    /// Whether the kernel counts its objects too.
    pub(super) is_counted: bool,
}

/// A stack's rows in the kernel side's table, combined, and what they hold.
pub(super) struct Stack {
    pub(super) totals: Totals,
    /// These rows.
    pub(super) slots: Vec<u32>,
    /// Why it has no frames, if it has none.
    pub(super) nameless: Option<Reason>,
    /// Place of its cache in the census.
    pub(super) cache: usize,
    /// What is tracked.
    pub(super) tracked: Amount,
    /// The part of it that was freed unseen.
    pub(super) phantoms: Amount,
    /// How many of these were not found free but must be, by the number of objects in use.
    pub(super) by_number: u64,
    /// How many of the others could not be looked up.
    pub(super) unknown: u64,
    /// The part of it that is shown: old enough and not a phantom.
    pub(super) outstanding: Amount,
}

/// Everything at one point in time.
pub(super) struct Census {
    pub(super) caches: Vec<Cache>,
    pub(super) stacks: Vec<Stack>,
    pub(super) counted_elsewhere: Amount,
}

/// Objects of a slot.
#[derive(Clone, Copy, Default)]
struct Living {
    /// Those that look outstanding, without those that were found free.
    all: u64,
    /// How many of them could not be looked up.
    unknown: u64,
    /// How many of those are old enough.
    old: u64,
    oldest: Duration,
}

impl KernelSession {
    /// Counts.
    pub(super) fn census(&mut self, now: Duration) -> anyhow::Result<Census> {
        // First, so that concurrent allocations look like growth, not like phantoms.
        let living = self.living(now)?;
        let slabs = kernel::slabs().unwrap_or_default();
        let counts = self.tracer.caches();
        let mut caches: Vec<Cache> = Vec::new();
        let mut place_of: FxHashMap<(MemoryKind, u32), usize> = FxHashMap::default();
        let mut parts: Vec<(KernelStack, usize)> = Vec::new();
        let mut counted_elsewhere = Amount::default();
        let slots: Vec<KernelStack> = self.tracer.stacks().collect();
        for slot in slots {
            let kind = slot.kind.map_or(MemoryKind::Unknown, MemoryKind::from);
            let counted = counts.iter().find(|one| one.index == slot.cache);
            // Objects without a kind have passed the filters too.
            if slot.kind.is_some() && !self.is_shown(counted.map(|one| one.name.as_str())) {
                continue;
            }
            let Self { frames, names, options, .. } = self;
            if kind == MemoryKind::Page
                && frames.is_elsewhere(names.dictionary_mut(), slot.slot, &options.config.kinds)
            {
                let blocks = living.get(&slot.slot).map_or(0, |living| living.all);
                counted_elsewhere =
                    counted_elsewhere.plus(Amount { bytes: blocks.saturating_mul(slot.size), blocks });
                continue;
            }
            let place = *place_of.entry((kind, slot.cache)).or_insert_with(|| {
                caches.push(self.cache(kind, counted, &slabs));
                caches.len() - 1
            });
            let Some(Cache { evidence, .. }) = caches.get_mut(place) else { continue };
            let living = living.get(&slot.slot).copied().unwrap_or_default();
            evidence.tracked += living.all;
            evidence.unknown += living.unknown;
            evidence.freed += slot.freed;
            evidence.missed += slot.missed;
            parts.push((slot, place));
        }
        let stacks = self.stacks(now, &caches, &parts, &living);
        Ok(Census { caches, stacks, counted_elsewhere })
    }

    /// The live objects of each slot.
    fn living(&self, now: Duration) -> anyhow::Result<FxHashMap<u32, Living>> {
        let older = self.options.older.unwrap_or_default();
        let mut living: FxHashMap<u32, Living> = FxHashMap::default();
        self.tracer
            .for_each_live(|object| {
                if object.presence == Presence::Gone {
                    return;
                }
                let age = now.saturating_sub(object.time(now));
                let living = living.entry(object.slot()).or_default();
                living.all += 1;
                living.unknown += u64::from(object.presence == Presence::Unknown);
                let is_shown = age >= older && self.is_in_span(object.time(now));
                if is_shown {
                    living.old += 1;
                    living.oldest = living.oldest.max(age);
                }
            })
            .context("cannot read the table of live objects")?;
        Ok(living)
    }

    fn cache(&self, kind: MemoryKind, counted: Option<&CacheCounts>, slabs: &kernel::Slabs) -> Cache {
        let name = counted.map(|one| one.name.clone());
        let slab = name.as_ref().and_then(|name| Some((name, *slabs.get(name)?)));
        let evidence = match (counted, &slab) {
            (Some(counted), Some((name, slab))) => CacheEvidence {
                untracked_freed: counted.untracked_freed,
                untracked_allocated: counted.untracked_allocated,
                before: self.before.slabs.get(*name).map_or(0, |before| before.active),
                now: slab.active,
                ..CacheEvidence::default()
            },
            _ => CacheEvidence::default(),
        };
        let (size, is_counted) = (slab.as_ref().map_or(0, |(_, slab)| slab.size), slab.is_some());
        Cache { kind, name, evidence, size, is_counted }
    }

    /// Distributes each cache's phantoms over its slots, and joins the slots of a stack.
    fn stacks(
        &self,
        now: Duration,
        caches: &[Cache],
        parts: &[(KernelStack, usize)],
        living: &FxHashMap<u32, Living>,
    ) -> Vec<Stack> {
        let mut stacks: Vec<Stack> = Vec::new();
        let mut places: FxHashMap<u64, usize> = FxHashMap::default();
        for (place, cache) in caches.iter().enumerate() {
            let slots: Vec<(&KernelStack, Living)> = parts
                .iter()
                .filter(|(_, of)| *of == place)
                .map(|(slot, _)| (slot, living.get(&slot.slot).copied().unwrap_or_default()))
                .collect();
            let evidence: Vec<StackEvidence> = slots
                .iter()
                .map(|(slot, living)| StackEvidence {
                    unknown: living.unknown,
                    freed: slot.freed,
                    missed: slot.missed,
                })
                .collect();
            // Small numbers are inconclusive: they include unseen frees of other objects.
            let by_number = cache.is_counted && cache.evidence.unknown == cache.evidence.tracked;
            let phantoms = if by_number { cache.evidence.phantoms() } else { 0 };
            for ((slot, living), phantoms) in slots.into_iter().zip(share_out(phantoms, &evidence)) {
                let stack = self.stack(now, slot, place, living, phantoms);
                match places.get(&stack.totals.id).and_then(|place| stacks.get_mut(*place)) {
                    Some(known) => known.join(&stack),
                    None => {
                        places.insert(stack.totals.id, stacks.len());
                        stacks.push(stack);
                    }
                }
            }
        }
        stacks
    }

    /// `phantoms`: how many of the objects that could not be looked up are gone.
    fn stack(&self, now: Duration, slot: &KernelStack, cache: usize, living: Living, phantoms: u64) -> Stack {
        let amount = |blocks: u64| Amount { bytes: blocks.saturating_mul(slot.size), blocks };
        let real = living.all.saturating_sub(phantoms);
        // Which of a stack's objects are phantoms is unknown: assume the same share of the old ones as of all.
        let old = match living.all {
            0 => 0,
            all => (u128::from(living.old) * u128::from(real)).div_ceil(u128::from(all)) as u64,
        };
        let oldest = Age { age: living.oldest.min(now), exact: phantoms == 0 };
        Stack {
            totals: Totals {
                slot: slot.slot,
                id: self.identity(slot),
                target: 0,
                allocated: amount(slot.allocated),
                freed: amount(slot.freed.saturating_add(slot.missed).saturating_add(slot.evicted)),
                oldest,
            },
            slots: vec![slot.slot],
            nameless: slot.nameless,
            cache,
            tracked: amount(living.all.saturating_add(slot.evicted)),
            phantoms: amount(phantoms.saturating_add(slot.evicted)),
            by_number: phantoms,
            unknown: living.unknown.saturating_sub(phantoms),
            outstanding: amount(old),
        }
    }

    /// An id that is the same in every report: a hash of frames and cache, not of the size. 0 without a slot of its own.
    fn identity(&self, slot: &KernelStack) -> u64 {
        use std::hash::{Hash as _, Hasher as _};
        if slot.kind.is_none() {
            return 0;
        }
        let mut hasher = FxHasher::default();
        (slot.kind, slot.cache).hash(&mut hasher);
        let frames =
            self.frames.whole(slot.slot).map_or(&[][..], |stack| self.names.dictionary().frames(stack));
        match frames {
            // No frames, or not received yet: nothing to compare.
            [] => slot.slot.hash(&mut hasher),
            [frames @ .., _] => frames.hash(&mut hasher),
        }
        hasher.finish().max(1)
    }
}

impl Stack {
    /// Totals that add up to what is shown.
    pub(super) fn shown(&self) -> Totals {
        let Totals { allocated, .. } = self.totals;
        let freed = Amount {
            bytes: allocated.bytes.saturating_sub(self.outstanding.bytes),
            blocks: allocated.blocks.saturating_sub(self.outstanding.blocks),
        };
        Totals { freed, ..self.totals }
    }

    /// Adds another slot of the same stack.
    fn join(&mut self, other: &Self) {
        self.slots.extend(&other.slots);
        self.totals.allocated = self.totals.allocated.plus(other.totals.allocated);
        self.totals.freed = self.totals.freed.plus(other.totals.freed);
        self.tracked = self.tracked.plus(other.tracked);
        self.phantoms = self.phantoms.plus(other.phantoms);
        self.by_number += other.by_number;
        self.unknown += other.unknown;
        self.outstanding = self.outstanding.plus(other.outstanding);
        self.totals.oldest.age = self.totals.oldest.age.max(other.totals.oldest.age);
        self.totals.oldest.exact &= other.totals.oldest.exact;
    }
}
