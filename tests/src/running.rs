//! Processes with time limits.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigHandler, Signal, signal},
    unistd::Pid,
};

/// What a step may take: far more than it does, for a hang is the only thing it is to tell. `MEMTRACE_TEST_LIMIT` in
/// the environment sets it, in seconds, for machines on which everything is slow.
#[must_use]
pub fn limit() -> Duration {
    let set = std::env::var("MEMTRACE_TEST_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(set.unwrap_or(60))
}

/// What is left to read of a process that has ended is there already; on a busy machine, children that it has forked a moment
/// before may take a while to close their copies.
const REST: Duration = Duration::from_secs(30);

/// A process that was started by a test, leader of a group. The group is killed with the value.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    stderr: Receiver<String>,
}

/// What became of it.
#[derive(Debug)]
pub struct Finished {
    /// As a shell gives it: 128 plus the signal for a killed one.
    pub status: i32,
    /// Everything it wrote to standard output.
    pub stdout: String,
    /// Everything it wrote to standard error.
    pub stderr: String,
}

impl Running {
    /// Starts a command with pipes to its three standard streams.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // Under nohup it would inherit that SIGHUP is ignored.
        // SAFETY: between fork and exec only a system call is made, which installs no handler.
        unsafe { command.pre_exec(|| Ok(signal(Signal::SIGHUP, SigHandler::SigDfl).map(drop)?)) };
        let name = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                    if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                }
            });
        }
        let (sender, complaints) = channel();
        if let Some(mut stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                sender.send(String::from_utf8_lossy(&text).into_owned())
            });
        }
        let stdin = child.stdin.take();
        Self { name, child, stdin, lines, seen: Vec::new(), stderr: complaints }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output; `None` at the end.
    ///
    /// # Panics
    /// If none comes within [`limit`].
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(limit()) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.fail("wrote no line in time"),
        }
    }

    /// Reads lines until one that contains `text`, and returns that.
    ///
    /// # Panics
    /// If none comes.
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            match self.line() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => self.fail(&format!("ended without a line with {text:?}")),
            }
        }
    }

    /// Forgets the lines that have been written so far.
    pub fn discard_lines(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// Writes a line to its standard input. That it does not read it any more is no failure.
    pub fn write_line(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        }
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it was waited for already.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.child.id() as i32), signal).expect("a signal can be sent");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within [`limit`], or leaves a process behind that holds its output.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        self.close_stdin();
        let Some(status) = self.wait_up_to(limit()) else { self.fail("did not end in time") };
        loop {
            match self.lines.recv_timeout(REST) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.fail("left a process behind that holds its standard output")
                }
            }
        }
        let Ok(stderr) = self.stderr.recv_timeout(REST) else {
            self.fail("left a process behind that holds its standard error")
        };
        let mut stdout = self.seen.join("\n");
        if !stdout.is_empty() {
            stdout.push('\n');
        }
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Finished { status, stdout, stderr }
    }

    /// Waits until it has ended, without collecting its status: it is a zombie then.
    ///
    /// # Panics
    /// If it does not end within [`limit`].
    pub fn wait_until_dead(&mut self) {
        if !has_ended(self.child.id(), limit()) {
            self.fail("did not end in time");
        }
    }

    fn wait_up_to(&mut self, limit: Duration) -> Option<ExitStatus> {
        has_ended(self.child.id(), limit).then(|| self.child.wait().expect("a child can be waited for"))
    }

    /// Fails the test with what the process wrote so far.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&mut self, what: &str) -> ! {
        self.kill_group();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.seen.push(line);
        }
        let stderr = self.stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        panic!("{} {what}\n--- stdout\n{}\n--- stderr\n{stderr}", self.name, self.seen.join("\n"));
    }
}

impl Running {
    /// Ends the process and what it started.
    fn kill_group(&mut self) {
        let _ = nix::sys::signal::killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Whether process `pid`, a child not yet waited for, ends within `limit`.
fn has_ended(pid: u32, limit: Duration) -> bool {
    // SAFETY: the call reads two integers; the descriptor is new and has no other owner.
    let fd = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    };
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        match unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) } {
            1 => return true,
            0 => return false,
            _ => {}
        }
    }
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Panics
/// If it cannot be started or does not end in time.
pub(crate) fn run(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Finished {
    Running::spawn(Command::new(program).args(arguments)).finish()
}
