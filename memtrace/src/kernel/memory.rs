//! What the machine's memory is used for, as the kernel counts it.

use std::path::Path;

use super::machine::file::text;

/// Bytes read of a file: /proc/zoneinfo has about 1 KiB for each CPU and zone, /proc/sysvipc/shm 160 bytes a segment.
const MAX_BYTES: u64 = 4 << 20;

/// Uses of memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Slabs.
    pub slab: u64,
    /// Per-CPU memory.
    pub percpu: u64,
    /// Areas of virtually contiguous memory.
    pub vmalloc: u64,
    /// Page tables, of virtual machines too.
    pub page_tables: u64,
    /// Stacks of the kernel.
    pub stacks: u64,
    /// Shared memory and tmpfs.
    pub shmem: u64,
    /// Pages that nothing else counts: what drivers, sockets and pipes took from the page allocator.
    pub others: u64,
    /// What is queued in TCP and UDP sockets. Some of it is in slabs, some in other pages.
    pub sockets: u64,
    /// Segments of System V shared memory of this IPC namespace.
    pub segments: u64,
    /// Their sizes. What of them is in memory counts as shared memory too.
    pub segment_bytes: u64,
    /// Segments that no process has attached.
    pub segments_unattached: u64,
}

impl Memory {
    /// Reads it now; `None` if /proc/meminfo cannot be read.
    #[must_use]
    pub fn read() -> Option<Self> {
        let mut memory = of_meminfo(&read_some("/proc/meminfo")?)?;
        // Pages that wait on lists of CPUs are used by nobody, and not counted as free.
        let waiting = read_some("/proc/zoneinfo").map_or(0, |text| waiting(&text));
        memory.others = memory.others.saturating_sub(waiting);
        memory.sockets = read_some("/proc/net/sockstat").map_or(0, |text| sockets(&text));
        let segments = read_some("/proc/sysvipc/shm").unwrap_or_default();
        (memory.segments, memory.segment_bytes, memory.segments_unattached) = self::segments(&segments);
        Some(memory)
    }
}

fn of_meminfo(text: &str) -> Option<Memory> {
    let of = |name| super::find(text, name);
    let some = |name| of(name).unwrap_or(0);
    let (slab, percpu, vmalloc) = (some("Slab"), some("Percpu"), some("VmallocUsed"));
    let page_tables = some("PageTables").saturating_add(some("SecPageTables"));
    let stacks = some("KernelStack");
    let known = [
        of("MemFree")?,
        some("Buffers"),
        some("Cached"),
        some("SwapCached"),
        some("AnonPages"),
        some("Hugetlb"),
        slab,
        percpu,
        vmalloc,
        page_tables,
    ];
    // With CONFIG_VMAP_STACK, stacks of the kernel are among the vmalloc areas.
    let others = known.iter().fold(of("MemTotal")?, |left, part| left.saturating_sub(*part));
    Some(Memory {
        slab,
        percpu,
        vmalloc,
        page_tables,
        stacks,
        shmem: some("Shmem"),
        others,
        ..Memory::default()
    })
}

/// Bytes on the lists of CPUs: the lines `count:` in /proc/zoneinfo.
pub(super) fn waiting(text: &str) -> u64 {
    let counts =
        text.lines().filter_map(|line| line.trim_start().strip_prefix("count:")?.trim().parse::<u64>().ok());
    counts.fold(0, u64::saturating_add).saturating_mul(4096)
}

/// Bytes in `TCP: … mem PAGES` and `UDP: … mem PAGES`.
pub(super) fn sockets(text: &str) -> u64 {
    let is_counted = |line: &&str| line.starts_with("TCP:") || line.starts_with("UDP:");
    let pages = text.lines().filter(is_counted).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip_while(|field| *field != "mem");
        fields.nth(1)?.parse::<u64>().ok()
    });
    pages.fold(0, u64::saturating_add).saturating_mul(4096)
}

/// Segments, their bytes, and those that no process has attached. `key shmid perms size cpid lpid nattch …`.
fn segments(text: &str) -> (u64, u64, u64) {
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        let (size, attached) = (fields.next()?.parse::<u64>().ok()?, fields.nth(2)?.parse::<u64>().ok()?);
        Some((size, attached))
    });
    rows.fold((0, 0, 0), |(count, bytes, unattached), (size, attached)| {
        (count + 1, u64::saturating_add(bytes, size), unattached + u64::from(attached == 0))
    })
}

fn read_some(path: &str) -> Option<String> {
    text(Path::new(path), MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{Memory, of_meminfo, segments, sockets, waiting};

    #[test]
    fn what_is_left_is_used_by_others() {
        let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 200 kB\nAnonPages: 300 kB\nShmem: 50 kB\nSlab: 40 kB\n\
                    KernelStack: 4 kB\nPageTables: 5 kB\nSecPageTables: 1 kB\nVmallocUsed: 20 kB\nPercpu: 10 kB\n";
        let expected = Memory {
            slab: 40 << 10,
            percpu: 10 << 10,
            vmalloc: 20 << 10,
            page_tables: 6 << 10,
            stacks: 4 << 10,
            shmem: 50 << 10,
            others: 324 << 10,
            ..Memory::default()
        };
        assert_eq!(of_meminfo(text), Some(expected));
        assert_eq!(of_meminfo("MemFree: 100 kB\n"), None);
    }

    #[test]
    fn lists_sockets_and_segments() {
        let zones = "  pagesets\n    cpu: 0\n              count:    7\n    high: 3\n    cpu: 1\n       count:    5\n";
        assert_eq!(waiting(zones), 12 * 4096);
        let text = "sockets: used 29\nTCP: inuse 2 orphan 0 tw 0 alloc 3 mem 250\nUDP: inuse 0 mem 6\nRAW: inuse 0\n";
        assert_eq!(sockets(text), 256 * 4096);
        let text = "key shmid perms size cpid lpid nattch uid\n 0 1 600 4096 5 6 0 0\n 0 2 600 100 5 6 2 0\ndamaged\n";
        assert_eq!(segments(text), (2, 4196, 1));
    }

    #[test]
    fn this_machine_uses_memory() {
        assert!(Memory::read().is_some_and(|memory| memory.slab > 0 && memory.page_tables > 0));
    }
}
