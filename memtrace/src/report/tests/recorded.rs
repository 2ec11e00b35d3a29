//! Reports as the tests write them down: names in rows, rows in order. They are what this project reported before a
//! report was a [`Profile`], so the schema's promise is tested with the same reports.

use std::time::Duration;

use crate::profile::{
    Age, Allocation, Amount, Attachment, Balance, By, CacheRow, Curves, Detail, Dictionary, Filter, Holder,
    Kernel, KernelDetail, LeakCheck, Leaked, Line, LiveBlock, LocationId, Losses, MappingRow, MappingUse,
    Marks, MemoryKind, Mode, Overhead, Process, Processes, Profile, Reason, Remark, Row, Selection, SortBy,
    StackId, StackMethod, Subject, Uncertainty, Verdict, View,
};
use crate::report::Reporter;

/// One frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) function: Option<String>,
    pub(super) function_offset: u64,
    pub(super) module: String,
    pub(super) module_offset: u64,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) inlined: bool,
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct StackRow {
    pub(super) id: u64,
    pub(super) pid: u32,
    pub(super) outstanding: Amount,
    pub(super) uncertainty: Option<Uncertainty>,
    pub(super) allocated: Amount,
    pub(super) freed: Amount,
    pub(super) bytes_per_second: f64,
    pub(super) oldest: Age,
    pub(super) incomplete: Option<Reason>,
    pub(super) leaked: Option<Leaked>,
    pub(super) held_by: Vec<Holder>,
    pub(super) verdict: Option<Verdict>,
    pub(super) frames: Vec<Frame>,
    pub(super) blocks: Vec<LiveBlock>,
    pub(super) kernel: Option<KernelRow>,
}

/// A row's part of kernel mode.
#[derive(Clone, Debug)]
pub(super) struct KernelRow {
    pub(super) kind: MemoryKind,
    pub(super) cache: Option<&'static str>,
    pub(super) tracked: Amount,
    pub(super) phantoms: u64,
}

/// One stack of mappings.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub(super) id: u64,
    pub(super) pid: u32,
    pub(super) mapped: Amount,
    pub(super) resident: Option<u64>,
    pub(super) oldest: Duration,
    pub(super) verdict: Option<Verdict>,
    pub(super) frames: Vec<Frame>,
}

/// One report.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) last: bool,
    pub(super) elapsed: Duration,
    pub(super) pids: Vec<u32>,
    pub(super) comm: String,
    pub(super) allocators: Vec<String>,
    pub(super) untraced: Vec<String>,
    pub(super) sample_bytes: Option<u64>,
    pub(super) sampling: bool,
    pub(super) exact: bool,
    pub(super) attached: Attachment,
    pub(super) stacks_by: StackMethod,
    pub(super) filter: Filter,
    pub(super) outstanding: Amount,
    pub(super) uncertainty: Option<Uncertainty>,
    pub(super) bytes_per_second: f64,
    pub(super) unknown_frees: u64,
    pub(super) overhead: Option<Overhead>,
    /// Rows that are shown.
    pub(super) stacks: Vec<StackRow>,
    /// How many there are.
    pub(super) stacks_found: usize,
    pub(super) mapped: Option<Vec<Mapped>>,
    pub(super) balances: Vec<Balance>,
    pub(super) curves: Curves,
    pub(super) leak_check: Option<LeakCheck>,
    /// Kernel mode's part, its caches by name.
    pub(super) kernel: Option<(Kernel, Vec<(&'static str, CacheRow)>)>,
    pub(super) caches_found: usize,
    pub(super) by: By,
    pub(super) losses: Losses,
    pub(super) remarks: Vec<Remark>,
    pub(super) marks: Marks,
}

impl Recorded {
    /// What a reporter writes for it.
    pub(super) fn written(&self, mut reporter: impl Reporter) -> String {
        let mut out = Vec::new();
        self.write(&mut reporter, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Has it written.
    pub(super) fn write(
        &self,
        reporter: &mut dyn Reporter,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        let (dictionary, profile) = self.profile();
        let top = self.stacks.len().max(usize::from(self.kernel.is_some()));
        let selection = Selection { sort: SortBy::Rate, top, by: self.by, ..Selection::default() };
        reporter.report(out, &View::new(&dictionary, &profile, &selection))
    }

    /// As a profile. Rows that are not shown hold what the shown ones leave of the total.
    pub(super) fn profile(&self) -> (Dictionary, Profile) {
        let mut dictionary = Dictionary::default();
        let mut rows: Vec<Row> = self.stacks.iter().map(|row| row.row(&mut dictionary)).collect();
        if let Some(first) = rows.first().cloned() {
            let held = rows.iter().fold(0, |sum, row| sum + row.outstanding.bytes);
            let smallest = rows.iter().map(|row| row.outstanding.bytes).min().unwrap();
            let hidden = self.stacks_found - rows.len();
            let mut left = self.outstanding.bytes.saturating_sub(held);
            for number in 0..hidden {
                let bytes = if number + 1 == hidden { left } else { left.min(smallest) };
                left -= bytes;
                let outstanding = Amount { bytes, blocks: 1 };
                // They are last in the order by rate.
                rows.push(Row {
                    id: 1 << 60 | number as u64,
                    outstanding,
                    bytes_per_second: -1e12,
                    ..first.clone()
                });
            }
        }
        let subject = match &self.kernel {
            None => Subject::Processes(self.processes(&mut dictionary)),
            Some((kernel, caches)) => {
                let mut kernel = kernel.clone();
                for (name, row) in caches {
                    kernel.caches.push(CacheRow { cache: Some(dictionary.add_text(name)), ..row.clone() });
                }
                for number in caches.len()..self.caches_found {
                    let row = kernel.caches[0].clone();
                    let cache = Some(dictionary.add_text(&format!("other-{number}")));
                    kernel.caches.push(CacheRow { cache, outstanding: Amount::default(), ..row });
                }
                Subject::Kernel(kernel)
            }
        };
        let profile = Profile {
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            elapsed: self.elapsed,
            last: self.last,
            subject,
            filter: self.filter,
            outstanding: self.outstanding,
            bytes_per_second: self.bytes_per_second,
            unknown_frees: self.unknown_frees,
            rows,
            losses: self.losses.clone(),
            remarks: self.remarks.clone(),
            marks: self.marks.clone(),
        };
        (dictionary, profile)
    }

    fn processes(&self, dictionary: &mut Dictionary) -> Processes {
        let process = |pid: &u32| Process { pid: *pid, comm: self.comm.clone() };
        let mode = Mode {
            sample_bytes: self.sample_bytes,
            sampling: self.sampling,
            exact: self.exact,
            attached: self.attached,
            stacks: self.stacks_by,
        };
        let mapped = self.mapped.as_ref().map(|mapped| {
            let row = |row: &Mapped| MappingRow {
                id: row.id,
                pid: row.pid,
                stack: stack(dictionary, &row.frames),
                mapped: row.mapped,
                oldest: row.oldest,
                resident: row.resident,
                used_for: MappingUse::Program,
                verdict: row.verdict.map(Box::new),
            };
            mapped.iter().map(row).collect()
        });
        Processes {
            processes: self.pids.iter().map(process).collect(),
            allocators: self.allocators.clone(),
            untraced: self.untraced.clone(),
            mode,
            uncertainty: self.uncertainty,
            overhead: self.overhead,
            mapped,
            leak_check: self.leak_check.map(Box::new),
            balances: self.balances.clone(),
            curves: Box::new(self.curves.clone()),
        }
    }
}

impl StackRow {
    fn row(&self, dictionary: &mut Dictionary) -> Row {
        let detail = match &self.kernel {
            None => Detail::Process { pid: self.pid, uncertainty: self.uncertainty },
            Some(kernel) => Detail::Kernel(KernelDetail {
                kind: kernel.kind,
                cache: kernel.cache.map(|name| dictionary.add_text(name)),
                tracked: kernel.tracked,
                phantoms: kernel.phantoms,
            }),
        };
        Row {
            id: self.id,
            stack: stack(dictionary, &self.frames),
            outstanding: self.outstanding,
            allocated: self.allocated,
            freed: self.freed,
            bytes_per_second: self.bytes_per_second,
            oldest: self.oldest,
            incomplete: self.incomplete,
            leaked: self.leaked,
            held_by: self.held_by.clone(),
            blocks: self.blocks.clone(),
            detail,
            verdict: self.verdict.map(Box::new),
            merged: None,
        }
    }
}

/// A stack of these frames: those inlined are at the place of the next one that is not.
pub(super) fn stack(dictionary: &mut Dictionary, frames: &[Frame]) -> Option<StackId> {
    let mut locations: Vec<LocationId> = Vec::new();
    for frames in frames.split_inclusive(|frame| !frame.inlined) {
        let first = frames.first()?;
        let module = dictionary.add_module(&first.module.as_str().into(), None);
        let location = dictionary.add_location(module, first.module_offset, false);
        let mut lines = Vec::new();
        for frame in frames.iter().filter(|frame| frame.function.is_some()) {
            let file = frame.file.as_ref().map(|file| dictionary.add_text(file));
            let name = dictionary.add_text(frame.function.as_deref().unwrap_or_default());
            let function = Some(dictionary.add_function(name, file));
            lines.push(Line {
                function,
                file,
                line: frame.line,
                offset: frame.function_offset,
                inlined: frame.inlined,
            });
        }
        dictionary.name(location, lines.into());
        locations.push(location);
    }
    (!locations.is_empty()).then(|| dictionary.add_stack(&locations, None))
}

/// What a reporter writes for an event of a trace.
pub(super) fn traced(mut reporter: impl Reporter, frames: &[Frame], event: Allocation) -> String {
    let mut dictionary = Dictionary::default();
    let event = Allocation { stack: stack(&mut dictionary, frames), ..event };
    let mut out = Vec::new();
    reporter.allocation(&mut out, &dictionary, &event).unwrap();
    String::from_utf8(out).unwrap()
}
