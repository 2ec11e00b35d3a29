//! What linkers leave of an allocator.

use object::elf as consts;

use super::{find_in, library};
use crate::elf::fixture::{CODE_ADDRESS, Fixture, Sym, function};

/// What linkers leave of static libraries in Rust programs: no marker.
#[test]
fn the_functions_that_a_linker_leaves_tell_the_allocator() {
    for (name, left) in [
        ("mimalloc", ["mi_zalloc_aligned", "mi_malloc_aligned", "mi_realloc_aligned", "mi_free"]),
        ("rpmalloc", ["rpaligned_alloc", "rpaligned_calloc", "rpaligned_realloc", "rpfree"]),
        ("snmalloc", ["sn_rust_alloc_zeroed", "sn_calloc", "sn_rust_realloc", "sn_rust_dealloc"]),
        ("jemalloc", ["malloc", "mallocx", "rallocx", "sdallocx"]),
        ("tcmalloc", ["tc_new", "tc_memalign", "tc_realloc", "tc_delete_sized"]),
        (
            "google tcmalloc",
            [
                "BridgeTCMallocInternalNewAlignedNothrow",
                "TCMallocInternalNewAlignedNothrow",
                "BridgeReallocAligned",
                "TCMallocInternalDeleteSizedAligned",
            ],
        ),
        ("scudo", ["scudo_posix_memalign", "scudo_malloc", "scudo_realloc", "scudo_free"]),
        ("dlmalloc", ["dlcalloc", "dlmemalign", "dlrealloc", "dlfree"]),
    ] {
        let places = [0x20, 0x30, 0x40, 0x50];
        let dynsym = left.into_iter().zip(places).map(|(name, at)| function(name, CODE_ADDRESS + at, 0x10));
        let dynsym: Vec<Sym> = dynsym.collect();
        let program = |dynsym| Fixture {
            soname: None,
            interpreter: Some("/ld"),
            kind: consts::ET_EXEC,
            dynsym,
            ..library("", vec![])
        };
        let found = find_in(&program(dynsym.clone())).unwrap();
        assert_eq!(found.name, format!("{name} (static)"));
        let mut functions: Vec<_> = found.specs.iter().map(|spec| spec.function.as_str()).collect();
        functions.sort_unstable();
        let mut all = left;
        all.sort_unstable();
        assert_eq!(functions, all);
        // Without one that frees it is none.
        assert!(
            find_in(&program(dynsym.into_iter().filter(|symbol| symbol.0 != left[3]).collect())).is_err()
        );
    }
}

/// jemalloc with a prefix, from which a Rust program uses the extended functions only.
#[test]
fn a_prefix_is_found_by_what_is_left() {
    let of = |freeing| {
        let dynsym = vec![
            function("_rjem_mallocx", CODE_ADDRESS + 0x20, 0x10),
            function(freeing, CODE_ADDRESS + 0x30, 0x10),
        ];
        find_in(&Fixture { soname: None, kind: consts::ET_EXEC, dynsym, ..library("", vec![]) })
    };
    let found = of("_rjem_sdallocx").unwrap();
    assert_eq!(found.name, "jemalloc (_rjem_)");
    assert_eq!(found.specs.len(), 2);
    assert!(of("_rjem_nosdallocx").is_err());
}
