//! Room for a walk: too large for the 512 bytes of BPF stack.

use memtrace_common::{Counter, StackEvent};

use crate::{
    maps::{SCRATCHES, count},
    shared,
};

/// A walk in progress.
#[repr(C)]
pub(crate) struct Scratch {
    /// 1 while a program uses it.
    busy: u64,
    /// Address of the frame to take next: a return address, or with `EXACT` an instruction's.
    pub(super) pc: u64,
    /// What the link register held when a signal interrupted that frame, on architectures that have one.
    pub(super) link: u64,
    /// The stack pointer in that frame: no frame above it lies lower.
    pub(super) sp: u64,
    /// The frame pointer in that frame.
    pub(super) frame_pointer: u64,
    /// The target's [`memtrace_common::ModuleList`].
    pub(super) modules: u64,
    /// Where addresses may mean other code later, and how large that is.
    pub(super) unstable: (u64, u64),
    /// 1 when a frame lies there.
    pub(super) is_unstable: u64,
    /// Index in `CACHE` where the target's part begins; `u64::MAX` if it has none.
    pub(super) cache: u64,
    /// Address of the first word in `window`.
    pub(super) window_base: u64,
    /// Bytes in `window`; 0 after a read that failed.
    pub(super) window_length: u64,
    /// Frames so far, as the agent will get them.
    pub(crate) event: StackEvent,
    /// Stack memory, read in bulk: a read costs about the same for 8 bytes and for 2 KiB.
    pub(super) window: [u64; Scratch::WINDOW_WORDS],
}

impl Scratch {
    /// How many there are per CPU.
    pub(crate) const PER_CPU: u32 = 4;
    /// Words in the window: 4 KiB.
    pub(super) const WINDOW_WORDS: usize = 512;

    /// Claims one, or counts that none was free.
    #[inline(always)]
    pub(crate) fn claim() -> Option<*mut Self> {
        let claimed = shared::claim(
            Self::PER_CPU,
            |index| SCRATCHES.get_ptr_mut(index),
            // SAFETY: points to a value of SCRATCHES.
            |scratch| unsafe { &raw mut (*scratch).busy },
        );
        if claimed.is_none() {
            count(Counter::NoWalkSlot, 1);
        }
        claimed
    }

    /// The walk's result.
    ///
    /// # Safety
    /// `scratch` was claimed.
    #[inline(always)]
    pub(crate) unsafe fn event(scratch: *mut Self) -> *mut StackEvent {
        // SAFETY: by the contract above.
        unsafe { &raw mut (*scratch).event }
    }

    /// The caller's return address, once [`super::from_entry`] has read it.
    ///
    /// # Safety
    /// `scratch` was claimed.
    #[inline(always)]
    pub(crate) unsafe fn caller(scratch: *mut Self) -> u64 {
        // SAFETY: by the contract above.
        unsafe { (*scratch).pc }
    }

    /// Gives it back.
    ///
    /// # Safety
    /// `scratch` was claimed and is not used afterwards.
    #[inline(always)]
    pub(crate) unsafe fn release(scratch: *mut Self) {
        // SAFETY: by the contract above.
        unsafe { (&raw mut (*scratch).busy).write_volatile(0) };
    }
}
