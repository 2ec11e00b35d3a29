//! What saved sessions cost: a program with 10,000 functions that allocate, all of which are in each report.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::agent::{Agent, Limit};
use super::build::{Built, compile};
use super::child::Fixture;
use super::memory::{cpu_time, milliseconds};
use super::stats::{Summary, figure};
use super::{Options, Row};

/// Functions that call others, and how many each calls: so many stacks.
const BRANCHES: usize = 100;
const LEAVES: usize = 100;
const STACKS: u64 = 10_000;
/// Reports that are measured in a run, behind the first.
const REPORTS: u64 = 4;
/// As for the memory of an agent: a report is written, and the agent idle again, when this is over.
const INTERVAL: &str = "2s";
const WRITTEN: Duration = Duration::from_millis(700);
/// Times that a file is read.
const READS: usize = 3;

/// Who traces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Plain,
    Saving,
    Against,
}

const ALL: [Who; 3] = [Who::Plain, Who::Saving, Who::Against];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "`attach --top 10`",
            Self::Saving => "`attach --top 10 --save FILE`",
            Self::Against => "the other agent, `attach --top 10`",
        }
    }
}

/// What is read from a file.
const READERS: [&[&str]; 3] = [&["report"], &["report", "-f", "json", "--top", "0"], &["diff"]];

/// Ms of CPU time, by [`Who`]; bytes; ms.
#[derive(Default)]
struct Samples {
    first: [Vec<f64>; 3],
    report: [Vec<f64>; 3],
    first_size: Vec<f64>,
    size: Vec<f64>,
    reads: [Vec<f64>; 3],
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let directory = built.live.parent().context("fixtures lie in a directory")?;
    let program = program(directory, &built.fixtures)?;
    let file = directory.join("session.mt");
    let mut samples = Samples::default();
    for _ in 0..options.runs {
        for (place, who) in ALL.into_iter().enumerate() {
            let agent = match (who, &built.against) {
                (Who::Against, None) => continue,
                (Who::Against, Some(against)) => against,
                _ => &built.agent,
            };
            samples.measure(place, agent, &program, &file).context(who.name())?;
        }
    }
    samples.rows()
}

/// The program, generated and compiled.
fn program(directory: &Path, fixtures: &Path) -> Result<PathBuf> {
    let (source, program) = (directory.join("many.c"), directory.join("many"));
    fs::write(&source, text()).with_context(|| source.display().to_string())?;
    let include = format!("-I{}", fixtures.display());
    // Optimizing so many functions takes minutes.
    compile("cc", &source, &program, &["-O0", &include])?;
    Ok(program)
}

fn text() -> String {
    let mut text = format!("#include \"many.h\"\n#define BRANCHES {BRANCHES}\n#define LEAVES {LEAVES}\n");
    let mut branches = String::new();
    for branch in 0..BRANCHES {
        let mut leaves = String::new();
        for leaf in 0..LEAVES {
            let number = branch * LEAVES + leaf;
            let _ = writeln!(text, "LEAF({number})");
            let _ = write!(leaves, "leaf_{number}, ");
        }
        let _ =
            writeln!(text, "static void (*const leaves_{branch}[])(void) = {{{leaves}}};\nBRANCH({branch})");
        let _ = write!(branches, "branch_{branch}, ");
    }
    let _ = writeln!(text, "static void (*const branches[])(long) = {{{branches}}};\nMAIN");
    text
}

impl Samples {
    fn measure(&mut self, place: usize, memtrace: &Path, program: &Path, file: &Path) -> Result<()> {
        let is_saving = ALL[place] == Who::Saving;
        let mut target = Fixture::start(&mut Command::new(program))?;
        let name = file.to_str().context("a path in UTF-8")?;
        let mut options = vec!["-i", INTERVAL, "--top", "10"];
        if is_saving {
            options.extend(["--save", name]);
        }
        let size = || fs::metadata(file).map_or(0, |file| file.len()) as f64;
        let mut agent = Agent::attach(memtrace, target.pid(), Limit::Off, &options)?;
        agent.await_report()?;
        for number in 0..=REPORTS {
            thread::sleep(WRITTEN);
            let (before, small) = (with_children(agent.pid())?, size());
            target.ask(STACKS)?;
            let said = agent.await_report()?;
            thread::sleep(WRITTEN);
            let blocks = figure(((number + 1) * STACKS) as f64);
            ensure!(said.contains(&format!("{blocks} blocks")), "not {blocks} blocks: {said}");
            let took = milliseconds(with_children(agent.pid())?.saturating_sub(before));
            let (times, sizes) = if number == 0 {
                (&mut self.first[place], &mut self.first_size)
            } else {
                (&mut self.report[place], &mut self.size)
            };
            times.push(took);
            if is_saving {
                sizes.push((size() - small) / 1024.0);
            }
        }
        drop(agent);
        if is_saving { self.read(memtrace, file) } else { Ok(()) }
    }

    /// Reads what was saved.
    fn read(&mut self, program: &Path, file: &Path) -> Result<()> {
        for (arguments, times) in READERS.iter().zip(&mut self.reads) {
            let (command, options) = arguments.split_first().context("a command")?;
            for _ in 0..READS {
                let start = Instant::now();
                let mut reader = Command::new(program);
                reader.arg(command).arg(file).args(options).stdout(Stdio::null());
                ensure!(reader.status().context("memtrace")?.success(), "memtrace {command} failed");
                times.push(milliseconds(start.elapsed()));
            }
        }
        Ok(())
    }

    fn rows(&self) -> Result<Vec<Row>> {
        let row = |what: &str, variant: String, samples: &[f64], unit, note: String| {
            let summary = Summary::of(samples).context("no samples")?;
            anyhow::Ok(Row { what: format!("saved: {what}, 10,000 stacks"), variant, summary, unit, note })
        };
        let mut rows = Vec::new();
        for (what, all) in [
            ("CPU of the first report, readers included", &self.first),
            ("CPU per later report", &self.report),
        ] {
            for (who, samples) in ALL.into_iter().zip(all).filter(|(_, samples)| !samples.is_empty()) {
                rows.push(row(what, who.name().to_owned(), samples, "ms", ratio(who, all))?);
            }
        }
        rows.push(row("file, first report", String::new(), &self.first_size, "KiB", String::new())?);
        rows.push(row("file, each later report", String::new(), &self.size, "KiB", String::new())?);
        for (arguments, times) in READERS.iter().zip(&self.reads) {
            let note = format!("wall clock, a file of {} reports", REPORTS + 2);
            rows.push(row("read", format!("`memtrace {}`", arguments.join(" ")), times, "ms", note)?);
        }
        Ok(rows)
    }
}

/// How much more an agent takes than the one that it is compared with.
fn ratio(who: Who, [plain, saving, against]: &[Vec<f64>; 3]) -> String {
    let (of, to, what) = match who {
        Who::Plain => (plain, against, "the other agent"),
        Who::Saving => (saving, plain, "what it takes without `--save`"),
        Who::Against => return String::new(),
    };
    match (Summary::of(of), Summary::of(to)) {
        (Some(of), Some(to)) => format!("{} of {what}", figure(of.median / to.median)),
        _ => String::new(),
    }
}

/// CPU time of a process and of the children that it has now.
fn with_children(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).context(path)?;
    let own = cpu_time(pid)?;
    // A child may be gone already.
    let times = children.split_whitespace().filter_map(|child| cpu_time(child.parse().ok()?).ok());
    Ok(times.fold(own, |sum, time| sum.saturating_add(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_has_a_function() {
        let text = text();
        assert_eq!(text.matches("\nLEAF(").count() as u64, STACKS);
        assert_eq!(text.matches("\nBRANCH(").count(), BRANCHES);
    }

    #[test]
    fn each_is_compared_with_what_it_is_an_alternative_to() {
        let samples = [vec![10.0], vec![15.0], vec![20.0]];
        let ratios = ALL.map(|who| ratio(who, &samples));
        assert_eq!(ratios, ["0.50 of the other agent", "1.50 of what it takes without `--save`", ""]);
        assert_eq!(ratio(Who::Plain, &[vec![10.0], vec![], vec![]]), "");
    }
}
