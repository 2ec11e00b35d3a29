//! Curves over time in pages and JSON.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::kernel::kernel;
use super::verdicts::judged;
use super::{HOSTILE, Json, Recorded, amount, assert_harmless};
use crate::profile::{Balance, Curve, Curves, Filter, Parts, Resident, SortBy, Weight};
use crate::report::Html;

const MIB: f64 = (1 << 20) as f64;

/// Memory that grows by two parts and shrinks by one.
fn weights() -> Vec<Weight> {
    let weight = |second: u32| {
        let of = |part: f64| part * f64::from(second) * MIB;
        let (blocks, kept, shared) = (of(3.0), of(1.0), of(-1.0));
        let grown = Parts { total: of(3.0), blocks, kept, shared, ..Parts::default() };
        let bytes = (20 << 20) + u64::from(second) * (3 << 20);
        Weight { at: Duration::from_secs(second.into()), bytes, grown }
    };
    (0..=5).map(weight).collect()
}

/// A report with the memory of a process, and a curve of its first stack.
pub(super) fn curved() -> Recorded {
    let resident = Resident { anon: 35 << 20, ..Resident::default() };
    let balance = Balance { pid: 4123, resident, weights: weights(), ..Balance::default() };
    let at = [0, 1000, 2000, 3000, 5004].map(Duration::from_millis).to_vec();
    let bytes = vec![0, 10_000, 30_000, 60_000, 65_536];
    let curves = Curves { at, stacks: vec![Curve { id: 0x9f0c_0000_dead_beef, pid: 4123, bytes }] };
    Recorded { balances: vec![balance], curves, stacks_found: 2, ..judged() }
}

fn page(report: &Recorded) -> String {
    report.written(Html::new(TimeZone::UTC))
}

/// The page's body as XML.
fn body(page: &str) -> String {
    let (_, body) = page.split_once("<body>").unwrap();
    format!("<body>{}</main></body>", body.split_once("</main>").unwrap().0)
}

#[test]
fn a_page_shows_what_the_report_carries() {
    let text = body(&page(&curved()));
    let document = roxmltree::Document::parse(&text).unwrap();
    let charts: Vec<_> =
        document.descendants().filter(|node| node.attribute("role") == Some("img")).collect();
    // The process, what the first stack held, and its lifetimes.
    assert_eq!(charts.len(), 3, "{text}");
    for chart in &charts {
        let names = chart.attribute("aria-labelledby").unwrap().split(' ');
        for name in names {
            let named: Vec<_> =
                document.descendants().filter(|node| node.attribute("id") == Some(name)).collect();
            assert!(named.len() == 1 && named[0].text().is_some_and(|text| text.len() > 10), "{name}");
        }
    }
    let last: Vec<_> = document.descendants().filter_map(|node| node.attribute("data-last")).collect();
    assert_eq!(last, [(35_u64 << 20).to_string(), "65536".to_owned()]);
    for part in [
        "Memory of process 4123 (api-server)",
        "20 MiB after 0 ms, 35 MiB after 5.0 s, resident or swapped out. Growth: blocks +15 MiB, mapped +0 B",
        "allocator keeps +5 MiB, files and shared -5 MiB",
        "64 KiB outstanding after 5.0 s; the most was 64 KiB.",
        "<title>2.1 s to 4.2 s: 3</title>",
        "less than 33 ms: 1,000, 2.1 s to 4.2 s: 3.",
        "No curve: it was not among the first 100 stacks of the session.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Nothing grew by mappings: no band of them.
    assert!(text.contains("<path class=\"part1\"") && !text.contains("<path class=\"part2\""), "{text}");
}

#[test]
fn without_a_curve_a_page_says_why() {
    let why = |report: &Recorded| {
        let text = body(&page(report));
        roxmltree::Document::parse(&text).unwrap();
        assert!(!text.contains("data-last"), "{text}");
        text
    };
    let short = |curves: Curves| {
        let balances = vec![Balance { pid: 4123, weights: weights()[..2].to_vec(), ..Balance::default() }];
        Recorded { balances, curves, ..curved() }
    };
    let mut early = curved().curves;
    (early.at, early.stacks[0].bytes) = (vec![Duration::ZERO, Duration::from_secs(1)], vec![0, 65_536]);
    let text = why(&short(early));
    assert!(text.contains("No curves: the report was made too soon"), "{text}");
    assert!(text.contains("No curve: there are too few samples of the memory"), "{text}");
    assert!(why(&short(Curves::default())).contains("No curves: nothing was kept over time"));
    let filter = Filter { older: Some(Duration::from_secs(1)), ..Filter::default() };
    let part = Recorded { filter, ..short(curved().curves) };
    assert!(why(&part).contains("No curves: what these blocks held earlier is not kept"));
    assert!(why(&kernel()).contains("Stacks of the kernel have no curves"));
}

#[test]
fn growth_is_seen_however_large_the_process() {
    let mut large = curved();
    for weight in &mut large.balances[0].weights {
        weight.bytes += 8 << 30;
    }
    let text = body(&page(&large));
    assert!(
        text.contains(">8 GiB</text>") && !text.contains(">0 B</text><line x2=\"100%\" y1=\"14"),
        "{text}"
    );
    assert!(text.contains("The axis does not begin at 0."), "{text}");
    assert!(!body(&page(&curved())).contains("The axis does not begin at 0."));
}

#[test]
fn names_in_curves_are_escaped() {
    let mut evil = curved();
    evil.comm = format!("</title><script>{HOSTILE}");
    let text = page(&evil);
    assert_harmless(&text);
    roxmltree::Document::parse(&body(&text)).unwrap();
    assert_eq!(text.matches("<script").count(), 2);
}

#[test]
fn json_has_them_as_columns() {
    let json: serde_json::Value = serde_json::from_str(&curved().written(Json)).unwrap();
    let curve = &json["stacks"][0]["curve"];
    assert_eq!(curve["at_s"], serde_json::json!([0.0, 1.0, 2.0, 3.0, 5.004]));
    assert_eq!(curve["bytes"], serde_json::json!([0, 10_000, 30_000, 60_000, 65_536]));
    assert!(json["stacks"][1].get("curve").is_none());
    let memory = &json["process"]["curve"];
    assert_eq!(memory["bytes"][5], 35 << 20);
    assert_eq!((&memory["blocks"][5], &memory["shared"][5]), (&(15 << 20).into(), &(-5 << 20).into()));
    assert!(judged().written(Json).find("\"curve\"").is_none());
}

/// Ten thousand stacks, all those of the first hundred with as many points as are kept.
#[test]
fn a_page_of_ten_thousand_stacks_is_no_larger_than_3_mb() {
    let mut report = curved();
    let first = report.stacks[0].clone();
    report.stacks = (0..10_000_u64)
        .map(|number| {
            let mut row = first.clone();
            (row.id, row.bytes_per_second) = (number, 1e6 - number as f64);
            row.outstanding = amount(10_000 + number, 10);
            // A path of its own for each: six common callers, and four functions that others rarely share.
            for (depth, frame) in (0..).zip(&mut row.frames) {
                frame.function = Some(format!("server::session::handler_{}", number >> depth));
                frame.module_offset = 0x1000 + (number >> depth) * 16 + depth;
            }
            row
        })
        .collect();
    report.stacks_found = report.stacks.len();
    let at: Vec<Duration> = (0..65).map(Duration::from_secs).collect();
    let curve =
        |id: u64| Curve { id, pid: 4123, bytes: (0..65).map(|at| at * at * (id * 7919 + 13)).collect() };
    report.curves = Curves { at, stacks: (0..100).map(curve).collect() };
    report.balances[0].weights =
        (0..128).map(|at| Weight { at: Duration::from_secs(at), ..weights()[5] }).collect();
    let (dictionary, profile) = report.profile();
    assert_eq!(
        crate::profile::Selection { sort: SortBy::Rate, ..Default::default() }
            .shown(&dictionary, &profile)
            .len(),
        10_000
    );
    let page = page(&report);
    assert!(page.matches("data-last=").count() == 101);
    assert!(page.len() <= 3_000_000, "{}", page.len());
    let mut without = report;
    (without.curves, without.balances[0].weights) = (Curves::default(), Vec::new());
    let more = page.len() - self::page(&without).len();
    assert!(more <= 400_000, "{more}");
}
