//! Early signs: what the cgroups of the processes and the machine have left.

use std::time::Duration;

use crate::{
    analysis::early::{Reading, Signs},
    kernel::{CgroupLimit, MemoryCgroup, Pressure, machine_used},
    model::cgroup::is_inside,
    profile::{Remark, Sign},
    session::Step,
    sources::process::session::Session,
    target::{stay_in_memory, usage},
};

/// Cgroups that are looked at.
const MOST: usize = 16;
/// Processes may be moved to another cgroup, and limits changed: both are looked up so often.
const RENEWED: Duration = Duration::from_secs(10);
/// Time between two looks while there is nothing to look at.
const SELDOM: Duration = Duration::from_secs(1);
/// The machine's memory is near its end from this share on: a part of the page cache is always thought to be available.
const MACHINE: f64 = 0.95;

/// The processes of one cgroup.
pub(super) struct Group {
    /// The path of the cgroup; empty without one.
    pub(super) name: String,
    /// Indices and pids.
    members: Vec<(u32, u32)>,
    cgroup: Option<MemoryCgroup>,
    limits: Vec<CgroupLimit>,
    pressure: Option<Pressure>,
    signs: Signs,
}

/// The limit of which least is left.
#[derive(Default)]
struct Nearest {
    used: Option<f64>,
    /// `None`: the machine's memory.
    cgroup: Option<String>,
    limit_bytes: Option<u64>,
    /// The cgroup whose tasks wait; `None`: none, or those of the machine do.
    pressure_of: Option<String>,
}

impl Group {
    fn read(&mut self, machine: Option<f64>, pressed: bool) -> (Reading, Nearest) {
        let machine = machine.filter(|used| *used >= MACHINE);
        let mut nearest = Nearest { used: machine, ..Nearest::default() };
        let is_high = self.pressure.as_mut().is_some_and(Pressure::is_high);
        let own = self.pressure.as_ref().filter(|_| is_high);
        let pressed = pressed || is_high;
        let mut reading = Reading { pressed, ..Reading::default() };
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        for limit in self.limits.iter().filter(|limit| limit.bytes > 0) {
            let Some(cgroup) = &self.cgroup else { break };
            let Some(usage) = cgroup.usage_of(limit) else { continue };
            let used = usage.held() as f64 / limit.bytes as f64;
            let events = cgroup.events_of(limit);
            if limit.slows {
                reading.high = sum(reading.high, events.high);
                reading.used_of_high = reading.used_of_high.map_or(Some(used), |known| Some(known.max(used)));
                continue;
            }
            reading.max = sum(reading.max, events.max);
            if nearest.used.is_none_or(|known| used > known) {
                let cgroup = Some(limit.name.clone());
                nearest =
                    Nearest { used: Some(used), cgroup, limit_bytes: Some(limit.bytes), pressure_of: None };
            }
        }
        nearest.pressure_of = own.and_then(Pressure::cgroup).map(str::to_owned);
        reading.used = nearest.used;
        (reading, nearest)
    }

    /// The member with most private memory.
    fn largest(&self) -> Option<(u32, u32)> {
        self.members.iter().copied().max_by_key(|(_, pid)| usage::private(*pid).unwrap_or(0))
    }
}

impl Session {
    /// Looks for early signs, and begins a leak check if there is one. Also returns when to look again.
    pub(in crate::sources::process) fn look_for_signs(&mut self) -> (Step, Duration) {
        let now = self.tracer.elapsed();
        if self.black_box.grouped.is_none_or(|at| now.saturating_sub(at) >= RENEWED) {
            self.find_groups(now);
        }
        self.settle_victims(now);
        self.ask_for_ends(now);
        let used = machine_used();
        let pressed = self.black_box.machine.as_mut().is_some_and(Pressure::is_high);
        let (mut next, mut found) = (SELDOM, None);
        for group in &mut self.black_box.groups {
            let (reading, nearest) = group.read(used, pressed);
            let sign = group.signs.look(now, &reading);
            next = next.min(group.signs.next());
            if let (Some(sign), None) = (sign, &found) {
                found = group.largest().map(|member| (sign, nearest, member));
            }
        }
        if let Some((sign, nearest, member)) = found {
            self.announce(now, sign, nearest, member);
        }
        let step = if self.black_box.wants_report() { Step::Report } else { Step::Wait };
        (step, next)
    }

    /// A sign has begun: what is lost is looked for while there is time.
    fn announce(&mut self, now: Duration, sign: Sign, nearest: Nearest, (index, pid): (u32, u32)) {
        let Nearest { used, cgroup, limit_bytes, pressure_of } = nearest;
        let at = now.saturating_sub(self.started);
        let pressure_of = pressure_of.filter(|_| sign == Sign::Pressure);
        let remark = Remark::EarlySign { pid, at, sign, cgroup, used, limit_bytes, pressure_of };
        tracing::debug!("{remark:?}");
        if !std::mem::replace(&mut self.black_box.is_locked, true) {
            stay_in_memory();
        }
        self.black_box.announced = Some(remark);
        if !self.check_at_once(index) {
            self.black_box.has_checked();
        }
    }

    /// Determines the cgroups of the processes.
    fn find_groups(&mut self, now: Duration) {
        let is_first = self.black_box.grouped.replace(now).is_none();
        if is_first {
            self.black_box.machine = Pressure::of_machine();
        }
        let mut known = std::mem::take(&mut self.black_box.groups);
        let mut groups: Vec<Group> = Vec::new();
        for target in self.targets.iter().filter(|target| !target.process.has_exited()) {
            let (index, pid) = (target.index, target.pid().get());
            let cgroup = MemoryCgroup::of(pid);
            let name = cgroup.as_ref().map_or("", MemoryCgroup::name).to_owned();
            if let Some(group) = groups.iter_mut().find(|group| group.name == name) {
                group.members.push((index, pid));
                continue;
            }
            if groups.len() >= MOST {
                continue;
            }
            let limits = cgroup.as_ref().map(MemoryCgroup::limits).unwrap_or_default();
            let before = known.iter().position(|group| group.name == name).map(|at| known.swap_remove(at));
            let (signs, pressure) = match before {
                Some(group) => (group.signs, group.pressure),
                None => (Signs::default(), MemoryCgroup::pressure_of(pid)),
            };
            groups.push(Group { name, members: vec![(index, pid)], cgroup, limits, pressure, signs });
        }
        if is_first {
            self.remark_on_own_cgroup(&groups);
        }
        self.black_box.groups = groups;
    }

    /// What memtrace uses counts against a limit of a process.
    fn remark_on_own_cgroup(&mut self, groups: &[Group]) {
        let Some(own) = MemoryCgroup::of(std::process::id()) else { return };
        for group in groups {
            let is_shared = |limit: &&CgroupLimit| !limit.slows && is_inside(own.name(), &limit.name);
            if let (Some(limit), Some((_, pid))) =
                (group.limits.iter().find(is_shared), group.members.first())
            {
                let (cgroup, limit_bytes) = (limit.name.clone(), limit.bytes);
                self.remarks.push(Remark::AgentInCgroup { pid: *pid, cgroup, limit_bytes });
            }
        }
    }
}
