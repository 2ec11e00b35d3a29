//! A program that keeps addresses in registers only.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::{
    compiler::{CSource, compile},
    running::limit,
};

/// `tests/c/registers.c` at work; killed when it is dropped.
pub struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    addresses: Vec<u64>,
    _directory: tempfile::TempDir,
}

impl Holder {
    /// Starts it. `how`: what it is to do, see there; `count`: how many threads keep an address.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(how: &str, count: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = CSource { file: "registers.c", options: &["-O1"] };
        let program = compile(directory.path(), "registers", source);
        let mut child = Command::new(program)
            .args([how, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut holder = Self { child, input, output, addresses: Vec::new(), _directory: directory };
        loop {
            let line = holder.line();
            if line == "ready" {
                break;
            }
            holder.addresses.push(u64::from_str_radix(&line, 16).expect("an address"));
        }
        assert_eq!(holder.addresses.len(), count);
        holder
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line; empty at the end.
    ///
    /// # Panics
    /// If that cannot be read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output");
        line.trim_end().to_owned()
    }

    /// Ends it by its standard input, and waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(&mut self) {
        self.input = None;
        assert_eq!(self.wait().code(), Some(0));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a system call without pointers.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + limit();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(Instant::now() < end, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How many of the addresses are in none of the registers.
    #[must_use]
    pub fn missing(&self, words: &[u64]) -> usize {
        self.addresses.iter().filter(|address| !words.contains(address)).count()
    }

    /// Reads registers until every thread has come to where it keeps its address.
    ///
    /// # Panics
    /// If one does not.
    pub fn settle(&self, mut read: impl FnMut() -> Vec<u64>) {
        let end = Instant::now() + limit();
        loop {
            let missing = self.missing(&read());
            if missing == 0 {
                return;
            }
            assert!(Instant::now() < end, "{missing} of {} are in no register", self.addresses.len());
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}
