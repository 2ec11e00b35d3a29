//! Where to put probes in the files of a process.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::{
    allocators::{self, Choice, Found, ReturnProbes},
    elf::{FileId, Image},
    model::{ProbeSpec, Site},
    target::{Module, Modules, profilers},
};

/// Where to put probes.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// On the first byte of functions, for comparison.
    pub first_byte: bool,
    /// Which functions have a return probe.
    pub returns: ReturnProbes,
    /// Which allocators and functions.
    pub choice: Arc<Choice>,
}

impl Placement {
    /// Moves probes to the functions' first bytes, where that was asked for.
    pub(super) fn place(&self, mut specs: Vec<ProbeSpec>) -> Vec<ProbeSpec> {
        if self.first_byte {
            for spec in specs.iter_mut().filter(|spec| spec.site.delta != 0) {
                spec.offset -= spec.site.delta;
                // Otherwise the chooser would have stayed there.
                spec.site = Site { delta: 0, emulated: false };
            }
        }
        specs
    }
}

/// What a search of a file for an allocator found.
pub type Searched = Arc<Result<Found, allocators::Error>>;

/// Finds the allocator in a file that process `pid` maps; `None` if it is no ELF file that we read, or was not chosen. If the
/// process profiles itself, as few functions as can be have a return probe. A file is searched once for all processes of a
/// session, in which the choice is the same.
#[must_use]
pub fn find_allocator(
    (pid, modules): (u32, &Modules),
    module: &Module,
    returns: ReturnProbes,
    choice: &Choice,
) -> Option<Searched> {
    if !choice.has_object(&module.name) && !is_chosen_file(module, choice) {
        return None;
    }
    let found = search(module, returns, choice)?;
    let may_disturb = found.as_ref().as_ref().is_ok_and(Found::has_return_probes);
    if returns == ReturnProbes::Safe && may_disturb && !profilers::detect(pid, modules).is_empty() {
        return search(module, ReturnProbes::Fewest, choice);
    }
    Some(found)
}

/// Whether a file was chosen under another path, as the agent sees it.
fn is_chosen_file(module: &Module, choice: &Choice) -> bool {
    let Some(id) = module.file().map(|file| file.id()) else { return false };
    let paths = choice.objects.iter().filter(|object| object.starts_with('/'));
    paths.filter_map(|path| std::fs::metadata(path).ok()).any(|found| FileId::new(&found).inode == id.inode)
}

/// Searches that are remembered of a file. There is one for each [`ReturnProbes`], for each name that it is mapped by, and for
/// each debug file.
const REMEMBERED: usize = 8;

/// What a search depends on besides the file. Its name counts, for an allocator may be called after it.
type Key = (ReturnProbes, Arc<str>, Option<FileId>);

/// The searches of a file.
#[derive(Default)]
struct Searches(Mutex<Vec<(Key, Searched)>>);

/// What looks like an allocator in a file, see [`suspects`].
#[derive(Default)]
struct Suspects(OnceLock<Vec<String>>);

/// Functions of a file that look like an allocator's and are not traced, unless the user named them.
pub(super) fn suspects(module: &Module, choice: &Choice) -> Vec<String> {
    let Some((file, image)) = module.file().and_then(|file| Some((file, file.image()?))) else {
        return Vec::new();
    };
    let found = file.findings::<Suspects>();
    let found = found.0.get_or_init(|| allocators::suspects(image, None).unwrap_or_default());
    let is_named = |name: &&String| choice.functions.iter().any(|(known, _)| known == *name);
    let has_prefix = |name: &&String| choice.prefixes.iter().any(|prefix| name.starts_with(prefix));
    found.iter().filter(|name| !is_named(name) && !has_prefix(name)).cloned().collect()
}

fn search(module: &Module, returns: ReturnProbes, choice: &Choice) -> Option<Searched> {
    let file = module.file()?;
    let image = file.image()?;
    // Only one that is found by build id is known to belong to the file.
    let debug = module.code().and_then(|code| Some((code.debug.as_ref()?, code.id.1?)));
    let debug = debug.filter(|(debug, _)| debug.crc.is_none());
    let key = (returns, Arc::clone(&module.name), debug.map(|(_, id)| id));
    let searches = file.findings::<Searches>();
    let mut searches = searches.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = searches.iter().find(|(known, _)| *known == key) {
        return Some(Arc::clone(known));
    }
    let debug = debug.and_then(|(debug, _)| Image::from_shared(Arc::clone(&debug.file)).ok());
    let path = file.path();
    let search =
        allocators::Search { path: &path, name: &module.name, debug: debug.as_ref(), returns, choice };
    let searched = Arc::new(allocators::find(image, search));
    // What could not be read may be read another time.
    if searches.len() < REMEMBERED && !matches!(*searched, Err(allocators::Error::Elf { .. })) {
        searches.push((key, Arc::clone(&searched)));
    }
    Some(searched)
}
