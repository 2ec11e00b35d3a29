//! The words of a budget: what it is asked, and what it answers.

use std::time::Duration;

use memtrace_common::{Shift, Work};

/// How allocations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By probes that stay: every allocation, or a sample.
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

/// What is left to the budget to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Whether to sample, and how.
    Auto,
    /// Only whether to do it in windows.
    Fixed(Shift),
}

/// What was used up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Since tracing began.
    pub at: Duration,
    /// CPU time of the targets.
    pub cpu: Duration,
    /// What the programs did.
    pub work: Work,
}

/// What the budget says to a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Go on.
    Keep,
    /// Go on in another way.
    Switch(Mode),
    /// Detach at once: tracing took this share of the CPU time.
    Cut(f64, Mode),
}

/// Whether a window is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It can be paid.
    Now(Window),
    /// Not yet.
    Later,
    /// Not in any time worth waiting for.
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
