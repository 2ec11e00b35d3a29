//! Sending events to the agent.

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use memtrace_common::Counter;

use crate::maps::{EVENTS, count};

/// Sends an event; one that does not fit is counted.
#[inline(always)]
pub(crate) fn send<T>(event: &T) {
    // SAFETY: `event` is valid for its size.
    let taken = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            core::ptr::from_ref(event).cast_mut().cast(),
            size_of::<T>() as u64,
            0,
        )
    };
    if taken != 0 {
        count(Counter::RingFull, 1);
    }
}
