//! Runs valgrind's memcheck.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::figures::{Amount, Figures};
use super::programs::Program;
use crate::process;

/// What `valgrind --version` says.
pub(super) fn version() -> Result<String> {
    let output = process::capture(Command::new("valgrind").arg("--version"));
    Ok(output.context("valgrind is needed: apt-get install valgrind")?.trim().to_owned())
}

/// Variables that valgrind sets for the programs that it runs, which some keep copies of: the same number of bytes, without
/// effect.
pub(super) fn environment() -> Result<Vec<(String, String)>> {
    let output = process::capture(Command::new("valgrind").args(["-q", "env", "-0"]))?;
    let variables = output.split('\0').filter_map(|line| line.split_once('='));
    let new = variables.filter(|(name, _)| std::env::var_os(name).is_none());
    let harmless = |(name, value): (&str, &str)| {
        // The loader skips what is empty between colons.
        let value = if name.starts_with("LD_") { ":".repeat(value.len()) } else { value.to_owned() };
        (name.to_owned(), value)
    };
    Ok(new.map(harmless).collect())
}

/// Runs a program to its end, whatever its status. `heuristics`: as in valgrind's option.
pub(super) fn run(program: &Program, directory: &Path, heuristics: &str) -> Result<Figures> {
    let log = directory.join("valgrind.log");
    let mut command = Command::new("valgrind");
    command
        .args(["--leak-check=full", "--show-leak-kinds=all", "--child-silent-after-fork=yes"])
        .args(["--run-libc-freeres=no", "--run-cxx-freeres=no"])
        .arg(format!("--leak-check-heuristics={heuristics}"))
        .arg(format!("--log-file={}", log.display()))
        .args(program.words())
        .envs(program.environment());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().context("valgrind")?;
    let text = fs::read(&log).with_context(|| log.display().to_string())?;
    let text = String::from_utf8_lossy(&text);
    parse(&text).with_context(|| format!("no leak summary in {text}"))
}

/// Reads its last words.
fn parse(text: &str) -> Option<Figures> {
    if text.contains("All heap blocks were freed") {
        return Some(Figures::default());
    }
    let (_, summary) = text.rsplit_once("LEAK SUMMARY:")?;
    let amount = |what: &str| {
        let (_, rest) = summary.split_once(what)?;
        let mut numbers = rest.split_ascii_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
        Some(Amount { bytes: numbers.next()?, blocks: numbers.next()? })
    };
    Some(Figures {
        definitely: amount("definitely lost:")?,
        indirectly: amount("indirectly lost:")?,
        possibly: amount("possibly lost:")?,
        reachable: amount("still reachable:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_and_nothing_else() {
        let text = "==1== LEAK SUMMARY:\n==1==    definitely lost: 1,600 bytes in 50 blocks\n\
                    ==1==    indirectly lost: 0 bytes in 0 blocks\n==1==      possibly lost: 7 bytes in 1 blocks\n\
                    ==1==    still reachable: 72,704 bytes in 1 blocks\n==1==         suppressed: 9 bytes in 9 blocks";
        let figures = parse(text).unwrap();
        assert_eq!(figures.definitely, Amount { blocks: 50, bytes: 1600 });
        assert_eq!(figures.possibly, Amount { blocks: 1, bytes: 7 });
        assert_eq!(figures.reachable, Amount { blocks: 1, bytes: 72704 });
        assert_eq!(parse("==1== All heap blocks were freed"), Some(Figures::default()));
        assert_eq!(parse("==1== Command: true"), None);
    }
}
