//! What the figures do not include, and what may be wrong with them.

use memtrace_common::WalkEnd;
use serde::{Deserialize, Serialize};

/// Why a stack ends before the program's entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The maximum depth of a walk.
    TooDeep,
    /// Code without a frame pointer, in a walk by frame pointers.
    NoFramePointer,
    /// Stack memory that cannot be read.
    StackUnreadable,
    /// All walk slots of the CPU were in use.
    NoWalkSlot,
    /// Code in no known module.
    NoModule,
    /// Code that no unwind information describes.
    NoUnwindInfo,
    /// A rule of unwind information that is not supported.
    UnsupportedUnwindRule,
    /// An impossible frame.
    BadFrame,
    /// A return address that a probe replaced and that was not found.
    NoReturnAddress,
    /// Past a function that a signal interrupted.
    InterruptedCode,
    /// There was no room for all frames.
    FramesNotKept,
    /// The table of stacks was full.
    StackTableFull,
}

impl Reason {
    /// Why a walk ended; `None` for a complete stack.
    #[must_use]
    pub fn of(end: WalkEnd) -> Option<Self> {
        match end {
            WalkEnd::Complete => None,
            WalkEnd::TooDeep => Some(Self::TooDeep),
            WalkEnd::NoFramePointer => Some(Self::NoFramePointer),
            WalkEnd::Unreadable => Some(Self::StackUnreadable),
            WalkEnd::NoSlot => Some(Self::NoWalkSlot),
            WalkEnd::NoModule => Some(Self::NoModule),
            WalkEnd::NoUnwindInfo => Some(Self::NoUnwindInfo),
            WalkEnd::Unsupported => Some(Self::UnsupportedUnwindRule),
            WalkEnd::BadFrame => Some(Self::BadFrame),
            WalkEnd::NoReturnAddress => Some(Self::NoReturnAddress),
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::TooDeep => "too_deep",
            Self::NoFramePointer => "no_frame_pointer",
            Self::StackUnreadable => "stack_unreadable",
            Self::NoWalkSlot => "no_walk_slot",
            Self::NoModule => "no_module",
            Self::NoUnwindInfo => "no_unwind_info",
            Self::UnsupportedUnwindRule => "unsupported_unwind_rule",
            Self::BadFrame => "bad_frame",
            Self::NoReturnAddress => "no_return_address",
            Self::InterruptedCode => "interrupted_code",
            Self::FramesNotKept => "frames_not_kept",
            Self::StackTableFull => "stack_table_full",
        }
    }
}

/// What the figures do not include, and what may be wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Blocks not tracked because the table of live blocks was full.
    pub live_map_full: u64,
    /// Their bytes.
    pub live_map_full_bytes: u64,
    /// Allocation calls whose return was never seen (longjmp, an exception, a cancelled thread).
    pub in_flight_lost: u64,
    /// Events that did not fit into the ring buffer. Stacks are sent again, trace lines are lost.
    pub ring_full: u64,
    /// Allocations without a stack because all walk slots of the CPU were in use.
    pub no_walk_slot: u64,
    /// Allocations not tracked because the table of threads was full.
    pub no_thread_slot: u64,
    /// Allocations whose stack did not fit into the table of stacks.
    pub stack_table_full: u64,
    /// Blocks allocated at an address that was still live: its free was not seen.
    pub missed_frees: u64,
    /// Times the kernel did not run one of the programs.
    pub kernel_missed: u64,
    /// Mapped ranges left out because a process had too many.
    pub mappings_full: u64,
    /// Their bytes.
    pub mappings_full_bytes: u64,
    /// How often names in a file were given up, or a report did not wait for its
    /// names: the notes say why.
    pub names_given_up: u64,
    /// Child processes the target forked; they are not traced.
    pub children_not_traced: u64,
    /// Stacks that end early, by reason, of all stacks of this report.
    pub stacks_incomplete: Vec<(Reason, u64)>,
}
