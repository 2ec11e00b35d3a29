//! Which allocators are known, how they are recognized, and what to probe in them. Rows, not code.
//!
//! Wrappers are omitted deliberately: a probe on a function that ends in a probed one costs a second trap and
//! counts a free twice. So `strdup`, `getline` and the like are not here, and `reallocarray` and C++'s operators are probed only
//! in files where they do their own work: always in allocators that inline them (see the rows), in any other file if
//! their code shows it. `malloc_usable_size` and jemalloc's `xallocx` neither make nor free a block.

pub use super::functions::{ARRAY, C, C_REALLOC, CXX_DELETE, CXX_DELETE_SIZED, CXX_NEW, Function};
use super::functions::{
    DLMALLOC, GOOGLE, JEMALLOC, LIBC_REALLOC, MAPPING, MIMALLOC, RPMALLOC, SCUDO, SNMALLOC, TCMALLOC,
};

/// An allocator that is known by name.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// Its name in reports.
    pub name: &'static str,
    /// Functions that only this allocator's files define, or only those not matched by a row above: one suffices. Functions of
    /// `own` that allocate and free suffice too.
    pub markers: &'static [&'static str],
    /// Whether its library contains nothing else.
    pub is_alone: bool,
    /// Functions that it defines under names that others use too, in groups.
    pub functions: &'static [&'static [Function]],
    /// Functions under its own names. A file may have these beside another allocator's `malloc`.
    pub own: &'static [&'static [Function]],
}

impl Allocator {
    const PLAIN: Self = Self { name: "", markers: &[], is_alone: true, functions: &[], own: &[] };

    /// Every function of the row.
    pub fn all(&self) -> impl Iterator<Item = &'static Function> {
        self.functions.iter().chain(self.own).copied().flatten()
    }
}

/// C's functions, and every operator: an allocator that has inlined `malloc` into all of them.
const EVERYTHING: &[&[Function]] = &[C, C_REALLOC, ARRAY, CXX_NEW, CXX_DELETE_SIZED, CXX_DELETE];

/// The allocators known by name. The first row whose marker a file defines has the file's `malloc`; a file without any
/// marker is searched for [`C`], [`C_REALLOC`], [`ARRAY`] and the operators.
pub const ALLOCATORS: &[Allocator] = &[
    // Its `operator new` has malloc's fast path inlined. Of its deletes only the sized ones do their own
    // work: the plain ones are a jump to `free`, the sized aligned ones one to `sdallocx`.
    Allocator {
        name: "jemalloc",
        markers: &["mallctl"],
        functions: &[C, C_REALLOC, CXX_NEW, CXX_DELETE_SIZED],
        own: &[JEMALLOC],
        ..Allocator::PLAIN
    },
    // gperftools. Its operators have the fast paths inlined, new and delete alike.
    Allocator {
        name: "tcmalloc",
        markers: &["tc_malloc"],
        functions: EVERYTHING,
        own: &[TCMALLOC],
        ..Allocator::PLAIN
    },
    Allocator {
        name: "google tcmalloc",
        markers: &["TCMallocInternalMalloc", "MallocExtension_Internal_GetNumericProperty"],
        functions: EVERYTHING,
        own: &[GOOGLE],
        ..Allocator::PLAIN
    },
    // Its `malloc` and `operator new` have the fast path inlined, its own names are other names of these.
    Allocator {
        name: "mimalloc",
        markers: &["mi_malloc"],
        functions: EVERYTHING,
        own: &[MIMALLOC],
        ..Allocator::PLAIN
    },
    Allocator {
        name: "snmalloc",
        markers: &["sn_rust_alloc", "sn_malloc"],
        functions: EVERYTHING,
        own: &[SNMALLOC],
        ..Allocator::PLAIN
    },
    Allocator {
        name: "rpmalloc",
        markers: &["rpmalloc"],
        functions: EVERYTHING,
        own: &[RPMALLOC],
        ..Allocator::PLAIN
    },
    Allocator {
        name: "scudo",
        markers: &["__scudo_print_stats", "__scudo_set_rss_limit"],
        functions: EVERYTHING,
        own: &[SCUDO],
        ..Allocator::PLAIN
    },
    Allocator {
        name: "dlmalloc",
        markers: &["dlmalloc"],
        functions: EVERYTHING,
        own: &[DLMALLOC],
        ..Allocator::PLAIN
    },
    // Heap Layers: `malloc` and the operators call these.
    Allocator { name: "hoard", markers: &["xxmalloc"], functions: EVERYTHING, ..Allocator::PLAIN },
    // The interceptors of sanitizers, which have allocators of their own.
    Allocator {
        name: "AddressSanitizer",
        markers: &["__asan_init"],
        functions: EVERYTHING,
        ..Allocator::PLAIN
    },
    Allocator {
        name: "ThreadSanitizer",
        markers: &["__tsan_init"],
        functions: EVERYTHING,
        ..Allocator::PLAIN
    },
    Allocator { name: "LeakSanitizer", markers: &["__lsan_init"], functions: EVERYTHING, ..Allocator::PLAIN },
    Allocator {
        name: "MemorySanitizer",
        markers: &["__msan_init"],
        functions: EVERYTHING,
        ..Allocator::PLAIN
    },
    Allocator {
        name: "glibc",
        markers: &["gnu_get_libc_version"],
        is_alone: false,
        functions: &[C, LIBC_REALLOC, MAPPING],
        own: &[],
    },
    // glibc defines this too, in the same file as the row above's.
    Allocator {
        name: "musl",
        markers: &["__libc_start_main"],
        is_alone: false,
        functions: &[C, LIBC_REALLOC, MAPPING],
        own: &[],
    },
];

/// An allocator that is also built with a prefix before all its names (`je_`, `_rjem_`): what follows the prefix tells it.
#[derive(Clone, Copy, Debug)]
pub struct Prefixed {
    /// Its name in reports.
    pub name: &'static str,
    /// What names that tell it end in. A linker may leave one of them only.
    pub markers: &'static [&'static str],
    /// Its functions, without the prefix.
    pub functions: &'static [&'static [Function]],
}

/// Prefixed allocators.
pub const PREFIXED: &[Prefixed] =
    &[Prefixed { name: "jemalloc", markers: &["mallctl", "sdallocx"], functions: &[C, C_REALLOC, JEMALLOC] }];
