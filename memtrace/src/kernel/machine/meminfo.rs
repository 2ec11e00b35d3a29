//! The parts of the machine's memory.

use std::fs;

use super::{
    super::{find, memory},
    file::{Roots, number, text},
};
use crate::profile::machine::{Bound, BoundKind, Holding, Part, PartKind, Place, Snapshot};

/// Bytes read of a file: /proc/zoneinfo has about 1 KiB for each CPU and zone.
const MAX_BYTES: u64 = 4 << 20;
/// Devices of zram that are read. A system has a few.
const MAX_DEVICES: usize = 64;
/// Bytes of a page, as the kernel counts on the processors that memtrace runs on.
const PAGE: u64 = 4096;

/// Reads parts, swap, pools and the limits of the whole machine; `None` if /proc/meminfo cannot be read.
pub(super) fn read(roots: &Roots, snapshot: &mut Snapshot) -> Option<()> {
    let meminfo = roots.proc("meminfo", MAX_BYTES)?;
    let zones = roots.proc("zoneinfo", MAX_BYTES).unwrap_or_default();
    let vmstat = roots.proc("vmstat", MAX_BYTES).unwrap_or_default();
    snapshot.total = find(&meminfo, "MemTotal")?;
    let some = |name| find(&meminfo, name).unwrap_or(0);
    snapshot.available = some("MemAvailable");
    snapshot.swap = (some("SwapTotal"), some("SwapTotal").saturating_sub(some("SwapFree")));
    let of_default = |name| count(&meminfo, name).saturating_mul(some("Hugepagesize"));
    (snapshot.huge_free, snapshot.huge_reserved) =
        pools(roots).unwrap_or_else(|| (of_default("HugePages_Free"), of_default("HugePages_Rsvd")));
    let devices = zram(roots);
    let in_devices = devices.iter().fold(0, |sum: u64, device| sum.saturating_add(device.bytes));
    let compressed = zspages(&vmstat).unwrap_or_else(|| in_devices.saturating_add(some("Zswap")));
    snapshot.holdings = devices;
    if snapshot.huge_free > 0 {
        snapshot.holdings.push(Holding { place: Place::HugeFree, bytes: snapshot.huge_free, count: 1 });
    }
    snapshot.parts = parts(&meminfo, memory::waiting(&zones), compressed, snapshot.total);
    let machine = snapshot.total.saturating_add(snapshot.swap.0);
    let used = snapshot.total.saturating_sub(snapshot.available).saturating_add(snapshot.swap.1);
    snapshot.bounds.push(Bound { kind: BoundKind::Machine, bytes: machine, used });
    Some(())
}

/// The parts by /proc/meminfo. `waiting`: free pages on lists of CPUs.
fn parts(meminfo: &str, waiting: u64, compressed: u64, total: u64) -> Vec<Part> {
    let of = |name| find(meminfo, name).unwrap_or(0);
    let cached = of("Cached").saturating_add(of("Buffers")).saturating_add(of("SwapCached"));
    let stacks = of("KernelStack");
    let mut parts: Vec<Part> = PartKind::ALL
        .into_iter()
        .map(|kind| {
            let bytes = match kind {
                PartKind::Anonymous => of("AnonPages"),
                PartKind::Shmem => of("Shmem"),
                // Page cache includes shared memory.
                PartKind::PageCache => cached.saturating_sub(of("Shmem")),
                PartKind::SlabReclaimable => of("SReclaimable"),
                PartKind::SlabUnreclaimable => of("SUnreclaim"),
                PartKind::PageTables => of("PageTables").saturating_add(of("SecPageTables")),
                PartKind::KernelStacks => stacks,
                // With CONFIG_VMAP_STACK, which both architectures have by default, stacks are among the areas.
                PartKind::Vmalloc => of("VmallocUsed").saturating_sub(stacks),
                PartKind::Percpu => of("Percpu"),
                PartKind::HugePages => of("Hugetlb"),
                PartKind::Compressed => compressed,
                PartKind::Balloon => of("Balloon"),
                PartKind::Free => of("MemFree").saturating_add(waiting),
                PartKind::Unaccounted => 0,
            };
            Part { kind, bytes }
        })
        .collect();
    let known = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes));
    if let Some(rest) = parts.iter_mut().find(|part| part.kind == PartKind::Unaccounted) {
        rest.bytes = total.saturating_sub(known);
    }
    parts
}

/// What is queued in sockets, and its limit.
pub(super) fn sockets(roots: &Roots) -> (u64, Option<Bound>) {
    let text = roots.proc("net/sockstat", MAX_BYTES).unwrap_or_default();
    let limits = roots.proc("sys/net/ipv4/tcp_mem", 256).unwrap_or_default();
    let most = limits.split_ascii_whitespace().nth(2).and_then(|pages| pages.parse::<u64>().ok());
    let tcp: String = text.lines().filter(|line| line.starts_with("TCP:")).collect();
    let used = memory::sockets(&tcp);
    let bound = most.map(|pages| Bound { kind: BoundKind::Tcp, bytes: pages.saturating_mul(PAGE), used });
    (memory::sockets(&text), bound)
}

/// A line of /proc/meminfo without a unit.
fn count(meminfo: &str, name: &str) -> u64 {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    rest.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// Bytes of the allocator below zram and zswap.
fn zspages(vmstat: &str) -> Option<u64> {
    let pages = vmstat.lines().find_map(|line| line.strip_prefix("nr_zspages ")?.trim().parse::<u64>().ok());
    pages.map(|pages| pages.saturating_mul(PAGE))
}

/// Devices of zram that hold something, and what they take: the third number of `mm_stat`
/// (Documentation/admin-guide/blockdev/zram.rst).
fn zram(roots: &Roots) -> Vec<Holding> {
    let entries = fs::read_dir(roots.sys.join("block")).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let devices = named.filter(|(name, _)| name.starts_with("zram")).take(MAX_DEVICES);
    let used = devices.filter_map(|(name, path)| {
        let text = text(&path.join("mm_stat"), 1024)?;
        let bytes = text.split_ascii_whitespace().nth(2)?.parse::<u64>().ok().filter(|bytes| *bytes > 0)?;
        Some(Holding { place: Place::Zram(name), bytes, count: 1 })
    });
    used.collect()
}

/// Bytes of huge pages that are free, and of these that are reserved, of every size; `None` where the kernel has none
/// (Documentation/admin-guide/mm/hugetlbpage.rst).
fn pools(roots: &Roots) -> Option<(u64, u64)> {
    let entries = fs::read_dir(roots.sys.join("kernel/mm/hugepages")).ok()?.filter_map(Result::ok);
    let sizes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let each = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
        let bytes = |file| {
            let pages = number(&entry.path().join(file)).unwrap_or(0);
            pages.saturating_mul(each).saturating_mul(1024)
        };
        Some((bytes("free_hugepages"), bytes("resv_hugepages")))
    });
    Some(sizes.fold((0, 0), |(free, reserved), of| {
        (u64::saturating_add(free, of.0), u64::saturating_add(reserved, of.1))
    }))
}

/// Whether a slab cache gives its memory back under pressure.
pub(super) fn is_reclaimable(roots: &Roots, cache: &str) -> bool {
    // Names of caches are those of directories there.
    !cache.contains('/')
        && number(&roots.sys.join("kernel/slab").join(cache).join("reclaim_account")) == Some(1)
}

#[cfg(test)]
mod tests {
    use super::{parts, zspages};
    use crate::profile::machine::PartKind;

    const MEMINFO: &str = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 10 kB\nCached: 200 kB\nSwapCached: 1 kB\n\
        AnonPages: 300 kB\nShmem: 50 kB\nSlab: 40 kB\nSReclaimable: 30 kB\nSUnreclaim: 10 kB\nKernelStack: 4 kB\n\
        PageTables: 5 kB\nSecPageTables: 1 kB\nVmallocUsed: 20 kB\nPercpu: 10 kB\nHugetlb: 2 kB\n";

    #[test]
    fn parts_add_up() {
        let parts = parts(MEMINFO, 8 << 10, 3 << 10, 1000 << 10);
        let of = |kind| parts.iter().find(|part| part.kind == kind).unwrap().bytes >> 10;
        assert_eq!(of(PartKind::PageCache), 161);
        assert_eq!((of(PartKind::Vmalloc), of(PartKind::KernelStacks)), (16, 4));
        assert_eq!((of(PartKind::Free), of(PartKind::Compressed), of(PartKind::HugePages)), (108, 3, 2));
        assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), 1000 << 10);
        assert_eq!(of(PartKind::Unaccounted), 300);
    }

    #[test]
    fn pages_of_zsmalloc() {
        assert_eq!(zspages("nr_free_pages 1\nnr_zspages 3\n"), Some(3 * 4096));
        assert_eq!(zspages("nr_free_pages 1\n"), None);
    }
}
