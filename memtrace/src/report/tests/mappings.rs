//! What stacks mapped themselves, among the blocks of others.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::recorded::{Frame, Mapped, Recorded};
use super::{amount, empty, text::text, verdicts::judged};
use crate::profile::{Balance, Entry, Grounds, Parts, Selection, Standing, Trend, Verdict, View};
use crate::report::{Html, balance::lines};

/// 8 MiB in 2 ranges, of which a part is in memory, mapped by a function.
fn mapped(function: &str, resident: u64, grounds: Grounds, rate: f64) -> Mapped {
    Mapped {
        id: rate as u64,
        pid: 4123,
        mapped: amount(8 << 20, 2),
        resident: Some(resident),
        oldest: Duration::from_secs(61),
        verdict: Some(Verdict {
            grounds,
            trend: Some(Trend { bytes_per_second: rate, low: rate, high: rate }),
            lifetimes: None,
        }),
        frames: vec![Frame {
            function: Some(function.into()),
            module: "/srv/api-server".into(),
            module_offset: 0x11b1,
            ..Frame::default()
        }],
    }
}

/// One whose blocks and mappings grow.
fn both() -> Recorded {
    let never = Grounds::NeverFreed { survivors: 40 };
    let mut report = judged();
    report.mapped = Some(vec![
        mapped("reserve", 4096, never, 1e7),
        mapped("at_start", 8 << 20, Grounds::Ceased { ago: Duration::from_secs(9) }, 0.0),
        mapped("grab_arena", 8 << 20, never, 1e6),
    ]);
    report
}

fn names(report: Recorded, hide_settled: bool) -> Vec<String> {
    let (dictionary, profile) = report.profile();
    let selection = Selection { hide_settled, ..Selection::default() };
    let view = View::new(&dictionary, &profile, &selection);
    assert_eq!(view.settled_mappings(), if hide_settled { (1, 8 << 20) } else { (0, 0) });
    let entries = view.entries().into_iter();
    let stacks = entries.map(|entry| match entry {
        Entry::Blocks(row) => row.stack,
        Entry::Mapping(row) => row.stack,
    });
    let mut names: Vec<String> =
        stacks.map(|stack| view.frames(stack)[0].function.unwrap_or("?").to_owned()).collect();
    names.dedup();
    names
}

/// Growth counts by what is in memory of it: reserved address space is not used.
#[test]
fn they_stand_in_one_order_with_blocks() {
    assert_eq!(names(both(), false), ["grab_arena", "handle<'_>", "reserve", "?", "at_start"]);
    assert_eq!(names(both(), true), ["grab_arena", "handle<'_>", "reserve", "?"]);
    // Those that are not shown are counted.
    let hidden = |hide_settled, top| {
        let (dictionary, profile) = both().profile();
        let selection = Selection { hide_settled, top, ..Selection::default() };
        View::new(&dictionary, &profile, &selection).hidden_mappings()
    };
    let all = [hidden(false, 0), hidden(false, 1), hidden(true, 1)];
    assert_eq!(all, [(0, 0), (2, 16 << 20), (1, 8 << 20)]);
    // They are what the process grows by.
    let balance = Balance { pid: 4123, standing: Standing::Mappings, ..Balance::default() };
    let report = Recorded { balances: vec![balance], ..both() };
    assert_eq!(names(report, false), ["grab_arena", "reserve", "handle<'_>", "?", "at_start"]);
}

#[test]
fn they_are_rows_like_others() {
    let text = text(both());
    let from = text.find("#1").unwrap();
    let to = text.find("#2").unwrap();
    insta::assert_snapshot!(&text[from..to], @r"
    #1  growing  8 MiB mapped, +976.6 KiB/s: grab_arena  (api-server)
        in 2 ranges, 8 MiB in memory, oldest 1m01s  stack 00000000000f4240
        none of 40 mappings, mapped all the time, was unmapped
      > grab_arena  (api-server)
    ");
    assert!(text.contains("\nMapped by the program itself (mmap, not outstanding): 24 MiB in 6 ranges; not shown: 1 stack, 8 MiB (--top 0)\n"));
}

/// A process may leak by blocks and by mappings, and only the former by much or the latter.
#[test]
fn the_process_says_who_maps() {
    let sentence = |standing, mapped_rate: f64| {
        let rate = Parts { total: 2e6, mapped: mapped_rate, ..Parts::default() };
        let balance = Balance { pid: 4123, standing, rate, leaking: 1e5, ..Balance::default() };
        let report = Recorded { balances: vec![balance], ..both() };
        let (dictionary, profile) = report.profile();
        lines(&View::new(&dictionary, &profile, &Selection::default())).remove(1)
    };
    let leak = sentence(Standing::Leak, 1e6);
    assert!(leak.contains("; besides, what grab_arena maps itself (mmap) grows by 976.6 KiB/s"), "{leak}");
    let leak = sentence(Standing::Leak, 1e4);
    assert!(!leak.contains("grab_arena"), "{leak}");
    let mappings = sentence(Standing::Mappings, 1e6);
    assert!(mappings.starts_with("MAPPINGS in grab_arena: what the program maps itself"), "{mappings}");
}

/// What is proven comes before what grows.
#[test]
fn lost_blocks_come_before_mappings() {
    let mut report = both();
    let lost = Grounds::Unreachable { lost: amount(10, 1), checked: 4 };
    report.stacks[1].verdict = Some(Verdict { grounds: lost, trend: None, lifetimes: None });
    let balance = Balance { pid: 4123, standing: Standing::Mappings, ..Balance::default() };
    report.balances = vec![balance];
    assert_eq!(names(report, false)[..2], ["?", "grab_arena"]);
}

#[test]
fn pages_of_mappings_alone_show_them() {
    let report = Recorded { mapped: both().mapped, ..empty() };
    let page = report.written(Html::new(TimeZone::UTC));
    assert!(page.contains("All 3 stacks that hold something") && page.contains("grab_arena"), "{page}");
}
