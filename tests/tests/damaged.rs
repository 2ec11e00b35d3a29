//! Saved sessions that are cut off, damaged, made up, or of another version: said in one line, without a panic.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    CSource, Finished, Running, agent_path, assert_refused, can_trace, compile, fixture, memtrace, run_tool,
    saved::{Parts, attach, record, report, shown, wait_for_report},
};

const FAILED: i32 = 1;

/// Where the header has the versions of the container and of what is in it.
const VERSIONS: [(usize, &str); 2] = [(8, "format"), (12, "schema")];

/// A saved session, and its last two reports as they are shown.
struct Session {
    _directory: tempfile::TempDir,
    file: PathBuf,
    parts: Parts,
    shown: [String; 2],
}

impl Session {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = CSource { file: "builds.c", options: &["-O1", "-g"] };
        let program = compile(directory.path(), "builds", source);
        let file = directory.path().join("session.mt");
        let mut target = fixture::start_path(&program, &[]);
        let agent = attach(&[target.pid()], &file, &[]);
        wait_for_report(&file);
        for _ in 0..2 {
            fixture::work(&mut target);
            wait_for_report(&file);
        }
        assert_eq!(target.finish().status, 0);
        assert_eq!(agent.finish().status, 0);
        let parts = Parts::of(&file);
        let number = parts.records.len();
        let shown = [number - 1, number].map(|at| shown(&file, &["--at", &at.to_string()]));
        assert!(shown[0] != shown[1] && shown[1].contains("keep_large"), "{shown:?}");
        Self { _directory: directory, file, parts, shown }
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("the session")
    }

    /// What is shown of a file with these bytes.
    fn with(&self, bytes: &[u8]) -> Finished {
        let file = self.file.with_extension("damaged");
        fs::write(&file, bytes).expect("a file");
        report(&file, &[])
    }

    /// What is shown if the records are these.
    fn with_records(&self, records: &[Vec<u8>]) -> Finished {
        let file = self.file.with_extension("records");
        Parts { records: records.to_vec(), ..self.parts.clone() }.write(&file);
        report(&file, &[])
    }
}

/// The report is shown, with a warning.
#[track_caller]
fn assert_warned(finished: &Finished, shown: &str, word: &str) {
    assert_eq!((finished.status, finished.stdout.as_str()), (0, shown), "{}", finished.stderr);
    assert!(finished.stderr.lines().count() == 1 && finished.stderr.contains(word), "{}", finished.stderr);
}

#[test]
fn cut_off() {
    if !can_trace() {
        return;
    }
    let session = Session::new();
    let bytes = session.bytes();
    let [.., last] = session.parts.records.as_slice() else { panic!("no records") };
    let second = bytes.len() - last.len();
    for length in [second + 1, second + 7, second + 8, bytes.len() - 1] {
        assert_warned(&session.with(&bytes[..length]), &session.shown[0], "ends within a report");
    }
    let whole = session.with(&bytes[..second]);
    assert_eq!((whole.stdout, whole.stderr.as_str()), (session.shown[0].clone(), ""));
    let header = session.parts.header.len();
    for length in [header, header + 1, header + session.parts.records[0].len() - 1] {
        assert_refused(&session.with(&bytes[..length]), FAILED, "no complete report");
    }
    for length in [8, header - 1] {
        assert_refused(&session.with(&bytes[..length]), FAILED, "damaged at its beginning");
    }
    for length in [0, 1, 7] {
        assert_refused(&session.with(&bytes[..length]), FAILED, "not a saved session");
    }
}

#[test]
fn damaged() {
    if !can_trace() {
        return;
    }
    let session = Session::new();
    let bytes = session.bytes();
    let with = |place: usize| {
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x10;
        session.with(&bytes)
    };
    let header = session.parts.header.len();
    let last = bytes.len() - session.parts.records.last().expect("a record").len();
    // Its checksum and contents. (A length may also be one behind the end of the file.)
    for place in (last + 4..bytes.len()).step_by(7) {
        assert_warned(&with(place), &session.shown[0], "later ones are lost");
    }
    assert_refused(&with(header + 9), FAILED, "no complete report");
    for place in [8, 12, 16, header - 1] {
        assert_refused(&with(place), FAILED, "damaged at its beginning");
    }
    assert_refused(&with(0), FAILED, "not a saved session");
}

#[test]
fn newer() {
    if !can_trace() {
        return;
    }
    let session = Session::new();
    for (place, word) in VERSIONS {
        let mut parts = session.parts.clone();
        parts.set_number(place, 1000);
        parts.write(&session.file);
        let finished = report(&session.file, &[]);
        assert_refused(&finished, FAILED, word);
        assert!(
            finished.stderr.contains("1000") && finished.stderr.contains("written by memtrace"),
            "{}",
            finished.stderr
        );
    }
}

#[test]
fn other_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("text"), "[12:00:00] program (pid 1)\n").expect("a file");
    fs::write(path("empty"), "").expect("a file");
    run_tool("mkfifo", &[path("pipe")]);
    for (file, word) in [
        (path("text"), "not a saved session"),
        (path("empty"), "not a saved session"),
        (agent_path().to_owned(), "not a saved session"),
        (path("pipe"), "not a regular file"),
        (directory.path().to_owned(), "not a regular file"),
        (PathBuf::from("/dev/zero"), "not a regular file"),
        (path("missing"), "cannot read"),
    ] {
        assert_refused(&report(&file, &[]), FAILED, word);
        assert_refused(&memtrace([OsStr::new("diff"), file.as_os_str(), "/dev/null".as_ref()]), FAILED, word);
    }
}

/// Reports that need the ones before them, and come without.
#[test]
fn reports_without_names() {
    if !can_trace() {
        return;
    }
    let session = Session::new();
    // The first record with something in it: later ones have its stacks.
    let has_names =
        |record: &usize| session.parts.contents(*record).windows(10).any(|part| part == b"keep_large");
    let first = (0..session.parts.records.len()).find(has_names).expect("a report of something");
    let mut records = session.parts.records.clone();
    records.remove(first);
    assert_refused(&session.with_records(&records), FAILED, "damaged");
}

/// Whole records that are no reports, or announce more than there is: 64 MiB of memory are enough to see that.
#[test]
fn made_up() {
    if !can_trace() {
        return;
    }
    let session = Session::new();
    let announced = |tag: u8| [&[0x92, 0x96, tag][..], &[0xff; 4]].concat();
    let contents = session.parts.contents(0);
    let made_up = [
        vec![0xc0],
        vec![0x90],
        vec![0x92, 0xc0, 0xc0],
        // An array, a map, a text and bytes of 2^32 - 1.
        announced(0xdd),
        announced(0xdf),
        announced(0xdb),
        announced(0xc6),
        [&[0x92, 0x96, 0x91, 0xdb][..], &[0xff; 4], b"text"].concat(),
        // Values within values.
        vec![0x91; 1 << 20],
        // Much that is nothing.
        vec![0; 200 << 20],
        // A report, and more behind it.
        [contents.as_slice(), b"\0"].concat(),
        contents[..contents.len() - 1].to_vec(),
    ];
    for contents in made_up {
        let file = session.file.with_extension("made-up");
        Parts { records: vec![record(&contents)], ..session.parts.clone() }.write(&file);
        let mut command = Command::new("prlimit");
        command.args(["--data=67108864", "--core=0"]).arg(agent_path()).arg("report").arg(&file);
        assert_refused(&Running::spawn(&mut command).finish(), FAILED, "record 0");
    }
}

/// Reports with wrong values and ids in any place are shown or refused. `MEMTRACE_DAMAGED_ROUNDS` sets how many.
#[test]
fn wrong_values() {
    if !can_trace() {
        return;
    }
    let session = Session::new();
    let rounds = std::env::var("MEMTRACE_DAMAGED_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let file = session.file.with_extension("wrong");
    let mut shown = 0;
    for round in 0..rounds.unwrap_or(25) {
        let mut parts = session.parts.clone();
        let place = random(parts.records.len());
        let mut contents = parts.contents(place);
        for _ in 0..=random(3) {
            let at = random(contents.len());
            // Small values are ids, large ones tags or parts of numbers.
            contents[at] = if random(2) == 0 { random(0x80) as u8 } else { random(0x100) as u8 };
        }
        parts.records[place] = record(&contents);
        parts.write(&file);
        for command in [
            &["report"] as &[&str],
            &["report", "-f", "json", "--filter", "e", "-T", "0"],
            &["diff", "-T", "0"],
        ] {
            let (name, options) = command.split_first().expect("a command");
            let finished = memtrace(arguments(name, &file, options));
            let said = finished.stderr.lines().count();
            let panicked = finished.stderr.contains("panicked");
            assert!(
                !panicked && [0, FAILED].contains(&finished.status),
                "{round} {command:?}: {}",
                finished.stderr
            );
            assert!(
                said <= 1 && (finished.status == 0) != (said == 1),
                "{round} {command:?}: {}",
                finished.stderr
            );
            shown += i32::from(finished.status == 0);
        }
    }
    assert!(shown > 0, "none was shown: nothing was tested but what refuses");
}

fn arguments<'a>(command: &'a str, file: &'a Path, options: &'a [&str]) -> Vec<&'a OsStr> {
    [OsStr::new(command), file.as_os_str()].into_iter().chain(options.iter().map(OsStr::new)).collect()
}
