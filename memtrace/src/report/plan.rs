//! What tracing will cost, in words.

use crate::profile::units::{format_bytes, format_number, format_percent};
use crate::profile::{Pace, Plan, Share};

/// A share and its whole.
pub(super) fn part(share: Share) -> String {
    let of = if share.of_processor { "one CPU" } else { "the target's CPU time" };
    format!("{} of {of}", format_percent(share.share))
}

/// How allocations are counted.
pub(super) fn pace(pace: Pace) -> String {
    let counted = match pace.sample_bytes {
        None => "every allocation is counted".to_owned(),
        Some(bytes) => format!("one allocation per {} is counted", format_bytes(bytes)),
    };
    if pace.windows { format!("{counted}, but only in short windows") } else { counted }
}

/// A number rounded to three digits, which is more than a measurement of some milliseconds knows.
fn significant(number: f64) -> u64 {
    let unit = 10_f64.powi((number.max(1.0).log10().floor() as i32 - 2).max(0));
    ((number / unit).round() * unit) as u64
}

/// What tracing will cost and how memtrace will trace, before it begins.
#[must_use]
pub fn plan(plan: &Plan) -> String {
    let at_least = if plan.at_least { "over " } else { "" };
    let calls = format!("{at_least}{}", format_number(significant(plan.calls_per_second)));
    let allowed = |share: Share| {
        let same_whole = share.of_processor == plan.limit.of_processor;
        let limit = if same_whole { format_percent(plan.limit.share) } else { part(plan.limit) };
        if share.share > plan.limit.share && part(share) != part(plan.limit) {
            format!(" ({limit} allowed)")
        } else {
            format!(" (too close to the {limit} allowed)")
        }
    };
    match plan.pace {
        Pace { sample_bytes: None, windows: false } if plan.calls_per_second == 0.0 => {
            format!(
                "no calls yet: every allocation is counted as long as that takes at most {}",
                part(plan.limit)
            )
        }
        Pace { sample_bytes: None, windows: false } => {
            format!(
                "{calls} calls a second: counting every allocation takes an estimated {}",
                part(plan.exact)
            )
        }
        Pace { windows: false, .. } if !plan.chooses => {
            format!(
                "{calls} calls a second: {}, which takes an estimated {}",
                pace(plan.pace),
                part(plan.cheapest)
            )
        }
        Pace { windows: false, .. } => format!(
            "{calls} calls a second: counting every allocation would take {}{}, so {}",
            part(plan.exact),
            allowed(plan.exact),
            pace(plan.pace)
        ),
        Pace { windows: true, .. } => format!(
            "{calls} calls a second: continuous tracing would take {}{}, so {}",
            part(plan.cheapest),
            allowed(plan.cheapest),
            pace(plan.pace)
        ),
    }
}
