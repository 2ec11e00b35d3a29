//! How the memory of the targets moved since the screen began, as bars.

use crate::profile::{Profile, units::format_bytes};

/// Samples that are kept. When there are more, every second is dropped, and half as many are taken.
const MOST: usize = 512;

/// Bars from an eighth to full.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A change of less than this part of a figure is shown as a flat line.
const FLAT: f64 = 0.01;

/// What the targets held at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    rss: u64,
    /// `None`: of other blocks than those shown, or unknown.
    blocks: Option<u64>,
}

/// What the targets held, report after report.
#[derive(Clone, Debug)]
pub(super) struct History {
    samples: Vec<Sample>,
    /// Reports for one sample.
    step: u64,
    /// Reports since the last sample.
    since: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { samples: Vec::new(), step: 1, since: 0 }
    }
}

impl History {
    /// Notes the figures of a report. Sums of blocks are those that it shows.
    pub(super) fn note(&mut self, profile: &Profile) {
        let balances = profile.processes().map_or(&[][..], |of| of.balances.as_slice());
        let rss = balances.iter().map(|balance| balance.resident.rss()).sum();
        let blocks = (!profile.marks.is_unknown()).then_some(profile.outstanding.bytes);
        self.add(Sample { rss, blocks });
    }

    fn add(&mut self, sample: Sample) {
        self.since += 1;
        if self.since < self.step && !self.samples.is_empty() {
            if let Some(last) = self.samples.last_mut() {
                *last = sample;
            }
            return;
        }
        self.since = 0;
        self.samples.push(sample);
        if self.samples.len() > MOST {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.step *= 2;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Forgets what blocks held: other blocks are shown from now on.
    pub(super) fn restart_blocks(&mut self) {
        self.samples.iter_mut().for_each(|sample| sample.blocks = None);
    }

    /// The resident set as a line of that many characters.
    pub(super) fn rss(&self, width: usize) -> String {
        line("RSS", &self.samples.iter().map(|sample| sample.rss).collect::<Vec<_>>(), width)
    }

    /// The same of outstanding blocks.
    pub(super) fn blocks(&self, width: usize) -> String {
        line("blocks", &self.samples.iter().filter_map(|sample| sample.blocks).collect::<Vec<_>>(), width)
    }
}

/// `RSS 1.2 GiB ▁▂▃▄▅▆▇█ 1.9 GiB`: the least and the last, and bars between.
fn line(name: &str, values: &[u64], width: usize) -> String {
    let (Some(least), Some(last)) = (values.iter().min(), values.last()) else { return String::new() };
    let (head, tail) = (format!("{name} {} ", format_bytes(*least)), format!(" {}", format_bytes(*last)));
    let room = width.saturating_sub(head.chars().count() + tail.chars().count());
    if room < 4 {
        return format!("{name}{tail}");
    }
    format!("{head}{}{tail}", bars(values, room))
}

/// Bars from the least value to the largest, the last of them for the last value; at most one for each value.
fn bars(values: &[u64], room: usize) -> String {
    let (least, most) =
        values.iter().fold((u64::MAX, 0), |(least, most), &value| (least.min(value), most.max(value)));
    let range = (most.saturating_sub(least)) as f64;
    let is_flat = range <= most as f64 * FLAT;
    let shown = room.min(values.len());
    let bar = |place: usize| {
        // The last value of those that share a bar.
        let at = (place + 1) * values.len() / shown.max(1);
        let value = at.checked_sub(1).and_then(|at| values.get(at)).copied().unwrap_or(0);
        let level = if is_flat { 0.0 } else { (value.saturating_sub(least)) as f64 / range * 7.0 };
        BARS.get(level.round() as usize).copied().unwrap_or(' ')
    };
    (0..shown).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::{MOST, Sample, bars, line};

    #[test]
    fn bars_reach_from_the_least_to_the_largest() {
        assert_eq!(bars(&[0, 1, 2, 3, 4, 5, 6, 7], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(bars(&[0, 1, 2, 3, 4, 5, 6, 7], 4), "▂▄▆█");
        assert_eq!(bars(&[7], 4), "▁");
        assert_eq!(bars(&[], 4), "");
        // Half a percent more is no growth that a bar should show.
        assert_eq!(bars(&[2000, 2010], 4), "▁▁");
    }

    #[test]
    fn figures_come_first_where_there_is_no_room() {
        assert_eq!(line("RSS", &[1 << 20, 2 << 20], 40), "RSS 1 MiB ▁█ 2 MiB");
        assert_eq!(line("RSS", &[1 << 20, 2 << 20], 12), "RSS 2 MiB");
        assert_eq!(line("RSS", &[], 12), "");
    }

    #[test]
    fn a_long_session_keeps_its_beginning_and_its_end() {
        let mut history = super::History::default();
        for blocks in 0..=4 * MOST as u64 {
            history.add(Sample { rss: 0, blocks: Some(blocks) });
        }
        assert!(history.samples.len() <= MOST);
        assert_eq!(history.samples.first(), Some(&Sample { rss: 0, blocks: Some(0) }));
        assert_eq!(history.samples.last().and_then(|sample| sample.blocks), Some(4 * MOST as u64));
    }
}
