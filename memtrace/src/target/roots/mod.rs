//! Names for what holds blocks: from the address of a pointer to the variable, the thread or the mapping that it is in.
//!
//! Variables are found by the symbols of files that are open already, and of their debug files. They keep their mangled
//! names: whoever shows them demangles them ([`Root::rename`]).

mod data;
mod stacks;

#[cfg(test)]
mod tests;

use std::ops::Range;

use self::{data::Data, stacks::Stacks};
use super::Modules;
use crate::profile::Root;

/// A mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its addresses.
    pub range: Range<u64>,
    /// Its name in /proc/PID/maps: a path, `[heap]`, `[stack]`, or empty.
    pub name: String,
    /// Whether it is known that the program mapped it itself, not through an allocator.
    pub is_own: bool,
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// Its name ([`super::threads::name`]); empty if unknown.
    pub name: String,
    /// Its stack pointer, if that is known.
    pub stack_pointer: Option<u64>,
    /// Its thread pointer, if that is known: on `x86_64` the base of `fs`.
    pub thread_pointer: Option<u64>,
}

/// Names places in the memory of a process, as it was when the parts were read.
#[derive(Debug)]
pub struct RootNames {
    /// In order of address.
    regions: Vec<Region>,
    data: Data,
    stacks: Stacks,
}

impl RootNames {
    /// Of process `pid`, by its mappings with code, all its mappings, and its threads, in any order.
    #[must_use]
    pub fn new(pid: u32, modules: &Modules, mut regions: Vec<Region>, threads: Vec<Thread>) -> Self {
        regions.sort_by_key(|region| region.range.start);
        let data = Data::new(modules);
        let stacks = Stacks::new(pid, threads, data.thread_local_bytes());
        Self { regions, data, stacks }
    }

    /// What the pointer at `address` belongs to. The first look at a file reads its symbols: of a browser that takes a
    /// second, so not on a thread that must answer.
    #[must_use]
    pub fn name(&self, address: u64) -> Root {
        let region = self.region(address);
        self.variable_of_thread(address)
            .or_else(|| self.data.name(address, region))
            .or_else(|| self.stacks.name(address, region?))
            .unwrap_or_else(|| of_region(region))
    }

    /// A register of a thread.
    #[must_use]
    pub fn register(&self, tid: u32) -> Root {
        Root::register(tid, self.stacks.thread(tid).map_or("", |thread| &thread.name))
    }

    /// A place in the program's own thread-local data; that of libraries is known by its thread only.
    fn variable_of_thread(&self, address: u64) -> Option<Root> {
        let thread = self.stacks.thread_near(address)?;
        let (module, offset) = self.data.thread_local(thread.thread_pointer?, address)?;
        let variable = data::variable(module, |variables| variables.thread_local_at(offset));
        let variable = variable.as_ref().map(|variable| (&*variable.name, &*module.name));
        Some(Root::tls(thread.tid, &thread.name, variable))
    }

    fn region(&self, address: u64) -> Option<&Region> {
        let end = self.regions.partition_point(|region| region.range.start <= address);
        let before = self.regions.get(end.checked_sub(1)?)?;
        before.range.contains(&address).then_some(before)
    }
}

impl Region {
    /// Whether its name says that it is an allocator's: the one of `brk`, and those that the C library names so.
    fn is_heap(&self) -> bool {
        let is_named = |names: &[&str]| names.iter().any(|name| self.name.contains(name));
        self.name == "[heap]" || self.name.starts_with("[anon:") && is_named(&["malloc", "scudo"])
    }

    /// The path of the file that it maps, as the target sees it. Shared memory without a file has one too.
    fn path(&self) -> Option<&str> {
        let path = self.name.strip_suffix(" (deleted)").unwrap_or(&self.name);
        path.starts_with('/').then_some(path)
    }
}

/// Memory that is neither a file's data nor a thread's. What is mapped without a name is nearly always an allocator's.
fn of_region(region: Option<&Region>) -> Root {
    let Some(region) = region else { return Root::mapping("[unknown]") };
    if region.is_heap() || region.name.is_empty() && !region.is_own {
        return Root::Heap;
    }
    Root::mapping(&region.name)
}
