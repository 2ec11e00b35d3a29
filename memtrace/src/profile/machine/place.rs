//! Where memory is: parts that do not overlap, and places in them that have names.

/// Parts of the machine's memory that do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartKind {
    /// Anonymous memory of processes.
    Anonymous,
    /// Shared memory and tmpfs.
    Shmem,
    /// Pages of files, buffers of block devices and what is in the swap cache.
    PageCache,
    /// Slabs that the kernel gives back under pressure.
    SlabReclaimable,
    /// Slabs that it does not give back.
    SlabUnreclaimable,
    /// Page tables, of virtual machines too.
    PageTables,
    /// Stacks of threads in the kernel.
    KernelStacks,
    /// Other areas of virtually contiguous memory.
    Vmalloc,
    /// Per-CPU memory.
    Percpu,
    /// The pool of huge pages, used or not.
    HugePages,
    /// Compressed memory of zram and zswap.
    Compressed,
    /// What a balloon gave to the host.
    Balloon,
    /// Free pages, and those that wait on lists of CPUs.
    Free,
    /// What nothing counts: pages that drivers, pipes and sockets took.
    Unaccounted,
}

impl PartKind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Anonymous,
        Self::Shmem,
        Self::PageCache,
        Self::SlabReclaimable,
        Self::SlabUnreclaimable,
        Self::PageTables,
        Self::KernelStacks,
        Self::Vmalloc,
        Self::Percpu,
        Self::HugePages,
        Self::Compressed,
        Self::Balloon,
        Self::Unaccounted,
        Self::Free,
    ];

    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Shmem => "shmem",
            Self::PageCache => "page_cache",
            Self::SlabReclaimable => "slab_reclaimable",
            Self::SlabUnreclaimable => "slab_unreclaimable",
            Self::PageTables => "page_tables",
            Self::KernelStacks => "kernel_stacks",
            Self::Vmalloc => "vmalloc",
            Self::Percpu => "percpu",
            Self::HugePages => "huge_pages",
            Self::Compressed => "compressed",
            Self::Balloon => "balloon",
            Self::Free => "free",
            Self::Unaccounted => "unaccounted",
        }
    }
}

/// A part and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub kind: PartKind,
    /// Bytes.
    pub bytes: u64,
}

/// A process by name. Two of them are the same process only if they started at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// Its command name, at most 64 bytes, as the target chose it.
    pub comm: String,
}

/// What holds memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Anonymous memory of a process.
    Process(Owner),
    /// Shared memory that a process maps and that has no other name here.
    SharedBy(Owner),
    /// Page tables of a process.
    PageTablesOf(Owner),
    /// Files in a tmpfs that have names there.
    Tmpfs(String),
    /// A deleted file in a tmpfs that a process has open.
    Deleted(Owner, String),
    /// A memfd that a process has open, by its name.
    Memfd(Owner, String),
    /// Segments of System V shared memory by who made them, and whether no process has attached them.
    Segments(Owner, bool),
    /// A slab cache, and whether the kernel gives its memory back.
    Slab(String, bool),
    /// vmalloc by caller.
    Vmalloc(String),
    /// BPF maps that a process has open.
    BpfMaps(Owner),
    /// What inotify watches of a process take: marks, and the inodes that they pin.
    Watches(Owner),
    /// What is unread in pipes that a process has open.
    Pipes(Owner),
    /// What is unread in sockets of a process.
    Sockets(Owner),
    /// What is queued in TCP and UDP sockets of the machine.
    AllSockets,
    /// Huge pages of the pool that a process maps.
    HugePages(Owner),
    /// Huge pages of the pool that are free: nothing else can use them.
    HugeFree,
    /// A device of zram, by its name.
    Zram(String),
    /// What of a process is swapped out. It is in no part.
    Swapped(Owner),
    /// Swap that no process here has.
    SwapRest,
    /// The rest of a part.
    Rest(PartKind),
}

impl Place {
    /// Its name in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::SharedBy(_) => "process_shmem",
            Self::PageTablesOf(_) => "process_page_tables",
            Self::Tmpfs(_) => "tmpfs",
            Self::Deleted(..) => "deleted_file",
            Self::Memfd(..) => "memfd",
            Self::Segments(..) => "sysv_segments",
            Self::Slab(..) => "slab_cache",
            Self::Vmalloc(_) => "vmalloc",
            Self::BpfMaps(_) => "bpf_maps",
            Self::Watches(_) => "inotify_watches",
            Self::Pipes(_) => "pipes",
            Self::Sockets(_) => "sockets",
            Self::AllSockets => "all_sockets",
            Self::HugePages(_) => "process_huge_pages",
            Self::HugeFree => "huge_pages_free",
            Self::Zram(_) => "zram",
            Self::Swapped(_) => "process_swap",
            Self::SwapRest => "swap",
            Self::Rest(kind) => kind.name(),
        }
    }

    /// The process that holds it.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Process(owner)
            | Self::SharedBy(owner)
            | Self::PageTablesOf(owner)
            | Self::Deleted(owner, _)
            | Self::Memfd(owner, _)
            | Self::Segments(owner, _)
            | Self::BpfMaps(owner)
            | Self::Watches(owner)
            | Self::Pipes(owner)
            | Self::Sockets(owner)
            | Self::HugePages(owner)
            | Self::Swapped(owner) => Some(owner),
            _ => None,
        }
    }

    /// What else names it: a mount point, a path, a cache, a caller, a device.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Tmpfs(text)
            | Self::Deleted(_, text)
            | Self::Memfd(_, text)
            | Self::Slab(text, _)
            | Self::Vmalloc(text)
            | Self::Zram(text) => Some(text),
            _ => None,
        }
    }

    /// The part that its memory is in; `None` of swap. Of sockets, BPF maps and watches some is in others.
    #[must_use]
    pub fn part(&self) -> Option<PartKind> {
        Some(match self {
            Self::Process(_) => PartKind::Anonymous,
            Self::SharedBy(_) | Self::Tmpfs(_) | Self::Deleted(..) | Self::Memfd(..) | Self::Segments(..) => {
                PartKind::Shmem
            }
            Self::PageTablesOf(_) => PartKind::PageTables,
            Self::Slab(_, true) | Self::Watches(_) => PartKind::SlabReclaimable,
            Self::Slab(_, false) => PartKind::SlabUnreclaimable,
            Self::Vmalloc(_) | Self::BpfMaps(_) => PartKind::Vmalloc,
            Self::Pipes(_) | Self::Sockets(_) | Self::AllSockets => PartKind::Unaccounted,
            Self::HugePages(_) | Self::HugeFree => PartKind::HugePages,
            Self::Zram(_) => PartKind::Compressed,
            Self::Swapped(_) | Self::SwapRest => return None,
            Self::Rest(kind) => *kind,
        })
    }

    /// Whether it is memory that the kernel does not give back by itself.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.part().is_some() && !matches!(self, Self::Slab(_, true))
    }
}

/// Memory in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Where.
    pub place: Place,
    /// Bytes in memory.
    pub bytes: u64,
    /// Of how many: files, segments, objects, areas, pipes, watches, pages.
    pub count: u64,
}
