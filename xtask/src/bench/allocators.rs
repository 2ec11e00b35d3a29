//! What a pair costs by whose allocator it is: with return probes, and with probes on the ways out of functions that must
//! not have one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::build::Built;
use super::compare::{Outcome, Plan, Start, compare, fixture, median};
use super::stats::figure;
use super::variants::Variant;
use super::{Options, Row};

const WINDOW: Duration = Duration::from_millis(60);
const WINDOWS: u32 = 4;
const LIBRARIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

/// An allocator's name, its library, and whether the pairs are of `operator new`.
const ALLOCATORS: [(&str, Option<&str>, bool); 7] = [
    ("glibc, malloc", None, false),
    ("jemalloc, malloc", Some("libjemalloc.so.2"), false),
    ("jemalloc, operator new", Some("libjemalloc.so.2"), true),
    ("tcmalloc, malloc", Some("libtcmalloc_minimal.so.4"), false),
    ("tcmalloc, operator new", Some("libtcmalloc_minimal.so.4"), true),
    ("mimalloc, malloc", Some("libmimalloc.so.2"), false),
    ("mimalloc, operator new", Some("libmimalloc.so.2"), true),
];

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let mut variants = vec![Variant::Untraced, Variant::Exact, Variant::ReturnProbes];
    variants.extend(built.against.as_ref().map(|_| Variant::Against));
    let mut rows = Vec::new();
    for (name, library, new) in ALLOCATORS {
        let library = match library.map(|library| find(library).ok_or(library)) {
            Some(Err(missing)) => {
                eprintln!("{missing} is not installed: left out");
                continue;
            }
            library => library.and_then(Result::ok),
        };
        let program = if new { built.pair_new.as_ref() } else { Some(&built.pair) };
        let Some(program) = program else { continue };
        let outcomes = measure(built, program, library.as_deref(), &variants, options)?;
        rows.extend(outcomes.iter().map(|outcome| row(name, outcome, &outcomes)));
    }
    Ok(rows)
}

fn find(library: &str) -> Option<PathBuf> {
    LIBRARIES.iter().map(|directory| Path::new(directory).join(library)).find(|path| path.exists())
}

fn measure(
    built: &Built,
    program: &Path,
    library: Option<&Path>,
    variants: &[Variant],
    options: Options,
) -> Result<Vec<Outcome>> {
    let start: Start<'_> = &|wrapper| {
        let mut command = Command::new(program);
        command.args(["4", "1"]);
        if let Some(library) = library {
            command.env("LD_PRELOAD", library);
        }
        fixture(&mut command, wrapper)
    };
    compare(start, Plan { built, variants, runs: options.runs, windows: WINDOWS, window: WINDOW })
}

fn row(name: &str, outcome: &Outcome, all: &[Outcome]) -> Row {
    let of = |other| Some(figure(outcome.cost.median / median(all, other)?));
    let note = match outcome.variant {
        Variant::Exact => [(Variant::ReturnProbes, "return probes"), (Variant::Against, "the other agent")]
            .into_iter()
            .filter_map(|(other, what)| Some(format!("{} of {what}", of(other)?)))
            .collect::<Vec<_>>()
            .join("; "),
        _ => String::new(),
    };
    Row {
        what: format!("pair: {name}"),
        variant: outcome.variant.name(),
        summary: outcome.cost,
        unit: "ns",
        note,
    }
}
