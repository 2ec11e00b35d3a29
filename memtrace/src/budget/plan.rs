//! Types of a budget: its inputs and its decisions.

use std::time::Duration;

use memtrace_common::{Shift, Work};

/// How allocations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Continuously: every allocation, or a sample.
    Steady(Shift),
    /// In windows.
    Windows(Shift),
}

impl Mode {
    /// Which allocations are counted.
    #[must_use]
    pub fn shift(self) -> Shift {
        match self {
            Self::Steady(shift) | Self::Windows(shift) => shift,
        }
    }
}

/// What the budget may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Whether to sample, and how.
    Auto,
    /// Only whether to trace in windows.
    Fixed(Shift),
}

/// What was used up to a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Since tracing began.
    pub at: Duration,
    /// CPU time of the targets.
    pub cpu: Duration,
    /// What the programs have done.
    pub work: Work,
}

/// The budget's decision on a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Continue.
    Keep,
    /// Continue in another way.
    Switch(Mode),
    /// Detach immediately: tracing took this share of the CPU time.
    Cut(f64, Mode),
}

/// Whether a window is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It can be paid.
    Now(Window),
    /// Not yet.
    Later,
    /// Not within a reasonable time.
    Never,
}

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long allocations and frees are counted.
    pub count: Duration,
    /// How long frees are counted after that.
    pub watch: Duration,
}
