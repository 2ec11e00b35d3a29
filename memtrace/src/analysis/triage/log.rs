//! Reports of the OOM killer and of failed allocations in the kernel's log (mm/oom_kill.c, mm/show_mem.c, mm/page_alloc.c,
//! mm/memcontrol.c). Fields are found by their names, since lines differ by version.

use std::{collections::VecDeque, time::Duration};

use crate::profile::machine::{Constraint, KernelEvent, Killed, LogLine, OomKill};

/// Events that are kept: the latest.
const MAX_EVENTS: usize = 64;
/// Characters of a name that are kept. Names of processes have 15, paths of cgroups may be long.
const MAX_NAME: usize = 256;
/// Bytes of a page, as the kernel counts on the processors that memtrace runs on.
const PAGE: u64 = 4096;
/// How a line break within a record is written in the log.
const BREAK: &str = "\\x0a";

/// What happened, the oldest first, and how many events before those were left out.
#[must_use]
pub fn events(lines: &[LogLine]) -> (Vec<KernelEvent>, u64) {
    let mut reader = Reader::default();
    for line in lines {
        reader.line(line);
    }
    (reader.events.into(), reader.left_out)
}

/// The report that is being read.
#[derive(Debug, Default)]
struct Draft {
    asked_by: String,
    order: u32,
    cgroup: Option<String>,
    is_nodes: bool,
    limit: Option<u64>,
    reclaimable: Option<u64>,
    unreclaimable: Option<u64>,
    shmem: Option<u64>,
    /// Whether figures of a cgroup follow, in bytes.
    in_cgroup: bool,
    /// Names of the columns of the table of processes.
    columns: Vec<String>,
    largest: Option<(u64, Killed)>,
}

#[derive(Debug, Default)]
struct Reader {
    draft: Draft,
    events: VecDeque<KernelEvent>,
    left_out: u64,
    /// Whether the last event is a failure whose figures may follow.
    has_failed: bool,
}

impl Reader {
    fn push(&mut self, event: KernelEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.left_out += 1;
        }
        self.has_failed = matches!(event, KernelEvent::Failure { .. });
        self.events.push_back(event);
    }

    fn line(&mut self, LogLine { at, text }: &LogLine) {
        if let Some((comm, rest)) = text.split_once(" invoked oom-killer: ") {
            let order = after(rest, "order=").and_then(leading).unwrap_or(0);
            let order = u32::try_from(order).unwrap_or(0);
            self.draft = Draft { asked_by: name(comm), order, ..Draft::default() };
            self.has_failed = false;
        } else if let Some(rest) = text.strip_prefix("oom-kill:constraint=") {
            self.draft.constraint(rest);
        } else if let Some((before, rest)) = text.split_once(": Killed process ") {
            self.killed(*at, before, rest);
        } else if let Some(event) = failure(*at, text) {
            self.push(event);
        } else if self.has_failed {
            self.figures_of_failure(text);
        } else {
            self.draft.figures(text);
        }
    }

    /// `PID (COMM) total-vm:…kB, anon-rss:…kB, …`. The name may contain parentheses.
    fn killed(&mut self, at: Duration, before: &str, rest: &str) {
        let Some((head, figures)) = rest.rsplit_once(") total-vm:") else { return };
        let Some((pid, comm)) = head.split_once(" (") else { return };
        let Ok(pid) = pid.parse() else { return };
        let kib = |name: &str| after(figures, name).and_then(leading).unwrap_or(0).saturating_mul(1024);
        let killed = Killed {
            pid,
            comm: name(comm),
            anon: kib("anon-rss:"),
            file: kib("file-rss:"),
            shmem: kib("shmem-rss:"),
            page_tables: kib("pgtables:"),
        };
        let draft = &self.draft;
        let constraint = match &draft.cgroup {
            Some(path) => Constraint::Cgroup(path.clone()),
            // The line that names the cgroup is gone.
            None if before.starts_with("Memory cgroup") => Constraint::Cgroup(String::new()),
            None if draft.is_nodes => Constraint::Nodes,
            None => Constraint::Machine,
        };
        let kill = OomKill {
            at,
            asked_by: draft.asked_by.clone(),
            order: draft.order,
            limit: draft.limit.filter(|_| matches!(constraint, Constraint::Cgroup(_))),
            constraint,
            killed,
            largest: draft.largest.as_ref().map(|(_, process)| process.clone()),
            slab: draft.reclaimable.zip(draft.unreclaimable),
            shmem: draft.shmem,
        };
        self.push(KernelEvent::Kill(Box::new(kill)));
    }

    fn figures_of_failure(&mut self, text: &str) {
        let Some(pages) = text.split(BREAK).find_map(|part| leading(after(part, " free:")?)) else { return };
        if let Some(KernelEvent::Failure { free, .. }) = self.events.back_mut() {
            *free = Some(pages.saturating_mul(PAGE));
        }
        self.has_failed = false;
    }
}

impl Draft {
    /// `CONSTRAINT_MEMCG,nodemask=…,oom_memcg=/a,task_memcg=/a/b,task=COMM,pid=5,uid=0`.
    fn constraint(&mut self, rest: &str) {
        self.is_nodes = rest.starts_with("CONSTRAINT_CPUSET") || rest.starts_with("CONSTRAINT_MEMORY_POLICY");
        if rest.starts_with("CONSTRAINT_MEMCG") {
            let path = after(rest, ",oom_memcg=").and_then(|path| path.split(",task_memcg=").next());
            self.cgroup = path.map(name);
        }
    }

    /// Figures of the machine in pages, those of a cgroup in bytes, the table of processes in pages.
    fn figures(&mut self, text: &str) {
        if text.starts_with("[  pid  ]") || text.starts_with("[ pid ]") {
            let columns = text.split_once(']').map_or("", |(_, columns)| columns);
            self.columns = columns.split_ascii_whitespace().map(str::to_owned).take(32).collect();
        } else if text.starts_with('[') {
            self.process(text);
        } else if text.starts_with("memory: usage ") {
            let kib = after(text, "limit ").and_then(leading);
            self.limit = kib.map(|kib| kib.saturating_mul(1024));
        } else if text.starts_with("Memory cgroup stats for ") {
            self.in_cgroup = true;
            (self.reclaimable, self.unreclaimable, self.shmem) = (None, None, None);
        } else {
            for part in text.split(BREAK) {
                self.figure(part);
            }
        }
    }

    fn figure(&mut self, part: &str) {
        let (separator, unit) = if self.in_cgroup { (' ', 1) } else { (':', PAGE) };
        for (name, value) in [
            ("slab_reclaimable", &mut self.reclaimable),
            ("slab_unreclaimable", &mut self.unreclaimable),
            ("shmem", &mut self.shmem),
        ] {
            let words = part.trim_start().split(if self.in_cgroup { '\n' } else { ' ' });
            let mut found = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix(separator));
            // The first counts: figures of each node follow.
            if let (None, Some(number)) = (&value, found.next().and_then(leading)) {
                *value = Some(number.saturating_mul(unit));
            }
        }
    }

    /// `[ PID ] uid tgid total_vm rss … name`, in the order of the heading.
    fn process(&mut self, text: &str) {
        let Some((_, row)) = text.split_once(']') else { return };
        let fields: Vec<&str> = row.split_ascii_whitespace().take(64).collect();
        let column = |name: &str| {
            let at = self.columns.iter().position(|column| column == name)?;
            fields.get(at)?.parse::<u64>().ok()
        };
        let pages = |name: &str| column(name).map(|pages| pages.saturating_mul(PAGE));
        let (Some(pid), Some(rss)) = (column("tgid"), pages("rss")) else { return };
        let comm = fields.get(self.columns.len().saturating_sub(1)..).unwrap_or_default().join(" ");
        let size = rss.saturating_add(pages("swapents").unwrap_or(0));
        if self.largest.as_ref().is_none_or(|(largest, _)| *largest < size) {
            let process = Killed {
                pid: u32::try_from(pid).unwrap_or(0),
                comm: name(&comm),
                // Older kernels do not divide it.
                anon: pages("rss_anon").unwrap_or(rss),
                file: pages("rss_file").unwrap_or(0),
                shmem: pages("rss_shmem").unwrap_or(0),
                page_tables: column("pgtables_bytes").unwrap_or(0),
            };
            self.largest = Some((size, process));
        }
    }
}

/// `COMM: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), …`, or the same of vmalloc.
fn failure(at: Duration, text: &str) -> Option<KernelEvent> {
    let (comm, rest, order) = match text.split_once(": page allocation failure: order:") {
        Some((comm, rest)) => (comm, rest, leading(rest).and_then(|order| u32::try_from(order).ok())),
        None => {
            let (comm, rest) = text.split_once(": vmalloc error: size ")?;
            (comm, rest, None)
        }
    };
    let mode = after(rest, "mode:")?;
    let mode = mode.split_once(')').map_or(mode, |(mode, _)| mode);
    let mode = mode.split_once('(').map_or(mode, |(_, names)| names);
    Some(KernelEvent::Failure { at, comm: name(comm), order, mode: name(mode), free: None })
}

fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name).map(|(_, rest)| rest)
}

/// The number at the beginning.
fn leading(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn name(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_EVENTS, events};
    use crate::profile::machine::{Constraint, KernelEvent, LogLine, OomKill};

    fn lines(text: &str) -> Vec<LogLine> {
        let line = |(at, text): (usize, &str)| LogLine {
            at: Duration::from_secs(at as u64),
            text: text.trim_start().to_owned(),
        };
        text.lines().enumerate().map(line).collect()
    }

    fn kills(text: &str) -> Vec<OomKill> {
        let kill = |event| match event {
            KernelEvent::Kill(kill) => *kill,
            other @ KernelEvent::Failure { .. } => panic!("{other:?}"),
        };
        events(&lines(text)).0.into_iter().map(kill).collect()
    }

    const MACHINE: &str = r"postgres invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
        CPU: 1 UID: 0 PID: 345 Comm: postgres Not tainted 6.12.1 #1
        Mem-Info:
        active_anon:1000 inactive_anon:5 isolated_anon:0\x0a active_file:1 inactive_file:2\x0a slab_reclaimable:300 slab_unreclaimable:400\x0a mapped:1 shmem:50 pagetables:7
        Node 0 active_anon:4000kB shmem:999kB
        Tasks state (memory values in pages):
        [  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
        [    345]   999   345    50000     2000     1000      500       500   204800        0             0 postgres
        [    400]     0   400   900000   800000   799000     1000         0  7000000        5             0 my leaker
        oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=postgres,pid=345,uid=999
        Out of memory: Killed process 345 (post) (gres) total-vm:200000kB, anon-rss:4000kB, file-rss:2000kB, shmem-rss:2000kB, UID:999 pgtables:200kB oom_score_adj:0";

    #[test]
    fn an_innocent_process_is_killed() {
        let kills = kills(MACHINE);
        let [kill] = kills.as_slice() else { panic!("{kills:?}") };
        assert_eq!(
            (kill.asked_by.as_str(), kill.order, &kill.constraint),
            ("postgres", 0, &Constraint::Machine)
        );
        assert_eq!((kill.killed.pid, kill.killed.comm.as_str()), (345, "post) (gres"));
        assert_eq!((kill.killed.rss(), kill.killed.page_tables), (8000 << 10, 200 << 10));
        let largest = kill.largest.as_ref().unwrap();
        assert_eq!((largest.pid, largest.comm.as_str(), largest.anon), (400, "my leaker", 799_000 * 4096));
        assert_eq!((kill.slab, kill.shmem), (Some((300 * 4096, 400 * 4096)), Some(50 * 4096)));
        assert_eq!(kill.at, Duration::from_secs(10));
    }

    #[test]
    fn a_cgroup_at_its_limit() {
        let text = r"leaker invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
            memory: usage 20480kB, limit 20480kB, failcnt 35
            Memory cgroup stats for /x:
            anon 20000768\x0afile 0\x0ashmem 4096\x0aslab_reclaimable 100\x0aslab_unreclaimable 200
            [ pid ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
            [  77]     0    77     9000     5000    90000        0             0 leaker
            oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/x,task_memcg=/x/y,task=leaker,pid=77,uid=0
            Memory cgroup out of memory: Killed process 77 (leaker) total-vm:36000kB, anon-rss:19000kB, file-rss:1000kB, shmem-rss:0kB, UID:0 pgtables:88kB oom_score_adj:0
            oom_reaper: reaped process 77 (leaker), now anon-rss:0kB
            Memory cgroup out of memory: Killed process 78 (other) total-vm:36000kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB";
        let kills = kills(text);
        let [kill, second] = kills.as_slice() else { panic!("{kills:?}") };
        assert_eq!(kill.constraint, Constraint::Cgroup("/x".to_owned()));
        assert_eq!((kill.limit, kill.slab, kill.shmem), (Some(20 << 20), Some((100, 200)), Some(4096)));
        assert_eq!(kill.largest.as_ref().map(|process| process.anon), Some(5000 * 4096));
        assert_eq!(second.killed.pid, 78);
        // Each of the figures on a line of its own.
        let split = text.replace(r"\x0a", "\n");
        assert_eq!(super::events(&lines(&split)).0.len(), 2);
        let KernelEvent::Kill(kill) = &super::events(&lines(&split)).0[0] else { panic!() };
        assert_eq!((kill.slab, kill.shmem), (Some((100, 200)), Some(4096)));
    }

    #[test]
    fn allocations_that_failed() {
        let text = r"kworker/0:1: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), nodemask=(null)
            Mem-Info:
            active_anon:1 inactive_anon:5\x0a free:21 free_pcp:3
            x: vmalloc error: size 4096, page order 0, failed to allocate pages, mode:0xcc0(GFP_KERNEL), nodemask=(null)";
        let (found, _) = events(&lines(text));
        let [first, second] = found.as_slice() else { panic!("{found:?}") };
        let expected = KernelEvent::Failure {
            at: Duration::ZERO,
            comm: "kworker/0:1".to_owned(),
            order: Some(4),
            mode: "GFP_KERNEL|__GFP_COMP".to_owned(),
            free: Some(21 * 4096),
        };
        assert_eq!(*first, expected);
        assert!(matches!(second, KernelEvent::Failure { order: None, free: None, .. }));
    }

    #[test]
    fn what_is_damaged_is_left_out_and_the_number_is_bounded() {
        let damaged = "Out of memory: Killed process x (y) total-vm:1kB\nOut of memory: Killed process 5\n[ 1] 2 3\n[\n";
        assert_eq!(events(&lines(damaged)).0, []);
        let many = format!("{MACHINE}\n").repeat(MAX_EVENTS + 3);
        let (found, left_out) = events(&lines(&many));
        assert_eq!((found.len(), left_out), (MAX_EVENTS, 3));
    }
}
