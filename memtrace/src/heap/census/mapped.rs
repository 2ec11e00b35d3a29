//! Blocks that are mappings of their own: nothing leads to them, so their headers are looked for at the beginnings of pages.

use std::ops::Range;

use super::{
    figures::{Amount, Block},
    layout::{FLAGS, HEADER, IS_MMAPPED},
    memory::{Kind, PAGE, Peek, Regions},
    parameters::Parameters,
    window::Window,
};

/// Where in a page the header of such a chunk may be: at its beginning, or 16 bytes before an alignment that the program asked
/// for, 32 bytes or more from the beginning of the mapping (`_int_memalign`).
const PLACES: [u64; 8] = [0, 48, 112, 240, 496, 1008, 2032, 4080];
/// Bytes that are looked through at most: other memory may be without limit.
const MOST: u64 = 16 << 30;

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

/// The chunk whose header is in a page.
fn in_page<M: Peek>(
    memory: &mut M,
    window: &mut Window,
    page: u64,
    region: &Range<u64>,
    end: u64,
) -> Option<Mapping> {
    PLACES.iter().find_map(|place| {
        let address = page + place;
        let [lead, word]: [u64; 2] = window.load(memory, address, end)?;
        let size = word & !FLAGS;
        let mapping = address.checked_sub(lead)?;
        let end = address.checked_add(size)?;
        let is_chunk = word & FLAGS == IS_MMAPPED
            && (lead == 0) == (*place == 0)
            && size > HEADER
            && mapping.is_multiple_of(PAGE)
            && end.is_multiple_of(PAGE)
            && mapping >= region.start
            && end <= region.end;
        is_chunk.then_some(Mapping { mapping, address, end })
    })
}
