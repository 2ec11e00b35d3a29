//! Where blocks point to.

/// The most edges.
pub(super) const MOST: usize = u32::MAX as usize;
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

/// The pointers that blocks contain, in order of the blocks: 4 bytes for each, and half a byte for each block.
#[derive(Default)]
pub(super) struct Edges {
    /// Of the blocks that have been passed.
    groups: Vec<Group>,
    parts: Vec<Vec<u32>>,
    len: u32,
    /// The block that edges were added of last.
    source: Option<u32>,
}

impl Edges {
    /// For so many blocks.
    pub(super) fn new(blocks: usize) -> Self {
        Self { groups: Vec::with_capacity(blocks.div_ceil(GROUP)), ..Self::default() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Memory that so many blocks without edges take, in bytes.
    pub(super) const fn bytes(blocks: usize) -> usize {
        blocks.div_ceil(GROUP) * size_of::<Group>()
    }

    /// Adds an edge of `source`; none of a later block has been added. There may be [`MOST`].
    #[inline]
    pub(super) fn add(&mut self, source: u32, edge: Edge) {
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

    /// Keeps only edges between blocks that fulfil a condition.
    pub(super) fn retain(&mut self, keeps: impl Fn(u32) -> bool) {
        let (mut from, mut to) = (0, 0);
        for number in 0..self.groups.len() {
            let end = self.groups.get(number + 1).map_or(self.len(), |next| next.first as usize);
            let Some(group) = self.groups.get(number).copied() else { break };
            let mut kept = Group { first: to as u32, have: 0 };
            for place in (0..GROUP).filter(|place| group.have >> place & 1 != 0) {
                let keeps_source = keeps((number * GROUP + place) as u32);
                let mut is_first = true;
                while let Some(word) =
                    self.word(from).filter(|word| from < end && (is_first || word & FIRST == 0))
                {
                    from += 1;
                    is_first = false;
                    if !keeps_source || !keeps(word & !(START | FIRST)) {
                        continue;
                    }
                    let mark = if kept.have >> place & 1 == 0 { FIRST } else { 0 };
                    kept.have |= 1 << place;
                    if let Some(place) =
                        self.parts.get_mut(to / PART).and_then(|part| part.get_mut(to % PART))
                    {
                        *place = word & !FIRST | mark;
                    }
                    to += 1;
                }
            }
            from = end;
            if let Some(group) = self.groups.get_mut(number) {
                *group = kept;
            }
        }
        self.len = to as u32;
        self.parts.truncate(to.div_ceil(PART));
        if !to.is_multiple_of(PART)
            && let Some(last) = self.parts.last_mut()
        {
            last.truncate(to % PART);
        }
        let has_some = |source: u32| {
            let group = self.groups.get(source as usize / GROUP);
            group.is_some_and(|group| group.have >> (source as usize % GROUP) & 1 != 0)
        };
        self.source = self.source.filter(|&source| has_some(source));
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

#[cfg(test)]
mod tests {
    use super::{Edge, Edges, PART};

    /// Edges of `blocks` blocks, some of which have none: the more, the farther apart.
    fn made_up(blocks: u32) -> (Edges, Vec<(u32, Edge)>) {
        let (mut edges, mut all) = (Edges::new(blocks as usize), Vec::new());
        let mut state = 0x9e37_79b9_u32;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        for source in 0..blocks {
            for _ in 0..random() % 5 * (random() % 2) {
                let edge = Edge { target: random() % blocks, is_start: random() % 2 == 0 };
                edges.add(source, edge);
                all.push((source, edge));
            }
        }
        (edges, all)
    }

    fn listed(edges: &Edges, blocks: u32) -> Vec<(u32, Edge)> {
        (0..blocks).flat_map(|block| edges.of(block).map(move |edge| (block, edge))).collect()
    }

    #[test]
    fn what_is_kept_stays_in_its_place() {
        let blocks = 70_000;
        let (mut edges, mut all) = made_up(blocks);
        assert!(all.len() > PART);
        assert_eq!(listed(&edges, blocks), all);
        for part in [7, 3, 2, 1] {
            let keeps = |block: u32| block % part != 1 && block / 1000 % part != 1;
            edges.retain(keeps);
            all.retain(|(source, edge)| keeps(*source) && keeps(edge.target));
            assert_eq!((listed(&edges, blocks), edges.len()), (all.clone(), all.len()));
            // More may follow, of the last source too.
            for target in [3, 5, 8] {
                let source = blocks - 1;
                let edge = Edge { target, is_start: true };
                edges.add(source, edge);
                all.push((source, edge));
            }
            assert_eq!(listed(&edges, blocks), all);
        }
        edges.retain(|_| false);
        assert_eq!((listed(&edges, blocks).len(), edges.len()), (0, 0));
    }
}
