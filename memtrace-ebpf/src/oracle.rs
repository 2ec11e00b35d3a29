//! Walks with the memory they were made in, for tests: see [`OracleEvent`].

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_user, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use memtrace_common::{EventKind, MAX_FRAMES, OracleEvent};

use crate::{arch::Registers, maps::EVENTS, types::Scratch};

/// Sends the walk in `scratch`, made at the entry with `registers`. A walk that does not fit is left out: the
/// reader takes a sample.
///
/// # Safety
/// `scratch` was claimed.
#[inline(always)]
pub(crate) unsafe fn send(scratch: *mut Scratch, registers: &Registers, slot: u32) {
    // SAFETY: `event` is null or points to as many bytes as were asked for; the helpers check addresses they read.
    unsafe {
        let room =
            bpf_ringbuf_reserve((&raw const EVENTS).cast_mut().cast(), size_of::<OracleEvent>() as u64, 0);
        let event = room.cast::<OracleEvent>();
        if event.is_null() {
            return;
        }
        let walked = &raw const (*scratch).event;
        (*event).kind = EventKind::Oracle as u32;
        (*event).slot = slot;
        (*event).frames = (*walked).frames;
        (*event).end = (*walked).end;
        (*event).sp = registers.sp();
        (*event).fp = registers.frame_pointer();
        (*event).base = registers.sp() & !(OracleEvent::PAGE as u64 - 1);
        (*event).length = 0;
        bpf_probe_read_kernel(
            (&raw mut (*event).pcs).cast(),
            8 * MAX_FRAMES as u32,
            (&raw const (*walked).pcs).cast(),
        );
        for page in 0..OracleEvent::PAGES {
            let offset = page * OracleEvent::PAGE;
            let to = (&raw mut (*event).stack).cast::<u8>().add(offset);
            let from = ((*event).base + offset as u64) as *const _;
            if bpf_probe_read_user(to.cast(), OracleEvent::PAGE as u32, from) != 0 {
                break;
            }
            (*event).length = offset as u64 + OracleEvent::PAGE as u64;
        }
        bpf_ringbuf_submit(room, 0);
    }
}
