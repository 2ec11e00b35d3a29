//! Libraries that come and go: no stack is named after a library that was not there, and one through a library loaded
//! after attaching is complete within a second.

use std::path::{Path, PathBuf};

use memtrace_tests::{Agent, CSource, Report, Totals, can_trace, compile, fixture};

const SMALL: CSource<'_> =
    CSource { file: "plugin.c", options: &["-O2", "-shared", "-fPIC", "-DSIZE=104", "-DKEEP=keep_small"] };
const LARGE: CSource<'_> =
    CSource { file: "plugin.c", options: &["-O2", "-shared", "-fPIC", "-DSIZE=4008", "-DKEEP=keep_large"] };
const PLUGINS: CSource<'_> = CSource { file: "plugins.c", options: &["-O2"] };

/// What is reported after two libraries were loaded and unloaded in turn.
fn after(rounds: u32, pause: u32) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let build = |name: &str, source| -> String {
        let path: PathBuf = compile(directory.path(), name, source);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let (small, large) = (build("small.so", SMALL), build("large.so", LARGE));
    let program = build("plugins", PLUGINS);
    let arguments = [&small, &large, &rounds.to_string(), &pause.to_string()];
    let mut target = fixture::start_path(program, &arguments.map(String::as_str));
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!(target.finish().status, 0);
    report
}

/// Blocks of a size, and how many of them are in complete stacks that begin in a function.
fn kept(report: &Report, size: u64, function: &str) -> (u64, u64) {
    let stacks = report.stacks.iter().filter(|stack| stack.bytes == size * stack.blocks);
    stacks.fold((0, 0), |(all, named), stack| {
        let first = stack.frames.first().and_then(|frame| frame.function.as_deref());
        assert!(first.is_none_or(|name| name == function), "{size} bytes kept by {first:?}");
        let complete = stack.complete && first.is_some();
        (all + stack.blocks, named + if complete { stack.blocks } else { 0 })
    })
}

#[test]
fn quick_changes_name_nobody_else() {
    if !can_trace() {
        return;
    }
    let report = after(200, 0);
    assert_eq!(kept(&report, 104, "keep_small").0, 500);
    assert_eq!(kept(&report, 4008, "keep_large").0, 500);
}

#[test]
fn stacks_are_complete_a_second_after_loading() {
    if !can_trace() {
        return;
    }
    let report = after(4, 1_000_000);
    assert_eq!(kept(&report, 104, "keep_small"), (10, 10), "{:#?}", report.stacks);
    assert_eq!(kept(&report, 4008, "keep_large"), (10, 10), "{:#?}", report.stacks);
}

/// Where the kernel takes no probe, the file is not given up: reports say so, and try again.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_refused_attach_is_tried_again() {
    const LIBRARY: &[&str] = &["-O2", "-shared", "-fPIC", "-fno-builtin", "-DLIBRARY"];
    const MARK: &[u8] = b"begins with int3";
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let build = |name: &str, options| compile(directory.path(), name, CSource { file: "refused.c", options });
    let (library, program) = (build("refused.so", LIBRARY), build("refused", &["-O2"]));
    let mut target = fixture::start_path(program, &[library.to_str().expect("a path in UTF-8")]);
    // Its `malloc` is nobody's that is known: by its exits it would be left out, and not refused.
    let mut agent = Agent::attach(&[target.pid()], &["--return-probes"]);
    let links = agent.links();
    target.write_line("go");
    let _: String = target.line_with("loaded");
    let report = agent.report_when(|report| report.says("attach_refused"));
    let refused = report.remark("attach_refused").and_then(|remark| remark.value("what").as_str());
    assert!(refused.is_some_and(|what| what.contains("refused.so")), "{:?}", report.remarks);
    assert_eq!(agent.links(), links, "nothing stays of an attach that failed");
    // The breakpoint becomes an instruction that can be probed.
    let mut bytes = std::fs::read(&library).expect("the library");
    let mark = bytes.windows(MARK.len()).position(|window| window == MARK).expect("the mark behind it");
    let first = bytes[..mark].iter().rposition(|&byte| byte == 0xcc).expect("int3");
    bytes[first] = 0x90;
    let file = std::fs::OpenOptions::new().write(true).open(&library).expect("the library");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[first..=first], first as u64).expect("a byte");
    let report = agent.report_when(|report| report.says("attached_late"));
    assert!(!report.says("attach_refused"), "{:?}", report.remarks);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!(kept(&report, 104, "keep_own").0, 10, "{:#?}", report.stacks);
    assert_eq!(target.finish().status, 0);
}

/// A target that loads and unloads libraries, and what is done to their files meanwhile.
fn reloaded(libraries: &[&Path], meanwhile: impl Fn()) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = compile(directory.path(), "reloaded", CSource { file: "reloaded.c", options: &["-O2"] });
    let names: Vec<&str> = libraries.iter().map(|path| path.to_str().expect("a path in UTF-8")).collect();
    let mut target = fixture::start_path(program, &names);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    target.write_line("go");
    for at in 0..libraries.len() {
        let _: String = target.line_with("loaded");
        // What is loaded is attached to.
        let _ = agent.fresh_report();
        target.write_line("go");
        let _: String = target.line_with("unloaded");
        let _ = agent.fresh_report();
        if at + 1 < libraries.len() {
            meanwhile();
            target.write_line("go");
        }
    }
    let report = agent.interrupt();
    target.write_line("go");
    assert_eq!(target.finish().status, 0);
    report
}

const OWN: &[&str] = &["-O2", "-shared", "-fPIC", "-fno-builtin", "-DLIBRARY"];

/// The agent knows a file by a descriptor, which is another file's once the first is unloaded.
#[test]
fn a_library_that_comes_after_another_is_not_taken_for_it() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plain = [("small.so", SMALL), ("large.so", LARGE)]
        .map(|(name, source)| compile(directory.path(), name, source));
    let own = compile(directory.path(), "own.so", CSource { file: "reloaded.c", options: OWN });
    // The last one is given the descriptor of the first, which was closed once the second was there.
    let report = reloaded(&[&plain[0], &plain[1], &own], || ());
    assert_eq!(report.called_from("keep_own"), Totals::kept(60_000, 30), "{:?}", report.losses);
}

/// Code that stays where it was is probed once, though the file is another one.
#[test]
fn a_library_that_is_rewritten_while_it_is_unloaded_is_probed_once() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let build = |name: &str, options: &[&str]| {
        compile(directory.path(), name, CSource { file: "reloaded.c", options })
    };
    let (own, more) = (build("own.so", OWN), build("more.so", &[OWN, &["-DMORE"]].concat()));
    let rewrite = || {
        let contents = std::fs::read(&more).expect("the larger library");
        std::fs::write(&own, contents).expect("it can be rewritten");
    };
    let report = reloaded(&[&own, &own], rewrite);
    // Its first block lies where that of the library before was.
    let counted = report.called_from("keep_own");
    assert_eq!((counted.allocated_bytes, counted.allocated_blocks), (30_000, 20), "{:?}", report.losses);
    assert_eq!((counted.bytes, report.losses.missed_frees), (29_000, 1), "{counted:?}");
    let why = report.remark("attached_anew").map(|remark| remark.value("why"));
    assert_eq!(why, Some(&"rewritten".into()), "{:?}", report.remarks);
}
