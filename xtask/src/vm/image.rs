//! The machine's file system: a shell, the agent, the suites, what they use and what all of it is linked to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::machine::{BEGIN, END};
use super::{fresh, toolchain};
use crate::process;

/// What of busybox the machine uses, and what suites use and trace.
const COMMANDS: [&str; 22] = [
    "mount", "mkdir", "ip", "poweroff", "uname", "cat", "ls", "sleep", "echo", "true", "grep", "chmod", "cp",
    "env", "head", "id", "kill", "ln", "mv", "readlink", "rm", "timeout",
];

/// Tests left out: they trace what the machine has not got (python's library is 50 MB).
const LEFT_OUT: [&str; 1] = ["python_at_work"];

/// Suites that run only if they are named: bcc's own test gives memleak 10 s, and a budget is one of processor time,
/// which an emulated processor does not spend as others do.
const BY_NAME: [&str; 2] = ["budget", "memleak"];

/// What runs on the machine.
pub(super) struct Programs {
    agent: PathBuf,
    /// Name and path.
    suites: Vec<(String, PathBuf)>,
    /// Programs that suites start, found beside them by their names.
    fixtures: Vec<PathBuf>,
}

impl Programs {
    /// Builds agent, suites (if none is named, all that make sense under emulation) and fixtures as `cargo test` does.
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
        let built: Vec<_> = built.into_iter().filter(|one| one.kind == "test").collect();
        for name in suites {
            ensure!(built.iter().any(|one| one.name == *name), "memtrace-tests has no suite {name}");
        }
        let chosen = |one: &Executable| {
            if suites.is_empty() { !BY_NAME.contains(&one.name.as_str()) } else { suites.contains(&one.name) }
        };
        let mut suites: Vec<_> =
            built.into_iter().filter(|one| chosen(one)).map(|one| (one.name, one.path)).collect();
        suites.sort();
        Ok(Self { agent: agent.path, suites, fixtures: fixtures.into_iter().map(|one| one.path).collect() })
    }

    /// The suites' names, in the order in which they are to run.
    pub(super) fn suites(&self) -> Vec<String> {
        self.suites.iter().map(|(name, _)| name.clone()).collect()
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

/// Puts the file system together in `root` and packs it. `sources` are the C programs that suites compile.
pub(super) fn write(
    programs: &Programs,
    busybox: &Path,
    sources: &Path,
    root: &Path,
    initrd: &Path,
) -> Result<()> {
    fresh(root)?;
    for directory in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "tests",
        "proc",
        "sys",
        "dev",
        "etc",
        "tmp",
        "scratch",
    ] {
        fs::create_dir_all(root.join(directory)).context("making the machine's directories")?;
    }
    for directory in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(directory), root.join(directory)).context(directory)?;
    }
    copy(busybox, &root.join("bin/busybox"))?;
    for command in COMMANDS {
        symlink("busybox", root.join("bin").join(command)).context(command)?;
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
        libraries.extend(linked(from)?);
    }
    let tools = toolchain::programs()?;
    for tool in &tools {
        libraries.extend(linked(tool)?);
    }
    let sources = files_below(sources)?;
    let users = ["/etc/passwd", "/etc/group"].map(PathBuf::from);
    let files = toolchain::files()?;
    for file in libraries.into_iter().chain(tools).chain(files).chain(sources).chain(users) {
        copy(&file, &root.join(file.strip_prefix("/").unwrap_or(&file)))?;
    }
    let init = root.join("init");
    fs::write(&init, script()).context("writing the machine's init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("making init a program")?;
    pack(root, initrd)
}

/// What a program is linked to.
fn linked(program: &Path) -> Result<Vec<PathBuf>> {
    let told = process::capture(process::command("ldd").arg(program))?;
    Ok(told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// The files in a directory and those below it.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let directory = to.parent().with_context(|| to.display().to_string())?;
    fs::create_dir_all(directory).context("making the machine's directories")?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

/// What the machine does: mount what Debian mounts (of cgroups, version 2 with the memory controller), run the suites that its
/// kernel's command line ends with, say when each begins and how it ended, and switch itself off.
fn script() -> String {
    let skip: String = LEFT_OUT.iter().map(|test| format!(" --skip {test}")).collect();
    format!(
        "#!/bin/sh\n\
        export PATH=/bin:/sbin HOME=/scratch TMPDIR=/scratch MEMTRACE_BIN=/bin/memtrace MEMTRACE_TEST_BPF=require RUST_BACKTRACE=0 MEMTRACE_TEST_LIMIT=600 MEMTRACE_TEST_DIVIDE=10\n\
        mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/shm\n\
        mount -t cgroup2 cgroup /sys/fs/cgroup; echo +memory > /sys/fs/cgroup/cgroup.subtree_control\n\
        mount -t tmpfs scratch /scratch; mount -t tmpfs shm /dev/shm; ln -s /proc/self/fd /dev/fd; ip link set lo up; chmod 1777 /scratch\n\
        echo; uname -r\n\
        for suite; do\n\
        echo \"{BEGIN}$suite\"; /tests/suite-$suite --test-threads 1{skip} 2>&1; echo \"{END}$suite $?\"\n\
        done\n\
        poweroff -f\n"
    )
}

fn pack(root: &Path, initrd: &Path) -> Result<()> {
    let mut shell = process::command("sh");
    shell.current_dir(root).args(["-c", "find . | cpio --quiet -o -H newc > \"$0\""]).arg(initrd);
    process::run(&mut shell)?;
    let size = fs::metadata(initrd).with_context(|| initrd.display().to_string())?.len();
    ensure!(size > 1 << 20, "{} is too small to be a file system: is cpio installed?", initrd.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{executables, files_below, script};

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
    fn sources_may_be_in_directories() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        for name in ["a.c", "below/b.c"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let mut files = files_below(directory.path()).unwrap();
        files.sort();
        assert_eq!(files, ["a.c", "below/b.c"].map(|name| directory.path().join(name)));
    }

    #[test]
    fn the_machine_says_how_each_suite_ended() {
        let script = script();
        assert!(script.contains("/tests/suite-$suite --test-threads 1 --skip python_at_work 2>&1; "));
        assert!(script.contains("; echo \"memtrace-vm: end $suite $?\"\n"));
        assert!(script.contains("echo +memory > /sys/fs/cgroup/cgroup.subtree_control\n"));
        assert!(script.ends_with("poweroff -f\n"));
    }
}
