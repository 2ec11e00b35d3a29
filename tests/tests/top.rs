//! The live screen: `memtrace top` in a terminal, with keys and pictures.

use std::{path::PathBuf, time::Instant};

use memtrace_tests::{
    CSource, Running, Tmux, agent_path, assert_refused, can_trace, compile, fixture, limit, memtrace, proc,
    saved::shown, shared_directory,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A program that leaks in rounds, its code before it was traced, and a directory.
struct Target {
    directory: tempfile::TempDir,
    running: Running,
    code: Vec<u8>,
}

impl Target {
    fn start() -> Self {
        let directory = shared_directory();
        let source = CSource { file: "builds.c", options: &["-O1", "-g"] };
        let running = fixture::start_path(compile(directory.path(), "builds", source), &[]);
        let code = proc::libc_code(running.pid());
        Self { directory, running, code }
    }

    fn work(&mut self) {
        fixture::work(&mut self.running);
    }

    /// Starts the screen. When it has ended, the shell says with which status, and how the terminal is set.
    fn watch(&self, options: &str, size: (u16, u16)) -> Tmux {
        let agent = agent_path();
        let line = format!(
            "cd {}; {} top {} --max-overhead off {options}; echo status $?; stty -a; sleep 1000",
            self.directory.path().display(),
            agent.display(),
            self.running.pid()
        );
        Tmux::start(&line, size)
    }

    /// The screen is gone, the terminal is as before, the program lives and has no probes.
    #[track_caller]
    fn assert_left(&mut self, terminal: &Tmux) -> String {
        let is_set = |screen: &str, name: &str| screen.split_whitespace().any(|word| word == name);
        let screen = terminal.screen_when(|screen| screen.contains("status ") && is_set(screen, "echoke"));
        assert!(screen.contains("status 0"), "{screen}");
        for name in ["icanon", "echo", "isig", "icrnl", "ixon", "opost"] {
            assert!(is_set(&screen, name), "{name}: {screen}");
        }
        assert!(!screen.contains("VERDICT") && !screen.contains("panicked"), "{screen}");
        let end = Instant::now() + limit();
        while proc::libc_code(self.running.pid()) != self.code {
            assert!(Instant::now() < end, "probes are left behind");
        }
        self.work();
        screen
    }

    /// A file of the directory that the screen runs in.
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Whether this machine can trace, and has tmux.
fn can_watch() -> bool {
    can_trace() && Tmux::exists()
}

/// The line of a row.
fn row<'a>(screen: &'a str, function: &str) -> Option<&'a str> {
    screen.lines().find(|line| line.contains(function) && line.contains("builds.c:"))
}

#[test]
fn a_leak_is_seen_opened_filtered_and_sorted() {
    if !can_watch() {
        return;
    }
    let mut target = Target::start();
    let terminal = target.watch("-i 200ms", (80, 24));
    terminal.screen_with("VERDICT");
    assert_ne!(proc::libc_code(target.running.pid()), target.code, "nothing is traced");
    for _ in 0..3 {
        target.work();
    }
    // Who loses it is on the screen without a key; its verdict comes with a leak check.
    terminal.press(&["c"]);
    let screen =
        terminal.screen_when(|screen| row(screen, "keep_large").is_some_and(|row| row.contains("lost")));
    assert!(screen.starts_with(&format!("builds (pid {})", target.running.pid())), "{screen}");
    let line = row(&screen, "keep_large").unwrap_or_default();
    assert!(line.starts_with("> lost") && line.contains("2.9 KiB"), "{screen}");
    assert!(
        screen.contains("LOST 2.9 KiB: nothing in the process points to any of the 3 blocks"),
        "{screen}"
    );
    assert!(screen.contains("RSS ") && screen.contains("blocks "), "{screen}");
    let colours = terminal.colours();
    // Red, whichever way tmux writes that.
    let is_red = |line: &str| line.contains("> lost") && (line.contains("38;5;1m") || line.contains("[31m"));
    assert!(colours.lines().any(is_red), "{colours}");
    // Rows are opened and closed.
    terminal.press(&["Enter"]);
    let opened = terminal.screen_with("Row 1 of");
    assert!(opened.contains("  > keep_large") && opened.contains("work"), "{opened}");
    assert!(opened.contains("Freed blocks lived"), "{opened}");
    terminal.press(&["Escape"]);
    terminal.screen_with("VERDICT");
    // Filtered.
    terminal.press(&["/", "keep_small", "Enter"]);
    let filtered = terminal.screen_with("filter: keep_small");
    assert!(row(&filtered, "keep_small").is_some() && row(&filtered, "keep_large").is_none(), "{filtered}");
    terminal.press(&["Escape"]);
    terminal.screen_when(|screen| row(screen, "keep_large").is_some());
    // Sorted.
    terminal.press(&["s", "s"]);
    let sorted = terminal.screen_with("sorted by blocks");
    assert!(row(&sorted, "keep_small").is_some_and(|row| row.starts_with("> ")), "{sorted}");
    terminal.press(&["q"]);
    target.assert_left(&terminal);
}

#[test]
fn what_came_since_a_mark_is_shown_and_saved() {
    if !can_watch() {
        return;
    }
    let mut target = Target::start();
    let terminal = target.watch("--leak-check off", (100, 30));
    terminal.screen_with("VERDICT");
    target.work();
    terminal.screen_when(|screen| row(screen, "keep_small").is_some());
    std::thread::sleep(std::time::Duration::from_millis(50));
    terminal.press(&["m"]);
    let marked = terminal.screen_with("SINCE MARK 1");
    assert!(row(&marked, "keep_small").is_none(), "{marked}");
    target.work();
    let since = terminal.screen_when(|screen| row(screen, "keep_small").is_some());
    assert!(row(&since, "keep_small").is_some_and(|row| row.contains("500 B")), "{since}");
    // Frozen: what comes is not shown.
    terminal.press(&["Space"]);
    terminal.screen_with("FROZEN");
    target.work();
    terminal.press(&["m"]);
    let frozen = terminal.screen_with("the screen is frozen");
    assert!(row(&frozen, "keep_small").is_some_and(|row| row.contains("500 B")), "{frozen}");
    terminal.press(&["w", "C-u", "frozen.mt", "Enter"]);
    terminal.screen_with("saved to frozen.mt");
    terminal.press(&["Space"]);
    terminal.screen_when(|screen| row(screen, "keep_small").is_some_and(|row| row.contains("1000 B")));
    terminal.press(&["t", "t"]);
    terminal.screen_when(|screen| row(screen, "keep_small").is_some_and(|row| row.contains("1.5 KiB")));
    terminal.press(&["w", "C-u", "all.txt", "Enter"]);
    terminal.screen_with("saved to all.txt");
    terminal.press(&["C-c"]);
    target.assert_left(&terminal);
    let text = shown(&target.file("frozen.mt"), &[]);
    assert!(text.contains("500 B in 50 blocks") && text.contains("SINCE MARK 1"), "{text}");
    let text = std::fs::read_to_string(target.file("all.txt")).expect("the file");
    assert!(text.contains("1.5 KiB in 150 blocks") && text.contains("keep_small  "), "{text}");
}

/// What is allocated since a mark is not there before it is looked for: that is no zero.
#[test]
fn what_was_not_looked_at_yet_is_said() {
    if !can_watch() {
        return;
    }
    let mut target = Target::start();
    // Pictures come with keys only.
    let terminal = target.watch("--leak-check off -i 1h", (100, 30));
    terminal.screen_with("The first report");
    target.work();
    terminal.press(&["s"]);
    terminal.screen_when(|screen| row(screen, "keep_small").is_some());
    std::thread::sleep(std::time::Duration::from_millis(50));
    terminal.press(&["m"]);
    let marked = terminal.screen_with("SINCE MARK 1");
    assert_eq!(marked.matches("not looked at yet").count(), 3, "{marked}");
    assert!(!marked.contains("0 B in"), "{marked}");
    target.work();
    // The next picture looks.
    terminal.press(&["s"]);
    let since = terminal.screen_when(|screen| row(screen, "keep_small").is_some());
    assert!(row(&since, "keep_small").is_some_and(|row| row.contains("500 B")), "{since}");
    assert!(!since.contains("not looked at yet"), "{since}");
    terminal.press(&["q"]);
    target.assert_left(&terminal);
}

#[test]
fn every_size_is_drawn_and_every_signal_leaves_the_terminal_as_it_was() {
    if !can_watch() {
        return;
    }
    let mut target = Target::start();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let terminal = target.watch("-i 200ms", (80, 24));
        terminal.screen_with("VERDICT");
        target.work();
        terminal.screen_when(|screen| row(screen, "keep_large").is_some());
        for (size, text) in [((120, 40), "help"), ((40, 10), "help"), ((9, 3), "q:quit"), ((80, 24), "help")]
        {
            terminal.resize(size);
            terminal.screen_when(|screen| {
                screen.lines().count() <= size.1.into()
                    && screen.lines().last().is_some_and(|line| line.contains(text))
            });
        }
        let agent = terminal.child(agent_path());
        kill(Pid::from_raw(agent as i32), signal).expect("the agent lives");
        target.assert_left(&terminal);
    }
}

/// By `kill`: Ctrl-Z is a key like others.
#[test]
fn it_is_not_stopped_with_the_terminal_taken() {
    if !can_watch() {
        return;
    }
    let mut target = Target::start();
    let terminal = target.watch("-i 200ms", (80, 24));
    terminal.screen_with("VERDICT");
    kill(Pid::from_raw(terminal.child(agent_path()) as i32), Signal::SIGTSTP).expect("the agent lives");
    terminal.press(&["C-z"]);
    target.work();
    terminal.screen_when(|screen| row(screen, "keep_large").is_some());
    terminal.press(&["q"]);
    target.assert_left(&terminal);
}

#[test]
fn the_picture_stays_when_the_process_has_exited() {
    if !can_watch() {
        return;
    }
    let mut target = Target::start();
    let terminal = target.watch("-i 200ms", (80, 24));
    terminal.screen_with("VERDICT");
    target.work();
    terminal.screen_when(|screen| row(screen, "keep_large").is_some());
    target.running.close_stdin();
    let ended = terminal.screen_with("EXITED");
    assert!(row(&ended, "keep_large").is_some(), "{ended}");
    terminal.press(&["q"]);
    terminal.screen_with("status 0");
}

#[test]
fn without_a_terminal_it_names_the_command_that_needs_none() {
    assert_refused(&memtrace(["top", "1"]), 1, "memtrace attach");
}

#[test]
fn intervals_are_at_least_a_fifth_of_a_second() {
    assert_refused(&memtrace(["top", "1", "-i", "100ms"]), 2, "at least 200 ms");
}
