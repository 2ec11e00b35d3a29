//! Asking the agent to read a target's mappings again.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use memtrace_common::{EventKind, MissEvent};

use crate::{events, maps::TARGETS};

/// Least time between two requests for a target, in ns: reading the mappings of a large process takes the agent
/// some milliseconds.
const PAUSE: u64 = 20_000_000;

/// A walk found code in no known module: asks the agent to look, not too often.
#[inline(always)]
pub(crate) fn report(target: u32) {
    let Some(place) = TARGETS.get_ptr_mut(target) else { return };
    // SAFETY: `place` points to a value of TARGETS; a race between two threads sends one event too many.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now.wrapping_sub((*place).last_miss) < PAUSE {
            return;
        }
        (*place).last_miss = now;
    }
    request(target, false);
}

/// Asks the agent.
#[inline(always)]
pub(crate) fn request(target: u32, loader: bool) {
    let event = MissEvent { kind: EventKind::Miss as u32, target, loader: u32::from(loader), reserved: 0 };
    events::send(&event);
}
