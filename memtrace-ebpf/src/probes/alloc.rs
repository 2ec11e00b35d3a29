//! Probes on allocator functions. The cookie gives the kind of the probed function.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_get_func_ip,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use super::stack;
use crate::{
    arch::Registers,
    config, record,
    work::{Kind, Run},
};

/// Entry of a function that allocates.
#[uprobe]
pub(crate) fn alloc_enter(context: ProbeContext) -> u32 {
    stack::stay_on_the_tasks(context.as_ptr());
    let _ = enter(&context, Kind::Entry, false);
    0
}

/// The same if the result is read at the function's exits.
#[uprobe]
pub(crate) fn alloc_begin(context: ProbeContext) -> u32 {
    stack::stay_on_the_tasks(context.as_ptr());
    let _ = enter(&context, Kind::PlainEntry, true);
    0
}

/// An exit site.
#[uprobe]
pub(crate) fn alloc_exit(context: ProbeContext) -> u32 {
    stack::stay_on_the_tasks(context.as_ptr());
    if config::without(config::EVERYTHING) {
        return 0;
    }
    let cookie = record::cookie(context.as_ptr());
    if let Some(run) = Run::begin(Kind::Exit, cookie) {
        let _ = record::exit(context.as_ptr(), cookie, &run);
        run.end();
    }
    0
}

/// Return from one that has a return probe.
#[uretprobe]
pub(crate) fn alloc_leave(context: RetProbeContext) -> u32 {
    stack::stay_on_the_tasks(context.as_ptr());
    leave(context.as_ptr());
    0
}

/// Both in one, as a uprobe session (kernel 6.13): 1 at entry keeps the kernel from probing the return.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub(crate) extern "C" fn alloc_session(context: *mut c_void) -> u32 {
    stack::stay_on_the_tasks(context);
    // SAFETY: `context` is the program's.
    let entered = unsafe { bpf_get_func_ip(context) == Registers::new(context).ip() };
    if entered {
        u32::from(enter(&ProbeContext::new(context), Kind::Entry, true).is_none())
    } else {
        leave(context);
        0
    }
}

/// Entry of a function that frees.
#[uprobe]
pub(crate) fn free_enter(context: ProbeContext) -> u32 {
    stack::stay_on_the_tasks(context.as_ptr());
    if config::without(config::EVERYTHING) {
        return 0;
    }
    let cookie = record::cookie(context.as_ptr());
    if let Some(run) = Run::begin(Kind::Free, cookie) {
        let _ = record::free(context.as_ptr(), cookie, &run);
        run.end();
    }
    0
}

/// Does nothing: for the cost of a probe as such.
#[uprobe]
pub(crate) fn nothing_enter(_: ProbeContext) -> u32 {
    0
}

/// The same at a return.
#[uretprobe]
pub(crate) fn nothing_leave(_: RetProbeContext) -> u32 {
    0
}

/// The same as a session that skips the return.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub(crate) extern "C" fn nothing_skip(_: *mut c_void) -> u32 {
    1
}

#[inline(always)]
fn enter(context: &ProbeContext, kind: Kind, skips: bool) -> Option<()> {
    if config::without(config::EVERYTHING) {
        return None;
    }
    let cookie = record::cookie(context.as_ptr());
    let run = Run::begin(kind, cookie)?;
    let entered = record::enter(context, cookie, &run, skips);
    run.end();
    entered
}

#[inline(always)]
fn leave(context: *mut c_void) {
    if config::without(config::EVERYTHING) {
        return;
    }
    let cookie = record::cookie(context);
    if let Some(run) = Run::begin(Kind::Return, cookie) {
        let _ = record::leave(context, cookie, &run);
        run.end();
    }
}
