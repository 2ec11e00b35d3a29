//! `memtrace scan`: programs that know their blocks and have lost some before anyone looked.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use memtrace_tests::{
    Agent, CSource, Heap, HeapReport, LeakCheck, LostSize, Running, agent_path, assert_refused, can_trace,
    compile, memtrace, remark,
};

/// As in scanned.cpp.
const SESSIONS: u64 = 405;
const SESSION: u64 = 56;
const REQUEST: u64 = 200;
const HANDLES: u64 = 600;
const HANDLE: u64 = 984;
const ENTRIES: u64 = 20_000;

/// Scans a process.
fn scan(pid: u32, options: &[&str]) -> Heap {
    let pid = pid.to_string();
    let finished = memtrace([&["scan", &pid, "-f", "json", "-T", "0"], options].concat());
    let is_quiet = finished.stderr.is_empty() || options.contains(&"--stop");
    assert!(finished.status == 0 && is_quiet, "{}", finished.stderr);
    let mut reports = HeapReport::all(&finished.stdout);
    assert_eq!(reports.len(), 1);
    assert!(reports[0].last);
    reports.remove(0).heap
}

fn built(directory: &Path, options: &[&str]) -> PathBuf {
    let options: Vec<&str> = ["-g", "-O1", "-std=c++17"].iter().chain(options).copied().collect();
    compile(directory, "scanned", CSource { file: "scanned.cpp", options: &options })
}

fn start(options: &[&str]) -> (tempfile::TempDir, Running) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut running = Running::spawn(&mut Command::new(built(directory.path(), options)));
    running.line_with("ready");
    (directory, running)
}

/// Where the tests' other allocator is.
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";

/// With jemalloc in place of the C library's allocator. `None`: it is not installed.
fn start_with_jemalloc(settings: &str) -> Option<(tempfile::TempDir, Running)> {
    if !Path::new(JEMALLOC).exists() {
        remark("skipped: libjemalloc.so.2 is not installed");
        return None;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(built(directory.path(), &[]));
    command.env("LD_PRELOAD", JEMALLOC).env("MALLOC_CONF", settings);
    let mut running = Running::spawn(&mut command);
    running.line_with("ready");
    Some((directory, running))
}

fn ask(program: &mut Running, what: &str) {
    program.write_line(what);
    assert_eq!(program.line().as_deref(), Some("done"));
}

/// What the program has lost is lost, and nothing else is.
fn assert_lost(heap: &Heap, sessions: u64) {
    assert_eq!((heap.verdict.as_str(), heap.complete), ("decided", true), "{heap:?}");
    assert_eq!(heap.lost_of(SESSION), [(Some("app::Session"), sessions, sessions)], "{heap:?}");
    assert_eq!(heap.lost_of(REQUEST), [(None, sessions, 0)], "{heap:?}");
    // Of each cycle the first one.
    assert_eq!(heap.lost_of(HANDLE), [(None, HANDLES, HANDLES / 2)], "{heap:?}");
    let lost = heap.lost.expect("a verdict");
    let bytes = sessions * (SESSION + REQUEST) + HANDLES * HANDLE;
    assert_eq!((lost.blocks, lost.bytes), (2 * sessions + HANDLES, bytes), "{heap:?}");
    assert_eq!(heap.directly_lost.map(|lost| lost.blocks), Some(sessions + HANDLES / 2));
}

#[test]
fn what_was_lost_before_the_scan_is_found() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = start(&[]);
    let heap = scan(program.pid(), &[]);
    assert_lost(&heap, SESSIONS);
    assert_eq!(heap.allocator, "glibc");
    let class = |size| heap.classes.iter().find(|class| class.size == size).expect("such blocks");
    assert_eq!(class(SESSION).blocks, 2 * ENTRIES + SESSIONS);
    let hint = |size| (class(size).hint_kind.as_deref(), class(size).hint.as_deref());
    assert_eq!(hint(REQUEST), (Some("text"), Some("GET /index.html HTTP/1.1")));
    assert_eq!(hint(HANDLE), (Some("symbol"), Some("g_table")));
    // What lost most is first.
    assert_eq!(heap.classes[0].size, HANDLE);
    let cache = heap.held_by.iter().find(|held| held.name.as_deref() == Some("g_cache"));
    assert!(cache.is_some_and(|held| held.root == "data" && held.blocks + 100 > 2 * ENTRIES), "{heap:?}");
    assert_lost(&scan(program.pid(), &["--stop"]), SESSIONS);
}

/// While it is traced, too.
#[test]
fn what_was_lost_before_tracing_is_found() {
    if !can_trace() {
        return;
    }
    let (_directory, mut program) = start(&[]);
    let mut agent =
        Agent::attach_with(&[program.pid()], &["--max-overhead", "off", "--leak-check", "always"]);
    ask(&mut program, "lose 100");
    let is_checked = |check: &LeakCheck| check.lost.blocks == 200 && check.before.is_some();
    let report = agent.report_when(|report| report.leak_check.as_ref().is_some_and(is_checked));
    let before = report.leak_check.and_then(|check| check.before).expect("checked");
    assert_eq!(before.lost.blocks, 2 * SESSIONS + HANDLES, "{before:?}");
    assert_eq!(before.lost.bytes, SESSIONS * (SESSION + REQUEST) + HANDLES * HANDLE, "{before:?}");
    assert!(before.checked_blocks > 2 * ENTRIES, "{before:?}");
    let of = |size, lost_blocks| LostSize { size, lost_blocks };
    assert_eq!(before.sizes, [of(HANDLE, HANDLES), of(REQUEST, SESSIONS), of(SESSION, SESSIONS)]);
}

/// Sizes are those of jemalloc's classes: 64, 224 and 1024 bytes.
#[test]
fn what_was_lost_in_a_heap_of_jemalloc() {
    if !can_trace() {
        return;
    }
    let Some((_directory, program)) = start_with_jemalloc("") else { return };
    for options in [&[][..], &["--stop"]] {
        let heap = scan(program.pid(), options);
        assert_eq!((heap.allocator.as_str(), heap.verdict.as_str()), ("jemalloc", "decided"), "{heap:?}");
        assert!(heap.complete, "{heap:?}");
        assert_eq!(heap.lost_of(64), [(Some("app::Session"), SESSIONS, SESSIONS)], "{heap:?}");
        assert_eq!(heap.lost_of(224), [(None, SESSIONS, 0)], "{heap:?}");
        assert_eq!(heap.lost_of(1024), [(None, HANDLES, HANDLES / 2)], "{heap:?}");
        assert_eq!(heap.lost.map(|lost| lost.blocks), Some(2 * SESSIONS + HANDLES), "{heap:?}");
    }
}

#[test]
fn what_jemalloc_keeps_is_no_leak() {
    if !can_trace() {
        return;
    }
    const RELEASED: u64 = 128 << 20;
    // What is free is never given back.
    let Some((_directory, mut program)) = start_with_jemalloc("dirty_decay_ms:-1") else { return };
    ask(&mut program, "hold");
    let held = scan(program.pid(), &[]);
    assert!(held.in_use.bytes > RELEASED && held.kept.bytes < 16 << 20, "{held:?}");
    ask(&mut program, "release");
    let kept = scan(program.pid(), &[]);
    assert!(kept.kept.bytes >= RELEASED && kept.kept.trimmable_bytes >= RELEASED, "{kept:?}");
    assert!(kept.in_use.bytes + RELEASED <= held.in_use.bytes, "{kept:?}");
    assert_eq!(kept.lost.map(|lost| lost.blocks), Some(2 * SESSIONS + HANDLES), "{kept:?}");
}

#[test]
fn nothing_of_redis_is_lost() {
    let is_installed =
        Command::new("redis-server").arg("--version").output().is_ok_and(|output| output.status.success());
    if !can_trace() || !is_installed {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(directory.path().join("socket"));
    let mut redis = Running::spawn(&mut command);
    redis.line_with("eady to accept");
    let heap = scan(redis.pid(), &[]);
    assert_eq!(
        (heap.allocator.as_str(), heap.lost.map(|lost| lost.blocks)),
        ("jemalloc", Some(0)),
        "{heap:?}"
    );
    assert!(heap.in_use.blocks > 500, "{heap:?}");
}

#[test]
fn texts_are_not_shown_if_that_is_not_wanted() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = start(&[]);
    let heap = scan(program.pid(), &["--no-contents"]);
    assert_lost(&heap, SESSIONS);
    let kinds: Vec<_> = heap.classes.iter().filter_map(|class| class.hint_kind.as_deref()).collect();
    assert!(kinds.contains(&"symbol") && !kinds.contains(&"text"), "{kinds:?}");
}

#[test]
fn what_becomes_lost_between_scans() {
    if !can_trace() {
        return;
    }
    let (_directory, mut program) = start(&[]);
    let pid = program.pid().to_string();
    let mut command = Command::new(agent_path());
    command.args(["scan", &pid, "-f", "json", "-T", "0", "-i", "3s", "-n", "2"]);
    let mut agent = Running::spawn(&mut command);
    let first = agent.line().expect("a report");
    ask(&mut program, "lose 77");
    let second = agent.line().expect("another report");
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let [first, second] = &HeapReport::all(&format!("{first}\n{second}"))[..] else { panic!("two reports") };
    assert!(first.heap.growth.is_none() && !first.last && second.last);
    assert_lost(&second.heap, SESSIONS + 77);
    let growth = second.heap.growth.as_ref().expect("what has changed");
    assert_eq!(growth.lost_blocks, 154);
    let grown = |classes: &[memtrace_tests::Grown]| -> Vec<(u64, Option<String>, u64)> {
        classes.iter().map(|class| (class.size, class.r#type.clone(), class.blocks)).collect()
    };
    let session = Some("app::Session".to_owned());
    assert_eq!(grown(&growth.lost), [(REQUEST, None, 77), (SESSION, session.clone(), 77)]);
    assert_eq!(grown(&growth.sizes), [(REQUEST, None, 77), (SESSION, session, 77)]);
}

#[test]
fn what_an_allocator_keeps_is_no_leak() {
    if !can_trace() {
        return;
    }
    const RELEASED: u64 = 128 << 20;
    let (_directory, mut program) = start(&[]);
    ask(&mut program, "hold");
    let held = scan(program.pid(), &[]);
    assert!(held.in_use.bytes > RELEASED && held.kept.bytes < 1 << 20, "{held:?}");
    ask(&mut program, "release");
    let kept = scan(program.pid(), &[]);
    assert_lost(&kept, SESSIONS);
    assert!((RELEASED..RELEASED + (1 << 20)).contains(&kept.kept.bytes), "{kept:?}");
    assert!(kept.kept.trimmable_bytes >= RELEASED - 4096, "{kept:?}");
    assert!(kept.in_use.bytes + RELEASED <= held.in_use.bytes, "{kept:?}");
    ask(&mut program, "trim");
    let trimmed = scan(program.pid(), &[]);
    assert!(trimmed.kept.bytes < 1 << 20 && trimmed.kept.trimmable_bytes == 0, "{trimmed:?}");
    assert!(trimmed.kept.absent_bytes >= RELEASED - 4096, "{trimmed:?}");
    assert_lost(&trimmed, SESSIONS);
}

#[test]
fn there_is_no_verdict_where_a_root_is_missing() {
    if !can_trace() {
        return;
    }
    let (_directory, mut program) = start(&[]);
    ask(&mut program, "hide");
    let heap = scan(program.pid(), &[]);
    assert_eq!((heap.verdict.as_str(), heap.lost, heap.directly_lost), ("root_missing", None, None));
    assert!(heap.classes.iter().all(|class| class.lost_blocks == 0), "{heap:?}");
    assert!(heap.in_use.blocks > 120_000);
}

#[test]
fn names_of_types_without_symbols() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = start(&["-s"]);
    assert_lost(&scan(program.pid(), &[]), SESSIONS);
}

/// Programs without leaks, at work, that are installed.
#[test]
fn nothing_of_other_programs_is_lost() {
    if !can_trace() {
        return;
    }
    let python = "import time\nd = {i: ('x%d' % i, [i] * 3, {'a': i}) for i in range(20000)}\nprint('ready', flush=True)\n\
                  while True:\n    e = [str(i) for i in range(1000)]\n    time.sleep(0.005)";
    let perl = "$| = 1; $h{$_} = [$_, {a => $_}] for 1..20000; print \"ready\\n\"; \
                while (1) { my @a = map { {b => $_} } 1..1000; select undef, undef, undef, 0.005 }";
    let shell = "for i in {1..5000}; do a[i]=\"value $i\"; done; echo ready; while :; do b=(\"${a[@]:1:100}\"); sleep 0.005; done";
    for (program, option, code) in [("python3", "-c", python), ("perl", "-e", perl), ("bash", "-c", shell)] {
        let mut command = Command::new(program);
        command.args([option, code]).env("PYTHONMALLOC", "malloc");
        let is_installed =
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !is_installed {
            continue;
        }
        let mut running = Running::spawn(&mut command);
        running.line_with("ready");
        let heap = scan(running.pid(), &[]);
        assert_eq!(heap.lost.map(|lost| lost.blocks), Some(0), "{program}: {heap:?}");
        assert!(heap.in_use.blocks > 5000, "{program}: {heap:?}");
    }
}

/// Threads that take, pass on and free blocks as fast as they can have all of them.
#[test]
fn nothing_is_lost_of_a_program_at_full_speed() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = compile(directory.path(), "heap", CSource { file: "heap.c", options: &["-O2"] });
    let mut running = Running::spawn(Command::new(program).args(["4", "5000"]));
    running.line_with("ready");
    std::thread::sleep(Duration::from_millis(300));
    let heap = scan(running.pid(), &[]);
    // Where pointers move too fast there is no verdict, which is right too.
    assert!(heap.verdict != "root_missing" && heap.lost.is_none_or(|lost| lost.blocks == 0), "{heap:?}");
    assert!(heap.in_use.blocks > 5000, "{heap:?}");
}

#[test]
fn processes_that_cannot_be_scanned() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    // It makes no heap.
    let options = ["-static", "-nostdlib", "-nostartfiles", "-fno-stack-protector", "-fno-builtin"];
    let program = compile(directory.path(), "bare", CSource { file: "bare.c", options: &options });
    let bare = Running::spawn(&mut Command::new(program));
    let pid = bare.pid().to_string();
    assert_refused(&memtrace(["scan", &pid]), 1, "no heap of glibc or jemalloc was found");
    assert_refused(&memtrace(["scan", &pid, "-n", "2"]), 2, "needs an interval");
    // The others are scanned.
    let (_directory, program) = start(&[]);
    let other = program.pid().to_string();
    let finished = memtrace(["scan", &pid, &other, "-f", "json", "-T", "0"]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains(&pid), "{}", finished.stderr);
    assert_lost(&HeapReport::all(&finished.stdout)[0].heap, SESSIONS);
}

#[test]
fn a_process_that_ends_meanwhile() {
    if !can_trace() {
        return;
    }
    let (_directory, mut program) = start(&[]);
    let pid = program.pid().to_string();
    let mut command = Command::new(agent_path());
    command.args(["scan", &pid, "-i", "2s", "-n", "5"]);
    let mut agent = Running::spawn(&mut command);
    agent.line_with("LOST");
    program.close_stdin();
    assert_eq!(program.finish().status, 0);
    let finished = agent.finish();
    assert_refused(&finished, 1, "has ended");
}

/// In a leak check, blocks from before tracing began are part of the ways to others.
#[test]
fn ways_lead_through_blocks_from_before() {
    if !can_trace() {
        return;
    }
    let (_directory, mut program) = start(&["-fno-omit-frame-pointer"]);
    let mut agent = Agent::attach(&[program.pid()], &["--leak-check", "always"]);
    ask(&mut program, "keep 300");
    let report = agent.report_when(|report| {
        report.stacks.iter().any(|stack| stack.blocks == 300 && !stack.held_by.is_empty())
    });
    let stack = report.stacks.iter().find(|stack| stack.blocks == 300).expect("their stack");
    let held = &stack.held_by[0];
    assert_eq!((held.root.as_str(), held.name.as_deref()), ("data", Some("g_old")), "{held:?}");
    let _ = agent.interrupt();
}

#[test]
fn tracing_first_tells_who_allocates_what_is_lost() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "../corpus/busy_service.cpp", options: &["-g", "-O0"] };
    let target = Running::spawn(&mut Command::new(compile(directory.path(), "busy", source)));
    let pid = target.pid().to_string();
    let finished = memtrace(["scan", &pid, "--duration", "6s", "-f", "json", "-T", "0"]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let heap = HeapReport::all(&finished.stdout).remove(0).heap;
    assert!(heap.traced_s.is_some_and(|time| time > 0.0), "{:?}", heap.traced_s);
    // 96 bytes.
    let sessions =
        heap.classes.iter().find(|class| class.size == 104 && class.lost_blocks > 0).expect("sessions");
    let first = &sessions.allocated_by[0];
    assert!(first.function.contains("forget_session") && first.loses && first.blocks > 0, "{sessions:?}");
    assert!(first.file.as_ref().is_some_and(|file| file.ends_with("busy_service.cpp")), "{first:?}");
    assert!(first.line.is_some() && first.blocks <= sessions.blocks, "{sessions:?}");
    let scanned = memtrace(["scan", &pid, "-f", "json", "-T", "0"]);
    let heap = HeapReport::all(&scanned.stdout).remove(0).heap;
    assert!(heap.traced_s.is_none() && heap.classes.iter().all(|class| class.allocated_by.is_empty()));
}
