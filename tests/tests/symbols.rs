//! Frames: function, file, line of the call, inlined functions, separate debug files.

use std::{fs, path::Path, process::Command};

use memtrace_tests::{
    Agent, CSource, Frame, Report, Running, agent_path, can_trace, compile, fixture, run_tool,
};

const SOURCE: &str = include_str!("../c/inlined.c");

fn line_with(comment: &str) -> Option<u32> {
    SOURCE.lines().position(|line| line.contains(comment)).map(|index| index as u32 + 1)
}

fn trace(program: &Path) -> Report {
    let mut target = fixture::start_path(program, &[]);
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    agent.last_report()
}

fn frames(report: &Report, bytes: u64) -> &[Frame] {
    let stack = report.stacks.iter().find(|stack| stack.bytes == bytes);
    stack.map_or_else(|| panic!("no stack with {bytes} bytes: {:#?}", report.stacks), |stack| &stack.frames)
}

#[track_caller]
fn assert_frame(frame: &Frame, function: &str, comment: &str, inlined: bool) {
    let file = frame.file.as_deref().unwrap_or_default();
    assert_eq!(
        (frame.name(), frame.line, frame.inlined),
        (function, line_with(comment), inlined),
        "{frame:?}"
    );
    assert!(file.ends_with("inlined.c"), "{frame:?}");
}

fn assert_all_frames(report: &Report) {
    let inlined = frames(report, 4321);
    assert_frame(&inlined[0], "make", "line of the inlined call", true);
    assert_frame(&inlined[1], "keep_through_inlined", "line of the outer call", false);
    assert_frame(&frames(report, 1234)[0], "keep_directly", "line of the direct call", false);
}

const OPTIMIZED: CSource<'_> = CSource { file: "inlined.c", options: &["-O2", "-g"] };

/// The line is that of the call, not of the return address, and inlined functions have frames.
#[test]
fn inlined_frames_and_call_lines() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_all_frames(&trace(&compile(directory.path(), "inlined", OPTIMIZED)));
}

/// A stripped program that names its debug file, which lies beside it.
#[test]
fn debug_file_by_link() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = compile(directory.path(), "inlined", OPTIMIZED);
    let debug = directory.path().join("inlined.debug");
    let (program_name, debug_name) = (program.display().to_string(), debug.display().to_string());
    run_tool("objcopy", &["--only-keep-debug", &program_name, &debug_name]);
    run_tool("objcopy", &["--strip-all", &format!("--add-gnu-debuglink={debug_name}"), &program_name]);
    assert_all_frames(&trace(&program));
    // Without it the functions have no names, but module and offset are always there.
    fs::remove_file(&debug).expect("the debug file can be deleted");
    let report = trace(&program);
    let frame = &frames(&report, 1234)[0];
    assert_eq!(frame.function, None, "{frame:?}");
    assert_eq!(frame.module, program_name);
    assert!(frame.offset.starts_with("0x"), "{frame:?}");
}

/// The same in a mount namespace of the program's own: the debug file shows only there.
#[test]
fn debug_file_in_another_mount_namespace() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = compile(directory.path(), "inlined", OPTIMIZED);
    let hidden = tempfile::tempdir().expect("a temporary directory");
    let script = "mount -t tmpfs none \"$2\" && objcopy --only-keep-debug \"$1\" \"$2/inlined.debug\" && \
        objcopy --strip-all --add-gnu-debuglink=\"$2/inlined.debug\" \"$1\" \"$2/inlined\" && exec \"$2/inlined\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(program).arg(hidden.path());
    let mut target = Running::spawn(&mut command);
    let _: String = target.line_with("ready");
    assert!(!hidden.path().join("inlined").exists(), "the file shows outside the namespace");
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    assert_all_frames(&agent.last_report());
}

/// Position-dependent code has no load bias.
#[test]
fn position_dependent_program() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "inlined.c", options: &["-O2", "-g", "-no-pie"] };
    assert_all_frames(&trace(&compile(directory.path(), "inlined", source)));
}

/// A static program has its allocator within, and its symbols say where.
#[test]
fn static_program() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "inlined.c", options: &["-O2", "-g", "-static"] };
    let report = trace(&compile(directory.path(), "inlined", source));
    assert_all_frames(&report);
    assert_eq!(report.target.allocators, ["libc (static)"]);
}

/// The process that reads files is started in a root without devices, as small containers have it.
#[test]
fn root_without_devices() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /dev && exec \"$0\" demo"]).arg(agent_path());
    let finished = Running::spawn(&mut command).finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("leak_session"), "{}", finished.stdout);
}
