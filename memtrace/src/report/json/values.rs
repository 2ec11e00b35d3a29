//! How values are written: times in seconds, addresses as hexadecimal strings.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serializer;

pub(super) fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.0}"))
}

pub(super) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_millis() as f64 / 1e3)
}

pub(super) fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

pub(super) fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn optional_share<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => share(value, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn share<S: Serializer>(share: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((share * 1e5).round() / 1e5)
}

/// Always a number: JSON has none for what is not finite.
pub(super) fn rate<S: Serializer>(rate: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let rounded = (rate * 1e3).round() / 1e3;
    // `+ 0.0` turns -0.0 into 0.0.
    serializer.serialize_f64(if rounded.is_finite() { rounded + 0.0 } else { 0.0 })
}

pub(super) fn optional_hex<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

pub(super) fn id<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:016x}"))
}
