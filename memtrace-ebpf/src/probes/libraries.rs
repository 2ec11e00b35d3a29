//! The dynamic loader's breakpoint function, which it calls whenever it is about to load or unload a library, and when
//! it is done.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_attach_cookie, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};
use memtrace_common::Cookie;

use super::stack;
use crate::{maps::TARGETS, miss};

/// `r_state`: a library is about to be loaded, or unloaded (glibc's link.h).
const RT_ADD: u32 = 1;
const RT_DELETE: u32 = 2;

/// `_dl_debug_state` of glibc and musl.
#[uprobe]
pub(crate) fn libraries_changed(context: ProbeContext) -> u32 {
    stack::stay_on_the_tasks(context.as_ptr());
    let _ = try_libraries_changed(context.as_ptr());
    0
}

#[inline(always)]
fn try_libraries_changed(context: *mut c_void) -> Option<()> {
    // SAFETY: the context is the program's.
    let index = Cookie(unsafe { bpf_get_attach_cookie(context) }).target();
    let target = TARGETS.get_ptr_mut(index)?;
    let mut state = 0u32;
    // SAFETY: `target` points to a value of TARGETS; reads into a local variable. The loader holds its lock here, so
    // there is one such call at a time.
    unsafe {
        bpf_probe_read_user((&raw mut state).cast(), 4, (*target).loader_state as *const c_void);
        let unloading = u64::from(state == RT_DELETE);
        if unloading != 0 || (*target).unloading != 0 {
            // At the end too: mappings that were read in between still have the libraries that are unloaded.
            (*target).unloaded += 1;
        }
        (*target).unloading = unloading;
        if state == RT_ADD && (*target).unloaded != (&raw const (*target).unloaded_seen).read_volatile() {
            // The new library may be mapped where the agent still has the old one.
            (&raw mut (*target).stale).write_volatile(1);
        }
    }
    miss::request(index, true);
    Some(())
}
