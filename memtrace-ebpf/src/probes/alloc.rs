//! Probes on allocator functions. The cookie says which kind of function a probe sits on.

use aya_ebpf::{
    EbpfContext,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::record;

/// Entry of a function that hands out blocks.
#[uprobe]
pub(crate) fn alloc_enter(context: ProbeContext) -> u32 {
    let _ = record::enter(&context);
    0
}

/// Return from one.
#[uretprobe]
pub(crate) fn alloc_leave(context: RetProbeContext) -> u32 {
    let _ = record::leave(context.as_ptr());
    0
}

/// Entry of a function that takes a block back.
#[uprobe]
pub(crate) fn free_enter(context: ProbeContext) -> u32 {
    let _ = record::free(context.as_ptr());
    0
}
