//! From the counts of a session to one report.

use std::time::Duration;

use anyhow::Context as _;
use memtrace_common::{TIME_SHIFT, WalkMethod};
use rustc_hash::FxHashMap;

use super::{
    draft::Draft,
    followed::{ages, exited},
    resolve::Traced,
    session::Session,
};
use crate::{
    aggregate::{self, Estimate, Growth, Mapped, Ranges, Survivors, Totals},
    analysis,
    model::{
        Age, Amount, Event, Filter, LiveBlock, Losses, MappingRow, Mode, Snapshot, StackMethod, StackRow,
        TargetInfo, TargetKind, units::format_age,
    },
};

/// Block times are this coarse at most.
const TICK: Duration = Duration::from_nanos(1 << TIME_SHIFT);

/// Blocks listed per stack with `--show-allocs`.
const MAX_LISTED: usize = 1000;

impl Session {
    /// Everything one report shows but the names of functions.
    ///
    /// # Errors
    /// The table of live blocks cannot be read (`--older`, `--show-allocs`).
    pub fn snapshot(&mut self, last: bool) -> anyhow::Result<Draft> {
        self.catch_up();
        let now = self.tracer.elapsed();
        let survivors = self.survivors(now)?;
        let totals = self.totals(now);
        let (mut stacks, bytes_per_second) =
            self.aggregate.advance(now, totals, survivors.as_ref(), self.options.freed);
        let outstanding = stacks.iter().fold(Amount::default(), |sum, stack| sum.plus(stack.outstanding));
        let losses = self.losses(&stacks);
        let uncertainty = survivors.as_ref().filter(|_| self.control.sampled()).map(|survivors| {
            let mut all = Estimate::default();
            survivors.values().for_each(|survivors| all.plus(&survivors.estimate));
            // With a window open some may have been drawn that are left out.
            all.uncertainty_at(self.control.sample_bytes().filter(|_| self.control.open_window().is_none()))
        });
        let overhead = self.overhead();
        analysis::rank(&mut stacks, self.options.sort);
        let stacks_found = stacks.len();
        if self.options.top != 0 {
            stacks.truncate(self.options.top);
        }
        let mut listed = self.listed(&stacks, now)?;
        let (mapped, mappings) = self.mappings(now);
        let places =
            stacks.iter().map(|stack| stack.totals.slot).chain(mappings.iter().map(|(slot, _)| *slot));
        let places = places.map(|slot| self.stacks.places(slot)).collect();
        let rows = stacks.iter().map(|stack| self.row(stack, &mut listed)).collect();
        let snapshot = Snapshot {
            time: jiff::Timestamp::now(),
            elapsed: now.saturating_sub(self.started),
            last,
            target: self.info(),
            mode: self.mode(now, &losses),
            outstanding,
            uncertainty,
            bytes_per_second,
            unknown_frees: self.tracer.work().unknown_frees,
            overhead,
            stacks_found,
            stacks: rows,
            mapped,
            mappings: mappings.into_iter().map(|(_, row)| row).collect(),
            kernel: None,
            losses,
            notes: self.remarks(now),
        };
        Ok(Draft::new(Event::Snapshot(Box::new(snapshot)), places))
    }

    fn mode(&self, now: Duration, losses: &Losses) -> Mode {
        let mut attached = self.control.attachment(self.started, now);
        let config = &self.options.config;
        let is_filtered = config.min_size > 0 || config.max_size < u64::MAX;
        if is_filtered || losses.live_map_full > 0 {
            // Which calls were handed on to others is only told by blocks that are tracked.
            attached.windows = None;
        }
        Mode {
            sample_bytes: self.control.sample_bytes(),
            sampling: self.control.is_sampling(),
            exact: !self.control.sampled() && attached.gaps == 0,
            attached,
            stacks: self.method_of_stacks(),
            filter: self.filter(),
        }
    }

    fn filter(&self) -> Filter {
        let config = &self.options.config;
        Filter {
            min_size: Some(config.min_size).filter(|&size| size > 0),
            max_size: Some(config.max_size).filter(|&size| size < u64::MAX),
            older: self.options.older,
        }
    }

    fn method_of_stacks(&self) -> StackMethod {
        match self.options.config.method {
            WalkMethod::Cfi => StackMethod::Cfi,
            _ => StackMethod::FramePointer,
        }
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

    /// Whether a stack's blocks are parts of others, which were drawn for themselves.
    fn is_nested(&self, slot: u32) -> bool {
        self.control.skips() && self.stacks.get(slot).is_some_and(|stack| stack.passage.nested)
    }

    /// How old a target's block must be to be shown: as old as was asked for (`--older`), and in a window that is open so
    /// old that it would have been freed by now if it was freed soon.
    fn least_age(&self, target: &Traced, now: Duration) -> Duration {
        let open = self.control.open_window().filter(|_| !target.process.has_exited());
        let open = open.map(|(begin, watch)| watch.min(now.saturating_sub(begin) + TICK));
        self.options.older.into_iter().chain(open).max().unwrap_or_default()
    }

    /// Remarks for the reader.
    fn remarks(&mut self, now: Duration) -> Vec<String> {
        let mut remarks: Vec<String> = self.notes.iter().chain(&self.control.remark).cloned().collect();
        remarks.extend(self.targets.iter().filter_map(Traced::unseen));
        remarks.extend(ages(now));
        for target in &self.targets {
            remarks.extend(target.untraced.remarks(target.pid().get(), self.started));
        }
        if self.ranges.values().any(Ranges::is_joined) {
            remarks.push(
                "a process has mapped so many ranges that neighbours were joined: some may be younger than is said"
                    .to_owned(),
            );
        }
        let gone: Vec<_> = self
            .processes()
            .filter(|process| process.has_exited())
            .map(|process| process.pid.get())
            .collect();
        if gone.len() < self.targets.len() {
            remarks.extend(exited(&gone));
        }
        let open = self.control.open_window();
        if let Some((_, watch)) = open {
            let watch = format_age(watch);
            remarks.push(format!(
                "a window is open: what was allocated in it less than {watch} ago is left out"
            ));
        } else if self.control.in_windows() && self.control.reported_gaps == Some(self.control.gaps) {
            remarks.push("no window ran since the report before this one".to_owned());
        }
        self.control.reported_gaps = Some(self.control.gaps).filter(|_| open.is_none());
        remarks
    }

    /// What is left of each stack's blocks after `--older`; where they were sampled, with what they stand for.
    fn survivors(&self, now: Duration) -> anyhow::Result<Option<FxHashMap<u32, Survivors>>> {
        let looks_at_blocks = self.options.older.is_some()
            || self.options.show_allocs
            || self.control.sampled()
            || self.control.open_window().is_some();
        if !looks_at_blocks {
            return Ok(None);
        }
        let mut survivors: FxHashMap<u32, Survivors> = FxHashMap::default();
        for target in &self.targets {
            let older = self.least_age(target, now);
            self.tracer
                .for_each_live(target.id(), |block| {
                    let age = now.saturating_sub(block.time);
                    if age >= older && !self.is_nested(block.slot) {
                        let stack = survivors.entry(self.stacks.reported_as(block.slot)).or_default();
                        stack.estimate.add(block.sample);
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
        for target in &self.targets {
            let older = self.least_age(target, now);
            self.tracer
                .for_each_live(target.id(), |block| {
                    let age = now.saturating_sub(block.time);
                    if let Some(blocks) =
                        listed.get_mut(&self.stacks.reported_as(block.slot)).filter(|_| age >= older)
                    {
                        let size = block.sample.size();
                        blocks.push(LiveBlock { address: block.address, size, age });
                        if blocks.len() >= 2 * MAX_LISTED {
                            oldest_first(blocks);
                        }
                    }
                })
                .context("cannot read the table of live blocks")?;
        }
        for blocks in listed.values_mut() {
            oldest_first(blocks);
        }
        Ok(listed)
    }

    fn row(&self, stack: &Growth, listed: &mut FxHashMap<u32, Vec<LiveBlock>>) -> StackRow {
        let slot = stack.totals.slot;
        StackRow {
            id: stack.totals.id,
            pid: self.pid_of(stack),
            outstanding: stack.outstanding,
            uncertainty: stack.uncertainty.filter(|_| self.control.sampled()),
            allocated: stack.totals.allocated,
            freed: stack.totals.freed,
            bytes_per_second: stack.bytes_per_second,
            oldest: Some(stack.totals.oldest),
            incomplete: self.stacks.get(slot).and_then(|stack| stack.incomplete),
            frames: Vec::new(),
            blocks: listed.remove(&slot).unwrap_or_default(),
            kernel: None,
        }
    }

    /// What the targets mapped themselves, and by which stacks, with their slots.
    fn mappings(&self, now: Duration) -> (Option<Amount>, Vec<(u32, MappingRow)>) {
        if self.control.gaps > 0 {
            return (None, Vec::new());
        }
        let mut stacks: Vec<(u32, u32, Mapped)> = self
            .targets
            .iter()
            .filter_map(|target| Some((target.pid().get(), self.ranges.get(&target.index)?.by_stack())))
            .flat_map(|(pid, stacks)| stacks.into_iter().map(move |(slot, mapped)| (pid, slot, mapped)))
            .collect();
        stacks.sort_by_key(|(_, slot, mapped)| (std::cmp::Reverse(mapped.amount.bytes), *slot));
        let all = stacks.iter().fold(Amount::default(), |sum, (_, _, mapped)| sum.plus(mapped.amount));
        if self.options.top != 0 {
            stacks.truncate(self.options.top);
        }
        let rows = stacks
            .into_iter()
            .map(|(pid, slot, mapped)| {
                let id = self.stacks.get(slot).map_or(0, |stack| stack.hash);
                let oldest = now.saturating_sub(mapped.since);
                (slot, MappingRow { id, pid, mapped: mapped.amount, oldest, frames: Vec::new() })
            })
            .collect();
        (Some(all), rows)
    }

    fn pid_of(&self, stack: &Growth) -> u32 {
        let owner = self.targets.iter().find(|target| target.id() == stack.totals.target);
        owner.filter(|_| stack.totals.id != 0).map_or(0, |target| target.pid().get())
    }

    fn losses(&self, stacks: &[Growth]) -> Losses {
        let mut reasons: FxHashMap<&'static str, u64> = FxHashMap::default();
        for stack in stacks {
            if let Some(reason) = self.stacks.get(stack.totals.slot).and_then(|stack| stack.incomplete) {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let mut stacks_incomplete: Vec<_> = reasons.into_iter().collect();
        stacks_incomplete.sort_unstable();
        let ended = self.targets.iter().all(|target| target.process.has_exited());
        let mappings = self.ranges.values().fold(Amount::default(), |sum, of| sum.plus(of.left_out()));
        Losses {
            stacks_incomplete,
            mappings_full: mappings.blocks,
            mappings_full_bytes: mappings.bytes,
            ..self.tracer.losses(ended)
        }
    }
}

/// Sorts blocks by age and keeps the oldest that are listed.
fn oldest_first(blocks: &mut Vec<LiveBlock>) {
    blocks.sort_by_key(|block| (std::cmp::Reverse(block.age), block.address));
    blocks.truncate(MAX_LISTED);
}
