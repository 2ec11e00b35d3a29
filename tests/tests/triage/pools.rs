//! Places that a test has to make room for first: what it changes is as before when it ends, also if it fails.

use std::{
    fs,
    path::{Path, PathBuf},
};

use memtrace_tests::{Place, can_trace, proc, remark};

use crate::filled::{OFF, SIZE, alone, assert_first, assert_next, filled, of};

/// A file of /proc or /sys with a number, which is as before when the value is gone.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    /// Adds so much to it; `None` if the machine does not allow that, or as much.
    fn raised(path: &'static str, by: u64) -> Option<Self> {
        let number = || fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let before = number()?;
        let setting = Self { path, before: before.to_string() };
        fs::write(path, (before + by).to_string()).ok()?;
        (number()? == before + by).then_some(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.before);
    }
}

/// The pool of the default size: 2 MiB on the machines that suites run on.
const POOL: &str = "/proc/sys/vm/nr_hugepages";
const EACH: u64 = 2 << 20;

/// Whether huge pages are of the expected size, and as many as are wanted can be had.
fn pool(pages: u64) -> Option<Setting> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let is_usual = meminfo.lines().any(|line| {
        line.strip_prefix("Hugepagesize:").is_some_and(|size| size.trim() == format!("{} kB", EACH >> 10))
    });
    let setting = is_usual.then(|| Setting::raised(POOL, pages)).flatten();
    if setting.is_none() {
        remark("skipped: no pool of huge pages can be made here");
    }
    setting
}

#[test]
fn huge_pages_that_a_process_maps() {
    let _alone = alone();
    if !can_trace() {
        return;
    }
    let Some(_pool) = pool(SIZE / EACH) else { return };
    let filled = filled("huge_pages", "", of("process_huge_pages"));
    let place = assert_first(&filled, SIZE, OFF, of("process_huge_pages"));
    assert_eq!(place.bytes, SIZE);
    assert_next(&filled, &format!("memtrace attach {}", filled.pid));
}

#[test]
fn huge_pages_that_nobody_uses() {
    let _alone = alone();
    if !can_trace() {
        return;
    }
    // As before in the end.
    let Some(pool) = pool(0) else { return };
    let pages: u64 = pool.before.parse().expect("a number");
    let is_it = |place: &Place, _| place.place == "huge_pages_free";
    let command = format!("echo {} > {POOL}", pages + SIZE / EACH);
    let filled = filled("command", &command, is_it);
    assert_first(&filled, SIZE, OFF, is_it);
    assert_next(&filled, "grep . /sys/kernel/mm/hugepages/*/*_hugepages");
}

/// A file that is swapped to.
struct Swap {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Swap {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("swap");
        // Without holes.
        fs::write(&path, vec![0; 3 * SIZE as usize]).expect("a file");
        let swap = Self { path, _directory: directory };
        let is_on = Path::new("/proc/swaps").exists()
            && run("mkswap", &swap.path)
            // Before any other.
            && run("swapon --priority 32767", &swap.path);
        is_on.then_some(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        run("swapoff", &self.path);
    }
}

/// Whether a command succeeds with a path behind it.
fn run(command: &str, path: &Path) -> bool {
    let script = format!("{command} \"$0\" > /dev/null 2>&1");
    std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(path)
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn memory_that_is_swapped_out() {
    let _alone = alone();
    if !can_trace() {
        return;
    }
    let Some(_swap) = Swap::new() else {
        remark("skipped: a file cannot be swapped to here");
        return;
    };
    let filled = filled("swapped", "", of("process_swap"));
    let swapped = proc::status(filled.pid, "VmSwap").expect("what is swapped out");
    let kib: u64 = swapped.trim_end_matches(" kB").parse().expect("a number");
    assert!(kib << 10 > SIZE - OFF, "{swapped}");
    let place = assert_first(&filled, SIZE, OFF, of("process_swap"));
    assert!(place.bytes.abs_diff(kib << 10) <= OFF, "{place:?}: {swapped}");
    assert_next(&filled, &format!("memtrace attach {}", filled.pid));
}

/// A device of zram.
struct Zram(String);

impl Zram {
    /// Where what a device holds is compressed in memory.
    const CONTROL: &str = "/sys/class/zram-control";

    fn new() -> Option<Self> {
        let number = fs::read_to_string(Path::new(Self::CONTROL).join("hot_add")).ok()?;
        let zram = Self(number.trim().to_owned());
        fs::write(zram.file("disksize"), (4 * SIZE).to_string()).ok()?;
        Path::new(&format!("/dev/zram{}", zram.0)).exists().then_some(zram)
    }

    fn file(&self, name: &str) -> PathBuf {
        format!("/sys/block/zram{}/{name}", self.0).into()
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        let _ = fs::write(self.file("reset"), "1");
        let _ = fs::write(Path::new(Self::CONTROL).join("hot_remove"), &self.0);
    }
}

#[test]
fn memory_that_is_compressed() {
    let _alone = alone();
    if !can_trace() {
        return;
    }
    let Some(zram) = Zram::new() else {
        remark("skipped: no device of zram can be made here");
        return;
    };
    let name = format!("zram{}", zram.0);
    let is_it = |place: &Place, _| place.place == "zram" && place.name.as_ref() == Some(&name);
    // What does not get smaller, past the page cache.
    let command =
        format!("dd if=/dev/urandom of=/dev/{name} bs=1M count={} oflag=direct status=none", SIZE >> 20);
    let filled = filled("command", &command, is_it);
    let figures = fs::read_to_string(zram.file("mm_stat")).expect("figures");
    let used: u64 = figures.split_whitespace().nth(2).and_then(|used| used.parse().ok()).expect("a number");
    assert!(used >= SIZE, "{figures}");
    let place = assert_first(&filled, used, OFF, is_it);
    assert_eq!(place.bytes, used);
    assert_next(&filled, "zramctl");
}

#[test]
fn inotify_watches() {
    let _alone = alone();
    if !can_trace() {
        return;
    }
    let Some(_setting) = Setting::raised("/proc/sys/fs/inotify/max_user_watches", 20_000) else {
        remark("skipped: the number of inotify watches cannot be raised here");
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let filled = filled("watches", directory.path().to_str().expect("text"), of("inotify_watches"));
    // Inodes of new files are new objects in their cache, whichever that is.
    let caches = ["ext4_inode_cache", "xfs_inode", "btrfs_inode", "shmem_inode_cache", "ovl_inode"];
    let inodes: u64 = caches.iter().map(|cache| filled.slab_bytes(cache)).sum();
    let slab = |cache: &str| -> u64 {
        let path = format!("/sys/kernel/slab/{cache}/slab_size");
        fs::read_to_string(path).expect("a size").trim().parse().expect("a number")
    };
    let marks = filled.number * (slab("inotify_inode_mark") + slab("fsnotify_mark_connector"));
    assert!(inodes > SIZE / 4, "{inodes}");
    let place = assert_first(&filled, inodes + marks, OFF, of("inotify_watches"));
    assert_eq!(place.count, filled.number);
    assert_next(&filled, &format!("grep -c ^inotify /proc/{}/fdinfo/* | grep -v ':0$'", filled.pid));
}
