use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    Recorded, assert_harmless, checked, empty, hostile, losses, marked, report, sampled,
    trace_lines as lines, with_blocks,
};
use crate::profile::{Filter, LeakCheck, Moment, Reason, Remark, Since};
use crate::report::{Json, Style, Text};

pub(super) fn text(report: Recorded) -> String {
    report.written(Text::new(Style::default(), TimeZone::UTC))
}

#[test]
fn ordinary() {
    insta::assert_snapshot!(text(report()), @r#"
    [03:04:05] api-server (pid 4123), traced for 5.0 s, allocator glibc; every allocation counted, stacks from frame pointers (callers may be missing where code was built without them)
    Outstanding: 1 MiB in 1,024 blocks, +1.5 MiB/s

    #1  64 KiB in 64 blocks, +12.8 KiB/s: handle<'_>  src/api.c
        6 % of the total, oldest 4.2 s, freed 3 of 67 blocks  stack 9f0c0000deadbeef
      > handle<'_>  src/api.c
        leak_small  src/api.c:42
        main        src/main.c:7

    #2  640 B in 1 block, -20 KiB/s: /usr/lib/libplugin.so+0x4f0
        under 1 % of the total, none older than 3m12s, freed 0 of 1 block  stack 0000000000000017
      > /usr/lib/libplugin.so+0x4f0
        (outer callers are missing: no frame pointer)

    … and 3 more stacks hold 959.4 KiB (--top 0 shows all)
    "#);
}

#[test]
fn everything_lost() {
    let remarks = vec![Remark::Exited { pids: vec![4123] }];
    insta::assert_snapshot!(text(Recorded { losses: losses(), remarks, last: true, ..empty() }), @r#"
    [03:04:05] last report: api-server (pid 4123), traced for 5.0 s, allocator glibc; every allocation counted, stacks from frame pointers (callers may be missing where code was built without them)
    Outstanding: 0 B in 0 blocks, 0 B/s
    Nothing allocated since tracing began is outstanding. (Earlier allocations are unknown.)

    Missed: 1,203 blocks (4.5 MiB) not tracked: the table of live blocks was full, so the totals are too low by that much; raise --max-live.
    Missed: 5 allocations not tracked: the table of threads was full, so the totals are too low.
    Missed: 1 allocation call never seen to return (longjmp, an exception, a cancelled thread; with gaps, detaching): what they returned is not in the totals.
    Missed: 8 probe runs skipped by the kernel: allocations and frees went unseen, so the figures may be too low or too high.
    Missed: 7 blocks still live here when the address was handed out again: a free was missed, and the old block no longer counts.
    Missed: 4 allocations without a stack: every walk slot of the CPU was in use, so the totals include them but no code is named.
    Missed: 6 allocations without a stack: the table of stacks was full, so the totals and the rows without frames include them; raise --max-stacks.
    Missed: 3 events did not fit into the ring buffer: trace lines are missing, mappings may be wrong, and stacks may appear one report late.
    Missed: 10 mapped ranges (40 KiB) left out: a process had too many, so what it mapped itself is too low by at most that much.
    Missed: 11 name lookups given up: functions may lack names or lines; the notes say why.
    Missed: 9 forks of the target not traced: what child processes allocate is not in the figures (--follow), and their calls run into its probes until these are taken out, usually at once.
    Missed: 2,010 stacks incomplete (no frame pointer: 10, stack unreadable: 2,000): their outer callers are missing.
    Note: process 4123 has exited: blocks not freed by then are still shown
    "#);
}

#[test]
fn nothing_passes_the_filters() {
    let text = text(Recorded { outstanding: super::amount(10, 1), ..empty() });
    assert!(text.contains("passes the filters"), "{text}");
}

#[test]
fn blocks_are_listed() {
    insta::assert_snapshot!(text(with_blocks()), @r#"
    [03:04:05] api-server (pid 4123), traced for 5.0 s, allocator glibc; every allocation counted, stacks from frame pointers (callers may be missing where code was built without them)
    Outstanding: 1 MiB in 1,024 blocks, +1.5 MiB/s

    #1  64 KiB in 64 blocks, +12.8 KiB/s: handle<'_>  src/api.c
        6 % of the total, oldest 4.2 s, freed 3 of 67 blocks  stack 9f0c0000deadbeef
      > handle<'_>  src/api.c
        leak_small  src/api.c:42
        main        src/main.c:7
        addr = 0x948cd0  size = 1024  age 4.0 s
        addr = 0x9490f0  size = 48  age 3.0 s

    #2  2 MiB mapped
        in 2 ranges, oldest 1m01s  stack 0000000000000abc
        (the frames of this stack were not received)

    #3  640 B in 1 block, -20 KiB/s: /usr/lib/libplugin.so+0x4f0
        under 1 % of the total, none older than 3m12s, freed 0 of 1 block  stack 0000000000000017
      > /usr/lib/libplugin.so+0x4f0
        (outer callers are missing: no frame pointer)
        addr = 0x7fff00001000  size = 640  age 3m12s

    … and 3 more stacks hold 959.4 KiB (--top 0 shows all)

    Mapped by the program itself (mmap, not outstanding): 2 MiB in 2 ranges
    "#);
}

#[test]
fn hostile_names() {
    let text = text(hostile());
    assert_harmless(&text);
    insta::assert_snapshot!(text, @r#"
    [03:04:05] evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041} (pid 4123), traced for 5.0 s, allocator evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}; every allocation counted, stacks from frame pointers (callers may be missing where code was built without them)
    Outstanding: 1 MiB in 1,024 blocks, +1.5 MiB/s

    #1  64 KiB in 64 blocks, +12.8 KiB/s:
        evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroo…f\u{2028}\u{e0041}  …aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}
        6 % of the total, oldest 4.2 s, freed 3 of 67 blocks  stack 9f0c0000deadbeef
      > evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroo…f\u{2028}\u{e0041}  …aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}
        evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}+0x0

    Note: process 4123 called exec after 1.0 s and is now evil\x1b[2J\x1b]0;owned\x07\x0d\x0aroot# \u{202e}txt\u{2066}\u{9b}31m\x7f\u{2028}\u{e0041}: its count was restarted
    "#);
}

#[test]
fn several_targets_sampled() {
    let mut report = sampled();
    report.pids = (100..112).collect();
    report.allocators = vec!["glibc".into(), "jemalloc".into()];
    insta::assert_snapshot!(text(report), @r#"
    [03:04:05] api-server (pids 100, 101, 102, 103, 104, 105, 106, 107 and 4 more), traced for 5.0 s, allocators glibc, jemalloc; estimated from one sample per 512 KiB of allocations, while probes were in place (2.1 % of the time, 12 gaps), stacks from frame pointers (callers may be missing where code was built without them)
    Outstanding (of what was seen): about 1 MiB ± 10 % in 1,024 blocks ± 50 %, +1.5 MiB/s seen, from 31 samples
    Tracing took 3.1 % of the target's CPU time (allowed: 5 %), 3.1 % of one CPU; 123,456 calls seen
    In the windows, 102,345 blocks of all sizes were allocated and 102,100 freed, including older ones

    #1  about 64 KiB ± 99 % in 64 blocks ± 19 %, +12.8 KiB/s seen: handle<'_>  src/api.c
        6 % of the total, from 3 samples, oldest 4.2 s, process 4123, freed about 3 of 67 blocks  stack 9f0c0000deadbeef
      > handle<'_>  src/api.c
        leak_small  src/api.c:42
        main        src/main.c:7

    #2  about 640 B in 1 block, -20 KiB/s seen: /usr/lib/libplugin.so+0x4f0
        under 1 % of the total, from 1 sample, none older than 3m12s, process 4123, freed about 0 of 1 block  stack 0000000000000017
      > /usr/lib/libplugin.so+0x4f0
        (outer callers are missing: no frame pointer)

    … and 3 more stacks hold 959.4 KiB (--top 0 shows all)

    Note: allocations made in a gap, and their frees, are unknown and not counted; blocks that were counted earlier and freed in a gap still count
    "#);
}

#[test]
fn frames_that_never_came() {
    let mut report = report();
    report.stacks.truncate(1);
    report.stacks_found = 2;
    report.stacks[0].frames.clear();
    insta::assert_snapshot!(text(report), @r#"
    [03:04:05] api-server (pid 4123), traced for 5.0 s, allocator glibc; every allocation counted, stacks from frame pointers (callers may be missing where code was built without them)
    Outstanding: 1 MiB in 1,024 blocks, +1.5 MiB/s

    #1  64 KiB in 64 blocks, +12.8 KiB/s
        6 % of the total, oldest 4.2 s, freed 3 of 67 blocks  stack 9f0c0000deadbeef
        (the frames of this stack were not received)

    … and 1 more stack holds 960 KiB (--top 0 shows all)
    "#);
}

#[test]
fn frames_that_were_not_taken() {
    let mut report = report();
    report.stacks[0].frames.clear();
    report.stacks[0].incomplete = Some(Reason::NoWalkSlot);
    let text = text(report);
    assert!(text.contains("\n    (no frames: no walk slot)\n"), "{text}");
}

#[test]
fn shares_do_not_round_to_none_or_all() {
    let share = super::super::estimates::share;
    assert_eq!(share(1, 1_000_000), Some("under 1 %".to_owned()));
    assert_eq!(share(999_999, 1_000_000), Some("99 %".to_owned()));
    assert_eq!(share(7, 7), Some("100 %".to_owned()));
    assert_eq!(share(u64::MAX, 1), Some("100 %".to_owned()));
    assert_eq!(share(0, 7), Some("0 %".to_owned()));
    assert_eq!(share(0, 0), None);
}

#[test]
fn colour_only_when_asked_for() {
    let report = Recorded { losses: losses(), ..with_blocks() };
    let plain = report.written(Text::new(Style::default(), TimeZone::UTC));
    let coloured = report.written(Text::new(Style { colour: true, ..Style::default() }, TimeZone::UTC));
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[1m64 KiB\x1b[0m in 64 blocks"), "{coloured}");
    assert!(coloured.contains("\x1b[2msrc/api.c:42\x1b[0m"), "{coloured}");
    let stripped =
        ["\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn trace_lines() {
    insta::assert_snapshot!(lines(Text::new(Style::default(), TimeZone::UTC)).concat(), @r#"
        0.004213  4123/4125  alloc  0x948cd0  size 16  stack 9f0c0000deadbeef
      > handle<'_>  src/api.c
        leak_small  src/api.c:42
        main        src/main.c:7
    94769.000000  4123/4125  free   0x948cd0  size 16  stack 9f0c0000deadbeef
    "#);
}

#[test]
fn the_time_of_day_is_local() {
    let zone = TimeZone::fixed(jiff::tz::offset(-5));
    assert!(report().written(Text::new(Style::default(), zone)).starts_with("[22:04:05] "));
}

#[test]
fn a_sample_that_was_taken_before_is_named() {
    let mut report = sampled();
    report.sampling = false;
    let text = text(report);
    assert!(
        text.contains(
            "; every allocation counted now, one sample per 512 KiB earlier, while probes were in place"
        ),
        "{text}"
    );
    assert!(text.contains("freed in a gap still count"), "{text}");
}

#[test]
fn of_an_open_window_only_what_is_known_is_said() {
    let open = |mut report: Recorded| {
        report.attached.open = true;
        text(report)
    };
    assert!(text(sampled()).contains(", freed about 3 of 67 blocks"));
    assert!(!open(sampled()).contains("freed about"), "what is left out is among those allocated");
    let attached = sampled().attached;
    let nothing = Recorded { exact: false, attached, ..empty() };
    assert!(open(nothing).contains("Nothing that was seen for long enough is outstanding"));
}

#[test]
fn a_filter_is_said_and_nothing_is_claimed_beyond_it() {
    let filter = |min_size, max_size, older| {
        let mut empty = empty();
        empty.filter = Filter { min_size, max_size, older };
        text(empty)
    };
    let sizes = filter(Some(1 << 20), None, None);
    assert!(sizes.contains("every allocation of 1 MiB and more counted"), "{sizes}");
    assert!(sizes.contains("passes the filter") && !sizes.contains("Nothing allocated"), "{sizes}");
    let older = filter(None, Some(100), Some(Duration::from_secs(60)));
    assert!(older.contains("of up to 100 B counted, only blocks older than 1m00s shown"), "{older}");
    let mut aged = report();
    aged.filter.older = Some(Duration::from_secs(1));
    assert!(!text(aged).contains("freed"));
}

#[test]
fn long_names_lose_their_middle() {
    let mut report = report();
    for frame in &mut report.stacks[0].frames {
        frame.function = Some(format!("begin{}end", "x".repeat(5000)));
        frame.file = Some("f".repeat(5000));
        frame.module = "m".repeat(5000);
    }
    let text = text(report);
    assert!(text.contains("beginxxx") && text.contains("xxxend"), "{text}");
    assert!(text.lines().all(|line| line.len() < 700), "{text}");
}

#[test]
fn what_is_not_traced_is_said_first() {
    let untraced = vec!["malloc (it jumps through a table or a pointer) in /srv/app".to_owned()];
    let text = text(Recorded { exact: false, untraced, ..empty() });
    let first = text.lines().next().unwrap();
    assert!(
        first.contains(
            "; NOT TRACED: malloc (it jumps through a table or a pointer) in /srv/app; otherwise every"
        ),
        "{text}"
    );
    assert!(
        text.contains("Outstanding (of what was seen): 0 B") && text.contains("the rest is unknown"),
        "{text}"
    );
    assert!(!text.contains("Nothing allocated since"), "{text}");
    let refused = self::text(Recorded { exact: false, ..empty() });
    assert!(
        refused.lines().next().unwrap().contains("NOT EVERYTHING IS TRACED (see the notes)"),
        "{refused}"
    );
}

#[test]
fn what_a_leak_check_found() {
    let text = text(checked());
    for line in [
        "Leak check: LOST 31 KiB in 31 of 34 blocks checked, 33 not yet: nothing in the process leads to them (3 scans while it ran, \
         20 MiB read in 120 ms)",
        "    LOST 31 KiB, leading to 30 KiB of lost blocks here or in other stacks: nothing in the process points to 1 of 40 blocks, and only lost blocks to \
         30 more (three scans)",
        "    2 of 40 blocks possibly lost (2 KiB): only a pointer to the middle of a block leads to them",
        "    held by g_registry (api-server), 3 steps, 97 % of 512 blocks looked at",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("SUMMARY"));
}

#[test]
fn the_end_of_a_command_has_valgrinds_summary() {
    let report = checked();
    let check = report.leak_check.map(|check| LeakCheck { moment: Moment::AtExit, ..check });
    let mut report = Recorded { leak_check: check, ..report };
    let said = text(report.clone());
    let summary = "\nLEAK SUMMARY of api-server (pid 4123):\n   definitely lost: 1,024 bytes in 1 blocks\n   indirectly lost: 30,720 bytes in 30 blocks\n     \
                   possibly lost: 2,048 bytes in 2 blocks\n   still reachable: 640 bytes in 1 blocks\n        suppressed: 0 bytes in 0 \
                   blocks\n";
    assert!(said.contains(summary), "{said}");
    // What it started is traced, but not checked.
    report.remarks.push(Remark::CheckedAlone { pid: 4123, others: 2 });
    let said = text(report.clone());
    let head =
        "\nLEAK SUMMARY of api-server (pid 4123) alone (2 processes that it started were not checked):\n";
    assert!(said.contains(head), "{said}");
    // Of several together, or unknown.
    report.leak_check = report.leak_check.map(|check| LeakCheck { pid: None, ..check });
    assert!(text(report).contains("\nLEAK SUMMARY:\n"));
}

/// What was lost before tracing began is said apart, with who loses blocks of that size now.
#[test]
fn what_was_lost_before() {
    let mut report = checked();
    let sizes = [(1032, 7), (200, 3), (1 << 20, 0)];
    let before = crate::profile::Before::new(90, sizes);
    report.leak_check = report.leak_check.map(|check| LeakCheck { before: Some(before), ..check });
    if let Some(leaked) = report.stacks[0].leaked.as_mut() {
        leaked.lost = super::amount(2048, 2);
    }
    let said = text(report.clone());
    let line = said.lines().find(|line| line.starts_with("From before"));
    let sizes = "7 x 1,032 B, the size that handle loses now; 3 x 200 B (memtrace scan shows more)";
    let whole = format!("From before tracing began: LOST 7.6 KiB in 10 of 90 blocks: {sizes}");
    assert_eq!(line, Some(whole.as_str()));
    report.leak_check = report.leak_check.map(|check| LeakCheck { before: None, ..check });
    assert!(!text(report).contains("From before"));
}

#[test]
fn the_header_says_which_marks_the_figures_are_limited_to() {
    let header = |report: &Recorded| text(report.clone()).lines().next().unwrap_or_default().to_owned();
    let two = marked();
    let expected = ", ONLY WHAT WAS ALLOCATED BETWEEN MARK 1 AND MARK 2 (4.0 s and 2.0 s ago) (allocations were seen 50 % of that time)";
    assert!(header(&two).contains(expected), "{}", header(&two));
    // How many of those were freed is unknown.
    assert!(!text(two.clone()).contains("freed 3 of") && text(report()).contains("freed 3 of"));
    let json: serde_json::Value = serde_json::from_str(&two.written(Json)).unwrap();
    let span =
        serde_json::json!({"from_mark": 1, "from_s": 1.0, "to_mark": 2, "to_s": 3.0, "attached_share": 0.5});
    assert_eq!((&json["span"], &json["marks"][1]), (&span, &serde_json::json!({"number": 2, "at_s": 3.0})));
    let mut one = marked();
    one.marks.last.pop();
    let expected = ", ONLY WHAT WAS ALLOCATED SINCE MARK 1 (4.0 s ago), as there is no second mark yet";
    assert!(header(&one).contains(expected), "{}", header(&one));
    one.marks.last.clear();
    assert!(header(&one).contains(", no mark yet, so everything"), "{}", header(&one));
    let mut all = marked();
    all.marks.since = Since::Start;
    assert!(header(&all).contains(", mark 2 2.0 s ago"), "{}", header(&all));
}
