//! Floor 1: a report as a value. Pure: no I/O, no clock, no aya.
//!
//! A [`Profile`] holds everything that one report knows: every row, not only those that are shown. Its stacks are ids
//! in a [`Dictionary`], which a session keeps for all of its reports and which only grows: texts, modules, functions,
//! locations and stacks are stored once. A [`View`] orders and cuts a profile without changing it; reporters print
//! views. Both types can be serialized; [`Delta`] is what a dictionary has gained since the previous report.
//!
//! No sentence is made here: what a reader should know besides figures is a [`Remark`], which `report` words.

mod balance;
mod black_box;
mod cost;
mod curve;
mod dictionary;
mod diff;
mod elide;
mod heap;
mod heap_rows;
mod holder;
mod index;
mod intern;
mod kernel;
mod leaks;
mod losses;
pub mod machine;
mod marks;
mod merge;
mod ranking;
mod remark;
mod rows;
mod seen;
mod suppressions;
mod types;
pub mod units;
mod verdict;
mod view;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use balance::{
    Balance, CgroupGrowth, Child, Course, Knowledge, Limit, LimitKind, Parts, Resident, Standing,
    ThreadStacks, Uncounted,
};
pub use black_box::{OutOfMemory, RanOut, Sign};
pub use cost::{Overhead, Pace, Plan, Share};
pub use curve::{Curve, Curves, Weight};
pub use dictionary::{Damaged, Delta, Dictionary};
pub use diff::{Change, Diff, diff};
pub use elide::elide;
pub use heap::{Finding, GrownClass, Heap, HeapArena, HeapGrowth, HeldBytes, Hint, Kept, SizeClass};
pub use heap_rows::HeapRows;
pub use holder::Holder;
pub use holder::Root;
pub use kernel::{CacheRow, KERNEL_CODE, Kernel, KernelDetail, MemoryKind};
pub use leaks::{Before, LeakCheck, Leaked, Moment, Reached};
pub use losses::{Losses, Reason};
pub use marks::{Mark, Marks, Since, Span};
pub use merge::Merged;
pub use ranking::Entry;
pub use remark::{CacheNumber, FileProblem, LeftOut, Remark, Renewal, Runtime, Unread};
pub use rows::{
    Age, Allocation, Amount, Attachment, Detail, Filter, LiveBlock, MappingRow, MappingUse, Mode, Process,
    Processes, Row, StackMethod, Uncertainty,
};
pub use seen::{Seen, SeenStack, is_rounded_to};
pub use suppressions::{MAX_SUPPRESSIONS, Suppressions};
pub use types::{Line, LocationId, ModuleId, StackId, StringId};
pub use verdict::{Grounds, Kind, Lifetimes, Trend, Verdict, lifetime_begin};
pub use view::{By, Frame, Selection, SortBy, View};

/// The version of the serialized form of [`Profile`] and [`Delta`]: files of a newer version are rejected.
pub const VERSION: u32 = 8;

/// What is traced, with the figures that only this kind of target has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Subject {
    /// One or more user processes.
    Processes(Processes),
    /// The kernel.
    Kernel(Kernel),
    /// The heaps of processes, which were scanned instead of traced.
    Heaps(Vec<Heap>),
}

/// Everything that one report knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Wall-clock time of the report.
    pub time: jiff::Timestamp,
    /// Time since tracing began.
    pub elapsed: Duration,
    /// Whether this is the session's last report.
    pub last: bool,
    /// What is traced.
    pub subject: Subject,
    /// Which blocks are in the figures.
    pub filter: Filter,
    /// Everything outstanding that passes the filter, over all rows.
    pub outstanding: Amount,
    /// Growth of the outstanding bytes since the previous report, in bytes per second.
    pub bytes_per_second: f64,
    /// Frees of unknown blocks: allocated before tracing began, not sampled, or while no probe was in place.
    pub unknown_frees: u64,
    /// A row for each stack that holds something, in no particular order.
    pub rows: Vec<Row>,
    /// What was lost.
    pub losses: Losses,
    /// What else the reader should know.
    pub remarks: Vec<Remark>,
    /// The moments that were marked. Rows and sums are limited to their [`Marks::span`].
    #[serde(default)]
    pub marks: Marks,
}

/// A report as it is saved: what the session's dictionary gained for it, and the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved<P = Profile> {
    /// To be applied to the dictionary of the previous reports.
    pub gained: Delta,
    /// The report; a reference to it when it is written.
    pub profile: P,
}

impl Profile {
    /// What only processes have.
    #[must_use]
    pub fn processes(&self) -> Option<&Processes> {
        match &self.subject {
            Subject::Processes(processes) => Some(processes),
            Subject::Kernel(_) | Subject::Heaps(_) => None,
        }
    }

    /// What only the kernel has.
    #[must_use]
    pub fn kernel(&self) -> Option<&Kernel> {
        match &self.subject {
            Subject::Processes(_) | Subject::Heaps(_) => None,
            Subject::Kernel(kernel) => Some(kernel),
        }
    }

    /// What only scans have.
    #[must_use]
    pub fn heaps(&self) -> Option<&[Heap]> {
        match &self.subject {
            Subject::Heaps(heaps) => Some(heaps),
            Subject::Processes(_) | Subject::Kernel(_) => None,
        }
    }

    /// The processes; none of the kernel.
    pub fn targets(&self) -> impl Iterator<Item = &Process> {
        let traced = self.processes().into_iter().flat_map(|of| &of.processes);
        traced.chain(self.heaps().unwrap_or_default().iter().map(|heap| &heap.process))
    }

    /// One of the processes.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.targets().find(|process| process.pid == pid)
    }

    /// Whether figures are those of some blocks only: by size, age or marks.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.filter != Filter::default() || self.marks.span().is_some()
    }

    /// Whether rows are those of some outstanding blocks only: by age or marks. What was freed of those is unknown.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.filter.older.is_some() || self.marks.span().is_some()
    }

    /// Makes sure that a dictionary has the stacks and caches of all rows and remarks.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, dictionary: &Dictionary) -> Result<(), Damaged> {
        let rows = self.rows.iter().filter_map(|row| row.kernel()?.cache);
        let caches =
            self.kernel().map_or(&[][..], |kernel| &kernel.caches).iter().filter_map(|row| row.cache);
        let remarks = self.remarks.iter().flat_map(Remark::caches).filter_map(|number| number.cache);
        let has_texts = rows.chain(caches).chain(remarks).all(|id| dictionary.has_text(id));
        let has_stacks = self.stacks().all(|id| dictionary.stack(id).is_some());
        if has_texts && has_stacks { Ok(()) } else { Err(Damaged) }
    }

    /// Stacks of all rows, of mappings too.
    pub fn stacks(&self) -> impl Iterator<Item = StackId> {
        let mappings = self.processes().and_then(|processes| processes.mapped.as_deref()).unwrap_or_default();
        let rows = self.rows.iter().filter_map(|row| row.stack);
        rows.chain(mappings.iter().filter_map(|row| row.stack))
    }
}
