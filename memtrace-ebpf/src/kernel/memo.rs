//! Recognising a stack without walking it.
//!
//! A walk by the kernel's unwinder costs more than everything else together. The same code path leaves its return
//! addresses at the same distances from where the program's arguments lie on the stack, so those distances are
//! remembered: the stack is read in one piece, and what lies at the distances is hashed as a walk would hash it. Where
//! the hash is that of the stack they were learnt from, it is that stack.
//!
//! Distances are learnt only where there is one way to find the walk's return addresses, in their order, in that piece
//! of stack. Were there two, one would be of old values that nobody has overwritten yet.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use memtrace_common::{STACK_TABLE_FULL, mix};

use crate::{
    bounded, config,
    maps::MEMO,
    stacks,
    walk::{Scratch, step},
};

/// Frames that a remembered stack has at most.
const FRAMES: usize = 40;

/// A remembered stack. When it is read and written at once (an interrupt came between), its hash does not fit what is
/// found.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// Of what was allocated where.
    key: u64,
    /// The stack's hash.
    hash: u64,
    /// Its slot.
    slot: u32,
    /// Number of frames.
    frames: u32,
    /// Where their return addresses lie, in words from the arguments.
    places: [u16; FRAMES],
}

/// Stacks of the same keys.
#[repr(C)]
pub(crate) struct Set {
    /// Words to read for the one that reaches furthest.
    reach: u64,
    /// The entry that is replaced next.
    next: u64,
    entries: [Entry; Set::WAYS],
}

impl Set {
    /// How many sets there are: 100 KiB per CPU.
    pub(crate) const COUNT: u32 = 256;
    const WAYS: usize = 4;
}

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
        if !read(context, scratch, (*set).reach) {
            return STACK_TABLE_FULL;
        }
        for way in 0..Set::WAYS {
            let entry = &raw mut (*set).entries[way];
            if (*entry).key == key && memo_is(scratch, entry) != 0 {
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
    // SAFETY: not null, and the verifier knows their sizes; indices are bounded right before their use.
    unsafe {
        let frames = u64::from((*entry).frames);
        let words = (*scratch).length;
        let mut hash = (*scratch).origin.seed;
        for index in 0..FRAMES {
            if index as u64 >= frames {
                break;
            }
            let place = bounded(u64::from((*entry).places[index]));
            if place >= words || place >= Scratch::WINDOW_WORDS as u64 {
                return 0;
            }
            hash = step(hash, (*scratch).window[place as usize]);
        }
        u64::from(frames != 0 && hash == (*entry).hash && stacks::is((*entry).slot, hash))
    }
}

/// Remembers the stack that was walked just now, if it can be recognised for certain.
#[inline(always)]
pub(crate) fn learn(context: *mut c_void, scratch: *mut Scratch, slot: u32) {
    // SAFETY: `scratch` was claimed.
    unsafe {
        if config::WITH_MEMO.load() == 0 || (*scratch).origin.call_site == 0 || slot == STACK_TABLE_FULL {
            return;
        }
    }
    // Stacks are of two pages or more, and there may be less than the window above: as much as there is.
    if !read(context, scratch, 512) && !read(context, scratch, 256) && !read(context, scratch, 128) {
        return;
    }
    memo_learn(scratch, slot);
}

/// Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_learn(scratch: *mut Scratch, slot: u32) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; `set` points to a value of MEMO.
    unsafe {
        let (own, frames) = (u64::from((*scratch).event.own), u64::from((*scratch).event.frames));
        // Without the outermost.
        let wanted = frames.wrapping_sub(own).wrapping_sub(1);
        if wanted == 0 || wanted > FRAMES as u64 {
            return 0;
        }
        (*scratch).found = 0;
        for word in 0..Scratch::WINDOW_WORDS {
            memo_forward(scratch, word as u64, own, wanted);
        }
        if (*scratch).found != wanted {
            return 0;
        }
        for word in 0..Scratch::WINDOW_WORDS {
            memo_backward(scratch, (Scratch::WINDOW_WORDS - 1 - word) as u64, own);
        }
        // Backwards, each was found where it had been found forwards, and all were.
        if (*scratch).found != 0 {
            return 0;
        }
        store(scratch, slot, wanted as u32);
    }
    0
}

/// Takes a word if it is the next frame's. Global function: verified once, not for each word.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_forward(scratch: *mut Scratch, word: u64, own: u64, wanted: u64) -> u64 {
    if scratch.is_null() || word >= Scratch::WINDOW_WORDS as u64 {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are bounded right before their use.
    unsafe {
        let found = bounded((*scratch).found);
        if found >= wanted || found >= FRAMES as u64 || word >= (*scratch).length {
            return 0;
        }
        let frame = bounded(own + found);
        if frame < (*scratch).event.pcs.len() as u64
            && (*scratch).window[word as usize] == (*scratch).event.pcs[frame as usize]
        {
            (*scratch).places[found as usize] = word as u16;
            (*scratch).found = found + 1;
        }
    }
    0
}

/// Frames left to find when one lies at two places: more than there can be, so none is looked for any more.
const AMBIGUOUS: u64 = 1 << 32;

/// The same from the other end; gives up at a frame that lies at two places.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn memo_backward(scratch: *mut Scratch, word: u64, own: u64) -> u64 {
    if scratch.is_null() || word >= Scratch::WINDOW_WORDS as u64 {
        return 0;
    }
    // SAFETY: as above.
    unsafe {
        let left = (*scratch).found;
        if left == 0 || word >= (*scratch).length {
            return 0;
        }
        let found = bounded(left - 1);
        let frame = bounded(own + found);
        if found < FRAMES as u64
            && frame < (*scratch).event.pcs.len() as u64
            && (*scratch).window[word as usize] == (*scratch).event.pcs[frame as usize]
        {
            let same = u64::from((*scratch).places[found as usize]) == word;
            (*scratch).found = if same { found } else { AMBIGUOUS };
        }
    }
    0
}

/// Writes an entry in place of the oldest of its set.
///
/// # Safety
/// `scratch` was claimed.
#[inline(always)]
unsafe fn store(scratch: *mut Scratch, slot: u32, frames: u32) {
    // SAFETY: by the contract above; `set` points to a value of MEMO, indices are bounded.
    unsafe {
        let key = key(scratch);
        let Some(set) = set(key) else { return };
        let way = (*set).next & (Set::WAYS as u64 - 1);
        (*set).next = way + 1;
        let entry = &raw mut (*set).entries[bounded(way) as usize & (Set::WAYS - 1)];
        (*entry).key = 0;
        (*entry).places.copy_from_slice(&(&(*scratch).places)[..FRAMES]);
        (*entry).hash = (*scratch).event.hash;
        (*entry).slot = slot;
        (*entry).frames = frames;
        let last = bounded(u64::from(frames) - 1);
        if last < FRAMES as u64 {
            let reach = u64::from((*scratch).places[last as usize]) + 1;
            if reach > (*set).reach {
                (*set).reach = reach;
            }
        }
        (*entry).key = key;
    }
}
