//! Unwind rows and modules, as the programs' walks search them.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd as _, OwnedFd},
};

use memtrace_common::{MAX_TARGETS, Module, ModuleList, Row, Target, cache};
use rustc_hash::FxHashMap;

use crate::bpf::shared::mapped::{self, Mapped};

/// Modules that all targets' lists can have together.
pub(super) const MODULES: u32 = 1 << 13;

/// Writes what walks read. A list of modules is written beside the one in use and then becomes it by one word.
pub(super) struct UnwindTables {
    pub(super) rows: OwnedFd,
    pub(super) row_capacity: u32,
    pub(super) modules: OwnedFd,
    pub(super) cache: OwnedFd,
    pub(super) cached_targets: u32,
    pub(super) targets: Mapped<Target>,
    next_row: u32,
    lists: FxHashMap<u32, List>,
}

/// Where a target's list is, and where the one before it was: a walk may still be in that.
#[derive(Clone, Debug, Default)]
struct List {
    current: Range<u32>,
    previous: Range<u32>,
    epoch: u16,
    modules: Vec<Module>,
}

impl UnwindTables {
    pub(super) fn new(
        rows: (OwnedFd, u32),
        modules: OwnedFd,
        cache: (OwnedFd, u32),
        targets: Mapped<Target>,
    ) -> Self {
        Self {
            rows: rows.0,
            row_capacity: rows.1,
            modules,
            cache: cache.0,
            cached_targets: cache.1,
            targets,
            next_row: 0,
            lists: FxHashMap::default(),
        }
    }

    /// Stores a file's rows; where they begin. `None` when there is no room.
    pub(super) fn add_rows(&mut self, rows: &[Row]) -> io::Result<Option<u32>> {
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        if count > self.row_capacity - self.next_row {
            return Ok(None);
        }
        let first = self.next_row;
        mapped::write(self.rows.as_fd(), first as usize, rows)?;
        self.next_row += count;
        Ok(Some(first))
    }

    fn target(&self, index: u32) -> Option<*mut Target> {
        self.targets.pointer(index as usize).map(<*const Target>::cast_mut)
    }

    /// Says where a target's dynamic loader keeps what it is doing.
    pub(super) fn set_loader_state(&self, target: u32, address: u64) {
        if let Some(entry) = self.target(target) {
            // SAFETY: points to a mapped element; programs write this word in `execve` only.
            unsafe { (&raw mut (*entry).loader_state).write_volatile(address) };
        }
    }

    /// Says where in a target libraries come and go.
    pub(super) fn set_unstable(&self, target: u32, range: &Range<u64>) {
        if let Some(entry) = self.target(target) {
            // SAFETY: points to a mapped element; programs only read these words. A walk that sees one of them late takes
            // too much for unstable: the range only grows.
            unsafe {
                (&raw mut (*entry).unstable_begin).write_volatile(range.start);
                (&raw mut (*entry).unstable_end).write_volatile(range.end);
            }
        }
    }

    /// Says which allocations of a target are counted.
    pub(super) fn set_sampling(&self, target: u32, sampling: u32) {
        if let Some(entry) = self.target(target) {
            // SAFETY: points to a mapped element; programs only read this word.
            unsafe { (&raw mut (*entry).sampling).write_volatile(sampling) };
        }
    }

    /// Says which thread a target's probes go by; 0: the main one.
    pub(super) fn set_holder(&self, target: u32, thread: u32) {
        if let Some(entry) = self.target(target) {
            // SAFETY: as above.
            unsafe { (&raw mut (*entry).holder).write_volatile(thread) };
        }
    }

    /// Counts a window of a target.
    pub(super) fn begin_window(&self, target: u32) {
        if let Some(entry) = self.target(target) {
            // SAFETY: as above.
            unsafe {
                let window = (&raw const (*entry).window).read_volatile();
                (&raw mut (*entry).window).write_volatile(window.wrapping_add(1));
            }
        }
    }

    /// How often a target called `execve`.
    pub(super) fn generation(&self, target: u32) -> u32 {
        // SAFETY: points to a mapped element.
        self.target(target).map_or(0, |entry| unsafe { (&raw const (*entry).generation).read_volatile() })
    }

    /// A count that changes when a target unloads libraries.
    pub(super) fn unloaded(&self, target: u32) -> u64 {
        // SAFETY: points to a mapped element.
        self.target(target).map_or(0, |entry| unsafe { (&raw const (*entry).unloaded).read_volatile() })
    }

    /// Lets walks go on, now that `modules` are those of a time when the count of unloadings was `unloaded`. If
    /// it has changed since, they stay stopped.
    fn freshen(&self, entry: *mut Target, unloaded: u64) {
        // SAFETY: points to a mapped element. Programs set `stale` after they have changed `unloaded`; so whatever comes
        // between these writes is seen by the last read, or will set `stale` afterwards.
        unsafe {
            (&raw mut (*entry).unloaded_seen).write_volatile(unloaded);
            (&raw mut (*entry).stale).write_volatile(0);
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            if (&raw const (*entry).unloaded).read_volatile() != unloaded {
                (&raw mut (*entry).stale).write_volatile(1);
            }
        }
    }

    /// Makes `modules`, in order of address, the list of a target, unless it is that already. Returns how many found
    /// no room.
    pub(super) fn set_modules(
        &mut self,
        target: u32,
        modules: &[Module],
        unloaded: u64,
    ) -> io::Result<usize> {
        if target >= MAX_TARGETS {
            return Ok(modules.len());
        }
        let known = self.lists.get(&target).cloned().unwrap_or_default();
        // After `execve` the programs have no list, whatever the agent wrote before.
        // SAFETY: points to a mapped element.
        let listed = self
            .target(target)
            .is_some_and(|entry| unsafe { (&raw const (*entry).modules).read_volatile() } != 0);
        if listed
            && known.modules == modules
            && let Some(entry) = self.target(target)
        {
            self.freshen(entry, unloaded);
            return Ok(0);
        }
        let most = modules.len().min(usize::from(u16::MAX)) as u32;
        let place = self.gap(most);
        let placed = modules.get(..(place.end - place.start) as usize).unwrap_or(modules);
        mapped::write(self.modules.as_fd(), place.start as usize, placed)?;
        let epoch = known.epoch.wrapping_add(1);
        let list = ModuleList::new(place.start, placed.len() as u16, epoch);
        if target < self.cached_targets {
            let part = vec![0u64; cache::SIZE as usize];
            mapped::write(self.cache.as_fd(), (target * cache::SIZE) as usize, &part)?;
        }
        if let Some(entry) = self.target(target) {
            // SAFETY: points to a mapped element; programs write this word in `execve` only.
            unsafe { (&raw mut (*entry).modules).write_volatile(list.0) };
            self.freshen(entry, unloaded);
        }
        let left_out = modules.len() - placed.len();
        let modules = placed.to_vec();
        self.lists.insert(target, List { current: place, previous: known.current, epoch, modules });
        Ok(left_out)
    }

    /// The first free range of `count` places, or the largest one there is.
    fn gap(&self, count: u32) -> Range<u32> {
        let mut taken: Vec<&Range<u32>> = self
            .lists
            .values()
            .flat_map(|list| [&list.current, &list.previous])
            .filter(|range| !range.is_empty())
            .collect();
        taken.sort_by_key(|range| range.start);
        let end = MODULES..MODULES;
        let mut free = 0;
        let mut largest = 0..0;
        for range in taken.into_iter().chain([&end]) {
            if range.start.saturating_sub(free) >= count {
                return free..free + count;
            }
            if range.start.saturating_sub(free) > largest.end - largest.start {
                largest = free..range.start;
            }
            free = free.max(range.end);
        }
        largest
    }
}
