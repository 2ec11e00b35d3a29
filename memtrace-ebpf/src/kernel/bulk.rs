//! Frees in bulk, `kfree_rcu`'s among them: no tracepoint announces them. Where the kernel lets programs run at the
//! entry of its functions, they are still seen.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use memtrace_common::KernelKind;

use crate::{caches, record::freed};

/// Objects that one call frees at most: `kfree_rcu` collects a page of pointers.
const MOST: u64 = 512;

/// `kmem_cache_free_bulk(s, size, p)`
#[fentry(function = "kmem_cache_free_bulk")]
pub(crate) fn free_bulk(context: FEntryContext) -> i32 {
    let (cache, count, objects): (u64, u64, u64) = (context.arg(0), context.arg(1), context.arg(2));
    for index in 0..MOST {
        if index >= count {
            break;
        }
        free_one(objects, index, cache);
    }
    0
}

/// Global function: verified once, not for each object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn free_one(objects: u64, index: u64, cache: u64) -> u64 {
    freed(caches::word(objects.wrapping_add(8 * index)), KernelKind::Slab, cache);
    0
}
