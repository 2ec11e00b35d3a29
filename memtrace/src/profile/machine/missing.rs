//! What could not be read of a machine.

/// Why something is not in the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Shared pages of that many processes are counted whole.
    Shares(u64),
    /// Descriptors of that many processes: memfds, deleted files, BPF maps, pipes.
    Descriptors(u64),
    /// More processes than are read; how many were left out.
    Processes(u64),
    /// Slab caches by name.
    Slabs,
    /// vmalloc by caller.
    Vmalloc,
    /// The kernel's log.
    Log,
    /// Cgroups.
    Cgroups,
    /// System V segments.
    Segments,
    /// inotify watches beyond so many, of all processes together.
    Watches(u64),
    /// Processes outside this PID namespace.
    Namespace,
    /// A tmpfs behind a network file system is not asked for its size.
    Mount(String),
}

impl Missing {
    /// Its name in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shares(_) => "process_shares",
            Self::Descriptors(_) => "descriptors",
            Self::Processes(_) => "processes",
            Self::Slabs => "slab_caches",
            Self::Vmalloc => "vmalloc_callers",
            Self::Log => "kernel_log",
            Self::Cgroups => "cgroups",
            Self::Segments => "sysv_segments",
            Self::Watches(_) => "inotify_watches",
            Self::Namespace => "pid_namespace",
            Self::Mount(_) => "mount",
        }
    }
}
