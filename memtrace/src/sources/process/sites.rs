//! Where probes go in the files of a process.

use std::path::Path;

use crate::{
    allocators::{self, Found, ReturnProbes},
    elf::Image,
    target::{Modules, profilers},
};

/// Where probes go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// At functions' first bytes, for comparison.
    pub first_byte: bool,
    /// Which functions have a return probe.
    pub returns: ReturnProbes,
}

/// Finds the allocator in a file that process `pid` maps. If the process profiles itself, as few functions as can be have a
/// return probe.
///
/// # Errors
/// As [`allocators::find`].
pub fn find_allocator(
    (pid, modules): (u32, &Modules),
    (image, path, name): (&Image, &Path, &str),
    returns: ReturnProbes,
) -> Result<Found, allocators::Error> {
    let found = allocators::find(image, path, name, returns)?;
    if returns == ReturnProbes::Safe
        && found.has_return_probes()
        && !profilers::detect(pid, modules).is_empty()
    {
        return allocators::find(image, path, name, ReturnProbes::Fewest);
    }
    Ok(found)
}
