//! Censuses of programs that know all their blocks: `tests/c/heap.c`.

mod damaged;
mod jemalloc;
mod program;
mod speed;

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use super::{Failure, arenas, take};
use crate::{heap::census::Allocator, profile::Kept};
use program::{How, Program, Taken, Truth, others};

/// Blocks of the C library itself: of a thread its cache (`tcache_perthread_struct`) and its table of thread-local storage
/// (`dtv`). Either may be 16 bytes larger.
const OWN: [u64; 4] = [0x288, 0x298, 280, 296];

/// All blocks are found, with their sizes, and no others; free bytes and mappings are what malloc itself says.
fn assert_exact(taken: &Taken, truth: &Truth, what: &str) {
    let Taken { census, blocks } = taken;
    let missing = truth.blocks.iter().filter(|(address, _)| !blocks.contains_key(address));
    assert_eq!(missing.collect::<Vec<_>>(), [], "{what}");
    let wrong =
        truth.blocks.iter().filter(|(address, size)| blocks.get(address).is_some_and(|found| found != *size));
    assert_eq!(wrong.collect::<Vec<_>>(), [], "{what}");
    let extra = blocks.iter().filter(|(address, _)| !truth.blocks.contains_key(address));
    let extra: Vec<_> = extra.filter(|(_, size)| !OWN.contains(size)).collect();
    assert_eq!(extra, [], "{what}");
    let free: u64 = census.arenas.iter().map(|arena| arena.free_bytes()).sum();
    assert_eq!((free, census.mapped.blocks, census.mapped.bytes), truth.totals, "{what}");
    assert!(census.missed.is_nothing(), "{what}: {:?}", census.missed);
    let counted: u64 = census.arenas.iter().map(|arena| arena.in_use.blocks).sum();
    assert_eq!(counted + census.mapped.blocks, blocks.len() as u64, "{what}");
}

const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");
const MAPPED_EARLY: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// At rest, and in a child of it.
fn exact(how: &How<'_>) -> Taken {
    let mut program = Program::start(how);
    sleep(Duration::from_millis(300));
    let what = format!("{how:?}");
    let truth = program.rest();
    let taken = program.census();
    assert_exact(&taken, &truth, &what);
    assert!(truth.blocks.len() > 1000, "{what}: {}", truth.blocks.len());
    let (child, truth) = program.fork();
    assert_exact(&program::census(child, Allocator::Glibc), &truth, &format!("child of {what}"));
    taken
}

#[test]
fn all_blocks_of_a_process_at_rest() {
    let taken = exact(&How::default());
    assert!(taken.census.arenas.len() > 1, "{:?}", taken.census);
    assert!(taken.census.caches > 0);
    let mut program = Program::start(&How::default());
    sleep(Duration::from_millis(300));
    let (free, ..) = program.rest().totals;
    let census = program.census().census;
    let kept = arenas(&census).iter().fold(Kept::default(), |sum, arena| sum.plus(arena.kept));
    assert_eq!(kept.top + kept.bins + kept.fastbins, free);
    assert!(kept.bytes() > 0 && kept.bytes() <= free + kept.caches, "{kept:?}");
    exact(&How { threads: 16, slots: 3000, ..How::default() });
    exact(&How { options: &["churn"], ..How::default() });
}

#[test]
fn all_blocks_with_other_settings() {
    let one = [ONE_ARENA, MAPPED_EARLY];
    let taken = exact(&How { environment: &one, slots: 20_000, ..How::default() });
    assert_eq!(taken.census.arenas.len(), 1);
    assert!(taken.census.mapped.blocks > 10, "{:?}", taken.census);
    let taken =
        exact(&How { environment: &[("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")], ..How::default() });
    assert_eq!(taken.census.caches, 0);
    for tunables in [
        "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=160",
        "glibc.malloc.tcache_count=100:glibc.malloc.tcache_max=500",
        "glibc.malloc.tcache_max=0",
        "glibc.malloc.perturb=85",
        "glibc.malloc.hugetlb=1",
    ] {
        exact(&How { environment: &[("GLIBC_TUNABLES", tunables)], ..How::default() });
    }
}

/// In `MEMTRACE_TEST_GLIBC`: directories, each with the `ld.so` and the C library of another release, separated by colons. In one
/// named `refused` the release is not known.
#[test]
fn all_blocks_with_other_releases() {
    for directory in others() {
        if directory.ends_with("refused") {
            let program = Program::start(&How { release: Some(&directory), ..How::default() });
            assert!(matches!(take(program.pid(), Allocator::Glibc, |_| ()), Err(Failure::Refused(_))));
            continue;
        }
        let taken = exact(&How { release: Some(&directory), ..How::default() });
        exact(&How { release: Some(&directory), options: &["churn"], ..How::default() });
        let one = [ONE_ARENA, MAPPED_EARLY];
        exact(&How { release: Some(&directory), environment: &one, ..How::default() });
        running(&How { release: Some(&directory), slots: 15_000, ..How::default() });
        assert!(!taken.census.releases.is_empty());
    }
}

#[test]
fn all_blocks_where_brk_fails() {
    let taken = exact(&How { options: &["scatter"], environment: &[ONE_ARENA], ..How::default() });
    assert!(taken.census.arenas[0].heaps > 2, "{:?}", taken.census);
}

#[test]
fn all_blocks_between_memory_of_others() {
    let how = How { options: &["share"], environment: &[ONE_ARENA], ..How::default() };
    let mut program = Program::start(&how);
    sleep(Duration::from_millis(500));
    let truth = program.rest();
    let mut taken = program.census();
    let missed = &mut taken.census.missed;
    // What is not the allocator's is known to the byte.
    assert_eq!((missed.skipped, missed.unexplained), (5 * 40_000, 5 * 40_000));
    (missed.skipped, missed.unexplained, missed.resumed) = (0, 0, 0);
    assert_exact(&taken, &truth, "between others");
}

/// Of a process at full speed: what was there all the time is found, and what was not there at any time is not.
fn running(how: &How<'_>) {
    let mut program = Program::start(how);
    sleep(Duration::from_millis(300));
    let truth = program.rest();
    let own = program.census().blocks.into_iter().filter(|(address, _)| !truth.blocks.contains_key(address));
    let own: BTreeMap<u64, u64> = own.collect();
    let own_sizes = if how.preload.is_some() { &jemalloc::OWN[..] } else { &OWN[..] };
    program.go();
    let (mut all, mut always, mut missing, mut phantoms, mut rounds) = (0, 0, 0, 0, 0);
    while rounds < 3 || (always < 5000 && rounds < 20) {
        rounds += 1;
        sleep(Duration::from_millis(20));
        program.write("begin");
        let taken = program.census();
        let seen = program.end();
        let found = |(address, size): (&u64, &u64)| taken.blocks.get(address) == Some(size);
        let overlooked = seen.always.iter().filter(|&block| !found(block)).count();
        // What could not be walked is said to be missed.
        if taken.census.missed.is_walked() {
            missing += overlooked;
        }
        let unknown = taken.blocks.iter().filter(|(address, size)| {
            let is_own =
                own.contains_key(address) || (how.options.contains(&"churn") && own_sizes.contains(size));
            !is_own && !seen.sometimes.contains(address)
        });
        phantoms += unknown.count();
        always += seen.always.len();
        all += taken.blocks.len();
        program.go();
    }
    assert!(missing * 1000 <= always, "{how:?}: {missing} of {always} are missing");
    // A thread of jemalloc's that ends takes its cache out of the list before it empties it.
    let part = if how.preload.is_some() && how.options.contains(&"churn") { 100 } else { 1000 };
    assert!(phantoms * part <= all, "{how:?}: {phantoms} of {all} were not there");
    assert!(always > 0, "{how:?}: nothing is there all the time");
}

#[test]
fn blocks_of_a_process_at_full_speed() {
    running(&How { slots: 15_000, ..How::default() });
    running(&How { slots: 15_000, options: &["churn"], ..How::default() });
    running(&How { slots: 15_000, environment: &[ONE_ARENA], ..How::default() });
}

#[test]
fn a_process_that_is_gone_is_said_to_be() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    assert!(matches!(take(child.id(), Allocator::Glibc, |_| ()), Err(Failure::Gone)));
}
