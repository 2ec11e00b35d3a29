//! The cursor of an examination: the request being worked on, and what was found so far. `examine` and `sheaves` share it.

use memtrace_common::{
    Examination, Examined, MOST_FREE, PHANTOMS_AT_ONCE, Phantom, STEPS_AT_ONCE, object_key,
};

use crate::{
    bounded,
    caches::word,
    config, live,
    maps::{EXAMINED, PHANTOMS, REQUESTS},
};

/// The most objects in a sheaf; mm/slub.c gives 60 to caches of small ones.
pub(crate) const MOST_IN_SHEAF: usize = 256;

/// Room that a request may need: a CPU's list, and three sheaves.
const ROOM: u64 = MOST_FREE as u64 + 3 * MOST_IN_SHEAF as u64;

/// The next request; 0 when there is none, no room for what it may find, or no time left.
///
/// # Safety
/// `state` points to the value of EXAMINATION.
#[inline(always)]
pub(crate) unsafe fn request(state: *mut Examination) -> u64 {
    // SAFETY: by the contract above.
    unsafe {
        let done = (*state).done;
        let is_full = (*state).phantoms + ROOM > u64::from(PHANTOMS_AT_ONCE);
        if done >= (*state).requests || is_full || (*state).steps >= STEPS_AT_ONCE {
            return 0;
        }
        (*state).done = done + 1;
        REQUESTS.get(done as u32).copied().unwrap_or(0)
    }
}

/// Reads how a cache links its free objects.
///
/// # Safety
/// `state` points to the value of EXAMINATION.
#[inline(always)]
pub(crate) unsafe fn begin(state: *mut Examination, cache: u64) {
    // SAFETY: by the contract above.
    unsafe {
        (*state).cache = cache;
        (*state).link = word(cache.wrapping_add(config::CACHE_LINK.load())) & 0xffff_ffff;
        (*state).random = match config::CACHE_RANDOM.load() {
            0 => 0,
            offset => word(cache.wrapping_add(offset)),
        };
    }
}

/// Writes the result of a request.
///
/// # Safety
/// `state` points to the value of EXAMINATION.
#[inline(always)]
pub(crate) unsafe fn end(state: *mut Examination, is_whole: bool) {
    // SAFETY: by the contract above; `place` points to a value of EXAMINED.
    unsafe {
        // Sheaves that cannot be examined.
        let is_stocked = config::CACHE_SHEAVES.load() != 0
            && config::SHEAF_OBJECTS.load() == 0
            && word((*state).cache.wrapping_add(config::CACHE_SHEAVES.load())) != 0;
        let written = (*state).examined;
        if let Some(place) = EXAMINED.get_ptr_mut(written as u32) {
            (*place).start = (*state).start;
            (*place).end = (*state).end;
            (*place).cache = (*state).cache;
            (*place).state =
                if is_whole { Examined::WHOLE } else { 0 } | if is_stocked { Examined::STOCKED } else { 0 };
            (*state).examined = written + 1;
        }
    }
}

/// Notes a free object if it is tracked.
///
/// # Safety
/// `state` points to the value of EXAMINATION.
#[inline(always)]
pub(crate) unsafe fn note(state: *mut Examination, object: u64) {
    let key = object_key(object, false);
    let value = live::peek(key);
    // SAFETY: by the contract above; `place` points to a value of PHANTOMS.
    unsafe {
        (*state).steps += 1;
        let found = bounded((*state).phantoms);
        if value != 0
            && let Some(place) = PHANTOMS.get_ptr_mut(found as u32)
        {
            *place = Phantom { key, value };
            (*state).phantoms = found + 1;
        }
    }
}
