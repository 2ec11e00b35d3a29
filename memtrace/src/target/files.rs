//! Opens files that a target has a say in: regular ones, and nothing that blocks.

use std::{
    fs::{File, Metadata, OpenOptions},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::elf::{DebugFile, Image, debug_candidates};

/// A path at which this process can open a file again.
pub(super) fn own_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A regular file that was found, and is not opened yet. Finding a file neither blocks, as opening a pipe could, nor is it
/// noticed by a device.
#[derive(Debug)]
pub(super) struct Regular {
    /// Where it was found.
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
    handle: File,
}

impl Regular {
    /// Finds a regular file and nothing else.
    pub(super) fn find(path: PathBuf) -> Option<Self> {
        let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path).ok()?;
        let metadata = handle.metadata().ok()?;
        metadata.is_file().then_some(Self { path, metadata, handle })
    }

    /// The path that the kernel knows it by.
    pub(super) fn name(&self) -> Option<PathBuf> {
        std::fs::read_link(own_path(&self.handle)).ok()
    }

    /// Opens what was found, whatever is there by now.
    pub(super) fn open(&self) -> Option<File> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenOptions::new().read(true).custom_flags(flags).open(own_path(&self.handle)).ok()
    }
}

/// What a separate debug file is opened for.
struct Search<'a> {
    root: &'a Path,
    build_id: Option<&'a [u8]>,
    misfit: Option<PathBuf>,
}

impl Search<'_> {
    /// The first of some paths that is a debug file and fits. Where a checksum is to be compared, a file without a build
    /// id will do.
    fn first(&mut self, paths: Vec<PathBuf>, crc: Option<u32>) -> Option<(Arc<File>, Image)> {
        paths.into_iter().find_map(|path| {
            let file = Arc::new(Regular::find(self.root.join(&path))?.open()?);
            let image = Image::from_shared(Arc::clone(&file)).ok()?;
            let id = image.build_id().ok().flatten();
            // A debug file of another build would put wrong names on the frames.
            let fits = if self.build_id.is_some() { id.as_deref() == self.build_id } else { crc.is_some() };
            if !fits {
                self.misfit.get_or_insert(path);
            }
            fits.then_some((file, image))
        })
    }
}

/// Finds a file's debug file below the root of its process; where that is `foreign` to the agent, it may also have one
/// below the agent's own, by its build id. Else says why one that is there is not used.
pub(super) fn find_debug(
    theirs: &Path,
    foreign: bool,
    name: &str,
    image: &Image,
) -> (Option<DebugFile>, Option<PathBuf>) {
    let build_id = image.build_id().ok().flatten();
    let link = image.debuglink().ok().flatten();
    let directory = Path::new(name).parent().unwrap_or(Path::new("/"));
    let mut misfit = None;
    for root in [theirs, Path::new("/")].into_iter().take(1 + usize::from(foreign)) {
        let mut search = Search { root, build_id: build_id.as_deref(), misfit: None };
        let by_id = search.first(debug_candidates(search.build_id, None, directory), None);
        let by_link = || {
            let link = link.as_ref().filter(|_| root == theirs)?;
            let found = search.first(debug_candidates(None, Some(link), directory), Some(link.crc))?;
            Some((found, Some(link.crc)))
        };
        if let Some(((file, image), crc)) = by_id.map(|found| (found, None)).or_else(by_link) {
            let shared = find_shared(root, &image);
            return (Some(DebugFile { file, crc, shared }), None);
        }
        misfit = misfit.or(search.misfit);
    }
    (None, misfit.map(|path| Path::new("/").join(path)))
}

/// The file that a debug file shares parts with, by its build id.
fn find_shared(root: &Path, debug: &Image) -> Option<Arc<File>> {
    let id = debug.shared_build_id().ok().flatten()?;
    let mut search = Search { root, build_id: Some(&id), misfit: None };
    Some(search.first(debug_candidates(Some(&id), None, Path::new("/")), None)?.0)
}
