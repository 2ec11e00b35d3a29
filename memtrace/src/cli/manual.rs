//! `memtrace completions` and `memtrace man`: what packages install beside the program.

use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::session::write_whole;

use super::message::usage;

/// Options of `memtrace completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace completions bash > /etc/bash_completion.d/memtrace
  memtrace completions zsh > /usr/share/zsh/vendor-completions/_memtrace
  memtrace completions fish > ~/.config/fish/completions/memtrace.fish")]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Options of `memtrace man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace man | man -l -
  memtrace man attach > /usr/local/share/man/man1/memtrace-attach.1")]
pub(super) struct ManArgs {
    /// The command that the page is about; without one, memtrace as a whole
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Prints a script for a shell.
pub(super) fn completions(args: &CompletionArgs, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "memtrace", &mut script);
    print(&script)
}

/// Prints a page of the manual as roff.
pub(super) fn man(args: &ManArgs, mut command: Command) -> anyhow::Result<ExitCode> {
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let known = command.find_subcommand(name).filter(|known| !known.is_hide_set()).cloned();
            known.unwrap_or_else(|| usage(&format!("memtrace has no command {name:?}")))
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    write_whole(std::io::stdout(), &String::from_utf8_lossy(text))?;
    Ok(ExitCode::SUCCESS)
}
