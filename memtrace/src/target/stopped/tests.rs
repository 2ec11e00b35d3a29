//! Stopping real processes.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use memtrace_tests::{Holder, can_trace, limit, remark};

use super::Stopped;

fn words(stopped: &Stopped) -> Vec<u64> {
    stopped.registers().iter().flat_map(|thread| &thread.words).copied().collect()
}

fn start(how: &str, count: usize) -> Holder {
    let holder = Holder::start(how, count);
    holder.settle(|| words(&Stopped::new(holder.pid()).unwrap()));
    holder
}

/// Letters of the threads' states in /proc, and whether any is traced.
fn states(pid: u32) -> (String, bool) {
    let mut letters = String::new();
    let mut traced = false;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let Ok(status) = fs::read_to_string(entry.unwrap().path().join("status")) else { continue };
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        letters.push(field("State:").chars().next().unwrap_or('?'));
        traced |= field("TracerPid:") != "0";
    }
    (letters, traced)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit();
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_thread_stops_and_goes_on() {
    if !can_trace() {
        return;
    }
    for (how, count) in [("rest", 50), ("spin", 3), ("vector", 2), ("leader", 3), ("churn", 3)] {
        let mut holder = start(how, count);
        // One that is seized while it ends stays traced, as a zombie that others keep.
        wait_until("the leader has ended", || how != "leader" || states(holder.pid()).0.starts_with('Z'));
        for _ in 0..10 {
            let stopped = Stopped::new(holder.pid()).unwrap();
            assert_eq!(holder.missing(&words(&stopped)), 0, "{how}");
            let (letters, _) = states(holder.pid());
            assert!(letters.chars().all(|letter| "tZX".contains(letter)), "{how}: {letters}");
            drop(stopped);
            let (letters, traced) = states(holder.pid());
            assert!(!letters.contains('t') && !traced, "{how}: {letters}");
        }
        holder.end();
    }
}

#[test]
fn a_thread_that_cannot_be_interrupted_is_released_later() {
    if !can_trace() {
        return;
    }
    let mut holder = start("vfork", 1);
    wait_until("a thread waits for its child", || states(holder.pid()).0.contains('D'));
    let stopped = Stopped::new(holder.pid()).unwrap();
    assert_eq!(holder.missing(&words(&stopped)), 0);
    assert_eq!(stopped.registers().iter().filter(|thread| thread.sp.is_none()).count(), 1);
    drop(stopped);
    assert!(!states(holder.pid()).0.contains('t'));
    // Its child ends, and it ends the program: it must not stay stopped.
    holder.end();
}

#[test]
fn stopping_is_refused_twice_and_where_there_is_nothing() {
    if !can_trace() {
        return;
    }
    let holder = Holder::start("rest", 1);
    let first = Stopped::new(holder.pid()).unwrap();
    assert!(Stopped::new(holder.pid()).is_err());
    drop(first);
    drop(Stopped::new(holder.pid()).unwrap());
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    assert!(Stopped::new(pid).is_err());
}

#[test]
fn a_process_that_is_killed_is_no_obstacle() {
    if !can_trace() {
        return;
    }
    let mut holder = start("rest", 20);
    let stopped = Stopped::new(holder.pid()).unwrap();
    assert_eq!(holder.missing(&words(&stopped)), 0);
    holder.signal(libc::SIGKILL);
    drop(stopped);
    // Its status is not taken from who waits for it.
    assert_eq!(holder.wait().signal(), Some(libc::SIGKILL));
}

/// The part of the next test that is killed.
#[test]
#[ignore = "run by the next test, which kills it"]
fn stops_a_process_and_waits() {
    let pid = std::env::var("MEMTRACE_TEST_STOP").unwrap().parse().unwrap();
    let _stopped = Stopped::new(pid).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn the_kernel_resumes_everything_if_this_process_is_killed() {
    if !can_trace() {
        return;
    }
    let mut holder = start("spin", 2);
    let name = format!("{}::stops_a_process_and_waits", module_path!().split_once("::").unwrap().1);
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", &name])
        .env("MEMTRACE_TEST_STOP", holder.pid().to_string())
        .spawn()
        .unwrap();
    wait_until("the process is stopped", || states(holder.pid()).0.chars().all(|letter| letter == 't'));
    agent.kill().unwrap();
    agent.wait().unwrap();
    wait_until("the process goes on", || !states(holder.pid()).1 && !states(holder.pid()).0.contains('t'));
    holder.end();
}

#[test]
fn stopping_takes_time_in_proportion() {
    if !can_trace() {
        return;
    }
    for (how, count) in [("rest", 1), ("rest", 50), ("rest", 1000), ("spin", 1)] {
        let holder = start(how, count);
        let mut times: Vec<(Duration, Duration)> = (0..11)
            .map(|_| {
                let begin = Instant::now();
                let stopped = Stopped::new(holder.pid()).unwrap();
                let stop = begin.elapsed();
                drop(stopped);
                (stop, begin.elapsed())
            })
            .collect();
        times.sort_unstable();
        remark(&format!(
            "{how}, {count} threads: stopped in {:?}, released after {:?}",
            times[5].0, times[5].1
        ));
    }
}
