//! Real programs: a C++ program and a library say where their variables are.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::AtomicU64},
};

use memtrace_tests::{CSource, Running, compile, run_tool};

use crate::{
    model::ThreadRegisters,
    profile::Root,
    target::{Modules, memory::regions, roots::RootNames},
};

/// A program at work.
struct Target {
    _running: Running,
    names: RootNames,
    places: HashMap<String, u64>,
    tids: HashMap<String, u32>,
}

impl Target {
    fn start(program: &Path, plugin: Option<&Path>) -> Self {
        let mut running = Running::spawn(Command::new(program).args(plugin));
        let (mut places, mut tids, mut all) = (HashMap::new(), HashMap::new(), Vec::new());
        let pid = running.pid();
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        loop {
            let line = running.line().unwrap();
            match *line.split(' ').collect::<Vec<_>>() {
                ["at", name, address] => {
                    places.insert(name.to_owned(), hex(address));
                }
                ["thread", name, tid, stack, pointer] => {
                    let tid = tid.parse().unwrap();
                    tids.insert(name.to_owned(), tid);
                    let (sp, tls) = (Some(hex(stack)), Some(hex(pointer)));
                    all.push(ThreadRegisters { tid, sp, tls, words: Vec::new() });
                }
                _ => break,
            }
        }
        let modules = Modules::read(pid, &Arc::default()).unwrap();
        let names = RootNames::new(pid, &modules, regions(pid).unwrap(), &all);
        Self { _running: running, names, places, tids }
    }

    fn name(&self, place: &str) -> Root {
        self.names.name(self.places[place])
    }

    /// Variable, offset and section of a place in a file's data.
    #[track_caller]
    fn data(&self, place: &str, file: &Path) -> (Option<String>, u64, Option<String>) {
        match self.name(place) {
            Root::Data { symbol, offset, module, section } => {
                assert_eq!(Path::new(&module), file, "{place}");
                (symbol, offset, section)
            }
            other => panic!("{place} is {other:?}"),
        }
    }

    /// What has one name has it from end to end.
    fn assert_spans(&self) {
        for (place, &address) in &self.places {
            let (root, until) = self.names.name_until(address);
            for at in (address..until.min(address + 0x10000)).step_by(8) {
                assert_eq!(self.names.name(at).whole(), root.clone().whole(), "{at:#x} behind {place}");
            }
        }
        let (table, until) = (self.places["table_7"], self.names.name_until(self.places["table_7"]).1);
        assert!(until >= table + 8 && until % 8 == 0, "{table:#x}..{until:#x}");
        let (heap, until) = (self.places["heap"], self.names.name_until(self.places["heap"]).1);
        assert!(until > heap + 0x1000, "{heap:#x}..{until:#x}");
    }

    #[track_caller]
    fn assert_variables(&self, file: &Path, wanted: &[(&str, &str, u64)]) {
        for (place, symbol, offset) in wanted {
            assert_eq!(self.data(place, file), (Some((*symbol).to_owned()), *offset, None), "{place}");
        }
    }
}

const SOURCE: &str = "holders.cpp";

/// What a file with symbols knows of the program's own variables: their names as the compiler has them.
const VARIABLES: [(&str, &str, u64); 6] = [
    ("g_sessions", "g_sessions", 0),
    ("zeroed", "zeroed", 0),
    ("hidden", "_ZL6hidden", 0),
    ("table_7", "_ZN8registry5tableE", 56),
    ("secret", "_ZN8registry12_GLOBAL__N_16secretE", 0),
    ("cache", "_ZZL8remembervE5cache", 0),
];

fn build(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
    compile(directory, name, CSource { file: SOURCE, options }).canonicalize().unwrap()
}

#[test]
fn variables_threads_and_mappings_have_names() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = build(directory.path(), "plugin.so", &["-DPLUGIN", "-shared", "-fPIC"]);
    for option in ["-pie", "-no-pie"] {
        let program = build(directory.path(), &format!("program{option}"), &[option]);
        let target = Target::start(&program, Some(&plugin));
        target.assert_variables(&program, &VARIABLES);
        target
            .assert_variables(&plugin, &[("plugged", "plugged", 0), ("plugged_zeros", "plugged_zeros", 16)]);
        assert_eq!(target.name("stdout").name(), Some("stdout"));
        assert_eq!(target.name("heap"), Root::Heap);
        target.assert_spans();
        assert_eq!(target.name("memfd"), Root::mapping("/memfd:shared (deleted)"));
        for (thread, name) in [("main", None), ("worker", Some("worker-3"))] {
            let tid = target.tids[thread];
            let name = name.unwrap_or_else(|| program.file_name().unwrap().to_str().unwrap());
            let name = &name[..name.len().min(15)];
            let file = program.to_str().unwrap();
            let place = |place: &str| target.name(&format!("{place}_of_{thread}"));
            assert_eq!(place("local"), Root::stack(tid, name));
            assert_eq!(place("own"), Root::tls(tid, name, Some(("own", file))));
            assert_eq!(place("first"), Root::tls(tid, name, Some(("_ZL5first", file))));
            assert_eq!(place("descriptor"), Root::tls(tid, name, None));
            assert_eq!(target.names.register(tid), Root::register(tid, name));
        }
        assert_eq!(target.names.register(1), Root::register(1, ""));
        assert_eq!(target.names.name(8), Root::mapping("[unknown]"));
    }
}

/// A variable of this program.
static OF_RUST: [AtomicU64; 4] = [const { AtomicU64::new(1) }; 4];

#[test]
fn variables_of_rust_have_names() {
    let pid = std::process::id();
    let modules = Modules::read(pid, &Arc::default()).unwrap();
    let names = RootNames::new(pid, &modules, regions(pid).unwrap(), &[]);
    let root = names.name(&raw const OF_RUST[2] as u64);
    let Root::Data { symbol: Some(symbol), offset: 16, .. } = &root else { panic!("{root:?}") };
    assert!(symbol.contains("programs") && symbol.contains("OF_RUST"), "{symbol}");
}

#[test]
fn a_static_program_has_its_variables_and_threads_too() {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), "static", &["-static"]);
    let target = Target::start(&program, None);
    target.assert_variables(&program, &VARIABLES);
    for thread in ["main", "worker"] {
        let kind = |place: &str| target.name(&format!("{place}_of_{thread}"));
        assert_eq!((kind("own").name(), kind("local").key()), (Some("own"), "stack"), "{thread}");
    }
}

#[test]
fn without_symbols_the_section_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), "stripped", &["-s"]);
    let target = Target::start(&program, None);
    for (place, section) in [("g_sessions", ".data"), ("hidden", ".data"), ("zeroed", ".bss")] {
        assert_eq!(target.data(place, &program), (None, 0, Some(section.to_owned())), "{place}");
    }
    assert_eq!(target.name("own_of_main"), Root::tls(target.tids["main"], "stripped", None));
    // What is exported keeps its name.
    let exporting = build(directory.path(), "exporting", &["-s", "-rdynamic"]);
    let target = Target::start(&exporting, None);
    target.assert_variables(&exporting, &VARIABLES[..2]);
    assert_eq!(target.data("hidden", &exporting), (None, 0, Some(".data".to_owned())));
}

#[test]
fn a_separate_debug_file_has_the_names() {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), "program", &["-g", "-Wl,--build-id"]);
    let debug = directory.path().join("program.debug");
    let [file, debug_file] = [&program, &debug].map(|path| path.to_str().unwrap());
    let strip = |file: &str| {
        run_tool("objcopy", &["--strip-all", &format!("--add-gnu-debuglink={debug_file}"), file]);
    };
    run_tool("objcopy", &["--only-keep-debug", file, debug_file]);
    strip(file);
    let target = Target::start(&program, None);
    target.assert_variables(&program, &VARIABLES);
    assert_eq!(target.name("own_of_worker").name(), Some("own"));
    // That of another build is not used, nor is one that only its checksum vouches for.
    let other = build(directory.path(), "other", &["-g", "-Wl,--build-id=0x1234"]);
    let nameless = build(directory.path(), "nameless", &["-g", "-Wl,--build-id=none"]);
    for program in [other, nameless] {
        strip(program.to_str().unwrap());
        let target = Target::start(&program, None);
        assert_eq!(target.data("hidden", &program), (None, 0, Some(".data".to_owned())));
    }
}
