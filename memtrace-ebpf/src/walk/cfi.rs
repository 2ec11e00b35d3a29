//! Following call frame information, as rows.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use memtrace_common::{EXACT, MAX_FRAMES, Row, WalkEnd};

use super::{
    fp,
    frames::{note_end, push},
    rules, trampoline, window,
};
use crate::{
    arch::{self, Frame, SIGNAL},
    shared::bounded,
    types::{Rule, Scratch},
};

/// Frames taken in one call: every call and return costs about as much as half a frame. 64 bits: verifiers before Linux
/// 5.17 lose track of a count of 32 bits on the stack.
const STEPS_PER_CALL: u64 = 4;
/// Calls before the loop: short stacks need none.
const CALLS_BEFORE: u32 = 2;

/// Takes frames until the first one of the thread, or until the walk cannot go on.
#[inline(always)]
pub(super) fn walk(scratch: *mut Scratch) {
    for _ in 0..CALLS_BEFORE {
        if cfi_steps(scratch) != 0 {
            return;
        }
    }
    let mut context = scratch;
    // SAFETY: `context` outlives the call, and the callback takes it as what it is.
    unsafe {
        bpf_loop(
            MAX_FRAMES as u32 / STEPS_PER_CALL as u32 + 1,
            steps as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
    }
}

extern "C" fn steps(_: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `walk` passed. LLVM knows that the result is 0 or 1, but the verifier must see it.
    i64::from(bounded(cfi_steps(unsafe { *context.cast::<*mut Scratch>() })) != 0)
}

/// Takes the frame at `pc` and finds the next one, several times; not 0 at the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cfi_steps(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    for _ in 0..STEPS_PER_CALL {
        if note_end(scratch, try_step(scratch)) != 0 {
            return 1;
        }
    }
    0
}

#[inline(always)]
fn try_step(scratch: *mut Scratch) -> Result<(), WalkEnd> {
    // SAFETY: as above.
    let (pc, sp) = unsafe { ((*scratch).pc, (*scratch).sp) };
    if !push(scratch, pc) {
        return Err(WalkEnd::TooDeep);
    }
    // A return address may be that of the next function: the call is one byte before.
    let address = if pc & EXACT != 0 { pc & !EXACT } else { pc - 1 };
    let rule = rules::rule(scratch, address);
    if rule.is_none() {
        return Err(WalkEnd::NoModule);
    }
    if rule.kind() == Row::SIGNAL {
        return signal(scratch, sp);
    }
    if rule.kind() == Row::LEAF && SIGNAL.link.is_some() {
        return leaf(scratch, rule, sp);
    }
    let frame = frame(scratch, rule, sp, pc & EXACT != 0)?;
    if frame.cfa <= sp && pc & EXACT == 0 {
        return Err(WalkEnd::BadFrame);
    }
    if frame.frame_pointer != 0 {
        let value = window::read(scratch, frame.frame_pointer).ok_or(WalkEnd::Unreadable)?;
        // SAFETY: as above.
        unsafe { (*scratch).frame_pointer = value };
    }
    let found = window::read(scratch, frame.return_address).ok_or(WalkEnd::Unreadable)?;
    return_to(scratch, arch::code_address(found), frame.cfa)
}

/// Makes the caller's frame the next, by the return address and the canonical frame address.
#[inline(always)]
fn return_to(scratch: *mut Scratch, found: u64, cfa: u64) -> Result<(), WalkEnd> {
    if found == 0 {
        return Err(WalkEnd::NoReturnAddress);
    }
    // SAFETY: as above.
    unsafe {
        (*scratch).pc = trampoline::resolve(arch::entry_sp(cfa), found);
        (*scratch).sp = cfa;
    }
    Ok(())
}

/// The frame that a rule gives.
#[inline(always)]
fn frame(scratch: *mut Scratch, rule: Rule, sp: u64, interrupted: bool) -> Result<Frame, WalkEnd> {
    // SAFETY: as above.
    let frame_pointer = unsafe { (*scratch).frame_pointer };
    // Rare cases last.
    match arch::frame(rule, sp, frame_pointer, |address| window::read(scratch, address)) {
        Err(WalkEnd::Unsupported) => {}
        known => return known,
    }
    match rule.kind() {
        Row::NO_FDE if fp::plausible(frame_pointer, sp) => Ok(arch::frame_by_frame_pointer(frame_pointer)),
        Row::NO_FDE => Err(WalkEnd::NoUnwindInfo),
        // Code that was interrupted may have no row of its own, and then follows that of the first frame.
        Row::END if interrupted => Err(WalkEnd::NoUnwindInfo),
        Row::END => Err(WalkEnd::Complete),
        _ => Err(WalkEnd::Unsupported),
    }
}

/// A frame that was interrupted with its return address still in the link register. A frame that has made a call no
/// longer has it there.
#[inline(always)]
fn leaf(scratch: *mut Scratch, rule: Rule, sp: u64) -> Result<(), WalkEnd> {
    // SAFETY: as above.
    let (pc, link) = unsafe { ((*scratch).pc, (*scratch).link) };
    if pc & EXACT == 0 {
        return Err(WalkEnd::Unsupported);
    }
    return_to(scratch, arch::code_address(link), sp + 8 * rule.cfa())
}

/// The frame that a signal interrupted. It may run on another stack.
#[inline(always)]
fn signal(scratch: *mut Scratch, at: u64) -> Result<(), WalkEnd> {
    let frame_pointer = window::read(scratch, at + SIGNAL.frame_pointer).ok_or(WalkEnd::Unreadable)?;
    if let Some(link) = SIGNAL.link {
        let link = window::read(scratch, at + link).ok_or(WalkEnd::Unreadable)?;
        // SAFETY: as above.
        unsafe { (*scratch).link = link };
    }
    let sp = window::read(scratch, at + SIGNAL.sp).ok_or(WalkEnd::Unreadable)?;
    let pc = window::read(scratch, at + SIGNAL.pc).ok_or(WalkEnd::Unreadable)?;
    if pc == 0 {
        return Err(WalkEnd::NoReturnAddress);
    }
    // SAFETY: as above.
    unsafe {
        (*scratch).pc = pc | EXACT;
        (*scratch).sp = sp;
        (*scratch).frame_pointer = frame_pointer;
    }
    Ok(())
}
