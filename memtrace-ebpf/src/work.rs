//! Counting the programs' own runs, and timing some of them.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_ns};
use memtrace_common::{Cookie, TIME_SHIFT, Work};

use crate::{config, maps::WORK};

/// A run in progress.
pub(crate) struct Run {
    work: *mut Work,
    /// When it began; 0: it is not timed.
    begin: u64,
}

/// What a run is about.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Of a function that has a return probe.
    Entry,
    /// Of one whose results are read at its exits.
    PlainEntry,
    Return,
    /// An exit site.
    Exit,
    Free,
}

impl Run {
    /// A run begins.
    #[inline(always)]
    pub(crate) fn begin(kind: Kind, cookie: Cookie) -> Option<Self> {
        if config::without(config::COUNT) {
            return Some(Self { work: core::ptr::null_mut(), begin: 0 });
        }
        let work = WORK.get_ptr_mut(0)?;
        let stepped = cookie.is_stepped() as usize & 1;
        // SAFETY: `work` points to a value of WORK; the index is 0 or 1.
        unsafe {
            match kind {
                Kind::Entry => (*work).entries[stepped] += 1,
                Kind::PlainEntry => {
                    (*work).entries[stepped] += 1;
                    (*work).plain += 1;
                }
                Kind::Exit => (*work).exits[stepped] += 1,
                Kind::Free => (*work).frees[stepped] += 1,
                Kind::Return => {}
            }
            (*work).runs += 1;
            let begin = if (*work).runs < (*work).next { 0 } else { Self::timed(work) };
            Some(Self { work, begin })
        }
    }

    /// This run is timed, and the next one that will be is drawn.
    ///
    /// # Safety
    /// `work` points to a value of WORK.
    #[inline(always)]
    unsafe fn timed(work: *mut Work) -> u64 {
        // SAFETY: by the contract above; the helpers have no preconditions.
        unsafe {
            let distance = bpf_get_prandom_u32() as u32 % Work::MAX_DISTANCE + 1;
            (*work).next = (*work).runs + u64::from(distance);
            bpf_ktime_get_ns()
        }
    }

    /// The time in block time. The clock is read once a tick and CPU.
    #[inline(always)]
    pub(crate) fn now(&self) -> u32 {
        if self.work.is_null() {
            return read_clock();
        }
        // SAFETY: points to a value of WORK; a helper without arguments. Of two programs on this CPU that get here in turn
        // each reads what the other wrote, or reads the clock once more.
        unsafe {
            let tick = bpf_jiffies64();
            if (*self.work).tick != tick {
                (*self.work).time = u64::from(read_clock());
                (*self.work).tick = tick;
            }
            (*self.work).time as u32
        }
    }

    /// It was the entry of a call that leaves no more blocks than there were, or the return from one that was handed on.
    #[inline(always)]
    pub(crate) fn mark_move(&self) {
        if !self.work.is_null() {
            // SAFETY: points to a value of WORK.
            unsafe { (*self.work).moves += 1 };
        }
    }

    /// It freed an unknown block.
    #[inline(always)]
    pub(crate) fn unknown_free(&self) {
        if !self.work.is_null() {
            // SAFETY: points to a value of WORK.
            unsafe { (*self.work).unknown_frees += 1 };
        }
    }

    /// It ends.
    #[inline(always)]
    pub(crate) fn end(self) {
        if self.begin != 0 && !self.work.is_null() {
            // SAFETY: points to a value of WORK; a helper without arguments.
            unsafe {
                let spent = bpf_ktime_get_ns().wrapping_sub(self.begin);
                (*self.work).nanoseconds += spent * Work::TWICE_THE_MEAN / 2;
            }
        }
    }
}

#[inline(always)]
fn read_clock() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_ns() }.wrapping_sub(config::EPOCH.load()) >> TIME_SHIFT) as u32
}
