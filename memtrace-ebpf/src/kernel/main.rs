//! memtrace's kernel mode: counts what the kernel allocates for itself.
//!
//! An object of its own, so that tracing a process neither loads these programs nor pays for these maps.
//!
//! - `probes`: the programs; thin entry points. `bulk`: one that not every kernel accepts.
//! - `record`: what an allocation and a free do to the counts.
//! - `live`, `stacks`, `caches`: the tables of live objects, of stacks, and of slab caches.
//! - `walk`: stacks. `memo`: recognising one without walking it.
//! - `examine`, `sheaves`, `cursor`: looking tracked objects up among their slabs' free objects.
//! - `calibrate`: what the agent has to learn about this kernel first.
//! - `maps`, `config`: every map, every load-time constant. `types`: the values that walks and the memo work on.
//!
//! These programs run inside the allocator: nothing here allocates, every map exists before the first event.
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "BPF has no compare-and-swap in core::sync::atomic, only as intrinsics")]
#![no_std]
#![no_main]

use aya_ebpf::{EbpfContext, programs::RawTracePointContext};
use shared::bounded;

#[path = "../atomic.rs"]
mod atomic;
#[path = "../base.rs"]
mod base;
mod bulk;
mod caches;
mod calibrate;
mod config;
mod cursor;
mod examine;
mod live;
mod maps;
mod memo;
mod probes;
mod record;
#[path = "../shared.rs"]
mod shared;
mod sheaves;
mod stacks;
mod types;
mod walk;

/// Argument `N` of a raw tracepoint. An instruction of its own: LLVM would make one access with a computed offset of two
/// on different paths, and the verifier allows constant ones only.
#[inline(always)]
fn argument<const N: usize>(context: &RawTracePointContext) -> u64 {
    let value: u64;
    // SAFETY: the verifier checks the offset against what the program type has, the kernel at attaching against what the
    // tracepoint has.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!(
            "{value} = *(u64 *)({arguments} + {offset})",
            value = out(reg) value,
            arguments = in(reg) context.as_ptr(),
            offset = const N * 8,
            options(readonly, nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value = context.arg(N);
    }
    value
}
