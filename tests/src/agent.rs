//! The agent at work.

use std::{ffi::OsStr, process::Command, time::Instant};

use nix::sys::signal::Signal;

use crate::{
    binaries::agent_path,
    compiler::shared_directory,
    report::{Report, TraceLine},
    running::{Finished, Running, limit, run},
};

/// An agent that reports in JSON.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    trace: Vec<TraceLine>,
}

impl Agent {
    /// Attaches to processes, whatever it costs, and waits for the first report: every probe is in place then. All stacks
    /// are shown.
    ///
    /// # Panics
    /// If there is no report.
    #[must_use]
    pub fn attach(pids: &[u32], options: &[&str]) -> Self {
        Self::attach_with(pids, &[&["--max-overhead", "off"], options].concat())
    }

    /// The same without an option for the cost.
    ///
    /// # Panics
    /// If there is no report.
    #[must_use]
    pub fn attach_with(pids: &[u32], options: &[&str]) -> Self {
        Self::attach_by(&mut Command::new(agent_path()), pids, options)
    }

    /// The same by a command that ends in the agent's path: in other namespaces.
    ///
    /// # Panics
    /// If there is no report.
    #[must_use]
    pub fn attach_by(command: &mut Command, pids: &[u32], options: &[&str]) -> Self {
        command.arg("attach").args(pids.iter().map(u32::to_string));
        command.args(["--format", "json", "--top", "0", "--interval", "100ms"]).args(options);
        let mut agent = Self { running: Running::spawn(command), trace: Vec::new() };
        let _: Report = agent.report();
        agent
    }

    /// Traces the kernel and waits for the first report: every program is in place then. All rows are shown.
    ///
    /// # Panics
    /// If there is no report.
    #[must_use]
    pub fn kernel(options: &[&str]) -> Self {
        Self::kernel_by(&mut Command::new(agent_path()), options)
    }

    /// The same by a command that ends in the agent's path: in other namespaces.
    ///
    /// # Panics
    /// If there is no report.
    #[must_use]
    pub fn kernel_by(command: &mut Command, options: &[&str]) -> Self {
        command.args(["kernel", "--format", "json", "--top", "0", "--interval", "100ms"]).args(options);
        let mut agent = Self { running: Running::spawn(command), trace: Vec::new() };
        let _: Report = agent.report();
        agent
    }

    /// The next report.
    ///
    /// # Panics
    /// If there is none.
    pub fn report(&mut self) -> Report {
        loop {
            let Some(line) = self.running.line() else { self.running.fail("ended without another report") };
            if line.contains(r#""event":"#) {
                self.trace.push(serde_json::from_str(&line).expect("a trace line"));
            } else {
                return Report::parse(&line);
            }
        }
    }

    /// A report that was begun after this call.
    ///
    /// # Panics
    /// If there is none.
    pub fn fresh_report(&mut self) -> Report {
        self.running.discard_lines();
        // One may be being written.
        let _: Report = self.report();
        self.report()
    }

    /// Reads reports until one that `is_it`.
    ///
    /// # Panics
    /// If none comes within [`limit`].
    pub fn report_when(&mut self, is_it: impl Fn(&Report) -> bool) -> Report {
        let end = Instant::now() + limit();
        loop {
            let report = self.report();
            if is_it(&report) {
                return report;
            }
            let over = report.last || Instant::now() >= end;
            assert!(!over, "no such report; the last is {report:#?}");
        }
    }

    /// Probes and programs that it has attached, or groups of them.
    ///
    /// # Panics
    /// If its descriptors cannot be read.
    #[must_use]
    pub fn links(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.running.pid());
        std::fs::read_dir(directory)
            .expect("the agent's descriptors")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|file| {
                ["bpf_link", "perf_event"].iter().any(|name| file.to_string_lossy().contains(name))
            })
            .count()
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Ids of its threads.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn threads(&self) -> Vec<String> {
        std::fs::read_dir(format!("/proc/{}/task", self.running.pid()))
            .expect("the agent's threads")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }

    /// Marks a moment.
    pub fn mark(&self) {
        self.running.signal(Signal::SIGUSR1);
    }

    /// Stops the agent: it makes no report until it is continued. Its targets keep running.
    pub fn pause(&self) {
        self.running.signal(Signal::SIGSTOP);
    }

    /// Lets the agent go on.
    pub fn go_on(&self) {
        self.running.signal(Signal::SIGCONT);
    }

    /// Ends the session by SIGINT and returns the last report.
    ///
    /// # Panics
    /// If there is none, or the agent fails.
    #[must_use]
    pub fn interrupt(self) -> Report {
        self.running.signal(Signal::SIGINT);
        self.last_report()
    }

    /// The report the agent ends with: its target has exited.
    ///
    /// # Panics
    /// If there is none, or the agent fails.
    #[must_use]
    pub fn last_report(self) -> Report {
        self.last_report_and_trace().0
    }

    /// The same with every trace line until then.
    ///
    /// # Panics
    /// As [`Agent::last_report`].
    #[must_use]
    pub fn last_report_and_trace(mut self) -> (Report, Vec<TraceLine>) {
        let report = self.report_when(|report| report.last);
        let finished = self.running.finish();
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        (report, self.trace)
    }

    /// Ends it by SIGKILL and waits until it is gone.
    ///
    /// # Panics
    /// If it does not go.
    pub fn kill(self) {
        self.running.signal(Signal::SIGKILL);
        let finished = self.running.finish();
        assert_eq!(finished.status, 128 + 9, "{}", finished.stderr);
    }
}

/// Runs the agent to its end, with nothing on its standard input.
///
/// # Panics
/// If it does not end in time.
#[must_use]
pub fn memtrace(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    run(agent_path(), arguments)
}

/// The same as an ordinary user, from a place that user can read.
///
/// # Panics
/// If it does not end in time.
#[must_use]
pub fn unprivileged(arguments: &[impl AsRef<OsStr>]) -> Finished {
    let directory = shared_directory();
    let agent = directory.path().join("memtrace");
    // By another process: a file that this one had open for writing may still be in a child that another test forks, and
    // then it cannot be executed.
    assert!(Command::new("cp").args([agent_path(), &agent]).status().expect("cp").success());
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&agent);
        setpriv
    } else {
        Command::new(&agent)
    };
    Running::spawn(command.args(arguments)).finish()
}

/// Asserts that the agent refused as it should: by one line on standard error and by this exit status.
///
/// # Panics
/// If it did not.
pub fn assert_refused(finished: &Finished, status: i32, word: &str) {
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    assert_eq!(finished.status, status, "{}", finished.stderr);
    assert!(
        matches!(lines.as_slice(), [line] if line.starts_with("memtrace: ") && line.contains(word)),
        "not one line of memtrace's with {word:?}:\n{}",
        finished.stderr
    );
}

/// Asserts that the agent rejected its arguments, in as many lines as needed to explain them.
///
/// # Panics
/// If it did not.
pub fn assert_usage(finished: &Finished) {
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    assert_eq!((finished.status, finished.stdout.as_str()), (2, ""), "{}", finished.stderr);
    assert!(!finished.stderr.is_empty() && !finished.stderr.contains('\u{1b}'), "{:?}", finished.stderr);
}
