//! Options of the leak check at a command's end.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::profile::{Amount, MAX_SUPPRESSIONS, Suppressions};

use super::message::usage;

/// When to look for lost blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LeakCheck {
    /// Unless the command is one that a tracer would disturb.
    Auto,
    /// Never.
    Off,
    /// Always.
    Always,
}

/// Options of the leak check, for `run`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LeakArgs {
    /// Look for lost blocks when the command ends: those that nothing in its memory points to any more.
    ///
    /// The command is held at its end while its memory is searched, however it ends: by exit, by a signal, or with its
    /// last thread. Until then it is traced (ptrace), as under a debugger: no other debugger can attach to it, and every
    /// signal it gets takes some microseconds longer.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = LeakCheck::Auto)]
    pub(super) leak_check: LeakCheck,
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

/// Examples for the help of `run`.
pub(super) const EXAMPLES: &str = "\
  memtrace run --error-exitcode 99 -- ./tests            fails if ./tests loses a block
  memtrace run --gen-suppressions -- ./tests             prints a line for each leak that is known by now
  memtrace run --suppressions known.supp -- ./tests      leaves them out from then on";

impl LeakArgs {
    /// Checks options against each other.
    pub(super) fn check(&self) {
        let needs = match self {
            _ if self.leak_check != LeakCheck::Off => return,
            Self { error_exitcode: Some(_), .. } => "--error-exitcode",
            Self { gen_suppressions: true, .. } => "--gen-suppressions",
            _ => return,
        };
        usage(&format!("{needs} has no effect with --leak-check off"));
    }

    /// Whether to check. `is_disturbed`: the command is one that a tracer would disturb.
    pub(super) fn is_wanted(&self, is_disturbed: bool) -> bool {
        match self.leak_check {
            LeakCheck::Auto => !is_disturbed,
            LeakCheck::Off => false,
            LeakCheck::Always => true,
        }
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

    use super::{EXAMPLES, LeakArgs, LeakCheck};
    use crate::profile::Amount;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        leak: LeakArgs,
    }

    fn parsed(line: &str) -> Result<LeakArgs, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.leak)
    }

    #[test]
    fn options_and_defaults() {
        Line::command().debug_assert();
        for example in EXAMPLES.lines() {
            let options = example.trim().trim_start_matches("memtrace ");
            parsed(options.split(" -- ").next().unwrap()).unwrap().check();
        }
        let none = parsed("run").unwrap();
        assert_eq!(
            (none.leak_check, none.error_exitcode, none.gen_suppressions),
            (LeakCheck::Auto, None, false)
        );
        assert!(none.is_wanted(false) && !none.is_wanted(true));
        let all = parsed("run --leak-check always --error-exitcode 99 --gen-suppressions").unwrap();
        assert!(all.is_wanted(true) && all.gen_suppressions);
        assert!(!parsed("run --leak-check off").unwrap().is_wanted(false));
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
