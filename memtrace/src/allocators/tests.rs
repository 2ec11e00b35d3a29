mod left;

use std::{path::Path, sync::LazyLock};

use object::elf as consts;

use super::table::{ALLOCATORS, C, PREFIXED};
use super::{Choice, Error, Found, ReturnProbes, Search, find};
use crate::elf::Image;
use crate::elf::fixture::{CODE_ADDRESS, CODE_OFFSET, Fixture, Sym, damaged, function};
use crate::model::{ArgLayout, Results, Role, Site};

const PATH: &str = "/proc/1/map_files/7f00-7f01";

fn search(path: &Path, returns: ReturnProbes) -> Search<'_> {
    static ALL: LazyLock<Choice> = LazyLock::new(Choice::default);
    Search { path, name: path.to_str().unwrap(), debug: None, returns, choice: &ALL }
}

fn find_by(fixture: &Fixture, returns: ReturnProbes) -> Result<Found, Error> {
    find(&fixture.image(), search(Path::new(PATH), returns))
}

fn find_in(fixture: &Fixture) -> Result<Found, Error> {
    find_by(fixture, ReturnProbes::Safe)
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
fn operators_are_probed_where_they_do_their_own_work() {
    let functions = |marker, operators: &[u8]| {
        let more = vec![
            function("_Znwm", CODE_ADDRESS + 0x20, 0x10),
            function("_ZdlPv", CODE_ADDRESS + 0x30, 0x10),
            function(marker, CODE_ADDRESS + 0x60, 1),
        ];
        let mut fixture = library("lib.so", more);
        fixture.code[0x20..0x20 + operators.len()].copy_from_slice(operators);
        let found = find_in(&fixture).unwrap();
        found.specs.into_iter().map(|spec| spec.function).collect::<Vec<_>>()
    };
    let own = [0x55, 0x5d, 0xc3];
    assert_eq!(functions("tc_malloc", &own), ["malloc", "free", "_Znwm", "_ZdlPv", "tc_malloc"]);
    assert_eq!(functions("mallctl", &own), ["malloc", "free", "_Znwm"]);
    assert_eq!(functions("main", &own), ["malloc", "free", "_Znwm", "_ZdlPv"]);
    // jmp malloc; at 0x30: test %rdi,%rdi; je; jmp free; ret
    let mut wrappers = vec![0xcc; 0x20];
    wrappers[..2].copy_from_slice(&[0xeb, 0xee]);
    wrappers[0x10..0x18].copy_from_slice(&[0x48, 0x85, 0xff, 0x74, 0x02, 0xeb, 0xc9, 0xc3]);
    assert_eq!(functions("main", &wrappers), ["malloc", "free"]);
    // push; call malloc; pop; ret
    wrappers[..8].copy_from_slice(&[0x50, 0xe8, 0xea, 0xff, 0xff, 0xff, 0x59, 0xc3]);
    assert_eq!(functions("main", &wrappers), ["malloc", "free"]);
    // The same after a way out of its own: test %edi,%edi; jne over the ret
    wrappers[..12].copy_from_slice(&[0x85, 0xff, 0x75, 0x01, 0xc3, 0x50, 0xe8, 0xe5, 0xff, 0xff, 0xff, 0x59]);
    wrappers[12] = 0xc3;
    assert_eq!(functions("main", &wrappers), ["malloc", "free", "_Znwm"]);
    // Of a known allocator only what frees is left out.
    assert_eq!(functions("tc_malloc", &wrappers), ["malloc", "free", "_Znwm", "tc_malloc"]);
}

/// A function under a name with a prefix, as jemalloc may be built.
#[test]
fn a_prefix_is_found_in_either_table() {
    let named = |names: [&'static str; 4]| {
        vec![
            function(names[0], CODE_ADDRESS + 0x60, 1),
            function(names[1], CODE_ADDRESS + 0x20, 0x10),
            function(names[2], CODE_ADDRESS + 0x30, 0x10),
            function(names[3], CODE_ADDRESS + 0x40, 0x10),
        ]
    };
    let with = |symtab| Fixture {
        symtab,
        dynsym: vec![],
        soname: None,
        kind: consts::ET_EXEC,
        ..library("", vec![])
    };
    let found = find_in(&with(named(["je_mallctl", "je_malloc", "je_free", "je_mallocx"]))).unwrap();
    assert_eq!(found.name, "jemalloc (je_)");
    let functions = |found: &Found| found.specs.iter().map(|spec| spec.function.clone()).collect::<Vec<_>>();
    assert_eq!(functions(&found), ["je_malloc", "je_free", "je_mallocx"]);
    assert!(find_in(&with(named(["mallctl2", "je_malloc", "je_free", "je_mallocx"]))).is_err());
    // Beside the C library's own, and exported.
    let mut both = library("lib.so", named(["_rjem_mallctl", "_rjem_malloc", "_rjem_free", "_rjem_mallocx"]));
    both.symtab = vec![function("_int_malloc", CODE_ADDRESS + 0x70, 1)];
    let found = find_in(&both).unwrap();
    assert_eq!(functions(&found), ["malloc", "free", "_rjem_malloc", "_rjem_free", "_rjem_mallocx"]);
    assert_eq!(found.name, "jemalloc (_rjem_)");
}

#[test]
fn an_allocator_may_be_called_by_its_own_names_only() {
    let more = vec![
        function("mi_malloc", CODE_ADDRESS + 0x20, 0x10),
        function("mi_free", CODE_ADDRESS + 0x30, 0x10),
        function("_int_malloc", CODE_ADDRESS + 0x70, 1),
    ];
    let found = find_in(&library("lib.so", more)).unwrap();
    let functions: Vec<_> = found.specs.iter().map(|spec| spec.function.as_str()).collect();
    assert_eq!(functions, ["malloc", "free", "mi_malloc", "mi_free"]);
    assert!(found.specs.iter().all(|spec| spec.results == Results::AtReturn));
}

#[test]
fn a_debug_file_has_the_symbols_of_a_stripped_program() {
    let whole = Fixture { soname: None, kind: consts::ET_EXEC, ..library("", vec![]) };
    let debug = Fixture { symtab: whole.dynsym.clone(), dynsym: vec![], ..whole.clone() };
    let stripped = Fixture { dynsym: vec![], ..whole };
    assert!(find_in(&stripped).is_err());
    let (image, debug) = (stripped.image(), debug.image());
    let search = Search { debug: Some(&debug), ..search(Path::new(PATH), ReturnProbes::Safe) };
    assert_eq!(short(&find(&image, search).unwrap()).len(), 2);
}

#[test]
fn a_local_function_does_not_count_if_its_name_is_imported() {
    let local = |name, at| (name, CODE_ADDRESS + at, 0x10, consts::STB_LOCAL << 4 | consts::STT_FUNC, 1);
    let import = |name| (name, 0, 0, consts::STB_GLOBAL << 4 | consts::STT_FUNC, 0);
    let symtab = vec![local("malloc", 0x10), local("free", 0)];
    let own = Fixture { symtab: symtab.clone(), ..library("lib.so", vec![]) };
    let with = |dynsym| find_in(&Fixture { dynsym, ..own.clone() });
    assert!(with(vec![]).is_ok());
    assert!(with(vec![import("malloc"), import("free")]).is_err());
}

#[test]
fn what_the_user_names_is_probed() {
    let more = vec![
        function("pool_get", CODE_ADDRESS + 0x20, 0x10),
        function("pool_put", CODE_ADDRESS + 0x30, 0x10),
        function("my_malloc", CODE_ADDRESS + 0x40, 0x10),
        function("my_free", CODE_ADDRESS + 0x50, 0x10),
    ];
    let mut fixture = library("lib.so", more);
    fixture.code[0x40..0x43].copy_from_slice(&[0x55, 0x5d, 0xc3]);
    let functions = |choice: &Choice| {
        let search = Search { choice, ..search(Path::new(PATH), ReturnProbes::Safe) };
        find(&fixture.image(), search)
            .map(|found| found.specs.into_iter().map(|spec| spec.function).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let pool =
        || vec![super::parse_allocating("pool_get").unwrap(), super::parse_freeing("pool_put").unwrap()];
    let choice = Choice { functions: pool(), ..Choice::default() };
    assert_eq!(functions(&choice), ["pool_get", "pool_put", "malloc", "free"]);
    let prefix = Choice { prefixes: vec!["my_".to_owned()], ..Choice::default() };
    assert_eq!(functions(&prefix), ["malloc", "free", "my_malloc", "my_free"]);
    assert_eq!(functions(&Choice { only_named: true, ..prefix }), ["my_malloc", "my_free"]);
    let other = Choice { allocators: vec!["jemalloc".to_owned()], ..Choice::default() };
    assert_eq!(functions(&other), [""; 0]);
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
    let groups = |row: &super::table::Allocator| row.all().copied().collect::<Vec<_>>();
    let prefixed = |row: &super::table::Prefixed| row.functions.concat();
    for functions in ALLOCATORS.iter().map(groups).chain(PREFIXED.iter().map(prefixed)) {
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
        let found = find_by(&fixture, returns).unwrap();
        let with_exits = found.specs.into_iter().filter(|spec| spec.results != Results::AtReturn);
        with_exits.map(|spec| spec.function).collect::<Vec<_>>()
    };
    assert_eq!(results("mallctl", ReturnProbes::Safe), ["_Znwm"]);
    assert_eq!(results("mallctl", ReturnProbes::Fewest), ["malloc", "_Znwm", "_ZnwmRKSt9nothrow_t"]);
    // An unknown function.
    assert_eq!(results("main", ReturnProbes::Safe), ["malloc", "_Znwm", "_ZnwmRKSt9nothrow_t"]);
    assert_eq!(results("gnu_get_libc_version", ReturnProbes::Safe), [""; 0]);
    // A C library linked in, and operators of others.
    assert_eq!(results("_int_malloc", ReturnProbes::Safe), ["_Znwm", "_ZnwmRKSt9nothrow_t"]);
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
    let found = find(&image, search(path, ReturnProbes::Safe)).unwrap();
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
    let result = find(&Image::open(&this).unwrap(), search(&this, ReturnProbes::Safe));
    assert!(matches!(result, Err(Error::NoAllocator { allocating: 0, freeing: 0, .. })), "{result:?}");
}

#[test]
fn damaged_files_are_errors_at_worst() {
    let more = vec![function("gnu_get_libc_version", CODE_ADDRESS + 0x60, 0x10)];
    damaged(&library("libc.so.6", more).bytes(), 4000, |file| {
        if let Ok(image) = Image::from_file(file)
            && let Ok(found) = find(&image, search(Path::new(PATH), ReturnProbes::Safe))
        {
            assert!(found.specs.iter().all(|spec| image.offset_to_vaddr(spec.offset).is_some()));
        }
    });
}
