//! The programs: each knows what it needs and how to be kept busy.

mod commands;
mod scripts;
mod servers;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::subject::{Subject, finish};

/// A program and its load.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Executables it needs: a name in PATH or a path.
    needs: &'static [&'static str],
    /// Packages of the distribution that have them.
    packages: &'static [&'static str],
    /// Starts it under load. Takes the directory of the fixtures.
    pub(super) start: fn(&Path) -> Result<Subject>,
}

/// All of them, in the table's order.
pub(super) const ALL: &[Program] = &[
    Program {
        name: "redis-server",
        needs: &["redis-server", "redis-benchmark"],
        packages: &["redis-server", "redis-tools"],
        start: servers::redis,
    },
    Program { name: "python3", needs: &["/usr/bin/python3"], packages: &["python3"], start: scripts::python },
    Program { name: "git", needs: &["git"], packages: &["git"], start: commands::git },
    Program { name: "nginx", needs: &["nginx"], packages: &["nginx-light"], start: servers::nginx },
    Program {
        name: "postgres",
        needs: &["/usr/lib/postgresql/15/bin/postgres", "setpriv"],
        packages: &["postgresql-15"],
        start: servers::postgres,
    },
    Program { name: "node", needs: &["node"], packages: &["nodejs"], start: scripts::node },
    Program {
        name: "clang",
        needs: &["clang-14", "g++"],
        packages: &["clang-14", "g++"],
        start: commands::clang,
    },
    Program { name: "rust-threads", needs: &["rustc"], packages: &[], start: scripts::rust },
    Program { name: "rustc", needs: &["rustc"], packages: &[], start: commands::rustc },
];

impl Program {
    /// Sees that it is installed.
    pub(super) fn available(&self) -> Result<()> {
        if self.missing().is_none() {
            return Ok(());
        }
        if !self.packages.is_empty() {
            // This fails for users other than root; the check below reports it.
            let _ = finish(
                Command::new("apt-get")
                    .args(["install", "-qq", "-y", "--no-install-recommends"])
                    .args(self.packages)
                    .env("DEBIAN_FRONTEND", "noninteractive"),
            );
        }
        let missing = self.missing();
        ensure!(missing.is_none(), "{} is not installed", missing.unwrap_or_default());
        Ok(())
    }

    fn missing(&self) -> Option<&'static str> {
        self.needs.iter().copied().find(|program| !is_executable(program))
    }
}

fn is_executable(program: &str) -> bool {
    let status = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::is_executable;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(is_executable("sh") && is_executable("/bin/sh"));
        assert!(!is_executable("no-such-program") && !is_executable("/no/such/program"));
    }
}
