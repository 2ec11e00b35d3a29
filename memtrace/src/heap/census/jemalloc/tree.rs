//! Finds the tree that leads from addresses to extents, `rtree_t`, without symbols: in the data of a program or library, 2 MiB
//! that are zero but for addresses of leaves, whose entries describe just the memory that they are for.

use std::ops::Range;

use super::{
    super::{
        arenas::read_all,
        memory::{Kind, PAGE, Peek, Regions},
    },
    extents::Extents,
    layout::{ENTRIES, LAYOUTS, LEAF_SPAN, Layout, NODE, PAGE_BITS},
};

/// Data that is looked through: of one file, without its bss; bss that follows; present pages in all.
const LARGEST_DATA: u64 = 64 << 20;
const LARGEST_BSS: u64 = 1 << 30;
const DATA_IN_ALL: u64 = 1 << 30;
/// Words read at a time.
const PART: usize = 1 << 15;
/// Words that may be addresses of leaves, of one file.
const MOST_POINTERS: usize = 1 << 16;
/// Parts of the address space that may be described by a leaf: 4 TiB.
const MOST_LEAVES: usize = 1 << 12;
/// Places that may be a root: in sum, and that are looked at closely.
const MOST_PLACES: u32 = 1 << 22;
const MOST_CANDIDATES: u32 = 64;
/// Entries of each leaf by which a layout is found.
const SAMPLED: usize = 4096;
/// Entries of each leaf by which another layout is told, and how many must fit.
const SIMILAR: usize = 256;
const LEAST_SIMILAR: usize = 4;

/// A tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    /// Numbers and addresses of leaves, in order of what they describe.
    pub(super) leaves: Vec<(u64, u64)>,
}

/// What was found.
pub(super) enum Found {
    /// Nothing that looks like a tree.
    Nothing,
    /// A tree of another layout, maybe.
    Unknown,
    /// A tree, its layout, and how many others there are.
    Tree(Tree, &'static Layout, u64),
}

/// Finds the tree with the most blocks.
pub(super) fn find<M: Peek>(memory: &mut M, regions: &Regions) -> Found {
    let parts = address_parts(regions);
    let (mut best, mut number, mut is_any) = (None, 0, false);
    let (mut bytes, mut candidates, mut places) = (0, 0, 0);
    for area in areas(regions) {
        if area.end - area.start < NODE {
            continue;
        }
        let words = Words::read(memory, regions, &area, &mut bytes);
        for root in words.roots(&area, &parts, &mut places) {
            candidates += 1;
            if candidates > MOST_CANDIDATES {
                break;
            }
            let tree = words.tree(root);
            let Some((layout, slabs)) = layout(memory, regions, &tree) else {
                is_any |= is_similar(memory, &tree);
                continue;
            };
            number += 1;
            if best.as_ref().is_none_or(|&(_, _, most)| slabs > most) {
                best = Some((tree, layout, slabs));
            }
        }
    }
    match best {
        Some((tree, layout, _)) => Found::Tree(tree, layout, number - 1),
        None if is_any => Found::Unknown,
        None => Found::Nothing,
    }
}

/// The layout in which the extents of a tree make sense, and how many slabs were looked at.
fn layout<M: Peek>(memory: &mut M, regions: &Regions, tree: &Tree) -> Option<(&'static Layout, u64)> {
    let fitting = LAYOUTS.iter().filter_map(|layout| {
        let extents = Extents::read(memory, regions, tree, layout, SAMPLED).ok()?;
        let fits = extents.slabs > 0 && extents.wrong <= extents.all.len() / 2;
        fits.then_some((layout, extents.slabs, extents.wrong))
    });
    let (layout, slabs, _) = fitting.min_by_key(|&(_, _, wrong)| wrong)?;
    Some((layout, slabs))
}

/// Whether a tree leads to what describes the memory that it leads from: any release of jemalloc's has that address in the second
/// word.
fn is_similar<M: Peek>(memory: &mut M, tree: &Tree) -> bool {
    let mut entries = vec![0; ENTRIES];
    let (mut similar, mut looked_at) = (0, 0);
    for &(number, leaf) in &tree.leaves {
        entries.fill(0);
        read_all(memory, leaf..leaf + NODE, &mut entries);
        for (place, &entry) in (0u64..).zip(&entries).filter(|(_, entry)| **entry != 0).take(SIMILAR) {
            let mut words = [0; 2];
            let address = entry & 0xffff_ffff_ffc0;
            let read = memory.read_anew(address, &mut words);
            let page = number * LEAF_SPAN + (place << PAGE_BITS);
            similar += usize::from(read == 2 && words[1] & !(PAGE - 1) == page);
            looked_at += 1;
        }
    }
    similar >= LEAST_SIMILAR && similar * 8 > looked_at
}

/// The parts of the address space that blocks may be in, by number, in order.
fn address_parts(regions: &Regions) -> Vec<u64> {
    let mut parts: Vec<u64> = Vec::new();
    for region in regions.all() {
        if region.kind == Kind::File {
            continue;
        }
        let first = (region.range.start / LEAF_SPAN).max(parts.last().map_or(0, |last| last + 1));
        let last = (region.range.end - 1) / LEAF_SPAN;
        let room = MOST_LEAVES.saturating_sub(parts.len());
        parts.extend((first..=last).take(room));
    }
    parts
}

/// Data of files with their bss.
fn areas(regions: &Regions) -> Vec<Range<u64>> {
    let mut areas: Vec<Range<u64>> = Vec::new();
    // Whether the last one may go on, and up to where.
    let mut until = 0;
    for region in regions.all() {
        let Range { start, end } = region.range.clone();
        let follows = areas.last().is_some_and(|area| area.end == start) && start < until;
        match areas.last_mut() {
            Some(area) if follows && region.kind == Kind::File => {
                area.end = end.min(area.start + LARGEST_DATA);
                until = area.end + LARGEST_BSS;
            }
            Some(area) if follows => {
                area.end = end.min(until);
                until = 0;
            }
            _ if region.kind == Kind::File => {
                areas.push(start..end.min(start + LARGEST_DATA));
                until = end + LARGEST_BSS;
            }
            _ => until = 0,
        }
    }
    areas
}

/// The words of an area that are not zero.
struct Words {
    /// Those that may be addresses of leaves: where, and what; in order.
    pointers: Vec<(u64, u64)>,
    /// Where the others are, in order: of a page the first and the last one.
    others: Vec<u64>,
}

impl Words {
    fn read<M: Peek>(memory: &mut M, regions: &Regions, area: &Range<u64>, bytes: &mut u64) -> Self {
        let (mut pointers, mut others) = (Vec::new(), Vec::new());
        let mut words = vec![0; PART];
        let mut from = area.start;
        while let Some(run) = memory.present(from..area.end) {
            let mut at = run.start.max(from);
            from = run.end.max(from + PAGE);
            while at < run.end && *bytes < DATA_IN_ALL {
                let count = ((run.end - at) / 8).min(PART as u64) as usize;
                let part = words.get_mut(..count).unwrap_or_default();
                let read = memory.read(at, part).min(count);
                for (place, &word) in (0u64..).zip(part.iter().take(read)).filter(|(_, word)| **word != 0) {
                    let place = at + place * 8;
                    if pointers.len() < MOST_POINTERS && is_leaf(regions, word) {
                        pointers.push((place, word));
                        continue;
                    }
                    // The first and the last one of a page tell enough.
                    let is_third = others.len() > 1
                        && others.iter().rev().take(2).all(|other| other / PAGE == place / PAGE);
                    match others.last_mut() {
                        Some(last) if is_third => *last = place,
                        _ => others.push(place),
                    }
                }
                *bytes += count as u64 * 8;
                at += count.max(1) as u64 * 8;
            }
        }
        Self { pointers, others }
    }

    /// Where the root of a tree may be.
    fn roots(&self, area: &Range<u64>, parts: &[u64], places: &mut u32) -> Vec<u64> {
        let mut roots = Vec::new();
        for &(at, _) in &self.pointers {
            let next = self.others.partition_point(|&other| other <= at);
            let before = next.checked_sub(1).and_then(|place| self.others.get(place));
            let start = before.map_or(area.start, |before| before + 8);
            let end = self.others.get(next).map_or(area.end, |&next| next);
            if end - start < NODE {
                continue;
            }
            for part in parts {
                *places += 1;
                if *places > MOST_PLACES {
                    return roots;
                }
                let root = at.checked_sub(part * 8).filter(|&root| root >= start && root + NODE <= end);
                roots.extend(root);
            }
        }
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// The tree with this root.
    fn tree(&self, root: u64) -> Tree {
        let first = self.pointers.partition_point(|&(at, _)| at < root);
        let leaves = self.pointers.iter().skip(first).take_while(|&&(at, _)| at < root + NODE);
        let leaves = leaves.map(|&(at, leaf)| ((at - root) / 8, leaf));
        Tree { leaves: leaves.take(MOST_LEAVES).collect() }
    }
}

/// Whether a word may be the address of a leaf.
fn is_leaf(regions: &Regions, word: u64) -> bool {
    word.is_multiple_of(64)
        && regions.at(word).is_some_and(|region| region.kind != Kind::File && word + NODE <= region.range.end)
}
