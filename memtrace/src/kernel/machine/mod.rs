//! The memory of the whole machine, from /proc and /sys: nothing is attached, and no process is stopped.

mod cgroups;
mod descriptors;
pub(super) mod file;
mod log;
mod meminfo;
mod mounts;
mod processes;
mod queues;
mod ranges;
mod segments;
mod watches;

#[cfg(test)]
mod tests;

use std::{io, path::Path, time::Duration};

use super::{slabinfo, vmallocinfo};
use crate::profile::machine::{Bound, BoundKind, Holding, Missing, Place, Snapshot};

pub use file::Roots;
pub use log::{read_log, slow_reports};
pub use queues::queues;
pub use ranges::ranges;

/// Bytes read of /proc/slabinfo and /proc/vmallocinfo.
const MAX_BYTES: u64 = 32 << 20;
/// Slab caches that take less are not told apart.
const LEAST_CACHE: u64 = 64 << 10;
/// Functions that make areas which are counted elsewhere: stacks of the kernel.
const STACKS: [&str; 3] = ["kernel_clone", "dup_task_struct", "alloc_thread_stack_node"];
/// Inode of the initial PID namespace (include/linux/proc_ns.h).
const INITIAL: u64 = 0xEFFF_FFFC;

/// Reads all of it once. What cannot be read is listed as missing.
///
/// # Errors
/// /proc/meminfo cannot be read.
pub fn read(roots: &Roots) -> io::Result<Snapshot> {
    let mut snapshot = Snapshot { at: since_boot(), ..Snapshot::default() };
    meminfo::read(roots, &mut snapshot)
        .ok_or_else(|| io::Error::other("/proc/meminfo cannot be read, or has no MemTotal"))?;
    let mut missing = Vec::new();
    let hierarchy = cgroups::Hierarchy::find(roots);
    let unified = hierarchy.as_ref().map(|hierarchy| hierarchy.unified);
    snapshot.processes = processes::read(roots, unified, &mut missing);
    let pids: Vec<u32> = snapshot.processes.iter().map(|process| process.owner.pid).collect();
    let mut mounts = mounts::read(roots, &pids, &mut missing);
    for mount in &mounts {
        let kind = BoundKind::Tmpfs(mount.point.clone());
        snapshot.bounds.push(Bound { kind, bytes: mount.size, used: mount.used });
    }
    let mut holdings = std::mem::take(&mut snapshot.holdings);
    let (held, watches) = descriptors::read(roots, &snapshot.processes, &mut mounts, &mut missing);
    holdings.extend(held);
    let (watches, caches) = watches.holdings(roots, &mut missing);
    holdings.extend(watches);
    snapshot.watch_caches = caches;
    let files = mounts.into_iter().filter(|mount| mount.used > 0);
    holdings.extend(files.map(|mount| Holding {
        place: Place::Tmpfs(mount.point),
        bytes: mount.used,
        count: 1,
    }));
    match segments::read(roots, &snapshot.processes) {
        Some(segments) => holdings.extend(segments),
        None => missing.push(Missing::Segments),
    }
    match slabs(roots) {
        Some(slabs) => holdings.extend(slabs),
        None => missing.push(Missing::Slabs),
    }
    match areas(roots) {
        Some(areas) => holdings.extend(areas),
        None => missing.push(Missing::Vmalloc),
    }
    let (queued, bound) = meminfo::sockets(roots);
    snapshot.bounds.extend(bound);
    holdings.push(Holding { place: Place::AllSockets, bytes: queued, count: 1 });
    snapshot.holdings = holdings;
    match hierarchy {
        Some(hierarchy) => {
            let (groups, bounds) = hierarchy.read();
            snapshot.cgroups = groups;
            snapshot.bounds.extend(bounds);
        }
        None => missing.push(Missing::Cgroups),
    }
    if is_inner_namespace(roots) {
        missing.push(Missing::Namespace);
    }
    snapshot.pressure = pressure(roots);
    snapshot.missing = missing;
    Ok(snapshot)
}

/// The share of the last 10 s in which some task of the machine waited for memory, 0 to 1; `None` without CONFIG_PSI.
#[must_use]
pub fn pressure(roots: &Roots) -> Option<f64> {
    file::pressure(&roots.proc.join("pressure/memory"))
}

/// The path of the kernel's log.
#[must_use]
pub fn log_path() -> &'static Path {
    Path::new("/dev/kmsg")
}

/// Time since boot, as the kernel's log has it.
fn since_boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Slab caches by name.
fn slabs(roots: &Roots) -> Option<Vec<Holding>> {
    let slabs = slabinfo::parse(&roots.proc("slabinfo", MAX_BYTES)?);
    let large = slabs.into_iter().filter(|(_, slab)| slab.bytes >= LEAST_CACHE);
    let holdings = large.map(|(name, slab)| {
        let is_reclaimable = meminfo::is_reclaimable(roots, &name);
        Holding { place: Place::Slab(name, is_reclaimable), bytes: slab.bytes, count: slab.active }
    });
    Some(holdings.collect())
}

/// vmalloc by caller, without what is counted elsewhere.
fn areas(roots: &Roots) -> Option<Vec<Holding>> {
    let callers = vmallocinfo::by_caller(&roots.proc("vmallocinfo", MAX_BYTES)?);
    let others = callers.into_iter().filter(|(caller, _)| !STACKS.contains(&caller.as_str()));
    let holdings = others.map(|(caller, areas)| Holding {
        place: Place::Vmalloc(caller),
        bytes: areas.bytes,
        count: areas.count,
    });
    Some(holdings.collect())
}

/// Whether there are processes that this /proc does not show.
fn is_inner_namespace(roots: &Roots) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(roots.proc.join("self/ns/pid"));
    metadata.is_ok_and(|metadata| metadata.ino() != INITIAL)
}
