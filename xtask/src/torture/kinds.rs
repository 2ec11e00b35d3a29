//! The kinds of targets.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::target::Target;

/// How a kind is made from the fixtures.
struct Recipe {
    name: &'static str,
    /// The program's file, without its ending.
    program: &'static str,
    arguments: &'static [&'static str],
    /// A library that is preloaded.
    preload: Option<&'static str>,
}

const fn plain(name: &'static str, program: &'static str, arguments: &'static [&'static str]) -> Recipe {
    Recipe { name, program, arguments, preload: None }
}

const fn with(name: &'static str, program: &'static str, library: &'static str) -> Recipe {
    Recipe { name, program, arguments: &[], preload: Some(library) }
}

/// Where an argument stands for the library that is loaded and unloaded.
const PLUGIN: &str = "PLUGIN";

const RECIPES: [Recipe; 19] = [
    plain("churn", "churn", &[]),
    plain("threads", "churn", &["4"]),
    plain("fork", "children", &[]),
    plain("vfork", "children", &["vfork"]),
    plain("exec", "again", &[]),
    plain("dlopen", "host", &[PLUGIN]),
    plain("throw", "throwing", &[]),
    with("throw-jemalloc", "throwing", "libjemalloc.so.2"),
    with("throw-tcmalloc", "throwing", "libtcmalloc_minimal.so.4"),
    with("throw-mimalloc", "throwing", "libmimalloc.so.2"),
    with("churn-jemalloc", "churn", "libjemalloc.so.2"),
    with("churn-mimalloc", "churn", "libmimalloc.so.2"),
    plain("fiber", "leaving", &["fiber"]),
    plain("longjmp", "leaving", &["longjmp"]),
    plain("setcontext", "leaving", &["context"]),
    plain("cancel", "leaving", &["cancel"]),
    plain("leaderless", "leaderless", &[]),
    plain("leader-leaves", "leaderless", &["250"]),
    plain("handlers", "handlers", &[]),
];

/// A program, its arguments, and what it prints untraced.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) words: Vec<PathBuf>,
    pub(super) preload: Option<&'static str>,
    pub(super) expected: String,
}

impl Kind {
    /// The command as it is started, without the agent.
    pub(super) fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or(Path::new(""), PathBuf::as_path));
        command.args(words);
        if let Some(library) = self.preload {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    /// The same as words of the agent's command line.
    pub(super) fn run_words(&self) -> Vec<PathBuf> {
        let preload = self.preload.map(|library| format!("LD_PRELOAD={library}"));
        let prefix = preload.map(|setting| ["env".into(), PathBuf::from(setting)]);
        prefix.into_iter().flatten().chain(self.words.iter().cloned()).collect()
    }

    /// Whether the agent may refuse it: its main thread has left.
    pub(super) fn may_be_refused(&self) -> bool {
        self.name.starts_with("leader")
    }
}

/// Which kinds are wanted.
pub(super) struct Choice<'a> {
    pub(super) only: &'a [String],
    pub(super) without: &'a [String],
}

impl Choice<'_> {
    pub(super) fn takes(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|wanted| wanted == name);
        (self.only.is_empty() || named(self.only)) && !named(self.without)
    }
}

/// Names of all kinds.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|recipe| recipe.name)
}

/// Libraries that are preloaded.
pub(super) fn libraries() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().filter_map(|recipe| recipe.preload)
}

/// The requested kinds that work on this machine untraced. Those left out are listed on standard error.
pub(super) fn available(programs: &Path, choice: &Choice<'_>) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for recipe in RECIPES.iter().filter(|recipe| choice.takes(recipe.name)) {
        let mut words = vec![programs.join(recipe.program)];
        words.extend(recipe.arguments.iter().map(|word| match *word {
            PLUGIN => programs.join("plugin.so"),
            word => word.into(),
        }));
        let mut kind = Kind { name: recipe.name, words, preload: recipe.preload, expected: String::new() };
        match untraced(&kind)? {
            Some(expected) => {
                kind.expected = expected;
                kinds.push(kind);
            }
            None => eprintln!("{} is left out: it does not work here untraced either", kind.name),
        }
    }
    Ok(kinds)
}

/// What it prints untraced. `None` if it fails, or a library is missing.
fn untraced(kind: &Kind) -> Result<Option<String>> {
    let directory = tempfile::tempdir()?;
    let target = Target::start(&mut kind.command(), directory.path(), "untraced")?;
    let ended = target.end()?;
    // The loader says on standard error what it could not preload.
    let clean = ended.status.is_some_and(|status| status.success()) && ended.errors.is_empty();
    Ok(clean.then(|| ended.output.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_chosen_by_name() {
        let (only, without) = (["fiber".to_owned(), "fork".to_owned()], ["fork".to_owned()]);
        let choice = Choice { only: &only, without: &without };
        assert_eq!(names().filter(|name| choice.takes(name)).collect::<Vec<_>>(), ["fiber"]);
        let all = Choice { only: &[], without: &without };
        assert_eq!(names().filter(|name| all.takes(name)).count(), RECIPES.len() - 1);
    }

    #[test]
    fn a_library_is_preloaded_into_the_command_only() {
        let kind = Kind {
            name: "churn",
            words: vec!["/churn".into(), "4".into()],
            preload: Some("lib.so"),
            expected: String::new(),
        };
        assert_eq!(kind.run_words(), ["env", "LD_PRELOAD=lib.so", "/churn", "4"].map(PathBuf::from));
    }
}
