//! Stacks: found by the hash of their frames, counted in a slot each.

/// Frames a walk takes at most.
pub const MAX_FRAMES: usize = 511;

/// Slots tried for a hash before the table counts as full.
pub const STACK_PROBES: u32 = 16;

/// The slot that collects what found no slot of its own.
pub const STACK_TABLE_FULL: u32 = 0;

/// One stack and its totals: a cache line of the array `STACKS`.
///
/// Outstanding is allocated minus freed; each side only grows, so two atomic additions an event keep totals
/// exact, and a reader that takes `freed` first never sees a negative difference.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StackSlot {
    /// Hash of target, generation and frames; 0 when the slot is free.
    pub hash: u64,
    /// Bytes allocated: what each block counted stands for ([`crate::Sample::bytes`]).
    pub allocated_bytes: u64,
    /// Blocks allocated, in units of 1 / [`crate::BLOCK_UNIT`] ([`crate::Sample::blocks`]).
    pub allocated_blocks: u64,
    /// Bytes freed again of those.
    pub freed_bytes: u64,
    /// Blocks freed again of those, in the same units.
    pub freed_blocks: u64,
    /// `freed_blocks` when the stack last held nothing: equal to it as long as nothing was freed since, and
    /// then the oldest block is as old as `since` says.
    pub since_freed: u64,
    /// When the stack last held nothing, in block time: no live block is older.
    pub since: u32,
    /// Target's index and generation, see [`crate::Target::id`].
    pub target: u32,
    /// Whether the frames were sent to the agent.
    pub sent: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<StackSlot>() == 64);

/// How stacks are taken: the value of the load-time constant `METHOD`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkMethod {
    /// By frame pointers.
    FramePointer = 0,
    /// By call frame information.
    Cfi = 1,
    /// The caller alone. For measurements: what everything but the walk costs.
    Caller = 2,
    /// By the kernel's own `bpf_get_stackid`; the agent is given the caller alone. For measurements.
    Kernel = 3,
}

/// Why a walk ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// At the program's (or thread's) first frame.
    Complete = 0,
    /// More frames than [`MAX_FRAMES`].
    TooDeep = 1,
    /// The frame pointer does not point up the stack: the code there was built without one.
    NoFramePointer = 2,
    /// Stack memory could not be read.
    Unreadable = 3,
    /// No walk was made: every walk slot of the CPU was taken.
    NoSlot = 4,
    /// A return address is in no module known yet.
    NoModule = 5,
    /// No unwind information covers the code there, and it keeps no frame pointer either.
    NoUnwindInfo = 6,
    /// The unwind information there is of a kind that rows cannot hold.
    Unsupported = 7,
    /// A frame is not above the previous one.
    BadFrame = 8,
    /// A return address is 0.
    NoReturnAddress = 9,
}

impl WalkEnd {
    /// Every end, in order of its number.
    pub const ALL: [Self; 10] = [
        Self::Complete,
        Self::TooDeep,
        Self::NoFramePointer,
        Self::Unreadable,
        Self::NoSlot,
        Self::NoModule,
        Self::NoUnwindInfo,
        Self::Unsupported,
        Self::BadFrame,
        Self::NoReturnAddress,
    ];
}

/// Golden-ratio multiplication (Knuth, TAOCP 6.4): the best bits are the upper ones.
#[inline(always)]
#[must_use]
pub const fn mix(value: u64) -> u64 {
    value.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Where the hash of a target's stacks starts: stacks of two targets, or of one before and after `execve`,
/// never share a slot.
#[inline(always)]
#[must_use]
pub const fn stack_seed(target: u32) -> u64 {
    mix(target as u64 + 1)
}
