//! The map that a runtime writes of the code it generates: `/tmp/perf-PID.map` (Linux, tools/perf/Documentation/jit-interface.txt),
//! or `jit-PID.dump`, of which it maps a page as code to say where it is (jitdump-specification.txt there).
//!
//! The file is the target's: it is looked for in the target's root, by the pid that the target has in its own namespace, and
//! only counts if the target's user or root owns it. No link is followed, and it is parsed where debug files are.

use std::{
    cell::OnceCell,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{files::own_path, maps, threads};
use crate::elf::{CodeFile, FileId};

/// The largest map that is read: about a million functions. A dump has their code too, which is passed over.
const MOST: u64 = 64 << 20;
const MOST_OF_DUMP: u64 = 1 << 30;

/// Code that a process generates, and where its map may be.
#[derive(Debug)]
pub struct Generated {
    pid: u32,
    /// Different for each: two processes, or two programs of a process, have different code at the same address.
    number: u64,
    known: Mutex<Option<CodeFile>>,
}

impl Generated {
    /// The generated code of the program that process `pid` runs now.
    pub(super) fn new(pid: u32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { pid, number: NEXT.fetch_add(1, Ordering::Relaxed), known: Mutex::default() }
    }

    /// What tells it from all other generated code.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The map as it is now; `None` if there is none that counts. A process that is gone leaves what was known.
    #[must_use]
    pub fn map(&self) -> Option<CodeFile> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(self.pid) {
            *known = self.newer(known.take(), found);
        }
        known.clone()
    }

    fn newer(&self, known: Option<CodeFile>, (name, found): (String, File)) -> Option<CodeFile> {
        let Some(id) = found.metadata().ok().map(|metadata| FileId::new(&metadata)) else { return known };
        if known.as_ref().is_some_and(|known| known.id.0 == id) {
            return known;
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(own_path(&found))
            .map(Arc::new);
        let revision =
            known.as_ref().and_then(|known| known.generated).map_or(0, |(_, revision)| revision + 1);
        let of_file = |file| CodeFile {
            generated: Some((self.number, revision)),
            ..CodeFile::new(name.into(), (file, id), None, None)
        };
        file.ok().map(of_file).or(known)
    }
}

/// Finds the map of a process: its path there, and a descriptor with which nothing can be read yet.
fn find(pid: u32) -> Option<(String, File)> {
    let thread = threads::living(pid)?;
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // The innermost namespace comes last.
    let theirs: u32 =
        field("NStgid:").or_else(|| field("Tgid:"))?.split_whitespace().next_back()?.parse().ok()?;
    // Real, effective, saved, and of file accesses.
    let user: u32 = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let root = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(format!("/proc/{thread}/root"))
        .ok()?;
    let counts = |found: &File, most: u64| {
        found.metadata().is_ok_and(|metadata| {
            let is_theirs = metadata.uid() == user || metadata.uid() == 0;
            metadata.is_file() && metadata.nlink() == 1 && is_theirs && metadata.len() <= most
        })
    };
    let open = |name: String, most: u64| {
        let found = inside(&root, &name).ok()?;
        counts(&found, most).then_some((name, found))
    };
    open(format!("/tmp/perf-{theirs}.map"), MOST).or_else(|| open(dump(thread, theirs)?, MOST_OF_DUMP))
}

/// The path of a dump that a process has mapped.
fn dump(thread: u32, theirs: u32) -> Option<String> {
    let end = format!("/jit-{theirs}.dump");
    let mapped = maps::executable(thread).ok()?;
    mapped.into_iter().map(|mapping| mapping.name).find(|name| name.ends_with(&end))
}

/// Finds a file below a directory, without following any link.
fn inside(root: &File, path: &str) -> io::Result<File> {
    let relative = Path::new(path).strip_prefix("/").unwrap_or(Path::new(path));
    let name = std::ffi::CString::new(relative.as_os_str().as_encoded_bytes())?;
    // SAFETY: all zeros is a valid value of this struct of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path ends in NUL, and the size is that of the struct.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            name.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor without another owner.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// What CPython 3.12 puts around each of its functions with `-X perf`, on x86_64 (Python/asm_trampoline.S): `sub $8,%rsp;
/// call *%rcx; add $8,%rsp; ret`. It keeps no frame pointer.
const TRAMPOLINE: [u8; 11] = [0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3];
/// They follow one another at one of these distances, over whole mappings.
const DISTANCES: [u64; 2] = [11, 16];

/// Looks for CPython's trampolines in the memory of a process. A runtime has many mappings of generated code, most programs have
/// none: the memory is opened once, when it is first wanted.
pub(super) struct Trampolines {
    thread: u32,
    memory: OnceCell<Option<File>>,
}

impl Trampolines {
    /// In the process of a living thread.
    pub(super) fn of(thread: u32) -> Self {
        Self { thread, memory: OnceCell::new() }
    }

    /// Whether the mapping that begins there has them and nothing else, as far as its beginning tells.
    pub(super) fn are_at(&self, start: u64) -> bool {
        let memory = self.memory.get_or_init(|| File::open(format!("/proc/{}/mem", self.thread)).ok());
        let Some(memory) = memory else { return false };
        let is_one = |address| {
            let mut found = [0; TRAMPOLINE.len()];
            memory.read_exact_at(&mut found, address).is_ok() && found == TRAMPOLINE
        };
        is_one(start) && DISTANCES.iter().any(|distance| is_one(start.saturating_add(*distance)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink};

    use super::{Generated, inside};

    #[test]
    fn no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        std::fs::create_dir(directory.path().join("tmp")).unwrap();
        std::fs::write(directory.path().join("tmp/a.map"), "").unwrap();
        symlink("a.map", directory.path().join("tmp/b.map")).unwrap();
        symlink("tmp", directory.path().join("other")).unwrap();
        assert!(inside(&root, "/tmp/a.map").is_ok());
        for link in ["/tmp/b.map", "/other/a.map", "/../etc/passwd", "/tmp/c.map"] {
            assert!(inside(&root, link).is_err(), "{link}");
        }
    }

    /// Of this process, whose user owns what it creates.
    #[test]
    fn a_map_that_grows_has_another_revision() {
        let path = format!("/tmp/perf-{}.map", std::process::id());
        let code = Generated::new(std::process::id());
        assert!(code.map().is_none());
        let revision = || code.map().and_then(|map| map.generated).map(|(_, revision)| revision);
        std::fs::write(&path, "1000 10 first\n").unwrap();
        let found = [revision(), revision()];
        std::fs::write(&path, "1000 10 first\n2000 10 second\n").unwrap();
        let later = revision();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((found, later, revision()), ([Some(0), Some(0)], Some(1), Some(1)));
    }
}
