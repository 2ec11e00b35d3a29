use std::path::Path;

use object::elf as consts;

use super::{ALLOCATORS, C, Error, Found, ReturnProbes, find};
use crate::elf::Image;
use crate::elf::fixture::{CODE_ADDRESS, CODE_OFFSET, Fixture, Sym, damaged, function};
use crate::model::{ArgLayout, Results, Role, Site};

const PATH: &str = "/proc/1/map_files/7f00-7f01";

fn find_in(fixture: &Fixture) -> Result<Found, Error> {
    find(&fixture.image(), Path::new(PATH), PATH, ReturnProbes::Safe)
}

/// free at 0: `test; je; push; …`, malloc at 0x10: `endbr64; push; pop; ret`, calloc at 0x20: `push; pop; ret`.
fn library(soname: &'static str, more: Vec<Sym>) -> Fixture {
    let mut code = vec![0xc3; 0x100];
    code[..6].copy_from_slice(&[0x48, 0x85, 0xff, 0x74, 0x05, 0x55]);
    code[0x10..0x17].copy_from_slice(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x5d, 0xc3]);
    code[0x20..0x23].copy_from_slice(&[0x55, 0x5d, 0xc3]);
    let mut dynsym = vec![
        function("free", CODE_ADDRESS, 0x10),
        function("cfree", CODE_ADDRESS, 0x10),
        function("malloc", CODE_ADDRESS + 0x10, 0x10),
    ];
    dynsym.extend(more);
    Fixture { soname: Some(soname), dynsym, code, ..Fixture::default() }
}

fn short(found: &Found) -> Vec<(&str, u64, Site)> {
    found.specs.iter().map(|spec| (spec.function.as_str(), spec.offset - CODE_OFFSET, spec.site)).collect()
}

#[test]
fn each_address_is_probed_once_at_its_site() {
    let more = vec![
        function("memalign", CODE_ADDRESS + 0x20, 0x10),
        function("aligned_alloc", CODE_ADDRESS + 0x20, 0x10),
        function("reallocarray", CODE_ADDRESS + 0x30, 0x10),
        function("strdup", CODE_ADDRESS + 0x40, 0x10),
        function("_Znwm", CODE_ADDRESS + 0x50, 0x10),
        function("gnu_get_libc_version", CODE_ADDRESS + 0x60, 0x10),
        function("__libc_start_main", CODE_ADDRESS + 0x70, 0x10),
    ];
    let found = find_in(&library("libc.so.6", more)).unwrap();
    assert_eq!(found.name, "glibc");
    assert_eq!(
        short(&found),
        [
            ("malloc", 0x14, Site { delta: 4, emulated: true }),
            ("aligned_alloc", 0x20, Site { delta: 0, emulated: true }),
            ("free", 5, Site { delta: 5, emulated: true }),
        ]
    );
    assert_eq!(found.notes, [""; 0]);
    assert!(found.specs.iter().all(|spec| spec.file == Path::new(PATH)));
    let layout = ArgLayout { size: 1, count: None, old: None, out: None, delegates: false };
    assert_eq!(found.specs[1].role, Role::Allocate(layout));
}

#[test]
fn names_tell_the_allocator_and_how_it_is_linked() {
    let marked = |soname, marker| library(soname, vec![function(marker, CODE_ADDRESS + 0x40, 1)]);
    let name = |fixture: &Fixture| find_in(fixture).unwrap().name;
    assert_eq!(name(&marked("libc.musl-x86_64.so.1", "__libc_start_main")), "musl");
    assert_eq!(name(&marked("libjemalloc.so.2", "mallctl")), "jemalloc");
    assert_eq!(name(&marked("libtcmalloc.so.4", "tc_malloc")), "tcmalloc");
    assert_eq!(name(&library("libhoard.so", vec![])), "libhoard.so");
    assert_eq!(name(&library("evil\x1b[2J", vec![])), "7f00-7f01");
    let program = |marker, interpreter| Fixture {
        soname: None,
        interpreter,
        kind: consts::ET_EXEC,
        ..marked("", marker)
    };
    assert_eq!(name(&program("mallctl", Some("/ld"))), "jemalloc (static)");
    assert_eq!(name(&program("gnu_get_libc_version", None)), "libc (static)");
    assert_eq!(name(&program("main", None)), "libc (static)");
    assert_eq!(name(&program("main", Some("/ld"))), "malloc (static)");
}

#[test]
fn a_static_program_is_found_by_its_symtab() {
    let library = library("", vec![]);
    let program = Fixture {
        symtab: library.dynsym.clone(),
        dynsym: vec![],
        soname: None,
        kind: consts::ET_EXEC,
        ..library
    };
    assert_eq!(short(&find_in(&program).unwrap()).len(), 2);
}

#[test]
fn operators_are_probed_only_in_allocators_that_inline_them() {
    let more =
        || vec![function("_Znwm", CODE_ADDRESS + 0x20, 0x10), function("_ZdlPv", CODE_ADDRESS + 0x30, 0x10)];
    let functions = |marker| {
        let mut more = more();
        more.push(function(marker, CODE_ADDRESS + 0x60, 1));
        let found = find_in(&library("lib.so", more)).unwrap();
        found.specs.into_iter().map(|spec| spec.function).collect::<Vec<_>>()
    };
    assert_eq!(functions("tc_malloc"), ["malloc", "free", "_Znwm", "_ZdlPv"]);
    assert_eq!(functions("mallctl"), ["malloc", "free", "_Znwm"]);
    assert_eq!(functions("main"), ["malloc", "free"]);
}

#[test]
fn one_function_of_each_kind_is_mandatory() {
    // push; pop; ret
    let code = [vec![0x55, 0x5d], vec![0xc3; 0x100]].concat();
    let with = |dynsym| Fixture { dynsym, code: code.clone(), ..Fixture::default() };
    let malloc = function("malloc", CODE_ADDRESS, 3);
    let valloc = function("valloc", CODE_ADDRESS, 3);
    let cfree = function("cfree", CODE_ADDRESS + 3, 1);
    assert!(matches!(find_in(&with(vec![])), Err(Error::NoAllocator { allocating: 0, freeing: 0, .. })));
    assert!(matches!(
        find_in(&with(vec![malloc])),
        Err(Error::NoAllocator { allocating: 1, freeing: 0, .. })
    ));
    assert!(matches!(find_in(&with(vec![cfree])), Err(Error::NoAllocator { allocating: 0, freeing: 1, .. })));
    assert_eq!(find_in(&with(vec![valloc, cfree])).unwrap().specs.len(), 2);
}

#[test]
fn the_loader_is_left_alone() {
    let result = find_in(&library("ld-linux-x86-64.so.2", vec![]));
    assert!(matches!(result, Err(Error::Loader { .. })), "{result:?}");
}

#[test]
fn what_cannot_be_probed_is_noted() {
    let ifunc = consts::STB_GLOBAL << 4 | consts::STT_GNU_IFUNC;
    let more = vec![
        ("calloc", CODE_ADDRESS + 0x20, 8, ifunc, 1),
        function("realloc", 0x10, 8),
        function("valloc", CODE_ADDRESS, 8),
        function("free_sized", CODE_ADDRESS + 0x30, 8),
    ];
    let found = find_in(&library("lib.so", more)).unwrap();
    assert_eq!(
        found.notes,
        [
            "calloc is an indirect function (IFUNC)",
            "free is the same code as valloc and counted as that",
            "cfree is the same code as valloc and counted as that",
            "realloc is in no executable segment",
        ]
    );
}

#[test]
fn an_unknown_length_allows_the_entry_only() {
    let marker = function("mallctl", CODE_ADDRESS + 0x60, 1);
    let mut fixture = library("lib.so", vec![]);
    fixture.dynsym =
        vec![function("free", CODE_ADDRESS, 0), function("malloc", CODE_ADDRESS + 0x20, 0), marker];
    let found = find_in(&fixture).unwrap();
    let sites: Vec<_> = found.specs.iter().map(|spec| spec.site).collect();
    assert_eq!(sites, [Site { delta: 0, emulated: true }, Site { delta: 0, emulated: false }]);
}

#[test]
fn aarch64_is_probed_at_the_entry() {
    let marker = vec![function("gnu_get_libc_version", CODE_ADDRESS + 0x60, 0x10)];
    let fixture = Fixture { machine: consts::EM_AARCH64, ..library("libc.so.6", marker) };
    assert!(find_in(&fixture).unwrap().specs.iter().all(|spec| spec.site.delta == 0));
}

#[test]
fn the_table_is_sound() {
    for row in ALLOCATORS {
        let functions: Vec<_> = row.functions.iter().copied().flatten().collect();
        for (index, function) in functions.iter().enumerate() {
            assert!(
                functions[..index].iter().all(|other| other.symbol != function.symbol),
                "{}",
                function.symbol
            );
            if let Role::Allocate(layout) = function.role {
                let numbers = [Some(layout.size), layout.count, layout.old, layout.out];
                assert!(numbers.iter().flatten().all(|number| *number <= 5), "{}", function.symbol);
            }
        }
        assert!(C.iter().all(|wanted| functions.iter().any(|function| function.symbol == wanted.symbol)));
    }
    for wrapper in ["reallocarray", "strdup"] {
        assert!(!super::wanted_names().contains(&wrapper));
    }
}

#[test]
fn what_may_be_left_by_an_exception_has_no_return_probe() {
    let new = || {
        vec![
            function("_Znwm", CODE_ADDRESS + 0x20, 0x10),
            function("_ZnwmRKSt9nothrow_t", CODE_ADDRESS + 0x30, 0x10),
        ]
    };
    let results = |marker, returns| {
        let mut more = new();
        more.push(function(marker, CODE_ADDRESS + 0x60, 1));
        let mut fixture = library("lib.so", more);
        fixture.code[0x30..0x33].copy_from_slice(&[0x55, 0x5d, 0xc3]);
        let found = find(&fixture.image(), Path::new(PATH), PATH, returns).unwrap();
        let with_exits = found.specs.into_iter().filter(|spec| spec.results != Results::AtReturn);
        with_exits.map(|spec| spec.function).collect::<Vec<_>>()
    };
    assert_eq!(results("mallctl", ReturnProbes::Safe), ["_Znwm"]);
    assert_eq!(results("mallctl", ReturnProbes::Fewest), ["malloc", "_Znwm", "_ZnwmRKSt9nothrow_t"]);
    // An unknown function.
    assert_eq!(results("main", ReturnProbes::Safe), ["malloc"]);
    assert_eq!(results("gnu_get_libc_version", ReturnProbes::Safe), [""; 0]);
    assert_eq!(results("_int_malloc", ReturnProbes::Safe), [""; 0]);
    assert_eq!(results("main", ReturnProbes::Everywhere), [""; 0]);
}

#[test]
fn what_is_not_understood_and_may_not_have_a_return_probe_is_left_out() {
    // jmp *%rax
    let mut fixture = library("lib.so", vec![function("realloc", CODE_ADDRESS + 0x40, 0x10)]);
    fixture.code[0x40..0x43].copy_from_slice(&[0x50, 0xff, 0xe0]);
    let found = find_in(&fixture).unwrap();
    assert_eq!(found.left_out, ["realloc (it jumps through a table or a pointer)"]);
    assert!(found.specs.iter().all(|spec| spec.function != "realloc"));
    fixture.dynsym.push(function("mallctl", CODE_ADDRESS + 0x60, 1));
    assert_eq!(find_in(&fixture).unwrap().left_out, [""; 0]);
}

/// The machine's own C library, whichever it is.
#[test]
fn finds_the_allocator_of_this_process() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let libc = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .find(|path| path.ends_with("/libc.so.6"));
    let Some(path) = libc.map(Path::new) else { return };
    let image = Image::open(path).unwrap();
    let found = find(&image, path, "libc.so.6", ReturnProbes::Safe).unwrap();
    assert_eq!((found.name.as_str(), found.notes.len()), ("glibc", 0));
    for name in ["malloc", "calloc", "realloc", "posix_memalign", "free"] {
        let spec = found.specs.iter().find(|spec| spec.function == name).unwrap();
        let entry = image.offset_to_vaddr(spec.offset - spec.site.delta).unwrap();
        let symbols = image.symbols(&[name]).unwrap();
        assert!(
            symbols.iter().any(|symbol| symbol.address == entry && spec.site.delta < symbol.size),
            "{name}"
        );
    }
    let this = std::env::current_exe().unwrap();
    let result = find(&Image::open(&this).unwrap(), &this, "this", ReturnProbes::Safe);
    assert!(matches!(result, Err(Error::NoAllocator { allocating: 0, freeing: 0, .. })), "{result:?}");
}

#[test]
fn damaged_files_are_errors_at_worst() {
    let more = vec![function("gnu_get_libc_version", CODE_ADDRESS + 0x60, 0x10)];
    damaged(&library("libc.so.6", more).bytes(), 4000, |file| {
        if let Ok(image) = Image::from_file(file)
            && let Ok(found) = find(&image, Path::new(PATH), PATH, ReturnProbes::Safe)
        {
            assert!(found.specs.iter().all(|spec| image.offset_to_vaddr(spec.offset).is_some()));
        }
    });
}
