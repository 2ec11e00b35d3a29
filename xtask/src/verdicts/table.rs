//! What was right, as tables.

use std::fmt::Write as _;

use super::Mode;
use super::agent::{Report, Stack};
use super::programs::{Program, Truth};

/// Verdicts, the worst first.
const VERDICTS: [&str; 7] = ["lost", "growing", "warming_up", "too_early", "steady", "start_up", "unseen"];

/// What memtrace said of a program.
pub(super) struct Outcome {
    pub(super) program: String,
    truth: Truth,
    /// As an index of `VERDICTS`: on the stack at fault, or the worst on any.
    verdict: usize,
    /// Stacks called lost or growing that are not at fault, and verdicts that should be others.
    complaints: Vec<String>,
    counted: &'static str,
    reason: String,
    is_first: bool,
}

impl Outcome {
    pub(super) fn new(program: &Program, report: &Report, mode: Mode) -> Self {
        let rank =
            |stack: &&Stack| VERDICTS.iter().position(|verdict| *verdict == stack.verdict).unwrap_or(6);
        let at_fault = |stack: &Stack| match &program.truth {
            Truth::Leak(function) | Truth::Either(function) => stack.is_of(function),
            Truth::NoLeak => false,
        };
        let held = || report.stacks.iter().filter(|stack| stack.bytes > 0);
        let is_leak = matches!(program.truth, Truth::Leak(_));
        let worst = held().filter(|stack| !is_leak || at_fault(stack)).min_by_key(rank);
        let false_alarms = held().filter(|stack| rank(stack) <= 1 && !at_fault(stack));
        let mut complaints: Vec<String> = false_alarms.map(Self::describe).collect();
        for (function, verdict) in program.verdicts.iter().filter(|_| mode == Mode::Exact) {
            let most = held().filter(|stack| stack.is_of(function)).max_by_key(|stack| stack.bytes);
            complaints.extend(most.filter(|stack| stack.verdict != *verdict).map(Self::describe));
        }
        Self {
            program: program.name.clone(),
            truth: program.truth.clone(),
            verdict: worst.as_ref().map_or(6, rank),
            complaints,
            counted: report.mode.name(),
            reason: worst.map(|stack| stack.verdict_reason.clone()).unwrap_or_default(),
            is_first: report.stacks.first().is_some_and(at_fault),
        }
    }

    fn describe(stack: &Stack) -> String {
        format!("{}: {} ({})", stack.verdict, stack.place(), stack.verdict_reason)
    }

    /// Whether the leak was found, or nothing was called one.
    pub(super) fn is_right(&self) -> bool {
        let is_right = match self.truth {
            Truth::Leak(_) => self.verdict <= 1 && self.is_first,
            Truth::NoLeak => self.verdict > 1,
            Truth::Either(_) => true,
        };
        is_right && self.complaints.is_empty()
    }

    /// Whether a leak is called steady, or something lost that is not.
    pub(super) fn is_grave(&self) -> bool {
        let is_steady = matches!(VERDICTS.get(self.verdict), Some(&"steady" | &"start_up"));
        match self.truth {
            Truth::Leak(_) => is_steady || self.complaints.iter().any(|text| text.starts_with("lost")),
            Truth::NoLeak => self.verdict == 0,
            Truth::Either(_) => false,
        }
    }
}

/// The confusion matrix, and what was wrong.
pub(super) fn markdown(mode: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!("### {mode}\n\n| truth |");
    for verdict in VERDICTS {
        let _ = write!(text, " {verdict} |");
    }
    let _ = write!(text, " right |\n|---|{}\n", "--:|".repeat(VERDICTS.len() + 1));
    for (name, is_leak) in [("leak", true), ("no leak", false)] {
        let of = || outcomes.iter().filter(|outcome| matches!(outcome.truth, Truth::Leak(_)) == is_leak);
        let _ = write!(text, "| {name} |");
        for verdict in 0..VERDICTS.len() {
            let _ = write!(text, " {} |", of().filter(|outcome| outcome.verdict == verdict).count());
        }
        let _ =
            writeln!(text, " {} of {} |", of().filter(|outcome| outcome.is_right()).count(), of().count());
    }
    let right = outcomes.iter().filter(|outcome| outcome.is_right()).count();
    let share = 100.0 * right as f64 / outcomes.len().max(1) as f64;
    let _ = writeln!(text, "\n{right} of {} are right, {share:.1} %.\n", outcomes.len());
    for outcome in outcomes.iter().filter(|outcome| !outcome.is_right()) {
        let Outcome { program, truth, verdict, complaints, counted, reason, is_first } = outcome;
        let grave = if outcome.is_grave() { "GRAVE: " } else { "" };
        let verdict = VERDICTS.get(*verdict).unwrap_or(&"");
        let first = if *is_first { "" } else { "; not first" };
        let _ = writeln!(text, "- {grave}{program} ({truth:?}, {counted}): {verdict}, {reason}{first}");
        for complaint in complaints {
            let _ = writeln!(text, "  - {complaint}");
        }
    }
    text
}
