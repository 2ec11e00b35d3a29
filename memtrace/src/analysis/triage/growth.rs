//! Growth by place. Where two places show the same memory, the one that says more keeps it.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{Interval, difference};
use crate::profile::machine::{Growth, Holding, Missing, Owner, PartKind, Place, ProcessMemory, Snapshot};

/// Parts that no place divides.
const WHOLE: [PartKind; 3] = [PartKind::Percpu, PartKind::KernelStacks, PartKind::Balloon];

/// Growth of what nothing counts, bytes.
pub(super) fn uncounted(interval: Interval<'_>) -> i64 {
    part(interval, PartKind::Unaccounted)
}

/// Growth of what may be in sockets, bytes: they are partly in slabs.
pub(super) fn queued(interval: Interval<'_>) -> i64 {
    let of = |holdings: &[Holding]| {
        let all = holdings.iter().filter(|holding| {
            holding.place == Place::AllSockets
                || matches!(&holding.place, Place::Slab(cache, _) if is_of_sockets(cache))
        });
        all.fold(0, |sum: u64, holding| sum.saturating_add(holding.bytes))
    };
    difference(of(&interval.now.holdings), of(&interval.before.holdings))
}

fn part(interval: Interval<'_>, kind: PartKind) -> i64 {
    difference(interval.now.part(kind), interval.before.part(kind))
}

fn is_of_sockets(cache: &str) -> bool {
    cache.starts_with("skbuff")
}

/// Whether areas of this caller are BPF maps.
fn is_of_maps(caller: &str) -> bool {
    caller.contains("map_alloc") || caller.contains("map_area_alloc")
}

/// All places, what grew most first. `queues`: what pipes and sockets hold now.
pub(super) fn places(interval: Interval<'_>, queues: &[Holding]) -> Vec<Growth> {
    let seconds = interval.span().as_secs_f64();
    let mut found = Places { seconds, list: Vec::new(), gone: FxHashMap::default() };
    found.processes(interval);
    found.holdings(interval);
    found.divided(interval, PartKind::Shmem, |process| (process.shmem, process.is_share), Place::SharedBy);
    // Whoever shares huge pages has them whole.
    found.divided(interval, PartKind::HugePages, |process| (process.huge, true), Place::HugePages);
    found.swapped(interval);
    found.queues(interval, queues);
    let named = found.grown_in(PartKind::Compressed);
    found.rest(interval, PartKind::Compressed, named);
    for kind in WHOLE {
        found.rest(interval, kind, 0);
    }
    let missing = |what: &Missing| interval.now.missing.contains(what);
    if missing(&Missing::Vmalloc) {
        found.rest(interval, PartKind::Vmalloc, 0);
    }
    if missing(&Missing::Slabs) {
        found.rest(interval, PartKind::SlabReclaimable, 0);
        found.rest(interval, PartKind::SlabUnreclaimable, 0);
    }
    if missing(&Missing::Namespace) {
        for kind in [PartKind::Anonymous, PartKind::PageTables] {
            let named = found.grown_in(kind);
            found.rest(interval, kind, named);
        }
    }
    found.remove_double(&interval.now.watch_caches);
    found.list.sort_by_key(|growth| (Reverse(growth.grown), Reverse(growth.bytes)));
    found.list
}

struct Places {
    seconds: f64,
    list: Vec<Growth>,
    /// What was in places that are there no more, by part, bytes.
    gone: FxHashMap<PartKind, u64>,
}

impl Places {
    fn add(&mut self, holding: Holding, grown: i64, at_most: bool) {
        let Holding { place, bytes, count } = holding;
        let rate = self.rate(grown);
        self.list.push(Growth { place, bytes, count, grown, rate, at_most });
    }

    fn rate(&self, grown: i64) -> f64 {
        if self.seconds > 0.0 { grown as f64 / self.seconds } else { 0.0 }
    }

    /// Anonymous memory and page tables of processes. One that was not there at the beginning has gained all it has.
    fn processes(&mut self, interval: Interval<'_>) {
        for process in &interval.now.processes {
            // A figure with shared pages counted whole is no basis for one without.
            let earlier = interval.earlier(process).filter(|earlier| earlier.is_share == process.is_share);
            let owner = &process.owner;
            let anon = difference(process.anon, earlier.map_or(0, |earlier| earlier.anon));
            let tables = difference(process.page_tables, earlier.map_or(0, |earlier| earlier.page_tables));
            let holding = |place: Place, bytes, count| Holding { place, bytes, count };
            self.add(holding(Place::Process(owner.clone()), process.anon, process.threads), anon, false);
            let place = Place::PageTablesOf(owner.clone());
            self.add(holding(place, process.page_tables, 1), tables, false);
        }
    }

    fn holdings(&mut self, interval: Interval<'_>) {
        let mut before: FxHashMap<Place, u64> =
            interval.before.holdings.iter().map(|of| (without_name(&of.place), of.bytes)).collect();
        for holding in &interval.now.holdings {
            let earlier = before.remove(&without_name(&holding.place)).unwrap_or(0);
            self.add(holding.clone(), difference(holding.bytes, earlier), false);
        }
        for (kind, bytes) in before.iter().filter_map(|(place, bytes)| Some((place.part()?, bytes))) {
            let gone = self.gone.entry(kind).or_default();
            *gone = gone.saturating_add(*bytes);
        }
    }

    /// Growth of the places of a part, also of those that are gone.
    fn grown_in(&self, kind: PartKind) -> i64 {
        let of_it = self.list.iter().filter(|growth| growth.place.part() == Some(kind));
        let gone = difference(0, self.gone.get(&kind).copied().unwrap_or(0));
        of_it.fold(gone, |sum: i64, growth| sum.saturating_add(growth.grown))
    }

    fn bytes_in(&self, kind: PartKind) -> u64 {
        let of_it = self.list.iter().filter(|growth| growth.place.part() == Some(kind));
        of_it.fold(0, |sum: u64, growth| sum.saturating_add(growth.bytes))
    }

    /// What of a part has no other name, by the processes that map so much of it, and whether that is their share. Nothing is
    /// given out twice.
    fn divided(
        &mut self,
        interval: Interval<'_>,
        kind: PartKind,
        of: fn(&ProcessMemory) -> (u64, bool),
        place: fn(Owner) -> Place,
    ) {
        let mut grown = part(interval, kind).saturating_sub(self.grown_in(kind));
        let mut left = interval.now.part(kind).saturating_sub(self.bytes_in(kind));
        let mut processes: Vec<(i64, &ProcessMemory)> = interval
            .now
            .processes
            .iter()
            .map(|process| {
                let earlier =
                    interval.earlier(process).filter(|earlier| earlier.is_share == process.is_share);
                (difference(of(process).0, earlier.map_or(0, |earlier| of(earlier).0)), process)
            })
            .filter(|(_, process)| of(process).0 > 0)
            .collect();
        processes.sort_by_key(|(grown, process)| (Reverse(*grown), Reverse(of(process).0)));
        for (own, process) in processes {
            let own = own.min(grown.max(0));
            let bytes = of(process).0.min(left);
            (grown, left) = (grown.saturating_sub(own.max(0)), left.saturating_sub(bytes));
            let place = place(process.owner.clone());
            self.add(Holding { place, bytes, count: 1 }, own, !of(process).1);
        }
        self.add(Holding { place: Place::Rest(kind), bytes: left, count: 1 }, grown, false);
    }

    /// What is swapped out, by process. The rest is shared memory, or of processes that are not seen.
    fn swapped(&mut self, interval: Interval<'_>) {
        // A child that was forked has a share of what its parent had swapped out before: nothing is given out that did not grow.
        let mut left = difference(interval.now.swap.1, interval.before.swap.1).max(0);
        for process in interval.now.processes.iter().filter(|process| process.swap > 0) {
            let earlier = interval.earlier(process).filter(|earlier| earlier.is_share == process.is_share);
            let grown = difference(process.swap, earlier.map_or(0, |earlier| earlier.swap)).min(left);
            left -= grown.max(0);
            let place = Place::Swapped(process.owner.clone());
            self.add(Holding { place, bytes: process.swap, count: 1 }, grown, false);
        }
        let rest = |snapshot: &Snapshot| {
            snapshot.processes.iter().fold(snapshot.swap.1, |rest, process| rest.saturating_sub(process.swap))
        };
        let (bytes, before) = (rest(interval.now), rest(interval.before));
        let holding = Holding { place: Place::SwapRest, bytes, count: 1 };
        self.add(holding, difference(bytes, before), false);
    }

    /// Pipes and sockets. What they held at the beginning is not known: they take at most what grew.
    fn queues(&mut self, interval: Interval<'_>, queues: &[Holding]) {
        let mut uncounted = uncounted(interval);
        let mut sockets = queued(interval).max(0).max(uncounted);
        let mut queues: Vec<&Holding> = queues.iter().collect();
        queues.sort_by_key(|holding| Reverse(holding.bytes));
        for holding in queues {
            let is_pipe = matches!(holding.place, Place::Pipes(_));
            let room = if is_pipe { &mut uncounted } else { &mut sockets };
            let grown = i64::try_from(holding.bytes).unwrap_or(i64::MAX).min((*room).max(0));
            *room = room.saturating_sub(grown);
            self.add(holding.clone(), grown, true);
        }
        let named: u64 = self.bytes_in(PartKind::Unaccounted);
        let kind = PartKind::Unaccounted;
        let bytes = interval.now.part(kind).saturating_sub(named);
        self.add(Holding { place: Place::Rest(kind), bytes, count: 1 }, uncounted.min(sockets), false);
    }

    /// What is left of the growth of a part.
    fn rest(&mut self, interval: Interval<'_>, kind: PartKind, named: i64) {
        let bytes = interval.now.part(kind).saturating_sub(self.bytes_in(kind));
        let grown = part(interval, kind).saturating_sub(named);
        self.add(Holding { place: Place::Rest(kind), bytes, count: 1 }, grown, false);
    }

    /// BPF maps are areas, too, and what is in sockets or of watches is in slabs, too.
    fn remove_double(&mut self, watch_caches: &[String]) {
        let grown = |list: &[Growth], is_it: fn(&Place) -> bool| {
            let of_it = list.iter().filter(|growth| is_it(&growth.place));
            of_it.fold(0, |sum: i64, growth| sum.saturating_add(growth.grown.max(0)))
        };
        let maps = grown(&self.list, |place| matches!(place, Place::BpfMaps(_)));
        let sockets = grown(&self.list, |place| matches!(place, Place::Sockets(_)));
        let watches = grown(&self.list, |place| matches!(place, Place::Watches(_)));
        self.take(watches, |place| matches!(place, Place::Slab(cache, _) if watch_caches.contains(cache)));
        self.take(maps, |place| match place {
            Place::Vmalloc(caller) => is_of_maps(caller),
            Place::Rest(kind) => matches!(kind, PartKind::Percpu | PartKind::Vmalloc),
            _ => false,
        });
        self.take(sockets, |place| matches!(place, Place::AllSockets));
        self.take(sockets, |place| matches!(place, Place::Slab(cache, _) if is_of_sockets(cache)));
    }

    fn take(&mut self, mut bytes: i64, is_it: impl Fn(&Place) -> bool) {
        let seconds = self.seconds;
        for growth in self.list.iter_mut().filter(|growth| growth.grown > 0 && is_it(&growth.place)) {
            let part = growth.grown.min(bytes);
            growth.grown -= part;
            growth.rate = if seconds > 0.0 { growth.grown as f64 / seconds } else { 0.0 };
            bytes -= part;
        }
    }
}

/// A place by pid only: programs may change their names.
fn without_name(place: &Place) -> Place {
    let pid = |owner: &Owner| Owner { pid: owner.pid, comm: String::new() };
    match place {
        Place::Deleted(owner, path) => Place::Deleted(pid(owner), path.clone()),
        Place::Memfd(owner, name) => Place::Memfd(pid(owner), name.clone()),
        Place::Segments(owner, unused) => Place::Segments(pid(owner), *unused),
        Place::BpfMaps(owner) => Place::BpfMaps(pid(owner)),
        Place::Watches(owner) => Place::Watches(pid(owner)),
        other => other.clone(),
    }
}
