//! What both say of a program.

use super::known;

/// Blocks and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub(super) struct Amount {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

/// A verdict on the blocks of a process at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub(super) struct Figures {
    #[serde(rename = "directly_lost")]
    pub(super) definitely: Amount,
    #[serde(rename = "indirectly_lost")]
    pub(super) indirectly: Amount,
    #[serde(rename = "possibly_lost")]
    pub(super) possibly: Amount,
    pub(super) reachable: Amount,
}

impl Figures {
    /// In the order of valgrind's summary.
    pub(super) fn parts(&self) -> [Amount; 4] {
        [self.definitely, self.indirectly, self.possibly, self.reachable]
    }
}

/// The verdicts on one program.
pub(super) struct Row {
    pub(super) program: String,
    pub(super) valgrind: Figures,
    /// With heuristics.
    pub(super) heuristics: Option<Figures>,
    pub(super) memtrace: Figures,
}

impl Row {
    pub(super) fn is_equal(&self) -> bool {
        self.valgrind == self.memtrace
    }

    /// Why the two differ, as far as that is known.
    pub(super) fn explanation(&self) -> Option<&'static str> {
        known::explanation(&self.program).filter(|_| !self.is_equal())
    }

    pub(super) fn is_explained(&self) -> bool {
        self.is_equal() || self.explanation().is_some()
    }
}
