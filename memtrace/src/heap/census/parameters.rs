//! Finds `mp_`, the parameters and figures of malloc that are not an arena's.

use std::ops::Range;

use super::{
    arenas::read_all,
    layout::{ALIGNMENT, LAYOUTS, Layout, ParametersLayout, is_address},
    memory::{Kind, PAGE, Peek, Regions},
};

/// The most of it is looked through.
const LARGEST_DATA: u64 = 64 << 20;
/// The most that a thread's cache may have of a size (`MAX_TCACHE_COUNT`), and the sizes.
const MOST_CACHED: u64 = 65_535;
const MOST_SIZES: u64 = 64;

/// What `mp_` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Chunks that are mappings of their own, and their bytes.
    pub(super) mapped: u64,
    pub(super) mapped_bytes: u64,
    /// Where the main arena's memory from `brk` begins. 0: it has none.
    pub(super) sbrk_base: u64,
    /// Blocks of one size in a thread's cache at most.
    pub(super) cached_most: u64,
    /// Whether chunks of their own and heaps consist of huge pages, which changes their sizes.
    pub(super) huge_pages: bool,
}

/// What was found.
#[derive(Debug)]
pub(super) struct FoundParameters {
    pub(super) parameters: Parameters,
    /// The layouts with which they agree.
    pub(super) layouts: Vec<&'static Layout>,
}

/// Finds them in the data that the main arena is in, or right behind it. `None`: they are not there, or in two places.
pub(super) fn find<M: Peek>(memory: &mut M, regions: &Regions, data: &Range<u64>) -> Option<FoundParameters> {
    let behind = regions.at(data.end).filter(|region| region.kind != Kind::Heap);
    let ranges = [Some(data.clone()), behind.map(|region| region.range.clone())];
    let mut found: Option<FoundParameters> = None;
    for range in ranges.into_iter().flatten() {
        let range = range.start..range.end.min(range.start + LARGEST_DATA);
        let mut words = vec![0; ((range.end - range.start) / 8) as usize];
        let words = read_all(memory, range, &mut words);
        for layout in &LAYOUTS {
            if let Some(found) = &mut found
                && let Some(same) = found.layouts.first()
                && std::ptr::eq(same.parameters, layout.parameters)
            {
                found.layouts.push(layout);
                continue;
            }
            let size = (layout.parameters.size / 8) as usize;
            let is_base =
                |base| base == 0 || regions.at(base).is_some_and(|region| region.kind == Kind::Heap);
            let mut fitting = words
                .windows(size)
                .filter_map(|words| read(layout.parameters, words))
                .filter(|parameters| is_base(parameters.sbrk_base));
            let Some(parameters) = fitting.next() else { continue };
            if fitting.next().is_some() || found.is_some() {
                return None;
            }
            found = Some(FoundParameters { parameters, layouts: vec![layout] });
        }
        if found.is_some() {
            break;
        }
    }
    found
}

/// What words say, if they are `mp_` in every respect. Where the main arena has nothing from `brk`, and so less tells, only
/// if caches have the default sizes.
fn read(layout: &ParametersLayout, words: &[u64]) -> Option<Parameters> {
    let word = |offset: u64| words.get((offset / 8) as usize).copied();
    let int = |offset: u64| word(offset).map(|word| word >> (offset % 8 * 8) & 0xffff_ffff);
    let sizes = |place: u64| word(layout.sizes + place * 8);
    // The cheapest and most telling first: bins of caches, and the largest size that they have (`do_set_tcache_max`).
    let (bins, most_bytes) = (sizes(3)?, sizes(4)?);
    if bins == 0 || bins > MOST_SIZES || most_bytes > 2048 || bins_for(most_bytes) != bins {
        return None;
    }
    let cached_most = sizes(5).filter(|&count| count <= MOST_CACHED)?;
    let [mapped, _allowed, mapped_most, fixed] = [0, 4, 8, 12].map(|offset| int(layout.counts + offset));
    let (mapped, mapped_most) = (mapped?, mapped_most?);
    let (mapped_bytes, mapped_bytes_most, sbrk_base) = (sizes(0)?, sizes(1)?, sizes(2)?);
    let mut pages = layout.pages.clone().step_by(8).map_while(word);
    let is_size = |word: u64| word == 0 || (word.is_power_of_two() && word >= PAGE);
    // Counts change one after another: they may differ a little while the process runs.
    let fits = fixed? <= 1
        && mapped <= mapped_most + 64
        && mapped_bytes.is_multiple_of(PAGE)
        && mapped_bytes_most.is_multiple_of(PAGE)
        && mapped_bytes <= mapped_bytes_most.saturating_add(1 << 40)
        && (mapped_most == 0) == (mapped_bytes_most == 0)
        && if sbrk_base == 0 {
            bins == MOST_SIZES
        } else {
            is_address(sbrk_base) && sbrk_base.is_multiple_of(ALIGNMENT)
        }
        && pages.all(is_size);
    let huge = if layout.pages.is_empty() { 0 } else { word(layout.pages.end - 8)? };
    fits.then_some(Parameters { mapped, mapped_bytes, sbrk_base, cached_most, huge_pages: huge != 0 })
}

/// `csize2tidx (request2size (bytes)) + 1`.
fn bins_for(bytes: u64) -> u64 {
    let chunk = (bytes + 8 + 15) & !15;
    (chunk.max(32) - 32).div_ceil(16) + 1
}
