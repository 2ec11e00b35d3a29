//! What an entry, a return and a free do to the counts.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_F_USER_STACK,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_attach_cookie, bpf_get_stackid, bpf_ktime_get_ns, bpf_probe_read_user},
    },
    programs::ProbeContext,
};
use aya_log_ebpf::debug;
use memtrace_common::{
    Block, Call, Cookie, Counter, EventKind, Op, Sample, Shift, Target, Thread, TraceEvent, WalkEnd,
    WalkMethod, live_address, live_key,
    sampling::{EXACT, NOTHING},
};

use crate::{
    arch::Registers,
    calls, config, events, exits, live, mapping,
    maps::{KERNEL_STACKS, TARGET_BY_TGID, TARGETS, count},
    miss, oracle, sampling,
    shared::bounded,
    stacks, thread, walk,
    work::Run,
};

/// The cookie of the probe that runs.
#[inline(always)]
pub(crate) fn cookie(context: *mut c_void) -> Cookie {
    // SAFETY: `context` is the program's.
    Cookie(unsafe { bpf_get_attach_cookie(context) })
}

#[inline(always)]
fn target(cookie: Cookie) -> Option<(&'static Target, u32)> {
    let target = TARGETS.get(cookie.target())?;
    Some((target, Target::id(cookie.target(), target.generation)))
}

/// Makes the current process known as a target to the life-cycle tracepoints.
#[inline(always)]
fn learn_tgid(index: u32) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let _ = TARGET_BY_TGID.insert(tgid, index, 0);
    if let Some(target) = TARGETS.get_ptr_mut(index) {
        // SAFETY: `target` points to a value of TARGETS.
        unsafe { (&raw mut (*target).tgid).write_volatile(tgid) };
    }
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

/// The bytes an allocating function is asked for; `None` when the call will fail.
#[inline(always)]
fn requested(cookie: Cookie, arguments: &[u64; 4]) -> Option<u64> {
    let mut size = argument(arguments, cookie.size());
    if let Some(count) = cookie.count() {
        let elements = argument(arguments, count);
        // The function fails on overflow. (BPF has no 128-bit product, so divide back; `bounded` keeps LLVM from
        // making one of it.)
        let product = bounded(size.wrapping_mul(elements));
        if elements != 0 && product / elements != size {
            return None;
        }
        size = product;
    }
    Some(size)
}

/// An allocating function, or one that maps memory, was entered. `None`: its return does not matter. `skips`: then the
/// program does not run at the return either.
#[inline(always)]
pub(crate) fn enter(context: &ProbeContext, cookie: Cookie, run: &Run, skips: bool) -> Option<()> {
    let (target, id) = target(cookie)?;
    let sampling = Shift::from(target.sampling);
    if sampling == NOTHING {
        return None;
    }
    if target.tgid == 0 {
        learn_tgid(cookie.target());
    }
    // SAFETY: `context` is the program's.
    let registers = unsafe { Registers::new(context.as_ptr()) };
    let arguments = registers.arguments();
    let is_mapping = mapping::is_mapping(cookie);
    let size = if is_mapping { 0 } else { requested(cookie, &arguments)? };
    let old = cookie.old().map_or(0, |old| argument(&arguments, old));
    if old != 0 || cookie.is_delegating() {
        run.mark_move();
    }
    if sampling != EXACT && cookie.is_delegating() && old == 0 {
        // Else the request would be drawn twice.
        return None;
    }
    let mut sample = Sample::new(size, sampling);
    if !is_mapping && !(is_tracked(size) && sampling::draw(sample)) {
        if skips && old == 0 {
            if cookie.has_exits() != 0 {
                calls::drop_left_at(registers.entry_cfa(), id, cookie);
            }
            return None;
        }
        sample = Sample::new(size, NOTHING);
    }
    let thread = match thread::find() {
        Some(thread) => thread,
        None => claim(context, target.window)?,
    };
    // SAFETY: points to a value of THREADS.
    if unsafe { (*thread).window } != target.window {
        calls::calls_forget(thread, target.window);
    }
    if is_mapping && calls::calls_is_nested(thread, registers.entry_cfa(), u64::from(id)) != 0 {
        return None;
    }
    let mut call = calls::new(registers.entry_cfa(), sample, old, id, cookie);
    let recorded = sample.shift() != NOTHING;
    if recorded {
        if config::METHOD.load() == WalkMethod::Kernel as u32 {
            // SAFETY: the map is a stack map, the context the program's.
            unsafe {
                bpf_get_stackid(
                    context.as_ptr(),
                    (&raw const KERNEL_STACKS).cast_mut().cast(),
                    u64::from(BPF_F_USER_STACK),
                );
            }
        }
        enter_stack(&registers, thread, &mut call, target);
    }
    if !recorded && (old != 0 || !skips) {
        if cookie.has_exits() != 0 {
            calls::note_caller(&mut call);
        }
        // Before the old block is taken: one that is left may have it. This one is still in flight: what it maps is the
        // allocator's.
        calls::drop_left(thread, &call);
    }
    if is_mapping {
        mapping::enter(cookie, &arguments, &mut call);
    } else if old != 0 {
        // Taken now: once the allocator has freed it, another thread may be given its address before this call
        // returns.
        if let Some(block) = live::take(live_key(old, id)) {
            call.old = block;
        }
    } else if let Some(out) = cookie.out() {
        call.argument = argument(&arguments, out);
    }
    if !recorded && skips && !calls::holds_old(&call) {
        return None;
    }
    if !config::without(config::CALLS) {
        calls::push(thread, &call);
    }
    Some(())
}

/// A slot for a thread that has none yet.
#[inline(always)]
fn claim(context: &ProbeContext, window: u32) -> Option<*mut Thread> {
    debug!(context, "first allocation of thread {}", bpf_get_current_pid_tgid() as u32);
    match thread::claim(window) {
        Some(thread) => Some(thread),
        None => {
            count(Counter::NoThreadSlot, 1);
            None
        }
    }
}

/// Walks the caller's stack and drops calls that were left.
#[inline(always)]
fn enter_stack(registers: &Registers, thread: *mut Thread, call: &mut Call, target: &Target) {
    let Some(scratch) = walk::claim() else {
        calls::note_caller(call);
        calls::drop_left(thread, call);
        return;
    };
    walk::from_entry(scratch, registers, target, call.target);
    // SAFETY: `scratch` was claimed.
    unsafe {
        // What `from_entry` has read.
        call.caller = (*scratch).pc;
        if let Some(stack) = calls::drop_left(thread, call) {
            call.stack = stack;
        } else {
            walk::walk_finish(scratch);
            call.stack = stacks::intern(scratch);
            if config::ORACLE.load() != 0 {
                oracle::send(scratch, registers, call.stack);
            }
            if (*scratch).event.end == WalkEnd::NoModule as u32 {
                miss::report(Target::index(call.target));
            }
        }
        walk::release(scratch);
    }
}

/// An allocating function, or one that maps memory, returned.
#[inline(always)]
pub(crate) fn leave(context: *mut c_void, cookie: Cookie, run: &Run) -> Option<()> {
    let (_, id) = target(cookie)?;
    // SAFETY: `context` is the program's.
    let registers = unsafe { Registers::new(context) };
    let thread = thread::find()?;
    let (call, outer) = if config::without(config::CALLS) {
        (calls::unknown(registers.return_cfa(), id, cookie), core::ptr::null_mut())
    } else {
        calls::pop(thread, registers.return_cfa(), id)?
    };
    if mapping::is_mapping(cookie) {
        mapping::leave(cookie, &call, registers.result(), run.now());
    } else {
        settle(&call, registers.result(), outer, run);
    }
    Some(())
}

/// An allocating function is about to return, with its result known.
#[inline(always)]
pub(crate) fn exit(context: *mut c_void, cookie: Cookie, run: &Run) -> Option<()> {
    let exit = cookie.as_exit();
    // SAFETY: `context` is the program's.
    let registers = unsafe { Registers::new(context) };
    let cfa = registers.exit_cfa(exit)?;
    let (target, id) = target(cookie)?;
    let thread = thread::find()?;
    // SAFETY: points to a value of THREADS.
    if unsafe { (*thread).window } != target.window {
        return None;
    }
    let (call, outer) = if config::without(config::CALLS) {
        (calls::unknown(cfa, id, cookie), core::ptr::null_mut())
    } else {
        exits::pop(thread, cfa, id)?
    };
    settle(&call, registers.exit_result(exit), outer, run);
    Some(())
}

/// The block that a call returns; 0: none. `None`: it cannot be read.
#[inline(always)]
fn handed_out(call: &Call, result: u64) -> Option<u64> {
    if call.cookie.out().is_none() {
        return Some(result);
    }
    if result as u32 != 0 {
        return Some(0);
    }
    let mut address = 0u64;
    // SAFETY: reads into a local variable.
    let read = unsafe { bpf_probe_read_user((&raw mut address).cast(), 8, call.argument as *const c_void) };
    if read != 0 {
        count(Counter::ResultUnreadable, 1);
        return None;
    }
    Some(address)
}

/// Takes back what nested calls recorded, if this one returns it: the block itself, or a part of it.
#[inline(always)]
fn take_back(call: &Call, address: u64, run: &Run) {
    let key = live_key(address, call.target);
    if key != call.inner {
        // Not the last nested one's, but perhaps an earlier one's.
        take_back_block(call, key, run);
    }
    let Some(block) = live::take(call.inner) else { return };
    // With what was asked for, it has to lie in the inner block: a neighbour may begin where that ends.
    let into = address.wrapping_sub(live_address(call.inner));
    if into == 0 || into < block.sample.size() && call.sample.size() <= block.sample.size() - into {
        undo(call, call.inner, block, run);
    } else {
        live::insert(call.inner, block);
    }
}

#[inline(always)]
fn take_back_block(call: &Call, key: u64, run: &Run) {
    if let Some(block) = live::take(key) {
        undo(call, key, block, run);
    }
}

#[inline(always)]
fn undo(call: &Call, key: u64, block: Block, run: &Run) {
    stacks::undo(block);
    if call.cookie.old().is_none() {
        run.mark_move();
    }
    trace(Op::Free, live_address(key), block, call.target);
}

/// Books what a call did.
#[inline(always)]
fn settle(call: &Call, result: u64, outer: *mut Call, run: &Run) {
    let Some(address) = handed_out(call, result) else { return };
    if call.inner != 0 && address != 0 {
        take_back(call, address, run);
    }
    if call.cookie.old().is_some() && call.argument != 0 {
        if address == 0 && call.sample.size() != 0 {
            calls::restore(call);
            return;
        }
        // `realloc(p, 0)` that returns NULL has freed the block.
        if calls::holds_old(call) {
            stacks::end(call.old, run);
            trace(Op::Free, call.argument, call.old, call.target);
        }
    }
    if address == 0 || call.sample.shift() == NOTHING {
        return;
    }
    let key = live_key(address, call.target);
    let block = Block { sample: call.sample, stack: call.stack, time: run.now() };
    if live::insert_here(key, block) {
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
pub(crate) fn free(context: *mut c_void, cookie: Cookie, run: &Run) -> Option<()> {
    let (target, id) = target(cookie)?;
    // SAFETY: `context` is the program's.
    let registers = unsafe { Registers::new(context) };
    let address = registers.arguments()[0];
    if address == 0 {
        return None;
    }
    match live::take_here(live_key(address, id)) {
        Some(block) => {
            stacks::end(block, run);
            trace(Op::Free, address, block, id);
        }
        None => {
            run.unknown_free();
            // For sampled blocks this is not worth its price on every free.
            if Shift::from(target.sampling) == EXACT {
                calls::calls_free_left(address, u64::from(id), registers.entry_cfa());
            }
        }
    }
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
        size: block.sample.size(),
        slot: block.stack,
        target,
    };
    events::send(&event);
}
