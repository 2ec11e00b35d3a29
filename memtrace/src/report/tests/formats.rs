//! Formats of whole reports: their totals are those of JSON, and nothing from a target is taken for syntax.

use std::collections::HashMap;
use std::io::Read as _;

use jiff::tz::TimeZone;

use super::kernel::kernel;
use super::verdicts::judged;
use super::{Closing, HOSTILE, Recorded, assert_harmless, checked, empty, hostile, losses, report, sampled};
use crate::report::{Firefox, Folded, Html, OpenMetrics, Pprof, Reporter, Svg, Unit};

/// Reports of every kind; all their rows are shown.
pub(super) fn reports() -> Vec<Recorded> {
    let several = Recorded { pids: vec![4123, 4124], ..judged() };
    let mut bare = report();
    bare.stacks[1].frames.clear();
    let reports = [report(), sampled(), empty(), checked(), judged(), hostile(), kernel(), several, bare];
    reports.into_iter().map(|report| Recorded { stacks_found: report.stacks.len(), ..report }).collect()
}

fn bytes(report: &Recorded) -> u64 {
    report.stacks.iter().map(|row| row.outstanding.bytes).sum()
}

fn blocks(report: &Recorded) -> u64 {
    report.stacks.iter().map(|row| row.outstanding.blocks).sum()
}

#[test]
fn folded() {
    insta::assert_snapshot!(judged().written(Folded::new(Unit::Bytes)), @r"
    main;leak_small;handle<'_> 65536
    [callers missing: no frame pointer];[libplugin.so+0x4f0] 640
    ");
    for report in reports() {
        for (unit, total) in [(Unit::Bytes, bytes(&report)), (Unit::Blocks, blocks(&report))] {
            let text = report.written(Folded::new(unit));
            assert_harmless(&text);
            let numbers = text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
            assert_eq!(numbers.sum::<u64>(), total);
        }
    }
    assert_eq!(empty().written(Folded::default()), "[nothing] 0\n");
    let mut report = report();
    report.stacks[0].frames[1].function = Some("from<[u8; 4]>".into());
    assert!(report.written(Folded::default()).starts_with("main;from<[u8: 4]>;handle<'_> 65536\n"));
}

/// What protobuf's wire format says of one message: values of its fields.
#[derive(Default)]
struct Decoded {
    numbers: HashMap<u64, u64>,
    parts: HashMap<u64, Vec<Vec<u8>>>,
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first().expect("a varint");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn decode(mut bytes: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        match key & 7 {
            0 => assert_eq!(decoded.numbers.insert(key >> 3, value), None, "a field that is not repeated"),
            2 => {
                let (part, rest) = bytes.split_at(usize::try_from(value).unwrap());
                decoded.parts.entry(key >> 3).or_default().push(part.to_vec());
                bytes = rest;
            }
            kind => panic!("wire type {kind}"),
        }
    }
    decoded
}

impl Decoded {
    fn packed(&self, field: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for part in self.parts.get(&field).into_iter().flatten() {
            let mut rest = part.as_slice();
            while !rest.is_empty() {
                numbers.push(varint(&mut rest));
            }
        }
        numbers
    }

    fn messages(&self, field: u64) -> Vec<Decoded> {
        self.parts.get(&field).into_iter().flatten().map(|part| decode(part)).collect()
    }
}

#[test]
fn pprof() {
    for report in reports() {
        let mut packed = Vec::new();
        report.write(&mut Pprof, &mut packed).unwrap();
        let mut message = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut message).unwrap();
        let profile = decode(&message);
        let texts: Vec<String> =
            profile.parts[&6].iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect();
        assert_eq!(texts[0], "");
        texts.iter().for_each(|text| assert_harmless(text));
        let text = |number: Option<&u64>| texts[usize::try_from(*number.unwrap_or(&0)).unwrap()].as_str();
        let types: Vec<String> =
            profile.messages(1).iter().map(|of| text(of.numbers.get(&1)).to_owned()).collect();
        assert_eq!(text(profile.numbers.get(&14)), "inuse_space");
        let samples = profile.messages(2);
        let sum = |name: &str| {
            let place = types.iter().position(|of| of == name).unwrap();
            samples.iter().map(|sample| sample.packed(2)[place]).sum::<u64>()
        };
        let lost = report.stacks.iter().filter_map(|row| row.leaked).map(|leaked| leaked.lost.bytes).sum();
        let allocated = report.stacks.iter().map(|row| row.allocated.bytes).sum();
        for (name, total) in [
            ("inuse_space", bytes(&report)),
            ("inuse_objects", blocks(&report)),
            ("alloc_space", allocated),
            ("lost_space", lost),
        ] {
            assert_eq!(sum(name), total, "{name}");
        }
        // Every id that is used exists, once, and is not 0.
        let ids = |field: u64| {
            let mut ids: Vec<u64> = profile.messages(field).iter().map(|of| of.numbers[&1]).collect();
            ids.sort_unstable();
            assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
            ids.len() as u64
        };
        let (mappings, locations, functions) = (ids(3), ids(4), ids(5));
        for location in profile.messages(4) {
            assert!(location.numbers.get(&2).is_none_or(|mapping| (1..=mappings).contains(mapping)));
            for line in location.messages(4) {
                assert!((1..=functions).contains(&line.numbers[&1]));
            }
        }
        for sample in &samples {
            assert!(!sample.packed(1).is_empty());
            assert!(sample.packed(1).iter().all(|id| (1..=locations).contains(id)));
        }
    }
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// Metrics by the grammar of the specification: a line is a comment with a family, or a sample of the last family.
fn metrics(text: &str) -> Vec<(String, Labels, f64)> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut family = String::new();
    let mut samples = Vec::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let name = comment.split(' ').nth(1).unwrap().to_owned();
            if comment.starts_with("TYPE ") {
                assert_ne!(name, family);
                family = name;
            } else {
                assert_eq!(name, family, "{line}");
            }
            continue;
        }
        let (name, mut rest) = line.split_at(line.find(['{', ' ']).unwrap());
        assert_eq!(name, family, "{line}");
        let mut labels = Vec::new();
        while let Some(label) = rest.strip_prefix(['{', ',']) {
            let (name, value) = label.split_once("=\"").unwrap();
            let mut text = String::new();
            let mut letters = value.char_indices();
            let end = loop {
                match letters.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => text.push(letters.next().unwrap().1),
                    (_, letter) => text.push(letter),
                }
            };
            labels.push((name.to_owned(), text));
            rest = &value[end + 1..];
        }
        let value = rest.strip_prefix('}').unwrap_or(rest).strip_prefix(' ').unwrap();
        samples.push((name.to_owned(), labels, value.parse().unwrap()));
    }
    samples
}

#[test]
fn openmetrics() {
    for report in reports() {
        let text = report.written(OpenMetrics);
        assert_harmless(&text);
        let samples = metrics(&text);
        let sum = |name: &str| -> f64 {
            samples.iter().filter(|(of, ..)| of == name).map(|(_, _, value)| value).sum()
        };
        assert_eq!(sum("memtrace_stack_outstanding_bytes"), bytes(&report) as f64);
        assert_eq!(sum("memtrace_stack_outstanding_blocks"), blocks(&report) as f64);
        assert_eq!(sum("memtrace_outstanding_bytes"), report.outstanding.bytes as f64);
    }
    let losses = Recorded { losses: losses(), ..report() }.written(OpenMetrics);
    assert!(losses.contains("memtrace_missed{kind=\"missed_frees\"} 7\n"), "{losses}");
    let mut quoted = report();
    quoted.stacks[0].frames[0].function = Some("a\"b\\c\nd".into());
    let samples = metrics(&quoted.written(OpenMetrics));
    let value = ("function".to_owned(), "a\"b\\c\\x0ad".to_owned());
    assert!(samples.iter().any(|(_, labels, _)| labels.contains(&value)), "{samples:?}");
}

#[test]
fn of_many_stacks_the_first_have_series_of_their_own() {
    let mut report = report();
    let row = report.stacks[0].clone();
    report.stacks = (0..250).map(|id| super::StackRow { id, ..row.clone() }).collect();
    report.stacks_found = 250;
    let samples = metrics(&report.written(OpenMetrics));
    let of: Vec<_> = samples.iter().filter(|(name, ..)| name == "memtrace_stack_outstanding_bytes").collect();
    assert_eq!(of.len(), 101);
    assert_eq!(of.iter().map(|(.., value)| value).sum::<f64>(), bytes(&report) as f64);
    assert_eq!(of[100].1, [("stack".to_owned(), "other".to_owned())]);
}

#[test]
fn svg() {
    for report in reports() {
        for (unit, total) in [(Unit::Bytes, bytes(&report)), (Unit::Blocks, blocks(&report))] {
            let text = report.written(Svg::new(unit));
            assert_harmless(&text);
            let document = roxmltree::Document::parse(&text).unwrap();
            let frames = document.descendants().find(|node| node.attribute("id") == Some("frames")).unwrap();
            let boxes: Vec<_> = frames.children().filter(|node| node.has_tag_name("g")).collect();
            let tags =
                ["svg", "style", "rect", "text", "title", "g", "script"].map(|name| (super::SVG, name));
            for element in document.descendants().filter(roxmltree::Node::is_element) {
                let name = element.tag_name();
                assert!(tags.contains(&(name.namespace().unwrap(), name.name())), "{name:?}");
            }
            assert_eq!(boxes[0].attribute("data-v").unwrap(), total.to_string());
            assert_eq!(boxes[0].attribute("data-n"), Some("all"));
        }
    }
    let mut evil = report();
    evil.stacks[0].frames[0].function = Some("</script><script>alert(1)</script>\"'&".into());
    let text = evil.written(Svg::default());
    roxmltree::Document::parse(&text).unwrap();
    assert_eq!(text.matches("<script>").count(), 1);
    let judged = judged().written(Svg::default());
    for part in ["data-n=\"growing\"", "data-n=\"too early\"", "fill=\"#ffab66\""] {
        assert!(judged.contains(part), "{part}");
    }
    assert!(!hostile().written(Svg::default()).contains(HOSTILE));
}

/// A page without its style and scripts, and the data of its flame graph.
fn page(text: &str) -> (String, serde_json::Value) {
    let (head, rest) = text.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    let (body, rest) = rest.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (data, rest) = rest.split_once("</script>").unwrap();
    let (script, end) = rest.split_once("</script>").unwrap();
    assert!(script.trim_start().starts_with("<script>\n\"use strict\";"), "{script}");
    assert!(!data.contains(['<', '>', '&']));
    let head = head.strip_prefix("<!DOCTYPE html>").unwrap();
    (format!("{head}{body}{end}"), serde_json::from_str(data).unwrap())
}

#[test]
fn html() {
    for report in reports() {
        let text = report.written(Html::new(TimeZone::UTC));
        assert_harmless(&text);
        let (page, data) = page(&text);
        let document = roxmltree::Document::parse(&page).unwrap_or_else(|error| panic!("{error}: {page}"));
        let titles = document.descendants().filter(|node| node.has_tag_name("h1")).count();
        assert_eq!(titles, 1);
        for node in document.descendants().filter(roxmltree::Node::is_element) {
            let loads = ["src", "href", "action"].iter().any(|name| node.has_attribute(*name));
            assert!(!loads && !node.attributes().any(|of| of.name().starts_with("on")), "{node:?}");
            assert!(!node.has_tag_name("th") || node.has_attribute("scope"), "{node:?}");
        }
        assert_eq!(data["bytes"][0].as_u64(), Some(bytes(&report)));
        assert_eq!(data["blocks"][0].as_u64(), Some(blocks(&report)));
        let nodes = data["parents"].as_array().unwrap();
        for (place, parent) in nodes.iter().enumerate().skip(1) {
            assert!(parent.as_u64().unwrap() < place as u64);
        }
    }
    let mut evil = judged();
    evil.comm = "<b>&\"'".into();
    evil.stacks[0].frames[1].function = Some("</script><script>alert(1)</script><!--".into());
    evil.stacks[0].frames[1].file = Some("\"><img src=x onerror=alert(1)>".into());
    let text = evil.written(Html::new(TimeZone::UTC));
    let (page, data) = page(&text);
    roxmltree::Document::parse(&page).unwrap();
    assert_eq!((text.matches("<script").count(), text.matches("<img").count()), (2, 0));
    assert!(data["names"].to_string().contains("</script><script>alert(1)</script><!--"));
    assert!(page.contains("&lt;b&gt;&amp;&quot;&#39;"));
}

#[test]
fn a_page_says_what_a_report_says() {
    let (page, _) = page_of(&checked());
    for part in [
        "LOST 31 KiB, leading to 30 KiB of lost blocks here or in other stacks",
        "held by g_registry",
        "Leak check: LOST",
        "api.c:42",
        "freed 3 of 67 allocated",
        "Outer callers are missing: no frame pointer",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (page, _) = page_of(&judged());
    assert!(page.contains(">growing</span>") && page.contains("812 blocks live on"), "{page}");
    let (page, _) = page_of(&Recorded { losses: losses(), ..report() });
    assert!(page.contains("<li>Missed: ") && !page.contains("Nothing was missed"), "{page}");
}

fn page_of(report: &Recorded) -> (String, serde_json::Value) {
    page(&report.written(Html::new(TimeZone::UTC)))
}

#[test]
fn a_closed_pipe_is_an_error() {
    let reporters: [Box<dyn Reporter>; 6] = [
        Box::new(Folded::default()),
        Box::new(Pprof),
        Box::new(Firefox),
        Box::new(OpenMetrics),
        Box::new(Svg::default()),
        Box::new(Html::new(TimeZone::UTC)),
    ];
    for mut reporter in reporters {
        let mut whole = Vec::new();
        judged().write(&mut *reporter, &mut whole).unwrap();
        assert!(judged().write(&mut *reporter, &mut Closing(whole.len())).is_ok());
        for room in (0..whole.len()).step_by(29) {
            let error = judged().write(&mut *reporter, &mut Closing(room)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        }
    }
}
