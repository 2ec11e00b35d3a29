//! A tree of files instead of /proc and /sys.

use std::{fs, path::Path};

use super::{Roots, read};
use crate::profile::machine::{BoundKind, Missing, PartKind, Place};

fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn add_process(root: &Path, pid: u32, comm: &[u8], anon: u64) {
    let rest = format!("S 1 1 1 0 -1 4194560 95 0 0 0 1 2 3 4 20 0 2 0 {pid} 8192 33 0");
    let stat = [format!("{pid} (").as_bytes(), comm, b") ", rest.as_bytes()].concat();
    write(root, &format!("{pid}/stat"), stat);
    write(
        root,
        &format!("{pid}/status"),
        format!(
            "Name:\tx\nVmPTE:\t 8 kB\nVmSwap:\t 3 kB\nHugetlbPages:\t 4096 kB\nRssAnon:\t{anon} kB\nRssFile:\t 5 kB\nRssShmem:\t 0 kB\n"
        ),
    );
    write(root, &format!("{pid}/oom_score"), "666\n");
    write(root, &format!("{pid}/oom_score_adj"), "-5\n");
}

fn machine() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(
        root,
        "meminfo",
        "MemTotal: 10000 kB\nMemFree: 4000 kB\nMemAvailable: 6000 kB\nCached: 1000 kB\nAnonPages: 3000 kB\nShmem: 100 kB\n",
    );
    add_process(root, 10, b"a) R\n\x1b[2J\xff", 100);
    add_process(root, 11, b"shares", 100);
    write(root, "11/smaps_rollup", "Pss_Anon: 40 kB\nPss_File: 2 kB\nPss_Shmem: 1 kB\nSwapPss: 1 kB\n");
    // Died while it was read.
    write(root, "12/stat", "12 (dies) S 1 1 1 0 -1 4194560 95 0 0 0 1 2 3 4 20 0 2 0 5 8192 33 0");
    write(root, "13/stat", [0xff; 100]);
    write(root, "not-a-process/stat", "");
    directory
}

fn roots(directory: &Path) -> Roots {
    Roots { proc: directory.into(), sys: directory.join("sys") }
}

#[test]
fn a_machine_with_little_to_read() {
    let directory = machine();
    let snapshot = read(&roots(directory.path())).unwrap();
    assert_eq!((snapshot.total, snapshot.available), (10_000 << 10, 6000 << 10));
    assert_eq!(snapshot.part(PartKind::Anonymous), 3000 << 10);
    assert_eq!(snapshot.parts.iter().map(|part| part.bytes).sum::<u64>(), snapshot.total);
    let processes = snapshot.processes;
    let [first, second] = processes.as_slice() else { panic!("{processes:?}") };
    assert_eq!(
        (first.owner.comm.as_str(), first.is_share, first.anon),
        ("a) R\n\u{1b}[2J\u{fffd}", false, 100 << 10)
    );
    assert_eq!((second.is_share, second.anon, second.rss, second.swap), (true, 40 << 10, 105 << 10, 1 << 10));
    assert_eq!((second.swap_whole, second.huge), (3 << 10, 4 << 20));
    assert_eq!((first.oom_score, first.oom_adjust, first.page_tables), (666, -5, 8 << 10));
    for missing in [Missing::Shares(1), Missing::Slabs, Missing::Vmalloc, Missing::Segments, Missing::Cgroups]
    {
        assert!(snapshot.missing.contains(&missing), "{missing:?}: {:?}", snapshot.missing);
    }
}

#[test]
fn what_holds_memory_is_named() {
    let directory = machine();
    let root = directory.path();
    let caches =
        "slabinfo - version: 2.1\n# name\ndentry 900 1000 192 21 1 : tunables 0 0 0\nsmall 1 1 8 512 1 : t\n";
    write(root, "slabinfo", caches.replace("1000 192 21 1", "4200 192 21 1"));
    write(root, "sys/kernel/slab/dentry/reclaim_account", "1\n");
    write(
        root,
        "vmallocinfo",
        "0-1 20480 kernel_clone+0x1/0x2 pages=4 vmalloc\n0-1 8192 f+0x1/0x2 pages=1 vmalloc\n",
    );
    write(root, "sysvipc/shm", "key\n0 1 600 9999 11 6 0 0 0 0 0 1 1 1 4096 0\n");
    write(root, "net/sockstat", "TCP: inuse 2 orphan 0 tw 0 alloc 3 mem 250\nUDP: inuse 0 mem 6\n");
    write(root, "sys/net/ipv4/tcp_mem", "1\t2\t1000\n");
    write(root, "sys/block/zram0/mm_stat", "100 40 81920 0 81920 0 0 0 0\n");
    write(root, "sys/block/zram1/mm_stat", "0 0 0 0 0 0 0 0 0\n");
    for (size, free, reserved) in [(2048, 3, 1), (1_048_576, 1, 0)] {
        let pool = format!("sys/kernel/mm/hugepages/hugepages-{size}kB");
        write(root, &format!("{pool}/free_hugepages"), free.to_string());
        write(root, &format!("{pool}/resv_hugepages"), reserved.to_string());
    }
    let snapshot = read(&roots(root)).unwrap();
    let of = |place: &Place| snapshot.holdings.iter().find(|holding| holding.place == *place).unwrap();
    assert_eq!(of(&Place::Slab("dentry".to_owned(), true)).bytes, 200 * 4096);
    assert_eq!(of(&Place::Vmalloc("f".to_owned())).bytes, 4096);
    assert_eq!(of(&Place::AllSockets).bytes, 256 * 4096);
    assert_eq!(of(&Place::Zram("zram0".to_owned())).bytes, 81_920);
    assert_eq!(of(&Place::HugeFree).bytes, (6 << 20) + (1 << 30));
    assert_eq!((snapshot.huge_free, snapshot.huge_reserved), ((6 << 20) + (1 << 30), 2 << 20));
    assert_eq!(snapshot.holdings.len(), 6, "{:?}", snapshot.holdings);
    let tcp = snapshot.bounds.iter().find(|bound| bound.kind == BoundKind::Tcp).unwrap();
    assert_eq!((tcp.bytes, tcp.used), (1000 * 4096, 250 * 4096));
}

#[test]
fn without_a_total_there_is_nothing_to_say() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "meminfo", "MemFree: 1 kB\n");
    assert!(read(&roots(directory.path())).is_err());
}
