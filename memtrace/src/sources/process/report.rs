//! From the counts of a session to the profile of one report.

use std::time::Duration;

use anyhow::Context as _;
use memtrace_common::{TIME_SHIFT, WalkMethod};
use rustc_hash::FxHashMap;

use super::{session::Session, traced::Traced, verdicts::Circumstances};
use crate::{
    aggregate::{self, Estimate, Growth, Ranges, Survivors, Totals},
    analysis::doubt,
    bpf::MAX_AGE,
    profile::{
        Age, Amount, Balance, Detail, Filter, Leaked, LiveBlock, Losses, Mode, Process, Processes, Profile,
        Reason, Remark, Row, Selection, StackMethod, Standing, Subject, Uncertainty, Verdict,
    },
    session::Wanted,
    sources::listed::Listed,
    target::runtimes,
};

/// Block times are this coarse at most.
const TICK: Duration = Duration::from_nanos(1 << TIME_SHIFT);

impl Session {
    /// Everything that one report knows, without names of functions. Blocks are listed (`--show-allocs`) for the rows
    /// selected.
    ///
    /// # Errors
    /// The table of live blocks cannot be read (`--older`, `--show-allocs`).
    pub(super) fn profile(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Profile> {
        if let Some(begin) = self.marked.limit_to(wanted.since) {
            self.aggregate.begin(self.started + begin);
            self.forget_blocks();
        }
        self.catch_up();
        let now = self.tracer.elapsed();
        let totals = self.totals(now);
        self.record(now, &totals);
        let blocks = if wanted.often {
            self.look_often(now, &totals)?
        } else {
            self.look_at_blocks(now, &totals)?.into()
        };
        let survivors = blocks.survivors.as_ref();
        // What a process does is told by all of its stacks, not only by those with blocks between marks.
        let all = self.options.freed || self.marked.is_limited();
        let (mut stacks, bytes_per_second) = self.aggregate.advance(now, totals, survivors, all);
        let outstanding = stacks.iter().fold(Amount::default(), |sum, stack| sum.plus(stack.outstanding));
        let losses = self.losses(&stacks);
        let uncounted = self.uncounted(&losses);
        let mut rows = self.rows(&stacks, self.circumstances(now, &blocks, uncounted).as_ref());
        let curves = wanted.curves || last;
        let balances = self.balances(&rows, uncounted, last, curves);
        for row in &mut rows {
            let pid = row.pid();
            if let (Some(verdict), Some(balance)) =
                (&mut row.verdict, balances.iter().find(|balance| balance.pid == pid))
            {
                verdict.grounds = doubt(verdict.grounds, balance);
            }
        }
        if !self.options.freed {
            stacks.retain(|stack| stack.outstanding.blocks > 0);
            rows.retain(|row| row.outstanding.blocks > 0);
        }
        self.settle_ends(last);
        let mut remarks = self.report_remarks(now, &balances, &losses);
        remarks.extend(self.black_box.sign(last));
        let subject = Subject::Processes(Processes {
            processes: self.processes().map(process).collect(),
            allocators: self.allocators(),
            untraced: self.targets.iter().flat_map(Traced::left_out).map(str::to_owned).collect(),
            mode: self.mode(now, &losses),
            uncertainty: survivors.and_then(|survivors| self.uncertainty(survivors)),
            overhead: self.overhead(),
            mapped: self.mappings(now, &balances),
            leak_check: self.leaks.check().map(Box::new),
            balances,
            curves: Box::default(),
        });
        let config = &self.options.config;
        let mut profile = Profile {
            time: jiff::Timestamp::now(),
            elapsed: now.saturating_sub(self.started),
            last,
            subject,
            filter: Filter::new(config.min_size, config.max_size, self.options.older),
            outstanding,
            bytes_per_second,
            unknown_frees: self.tracer.work().unknown_frees,
            rows,
            losses,
            remarks,
            marks: self.marked.marks(self.control.seen(now), wanted.often.then(|| self.looked(&blocks))),
        };
        if curves {
            self.add_curves(&mut profile, &stacks, wanted.selection);
        }
        if self.options.show_allocs {
            self.list(&mut profile, &stacks, wanted.selection, now)?;
        }
        Ok(profile)
    }

    fn uncertainty(&self, survivors: &FxHashMap<u32, Survivors>) -> Option<Uncertainty> {
        let mut all = Estimate::default();
        survivors.values().for_each(|survivors| all.plus(&survivors.estimate));
        // With a window open, some samples may be left out.
        let sample_bytes = self.control.sample_bytes().filter(|_| self.control.open_window().is_none());
        self.control.sampled().then(|| all.uncertainty_at(sample_bytes))
    }

    fn mode(&self, now: Duration, losses: &Losses) -> Mode {
        let mut attached = self.control.attachment(self.started, now);
        if self.uncounted(losses).is_some() {
            // Only tracked blocks show which calls delegated to others.
            attached.windows = None;
        }
        // Of those that joined, some have not loaded their libraries yet.
        let is_unknown = |target: &Traced| target.allocators.is_empty() && target.specs.is_empty();
        let is_traced = |target: &Traced| {
            target.left_out().next().is_none()
                && !target.untraced.is_any()
                && (target.origin.followed || !is_unknown(target))
        };
        Mode {
            sample_bytes: self.control.sample_bytes(),
            sampling: self.control.is_sampling(),
            exact: !self.control.sampled() && attached.gaps == 0 && self.targets.iter().all(is_traced),
            attached,
            stacks: self.method_of_stacks(),
        }
    }

    /// Whether every block of a command, which has that index, is known, all of which are glibc's.
    pub(super) fn knows_all_blocks(&self, index: u32) -> bool {
        let losses = self.tracer.losses(true);
        let is_glibc = |target: &Traced| matches!(target.allocators.as_slice(), [name] if name == "glibc");
        let unseen =
            [losses.live_map_full, losses.in_flight_lost, losses.kernel_missed, losses.no_thread_slot];
        let untraceable = [losses.ring_full, losses.no_walk_slot, losses.stack_table_full];
        !self.options.config.has_sizes()
            && unseen.iter().chain(&untraceable).all(|&blocks| blocks == 0)
            && self.mode(self.tracer.elapsed(), &losses).exact
            && self.targets.iter().filter(|target| target.index == index).all(is_glibc)
    }

    fn method_of_stacks(&self) -> StackMethod {
        match self.options.config.method {
            WalkMethod::Cfi => StackMethod::Cfi,
            _ => StackMethod::FramePointer,
        }
    }

    fn allocators(&self) -> Vec<String> {
        let mut allocators: Vec<String> =
            self.targets.iter().flat_map(|target| target.allocators.iter().cloned()).collect();
        allocators.sort();
        allocators.dedup();
        allocators
    }

    /// Totals of the stacks of every target's current program.
    pub(super) fn totals(&self, now: Duration) -> Vec<Totals> {
        let current: Vec<u32> = self.targets.iter().map(Traced::id).collect();
        let stacks = self
            .tracer
            .stacks()
            .filter(|stack| stack.hash == 0 || current.contains(&stack.target))
            .filter(|stack| !self.is_nested(stack.slot))
            .map(|stack| {
                let slot = self.stacks.reported_as(stack.slot);
                let id = if slot == stack.slot {
                    stack.hash
                } else {
                    self.stacks.get(slot).map_or(0, |first| first.hash)
                };
                let oldest = Age { age: now.saturating_sub(stack.since), exact: stack.since_exact };
                let (allocated, freed) = (stack.allocated, stack.freed);
                Totals { slot, id, target: stack.target, allocated, freed, oldest }
            });
        aggregate::join(stacks)
    }

    /// Whether a stack's blocks are parts of others, which were sampled separately.
    pub(super) fn is_nested(&self, slot: u32) -> bool {
        self.control.skips() && self.stacks.get(slot).is_some_and(|stack| stack.passage.nested)
    }

    /// How old a target's block must be to be shown: at least `--older`, and watched for long enough.
    pub(super) fn least_age(&self, target: &Traced, now: Duration) -> Duration {
        self.options.older.unwrap_or_default().max(self.least_watched(target, now))
    }

    /// Whether the time of a block is in the span that is shown.
    pub(super) fn is_in_span(&self, time: Duration) -> bool {
        self.marked.shows(time.saturating_sub(self.started))
    }

    /// In an open window, how old a block must be, so that one that is freed soon would be gone.
    pub(super) fn least_watched(&self, target: &Traced, now: Duration) -> Duration {
        let open = self.control.open_window().filter(|_| !target.process.has_exited());
        open.map_or(Duration::ZERO, |(begin, watch)| watch.min(now.saturating_sub(begin) + TICK))
    }

    /// The remarks of this report.
    fn report_remarks(&mut self, now: Duration, balances: &[Balance], losses: &Losses) -> Vec<Remark> {
        let mut remarks: Vec<Remark> = self.remarks.iter().chain(&self.control.remark).cloned().collect();
        for target in &self.targets {
            let functions: Vec<String> = target.left_out().map(str::to_owned).collect();
            if !functions.is_empty() {
                remarks.push(Remark::FunctionsUntraced { pid: target.pid().get(), functions });
            }
        }
        for target in self.targets.iter().filter(|target| !target.process.has_exited()) {
            let pid = target.pid().get();
            remarks.extend(target.not_found());
            if balances.iter().any(|balance| balance.pid == pid && balance.standing == Standing::Unseen) {
                remarks.extend(target.untraced_allocators());
            }
            let found = runtimes::hidden(pid, &target.modules).into_iter();
            remarks.extend(found.map(|runtime| Remark::HeapOfRuntime { pid, runtime }));
        }
        remarks.extend(self.remarks_on_followed(losses.children_not_traced));
        remarks.extend(ages(now));
        remarks.extend(self.leaks.remarks());
        for target in &self.targets {
            remarks.extend(target.untraced.remarks(target.pid().get(), self.started));
        }
        if self.ranges.values().any(Ranges::is_joined) {
            remarks.push(Remark::RangesJoined);
        }
        let pids: Vec<_> = self
            .processes()
            .filter(|process| process.has_exited())
            .map(|process| process.pid.get())
            .collect();
        if !pids.is_empty() && pids.len() < self.targets.len() {
            remarks.push(Remark::Exited { pids });
        }
        let open = self.control.open_window();
        if let Some((_, watch)) = open {
            remarks.push(Remark::WindowOpen { watch });
        } else if self.control.in_windows() && self.control.reported_gaps == Some(self.control.gaps) {
            remarks.push(Remark::NoWindow);
        }
        self.control.reported_gaps = Some(self.control.gaps).filter(|_| open.is_none());
        remarks
    }

    /// Lists the blocks of the selected rows (`--show-allocs`). `stacks` are those of the profile's rows.
    fn list(
        &self,
        profile: &mut Profile,
        stacks: &[Growth],
        selection: &Selection,
        now: Duration,
    ) -> anyhow::Result<()> {
        let shown = selection.shown(self.names.dictionary(), profile);
        let slots = shown.iter().filter_map(|place| Some((stacks.get(*place)?.totals.slot, *place)));
        let mut listed = Listed::new(slots);
        for target in &self.targets {
            let older = self.least_age(target, now);
            self.tracer
                .live()
                .for_each(target.id(), |block| {
                    let age = now.saturating_sub(block.time);
                    if age >= older && self.is_in_span(block.time) {
                        let block_of =
                            || LiveBlock { address: block.address, size: block.sample.size(), age };
                        listed.add(self.stacks.reported_as(block.slot), block_of);
                    }
                })
                .context("cannot read the table of live blocks")?;
        }
        listed.put(profile);
        Ok(())
    }

    fn rows(&self, stacks: &[Growth], circumstances: Option<&Circumstances<'_>>) -> Vec<Row> {
        let mut leaked: FxHashMap<u32, Leaked> = FxHashMap::default();
        for (slot, found) in self.leaks.stacks() {
            let sum = leaked.entry(self.stacks.reported_as(slot)).or_default();
            *sum = sum.plus(found);
        }
        let row = |stack: &Growth| {
            let leaked = leaked.get(&stack.totals.slot);
            // When the lost blocks were allocated is unknown: with marks, the figures of the check stay as they are.
            let is_limited = self.marked.is_limited();
            let leaked =
                leaked.map(|found| if is_limited { *found } else { found.within(stack.outstanding) });
            let verdict =
                circumstances.map(|circumstances| Box::new(self.verdict(stack, leaked, circumstances)));
            self.row(stack, leaked, verdict)
        };
        stacks.iter().map(row).collect()
    }

    fn row(&self, stack: &Growth, leaked: Option<Leaked>, verdict: Option<Box<Verdict>>) -> Row {
        let arrived = self.stacks.get(stack.totals.slot);
        Row {
            id: stack.totals.id,
            stack: arrived.map(|arrived| arrived.id),
            outstanding: stack.outstanding,
            allocated: stack.totals.allocated,
            freed: stack.totals.freed,
            bytes_per_second: stack.bytes_per_second,
            oldest: stack.totals.oldest,
            incomplete: arrived.and_then(|arrived| arrived.incomplete),
            leaked,
            held_by: self.leaks.holders(stack.totals.slot).to_vec(),
            blocks: Vec::new(),
            detail: Detail::Process {
                pid: self.pid_of(stack),
                uncertainty: stack.uncertainty.filter(|_| self.control.sampled()),
            },
            verdict,
            merged: None,
        }
    }

    fn pid_of(&self, stack: &Growth) -> u32 {
        let owner = self.targets.iter().find(|target| target.id() == stack.totals.target);
        owner.filter(|_| stack.totals.id != 0).map_or(0, |target| target.pid().get())
    }

    fn losses(&self, stacks: &[Growth]) -> Losses {
        let mut reasons: FxHashMap<Reason, u64> = FxHashMap::default();
        for stack in stacks {
            if let Some(reason) = self.stacks.get(stack.totals.slot).and_then(|stack| stack.incomplete) {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let mut stacks_incomplete: Vec<_> = reasons.into_iter().collect();
        stacks_incomplete.sort_unstable();
        let ended = self.targets.iter().all(|target| target.process.has_exited());
        let mappings = self.ranges.values().fold(Amount::default(), |sum, of| sum.plus(of.left_out()));
        let losses = self.tracer.losses(ended);
        Losses {
            stacks_incomplete,
            mappings_full: mappings.blocks,
            mappings_full_bytes: mappings.bytes,
            children_not_traced: self.following.missed(losses.children_not_traced),
            ..losses
        }
    }
}

fn process(process: &crate::target::Process) -> Process {
    Process { pid: process.pid.get(), comm: process.comm.clone() }
}

/// The remark on ages, once tracing has run for longer than they can express.
pub(in crate::sources) fn ages(elapsed: Duration) -> Option<Remark> {
    (elapsed > MAX_AGE).then_some(Remark::AgesLimited { days: MAX_AGE.as_secs() / 86_400 })
}
