//! The programs: raw tracepoints, whose guard against recursion is per program. That of classic tracepoints covers
//! all programs on the CPU, and would drop what an interrupt frees meanwhile.
//!
//! The position of an argument depends on the kernel; the agent reads it from BTF.

use aya_ebpf::{EbpfContext, macros::raw_tracepoint, programs::RawTracePointContext};
use memtrace_common::{KernelCounter, KernelKind, mix};

use crate::{
    argument, config,
    maps::count,
    record::{allocated, freed},
    types::Origin,
};

/// `kmalloc(call_site, ptr, [s,] bytes_req, bytes_alloc, gfp, …)`
#[raw_tracepoint(tracepoint = "kmalloc")]
pub(crate) fn kmalloc(context: RawTracePointContext) -> i32 {
    let address = argument::<1>(&context);
    if address == 0 {
        return 0;
    }
    let mut size = argument::<3>(&context);
    let mut gfp = 0;
    if config::KMALLOC_BYTES.load() == 3 {
        gfp = argument::<4>(&context);
    }
    if config::KMALLOC_BYTES.load() == 4 {
        size = argument::<4>(&context);
        gfp = argument::<5>(&context);
    }
    let origin = Origin {
        call_site: argument::<0>(&context),
        address,
        size,
        cache: 0,
        // The same call with other flags allocates from another cache.
        seed: mix(size ^ gfp << 32),
        kind: KernelKind::Slab as u32,
        reserved: 0,
    };
    allocated(context.as_ptr(), &origin);
    0
}

/// `kfree(call_site, ptr)`
#[raw_tracepoint(tracepoint = "kfree")]
pub(crate) fn kfree(context: RawTracePointContext) -> i32 {
    freed(argument::<1>(&context), KernelKind::Slab, 0);
    0
}

/// `kmem_cache_alloc(call_site, ptr, s, …)`; before 5.19 without the cache.
#[raw_tracepoint(tracepoint = "kmem_cache_alloc")]
pub(crate) fn kmem_cache_alloc(context: RawTracePointContext) -> i32 {
    let address = argument::<1>(&context);
    if address == 0 {
        return 0;
    }
    let mut origin = Origin {
        call_site: argument::<0>(&context),
        address,
        size: 0,
        cache: 0,
        seed: 0,
        kind: KernelKind::Slab as u32,
        reserved: 0,
    };
    if config::CACHE_ALLOC_CACHE.load() == 2 {
        origin.cache = argument::<2>(&context);
        origin.seed = mix(origin.cache);
    } else {
        origin.size = argument::<3>(&context);
        origin.seed = mix(origin.size | 1 << 63);
    }
    allocated(context.as_ptr(), &origin);
    0
}

/// `kmem_cache_free(call_site, ptr, s)`; before 6.1 without the cache.
#[raw_tracepoint(tracepoint = "kmem_cache_free")]
pub(crate) fn kmem_cache_free(context: RawTracePointContext) -> i32 {
    let mut cache = 0;
    if config::CACHE_FREE_CACHE.load() == 2 {
        cache = argument::<2>(&context);
    }
    freed(argument::<1>(&context), KernelKind::Slab, cache);
    0
}

/// `mm_page_alloc(page, order, gfp, migratetype)`
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub(crate) fn mm_page_alloc(context: RawTracePointContext) -> i32 {
    let page = argument::<0>(&context);
    let order = argument::<1>(&context) as u32;
    if page == 0 || order > 20 {
        return 0;
    }
    let gfp = argument::<2>(&context) as u32;
    if gfp & config::GFP_MOVABLE.load() != 0 {
        count(KernelCounter::UserPages, 1 << order);
        return 0;
    }
    let origin = Origin {
        call_site: 0,
        address: page,
        size: 4096 << order,
        cache: 0,
        seed: mix(1 << 62 | u64::from(order)),
        kind: KernelKind::Page as u32,
        reserved: 0,
    };
    allocated(context.as_ptr(), &origin);
    0
}

/// `mm_page_free(page, order)`
#[raw_tracepoint(tracepoint = "mm_page_free")]
pub(crate) fn mm_page_free(context: RawTracePointContext) -> i32 {
    freed(argument::<0>(&context), KernelKind::Page, 0);
    0
}

/// `percpu_alloc_percpu([call_site,] reserved, is_atomic, size, align, base_addr, off, ptr[, bytes_alloc, gfp])`
#[raw_tracepoint(tracepoint = "percpu_alloc_percpu")]
pub(crate) fn percpu_alloc(context: RawTracePointContext) -> i32 {
    let mut origin = Origin {
        call_site: 0,
        address: 0,
        size: 0,
        cache: 0,
        seed: 0,
        kind: KernelKind::Percpu as u32,
        reserved: 0,
    };
    if config::PERCPU_POINTER.load() == 7 {
        origin.call_site = argument::<0>(&context);
        origin.address = argument::<7>(&context);
        origin.size = argument::<3>(&context).wrapping_mul(config::CPUS.load());
    } else {
        origin.address = argument::<6>(&context);
        origin.size = argument::<2>(&context).wrapping_mul(config::CPUS.load());
    }
    if origin.address == 0 {
        return 0;
    }
    origin.seed = mix(2 << 62 | origin.size);
    allocated(context.as_ptr(), &origin);
    0
}

/// `percpu_free_percpu(base_addr, off, ptr)`
#[raw_tracepoint(tracepoint = "percpu_free_percpu")]
pub(crate) fn percpu_free(context: RawTracePointContext) -> i32 {
    freed(argument::<2>(&context), KernelKind::Percpu, 0);
    0
}

/// `alloc_vmap_area(addr, size, align, vstart, vend, failed)`, from 6.3 on
#[raw_tracepoint(tracepoint = "alloc_vmap_area")]
pub(crate) fn vmalloc(context: RawTracePointContext) -> i32 {
    if argument::<5>(&context) as u32 != 0 {
        return 0;
    }
    let size = argument::<1>(&context);
    let origin = Origin {
        call_site: 0,
        address: argument::<0>(&context),
        size,
        cache: 0,
        seed: mix(3 << 62 | size),
        kind: KernelKind::Vmalloc as u32,
        reserved: 0,
    };
    allocated(context.as_ptr(), &origin);
    0
}

/// `free_vmap_area_noflush(va_start, nr_lazy, nr_lazy_max)`, from 6.3 on
#[raw_tracepoint(tracepoint = "free_vmap_area_noflush")]
pub(crate) fn vfree(context: RawTracePointContext) -> i32 {
    freed(argument::<0>(&context), KernelKind::Vmalloc, 0);
    0
}
