//! Blocks with their sizes, as a census finds them.

use super::{Blocks, Starts, census::Block};

/// Sizes are kept in units of this.
const UNIT: u64 = 8;

/// Collects blocks in one pass: mostly they come in order of address, so that a size suffices for each.
#[derive(Default)]
pub struct Collected {
    starts: Starts,
    fits: bool,
    /// The last block of those that came in order.
    last: u64,
    /// Their sizes.
    sizes: Vec<u32>,
    /// The other blocks: addresses and sizes.
    others: Vec<(u64, u64)>,
}

impl Collected {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { fits: true, ..Self::default() }
    }

    /// Adds a block. One that is there already stays as it is.
    pub fn add(&mut self, block: Block) {
        let Block { address, size } = block;
        let units = u32::try_from(size / UNIT).ok().filter(|_| size.is_multiple_of(UNIT));
        match units.filter(|_| address > self.last) {
            Some(units) => {
                self.last = address;
                self.sizes.push(units);
            }
            None if self.starts.has(address) => return,
            None => self.others.push((address, size)),
        }
        self.fits = self.fits && self.starts.add(address);
    }

    /// Whether a block that begins at `address` was added.
    #[must_use]
    pub fn has(&self, address: u64) -> bool {
        self.starts.has(address)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len() + self.others.len()
    }

    /// Numbers them. `None`: there are too many, or they are too far apart, for the memory that a scan may use.
    #[must_use]
    pub fn finish(self) -> Option<Blocks> {
        let Self { starts, fits, sizes, mut others, .. } = self;
        let mut blocks = if fits { starts.finish()? } else { return None };
        others.sort_unstable();
        let (mut sizes, mut others) = (sizes.into_iter(), others.into_iter().peekable());
        let mut is_whole = true;
        blocks.set_sizes(|start| match others.next_if(|&(address, _)| address == start) {
            Some((_, size)) => size,
            None => {
                let units = sizes.next();
                is_whole &= units.is_some();
                u64::from(units.unwrap_or(0)) * UNIT
            }
        });
        (is_whole && blocks.complete()).then_some(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Collected};

    #[test]
    fn sizes_are_those_of_their_blocks_in_any_order() {
        let all =
            [(0x9000, 24), (0x1010, 40), (0x2010, 24), (0x7f00_0000_0010, 1 << 36), (0x7f10_0000_0010, 16)];
        let late = [(0x1_0010, 200_000), (0x1800, 0), (0x3010, 13)];
        let mut collected = Collected::new();
        for (address, size) in all.into_iter().chain(late) {
            collected.add(Block { address, size });
        }
        // Seen twice: the first size counts.
        collected.add(Block { address: 0x2010, size: 4000 });
        collected.add(Block { address: 0x1010, size: 4000 });
        assert_eq!(collected.len(), 8);
        let blocks = collected.finish().unwrap();
        assert_eq!(blocks.len(), 8);
        for (address, size) in all.into_iter().chain(late) {
            let number = blocks.beginning_at(address).unwrap();
            // An empty block has one byte, so that it can be pointed to.
            assert_eq!(blocks.size(number), size.max(1), "{address:#x}");
        }
    }
}
