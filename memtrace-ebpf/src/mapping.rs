//! Memory that a target maps itself. What its allocator maps for blocks is not counted twice: those calls are nested in
//! an allocating function's.
//!
//! Later calls split, join and cut mappings. The agent does that arithmetic: each call that succeeded is sent to it.

use memtrace_common::{Call, Cookie, EventKind, Layer, MappingEvent};

use crate::events;

const MAP: u64 = Layer::Map as u64;
const UNMAP: u64 = Layer::Unmap as u64;
const REMAP: u64 = Layer::Remap as u64;
const BREAK: u64 = Layer::Break as u64;

/// What `mmap`, `mremap` and `sbrk` return when they fail, and `munmap` too as a number.
const FAILED: u64 = u64::MAX;

/// Whether a cookie is that of a function that maps memory.
#[inline(always)]
pub(crate) fn is_mapping(cookie: Cookie) -> bool {
    cookie.layer() != Layer::Blocks as u64
}

/// Keeps the arguments for the return.
#[inline(always)]
pub(crate) fn enter(cookie: Cookie, arguments: &[u64; 4], call: &mut Call) {
    match cookie.layer() {
        MAP => call.sample.0 = arguments[1],
        UNMAP => {
            call.argument = arguments[0];
            call.inner = arguments[1];
        }
        REMAP => {
            call.argument = arguments[0];
            call.inner = arguments[1];
            call.sample.0 = arguments[2];
        }
        _ => call.sample.0 = arguments[0],
    }
}

/// Reports to the agent what a call did.
#[inline(always)]
pub(crate) fn leave(cookie: Cookie, call: &Call, result: u64, time: u32) {
    let length = call.sample.0;
    if result == FAILED || (cookie.layer() == UNMAP && result as u32 != 0) {
        return;
    }
    let mut event = MappingEvent {
        kind: EventKind::Mapping as u32,
        target: call.target,
        address: result,
        length,
        old_address: call.argument,
        old_length: if matches!(cookie.layer(), UNMAP | REMAP) { call.inner } else { 0 },
        slot: call.stack,
        time,
    };
    if cookie.layer() == BREAK && (length as i64) < 0 {
        event.address = 0;
        event.length = 0;
        event.old_address = result.wrapping_add(length);
        event.old_length = length.wrapping_neg();
    }
    events::send(&event);
}
