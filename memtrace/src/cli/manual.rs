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

/// Without the commands that memtrace starts itself.
fn visible(command: &Command) -> Command {
    let commands = command.get_subcommands().filter(|of| !of.is_hide_set()).cloned();
    let named = Command::new("memtrace").args(command.get_arguments().cloned()).subcommands(commands);
    let texts = [command.get_about(), command.get_long_about(), command.get_after_help()];
    let [about, long_about, after_help] = texts.map(|text| text.cloned().unwrap_or_default());
    named.version(env!("CARGO_PKG_VERSION")).about(about).long_about(long_about).after_help(after_help)
}

/// Prints a script for a shell.
pub(super) fn completions(args: &CompletionArgs, command: &Command) -> anyhow::Result<ExitCode> {
    let mut command = visible(command);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "memtrace", &mut script);
    print(&script)
}

/// Prints a page of the manual as roff.
pub(super) fn man(args: &ManArgs, command: &Command) -> anyhow::Result<ExitCode> {
    let mut command = visible(command);
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let known = command.find_subcommand(name).cloned();
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

#[cfg(test)]
mod tests {
    use clap::{Command, arg};

    use super::visible;

    #[test]
    fn hidden_commands_are_left_out() {
        let command = Command::new("memtrace")
            .about("about")
            .arg(arg!(-v - -verbose))
            .subcommands([Command::new("attach"), Command::new("secret").hide(true)]);
        let mut command = visible(&command);
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, ["attach"]);
        assert!(command.render_help().to_string().contains("--verbose"));
    }
}
