//! The possible CPUs and memory nodes. Those that are not present count too: the kernel allocates per-CPU memory
//! for each of them, and one may come online while memtrace runs.

/// A set of numbers, as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Possible {
    /// The number of members.
    pub(super) count: u32,
    /// The number after the largest.
    pub(super) end: u32,
}

impl Possible {
    /// The CPUs.
    pub(super) fn cpus() -> Self {
        Self::read("/sys/devices/system/cpu/possible")
    }

    /// The memory nodes.
    pub(super) fn nodes() -> Self {
        Self::read("/sys/devices/system/node/possible")
    }

    fn read(path: &str) -> Self {
        Self::parse(&std::fs::read_to_string(path).unwrap_or_default()).unwrap_or(Self { count: 1, end: 1 })
    }

    /// `0`, `0-3`, `0,2-3`.
    fn parse(list: &str) -> Option<Self> {
        let mut set = Self { count: 0, end: 0 };
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            let end = last.checked_add(1)?;
            set.count = set.count.checked_add(end.checked_sub(first)?)?;
            set.end = set.end.max(end);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::Possible;

    #[test]
    fn lists_of_the_kernels() {
        let of = |list| Possible::parse(list).map(|set| (set.count, set.end));
        assert_eq!(of("0\n"), Some((1, 1)));
        assert_eq!(of("0-127\n"), Some((128, 128)));
        assert_eq!(of("0,2-3,8\n"), Some((4, 9)));
        for nonsense in ["", "\n", "x", "3-1", "0-4294967295", "1-2-3"] {
            assert_eq!(of(nonsense), None, "{nonsense:?}");
        }
    }

    /// Configured CPUs are those that are present now.
    #[test]
    fn no_fewer_than_configured() {
        let configured = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_CONF);
        let configured = configured.ok().flatten().unwrap_or(1);
        assert!(i64::from(Possible::cpus().count) >= configured as i64);
    }
}
