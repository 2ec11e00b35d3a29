//! What the agent has to learn about this kernel before tracing: its own pid as programs see it, and where the
//! `struct page` of an address is.
//!
//! The agent has the kernel allocate a buffer of a size that comes from the page allocator; both allocators' tracepoints
//! then announce the same memory, one by its `struct page`, the other by its address.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use memtrace_common::Calibration;

use crate::{argument, maps::CALIBRATION};

/// The order of the agent's buffer in pages.
const ORDER: u32 = 2;

#[inline(always)]
fn mine() -> Option<*mut Calibration> {
    let place = CALIBRATION.get_ptr_mut(0)?;
    // SAFETY: points to the value of CALIBRATION.
    let tgid = unsafe { (*place).tgid };
    (tgid != 0 && tgid == bpf_get_current_pid_tgid() >> 32).then_some(place)
}

/// Run by the agent itself, attached to nothing.
#[raw_tracepoint]
pub(crate) fn whoami(_: RawTracePointContext) -> i32 {
    if let Some(place) = CALIBRATION.get_ptr_mut(0) {
        // SAFETY: points to the value of CALIBRATION.
        unsafe { (*place).tgid = bpf_get_current_pid_tgid() >> 32 };
    }
    0
}

/// `mm_page_alloc(page, order, …)`
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn calibrate_page(context: RawTracePointContext) -> i32 {
    if argument::<1>(&context) as u32 == ORDER
        && let Some(place) = mine()
    {
        // SAFETY: points to the value of CALIBRATION.
        unsafe { (*place).page = argument::<0>(&context) };
    }
    0
}

/// `kmalloc(call_site, ptr, …, bytes_req, bytes_alloc, …)`: the one right after the pages, by its size.
#[raw_tracepoint(tracepoint = "kmalloc")]
pub(crate) fn calibrate_kmalloc(context: RawTracePointContext) -> i32 {
    let size = 4096u64 << ORDER;
    let (three, four) = (argument::<3>(&context), argument::<4>(&context));
    if (three == size || four == size)
        && let Some(place) = mine()
    {
        // SAFETY: points to the value of CALIBRATION.
        unsafe {
            (*place).address = argument::<1>(&context);
            (*place).paired = (*place).page;
        }
    }
    0
}
