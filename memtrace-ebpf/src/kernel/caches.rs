//! Slab caches: which one an object is in, and what is counted per cache.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_probe_read_kernel as read_bytes, bpf_probe_read_kernel_str},
    },
};
use memtrace_common::{CACHE_NAME, KernelCache, MAX_CACHES, NO_CACHE};

use crate::{
    atomic, config,
    maps::{CACHE_BY_POINTER, CACHE_NAMES, CACHES},
};

const PAGE_SHIFT: u32 = 12;

/// Reads a word of kernel memory; 0 if it cannot be read.
#[inline(always)]
pub(crate) fn word(address: u64) -> u64 {
    // SAFETY: a helper that checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.unwrap_or(0)
}

/// The `struct page` of the page at `address`, and the value of its `compound_head`: see [`head_of`].
#[inline(always)]
fn page_and_head(address: u64) -> (u64, u64) {
    let pages = (address >> PAGE_SHIFT).wrapping_mul(config::PAGE_STRUCT.load());
    let page = config::PAGE_BASE.load().wrapping_add(pages);
    (page, word(page.wrapping_add(config::COMPOUND_HEAD.load())))
}

/// The first `struct page` of a slab, from that of any of its pages and the value of `compound_head` there: the first
/// one's address plus 1 if the page is not the first. Linux 7.2 calls it `compound_info`; it may be a mask that gives the
/// first one's address.
#[inline(always)]
fn head_of(page: u64, head: u64) -> u64 {
    if head & 1 == 0 {
        return page;
    }
    let rest = head - 1;
    let size = rest.wrapping_neg();
    if config::COMPOUND_MASK.load() != 0 && size & size.wrapping_sub(1) == 0 { page & rest } else { rest }
}

/// The first `struct page` of the slab that the object at `address` is in.
#[inline(always)]
pub(crate) fn page(address: u64) -> u64 {
    let (page, head) = page_and_head(address);
    head_of(page, head)
}

/// The first byte of a page, from its `struct page`.
#[inline(always)]
pub(crate) fn address(page: u64) -> u64 {
    let pages = page.wrapping_sub(config::PAGE_BASE.load());
    pages.checked_div(config::PAGE_STRUCT.load()).unwrap_or(0) << PAGE_SHIFT
}

/// The `struct kmem_cache` of a slab, from its first `struct page`. For a page that is not a slab's, the result is
/// meaningless.
#[inline(always)]
pub(crate) fn of_page(page: u64) -> u64 {
    word(page.wrapping_add(config::SLAB_CACHE.load()))
}

/// The `struct kmem_cache` that the object at `address` is in; 0 when that is not known. For an object in no cache, the
/// result is meaningless.
#[inline(always)]
pub(crate) fn of(address: u64) -> u64 {
    if config::PAGE_BASE.load() == 0 {
        return 0;
    }
    let (page, head) = page_and_head(address);
    if head & 1 != 0 {
        return of_page(head_of(page, head));
    }
    // Both are in the same word.
    if config::COMPOUND_HEAD.load() == config::SLAB_CACHE.load() { head } else { of_page(page) }
}

/// The index of a cache, if it has one.
#[inline(always)]
pub(crate) fn known(cache: u64) -> u32 {
    // SAFETY: entries are added, never changed.
    unsafe { CACHE_BY_POINTER.get(cache) }.copied().unwrap_or(NO_CACHE)
}

/// The index of a cache, which gets one if it has none.
#[inline(always)]
pub(crate) fn index(cache: u64) -> u32 {
    match known(cache) {
        NO_CACHE => cache_add(cache),
        index => index,
    }
}

#[inline(always)]
fn place(index: u32) -> Option<*mut KernelCache> {
    if index == NO_CACHE { None } else { CACHES.get_ptr_mut(index) }
}

/// Whether a filter by name or size leaves a cache out.
#[inline(always)]
pub(crate) fn is_excluded(index: u32) -> bool {
    // SAFETY: points to a value of CACHES.
    place(index).is_some_and(|cache| unsafe { (&raw const (*cache).excluded).read_volatile() } != 0)
}

/// Gives a cache an index and reads its name. Global function: verified once. If two CPUs do so at once, one index is
/// wasted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cache_add(cache: u64) -> u32 {
    if cache == 0 {
        return NO_CACHE;
    }
    let Some(first) = CACHES.get_ptr_mut(NO_CACHE) else { return NO_CACHE };
    // SAFETY: `first` and `place` point to values of CACHES.
    unsafe {
        if (&raw const (*first).pointer).read_volatile() >= u64::from(MAX_CACHES) - 1 {
            return NO_CACHE;
        }
        let index = atomic::add(&raw mut (*first).pointer, 1) as u32 + 1;
        let Some(place) = place(index) else { return NO_CACHE };
        let name = word(cache.wrapping_add(config::CACHE_NAME_OFFSET.load()));
        bpf_probe_read_kernel_str((&raw mut (*place).name).cast(), CACHE_NAME as u32, name as *const _);
        let named = config::CACHE_FILTER.load() == 0
            || CACHE_NAMES.get((*place).name).is_none_or(|tracked| *tracked != 0);
        (*place).excluded = u64::from(!named || !config::is_tracked(object_size(cache)));
        (&raw mut (*place).pointer).write_volatile(cache);
        if CACHE_BY_POINTER.insert(cache, index, u64::from(BPF_NOEXIST)).is_err() {
            (&raw mut (*place).pointer).write_volatile(0);
            return known(cache);
        }
        index
    }
}

/// Bytes of a cache's objects.
#[inline(always)]
pub(crate) fn object_size(cache: u64) -> u64 {
    let mut size = 0u32;
    // SAFETY: a helper that checks the address, into a local variable.
    let read = unsafe {
        read_bytes((&raw mut size).cast(), 4, cache.wrapping_add(config::CACHE_SIZE.load()) as *const _)
    };
    if read == 0 { u64::from(size) } else { 0 }
}

/// Counts the free of an object that was not tracked.
#[inline(always)]
pub(crate) fn count_free(index: u32) {
    if let Some(cache) = place(index) {
        // SAFETY: points to a value of CACHES.
        unsafe { atomic::add(&raw mut (*cache).untracked_freed, 1) };
    }
}

/// Counts an object that a filter by task left out.
#[inline(always)]
pub(crate) fn count_allocation(index: u32) {
    if let Some(cache) = place(index) {
        // SAFETY: points to a value of CACHES.
        unsafe { atomic::add(&raw mut (*cache).untracked_allocated, 1) };
    }
}
