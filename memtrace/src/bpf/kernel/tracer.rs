//! The kernel side of a session of kernel mode: maps, programs, links.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::{
    Btf, Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{FEntry, Program, RawTracePoint, raw_trace_point::RawTracePointLinkId},
};
use memtrace_common::{
    KernelCache, KernelCounter, KernelKind, KernelSlot, MAX_CACHES, NAMELESS, NO_CACHE, STACK_TABLE_FULL,
    TIME_SHIFT,
};
use rustc_hash::FxHashMap;

use super::{
    calibrate::{self, Learnt},
    config::KernelConfig,
    counts::{CacheCounts, KernelLosses, KernelStack},
    examine::Examiner,
    layout::Layout,
    live::{LiveObject, ObjectTable},
    load::{self, PROBES, Probe, Sizes},
};
use crate::bpf::shared::{
    error::Error,
    events::Events,
    mapped::Mapped,
    object::program,
    object::{map_fd, take},
    syscall,
    time::monotonic_ns,
};
use crate::profile::Reason;

/// Live objects that are examined at a time: 12 MiB of them.
const BATCH: usize = 1 << 19;

/// The program at the entry of `kmem_cache_free_bulk`.
const FREE_BULK: &str = "free_bulk";

/// Programs, maps and links. Dropping it detaches every program.
pub struct KernelTracer {
    stacks: Mapped<KernelSlot>,
    /// How many of them are stacks'.
    named: usize,
    caches: Mapped<KernelCache>,
    live: ObjectTable,
    counters: PerCpuArray<MapData, u64>,
    links: Vec<(&'static str, RawTracePointLinkId)>,
    layout: Layout,
    learnt: Learnt,
    sees_bulk: bool,
    examiner: Option<Examiner>,
    epoch: u64,
    ebpf: Ebpf,
}

impl KernelTracer {
    /// Loads everything; nothing is traced yet.
    ///
    /// # Errors
    /// Missing privileges ([`Error::is_permission`]), or a kernel that refuses a map or a program.
    pub fn load(config: &KernelConfig) -> Result<Self, Error> {
        let layout = Layout::of_this_kernel().ok_or(Error::NoBtf)?;
        tracing::debug!("{layout:?}");
        let learnt = {
            let nothing = Learnt { tgid: 0, page_base: 0 };
            let mut ebpf = load::load(config, &layout, nothing, Sizes::new(1, 1), 0)?;
            calibrate::calibrate(&mut ebpf, &layout)?
        };
        let sizes = Sizes::new(config.max_live, config.max_stacks);
        let epoch = monotonic_ns();
        let mut ebpf = load::load(config, &layout, learnt, sizes, epoch)?;
        load::fill_filters(&mut ebpf, config)?;
        for probe in PROBES.iter().filter(|probe| is_wanted(probe, config, &layout)) {
            let refused = |source| Error::Program { program: probe.program, source };
            let program: &mut RawTracePoint = program(&mut ebpf, probe.program)?;
            program.load().map_err(refused)?;
        }
        let sees_bulk = config.kinds.contains(&KernelKind::Slab)
            && load_bulk(&mut ebpf)
                .inspect_err(|error| tracing::debug!("frees in bulk are not seen: {error}"))
                .is_ok();
        let examiner = match learnt.page_base {
            0 => None,
            _ => Examiner::new(&mut ebpf, &layout).unwrap_or_else(|error| {
                tracing::debug!("slabs are not examined: {error}");
                None
            }),
        };
        let duplicate = |name: &'static str| -> Result<OwnedFd, Error> {
            let fd = ebpf.map(name).and_then(map_fd).ok_or(Error::Missing(name))?;
            fd.try_clone_to_owned().map_err(Error::io("duplicating a map's descriptor"))
        };
        let mapping = Error::io("mapping a table of kernel mode");
        let named = sizes.stacks as usize;
        let stacks =
            Mapped::new(duplicate("STACKS")?.as_fd(), 0, named + NAMELESS as usize).map_err(mapping)?;
        let mapping = Error::io("mapping a table of kernel mode");
        let caches = Mapped::new(duplicate("CACHES")?.as_fd(), 0, MAX_CACHES as usize).map_err(mapping)?;
        let live = ObjectTable {
            buckets: duplicate("LIVE")?,
            overflow: duplicate("OVERFLOW")?,
            length: sizes.buckets as usize,
        };
        let counters = take(&mut ebpf, "COUNTERS")?.try_into().map_err(Error::map("COUNTERS"))?;
        Ok(Self {
            stacks,
            named,
            caches,
            live,
            counters,
            links: Vec::new(),
            layout,
            learnt,
            sees_bulk,
            examiner,
            epoch,
            ebpf,
        })
    }

    /// Begins to trace: frees first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, config: &KernelConfig) -> Result<(), Error> {
        if self.sees_bulk {
            let refused = |source| Error::Program { program: FREE_BULK, source };
            let program: &mut FEntry = program(&mut self.ebpf, FREE_BULK)?;
            program.attach().map_err(refused)?;
        }
        for probe in PROBES.iter().filter(|probe| is_wanted(probe, config, &self.layout)) {
            let refused = |source| Error::Program { program: probe.program, source };
            let program: &mut RawTracePoint = program(&mut self.ebpf, probe.program)?;
            for tracepoint in probe.tracepoints.iter().filter(|name| self.layout.has(name)) {
                let link = program.attach(tracepoint).map_err(refused)?;
                self.links.push((probe.program, link));
            }
        }
        Ok(())
    }

    /// Kinds that were asked for, but that this kernel has no tracepoints for.
    #[must_use]
    pub fn unseen_kinds(&self, config: &KernelConfig) -> Vec<KernelKind> {
        let seen = |kind| {
            PROBES
                .iter()
                .filter(|probe| probe.kind == kind)
                .all(|probe| probe.tracepoints.iter().any(|name| self.layout.has(name)))
        };
        config.kinds.iter().copied().filter(|kind| !seen(*kind)).collect()
    }

    /// Whether frees in bulk are seen.
    #[must_use]
    pub fn sees_bulk(&self) -> bool {
        self.sees_bulk
    }

    /// Whether slabs can be looked through for objects that were freed.
    #[must_use]
    pub fn examines_slabs(&self) -> bool {
        self.examiner.is_some()
    }

    /// Whether it can be told which cache an address lies in.
    #[must_use]
    pub fn knows_caches(&self) -> bool {
        self.learnt.page_base != 0 && self.layout.slab_cache.is_some() && self.layout.cache.is_some()
    }

    /// The stream of events. To be taken once.
    ///
    /// # Errors
    /// Taken before, or the ring buffer cannot be mapped.
    pub fn take_events(&mut self) -> Result<Events, Error> {
        let ring = RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?).map_err(Error::map("EVENTS"))?;
        Ok(Events::new(ring))
    }

    /// Every slot in use.
    pub fn stacks(&self) -> impl Iterator<Item = KernelStack> {
        (0..self.stacks.len()).filter_map(|index| {
            // What is gone is read before what was allocated: the difference is never negative.
            let gone = self.stacks.get(index).filter(|slot| slot.allocated != 0)?;
            let slot = self.stacks.get(index)?;
            Some(KernelStack {
                slot: index as u32,
                nameless: match index {
                    0 => Some(Reason::NoWalkSlot),
                    _ => (index >= self.named).then_some(Reason::StackTableFull),
                },
                kind: KernelKind::ALL
                    .get(slot.kind as usize)
                    .copied()
                    .filter(|_| index as u32 != STACK_TABLE_FULL),
                cache: slot.cache,
                size: slot.size,
                allocated: slot.allocated,
                freed: gone.freed,
                missed: gone.missed,
                evicted: gone.evicted,
            })
        })
    }

    /// Every cache that was met.
    #[must_use]
    pub fn caches(&self) -> Vec<CacheCounts> {
        let used = self.caches.get(0).map_or(0, |first| first.pointer as usize);
        (1..=used)
            .filter_map(|index| Some((index as u32, self.caches.get(index)?)))
            .filter(|(_, cache)| cache.pointer != 0)
            .map(|(index, cache)| CacheCounts {
                index,
                name: name(&cache.name),
                untracked_freed: cache.untracked_freed,
                untracked_allocated: cache.untracked_allocated,
            })
            .collect()
    }

    /// Calls `each` with every object in the table, without looking whether it is there.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn for_each_tracked(&self, each: impl FnMut(LiveObject)) -> io::Result<()> {
        self.live.for_each(each)
    }

    /// Calls `each` with every live object: a pass over the whole table. Where slabs can be examined, it is known of most
    /// slab objects whether they are there, and those that are gone are taken out.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn for_each_live(&self, mut each: impl FnMut(LiveObject)) -> io::Result<()> {
        let Some(examiner) = &self.examiner else { return self.for_each_tracked(each) };
        let mut batch: Vec<LiveObject> = Vec::new();
        let since = time_of(self.elapsed());
        let mut finish = |batch: &mut Vec<LiveObject>| {
            let caches = self.cache_of_slots();
            if let Err(error) = examiner.examine(batch, &caches, since) {
                tracing::debug!("slabs are not examined: {error}");
            }
            batch.drain(..).for_each(&mut each);
        };
        self.live.for_each(|object| {
            batch.push(object);
            if batch.len() == BATCH {
                finish(&mut batch);
            }
        })?;
        finish(&mut batch);
        Ok(())
    }

    /// The `struct kmem_cache` of each slot whose objects lie in one.
    fn cache_of_slots(&self) -> FxHashMap<u32, u64> {
        let pointer = |index: u32| self.caches.get(index as usize).map(|cache| cache.pointer);
        self.stacks()
            .filter(|stack| stack.kind == Some(KernelKind::Slab) && stack.cache != NO_CACHE)
            .filter_map(|stack| Some((stack.slot, pointer(stack.cache)?)))
            .filter(|(_, pointer)| *pointer != 0)
            .collect()
    }

    /// What was lost so far.
    #[must_use]
    pub fn losses(&self) -> KernelLosses {
        let sum = |counter: KernelCounter| {
            self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum::<u64>())
        };
        let programs = self.ebpf.programs().filter_map(|(_, program)| match program {
            Program::RawTracePoint(point) => RawTracePoint::fd(point).ok(),
            Program::FEntry(entry) => FEntry::fd(entry).ok(),
            _ => None,
        });
        KernelLosses {
            live_map_full: sum(KernelCounter::LiveMapFull),
            live_map_full_bytes: sum(KernelCounter::LiveMapFullBytes),
            ring_full: sum(KernelCounter::RingFull),
            no_walk_slot: sum(KernelCounter::NoWalkSlot),
            stack_table_full: sum(KernelCounter::StackTableFull),
            missed_frees: sum(KernelCounter::MissedFrees),
            kernel_missed: programs
                .map(|fd| syscall::program_info(fd.as_fd()).map_or(0, |info| info.recursion_misses))
                .sum(),
            user_pages: sum(KernelCounter::UserPages),
            own: sum(KernelCounter::Own),
            walks: sum(KernelCounter::Walks),
        }
    }

    /// Time since the programs were loaded, on the clock of objects' times.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.epoch))
    }

    /// Detaches every program, allocations first; the counts stay readable.
    pub fn detach(&mut self) {
        for (name, link) in self.links.drain(..).rev() {
            if let Ok(program) = program::<RawTracePoint>(&mut self.ebpf, name) {
                let _ = program.detach(link);
            }
        }
    }
}

impl Drop for KernelTracer {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Loads the program for frees in bulk. Not every kernel takes one of its kind.
fn load_bulk(ebpf: &mut Ebpf) -> Result<(), Error> {
    let refused = |source| Error::Program { program: FREE_BULK, source };
    let btf = Btf::from_sys_fs().map_err(|error| refused(error.into()))?;
    let program: &mut FEntry = program(ebpf, FREE_BULK)?;
    program.load("kmem_cache_free_bulk", &btf).map_err(refused)
}

/// A time as objects have it.
fn time_of(elapsed: Duration) -> Duration {
    Duration::from_nanos((elapsed.as_nanos() as u64) >> TIME_SHIFT << TIME_SHIFT)
}

fn is_wanted(probe: &Probe, config: &KernelConfig, layout: &Layout) -> bool {
    config.kinds.contains(&probe.kind) && probe.tracepoints.iter().any(|name| layout.has(name))
}

fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
