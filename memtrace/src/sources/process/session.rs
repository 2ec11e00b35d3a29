//! A session: the kernel side, the traced processes, and what is known of their stacks.

use std::{sync::Arc, time::Duration};

use memtrace_common::{Part, Target, WalkEnd, WalkMethod};
use rustc_hash::FxHashMap;

use super::{
    balance::Ledgers,
    black_box::BlackBox,
    counting::{Control, Counting, Phase},
    following::Following,
    inherited::Inherited,
    leaks::{LeakOptions, Leaks},
    sites::Placement,
    source::Streams,
    stacks::{Arrival, Stacks},
    traced::Traced,
    unwinding::{Progress, Unwinding},
    verdicts::Course,
    watch::Watch,
};
use crate::{
    aggregate::{Aggregate, Ranges},
    bpf::{BpfEvent, Config, Events, Tracer},
    profile::{Allocation, Reason, Remark},
    session::{Draft, Names, hold_signals},
    sources::marks::Marked,
    symbolize::Program,
    target::{Exit, FileStore, Process, select::Selector},
};

/// What to count. By default every allocation.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the kernel side counts.
    pub config: Config,
    /// Only blocks at least this old.
    pub older: Option<Duration>,
    /// Whether to list the blocks of the stacks shown.
    pub show_allocs: bool,
    /// Whether stacks that no longer hold anything are shown too.
    pub freed: bool,
    /// Which allocations are counted, and the budget for that.
    pub counting: Counting,
    /// Whether to judge what the blocks of each stack do.
    pub verdicts: bool,
    /// Where probes go.
    pub placement: Placement,
    /// Whether and how to check for leaks.
    pub leaks: LeakOptions,
    /// Whether a report and a leak check are made out of turn when memory is about to run out, or a process was killed.
    pub early: bool,
    /// Whether processes that descend from the targets become targets too.
    pub follow: bool,
    /// What selects further processes, which become targets as they appear.
    pub select: Selector,
    /// The program that names functions; `None`: they stay unnamed.
    pub names: Option<Program>,
}

/// Owns programs and links: dropping it leaves no probe behind.
pub struct Session {
    pub(super) tracer: Tracer,
    pub(super) options: Options,
    pub(super) targets: Vec<Traced>,
    pub(super) stacks: Stacks,
    pub(super) aggregate: Aggregate,
    pub(super) course: Course,
    /// What each target mapped itself, by index.
    pub(super) ranges: FxHashMap<u32, Ranges>,
    pub(super) names: Names,
    pub(super) control: Control,
    unwinding: Unwinding,
    pub(super) files: Arc<FileStore>,
    pub(super) progress: Progress,
    /// When tracing began, on the kernel side's clock.
    pub(super) started: Duration,
    /// Remarks of all further reports.
    pub(super) remarks: Vec<Remark>,
    pub(super) streams: Option<Streams>,
    pub(super) watch: Watch,
    /// The command that memtrace started, to which it passes on that it is to end.
    pub(super) command: Option<Exit>,
    pub(super) leaks: Leaks,
    pub(super) ledgers: Ledgers,
    pub(super) following: Following,
    pub(super) inherited: Inherited,
    pub(super) black_box: BlackBox,
    /// CPU time that targets used whose place another one has taken.
    pub(super) past_cpu: Duration,
    pub(super) marked: Marked,
}

impl Session {
    /// Loads the kernel side; nothing is traced yet. `progress` is called for work that takes over a second. Signals
    /// that end a session are blocked from here on until it is followed: see [`crate::session::interrupted`].
    ///
    /// # Errors
    /// Missing privileges, or a kernel that lacks a feature: with advice.
    pub fn new(options: Options, progress: Progress) -> anyhow::Result<Self> {
        hold_signals();
        let mut options = options;
        options.config.sampling = options.counting.first();
        options.config.skips = options.counting.skips();
        options.config.follow = options.follow;
        options.config.joins = options.follow || !options.select.is_empty();
        if !options.verdicts {
            options.config.without |= Part::Lifetimes as u32;
        }
        let mut remarks = Vec::new();
        let mut tracer = Tracer::load(&options.config);
        if let Err(error) = &tracer
            && !error.is_permission()
            && !error.is_out_of_files()
            && options.config.method == WalkMethod::Cfi
        {
            // Linux before 5.17 has no `bpf_loop`.
            tracing::debug!("walks by call frame information are unavailable: {error:#}");
            options.config.method = WalkMethod::FramePointer;
            tracer = Tracer::load(&options.config);
            remarks.push(Remark::FramePointersOnly);
        }
        let tracer = tracer.map_err(|error| {
            let permission = error.is_permission();
            let error = anyhow::Error::new(error);
            if permission {
                error.context("this needs root (or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE): try `sudo memtrace …`; `memtrace check` shows more")
            } else {
                error.context("this kernel rejects memtrace's eBPF programs: `memtrace check` shows more")
            }
        })?;
        Ok(Self {
            tracer,
            control: Control::new(options.counting),
            names: Names::new(options.names),
            leaks: Leaks::new(options.leaks),
            following: Following::new(options.follow, options.select.clone()),
            inherited: Inherited::default(),
            past_cpu: Duration::ZERO,
            black_box: BlackBox::default(),
            marked: Marked::default(),
            options,
            targets: Vec::new(),
            stacks: Stacks::default(),
            aggregate: Aggregate::default(),
            course: Course::default(),
            ranges: FxHashMap::default(),
            unwinding: Unwinding::default(),
            files: Arc::default(),
            progress,
            started: Duration::ZERO,
            remarks,
            streams: None,
            watch: Watch::default(),
            command: None,
            ledgers: Ledgers::default(),
        })
    }

    /// The stream of events, for callers without a loop. Can be taken once.
    ///
    /// # Errors
    /// Taken before.
    pub fn events(&mut self) -> anyhow::Result<Events> {
        Ok(self.tracer.take_events()?)
    }

    /// Starts the clock of the reports: probes are in place, the target runs.
    pub fn begin(&mut self) {
        self.started = self.tracer.elapsed();
        self.aggregate.begin(self.started);
        self.course.begin(self.started);
        self.control.begin(self.started);
        self.begin_control();
        self.begin_leaks();
        self.weigh(false);
    }

    /// The traced processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.targets.iter().map(|target| &target.process)
    }

    /// Whether an allocator was found in any target.
    #[must_use]
    pub fn has_allocator(&self) -> bool {
        self.targets.iter().any(|target| !target.allocators.is_empty())
    }

    /// How probes are attached, for messages.
    #[must_use]
    pub fn method(&self) -> String {
        self.tracer.method().to_string()
    }

    /// Processes an event. Returns the trace line for it (`--trace`).
    pub fn take_event(&mut self, event: BpfEvent) -> Option<Draft> {
        match event {
            BpfEvent::Stack { slot, hash, target, end, unloaded, pcs } => {
                self.take_stack(slot, hash, target, (end, unloaded), &pcs);
            }
            BpfEvent::Trace { freed, time, pid, tid, address, size, slot, target } => {
                let stack = self.stacks.get_mut(slot);
                let is_first = |shown: &mut bool| !freed && !std::mem::replace(shown, true);
                let frames = stack.and_then(|stack| is_first(&mut stack.shown).then_some(stack.id));
                let stack = self.stacks.get(slot).filter(|stack| stack.target == target);
                let allocation = Allocation {
                    elapsed: self.tracer.since_start(time).saturating_sub(self.started),
                    pid,
                    tid,
                    freed,
                    address,
                    size,
                    id: stack.map_or(0, |stack| stack.hash),
                    stack: frames,
                };
                return Some(Draft::allocation(allocation, &mut self.names));
            }
            BpfEvent::Exec { target, generation, by_thread } => self.take_exec(target, generation, by_thread),
            BpfEvent::Mapping { target, slot, mapped, unmapped, time } => {
                self.take_mapping(target, slot, mapped, unmapped, self.tracer.time_of(time));
            }
            BpfEvent::Miss { target, loader } => {
                self.refresh(target, !loader);
                if loader {
                    self.attach_loaded(target);
                }
            }
            BpfEvent::Thread { target, main, status, time } => {
                self.take_end(target, status, time);
                if let Some(main) = main {
                    self.thread_ended(target, main, time);
                }
            }
            BpfEvent::Victim { target, pid, time } => self.take_victim(target, pid, time),
            BpfEvent::Oracle { .. } | BpfEvent::KernelStack { .. } => {}
            BpfEvent::Fork { target, child, .. } => self.forked(target, child),
        }
        None
    }

    /// Adds a remark to all further reports, in place of those it replaces.
    pub(super) fn remark(&mut self, is_replaced: impl Fn(&Remark) -> bool, remark: Option<Remark>) {
        self.remarks.retain(|known| !is_replaced(known));
        self.remarks.extend(remark);
    }

    /// Reads a target's mappings again; `asked`: a program met code at an unknown address. A failure costs
    /// stacks their outer frames, not the session.
    pub(super) fn refresh(&mut self, index: u32, asked: bool) {
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        if self.options.config.method != WalkMethod::Cfi {
            target.refresh(&self.tracer);
            return;
        }
        match target.refresh_unwinding(&mut self.tracer, &mut self.unwinding, self.progress, asked) {
            Ok(remarks) => {
                for remark in remarks {
                    self.remark(|known| *known == remark, Some(remark.clone()));
                }
            }
            Err(error) => tracing::warn!("stacks of process {} will be short: {error:#}", target.pid()),
        }
    }

    /// Attaches to an allocator that came with a library just loaded.
    pub(super) fn attach_loaded(&mut self, index: u32) {
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        if let Err(error) = target.attach(&mut self.tracer) {
            // Reports say so, and attaching is retried.
            tracing::debug!("process {}: {error:#}", target.pid());
        }
        self.stay_detached();
    }

    /// Detaches what was attached while no probe, or only those on frees, should be in place.
    pub(super) fn stay_detached(&mut self) {
        match self.control.phase {
            Phase::Attached | Phase::Counting(..) => {}
            Phase::Watching(..) => self.tracer.pause(false),
            Phase::Waiting => self.tracer.pause(true),
        }
    }

    fn take_mapping(
        &mut self,
        target: u32,
        slot: u32,
        mapped: (u64, u64),
        unmapped: (u64, u64),
        time: Duration,
    ) {
        // Where no call is in flight: it was left out, its probe is not in place, or the allocator has threads of its own.
        let of_allocator = self.stacks.get(slot).is_some_and(|stack| stack.passage.allocator);
        if !of_allocator
            && !self.control.mappings_dropped
            && self.targets.iter().any(|traced| traced.id() == target)
        {
            let ranges = self.ranges.entry(Target::index(target)).or_default();
            ranges.unmap(unmapped.0, unmapped.1, time);
            ranges.map(mapped.0, mapped.1, slot, time);
        }
    }

    fn take_stack(
        &mut self,
        slot: u32,
        hash: u64,
        target: u32,
        (end, unloaded): (WalkEnd, u64),
        pcs: &[u64],
    ) {
        let index = Target::index(target);
        let Some(traced) = self.targets.iter_mut().find(|traced| traced.index == index) else { return };
        if target >> 8 < traced.generation {
            // The program is gone: its frames are no longer needed.
            return;
        }
        let method = self.options.config.method;
        let (places, whole) = traced.locate(pcs, method, unloaded, end == WalkEnd::NoModule, &self.tracer);
        let incomplete = match (whole, method) {
            (true, _) => Reason::of(end),
            (false, WalkMethod::Cfi) => Some(Reason::InterruptedCode),
            (false, _) => Some(Reason::NoFramePointer),
        };
        let passage = traced.passage(&places);
        let again = unloaded > 0;
        let arrival = Arrival { slot, incomplete, target, hash, passage, again };
        self.stacks.insert(&mut self.names, arrival, &places);
    }

    /// Detaches every probe; the counts stay readable.
    pub fn detach(&mut self) {
        self.tracer.detach();
    }
}
