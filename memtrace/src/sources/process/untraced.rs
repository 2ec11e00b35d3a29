//! What could not be attached to: said in every report, and tried again.

use std::{path::PathBuf, time::Duration};

use crate::profile::Remark;

/// How often an attach is tried in all. What is refused so often stays refused, and each try costs the target.
const MAX_TRIES: u32 = 10;
/// The time before the second; each waits twice as long as the one before, 102 s in all.
const PAUSE: Duration = Duration::from_millis(200);

/// What one attach was to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The allocator in one file.
    File(PathBuf),
    /// Everything that was probed before a pause.
    All,
}

/// An attach that was refused at least once.
#[derive(Clone, Debug)]
struct Attempt {
    part: Part,
    /// What readers call it.
    name: String,
    error: String,
    tries: u32,
    /// When to try again, since the start of tracing.
    next: Duration,
    /// When it succeeded at last, since the start of tracing.
    since: Option<Duration>,
}

/// The failed attaches of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Untraced(Vec<Attempt>);

impl Untraced {
    /// Notes a failure at that time since the start of tracing.
    pub(super) fn failed(&mut self, part: Part, name: &str, error: &anyhow::Error, now: Duration) {
        let error = format!("{error:#}");
        match self.0.iter_mut().find(|attempt| attempt.part == part) {
            Some(attempt) => {
                // After a success another pause may have come: it is tried as often again.
                attempt.tries = if attempt.since.take().is_some() { 1 } else { attempt.tries + 1 };
                attempt.error = error;
                attempt.next = now + PAUSE * (1 << (attempt.tries.min(MAX_TRIES) - 1));
            }
            None => {
                let (name, next) = (name.to_owned(), now + PAUSE);
                self.0.push(Attempt { part, name, error, tries: 1, next, since: None });
            }
        }
    }

    /// Notes a success at that time since the start of tracing, if there was a failure before.
    pub(super) fn succeeded(&mut self, part: &Part, now: Duration) {
        for attempt in self.0.iter_mut().filter(|attempt| attempt.part == *part) {
            attempt.since.get_or_insert(now);
        }
    }

    /// Whether something is known of a part.
    pub(super) fn knows(&self, part: &Part) -> bool {
        self.0.iter().any(|attempt| attempt.part == *part)
    }

    /// What is to be tried again.
    pub(super) fn due(&self, now: Duration) -> impl Iterator<Item = &Part> {
        let due = move |attempt: &&Attempt| {
            attempt.since.is_none() && attempt.tries < MAX_TRIES && attempt.next <= now
        };
        self.0.iter().filter(due).map(|attempt| &attempt.part)
    }

    /// Another program: its files are told anew. `released`: nothing of what was probed before is needed any more. Returns
    /// the files that are not probed.
    pub(super) fn begin_again(&mut self, released: bool) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.0.retain(|attempt| match &attempt.part {
            Part::File(path) => {
                if attempt.since.is_none() {
                    files.push(path.clone());
                }
                false
            }
            Part::All => !released,
        });
        files
    }

    /// What readers are told; `started`: when the clock of the reports began.
    pub(super) fn remarks(&self, pid: u32, started: Duration) -> impl Iterator<Item = Remark> {
        self.0.iter().map(move |Attempt { name, error, tries, since, .. }| {
            let (what, error) = (name.clone(), error.clone());
            match since {
                Some(since) => {
                    Remark::AttachedLate { pid, what, error, since: since.saturating_sub(started) }
                }
                None => {
                    Remark::AttachRefused { pid, what, error, tries: *tries, retried: *tries < MAX_TRIES }
                }
            }
        })
    }

    /// Whether something is not attached.
    pub(super) fn is_any(&self) -> bool {
        self.0.iter().any(|attempt| attempt.since.is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;

    use super::{MAX_TRIES, PAUSE, Part, Remark, Untraced};

    const LATER: Duration = Duration::from_secs(9);

    fn said(untraced: &Untraced) -> Vec<Remark> {
        untraced.remarks(7, Duration::from_secs(1)).collect()
    }

    fn refused(error: &str, tries: u32, retried: bool) -> Remark {
        Remark::AttachRefused {
            pid: 7,
            what: "the allocator".to_owned(),
            error: error.to_owned(),
            tries,
            retried,
        }
    }

    #[test]
    fn failures_are_tried_again_but_not_for_ever() {
        let mut untraced = Untraced::default();
        let mut now = Duration::from_secs(1);
        for tries in 1..=MAX_TRIES {
            untraced.failed(Part::All, "the allocator", &anyhow!("busy"), now);
            assert_eq!(untraced.due(now).count(), 0);
            now += PAUSE * (1 << (tries - 1));
            assert_eq!(untraced.due(now).count(), usize::from(tries < MAX_TRIES));
        }
        assert_eq!(said(&untraced), [refused("busy", MAX_TRIES, false)]);
    }

    #[test]
    fn another_program_has_other_files() {
        let mut untraced = Untraced::default();
        let file = |name: &str| Part::File(name.into());
        for part in [file("a"), file("b"), Part::All] {
            untraced.failed(part, "the allocator", &anyhow!("busy"), Duration::ZERO);
        }
        untraced.succeeded(&file("b"), Duration::from_secs(2));
        assert_eq!(untraced.begin_again(false), [std::path::Path::new("a")]);
        assert_eq!(untraced.due(LATER).collect::<Vec<_>>(), [&Part::All]);
        untraced.begin_again(true);
        assert!(said(&untraced).is_empty());
    }

    #[test]
    fn a_success_is_said_and_a_failure_after_it_is_another() {
        let mut untraced = Untraced::default();
        untraced.succeeded(&Part::All, Duration::from_secs(2));
        assert!(said(&untraced).is_empty());
        untraced.failed(Part::All, "the allocator", &anyhow!("busy"), Duration::ZERO);
        untraced.succeeded(&Part::All, Duration::from_secs(3));
        untraced.succeeded(&Part::All, LATER);
        let late = Remark::AttachedLate {
            pid: 7,
            what: "the allocator".to_owned(),
            error: "busy".to_owned(),
            since: Duration::from_secs(2),
        };
        assert_eq!((said(&untraced), untraced.is_any()), (vec![late], false));
        assert_eq!(untraced.due(LATER).count(), 0);
        untraced.failed(Part::All, "the allocator", &anyhow!("full"), Duration::ZERO);
        assert_eq!(untraced.due(LATER).count(), 1);
        assert_eq!(said(&untraced), [refused("full", 1, true)]);
    }
}
