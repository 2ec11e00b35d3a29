//! Curves over time of a page: the memory of processes, and what stacks held; and how long their blocks lived.

use std::io::{self, Write};
use std::time::Duration;

use super::chart::{self, Band, Chart};
use crate::profile::units::{format_age, format_bytes, format_number, format_signed};
use crate::profile::{
    Balance, Curves, Lifetimes, Parts, Profile, Row, Verdict, View, Weight, lifetime_begin,
};
use crate::report::balance;
use crate::report::escape::markup;

/// Fewer moments than this are no curve.
const LEAST: usize = 4;
/// The least range of the axis of a process's memory: noise is not drawn as if it were growth. Bytes, and a part of what it has.
const RANGE: u64 = 1 << 20;
const RANGE_PART: u64 = 64;
/// Labels below bars.
const LABELS: usize = 4;

/// Parts of a process's growth: the class, the name, and the figure.
type Part = (&'static str, &'static str, fn(&Parts) -> f64);
const PARTS: [Part; 6] = [
    ("part1", "blocks", |parts| parts.blocks),
    ("part2", "mapped", |parts| parts.mapped),
    ("part3", "thread stacks", |parts| parts.stacks),
    ("part4", "allocator keeps", |parts| parts.kept),
    ("part5", "files and shared", |parts| parts.shared),
    ("part6", "unexplained", |parts| parts.unexplained),
];

/// The memory of each process over time.
pub(super) fn memory(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let profile = view.profile();
    let Some(of) = profile.processes() else { return Ok(()) };
    writeln!(out, "<section aria-labelledby=\"memory\">\n<h2 id=\"memory\">Memory over time</h2>")?;
    let chosen = |balance: &&Balance| view.selection().pid.is_none_or(|pid| pid == balance.pid);
    let balances: Vec<&Balance> = of.balances.iter().filter(chosen).collect();
    let drawn: Vec<&Balance> =
        balances.iter().copied().filter(|balance| balance.weights.len() >= LEAST).collect();
    for (place, balance) in drawn.iter().enumerate() {
        let title = format!("Memory of process {}", balance::name(of, balance));
        process(out, &format!("m{place}"), &title, &balance.weights)?;
    }
    let more = balances.len() - drawn.len();
    if drawn.is_empty() {
        writeln!(
            out,
            "<p>No curve: there are too few samples of the memory of the processes, one a second; of a saved session, the \
             last report has them.</p>"
        )?;
    } else if more > 0 {
        let more = match more {
            1 => "1 more process".to_owned(),
            more => format!("{} more processes", format_number(more as u64)),
        };
        writeln!(out, "<p>Without a curve: {more}, with too few samples or less growth.</p>")?;
    }
    writeln!(out, "</section>")
}

/// One process: the lowest band is what was there at first, less what parts have shrunk by.
fn process(out: &mut dyn Write, id: &str, title: &str, weights: &[Weight]) -> io::Result<()> {
    let (Some(first), Some(last)) = (weights.first(), weights.last()) else { return Ok(()) };
    let at: Vec<Duration> = weights.iter().map(|weight| weight.at).collect();
    let total: Vec<u64> = weights.iter().map(|weight| weight.bytes).collect();
    let gained = |weight: &Weight| {
        PARTS.iter().fold(0_u64, |sum, (.., part)| sum.saturating_add(part(&weight.grown).max(0.0) as u64))
    };
    let before: Vec<u64> = weights.iter().map(|weight| weight.bytes.saturating_sub(gained(weight))).collect();
    let low = lowest(&before, &total);
    let mut bands = vec![Band { class: "part0", values: before }];
    for (class, _, part) in PARTS {
        let values = weights.iter().map(|weight| part(&weight.grown).max(0.0) as u64).collect();
        bands.push(Band { class, values });
    }
    let parts: Vec<(&str, String)> = PARTS
        .iter()
        .map(|(class, name, part)| (*class, format!("{name} {}", signed(part(&last.grown)))))
        .collect();
    let words: Vec<&str> = parts.iter().map(|(_, words)| words.as_str()).collect();
    let description = format!(
        "{} after {}, {} after {}, resident or swapped out. Growth: {}.",
        format_bytes(first.bytes),
        format_age(first.at),
        format_bytes(last.bytes),
        format_age(last.at),
        words.join(", ")
    );
    write!(out, "<figure><figcaption>{}</figcaption>", markup(title))?;
    let chart = Chart { id, title, description: &description, height: 236 };
    chart::areas(out, &chart, &at, &bands, (&total, low))?;
    write!(
        out,
        "<ul class=\"legend\"><li><i class=\"part0\"></i>at first {}</li>",
        format_bytes(first.bytes)
    )?;
    for (class, words) in &parts {
        write!(out, "<li><i class=\"{class}\"></i>{words}</li>")?;
    }
    let cut = if low > 0 { " The axis does not begin at 0." } else { "" };
    writeln!(
        out,
        "</ul><p class=\"soft\">Resident or swapped out: what was there at first, and growth since by its parts. What a part has \
         lost is missing at the bottom.{cut}</p></figure>"
    )
}

/// Where the axis begins: at 0, unless growth would hardly be seen then.
fn lowest(before: &[u64], total: &[u64]) -> u64 {
    let highest = total.iter().copied().max().unwrap_or_default();
    let least = before.iter().chain(total).copied().min().unwrap_or_default();
    let range = RANGE.max(highest / RANGE_PART);
    if least >= highest / 2 { least.min(highest.saturating_sub(range)) } else { 0 }
}

fn signed(bytes: f64) -> String {
    format_signed(bytes as i64, format_bytes)
}

/// Why no stack has a curve; `None`: some have.
pub(super) fn missing(profile: &Profile) -> Option<&'static str> {
    if profile.heaps().is_some() {
        return Some("A scan is one moment: memtrace scan -i 60s shows what changes.");
    }
    let Some(of) = profile.processes() else {
        return Some("Stacks of the kernel have no curves over time.");
    };
    let Curves { at, stacks } = of.curves.as_ref();
    if profile.is_part() {
        return Some("No curves: what these blocks held earlier is not kept, as they are some of all.");
    }
    if at.is_empty() {
        return Some("No curves: nothing was kept over time. Of a saved session, the last report has them.");
    }
    let is_short = at.len() < LEAST;
    (is_short || stacks.is_empty())
        .then_some("No curves: the report was made too soon, stacks are looked at once a second.")
}

/// What a stack held over time, and how long its freed blocks lived. `is_open`: whether that is seen without a click.
pub(super) fn stack(
    out: &mut dyn Write,
    view: &View<'_>,
    row: &Row,
    (place, is_open): (usize, bool),
) -> io::Result<()> {
    let profile = view.profile();
    let curves = profile.processes().map(|of| of.curves.as_ref()).filter(|_| missing(profile).is_none());
    let lifetimes = row.verdict.as_deref().and_then(|verdict: &Verdict| verdict.lifetimes.as_ref());
    if curves.is_none() && lifetimes.is_none() {
        return Ok(());
    }
    let open = if is_open { " open=\"\"" } else { "" };
    write!(out, "<details{open}><summary>over time, lifetimes</summary><div class=\"charts\">")?;
    if let Some(curves) = curves {
        growth(out, &format!("g{place}"), curves, row)?;
    }
    if let Some(lifetimes) = lifetimes {
        histogram(out, &format!("l{place}"), lifetimes)?;
    }
    write!(out, "</div></details>")
}

fn growth(out: &mut dyn Write, id: &str, curves: &Curves, row: &Row) -> io::Result<()> {
    let Some(curve) = curves.of(row) else {
        let most = Curves::MOST;
        return write!(
            out,
            "<p class=\"soft\">No curve: it was not among the first {most} stacks of the session.</p>"
        );
    };
    let (most, last) = (
        curve.bytes.iter().copied().max().unwrap_or_default(),
        curve.bytes.last().copied().unwrap_or_default(),
    );
    let description = format!(
        "{} outstanding after {}; the most was {}.",
        format_bytes(last),
        format_age(curves.at.last().copied().unwrap_or_default()),
        format_bytes(most)
    );
    write!(out, "<figure><figcaption>Outstanding bytes over time</figcaption>")?;
    let chart = Chart { id, title: "Outstanding bytes over time", description: &description, height: 134 };
    chart::curve(out, &chart, &curves.at, &curve.bytes)?;
    write!(out, "</figure>")
}

fn histogram(out: &mut dyn Write, id: &str, lifetimes: &Lifetimes) -> io::Result<()> {
    let Some(end) = lifetimes.iter().rposition(|blocks| *blocks > 0) else {
        return write!(out, "<p class=\"soft\">No block was freed: there are no lifetimes.</p>");
    };
    let begin = lifetimes.iter().position(|blocks| *blocks > 0).unwrap_or_default();
    let every = (end + 1 - begin).div_ceil(LABELS);
    let bar = |class: usize, blocks: u32| {
        let from = lifetime_begin(class);
        let lived = match class {
            0 => format!("less than {}", format_age(lifetime_begin(1))),
            _ if class + 1 == lifetimes.len() => format!("{} or longer", format_age(from)),
            _ => format!("{} to {}", format_age(from), format_age(lifetime_begin(class + 1))),
        };
        let label = (class - begin).is_multiple_of(every).then(|| match class {
            0 => "0".to_owned(),
            _ => format_age(from),
        });
        (format!("{lived}: {}", format_number(blocks.into())), u64::from(blocks), label)
    };
    let all = lifetimes.iter().enumerate().take(end + 1).skip(begin);
    let bars: Vec<_> = all.map(|(class, &blocks)| bar(class, blocks)).collect();
    let words: Vec<&str> = bars.iter().filter(|bar| bar.1 > 0).map(|bar| bar.0.as_str()).collect();
    let description = format!("Freed blocks by lifetime. {}.", words.join(", "));
    write!(out, "<figure><figcaption>Freed blocks by lifetime, doubling from bar to bar</figcaption>")?;
    let chart = Chart { id, title: "Lifetimes of freed blocks", description: &description, height: 134 };
    chart::bars(out, &chart, &bars)?;
    write!(out, "</figure>")
}
