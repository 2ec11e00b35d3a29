//! Early signs that memory is about to run out: when one begins, and when to look again.
//!
//! A sign is the beginning of a condition. It comes again only after the condition was gone for some time, so a cgroup whose page
//! cache always fills its limit gives one sign and not one a second.

use std::time::Duration;

use crate::profile::Sign;

/// Shares of a limit at which it is near: the first leaves time for a leak check, the others are closer to the end.
const LEVELS: [f64; 3] = [0.9, 0.95, 0.98];
/// A level counts again after the share was so far below it.
const BACK: f64 = 0.05;
/// How long a condition must be gone before it is a sign again.
const QUIET: Duration = Duration::from_secs(30);
/// Time between two signs of the same urgency: each costs a leak check.
const LEAST: Duration = Duration::from_secs(5);
/// Below this share of a limit, what reaches it is page cache that the kernel gives up.
const HELD: f64 = 0.5;
/// Time between two looks.
const SELDOM: Duration = Duration::from_secs(1);
const OFTEN: Duration = Duration::from_millis(50);
/// Looks until the limit is reached, if growth goes on.
const LOOKS: f64 = 4.0;

/// What was read at a moment. `None`: it cannot be read, or there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The share of the nearest limit that is used and that the kernel cannot give up.
    pub used: Option<f64>,
    /// The same of `memory.high`.
    pub used_of_high: Option<f64>,
    /// How often `memory.high` was reached.
    pub high: Option<u64>,
    /// How often the limit was reached.
    pub max: Option<u64>,
    /// Whether tasks have waited for memory since the last look.
    pub pressed: bool,
}

/// The signs of one group of processes.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// Levels that were reached and announced.
    announced: usize,
    /// The last share used and when, and the growth of that per second.
    used: Option<(Duration, f64)>,
    growth: f64,
    high: Counter,
    max: Counter,
    /// When tasks last waited.
    pressed: Option<Duration>,
    /// When the last sign came, and which.
    last: Option<(Duration, Sign)>,
}

/// A counter of the kernel, and when it last rose.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    value: Option<u64>,
    rose: Option<Duration>,
}

impl Counter {
    /// Whether it begins to rise.
    fn begins(&mut self, now: Duration, value: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.value, value);
        let (Some(before), Some(value)) = (before, value) else { return false };
        value > before && begins(&mut self.rose, now)
    }
}

/// Whether a condition that holds now did not before.
fn begins(last: &mut Option<Duration>, now: Duration) -> bool {
    let before = last.replace(now);
    before.is_none_or(|before| now.saturating_sub(before) >= QUIET)
}

impl Signs {
    /// Takes what was read at `now`, a time that only grows. Returns the sign that begins, the most urgent one.
    pub fn look(&mut self, now: Duration, reading: &Reading) -> Option<Sign> {
        self.measure(now, reading.used);
        let max = self.max.begins(now, reading.max) && reading.used.is_some_and(|used| used >= HELD);
        let high =
            self.high.begins(now, reading.high) && reading.used_of_high.is_some_and(|used| used >= HELD);
        let pressed = reading.pressed && begins(&mut self.pressed, now);
        let reached = LEVELS.iter().filter(|level| reading.used.is_some_and(|used| used >= **level)).count();
        let is_near = reached > self.announced;
        // A limit that is near does not wait for what is less urgent.
        let waits = |(last, sign): (Duration, Sign)| {
            now.saturating_sub(last) < LEAST && (sign == Sign::NearLimit || !is_near)
        };
        if self.last.is_some_and(waits) {
            return None;
        }
        let signs =
            [(is_near, Sign::NearLimit), (max, Sign::Max), (high, Sign::High), (pressed, Sign::Pressure)];
        let sign = signs.into_iter().find_map(|(is_there, sign)| is_there.then_some(sign))?;
        self.announced = self.announced.max(reached);
        self.last = Some((now, sign));
        Some(sign)
    }

    /// Notes growth, and levels that are left.
    fn measure(&mut self, now: Duration, used: Option<f64>) {
        let Some(used) = used else {
            (self.used, self.growth, self.announced) = (None, 0.0, 0);
            return;
        };
        if let Some((before, last)) = self.used {
            let seconds = now.saturating_sub(before).as_secs_f64();
            self.growth = if seconds > 0.0 { (used - last) / seconds } else { 0.0 };
        }
        self.used = Some((now, used));
        self.announced = LEVELS.iter().take(self.announced).filter(|level| used >= **level - BACK).count();
    }

    /// Time until the next look: short where the limit is reached soon.
    #[must_use]
    pub fn next(&self) -> Duration {
        let Some((_, used)) = self.used.filter(|_| self.growth > 0.0) else { return SELDOM };
        let seconds = (1.0 - used).max(0.0) / self.growth / LOOKS;
        Duration::try_from_secs_f64(seconds).unwrap_or(SELDOM).clamp(OFTEN, SELDOM)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LEAST, OFTEN, QUIET, Reading, SELDOM, Signs};
    use crate::profile::Sign;

    const STEP: Duration = Duration::from_secs(1);

    fn used(share: f64) -> Reading {
        Reading { used: Some(share), ..Reading::default() }
    }

    /// The seconds at which signs come.
    fn signs(seconds: u32, reading: impl Fn(u32) -> Reading) -> Vec<(u32, Sign)> {
        let mut signs = Signs::default();
        (0..seconds).filter_map(|at| Some((at, signs.look(STEP * at, &reading(at))?))).collect()
    }

    #[test]
    fn a_limit_that_comes_nearer_is_announced_at_each_level() {
        // 1 % every 10 s.
        let found = signs(1000, |second| used(f64::from(second) / 1000.0));
        assert_eq!(found, [(900, Sign::NearLimit), (950, Sign::NearLimit), (980, Sign::NearLimit)]);
    }

    #[test]
    fn a_level_is_not_lost_while_signs_have_to_wait() {
        let least = u32::try_from(LEAST.as_secs()).unwrap();
        let found = signs(20, |second| used(if second == 0 { 0.91 } else { 0.99 }));
        assert_eq!(found, [(0, Sign::NearLimit), (least, Sign::NearLimit)]);
    }

    #[test]
    fn a_limit_that_is_near_does_not_wait_for_pressure() {
        let reading = |second| {
            let used = Some(if second == 0 { 0.5 } else { 0.91 });
            Reading { used, pressed: true, ..Reading::default() }
        };
        assert_eq!(signs(20, reading), [(0, Sign::Pressure), (1, Sign::NearLimit)]);
    }

    #[test]
    fn use_that_swings_around_a_level_is_announced_once() {
        let found = signs(100, |second| used(if second % 2 == 0 { 0.91 } else { 0.88 }));
        assert_eq!(found, [(0, Sign::NearLimit)]);
        // Well below it, and again.
        let found = signs(100, |second| used(if second % 50 < 25 { 0.91 } else { 0.7 }));
        assert_eq!(found, [(0, Sign::NearLimit), (50, Sign::NearLimit)]);
    }

    #[test]
    fn a_limit_that_is_always_reached_is_announced_once() {
        let always = |share| {
            move |second| Reading { used: Some(share), max: Some(u64::from(second)), ..Reading::default() }
        };
        assert_eq!(signs(300, always(0.6)), [(1, Sign::Max)]);
        // It is page cache that reaches it.
        assert_eq!(signs(300, always(0.3)), []);
        // The value from before the first look says nothing.
        assert_eq!(signs(300, |_| Reading { used: Some(0.6), max: Some(70), ..Reading::default() }), []);
    }

    #[test]
    fn high_and_pressure_are_signs() {
        let high = |second| Reading {
            used_of_high: Some(0.99),
            high: Some(u64::from(second >= 7)),
            ..Reading::default()
        };
        assert_eq!(signs(100, high), [(7, Sign::High)]);
        let quiet = u32::try_from(QUIET.as_secs()).unwrap();
        let pressed = |second| Reading { pressed: second < 10 || second == 9 + quiet, ..Reading::default() };
        assert_eq!(signs(100, pressed), [(0, Sign::Pressure), (9 + quiet, Sign::Pressure)]);
        assert_eq!(signs(100, |_| Reading::default()), []);
    }

    #[test]
    fn it_looks_more_often_near_the_limit() {
        let mut signs = Signs::default();
        assert_eq!(signs.next(), SELDOM);
        signs.look(STEP, &used(0.5));
        signs.look(STEP * 2, &used(0.7));
        // 1.5 s are left.
        let next = signs.next();
        assert!(next > Duration::from_millis(370) && next < Duration::from_millis(380), "{next:?}");
        signs.look(STEP * 3, &used(0.99));
        assert_eq!(signs.next(), OFTEN);
        signs.look(STEP * 4, &used(0.9));
        assert_eq!(signs.next(), SELDOM);
    }
}
