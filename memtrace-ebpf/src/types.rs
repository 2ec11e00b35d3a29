//! The values that a walk works on: plain data, so that `maps` and `arch` can name them without importing the walk.

use memtrace_common::StackEvent;

/// A walk in progress: too large for the 512 bytes of BPF stack.
#[repr(C)]
pub(crate) struct Scratch {
    /// 1 while a program uses it.
    pub(crate) busy: u64,
    /// Address of the frame to take next: a return address, or with `EXACT` an instruction's.
    pub(crate) pc: u64,
    /// What the link register held when a signal interrupted that frame, on architectures that have one.
    pub(crate) link: u64,
    /// The stack pointer in that frame: no frame above it is lower.
    pub(crate) sp: u64,
    /// The frame pointer in that frame.
    pub(crate) frame_pointer: u64,
    /// The target's [`memtrace_common::ModuleList`].
    pub(crate) modules: u64,
    /// First byte and length of the range where addresses may be other code later.
    pub(crate) unstable: (u64, u64),
    /// 1 when a frame is in it.
    pub(crate) is_unstable: u64,
    /// Index in `CACHE` where the target's part begins; `u64::MAX` if it has none.
    pub(crate) cache: u64,
    /// Address of the first word in `window`.
    pub(crate) window_base: u64,
    /// Bytes in `window`; 0 after a read that failed.
    pub(crate) window_length: u64,
    /// Frames so far, as the agent will get them.
    pub(crate) event: StackEvent,
    /// Stack memory, read in bulk: a read costs about the same for 8 bytes and for 2 KiB.
    pub(crate) window: [u64; Scratch::WINDOW_WORDS],
}

impl Scratch {
    /// How many there are per CPU.
    pub(crate) const PER_CPU: u32 = 4;
    /// Words in the window: 4 KiB.
    pub(crate) const WINDOW_WORDS: usize = 512;
}

/// What a rule says, as kept in the cache: a row without its address.
#[derive(Clone, Copy)]
pub(crate) struct Rule(pub(crate) u64);

impl Rule {
    /// No module is known there.
    pub(crate) const NONE: Self = Self(0);

    /// Whether no module is known there.
    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    /// [`memtrace_common::Row::kind`].
    #[inline(always)]
    pub(crate) fn kind(self) -> u8 {
        (self.0 & 15) as u8
    }

    /// [`memtrace_common::Row::fp`].
    #[inline(always)]
    pub(crate) fn fp(self) -> u64 {
        self.0 >> 4 & 0xff
    }

    /// [`memtrace_common::Row::cfa`].
    #[inline(always)]
    pub(crate) fn cfa(self) -> u64 {
        self.0 >> 12 & 0xffff
    }
}
