//! The programs, and what is known of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// Whether a program leaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// In this function; `*`: in any.
    Leak(String),
    /// A block of this function may be called one: what it belongs to is.
    Either(String),
    /// No block does.
    NoLeak,
}

/// One program.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) truth: Truth,
    /// Verdicts that certain functions must have, if every allocation is counted.
    pub(super) verdicts: Vec<(String, String)>,
    words: Vec<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Program {
    /// The command that starts it.
    pub(super) fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or(Path::new(""), PathBuf::as_path));
        command.args(words).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Those that are chosen, compiled into `directory`.
pub(super) fn all(corpus: &Path, directory: &Path, is_chosen: impl Fn(&str) -> bool) -> Result<Vec<Program>> {
    let entries = fs::read_dir(corpus).with_context(|| corpus.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut programs = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        if extension != "h" && is_chosen(&name) {
            let source = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let words = words(&file, &extension, &directory.join(format!("{name}_{extension}")))?;
            programs.push(parse(&name, &source, words).with_context(|| name.clone())?);
        }
    }
    Ok(programs)
}

/// What the first lines of a source say.
fn parse(name: &str, source: &str, words: Vec<PathBuf>) -> Result<Program> {
    let mut truth = None;
    let (mut verdicts, mut environment) = (Vec::new(), Vec::new());
    for line in source.lines().map_while(|line| line.strip_prefix("// ").or(line.strip_prefix("# "))) {
        match line.split_once(": ") {
            _ if line == "no leak" => truth = Some(Truth::NoLeak),
            Some(("leak", function)) => truth = Some(Truth::Leak(function.to_owned())),
            Some(("either", function)) => truth = Some(Truth::Either(function.to_owned())),
            Some(("environment", pair)) => {
                let (name, value) = pair.split_once('=').context("an environment without =")?;
                environment.push((name.to_owned(), value.to_owned()));
            }
            Some((verdict @ ("steady" | "start_up" | "warming_up"), function)) => {
                verdicts.push((function.to_owned(), verdict.to_owned()));
            }
            _ => {}
        }
    }
    let truth = truth.context("it does not say whether it leaks")?;
    Ok(Program { name: name.to_owned(), truth, verdicts, words, environment })
}

/// Compiles a program and returns its command line.
fn words(file: &Path, extension: &str, program: &Path) -> Result<Vec<PathBuf>> {
    let (compiler, options): (_, &[&str]) = match extension {
        "c" => ("cc", &["-g", "-O0", "-w", "-pthread"]),
        "cpp" => ("c++", &["-g", "-O0", "-w", "-std=c++17", "-pthread"]),
        "rs" => ("rustc", &["-g", "-O", "--edition=2021"]),
        "py" => return Ok(vec!["python3".into(), file.into()]),
        _ => (extension, &[]),
    };
    ensure!(!options.is_empty(), "{}: of what kind is it?", file.display());
    process::run(process::command(compiler).args(options).arg("-o").arg(program).arg(file))?;
    Ok(vec![program.into()])
}

#[cfg(test)]
mod tests {
    use super::{Truth, parse};

    #[test]
    fn sources_state_the_truth() {
        let source = "// A cache.\n// leak: put\n// steady: get\n#include <x>\n// no leak\n";
        let program = parse("cache", source, Vec::new()).unwrap();
        assert_eq!(program.truth, Truth::Leak("put".to_owned()));
        assert_eq!(program.verdicts, [("get".to_owned(), "steady".to_owned())]);
        let script = parse("script", "# no leak\n# environment: A=b\n", Vec::new()).unwrap();
        assert_eq!((script.truth, script.environment.len()), (Truth::NoLeak, 1));
        assert!(parse("none", "// A cache.\n", Vec::new()).is_err());
    }
}
