//! What is left of a traced process that the OOM killer or a crash has ended: the last report.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    Agent, CSource, Cgroup, Finished, Remark, Report, Running, TriageReport, agent_path, can_trace, compile,
    limit, memtrace, proc, saved,
};

/// The limit of the cgroups. Nothing else on the machine is short of memory.
const LIMIT: u64 = 32 << 20;
/// The test repeats what must always be so; where a leak is slow, once.
fn times() -> u32 {
    if std::env::var_os("MEMTRACE_TEST_DIVIDE").is_some() { 1 } else { 3 }
}

/// Checks go on all the time, as far as they can.
const OPTIONS: [&str; 2] = ["--leak-check", "always"];

struct Built {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Built {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = ["-O1", "-g", "-fno-omit-frame-pointer"];
        let program =
            compile(directory.path(), "black_box", CSource { file: "black_box.c", options: &options });
        Self { directory, program }
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut running = Running::spawn(Command::new(&self.program).args(arguments));
        running.line_with("ready");
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What ended the process.
fn killed(report: &Report, pid: u32) -> &Remark {
    let mut remarks = report.remarks.iter().filter(|remark| remark.key == "killed");
    let found = remarks.find(|remark| remark.value("pid") == pid);
    found.unwrap_or_else(|| panic!("not said: {:#?}", report.remarks))
}

/// It says that the OOM killer did it, at the limit of that cgroup.
fn assert_oom_killed(report: &Report, pid: u32, group: &Cgroup) {
    let killed = killed(report, pid);
    let cause = killed.value("out_of_memory");
    assert_eq!(killed.value("signal"), 9, "{killed:?}");
    assert_eq!(cause["constraint"], "cgroup", "{killed:?}");
    assert_eq!(
        (&cause["cgroup"], &cause["limit_bytes"]),
        (&group.name().into(), &LIMIT.into()),
        "{killed:?}"
    );
}

/// It names the function, with nearly all that the process held, and much of it as lost.
fn assert_leak(report: &Report, function: &str) {
    let found = report.through(function);
    assert!(found.bytes > LIMIT / 2 && found.bytes < LIMIT, "{found:?} of {:?}", report.callers());
    let lost = report.lost(function);
    assert!(lost.blocks * 4000 > LIMIT / 4, "{lost:?}: {:?}", report.leak_check);
}

#[test]
fn a_leak_at_the_limit_is_in_the_last_report() {
    let Some(group) = Cgroup::to_trace_in(LIMIT) else { return };
    let built = Built::new();
    for time in 0..times() {
        let mut program = built.start(&["leak"]);
        let pid = program.pid();
        group.add(pid);
        let file = built.path(&format!("saved-{time}"));
        let save = ["--save", file.to_str().expect("a path")];
        let agent = Agent::attach(&[pid], &[OPTIONS.as_slice(), &save].concat());
        program.write_line("");
        let report = agent.last_report();
        assert_oom_killed(&report, pid, &group);
        assert_leak(&report, "forget_request");
        assert_eq!(program.finish().status, 128 + 9);

        // The file has the same.
        let read = saved::shown(&file, &["-f", "json", "--top", "0"]);
        assert_oom_killed(&Report::parse(read.trim()), pid, &group);
        let text = saved::shown(&file, &[]);
        let line = text.lines().find(|line| line.starts_with("KILLED: ")).expect("a line");
        assert!(line.contains("by the OOM killer: cgroup ") && line.contains("limit of 32 MiB"), "{line}");
        assert!(text.contains(" before the end: ") && text.contains("forget_request"), "{text}");
        assert_in_the_log(pid, &group);
    }
}

/// `memtrace triage` has the kill in its summary of the kernel's log.
fn assert_in_the_log(pid: u32, group: &Cgroup) {
    let Finished { stdout, .. } = memtrace(["triage", "-i", "100ms", "-f", "json"]);
    let report: TriageReport = serde_json::from_str(stdout.trim()).expect("a report");
    let mut events = report.triage.kernel_log.events.into_iter().rev();
    let event = events.find(|event| event.killed.as_ref().is_some_and(|killed| killed.pid == pid));
    let event = event.expect("the kill");
    assert_eq!((event.constraint.as_deref(), event.cgroup), (Some("cgroup"), Some(group.name())));
    assert_eq!(event.limit_bytes, Some(LIMIT));
}

#[test]
fn a_limit_that_is_near_starts_a_check() {
    let Some(group) = Cgroup::to_trace_in(LIMIT) else { return };
    let built = Built::new();
    let file = built.path("saved");
    let mut command = Command::new(agent_path());
    // A command is not checked for leaks before its end, and the OOM killer leaves no time for that.
    command.args(["run", "-i", "1h", "--max-overhead", "off", "-O"]).arg(built.path("report"));
    command.arg("--save").arg(&file).arg("--").arg(&built.program).arg("leak");
    let mut agent = Running::spawn(&mut command);
    let ready = agent.line_with("ready");
    let pid: u32 = ready.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a pid");
    group.add(pid);
    agent.write_line("");
    let Finished { status, stderr, .. } = agent.finish();
    assert_eq!(status, 128 + 9, "{stderr}");
    let numbers = 1..=saved::Parts::of(&file).records.len();
    let shown = |number: usize| {
        let number = number.to_string();
        Report::parse(saved::shown(&file, &["--at", &number, "-f", "json", "--top", "0"]).trim())
    };
    let reports: Vec<Report> = numbers.map(shown).collect();
    // Other programs may put the machine under pressure.
    let is_of_it = |report: &&Report| {
        report.remark("early_sign").is_some_and(|sign| sign.value("cgroup") == group.name().as_str())
    };
    let found = reports.iter().find(is_of_it);
    let Some(first) = found else { panic!("no sign in {} reports: {stderr}", reports.len()) };
    let sign = first.remark("early_sign").expect("a sign");
    assert_eq!(sign.value("pid"), pid, "{sign:?}");
    assert!(!first.last && first.leak_check.is_some(), "{sign:?}");
    if sign.value("sign") == "near_limit" {
        assert!(sign.value("used").as_f64().is_some_and(|used| used >= 0.9), "{sign:?}");
    }
    // What it found is in the last report.
    let last = reports.last().expect("a report");
    assert!(last.last);
    assert_oom_killed(last, pid, &group);
    assert_leak(last, "forget_request");
}

#[test]
fn a_neighbour_is_killed() {
    let Some(group) = Cgroup::to_trace_in(LIMIT) else { return };
    let built = Built::new();
    let mut rounds = 0;
    // Where the kernel is slow to free what the neighbour had, it takes the other too.
    for _ in 0..3 * times() {
        if rounds == times() {
            break;
        }
        let mut neighbour = built.start(&["keep", "16"]);
        group.add(neighbour.pid());
        // The kernel's choice does not depend on what is larger by a little.
        fs::write(format!("/proc/{}/oom_score_adj", neighbour.pid()), "1000").expect("a score");
        neighbour.write_line("");
        neighbour.line_with("done");
        let mut program = built.start(&["leak", "20"]);
        let pid = program.pid();
        group.add(pid);
        let mut agent = Agent::attach(&[pid], &OPTIONS);
        program.write_line("");
        if program.line().is_none() {
            killed(&agent.last_report(), pid);
            continue;
        }
        rounds += 1;
        let report = agent.report_when(|report| report.says("another_killed"));
        let another = report.remark("another_killed").expect("a remark");
        assert_eq!(another.value("pid"), neighbour.pid(), "{another:?}");
        assert_eq!(another.value("comm"), "black_box", "{another:?}");
        assert_eq!(another.value("out_of_memory")["cgroup"], group.name(), "{another:?}");
        assert_eq!(neighbour.finish().status, 128 + 9);
        // The limit was near before it was reached.
        let locked = proc::status(agent.pid(), "VmLck").expect("what is locked");
        assert!(locked != "0 kB", "{locked}");
        // The one that leaks goes on.
        let report = agent.interrupt();
        assert!(!report.says("killed") && report.says("another_killed"), "{:?}", report.remarks);
        assert!(report.through("forget_request").bytes >= 20 << 20, "{:?}", report.callers());
        assert_eq!(program.finish().status, 0);
    }
    assert_eq!(rounds, times());
}

#[test]
fn shared_memory_fills_the_cgroup() {
    let Some(group) = Cgroup::to_trace_in(LIMIT) else { return };
    let built = Built::new();
    for _ in 0..times() {
        let mut program = built.start(&["shared"]);
        let pid = program.pid();
        group.add(pid);
        let agent = Agent::attach(&[pid], &OPTIONS);
        program.write_line("");
        let report = agent.last_report();
        assert_oom_killed(&report, pid, &group);
        let killed = killed(&report, pid);
        let shmem = killed.value("out_of_memory")["shmem_bytes"].as_u64();
        assert!(shmem.is_some_and(|bytes| bytes > LIMIT / 2 && bytes <= LIMIT), "{killed:?}");
        let text = killed.value("text").as_str().expect("a sentence").to_owned();
        assert!(text.contains("; shared memory and tmpfs took "), "{text}");
        assert_eq!(program.finish().status, 128 + 9);
    }
}

#[test]
fn a_crash_leaves_a_last_report() {
    if !can_trace() {
        return;
    }
    let built = Built::new();
    let mut program = built.start(&["crash"]);
    let pid = program.pid();
    let mut agent = Agent::attach(&[pid], &OPTIONS);
    program.write_line("");
    program.line_with("done");
    let found = agent.report_when(|report| report.lost("forget_request").blocks > 1900);
    assert!(!found.says("killed"));
    program.write_line("");
    let report = agent.last_report();
    let killed = killed(&report, pid);
    assert_eq!(
        (killed.value("signal"), killed.value("comm")),
        (&11.into(), &"black_box".into()),
        "{killed:?}"
    );
    assert!(killed.value("out_of_memory").is_null(), "{killed:?}");
    assert!(report.through("forget_request").blocks == 2000 && report.lost("forget_request").blocks > 1900);
    assert_eq!(program.finish().status, 128 + 11);
}

/// Whether this process has CAP_SYS_RESOURCE (include/uapi/linux/capability.h).
fn may_lower_scores() -> bool {
    let effective = proc::status(std::process::id(), "CapEff").expect("capabilities");
    u64::from_str_radix(&effective, 16).expect("a mask") >> 24 & 1 == 1
}

/// The place of a process in the order of the OOM killer.
fn score(path: impl AsRef<Path>) -> i32 {
    fs::read_to_string(path).expect("a score").trim().parse().expect("a number")
}

#[test]
fn memtrace_is_taken_last_and_what_it_starts_is_not() {
    if !can_trace() {
        return;
    }
    let built = Built::new();
    let program = built.start(&["keep", "1"]);
    let seen = built.path("seen");
    let command = "echo 300 > /proc/self/oom_score_adj; exec \"$0\" \"$@\"";
    let started = |arguments: &[&str]| {
        Running::spawn(Command::new("sh").args(["-c", command]).arg(agent_path()).args(arguments))
    };
    let pid = program.pid().to_string();
    let attached = started(&["attach", &pid, "-i", "100ms", "-f", "json"]);
    let mut attached = attached;
    let _: Report = Report::parse(&attached.line().expect("a report"));
    let own = score(format!("/proc/{}/oom_score_adj", attached.pid()));
    // Without CAP_SYS_RESOURCE, what was added is taken back.
    assert_eq!(own, if may_lower_scores() { -1000 } else { 0 });
    for child in proc::children(attached.pid()) {
        assert_eq!(score(format!("/proc/{child}/oom_score_adj")), own);
    }
    drop(attached);

    let report = built.path("report");
    let report = report.to_str().expect("a path");
    let show = "cat /proc/self/oom_score_adj";
    let Finished { status, stdout, stderr } =
        started(&["run", "-O", report, "--", "sh", "-c", show]).finish();
    assert_eq!((status, stdout.trim()), (0, "300"), "{stderr}");

    let exec = format!("{show} > {}", seen.display());
    let waiting = [
        "attach",
        &pid,
        "--when",
        "rss>1KiB",
        "--cooldown",
        "1h",
        "-d",
        "200ms",
        "-O",
        report,
        "--exec",
        &exec,
    ];
    let waiting = started(&waiting);
    let end = std::time::Instant::now() + limit();
    while fs::read_to_string(&seen).unwrap_or_default().trim().is_empty() {
        assert!(std::time::Instant::now() < end, "--exec has not run");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(score(&seen), 300);
    drop(waiting);
}

#[test]
fn memtrace_in_the_same_cgroup_is_told() {
    let Some(group) = Cgroup::to_trace_in(1 << 30) else { return };
    let built = Built::new();
    let program = built.start(&["keep", "1"]);
    group.add(program.pid());
    let agent = Agent::attach(&[program.pid()], &[]);
    let report = agent.interrupt();
    assert!(!report.says("agent_in_cgroup"), "{:?}", report.remarks);

    let pid = program.pid().to_string();
    let procs = group.path().join("cgroup.procs");
    let command = "echo $$ > \"$0\"; exec \"$@\"";
    let mut command_line = Command::new("sh");
    command_line.args(["-c", command]).arg(procs).arg(agent_path());
    let mut agent =
        Running::spawn(command_line.args(["attach", &pid, "-n", "2", "-i", "500ms", "-f", "json"]));
    let reports: Vec<Report> = std::iter::from_fn(|| agent.line()).map(|line| Report::parse(&line)).collect();
    let last = reports.last().expect("a report");
    let told = last.remark("agent_in_cgroup").unwrap_or_else(|| panic!("{:?}", last.remarks));
    assert_eq!(
        (told.value("cgroup"), told.value("limit_bytes")),
        (&group.name().into(), &(1_u64 << 30).into())
    );
    let _ = agent.finish();
}
