//! From a profile to the schema.

use super::{
    Alloc, Amount, Frame, Losses, MappingStack, Mappings, ModeInfo, Overhead, Report, SCHEMA, Stack, Target,
    TraceLine, Uncertainty, balance, curve, kernel, leaks, marks, verdict,
};
use crate::profile::{self, Allocation, Dictionary, Filter, MappingUse, Profile, StackMethod, Subject, View};
use crate::report::blame::culprit;
use crate::report::remarks;

impl<'a> Report<'a> {
    pub(super) fn new(view: &View<'a>) -> Self {
        let (profile, dictionary) = (view.profile(), view.dictionary());
        let processes = profile.processes();
        let balances = processes.map_or(&[][..], |of| of.balances.as_slice());
        Self {
            schema: SCHEMA,
            time: profile.time,
            elapsed_s: profile.elapsed,
            last: profile.last,
            target: Target::from(profile),
            mode: ModeInfo::new(profile),
            outstanding: Amount::from(profile.outstanding),
            uncertainty: processes.and_then(|of| of.uncertainty).map(Uncertainty::from),
            bytes_per_second: profile.bytes_per_second,
            unknown_frees: profile.unknown_frees,
            overhead: processes.and_then(|of| of.overhead.as_ref()).map(Overhead::from),
            stacks_found: view.rows_found(),
            stacks: view.rows().map(|row| Stack::new(view, row)).collect(),
            mappings: Mappings::new(view),
            leak_check: processes.and_then(|of| of.leak_check.as_deref()).map(leaks::LeakCheck::from),
            process: balances.first().map(|of| balance::Process::new(view, of)),
            processes: balances.iter().map(|of| balance::Process::new(view, of)).collect(),
            kernel: profile.kernel().map(|kernel| kernel::Kernel::new(view, kernel)),
            marks: profile.marks.last.iter().map(marks::Mark::from).collect(),
            span: profile.marks.span().map(|span| marks::Span::new(&span, profile)),
            losses: Losses::from(&profile.losses),
            notes: profile.remarks.iter().map(|remark| remarks::sentence(dictionary, remark)).collect(),
            remarks: profile.remarks.iter().map(|remark| remarks::object(dictionary, remark)).collect(),
        }
    }
}

impl From<profile::Amount> for Amount {
    fn from(amount: profile::Amount) -> Self {
        Self { bytes: amount.bytes, blocks: amount.blocks }
    }
}

impl<'a> Mappings<'a> {
    /// The kernel has no mappings of its own, which schema 1 shows as none.
    fn new(view: &View<'a>) -> Option<Self> {
        let all = match &view.profile().subject {
            Subject::Processes(processes) => processes.mapped.as_deref()?,
            Subject::Kernel(_) => &[],
            Subject::Heaps(_) => return None,
        };
        let sum = all.iter().fold(profile::Amount::default(), |sum, row| sum.plus(row.mapped));
        let dictionary = view.dictionary();
        let stacks = view.mappings().unwrap_or_default();
        Some(Self {
            bytes: sum.bytes,
            ranges: sum.blocks,
            stacks: stacks.into_iter().map(|row| MappingStack::new(dictionary, row)).collect(),
        })
    }
}

impl<'a> From<&'a Profile> for Target<'a> {
    fn from(profile: &'a Profile) -> Self {
        if let Some(of) = profile.kernel() {
            return Self {
                kind: "kernel",
                pids: of.pids.clone(),
                comm: "kernel",
                allocators: &[],
                untraced: &[],
            };
        }
        let of = profile.processes();
        Self {
            kind: "process",
            pids: profile.targets().map(|process| process.pid).collect(),
            comm: profile.targets().next().map_or("", |process| process.comm.as_str()),
            allocators: of.map_or(&[], |of| &of.allocators),
            untraced: of.map_or(&[], |of| &of.untraced),
        }
    }
}

impl ModeInfo {
    fn new(profile: &Profile) -> Self {
        let Filter { min_size, max_size, older } = profile.filter;
        // Kernel mode counts every allocation, all the time.
        let all = Self {
            exact: true,
            sample_bytes: None,
            sampling: false,
            attached_share: 1.0,
            gaps: 0,
            window_allocated_blocks: None,
            window_freed_blocks: None,
            window_open: false,
            stacks: "kernel",
            min_size,
            max_size,
            older_s: older,
        };
        let Some(mode) = profile.processes().map(|of| &of.mode) else { return all };
        Self {
            exact: mode.exact,
            sample_bytes: mode.sample_bytes,
            sampling: mode.sampling,
            attached_share: mode.attached.share,
            gaps: mode.attached.gaps,
            window_allocated_blocks: mode.attached.windows.map(|(allocated, _)| allocated),
            window_freed_blocks: mode.attached.windows.map(|(_, freed)| freed),
            window_open: mode.attached.open,
            stacks: match mode.stacks {
                StackMethod::Cfi => "cfi",
                StackMethod::FramePointer => "fp",
            },
            ..all
        }
    }
}

impl From<profile::Uncertainty> for Uncertainty {
    fn from(doubt: profile::Uncertainty) -> Self {
        Self { bytes: doubt.bytes, blocks: doubt.blocks, samples: doubt.samples }
    }
}

impl From<&profile::Overhead> for Overhead {
    fn from(overhead: &profile::Overhead) -> Self {
        Self {
            share: overhead.share(),
            processors: overhead.processors(),
            limit: overhead.limit,
            limit_processors: overhead.least,
            spent_s: overhead.spent,
            cpu_s: overhead.cpu,
            calls: overhead.calls,
        }
    }
}

impl<'a> MappingStack<'a> {
    fn new(dictionary: &'a Dictionary, row: &profile::MappingRow) -> Self {
        Self {
            id: row.id,
            pid: row.pid,
            bytes: row.mapped.bytes,
            ranges: row.mapped.blocks,
            oldest_s: row.oldest,
            resident_bytes: row.resident,
            kind: match row.used_for {
                MappingUse::Program => "mapping",
                MappingUse::ThreadStacks { .. } => "thread_stacks",
            },
            ended_threads: match row.used_for {
                MappingUse::Program => None,
                MappingUse::ThreadStacks { ended, .. } => Some(ended),
            },
            verdict: row.verdict.as_deref().map(verdict::Verdict::of_mappings),
            frames: frames(dictionary, row.stack),
        }
    }
}

impl<'a> Stack<'a> {
    fn new(view: &View<'a>, row: &'a profile::Row) -> Self {
        let dictionary = view.dictionary();
        let frames = dictionary.frames_of(row.stack);
        let curves = view.profile().processes().map(|of| of.curves.as_ref());
        let merged = row.merged.as_deref();
        let culprit = if row.kernel().is_none() { culprit(&frames) } else { None };
        Self {
            id: row.id,
            pid: row.pid(),
            processes: merged.map(|merged| merged.pids.len()),
            pids: merged.map(|merged| merged.pids.as_slice()),
            processes_with_verdict: merged.map(|merged| merged.alike.len()),
            bytes: row.outstanding.bytes,
            blocks: row.outstanding.blocks,
            uncertainty: row.uncertainty().map(Uncertainty::from),
            allocated_bytes: row.allocated.bytes,
            allocated_blocks: row.allocated.blocks,
            freed_bytes: row.freed.bytes,
            freed_blocks: row.freed.blocks,
            bytes_per_second: row.bytes_per_second,
            oldest_s: Some(row.oldest.age),
            oldest_exact: Some(row.oldest.exact),
            complete: row.incomplete.is_none() && !frames.is_empty(),
            incomplete: row.incomplete.map(profile::Reason::key),
            culprit,
            frames: frames.into_iter().map(Frame::from).collect(),
            allocs: row.blocks.iter().map(Alloc::from).collect(),
            leaked: row.leaked.as_ref().map(leaks::Leaked::from),
            held_by: row.held_by.iter().map(leaks::Holder::from).collect(),
            verdict: row.verdict.as_deref().map(verdict::Verdict::from),
            curve: curves.and_then(|curves| curve::Curve::of(curves, row)),
            kernel: row.kernel().map(|detail| kernel::KernelStack::new(dictionary, detail)),
        }
    }
}

fn frames(dictionary: &Dictionary, stack: Option<profile::StackId>) -> Vec<Frame<'_>> {
    dictionary.frames_of(stack).into_iter().map(Frame::from).collect()
}

impl<'a> From<profile::Frame<'a>> for Frame<'a> {
    fn from(frame: profile::Frame<'a>) -> Self {
        Self {
            function: frame.function,
            function_offset: frame.function.is_some().then_some(frame.function_offset),
            module: frame.module,
            offset: frame.module_offset,
            file: frame.file,
            line: frame.line,
            inlined: frame.inlined,
        }
    }
}

impl From<&profile::LiveBlock> for Alloc {
    fn from(block: &profile::LiveBlock) -> Self {
        Self { addr: block.address, size: block.size, age_s: block.age }
    }
}

impl From<&profile::Losses> for Losses {
    fn from(losses: &profile::Losses) -> Self {
        Self {
            live_map_full: losses.live_map_full,
            live_map_full_bytes: losses.live_map_full_bytes,
            in_flight_lost: losses.in_flight_lost,
            ring_full: losses.ring_full,
            no_walk_slot: losses.no_walk_slot,
            no_thread_slot: losses.no_thread_slot,
            stack_table_full: losses.stack_table_full,
            missed_frees: losses.missed_frees,
            kernel_missed: losses.kernel_missed,
            mappings_full: losses.mappings_full,
            mappings_full_bytes: losses.mappings_full_bytes,
            names_given_up: losses.names_given_up,
            children_not_traced: losses.children_not_traced,
            stacks_incomplete: losses
                .stacks_incomplete
                .iter()
                .map(|(reason, n)| (reason.key(), *n))
                .collect(),
        }
    }
}

impl<'a> TraceLine<'a> {
    pub(super) fn new(dictionary: &'a Dictionary, event: &Allocation) -> Self {
        Self {
            schema: SCHEMA,
            event: if event.freed { "free" } else { "alloc" },
            elapsed_s: event.elapsed,
            pid: event.pid,
            tid: event.tid,
            addr: event.address,
            size: event.size,
            stack: event.id,
            frames: frames(dictionary, event.stack),
        }
    }
}
