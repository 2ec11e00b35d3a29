use std::collections::BTreeSet;

use serde_json::Value;

use super::curves::curved;
use super::kernel::kernel;
use super::verdicts::judged;
use super::{
    HOSTILE, Recorded, assert_harmless, checked, empty, hostile, losses, marked, report, sampled,
    trace_lines as lines, with_blocks,
};
use crate::profile::{Amount, Remark, diff, units::format_bytes};
use crate::report::{Comparison, Json, Style};

fn json(report: Recorded) -> String {
    report.written(Json)
}

fn parsed(text: &str) -> Value {
    assert_eq!(text.matches('\n').count(), 1, "one line");
    assert!(text.ends_with('\n'));
    serde_json::from_str(text).unwrap()
}

/// The paths of all keys: `stacks[].frames[].function`.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            found.insert(path.clone());
            keys(value, &path, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn ordinary() {
    insta::assert_snapshot!(json(report()), @r#"
    {"schema":1,"time":"2026-01-02T03:04:05Z","elapsed_s":5.004,"last":false,"target":{"kind":"process","pids":[4123],"comm":"api-server","allocators":["glibc"],"untraced":[]},"mode":{"exact":true,"sample_bytes":null,"sampling":false,"attached_share":1.0,"gaps":0,"window_allocated_blocks":null,"window_freed_blocks":null,"window_open":false,"stacks":"fp","min_size":null,"max_size":null,"older_s":null},"outstanding":{"bytes":1048576,"blocks":1024},"uncertainty":null,"bytes_per_second":1572864.0,"unknown_frees":12,"overhead":null,"stacks_found":5,"stacks":[{"id":"9f0c0000deadbeef","pid":4123,"bytes":65536,"blocks":64,"uncertainty":null,"allocated_bytes":70000,"allocated_blocks":67,"freed_bytes":4464,"freed_blocks":3,"bytes_per_second":13107.2,"oldest_s":4.2,"oldest_exact":true,"complete":true,"incomplete":null,"frames":[{"function":"handle<'_>","function_offset":"0x1e","module":"/srv/api-server","offset":"0x1167","file":"src/api.c","line":null,"inlined":true},{"function":"leak_small","function_offset":"0x1e","module":"/srv/api-server","offset":"0x1167","file":"src/api.c","line":42,"inlined":false},{"function":"main","function_offset":"0x6d","module":"/srv/api-server","offset":"0x13ad","file":"src/main.c","line":7,"inlined":false}],"culprit":0},{"id":"0000000000000017","pid":4123,"bytes":640,"blocks":1,"uncertainty":null,"allocated_bytes":640,"allocated_blocks":1,"freed_bytes":0,"freed_blocks":0,"bytes_per_second":-20480.0,"oldest_s":192.0,"oldest_exact":false,"complete":false,"incomplete":"no_frame_pointer","frames":[{"function":null,"function_offset":null,"module":"/usr/lib/libplugin.so","offset":"0x4f0","file":null,"line":null,"inlined":false}],"culprit":0}],"mappings":{"bytes":0,"ranges":0,"stacks":[]},"leak_check":null,"process":null,"processes":[],"marks":[],"span":null,"losses":{"live_map_full":0,"live_map_full_bytes":0,"in_flight_lost":0,"ring_full":0,"no_walk_slot":0,"no_thread_slot":0,"stack_table_full":0,"missed_frees":0,"kernel_missed":0,"mappings_full":0,"mappings_full_bytes":0,"names_given_up":0,"children_not_traced":0,"stacks_incomplete":{}},"notes":[],"remarks":[]}
    "#);
}

/// Everything that schema 1 promised before a report was a profile is still there, with the same values. Of notes only
/// their number is compared: they are prose.
#[test]
fn schema_1_only_gains() {
    let remarks = vec![Remark::Exited { pids: vec![4123] }];
    let process = Recorded { losses: losses(), remarks, ..with_blocks() };
    for (before, now) in [
        (include_str!("schema1/process.json"), process),
        (include_str!("schema1/sampled.json"), sampled()),
        (include_str!("schema1/empty.json"), empty()),
        (include_str!("schema1/kernel.json"), kernel()),
    ] {
        contains(&serde_json::from_str(before).unwrap(), &parsed(&json(now)), "");
    }
    let before = include_str!("schema1/trace.json").lines();
    for (before, now) in before.zip(lines(Json)) {
        contains(&serde_json::from_str(before).unwrap(), &parsed(&now), "");
    }
}

fn contains(before: &Value, now: &Value, path: &str) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => before.iter().for_each(|(key, value)| {
            let path = format!("{path}.{key}");
            contains(value, now.get(key).unwrap_or_else(|| panic!("{path} is gone")), &path);
        }),
        (Value::Array(before), Value::Array(now)) => {
            assert_eq!(before.len(), now.len(), "{path}");
            before.iter().zip(now).for_each(|(before, now)| contains(before, now, &format!("{path}[]")));
        }
        _ if path == ".notes[]" => {}
        _ => assert_eq!(before, now, "{path}"),
    }
}

/// Scripts rely on these names: a change here breaks them.
#[test]
fn names_are_never_changed() {
    let promised = "
        schema time elapsed_s last bytes_per_second stacks_found notes
        target target.kind target.pids target.comm target.allocators target.untraced remarks
        uncertainty uncertainty.bytes uncertainty.blocks uncertainty.samples unknown_frees
        overhead overhead.share overhead.processors overhead.limit overhead.limit_processors overhead.spent_s overhead.cpu_s overhead.calls
        mode.attached_share mode.gaps mode.window_allocated_blocks mode.window_freed_blocks mode.window_open mode.sampling
        stacks[].uncertainty stacks[].uncertainty.bytes stacks[].uncertainty.blocks stacks[].uncertainty.samples
        mode mode.exact mode.sample_bytes mode.stacks mode.min_size mode.max_size mode.older_s
        outstanding outstanding.bytes outstanding.blocks
        stacks stacks[].id stacks[].pid stacks[].bytes stacks[].blocks stacks[].allocated_bytes stacks[].allocated_blocks
        stacks[].freed_bytes stacks[].freed_blocks stacks[].bytes_per_second stacks[].oldest_s
        stacks[].oldest_exact stacks[].complete stacks[].culprit stacks[].incomplete
        stacks[].frames stacks[].frames[].function stacks[].frames[].function_offset stacks[].frames[].module
        stacks[].frames[].offset stacks[].frames[].file stacks[].frames[].line stacks[].frames[].inlined
        stacks[].checked_blocks stacks[].lost_bytes stacks[].lost_blocks stacks[].indirectly_lost_bytes
        stacks[].indirectly_lost_blocks stacks[].lost_through_bytes stacks[].possibly_lost_bytes
        stacks[].possibly_lost_blocks stacks[].held_by stacks[].held_by[].root
        stacks[].held_by[].name stacks[].held_by[].module stacks[].held_by[].tid stacks[].held_by[].steps
        stacks[].held_by[].share stacks[].held_by[].looked_at
        stacks[].verdict stacks[].verdict_reason stacks[].growth stacks[].growth.bytes_per_second
        stacks[].growth.low stacks[].growth.high stacks[].lifetimes stacks[].lifetimes[].from_s
        stacks[].lifetimes[].blocks
        leak_check leak_check.moment leak_check.at_s leak_check.scans leak_check.bytes_read leak_check.bytes_skipped
        leak_check.seconds leak_check.cpu_s leak_check.lost leak_check.lost.bytes leak_check.lost.blocks
        leak_check.directly_lost leak_check.directly_lost.bytes leak_check.directly_lost.blocks
        leak_check.indirectly_lost leak_check.indirectly_lost.bytes leak_check.indirectly_lost.blocks
        leak_check.possibly_lost leak_check.possibly_lost.bytes leak_check.possibly_lost.blocks
        leak_check.reachable leak_check.reachable.bytes leak_check.reachable.blocks
        leak_check.suppressed leak_check.suppressed.bytes leak_check.suppressed.blocks
        leak_check.undecided_blocks leak_check.before leak_check.complete leak_check.pid
        stacks[].allocs stacks[].allocs[].addr stacks[].allocs[].size stacks[].allocs[].age_s
        mappings mappings.bytes mappings.ranges mappings.stacks mappings.stacks[].id mappings.stacks[].pid
        mappings.stacks[].bytes mappings.stacks[].ranges mappings.stacks[].oldest_s mappings.stacks[].frames
        mappings.stacks[].resident_bytes mappings.stacks[].kind mappings.stacks[].ended_threads process processes
        losses losses.live_map_full losses.live_map_full_bytes losses.in_flight_lost losses.ring_full
        losses.no_walk_slot losses.no_thread_slot losses.stack_table_full losses.missed_frees
        losses.kernel_missed losses.mappings_full losses.mappings_full_bytes losses.names_given_up
        marks marks[].number marks[].at_s span span.from_mark span.from_s span.to_mark span.to_s span.attached_share
        losses.children_not_traced
        losses.stacks_incomplete losses.stacks_incomplete.no_frame_pointer
        losses.stacks_incomplete.stack_unreadable losses.stacks_incomplete.too_deep
    ";
    let mut found = BTreeSet::new();
    keys(&parsed(&json(Recorded { losses: losses(), ..with_blocks() })), "", &mut found);
    keys(&parsed(&json(sampled())), "", &mut found);
    keys(&parsed(&json(checked())), "", &mut found);
    keys(&parsed(&json(judged())), "", &mut found);
    keys(&parsed(&json(marked())), "", &mut found);
    assert_eq!(found, promised.split_whitespace().map(str::to_owned).collect());
}

/// A comparison with a stack of each kind.
fn compared() -> String {
    let (mut earlier, mut later) = (report(), report());
    later.stacks[0].outstanding.bytes += 1;
    earlier.stacks[1].frames.clear();
    let (earlier, later) = (earlier.profile(), later.profile());
    let (before, after) = ((&earlier.0, &earlier.1), (&later.0, &later.1));
    Comparison { before, after, diff: &diff(before, after), top: 0 }.json()
}

#[test]
fn comparisons_say_what_is_lost() {
    let (mut earlier, mut later) = (checked(), checked());
    earlier.stacks[0].leaked = None;
    later.outstanding.bytes += 1;
    let (earlier, later) = (earlier.profile(), later.profile());
    let (before, after) = ((&earlier.0, &earlier.1), (&later.0, &later.1));
    let comparison = Comparison { before, after, diff: &diff(before, after), top: 0 };
    // Those of all rows of the first stack.
    let rows = later.1.rows.iter().filter(|row| row.stack == later.1.rows[0].stack);
    let leaked = rows.filter_map(|row| Some(row.leaked?.within(row.outstanding).lost));
    let lost = leaked.fold(Amount::default(), Amount::plus);
    let grown = &parsed(&comparison.json())["grown"][0];
    let keys = ["before_lost_bytes", "before_lost_blocks", "lost_bytes", "lost_blocks"];
    assert_eq!(keys.map(|key| grown[key].as_u64().unwrap()), [0, 0, lost.bytes, lost.blocks]);
    let text = comparison.text(Style::default());
    let bytes = format_bytes(lost.bytes);
    let line = format!("    lost: {bytes} in {} blocks: nothing points to them (before: 0)\n", lost.blocks);
    assert!(text.contains(&line), "{text}");
}

#[test]
fn every_key_is_documented() {
    let documented: String = ["json.md", "losses.md"]
        .iter()
        .map(|name| {
            std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        })
        .collect();
    let mut found = BTreeSet::new();
    for report in
        [Recorded { losses: losses(), ..with_blocks() }, sampled(), judged(), curved(), marked(), kernel()]
    {
        keys(&parsed(&json(report)), "", &mut found);
    }
    lines(Json).iter().for_each(|line| keys(&parsed(line), "", &mut found));
    keys(&parsed(&compared()), "", &mut found);
    let name = |path: &String| path.rsplit('.').next().map(|name| format!("`{name}`"));
    let missing: Vec<&String> =
        found.iter().filter(|path| !name(path).is_some_and(|name| documented.contains(&name))).collect();
    assert!(missing.is_empty(), "neither in docs/json.md nor in docs/losses.md: {missing:?}");
}

#[test]
fn nothing_outstanding() {
    let value = parsed(&json(empty()));
    assert_eq!(value["stacks"], Value::Array(Vec::new()));
    assert_eq!(value["outstanding"]["bytes"], 0);
}

#[test]
fn figures_without_a_finite_value_are_numbers_all_the_same() {
    for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0, -1e-9] {
        let value = parsed(&json(Recorded { bytes_per_second: rate, ..empty() }));
        assert_eq!(value["bytes_per_second"], 0.0, "{rate}");
        assert!(!value["bytes_per_second"].to_string().starts_with('-'), "{rate}");
    }
}

#[test]
fn a_stack_without_frames_is_not_complete() {
    let mut report = report();
    report.stacks[0].frames.clear();
    let value = parsed(&json(report));
    assert_eq!(value["stacks"][0]["complete"], false);
    assert_eq!(value["stacks"][0]["incomplete"], Value::Null);
}

#[test]
fn a_sampled_report_says_so() {
    let mut report = sampled();
    report.filter.older = Some(std::time::Duration::from_secs(60));
    let report = parsed(&json(report));
    let expected = serde_json::json!({
        "exact": false, "sample_bytes": 524_288, "stacks": "fp", "min_size": null, "max_size": null, "older_s": 60.0,
        "attached_share": 0.02099, "gaps": 12,
        "window_allocated_blocks": 102_345, "window_freed_blocks": 102_100, "window_open": false, "sampling": true
    });
    assert_eq!(report["mode"], expected);
    assert_eq!(report["uncertainty"], serde_json::json!({"bytes": 104_858, "blocks": 512, "samples": 31}));
    assert_eq!(
        report["overhead"],
        serde_json::json!({
            "share": 0.0312, "processors": 0.03118, "limit": 0.05, "limit_processors": 0.005,
            "spent_s": 0.156, "cpu_s": 5.0, "calls": 123_456
        })
    );
}

/// Hostile text arrives unchanged, and on a terminal it is harmless on the way.
#[test]
fn hostile_names() {
    let text = json(hostile());
    assert_harmless(&text);
    let value = parsed(&text);
    assert_eq!(value["target"]["comm"], HOSTILE);
    assert_eq!(value["stacks"][0]["frames"][0]["function"], HOSTILE);
    assert_eq!(value["stacks"][0]["frames"][0]["module"], format!("/srv/{HOSTILE}"));
    assert_eq!(value["remarks"][0]["comm"], HOSTILE);
    let comm = text.split("\"comm\":").nth(1).unwrap().split(",\"allocators").next().unwrap();
    insta::assert_snapshot!(comm, @r#""evil\u001b[2J\u001b]0;owned\u0007\r\nroot# \u202etxt\u2066\u009b31m\u007f\u2028\udb40\udc41""#);
}

#[test]
fn trace_lines() {
    let lines = lines(Json);
    lines.iter().for_each(|line| assert!(parsed(line).is_object()));
    insta::assert_snapshot!(lines.concat(), @r#"
    {"schema":1,"event":"alloc","elapsed_s":0.004213,"pid":4123,"tid":4125,"addr":"0x948cd0","size":16,"stack":"9f0c0000deadbeef","frames":[{"function":"handle<'_>","function_offset":"0x1e","module":"/srv/api-server","offset":"0x1167","file":"src/api.c","line":null,"inlined":true},{"function":"leak_small","function_offset":"0x1e","module":"/srv/api-server","offset":"0x1167","file":"src/api.c","line":42,"inlined":false},{"function":"main","function_offset":"0x6d","module":"/srv/api-server","offset":"0x13ad","file":"src/main.c","line":7,"inlined":false}]}
    {"schema":1,"event":"free","elapsed_s":94769.0,"pid":4123,"tid":4125,"addr":"0x948cd0","size":16,"stack":"9f0c0000deadbeef"}
    "#);
}
