//! Sites at the exits of a function, so that its result is seen without a return probe.
//!
//! A return probe replaces the return address on the target's stack. Code that reads it meanwhile (an exception, a
//! profiler, a switch to another stack) finds the kernel's trampoline there, and the target may die. A plain probe
//! changes nothing. So a function is decoded completely, and every exit gets a site: an instruction that the kernel
//! emulates, after which nothing is called and the result no longer changes, in whatever register it is by then; or
//! otherwise the `ret`.
//! A conditional jump may be such a site for one of its ways only.
//!
//! Only a function that is understood completely gets sites: bounds are known, no jump through a table, the canonical
//! frame address (CFA) follows from the stack or frame pointer at each site, and every exit has a site.
//!
//! [`graph`] decodes, [`stack`] follows the stack pointer, [`value`] determines where the result is, [`cover`] chooses.
//! [`passing`] tells wrappers, which need no probe of their own.

mod cover;
mod graph;
mod passing;
mod registers;
mod stack;
mod targets;
mod value;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::model::ExitSite;

use super::{Image, Machine, Slot, Slots, descriptions::Descriptions};
use graph::Graph;
pub use passing::{Wanted, meets, passes};

/// The most instructions of a function and of what it jumps to.
const MAX_INSTRUCTIONS: usize = 4 << 10;
/// The most functions and parts of functions that it jumps to.
const MAX_PARTS: usize = 32;
/// The longest of them in bytes.
const MAX_PART: u64 = 64 << 10;

/// Why a function gets no exit sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// Decoded on x86_64 only.
    #[error("its machine code is not decoded on this architecture")]
    Machine,
    /// Neither a symbol nor call frame information gives its end.
    #[error("the end of its code is unknown")]
    Bounds,
    /// It has bytes that are no instruction, or one that is not expected in a function.
    #[error("it has code that does not decode")]
    Code,
    /// It is too large.
    #[error("it is too large")]
    Size,
    /// It jumps to an address that it computes or loads.
    #[error("it jumps through a table or a pointer")]
    Jump,
    /// It ends in a function of another file.
    #[error("it ends in a function of another file")]
    Foreign,
    /// Exceptions are caught in it, by code that nothing jumps to.
    #[error("it catches exceptions")]
    Handlers,
    /// The distance of the stack pointer to the return address is unknown at one of its exits.
    #[error("its stack frame is not understood")]
    Stack,
}

/// A function to look for exits of.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its code by ELF virtual address; empty: the call frame information gives its end.
    pub range: Range<u64>,
    /// Address of the site of its entry probe.
    pub entry_site: u64,
    /// Whether it stores the block's address in memory instead of returning it: the site is then after the last write.
    pub has_out: bool,
    /// Whether it belongs to an allocator known by name: if such a function catches an exception, it returns no block.
    pub is_known: bool,
}

/// What a file says about its functions.
pub struct Tables<'a> {
    /// Frame descriptions, if it has any.
    pub descriptions: Option<Descriptions>,
    /// Slots of the dynamic linker.
    pub slots: Slots<'a>,
}

/// Finds the sites of a function. `handed_on` returns whether an address is the entry of a function that is itself probed:
/// exits that end there need no site. No sites: all exits end there.
///
/// # Errors
/// The function is not understood completely.
pub fn find(
    image: &Image,
    tables: &Tables<'_>,
    function: &Function,
    handed_on: &dyn Fn(u64) -> bool,
) -> Result<Vec<ExitSite>, Incomplete> {
    if image.machine() != Machine::X86_64 {
        return Err(Incomplete::Machine);
    }
    let code = FileCode { image, tables, function };
    find_in(&code, function, handed_on)
}

fn find_in(
    code: &dyn Code,
    function: &Function,
    handed_on: &dyn Fn(u64) -> bool,
) -> Result<Vec<ExitSite>, Incomplete> {
    let graph = Graph::new(code, function, handed_on)?;
    let values = value::analyse(&graph, function.has_out);
    let mut sites = cover::choose(&graph, &values, function.entry_site)?;
    for site in &mut sites {
        site.offset = code.offset(site.offset).ok_or(Incomplete::Bounds)?;
    }
    Ok(sites)
}

/// Code of a file and what its slots hold.
trait Code {
    /// The function, or part of one, that contains an address.
    fn part(&self, address: u64) -> Option<(Range<u64>, Vec<u8>)>;
    /// Whether exceptions may be caught in the function that contains an address, so that its result is unknown.
    fn catches(&self, address: u64) -> bool;
    /// A few bytes at an address.
    fn stub(&self, address: u64) -> Option<Vec<u8>>;
    /// What the dynamic linker stores at an address.
    fn slot(&self, address: u64) -> Option<Slot>;
    /// The file offset of an address.
    fn offset(&self, address: u64) -> Option<u64>;
}

struct FileCode<'a> {
    image: &'a Image,
    tables: &'a Tables<'a>,
    function: &'a Function,
}

/// Bytes of an entry of the PLT.
const STUB: u64 = 16;

impl Code for FileCode<'_> {
    fn part(&self, address: u64) -> Option<(Range<u64>, Vec<u8>)> {
        let known = Some(&self.function.range).filter(|range| range.contains(&address)).cloned();
        let range = known.or_else(|| Some(self.tables.descriptions.as_ref()?.at(address)?.range))?;
        let length = range.end.checked_sub(range.start).filter(|length| *length <= MAX_PART)?;
        let code = self.image.code(range.start, length).ok()?;
        (code.len() as u64 == length).then_some((range, code))
    }

    fn catches(&self, address: u64) -> bool {
        let described = || self.tables.descriptions.as_ref()?.at(address);
        !self.function.is_known && described().is_some_and(|found| found.has_handlers)
    }

    fn stub(&self, address: u64) -> Option<Vec<u8>> {
        self.image.code(address, STUB).ok()
    }

    fn slot(&self, address: u64) -> Option<Slot> {
        self.tables.slots.at(address)
    }

    fn offset(&self, address: u64) -> Option<u64> {
        self.image.vaddr_to_offset(address)
    }
}
