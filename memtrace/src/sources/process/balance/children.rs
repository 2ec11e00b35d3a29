//! Children of a target that are not traced.

use rustc_hash::FxHashMap;

use crate::{
    profile::{Balance, Child},
    target::{threads, usage},
};

/// Children whose memory is looked at.
const MAX_LOOKED_AT: usize = 256;
/// Children that a report has.
const SHOWN: usize = 8;

/// What is known of children.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// The resident set of each when it was first seen, by pid.
    first: FxHashMap<u32, u64>,
    now: Vec<Child>,
    found: u64,
}

impl Children {
    /// Looks at the children of process `pid`, except those that are traced.
    pub(super) fn look(&mut self, pid: u32, traced: &[u32]) {
        let mut pids = usage::children(pid);
        pids.retain(|child| !traced.contains(child));
        self.found = pids.len() as u64;
        pids.truncate(MAX_LOOKED_AT);
        self.first.retain(|known, _| pids.contains(known));
        self.now.clear();
        for child in pids {
            let Some(memory) = usage::Usage::read(child) else { continue };
            let rss = memory.anon.saturating_add(memory.file).saturating_add(memory.shmem);
            let first = *self.first.entry(child).or_insert(rss);
            let grown = i64::try_from(rss).unwrap_or(i64::MAX).saturating_sub_unsigned(first);
            let comm = threads::name(child, child).unwrap_or_default();
            self.now.push(Child { pid: child, comm, rss, grown });
        }
        self.now.sort_by_key(|child| (std::cmp::Reverse(child.grown), child.pid));
    }

    /// Adds them to a balance, except those that are traced by now: the process may have exited since.
    pub(super) fn put(&self, balance: &mut Balance, traced: &[u32]) {
        let untraced = |child: &&Child| !traced.contains(&child.pid);
        let joined = self.now.iter().filter(|child| traced.contains(&child.pid)).count();
        let now = || self.now.iter().filter(untraced);
        balance.children_grown = now().fold(0, |sum, child| sum.saturating_add(child.grown));
        balance.children = now().take(SHOWN).cloned().collect();
        balance.children_found = self.found.saturating_sub(joined as u64);
    }
}
