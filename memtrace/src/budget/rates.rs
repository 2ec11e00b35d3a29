//! What the targets' calls cost in each mode, computed from their number.

use memtrace_common::{
    Shift, Work,
    sampling::{EXACT, NOTHING},
};

use super::{
    Reading,
    account::{cost, counted, difference},
};
use crate::model::Prices;

/// Before it has been measured, time inside the programs is assumed to be this share of the price of a probe on a free:
/// if calls are counted, and if they are left out.
const COUNTED: f64 = 0.5;
const LEFT_OUT: f64 = 0.1;
/// The share of a processor above which a target is assumed to use all it can get.
const NEVER_RESTS: f64 = 0.8;
/// The part of a target's CPU time that is its own, below which its calls per second without tracing cannot be computed: the
/// error of what traps cost is larger than what is left.
const TRACED: f64 = 0.2;
/// Calls that suffice for a measurement.
const ENOUGH: u64 = 2000;

/// Time inside the programs per call in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    counted: f64,
    left_out: f64,
}

impl Inside {
    pub(super) fn new(prices: Prices) -> Self {
        Self { counted: COUNTED * prices.free, left_out: LEFT_OUT * prices.free }
    }

    /// Records a measurement.
    pub(super) fn learn(&mut self, shift: Shift, before: &Work, now: &Work) {
        let work = difference(before, now);
        if work.calls() < ENOUGH {
            return;
        }
        let measured = work.nanoseconds as f64 / work.calls() as f64;
        match shift {
            EXACT => self.counted = measured,
            NOTHING => {}
            _ => self.left_out = measured,
        }
    }
}

/// Calls per ns of the targets' own CPU time, which is what they would use untraced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    entries: [f64; 2],
    frees: [f64; 2],
    /// Entries without a return probe, and exits, as in [`Work`].
    plain: f64,
    exits: [f64; 2],
    /// The targets' CPU time as a part of what counts as used.
    busy: f64,
    /// Processors that they would keep busy untraced.
    processors: f64,
    /// The part of the CPU time that is the targets' own.
    own: f64,
}

impl Rates {
    /// The rates between two readings.
    pub(super) fn between(before: &Reading, now: &Reading, prices: &Prices) -> Self {
        let work = difference(&before.work, &now.work);
        let cpu = now.cpu.saturating_sub(before.cpu).as_nanos() as f64;
        // The measured cost may slightly exceed the total: then little remains.
        let own = (cpu - cost(&work, prices)).max(cpu / 20.0).max(1.0);
        let wall = (now.at.saturating_sub(before.at).as_nanos() as f64).max(1.0);
        Self {
            // A target that is always busy is also busy without tracing.
            processors: if cpu > NEVER_RESTS * wall { cpu } else { own } / wall,
            entries: work.entries.map(|count| count as f64 / own),
            frees: work.frees.map(|count| count as f64 / own),
            plain: work.plain as f64 / own,
            exits: work.exits.map(|count| count as f64 / own),
            own: own / cpu.max(own),
            busy: cpu / counted(before, now).max(1.0),
        }
    }

    /// Calls per second without tracing; and whether there may be many more, because tracing took nearly all the time.
    pub(super) fn calls_per_second(&self) -> (f64, bool) {
        let calls =
            (self.entries.iter().sum::<f64>() + self.frees.iter().sum::<f64>()) * 1e9 * self.processors;
        let bound = (self.own / TRACED).min(1.0);
        (calls * bound, bound < 1.0)
    }

    /// Whether the targets' CPU time is less than what counts as used.
    pub(super) fn is_quiet(&self) -> bool {
        self.busy < 1.0
    }

    /// The share of the CPU time that tracing takes while probes are in place.
    pub(super) fn share(&self, shift: Shift, inside: &Inside, prices: &Prices) -> f64 {
        let entries = self.entries[0] + self.entries[1];
        let frees = self.frees[0] + self.frees[1];
        let (call, inside) =
            if shift == EXACT { (prices.call, inside.counted) } else { (prices.left_out, inside.left_out) };
        let stepping = (self.entries[1] + self.frees[1] + self.exits[1]) * prices.stepping;
        let single = self.plain + self.exits[0] + self.exits[1] + frees;
        let traps = (entries - self.plain) * call + single * prices.free + stepping;
        let cost = traps + (entries + frees) * inside;
        cost / (1.0 + cost) * self.busy
    }
}
