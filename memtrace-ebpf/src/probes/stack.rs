//! Where a program keeps its variables.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_tail_call;

use crate::config;

/// Keeps a program on the stack of the task that runs it. To be called first by every program that sits on a uprobe and has
/// variables.
///
/// From Linux 6.13 a program of a probe gets a stack of its own, one per CPU (`bpf_enable_priv_stack`), as if it could not
/// be preempted there. On a uprobe it can be (`uprobe_prog_run` forbids migration only): then another task that comes by the
/// same probe writes into its variables, the context's address among them, and the kernel dies of a page fault. Programs that
/// make tail calls have no such stack. This one is never made: the verifier knows so, and removes it.
#[inline(always)]
pub(super) fn stay_on_the_tasks(context: *mut c_void) {
    if config::TAIL_CALL.load() != 0 {
        // SAFETY: not reached.
        let _ = unsafe { bpf_tail_call(context, ptr::null_mut(), 0) };
    }
}
