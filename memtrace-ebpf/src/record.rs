//! What an entry, a return and a free do to the counts.
//!
//! A call in flight is kept on its thread's slot with its canonical frame address (CFA), and the return that
//! arrives with that address is its return. So nesting, `longjmp` and exceptions are told apart:
//! - an entry below a call in flight may be nested in it; it is counted, and taken back when the outer call
//!   returns. If the outer one was left by `longjmp`, it never does, and the count stands;
//! - an entry at or above a call in flight shows that the call was left: it is dropped and counted as lost.
//!   (At the same address it can also be a tail call, see `is_tail_call`.)

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_attach_cookie, bpf_ktime_get_ns, bpf_probe_read_user, bpf_ringbuf_output},
    },
    programs::ProbeContext,
};
use aya_log_ebpf::debug;
use memtrace_common::{
    Block, CALLS_PER_THREAD, Call, Cookie, Counter, EventKind, Op, STACK_TABLE_FULL, TIME_SHIFT, Target,
    Thread, TraceEvent, live_key,
};

use crate::{
    arch::Registers,
    config, live,
    maps::{EVENTS, TARGETS, count},
    stacks, thread,
    walk::{self, Scratch},
};

const DEPTH_MASK: usize = CALLS_PER_THREAD - 1;
const PAGE: u64 = 4096;

/// Time of now, in ns of ktime and in block time.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_ns() }.wrapping_sub(config::EPOCH.load()) >> TIME_SHIFT) as u32
}

#[inline(always)]
fn cookie(context: *mut c_void) -> Cookie {
    // SAFETY: `context` is the program's.
    Cookie(unsafe { bpf_get_attach_cookie(context) })
}

#[inline(always)]
fn target(cookie: Cookie) -> Option<u32> {
    let target = TARGETS.get(cookie.target())?;
    Some(Target::id(cookie.target(), target.generation))
}

#[inline(always)]
fn argument(arguments: &[u64; 4], number: u64) -> u64 {
    match number {
        0 => arguments[0],
        1 => arguments[1],
        2 => arguments[2],
        _ => arguments[3],
    }
}

#[inline(always)]
fn is_tracked(size: u64) -> bool {
    size >= config::MIN_SIZE.load() && size <= config::MAX_SIZE.load()
}

/// An allocating function was entered.
#[inline(always)]
pub(crate) fn enter(context: &ProbeContext) -> Option<()> {
    let cookie = cookie(context.as_ptr());
    let id = target(cookie)?;
    // SAFETY: `context` is the program's.
    let registers = unsafe { Registers::new(context.as_ptr()) };
    let arguments = registers.arguments();
    let mut size = argument(&arguments, cookie.size());
    if let Some(count) = cookie.count() {
        let elements = argument(&arguments, count);
        // The function fails on overflow. (BPF has no 128-bit product, so divide back; `bounded` keeps LLVM from
        // making one of it.)
        let product = walk::bounded(size.wrapping_mul(elements));
        if elements != 0 && product / elements != size {
            return None;
        }
        size = product;
    }
    if cookie.old().is_none() && !is_tracked(size) {
        return None;
    }
    let thread = match thread::find() {
        Some(thread) => thread,
        None => claim(context)?,
    };
    let mut call = Call {
        cfa: registers.entry_cfa(),
        size,
        caller: 0,
        argument: 0,
        inner: 0,
        old: Block { size: 0, stack: STACK_TABLE_FULL, time: 0 },
        stack: STACK_TABLE_FULL,
        target: id,
    };
    enter_stack(&registers, thread, &mut call);
    if let Some(old) = cookie.old() {
        call.argument = argument(&arguments, old);
        // Taken now: once the allocator has freed it, another thread may be given its address before this call
        // returns.
        if call.argument != 0
            && let Some(block) = live::take(live_key(call.argument, id))
        {
            call.old = block;
        }
    } else if let Some(out) = cookie.out() {
        call.argument = argument(&arguments, out);
    }
    push(thread, &call);
    Some(())
}

/// A slot for a thread that has none yet.
#[inline(always)]
fn claim(context: &ProbeContext) -> Option<*mut Thread> {
    let thread = thread::claim();
    if thread.is_none() {
        count(Counter::NoThreadSlot, 1);
    }
    debug!(context, "first allocation of thread {}", bpf_get_current_pid_tgid() as u32);
    thread
}

/// Walks the caller's stack and drops calls that were left.
#[inline(always)]
fn enter_stack(registers: &Registers, thread: *mut Thread, call: &mut Call) {
    let Some(scratch) = Scratch::claim() else {
        drop_left(thread, call);
        return;
    };
    walk::from_entry(scratch, registers.return_slot(), registers.frame_pointer(), call.target);
    // SAFETY: `scratch` was claimed.
    unsafe {
        call.caller = Scratch::caller(scratch);
        if let Some(stack) = drop_left(thread, call) {
            call.stack = stack;
        } else {
            walk::finish(scratch);
            call.stack = stacks::intern(scratch);
        }
        Scratch::release(scratch);
    }
}

/// Drops calls in flight that the new one shows were left. For a tail call, returns the stack of the call it
/// replaces: its own return address is hidden behind the trampoline.
#[inline(always)]
fn drop_left(thread: *mut Thread, call: &Call) -> Option<u32> {
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        for _ in 0..CALLS_PER_THREAD {
            let depth = (*thread).depth;
            if depth == 0 {
                return None;
            }
            let top = &raw const (*thread).calls[(depth as usize - 1) & DEPTH_MASK];
            if (*top).target == call.target {
                if (*top).cfa > call.cfa {
                    return None;
                }
                if (*top).cfa == call.cfa && is_tail_call(&*top, call) {
                    return Some((*top).stack);
                }
                lost(&*top);
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
    call.caller & (PAGE - 1) == 0 && call.caller != top.caller
}

/// A call that will not return any more. What its `realloc` did with the old block is unknown: it is kept.
#[inline(always)]
fn lost(call: &Call) {
    count(Counter::InFlightLost, 1);
    restore(call);
}

/// Puts `realloc`'s old block back.
#[inline(always)]
fn restore(call: &Call) {
    if call.old.stack != STACK_TABLE_FULL || call.old.size != 0 {
        live::insert(live_key(call.argument, call.target), call.old);
    }
}

#[inline(always)]
fn push(thread: *mut Thread, call: &Call) {
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        let mut depth = (*thread).depth as usize;
        if depth >= CALLS_PER_THREAD {
            // The outermost goes: it is the likeliest to have been left long ago.
            lost(&(*thread).calls[0]);
            for i in 1..CALLS_PER_THREAD {
                (*thread).calls[i - 1] = (*thread).calls[i];
            }
            depth = CALLS_PER_THREAD - 1;
        }
        (*thread).calls[depth & DEPTH_MASK] = *call;
        (*thread).depth = depth as u64 + 1;
    }
}

/// An allocating function returned.
#[inline(always)]
pub(crate) fn leave(context: *mut c_void) -> Option<()> {
    let cookie = cookie(context);
    let id = target(cookie)?;
    // SAFETY: `context` is the program's.
    let registers = unsafe { Registers::new(context) };
    let thread = thread::find()?;
    let (call, outer) = pop(thread, registers.return_cfa(), id)?;
    settle(cookie, &call, registers.result(), outer);
    Some(())
}

/// The call that returns to `cfa`, and the one around it. Calls below it were left.
#[inline(always)]
fn pop(thread: *mut Thread, cfa: u64, id: u32) -> Option<(Call, *mut Call)> {
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        for _ in 0..CALLS_PER_THREAD {
            let depth = (*thread).depth as usize;
            if depth == 0 {
                return None;
            }
            let top = &raw const (*thread).calls[(depth - 1) & DEPTH_MASK];
            if (*top).cfa > cfa && (*top).target == id {
                return None;
            }
            (*thread).depth = depth as u64 - 1;
            if (*top).cfa == cfa && (*top).target == id {
                let outer = if depth >= 2 {
                    &raw mut (*thread).calls[(depth - 2) & DEPTH_MASK]
                } else {
                    core::ptr::null_mut()
                };
                return Some((*top, outer));
            }
            if (*top).target == id {
                lost(&*top);
            }
        }
    }
    None
}

/// Books what a call did.
#[inline(always)]
fn settle(cookie: Cookie, call: &Call, result: u64, outer: *mut Call) {
    if call.inner != 0
        && let Some(block) = live::take(call.inner)
    {
        stacks::undo(block);
        trace(Op::Free, call.inner, block, call.target);
    }
    let mut address = result;
    if cookie.out().is_some() {
        if result as u32 != 0 {
            return;
        }
        // SAFETY: reads into a local variable.
        let read =
            unsafe { bpf_probe_read_user((&raw mut address).cast(), 8, call.argument as *const c_void) };
        if read != 0 {
            count(Counter::ResultUnreadable, 1);
            return;
        }
    }
    if cookie.old().is_some() && call.argument != 0 {
        if address == 0 && call.size != 0 {
            restore(call);
            return;
        }
        // `realloc(p, 0)` that returns NULL has freed the block.
        if call.old.stack != STACK_TABLE_FULL || call.old.size != 0 {
            stacks::subtract(call.old);
            trace(Op::Free, call.argument, call.old, call.target);
        }
    }
    if address == 0 || !is_tracked(call.size) {
        return;
    }
    let key = live_key(address, call.target);
    let block = Block { size: call.size, stack: call.stack, time: now() };
    if live::insert(key, block) {
        stacks::add(block);
        if !outer.is_null() {
            // SAFETY: points into this thread's slot.
            unsafe { (*outer).inner = key };
        }
    } else {
        stacks::untracked(block);
    }
    trace(Op::Allocate, address, block, call.target);
}

/// A block is about to be freed.
#[inline(always)]
pub(crate) fn free(context: *mut c_void) -> Option<()> {
    let id = target(cookie(context))?;
    // SAFETY: `context` is the program's.
    let address = unsafe { Registers::new(context) }.arguments()[0];
    if address == 0 {
        return None;
    }
    let block = live::take(live_key(address, id))?;
    stacks::subtract(block);
    trace(Op::Free, address, block, id);
    Some(())
}

/// Sends an event to the agent, with `--trace`.
#[inline(always)]
fn trace(op: Op, address: u64, block: Block, target: u32) {
    if config::TRACE.load() == 0 {
        return;
    }
    let event = TraceEvent {
        kind: EventKind::Trace as u32,
        op: op as u32,
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_ns() },
        pid_tgid: bpf_get_current_pid_tgid(),
        address,
        size: block.size,
        slot: block.stack,
        target,
    };
    // SAFETY: `event` is a local variable of the size given.
    let taken = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw const event).cast_mut().cast(),
            size_of::<TraceEvent>() as u64,
            0,
        )
    };
    if taken != 0 {
        count(Counter::RingFull, 1);
    }
}
