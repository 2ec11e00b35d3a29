//! Leak checks of running processes: what nothing points to is lost, everything else is not, and its holders are named.

use std::time::Duration;

use memtrace_tests::{Agent, CSource, Holder, Report, Running, can_trace, compile, fixture};

/// As in reach.cpp.
const ENTRIES: u64 = 500;
const APART: u64 = 20_000;

/// The program, built; it goes with the directory.
fn built() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Calls of malloc whose result is not used stay, and so do frames.
    let options = ["-O1", "-g", "-std=c++17", "-fno-builtin", "-fno-optimize-sibling-calls"];
    let source = CSource { file: "reach.cpp", options: &options };
    let program = compile(directory.path(), "reach", source);
    (directory, program)
}

/// A report with a check that began when the program had made its blocks: it has decided on all of them.
fn checked(agent: &mut Agent) -> Report {
    let _: Report = agent.fresh_report();
    agent.report_when(|report| {
        let check = report.leak_check.as_ref();
        let all = report.outstanding.blocks;
        // Samples stand for parts of blocks, so sums are rounded.
        check.is_some_and(|check| {
            let checked = check.reachable.blocks + check.lost.blocks + check.possibly_lost.blocks;
            check.undecided_blocks == 0 && checked + checked / 100 >= all
        })
    })
}

/// A report on the program with a leak check, made with `options`.
fn report(options: &[&str]) -> Report {
    let (_directory, program) = built();
    let mut target = fixture::start_path(program, &[]);
    let all: Vec<&str> = ["--leak-check", "always"].iter().chain(options).copied().collect();
    let mut agent = Agent::attach(&[target.pid()], &all);
    fixture::work(&mut target);
    let report = checked(&mut agent);
    let _ = agent.interrupt();
    end(target);
    report
}

fn end(mut target: Running) {
    target.close_stdin();
    assert_eq!(target.finish().status, 0);
}

fn assert_lost(report: &Report, function: &str, blocks: u64, directly: u64) {
    let lost = report.lost(function);
    assert_eq!(
        (lost.checked, lost.blocks, lost.blocks - lost.indirectly),
        (blocks, blocks, directly),
        "{function}: {:?}",
        report.leak_check
    );
}

#[test]
fn what_nothing_points_to_is_lost_and_nothing_else() {
    if !can_trace() {
        return;
    }
    let report = report(&[]);
    let check = report.leak_check.as_ref().expect("a leak check");
    assert_eq!((check.moment.as_str(), check.scans, check.complete), ("running", 3, true), "{check:?}");
    // Of a list that points both ways, and of each cycle, the first block counts as lost directly.
    assert_lost(&report, "lose_list", 1000, 1);
    assert_lost(&report, "lose_tree", 100_000, 1);
    assert_lost(&report, "lose_cycles", 200, 100);
    assert_lost(&report, "lose_blocks", APART, APART);
    // Encoded pointers cannot be known.
    assert_lost(&report, "mangle", 1, 1);
    assert_lost(&report, "pack", 1, 1);
    for (function, blocks) in [
        ("fill_registry", 2 * ENTRIES),
        ("fill_singleton", 2 * ENTRIES),
        ("fill_chain", ENTRIES),
        ("fill_server", 2 * ENTRIES),
        ("fill_thread", 2 * ENTRIES),
        ("make_thread_local", 1),
        ("give_to_epoll", 1),
        ("give_to_timer", 1),
        ("tag_low", 1),
        ("tag_high", 1),
        ("point_to_middle", 1),
        ("point_from_shared", 1),
        ("point_from_memfd", 1),
    ] {
        let lost = report.lost(function);
        assert_eq!((lost.checked, lost.blocks), (blocks, 0), "{function}: {check:?}");
    }
    let lost = check.lost;
    assert_eq!(lost.blocks, 1000 + 100_000 + 200 + APART + 2);
    assert_eq!(check.directly_lost.blocks, 1 + 1 + 100 + APART + 2);
    // The C library may have a pointer to the middle of what it allocated for the thread.
    assert!((1..=2).contains(&check.possibly_lost.blocks), "{check:?}");
    // First the stack whose loss is largest.
    let first = &report.stacks[0];
    assert!(first.frames.iter().any(|frame| frame.name() == "lose_tree"), "{:?}", report.callers());
}

#[test]
fn holders_are_named() {
    if !can_trace() {
        return;
    }
    let report = report(&[]);
    for (function, root, name) in [
        ("fill_registry", "data", Some("g_registry")),
        ("fill_singleton", "data", Some("Singleton::instance()::one")),
        ("fill_chain", "data", Some("g_chain")),
        ("fill_server", "stack", Some("reach")),
        ("fill_thread", "stack", Some("reach")),
        ("make_thread_local", "tls", None),
        ("give_to_epoll", "epoll", None),
        ("give_to_timer", "timer", None),
        ("point_from_memfd", "mapping", None),
    ] {
        let holder = report.holder(function).unwrap_or_else(|| panic!("{function}: {:?}", report.callers()));
        assert_eq!(holder.root, root, "{function}: {holder:?}");
        assert!((holder.share - 1.0).abs() < 0.01, "{function}: {holder:?}");
        if let Some(name) = name {
            assert_eq!(holder.name.as_deref(), Some(name), "{function}: {holder:?}");
        }
    }
    let chain = report.holder("fill_chain").expect("a holder");
    // The mean way in a chain.
    assert!(u64::from(chain.steps).abs_diff(ENTRIES / 2) <= 2, "{chain:?}");
}

#[test]
fn packed_pointers_are_found_if_asked_for() {
    if !can_trace() {
        return;
    }
    let report = report(&["--unaligned"]);
    assert_eq!(report.lost("pack").blocks, 0, "{:?}", report.leak_check);
    assert_lost(&report, "mangle", 1, 1);
}

#[test]
fn one_scan_of_a_stopped_process_says_the_same() {
    if !can_trace() {
        return;
    }
    let report = report(&["--stop"]);
    let check = report.leak_check.as_ref().expect("a leak check");
    assert_eq!((check.moment.as_str(), check.scans, check.complete), ("stopped", 1, true), "{check:?}");
    assert_lost(&report, "lose_list", 1000, 1);
    assert_lost(&report, "lose_tree", 100_000, 1);
    assert_eq!(check.lost.blocks, 1000 + 100_000 + 200 + APART + 2);
}

#[test]
fn samples_are_decided_on() {
    if !can_trace() {
        return;
    }
    let report = report(&["--sample", "4KiB"]);
    let (lost, kept) = (report.lost("lose_blocks"), report.lost("fill_registry"));
    // 20,000 blocks of 64 bytes: about 310 samples.
    assert!(lost.checked > APART / 2 && lost.blocks == lost.checked, "{lost:?}");
    assert!(kept.checked > 0 && kept.blocks == 0, "{kept:?}");
}

#[test]
fn nothing_is_checked_without_a_check() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = built();
    let mut target = fixture::start_path(program, &[]);
    let mut agent = Agent::attach(&[target.pid()], &["--leak-check", "off"]);
    fixture::work(&mut target);
    for _ in 0..3 {
        let report = agent.report();
        assert!(report.leak_check.is_none() && report.lost("lose_tree").checked == 0);
    }
    let _ = agent.interrupt();
    end(target);
}

#[test]
fn blocks_that_only_a_register_or_the_kernel_holds_are_reachable() {
    if !can_trace() {
        return;
    }
    for (how, options) in [
        ("rest", &["--leak-check", "always"][..]),
        ("spin", &["--leak-check", "always"]),
        ("spin", &["--stop"]),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = CSource {
            file: "kept_in_register.c",
            options: &["-O1", "-fno-builtin", "-fno-optimize-sibling-calls"],
        };
        let program = compile(directory.path(), "kept", source);
        let mut target = fixture::start_path(program, &[how]);
        let mut agent = Agent::attach(&[target.pid()], options);
        fixture::work(&mut target);
        let report = checked(&mut agent);
        let _ = agent.interrupt();
        let lost = report.lost("forget");
        for function in ["keep_in_register", "keep_as_signal_stack", "keep_in_hidden_memory"] {
            let kept = report.lost(function);
            assert_eq!((kept.checked, kept.blocks), (1, 0), "{how}, {function}: {:?}", report.leak_check);
        }
        assert_eq!((lost.checked, lost.blocks), (1, 1), "{how}: {:?}", report.leak_check);
    }
}

/// A target that ends during a check costs nothing but the check.
#[test]
fn a_target_may_end_at_any_time() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = built();
    for pause in [400, 900, 1300] {
        let mut target = fixture::start_path(&program, &[]);
        let agent = Agent::attach(&[target.pid()], &["--leak-check", "always"]);
        fixture::work(&mut target);
        std::thread::sleep(Duration::from_millis(pause));
        target.signal(nix::sys::signal::Signal::SIGKILL);
        let report = agent.last_report();
        assert!(report.last && report.lost("fill_registry").blocks == 0, "{report:?}");
    }
}

/// What the harness itself relies on: the program keeps its addresses in registers.
#[test]
fn holders_keep_their_addresses() {
    let mut holder = Holder::start("rest", 2);
    assert_eq!(holder.missing(&[]), 2);
    holder.end();
}
