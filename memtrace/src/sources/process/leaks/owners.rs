//! Who holds the blocks of stacks that grow, though nothing is lost.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{
    heap::{Marked, Via},
    model::ThreadRegisters,
    profile::{Holder, Root},
    symbolize::demangled,
    target::{FileStore, Modules, memory::Region, roots::RootNames},
};

/// Blocks of a stack that are looked at.
const BLOCKS: usize = 512;
/// Holders that are listed for a stack.
const SHOWN: usize = 3;
/// A holder of a smaller part of the blocks is not listed.
const LEAST: f64 = 0.05;

/// The blocks of some stacks, as many as are looked at.
pub(in crate::sources::process) struct Sampled {
    blocks: FxHashMap<u32, Vec<u32>>,
}

impl Sampled {
    /// Of stacks with these slots.
    pub(in crate::sources::process) fn new(slots: &[u32]) -> Self {
        Self { blocks: slots.iter().map(|&slot| (slot, Vec::new())).collect() }
    }

    /// A reachable block with that number, of the stack with that slot.
    pub(in crate::sources::process) fn add(&mut self, slot: u32, block: u32) {
        if let Some(blocks) = self.blocks.get_mut(&slot).filter(|blocks| blocks.len() < BLOCKS) {
            blocks.push(block);
        }
    }
}

/// The name of a variable as it stands in its source: demangled, without the tags of its ABI (`[abi:cxx11]`).
pub(in crate::sources::process) fn readable(mangled: &str) -> String {
    let name = demangled(mangled);
    match name.split_once("[abi:") {
        Some((before, after)) => format!("{before}{}", after.split_once(']').map_or("", |(_, after)| after)),
        None => name,
    }
}

/// What a scan was given besides memory: where words come from.
pub(in crate::sources::process) struct Words {
    /// For each thread, how many of its words came first.
    pub(in crate::sources::process) threads: Vec<ThreadRegisters>,
    /// How many words of epoll follow; the rest are of timers.
    pub(in crate::sources::process) epoll: usize,
}

impl Words {
    /// The root that the word at that place belongs to.
    pub(in crate::sources::process) fn root(&self, place: usize, names: &RootNames) -> Root {
        let mut before = 0;
        for thread in &self.threads {
            before += thread.words.len();
            if place < before {
                return names.register(thread.tid);
            }
        }
        if place < before + self.epoll { Root::Epoll } else { Root::Timer }
    }
}

/// Names the holders of the blocks sampled, by slot of the stack. Reads symbols of the process's files.
pub(in crate::sources::process) fn holders(
    pid: u32,
    sampled: &Sampled,
    marked: &Marked,
    words: &Words,
    regions: Vec<Region>,
    files: &Arc<FileStore>,
) -> FxHashMap<u32, Vec<Holder>> {
    let has_some = sampled.blocks.values().any(|blocks| !blocks.is_empty());
    let Some(modules) = Modules::read(pid, files).ok().filter(|_| has_some) else {
        return FxHashMap::default();
    };
    let names = RootNames::new(pid, &modules, regions, &words.threads);
    let mut known: FxHashMap<Via, Root> = FxHashMap::default();
    let mut name = |via: Via| {
        let root = known.entry(via).or_insert_with(|| match via {
            Via::Memory(address) => names.name(address).whole().rename(readable),
            Via::Word(place) => words.root(place, &names),
        });
        root.clone()
    };
    let mut of = |blocks: &Vec<u32>| {
        let mut found: FxHashMap<Root, (u32, u64)> = FxHashMap::default();
        for path in blocks.iter().filter_map(|&block| marked.path(block)) {
            let (number, steps) = found.entry(name(path.root)).or_default();
            *number += 1;
            *steps += u64::from(path.steps);
        }
        let looked_at = blocks.len() as u32;
        let mut holders: Vec<Holder> = found
            .into_iter()
            .map(|(root, (number, steps))| Holder {
                root,
                // The mean way, to the next step.
                steps: ((steps + u64::from(number) / 2) / u64::from(number.max(1))) as u32,
                share: f64::from(number) / f64::from(looked_at.max(1)),
                looked_at,
            })
            .filter(|holder| holder.share >= LEAST)
            .collect();
        holders.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.root.cmp(&b.root)));
        holders.truncate(SHOWN);
        holders
    };
    sampled.blocks.iter().map(|(&slot, blocks)| (slot, of(blocks))).collect()
}
