//! The thread that holds a target's probes: the kernel takes the target's mappings from the memory of a task.
//!
//! For a multi-uprobe that task is the main thread, for a perf uprobe the thread that it was opened with. A task that
//! has ended has no memory. A multi-uprobe then sets no more breakpoints; those in place keep firing until another
//! tracer removes a probe from the same address. A perf uprobe is deaf from then on, and removes a breakpoint that is
//! hit.
//!
//! So if the main thread has ended, multi-uprobes get anchors: perf uprobes at the same addresses, opened with a living
//! thread, whose program does nothing. They set breakpoints and keep them; the multi-uprobes fire there for every
//! thread of the process. When that thread ends too, breakpoints stay until a probe is removed there; so its anchors
//! are only closed when those of another one have been in place for a while. Without multi-uprobes, the perf uprobes
//! themselves are opened with a living thread, and reattached when it ends.

use std::num::NonZeroU32;

use crate::model::{LoaderHook, ProbeSpec, Role};

use super::{
    attach::{Link, Stage},
    detach::{detach, detach_later},
    holders::Holders,
    idle,
    programs::{Method, Name, Programs},
    tracer::Tracer,
};
use crate::bpf::shared::error::Error;

/// Which of a target's probes are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InPlace {
    /// On functions that free.
    pub frees: bool,
    /// On functions that allocate.
    pub allocations: bool,
    /// On functions that map memory.
    pub mappings: bool,
    /// On the dynamic loader.
    pub loader: bool,
}

impl InPlace {
    /// Whether a probe of that role is attached.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        match role {
            Role::Free => self.frees,
            Role::Map(_) => self.mappings,
            Role::Allocate(_) => self.allocations,
        }
    }

    /// Whether any probe that counts is attached.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.frees || self.allocations || self.mappings
    }
}

impl Tracer {
    /// Sets the thread that holds probes attached to a target from now on; `None`: the main thread.
    ///
    /// # Errors
    /// The kernel rejects the program of anchors.
    pub fn hold_by(&mut self, target: u32, thread: Option<NonZeroU32>) -> Result<(), Error> {
        match thread {
            Some(thread) => {
                Programs::load_perf(self.ebpf_mut(), &[Name::NothingEnter])?;
                self.holders.threads.insert(target, thread);
            }
            None => {
                self.holders.threads.remove(&target);
            }
        }
        self.set_holder(target, thread.map_or(0, NonZeroU32::get));
        Ok(())
    }

    /// Whether probes keep firing after the thread that holds them has ended.
    #[must_use]
    pub fn outlives_holder(&self) -> bool {
        self.method() != Method::Perf
    }

    /// The thread to attach a target's probes with, whose main thread is `main`.
    pub(super) fn task(&self, target: u32, main: NonZeroU32) -> NonZeroU32 {
        let holder = self.holders.threads.get(&target).copied();
        holder.filter(|_| !self.outlives_holder()).unwrap_or(main)
    }

    /// Anchors probes that have been attached to a target, if necessary.
    ///
    /// # Errors
    /// The kernel refused, possibly because the thread has ended.
    pub(super) fn anchor(&mut self, target: u32, probes: &[ProbeSpec]) -> Result<(), Error> {
        if let Some(thread) = self.anchoring(target) {
            let mut links = Vec::new();
            let attached = idle::attach_anchors(self.ebpf_mut(), probes, thread, target as u8, &mut links);
            self.keep_anchors(links, attached)?;
        }
        Ok(())
    }

    /// The same in the dynamic loader.
    ///
    /// # Errors
    /// As [`Tracer::anchor`].
    pub(super) fn anchor_loader(&mut self, target: u32, hook: &LoaderHook) -> Result<(), Error> {
        if let Some(thread) = self.anchoring(target) {
            let mut links = Vec::new();
            let attached =
                idle::attach_loader_anchor(self.ebpf_mut(), hook, thread, target as u8, &mut links);
            self.keep_anchors(links, attached)?;
        }
        Ok(())
    }

    /// Keeps anchors, or detaches those of an attach that failed.
    fn keep_anchors(&mut self, links: Vec<Link>, attached: Result<(), Error>) -> Result<(), Error> {
        match &attached {
            Ok(()) => self.holders.anchors.extend(links),
            Err(_) => detach(links),
        }
        attached
    }

    /// Anchors what is attached to a target with its current holder, in place of an earlier one that has ended.
    ///
    /// # Errors
    /// As [`Tracer::anchor`].
    pub fn anchor_again(
        &mut self,
        target: u32,
        probes: &[ProbeSpec],
        hook: Option<&LoaderHook>,
    ) -> Result<(), Error> {
        let earlier = self.holders.anchors.extract_if(.., |link| u32::from(link.target) == target);
        self.holders.superseded.extend(earlier);
        self.anchor(target, probes)?;
        hook.map_or(Ok(()), |hook| self.anchor_loader(target, hook))
    }

    /// Closes a target's anchors of threads that have ended. Called when its current holder is known to live.
    pub fn give_up_superseded(&mut self, target: u32) {
        let links = self.holders.superseded.extract_if(.., |link| u32::from(link.target) == target);
        detach_later(links.collect());
    }

    fn anchoring(&self, target: u32) -> Option<NonZeroU32> {
        self.holders.threads.get(&target).copied().filter(|_| self.outlives_holder())
    }

    /// Which of a target's probes are attached.
    #[must_use]
    pub fn in_place(&self, target: u32) -> InPlace {
        let mut found = InPlace::default();
        for link in self.links.iter().filter(|link| u32::from(link.target) == target) {
            match link.stage {
                Stage::Loader => found.loader = true,
                Stage::Frees => found.frees = true,
                Stage::MappingReturns | Stage::Mappings => found.mappings = true,
                Stage::Returns | Stage::Exits | Stage::Entries => found.allocations = true,
            }
        }
        found
    }

    /// Detaches every probe of a target, and waits until none fires any more.
    pub fn release_at_once(&mut self, target: u32) {
        detach(self.take_links(|link| u32::from(link.target) == target));
    }

    /// Removes links from the lists, including anchors.
    pub(super) fn take_links(&mut self, which: impl Fn(&Link) -> bool) -> Vec<Link> {
        let Holders { anchors, superseded, .. } = &mut self.holders;
        [&mut self.links, anchors, superseded]
            .into_iter()
            .flat_map(|links| links.extract_if(.., |link| which(link)))
            .collect()
    }
}
