//! Medians and their spread.

/// The summary of a set of samples: half of them are between `low` and `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Summary {
    /// None without samples.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            low: quantile(&sorted, 0.25)?,
            high: quantile(&sorted, 0.75)?,
        })
    }
}

/// The quantile of sorted samples, interpolated between neighbours.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    let below = sorted.get(place.floor() as usize)?;
    let above = sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
}

/// A figure with three significant digits or all before the point, thousands apart: `1,622`, `6.24`.
pub(super) fn figure(value: f64) -> String {
    let digits_after = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits_after$}");
    let whole = text.find('.').unwrap_or(text.len());
    let mut grouped = String::with_capacity(text.len() + 4);
    for (at, character) in text.char_indices() {
        let before_point = whole.saturating_sub(at);
        let after_digit = grouped.ends_with(|last: char| last.is_ascii_digit());
        if after_digit && before_point > 0 && before_point % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(character);
    }
    grouped
}

/// A share between 0 and 1 as `3.1 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let rounded = if percent.abs() < 10.0 { format!("{percent:.1}") } else { format!("{percent:.0}") };
    format!("{} %", rounded.trim_end_matches(".0"))
}

/// A number of bytes in the largest unit that leaves it whole.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        20.. if bytes > 0 => format!("{} MiB", bytes >> 20),
        10.. if bytes > 0 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_interpolated_and_need_no_order() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { median: 2.5, low: 1.75, high: 3.25 });
        assert_eq!(Summary::of(&[7.0]).unwrap(), Summary { median: 7.0, low: 7.0, high: 7.0 });
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn figures_are_short_and_grouped() {
        let figures = [0.0, 6.237, 12.34, 99.96, 653.2, 1622.4, 1_234_567.0, -1234.0].map(figure);
        assert_eq!(figures, ["0.00", "6.24", "12.3", "100.0", "653", "1,622", "1,234,567", "-1,234"]);
    }

    #[test]
    fn shares_and_sizes_are_told_in_few_digits() {
        assert_eq!(
            [0.031, 0.25, 1.0, 0.0, 0.0004, -0.02].map(percent),
            ["3.1 %", "25 %", "100 %", "0 %", "0 %", "-2 %"]
        );
        assert_eq!([0, 100, 524_288, 3 << 20].map(bytes), ["0 bytes", "100 bytes", "512 KiB", "3 MiB"]);
    }
}
