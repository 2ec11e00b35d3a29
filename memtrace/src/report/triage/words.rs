//! Places, limits, patterns and commands in words.

use crate::profile::{
    machine::{
        BoundKind, Bounded, Growth, Missing, NextStep, Owner, PartKind, Pattern, Place, SlowReport, Triage,
        Victim,
    },
    units::{format_age, format_bytes, format_count, format_number, format_percent, format_rate},
};
use crate::report::escape::{escape, short};

/// The answer: what grows, which limit is near and who is killed then, what to do. Each line has a word before it.
#[must_use]
pub fn answer(triage: &Triage) -> [(&'static str, String); 3] {
    let span = format_age(triage.span);
    // What is given back under pressure, or is not in memory, is no answer to where memory went.
    let is_kept = |growth: &&Growth| growth.place.is_kept();
    let unjoined = triage.suspects.iter().find_map(|suspect| {
        let is_growing = suspect.size_grown > 0;
        suspect.unjoined().filter(|_| is_growing).map(|stacks| (suspect, pattern(stacks)))
    });
    let first = match (triage.grown.first(), unjoined, triage.largest.iter().find(is_kept)) {
        (Some(growth), Some((suspect, stacks)), _) if growth.place.owner() == Some(&suspect.owner) => {
            ("GROWS", format!("{}; {stacks}", grows(growth, &span)))
        }
        (Some(growth), ..) => ("GROWS", grows(growth, &span)),
        (None, Some((suspect, stacks)), _) => {
            let grown = format_bytes(suspect.size_grown.unsigned_abs());
            ("GROWS", format!("{}: address space, {grown} in {span}: {stacks}", owner(&suspect.owner)))
        }
        (None, None, Some(largest)) => {
            let most = format!("{} ({})", place(&largest.place, largest.count), format_bytes(largest.bytes));
            ("STEADY", format!("nothing grew by more than 256 KiB in {span}; the most is held by {most}"))
        }
        (None, None, None) => ("STEADY", format!("nothing grew by more than 256 KiB in {span}")),
    };
    let limit = triage.bounds.first().map_or_else(|| "none is known".to_owned(), bound);
    let path = triage.bounds.first().and_then(|bound| match &bound.kind {
        BoundKind::CgroupMax(path) => Some(path),
        _ => None,
    });
    let mut victims = triage.victims.iter();
    let of_limit = victims.find(|victim| victim.cgroup.is_none() || victim.cgroup.as_ref() == path);
    let killed = of_limit.map(killed).unwrap_or_default();
    let next = triage.next.first().map(command).unwrap_or_default();
    [first, ("LIMIT", format!("{limit}{killed}")), ("NEXT", next)]
}

fn grows(growth: &Growth, span: &str) -> String {
    format!(
        "{}: {} ({}{} in {span}), now {}",
        place(&growth.place, growth.count),
        format_rate(growth.rate),
        if growth.at_most { "at most " } else { "" },
        format_bytes(growth.grown.unsigned_abs()),
        format_bytes(growth.bytes)
    )
}

/// Whom the OOM killer takes, as the end of a sentence.
fn killed(victim: &Victim) -> String {
    let when = if victim.cgroup.is_some() { "then" } else { "now" };
    format!("; the OOM killer would take {} {when}{}", owner(&victim.owner), grows_too(victim))
}

fn grows_too(victim: &Victim) -> &'static str {
    match victim.is_grower {
        Some(true) => ", the one that grows",
        Some(false) => ", which is not the one that grows",
        None => "",
    }
}

/// Whom the OOM killer takes, and of which processes.
pub(super) fn victim(victim: &Victim) -> String {
    let among = match &victim.cgroup {
        Some(path) => format!("in cgroup {}", short(path)),
        None => "of all processes".to_owned(),
    };
    let (whom, rss) = (owner(&victim.owner), format_bytes(victim.rss));
    format!("{among}: {whom}, RSS {rss}{}", grows_too(victim))
}

/// A limit.
pub(super) fn bound(bound: &Bounded) -> String {
    let what = match &bound.kind {
        BoundKind::Machine => "memory and swap of the machine".to_owned(),
        BoundKind::CgroupMax(path) => format!("the limit of cgroup {}", short(path)),
        BoundKind::CgroupHigh(path) => {
            format!("memory.high of cgroup {}, which slows it down,", short(path))
        }
        BoundKind::Tmpfs(path) => format!("the size of the tmpfs {}", short(path)),
        BoundKind::Tcp => "the memory for TCP (net.ipv4.tcp_mem)".to_owned(),
    };
    let share = format_percent(bound.used as f64 / bound.bytes.max(1) as f64);
    let used =
        format!("{what}: {} of {} used ({share})", format_bytes(bound.used), format_bytes(bound.bytes));
    match bound.reached_in {
        Some(time) => format!("{used}, {}, reached in {}", format_rate(bound.rate), format_age(time)),
        None => used,
    }
}

fn owner(owner: &Owner) -> String {
    match owner.comm.as_str() {
        "" => format!("process {} (gone)", owner.pid),
        comm => format!("{} (pid {})", short(comm), owner.pid),
    }
}

/// A place with so many things in it.
#[must_use]
pub fn place(place: &Place, count: u64) -> String {
    let many = |thing: &str| format_count(count, thing);
    match place {
        Place::Process(of) => format!("{}, anonymous memory", owner(of)),
        Place::SharedBy(of) => format!("{}, shared memory that it maps", owner(of)),
        Place::PageTablesOf(of) => format!("{}, page tables", owner(of)),
        Place::Tmpfs(point) => format!("files in the tmpfs {}", short(point)),
        Place::Deleted(of, path) => {
            format!("{} {}, held open by {}", deleted(count), short(path), owner(of))
        }
        Place::Memfd(of, name) => format!("{} {:?} of {}", many("memfd"), short(name), owner(of)),
        Place::Segments(of, unused) => format!(
            "{}{}, made by {}",
            many("System V segment"),
            if *unused { " that no process has attached" } else { "" },
            owner(of)
        ),
        Place::Slab(cache, reclaimable) => format!(
            "slab cache {}, {}{}",
            short(cache),
            many("object"),
            if *reclaimable { ", given back under pressure" } else { "" }
        ),
        Place::Vmalloc(caller) if caller.is_empty() => "vmalloc by other callers".to_owned(),
        Place::Vmalloc(caller) => format!("vmalloc by {}, {}", short(caller), many("area")),
        Place::BpfMaps(of) => format!("{} of {}", many("BPF map"), owner(of)),
        Place::Watches(of) => {
            format!("{} of {}, with the inodes that they pin", many_watches(count), owner(of))
        }
        Place::Pipes(of) => format!("{} of {}, not read", many("pipe"), owner(of)),
        Place::Sockets(of) => format!("{} of {}, not read or not sent", many("socket"), owner(of)),
        Place::AllSockets => "TCP and UDP sockets, not read or not sent".to_owned(),
        Place::HugePages(of) => format!("{}, huge pages of the pool", owner(of)),
        Place::HugeFree => "free huge pages of the pool, which nothing else can use".to_owned(),
        Place::Zram(device) => format!("{}, compressed in memory", short(device)),
        Place::Swapped(of) => format!("{}, swapped out", owner(of)),
        Place::SwapRest => "swap of shared memory and tmpfs, or of processes that are not seen".to_owned(),
        Place::Rest(PartKind::HugePages) => {
            "huge pages of the pool that no process maps: files of hugetlbfs".to_owned()
        }
        Place::Rest(PartKind::Shmem) => "shared memory without a name or an owner".to_owned(),
        Place::Rest(kind) => part(*kind).to_owned(),
    }
}

fn many_watches(count: u64) -> String {
    format!("{} inotify watch{}", format_number(count), if count == 1 { "" } else { "es" })
}

fn deleted(count: u64) -> String {
    if count == 1 { "deleted file".to_owned() } else { format!("{} deleted files", format_number(count)) }
}

/// A part of the machine's memory.
#[must_use]
pub fn part(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Anonymous => "anonymous memory of processes",
        PartKind::Shmem => "shared memory and tmpfs",
        PartKind::PageCache => "page cache",
        PartKind::SlabReclaimable => "slab, given back under pressure",
        PartKind::SlabUnreclaimable => "slab, not given back",
        PartKind::PageTables => "page tables",
        PartKind::KernelStacks => "stacks of threads in the kernel",
        PartKind::Vmalloc => "vmalloc",
        PartKind::Percpu => "per-CPU memory",
        PartKind::HugePages => "huge pages of the pool",
        PartKind::Compressed => "zram and zswap",
        PartKind::Balloon => "given to the host by a balloon",
        PartKind::Free => "free",
        PartKind::Unaccounted => "unaccounted: drivers, pipes, sockets",
    }
}

/// What mappings look like.
#[must_use]
pub fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Stacks { count, each, rss, threads, unjoined } => {
            let ending = match unjoined {
                true => format!(
                    " but only {}: threads ended and were never joined",
                    format_count(*threads, "thread")
                ),
                false => format!(", {}", format_count(*threads, "thread")),
            };
            format!(
                "{} of {} above a guard page, as stacks of threads are ({} in memory){ending}",
                format_count(*count, "range"),
                format_bytes(*each),
                format_bytes(*rss)
            )
        }
        Pattern::Arenas { count, rss } => format!(
            "{} of glibc's malloc ({} in memory): MALLOC_ARENA_MAX limits them",
            format_count(*count, "arena"),
            format_bytes(*rss)
        ),
        Pattern::Ranges { count, each, rss } => format!(
            "{} of {} each, anonymous ({} in memory)",
            format_count(*count, "range"),
            format_bytes(*each),
            format_bytes(*rss)
        ),
    }
}

/// A command, ready to be pasted.
#[must_use]
pub fn command(step: &NextStep) -> String {
    // What is escaped here cannot be pasted, but neither can it harm.
    let quoted = |text: &str| escape(&shell_words::quote(text)).into_owned();
    match step {
        NextStep::Attach(pid) => format!("memtrace attach {pid}"),
        NextStep::Scan(pid) => format!("memtrace scan {pid}"),
        NextStep::Cache(cache) => format!("memtrace kernel --cache {}", quoted(cache)),
        NextStep::Kernel(option) => format!("memtrace kernel {option}"),
        NextStep::KernelFor(pid) => format!("memtrace kernel --pid {pid} --slab --percpu --vmalloc"),
        NextStep::LargestFiles(point) => {
            format!("find {} -xdev -type f -printf '%s %p\\n' | sort -n | tail", quoted(point))
        }
        NextStep::Remount(point, bytes) => {
            format!("mount -o remount,size={}k {}", bytes >> 10, quoted(point))
        }
        NextStep::TmpfsSizes => "df -h -t tmpfs".to_owned(),
        NextStep::Descriptors(pid) => format!("ls -l /proc/{pid}/fd"),
        NextStep::Watches(pid) => format!("grep -c ^inotify /proc/{pid}/fdinfo/* | grep -v ':0$'"),
        NextStep::HugePages => "grep . /sys/kernel/mm/hugepages/*/*_hugepages".to_owned(),
        NextStep::Zram => "zramctl".to_owned(),
        NextStep::Swaps => "swapon --show".to_owned(),
        NextStep::Sockets => "ss -tuxmp".to_owned(),
        NextStep::Segments => "ipcs -m -p".to_owned(),
        NextStep::Longer => "memtrace triage -i 60s".to_owned(),
    }
}

fn processes(count: u64) -> String {
    format!("{} process{}", format_number(count), if count == 1 { "" } else { "es" })
}

/// What is not in the picture, and why.
#[must_use]
pub fn missing(what: &Missing) -> String {
    match what {
        Missing::Shares(count) => format!(
            "the share of shared pages of {} (/proc/PID/smaps_rollup needs CAP_SYS_PTRACE, as root of the machine has): \
             these are counted whole",
            processes(*count)
        ),
        Missing::Descriptors(count) => format!(
            "descriptors of {} (/proc/PID/fd needs CAP_SYS_PTRACE, as root of the machine has): memfds, deleted files, BPF \
             maps, inotify watches, pipes and sockets",
            processes(*count)
        ),
        Missing::Processes(count) => format!("{}: only the first are read", processes(*count)),
        Missing::Slabs => "slab caches by name (/proc/slabinfo needs root)".to_owned(),
        Missing::Vmalloc => "vmalloc by caller (/proc/vmallocinfo needs root)".to_owned(),
        Missing::Log => {
            "the kernel's log (/dev/kmsg needs CAP_SYSLOG, as root of the machine has, or kernel.dmesg_restrict=0)"
                .to_owned()
        },
        Missing::Cgroups => "cgroups: no hierarchy with the memory controller is mounted".to_owned(),
        Missing::Segments => "System V segments (/proc/sysvipc/shm cannot be read)".to_owned(),
        Missing::Watches(most) => {
            format!("inotify watches: only the first {} are read", format_number(*most))
        }
        Missing::Namespace => {
            "processes outside this PID namespace: the machine's memory is shown, but only the \
            processes of this container"
                .to_owned()
        }
        Missing::Mount(point) => {
            format!("the tmpfs {}, which lies behind a file system of another machine", short(point))
        }
    }
}

/// A setting that makes the report of an OOM kill slow, and what it does.
#[must_use]
pub fn slow_setting(setting: &SlowReport) -> String {
    match setting {
        SlowReport::DumpTasks(processes) => format!(
            "vm.oom_dump_tasks=1: each OOM kill prints a line for each of {} processes while memory is short",
            format_number(*processes)
        ),
        SlowReport::SerialConsole(level, console) => format!(
            "kernel.printk={level} with {}: the report goes out over a serial line (11 characters per ms at 115200 baud) \
             while everything waits",
            short(console)
        ),
    }
}
