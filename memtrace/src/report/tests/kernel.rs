//! Reports of kernel mode.

use jiff::tz::TimeZone;

use super::{Event, snapshot, written};
use crate::model::{
    Amount, CacheRow, Frame, KernelReport, KernelRow, Snapshot, StackMethod, TargetInfo, TargetKind,
};
use crate::report::{Json, Text};

fn text(snapshot: Snapshot) -> String {
    written(Text::new(false, TimeZone::UTC), &Event::Snapshot(Box::new(snapshot)))
}

fn json(snapshot: Snapshot) -> serde_json::Value {
    serde_json::from_str(&written(Json, &Event::Snapshot(Box::new(snapshot)))).unwrap()
}

pub(super) fn kernel() -> Snapshot {
    let mut snapshot = snapshot();
    let frame = |function: &str, module: &str, offset| Frame {
        function: Some(function.into()),
        function_offset: 0x21,
        module: module.into(),
        module_offset: offset,
        ..Frame::default()
    };
    snapshot.target = TargetInfo {
        kind: TargetKind::Kernel,
        pids: Vec::new(),
        comm: "kernel".into(),
        allocators: Vec::new(),
    };
    snapshot.mode.stacks = StackMethod::Kernel;
    snapshot.outstanding = Amount { bytes: 26_496, blocks: 207 };
    snapshot.stacks.truncate(1);
    let row = &mut snapshot.stacks[0];
    row.pid = 0;
    row.outstanding = Amount { bytes: 26_496, blocks: 207 };
    row.frames = vec![frame("ep_insert", "[kernel]", 0x71_2345), frame("nf_hook", "nf_conntrack", 0x10)];
    row.kernel = Some(KernelRow {
        kind: "slab",
        cache: Some("eventpoll_epi".into()),
        tracked: Amount { bytes: 1_779_456, blocks: 13_902 },
        phantoms: 13_695,
    });
    snapshot.stacks_found = 1;
    snapshot.kernel = Some(KernelReport {
        kinds: vec!["slab", "percpu"],
        cgroup: None,
        by_cache: false,
        caches: vec![CacheRow {
            kind: "slab",
            cache: Some("eventpoll_epi".into()),
            outstanding: Amount { bytes: 26_496, blocks: 207 },
            tracked: Amount { bytes: 1_779_456, blocks: 13_902 },
            phantoms: 13_695,
            by_number: 0,
            unverified: 3,
            grown_blocks: Some(207),
            grown_bytes: Some(26_496),
            bytes_per_second: 128.0,
            blocks_per_second: 1.0,
        }],
        caches_found: 3,
        phantoms: Amount { bytes: 1_752_960, blocks: 13_695 },
        user_page_bytes: None,
        counted_elsewhere: Amount::default(),
        own_allocations: 12,
    });
    snapshot
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
    let mut snapshot = kernel();
    if let Some(kernel) = &mut snapshot.kernel {
        kernel.by_cache = true;
        kernel.user_page_bytes = Some(4096);
    }
    let text = text(snapshot);
    assert!(!text.contains("#1") && text.contains("eventpoll_epi"), "{text}");
    assert!(text.contains("Not counted: 4 KiB of pages handed out for user memory"), "{text}");
}

#[test]
fn json_adds_names_and_renames_none() {
    let process = json(snapshot());
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
