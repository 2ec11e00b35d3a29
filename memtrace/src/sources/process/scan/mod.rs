//! Scans of a process without any probe: a census of its heap, and which of its blocks nothing points to.

mod classes;
mod contents;
mod held;
mod names;
mod rtti;
mod suspected;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};

use self::{classes::Sizes, contents::Contents, names::PointeeNames, rtti::Types, suspected::Suspected};
use super::{
    census::{self, Failure, GLIBC, JEMALLOC},
    leaks::{
        check::{MOST_SCANS, QUIET, cpu_time, wait},
        pass::{Free, Pass, Scanned},
        registers,
        schedule::{LONGEST, RATE, SCANS, SPACING},
    },
    sites::find_allocator,
};
use crate::{
    allocators::{Choice, ReturnProbes},
    bpf::RegisterReader,
    heap::{
        Holders, How,
        census::{Allocator, Census},
    },
    profile::{self, Finding, Heap, LeakCheck, Moment},
    target::{FileStore, Modules, Process, Stopped, roots::RootNames, usage},
};

/// How to scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// Whether pointers may be at any address.
    pub unaligned: bool,
    /// Whether to stop the process for one scan, instead of three while it runs.
    pub stop: bool,
    /// Whether texts in lost blocks may be shown.
    pub contents: bool,
}

/// Scans processes.
pub struct Scanner {
    options: ScanOptions,
    /// `None`: this kernel does not let registers be read without stopping their threads.
    registers: Option<RegisterReader>,
    files: Arc<FileStore>,
    begun: Instant,
}

/// A scan that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its number, from 1.
    pub scan: u32,
    /// Private memory of the process that is resident, in bytes.
    pub bytes: u64,
}

impl Scanner {
    /// Loads what reads registers.
    #[must_use]
    pub fn new(options: ScanOptions) -> Self {
        Self { options, registers: registers::load(), files: Arc::default(), begun: Instant::now() }
    }

    /// Whether the registers of running threads can be read. If not, blocks that only they point to look lost.
    #[must_use]
    pub fn reads_registers(&self) -> bool {
        self.options.stop || self.registers.is_some()
    }

    /// Scans a process. `progress`: called before each scan of its memory.
    ///
    /// # Errors
    /// It has ended, or its memory cannot be read, or its heap is not one that is understood.
    pub fn scan(&self, process: &Process, progress: &mut dyn FnMut(Progress)) -> anyhow::Result<Heap> {
        let pid = process.pid.get();
        let modules = Modules::read(pid, &self.files).ok();
        let allocators = modules.as_ref().map(|modules| allocators(pid, modules)).unwrap_or_default();
        let looked = self.look(pid, progress).map_err(|error| explained(error, process, &allocators))?;
        let others = others(pid, looked.census.allocator, allocators);
        let process = profile::Process { pid, comm: process.comm.clone() };
        looked.heap(process, others, modules.as_ref(), self.options.contents)
    }

    /// Scans until it is certain what is lost.
    fn look(&self, pid: u32, progress: &mut dyn FnMut(Progress)) -> anyhow::Result<Looked> {
        let ScanOptions { unaligned, stop, .. } = self.options;
        let never = AtomicBool::new(false);
        let cpu = cpu_time();
        let (moment, scans) = if stop { (Moment::Stopped, 1) } else { (Moment::Running, SCANS) };
        let mut check = LeakCheck { moment, complete: true, pid: Some(pid), ..LeakCheck::default() };
        let mut begun = Instant::now();
        let mut announce = |scan| progress(Progress { scan, bytes: usage::private(pid).unwrap_or(0) });
        announce(1);
        let stopped = stop.then(|| Stopped::new(pid)).transpose()?;
        let (census, blocks) = census::collect(pid, None)?;
        let threads = match &stopped {
            Some(stopped) => registers::at_rest(self.registers.as_ref(), pid, stopped.registers()),
            None => registers::running(self.registers.as_ref(), pid),
        };
        let (free, rate) = (Free::Ranges(census.allocator, census.own.clone()), if stop { 0 } else { RATE });
        let how = How { unaligned, holders: Holders::Roots, others: false, young: !stop };
        let first = Pass { pid, threads, how, free: free.clone(), rate, limit: LONGEST, stop: &never };
        let mut scanned = first.run(blocks)?;
        drop(stopped);
        scanned.add_to(&mut check, begun);
        let mut saw_all = scanned.saw_all;
        let mut suspected = Suspected::new(&scanned.marked, &mut Contents::open(pid)?);
        scanned.marked.forget_pointers();
        let how = How { unaligned, holders: Holders::Unknown, others: true, young: false };
        // Scans in a row that changed nothing.
        let mut quiet = 0;
        while scans > 1 && !suspected.is_empty() && (check.scans < scans || quiet < QUIET) {
            if check.scans >= MOST_SCANS {
                // Pointers move faster than they can be read.
                saw_all = false;
                break;
            }
            wait(SPACING, &never)?;
            announce(check.scans + 1);
            begun = Instant::now();
            let blocks = suspected.only(&scanned.marked)?;
            let threads = registers::running(self.registers.as_ref(), pid);
            let again = Pass { pid, threads, how, free: free.clone(), rate, limit: LONGEST, stop: &never };
            let mut again = again.run(blocks)?;
            again.add_to(&mut check, begun);
            saw_all &= again.saw_all;
            let recount = again.recount.take().transpose()?.context("the allocator was not asked")?;
            quiet = if suspected.narrow(&again.marked, &recount) { 0 } else { quiet + 1 };
        }
        let mut contents = Contents::open(pid)?;
        // What was not read may hold the only pointer.
        let candidates = saw_all.then(|| suspected.finish(&mut contents));
        check.at = self.begun.elapsed();
        Ok(Looked { check, cpu, census, scanned, candidates, contents })
    }
}

/// What scans have found.
struct Looked {
    check: LeakCheck,
    /// CPU time of this thread when they began.
    cpu: Duration,
    census: Census,
    /// The first one, of all blocks.
    scanned: Scanned,
    /// Where the blocks begin that are lost, in order; `None`: that cannot be said.
    candidates: Option<Vec<u64>>,
    contents: Contents,
}

impl Looked {
    /// Sorts, counts and names what was found.
    fn heap(
        self,
        process: profile::Process,
        others: Vec<String>,
        modules: Option<&Modules>,
        texts: bool,
    ) -> anyhow::Result<Heap> {
        let Self { mut check, cpu, census, scanned, candidates, mut contents } = self;
        let pid = process.pid;
        let Scanned { marked, words, regions, .. } = scanned;
        let modules = modules.with_context(|| format!("process {pid} has ended"))?;
        let names = RootNames::new(pid, modules, regions.clone(), &words.threads);
        let mut pointees = PointeeNames::new(&names, Types::new(pid, modules, &regions)?);
        let mut verdict = candidates.as_ref().map_or(Finding::Undecided, |_| Finding::Decided);
        let candidates = candidates.unwrap_or_default();
        let mut sizes = Sizes::count(&marked, &candidates, &mut contents, &pointees, &mut check);
        if sizes.is_doubtful() {
            let (lost, blocks) = (check.reached.lost().blocks, check.reached.all().blocks);
            verdict = Finding::RootMissing { lost, blocks };
            check.reached = profile::Reached::default();
            sizes = Sizes::count(&marked, &[], &mut contents, &pointees, &mut check);
        }
        let classes = sizes.classes(&mut contents, &mut pointees, texts);
        let holders = held::holders(&marked, &words, &names);
        check.cpu = cpu_time().saturating_sub(cpu);
        let missed = &census.missed;
        let arenas = census::arenas(&census);
        let in_arenas = arenas.iter().fold(profile::Amount::default(), |sum, arena| sum.plus(arena.in_use));
        let mapped = census::amount(census.mapped);
        Ok(Heap {
            process,
            allocator: names_of(census.allocator)[0].to_owned(),
            releases: census.releases.to_owned(),
            others,
            in_use: in_arenas.plus(mapped),
            arenas,
            mapped,
            check,
            verdict,
            classes,
            holders,
            unwalked_bytes: missed.skipped.saturating_add(missed.left),
            is_walked: missed.is_walked(),
            growth: None,
            seen: None,
        })
    }
}

fn names_of(allocator: Allocator) -> &'static [&'static str; 2] {
    match allocator {
        Allocator::Glibc => &GLIBC,
        Allocator::Jemalloc => &JEMALLOC,
    }
}

/// The allocators in the files of a process that have blocks, beside `allocator`. The C library's is in every process, and has none
/// if another one takes its place.
fn others(pid: u32, allocator: Allocator, found: Vec<String>) -> Vec<String> {
    let is_unused = allocator != Allocator::Glibc
        && census::in_use(pid, Allocator::Glibc).is_none_or(|in_use| in_use.blocks == 0);
    let is_other = |name: &String| {
        let name = name.as_str();
        !(names_of(allocator).contains(&name) || is_unused && GLIBC.contains(&name))
    };
    found.into_iter().filter(is_other).collect()
}

/// The allocators in the files of a process, by name.
fn allocators(pid: u32, modules: &Modules) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for module in modules.iter() {
        let found = find_allocator((pid, modules), module, ReturnProbes::Safe, &Choice::default());
        if let Some(Ok(found)) = found.as_deref()
            && !names.contains(&found.name)
        {
            names.push(found.name.clone());
        }
    }
    names
}

/// An error in words: which process, and what to know about it.
fn explained(error: anyhow::Error, process: &Process, allocators: &[String]) -> anyhow::Error {
    let pid = process.pid;
    let is_gone = process.has_exited()
        || matches!(error.downcast_ref(), Some(Failure::Gone))
        || matches!(error.downcast_ref(), Some(super::leaks::check::Failure::Gone));
    if is_gone {
        return anyhow!("process {pid} has ended, or has become another program, while it was scanned");
    }
    let is_other = |name: &&str| !GLIBC.contains(name) && !JEMALLOC.contains(name);
    let others: Vec<&str> = allocators.iter().map(String::as_str).filter(is_other).collect();
    match error.downcast_ref() {
        Some(Failure::Refused(_)) if !others.is_empty() => anyhow!(
            "cannot scan process {pid}: it allocates with {}, and only heaps of glibc and jemalloc can be read",
            others.join(", ")
        ),
        _ => error.context(format!("cannot scan process {pid}")),
    }
}
