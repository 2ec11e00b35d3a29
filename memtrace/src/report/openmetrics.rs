//! OpenMetrics, as Prometheus scrapes it and node_exporter's textfile collector reads it.
//!
//! The format is defined in <https://prometheus.io/docs/specs/om/open_metrics_spec/>. Gauges hold the figures of the latest
//! report. The number of series is bounded: stacks after the first [`STACKS`] are summed up in one with the id `other`.

mod heaps;

use std::fmt::{self, Write as _};
use std::io;

use super::blame::culprit;
use super::names::shorten;
use super::stacks::name;
use super::{Reporter, escape, heap::HeapView};
use crate::profile::{Amount, Frame, Kind, Row, Verdict, View};

/// Stacks with series of their own.
const STACKS: usize = 100;

/// Processes with series of their own.
const PROCESSES: usize = 100;

/// Characters of a name.
const NAME: usize = 120;

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenMetrics;

impl Reporter for OpenMetrics {
    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        let mut page = Page::default();
        if let Some(heaps) = HeapView::all(view) {
            heaps::heaps(&mut page, view.profile(), &heaps);
        } else {
            whole(&mut page, view);
            verdicts(&mut page, view);
            stacks(&mut page, view);
            processes(&mut page, view);
            losses(&mut page, view);
        }
        page.text.push_str("# EOF\n");
        out.write_all(page.text.as_bytes())
    }
}

/// Labels: names and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text so far.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Begins a family. All are gauges: Prometheus's older text format, which node_exporter reads, calls counters otherwise, and
    /// has no other types for the rest. The unit is the end of the name.
    fn gauge(&mut self, name: &str, unit: &str, help: &str) {
        self.line(format_args!("# TYPE memtrace_{name} gauge"));
        if !unit.is_empty() {
            self.line(format_args!("# UNIT memtrace_{name} {unit}"));
        }
        self.line(format_args!("# HELP memtrace_{name} {help}"));
    }

    /// Adds a value to the family.
    fn value(&mut self, name: &str, labels: Labels<'_>, value: impl fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        match labels.as_slice() {
            [] => self.line(format_args!("memtrace_{name} {value}")),
            labels => self.line(format_args!("memtrace_{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A label's value: what could control a terminal is written out first, as everywhere.
fn escaped(value: &str) -> String {
    escape(value).replace('\\', "\\\\").replace('"', "\\\"")
}

/// A finite number.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value + 0.0 } else { 0.0 }
}

fn whole(page: &mut Page, view: &View<'_>) {
    let profile = view.profile();
    page.gauge("report_timestamp_seconds", "seconds", "When the report was made, as Unix time.");
    page.value("report_timestamp_seconds", &[], profile.time.as_second());
    page.gauge("elapsed_seconds", "seconds", "Time since tracing began.");
    page.value("elapsed_seconds", &[], profile.elapsed.as_secs_f64());
    page.gauge("outstanding_bytes", "bytes", "Bytes allocated since tracing began and not freed.");
    page.value("outstanding_bytes", &[], profile.outstanding.bytes);
    page.gauge("outstanding_blocks", "blocks", "Blocks allocated since tracing began and not freed.");
    page.value("outstanding_blocks", &[], profile.outstanding.blocks);
    page.gauge(
        "outstanding_growth_bytes_per_second",
        "bytes_per_second",
        "Growth since the previous report.",
    );
    page.value("outstanding_growth_bytes_per_second", &[], finite(profile.bytes_per_second));
    page.gauge("stacks", "", "Stacks that hold something.");
    page.value("stacks", &[], view.rows_found());
    let Some(of) = profile.processes() else { return };
    page.gauge("exact", "", "1 if every allocation was counted, 0 if the figures are estimates or a part.");
    page.value("exact", &[], u8::from(of.mode.exact));
    page.gauge("attached_ratio", "ratio", "Part of the time in which allocations were seen.");
    page.value("attached_ratio", &[], finite(of.mode.attached.share));
    if let Some(doubt) = of.uncertainty {
        page.gauge(
            "outstanding_error_bytes",
            "bytes",
            "Half the width of the 95 % interval of outstanding bytes.",
        );
        page.value("outstanding_error_bytes", &[], doubt.bytes);
    }
    if let Some(overhead) = &of.overhead {
        page.gauge("overhead_ratio", "ratio", "CPU time that tracing took, of that of the processes.");
        page.value("overhead_ratio", &[], finite(overhead.share()));
    }
    if let Some(check) = of.leak_check.as_deref() {
        let lost = check.reached.lost();
        page.gauge("lost_bytes", "bytes", "Bytes that the last leak check found lost.");
        page.value("lost_bytes", &[], lost.bytes);
        page.gauge("lost_blocks", "blocks", "Blocks that the last leak check found lost.");
        page.value("lost_blocks", &[], lost.blocks);
    }
    if let Some(mapped) = &of.mapped {
        let sum = mapped.iter().fold(Amount::default(), |sum, row| sum.plus(row.mapped));
        page.gauge("mapped_bytes", "bytes", "Address space that the processes mapped themselves.");
        page.value("mapped_bytes", &[], sum.bytes);
    }
}

fn verdicts(page: &mut Page, view: &View<'_>) {
    let sum = |kind: Kind| {
        let rows = view.rows().filter(|row| row.verdict.as_deref().map(Verdict::kind) == Some(kind));
        rows.fold(Amount::default(), |sum, row| sum.plus(row.outstanding))
    };
    if !view.rows().any(|row| row.verdict.is_some()) {
        return;
    }
    page.gauge("verdict_outstanding_bytes", "bytes", "Outstanding bytes of the stacks with a verdict.");
    for kind in Kind::ALL {
        page.value("verdict_outstanding_bytes", &[("verdict", kind.key())], sum(kind).bytes);
    }
}

/// Labels of a stack.
struct Named {
    stack: String,
    pid: String,
    verdict: &'static str,
    function: String,
    place: String,
    cache: String,
}

impl Named {
    fn of(view: &View<'_>, row: &Row) -> Self {
        let frames = view.frames(row.stack);
        let blamed = culprit(&frames).and_then(|place| frames.get(place));
        let place = |frame: &Frame<'_>| match (frame.file, frame.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.to_owned(),
            (None, _) => frame.module.to_owned(),
        };
        let cache = row.kernel().map(|detail| {
            detail.cache.map_or(detail.kind.name(), |cache| view.dictionary().text(cache)).to_owned()
        });
        Self {
            stack: format!("{:016x}", row.id),
            pid: if row.pid() == 0 { String::new() } else { row.pid().to_string() },
            verdict: row.verdict.as_deref().map_or("", |verdict| verdict.kind().key()),
            function: blamed.map_or_else(String::new, |frame| shorten(&name(frame), NAME).into_owned()),
            place: blamed.map_or_else(String::new, place),
            cache: cache.unwrap_or_default(),
        }
    }

    fn other() -> Self {
        let none = String::new;
        let stack = "other".to_owned();
        Self { stack, pid: none(), verdict: "", function: none(), place: none(), cache: none() }
    }

    /// Labels whose value is empty are left out.
    fn labels(&self) -> Vec<(&str, &str)> {
        let all = [
            ("stack", self.stack.as_str()),
            ("pid", &self.pid),
            ("verdict", self.verdict),
            ("function", &self.function),
            ("place", &self.place),
            ("cache", &self.cache),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

fn stacks(page: &mut Page, view: &View<'_>) {
    let named: Vec<(Named, &Row)> = view.rows().take(STACKS).map(|row| (Named::of(view, row), row)).collect();
    let others: Vec<&Row> = view.rows().skip(STACKS).collect();
    type Value = fn(&Row) -> u64;
    let families: [(&str, &str, &str, Value); 4] = [
        ("stack_outstanding_bytes", "bytes", "Bytes that a stack allocated and did not free.", |row| {
            row.outstanding.bytes
        }),
        ("stack_outstanding_blocks", "blocks", "Blocks that a stack allocated and did not free.", |row| {
            row.outstanding.blocks
        }),
        ("stack_allocated_bytes", "bytes", "Bytes that a stack allocated since tracing began.", |row| {
            row.allocated.bytes
        }),
        ("stack_lost_bytes", "bytes", "Bytes of a stack that the last leak check found lost.", |row| {
            row.leaked.map_or(0, |leaked| leaked.lost.bytes)
        }),
    ];
    for (family, unit, help, value) in families {
        page.gauge(family, unit, help);
        for (labels, row) in &named {
            page.value(family, &labels.labels(), value(row));
        }
        if !others.is_empty() {
            let sum = others.iter().fold(0, |sum: u64, row| sum.saturating_add(value(row)));
            page.value(family, &Named::other().labels(), sum);
        }
    }
}

fn processes(page: &mut Page, view: &View<'_>) {
    let Some(of) = view.profile().processes() else { return };
    let chosen = |pid: u32| view.selection().pid.is_none_or(|only| only == pid);
    let named: Vec<(String, &str, _)> = of
        .balances
        .iter()
        .filter(|balance| chosen(balance.pid))
        .take(PROCESSES)
        .map(|balance| {
            let process = of.processes.iter().find(|process| process.pid == balance.pid);
            (balance.pid.to_string(), process.map_or("", |process| process.comm.as_str()), balance)
        })
        .collect();
    if named.is_empty() {
        return;
    }
    page.gauge("process_resident_bytes", "bytes", "Resident set of a process.");
    for (pid, comm, balance) in &named {
        page.value("process_resident_bytes", &[("pid", pid), ("comm", comm)], balance.resident.rss());
    }
    page.gauge(
        "process_growth_bytes_per_second",
        "bytes_per_second",
        "What the memory of a process grows by, part by part; unexplained is what no part explains.",
    );
    for (pid, comm, balance) in &named {
        let rate = &balance.rate;
        for (part, value) in [
            ("total", rate.total),
            ("blocks", rate.blocks),
            ("mapped", rate.mapped),
            ("thread_stacks", rate.stacks),
            ("kept_by_allocator", rate.kept),
            ("shared", rate.shared),
            ("unexplained", rate.unexplained),
        ] {
            let labels = [("pid", pid.as_str()), ("comm", comm), ("part", part)];
            page.value("process_growth_bytes_per_second", &labels, finite(value));
        }
    }
    page.gauge("process_verdict", "", "The verdict on a process, as a label; always 1.");
    for (pid, comm, balance) in &named {
        let labels = [("pid", pid.as_str()), ("comm", comm), ("verdict", balance.standing.name())];
        page.value("process_verdict", &labels, 1);
    }
}

fn losses(page: &mut Page, view: &View<'_>) {
    let losses = &view.profile().losses;
    page.gauge("missed", "", "What memtrace itself missed since tracing began, by kind.");
    for (kind, count) in [
        ("live_map_full", losses.live_map_full),
        ("in_flight_lost", losses.in_flight_lost),
        ("ring_full", losses.ring_full),
        ("no_walk_slot", losses.no_walk_slot),
        ("no_thread_slot", losses.no_thread_slot),
        ("stack_table_full", losses.stack_table_full),
        ("missed_frees", losses.missed_frees),
        ("kernel_missed", losses.kernel_missed),
        ("mappings_full", losses.mappings_full),
        ("names_given_up", losses.names_given_up),
        ("children_not_traced", losses.children_not_traced),
    ] {
        page.value("missed", &[("kind", kind)], count);
    }
}
