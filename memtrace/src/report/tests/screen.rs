//! Pictures of the live screen, as text.

use std::time::Duration;

use super::recorded::Recorded;
use super::verdicts::judged;
use super::{HOSTILE, amount, losses, report};
use crate::profile::{Balance, Grounds, Marks, Parts, Resident, Since, SortBy, Standing, Verdict, View};
use crate::report::screen::{self, Key, Request, State, keys};

const MIB: u64 = 1 << 20;

/// A service that leaks, with a balance.
fn leaking() -> Recorded {
    let rate = |total: f64, blocks: f64| Parts { total, blocks, kept: total - blocks, ..Parts::default() };
    let balance = Balance {
        pid: 4123,
        span: Duration::from_secs(180),
        resident: Resident { anon: 1900 * MIB, ..Resident::default() },
        grown: rate(132.0 * MIB as f64, 126.0 * MIB as f64),
        rate: rate(2.2 * MIB as f64, 2.1 * MIB as f64),
        leaking: 2.0 * MIB as f64,
        standing: Standing::Leak,
        ..Balance::default()
    };
    Recorded { balances: vec![balance], ..judged() }
}

/// The picture of a report of that size, without spaces at the ends of lines.
fn picture(report: &Recorded, state: &mut State, size: (u16, u16)) -> String {
    let (dictionary, profile) = report.profile();
    let selection = state.selection().clone();
    screen::picture(Some(&View::new(&dictionary, &profile, &selection)), state, size)
}

fn state() -> State {
    State::new(SortBy::Verdict)
}

/// As if reports had come before.
fn noted(report: &Recorded) -> State {
    let mut state = state();
    let (_, mut profile) = report.profile();
    for step in 0..40 {
        profile.outstanding.bytes = step * 26_214;
        state.note(&profile);
    }
    state
}

fn press(state: &mut State, text: &str) {
    text.chars().for_each(|c| {
        state.press(Key::Char(c));
    });
}

#[test]
fn a_picture_of_eighty_columns_says_who_leaks_and_how_fast() {
    let report = leaking();
    insta::assert_snapshot!(picture(&report, &mut noted(&report), (80, 24)), @r#"
    api-server (pid 4123), 5.0 s; every allocation counted
    LEAK in handle (4 stacks): it grows by 2 MiB/s, 91 % of the growth
    RSS 1.9 GiB +2.2 MiB/s = blocks +2.1, mapped 0, thread stacks 0, allocator keeps
      +0.1, files and shared 0, unexplained 0
    RSS 1.9 GiB ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 1.9 GiB  blocks 0 B ▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇█ 998.4 KiB
      VERDICT        BYTES             GROWTH  WHO  (sorted by verdict)
    > growing    958.1 KiB   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      growing       64 KiB   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      growing        640 B   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      growing        640 B   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      too early      640 B          -20 KiB/s  /usr/lib/libplugin.so+0x4f0







    1 MiB in 5 stacks
    q:quit ?:help Enter:open s:sort /:filter Space:freeze m:mark t:span w:save
    "#);
}

#[test]
fn a_wide_picture_has_the_blocks_too() {
    let report = leaking();
    insta::assert_snapshot!(picture(&report, &mut noted(&report), (120, 40)), @r#"
    api-server (pid 4123), 5.0 s; every allocation counted
    LEAK in handle (4 stacks): it grows by 2 MiB/s, 91 % of the growth
    RSS 1.9 GiB +2.2 MiB/s = blocks +2.1, mapped 0, thread stacks 0, allocator keeps +0.1, files and shared 0, unexplained 0
    RSS 1.9 GiB ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 1.9 GiB  blocks 0 B ▁▁▁▂▂▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇▇██ 998.4 KiB
      VERDICT        BYTES    BLOCKS             GROWTH  WHO  (sorted by verdict)
    > growing    958.1 KiB         1   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      growing       64 KiB        64   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      growing        640 B         1   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      growing        640 B         1   +12 KiB/s ± 27 %  handle<'_>  src/api.c
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      too early      640 B         1          -20 KiB/s  /usr/lib/libplugin.so+0x4f0
























    1 MiB in 5 stacks
    q quit  ? help  Enter open  s sort  / filter  Space freeze  m mark  t span  w save  c scan
    "#);
}

#[test]
fn an_opened_row_has_frames_and_lifetimes() {
    let report = leaking();
    let mut state = noted(&report);
    picture(&report, &mut state, (80, 24));
    state.press(Key::Enter);
    insta::assert_snapshot!(picture(&report, &mut state, (80, 24)), @r#"
    api-server (pid 4123), 5.0 s; every allocation counted
    LEAK in handle (4 stacks): it grows by 2 MiB/s, 91 % of the growth
    RSS 1.9 GiB +2.2 MiB/s = blocks +2.1, mapped 0, thread stacks 0, allocator keeps
      +0.1, files and shared 0, unexplained 0
    RSS 1.9 GiB ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 1.9 GiB  blocks 0 B ▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇█ 998.4 KiB
    Row 1 of 5
    #1  growing  958.1 KiB in 1 block, +12 KiB/s ± 27 %: handle<'_>  src/api.c
        94 % of the total, oldest 4.2 s, freed 3 of 67 blocks  stack
        1000000000000002
        812 blocks live on at ages from 1.0 s on, at which 2 of 300,002 were freed
      > handle<'_>  src/api.c
        leak_small  src/api.c:42
        main        src/main.c:7
        Freed blocks lived:
             0 ms under 33 ms     ██████████████████████████████ 1,000
            2.1 s under 4.2 s     █                              3






    1 MiB in 5 stacks
    q:quit ?:help Enter:open s:sort /:filter Space:freeze m:mark t:span w:save
    "#);
    // What does not fit is scrolled to.
    let low = picture(&report, &mut state, (80, 12));
    assert!(low.contains("more lines below") && !low.contains("Freed blocks lived"), "{low}");
    state.press(Key::End);
    let end = picture(&report, &mut state, (80, 12));
    assert!(end.contains("and more") || end.contains("under"), "{end}");
    state.press(Key::Escape);
    assert!(picture(&report, &mut state, (80, 24)).contains("VERDICT"));
}

#[test]
fn the_row_that_was_opened_may_be_gone() {
    let report = leaking();
    let mut state = state();
    picture(&report, &mut state, (80, 24));
    state.press(Key::Enter);
    let without = Recorded { stacks: report.stacks[1..].to_vec(), stacks_found: 1, ..report };
    assert!(picture(&without, &mut state, (80, 24)).contains("This row holds nothing any more"));
}

#[test]
fn marks_are_said_above_the_rows() {
    let mut report = leaking();
    let mut state = state();
    assert_eq!(state.press(Key::Char('m')), Request::Mark);
    report.marks = Marks { since: Since::LastMark, ..Marks::default() };
    report.marks.add(Duration::from_secs(3), Duration::from_secs(3));
    report.marks.seen = Duration::from_millis(3400);
    let shown = picture(&report, &mut state, (80, 24));
    let expected = "ONLY WHAT WAS ALLOCATED SINCE MARK 1 (2.0 s ago) (allocations were seen 20 % of";
    assert!(shown.contains(expected), "{shown}");
    // Of blocks that were looked at before, nothing is known but that.
    report.marks.seen = Duration::from_secs(5);
    report.marks.looked = Some(Duration::from_secs(3));
    let unknown = Recorded { stacks: Vec::new(), outstanding: amount(0, 0), ..report.clone() };
    let shown = picture(&unknown, &mut noted(&unknown), (80, 24));
    assert!(shown.contains("SINCE MARK 1 (2.0 s ago), not looked at yet"), "{shown}");
    assert!(shown.contains("What was allocated since the mark was not looked at yet."), "{shown}");
    assert!(
        shown.contains("\nnot looked at yet") && !shown.contains("0 B in") && !shown.contains("blocks 0"),
        "{shown}"
    );
    report.marks.looked = Some(Duration::from_millis(3900));
    let shown = picture(&report, &mut state, (80, 24));
    assert!(shown.contains("SINCE MARK 1 (2.0 s ago), as of 1.1 s ago"), "{shown}");
    report.marks.since = Since::Start;
    let shown = picture(&report, &mut state, (80, 24));
    assert!(shown.contains("mark 1 2.0 s ago") && !shown.contains("ONLY"), "{shown}");
}

#[test]
fn what_is_typed_and_what_became_of_it_is_in_the_last_line() {
    let report = leaking();
    let mut state = state();
    let last =
        |state: &mut State| picture(&report, state, (80, 24)).lines().last().unwrap_or_default().to_owned();
    assert!(last(&mut state).starts_with("q:quit ?:help"));
    press(&mut state, "/leak");
    assert_eq!(last(&mut state), "Show rows with: leak_");
    state.press(Key::Enter);
    let shown = picture(&report, &mut state, (80, 24));
    assert!(shown.contains("filter: leak (Esc: off)") && !shown.contains("libplugin"), "{shown}");
    state.press(Key::Escape);
    assert!(picture(&report, &mut state, (80, 24)).contains("libplugin"));
    press(&mut state, "c");
    assert!(last(&mut state).contains("leak check"));
    press(&mut state, "?");
    assert!(picture(&report, &mut state, (80, 24)).contains("Ctrl-C        quit"));
    press(&mut state, " ");
    assert!(picture(&report, &mut state, (80, 24)).contains("FROZEN"));
}

#[test]
fn losses_and_remarks_are_notes() {
    let report = Recorded { losses: losses(), ..leaking() };
    let mut state = state();
    assert!(picture(&report, &mut state, (80, 24)).contains("notes (n)"));
    press(&mut state, "n");
    let shown = picture(&report, &mut state, (80, 60));
    assert!(shown.contains("Missed: ") && shown.contains("Leak check: none so far"), "{shown}");
}

#[test]
fn of_many_rows_the_selected_one_is_in_the_picture() {
    let mut report = leaking();
    let first = report.stacks[0].clone();
    report.stacks = (0..100)
        .map(|id| {
            let mut row = first.clone();
            (row.id, row.outstanding) = (id, amount(1000 - id, 1));
            let ceased = Grounds::Ceased { ago: Duration::from_secs(9) };
            row.verdict = Some(Verdict { grounds: ceased, trend: None, lifetimes: None });
            row
        })
        .collect();
    report.stacks_found = 100;
    let mut state = state();
    let selected = |state: &mut State| {
        let shown = picture(&report, state, (80, 24));
        let line = shown.lines().find(|line| line.starts_with("> ")).unwrap_or_default().to_owned();
        (line.contains(" B "), line, shown)
    };
    assert!(selected(&mut state).1.contains("1000 B"));
    state.press(Key::End);
    let (_, line, shown) = selected(&mut state);
    assert!(line.contains("901 B"), "{shown}");
    state.press(Key::PageUp);
    state.press(Key::PageUp);
    let (has_one, _, shown) = selected(&mut state);
    assert!(has_one && shown.contains("rows below"), "{shown}");
    state.press(Key::Home);
    assert!(selected(&mut state).1.contains("1000 B"));
}

#[test]
fn no_size_and_no_key_is_too_much() {
    let report = Recorded { losses: losses(), ..leaking() };
    let all = keys(b"\x1b[B\r\x1b[F\x1bn\x1b[F?\x1b[5~\x1b/abc\rs\r\x1bs\x1b[6~ w\x15x\x1bmt ff");
    for width in [0, 1, 2, 3, 7, 20, 39, 59, 60, 80, 200] {
        for height in [0, 1, 2, 3, 5, 8, 24, 60] {
            let mut state = noted(&report);
            screen::picture(None, &mut state, (width, height));
            for key in &all {
                picture(&report, &mut state, (width, height));
                state.press(*key);
            }
        }
    }
}

#[test]
fn names_cannot_control_the_terminal() {
    let mut hostile = leaking();
    hostile.comm = HOSTILE.to_owned();
    for frame in &mut hostile.stacks[0].frames {
        (frame.function, frame.file) = (Some(HOSTILE.to_owned()), Some(HOSTILE.to_owned()));
        frame.module = HOSTILE.to_owned();
    }
    let mut state = state();
    let list = picture(&hostile, &mut state, (200, 60));
    state.press(Key::Enter);
    let row = picture(&hostile, &mut state, (200, 60));
    press(&mut state, "f");
    let full = picture(&hostile, &mut state, (200, 60));
    for shown in [list, row, full] {
        assert!(shown.contains("evil\\x1b"), "{shown}");
        let bad = |c: &char| c.is_control() && *c != '\n' || ['\u{202e}', '\u{2066}', '\u{2028}'].contains(c);
        assert_eq!(shown.chars().find(bad), None);
    }
}

#[test]
fn an_ordinary_report_without_a_balance_has_a_picture_too() {
    let shown = picture(&report(), &mut state(), (80, 24));
    assert!(shown.contains("api-server (pid 4123)") && shown.contains("handle<'_>"), "{shown}");
}
