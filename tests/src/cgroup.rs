//! Cgroups made for a test.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Cgroups with a limit that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A cgroup of version 2 that is gone with the value, if it is empty then.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one; `None` where there is no such file system to write to.
    ///
    /// # Panics
    /// If what is mounted cannot be read.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let is_cgroup2 = |line: &&str| line.contains(" - cgroup2 ");
        let root = mounts.lines().find(is_cgroup2)?.split(' ').nth(4)?;
        let path = PathBuf::from(root).join(format!("memtrace-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    /// Makes one of that name, of either version; `None` where there is no hierarchy to write to.
    ///
    /// # Panics
    /// If what is mounted cannot be read.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        hierarchies().into_iter().find_map(|hierarchy| Self::make(hierarchy.join(name)))
    }

    /// The same for a test that traces, which says what it skips.
    ///
    /// # Panics
    /// As [`Cgroup::with_memory`]; the privilege to trace is missing, and required.
    #[must_use]
    pub fn to_trace_in(bytes: u64) -> Option<Self> {
        if !crate::can_trace() {
            return None;
        }
        let group = Self::with_memory(bytes);
        if group.is_none() {
            crate::remark("skipped: no hierarchy with the memory controller");
        }
        group
    }

    /// Makes one, of either version, whose processes may use this much memory; `None` where there is no such hierarchy to write
    /// to.
    ///
    /// # Panics
    /// If what is mounted cannot be read.
    #[must_use]
    pub fn with_memory(bytes: u64) -> Option<Self> {
        hierarchies().into_iter().find_map(|hierarchy| {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let name = format!("memtrace-limit-{}-{number}", std::process::id());
            let group = Self::make(hierarchy.join(name))?;
            let files = ["memory.limit_in_bytes", "memory.max"];
            let file = files.iter().map(|file| group.0.join(file)).find(|file| file.exists())?;
            fs::write(file, bytes.to_string()).ok()?;
            // Where there is swap, the limit would be far away.
            let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), bytes.to_string());
            let _ = fs::write(group.0.join("memory.swap.max"), "0");
            Some(group)
        })
    }

    /// Its path in the hierarchy, as a process in it has it.
    ///
    /// # Panics
    /// If it has no name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("/{}", self.0.file_name().expect("a name").to_string_lossy())
    }

    fn make(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).ok().map(|()| Self(path))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves a process there.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Where the hierarchies are mounted that may limit memory.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let has_memory = |line: &&str| {
        let first = line.contains(" - cgroup ") && line.rsplit(',').any(|option| option == "memory");
        first || line.contains(" - cgroup2 ")
    };
    mounts.lines().filter(has_memory).filter_map(|line| Some(line.split(' ').nth(4)?.into())).collect()
}
