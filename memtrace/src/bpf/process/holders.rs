//! Who holds the probes of targets whose main thread has ended: see [`super::holder`].

use std::num::NonZeroU32;

use rustc_hash::FxHashMap;

use super::attach::Link;

/// Threads that hold probes, by target, and the anchors that do it.
#[derive(Default)]
pub(super) struct Holders {
    pub(super) threads: FxHashMap<u32, NonZeroU32>,
    pub(super) anchors: Vec<Link>,
    /// Anchors of threads that have ended.
    pub(super) superseded: Vec<Link>,
}
