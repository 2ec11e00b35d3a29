//! The marks of a session, and the span of time that its reports are limited to.

use std::time::Duration;

use memtrace_common::TIME_SHIFT;

use crate::profile::{Marks, Since, Span};

/// Block times are up to two ticks early: a block that is allocated right behind a mark is not to be missed.
const TOLERANCE: Duration = Duration::from_nanos(2 << TIME_SHIFT);

/// The marks of a session.
#[derive(Debug, Default)]
pub(super) struct Marked {
    marks: Marks,
    span: Option<Span>,
    /// The last mark when a report was made last.
    reported: u64,
    has_begun: bool,
}

impl Marked {
    /// Marks a moment; `seen`: how much of the time until then allocations were seen.
    pub(super) fn add(&mut self, at: Duration, seen: Duration) {
        self.marks.add(at, seen);
    }

    /// Limits further reports. If they show another span from now on, or all the time again, returns when that began, since
    /// tracing began.
    pub(super) fn limit_to(&mut self, since: Since) -> Option<Duration> {
        self.marks.since = since;
        let span = self.marks.span();
        let is_new = span != self.span;
        self.span = span;
        let last = self.marks.last.last().map_or(0, |mark| mark.number);
        self.has_begun = span.is_some_and(|span| span.to.is_none() && span.from.number > self.reported);
        self.reported = last;
        is_new.then(|| span.map_or(Duration::ZERO, |span| span.from.at))
    }

    /// Whether what is shown began since the report before: next to nothing can be found of it.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether not all blocks are shown.
    pub(super) fn is_limited(&self) -> bool {
        self.span.is_some()
    }

    /// Whether a block with this time, since tracing began, is shown.
    pub(super) fn shows(&self, time: Duration) -> bool {
        self.span.is_none_or(|span| span.contains(time + TOLERANCE))
    }

    /// For a report; `seen`: how much of the time allocations were seen up to now; `looked`: when blocks were looked at, if not
    /// for this report.
    pub(super) fn marks(&self, seen: Duration, looked: Option<Duration>) -> Marks {
        let begin = self.span.filter(|_| self.has_begun).map(|span| span.from.at);
        let looked = looked.map(|at| begin.unwrap_or(at));
        Marks { seen, looked, ..self.marks.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Marked, Since};

    #[test]
    fn another_span_is_told_once() {
        let seconds = Duration::from_secs;
        let mut marked = Marked::default();
        assert_eq!(marked.limit_to(Since::LastMark), None, "no mark yet");
        assert!(!marked.is_limited() && marked.shows(seconds(1)));
        marked.add(seconds(5), seconds(5));
        assert_eq!(marked.limit_to(Since::LastMark), Some(seconds(5)));
        // A look at this moment finds nothing.
        assert!(marked.has_begun() && marked.marks(seconds(6), Some(seconds(6))).is_unknown());
        assert_eq!(marked.limit_to(Since::LastMark), None);
        assert!(!marked.has_begun() && !marked.marks(seconds(6), Some(seconds(6))).is_unknown());
        assert!(marked.is_limited() && !marked.shows(seconds(4)) && marked.shows(seconds(5)));
        // The clock of blocks is coarse.
        assert!(marked.shows(seconds(5) - Duration::from_millis(8)));
        assert_eq!(marked.limit_to(Since::Start), Some(Duration::ZERO));
        assert!(marked.shows(seconds(1)));
        // What came since an earlier mark can be found.
        assert!(marked.limit_to(Since::LastMark).is_some() && !marked.has_begun());
    }
}
