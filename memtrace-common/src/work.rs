//! What tracing itself does: the basis of its cost.

/// Runs of the programs on one CPU: the value of the map `WORK`.
///
/// Counters are added to without a lock: a program that another one preempts between load and store may lose the other's
/// count, which is rare and cannot be distinguished from noise in a cost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Entries of functions that allocate or map: at sites that the kernel emulates, and at those it single-steps.
    pub entries: [u64; 2],
    /// Entries of functions that free, the same way.
    pub frees: [u64; 2],
    /// Of the entries, those that leave no more blocks than there were: `realloc` of a block, and of nothing where that is
    /// handed on to `malloc`, which is seen too; where every allocation is tracked, other calls that were handed on as well.
    pub moves: u64,
    /// Of the entries, those of functions whose results are read at their exits: a probe like that on a free.
    pub plain: u64,
    /// Exit sites that were passed, as above.
    pub exits: [u64; 2],
    /// Frees of blocks that are not in the table: they were allocated before, not sampled, or while nothing was attached.
    pub unknown_frees: u64,
    /// Time spent inside the programs in ns, estimated from one run in about 64.
    pub nanoseconds: u64,
    /// Runs of the programs: entries, frees, exits, and the rest are returns.
    pub runs: u64,
    /// The run that will be timed next.
    pub next: u64,
    /// The tick (`jiffies`) at which the clock was last read.
    pub tick: u64,
    /// Its time then, in block time.
    pub time: u64,
}
const _: () = assert!(size_of::<Work>() == 112);

impl Work {
    /// Distances between timed runs are drawn from 1 to this, so that they do not fall in step with a program's loop.
    pub const MAX_DISTANCE: u32 = 128;
    /// Adds what was done on another CPU.
    pub const fn add(&mut self, other: &Self) {
        self.entries[0] += other.entries[0];
        self.entries[1] += other.entries[1];
        self.frees[0] += other.frees[0];
        self.frees[1] += other.frees[1];
        self.moves += other.moves;
        self.plain += other.plain;
        self.exits[0] += other.exits[0];
        self.exits[1] += other.exits[1];
        self.unknown_frees += other.unknown_frees;
        self.nanoseconds += other.nanoseconds;
        self.runs += other.runs;
    }

    /// Runs at the returns of functions.
    #[must_use]
    pub const fn returns(&self) -> u64 {
        self.runs.saturating_sub(self.calls() + self.exits[0] + self.exits[1])
    }

    /// Calls that were seen.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.entries[0] + self.entries[1] + self.frees[0] + self.frees[1]
    }

    /// Twice the mean of such distances.
    pub const TWICE_THE_MEAN: u64 = Self::MAX_DISTANCE as u64 + 1;
}

/// A part of the programs' work that can be left out, to measure what it costs. A bit each of the load-time constant
/// `WITHOUT`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it: what remains is what the probes themselves cost.
    Everything = 1,
    /// Counting and timing of the programs' runs.
    Count = 2,
    /// Calls in flight: a return takes the block for one of a byte.
    Calls = 4,
    /// The table of live blocks.
    Live = 8,
    /// Totals of stacks.
    Totals = 16,
    /// Lifetimes of freed blocks.
    Lifetimes = 32,
}
