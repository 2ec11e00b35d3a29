//! Formats of whole reports, read by the programs that they are for, where these are installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    CSource, agent_path, assert_usage, can_trace, compile, fixture, memtrace, remark,
    saved::{attach, shown, wait_for_report},
    shared_directory,
};
use serde_json::Value;

/// A saved session of a program that keeps blocks in two rounds.
fn session() -> (tempfile::TempDir, PathBuf) {
    let directory = shared_directory();
    let source = CSource { file: "builds.c", options: &["-O1", "-g"] };
    let program = compile(directory.path(), "builds", source);
    let file = directory.path().join("session.mt");
    let mut target = fixture::start_path(&program, &[]);
    let agent = attach(&[target.pid()], &file, &[]);
    for _ in 0..2 {
        wait_for_report(&file);
        fixture::work(&mut target);
    }
    assert_eq!(target.finish().status, 0);
    assert_eq!(agent.finish().status, 0);
    (directory, file)
}

/// Outstanding bytes and blocks, as JSON has them.
fn totals(json: &str) -> (u64, u64) {
    let report: Value = serde_json::from_str(json).expect("JSON");
    let of = |name: &str| report["outstanding"][name].as_u64().expect("a number");
    (of("bytes"), of("blocks"))
}

/// Writes a report in a format to a file.
fn written(session: &Path, format: &str, more: &[&str]) -> PathBuf {
    let path = session.with_extension(format);
    let output = path.to_str().expect("a path in UTF-8");
    assert_eq!(shown(session, &[&["-f", format, "-O", output], more].concat()), "");
    path
}

/// What a tool prints; `None` if it is not installed.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let (out, error) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{program} {arguments:?}: {out}{error}");
            Some(out.into_owned())
        }
        Err(error) => {
            remark(&format!("skipped: {program}: {error}"));
            None
        }
    }
}

fn folded_sum(text: &str) -> u64 {
    text.lines().map(|line| line.rsplit_once(' ').expect("a number").1.parse::<u64>().expect("one")).sum()
}

#[test]
fn totals_are_those_of_json() {
    if !can_trace() {
        return;
    }
    let (_directory, file) = session();
    let (bytes, blocks) = totals(&shown(&file, &["-f", "json", "-T", "1"]));
    assert!(bytes > 7000, "{bytes}");
    let folded = shown(&file, &["-f", "folded"]);
    assert_eq!(folded_sum(&folded), bytes);
    assert!(folded.contains(";keep_large"), "{folded}");
    assert_eq!(folded_sum(&shown(&file, &["-f", "folded", "--unit", "blocks", "-T", "1"])), blocks);
    let metrics = shown(&file, &["-f", "openmetrics"]);
    assert!(metrics.contains(&format!("\nmemtrace_outstanding_bytes {bytes}\n")), "{metrics}");
    let svg = shown(&file, &["-f", "svg"]);
    assert!(svg.contains(&format!("data-n=\"all\" data-v=\"{bytes}\"")), "{svg}");
    let command = format!("'{}' report '{}' -f pprof", agent_path().display(), file.display());
    if let Some(text) = tool("script", &["-qc", &command, "/dev/null"]) {
        assert!(text.contains("pprof is not for terminals"), "{text}");
    }
    let html = shown(&file, &["-f", "html"]);
    assert!(html.contains(&format!("\"bytes\":[{bytes},")) && html.ends_with("</html>\n"), "{html}");
    let profile = written(&file, "pprof", &[]);
    let profile = profile.to_str().expect("a path in UTF-8");
    for (kind, unit, total) in [("inuse_space", "B", bytes), ("inuse_objects", "count", blocks)] {
        let index = format!("-sample_index={kind}");
        let unit = format!("-unit={unit}");
        let Some(top) = tool("go", &["tool", "pprof", "-top", "-nodefraction=0", &unit, &index, profile])
        else {
            break;
        };
        assert!(top.contains("keep_large") && top.contains(&format!(" of {total}")), "{total}: {top}");
    }
}

/// What a growing program held is in the page as in JSON, of a session that is saved too.
#[test]
fn curves_end_in_the_figures_of_json() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let options = &["-O1", "-g", "-std=c++17", "-fno-builtin"];
    let program = compile(directory.path(), "growing", CSource { file: "growing.cpp", options });
    let mut target = fixture::start_path(&program, &[]);
    let [saved, page] = ["session.mt", "page.html"].map(|name| directory.path().join(name));
    let [file, output] = [&saved, &page].map(|path| path.to_str().expect("a path in UTF-8"));
    let pid = target.pid().to_string();
    let finished = memtrace([
        "attach",
        &pid,
        "-i",
        "3s",
        "-n",
        "3",
        "--max-overhead",
        "off",
        "-f",
        "html",
        "-O",
        output,
        "--save",
        file,
    ]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    target.close_stdin();
    assert_eq!(target.finish().status, 0);
    let json: Value = serde_json::from_str(&shown(&saved, &["-f", "json", "-T", "0"])).expect("JSON");
    let live = fs::read_to_string(&page).expect("the page");
    for html in [live, shown(&saved, &["-f", "html"])] {
        let ends = html.split(" data-last=\"").skip(1).map(|rest| rest.split('"').next().expect("an end"));
        let ends: Vec<u64> = ends.map(|number| number.parse().expect("a number")).collect();
        let memory = json["process"]["curve"]["bytes"].as_array().expect("a curve").last().expect("a point");
        let stacks = json["stacks"].as_array().expect("stacks");
        let held = stacks.iter().take(100).map(|stack| &stack["bytes"]);
        let expected: Vec<u64> =
            std::iter::once(memory).chain(held).map(|end| end.as_u64().expect("a number")).collect();
        assert_eq!(ends, expected);
    }
    let process = &json["process"];
    assert_eq!(
        process["curve"]["blocks"].as_array().expect("a curve").last(),
        Some(&process["grown_bytes"]["blocks"])
    );
    let grows = |stack: &&Value| stack["frames"].to_string().contains("add_to_log");
    let curve = &json["stacks"].as_array().expect("stacks").iter().find(grows).expect("a stack")["curve"];
    let numbers =
        |of: &Value| of.as_array().expect("numbers").iter().filter_map(Value::as_f64).collect::<Vec<_>>();
    let (at, bytes) = (numbers(&curve["at_s"]), numbers(&curve["bytes"]));
    assert!(at.len() == bytes.len() && at.len() >= 6, "{curve}");
    assert!(at.windows(2).all(|pair| pair[0] < pair[1]), "{curve}");
    assert!(bytes.windows(2).all(|pair| pair[0] <= pair[1]) && bytes[0] == 0.0, "{curve}");
}

/// Python's parser is strict; promtool knows Prometheus's older format, which node_exporter reads.
#[test]
fn prometheus_reads_metrics() {
    if !can_trace() {
        return;
    }
    let (_directory, file) = session();
    let metrics = written(&file, "openmetrics", &[]);
    let metrics = metrics.to_str().expect("a path in UTF-8");
    let (bytes, _) = totals(&shown(&file, &["-f", "json"]));
    let script = "import sys\ntry:\n from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                  except ImportError:\n print('skipped'); sys.exit()\n\
                  families = list(parse(open(sys.argv[1]).read()))\n\
                  print(int(sum(s.value for f in families if f.name == 'memtrace_stack_outstanding_bytes' for s in f.samples)))";
    match tool("/usr/bin/python3", &["-c", script, metrics]) {
        Some(sum) if sum.trim() == "skipped" => remark("skipped: needs python3-prometheus-client"),
        Some(sum) => assert_eq!(sum.trim(), bytes.to_string()),
        None => {}
    }
    if tool("promtool", &["--version"]).is_some() {
        tool("sh", &["-c", "promtool check metrics < \"$1\"", "sh", metrics]);
    }
}

/// A file holds the latest report, and standard output only the last one.
#[test]
fn sessions_write_one_document() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let path = directory.path().join("report");
    let text = path.display().to_string();
    let script = "sleep 0.3";
    let run = |options: &[&str]| {
        let arguments = [&["run", "-i", "50ms"], options, &["--", "sh", "-c", script]].concat();
        let finished = memtrace(arguments);
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        finished.stdout
    };
    let metrics = run(&["-f", "openmetrics"]);
    assert_eq!(metrics.matches("# EOF").count(), 1, "{metrics}");
    assert_eq!(run(&["-f", "openmetrics", "-O", &text]), "");
    let metrics = fs::read_to_string(&path).expect("the report");
    assert!(metrics.matches("# EOF").count() == 1 && metrics.ends_with("# EOF\n"), "{metrics}");
    run(&["-f", "pprof", "-O", &text]);
    assert!(fs::read(&path).expect("the report").starts_with(&[0x1f, 0x8b]));
}

#[test]
fn the_kernel_has_them_too() {
    if !can_trace() {
        return;
    }
    let finished = memtrace(["kernel", "-n", "1", "-i", "200ms", "-f", "svg"]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("data-n=\"all\"") && finished.stdout.ends_with("</svg>\n"));
}

#[test]
fn what_does_not_fit_together() {
    let own = std::process::id().to_string();
    for arguments in [
        &["attach", &own, "-f", "pprof", "--trace"][..],
        &["kernel", "-f", "svg", "--by", "cache"],
        &["triage", "-f", "folded"],
        &["attach", &own, "-f", "flamegraph"],
    ] {
        assert_usage(&memtrace(arguments));
    }
}
