//! Whom the OOM killer would take, and whether that is who grows.

use crate::{
    model::cgroup::is_inside,
    profile::machine::{BoundKind, Bounded, Growth, Missing, ProcessMemory, Snapshot, Victim},
};

/// Bytes of a page, as the kernel counts on the processors that memtrace runs on.
const PAGE: u64 = 4096;

/// Whom the OOM killer takes: in the cgroup whose limit is nearest, if one has a limit and processes, and of all processes.
pub(super) fn victims(now: &Snapshot, bounds: &[Bounded], grown: &[Growth]) -> Vec<Victim> {
    let mut groups = bounds.iter().filter_map(|bound| match &bound.kind {
        BoundKind::CgroupMax(path) => Some((path.as_str(), bound.bytes)),
        _ => None,
    });
    let inner = groups.find_map(|(path, bytes)| victim(now, Some(path), total(now, path, bytes), grown));
    let all = victim(now, None, now.total.saturating_add(now.swap.0), grown);
    inner.into_iter().chain(all).collect()
}

/// What the processes of a cgroup may use, with swap (`mem_cgroup_get_max`, mm/memcontrol.c).
fn total(now: &Snapshot, path: &str, bytes: u64) -> u64 {
    let group = now.cgroups.iter().find(|group| group.path == path);
    let swap = group.and_then(|group| group.swap_max).map_or(now.swap.0, |most| most.min(now.swap.0));
    bytes.saturating_add(swap)
}

/// The process of a cgroup, or of all, with the highest badness; of equal ones the kernel takes the last.
fn victim(now: &Snapshot, cgroup: Option<&str>, total: u64, grown: &[Growth]) -> Option<Victim> {
    let is_in = |process: &ProcessMemory| cgroup.is_none_or(|path| is_inside(&process.cgroup, path));
    // The init of the machine is never taken, that of a container may be (`oom_unkillable_task`).
    let is_container = now.missing.contains(&Missing::Namespace);
    let is_init = |process: &ProcessMemory| process.owner.pid == 1 && !is_container;
    let candidates = now.processes.iter().filter(|process| is_in(process) && !is_init(process));
    let worst = candidates.filter_map(|process| Some((badness(process, total)?, process)));
    let (_, process) = worst.max_by_key(|(badness, _)| *badness)?;
    // Growth elsewhere does not fill this cgroup.
    let lives = |pid: u32| now.processes.iter().any(|process| process.owner.pid == pid && is_in(process));
    let grower = grown.iter().find_map(|growth| growth.place.owner().filter(|owner| lives(owner.pid)));
    Some(Victim {
        owner: process.owner.clone(),
        score: process.oom_score,
        rss: process.rss,
        cgroup: cgroup.map(str::to_owned),
        is_grower: grower.map(|owner| owner.pid == process.owner.pid),
    })
}

/// What the OOM killer compares, in pages: what is resident, swapped out and in page tables, and for each of `oom_score_adj` a
/// thousandth of all that may be used (`oom_badness`, mm/oom_kill.c). `None`: it is never taken.
fn badness(process: &ProcessMemory, total: u64) -> Option<i128> {
    let adjust = i128::from(process.oom_adjust);
    let own = [process.rss, process.swap_whole, process.page_tables];
    let pages = own.into_iter().fold(0, |sum, bytes| sum + i128::from(bytes / PAGE));
    (adjust > -1000).then(|| pages + adjust * i128::from(total / PAGE / 1000))
}

#[cfg(test)]
mod tests {
    use super::{badness, victims};
    use crate::profile::machine::{
        BoundKind, Bounded, CgroupMemory, Growth, Missing, Owner, Place, ProcessMemory, Snapshot,
    };

    const MB: u64 = 1 << 20;

    fn process(pid: u32, cgroup: &str, rss: u64) -> ProcessMemory {
        let owner = Owner { pid, comm: format!("p{pid}") };
        ProcessMemory { owner, rss, cgroup: cgroup.to_owned(), ..ProcessMemory::default() }
    }

    fn machine() -> Snapshot {
        Snapshot {
            total: 8000 * MB,
            swap: (1000 * MB, 0),
            processes: vec![
                process(1, "/", 900 * MB),
                process(10, "/web/a", 50 * MB),
                process(11, "/web", 40 * MB),
                process(12, "/db", 400 * MB),
            ],
            ..Snapshot::default()
        }
    }

    fn bound(path: &str) -> Bounded {
        let kind = BoundKind::CgroupMax(path.to_owned());
        Bounded { kind, bytes: 100 * MB, used: 90 * MB, rate: 0.0, reached_in: None }
    }

    fn growth(place: Place) -> Growth {
        Growth { place, bytes: MB, count: 1, grown: MB as i64, rate: 1.0, at_most: false }
    }

    fn found(machine: &Snapshot, grown: &[Growth]) -> Vec<(Option<String>, u32, Option<bool>)> {
        let bounds = [bound("/empty"), bound("/web"), bound("/db")];
        let victims = victims(machine, &bounds, grown);
        victims.into_iter().map(|victim| (victim.cgroup, victim.owner.pid, victim.is_grower)).collect()
    }

    #[test]
    fn badness_is_what_the_kernel_computes() {
        let mut process = process(7, "/", 40 * MB);
        (process.swap_whole, process.page_tables, process.swap) = (4 * MB, MB, MB);
        let of = |process: &ProcessMemory, total| badness(process, total);
        assert_eq!(of(&process, 1000 * MB), Some(45 * 256));
        process.oom_adjust = 500;
        // A thousandth of the total is rounded down first.
        assert_eq!(of(&process, 1000 * MB), Some(45 * 256 + 500 * 256));
        assert_eq!(of(&process, MB), Some(45 * 256));
        process.oom_adjust = -999;
        assert_eq!(of(&process, 1000 * MB), Some(45 * 256 - 999 * 256));
        process.oom_adjust = -1000;
        assert_eq!(of(&process, 1000 * MB), None);
    }

    #[test]
    fn the_nearest_cgroup_with_processes_has_a_victim_too() {
        let web = || Some("/web".to_owned());
        assert_eq!(found(&machine(), &[]), [(web(), 10, None), (None, 12, None)]);
        // 10 MiB between them, a tenth of the limit: of the machine's memory it would be much less than a tenth.
        let mut adjusted = machine();
        adjusted.swap.0 = 0;
        adjusted.cgroups = vec![CgroupMemory { path: "/web".to_owned(), ..CgroupMemory::default() }];
        adjusted.processes[2].oom_adjust = 99;
        assert_eq!(found(&adjusted, &[])[0].1, 10);
        // Swap counts, as far as the cgroup may use it.
        adjusted.swap.0 = 3000 * MB;
        assert_eq!(found(&adjusted, &[])[0].1, 11);
        adjusted.cgroups[0].swap_max = Some(0);
        assert_eq!(found(&adjusted, &[])[0].1, 10);
        adjusted.processes[2].oom_adjust = 105;
        assert_eq!(found(&adjusted, &[])[0].1, 11);
    }

    #[test]
    fn who_grows_there_is_compared() {
        let owner = |pid| Owner { pid, comm: format!("p{pid}") };
        let all = [growth(Place::Process(owner(12))), growth(Place::Memfd(owner(11), String::new()))];
        let is_grower: Vec<_> = found(&machine(), &all).into_iter().map(|of| of.2).collect();
        assert_eq!(is_grower, [Some(false), Some(true)]);
        let gone = [growth(Place::Segments(owner(99), true)), growth(Place::Swapped(owner(10)))];
        let is_grower: Vec<_> = found(&machine(), &gone).into_iter().map(|of| of.2).collect();
        assert_eq!(is_grower, [Some(true), Some(false)]);
    }

    #[test]
    fn an_init_is_spared_on_the_machine_only() {
        let mut inside = machine();
        inside.missing.push(Missing::Namespace);
        assert_eq!(found(&inside, &[])[1].1, 1);
    }
}
