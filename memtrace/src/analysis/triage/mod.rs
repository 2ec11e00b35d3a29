//! The machine's memory at two moments: what grew, who reaches a limit first, whom the OOM killer takes, what to do next.

mod growth;
mod limits;
mod log;
mod next;
mod patterns;
mod victims;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::profile::machine::{
    Growth, Holding, KernelLog, Owner, Part, Place, ProcessMemory, Range, Snapshot, Suspect, Triage,
};

pub use log::events;

/// Growth that is worth a word, bytes. Less comes and goes on any machine.
const LEAST: i64 = 256 << 10;
/// Growth of what nothing counts from which on pipes and sockets are looked at, bytes.
const LEAST_UNCOUNTED: i64 = 1 << 20;
/// Growth of address space, beyond that of memory, from which on a process is looked at, bytes.
const LEAST_SIZE: i64 = 64 << 20;
/// Places that hold less are not listed as the largest, bytes.
const LEAST_HELD: u64 = 1 << 20;
/// Processes that are looked at closely: for their memory, and for their address space.
const MAX_SUSPECTS: usize = 3;
const MAX_BY_SIZE: usize = 2;
/// Entries of a list that are kept.
const MAX_LISTED: usize = 64;

/// Two snapshots of one machine.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// The earlier one.
    pub before: &'a Snapshot,
    /// The later one.
    pub now: &'a Snapshot,
}

impl<'a> Interval<'a> {
    /// Time between them.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.now.at.saturating_sub(self.before.at)
    }

    /// The same process in the earlier snapshot.
    fn earlier(&self, process: &ProcessMemory) -> Option<&'a ProcessMemory> {
        let processes = &self.before.processes;
        let at = processes.partition_point(|other| other.owner.pid < process.owner.pid);
        let same =
            |other: &&ProcessMemory| other.owner.pid == process.owner.pid && other.started == process.started;
        processes.get(at).filter(same)
    }

    /// Growth of the address space of a process, bytes; 0 for one that was not there.
    fn size_grown(&self, process: &ProcessMemory) -> i64 {
        self.earlier(process).map_or(0, |earlier| difference(process.size, earlier.size))
    }

    /// Whether something grew that nothing counts, or that may be in sockets: then pipes and sockets are worth a look.
    #[must_use]
    pub fn wants_queues(&self) -> bool {
        growth::uncounted(*self) >= LEAST_UNCOUNTED || growth::queued(*self) >= LEAST_UNCOUNTED
    }

    /// Processes that are worth a close look: those that grew, else the largest.
    #[must_use]
    pub fn suspects(&self) -> Vec<Owner> {
        let grown = growth::places(*self, &[]);
        let mut found: Vec<Owner> = Vec::new();
        // What shows in memory does not count for the address space.
        let hidden = |process: &ProcessMemory| {
            let anon = self.earlier(process).map_or(process.anon, |earlier| earlier.anon);
            self.size_grown(process).saturating_sub(difference(process.anon, anon))
        };
        let sizes = self.now.processes.iter().map(|process| (hidden(process), &process.owner));
        let mut sizes: Vec<(i64, &Owner)> = sizes.filter(|(size, _)| *size >= LEAST_SIZE).collect();
        sizes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        let by_memory = grown.iter().filter(|growth| growth.grown >= LEAST).filter_map(|growth| {
            matches!(growth.place, Place::Process(_) | Place::PageTablesOf(_))
                .then(|| growth.place.owner())?
        });
        for owner in by_memory {
            if found.len() < MAX_SUSPECTS && !found.contains(owner) {
                found.push(owner.clone());
            }
        }
        for (_, owner) in sizes.into_iter().take(MAX_BY_SIZE) {
            if !found.contains(owner) {
                found.push(owner.clone());
            }
        }
        if found.is_empty() {
            let largest = self.now.processes.iter().max_by_key(|process| process.anon);
            found.extend(largest.map(|process| process.owner.clone()));
        }
        found
    }
}

/// What was read besides two snapshots.
#[derive(Clone, Debug, Default)]
pub struct Closer {
    /// What pipes and sockets hold now.
    pub queues: Vec<Holding>,
    /// Mappings of the suspects.
    pub ranges: Vec<(Owner, Vec<Range>)>,
    /// What the kernel said.
    pub log: KernelLog,
}

/// All that two snapshots and a closer look tell.
#[must_use]
pub fn triage(before: &Snapshot, now: Snapshot, closer: Closer) -> Triage {
    let interval = Interval { before, now: &now };
    let all = growth::places(interval, &closer.queues);
    let grown: Vec<Growth> =
        all.iter().filter(|growth| growth.grown >= LEAST).take(MAX_LISTED).cloned().collect();
    let mut largest: Vec<Growth> = all.into_iter().filter(|growth| growth.bytes >= LEAST_HELD).collect();
    largest.sort_by_key(|growth| std::cmp::Reverse(growth.bytes));
    largest.truncate(MAX_LISTED);
    let bounds = limits::bounds(interval);
    let victims = victims::victims(&now, &bounds, &grown);
    let suspects: Vec<Suspect> =
        closer.ranges.iter().map(|(owner, ranges)| suspect(interval, owner, ranges)).collect();
    let next = next::steps(&now, &grown, &largest, &bounds, &suspects);
    let parts: Vec<(Part, i64)> =
        now.parts.iter().map(|part| (*part, difference(part.bytes, before.part(part.kind)))).collect();
    let sum = parts.iter().fold(0, |sum: u64, (part, _)| sum.saturating_add(part.bytes));
    let span = interval.span();
    Triage { span, parts, sum, grown, largest, bounds, victims, suspects, next, log: closer.log, now }
}

/// A process by its mappings and its family.
fn suspect(interval: Interval<'_>, owner: &Owner, ranges: &[Range]) -> Suspect {
    let mut found =
        Suspect { owner: owner.clone(), parent: None, siblings: (0, 0), size_grown: 0, patterns: Vec::new() };
    let Some(process) = interval.now.processes.iter().find(|process| process.owner == *owner) else {
        return found;
    };
    found.size_grown = interval.size_grown(process);
    found.patterns = patterns::of(ranges, process.threads);
    let of = |pid: u32| interval.now.processes.iter().find(|other| other.owner.pid == pid);
    // Process 1 adopts the children of all that ended.
    found.parent = of(process.parent).filter(|parent| parent.owner.pid > 1).map(|of| of.owner.clone());
    if found.parent.is_some() {
        let siblings = interval.now.processes.iter().filter(|other| {
            other.parent == process.parent && other.owner.pid != owner.pid && other.owner.comm == owner.comm
        });
        let grown = siblings.filter_map(|other| {
            let earlier = interval.earlier(other).map_or(0, |earlier| earlier.anon);
            Some(difference(other.anon, earlier)).filter(|grown| *grown >= LEAST)
        });
        found.siblings =
            grown.fold((0, 0), |(count, sum): (u64, i64), grown| (count + 1, sum.saturating_add(grown)));
    }
    found
}

/// `now - before`, as far as that is possible.
fn difference(now: u64, before: u64) -> i64 {
    i64::try_from(i128::from(now) - i128::from(before)).unwrap_or(i64::MAX)
}
