//! One order for everything that a report lists: blocks of stacks, and what stacks mapped themselves.

use std::cmp::{Ordering, Reverse};

use rustc_hash::FxHashSet;

use super::{Kind, MappingRow, Profile, Row, SortBy, Standing, Verdict};

/// What is listed.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Blocks of a stack.
    Blocks(&'a Row),
    /// What a stack mapped.
    Mapping(&'a MappingRow),
}

impl Entry<'_> {
    /// What it holds: outstanding bytes, or what is in memory of mappings.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Blocks(row) => row.outstanding.bytes,
            Self::Mapping(row) => row.in_memory(),
        }
    }

    /// Whether its verdict is that it needs no attention.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Blocks(row) => row.is_settled(),
            Self::Mapping(row) => row.is_settled(),
        }
    }
}

/// Orders entries.
pub(super) struct Ranking {
    sort: SortBy,
    /// Processes that have exited, if others live.
    gone: FxHashSet<u32>,
    /// Processes that grow by what they map, and not by blocks.
    mapping: FxHashSet<u32>,
}

/// What an entry is ordered by.
pub(super) struct Rank {
    /// In the order of verdicts: what needs no attention comes last, and what living processes hold before what others did.
    turn: (bool, bool),
    /// Blocks of a process that grows by what it maps. What is lost comes before that all the same.
    is_aside: bool,
    kind: Kind,
    loss: (u64, u64),
    /// Growth over the session, of those that grow.
    trend: f64,
    bytes: u64,
    blocks: u64,
    /// Growth since the previous report; of mappings, over the session.
    rate: f64,
    age: std::time::Duration,
    id: u64,
    pid: u32,
}

impl Ranking {
    pub(super) fn new(profile: &Profile, sort: SortBy) -> Self {
        let balances = profile.processes().map_or(&[][..], |of| of.balances.as_slice());
        let pids = |is_in: &dyn Fn(&super::Balance) -> bool| -> FxHashSet<u32> {
            balances.iter().filter(|balance| is_in(balance)).map(|balance| balance.pid).collect()
        };
        let some_live = balances.iter().any(|balance| balance.ended.is_none());
        Self {
            sort,
            gone: pids(&|balance| some_live && balance.ended.is_some()),
            mapping: pids(&|balance| matches!(balance.standing, Standing::Mappings | Standing::Threads)),
        }
    }

    /// What an entry is ordered by.
    pub(super) fn rank(&self, entry: Entry<'_>) -> Rank {
        let turn = |pid: u32| (entry.is_settled(), self.gone.contains(&pid));
        match entry {
            Entry::Blocks(row) => {
                // Without a verdict, a leak check may still have found something.
                let missing = if row.loss() == (0, 0) { Kind::TooEarly } else { Kind::Lost };
                let kind = row.verdict.as_deref().map_or(missing, Verdict::kind);
                Rank {
                    turn: turn(row.pid()),
                    is_aside: kind != Kind::Lost && self.mapping.contains(&row.pid()),
                    kind,
                    loss: row.loss(),
                    trend: trend(row.verdict.as_deref()),
                    bytes: row.outstanding.bytes,
                    blocks: row.outstanding.blocks,
                    rate: row.bytes_per_second,
                    age: row.oldest.age,
                    id: row.id,
                    pid: row.pid(),
                }
            }
            Entry::Mapping(row) => {
                let trend = trend(row.verdict.as_deref()) * row.resident_share();
                Rank {
                    turn: turn(row.pid),
                    is_aside: false,
                    kind: row.verdict.as_deref().map_or(Kind::TooEarly, Verdict::kind),
                    loss: (0, 0),
                    trend,
                    bytes: row.in_memory(),
                    blocks: row.mapped.blocks,
                    rate: trend,
                    age: row.oldest,
                    id: row.id,
                    pid: row.pid,
                }
            }
        }
    }

    /// Ties are ordered by bytes, then by id, so that two reports of the same counts agree.
    pub(super) fn order(&self, a: &Rank, b: &Rank) -> Ordering {
        let first = match self.sort {
            SortBy::Verdict => (a.turn.cmp(&b.turn))
                .then((a.kind != Kind::Lost).cmp(&(b.kind != Kind::Lost)))
                .then(a.is_aside.cmp(&b.is_aside))
                .then(a.kind.cmp(&b.kind))
                .then(Reverse(a.loss).cmp(&Reverse(b.loss)))
                .then_with(|| b.trend.total_cmp(&a.trend)),
            SortBy::Lost => Reverse(a.loss).cmp(&Reverse(b.loss)),
            SortBy::Bytes => Ordering::Equal,
            SortBy::Blocks => Reverse(a.blocks).cmp(&Reverse(b.blocks)),
            SortBy::Rate => b.rate.total_cmp(&a.rate),
            SortBy::Age => Reverse(a.age).cmp(&Reverse(b.age)),
        };
        first.then(Reverse(a.bytes).cmp(&Reverse(b.bytes))).then(a.id.cmp(&b.id)).then(a.pid.cmp(&b.pid))
    }
}

impl Rank {
    /// Whether the entry needs no attention.
    pub(super) fn is_settled(&self) -> bool {
        self.turn.0
    }
}

/// Growth that rows are ordered by: of those that grow only.
fn trend(verdict: Option<&Verdict>) -> f64 {
    let verdict = verdict.filter(|verdict| matches!(verdict.kind(), Kind::Growing | Kind::WarmingUp));
    verdict.and_then(|verdict| verdict.trend).map_or(0.0, |trend| trend.bytes_per_second)
}
