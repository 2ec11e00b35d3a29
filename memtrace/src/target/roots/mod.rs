//! Names for what holds blocks: from the address of a pointer to the variable, the thread or the mapping that it is in.
//!
//! Variables are found by the symbols of files that are open already, and of their debug files. They keep their mangled
//! names: whoever shows them demangles them ([`Root::rename`]).

mod data;
mod stacks;

#[cfg(test)]
mod tests;

use self::{data::Data, stacks::Stacks};
use super::{
    Modules,
    memory::{Kind, Region},
    threads,
};
use crate::{model::ThreadRegisters, profile::Root};

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    tid: u32,
    /// Empty if unknown.
    name: String,
    stack_pointer: Option<u64>,
    /// On `x86_64` the base of `fs`.
    thread_pointer: Option<u64>,
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
    /// Of process `pid`, by its mappings with code, its readable mappings in order, and its threads.
    #[must_use]
    pub fn new(pid: u32, modules: &Modules, regions: Vec<Region>, threads: &[ThreadRegisters]) -> Self {
        let named = |thread: &ThreadRegisters| Thread {
            tid: thread.tid,
            name: threads::name(pid, thread.tid).unwrap_or_default(),
            stack_pointer: thread.sp,
            thread_pointer: thread.tls,
        };
        let threads = threads.iter().map(named).collect();
        let data = Data::new(modules);
        let stacks = Stacks::new(pid, threads, data.thread_local_bytes());
        Self { regions, data, stacks }
    }

    /// What the pointer at `address` belongs to. The first look at a file reads its symbols: of a browser that takes a
    /// second, so not on a thread that must answer.
    #[must_use]
    pub fn name(&self, address: u64) -> Root {
        self.name_until(address).0
    }

    /// The same, and an address behind it: up to there, names differ in their offsets only ([`Root::whole`]).
    #[must_use]
    pub fn name_until(&self, address: u64) -> (Root, u64) {
        let region = self.region(address);
        let alone = |root| (root, address.saturating_add(1));
        if let Some(root) = self.variable_of_thread(address) {
            return alone(root);
        }
        if let Some((root, end)) = self.data.name(address, region) {
            return (root, end.max(address.saturating_add(1)));
        }
        match region {
            Some(region) if self.stacks.is_none_in(region) => {
                (of_region(Some(region)), region.range.end.min(self.data.next(address)))
            }
            region => {
                let root = region.and_then(|region| self.stacks.name(address, region));
                alone(root.unwrap_or_else(|| of_region(region)))
            }
        }
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

/// Whether a mapping is an allocator's: the one of `brk`, and those that the C library names so.
fn is_heap(region: &Region) -> bool {
    let is_named = |names: &[&str]| names.iter().any(|name| region.name.contains(name));
    region.kind == Kind::Heap || region.name.starts_with("[anon:") && is_named(&["malloc", "scudo"])
}

/// The path of the file that is mapped, as the target sees it. Shared memory without a file has one too.
fn path(region: &Region) -> Option<&str> {
    let path = region.name.strip_suffix(" (deleted)").unwrap_or(&region.name);
    path.starts_with('/').then_some(path)
}

/// Memory that is neither a file's data nor a thread's. What is mapped without a name is nearly always an allocator's.
fn of_region(region: Option<&Region>) -> Root {
    let Some(region) = region else { return Root::mapping("[unknown]") };
    if is_heap(region) || region.name.is_empty() && region.kind != Kind::SharedMemory {
        return Root::Heap;
    }
    Root::mapping(&region.name)
}
