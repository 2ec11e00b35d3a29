//! Moments that the user marked in a session.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Marks that are kept: the last ones.
const MOST: usize = 64;

/// Which allocations a report is limited to, by the marks of its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Since {
    /// To none: everything since tracing began.
    #[default]
    Start,
    /// To those since the last mark.
    LastMark,
    /// To those between the last two marks; while there is one, to those since it.
    BetweenMarks,
}

/// A moment that was marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its number, from 1.
    pub number: u64,
    /// When it was, since tracing began.
    pub at: Duration,
    /// How much of that time allocations were seen.
    pub seen: Duration,
}

/// The time between two marks, or since one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Mark,
    /// Its end; `None`: it lasts.
    pub to: Option<Mark>,
}

impl Span {
    /// Whether a time since tracing began is in it. The beginning is, the end is not.
    #[must_use]
    pub fn contains(&self, time: Duration) -> bool {
        self.from.at <= time && self.to.is_none_or(|to| time < to.at)
    }
}

/// The marks of a session, and what a report makes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The last ones, the oldest first.
    pub last: Vec<Mark>,
    /// What the report is limited to.
    pub since: Since,
    /// How much of the time since tracing began allocations were seen, up to the report.
    pub seen: Duration,
    /// When the table of live blocks was looked at, since tracing began; `None`: for the report. A live screen does not look
    /// for every picture; what is saved is always looked at.
    #[serde(skip)]
    pub looked: Option<Duration>,
}

impl Marks {
    /// Adds a mark, behind those that exist.
    pub fn add(&mut self, at: Duration, seen: Duration) {
        let number = self.last.last().map_or(1, |last| last.number + 1);
        if self.last.len() >= MOST {
            self.last.remove(0);
        }
        let at = self.last.last().map_or(at, |last| at.max(last.at));
        self.last.push(Mark { number, at, seen });
    }

    /// The time that the report is limited to; `None`: to none, or there is no mark yet.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        match (self.since, self.last.as_slice()) {
            (Since::Start, _) | (_, []) => None,
            (Since::BetweenMarks, [.., from, to]) => Some(Span { from: *from, to: Some(*to) }),
            (_, [.., from]) => Some(Span { from: *from, to: None }),
        }
    }

    /// Whether the table of live blocks was not looked at since the span began, so that nothing is known of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.span().zip(self.looked).is_some_and(|(span, looked)| looked <= span.from.at)
    }

    /// The part of a span in which allocations were seen, 0 to 1; `elapsed`: when the report was made.
    #[must_use]
    pub fn seen(&self, span: &Span, elapsed: Duration) -> f64 {
        let (end, seen) = span.to.map_or((elapsed, self.seen), |to| (to.at, to.seen));
        let whole = end.saturating_sub(span.from.at).as_secs_f64();
        if whole <= 0.0 { 1.0 } else { (seen.saturating_sub(span.from.seen).as_secs_f64() / whole).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MOST, Marks, Since};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn spans_begin_and_end_at_marks() {
        let mut marks = Marks { since: Since::BetweenMarks, ..Marks::default() };
        assert_eq!(marks.span(), None);
        marks.add(seconds(10), seconds(10));
        let span = marks.span().unwrap();
        assert_eq!((span.from.number, span.to), (1, None));
        assert_eq!([9, 10, 99].map(|time| span.contains(seconds(time))), [false, true, true]);
        marks.add(seconds(20), seconds(20));
        let span = marks.span().unwrap();
        assert_eq!([9, 10, 19, 20].map(|time| span.contains(seconds(time))), [false, true, true, false]);
        marks.since = Since::LastMark;
        assert_eq!(marks.span().map(|span| (span.from.number, span.to)), Some((2, None)));
        marks.since = Since::Start;
        assert_eq!(marks.span(), None);
    }

    #[test]
    fn numbers_go_on_when_old_marks_are_dropped() {
        let mut marks = Marks::default();
        (0..=MOST as u64).for_each(|time| marks.add(seconds(time), seconds(time)));
        assert_eq!((marks.last.len(), marks.last[0].number), (MOST, 2));
        // A signal that is handled late is no earlier mark.
        marks.add(seconds(1), seconds(1));
        assert_eq!(marks.last.last().unwrap().at, seconds(MOST as u64));
    }

    #[test]
    fn of_a_span_that_began_after_the_last_look_nothing_is_known() {
        let mut marks = Marks { since: Since::LastMark, ..Marks::default() };
        marks.looked = Some(seconds(9));
        assert!(!marks.is_unknown(), "no mark");
        marks.add(seconds(10), seconds(10));
        assert!(marks.is_unknown());
        marks.looked = Some(seconds(11));
        assert!(!marks.is_unknown());
        marks.looked = None;
        assert!(!marks.is_unknown());
    }

    #[test]
    fn the_part_that_was_seen_is_of_the_span() {
        let mut marks = Marks { since: Since::LastMark, ..Marks::default() };
        marks.add(seconds(10), seconds(2));
        marks.seen = seconds(3);
        assert_eq!(marks.seen(&marks.span().unwrap(), seconds(14)), 0.25);
        assert_eq!(marks.seen(&marks.span().unwrap(), seconds(10)), 1.0);
        marks.add(seconds(20), seconds(7));
        marks.since = Since::BetweenMarks;
        assert_eq!(marks.seen(&marks.span().unwrap(), seconds(99)), 0.5);
    }
}
