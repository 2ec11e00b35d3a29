//! Kernel mode: leaks by ordinary system calls are named by function, cache and number.

use std::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use memtrace_tests::{Agent, Report, Stack, assert_refused, can_trace, fixture, memtrace, remark};

/// Tests take turns: /proc/slabinfo does not tell whose objects a cache has grown by. `None` where nothing can be traced.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind.
    can_trace().then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Objects each leak makes.
const COUNT: u64 = 4_000;

/// A leak: the fixture's word for it, a function that is on the stack of its largest part, and that part's objects for
/// each that was asked for.
struct Leak {
    kind: &'static str,
    function: &'static str,
    /// The name of the cache, where the kernel lists it.
    cache: Option<&'static str>,
    each: u64,
}

const fn leak(kind: &'static str, function: &'static str, cache: Option<&'static str>, each: u64) -> Leak {
    Leak { kind, function, cache, each }
}

fn names(stack: &Stack) -> Vec<&str> {
    stack.frames.iter().filter_map(|frame| frame.function.as_deref()).collect()
}

fn is_from(stack: &Stack, function: &str) -> bool {
    // Compilers add `.isra.0` and the like.
    names(stack).iter().any(|name| name.split('.').next() == Some(function))
}

/// Asserts that a number is within 2 % of another.
fn assert_close(found: u64, wanted: u64, what: &str) {
    assert!(found.abs_diff(wanted) * 50 <= wanted, "{what}: {found}, not {wanted}");
}

fn check(leak: &Leak) {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &[leak.kind, &COUNT.to_string()]);
    let mut agent = Agent::kernel(&["--pid", &target.pid().to_string()]);
    let _: String = fixture::work(&mut target);
    let wanted = COUNT * leak.each;
    let report = agent.report_when(|report| {
        report
            .stacks
            .first()
            .is_some_and(|first| is_from(first, leak.function) && first.blocks >= wanted * 98 / 100)
    });
    let first = &report.stacks[0];
    assert_close(first.blocks, wanted, leak.kind);
    assert_eq!(first.kind.as_deref(), Some("slab"), "{first:?}");
    assert!(first.cache.is_some(), "{first:?}");
    // Kernels make one of caches of equal objects, and call it by either name.
    if let Some(cache) = leak.cache.filter(|cache| slabinfo().iter().any(|(name, _)| name == cache)) {
        assert_eq!(first.cache.as_deref(), Some(cache), "{:?}", names(first));
    }
    assert!(first.bytes_per_second > 0.0, "it has grown since the previous report: {first:?}");
    assert!(first.oldest_s.is_some_and(|age| age > 0.0), "{first:?}");
    let last = agent.interrupt();
    assert_close(last.stacks[0].blocks, wanted, leak.kind);
    assert_eq!(last.target.kind, "kernel");
}

#[test]
fn since_a_mark_only_later_objects_count() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["epoll", &COUNT.to_string()]);
    let mut agent = Agent::kernel(&["--since-mark", "--pid", &target.pid().to_string()]);
    let _: String = fixture::work(&mut target);
    let made = |report: &Report| -> u64 {
        let stacks = report.stacks.iter().filter(|stack| is_from(stack, "__x64_sys_epoll_ctl"));
        stacks.map(|stack| stack.blocks).sum()
    };
    agent.report_when(|report| made(report) >= COUNT);
    agent.mark();
    let report = agent.report_when(|report| report.span.is_some());
    let span = report.span.expect("a span");
    assert_eq!(made(&report), 0, "{span:?}");
    let age = report.elapsed_s - span.from_s + 0.05;
    assert!(
        report.stacks.iter().all(|stack| stack.oldest_s.is_none_or(|oldest| oldest <= age)),
        "{report:?}"
    );
    let _: Report = agent.interrupt();
}

#[test]
fn unread_datagrams_with_descriptors() {
    check(&leak("datagrams", "unix_dgram_sendmsg", None, 1));
}

#[test]
fn items_of_epoll() {
    check(&leak("epoll", "__x64_sys_epoll_ctl", Some("eventpoll_epi"), 1));
}

#[test]
fn watches_of_inotify() {
    check(&leak("inotify", "__x64_sys_inotify_add_watch", None, 1));
}

#[test]
fn pipes() {
    check(&leak("pipes", "alloc_pipe_info", None, 1));
}

#[test]
fn posix_timers() {
    check(&leak("timers", "__x64_sys_timer_create", None, 1));
}

#[test]
fn keys() {
    check(&leak("keys", "key_alloc", None, 1));
}

#[test]
fn inodes_of_tmpfs() {
    check(&leak("inodes", "shmem_alloc_inode", Some("shmem_inode_cache"), 1));
}

#[test]
fn sockets() {
    check(&leak("sockets", "sk_prot_alloc", Some("TCP"), 1));
}

/// Objects in use of every cache.
fn slabinfo() -> Vec<(String, i64)> {
    let text = fs::read_to_string("/proc/slabinfo").expect("/proc/slabinfo");
    let lines = text.lines().skip(2).map(str::split_ascii_whitespace);
    lines.filter_map(|mut fields| Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))).collect()
}

/// Objects of a cache that may look as if they were left: what the kernel keeps for other reasons.
const KEPT: u64 = 100;

/// Reads reports until one that `is_it`. Objects given to `kfree_rcu` are there still until a grace period is over: some
/// seconds.
fn settled(agent: &mut Agent, is_it: impl Fn(&Report) -> bool) -> Report {
    let mut report = agent.fresh_report();
    for _ in 0..300 {
        if is_it(&report) {
            break;
        }
        report = agent.report();
    }
    report
}

/// A number of operations; fewer where the processor is emulated.
fn scaled(count: u64) -> u64 {
    let divisor = std::env::var("MEMTRACE_TEST_DIVIDE").ok().and_then(|text| text.parse().ok());
    count / divisor.unwrap_or(1).max(1)
}

/// Lets a fixture do something often that leaves nothing behind: nothing is to look as if it did.
fn leaves_no_phantoms(kind: &str, count: u64) {
    let count = scaled(count);
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &[kind, &count.to_string()]);
    let mut agent = Agent::kernel(&["--slab", "--pid", &target.pid().to_string()]);
    let _: String = fixture::work(&mut target);
    let rows = |report: &Report| report.kernel.as_ref().map_or_else(Vec::new, |kernel| kernel.caches.clone());
    let report = settled(&mut agent, |report| rows(report).iter().all(|row| row.blocks <= KEPT));
    for row in rows(&report) {
        remark(&format!("{kind} {count}: {row:?}"));
        assert!(row.blocks <= KEPT, "{row:?}");
        assert!(row.tracked_blocks >= row.blocks && row.phantom_share <= 1.0, "{row:?}");
    }
}

#[test]
fn items_that_epoll_gave_up_are_no_leak() {
    leaves_no_phantoms("epoll-churn", 20_000);
}

#[test]
fn files_that_were_removed_are_no_leak() {
    leaves_no_phantoms("file-churn", 200_000);
}

#[test]
fn connections_that_were_closed_are_no_leak() {
    leaves_no_phantoms("tcp-storm", 5_000);
}

#[test]
fn a_leak_is_told_from_what_is_given_up_by_the_same_stack() {
    let Some(_alone) = alone() else { return };
    let mut churn = fixture::start("kernel_leaks", &["epoll-churn", "20000"]);
    let mut leak = fixture::start("kernel_leaks", &["epoll", &COUNT.to_string()]);
    let pids = format!("{},{}", churn.pid(), leak.pid());
    let mut agent = Agent::kernel(&["--pid", &pids, "--cache", "eventpoll_epi"]);
    let _: String = fixture::work(&mut churn);
    let _: String = fixture::work(&mut leak);
    let report = settled(&mut agent, |report| report.outstanding.blocks <= COUNT + KEPT);
    assert_close(report.outstanding.blocks, COUNT, "items");
    assert_close(report.stacks[0].blocks, COUNT, "items of one stack");
    assert!(report.stacks[0].allocated_blocks >= 20_000 + COUNT, "{:?}", report.stacks[0]);
}

#[test]
fn what_was_given_up_leaves_room_for_a_leak() {
    let Some(_alone) = alone() else { return };
    let mut churn = fixture::start("kernel_leaks", &["epoll-churn", "20000"]);
    let mut leak = fixture::start("kernel_leaks", &["epoll", "1000"]);
    let mut agent = Agent::kernel(&["--cache", "eventpoll_epi", "--max-live", "2000"]);
    let _: String = fixture::work(&mut churn);
    let _: Report = settled(&mut agent, |report| report.outstanding.blocks <= KEPT);
    let _: String = fixture::work(&mut leak);
    let report = settled(&mut agent, |report| report.outstanding.blocks >= 1_000);
    assert!((980..1_000 + KEPT).contains(&report.outstanding.blocks), "{:?}", report.outstanding);
}

#[test]
fn what_others_were_given_is_not_the_targets() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["epoll-churn", "20000"]);
    let mut other = fixture::start("kernel_leaks", &["epoll", &COUNT.to_string()]);
    let items =
        || slabinfo().into_iter().find(|(name, _)| name == "eventpoll_epi").map_or(0, |(_, items)| items);
    let before = items();
    let mut agent = Agent::kernel(&["--cache", "eventpoll_epi", "--pid", &target.pid().to_string()]);
    // No report is to find them out before others have them.
    agent.pause();
    let _: String = fixture::work(&mut target);
    for _ in 0..300 {
        if items() < before + 1_000 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let _: String = fixture::work(&mut other);
    agent.go_on();
    let report = settled(&mut agent, |report| report.outstanding.blocks <= KEPT);
    assert!(report.outstanding.blocks <= KEPT, "{:?}", report.outstanding);
}

/// Whether a remark is about frees that were not seen in a cache.
fn names_cache(report: &Report, cache: &str) -> bool {
    let unseen = ["freed_unseen", "freed_by_number"].map(|key| report.remark(key));
    let mut caches =
        unseen.into_iter().flatten().filter_map(|remark| remark.value("caches").as_array()).flatten();
    caches.any(|one| one["cache"] == cache)
}

#[test]
fn frees_that_nobody_announces_are_said() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["epoll-churn", "20000"]);
    let agent = Agent::kernel(&["--cache", "eventpoll_epi"]);
    let _: String = fixture::work(&mut target);
    let report = agent.interrupt();
    // Where frees in bulk are seen, there is nothing to say.
    let Some(row) = report.kernel.as_ref().and_then(|kernel| kernel.caches.first()) else { return };
    if row.tracked_blocks > 5_000 {
        assert!(row.phantom_share > 0.5, "{row:?}");
        assert!(names_cache(&report, row.cache.as_deref().unwrap_or_default()), "{:?}", report.remarks);
    }
}

#[test]
fn stacks_recognised_are_those_walked() {
    let Some(_alone) = alone() else { return };
    let mut counts = Vec::new();
    for option in [&[][..], &["--walk-all"][..]] {
        let mut target = fixture::start("kernel_leaks", &["sockets", "1000"]);
        let pid = target.pid().to_string();
        let agent =
            Agent::kernel(&[option, &["--pid", &pid, "--cache", "TCP,filp,sock_inode_cache"]].concat());
        let _: String = fixture::work(&mut target);
        let report = agent.interrupt();
        let mut stacks: Vec<(Vec<String>, u64)> = report
            .stacks
            .iter()
            .map(|stack| (names(stack).into_iter().map(str::to_owned).collect(), stack.blocks))
            .filter(|(_, blocks)| *blocks == 1_000)
            .collect();
        stacks.sort();
        counts.push(stacks);
    }
    assert_eq!(counts[0].len(), 3, "{counts:?}");
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn a_full_table_is_counted_and_said() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["sockets", "4000"]);
    let agent = Agent::kernel(&["--pid", &target.pid().to_string(), "--max-live", "1000"]);
    let _: String = fixture::work(&mut target);
    let report = agent.interrupt();
    assert!(report.losses.live_map_full > 0 && report.losses.live_map_full_bytes > 0, "{:?}", report.losses);
}

#[test]
fn what_finds_no_room_in_the_table_of_stacks_is_shown_without_frames() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["sockets", "500"]);
    // The least there is: 64. Processes that begin and end take them.
    let agent = Agent::kernel(&["--max-stacks", "1"]);
    let status = Command::new("sh")
        .args(["-c", "(echo one; exec sh -c :) | (read word; echo $word) > /dev/null"])
        .status();
    assert!(status.expect("sh").success());
    let _: String = fixture::work(&mut target);
    let report = agent.interrupt();
    assert!(report.losses.stack_table_full > 0, "{:?}", report.losses);
    let is_sockets = |row: &&Stack| !row.complete && row.cache.as_deref() == Some("TCP");
    let row = report.stacks.iter().find(is_sockets).expect("a row of what the fixture left");
    assert!(row.frames.is_empty() && row.blocks >= 500 && row.bytes >= 1_000 * row.blocks, "{row:?}");
}

#[test]
fn killed_under_load_it_leaves_nothing() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["epoll-churn", "300000"]);
    let agent = Agent::kernel(&[]);
    target.write_line("go");
    agent.kill();
    let _: String = target.line_with("done");
    // And the next one works.
    let report = Agent::kernel(&[]).interrupt();
    assert_eq!(report.target.kind, "kernel");
}

#[test]
fn filters_by_size_and_age() {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &["sockets", "500"]);
    let pid = target.pid().to_string();
    let large = Agent::kernel(&["--pid", &pid, "--min-size", "1500", "--max-size", "4096"]);
    let old = Agent::kernel(&["--pid", &pid, "--older", "1h"]);
    let _: String = fixture::work(&mut target);
    let report = large.interrupt();
    assert!(report.stacks.iter().any(|stack| stack.cache.as_deref() == Some("TCP")), "{report:#?}");
    assert!(
        report.stacks.iter().all(|stack| (1_500..=4_096).contains(&(stack.bytes / stack.blocks))),
        "{report:#?}"
    );
    assert_eq!(old.interrupt().outstanding.blocks, 0);
}

#[test]
fn per_cpu_pages_and_vmalloc_memory() {
    let Some(_alone) = alone() else { return };
    let kinds = ["--slab", "--pages", "--percpu", "--vmalloc"];
    let mut agent = Agent::kernel(&kinds);
    // A session of its own has maps of each kind.
    let other = Agent::kernel(&["--max-live", "100000"]);
    let report = agent.report_when(|report| {
        ["page", "percpu"].iter().all(|kind| {
            report.stacks.iter().any(|stack| stack.kind.as_deref() == Some(kind) && stack.blocks > 0)
        })
    });
    drop(other);
    let kernel = report.kernel.expect("kernel mode's part");
    assert_eq!(kernel.kinds, ["slab", "page", "percpu", "vmalloc"]);
    assert!(kernel.own_allocations > 0);
}

#[test]
fn bad_input_is_refused() {
    let Some(_alone) = alone() else { return };
    assert_refused(&memtrace(["kernel", "--cache", "no_such_cache"]), 1, "no_such_cache");
    assert_refused(&memtrace(["kernel", "--cgroup", "/proc"]), 1, "cgroup");
    assert_refused(&memtrace(["kernel", "--pages", "--cache", "dentry"]), 2, "--cache");
    assert_refused(&memtrace(["kernel", "-z", "2", "-Z", "1"]), 2, "--min-size");
}

#[test]
fn memleaks_own_text() {
    let Some(_alone) = alone() else { return };
    let finished = memtrace(["memleak", "--wa-missing-free", "-o", "0", "-T", "3", "1", "1"]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(
        finished.stdout.starts_with("Attaching to kernel allocators, Ctrl+C to quit.\n"),
        "{}",
        finished.stdout
    );
    assert!(
        finished.stdout.contains("] Top 3 stacks with outstanding allocations:\n"),
        "{}",
        finished.stdout
    );
    let percpu = memtrace(["memleak", "--percpu", "1", "1"]);
    assert_eq!(percpu.status, 0, "{}", percpu.stderr);
}
