//! Registers of real processes.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use memtrace_tests::{Holder, can_trace, limit, remark};

use super::{RegisterReader, ThreadIterator, sample::Sampler};
use crate::model::ThreadRegisters;

fn words(threads: &[ThreadRegisters]) -> Vec<u64> {
    threads.iter().flat_map(|thread| &thread.words).copied().collect()
}

/// Starts a program, and waits until every thread has come to where it keeps its address.
fn start(how: &str, count: usize, reader: &RegisterReader) -> Holder {
    let holder = Holder::start(how, count);
    holder.settle(|| words(&reader.read(holder.pid()).unwrap()));
    holder
}

/// Reads a program's registers again and again: every address is found each time.
fn all_are_found(how: &str, count: usize, times: u32) -> Vec<ThreadRegisters> {
    let reader = RegisterReader::load().unwrap();
    let holder = start(how, count, &reader);
    let mut threads = Vec::new();
    for time in 0..times {
        threads = reader.read(holder.pid()).unwrap();
        assert_eq!(holder.missing(&words(&threads)), 0, "{how}, time {time}: {threads:x?}");
    }
    threads
}

#[test]
fn a_register_is_read_in_a_system_call() {
    if can_trace() {
        let threads = all_are_found("rest", 1, 20);
        assert_eq!(threads.len(), 3);
        assert!(threads.iter().all(|thread| thread.sp.is_some() && thread.tls.is_some()), "{threads:x?}");
        assert!(threads.is_sorted_by(|a, b| a.tid < b.tid));
    }
}

#[test]
fn a_register_is_read_in_user_mode() {
    if can_trace() {
        all_are_found("spin", 1, 20);
        all_are_found("spin", 5, 20);
    }
}

#[test]
fn threads_on_a_cpu_are_sampled() {
    if !can_trace() {
        return;
    }
    let reader = RegisterReader::load().unwrap();
    let holder = start("spin", 3, &reader);
    let mut sampler = Sampler::default();
    let mut found = Vec::new();
    let end = Instant::now() + limit();
    while holder.missing(&found) != 0 {
        assert!(Instant::now() < end, "a thread that works all the time is not sampled");
        let threads = reader.read(holder.pid()).unwrap();
        sampler.watch(threads.iter().map(|thread| thread.tid));
        for sample in sampler.wait(Duration::from_millis(20)) {
            let thread = threads.iter().find(|thread| thread.tid == sample.tid).unwrap();
            // Both have read the same thread, whose stack pointer does not change.
            assert!(thread.sp.is_none_or(|sp| sp == sample.sp) && sample.words.contains(&sample.sp));
            found.extend(sample.words);
        }
    }
}

#[test]
fn a_vector_register_is_read() {
    if can_trace() && cfg!(target_arch = "x86_64") {
        all_are_found("vector", 1, 3);
    }
}

#[test]
fn fifty_threads_are_read() {
    if can_trace() {
        let threads = all_are_found("rest", 50, 5);
        assert_eq!(threads.len(), 52);
        let mut places: Vec<u64> = threads.iter().filter_map(|thread| thread.sp).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 52);
    }
}

#[test]
fn threads_are_read_when_the_main_one_has_ended() {
    if can_trace() {
        all_are_found("leader", 3, 5);
    }
}

#[test]
fn threads_that_begin_and_end_are_no_obstacle() {
    if can_trace() {
        all_are_found("churn", 3, 200);
    }
}

#[test]
fn system_calls_are_not_interrupted() {
    if can_trace() {
        let reader = RegisterReader::load().unwrap();
        let mut holder = start("wait", 1, &reader);
        for _ in 0..100 {
            reader.read(holder.pid()).unwrap();
        }
        holder.kill();
        assert_eq!(holder.line(), "");
    }
}

#[test]
fn a_process_that_has_ended_has_no_threads() {
    if can_trace() {
        let reader = RegisterReader::load().unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(reader.read(pid).unwrap(), []);
        assert_eq!(reader.read(u32::MAX >> 1).unwrap(), []);
    }
}

#[test]
fn an_iterator_over_all_processes_gives_the_same() {
    if can_trace() {
        let reader = RegisterReader::load().unwrap();
        let program = start("rest", 10, &reader);
        let ids = |iterator: &ThreadIterator| -> Vec<u32> {
            iterator.records().unwrap().iter().map(|record| record.registers.tid).collect()
        };
        let restricted = ThreadIterator::new(&reader.program, program.pid()).unwrap();
        let link = super::create_link(&reader.program, None).unwrap();
        assert_eq!(ids(&ThreadIterator { link, pid: program.pid() }), ids(&restricted));
    }
}

#[test]
fn reading_takes_time_in_proportion() {
    if can_trace() {
        let loading = Instant::now();
        let reader = RegisterReader::load().unwrap();
        remark(&format!("loading: {:?}", loading.elapsed()));
        for (how, count) in [("rest", 1), ("rest", 50), ("rest", 1000), ("spin", 1)] {
            let program = start(how, count, &reader);
            let mut times: Vec<(Duration, Duration)> = (0..21)
                .map(|_| {
                    let (begin, used) = (Instant::now(), cpu_time());
                    reader.read(program.pid()).unwrap();
                    (begin.elapsed(), cpu_time() - used)
                })
                .collect();
            times.sort_unstable();
            let ((median, used), (most, _)) = (times[10], times[20]);
            remark(&format!("{how}, {count} threads: {median:?} ({used:?} of CPU time), at most {most:?}"));
        }
    }
}

fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
