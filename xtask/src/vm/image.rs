//! The machine's file system: a shell, the agent, the suites and what they are linked to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{MARK, fresh};
use crate::process;

/// What of busybox the machine uses, and what suites trace.
const COMMANDS: [&str; 12] =
    ["sh", "mount", "mkdir", "ip", "poweroff", "uname", "cat", "ls", "sleep", "echo", "true", "grep"];

/// What runs on the machine.
pub(super) struct Programs {
    agent: PathBuf,
    /// Name and path.
    suites: Vec<(String, PathBuf)>,
    /// Programs that suites start, found beside them by their names.
    fixtures: Vec<PathBuf>,
}

impl Programs {
    /// Builds agent, suites and fixtures as `cargo test` does.
    pub(super) fn build(root: &Path, suites: &[String]) -> Result<Self> {
        let build = |arguments: &[&str]| {
            let mut command = process::command("cargo");
            command.current_dir(root).args(arguments).args(["--quiet", "--message-format", "json"]);
            process::capture(&mut command)
        };
        let agent = executables(&build(&["build", "--package", "memtrace", "--bin", "memtrace"])?);
        let tests = executables(&build(&["test", "--no-run", "--package", "memtrace-tests"])?);
        let agent =
            agent.into_iter().find(|one| one.name == "memtrace").context("cargo built no memtrace")?;
        let (fixtures, built): (Vec<_>, Vec<_>) =
            tests.into_iter().partition(|one| one.kind == "bin" && !one.is_test);
        let suites = suites
            .iter()
            .map(|name| {
                let suite = built.iter().find(|one| one.kind == "test" && one.name == *name);
                Ok((
                    name.clone(),
                    suite.with_context(|| format!("memtrace-tests has no suite {name}"))?.path.clone(),
                ))
            })
            .collect::<Result<_>>()?;
        Ok(Self { agent: agent.path, suites, fixtures: fixtures.into_iter().map(|one| one.path).collect() })
    }
}

/// A program that cargo has built.
struct Executable {
    kind: String,
    name: String,
    is_test: bool,
    path: PathBuf,
}

/// The programs in cargo's messages.
fn executables(messages: &str) -> Vec<Executable> {
    let read = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(Executable {
            kind: message["target"]["kind"][0].as_str()?.to_owned(),
            name: message["target"]["name"].as_str()?.to_owned(),
            is_test: message["profile"]["test"].as_bool()?,
            path: message["executable"].as_str()?.into(),
        })
    };
    messages.lines().filter_map(read).collect()
}

/// Puts the file system together in `root` and packs it.
pub(super) fn write(programs: &Programs, busybox: &Path, root: &Path, initrd: &Path) -> Result<()> {
    fresh(root)?;
    for directory in ["bin", "tests", "proc", "sys", "dev", "tmp", "etc", "root"] {
        fs::create_dir(root.join(directory)).context("making the machine's directories")?;
    }
    fs::copy(busybox, root.join("bin/busybox")).with_context(|| busybox.display().to_string())?;
    for command in COMMANDS {
        symlink("busybox", root.join("bin").join(command)).with_context(|| command.to_owned())?;
    }
    let mut placed = vec![(programs.agent.clone(), root.join("bin/memtrace"))];
    for path in &programs.fixtures {
        let name = path.file_name().with_context(|| path.display().to_string())?;
        placed.push((path.clone(), root.join("tests").join(name)));
    }
    for (name, path) in &programs.suites {
        placed.push((path.clone(), root.join("tests").join(format!("suite-{name}"))));
    }
    let mut libraries = BTreeSet::new();
    for (from, to) in &placed {
        // Symbols stay; a debug build's descriptions of its source would fill the machine's memory.
        process::run(process::command("strip").arg("--strip-debug").arg("-o").arg(to).arg(from))?;
        let linked = process::capture(process::command("ldd").arg(from))?;
        libraries.extend(linked.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    }
    for library in libraries {
        let place = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(place.parent().unwrap_or(root)).context("making the machine's directories")?;
        fs::copy(&library, place).with_context(|| library.display().to_string())?;
    }
    let init = root.join("init");
    fs::write(&init, script(&programs.suites)).context("writing the machine's init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("making init a program")?;
    pack(root, initrd)
}

/// What the machine does: run every suite, say how it ended, and switch itself off.
fn script(suites: &[(String, PathBuf)]) -> String {
    let mut script = "#!/bin/sh\n\
        export PATH=/bin MEMTRACE_BIN=/bin/memtrace MEMTRACE_TEST_BPF=require RUST_BACKTRACE=0\n\
        mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/shm\n\
        mount -t tmpfs tmp /tmp; mount -t tmpfs shm /dev/shm; ip link set lo up; uname -r\n"
        .to_owned();
    for (name, _) in suites {
        script.push_str(&format!("/tests/suite-{name} --test-threads 1 2>&1; echo \"{MARK}{name} $?\"\n"));
    }
    script.push_str("poweroff -f\n");
    script
}

fn pack(root: &Path, initrd: &Path) -> Result<()> {
    let mut shell = process::command("sh");
    shell.current_dir(root).args(["-c", "find . | cpio --quiet -o -H newc | gzip -1 > \"$0\""]).arg(initrd);
    process::run(&mut shell)?;
    let size = fs::metadata(initrd).with_context(|| initrd.display().to_string())?.len();
    ensure!(size > 1 << 20, "{} is too small to be a file system: is cpio installed?", initrd.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{executables, script};

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"profile":{"test":true},"executable":"/t/kernel-1"}
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"libc"},"profile":{"test":false},"executable":null}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert!(found[0].is_test && found[0].kind == "test" && found[0].name == "kernel");
    }

    #[test]
    fn the_machine_says_how_each_suite_ended() {
        let script = script(&[("kernel".to_owned(), "/x".into())]);
        assert!(script.contains("suite-kernel --test-threads 1 2>&1; echo \"memtrace-vm: kernel $?\"\n"));
        assert!(script.ends_with("poweroff -f\n"));
    }
}
