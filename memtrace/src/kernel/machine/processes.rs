//! The memory of every process.

use std::fs;

use super::{
    super::{find, limits},
    file::Roots,
};
use crate::profile::machine::{Missing, Owner, ProcessMemory};

/// Processes that are read; more are left out.
const MAX_PROCESSES: usize = 32_768;
/// Bytes read of a file: `status` has 2 KiB, the others less; `cgroup` has paths of up to 4 KiB.
const MAX_BYTES: u64 = 16 << 10;
/// Bytes of a command name: 15 of a program, 64 of a kernel thread.
const MAX_NAME: usize = 64;
/// Bytes of the path of a cgroup that are kept.
const MAX_PATH: usize = 4096;
/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The pids in /proc, at most as many as are read, and how many there are.
pub(super) fn pids(roots: &Roots) -> (Vec<u32>, u64) {
    let entries = fs::read_dir(&roots.proc).into_iter().flatten();
    let all = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let (mut pids, mut found) = (Vec::new(), 0);
    for pid in all {
        found += 1;
        if pids.len() < MAX_PROCESSES {
            pids.push(pid);
        }
    }
    (pids, found)
}

/// The processes that have memory of their own. One that ends meanwhile is left out.
pub(super) fn read(roots: &Roots, unified: Option<bool>, missing: &mut Vec<Missing>) -> Vec<ProcessMemory> {
    let (pids, found) = pids(roots);
    let left_out = found.saturating_sub(pids.len() as u64);
    if left_out > 0 {
        missing.push(Missing::Processes(left_out));
    }
    let mut processes: Vec<_> = pids.into_iter().filter_map(|pid| process(roots, pid, unified)).collect();
    processes.sort_by_key(|process| process.owner.pid);
    let whole = processes.iter().filter(|process| !process.is_share).count() as u64;
    if whole > 0 {
        missing.push(Missing::Shares(whole));
    }
    processes
}

/// One process; `None` if it is gone, or has no memory, as kernel threads and zombies.
fn process(roots: &Roots, pid: u32, unified: Option<bool>) -> Option<ProcessMemory> {
    let mut process = of_stat(pid, &roots.proc(&format!("{pid}/stat"), MAX_BYTES)?)?;
    let status = roots.proc(&format!("{pid}/status"), MAX_BYTES)?;
    let field = |name| find(&status, name).unwrap_or(0);
    let [anon, file, shmem] = ["RssAnon", "RssFile", "RssShmem"].map(field);
    process.page_tables = field("VmPTE");
    (process.swap, process.swap_whole) = (field("VmSwap"), field("VmSwap"));
    process.huge = field("HugetlbPages");
    process.rss = anon.saturating_add(file).saturating_add(shmem);
    let rollup = roots.proc(&format!("{pid}/smaps_rollup"), MAX_BYTES).unwrap_or_default();
    let shares = ["Pss_Anon", "Pss_File", "Pss_Shmem"].map(|name| find(&rollup, name));
    (process.anon, process.file, process.shmem) = match shares {
        [Some(anon), Some(file), Some(shmem)] => {
            process.is_share = true;
            process.swap = find(&rollup, "SwapPss").unwrap_or(process.swap);
            (anon, file, shmem)
        }
        _ => (anon, file, shmem),
    };
    process.oom_score = roots.proc_number(&format!("{pid}/oom_score")).unwrap_or(0);
    let adjust = roots.proc(&format!("{pid}/oom_score_adj"), 64);
    process.oom_adjust = adjust.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if let Some(unified) = unified {
        let groups = roots.proc(&format!("{pid}/cgroup"), MAX_BYTES).unwrap_or_default();
        let path = limits::path(&groups, unified).filter(|path| path.len() <= MAX_PATH);
        path.unwrap_or_default().clone_into(&mut process.cgroup);
    }
    Some(process)
}

/// What `stat` tells: name, parent, threads, start, address space. `None` for kernel threads, zombies and damaged text. The
/// name may contain anything, parentheses and line feeds too.
fn of_stat(pid: u32, stat: &str) -> Option<ProcessMemory> {
    let (head, fields) = stat.rsplit_once(')')?;
    let name: String = head.split_once('(')?.1.chars().take(MAX_NAME).collect();
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let numbers: Vec<u64> = fields.take(21).map(|field| field.parse().unwrap_or(0)).collect();
    // Behind the state: parent 0, flags 5, threads 16, start 18, bytes of address space 19.
    let at = |place: usize| numbers.get(place).copied();
    if matches!(state, "Z" | "X" | "x") || at(5)? & KERNEL_THREAD != 0 {
        return None;
    }
    Some(ProcessMemory {
        owner: Owner { pid, comm: name },
        parent: u32::try_from(at(0)?).unwrap_or(0),
        threads: at(16)?,
        started: at(18)?,
        size: at(19)?,
        ..ProcessMemory::default()
    })
}

#[cfg(test)]
mod tests {
    use super::of_stat;

    #[test]
    fn names_may_contain_anything() {
        let rest = "S 7 1 1 0 -1 4194560 95 0 0 0 1 2 3 4 20 0 5 0 777 8192 33 18446744073709551615";
        let process = of_stat(9, &format!("9 (a) R 1\n(b)) {rest}")).unwrap();
        assert_eq!(process.owner.comm, "a) R 1\n(b)");
        assert_eq!((process.parent, process.threads, process.started, process.size), (7, 5, 777, 8192));
        let long = of_stat(9, &format!("9 ({}) {rest}", "x".repeat(5000))).unwrap();
        assert_eq!(long.owner.comm.len(), 64);
    }

    #[test]
    fn what_has_no_memory_is_left_out() {
        for stat in [
            "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0",
            "3 (gone) Z 1 3 3 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0",
            "4 (cut) S 1 3",
            "5 (cut",
            "",
        ] {
            assert_eq!(of_stat(1, stat), None, "{stat}");
        }
    }
}
