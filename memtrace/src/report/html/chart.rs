//! Charts as SVG in a page: stacked areas, a curve, bars.
//!
//! Shapes are drawn in a square of [`SIDE`] that is stretched to the width of the page; texts are placed by percentages, so they
//! keep their size on a telephone. Colours are classes of the page's style.

use std::io::{self, Write};
use std::time::Duration;

use crate::profile::units::{format_age, format_bytes, format_number};
use crate::report::escape::markup;

/// Width and height of what is stretched.
const SIDE: f64 = 1000.0;
/// Room above the shapes for the highest label, and below for those of the horizontal axis, in pixels.
const ABOVE: f64 = 14.0;
const BELOW: f64 = 20.0;
/// About this many parts of an axis.
const PARTS: f64 = 4.0;
/// Labels nearer to an end than this part of the axis do not stand centred on their place.
const EDGE: f64 = 0.06;
/// Bars begin at this part of the width, to the right of the labels, and are never wider than this part.
const BESIDE: f64 = 0.14;
const BROAD: f64 = 0.1;

/// Lengths of the parts of a time axis, in seconds.
const TIMES: [u64; 24] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
    432_000, 864_000, 1_728_000, 4_320_000, 8_640_000,
];

/// What a chart is called.
pub(super) struct Chart<'a> {
    /// Part of the ids of its elements: unique in a page.
    pub(super) id: &'a str,
    /// Its name.
    pub(super) title: &'a str,
    /// What it shows, in words.
    pub(super) description: &'a str,
    /// Its height in pixels.
    pub(super) height: u32,
}

/// An axis: where it begins and ends, and the distance of its marks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    step: f64,
}

/// Values of one band of an area chart.
pub(super) struct Band {
    /// The class that colours it.
    pub(super) class: &'static str,
    /// At each moment.
    pub(super) values: Vec<u64>,
}

impl Axis {
    /// Of bytes: marks are round in the unit that they are written in.
    pub(super) fn bytes(low: u64, high: u64) -> Self {
        // A millionth of a figure is not seen, and of the largest ones, less is lost by rounding.
        let wanted = (high.saturating_sub(low) as f64 / PARTS).max(high as f64 / 1e6).max(1.0);
        let mut unit = 1.0;
        while unit * 512.0 < wanted {
            unit *= 1024.0;
        }
        Self::around(low as f64, high as f64, unit * round(wanted / unit))
    }

    /// Of numbers of things.
    pub(super) fn numbers(high: u64) -> Self {
        Self::around(0.0, high as f64, round((high as f64 / PARTS).max(1.0)))
    }

    fn around(low: f64, high: f64, step: f64) -> Self {
        let from = (low / step).floor() * step;
        Self { from, to: ((high / step).ceil() * step).max(from + step), step }
    }

    /// Of time, which ends where the curve does.
    pub(super) fn time(span: Duration) -> Self {
        let to = span.as_secs_f64().max(f64::EPSILON);
        let longest = TIMES.iter().map(|&step| step as f64).find(|step| *step * PARTS >= to);
        Self { from: 0.0, to, step: if to < 1.0 { to } else { longest.unwrap_or(to / PARTS) } }
    }

    /// Its marks.
    pub(super) fn marks(self) -> Vec<f64> {
        let count = ((self.to - self.from) / self.step + 1e-9).floor() as u32;
        (0..=count).map(|number| self.from + f64::from(number) * self.step).collect()
    }

    /// Where a value is: 0 to 1.
    fn place(self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// The least of 1, 2, 5, 10, 20 … that is no less.
fn round(wanted: f64) -> f64 {
    let power = 10_f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0].map(|of| of * power).into_iter().find(|step| *step >= wanted).unwrap_or(10.0 * power)
}

/// A moment on an axis whose marks are round: `0`, `30 s`, `5 min`, `2 h`, `3 d`.
fn time_label(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if (seconds - whole as f64).abs() > 1e-6 {
        return format_age(Duration::from_secs_f64(seconds.max(0.0)));
    }
    match whole {
        0 => "0".to_owned(),
        1..60 => format!("{whole} s"),
        60..3600 if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        3600..86_400 if whole.is_multiple_of(3600) => format!("{} h", whole / 3600),
        _ if whole >= 86_400 && whole.is_multiple_of(86_400) => format!("{} d", whole / 86_400),
        _ => format_age(Duration::from_secs(whole)),
    }
}

/// Bands on top of each other, the first one lowest, and a line of what they should add up to.
pub(super) fn areas(
    out: &mut dyn Write,
    chart: &Chart<'_>,
    at: &[Duration],
    bands: &[Band],
    (total, low): (&[u64], u64),
) -> io::Result<()> {
    let mut below = vec![0_u64; at.len()];
    let mut edges = Vec::new();
    for band in bands {
        let above: Vec<u64> =
            below.iter().zip(&band.values).map(|(below, value)| below.saturating_add(*value)).collect();
        edges.push((band.class, std::mem::replace(&mut below, above.clone()), above));
    }
    let high = below.iter().chain(total).copied().max().unwrap_or_default();
    let (down, along) = (Axis::bytes(low, high), time_axis(at));
    begin(out, chart, total)?;
    for (class, below, above) in &edges {
        if below != above {
            let (up, back) = (points(along, down, at, above), points(along, down, at, below));
            let back: Vec<&str> = back.iter().rev().map(String::as_str).collect();
            write!(out, "<path class=\"{class}\" d=\"M{}L{}Z\"/>", up.join("L"), back.join("L"))?;
        }
    }
    write!(out, "<path class=\"total\" d=\"M{}\"/>", points(along, down, at, total).join("L"))?;
    end(out, chart, along, down)
}

/// One curve, and the area below it.
pub(super) fn curve(
    out: &mut dyn Write,
    chart: &Chart<'_>,
    at: &[Duration],
    values: &[u64],
) -> io::Result<()> {
    let (down, along) = (Axis::bytes(0, values.iter().copied().max().unwrap_or_default()), time_axis(at));
    begin(out, chart, values)?;
    let line = points(along, down, at, values).join("L");
    let foot = SIDE as u32;
    write!(
        out,
        "<path class=\"under\" d=\"M0 {foot}L{line}L{foot} {foot}Z\"/><path class=\"total\" d=\"M{line}\"/>"
    )?;
    end(out, chart, along, down)
}

/// Bars side by side: where each begins and ends in words, how large it is, and its label on the axis, if it has one.
pub(super) fn bars(
    out: &mut dyn Write,
    chart: &Chart<'_>,
    bars: &[(String, u64, Option<String>)],
) -> io::Result<()> {
    let down = Axis::numbers(bars.iter().map(|bar| bar.1).max().unwrap_or_default());
    open(out, chart)?;
    rules(out, chart, down, |value| format_number(value as u64))?;
    let width = ((1.0 - BESIDE) / bars.len().max(1) as f64).min(BROAD) * 100.0;
    let floor = f64::from(chart.height) - BELOW;
    for (place, (what, value, label)) in bars.iter().enumerate() {
        let x = BESIDE * 100.0 + place as f64 * width;
        // What is there is seen.
        let height = (down.place(*value as f64) * (floor - ABOVE)).max(if *value > 0 { 1.5 } else { 0.0 });
        if height > 0.0 {
            write!(
                out,
                "<rect class=\"bar\" x=\"{:.2}%\" width=\"{:.2}%\" y=\"{:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
                x + width * 0.06,
                width * 0.88,
                floor - height,
                markup(what)
            )?;
        }
        if let Some(label) = label {
            label_below(out, chart, (x / 100.0, "start"), label)?;
        }
    }
    write!(out, "</svg>")
}

fn time_axis(at: &[Duration]) -> Axis {
    Axis::time(at.last().copied().unwrap_or_default())
}

/// Points of a path: whole numbers, which suffice for a screen.
fn points(along: Axis, down: Axis, at: &[Duration], values: &[u64]) -> Vec<String> {
    let point = |(at, value): (&Duration, &u64)| {
        let (x, y) = (along.place(at.as_secs_f64()), 1.0 - down.place(*value as f64));
        format!("{:.0} {:.0}", x * SIDE, y * SIDE)
    };
    at.iter().zip(values).map(point).collect()
}

/// The beginning of a chart, with its name.
fn open(out: &mut dyn Write, chart: &Chart<'_>) -> io::Result<()> {
    let Chart { id, title, description, height } = chart;
    write!(
        out,
        "<svg class=\"chart\" height=\"{height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>\
         <desc id=\"{id}-d\">{}</desc>",
        markup(title),
        markup(description)
    )
}

/// The beginning of one with stretched shapes, which has its last value as a number too.
fn begin(out: &mut dyn Write, chart: &Chart<'_>, values: &[u64]) -> io::Result<()> {
    open(out, chart)?;
    let inner = f64::from(chart.height) - ABOVE - BELOW;
    let last = values.last().copied().unwrap_or_default();
    write!(
        out,
        "<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" y=\"{ABOVE}\" height=\"{inner}\" data-last=\"{last}\">"
    )
}

/// The axes of a chart over time, and its end.
fn end(out: &mut dyn Write, chart: &Chart<'_>, along: Axis, down: Axis) -> io::Result<()> {
    write!(out, "</svg>")?;
    rules(out, chart, down, |value| format_bytes(value as u64))?;
    for mark in along.marks() {
        let x = along.place(mark);
        let anchor = match x {
            _ if x < EDGE => "start",
            _ if x > 1.0 - EDGE => "end",
            _ => "middle",
        };
        label_below(out, chart, (x, anchor), &time_label(mark))?;
    }
    write!(out, "</svg>")
}

/// Horizontal lines, each with its value above its left end.
fn rules(
    out: &mut dyn Write,
    chart: &Chart<'_>,
    down: Axis,
    label: impl Fn(f64) -> String,
) -> io::Result<()> {
    let inner = f64::from(chart.height) - ABOVE - BELOW;
    for mark in down.marks() {
        let y = ABOVE + (1.0 - down.place(mark)) * inner;
        write!(out, "<line x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
        write!(out, "<text x=\"2\" y=\"{:.1}\">{}</text>", y - 3.0, label(mark))?;
    }
    Ok(())
}

fn label_below(
    out: &mut dyn Write,
    chart: &Chart<'_>,
    (x, anchor): (f64, &str),
    label: &str,
) -> io::Result<()> {
    let (x, y) = (x * 100.0, f64::from(chart.height) - 5.0);
    write!(out, "<text x=\"{x:.2}%\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", markup(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart<'static> {
        Chart { id: "c", title: "a <title>", description: "b & c", height: 134 }
    }

    fn drawn(draw: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        draw(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The points of the path with a class.
    fn path(text: &str, class: &str) -> Vec<(i32, i32)> {
        let document = roxmltree::Document::parse(text).unwrap();
        let path = document.descendants().find(|node| node.attribute("class") == Some(class)).unwrap();
        let points = path.attribute("d").unwrap().trim_matches(['M', 'Z']).split('L').map(|point| {
            let (x, y) = point.split_once(' ').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        });
        points.collect()
    }

    #[test]
    fn axes_have_round_marks() {
        let labels =
            |axis: Axis| axis.marks().iter().map(|&mark| format_bytes(mark as u64)).collect::<Vec<_>>();
        assert_eq!(labels(Axis::bytes(0, 0)), ["0 B", "1 B"]);
        assert_eq!(labels(Axis::bytes(0, 7000)), ["0 B", "2 KiB", "4 KiB", "6 KiB", "8 KiB"]);
        assert_eq!(labels(Axis::bytes(0, 3 << 30)), ["0 B", "1 GiB", "2 GiB", "3 GiB"]);
        assert_eq!(
            labels(Axis::bytes(200 << 20, 216 << 20)),
            ["200 MiB", "205 MiB", "210 MiB", "215 MiB", "220 MiB"]
        );
        assert_eq!(labels(Axis::bytes(u64::MAX, u64::MAX)).len(), 2);
        let times = |seconds: f64| {
            let axis = Axis::time(Duration::from_secs_f64(seconds));
            axis.marks().iter().map(|&mark| time_label(mark)).collect::<Vec<_>>()
        };
        assert_eq!(times(0.5), ["0", "500 ms"]);
        assert_eq!(times(9.0), ["0", "5 s"]);
        assert_eq!(times(60.0), ["0", "15 s", "30 s", "45 s", "1 min"]);
        assert_eq!(times(5000.0), ["0", "30 min", "1 h"]);
        assert_eq!(times(7.0 * 86_400.0), ["0", "2 d", "4 d", "6 d"]);
        for seconds in [0.0, 1e-9, 1.0, 59.0, 3601.0, 3e8, 1e12] {
            let marks = Axis::time(Duration::from_secs_f64(seconds)).marks().len();
            assert!((1..=6).contains(&marks), "{seconds}: {marks}");
        }
        assert_eq!(Axis::numbers(7).marks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn a_curve_goes_through_its_points() {
        let at = [0, 5, 10].map(Duration::from_secs);
        let text = drawn(|out| curve(out, &chart(), &at, &[0, 2048, 8192]).unwrap());
        assert_eq!(path(&text, "total"), [(0, 1000), (500, 750), (1000, 0)]);
        assert_eq!(path(&text, "under").first(), Some(&(0, 1000)));
        assert!(text.contains("data-last=\"8192\""), "{text}");
        assert!(text.contains("role=\"img\" aria-labelledby=\"c-t c-d\""), "{text}");
        assert!(
            text.contains("<title id=\"c-t\">a &lt;title&gt;</title><desc id=\"c-d\">b &amp; c</desc>"),
            "{text}"
        );
        assert!(text.contains(">2 KiB</text>") && text.contains(">5 s</text>"), "{text}");
    }

    #[test]
    fn areas_stand_on_each_other() {
        let at = [0, 10].map(Duration::from_secs);
        let bands = [("a", [4096, 4096]), ("b", [0, 2048]), ("none", [0, 0]), ("c", [0, 2048])];
        let bands = bands.map(|(class, values)| Band { class, values: values.to_vec() });
        let text = drawn(|out| areas(out, &chart(), &at, &bands, (&[4096, 8192], 0)).unwrap());
        assert_eq!(path(&text, "a"), [(0, 500), (1000, 500), (1000, 1000), (0, 1000)]);
        assert_eq!(path(&text, "b"), [(0, 500), (1000, 250), (1000, 500), (0, 500)]);
        assert_eq!(path(&text, "c"), [(0, 500), (1000, 0), (1000, 250), (0, 500)]);
        assert_eq!(path(&text, "total"), [(0, 500), (1000, 0)]);
        assert!(!text.contains("none\" d="), "{text}");
        // Cut off below.
        let text = drawn(|out| areas(out, &chart(), &at, &bands, (&[4096, 8192], 4096)).unwrap());
        assert_eq!(path(&text, "total"), [(0, 1000), (1000, 0)]);
        assert!(text.contains(">4 KiB</text>") && !text.contains(">0 B</text>"), "{text}");
    }

    #[test]
    fn bars_are_as_high_as_they_are_many() {
        let of = |what: &str, value, label: Option<&str>| (what.to_owned(), value, label.map(str::to_owned));
        let all = [of("x", 100, Some("34 ms")), of("y", 0, None), of("z", 50, None), of("few", 1, None)];
        let text = drawn(|out| bars(out, &chart(), &all).unwrap());
        let document = roxmltree::Document::parse(&text).unwrap();
        let rects = document.descendants().filter(|node| node.has_tag_name("rect"));
        let heights: Vec<_> =
            rects.map(|rect| (rect.descendants().nth(2).unwrap().text(), rect.attribute("height"))).collect();
        assert_eq!(
            heights,
            [(Some("x"), Some("100.0")), (Some("z"), Some("50.0")), (Some("few"), Some("1.5"))]
        );
        assert!(text.contains(">34 ms</text>"), "{text}");
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        let text = drawn(|out| {
            curve(out, &chart(), &[], &[]).unwrap();
            areas(out, &chart(), &[], &[], (&[], 0)).unwrap();
            bars(out, &chart(), &[]).unwrap();
        });
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
