//! The programs of a measurement: built here, started, spoken to, and gone when dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// Libraries that the process with many mapped files maps beside its own.
const LIBRARIES: usize = 50;
/// What the agent writes to stderr once every probe is in place.
const ATTACHED: &str = "memtrace: attached to ";
/// What the first line of a report's totals begins with.
const REPORT: &str = "Outstanding:";

/// The built programs.
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    /// `pair.c` with frame pointers, and without.
    pub(super) pair: PathBuf,
    pub(super) pair_omit: PathBuf,
    pub(super) idle: PathBuf,
    pub(super) live: PathBuf,
    pub(super) libraries: Vec<PathBuf>,
}

impl Programs {
    /// Builds the agent for release, and the fixtures with `cc`, below the target directory.
    pub(super) fn build(root: &Path) -> Result<Self> {
        let target = root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        process::run(
            process::command("cargo")
                .current_dir(root)
                .args(["build", "--quiet", "--release", "--package", "memtrace", "--target-dir"])
                .arg(&target),
        )?;
        let directory = target.join("bench");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let fixtures = root.join("xtask/fixtures");
        let compile = |source: &str, name: &str, flag: &str| {
            let program = directory.join(name);
            cc(&fixtures.join(source), &program, &[flag])?;
            anyhow::Ok(program)
        };
        Ok(Self {
            agent: target.join("release/memtrace"),
            pair: compile("pair.c", "pair", "-fno-omit-frame-pointer")?,
            pair_omit: compile("pair.c", "pair-omit", "-fomit-frame-pointer")?,
            idle: compile("idle.c", "idle", "-fno-omit-frame-pointer")?,
            live: compile("live.c", "live", "-fno-omit-frame-pointer")?,
            libraries: libraries(&directory)?,
        })
    }
}

/// `-fno-optimize-sibling-calls`: a tail call would leave fewer frames than asked for.
fn cc(source: &Path, program: &Path, flags: &[&str]) -> Result<()> {
    let common = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-fno-optimize-sibling-calls"];
    process::run(process::command("cc").args(common).args(flags).arg(source).arg("-o").arg(program))
}

/// Small shared objects, each a file of its own.
fn libraries(directory: &Path) -> Result<Vec<PathBuf>> {
    let first = directory.join("libbench0.so");
    let source = directory.join("library.c");
    fs::write(&source, "int bench_library(int x) { return x + 1; }\n")
        .with_context(|| source.display().to_string())?;
    cc(&source, &first, &["-shared", "-fPIC"])?;
    let mut libraries = vec![first.clone()];
    for number in 1..LIBRARIES {
        let library = directory.join(format!("libbench{number}.so"));
        fs::copy(&first, &library).with_context(|| library.display().to_string())?;
        libraries.push(library);
    }
    Ok(libraries)
}

/// A running child, killed when dropped: for the agent that is the unfriendly end, after which no probe is
/// left either.
pub(super) struct Running(Child);

impl Running {
    fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("cannot start {name}"))?))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A fixture: a line in, a line out. It ends with its standard input.
pub(super) struct Fixture {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    running: Running,
}

impl Fixture {
    pub(super) fn start(program: &Path, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::spawn(&mut command)?;
        let input = running.0.stdin.take().context("a fixture without stdin")?;
        let output = running.0.stdout.take().context("a fixture without stdout")?;
        Ok(Self { input, output: BufReader::new(output), running })
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.id()
    }

    /// The next line it writes.
    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line).context("reading from a fixture")? != 0, "a fixture ended");
        Ok(line.trim_end().to_owned())
    }

    /// What it answers to `request`.
    pub(super) fn ask(&mut self, request: u64) -> Result<String> {
        // In one piece: a fixture takes what one read gives for a line.
        self.input.write_all(format!("{request}\n").as_bytes()).context("writing to a fixture")?;
        self.line()
    }
}

/// An attached agent.
pub(super) struct Agent {
    running: Running,
    reports: Receiver<()>,
    /// Held: a closed pipe would be the agent's problem.
    _stderr: BufReader<ChildStderr>,
}

impl Agent {
    /// Starts it on a process and returns when every probe is in place.
    pub(super) fn attach(
        program: &Path,
        pid: u32,
        options: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("attach").arg(pid.to_string()).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::spawn(&mut command)?;
        let output = running.0.stdout.take().context("an agent without stdout")?;
        let stderr = running.0.stderr.take().context("an agent without stderr")?;
        Ok(Self { reports: count_reports(output), _stderr: until_attached(stderr)?, running })
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.id()
    }

    /// Waits for `count` reports that begin after this call.
    pub(super) fn await_reports(&mut self, count: usize) -> Result<()> {
        while self.reports.try_recv().is_ok() {}
        for _ in 0..count {
            self.reports.recv().context("the agent ended before its report")?;
        }
        Ok(())
    }
}

/// Reads reports as they come, so that the agent never waits; tells of each.
fn count_reports(output: ChildStdout) -> Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        for _ in lines.filter(|line| line.starts_with(REPORT)) {
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn until_attached(stderr: ChildStderr) -> Result<BufReader<ChildStderr>> {
    let mut stderr = BufReader::new(stderr);
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if stderr.read_line(&mut line).context("reading the agent's messages")? == 0 {
            bail!("memtrace did not attach: {}", said.trim_end());
        }
        if line.starts_with(ATTACHED) {
            return Ok(stderr);
        }
        said.push_str(&line);
    }
}

/// bpftrace counting the same three probes, as its users write it; none when it is not installed.
pub(super) struct Bpftrace {
    running: Running,
}

impl Bpftrace {
    /// Whether it is installed.
    pub(super) fn is_there() -> bool {
        process::capture(process::command("bpftrace").arg("--version")).is_ok()
    }

    /// Starts it; its probes come some time later, which it does not tell.
    pub(super) fn start(pid: u32) -> Result<Self> {
        let libc = libc_of(pid)?;
        let script = format!(
            "uprobe:{libc}:malloc {{ @size[tid] = arg0; }}
             uretprobe:{libc}:malloc /@size[tid]/ {{
                 @live[retval] = @size[tid]; @stack[retval] = ustack; delete(@size[tid]); }}
             uprobe:{libc}:free {{ delete(@live[arg0]); delete(@stack[arg0]); }}"
        );
        let mut command = process::command("bpftrace");
        command.args(["-p", &pid.to_string(), "-e", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(Self { running: Running::spawn(&mut command)? })
    }

    /// What it complained about, when it has ended.
    pub(super) fn complaint(&mut self) -> Option<String> {
        self.running.0.try_wait().ok()??;
        let mut text = String::new();
        self.running.0.stderr.take()?.read_to_string(&mut text).ok()?;
        Some(text.trim_end().to_owned())
    }
}

fn libc_of(pid: u32) -> Result<String> {
    let path = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&path).context(path)?;
    let file = maps.lines().filter_map(|line| line.split_whitespace().last());
    let libc = file.into_iter().find(|file| file.contains("/libc.so"));
    libc.map(str::to_owned).with_context(|| format!("process {pid} maps no libc"))
}
