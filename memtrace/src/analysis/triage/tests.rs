//! Machines made up.

use std::time::Duration;

use super::{Closer, Interval, triage};
use crate::profile::machine::{
    Bound, BoundKind, Growth, Holding, Missing, NextStep, Owner, Part, PartKind, Place, ProcessMemory, Range,
    Snapshot, Triage,
};

const MB: u64 = 1 << 20;

fn owner(pid: u32) -> Owner {
    Owner { pid, comm: format!("p{pid}") }
}

fn process(pid: u32, anon: u64) -> ProcessMemory {
    ProcessMemory {
        owner: owner(pid),
        started: u64::from(pid),
        parent: 1,
        threads: 1,
        anon,
        rss: anon,
        is_share: true,
        cgroup: "/a/b".to_owned(),
        ..ProcessMemory::default()
    }
}

fn snapshot(second: u64) -> Snapshot {
    let part = |kind, bytes| Part { kind, bytes };
    Snapshot {
        at: Duration::from_secs(second),
        total: 1000 * MB,
        available: 500 * MB,
        parts: vec![part(PartKind::Anonymous, 100 * MB), part(PartKind::Free, 900 * MB)],
        processes: vec![process(10, 50 * MB), process(11, 20 * MB)],
        ..Snapshot::default()
    }
}

fn holding(place: Place, bytes: u64) -> Holding {
    Holding { place, bytes, count: 1 }
}

fn set(snapshot: &mut Snapshot, kind: PartKind, bytes: u64) {
    snapshot.parts.retain(|part| part.kind != kind);
    snapshot.parts.push(Part { kind, bytes });
}

/// What two snapshots tell, ten seconds apart.
fn told(before: impl Fn(&mut Snapshot), now: impl Fn(&mut Snapshot)) -> Triage {
    let (mut first, mut second) = (snapshot(0), snapshot(10));
    before(&mut first);
    now(&mut second);
    triage(&first, second, Closer::default())
}

fn first(triage: &Triage) -> (&Place, i64) {
    let Growth { place, grown, .. } = triage.grown.first().expect("something grew");
    (place, *grown)
}

#[test]
fn nothing_grows() {
    let triage = told(|_| {}, |_| {});
    assert_eq!(triage.grown, []);
    assert_eq!(triage.next, [NextStep::Scan(10), NextStep::Longer]);
    assert_eq!((triage.sum, triage.span), (1000 * MB, Duration::from_secs(10)));
    assert_eq!(triage.victims[0].is_grower, None);
}

#[test]
fn the_process_that_grows_comes_first() {
    let triage = told(|_| {}, |now| now.processes[1].anon += 30 * MB);
    assert_eq!(first(&triage), (&Place::Process(owner(11)), 30 * MB as i64));
    assert!((triage.grown[0].rate - 3.0 * MB as f64).abs() < 1.0);
    assert_eq!(triage.next, [NextStep::Attach(11), NextStep::Scan(11)]);
    // The other one is larger, and would be taken.
    assert_eq!((triage.victims[0].owner.pid, triage.victims[0].is_grower), (10, Some(false)));
}

#[test]
fn a_process_with_the_pid_of_another_has_gained_all() {
    let triage = told(|_| {}, |now| now.processes[1].started = 5000);
    assert_eq!(first(&triage), (&Place::Process(owner(11)), 20 * MB as i64));
    let whole = told(|before| before.processes[1].is_share = false, |_| {});
    assert_eq!(first(&whole).1, 20 * MB as i64);
}

#[test]
fn names_may_change() {
    let place = |comm: &str| Place::Memfd(Owner { pid: 10, comm: comm.to_owned() }, "x".to_owned());
    let triage = told(
        |before| before.holdings.push(holding(place("old"), 9 * MB)),
        |now| now.holdings.push(holding(place("new"), 10 * MB)),
    );
    assert_eq!(first(&triage), (&place("new"), MB as i64));
}

#[test]
fn shared_memory_belongs_to_what_has_a_name() {
    let tmpfs = || Place::Tmpfs("/dev/shm".to_owned());
    let named = told(
        |before| before.holdings.push(holding(tmpfs(), MB)),
        |now| {
            set(now, PartKind::Shmem, 30 * MB);
            now.processes[0].shmem = 30 * MB;
            now.holdings.push(holding(tmpfs(), 31 * MB));
        },
    );
    assert_eq!((first(&named), named.grown.len()), ((&tmpfs(), 30 * MB as i64), 1));
    let unnamed = told(
        |_| {},
        |now| {
            set(now, PartKind::Shmem, 30 * MB);
            now.processes[0].shmem = 30 * MB;
        },
    );
    assert_eq!(first(&unnamed), (&Place::SharedBy(owner(10)), 30 * MB as i64));
    let nobody = told(|_| {}, |now| set(now, PartKind::Shmem, 30 * MB));
    assert_eq!(first(&nobody), (&Place::Rest(PartKind::Shmem), 30 * MB as i64));
    assert_eq!(nobody.next, [NextStep::TmpfsSizes]);
    // In a container, others are not seen.
    let others = told(
        |_| {},
        |now| {
            set(now, PartKind::Anonymous, 130 * MB);
            now.missing.push(Missing::Namespace);
        },
    );
    assert_eq!(first(&others), (&Place::Rest(PartKind::Anonymous), 30 * MB as i64));
    assert_eq!(others.next, [NextStep::Longer]);
}

#[test]
fn maps_are_not_counted_as_areas_too() {
    let triage = told(
        |_| {},
        |now| {
            now.holdings.push(holding(Place::BpfMaps(owner(10)), 20 * MB));
            now.holdings.push(holding(Place::Vmalloc("array_map_alloc".to_owned()), 21 * MB));
            now.holdings.push(holding(Place::Vmalloc("module_alloc".to_owned()), 2 * MB));
        },
    );
    let grown: Vec<_> = triage.grown.iter().map(|growth| (&growth.place, growth.grown / MB as i64)).collect();
    let expected = [
        (&Place::BpfMaps(owner(10)), 20),
        (&Place::Vmalloc("module_alloc".to_owned()), 2),
        (&Place::Vmalloc("array_map_alloc".to_owned()), 1),
    ];
    assert_eq!(grown, expected);
    assert_eq!(triage.next, [NextStep::KernelFor(10), NextStep::Kernel("--vmalloc")]);
}

#[test]
fn pipes_take_what_nothing_else_counts() {
    let (before, mut now) = (snapshot(0), snapshot(10));
    set(&mut now, PartKind::Unaccounted, 12 * MB);
    assert!(Interval { before: &before, now: &now }.wants_queues());
    let queues = vec![holding(Place::Pipes(owner(10)), 10 * MB), holding(Place::Pipes(owner(11)), 100 << 10)];
    let triage = triage(&before, now, Closer { queues, ..Closer::default() });
    assert_eq!(first(&triage), (&Place::Pipes(owner(10)), 10 * MB as i64));
    assert!(triage.grown[0].at_most);
    let rest = &triage.grown[1];
    assert_eq!((&rest.place, rest.grown), (&Place::Rest(PartKind::Unaccounted), 2 * MB as i64 - (100 << 10)));
    assert!(!Interval { before: &before, now: &snapshot(10) }.wants_queues());
}

#[test]
fn limits_are_forecast() {
    let bound = |kind, bytes, used| Bound { kind, bytes, used };
    let group = || BoundKind::CgroupMax("/a".to_owned());
    let triage = told(
        |before| {
            before.bounds = vec![bound(group(), 200 * MB, 90 * MB), bound(BoundKind::Machine, 1000 * MB, 1)]
        },
        |now| {
            now.processes[1].anon += 10 * MB;
            now.processes[0].cgroup = "/ab".to_owned();
            now.bounds = vec![bound(group(), 200 * MB, 100 * MB), bound(BoundKind::Machine, 1000 * MB, 1)];
        },
    );
    let [first, machine] = triage.bounds.as_slice() else { panic!("{:?}", triage.bounds) };
    assert_eq!((&first.kind, first.reached_in), (&group(), Some(Duration::from_secs(100))));
    assert_eq!(machine.reached_in, None);
    // Only one process is in that cgroup.
    let victims: Vec<_> =
        triage.victims.iter().map(|of| (of.cgroup.as_deref(), of.owner.pid, of.is_grower)).collect();
    assert_eq!(victims, [(Some("/a"), 11, Some(true)), (None, 10, Some(false))]);
}

#[test]
fn the_killer_heeds_its_settings() {
    let victim = |adjust: [i64; 2]| {
        let triage = told(
            |_| {},
            |now| {
                now.processes[0].oom_adjust = adjust[0];
                now.processes[1].oom_adjust = adjust[1];
            },
        );
        triage.victims.first().map(|victim| victim.owner.pid)
    };
    assert_eq!(victim([0, 0]), Some(10));
    assert_eq!(victim([0, 100]), Some(11));
    assert_eq!(victim([-1000, -900]), Some(11));
    assert_eq!(victim([-1000, -1000]), None);
}

#[test]
fn a_full_tmpfs_can_be_made_larger() {
    let place = || Place::Tmpfs("/run".to_owned());
    let triage = told(
        |before| before.holdings.push(holding(place(), 10 * MB)),
        |now| {
            now.holdings.push(holding(place(), 18 * MB));
            now.bounds =
                vec![Bound { kind: BoundKind::Tmpfs("/run".to_owned()), bytes: 20 * MB, used: 18 * MB }];
        },
    );
    let run = || "/run".to_owned();
    assert_eq!(triage.next, [NextStep::LargestFiles(run()), NextStep::Remount(run(), 30 * MB)]);
}

#[test]
fn families_and_patterns_of_suspects() {
    let (mut before, mut now) = (snapshot(0), snapshot(10));
    for snapshot in [&mut before, &mut now] {
        for pid in 20..24 {
            let mut child = process(pid, 10 * MB);
            child.owner.comm = "worker".to_owned();
            child.parent = 10;
            snapshot.processes.push(child);
        }
    }
    for child in &mut now.processes[2..] {
        child.anon += 5 * MB;
    }
    now.processes[2].anon += 5 * MB;
    let suspects = Interval { before: &before, now: &now }.suspects();
    assert_eq!((suspects.len(), suspects[0].pid), (3, 20));
    let ranges = vec![(suspects[0].clone(), vec![Range::default()])];
    let triage = triage(&before, now, Closer { ranges, ..Closer::default() });
    let suspect = &triage.suspects[0];
    assert_eq!(suspect.parent, Some(owner(10)));
    assert_eq!(suspect.siblings, (3, 15 * MB as i64));
}

#[test]
fn address_space_is_looked_at_too() {
    let (before, mut now) = (snapshot(0), snapshot(10));
    now.processes[1].size = 80 * MB;
    now.processes[0].anon += 5 * MB;
    let suspects = Interval { before: &before, now: &now }.suspects();
    assert_eq!(suspects, [owner(10), owner(11)]);
    // What is in memory is no hidden growth.
    now.processes[1].anon += 40 * MB;
    now.processes[1].size = 60 * MB;
    assert_eq!(Interval { before: &before, now: &now }.suspects(), [owner(11), owner(10)]);
}

#[test]
fn parts_stand_for_what_cannot_be_read() {
    let grow = |now: &mut Snapshot| {
        set(now, PartKind::SlabReclaimable, 9 * MB);
        set(now, PartKind::Percpu, 3 * MB);
    };
    let triage = told(
        |_| {},
        |now| {
            grow(now);
            now.missing.push(Missing::Slabs);
        },
    );
    let places: Vec<_> = triage.grown.iter().map(|growth| &growth.place).collect();
    assert_eq!(places, [&Place::Rest(PartKind::SlabReclaimable), &Place::Rest(PartKind::Percpu)]);
    assert_eq!(told(|_| {}, grow).grown.len(), 1);
}

#[test]
fn huge_pages_and_swap_have_owners() {
    let pool = |snapshot: &mut Snapshot, free: u64, used: [u64; 2]| {
        set(snapshot, PartKind::HugePages, 40 * MB);
        if free > 0 {
            snapshot.holdings.push(holding(Place::HugeFree, free * MB));
        }
        for (process, used) in snapshot.processes.iter_mut().zip(used) {
            process.huge = used * MB;
        }
    };
    let places = |triage: &Triage| -> Vec<(Place, i64)> {
        triage.grown.iter().map(|growth| (growth.place.clone(), growth.grown / MB as i64)).collect()
    };
    let all = told(|before| pool(before, 40, [0, 0]), |now| pool(now, 0, [0, 40]));
    assert_eq!(places(&all), [(Place::HugePages(owner(11)), 40)]);
    // What two share is given out once.
    let used = told(|before| pool(before, 40, [0, 0]), |now| pool(now, 10, [30, 30]));
    assert_eq!(places(&used), [(Place::HugePages(owner(10)), 30)]);
    assert_eq!(used.next, [NextStep::Attach(10)]);
    // Files of hugetlbfs that nobody maps.
    let files = told(|before| pool(before, 40, [0, 0]), |now| pool(now, 20, [4, 0]));
    assert_eq!(places(&files), [(Place::Rest(PartKind::HugePages), 16), (Place::HugePages(owner(10)), 4)]);
    let reserved = told(|_| {}, |now| pool(now, 40, [0, 0]));
    assert_eq!((places(&reserved), reserved.next), (vec![(Place::HugeFree, 40)], vec![NextStep::HugePages]));

    let swapped = told(
        |before| before.swap = (100 * MB, 2 * MB),
        |now| {
            now.swap = (100 * MB, 32 * MB);
            now.processes[1].swap = 20 * MB;
        },
    );
    assert_eq!(places(&swapped), [(Place::Swapped(owner(11)), 20), (Place::SwapRest, 10)]);
    assert_eq!(swapped.next, [NextStep::Attach(11), NextStep::Swaps, NextStep::TmpfsSizes]);
    // One that ended had it.
    let ended = told(
        |before| {
            before.swap = (100 * MB, 20 * MB);
            before.processes[1].swap = 20 * MB;
        },
        |now| now.swap = (100 * MB, 20 * MB),
    );
    assert_eq!(places(&ended), [(Place::SwapRest, 20)]);
}

#[test]
fn watches_are_not_counted_as_slabs_too() {
    let triage = told(
        |_| {},
        |now| {
            now.holdings.push(holding(Place::Slab("inode".to_owned(), true), 21 * MB));
            now.holdings.push(holding(Place::Slab("dentry".to_owned(), true), 3 * MB));
            now.holdings.push(holding(Place::Watches(owner(10)), 20 * MB));
            now.watch_caches.push("inode".to_owned());
        },
    );
    let grown: Vec<_> = triage.grown.iter().map(|growth| (&growth.place, growth.grown / MB as i64)).collect();
    let expected = [
        (&Place::Watches(owner(10)), 20),
        (&Place::Slab("dentry".to_owned(), true), 3),
        (&Place::Slab("inode".to_owned(), true), 1),
    ];
    assert_eq!(grown, expected);
    assert_eq!(triage.next[..2], [NextStep::Watches(10), NextStep::KernelFor(10)]);
}

#[test]
fn compressed_memory_has_devices() {
    let triage = told(
        |_| {},
        |now| {
            set(now, PartKind::Compressed, 9 * MB);
            now.holdings.push(holding(Place::Zram("zram0".to_owned()), 8 * MB));
        },
    );
    let grown: Vec<_> = triage.grown.iter().map(|growth| (&growth.place, growth.grown / MB as i64)).collect();
    assert_eq!(grown, [(&Place::Zram("zram0".to_owned()), 8), (&Place::Rest(PartKind::Compressed), 1)]);
    assert_eq!(triage.next, [NextStep::Zram]);
}
