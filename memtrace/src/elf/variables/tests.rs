use std::ops::Range;

use object::elf;

use super::{MAX_OVERLAPPING, Variable, Variables, plain};
use crate::elf::{
    Error, Image,
    fixture::{Fixture, Sym, damaged, file_of},
};

/// Writable data of the fixtures; the file has bytes for the first half.
const DATA: Range<u64> = 0x5000..0x6000;

fn symbol(name: &'static str, address: u64, size: u64, binding: u8, kind: u8) -> Sym {
    (name, address, size, binding << 4 | kind, 1)
}

fn global(name: &'static str, address: u64, size: u64) -> Sym {
    symbol(name, address, size, elf::STB_GLOBAL, elf::STT_OBJECT)
}

fn with(symtab: Vec<Sym>, dynsym: Vec<Sym>) -> Fixture {
    let data = vec![(DATA.start, 0x800, 0x1000)];
    Fixture { symtab, dynsym, data, thread_local: Some((0x5000, 0x40, 8)), ..Fixture::default() }
}

fn variables(fixture: &Fixture) -> Variables {
    let image = fixture.image();
    image.variables(&image).unwrap()
}

fn names(variables: &Variables, addresses: &[u64]) -> Vec<Option<String>> {
    addresses.iter().map(|address| Some(variables.at(*address)?.name)).collect()
}

fn some(names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| Some(*name).filter(|name| !name.is_empty()).map(str::to_owned)).collect()
}

#[test]
fn variables_of_both_tables_are_found_by_address() {
    let found = variables(&with(
        vec![
            symbol("hidden.0", 0x5100, 8, elf::STB_LOCAL, elf::STT_OBJECT),
            global("table", 0x5200, 0x100),
            global("std::out@VERS_1", 0x5ff8, 8),
            symbol("own", 0x10, 8, elf::STB_LOCAL, elf::STT_TLS),
        ],
        vec![global("table", 0x5200, 0x100), global("exported", 0x5000, 4)],
    ));
    let wanted = some(&["exported", "", "hidden", "table", "table", "", "std::out", ""]);
    let places = [0x5000, 0x5004, 0x5107, 0x5200, 0x52ff, 0x5300, 0x5fff, 0x6000];
    assert_eq!(names(&found, &places), wanted);
    let inside = Variable { name: "table".to_owned(), address: 0x5200, size: 0x100 };
    assert_eq!(found.at(0x5280), Some(inside));
    assert_eq!(found.thread_local_at(0x17).map(|variable| variable.name).as_deref(), Some("own"));
    assert_eq!((found.thread_local_at(0x18), found.at(0x10)), (None, None));
}

#[test]
fn the_innermost_variable_counts_and_of_its_names_the_one_seen_farthest() {
    let found = variables(&with(
        vec![
            global("outer", 0x5000, 0x1000),
            global("inner", 0x5100, 0x10),
            global("overlapping", 0x5108, 0x10),
            symbol("local", 0x5200, 8, elf::STB_LOCAL, elf::STT_OBJECT),
            symbol("weak", 0x5200, 8, elf::STB_WEAK, elf::STT_OBJECT),
            global("global", 0x5200, 8),
            global("struct", 0x5200, 0x20),
        ],
        Vec::new(),
    ));
    let places = [0x50f8, 0x5100, 0x5108, 0x5110, 0x5118, 0x5200, 0x5208, 0x5ff8];
    let wanted = ["outer", "inner", "overlapping", "overlapping", "outer", "global", "struct", "outer"];
    assert_eq!(names(&found, &places), some(&wanted));
}

#[test]
fn what_cannot_be_a_variable_is_left_out() {
    let found = variables(&with(
        vec![
            global("without size", 0x5000, 0),
            global("overflows", 0x5008, u64::MAX),
            global("ends late", 0x5010, 0x1000),
            global("begins early", 0x4fff, 8),
            global("code", 0x3000, 8),
            global("at the end", u64::MAX, 1),
            ("undefined", 0x5020, 8, elf::STB_GLOBAL << 4 | elf::STT_OBJECT, elf::SHN_UNDEF),
            ("absolute", 0x5028, 8, elf::STB_GLOBAL << 4 | elf::STT_OBJECT, elf::SHN_ABS),
            symbol("function", 0x5030, 8, elf::STB_GLOBAL, elf::STT_FUNC),
            symbol("thread's, too large", 0x38, 0x10, elf::STB_GLOBAL, elf::STT_TLS),
            global("", 0x5040, 8),
        ],
        Vec::new(),
    ));
    assert_eq!((0x4f00..0x6100).find_map(|address| found.at(address)), None);
    assert_eq!((0..0x100).find_map(|offset| found.thread_local_at(offset)), None);
}

#[test]
fn looking_up_takes_a_bounded_time_whatever_overlaps() {
    let mut symbols = vec![global("all", 0x5000, 0x1000)];
    symbols.extend((0..MAX_OVERLAPPING as u64 + 10).map(|at| global("one", 0x5000 + at, 1)));
    let found = variables(&with(symbols, Vec::new()));
    assert_eq!(names(&found, &[0x5000, 0x5100, 0x5400]), some(&["one", "one", "one"]));
    // Further behind than is looked.
    assert_eq!(found.at(0x5ff0), None);
}

#[test]
fn names_lose_what_tools_put_behind_them() {
    for (name, wanted) in [
        ("cache.0", "cache"),
        ("cache.lto_priv.0", "cache"),
        ("cache.12.34", "cache"),
        ("main.cache", "main.cache"),
        ("stdout@GLIBC_2.2.5", "stdout"),
        ("stdout@@GLIBC_2.2.5", "stdout"),
        ("@", "@"),
        (".0", ".0"),
        ("a.", "a."),
        ("", ""),
        ("_ZZ4mainE5cache", "_ZZ4mainE5cache"),
    ] {
        assert_eq!(plain(name.as_bytes()), wanted.as_bytes());
    }
    let long: &'static str = Box::leak("x".repeat(10_000).into_boxed_str());
    let found = variables(&with(vec![global(long, 0x5000, 8)], Vec::new()));
    assert_eq!(found.at(0x5000).map(|variable| variable.name.len()), Some(4096));
}

/// Overwrites fields of the section header of a type.
fn with_section(mut file: Vec<u8>, kind: u32, fields: &[(usize, u64)]) -> Image {
    let at = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let header = (at..file.len()).step_by(64).find(|at| file[at + 4..at + 8] == kind.to_le_bytes()).unwrap();
    for (field, value) in fields {
        file[header + field..header + field + 8].copy_from_slice(&value.to_le_bytes());
    }
    Image::from_file(file_of(&file)).unwrap()
}

#[test]
fn impossible_tables_are_errors() {
    const OFFSET: usize = 24;
    const SIZE: usize = 32;
    let file = with(vec![global("a", 0x5000, 8)], Vec::new()).bytes();
    let read = |fields: &[(usize, u64)]| {
        let image = with_section(file.clone(), elf::SHT_SYMTAB, fields);
        image.variables(&image).map(|found| found.at(0x5000).is_some())
    };
    assert!(matches!(read(&[]), Ok(true)));
    assert!(matches!(read(&[(SIZE, u64::MAX)]), Err(Error::Limit { .. })));
    assert!(matches!(read(&[(SIZE, 24 << 20)]), Err(Error::Truncated { .. })));
    assert!(matches!(read(&[(OFFSET, u64::MAX - 8)]), Err(Error::Truncated { .. })));
    assert!(matches!(read(&[(SIZE, 23)]), Ok(false)));
    // The strings: the link is behind the size.
    assert!(matches!(read(&[(SIZE + 8, 0)]), Err(Error::Malformed(_))));
    let exporting = with(Vec::new(), vec![global("a", 0x5000, 8)]).bytes();
    let image = with_section(exporting, elf::SHT_STRTAB, &[(OFFSET, u64::MAX - 1)]);
    assert_eq!(image.variables(&image).unwrap().at(0x5000), None);
}

#[test]
fn damaged_files_are_errors_at_worst() {
    let file = with(
        vec![global("table", 0x5200, 0x100), symbol("own", 0x10, 8, elf::STB_LOCAL, elf::STT_TLS)],
        vec![global("exported", 0x5000, 4)],
    );
    damaged(&file.bytes(), 4000, |file| {
        let Ok(image) = Image::from_file(file) else { return };
        for address in [0, 0x5000, 0x5210, 0x5fff, u64::MAX] {
            let _ = image.data_section(address);
            let _ = image.program_thread_locals(address);
        }
        assert!(image.writable().count() <= 1024 && image.thread_local_bytes() <= 2 << 30);
        if let Ok(found) = image.variables(&image) {
            let _ = (found.at(0x5000), found.at(0x5210), found.thread_local_at(0x10));
        }
    });
}

#[test]
fn places_are_known_without_symbols_and_sections() {
    let image = with(Vec::new(), Vec::new()).image();
    assert_eq!(image.writable().collect::<Vec<_>>(), std::slice::from_ref(&DATA));
    let section = |address| image.data_section(address).unwrap();
    assert_eq!(section(0x57ff), Some((".data".to_owned(), 0x5800)));
    assert_eq!((section(0x5800), section(0x6000)), (Some((".bss".to_owned(), 0x6000)), None));
    let overflowing = Fixture { data: vec![(u64::MAX - 8, 0, 0x1000)], ..Fixture::default() };
    assert_eq!(overflowing.image().writable().count(), 0);
}

#[test]
fn thread_local_data_of_the_program_is_at_the_thread_pointer() {
    let at = |machine, address, size, align, pointer| {
        let thread_local = Some((address, size, align));
        Fixture { machine, thread_local, ..Fixture::default() }.image().program_thread_locals(pointer)
    };
    let below = |address, size, align| at(elf::EM_X86_64, address, size, align, 0x7000);
    assert_eq!(below(0x5000, 0x14, 8), Some(0x6fe8..0x6ffc));
    assert_eq!(below(0x5000, 0x20, 0), Some(0x6fe0..0x7000));
    // Not aligned itself: 0x10 more than a multiple of 0x40, in memory too.
    assert_eq!(below(0x5010, 0x20, 0x40), Some(0x6fd0..0x6ff0));
    assert_eq!((below(0x5000, 0x8000, 8), below(0x5000, u64::MAX, 8)), (None, None));
    assert_eq!(below(0x5000, 8, 3), None);
    assert_eq!(at(elf::EM_AARCH64, 0x5000, 8, 8, 0x7000), Some(0x7010..0x7018));
    assert_eq!(at(elf::EM_AARCH64, 0x5000, 8, 0x40, 0x7000), Some(0x7040..0x7048));
    assert_eq!(Fixture::default().image().program_thread_locals(0x7000), None);
}
