//! `memtrace triage`: programs that fill a known place, while it looks.

mod filled;
mod pools;
mod victims;

use std::process::Command;

use memtrace_tests::{
    Cgroup, Finished, Place, Running, agent_path, can_trace, memtrace, remark, unprivileged,
};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use filled::{OFF, SIZE, alone, assert_first, assert_next, built, filled, of, parse};

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
    // A tmpfs keeps no names that are not there.
    let is_tmpfs = statfs(directory.path()).is_ok_and(|kind| kind.filesystem_type() == TMPFS_MAGIC);
    let names = match is_tmpfs {
        true => format!("/sys/fs/memtrace-test-{}-", std::process::id()),
        false => format!("{}/", directory.path().display()),
    };
    let dentries = filled("dentries", &names, is_dentry);
    let bytes = dentries.slab_bytes("dentry");
    assert!(bytes >= SIZE / 2, "{bytes}");
    assert_first(&dentries, bytes, 2 * OFF, is_dentry);
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
