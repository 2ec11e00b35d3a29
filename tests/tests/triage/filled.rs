//! A program that fills a place while `memtrace triage` looks.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use memtrace_tests::{CSource, Place, Running, Triage, TriageReport, agent_path, compile, remark};
use nix::sys::signal::Signal;

/// As in places.c.
pub(crate) const SIZE: u64 = 24 << 20;
/// What the figures may be off by: 2 % is less.
pub(crate) const OFF: u64 = 1 << 20;

/// Tests look at the whole machine: one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn built() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "places.c", options: &["-O1"] };
    let program = compile(directory.path(), "places", source);
    (directory, program)
}

pub(crate) fn parse(line: &str) -> Triage {
    let report: TriageReport = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let triage = report.triage;
    let off = triage.sum_bytes.abs_diff(triage.total_bytes);
    assert!(off * 100 <= triage.total_bytes, "{} of {}", triage.sum_bytes, triage.total_bytes);
    assert_eq!(triage.answer.len(), 3);
    triage
}

/// A program that has filled its place between two looks, and what these told.
pub(crate) struct Filled {
    _program: Running,
    pub(crate) pid: u32,
    pub(crate) number: u64,
    /// What slab caches grew by meanwhile, bytes: what is free in them is used first.
    slabs: BTreeMap<String, u64>,
    pub(crate) triage: Triage,
}

impl Filled {
    /// What a slab cache grew by.
    pub(crate) fn slab_bytes(&self, name: &str) -> u64 {
        self.slabs.get(name).copied().unwrap_or(0)
    }
}

/// Memory of each slab cache.
fn slabs() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    // Name, active objects, objects, size of one.
    let of = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let (objects, size) = (fields.nth(1)?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
        Some((name, objects * size))
    };
    text.lines().filter_map(of).collect()
}

/// Looks every two seconds, and not while the program fills its place: growth in two looks would be in neither whole. The look
/// after the program was done may still be the one that began before: growth is the largest of both.
pub(crate) fn filled(what: &str, place: &str, is_it: impl Fn(&Place, u32) -> bool) -> Filled {
    let (directory, program) = built();
    let mut command = Command::new(program);
    command.arg(what).arg(place);
    filled_by(Running::spawn(&mut command), directory.path(), is_it)
}

fn filled_by(mut program: Running, _directory: &Path, is_it: impl Fn(&Place, u32) -> bool) -> Filled {
    program.line_with("ready");
    let options = ["triage", "-n", "0", "-i", "2s", "-T", "0", "-f", "json"];
    let mut agent = Running::spawn(Command::new(agent_path()).args(options));
    parse(&agent.line().expect("a report"));
    agent.signal(Signal::SIGSTOP);
    let before = slabs();
    program.write_line("");
    let done = program.line_with("done");
    let grown = |(name, bytes): (String, u64)| {
        let earlier = before.get(&name).copied().unwrap_or(0);
        (name, bytes.saturating_sub(earlier))
    };
    let slabs = slabs().into_iter().map(grown).collect();
    agent.signal(Signal::SIGCONT);
    let words: Vec<&str> = done.split(' ').collect();
    let (pid, number) = (words[1].parse().expect("a pid"), words[2].parse().expect("a number"));
    let mut reports: Vec<Triage> = (0..2).map(|_| parse(&agent.line().expect("a report"))).collect();
    let grown = |triage: &Triage| {
        let of_it = triage.grown.iter().filter(|place| is_it(place, pid)).map(|place| place.grown_bytes);
        of_it.max().unwrap_or(0)
    };
    // One look may have come in between.
    reports.sort_by_key(|triage| std::cmp::Reverse(grown(triage)));
    Filled { _program: program, pid, number, slabs, triage: reports.swap_remove(0) }
}

/// The place is named, with the right number, before everything that is not another process's.
pub(crate) fn assert_first(
    filled: &Filled,
    bytes: u64,
    off: u64,
    is_it: impl Fn(&Place, u32) -> bool,
) -> Place {
    let grown = &filled.triage.grown;
    let at = grown.iter().position(|place| is_it(place, filled.pid));
    let Some(at) = at else { panic!("not named: {:#?}", filled.triage) };
    let place = &grown[at];
    let is_right = u64::try_from(place.grown_bytes).is_ok_and(|grown| grown.abs_diff(bytes) <= off);
    assert!(is_right, "{} of {bytes}: {place:?}", place.grown_bytes);
    for earlier in &grown[..at] {
        // Others compile and read files at the same time.
        let is_foreign = earlier.pid.is_some_and(|pid| pid != filled.pid)
            || earlier.place == "slab_cache" && earlier.name.as_deref() != Some("dentry");
        assert!(is_foreign, "before it: {earlier:?}");
    }
    if at == 0 {
        assert!(
            filled.triage.answer[0].starts_with(&format!("GROWS {}", place.text)),
            "{:?}",
            filled.triage.answer
        );
    } else {
        remark("something else on this machine grew more");
    }
    place.clone()
}

pub(crate) fn of(kind: &'static str) -> impl Fn(&Place, u32) -> bool + Copy {
    move |place, pid| place.place == kind && place.pid == Some(pid)
}

/// The next command is there, if nothing else grew more.
pub(crate) fn assert_next(filled: &Filled, command: &str) {
    let is_first =
        filled.triage.grown.first().is_none_or(|place| place.pid.is_none_or(|pid| pid == filled.pid));
    assert!(!is_first || filled.triage.next.iter().any(|next| next == command), "{:?}", filled.triage.next);
}
