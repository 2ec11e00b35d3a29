//! How processes ended: by which signal, and whether the OOM killer sent it.

use std::time::Duration;

use super::ENDS;
use crate::{
    analysis::triage,
    kernel::machine,
    model::cgroup::is_inside,
    profile::{
        OutOfMemory, RanOut, Remark,
        machine::{Constraint, KernelEvent, OomKill},
    },
    sources::process::session::Session,
};

/// Parts of an exit status in the form of `wait` (2).
const SIGNAL: u32 = 0x7f;
const CORE: u32 = 0x80;
const SIGKILL: u32 = libc::SIGKILL as u32;
/// Victims and deaths that wait to be explained. Each of a group of processes may be killed at once.
const PENDING: usize = 64;
/// The log has its own clock: so far may it be from that of events.
const CLOCKS: Duration = Duration::from_secs(60);
/// How long the log may take to have what has happened.
const LATE: Duration = Duration::from_secs(1);
/// The log is read again after this time for the last report, and so often.
const PAUSE: Duration = Duration::from_millis(10);
const READS: u32 = 5;

/// Someone whom the OOM killer has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    /// Index of the target; `None`: it is not traced.
    index: Option<u32>,
    /// Pid in the initial namespace; 0: unknown.
    pid: u32,
    /// `CLOCK_MONOTONIC`, and since tracing began.
    ktime: Duration,
    at: Duration,
}

/// A target that a signal has ended.
#[derive(Clone, Debug)]
pub(super) struct Death {
    index: u32,
    pid: u32,
    comm: String,
    ktime: Duration,
    at: Duration,
    signal: u32,
    core: bool,
}

impl Session {
    /// A thread of a target has ended with that status.
    pub(in crate::sources::process) fn take_end(&mut self, index: u32, status: u32, time: u64) {
        let signal = status & SIGNAL;
        let Some(target) = self.targets.iter().find(|target| target.index == index).filter(|_| signal != 0)
        else {
            return;
        };
        let pid = target.pid().get();
        let core = status & CORE != 0;
        if let Some(death) = self.black_box.deaths.iter_mut().find(|death| death.pid == pid) {
            death.core |= core;
            return;
        }
        let is_told = |remark: &Remark| matches!(remark, Remark::Killed { pid: of, .. } if *of == pid);
        if self.remarks.iter().any(is_told) || self.black_box.deaths.len() >= PENDING {
            return;
        }
        let at = self.tracer.since_start(time).saturating_sub(self.started);
        let (comm, ktime) = (target.process.comm.clone(), Duration::from_nanos(time));
        self.black_box.deaths.push(Death { index, pid, comm, ktime, at, signal, core });
    }

    /// The OOM killer has chosen a process. If it is a target, its memory will be taken away before it ends: it is no longer
    /// scanned, nor held at its end.
    pub(in crate::sources::process) fn take_victim(&mut self, index: Option<u32>, pid: u32, time: u64) {
        let target = self.targets.iter().find(|target| Some(target.index) == index);
        if let Some(pid) = target.map(|target| target.pid().get()) {
            if self.black_box.reaped.len() >= PENDING {
                self.black_box.reaped.remove(0);
            }
            self.black_box.reaped.push(pid);
            self.release_reaped(pid);
        }
        if self.black_box.victims.len() < PENDING {
            let at = self.tracer.since_start(time).saturating_sub(self.started);
            let ktime = Duration::from_nanos(time);
            self.black_box.victims.push(Victim { index, pid, ktime, at });
        }
    }

    /// Asks for a report if one of several processes was killed. If it was the only one, there is a last report anyway.
    pub(super) fn ask_for_ends(&mut self, now: Duration) {
        let is_alive = |pid: u32| {
            self.targets.iter().any(|target| target.pid().get() == pid && !target.process.has_exited())
        };
        let has_ended = self.black_box.deaths.iter().any(|death| !is_alive(death.pid));
        if has_ended && self.processes().any(|process| !process.has_exited()) {
            self.black_box.ask(now);
        }
    }

    /// Explains the ends that are not explained yet, for a report. A signal may end a single thread (seccomp): then the process
    /// lives.
    pub(in crate::sources::process) fn settle_ends(&mut self, last: bool) {
        let is_alive = |death: &mut Death| {
            self.targets.iter().any(|target| target.pid().get() == death.pid && !target.process.has_exited())
        };
        let ended: Vec<Death> = self.black_box.deaths.extract_if(.., |death| !is_alive(death)).collect();
        for death in ended {
            let at = self.black_box.victims.iter().position(|victim| victim.index == Some(death.index));
            let victim = at.map(|at| self.black_box.victims.swap_remove(at));
            let out_of_memory = if death.signal == SIGKILL { self.explain(&death, victim) } else { None };
            let Death { pid, comm, at, signal, core, .. } = death;
            self.add_end(Remark::Killed { pid, comm, at, signal, core, out_of_memory });
        }
        if last {
            self.settle_others(Duration::MAX);
        }
    }

    /// Whether the OOM killer has ended it, and what the kernel's log says of that.
    fn explain(&self, death: &Death, victim: Option<Victim>) -> Option<OutOfMemory> {
        let pid = match victim {
            Some(victim) => victim.pid,
            // In a namespace of its own, this process knows other numbers.
            None if self.tracer.shares_pids() => death.pid,
            None => return None,
        };
        let ktime = victim.map_or(death.ktime, |victim| victim.ktime);
        let reads = if victim.is_some() { READS } else { 1 };
        for read in 0..reads {
            if read > 0 {
                std::thread::sleep(PAUSE);
            }
            let Some(kills) = kills() else { break };
            if let Some(kill) = find(&kills, pid, ktime) {
                return Some(out_of_memory(kill));
            }
        }
        victim.map(|_| OutOfMemory::default())
    }

    /// Explains kills of other processes. Their targets' own wait for their end.
    pub(super) fn settle_victims(&mut self, now: Duration) {
        if self.black_box.victims.iter().any(|victim| victim.index.is_none()) {
            self.settle_others(now.saturating_sub(self.started));
        }
    }

    /// `now`: since tracing began; what the log does not have for long is told without it.
    fn settle_others(&mut self, now: Duration) {
        let others: Vec<Victim> =
            self.black_box.victims.extract_if(.., |victim| victim.index.is_none()).collect();
        if others.is_empty() {
            return;
        }
        let kills = kills().unwrap_or_default();
        for victim in others {
            let (comm, out_of_memory) = match find(&kills, victim.pid, victim.ktime) {
                Some(kill) => (kill.killed.comm.clone(), out_of_memory(kill)),
                None if now.saturating_sub(victim.at) < LATE => {
                    self.black_box.victims.push(victim);
                    continue;
                }
                None => (String::new(), OutOfMemory::default()),
            };
            if self.concerns(&out_of_memory) {
                let (pid, at) = (victim.pid, victim.at);
                self.add_end(Remark::AnotherKilled { pid, comm, at, out_of_memory });
                if self.options.early {
                    let elapsed = self.tracer.elapsed();
                    self.black_box.ask(elapsed);
                }
            }
        }
    }

    /// Whether what ran out is also the targets'.
    fn concerns(&self, out_of_memory: &OutOfMemory) -> bool {
        match &out_of_memory.cgroup {
            Some(path) => self.black_box.groups.iter().any(|group| is_inside(&group.name, path)),
            None => true,
        }
    }

    /// Adds a remark to all further reports; of many, the latest stay.
    fn add_end(&mut self, remark: Remark) {
        let is_end = |remark: &Remark| matches!(remark, Remark::Killed { .. } | Remark::AnotherKilled { .. });
        if self.remarks.iter().filter(|remark| is_end(remark)).count() >= ENDS
            && let Some(first) = self.remarks.iter().position(is_end)
        {
            self.remarks.remove(first);
        }
        self.remarks.push(remark);
    }
}

/// The kills in the kernel's log; `None` if it cannot be read.
fn kills() -> Option<Vec<OomKill>> {
    let (lines, _) = machine::read_log(machine::log_path())?;
    let kill = |event| match event {
        KernelEvent::Kill(kill) => Some(*kill),
        KernelEvent::Failure { .. } => None,
    };
    Some(triage::events(&lines).0.into_iter().filter_map(kill).collect())
}

/// The kill of a process at about that time: its pid may have been another's before.
fn find(kills: &[OomKill], pid: u32, ktime: Duration) -> Option<&OomKill> {
    kills.iter().rev().find(|kill| kill.killed.pid == pid && kill.at.abs_diff(ktime) <= CLOCKS)
}

fn out_of_memory(kill: &OomKill) -> OutOfMemory {
    let (constraint, cgroup) = match &kill.constraint {
        Constraint::Machine => (RanOut::Machine, None),
        Constraint::Cgroup(path) => (RanOut::Cgroup, (!path.is_empty()).then(|| path.clone())),
        Constraint::Nodes => (RanOut::Nodes, None),
    };
    OutOfMemory {
        constraint,
        cgroup,
        limit_bytes: kill.limit,
        rss_bytes: Some(kill.killed.rss()),
        anon_bytes: Some(kill.killed.anon),
        shmem_bytes: kill.shmem,
    }
}
