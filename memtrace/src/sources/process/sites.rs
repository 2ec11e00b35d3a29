//! Where probes go in the files of a process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    allocators::{self, Found, ReturnProbes},
    model::{ProbeSpec, Site},
    target::{Module, Modules, StoredFile, profilers},
};

/// Where probes go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// At functions' first bytes, for comparison.
    pub first_byte: bool,
    /// Which functions have a return probe.
    pub returns: ReturnProbes,
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

/// Finds the allocator in a file that process `pid` maps; `None` if it is no ELF file that we read. If the process profiles
/// itself, as few functions as can be have a return probe. A file is searched once for all processes.
#[must_use]
pub fn find_allocator(
    (pid, modules): (u32, &Modules),
    module: &Module,
    returns: ReturnProbes,
) -> Option<Searched> {
    let file = module.file()?;
    let found = search(file, &module.name, returns)?;
    let may_disturb = found.as_ref().as_ref().is_ok_and(Found::has_return_probes);
    if returns == ReturnProbes::Safe && may_disturb && !profilers::detect(pid, modules).is_empty() {
        return search(file, &module.name, ReturnProbes::Fewest);
    }
    Some(found)
}

/// Searches that are remembered of a file. There is one for each [`ReturnProbes`], and for each name that it is mapped by.
const REMEMBERED: usize = 8;

/// The searches of a file. Its name counts, for an allocator may be called after it.
#[derive(Default)]
struct Searches(Mutex<Vec<(ReturnProbes, Arc<str>, Searched)>>);

fn search(file: &StoredFile, name: &Arc<str>, returns: ReturnProbes) -> Option<Searched> {
    let image = file.image()?;
    let searches = file.findings::<Searches>();
    let mut searches = searches.0.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |(how, of, _): &&(ReturnProbes, Arc<str>, Searched)| *how == returns && of == name;
    if let Some((_, _, known)) = searches.iter().find(is_it) {
        return Some(Arc::clone(known));
    }
    let searched = Arc::new(allocators::find(image, &file.path(), name, returns));
    // What could not be read may be read another time.
    if searches.len() < REMEMBERED && !matches!(*searched, Err(allocators::Error::Elf { .. })) {
        searches.push((returns, Arc::clone(name), Arc::clone(&searched)));
    }
    Some(searched)
}
