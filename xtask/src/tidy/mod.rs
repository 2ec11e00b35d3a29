//! `cargo xtask tidy`: what rustc and clippy cannot check: the floors of the agent and the house rules.

mod floors;
mod lexer;
mod rules;
mod test_code;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::process;
use lexer::{Kind, Token};

/// Check the floors of the agent and the house rules
///
/// Looks at every file that git tracks or would add. Prints `path:line: message`, a line per finding.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Something to put right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Below the workspace root, with `/`.
    path: String,
    /// From 1.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

pub(crate) fn run(root: &Path, _args: &Args) -> Result<ExitCode> {
    let mut files = Vec::new();
    for path in listed(root)? {
        let file = root.join(&path);
        // Removed but not committed yet; a link's target is either another file here or not ours.
        if file.is_file() && !file.is_symlink() {
            let bytes = std::fs::read(&file).with_context(|| path.clone())?;
            files.push((path, bytes));
        }
    }
    let mut findings = check_all(&files);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", files.len(), findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Paths of the files to look at.
fn listed(root: &Path) -> Result<Vec<String>> {
    let list = process::capture(
        process::command("git")
            // The checkout may belong to another user than the one who runs this, as in a container.
            .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root),
    )?;
    let mut files: Vec<String> =
        list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn check_all(files: &[(String, Vec<u8>)]) -> Vec<Finding> {
    let sources = files.iter().filter_map(|(path, bytes)| Some((path, rust_source(path, bytes)?)));
    let test_modules: Vec<String> = sources
        .flat_map(|(path, source)| test_code::test_modules(path, &split(lexer::tokens(source)).1))
        .collect();
    files.iter().flat_map(|(path, bytes)| check(path, bytes, &test_modules)).collect()
}

/// Findings in one file.
fn check(path: &str, bytes: &[u8], test_modules: &[String]) -> Vec<Finding> {
    let mut findings = rules::absolute_paths(path, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return findings };
    let Some(source) = rust_source(path, bytes) else {
        findings.extend(rules::reminders_in_text(path, text));
        return findings;
    };
    let (comments, code) = split(lexer::tokens(source));
    findings.extend(rules::length(path, source));
    findings.extend(rules::reminders_in_comments(path, &comments));
    findings.extend(rules::unfinished(path, &code));
    if !test_code::is_test_file(path, test_modules) {
        findings.extend(rules::panics(path, &code));
    }
    findings.extend(floors::imports(path, &code));
    findings.extend(floors::foreign_crates(path, &code));
    findings
}

fn rust_source<'a>(path: &str, bytes: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes).ok().filter(|_| path.ends_with(".rs"))
}

/// Comments, and code without them.
fn split(tokens: Vec<Token<'_>>) -> (Vec<Token<'_>>, Vec<Token<'_>>) {
    tokens.into_iter().partition(|token| token.kind == Kind::Comment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_applied_and_findings_name_their_place() {
        let source = format!(
            "use crate::session::Source;\nuse aya::Ebpf;\nfn f() {{ todo!(); x.unwrap(); }}\n// FIX{}: later\n{}",
            "ME",
            "\n".repeat(400)
        );
        let findings: Vec<String> = check("memtrace/src/model/probe.rs", source.as_bytes(), &[])
            .iter()
            .map(Finding::to_string)
            .collect();
        assert_eq!(findings.len(), 6, "{findings:#?}");
        let first = findings.iter().find(|finding| finding.contains("floor 4")).unwrap();
        assert!(first.starts_with("memtrace/src/model/probe.rs:1: "), "{first}");
    }

    #[test]
    fn bytes_that_are_no_text_are_searched_for_paths_only() {
        let object = [b"\x7fELF\xff\0".as_slice(), b"/ho", b"me/me/x.rs\0"].concat();
        assert_eq!(check("memtrace-ebpf/prebuilt/o", &object, &[]).len(), 1);
    }

    #[test]
    fn modules_for_tests_may_panic_wherever_their_file_is() {
        let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        let mut files = vec![
            file("memtrace/src/elf/mod.rs", "#[cfg(test)]\nmod fixture;"),
            file("memtrace/src/elf/fixture.rs", "fn f() { x.unwrap() }"),
        ];
        assert_eq!(check_all(&files), []);
        files[0] = file("memtrace/src/elf/mod.rs", "mod fixture;");
        assert_eq!(check_all(&files).len(), 1);
    }
}
