//! Compares walks with another unwinder's on the same memory, as root:
//! `cargo run --release -p memtrace --example oracle -- SECONDS attach PID`, or `-- SECONDS run COMMAND…`.
//! Writes the outcome as one JSON object, and to stderr an example of each kind of difference.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool of the project's own")]

#[path = "../tests/oracle/reference.rs"]
mod reference;

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use memtrace::internals::{BpfEvent, Config, Launch, Options, Process, Progress, Reason, Session};
use memtrace_common::{EXACT, WalkEnd};
use reference::{Frames, Reference, Start};

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Equal,
    /// The reference ended earlier: at the end of the copied stack, or where it has no answer.
    OursLonger,
    ReferenceLonger,
    Differ,
}

#[derive(Default)]
struct Tally {
    stacks: BTreeMap<Outcome, u64>,
    events: BTreeMap<Outcome, u64>,
    first_right: u64,
    seen: HashSet<Vec<u64>>,
    explained: BTreeMap<(Outcome, String), u64>,
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, how, rest @ ..] = &words[..] else { bail!("SECONDS attach PID | SECONDS run COMMAND…") };
    let config = Config { oracle: true, max_stacks: 1 << 20, ..Config::default() };
    let options = Options { config, ..Options::default() };
    let mut session = Session::new(options, |_| {})?;
    let mut events = session.events()?;
    let mut reference = Reference::default();
    let pid = match &how[..] {
        "attach" => {
            let pid = rest.first().context("no process")?.parse()?;
            reference.refresh(pid);
            session.attach(Process::open(pid)?)?;
            pid
        }
        _ => start(&mut session, &mut reference, rest)?.get(),
    };
    let mut tally = Tally::default();
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    while Instant::now() < end {
        let Some(event) = events.next() else {
            if fs_gone(pid) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        match event {
            BpfEvent::Oracle { end, pcs, sp, fp, base, stack, .. } => {
                let pcs: Vec<u64> = pcs.iter().map(|pc| pc & !EXACT).collect();
                reference.learn(pid, &pcs);
                let frames = reference.walk(&Start { sp, fp, base, stack: &stack, pcs: &pcs });
                tally.add(pcs, end, &frames, sp >= base);
            }
            other => {
                session.take_event(other);
            }
        }
    }
    println!("{}", tally.json());
    Ok(())
}

fn fs_gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
}

fn start(session: &mut Session, reference: &mut Reference, words: &[String]) -> anyhow::Result<NonZeroU32> {
    let command = words.iter().map(Into::into).collect();
    let mut launched = Launch::new(command, None).start()?;
    let pid = launched.pid().context("the command has no process id")?;
    session.add(Process::open(pid.get())?)?;
    loop {
        session.attach_new(pid)?;
        if launched.step()? == Progress::Ready {
            break;
        }
    }
    session.attach_new(pid)?;
    // Before it can have exited.
    reference.refresh(pid.get());
    launched.release()?;
    std::thread::spawn(move || launched.wait());
    Ok(pid)
}

impl Tally {
    fn add(&mut self, pcs: Vec<u64>, end: WalkEnd, frames: &Frames, has_stack: bool) {
        let common = pcs.iter().zip(&frames.pcs).take_while(|(ours, theirs)| ours == theirs).count();
        let outcome = match (common == pcs.len(), common == frames.pcs.len()) {
            (true, true) => Outcome::Equal,
            (false, true) => Outcome::OursLonger,
            (true, false) => Outcome::ReferenceLonger,
            (false, false) => Outcome::Differ,
        };
        *self.events.entry(outcome).or_default() += 1;
        self.first_right += u64::from(has_stack && common > 0);
        if !self.seen.insert(pcs.clone()) {
            return;
        }
        *self.stacks.entry(outcome).or_default() += 1;
        if outcome == Outcome::Equal && end == WalkEnd::Complete {
            return;
        }
        // Without the address.
        let error = frames.error.as_deref().unwrap_or("end");
        let error = error.split(" at 0x").next().unwrap_or(error);
        let reason = format!("ours: {}; reference: {error}", Reason::of(end).map_or("complete", Reason::key));
        let count = self.explained.entry((outcome, reason.clone())).or_default();
        *count += 1;
        if *count <= 2 {
            eprintln!(
                "{outcome:?} after {common} of {} and {} frames; {reason}",
                pcs.len(),
                frames.pcs.len()
            );
            for side in [&pcs, &frames.pcs] {
                let near = &side[common.saturating_sub(2)..side.len().min(common + 3)];
                eprintln!("    {near:x?}");
            }
        }
    }

    fn json(&self) -> String {
        let counts = |map: &BTreeMap<Outcome, u64>| {
            let count = |outcome| map.get(&outcome).copied().unwrap_or(0);
            serde_json::json!({
                "equal": count(Outcome::Equal),
                "ours_longer": count(Outcome::OursLonger),
                "reference_longer": count(Outcome::ReferenceLonger),
                "differ": count(Outcome::Differ),
            })
        };
        let why: BTreeMap<String, u64> = self
            .explained
            .iter()
            .map(|((outcome, why), count)| (format!("{outcome:?}: {why}"), *count))
            .collect();
        serde_json::json!({
            "stacks": counts(&self.stacks),
            "events": counts(&self.events),
            "first_caller_right": self.first_right,
            "why": why,
        })
        .to_string()
    }
}
