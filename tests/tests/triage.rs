//! `memtrace triage`: programs that fill a known place, while it looks.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use memtrace_tests::{
    CSource, Cgroup, Finished, Place, Running, Triage, TriageReport, agent_path, can_trace, compile,
    memtrace, remark, unprivileged,
};
use nix::sys::signal::Signal;

/// As in places.c.
const SIZE: u64 = 24 << 20;
/// What the figures may be off by: 2 % is less.
const OFF: u64 = 1 << 20;

/// Tests look at the whole machine: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn built() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "places.c", options: &["-O1"] };
    let program = compile(directory.path(), "places", source);
    (directory, program)
}

fn parse(line: &str) -> Triage {
    let report: TriageReport = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let triage = report.triage;
    let off = triage.sum_bytes.abs_diff(triage.total_bytes);
    assert!(off * 100 <= triage.total_bytes, "{} of {}", triage.sum_bytes, triage.total_bytes);
    assert_eq!(triage.answer.len(), 3);
    triage
}

/// A program that has filled its place between two looks, and what these told.
struct Filled {
    _program: Running,
    pid: u32,
    number: u64,
    /// What the kernel's cache of dentries grew by meanwhile: what is free in it is used first.
    dentry_bytes: u64,
    triage: Triage,
}

/// Memory of the cache of dentries.
fn dentry_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let fields = text.lines().find_map(|line| line.strip_prefix("dentry ")).unwrap_or_default();
    let numbers: Vec<u64> = fields.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // active objects, objects, size of one.
    numbers.get(1).zip(numbers.get(2)).map_or(0, |(objects, size)| objects * size)
}

/// Looks every two seconds, and not while the program fills its place: growth in two looks would be in neither whole. The look
/// after the program was done may still be the one that began before: growth is the largest of both.
fn filled(what: &str, place: &str, is_it: impl Fn(&Place, u32) -> bool) -> Filled {
    let (directory, program) = built();
    let mut command = Command::new(program);
    command.arg(what).arg(place);
    filled_by(Running::spawn(&mut command), directory.path(), is_it)
}

fn filled_by(mut program: Running, _directory: &Path, is_it: impl Fn(&Place, u32) -> bool) -> Filled {
    program.line_with("ready");
    let options = ["triage", "-n", "0", "-i", "2s", "-T", "0", "-f", "json"];
    let mut agent = Running::spawn(Command::new(agent_path()).args(options));
    parse(&agent.line().expect("a report"));
    agent.signal(Signal::SIGSTOP);
    let before = dentry_bytes();
    program.write_line("");
    let done = program.line_with("done");
    let dentry_bytes = dentry_bytes().saturating_sub(before);
    agent.signal(Signal::SIGCONT);
    let words: Vec<&str> = done.split(' ').collect();
    let (pid, number) = (words[1].parse().expect("a pid"), words[2].parse().expect("a number"));
    let mut reports: Vec<Triage> = (0..2).map(|_| parse(&agent.line().expect("a report"))).collect();
    let grown = |triage: &Triage| {
        let of_it = triage.grown.iter().filter(|place| is_it(place, pid)).map(|place| place.grown_bytes);
        of_it.max().unwrap_or(0)
    };
    // One look may have come in between.
    reports.sort_by_key(|triage| std::cmp::Reverse(grown(triage)));
    Filled { _program: program, pid, number, dentry_bytes, triage: reports.swap_remove(0) }
}

/// The place is named, with the right number, before everything that is not another process's.
fn assert_first(filled: &Filled, bytes: u64, off: u64, is_it: impl Fn(&Place, u32) -> bool) -> Place {
    let grown = &filled.triage.grown;
    let at = grown.iter().position(|place| is_it(place, filled.pid));
    let Some(at) = at else { panic!("not named: {:#?}", filled.triage) };
    let place = &grown[at];
    let is_right = u64::try_from(place.grown_bytes).is_ok_and(|grown| grown.abs_diff(bytes) <= off);
    assert!(is_right, "{} of {bytes}: {place:?}", place.grown_bytes);
    for earlier in &grown[..at] {
        // Others compile and read files at the same time.
        let is_foreign = earlier.pid.is_some_and(|pid| pid != filled.pid)
            || earlier.place == "slab_cache" && earlier.name.as_deref() != Some("dentry");
        assert!(is_foreign, "before it: {earlier:?}");
    }
    if at == 0 {
        assert!(
            filled.triage.answer[0].starts_with(&format!("GROWS {}", place.text)),
            "{:?}",
            filled.triage.answer
        );
    } else {
        remark("something else on this machine grew more");
    }
    place.clone()
}

fn of(kind: &'static str) -> impl Fn(&Place, u32) -> bool + Copy {
    move |place, pid| place.place == kind && place.pid == Some(pid)
}

/// The next command is there, if nothing else grew more.
fn assert_next(filled: &Filled, command: &str) {
    let is_first =
        filled.triage.grown.first().is_none_or(|place| place.pid.is_none_or(|pid| pid == filled.pid));
    assert!(!is_first || filled.triage.next.iter().any(|next| next == command), "{:?}", filled.triage.next);
}

#[test]
fn anonymous_memory() {
    let _alone = alone();
    let filled = filled("anonymous", "", of("process"));
    assert_first(&filled, SIZE, OFF, of("process"));
    assert_next(&filled, &format!("memtrace attach {}", filled.pid));
}

#[test]
fn a_child_of_a_master() {
    let _alone = alone();
    let filled = filled("child", "", of("process"));
    assert_first(&filled, SIZE, OFF, of("process"));
    let suspect = filled.triage.suspects.iter().find(|suspect| suspect.pid == filled.pid);
    // Three others may have grown more.
    match suspect {
        Some(suspect) => assert!(suspect.parent_pid.is_some_and(|pid| pid != filled.pid)),
        None => assert!(filled.triage.suspects.len() >= 3, "{:?}", filled.triage.suspects),
    }
}

#[test]
fn threads_that_were_never_joined() {
    let _alone = alone();
    let filled = filled("threads", "", of("process"));
    let suspect = filled.triage.suspects.iter().find(|suspect| suspect.pid == filled.pid);
    let Some(suspect) = suspect else { panic!("{:#?}", filled.triage) };
    let stacks = suspect.patterns.iter().find(|pattern| pattern.pattern == "thread_stacks").expect("stacks");
    assert_eq!((stacks.count, stacks.unjoined), (40, Some(true)), "{stacks:?}");
    assert!(stacks.each_bytes.is_some_and(|each| each.abs_diff(8 << 20) <= 64 << 10), "{stacks:?}");
}

#[test]
fn shared_memory_of_many_kinds() {
    let _alone = alone();
    let shared = filled("shared", "", of("process_shmem"));
    assert_first(&shared, SIZE, OFF, of("process_shmem"));
    let memfd = filled("memfd", "", of("memfd"));
    let place = assert_first(&memfd, SIZE, OFF, of("memfd"));
    assert_eq!(place.name.as_deref(), Some("a memfd"));
}

#[test]
fn files_in_a_tmpfs() {
    let _alone = alone();
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let path = directory.path().join("a file");
    let path = path.to_str().expect("text");
    let in_shm = |place: &Place, _| place.place == "tmpfs" && place.name.as_deref() == Some("/dev/shm");
    let file = filled("file", path, in_shm);
    assert_first(&file, SIZE, OFF, in_shm);
    assert_next(&file, "find /dev/shm -xdev -type f -printf '%s %p\\n' | sort -n | tail");
    std::fs::remove_file(path).expect("removed");
    drop(file);
    let deleted = filled("deleted", path, of("deleted_file"));
    let place = assert_first(&deleted, SIZE, OFF, of("deleted_file"));
    assert_eq!(place.name.as_deref(), Some(path));
    assert_next(&deleted, &format!("ls -l /proc/{}/fd", deleted.pid));
}

/// A segment that is gone with the value.
struct Segment(u64);

impl Drop for Segment {
    fn drop(&mut self) {
        let id = i32::try_from(self.0).unwrap_or(-1);
        // SAFETY: removing reads no memory.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

#[test]
fn a_segment_without_a_process() {
    let _alone = alone();
    let filled = filled("segment", "", of("sysv_segments"));
    let _segment = Segment(filled.number);
    let place = assert_first(&filled, SIZE, OFF, of("sysv_segments"));
    assert_eq!((place.unattached, place.count), (Some(true), 1));
    assert_next(&filled, "ipcs -m -p");
}

#[test]
fn page_tables() {
    let _alone = alone();
    let filled = filled("page_tables", "", of("process_page_tables"));
    assert_first(&filled, SIZE, OFF, of("process_page_tables"));
}

#[test]
fn queues_of_the_kernel() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let pipes = filled("pipes", "", of("pipes"));
    let place = assert_first(&pipes, SIZE, OFF, of("pipes"));
    assert_eq!((place.bytes, place.count), (SIZE, SIZE >> 16));
    drop(pipes);
    let sockets = filled("sockets", "", of("sockets"));
    let place = sockets.triage.grown.iter().find(|place| of("sockets")(place, sockets.pid));
    let Some(place) = place else { panic!("{:#?}", sockets.triage) };
    // What was sent, and what the kernel keeps with it.
    assert!(place.bytes >= sockets.number && place.bytes <= sockets.number * 3 / 2, "{place:?}");
}

#[test]
fn slabs_maps_and_areas() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let is_dentry = |place: &Place, _| place.name.as_deref() == Some("dentry");
    let dentries = filled("dentries", directory.path().to_str().expect("text"), is_dentry);
    assert!(dentries.dentry_bytes >= SIZE / 2, "{}", dentries.dentry_bytes);
    assert_first(&dentries, dentries.dentry_bytes, 2 * OFF, is_dentry);
    assert_next(&dentries, "memtrace kernel --cache dentry");
    drop(dentries);
    let map = filled("bpf_map", "", of("bpf_maps"));
    assert_first(&map, SIZE, OFF, of("bpf_maps"));
    drop(map);
    let is_area =
        |place: &Place, _| place.place == "vmalloc" && place.name.as_deref() == Some("array_map_alloc");
    let areas = filled("vmalloc", "", is_area);
    assert_first(&areas, SIZE, OFF, is_area);
    assert_next(&areas, "memtrace kernel --vmalloc");
}

#[test]
fn a_limit_that_is_approached() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let Some(group) = Cgroup::with_memory(2 * SIZE) else {
        remark("skipped: no hierarchy with the memory controller");
        return;
    };
    let path = format!("/{}", group.path().file_name().expect("a name").to_str().expect("text"));
    let (_directory, program) = built();
    let mut program = Running::spawn(Command::new(program).arg("slow"));
    program.line_with("ready");
    group.add(program.pid());
    program.write_line("");
    let options = ["triage", "-i", "2s", "-T", "0", "-f", "json"];
    let triage = parse(memtrace(options).stdout.trim());
    let limit = triage.limits.iter().find(|limit| limit.path.as_ref() == Some(&path)).expect("its limit");
    assert_eq!((limit.kind.as_str(), limit.bytes), ("cgroup_max", 2 * SIZE));
    assert!(limit.used_bytes > 0 && limit.seconds_to_limit.is_some_and(|left| left > 0.0), "{limit:?}");
    if triage.limits[0].path.as_ref() == Some(&path) {
        let victim = &triage.oom_victims[0];
        assert_eq!((victim.pid, victim.cgroup.as_ref()), (program.pid(), Some(&path)), "{victim:?}");
    } else {
        remark("another limit of this machine was nearer");
    }
    drop(program);
}

#[test]
fn what_the_kernel_said() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let Some(group) = Cgroup::with_memory(SIZE / 2) else {
        remark("skipped: no hierarchy with the memory controller");
        return;
    };
    let path = format!("/{}", group.path().file_name().expect("a name").to_str().expect("text"));
    let (_directory, program) = built();
    let mut program = Running::spawn(Command::new(program).arg("anonymous"));
    program.line_with("ready");
    group.add(program.pid());
    let pid = program.pid();
    program.write_line("");
    let Finished { status, .. } = program.finish();
    assert_eq!(status, 137, "killed");
    let triage = parse(memtrace(["triage", "-i", "100ms", "-f", "json"]).stdout.trim());
    let events = &triage.kernel_log.events;
    let is_it = |killed: &memtrace_tests::KilledProcess| killed.pid == pid;
    let event = events.iter().rev().find(|event| event.killed.as_ref().is_some_and(is_it));
    let Some(event) = event else { panic!("{events:#?}") };
    assert_eq!((event.event.as_str(), event.asked_by.as_str()), ("oom_kill", "places"));
    assert_eq!((event.constraint.as_deref(), event.cgroup.as_ref()), (Some("cgroup"), Some(&path)));
    assert_eq!(event.limit_bytes, Some(SIZE / 2));
    let killed = event.killed.as_ref().expect("a process");
    assert!(killed.comm == "places" && killed.anon_bytes.abs_diff(SIZE / 2) <= 2 * OFF, "{killed:?}");
}

#[test]
fn names_do_not_reach_the_terminal() {
    let _alone = alone();
    let (_directory, program) = built();
    let mut program = Running::spawn(Command::new(program).arg("named"));
    program.line_with("ready");
    let mut agent =
        Running::spawn(Command::new(agent_path()).args(["triage", "-n", "0", "-i", "1s", "-T", "0"]));
    agent.line_with("NEXT");
    program.write_line("");
    program.line_with("done");
    let line = agent.line_with(&format!("(pid {})", program.pid()));
    assert!(line.contains("a)\\x0a\\x1b[2J\u{fffd} (pid "), "{line}");
}

#[test]
fn what_is_missing_is_said() {
    let _alone = alone();
    let finished = unprivileged(&["triage", "-i", "100ms", "-f", "json"]);
    let triage = parse(finished.stdout.trim());
    let missing: Vec<&str> = triage.missing.iter().map(|missing| missing.what.as_str()).collect();
    for what in ["process_shares", "descriptors", "slab_caches", "vmalloc_callers"] {
        assert!(missing.contains(&what), "{missing:?}");
    }
    if nix::unistd::geteuid().is_root() {
        let agent = agent_path();
        let agent = agent.to_str().expect("text");
        let inside = ["--pid", "--fork", "--mount-proc", agent, "triage", "-i", "100ms", "-f", "json"];
        let mut container = Running::spawn(Command::new("unshare").args(inside));
        let triage = parse(&container.line().expect("a report"));
        assert!(triage.missing.iter().any(|missing| missing.what == "pid_namespace"), "{:?}", triage.missing);
        assert!(triage.largest.iter().all(|place| place.place != "process"), "{:?}", triage.largest);
    }
}
