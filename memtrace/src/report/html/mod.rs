//! A report as one HTML file: the verdict, the balance, a flame graph that zooms and searches, the stacks by verdict, losses and
//! method. It loads nothing: style, script and data are in it, and its policy forbids the rest.
//!
//! Everything but the flame graph can be read without scripts, and printed.

mod chart;
mod curves;
mod rows;

use std::io::{self, Write};

use jiff::tz::TimeZone;
use serde::Serialize;

use self::rows::stacks;
use super::escape::markup;
use super::flame::{Flame, colour};
use super::heap::HeapView;
use super::text::{Style, Text};
use super::{Reporter, balance, estimates, header, json, leaks, losses, remarks};
use crate::profile::{Kind, Profile, Standing, View};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the figures mean.
const OF_TRACES: &str = "\
Blocks are what was allocated since tracing began and not freed; earlier allocations are unknown. A stack is lost if nothing in the \
process leads to its blocks, growing if more and more live on, warming up if that slows down, steady if blocks come and go, start-up \
if nothing was allocated for a while, and otherwise it is too early to tell.";
const OF_SCANS: &str = "\
Blocks are what the allocator has in use, whenever it was allocated; sizes are what the program may use of each. A block is lost if \
nothing in the process leads to it. Which code allocated them only tracing can tell.";

/// The format.
#[derive(Clone, Debug)]
pub struct Html {
    zone: TimeZone,
}

impl Html {
    /// A page with times of day in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self { zone }
    }

    fn head(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let (target, how) = (header::target(profile), header::how(profile));
        let time = profile.time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>memtrace: {target}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{target}</h1>\n\
             <p class=\"soft\">memtrace, {time}, {}; {}</p>\n</header>\n<main>\n",
            header::traced(profile),
            markup(&how),
            target = markup(&target),
            time = markup(&time),
        )
    }
}

impl Html {
    /// What was found in each heap, as text has it.
    fn heaps(&self, out: &mut dyn Write, heaps: &[HeapView<'_>]) -> io::Result<()> {
        let text = Text::new(Style::default(), self.zone.clone());
        writeln!(out, "<section aria-labelledby=\"verdict\">\n<h2 id=\"verdict\">Heaps</h2>")?;
        for view in heaps {
            let mut lines = Vec::new();
            text.heap(&mut lines, view)?;
            let text = String::from_utf8_lossy(&lines);
            let lines: Vec<_> = text.trim_end().lines().map(markup).collect();
            writeln!(out, "<pre>{}</pre>", lines.join("\n"))?;
        }
        writeln!(out, "</section>")
    }
}

impl Reporter for Html {
    fn has_curves(&self) -> bool {
        true
    }

    fn report(&mut self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        self.head(out, view)?;
        match HeapView::all(view) {
            Some(heaps) => self.heaps(out, &heaps)?,
            None => {
                verdict(out, view)?;
                curves::memory(out, view)?;
            }
        }
        graph(out)?;
        stacks(out, view)?;
        notes(out, view)?;
        writeln!(out, "</main>")?;
        let data = json::to_line(&Data::of(&Flame::of(view)));
        // In JSON these are only in strings, and are the same character as an escape.
        let data = data.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        writeln!(out, "<script type=\"application/json\" id=\"data\">{}</script>", data.trim_end())?;
        writeln!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>")
    }
}

/// Verdict and balance of each process, and the amounts.
fn verdict(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let profile = view.profile();
    writeln!(out, "<section aria-labelledby=\"verdict\">\n<h2 id=\"verdict\">Verdict</h2>")?;
    let balances = profile.processes().map_or(&[][..], |of| of.balances.as_slice());
    let is_calm = |standing: Standing| matches!(standing, Standing::NoLeak | Standing::TooEarly);
    let calm = if balances.iter().all(|of| is_calm(of.standing)) { " calm" } else { "" };
    for pair in balance::lines(view).chunks(2) {
        let [figures, sentence] = pair else { continue };
        writeln!(out, "<p class=\"verdict{calm}\">{}</p>", markup(sentence))?;
        writeln!(out, "<p class=\"figures\">{}</p>", markup(figures))?;
    }
    let of = profile.processes();
    let mode = of.map(|of| &of.mode);
    let uncertainty = of.and_then(|of| of.uncertainty);
    let (bytes, blocks) = estimates::amounts(profile.outstanding, uncertainty, noun(profile));
    let rate = estimates::rate(profile.bytes_per_second, mode);
    writeln!(
        out,
        "<p>Outstanding: <strong>{}</strong> in {}, {}</p>",
        markup(&bytes),
        markup(&blocks),
        markup(&rate)
    )?;
    let overhead = of.and_then(|of| of.overhead.as_ref()).map(estimates::cost);
    let check = of.and_then(|of| of.leak_check.as_deref());
    let before = check.and_then(|check| leaks::before(check, |_| None));
    for line in overhead.into_iter().chain(of.and_then(leaks::checked)).chain(before) {
        writeln!(out, "<p>{}</p>", markup(&line))?;
    }
    writeln!(out, "</section>")
}

/// The noun for blocks.
fn noun(profile: &Profile) -> &'static str {
    if profile.kernel().is_some() { "object" } else { "block" }
}

/// The place of the flame graph, which the script draws.
fn graph(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<section id=\"graph\" aria-labelledby=\"flames\" hidden=\"\">\n<h2 id=\"flames\">Flame graph</h2>\n\
         <p class=\"soft\">The wider a function, the more it and what it called hold. Click to zoom, Escape to go back; arrow keys \
         lead from frame to frame. Frames narrower than a pixel show when their caller is zoomed.</p>\n\
         <div class=\"tools\">\n<label>Search <input id=\"search\" type=\"search\" autocomplete=\"off\"/></label>\n\
         <label>Show <select id=\"part\"><option value=\"0\">all</option></select></label>\n\
         <label>Width <select id=\"unit\"><option value=\"bytes\">bytes</option><option value=\"blocks\">blocks</option></select></label>\n\
         <button id=\"reset\" type=\"button\">Reset zoom</button>\n</div>\n\
         <p id=\"about\" class=\"numbers\" role=\"status\"></p>\n<div id=\"flame\"></div>\n</section>"
    )
}

/// What was missed, and what else there is to know.
fn notes(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let profile = view.profile();
    writeln!(out, "<section aria-labelledby=\"notes\">\n<h2 id=\"notes\">Losses and notes</h2>")?;
    let missed = losses::of(profile).into_iter().map(|sentence| ("Missed: ", sentence));
    let gaps = profile.processes().and_then(|of| estimates::gaps(&of.mode)).map(|gaps| ("", gaps));
    let remarks = profile.remarks.iter().map(|remark| ("", remarks::sentence(view.dictionary(), remark)));
    let all: Vec<(&str, String)> = missed.chain(gaps).chain(remarks).collect();
    if all.is_empty() {
        writeln!(out, "<p>Nothing was missed.</p>")?;
    } else {
        writeln!(out, "<ul>")?;
        for (what, sentence) in all {
            writeln!(out, "<li>{what}{}</li>", markup(&sentence))?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(
        out,
        "<p class=\"soft\">{}</p>\n</section>",
        if profile.heaps().is_some() { OF_SCANS } else { OF_TRACES }
    )
}

/// The tree of the flame graph, a column for each property.
#[derive(Serialize)]
struct Data<'a> {
    /// Colours by the number of a verdict: 0 is none.
    colours: Vec<&'static str>,
    names: &'a [String],
    /// Numbers in `names`.
    labels: Vec<usize>,
    /// Places of callers, which come before what they call.
    parents: Vec<usize>,
    /// Numbers of verdicts.
    kinds: Vec<usize>,
    bytes: Vec<u64>,
    blocks: Vec<u64>,
}

impl<'a> Data<'a> {
    fn of(flame: &'a Flame) -> Self {
        let nodes = &flame.nodes;
        let number = |kind: Option<Kind>| {
            kind.and_then(|kind| Kind::ALL.iter().position(|known| *known == kind))
                .map_or(0, |place| place + 1)
        };
        Self {
            colours: std::iter::once(None).chain(Kind::ALL.map(Some)).map(colour).collect(),
            names: &flame.names,
            labels: nodes.iter().map(|node| node.name).collect(),
            parents: nodes.iter().map(|node| node.parent).collect(),
            kinds: nodes.iter().map(|node| number(node.kind)).collect(),
            bytes: nodes.iter().map(|node| node.amount.bytes).collect(),
            blocks: nodes.iter().map(|node| node.amount.blocks).collect(),
        }
    }
}
