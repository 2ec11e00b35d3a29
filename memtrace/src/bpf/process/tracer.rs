//! The kernel side of one session: maps, programs, links.

use std::{
    io,
    num::NonZeroU32,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
};
use memtrace_common::{LIFETIME_CLASSES, Lifetimes, MAX_TARGETS, Module, Row, Shift, Target, Work};

use crate::model::{LoaderHook, ProbeSpec};

use super::{
    attach::{self, Link, Stage},
    config::Config,
    detach::{detach, detach_later},
    holders::Holders,
    live::{LiveReader, LiveTable},
    load::{self, OBJECT, Sizes},
    multi::MultiLoader,
    programs::{Method, Programs},
    totals::{self, StackTotals},
    unwind::UnwindTables,
};
use crate::bpf::shared::{
    error::Error,
    events::Events,
    log::BpfLog,
    mapped::Mapped,
    object::{map_fd, take},
    system,
    time::{self, monotonic_ns},
};

/// Programs, maps and links. Dropping it detaches every probe.
pub struct Tracer {
    pub(super) links: Vec<Link>,
    pub(super) holders: Holders,
    pub(super) programs: Programs,
    live: LiveReader,
    lifetimes: Mapped<Lifetimes>,
    pub(super) counters: PerCpuArray<MapData, u64>,
    work: PerCpuArray<MapData, Work>,
    unwind: UnwindTables,
    targets: Array<MapData, Target>,
    target_by_tgid: HashMap<MapData, u32, u32>,
    target_count: u32,
    shares_pids: bool,
    sampling: Shift,
    pub(super) ebpf: Ebpf,
}

impl Tracer {
    /// Loads everything; nothing is traced yet.
    ///
    /// # Errors
    /// Missing privileges ([`Error::is_permission`]), or a kernel that rejects a map or a program.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let sizes = Sizes::new(config);
        let epoch = monotonic_ns();
        let mut ebpf = load::load(config, sizes, epoch)?;
        load::attach_lifecycle(&mut ebpf)?;
        let loader = (system::multi_respects_pid() && !config.perf)
            .then(|| MultiLoader::new(OBJECT, |name| map_fd(ebpf.map(name)?).map(|fd| fd.as_raw_fd())))
            .and_then(|loader| loader.inspect_err(|error| tracing::debug!("{error}")).ok());
        let programs = Programs::load(&mut ebpf, loader, config.skips)?;
        let duplicate = |name: &'static str| -> Result<OwnedFd, Error> {
            let fd = ebpf.map(name).and_then(map_fd).ok_or(Error::Missing(name))?;
            fd.try_clone_to_owned().map_err(Error::io("duplicating a map's descriptor"))
        };
        let table = LiveTable {
            buckets: duplicate("LIVE")?,
            overflow: duplicate("OVERFLOW")?,
            length: sizes.buckets as usize,
        };
        let live = LiveReader::new(table, duplicate("STACKS")?, sizes.stacks as usize, epoch)
            .map_err(Error::io("mapping the table of stacks"))?;
        let lifetimes = Mapped::new(duplicate("LIFETIMES")?.as_fd(), 0, sizes.lifetimes as usize)
            .map_err(Error::io("mapping the table of lifetimes"))?;
        let unwind = UnwindTables::new(
            (duplicate("ROWS")?, sizes.rows),
            duplicate("MODULES")?,
            (duplicate("CACHE")?, sizes.cached_targets),
            Mapped::writable(duplicate("TARGETS")?.as_fd(), MAX_TARGETS as usize)
                .map_err(Error::io("mapping the table of targets"))?,
        );
        Ok(Self {
            links: Vec::new(),
            holders: Holders::default(),
            programs,
            live,
            lifetimes,
            unwind,
            work: take(&mut ebpf, "WORK")?.try_into().map_err(Error::map("WORK"))?,
            counters: take(&mut ebpf, "COUNTERS")?.try_into().map_err(Error::map("COUNTERS"))?,
            targets: take(&mut ebpf, "TARGETS")?.try_into().map_err(Error::map("TARGETS"))?,
            target_by_tgid: take(&mut ebpf, "TARGET_BY_TGID")?
                .try_into()
                .map_err(Error::map("TARGET_BY_TGID"))?,
            target_count: 0,
            shares_pids: system::in_initial_pid_namespace(),
            sampling: config.sampling,
            ebpf,
        })
    }

    /// The stream of events. Can be taken once.
    ///
    /// # Errors
    /// Taken before, or the ring buffer cannot be mapped.
    pub fn take_events(&mut self) -> Result<Events, Error> {
        let ring = RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?).map_err(Error::map("EVENTS"))?;
        Ok(Events::new(ring))
    }

    /// The programs' messages. Can be taken once; `None` afterwards.
    pub fn take_log(&mut self) -> Option<BpfLog> {
        BpfLog::new(&mut self.ebpf)
    }

    /// How probes are attached.
    #[must_use]
    pub fn method(&self) -> Method {
        self.programs.method()
    }

    /// Registers a process and assigns it an index. [`Tracer::attach`] attaches its probes.
    ///
    /// # Errors
    /// Too many targets.
    pub fn add_target(&mut self, pid: NonZeroU32) -> Result<u32, Error> {
        let index = self.target_count;
        if index >= MAX_TARGETS {
            return Err(Error::TooManyTargets(MAX_TARGETS));
        }
        self.set_target(index, pid, Target::default())?;
        self.target_count += 1;
        Ok(index)
    }

    /// Whether pids here are those that the kernel side sees.
    #[must_use]
    pub fn shares_pids(&self) -> bool {
        self.shares_pids
    }

    /// Gives the index of a process that has exited, and was forgotten ([`Tracer::forget_processes`]), to another one.
    /// What the kernel side counted for it is of the past, as after an `execve`. Returns the generation that begins.
    ///
    /// # Errors
    /// The table of targets cannot be written.
    pub fn replace_target(&mut self, index: u32, pid: NonZeroU32) -> Result<u32, Error> {
        let before = self.targets.get(&index, 0).map_err(Error::map("TARGETS"))?;
        let generation = before.generation + 1;
        self.holders.threads.remove(&index);
        self.set_target(index, pid, Target { generation, ..Target::default() })?;
        Ok(generation)
    }

    fn set_target(&mut self, index: u32, pid: NonZeroU32, target: Target) -> Result<(), Error> {
        // Programs see pids of the initial namespace.
        let tgid = if self.shares_pids { pid.get() } else { 0 };
        let target = Target { tgid, sampling: self.sampling as u32, ..target };
        self.targets.set(index, target, 0).map_err(Error::map("TARGETS"))?;
        if tgid != 0 {
            self.target_by_tgid.insert(tgid, index, 0).map_err(Error::map("TARGET_BY_TGID"))?;
        }
        Ok(())
    }

    /// Detaches the probes of processes that have exited, without waiting, and makes the life-cycle tracepoints forget
    /// their pids: other processes may get them.
    pub fn forget_processes(&mut self, targets: &[u32]) {
        for tgid in
            targets.iter().filter_map(|index| self.targets.get(index, 0).ok()).map(|target| target.tgid)
        {
            // Another process may have it already, and be traced.
            if self.target_by_tgid.get(&tgid, 0).is_ok_and(|index| targets.contains(&index)) {
                let _ = self.target_by_tgid.remove(&tgid);
            }
        }
        detach_later(self.take_links(|link| targets.contains(&u32::from(link.target))));
    }

    /// Attaches probes to a target's allocator functions.
    ///
    /// # Errors
    /// The kernel refused one; those attached before it have been detached.
    pub fn attach(&mut self, target: u32, pid: NonZeroU32, probes: &[ProbeSpec]) -> Result<(), Error> {
        let task = self.task(target, pid);
        let mut links = Vec::new();
        let attached =
            attach::attach(&mut self.ebpf, &mut self.programs, probes, task, target as u8, &mut links);
        self.keep(links, attached)?;
        self.anchor(target, probes)
    }

    /// Keeps the links of an attach that succeeded. Those of one that failed are detached like all others, not merely
    /// dropped: a signal that ends this process meanwhile would leave breakpoints.
    fn keep(&mut self, links: Vec<Link>, attached: Result<(), Error>) -> Result<(), Error> {
        match &attached {
            Ok(()) => self.links.extend(links),
            Err(_) => detach(links),
        }
        attached
    }

    /// Sets where a target's dynamic loader stores its state.
    pub fn set_loader_state(&self, target: u32, address: u64) {
        self.unwind.set_loader_state(target, address);
    }

    /// Watches a target's dynamic loader, so that changes of its libraries are reported at once.
    ///
    /// # Errors
    /// The kernel refused; changes are then noticed when code at an unknown address is met.
    pub fn watch_loader(&mut self, target: u32, pid: NonZeroU32, hook: &LoaderHook) -> Result<(), Error> {
        let task = self.task(target, pid);
        let mut links = Vec::new();
        let attached =
            attach::attach_loader(&mut self.ebpf, &mut self.programs, hook, task, target as u8, &mut links);
        self.keep(links, attached)?;
        self.anchor_loader(target, hook)
    }

    /// Sets where in a target libraries come and go: stacks with addresses there are distinguished by what was unloaded
    /// before. The range may only grow.
    pub fn set_unstable(&self, target: u32, range: &std::ops::Range<u64>) {
        self.unwind.set_unstable(target, range);
    }

    /// A count that changes when a target unloads libraries; read it before the target's mappings.
    #[must_use]
    pub fn unloaded(&self, target: u32) -> u64 {
        self.unwind.unloaded(target)
    }

    /// Detaches every probe, entries first. The counts stay readable.
    pub fn detach(&mut self) {
        detach(self.take_links(|_| true));
    }

    /// Detaches the probes on functions that allocate, of every target; with `frees`, those on functions that free too.
    /// Those on functions that map memory, which are called rarely, stay. Does not wait until the kernel is done.
    pub fn pause(&mut self, frees: bool) {
        let ends = |stage| match stage {
            Stage::Loader | Stage::MappingReturns | Stage::Mappings => false,
            Stage::Frees => frees,
            Stage::Returns | Stage::Exits | Stage::Entries => true,
        };
        detach_later(self.take_links(|link| ends(link.stage)));
    }

    /// Detaches the probes on functions that map memory, of every target. Does not wait until the kernel is done.
    pub fn pause_mappings(&mut self) {
        let ends = |stage| matches!(stage, Stage::MappingReturns | Stage::Mappings);
        detach_later(self.take_links(|link| ends(link.stage)));
    }

    /// Detaches every probe of a target, without waiting: they depend on the task that was its main thread, which is
    /// another one after an `execve` by a thread.
    pub fn release(&mut self, target: u32) {
        detach_later(self.take_links(|link| u32::from(link.target) == target));
    }

    /// Sets which allocations of all targets are counted from now on.
    pub fn set_sampling(&mut self, sampling: Shift) {
        self.sampling = sampling;
        for target in 0..self.target_count {
            self.unwind.set_sampling(target, sampling as u32);
        }
    }

    /// Begins a new window of a target: calls that were in flight when its probes were detached are forgotten.
    pub fn begin_window(&mut self, target: u32) {
        self.unwind.begin_window(target);
    }

    /// What the programs have done so far, on all CPUs.
    #[must_use]
    pub fn work(&self) -> Work {
        let mut sum = Work::default();
        if let Ok(values) = self.work.get(&0, 0) {
            for work in values.iter() {
                sum.add(work);
            }
        }
        sum
    }

    /// What loading needs.
    pub(super) fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Tells the kernel side which thread holds a target's probes.
    pub(super) fn set_holder(&self, target: u32, thread: u32) {
        self.unwind.set_holder(target, thread);
    }

    /// What attaching needs.
    pub(super) fn parts(&mut self) -> (&mut Ebpf, &mut Programs) {
        (&mut self.ebpf, &mut self.programs)
    }

    /// The current generation of a target: how often it has called `execve`.
    #[must_use]
    pub fn generation(&self, target: u32) -> u32 {
        self.unwind.generation(target)
    }

    /// Stores a file's unwind rows. Returns the index of the first; `None` if they do not fit.
    ///
    /// # Errors
    /// The table cannot be mapped.
    pub fn add_rows(&mut self, rows: &[Row]) -> Result<Option<u32>, Error> {
        self.unwind.add_rows(rows).map_err(Error::io("writing unwind rows"))
    }

    /// Sets the modules for walks in a target, in order of address; `unloaded` is what [`Tracer::unloaded`] returned
    /// before they were read. Returns how many did not fit.
    ///
    /// # Errors
    /// The table cannot be mapped.
    pub fn set_modules(&mut self, target: u32, modules: &[Module], unloaded: u64) -> Result<usize, Error> {
        self.unwind.set_modules(target, modules, unloaded).map_err(Error::io("writing modules"))
    }

    /// Every stack's totals. Costs a pass over the table of stacks, no system call.
    pub fn stacks(&self) -> impl Iterator<Item = StackTotals> {
        totals::read(&self.live.stacks.1, self.elapsed())
    }

    /// How long the freed blocks of a stack lived; zeros if that is not counted.
    #[must_use]
    pub fn lifetimes(&self, slot: u32) -> [u32; LIFETIME_CLASSES] {
        self.lifetimes.get(slot as usize).unwrap_or_default().blocks
    }

    /// Reads live blocks.
    #[must_use]
    pub fn live(&self) -> &LiveReader {
        &self.live
    }

    /// Clears the blocks of a target's earlier programs from the table. Costs as much as [`LiveReader::for_each`].
    ///
    /// # Errors
    /// The table cannot be mapped.
    pub fn forget_past(&self, target: u32) -> io::Result<()> {
        self.live.table.forget_past(target, || self.unwind.generation(target))
    }

    /// Time since tracing began, on the clock of block times.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.live.elapsed()
    }

    /// The same for the time of an event.
    #[must_use]
    pub fn time_of(&self, ticks: u32) -> Duration {
        time::at(ticks, self.elapsed())
    }

    /// Time since tracing began of a kernel time stamp in ns.
    #[must_use]
    pub fn since_start(&self, ktime: u64) -> Duration {
        Duration::from_nanos(ktime.saturating_sub(self.live.epoch))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.detach();
    }
}
