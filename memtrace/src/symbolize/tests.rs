//! What the child does with files, without the child.

use std::fs::File;

use memtrace_tests::{CSource, compile};

use super::{
    engine::Engine,
    wire::{Load, Named, Trouble},
};
use crate::elf::fixture::{CODE_ADDRESS, Fixture, damaged, file_of, function};

const PLAIN: Load = Load { size: 0, debug: None, only_symbols: false, is_map: false };

fn load(engine: &mut Engine, number: u64, file: File) -> Vec<Trouble> {
    let size = file.metadata().unwrap().len();
    engine.load(number, Load { size, ..PLAIN }, &[file])
}

fn symbols() -> Fixture {
    Fixture {
        dynsym: vec![function("exported", CODE_ADDRESS, 16), function("sizeless", CODE_ADDRESS + 64, 0)],
        symtab: vec![
            function("small", CODE_ADDRESS, 8),
            function("large", CODE_ADDRESS, 16),
            function("_ZN1a1bEv", CODE_ADDRESS + 32, 0),
        ],
        ..Fixture::default()
    }
}

fn only(named: &[Named]) -> (&str, u64) {
    let [Named { function: Some(name), start: Some(start), inlined: false, .. }] = named else {
        panic!("{named:?}")
    };
    (name, *start)
}

#[test]
fn symbols_by_address() {
    let mut engine = Engine::default();
    assert_eq!(load(&mut engine, 7, file_of(&symbols().bytes())), []);
    let mut name = |address| engine.name(7, address, &mut Vec::new());
    assert_eq!(only(&name(CODE_ADDRESS)), ("large", CODE_ADDRESS));
    assert_eq!(only(&name(CODE_ADDRESS + 15)), ("large", CODE_ADDRESS));
    assert_eq!(name(CODE_ADDRESS + 16), []);
    // Without a size it extends to the next, if the table is whole.
    assert_eq!(only(&name(CODE_ADDRESS + 63)), ("a::b()", CODE_ADDRESS + 32));
    assert_eq!(name(CODE_ADDRESS - 1), []);
    let stripped = Fixture { symtab: Vec::new(), ..symbols() };
    load(&mut engine, 8, file_of(&stripped.bytes()));
    let mut name = |address| engine.name(8, address, &mut Vec::new());
    assert_eq!(only(&name(CODE_ADDRESS + 8)), ("exported", CODE_ADDRESS));
    assert_eq!(only(&name(CODE_ADDRESS + 64)), ("sizeless", CODE_ADDRESS + 64));
    assert_eq!(name(CODE_ADDRESS + 65), []);
    assert_eq!(engine.name(9, CODE_ADDRESS, &mut Vec::new()), []);
}

/// The offset in a function counts from its start, which debug information has if there is no symbol.
#[test]
fn starts_without_symbols() {
    let directory = tempfile::tempdir().unwrap();
    let source = CSource { file: "inlined.c", options: &["-O2", "-g"] };
    let program = compile(directory.path(), "inlined", source);
    let address = crate::elf::Image::open(&program).unwrap().entry();
    let mut engine = Engine::default();
    assert_eq!(load(&mut engine, 1, File::open(&program).unwrap()), []);
    assert_eq!(only(&engine.name(1, address, &mut Vec::new())), ("_start", address));
    let symbols = only_functions(&mut engine, address);
    let (main, inlined) =
        (symbols.first().unwrap(), symbols.iter().find(|frames| frames.len() == 2).unwrap());
    assert!(main.last().unwrap().start.is_some() && main.last().unwrap().line.is_some());
    assert_eq!(inlined[0].start, inlined[1].start);
    assert!(inlined[0].inlined && inlined[0].function.as_deref() == Some("make"));
    let stripped = directory.path().join("stripped");
    let names = [&program, &stripped].map(|path| path.to_str().unwrap().to_owned());
    memtrace_tests::run_tool("objcopy", &["--strip-symbol=keep_through_inlined", &names[0], &names[1]]);
    let mut engine = Engine::default();
    load(&mut engine, 1, File::open(&stripped).unwrap());
    assert_eq!(only_functions(&mut engine, address), symbols);
}

/// Everything near an address that has a line.
fn only_functions(engine: &mut Engine, near: u64) -> Vec<Vec<Named>> {
    let near = near - 0x400..near + 0x400;
    let names = near.map(|address| engine.name(1, address, &mut Vec::new()));
    names.filter(|frames| frames.iter().any(|frame| frame.line.is_some())).collect()
}

/// Mapped files are damaged before they are mapped: a change below the mapping is the child's end, and is meant to be.
#[test]
fn damaged_files_have_fewer_names_at_worst() {
    damaged(&symbols().bytes(), 2_000, |file| {
        let Ok(bytes) = std::fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))
        else {
            return;
        };
        let mut engine = Engine::default();
        load(&mut engine, 1, file_of(&bytes));
        for address in [0, CODE_ADDRESS, CODE_ADDRESS + 40, u64::MAX] {
            engine.name(1, address, &mut Vec::new());
        }
    });
}
