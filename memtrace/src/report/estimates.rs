//! Estimates, their errors, and what tracing cost, in words.

use crate::profile::units::{format_bytes, format_count, format_number, format_percent, format_rate};
use crate::profile::{Amount, Mode, Overhead, Uncertainty};

/// An amount, with its error if it is an estimate: `about 1.5 MiB ± 14 %`, `390 blocks`.
pub(super) fn amounts(amount: Amount, doubt: Option<Uncertainty>, noun: &str) -> (String, String) {
    let (bytes, blocks) = (format_bytes(amount.bytes), format_count(amount.blocks, noun));
    match doubt {
        None => (bytes, blocks),
        Some(doubt) if doubt.samples == 0 && doubt.bytes > 0 => {
            (format!("under {}", format_bytes(doubt.bytes)), "no samples".to_owned())
        }
        Some(doubt) => (
            format!("about {bytes}{}", error(doubt.bytes, amount.bytes)),
            format!("{blocks}{}", error(doubt.blocks, amount.blocks)),
        ),
    }
}

/// ` ± 14 %`; empty for an exact value.
fn error(half_width: u64, value: u64) -> String {
    match (half_width as f64 / value as f64 * 100.0).round() {
        _ if half_width == 0 || value == 0 => String::new(),
        percent if percent < 1.0 => " ± under 1 %".to_owned(),
        percent => format!(" ± {percent} %"),
    }
}

/// Growth; with gaps, only the part that was seen.
pub(super) fn rate(bytes_per_second: f64, mode: Option<&Mode>) -> String {
    let seen = if mode.is_some_and(|mode| mode.attached.gaps > 0) { " seen" } else { "" };
    format!("{}{seen}", format_rate(bytes_per_second))
}

/// How allocations were counted.
pub(super) fn counted(mode: &Mode, sizes: Option<String>) -> String {
    let which = sizes.map(|sizes| format!(" {sizes}")).unwrap_or_default();
    let how = match mode.sample_bytes.map(format_bytes) {
        None => format!("every allocation{which} counted"),
        Some(bytes) if mode.sampling => {
            format!("estimated from one sample per {bytes} of allocations{which}")
        }
        Some(bytes) => format!("every allocation{which} counted now, one sample per {bytes} earlier"),
    };
    if mode.attached.gaps == 0 {
        return how;
    }
    format!(
        "{how}, while probes were in place ({} of the time, {})",
        format_percent(mode.attached.share),
        format_count(mode.attached.gaps, "gap")
    )
}

/// What tracing cost, as a line: first the share that the budget is about.
pub(super) fn cost(overhead: &Overhead) -> String {
    let calls = format_count(overhead.calls, "call");
    let of_processor = format_percent(overhead.processors());
    if let Some(least) = overhead.floor() {
        return format!(
            "Tracing took {of_processor} of one CPU (allowed: {}), the target itself {}; {calls} seen",
            format_percent(least),
            format_percent(overhead.own_processors()),
        );
    }
    let allowed = overhead.limit.map(|limit| format!(" (allowed: {})", format_percent(limit)));
    format!(
        "Tracing took {} of the target's CPU time{}, {of_processor} of one CPU; {calls} seen",
        format_percent(overhead.share()),
        allowed.unwrap_or_default()
    )
}

/// The same in a few words.
pub(super) fn cost_in_short(overhead: &Overhead) -> String {
    match overhead.floor() {
        Some(_) => format!("costs {} of one CPU", format_percent(overhead.processors())),
        None => format!("costs {} of its CPU", format_percent(overhead.share())),
    }
}

/// Whether the windows show growth, as a line: what was allocated in them and all that was freed in them.
pub(super) fn balance(mode: &Mode) -> Option<String> {
    let (allocated, freed) = mode.attached.windows?;
    Some(format!(
        "In the windows, {} of all sizes were allocated and {} freed, including older ones",
        format_count(allocated, "block"),
        format_number(freed)
    ))
}

/// What gaps mean for the figures.
pub(super) fn gaps(mode: &Mode) -> Option<String> {
    (mode.attached.gaps > 0).then(|| {
        "allocations made in a gap, and their frees, are unknown and not counted; blocks that were counted earlier and freed in \
         a gap still count"
            .to_owned()
    })
}

/// The part of `total` in whole percent: never 0 % of something, never 100 % of a part.
pub(super) fn share(bytes: u64, total: u64) -> Option<String> {
    let total = u128::from(total);
    let percent = (u128::from(bytes).checked_mul(100)? + total / 2).checked_div(total)?;
    Some(match percent {
        0 if bytes > 0 => "under 1 %".to_owned(),
        _ => format!("{} %", percent.min(if u128::from(bytes) < total { 99 } else { 100 })),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{cost, cost_in_short};
    use crate::profile::Overhead;

    #[test]
    fn the_share_that_the_budget_is_about_comes_first() {
        let of = |spent, cpu, limit: Option<f64>| Overhead {
            spent: Duration::from_millis(spent),
            cpu: Duration::from_millis(cpu),
            elapsed: Duration::from_secs(10),
            calls: 7,
            limit,
            least: limit.map(|limit| limit / 2.0),
        };
        let idle = of(240, 470, Some(0.1));
        assert_eq!(
            cost(&idle),
            "Tracing took 2.4 % of one CPU (allowed: 5 %), the target itself 2.3 %; 7 calls seen"
        );
        assert_eq!(cost_in_short(&idle), "costs 2.4 % of one CPU");
        // From half a CPU on, the share of the target's time allows more.
        assert!(cost(&of(240, 4990, Some(0.1))).starts_with("Tracing took 2.4 % of one CPU (allowed: 5 %)"));
        let busy = of(600, 10_000, Some(0.1));
        assert_eq!(
            cost(&busy),
            "Tracing took 6 % of the target's CPU time (allowed: 10 %), 6 % of one CPU; 7 calls seen"
        );
        assert_eq!(cost_in_short(&busy), "costs 6 % of its CPU");
        assert_eq!(
            cost(&of(240, 470, None)),
            "Tracing took 51 % of the target's CPU time, 2.4 % of one CPU; 7 calls seen"
        );
    }
}
