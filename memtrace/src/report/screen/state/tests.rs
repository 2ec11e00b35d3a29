//! Keys, and what they do.

use super::{Input, Key, Page, Request, RowKey, Since, SortBy, State};

fn state() -> State {
    let mut state = State::new(SortBy::Verdict);
    state.rows = (0..10).map(|id| RowKey { is_mapping: false, id, pid: 1 }).collect();
    state.room = 5;
    state
}

fn pressed(state: &mut State, text: &str) -> Vec<Request> {
    text.chars().map(|c| state.press(if c == '\n' { Key::Enter } else { Key::Char(c) })).collect()
}

#[test]
fn the_cursor_stays_with_its_row_and_within_the_rows() {
    let mut state = state();
    let at = |state: &State| state.cursor.map(|row| row.id);
    for (key, row) in [(Key::Up, 0), (Key::Down, 1), (Key::PageDown, 5), (Key::End, 9), (Key::Down, 9)] {
        assert_eq!(state.press(key), Request::Redraw);
        assert_eq!(at(&state), Some(row), "{key:?}");
    }
    state.rows.reverse();
    state.press(Key::Down);
    assert_eq!(at(&state), Some(8));
    state.press(Key::Home);
    assert_eq!(at(&state), Some(9));
    state.rows.clear();
    state.press(Key::End);
    assert_eq!(at(&state), None);
    state.press(Key::Enter);
    assert_eq!(state.page, Page::Rows);
}

#[test]
fn a_row_is_opened_and_left() {
    let mut state = state();
    state.press(Key::Down);
    state.press(Key::Enter);
    assert!(matches!(state.page, Page::Row(row) if row.id == 1));
    state.below = 3;
    state.press(Key::End);
    assert_eq!(state.scroll, 3);
    state.press(Key::Escape);
    assert_eq!((state.page, state.scroll), (Page::Rows, 0));
    pressed(&mut state, "?n");
    assert_eq!(state.page, Page::Notes);
    pressed(&mut state, "n");
    assert_eq!(state.page, Page::Rows);
}

#[test]
fn a_filter_is_typed_and_taken_back() {
    let mut state = state();
    assert!(pressed(&mut state, "/lq").iter().all(|request| *request == Request::Redraw));
    state.press(Key::Backspace);
    assert_eq!(state.input, Some(Input::Filter("l".to_owned())));
    assert!(!state.needs_names());
    assert_eq!(state.press(Key::Enter), Request::Report);
    assert_eq!((state.selection.containing.as_deref(), state.needs_names()), (Some("l"), true));
    assert_eq!(state.press(Key::Escape), Request::Report);
    assert_eq!((state.selection.containing.as_deref(), state.needs_names()), (None, false));
    pressed(&mut state, "/x");
    state.press(Key::Escape);
    assert_eq!((state.input, state.selection.containing), (None, None));
}

#[test]
fn orders_follow_each_other() {
    let mut state = state();
    let orders: Vec<&str> = (0..7)
        .map(|_| {
            assert_eq!(state.press(Key::Char('s')), Request::Report);
            state.order()
        })
        .collect();
    assert_eq!(orders, ["bytes", "blocks", "growth", "age", "lost", "verdict", "bytes"]);
}

#[test]
fn marks_limit_what_is_shown_unless_the_screen_is_frozen() {
    let mut state = state();
    assert_eq!(pressed(&mut state, "m"), [Request::Mark]);
    assert_eq!(state.since(), Since::LastMark);
    assert_eq!(pressed(&mut state, "tt"), [Request::Report, Request::Report]);
    assert_eq!(state.since(), Since::Start);
    assert_eq!(
        pressed(&mut state, " mts"),
        [Request::Report, Request::Redraw, Request::Redraw, Request::Redraw]
    );
    assert!(state.is_frozen() && state.since() == Since::Start);
    assert_eq!(pressed(&mut state, " "), [Request::Report]);
    assert!(!state.is_frozen());
}

#[test]
fn a_file_is_proposed_and_can_be_changed() {
    let mut state = state();
    state.file = "a.mt".to_owned();
    assert_eq!(pressed(&mut state, "w\n").last(), Some(&Request::Save("a.mt".to_owned())));
    pressed(&mut state, "w");
    state.press(Key::Control('u'));
    assert_eq!(state.press(Key::Enter), Request::Redraw);
    pressed(&mut state, "w");
    state.press(Key::Control('u'));
    assert_eq!(pressed(&mut state, "q.mt\n").last(), Some(&Request::Save("q.mt".to_owned())));
    assert_eq!(pressed(&mut state, "cq"), [Request::Scan, Request::Quit]);
    assert_eq!(state.press(Key::Control('c')), Request::Quit);
}
