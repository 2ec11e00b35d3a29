//! `memtrace run --leak-check always`: the blocks of `tests/c/lost` at the ends of their programs, each in the state that its
//! source says, block for block and byte for byte.

use std::{collections::BTreeMap, fs, path::Path};

use memtrace_tests::{CSource, Finished, LeakCheck, Report, Stack, can_trace, compile, memtrace};

/// Blocks and bytes by state: definitely lost, indirectly lost, possibly lost, still reachable.
type Figures = [(u64, u64); 4];

const STATES: [&str; 4] = ["definitely", "indirectly", "possibly", "reachable"];

const LISTS: [&str; 8] =
    ["caller.c", "cycle.c", "doubly.c", "large.c", "list.c", "middle.c", "stale.c", "tree.c"];
const ROOTS: [&str; 11] = [
    "arena.c",
    "cached.c",
    "exited.c",
    "packed.c",
    "register.c",
    "roots.c",
    "running.c",
    "tagged.c",
    "thread.c",
    "threads.c",
    "unreadable.c",
];
const ENDS: [&str; 5] = ["abort.c", "atexit.c", "killed.c", "quick.c", "worker.c"];
const WAYS: [&str; 8] = [
    "aligned.c",
    "array.cpp",
    "bases.cpp",
    "containers.cpp",
    "new.cpp",
    "nothing.cpp",
    "realloc.c",
    "smart.cpp",
];

/// The rest of the line of a program's source that begins like this.
fn stated(file: &str, what: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/lost").join(file);
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = source.lines().filter_map(|line| line.strip_prefix("// ")?.strip_prefix(what));
    lines.next().and_then(|rest| rest.strip_prefix(':')).map(|rest| rest.trim().to_owned())
}

/// Figures as a source states them.
fn truth(file: &str, what: &str) -> Figures {
    let stated = stated(file, what).unwrap_or_else(|| panic!("{file} does not state its {what}"));
    let mut figures = Figures::default();
    for part in stated.split(", ").filter(|part| !part.is_empty()) {
        let words: Vec<&str> = part.split(' ').collect();
        let [state, blocks, bytes] = words[..] else { panic!("{file}: {part}") };
        let place = STATES.iter().position(|known| *known == state).expect("a state");
        figures[place] = (blocks.parse().expect("blocks"), bytes.parse().expect("bytes"));
    }
    figures
}

/// Compiles a program, runs it, and hands over what the agent has written: its end, and its report if that is JSON.
fn run(file: &str, options: &[&str], is_json: bool) -> (Finished, Option<Report>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let standard = if file.ends_with(".cpp") { "-std=c++17" } else { "-std=gnu11" };
    let source = format!("lost/{file}");
    let options_of_compiler = ["-g", "-O0", "-w", standard];
    let source = CSource { file: &source, options: &options_of_compiler };
    let program = compile(directory.path(), "program", source).display().to_string();
    let output = directory.path().join("report").display().to_string();
    let mut arguments = vec!["run", "--leak-check", "always", "-T", "0", "-O", &output];
    if is_json {
        arguments.extend(["-f", "json"]);
    }
    arguments.extend(options);
    arguments.extend(["--", &program]);
    let mut finished = memtrace(&arguments);
    let text = fs::read_to_string(&output)
        .unwrap_or_else(|error| panic!("{file}: no report: {error}: {}", finished.stderr));
    let report = is_json.then(|| Report::parse(text.trim_end()));
    finished.stdout.push_str(&text);
    (finished, report)
}

fn check(file: &str, options: &[&str]) -> LeakCheck {
    let (finished, report) = run(file, options, true);
    let report = report.expect("a report in JSON");
    assert!(report.losses.is_exact(), "{file}: {:?}", report.losses);
    let check = report.leak_check.unwrap_or_else(|| panic!("{file}: no leak check: {}", finished.stderr));
    // Rows say which of them are only possibly lost.
    let sum = |of: fn(&Stack) -> Option<u64>| report.stacks.iter().filter_map(of).sum::<u64>();
    assert_eq!(
        (sum(|stack| stack.possibly_lost_blocks), sum(|stack| stack.possibly_lost_bytes)),
        (check.possibly_lost.blocks, check.possibly_lost.bytes),
        "{file}"
    );
    assert!(check.complete && check.undecided_blocks == 0, "{file}: {check:?}");
    check
}

fn figures(check: &LeakCheck) -> Figures {
    [check.directly_lost, check.indirectly_lost, check.possibly_lost, check.reachable]
        .map(|amount| (amount.blocks, amount.bytes))
}

/// What is the program's own, without what its runtime keeps. `bases` remembers that by program.
fn own(file: &str, options: &[&str], bases: &mut BTreeMap<String, Figures>) -> Figures {
    let all = figures(&check(file, options));
    let Some(baseline) = stated(file, "baseline") else { return all };
    let base = *bases.entry(baseline).or_insert_with_key(|file| figures(&check(file, &[])));
    let minus = |place: usize| {
        let ((blocks, bytes), (base_blocks, base_bytes)) = (all[place], base[place]);
        // Each state of its own: something of the runtime's that changes its state is a difference.
        let rest = blocks.checked_sub(base_blocks).zip(bytes.checked_sub(base_bytes));
        rest.unwrap_or_else(|| panic!("{file}: {all:?} is less than its baseline, {base:?}"))
    };
    [minus(0), minus(1), minus(2), minus(3)]
}

fn assert_true(files: &[&str]) {
    if !can_trace() {
        return;
    }
    let mut bases = BTreeMap::new();
    let wrong: Vec<String> = files
        .iter()
        .filter(|file| !is_runtime(file))
        .filter_map(|file| {
            let (found, truth) = (own(file, &[], &mut bases), truth(file, "truth"));
            (found != truth).then(|| format!("{file}: {found:?}, in truth {truth:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "blocks and bytes of {STATES:?}: {wrong:#?}");
}

/// Programs that show what the runtime allocates, which is not the same everywhere.
fn is_runtime(file: &str) -> bool {
    ["nothing.cpp", "thread.c", "threads.c"].contains(&file)
}

#[test]
fn lists_trees_and_cycles() {
    assert_true(&LISTS);
}

#[test]
fn places_of_pointers() {
    assert_true(&ROOTS);
}

#[test]
fn ways_to_end() {
    assert_true(&ENDS);
}

#[test]
fn ways_to_allocate() {
    assert_true(&WAYS);
}

#[test]
fn every_program_is_run() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/lost");
    let mut there: Vec<String> = fs::read_dir(&directory)
        .expect("the programs")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.ends_with(".c") || name.ends_with(".cpp"))
        .collect();
    there.sort();
    let mut listed = [&LISTS[..], &ROOTS, &ENDS, &WAYS].concat();
    listed.sort_unstable();
    assert_eq!(there, listed);
}

/// Nothing of a runtime's is lost; C++'s is there, so the baseline is not empty.
#[test]
fn runtimes_lose_nothing() {
    if !can_trace() {
        return;
    }
    for file in ["nothing.cpp", "thread.c", "threads.c"] {
        let [definitely, indirectly, possibly, reachable] = figures(&check(file, &[]));
        assert_eq!((definitely, indirectly), ((0, 0), (0, 0)), "{file}");
        assert!(possibly.0 + reachable.0 > 0, "{file}");
    }
}

#[test]
fn packed_pointers_if_asked_for() {
    if !can_trace() {
        return;
    }
    assert_eq!(figures(&check("packed.c", &["--unaligned"])), truth("packed.c", "unaligned"));
}

/// valgrind's summary, in its words.
#[test]
fn summary_in_text() {
    if !can_trace() {
        return;
    }
    let (finished, _) = run("middle.c", &[], false);
    let summary = "LEAK SUMMARY of program (pid PID):\n   definitely lost: 64 bytes in 1 blocks\n   indirectly lost: 48 bytes in 1 blocks\n     \
                   possibly lost: 208 bytes in 3 blocks\n   still reachable: 80 bytes in 1 blocks\n        \
                   suppressed: 0 bytes in 0 blocks\n";
    let (_, pid) = finished.stdout.split_once("(pid ").expect("a pid");
    let (pid, _) = pid.split_once(')').expect("a pid");
    assert!(finished.stdout.contains(&summary.replace("PID", pid)), "{}", finished.stdout);
    let remark =
        "    1 of 1 block possibly lost (96 B): only a pointer to the middle of a block leads to it\n";
    assert!(finished.stdout.contains(remark), "{}", finished.stdout);
}

/// Only for what is lost: possibly lost and reachable blocks are no error.
#[test]
fn error_exitcode() {
    if !can_trace() {
        return;
    }
    for (file, options, status) in [
        ("caller.c", &["--error-exitcode", "99"][..], 99),
        ("caller.c", &[], 0),
        ("roots.c", &["--error-exitcode", "99"], 0),
        ("tagged.c", &["--error-exitcode", "99"], 0),
        ("killed.c", &["--error-exitcode", "99"], 99),
        ("killed.c", &[], 128 + 15),
    ] {
        let (finished, _) = run(file, options, true);
        assert_eq!(finished.status, status, "{file} {options:?}: {}", finished.stderr);
    }
}

/// A leak in a process that the command starts is not the command's: that is said.
#[test]
fn error_exitcode_and_forks() {
    if !can_trace() {
        return;
    }
    let run = |script: &str| memtrace(["run", "--error-exitcode", "99", "--", "/bin/sh", "-c", script]);
    let forked = run("/bin/true; exit 3");
    assert_eq!(forked.status, 3, "{}", forked.stderr);
    assert!(forked.stderr.contains("of 1 process that it started"), "{}", forked.stderr);
    let alone = run("exit 3");
    assert!(alone.status == 3 && !alone.stderr.contains("started,"), "{}", alone.stderr);
}

#[test]
fn suppressions() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("suppressions");
    let option = path.display().to_string();
    let options = ["--suppressions", &option, "--error-exitcode", "99"];
    for (text, suppressed, definitely, indirectly, status) in [
        ("# nothing\nleak:^other$\n", (0, 0), (5, 200), (5, 80), 99),
        ("leak:inner\n", (5, 80), (5, 200), (0, 0), 99),
        ("leak:^outer$\n", (10, 280), (0, 0), (0, 0), 0),
        ("leak:caller.c\n", (10, 280), (0, 0), (0, 0), 0),
    ] {
        fs::write(&path, text).expect("suppressions can be written");
        let (finished, report) = run("caller.c", &options, true);
        let check = report.and_then(|report| report.leak_check).expect("a leak check");
        let [found_definitely, found_indirectly, ..] = figures(&check);
        let found = (check.suppressed.blocks, check.suppressed.bytes);
        assert_eq!(
            (found, found_definitely, found_indirectly),
            (suppressed, definitely, indirectly),
            "{text}"
        );
        assert_eq!(finished.status, status, "{text}");
    }
}

/// What `--gen-suppressions` prints suppresses everything, and each line something.
#[test]
fn generated_suppressions() {
    if !can_trace() {
        return;
    }
    let (finished, _) = run("caller.c", &["--gen-suppressions"], true);
    let mut lines: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("leak:")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["leak:^inner$", "leak:^outer$"], "{}", finished.stderr);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("suppressions");
    fs::write(&path, lines.join("\n")).expect("suppressions can be written");
    let check = check("caller.c", &["--suppressions", &path.display().to_string()]);
    assert_eq!((check.suppressed.blocks, check.suppressed.bytes), (10, 280));
    assert_eq!(figures(&check), [(0, 0); 4]);
}
