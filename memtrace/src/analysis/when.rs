//! Conditions on the memory of a process that start tracing (`--when`): what they say, and when they hold.

use std::{collections::VecDeque, fmt, time::Duration};

use crate::profile::units::{format_bytes, format_percent, parse_duration, parse_share, parse_size};

/// Time over which growth is measured if the condition does not say.
const USUAL_WINDOW: Duration = Duration::from_secs(10);
/// Samples that are kept of a window; a longer one keeps fewer per second.
const MAX_SAMPLES: u32 = 600;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// The resident set is more than so many bytes.
    Rss(u64),
    /// It grows by more than so many bytes per second, over the whole time.
    Growth(u64),
    /// Tasks of the machine wait for memory in more than this share of the last 10 s.
    Pressure(f64),
    /// Less than this share of the narrowest limit of a cgroup is left.
    Left(f64),
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    measure: Measure,
    /// How long it must hold; of growth, the time over which that is measured.
    lasting: Duration,
}

/// What is known at a moment; `None`: it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// The resident set and what is swapped out, bytes.
    pub rss: u64,
    /// `some avg10` of /proc/pressure/memory, 0 to 1.
    pub pressure: Option<f64>,
    /// The smallest share that is left of a cgroup's limit, 0 to 1.
    pub left: Option<f64>,
}

impl Condition {
    /// Reads `rss>2GiB`, `growth>1MiB/s for 5m`, `psi>10%`, `limit<10%`; each may end in `for TIME`.
    ///
    /// # Errors
    /// One sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (head, lasting) = match text.split_once(" for ") {
            Some((head, time)) => (head, Some(parse_duration(time)?)),
            None => (text, None),
        };
        let compact: String = head.chars().filter(|c| !c.is_whitespace()).collect();
        let forms = "write 'rss>2GiB', 'growth>1MiB/s for 5m', 'psi>10%' or 'limit<10%'";
        let measure = if let Some(size) = compact.strip_prefix("rss>") {
            Measure::Rss(parse_size(size)?)
        } else if let Some(rate) = compact.strip_prefix("growth>") {
            let size = rate.strip_suffix("/s").ok_or_else(|| format!("growth is per second: {forms}"))?;
            Measure::Growth(parse_size(size)?)
        } else if let Some(share) = compact.strip_prefix("psi>") {
            Measure::Pressure(parse_share(share)?)
        } else if let Some(share) = compact.strip_prefix("limit<") {
            Measure::Left(parse_share(share)?)
        } else {
            return Err(format!("{text:?} is no condition: {forms}"));
        };
        let usual = if matches!(measure, Measure::Growth(_)) { USUAL_WINDOW } else { Duration::ZERO };
        let lasting = lasting.unwrap_or(usual);
        if lasting.is_zero() && matches!(measure, Measure::Growth(_)) {
            return Err("growth needs time: 'growth>1MiB/s for 10s'".to_owned());
        }
        Ok(Self { measure, lasting })
    }

    /// Whether it needs the pressure of the machine.
    #[must_use]
    pub fn needs_pressure(&self) -> bool {
        matches!(self.measure, Measure::Pressure(_))
    }

    /// Whether it needs the limits of cgroups.
    #[must_use]
    pub fn needs_limits(&self) -> bool {
        matches!(self.measure, Measure::Left(_))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Rss(bytes) => write!(f, "rss>{}", format_bytes(bytes))?,
            Measure::Growth(bytes) => write!(f, "growth>{}/s", format_bytes(bytes))?,
            Measure::Pressure(share) => write!(f, "psi>{}", format_percent(share))?,
            Measure::Left(share) => write!(f, "limit<{}", format_percent(share))?,
        }
        match self.lasting {
            Duration::ZERO => Ok(()),
            time => write!(f, " for {} s", time.as_secs_f64()),
        }
    }
}

/// A condition over time.
#[derive(Clone, Debug)]
pub struct Waiting {
    condition: Condition,
    /// Since when it has held without a break.
    since: Option<Duration>,
    /// The resident set in the window of growth.
    samples: VecDeque<(Duration, u64)>,
}

impl Waiting {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(condition: Condition) -> Self {
        Self { condition, since: None, samples: VecDeque::new() }
    }

    /// Which condition.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether it holds with what is known at `now`, a time that only grows.
    pub fn holds(&mut self, now: Duration, figures: &Figures) -> bool {
        let is_true = match self.condition.measure {
            Measure::Rss(bytes) => figures.rss > bytes,
            Measure::Growth(rate) => return self.grows(now, figures.rss, rate),
            Measure::Pressure(share) => figures.pressure.is_some_and(|pressure| pressure > share),
            Measure::Left(share) => figures.left.is_some_and(|left| left < share),
        };
        if !is_true {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_sub(since) >= self.condition.lasting
    }

    /// Whether the resident set has grown faster ever since the window began, and in its second half too: a jump is no
    /// growth.
    fn grows(&mut self, now: Duration, rss: u64, rate: u64) -> bool {
        let window = self.condition.lasting;
        let step = window / MAX_SAMPLES;
        if self.samples.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= step) {
            self.samples.push_back((now, rss));
        }
        let begin = now.saturating_sub(window);
        // The last one that is as old as the window stays.
        while self.samples.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.samples.pop_front();
        }
        let Some(&(first_at, first)) = self.samples.front() else { return false };
        if now.saturating_sub(first_at) < window {
            return false;
        }
        let is_faster = |from: (Duration, u64), to: (Duration, u64)| {
            let seconds = to.0.saturating_sub(from.0).as_secs_f64();
            to.1 as f64 - from.1 as f64 > rate as f64 * seconds
        };
        let last = (now, rss);
        let middle = first_at + now.saturating_sub(first_at) / 2;
        let half = self.samples.iter().find(|(at, _)| *at >= middle).copied().unwrap_or(last);
        let is_above = self.samples.iter().skip(1).all(|sample| is_faster((first_at, first), *sample));
        is_above && is_faster((first_at, first), last) && is_faster(half, last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Condition, Figures, MAX_SAMPLES, Waiting};

    const MB: u64 = 1 << 20;

    fn waiting(text: &str) -> Waiting {
        Waiting::new(Condition::parse(text).unwrap())
    }

    /// The first second at which it holds.
    fn first(text: &str, figures: impl Fn(u64) -> Figures) -> Option<u64> {
        let mut waiting = waiting(text);
        (0..2000).find(|second| waiting.holds(Duration::from_secs(*second), &figures(*second)))
    }

    fn rss(rss: u64) -> Figures {
        Figures { rss, ..Figures::default() }
    }

    #[test]
    fn conditions_are_read() {
        for (text, shown) in [
            ("rss>2GiB", "rss>2 GiB"),
            ("rss > 100 MiB for 5s", "rss>100 MiB for 5 s"),
            ("growth>1MiB/s for 5m", "growth>1 MiB/s for 300 s"),
            ("growth>1MiB/s", "growth>1 MiB/s for 10 s"),
            ("psi>10%", "psi>10 %"),
            ("limit<5%", "limit<5 %"),
        ] {
            assert_eq!(Condition::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "rss",
            "rss<2GiB",
            "rss>",
            "growth>1MiB",
            "growth>1MiB/s for 0s",
            "psi>200%",
            "rss>1GiB for x",
        ] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_level_is_reached_and_held() {
        assert_eq!(first("rss>50MiB", |second| rss(second * MB)), Some(51));
        // Every tenth second it is below.
        let broken = |second| rss(if second % 10 == 0 { 0 } else { 60 * MB });
        assert_eq!(first("rss>50MiB for 9s", broken), None);
        assert_eq!(first("rss>50MiB for 8s", broken), Some(9));
    }

    #[test]
    fn growth_is_measured_over_the_whole_time() {
        assert_eq!(first("growth>1MiB/s for 60s", |second| rss(second * 2 * MB)), Some(60));
        assert_eq!(first("growth>1MiB/s for 60s", |second| rss(second * MB)), None);
        // A jump is no growth.
        assert_eq!(
            first("growth>1MiB/s for 60s", |second| rss(if second > 100 { 500 * MB } else { 0 })),
            None
        );
        let later = |second: u64| rss(second.saturating_sub(500) * 2 * MB);
        let fired = first("growth>1MiB/s for 60s", later).unwrap();
        assert!((560..=562).contains(&fired), "{fired}");
    }

    #[test]
    fn pressure_and_limits() {
        let pressure = |second| Figures { pressure: Some(second as f64 / 100.0), ..Figures::default() };
        assert_eq!(first("psi>10%", pressure), Some(11));
        let left = |second| Figures {
            left: Some(100_u64.saturating_sub(second) as f64 / 100.0),
            ..Figures::default()
        };
        assert_eq!(first("limit<10%", left), Some(91));
        assert_eq!(first("limit<10%", |_| Figures::default()), None);
    }

    #[test]
    fn a_long_window_is_bounded() {
        let mut waiting = waiting("growth>1MiB/s for 10h");
        for second in 0..40_000 {
            waiting.holds(Duration::from_secs(second), &rss(0));
        }
        assert!(waiting.samples.len() <= MAX_SAMPLES as usize + 2, "{}", waiting.samples.len());
    }
}
