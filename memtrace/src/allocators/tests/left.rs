//! What linkers leave of an allocator.

use object::elf as consts;

use super::{find_in, library};
use crate::elf::fixture::{CODE_ADDRESS, Fixture, Sym, function};

/// What linkers leave of static libraries in Rust programs: no marker.
#[test]
fn the_functions_that_a_linker_leaves_tell_the_allocator() {
    for (name, left) in
        [("mimalloc", ["mi_zalloc_aligned", "mi_malloc_aligned", "mi_realloc_aligned", "mi_free"])]
    {
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
