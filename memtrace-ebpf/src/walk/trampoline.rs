//! Return addresses that a return probe has replaced.
//!
//! At a function's entry the kernel puts the address of a trampoline, the first byte of a page, in the place of the return
//! address and keeps the original in a list of the task, with the stack pointer of that moment. Offsets in its structures
//! come from the running kernel's BTF.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};

use crate::config::{INSTANCE_NEXT, INSTANCE_RETURN, INSTANCE_STACK, TASK_UTASK, UTASK_INSTANCES};

const PAGE: u64 = 4096;
/// Pending return probes looked at; the kernel allows 64.
const DEPTH: u32 = 64;

/// The return address of the function that was entered with the stack pointer at `sp`, where `found` was in its
/// place.
#[inline(always)]
pub(super) fn resolve(sp: u64, found: u64) -> u64 {
    if found & (PAGE - 1) != 0 || TASK_UTASK.load() == 0 {
        return found;
    }
    match original(sp, found) {
        0 => found,
        address => address,
    }
}

/// Searches the list of pending return probes, innermost first. 0: not there, so it is not a trampoline. Global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn original(sp: u64, trampoline: u64) -> u64 {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let utask = kernel_word(task + u64::from(TASK_UTASK.load()));
    let mut instance = if utask == 0 { 0 } else { kernel_word(utask + u64::from(UTASK_INSTANCES.load())) };
    for _ in 0..DEPTH {
        if instance == 0 {
            return 0;
        }
        if kernel_word(instance + u64::from(INSTANCE_STACK.load())) == sp {
            let address = kernel_word(instance + u64::from(INSTANCE_RETURN.load()));
            // Of a chain of tail calls the outermost has the address itself.
            if address != trampoline {
                return address;
            }
        }
        instance = kernel_word(instance + u64::from(INSTANCE_NEXT.load()));
    }
    0
}

/// A word of kernel memory, 0 if it cannot be read. Global function: verified once, and with one exit, which keeps
/// the verification of the loop above short.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kernel_word(address: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: reads into a local variable; the helper checks the address.
    let failed = unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 8, address as *const _) };
    if failed != 0 { 0 } else { word }
}
