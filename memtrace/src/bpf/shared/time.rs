//! Times of blocks and objects: 32 bits of a clock that goes on.

use std::time::Duration;

use memtrace_common::TIME_SHIFT;

/// Up to this age, 208 days, a time is known for certain: 32 bits begin anew then. What is older counts as that much
/// younger.
pub const MAX_AGE: Duration = Duration::from_nanos(1 << (32 + TIME_SHIFT));

/// A time may lie so far after «now», 73 minutes: programs go on while the agent reads.
const AHEAD: u32 = 1 << 20;

/// The time that `ticks` stands for at `now`, both since the start of tracing: the last one that it fits.
pub(in crate::bpf) fn at(ticks: u32, now: Duration) -> Duration {
    let now = (now.as_nanos() >> TIME_SHIFT) as u64;
    let ahead = ticks.wrapping_sub(now as u32);
    let time = if ahead <= AHEAD {
        now + u64::from(ahead)
    } else {
        now.saturating_sub(u64::from((now as u32).wrapping_sub(ticks)))
    };
    Duration::from_nanos(time << TIME_SHIFT)
}

/// `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`.
pub(in crate::bpf) fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memtrace_common::TIME_SHIFT;

    use super::{MAX_AGE, at};

    const DAY: Duration = Duration::from_secs(86_400);

    fn ticks(time: Duration) -> u32 {
        (time.as_nanos() >> TIME_SHIFT) as u32
    }

    #[test]
    fn ages_are_right_for_208_days_whenever_tracing_began() {
        for began in [0, 1, 207, 208, 209, 400, 1000] {
            let allocated = began * DAY;
            for age in [Duration::ZERO, DAY / 1000, DAY, 30 * DAY, 208 * DAY] {
                let time = at(ticks(allocated), allocated + age);
                assert!(allocated - time < Duration::from_millis(5), "{allocated:?} at {age:?}: {time:?}");
            }
        }
    }

    #[test]
    fn what_is_allocated_while_the_agent_reads_is_new() {
        for now in [DAY, 500 * DAY, MAX_AGE] {
            let later = now + Duration::from_secs(60);
            assert!(at(ticks(later), now) >= now, "{now:?}");
        }
        assert_eq!(at(0, Duration::ZERO), Duration::ZERO);
    }
}
