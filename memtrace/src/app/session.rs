//! A session: the kernel side, the traced processes, and what is known of their stacks.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context as _, bail};
use memtrace_common::{Target, WalkEnd};
use rustc_hash::FxHashMap;

use super::resolve::Traced;
use crate::{
    aggregate::{Aggregate, Growth, Survivors, Totals},
    analysis::{self, SortBy},
    bpf::{Config, Events, KernelEvent, KernelLog, Tracer},
    model::{
        Age, AllocationEvent, Amount, Event, Frame, LiveBlock, Losses, Mode, Snapshot, StackMethod, StackRow,
        TargetInfo, TargetKind,
    },
    symbolize::{Place, Symbolizer},
    target::{Location, Process},
};

/// What to count and what to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the kernel side counts.
    pub config: Config,
    /// Stacks shown; 0 for all.
    pub top: usize,
    /// Only blocks at least this old.
    pub older: Option<Duration>,
    /// Order of the stacks.
    pub sort: SortBy,
    /// Whether to list the blocks of the stacks shown.
    pub show_allocs: bool,
    /// Probes at functions' first bytes: slow, for comparison.
    pub first_byte: bool,
}

/// Blocks listed per stack with `--show-allocs`.
const MAX_LISTED: usize = 1000;

/// A stack whose frames have arrived.
struct Stack {
    places: Vec<Location>,
    incomplete: Option<&'static str>,
    target: u32,
    hash: u64,
}

/// Owns programs and links: dropping it leaves no probe behind.
pub struct Session {
    tracer: Tracer,
    options: Options,
    targets: Vec<Traced>,
    stacks: FxHashMap<u32, Stack>,
    aggregate: Aggregate,
    symbolizer: Symbolizer,
    notes: Vec<String>,
}

impl Session {
    /// Loads the kernel side; nothing is traced yet.
    ///
    /// # Errors
    /// Missing privileges, or a kernel that cannot do it: with advice.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let tracer = Tracer::load(&options.config).map_err(|error| {
            let permission = error.is_permission();
            let error = anyhow::Error::new(error);
            if permission {
                error.context("memtrace needs root (or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE): try `sudo memtrace …`; `memtrace check` tells more")
            } else {
                error.context("this kernel does not take memtrace's eBPF programs: `memtrace check` tells more")
            }
        })?;
        Ok(Self {
            tracer,
            options,
            targets: Vec::new(),
            stacks: FxHashMap::default(),
            aggregate: Aggregate::default(),
            symbolizer: Symbolizer::default(),
            notes: Vec::new(),
        })
    }

    /// The streams of events and of kernel messages. To be taken once.
    ///
    /// # Errors
    /// Taken before.
    pub fn streams(&mut self) -> anyhow::Result<(Events, Option<KernelLog>)> {
        Ok((self.tracer.take_events()?, self.tracer.take_log()))
    }

    /// Begins to trace a process.
    ///
    /// # Errors
    /// It cannot be traced, or has no allocator that memtrace knows.
    pub fn attach(&mut self, process: Process) -> anyhow::Result<()> {
        let (pid, comm) = (process.pid, process.comm.clone());
        self.add(process)?;
        if self.attach_new(pid)? == 0 {
            bail!(
                "process {pid} ({comm}) has no allocator that memtrace knows: neither its libraries nor its program \
                 define malloc and free (is it static and stripped?); `memtrace check --pid {pid}` lists what was looked at"
            );
        }
        Ok(())
    }

    /// Makes a process known without attaching: for one whose libraries are not mapped yet.
    ///
    /// # Errors
    /// It cannot be read, or there are too many.
    pub fn add(&mut self, process: Process) -> anyhow::Result<()> {
        if self.targets.iter().any(|target| target.pid() == process.pid) {
            bail!("process {} is given twice", process.pid);
        }
        let index = self.tracer.add_target(process.pid)?;
        self.targets.push(Traced::new(process, index, self.options.first_byte)?);
        Ok(())
    }

    /// Attaches to allocators of a process that were mapped since; returns how many there were.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn attach_new(&mut self, pid: NonZeroU32) -> anyhow::Result<usize> {
        let Some(target) = self.targets.iter_mut().find(|target| target.pid() == pid) else { return Ok(0) };
        target.refresh();
        let found = target.attach(&mut self.tracer);
        if found.is_err() && target.process.has_exited() {
            bail!("process {pid} exited while memtrace was attaching to it");
        }
        found.with_context(|| format!("cannot trace process {pid}"))
    }

    /// The traced processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.targets.iter().map(|target| &target.process)
    }

    /// Says in every report from now on.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// How probes are attached, for messages.
    #[must_use]
    pub fn method(&self) -> String {
        self.tracer.method().to_string()
    }

    /// Takes an event in; returns what is to be reported at once (`--trace`).
    pub fn take(&mut self, event: KernelEvent) -> Option<Event> {
        match event {
            KernelEvent::Stack { slot, hash, target, end, pcs } => {
                self.take_stack(slot, hash, target, end, &pcs);
                None
            }
            KernelEvent::Trace { freed, time, pid, tid, address, size, slot, target } => {
                let frames = if freed { Vec::new() } else { self.frames(slot) };
                let stack = self.stacks.get(&slot).filter(|stack| stack.target == target);
                Some(Event::Allocation(AllocationEvent {
                    elapsed: self.tracer.since_start(time),
                    pid,
                    tid,
                    freed,
                    address,
                    size,
                    stack: stack.map_or(0, |stack| stack.hash),
                    frames,
                }))
            }
            KernelEvent::Exec { target, generation } => {
                self.take_exec(target, generation);
                None
            }
            KernelEvent::Fork { target } => {
                tracing::debug!("target {target} forked a process, which is not traced");
                None
            }
        }
    }

    fn take_stack(&mut self, slot: u32, hash: u64, target: u32, end: WalkEnd, pcs: &[u64]) {
        let index = Target::index(target);
        let Some(traced) = self.targets.iter_mut().find(|traced| traced.index == index) else { return };
        let (places, whole) = traced.locate(pcs);
        let incomplete = if whole { end.reason() } else { Some("no_module") };
        self.stacks.insert(slot, Stack { places, incomplete, target, hash });
    }

    fn take_exec(&mut self, index: u32, generation: u32) {
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        target.exec(generation);
        let attached = target.attach(&mut self.tracer);
        let (pid, comm) = (target.pid(), &target.process.comm);
        let at = self.tracer.elapsed().as_secs_f64();
        let mut note =
            format!("process {pid} called exec after {at:.1} s and is {comm} now: its count began anew");
        if let Err(error) = attached {
            note.push_str(&format!("; attaching to its allocator failed: {error:#}"));
        }
        self.notes.push(note);
    }

    /// Everything one report shows.
    ///
    /// # Errors
    /// The table of live blocks cannot be read (`--older`, `--show-allocs`).
    pub fn snapshot(&mut self, last: bool) -> anyhow::Result<Snapshot> {
        let now = self.tracer.elapsed();
        let survivors = self.survivors(now)?;
        let totals = self.totals(now);
        let (mut stacks, bytes_per_second) = self.aggregate.advance(now, totals, survivors.as_ref());
        let outstanding = stacks.iter().fold(Amount::default(), |sum, stack| Amount {
            bytes: sum.bytes + stack.outstanding.bytes,
            blocks: sum.blocks + stack.outstanding.blocks,
        });
        let losses = self.losses(&stacks);
        analysis::rank(&mut stacks, self.options.sort);
        let stacks_found = stacks.len();
        if self.options.top != 0 {
            stacks.truncate(self.options.top);
        }
        let mut listed = self.listed(&stacks, now)?;
        let rows = stacks.iter().map(|stack| self.row(stack, &mut listed)).collect();
        Ok(Snapshot {
            time: jiff::Timestamp::now(),
            elapsed: now,
            last,
            target: self.info(),
            mode: Mode { sample_bytes: None, stacks: StackMethod::FramePointer },
            outstanding,
            bytes_per_second,
            stacks_found,
            stacks: rows,
            losses,
            notes: self.notes.clone(),
        })
    }

    fn info(&self) -> TargetInfo {
        let mut allocators: Vec<String> =
            self.targets.iter().flat_map(|target| target.allocators.iter().cloned()).collect();
        allocators.sort();
        allocators.dedup();
        TargetInfo {
            kind: TargetKind::Process,
            pids: self.targets.iter().map(|target| target.pid().get()).collect(),
            comm: self.targets.first().map(|target| target.process.comm.clone()).unwrap_or_default(),
            allocators,
        }
    }

    /// Totals of the stacks of every target's present program.
    fn totals(&self, now: Duration) -> Vec<Totals> {
        let current: Vec<u32> = self.targets.iter().map(Traced::id).collect();
        self.tracer
            .stacks()
            .filter(|stack| stack.hash == 0 || current.contains(&stack.target))
            .map(|stack| Totals {
                slot: stack.slot,
                id: stack.hash,
                target: stack.target,
                allocated: stack.allocated,
                freed: stack.freed,
                oldest: Age { age: now.saturating_sub(stack.since), exact: stack.since_exact },
            })
            .collect()
    }

    /// What is left of each stack's blocks after `--older`.
    fn survivors(&self, now: Duration) -> anyhow::Result<Option<FxHashMap<u32, Survivors>>> {
        if self.options.older.is_none() && !self.options.show_allocs {
            return Ok(None);
        }
        let older = self.options.older.unwrap_or_default();
        let mut survivors: FxHashMap<u32, Survivors> = FxHashMap::default();
        for target in &self.targets {
            self.tracer
                .for_each_live(target.id(), |block| {
                    let age = now.saturating_sub(block.time);
                    if age >= older {
                        let stack = survivors.entry(block.slot).or_default();
                        stack.amount.bytes += block.size;
                        stack.amount.blocks += 1;
                        stack.oldest = stack.oldest.max(age);
                    }
                })
                .context("cannot read the table of live blocks")?;
        }
        Ok(Some(survivors))
    }

    /// The blocks of the stacks shown, oldest first (`--show-allocs`).
    fn listed(&self, stacks: &[Growth], now: Duration) -> anyhow::Result<FxHashMap<u32, Vec<LiveBlock>>> {
        let mut listed: FxHashMap<u32, Vec<LiveBlock>> = FxHashMap::default();
        if !self.options.show_allocs {
            return Ok(listed);
        }
        listed.extend(stacks.iter().map(|stack| (stack.totals.slot, Vec::new())));
        let older = self.options.older.unwrap_or_default();
        for target in &self.targets {
            self.tracer
                .for_each_live(target.id(), |block| {
                    let age = now.saturating_sub(block.time);
                    if let Some(blocks) = listed.get_mut(&block.slot).filter(|_| age >= older) {
                        blocks.push(LiveBlock { address: block.address, size: block.size, age });
                    }
                })
                .context("cannot read the table of live blocks")?;
        }
        for blocks in listed.values_mut() {
            blocks.sort_by_key(|block| (std::cmp::Reverse(block.age), block.address));
            blocks.truncate(MAX_LISTED);
        }
        Ok(listed)
    }

    fn row(&mut self, stack: &Growth, listed: &mut FxHashMap<u32, Vec<LiveBlock>>) -> StackRow {
        let slot = stack.totals.slot;
        StackRow {
            id: stack.totals.id,
            outstanding: stack.outstanding,
            allocated: stack.totals.allocated,
            freed: stack.totals.freed,
            bytes_per_second: stack.bytes_per_second,
            oldest: Some(stack.totals.oldest),
            incomplete: self.stacks.get(&slot).and_then(|stack| stack.incomplete),
            frames: self.frames(slot),
            blocks: listed.remove(&slot).unwrap_or_default(),
        }
    }

    /// A stack's frames, symbolized; empty when they have not arrived.
    fn frames(&mut self, slot: u32) -> Vec<Frame> {
        let Some(stack) = self.stacks.get(&slot) else { return Vec::new() };
        let mut frames = Vec::with_capacity(stack.places.len());
        for place in &stack.places {
            frames.extend(self.symbolizer.frames(&Place {
                module: &place.module.name,
                file: place.module.path(),
                debug: place.module.debug_path(),
                return_address: place.address,
            }));
        }
        frames
    }

    fn losses(&self, stacks: &[Growth]) -> Losses {
        let mut reasons: FxHashMap<&'static str, u64> = FxHashMap::default();
        for stack in stacks {
            if let Some(reason) = self.stacks.get(&stack.totals.slot).and_then(|stack| stack.incomplete) {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let mut stacks_incomplete: Vec<_> = reasons.into_iter().collect();
        stacks_incomplete.sort_unstable();
        Losses { stacks_incomplete, ..self.tracer.losses() }
    }

    /// Detaches every probe; the counts stay readable.
    pub fn detach(&mut self) {
        self.tracer.detach();
    }
}
