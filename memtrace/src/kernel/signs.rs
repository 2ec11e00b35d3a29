//! What the kernel shows of memory that is about to run out: counters of cgroups, and pressure (Documentation/accounting/psi.rst).

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    limits::{CgroupLimit, MemoryCgroup},
    machine::{self, Roots, file},
};

/// Triggers that are tried: waiting for 150 ms of a second, and for those who may not have such a short window.
const TRIGGERS: [&str; 2] = ["some 150000 1000000", "some 300000 2000000"];
/// The same share of the last 10 s, where triggers are refused.
const SHARE: f64 = 0.15;

/// The second trigger was seen to fire at once though no task had waited. What it tells must have left a trace in the sum of all
/// waits, which the kernel renews when it looks at such triggers: this much in the time of two windows. (Those with a shorter window
/// are looked at more often than the sum is renewed.)
const LEAST: Duration = Duration::from_millis(75);
const SPAN: Duration = Duration::from_secs(4);

/// A file with pressure.
#[derive(Debug)]
pub struct Pressure {
    path: PathBuf,
    /// The cgroup's path, as /proc/PID/cgroup has it; `None`: the machine's.
    cgroup: Option<String>,
    /// With a trigger, and whether it is believed without a look at the sum of waits; `None` where the kernel refuses it.
    trigger: Option<(File, bool)>,
    /// How long tasks had waited at calls so far, of the last [`SPAN`].
    waited: VecDeque<(Instant, Duration)>,
}

impl Pressure {
    /// That of the machine, if the kernel shows it.
    #[must_use]
    pub fn of_machine() -> Option<Self> {
        Self::new(PathBuf::from("/proc/pressure/memory"), None)
    }

    fn new(path: PathBuf, cgroup: Option<String>) -> Option<Self> {
        file::pressure(&path)?;
        let mut triggers = TRIGGERS.iter().enumerate();
        let trigger = triggers.find_map(|(place, trigger)| Some((set(&path, trigger).ok()?, place == 0)));
        if trigger.is_none() {
            tracing::debug!("{}: no trigger, averages are read", path.display());
        }
        let mut waited = VecDeque::new();
        have_waited(&path, &mut waited, Instant::now());
        Some(Self { path, cgroup, trigger, waited })
    }

    /// The cgroup whose pressure it is; `None`: the machine's.
    #[must_use]
    pub fn cgroup(&self) -> Option<&str> {
        self.cgroup.as_deref()
    }

    /// Whether tasks have waited for memory for long since the last call; of averages, whether they do now.
    #[must_use]
    pub fn is_high(&mut self) -> bool {
        let Self { path, trigger, waited, .. } = self;
        let Some((trigger, is_believed)) = trigger else {
            return file::pressure(path).is_some_and(|share| share >= SHARE);
        };
        let is_likely = *is_believed || have_waited(path, waited, Instant::now());
        let mut poll = libc::pollfd { fd: trigger.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
        // SAFETY: one valid entry; no wait.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        // With POLLERR the cgroup is gone.
        let has_fired = ready == 1 && poll.revents & libc::POLLPRI != 0 && poll.revents & libc::POLLERR == 0;
        has_fired && is_likely
    }
}

/// Whether tasks have waited in the last [`SPAN`] for long. `waited`: how long they had at each call in that time.
fn have_waited(path: &Path, waited: &mut VecDeque<(Instant, Duration)>, now: Instant) -> bool {
    let Some(total) = file::waited(path) else { return true };
    waited.push_back((now, total));
    while waited.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= SPAN) {
        waited.pop_front();
    }
    waited.front().is_some_and(|(_, before)| total.saturating_sub(*before) >= LEAST)
}

/// Opens a file of pressure with a trigger, which lasts as long as the descriptor.
fn set(path: &Path, trigger: &str) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.write_all(format!("{trigger}\0").as_bytes())?;
    Ok(file)
}

/// How often limits of a cgroup were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitEvents {
    /// `memory.high`.
    pub high: Option<u64>,
    /// `memory.max`, or the limit of version 1.
    pub max: Option<u64>,
}

impl MemoryCgroup {
    /// How often the limit was reached, or `memory.high`, of the cgroup whose limit that is.
    #[must_use]
    pub fn events_of(&self, limit: &CgroupLimit) -> LimitEvents {
        let path = limit.directory.join(if self.is_unified() { "memory.events" } else { "memory.failcnt" });
        let text = file::text(&path, 4096).unwrap_or_default();
        events(&text, self.is_unified())
    }

    /// The pressure in the cgroup of process `pid`: `None` without version 2, where only that of the machine is known.
    #[must_use]
    pub fn pressure_of(pid: u32) -> Option<Pressure> {
        let (directory, path) = Self::unified_directory(pid)?;
        Pressure::new(directory.join("memory.pressure"), Some(path))
    }
}

/// Of `memory.events` of version 2, or `memory.failcnt` of version 1.
fn events(text: &str, unified: bool) -> LimitEvents {
    if !unified {
        return LimitEvents { high: None, max: text.trim().parse().ok() };
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    LimitEvents { high: field("high "), max: field("max ") }
}

/// The share of the machine's memory and swap that is used and cannot be given up; `None` if /proc/meminfo does not say.
#[must_use]
pub fn machine_used() -> Option<f64> {
    used(&machine::file::text(&Roots::default().proc.join("meminfo"), 64 << 10)?)
}

fn used(meminfo: &str) -> Option<f64> {
    let of = |name| super::find(meminfo, name);
    let total = of("MemTotal")?.saturating_add(of("SwapTotal").unwrap_or(0));
    let left = of("MemAvailable")?.saturating_add(of("SwapFree").unwrap_or(0));
    (total > 0).then(|| total.saturating_sub(left) as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        fs,
        time::{Duration, Instant},
    };

    use super::{LimitEvents, Pressure, events, have_waited, used};

    #[test]
    fn counters_of_both_versions() {
        let text = "low 0\nhigh 7\nmax 12\noom 1\noom_kill 1\n";
        assert_eq!(events(text, true), LimitEvents { high: Some(7), max: Some(12) });
        assert_eq!(events("35\n", false), LimitEvents { high: None, max: Some(35) });
        assert_eq!(events("", true), LimitEvents::default());
    }

    #[test]
    fn what_is_available_is_not_used() {
        let text = "MemTotal: 1000 kB\nMemAvailable: 300 kB\nSwapTotal: 1000 kB\nSwapFree: 500 kB\n";
        assert_eq!(used(text), Some(0.6));
        assert_eq!(used("MemTotal: 1000 kB\n"), None);
    }

    #[test]
    fn averages_are_read_where_there_is_no_trigger() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.pressure");
        let write = |share: &str| {
            fs::write(&path, format!("some avg10={share} avg60=0.00 avg300=0.00 total=1\n")).unwrap()
        };
        write("14.00");
        let waited = VecDeque::new();
        let mut pressure =
            Pressure { path: path.clone(), cgroup: Some("/web".into()), trigger: None, waited };
        assert_eq!(pressure.cgroup(), Some("/web"));
        assert!(!pressure.is_high());
        write("16.00");
        assert!(pressure.is_high());
        assert!(Pressure::new(directory.path().join("absent"), None).is_none());
    }

    #[test]
    fn waits_are_looked_for_in_the_sum() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.pressure");
        let write = |total: u64| {
            fs::write(&path, format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n")).unwrap();
        };
        let mut waited = VecDeque::new();
        let begin = Instant::now();
        let mut at = |seconds, total| {
            write(total);
            have_waited(&path, &mut waited, begin + Duration::from_secs(seconds))
        };
        // Microseconds: nothing, 50 ms in a second, 100 ms in two, and then nothing for long.
        let seen = [(0, 7), (1, 15), (2, 50_015), (3, 100_015), (8, 100_020), (9, 100_020)];
        assert_eq!(seen.map(|(second, total)| at(second, total)), [false, false, false, true, false, false]);
    }

    #[test]
    fn the_machine_takes_a_trigger_or_is_read() {
        if let Some(mut pressure) = Pressure::of_machine() {
            let _ = pressure.is_high();
            assert_eq!(pressure.cgroup(), None);
        }
    }
}
