//! Options for what is counted, and how.

use std::time::Duration;

use clap::ValueEnum;
use memtrace_common::WalkMethod;

use crate::{
    allocators::ReturnProbes,
    bpf::Config,
    profile::units::{parse_duration, parse_size},
    sources::process::{LeakOptions, Options, Placement},
    target::select::Selector,
};

use super::{choice::ChoiceArgs, cost::CostArgs, leak::LeakArgs, message::usage};

/// How stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Stacks {
    /// Call frame information (.eh_frame, .debug_frame): complete, however the code was built.
    Cfi,
    /// Frame pointers: short or wrong in code built without them.
    Fp,
    /// The caller only, to measure what the rest costs.
    #[value(hide = true)]
    Caller,
    /// By the kernel's `bpf_get_stackid`, for comparison; only the caller is reported.
    #[value(hide = true)]
    Kernel,
}

impl From<Stacks> for WalkMethod {
    fn from(stacks: Stacks) -> Self {
        match stacks {
            Stacks::Cfi => Self::Cfi,
            Stacks::Fp => Self::FramePointer,
            Stacks::Caller => Self::Caller,
            Stacks::Kernel => Self::Kernel,
        }
    }
}

/// Options for what is counted, and how.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CountArgs {
    /// Count only blocks at least this old
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    older: Option<Duration>,
    /// Track only allocations of at least this size (100, 4KiB, 1MB)
    #[arg(short = 'z', long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,
    /// Track only allocations of at most this size
    #[arg(short = 'Z', long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Track at most this many live blocks, at about 50 bytes of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=200_000_000))]
    max_live: u32,
    /// Track at most this many distinct stacks, at 128 bytes of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    max_stacks: u32,
    /// Do not count how long freed blocks lived, which costs about 10 ns a free: fewer verdicts can be given then
    #[arg(long)]
    no_lifetimes: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    pub(super) leaks: LeakArgs,
    #[command(flatten)]
    cost: CostArgs,
    /// How to unwind stacks
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Stacks::Cfi)]
    stacks: Stacks,
    /// Attach as on kernels without multi-uprobes, for tests
    #[arg(long, hide = true)]
    perf_uprobes: bool,
    /// Probe the first byte of functions, as other tools do: slow, for comparison
    #[arg(long, hide = true)]
    first_byte: bool,
    /// Use return probes on every allocating function, even where that can kill the target: for comparison
    #[arg(long, hide = true)]
    return_probes: bool,
}

/// Checks limits of sizes against each other.
pub(super) fn check_sizes(min_size: Option<u64>, max_size: Option<u64>) {
    if min_size.unwrap_or(0) > max_size.unwrap_or(u64::MAX) {
        usage("--min-size is larger than --max-size: no allocation could match");
    }
}

impl CountArgs {
    /// Checks options against each other.
    pub(super) fn check(&self) {
        check_sizes(self.min_size, self.max_size);
    }

    /// Options of a session that traces `targets` processes and no others, with `limit` as the default budget: a share of
    /// their CPU time.
    pub(super) fn options(
        &self,
        verbose: bool,
        targets: usize,
        limit: Option<f64>,
        leaks: LeakOptions,
    ) -> Options {
        let targets = u32::try_from(targets).unwrap_or(u32::MAX);
        Options {
            config: Config {
                max_live: self.max_live,
                max_stacks: self.max_stacks,
                min_size: self.min_size.unwrap_or(0),
                max_size: self.max_size.unwrap_or(u64::MAX),
                verbose,
                method: self.stacks.into(),
                targets,
                perf: self.perf_uprobes,
                without: self.cost.without(self.no_lifetimes),
                ..Config::default()
            },
            older: self.older,
            show_allocs: false,
            freed: false,
            verdicts: true,
            early: true,
            counting: self.cost.counting(limit),
            placement: Placement {
                first_byte: self.first_byte,
                returns: if self.return_probes { ReturnProbes::Everywhere } else { ReturnProbes::Safe },
                choice: self.choice.choice().into(),
            },
            leaks,
            follow: false,
            select: Selector::default(),
            names: Some(super::NAMES),
        }
    }
}
