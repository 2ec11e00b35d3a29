//! Options for the cost of tracing.

use clap::ValueEnum;
use memtrace_common::{
    Part, Shift,
    sampling::{EXACT, MAX_SHIFT},
};

use crate::{
    budget::Choice,
    profile::units::{parse_share, parse_size},
    sources::process::Counting,
};

use super::message::usage;

/// The default budget of `attach`, as a share of the process's CPU time.
pub(super) const DEFAULT_LIMIT: f64 = 0.10;

/// The smallest useful mean distance between samples.
const LEAST_MEAN: u64 = 16;

/// Options for the cost of tracing.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CostArgs {
    /// CPU time that tracing may take, as a share of the process's own (such as 5%), or `off`. If counting every
    /// allocation would take more, memtrace samples; if sampling would too, it traces in short windows [default: 10%
    /// for attach without --trace, otherwise off]
    #[arg(long, value_name = "SHARE", value_parser = parse_limit)]
    max_overhead: Option<Limit>,
    /// Sample one allocation per this many bytes on average (such as 512KiB; rounded to a power of two), larger ones
    /// always; `auto`: sample if the budget requires it; `off`: count every allocation [default: auto with a budget,
    /// otherwise off]
    #[arg(long, value_name = "SIZE", value_parser = parse_sample)]
    sample: Option<Sample>,
    /// Leave out a part of the work, to measure what it costs
    #[arg(long, value_enum, hide = true)]
    without: Vec<Without>,
}

/// A budget, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Off,
    Share(f64),
}

/// Which allocations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sample {
    Auto,
    Off,
    Mean(Shift),
}

/// Parts of the programs' work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Without {
    /// All of it: empty probes.
    Everything,
    /// Counting of the programs' own runs.
    Count,
    /// Calls in flight.
    Calls,
    /// The table of live blocks.
    Live,
    /// Totals of stacks.
    Totals,
    /// Lifetimes of freed blocks.
    Lifetimes,
}

impl Without {
    fn part(self) -> Part {
        match self {
            Self::Everything => Part::Everything,
            Self::Count => Part::Count,
            Self::Calls => Part::Calls,
            Self::Live => Part::Live,
            Self::Totals => Part::Totals,
            Self::Lifetimes => Part::Lifetimes,
        }
    }
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    if text.trim() == "off" { Ok(Limit::Off) } else { parse_share(text).map(Limit::Share) }
}

fn parse_sample(text: &str) -> Result<Sample, String> {
    match text.trim() {
        "auto" => return Ok(Sample::Auto),
        "off" => return Ok(Sample::Off),
        _ => {}
    }
    let size = parse_size(text)?;
    if !(LEAST_MEAN..=1 << MAX_SHIFT).contains(&size) {
        return Err(format!(
            "{text:?} is not a usable distance between samples: use 16 bytes to 1GiB, auto, or off"
        ));
    }
    // The nearest power of two, by ratio.
    Ok(Sample::Mean((size as f64).log2().round() as Shift))
}

impl CostArgs {
    /// How allocations are counted by a command whose default budget is `default`.
    pub(super) fn counting(&self, default: Option<f64>) -> Counting {
        let limit = match self.max_overhead {
            None => default,
            Some(Limit::Off) => None,
            Some(Limit::Share(share)) => Some(share),
        };
        let choice = match (self.sample, limit) {
            (Some(Sample::Mean(shift)), _) => Choice::Fixed(shift),
            (None | Some(Sample::Auto), Some(_)) => Choice::Auto,
            (Some(Sample::Auto), None) => {
                usage("--sample auto needs a budget: set --max-overhead, or a size such as --sample 512KiB")
            }
            (None | Some(Sample::Off), _) => Choice::Fixed(EXACT),
        };
        Counting { choice, limit }
    }

    /// Parts of the programs' work that are left out: bits of [`Part`]; with `lifetimes` that one too.
    pub(super) fn without(&self, lifetimes: bool) -> u32 {
        let lifetimes = if lifetimes { Part::Lifetimes as u32 } else { 0 };
        self.without.iter().fold(lifetimes, |parts, without| parts | without.part() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Sample, parse_limit, parse_sample};

    #[test]
    fn limits_are_shares_or_off() {
        assert_eq!(parse_limit("5%"), Ok(Limit::Share(0.05)));
        assert_eq!(parse_limit("off"), Ok(Limit::Off));
        for wrong in ["0%", "101%", "-1%", "five", "", "5", "nan", "inf"] {
            assert!(parse_limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn means_are_the_nearest_power_of_two() {
        for (text, shift) in [("512KiB", 19), ("500KB", 19), ("16", 4), ("1GiB", 30), ("3KiB", 12)] {
            assert_eq!(parse_sample(text), Ok(Sample::Mean(shift)), "{text}");
        }
        assert_eq!((parse_sample("auto"), parse_sample("off")), (Ok(Sample::Auto), Ok(Sample::Off)));
        for wrong in ["0", "8", "2GiB", "", "x"] {
            assert!(parse_sample(wrong).is_err(), "{wrong}");
        }
    }
}
