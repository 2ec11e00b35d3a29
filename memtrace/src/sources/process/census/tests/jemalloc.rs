//! The same programs with jemalloc in place of the C library's allocator.

use std::{
    env,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use super::{
    super::{Failure, arenas, collected, in_use, take},
    program::{self, How, Program, Taken, Truth},
    running,
};
use crate::{heap::census::Allocator, profile::Kept};

/// What is installed.
const INSTALLED: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
/// Blocks of libraries: of a thread its table of thread-local storage (`dtv`); what libstdc++ has for exceptions; and in jemalloc 5.2
/// of a thread when it will purge arenas (`arenas_tdata`), and one that finds out whether there is a heap.
pub(super) const OWN: [u64; 6] = [320, 80 << 10, 80, 32, 16, 8];
const OWN_NOW: usize = 2;

/// The libraries there are. In `MEMTRACE_TEST_JEMALLOC`: those of other releases, separated by colons.
pub(super) fn libraries() -> Vec<PathBuf> {
    let others = env::var_os("MEMTRACE_TEST_JEMALLOC").unwrap_or_default();
    let others: Vec<PathBuf> = env::split_paths(&others).collect();
    let installed = [PathBuf::from(INSTALLED)].into_iter();
    installed.chain(others).filter(|library| library.is_file()).collect()
}

/// All blocks are found, with their sizes, and no others; what is in use, in caches and free is what jemalloc says.
fn assert_exact(taken: &Taken, truth: &Truth, what: &str) {
    let Taken { census, blocks } = taken;
    let missing = truth.blocks.iter().filter(|(address, _)| !blocks.contains_key(address));
    assert_eq!(missing.collect::<Vec<_>>(), [], "{what}");
    let wrong =
        truth.blocks.iter().filter(|(address, size)| blocks.get(address).is_some_and(|found| found != *size));
    assert_eq!(wrong.collect::<Vec<_>>(), [], "{what}");
    let extra = blocks.iter().filter(|(address, _)| !truth.blocks.contains_key(address));
    let own = if census.releases == "5.2" { &OWN[..] } else { &OWN[..OWN_NOW] };
    let extra: Vec<_> = extra.filter(|(_, size)| !own.contains(size)).collect();
    assert_eq!(extra, [], "{what}");
    assert!(census.missed.is_nothing(), "{what}: {:?}", census.missed);
    let counted: u64 = census.arenas.iter().map(|arena| arena.in_use.blocks).sum();
    assert_eq!(counted, blocks.len() as u64, "{what}");
    let sum = |of: fn(&Kept) -> u64| arenas(census).iter().map(|arena| of(&arena.kept)).sum::<u64>();
    let in_use: u64 = census.arenas.iter().map(|arena| arena.in_use.bytes).sum();
    let [allocated, cached, dirty, muzzy] = truth.jemalloc.unwrap();
    let caches = sum(|kept| kept.caches);
    assert_eq!(in_use + caches + census.internal.bytes, allocated, "{what}");
    // 5.2 leaves large blocks out, by mistake (`arena_stats_merge`).
    let is_counted = caches == cached || (census.releases == "5.2" && (caches - cached).is_multiple_of(4096));
    assert!(is_counted && census.missed.uncached == 0, "{what}: {caches} {cached} {:?}", census.missed);
    assert_eq!((sum(|kept| kept.dirty), sum(|kept| kept.muzzy)), (dirty * 4096, muzzy * 4096), "{what}");
}

/// At rest, and in a child of it.
fn exact(how: &How<'_>) -> Taken {
    let mut program = Program::start(how);
    sleep(Duration::from_millis(300));
    let what = format!("{how:?}");
    let truth = program.rest();
    let taken = program.census();
    assert_exact(&taken, &truth, &what);
    assert!(truth.blocks.len() > 1000, "{what}: {}", truth.blocks.len());
    taken
}

fn with(library: &Path) -> How<'_> {
    How { preload: Some(library), ..How::default() }
}

#[test]
fn all_blocks_of_a_process_at_rest() {
    for library in &libraries() {
        let taken = exact(&with(library));
        assert!(taken.census.caches >= 4, "{:?}", taken.census);
        assert!(taken.census.arenas.len() > 1, "{:?}", taken.census);
        exact(&How { threads: 16, slots: 3000, ..with(library) });
        exact(&How { options: &["churn"], ..with(library) });
    }
}

#[test]
fn all_blocks_with_other_settings() {
    for library in &libraries() {
        for settings in [
            "narenas:1",
            "tcache:false",
            "lg_tcache_max:20",
            "dirty_decay_ms:0,muzzy_decay_ms:0",
            "dirty_decay_ms:-1",
            "muzzy_decay_ms:1000,dirty_decay_ms:100",
            "retain:false",
            "background_thread:true",
            "cache_oblivious:false",
            "slab_sizes:1-4096:17",
            "percpu_arena:percpu",
        ] {
            let taken = exact(&How { environment: &[("MALLOC_CONF", settings)], ..with(library) });
            assert_eq!(taken.census.caches > 0, settings != "tcache:false", "{settings}");
        }
    }
}

/// Threads that a child does not have leave caches behind, whose blocks are nobody's any more: they count as in use, as they do for
/// jemalloc.
#[test]
fn all_blocks_of_a_child() {
    for library in &libraries() {
        let mut program = Program::start(&with(library));
        sleep(Duration::from_millis(300));
        program.rest();
        let (child, truth) = program.fork();
        let Taken { census, blocks } = program::census(child, Allocator::Jemalloc);
        let found = |(address, size): (&u64, &u64)| blocks.get(address) == Some(size);
        assert!(truth.blocks.iter().all(found), "{census:?}");
        assert!(census.missed.is_nothing(), "{:?}", census.missed);
        let in_use: u64 = census.arenas.iter().map(|arena| arena.in_use.bytes + arena.in_caches.bytes).sum();
        assert_eq!(in_use + census.internal.bytes, truth.jemalloc.unwrap()[0]);
    }
}

#[test]
fn blocks_of_a_process_at_full_speed() {
    for library in &libraries() {
        running(&How { slots: 15_000, ..with(library) });
        running(&How { slots: 15_000, options: &["churn"], ..with(library) });
        running(&How { slots: 15_000, environment: &[("MALLOC_CONF", "narenas:1")], ..with(library) });
    }
}

/// The allocator that has the blocks is the one that counts.
#[test]
fn the_allocator_in_use() {
    let program = Program::start(&How::default());
    let (census, _) = collected(program.pid(), None).unwrap();
    assert_eq!(census.allocator, Allocator::Glibc);
    assert!(matches!(take(program.pid(), Allocator::Jemalloc, |_| ()), Err(Failure::Refused(_))));
    for library in &libraries() {
        let program = Program::start(&with(library));
        sleep(Duration::from_millis(300));
        let (census, blocks) = collected(program.pid(), None).unwrap();
        assert_eq!(census.allocator, Allocator::Jemalloc);
        assert!(blocks.len() > 100);
        assert!(in_use(program.pid(), Allocator::Glibc).is_none_or(|in_use| in_use.blocks == 0));
    }
}
