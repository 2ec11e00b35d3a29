//! A program that allocates in stages, in functions whose names and lines are known.

use std::path::{Path, PathBuf};

use crate::{
    agent::Agent,
    compiler::run_tool,
    fixture,
    report::{Remark, Report},
};

/// Its functions, and the bytes that each keeps.
pub const STAGES: [(&str, u64); 3] = [("stage_one", 1111), ("stage_two", 2222), ("stage_three", 3333)];

/// A path for a command line.
///
/// # Panics
/// If it is not UTF-8.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Builds it; its dynamic symbols name its functions.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn build(directory: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/stages.c");
    let mut objects = Vec::new();
    for (stage, _) in STAGES {
        let object = directory.join(stage).with_extension("o");
        let names = [format!("-DSTAGE={stage}"), format!("-DSTAGE_SINK={stage}_sink")];
        run_tool("cc", &["-g", "-O1", "-c", &names[0], &names[1], source, "-o", text(&object)]);
        objects.push(object);
    }
    let program = directory.join("stages");
    let objects: Vec<&str> = objects.iter().map(|object| text(object)).collect();
    run_tool("cc", &[&["-g", "-rdynamic", source, "-o", text(&program)], objects.as_slice()].concat());
    program
}

/// Traces all stages.
///
/// # Panics
/// If the agent or the program fails.
#[must_use]
pub fn trace(program: &Path) -> Report {
    let mut target = fixture::start_path(program, &[]);
    let agent = Agent::attach(&[target.pid()], &[]);
    STAGES.iter().for_each(|_| drop(fixture::work(&mut target)));
    assert_eq!(target.finish().status, 0);
    agent.last_report()
}

/// The function that holds so many bytes, and its line.
#[must_use]
pub fn holder(report: &Report, bytes: u64) -> (Option<&str>, Option<u32>) {
    let stack = report.stacks.iter().find(|stack| stack.bytes == bytes);
    let frame = stack.and_then(|stack| stack.frames.first());
    frame.map_or((None, None), |frame| (frame.function.as_deref(), frame.line))
}

/// Asserts that every stage has its name.
///
/// # Panics
/// If one has not.
#[track_caller]
pub fn assert_names(report: &Report) {
    for (stage, bytes) in STAGES {
        assert_eq!(holder(report, bytes).0, Some(stage), "{:#?}", report.stacks);
    }
}

/// Asserts that every stage has its name and a line.
///
/// # Panics
/// If one has not.
#[track_caller]
pub fn assert_lines(report: &Report) {
    assert_names(report);
    assert!(STAGES.iter().all(|(_, bytes)| holder(report, *bytes).1.is_some()), "{:#?}", report.stacks);
}

/// Asserts that the report says what of a file is not used, and what kind of problem it is.
///
/// # Panics
/// If it does not.
#[track_caller]
pub fn assert_unread(report: &Report, unread: &str, problem: &str) {
    let is_it = |remark: &Remark| {
        let kind = remark.value("problem");
        let has_kind = kind.as_str() == Some(problem) || kind.get(problem).is_some();
        remark.key == "file_unread" && remark.value("unread") == unread && has_kind
    };
    assert!(report.remarks.iter().any(is_it), "{:#?}", report.remarks);
}
