//! What `memtrace scan` finds, in every format and saved.

use std::{process::Command, thread, time::Duration};

use memtrace_tests::{
    CSource, Heap, HeapReport, Running, agent_path, can_trace, compile, memtrace,
    saved::{shown, wait_for_report},
    shared_directory,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A program that has lost blocks and waits.
fn start() -> (tempfile::TempDir, Running) {
    let directory = shared_directory();
    let source = CSource { file: "scanned.cpp", options: &["-g", "-O1", "-std=c++17"] };
    let program = compile(directory.path(), "scanned", source);
    let mut running = Running::spawn(&mut Command::new(program));
    running.line_with("ready");
    (directory, running)
}

fn scan(pid: u32, options: &[&str]) -> String {
    let pid = pid.to_string();
    let finished = memtrace([&["scan", &pid], options].concat());
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    finished.stdout
}

fn heap(json: &str) -> Heap {
    HeapReport::all(json).remove(0).heap
}

/// Bytes of all classes, and of the lost ones.
fn sums(heap: &Heap) -> (u64, u64) {
    let mut sizes: Vec<(u64, u64)> = heap.classes.iter().map(|class| (class.size, class.blocks)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let lost = heap.classes.iter().map(|class| class.size * class.lost_blocks).sum();
    (sizes.iter().map(|(size, blocks)| size * blocks).sum(), lost)
}

/// Bytes of the lines that begin like this.
fn folded(text: &str, begin: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with(begin));
    lines.map(|line| line.rsplit_once(' ').expect("a number").1.parse::<u64>().expect("one")).sum()
}

#[test]
fn totals_are_those_of_json() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = start();
    let pid = program.pid();
    let heap = heap(&scan(pid, &["-f", "json", "-T", "0"]));
    let (bytes, lost) = sums(&heap);
    assert_eq!(Some(lost), heap.lost.map(|lost| lost.bytes));
    let text = scan(pid, &["-f", "folded"]);
    assert_eq!((folded(&text, ""), folded(&text, "lost;")), (bytes, lost), "{text}");
    assert!(text.contains("lost;type app::Session;56 B "), "{text}");
    let metrics = scan(pid, &["-f", "openmetrics"]);
    let gauge =
        format!("memtrace_heap_lost_bytes{{pid=\"{pid}\",comm=\"scanned\",allocator=\"glibc\"}} {lost}\n");
    assert!(metrics.contains(&gauge) && metrics.ends_with("# EOF\n"), "{metrics}");
    let svg = scan(pid, &["-f", "svg"]);
    assert!(svg.contains(&format!("data-n=\"all\" data-v=\"{bytes}\"")), "{svg}");
    let html = scan(pid, &["-f", "html"]);
    assert!(html.contains(&format!("\"bytes\":[{bytes},")) && html.ends_with("</html>\n"), "{html}");
    assert!(html.contains("nothing points to them") && !html.contains("traced for"), "{html}");
}

#[test]
fn a_saved_scan_is_shown_and_compared() {
    if !can_trace() {
        return;
    }
    let (directory, mut program) = start();
    let [first, second] = ["first.mt", "second.mt"].map(|name| directory.path().join(name));
    let [before, after] = [&first, &second].map(|path| path.to_str().expect("a path in UTF-8"));
    let pid = program.pid();
    let json = scan(pid, &["-f", "json", "-T", "0", "--save", before]);
    assert_eq!(shown(&first, &["-f", "json", "-T", "0"]), json);
    let text = shown(&first, &[]);
    assert!(text.contains("LOST") && text.contains("type app::Session"), "{text}");
    // Of one process, and what a scan does not have is said.
    assert_eq!(shown(&first, &["-f", "json", "-T", "0", "-p", &pid.to_string()]), json);
    assert_eq!(shown(&first, &["-f", "json", "-p", "1"]), "");
    let refused = memtrace(["report", before, "--filter", "app"]);
    assert!(refused.status == 2 && refused.stderr.contains("a scan has no stacks"), "{refused:?}");
    program.write_line("lose 77");
    assert_eq!(program.line().as_deref(), Some("done"));
    scan(pid, &["--save", after]);
    let compared = memtrace(["diff", before, after, "-T", "0", "-f", "json"]);
    let compared: Value = serde_json::from_str(&compared.stdout).expect("JSON");
    let rows = compared["grown"].as_array().expect("rows");
    let lost = |row: &Value| {
        let of = |name: &str| row[name].as_u64().expect("a number");
        of("lost_bytes") - of("before_lost_bytes")
    };
    // A session, and its request.
    assert_eq!(rows.iter().map(lost).sum::<u64>(), 77 * (56 + 200), "{compared}");
    let text = memtrace(["diff", before, after]).stdout;
    assert!(text.contains(" scanned at ") && text.contains("\nGrew: 2 sizes\n"), "{text}");
    assert!(text.contains("\n    lost, type app::Session, 56 B\n") && !text.contains("stack"), "{text}");
    let trace = directory.path().join("trace.mt");
    let trace = trace.to_str().expect("a path in UTF-8");
    let traced = memtrace(["attach", &pid.to_string(), "-d", "1", "--save", trace]);
    assert!(traced.status == 0, "{traced:?}");
    let refused = memtrace(["diff", before, trace]);
    assert!(
        refused.status == 2 && refused.stderr.contains("a scan of heaps and a trace of processes"),
        "{refused:?}"
    );
}

/// Of a format that has one report, standard output gets the last one, also if a signal ends the scans.
#[test]
fn the_last_report_is_written_at_the_end() {
    if !can_trace() {
        return;
    }
    let (directory, program) = start();
    let file = directory.path().join("scans.mt");
    let mut command = Command::new(agent_path());
    command.args(["scan", &program.pid().to_string(), "-i", "60s", "-f", "folded", "--save"]).arg(&file);
    let agent = Running::spawn(&mut command);
    wait_for_report(&file);
    agent.signal(Signal::SIGINT);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("lost;type app::Session;"), "{}", finished.stdout);
}

/// A signal while it traces ends that, and what was seen so far goes into the scan.
#[test]
fn tracing_first_can_be_cut_short() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = start();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(agent_path());
    let mut agent = Running::spawn(command.args(["scan", &program.pid().to_string(), "-d", "10m"]));
    agent.line_with("tracing for");
    // From here on it holds signals until it traces.
    thread::sleep(Duration::from_secs(2));
    agent.signal(Signal::SIGINT);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stdout);
    for part in ["was interrupted: scanning now", "In use: "] {
        assert!(finished.stdout.contains(part), "{}", finished.stdout);
    }
}
