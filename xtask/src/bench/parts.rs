//! What each part of the hot path costs: a pair with one part switched off at a time.

use anyhow::Result;

use super::build::Built;
use super::compare::{Outcome, median};
use super::pair::SHORT;
use super::variants::Variant;
use super::{Options, Row};

const VARIANTS: [Variant; 9] = [
    Variant::Untraced,
    Variant::Exact,
    Variant::Without("count"),
    Variant::Without("calls"),
    Variant::Without("live"),
    Variant::Without("totals"),
    Variant::Without("lifetimes"),
    Variant::Caller,
    Variant::Empty3,
];

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let outcomes = SHORT.measure(built, &VARIANTS, options)?;
    let exact = median(&outcomes, Variant::Exact);
    let note = |outcome: &Outcome| match (outcome.variant, exact) {
        (Variant::Untraced | Variant::Exact, _) | (_, None) => String::new(),
        (_, Some(exact)) => format!("{:+.0} ns against exact", outcome.cost.median - exact),
    };
    Ok(outcomes.iter().map(|outcome| SHORT.row("parts", outcome, note(outcome))).collect())
}
