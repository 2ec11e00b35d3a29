//! Recognising a stack without walking it.
//!
//! A walk by the kernel's unwinder costs more than everything else together. The same code path leaves its return
//! addresses at the same distances from the program's arguments on the stack. So after a walk the stack is read to its
//! end, and every place that holds one of the walk's return addresses is remembered. If all of these places hold the same
//! values again, after the same call, it is the same stack: the unwinder finds each frame's place from the previous one's,
//! and the right place is among those that were compared.
//!
//! The other places hold stale values that were not overwritten. If one of them differs, the stack is walked again. If that
//! finds a known stack, only the places that held its addresses each time are kept; the right ones are among them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use memtrace_common::{STACK_TABLE_FULL, mix};

use crate::{
    bounded, config,
    maps::MEMO,
    stacks,
    types::{Entry, PLACES, Scratch, Set},
    walk::step,
};

/// Stacks are aligned to this, in bytes. If they are larger, some are not recognised.
const STACK: u64 = 16 << 10;

/// The most frames of a remembered stack.
const FRAMES: u64 = 40;

#[inline(always)]
fn key(scratch: *mut Scratch) -> u64 {
    // SAFETY: `scratch` was claimed.
    unsafe { mix((*scratch).origin.seed ^ (*scratch).origin.call_site) }
}

#[inline(always)]
fn set(key: u64) -> Option<*mut Set> {
    MEMO.get_ptr_mut((key >> 40) as u32 & (Set::COUNT - 1))
}

/// Reads `words` words of the stack.
#[inline(always)]
fn read(context: *mut c_void, scratch: *mut Scratch, words: u64) -> bool {
    let words = bounded(words);
    if words == 0 || words > Scratch::WINDOW_WORDS as u64 {
        return false;
    }
    // SAFETY: the window holds so many words; the helper checks the address.
    unsafe {
        (*scratch).length = words;
        bpf_probe_read_kernel((&raw mut (*scratch).window).cast(), (words * 8) as u32, context) == 0
    }
}

/// The slot of the current stack, if it is remembered.
#[inline(always)]
pub(crate) fn find(context: *mut c_void, scratch: *mut Scratch) -> u32 {
    // SAFETY: `scratch` was claimed; `set` points to a value of MEMO.
    unsafe {
        if config::WITH_MEMO.load() == 0 || (*scratch).origin.call_site == 0 {
            return STACK_TABLE_FULL;
        }
        let key = key(scratch);
        let Some(set) = set(key) else { return STACK_TABLE_FULL };
        if !read(context, scratch, (*set).reach.min(words_above(context, scratch))) {
            return STACK_TABLE_FULL;
        }
        for way in 0..Set::WAYS {
            let entry = &raw mut (*set).entries[way];
            if (*entry).key == key && memo_is(scratch, entry) != 0 {
                if (*set).efforts != 0 {
                    (*set).efforts = 0;
                }
                return (*entry).slot;
            }
        }
    }
    STACK_TABLE_FULL
}

/// Whether the stack in the window is that of an entry. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_is(scratch: *mut Scratch, entry: *mut Entry) -> u64 {
    if scratch.is_null() || entry.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows their sizes.
    unsafe {
        let length = u64::from((*entry).length);
        let mut check = (*scratch).origin.seed;
        for index in 0..PLACES {
            if index as u64 >= length {
                break;
            }
            let place = u64::from((*entry).places[index]);
            match word(scratch, place) {
                Some(word) => check = step(check, word),
                None => return 0,
            }
        }
        u64::from(length != 0 && check == (*entry).check && stacks::is((*entry).slot, (*entry).hash))
    }
}

/// A word of the window.
///
/// # Safety
/// `scratch` was claimed.
#[inline(always)]
unsafe fn word(scratch: *mut Scratch, place: u64) -> Option<u64> {
    let place = bounded(place);
    // SAFETY: by the contract above; the index is bounded.
    unsafe {
        (place < (*scratch).length && place < Scratch::WINDOW_WORDS as u64)
            .then(|| (*scratch).window[place as usize])
    }
}

/// Words of the stack from the arguments to its end.
#[inline(always)]
fn words_above(context: *mut c_void, scratch: *mut Scratch) -> u64 {
    // SAFETY: `scratch` was claimed. Through memory, since the verifier allows no arithmetic with the pointer itself.
    let address = unsafe {
        let base = &raw mut (*scratch).base;
        base.write_volatile(context as u64);
        base.read_volatile()
    };
    (STACK - (address & (STACK - 1))) / 8
}

/// Remembers the stack that was walked just now.
#[inline(always)]
pub(crate) fn learn(context: *mut c_void, scratch: *mut Scratch, slot: u32) {
    // SAFETY: `scratch` was claimed; `set` points to a value of MEMO.
    unsafe {
        if config::WITH_MEMO.load() == 0 || (*scratch).origin.call_site == 0 || !stacks::has_frames(slot) {
            return;
        }
        let Some(set) = set(key(scratch)) else { return };
        (*set).misses += 1;
        let rarely = (*set).efforts.saturating_sub(Set::EFFORTS).min(Set::RAREST);
        if (*set).misses & ((1 << rarely) - 1) != 0 {
            return;
        }
        (*set).efforts += 1;
        // Read to the end of the stack, or not at all: what is further out is never compared.
        if read(context, scratch, words_above(context, scratch)) {
            memo_learn(scratch, slot);
        }
    }
}

/// The bit for an address in a set of addresses that answers "no" with certainty, or "maybe".
#[inline(always)]
fn bit(pc: u64) -> u64 {
    1 << (mix(pc) >> 58)
}

/// Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_learn(scratch: *mut Scratch, slot: u32) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are bounded right before their use.
    unsafe {
        // The arguments name the first frame; the outermost is not part of a stack's identity.
        let first = u64::from((*scratch).event.own) + 1;
        let end = u64::from((*scratch).event.frames).wrapping_sub(1);
        if first > end || end - first > FRAMES {
            return 0;
        }
        let mut maybe = 0;
        for index in 0..FRAMES {
            let place = bounded(first + index);
            if place >= end || place >= (*scratch).event.pcs.len() as u64 {
                break;
            }
            maybe |= bit((*scratch).event.pcs[place as usize]);
        }
        (*scratch).maybe = maybe;
        (*scratch).next = first;
        (*scratch).found = 0;
        for place in 0..Scratch::WINDOW_WORDS {
            memo_look(scratch, place as u64);
        }
        // Every frame is in the window, in order: none is on another stack.
        if (&raw const (*scratch).next).read_volatile() != end {
            return 0;
        }
        memo_store(scratch, slot)
    }
}

/// Takes a place if it holds a return address of the stack. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_look(scratch: *mut Scratch, place: u64) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are bounded right before their use.
    unsafe {
        let Some(word) = word(scratch, place) else { return 0 };
        if (*scratch).maybe & bit(word) == 0 {
            return 0;
        }
        let (first, end) =
            (u64::from((*scratch).event.own) + 1, u64::from((*scratch).event.frames).wrapping_sub(1));
        for index in 0..FRAMES {
            let frame = bounded(first + index);
            if frame >= end || frame >= (*scratch).event.pcs.len() as u64 {
                break;
            }
            if (*scratch).event.pcs[frame as usize] == word {
                take(scratch, place, frame);
                if frame == (*scratch).next {
                    (*scratch).next = frame + 1;
                    break;
                }
            }
        }
    }
    0
}

/// Adds a place to the list; those that do not fit are only counted.
///
/// # Safety
/// `scratch` was claimed.
#[inline(always)]
unsafe fn take(scratch: *mut Scratch, place: u64, frame: u64) {
    // SAFETY: by the contract above; the index is bounded.
    unsafe {
        let found = bounded((*scratch).found);
        if found < PLACES as u64 {
            (*scratch).places[found as usize] = place as u16;
            (*scratch).holds[found as usize] = frame as u8;
        }
        (*scratch).found = found + 1;
    }
}

/// Writes the stack's entry: the one it has, or the oldest of the set. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_store(scratch: *mut Scratch, slot: u32) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; `set` points to a value of MEMO, indices are bounded.
    unsafe {
        let key = key(scratch);
        let Some(set) = set(key) else { return 0 };
        let mut way = u64::MAX;
        for index in 0..Set::WAYS {
            let entry = &raw mut (*set).entries[index];
            if (*entry).key == key && (*entry).hash == (*scratch).event.hash && (*entry).length != 0 {
                way = index as u64;
                (*scratch).found = 0;
                for place in 0..PLACES {
                    memo_keep(scratch, entry, place as u64);
                }
                break;
            }
        }
        if way == u64::MAX {
            way = (*set).next;
            (*set).next = way + 1;
        }
        let found = (&raw const (*scratch).found).read_volatile();
        // More than can be compared: the stack cannot be recognised.
        if found > PLACES as u64 {
            return 0;
        }
        (*scratch).last = 0;
        (*scratch).check = (*scratch).origin.seed;
        for index in 0..PLACES {
            memo_check(scratch, index as u64);
        }
        let entry = &raw mut (*set).entries[bounded(way) as usize & (Set::WAYS - 1)];
        (*entry).key = 0;
        (*entry).places = (*scratch).places;
        (*entry).holds = (*scratch).holds;
        (*entry).check = (&raw const (*scratch).check).read_volatile();
        (*entry).hash = (*scratch).event.hash;
        (*entry).slot = slot;
        (*entry).length = found as u16;
        (*entry).reach = (&raw const (*scratch).last).read_volatile() as u16 + 1;
        (*entry).key = key;
        let mut reach = 0;
        for index in 0..Set::WAYS {
            reach = reach.max((*set).entries[index].reach);
        }
        (*set).reach = u64::from(reach);
    }
    1
}

/// Keeps one of an entry's places if it holds the same frame's address again. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_keep(scratch: *mut Scratch, entry: *mut Entry, index: u64) -> u64 {
    if scratch.is_null() || entry.is_null() || index >= PLACES as u64 {
        return 0;
    }
    // SAFETY: not null, and the verifier knows their sizes; indices are bounded right before their use.
    unsafe {
        if index >= u64::from((*entry).length) {
            return 0;
        }
        let (place, frame) =
            (u64::from((*entry).places[index as usize]), u64::from((*entry).holds[index as usize]));
        let at = bounded(frame);
        if at < (*scratch).event.pcs.len() as u64
            && word(scratch, place) == Some((*scratch).event.pcs[at as usize])
        {
            take(scratch, place, frame);
        }
    }
    0
}

/// Adds what a place in the list holds to the hash. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_check(scratch: *mut Scratch, index: u64) -> u64 {
    if scratch.is_null() || index >= PLACES as u64 {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are bounded right before their use.
    unsafe {
        if index < (*scratch).found {
            let place = u64::from((*scratch).places[index as usize]);
            if let Some(word) = word(scratch, place) {
                (*scratch).check = step((*scratch).check, word);
                (*scratch).last = (*scratch).last.max(place);
            }
        }
    }
    0
}
