//! Files of /proc and /sys, read with a bound.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Bytes of room at first.
const FIRST: usize = 4096;

/// Where /proc and /sys are: tests have trees of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// /proc.
    pub proc: PathBuf,
    /// /sys.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl Roots {
    /// A file of /proc as lossy text, at most so many bytes of it; `None` if it cannot be read.
    pub(super) fn proc(&self, name: &str, most: u64) -> Option<String> {
        text(&self.proc.join(name), most)
    }

    /// A file of /proc that holds one number.
    pub(super) fn proc_number(&self, name: &str) -> Option<u64> {
        self.proc(name, 64)?.trim().parse().ok()
    }
}

/// A file as lossy text, at most so many bytes of it; `None` if it cannot be read.
pub(in crate::kernel) fn text(path: &Path, most: u64) -> Option<String> {
    // Most files are read by one call then.
    let mut text = Vec::with_capacity(FIRST);
    File::open(path).ok()?.take(most).read_to_end(&mut text).ok()?;
    Some(match String::from_utf8(text) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// A number in a file; `None` for `max` and the like.
pub(super) fn number(path: &Path) -> Option<u64> {
    text(path, 64)?.trim().parse().ok()
}

/// How long some task has waited so far, in a file of pressure.
pub(in crate::kernel) fn waited(path: &Path) -> Option<Duration> {
    some(path, "total=").map(Duration::from_micros)
}

/// The share of `some` over the last 10 s in a file of pressure, 0 to 1.
pub(in crate::kernel) fn pressure(path: &Path) -> Option<f64> {
    let percent: f64 = some(path, "avg10=")?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// A field of the line `some` in a file of pressure.
fn some<T: FromStr>(path: &Path, name: &str) -> Option<T> {
    let text = text(path, 1024)?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix(name)?.parse().ok())
}
