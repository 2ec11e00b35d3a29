//! What is counted over the rounds, and the table at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nix::sys::signal::Signal;

use super::checks::Outcome;
use super::plan::{Mode, Plan};

#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    targets: u64,
    /// Agents killed by SIGKILL, and ended by other signals' default action.
    kills: u64,
    signalled: u64,
    deaths: u64,
    failures: u64,
}

/// Counts by mode and by kind of target.
#[derive(Debug, Default)]
pub(super) struct Tally {
    modes: BTreeMap<Mode, Counts>,
    kinds: BTreeMap<&'static str, Counts>,
    all: Counts,
}

impl Tally {
    /// Counts a round; `names` are those of the kinds.
    pub(super) fn add(&mut self, plan: &Plan, outcome: &Outcome, names: &[&'static str]) {
        for counts in [self.modes.entry(plan.mode).or_default(), &mut self.all] {
            counts.rounds += 1;
            counts.targets += plan.kinds.len() as u64;
            counts.kills += u64::from(outcome.agent == Some(Signal::SIGKILL));
            counts.signalled += u64::from(outcome.agent.is_some_and(|signal| signal != Signal::SIGKILL));
            counts.deaths += outcome.died.len() as u64;
            counts.failures += u64::from(!outcome.failures.is_empty());
        }
        let mut seen = Vec::new();
        for kind in &plan.kinds {
            let Some(name) = names.get(*kind) else { continue };
            let counts = self.kinds.entry(name).or_default();
            counts.targets += 1;
            if !seen.contains(kind) {
                seen.push(*kind);
                counts.rounds += 1;
                counts.kills += u64::from(outcome.agent == Some(Signal::SIGKILL));
                counts.failures += u64::from(!outcome.failures.is_empty());
            }
        }
        for name in outcome.died.iter().filter_map(|kind| names.get(*kind)) {
            self.kinds.entry(name).or_default().deaths += 1;
        }
    }

    /// What failed beside the rounds.
    pub(super) fn add_failures(&mut self, failures: &[String]) {
        self.all.failures += failures.len() as u64;
    }

    pub(super) fn failures(&self) -> u64 {
        self.all.failures
    }

    /// In a line.
    pub(super) fn summary(&self) -> String {
        let Counts { rounds, targets, kills, signalled, deaths, failures } = self.all;
        format!(
            "{rounds} rounds with {targets} targets: {kills} agents killed, {signalled} ended by another signal, \
             {deaths} targets killed, {failures} rounds failed"
        )
    }

    /// As a Markdown table.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| | rounds | targets | agents killed | targets killed | rounds failed |\n|---|--:|--:|--:|--:|--:|\n",
        );
        let modes = self.modes.iter().map(|(mode, counts)| (mode.name(), counts));
        let kinds = self.kinds.iter().map(|(name, counts)| (*name, counts));
        for (name, counts) in modes.chain(kinds).chain([("all", &self.all)]) {
            let Counts { rounds, targets, kills, deaths, failures, .. } = counts;
            let _ = writeln!(text, "| {name} | {rounds} | {targets} | {kills} | {deaths} | {failures} |");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_once_for_each_kind() {
        let mut tally = Tally::default();
        let plan = Plan { mode: Mode::Exact, kinds: vec![0, 1, 0], actions: Vec::new() };
        let outcome = Outcome { failures: vec!["x".into()], agent: Some(Signal::SIGKILL), died: vec![0, 0] };
        tally.add(&plan, &outcome, &["fork", "exec"]);
        let table = tally.table();
        for line in [
            "| exact | 1 | 3 | 1 | 2 | 1 |",
            "| fork | 1 | 2 | 1 | 2 | 1 |",
            "| exec | 1 | 1 | 1 | 0 | 1 |",
            "| all | 1 | 3 | 1 | 2 | 1 |",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\n{table}");
        }
        tally.add_failures(&["y".into()]);
        assert_eq!(tally.failures(), 2);
    }
}
