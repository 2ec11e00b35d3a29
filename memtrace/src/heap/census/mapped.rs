//! Blocks that are mappings of their own: nothing leads to them, so their headers are looked for at the beginnings of pages.
//! Where the program asked for an alignment, that header is still there, and the one in use is further behind.

use std::ops::Range;

use super::{
    figures::{Amount, Block},
    layout::{FLAGS, HEADER, IS_MMAPPED, LEAST_CHUNK},
    memory::{Kind, PAGE, Peek, Regions},
    parameters::Parameters,
    window::Window,
};

/// Bytes that are looked through at most: other memory may be without limit.
const MOST: u64 = 16 << 30;
/// Alignments that a program may have asked for, as powers of 2. With them a chunk begins 32 bytes or more from the beginning of
/// its mapping (`_int_memalign`).
const MIN_ALIGNMENT: u32 = 5;
const MAX_ALIGNMENT: u32 = 32;

/// Visits the chunks found, up to as many as there are. `covered`: memory in which there are none, in order.
pub(super) fn find<M: Peek>(
    memory: &mut M,
    window: &mut Window,
    regions: &Regions,
    covered: &[Range<u64>],
    parameters: &Parameters,
    visit: &mut impl FnMut(Block),
) -> Amount {
    let mut found = Amount::default();
    let mut left = MOST;
    window.clear();
    for region in regions.of(Kind::Anonymous) {
        let mut at = region.range.start;
        while let Some(run) = memory.present(at..region.range.end) {
            let mut page = run.start.max(at) & !(PAGE - 1);
            while page < run.end {
                let is_all = found.blocks == parameters.mapped && found.bytes == parameters.mapped_bytes;
                if is_all || left == 0 {
                    return found;
                }
                let place = covered.partition_point(|range| range.end <= page);
                if let Some(range) = covered.get(place).filter(|range| range.contains(&page)) {
                    page = range.end;
                    continue;
                }
                left = left.saturating_sub(PAGE);
                let Some(chunk) = in_page(memory, window, page, &region.range, run.end) else {
                    page += PAGE;
                    continue;
                };
                found.add(chunk.end - chunk.mapping);
                visit(Block { address: chunk.address + HEADER, size: chunk.end - chunk.address - HEADER });
                page = chunk.end.max(page + PAGE);
            }
            at = page.max(at + PAGE);
            if at >= region.range.end {
                break;
            }
        }
    }
    found
}

/// A chunk that is a mapping.
struct Mapping {
    /// Where the mapping begins.
    mapping: u64,
    /// Where the chunk begins.
    address: u64,
    /// Where both end.
    end: u64,
}

/// The chunk whose mapping begins with a page.
fn in_page<M: Peek>(
    memory: &mut M,
    window: &mut Window,
    page: u64,
    region: &Range<u64>,
    end: u64,
) -> Option<Mapping> {
    let [lead, word]: [u64; 2] = window.load(memory, page, end)?;
    if lead != 0 || word & FLAGS != IS_MMAPPED || word < PAGE || !(word & !FLAGS).is_multiple_of(PAGE) {
        return None;
    }
    let is_end = |end: &u64| end.is_multiple_of(PAGE) && *end <= region.end;
    // The mapping may have been moved and be larger or smaller since.
    (MIN_ALIGNMENT..=MAX_ALIGNMENT)
        .find_map(|alignment| {
            let user = (page + LEAST_CHUNK + HEADER).next_multiple_of(1 << alignment);
            let address = user - HEADER;
            if address + HEADER > region.end {
                return None;
            }
            let [lead, word] = window.get(address).or_else(|| {
                let mut words = [0; 2];
                (memory.read(address, &mut words) == 2).then_some(words)
            })?;
            let end = address.checked_add(word & !FLAGS).filter(is_end)?;
            let is_chunk = word & FLAGS == IS_MMAPPED && lead == address - page && end > user;
            is_chunk.then_some(Mapping { mapping: page, address, end })
        })
        .or_else(|| {
            let end = page.checked_add(word & !FLAGS).filter(is_end)?;
            Some(Mapping { mapping: page, address: page, end })
        })
}
