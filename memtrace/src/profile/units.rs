//! Sizes and durations as people write and read them.

use std::time::Duration;

use bytesize::ByteSize;

/// The largest size that [`parse_size`] accepts: 1 EiB, more than any address space.
pub const MAX_SIZE: u64 = 1 << 60;

/// The longest time that [`parse_duration`] accepts: ten years of 365 days.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Reads a size in bytes: `30000`, `4KiB` (1024 each), `512k`, `10MB` (1000 each), `1.5 GiB`.
///
/// # Errors
/// One sentence for the user when `text` is not a size or is larger than [`MAX_SIZE`].
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let bare = trimmed.chars().all(|c| c.is_ascii_digit());
    // bytesize accepts any number of digits only together with a unit.
    let size =
        format!("{trimmed}{}", if bare { "B" } else { "" }).parse::<ByteSize>().map_err(|_reason| {
            format!(
                "{text:?} is not a size: write bytes, or a number and a unit, such as 30000, 4KiB or 10MB"
            )
        })?;
    if size.as_u64() > MAX_SIZE {
        return Err(format!("{text:?} is too large: at most 1EiB"));
    }
    Ok(size.as_u64())
}

/// Reads a share of a whole, as a number or in percent: `5%`, `5 %` and `0.05` are the same. Returns 0 to 1, not 0.
///
/// # Errors
/// One sentence for the user when `text` is not such a share.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let share = match trimmed.strip_suffix('%') {
        Some(number) => number.trim_end().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => trimmed.parse::<f64>().ok(),
    };
    share.filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| {
        format!("{text:?} is not a share: write a percentage of at most 100, such as 5% or 0.5%")
    })
}

/// A share of a whole, 0 to 1, in percent: `3.1 %`, `42 %`; `under 0.1 %` for little.
pub fn format_percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent <= 0.0 => "0 %".to_owned(),
        _ if percent < 0.05 => "under 0.1 %".to_owned(),
        _ if percent < 9.95 => format!("{} %", format!("{percent:.1}").trim_end_matches(".0")),
        _ => format!("{percent:.0} %"),
    }
}

/// Reads a duration: `500ms`, `5s`, `1m30s`; a bare number, `5` or `0.5`, is in seconds. Zero is accepted.
///
/// # Errors
/// One sentence for the user when `text` is not a duration or is longer than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let bare = !trimmed.is_empty() && trimmed.chars().all(|c| c.is_ascii_digit() || c == '.');
    let duration = if bare {
        trimmed.parse().ok().map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    } else {
        match humantime::parse_duration(trimmed) {
            Ok(duration) => Some(duration),
            Err(humantime::DurationError::NumberOverflow) => Some(Duration::MAX),
            Err(_) => None,
        }
    };
    match duration {
        None => Err(format!(
            "{text:?} is not a duration: write seconds, or numbers and units, such as 5, 500ms or 1m30s"
        )),
        Some(duration) if duration > MAX_DURATION => Err(format!("{text:?} is too long: at most 10 years")),
        Some(duration) => Ok(duration),
    }
}

/// A size in bytes: `512 B`, exact below 1 KiB; above with one decimal, `1.5 MiB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 1_u128;
    let mut text = String::new();
    for name in UNITS {
        unit *= 1024;
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        text = match tenths % 10 {
            0 => format!("{} {name}", tenths / 10),
            tenth => format!("{}.{tenth} {name}", tenths / 10),
        };
        if tenths < 10240 {
            break;
        }
    }
    text
}

/// A rate in bytes per second, signed: `+1.5 MiB/s`, `-20 KiB/s`, `0 B/s`. `? B/s` if not finite.
#[must_use]
pub fn format_rate(bytes_per_second: f64) -> String {
    if !bytes_per_second.is_finite() {
        return "? B/s".to_owned();
    }
    let magnitude = bytes_per_second.abs().round() as u64;
    let sign = match (magnitude, bytes_per_second < 0.0) {
        (0, _) => "",
        (_, true) => "-",
        (_, false) => "+",
    };
    format!("{sign}{}/s", format_bytes(magnitude))
}

/// A duration in its two largest units, cut off, not rounded: `250 ms`, `4.2 s`, `3m12s`, `2h05m`, `3d04h`.
#[must_use]
pub fn format_age(age: Duration) -> String {
    let (seconds, millis) = (age.as_secs(), age.subsec_millis());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A number with thousands separators: `1,024`.
#[must_use]
pub fn format_number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, with the plural in s: `1 block`, `1,024 blocks`.
#[must_use]
pub fn format_count(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", format_number(number), if number == 1 { "" } else { "s" })
}

/// A difference with its sign, its amount as `format` has it: `+1.5 MiB`, `-3`.
#[must_use]
pub fn format_signed(difference: i64, format: impl Fn(u64) -> String) -> String {
    format!("{}{}", if difference < 0 { '-' } else { '+' }, format(difference.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::{
        Duration, format_age, format_bytes, format_count, format_number, format_rate, parse_duration,
        parse_size,
    };

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("30000", 30_000),
            ("4KiB", 4096),
            ("4 KiB", 4096),
            ("4kib", 4096),
            ("512k", 512_000),
            ("10MB", 10_000_000),
            ("1.5GiB", 3 << 29),
            ("1EiB", 1 << 60),
            (" 7B ", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for text in ["", "-5", "-4KiB", "NaN", "inf", "KiB", "4 apples", "1e9", "0x10", "1,000", "4KiB4"] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains("is not a size") && error.contains(&format!("{text:?}")), "{error}");
        }
        for text in ["1.1EiB", "1152921504606846977", "99999999999999999999999999", "20000000 PiB"] {
            assert_eq!(parse_size(text).unwrap_err(), format!("{text:?} is too large: at most 1EiB"));
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("5", 5_000),
            ("0.5", 500),
            ("500ms", 500),
            ("5s", 5_000),
            ("1m30s", 90_000),
            (" 2h ", 7_200_000),
            ("3650days", 315_360_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn durations_that_make_no_sense_are_refused() {
        for text in ["", " ", "-5", "-5s", "NaN", "inf", "s", "5 parsecs", ".", "1.2.3", "1e9"] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("is not a duration") && error.contains(&format!("{text:?}")), "{error}");
        }
        for text in
            ["11years", "315360001", "99999999999999999999", &"9".repeat(400), "99999999999999999999s"]
        {
            assert_eq!(parse_duration(text).unwrap_err(), format!("{text:?} is too long: at most 10 years"));
        }
    }

    #[test]
    fn bytes_are_written() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (1_572_864, "1.5 MiB"),
            (1_047_552, "1023 KiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(format_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn rates_carry_their_sign() {
        for (rate, text) in [
            (1_572_864.0, "+1.5 MiB/s"),
            (-20_480.0, "-20 KiB/s"),
            (0.0, "0 B/s"),
            (-0.4, "0 B/s"),
            (0.6, "+1 B/s"),
            (f64::NAN, "? B/s"),
            (f64::NEG_INFINITY, "? B/s"),
            (1e300, "+16 EiB/s"),
        ] {
            assert_eq!(format_rate(rate), text, "{rate}");
        }
    }

    #[test]
    fn ages_are_written() {
        for (millis, text) in [
            (0, "0 ms"),
            (250, "250 ms"),
            (1_000, "1.0 s"),
            (4_296, "4.2 s"),
            (59_999, "59.9 s"),
            (60_000, "1m00s"),
            (192_000, "3m12s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(format_age(Duration::from_millis(millis)), text, "{millis}");
        }
        assert_eq!(format_age(Duration::MAX), "213503982334601d07h");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_024, "1,024"),
            (123_456, "123,456"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(format_number(number), text);
        }
        assert_eq!(format_count(1, "block"), "1 block");
        assert_eq!(format_count(0, "block"), "0 blocks");
        assert_eq!(format_count(1_024, "block"), "1,024 blocks");
    }
}
