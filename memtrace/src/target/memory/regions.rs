//! The mappings of a target that may hold pointers.

use std::{io, ops::Range, sync::Arc};

use crate::target::maps::{self, Mapping, Permissions};

/// What a mapping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The main thread's stack, `[stack]`.
    MainStack,
    /// What `brk` made, `[heap]`. After a fork it may be several mappings.
    Heap,
    /// Other private memory without a file: stacks of threads, what `mmap` gave to an allocator, bss.
    Anonymous,
    /// A file, private: of its pages those that the target has modified (data, RELRO, bss) are read.
    FilePrivate,
    /// A file, shared: not read. Pointers in a file mean nothing to its next reader. One without a name has none.
    FileShared,
    /// Shared memory without a file on a disk, or with one that was deleted: anonymous, memfd, /dev/shm, System V, rings of AIO and io_uring.
    SharedMemory,
    /// Any of these, but for `FileShared`, that the target itself may not read at the moment: a secret, or a guard, which has no
    /// pages.
    Hidden,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its addresses.
    pub range: Range<u64>,
    /// Offset of its begin in the file, bytes.
    pub offset: u64,
    /// Device and inode of the file; 0 if there is none.
    pub inode: (u64, u64),
    /// Path as the target sees it, `[stack]`, `[anon:name]`, or empty. The target chooses it.
    pub name: Arc<str>,
    /// Whether the target may write to it.
    pub writable: bool,
    /// Whether other processes see what is written.
    pub shared: bool,
    /// What it is.
    pub kind: Kind,
    /// Whether a mapping without any permission ends where it begins, as the guard of a thread's stack does. From
    /// glibc 2.42 on Linux 6.13 that guard may be within the mapping instead.
    pub follows_guard: bool,
}

impl Region {
    /// Whether it is private memory without a file, as allocators take it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.kind, Kind::Heap | Kind::Anonymous)
    }
}

/// The mappings that may hold pointers, in order of address, of the process of a thread: the readable ones, and those of
/// [`Kind::Hidden`]. Left out are devices and what the kernel maps, such as `[vdso]`. At most 1,048,576 mappings are considered.
///
/// # Errors
/// The thread is gone, or access to /proc is denied.
pub fn regions(thread: u32) -> io::Result<Vec<Region>> {
    let mut regions: Vec<Region> = Vec::new();
    let mut guard_end = None;
    maps::each(thread, |mapping| {
        let follows_guard = guard_end == Some(mapping.start);
        let Permissions { readable, writable, executable, shared } = mapping.permissions;
        guard_end = (!(readable || writable || executable)).then_some(mapping.end);
        // Mappings of one file follow each other: they share its name.
        let known = regions.last().map(|region| &region.name).filter(|name| ***name == *mapping.name);
        let name = known.map(Arc::clone);
        let kind = match kind(&mapping) {
            Some(kind) if !readable && kind != Kind::FileShared => Some(Kind::Hidden),
            kind => kind.filter(|_| readable),
        };
        if let Some(kind) = kind.filter(|_| mapping.start < mapping.end) {
            regions.push(Region {
                range: mapping.start..mapping.end,
                offset: mapping.offset,
                inode: mapping.inode,
                name: name.unwrap_or_else(|| mapping.name.into()),
                writable,
                shared,
                kind,
                follows_guard,
            });
        }
    })?;
    Ok(regions)
}

/// `None`: a device, or special. The names are those of `show_map_vma` (fs/proc/task_mmu.c).
fn kind(mapping: &Mapping) -> Option<Kind> {
    let shared = mapping.permissions.shared;
    let name = mapping.name.as_str();
    let is_any = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match name {
        "[stack]" => Some(Kind::MainStack),
        "[heap]" => Some(Kind::Heap),
        // `MAP_ANONYMOUS | MAP_HUGETLB` makes a file (mm/hugetlb.c).
        _ if name.is_empty() || is_any(&["[anon:", "[anon_shmem:", "/anon_hugepage"]) => {
            Some(if shared { Kind::SharedMemory } else { Kind::Anonymous })
        }
        // `/dev/zero` is shared anonymous memory, or that file itself, which is the same.
        _ if is_any(&[
            "/memfd:",
            "/dev/zero",
            "/dev/shm/",
            "/dev/hugepages/",
            "/SYSV",
            "/[aio]",
            "anon_inode:[io_uring]",
        ]) =>
        {
            Some(if shared { Kind::SharedMemory } else { Kind::FilePrivate })
        }
        _ if !name.starts_with('/') || is_any(&["/dev/", "/dmabuf:"]) => None,
        _ if shared && name.ends_with(" (deleted)") => Some(Kind::SharedMemory),
        _ => Some(if shared { Kind::FileShared } else { Kind::FilePrivate }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mapping, Permissions, kind};

    #[test]
    fn kinds_by_name() {
        let of = |name: &str, shared| {
            let permissions = Permissions { readable: true, writable: true, executable: false, shared };
            kind(&Mapping {
                start: 0,
                end: 4096,
                offset: 0,
                inode: (0, 0),
                name: name.to_owned(),
                permissions,
            })
        };
        for (name, private, shared) in [
            ("", Some(Kind::Anonymous), Some(Kind::SharedMemory)),
            ("[anon:glibc: malloc]", Some(Kind::Anonymous), Some(Kind::SharedMemory)),
            ("/anon_hugepage (deleted)", Some(Kind::Anonymous), Some(Kind::SharedMemory)),
            ("[heap]", Some(Kind::Heap), Some(Kind::Heap)),
            ("[stack]", Some(Kind::MainStack), Some(Kind::MainStack)),
            ("/lib/libc.so.6", Some(Kind::FilePrivate), Some(Kind::FileShared)),
            ("/tmp/x (deleted)", Some(Kind::FilePrivate), Some(Kind::SharedMemory)),
            ("/dev/zero (deleted)", Some(Kind::FilePrivate), Some(Kind::SharedMemory)),
            ("/memfd:x (deleted)", Some(Kind::FilePrivate), Some(Kind::SharedMemory)),
            ("/dev/shm/x", Some(Kind::FilePrivate), Some(Kind::SharedMemory)),
            ("/SYSV00000000 (deleted)", Some(Kind::FilePrivate), Some(Kind::SharedMemory)),
            ("anon_inode:[io_uring]", Some(Kind::FilePrivate), Some(Kind::SharedMemory)),
            ("anon_inode:[perf_event]", None, None),
            ("/dev/nvidia0", None, None),
            ("socket:[1234]", None, None),
            ("[vvar]", None, None),
            ("[vdso]", None, None),
            ("[vsyscall]", None, None),
            ("[uprobes]", None, None),
        ] {
            assert_eq!((of(name, false), of(name, true)), (private, shared), "{name}");
        }
    }
}
