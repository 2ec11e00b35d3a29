//! The black box: a report while there is time before memory runs out, and how processes ended.

mod endings;
mod signs;

use std::time::Duration;

use self::{
    endings::{Death, Victim},
    signs::Group,
};
use crate::{kernel::Pressure, profile::Remark};

/// Remarks on ends that are kept: the latest.
const ENDS: usize = 32;
/// Time between two reports because a process was killed.
const LEAST: Duration = Duration::from_secs(5);

/// What a session keeps for it.
#[derive(Default)]
pub(super) struct BlackBox {
    groups: Vec<Group>,
    /// When the groups were determined.
    grouped: Option<Duration>,
    machine: Option<Pressure>,
    /// A sign whose leak check is under way.
    announced: Option<Remark>,
    /// A sign that the next report is to have.
    ready: Option<Remark>,
    /// Whom the OOM killer has taken, until the kernel's log says more.
    victims: Vec<Victim>,
    /// What signals have ended, until it is known why.
    deaths: Vec<Death>,
    /// Pids of targets whose memory the OOM killer takes away while they end.
    reaped: Vec<u32>,
    /// When a report was last asked for because a process was killed.
    asked: Option<Duration>,
    /// Whether memtrace's own memory is locked, since the first sign.
    is_locked: bool,
    /// Whether a report is wanted now.
    is_wanted: bool,
}

impl BlackBox {
    /// Whether a report is wanted out of turn; asking again gives no.
    pub(super) fn wants_report(&mut self) -> bool {
        std::mem::take(&mut self.is_wanted)
    }

    /// The leak check that a sign began has ended.
    pub(super) fn has_checked(&mut self) {
        if let Some(sign) = self.announced.take() {
            self.ready = Some(sign);
            self.is_wanted = true;
        }
    }

    /// The sign for a report; the last one has it without its leak check, too.
    pub(super) fn sign(&mut self, last: bool) -> Option<Remark> {
        let announced = if last { self.announced.take() } else { None };
        self.ready.take().or(announced)
    }

    /// Whether the memory of a process is being taken away: what is missing there is no proof of anything.
    pub(super) fn is_reaped(&self, pid: u32) -> bool {
        self.reaped.contains(&pid)
    }

    /// Asks for a report because a process was killed, unless there was one just now.
    fn ask(&mut self, now: Duration) {
        if self.asked.is_none_or(|asked| now.saturating_sub(asked) >= LEAST) {
            self.asked = Some(now);
            self.is_wanted = true;
        }
    }
}
