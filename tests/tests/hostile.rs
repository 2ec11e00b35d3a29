//! Files that a target's owner has made for the agent to read: they neither hang nor kill it, nor take its machine's
//! memory, and names that are there are shown.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
};

use memtrace_tests::{
    Agent, can_trace, compressed_zeros, damage_section, fixture, mark_compressed, proc, run_tool,
    stages::{STAGES, assert_lines, assert_names, assert_unread, build, holder, text, trace},
};
use nix::sys::stat::Mode;

/// A user that is not root.
const SOMEBODY: u32 = 1000;

/// Moves the debug information of a program into a file, which is changed before the link to it is made, and after.
fn split(program: &Path, before: impl Fn(&Path), after: impl Fn(&Path)) -> PathBuf {
    let debug = program.with_extension("debug");
    run_tool("objcopy", &["--only-keep-debug", text(program), text(&debug)]);
    before(&debug);
    let link = format!("--add-gnu-debuglink={}", text(&debug));
    run_tool("objcopy", &["--strip-all", &link, text(program)]);
    after(&debug);
    debug
}

/// Gives a program a link to a debug file of any name, in place of its debug information.
fn link(program: &Path, name: &[u8]) {
    let mut link = [name, b"\0"].concat();
    link.resize(link.len().next_multiple_of(4) + 4, 0);
    run_tool("objcopy", &["--strip-debug", text(program)]);
    set_section(program, ".gnu_debuglink", &link);
}

/// Adds a section to a program, or another one in its place.
fn set_section(program: &Path, name: &str, contents: &[u8]) {
    let section = program.with_extension("section");
    fs::write(&section, contents).expect("a temporary file");
    let (remove, add) = (format!("--remove-section={name}"), format!("{name}={}", text(&section)));
    run_tool("objcopy", &[&remove, text(program)]);
    run_tool("objcopy", &["--add-section", &add, text(program)]);
}

/// A debug link that leads to a pipe would block whoever opens it.
#[test]
fn links_to_pipes_and_to_numbers() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = build(directory.path());
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    symlink(&pipe, directory.path().join("linked")).expect("a symbolic link");
    let upwards = format!("../{}/pipe", text(Path::new(directory.path().file_name().expect("a name"))));
    for name in
        [text(&pipe), &upwards, "pipe", "linked", "0", "/proc/self/fd/0", "../../../../proc/self/fd/0"]
    {
        link(&program, name.as_bytes());
        chown(&program, Some(SOMEBODY), None).expect("root can give files away");
        assert_names(&trace(&program));
    }
}

/// So would one to debug information that files share.
#[test]
fn links_to_shared_debug_information() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = build(directory.path());
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    set_section(&program, ".gnu_debugaltlink", &[text(&pipe).as_bytes(), &[0; 21]].concat());
    let report = trace(&program);
    assert_names(&report);
    assert_unread(&report, "debug_info", "refused");
    assert!(report.losses.names_given_up > 0);
}

/// A file that is cut short while it is mapped ends the process that reads it.
#[test]
fn debug_file_cut_short() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = build(directory.path());
    let debug = split(&program, |_| (), |_| ());
    let mut target = fixture::start_path(&program, &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    agent.report_when(|report| holder(report, 1111).1.is_some());
    fs::OpenOptions::new().write(true).open(debug).and_then(|file| file.set_len(0)).expect("it can be cut");
    fixture::work(&mut target);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    let report = agent.last_report();
    assert_names(&report);
    assert_unread(&report, "debug_file", "refused");
}

#[test]
fn sections_that_claim_to_be_large() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    for size in [36, 47, 62].map(|bits| 1u64 << bits) {
        let program = build(directory.path());
        run_tool("objcopy", &["--compress-debug-sections=zlib", text(&program)]);
        damage_section(&program, ".debug_info", |bytes| bytes[8..16].copy_from_slice(&size.to_le_bytes()));
        let report = trace(&program);
        assert_names(&report);
        assert_unread(&report, "debug_info", "refused");
    }
}

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> u64 {
    let peak = proc::status(pid, "VmHWM").expect("a living process");
    peak.trim_end_matches(" kB").parse().expect("a number")
}

/// The most that the agent and its child have had.
fn peaks(agent: &Agent) -> u64 {
    peak(agent.pid()) + proc::children(agent.pid()).into_iter().map(peak).sum::<u64>()
}

#[test]
fn compressed_zeros_take_no_memory() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = build(directory.path());
    let zeros = directory.path().join("zeros");
    fs::write(&zeros, compressed_zeros(650 << 20, 4 << 20)).expect("a temporary file");
    let update = format!(".debug_info={}", text(&zeros));
    run_tool("objcopy", &["--update-section", &update, text(&program)]);
    mark_compressed(&program, ".debug_info");
    let mut target = fixture::start_path(&program, &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    let report = agent.report_when(|report| holder(report, 1111).0.is_some());
    assert_unread(&report, "debug_info", "refused");
    assert!(peaks(&agent) < 400 << 10, "{} KiB", peaks(&agent));
    assert_eq!(agent.interrupt().outstanding.bytes, 1111);
}

/// What others can write to is read where it is, not copied.
#[test]
fn sparse_files_take_no_memory() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/stages.c");
    let program = build(directory.path());
    let mut libraries = Vec::new();
    for (stage, _) in STAGES {
        let library = directory.path().join(format!("lib{stage}.so"));
        let names = [format!("-DSTAGE={stage}"), format!("-DSTAGE_SINK={stage}_sink")];
        run_tool("cc", &["-g", "-shared", "-fPIC", &names[0], &names[1], source, "-o", text(&library)]);
        libraries.push(library);
    }
    let paths: Vec<&str> = libraries.iter().map(|library| text(library)).collect();
    let run_path = format!("-Wl,-rpath,{}", text(directory.path()));
    run_tool("cc", &[&["-g", source, "-o", text(&program), &run_path], paths.as_slice()].concat());
    for library in &libraries {
        let file = fs::OpenOptions::new().write(true).open(library).expect("a library");
        file.set_len(1 << 30).expect("a sparse file");
        chown(library, Some(SOMEBODY), None).expect("root can give files away");
    }
    let mut target = fixture::start_path(&program, &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    STAGES.iter().for_each(|_| drop(fixture::work(&mut target)));
    let report = agent.report_when(|report| holder(report, 3333).1.is_some());
    assert_lines(&report);
    assert!(peaks(&agent) < 400 << 10, "{} KiB", peaks(&agent));
    for process in [&[agent.pid()], proc::children(agent.pid()).as_slice()].concat() {
        let files = proc::open_files(process);
        assert!(!files.iter().any(|name| name.contains("memfd")), "{files:?}");
    }
    assert_lines(&agent.interrupt());
}

/// A debug file of another build, one that was changed, and one that is damaged: the file's own symbols are there.
#[test]
fn debug_files_that_do_not_fit() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let foreign = |debug: &Path| {
        run_tool(
            "objcopy",
            &["--only-keep-debug", text(&std::env::current_exe().expect("this test")), text(debug)],
        );
    };
    let changed = |debug: &Path| {
        damage_section(debug, ".comment", |bytes| bytes[0] ^= 1);
    };
    let zeroed = |debug: &Path| damage_section(debug, ".debug_info", |bytes| bytes.fill(0xff));
    let program = build(directory.path());
    split(&program, |_| (), foreign);
    let report = trace(&program);
    assert_names(&report);
    assert_unread(&report, "debug_file", "other_build");
    let program = build(directory.path());
    split(&program, |_| (), changed);
    let report = trace(&program);
    assert_names(&report);
    assert_unread(&report, "debug_file", "refused");
    let program = build(directory.path());
    split(&program, zeroed, |_| ());
    let report = trace(&program);
    assert_names(&report);
    assert_unread(&report, "debug_file", "refused");
    let program = build(directory.path());
    split(&program, |_| (), |_| ());
    let report = trace(&program);
    assert_lines(&report);
    assert!(report.remarks.is_empty(), "{:?}", report.remarks);
}

#[test]
fn long_names_are_cut() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (source, program) = (directory.path().join("long.c"), directory.path().join("long"));
    let short = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/c/inlined.c")).expect("a source");
    let name = format!("keep_{}_end", "x".repeat(1 << 20));
    fs::write(&source, short.replace("keep_directly", &name)).expect("a temporary file");
    run_tool("cc", &["-O2", "-g", text(&source), "-o", text(&program)]);
    let mut target = fixture::start_path(&program, &[]);
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    let report = agent.last_report();
    let name = holder(&report, 1234).0.expect("a name");
    assert!(
        name.len() <= 4096 && name.starts_with("keep_x") && name.ends_with("x_end"),
        "{} bytes",
        name.len()
    );
    // For people it is shorter.
    let options = ["run", "--top", "0", "--", text(&program)];
    let finished = memtrace_tests::memtrace(options);
    let longest = finished.stdout.lines().map(str::len).max().unwrap_or_default();
    assert!(finished.stdout.contains("keep_x") && longest < 1000, "{longest}\n{}", finished.stderr);
}
