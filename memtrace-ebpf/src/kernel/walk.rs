//! Walks of the kernel's stack, by the kernel's own unwinder.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_stack;
use memtrace_common::{KERNEL_FRAMES, KernelCounter, KernelStackEvent, mix};

use crate::{
    bounded,
    maps::{SCRATCHES, count},
    memo::{Holds, Places},
    shared,
    stacks::Origin,
};

/// Frames among which the allocating function's caller is looked for.
const OWN_FRAMES: usize = 16;

/// A walk in progress.
#[repr(C)]
pub(crate) struct Scratch {
    /// 1 while a program uses it.
    busy: u64,
    /// Address of the first word in `window`: where the program's arguments lie, on the traced stack.
    pub(crate) base: u64,
    /// Bytes in `window`.
    pub(crate) length: u64,
    /// The frame that is looked for in the window next.
    pub(crate) next: u64,
    /// Places in the window that hold a frame's return address, so far.
    pub(crate) found: u64,
    /// The last of them.
    pub(crate) last: u64,
    /// Hash of what they hold.
    pub(crate) check: u64,
    /// Addresses that may be a frame's.
    pub(crate) maybe: u64,
    /// What is being allocated.
    pub(crate) origin: Origin,
    /// Frames, as the agent will get them.
    pub(crate) event: KernelStackEvent,
    /// Stack memory.
    pub(crate) window: [u64; Scratch::WINDOW_WORDS],
    /// Where they are, in words.
    pub(crate) places: Places,
    /// Which frame each holds.
    pub(crate) holds: Holds,
}

impl Scratch {
    /// How many there are per CPU: task, soft interrupt, interrupt, and one to spare.
    pub(crate) const PER_CPU: u32 = 4;
    /// Words in the window: 4 KiB.
    pub(crate) const WINDOW_WORDS: usize = 512;

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
            count(KernelCounter::NoWalkSlot, 1);
        }
        claimed
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

/// Walks the stack, finds where the caller's frames begin and hashes them.
#[inline(always)]
pub(crate) fn walk(context: *mut c_void, scratch: *mut Scratch) {
    count(KernelCounter::Walks, 1);
    // SAFETY: `scratch` was claimed; the helper writes at most the size of the array.
    unsafe {
        let bytes =
            bpf_get_stack(context, (&raw mut (*scratch).event.pcs).cast(), (8 * KERNEL_FRAMES) as u32, 0);
        (*scratch).event.frames = if bytes < 0 { 0 } else { (bytes as u64 / 8) as u32 };
    }
    walk_hash(scratch);
}

/// Finds the caller's first frame and hashes what follows. Global function: verified once.
///
/// The outermost frame is the entry stub from user mode, an interrupt or a new thread: it tells nothing that the one
/// before does not, and on kernels with randomized stacks its place varies. It is not part of the identity.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_hash(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are bounded right before their use.
    unsafe {
        let call_site = (*scratch).origin.call_site;
        let mut own = 0;
        if call_site != 0 {
            for index in 0..OWN_FRAMES {
                if (*scratch).event.pcs[index] == call_site {
                    own = index as u64;
                    break;
                }
            }
        }
        let frames = u64::from((*scratch).event.frames);
        let mut hash = (*scratch).origin.seed;
        let mut index = own;
        for _ in 0..KERNEL_FRAMES {
            let place = bounded(index);
            if place + 1 >= frames || place >= KERNEL_FRAMES as u64 {
                break;
            }
            hash = step(hash, (*scratch).event.pcs[place as usize]);
            index = place + 1;
        }
        (*scratch).event.own = own as u32;
        (*scratch).event.hash = if hash == 0 { 1 } else { hash };
    }
    0
}

/// One frame more in a hash.
#[inline(always)]
pub(crate) fn step(hash: u64, pc: u64) -> u64 {
    let mixed = mix(hash ^ pc);
    mixed ^ mixed >> 32
}
