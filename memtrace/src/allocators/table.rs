//! Which functions allocate and free memory. Rows, not code.
//!
//! Wrappers are omitted deliberately: a probe on a function that ends in a probed one costs a second trap and
//! counts a free twice. So `reallocarray` is not here (in glibc and musl it ends in `realloc`), nor `strdup`,
//! `getline` and the like, nor libstdc++'s `operator new`, which ends in `malloc`. `malloc_usable_size` and
//! jemalloc's `xallocx` neither make nor free a block.

use crate::model::{ArgLayout, Mapping, Role};

/// A function to probe if a file defines it.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its symbol.
    pub symbol: &'static str,
    /// What it does, and with which arguments.
    pub role: Role,
}

/// An allocator that is known by name.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// Its name in reports.
    pub name: &'static str,
    /// A function that only this allocator's files define, or only those not matched by a row above.
    pub marker: &'static str,
    /// Whether its library contains nothing else.
    pub is_alone: bool,
    /// Its functions, in groups.
    pub functions: &'static [&'static [Function]],
}

const fn allocate(symbol: &'static str, size: u8) -> Function {
    Function {
        symbol,
        role: Role::Allocate(ArgLayout { size, count: None, old: None, out: None, delegates: false }),
    }
}

const fn reallocate(symbol: &'static str, old: u8, size: u8) -> Function {
    Function {
        symbol,
        role: Role::Allocate(ArgLayout { size, count: None, old: Some(old), out: None, delegates: false }),
    }
}

const fn free(symbol: &'static str) -> Function {
    Function { symbol, role: Role::Free }
}

const REALLOC: ArgLayout = ArgLayout { size: 1, count: None, old: Some(0), out: None, delegates: false };

/// C's `realloc`.
pub const C_REALLOC: &[Function] = &[Function { symbol: "realloc", role: Role::Allocate(REALLOC) }];

/// Without a block, those of glibc and musl call or jump to `malloc`.
const LIBC_REALLOC: &[Function] =
    &[Function { symbol: "realloc", role: Role::Allocate(ArgLayout { delegates: true, ..REALLOC }) }];

/// Further functions of C, POSIX and tradition. Their arguments are the same in all libraries.
pub const C: &[Function] = &[
    allocate("malloc", 0),
    Function {
        symbol: "calloc",
        role: Role::Allocate(ArgLayout { size: 1, count: Some(0), old: None, out: None, delegates: false }),
    },
    Function {
        symbol: "posix_memalign",
        role: Role::Allocate(ArgLayout { size: 2, count: None, old: None, out: Some(0), delegates: false }),
    },
    allocate("aligned_alloc", 1),
    allocate("memalign", 1),
    allocate("valloc", 0),
    allocate("pvalloc", 0),
    free("free"),
    free("cfree"),
    free("free_sized"),
    free("free_aligned_sized"),
];

/// `operator new`, plain and array; nothrow; aligned; both.
const CXX_NEW: &[Function] = &[
    allocate("_Znwm", 0),
    allocate("_Znam", 0),
    allocate("_ZnwmRKSt9nothrow_t", 0),
    allocate("_ZnamRKSt9nothrow_t", 0),
    allocate("_ZnwmSt11align_val_t", 0),
    allocate("_ZnamSt11align_val_t", 0),
    allocate("_ZnwmSt11align_val_tRKSt9nothrow_t", 0),
    allocate("_ZnamSt11align_val_tRKSt9nothrow_t", 0),
];

/// `operator delete` with a size.
const CXX_DELETE_SIZED: &[Function] = &[free("_ZdlPvm"), free("_ZdaPvm")];

/// The other forms of `operator delete`.
const CXX_DELETE: &[Function] = &[
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

const fn map(symbol: &'static str, mapping: Mapping) -> Function {
    Function { symbol, role: Role::Map(mapping) }
}

/// Functions of a C library that map memory.
const MAPPING: &[Function] = &[
    map("mmap", Mapping::Map),
    map("mmap64", Mapping::Map),
    map("munmap", Mapping::Unmap),
    map("mremap", Mapping::Remap),
    map("sbrk", Mapping::Break),
];

/// jemalloc's own interface.
const JEMALLOC: &[Function] =
    &[allocate("mallocx", 0), reallocate("rallocx", 0, 1), free("dallocx"), free("sdallocx")];

/// The allocators known by name. The first row whose marker a file defines is the file's; a file without any
/// marker is searched for [`C`] and [`C_REALLOC`] alone.
pub const ALLOCATORS: &[Allocator] = &[
    // Its `operator new` has malloc's fast path inlined. Of its deletes only the sized ones do their own
    // work: the plain ones are a jump to `free`, the sized aligned ones one to `sdallocx`.
    Allocator {
        name: "jemalloc",
        marker: "mallctl",
        is_alone: true,
        functions: &[C, C_REALLOC, CXX_NEW, CXX_DELETE_SIZED, JEMALLOC],
    },
    // gperftools. Its operators have the fast paths inlined, new and delete alike.
    Allocator {
        name: "tcmalloc",
        marker: "tc_malloc",
        is_alone: true,
        functions: &[C, C_REALLOC, CXX_NEW, CXX_DELETE_SIZED, CXX_DELETE],
    },
    // Its `malloc` and `operator new` have the fast path inlined, its own names are other names of these.
    Allocator {
        name: "mimalloc",
        marker: "mi_malloc",
        is_alone: true,
        functions: &[C, C_REALLOC, CXX_NEW, CXX_DELETE_SIZED, CXX_DELETE],
    },
    Allocator {
        name: "glibc",
        marker: "gnu_get_libc_version",
        is_alone: false,
        functions: &[C, LIBC_REALLOC, MAPPING],
    },
    // glibc defines this too, in the same file as the row above's.
    Allocator {
        name: "musl",
        marker: "__libc_start_main",
        is_alone: false,
        functions: &[C, LIBC_REALLOC, MAPPING],
    },
];
