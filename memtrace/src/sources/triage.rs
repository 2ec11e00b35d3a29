//! The memory of the machine, looked at twice, and closer where something grew.

use std::{io, thread, time::Duration};

use crate::{
    analysis::triage::{Closer, Interval, events, triage},
    kernel::machine::{Roots, log_path, queues, ranges, read, read_log, slow_reports},
    profile::machine::{KernelLog, Missing, Snapshot, Triage},
};

/// Looks at the machine again and again.
#[derive(Debug)]
pub struct Observer {
    roots: Roots,
    before: Snapshot,
}

impl Observer {
    /// Looks for the first time.
    ///
    /// # Errors
    /// /proc/meminfo cannot be read.
    pub fn new() -> io::Result<Self> {
        let roots = Roots::default();
        let before = look(&roots)?;
        Ok(Self { roots, before })
    }

    /// Waits, looks again, and says what has changed since the time before.
    ///
    /// # Errors
    /// As [`Observer::new`].
    pub fn after(&mut self, interval: Duration) -> io::Result<Triage> {
        thread::sleep(interval);
        let mut now = look(&self.roots)?;
        let mut closer = Closer::default();
        let pair = Interval { before: &self.before, now: &now };
        if pair.wants_queues() {
            closer.queues = queues(&self.roots, &now.processes);
        }
        for owner in pair.suspects() {
            let ranges = ranges(&self.roots, owner.pid);
            closer.ranges.push((owner, ranges));
        }
        match read_log(log_path()) {
            Some((lines, is_cut)) => {
                let (events, left_out) = events(&lines);
                let slow = slow_reports(&self.roots, now.processes.len() as u64);
                closer.log = KernelLog { events, left_out, is_cut, slow };
            }
            None => now.missing.push(Missing::Log),
        }
        let found = triage(&self.before, now, closer);
        self.before.clone_from(&found.now);
        Ok(found)
    }
}

/// The machine without this process, which is gone soon.
fn look(roots: &Roots) -> io::Result<Snapshot> {
    let mut snapshot = read(roots)?;
    snapshot.processes.retain(|process| process.owner.pid != std::process::id());
    Ok(snapshot)
}
