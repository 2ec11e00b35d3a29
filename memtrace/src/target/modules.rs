//! The files that a process executes from, held open, so that symbols survive a target that exits.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustc_hash::FxHashMap;

use crate::elf::{CodeFile, Image, Variables};

use super::{
    copies,
    files::Regular,
    jit::{self, Generated},
    maps::{self, Code, Mapping},
    store::{FileStore, Root, StoredFile},
    threads,
};

/// Threads that are asked for the mappings, if each ends meanwhile.
const ATTEMPTS: usize = 8;

/// A file that processes execute from, or a stand-in (`[vdso]`, `[anon]`). Processes that see a file by one name, from one
/// root, share its module.
#[derive(Debug)]
pub struct Module {
    /// The path as the target sees it.
    pub name: Arc<str>,
    backed: Option<Backed>,
    generated: Option<Generated>,
}

/// What a module has that is backed by a file.
#[derive(Debug)]
struct Backed {
    file: Arc<StoredFile>,
    code: CodeFile,
    root: Option<Arc<Root>>,
    variables_of_debug: OnceLock<Option<Variables>>,
}

impl Module {
    pub(super) fn of_file(
        name: Arc<str>,
        file: Arc<StoredFile>,
        code: CodeFile,
        root: Option<Arc<Root>>,
    ) -> Self {
        let backed = Some(Backed { file, code, root, variables_of_debug: OnceLock::new() });
        Self { name, backed, generated: None }
    }

    fn nameless(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), backed: None, generated: None })
    }

    /// Code in anonymous memory of a process, which generates it.
    fn anonymous(pid: u32) -> Arc<Self> {
        Arc::new(Self { name: "[anon]".into(), backed: None, generated: Some(Generated::new(pid)) })
    }

    /// Set for code in anonymous memory: it may have a map.
    #[must_use]
    pub fn generated(&self) -> Option<&Generated> {
        self.generated.as_ref()
    }

    /// Whether it was seen from this root.
    pub(super) fn has_root(&self, root: Option<&Arc<Root>>) -> bool {
        let own = self.backed.as_ref().and_then(|backed| backed.root.as_ref());
        own.map(Arc::as_ptr) == root.map(Arc::as_ptr)
    }

    /// What is known of the file, whoever maps it; `None` where there is no file.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<StoredFile>> {
        self.backed.as_ref().map(|backed| &backed.file)
    }

    /// A path at which the agent can open the file, whatever became of the target: valid as long as `self`.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.file().map(|file| file.path())
    }

    /// The file and its debug file, if there is a file.
    #[must_use]
    pub fn code(&self) -> Option<&CodeFile> {
        self.backed.as_ref().map(|backed| &backed.code)
    }

    /// The variables that its debug file names, once they have been read. They are the module's, as the debug file is.
    pub(super) fn variables_of_debug(&self) -> Option<&OnceLock<Option<Variables>>> {
        self.backed.as_ref().map(|backed| &backed.variables_of_debug)
    }

    /// The file as ELF; `None` if it cannot be read as such.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.file()?.image()
    }

    /// Whether it is the same file, as it was at the same time, by whatever name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.file(), other.file()) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => std::ptr::eq(self, other),
        }
    }
}

/// A location in a module.
#[derive(Clone, Debug)]
pub struct Location {
    /// The module.
    pub module: Arc<Module>,
    /// The ELF virtual address in the file; the address itself if there is no file.
    pub address: u64,
    /// Whether it is a return address; otherwise that of an instruction interrupted by a signal.
    pub is_return: bool,
}

impl Location {
    /// Whether a call precedes it; an interrupted instruction needs none, and without a file that cannot be
    /// determined.
    #[must_use]
    pub fn follows_call(&self) -> bool {
        !self.is_return || self.module.image().is_none_or(|image| image.follows_call(self.address))
    }
}

/// An executable mapping.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Of a copy of a file's code, the offset is that of the code in the file.
    pub(super) mapping: Mapping,
    pub(super) bias: Option<u64>,
    pub(super) module: Arc<Module>,
    /// The count of unloadings when it was first seen; it has been in every list since.
    since: u64,
    /// Whether it is anonymous memory to which the file's code was copied.
    pub(super) is_copy: bool,
    /// Whether it has trampolines of CPython.
    has_trampolines: bool,
}

/// The executable mappings of a process.
#[derive(Debug)]
pub struct Modules {
    pid: u32,
    /// The thread through which /proc shows it.
    thread: u32,
    store: Arc<FileStore>,
    mappings: Vec<Mapped>,
    /// The count of unloadings before they were read.
    count: u64,
    /// The count at which the program began: what was loaded before anything was unloaded stays in place, or disappears
    /// for good.
    first: u64,
    /// Those of the files that are mapped now.
    by_inode: FxHashMap<(u64, u64), Arc<Module>>,
    anonymous: Arc<Module>,
    unknown: Arc<Module>,
}

impl Modules {
    /// Reads a process's mappings; their files are those of `store`.
    ///
    /// # Errors
    /// The process is gone, or /proc refuses.
    pub fn read(pid: u32, store: &Arc<FileStore>) -> io::Result<Self> {
        let mut modules = Self {
            pid,
            thread: pid,
            store: Arc::clone(store),
            mappings: Vec::new(),
            count: 0,
            first: 0,
            by_inode: FxHashMap::default(),
            anonymous: Module::anonymous(pid),
            unknown: Module::nameless("[unknown]"),
        };
        modules.refresh(|| 0)?;
        Ok(modules)
    }

    /// Reads the mappings again; files already open stay open. `count` returns the count of unloadings: what is seen
    /// for the first time may have been mapped while the list was read.
    ///
    /// # Errors
    /// The process is gone: the old mappings stay.
    pub fn refresh(&mut self, count: impl Fn() -> u64) -> io::Result<()> {
        let before = count();
        let Code { executable, others } = self.code()?;
        let after = count();
        let mut known: FxHashMap<(u64, u64, (u64, u64)), u64> = FxHashMap::default();
        for Mapped { mapping, since, .. } in &self.mappings {
            known.insert((mapping.start, mapping.offset, mapping.inode), *since);
        }
        let mut before_files = std::mem::take(&mut self.by_inode);
        // A file that was not unmapped meanwhile is the one that is known, whatever was written to it.
        let may_be_others = self.count != before || self.mappings.is_empty();
        before_files
            .retain(|_, module| !may_be_others || module.file().is_none_or(|file| file.is_as_parsed()));
        let trampolines = jit::Trampolines::of(self.thread);
        self.mappings = executable
            .into_iter()
            .map(|mut mapping| {
                let copied = copies::neighbours(&mapping, &others).find_map(|file| {
                    let module = self.module(file, &before_files);
                    let (bias, offset) = copies::of(self.thread, &mapping, module.image()?, file)?;
                    Some((module, bias, offset))
                });
                let is_copy = copied.is_some();
                let (module, bias) = match copied {
                    Some((module, bias, offset)) => {
                        mapping.offset = offset;
                        (module, Some(bias))
                    }
                    None => {
                        let module = self.module(&mapping, &before_files);
                        let image = module.image();
                        let bias = image.and_then(|image| image.mapping_bias(mapping.start, mapping.offset));
                        (module, bias)
                    }
                };
                let since =
                    known.get(&(mapping.start, mapping.offset, mapping.inode)).copied().unwrap_or(after);
                let is_anonymous = module.generated().is_some();
                let has_trampolines = is_anonymous && trampolines.are_at(mapping.start);
                Mapped { mapping, bias, module, since, is_copy, has_trampolines }
            })
            .collect();
        self.count = before;
        Ok(())
    }

    /// The executable mappings, and those of files, as a living thread shows them.
    fn code(&mut self) -> io::Result<Code> {
        for _ in 0..ATTEMPTS {
            self.thread = threads::living(self.pid).ok_or(io::ErrorKind::NotFound)?;
            match maps::code(self.thread) {
                // A thread that is ending no longer has mappings.
                Ok(code) if code.executable.is_empty() => {}
                Err(error) if is_gone(&error) => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Every executable mapping, in order of address.
    pub(super) fn all(&self) -> &[Mapped] {
        &self.mappings
    }

    /// The location of an address outside all known mappings.
    #[must_use]
    pub fn unknown(&self, address: u64, is_return: bool) -> Location {
        Location { module: Arc::clone(&self.unknown), address, is_return }
    }

    /// The count of unloadings when the mappings were read.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Another program runs in the process: its mappings have nothing to do with the old ones.
    pub fn begin_again(&mut self, count: u64) {
        self.mappings.clear();
        self.anonymous = Module::anonymous(self.pid);
        self.first = count;
    }

    /// Addresses of files that were loaded after others had been unloaded.
    #[must_use]
    pub fn unstable(&self) -> Option<std::ops::Range<u64>> {
        let late = |mapped: &&Mapped| mapped.since > self.first && mapped.mapping.inode.1 != 0;
        let mut late = self.mappings.iter().filter(late).map(|mapped| &mapped.mapping);
        let first = late.next()?;
        Some(first.start..late.next_back().map_or(first.end, |last| last.end))
    }

    /// The location of `address` (for a return address, of the call before it) at a time when the count of unloadings
    /// was `count`; `None` if nothing executable is mapped there, or was not known to be at that time.
    #[must_use]
    pub fn locate(&self, address: u64, is_return: bool, count: u64) -> Option<Location> {
        let inside = address.checked_sub(u64::from(is_return))?;
        let index = self.mappings.partition_point(|mapped| mapped.mapping.end <= inside);
        let Mapped { mapping, bias, module, since, .. } = self.mappings.get(index)?;
        if inside < mapping.start || *since > count {
            return None;
        }
        let address = match bias {
            Some(bias) => address.wrapping_sub(*bias),
            None if mapping.inode.1 != 0 => address - mapping.start + mapping.offset,
            None => address,
        };
        Some(Location { module: Arc::clone(module), address, is_return })
    }

    /// Every module, once, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        let mut seen = rustc_hash::FxHashSet::default();
        self.mappings
            .iter()
            .map(|mapped| &mapped.module)
            .filter(move |module| seen.insert(Arc::as_ptr(module)))
    }

    /// The module of the file at `path`, a [`Module::path`], if it is mapped.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&Arc<Module>> {
        self.mappings
            .iter()
            .map(|mapped| &mapped.module)
            .find(|module| module.path().is_some_and(|at| at == path))
    }

    /// Executable mappings in order of address: range, bias (ELF virtual address to address; `None` without a
    /// usable file), module.
    pub fn mapped(&self) -> impl Iterator<Item = (std::ops::Range<u64>, Option<u64>, &Arc<Module>)> {
        self.mappings
            .iter()
            .map(|mapped| (mapped.mapping.start..mapped.mapping.end, mapped.bias, &mapped.module))
    }

    /// Whether the generated code at an address is CPython's: a frame there is 16 bytes, without a frame pointer.
    #[must_use]
    pub fn is_trampoline(&self, address: u64) -> bool {
        let index = self.mappings.partition_point(|mapped| mapped.mapping.end <= address);
        let found = self.mappings.get(index).filter(|mapped| mapped.mapping.start <= address);
        found.is_some_and(|mapped| mapped.has_trampolines)
    }

    /// Executable mappings of the file at `path`: first address, the one after the last, offset in the file.
    pub(super) fn parts(&self, path: &Path) -> impl Iterator<Item = (u64, u64, u64)> {
        self.mappings
            .iter()
            .filter(move |mapped| mapped.module.path().is_some_and(|file| file == path))
            .map(|Mapped { mapping, .. }| (mapping.start, mapping.end, mapping.offset))
    }

    /// The module of a mapping: as it was known `before`, else of the file that is found there.
    fn module(&mut self, mapping: &Mapping, before: &FxHashMap<(u64, u64), Arc<Module>>) -> Arc<Module> {
        if mapping.inode.1 == 0 {
            if mapping.name.is_empty() {
                return Arc::clone(&self.anonymous);
            }
            return Module::nameless(&mapping.name);
        }
        if let Some(known) = self.by_inode.get(&mapping.inode) {
            return Arc::clone(known);
        }
        let module = before.get(&mapping.inode).cloned().unwrap_or_else(|| self.open(mapping));
        self.by_inode.insert(mapping.inode, Arc::clone(&module));
        module
    }

    fn open(&self, mapping: &Mapping) -> Arc<Module> {
        let name = mapping.name.strip_suffix(" (deleted)").unwrap_or(&mapping.name);
        match find_mapped(self.thread, mapping).and_then(|found| self.store.file(&found)) {
            Some(file) => file.module(name, self.store.root(self.thread)),
            None => Module::nameless(name),
        }
    }
}

/// Whether /proc says that a thread has ended.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Finds the file behind a mapping: through map_files, which needs no path and no mount namespace; else by its path in the
/// target's root, if it still is that file.
fn find_mapped(thread: u32, mapping: &Mapping) -> Option<Regular> {
    let direct = format!("/proc/{thread}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    Regular::find(direct.into()).filter(|found| is_of(found, mapping)).or_else(|| {
        let found = Regular::find(format!("/proc/{thread}/root{}", mapping.name).into())?;
        has_inode(&found, mapping).then_some(found)
    })
}

/// Whether a file is the mapping's: another one may have been mapped there after the list was read. It goes by the name as
/// well, for in an overlay the list may show another inode than the file has.
fn is_of(found: &Regular, mapping: &Mapping) -> bool {
    has_inode(found, mapping) || found.name().is_some_and(|path| path == Path::new(&mapping.name))
}

fn has_inode(found: &Regular, mapping: &Mapping) -> bool {
    found.metadata.ino() == mapping.inode.1
}
