//! What the blocks of a stack do: a verdict, the figures that it rests on, and how fast they grow.

use std::time::Duration;

use memtrace_common::{LIFETIME_CLASSES, TIME_SHIFT, lifetime_class_begin};
use serde::{Deserialize, Serialize};

use super::Amount;

/// Verdicts, in the order in which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nothing in the process leads to them any more.
    Lost,
    /// More and more live on, longer than others of the stack ever did. They are still reachable.
    Growing,
    /// Growing, but slowing down, or the oldest are still freed: a cache that fills, a queue that backs up.
    WarmingUp,
    /// The evidence does not suffice yet.
    TooEarly,
    /// They come and go, and do not become more.
    Steady,
    /// Allocated before a moment, and none since.
    StartUp,
}

impl Kind {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::Growing, Self::WarmingUp, Self::TooEarly, Self::Steady, Self::StartUp];

    /// Whether it needs no attention.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Steady | Self::StartUp)
    }

    /// The name, as JSON has it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Growing => "growing",
            Self::WarmingUp => "warming_up",
            Self::TooEarly => "too_early",
            Self::Steady => "steady",
            Self::StartUp => "start_up",
        }
    }
}

/// Why a verdict is what it is. Numbers of blocks are of those counted: of samples, where samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Grounds {
    /// Lost: the last leak check found no way to them.
    Unreachable {
        /// What is lost.
        lost: Amount,
        /// Blocks checked.
        checked: u64,
    },
    /// Growing: of those that reach an age, hardly any is freed, and they were allocated all the time.
    Outlive {
        /// Blocks that have reached it.
        survivors: u64,
        /// The age.
        age: Duration,
        /// Blocks freed younger than that.
        before: u64,
        /// Blocks freed later, or an estimate of that in windows.
        after: u64,
    },
    /// Growing: none was ever freed, and they were allocated all the time.
    NeverFreed {
        /// Blocks that are alive.
        survivors: u64,
    },
    /// Growing: the number of blocks does not change, but they become larger again and again.
    Enlarged {
        /// How often they did.
        times: u64,
    },
    /// Growing: the oldest are freed, but ever more wait for that.
    FallingBehind {
        /// Blocks freed.
        freed: u64,
    },
    /// Warming up: fewer of them stay than did at first.
    Slowing {
        /// Growth at first, in bytes per second.
        first: f64,
        /// Growth lately, in bytes per second.
        last: f64,
    },
    /// Warming up: more are allocated than freed, but the oldest are still freed.
    OldestFreed {
        /// Blocks freed.
        freed: u64,
    },
    /// Steady: blocks are freed as others are allocated.
    Turnover {
        /// Blocks freed.
        freed: u64,
    },
    /// Steady: in windows, about as many were freed as there must be if all are. A small leak among them would not show.
    SeenTurnover {
        /// Blocks freed.
        freed: u64,
    },
    /// Start-up: nothing was allocated here for that long.
    Ceased {
        /// That long.
        ago: Duration,
    },
    /// Too early: it was not watched for long enough.
    Brief {
        /// Time since tracing began from which on it will have been; zero: never, its process has ended.
        until: Duration,
    },
    /// Too early: too few blocks to distinguish a trend from chance.
    Few {
        /// Blocks that are alive.
        blocks: u64,
        /// When there may be enough, as time since tracing began.
        until: Option<Duration>,
    },
    /// Too early: as many blocks are freed that were allocated before tracing began.
    Replacing {
        /// Blocks freed per second that were allocated before.
        unknown_per_second: f64,
    },
    /// Too early: in windows, blocks turn over, but the process grows, and no other stack explains that: a small leak among
    /// them would.
    Unexplained {
        /// Growth of the process that no stack explains, in bytes per second.
        bytes_per_second: f64,
    },
    /// Too early: the table of live blocks was full, so that new ones are not tracked.
    Untracked,
    /// Too early: in windows, too few frees of older blocks could be seen.
    Unwatched {
        /// The part of the time in which frees were seen, 0 to 1.
        share: f64,
        /// When there may be enough, as time since tracing began.
        until: Option<Duration>,
    },
}

impl Grounds {
    /// The same of a process that has ended: no more will be known.
    #[must_use]
    pub fn at_end(self) -> Self {
        match self {
            Self::Brief { .. } => Self::Brief { until: Duration::ZERO },
            Self::Few { blocks, .. } => Self::Few { blocks, until: None },
            Self::Unwatched { share, .. } => Self::Unwatched { share, until: None },
            grounds => grounds,
        }
    }

    /// What they are grounds for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } => Kind::Lost,
            Self::Outlive { .. }
            | Self::NeverFreed { .. }
            | Self::Enlarged { .. }
            | Self::FallingBehind { .. } => Kind::Growing,
            Self::Slowing { .. } | Self::OldestFreed { .. } => Kind::WarmingUp,
            Self::Turnover { .. } | Self::SeenTurnover { .. } => Kind::Steady,
            Self::Ceased { .. } => Kind::StartUp,
            Self::Brief { .. }
            | Self::Few { .. }
            | Self::Replacing { .. }
            | Self::Unexplained { .. }
            | Self::Untracked
            | Self::Unwatched { .. } => Kind::TooEarly,
        }
    }
}

/// Growth in bytes per second, over the whole session, with the limits between which it lies with a probability of about
/// 95 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// The estimate.
    pub bytes_per_second: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

/// How long the freed blocks of a stack lived: numbers of blocks by [`memtrace_common::lifetime_class`].
pub type Lifetimes = [u32; LIFETIME_CLASSES];

/// The least lifetime in a class.
#[must_use]
pub fn lifetime_begin(class: usize) -> Duration {
    Duration::from_nanos(u64::from(lifetime_class_begin(class)) << TIME_SHIFT)
}

/// What the blocks of a stack do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The grounds, which include the verdict.
    pub grounds: Grounds,
    /// How fast they grow; `None` if that is not known yet.
    pub trend: Option<Trend>,
    /// How long those freed lived; `None` with `--no-lifetimes`.
    pub lifetimes: Option<Lifetimes>,
}

impl Verdict {
    /// How fast the blocks grow, if the stack leaks: it is lost or growing, by more than may be chance.
    #[must_use]
    pub fn leaking(&self) -> Option<f64> {
        let trend = self.trend.filter(|_| matches!(self.kind(), Kind::Lost | Kind::Growing))?;
        (trend.low > 0.0).then_some(trend.bytes_per_second)
    }

    /// The verdict itself.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.grounds.kind()
    }
}
