//! The files that the processes of a session execute from: each is opened, identified and parsed once, and held as long as
//! somebody uses it.
//!
//! A file is known by device and inode. Nobody else can have these while it is held open, whatever mount namespace it is
//! seen from, so a file that took its place under the same name is another one. One that was rewritten in place is told by
//! its size and times, of which its owner cannot set the last. A build id says nothing here: whoever owns a file chooses it.

use std::{
    any::Any,
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use rustc_hash::FxHashMap;

use super::{
    files::{Regular, find_debug, own_path},
    modules::Module,
};
use crate::elf::{CodeFile, FileId, Image};

/// Files held at a time. More than the processes of any session map; beyond it, code has no module.
const MAX_FILES: usize = 1 << 14;

/// The files of a session. What nobody uses any more is closed.
#[derive(Debug, Default)]
pub struct FileStore {
    files: Mutex<Known<(u64, u64), StoredFile>>,
    roots: Mutex<Known<RootId, Root>>,
}

impl FileStore {
    /// Files held.
    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.files).live()
    }

    /// A file that was found, opened and parsed if it is not known yet; `None` if it cannot be opened, or if there are too
    /// many.
    pub(super) fn file(&self, found: &Regular) -> Option<Arc<StoredFile>> {
        let id = FileId::new(&found.metadata);
        if let Some(known) = lock(&self.files).get(&id.inode).filter(|known| known.id == id) {
            return Some(known);
        }
        if lock(&self.files).is_full(MAX_FILES) {
            return None;
        }
        let file = Arc::new(StoredFile::open(found)?);
        lock(&self.files).insert(id.inode, &file);
        Some(file)
    }

    /// The root directory of a thread's process.
    pub(super) fn root(&self, thread: u32) -> Option<Arc<Root>> {
        let (directory, id) = directory(Path::new(&format!("/proc/{thread}/root")))?;
        let mut roots = lock(&self.roots);
        if let Some(known) = roots.get(&id) {
            return Some(known);
        }
        let is_foreign = self::directory(Path::new("/")).is_none_or(|(_, own)| own != id);
        let root = Arc::new(Root { directory, is_foreign });
        roots.insert(id, &root);
        Some(root)
    }
}

/// What is known and still used, by what identifies it.
#[derive(Debug)]
struct Known<K, V> {
    entries: FxHashMap<K, Weak<V>>,
    /// Entries at which those are removed that nobody uses.
    full: usize,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), full: 64 }
    }
}

impl<K: Eq + std::hash::Hash, V> Known<K, V> {
    fn get(&self, key: &K) -> Option<Arc<V>> {
        self.entries.get(key)?.upgrade()
    }

    fn live(&self) -> usize {
        self.entries.values().filter(|entry| entry.strong_count() > 0).count()
    }

    fn is_full(&self, limit: usize) -> bool {
        self.entries.len() >= limit && self.live() >= limit
    }

    fn insert(&mut self, key: K, value: &Arc<V>) {
        if self.entries.len() >= self.full {
            self.entries.retain(|_, entry| entry.strong_count() > 0);
            self.full = (self.entries.len() * 2).max(64);
        }
        self.entries.insert(key, Arc::downgrade(value));
    }
}

/// A root directory: where a process looks for files, and so does who looks for debug files on its behalf.
///
/// It is the owner of a root that says which debug file belongs to a file, so what was found in one is not used for
/// processes with another.
#[derive(Debug)]
pub(super) struct Root {
    /// Held, so that nobody else is given its ids.
    directory: File,
    /// Whether it is another one than this process's.
    is_foreign: bool,
}

/// Device, inode and mount of a directory that is held open.
type RootId = (u64, u64, u64);

fn directory(path: &Path) -> Option<(File, RootId)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = directory.metadata().ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", directory.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
    Some((directory, (metadata.dev(), metadata.ino(), mount)))
}

/// What is the same of libraries that are unpacked anew each time they are loaded. Their owner, who chooses the build id, fools
/// nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deleted {
    build_id: Vec<u8>,
    size: u64,
    owner: u32,
}

/// An open file and what is known of it, whoever maps it.
#[derive(Debug)]
pub struct StoredFile {
    file: Arc<File>,
    /// As it was before it was parsed.
    id: FileId,
    image: Option<Image>,
    modules: Mutex<Vec<Weak<Module>>>,
    findings: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    deleted: OnceLock<Option<Arc<Deleted>>>,
}

impl StoredFile {
    fn open(found: &Regular) -> Option<Self> {
        let file = Arc::new(found.open()?);
        let id = FileId::new(&file.metadata().ok()?);
        let image = Image::from_shared(Arc::clone(&file));
        let image = image.inspect_err(|error| tracing::debug!("{}: {error}", found.path.display())).ok();
        Some(Self {
            file,
            id,
            image,
            modules: Mutex::default(),
            findings: Mutex::default(),
            deleted: OnceLock::new(),
        })
    }

    /// A path at which the agent can open the file: valid as long as `self`, and another file's afterwards.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        own_path(&self.file)
    }

    /// The file as ELF; `None` where it is none that we read.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// Which file it is.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Set if the file had been deleted when this was first asked for.
    #[must_use]
    pub fn deleted(&self) -> Option<&Arc<Deleted>> {
        let find = || {
            let metadata = self.file.metadata().ok().filter(|metadata| metadata.nlink() == 0)?;
            let build_id = self.image.as_ref()?.build_id().ok().flatten()?;
            Some(Arc::new(Deleted { build_id, size: metadata.len(), owner: metadata.uid() }))
        };
        self.deleted.get_or_init(find).as_ref()
    }

    /// What somebody has found out about the file, a value of each type: it is kept with the file and goes with it. A
    /// default one if there is none yet.
    #[must_use]
    pub fn findings<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        let mut findings = lock(&self.findings);
        if let Some(known) = findings.iter().find_map(|finding| Arc::clone(finding).downcast::<T>().ok()) {
            return known;
        }
        let new = Arc::new(T::default());
        findings.push(Arc::<T>::clone(&new));
        new
    }

    /// Whether it has the contents that were parsed, as far as its times tell.
    pub(super) fn is_as_parsed(&self) -> bool {
        self.file.metadata().is_ok_and(|now| FileId::new(&now).has_contents_of(&self.id))
    }

    /// The file under a name, as processes with a root see it. Its debug file is looked for there, once.
    pub(super) fn module(self: &Arc<Self>, name: &str, root: Option<Arc<Root>>) -> Arc<Module> {
        let mut modules = lock(&self.modules);
        modules.retain(|module| module.strong_count() > 0);
        let known = |module: &Arc<Module>| &*module.name == name && module.has_root(root.as_ref());
        if let Some(known) = modules.iter().filter_map(Weak::upgrade).find(known) {
            return known;
        }
        let name: Arc<str> = name.into();
        let (debug, misfit) = match (&self.image, &root) {
            (Some(image), Some(root)) => {
                find_debug(&own_path(&root.directory), root.is_foreign, &name, image)
            }
            _ => (None, None),
        };
        let code = CodeFile::new(Arc::clone(&name), (Arc::clone(&self.file), self.id), debug, misfit);
        let module = Arc::new(Module::of_file(name, Arc::clone(self), code, root));
        modules.push(Arc::downgrade(&module));
        module
    }
}

/// What is behind a lock is whole at any time, whoever panicked meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
