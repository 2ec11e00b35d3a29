//! What tracing costs.

/// What probes cost on this machine, in ns, without the programs that they run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A probe on a function that frees.
    pub free: f64,
    /// Those on a function that allocates, at its entry and its return.
    pub call: f64,
    /// The same for a call that is left out: less if its return is then not probed.
    pub left_out: f64,
    /// The extra cost of a site whose instruction the kernel single-steps.
    pub stepping: f64,
}
