//! A terminal without a window: tmux, with a program that is seen and typed to.

use std::{
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{privileges::remark, running::limit};

/// Time between two looks at the screen.
const PAUSE: Duration = Duration::from_millis(50);

/// A terminal of its own server, which ends with the value.
#[derive(Debug)]
pub struct Tmux {
    server: String,
}

impl Tmux {
    /// Whether there is tmux; otherwise the test is skipped.
    #[must_use]
    pub fn exists() -> bool {
        let has_it = Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
        if !has_it {
            remark("skipped: needs tmux");
        }
        has_it
    }

    /// Starts a command line of the shell in a terminal of that many columns and lines.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(line: &str, (width, height): (u16, u16)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tmux = Self { server: format!("memtrace-{}-{number}", std::process::id()) };
        let (width, height) = (width.to_string(), height.to_string());
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, line]);
        tmux
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        // Names of functions may have any character.
        command.args(["-u", "-L", &self.server]).args(arguments).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command.output().expect("tmux can be started")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the terminal shows.
    ///
    /// # Panics
    /// If the terminal has ended.
    #[must_use]
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// The same with its colours.
    ///
    /// # Panics
    /// If the terminal has ended.
    #[must_use]
    pub fn colours(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Waits until what it shows `is_it`, and returns that.
    ///
    /// # Panics
    /// If that does not happen within [`limit`].
    pub fn screen_when(&self, is_it: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + limit();
        loop {
            let screen = self.screen();
            if is_it(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "the screen is\n{screen}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until it shows a text.
    ///
    /// # Panics
    /// As [`Tmux::screen_when`].
    pub fn screen_with(&self, text: &str) -> String {
        self.screen_when(|screen| screen.contains(text))
    }

    /// Types keys, by their names.
    ///
    /// # Panics
    /// If the terminal has ended.
    pub fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "--"], keys].concat());
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// If the terminal has ended.
    pub fn resize(&self, (width, height): (u16, u16)) {
        self.run(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// The pid of a child of what was started whose program has this path.
    ///
    /// # Panics
    /// If there is none within [`limit`].
    #[must_use]
    pub fn child(&self, program: &Path) -> u32 {
        let shell = self.run(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let end = Instant::now() + limit();
        loop {
            let pids = std::fs::read_to_string(&children).unwrap_or_default();
            let is_it =
                |pid: &&str| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
            if let Some(pid) = pids.split_whitespace().find(is_it) {
                return pid.parse().expect("a pid");
            }
            assert!(Instant::now() < end, "{} is no child of {shell}", program.display());
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.output(&["kill-server"]);
    }
}
