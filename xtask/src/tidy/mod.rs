//! `cargo xtask tidy`: what rustc and clippy cannot check: the floors of the agent and the house rules.

mod floors;
mod lexer;
mod rules;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::process;
use lexer::Kind;

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
    let mut findings: Vec<Finding> = files.iter().flat_map(|(path, bytes)| check(path, bytes)).collect();
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
            // The checkout may belong to a different user than the one running this, as in a container.
            .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root),
    )?;
    let mut files: Vec<String> =
        list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Findings in one file.
fn check(path: &str, bytes: &[u8]) -> Vec<Finding> {
    let mut findings = rules::absolute_paths(path, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return findings };
    if !path.ends_with(".rs") {
        findings.extend(rules::reminders_in_text(path, text));
        return findings;
    }
    let (comments, code): (Vec<_>, Vec<_>) =
        lexer::tokens(text).into_iter().partition(|token| token.kind == Kind::Comment);
    findings.extend(rules::length(path, text));
    findings.extend(rules::reminders_in_comments(path, &comments));
    findings.extend(rules::panics(path, &code));
    findings.extend(floors::imports(path, &code));
    findings.extend(floors::foreign_crates(path, &code));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_applied_and_findings_name_their_place() {
        let source = format!(
            "use crate::session::Source;\nuse aya::Ebpf;\n// FIX{}: later\n{}",
            "ME",
            "\n".repeat(400)
        );
        let findings: Vec<String> =
            check("memtrace/src/model/probe.rs", source.as_bytes()).iter().map(Finding::to_string).collect();
        assert_eq!(findings.len(), 4, "{findings:#?}");
        let first = findings.iter().find(|finding| finding.contains("floor 4")).unwrap();
        assert!(first.starts_with("memtrace/src/model/probe.rs:1: "), "{first}");
        assert_eq!(check("memtrace-ebpf/src/main.rs", b"fn f() { x.unwrap() }").len(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_searched_for_paths_only() {
        let object = [b"\x7fELF\xff\0".as_slice(), b"/ho", b"me/me/x.rs\0"].concat();
        assert_eq!(check("memtrace-ebpf/prebuilt/o", &object).len(), 1);
    }
}
