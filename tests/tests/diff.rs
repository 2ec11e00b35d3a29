//! `memtrace diff`: what grew between two saved reports.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use memtrace_tests::{
    CSource, Finished, Frame, assert_refused, assert_usage, can_trace, compile, fixture, memtrace,
    saved::{attach, wait_for_report},
};
use serde::Deserialize;

/// What the program was built with.
const BUILDS: [&[&str]; 2] = [&["-O1", "-g"], &["-O2", "-g", "-DSECOND", "-fno-inline"]];

/// The JSON.
#[derive(Debug, Deserialize)]
struct Comparison {
    before: Side,
    after: Side,
    grown: Vec<Entry>,
    new: Vec<Entry>,
    shrunk: Vec<Entry>,
    gone: Vec<Entry>,
    found: [usize; 5],
}

#[derive(Debug, Deserialize)]
struct Side {
    elapsed_s: f64,
    bytes: u64,
    blocks: u64,
}

#[derive(Debug, Deserialize)]
struct Entry {
    before_bytes: u64,
    before_blocks: u64,
    bytes: u64,
    blocks: u64,
    frames: Vec<Frame>,
}

impl Entry {
    fn names(&self) -> (&str, [u64; 4]) {
        let name = self.frames.first().map_or("", Frame::name);
        (name, [self.before_bytes, self.before_blocks, self.bytes, self.blocks])
    }
}

fn diff(files: &[&Path], options: &[&str]) -> Finished {
    let files = files.iter().map(|file| file.as_os_str());
    memtrace([OsStr::new("diff")].into_iter().chain(files).chain(options.iter().map(OsStr::new)))
}

fn json(files: &[&Path], options: &[&str]) -> Comparison {
    let finished = diff(files, &[&["-f", "json"], options].concat());
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

/// A session of three rounds of a build of the program, in a directory of its own.
fn save(directory: &Path, build: usize) -> PathBuf {
    let directory = directory.join(build.to_string());
    std::fs::create_dir(&directory).expect("a directory");
    let program = compile(&directory, "builds", CSource { file: "builds.c", options: BUILDS[build] });
    let file = directory.join("session.mt");
    let mut target = fixture::start_path(&program, &[]);
    let agent = attach(&[target.pid()], &file, &[]);
    for _ in 0..3 {
        wait_for_report(&file);
        fixture::work(&mut target);
    }
    assert_eq!(target.finish().status, 0);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    std::fs::remove_file(program).expect("the program is there");
    file
}

/// Frames of functions that are in both builds have other addresses and lines.
fn have_moved(entry: &Entry, other: &Entry) -> bool {
    entry.frames.iter().zip(&other.frames).take(2).all(|(a, b)| a.offset != b.offset && a.line != b.line)
}

/// The function that leaks in the second build is named first, and nothing that stayed is named.
#[test]
fn two_builds() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (first, second) = (save(directory.path(), 0), save(directory.path(), 1));
    let found = json(&[&first, &second], &[]);
    let names = |entries: &[Entry]| -> Vec<(String, [u64; 4])> {
        entries.iter().map(Entry::names).map(|(name, figures)| (name.to_owned(), figures)).collect()
    };
    let named = |name: &str, figures| (name.to_owned(), figures);
    assert_eq!(
        names(&found.new),
        [named("handle_request", [0, 0, 42_000, 60]), named("added", [0, 0, 120, 3])]
    );
    assert_eq!(names(&found.grown), [named("keep_more", [900, 3, 1800, 6])]);
    assert_eq!(names(&found.gone), [named("dropped", [150, 3, 0, 0])]);
    assert!(found.shrunk.is_empty(), "{:?}", found.shrunk);
    // Those of `keep_large`, once for each block or together, and of `keep_small`.
    assert_eq!(found.found, [1, 2, 0, 1, 2], "{found:#?}");
    assert_eq!((found.before.bytes, found.before.blocks), (11_550, 165));
    assert_eq!((found.after.bytes, found.after.blocks), (54_420, 228));
    // The other way round the same stacks go, at other places.
    let back = json(&[&second, &first], &[]);
    assert_eq!(back.gone[0].names(), ("handle_request", [42_000, 60, 0, 0]));
    assert_eq!(back.shrunk[0].names(), ("keep_more", [1800, 6, 900, 3]));
    assert!(have_moved(&found.grown[0], &back.shrunk[0]), "{found:#?} {back:#?}");
    let text = diff(&[&first, &second], &["--top", "1"]);
    assert_eq!((text.status, text.stderr.as_str()), (0, ""));
    let (grown, new) = text.stdout.split_once("\nNew: 2 stacks\n").expect("what is new");
    assert!(grown.contains("\nGrew: 1 stack\n") && grown.contains("\n  > keep_more "), "{}", text.stdout);
    let first_frame = new.lines().find(|line| line.starts_with("  > ")).unwrap_or_default();
    assert!(first_frame.starts_with("  > handle_request "), "{}", text.stdout);
    assert!(new.contains("1 more stack") && !new.contains("added"), "{}", text.stdout);
}

/// Within a session everything is compared with its first report.
#[test]
fn one_session() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = save(directory.path(), 0);
    let found = json(&[&file], &["-T", "0"]);
    assert!(found.before.elapsed_s < found.after.elapsed_s);
    assert_eq!((found.before.bytes, found.after.bytes), (0, 11_550));
    assert_eq!(found.found[1], found.new.len());
    let all: u64 = found.new.iter().map(|entry| entry.bytes).sum();
    assert_eq!((found.grown.len(), found.shrunk.len(), found.gone.len(), all), (0, 0, 0, 11_550));
    // A copy is another file, and holds the same.
    let copy = file.with_extension("copy");
    std::fs::copy(&file, &copy).expect("a copy");
    let same = json(&[&file, &copy], &[]);
    assert_eq!(same.found, [0, 0, 0, 0, found.new.len()]);
}

#[test]
fn what_cannot_be_compared() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = save(directory.path(), 0);
    let missing = directory.path().join("missing");
    assert_refused(&diff(&[&file, &missing], &[]), 1, "missing");
    assert_refused(&diff(&[&file, Path::new("/bin/true")], &[]), 1, "/bin/true");
    assert_refused(&diff(&[&file], &["--at", "100000"]), 1, "no report 100000");
    assert_usage(&diff(&[&file], &["--at", "1"]));
    assert_usage(&diff(&[&file, &file], &[]));
    let single = directory.path().join("single");
    let saved =
        memtrace(["run", "--leak-check", "off", "--save", &single.display().to_string(), "--", "/bin/true"]);
    assert_eq!(saved.status, 0, "{}", saved.stderr);
    assert_usage(&diff(&[&single], &[]));
}
