//! What is kept of one process for its balance.

use std::{
    borrow::Cow,
    ops::Range,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    are_measurable,
    children::Children,
    heap,
    thread_stacks::{self, Created, Mapped},
};
use crate::{
    aggregate::Ranges,
    analysis::{
        Series,
        balance::{self, Bound, Circumstances, HeapSize, MAX_CGROUPS, Measure, Sample},
    },
    kernel::{self, CgroupLimit, MemoryCgroup},
    profile::{Amount, Balance, Knowledge, LimitKind, Resident, ThreadStacks},
    sources::process::traced::Traced,
    target::{memory, usage},
};

/// Time between two samples at first.
const INTERVAL: Duration = Duration::from_secs(1);
/// What one look at the pages of mappings may take, and the part of the time that all may take.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 100;

/// What is kept of one process.
pub(super) struct Ledger {
    pub(super) series: Series<Sample>,
    /// When the last sample was taken.
    pub(super) last: Duration,
    peak: u64,
    cgroup: Option<MemoryCgroup>,
    limits: Vec<CgroupLimit>,
    address_space: Option<u64>,
    children: Children,
    mapped: Mapped,
    /// Private resident bytes by slot, when the pages were last looked at.
    resident: FxHashMap<u32, u64>,
    /// When they may be looked at again.
    next_look: Option<Instant>,
    /// Of the stacks of threads, by slot of the stack that created them.
    pub(super) stacks: FxHashMap<u32, Created>,
    /// Addresses that the process has mapped itself.
    own: Vec<Range<u64>>,
    /// Resident bytes of heaps: at first, and last.
    heap: Option<(u64, u64)>,
    /// Other memory from before tracing began, and what was resident of it; and what it has gained.
    before: Vec<(Range<u64>, u64)>,
    filled: u64,
    /// What the allocator's blocks were measured to take.
    pub(super) measured: Series<HeapSize>,
    /// When the heaps may be looked at again.
    next_heap: Option<Instant>,
    sample: Sample,
}

impl Ledger {
    /// Begins one for process `pid`; `targets` are all.
    pub(super) fn new(pid: u32, targets: &[Traced]) -> Self {
        let cgroup = MemoryCgroup::of(pid);
        let mut limits = cgroup.as_ref().map(MemoryCgroup::limits).unwrap_or_default();
        limits.truncate(MAX_CGROUPS);
        let mut children = Children::default();
        let traced: Vec<u32> = targets.iter().map(|target| target.pid().get()).collect();
        children.look(pid, &traced);
        let mut ledger = Self {
            series: Series::new(INTERVAL),
            last: Duration::ZERO,
            peak: 0,
            cgroup,
            limits,
            address_space: usage::address_space_limit(pid),
            children,
            mapped: Vec::new(),
            resident: FxHashMap::default(),
            next_look: None,
            stacks: FxHashMap::default(),
            own: Vec::new(),
            heap: None,
            before: heap::others(pid, LOOK).unwrap_or_default(),
            filled: 0,
            measured: Series::new(INTERVAL),
            next_heap: None,
            sample: Sample::default(),
        };
        ledger.heap = heap::resident(pid, &[], LOOK).map(|bytes| (bytes, bytes));
        ledger
    }

    /// Looks at what the process has mapped itself: ranges, and how much of them is in memory.
    pub(super) fn measure_ranges(
        &mut self,
        pid: u32,
        ranges: Option<&Ranges>,
        is_stack: impl Fn(u32) -> bool,
    ) {
        let begin = Instant::now();
        let all: Vec<(Range<u64>, u32, u64)> = ranges.into_iter().flat_map(Ranges::iter).collect();
        let addresses: Vec<Range<u64>> = all.iter().map(|(range, ..)| range.clone()).collect();
        if self.next_look.is_none_or(|next| begin >= next) {
            let found = memory::resident(pid, &addresses, LOOK);
            self.resident.clear();
            // What cannot be measured counts as if it were in memory.
            let bytes =
                found.unwrap_or_else(|| addresses.iter().map(|range| range.end - range.start).collect());
            for ((_, slot, _), bytes) in all.iter().zip(bytes) {
                *self.resident.entry(*slot).or_default() += bytes;
            }
            self.next_look = Some(begin + begin.elapsed() * LOOKS);
        }
        let sum = |wanted: bool| {
            let of = all.iter().filter(|(_, slot, _)| is_stack(*slot) == wanted);
            of.fold(Amount::default(), |sum, (range, _, calls)| {
                sum.plus(Amount { bytes: range.end - range.start, blocks: *calls })
            })
        };
        (self.sample.mapped_ranges, self.sample.stack_ranges) = (sum(false), sum(true));
        let resident = |wanted: bool| {
            self.resident.iter().filter(|(slot, _)| is_stack(**slot) == wanted).map(|(_, bytes)| bytes).sum()
        };
        (self.sample.mapped, self.sample.stacks) = (resident(false), resident(true));
        self.own = addresses;
        self.mapped = all.into_iter().filter(|(_, slot, _)| is_stack(*slot)).collect();
    }

    /// Adds a sample; the ranges have been looked at.
    pub(super) fn add(&mut self, now: Duration, usage: &usage::Usage, blocks: Amount, seen: Duration) {
        self.peak = self.peak.max(blocks.bytes);
        let usage::Usage { anon, file, shmem, swap, page_tables, size, threads, written } = *usage;
        let mut held = [0; MAX_CGROUPS];
        for (place, limit) in held.iter_mut().zip(&self.limits) {
            let used = self.cgroup.as_ref().and_then(|cgroup| cgroup.usage_of(limit));
            *place = used.map_or(0, |used| used.held());
        }
        let cgroup = self.cgroup.as_ref().and_then(MemoryCgroup::usage).unwrap_or_default();
        self.sample = Sample {
            resident: Resident { anon, file, shmem, swap, page_tables, size },
            threads,
            seen,
            blocks,
            held,
            cgroup: [cgroup.shmem, cgroup.cache, cgroup.kernel],
            written,
            ..self.sample
        };
        self.last = now;
        self.series.add(now, self.sample);
    }

    /// Looks which stacks of threads are in use.
    pub(super) fn look_at_stacks(&mut self, pid: u32) {
        self.stacks = thread_stacks::created(pid, &self.mapped);
    }

    /// Looks at children that are not traced.
    pub(super) fn look_at_children(&mut self, pid: u32, traced: &[u32]) {
        self.children.look(pid, traced);
    }

    /// Looks at what heaps have in memory, if they were looked at in the beginning.
    pub(super) fn look_at_heap(&mut self, pid: u32) {
        let begin = Instant::now();
        let Some((first, last)) = self.heap.filter(|_| self.next_heap.is_none_or(|next| begin >= next))
        else {
            return;
        };
        self.heap = Some((first, heap::resident(pid, &self.own, LOOK).unwrap_or(last)));
        self.filled = heap::filled(pid, &self.before, &self.own, LOOK).unwrap_or(self.filled);
        self.next_heap = Some(begin + (begin.elapsed() * LOOKS).max(INTERVAL));
    }

    /// Private bytes in memory that the stack of calls in a slot has mapped.
    pub(super) fn resident(&self, slot: u32) -> Option<u64> {
        self.resident.get(&slot).copied()
    }

    /// The samples, with blocks as they were measured where only windows were watched.
    pub(super) fn as_measured(&self, of: Circumstances) -> (Cow<'_, [(Duration, Sample)]>, Circumstances) {
        let samples = self.series.samples();
        let in_windows = of.knowledge == Knowledge::AtMost && are_measurable(&of.allocators);
        match in_windows.then(|| balance::measured(samples, self.measured.samples(), of.heap_grown)).flatten()
        {
            Some((samples, kept)) => {
                let of = Circumstances { knowledge: Knowledge::Measured, kept_grown: Some(kept), ..of };
                (Cow::Owned(samples), of)
            }
            None => {
                let kept = self.measured.samples().last().filter(|_| in_windows);
                let of = Circumstances { kept_last: kept.map(|(at, heap)| (*at, heap.kept)), ..of };
                (Cow::Borrowed(samples), of)
            }
        }
    }

    /// What the verdict needs besides samples.
    pub(super) fn circumstances(&self, allocators: &[String]) -> Circumstances {
        let stacks = self.stacks.values().fold(ThreadStacks::default(), |sum, of| ThreadStacks {
            count: sum.count + of.count,
            bytes: sum.bytes + of.bytes,
            ended: sum.ended + of.ended,
            ended_bytes: sum.ended_bytes + of.bytes / of.count.max(1) * of.ended,
            unjoined: false,
        });
        let heap_is_anonymous = self.heap.is_none() || allocators.iter().any(|name| name != "glibc");
        Circumstances {
            // What another allocator had mapped before may be its blocks.
            filled: if heap_is_anonymous { 0 } else { self.filled },
            peak: self.peak,
            heap_grown: self
                .heap
                .map(|(first, last)| i64::try_from(last).unwrap_or(i64::MAX).saturating_sub_unsigned(first)),
            heap_is_anonymous,
            allocators: allocators.to_vec(),
            stacks,
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.name().to_owned()),
            bounds: self.bounds(),
            ..Circumstances::default()
        }
    }

    fn bounds(&self) -> Vec<Bound> {
        let cgroups = self.limits.iter().enumerate().map(|(at, limit)| Bound {
            kind: match limit.slows {
                true => LimitKind::CgroupHigh(limit.name.clone()),
                false => LimitKind::CgroupMax(limit.name.clone()),
            },
            bytes: limit.bytes,
            measure: Measure::Cgroup(at),
        });
        let address_space = self.address_space.map(|bytes| Bound {
            kind: LimitKind::AddressSpace,
            bytes,
            measure: Measure::AddressSpace,
        });
        let machine = kernel::meminfo("MemAvailable").map(|bytes| Bound {
            kind: LimitKind::Machine,
            bytes,
            measure: Measure::Available,
        });
        cgroups.chain(address_space).chain(machine).collect()
    }

    /// Adds children that are not traced to a balance.
    pub(super) fn with_children(&self, mut balance: Balance, traced: &[u32]) -> Balance {
        self.children.put(&mut balance, traced);
        balance
    }
}
