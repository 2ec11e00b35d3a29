//! What the first stacks of a report held over the session.

use std::time::Duration;

use super::session::Session;
use crate::{
    aggregate::Growth,
    profile::{Balance, Curve, Curves, Profile, Selection, Subject},
};

/// Processes whose memory over the session is in a report: those that have grown most.
const PROCESSES: usize = 16;

/// A moment this long before a report is the report's: moments are further apart, and their times are rounded.
const SAME: Duration = Duration::from_millis(100);

impl Session {
    /// Adds curves to a profile, whose rows are of `stacks`. There are none where rows are of a part of the blocks: that of
    /// earlier moments is unknown.
    pub(super) fn add_curves(&self, profile: &mut Profile, stacks: &[Growth], selection: &Selection) {
        if !self.options.verdicts || profile.is_part() {
            return;
        }
        let first = Selection { top: Curves::MOST, hide_settled: false, merge: false, ..selection.clone() };
        let shown = first.shown(self.names.dictionary(), profile);
        let kept = self.course.series();
        // When tracing began nothing was outstanding of what is counted.
        let mut at = vec![Duration::ZERO];
        at.extend(kept.moments().take_while(|&at| at + SAME < profile.elapsed));
        let earlier = at.len() - 1;
        at.push(profile.elapsed);
        let curve = |place: usize| {
            let (stack, row) = (stacks.get(place)?, profile.rows.get(place)?);
            let mut bytes = vec![0];
            bytes.extend(kept.bytes(stack.totals.slot)?.take(earlier));
            bytes.push(row.outstanding.bytes);
            Some(Curve { id: row.id, pid: row.pid(), bytes })
        };
        let stacks = shown.into_iter().filter_map(curve).collect();
        if let Subject::Processes(of) = &mut profile.subject {
            *of.curves = Curves { at, stacks };
        }
    }

    /// Leaves what processes held over the session to those that have grown most, with times since tracing began.
    pub(super) fn trim_weights(&self, balances: &mut [Balance]) {
        let mut order: Vec<&mut Balance> = balances.iter_mut().collect();
        order.sort_by(|a, b| b.grown.total.abs().total_cmp(&a.grown.total.abs()));
        for (place, balance) in order.into_iter().enumerate() {
            if place >= PROCESSES {
                balance.weights = Vec::new();
            }
            for weight in &mut balance.weights {
                weight.at = weight.at.saturating_sub(self.started);
            }
        }
    }
}
