//! Allocators other than the C library's, preloaded and linked in: every form of `operator new` counts exactly, and a target
//! whose requests fail goes on as if nobody traced it. What is not installed is skipped and said.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    Agent, CSource, Finished, Report, Running, Totals, can_trace, compile, remark, shared_directory,
};

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const EXACT: &[&str] = &["--max-overhead", "off"];
const SAMPLED: &[&str] = &["--sample", "1KiB"];
const WINDOWS: &[&str] = &["--max-overhead", "0.01%"];
/// What `forms.cpp` does.
const ROUNDS: u64 = 200;

/// Where a program has its allocator from.
struct Setup {
    name: &'static str,
    preload: Option<PathBuf>,
    link: Vec<String>,
    /// Whether a failed `operator new` throws. mimalloc as Debian builds it (in C) ends the process.
    throws: bool,
}

fn setups() -> Vec<Setup> {
    let library = |file: &str| {
        let path = Path::new(LIBRARIES).join(file);
        path.exists().then_some(path).or_else(|| {
            remark(&format!("skipped: {file} is not installed"));
            None
        })
    };
    let preload = |name, file: &str, throws| {
        let preload = Some(library(file)?);
        Some(Setup { name, preload, link: Vec::new(), throws })
    };
    let linked = |name, file: &str, more: &[&str]| {
        let archive = library(file)?.display().to_string();
        let mut link = vec!["-Wl,--whole-archive".to_owned(), archive, "-Wl,--no-whole-archive".to_owned()];
        link.extend(more.iter().map(|&option| option.to_owned()));
        Some(Setup { name, preload: None, link, throws: true })
    };
    let libc = Setup { name: "glibc", preload: None, link: Vec::new(), throws: true };
    [
        Some(libc),
        preload("jemalloc", "libjemalloc.so.2", true),
        preload("tcmalloc", "libtcmalloc_minimal.so.4", true),
        preload("mimalloc", "libmimalloc.so.2", false),
        linked("jemalloc (static)", "libjemalloc.a", &["-lm", "-ldl"]),
        linked("tcmalloc (static)", "libtcmalloc_minimal.a", &[]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Setup {
    fn program(&self, directory: &Path, source: &'static str) -> PathBuf {
        let options: Vec<&str> =
            ["-O2", "-g"].into_iter().chain(self.link.iter().map(String::as_str)).collect();
        compile(directory, "program", CSource { file: source, options: &options })
    }

    /// Runs a program, traced with some options or not at all.
    fn run(&self, program: &Path, arguments: &[&str], agent: Option<&[&str]>) -> (Finished, Option<Report>) {
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        let mut target = Running::spawn(&mut command);
        let _ = target.line_with("ready");
        let agent = agent.map(|options| Agent::attach_with(&[target.pid()], options));
        target.write_line("go");
        let ended = target.line().is_none();
        let report = agent.map(Agent::interrupt);
        if !ended {
            target.write_line("end");
        }
        (target.finish(), report)
    }
}

#[test]
fn every_form_of_new_counts() {
    if !can_trace() {
        return;
    }
    for setup in setups() {
        let directory = shared_directory();
        let program = setup.program(directory.path(), "forms.cpp");
        let arguments: &[&str] = if setup.throws { &[] } else { &["without-failures"] };
        let (finished, report) = setup.run(&program, arguments, Some(EXACT));
        assert_eq!(finished.status, 4, "{}: {}", setup.name, finished.stderr);
        let report = report.expect("a report");
        assert!(report.target.allocators.iter().any(|name| name == setup.name), "{:?}", report.target);
        let kept = [
            ("keep_new", 800, ROUNDS),
            ("keep_array", 1500, ROUNDS),
            ("keep_aligned", 640, ROUNDS),
            ("keep_nothrow", 700, ROUNDS),
            ("keep_malloc", 400, ROUNDS),
            ("keep_calloc", 300, ROUNDS),
            ("keep_large", 300_000, ROUNDS / 20),
        ];
        for (function, size, blocks) in kept {
            // Of libstdc++'s operators, these are the caller.
            let found = report.through(function);
            let all = report.callers();
            assert_eq!(found, Totals::kept(size * blocks, blocks), "{} {function}: {all:?}", setup.name);
        }
        let grown = report.through("keep_grown");
        assert_eq!((grown.bytes, grown.blocks), (900 * ROUNDS, ROUNDS), "{}", setup.name);
        assert_eq!(report.through("come_and_go").blocks, 0, "{}: {:?}", setup.name, report.callers());
        assert!(report.losses.is_exact(), "{}: {:?}", setup.name, report.losses);
        assert!(report.remarks.is_empty(), "{}: {:?}", setup.name, report.remarks);
    }
}

#[test]
fn failing_requests_leave_the_target_as_it_is() {
    if !can_trace() {
        return;
    }
    for setup in setups() {
        let directory = shared_directory();
        let program = setup.program(directory.path(), "forms.cpp");
        let (untraced, _) = setup.run(&program, &[], None);
        assert_eq!(untraced.status == 4, setup.throws, "{}: {}", setup.name, untraced.status);
        for agent in [EXACT, SAMPLED, WINDOWS] {
            let (traced, _) = setup.run(&program, &[], Some(agent));
            assert_eq!(traced.status, untraced.status, "{} {agent:?}: {}", setup.name, traced.stderr);
            assert_eq!(traced.stdout, untraced.stdout, "{} {agent:?}", setup.name);
        }
    }
}

/// Memory runs out for real (RLIMIT_AS): blocks of a megabyte until `std::bad_alloc`, again and again.
#[test]
fn memory_that_runs_out_ends_nobody() {
    if !can_trace() {
        return;
    }
    for setup in setups().into_iter().filter(|setup| setup.throws) {
        let directory = shared_directory();
        let program = setup.program(directory.path(), "exhausted.cpp");
        let (untraced, _) = setup.run(&program, &[], None);
        assert_eq!(untraced.status, 5, "{}: {}", setup.name, untraced.stderr);
        for agent in [EXACT, SAMPLED, WINDOWS] {
            let (traced, report) = setup.run(&program, &[], Some(agent));
            assert_eq!(traced.status, untraced.status, "{} {agent:?}: {}", setup.name, traced.stderr);
            assert_eq!(traced.stdout, untraced.stdout, "{} {agent:?}", setup.name);
            let report = report.expect("a report");
            if agent == EXACT {
                assert_eq!(report.through("fill").blocks, 0, "{}: {:?}", setup.name, report.callers());
                assert!(report.losses.is_exact(), "{}: {:?}", setup.name, report.losses);
            }
        }
    }
}

/// In windows, where probes come and go: a failed request is not counted as a successful one, and nothing reports
/// probes missing that were removed on purpose.
#[test]
fn failing_requests_in_windows_leave_no_blocks() {
    if !can_trace() {
        return;
    }
    for setup in setups().into_iter().filter(|setup| setup.throws && setup.preload.is_some()) {
        let directory = shared_directory();
        let program = setup.program(directory.path(), "throwing.cpp");
        let mut command = Command::new(&program);
        command.envs(setup.preload.as_ref().map(|library| ("LD_PRELOAD", library)));
        let mut target = Running::spawn(&mut command);
        let _ = target.line_with("ready");
        let mut agent = Agent::attach_with(&[target.pid()], &["--max-overhead", "10%"]);
        let report = agent.report_when(|report| report.mode.gaps >= 5);
        assert_eq!(report.through("fail").blocks, 0, "{}: {:?}", setup.name, report.callers());
        assert!(!report.says("breakpoints_missing"), "{}: {:?}", setup.name, report.remarks);
        let _ = agent.interrupt();
    }
}
