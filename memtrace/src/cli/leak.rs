//! Options of leak checks: of running processes, and of a command at its end.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{
    profile::{Amount, MAX_SUPPRESSIONS, Suppressions},
    sources::process::{LeakOptions, When},
};

use super::message::usage;

/// When to look for lost blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LeakCheck {
    /// While a scan takes at most 2 s of memtrace's CPU time.
    Auto,
    /// Never.
    Off,
    /// Whatever it costs.
    Always,
}

/// Options of leak checks.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LeakArgs {
    /// Look for lost blocks: those that nothing in the process's memory points to any more.
    ///
    /// `attach` scans the memory of the running process, without stopping it. `run` scans it once, at the command's end,
    /// however it ends: until then the command is traced (ptrace), as under a debugger.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = LeakCheck::Auto)]
    leak_check: LeakCheck,
    /// Look for pointers at any address, as in packed structures, not only at multiples of 8: a scan takes several times
    /// as long
    #[arg(long)]
    unaligned: bool,
}

impl LeakArgs {
    /// `stop`: whether to stop the process for a scan; `at_exit`: whether to scan at the end only.
    pub(super) fn options(&self, stop: bool, at_exit: bool) -> LeakOptions {
        let when = match self.leak_check {
            LeakCheck::Auto => When::Auto,
            LeakCheck::Off => When::Off,
            LeakCheck::Always => When::Always,
        };
        LeakOptions { when, stop, at_exit, unaligned: self.unaligned, seldom: false }
    }

    /// Whether to check at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.leak_check != LeakCheck::Off
    }
}

/// What is done about the lost blocks of a command.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LostArgs {
    /// Exit with this status if blocks are lost, for scripts and CI.
    ///
    /// Without it, and if no block is lost, the status is the command's. Neither a block that is still reachable nor one
    /// that is suppressed is an error.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) error_exitcode: Option<u8>,
    /// Leave out the lost blocks that this file names.
    ///
    /// The form is that of LeakSanitizer: a line `leak:PATTERN` for each, and comments that begin with #. A pattern matches
    /// a function, source file or module of any frame of the stack that allocated the block, and any part of it: * stands
    /// for any characters, ^ for the beginning, $ for the end. May be given more than once.
    #[arg(long, value_name = "FILE")]
    suppressions: Vec<PathBuf>,
    /// Print a suppression for every stack with lost blocks, to be put into a file for --suppressions
    #[arg(long)]
    pub(super) gen_suppressions: bool,
}

impl LostArgs {
    /// Checks options against each other. `is_wanted`: whether there is a leak check.
    pub(super) fn check(&self, is_wanted: bool) {
        let needs = match self {
            _ if is_wanted => return,
            Self { error_exitcode: Some(_), .. } => "--error-exitcode",
            Self { gen_suppressions: true, .. } => "--gen-suppressions",
            _ => return,
        };
        usage(&format!("{needs} has no effect with --leak-check off"));
    }

    /// The suppressions of all files, in the order in which they were given.
    pub(super) fn suppressions(&self) -> anyhow::Result<Suppressions> {
        let mut all = Suppressions::default();
        for path in &self.suppressions {
            all.extend(read(path)?);
        }
        Ok(all)
    }

    /// The exit status: `lost` is what is lost and not suppressed, `command` the command's status.
    pub(super) fn status(&self, lost: Amount, command: u8) -> u8 {
        self.error_exitcode.filter(|_| lost.blocks > 0).unwrap_or(command)
    }
}

fn read(path: &Path) -> anyhow::Result<Suppressions> {
    let name = || format!("--suppressions: {}", path.display());
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SUPPRESSIONS + 1).read_to_end(&mut text))
        .with_context(name)?;
    if text.len() as u64 > MAX_SUPPRESSIONS {
        bail!("{}: more than {} MiB", name(), MAX_SUPPRESSIONS >> 20);
    }
    // Names of functions may be in any encoding.
    Suppressions::parse(&String::from_utf8_lossy(&text)).with_context(name)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::{LeakArgs, LostArgs};
    use crate::profile::Amount;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        leak: LeakArgs,
        #[command(flatten)]
        lost: LostArgs,
    }

    fn parsed(line: &str) -> Result<LostArgs, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.lost)
    }

    #[test]
    fn options_and_defaults() {
        Line::command().debug_assert();
        let none = parsed("run").unwrap();
        assert_eq!((none.error_exitcode, none.gen_suppressions), (None, false));
        let all = parsed("run --leak-check always --error-exitcode 99 --gen-suppressions").unwrap();
        assert!(all.error_exitcode == Some(99) && all.gen_suppressions);
        let off = Line::try_parse_from(["run", "--leak-check", "off"]).unwrap();
        assert!(!off.leak.is_wanted());
        for wrong in ["run --error-exitcode 0", "run --error-exitcode 256", "run --leak-check maybe"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lost_blocks_decide_the_status() {
        let (none, some) = (Amount::default(), Amount { bytes: 0, blocks: 1 });
        let args = parsed("run --error-exitcode 99").unwrap();
        assert_eq!((args.status(none, 3), args.status(some, 0)), (3, 99));
        let args = parsed("run").unwrap();
        assert_eq!((args.status(none, 0), args.status(some, 3)), (0, 3));
    }

    #[test]
    fn files_are_joined_and_refused_by_name_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (one, two) = (file("one", "leak:a\n"), file("two", "leak:b\nleak:c\n"));
        let both = parsed(&format!("run --suppressions {one} --suppressions {two}")).unwrap();
        let joined = crate::profile::Suppressions::parse("leak:a\nleak:b\nleak:c").unwrap();
        assert_eq!(both.suppressions().unwrap(), joined);
        let refused = |path: &str| {
            let error = parsed(&format!("run --suppressions {path}")).unwrap().suppressions().unwrap_err();
            crate::cli::causes(&error)
        };
        let wrong = file("wrong", "leak:a\nrace:b\n");
        assert!(refused(&wrong).starts_with(&format!("--suppressions: {wrong}: line 2: \"race:b\"")));
        assert!(refused("/nonexistent").contains("No such file"));
        assert!(refused(&file("large", &"#\n".repeat(600_000))).contains("more than 1 MiB"));
    }
}
