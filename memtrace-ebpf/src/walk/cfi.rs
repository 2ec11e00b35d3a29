//! Following call frame information, as rows.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use memtrace_common::{EXACT, MAX_FRAMES, Row, WalkEnd};

use super::{
    Scratch, fp, push,
    rules::{self, Rule},
    trampoline, window,
};

/// What [`Row::SP_FAR`] adds: 65,536 words.
const FAR: u64 = 8 << 16;

/// A step costs less than the call of a callback: two in each.
const STEPS_PER_CALL: u32 = 2;

/// Where a signal handler's return code finds the interrupted registers: it runs with the stack pointer at a
/// `ucontext_t`, whose `uc_mcontext.gregs` hold them (arch/x86/include/uapi/asm/sigcontext.h).
const SIGNAL_FP: u64 = 120;
const SIGNAL_SP: u64 = 160;
const SIGNAL_PC: u64 = 168;

/// Takes frames until the first one of the thread, or until something is in the way.
#[inline(always)]
pub(super) fn walk(scratch: *mut Scratch) {
    let mut context = scratch;
    // SAFETY: `context` outlives the call, and the callback takes it as what it is.
    unsafe {
        bpf_loop(MAX_FRAMES as u32 / STEPS_PER_CALL + 1, steps as *mut c_void, (&raw mut context).cast(), 0);
    }
}

extern "C" fn steps(_: u32, context: *mut c_void) -> i64 {
    // SAFETY: what `walk` passed.
    let scratch = unsafe { *context.cast::<*mut Scratch>() };
    for _ in 0..STEPS_PER_CALL {
        if cfi_step(scratch) != 0 {
            return 1;
        }
    }
    0
}

/// Takes the frame at `pc` and finds the next one; not 0 at the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cfi_step(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    match try_step(scratch) {
        Ok(()) => 0,
        Err(end) => {
            // SAFETY: not null, and the verifier knows its size.
            unsafe { (*scratch).event.end = end as u32 };
            1
        }
    }
}

#[inline(always)]
fn try_step(scratch: *mut Scratch) -> Result<(), WalkEnd> {
    // SAFETY: as above.
    let (pc, sp) = unsafe { ((*scratch).pc, (*scratch).sp) };
    if !push(scratch, pc) {
        return Err(WalkEnd::TooDeep);
    }
    // A return address may be that of the next function: the call is one byte before.
    let rule = rules::rule(scratch, if pc & EXACT != 0 { pc & !EXACT } else { pc - 1 });
    if rule.is_none() {
        return Err(WalkEnd::NoModule);
    }
    if rule.kind() == Row::SIGNAL {
        return signal(scratch, sp);
    }
    let (cfa, saved_fp) = frame(scratch, rule, sp, pc & EXACT != 0)?;
    if cfa <= sp && pc & EXACT == 0 {
        return Err(WalkEnd::BadFrame);
    }
    let slot = cfa - 8;
    if saved_fp != 0 {
        let value = window::read(scratch, saved_fp).ok_or(WalkEnd::Unreadable)?;
        // SAFETY: as above.
        unsafe { (*scratch).frame_pointer = value };
    }
    let next = window::read(scratch, slot).ok_or(WalkEnd::Unreadable)?;
    if next == 0 {
        return Err(WalkEnd::NoReturnAddress);
    }
    // SAFETY: as above.
    unsafe {
        (*scratch).pc = trampoline::resolve(slot, next);
        (*scratch).sp = cfa;
    }
    Ok(())
}

/// The canonical frame address that a rule gives, and where the caller's frame pointer is saved (0: it was not).
#[inline(always)]
fn frame(scratch: *mut Scratch, rule: Rule, sp: u64, interrupted: bool) -> Result<(u64, u64), WalkEnd> {
    // SAFETY: as above.
    let frame_pointer = unsafe { (*scratch).frame_pointer };
    let words = 8 * rule.cfa();
    let cfa = match rule.kind() {
        Row::SP => sp + words,
        Row::FP => frame_pointer.wrapping_add(words),
        Row::SP_FAR => sp + FAR + words,
        Row::SP_DEREF => window::read(scratch, sp + 8 * (rule.cfa() & 0xff))
            .ok_or(WalkEnd::Unreadable)?
            .wrapping_add(8 * (rule.cfa() >> 8)),
        Row::FP_DEREF => {
            let offset = i64::from(rule.cfa() as u16 as i16);
            window::read(scratch, frame_pointer.wrapping_add_signed(offset)).ok_or(WalkEnd::Unreadable)?
        }
        Row::NO_FDE => {
            if !fp::plausible(frame_pointer, sp) {
                return Err(WalkEnd::NoUnwindInfo);
            }
            return Ok((frame_pointer + 16, frame_pointer));
        }
        // Code that was interrupted may have no row of its own, and then comes after that of the first frame.
        Row::END if interrupted => return Err(WalkEnd::NoUnwindInfo),
        Row::END => return Err(WalkEnd::Complete),
        _ => return Err(WalkEnd::Unsupported),
    };
    let saved = match rule.fp() {
        same if same == u64::from(Row::SAME) => 0,
        fp if fp == u64::from(Row::AT_FP) => frame_pointer,
        words => cfa.wrapping_sub(8 * words),
    };
    Ok((cfa, saved))
}

/// The frame that a signal interrupted. It may run on another stack.
#[inline(always)]
fn signal(scratch: *mut Scratch, context: u64) -> Result<(), WalkEnd> {
    let frame_pointer = window::read(scratch, context + SIGNAL_FP).ok_or(WalkEnd::Unreadable)?;
    let sp = window::read(scratch, context + SIGNAL_SP).ok_or(WalkEnd::Unreadable)?;
    let pc = window::read(scratch, context + SIGNAL_PC).ok_or(WalkEnd::Unreadable)?;
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
