//! From the model to the schema.

use super::{
    Alloc, Amount, Frame, Losses, MappingStack, Mappings, ModeInfo, Overhead, Report, SCHEMA, Stack, Target,
    TraceLine, Uncertainty,
};
use crate::model::{self, Filter, Mode, StackMethod, TargetInfo, TargetKind};

impl<'a> Report<'a> {
    pub(super) fn new(snapshot: &'a model::Snapshot) -> Self {
        Self {
            schema: SCHEMA,
            time: snapshot.time,
            elapsed_s: snapshot.elapsed,
            last: snapshot.last,
            target: Target::from(&snapshot.target),
            mode: ModeInfo::from(&snapshot.mode),
            outstanding: Amount { bytes: snapshot.outstanding.bytes, blocks: snapshot.outstanding.blocks },
            uncertainty: snapshot.uncertainty.map(Uncertainty::from),
            bytes_per_second: snapshot.bytes_per_second,
            unknown_frees: snapshot.unknown_frees,
            overhead: snapshot.overhead.as_ref().map(Overhead::from),
            stacks_found: snapshot.stacks_found,
            stacks: snapshot.stacks.iter().map(Stack::from).collect(),
            mappings: snapshot.mapped.map(|mapped| Mappings {
                bytes: mapped.bytes,
                ranges: mapped.blocks,
                stacks: snapshot.mappings.iter().map(MappingStack::from).collect(),
            }),
            kernel: snapshot.kernel.as_ref().map(super::kernel::Kernel::from),
            losses: Losses::from(&snapshot.losses),
            notes: &snapshot.notes,
        }
    }
}

impl<'a> From<&'a TargetInfo> for Target<'a> {
    fn from(target: &'a TargetInfo) -> Self {
        let kind = match target.kind {
            TargetKind::Process => "process",
            TargetKind::Kernel => "kernel",
        };
        Self { kind, pids: &target.pids, comm: &target.comm, allocators: &target.allocators }
    }
}

impl From<&Mode> for ModeInfo {
    fn from(mode: &Mode) -> Self {
        let stacks = match mode.stacks {
            StackMethod::Cfi => "cfi",
            StackMethod::FramePointer => "fp",
            StackMethod::Kernel => "kernel",
        };
        let Filter { min_size, max_size, older } = mode.filter;
        Self {
            exact: mode.exact,
            sample_bytes: mode.sample_bytes,
            sampling: mode.sampling,
            attached_share: mode.attached.share,
            gaps: mode.attached.gaps,
            window_allocated_blocks: mode.attached.windows.map(|(allocated, _)| allocated),
            window_freed_blocks: mode.attached.windows.map(|(_, freed)| freed),
            window_open: mode.attached.open,
            stacks,
            min_size,
            max_size,
            older_s: older,
        }
    }
}

impl From<model::Uncertainty> for Uncertainty {
    fn from(doubt: model::Uncertainty) -> Self {
        Self { bytes: doubt.bytes, blocks: doubt.blocks, samples: doubt.samples }
    }
}

impl From<&model::Overhead> for Overhead {
    fn from(overhead: &model::Overhead) -> Self {
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

impl<'a> From<&'a model::MappingRow> for MappingStack<'a> {
    fn from(row: &'a model::MappingRow) -> Self {
        Self {
            id: row.id,
            pid: row.pid,
            bytes: row.mapped.bytes,
            ranges: row.mapped.blocks,
            oldest_s: row.oldest,
            frames: row.frames.iter().map(Frame::from).collect(),
        }
    }
}

impl<'a> From<&'a model::StackRow> for Stack<'a> {
    fn from(row: &'a model::StackRow) -> Self {
        Self {
            id: row.id,
            pid: row.pid,
            bytes: row.outstanding.bytes,
            blocks: row.outstanding.blocks,
            uncertainty: row.uncertainty.map(Uncertainty::from),
            allocated_bytes: row.allocated.bytes,
            allocated_blocks: row.allocated.blocks,
            freed_bytes: row.freed.bytes,
            freed_blocks: row.freed.blocks,
            bytes_per_second: row.bytes_per_second,
            oldest_s: row.oldest.map(|oldest| oldest.age),
            oldest_exact: row.oldest.map(|oldest| oldest.exact),
            complete: row.incomplete.is_none() && !row.frames.is_empty(),
            incomplete: row.incomplete,
            frames: row.frames.iter().map(Frame::from).collect(),
            allocs: row.blocks.iter().map(Alloc::from).collect(),
            kernel: row.kernel.as_ref().map(super::kernel::KernelStack::from),
        }
    }
}

impl<'a> From<&'a model::Frame> for Frame<'a> {
    fn from(frame: &'a model::Frame) -> Self {
        Self {
            function: frame.function.as_deref(),
            function_offset: frame.function.is_some().then_some(frame.function_offset),
            module: &frame.module,
            offset: frame.module_offset,
            file: frame.file.as_deref(),
            line: frame.line,
            inlined: frame.inlined,
        }
    }
}

impl From<&model::LiveBlock> for Alloc {
    fn from(block: &model::LiveBlock) -> Self {
        Self { addr: block.address, size: block.size, age_s: block.age }
    }
}

impl<'a> From<&'a model::Losses> for Losses<'a> {
    fn from(losses: &'a model::Losses) -> Self {
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
            stacks_incomplete: losses.stacks_incomplete.iter().copied().collect(),
        }
    }
}

impl<'a> From<&'a model::AllocationEvent> for TraceLine<'a> {
    fn from(event: &'a model::AllocationEvent) -> Self {
        Self {
            schema: SCHEMA,
            event: if event.freed { "free" } else { "alloc" },
            elapsed_s: event.elapsed,
            pid: event.pid,
            tid: event.tid,
            addr: event.address,
            size: event.size,
            stack: event.stack,
            frames: event.frames.iter().map(Frame::from).collect(),
        }
    }
}
