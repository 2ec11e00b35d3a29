//! Where blocks point to.

/// Edges of a part, so that adding one never copies the others.
const PART: usize = 1 << 16;
/// Marks an edge to where the block begins.
const START: u32 = 1 << 31;
/// Marks the first edge of its source.
const FIRST: u32 = 1 << 30;
/// So many blocks share an index.
const GROUP: usize = u16::BITS as usize;

/// A pointer into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// The block's number.
    pub(super) target: u32,
    /// Whether it points to where the block begins, otherwise to its middle.
    pub(super) is_start: bool,
}

/// Sixteen blocks.
#[derive(Clone, Copy)]
struct Group {
    /// Where their edges begin.
    first: u32,
    /// Which of them have edges: a bit for each.
    have: u16,
}

/// Where the edges of a block are.
#[derive(Default)]
pub(super) struct Cursor {
    group: Option<usize>,
    place: usize,
    at: usize,
}

/// The pointers that blocks contain, in order of the blocks: 4 bytes for each, and one for each block.
#[derive(Default)]
pub(super) struct Edges {
    /// Of the blocks that have been passed.
    groups: Vec<Group>,
    parts: Vec<Vec<u32>>,
    len: u32,
    limit: u32,
    /// The block that edges were added of last.
    source: Option<u32>,
}

impl Edges {
    /// For so many blocks; `limit`: the most edges.
    pub(super) fn new(blocks: usize, limit: usize) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX - 1);
        Self { groups: Vec::with_capacity(blocks.div_ceil(GROUP)), limit, ..Self::default() }
    }

    /// Memory that so many blocks without edges take, in bytes.
    pub(super) const fn bytes(blocks: usize) -> usize {
        blocks.div_ceil(GROUP) * size_of::<Group>()
    }

    /// Adds an edge of `source`; none of a later block has been added. Returns whether there was room.
    #[inline]
    pub(super) fn add(&mut self, source: u32, edge: Edge) -> bool {
        if self.len >= self.limit {
            return false;
        }
        let mut word = edge.target | if edge.is_start { START } else { 0 };
        if self.source != Some(source) {
            self.begin(source);
            word |= FIRST;
        }
        if (self.len as usize).is_multiple_of(PART) {
            self.parts.push(Vec::with_capacity(PART));
        }
        if let Some(part) = self.parts.last_mut() {
            part.push(word);
            self.len += 1;
        }
        true
    }

    /// Edges that follow are of `source`.
    fn begin(&mut self, source: u32) {
        self.source = Some(source);
        let group = source as usize / GROUP;
        if self.groups.len() <= group {
            self.groups.resize(group + 1, Group { first: self.len, have: 0 });
        }
        if let Some(group) = self.groups.get_mut(group) {
            group.have |= 1 << (source as usize % GROUP);
        }
    }

    /// Whether half of the room is used.
    pub(super) fn is_filling(&self) -> bool {
        self.len >= self.limit / 2
    }

    /// The edges of a block that have been added.
    pub(super) fn of(&self, block: u32) -> impl Iterator<Item = Edge> + use<'_> {
        self.behind(block, &mut Cursor::default())
    }

    /// The same; `cursor`: where the edges of the last block were. Quicker where blocks follow in order.
    #[inline]
    pub(super) fn behind(&self, block: u32, cursor: &mut Cursor) -> impl Iterator<Item = Edge> + use<'_> {
        let number = block as usize / GROUP;
        let group = self.groups.get(number).copied().unwrap_or(Group { first: 0, have: 0 });
        let place = block as usize % GROUP;
        let before = (1 << place) - 1;
        let mut at = group.first as usize;
        let mut word = None;
        if group.have >> place & 1 != 0 {
            // Those of each block before it in the group that has any begin with a marked one.
            let mut passed = group.have & before;
            if cursor.group == Some(number) && cursor.place < place {
                at = cursor.at;
                passed &= !((1 << cursor.place) - 1);
            }
            word = self.word(at);
            for _ in 0..passed.count_ones() {
                at += 1;
                while self.word(at).is_some_and(|word| word & FIRST == 0) {
                    at += 1;
                }
                word = self.word(at);
            }
            *cursor = Cursor { group: Some(number), place, at };
        }
        std::iter::from_fn(move || {
            let edge = word?;
            at += 1;
            word = self.word(at).filter(|word| word & FIRST == 0);
            Some(Edge { target: edge & !(START | FIRST), is_start: edge & START != 0 })
        })
    }

    #[inline]
    fn word(&self, at: usize) -> Option<u32> {
        self.parts.get(at / PART)?.get(at % PART).copied()
    }
}
