//! A flame graph as an SVG file: the wider a function, the more it and all that it called hold; colours are verdicts.
//!
//! The layout is that of Brendan Gregg's flame graphs (<https://queue.acm.org/detail.cfm?id=2927301>): callers below, the
//! root at the bottom. A script in the file zooms and searches; without scripts the picture stands for itself.

use std::io;

use super::escape::markup;
use super::flame::{Flame, Node, colour};
use super::stacks::Unit;
use super::{Reporter, balance, header, verdicts};
use crate::profile::units::{format_bytes, format_count};
use crate::profile::{Amount, Kind, View};

/// Width of the picture.
const WIDTH: f64 = 1200.0;
/// Height of a function.
const ROW: f64 = 18.0;
/// Room above the functions.
const ABOVE: f64 = 96.0;
/// Width of a character of the text on a function.
const CHARACTER: f64 = 7.3;
/// Functions narrower than that are left out; their callers have them in their numbers.
const NARROW: f64 = 0.1;
/// Functions narrower than that have no border, which would hide them.
const THIN: f64 = 2.0;

const SCRIPT: &str = include_str!("svg.js");

const STYLE: &str = "\
text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #111; }
.title { font: bold 16px system-ui, sans-serif; }
.note { font: 12px system-ui, sans-serif; }
.button { font: 12px system-ui, sans-serif; fill: #0645ad; text-decoration: underline; cursor: pointer; }
#frames > g { cursor: pointer; }
#frames rect { stroke: #fff; stroke-width: .6; }
#frames .t rect { stroke: none; }
#frames > g:hover rect { stroke: #000; stroke-width: 1; }
#frames > g:focus rect { stroke: #000; stroke-width: 2; }
#frames > g:focus { outline: none; }
.hit rect { fill: #e98bff; }";

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Svg {
    unit: Unit,
}

impl Svg {
    /// A flame graph of bytes or blocks.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self { unit }
    }
}

impl Reporter for Svg {
    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        let flame = Flame::of(view);
        let boxes = layout(&flame, self.unit);
        let depth = boxes.iter().map(|at| at.node.depth).max().unwrap_or(0);
        let height = ABOVE + (depth + 1) as f64 * ROW + 10.0;
        writeln!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"group\" aria-label=\"Flame graph of outstanding memory\">"
        )?;
        writeln!(out, "<style>\n{STYLE}\n</style>")?;
        writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#fbfbf8\"/>")?;
        head(out, view, self.unit)?;
        writeln!(out, "<g id=\"frames\">")?;
        let total = flame.nodes.first().map_or_else(Amount::default, |root| root.amount);
        for at in &boxes {
            let name = flame.names.get(at.node.name).map_or("", String::as_str);
            let y = height - 10.0 - (at.node.depth + 1) as f64 * ROW;
            at.write(out, name, y, self.unit.of(total), self.unit)?;
        }
        writeln!(out, "</g>\n<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>")
    }
}

/// The title, the verdict, the buttons and the legend.
fn head(out: &mut dyn io::Write, view: &View<'_>, unit: Unit) -> io::Result<()> {
    let profile = view.profile();
    let target = header::target(profile);
    let what = match unit {
        Unit::Bytes => "outstanding bytes",
        Unit::Blocks => "outstanding blocks",
    };
    let title = format!("memtrace: {what} of {target}, {}", header::traced(profile));
    writeln!(out, "<text class=\"title\" x=\"10\" y=\"24\">{}</text>", markup(&title))?;
    // The verdict of the first process; its figures are in the other formats.
    let verdict = balance::lines(view).into_iter().nth(1).unwrap_or_default();
    writeln!(out, "<text class=\"note\" x=\"10\" y=\"44\">{}<title>{0}</title></text>", markup(&verdict))?;
    let button = |id: &str, x: u32, hidden: &str, text: &str| {
        format!(
            "<text id=\"{id}\" class=\"button\" x=\"{x}\" y=\"88\" tabindex=\"0\" role=\"button\"{hidden}>{text}</text>"
        )
    };
    // On the left, where they are seen in a narrow window too.
    writeln!(out, "{}", button("search", 10, "", "search"))?;
    writeln!(out, "{}", button("reset", 66, " style=\"display:none\"", "reset zoom"))?;
    writeln!(out, "<text id=\"matched\" class=\"note\" role=\"status\" x=\"146\" y=\"88\"></text>")?;
    let found: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| view.rows().any(|row| row.verdict.as_deref().is_some_and(|of| of.kind() == *kind)))
        .collect();
    for (place, kind) in found.into_iter().enumerate() {
        let x = 10 + place * 110;
        let (fill, name) = (colour(Some(kind)), verdicts::name(kind));
        writeln!(
            out,
            "<rect x=\"{x}\" y=\"60\" width=\"12\" height=\"12\" fill=\"{fill}\" stroke=\"#555\"/>"
        )?;
        writeln!(out, "<text class=\"note\" x=\"{}\" y=\"70\">{name}</text>", x + 18)?;
    }
    Ok(())
}

/// Where a function is drawn.
struct Placed<'a> {
    node: &'a Node,
    x: f64,
    width: f64,
}

impl Placed<'_> {
    fn write(&self, out: &mut dyn io::Write, name: &str, y: f64, total: u64, unit: Unit) -> io::Result<()> {
        let Self { node, x, width } = self;
        let value = unit.of(node.amount);
        let share = if total == 0 { 0.0 } else { value as f64 / total as f64 * 100.0 };
        let amount = format!(
            "{} in {}, {share:.1} %",
            format_bytes(node.amount.bytes),
            format_count(node.amount.blocks, "block")
        );
        let (safe, fill) = (markup(name), colour(node.kind));
        let class = if *width < THIN { " class=\"t\"" } else { "" };
        write!(
            out,
            "<g{class} data-n=\"{safe}\" data-v=\"{value}\"><title>{safe}: {amount}</title><rect x=\"{x:.3}\" y=\"{y}\" \
             width=\"{width:.3}\" height=\"{ROW}\" fill=\"{fill}\"/>"
        )?;
        let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
        let label = if room < 3 { String::new() } else { cut(name, room) };
        writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>", x + 3.0, y + 13.0, markup(&label))
    }
}

/// The beginning of a name.
fn cut(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Places the functions that are wide enough: each begins where its elder sibling ends.
fn layout(flame: &Flame, unit: Unit) -> Vec<Placed<'_>> {
    let total = flame.nodes.first().map_or(0, |root| unit.of(root.amount));
    let scale = if total == 0 { 0.0 } else { WIDTH / total as f64 };
    // Where the next child of a node begins, in units of the total.
    let mut next: Vec<u64> = Vec::with_capacity(flame.nodes.len());
    let mut boxes = Vec::new();
    for (place, node) in flame.nodes.iter().enumerate() {
        let value = unit.of(node.amount);
        let begin = if place == 0 { 0 } else { next.get(node.parent).copied().unwrap_or(0) };
        next.push(begin);
        if place != 0
            && let Some(next) = next.get_mut(node.parent)
        {
            *next += value;
        }
        let width = value as f64 * scale;
        if width >= NARROW || place == 0 {
            boxes.push(Placed { node, x: begin as f64 * scale, width });
        }
    }
    boxes
}
