//! Code that is not where its file is mapped: copied to anonymous memory, or of libraries whose files are deleted. Rows have names,
//! and no address is shown as a file's offset.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{Agent, CSource, Report, Running, Stack, Totals, can_trace, compile, shared_directory};

fn library(directory: &Path, name: &str, file: &'static str, more: &[&str]) -> PathBuf {
    let options = [&["-O2", "-g", "-shared", "-fPIC"], more].concat();
    compile(directory, name, CSource { file, options: &options })
}

/// No frame's offset in a file is an address.
fn assert_offsets(report: &Report) {
    for frame in report.stacks.iter().flat_map(|stack| &stack.frames) {
        let offset = u64::from_str_radix(frame.offset.trim_start_matches("0x"), 16).expect("an offset");
        assert!(offset < 1 << 32 || frame.module.starts_with('['), "{frame:?}");
    }
}

/// `allocates` runs in the program itself, whose code is anonymous memory; `malloc` is glibc's.
#[test]
fn copied_code_has_the_names_of_its_file() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let preload = library(directory.path(), "remap.so", "remap.c", &[]);
    let options = ["-O2", "-g", "-fno-builtin", "-DP(name)=name"];
    let program = compile(directory.path(), "program", CSource { file: "own_names.c", options: &options });
    let mut target = Running::spawn(Command::new(&program).env("LD_PRELOAD", &preload));
    let _ = target.line_with("ready");
    let agent = Agent::attach(&[target.pid()], &[]);
    target.write_line("go");
    let _ = target.line_with("done");
    let report = agent.interrupt();
    target.write_line("end");
    assert_eq!(target.finish().status, 4);
    assert_eq!(report.through("keep_plain"), Totals::kept(400 * 200, 200), "{:?}", report.callers());
    assert_eq!(report.through("keep_zeroed").blocks, 200, "{:?}", report.callers());
    let stack = report.stacks.iter().find(|stack| stack.caller() == "keep_plain").expect("a stack");
    let module = &stack.frames[0].module;
    assert!(Path::new(module) == program, "{module}");
    assert!(stack.frames.iter().any(|frame| frame.function.as_deref() == Some("main")), "{:?}", stack.frames);
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    assert_offsets(&report);
}

/// An allocator in such code cannot be probed, and the report says so.
#[test]
fn a_copied_allocator_is_said() {
    let archive = Path::new("/usr/lib/x86_64-linux-gnu/libjemalloc.a");
    if !can_trace() || !archive.exists() {
        return;
    }
    let directory = shared_directory();
    let preload = library(directory.path(), "remap.so", "remap.c", &[]);
    let archive = archive.display().to_string();
    let link = ["-O2", "-g", "-Wl,--whole-archive", &archive, "-Wl,--no-whole-archive", "-lm", "-ldl"];
    let program = compile(directory.path(), "program", CSource { file: "throwing.cpp", options: &link });
    let mut target = Running::spawn(Command::new(&program).env("LD_PRELOAD", &preload));
    let _ = target.line_with("ready");
    let mut agent = Agent::attach(&[target.pid()], &[]);
    let report = agent.report_when(|report| report.says("code_copied"));
    assert!(!report.says("breakpoints_missing"), "{:?}", report.remarks);
    let _ = agent.interrupt();
}

/// Bytes and blocks of the two libraries, and of code that was gone before it could be looked up.
fn parts_of(report: &Report) -> (u64, u64) {
    let is_part = |stack: &&Stack| {
        let module = stack.frames.first().map_or("", |frame| frame.module.as_str());
        module == "[unknown]" || ["tile.so", "font.so"].iter().any(|part| module.contains(part))
    };
    let own = report.stacks.iter().filter(is_part);
    own.fold((0, 0), |(bytes, blocks), stack| (bytes + stack.bytes, blocks + stack.blocks))
}

/// Two rows, named, however often the libraries come and go.
#[test]
fn deleted_libraries_have_names() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let part = |name: &str, function: &str, size: u64| {
        let (function, size) = (format!("-DNAME={function}"), format!("-DSIZE={size}"));
        library(directory.path(), name, "unpacked_part.c", &[&function, &size])
    };
    let parts = [part("tile.so", "tile_leak", 111), part("font.so", "font_leak", 333)];
    let program = compile(directory.path(), "host", CSource { file: "unpacked.c", options: &["-O2", "-g"] });
    for more in [&["keep"][..], &[]] {
        let mut target = Running::spawn(Command::new(&program).args(&parts).args(more));
        let _ = target.line_with("ready");
        let agent = Agent::attach(&[target.pid()], &[]);
        target.write_line("go");
        let _ = target.line_with("done");
        let report = agent.interrupt();
        target.write_line("end");
        assert_eq!(target.finish().status, 4);
        let kept = parts_of(&report);
        assert_eq!(kept, (444 * 10, 20), "{more:?}: {:?}", report.callers());
        for function in ["tile_leak", "font_leak"] {
            let rows = report.stacks.iter().filter(|stack| stack.caller() == function).count();
            assert!(rows == 1, "{more:?} {function}: {rows} rows: {:?}", report.callers());
        }
        assert_offsets(&report);
    }
}
