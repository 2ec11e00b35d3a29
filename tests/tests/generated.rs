//! Code that a process generates is named by the map that it writes, if that is its own.

use std::{path::PathBuf, process::Command};

use memtrace_tests::{Agent, CSource, Frame, Report, Running, can_trace, compile, remark};

fn frames<'a>(report: &'a Report, function: &str) -> Option<&'a Frame> {
    let mut all = report.stacks.iter().flat_map(|stack| &stack.frames);
    all.find(|frame| frame.function.as_deref() == Some(function))
}

struct Target {
    running: Running,
    map: PathBuf,
    _directory: tempfile::TempDir,
}

/// Starts the program with a map, or with a dump.
fn start(with_dump: bool) -> Target {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program =
        compile(directory.path(), "generated", CSource { file: "generated.c", options: &["-O2", "-g"] });
    let mut command = Command::new(program);
    let mut running = Running::spawn(if with_dump { command.arg(directory.path()) } else { &mut command });
    let _ = running.line_with("ready");
    let map = PathBuf::from(format!("/tmp/perf-{}.map", running.pid()));
    Target { running, map, _directory: directory }
}

impl Target {
    fn go(&mut self, line: &str) {
        self.running.write_line(line);
        let _ = self.running.line_with("done");
    }

    fn end(mut self) {
        self.running.write_line("end");
        assert_eq!(self.running.finish().status, 0);
    }
}

#[test]
fn frames_have_the_names_of_the_map() {
    if !can_trace() {
        return;
    }
    let mut target = start(false);
    let mut agent = Agent::attach(&[target.running.pid()], &[]);
    target.go("run");
    let report = agent.report_when(|report| report.through("shop.Cart::keep").blocks == 20);
    assert_eq!((report.through("keepEntry").bytes, report.through("keepEntry").blocks), (3000, 10));
    let entry = frames(&report, "keepEntry").expect("a frame");
    assert_eq!((entry.file.as_deref(), entry.line), (Some("/srv/app.js"), Some(12)));
    let stack = report.stacks.iter().find(|stack| stack.blocks == 10).expect("a stack");
    let functions: Vec<_> =
        stack.frames.iter().filter_map(|frame| frame.function.as_deref()).take(3).collect();
    assert_eq!(functions, ["allocate", "keepEntry", "main"]);
    // What is added to the map later counts too.
    target.go("again");
    let is_there = |frame: &Frame| frame.function.as_deref().is_some_and(|name| name.contains("come"));
    let report = agent.report_when(|report| {
        report.stacks.iter().any(|stack| stack.blocks == 5 && stack.frames.iter().any(is_there))
    });
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    let _ = agent.interrupt();
    target.end();
}

#[test]
fn frames_have_the_names_and_lines_of_a_dump() {
    if !can_trace() {
        return;
    }
    let mut target = start(true);
    let mut agent = Agent::attach(&[target.running.pid()], &[]);
    target.go("run");
    let report = agent.report_when(|report| report.through("shop.Cart::keep").blocks == 20);
    let place = |function: &str| {
        let frame = frames(&report, function).expect("a frame");
        (frame.file.clone(), frame.line)
    };
    assert_eq!(place("keepEntry"), (Some("/srv/app.js".to_owned()), Some(12)));
    // The call is behind the second entry.
    assert_eq!(place("shop.Cart::keep"), (Some("/srv/Cart.kt".to_owned()), Some(31)));
    let _ = agent.interrupt();
    target.end();
}

/// A map that another user owns, or a link, is not read.
#[test]
fn a_map_of_somebody_else_is_not_read() {
    if !can_trace() {
        return;
    }
    let mut target = start(false);
    std::os::unix::fs::chown(&target.map, Some(65534), None).expect("another owner");
    let mut agent = Agent::attach(&[target.running.pid()], &[]);
    target.go("run");
    let report = agent.report_when(|report| report.outstanding.blocks == 30);
    assert!(frames(&report, "keepEntry").is_none(), "{:?}", report.callers());
    let elsewhere = target.map.with_extension("real");
    std::fs::rename(&target.map, &elsewhere).expect("another name");
    std::os::unix::fs::chown(&elsewhere, Some(0), None).expect("the owner");
    std::os::unix::fs::symlink(&elsewhere, &target.map).expect("a link");
    let report = agent.fresh_report();
    assert!(frames(&report, "keepEntry").is_none(), "{:?}", report.callers());
    std::fs::rename(&elsewhere, &target.map).expect("the first name");
    let report = agent.report_when(|report| frames(report, "keepEntry").is_some());
    assert_eq!(report.through("keepEntry").blocks, 10);
    let _ = agent.interrupt();
    target.end();
}

/// The first of some commands that succeeds.
fn installed<'a>(commands: &[&'a [&'a str]]) -> Option<&'a str> {
    let succeeds = |command: &&&[&str]| {
        let [program, arguments @ ..] = *command else { return false };
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    commands.iter().find(succeeds).and_then(|command| command.first()).copied()
}

/// Traces a script that says "ready", until a frame has a function's name. Returns that frame and the stack's functions.
fn trace_script(command: &mut Command, function: &str) -> (Frame, Vec<String>) {
    trace_prepared(command, function, |_| {})
}

/// The same; `prepare`: what is done with its pid once it is ready.
fn trace_prepared(command: &mut Command, function: &str, prepare: impl FnOnce(u32)) -> (Frame, Vec<String>) {
    let mut target = Running::spawn(command);
    let _ = target.line_with("ready");
    prepare(target.pid());
    let map = format!("/tmp/perf-{}.map", target.pid());
    let mut agent = Agent::attach(&[target.pid()], &[]);
    let report = agent.report_when(|report| frames(report, function).is_some());
    let _ = agent.interrupt();
    target.signal(nix::sys::signal::Signal::SIGKILL);
    target.wait_until_dead();
    let _ = std::fs::remove_file(map);
    let frame = frames(&report, function).expect("a frame").clone();
    let has_it = |frame: &Frame| frame.function.as_deref() == Some(function);
    let stack = report.stacks.iter().find(|stack| stack.frames.iter().any(has_it)).expect("a stack");
    (frame, stack.frames.iter().filter_map(|frame| frame.function.clone()).collect())
}

#[test]
fn a_script_of_node_is_named() {
    if !can_trace() {
        return;
    }
    if installed(&[&["node", "--version"]]).is_none() {
        remark("skipped: node is not installed");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("leak.js");
    let text = "const kept = [];\nfunction retain() {\n  kept.push(Buffer.allocUnsafeSlow(20000));\n}\nlet n = 0;\n\
                function turn() {\n  for (let i = 0; i < 20; i++) retain();\n  if (++n < 3000) setTimeout(turn, 10);\n}\n\
                console.log('ready');\nturn();\n";
    std::fs::write(&script, text).expect("a script");
    let mut command = Command::new("node");
    // It writes a log of its own beside the map.
    command.current_dir(directory.path());
    // Optimized code may have functions inlined, of which the map says nothing.
    command.args(["--perf-basic-prof", "--sparkplug", "--always-sparkplug", "--no-opt"]).arg(&script);
    let (frame, _) = trace_script(&mut command, "retain");
    assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("leak.js")), "{frame:?}");
    assert_eq!(frame.line, Some(2));
}

#[test]
fn a_script_of_python_is_named() {
    const RECENT: &str = "import sys; sys.exit(sys.version_info[:2] != (3, 12))";
    if !can_trace() {
        return;
    }
    let Some(python) = installed(&[&["python3.12", "-c", RECENT], &["python3", "-c", RECENT]]) else {
        remark("skipped: Python 3.12 is not installed");
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("leak.py");
    let text = "import ctypes, time\nlibc = ctypes.CDLL(None)\ndef keep_entry():\n    libc.malloc(300)\n\
                def serve():\n    keep_entry()\n    time.sleep(0.01)\nprint('ready', flush=True)\n\
                for i in range(6000):\n    serve()\n";
    std::fs::write(&script, text).expect("a script");
    let (frame, functions) =
        trace_script(Command::new(python).args(["-X", "perf"]).arg(&script), "keep_entry");
    assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("leak.py")), "{frame:?}");
    let at = |name: &str| functions.iter().position(|function| function == name);
    assert!(
        at("keep_entry") < at("serve") && at("serve") < at("<module>") && at("_start").is_some(),
        "{functions:?}"
    );
}

#[test]
fn a_program_of_java_is_named() {
    if !can_trace() {
        return;
    }
    let has_all = ["javac", "java", "jcmd"].iter().all(|tool| installed(&[&[*tool, "--help"]]).is_some());
    if !has_all {
        remark("skipped: no JDK is installed");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = "import java.nio.ByteBuffer;\nimport java.util.*;\npublic class Leak {\n\
                static List<ByteBuffer> held = new ArrayList<>();\n\
                static void keepEntry(int size) { held.add(ByteBuffer.allocateDirect(size)); }\n\
                public static void main(String[] arguments) throws Exception {\n\
                for (int i = 0; i < 600000; i++) {\n keepEntry(100);\n\
                if (i == 30000) System.out.println(\"ready\");\n if (i > 30000) Thread.sleep(1);\n}\n}\n}\n";
    std::fs::write(directory.path().join("Leak.java"), text).expect("a program");
    let compiled = Command::new("javac").current_dir(directory.path()).arg("Leak.java").status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let mut command = Command::new("java");
    command.current_dir(directory.path()).args([
        "-XX:+PreserveFramePointer",
        "-XX:TieredStopAtLevel=1",
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=dontinline,Leak.keepEntry",
        "Leak",
    ]);
    let (_, functions) = trace_prepared(&mut command, "void Leak.keepEntry(int)", |pid| {
        let map = Command::new("jcmd").args([&pid.to_string(), "Compiler.perfmap"]).output();
        assert!(map.is_ok_and(|output| output.status.success()));
    });
    assert!(functions.iter().any(|name| name.contains("allocateMemory")), "{functions:?}");
}
