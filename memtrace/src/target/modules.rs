//! The files that a process executes from, held open, so that symbols survive a target that exits.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use crate::{
    elf::{CodeFile, Image},
    model::LoaderHook,
};

use super::{
    files::{find_debug, open_regular, own_path},
    maps::{self, Mapping},
    threads,
};

/// More files than any process maps; code in further files has no module.
const MAX_MODULES: usize = 1 << 14;

/// The most threads to read the mappings through, if each ends meanwhile.
const ATTEMPTS: usize = 8;

/// The loader's function and variable for debuggers (glibc's and musl's link.h), and the offset of `r_state` in the
/// latter.
const BREAKPOINT: &str = "_dl_debug_state";
const DEBUG: &str = "_r_debug";
const R_STATE: u64 = 24;

/// A file that a process executes from, or a stand-in (`[vdso]`, `[anon]`).
#[derive(Debug)]
pub struct Module {
    /// The path as the target sees it.
    pub name: Arc<str>,
    code: Option<CodeFile>,
    image: Option<Image>,
}

impl Module {
    /// A path at which the agent can open the file even if the target is gone: valid as long as `self`.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.code.as_ref().map(|code| own_path(&code.file))
    }

    /// The file and its debug file, if there is a file.
    #[must_use]
    pub fn code(&self) -> Option<&CodeFile> {
        self.code.as_ref()
    }

    /// The file as ELF; `None` if it cannot be read as such.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
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
struct Mapped {
    mapping: Mapping,
    bias: Option<u64>,
    module: Arc<Module>,
    /// The count of unloadings when it was first seen; it has been in every list since.
    since: u64,
}

/// The executable mappings of a process.
#[derive(Debug)]
pub struct Modules {
    pid: u32,
    /// The thread through which /proc shows it.
    thread: u32,
    /// Whether the process has a mount namespace of its own.
    foreign: bool,
    mappings: Vec<Mapped>,
    /// The count of unloadings before they were read.
    count: u64,
    /// The count at which the program began: what was loaded before anything was unloaded stays in place, or disappears
    /// for good.
    first: u64,
    by_inode: FxHashMap<(u64, u64), Arc<Module>>,
    anonymous: Arc<Module>,
    unknown: Arc<Module>,
}

impl Modules {
    /// Reads a process's mappings and opens their files.
    ///
    /// # Errors
    /// The process is gone, or /proc refuses.
    pub fn read(pid: u32) -> io::Result<Self> {
        let nameless = |name: &str| Arc::new(Module { name: name.into(), code: None, image: None });
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let thread = threads::living(pid).unwrap_or(pid);
        let foreign = namespace("self") != namespace(&thread.to_string());
        let mut modules = Self {
            pid,
            thread,
            foreign,
            mappings: Vec::new(),
            count: 0,
            first: 0,
            by_inode: FxHashMap::default(),
            anonymous: nameless("[anon]"),
            unknown: nameless("[unknown]"),
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
        let mappings = self.executable()?;
        let after = count();
        let mut known: FxHashMap<(u64, u64, (u64, u64)), u64> = FxHashMap::default();
        for Mapped { mapping, since, .. } in &self.mappings {
            known.insert((mapping.start, mapping.offset, mapping.inode), *since);
        }
        self.mappings = mappings
            .into_iter()
            .map(|mapping| {
                let module = self.module(&mapping);
                let bias = module.image().and_then(|image| image.mapping_bias(mapping.start, mapping.offset));
                let since =
                    known.get(&(mapping.start, mapping.offset, mapping.inode)).copied().unwrap_or(after);
                Mapped { mapping, bias, module, since }
            })
            .collect();
        self.count = before;
        Ok(())
    }

    /// The executable mappings, as a living thread shows them.
    fn executable(&mut self) -> io::Result<Vec<Mapping>> {
        for _ in 0..ATTEMPTS {
            self.thread = threads::living(self.pid).ok_or(io::ErrorKind::NotFound)?;
            match maps::executable(self.thread) {
                // A thread that is ending no longer has mappings.
                Ok(mappings) if mappings.is_empty() => {}
                Err(error) if is_gone(&error) => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::NotFound.into())
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
        let Mapped { mapping, bias, module, since } = self.mappings.get(index)?;
        if inside < mapping.start || *since > count {
            return None;
        }
        let address = match bias {
            Some(bias) => address.wrapping_sub(*bias),
            None if module.code.is_some() => address - mapping.start + mapping.offset,
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

    /// Where the dynamic loader announces what it loads and unloads; `None` for static programs, and for loaders
    /// that do not export it.
    #[must_use]
    pub fn loader_hook(&self) -> Option<LoaderHook> {
        self.mappings.iter().find_map(|Mapped { bias, module, .. }| {
            let file_name = module.name.rsplit('/').next().unwrap_or_default();
            if !file_name.starts_with("ld-")
                && !file_name.starts_with("ld.so")
                && !file_name.starts_with("ld64")
            {
                return None;
            }
            let (image, file, bias) = (module.image()?, module.path()?, (*bias)?);
            let symbols = image.symbols(&[BREAKPOINT, DEBUG]).ok()?;
            let address =
                |name| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
            let offset = image.vaddr_to_offset(address(BREAKPOINT)?)?;
            Some(LoaderHook { file, offset, state: address(DEBUG)?.wrapping_add(bias).wrapping_add(R_STATE) })
        })
    }

    /// Executable mappings in order of address: range, bias (ELF virtual address to address; `None` without a
    /// usable file), module.
    pub fn mapped(&self) -> impl Iterator<Item = (std::ops::Range<u64>, Option<u64>, &Arc<Module>)> {
        self.mappings
            .iter()
            .map(|mapped| (mapped.mapping.start..mapped.mapping.end, mapped.bias, &mapped.module))
    }

    /// Executable mappings of the file at `path`: first address, the one after the last, offset in the file.
    pub(super) fn parts(&self, path: &Path) -> impl Iterator<Item = (u64, u64, u64)> {
        self.mappings
            .iter()
            .filter(move |mapped| mapped.module.path().is_some_and(|file| file == path))
            .map(|Mapped { mapping, .. }| (mapping.start, mapping.end, mapping.offset))
    }

    fn module(&mut self, mapping: &Mapping) -> Arc<Module> {
        if mapping.inode.1 == 0 {
            if mapping.name.is_empty() {
                return Arc::clone(&self.anonymous);
            }
            return Arc::new(Module { name: mapping.name.as_str().into(), code: None, image: None });
        }
        if let Some(known) = self.by_inode.get(&mapping.inode) {
            return Arc::clone(known);
        }
        if self.by_inode.len() >= MAX_MODULES {
            return Arc::clone(&self.anonymous);
        }
        let module = Arc::new(self.open(mapping));
        self.by_inode.insert(mapping.inode, Arc::clone(&module));
        module
    }

    fn open(&self, mapping: &Mapping) -> Module {
        let name = mapping.name.strip_suffix(" (deleted)").unwrap_or(&mapping.name);
        let name: Arc<str> = name.into();
        let file = open_mapped(self.thread, mapping);
        let image = file.as_ref().and_then(|file| file.try_clone().ok()).and_then(|file| {
            Image::from_file(file).inspect_err(|error| tracing::debug!("{name}: {error}")).ok()
        });
        let (debug, misfit) = match &image {
            Some(image) => find_debug(self.thread, self.foreign, &name, image),
            None => (None, None),
        };
        let code = file.and_then(|file| CodeFile::new(Arc::clone(&name), file, debug, misfit));
        Module { name, code, image }
    }
}

/// Whether an error of /proc means that a thread has ended.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Opens the file behind a mapping: through map_files, which needs no path and no mount namespace; otherwise by
/// its path in the target's root, if it still is that file.
fn open_mapped(thread: u32, mapping: &Mapping) -> Option<File> {
    let direct = format!("/proc/{thread}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    open_regular(Path::new(&direct)).filter(|file| is_of(file, mapping)).or_else(|| {
        let file = open_regular(Path::new(&format!("/proc/{thread}/root{}", mapping.name)))?;
        has_inode(&file, mapping).then_some(file)
    })
}

/// Whether a file belongs to a mapping: another one may have been mapped there after the list was read. The name is
/// compared as well, because in an overlay the list may show a different inode than the file has.
fn is_of(file: &File, mapping: &Mapping) -> bool {
    has_inode(file, mapping)
        || std::fs::read_link(own_path(file)).is_ok_and(|path| path == Path::new(&mapping.name))
}

fn has_inode(file: &File, mapping: &Mapping) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.ino() == mapping.inode.1)
}
