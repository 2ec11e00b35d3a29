//! Takes breakpoints out of processes that nobody traces.
//!
//! A fork copies breakpoints. A multi-uprobe that belongs to the parent counts nothing in the child, but each call there still
//! traps, and nothing removes them (a perf uprobe does when the first one is hit): a child that calls malloc all the time runs
//! a hundred times slower. Whenever a consumer is removed from a site, the kernel takes the breakpoint out of every process that no other
//! consumer wants it in (`register_for_each_vma`, kernel/events/uprobes.c).

use std::num::NonZeroU32;

use crate::model::ProbeSpec;

use super::{
    detach::{detach, detach_later},
    idle,
    programs::Method,
    tracer::Tracer,
};
use crate::bpf::shared::error::Error;

impl Tracer {
    /// Takes the breakpoints of probes that are attached to a target out of all processes that are not traced: attaches a
    /// program that does nothing at the same sites, and removes it again. Does not wait until that is done.
    ///
    /// # Errors
    /// The kernel refused to attach it.
    pub fn sweep(&mut self, target: u32, pid: NonZeroU32, probes: &[ProbeSpec]) -> Result<(), Error> {
        if self.method() == Method::Perf {
            return Ok(());
        }
        let (ebpf, programs) = self.parts();
        let mut links = Vec::new();
        let attached = idle::attach_idle(ebpf, programs, probes, pid, target as u8, &mut links);
        match attached {
            Ok(()) => detach_later(links),
            Err(_) => detach(links),
        }
        attached
    }
}
