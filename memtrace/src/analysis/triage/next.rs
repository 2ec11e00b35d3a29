//! The next command.

use crate::profile::machine::{BoundKind, Bounded, Growth, NextStep, PartKind, Place, Snapshot, Suspect};

/// Steps that are proposed.
const MAX_STEPS: usize = 4;
/// A tmpfs with less than this part free is proposed to be made larger.
const FULL: f64 = 0.25;

/// What to do about what grew; if nothing did, about what holds the most.
pub(super) fn steps(
    now: &Snapshot,
    grown: &[Growth],
    largest: &[Growth],
    bounds: &[Bounded],
    suspects: &[Suspect],
) -> Vec<NextStep> {
    let mut steps = Vec::new();
    let mut add = |step: NextStep| {
        if steps.len() < MAX_STEPS && !steps.contains(&step) {
            steps.push(step);
        }
    };
    let lives = |pid: u32| now.processes.iter().any(|process| process.owner.pid == pid);
    // Address space shows what stacks of ended threads take: next to none of it is in memory.
    let unjoined = suspects.iter().find(|suspect| suspect.size_grown > 0 && suspect.unjoined().is_some());
    if let Some(suspect) = unjoined.filter(|_| grown.is_empty()) {
        add(NextStep::Attach(suspect.owner.pid));
    }
    let held = largest.iter().find(|growth| growth.place.is_kept());
    for growth in grown.iter().take(2).chain(held.filter(|_| grown.is_empty())) {
        match &growth.place {
            Place::Process(owner) if grown.is_empty() => add(NextStep::Scan(owner.pid)),
            Place::Process(owner) => {
                add(NextStep::Attach(owner.pid));
                add(NextStep::Scan(owner.pid));
            }
            Place::SharedBy(owner) | Place::PageTablesOf(owner) | Place::HugePages(owner) => {
                add(NextStep::Attach(owner.pid));
            }
            Place::Swapped(owner) => {
                add(NextStep::Attach(owner.pid));
                add(NextStep::Swaps);
            }
            Place::SwapRest => {
                add(NextStep::TmpfsSizes);
                add(NextStep::Swaps);
            }
            Place::Watches(owner) => {
                add(NextStep::Watches(owner.pid));
                add(NextStep::KernelFor(owner.pid));
            }
            Place::HugeFree | Place::Rest(PartKind::HugePages) => add(NextStep::HugePages),
            Place::Zram(_) => add(NextStep::Zram),
            Place::Memfd(owner, _) => {
                add(NextStep::Attach(owner.pid));
                add(NextStep::Descriptors(owner.pid));
            }
            Place::Deleted(owner, _) | Place::Pipes(owner) => add(NextStep::Descriptors(owner.pid)),
            Place::Tmpfs(point) => {
                add(NextStep::LargestFiles(point.clone()));
                let is_it = |bound: &&Bounded| matches!(&bound.kind, BoundKind::Tmpfs(path) if path == point);
                let full = bounds.iter().find(is_it).filter(|bound| {
                    bound.bytes.saturating_sub(bound.used) as f64 <= bound.bytes as f64 * FULL
                });
                if let Some(bound) = full {
                    add(NextStep::Remount(point.clone(), bound.bytes.saturating_add(bound.bytes / 2)));
                }
            }
            Place::Segments(owner, _) => {
                add(NextStep::Segments);
                if lives(owner.pid) {
                    add(NextStep::Attach(owner.pid));
                }
            }
            Place::Slab(cache, _) => add(NextStep::Cache(cache.clone())),
            Place::Vmalloc(_) | Place::Rest(PartKind::Vmalloc | PartKind::KernelStacks) => {
                add(NextStep::Kernel("--vmalloc"));
            }
            Place::BpfMaps(owner) => add(NextStep::KernelFor(owner.pid)),
            Place::Sockets(_) | Place::AllSockets => add(NextStep::Sockets),
            Place::Rest(PartKind::Percpu) => add(NextStep::Kernel("--percpu")),
            Place::Rest(PartKind::SlabReclaimable | PartKind::SlabUnreclaimable) => {
                add(NextStep::Kernel("--slab"));
            }
            Place::Rest(PartKind::Shmem) => add(NextStep::TmpfsSizes),
            Place::Rest(PartKind::Unaccounted) => add(NextStep::Kernel("--pages")),
            // Processes that are not seen here, or pools that someone set up: no command of this place tells more.
            Place::Rest(_) => {}
        }
    }
    if grown.is_empty() || steps.is_empty() {
        steps.push(NextStep::Longer);
    }
    steps
}
