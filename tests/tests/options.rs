//! What options leave out and what they add.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
};

use memtrace_tests::{Agent, HeapReport, Report, Running, Totals, can_trace, fixture, memtrace};

fn family(options: &[&str]) -> Report {
    let mut target = fixture::start("family", &[]);
    let agent = Agent::attach(&[target.pid()], options);
    fixture::work(&mut target);
    agent.interrupt()
}

/// Blocks outside the sizes asked for are not tracked, `realloc`'s neither.
#[test]
fn sizes() {
    if !can_trace() {
        return;
    }
    let report = family(&["-z", "700", "-Z", "900"]);
    for (function, size) in [("memalign_kept", 700), ("valloc_kept", 800), ("pvalloc_kept", 900)] {
        assert_eq!(report.called_from(function), Totals::kept(7 * size, 7), "{:?}", report.callers());
    }
    for function in
        ["realloc_growing", "realloc_shrinking", "realloc_of_null", "posix_memalign_kept", "malloc_of_zero"]
    {
        assert_eq!(report.called_from(function), Totals::default(), "{function}");
    }
    assert!(report.stacks.iter().all(|stack| (700..=900).contains(&(stack.bytes / stack.blocks))));
}

/// A block shows once it is old enough, and not before.
#[test]
fn older() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["many"]);
    let mut agent = Agent::attach(&[target.pid()], &["--older", "1s"]);
    fixture::work(&mut target);
    let report = agent.report_when(|report| report.called_from("keep_before").blocks == 5000);
    let ages: Vec<_> = report.stacks.iter().filter_map(|stack| stack.oldest_s).collect();
    assert!(!ages.is_empty() && ages.iter().all(|&age| age >= 1.0), "{ages:?}");
    drop(agent);
    let mut target = fixture::start("lifecycle", &["many"]);
    let agent = Agent::attach(&[target.pid()], &["--older", "1h"]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!((report.stacks_found, report.outstanding.blocks), (0, 0), "{:?}", report.callers());
}

/// Each block of a stack, once.
#[test]
fn show_allocs() {
    if !can_trace() {
        return;
    }
    let report = family(&["--show-allocs"]);
    for stack in &report.stacks {
        let addresses: HashSet<_> = stack.allocs.iter().map(|block| &block.addr).collect();
        assert_eq!(addresses.len() as u64, stack.blocks, "{stack:#?}");
        assert_eq!(stack.allocs.iter().map(|block| block.size).sum::<u64>(), stack.bytes, "{stack:#?}");
        assert!(stack.allocs.is_sorted_by(|a, b| a.age_s >= b.age_s), "{stack:#?}");
    }
    assert_eq!(report.called_from("memalign_kept"), Totals::kept(7 * 700, 7));
}

/// Lines of allocations and frees add up to the report.
#[test]
fn trace() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("family", &[]);
    let agent = Agent::attach(&[target.pid()], &["--trace"]);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    let (report, lines) = agent.last_report_and_trace();
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    let mut live = HashMap::new();
    let mut by_stack: HashMap<&str, (u64, u64)> = HashMap::new();
    for line in &lines {
        let stack = by_stack.entry(&line.stack).or_default();
        match line.event.as_str() {
            "alloc" => {
                assert_eq!(live.insert(&line.addr, line.size), None, "{line:?}");
                *stack = (stack.0 + line.size, stack.1 + 1);
            }
            "free" => {
                assert_eq!(live.remove(&line.addr), Some(line.size), "{line:?}");
                *stack = (stack.0 - line.size, stack.1 - 1);
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(live.len() as u64, report.outstanding.blocks);
    assert_eq!(live.values().sum::<u64>(), report.outstanding.bytes);
    for stack in &report.stacks {
        assert_eq!(by_stack.get(&*stack.id), Some(&(stack.bytes, stack.blocks)), "{stack:#?}");
    }
    assert!(lines.iter().any(|line| line.frames.first().is_some_and(|frame| frame.name() == "malloc_freed")));
}

/// The totals are those of all stacks, however few are shown.
#[test]
fn top_and_sort() {
    if !can_trace() {
        return;
    }
    let all = family(&["--sort", "blocks"]);
    assert!(all.stacks.is_sorted_by(|a, b| a.blocks >= b.blocks), "{:?}", all.callers());
    assert_eq!(all.stacks.len(), all.stacks_found);
    let mut target = fixture::start("family", &[]);
    let mut command = std::process::Command::new(memtrace_tests::agent_path());
    command.args(["attach", &target.pid().to_string(), "-f", "json", "-i", "100ms", "--top", "1"]);
    let mut agent = memtrace_tests::Running::spawn(&mut command);
    let _: String = agent.line_with("{");
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    let finished = agent.finish();
    let one = Report::parse(finished.stdout.lines().next_back().unwrap_or_default());
    assert_eq!((one.stacks.len(), one.stacks[0].caller()), (1, "realloc_growing"));
    assert_eq!((one.stacks_found, one.outstanding), (all.stacks_found, all.outstanding));
}

/// Reports end when they were to.
#[test]
fn count_and_duration() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("lifecycle", &["many"]);
    let pid = target.pid().to_string();
    let reports = |options: &[&str]| -> Vec<Report> {
        let finished = memtrace(["attach", &pid, "-f", "json", "-i", "50ms"].iter().chain(options));
        assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
        finished.stdout.lines().map(Report::parse).collect()
    };
    let three = reports(&["-n", "3"]);
    assert_eq!(three.iter().map(|report| report.last).collect::<Vec<_>>(), [false, false, true]);
    let some = reports(&["-d", "120ms"]);
    assert!(some.last().is_some_and(|report| report.last));
    assert_eq!(some.iter().filter(|report| report.last).count(), 1);
    // What is due at the end is the last report, and there is no other.
    let two = reports(&["-d", "100ms"]);
    assert!(two.len() <= 2 && two.last().is_some_and(|report| report.last), "{}", two.len());
}

/// Text for people: what was traced, what is left, who made it; colour only on request.
#[test]
fn text() {
    if !can_trace() {
        return;
    }
    for colour in ["auto", "always"] {
        let mut target = fixture::start("lifecycle", &["many"]);
        let mut command = std::process::Command::new(memtrace_tests::agent_path());
        command.args(["attach", &target.pid().to_string(), "-i", "100ms", "--color", colour]);
        let mut agent = memtrace_tests::Running::spawn(&mut command);
        let _: String = agent.line_with("Outstanding");
        fixture::work(&mut target);
        assert_eq!(target.finish().status, 0);
        let finished = agent.finish();
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        for word in ["last report", "lifecycle (pid", "5,000 blocks", "keep_before", "lifecycle.rs:", "glibc"]
        {
            assert!(finished.stdout.contains(word), "no {word:?} in\n{}", finished.stdout);
        }
        assert_eq!(finished.stdout.contains('\u{1b}'), colour == "always", "{}", finished.stdout);
        assert!(finished.stderr.lines().all(|line| line.starts_with("memtrace: ")), "{}", finished.stderr);
    }
}

/// `scan` selects processes by name, as `attach` does.
#[test]
fn names_to_scan() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let name = format!("slept-{}", std::process::id());
    let program = directory.path().join(&name);
    std::fs::copy("/bin/sleep", &program).expect("a copy");
    let sleepers = [0, 1].map(|_| Running::spawn(Command::new(&program).arg("1000")));
    // What is to be scanned has a heap.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let finished = memtrace(["scan", "--name", &format!("^{name}$"), "-f", "json"]);
    let reports = HeapReport::all(&finished.stdout);
    assert_eq!((finished.status, reports.len()), (0, sleepers.len()), "{}", finished.stderr);
    assert!(reports.iter().all(|report| report.heap.in_use.blocks > 0), "{reports:?}");
}
