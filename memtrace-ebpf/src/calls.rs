//! Calls in flight, per thread: entered, not yet returned.
//!
//! A call is kept with its canonical frame address (CFA), and the return that arrives with that address is its
//! return. This distinguishes nesting, `longjmp` and exceptions:
//! - an entry below a call in flight may be nested in it: if that call's return address is still the return probe's,
//!   or cannot be found (aarch64: a function may save it anywhere). It is counted, and taken back when the outer
//!   call returns. If the outer one was still left by `longjmp`, it never does, and the count stands;
//! - an entry at or above a call in flight shows that the call was left: it is dropped and counted as lost.
//!   (At the same address it can also be a tail call, see `is_tail_call`.)
//!
//! If results are read at a function's exits, nothing marks the return address. Such a call is in flight while its return
//! address is still where it was at the entry, and it can be on another stack: a function that switches stacks returns to
//! it later. If it is left otherwise, by an exception or `longjmp`, it has returned no block, and none is lost.

use core::mem::MaybeUninit;

use memtrace_common::{
    Block, CALLS_PER_THREAD, Call, Cookie, Counter, STACK_TABLE_FULL, Sample, Target, Thread, live_key,
    sampling::EXACT,
};

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{arch, live, maps::count, stacks, thread};

pub(crate) const DEPTH_MASK: usize = CALLS_PER_THREAD - 1;
const PAGE: u64 = 4096;

/// A call about to be entered: nothing of it is known yet.
pub(crate) const NONE: Block = Block { sample: Sample(0), stack: STACK_TABLE_FULL, time: 0 };

/// Forgets what was in flight when the target's probes were detached: whether it still is, is unknown. Blocks that a
/// `realloc` was about to give up are no longer known. Global function: verified once, and called once a thread and
/// attachment.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn calls_forget(thread: *mut Thread, window: u32) -> u64 {
    if thread.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are masked.
    unsafe {
        for index in 0..CALLS_PER_THREAD {
            if index as u32 >= (*thread).depth {
                break;
            }
            let call = &raw const (*thread).calls[index & DEPTH_MASK];
            if holds_old(&*call) {
                stacks::subtract((*call).old);
            }
        }
        (*thread).depth = 0;
        (*thread).window = window;
    }
    1
}

/// A call that is entered.
#[inline(always)]
pub(crate) fn new(cfa: u64, sample: Sample, argument: u64, target: u32, cookie: Cookie) -> Call {
    let mut call = MaybeUninit::<Call>::uninit();
    let place = call.as_mut_ptr();
    // SAFETY: every field is written. Volatile, or LLVM calls a function to clear them.
    unsafe {
        (&raw mut (*place).cfa).write(cfa);
        (&raw mut (*place).sample).write(sample);
        (&raw mut (*place).caller).write_volatile(0);
        (&raw mut (*place).argument).write(argument);
        (&raw mut (*place).inner).write_volatile(0);
        (&raw mut (*place).old.sample.0).write_volatile(0);
        (&raw mut (*place).old.stack).write_volatile(STACK_TABLE_FULL);
        (&raw mut (*place).old.time).write_volatile(0);
        (&raw mut (*place).stack).write_volatile(STACK_TABLE_FULL);
        (&raw mut (*place).target).write(target);
        (&raw mut (*place).cookie).write(cookie);
        call.assume_init()
    }
}

/// Stands for the call that returns if calls in flight are left out.
#[inline(always)]
pub(crate) fn unknown(cfa: u64, target: u32, cookie: Cookie) -> Call {
    new(cfa, Sample::new(1, EXACT), 0, target, cookie)
}

/// Drops calls in flight that the new one shows were left. For a tail call, returns the stack of the call it
/// replaces: its own return address is hidden behind the trampoline.
#[inline(always)]
pub(crate) fn drop_left(thread: *mut Thread, call: &Call) -> Option<u32> {
    // SAFETY: `thread` points to a value of THREADS and is this thread's.
    if unsafe { (*thread).depth } == 0 {
        return None;
    }
    match calls_drop_left(thread, call) {
        0 => None,
        stack => Some((stack - 1) as u32),
    }
}

/// The same for a call that is entered and not kept: its exits would settle one that was left at the same place.
#[inline(always)]
pub(crate) fn drop_left_at(cfa: u64, target: u32, cookie: Cookie) {
    let Some(thread) = thread::find() else { return };
    // SAFETY: `thread` points to a value of THREADS and is this thread's.
    if unsafe { (*thread).depth } != 0 {
        let mut call = new(cfa, Sample(0), 0, target, cookie);
        note_caller(&mut call);
        calls_drop_left(thread, &call);
    }
}

/// Global function: verified once. The stack's slot plus 1; 0: none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn calls_drop_left(thread: *mut Thread, call: *const Call) -> u64 {
    if thread.is_null() || call.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows their sizes.
    match try_drop_left(thread, unsafe { &*call }) {
        Some(stack) => u64::from(stack) + 1,
        None => 0,
    }
}

#[inline(always)]
fn try_drop_left(thread: *mut Thread, call: &Call) -> Option<u32> {
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        for _ in 0..CALLS_PER_THREAD {
            let depth = (*thread).depth;
            if depth == 0 {
                return None;
            }
            let top = &raw const (*thread).calls[(depth as usize - 1) & DEPTH_MASK];
            if (*top).target == call.target {
                if (*top).cfa > call.cfa && is_pending(&*top) {
                    return None;
                }
                if (*top).cfa == call.cfa && is_tail_call(&*top, call) {
                    return Some((*top).stack);
                }
                if has_exits(&*top) && (*top).cfa != call.cfa && is_pending(&*top) {
                    return None;
                }
                left(&*top);
            }
            (*thread).depth = depth - 1;
        }
    }
    None
}

/// Whether the new call, which returns to the same stack address as one in flight, is a tail call out of it. Then
/// its return address is that of the kernel's return-probe trampoline, the first byte of a page. A fresh call after
/// a `longjmp` has an ordinary one: that of the same place as before, or one that follows another call instruction.
#[inline(always)]
fn is_tail_call(top: &Call, call: &Call) -> bool {
    !has_exits(top) && call.caller & (PAGE - 1) == 0 && call.caller != top.caller
}

/// Whether a call's result is read at its exits.
#[inline(always)]
fn has_exits(call: &Call) -> bool {
    call.cookie.has_exits() != 0
}

/// Whether the return address of a call in flight is still the trampoline's (or its own, if nothing replaces it), or
/// unknown. Memory below the stack pointer after a `longjmp` keeps it until something else is called deep enough.
#[inline(always)]
fn is_pending(call: &Call) -> bool {
    let Some(slot) = arch::return_slot(call.cfa) else { return true };
    let mut address = 0u64;
    // SAFETY: reads into a local variable.
    let failed = unsafe { bpf_probe_read_user((&raw mut address).cast(), 8, slot as *const _) };
    if failed != 0 {
        return false;
    }
    // Another tool's return probe may have replaced that of a call with exits.
    address & (PAGE - 1) == 0 || has_exits(call) && address == call.caller
}

/// The return address of a function that was just entered, if no walk has read it.
#[inline(always)]
pub(crate) fn note_caller(call: &mut Call) {
    let Some(slot) = arch::return_slot(call.cfa) else { return };
    // SAFETY: reads into the call.
    unsafe { bpf_probe_read_user((&raw mut call.caller).cast(), 8, slot as *const _) };
}

/// A call that will never return. What it did is lost; its `realloc`'s old block is kept.
#[inline(always)]
fn lost(call: &Call) {
    count(Counter::InFlightLost, 1);
    restore(call);
}

/// A call that was left. If all of its exits are probed, it has returned no block.
#[inline(always)]
fn left(call: &Call) {
    if has_exits(call) {
        restore(call);
    } else {
        lost(call);
    }
}

/// Whether `realloc`'s old block was known.
#[inline(always)]
pub(crate) fn holds_old(call: &Call) -> bool {
    call.old.stack != STACK_TABLE_FULL || call.old.sample.0 != 0
}

/// Puts `realloc`'s old block back.
#[inline(always)]
pub(crate) fn restore(call: &Call) {
    if holds_old(call) {
        live::insert(live_key(call.argument, call.target), call.old);
    }
}

/// The block that a `realloc` of this thread was about to give up, if that call was left and the block is now freed:
/// `cfa` is the free's. (A free inside a `realloc` that is still running is part of it.) Global function:
/// verified once, and called only for what is not in the table of live blocks.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn calls_free_left(address: u64, target: u64, cfa: u64) -> u64 {
    let Some(thread) = thread::find() else { return 0 };
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        for index in 0..CALLS_PER_THREAD {
            if index as u32 >= (*thread).depth {
                break;
            }
            let call = &raw mut (*thread).calls[index & DEPTH_MASK];
            if (*call).argument != address || u64::from((*call).target) != target || !holds_old(&*call) {
                continue;
            }
            if cfa <= (*call).cfa && is_pending(&*call) {
                return 0;
            }
            stacks::subtract((*call).old);
            (*call).old = NONE;
            return 1;
        }
    }
    0
}

/// Whether a call with the given CFA is part of one in flight. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn calls_is_nested(thread: *mut Thread, cfa: u64, target: u64) -> u64 {
    if thread.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; the index is masked.
    unsafe {
        let depth = (*thread).depth;
        if depth == 0 {
            return 0;
        }
        let top = &raw const (*thread).calls[(depth as usize - 1) & DEPTH_MASK];
        u64::from((*top).cfa > cfa && u64::from((*top).target) == target && is_pending(&*top))
    }
}

/// Puts a call in flight.
#[inline(always)]
pub(crate) fn push(thread: *mut Thread, call: &Call) {
    // SAFETY: `thread` points to a value of THREADS and is this thread's.
    unsafe {
        if (*thread).depth == 0 {
            store(&raw mut (*thread).calls[0], call);
            (*thread).depth = 1;
            return;
        }
    }
    calls_push(thread, call);
}

/// The same if others are in flight. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn calls_push(thread: *mut Thread, call: *const Call) -> u64 {
    if thread.is_null() || call.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows their sizes; indices are masked.
    unsafe {
        let mut depth = (*thread).depth as usize;
        if depth >= CALLS_PER_THREAD {
            // The outermost is dropped: it is the most likely to have been left.
            let outermost = &(*thread).calls[0];
            if is_pending(outermost) {
                lost(outermost);
            } else {
                left(outermost);
            }
            for i in 1..CALLS_PER_THREAD {
                (*thread).calls[i - 1] = (*thread).calls[i];
            }
            depth = CALLS_PER_THREAD - 1;
        }
        store(&raw mut (*thread).calls[depth & DEPTH_MASK], call);
        (*thread).depth = depth as u32 + 1;
    }
    1
}

/// Copies a call by words: LLVM would make it a loop over bytes.
///
/// # Safety
/// Both are valid.
#[inline(always)]
pub(crate) unsafe fn store(place: *mut Call, call: *const Call) {
    // SAFETY: by the contract above; a call is nine words.
    unsafe {
        for word in 0..size_of::<Call>() / 8 {
            place.cast::<u64>().add(word).write_volatile(call.cast::<u64>().add(word).read_volatile());
        }
    }
}

/// The call that returns to `cfa`, and the one around it. Calls below it were left.
#[inline(always)]
pub(crate) fn pop(thread: *mut Thread, cfa: u64, id: u32) -> Option<(Call, *mut Call)> {
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        for _ in 0..CALLS_PER_THREAD {
            let depth = (*thread).depth as usize;
            if depth == 0 {
                return None;
            }
            let top = &raw const (*thread).calls[(depth - 1) & DEPTH_MASK];
            // Older kernels (6.1 does) run return probes of a program's other targets too, with their cookies: it is
            // not the return of this call. What an earlier program left here is dropped at the next entry.
            if Target::index((*top).target) != Target::index(id) {
                return None;
            }
            if (*top).cfa > cfa && (*top).target == id {
                return None;
            }
            (*thread).depth = depth as u32 - 1;
            if (*top).cfa == cfa && (*top).target == id {
                let outer = if depth >= 2 {
                    &raw mut (*thread).calls[(depth - 2) & DEPTH_MASK]
                } else {
                    core::ptr::null_mut()
                };
                return Some((*top, outer));
            }
            if (*top).target == id {
                left(&*top);
            }
        }
    }
    None
}

/// The current thread ends: its slot is free again, what it had in flight was left.
#[inline(always)]
pub(crate) fn thread_exit() {
    let Some(thread) = thread::find() else { return };
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        for _ in 0..CALLS_PER_THREAD {
            let depth = (*thread).depth as usize;
            if depth == 0 {
                break;
            }
            let call = &(*thread).calls[(depth - 1) & DEPTH_MASK];
            if !has_exits(call) {
                count(Counter::InFlightAtExit, 1);
            }
            restore(call);
            (*thread).depth = depth as u32 - 1;
        }
        thread::release(thread);
    }
}
