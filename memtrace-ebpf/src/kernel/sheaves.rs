//! Free objects in sheaves (Linux 6.18): arrays of them that a CPU allocates from, or collects for `kfree_rcu`, or that wait
//! in a node's barn. Their slabs count them as in use.
//!
//! An array changes while it is read. That is harmless: an object that was in it is either free or was allocated since,
//! and then its value in the table of live objects has a later time, so the agent does not take it for a phantom. But the
//! array's memory may have been reused: it must belong to the cache before and after.

use memtrace_common::Examination;

use crate::{
    caches::word,
    config,
    cursor::{self, MOST_IN_SHEAF},
};

/// The most full sheaves in a barn: MAX_FULL_SHEAVES is 10.
const FULL: usize = 16;

/// Examines a CPU's sheaves.
///
/// # Safety
/// `state` points to the value of EXAMINATION.
#[inline(always)]
pub(crate) unsafe fn of_cpu(state: *mut Examination) {
    if config::SHEAF_OBJECTS.load() == 0 {
        return;
    }
    // SAFETY: by the contract above.
    unsafe {
        let of_cache = word((*state).cache.wrapping_add(config::CACHE_SHEAVES.load()));
        if of_cache != 0 {
            let here = of_cache.wrapping_add((*state).offset);
            sheaf_walk(state, word(here.wrapping_add(config::SHEAF_MAIN.load())));
            sheaf_walk(state, word(here.wrapping_add(config::SHEAF_SPARE.load())));
            // What was passed to `kfree_rcu`: it stays here until the sheaf is full, however long that takes.
            sheaf_walk(state, word(here.wrapping_add(config::SHEAF_RCU_FREE.load())));
        }
    }
}

/// Examines the barn of the requested node.
///
/// # Safety
/// As for [`of_cpu`].
#[inline(always)]
pub(crate) unsafe fn of_node(state: *mut Examination) {
    // SAFETY: by the contract above.
    unsafe {
        let nodes = (*state).cache.wrapping_add(config::CACHE_NODES.load());
        let mut node = nodes.wrapping_add(config::NODE_STRIDE.load().wrapping_mul((*state).place));
        if config::NODE_POINTER.load() != 0 {
            node = word(node);
        }
        let barn = word(node.wrapping_add(config::NODE_BARN.load()));
        if node == 0 || barn == 0 {
            return;
        }
        let head = barn.wrapping_add(config::BARN_FULL.load());
        (*state).list = head;
        for _ in 0..FULL {
            let link = word((*state).list);
            if link == 0 || link == head {
                break;
            }
            (*state).list = link;
            sheaf_walk(state, link.wrapping_sub(config::SHEAF_LINK.load()));
        }
    }
}

/// Examines a sheaf. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sheaf_walk(state: *mut Examination, sheaf: u64) -> u64 {
    if state.is_null() || sheaf == 0 {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let owner = sheaf.wrapping_add(config::SHEAF_CACHE.load());
        if word(owner) != (*state).cache {
            return 0;
        }
        let before = (*state).phantoms;
        let size = word(sheaf.wrapping_add(config::SHEAF_SIZE.load())) & 0xffff_ffff;
        (*state).next = sheaf.wrapping_add(config::SHEAF_OBJECTS.load());
        for index in 0..MOST_IN_SHEAF {
            if index as u64 >= size {
                break;
            }
            sheaf_step(state);
        }
        if word(owner) != (*state).cache {
            (*state).phantoms = before;
        }
    }
    0
}

/// Takes the next object of a sheaf. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sheaf_step(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let place = (*state).next;
        cursor::note(state, word(place));
        (*state).next = place.wrapping_add(8);
    }
    0
}
