//! The rows of a view as a tree of functions, for flame graphs. Below the root are the verdicts, if there are any, so that
//! a node has one verdict.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::names::shorten;
use super::stacks::path;
use super::{escape, verdicts};
use crate::profile::{Amount, Kind, Verdict, View};

/// Characters of a name.
const NAME: usize = 160;

/// A function below its callers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: usize,
    /// Its caller, which comes before it. The root is its own.
    pub(super) parent: usize,
    /// What it and all that it called hold.
    pub(super) amount: Amount,
    /// The verdict on that; `None` for the root, and where there are no verdicts.
    pub(super) kind: Option<Kind>,
    /// Callers between it and the root.
    pub(super) depth: usize,
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Flame {
    /// Names, escaped for terminals.
    pub(super) names: Vec<String>,
    /// Nodes: the root first, callers before what they call, and of one caller in the order of verdicts and bytes.
    pub(super) nodes: Vec<Node>,
}

impl Flame {
    /// Of all rows that are shown.
    pub(super) fn of(view: &View<'_>) -> Self {
        let mut builder = Builder::default();
        let root = builder.child(None, "all");
        let has_verdicts = view.rows().any(|row| row.verdict.is_some());
        for row in view.rows() {
            let mut at = root;
            builder.add(at, row.outstanding);
            if has_verdicts {
                let kind = row.verdict.as_deref().map(Verdict::kind);
                at = builder.child(Some((at, kind)), kind.map_or("no verdict", verdicts::name));
                builder.add(at, row.outstanding);
            }
            for name in path(view, row) {
                let kind = builder.kind(at);
                at = builder.child(Some((at, kind)), &escape(&shorten(&name, NAME)));
                builder.add(at, row.outstanding);
            }
        }
        builder.sorted()
    }
}

/// A tree that grows. Nodes are in the order in which they were found.
#[derive(Default)]
struct Builder {
    flame: Flame,
    names: FxHashMap<String, usize>,
    children: FxHashMap<(usize, usize), usize>,
}

impl Builder {
    /// The child of this name. The root has no parent.
    fn child(&mut self, parent: Option<(usize, Option<Kind>)>, name: &str) -> usize {
        let name = match self.names.get(name) {
            Some(&known) => known,
            None => {
                let number = self.flame.names.len();
                self.flame.names.push(name.to_owned());
                self.names.insert(name.to_owned(), number);
                number
            }
        };
        let place = self.flame.nodes.len();
        let (parent, kind) = parent.unwrap_or((place, None));
        let found = *self.children.entry((parent, name)).or_insert(place);
        if found == place {
            let depth = self.flame.nodes.get(parent).map_or(0, |node| node.depth + 1);
            self.flame.nodes.push(Node { name, parent, amount: Amount::default(), kind, depth });
        }
        found
    }

    fn add(&mut self, place: usize, amount: Amount) {
        if let Some(node) = self.flame.nodes.get_mut(place) {
            node.amount = node.amount.plus(amount);
        }
    }

    fn kind(&self, place: usize) -> Option<Kind> {
        self.flame.nodes.get(place).and_then(|node| node.kind)
    }

    /// The tree in its final order.
    fn sorted(self) -> Flame {
        let Flame { names, nodes } = self.flame;
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        // Callers have a smaller depth.
        order.sort_by_key(|&place| {
            nodes.get(place).map(|node| {
                let verdict = (node.depth == 1).then_some(node.kind).flatten();
                (node.depth, verdict, Reverse((node.amount.bytes, node.amount.blocks)), names.get(node.name))
            })
        });
        let mut places = vec![0; nodes.len()];
        for (now, &before) in order.iter().enumerate() {
            if let Some(place) = places.get_mut(before) {
                *place = now;
            }
        }
        let moved = |node: &Node| Node { parent: places.get(node.parent).copied().unwrap_or(0), ..*node };
        let nodes = order.iter().filter_map(|&before| nodes.get(before)).map(moved).collect();
        Flame { names, nodes }
    }
}

/// The fill colour of a node in a flame graph. Black text on it has a contrast of at least 7.
pub(super) fn colour(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Lost) => "#ff8a80",
        Some(Kind::Growing) => "#ffab66",
        Some(Kind::WarmingUp) => "#ffe082",
        Some(Kind::TooEarly) => "#a7d3ee",
        Some(Kind::Steady) => "#a5d6a7",
        Some(Kind::StartUp) => "#c5e1a5",
        None => "#e0c9a6",
    }
}
