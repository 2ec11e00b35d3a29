//! Where blocks point to.

/// Edges of a part, so that adding one never copies the others.
const PART: usize = 1 << 16;
/// Marks an edge to where the block begins.
const START: u32 = 1 << 31;

/// A pointer into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// The block's number.
    pub(super) target: u32,
    /// Whether it points to where the block begins, otherwise to its middle.
    pub(super) is_start: bool,
}

/// The pointers that blocks contain, in order of the blocks.
#[derive(Default)]
pub(super) struct Edges {
    /// For each block that has been passed, where its edges begin.
    first: Vec<u32>,
    parts: Vec<Vec<u32>>,
    len: u32,
    limit: u32,
}

impl Edges {
    /// For so many blocks; `limit`: the most edges.
    pub(super) fn new(blocks: usize, limit: usize) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX - 1);
        Self { first: Vec::with_capacity(blocks), parts: Vec::new(), len: 0, limit }
    }

    /// Adds an edge of `source`; none of a later block has been added. Returns whether there was room.
    pub(super) fn add(&mut self, source: u32, edge: Edge) -> bool {
        self.pass(source);
        if self.len >= self.limit {
            return false;
        }
        if (self.len as usize).is_multiple_of(PART) {
            self.parts.push(Vec::with_capacity(PART));
        }
        if let Some(part) = self.parts.last_mut() {
            part.push(edge.target | if edge.is_start { START } else { 0 });
            self.len += 1;
        }
        true
    }

    /// Edges that follow are of `source` or later blocks.
    fn pass(&mut self, source: u32) {
        if self.first.len() <= source as usize {
            self.first.resize(source as usize + 1, self.len);
        }
    }

    /// Whether half of the room is used.
    pub(super) fn is_filling(&self) -> bool {
        self.len >= self.limit / 2
    }

    /// The edges of a block that have been added.
    pub(super) fn of(&self, block: u32) -> impl Iterator<Item = Edge> + use<'_> {
        let at = |index: usize| self.first.get(index).copied().unwrap_or(self.len);
        let (mut from, end) = (at(block as usize) as usize, at(block as usize + 1) as usize);
        std::iter::from_fn(move || {
            let part = self.parts.get(from / PART)?;
            let edges = part.get(from % PART..(from % PART + end.saturating_sub(from)).min(part.len()))?;
            from += edges.len();
            (!edges.is_empty()).then_some(edges)
        })
        .flatten()
        .map(|&edge| Edge { target: edge & !START, is_start: edge & START != 0 })
    }
}
