//! Verdicts in text and JSON, and the order of rows.

use std::time::Duration;

use super::{Json, Recorded, Reporter, Style, Text, amount, checked, report};
use crate::profile::{Grounds, SortBy, Trend, Verdict};
use crate::report::verdicts::{growth, line, name, reason};
use jiff::tz::TimeZone;

const TREND: Trend = Trend { bytes_per_second: 12_345.6, low: 9000.0, high: 15_000.0 };

fn verdict(grounds: Grounds) -> Verdict {
    let mut lifetimes = [0; 16];
    (lifetimes[0], lifetimes[7]) = (1000, 3);
    Verdict { grounds, trend: Some(TREND), lifetimes: Some(lifetimes) }
}

/// Grounds of each kind, in the order of their rows.
fn all() -> [Grounds; 16] {
    let age = Duration::from_millis(1074);
    let until = Duration::from_secs(30);
    [
        Grounds::Unreachable { lost: amount(4096, 31), checked: 40 },
        Grounds::Outlive { survivors: 812, age, before: 300_000, after: 2 },
        Grounds::NeverFreed { survivors: 1 },
        Grounds::Enlarged { times: 9 },
        Grounds::FallingBehind { freed: 1200 },
        Grounds::Slowing { first: 20_480.0, last: 123.0 },
        Grounds::OldestFreed { freed: 1200 },
        Grounds::Brief { until },
        Grounds::Few { blocks: 3, until: Some(until) },
        Grounds::Few { blocks: 1, until: None },
        Grounds::Replacing { unknown_per_second: 99.7 },
        Grounds::Unexplained { bytes_per_second: 7890.0 },
        Grounds::Unwatched { share: 0.021, until: Some(until) },
        Grounds::Turnover { freed: 1200 },
        Grounds::SeenTurnover { freed: 1200 },
        Grounds::Ceased { ago: until },
    ]
}

/// The ordinary report with verdicts.
pub(super) fn judged() -> Recorded {
    let mut judged = report();
    judged.stacks[0].verdict = Some(verdict(all()[1]));
    judged.stacks[1].verdict = Some(Verdict { lifetimes: None, trend: None, ..verdict(all()[7]) });
    judged
}

#[test]
fn each_has_a_name_and_a_reason() {
    let lines: Vec<String> = all()
        .map(verdict)
        .map(|verdict| {
            let (growth, line) = (growth(&verdict), line(&verdict));
            format!("{} {}: {}", name(verdict.kind()), growth.unwrap_or_default(), line.unwrap_or_default())
        })
        .to_vec();
    insta::assert_snapshot!(lines.join("\n"), @r"
    lost +12 KiB/s ± 27 %: 
    growing +12 KiB/s ± 27 %: 812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
    growing +12 KiB/s ± 27 %: none of 1 block, allocated all the time, was freed
    growing +12 KiB/s ± 27 %: its blocks became larger 9 times
    growing +12 KiB/s ± 27 %: 1,200 freed, but ever more wait for that
    warming up +12 KiB/s ± 27 %: grew by 20 KiB/s at first, and by 123 B/s lately
    warming up +12 KiB/s ± 27 %: more are allocated than freed, but the oldest are freed, 1,200 so far
    too early : not watched for long enough, possible after 30 s of tracing
    too early : 3 blocks so far, too few to tell, perhaps possible after 30 s of tracing
    too early : 1 block so far, too few to tell
    too early : blocks from before tracing began are freed as well, about 100 a second
    too early : blocks are freed as others are allocated, as far as windows show, but the process grows by 7.7 KiB/s that no stack explains: it may be a small leak among these; --max-overhead off tells
    too early : frees were watched 2.1 % of the time, too little to tell; perhaps possible after 30 s of tracing
    steady : 1,200 freed as others were allocated, without growth
    steady : 1,200 freed that were seen, about as many as if all are; a small leak among them would not show
    start-up : nothing was allocated here for 30.0 s
    ");
    for grounds in all() {
        assert!(!reason(&verdict(grounds)).is_empty());
    }
}

#[test]
fn of_a_process_that_has_ended_no_time_is_promised() {
    let until = Duration::from_secs(30);
    let all = [
        Grounds::Brief { until },
        Grounds::Few { blocks: 3, until: Some(until) },
        Grounds::Unwatched { share: 0.021, until: Some(until) },
        Grounds::Ceased { ago: until },
    ];
    let reasons = all.map(|grounds| reason(&verdict(grounds.at_end())));
    insta::assert_snapshot!(reasons.join("\n"), @r"
    not watched for long enough before its end
    3 blocks so far, too few to tell
    frees were watched 2.1 % of the time, too little to tell
    nothing was allocated here for 30.0 s
    ");
}

#[test]
fn text_has_them_in_rows() {
    let text = judged().written(Text::new(Style::default(), TimeZone::UTC));
    assert!(text.contains("\n#1  growing  "), "{text}");
    assert!(text.contains(", +12 KiB/s \u{b1} 27 %: "), "{text}");
    assert!(text.contains("\n    812 blocks live on"), "{text}");
    assert!(text.contains("\n#2  too early  "), "{text}");
    assert!(text.contains("\n    not watched"), "{text}");
}

#[test]
fn json_has_them_with_figures() {
    let json: serde_json::Value = serde_json::from_str(&judged().written(Json)).unwrap();
    let stack = &json["stacks"][0];
    assert_eq!(
        (stack["verdict"].as_str(), json["stacks"][1]["verdict"].as_str()),
        (Some("growing"), Some("too_early"))
    );
    assert_eq!(stack["growth"]["low"], 9000.0);
    assert_eq!(
        stack["lifetimes"],
        serde_json::json!([{"from_s": 0.0, "blocks": 1000}, {"from_s": 2.147, "blocks": 3}])
    );
    assert!(json["stacks"][1]["lifetimes"].is_null() && json["stacks"][1]["growth"].is_null());
    let without: serde_json::Value = serde_json::from_str(&report().written(Json)).unwrap();
    assert!(without["stacks"][0].get("verdict").is_none());
}

/// Rows of all grounds, in that order whatever they hold; and without verdicts those with losses first.
#[test]
fn rows_are_ordered_by_verdict_then_by_what_it_says() {
    let mut recorded = report();
    let row = recorded.stacks[0].clone();
    recorded.stacks = all()
        .iter()
        .enumerate()
        .map(|(place, &grounds)| {
            let mut row = row.clone();
            row.id = place as u64;
            row.outstanding = amount(1000 - place as u64, 1);
            let mut verdict = verdict(grounds);
            verdict.trend = Some(Trend { bytes_per_second: 100.0 - place as f64, ..TREND });
            row.verdict = Some(verdict);
            row
        })
        .rev()
        .collect();
    recorded.stacks_found = recorded.stacks.len();
    let selection = crate::profile::Selection::default();
    assert_eq!(selection.sort, SortBy::Verdict);
    let order = |recorded: Recorded| -> Vec<u64> {
        let (dictionary, profile) = recorded.profile();
        let shown = selection.shown(&dictionary, &profile);
        shown.into_iter().map(|place| profile.rows[place].id).collect()
    };
    assert_eq!(order(recorded), (0..16).collect::<Vec<u64>>());
    let mut lost = checked();
    lost.stacks[0].outstanding = amount(1, 1);
    lost.stacks_found = lost.stacks.len();
    let first = lost.stacks[0].id;
    assert_eq!(order(lost).first(), Some(&first));
}

/// What a process that is gone holds is of less interest than what grows in those that live.
#[test]
fn what_has_exited_comes_after_what_lives() {
    let mut recorded = judged();
    recorded.stacks[1].verdict = recorded.stacks[0].verdict;
    recorded.stacks_found = recorded.stacks.len();
    let ended = |pid| crate::profile::Balance { pid, ended: Some(amount(1, 1)), ..Default::default() };
    recorded.balances = vec![ended(7), crate::profile::Balance { pid: 4123, ..Default::default() }];
    let (dictionary, mut profile) = recorded.profile();
    let selection = crate::profile::Selection::default();
    let order = selection.shown(&dictionary, &profile);
    profile.rows[order[0]].detail = crate::profile::Detail::Process { pid: 7, uncertainty: None };
    assert_eq!(selection.shown(&dictionary, &profile)[..2], [order[1], order[0]]);
    // All have.
    recorded.balances[1] = ended(4123);
    let (dictionary, mut profile) = recorded.profile();
    profile.rows[order[0]].detail = crate::profile::Detail::Process { pid: 7, uncertainty: None };
    assert_eq!(selection.shown(&dictionary, &profile), order);
}

/// What is steady or from start-up is only summed up, unless it is asked for or has lost blocks.
#[test]
fn settled_rows_are_summed_up() {
    let mut recorded = judged();
    recorded.stacks[1].verdict = Some(verdict(Grounds::Turnover { freed: 9 }));
    recorded.stacks_found = recorded.stacks.len();
    let (dictionary, profile) = recorded.profile();
    let text = |hide_settled, sort| {
        let selection = crate::profile::Selection { hide_settled, sort, top: 1, ..Default::default() };
        let mut out = Vec::new();
        let view = crate::profile::View::new(&dictionary, &profile, &selection);
        Text::new(Style::default(), TimeZone::UTC).report(&mut out, &view).unwrap();
        String::from_utf8(out).unwrap()
    };
    let bytes = crate::profile::units::format_bytes(profile.rows[1].outstanding.bytes);
    let summed = format!("Steady or start-up: 1 stack, {bytes} (--all)\n");
    let hidden = text(true, SortBy::Verdict);
    assert!(hidden.contains(&summed) && !hidden.contains("more stack"), "{hidden}");
    for shown in [text(false, SortBy::Verdict), text(true, SortBy::Bytes)] {
        assert!(shown.contains("1 more stack holds") && !shown.contains("--all"), "{shown}");
    }
}
