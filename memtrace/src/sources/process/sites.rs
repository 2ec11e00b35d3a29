//! Where to put probes in the files of a process.

use std::path::Path;

use crate::{
    allocators::{self, Found, ReturnProbes},
    elf::Image,
    target::{Modules, profilers},
};

/// Where to put probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// On the first byte of functions, for comparison.
    pub first_byte: bool,
    /// Which functions have a return probe.
    pub returns: ReturnProbes,
}

/// Finds the allocator in a file that process `pid` maps. If the process profiles itself, as few functions as possible
/// have a return probe.
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
