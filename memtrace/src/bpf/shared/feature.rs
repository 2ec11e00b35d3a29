//! What tracing needs or profits from.

/// One thing that tracing needs or profits from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// Whether nothing works without it.
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not there.
    pub advice: &'static str,
}
