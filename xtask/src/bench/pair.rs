//! What a malloc/free pair costs, by tracer.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::build::Built;
use super::compare::{Outcome, Plan, Start, compare, fixture, median};
use super::outside::Wrapper;
use super::stats::{Summary, figure};
use super::variants::{Variant, available};
use super::{Options, Row};

/// Length of a measured window, and how many of them each variant has in a run.
const WINDOW: Duration = Duration::from_millis(60);
const WINDOWS: u32 = 4;

/// Program, frames, threads.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    frame_pointers: bool,
    frames: u32,
    threads: u32,
}

/// The shortest stack that there is.
pub(super) const SHORT: Shape = Shape { frame_pointers: true, frames: 4, threads: 1 };

/// The two-threaded one comes last: it is compared with the first.
const SHAPES: [Shape; 5] = [
    SHORT,
    Shape { frame_pointers: true, frames: 22, threads: 1 },
    Shape { frame_pointers: false, frames: 4, threads: 1 },
    Shape { frame_pointers: false, frames: 22, threads: 1 },
    Shape { frame_pointers: true, frames: 4, threads: 2 },
];

const VARIANTS: [Variant; 11] = [
    Variant::Untraced,
    Variant::Exact,
    Variant::Empty3,
    Variant::Sampled,
    Variant::Empty2,
    Variant::Caller,
    Variant::Kernel,
    Variant::FirstByte,
    Variant::Bpftrace,
    Variant::Under(Wrapper::Heaptrack),
    Variant::Under(Wrapper::Valgrind),
];

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut short = None;
    let variants = available(&VARIANTS);
    for shape in SHAPES {
        let outcomes = shape.measure(built, &variants, options)?;
        let of_one_thread = short.as_deref().filter(|_| shape.threads > 1);
        let note = |outcome: &Outcome| note(outcome, &outcomes, of_one_thread);
        rows.extend(outcomes.iter().map(|outcome| shape.row("pair", outcome, note(outcome))));
        short.get_or_insert(outcomes);
    }
    Ok(rows)
}

impl Shape {
    pub(super) fn measure(
        self,
        built: &Built,
        variants: &[Variant],
        options: Options,
    ) -> Result<Vec<Outcome>> {
        let program = if self.frame_pointers { &built.pair } else { &built.pair_omit };
        let start: Start<'_> = &|wrapper| {
            let mut command = Command::new(program);
            command.args([self.frames.to_string(), self.threads.to_string()]);
            fixture(&mut command, wrapper)
        };
        let plan = Plan { built, variants, runs: options.runs, windows: WINDOWS, window: WINDOW };
        compare(start, plan)
    }

    pub(super) fn row(self, topic: &str, outcome: &Outcome, note: String) -> Row {
        let what = format!(
            "{topic}: {} frames {} frame pointers, {} thread{}",
            self.frames,
            if self.frame_pointers { "with" } else { "without" },
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        );
        Row { what, variant: outcome.variant.name(), summary: outcome.cost, unit: "ns", note }
    }
}

/// What an outcome has to be compared with.
fn note(outcome: &Outcome, all: &[Outcome], of_one_thread: Option<&[Outcome]>) -> String {
    let of = |variant| median(all, variant);
    let Summary { median: cost, .. } = outcome.cost;
    let ratio = |other: Variant| Some(figure(cost / of(other)?));
    let walk = |cost: f64| Some(cost - of(Variant::Caller)?);
    let remarks = match outcome.variant {
        Variant::Untraced | Variant::Empty3 | Variant::Empty2 | Variant::Caller => vec![],
        Variant::Exact => vec![
            ratio(Variant::Empty3).map(|ratio| format!("{ratio} times three empty probes")),
            walk(cost).map(|ns| format!("the walk adds {ns:.0} ns")),
            of_one_thread.and_then(|one| second_thread(all, one)),
        ],
        Variant::Sampled => {
            vec![ratio(Variant::Empty2).map(|ratio| format!("{ratio} times two empty probes"))]
        }
        Variant::Kernel => vec![of(Variant::Exact).and_then(walk).zip(walk(cost)).map(|(ours, kernel)| {
            format!("the walk costs {} times `bpf_get_stackid`'s {kernel:.0} ns", figure(ours / kernel))
        })],
        _ => vec![
            of(Variant::Exact).map(|exact| format!("exact costs {} times as much", figure(exact / cost))),
        ],
    };
    remarks.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// How much slower a second thread makes a pair, apart from its effect on empty probes.
fn second_thread(two: &[Outcome], one: &[Outcome]) -> Option<String> {
    let slowdown = |variant| Some(median(two, variant)? / median(one, variant)?);
    let (exact, empty) = (slowdown(Variant::Exact)?, slowdown(Variant::Empty3)?);
    Some(format!(
        "{} times the cost on one thread, empty probes {}, so {} times their slowdown",
        figure(exact),
        figure(empty),
        figure(exact / empty)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(variant: Variant, cost: f64) -> Outcome {
        Outcome { variant, cost: Summary { median: cost, low: cost, high: cost }, mode: None }
    }

    #[test]
    fn costs_are_told_as_ratios_to_their_floor() {
        let one = [(Variant::Exact, 1200.0), (Variant::Empty3, 1000.0)].map(|(v, cost)| outcome(v, cost));
        let two = [
            (Variant::Exact, 1320.0),
            (Variant::Empty3, 1050.0),
            (Variant::Caller, 1200.0),
            (Variant::Kernel, 1680.0),
            (Variant::Bpftrace, 13200.0),
        ]
        .map(|(variant, cost)| outcome(variant, cost));
        let [exact, _, _, kernel, bpftrace] = &two;
        assert_eq!(
            note(exact, &two, Some(&one)),
            "1.26 times three empty probes; the walk adds 120 ns; \
             1.10 times the cost on one thread, empty probes 1.05, so 1.05 times their slowdown"
        );
        assert_eq!(note(kernel, &two, None), "the walk costs 0.25 times `bpf_get_stackid`'s 480 ns");
        assert_eq!(note(bpftrace, &two, None), "exact costs 0.10 times as much");
        assert_eq!(note(&one[0], &one, None), "1.20 times three empty probes");
    }
}
