//! Functions that allocate and free, in groups. Rows, not code.

use crate::model::{ArgLayout, Mapping, Role};

/// A function to probe if a file defines it.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its symbol; where an allocator's names have a prefix, without that.
    pub symbol: &'static str,
    /// What it does, and with which arguments.
    pub role: Role,
    /// Whether it may be left by an exception.
    pub throws: bool,
}

const PLAIN: ArgLayout = ArgLayout { size: 0, count: None, old: None, out: None, delegates: false };

const fn with(symbol: &'static str, layout: ArgLayout) -> Function {
    Function { symbol, role: Role::Allocate(layout), throws: false }
}

const fn allocate(symbol: &'static str, size: u8) -> Function {
    with(symbol, ArgLayout { size, ..PLAIN })
}

/// The same of a function that throws if there is no memory.
const fn throwing(function: Function) -> Function {
    Function { throws: true, ..function }
}

/// As `operator new`.
const fn new(symbol: &'static str) -> Function {
    throwing(allocate(symbol, 0))
}

/// As `calloc`: a number of elements, and the size of each.
const fn array(symbol: &'static str, count: u8, size: u8) -> Function {
    with(symbol, ArgLayout { size, count: Some(count), ..PLAIN })
}

const fn reallocate(symbol: &'static str, old: u8, size: u8) -> Function {
    with(symbol, ArgLayout { size, old: Some(old), ..PLAIN })
}

/// As `reallocarray`.
const fn reallocate_array(symbol: &'static str, old: u8, count: u8, size: u8) -> Function {
    with(symbol, ArgLayout { size, count: Some(count), old: Some(old), ..PLAIN })
}

/// As `posix_memalign`: the address of the result, the alignment, the size.
const fn store(symbol: &'static str) -> Function {
    with(symbol, ArgLayout { size: 2, out: Some(0), ..PLAIN })
}

const fn free(symbol: &'static str) -> Function {
    Function { symbol, role: Role::Free, throws: false }
}

const fn map(symbol: &'static str, mapping: Mapping) -> Function {
    Function { symbol, role: Role::Map(mapping), throws: false }
}

/// C's `realloc`.
pub const C_REALLOC: &[Function] = &[reallocate("realloc", 0, 1)];

/// Without a block, those of glibc and musl call or jump to `malloc`.
pub const LIBC_REALLOC: &[Function] =
    &[with("realloc", ArgLayout { size: 1, old: Some(0), delegates: true, ..PLAIN })];

/// Further functions of C, POSIX and tradition. Their arguments are the same in all libraries.
pub const C: &[Function] = &[
    allocate("malloc", 0),
    array("calloc", 0, 1),
    store("posix_memalign"),
    allocate("aligned_alloc", 1),
    allocate("memalign", 1),
    allocate("valloc", 0),
    allocate("pvalloc", 0),
    free("free"),
    free("cfree"),
    free("free_sized"),
    free("free_aligned_sized"),
];

/// `reallocarray`, where it does not end in `realloc`.
pub const ARRAY: &[Function] = &[reallocate_array("reallocarray", 0, 1, 2)];

/// `operator new`, plain and array; nothrow; aligned; both.
pub const CXX_NEW: &[Function] = &[
    new("_Znwm"),
    new("_Znam"),
    allocate("_ZnwmRKSt9nothrow_t", 0),
    allocate("_ZnamRKSt9nothrow_t", 0),
    new("_ZnwmSt11align_val_t"),
    new("_ZnamSt11align_val_t"),
    allocate("_ZnwmSt11align_val_tRKSt9nothrow_t", 0),
    allocate("_ZnamSt11align_val_tRKSt9nothrow_t", 0),
];

/// `operator delete` with a size.
pub const CXX_DELETE_SIZED: &[Function] = &[free("_ZdlPvm"), free("_ZdaPvm")];

/// The other forms of `operator delete`.
pub const CXX_DELETE: &[Function] = &[
    free("_ZdlPv"),
    free("_ZdaPv"),
    free("_ZdlPvRKSt9nothrow_t"),
    free("_ZdaPvRKSt9nothrow_t"),
    free("_ZdlPvSt11align_val_t"),
    free("_ZdaPvSt11align_val_t"),
    free("_ZdlPvmSt11align_val_t"),
    free("_ZdaPvmSt11align_val_t"),
    free("_ZdlPvSt11align_val_tRKSt9nothrow_t"),
    free("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
];

/// Functions of a C library that map memory.
pub const MAPPING: &[Function] = &[
    map("mmap", Mapping::Map),
    map("mmap64", Mapping::Map),
    map("munmap", Mapping::Unmap),
    map("mremap", Mapping::Remap),
    map("sbrk", Mapping::Break),
];

/// jemalloc's own interface (jemalloc(3)). `xallocx` neither makes nor frees a block.
pub const JEMALLOC: &[Function] =
    &[allocate("mallocx", 0), reallocate("rallocx", 0, 1), free("dallocx"), free("sdallocx")];

/// gperftools' names of its functions (gperftools/tcmalloc.h).
pub const TCMALLOC: &[Function] = &[
    allocate("tc_malloc", 0),
    allocate("tc_malloc_skip_new_handler", 0),
    array("tc_calloc", 0, 1),
    reallocate("tc_realloc", 0, 1),
    store("tc_posix_memalign"),
    allocate("tc_memalign", 1),
    allocate("tc_valloc", 0),
    allocate("tc_pvalloc", 0),
    new("tc_new"),
    new("tc_newarray"),
    allocate("tc_new_nothrow", 0),
    allocate("tc_newarray_nothrow", 0),
    new("tc_new_aligned"),
    new("tc_newarray_aligned"),
    free("tc_free"),
    free("tc_cfree"),
    free("tc_free_sized"),
    free("tc_delete"),
    free("tc_deletearray"),
    free("tc_delete_sized"),
    free("tc_deletearray_sized"),
    free("tc_delete_aligned"),
    free("tc_deletearray_aligned"),
];

/// Google's tcmalloc has further forms of `operator new` (tcmalloc/new_extension.h), and one that also returns the size. Its own names
/// (tcmalloc/libc_override.h) are other names of C's functions and the operators where these are not left out, and those with
/// `Bridge` are of the Rust crate `libtcmalloc-sys`.
pub const GOOGLE: &[Function] = &[
    new("_Znwm12__hot_cold_t"),
    new("_Znam12__hot_cold_t"),
    allocate("_ZnwmRKSt9nothrow_t12__hot_cold_t", 0),
    allocate("_ZnamRKSt9nothrow_t12__hot_cold_t", 0),
    new("_ZnwmSt11align_val_t12__hot_cold_t"),
    new("_ZnamSt11align_val_t12__hot_cold_t"),
    new("__size_returning_new"),
    free("sdallocx"),
    allocate("TCMallocInternalMalloc", 0),
    array("TCMallocInternalCalloc", 0, 1),
    reallocate("TCMallocInternalRealloc", 0, 1),
    store("TCMallocInternalPosixMemalign"),
    allocate("TCMallocInternalAlignedAlloc", 1),
    allocate("TCMallocInternalMemalign", 1),
    new("TCMallocInternalNew"),
    allocate("TCMallocInternalNewNothrow", 0),
    new("TCMallocInternalNewArray"),
    allocate("TCMallocInternalNewArrayNothrow", 0),
    new("TCMallocInternalNewAligned"),
    allocate("TCMallocInternalNewAlignedNothrow", 0),
    new("TCMallocInternalNewArrayAligned"),
    allocate("TCMallocInternalNewArrayAlignedNothrow", 0),
    allocate("BridgeTCMallocInternalNewAlignedNothrow", 0),
    allocate("TCMallocInternalNewAlignedNothrowBridge", 0),
    reallocate("BridgeReallocAligned", 0, 1),
    free("TCMallocInternalFree"),
    free("TCMallocInternalFreeSized"),
    free("TCMallocInternalFreeAlignedSized"),
    free("TCMallocInternalSdallocx"),
    free("TCMallocInternalDelete"),
    free("TCMallocInternalDeleteArray"),
    free("TCMallocInternalDeleteSized"),
    free("TCMallocInternalDeleteArraySized"),
    free("TCMallocInternalDeleteAligned"),
    free("TCMallocInternalDeleteArrayAligned"),
    free("TCMallocInternalDeleteSizedAligned"),
    free("TCMallocInternalDeleteArraySizedAligned"),
];

/// mimalloc's own interface (mimalloc.h).
pub const MIMALLOC: &[Function] = &[
    allocate("mi_malloc", 0),
    allocate("mi_zalloc", 0),
    allocate("mi_malloc_small", 0),
    allocate("mi_zalloc_small", 0),
    array("mi_calloc", 0, 1),
    array("mi_mallocn", 0, 1),
    reallocate("mi_realloc", 0, 1),
    reallocate("mi_reallocf", 0, 1),
    reallocate("mi_rezalloc", 0, 1),
    reallocate_array("mi_reallocn", 0, 1, 2),
    reallocate_array("mi_reallocarray", 0, 1, 2),
    reallocate_array("mi_recalloc", 0, 1, 2),
    allocate("mi_malloc_aligned", 0),
    allocate("mi_zalloc_aligned", 0),
    allocate("mi_malloc_aligned_at", 0),
    allocate("mi_zalloc_aligned_at", 0),
    array("mi_calloc_aligned", 0, 1),
    array("mi_calloc_aligned_at", 0, 1),
    reallocate("mi_realloc_aligned", 0, 1),
    reallocate("mi_realloc_aligned_at", 0, 1),
    reallocate("mi_rezalloc_aligned", 0, 1),
    reallocate("mi_rezalloc_aligned_at", 0, 1),
    reallocate_array("mi_recalloc_aligned", 0, 1, 2),
    reallocate_array("mi_recalloc_aligned_at", 0, 1, 2),
    reallocate_array("mi_aligned_recalloc", 0, 1, 2),
    reallocate_array("mi_aligned_offset_recalloc", 0, 1, 2),
    store("mi_posix_memalign"),
    allocate("mi_memalign", 1),
    allocate("mi_aligned_alloc", 1),
    allocate("mi_valloc", 0),
    allocate("mi_pvalloc", 0),
    new("mi_new"),
    new("mi_new_aligned"),
    allocate("mi_new_nothrow", 0),
    allocate("mi_new_aligned_nothrow", 0),
    throwing(array("mi_new_n", 0, 1)),
    throwing(reallocate("mi_new_realloc", 0, 1)),
    throwing(reallocate_array("mi_new_reallocn", 0, 1, 2)),
    allocate("mi_heap_malloc", 1),
    allocate("mi_heap_zalloc", 1),
    allocate("mi_heap_malloc_small", 1),
    array("mi_heap_calloc", 1, 2),
    array("mi_heap_mallocn", 1, 2),
    throwing(allocate("mi_heap_alloc_new", 1)),
    throwing(array("mi_heap_alloc_new_n", 1, 2)),
    reallocate("mi_heap_realloc", 1, 2),
    reallocate("mi_heap_reallocf", 1, 2),
    reallocate("mi_heap_rezalloc", 1, 2),
    reallocate_array("mi_heap_reallocn", 1, 2, 3),
    reallocate_array("mi_heap_recalloc", 1, 2, 3),
    allocate("mi_heap_malloc_aligned", 1),
    allocate("mi_heap_malloc_aligned_at", 1),
    allocate("mi_heap_zalloc_aligned", 1),
    allocate("mi_heap_zalloc_aligned_at", 1),
    array("mi_heap_calloc_aligned", 1, 2),
    array("mi_heap_calloc_aligned_at", 1, 2),
    reallocate("mi_heap_realloc_aligned", 1, 2),
    reallocate("mi_heap_realloc_aligned_at", 1, 2),
    reallocate("mi_heap_rezalloc_aligned", 1, 2),
    reallocate("mi_heap_rezalloc_aligned_at", 1, 2),
    reallocate_array("mi_heap_recalloc_aligned", 1, 2, 3),
    reallocate_array("mi_heap_recalloc_aligned_at", 1, 2, 3),
    // Version 3: heaps of threads, and forms that also return a block's usable size.
    allocate("mi_theap_malloc", 1),
    allocate("mi_theap_malloc_small", 1),
    allocate("mi_theap_malloc_aligned", 1),
    allocate("mi_theap_zalloc", 1),
    allocate("mi_theap_zalloc_small", 1),
    array("mi_theap_calloc", 1, 2),
    reallocate("mi_theap_realloc", 1, 2),
    allocate("mi_umalloc", 0),
    allocate("mi_umalloc_small", 0),
    allocate("mi_umalloc_aligned", 0),
    allocate("mi_uzalloc_small", 0),
    allocate("mi_uzalloc_aligned", 0),
    array("mi_ucalloc", 0, 1),
    reallocate("mi_urealloc", 0, 1),
    free("mi_ufree"),
    free("mi_free"),
    free("mi_free_small"),
    free("mi_cfree"),
    free("mi_free_size"),
    free("mi_free_size_aligned"),
    free("mi_free_aligned"),
];

/// snmalloc's functions for Rust (snmalloc's src/snmalloc/override/rust.cc), and its C functions under their own prefix.
pub const SNMALLOC: &[Function] = &[
    allocate("sn_rust_alloc", 1),
    allocate("sn_rust_alloc_zeroed", 1),
    reallocate("sn_rust_realloc", 0, 3),
    free("sn_rust_dealloc"),
    allocate("sn_malloc", 0),
    array("sn_calloc", 0, 1),
    reallocate("sn_realloc", 0, 1),
    allocate("sn_aligned_alloc", 1),
    allocate("sn_memalign", 1),
    store("sn_posix_memalign"),
    free("sn_free"),
];

/// rpmalloc's own interface (rpmalloc.h).
pub const RPMALLOC: &[Function] = &[
    allocate("rpmalloc", 0),
    allocate("rpzalloc", 0),
    array("rpcalloc", 0, 1),
    reallocate("rprealloc", 0, 1),
    reallocate("rpaligned_realloc", 0, 2),
    allocate("rpaligned_alloc", 1),
    allocate("rpaligned_zalloc", 1),
    array("rpaligned_calloc", 1, 2),
    allocate("rpmemalign", 1),
    store("rpposix_memalign"),
    free("rpfree"),
];

/// scudo's C functions under its prefix, as the Rust crate `scudo` uses them.
pub const SCUDO: &[Function] = &[
    allocate("scudo_malloc", 0),
    array("scudo_calloc", 0, 1),
    reallocate("scudo_realloc", 0, 1),
    store("scudo_posix_memalign"),
    allocate("scudo_memalign", 1),
    allocate("scudo_aligned_alloc", 1),
    free("scudo_free"),
];

/// dlmalloc's functions under its prefix (`USE_DL_PREFIX`).
pub const DLMALLOC: &[Function] = &[
    allocate("dlmalloc", 0),
    array("dlcalloc", 0, 1),
    reallocate("dlrealloc", 0, 1),
    store("dlposix_memalign"),
    allocate("dlmemalign", 1),
    allocate("dlvalloc", 0),
    allocate("dlpvalloc", 0),
    free("dlfree"),
];
