//! Calls in flight: a slot per thread, claimed at its first allocation, released at its exit.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use memtrace_common::{THREAD_PROBES, Thread, thread_index};

use crate::{atomic, config, maps::THREADS};

#[inline(always)]
fn slot(id: u64, probe: u32) -> Option<*mut Thread> {
    THREADS.get_ptr_mut(thread_index(id).wrapping_add(probe) & config::THREAD_MASK.load())
}

/// The current thread's slot, if it has one.
#[inline(always)]
pub(crate) fn find() -> Option<*mut Thread> {
    let id = bpf_get_current_pid_tgid();
    for probe in 0..THREAD_PROBES {
        let thread = slot(id, probe)?;
        // SAFETY: `thread` points to a value of THREADS.
        if unsafe { (&raw const (*thread).owner).read_volatile() } == id {
            return Some(thread);
        }
    }
    None
}

/// Claims a slot for the current thread, which has none; `None` when the table is full around it.
#[inline(always)]
pub(crate) fn claim(window: u32) -> Option<*mut Thread> {
    let id = bpf_get_current_pid_tgid();
    for probe in 0..THREAD_PROBES {
        let thread = slot(id, probe)?;
        // SAFETY: `thread` points to a value of THREADS.
        if unsafe { atomic::compare_exchange(&raw mut (*thread).owner, 0, id) }.is_ok() {
            // SAFETY: as above; it is this thread's now.
            unsafe {
                (*thread).depth = 0;
                (*thread).window = window;
            }
            return Some(thread);
        }
    }
    None
}

/// Gives a slot back.
///
/// # Safety
/// `thread` is the current thread's, and not used afterwards.
#[inline(always)]
pub(crate) unsafe fn release(thread: *mut Thread) {
    // SAFETY: by the contract above.
    unsafe { (&raw mut (*thread).owner).write_volatile(0) };
}
