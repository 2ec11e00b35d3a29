//! `cargo xtask torture`: signals to the agent and to its targets at random moments, in every mode, with targets of every
//! kind that once died or could die of being traced. After each round everything has to be as if nobody had been there.
//!
//! Seed and round determine what happens; when exactly is the machine's. So a round that failed may have to be played
//! again many times.

mod agent;
mod build;
mod checks;
mod kinds;
mod plan;
mod random;
mod resident;
mod round;
mod schedule;
mod system;
mod tally;
mod target;
mod text;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use build::Built;
use kinds::Choice;
use plan::{Mode, Plan};
use resident::Resident;
use round::Bench;
use system::KernelLog;
use tally::Tally;

/// Rounds between two lines about how it goes.
const PROGRESS: u64 = 25;
/// After so many failed rounds there is no more to be learnt.
const MAX_FAILURES: u64 = 20;

/// Break in on the agent and its targets with signals at random moments (as root, with C and C++ compilers)
///
/// Prints what failed with the seed and round that bring it about, and a table at the end.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to go on
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Determines what happens in which round
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Play this round only
    #[arg(long, value_name = "N")]
    round: Option<u64>,
    /// With --round: so many times
    #[arg(long, value_name = "N", default_value_t = 1, requires = "round")]
    repeat: u64,
    /// Kinds of targets; all by default
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    only: Vec<String>,
    /// Kinds of targets that are left out
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    without: Vec<String>,
    /// Modes of the agent; all by default
    #[arg(long, value_name = "MODE", value_delimiter = ',', value_parser = parse_mode)]
    modes: Vec<Mode>,
}

fn parse_kind(name: &str) -> Result<String, String> {
    let known: Vec<_> = kinds::names().collect();
    known.contains(&name).then(|| name.to_owned()).ok_or_else(|| format!("kinds are {}", known.join(", ")))
}

fn parse_mode(name: &str) -> Result<Mode, String> {
    let known: Vec<_> = Mode::ALL.iter().map(|mode| mode.name()).collect();
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
    mode.ok_or_else(|| format!("modes are {}", known.join(", ")))
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "this needs root");
    heed_signals();
    let built = Built::new(root)?;
    let kinds = kinds::available(&built.programs, &Choice { only: &args.only, without: &args.without })?;
    if kinds.is_empty() {
        bail!("there is no kind of target to trace");
    }
    let modes = if args.modes.is_empty() { &Mode::ALL[..] } else { &args.modes };
    let mut suite = Suite {
        seed: args.seed,
        modes,
        bench: Bench::new(&built, &kinds),
        log: KernelLog::open()
            .inspect_err(|error| eprintln!("the kernel's log is not looked at: {error}"))
            .ok(),
        tally: Tally::default(),
    };
    match args.round {
        Some(round) => {
            for _ in 0..args.repeat {
                suite.play(round)?;
            }
        }
        None => suite.play_for(Duration::from_secs_f64(args.minutes * 60.0))?,
    }
    println!("{}\n{}", suite.tally.table(), suite.tally.summary());
    Ok(if suite.tally.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In the background of a shell, or under nohup, signals are ignored, and children inherit that: agents and targets would
/// not end where they are to.
fn heed_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for number in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM] {
        // SAFETY: the default action, no handler.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
}

struct Suite<'a> {
    seed: u64,
    modes: &'a [Mode],
    bench: Bench<'a>,
    log: Option<KernelLog>,
    tally: Tally,
}

impl Suite<'_> {
    /// Plays rounds, with an agent beside them that stays.
    fn play_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let mut resident = Resident::start(self.bench.built)?;
        for round in 0.. {
            if Instant::now() >= end || self.tally.failures() >= MAX_FAILURES {
                break;
            }
            self.play(round)?;
            resident.look()?;
            if (round + 1) % PROGRESS == 0 {
                println!("{}; {}", self.tally.summary(), resident.describe());
            }
        }
        let words = resident.describe();
        let failures = resident.end()?;
        println!("{words}");
        for failure in &failures {
            eprintln!("{failure}");
        }
        self.tally.add_failures(&failures);
        Ok(())
    }

    fn play(&mut self, round: u64) -> Result<()> {
        let plan = Plan::new(self.seed, round, self.bench.kinds.len(), self.modes);
        let mut outcome = round::play(&self.bench, &plan, round)?;
        let mut alarms = self.log.as_mut().map(KernelLog::alarms).unwrap_or_default();
        if plan.kills_children() {
            alarms.retain(|line| !system::is_leak(line));
        }
        outcome.failures.extend(alarms.into_iter().map(|line| format!("the kernel says: {line}")));
        let names: Vec<&str> = self.bench.kinds.iter().map(|kind| kind.name).collect();
        self.tally.add(&plan, &outcome, &names);
        if !outcome.failures.is_empty() {
            let targets: Vec<&str> = plan.kinds.iter().filter_map(|kind| names.get(*kind)).copied().collect();
            eprintln!(
                "seed {} round {round} failed: {} with {}, {:?}",
                self.seed,
                plan.mode.name(),
                targets.join(" "),
                plan.actions
            );
            for failure in &outcome.failures {
                eprintln!("    {failure}");
            }
        }
        Ok(())
    }
}
