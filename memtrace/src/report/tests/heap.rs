//! Reports of heaps.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use crate::profile::{
    Amount, Finding, GrownClass, Heap, HeapArena, HeapGrowth, HeldBytes, Hint, Kept, LeakCheck, Process,
    Root, Seen, SeenStack, SizeClass,
};
use crate::report::{Json, Style, Text, heap::HeapView};

fn heap() -> Heap {
    let amount = |bytes, blocks| Amount { bytes, blocks };
    let mut check = LeakCheck { scans: 3, complete: true, read: 3 << 20, ..LeakCheck::default() };
    check.reached.reachable = amount(900_000, 9000);
    check.reached.directly = amount(29_160, 405);
    check.reached.indirectly = amount(64_720, 809);
    let class = |size, blocks, lost| SizeClass { size, blocks, lost, directly: lost, ..SizeClass::default() };
    Heap {
        process: Process { pid: 4123, comm: "app\x1b".to_owned() },
        allocator: "glibc".to_owned(),
        releases: "2.35 to 2.41".to_owned(),
        others: vec!["jemalloc".to_owned()],
        in_use: amount(993_880, 10_214),
        arenas: vec![HeapArena {
            is_main: true,
            in_use: amount(993_880, 10_214),
            kept: Kept { bins: 128 << 20, trimmable: 127 << 20, top: 4096, absent: 4096, ..Kept::default() },
        }],
        mapped: Amount::default(),
        check,
        verdict: Finding::Decided,
        classes: vec![
            SizeClass { hint: Some(Hint::Text("a\x1b[2J".to_owned())), ..class(80, 809, 809) },
            SizeClass { type_name: Some("app::Session".to_owned()), ..class(72, 1405, 405) },
            class(120, 8000, 0),
        ],
        holders: vec![HeldBytes {
            root: Root::data("/bin/app", Some(("g_cache", 0)), None),
            held: amount(890_000, 8900),
        }],
        is_walked: true,
        ..Heap::default()
    }
}

/// The same of jemalloc.
fn jemalloc() -> Heap {
    let mut heap = heap();
    heap.allocator = "jemalloc".to_owned();
    heap.releases = "5.3".to_owned();
    heap.others.clear();
    heap.arenas[0].kept = Kept {
        bins: 3 << 20,
        caches: 1 << 10,
        dirty: 40 << 20,
        muzzy: 8 << 20,
        retained: 2 << 20,
        trimmable: 47 << 20,
        absent: 1 << 20,
        ..Kept::default()
    };
    heap
}

#[test]
fn what_jemalloc_keeps() {
    let heap = jemalloc();
    let text = text(&view(&heap));
    for part in [
        "heap of jemalloc (5.3)",
        "jemalloc keeps 50 MiB free: not a leak (3 MiB more of it are not in memory",
        "first arena: 50 MiB kept: 3 MiB between blocks (in slabs), 1 KiB in caches of threads (tcache), 40 MiB in whole extents (dirty), 8 MiB that the kernel may take (muzzy)",
        "mallctl(\"arena.4096.purge\") would give back 47 MiB",
        "dirty_decay_ms and muzzy_decay_ms",
        "background_thread:true",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("malloc_trim") && !text.contains("glibc"), "{text}");
    let kept = &json(&view(&heap))["heap"]["kept"];
    for (name, bytes) in [("dirty_bytes", 40 << 20), ("muzzy_bytes", 8 << 20), ("retained_bytes", 2 << 20)] {
        assert_eq!(kept[name], bytes, "{name}");
    }
}

fn growth() -> HeapGrowth {
    let grown = |size, blocks| GrownClass { size, type_name: None, blocks, now: blocks + 1 };
    HeapGrowth {
        in_use: (1024, 7),
        kept: -2048,
        lost: (720, 10),
        lost_classes: vec![grown(72, 10)],
        grown_classes: vec![grown(120, 3)],
    }
}

fn view(heap: &Heap) -> HeapView<'_> {
    HeapView { heap, time: Timestamp::UNIX_EPOCH, last: true, top: 10 }
}

fn text(view: &HeapView<'_>) -> String {
    let mut out = Vec::new();
    Text::new(Style::default(), TimeZone::UTC).heap(&mut out, view).unwrap();
    String::from_utf8(out).unwrap()
}

fn json(view: &HeapView<'_>) -> serde_json::Value {
    let mut out = Vec::new();
    Json.heap(&mut out, view).unwrap();
    assert!(!out.contains(&0x1b));
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn text_has_all_figures_and_nothing_that_controls_a_terminal() {
    let heap = Heap { growth: Some(growth().into()), ..heap() };
    let text = text(&view(&heap));
    for part in [
        "app\\x1b (pid 4123)",
        "970.6 KiB in 10,214 blocks",
        "glibc keeps 128 MiB free: not a leak",
        "malloc_trim(0) would give back 127 MiB",
        "LOST 91.7 KiB in 1,214 blocks",
        "(405 directly, 809 through them)",
        "text \"a\\x1b[2J\"",
        "type app::Session",
        "g_cache (app)",
        "jemalloc",
        "lost +720 B (+10 blocks)",
        "kept free -2 KiB",
        "10 x 72 B",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn without_a_verdict_nothing_is_called_lost() {
    let mut heap = heap();
    for verdict in [Finding::RootMissing { lost: 9, blocks: 10 }, Finding::Undecided] {
        heap.verdict = verdict;
        let text = text(&view(&heap));
        assert!(text.contains("No verdict") && !text.contains("LOST"), "{text}");
        let json = json(&view(&heap));
        assert!(json["heap"]["lost"].is_null() && json["heap"]["directly_lost"].is_null());
    }
}

/// Tracing has seen who loses blocks of 72 bytes.
fn seen() -> Seen {
    let stack = SeenStack {
        pid: 4123,
        function: "forget(int)".to_owned(),
        place: Some(("/src/app.cc".to_owned(), 15)),
        sizes: vec![(70, 58), (3, 1)],
        lost: 58,
    };
    let other = SeenStack { pid: 1, ..stack.clone() };
    Seen { traced: Duration::from_secs(8), stacks: vec![other, stack] }
}

#[test]
fn who_allocates_is_below_what_is_lost() {
    let heap = Heap { seen: Some(seen().into()), ..heap() };
    let text = text(&view(&heap));
    let line = "in 8.0 s, forget (app.cc:15) was seen to allocate 58 more, and loses them";
    assert_eq!(text.matches("was seen to allocate").count(), 1, "{text}");
    assert!(text.contains(line), "{text}");
}

#[test]
fn json_has_the_names_that_are_documented() {
    let heap = Heap { growth: Some(growth().into()), seen: Some(seen().into()), ..heap() };
    let json = json(&HeapView { top: 2, ..view(&heap) });
    assert_eq!((&json["schema"], &json["last"]), (&1.into(), &true.into()));
    assert_eq!(json["target"]["pids"], serde_json::json!([4123]));
    let heap = &json["heap"];
    assert_eq!(heap["allocator"], "glibc");
    assert_eq!(heap["in_use"], serde_json::json!({ "bytes": 993_880, "blocks": 10_214 }));
    assert_eq!(heap["lost"], serde_json::json!({ "bytes": 93_880, "blocks": 1214 }));
    assert_eq!(heap["directly_lost"]["blocks"], 405);
    assert_eq!(heap["kept"]["bytes"], 128 << 20);
    // Another allocator's heap was not looked at.
    assert_eq!((&heap["complete"], &heap["verdict"]), (&false.into(), &"decided".into()));
    assert_eq!((&heap["classes_found"], heap["classes"].as_array().unwrap().len()), (&3.into(), 2));
    assert_eq!(
        heap["classes"][1],
        serde_json::json!({ "size": 72, "blocks": 1405, "lost_blocks": 405, "directly_lost_blocks": 405,
            "type": "app::Session", "hint": null, "hint_kind": null, "allocated_by": [{ "function": "forget(int)",
            "file": "/src/app.cc", "line": 15, "blocks": 58, "loses": true }] })
    );
    assert_eq!(heap["traced_s"], 8.0);
    assert_eq!(heap["classes"][0]["hint_kind"], "text");
    assert_eq!(heap["held_by"][0]["name"], "g_cache");
    assert_eq!(heap["growth"]["lost"][0]["blocks"], 10);
    assert_eq!(heap["growth"]["kept_bytes"], -2048);
    let keys = heap.as_object().unwrap().keys();
    let documented = include_str!("../../../../docs/json.md");
    for key in keys.chain(heap["growth"].as_object().unwrap().keys()) {
        assert!(
            documented.contains(&format!("`{key}`")) || documented.contains(&format!("`{key}[]`")),
            "{key}"
        );
    }
}
