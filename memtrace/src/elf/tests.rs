use std::ffi::OsString;
use std::path::{Path, PathBuf};

use object::elf;

use super::debug::DebugLink;
use super::fixture::{CODE_ADDRESS, CODE_OFFSET, Fixture, damaged, file_of, function};
use super::symbols::Binding;
use super::{Error, Image, Machine, Segment, SymbolKind, debug_candidates, prologue};
use crate::model::{ArgLayout, Role};

const NAMES: [&str; 4] = ["malloc", "free", "cfree", "calloc"];

fn info(binding: u8, kind: u8) -> u8 {
    binding << 4 | kind
}

fn error_of(bytes: &[u8]) -> Error {
    Image::from_file(file_of(bytes)).unwrap_err()
}

#[test]
fn refuses_what_is_no_file_of_ours() {
    let good = Fixture::default().bytes();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert!(matches!(error_of(b""), Error::Empty));
    assert!(matches!(error_of(b"#!/bin/sh\necho hello\n"), Error::NotElf));
    assert!(matches!(error_of(&with(4, 1)), Error::NotLittle64 { class: 1, data: 1 }));
    assert!(matches!(error_of(&with(5, 2)), Error::NotLittle64 { class: 2, data: 2 }));
    assert!(matches!(error_of(&with(18, 243)), Error::Machine { machine: 243 }));
    assert!(matches!(error_of(&with(16, 1)), Error::Malformed(_)));
    assert!(matches!(error_of(&with(54, 55)), Error::Malformed(_)));
    assert!(matches!(error_of(&good[..40]), Error::Truncated { .. }));
    assert!(matches!(error_of(&good[..good.len() - 1]), Error::Truncated { what: "section headers", .. }));
    assert!(matches!(Image::open(Path::new("/")), Err(Error::NotRegular)));
    assert!(matches!(Image::open(Path::new("/dev/null")), Err(Error::NotRegular)));
    assert!(matches!(Image::open(Path::new("/nonexistent")), Err(Error::Open { .. })));
}

#[test]
fn refuses_a_pipe_without_waiting_for_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(Image::open(&path), Err(Error::NotRegular)));
}

#[test]
fn refuses_a_file_that_is_too_large() {
    let file = file_of(&Fixture::default().bytes());
    file.set_len(4 << 30).unwrap();
    assert!(Image::from_file(file.try_clone().unwrap()).is_ok());
    file.set_len((4 << 30) + 1).unwrap();
    assert!(matches!(Image::from_file(file), Err(Error::FileTooLarge { .. })));
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let fixture = Fixture { dynsym: vec![function("malloc", CODE_ADDRESS, 4)], ..Fixture::default() };
    let file = file_of(&fixture.bytes());
    let image = Image::from_file(file.try_clone().unwrap()).unwrap();
    file.set_len(64).unwrap();
    assert!(matches!(image.symbols(&NAMES), Err(Error::Read { .. })));
    assert!(matches!(image.code(CODE_ADDRESS, 4), Err(Error::Read { .. })));
}

#[test]
fn converts_addresses_through_the_executable_segment_only() {
    let image = Fixture::default().image();
    let segment =
        Segment { offset: CODE_OFFSET, address: CODE_ADDRESS, file_size: 0x100, memory_size: 0x100 };
    assert_eq!(image.segments(), [segment]);
    assert_eq!(image.vaddr_to_offset(CODE_ADDRESS + 0xff), Some(CODE_OFFSET + 0xff));
    assert_eq!(image.vaddr_to_offset(CODE_ADDRESS + 0x100), None);
    // The first, readable segment covers this one too.
    assert_eq!(image.vaddr_to_offset(0x1010), None);
    assert_eq!(image.offset_to_vaddr(CODE_OFFSET + 0x10), Some(CODE_ADDRESS + 0x10));
    assert_eq!(image.offset_to_vaddr(CODE_OFFSET - 1), None);
    assert_eq!(image.machine(), Machine::X86_64);
    let arm = Fixture { machine: elf::EM_AARCH64, ..Fixture::default() };
    assert_eq!(arm.image().machine(), Machine::Aarch64);
}

#[test]
fn bias_comes_from_the_mapping_of_the_executable_segment() {
    let mut image = Fixture::default().image();
    let bias = |image: &Image, start, pgoff| image.bias_with_page_size(start, pgoff, 0x1000);
    assert_eq!(bias(&image, 0x7f00_0000_3000, 0x1000), Some(0x7f00_0000_0000));
    // A program mapped where it was linked, and one below: the sum wraps.
    assert_eq!(bias(&image, 0x3000, 0x1000), Some(0));
    assert_eq!(bias(&image, 0x2000, 0x1000), Some(0x1000_u64.wrapping_neg()));
    assert_eq!(bias(&image, 0x7f00_0000_3000, 0), None);
    assert_eq!(bias(&image, 0x7f00_0000_3000, 0x2000), None);
    // lld: the segment begins inside a page, the kernel maps the page.
    image.segments =
        vec![Segment { offset: 0x1a40, address: 0x2a40, file_size: 0x5000, memory_size: 0x5000 }];
    assert_eq!(bias(&image, 0x7f00_0000_2000, 0x1000), Some(0x7f00_0000_0000));
    // The rest of a mapping that mprotect split.
    assert_eq!(bias(&image, 0x7f00_0000_4000, 0x3000), Some(0x7f00_0000_0000));
    assert_eq!(bias(&image, 0x7f00_0000_4000, 0x7000), None);
    // With larger pages.
    assert_eq!(image.bias_with_page_size(0x7f00_0000_1000, 0, 0x10000), Some(0x7f00_0000_0000));
    // Two segments that share a page: the mapping is the later one's.
    image.segments.push(Segment { offset: 0x6a40, address: 0x9a40, file_size: 0x100, memory_size: 0x100 });
    assert_eq!(bias(&image, 0x7f00_0000_9000, 0x6000), Some(0x7f00_0000_0000));
}

#[test]
fn finds_functions_and_leaves_out_the_rest() {
    let defined = info(elf::STB_GLOBAL, elf::STT_FUNC);
    let image = Fixture {
        dynsym: vec![
            function("xfree", CODE_ADDRESS + 8, 1),
            ("cfree", CODE_ADDRESS, 3, info(elf::STB_WEAK, elf::STT_FUNC), 1),
            function("free", CODE_ADDRESS, 3),
            function("free", CODE_ADDRESS, 3),
            function("free", CODE_ADDRESS + 0x40, 3),
            ("malloc", CODE_ADDRESS + 4, 2, info(elf::STB_GLOBAL, elf::STT_GNU_IFUNC), 1),
            ("calloc", 0, 0, defined, 0),
            ("calloc", 7, 0, defined, elf::SHN_ABS),
            ("calloc", CODE_ADDRESS + 0x80, 8, info(elf::STB_GLOBAL, elf::STT_OBJECT), 1),
        ],
        symtab: vec![function("calloc", CODE_ADDRESS + 9, 1)],
        ..Fixture::default()
    }
    .image();
    let found = image.symbols(&NAMES).unwrap();
    let short: Vec<_> =
        found.iter().map(|s| (s.name, s.address - CODE_ADDRESS, s.size, s.kind, s.binding)).collect();
    assert_eq!(
        short,
        [
            ("malloc", 4, 2, SymbolKind::Indirect, Binding::Global),
            ("free", 0, 3, SymbolKind::Function, Binding::Global),
            ("free", 0x40, 3, SymbolKind::Function, Binding::Global),
            ("cfree", 0, 3, SymbolKind::Function, Binding::Weak),
            ("calloc", 0x80, 8, SymbolKind::Data, Binding::Global),
        ]
    );
}

#[test]
fn reads_symtab_only_where_dynsym_does_not_even_import_the_names() {
    let symtab = vec![
        ("free", CODE_ADDRESS + 1, 1, info(elf::STB_LOCAL, elf::STT_FUNC), 1),
        ("malloc", CODE_ADDRESS + 2, 1, info(elf::STB_LOCAL, elf::STT_FUNC), 1),
        ("malloc", CODE_ADDRESS + 3, 0, info(elf::STB_WEAK, elf::STT_NOTYPE), 1),
    ];
    let program = Fixture { symtab, ..Fixture::default() };
    let image = program.image();
    let found = image.symbols(&NAMES).unwrap();
    let short: Vec<_> = found.iter().map(|s| (s.name, s.address - CODE_ADDRESS, s.kind)).collect();
    assert_eq!(short, [("malloc", 3, SymbolKind::Untyped), ("free", 1, SymbolKind::Function)]);
    let importing =
        Fixture { dynsym: vec![("malloc", 0, 0, info(elf::STB_GLOBAL, elf::STT_FUNC), 0)], ..program };
    assert_eq!(importing.image().symbols(&NAMES).unwrap(), []);
}

#[test]
fn finds_names_across_the_pieces_in_which_tables_are_read() {
    let long: &'static str = Box::leak("x".repeat(262_139).into_boxed_str());
    // In the strings, "malloc" begins 3 bytes before the end of the first piece.
    let mut dynsym = vec![function(long, CODE_ADDRESS, 1), function("malloc", CODE_ADDRESS + 1, 1)];
    dynsym.extend((0..5000).map(|_| function("y", CODE_ADDRESS, 1)));
    dynsym.push(function("free", CODE_ADDRESS + 2, 1));
    let image = Fixture { dynsym, ..Fixture::default() }.image();
    let found = image.symbols(&NAMES).unwrap();
    let short: Vec<_> = found.iter().map(|s| (s.name, s.address - CODE_ADDRESS)).collect();
    assert_eq!(short, [("malloc", 1), ("free", 2)]);
}

#[test]
fn versions_of_a_symbol_are_bounded() {
    let dynsym = (0..17).map(|n| function("free", CODE_ADDRESS + n, 1)).collect();
    let image = Fixture { dynsym, ..Fixture::default() }.image();
    assert!(matches!(image.symbols(&NAMES), Err(Error::Limit { value: 17, .. })));
}

#[test]
fn reads_what_the_file_says_about_itself() {
    let image = Fixture {
        soname: Some("libc.so.6"),
        interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
        debuglink: Some(("libc.debug", 0xdead_beef)),
        build_id: vec![0xab, 0xcd, 0xef],
        ..Fixture::default()
    }
    .image();
    assert_eq!(image.soname().unwrap().as_deref(), Some("libc.so.6"));
    assert_eq!(image.interpreter().unwrap(), Some(PathBuf::from("/lib64/ld-linux-x86-64.so.2")));
    assert_eq!(image.debuglink().unwrap(), Some(DebugLink { name: "libc.debug".into(), crc: 0xdead_beef }));
    assert_eq!(image.build_id().unwrap(), Some(vec![0xab, 0xcd, 0xef]));
    assert!(!image.is_executable().unwrap());
    let plain = Fixture::default().image();
    assert_eq!(plain.soname().unwrap(), None);
    assert_eq!(plain.interpreter().unwrap(), None);
    assert_eq!(plain.debuglink().unwrap(), None);
    assert_eq!(plain.build_id().unwrap(), None);
    assert!(!plain.is_executable().unwrap());
    assert!(Fixture { kind: elf::ET_EXEC, ..Fixture::default() }.image().is_executable().unwrap());
    assert!(Fixture { interpreter: Some("/ld"), ..Fixture::default() }.image().is_executable().unwrap());
}

#[test]
fn debug_candidates_stay_in_their_directories() {
    let link = |name: &str| DebugLink { name: OsString::from(name), crc: 0 };
    let by_link = |name: &str, dir: &str| debug_candidates(None, Some(&link(name)), Path::new(dir));
    assert_eq!(
        debug_candidates(Some(&[0xab, 0xcd, 0x01]), Some(&link("libc.debug")), Path::new("/usr/lib")),
        [
            "usr/lib/debug/.build-id/ab/cd01.debug",
            "usr/lib/.debug/libc.debug",
            "usr/lib/libc.debug",
            "usr/lib/debug/usr/lib/libc.debug",
        ]
        .map(PathBuf::from)
    );
    for hostile in ["../../etc/shadow", "/etc/shadow", "..", ".", "", "a/b", "a/", "./a", "a\0b"] {
        assert!(by_link(hostile, "/usr/lib").is_empty(), "{hostile:?}");
    }
    assert!(by_link("a", "/usr/../../etc").is_empty());
    assert_eq!(by_link("..a", "/")[1], PathBuf::from("..a"));
    assert!(debug_candidates(Some(&[0xab]), None, Path::new("/")).is_empty());
    assert!(debug_candidates(Some(&[0xab; 65]), None, Path::new("/")).is_empty());
}

#[test]
fn reads_this_program() {
    let image = Image::open(&std::env::current_exe().unwrap()).unwrap();
    assert!(image.is_executable().unwrap());
    let code = image.segments()[0];
    let read = image.code(code.address, 64).unwrap();
    assert_eq!(read.len(), 64);
    assert_eq!(image.offset_to_vaddr(code.offset), Some(code.address));
    let end = code.address + code.file_size;
    assert_eq!(image.code(end - 3, 64).unwrap().len(), 3);
    assert!(matches!(image.code(end, 1), Err(Error::NotCode { .. })));
}

/// Calls everything; only panics, hangs and memory count.
fn exercise(file: std::fs::File) {
    let Ok(image) = Image::from_file(file) else { return };
    let candidates = |id: Option<Vec<u8>>, link: Option<DebugLink>| {
        debug_candidates(id.as_deref(), link.as_ref(), Path::new("/usr/lib"))
    };
    let id = image.build_id().ok().flatten();
    let link = image.debuglink().ok().flatten();
    for path in candidates(id, link) {
        assert!(
            path.starts_with("usr/lib") && !path.components().any(|part| part.as_os_str() == ".."),
            "{path:?}"
        );
    }
    let _ = (image.interpreter(), image.soname(), image.is_executable());
    for segment in image.segments() {
        let _ = image.vaddr_to_offset(segment.address).and_then(|offset| image.offset_to_vaddr(offset));
        let _ = image.mapping_bias(0x7f00_0000_0000, segment.offset & !0xfff);
    }
    let role = Role::Allocate(ArgLayout::default());
    for symbol in image.symbols(&["malloc", "free", "main", "_init", "__libc_start_main"]).unwrap_or_default()
    {
        if let Ok(code) = image.code(symbol.address, symbol.size.min(prologue::MAX_FUNCTION)) {
            let site = prologue::choose(image.machine(), &code, symbol.size, role);
            assert!(site.delta == 0 || site.delta < symbol.size);
        }
    }
}

#[test]
fn damaged_files_are_errors_at_worst() {
    let fixture = Fixture {
        dynsym: vec![function("free", CODE_ADDRESS, 16), function("malloc", CODE_ADDRESS + 16, 32)],
        symtab: vec![function("main", CODE_ADDRESS + 48, 16)],
        soname: Some("libc.so.6"),
        interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
        debuglink: Some(("libc.debug", 1)),
        build_id: vec![1; 20],
        ..Fixture::default()
    };
    damaged(&fixture.bytes(), 6000, exercise);
    if let Ok(program) = std::fs::read("/bin/true") {
        damaged(&program, 2000, exercise);
    }
}
