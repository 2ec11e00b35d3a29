//! Reports of kernel mode.

use jiff::tz::TimeZone;

use super::recorded::{Frame, KernelRow};
use super::{Recorded, report};
use crate::profile::{Amount, By, CacheRow, Kernel, MemoryKind};
use crate::report::{Json, Style, Text};

fn text(report: Recorded) -> String {
    report.written(Text::new(Style::default(), TimeZone::UTC))
}

fn json(report: Recorded) -> serde_json::Value {
    serde_json::from_str(&report.written(Json)).unwrap()
}

pub(super) fn kernel() -> Recorded {
    let mut report = report();
    let frame = |function: &str, module: &str, offset| Frame {
        function: Some(function.into()),
        function_offset: 0x21,
        module: module.into(),
        module_offset: offset,
        ..Frame::default()
    };
    report.outstanding = Amount { bytes: 26_496, blocks: 207 };
    report.stacks.truncate(1);
    let row = &mut report.stacks[0];
    row.outstanding = Amount { bytes: 26_496, blocks: 207 };
    row.frames = vec![frame("ep_insert", "[kernel]", 0x71_2345), frame("nf_hook", "nf_conntrack", 0x10)];
    row.kernel = Some(KernelRow {
        kind: MemoryKind::Slab,
        cache: Some("eventpoll_epi"),
        tracked: Amount { bytes: 1_779_456, blocks: 13_902 },
        phantoms: 13_695,
    });
    report.stacks_found = 1;
    let row = CacheRow {
        kind: MemoryKind::Slab,
        cache: None,
        outstanding: Amount { bytes: 26_496, blocks: 207 },
        tracked: Amount { bytes: 1_779_456, blocks: 13_902 },
        phantoms: 13_695,
        by_number: 0,
        unverified: 3,
        grown_blocks: Some(207),
        grown_bytes: Some(26_496),
        bytes_per_second: 128.0,
        blocks_per_second: 1.0,
    };
    let kernel = Kernel {
        kinds: vec![MemoryKind::Slab, MemoryKind::Percpu],
        phantoms: Amount { bytes: 1_752_960, blocks: 13_695 },
        own_allocations: 12,
        ..Kernel::default()
    };
    report.kernel = Some((kernel, vec![("eventpoll_epi", row)]));
    report.caches_found = 3;
    report
}

#[test]
fn a_row_says_of_what_it_is_and_what_was_freed_unseen() {
    let text = text(kernel());
    for part in [
        "the kernel (slab, percpu memory), traced for 5.0 s; every allocation counted, stacks from the kernel's unwinder",
        "25.9 KiB in 207 objects of eventpoll_epi",
        "13,695 more tracked but freed unseen",
        "    ep_insert+0x21\n",
        "    nf_hook+0x21  [nf_conntrack]\n",
        "… and 2 more caches",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let line = text.lines().find(|line| line.starts_with("eventpoll_epi")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..8], ["eventpoll_epi", "25.9", "KiB", "207", "13,902", "+207", "99", "%"], "{line}");
}

#[test]
fn by_cache_there_are_no_stacks() {
    let mut report = kernel();
    report.by = By::Cache;
    report.kernel.as_mut().unwrap().0.user_page_bytes = Some(4096);
    let text = text(report);
    assert!(!text.contains("#1") && text.contains("eventpoll_epi"), "{text}");
    assert!(text.contains("Not counted: 4 KiB of pages for user memory"), "{text}");
}

#[test]
fn json_adds_names_and_renames_none() {
    let process = json(report());
    let json = json(kernel());
    assert_eq!(json["target"]["kind"], "kernel");
    assert_eq!(json["mode"]["stacks"], "kernel");
    let stack = &json["stacks"][0];
    assert_eq!((&stack["kind"], &stack["cache"]), (&"slab".into(), &"eventpoll_epi".into()));
    assert_eq!((&stack["blocks"], &stack["tracked_blocks"]), (&207.into(), &13_902.into()));
    let cache = &json["kernel"]["caches"][0];
    assert_eq!(cache["grown_blocks"], 207);
    assert_eq!(cache["phantom_share"], 0.985);
    assert_eq!(cache["unverified_blocks"], 3);
    assert!(process.get("kernel").is_none() && process["stacks"][0].get("cache").is_none());
}
